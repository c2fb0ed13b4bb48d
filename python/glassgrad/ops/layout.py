"""Shape: views, which share their input's elements, and the copies that rearrange, repeat, join and pad.

A view costs no pass over memory: `reshape`, `transpose`, `narrow` and kin give new sizes and strides over the same
storage, and an in-place change of one shows in all. Each view's gradient is its transpose as a linear map: that of
reshape is a reshape, that of expand a sum, and that of a view which leaves elements out is `Place`, which writes into
zeros.
"""

from __future__ import annotations

import builtins
import functools
import itertools
import operator
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from glassgrad import _core as core
from glassgrad import cuda
from glassgrad.amp import Casts
from glassgrad.autograd.graph import Op, View, note_change, recording, unbroadcast
from glassgrad.autograd.in_place import check_in_place, overwrite
from glassgrad.memory_format import arranged, contiguous_format
from glassgrad.ops._axes import axis_of
from glassgrad.ops._names import numpy_names

if TYPE_CHECKING:
    from glassgrad.tensor import Tensor

    Size = int | Sequence[int]

F = TypeVar("F", bound=Callable[..., Any])

_DTYPE_OF_TYPE = {float: core.float64, int: core.int64, builtins.bool: core.bool}


def variadic(function: F) -> Callable[..., Any]:
    """The method of a function whose second argument lists sizes: they may be given one by one, x.reshape(2, 3)."""

    @functools.wraps(function)
    def method(input: Tensor, *sizes: Any, **kwargs: Any) -> Any:
        if len(sizes) == 1 and isinstance(sizes[0], (tuple, list)):
            return function(input, sizes[0], **kwargs)
        if kwargs and not sizes:
            return function(input, **kwargs)
        return function(input, sizes, **kwargs)

    return method


def _dims(dims: Size) -> tuple[int, ...]:
    return tuple(dims) if isinstance(dims, (tuple, list)) else (dims,)  # type: ignore[return-value]


# ---- Views -----------------------------------------------------------------------------------------------------------


class Place(Op):
    """Zeros of `shape`, with x in the elements at which a view looks: the transpose of that view."""

    def forward(self, x: Tensor, shape: tuple[int, ...], view: type[View], args: tuple[Any, ...]) -> Tensor:
        self.view, self.args = view, args
        y: Tensor = core.full(shape, 0, x.dtype, x.device)
        core.copy_(view().forward(y, *args), x)
        return y

    # y = P x with P 0/1, so dx = Pᵀ dy: what the view sees.
    def backward(self, dy: Tensor) -> Tensor:
        return self.view.apply(dy, *self.args)


class Reshape(View):
    """The same elements in row-major order, cut into other axes."""

    def forward(self, x: Tensor, shape: Size) -> Tensor:
        self.shape = x.shape
        return core.reshape(x, shape)

    def backward(self, dy: Tensor) -> Tensor:
        return reshape(dy, self.shape)


def reshape(input: Tensor, shape: Size) -> Tensor:
    """The elements of `input` in row-major order as a tensor of `shape`, in which one size may be -1 and is inferred.

    A view where the strides allow it, else a copy. Raises ShapeError where the numbers of elements differ.

    >>> gg.arange(6).reshape(2, -1)
    tensor([[0, 1, 2],
            [3, 4, 5]])
    """
    if not core.reshape_is_view(input, shape):
        input = Clone.apply(input)
    return Reshape.apply(input, shape)


def view(input: Tensor, *shape: Any, dtype: Any = None) -> Tensor:
    """`input` seen in another shape, or its bytes as another dtype, always without a copy.

    Raises ShapeError where the strides do not allow it; `reshape` copies then.

    >>> gg.arange(6).view(3, 2).shape
    (3, 2)
    >>> gg.tensor(1.0).view(gg.int32)
    tensor(1065353216, dtype=glassgrad.int32)
    """
    if len(shape) == 1:
        if isinstance(shape[0], (tuple, list)):
            shape = tuple(shape[0])
        elif isinstance(shape[0], (core.dtype, type)):
            dtype = shape[0]
    if dtype is not None:
        return core.view_dtype(input, dtype)
    core.check_view(input, shape)
    return Reshape.apply(input, shape)


def view_as(input: Tensor, other: Tensor) -> Tensor:
    """`input.view(other.shape)`.

    >>> gg.arange(4).view_as(gg.zeros(2, 2)).shape
    (2, 2)
    """
    return view(input, other.shape)


def reshape_as(input: Tensor, other: Tensor) -> Tensor:
    """`input.reshape(other.shape)`.

    >>> gg.arange(4).reshape_as(gg.zeros(2, 2)).shape
    (2, 2)
    """
    return reshape(input, other.shape)


