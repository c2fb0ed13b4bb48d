"""Tensors from a rule instead of data."""

from __future__ import annotations

from typing import Any

import numpy as np

from op_table import ALL, Bad, Dtype, Row, Sample

ONE = ("float64",)  # these take no array: one dtype stands for all, and the samples name theirs


def named(dtype: Any, default: Any = np.float32) -> Any:
    return default if dtype is None else np.dtype(dtype)


def constant(name: str, value: int) -> list[Row]:
    """zeros or ones: by sizes, by a tuple, like a tensor, and from a tensor's method."""
    return [
        Row(
            name,
            lambda r: [Sample(2, 3), Sample((2, 0)), Sample(()), *[Sample((3,), dtype=Dtype(d)) for d in ALL]],
            lambda *size, dtype=None: np.full(
                size[0] if size and isinstance(size[0], tuple) else size, value, named(dtype)
            ),
            dtypes=ONE,
            bad=[
                Bad(lambda: ((2, -1), {}), ValueError, "negative"),
                Bad(lambda: ((2**40, 2**40), {}), ValueError, "64 bits"),
            ],
        ),
        Row(
            f"{name}_like",
            lambda r: [Sample(r.normal(2, 3)), Sample(r.normal(2), dtype=Dtype("int64"))],
            lambda x, dtype=None: np.full(x.shape, value, named(dtype, x.dtype)),
            dtypes=ALL,
        ),
        Row(
            f"new_{name}",
            lambda r: [Sample(r.normal(1), (2, 3)), Sample(r.normal(1), 2, 3)],
            lambda x, *size: np.full(size[0] if isinstance(size[0], tuple) else size, value, x.dtype),
            dtypes=ALL,
        ),
    ]


ROWS = [
    *constant("zeros", 0),
    *constant("ones", 1),
    Row(
        "full",
        lambda r: [
            Sample((2, 3), 1.5),
            Sample((2,), 7),
            Sample((2,), True),
            Sample((), 3, dtype=Dtype("float64")),
        ],
        lambda size, fill_value, dtype=None: np.full(size, fill_value, dtype),
        dtypes=ONE,
        bad=[Bad(lambda: ((-1, 2), {}), ValueError, "negative")],
    ),
    Row("full_like", lambda r: [Sample(r.normal(2, 3), 2)], np.full_like, dtypes=ALL),
    Row(
        "new_full", lambda r: [Sample(r.normal(1), (2, 3), 1)], lambda x, size, v: np.full(size, v, x.dtype), dtypes=ALL
    ),
    Row(
        "arange",
        lambda r: [
            Sample(5),
            Sample(2, 5),
            Sample(1, 10, 3),
            Sample(10, 1, -4),
            Sample(5.0),
            Sample(0, 1, 0.25),
            Sample(0),
            Sample(start=1, end=4),
            Sample(0.5, 4.5, dtype=Dtype("int64")),
            *[Sample(1, 6, 2, dtype=Dtype(d)) for d in ALL if d != "bool"],
            Sample(2**40, 2**40 + 3),
        ],
        dtypes=ONE,
        bad=[
            Bad(lambda: ((0, 1, 0), {}), ValueError, "must not be 0"),
            Bad(lambda: ((0, 1, -1), {}), ValueError, "leads away"),
            Bad(lambda: ((0, float("inf")), {}), ValueError, "finite"),
            Bad(lambda: ((0.0, 1e30), {}), ValueError, "too many"),
            Bad(lambda: ((), {}), TypeError, "end"),
        ],
    ),
    Row(
        "linspace",
        lambda r: [
            Sample(0, 1, 5),
            Sample(-2.5, 3.0, 7),
            Sample(3, -3, 4),
            Sample(1, 2, 1),
            Sample(1, 2, 0),
            *[Sample(0, 10, 6, dtype=Dtype(d)) for d in ALL if d != "bool"],
            Sample(0, 10, 7, dtype=Dtype("int64")),
        ],
        dtypes=ONE,
        tol={"float64": (3e-3, 2e-3)},
        bad=[Bad(lambda: ((0, 1, -1), {}), (ValueError, RuntimeError), "negative")],
    ),
    Row(
        "logspace",
        lambda r: [
            Sample(0, 2, 5),
            Sample(0, 3, 4, base=2),
            Sample(0, 3, 4, 2.0, dtype=Dtype("int64")),
            Sample(1, 1, 1),
        ],
        dtypes=ONE,
        tol={"float64": (1e-6, 1e-6)},
        bad=[Bad(lambda: ((0, 1, -1), {}), (ValueError, RuntimeError), "negative")],
    ),
    Row(
        "eye",
        lambda r: [Sample(3), Sample(2, 4), Sample(4, 2), Sample(0), *[Sample(2, dtype=Dtype(d)) for d in ALL]],
        lambda n, m=None, dtype=None: np.eye(n, m, dtype=named(dtype)),
        dtypes=ONE,
        bad=[Bad(lambda: ((-1,), {}), (ValueError, RuntimeError), "negative")],
    ),
    *[
        Row(
            f"{name}_indices",
            lambda r: [
                Sample(3, 3),
                Sample(2, 4, 1),
                Sample(4, 2, -1),
                Sample(3, 3, 9),
                Sample(3, 3, -9),
                Sample(0, 3),
            ],
            ref,
            dtypes=ONE,
            bad=[Bad(lambda: ((-1, 2), {}), (ValueError, RuntimeError), "negative")],
        )
        for name, ref in (
            ("tril", lambda row, col, offset=0: np.stack(np.tril_indices(row, offset, col))),
            ("triu", lambda row, col, offset=0: np.stack(np.triu_indices(row, offset, col))),
        )
    ],
    Row("scalar_tensor", lambda r: [Sample(2), Sample(2.5)], lambda s: np.asarray(s, np.float32), dtypes=ONE),
    Row(
        "new_tensor",
        lambda r: [Sample(r.normal(1), [[1.0, 2.0]])],
        lambda x, data: np.asarray(data, x.dtype),
        dtypes=("float64", "float32", "int64"),
    ),
]
