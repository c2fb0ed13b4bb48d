"""Reading and writing by index: `x[...]`, gather and scatter, select, mask, nonzero.

An index expression of integers, slices, None and Ellipsis makes a view. Any other is taken apart into one that makes a
view and index tensors on some of its axes, which make a copy. What reading takes from places, its gradient adds to
them: reading and adding are each other's derivatives.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from glassgrad import _core as core
from glassgrad.amp import Casts
from glassgrad.autograd.graph import Op, View, note_change, recording, unbroadcast
from glassgrad.autograd.in_place import check_in_place, overwrite
from glassgrad.ops._axes import axis_of
from glassgrad.ops._names import numpy_names

if TYPE_CHECKING:
    from glassgrad.tensor import Tensor

__all__ = [
    "argwhere",
    "diagonal_scatter",
    "gather",
    "index_add",
    "index_copy",
    "index_fill",
    "index_put",
    "index_reduce",
    "index_select",
    "masked_fill",
    "masked_scatter",
    "masked_select",
    "nonzero",
    "one_hot",
    "put",
    "scatter",
    "scatter_add",
    "scatter_reduce",
    "select_scatter",
    "slice_scatter",
    "take",
    "take_along_dim",
]

Number = int | float | bool

WRITE, ADD, MULTIPLY, MAX, MIN = range(5)  # how a write combines with what is there
FOLDS = {"sum": ADD, "mean": ADD, "prod": MULTIPLY, "amax": MAX, "amin": MIN}
ALL = slice(None)


# Index expressions ---------------------------------------------------------------------------------------------------


class Key:
    """An index expression taken apart: a basic one (`view`, None if it changes nothing), then tensors on its axes.

    Integers are axes dropped from the view before index tensors are looked at, as in PyTorch.
    """

    __slots__ = ("axes", "indices", "view")

    def __init__(self, x: Tensor, key: Any) -> None:
        from glassgrad.tensor import tensor

        items: list[Any] = [_as_item(item) for item in (key if type(key) is tuple else (key,))]
        used = sum(_axes_of(item) for item in items)
        if used > x.ndim:
            raise IndexError(f"index: too many indices ({used}) for x {tuple(x.shape)} {x.dtype}")
        self.axes: list[int] = []
        self.indices: list[Tensor] = []
        view: list[Any] = []
        axis = 0  # of x
        out = 0  # of the view
        for item in items:
            if isinstance(item, bool):
                view.append(None)
                self._pick(out, tensor([0] * item, dtype=core.int64))
            elif isinstance(item, core.TensorBase) and item.dtype is core.bool:
                n = item.ndim
                if tuple(x.shape[axis : axis + n]) != tuple(item.shape):
                    raise IndexError(
                        f"index: mask {tuple(item.shape)} does not match axes {axis} to {axis + n - 1} "
                        f"of x {tuple(x.shape)} {x.dtype}"
                    )
                for i, column in enumerate(_columns(core.nonzero(item))):
                    self._pick(out + i, column)
                view += [ALL] * n
                out += n - 1
            elif isinstance(item, core.TensorBase):
                view.append(ALL)
                self._pick(out, item)
            else:
                view.append(item)
            if item is Ellipsis:
                axis += x.ndim - used
                out += x.ndim - used
            else:
                axis += _axes_of(item)
                out += type(item) is not int
        changes = not self.indices or any(item is not Ellipsis and item != ALL for item in view)
        self.view = tuple(view) if changes else None

    def _pick(self, axis: int, index: Any) -> None:
        self.axes.append(axis)
        self.indices.append(index)


def _columns(places: Tensor) -> list[Tensor]:
    return [core.index_view(places, (ALL, i)) for i in range(places.shape[1])]


def _as_item(item: Any) -> Any:
    """None, Ellipsis, bool, int, slice, or a tensor with axes whose dtype is bool or an integer's."""
    if item is None or item is Ellipsis or isinstance(item, (int, slice)):
        return item
    if isinstance(item, np.bool_):
        return bool(item)
    if isinstance(item, (list, tuple, range, np.ndarray)):
        from glassgrad.tensor import tensor

        item = tensor(item if isinstance(item, np.ndarray) else list(item))
        if item.numel() == 0 and item.dtype.is_floating_point:
            item = item.long()
    if isinstance(item, core.TensorBase):
        if item.dtype.is_floating_point:
            raise IndexError(
                f"index: tensors used as indices must be integers or bool, not {tuple(item.shape)} {item.dtype}; "
                "convert with .long()"
            )
        if item.dtype is core.uint8:
            item = cast("Tensor", item).bool()
        if item.ndim:
            return item
        return bool(item.item()) if item.dtype is core.bool else int(item.item())
    try:
        return operator.index(item)
    except TypeError:
        raise IndexError(
            "index: only integers, slices (`:`), ellipsis (`...`), None, and integer or bool tensors, lists and arrays "
            f"are valid indices, not {type(item).__name__}"
        ) from None


