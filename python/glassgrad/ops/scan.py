"""Scans: what a reduction would give for every beginning of an axis.

Two of the gradients are one linear recurrence S_k = b_k + a_k S_{k+1}, the op LinearScan, whose own gradient is the
same recurrence run the other way: so every order of derivative exists, and none divides by an element that may be 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from glassgrad import _core as core
from glassgrad.amp import Casts
from glassgrad.autograd.graph import Op
from glassgrad.ops import layout
from glassgrad.ops._names import numpy_names
from glassgrad.ops.reduce import ValuesIndices

if TYPE_CHECKING:
    from glassgrad.tensor import Tensor

__all__ = ["cummax", "cummin", "cumprod", "cumsum", "logcumsumexp"]


class Cumsum(Op):
    """y_k = sum over j <= k of x_j; reverse: over j >= k."""

    autocast = Casts(gpu="float32")

    def forward(self, x: Tensor, dim: int, reverse: bool) -> Tensor:
        self.dim, self.reverse = dim, reverse
        return core.cumsum(x, dim, reverse)

    # x_j is in every y_k with k >= j: dx_j = sum over k >= j of dy_k.
    def backward(self, dy: Tensor) -> Tensor:
        return Cumsum.apply(dy, self.dim, not self.reverse)


@numpy_names
def cumsum(input: Tensor, dim: int, *, dtype: Any = None) -> Tensor:
    """y_k = x_0 + ... + x_k along `dim`; whole numbers and bool give int64.

    >>> gg.cumsum(gg.tensor([1.0, 2.0, 3.0]), 0)
    tensor([1., 3., 6.])
    """
    y: Tensor = Cumsum.apply(input if dtype is None else input.to(dtype), dim, False)
    return y if dtype is None else y.to(dtype)


class LinearScan(Op):
    """y_k = b_k + a_k y_{k-1} with y_{-1} = 0; reverse: y_k = b_k + a_k y_{k+1}. The first a is never looked at."""

    def forward(self, a: Tensor, b: Tensor, dim: int, reverse: bool) -> Tensor:
        self.dim, self.reverse = dim, reverse
        y = core.linear_scan(a, b, dim, reverse)
        self.save(a, y)
        return y

    # With s_k the gradient that reaches y_k from all later ones, s_k = dy_k + a_{k+1} s_{k+1}: the recurrence the other
    # way with a moved by one. Then db_k = s_k and da_k = s_k y_{k-1}.
    def backward(self, dy: Tensor) -> tuple[Tensor, Tensor]:
        a, y = self.saved
        s = LinearScan.apply(shift(a, self.dim, -1 if not self.reverse else 1), dy, self.dim, not self.reverse)
        return s * shift(y, self.dim, 1 if not self.reverse else -1), s


def shift(x: Tensor, dim: int, by: int, fill: float = 0) -> Tensor:
    """y_k = x_{k - by} for by = 1 or -1, with `fill` where there is none."""
    n = x.shape[dim]
    end = x.narrow(dim, 0, 1)
    end = end.new_full(end.shape, fill)
    return layout.cat([end, x.narrow(dim, 0, n - 1)] if by > 0 else [x.narrow(dim, 1, n - 1), end], dim)


class Cumprod(Op):
    """y_k = product over j <= k of x_j."""

    autocast = Casts(gpu="float32")

    def forward(self, x: Tensor, dim: int) -> Tensor:
        self.dim = dim
        y = core.cumprod(x, dim)
        self.save(x, y)
        return y

    # dx_k = y_{k-1} s_k, where s_k = sum over j >= k of dy_j x_{k+1} ... x_j = dy_k + x_{k+1} s_{k+1}.
    def backward(self, dy: Tensor) -> Tensor:
        x, y = self.saved
        if x.numel() == 0 or x.ndim == 0:
            return dy
        return shift(y, self.dim, 1, 1) * LinearScan.apply(shift(x, self.dim, -1), dy, self.dim, True)


@numpy_names
def cumprod(input: Tensor, dim: int, *, dtype: Any = None) -> Tensor:
    """y_k = x_0 x_1 ... x_k along `dim`; whole numbers and bool give int64.

    >>> gg.cumprod(gg.tensor([1.0, 2.0, 3.0, 4.0]), 0)
    tensor([ 1.,  2.,  6., 24.])
    """
    y: Tensor = Cumprod.apply(input if dtype is None else input.to(dtype), dim)
    return y if dtype is None else y.to(dtype)


class LogCumsumExp(Op):
    """y_k = log sum over j <= k of exp x_j."""

    def forward(self, x: Tensor, dim: int) -> Tensor:
        self.dim = dim
        y = core.logcumsumexp(x, dim)
        self.save(x, y)
        return y

    # dx_k = sum over j >= k of dy_j exp(x_k - y_j) = exp(x_k - y_k) s_k with s_k = dy_k + exp(y_k - y_{k+1}) s_{k+1}. y
    # only grows, so nothing overflows.
    def backward(self, dy: Tensor) -> Tensor:
        x, y = self.saved
        if x.numel() == 0 or x.ndim == 0:
            return dy
        n = y.shape[self.dim]
        fall = y.narrow(self.dim, 0, n - 1) - y.narrow(self.dim, 1, n - 1)
        decay = layout.cat([fall.exp(), y.new_zeros(y.narrow(self.dim, 0, 1).shape)], self.dim)
        return (x - y).exp() * LinearScan.apply(decay, dy, self.dim, True)


@numpy_names
def logcumsumexp(input: Tensor, dim: int) -> Tensor:
    """y_k = log(exp x_0 + ... + exp x_k) along `dim`, without overflow.

    >>> gg.logcumsumexp(gg.tensor([0.0, 0.0, 0.0]), 0)
    tensor([0.0000, 0.6931, 1.0986])
    """
    return LogCumsumExp.apply(input, dim)


class CumExtreme(Op):
    """The largest (smallest) x_j over j <= k, and the last such j."""

    def forward(self, x: Tensor, dim: int, largest: bool) -> tuple[Tensor, Tensor]:
        self.dim = dim
        values, indices = (core.cummax if largest else core.cummin)(x, dim)
        self.save(indices)
        return values, indices

    # Each dy goes to the element that was chosen, and adds up there.
    def backward(self, dy: Tensor, _: Tensor | None = None) -> Tensor:
        (indices,) = self.saved
        if dy.ndim == 0:
            return dy
        return dy.new_zeros(dy.shape).scatter_add(self.dim, indices, dy)


@numpy_names
def cummax(input: Tensor, dim: int) -> ValuesIndices:
    """(values, indices): the largest element so far along `dim`, and where it last stood.

    >>> gg.cummax(gg.tensor([1.0, 3.0, 2.0]), 0).values
    tensor([1., 3., 3.])
    """
    return ValuesIndices(*CumExtreme.apply(input, dim, True))


@numpy_names
def cummin(input: Tensor, dim: int) -> ValuesIndices:
    """(values, indices): the smallest element so far along `dim`, and where it last stood.

    >>> gg.cummin(gg.tensor([3.0, 1.0, 2.0]), 0).values
    tensor([3., 1., 1.])
    """
    return ValuesIndices(*CumExtreme.apply(input, dim, False))
