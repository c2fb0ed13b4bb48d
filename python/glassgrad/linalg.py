"""Linear algebra under torch.linalg's names."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from glassgrad import _core as core
from glassgrad.ops import reduce
from glassgrad.ops._names import numpy_names
from glassgrad.ops.matmul import inv, matmul, matrix_power, multi_dot, vecdot
from glassgrad.ops.matmul import linalg_cross as cross

if TYPE_CHECKING:
    from glassgrad.tensor import Tensor

__all__ = [
    "cross",
    "diagonal",
    "inv",
    "matmul",
    "matrix_norm",
    "matrix_power",
    "multi_dot",
    "norm",
    "vecdot",
    "vector_norm",
]


@numpy_names
def vector_norm(
    x: Tensor, ord: float = 2, dim: reduce.Dim = None, keepdim: bool = False, *, dtype: Any = None
) -> Tensor:
    """(sum |x|^ord)^(1/ord) over `dim`, all of `x` taken as one vector without; ord may be 0 (count), inf or -inf.

    >>> gg.linalg.vector_norm(gg.tensor([[1.0, 2.0], [-3.0, 4.0]]), 1)
    tensor(10.)
    """
    if isinstance(ord, str):
        raise ValueError(f"vector_norm: ord must be a number, got {ord!r}")
    y = reduce.vector_norm("vector_norm", x if dtype is None else x.to(dtype), ord, dim, keepdim)
    return y if dtype is None else y.to(dtype)


@numpy_names
def matrix_norm(
    A: Tensor,
    ord: str | float = "fro",
    dim: Sequence[int] = (-2, -1),
    keepdim: bool = False,
    *,
    dtype: Any = None,
) -> Tensor:
    """The norm of matrices in the two axes `dim`: "fro" is the root of the sum of squares, 1 and -1 the largest and
    smallest column sum of magnitudes, inf and -inf those of rows. Raises ValueError for "nuc", 2 and -2, which need
    singular values.

    >>> gg.linalg.matrix_norm(gg.tensor([[1.0, 2.0], [-3.0, 4.0]]), 1)
    tensor(6.)
    """
    if dtype is not None:
        return matrix_norm(A.to(dtype), ord, dim, keepdim).to(dtype)
    if A.ndim < 2:
        raise core.ShapeError(f"matrix_norm: A {tuple(A.shape)} {A.dtype} must have at least 2 axes")
    if isinstance(dim, int) or len(dim) != 2:
        raise ValueError(f"matrix_norm: dim must be two axes, got {dim}")
    for d in dim:
        if not -A.ndim <= d < A.ndim:
            raise IndexError(f"matrix_norm: dim {d} is out of range for {A.ndim} axes")
    rows, columns = (d % A.ndim for d in dim)
    if rows == columns:
        raise ValueError(f"matrix_norm: dims {tuple(dim)} must differ")
    if ord == "fro":
        return reduce.vector_norm("matrix_norm", A, 2, (rows, columns), keepdim)
    if ord in ("nuc", 2, -2):
        raise ValueError(
            f"matrix_norm: ord={ord!r} needs a singular value decomposition, which is not built in; use 'fro', 1 or inf"
        )
    if ord not in (1, -1, math.inf, -math.inf):
        raise ValueError(f"matrix_norm: ord must be 'fro', 1, -1, inf or -inf, got {ord!r}")
    assert not isinstance(ord, str)
    summed, compared = (rows, columns) if abs(ord) == 1 else (columns, rows)
    sums = reduce.vector_norm("matrix_norm", A, 1, summed, True)
    found = sums.amax(compared, True) if ord > 0 else sums.amin(compared, True)
    return found if keepdim else found.squeeze((rows, columns))


@numpy_names
def norm(
    A: Tensor,
    ord: str | float | None = None,
    dim: reduce.Dim = None,
    keepdim: bool = False,
    *,
    dtype: Any = None,
) -> Tensor:
    """`vector_norm`, or `matrix_norm` where `ord` is given with two axes or for a matrix; without `ord` the 2-norm of
    all.

    >>> gg.linalg.norm(gg.tensor([[3.0, 0.0], [0.0, 4.0]]))
    tensor(5.)
    """
    if ord is None:
        return vector_norm(A, 2, dim, keepdim, dtype=dtype)
    if dim is None:
        if isinstance(ord, str) or A.ndim == 2:
            dim = (-2, -1)
            if A.ndim != 2:
                raise core.ShapeError(f"norm: ord={ord!r} without dim needs a matrix, got A {tuple(A.shape)} {A.dtype}")
        elif A.ndim != 1:
            raise core.ShapeError(
                f"norm: ord={ord!r} without dim needs one or two axes, got A {tuple(A.shape)} {A.dtype}"
            )
    if not isinstance(dim, int) and dim is not None and len(dim) == 2:
        return matrix_norm(A, ord, dim, keepdim, dtype=dtype)
    if isinstance(ord, str):
        raise ValueError(f"norm: ord={ord!r} is a matrix norm and needs two axes, got dim {dim}")
    return vector_norm(A, ord, dim, keepdim, dtype=dtype)


def diagonal(A: Tensor, *, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Tensor:
    """A view of the diagonals of matrices in the axes dim1 and dim2, the last two unless given: `gg.diagonal`.

    >>> gg.linalg.diagonal(gg.tensor([[1.0, 2.0], [3.0, 4.0]]))
    tensor([1., 4.])
    """
    return A.diagonal(offset, dim1, dim2)
