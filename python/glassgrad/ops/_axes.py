"""The axis that a `dim` argument means."""

from __future__ import annotations


def axis_of(op: str, dim: int, ndim: int) -> int:
    """dim as an index from 0; a 0-d tensor has one axis to speak of. Raises IndexError."""
    axes = max(ndim, 1)
    if not -axes <= dim < axes:
        raise IndexError(f"{op}: dim {dim} is out of range for {ndim} axes; it must be in [{-axes}, {axes - 1}]")
    return dim % axes
