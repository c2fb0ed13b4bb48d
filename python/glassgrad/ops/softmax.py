"""Softmax, log-softmax and cross-entropy, whose forward never writes a softmax and whose backward is one pass.

x (outer, n, inner) around the axis `dim`; cross-entropy has its classes C on axis 1: x (N, C, d1, ...), target (N, d1,
...).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from glassgrad import _core as core
from glassgrad.amp import Casts
from glassgrad.autograd.grad_mode import enable_grad
from glassgrad.autograd.graph import Op, composite_backward, recording
from glassgrad.ops._names import numpy_names

if TYPE_CHECKING:
    from glassgrad.tensor import Tensor

__all__ = ["cross_entropy", "gumbel_softmax", "log_softmax", "nll_loss", "softmax", "softmin"]


class Softmax(Op):
    """y_i = exp(x_i) / sum_j exp(x_j) along dim."""

    kernel = core.softmax_forward
    autocast = Casts(gpu="float32")

    def forward(self, x: Tensor, dim: int) -> Tensor:
        self.dim = dim
        y = core.softmax_forward(x, dim)
        self.save(y)
        return y

    # dy_i/dx_j = y_i ([i = j] - y_j), so dx = y (dy - sum_j dy_j y_j).
    def backward(self, dy: Tensor) -> Tensor:
        (y,) = self.saved
        if recording():
            return y * (dy - (y * dy).sum(self.dim, keepdim=True))
        return core.softmax_backward(dy, y, self.dim)


class LogSoftmax(Op):
    """y_i = x_i - log sum_j exp(x_j) along dim."""

    kernel = core.log_softmax_forward
    autocast = Casts(gpu="float32")

    def forward(self, x: Tensor, dim: int) -> Tensor:
        self.dim = dim
        y = core.log_softmax_forward(x, dim)
        self.save(y)
        return y

    # dy_i/dx_j = [i = j] - exp(y_j), so dx = dy - exp(y) sum_j dy_j.
    def backward(self, dy: Tensor) -> Tensor:
        (y,) = self.saved
        if recording():
            return dy - y.exp() * dy.sum(self.dim, keepdim=True)
        return core.log_softmax_backward(dy, y, self.dim)


def _axis(op: str, input: Tensor, dim: int | None) -> int:
    if dim is not None:
        return dim
    warnings.warn(f"{op}: the implicit choice of dim is deprecated; pass dim", UserWarning, stacklevel=4)
    return 0 if input.ndim in (0, 1, 3) else 1


@numpy_names
def softmax(input: Tensor, dim: int | None = None, dtype: Any = None) -> Tensor:
    """exp(x) / sum exp(x) along `dim`; any shape, floating dtypes; `dtype` converts the input first.

    Raises IndexError for a dim out of range and TypeError for whole numbers without `dtype`. Stable: the maximum is
    subtracted first. A row of -inf only gives NaN.

    >>> gg.softmax(gg.tensor([1.0, 1.0]), 0)
    tensor([0.5000, 0.5000])
    """
    dim = _axis("softmax", input, dim)
    return Softmax.apply(input, dim) if dtype is None else Softmax.apply(input.to(dtype), dim).to(dtype)


@numpy_names
def log_softmax(input: Tensor, dim: int | None = None, dtype: Any = None) -> Tensor:
    """x - log sum exp(x) along `dim`; any shape, floating dtypes; `dtype` converts the input first.

    Raises IndexError for a dim out of range and TypeError for whole numbers without `dtype`.

    >>> gg.log_softmax(gg.tensor([1.0, 1.0]), 0)
    tensor([-0.6931, -0.6931])
    """
    dim = _axis("log_softmax", input, dim)
    return LogSoftmax.apply(input, dim) if dtype is None else LogSoftmax.apply(input.to(dtype), dim).to(dtype)


@numpy_names
def softmin(input: Tensor, dim: int | None = None, dtype: Any = None) -> Tensor:
    """softmax(-x) along `dim`.

    >>> gg.nn.functional.softmin(gg.tensor([0.0, 0.0]), 0)
    tensor([0.5000, 0.5000])
    """
    return softmax(-input, _axis("softmin", input, dim), dtype)


@numpy_names
def gumbel_softmax(logits: Tensor, tau: float = 1, hard: bool = False, eps: float = 1e-10, dim: int = -1) -> Tensor:
    """softmax((logits + g) / tau) with Gumbel noise g: a differentiable sample of a category (Jang et al., 2017).

    `hard` gives one-hot samples whose gradient is the soft sample's. `eps` is ignored, as in PyTorch.

    >>> gg.nn.functional.gumbel_softmax(gg.zeros(2, 3), hard=True).sum(1)
    tensor([1., 1.])
    """
    from glassgrad.ops.random import rand_like

    uniform = rand_like(logits.detach()).clamp(min=2.0**-24)  # a 0 would make the noise -inf
    y = softmax((logits - (-uniform.log()).log()) / tau, dim)
    if not hard:
        return y
    index = y.max(dim, keepdim=True)[1]
    one_hot = (y * 0).detach().scatter(dim, index, 1.0)
    return one_hot - y.detach() + y


_REDUCTIONS = ("mean", "sum", "none")


def reduction_of(op: str, size_average: bool | None, reduce: bool | None, reduction: str) -> str:
    """The reduction that PyTorch's arguments mean, the deprecated `size_average` and `reduce` included."""
    if size_average is not None or reduce is not None:
        if reduce is False:
            return "none"
        return "sum" if size_average is False else "mean"
    if reduction not in _REDUCTIONS:
        raise ValueError(f"{op}: reduction {reduction!r} is none of 'mean', 'sum' and 'none'")
    return reduction


