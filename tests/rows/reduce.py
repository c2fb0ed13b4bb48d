"""Reductions: sums, extremes, counts, moments, norms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from op_table import ALL, FLOATS, INTS, Bad, Dtype, Random, Row, Sample

Dim = Any


def axis(dim: Dim) -> Any:
    return None if dim is None or dim == () else tuple(dim) if isinstance(dim, (tuple, list)) else dim


def over(f: Callable[..., Any]) -> Callable[..., Any]:
    """numpy's reduction f under PyTorch's argument names."""

    def reference(x: np.ndarray, dim: Dim = None, keepdim: bool = False) -> Any:
        if x.ndim == 0 and dim is not None:
            dim = None
        return f(x, axis=axis(dim), keepdims=keepdim)

    return reference


def everywhere(r: Random, full: bool = True, several: bool = True, keepdims: bool = True) -> list[Sample]:
    """Each way to choose axes, over rows, columns and both, longer and shorter than a vector and than a chunk."""
    d = r.distinct
    samples = [
        Sample(d(7, 3), dim=0),
        Sample(d(3, 7), dim=-1),
        Sample(d(2, 70, 40), dim=1),
        Sample(d(4, 150), dim=0),
        Sample(d(5, 3, 2), dim=2),
        Sample(d(3, 130), dim=1),
    ]
    if keepdims:
        samples += [Sample(d(3, 4, 2), dim=1, keepdim=True), Sample(d(5), 0, True)]
    if full:
        samples += [Sample(d(3, 5)), Sample(d()), Sample(d(17)), Sample(d(2, 3, 1, 2))]
    if several:
        samples += [
            Sample(d(2, 3, 4), dim=(0, 2)),
            Sample(d(3, 4, 5), dim=[1, -1], keepdim=keepdims) if keepdims else Sample(d(3, 4, 5), dim=[1, -1]),
            Sample(d(2, 5, 3, 6), dim=(0, 2, 3)),
        ]
    return samples


def small(samples: Callable[[Random], list[Sample]]) -> Callable[[Random], list[Sample]]:
    """The same samples scaled into the range in which float16 sums and products stay finite."""

    def scaled(r: Random) -> list[Sample]:
        return [s.map(lambda a: a / (8 * max(1, np.abs(a).max())) if a.dtype == np.float64 else a) for s in samples(r)]

    return scaled


def wrong_dim(*sizes: int) -> Callable[..., Sample]:
    return lambda r: Sample(r.normal(*sizes), dim=len(sizes) + 1)


def long_lines(r: Random) -> list[Sample]:
    """What is timed: everything, rows, columns, few long rows."""
    return [
        Sample(r.normal(1_000_000)),
        Sample(r.normal(1000, 1000), dim=1),
        Sample(r.normal(1000, 1000), dim=0),
        Sample(r.normal(64, 1000), dim=1),
    ]


def dims_only(r: Random) -> list[Sample]:
    return long_lines(r)[1:]


def take_first(f: Callable[..., Any]) -> Callable[..., Any]:
    """(values, indices) along dim, by numpy's extreme and its arg."""
    arg = np.argmax if f is np.max else np.argmin

    def reference(x: np.ndarray, dim: int | None = None, keepdim: bool = False) -> Any:
        if dim is None:
            return f(x)
        if x.ndim == 0:
            return x, np.zeros((), np.int64)
        return f(x, dim, keepdims=keepdim), np.asarray(arg(x, dim, keepdims=keepdim), np.int64)

    return reference


def argument(f: Callable[..., Any]) -> Callable[..., Any]:
    def reference(x: np.ndarray, dim: int | None = None, keepdim: bool = False) -> Any:
        return np.asarray(f(x, axis=dim if x.ndim else None, keepdims=keepdim), np.int64)

    return reference


def moment(f: Callable[..., Any], both: bool = False) -> Callable[..., Any]:
    def reference(
        x: np.ndarray,
        dim: Dim = None,
        unbiased: bool | None = None,
        keepdim: bool = False,
        *,
        correction: float | None = None,
    ) -> Any:
        if isinstance(dim, bool):
            dim, unbiased = None, dim
        ddof = correction if correction is not None else 0 if unbiased is False else 1
        spread = f(x, axis=axis(dim), ddof=ddof, keepdims=keepdim)
        return (spread, np.mean(x, axis=axis(dim), keepdims=keepdim)) if both else spread

    return reference


