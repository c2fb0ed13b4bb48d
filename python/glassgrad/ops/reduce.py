"""Reductions: many elements to one, over some axes or all.

Every function takes `dim` as an int, a tuple of ints or None (all axes), and `keepdim`, which leaves the reduced axes
in place with size 1; numpy's names `axis` and `keepdims` do as well. Sums are taken pairwise, so that the rounding
error of a float32 sum grows with the logarithm of its length, and are the same for any number of threads.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from glassgrad import _core as core
from glassgrad.amp import Casts
from glassgrad.autograd.graph import Op, direct, recording
from glassgrad.ops import layout
from glassgrad.ops._names import numpy_names

if TYPE_CHECKING:
    from glassgrad.tensor import Tensor

__all__ = [
    "all",
    "amax",
    "amin",
    "aminmax",
    "any",
    "argmax",
    "argmin",
    "count_nonzero",
    "cumulative_trapezoid",
    "diff",
    "dist",
    "logsumexp",
    "max",
    "mean",
    "min",
    "nanmean",
    "nansum",
    "norm",
    "prod",
    "renorm",
    "std",
    "std_mean",
    "sum",
    "trace",
    "trapezoid",
    "var",
    "var_mean",
]

Dim = None | int | Sequence[int]


def axes_of(dim: Dim, ndim: int) -> tuple[int, ...]:
    """The axes that a checked `dim` means, from 0 up."""
    if dim is None or (not isinstance(dim, int) and len(dim) == 0):
        return tuple(range(ndim))
    listed = (dim,) if isinstance(dim, int) else dim
    return tuple(d % ndim for d in listed) if ndim else ()


def count_of(shape: Sequence[int], dim: Dim) -> int:
    """How many elements go into one output."""
    return math.prod(shape[d] for d in axes_of(dim, len(shape)))


def restore(y: Tensor, shape: Sequence[int], dim: Dim, keepdim: bool) -> Tensor:
    """A reduction's output with the reduced axes back in place, so that it broadcasts against the input of `shape`."""
    if keepdim or dim is None or not shape:
        return y
    reduced = axes_of(dim, len(shape))
    return y.reshape([1 if d in reduced else n for d, n in enumerate(shape)])


class Sum(Op):
    """y = sum of x over dim."""

    kernel = core.sum
    autocast = Casts(gpu="float32")

    def forward(self, x: Tensor, dim: Dim = None, keepdim: bool = False) -> Tensor:
        self.shape, self.dim, self.keepdim = x.shape, dim, keepdim
        return core.sum(x, dim, keepdim)

    # Each element adds itself: dx = dy, repeated.
    def backward(self, dy: Tensor) -> Tensor:
        return restore(dy, self.shape, self.dim, self.keepdim).expand(self.shape)