def _axes_of(item: Any) -> int:
    """How many axes of x an item takes."""
    if item is None or item is Ellipsis or isinstance(item, bool):
        return 0
    return item.ndim if isinstance(item, core.TensorBase) and item.dtype is core.bool else 1


class IndexView(View):
    """y = x[key], sharing x's elements."""

    def forward(self, x: Tensor, key: Any) -> Tensor:
        self.shape, self.key = x.shape, key
        return core.index_view(x, key)

    # dx is dy where the view is, and zero elsewhere.
    def backward(self, dy: Tensor) -> Tensor:
        return IndexSpread.apply(dy, "index", self.shape, self.key, (), (), True)


class IndexGet(Op):
    """y[.., j, ..] = x[.., indices[j], ..]."""

    def forward(self, x: Tensor, op: str, axes: Sequence[int], indices: Sequence[Tensor], wrap: bool) -> Tensor:
        self.op, self.shape, self.axes, self.wrap = op, x.shape, axes, wrap
        self.save(*indices)
        return core.index_get(op, x, axes, indices, wrap)

    # Each element of dy goes back to the place it was read from; places read twice get the sum.
    def backward(self, dy: Tensor) -> Tensor:
        return IndexSpread.apply(dy, self.op, self.shape, (), self.axes, self.saved, self.wrap)


class IndexSpread(Op):
    """Zeros of a shape, with dy added at the places that key and indices name: the adjoint of reading them."""

    def forward(
        self,
        dy: Tensor,
        op: str,
        shape: tuple[int, ...],
        key: Any,
        axes: Sequence[int],
        indices: Sequence[Tensor],
        wrap: bool,
    ) -> Tensor:
        self.op, self.key, self.axes, self.wrap = op, key, axes, wrap
        self.save(*indices)
        return core.index_spread(op, dy, shape, key, axes, indices, wrap)

    def backward(self, d: Tensor) -> Tensor:
        return _read(d, self.op, self.key, self.axes, self.saved, self.wrap)


class IndexAssign(Op):
    """y = x, but for the places that key and indices name: y there is v, or x + v."""

    def forward(
        self,
        x: Tensor,
        v: Tensor | Number,
        op: str,
        key: Any,
        axes: Sequence[int],
        indices: Sequence[Tensor],
        wrap: bool,
        fold: int,
    ) -> Tensor:
        self.op, self.key, self.axes, self.wrap, self.fold = op, key, axes, wrap, fold
        self.value = (v.shape, v.dtype) if isinstance(v, core.TensorBase) else None
        self.save(*indices)
        return core.index_assign(op, x, key, axes, indices, v, wrap, fold)

    # dv = dy at the places.  dx = dy; where v replaced x, zero at the places.
    def backward(self, dy: Tensor) -> tuple[Tensor | None, Tensor | None]:
        indices = self.saved
        dx = dv = None
        if self.needs[0]:
            dx = dy
            if self.fold == WRITE:
                dx = IndexAssign.apply(dy, 0, self.op, self.key, self.axes, indices, self.wrap, WRITE)
        if self.needs[1] and self.value is not None:
            shape, dtype = self.value
            dv = _read(dy, self.op, self.key, self.axes, indices, self.wrap)
            lead = len(shape) - dv.ndim
            dv = dv.reshape((1,) * lead + tuple(dv.shape)) if lead > 0 else dv
            dv = unbroadcast(dv, shape)
            dv = dv if dv.dtype is dtype else dv.to(dtype)
        return dx, dv


def _read(x: Tensor, op: str, key: Any, axes: Sequence[int], indices: Sequence[Tensor], wrap: bool) -> Tensor:
    if not indices or key != ():
        x = IndexView.apply(x, key)
    return IndexGet.apply(x, op, axes, indices, wrap) if indices else x


def getitem(input: Tensor, key: Any) -> Tensor:
    """`input[key]`: a view where key holds only integers, slices, None and Ellipsis, else a copy."""
    if core.is_basic_key(key):
        return IndexView.apply(input, key)
    if isinstance(key, core.TensorBase) and key.ndim and input.ndim:
        if key.dtype is core.int64:
            return IndexGet.apply(input, "index", (0,), (key,), True)
        if key.dtype is core.bool and key.shape == input.shape and key.device is input.device:
            return MaskedSelect.apply(input, key)
    k = Key(input, key)
    if k.view is not None:
        input = IndexView.apply(input, k.view)
    return IndexGet.apply(input, "index", k.axes, k.indices, True) if k.indices else input