def described(x: Tensor) -> str:
    """An operand as error messages show it: (32, 784) float32."""
    return f"{tuple(x.shape)} {x.dtype.name}"


def reduced(losses: Tensor, reduction: str) -> Tensor:
    """The losses themselves, their sum or their mean."""
    return losses if reduction == "none" else losses.sum() if reduction == "sum" else losses.mean()


def composite_of(
    function: Callable[..., Any], inputs: tuple[Any, ...], dy: Tensor, needs: tuple[bool, ...]
) -> tuple[Tensor | None, ...]:
    """composite_backward, also where nothing is being recorded: for gradients that no kernel gives."""
    if recording():
        return composite_backward(function, inputs, dy, needs)
    with enable_grad():
        gradients = composite_backward(function, inputs, dy, needs)
    return tuple([None if g is None else g.detach() for g in gradients])


def _class_axis(input: Tensor) -> int:
    return 0 if input.ndim == 1 else 1


def _nll_in_ordinary_ops(x: Tensor, target: Tensor, weight: Tensor | None, reduction: str, ignore_index: int) -> Tensor:
    dim = _class_axis(x)
    ignored = target == ignore_index
    classes = target.long().masked_fill(ignored, 0)
    losses = -x.gather(dim, classes.unsqueeze(dim)).squeeze(dim)
    weights = losses.detach() * 0 + 1 if weight is None else weight.to(x.dtype).take(classes)
    weights = weights.masked_fill(ignored, 0)
    losses = (losses * weights).masked_fill(ignored, 0)
    if reduction == "mean":
        return losses.sum() / weights.sum()
    return reduced(losses, reduction)


