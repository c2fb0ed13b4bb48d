"""Pooling in one to three dimensions: maximum, average, adaptive and Lp.

Maximum pooling saves where each maximum was; its gradient goes back there (PoolScatter), and the gradient of that reads
from there (PoolGather). Average pooling is linear: its adjoint's adjoint is itself. So every order runs the kernels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from glassgrad import _core as core
from glassgrad.amp import Casts
from glassgrad.autograd.graph import Op

if TYPE_CHECKING:
    from glassgrad.tensor import Tensor

__all__ = [
    "adaptive_avg_pool1d",
    "adaptive_avg_pool2d",
    "adaptive_avg_pool3d",
    "adaptive_max_pool1d",
    "adaptive_max_pool1d_with_indices",
    "adaptive_max_pool2d",
    "adaptive_max_pool2d_with_indices",
    "adaptive_max_pool3d",
    "adaptive_max_pool3d_with_indices",
    "avg_pool1d",
    "avg_pool2d",
    "avg_pool3d",
    "lp_pool1d",
    "lp_pool2d",
    "lp_pool3d",
    "max_pool1d",
    "max_pool1d_with_indices",
    "max_pool2d",
    "max_pool2d_with_indices",
    "max_pool3d",
    "max_pool3d_with_indices",
    "max_unpool1d",
    "max_unpool2d",
    "max_unpool3d",
]

Size = int | Sequence[int]
OptionalSize = int | Sequence[int | None] | None

# Where the index of an output can lie, as kernel_size, stride, padding and dilation of windows.
ANYWHERE: tuple[Any, ...] = (None, (), (), ())
ADAPTIVE: tuple[Any, ...] = ((), (), (), ())


class MaxPool(Op):
    """y[o] = max over taps r of x[o*stride + r*dilation - padding]; saves the place of each maximum."""

    def forward(
        self,
        x: Tensor,
        nd: int,
        kernel: Size,
        stride: Size,
        padding: Size,
        dilation: Size,
        ceil_mode: bool,
        return_indices: bool,
    ) -> Any:
        self.nd = nd
        self.shape = x.shape
        self.windows = (kernel, stride, padding, dilation)
        index_bytes = 8 if return_indices else 4 * self.needs[0]
        y, index = core.max_pool_forward(x, nd, kernel, stride, padding, dilation, ceil_mode, index_bytes)
        self.save(index)
        return (y, index) if return_indices else y

    # Each output is a copy of one element of x: dx[index[o]] += dy[o].
    def backward(self, dy: Tensor | None, _: None = None) -> Tensor | None:
        return None if dy is None else PoolScatter.apply(dy, self.saved[0], self.nd, self.shape, *self.windows)


class AdaptiveMaxPool(Op):
    """y[o] = max of x over [floor(o*in/out), ceil((o + 1)*in/out)); saves the place of each maximum."""

    def forward(self, x: Tensor, nd: int, output_size: Sequence[int], return_indices: bool) -> Any:
        self.nd = nd
        self.shape = x.shape
        y, index = core.adaptive_max_pool_forward(x, nd, output_size, 8 if return_indices else 4)
        self.save(index)
        return (y, index) if return_indices else y

    # As MaxPool's.
    def backward(self, dy: Tensor | None, _: None = None) -> Tensor | None:
        return None if dy is None else PoolScatter.apply(dy, self.saved[0], self.nd, self.shape, *ADAPTIVE)


class PoolScatter(Op):
    """x[index[o]] += y[o] in every plane, zero elsewhere; windows say where the indices can be."""

    def forward(self, y: Tensor, index: Tensor, nd: int, shape: Sequence[int], *windows: Any) -> Tensor:
        self.nd = nd
        self.windows = windows
        self.save(index)
        return core.pool_scatter(y, nd, index, shape, *windows)

    # The adjoint of adding y[o] to x[index[o]] reads there.
    def backward(self, dx: Tensor) -> Tensor:
        return PoolGather.apply(dx, self.saved[0], self.nd, *self.windows)


class PoolGather(Op):
    """y[o] = x[index[o]] in every plane."""

    def forward(self, x: Tensor, index: Tensor, nd: int, *windows: Any) -> Tensor:
        self.nd = nd
        self.shape = x.shape
        self.windows = windows
        self.save(index)
        return core.pool_gather(x, nd, index)

    # The adjoint of reading x[index[o]] adds there.
    def backward(self, dy: Tensor) -> Tensor:
        return PoolScatter.apply(dy, self.saved[0], self.nd, self.shape, *self.windows)


class MaxUnpool(Op):
    """x[index[o]] = y[o] in every plane, zero elsewhere; of equal indices the last wins."""

    def forward(self, y: Tensor, index: Tensor, nd: int, output_size: Sequence[int]) -> Tensor:
        self.nd = nd
        self.save(index)
        return core.max_unpool_forward(y, nd, index, output_size)

    # Each y[o] has a place of its own in x (where indices are equal, PyTorch gives every one of them the gradient).
    def backward(self, dx: Tensor) -> Tensor:
        return PoolGather.apply(dx, self.saved[0], self.nd, *ANYWHERE)


class AvgPool(Op):
    """y[o] = sum over taps of x / divisor(o)."""

    def forward(self, x: Tensor, *attributes: Any) -> Tensor:
        self.shape = x.shape
        self.attributes = attributes
        return core.avg_pool_forward(x, *attributes)

    # Linear in x: every element of a window gets dy[o] / divisor(o).
    def backward(self, dy: Tensor) -> Tensor:
        return AvgPoolBackward.apply(dy, self.shape, *self.attributes)


class AvgPoolBackward(Op):
    """dx[i] = sum of dy[o] / divisor(o) over the windows o that hold i."""

    def forward(self, dy: Tensor, shape: Sequence[int], *attributes: Any) -> Tensor:
        self.attributes = attributes
        return core.avg_pool_backward(dy, shape, *attributes)

    # The adjoint of the adjoint.
    def backward(self, ddx: Tensor) -> Tensor:
        return AvgPool.apply(ddx, *self.attributes)


class AdaptiveAvgPool(Op):
    """y[o] = mean of x over [floor(o*in/out), ceil((o + 1)*in/out))."""

    def forward(self, x: Tensor, nd: int, output_size: Sequence[int]) -> Tensor:
        self.nd = nd
        self.shape = x.shape
        return core.adaptive_avg_pool_forward(x, nd, output_size)

    # Linear in x: every element of a window gets dy[o] / count(o).
    def backward(self, dy: Tensor) -> Tensor:
        return AdaptiveAvgPoolBackward.apply(dy, self.nd, self.shape)


class AdaptiveAvgPoolBackward(Op):
    """dx[i] = sum of dy[o] / count(o) over the windows o that hold i."""

    def forward(self, dy: Tensor, nd: int, shape: Sequence[int]) -> Tensor:
        self.nd = nd
        self.size = dy.shape[-nd:]
        return core.adaptive_avg_pool_backward(dy, nd, shape)

    # The adjoint of the adjoint.
    def backward(self, ddx: Tensor) -> Tensor:
        return AdaptiveAvgPool.apply(ddx, self.nd, self.size)


def _check(op: str, nd: int, input: Any) -> None:
    if not isinstance(input, core.TensorBase):
        raise TypeError(f"{op}{nd}d: input must be a Tensor, not {type(input).__name__}")


def _max_pool(
    nd: int,
    input: Tensor,
    kernel_size: Size,
    stride: Size | None,
    padding: Size,
    dilation: Size,
    ceil_mode: bool,
    return_indices: bool,
) -> Any:
    _check("max_pool", nd, input)
    stride = () if stride is None else stride
    return MaxPool.apply(input, nd, kernel_size, stride, padding, dilation, bool(ceil_mode), return_indices)


def max_pool1d(
    input: Tensor,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    dilation: Size = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """The maximum in each window: y[o] = max over r < kernel_size of x[o*stride + r*dilation - padding].

    input (N, C, L) or (C, L); result (N, C, M) with M = (L + 2 padding - dilation (kernel_size - 1) - 1) / stride + 1,
    rounded down, or up with ceil_mode. stride defaults to kernel_size; padding never wins and is at most half a window;
    a NaN wins. With return_indices also the place (int64) of each maximum in its channel, the first of equals. Raises
    ShapeError or ValueError where the window does not fit.

    >>> gg.nn.functional.max_pool1d(gg.tensor([[[1.0, 3.0, 2.0, 5.0]]]), 2)
    tensor([[[3., 5.]]])
    """
    return _max_pool(1, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def max_pool2d(
    input: Tensor,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    dilation: Size = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """The maximum in each window of an image; input (N, C, H, W) or (C, H, W). See `max_pool1d`.

    >>> gg.nn.functional.max_pool2d(gg.tensor([[[[1.0, 2.0], [3.0, 4.0]]]]), 2)
    tensor([[[[4.]]]])
    """
    return _max_pool(2, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


@Casts(cpu="float32")
def max_pool3d(
    input: Tensor,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    dilation: Size = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """The maximum in each window of a volume; input (N, C, D, H, W) or (C, D, H, W). See `max_pool1d`.

    >>> gg.nn.functional.max_pool3d(gg.ones(1, 1, 2, 2, 2), 2)
    tensor([[[[[1.]]]]])
    """
    return _max_pool(3, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def max_pool1d_with_indices(
    input: Tensor,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    dilation: Size = 1,
    ceil_mode: bool = False,
    return_indices: bool = True,
) -> tuple[Tensor, Tensor]:
    """`max_pool1d` with return_indices.

    >>> gg.nn.functional.max_pool1d_with_indices(gg.tensor([[[1.0, 3.0, 2.0, 5.0]]]), 2)[1]
    tensor([[[1, 3]]])
    """
    return _max_pool(1, input, kernel_size, stride, padding, dilation, ceil_mode, True)


def max_pool2d_with_indices(
    input: Tensor,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    dilation: Size = 1,
    ceil_mode: bool = False,
    return_indices: bool = True,
) -> tuple[Tensor, Tensor]:
    """`max_pool2d` with return_indices.

    >>> gg.nn.functional.max_pool2d_with_indices(gg.tensor([[[[1.0, 2.0], [3.0, 4.0]]]]), 2)[1]
    tensor([[[[3]]]])
    """
    return _max_pool(2, input, kernel_size, stride, padding, dilation, ceil_mode, True)


def max_pool3d_with_indices(
    input: Tensor,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    dilation: Size = 1,
    ceil_mode: bool = False,
    return_indices: bool = True,
) -> tuple[Tensor, Tensor]:
    """`max_pool3d` with return_indices.

    >>> gg.nn.functional.max_pool3d_with_indices(gg.ones(1, 1, 2, 2, 2), 2)[1]
    tensor([[[[[0]]]]])
    """
    return _max_pool(3, input, kernel_size, stride, padding, dilation, ceil_mode, True)


def _max_unpool(
    nd: int,
    input: Tensor,
    indices: Tensor,
    kernel_size: Size,
    stride: Size | None,
    padding: Size,
    output_size: Sequence[int] | None,
) -> Tensor:
    op = f"max_unpool{nd}d"
    _check("max_unpool", nd, input)
    _check("max_unpool", nd, indices)
    if input.ndim not in (nd + 1, nd + 2):
        raise core.ShapeError(
            f"{op}: input {tuple(input.shape)} {input.dtype.name} has {input.ndim} axes; {nd + 1} or {nd + 2} "
            "are needed"
        )
    kernel = _per_axis(op, "kernel_size", kernel_size, nd)
    steps = kernel if stride is None or stride == [] else _per_axis(op, "stride", stride, nd)
    pads = _per_axis(op, "padding", padding, nd)
    default = [(n - 1) * s - 2 * p + k for n, s, p, k in zip(input.shape[-nd:], steps, pads, kernel)]
    if output_size is None:
        size = default
    else:
        size = list(output_size)[-nd:] if len(output_size) in (nd + 1, nd + 2) else list(output_size)
        if len(size) != nd:
            raise ValueError(f"{op}: output_size {tuple(output_size)} has {len(output_size)} numbers; {nd} are needed")
        if any(not d - s < n < d + s for n, d, s in zip(size, default, steps)):
            raise ValueError(
                f"{op}: output_size {tuple(size)} must be within stride {tuple(steps)} of {tuple(default)}"
            )
    return MaxUnpool.apply(input, indices, nd, size)


def _per_axis(op: str, name: str, value: Size, nd: int) -> list[int]:
    values = [value] * nd if isinstance(value, int) else list(value)
    if len(values) == 1:
        values *= nd
    if len(values) != nd:
        raise ValueError(f"{op}: {name} {tuple(values)} has {len(values)} numbers; 1 or {nd} are needed")
    return values


@Casts(cpu="float32")
def max_unpool1d(
    input: Tensor,
    indices: Tensor,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    output_size: Sequence[int] | None = None,
) -> Tensor:
    """Puts maxima back where `max_pool1d` with return_indices found them, zeros elsewhere.

    input and indices (N, C, M) or (C, M); result (N, C, L) with L = (M - 1) stride - 2 padding + kernel_size, or
    output_size. Raises IndexError for an index outside of the result.

    >>> y, i = gg.nn.functional.max_pool1d(gg.tensor([[[1.0, 3.0, 2.0, 5.0]]]), 2, return_indices=True)
    >>> gg.nn.functional.max_unpool1d(y, i, 2)
    tensor([[[0., 3., 0., 5.]]])
    """
    return _max_unpool(1, input, indices, kernel_size, stride, padding, output_size)


@Casts(cpu="float32")
def max_unpool2d(
    input: Tensor,
    indices: Tensor,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    output_size: Sequence[int] | None = None,
) -> Tensor:
    """Puts maxima back where `max_pool2d` with return_indices found them; see `max_unpool1d`.

    >>> gg.nn.functional.max_unpool2d(gg.tensor([[[[4.0]]]]), gg.tensor([[[[3]]]]), 2)
    tensor([[[[0., 0.],
              [0., 4.]]]])
    """
    return _max_unpool(2, input, indices, kernel_size, stride, padding, output_size)


@Casts(cpu="float32")
def max_unpool3d(
    input: Tensor,
    indices: Tensor,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    output_size: Sequence[int] | None = None,
) -> Tensor:
    """Puts maxima back where `max_pool3d` with return_indices found them; see `max_unpool1d`.

    >>> gg.nn.functional.max_unpool3d(gg.ones(1, 1, 1, 1, 1), gg.tensor([[[[[0]]]]]), (1, 1, 2))
    tensor([[[[[1., 0.]]]]])
    """
    return _max_unpool(3, input, indices, kernel_size, stride, padding, output_size)


def _avg_pool(
    nd: int,
    input: Tensor,
    kernel_size: Size,
    stride: Size | None,
    padding: Size,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None,
) -> Tensor:
    _check("avg_pool", nd, input)
    stride = () if stride is None else stride
    return AvgPool.apply(
        input, nd, kernel_size, stride, padding, bool(ceil_mode), bool(count_include_pad), divisor_override
    )


def avg_pool1d(
    input: Tensor,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:
    """The mean of each window: y[o] = sum over r < kernel_size of x[o*stride + r - padding] / count.

    input (N, C, L) or (C, L); result (N, C, M) with M = (L + 2 padding - kernel_size) / stride + 1, rounded down, or up
    with ceil_mode. stride defaults to kernel_size; padding counts as zeros, or not at all without count_include_pad.
    Raises ShapeError or ValueError where the window does not fit.

    >>> gg.nn.functional.avg_pool1d(gg.tensor([[[1.0, 3.0, 2.0, 6.0]]]), 2)
    tensor([[[2., 4.]]])
    """
    return _avg_pool(1, input, kernel_size, stride, padding, ceil_mode, count_include_pad, None)


def avg_pool2d(
    input: Tensor,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """The mean of each window of an image; input (N, C, H, W) or (C, H, W). See `avg_pool1d`.

    divisor_override takes the place of the count.

    >>> gg.nn.functional.avg_pool2d(gg.tensor([[[[1.0, 2.0], [3.0, 4.0]]]]), 2)
    tensor([[[[2.5000]]]])
    """
    return _avg_pool(2, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)


@Casts(cpu="float32")
def avg_pool3d(
    input: Tensor,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """The mean of each window of a volume; input (N, C, D, H, W) or (C, D, H, W). See `avg_pool1d`.

    divisor_override takes the place of the count.

    >>> gg.nn.functional.avg_pool3d(gg.ones(1, 1, 2, 2, 2), 2)
    tensor([[[[[1.]]]]])
    """
    return _avg_pool(3, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)


def _sizes(nd: int, input: Tensor, output_size: OptionalSize) -> list[int]:
    """One size per axis; None keeps the input's."""
    sizes = [output_size] * nd if output_size is None or isinstance(output_size, int) else list(output_size)
    if len(sizes) == 1:
        sizes *= nd
    if len(sizes) != nd or input.ndim < nd:
        return sizes  # type: ignore[return-value]  # the front says what is wrong
    return [n if s is None else s for n, s in zip(input.shape[-nd:], sizes)]