def setitem(input: Tensor, key: Any, value: Any) -> None:
    """`input[key] = value`: value, broadcast and cast, replaces the elements that key names."""
    check_in_place("setitem", input)
    is_tensor = isinstance(value, core.TensorBase)
    if not is_tensor and not isinstance(value, (int, float)):
        from glassgrad.tensor import as_tensor

        value, is_tensor = as_tensor(value), True
    is_mask = isinstance(key, core.TensorBase) and key.dtype is core.bool and key.shape == input.shape
    if is_mask and (not is_tensor or value.ndim == 0) and key.device is input.device:
        masked_fill_(input, key, value)
        return
    axes: Sequence[int] = ()
    indices: Sequence[Any] = ()
    view = key
    if isinstance(key, core.TensorBase) and key.dtype is core.int64 and key.ndim and input.ndim:
        view, axes, indices = (), (0,), (key,)
    elif not core.is_basic_key(key):
        k = Key(input, key)
        view, axes, indices = () if k.view is None else k.view, k.axes, k.indices
    if not recording() or not (input.requires_grad or (is_tensor and value.requires_grad)):
        core.index_assign_("setitem", input, view, axes, indices, value, True, WRITE)
        note_change(input)
        return
    region = input if indices and view == () else IndexView.apply(input, view)
    if is_tensor and not indices and value._view is not None and _same_elements(region, value):
        return  # x[a:b] += v has changed the view already
    overwrite("setitem", region, IndexAssign.apply(region, value, "setitem", (), axes, indices, True, WRITE))


def _same_elements(a: Tensor, b: Tensor) -> bool:
    return a.data_ptr() == b.data_ptr() and a.shape == b.shape and a.stride() == b.stride() and a.dtype is b.dtype


@Casts(gpu="widest")
def index_put(input: Tensor, indices: Sequence[Any], values: Tensor | Number, accumulate: bool = False) -> Tensor:
    """A copy of `input` with `values` at `input[indices]`: written, or added where `accumulate` is set.

    `values` broadcasts to the indexed shape. Repeated places get the last value, or the sum. IndexError for an index
    out of bounds.

    >>> gg.index_put(gg.zeros(3), (gg.tensor([0, 0, 2]),), gg.tensor([1.0, 2.0, 3.0]), accumulate=True)
    tensor([3., 0., 3.])
    """
    if isinstance(values, core.TensorBase) and values.dtype is not input.dtype:
        raise TypeError(f"index_put: values {values.dtype} and input {input.dtype}: the dtypes differ")
    k = Key(input, tuple([ALL if i is None else i for i in indices]))
    view = () if k.view is None else k.view
    return IndexAssign.apply(input, values, "index_put", view, k.axes, k.indices, True, ADD if accumulate else WRITE)


# One axis ------------------------------------------------------------------------------------------------------------


def _flat_index(op: str, index: Tensor) -> Tensor:
    if index.ndim > 1:
        raise IndexError(f"{op}: index {tuple(index.shape)} {index.dtype} must have at most one axis")
    return index.reshape(-1) if index.ndim == 0 else index


@numpy_names
def index_select(input: Tensor, dim: int, index: Tensor) -> Tensor:
    """The slices of `input` that the 1-d `index` names along `dim`: y[.., j, ..] = input[.., index[j], ..].

    IndexError for an index outside [0, size); negative ones are not taken.

    >>> gg.index_select(gg.tensor([[1, 2, 3], [4, 5, 6]]), 1, gg.tensor([2, 0]))
    tensor([[3, 1],
            [6, 4]])
    """
    axis, index = axis_of("index_select", dim, input.ndim), _flat_index("index_select", index)
    if input.ndim == 0:
        return IndexGet.apply(input.reshape(1), "index_select", (0,), (index,), False).reshape(())
    return IndexGet.apply(input, "index_select", (axis,), (index,), False)


def _index_write(op: str, input: Tensor, dim: int, index: Tensor, v: Tensor | Number, fold: int) -> Tensor:
    axis, index = axis_of(op, dim, input.ndim), _flat_index(op, index)
    x = input.reshape(1) if input.ndim == 0 else input
    if isinstance(v, core.TensorBase):
        if v.dtype is not x.dtype:
            raise TypeError(f"{op}: source {v.dtype} and input {x.dtype}: the dtypes differ")
        v = v.reshape(1) if v.ndim == 0 else v
        wanted = (*x.shape[:axis], index.shape[0], *x.shape[axis + 1 :])
        if tuple(v.shape) != wanted:
            raise core.ShapeError(f"{op}: source {tuple(v.shape)} does not fit; with this index it must be {wanted}")
    y = IndexAssign.apply(x, v, op, (), (axis,), (index,), False, fold)
    return y.reshape(()) if input.ndim == 0 else y


