"""Convolutions on a device against the CPU, at sizes that reach tiles, phases and parts as well as direct sums."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest

import glassgrad as gg
from glassgrad import _core as core
from test_op_table_device import DEVICE

# Of the largest entry: sums of some hundred products, each rounded once at the end.
TOLERANCE = {"float64": 1e-13, "float32": 4e-6, "float16": 2e-3, "bfloat16": 1e-2}


class Case(NamedTuple):
    batch: int
    channels: int
    rows: int
    size: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: int | tuple[int, ...] = 1
    padding: int | tuple[int, ...] = 0
    dilation: int = 1
    groups: int = 1
    bias: bool = True

    def __repr__(self) -> str:
        given = {k: v for k, v in self._asdict().items() if v != self._field_defaults.get(k)}
        return ",".join(f"{k}={v}" for k, v in given.items())


DIRECT = [
    Case(2, 3, 4, (7, 6), (3, 2)),
    Case(2, 4, 6, (7, 6), (3, 2), (2, 1), 1, groups=2),
    Case(1, 6, 6, (9, 8), (3, 3), padding=1, groups=6),
    Case(1, 4, 8, (9, 8), (3, 3), 2, 2, 2, groups=4, bias=False),
    Case(2, 6, 6, (40, 41), (5, 3), padding=2, groups=6),
    Case(1, 2, 3, (4, 5, 3), (2, 3, 1), (2, 1, 3), 1),
    Case(1, 1, 1, (5,), (3,), 1000, 3000),
]
PIXELS = [  # kernels of one pixel
    Case(1, 4, 8, (9, 8), (1, 1)),
    Case(2, 12, 70, (8, 8), (1, 1), groups=2),
    Case(2, 40, 4, (64,), (1,)),
]
TILES = [
    Case(2, 20, 70, (13, 14), (3, 3), padding=1),
    Case(2, 20, 70, (13, 14), (3, 3), 2, 1, bias=False),
    Case(3, 64, 130, (8, 8), (3, 3), padding=1),
    Case(2, 32, 48, (13, 14), (3, 3), 2, 2, 2, groups=2),
    Case(3, 40, 33, (150,), (5,), 3, 2),
    Case(1, 30, 40, (5, 6, 7), (3, 2, 3), (2, 1, 3), 1),
    Case(1, 64, 64, (24, 24), (1, 1), 2),
    Case(1, 64, 64, (16, 16), (4, 4), 4),
    Case(1, 64, 64, (10, 12), (3, 3), padding=3, dilation=3),
    Case(8, 16, 60, (16, 16), (2, 2)),
]


HOPPER = [
    Case(2, 32, 40, (13, 14), (3, 3), padding=1),
    Case(3, 64, 136, (14, 14), (3, 3), 2, 1, bias=False),
    Case(2, 64, 48, (14, 14), (1, 1)),
    Case(1, 64, 64, (16, 16), (3, 3), padding=2, dilation=2),
    Case(2, 32, 64, (200,), (4,)),
]


def as_float64(x: gg.Tensor) -> np.ndarray:
    return x.cpu().to(gg.float64).numpy()


def check(name: str, found: gg.Tensor, expected: gg.Tensor, tolerance: float) -> None:
    a, b = as_float64(found), as_float64(expected)
    worst, size = np.abs(a - b).max(), max(1e-30, np.abs(b).max())
    assert a.shape == b.shape and worst <= tolerance * size, f"{name}: {worst} of {size}"


def compare(case: Case, dtype: str) -> None:
    r = np.random.default_rng(8)
    axes = len(case.size)

    def make(*shape: int) -> gg.Tensor:
        numbers = r.integers(-99, 100, shape) if dtype == "int64" else r.standard_normal(shape)
        return gg.tensor(numbers, dtype=getattr(gg, dtype))

    def per_axis(value: int | tuple[int, ...]) -> list[int]:
        return [value] * axes if isinstance(value, int) else list(value)

    x, w = make(case.batch, case.channels, *case.size), make(case.rows, case.channels // case.groups, *case.kernel)
    b, bx = (make(case.rows), make(case.channels)) if case.bias else (None, None)
    how = per_axis(case.stride), per_axis(case.padding), per_axis(case.dilation), case.groups
    y = core.conv_forward(x, w, b, *how)
    dy = make(*y.shape)
    dx = core.conv_data_grad(dy, w, bx, list(case.size), *how)
    xs, ws, dys = x.to(DEVICE), w.to(DEVICE), dy.to(DEVICE)
    bs, bxs = (b.to(DEVICE), bx.to(DEVICE)) if case.bias else (None, None)
    tolerance = TOLERANCE.get(dtype, 0)
    check("y", core.conv_forward(xs, ws, bs, *how), y, tolerance)
    check("dx", core.conv_data_grad(dys, ws, bxs, list(case.size), *how), dx, tolerance)
    if dtype != "int64":
        dw = core.conv_weight_grad(x, dy, list(case.kernel), *how)
        check("dw", core.conv_weight_grad(xs, dys, list(case.kernel), *how), dw, tolerance)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64", "int64"])
@pytest.mark.parametrize("case", DIRECT + PIXELS, ids=repr)
def test_direct(case: Case, dtype: str) -> None:
    compare(case, dtype)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("case", TILES, ids=repr)
def test_tiles(case: Case, dtype: str, set_architecture: Callable[[int], None]) -> None:
    set_architecture(80)
    compare(case, dtype)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("case", HOPPER, ids=repr)
def test_hopper(case: Case, dtype: str, set_architecture: Callable[[int], None]) -> None:
    set_architecture(90)
    compare(case, dtype)


def test_float16_tiles(set_architecture: Callable[[int], None]) -> None:
    set_architecture(80)
    compare(TILES[0], "float16")


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_halves_without_tensor_cores(dtype: str, set_architecture: Callable[[int], None]) -> None:
    set_architecture(75)
    compare(TILES[0], dtype)
