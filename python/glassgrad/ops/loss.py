"""Losses. Cross-entropy and nll stand in ops/softmax.py.

A loss of input and target gives per-element values l, and `reduction` says what becomes of them: "mean", "sum" or
"none". Unlike PyTorch, none of them broadcasts input against target: a (32, 1) against (32,) is a ShapeError, not a
(32, 32) loss.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from glassgrad import _core as core
from glassgrad.amp import Casts
from glassgrad.autograd.graph import Op, composite_backward, recording
from glassgrad.ops.activation import logsigmoid
from glassgrad.ops.softmax import composite_of, described, reduced, reduction_of

if TYPE_CHECKING:
    from glassgrad.tensor import Tensor

__all__ = [
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "cosine_embedding_loss",
    "ctc_loss",
    "gaussian_nll_loss",
    "hinge_embedding_loss",
    "huber_loss",
    "kl_div",
    "l1_loss",
    "margin_ranking_loss",
    "mse_loss",
    "multi_margin_loss",
    "multilabel_margin_loss",
    "multilabel_soft_margin_loss",
    "poisson_nll_loss",
    "smooth_l1_loss",
    "soft_margin_loss",
    "triplet_margin_loss",
    "triplet_margin_with_distance_loss",
]


class PointwiseLoss(Op):
    """One kernel for l(x, t) and its sum, one for dl/dx; `formula` is l in ordinary ops, for higher orders."""

    autocast: ClassVar[Casts | None] = Casts(cpu="float32", gpu="float32")
    symmetric: ClassVar[bool] = False  # l depends on x - t alone, so dl/dt = -dl/dx

    @staticmethod
    def formula(x: Tensor, t: Tensor, parameter: float) -> Tensor:
        raise NotImplementedError

    def forward(self, x: Tensor, t: Tensor, reduction: str, parameter: float) -> Tensor:
        self.reduction, self.parameter = reduction, parameter
        self.save(x, t)
        return core.pointwise_loss_forward(self.name, x, t, parameter, reduction)

    # dx = dy l'(x), over the number of elements for a mean. The slopes stand beside the values in loss_cpu.cpp.
    def backward(self, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, t = self.saved
        needs = self.needs[:2]
        if recording() or (needs[1] and not self.symmetric):
            return composite_of(
                lambda x, t: reduced(self.formula(x, t, self.parameter), self.reduction), (x, t), dy, needs
            )
        each = iter(core.pointwise_loss_backward(self.name, dy, x, t, self.parameter, self.reduction, *needs))
        return tuple(next(each) if need else None for need in needs)


class MseLoss(PointwiseLoss):
    """l = (x - t)^2, slope 2 (x - t)."""

    name = "mse_loss"
    symmetric = True

    @staticmethod
    def formula(x: Tensor, t: Tensor, parameter: float) -> Tensor:
        return (x - t).square()


class L1Loss(PointwiseLoss):
    """l = |x - t|, slope sign(x - t), 0 where they are equal."""

    name = "l1_loss"
    symmetric = True

    @staticmethod
    def formula(x: Tensor, t: Tensor, parameter: float) -> Tensor:
        return (x - t).abs()


class SmoothL1Loss(PointwiseLoss):
    """l = d^2 / (2 beta) where |d| < beta, else |d| - beta / 2; slope d / beta, else sign(d)."""

    name = "smooth_l1_loss"
    symmetric = True

    @staticmethod
    def formula(x: Tensor, t: Tensor, parameter: float) -> Tensor:
        d = x - t
        a = d.abs()
        return (d * d * (0.5 / parameter)).where(a < parameter, a - 0.5 * parameter)


class HuberLoss(PointwiseLoss):
    """l = d^2 / 2 where |d| <= delta, else delta (|d| - delta / 2); slope d, cut to [-delta, delta]."""

    name = "huber_loss"
    symmetric = True

    @staticmethod
    def formula(x: Tensor, t: Tensor, parameter: float) -> Tensor:
        d = x - t
        a = d.abs()
        return (d * d * 0.5).where(a <= parameter, parameter * (a - 0.5 * parameter))


class BinaryCrossEntropy(PointwiseLoss):
    """l = -t log x - (1 - t) log(1 - x), logarithms not below -100; slope (x - t) / max(x (1 - x), 1e-12)."""

    name = "binary_cross_entropy"
    autocast = Casts(cpu="float32", gpu="refused")

    @staticmethod
    def formula(x: Tensor, t: Tensor, parameter: float) -> Tensor:
        return (t - 1) * (-x).log1p().clamp(min=-100) - t * x.log().clamp(min=-100)


class BinaryCrossEntropyWithLogits(PointwiseLoss):
    """l = max(x, 0) - x t + log(1 + exp(-|x|)), slope sigmoid(x) - t."""

    name = "binary_cross_entropy_with_logits"

    @staticmethod
    def formula(x: Tensor, t: Tensor, parameter: float) -> Tensor:
        return (1 - t) * x - logsigmoid(x)


class SoftMarginLoss(PointwiseLoss):
    """l = log(1 + exp(-t x)), slope -t sigmoid(-t x)."""

    name = "soft_margin_loss"

    @staticmethod
    def formula(x: Tensor, t: Tensor, parameter: float) -> Tensor:
        return -logsigmoid(t * x)


class KlDiv(PointwiseLoss):
    """l = t log t - t x, slope -t."""

    name = "kl_div"

    @staticmethod
    def formula(x: Tensor, t: Tensor, parameter: float) -> Tensor:
        return t.xlogy(t) - t * x


class KlDivLog(PointwiseLoss):
    """l = exp(t) (t - x), slope -exp(t)."""

    name = "kl_div_log"

    @staticmethod
    def formula(x: Tensor, t: Tensor, parameter: float) -> Tensor:
        return t.exp() * (t - x)


class PoissonNll(PointwiseLoss):
    """l = exp(x) - t x, slope exp(x) - t."""

    name = "poisson_nll_loss"

    @staticmethod
    def formula(x: Tensor, t: Tensor, parameter: float) -> Tensor:
        return x.exp() - t * x


def _pointwise(
    kind: type[PointwiseLoss], x: Tensor, t: Tensor, reduction: str, parameter: float = 0.0, op: str = ""
) -> Tensor:
    core.check_loss_shapes(op or kind.name, x, t)
    if x.dtype is not t.dtype:
        dtype = core.result_type(x, t)
        x, t = x.to(dtype), t.to(dtype)
    return kind.apply(x, t, reduction, float(parameter))


def _check_weight(op: str, weight: Tensor, input: Tensor) -> None:
    if weight.shape != input.shape:
        raise core.ShapeError(
            f"{op}: input {described(input)} and weight {described(weight)}: a weight of the input's shape would fit"
        )


def _weighted(kind: type[PointwiseLoss], x: Tensor, t: Tensor, weight: Tensor | None, reduction: str) -> Tensor:
    """With a weight for each element, by the sum of which a mean is divided."""
    if weight is None:
        return _pointwise(kind, x, t, reduction)
    _check_weight(kind.name, weight, x)
    losses = _pointwise(kind, x, t, "none") * weight
    return losses.sum() / weight.sum() if reduction == "mean" else reduced(losses, reduction)


def mse_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    weight: Tensor | None = None,
) -> Tensor:
    """(x - t)^2; shapes must be equal. With `weight`, of the same shape, a mean divides by its sum.

    >>> gg.nn.functional.mse_loss(gg.tensor([1.0, 2.0]), gg.tensor([1.0, 4.0]))
    tensor(2.)
    """
    return _weighted(MseLoss, input, target, weight, reduction_of("mse_loss", size_average, reduce, reduction))


def l1_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    weight: Tensor | None = None,
) -> Tensor:
    """|x - t|; shapes must be equal. With `weight`, of the same shape, a mean divides by its sum.

    >>> gg.nn.functional.l1_loss(gg.tensor([1.0, 2.0]), gg.tensor([1.0, 4.0]))
    tensor(1.)
    """
    return _weighted(L1Loss, input, target, weight, reduction_of("l1_loss", size_average, reduce, reduction))


def smooth_l1_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    beta: float = 1.0,
) -> Tensor:
    """d^2 / (2 beta) where |d| = |x - t| < beta, else |d| - beta / 2; shapes must be equal. (Girshick, 2015.)

    Raises ValueError for a negative beta.

    >>> gg.nn.functional.smooth_l1_loss(gg.tensor([1.0, 4.0]), gg.tensor([0.0, 0.0]), reduction="none")
    tensor([0.5000, 3.5000])
    """
    if beta < 0:
        raise ValueError(f"smooth_l1_loss: beta is {beta}; it must not be negative")
    reduction = reduction_of("smooth_l1_loss", size_average, reduce, reduction)
    return _pointwise(L1Loss if beta == 0 else SmoothL1Loss, input, target, reduction, beta)


def huber_loss(
    input: Tensor, target: Tensor, reduction: str = "mean", delta: float = 1.0, weight: Tensor | None = None
) -> Tensor:
    """d^2 / 2 where |d| = |x - t| <= delta, else delta (|d| - delta / 2); shapes must be equal. (Huber, 1964.)

    Raises ValueError for a delta that is not positive.

    >>> gg.nn.functional.huber_loss(gg.tensor([1.0, 4.0]), gg.tensor([0.0, 0.0]), reduction="none")
    tensor([0.5000, 3.5000])
    """
    if delta <= 0:
        raise ValueError(f"huber_loss: delta is {delta}; it must be positive")
    reduction = reduction_of("huber_loss", None, None, reduction)
    if weight is None:
        return _pointwise(HuberLoss, input, target, reduction, delta)
    _check_weight("huber_loss", weight, input)
    return reduced(_pointwise(HuberLoss, input, target, "none", delta) * weight, reduction)


def binary_cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """-t log x - (1 - t) log(1 - x) for probabilities in [0, 1], logarithms not below -100; `weight` broadcasts.

    Raises ShapeError where shapes differ and ValueError for a value outside [0, 1].

    >>> gg.nn.functional.binary_cross_entropy(gg.tensor([0.5]), gg.tensor([1.0]))
    tensor(0.6931)
    """
    reduction = reduction_of("binary_cross_entropy", size_average, reduce, reduction)
    if weight is None:
        return _pointwise(BinaryCrossEntropy, input, target, reduction)
    return reduced(_pointwise(BinaryCrossEntropy, input, target, "none") * weight, reduction)


def binary_cross_entropy_with_logits(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    pos_weight: Tensor | None = None,
) -> Tensor:
    """binary_cross_entropy(sigmoid(x), t) without its overflow; `pos_weight` scales the positive term, both weights
    broadcast.

    Raises ShapeError where the shapes of input and target differ.

    >>> gg.nn.functional.binary_cross_entropy_with_logits(gg.tensor([0.0]), gg.tensor([1.0]))
    tensor(0.6931)
    """
    reduction = reduction_of("binary_cross_entropy_with_logits", size_average, reduce, reduction)
    if pos_weight is None:
        if weight is None:
            return _pointwise(BinaryCrossEntropyWithLogits, input, target, reduction)
        return reduced(_pointwise(BinaryCrossEntropyWithLogits, input, target, "none") * weight, reduction)
    core.check_loss_shapes("binary_cross_entropy_with_logits", input, target)
    losses = _cross_entropy_with_pos_weight(input, target, pos_weight)
    return reduced(losses if weight is None else losses * weight, reduction)


@Casts(cpu="float32", gpu="float32")
def _cross_entropy_with_pos_weight(x: Tensor, t: Tensor, w: Tensor) -> Tensor:
    return (1 - t) * x - ((w - 1) * t + 1) * logsigmoid(x)


def kl_div(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    log_target: bool = False,
) -> Tensor:
    """t (log t - x) for log-probabilities x and probabilities t (log-probabilities where `log_target`).

    `reduction` "batchmean" divides the sum by the first size, which is what the divergence is; "mean" divides by all
    elements. Raises ShapeError where shapes differ.

    >>> gg.nn.functional.kl_div(gg.tensor([[-0.6931, -0.6931]]), gg.tensor([[1.0, 0.0]]), reduction="batchmean")
    tensor(0.6931)
    """
    kind = KlDivLog if log_target else KlDiv
    if reduction == "batchmean" and size_average is None and reduce is None:
        loss = _pointwise(kind, input, target, "sum", op="kl_div")
        return loss / input.shape[0] if input.ndim else loss
    return _pointwise(kind, input, target, reduction_of("kl_div", size_average, reduce, reduction), op="kl_div")


@Casts(cpu="float32", gpu="float32")
def poisson_nll_loss(
    input: Tensor,
    target: Tensor,
    log_input: bool = True,
    full: bool = False,
    size_average: bool | None = None,
    eps: float = 1e-8,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """exp(x) - t x, or x - t log(x + eps) without `log_input`; `full` adds Stirling's log t! where t > 1.

    Raises ShapeError where shapes differ.

    >>> gg.nn.functional.poisson_nll_loss(gg.tensor([0.0]), gg.tensor([2.0]))
    tensor(1.)
    """
    reduction = reduction_of("poisson_nll_loss", size_average, reduce, reduction)
    core.check_loss_shapes("poisson_nll_loss", input, target)
    if log_input and not full and input.dtype.is_floating_point:
        return _pointwise(PoissonNll, input, target, reduction)
    losses = input.exp() - target * input if log_input else input - target * (input + eps).log()
    if full:
        stirling = target * target.log() - target + 0.5 * (2 * math.pi * target).log()
        losses = losses + stirling.masked_fill(target <= 1, 0)
    return reduced(losses, reduction)


def gaussian_nll_loss(
    input: Tensor,
    target: Tensor,
    var: Tensor | float,
    full: bool = False,
    eps: float = 1e-6,
    reduction: str = "mean",
) -> Tensor:
    """(log v + (x - t)^2 / v) / 2 with v = max(var, eps); `full` adds log(2 pi) / 2. (Nix and Weigend, 1994.)

    Sizes 1 of input and target are repeated, which PyTorch documents for this loss alone. `var` has the input's shape,
    or lacks the last axis, or has one size 1 where the input has more. The bound eps is out of the gradient's sight.
    Raises ShapeError where shapes do not fit and ValueError for a negative variance.

    >>> gg.nn.functional.gaussian_nll_loss(gg.tensor([1.0]), gg.tensor([2.0]), gg.tensor([1.0]))
    tensor(0.5000)
    """
    reduction = reduction_of("gaussian_nll_loss", None, None, reduction)
    if input.ndim != target.ndim or any(x != t and 1 not in (x, t) for x, t in zip(input.shape, target.shape)):
        core.check_loss_shapes("gaussian_nll_loss", input, target)
    if not isinstance(var, core.TensorBase):
        var = input.detach() * 0 + var
    if bool((var < 0).any()):
        raise ValueError("gaussian_nll_loss: var has a negative entry")
    if var.shape != input.shape:
        if input.shape[:-1] == var.shape:
            var = var.unsqueeze(-1)
        elif var.ndim != input.ndim or sum(v for x, v in zip(input.shape, var.shape) if x != v) != 1:
            raise core.ShapeError(
                f"gaussian_nll_loss: input {described(input)} and var {described(var)}: var "
                "has the input's shape, or lacks the last axis, or has one size 1 in place of another"
            )
    seen = var.detach()
    v = var + (seen.clamp(min=eps) - seen)
    losses = 0.5 * (v.log() + (input - target).square() / v)
    return reduced(losses + 0.5 * math.log(2 * math.pi) if full else losses, reduction)


@Casts(cpu="float32", gpu="float32")
def hinge_embedding_loss(
    input: Tensor,
    target: Tensor,
    margin: float = 1.0,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """x where t = 1, max(0, margin - x) where t = -1; shapes must be equal.

    >>> gg.nn.functional.hinge_embedding_loss(gg.tensor([0.5, 0.25]), gg.tensor([1.0, -1.0]), reduction="none")
    tensor([0.5000, 0.7500])
    """
    core.check_loss_shapes("hinge_embedding_loss", input, target)
    far = (margin - input).clamp(min=0).masked_fill(target == 1, 0)
    near = input.masked_fill(target == -1, 0)
    return reduced(far + near, reduction_of("hinge_embedding_loss", size_average, reduce, reduction))


def soft_margin_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """log(1 + exp(-t x)) with t = 1 or -1; shapes must be equal.

    >>> gg.nn.functional.soft_margin_loss(gg.tensor([0.0]), gg.tensor([1.0]))
    tensor(0.6931)
    """
    reduction = reduction_of("soft_margin_loss", size_average, reduce, reduction)
    return _pointwise(SoftMarginLoss, input, target, reduction)


@Casts(cpu="float32", gpu="float32")
def margin_ranking_loss(
    input1: Tensor,
    input2: Tensor,
    target: Tensor,
    margin: float = 0,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """max(0, -t (x1 - x2) + margin) with t = 1 where x1 should rank higher, -1 where x2; shapes must be equal.

    >>> gg.nn.functional.margin_ranking_loss(gg.tensor([1.0]), gg.tensor([3.0]), gg.tensor([1.0]))
    tensor(2.)
    """
    core.check_loss_shapes("margin_ranking_loss", input1, input2)
    core.check_loss_shapes("margin_ranking_loss", input1, target)
    losses = (-target * (input1 - input2) + margin).clamp(min=0)
    return reduced(losses, reduction_of("margin_ranking_loss", size_average, reduce, reduction))


@Casts(cpu="float32", gpu="float32")
def cosine_embedding_loss(
    input1: Tensor,
    input2: Tensor,
    target: Tensor,
    margin: float = 0,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """1 - cos(x1, x2) where t = 1, max(0, cos(x1, x2) - margin) where t = -1; inputs (N, D) or (D), target (N) or ().

    Raises ShapeError where shapes do not fit.

    >>> gg.nn.functional.cosine_embedding_loss(gg.tensor([[1.0, 0.0]]), gg.tensor([[0.0, 1.0]]), gg.tensor([1.0]))
    tensor(1.)
    """
    op = "cosine_embedding_loss"
    core.check_loss_shapes(op, input1, input2)
    if target.ndim > 1 or input1.shape[:-1] != target.shape or input1.ndim == 0:
        raise core.ShapeError(
            f"{op}: inputs {described(input1)} and target {described(target)}: inputs (N, D) "
            "and target (N), or inputs (D) and a target of no axes, would fit"
        )
    tiny = 1e-12
    squares = ((input1 * input1).sum(-1) + tiny) * ((input2 * input2).sum(-1) + tiny)
    cosine = (input1 * input2).sum(-1) / squares.sqrt()
    near = (1 - cosine).masked_fill(target != 1, 0)
    far = (cosine - margin).clamp(min=0).masked_fill(target != -1, 0)
    return reduced(near + far, reduction_of(op, size_average, reduce, reduction))


@Casts(cpu="float32", gpu="float32")
def triplet_margin_loss(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    margin: float = 1.0,
    p: float = 2,
    eps: float = 1e-6,
    swap: bool = False,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """max(0, d(anchor, positive) - d(anchor, negative) + margin), d the p-distance along the last axis.

    `swap` takes d(positive, negative) where that is less than d(anchor, negative) (Balntas et al., 2016). Raises
    ShapeError where the three have different numbers of axes and ValueError for a margin that is not positive.

    >>> a = gg.zeros(1, 2)
    >>> gg.nn.functional.triplet_margin_loss(a, a, gg.tensor([[3.0, 4.0]]), margin=6.0)
    tensor(1.0000)
    """
    from glassgrad.ops.norm import pairwise_distance

    if margin <= 0:
        raise ValueError(f"triplet_margin_loss: margin is {margin}; it must be greater than 0")
    reduction = reduction_of("triplet_margin_loss", size_average, reduce, reduction)

    def distance(a: Tensor, b: Tensor) -> Tensor:
        return pairwise_distance(a, b, p, eps)

    return _triplet("triplet_margin_loss", anchor, positive, negative, distance, margin, swap, reduction)


def triplet_margin_with_distance_loss(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    *,
    distance_function: Callable[[Tensor, Tensor], Tensor] | None = None,
    margin: float = 1.0,
    swap: bool = False,
    reduction: str = "mean",
) -> Tensor:
    """max(0, d(anchor, positive) - d(anchor, negative) + margin) with any distance function d, pairwise_distance
    unless given.

    Raises ValueError for a margin that is not positive.

    >>> a = gg.zeros(1, 2)
    >>> gg.nn.functional.triplet_margin_with_distance_loss(
    ...     a, a, gg.ones(1, 2), distance_function=lambda x, y: (x - y).abs().sum(-1), margin=3.0)
    tensor(1.)
    """
    from glassgrad.ops.norm import pairwise_distance

    op = "triplet_margin_with_distance_loss"
    if margin <= 0:
        raise ValueError(f"{op}: margin is {margin}; it must be greater than 0")
    reduction = reduction_of(op, None, None, reduction)
    return _triplet(op, anchor, positive, negative, distance_function or pairwise_distance, margin, swap, reduction)


def _triplet(
    op: str,
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    distance: Callable[[Tensor, Tensor], Tensor],
    margin: float,
    swap: bool,
    reduction: str,
) -> Tensor:
    if not anchor.ndim == positive.ndim == negative.ndim:
        raise core.ShapeError(
            f"{op}: anchor {described(anchor)}, positive {described(positive)} and negative {described(negative)}: "
            "equal numbers of axes would fit"
        )
    near, far = distance(anchor, positive), distance(anchor, negative)
    if swap:
        far = far.minimum(distance(positive, negative))
    return reduced((near - far + margin).clamp(min=0), reduction)


@Casts(cpu="float32", gpu="float32")
def multi_margin_loss(
    input: Tensor,
    target: Tensor,
    p: int = 1,
    margin: float = 1.0,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """sum over c != t of w_t max(0, margin - x_t + x_c)^p, over C; input (N, C) or (C), class indices (N) or (), p 1
    or 2.

    Raises ShapeError where shapes do not fit, IndexError for a class out of range and ValueError for another p.

    >>> gg.nn.functional.multi_margin_loss(gg.tensor([[0.1, 0.2, 0.4]]), gg.tensor([2]))
    tensor(0.5000)
    """
    op = "multi_margin_loss"
    if p not in (1, 2):
        raise ValueError(f"{op}: p is {p}; it must be 1 or 2")
    reduction = reduction_of(op, size_average, reduce, reduction)
    classes = _classes(op, input, target)
    n = input.shape[-1] if input.ndim else 1
    if weight is not None and tuple(weight.shape) != (n,):
        raise core.ShapeError(f"{op}: input {described(input)} and weight {described(weight)}: weight ({n},) would fit")
    rows = input.reshape((-1, n))
    own = classes.reshape((-1, 1))
    excess = (margin - rows.gather(1, own) + rows).clamp(min=0)
    excess = excess if p == 1 else excess * excess
    if weight is not None:
        excess = excess * weight.take(own)
    losses = excess.masked_fill(_is_class(own, n), 0).sum(1) / n
    return reduced(losses.reshape(target.shape if input.ndim == 2 else ()), reduction)


def _classes(op: str, input: Tensor, target: Tensor) -> Tensor:
    rows = input.shape[0] if input.ndim == 2 else 1
    if input.ndim > 2 or 0 in input.shape[-1:] or target.ndim > 1 or target.numel() != rows:
        raise core.ShapeError(
            f"{op}: input {described(input)} and target {described(target)}: input (N, C) and "
            "target (N), or input (C) and a target of no axes, would fit"
        )
    if target.dtype.is_floating_point or target.dtype is core.bool:
        raise TypeError(f"{op}: target {described(target)}: class indices (int64) are needed")
    _check_classes(op, target, 0, input.shape[-1] if input.ndim else 1)
    return target.long()


def _check_classes(op: str, target: Tensor, low: int, classes: int) -> None:
    if target.numel() and bool(((target < low) | (target >= classes)).any()):
        raise IndexError(f"{op}: target {described(target)} holds a class outside {low} to {classes - 1}")


def _is_class(own: Tensor, n: int) -> Tensor:
    """(rows, n) bool: which column is the row's own class."""
    from glassgrad.ops.creation import arange

    return arange(n, device=own.device) == own


