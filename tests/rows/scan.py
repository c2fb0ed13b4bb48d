"""Scans: running sums, products, extremes and log-sums."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from op_table import ALL, FLOATS, INTS, Bad, Dtype, Random, Row, Sample


def along(f: Callable[..., Any]) -> Callable[..., Any]:
    return lambda x, dim, dtype=None: (
        f(x, axis=dim).astype(np.int64 if x.dtype.kind in "iub" else x.dtype) if x.ndim else x
    )


def samples(r: Random, draw: Callable[..., np.ndarray]) -> list[Sample]:
    return [
        Sample(draw(5), dim=0),
        Sample(draw(3, 4), dim=0),
        Sample(draw(3, 4), 1),
        Sample(draw(2, 3, 7), dim=-2),
        Sample(draw(2, 40), dim=1),
        Sample(draw(9, 300), dim=0),
        Sample(draw(), dim=0),
        Sample(draw(2, 0), dim=1),
    ]


def running(largest: bool) -> Callable[..., Any]:
    """Values and indices of the extreme so far; of equal ones the last, and nan beats all."""

    def reference(x: np.ndarray, dim: int) -> Any:
        if x.ndim == 0 or x.size == 0:
            return x, np.zeros(x.shape, np.int64)
        rows = np.moveaxis(x, dim, 0)
        values, indices = rows.copy(), np.zeros(rows.shape, np.int64)
        for k in range(1, len(rows)):
            better = rows[k] >= values[k - 1] if largest else rows[k] <= values[k - 1]
            takes = np.isnan(rows[k]) | (~np.isnan(values[k - 1]) & better) if x.dtype.kind == "f" else better
            values[k] = np.where(takes, rows[k], values[k - 1])
            indices[k] = np.where(takes, k, indices[k - 1])
        return np.moveaxis(values, 0, dim), np.moveaxis(indices, 0, dim)

    return reference


OUT_OF_RANGE = lambda r: Sample(r.normal(2, 3), dim=2)  # noqa: E731

ROWS = [
    Row(
        "cumsum",
        samples=lambda r: [*samples(r, r.normal), Sample(r.normal(4), 0, dtype=Dtype("float64"))],
        ref=along(np.cumsum),
        dtypes=ALL,
        grad=True,
        method=True,
        inplace="cumsum_",
        tol={"float16": (3e-3, 2e-2), "bfloat16": (2e-2, 1e-1)},
        bad=[Bad(OUT_OF_RANGE, IndexError, "cumsum: dim 2")],
        bench=lambda r: [
            Sample(r.normal(1_000_000), 0),
            Sample(r.normal(1000, 1000), 1),
            Sample(r.normal(1000, 1000), 0),
        ],
    ),
    Row(
        "cumprod",
        samples=lambda r: [
            *samples(r, lambda *shape: r.uniform(0.8, 1.2, *shape)),
            Sample(np.array([[2.0, 0.0, 3.0, 4.0], [0.0, 1.0, 0.0, 2.0], [1.0, 2.0, 3.0, 0.0]]), dim=1),
        ],
        ref=along(np.cumprod),
        dtypes=(*FLOATS, *INTS),
        grad=True,
        method=True,
        inplace="cumprod_",
        bad=[Bad(OUT_OF_RANGE, IndexError, "cumprod: dim 2")],
    ),
    *[
        Row(
            name,
            samples=lambda r: [
                *samples(r, r.distinct),
                Sample(np.array([1.0, 3.0, 3.0, 2.0, 1.0]), 0).at_kink(),
                Sample(np.array([1.0, np.nan, 3.0, np.nan]), 0).at_kink(),
            ],
            ref=running(name == "cummax"),
            dtypes=ALL,
            grad=True,
            method=True,
            bad=[Bad(OUT_OF_RANGE, IndexError, f"{name}: dim 2")],
        )
        for name in ("cummax", "cummin")
    ],
    Row(
        "logcumsumexp",
        samples=lambda r: [
            *samples(r, r.normal),
            Sample(r.normal(2, 5) * 1000, 1).at_kink(),
            Sample(np.array([-np.inf, -np.inf, 0.5, 0.0, -np.inf, 2.0]), 0).at_kink(),
        ],
        ref=lambda x, dim: np.logaddexp.accumulate(x, axis=dim) if x.ndim else x,
        grad=True,
        method=True,
        bad=[Bad(OUT_OF_RANGE, IndexError, "logcumsumexp: dim 2")],
    ),
]
