"""Layers that move elements: Flatten, Unflatten, padding, upsampling, pixel shuffles; and distances."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from glassgrad.nn import functional as F
from glassgrad.nn._wrap import FunctionLayer
from glassgrad.nn.module import Module

if TYPE_CHECKING:
    from glassgrad.tensor import Tensor

__all__ = [
    "ChannelShuffle", "CircularPad1d", "CircularPad2d", "CircularPad3d", "ConstantPad1d", "ConstantPad2d",
    "ConstantPad3d", "CosineSimilarity", "Flatten", "PairwiseDistance", "PixelShuffle", "PixelUnshuffle",
    "ReflectionPad1d", "ReflectionPad2d", "ReflectionPad3d", "ReplicationPad1d", "ReplicationPad2d",
    "ReplicationPad3d", "Unflatten", "Upsample", "UpsamplingBilinear2d", "UpsamplingNearest2d", "ZeroPad1d",
    "ZeroPad2d", "ZeroPad3d",
]  # fmt: skip


class Flatten(Module):
    """Joins the axes start_dim to end_dim into one.

    >>> gg.nn.Flatten()(gg.zeros(2, 3, 4)).shape
    (2, 12)
    """

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        super().__init__()
        self.start_dim, self.end_dim = start_dim, end_dim

    def forward(self, input: Tensor) -> Tensor:
        return input.flatten(self.start_dim, self.end_dim)

    def extra_repr(self) -> str:
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"


class Unflatten(Module):
    """Splits the axis dim into axes of unflattened_size.

    >>> gg.nn.Unflatten(1, (3, 4))(gg.zeros(2, 12)).shape
    (2, 3, 4)
    """

    def __init__(self, dim: int, unflattened_size: Any) -> None:
        super().__init__()
        self.dim, self.unflattened_size = dim, unflattened_size

    def forward(self, input: Tensor) -> Tensor:
        return input.unflatten(self.dim, self.unflattened_size)

    def extra_repr(self) -> str:
        return f"dim={self.dim}, unflattened_size={self.unflattened_size}"


class _Pad(Module):
    """Pads the last `dims` axes; an int pads all sides alike, a tuple lists the last axis first."""

    dims: int
    mode: str

    def __init__(self, padding: Any) -> None:
        super().__init__()
        sides = (padding,) * (2 * self.dims) if isinstance(padding, int) else tuple(padding)
        if len(sides) != 2 * self.dims:
            raise ValueError(f"{type(self).__name__}: padding {sides} must have {2 * self.dims} entries")
        self.padding = sides

    def forward(self, input: Tensor) -> Tensor:
        return F.pad(input, self.padding, mode=self.mode)

    def extra_repr(self) -> str:
        return f"{self.padding}"


class _ConstantPad(_Pad):
    mode = "constant"

    def __init__(self, padding: Any, value: float) -> None:
        super().__init__(padding)
        self.value = value

    def forward(self, input: Tensor) -> Tensor:
        return F.pad(input, self.padding, mode="constant", value=self.value)

    def extra_repr(self) -> str:
        return f"padding={self.padding}, value={self.value}"


class ReflectionPad1d(_Pad):
    """Pads the last axis with the input mirrored at the border.

    >>> gg.nn.ReflectionPad1d(1)(gg.zeros(1, 2, 4)).shape
    (1, 2, 6)
    """

    dims = 1
    mode = "reflect"


class ReflectionPad2d(_Pad):
    """Pads the last two axes with the input mirrored at the border.

    >>> gg.nn.ReflectionPad2d(1)(gg.zeros(1, 2, 4, 4)).shape
    (1, 2, 6, 6)
    """

    dims = 2
    mode = "reflect"


class ReflectionPad3d(_Pad):
    """Pads the last three axes with the input mirrored at the border.

    >>> gg.nn.ReflectionPad3d(1)(gg.zeros(1, 2, 4, 4, 4)).shape
    (1, 2, 6, 6, 6)
    """

    dims = 3
    mode = "reflect"


class ReplicationPad1d(_Pad):
    """Pads the last axis with the input repeating the border.

    >>> gg.nn.ReplicationPad1d(1)(gg.zeros(1, 2, 4)).shape
    (1, 2, 6)
    """

    dims = 1
    mode = "replicate"


class ReplicationPad2d(_Pad):
    """Pads the last two axes with the input repeating the border.

    >>> gg.nn.ReplicationPad2d(1)(gg.zeros(1, 2, 4, 4)).shape
    (1, 2, 6, 6)
    """

    dims = 2
    mode = "replicate"


class ReplicationPad3d(_Pad):
    """Pads the last three axes with the input repeating the border.

    >>> gg.nn.ReplicationPad3d(1)(gg.zeros(1, 2, 4, 4, 4)).shape
    (1, 2, 6, 6, 6)
    """

    dims = 3
    mode = "replicate"


class CircularPad1d(_Pad):
    """Pads the last axis with the input wrapped around.

    >>> gg.nn.CircularPad1d(1)(gg.zeros(1, 2, 4)).shape
    (1, 2, 6)
    """

    dims = 1
    mode = "circular"


class CircularPad2d(_Pad):
    """Pads the last two axes with the input wrapped around.

    >>> gg.nn.CircularPad2d(1)(gg.zeros(1, 2, 4, 4)).shape
    (1, 2, 6, 6)
    """

    dims = 2
    mode = "circular"


class CircularPad3d(_Pad):
    """Pads the last three axes with the input wrapped around.

    >>> gg.nn.CircularPad3d(1)(gg.zeros(1, 2, 4, 4, 4)).shape
    (1, 2, 6, 6, 6)
    """

    dims = 3
    mode = "circular"


class ConstantPad1d(_ConstantPad):
    """Pads the last axis with a value.

    >>> gg.nn.ConstantPad1d(1, 2.0)(gg.zeros(1, 2, 4)).shape
    (1, 2, 6)
    """

    dims = 1


class ZeroPad1d(_ConstantPad):
    """Pads the last axis with zeros.

    >>> gg.nn.ZeroPad1d(1)(gg.zeros(1, 2, 4)).shape
    (1, 2, 6)
    """

    dims = 1

    def __init__(self, padding: Any) -> None:
        super().__init__(padding, 0.0)

    def extra_repr(self) -> str:
        return f"{self.padding}"


class ConstantPad2d(_ConstantPad):
    """Pads the last two axes with a value.

    >>> gg.nn.ConstantPad2d(1, 2.0)(gg.zeros(1, 2, 4, 4)).shape
    (1, 2, 6, 6)
    """

    dims = 2


class ZeroPad2d(_ConstantPad):
    """Pads the last two axes with zeros.

    >>> gg.nn.ZeroPad2d(1)(gg.zeros(1, 2, 4, 4)).shape
    (1, 2, 6, 6)
    """

    dims = 2

    def __init__(self, padding: Any) -> None:
        super().__init__(padding, 0.0)

    def extra_repr(self) -> str:
        return f"{self.padding}"


class ConstantPad3d(_ConstantPad):
    """Pads the last three axes with a value.

    >>> gg.nn.ConstantPad3d(1, 2.0)(gg.zeros(1, 2, 4, 4, 4)).shape
    (1, 2, 6, 6, 6)
    """

    dims = 3


class ZeroPad3d(_ConstantPad):
    """Pads the last three axes with zeros.

    >>> gg.nn.ZeroPad3d(1)(gg.zeros(1, 2, 4, 4, 4)).shape
    (1, 2, 6, 6, 6)
    """

    dims = 3

    def __init__(self, padding: Any) -> None:
        super().__init__(padding, 0.0)

    def extra_repr(self) -> str:
        return f"{self.padding}"


class Upsample(Module):
    """Resizes (N, C, ...) to a size or by a factor; mode nearest, linear, bilinear, bicubic or trilinear.

    >>> gg.nn.Upsample(scale_factor=2)(gg.zeros(1, 1, 2, 2)).shape
    (1, 1, 4, 4)
    """

    def __init__(
        self,
        size: Any = None,
        scale_factor: Any = None,
        mode: str = "nearest",
        align_corners: bool | None = None,
        recompute_scale_factor: bool | None = None,
    ) -> None:
        super().__init__()
        self.size, self.scale_factor, self.mode = size, scale_factor, mode
        self.align_corners, self.recompute_scale_factor = align_corners, recompute_scale_factor

    def forward(self, input: Tensor) -> Tensor:
        return F.interpolate(
            input, self.size, self.scale_factor, self.mode, self.align_corners, self.recompute_scale_factor
        )

    def extra_repr(self) -> str:
        by = f"size={self.size}" if self.scale_factor is None else f"scale_factor={self.scale_factor}"
        return f"{by}, mode={self.mode!r}"


class UpsamplingNearest2d(Upsample):
    """Resizes (N, C, H, W) by the nearest neighbour.

    >>> gg.nn.UpsamplingNearest2d(scale_factor=2)(gg.zeros(1, 1, 2, 2)).shape
    (1, 1, 4, 4)
    """

    def __init__(self, size: Any = None, scale_factor: Any = None) -> None:
        super().__init__(size, scale_factor, "nearest")


class UpsamplingBilinear2d(Upsample):
    """Resizes (N, C, H, W) bilinearly with aligned corners.

    >>> gg.nn.UpsamplingBilinear2d(scale_factor=2)(gg.zeros(1, 1, 2, 2)).shape
    (1, 1, 4, 4)
    """

    def __init__(self, size: Any = None, scale_factor: Any = None) -> None:
        super().__init__(size, scale_factor, "bilinear", True)


class PixelShuffle(Module):
    """(N, C r², H, W) to (N, C, H r, W r) (Shi et al. 2016).

    >>> gg.nn.PixelShuffle(2)(gg.zeros(1, 4, 3, 3)).shape
    (1, 1, 6, 6)
    """

    def __init__(self, upscale_factor: int) -> None:
        super().__init__()
        self.upscale_factor = upscale_factor

    def forward(self, input: Tensor) -> Tensor:
        return F.pixel_shuffle(input, self.upscale_factor)

    def extra_repr(self) -> str:
        return f"upscale_factor={self.upscale_factor}"


class PixelUnshuffle(Module):
    """(N, C, H r, W r) to (N, C r², H, W).

    >>> gg.nn.PixelUnshuffle(2)(gg.zeros(1, 1, 6, 6)).shape
    (1, 4, 3, 3)
    """

    def __init__(self, downscale_factor: int) -> None:
        super().__init__()
        self.downscale_factor = downscale_factor

    def forward(self, input: Tensor) -> Tensor:
        return F.pixel_unshuffle(input, self.downscale_factor)

    def extra_repr(self) -> str:
        return f"downscale_factor={self.downscale_factor}"


class ChannelShuffle(Module):
    """Interleaves groups of channels (Zhang et al. 2017).

    >>> gg.nn.ChannelShuffle(2)(gg.arange(4.0).reshape(1, 4, 1, 1)).flatten().tolist()
    [0.0, 2.0, 1.0, 3.0]
    """

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, input: Tensor) -> Tensor:
        return F.channel_shuffle(input, self.groups)

    def extra_repr(self) -> str:
        return f"groups={self.groups}"


class CosineSimilarity(FunctionLayer):
    """x1·x2 / max(|x1| |x2|, eps) along dim.

    >>> gg.nn.CosineSimilarity(dim=0)(gg.ones(2), gg.ones(2))
    tensor(1.0000)
    """

    function = staticmethod(F.cosine_similarity)

    def __init__(self, dim: int = 1, eps: float = 1e-8) -> None:
        super().__init__(dim=dim, eps=eps)


class PairwiseDistance(FunctionLayer):
    """The p-norm of x1 - x2 + eps along the last axis.

    >>> gg.nn.PairwiseDistance()(gg.zeros(1, 2), gg.ones(1, 2))
    tensor([1.4142])
    """

    function = staticmethod(F.pairwise_distance)

    def __init__(self, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> None:
        super().__init__(p=p, eps=eps, keepdim=keepdim)