@Casts(cpu="float32", gpu="float32")
def multilabel_margin_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """sum over labels j and other classes c of max(0, 1 - x_j + x_c), over C; shapes (N, C) or (C).

    A row of target lists its classes, then -1. Raises ShapeError where shapes do not fit and IndexError for a class
    out of range.

    >>> gg.nn.functional.multilabel_margin_loss(gg.tensor([[0.0, 1.0]]), gg.tensor([[0, -1]]))
    tensor(1.)
    """
    op = "multilabel_margin_loss"
    core.check_loss_shapes(op, input, target)
    reduction = reduction_of(op, size_average, reduce, reduction)
    if input.ndim > 2:
        raise core.ShapeError(f"{op}: input {described(input)}: (N, C) or (C) is needed")
    if target.dtype.is_floating_point or target.dtype is core.bool:
        raise TypeError(f"{op}: target {described(target)}: class indices (int64) are needed")
    n = input.shape[-1] if input.ndim else 1
    _check_classes(op, target, -1, n)
    rows, labels = input.reshape((-1, n)), target.long().reshape((-1, n))
    listed = (labels < 0).to(core.int64).cumsum(1) == 0  # up to the first -1
    classes = labels.masked_fill(~listed, 0)
    is_label = labels.new_zeros(rows.shape).scatter_add(1, classes, listed.to(core.int64)) > 0
    excess = (1 - rows.gather(1, classes).unsqueeze(2) + rows.unsqueeze(1)).clamp(min=0)
    excess = excess.masked_fill(~listed.unsqueeze(2) | is_label.unsqueeze(1), 0)
    losses = excess.sum((1, 2)) / n
    return reduced(losses.reshape(input.shape[:-1]), reduction)


