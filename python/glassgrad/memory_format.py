"""The orders in which a tensor's elements may lie: an argument of `clone`, `contiguous`, `to` and the dtype methods.

channels_last changes strides only: a tensor (N, C, H, W) keeps its shape, and lies in memory as (N, H, W, C).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from glassgrad.tensor import Tensor

__all__ = ["channels_last", "channels_last_3d", "contiguous_format", "memory_format", "preserve_format", "strided"]


class memory_format:
    """An order of elements in memory.

    >>> gg.channels_last
    glassgrad.channels_last
    """

    __slots__ = ("name", "ndim")

    def __init__(self, name: str, ndim: int | None = None) -> None:
        self.name, self.ndim = name, ndim

    def __repr__(self) -> str:
        return f"glassgrad.{self.name}"

    def __reduce__(self) -> str:
        return self.name


contiguous_format = memory_format("contiguous_format")
preserve_format = memory_format("preserve_format")
channels_last = memory_format("channels_last", 4)
channels_last_3d = memory_format("channels_last_3d", 5)
strided = "strided"  # the layout of every tensor here: code written for PyTorch may name it


def arranged(x: Tensor, wanted: Any, op: str) -> Tensor:
    """x, lying in memory as wanted; copied only where it does not already."""
    if wanted is None or wanted is preserve_format:
        return x
    if not isinstance(wanted, memory_format):
        raise TypeError(f"{op}: memory_format is {wanted!r}; gg.contiguous_format and gg.channels_last are known")
    if wanted.ndim is None:
        return x.contiguous()
    if x.ndim != wanted.ndim:
        raise ValueError(f"{op}: {wanted!r} is for tensors of {wanted.ndim} dimensions, not {tuple(x.shape)} {x.dtype}")
    return x.movedim(1, -1).contiguous().movedim(-1, 1)