def flatten(input: Tensor, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """The axes from `start_dim` to `end_dim`, both included, merged into one.

    >>> gg.zeros(2, 3, 4).flatten(1).shape
    (2, 12)
    """
    shape = input.shape
    start, end = axis_of("flatten", start_dim, len(shape)), axis_of("flatten", end_dim, len(shape))
    if start > end:
        raise core.ShapeError(f"flatten: start_dim {start_dim} comes after end_dim {end_dim} in {shape} {input.dtype}")
    if not shape:
        return reshape(input, (1,))
    if start == end:
        return input
    size = 1
    for n in shape[start : end + 1]:
        size *= n
    return reshape(input, (*shape[:start], size, *shape[end + 1 :]))


def ravel(input: Tensor) -> Tensor:
    """All elements along one axis, in row-major order.

    >>> gg.ones(2, 2).ravel()
    tensor([1., 1., 1., 1.])
    """
    return contiguous(reshape(input, (-1,)))


def unflatten(input: Tensor, dim: int, sizes: Size) -> Tensor:
    """The axis `dim` cut into axes of `sizes`, one of which may be -1.

    >>> gg.zeros(2, 6).unflatten(1, (2, -1)).shape
    (2, 2, 3)
    """
    shape = input.shape
    d = axis_of("unflatten", dim, len(shape))
    if not shape:
        raise IndexError("unflatten: a 0-d tensor has no axis to cut")
    sizes = _dims(sizes)
    known = 1
    for n in sizes:
        known *= n if n != -1 else 1
    if not sizes or sizes.count(-1) > 1 or (shape[d] % known if -1 in sizes and known else known != shape[d]):
        raise core.ShapeError(
            f"unflatten: axis {d} of {shape} {input.dtype} cannot be cut into {sizes}; their product must be {shape[d]}"
        )
    if -1 in sizes:
        sizes = tuple(shape[d] // known if n == -1 else n for n in sizes)
    return view(input, (*shape[:d], *sizes, *shape[d + 1 :]))


class Transpose(View):
    """Two axes swapped."""

    def forward(self, x: Tensor, dim0: int, dim1: int) -> Tensor:
        self.dims = dim0, dim1
        return core.transpose(x, dim0, dim1)

    def backward(self, dy: Tensor) -> Tensor:
        return Transpose.apply(dy, *self.dims)


def transpose(input: Tensor, dim0: int, dim1: int) -> Tensor:
    """A view of `input` with two axes swapped.

    >>> gg.zeros(2, 3, 4).transpose(0, 2).shape
    (4, 3, 2)
    """
    return Transpose.apply(input, dim0, dim1)


def swapaxes(input: Tensor, axis0: int, axis1: int) -> Tensor:
    """`transpose` by numpy's name.

    >>> gg.zeros(2, 3).swapaxes(0, 1).shape
    (3, 2)
    """
    return transpose(input, axis0, axis1)


def swapdims(input: Tensor, dim0: int, dim1: int) -> Tensor:
    """`transpose` by another name.

    >>> gg.zeros(2, 3).swapdims(0, 1).shape
    (3, 2)
    """
    return transpose(input, dim0, dim1)


def t(input: Tensor) -> Tensor:
    """The transpose of a matrix; a tensor of fewer axes as it is.

    >>> gg.zeros(2, 3).t().shape
    (3, 2)
    """
    if input.ndim > 2:
        raise core.ShapeError(
            f"t: input {input.shape} {input.dtype} has {input.ndim} axes; at most 2 are possible: use mT"
        )
    return transpose(input, 0, 1) if input.ndim == 2 else Permute.apply(input, range(input.ndim))


class Permute(View):
    """Axis i of the output is axis dims[i] of the input."""

    def forward(self, x: Tensor, dims: Sequence[int]) -> Tensor:
        self.dims = dims = tuple(dims)
        return core.permute(x, dims)

    # The inverse permutation.
    def backward(self, dy: Tensor) -> Tensor:
        inverse = [0] * len(self.dims)
        for i, d in enumerate(self.dims):
            inverse[d] = i
        return Permute.apply(dy, inverse)


def permute(input: Tensor, dims: Sequence[int]) -> Tensor:
    """A view of `input` whose axis i is the input's axis `dims[i]`.

    >>> gg.zeros(2, 3, 4).permute(2, 0, 1).shape
    (4, 2, 3)
    """
    return Permute.apply(input, dims)


class MoveDim(View):
    """Axis source[i] of the input becomes axis destination[i]; the others keep their order."""

    def forward(self, x: Tensor, source: Size, destination: Size) -> Tensor:
        self.dims = source, destination
        return core.movedim(x, source, destination)

    def backward(self, dy: Tensor) -> Tensor:
        source, destination = self.dims
        return MoveDim.apply(dy, destination, source)


def movedim(input: Tensor, source: Size, destination: Size) -> Tensor:
    """A view of `input` with each axis `source[i]` moved to `destination[i]`; the others keep their order.

    >>> gg.zeros(2, 3, 4).movedim(0, -1).shape
    (3, 4, 2)
    """
    return MoveDim.apply(input, source, destination)


def moveaxis(input: Tensor, source: Size, destination: Size) -> Tensor:
    """`movedim` by numpy's name.

    >>> gg.zeros(2, 3, 4).moveaxis(0, -1).shape
    (3, 4, 2)
    """
    return movedim(input, source, destination)


def reversed_axes(input: Tensor) -> Tensor:
    """`.T`: a view with the axes in reverse order.

    >>> gg.zeros(2, 3).T.shape
    (3, 2)
    """
    return permute(input, range(input.ndim - 1, -1, -1))


def matrix_transpose(input: Tensor) -> Tensor:
    """`.mT` and `.mH`: a view with the last two axes swapped.

    >>> gg.zeros(5, 2, 3).mT.shape
    (5, 3, 2)
    """
    if input.ndim < 2:
        raise core.ShapeError(f"mT: input {input.shape} {input.dtype} has {input.ndim} axes; at least 2 are needed")
    return transpose(input, -2, -1)


def hermitian(input: Tensor) -> Tensor:
    """`.H`: the transpose of a matrix, whose real elements are their own conjugates.

    >>> gg.zeros(2, 3).H.shape
    (3, 2)
    """
    if input.ndim not in (0, 2):
        raise core.ShapeError(f"H: input {input.shape} {input.dtype} has {input.ndim} axes; a matrix is needed: use mH")
    return t(input)


class Squeeze(View):
    """Axes of size 1 left out."""

    def forward(self, x: Tensor, dim: Size | None) -> Tensor:
        self.shape = x.shape
        return core.squeeze(x, dim)

    def backward(self, dy: Tensor) -> Tensor:
        return reshape(dy, self.shape)


@numpy_names
def squeeze(input: Tensor, dim: Size | None = None) -> Tensor:
    """A view without the axes of size 1: all of them, or those of them that `dim` names.

    >>> gg.zeros(1, 2, 1).squeeze().shape
    (2,)
    >>> gg.zeros(1, 2, 1).squeeze(0).shape
    (2, 1)
    """
    return Squeeze.apply(input, dim)


class Unsqueeze(View):
    """A new axis of size 1."""

    def forward(self, x: Tensor, dim: int) -> Tensor:
        self.shape = x.shape
        return core.unsqueeze(x, dim)

    def backward(self, dy: Tensor) -> Tensor:
        return reshape(dy, self.shape)


@numpy_names
def unsqueeze(input: Tensor, dim: int) -> Tensor:
    """A view with a new axis of size 1 at `dim`.

    >>> gg.zeros(2, 3).unsqueeze(1).shape
    (2, 1, 3)
    """
    return Unsqueeze.apply(input, dim)


class Expand(View):
    """Axes of size 1 stretched, new ones put in front: y[i, j] = x[0, j]."""

    def forward(self, x: Tensor, size: Size) -> Tensor:
        self.shape = x.shape
        return core.expand(x, size)

    # Every copy of an element has its share: the sum over the stretched axes.
    def backward(self, dy: Tensor) -> Tensor:
        return unbroadcast(dy, self.shape)


def expand(input: Tensor, size: Size) -> Tensor:
    """A view with axes of size 1 stretched to `size` and new axes in front; -1 keeps a size. No element is copied.

    >>> gg.tensor([[1], [2]]).expand(2, 3)
    tensor([[1, 1, 1],
            [2, 2, 2]])
    """
    return Expand.apply(input, size)


def expand_as(input: Tensor, other: Tensor) -> Tensor:
    """`input.expand(other.shape)`.

    >>> gg.zeros(1, 3).expand_as(gg.zeros(2, 3)).shape
    (2, 3)
    """
    return expand(input, other.shape)


def broadcast_to(input: Tensor, size: Size) -> Tensor:
    """`expand` by numpy's name.

    >>> gg.zeros(3).broadcast_to((2, 3)).shape
    (2, 3)
    """
    return expand(input, size)


def broadcast_shapes(*shapes: Size) -> tuple[int, ...]:
    """The shape that operands of `shapes` broadcast to: axes align from the last, a size of 1 stretches.

    >>> gg.broadcast_shapes((2, 1), (3,))
    (2, 3)
    """
    return _broadcast("broadcast_shapes", [_dims(shape) for shape in shapes])


def _broadcast(op: str, shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    out: list[int] = []
    for shape in shapes:
        out = [1] * (len(shape) - len(out)) + out
        lead = len(out) - len(shape)
        for i, n in enumerate(shape):
            if n < 0:
                raise core.ShapeError(f"{op}: shape {shape} has a negative size")
            if n != 1 and out[lead + i] not in (1, n):
                raise core.ShapeError(
                    f"{op}: {', '.join(map(str, shapes))} do not broadcast: {out[lead + i]} and {n} differ"
                )
            out[lead + i] = n if out[lead + i] == 1 else out[lead + i]
    return tuple(out)


def broadcast_tensors(*tensors: Any) -> tuple[Tensor, ...]:
    """Views of the tensors, all expanded to the shape they broadcast to.

    >>> [x.shape for x in gg.broadcast_tensors(gg.zeros(2, 1), gg.zeros(3))]
    [(2, 3), (2, 3)]
    """
    tensors = _given("broadcast_tensors", tensors)
    shape = _broadcast("broadcast_tensors", [x.shape for x in tensors])
    return tuple([expand(x, shape) for x in tensors])


def _given(op: str, tensors: tuple[Any, ...]) -> tuple[Any, ...]:
    """Tensors given one by one, or as one list."""
    if len(tensors) == 1 and isinstance(tensors[0], (tuple, list)):
        tensors = tuple(tensors[0])
    for x in tensors:
        if not isinstance(x, core.TensorBase):
            raise TypeError(f"{op}: expected tensors, got {type(x).__name__}")
    return tensors


class Narrow(View):
    """Elements start, start + step, ... of an axis, length of them."""

    def forward(self, x: Tensor, dim: int, start: int, length: int, step: int) -> Tensor:
        self.shape, self.args = x.shape, (dim, start, length, step)
        return core.narrow(x, dim, start, length, step)

    def backward(self, dy: Tensor) -> Tensor:
        return Place.apply(dy, self.shape, Narrow, self.args)


def narrow(input: Tensor, dim: int, start: int | Tensor, length: int) -> Tensor:
    """A view of `length` elements along `dim`, from `start` on.

    >>> gg.arange(5).narrow(0, 1, 3)
    tensor([1, 2, 3])
    """
    return Narrow.apply(input, dim, int(start), length, 1)


class Select(View):
    """One index of an axis, which disappears."""

    def forward(self, x: Tensor, dim: int, index: int) -> Tensor:
        self.shape, self.args = x.shape, (dim, index)
        return core.select(x, dim, index)

    def backward(self, dy: Tensor) -> Tensor:
        return Place.apply(dy, self.shape, Select, self.args)


def select(input: Tensor, dim: int, index: int) -> Tensor:
    """A view of `input` at one `index` of the axis `dim`, which disappears.

    >>> gg.tensor([[1, 2], [3, 4]]).select(1, 0)
    tensor([1, 3])
    """
    return Select.apply(input, dim, index)


class Diagonal(View):
    """y[..., i] = x[..., i, i + offset, ...] for the axes dim1 and dim2, which give way to a last one."""

    def forward(self, x: Tensor, offset: int, dim1: int, dim2: int) -> Tensor:
        self.shape, self.args = x.shape, (offset, dim1, dim2)
        return core.diagonal(x, offset, dim1, dim2)

    def backward(self, dy: Tensor) -> Tensor:
        return Place.apply(dy, self.shape, Diagonal, self.args)


def diagonal(input: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
    """A view of the diagonal of the axes `dim1` and `dim2`, `offset` above the main one; it becomes the last axis.

    >>> gg.arange(9).reshape(3, 3).diagonal(1)
    tensor([1, 5])
    """
    return Diagonal.apply(input, offset, dim1, dim2)


def diag_embed(input: Tensor, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Tensor:
    """Matrices, spanned by the axes `dim1` and `dim2`, with the last axis of `input` on a diagonal and zero elsewhere.

    >>> gg.diag_embed(gg.tensor([1, 2]))
    tensor([[1, 0],
            [0, 2]])
    """
    ndim = input.ndim + 1
    if not input.ndim:
        raise core.ShapeError("diag_embed: input () has no axis; at least 1 is needed")
    d1, d2 = axis_of("diag_embed", dim1, ndim), axis_of("diag_embed", dim2, ndim)
    if d1 == d2:
        raise core.ShapeError(f"diag_embed: dim1 {dim1} and dim2 {dim2} are the same axis")
    n = input.shape[-1] + abs(offset)
    shape = list(input.shape[:-1])
    for d in sorted((d1, d2)):
        shape.insert(d, n)
    return Place.apply(input, tuple(shape), Diagonal, (offset, d1, d2))


def diag(input: Tensor, diagonal: int = 0) -> Tensor:
    """The diagonal of a matrix, or the matrix with a vector on its diagonal.

    >>> gg.diag(gg.tensor([1, 2]))
    tensor([[1, 0],
            [0, 2]])
    >>> gg.diag(gg.tensor([[1, 2], [3, 4]]))
    tensor([1, 4])
    """
    if input.ndim == 1:
        return diag_embed(input, diagonal)
    if input.ndim == 2:
        return clone(Diagonal.apply(input, diagonal, 0, 1))
    raise core.ShapeError(
        f"diag: input {input.shape} {input.dtype} has {input.ndim} axes; a vector or a matrix is needed"
    )


def diagflat(input: Tensor, offset: int = 0) -> Tensor:
    """The matrix with all elements of `input` on its diagonal.

    >>> gg.diagflat(gg.tensor([[1], [2]]))
    tensor([[1, 0],
            [0, 2]])
    """
    return diag_embed(reshape(input, (input.numel(),)), offset)


class Unfold(View):
    """Sliding windows: y[..., w, ..., k] = x[..., w * step + k, ...]."""

    def forward(self, x: Tensor, dimension: int, size: int, step: int) -> Tensor:
        self.shape, self.args = x.shape, (dimension, size, step)
        return core.unfold_windows(x, dimension, size, step)

    # Windows that are m = ceil(size / step) apart do not overlap: dx is the sum over the m classes of such windows,
    # each of which is placed in zeros at once.
    def backward(self, dy: Tensor) -> Tensor:
        dimension, size, step = self.args
        d = axis_of("unfold", dimension, len(self.shape))
        if not self.shape:
            return reshape(dy, ()) if size else dy.sum().reshape(())
        windows, apart = dy.shape[d], max(1, -(-size // step))
        parts = []
        for j in range(min(apart, windows)):
            count = (windows - 1 - j) // apart + 1
            reach = (count - 1) * apart * step + size
            part = Narrow.apply(dy, d, j, count, apart)
            part = Place.apply(part, (*self.shape[:d], reach, *self.shape[d + 1 :]), Unfold, (d, size, apart * step))
            parts.append(Place.apply(part, self.shape, Narrow, (d, j * step, reach, 1)))
        return functools.reduce(operator.add, parts)


def unfold(input: Tensor, dimension: int, size: int, step: int) -> Tensor:
    """A view of the windows of `size` elements along an axis, `step` apart; the place in the window is a new last axis.

    >>> gg.arange(5).unfold(0, 3, 2)
    tensor([[0, 1, 2],
            [2, 3, 4]])
    """
    return Unfold.apply(input, dimension, size, step)


class AsStrided(View):
    """y[i, j, ...] = the storage's element offset + i * stride[0] + j * stride[1] + ..."""

    def forward(
        self, x: Tensor, size: Size, stride: Size, offset: int, x_stride: tuple[int, ...], x_offset: int
    ) -> Tensor:
        if x.stride() != x_stride or x.storage_offset() != x_offset:
            raise RuntimeError(
                "as_strided: an in-place change of this view has no gradient, as its parent's layout has changed"
            )
        self.input = x.shape, x_stride, x_offset
        self.args = _dims(size), _dims(stride), offset
        return core.as_strided(x, size, stride, offset)

    # Gradients of outputs that read one place of the storage add up there; x takes its own places' share, divided by
    # how many elements of x lie there.
    def backward(self, dy: Tensor) -> Tensor:
        places = [self.input, self.args]
        low = min(offset for _, _, offset in places)
        span = max(offset + sum((n - 1) * s for n, s in zip(size, stride)) for size, stride, offset in places) - low + 1
        if not dy.numel() or 0 in self.input[0]:
            return core.full(self.input[0], 0, dy.dtype, dy.device)
        positions = core.arange_int(0, span, 1, core.int64, dy.device)
        read, own = (core.contiguous(core.as_strided(positions, n, s, o - low)) for n, s, o in (self.args, self.input))
        storage = core.full((span,), 0, dy.dtype, dy.device).index_add(0, read.reshape(-1), reshape(dy, (-1,)))
        dx = storage.index_select(0, own.reshape(-1)).reshape(self.input[0])
        if any(s == 0 and n > 1 for n, s in zip(*self.input[:2])):
            ones = core.full((own.numel(),), 1, dy.dtype, dy.device)
            counts = core.full((span,), 0, dy.dtype, dy.device).index_add(0, own.reshape(-1), ones)
            dx = dx / counts.index_select(0, own.reshape(-1)).reshape(self.input[0])
        return dx


def as_strided(input: Tensor, size: Size, stride: Size, storage_offset: int | None = None) -> Tensor:
    """A view of the storage of `input` with any sizes and strides, checked to stay inside of it.

    >>> gg.arange(5).as_strided((3, 3), (1, 1))
    tensor([[0, 1, 2],
            [1, 2, 3],
            [2, 3, 4]])
    """
    offset = input.storage_offset()
    return AsStrided.apply(
        input, size, stride, offset if storage_offset is None else storage_offset, input.stride(), offset
    )


class Split(View):
    """Consecutive parts of an axis, one view each."""

    def forward(self, x: Tensor, sizes: Sequence[int], dim: int, op: str) -> tuple[Tensor, ...]:
        self.shape, self.sizes, self.dim = x.shape, sizes, dim
        return core.split(x, sizes, dim, op)

    # The parts' gradients one after the other; a part nobody used has zeros.
    def backward(self, *dys: Tensor | None) -> Tensor:
        dy = next(g for g in dys if g is not None)
        d = self.dim % len(self.shape)
        parts = []
        for g, n in zip(dys, self.sizes):
            shape = (*self.shape[:d], n, *self.shape[d + 1 :])
            parts.append(core.full(shape, 0, dy.dtype, dy.device) if g is None else g)
        return cat(parts, d)


def _length(op: str, x: Tensor, dim: int) -> int:
    """The number of elements along dim of a tensor that is to be split."""
    if not x.ndim:
        raise core.ShapeError(f"{op}: a 0-d tensor has no axis to split")
    return x.shape[axis_of(op, dim, x.ndim)]


def _even(op: str, x: Tensor, size: int, n: int, dim: int) -> tuple[Tensor, ...]:
    """Parts of `size` of n elements, the last with the rest."""
    whole, rest = divmod(n, size) if size else (0, 0)
    sizes = [size] * whole
    if rest or not whole:
        sizes.append(rest)
    return Split.apply(x, sizes, dim, op)


@numpy_names
def split(tensor: Tensor, split_size_or_sections: Size, dim: int = 0) -> tuple[Tensor, ...]:
    """Views of parts along `dim`: of `split_size` elements each (the last may have fewer), or of the sizes listed.

    >>> gg.split(gg.arange(5), 2)
    (tensor([0, 1]), tensor([2, 3]), tensor([4]))
    """
    if isinstance(split_size_or_sections, (tuple, list)):
        return Split.apply(tensor, tuple(split_size_or_sections), dim, "split")
    n, size = _length("split", tensor, dim), int(split_size_or_sections)  # type: ignore[arg-type]
    if size < 0 or (size == 0 and n > 0):
        raise core.ShapeError(f"split: split_size {size} must be positive for an axis of {n} elements")
    return _even("split", tensor, size, n, dim)


def split_with_sizes(input: Tensor, split_sizes: Sequence[int], dim: int = 0) -> tuple[Tensor, ...]:
    """Views of consecutive parts of the sizes listed.

    >>> gg.split_with_sizes(gg.arange(3), [1, 2])
    (tensor([0]), tensor([1, 2]))
    """
    return Split.apply(input, tuple(split_sizes), dim, "split_with_sizes")


@numpy_names
def chunk(input: Tensor, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
    """Views of at most `chunks` parts of ceil(n / chunks) elements; the last may have fewer.

    >>> gg.chunk(gg.arange(5), 3)
    (tensor([0, 1]), tensor([2, 3]), tensor([4]))
    """
    if chunks <= 0:
        raise core.ShapeError(f"chunk: chunks {chunks} must be positive")
    n = _length("chunk", input, dim)
    if n == 0:
        return Split.apply(input, [0] * chunks, dim, "chunk")
    return _even("chunk", input, -(-n // chunks), n, dim)


@numpy_names
def tensor_split(input: Tensor, indices_or_sections: Any, dim: int = 0) -> tuple[Tensor, ...]:
    """Views of parts along `dim`: so many, as even as can be, or cut before each of the indices listed.

    >>> gg.tensor_split(gg.arange(5), 2)
    (tensor([0, 1, 2]), tensor([3, 4]))
    >>> gg.tensor_split(gg.arange(5), (1, 4))
    (tensor([0]), tensor([1, 2, 3]), tensor([4]))
    """
    n = _length("tensor_split", input, dim)
    if hasattr(indices_or_sections, "tolist"):
        indices_or_sections = indices_or_sections.tolist()
    if isinstance(indices_or_sections, int):
        if indices_or_sections <= 0:
            raise core.ShapeError(f"tensor_split: the number of sections, {indices_or_sections}, must be positive")
        size, rest = divmod(n, indices_or_sections)
        sizes = [size + (i < rest) for i in range(indices_or_sections)]
        return Split.apply(input, sizes, dim, "tensor_split")
    cuts = [0, *[min(max(i + n, 0), n) if i < 0 else min(i, n) for i in indices_or_sections], n]
    sizes = [b - a for a, b in itertools.pairwise(cuts)]
    if min(sizes) >= 0:
        return Split.apply(input, sizes, dim, "tensor_split")
    return tuple([narrow(input, dim, a, max(size, 0)) for a, size in zip(cuts, sizes)])


def _n_split(op: str, input: Tensor, indices_or_sections: Any, dim: int, least: int) -> tuple[Tensor, ...]:
    if input.ndim < least:
        raise core.ShapeError(
            f"{op}: input {input.shape} {input.dtype} has {input.ndim} axes; at least {least} are needed"
        )
    n = input.shape[dim]
    if isinstance(indices_or_sections, int) and (indices_or_sections <= 0 or n % indices_or_sections):
        raise core.ShapeError(
            f"{op}: axis {dim} of {input.shape} {input.dtype} cannot be cut into {indices_or_sections} even parts"
        )
    return tensor_split(input, indices_or_sections, dim)


def hsplit(input: Tensor, indices_or_sections: Any) -> tuple[Tensor, ...]:
    """`tensor_split` along axis 1, or axis 0 of a vector, into even parts or at the indices listed.

    >>> [x.shape for x in gg.hsplit(gg.zeros(2, 4), 2)]
    [(2, 2), (2, 2)]
    """
    return _n_split("hsplit", input, indices_or_sections, 0 if input.ndim == 1 else 1, 1)


def vsplit(input: Tensor, indices_or_sections: Any) -> tuple[Tensor, ...]:
    """`tensor_split` along axis 0 into even parts or at the indices listed.

    >>> [x.shape for x in gg.vsplit(gg.zeros(4, 2), 2)]
    [(2, 2), (2, 2)]
    """
    return _n_split("vsplit", input, indices_or_sections, 0, 2)


def dsplit(input: Tensor, indices_or_sections: Any) -> tuple[Tensor, ...]:
    """`tensor_split` along axis 2 into even parts or at the indices listed.

    >>> [x.shape for x in gg.dsplit(gg.zeros(1, 2, 4), 2)]
    [(1, 2, 2), (1, 2, 2)]
    """
    return _n_split("dsplit", input, indices_or_sections, 2, 3)


class Unbind(View):
    """Each index of an axis, which disappears, as a view of its own."""

    def forward(self, x: Tensor, dim: int) -> tuple[Tensor, ...]:
        self.dim = dim if dim >= 0 else dim + x.ndim
        return core.unbind(x, dim)

    def backward(self, *dys: Tensor | None) -> Tensor:
        dy = next(g for g in dys if g is not None)
        return stack([core.full(dy.shape, 0, dy.dtype, dy.device) if g is None else g for g in dys], self.dim)


@numpy_names
def unbind(input: Tensor, dim: int = 0) -> tuple[Tensor, ...]:
    """Views of `input` at every index of the axis `dim`.

    >>> gg.tensor([[1, 2], [3, 4]]).unbind(1)
    (tensor([1, 3]), tensor([2, 4]))
    """
    return Unbind.apply(input, dim)


def meshgrid(*tensors: Any, indexing: str | None = None) -> tuple[Tensor, ...]:
    """Coordinates of a grid: views of the vectors, each expanded over the others' axes.

    `indexing="ij"` (the default) lets the first vector run along axis 0, `"xy"` along axis 1, the second along axis 0.

    >>> gg.meshgrid(gg.tensor([1, 2]), gg.tensor([3, 4]), indexing="ij")[0]
    tensor([[1, 1],
            [2, 2]])
    """
    tensors = _given("meshgrid", tensors)
    if indexing not in (None, "ij", "xy"):
        raise core.ShapeError(f"meshgrid: indexing {indexing!r} must be 'ij' or 'xy'")
    if not tensors:
        raise core.ShapeError("meshgrid: at least one tensor is needed")
    for x in tensors:
        if x.ndim > 1:
            raise core.ShapeError(
                f"meshgrid: tensor {x.shape} {x.dtype} has {x.ndim} axes; vectors and scalars are needed"
            )
        if x.dtype is not tensors[0].dtype:
            raise core.ShapeError(f"meshgrid: dtypes {tensors[0].dtype} and {x.dtype} differ; all must be equal")
    swap = indexing == "xy" and len(tensors) > 1
    if swap:
        tensors = (tensors[1], tensors[0], *tensors[2:])
    shape = [x.numel() for x in tensors]
    grids = [expand(reshape(x, (-1, *[1] * (len(shape) - 1 - i))), shape) for i, x in enumerate(tensors)]
    if swap:
        grids[:2] = grids[1::-1]
    return tuple(grids)


def _atleast(op: str, tensors: tuple[Any, ...], up: Callable[[Tensor], Tensor]) -> Any:
    raised = tuple([up(x) for x in _given(op, tensors)])
    return raised[0] if len(tensors) == 1 and not isinstance(tensors[0], (tuple, list)) else raised


def atleast_1d(*tensors: Any) -> Any:
    """The tensor, or a tuple of them, each with at least one axis.

    >>> gg.atleast_1d(gg.tensor(1))
    tensor([1])
    """
    return _atleast("atleast_1d", tensors, lambda x: x if x.ndim else reshape(x, (1,)))


def atleast_2d(*tensors: Any) -> Any:
    """The tensor, or a tuple of them, each with at least two axes: a vector becomes a row.

    >>> gg.atleast_2d(gg.tensor([1, 2])).shape
    (1, 2)
    """
    return _atleast(
        "atleast_2d", tensors, lambda x: x if x.ndim > 1 else reshape(x, (1, 1)) if x.ndim == 0 else unsqueeze(x, 0)
    )


def atleast_3d(*tensors: Any) -> Any:
    """The tensor, or a tuple of them, each with at least three axes: (n,) becomes (1, n, 1), (m, n) becomes (m, n, 1).

    >>> gg.atleast_3d(gg.zeros(2, 3)).shape
    (2, 3, 1)
    """

    def up(x: Tensor) -> Tensor:
        if x.ndim > 2:
            return x
        return reshape(x, (1, 1, 1)) if x.ndim == 0 else unsqueeze(unsqueeze(x, 0) if x.ndim == 1 else x, -1)

    return _atleast("atleast_3d", tensors, up)


def reshaping(function: F) -> F:
    """The in-place method of a view: `squeeze_ = reshaping(squeeze)`. It gives the tensor other sizes and strides."""
    name = f"{function.__name__}_"

    @functools.wraps(function)
    def method(input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if input.requires_grad:
            check_in_place(name, input)
            if input._view is not None:
                raise RuntimeError(
                    f"{name}: a view with a gradient cannot change its shape in place; use {function.__name__}"
                )
        y = function(input, *args, **kwargs)
        input._set_data(y)
        if y.requires_grad:
            input._node, input._output = y._node, y._output
        return input

    method.__name__ = method.__qualname__ = name
    method.__doc__ = f"In-place form of {function.__name__}: the tensor itself changes its shape."
    return method  # type: ignore[return-value]


# ---- Copies ----------------------------------------------------------------------------------------------------------


class Clone(Op):
    """y = x, dense and in memory of its own."""

    def forward(self, x: Tensor) -> Tensor:
        return core.clone(x)

    def backward(self, dy: Tensor) -> Tensor:
        return dy


def clone(input: Tensor, *, memory_format: Any = None) -> Tensor:
    """A dense copy, through which gradients flow.

    >>> gg.clone(gg.ones(2))
    tensor([1., 1.])
    """
    return arranged(Clone.apply(input), memory_format, "clone")


def contiguous(input: Tensor, memory_format: Any = contiguous_format) -> Tensor:
    """`input` itself if its elements lie densely in row-major order, else a copy of which that is true.

    With `gg.channels_last` the channels of an image vary fastest in memory; the shape stays.

    >>> gg.zeros(2, 3).t().contiguous().stride()
    (2, 1)
    """
    if memory_format is not contiguous_format:
        return arranged(input, memory_format, "contiguous")
    return input if input.is_contiguous() else Clone.apply(input)


class To(Op):
    """The same numbers in another dtype or on another device."""

    name = "ToCopy"

    def forward(self, x: Tensor, dtype: Any, device: Any, non_blocking: builtins.bool = False) -> Tensor:
        self.source = x.dtype, x.device
        y = cuda.move(x, dtype, device) if non_blocking else None
        return core.to(x, dtype, device) if y is None else y

    def backward(self, dy: Tensor) -> Tensor:
        return to(dy, *self.source)


def to(input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """`input` in another dtype or on another device: to(dtype), to(device), to(device, dtype), to(other tensor).

    `input` itself where nothing changes, unless `copy=True`. Floats become whole numbers by truncation, anything but
    zero becomes True. With `non_blocking` a copy from pinned memory to a GPU, or from a GPU, returns before it is done.

    >>> gg.tensor([0.5, 2.9]).to(gg.int64)
    tensor([0, 2])
    """
    dtype, device, copy = kwargs.pop("dtype", None), kwargs.pop("device", None), kwargs.pop("copy", False)
    non_blocking = kwargs.pop("non_blocking", False)
    order = kwargs.pop("memory_format", None)
    other = kwargs.pop("other", None)
    flags = []
    for arg in args:
        if isinstance(arg, core.TensorBase):
            other = arg
        elif isinstance(arg, core.dtype) or (isinstance(arg, type) and arg in _DTYPE_OF_TYPE):
            dtype = arg
        elif isinstance(arg, builtins.bool):
            flags.append(arg)
        elif isinstance(arg, (str, core.device, builtins.int)):
            device = arg
        elif arg is not None:
            raise TypeError(f"to: {arg!r} is not a dtype, a device or a Tensor")
    if kwargs:
        raise TypeError(f"to: unexpected argument {next(iter(kwargs))!r}")
    if other is not None:
        dtype, device = other.dtype, other.device
    non_blocking, copy = (flags + [non_blocking, copy][len(flags) :])[:2]
    dtype = input.dtype if dtype is None else _DTYPE_OF_TYPE.get(dtype, dtype)
    device = input.device if device is None else device if isinstance(device, core.device) else core.device(device)
    if copy or dtype is not input.dtype or device != input.device:
        input = To.apply(input, dtype, device, non_blocking)
    return input if order is None else arranged(input, order, "to")


def _cast(dtype: Any, name: str) -> Callable[..., Tensor]:
    def cast(input: Tensor, memory_format: Any = None) -> Tensor:
        y = input if input.dtype is dtype else To.apply(input, dtype, None)
        return y if memory_format is None else arranged(y, memory_format, name)

    cast.__name__ = cast.__qualname__ = name
    cast.__doc__ = f"`input.to(gg.{dtype.name})`."
    return cast


to_float, to_double = _cast(core.float32, "float"), _cast(core.float64, "double")
to_half, to_bfloat16 = _cast(core.float16, "half"), _cast(core.bfloat16, "bfloat16")
to_long, to_int, to_short = _cast(core.int64, "long"), _cast(core.int32, "int"), _cast(core.int16, "short")
to_char, to_byte, to_bool = _cast(core.int8, "char"), _cast(core.uint8, "byte"), _cast(core.bool, "bool")

_TYPE_NAMES = {
    core.float32: "Float",
    core.float64: "Double",
    core.float16: "Half",
    core.bfloat16: "BFloat16",
    core.int64: "Long",
    core.int32: "Int",
    core.int16: "Short",
    core.int8: "Char",
    core.uint8: "Byte",
    core.bool: "Bool",
}


def type_(input: Tensor, dtype: Any = None) -> Any:
    """`input` in another dtype; without one, the type's name.

    >>> gg.zeros(1).type()
    'glassgrad.FloatTensor'
    """
    if dtype is not None:
        return to(input, dtype)
    where = "" if input.device.type == "cpu" else f"{input.device.type}."
    return f"glassgrad.{where}{_TYPE_NAMES[input.dtype]}Tensor"


def type_as(input: Tensor, other: Tensor) -> Tensor:
    """`input` in the dtype of `other` and on its device.

    >>> gg.ones(1).type_as(gg.tensor([1]))
    tensor([1])
    """
    return to(input, other)


def dim(input: Tensor) -> int:
    """The number of axes.

    >>> gg.zeros(2, 3).dim()
    2
    """
    return input.ndim


def numel(input: Tensor) -> int:
    """The number of elements.

    >>> gg.numel(gg.zeros(2, 3))
    6
    """
    return input.numel()


def is_floating_point(input: Tensor) -> builtins.bool:
    """Whether the elements are floating-point numbers.

    >>> gg.is_floating_point(gg.zeros(1))
    True
    """
    return input.dtype.is_floating_point


class Copy(Op):
    """What `destination.copy_(source)` leaves behind: source, broadcast and converted."""

    def forward(self, destination: Tensor, source: Tensor) -> Tensor:
        self.source = source.shape, source.dtype
        return core.to(core.expand(source, destination.shape), destination.dtype)

    # Nothing of the destination's old elements is left; the source's gradient is that of broadcasting and conversion.
    def backward(self, dy: Tensor) -> tuple[None, Tensor | None]:
        if not self.needs[1]:
            return None, None
        shape, dtype = self.source
        return None, unbroadcast(dy, shape).to(dtype)


def copy_(input: Tensor, src: Tensor, non_blocking: builtins.bool = False) -> Tensor:
    """Write `src`, broadcast and converted, over the elements of `input`.

    With `non_blocking` a copy between a GPU and pinned memory returns before it is done.

    >>> gg.zeros(2).copy_(gg.tensor([1, 2]))
    tensor([1., 2.])
    """
    check_in_place("copy_", input)
    if recording() and (input.requires_grad or getattr(src, "requires_grad", False)):
        return overwrite("copy_", input, Copy.apply(input, src))
    if not (non_blocking and cuda.move_into(input, src)):
        core.copy_(input, src)
    note_change(input)
    return input


def fill_(input: Tensor, value: Any) -> Tensor:
    """Write one number, or the element of a 0-d tensor, over all elements.

    >>> gg.zeros(2).fill_(3)
    tensor([3., 3.])
    """
    if recording() and (input.requires_grad or getattr(value, "requires_grad", False)):
        check_in_place("fill_", input)
        return overwrite("fill_", input, fill(input, value))
    check_in_place("fill_", input)
    core.fill_(input, value)
    note_change(input)
    return input


def zero_(input: Tensor) -> Tensor:
    """Write zero over all elements.

    >>> gg.ones(2).zero_()
    tensor([0., 0.])
    """
    return fill_(input, 0)


def fill(input: Tensor, value: Any) -> Tensor:
    """A tensor like `input` with one number, or the element of a 0-d tensor, everywhere.

    >>> gg.fill(gg.zeros(2), 3)
    tensor([3., 3.])
    """
    source = value if isinstance(value, core.TensorBase) else core.full((), value, input.dtype, input.device)
    if source.ndim:
        raise core.ShapeError(f"fill: value {source.shape} {source.dtype} must have no axes")
    return Copy.apply(input, source)


class Cat(Op):
    """The tensors one after the other along an axis."""

    def forward(self, *args: Any) -> Tensor:
        tensors, dim = args[:-1], args[-1]
        y: Tensor = core.cat(tensors, dim)
        if self.edges:
            self.dim = dim % y.ndim
            self.skips = y.ndim != 1  # an empty vector fits anything, and takes no part then
            self.inputs = [(x.shape, x.dtype) for x in tensors]
        return y

    # Each tensor's gradient is its own stretch of dy.
    def backward(self, dy: Tensor) -> tuple[Tensor | None, ...]:
        gradients: list[Tensor | None] = []
        at = 0
        for (shape, dtype), needed in zip(self.inputs, self.needs):
            if shape == (0,) and self.skips:
                gradients.append(core.full((0,), 0, dtype, dy.device) if needed else None)
                continue
            n = shape[self.dim]
            gradients.append(narrow(dy, self.dim, at, n).to(dtype) if needed else None)
            at += n
        return tuple(gradients)


@numpy_names
def cat(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """The tensors one after the other along `dim`, in their promoted dtype; all other sizes must agree.

    >>> gg.cat([gg.tensor([1, 2]), gg.tensor([3])])
    tensor([1, 2, 3])
    """
    if isinstance(tensors, core.TensorBase):
        raise TypeError("cat: tensors must be a list or tuple of tensors, not one Tensor")
    return Cat.apply(*tensors, dim)


concat = concatenate = cat


class Stack(Op):
    """The tensors along a new axis."""

    def forward(self, *args: Any) -> Tensor:
        tensors, dim = args[:-1], args[-1]
        y: Tensor = core.stack(tensors, dim)
        if self.edges:
            self.dim = dim % y.ndim
            self.dtypes = [x.dtype for x in tensors]
        return y

    def backward(self, dy: Tensor) -> tuple[Tensor | None, ...]:
        needs = self.needs
        return tuple([select(dy, self.dim, i).to(t) if needs[i] else None for i, t in enumerate(self.dtypes)])


@numpy_names
def stack(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """The tensors, all of one shape, along a new axis `dim`.

    >>> gg.stack([gg.tensor([1, 2]), gg.tensor([3, 4])], dim=1)
    tensor([[1, 3],
            [2, 4]])
    """
    if isinstance(tensors, core.TensorBase):
        raise TypeError("stack: tensors must be a list or tuple of tensors, not one Tensor")
    return Stack.apply(*tensors, dim)


def hstack(tensors: Sequence[Tensor]) -> Tensor:
    """`cat` along axis 1, or axis 0 of vectors.

    >>> gg.hstack((gg.tensor([1]), gg.tensor([2])))
    tensor([1, 2])
    """
    tensors = [atleast_1d(x) for x in tensors]
    return cat(tensors, 0 if tensors and tensors[0].ndim == 1 else 1)


def vstack(tensors: Sequence[Tensor]) -> Tensor:
    """`cat` along axis 0, vectors as rows.

    >>> gg.vstack((gg.tensor([1]), gg.tensor([2])))
    tensor([[1],
            [2]])
    """
    return cat([atleast_2d(x) for x in tensors], 0)


row_stack = vstack


def dstack(tensors: Sequence[Tensor]) -> Tensor:
    """`cat` along axis 2, vectors and matrices with new axes as `atleast_3d` gives them.

    >>> gg.dstack((gg.tensor([1]), gg.tensor([2])))
    tensor([[[1, 2]]])
    """
    return cat([atleast_3d(x) for x in tensors], 2)


def column_stack(tensors: Sequence[Tensor]) -> Tensor:
    """`cat` along axis 1, vectors as columns.

    >>> gg.column_stack((gg.tensor([1, 2]), gg.tensor([3, 4])))
    tensor([[1, 3],
            [2, 4]])
    """
    return cat([reshape(x, (x.numel(), 1)) if x.ndim < 2 else x for x in tensors], 1)


class Flip(Op):
    """The order along some axes reversed."""

    def forward(self, x: Tensor, dims: Size) -> Tensor:
        self.dims = dims
        return core.flip(x, dims)

    def backward(self, dy: Tensor) -> Tensor:
        return flip(dy, self.dims)


def flip(input: Tensor, dims: Size) -> Tensor:
    """A copy with the order of elements along `dims` reversed.

    >>> gg.flip(gg.arange(4).reshape(2, 2), [0])
    tensor([[2, 3],
            [0, 1]])
    """
    return Flip.apply(input, dims)


def fliplr(input: Tensor) -> Tensor:
    """`flip` along axis 1.

    >>> gg.fliplr(gg.tensor([[1, 2]]))
    tensor([[2, 1]])
    """
    if input.ndim < 2:
        raise core.ShapeError(f"fliplr: input {input.shape} {input.dtype} has {input.ndim} axes; at least 2 are needed")
    return flip(input, (1,))


def flipud(input: Tensor) -> Tensor:
    """`flip` along axis 0.

    >>> gg.flipud(gg.tensor([1, 2]))
    tensor([2, 1])
    """
    if input.ndim < 1:
        raise core.ShapeError(f"flipud: input {input.shape} {input.dtype} has no axis; at least 1 is needed")
    return flip(input, (0,))


class Roll(Op):
    """y[(i + shift) mod n] = x[i] along some axes."""

    def forward(self, x: Tensor, shifts: tuple[int, ...], dims: tuple[int, ...]) -> Tensor:
        self.shifts, self.dims = shifts, dims
        return core.roll(x, shifts, dims)

    def backward(self, dy: Tensor) -> Tensor:
        return roll(dy, tuple([-s for s in self.shifts]), self.dims)


def roll(input: Tensor, shifts: Size, dims: Size | None = None) -> Tensor:
    """A copy with the elements moved on by `shifts` along `dims`, those past the end coming in at the front.

    Without `dims` the flattened elements move.

    >>> gg.roll(gg.arange(4), 1)
    tensor([3, 0, 1, 2])
    """
    return Roll.apply(input, _dims(shifts), () if dims is None else _dims(dims))


def rot90(input: Tensor, k: int = 1, dims: Sequence[int] = (0, 1)) -> Tensor:
    """A copy turned by k quarter turns in the plane of two axes, from the first towards the second.

    >>> gg.rot90(gg.tensor([[1, 2], [3, 4]]))
    tensor([[2, 4],
            [1, 3]])
    """
    if len(dims) != 2:
        raise core.ShapeError(f"rot90: dims {tuple(dims)} must name two axes")
    if input.ndim < 2:
        raise core.ShapeError(f"rot90: input {input.shape} {input.dtype} has {input.ndim} axes; at least 2 are needed")
    a, b = (axis_of("rot90", d, input.ndim) for d in dims)
    if a == b:
        raise core.ShapeError(f"rot90: dims {tuple(dims)} must name two different axes")
    if k % 4 == 0:
        return clone(input)
    if k % 4 == 2:
        return flip(input, (a, b))
    return transpose(flip(input, (b,) if k % 4 == 1 else (a,)), a, b)


class Repeat(Op):
    """The whole tensor side by side, repeats[i] times along axis i."""

    def forward(self, x: Tensor, repeats: tuple[int, ...]) -> Tensor:
        self.shape, self.repeats = x.shape, repeats
        return core.repeat(x, repeats)

    # An element's gradient is the sum over its copies: dy seen as (r0, s0, r1, s1, ...), summed over the r.
    def backward(self, dy: Tensor) -> Tensor:
        sizes = (*[1] * (len(self.repeats) - len(self.shape)), *self.shape)
        apart: list[int] = []
        summed: list[int] = []
        for r, s in zip(self.repeats, sizes):
            if r != 1:
                summed.append(len(apart))
                apart.append(r)
            apart.append(s)
        dx = reshape(dy, apart)
        return reshape(dx.sum(summed) if summed else dx, self.shape)


def repeat(input: Tensor, repeats: Size) -> Tensor:
    """A copy with the whole tensor repeated `repeats[i]` times along axis i; further counts in front make new axes.

    >>> gg.tensor([1, 2]).repeat(2, 2)
    tensor([[1, 2, 1, 2],
            [1, 2, 1, 2]])
    """
    return Repeat.apply(input, _dims(repeats))


def tile(input: Tensor, dims: Size) -> Tensor:
    """`repeat` with counts for the last axes; those not given are 1.

    >>> gg.tile(gg.tensor([[1, 2]]), (2,))
    tensor([[1, 2, 1, 2]])
    """
    dims = _dims(dims)
    return repeat(input, (1,) * (input.ndim - len(dims)) + dims)


@numpy_names
def repeat_interleave(
    input: Tensor, repeats: int | Tensor | None = None, dim: int | None = None, *, output_size: int | None = None
) -> Tensor:
    """A copy with each element along `dim`, or of all, repeated so often, or each by its own count.

    Given the counts alone, the index that would do it.

    >>> gg.repeat_interleave(gg.tensor([1, 2]), 2)
    tensor([1, 1, 2, 2])
    >>> gg.repeat_interleave(gg.tensor([1, 2]), gg.tensor([0, 3]))
    tensor([2, 2, 2])
    """
    if repeats is None:
        return core.repeat_index(input, output_size)
    if dim is None:
        input, dim = reshape(input, (input.numel(),)), 0
    d = axis_of("repeat_interleave", dim, input.ndim)
    if input.ndim == 0:
        input = reshape(input, (1,))
    n = input.shape[d]
    if not isinstance(repeats, int) and repeats.numel() == 1:
        core.repeat_index(repeats, None)  # its checks
        repeats = int(repeats.item())
    if isinstance(repeats, int):
        if repeats < 0:
            raise core.ShapeError(f"repeat_interleave: repeats {repeats} must not be negative")
        if output_size is not None and output_size != n * repeats:
            raise core.ShapeError(f"repeat_interleave: output_size {output_size} is not {n} times {repeats}")
        shape = input.shape
        copies = expand(unsqueeze(input, d + 1), (*shape[: d + 1], repeats, *shape[d + 1 :]))
        return reshape(copies, (*shape[:d], n * repeats, *shape[d + 1 :]))
    if repeats.shape != (n,):
        raise core.ShapeError(
            f"repeat_interleave: repeats {repeats.shape} must have one count for each of the {n} elements of axis "
            f"{d} of {input.shape} {input.dtype}"
        )
    return input.index_select(d, core.repeat_index(repeats, output_size))


class Tril(Op):
    """y[i, j] = x[i, j] where j - i <= diagonal, else 0."""

    def forward(self, x: Tensor, diagonal: int) -> Tensor:
        self.diagonal = diagonal
        return core.tril(x, diagonal)

    def backward(self, dy: Tensor) -> Tensor:
        return tril(dy, self.diagonal)


def tril(input: Tensor, diagonal: int = 0) -> Tensor:
    """A copy of the matrices with zeros above the diagonal `diagonal`.

    >>> gg.tril(gg.ones(2, 2))
    tensor([[1., 0.],
            [1., 1.]])
    """
    return Tril.apply(input, diagonal)


class Triu(Op):
    """y[i, j] = x[i, j] where j - i >= diagonal, else 0."""

    def forward(self, x: Tensor, diagonal: int) -> Tensor:
        self.diagonal = diagonal
        return core.triu(x, diagonal)

    def backward(self, dy: Tensor) -> Tensor:
        return triu(dy, self.diagonal)


def triu(input: Tensor, diagonal: int = 0) -> Tensor:
    """A copy of the matrices with zeros below the diagonal `diagonal`.

    >>> gg.triu(gg.ones(2, 2))
    tensor([[1., 1.],
            [0., 1.]])
    """
    return Triu.apply(input, diagonal)


class Pad(Op):
    """x with borders of a value, or of its own elements; a negative border crops."""

    def forward(self, x: Tensor, pad: tuple[int, ...], mode: str, value: float) -> Tensor:
        self.shape, self.pad, self.mode = x.shape, pad, mode
        return core.pad(x, pad, mode, value)

    # A border's gradient belongs to the elements it repeats; what was cropped has none.
    def backward(self, dy: Tensor) -> Tensor:
        if self.mode == "constant":
            return pad(dy, [-p for p in self.pad])
        return PadFold.apply(dy, self.shape, self.pad, self.mode)


class PadFold(Op):
    """A padded tensor's borders added to the elements they repeat: the transpose of a pad that has no constant."""

    def forward(self, dy: Tensor, shape: tuple[int, ...], pad: tuple[int, ...], mode: str) -> Tensor:
        self.pad, self.mode = pad, mode
        return core.pad_backward(dy, shape, pad, mode)

    def backward(self, dx: Tensor) -> Tensor:
        return pad(dx, self.pad, self.mode)


class PadOfOwn(Pad):
    """Borders of x's own elements, which autocast on the CPU makes in float32."""

    autocast = Casts(cpu="float32")


def pad(input: Tensor, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Tensor:
    """A copy with borders: `pad` counts (left, right) for the last axis, then for the one before, and so on.

    `mode` fills them with `value` ("constant", 0 by default), mirrored about the outermost elements ("reflect"), with
    the outermost elements ("replicate") or from the other end ("circular"). Negative counts crop.

    >>> gg.nn.functional.pad(gg.tensor([1, 2, 3]), (1, 2))
    tensor([0, 1, 2, 3, 0, 0])
    >>> gg.nn.functional.pad(gg.tensor([1, 2, 3]), (1, 2), mode="reflect")
    tensor([2, 1, 2, 3, 2, 1])
    """
    if value and mode != "constant":
        raise ValueError(f"pad: mode {mode!r} takes no value, got {value!r}; only 'constant' does")
    pad = _dims(pad)
    kind = PadOfOwn if mode == "replicate" or (mode == "reflect" and len(pad) < 6) else Pad
    return kind.apply(input, pad, mode, 0 if value is None else value)


def cartesian_prod(*tensors: Any) -> Tensor:
    """All tuples of one element of each vector, as rows, the last element changing fastest.

    >>> gg.cartesian_prod(gg.tensor([1, 2]), gg.tensor([3, 4]))
    tensor([[1, 3],
            [1, 4],
            [2, 3],
            [2, 4]])
    """
    tensors = _given("cartesian_prod", tensors)
    for x in tensors:
        if x.ndim != 1:
            raise core.ShapeError(f"cartesian_prod: tensor {x.shape} {x.dtype} has {x.ndim} axes; vectors are needed")
    if len(tensors) == 1:
        return tensors[0]
    return stack([reshape(g, (g.numel(),)) for g in meshgrid(*tensors, indexing="ij")], 1)


def combinations(input: Tensor, r: int = 2, with_replacement: builtins.bool = False) -> Tensor:
    """All choices of r elements of a vector in its order, as rows; with replacement an element may come again.

    >>> gg.combinations(gg.tensor([1, 2, 3]))
    tensor([[1, 2],
            [1, 3],
            [2, 3]])
    """
    if input.ndim != 1:
        raise core.ShapeError(
            f"combinations: input {input.shape} {input.dtype} has {input.ndim} axes; a vector is needed"
        )
    if r < 0:
        raise core.ShapeError(f"combinations: r {r} must not be negative")
    if r == 0:
        return core.empty((0,), input.dtype, input.device)
    # Row-major order of the r-dimensional grid of indices, where they increase (or do not decrease), is what is wanted.
    grids = meshgrid(*[core.arange_int(0, input.numel(), 1, core.int64, input.device)] * r, indexing="ij")
    kept = None
    for a, b in itertools.pairwise(grids):
        ordered = a <= b if with_replacement else a < b
        kept = ordered if kept is None else kept & ordered
    rows = [input.index_select(0, (reshape(g, (g.numel(),)) if kept is None else g.masked_select(kept))) for g in grids]
    return stack(rows, 1)


def block_diag(*tensors: Any) -> Tensor:
    """The matrix with the given ones as blocks on its diagonal, zero elsewhere; vectors are rows.

    >>> gg.block_diag(gg.tensor([[1, 2]]), gg.tensor([3]))
    tensor([[1, 2, 0],
            [0, 0, 3]])
    """
    tensors = _given("block_diag", tensors)
    for x in tensors:
        if x.ndim > 2:
            raise core.ShapeError(f"block_diag: tensor {x.shape} {x.dtype} has {x.ndim} axes; at most 2 are possible")
    if not tensors:
        return core.empty((1, 0), core.float32, None)
    blocks = [atleast_2d(x) for x in tensors]
    width, at, rows = sum(x.shape[1] for x in blocks), 0, []
    for x in blocks:
        n = x.shape[1]
        rows.append(pad(x, (at, width - at - n)))
        at += n
    return cat(rows, 0)