def _adaptive_avg_pool(nd: int, input: Tensor, output_size: OptionalSize) -> Tensor:
    _check("adaptive_avg_pool", nd, input)
    return AdaptiveAvgPool.apply(input, nd, _sizes(nd, input, output_size))


def adaptive_avg_pool1d(input: Tensor, output_size: OptionalSize) -> Tensor:
    """The means of output_size windows that cover the input: window o is [floor(o L/M), ceil((o + 1) L/M)).

    input (N, C, L) or (C, L); result (N, C, M). Raises ShapeError or ValueError where sizes do not fit.

    >>> gg.nn.functional.adaptive_avg_pool1d(gg.tensor([[[1.0, 2.0, 6.0]]]), 2)
    tensor([[[1.5000, 4.0000]]])
    """
    return _adaptive_avg_pool(1, input, output_size)


def adaptive_avg_pool2d(input: Tensor, output_size: OptionalSize) -> Tensor:
    """The means of output_size windows that cover an image; None keeps an axis. See `adaptive_avg_pool1d`.

    >>> gg.nn.functional.adaptive_avg_pool2d(gg.tensor([[[1.0, 2.0], [3.0, 4.0]]]), 1)
    tensor([[[2.5000]]])
    """
    return _adaptive_avg_pool(2, input, output_size)