@numpy_names
def index_add(input: Tensor, dim: int, index: Tensor, source: Tensor, *, alpha: Number = 1) -> Tensor:
    """y = input with alpha * source[.., j, ..] added to y[.., index[j], ..]; sums run in the order of j.

    >>> gg.index_add(gg.zeros(3), 0, gg.tensor([0, 0, 2]), gg.ones(3), alpha=2)
    tensor([4., 0., 2.])
    """
    return _index_write("index_add", input, dim, index, source if alpha == 1 else source * alpha, ADD)


@numpy_names
@Casts(cpu="widest")
def index_copy(input: Tensor, dim: int, index: Tensor, source: Tensor) -> Tensor:
    """y = input with y[.., index[j], ..] = source[.., j, ..].

    >>> gg.index_copy(gg.zeros(3), 0, gg.tensor([2, 0]), gg.tensor([1.0, 2.0]))
    tensor([2., 0., 1.])
    """
    return _index_write("index_copy", input, dim, index, source, WRITE)


@numpy_names
def index_fill(input: Tensor, dim: int, index: Tensor, value: Tensor | Number) -> Tensor:
    """y = input with y[.., index[j], ..] = value, a number or a 0-d tensor.

    >>> gg.index_fill(gg.zeros(3), 0, gg.tensor([0, 2]), 1)
    tensor([1., 0., 1.])
    """
    axis, index = axis_of("index_fill", dim, input.ndim), _flat_index("index_fill", index)
    if isinstance(value, core.TensorBase) and value.ndim:
        raise core.ShapeError(f"index_fill: value {tuple(value.shape)} {value.dtype} must have no axes")
    if isinstance(value, core.TensorBase) and value.requires_grad:
        index = core.unique(index, None, True, False, False)[0]  # a place named twice is written once
    x = input.reshape(1) if input.ndim == 0 else input
    y = IndexAssign.apply(x, value, "index_fill", (), (axis,), (index,), False, WRITE)
    return y.reshape(()) if input.ndim == 0 else y


@numpy_names
def index_reduce(
    input: Tensor, dim: int, index: Tensor, source: Tensor, reduce: str, *, include_self: bool = True
) -> Tensor:
    """y[.., i, ..] = the reduction ("prod", "mean", "amax", "amin") of source[.., j, ..] over the j with index[j] = i.

    The element of `input` takes part where `include_self` is set; places that no index names keep it.

    >>> gg.index_reduce(gg.ones(2), 0, gg.tensor([0, 0]), gg.tensor([2.0, 3.0]), "prod")
    tensor([6., 1.])
    """
    if reduce not in ("prod", "mean", "amax", "amin"):
        raise RuntimeError(f"index_reduce: reduce must be 'prod', 'mean', 'amax' or 'amin', not {reduce!r}")
    axis, index = axis_of("index_reduce", dim, input.ndim), _flat_index("index_reduce", index)
    wanted = (*input.shape[:axis], index.shape[0], *input.shape[axis + 1 :])
    if input.ndim and tuple(source.shape) != wanted:
        raise core.ShapeError(
            f"index_reduce: source {tuple(source.shape)} does not fit; with this index it must be {wanted}"
        )
    shape = [1] * max(source.ndim, 1)
    shape[axis] = -1
    index = index.reshape(shape).expand(source.shape if source.ndim else (1,))
    return ScatterReduce.apply(input, source, "index_reduce", dim, index, reduce, include_self)


# One index per element -----------------------------------------------------------------------------------------------


class Gather(Op):
    """y[i, j] = x[i, index[i, j]] (for dim 1)."""

    def forward(self, x: Tensor, op: str, dim: int, index: Tensor) -> Tensor:
        self.op, self.shape, self.dim = op, x.shape, dim
        self.save(index)
        return core.gather(op, x, dim, index)

    # dx adds each dy to the element it was read from.
    def backward(self, dy: Tensor) -> Tensor:
        return GatherBackward.apply(dy, self.op, self.shape, self.dim, self.saved[0])


class GatherBackward(Op):
    """Zeros of a shape, with dy[i, j] added at [i, index[i, j]]: the adjoint of Gather."""

    def forward(self, dy: Tensor, op: str, shape: tuple[int, ...], dim: int, index: Tensor) -> Tensor:
        self.op, self.dim = op, dim
        self.save(index)
        return core.gather_backward(op, dy, shape, dim, index)

    def backward(self, d: Tensor) -> Tensor:
        return Gather.apply(d, self.op, self.dim, self.saved[0])