@Casts(cpu="widest", gpu="float32")
def multilabel_soft_margin_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """-(t log sigmoid(x) + (1 - t) log sigmoid(-x)), averaged over the last axis; `weight` broadcasts.

    Raises ShapeError where the shapes of input and target differ.

    >>> gg.nn.functional.multilabel_soft_margin_loss(gg.tensor([[0.0, 0.0]]), gg.tensor([[1.0, 0.0]]))
    tensor(0.6931)
    """
    reduction = reduction_of("multilabel_soft_margin_loss", size_average, reduce, reduction)
    losses = _pointwise(BinaryCrossEntropyWithLogits, input, target, "none", op="multilabel_soft_margin_loss")
    if weight is not None:
        losses = losses * weight
    return reduced(losses.sum(-1) / input.shape[-1], reduction)


class CtcLoss(Op):
    """-log of the probability of all paths of length T that spell the labels; saves alpha, the sums over path
    beginnings."""

    def forward(
        self, log_probs: Tensor, targets: Tensor, inputs: list[int], lengths: list[int], blank: int, zero_infinity: bool
    ) -> Tensor:
        self.options = (targets, inputs, lengths, blank)
        self.zero_infinity = zero_infinity
        losses, alpha = core.ctc_loss_forward(log_probs, targets, inputs, lengths, blank)
        self.save(log_probs, losses, alpha)
        return losses

    # With G_tc = log of the sum of the paths that emit c at t, d loss / d log p_tc = -exp(G_tc + loss). As in PyTorch
    # exp(log p_tc) is added, which makes it the gradient by the logits that log_softmax got; its backward passes that
    # on unchanged.
    def backward(self, dy: Tensor) -> Any:
        x, losses, alpha = self.saved
        if recording():
            (dx,) = composite_backward(lambda x: _ctc_in_ordinary_ops(x, *self.options), (x,), dy)
            if dx is None:
                return None
            finite = (losses < math.inf).to(x.dtype) if self.zero_infinity else losses * 0 + 1
            steps = [[float(t < n) for n in self.options[1]] for t in range(x.shape[0])]
            return (dx + x.exp() * dy.reshape((1, -1, 1)) * x.new_tensor(steps).unsqueeze(2)) * finite.reshape(
                (1, -1, 1)
            )
        return core.ctc_loss_backward(dy, x, *self.options, alpha, self.zero_infinity)