@direct(Sum, 1)
@numpy_names
def sum(input: Tensor, dim: Dim = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """The sum of the elements over `dim`; whole numbers and bool give int64 unless `dtype` says otherwise.

    >>> gg.sum(gg.tensor([[1.0, 2.0], [3.0, 4.0]]), 0)
    tensor([4., 6.])
    """
    y: Tensor = Sum.apply(input if dtype is None else input.to(dtype), dim, keepdim)
    return y if dtype is None else y.to(dtype)  # the kernel adds whole numbers in int64


class Mean(Op):
    """y = sum of x over dim / n."""

    def forward(self, x: Tensor, dim: Dim, keepdim: bool) -> Tensor:
        self.shape, self.dim, self.keepdim = x.shape, dim, keepdim
        return core.mean(x, dim, keepdim)

    # dx = dy / n, repeated. An empty mean has no elements to give it to.
    def backward(self, dy: Tensor) -> Tensor:
        n = count_of(self.shape, self.dim)
        return (restore(dy, self.shape, self.dim, self.keepdim) / (n or 1)).expand(self.shape)


@numpy_names
def mean(input: Tensor, dim: Dim = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """The mean of the elements over `dim`, of a floating `input`; nan where there are none.

    >>> gg.mean(gg.tensor([1.0, 2.0, 6.0]))
    tensor(3.)
    """
    return Mean.apply(input if dtype is None else input.to(dtype), dim, keepdim)


class Nansum(Op):
    """y = sum over dim of the x that are not nan."""

    def forward(self, x: Tensor, dim: Dim, keepdim: bool) -> Tensor:
        self.dim, self.keepdim = dim, keepdim
        self.save(x)
        return core.nansum(x, dim, keepdim)

    # dx = dy where x is counted, 0 where it is nan.
    def backward(self, dy: Tensor) -> Tensor:
        (x,) = self.saved
        return restore(dy, x.shape, self.dim, self.keepdim) * (x == x)


@numpy_names
def nansum(input: Tensor, dim: Dim = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """The sum over `dim` with nan counted as 0.

    >>> gg.nansum(gg.tensor([1.0, float("nan"), 2.0]))
    tensor(3.)
    """
    y: Tensor = Nansum.apply(input if dtype is None else input.to(dtype), dim, keepdim)
    return y if dtype is None else y.to(dtype)  # the kernel adds whole numbers in int64


@numpy_names
def nanmean(input: Tensor, dim: Dim = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """The mean over `dim` of the elements that are not nan.

    >>> gg.nanmean(gg.tensor([1.0, float("nan"), 2.0]))
    tensor(1.5000)
    """
    x = input if dtype is None else input.to(dtype)
    if not x.dtype.is_floating_point:
        raise TypeError(f"nanmean: input {tuple(x.shape)} {x.dtype} must be floating point; convert it with .float()")
    return nansum(x, dim, keepdim) / (x == x).sum(dim, keepdim)


class Prod(Op):
    """y = product of x over dim."""

    autocast = Casts(cpu="float32", gpu="float32")

    def forward(self, x: Tensor, dim: int | None, keepdim: bool) -> Tensor:
        self.dim, self.keepdim = dim, keepdim
        self.save(x)
        return core.prod(x, dim, keepdim)

    # dy/dx_k = product of the others = (product before k) (product after k): no division, so zeros are no exception.
    def backward(self, dy: Tensor) -> Tensor:
        (x,) = self.saved
        if not recording():
            return core.prod_backward(dy, x, self.dim)
        if x.numel() == 0 or x.ndim == 0:
            return restore(dy, x.shape, self.dim, self.keepdim).expand(x.shape)
        row, d = (x.reshape(-1), 0) if self.dim is None else (x, self.dim)
        before, after = products_before(row, d), products_before(row.flip(d), d).flip(d)
        return restore(dy, x.shape, self.dim, self.keepdim) * (before * after).reshape(x.shape)


def products_before(x: Tensor, dim: int) -> Tensor:
    """y_k = product over j < k of x_j."""
    first = x.narrow(dim, 0, 1)
    return layout.cat([first.new_ones(first.shape), x.narrow(dim, 0, x.shape[dim] - 1)], dim).cumprod(dim)


@numpy_names
def prod(input: Tensor, dim: int | None = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """The product of the elements over `dim` (one axis, or None: all); whole numbers and bool give int64.

    >>> gg.prod(gg.tensor([2.0, 3.0, 4.0]))
    tensor(24.)
    """
    if dim is not None and not isinstance(dim, int):
        raise TypeError(f"prod: dim must be an int or None, got {type(dim).__name__}; multiply over one axis at a time")
    y: Tensor = Prod.apply(input if dtype is None else input.to(dtype), dim, keepdim)
    return y if dtype is None else y.to(dtype)


class Extreme(Op):
    """y = the largest (smallest) of x over dim, one of them or several alike."""

    def forward(self, x: Tensor, dim: Dim, keepdim: bool, largest: bool, op: str) -> Tensor:
        self.dim, self.keepdim = dim, keepdim
        y = (core.amax if largest else core.amin)(x, dim, keepdim, op)
        self.save(x, y)
        return y

    # The elements that equal y share dy evenly.
    def backward(self, dy: Tensor) -> Tensor:
        x, y = self.saved
        chosen = x == restore(y, x.shape, self.dim, self.keepdim)
        share = restore(dy, x.shape, self.dim, self.keepdim) / chosen.sum(self.dim, keepdim=True)
        return (share if self.dim is not None else share.reshape(())) * chosen


@numpy_names
def amax(input: Tensor, dim: Dim = (), keepdim: bool = False) -> Tensor:
    """The largest element over `dim`, nan if there is one; elements that tie share the gradient evenly.

    >>> gg.amax(gg.tensor([[1.0, 5.0], [7.0, 2.0]]), 1)
    tensor([5., 7.])
    """
    return Extreme.apply(input, dim, keepdim, True, "amax")


@numpy_names
def amin(input: Tensor, dim: Dim = (), keepdim: bool = False) -> Tensor:
    """The smallest element over `dim`, nan if there is one; elements that tie share the gradient evenly.

    >>> gg.amin(gg.tensor([[1.0, 5.0], [7.0, 2.0]]), 1)
    tensor([1., 2.])
    """
    return Extreme.apply(input, dim, keepdim, False, "amin")


class ExtremeAt(Op):
    """The largest (smallest) of x along one axis, and where it first stands."""

    def forward(self, x: Tensor, dim: int, keepdim: bool, largest: bool) -> tuple[Tensor, Tensor]:
        self.shape, self.dim, self.keepdim = x.shape, dim, keepdim
        values, indices = (core.max_dim if largest else core.min_dim)(x, dim, keepdim)
        self.save(indices)
        return values, indices

    # All of dy goes to the element that was chosen.
    def backward(self, dy: Tensor, _: Tensor | None = None) -> Tensor:
        (indices,) = self.saved
        if not self.shape:
            return dy
        at = restore(indices, self.shape, self.dim, self.keepdim)
        dy = restore(dy, self.shape, self.dim, self.keepdim)
        return dy.new_zeros(self.shape).scatter(self.dim, at, dy)


class ValuesIndices(NamedTuple):
    """What `max(input, dim)` and its like return."""

    values: Tensor
    indices: Tensor


class MinMax(NamedTuple):
    """What `aminmax` returns."""

    min: Tensor
    max: Tensor


@numpy_names
def max(input: Tensor, dim: int | Tensor | None = None, keepdim: bool = False, *, other: Any = None) -> Any:
    """The largest element; with `dim` (values, indices) along it; with another tensor the elementwise maximum.

    The largest of all elements shares its gradient evenly among ties; along `dim` the first of them is taken. nan is
    larger than any number. Raises ShapeError or IndexError where there are no elements.

    >>> gg.max(gg.tensor([[1.0, 5.0], [7.0, 2.0]]))
    tensor(7.)
    >>> gg.max(gg.tensor([[1.0, 5.0], [7.0, 2.0]]), 1).indices
    tensor([1, 0])
    """
    return _extreme(input, dim, keepdim, other, True)


@numpy_names
def min(input: Tensor, dim: int | Tensor | None = None, keepdim: bool = False, *, other: Any = None) -> Any:
    """The smallest element; with `dim` (values, indices) along it; with another tensor the elementwise minimum.

    The smallest of all elements shares its gradient evenly among ties; along `dim` the first of them is taken. nan is
    smaller than any number. Raises ShapeError or IndexError where there are no elements.

    >>> gg.min(gg.tensor([[1.0, 5.0], [7.0, 2.0]]))
    tensor(1.)
    >>> gg.min(gg.tensor([[1.0, 5.0], [7.0, 2.0]]), 1).values
    tensor([1., 2.])
    """
    return _extreme(input, dim, keepdim, other, False)


def _extreme(input: Tensor, dim: Any, keepdim: bool, other: Any, largest: bool) -> Any:
    if isinstance(dim, core.TensorBase):
        dim, other = None, dim
    if other is not None:
        return input.maximum(other) if largest else input.minimum(other)
    if dim is None:
        return Extreme.apply(input, None, keepdim, largest, "max" if largest else "min")
    return ValuesIndices(*ExtremeAt.apply(input, dim, keepdim, largest))


@numpy_names
def aminmax(input: Tensor, *, dim: int | None = None, keepdim: bool = False) -> MinMax:
    """(min, max) over `dim`, each as `amin` and `amax` give it.

    >>> gg.aminmax(gg.tensor([3.0, 1.0, 2.0])).max
    tensor(3.)
    """
    axes = () if dim is None else dim
    return MinMax(
        Extreme.apply(input, axes, keepdim, False, "aminmax"), Extreme.apply(input, axes, keepdim, True, "aminmax")
    )


@numpy_names
def argmax(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """Where the largest element along `dim` first stands, or in the flattened input; nan is larger than any number.

    >>> gg.argmax(gg.tensor([[1.0, 5.0], [7.0, 2.0]]), 1)
    tensor([1, 0])
    """
    return core.argmax(input, dim, keepdim)


@numpy_names
def argmin(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """Where the smallest element along `dim` first stands, or in the flattened input; nan is smaller than any number.

    >>> gg.argmin(gg.tensor([[1.0, 5.0], [7.0, 2.0]]), 1)
    tensor([0, 1])
    """
    return core.argmin(input, dim, keepdim)


@numpy_names
def any(input: Tensor, dim: Dim = None, keepdim: bool = False) -> Tensor:
    """Whether any element over `dim` is not 0, as bool (uint8 for uint8).

    >>> gg.any(gg.tensor([[False, True], [False, False]]), 1)
    tensor([ True, False])
    """
    return core.any(input, dim, keepdim)


@numpy_names
def all(input: Tensor, dim: Dim = None, keepdim: bool = False) -> Tensor:
    """Whether every element over `dim` is not 0, as bool (uint8 for uint8).

    >>> gg.all(gg.tensor([[True, True], [False, True]]), 1)
    tensor([ True, False])
    """
    return core.all(input, dim, keepdim)


@numpy_names
def count_nonzero(input: Tensor, dim: Dim = None) -> Tensor:
    """How many elements over `dim` are not 0, as int64.

    >>> gg.count_nonzero(gg.tensor([0.0, 2.0, 3.0]))
    tensor(2)
    """
    return core.count_nonzero(input, dim)


class Var(Op):
    """v = sum (x - mean)^2 / (n - correction) over dim, or its root, and the mean."""

    def forward(self, x: Tensor, dim: Dim, correction: float, keepdim: bool, op: str) -> tuple[Tensor, Tensor]:
        self.dim, self.correction, self.keepdim, self.root = dim, correction, keepdim, op.startswith("std")
        v, mean = core.var(x, dim, correction, keepdim, self.root, op)
        self.save(x, v)
        self.mean = mean.detach()
        return v, mean

    # dv/dx = 2 (x - mean) / (n - correction): the mean's own part cancels, as deviations sum to 0. For the root s,
    # dv = ds / (2 s), and 0 where s is 0.
    def backward(self, dv: Tensor | None, dmean: Tensor | None = None) -> Tensor:
        x, v = self.saved
        n = count_of(x.shape, self.dim)
        dx = None
        if dv is not None:
            if self.root:
                dv = (dv / (v * 2)).masked_fill(v == 0, 0)
            rest = n - self.correction
            scale = restore(dv, x.shape, self.dim, self.keepdim) * (2 / rest if rest != 0 else math.inf)
            if x.itemsize == 2:  # a mean rounded to 16 bits would be off by as much as the deviations are large
                wide = x.float()
                dx = (scale * (wide - wide.mean(self.dim, keepdim=True))).to(x.dtype)
            elif recording():
                dx = scale * (x - x.mean(self.dim, keepdim=True))
            else:
                dx = scale * (x - restore(self.mean, x.shape, self.dim, self.keepdim))
        if dmean is not None:
            even = restore(dmean, x.shape, self.dim, self.keepdim) / (n or 1)
            dx = even.expand(x.shape) if dx is None else dx + even
        return dx  # type: ignore[return-value]


def _var(op: str, x: Tensor, dim: Any, unbiased: bool | None, correction: float | None, keepdim: bool) -> Any:
    if isinstance(dim, bool):  # var(input, unbiased)
        dim, unbiased = None, dim
    if correction is None:
        correction = 0 if unbiased is False else 1
    elif unbiased is not None:
        raise TypeError(f"{op}: takes unbiased or correction, not both")
    return Var.apply(x, dim, correction, keepdim, op)


@numpy_names
def var(
    input: Tensor,
    dim: Dim | bool = None,
    unbiased: bool | None = None,
    keepdim: bool = False,
    *,
    correction: float | None = None,
) -> Tensor:
    """The variance over `dim`: sum (x - mean)^2 / max(n - correction, 0), correction 1 (or 0 where `unbiased` is
    False).

    >>> gg.var(gg.tensor([1.0, 2.0, 3.0, 4.0]))
    tensor(1.6667)
    """
    return _var("var", input, dim, unbiased, correction, keepdim)[0]


@numpy_names
def std(
    input: Tensor,
    dim: Dim | bool = None,
    unbiased: bool | None = None,
    keepdim: bool = False,
    *,
    correction: float | None = None,
) -> Tensor:
    """The standard deviation over `dim`, the root of `var`; its gradient where it is 0 is 0.

    >>> gg.std(gg.tensor([1.0, 2.0, 3.0, 4.0]))
    tensor(1.2910)
    """
    return _var("std", input, dim, unbiased, correction, keepdim)[0]


@numpy_names
def var_mean(
    input: Tensor,
    dim: Dim | bool = None,
    unbiased: bool | None = None,
    keepdim: bool = False,
    *,
    correction: float | None = None,
) -> tuple[Tensor, Tensor]:
    """(variance, mean) over `dim`, in one pass.

    >>> gg.var_mean(gg.tensor([1.0, 2.0, 3.0, 4.0]))
    (tensor(1.6667), tensor(2.5000))
    """
    return _var("var_mean", input, dim, unbiased, correction, keepdim)


@numpy_names
def std_mean(
    input: Tensor,
    dim: Dim | bool = None,
    unbiased: bool | None = None,
    keepdim: bool = False,
    *,
    correction: float | None = None,
) -> tuple[Tensor, Tensor]:
    """(standard deviation, mean) over `dim`, in one pass.

    >>> gg.std_mean(gg.tensor([1.0, 2.0, 3.0, 4.0]))
    (tensor(1.2910), tensor(2.5000))
    """
    return _var("std_mean", input, dim, unbiased, correction, keepdim)


class LogSumExp(Op):
    """y = log sum exp x over dim."""

    autocast = Casts(gpu="float32")

    def forward(self, x: Tensor, dim: Dim, keepdim: bool) -> Tensor:
        self.dim, self.keepdim = dim, keepdim
        y = core.logsumexp(x, dim, keepdim)
        self.save(x, y)
        return y

    # dx = dy exp(x - y), the softmax.
    def backward(self, dy: Tensor) -> Tensor:
        x, y = self.saved
        return restore(dy, x.shape, self.dim, self.keepdim) * (x - restore(y, x.shape, self.dim, self.keepdim)).exp()


@numpy_names
def logsumexp(input: Tensor, dim: int | Sequence[int], keepdim: bool = False) -> Tensor:
    """log sum exp x over `dim`, without overflow: the maximum is taken out first.

    >>> gg.logsumexp(gg.tensor([1000.0, 1000.0]), 0)
    tensor(1000.6932)
    """
    return LogSumExp.apply(input if input.dtype.is_floating_point else input.float(), dim, keepdim)


class Norm(Op):
    """y = (sum |x|^p)^(1/p) over dim; for p = 0 the number of x that are not 0."""

    autocast = Casts(gpu="float32")

    def forward(self, x: Tensor, p: float, dim: Dim, keepdim: bool) -> Tensor:
        self.p, self.dim, self.keepdim = p, dim, keepdim
        if p == 0:
            y = core.sum((x != 0).to(x.dtype), dim, keepdim)
        else:
            y = core.norm(x, p, dim, keepdim)
        self.save(x, y)
        return y

    # dy/dx = sign(x) (|x| / y)^(p - 1), and 0 where that is no number: at x = 0 for p < 1, at y = 0.
    def backward(self, dy: Tensor) -> Tensor:
        x, y = self.saved
        p = self.p
        y = restore(y, x.shape, self.dim, self.keepdim)
        dy = restore(dy, x.shape, self.dim, self.keepdim)
        if p == 0:
            return (dy * 0).expand(x.shape)
        if p == 1:
            return x.sign() * dy
        if p == 2:
            return x * (dy / y).masked_fill(y == 0, 0)
        if p < 1:
            return (x.sign() * x.abs().pow(p - 1)).masked_fill(x == 0, 0) * (dy * y.pow(1 - p))
        scale = (dy / y.pow(p - 1)).masked_fill(y == 0, 0)
        if p < 2:
            return x.sign() * x.abs().pow(p - 1) * scale
        return x * x.abs().pow(p - 2) * scale


class ExtremeNorm(Extreme):
    """y = the largest (smallest) of |x| over dim, given |x|: the norm with p = inf (-inf)."""

    autocast = Casts(gpu="float32")


def vector_norm(op: str, x: Tensor, p: float, dim: Dim, keepdim: bool) -> Tensor:
    """The p-norm over dim of a floating x, for p = +-inf by the largest and smallest magnitude."""
    if not x.dtype.is_floating_point:
        raise TypeError(f"{op}: input {tuple(x.shape)} {x.dtype} must be floating point; convert it with .float()")
    if p in (math.inf, -math.inf):
        return ExtremeNorm.apply(x.abs(), () if dim is None else dim, keepdim, p > 0, op)
    return Norm.apply(x, float(p), dim, keepdim)


@numpy_names
def norm(
    input: Tensor, p: str | float | None = "fro", dim: Dim = None, keepdim: bool = False, dtype: Any = None
) -> Tensor:
    """The vector norm (sum |x|^p)^(1/p) over `dim`; p may be 0 (count), inf, -inf or "fro" (2); its gradient at 0 is 0.

    Raises ValueError for "nuc", which needs singular values.

    >>> gg.norm(gg.tensor([3.0, 4.0]))
    tensor(5.)
    """
    if p is None or p == "fro":
        p = 2.0
    elif isinstance(p, str):
        raise ValueError(
            f"norm: p={p!r} needs a singular value decomposition, which is not built in; use a number or 'fro'"
        )
    y = vector_norm("norm", input if dtype is None else input.to(dtype), p, dim, keepdim)
    return y if dtype is None else y.to(dtype)


@Casts(gpu="float32")
def dist(input: Tensor, other: Tensor, p: float = 2) -> Tensor:
    """The p-norm of input - other, which broadcast.

    >>> gg.dist(gg.tensor([1.0, 1.0]), gg.tensor([4.0, 5.0]))
    tensor(5.)
    """
    return vector_norm("dist", input - other, p, None, False)


@Casts(gpu="float32")
def renorm(input: Tensor, p: float, dim: int, maxnorm: float) -> Tensor:
    """`input` with each slice along `dim` scaled down to p-norm `maxnorm` where it is larger.

    >>> gg.renorm(gg.tensor([[3.0, 4.0], [0.3, 0.4]]), 2, 0, 1)
    tensor([[0.6000, 0.8000],
            [0.3000, 0.4000]])
    """
    if input.ndim < 2:
        raise core.ShapeError(f"renorm: input {tuple(input.shape)} {input.dtype} must have at least 2 axes")
    if p <= 0 or maxnorm < 0:
        raise ValueError(f"renorm: p {p} must be positive and maxnorm {maxnorm} not negative")
    if not -input.ndim <= dim < input.ndim:
        raise IndexError(f"renorm: dim {dim} is out of range for {input.ndim} axes")
    others = [d for d in range(input.ndim) if d != dim % input.ndim]
    n = vector_norm("renorm", input, p, others, True)
    return input * (maxnorm / (n + 1e-7)).masked_fill(n <= maxnorm, 1)


@Casts(cpu="float32")
def trace(input: Tensor) -> Tensor:
    """The sum of the diagonal of a matrix.

    >>> gg.trace(gg.tensor([[1.0, 2.0], [3.0, 4.0]]))
    tensor(5.)
    """
    if input.ndim != 2:
        raise core.ShapeError(f"trace: input {tuple(input.shape)} {input.dtype} must be a matrix")
    return input.diagonal().sum()


@numpy_names
def diff(
    input: Tensor, n: int = 1, dim: int = -1, prepend: Tensor | None = None, append: Tensor | None = None
) -> Tensor:
    """The differences of neighbours along `dim`, n times over; `prepend` and `append` lengthen the input first.

    >>> gg.diff(gg.tensor([1, 4, 9, 16]))
    tensor([3, 5, 7])
    """
    if input.ndim == 0:
        raise core.ShapeError("diff: input () must have at least one axis")
    if n < 0:
        raise ValueError(f"diff: n is {n}; it must not be negative")
    if n == 0:
        return input.clone()
    parts = [t for t in (prepend, input, append) if t is not None]
    x = layout.cat(parts, dim) if len(parts) > 1 else input
    for _ in range(n if n < x.shape[dim] else x.shape[dim]):
        length = x.shape[dim]
        high, low = x.narrow(dim, 1, length - 1), x.narrow(dim, 0, length - 1)
        x = high.logical_xor(low) if x.dtype is core.bool else high - low
    return x.clone() if x is input else x


def _spaced_means(op: str, y: Tensor, x: Tensor | None, dx: float | None, dim: int) -> Tensor:
    """The areas of the trapezoids between neighbours of y along dim."""
    if x is not None and dx is not None:
        raise TypeError(f"{op}: takes x or dx, not both")
    length = y.shape[dim]
    if length == 0:
        return y
    pairs = (y.narrow(dim, 1, length - 1) + y.narrow(dim, 0, length - 1)) / 2
    if x is None:
        return pairs if dx is None else pairs * dx
    if x.ndim == 1 and y.ndim > 1:
        if x.shape[0] != length:
            raise core.ShapeError(
                f"{op}: x {tuple(x.shape)} and y {tuple(y.shape)}: dim {dim} of y has {length} elements"
            )
        widths = diff(x).reshape([-1 if d == dim % y.ndim else 1 for d in range(y.ndim)])
    else:
        widths = diff(x, dim=dim)
    return pairs * widths


@numpy_names
def trapezoid(y: Tensor, x: Tensor | None = None, *, dx: float | None = None, dim: int = -1) -> Tensor:
    """The integral of `y` along `dim` by the trapezoid rule, at points `x` or spaced `dx` (1) apart.

    >>> gg.trapezoid(gg.tensor([1.0, 5.0, 10.0]))
    tensor(10.5000)
    """
    return _spaced_means("trapezoid", y, x, dx, dim).sum(dim)


@numpy_names
def cumulative_trapezoid(y: Tensor, x: Tensor | None = None, *, dx: float | None = None, dim: int = -1) -> Tensor:
    """The integrals of `y` along `dim` from its start to each later point, by the trapezoid rule.

    >>> gg.cumulative_trapezoid(gg.tensor([1.0, 5.0, 10.0]))
    tensor([ 3.0000, 10.5000])
    """
    return _spaced_means("cumulative_trapezoid", y, x, dx, dim).cumsum(dim)