class Scatter(Op):
    """y = x, then y[i, index[i, j]] = src[i, j], or that plus src[i, j] (for dim 1)."""

    def forward(self, x: Tensor, src: Tensor | Number, op: str, dim: int, index: Tensor, fold: int) -> Tensor:
        self.op, self.dim, self.fold = op, dim, fold
        self.src_shape = src.shape if isinstance(src, core.TensorBase) else None
        self.save(index)
        return core.scatter(op, x, dim, index, src, fold)

    # dsrc = dy where it was written.  dx = dy; where src replaced x, zero there.
    def backward(self, dy: Tensor) -> tuple[Tensor | None, Tensor | None]:
        (index,) = self.saved
        dx = dsrc = None
        if self.needs[0]:
            dx = dy if self.fold == ADD else Scatter.apply(dy, 0, self.op, self.dim, index, WRITE)
        if self.needs[1] and self.src_shape is not None:
            dsrc = _fit(Gather.apply(dy, self.op, self.dim, index), self.src_shape)
        return dx, dsrc


class ScatterAdd(Scatter):
    """y = x, then y[i, index[i, j]] += src[i, j], which autocast on a GPU takes in one dtype."""

    autocast = Casts(gpu="widest")


def _fit(d: Tensor, shape: tuple[int, ...]) -> Tensor:
    """d in the low corner of zeros: the part of src that an index smaller than it does not reach has no gradient."""
    if d.shape == shape:
        return d
    if d.ndim != len(shape):
        return d.reshape(shape)
    corner = tuple([slice(size) for size in d.shape])
    return IndexSpread.apply(d, "scatter", shape, corner, (), (), True)