@Casts(cpu="float32")
def adaptive_avg_pool3d(input: Tensor, output_size: OptionalSize) -> Tensor:
    """The means of output_size windows that cover a volume; None keeps an axis. See `adaptive_avg_pool1d`.

    >>> gg.nn.functional.adaptive_avg_pool3d(gg.ones(1, 1, 2, 2, 2), 1)
    tensor([[[[[1.]]]]])
    """
    return _adaptive_avg_pool(3, input, output_size)


def _adaptive_max_pool(nd: int, input: Tensor, output_size: OptionalSize, return_indices: bool) -> Any:
    _check("adaptive_max_pool", nd, input)
    return AdaptiveMaxPool.apply(input, nd, _sizes(nd, input, output_size), return_indices)


def adaptive_max_pool1d(input: Tensor, output_size: OptionalSize, return_indices: bool = False) -> Any:
    """The maxima of output_size windows that cover the input: window o is [floor(o L/M), ceil((o + 1) L/M)).

    input (N, C, L) or (C, L); result (N, C, M), with return_indices also the places of the maxima (int64).

    >>> gg.nn.functional.adaptive_max_pool1d(gg.tensor([[[1.0, 2.0, 6.0]]]), 2)
    tensor([[[2., 6.]]])
    """
    return _adaptive_max_pool(1, input, output_size, return_indices)