def _ctc_in_ordinary_ops(x: Tensor, targets: Tensor, inputs: list[int], lengths: list[int], blank: int) -> Tensor:
    """The forward recursion over states blank, label 1, blank, ... in log space, one sequence after another."""
    from glassgrad.ops.layout import cat, stack

    impossible = -1e30  # finite, so that the gradient of logsumexp stays finite where no path leads
    losses, at = [], 0
    for n, (steps, length) in enumerate(zip(inputs, lengths)):
        labels = (targets[n, :length] if targets.ndim == 2 else targets[at : at + length]).tolist()
        at += length
        symbols = [blank] * (2 * length + 1)
        symbols[1::2] = labels
        if steps == 0:
            losses.append(x.new_tensor(0.0 if length == 0 else math.inf))
            continue
        log_p = x[:steps, n].index_select(1, x.new_tensor(symbols, dtype=core.int64))
        skips = [s % 2 == 1 and s >= 3 and symbols[s] != symbols[s - 2] for s in range(len(symbols))]
        closed = x.new_tensor([0.0 if skip else impossible for skip in skips])
        pad = x.new_tensor([impossible, impossible])
        alpha = log_p[0] + x.new_tensor([0.0 if s < 2 else impossible for s in range(len(symbols))])
        for t in range(1, steps):
            late = cat([pad, alpha])
            alpha = log_p[t] + stack([alpha, late[1:-1], late[:-2] + closed]).logsumexp(0)
        losses.append(-(alpha[-2:] if length else alpha).logsumexp(0))
    return stack(losses)


