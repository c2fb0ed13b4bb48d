"""PyTorch's places for the data loader and checkpointing: `glassgrad.utils.data`, `glassgrad.utils.checkpoint`."""