def adaptive_max_pool2d(input: Tensor, output_size: OptionalSize, return_indices: bool = False) -> Any:
    """The maxima of output_size windows that cover an image; None keeps an axis. See `adaptive_max_pool1d`.

    >>> gg.nn.functional.adaptive_max_pool2d(gg.tensor([[[1.0, 2.0], [3.0, 4.0]]]), 1)
    tensor([[[4.]]])
    """
    return _adaptive_max_pool(2, input, output_size, return_indices)


@Casts(cpu="float32")
def adaptive_max_pool3d(input: Tensor, output_size: OptionalSize, return_indices: bool = False) -> Any:
    """The maxima of output_size windows that cover a volume; None keeps an axis. See `adaptive_max_pool1d`.

    >>> gg.nn.functional.adaptive_max_pool3d(gg.ones(1, 1, 2, 2, 2), 1)
    tensor([[[[[1.]]]]])
    """
    return _adaptive_max_pool(3, input, output_size, return_indices)


def adaptive_max_pool1d_with_indices(
    input: Tensor, output_size: OptionalSize, return_indices: bool = True
) -> tuple[Tensor, Tensor]:
    """`adaptive_max_pool1d` with return_indices.

    >>> gg.nn.functional.adaptive_max_pool1d_with_indices(gg.tensor([[[1.0, 2.0, 6.0]]]), 2)[1]
    tensor([[[1, 2]]])
    """
    return _adaptive_max_pool(1, input, output_size, True)