class ScatterReduce(Op):
    """y[i, k] = reduction of the src[i, j] with index[i, j] = k, and of x[i, k] where include_self (for dim 1)."""

    def forward(
        self, x: Tensor, src: Tensor, op: str, dim: int, index: Tensor, reduce: str, include_self: bool
    ) -> Tensor:
        self.dim, self.reduce, self.include_self = dim, reduce, include_self
        y = core.scatter_reduce(op, x, dim, index, src, reduce, include_self)
        self.save(x, src, index, y)
        return y

    # sum   dx = dy                      dsrc = dy there
    # mean  dx = dy / count              dsrc = dy / count there
    # amax, amin  dy goes in even parts to all who are equal to the result
    # prod  dx = dy * (product of the others), from the result where no factor is zero; a factor that is the only zero
    #       of its product gets the product of the rest.
    # Where x takes no part, dx is zero at the places that index names.
    def backward(self, dy: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, src, index, y = self.saved
        dim, shape = self.dim, src.shape
        if src.shape != index.shape:
            src = src[tuple([slice(n) for n in index.shape])]

        def there(t: Tensor) -> Tensor:
            return t.gather(dim, index)

        def total(t: Tensor) -> Tensor:
            return t.new_zeros(x.shape).scatter_add(dim, index, t)

        if self.reduce == "sum":
            dx, dsrc = dy, there(dy)
        elif self.reduce == "mean":
            count = (total(src.new_ones(index.shape)) + (1 if self.include_self else 0)).clamp(min=1)
            dx = dy / count
            dsrc = there(dx)
        elif self.reduce == "prod":
            zero = (src == 0) & (there(total((src == 0).to(src.dtype))) == 1)
            others = x if self.include_self else Scatter.apply(x, 1, "scatter_reduce", dim, index, WRITE)
            rest = others.scatter_reduce(dim, index, src.masked_fill(zero, 1), "prod")
            of_src = x.new_ones(x.shape).scatter_reduce(dim, index, src, "prod")
            dx = dy * of_src
            by_quotient = there(dy * y) / src.masked_fill(src == 0, 1)
            dsrc = by_quotient.masked_fill(zero, 0) + there(dy * rest).masked_fill(~zero, 0)
        else:
            mine = (x == y).to(dy.dtype)
            if not self.include_self:
                mine = Scatter.apply(mine, 0, "scatter_reduce", dim, index, WRITE)
            theirs = (src == there(y)).to(dy.dtype)
            share = dy / (mine + total(theirs)).clamp(min=1)
            dx, dsrc = share * mine, there(share) * theirs
        if not self.include_self:
            dx = Scatter.apply(dy, 0, "scatter_reduce", dim, index, WRITE)
        return dx, _fit(dsrc, shape)


@numpy_names
def gather(input: Tensor, dim: int, index: Tensor, *, sparse_grad: bool = False) -> Tensor:
    """The elements of `input` that `index` names along `dim`: y[i, j] = input[i, index[i, j]] (for dim 1).

    `index` has the axes of `input` and is no longer than it on the others. IndexError for an index outside [0, size).

    >>> gg.gather(gg.tensor([[1, 2], [3, 4]]), 1, gg.tensor([[0, 0], [1, 0]]))
    tensor([[1, 1],
            [4, 3]])
    """
    return Gather.apply(input, "gather", dim, index)


@numpy_names
def scatter(
    input: Tensor,
    dim: int,
    index: Tensor,
    src: Tensor | Number | None = None,
    *,
    value: Number | None = None,
    reduce: str | None = None,
) -> Tensor:
    """y = input, then y[i, index[i, j]] = src[i, j] (for dim 1).

    `reduce` "add" or "multiply" combines with what is there. `src` is at least as large as `index`,
    or a number. Of several writes to one place the last one stays.

    >>> gg.scatter(gg.zeros(2, 3), 1, gg.tensor([[2], [0]]), 7.0)
    tensor([[0., 0., 7.],
            [7., 0., 0.]])
    """
    if src is None:
        src = value
    if src is None:
        raise TypeError("scatter: src or value is needed")
    if reduce is None or reduce == "add":
        return Scatter.apply(input, src, "scatter", dim, index, WRITE if reduce is None else ADD)
    if reduce != "multiply":
        raise RuntimeError(f"scatter: reduce must be 'add' or 'multiply', not {reduce!r}")
    if not isinstance(src, core.TensorBase):
        src = input.new_full(index.shape, src)
    return ScatterReduce.apply(input, src, "scatter", dim, index, "prod", True)


@numpy_names
def scatter_add(input: Tensor, dim: int, index: Tensor, src: Tensor) -> Tensor:
    """y = input, then y[i, index[i, j]] += src[i, j] (for dim 1), summed in the order of src for any number of threads.

    >>> gg.scatter_add(gg.zeros(3), 0, gg.tensor([0, 0, 2]), gg.tensor([1.0, 2.0, 3.0]))
    tensor([3., 0., 3.])
    """
    return ScatterAdd.apply(input, src, "scatter_add", dim, index, ADD)


@numpy_names
def scatter_reduce(
    input: Tensor, dim: int, index: Tensor, src: Tensor, reduce: str, *, include_self: bool = True
) -> Tensor:
    """y[i, k] = "sum", "prod", "mean", "amax" or "amin" of the src[i, j] with index[i, j] = k (for dim 1).

    The element of `input` takes part where `include_self` is set; places that no index names keep it.

    >>> gg.scatter_reduce(gg.zeros(2), 0, gg.tensor([0, 0, 1]), gg.tensor([1.0, 4.0, 2.0]), "amax")
    tensor([4., 2.])
    """
    if reduce not in FOLDS:
        raise RuntimeError(f"scatter_reduce: reduce must be one of {', '.join(map(repr, FOLDS))}, not {reduce!r}")
    return ScatterReduce.apply(input, src, "scatter_reduce", dim, index, reduce, include_self)


@numpy_names
def take_along_dim(input: Tensor, indices: Tensor, dim: int | None = None) -> Tensor:
    """gather with `input` and `indices` broadcast to each other on the other axes; flat where `dim` is None.

    Negative indices count from the end.

    >>> x = gg.tensor([[3, 1, 2]])
    >>> gg.take_along_dim(x, gg.argsort(x, 1), 1)
    tensor([[1, 2, 3]])
    """
    if indices.dtype is not core.int64:
        raise TypeError(f"take_along_dim: indices {tuple(indices.shape)} {indices.dtype} must be int64")
    if dim is None:
        indices = core.index_wrap("take_along_dim", indices.reshape(-1), 0, input.numel())
        return Gather.apply(input.reshape(-1), "take_along_dim", 0, indices)
    if input.ndim != indices.ndim:
        raise core.ShapeError(
            f"take_along_dim: input {tuple(input.shape)} and indices {tuple(indices.shape)} must have the same number "
            "of axes"
        )
    axis = axis_of("take_along_dim", dim, input.ndim)
    shape = []
    for i, (a, b) in enumerate(zip(input.shape, indices.shape)):
        if i != axis and a != b and a != 1 and b != 1:
            raise core.ShapeError(
                f"take_along_dim: input {tuple(input.shape)} and indices {tuple(indices.shape)} do not broadcast on "
                f"axis {i}"
            )
        shape.append(b if a == 1 else a)
    indices = core.index_wrap("take_along_dim", indices, axis, input.shape[axis] if input.ndim else 1)
    if input.ndim:
        input = input.expand([*shape[:axis], input.shape[axis], *shape[axis + 1 :]])
        indices = indices.expand([*shape[:axis], indices.shape[axis], *shape[axis + 1 :]])
    return Gather.apply(input, "take_along_dim", axis, indices)


def take(input: Tensor, index: Tensor) -> Tensor:
    """The elements of `input`, read as one row, at `index`, in the shape of `index`; negative ones count from the end.

    >>> gg.take(gg.tensor([[4, 5], [6, 7]]), gg.tensor([0, -1]))
    tensor([4, 7])
    """
    return IndexGet.apply(input.reshape(-1), "take", (0,), (index,), True)


def put(input: Tensor, index: Tensor, source: Tensor, accumulate: bool = False) -> Tensor:
    """A copy of `input` whose elements, read as one row, have `source` written or added at `index`.

    >>> gg.put(gg.zeros(2, 2), gg.tensor([0, -1]), gg.tensor([1.0, 2.0]))
    tensor([[1., 0.],
            [0., 2.]])
    """
    if source.dtype is not input.dtype:
        raise TypeError(f"put: source {source.dtype} and input {input.dtype}: the dtypes differ")
    if source.numel() != index.numel():
        raise core.ShapeError(
            f"put: source {tuple(source.shape)} and index {tuple(index.shape)} must have as many elements"
        )
    y = IndexAssign.apply(
        input.reshape(-1), source.reshape(index.shape), "put", (), (0,), (index,), True, ADD if accumulate else WRITE
    )
    return y.reshape(input.shape)


# Masks ---------------------------------------------------------------------------------------------------------------


class MaskedFill(Op):
    """y = value where mask, else x."""

    def forward(self, x: Tensor, mask: Tensor, value: Tensor | Number) -> Tensor:
        self.shape = x.shape
        self.save(mask)
        return core.masked_fill(x, mask, value)

    # dx = dy outside the mask; dvalue = the sum of dy inside.
    def backward(self, dy: Tensor) -> tuple[Tensor | None, None, Tensor | None]:
        (mask,) = self.saved
        dx = unbroadcast(MaskedFill.apply(dy, mask, 0), self.shape) if self.needs[0] else None
        return dx, None, MaskedFill.apply(dy, ~mask, 0).sum() if self.needs[2] else None


class MaskedSelect(Op):
    """The elements of x where mask is true, in order, as one row."""

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        y = core.masked_select(x, mask)
        self.shape, self.full = x.shape, np.broadcast_shapes(x.shape, mask.shape)
        self.save(mask)
        return y

    # dx = dy put back in order, zero outside the mask.
    def backward(self, dy: Tensor) -> Tensor:
        (mask,) = self.saved
        return unbroadcast(MaskedScatter.apply(dy.new_zeros(self.full), mask, dy), self.shape)


class MaskedScatter(Op):
    """y = x, with the elements where mask is true replaced by the first ones of source, in order."""

    def forward(self, x: Tensor, mask: Tensor, source: Tensor) -> Tensor:
        self.x_shape, self.source_shape = x.shape, source.shape
        self.save(mask)
        return core.masked_scatter(x, mask, source)

    # dsource = dy inside the mask, as far as it was used; dx = dy outside.
    def backward(self, dy: Tensor) -> tuple[Tensor | None, None, Tensor | None]:
        (mask,) = self.saved
        dx = unbroadcast(MaskedFill.apply(dy, mask, 0), self.x_shape) if self.needs[0] else None
        dsource = None
        if self.needs[2]:
            flat = (math.prod(self.source_shape),)
            dsource = _fit(MaskedSelect.apply(dy, mask), flat).reshape(self.source_shape)
        return dx, None, dsource


def masked_fill(input: Tensor, mask: Tensor, value: Tensor | Number) -> Tensor:
    """`value` (a number or a 0-d tensor) where `mask` is true, else `input`; the two broadcast.

    >>> gg.masked_fill(gg.tensor([1.0, 2.0]), gg.tensor([False, True]), 0)
    tensor([1., 0.])
    """
    return MaskedFill.apply(input, mask, value)


def masked_select(input: Tensor, mask: Tensor) -> Tensor:
    """The elements of `input` where `mask` is true, in order, as one row; the two broadcast.

    >>> x = gg.tensor([1, 2, 3])
    >>> gg.masked_select(x, x > 1)
    tensor([2, 3])
    """
    return MaskedSelect.apply(input, mask)


def masked_scatter(input: Tensor, mask: Tensor, source: Tensor) -> Tensor:
    """`input` with the elements where `mask` is true replaced by the first ones of `source`, in order.

    >>> gg.masked_scatter(gg.zeros(3), gg.tensor([True, False, True]), gg.tensor([1.0, 2.0, 3.0]))
    tensor([1., 0., 2.])
    """
    return MaskedScatter.apply(input, mask, source)


def masked_fill_(self: Tensor, mask: Tensor, value: Tensor | Number) -> Tensor:
    """In-place form of masked_fill."""
    check_in_place("masked_fill_", self)
    if recording() and (self.requires_grad or (isinstance(value, core.TensorBase) and value.requires_grad)):
        return overwrite("masked_fill_", self, MaskedFill.apply(self, mask, value))
    core.masked_fill_(self, mask, value)
    note_change(self)
    return self


def nonzero(input: Tensor, *, as_tuple: bool = False) -> Any:
    """The coordinates of the elements that are not zero: (count, ndim) int64, or a tuple of one row per axis.

    >>> gg.nonzero(gg.tensor([[0, 1], [2, 0]]))
    tensor([[0, 1],
            [1, 0]])
    >>> gg.nonzero(gg.tensor([0, 5, 6]), as_tuple=True)
    (tensor([1, 2]),)
    """
    places = core.nonzero(input)
    if not as_tuple:
        return places
    if input.ndim == 0:
        return (places.new_zeros(places.shape[0]),)
    return tuple(_columns(places))


def argwhere(input: Tensor) -> Tensor:
    """The coordinates of the elements that are not zero, one row each: `nonzero(input)`.

    >>> gg.argwhere(gg.tensor([0, 5]))
    tensor([[1]])
    """
    return core.nonzero(input)


def one_hot(tensor: Tensor, num_classes: int = -1) -> Tensor:
    """int64 rows of zeros with a one at each index: y[..., c] = (tensor[...] == c).

    `num_classes` -1 means one more than the greatest index.

    >>> gg.nn.functional.one_hot(gg.tensor([1, 0]), 3)
    tensor([[0, 1, 0],
            [1, 0, 0]])
    """
    if tensor.dtype is not core.int64:
        raise RuntimeError(
            f"one_hot: tensor {tuple(tensor.shape)} {tensor.dtype} must be int64; convert it with .long()"
        )
    if num_classes == -1:
        if tensor.numel() == 0:
            raise RuntimeError("one_hot: the number of classes of an empty tensor is unknown; pass num_classes")
        num_classes = int(tensor.max().item()) + 1
    if num_classes < 1 and not (num_classes == 0 and tensor.numel() == 0):
        raise ValueError(f"one_hot: num_classes must be positive, not {num_classes}")
    zeros = tensor.new_zeros((*tensor.shape, num_classes))
    return core.scatter("one_hot", zeros, -1, tensor.unsqueeze(-1), 1, WRITE)


# A part replaced -----------------------------------------------------------------------------------------------------


def _replace(op: str, input: Tensor, key: Any, src: Tensor) -> Tensor:
    region = core.index_view(input, key)
    if src.shape != region.shape:
        raise core.ShapeError(f"{op}: src {tuple(src.shape)} does not fit; here it must be {tuple(region.shape)}")
    return IndexAssign.apply(input, src, op, key, (), (), True, WRITE)


@numpy_names
def select_scatter(input: Tensor, src: Tensor, dim: int, index: int) -> Tensor:
    """`input` with its slice `index` along `dim` replaced by `src`.

    >>> gg.select_scatter(gg.zeros(2, 2), gg.ones(2), 0, 1)
    tensor([[0., 0.],
            [1., 1.]])
    """
    axis = axis_of("select_scatter", dim, input.ndim)
    size = input.shape[axis] if input.ndim else 0
    if not -size <= index < size:
        raise IndexError(
            f"select_scatter: index {index} is out of bounds for axis {axis} of {tuple(input.shape)} {input.dtype}"
        )
    return _replace("select_scatter", input, (*[ALL] * axis, index), src)


@numpy_names
def slice_scatter(
    input: Tensor, src: Tensor, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> Tensor:
    """`input` with `input[start:end:step]` along `dim` replaced by `src`.

    >>> gg.slice_scatter(gg.zeros(4), gg.ones(2), start=1, end=3)
    tensor([0., 1., 1., 0.])
    """
    axis = axis_of("slice_scatter", dim, input.ndim)
    return _replace("slice_scatter", input, (*[ALL] * axis, slice(start, end, step)), src)


class DiagonalScatter(Op):
    """y = x with a diagonal replaced by src."""

    def forward(self, x: Tensor, src: Tensor, offset: int, dim1: int, dim2: int) -> Tensor:
        self.at = offset, dim1, dim2
        y = core.clone(x)
        core.copy_(y.diagonal(offset, dim1, dim2), src)
        return y

    # dsrc = dy on the diagonal; dx = dy off it.
    def backward(self, dy: Tensor) -> tuple[Tensor, Tensor]:
        dsrc = dy.diagonal(*self.at)
        return DiagonalScatter.apply(dy, dy.new_zeros(dsrc.shape), *self.at), dsrc


def diagonal_scatter(input: Tensor, src: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
    """`input` with `input.diagonal(offset, dim1, dim2)` replaced by `src`.

    >>> gg.diagonal_scatter(gg.zeros(2, 2), gg.ones(2))
    tensor([[1., 0.],
            [0., 1.]])
    """
    wanted = tuple(input.detach().diagonal(offset, dim1, dim2).shape)
    if tuple(src.shape) != wanted:
        raise core.ShapeError(f"diagonal_scatter: src {tuple(src.shape)} does not fit; here it must be {wanted}")
    return DiagonalScatter.apply(input, src, offset, dim1, dim2)
