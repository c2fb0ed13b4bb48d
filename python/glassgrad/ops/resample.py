"""Resampling: interpolate, grid_sample and affine_grid, pixel and channel shuffles.

interpolate is linear in its input, so its backward's backward is itself. grid_sample's fused backward gives first-order
gradients; higher orders run its composite, the same mathematics in ordinary ops.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product
from typing import TYPE_CHECKING, Any

from glassgrad import _core as core
from glassgrad.amp import Casts
from glassgrad.autograd.graph import Op, composite_backward, recording
from glassgrad.ops import pool

if TYPE_CHECKING:
    from glassgrad.tensor import Tensor

__all__ = [
    "affine_grid",
    "channel_shuffle",
    "grid_sample",
    "interpolate",
    "pixel_shuffle",
    "pixel_unshuffle",
    "upsample",
    "upsample_bilinear",
    "upsample_nearest",
]


class Interpolate(Op):
    """y[o] = sum over taps t of weight[t, o] x[index[t, o]], axis by axis."""

    autocast = Casts(gpu="float32")

    def forward(
        self, x: Tensor, size: Sequence[int], mode: str, scales: Sequence[float], align_corners: bool, antialias: bool
    ) -> Tensor:
        self.in_size = x.shape[2:]
        self.size = size
        self.attributes = mode, scales, align_corners, antialias
        return core.interpolate_forward(x, size, *self.attributes)

    # Linear in x: each input collects weight * dy from the outputs it took part in.
    def backward(self, dy: Tensor) -> Tensor:
        return InterpolateBackward.apply(dy, self.in_size, self.size, *self.attributes)


class InterpolateBackward(Op):
    """dx[index[t, o]] += weight[t, o] dy[o]."""

    def forward(self, dy: Tensor, in_size: Sequence[int], size: Sequence[int], *attributes: Any) -> Tensor:
        self.size = size
        self.attributes = attributes
        return core.interpolate_backward(dy, in_size, *attributes)

    # The adjoint of the adjoint.
    def backward(self, ddx: Tensor) -> Tensor:
        return Interpolate.apply(ddx, self.size, *self.attributes)


def _interpolated_sizes(
    input: Tensor, size: Any, scale_factor: Any, recompute_scale_factor: bool | None
) -> tuple[list[int], list[float]]:
    """The result's spatial sizes, and per axis the scale that coordinates use (0: the ratio of the sizes)."""
    nd = input.ndim - 2
    if (size is None) == (scale_factor is None):
        raise ValueError("interpolate: exactly one of size and scale_factor must be given")
    given = size if scale_factor is None else scale_factor
    values = list(given) if isinstance(given, (list, tuple)) else [given] * nd
    if len(values) != nd:
        name = "size" if scale_factor is None else "scale_factor"
        raise ValueError(
            f"interpolate: {name} {tuple(values)} has {len(values)} numbers, input {tuple(input.shape)} needs {nd}"
        )
    if scale_factor is None:
        if recompute_scale_factor:
            raise ValueError("interpolate: recompute_scale_factor needs scale_factor, not size")
        return [int(v) for v in values], [0.0] * nd
    sizes = [math.floor(float(n) * float(s)) for n, s in zip(input.shape[2:], values)]
    return sizes, [0.0] * nd if recompute_scale_factor else [float(s) for s in values]


_LINEAR = {"linear": 3, "bilinear": 4, "bicubic": 4, "trilinear": 5}  # mode: the axes of its input