def adaptive_max_pool2d_with_indices(
    input: Tensor, output_size: OptionalSize, return_indices: bool = True
) -> tuple[Tensor, Tensor]:
    """`adaptive_max_pool2d` with return_indices.

    >>> gg.nn.functional.adaptive_max_pool2d_with_indices(gg.tensor([[[1.0, 2.0], [3.0, 4.0]]]), 1)[1]
    tensor([[[3]]])
    """
    return _adaptive_max_pool(2, input, output_size, True)


@Casts(cpu="float32")
def adaptive_max_pool3d_with_indices(
    input: Tensor, output_size: OptionalSize, return_indices: bool = True
) -> tuple[Tensor, Tensor]:
    """`adaptive_max_pool3d` with return_indices.

    >>> gg.nn.functional.adaptive_max_pool3d_with_indices(gg.ones(1, 1, 2, 2, 2), 1)[1]
    tensor([[[[[0]]]]])
    """
    return _adaptive_max_pool(3, input, output_size, True)


def _lp_pool(
    nd: int, input: Tensor, norm_type: float, kernel_size: Size, stride: Size | None, ceil_mode: bool
) -> Tensor:
    _check("lp_pool", nd, input)
    if norm_type == 0:
        raise ValueError(f"lp_pool{nd}d: norm_type must not be 0")
    taps = 1
    for k in _per_axis(f"lp_pool{nd}d", "kernel_size", kernel_size, nd):
        taps *= k
    mean = _avg_pool(nd, input.pow(norm_type), kernel_size, stride, 0, ceil_mode, True, None)
    # sign * relu(abs) is the identity whose derivative at 0 is 0, where the root's is infinite.
    return (mean.sign() * mean.abs().relu() * taps).pow(1.0 / norm_type)


