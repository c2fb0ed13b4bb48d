"""Indexing, gather and scatter, masks, parts replaced."""

from __future__ import annotations

from typing import Any

import numpy as np

import glassgrad as gg
from op_table import ALL, Bad, Random, Row, Sample


def rows_picked(r: Random, *shape: int, size: int, dim: int) -> np.ndarray:
    """An index for gather or scatter along dim: each place at most once per row, so that writes have one meaning."""
    index = np.argsort(r.rng.random((*shape[:dim], size, *shape[dim + 1 :])), axis=dim)
    return np.take(index, range(shape[dim]), axis=dim).astype(np.int64)


def scattered(x: np.ndarray, dim: int, index: np.ndarray, src: Any, fold: Any = None) -> np.ndarray:
    y = x.copy()
    for at in np.ndindex(index.shape):
        to = (
            (*at[:dim], index[at], *at[dim + 1 :])
            if dim >= 0
            else (*at[: dim % x.ndim], index[at], *at[dim % x.ndim + 1 :])
        )
        v = src[at] if isinstance(src, np.ndarray) and src.ndim else src
        y[to] = v if fold is None else fold(y[to], v)
    return y


def reduced(
    x: np.ndarray, dim: int, index: np.ndarray, src: np.ndarray, reduce: str, include_self: bool = True
) -> np.ndarray:
    groups: dict[tuple[int, ...], list[Any]] = {}
    for at in np.ndindex(index.shape):
        groups.setdefault((*at[:dim], int(index[at]), *at[dim + 1 :]), []).append(src[at])
    y = x.copy()
    whole = not np.issubdtype(x.dtype, np.floating)
    for to, values in groups.items():
        values = ([x[to]] if include_self else []) + values
        if reduce == "mean":
            y[to] = np.floor_divide(np.sum(values), len(values)) if whole else np.mean(values)
        else:
            y[to] = {"sum": np.sum, "prod": np.prod, "amax": np.max, "amin": np.min}[reduce](values)
    return y


def index_reduced(
    x: np.ndarray, dim: int, index: np.ndarray, source: np.ndarray, reduce: str, include_self: bool = True
) -> np.ndarray:
    shape = [1] * x.ndim
    shape[dim] = -1
    return reduced(x, dim, np.broadcast_to(index.reshape(shape), source.shape), source, reduce, include_self)


def put_along(x: np.ndarray, dim: int, index: np.ndarray, source: Any, add: bool = False) -> np.ndarray:
    y = np.moveaxis(x.copy(), dim, 0)
    for j, i in enumerate(index.reshape(-1)):
        v = np.moveaxis(source, dim, 0)[j] if isinstance(source, np.ndarray) and source.ndim else source
        y[i] = y[i] + v if add else v
    return np.moveaxis(y, 0, dim)


def masked_scattered(x: np.ndarray, mask: np.ndarray, source: np.ndarray) -> np.ndarray:
    y = np.broadcast_to(x, np.broadcast_shapes(x.shape, mask.shape)).copy()
    full = np.broadcast_to(mask, y.shape)
    y[full] = source.reshape(-1)[: full.sum()]
    return y


def replaced(x: np.ndarray, src: np.ndarray, key: Any) -> np.ndarray:
    y = x.copy()
    y[key] = src
    return y


def getting(key: Any) -> Any:
    return lambda x, *index: x[key(*index)]


def assigned(x: Any, v: Any, *index: Any) -> Any:
    y = x * 1
    y[(slice(1, None), *index)] = v
    return y


def doubled_in_place(x: Any, v: Any) -> Any:
    y = x * 1
    y[1:, ::2] += v
    return y


FOLDS = ["sum", "prod", "mean", "amax", "amin"]
X34 = np.zeros((3, 4))
I2 = np.array([0, 1])


