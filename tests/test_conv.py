"""Convolutions by Winograd and on the matrix unit: sizes for every remainder, non-finite values, bits and errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

import glassgrad as gg
from glassgrad import _core as core

# Of the largest entry: float sums of some hundred products, transformed; halves are rounded once at the end.
TOLERANCE = {"float64": 1e-13, "float32": 4e-6, "float16": 1e-3, "bfloat16": 8e-3}


class Case(NamedTuple):
    batch: int
    channels: int
    rows: int
    size: tuple[int, int]
    padding: tuple[int, int] = (1, 1)
    groups: int = 1


FEW_TILES = [
    Case(2, 16, 16, (13, 14)),
    Case(3, 17, 70, (9, 10), (2, 0)),
    Case(16, 40, 33, (4, 3)),
    Case(2, 40, 38, (12, 16), groups=2),
    Case(4, 200, 64, (8, 8)),
]
MANY_TILES = [
    Case(5, 16, 35, (23, 21)),
    Case(2, 33, 130, (38, 30), (0, 2)),
    Case(21, 32, 16, (9, 10)),
    Case(1, 32, 34, (70, 45), groups=2),
]


class Conv:
    """A convolution with a bias, its data gradient with one, and both as sums over taps in float64."""

    def __init__(self, case: Case, dtype: str) -> None:
        self.case, self.how = case, ([1, 1], list(case.padding), [1, 1], case.groups)
        r = np.random.default_rng(3)
        height, width = (n + 2 * p - 2 for n, p in zip(case.size, case.padding, strict=True))

        def make(*shape: int) -> gg.Tensor:
            return gg.tensor(r.standard_normal(shape), dtype=getattr(gg, dtype))

        self.x, self.bias = make(case.batch, case.channels, *case.size), make(case.rows)
        self.w = make(case.rows, case.channels // case.groups, 3, 3)
        self.dy, self.dx_bias = make(case.batch, case.rows, height, width), make(case.channels)

    def forward(self) -> gg.Tensor:
        return core.conv_forward(self.x, self.w, self.bias, *self.how)

    def data_grad(self) -> gg.Tensor:
        return core.conv_data_grad(self.dy, self.w, self.dx_bias, list(self.case.size), *self.how)

    def expected(self) -> tuple[np.ndarray, np.ndarray]:
        g, pads = self.case.groups, [(0, 0)] * 3 + [(p, p) for p in self.case.padding]
        height, width = self.dy.shape[2:]

        def grouped(t: gg.Tensor, axis: int) -> np.ndarray:
            a = as_float64(t)
            return a.reshape(*a.shape[:axis], g, a.shape[axis] // g, *a.shape[axis + 1 :])

        x, dy, w = np.pad(grouped(self.x, 1), pads), grouped(self.dy, 1), grouped(self.w, 0)
        y, dx = np.zeros(dy.shape), np.zeros(x.shape)
        for i in range(3):
            for j in range(3):
                at = (..., slice(i, i + height), slice(j, j + width))
                y += np.einsum("ngchw,gkc->ngkhw", x[at], w[..., i, j])
                dx[at] += np.einsum("ngkhw,gkc->ngchw", dy, w[..., i, j])
        (ph, pw), (h, w_) = self.case.padding, self.case.size
        dx = dx[..., ph : ph + h, pw : pw + w_].reshape(self.x.shape)
        return y.reshape(self.dy.shape) + per_channel(self.bias), dx + per_channel(self.dx_bias)


def as_float64(t: gg.Tensor) -> np.ndarray:
    return t.to(gg.float64).numpy()


def per_channel(bias: gg.Tensor) -> np.ndarray:
    return as_float64(bias)[:, None, None]


def check(found: gg.Tensor, expected: np.ndarray, tolerance: float) -> None:
    worst, size = np.abs(as_float64(found) - expected).max(), np.abs(expected).max()
    assert found.shape == expected.shape and worst <= tolerance * size, f"{worst} of {size}"


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("case", FEW_TILES + MANY_TILES, ids=str)
def test_winograd(case: Case, dtype: str) -> None:
    conv = Conv(case, dtype)
    y, dx = conv.expected()
    check(conv.forward(), y, TOLERANCE[dtype])
    check(conv.data_grad(), dx, TOLERANCE[dtype])


@pytest.mark.parametrize("case", [FEW_TILES[0], MANY_TILES[0]], ids=str)
@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan, 3e38])
@pytest.mark.parametrize("where", ["x", "w"])
def test_non_finite_values_stay_in_their_windows(case: Case, value: float, where: str) -> None:
    conv = Conv(case, "float32")
    setattr(conv, where, gg.tensor(*changed(getattr(conv, where), value)))
    with np.errstate(invalid="ignore", over="ignore"):
        expected = conv.expected()[0].astype(np.float32)
    found = conv.forward().numpy()
    same = np.isfinite(expected)
    assert same.any() and not (same.all() and value != 3e38)
    np.testing.assert_array_equal(found[~same], expected[~same])
    np.testing.assert_allclose(found[same], expected[same], 1e-4, 1e-4)


def changed(t: gg.Tensor, value: float) -> tuple[Any, ...]:
    a = t.numpy().copy()
    a[0, 3, 1, 2] = value
    return (a,)


@pytest.mark.parametrize("case", [FEW_TILES[3], MANY_TILES[3]], ids=str)
def test_bits_do_not_depend_on_threads(case: Case) -> None:
    conv, before = Conv(case, "float32"), gg.get_num_threads()
    try:
        results = []
        for threads in (1, 4):
            gg.set_num_threads(threads)
            results.append((conv.forward().numpy(), conv.data_grad().numpy()))
    finally:
        gg.set_num_threads(before)
    for one, four in zip(*results, strict=True):
        np.testing.assert_array_equal(one, four)


def test_error_is_near_that_of_plain_sums() -> None:
    """At 3/4 and 3/2 the transforms lose little: root mean square within 1e-6 of the result's over 64 channels."""
    conv = Conv(Case(4, 64, 64, (28, 28)), "float32")
    y = conv.expected()[0]
    error = as_float64(conv.forward()) - y
    assert np.sqrt((error**2).mean()) <= 1e-6 * np.sqrt((y**2).mean())