def _cross_entropy_in_ordinary_ops(
    x: Tensor, target: Tensor, weight: Tensor | None, reduction: str, ignore_index: int, label_smoothing: float
) -> Tensor:
    dim = _class_axis(x)
    n = x.shape[dim]
    y = log_softmax(x, dim)
    line = None if weight is None else weight.to(x.dtype).reshape([n] + [1] * (x.ndim - 1 - dim))
    if target.dtype.is_floating_point:
        target = target * (1 - label_smoothing) + label_smoothing / n
        losses = -(y * target if line is None else y * target * line).sum(dim)
        return losses.sum() / (x.numel() // n) if reduction == "mean" else reduced(losses, reduction)
    nll = _nll_in_ordinary_ops(y, target, weight, "none" if reduction == "none" else "sum", ignore_index)
    ignored = target == ignore_index
    spread = -(y if line is None else y * line).sum(dim).masked_fill(ignored, 0)
    loss = (1 - label_smoothing) * nll + label_smoothing / n * (spread if reduction == "none" else spread.sum())
    if reduction == "mean":
        kept = (~ignored).to(x.dtype)
        loss = (
            loss
            / (kept if weight is None else kept * weight.to(x.dtype).take(target.long().masked_fill(ignored, 0))).sum()
        )
    return loss


class CrossEntropy(Op):
    """loss = sum_c k_c (log s + m - x_c) per row, with m = max x and s = sum exp(x - m); saves m and 1 / s, no
    softmax."""

    autocast = Casts(cpu="float32", gpu="float32")

    def forward(
        self,
        x: Tensor,
        target: Tensor,
        weight: Tensor | None,
        reduction: str,
        ignore_index: int,
        label_smoothing: float,
    ) -> Tensor:
        self.options = (reduction, ignore_index, label_smoothing)
        loss, stats, total = core.cross_entropy_forward(x, target, weight, reduction, ignore_index, label_smoothing)
        self.save(x, target, weight, stats, total)
        return loss

    # dx_c = dy (p_c sum_d k_d - k_c), where k is one-hot or the probabilities, smoothed and weighted; a mean divides by
    # the weights of the rows that count. One pass writes it from x, m and s.
    def backward(self, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, target, weight, stats, total = self.saved
        needs = self.needs
        if recording() or needs[2]:
            return composite_of(
                lambda x, t, w: _cross_entropy_in_ordinary_ops(x, t, w, *self.options), (x, target, weight), dy, needs
            )
        return core.cross_entropy_backward(dy, x, target, weight, stats, total, *self.options, needs[1])


def cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """-log softmax(input)[target]: logits (C), (N, C) or (N, C, d1, ...) against class indices or class probabilities.

    Indices (whole numbers) have the input's shape without C; probabilities have the input's shape. `weight` (C) scales
    each class, rows of `ignore_index` count nothing, and `label_smoothing` mixes in that much of the uniform
    distribution. A mean divides by the sum of the weights of the targets (by the number of rows for probabilities).

    Raises ShapeError where the shapes do not fit, TypeError for wrong dtypes and IndexError for a class out of range.

    >>> gg.nn.functional.cross_entropy(gg.tensor([[0.0, 0.0]]), gg.tensor([1]))
    tensor(0.6931)
    """
    reduction = reduction_of("cross_entropy", size_average, reduce, reduction)
    return CrossEntropy.apply(input, target, weight, reduction, ignore_index, float(label_smoothing))


class NllLoss(Op):
    """loss = -w_t x_t per row."""

    autocast = Casts(cpu="float32", gpu="float32")

    def forward(self, x: Tensor, target: Tensor, weight: Tensor | None, reduction: str, ignore_index: int) -> Tensor:
        self.options = (reduction, ignore_index)
        loss, total = core.nll_loss_forward(x, target, weight, reduction, ignore_index)
        self.save(x, target, weight, total)
        return loss

    # dx_t = -w_t dy, over the sum of the weights for a mean, and 0 elsewhere.
    def backward(self, dy: Tensor) -> Any:
        x, target, weight, total = self.saved
        if recording():
            return composite_backward(
                lambda x: _nll_in_ordinary_ops(x, target, weight, *self.options), (x,), dy, self.needs
            )
        return core.nll_loss_backward(dy, x, target, weight, total, *self.options)


def nll_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """-weight[target] * input[target]: log-probabilities (C), (N, C) or (N, C, d1, ...) against class indices.

    A mean divides by the sum of the weights of the targets; rows of `ignore_index` count nothing. Raises ShapeError
    where the shapes do not fit, TypeError for wrong dtypes and IndexError for a class out of range.

    >>> gg.nn.functional.nll_loss(gg.tensor([[-0.5, -1.0]]), gg.tensor([1]))
    tensor(1.)
    """
    reduction = reduction_of("nll_loss", size_average, reduce, reduction)
    return NllLoss.apply(input, target, weight, reduction, ignore_index)
