"""The op families: one module each, every op's gradient rule under its forward rule."""

from glassgrad.ops import creation, layout

__all__ = ["creation", "layout"]
