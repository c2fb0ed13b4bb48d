"""Order: sort, topk, k-th values, medians and quantiles, mode, unique, searching, histograms."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from glassgrad import _core as core
from glassgrad.amp import Casts
from glassgrad.autograd.graph import Op
from glassgrad.ops._names import numpy_names
from glassgrad.ops.creation import linspace

if TYPE_CHECKING:
    from glassgrad.tensor import Tensor

__all__ = [
    "Ordered",
    "argsort",
    "bincount",
    "bucketize",
    "histc",
    "histogram",
    "isin",
    "kthvalue",
    "median",
    "mode",
    "msort",
    "nanmedian",
    "nanquantile",
    "quantile",
    "searchsorted",
    "sort",
    "topk",
    "unique",
    "unique_consecutive",
]

Number = int | float | bool


class Ordered(NamedTuple):
    """Elements chosen by their order, and where along the axis they stand."""

    values: Tensor
    indices: Tensor


class Sort(Op):
    """y[j] = x[order[j]] along dim, non-decreasing (or non-increasing)."""

    def forward(self, x: Tensor, dim: int, descending: bool) -> tuple[Tensor, Tensor]:
        self.shape, self.dim = x.shape, dim
        values, order = core.sort(x, dim, descending)
        self.save(order)
        return values, order

    # dx[order[j]] = dy[j]: a permutation's gradient is the inverse permutation.
    def backward(self, dy: Tensor, _: None) -> Tensor:
        return dy.new_zeros(self.shape).scatter(self.dim, self.saved[0], dy)


class TopK(Op):
    """The k largest (or smallest) along dim, best first."""

    def forward(self, x: Tensor, k: int, dim: int, largest: bool) -> tuple[Tensor, Tensor]:
        self.shape, self.dim = x.shape, dim
        values, order = core.topk(x, k, dim, largest)
        self.save(order)
        return values, order

    # Each dy goes to the element that was chosen.
    backward = Sort.backward


class PickOne(Op):
    """One element of each row along dim, chosen by the core function `name`: kthvalue, median, mode."""

    def forward(self, x: Tensor, name: str, dim: int, args: tuple[Any, ...]) -> tuple[Tensor, Tensor]:
        self.shape, self.dim = x.shape, dim
        values, index = getattr(core, name)(x, *args)
        self.save(index)
        return values, index

    # dy goes to the element that was chosen.
    def backward(self, dy: Tensor, _: None) -> Tensor:
        (index,) = self.saved
        dx = dy.new_zeros(self.shape)
        if not self.shape:
            return dx + dy
        return dx.scatter(self.dim, index.unsqueeze(self.dim), dy.unsqueeze(self.dim))


@numpy_names
def sort(input: Tensor, dim: int = -1, descending: bool = False, stable: bool = False) -> Ordered:
    """The elements along `dim` in order, and their former places; equal ones keep their order, NaN is the greatest.

    >>> gg.sort(gg.tensor([3, 1, 2]))
    Ordered(values=tensor([1, 2, 3]), indices=tensor([1, 2, 0]))
    """
    return Ordered(*Sort.apply(input, dim, descending))


@numpy_names
def argsort(input: Tensor, dim: int = -1, descending: bool = False, stable: bool = False) -> Tensor:
    """Where along `dim` the elements stand, in order: `sort(...).indices`.

    >>> gg.argsort(gg.tensor([3, 1, 2]))
    tensor([1, 2, 0])
    """
    return core.sort(input, dim, descending)[1]


def msort(input: Tensor) -> Tensor:
    """The elements along the first axis in order.

    >>> gg.msort(gg.tensor([[3, 1], [2, 4]]))
    tensor([[2, 1],
            [3, 4]])
    """
    return sort(input, 0).values


@numpy_names
def topk(input: Tensor, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> Ordered:
    """The `k` largest (or smallest) elements along `dim`, best first, and their places; ValueError if there are fewer.

    >>> gg.topk(gg.tensor([3.0, 1.0, 2.0]), 2)
    Ordered(values=tensor([3., 2.]), indices=tensor([0, 2]))
    """
    return Ordered(*TopK.apply(input, k, dim, largest))


def _pick_one(input: Tensor, name: str, dim: int, keepdim: bool, args: tuple[Any, ...]) -> Ordered:
    values, index = PickOne.apply(input, name, dim, args)
    if keepdim and input.ndim:
        return Ordered(values.unsqueeze(dim), index.unsqueeze(dim))
    return Ordered(values, index)


@numpy_names
def kthvalue(input: Tensor, k: int, dim: int = -1, keepdim: bool = False) -> Ordered:
    """The `k`-th smallest element along `dim`, counted from 1, and its place.

    >>> gg.kthvalue(gg.tensor([3.0, 1.0, 2.0]), 2)
    Ordered(values=tensor(2.), indices=tensor(2))
    """
    return _pick_one(input, "kthvalue", dim, keepdim, (k, dim))


@numpy_names
def mode(input: Tensor, dim: int = -1, keepdim: bool = False) -> Ordered:
    """The most frequent element along `dim`, the least of several, and where it stands last.

    >>> gg.mode(gg.tensor([2, 1, 2, 1, 0]))
    Ordered(values=tensor(1), indices=tensor(3))
    """
    return _pick_one(input, "mode", dim, keepdim, (dim,))


class MedianOfAll(Op):
    """The lower median of a row."""

    def forward(self, x: Tensor, skip_nan: bool) -> Tensor:
        y, _ = core.median(x, 0, skip_nan)
        self.save(x, y)
        return y

    # dy goes in even parts to all elements equal to the median (to all NaNs where it is NaN).
    def backward(self, dy: Tensor) -> Tensor:
        x, y = self.saved
        chosen = ((x == y) | ((x != x) & (y != y))).to(dy.dtype)
        return chosen * (dy / chosen.sum())


def _median(input: Tensor, dim: int | None, keepdim: bool, skip_nan: bool) -> Any:
    if dim is not None:
        return _pick_one(input, "median", dim, keepdim, (dim, skip_nan))
    if input.numel() == 0:
        return input.new_full((), math.nan)
    return MedianOfAll.apply(input.reshape(-1), skip_nan)


@numpy_names
def median(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Any:
    """The lower median of all elements, or of those along `dim` with its place; NaN where any element is.

    >>> gg.median(gg.tensor([4.0, 1.0, 3.0, 2.0]))
    tensor(2.)
    >>> gg.median(gg.tensor([[4, 1, 3]]), 1)
    Ordered(values=tensor([3]), indices=tensor([2]))
    """
    return _median(input, dim, keepdim, False)


@numpy_names
def nanmedian(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Any:
    """The lower median of the elements that are not NaN, or of those along `dim` with its place.

    >>> gg.nanmedian(gg.tensor([4.0, float("nan"), 3.0]))
    tensor(3.)
    """
    return _median(input, dim, keepdim, True)


def _quantile(
    op: str, input: Tensor, q: Any, dim: int | None, keepdim: bool, interpolation: str, skip_nan: bool
) -> Tensor:
    if interpolation not in ("linear", "lower", "higher", "midpoint", "nearest"):
        raise ValueError(
            f"{op}: interpolation must be 'linear', 'lower', 'higher', 'midpoint' or 'nearest', not {interpolation!r}"
        )
    if input.dtype not in (core.float32, core.float64):
        raise TypeError(f"{op}: input {tuple(input.shape)} {input.dtype} must be float32 or float64")
    if not isinstance(q, core.TensorBase):
        if not 0 <= q <= 1:
            raise ValueError(f"{op}: q must be in [0, 1], not {q}")
        q = input.new_full((), q)
    if q.dtype is not input.dtype:
        raise TypeError(f"{op}: q {q.dtype} and input {input.dtype}: the dtypes differ")
    if q.ndim > 1:
        raise core.ShapeError(f"{op}: q {tuple(q.shape)} must have at most one axis")
    if not bool(((q >= 0) & (q <= 1)).all().item()):
        raise ValueError(f"{op}: q must be in [0, 1]")
    if input.numel() == 0:
        raise core.ShapeError(f"{op}: input {tuple(input.shape)} is empty")
    shape = [1] * input.ndim
    if dim is None:
        x = input.reshape(-1)
    elif input.ndim == 0:
        x = input.reshape(1)
        shape = []
    else:
        x = input.movedim(dim, -1)
        shape = list(input.shape)
        shape[dim] = 1
    ordered = Sort.apply(x, -1, False)[0]
    n = x.shape[-1]
    nan = ordered.detach() != ordered.detach()
    # The place between two neighbours that each q falls on; a row with NaN, which stands last, gives its NaN.
    count = (~nan).sum(-1, keepdim=True)
    many = q.reshape(-1)
    if skip_nan:
        places = many * (count - 1).clamp(min=0).to(q.dtype)
        empty = count == 0
        places = places.masked_fill(empty, n - 1)
    else:
        places = (many * (n - 1)).expand((*x.shape[:-1], many.shape[0]))
        places = places.masked_fill(nan[..., -1:], n - 1)
    if interpolation == "lower":
        places = places.floor()
    elif interpolation == "higher":
        places = places.ceil()
    elif interpolation == "nearest":
        places = places.round()
    below = places.floor()
    y = ordered.gather(-1, below.long())
    if interpolation in ("linear", "midpoint"):
        above = ordered.gather(-1, places.ceil().long())
        weight = places - below if interpolation == "linear" else (places != below).to(places.dtype) * 0.5
        y = y.lerp(above, weight)
    y = y.movedim(-1, 0)
    if keepdim:
        return y.reshape((*q.shape, *shape))
    return y if q.ndim else y.squeeze(0)


@numpy_names
@Casts(cpu="float32")
def quantile(
    input: Tensor, q: Any, dim: int | None = None, keepdim: bool = False, *, interpolation: str = "linear"
) -> Tensor:
    """The `q`-th quantiles of all elements or along `dim`; a 1-d `q` puts its axis first. NaN where any element is.

    Between two neighbours `interpolation` decides: "linear", "lower", "higher", "midpoint" or "nearest".

    >>> gg.quantile(gg.tensor([0.0, 1.0, 2.0, 3.0]), 0.5)
    tensor(1.5000)
    """
    return _quantile("quantile", input, q, dim, keepdim, interpolation, False)


@numpy_names
@Casts(cpu="float32")
def nanquantile(
    input: Tensor, q: Any, dim: int | None = None, keepdim: bool = False, *, interpolation: str = "linear"
) -> Tensor:
    """quantile of the elements that are not NaN.

    >>> gg.nanquantile(gg.tensor([0.0, float("nan"), 2.0]), 0.5)
    tensor(1.)
    """
    return _quantile("nanquantile", input, q, dim, keepdim, interpolation, True)


# Distinct elements and searching -------------------------------------------------------------------------------------


def _unique(input: Tensor, dim: int | None, sorted: bool, return_inverse: bool, return_counts: bool) -> Any:
    values, inverse, counts = core.unique(input, dim, sorted, return_inverse, return_counts)
    wanted = (values, *((inverse,) if return_inverse else ()), *((counts,) if return_counts else ()))
    return wanted if len(wanted) > 1 else values


@numpy_names
def unique(
    input: Tensor,
    sorted: bool = True,
    return_inverse: bool = False,
    return_counts: bool = False,
    dim: int | None = None,
) -> Any:
    """The distinct elements in order, or the distinct slices along `dim`.

    On request also which of them each element is, and how often each occurs. The result is in order whether or
    not `sorted` is set. Each NaN is distinct.

    >>> gg.unique(gg.tensor([3, 1, 3]), return_inverse=True, return_counts=True)
    (tensor([1, 3]), tensor([1, 0, 1]), tensor([1, 2]))
    """
    return _unique(input, dim, True, return_inverse, return_counts)


@numpy_names
def unique_consecutive(
    input: Tensor, return_inverse: bool = False, return_counts: bool = False, dim: int | None = None
) -> Any:
    """The first of each run of equal elements (or of equal slices along `dim`).

    >>> gg.unique_consecutive(gg.tensor([1, 1, 2, 1]))
    tensor([1, 2, 1])
    """
    return _unique(input, dim, False, return_inverse, return_counts)


def _is_right(op: str, right: bool, side: str | None) -> bool:
    if side is None:
        return bool(right)
    if side not in ("left", "right"):
        raise ValueError(f"{op}: side must be 'left' or 'right', not {side!r}")
    if side == "left" and right:
        raise ValueError(f"{op}: side 'left' and right=True contradict each other")
    return side == "right"


def searchsorted(
    sorted_sequence: Tensor,
    input: Tensor | Number,
    *,
    out_int32: bool = False,
    right: bool = False,
    side: str | None = None,
    sorter: Tensor | None = None,
) -> Tensor:
    """Where along the last axis each element of `input` would be inserted to keep the sequence sorted.

    i with sequence[i-1] < v <= sequence[i], or <= and < where `right`. A 1-d sequence serves every element; else the
    axes but the last agree. `sorter` gives the order of an unsorted sequence.

    >>> gg.searchsorted(gg.tensor([1, 3, 5]), gg.tensor([3, 6]))
    tensor([1, 3])
    """
    is_right = _is_right("searchsorted", right, side)
    return core.searchsorted("searchsorted", sorted_sequence, input, out_int32, is_right, sorter)


def bucketize(input: Tensor | Number, boundaries: Tensor, *, out_int32: bool = False, right: bool = False) -> Tensor:
    """The number of the bucket between 1-d, sorted `boundaries` that each element falls in.

    i with boundaries[i-1] < v <= boundaries[i], or <= and < where `right`.

    >>> gg.bucketize(gg.tensor([0, 3, 9]), gg.tensor([1, 3, 5]))
    tensor([0, 1, 3])
    """
    if boundaries.ndim != 1:
        raise core.ShapeError(f"bucketize: boundaries {tuple(boundaries.shape)} must have one axis")
    return core.searchsorted("bucketize", boundaries, input, out_int32, bool(right), None)


def isin(
    elements: Tensor | Number, test_elements: Tensor | Number, *, assume_unique: bool = False, invert: bool = False
) -> Tensor:
    """Whether each of `elements` is among `test_elements` (or, with `invert`, is not).

    >>> gg.isin(gg.tensor([1, 2, 3]), gg.tensor([2, 3]))
    tensor([False,  True,  True])
    """
    return core.isin(elements, test_elements, invert)


# Counting ------------------------------------------------------------------------------------------------------------


def bincount(input: Tensor, weights: Tensor | None = None, minlength: int = 0) -> Tensor:
    """y[i] = how often i occurs in the 1-d whole numbers `input`, or the sum of the `weights` of its occurrences.

    >>> gg.bincount(gg.tensor([0, 2, 2]))
    tensor([1, 0, 2])
    """
    if input.ndim != 1 or input.dtype.is_floating_point or input.dtype is core.bool:
        raise core.ShapeError(f"bincount: input {tuple(input.shape)} {input.dtype} must be a row of whole numbers")
    if minlength < 0:
        raise ValueError(f"bincount: minlength must not be negative, but is {minlength}")
    if weights is not None and weights.shape != input.shape:
        raise core.ShapeError(
            f"bincount: weights {tuple(weights.shape)} and input {tuple(input.shape)}: the shapes differ"
        )
    places = input.long()
    length = minlength
    if input.numel():
        if int(places.min().item()) < 0:
            raise ValueError(f"bincount: input {tuple(input.shape)} holds negative numbers")
        length = max(length, int(places.max().item()) + 1)
    if weights is None:
        return places.new_zeros(length).scatter(0, places, 1, reduce="add")
    if weights.dtype is not core.float32:
        weights = weights.double()
    return weights.new_zeros(length).scatter_add(0, places, weights)


def _range(op: str, input: Tensor, low: float, high: float) -> tuple[float, float]:
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError(f"{op}: range [{low}, {high}] is not finite")
    return (low - 1, high + 1) if low == high else (low, high)


def histc(input: Tensor, bins: int = 100, min: float = 0, max: float = 0) -> Tensor:
    """How many elements lie in each of `bins` bins of equal width over [min, max], in the dtype of `input`.

    min = max = 0 means the least and greatest element. Elements outside are not counted.

    >>> gg.histc(gg.tensor([1.0, 2.0, 1.0]), bins=4, min=0, max=3)
    tensor([0., 2., 1., 0.])
    """
    if bins <= 0:
        raise RuntimeError(f"histc: bins must be positive, not {bins}")
    low, high = float(min), float(max)
    if low == high and input.numel():
        low, high = float(input.min().item()), float(input.max().item())
    low, high = _range("histc", input, low, high)
    if low > high:
        raise RuntimeError(f"histc: max {max} must not be less than min {min}")
    return core.histogram(input, bins, low, high).to(input.dtype)


class Histogram(NamedTuple):
    """Counts of bins, and the bins' edges, one more."""

    hist: Tensor
    bin_edges: Tensor