def moment_samples(r: Random) -> list[Sample]:
    return [
        Sample(r.normal(3, 5)),
        Sample(r.normal(3, 5), dim=0),
        Sample(r.normal(3, 5) + 100, dim=1, keepdim=True),
        Sample(r.normal(2, 70, 40), dim=1),
        Sample(r.normal(3, 300), dim=-1),
        Sample(r.normal(2, 3, 4), dim=(0, 2)),
        Sample(r.normal(2, 3, 4), dim=(0, 2), correction=0),
        Sample(r.normal(4, 3), dim=1, correction=2),
        Sample(r.normal(4, 3), 1, False),
        Sample(r.normal(4, 3), 0, True, True),
        Sample(r.normal(6), False),
    ]


def p_norm(x: np.ndarray, p: Any = "fro", dim: Dim = None, keepdim: bool = False) -> Any:
    p = 2 if p == "fro" else p
    a, ax = np.abs(x), axis(dim)
    if p == 0:
        return np.sum(x != 0, axis=ax, keepdims=keepdim).astype(float)
    if p in (np.inf, -np.inf):
        return (np.max if p > 0 else np.min)(a, axis=ax, keepdims=keepdim)
    return np.sum(a**p, axis=ax, keepdims=keepdim) ** (1 / p)


def vector_norm(x: np.ndarray, ord: Any = 2, dim: Dim = None, keepdim: bool = False) -> Any:
    return p_norm(x, ord, dim, keepdim)


def norm_samples(r: Random) -> list[Sample]:
    ps = [0, 0.5, 1, 1.5, 2, 3, np.inf, -np.inf, -1]
    return [
        *[Sample(r.uniform(0.2, 2, 3, 5) * np.sign(r.normal(3, 5)), p, 1) for p in ps],
        *[Sample(r.normal(3, 5), p) for p in (1, 2, np.inf)],
        Sample(r.normal(2, 3, 4), 2, (0, 2)),
        Sample(r.normal(2, 70, 40), 2, 1, True),
        Sample(r.normal(2, 70, 40), 3, -1),
        Sample(r.normal(), 2),
        Sample(np.zeros((2, 3)), 2, 1).at_kink(),
        Sample(np.zeros((2, 3)), 1, 1).at_kink(),
        Sample(np.zeros((2, 3)), np.inf, 1).at_kink(),
    ]


SUMS = {"float32": (3e-5, 1e-4), "float16": (3e-3, 3e-2), "bfloat16": (2e-2, 1e-1)}