class Window(NamedTuple):
    """A convolution of any kernel and stride, large enough for the matrix unit (tiles_cpu.h)."""

    batch: int
    channels: int
    rows: int
    size: tuple[int, ...]
    kernel: int = 3
    stride: int = 2
    padding: int = 1
    dilation: int = 1
    groups: int = 1

    def operands(self, dtype: Any) -> tuple[gg.Tensor, gg.Tensor, gg.Tensor]:
        r = np.random.default_rng(5)
        axes, reach = len(self.size), self.dilation * (self.kernel - 1) + 1
        out = [(n + 2 * self.padding - reach) // self.stride + 1 for n in self.size]
        x = r.standard_normal((self.batch, self.channels, *self.size))
        w = r.standard_normal((self.rows, self.channels // self.groups, *[self.kernel] * axes))
        dy = r.standard_normal((self.batch, self.rows, *out))
        return gg.tensor(x, dtype=dtype), gg.tensor(w, dtype=dtype), gg.tensor(dy, dtype=dtype)

    def run(self, x: gg.Tensor, w: gg.Tensor, dy: gg.Tensor) -> tuple[gg.Tensor, gg.Tensor]:
        axes = len(self.size)
        how = ([self.stride] * axes, [self.padding] * axes, [self.dilation] * axes, self.groups)
        bias = gg.tensor(np.linspace(-1, 1, self.rows), dtype=x.dtype)
        return core.conv_forward(x, w, bias, *how), core.conv_data_grad(dy, w, None, list(self.size), *how)


WINDOWS = [
    Window(3, 64, 64, (29, 30)),
    Window(5, 50, 70, (27, 31)),
    Window(2, 130, 34, (38, 41), kernel=5, stride=1, padding=2),
    Window(3, 64, 40, (32, 33), kernel=4),
    Window(2, 128, 192, (40, 36), groups=2),
    Window(2, 40, 64, (33, 34), stride=1, padding=2, dilation=2),
    Window(64, 64, 64, (7, 8)),
    Window(4, 64, 96, (600,), kernel=7, stride=3),
    Window(2, 32, 64, (9, 20, 21)),
]


@pytest.mark.parametrize("case", WINDOWS, ids=str)
def test_windows_under_every_isa(case: Window, isas: list[str], set_isa: Callable[[str], None]) -> None:
    expected = case.run(*case.operands(gg.float64))
    for name in isas:
        set_isa(name)
        for found, right in zip(case.run(*case.operands(gg.float32)), expected, strict=True):
            check(found, right.numpy(), TOLERANCE["float32"])


@pytest.mark.parametrize("case", [WINDOWS[1], WINDOWS[2], WINDOWS[4]], ids=str)
@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("where", [0, 1, 2])
def test_windows_around_what_is_not_finite(case: Window, value: float, where: int) -> None:
    operands = list(case.operands(gg.float32))
    operands[where] = gg.tensor(*changed(operands[where], value))
    expected = case.run(*[t.to(gg.float64) for t in operands])
    for found, right in zip(case.run(*operands), expected, strict=True):
        np.testing.assert_allclose(found.numpy(), right.numpy(), 1e-4, 1e-3)


@pytest.mark.parametrize("case", WINDOWS, ids=str)
def test_bits_of_windows_do_not_depend_on_threads(case: Window) -> None:
    operands, before = case.operands(gg.float32), gg.get_num_threads()
    try:
        results = []
        for threads in (1, 3):
            gg.set_num_threads(threads)
            results.append(case.run(*operands))
    finally:
        gg.set_num_threads(before)
    for one, three in zip(*results, strict=True):
        np.testing.assert_array_equal(one.numpy(), three.numpy())