def histogram(
    input: Tensor,
    bins: int | Tensor,
    *,
    range: Sequence[float] | None = None,
    weight: Tensor | None = None,
    density: bool = False,
) -> Histogram:
    """How many elements (or how much `weight`) lie in each bin; the last bin holds its upper edge too.

    `bins` is a number of equal ones over `range` (default: least to greatest element) or the edges themselves. With
    `density` the area is 1.

    >>> gg.histogram(gg.tensor([1.0, 2.0, 1.0]), bins=2, range=(0.0, 3.0))
    Histogram(hist=tensor([2., 1.]), bin_edges=tensor([0.0000, 1.5000, 3.0000]))
    """
    if not input.dtype.is_floating_point:
        raise TypeError(f"histogram: input {tuple(input.shape)} {input.dtype} must be floating point")
    if weight is not None and (weight.shape != input.shape or weight.dtype is not input.dtype):
        raise core.ShapeError(
            f"histogram: weight {tuple(weight.shape)} {weight.dtype} must be as input {tuple(input.shape)}"
        )
    if isinstance(bins, core.TensorBase):
        edges = bins
        if edges.ndim != 1 or edges.numel() < 2:
            raise core.ShapeError(f"histogram: bins {tuple(edges.shape)} must be at least two edges on one axis")
    else:
        if bins < 1:
            raise RuntimeError(f"histogram: bins must be positive, not {bins}")
        if range is not None:
            low, high = float(range[0]), float(range[1])
        elif input.numel():
            low, high = float(input.min().item()), float(input.max().item())
        else:
            low, high = 0.0, 1.0
        low, high = _range("histogram", input, low, high)
        edges = linspace(low, high, bins + 1, dtype=input.dtype, device=input.device)
    x = input.detach().reshape(-1)
    inside = (x >= edges[0]) & (x <= edges[-1])
    n = edges.numel() - 1
    place = (searchsorted(edges, x, right=True) - 1).clamp(max=n - 1)[inside]
    amount = (x.new_ones(x.shape) if weight is None else weight.detach().reshape(-1))[inside]
    hist = x.new_zeros(n).scatter_add(0, place, amount)
    if density:
        hist = hist / hist.sum() / (edges[1:] - edges[:-1])
    return Histogram(hist, edges)