def interpolate(
    input: Tensor,
    size: int | Sequence[int] | None = None,
    scale_factor: float | Sequence[float] | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Tensor:
    """Resizes signals, images or volumes to `size`, or by `scale_factor`.

    input (N, C, L), (N, C, H, W) or (N, C, D, H, W); result (N, C, *size). Output o reads coordinate (o + 1/2) s - 1/2
    with s = input size / output size, or o s with s = (input size - 1) / (output size - 1) if align_corners. mode:
    'nearest' (floor of o s), 'nearest-exact', 'linear' (3 axes), 'bilinear', 'bicubic' (4; Keys' cubic, a = -3/4),
    'trilinear' (5), 'area' (means). scale_factor is used in place of the sizes' ratio unless recompute_scale_factor.
    antialias (bilinear and bicubic) widens the kernel when shrinking. Raises ValueError or ShapeError where arguments
    do not fit.

    >>> gg.nn.functional.interpolate(gg.tensor([[[1.0, 2.0]]]), scale_factor=2)
    tensor([[[1., 1., 2., 2.]]])
    >>> gg.nn.functional.interpolate(gg.tensor([[[1.0, 3.0]]]), size=3, mode="linear", align_corners=True)
    tensor([[[1., 2., 3.]]])
    """
    if not isinstance(input, core.TensorBase):
        raise TypeError(f"interpolate: input must be a Tensor, not {type(input).__name__}")
    if mode not in ("nearest", "nearest-exact", "area", *_LINEAR):
        raise ValueError(
            f"interpolate: mode '{mode}' is none of 'nearest', 'nearest-exact', 'linear', 'bilinear', 'bicubic', "
            "'trilinear', 'area'"
        )
    shown = f"input {tuple(input.shape)} {input.dtype.name}"
    if input.ndim != _LINEAR.get(mode, input.ndim) or not 3 <= input.ndim <= 5:
        needed = _LINEAR.get(mode, "3, 4 or 5")
        raise core.ShapeError(f"interpolate: {shown} has {input.ndim} axes; mode '{mode}' needs {needed}")
    if align_corners is not None and mode not in _LINEAR:
        raise ValueError(f"interpolate: align_corners has no meaning with mode '{mode}'")
    if antialias and mode not in ("bilinear", "bicubic"):
        raise ValueError(f"interpolate: antialias needs mode 'bilinear' or 'bicubic', not '{mode}'")
    sizes, scales = _interpolated_sizes(input, size, scale_factor, recompute_scale_factor)
    if mode == "area":
        means = (pool.adaptive_avg_pool1d, pool.adaptive_avg_pool2d, pool.adaptive_avg_pool3d)
        return means[input.ndim - 3](input, sizes)
    return Interpolate.apply(input, sizes, mode, scales, bool(align_corners), bool(antialias))


def upsample(
    input: Tensor,
    size: int | Sequence[int] | None = None,
    scale_factor: float | Sequence[float] | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
) -> Tensor:
    """`interpolate` under its old name.

    >>> gg.nn.functional.upsample(gg.tensor([[[1.0, 2.0]]]), scale_factor=2)
    tensor([[[1., 1., 2., 2.]]])
    """
    return interpolate(input, size, scale_factor, mode, align_corners)


def upsample_nearest(
    input: Tensor, size: int | Sequence[int] | None = None, scale_factor: float | Sequence[float] | None = None
) -> Tensor:
    """`interpolate` with mode 'nearest'.

    >>> gg.nn.functional.upsample_nearest(gg.tensor([[[1.0, 2.0]]]), scale_factor=2)
    tensor([[[1., 1., 2., 2.]]])
    """
    return interpolate(input, size, scale_factor, mode="nearest")


def upsample_bilinear(
    input: Tensor, size: int | Sequence[int] | None = None, scale_factor: float | Sequence[float] | None = None
) -> Tensor:
    """`interpolate` with mode 'bilinear' and align_corners.

    >>> gg.nn.functional.upsample_bilinear(gg.tensor([[[[1.0, 3.0]]]]), size=(1, 3))
    tensor([[[[1., 2., 3.]]]])
    """
    return interpolate(input, size, scale_factor, mode="bilinear", align_corners=True)


_MODES = ("bilinear", "nearest", "bicubic")
_PADDINGS = ("zeros", "border", "reflection")


class GridSample(Op):
    """y[n, c, p] = sum over taps of weight(grid[n, p]) x[n, c, place(grid[n, p])]."""

    autocast = Casts(cpu="float32", gpu="widest")

    def forward(self, x: Tensor, grid: Tensor, mode: str, padding_mode: str, align_corners: bool) -> Tensor:
        self.attributes = mode, padding_mode, align_corners
        self.save(x, grid)
        return core.grid_sample_forward(x, grid, _MODES.index(mode), _PADDINGS.index(padding_mode), align_corners)

    # Linear in x: each place collects weight * dy. In grid: the weights' derivatives, times that of the way from
    # [-1, 1] to a place (0 where padding holds the coordinate, negative where it reflects it).
    def backward(self, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, grid = self.saved
        mode, padding_mode, align_corners = self.attributes
        if recording():

            def composite(x: Tensor, grid: Tensor) -> Tensor:
                return _grid_sample_composite(x, grid, mode, padding_mode, align_corners)

            return composite_backward(composite, (x, grid), dy, self.needs)
        return core.grid_sample_backward(
            dy, x, grid, _MODES.index(mode), _PADDINGS.index(padding_mode), align_corners, *self.needs[:2]
        )


def _bring_inside(c: Tensor, size: int, padding_mode: str, align_corners: bool) -> Tensor:
    if padding_mode == "zeros":
        return c
    if padding_mode == "reflection":
        low, high = (0.0, size - 1.0) if align_corners else (-0.5, size - 0.5)
        if low == high:
            return c * 0
        distance = (c - low).abs()
        flips = (distance.detach() / (high - low)).floor()
        extra = distance - flips * (high - low)
        c = (high - extra).where(flips.remainder(2) == 1, low + extra)
    return c.clamp(0, size - 1)


def _axis_taps(g: Tensor, size: int, mode: str, padding_mode: str, align_corners: bool) -> list[tuple[Tensor, Any]]:
    """(place, weight) of each tap along one axis; places are floats without a graph."""
    c = (g + 1) / 2 * (size - 1) if align_corners else ((g + 1) * size - 1) / 2
    if mode == "bicubic":
        a, low = -0.75, c.detach().floor()
        f = c - low

        def near(x: Tensor) -> Tensor:
            return ((a + 2) * x - (a + 3)) * x * x + 1

        def far(x: Tensor) -> Tensor:
            return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a

        weights = (far(f + 1), near(f), near(1 - f), far(2 - f))
        return [(_bring_inside(low + (i - 1), size, padding_mode, align_corners), w) for i, w in enumerate(weights)]
    c = _bring_inside(c, size, padding_mode, align_corners)
    if mode == "nearest":
        return [(c.detach().round(), 1.0)]
    low = c.detach().floor()
    return [(low, low + 1 - c), (low + 1, c - low)]


def _grid_sample_composite(x: Tensor, grid: Tensor, mode: str, padding_mode: str, align_corners: bool) -> Tensor:
    n, channels, *size = x.shape
    nd = len(size)
    points = grid.shape[1:-1]
    g = grid.reshape(n, math.prod(points), nd)
    flat = x.reshape(n, channels, math.prod(size))
    axes = [_axis_taps(g[..., nd - 1 - i], size[i], mode, padding_mode, align_corners) for i in range(nd)]
    y: Any = 0.0
    for taps in product(*axes):
        place: Any = 0
        weight: Any = 1.0
        for (at, w), length in zip(taps, size):
            inside = (at >= 0) & (at < length)
            place = place * length + at.clamp(0, length - 1).long()
            weight = weight * w * inside.to(x.dtype)
        values = flat.gather(2, place.unsqueeze(1).expand(n, channels, place.shape[1]))
        y = y + values * weight.unsqueeze(1)
    return y.reshape(n, channels, *points)


def grid_sample(
    input: Tensor,
    grid: Tensor,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: bool | None = None,
) -> Tensor:
    """Reads images or volumes at the places of a grid: y[n, c, p] = input[n, c] at grid[n, p].

    input (N, C, H, W) and grid (N, ..., ..., 2), or (N, C, D, H, W) and (N, ..., ..., ..., 3). Coordinates are
    (x, y[, z]) with -1 and 1 at the ends of the axis: its outer edges, or the centres of its outer pixels if
    align_corners. mode: 'bilinear', 'nearest', 'bicubic' (images). padding_mode says what is outside: 'zeros', 'border'
    (the nearest pixel) or 'reflection'. Raises ValueError or ShapeError where arguments do not fit.

    >>> x = gg.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    >>> gg.nn.functional.grid_sample(x, gg.zeros(1, 1, 1, 2), align_corners=False)
    tensor([[[[2.5000]]]])
    """
    for name, x in (("input", input), ("grid", grid)):
        if not isinstance(x, core.TensorBase):
            raise TypeError(f"grid_sample: {name} must be a Tensor, not {type(x).__name__}")
    if mode not in _MODES:
        raise ValueError(f"grid_sample: mode '{mode}' is none of 'bilinear', 'nearest', 'bicubic'")
    if padding_mode not in _PADDINGS:
        raise ValueError(f"grid_sample: padding_mode '{padding_mode}' is none of 'zeros', 'border', 'reflection'")
    return GridSample.apply(input, grid, mode, padding_mode, bool(align_corners))


def affine_grid(theta: Tensor, size: Sequence[int], align_corners: bool | None = None) -> Tensor:
    """The grid, for `grid_sample`, of an affine map of images or volumes: grid[n, p] = theta[n] (p, 1).

    theta (N, 2, 3) with size (N, C, H, W), result (N, H, W, 2); or (N, 3, 4) with (N, C, D, H, W), result
    (N, D, H, W, 3). Raises ShapeError or ValueError where they do not fit.

    >>> gg.nn.functional.affine_grid(gg.tensor([[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]]), (1, 1, 1, 2), align_corners=True)
    tensor([[[[-1.,  0.],
              [ 1.,  0.]]]])
    """
    from glassgrad.ops.creation import linspace, ones, zeros

    size = tuple(size)
    nd = len(size) - 2
    if nd not in (2, 3) or any(n < 1 for n in size):
        raise ValueError(f"affine_grid: size {size} must be 4 or 5 numbers, each at least 1")
    if not theta.dtype.is_floating_point:
        raise TypeError(f"affine_grid: theta {tuple(theta.shape)} {theta.dtype.name} must be floating point")
    if tuple(theta.shape) != (size[0], nd, nd + 1):
        raise core.ShapeError(
            f"affine_grid: theta {tuple(theta.shape)} {theta.dtype.name} and size {size}: "
            f"theta {(size[0], nd, nd + 1)} would fit"
        )
    coordinates = []
    for axis in reversed(range(nd)):  # x varies along the last axis
        n = size[2 + axis]
        if n == 1:
            line = zeros(1, dtype=theta.dtype, device=theta.device)
        else:
            line = linspace(-1, 1, n, dtype=theta.dtype, device=theta.device)
            line = line if align_corners else line * ((n - 1) / n)
        coordinates.append(line.reshape([n if i == axis else 1 for i in range(nd)]).expand(size[2:]).reshape(-1))
    base = ones(coordinates[0].shape[0], nd + 1, dtype=theta.dtype, device=theta.device)
    for i, line in enumerate(coordinates):
        base[:, i] = line
    return (base @ theta.transpose(1, 2)).reshape(size[0], *size[2:], nd)


def _check_shuffle(op: str, input: Any, least: int) -> None:
    if not isinstance(input, core.TensorBase):
        raise TypeError(f"{op}: input must be a Tensor, not {type(input).__name__}")
    if input.ndim < least:
        raise core.ShapeError(f"{op}: input {tuple(input.shape)} has {input.ndim} axes; at least {least} are needed")


def pixel_shuffle(input: Tensor, upscale_factor: int) -> Tensor:
    """Moves channels into space: (..., C r^2, H, W) to (..., C, H r, W r), r = upscale_factor.

    y[c, h r + i, w r + j] = x[c r^2 + i r + j, h, w]. Raises ShapeError where channels are no multiple of r^2.

    >>> gg.nn.functional.pixel_shuffle(gg.tensor([[[1.0]], [[2.0]], [[3.0]], [[4.0]]]), 2)
    tensor([[[1., 2.],
             [3., 4.]]])
    """
    _check_shuffle("pixel_shuffle", input, 3)
    r = upscale_factor
    *lead, channels, h, w = input.shape
    if r < 1:
        raise ValueError(f"pixel_shuffle: upscale_factor {r} must be at least 1")
    if channels % (r * r):
        raise core.ShapeError(
            f"pixel_shuffle: input {tuple(input.shape)}: {channels} channels are no multiple of {r * r}, "
            f"the square of upscale_factor {r}"
        )
    n = len(lead)
    x = input.reshape(*lead, channels // (r * r), r, r, h, w)
    x = x.permute(*range(n + 1), n + 3, n + 1, n + 4, n + 2)
    return x.reshape(*lead, channels // (r * r), h * r, w * r)


def pixel_unshuffle(input: Tensor, downscale_factor: int) -> Tensor:
    """Moves space into channels: (..., C, H r, W r) to (..., C r^2, H, W), the inverse of `pixel_shuffle`.

    Raises ShapeError where sizes are no multiples of r = downscale_factor.

    >>> gg.nn.functional.pixel_unshuffle(gg.tensor([[[1.0, 2.0], [3.0, 4.0]]]), 2).flatten()
    tensor([1., 2., 3., 4.])
    """
    _check_shuffle("pixel_unshuffle", input, 3)
    r = downscale_factor
    *lead, channels, h, w = input.shape
    if r < 1:
        raise ValueError(f"pixel_unshuffle: downscale_factor {r} must be at least 1")
    if h % r or w % r:
        raise core.ShapeError(
            f"pixel_unshuffle: input {tuple(input.shape)}: {h} and {w} are not both multiples of downscale_factor {r}"
        )
    n = len(lead)
    x = input.reshape(*lead, channels, h // r, r, w // r, r)
    x = x.permute(*range(n + 1), n + 2, n + 4, n + 1, n + 3)
    return x.reshape(*lead, channels * r * r, h // r, w // r)


def channel_shuffle(input: Tensor, groups: int) -> Tensor:
    """Interleaves groups of channels: (N, g k, ...) read as (N, g, k, ...), the two exchanged.

    Raises ShapeError where channels are no multiple of groups.

    >>> gg.nn.functional.channel_shuffle(gg.arange(4.0).reshape(1, 4, 1), 2).flatten()
    tensor([0., 2., 1., 3.])
    """
    _check_shuffle("channel_shuffle", input, 3)
    n, channels, *size = input.shape
    if groups < 1:
        raise ValueError(f"channel_shuffle: groups {groups} must be at least 1")
    if channels % groups:
        raise core.ShapeError(
            f"channel_shuffle: input {tuple(input.shape)}: {channels} channels are no multiple of groups {groups}"
        )
    return input.reshape(n, groups, channels // groups, *size).transpose(1, 2).reshape(n, channels, *size)