ROWS = [
    Row(
        "__getitem__ with slices",
        fn=lambda x: x[1:, None, ::2, ..., -1],
        torch=lambda x: x[1:, None, ::2, ..., -1],
        samples=lambda r: [Sample(r.normal(3, 5, 2)), Sample(r.normal(2, 4, 1, 3)), Sample(r.normal(0, 3, 2))],
        ref=lambda x: x[1:, None, ::2, ..., -1],
        dtypes=ALL,
        grad=True,
    ),
    Row(
        "__getitem__ with tensors",
        fn=lambda x, i, j: x[i, :, j],
        torch=lambda x, i, j: x[i, :, j],
        samples=lambda r: [
            Sample(r.normal(3, 2, 4), r.integers(-3, 3, 5), r.integers(-4, 4, 5)),
            Sample(r.normal(3, 2, 4), r.integers(0, 3, 2, 1), r.integers(0, 4, 3)),
            Sample(r.normal(3, 2, 4, 2), r.integers(0, 3, 0), r.integers(0, 4, 0)),
        ],
        ref=lambda x, i, j: x[i, :, j],
        dtypes=ALL,
        grad=True,
    ),
    Row(
        "__getitem__ with neighbours",
        fn=lambda x, i, j: x[:, i, j],
        torch=lambda x, i, j: x[:, i, j],
        samples=lambda r: [
            Sample(r.normal(3, 2, 4), r.integers(-2, 2, 2, 3), r.integers(-4, 4, 3)),
            Sample(r.normal(3, 2, 4, 2), r.integers(0, 2, 5), r.integers(0, 4, 5)),
        ],
        ref=lambda x, i, j: x[:, i, j],
        dtypes=ALL,
        grad=True,
    ),
    Row(
        "__getitem__ with a mask",
        fn=lambda x, m: x[m],
        torch=lambda x, m: x[m],
        samples=lambda r: [
            Sample(r.normal(3, 4), r.bools(3, 4)),
            Sample(r.normal(3, 4, 2), r.bools(3, 4)),
            Sample(r.normal(5), r.bools(5)),
            Sample(r.normal(3, 4), np.zeros(3, bool)),
        ],
        ref=lambda x, m: x[m],
        dtypes=ALL,
        grad=True,
    ),
    Row(
        "__setitem__",
        fn=assigned,
        torch=assigned,
        samples=lambda r: [
            Sample(r.normal(3, 4), r.normal(4)),
            Sample(r.normal(3, 4), r.normal(2, 1)),
            Sample(r.normal(3, 4), r.normal(2, 2), np.array([3, 0])),
            Sample(r.normal(3, 4, 2), r.normal(2), np.array([2])),
        ],
        ref=lambda x, v, *i: replaced(x, v, (slice(1, None), *i)),
        grad=True,
        notes="dtypes: FLOATS, tests/test_indexing.py has all",
    ),
    Row(
        "__setitem__ with +=",
        fn=doubled_in_place,
        torch=doubled_in_place,
        samples=lambda r: [
            Sample(r.normal(3, 4), r.normal(2)),
            Sample(r.normal(3, 5), r.normal(2, 3)),
            Sample(r.normal(3, 5), r.normal()),
        ],
        grad=True,
    ),
    Row(
        "index_put",
        samples=lambda r: [
            Sample(r.normal(5, 3), [np.array([4, 0, -2])], r.normal(3, 3)),
            Sample(r.normal(5, 3), [np.array([4, 0]), np.array([1, -1])], r.normal(1)),
            Sample(r.normal(5, 3), [np.array([4, 0, 4])], r.normal(3, 3), accumulate=True),
            Sample(r.normal(5, 3), [r.bools(5, 3)], r.normal(), accumulate=True),
        ],
        dtypes=ALL,
        grad=True,
        inplace="index_put_",
        method=True,
        torch=lambda x, i, v, accumulate=False: x.clone().index_put_(i, v, accumulate),
        bad=[
            Bad(
                lambda: ((X34, [np.array([3])], np.zeros(4)), {}),
                IndexError,
                "index_put: index 3 is out of bounds for axis 0",
            ),
            Bad(lambda: ((X34, [I2], np.zeros(3)), {}), ValueError, "does not broadcast"),
        ],
        bench=lambda r: [
            Sample(r.normal(1000, 256), [r.integers(0, 1000, 4000)], r.normal(4000, 256), accumulate=True)
        ],
    ),
    Row(
        "gather",
        samples=lambda r: [
            Sample(r.normal(3, 4), 1, r.integers(0, 4, 3, 6)),
            Sample(r.normal(3, 4), 0, r.integers(0, 3, 2, 3)),
            Sample(r.normal(2, 3, 4), -2, r.integers(0, 3, 2, 5, 4)),
            Sample(r.normal(), 0, np.zeros((), np.int64)),
            Sample(r.normal(3, 4), 1, r.integers(0, 4, 3, 0)),
            Sample(r.normal(9), 0, r.integers(0, 9, 4)),
        ],
        dtypes=ALL,
        grad=True,
        method=True,
        bad=[
            Bad(
                lambda: ((X34, 1, np.full((3, 1), 4)), {}),
                IndexError,
                r"gather: index 4 is out of bounds for axis 1 of x \(3, 4\)",
            ),
            Bad(lambda: ((X34, 1, np.full((3, 1), -1)), {}), IndexError, "gather: index -1"),
            Bad(lambda: ((X34, 1, np.zeros((4, 1), np.int64)), {}), ValueError, "gather: index .* is larger than x"),
            Bad(lambda: ((X34, 2, np.zeros((3, 1), np.int64)), {}), IndexError, "gather: dim 2"),
            Bad(lambda: ((X34, 1, np.zeros(3, np.int64)), {}), ValueError, "gather: .* same number of axes"),
            Bad(lambda: ((X34, 1, np.zeros((3, 1))), {}), TypeError, "gather: index .* must be int64"),
        ],
        bench=lambda r: [
            Sample(r.normal(512, 1000), 1, r.integers(0, 1000, 512, 1000)),
            Sample(r.normal(1_000_000), 0, r.integers(0, 1_000_000, 1_000_000)),
        ],
    ),
    Row(
        "scatter",
        samples=lambda r: [
            Sample(r.normal(3, 5), 1, rows_picked(r, 3, 2, size=5, dim=1), r.normal(3, 2)),
            Sample(r.normal(3, 5), 0, rows_picked(r, 2, 5, size=3, dim=0), r.normal(3, 6)),
            Sample(r.normal(2, 3, 4), -1, rows_picked(r, 2, 3, 4, size=4, dim=2), r.normal(2, 3, 4)),
            Sample(r.normal(3, 5), 1, rows_picked(r, 3, 2, size=5, dim=1), 2.5),
            Sample(r.normal(4), 0, np.array([3, 0]), r.normal(2)),
        ],
        dtypes=ALL,
        grad=True,
        inplace="scatter_",
        method=True,
        torch=lambda x, dim, index, src: (
            x.scatter(dim, index, src)
            if not hasattr(src, "shape") or src.shape == index.shape
            else x.scatter(dim, index, src[tuple(slice(n) for n in index.shape)])
        ),
        bad=[
            Bad(
                lambda: ((X34, 0, np.full((1, 4), 3), np.zeros((1, 4))), {}),
                IndexError,
                "scatter: index 3 is out of bounds for axis 0",
            ),
            Bad(
                lambda: ((X34, 0, np.zeros((2, 4), np.int64), np.zeros((1, 4))), {}),
                ValueError,
                "scatter: index .* is larger than src",
            ),
            Bad(
                lambda: ((X34, 0, np.zeros((1, 5), np.int64), np.zeros((1, 5))), {}),
                ValueError,
                "scatter: index .* is larger than x",
            ),
        ],
        bench=lambda r: [Sample(r.normal(512, 1000), 1, r.integers(0, 1000, 512, 1000), r.normal(512, 1000))],
    ),
    Row(
        "scatter with reduce",
        fn=lambda x, dim, index, src, reduce: gg.scatter(x, dim, index, src, reduce=reduce),
        torch=lambda x, dim, index, src, reduce: x.scatter_reduce(
            dim, index, src, {"add": "sum", "multiply": "prod"}[reduce]
        ),
        samples=lambda r: [
            Sample(r.normal(3, 5), 1, r.integers(0, 5, 3, 4), r.normal(3, 4), "add"),
            Sample(r.normal(3, 5), 0, r.integers(0, 3, 4, 5), r.positive(4, 5), "multiply"),
        ],
        grad=True,
    ),
    Row(
        "scatter_add",
        samples=lambda r: [
            Sample(r.normal(3, 5), 1, r.integers(0, 5, 3, 7), r.normal(3, 7)),
            Sample(r.normal(3, 5), 0, r.integers(0, 3, 6, 4), r.normal(6, 4)),
            Sample(r.normal(4), 0, r.integers(0, 4, 9), r.normal(9)),
            Sample(r.normal(), 0, np.zeros((), np.int64), r.normal()),
        ],
        ref=lambda x, dim, index, src: scattered(x, dim, index, src, lambda a, b: a + b) if x.ndim else x + src,
        grad=True,
        inplace="scatter_add_",
        method=True,
        bad=[
            Bad(
                lambda: ((X34, 0, np.full((1, 4), -1), np.zeros((1, 4))), {}),
                IndexError,
                "scatter_add: index -1 is out of bounds",
            )
        ],
        bench=lambda r: [
            Sample(r.normal(512, 1000), 1, r.integers(0, 1000, 512, 1000), r.normal(512, 1000)),
            Sample(r.normal(1_000_000), 0, r.integers(0, 1_000_000, 1_000_000), r.normal(1_000_000)),
        ],
    ),
    Row(
        "scatter_reduce",
        samples=lambda r: (
            [
                Sample(r.distinct(3, 5), 1, r.integers(0, 5, 3, 7), r.distinct(3, 7) + 0.3, reduce, include_self=own)
                for reduce in FOLDS
                for own in (True, False)
            ]
            + [Sample(r.normal(4), 0, r.integers(0, 4, 5), np.array([1.5, 0, 2, 0, 3]), "prod")]
        ),
        ref=reduced,
        grad=True,
        inplace="scatter_reduce_",
        method=True,
        tol={"float16": (2e-2, 5e-2), "bfloat16": (6e-2, 2e-1), "float32": (1e-4, 1e-4)},
        bad=[
            Bad(
                lambda: ((X34, 0, np.full((1, 4), 3), np.zeros((1, 4)), "sum"), {}),
                IndexError,
                "scatter_reduce: index 3 is out of bounds",
            ),
            Bad(
                lambda: ((X34, 0, np.zeros((1, 4), np.int64), np.zeros((1, 4)), "max"), {}),
                RuntimeError,
                "scatter_reduce: reduce must be",
            ),
        ],
    ),
    Row(
        "index_reduce",
        samples=lambda r: [
            Sample(r.distinct(3, 4), 0, np.array([2, 0, 2, 2]), r.distinct(4, 4) + 0.3, reduce, include_self=own)
            for reduce in FOLDS[1:]
            for own in (True, False)
        ],
        ref=index_reduced,
        grad=True,
        inplace="index_reduce_",
        method=True,
        tol={"float16": (2e-2, 5e-2), "bfloat16": (6e-2, 2e-1), "float32": (1e-4, 1e-4)},
    ),
    Row(
        "index_select",
        samples=lambda r: [
            Sample(r.normal(3, 4), 0, r.integers(0, 3, 5)),
            Sample(r.normal(3, 4, 2), 1, r.integers(0, 4, 3)),
            Sample(r.normal(3, 4), -1, r.integers(0, 4, 0)),
            Sample(r.normal(5), 0, np.array(2)),
            Sample(r.normal(), 0, np.array([0])),
        ],
        ref=lambda x, dim, index: np.take(x, index.reshape(-1), axis=dim) if x.ndim else x,
        dtypes=ALL,
        grad=True,
        method=True,
        bad=[
            Bad(
                lambda: ((X34, 0, np.array([3])), {}),
                IndexError,
                r"index_select: index 3 is out of bounds for axis 0 of x \(3, 4\)",
            ),
            Bad(lambda: ((X34, 0, np.array([-1])), {}), IndexError, "negative indices are not taken"),
            Bad(
                lambda: ((X34, 0, np.zeros((1, 1), np.int64)), {}),
                IndexError,
                "index_select: index .* at most one axis",
            ),
            Bad(lambda: ((X34, 0, np.array([0.0])), {}), TypeError, "index_select: index .* must be int64"),
        ],
        bench=lambda r: [
            Sample(r.normal(10_000, 256), 0, r.integers(0, 10_000, 20_000)),
            Sample(r.normal(64, 10_000), 1, r.integers(0, 10_000, 5000)),
        ],
    ),
    Row(
        "index_add",
        samples=lambda r: [
            Sample(r.normal(3, 4), 0, r.integers(0, 3, 5), r.normal(5, 4)),
            Sample(r.normal(3, 4, 2), 1, r.integers(0, 4, 3), r.normal(3, 3, 2)),
            Sample(r.normal(5), 0, r.integers(0, 5, 0), r.normal(0)),
        ],
        ref=lambda x, dim, index, source: put_along(x, dim, index, source, add=True),
        grad=True,
        inplace="index_add_",
        method=True,
        bad=[
            Bad(lambda: ((X34, 0, np.array([3]), np.zeros((1, 4))), {}), IndexError, "index_add: index 3"),
            Bad(lambda: ((X34, 0, I2, np.zeros((1, 4))), {}), ValueError, r"index_add: source \(1, 4\) does not fit"),
        ],
        bench=lambda r: [Sample(r.normal(10_000, 64), 0, r.integers(0, 10_000, 100_000), r.normal(100_000, 64))],
    ),
    Row(
        "index_add with alpha",
        fn=lambda x, dim, i, s, alpha: gg.index_add(x, dim, i, s, alpha=alpha),
        torch="index_add",
        samples=lambda r: [Sample(r.normal(3, 4), 0, r.integers(0, 3, 5), r.normal(5, 4), alpha=2)],
        ref=lambda x, dim, index, source, alpha: put_along(x, dim, index, source * alpha, add=True),
        grad=True,
    ),
    Row(
        "index_copy",
        samples=lambda r: [
            Sample(r.normal(3, 4), 0, np.array([2, 0]), r.normal(2, 4)),
            Sample(r.normal(3, 4), 1, r.permutation(4)[:3], r.normal(3, 3)),
        ],
        ref=put_along,
        dtypes=ALL,
        grad=True,
        inplace="index_copy_",
        method=True,
        bad=[Bad(lambda: ((X34, 0, np.array([3]), np.zeros((1, 4))), {}), IndexError, "index_copy: index 3")],
    ),
    Row(
        "index_fill",
        samples=lambda r: [
            Sample(r.normal(3, 4), 0, np.array([2, 0]), 2.5),
            Sample(r.normal(3, 4), 1, np.array([1, 1]), r.normal()),
            Sample(r.normal(3), 0, np.array([], np.int64), 1.0),
        ],
        grad=True,
        inplace="index_fill_",
        method=True,
        bad=[Bad(lambda: ((X34, 0, np.array([3]), 1.0), {}), IndexError, "index_fill: index 3")],
    ),
    Row(
        "masked_fill",
        samples=lambda r: [
            Sample(r.normal(3, 4), r.bools(3, 4), -1.5),
            Sample(r.normal(3, 4), r.bools(4), r.normal()),
            Sample(r.normal(4), r.bools(3, 1), 0.0),
            Sample(r.normal(), r.bools(), 2.0),
            Sample(r.normal(0, 3), r.bools(3), 2.0),
        ],
        grad=True,
        inplace="masked_fill_",
        method=True,
        bad=[
            Bad(
                lambda: ((X34, np.zeros(3, bool), 1.0), {}),
                ValueError,
                "masked_fill: x .* and mask .* do not broadcast",
            ),
            Bad(lambda: ((X34, np.zeros(4, np.int64), 1.0), {}), TypeError, "masked_fill: mask .* must be bool"),
            Bad(lambda: ((X34, np.zeros(4, bool), np.zeros(2)), {}), ValueError, "masked_fill: value"),
        ],
        bench=lambda r: [Sample(r.normal(8, 512, 512), r.bools(512, 512), -1e9)],
    ),
    Row(
        "masked_select",
        samples=lambda r: [
            Sample(r.normal(3, 4), r.bools(3, 4)),
            Sample(r.normal(3, 4), r.bools(4)),
            Sample(r.normal(4), r.bools(3, 1)),
            Sample(r.normal(0), r.bools(0)),
        ],
        ref=lambda x, m: np.broadcast_arrays(x, m)[0][np.broadcast_to(m, np.broadcast_shapes(x.shape, m.shape))],
        dtypes=ALL,
        grad=True,
        method=True,
        bad=[
            Bad(lambda: ((X34, np.zeros(3, bool)), {}), ValueError, "masked_select: x .* and mask .* do not broadcast")
        ],
        bench=lambda r: [Sample(r.normal(1024, 1024), r.bools(1024, 1024))],
    ),
    Row(
        "masked_scatter",
        samples=lambda r: [
            Sample(r.normal(3, 4), r.bools(3, 4), r.normal(3, 4)),
            Sample(r.normal(3, 4), r.bools(4), r.normal(20)),
            Sample(r.normal(4), r.bools(3, 1), r.normal(3, 4)),
        ],
        ref=masked_scattered,
        dtypes=ALL,
        grad=True,
        method=True,
        bad=[
            Bad(
                lambda: ((X34, np.ones((3, 4), bool), np.zeros(11)), {}),
                ValueError,
                "masked_scatter: source .* fewer elements",
            )
        ],
    ),
    Row(
        "take",
        samples=lambda r: [
            Sample(r.normal(3, 4), r.integers(-12, 12, 2, 3)),
            Sample(r.normal(5), np.array(2)),
            Sample(r.normal(3, 4), r.integers(0, 12, 0)),
        ],
        ref=lambda x, i: np.take(x, i),
        dtypes=ALL,
        grad=True,
        method=True,
        bad=[Bad(lambda: ((X34, np.array([12])), {}), IndexError, "take: index 12 is out of bounds")],
    ),
    Row(
        "take_along_dim",
        samples=lambda r: [
            Sample(r.normal(3, 4), r.integers(0, 4, 3, 2), 1),
            Sample(r.normal(3, 1), r.integers(0, 3, 2, 4), 0),
            Sample(r.normal(3, 4), r.integers(0, 12, 5)),
        ],
        dtypes=ALL,
        grad=True,
        method=True,
        bad=[
            Bad(lambda: ((X34, np.full((3, 1), 4), 1), {}), IndexError, "index 4 is out of bounds"),
            Bad(
                lambda: ((X34, np.zeros((2, 4), np.int64), 1), {}),
                ValueError,
                "take_along_dim: .* do not broadcast on axis 0",
            ),
        ],
    ),
    Row(
        "put",
        samples=lambda r: [
            Sample(r.normal(3, 4), np.array([[5, -1], [0, 3]]), r.normal(2, 2)),
            Sample(r.normal(3, 4), np.array([5, -1, 5]), r.normal(3), True),
        ],
        dtypes=ALL,
        grad=True,
        inplace="put_",
        method=True,
        torch=lambda x, i, s, a=False: x.clone().put_(i, s, a),
        bad=[Bad(lambda: ((X34, np.array([12]), np.zeros(1)), {}), IndexError, "put: index 12")],
    ),
    Row(
        "nonzero",
        samples=lambda r: [
            Sample(r.normal(3, 4) * r.bools(3, 4)),
            Sample(r.normal(2, 3, 2) * r.bools(2, 3, 2)),
            Sample(r.normal(7) * r.bools(7)),
            Sample(r.normal()),
            Sample(r.normal(0, 3)),
        ],
        ref=lambda x: np.argwhere(x) if x.ndim else np.zeros((int(x != 0), 0), np.int64),
        dtypes=ALL,
        method=True,
        bench=lambda r: [Sample(r.normal(1024, 1024) * r.bools(1024, 1024))],
    ),
    Row(
        "nonzero as a tuple",
        fn=lambda x: gg.nonzero(x, as_tuple=True),
        torch=lambda x: x.nonzero(as_tuple=True),
        samples=lambda r: [Sample(r.normal(3, 4) * r.bools(3, 4)), Sample(r.normal(7)), Sample(r.normal())],
        dtypes=ALL,
    ),
    Row(
        "argwhere", samples=lambda r: [Sample(r.normal(3, 4) * r.bools(3, 4))], ref=np.argwhere, dtypes=ALL, method=True
    ),
    Row(
        "one_hot",
        samples=lambda r: [
            Sample(r.integers(0, 4, 3, 2), 4),
            Sample(r.integers(0, 4, 5)),
            Sample(np.array(1), 3),
            Sample(r.integers(0, 4, 0, 2), 3),
        ],
        dtypes=("float32",),
        bad=[
            Bad(lambda: ((np.array([4]), 4), {}), IndexError, "one_hot: index 4 is out of bounds"),
            Bad(lambda: ((np.array([-1]), 4), {}), IndexError, "one_hot: index -1"),
            Bad(lambda: ((np.array([1.0]), 4), {}), RuntimeError, "one_hot: .* must be int64"),
        ],
    ),
    Row(
        "select_scatter",
        samples=lambda r: [Sample(r.normal(3, 4), r.normal(4), 0, 1), Sample(r.normal(3, 4), r.normal(3), -1, -2)],
        dtypes=ALL,
        grad=True,
        method=True,
        bad=[
            Bad(lambda: ((X34, np.zeros(3), 0, 1), {}), ValueError, "select_scatter: src .* does not fit"),
            Bad(lambda: ((X34, np.zeros(4), 0, 3), {}), IndexError, "index 3 is out of bounds"),
        ],
    ),
    Row(
        "slice_scatter",
        samples=lambda r: [
            Sample(r.normal(5, 4), r.normal(2, 4), 0, 1, 4, 2),
            Sample(r.normal(3, 4), r.normal(3, 2), dim=1, start=-2),
        ],
        dtypes=ALL,
        grad=True,
        method=True,
        bad=[
            Bad(
                lambda: ((X34, np.zeros((3, 3))), {"dim": 1, "end": 2}),
                ValueError,
                "slice_scatter: src .* does not fit",
            )
        ],
    ),
    Row(
        "diagonal_scatter",
        samples=lambda r: [Sample(r.normal(3, 4), r.normal(3)), Sample(r.normal(2, 3, 4), r.normal(2, 3), 1, 1, 2)],
        dtypes=ALL,
        grad=True,
        method=True,
        bad=[Bad(lambda: ((X34, np.zeros(4)), {}), ValueError, "diagonal_scatter: src .* does not fit")],
    ),
]