@Casts(cpu="float32")
def ctc_loss(
    log_probs: Tensor,
    targets: Tensor,
    input_lengths: Tensor | Sequence[int],
    target_lengths: Tensor | Sequence[int],
    blank: int = 0,
    reduction: str = "mean",
    zero_infinity: bool = False,
) -> Tensor:
    """Connectionist temporal classification: -log of the probability that log_probs (T, N, C) spells the targets.

    targets are (N, S) padded or one row of all labels; a loss is summed over all alignments, in which equal neighbours
    merge and `blank` vanishes. A mean divides each loss by its target length first. `zero_infinity` makes losses of
    targets that do not fit their input 0. log_probs (T, C) is one sequence. They must come from log_softmax, as in
    PyTorch: the gradient is the one for logits. Raises ShapeError, ValueError and IndexError for sizes, lengths and
    labels that do not fit. (Graves et al., 2006.)

    >>> x = gg.zeros(2, 1, 2).log_softmax(2)
    >>> gg.nn.functional.ctc_loss(x, gg.tensor([[1]]), [2], [1])
    tensor(0.2877)
    """
    reduction = reduction_of("ctc_loss", None, None, reduction)
    single = log_probs.ndim == 2
    if single:
        log_probs = log_probs.unsqueeze(1)
        targets = targets.reshape((1, -1)) if targets.ndim < 2 else targets
    inputs, lengths = _lengths("input_lengths", input_lengths), _lengths("target_lengths", target_lengths)
    half = log_probs.dtype.is_floating_point and log_probs.itemsize == 2
    losses = CtcLoss.apply(log_probs.float() if half else log_probs, targets, inputs, lengths, blank, zero_infinity)
    if half:
        losses = losses.to(log_probs.dtype)
    if zero_infinity:
        losses = losses.masked_fill(losses == math.inf, 0)
    if reduction == "mean":
        return (losses / losses.new_tensor([float(max(n, 1)) for n in lengths])).mean()
    losses = losses.squeeze(0) if single else losses
    return reduced(losses, reduction)


def _lengths(name: str, lengths: Tensor | Sequence[int]) -> list[int]:
    if isinstance(lengths, core.TensorBase):
        if lengths.dtype.is_floating_point:
            raise TypeError(f"ctc_loss: {name} must be whole numbers, not {lengths.dtype}")
        lengths = lengths.reshape(-1).tolist()
    return [int(n) for n in lengths]
