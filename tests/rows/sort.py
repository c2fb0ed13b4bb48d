"""Order: sorting, selection, medians and quantiles, distinct elements, searching, counting."""

from __future__ import annotations

from typing import Any

import numpy as np

import glassgrad as gg
from op_table import ALL, FLOATS, INTS, Bad, Random, Row, Sample

X34 = np.zeros((3, 4))
NAN = float("nan")


def ordered(x: np.ndarray, dim: int = -1, descending: bool = False) -> tuple[np.ndarray, np.ndarray]:
    if x.ndim == 0:
        return x, np.zeros((), np.int64)
    keys = -x.astype(np.float64) if descending else x
    order = np.argsort(keys, axis=dim, kind="stable")
    return np.take_along_axis(x, order, dim), order


def best(x: np.ndarray, k: int, dim: int = -1, largest: bool = True) -> tuple[np.ndarray, np.ndarray]:
    values, order = ordered(x, dim, largest)
    return (values, order) if x.ndim == 0 else (np.take(values, range(k), dim), np.take(order, range(k), dim))


def kth(x: np.ndarray, k: int, dim: int = -1, keepdim: bool = False) -> tuple[np.ndarray, np.ndarray]:
    values, order = ordered(x, dim)
    if x.ndim == 0:
        return values, order
    at = [k - 1] if keepdim else k - 1
    return np.take(values, at, dim), np.take(order, at, dim)


