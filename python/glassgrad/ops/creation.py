"""Tensors from a rule instead of data: constants, ramps, the identity, index lists of triangles.

Every function takes `dtype` (float32 where nothing else decides), `device` and `requires_grad`; those named `..._like`
and `new_...` take what is not given from a tensor.
"""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from glassgrad import _core as core

if TYPE_CHECKING:
    from glassgrad.tensor import Tensor

    Size = int | Sequence[int]

Flag = builtins.bool


def _leaf(x: Tensor, requires_grad: Flag) -> Tensor:
    if requires_grad:
        x.requires_grad = True
    return x


def _shape(sizes: tuple[Any, ...], size: Size | None) -> Any:
    """Sizes given one by one, as one tuple, or by keyword."""
    if size is not None:
        return size
    return sizes[0] if len(sizes) == 1 and isinstance(sizes[0], (tuple, list)) else sizes


def _dtype_of(value: Any) -> Any:
    if isinstance(value, core.TensorBase):
        return value.dtype
    if isinstance(value, builtins.bool):
        return core.bool
    return core.int64 if isinstance(value, int) else core.get_default_dtype()


def empty(
    *sizes: Any, size: Size | None = None, dtype: Any = None, device: Any = None, requires_grad: Flag = False
) -> Tensor:
    """A tensor of `size` whose elements are whatever was in memory.

    >>> gg.empty(2, 3).shape
    (2, 3)
    """
    return _leaf(core.empty(_shape(sizes, size), dtype or core.get_default_dtype(), device), requires_grad)


def zeros(
    *sizes: Any, size: Size | None = None, dtype: Any = None, device: Any = None, requires_grad: Flag = False
) -> Tensor:
    """A tensor of `size` filled with 0.

    >>> gg.zeros(2)
    tensor([0., 0.])
    """
    return _leaf(core.full(_shape(sizes, size), 0, dtype or core.get_default_dtype(), device, "zeros"), requires_grad)


def ones(
    *sizes: Any, size: Size | None = None, dtype: Any = None, device: Any = None, requires_grad: Flag = False
) -> Tensor:
    """A tensor of `size` filled with 1.

    >>> gg.ones(2)
    tensor([1., 1.])
    """
    return _leaf(core.full(_shape(sizes, size), 1, dtype or core.get_default_dtype(), device, "ones"), requires_grad)


def full(size: Size, fill_value: Any, *, dtype: Any = None, device: Any = None, requires_grad: Flag = False) -> Tensor:
    """A tensor of `size` filled with `fill_value`, whose kind decides the dtype unless it is given.

    >>> gg.full((2,), 7)
    tensor([7, 7])
    """
    return _leaf(core.full(size, fill_value, dtype or _dtype_of(fill_value), device), requires_grad)


def scalar_tensor(s: Any, *, dtype: Any = None, device: Any = None, requires_grad: Flag = False) -> Tensor:
    """A 0-d tensor of the number `s`.

    >>> gg.scalar_tensor(2)
    tensor(2.)
    """
    return _leaf(core.full((), _number(s), dtype or core.get_default_dtype(), device), requires_grad)


def empty_like(input: Tensor, *, dtype: Any = None, device: Any = None, requires_grad: Flag = False) -> Tensor:
    """`empty` in the shape of `input`.

    >>> gg.empty_like(gg.zeros(2, 3)).shape
    (2, 3)
    """
    return _leaf(core.empty(input.shape, dtype or input.dtype, device or input.device), requires_grad)


def zeros_like(input: Tensor, *, dtype: Any = None, device: Any = None, requires_grad: Flag = False) -> Tensor:
    """Zeros in the shape of `input`.

    >>> gg.zeros_like(gg.tensor([1, 2]))
    tensor([0, 0])
    """
    return _leaf(core.full(input.shape, 0, dtype or input.dtype, device or input.device), requires_grad)


def ones_like(input: Tensor, *, dtype: Any = None, device: Any = None, requires_grad: Flag = False) -> Tensor:
    """Ones in the shape of `input`.

    >>> gg.ones_like(gg.tensor([3, 4]))
    tensor([1, 1])
    """
    return _leaf(core.full(input.shape, 1, dtype or input.dtype, device or input.device), requires_grad)


def full_like(
    input: Tensor, fill_value: Any, *, dtype: Any = None, device: Any = None, requires_grad: Flag = False
) -> Tensor:
    """`fill_value` in the shape of `input`.

    >>> gg.full_like(gg.zeros(2), 7)
    tensor([7., 7.])
    """
    return _leaf(core.full(input.shape, fill_value, dtype or input.dtype, device or input.device), requires_grad)


def new_empty(
    input: Tensor,
    *sizes: Any,
    size: Size | None = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: Flag = False,
) -> Tensor:
    """`empty` with the dtype and device of `input`.

    >>> gg.zeros(1).new_empty(2, 3).shape
    (2, 3)
    """
    return _leaf(core.empty(_shape(sizes, size), dtype or input.dtype, device or input.device), requires_grad)


def new_zeros(
    input: Tensor,
    *sizes: Any,
    size: Size | None = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: Flag = False,
) -> Tensor:
    """Zeros with the dtype and device of `input`.

    >>> gg.tensor([1]).new_zeros(2)
    tensor([0, 0])
    """
    return _leaf(
        core.full(_shape(sizes, size), 0, dtype or input.dtype, device or input.device, "new_zeros"), requires_grad
    )


