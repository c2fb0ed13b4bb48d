"""The same as `glassgrad.autograd.checkpoint`."""

from glassgrad.autograd.checkpoint import checkpoint, checkpoint_sequential

__all__ = ["checkpoint", "checkpoint_sequential"]
