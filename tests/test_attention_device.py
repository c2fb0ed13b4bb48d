"""Attention on a device against the CPU: every kernel, at sizes that cross tiles, slices and the ends of both."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest

import glassgrad as gg
from glassgrad import _core as core
from glassgrad.testing import simt
from test_op_table_device import DEVICE

TOLERANCE = {"float64": 1e-12, "float32": 2e-5, "float16": 4e-3, "bfloat16": 3e-2}


class Case(NamedTuple):
    heads: int = 1
    kv_heads: int = 1
    queries: int = 5
    keys: int = 7
    e: int = 4
    f: int = 4
    causal: bool = False
    mask: str = ""  # bool or float
    dropout: float = 0.0
    rows_first: bool = False  # (B, L, H, E) in memory
    odd: bool = False  # rows that no vector access fits

    def __repr__(self) -> str:
        given = {k: v for k, v in self._asdict().items() if v != self._field_defaults[k]}
        return ",".join(f"{k}={v}" for k, v in given.items()) or "small"


PORTABLE = [
    Case(),
    Case(queries=64, keys=64, e=64, f=64),
    Case(queries=65, keys=130, e=20, f=36, causal=True),
    Case(queries=130, keys=67, e=68, f=8, causal=True),
    Case(heads=2, queries=9, keys=70, e=7, f=65, mask="bool"),
    Case(heads=2, queries=33, keys=66, e=130, f=5, mask="float"),
    Case(queries=17, keys=65, e=5, f=150, dropout=0.3),
    Case(queries=17, keys=65, e=150, f=150, mask="bool", causal=True, dropout=0.3),
    Case(heads=4, kv_heads=2, queries=65, keys=65, e=32, f=32, causal=True, mask="float", dropout=0.5),
    Case(heads=3, queries=20, keys=20, e=16, f=16, rows_first=True),
    Case(heads=2, queries=20, keys=20, e=16, f=16, odd=True),
    Case(queries=3, keys=5, e=0, f=4),
    Case(queries=3, keys=5, e=4, f=0),
    Case(queries=3, keys=0),
    Case(queries=0, keys=5),
]

TENSOR_CORES = [
    Case(queries=64, keys=64, e=64, f=64),
    Case(queries=130, keys=150, e=64, f=64, causal=True),
    Case(queries=150, keys=70, e=128, f=128, causal=True),
    Case(queries=70, keys=100, e=256, f=256, causal=True),
    Case(heads=2, queries=40, keys=70, e=24, f=40, mask="bool"),
    Case(heads=2, queries=40, keys=70, e=80, f=96, mask="float"),
    Case(heads=4, kv_heads=2, queries=70, keys=40, e=64, f=64, causal=True, rows_first=True),
    Case(heads=4, kv_heads=1, queries=33, keys=70, e=160, f=8, mask="bool", causal=True, dropout=0.3),
    Case(heads=2, queries=70, keys=90, e=64, f=64, dropout=0.5),
    Case(heads=2, queries=70, keys=90, e=128, f=128, mask="float", dropout=0.2),
    Case(queries=5, keys=0, e=8, f=8),
    Case(queries=0, keys=5, e=8, f=8),
]

HOPPER = [
    Case(queries=64, keys=1, e=8, f=8),
    Case(heads=3, queries=130, keys=300, e=64, f=64),
    Case(heads=4, kv_heads=2, queries=260, keys=260, e=64, f=64, causal=True, rows_first=True),
    Case(heads=3, queries=150, keys=140, e=128, f=128),
    Case(heads=2, queries=200, keys=70, e=80, f=128, causal=True),
    Case(queries=70, keys=400, e=128, f=40, causal=True),
]


def inputs(case: Case, dtype: str) -> tuple[list[gg.Tensor], gg.Tensor | None]:
    r = np.random.default_rng(7)

    def make(heads: int, rows: int, columns: int) -> gg.Tensor:
        x = gg.tensor(r.standard_normal((2, heads, rows, columns)), dtype=getattr(gg, dtype))
        if case.rows_first:
            x = x.transpose(1, 2).contiguous().transpose(1, 2)
        return x

    q, dout = make(case.heads, case.queries, case.e), make(case.heads, case.queries, case.f)
    k, v = make(case.kv_heads, case.keys, case.e), make(case.kv_heads, case.keys, case.f)
    mask = None
    if case.mask == "bool":
        allowed = r.random((case.heads, case.queries, case.keys)) < 0.7
        allowed[:, min(2, case.queries - 1)] = False
        mask = gg.tensor(allowed)
    elif case.mask == "float":
        mask = gg.tensor(r.standard_normal((2, 1, case.queries, case.keys)), dtype=getattr(gg, dtype))
    return [q, k, v, dout], mask


def run(tensors: list[gg.Tensor], mask: gg.Tensor | None, case: Case) -> list[np.ndarray]:
    q, k, v, dout = tensors
    gg.manual_seed(3)
    scale = 1.3 / max(case.e, 1) ** 0.5
    out, stats, seed, offset = core.attention_forward(q, k, v, mask, case.causal, scale, case.dropout)
    wants = case.mask == "float"
    found = core.attention_backward(
        dout, q, k, v, mask, out, stats, case.causal, scale, case.dropout, seed, offset, wants
    )
    results = [out, *(x for x in found if x is not None)]
    if case.dropout:
        results.append(core.attention_dropout(q, k, case.dropout, seed, offset))
    return [log_sum_exp(as_float64(stats)), *(as_float64(x) for x in results)]


def log_sum_exp(stats: np.ndarray) -> np.ndarray:
    """Of m and 1 / l, for m may be any number near the largest score; 0 for a row without keys."""
    m, share = stats[..., 0], stats[..., 1]
    return m - np.log(np.where(share == 0, 1, share))


def as_float64(x: gg.Tensor) -> np.ndarray:
    return x.cpu().to(gg.float64).numpy()


def to_device(x: gg.Tensor, odd: bool) -> gg.Tensor:
    if not odd:
        return x.to(DEVICE)
    *lead, columns = x.shape
    storage = gg.zeros(*lead, columns + 3, dtype=x.dtype)
    storage[..., 1 : columns + 1] = x
    return storage.to(DEVICE)[..., 1 : columns + 1]


def compare(case: Case, dtype: str) -> None:
    tensors, mask = inputs(case, dtype)
    expected = run(tensors, mask, case)
    found = run([to_device(x, case.odd) for x in tensors], None if mask is None else mask.to(DEVICE), case)
    names = (
        ["log-sum-exp", "out", "dq", "dk", "dv", "dscores", "keep"]
        if case.mask == "float"
        else ["log-sum-exp", "out", "dq", "dk", "dv", "keep"]
    )
    for name, x, y in zip(names, found, expected, strict=False):
        size = max(1.0, float(np.abs(y).max(initial=0)))
        worst = float(np.abs(x - y).max(initial=0))
        assert x.shape == y.shape and worst <= TOLERANCE[dtype] * size, f"{name}: {worst} of {size}"
        assert np.isfinite(x).all(), name


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
@pytest.mark.parametrize("case", PORTABLE, ids=repr)
def test_any_size(case: Case, dtype: str) -> None:
    compare(case, dtype)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("case", TENSOR_CORES, ids=repr)
def test_tensor_cores(case: Case, dtype: str) -> None:
    with simt.architecture(80):
        compare(case, dtype)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("case", HOPPER, ids=repr)
def test_hopper(case: Case, dtype: str) -> None:
    compare(case, dtype)