def lp_pool1d(
    input: Tensor, norm_type: float, kernel_size: Size, stride: Size | None = None, ceil_mode: bool = False
) -> Tensor:
    """The p-norm of each window without absolute values: y[o] = (sum over r of x[o*stride + r]^p)^(1/p), p = norm_type.

    input (N, C, L) or (C, L); sizes as in `avg_pool1d`. A negative sum gives NaN.

    >>> gg.nn.functional.lp_pool1d(gg.tensor([[[3.0, 4.0]]]), 2, 2)
    tensor([[[5.]]])
    """
    return _lp_pool(1, input, norm_type, kernel_size, stride, ceil_mode)


def lp_pool2d(
    input: Tensor, norm_type: float, kernel_size: Size, stride: Size | None = None, ceil_mode: bool = False
) -> Tensor:
    """The p-norm of each window of an image; see `lp_pool1d`.

    >>> gg.nn.functional.lp_pool2d(gg.tensor([[[[3.0], [4.0]]]]), 2, (2, 1))
    tensor([[[[5.]]]])
    """
    return _lp_pool(2, input, norm_type, kernel_size, stride, ceil_mode)


@Casts(cpu="float32")
def lp_pool3d(
    input: Tensor, norm_type: float, kernel_size: Size, stride: Size | None = None, ceil_mode: bool = False
) -> Tensor:
    """The p-norm of each window of a volume; see `lp_pool1d`.

    >>> gg.nn.functional.lp_pool3d(gg.ones(1, 1, 2, 2, 1), 2, (2, 2, 1))
    tensor([[[[[2.]]]]])
    """
    return _lp_pool(3, input, norm_type, kernel_size, stride, ceil_mode)