def new_ones(
    input: Tensor,
    *sizes: Any,
    size: Size | None = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: Flag = False,
) -> Tensor:
    """Ones with the dtype and device of `input`.

    >>> gg.tensor([1]).new_ones(2)
    tensor([1, 1])
    """
    return _leaf(
        core.full(_shape(sizes, size), 1, dtype or input.dtype, device or input.device, "new_ones"), requires_grad
    )


def new_full(
    input: Tensor, size: Size, fill_value: Any, *, dtype: Any = None, device: Any = None, requires_grad: Flag = False
) -> Tensor:
    """`full` with the dtype and device of `input`.

    >>> gg.zeros(1).new_full((2,), 7)
    tensor([7., 7.])
    """
    return _leaf(core.full(size, fill_value, dtype or input.dtype, device or input.device, "new_full"), requires_grad)


def new_tensor(
    input: Tensor, data: Any, *, dtype: Any = None, device: Any = None, requires_grad: Flag = False
) -> Tensor:
    """A tensor of `data`, copied, with the dtype and device of `input`.

    >>> gg.zeros(1).new_tensor([1, 2])
    tensor([1., 2.])
    """
    from glassgrad.tensor import tensor

    return tensor(data, dtype=dtype or input.dtype, device=device or input.device, requires_grad=requires_grad)


def _number(value: Any) -> Any:
    return value.item() if isinstance(value, core.TensorBase) else value


def arange(
    *bounds: Any,
    start: Any = None,
    end: Any = None,
    step: Any = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: Flag = False,
) -> Tensor:
    """start, start + step, ... before end: arange(end), arange(start, end), arange(start, end, step).

    The length is ceil((end - start) / step). int64 where all numbers are whole, else float32. Raises ValueError where
    the step leads away from the end.

    >>> gg.arange(3)
    tensor([0, 1, 2])
    >>> gg.arange(1, 2, 0.5)
    tensor([1.0000, 1.5000])
    """
    if len(bounds) > 3:
        raise TypeError(f"arange: takes at most start, end and step, got {len(bounds)} numbers")
    if len(bounds) == 1 and end is None:
        end = bounds[0]
    elif bounds:
        slots: list[Any] = [start, end, step]
        free = [i for i in range(3) if slots[i] is None]
        for i, b in zip(free, bounds):
            slots[i] = b
        start, end, step = slots
    start, end, step = (_number(x) for x in (0 if start is None else start, end, 1 if step is None else step))
    if end is None:
        raise TypeError("arange: end is needed")
    whole = all(not isinstance(x, float) for x in (start, end, step))
    dtype = dtype or (core.int64 if whole else core.get_default_dtype())
    if dtype is core.int64 and not whole:
        start, end, step, whole = int(start), int(end), int(step), True
    exact = whole and not (dtype is float or getattr(dtype, "is_floating_point", False))
    make = core.arange_int if exact else core.arange
    return _leaf(make(start, end, step, dtype, device), requires_grad)


def linspace(
    start: float | Tensor,
    end: float | Tensor,
    steps: int,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: Flag = False,
) -> Tensor:
    """`steps` numbers at even distances, from `start` to `end`, both included.

    >>> gg.linspace(0, 1, 5)
    tensor([0.0000, 0.2500, 0.5000, 0.7500, 1.0000])
    """
    x = core.linspace(_number(start), _number(end), steps, dtype or core.get_default_dtype(), device)
    return _leaf(x, requires_grad)


def logspace(
    start: float | Tensor,
    end: float | Tensor,
    steps: int,
    base: float = 10.0,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: Flag = False,
) -> Tensor:
    """base ** linspace(start, end, steps).

    >>> gg.logspace(0, 2, 3)
    tensor([  1.,  10., 100.])
    """
    x = core.logspace(_number(start), _number(end), steps, base, dtype or core.get_default_dtype(), device)
    return _leaf(x, requires_grad)


def eye(n: int, m: int | None = None, *, dtype: Any = None, device: Any = None, requires_grad: Flag = False) -> Tensor:
    """Ones on the diagonal of an (n, m) matrix, zero elsewhere; m = n if not given.

    >>> gg.eye(2)
    tensor([[1., 0.],
            [0., 1.]])
    """
    return _leaf(core.eye(n, m, dtype or core.get_default_dtype(), device), requires_grad)


def tril_indices(row: int, col: int, offset: int = 0, *, dtype: Any = None, device: Any = None) -> Tensor:
    """The (2, N) row and column indices of the lower triangle of a (row, col) matrix, row by row.

    >>> gg.tril_indices(2, 2)
    tensor([[0, 1, 1],
            [0, 0, 1]])
    """
    return core.triangle_indices("tril_indices", row, col, offset, True, dtype or core.int64, device)


def triu_indices(row: int, col: int, offset: int = 0, *, dtype: Any = None, device: Any = None) -> Tensor:
    """The (2, N) row and column indices of the upper triangle of a (row, col) matrix, row by row.

    >>> gg.triu_indices(2, 2)
    tensor([[0, 0, 1],
            [0, 1, 1]])
    """
    return core.triangle_indices("triu_indices", row, col, offset, False, dtype or core.int64, device)
