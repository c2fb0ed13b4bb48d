"""Convolution in one to three dimensions, its transpose, and unfold and fold.

The gradients of a convolution are convolutions themselves, so three ops that name each other in their backwards serve
every order with the fused kernels:

    y  = conv(x, w)          ConvForward
    dx = conv^T(dy, w)       ConvDataGrad: the adjoint in x; as a forward op, the transposed convolution
    dw = x * dy              ConvWeightGrad: the adjoint in w
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
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
    "fold",
    "unfold",
]

Size = int | Sequence[int]


class ConvForward(Op):
    """y[n, k, o] = b[k] + sum_{c, r} w[k, c, r] x[n, c, o*stride + r*dilation - padding]."""

    autocast = Casts(cpu="lower", gpu="lower")

    def forward(
        self, x: Tensor, w: Tensor, b: Tensor | None, stride: Size, padding: Size, dilation: Size, groups: int
    ) -> Tensor:
        self.attributes = stride, padding, dilation, groups
        self.save(x, w)
        return core.conv_forward(x, w, b, stride, padding, dilation, groups)

    # y is linear in each of x, w and b: dx and dw apply the adjoints to dy, db sums dy over images and pixels.
    def backward(self, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, w = self.saved
        needs_x, needs_w, needs_b = self.needs[:3]
        dx = ConvDataGrad.apply(dy, w, None, x.shape[2:], *self.attributes) if needs_x else None
        dw = ConvWeightGrad.apply(x, dy, w.shape[2:], *self.attributes) if needs_w else None
        return dx, dw, _sum_pixels(dy) if needs_b else None


class ConvDataGrad(Op):
    """dx[n, c, i] = b[c] + sum over k, r and o with o*stride + r*dilation - padding = i of w[k, c, r] dy[n, k, o]."""

    autocast = Casts(cpu="lower", gpu="lower")

    def forward(
        self,
        dy: Tensor,
        w: Tensor,
        b: Tensor | None,
        in_size: Sequence[int],
        stride: Size,
        padding: Size,
        dilation: Size,
        groups: int,
    ) -> Tensor:
        self.attributes = stride, padding, dilation, groups
        self.save(dy, w)
        return core.conv_data_grad(dy, w, b, in_size, stride, padding, dilation, groups)

    # <g, conv^T(dy, w)> = <conv(g, w), dy>: linear in dy and w again, with g in the place of x.
    def backward(self, g: Tensor) -> tuple[Tensor | None, ...]:
        dy, w = self.saved
        needs_dy, needs_w, needs_b = self.needs[:3]
        ddy = _windows_of(dy, ConvForward.apply(g, w, None, *self.attributes)) if needs_dy else None
        dw = ConvWeightGrad.apply(g, dy, w.shape[2:], *self.attributes) if needs_w else None
        return ddy, dw, _sum_pixels(g) if needs_b else None


class ConvWeightGrad(Op):
    """dw[k, c, r] = sum_{n, o} dy[n, k, o] x[n, c, o*stride + r*dilation - padding]."""

    def forward(
        self, x: Tensor, dy: Tensor, kernel: Sequence[int], stride: Size, padding: Size, dilation: Size, groups: int
    ) -> Tensor:
        self.attributes = stride, padding, dilation, groups
        self.save(x, dy)
        return core.conv_weight_grad(x, dy, kernel, stride, padding, dilation, groups)

    # <g, dw> = <conv(x, g), dy>: linear in x and dy, with g in the place of w.
    def backward(self, g: Tensor) -> tuple[Tensor | None, ...]:
        x, dy = self.saved
        needs_x, needs_dy = self.needs[:2]
        dx = ConvDataGrad.apply(dy, g, None, x.shape[2:], *self.attributes) if needs_x else None
        return dx, _windows_of(dy, ConvForward.apply(x, g, None, *self.attributes)) if needs_dy else None


def _windows_of(dy: Tensor, y: Tensor) -> Tensor:
    """The part of y that dy has: an output_padding beyond the stride leaves room for more windows than were there."""
    return y if y.shape == dy.shape else y[tuple(slice(n) for n in dy.shape)]


def _sum_pixels(dy: Tensor) -> Tensor:
    return dy.sum([i for i in range(dy.ndim) if i != 1])


def _padding(op: str, padding: Size | str, weight: Tensor, stride: Size, dilation: Size) -> Size:
    """Numbers for 'same' and 'valid'. 'same' puts the odd one of an uneven total at the end."""
    if not isinstance(padding, str):
        return padding
    if padding == "valid":
        return 0
    if padding != "same":
        raise ValueError(f"{op}: padding '{padding}' is neither 'same' nor 'valid' nor a number")
    if any(s != 1 for s in ([stride] if isinstance(stride, int) else stride)):
        raise ValueError(f"{op}: padding 'same' needs stride 1, not {stride}")
    kernel = weight.shape[2:]
    steps = [dilation] * len(kernel) if isinstance(dilation, int) else list(dilation) * (len(kernel) // len(dilation))
    total = [d * (k - 1) for d, k in zip(steps, kernel)]
    return [t // 2 for t in total] + [t - t // 2 for t in total]


def _check(op: str, nd: int, **tensors: Any) -> None:
    for name, x in tensors.items():
        if not isinstance(x, core.TensorBase) and not (name == "bias" and x is None):
            raise TypeError(f"{op}: {name} must be a Tensor, not {type(x).__name__}")
    x, w = tensors["input"], tensors["weight"]
    if x.ndim not in (nd + 1, nd + 2) or w.ndim != nd + 2:
        axes = ", ".join(["C", "D, H, W"[-3 * nd + 2 :]])
        raise core.ShapeError(
            f"{op}: input {tuple(x.shape)} {x.dtype.name} and weight {tuple(w.shape)} {w.dtype.name}: "
            f"input needs the axes ({axes}) or (N, {axes}), weight {nd + 2} axes"
        )


def _conv(
    nd: int,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Size,
    padding: Size | str,
    dilation: Size,
    groups: int,
) -> Tensor:
    op = f"conv{nd}d"
    _check(op, nd, input=input, weight=weight, bias=bias)
    padding = _padding(op, padding, weight, stride, dilation)
    if input.ndim == nd + 1:
        return ConvForward.apply(input.unsqueeze(0), weight, bias, stride, padding, dilation, groups).squeeze(0)
    return ConvForward.apply(input, weight, bias, stride, padding, dilation, groups)


@Casts(cpu="lower", gpu="lower")
def _conv_transpose(
    nd: int,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Size,
    padding: Size,
    output_padding: Size,
    groups: int,
    dilation: Size,
) -> Tensor:
    _check(f"conv_transpose{nd}d", nd, input=input, weight=weight, bias=bias)
    x = input.unsqueeze(0) if input.ndim == nd + 1 else input
    size = core.conv_transpose_size(x, weight, bias, stride, padding, output_padding, groups, dilation)
    y = ConvDataGrad.apply(x, weight, bias, size, stride, padding, dilation, groups)
    return y if x is input else y.squeeze(0)


def conv1d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Size = 1,
    padding: Size | str = 0,
    dilation: Size = 1,
    groups: int = 1,
) -> Tensor:
    """Cross-correlates signals with kernels, in each of `groups` groups of channels:

        y[n, k, o] = bias[k] + sum_{c, r} weight[k, c, r] x[n, c, o*stride + r*dilation - padding]

    input (N, C, L) or (C, L); weight (K, C/groups, kernel); bias (K,); result (N, K, M) with
    M = (L + 2 padding - dilation (kernel - 1) - 1) // stride + 1. Floating dtypes, the same for all operands. padding
    may be 'valid' (none) or 'same' (stride 1, M = L). Raises ShapeError, TypeError or ValueError where operands do not
    fit.

    >>> gg.nn.functional.conv1d(gg.tensor([[[1.0, 2.0, 4.0, 7.0]]]), gg.tensor([[[-1.0, 1.0]]]))
    tensor([[[1., 2., 3.]]])
    """
    return _conv(1, input, weight, bias, stride, padding, dilation, groups)


def conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Size = 1,
    padding: Size | str = 0,
    dilation: Size = 1,
    groups: int = 1,
) -> Tensor:
    """Cross-correlates images with kernels, as `conv1d` does signals; for stride 1 and no padding

        y[n, k, i, j] = bias[k] + sum_{c, r, s} weight[k, c, r, s] x[n, c, i + r, j + s]

    input (N, C, H, W) or (C, H, W); weight (K, C/groups, kH, kW); bias (K,). stride, padding and dilation are a number
    or (vertical, horizontal).

    >>> x = gg.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    >>> gg.nn.functional.conv2d(x, gg.ones(1, 1, 2, 2), gg.tensor([0.5]))
    tensor([[[[10.5000]]]])
    """
    return _conv(2, input, weight, bias, stride, padding, dilation, groups)


def conv3d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Size = 1,
    padding: Size | str = 0,
    dilation: Size = 1,
    groups: int = 1,
) -> Tensor:
    """Cross-correlates volumes with kernels, as `conv1d` does signals.

    input (N, C, D, H, W) or (C, D, H, W); weight (K, C/groups, kD, kH, kW); bias (K,).

    >>> gg.nn.functional.conv3d(gg.ones(1, 1, 2, 2, 2), gg.ones(1, 1, 2, 2, 2))
    tensor([[[[[8.]]]]])
    """
    return _conv(3, input, weight, bias, stride, padding, dilation, groups)


def conv_transpose1d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Size = 1,
    padding: Size = 0,
    output_padding: Size = 0,
    groups: int = 1,
    dilation: Size = 1,
) -> Tensor:
    """The adjoint of `conv1d`: y[n, c, o*stride + r*dilation - padding] += weight[k, c, r] x[n, k, o], plus bias.

    input (N, C, L) or (C, L); weight (C, K/groups, kernel); bias (K,); result (N, K, M) with
    M = (L - 1) stride - 2 padding + dilation (kernel - 1) + output_padding + 1. output_padding lengthens the result at
    its end; it must be smaller than stride or dilation. Raises ShapeError, TypeError or ValueError where operands do
    not fit.

    >>> gg.nn.functional.conv_transpose1d(gg.tensor([[[1.0, 10.0]]]), gg.tensor([[[1.0, 2.0]]]), stride=2)
    tensor([[[ 1.,  2., 10., 20.]]])
    """
    return _conv_transpose(1, input, weight, bias, stride, padding, output_padding, groups, dilation)


def conv_transpose2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Size = 1,
    padding: Size = 0,
    output_padding: Size = 0,
    groups: int = 1,
    dilation: Size = 1,
) -> Tensor:
    """The adjoint of `conv2d`, as `conv_transpose1d` is of `conv1d`.

    input (N, C, H, W) or (C, H, W); weight (C, K/groups, kH, kW); bias (K,).

    >>> gg.nn.functional.conv_transpose2d(gg.tensor([[[[3.0]]]]), gg.ones(1, 1, 2, 2))
    tensor([[[[3., 3.],
              [3., 3.]]]])
    """
    return _conv_transpose(2, input, weight, bias, stride, padding, output_padding, groups, dilation)


def conv_transpose3d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Size = 1,
    padding: Size = 0,
    output_padding: Size = 0,
    groups: int = 1,
    dilation: Size = 1,
) -> Tensor:
    """The adjoint of `conv3d`, as `conv_transpose1d` is of `conv1d`.

    input (N, C, D, H, W) or (C, D, H, W); weight (C, K/groups, kD, kH, kW); bias (K,).

    >>> gg.nn.functional.conv_transpose3d(gg.tensor([[[[[3.0]]]]]), gg.ones(1, 1, 1, 1, 2))
    tensor([[[[[3., 3.]]]]])
    """
    return _conv_transpose(3, input, weight, bias, stride, padding, output_padding, groups, dilation)


class Unfold(Op):
    """columns[n, (c, r, s), (i, j)] = x[n, c, i*stride + r*dilation - padding, j*stride + s*dilation - padding]."""

    def forward(self, x: Tensor, kernel: Size, dilation: Size, padding: Size, stride: Size) -> Tensor:
        self.size = x.shape[2:]
        self.attributes = kernel, dilation, padding, stride
        return core.unfold_forward(x, *self.attributes)

    # A copy of elements: each element of x collects the gradients of its copies.
    def backward(self, dy: Tensor) -> Tensor:
        return Fold.apply(dy, self.size, *self.attributes)


class Fold(Op):
    """x[n, c, h, w] = the sum of the columns' elements that unfold would copy from there."""

    def forward(self, columns: Tensor, size: Size, kernel: Size, dilation: Size, padding: Size, stride: Size) -> Tensor:
        self.attributes = kernel, dilation, padding, stride
        return core.fold_forward(columns, size, *self.attributes)

    # The adjoint of the adjoint.
    def backward(self, dy: Tensor) -> Tensor:
        return Unfold.apply(dy, *self.attributes)


