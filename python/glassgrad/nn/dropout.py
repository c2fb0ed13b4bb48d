"""Dropout layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from glassgrad.nn import functional as F
from glassgrad.nn.module import Module

if TYPE_CHECKING:
    from glassgrad.tensor import Tensor

__all__ = ["AlphaDropout", "Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "FeatureAlphaDropout"]


class _Dropout(Module):
    function: Callable[..., Any]

    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        super().__init__()
        if not 0 <= p <= 1:
            raise ValueError(f"{type(self).__name__}: p is {p}; a probability lies between 0 and 1")
        self.p, self.inplace = p, inplace

    def forward(self, input: Tensor) -> Tensor:
        return type(self).function(input, self.p, self.training, self.inplace)

    def extra_repr(self) -> str:
        return f"p={self.p}, inplace={self.inplace}"


class Dropout(_Dropout):
    """Zeroes elements with probability p in training and scales the rest by 1 / (1 - p).

    >>> gg.nn.Dropout(0.5).eval()(gg.ones(1, 1, 2)).sum().item()
    2.0
    """

    function = staticmethod(F.dropout)


class Dropout1d(_Dropout):
    """Zeroes whole channels of (N, C, L) in training.

    >>> gg.nn.Dropout1d(0.5).eval()(gg.ones(1, 1, 2)).sum().item()
    2.0
    """

    function = staticmethod(F.dropout1d)


class Dropout2d(_Dropout):
    """Zeroes whole channels of (N, C, H, W) in training.

    >>> gg.nn.Dropout2d(0.5).eval()(gg.ones(1, 1, 2, 2)).sum().item()
    4.0
    """

    function = staticmethod(F.dropout2d)


class Dropout3d(_Dropout):
    """Zeroes whole channels of (N, C, D, H, W) in training.

    >>> gg.nn.Dropout3d(0.5).eval()(gg.ones(1, 1, 2, 2, 2)).sum().item()
    8.0
    """

    function = staticmethod(F.dropout3d)


class AlphaDropout(_Dropout):
    """Dropout that keeps mean and variance for SELU networks (Klambauer et al. 2017).

    >>> gg.nn.AlphaDropout(0.5).eval()(gg.ones(1, 1, 2)).sum().item()
    2.0
    """

    function = staticmethod(F.alpha_dropout)


class FeatureAlphaDropout(_Dropout):
    """Alpha dropout of whole channels.

    >>> gg.nn.FeatureAlphaDropout(0.5).eval()(gg.ones(1, 1, 2)).sum().item()
    2.0
    """

    function = staticmethod(F.feature_alpha_dropout)
