"""PyTorch's places for the data loader and checkpointing: `glassgrad.utils.data`, `glassgrad.utils.checkpoint`."""

from glassgrad.utils import checkpoint, data

__all__ = ["checkpoint", "data"]