ROWS = [
    Row(
        "sum",
        samples=lambda r: [
            *everywhere(r),
            Sample(r.normal(3, 4), dtype=Dtype("float64")),
            Sample(r.normal(0, 3), dim=0),
        ],
        ref=lambda x, dim=None, keepdim=False, dtype=None: over(np.sum)(x, dim, keepdim),
        dtypes=ALL,
        grad=True,
        method=True,
        nonfinite=True,
        tol=SUMS,
        bad=[
            Bad(wrong_dim(2, 3), IndexError, "sum: dim 3"),
            Bad(lambda r: Sample(r.normal(2, 3), dim=(0, 0)), ValueError, "sum"),
        ],
        bench=long_lines,
    ),
    Row(
        "mean",
        samples=lambda r: [*everywhere(r), Sample(r.normal(3, 4), 0, dtype=Dtype("float64"))],
        ref=lambda x, dim=None, keepdim=False, dtype=None: over(np.mean)(x, dim, keepdim),
        grad=True,
        method=True,
        nonfinite=True,
        bad=[
            Bad(wrong_dim(2), IndexError, "mean: dim 2"),
            Bad(lambda r: Sample(r.integers(0, 5, 3)), TypeError, "mean: input .*int64"),
        ],
        bench=long_lines,
    ),
    Row(
        "nansum",
        samples=lambda r: [*everywhere(r), Sample(np.array([[1.0, np.nan], [np.nan, np.nan]]), dim=1).at_kink()],
        ref=over(np.nansum),
        dtypes=(*FLOATS, *INTS),
        grad=True,
        method=True,
        tol=SUMS,
        bad=[Bad(wrong_dim(2, 3), IndexError, "nansum: dim 3")],
    ),
    Row(
        "nanmean",
        samples=lambda r: [*everywhere(r), Sample(np.array([[1.0, np.nan], [3.0, 5.0]]), dim=1).at_kink()],
        ref=over(np.nanmean),
        grad=True,
        method=True,
        tol=SUMS,
        bad=[Bad(lambda r: Sample(r.integers(0, 5, 3)), TypeError, "nanmean: input .*int64")],
    ),
    Row(
        "prod",
        samples=lambda r: [
            Sample(r.positive(3, 4), dim=0),
            Sample(r.positive(3, 4), dim=1, keepdim=True),
            Sample(r.positive(5)),
            Sample(r.positive()),
            Sample(r.positive(2, 3, 2), dim=-2),
            Sample(np.array([[2.0, 0.0, 3.0], [0.0, 0.0, 1.0], [1.0, 2.0, 4.0]]), dim=1),
            Sample(np.array([2.0, 0.0, 3.0])),
            Sample(r.normal(0, 3), dim=0),
        ],
        ref=over(np.prod),
        dtypes=ALL,
        grad=True,
        method=True,
        bad=[
            Bad(wrong_dim(2, 3), IndexError, "prod: dim 3"),
            Bad(lambda r: Sample(r.normal(2, 3), dim=(0, 1)), TypeError, "prod: dim"),
        ],
    ),
    Row(
        "amax",
        samples=lambda r: [*everywhere(r), Sample(np.array([[1.0, 2.0, 2.0], [3.0, 3.0, 3.0]]), dim=1).at_kink()],
        ref=over(np.max),
        dtypes=ALL,
        grad=True,
        method=True,
        nonfinite=True,
        bad=[
            Bad(wrong_dim(2, 3), IndexError, "amax: dim 3"),
            Bad(lambda r: Sample(r.normal(0, 3), dim=0), IndexError, "amax: input .* no elements"),
        ],
        bench=long_lines,
    ),
    Row(
        "amin",
        samples=lambda r: [*everywhere(r), Sample(np.array([[1.0, 1.0, 2.0], [3.0, 3.0, 3.0]]), dim=0).at_kink()],
        ref=over(np.min),
        dtypes=ALL,
        grad=True,
        method=True,
        nonfinite=True,
        bad=[Bad(lambda r: Sample(r.normal(0)), (RuntimeError, ValueError), "amin: input .* no elements")],
    ),
    Row(
        "aminmax",
        samples=lambda r: [
            Sample(r.distinct(3, 4)),
            Sample(r.distinct(3, 4), dim=1),
            Sample(r.distinct(3, 4), dim=0, keepdim=True),
        ],
        ref=lambda x, dim=None, keepdim=False: (over(np.min)(x, dim, keepdim), over(np.max)(x, dim, keepdim)),
        dtypes=ALL,
        grad=True,
        method=True,
        bad=[Bad(wrong_dim(2, 3), IndexError, "dim 3")],
    ),
    *[
        Row(
            name,
            samples=lambda r: [
                *everywhere(r, several=False),
                Sample(np.array([[1.0, 2.0, 2.0], [3.0, 3.0, 3.0]]), dim=1).at_kink(),
                Sample(np.array([1.0, 5.0, 5.0, 1.0])).at_kink(),
                Sample(np.array([[1.0, np.nan, 2.0], [np.nan, 3.0, np.nan]]), dim=1).at_kink(),
            ],
            ref=take_first(f),
            dtypes=(*FLOATS, *INTS),
            grad=True,
            method=True,
            nonfinite=True,
            bad=[
                Bad(wrong_dim(2, 3), IndexError, f"{name}: dim 3"),
                Bad(lambda r: Sample(r.normal(0)), (RuntimeError, ValueError), f"{name}: input .* no elements"),
                Bad(lambda r: Sample(r.normal(3, 0), dim=1), IndexError, f"{name}: input .* no elements"),
            ],
            bench=long_lines,
        )
        for name, f in (("max", np.max), ("min", np.min))
    ],
    *[
        Row(
            name,
            samples=lambda r: [
                *everywhere(r, several=False),
                Sample(np.array([[1.0, 2.0, 2.0], [3.0, 3.0, 3.0]]), dim=1),
                Sample(np.array([[1.0, np.nan, 2.0], [np.nan, 3.0, np.nan]]), dim=1),
                Sample(r.normal(70, 3), keepdim=True),
            ],
            ref=argument(f),
            dtypes=(*FLOATS, *INTS),
            method=True,
            bad=[
                Bad(wrong_dim(2, 3), IndexError, f"{name}: dim 3"),
                Bad(lambda r: Sample(r.normal(0)), IndexError, f"{name}: input .* no elements"),
            ],
            bench=long_lines,
        )
        for name, f in (("argmax", np.argmax), ("argmin", np.argmin))
    ],
    *[
        Row(
            name,
            samples=lambda r: [
                *everywhere(r, several=True),
                Sample(np.zeros((3, 40)), dim=1),
                Sample(r.bools(3, 40), dim=0),
                Sample(np.ones((2, 200), bool)),
                Sample(r.bools(0, 3), dim=0),
            ],
            ref=over(f),
            dtypes=[d for d in ALL if d != "uint8"],  # uint8 answers in uint8, as in PyTorch
            method=True,
            bad=[Bad(wrong_dim(2, 3), IndexError, f"{name}: dim 3")],
        )
        for name, f in (("any", np.any), ("all", np.all))
    ],
    Row(
        "count_nonzero",
        samples=lambda r: [Sample(r.bools(3, 40), dim=0), *everywhere(r, keepdims=False)],
        ref=lambda x, dim=None: np.asarray(np.count_nonzero(x, axis=axis(dim)), np.int64),
        dtypes=ALL,
        method=True,
        bad=[Bad(wrong_dim(2, 3), IndexError, "count_nonzero: dim 3")],
    ),
    *[
        Row(
            name,
            samples=moment_samples,
            ref=moment(f, both),
            grad=True,
            method=not both,
            bad=[
                Bad(wrong_dim(2, 3), IndexError, f"{name}: dim 3"),
                Bad(lambda r: Sample(r.integers(0, 5, 3)), TypeError, f"{name}: input .*int64"),
            ],
            bench=None if both else long_lines,
        )
        for name, f, both in (
            ("var", np.var, False),
            ("std", np.std, False),
            ("var_mean", np.var, True),
            ("std_mean", np.std, True),
        )
    ],
    Row(
        "logsumexp",
        samples=lambda r: [
            Sample(r.normal(3, 5), dim=0),
            Sample(r.normal(3, 5), dim=-1, keepdim=True),
            Sample(r.normal(2, 70, 40), dim=1),
            Sample(r.normal(3, 300), dim=1),
            Sample(r.normal(2, 3, 4), dim=(0, 2)),
            Sample(r.normal(), dim=0),
            Sample(r.normal(3, 4) * 3000, dim=1).at_kink(),
            Sample(np.array([[-np.inf, -np.inf], [-np.inf, 0.0]]), dim=1).at_kink(),
        ],
        ref=lambda x, dim, keepdim=False: np.logaddexp.reduce(
            np.moveaxis(x, axis(dim), range(len(dim))).reshape(-1, *[n for i, n in enumerate(x.shape) if i not in dim])
            if isinstance(dim, tuple)
            else np.atleast_1d(x),
            axis=0 if isinstance(dim, tuple) else dim,
            keepdims=keepdim,
        ).reshape(() if x.ndim == 0 else None or np.sum(x, axis=axis(dim), keepdims=keepdim).shape),
        grad=True,
        method=True,
        tol={"float32": (2e-5, 2e-5)},
        bad=[Bad(wrong_dim(2, 3), IndexError, "logsumexp: dim 3")],
        bench=dims_only,
    ),
    Row(
        "norm",
        samples=norm_samples,
        ref=p_norm,
        grad=True,
        method=True,
        bad=[
            Bad(lambda r: Sample(r.normal(2, 3), "nuc"), ValueError, "norm: p='nuc'"),
            Bad(lambda r: Sample(r.normal(2, 3), 2, 5), IndexError, "norm: dim 5"),
            Bad(lambda r: Sample(r.integers(0, 4, 3)), TypeError, "norm: input .*int64"),
        ],
        bench=lambda r: [Sample(r.normal(1_000_000)), Sample(r.normal(1000, 1000), 2, 1)],
    ),
    Row(
        "linalg.vector_norm",
        samples=lambda r: [
            Sample(r.normal(3, 5)),
            Sample(r.normal(3, 5), 1, dim=0),
            Sample(r.normal(3, 5), np.inf, dim=1, keepdim=True),
            Sample(r.normal(2, 3, 4), 3, dim=(0, 1)),
        ],
        ref=vector_norm,
        grad=True,
        bad=[Bad(lambda r: Sample(r.normal(2), "fro"), ValueError, "vector_norm: ord")],
    ),
    Row(
        "linalg.matrix_norm",
        samples=lambda r: [
            Sample(r.normal(3, 4)),
            *[Sample(r.normal(2, 3, 4), p) for p in (1, -1, np.inf, -np.inf, "fro")],
            Sample(r.normal(3, 2, 4), 1, (0, -1), True),
        ],
        ref=lambda A, ord="fro", dim=(-2, -1), keepdim=False: np.linalg.norm(A, ord, dim, keepdim),
        grad=True,
        bad=[
            Bad(lambda r: Sample(r.normal(2, 2), "nuc"), ValueError, "matrix_norm: ord='nuc' needs"),
            Bad(lambda r: Sample(r.normal(2, 2), 2), ValueError, "matrix_norm: ord=2 needs"),
            Bad(lambda r: Sample(r.normal(2)), (RuntimeError, ValueError), "matrix_norm: A"),
        ],
    ),
    Row(
        "linalg.norm",
        samples=lambda r: [
            Sample(r.normal(2, 3, 4)),
            Sample(r.normal(3, 4), 1),
            Sample(r.normal(5), 3),
            Sample(r.normal(2, 3, 4), "fro", dim=(0, 2)),
            Sample(r.normal(2, 3), 2, dim=1),
        ],
        ref=lambda A, ord=None, dim=None: np.linalg.norm(A.ravel() if ord is None and dim is None else A, ord, dim),
        grad=True,
        bad=[Bad(lambda r: Sample(r.normal(2, 2, 2), 1), (RuntimeError, ValueError), "norm: ord=1")],
    ),
    Row(
        "dist",
        samples=lambda r: [
            Sample(r.normal(3, 4), r.normal(3, 4)),
            Sample(r.normal(3, 4), r.normal(4), 1),
            Sample(r.normal(3), r.normal(3), 3.5),
            Sample(r.normal(3), r.normal(3), float("inf")),
        ],
        ref=lambda x, y, p=2: p_norm(x - y, p),
        grad=True,
        method=True,
        bad=[Bad(lambda r: Sample(r.integers(0, 4, 3), r.integers(0, 4, 3)), TypeError, "dist: input .*int64")],
    ),
    Row(
        "renorm",
        samples=lambda r: [
            Sample(r.normal(3, 4), 2, 0, 1.0),
            Sample(r.normal(2, 3, 4), 1, 1, 2.5),
            Sample(r.normal(3, 4), 3, -1, 9.0),
        ],
        grad=True,
        method=True,
        bad=[
            Bad(lambda r: Sample(r.normal(3), 2, 0, 1.0), (RuntimeError, ValueError), "renorm: input"),
            Bad(lambda r: Sample(r.normal(3, 2), 2, 2, 1.0), IndexError, "renorm: dim 2"),
        ],
    ),
    Row(
        "trace",
        samples=lambda r: [Sample(r.normal(3, 4)), Sample(r.normal(4, 4)), Sample(r.normal(0, 2))],
        ref=lambda x: np.trace(x),
        dtypes=[d for d in ALL if d not in ("float16", "bfloat16", "bool")],
        grad=True,
        method=True,
        bad=[Bad(lambda r: Sample(r.normal(3)), (RuntimeError, ValueError), "trace: input")],
    ),
    Row(
        "diff",
        samples=lambda r: [
            Sample(r.normal(5)),
            Sample(r.normal(3, 4), 2, 0),
            Sample(r.normal(3, 4), dim=1, prepend=r.normal(3, 1), append=r.normal(3, 2)),
            Sample(r.normal(3), n=0),
            Sample(r.normal(2), n=4),
        ],
        dtypes=(*FLOATS, *INTS, "bool"),
        grad=True,
        method=True,
        wrt=[0, "prepend", "append"],
        bad=[Bad(lambda r: Sample(r.normal()), (RuntimeError, ValueError), "diff: input")],
    ),
    *[
        Row(
            name,
            samples=lambda r: [
                Sample(r.normal(5)),
                Sample(r.normal(3, 4), dim=0),
                Sample(r.normal(3, 4), dx=0.5),
                Sample(r.normal(3, 4), np.sort(r.normal(4))),
                Sample(r.normal(3, 4), np.sort(r.normal(3, 4), 0), dim=0),
            ],
            grad=True,
            bad=[Bad(lambda r: Sample(r.normal(3, 4), r.normal(3)), (RuntimeError, ValueError), f"{name}: x")],
        )
        for name in ("trapezoid", "cumulative_trapezoid")
    ],
]
