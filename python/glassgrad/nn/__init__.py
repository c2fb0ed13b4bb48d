"""Layers, losses and what they are made of."""

from glassgrad.nn import functional

__all__ = ["functional"]
