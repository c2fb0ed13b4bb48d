"""Losses as layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from glassgrad.nn import functional as F
from glassgrad.nn._wrap import FunctionLayer
from glassgrad.nn.module import Module

if TYPE_CHECKING:
    from glassgrad.tensor import Tensor

__all__ = [
    "BCELoss", "BCEWithLogitsLoss", "CTCLoss", "CosineEmbeddingLoss", "CrossEntropyLoss", "GaussianNLLLoss",
    "HingeEmbeddingLoss", "HuberLoss", "KLDivLoss", "L1Loss", "MSELoss", "MarginRankingLoss",
    "MultiLabelMarginLoss", "MultiLabelSoftMarginLoss", "MultiMarginLoss", "NLLLoss", "PoissonNLLLoss",
    "SmoothL1Loss", "SoftMarginLoss", "TripletMarginLoss", "TripletMarginWithDistanceLoss",
]  # fmt: skip


class L1Loss(FunctionLayer):
    """Mean of |x - y|.

    >>> gg.nn.L1Loss()(gg.zeros(2), gg.ones(2))
    tensor(1.)
    """

    function = staticmethod(F.l1_loss)

    def __init__(self, reduction: str = "mean") -> None:
        super().__init__(reduction=reduction)


class MSELoss(FunctionLayer):
    """Mean of (x - y)².

    >>> gg.nn.MSELoss()(gg.zeros(2), gg.ones(2))
    tensor(1.)
    """

    function = staticmethod(F.mse_loss)

    def __init__(self, reduction: str = "mean") -> None:
        super().__init__(reduction=reduction)


class SmoothL1Loss(FunctionLayer):
    """Quadratic below beta, absolute above.

    >>> gg.nn.SmoothL1Loss()(gg.zeros(2), gg.ones(2))
    tensor(0.5000)
    """

    function = staticmethod(F.smooth_l1_loss)

    def __init__(self, reduction: str = "mean", beta: float = 1.0) -> None:
        super().__init__(reduction=reduction, beta=beta)


class HuberLoss(FunctionLayer):
    """Quadratic below delta, delta times absolute above (Huber 1964).

    >>> gg.nn.HuberLoss()(gg.zeros(2), gg.ones(2))
    tensor(0.5000)
    """

    function = staticmethod(F.huber_loss)

    def __init__(self, reduction: str = "mean", delta: float = 1.0) -> None:
        super().__init__(reduction=reduction, delta=delta)


class KLDivLoss(FunctionLayer):
    """Mean of y (log y - x), x being log-probabilities; 'batchmean' divides by the batch.

    >>> gg.nn.KLDivLoss(reduction='sum')(gg.zeros(2), gg.ones(2))
    tensor(0.)
    """

    function = staticmethod(F.kl_div)

    def __init__(self, reduction: str = "mean", log_target: bool = False) -> None:
        super().__init__(reduction=reduction, log_target=log_target)


class PoissonNLLLoss(FunctionLayer):
    """Negative log-likelihood of Poisson counts; log_input says that the input is the log of the rate.

    >>> gg.nn.PoissonNLLLoss()(gg.zeros(2), gg.ones(2))
    tensor(1.)
    """

    function = staticmethod(F.poisson_nll_loss)

    def __init__(self, log_input: bool = True, full: bool = False, eps: float = 1e-8, reduction: str = "mean") -> None:
        super().__init__(log_input=log_input, full=full, eps=eps, reduction=reduction)


class GaussianNLLLoss(FunctionLayer):
    """Negative log-likelihood of a normal with mean input and variance var.

    >>> gg.nn.GaussianNLLLoss()(gg.zeros(2), gg.ones(2), gg.ones(2))
    tensor(0.5000)
    """

    function = staticmethod(F.gaussian_nll_loss)

    def __init__(self, *, full: bool = False, eps: float = 1e-6, reduction: str = "mean") -> None:
        super().__init__(full=full, eps=eps, reduction=reduction)


class HingeEmbeddingLoss(FunctionLayer):
    """x where y is 1, max(0, margin - x) where y is -1.

    >>> gg.nn.HingeEmbeddingLoss()(gg.ones(2), gg.ones(2))
    tensor(1.)
    """

    function = staticmethod(F.hinge_embedding_loss)

    def __init__(self, margin: float = 1.0, reduction: str = "mean") -> None:
        super().__init__(margin=margin, reduction=reduction)


class MarginRankingLoss(FunctionLayer):
    """max(0, -y (x1 - x2) + margin).

    >>> gg.nn.MarginRankingLoss()(gg.zeros(2), gg.ones(2), gg.ones(2))
    tensor(1.)
    """

    function = staticmethod(F.margin_ranking_loss)

    def __init__(self, margin: float = 0.0, reduction: str = "mean") -> None:
        super().__init__(margin=margin, reduction=reduction)


class CosineEmbeddingLoss(FunctionLayer):
    """1 - cos(x1, x2) where y is 1, max(0, cos - margin) where it is -1.

    >>> gg.nn.CosineEmbeddingLoss()(gg.ones(1, 2), -gg.ones(1, 2), gg.ones(1))
    tensor(2.)
    """

    function = staticmethod(F.cosine_embedding_loss)

    def __init__(self, margin: float = 0.0, reduction: str = "mean") -> None:
        super().__init__(margin=margin, reduction=reduction)


class TripletMarginLoss(FunctionLayer):
    """max(0, d(anchor, positive) - d(anchor, negative) + margin).

    >>> gg.nn.TripletMarginLoss()(gg.zeros(1, 2), gg.zeros(1, 2), gg.zeros(1, 2))
    tensor(1.)
    """

    function = staticmethod(F.triplet_margin_loss)

    def __init__(
        self, margin: float = 1.0, p: float = 2.0, eps: float = 1e-6, swap: bool = False, reduction: str = "mean"
    ) -> None:
        super().__init__(margin=margin, p=p, eps=eps, swap=swap, reduction=reduction)


class SoftMarginLoss(FunctionLayer):
    """Mean of log(1 + exp(-y x)).

    >>> gg.nn.SoftMarginLoss()(gg.zeros(2), gg.ones(2))
    tensor(0.6931)
    """

    function = staticmethod(F.soft_margin_loss)

    def __init__(self, reduction: str = "mean") -> None:
        super().__init__(reduction=reduction)


class MultiLabelMarginLoss(FunctionLayer):
    """Multi-class multi-label hinge loss; targets end at -1.

    >>> gg.nn.MultiLabelMarginLoss()(gg.zeros(1, 2), gg.tensor([[0, -1]]))
    tensor(0.5000)
    """

    function = staticmethod(F.multilabel_margin_loss)

    def __init__(self, reduction: str = "mean") -> None:
        super().__init__(reduction=reduction)


class _Weighted(Module):
    """A loss with a weight tensor, which is part of the state."""

    weight: Tensor | None

    def __init__(self, weight: Tensor | None, reduction: str) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.reduction = reduction


class NLLLoss(_Weighted):
    """Negative log-likelihood: -x[target], x being log-probabilities (N, C, ...), weighted by class.

    >>> gg.nn.NLLLoss()(gg.tensor([[-1.0, -2.0]]), gg.tensor([1]))
    tensor(2.)
    """

    def __init__(self, weight: Tensor | None = None, ignore_index: int = -100, reduction: str = "mean") -> None:
        super().__init__(weight, reduction)
        self.ignore_index = ignore_index

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.nll_loss(input, target, weight=self.weight, ignore_index=self.ignore_index, reduction=self.reduction)


class CrossEntropyLoss(_Weighted):
    """Cross-entropy of logits (N, C, ...) with class indices (N, ...) or probabilities (N, C, ...).

    >>> gg.nn.CrossEntropyLoss()(gg.zeros(1, 2), gg.tensor([1]))
    tensor(0.6931)
    """

    def __init__(
        self,
        weight: Tensor | None = None,
        ignore_index: int = -100,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(weight, reduction)
        self.ignore_index, self.label_smoothing = ignore_index, label_smoothing

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(
            input,
            target,
            weight=self.weight,
            ignore_index=self.ignore_index,
            reduction=self.reduction,
            label_smoothing=self.label_smoothing,
        )


class BCELoss(_Weighted):
    """Binary cross-entropy of probabilities.

    >>> gg.nn.BCELoss()(gg.tensor([0.5]), gg.tensor([1.0]))
    tensor(0.6931)
    """

    def __init__(self, weight: Tensor | None = None, reduction: str = "mean") -> None:
        super().__init__(weight, reduction)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.binary_cross_entropy(input, target, weight=self.weight, reduction=self.reduction)


class BCEWithLogitsLoss(_Weighted):
    """Binary cross-entropy of logits, computed without overflow; pos_weight weighs the positive class.

    >>> gg.nn.BCEWithLogitsLoss()(gg.tensor([0.0]), gg.tensor([1.0]))
    tensor(0.6931)
    """

    pos_weight: Tensor | None

    def __init__(self, weight: Tensor | None = None, reduction: str = "mean", pos_weight: Tensor | None = None) -> None:
        super().__init__(weight, reduction)
        self.register_buffer("pos_weight", pos_weight)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(
            input, target, weight=self.weight, reduction=self.reduction, pos_weight=self.pos_weight
        )


class MultiMarginLoss(_Weighted):
    """Multi-class hinge loss: sum_j max(0, margin - x[y] + x[j])^p / C.

    >>> gg.nn.MultiMarginLoss()(gg.zeros(1, 2), gg.tensor([0]))
    tensor(0.5000)
    """

    def __init__(self, p: int = 1, margin: float = 1.0, weight: Tensor | None = None, reduction: str = "mean") -> None:
        super().__init__(weight, reduction)
        self.p, self.margin = p, margin

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.multi_margin_loss(
            input, target, p=self.p, margin=self.margin, weight=self.weight, reduction=self.reduction
        )


class MultiLabelSoftMarginLoss(_Weighted):
    """Mean over classes of the binary cross-entropy of logits.

    >>> gg.nn.MultiLabelSoftMarginLoss()(gg.zeros(1, 2), gg.ones(1, 2))
    tensor(0.6931)
    """

    def __init__(self, weight: Tensor | None = None, reduction: str = "mean") -> None:
        super().__init__(weight, reduction)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.multilabel_soft_margin_loss(input, target, weight=self.weight, reduction=self.reduction)


class TripletMarginWithDistanceLoss(Module):
    """max(0, d(anchor, positive) - d(anchor, negative) + margin) with a distance of one's own.

    >>> gg.nn.TripletMarginWithDistanceLoss()(gg.zeros(1, 2), gg.zeros(1, 2), gg.zeros(1, 2))
    tensor(1.)
    """

    def __init__(
        self, *, distance_function: Any = None, margin: float = 1.0, swap: bool = False, reduction: str = "mean"
    ) -> None:
        super().__init__()
        self.distance_function, self.margin, self.swap, self.reduction = distance_function, margin, swap, reduction

    def forward(self, anchor: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        return F.triplet_margin_with_distance_loss(
            anchor,
            positive,
            negative,
            distance_function=self.distance_function,
            margin=self.margin,
            swap=self.swap,
            reduction=self.reduction,
        )


class CTCLoss(Module):
    """Connectionist temporal classification of log-probabilities (T, N, C) (Graves et al. 2006).

    >>> log_probs = gg.nn.functional.log_softmax(gg.zeros(2, 1, 3), dim=2)
    >>> gg.nn.CTCLoss()(log_probs, gg.tensor([[1]]), gg.tensor([2]), gg.tensor([1]))
    tensor(1.0986)
    """

    def __init__(self, blank: int = 0, reduction: str = "mean", zero_infinity: bool = False) -> None:
        super().__init__()
        self.blank, self.reduction, self.zero_infinity = blank, reduction, zero_infinity

    def forward(self, log_probs: Tensor, targets: Tensor, input_lengths: Any, target_lengths: Any) -> Tensor:
        return F.ctc_loss(
            log_probs, targets, input_lengths, target_lengths, self.blank, self.reduction, self.zero_infinity
        )