def unfold(input: Tensor, kernel_size: Size, dilation: Size = 1, padding: Size = 0, stride: Size = 1) -> Tensor:
    """Copies the windows of images into columns (im2col).

    input (N, C, H, W) or (C, H, W); result (N, C*kH*kW, L), one column for each of the L window positions, row by row.
    Raises ShapeError where a window does not fit.

    >>> gg.nn.functional.unfold(gg.tensor([[[[1.0, 2.0], [3.0, 4.0]]]]), (1, 2))
    tensor([[[1., 3.],
             [2., 4.]]])
    """
    if input.ndim == 3:
        return Unfold.apply(input.unsqueeze(0), kernel_size, dilation, padding, stride).squeeze(0)
    return Unfold.apply(input, kernel_size, dilation, padding, stride)


def fold(
    input: Tensor, output_size: Size, kernel_size: Size, dilation: Size = 1, padding: Size = 0, stride: Size = 1
) -> Tensor:
    """Adds columns of windows up to images (col2im), the adjoint of `unfold`: overlapping elements are summed.

    input (N, C*kH*kW, L) or (C*kH*kW, L); result (N, C, *output_size). Raises ShapeError where L is not the number of
    windows in images of that size.

    >>> gg.nn.functional.fold(gg.ones(1, 2, 2), (1, 3), (1, 2))
    tensor([[[[1., 2., 1.]]]])
    """
    if input.ndim == 2:
        return Fold.apply(input.unsqueeze(0), output_size, kernel_size, dilation, padding, stride).squeeze(0)
    return Fold.apply(input, output_size, kernel_size, dilation, padding, stride)