def lower_median(x: np.ndarray, dim: int | None = None, keepdim: bool = False) -> Any:
    if dim is None:
        return np.sort(x.reshape(-1))[(x.size - 1) // 2]
    return kth(x, (x.shape[dim] + 1) // 2 if x.ndim else 1, dim, keepdim)


def with_nan(x: np.ndarray) -> np.ndarray:
    x = x.copy()
    x[..., 1] = NAN
    return x


def most_frequent(x: np.ndarray, dim: int = -1, keepdim: bool = False) -> tuple[np.ndarray, np.ndarray]:
    def of_row(row: np.ndarray) -> np.ndarray:
        values, counts = np.unique(row, return_counts=True)
        value = values[np.argmax(counts)]
        return np.array([value, np.flatnonzero(row == value)[-1]], dtype=np.float64)

    both = np.apply_along_axis(of_row, dim if x.ndim else 0, x if x.ndim else x.reshape(1))
    values, places = np.moveaxis(both, dim if x.ndim else 0, 0)
    values, places = values.astype(x.dtype), places.astype(np.int64)
    return (np.expand_dims(values, dim), np.expand_dims(places, dim)) if keepdim and x.ndim else (values, places)


def orderings(r: Random) -> list[Sample]:
    return [
        Sample(r.distinct(3, 5)),
        Sample(r.distinct(3, 5, 2), 1),
        Sample(r.distinct(4, 3), 0, True),
        Sample(r.distinct(70)),
        Sample(r.normal()),
        Sample(r.normal(3, 0)),
        Sample(r.distinct(2, 300), -1, True),
    ]


ROWS = [
    Row(
        "sort",
        samples=orderings,
        ref=ordered,
        grad=True,
        method=True,
        nonfinite=True,
        torch=lambda x, dim=-1, d=False: x.sort(dim=dim, descending=d, stable=True),
        dtypes=("float64", "float32", "float16", "int16", "int32", "int64"),
        bad=[Bad(lambda: ((X34, 2), {}), IndexError, "sort: dim 2 is out of range")],
        bench=lambda r: [Sample(r.normal(1_000_000)), Sample(r.normal(1000, 1000)), Sample(r.normal(20_000, 32))],
    ),
    Row(
        "sort with ties",
        fn=lambda x, dim, d: gg.sort(x, dim, d),
        torch=lambda x, dim, d: x.sort(dim=dim, descending=d, stable=True),
        samples=lambda r: [
            Sample(np.trunc(r.normal(3, 50) * 2), 1, False),
            Sample(np.trunc(r.normal(50, 3) * 2), 0, True),
        ],
        dtypes=ALL,
    ),
    Row(
        "argsort",
        samples=lambda r: [Sample(r.distinct(3, 5)), Sample(r.distinct(4, 3), 0, True)],
        ref=lambda *a: ordered(*a)[1],
        method=True,
    ),
    Row("msort", samples=lambda r: [Sample(r.distinct(5, 3))], ref=lambda x: np.sort(x, 0), grad=True, method=True),
    Row(
        "topk",
        samples=lambda r: [
            Sample(r.distinct(3, 5), 2),
            Sample(r.distinct(3, 5, 2), 3, 1),
            Sample(r.distinct(4, 3), 2, 0, False),
            Sample(r.distinct(300), 5),
            Sample(r.distinct(300), 100),
            Sample(r.distinct(300), 0),
            Sample(r.normal(), 1),
        ],
        ref=best,
        grad=True,
        method=True,
        dtypes=("float64", "float32", "float16"),
        bad=[
            Bad(lambda: ((X34, 5), {}), ValueError, "topk: k 5 is out of range for axis 1"),
            Bad(lambda: ((X34, -1), {}), ValueError, "topk: k -1"),
        ],
        bench=lambda r: [Sample(r.normal(64, 50_000), 10), Sample(r.normal(64, 50_000), 1000)],
    ),
    Row(
        "kthvalue",
        samples=lambda r: [
            Sample(r.distinct(3, 5), 2),
            Sample(r.distinct(3, 5, 2), 3, 1, True),
            Sample(r.distinct(300), 150),
            Sample(r.normal(), 1),
        ],
        ref=kth,
        grad=True,
        method=True,
        dtypes=("float64", "float32", "float16"),
        bad=[
            Bad(lambda: ((X34, 0), {}), ValueError, "kthvalue: k 0 is out of range"),
            Bad(lambda: ((X34, 5), {}), ValueError, "kthvalue: k 5"),
        ],
        bench=lambda r: [Sample(r.normal(64, 50_000), 25_000)],
    ),
    Row(
        "median",
        samples=lambda r: [
            Sample(r.distinct(3, 5)),
            Sample(r.distinct(3, 4), 1),
            Sample(r.distinct(3, 4, 2), 0, True),
            Sample(r.distinct(301), 0),
            Sample(r.normal()),
        ],
        ref=lower_median,
        grad=True,
        method=True,
        dtypes=("float64", "float32", "float16"),
        bad=[
            Bad(lambda: ((X34, 2), {}), IndexError, "median: dim 2"),
            Bad(lambda: ((np.zeros((3, 0)), 1), {}), IndexError, "median: axis 1 .* is empty"),
        ],
    ),
    Row(
        "median with NaN",
        fn=gg.median,
        torch="median",
        samples=lambda r: [
            Sample(with_nan(r.distinct(3, 5))),
            Sample(with_nan(r.distinct(3, 4)), 1),
            Sample(with_nan(r.distinct(3, 4)), 0),
        ],
        dtypes=FLOATS,
    ),
    Row(
        "nanmedian",
        samples=lambda r: [
            Sample(r.distinct(3, 5)),
            Sample(with_nan(r.distinct(3, 5))),
            Sample(with_nan(r.distinct(3, 4)), 1),
            Sample(r.distinct(3, 4), 0, True),
        ],
        dtypes=("float64", "float32"),
        method=True,
    ),
    Row(
        "mode",
        ref=most_frequent,
        torch=None,
        notes="which of equal elements PyTorch names depends on the length of the row",
        samples=lambda r: [
            Sample(np.trunc(r.normal(3, 20))),
            Sample(np.trunc(r.normal(20, 3)), 0, True),
            Sample(r.normal()),
        ],
        dtypes=("float64", "float32", "int64", "uint8"),
        method=True,
    ),
    Row(
        "quantile",
        samples=lambda r: [
            Sample(r.distinct(3, 5), 0.3),
            Sample(r.distinct(3, 5), 0.5, 1),
            Sample(r.distinct(3, 5, 2), np.array([0.0, 0.25, 1.0]), 1, True),
            Sample(r.distinct(3, 5), 0.4, 0, interpolation="lower"),
            Sample(r.distinct(3, 5), 0.4, 1, interpolation="higher"),
            Sample(r.distinct(3, 5), 0.4, 1, interpolation="nearest"),
            Sample(r.distinct(3, 5), 0.4, interpolation="midpoint"),
            Sample(r.normal(), 0.5),
        ],
        ref=lambda x, q, dim=None, keepdim=False, interpolation="linear": np.quantile(
            x, q, axis=dim if x.ndim else None, keepdims=keepdim, method=interpolation
        ),
        dtypes=("float64", "float32"),
        grad=True,
        wrt=[0],
        method=True,
        bad=[
            Bad(lambda: ((X34, 1.5), {}), ValueError, r"quantile: q must be in \[0, 1\]"),
            Bad(lambda: ((X34, 0.5), {"interpolation": "cubic"}), ValueError, "quantile: interpolation"),
        ],
    ),
    Row(
        "nanquantile",
        samples=lambda r: [
            Sample(with_nan(r.distinct(3, 5)), 0.3),
            Sample(with_nan(r.distinct(3, 5)), np.array([0.1, 0.5]), 1),
            Sample(with_nan(r.distinct(3, 5)), 0.5, 0),
        ],
        dtypes=("float64", "float32"),
        method=True,
    ),
    Row(
        "unique",
        samples=lambda r: [
            Sample(r.integers(0, 5, 3, 4), return_inverse=True, return_counts=True),
            Sample(np.trunc(r.normal(40)), return_counts=True),
            Sample(r.integers(0, 2, 6, 2), return_inverse=True, return_counts=True, dim=0),
            Sample(r.integers(0, 2, 2, 3, 9), dim=2, return_inverse=True),
            Sample(r.normal(0)),
            Sample(r.bools(7), return_inverse=True),
        ],
        dtypes=ALL,
        method=True,
        bench=lambda r: [Sample(r.integers(0, 1000, 1_000_000))],
    ),
    Row(
        "unique_consecutive",
        samples=lambda r: [
            Sample(r.integers(0, 2, 30), return_inverse=True, return_counts=True),
            Sample(r.integers(0, 2, 8, 1), dim=0, return_counts=True),
            Sample(np.trunc(r.normal(3, 9))),
        ],
        dtypes=ALL,
        method=True,
    ),
    Row(
        "searchsorted",
        samples=lambda r: [
            Sample(np.sort(np.trunc(r.normal(9) * 2)), np.trunc(r.normal(3, 4) * 2)),
            Sample(np.sort(np.trunc(r.normal(9) * 2)), np.trunc(r.normal(7) * 2), right=True),
            Sample(np.sort(np.trunc(r.normal(3, 9)), -1), np.trunc(r.normal(3, 4)), side="right"),
            Sample(np.sort(r.normal(9)), r.normal(4), out_int32=True),
            Sample(r.normal(0), r.normal(4)),
        ],
        dtypes=(*FLOATS, *INTS),
        bad=[
            Bad(
                lambda: ((X34, np.zeros((2, 4))), {}),
                ValueError,
                "searchsorted: .* must agree on all axes but the last",
            ),
            Bad(lambda: ((np.zeros(3), np.zeros(3)), {"side": "middle"}), ValueError, "searchsorted: side"),
            Bad(
                lambda: ((np.zeros(3), np.zeros(3)), {"side": "left", "right": True}), ValueError, "searchsorted: side"
            ),
            Bad(
                lambda: ((np.zeros(3), np.zeros(3)), {"sorter": np.array([0, 1, 3])}),
                IndexError,
                "searchsorted: sorter index 3",
            ),
        ],
        bench=lambda r: [Sample(np.sort(r.normal(100_000)), r.normal(1_000_000))],
    ),
    Row(
        "searchsorted through a sorter",
        fn=lambda s, v, sorter: gg.searchsorted(s, v, sorter=sorter),
        torch=None,
        samples=lambda r: [Sample(x := r.normal(9), r.normal(5), np.argsort(x))],
        ref=lambda s, v, sorter: np.searchsorted(s, v, sorter=sorter),
        dtypes=("float64",),
        strided=False,
    ),
    Row(
        "bucketize",
        samples=lambda r: [
            Sample(np.trunc(r.normal(3, 4) * 2), np.arange(-3.0, 4.0)),
            Sample(np.trunc(r.normal(7) * 2), np.arange(-3.0, 4.0), right=True),
            Sample(r.integers(-4, 4, 5), np.arange(-3, 4)),
        ],
        ref=lambda x, b, right=False: np.searchsorted(b, x, side="right" if right else "left"),
        dtypes=("float64", "float32", "float16"),
        bad=[Bad(lambda: ((np.zeros(3), X34), {}), ValueError, "bucketize: boundaries .* one axis")],
    ),
    Row(
        "isin",
        samples=lambda r: [
            Sample(r.integers(0, 9, 3, 4), r.integers(0, 9, 5)),
            Sample(np.trunc(r.normal(20)), np.trunc(r.normal(2, 2)), invert=True),
            Sample(r.normal(3), r.normal(0)),
            Sample(r.integers(0, 3, 5), 2),
        ],
        ref=np.isin,
        dtypes=("float64", "float32", "float16", *INTS),
    ),
    Row(
        "bincount",
        samples=lambda r: [
            Sample(r.integers(0, 7, 30)),
            Sample(r.integers(0, 7, 30), minlength=10),
            Sample(r.integers(0, 300, 150_000)),
            Sample(r.integers(0, 7, 30), r.normal(30)),
            Sample(r.integers(0, 7, 0), minlength=2),
        ],
        ref=lambda x, weights=None, minlength=0: np.bincount(x, weights, minlength),
        dtypes=("float64", "float32"),
        method=True,
        bad=[
            Bad(lambda: ((np.array([-1]),), {}), ValueError, "bincount: .* negative"),
            Bad(lambda: ((np.zeros((2, 2), np.int64),), {}), ValueError, "bincount: .* row of whole numbers"),
        ],
        bench=lambda r: [Sample(r.integers(0, 1000, 1_000_000))],
    ),
    Row(
        "histc",
        samples=lambda r: [
            Sample(r.normal(100), bins=7),
            Sample(r.normal(10, 10), bins=5, min=-1, max=1),
            Sample(np.ones(4), bins=3),
            Sample(r.normal(0), bins=3),
        ],
        dtypes=("float64", "float32"),
        method=True,
        bad=[
            Bad(lambda: ((X34,), {"bins": 0}), RuntimeError, "histc: bins must be positive"),
            Bad(lambda: ((X34,), {"min": 2, "max": 1}), RuntimeError, "histc: max 1 must not be less"),
        ],
        bench=lambda r: [Sample(r.normal(1_000_000), bins=100)],
    ),
    Row(
        "histogram",
        samples=lambda r: [
            Sample(r.normal(100), 7),
            Sample(r.normal(100), 5, range=(-1.0, 1.0), density=True),
            Sample(r.normal(100), np.array([-2.0, 0.0, 0.5, 2.0]), weight=r.positive(100)),
        ],
        dtypes=("float64", "float32"),
        method=True,
        bad=[Bad(lambda: ((X34, 0), {}), RuntimeError, "histogram: bins must be positive")],
    ),
]
