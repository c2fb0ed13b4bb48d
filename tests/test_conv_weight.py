"""The weight gradient of convolution on the CPU: every way it is computed, against numpy in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import glassgrad as gg
from glassgrad import _core as core

# batch, groups, channels in, channels out, size, kernel, stride, padding, dilation
CASES: dict[str, tuple[Any, ...]] = {
    "winograd": (2, 1, 32, 32, (8, 8), (3, 3), 1, (1, 1), 1),
    "winograd, odd image": (2, 1, 33, 25, (13, 9), (3, 3), 1, (1, 1), 1),
    "winograd, no padding": (3, 1, 24, 30, (11, 12), (3, 3), 1, (0, 0), 1),
    "winograd, wide padding": (2, 1, 48, 40, (9, 12), (3, 3), 1, (2, 1), 1),
    "winograd, several parts": (5, 1, 150, 260, (7, 8), (3, 3), 1, (1, 1), 1),
    "winograd, groups": (4, 2, 120, 56, (6, 16), (3, 3), 1, (1, 1), 1),
    "winograd, several sums": (8, 1, 64, 64, (40, 40), (3, 3), 1, (1, 1), 1),
    "channels, strided": (2, 1, 40, 24, (13, 12), (3, 3), 2, (1, 1), 1),
    "channels, dilated": (2, 1, 32, 40, (12, 11), (3, 3), 1, (2, 2), 2),
    "channels, few rows": (2, 1, 32, 3, (9, 10), (3, 3), 1, (1, 1), 1),
    "pixels": (4, 1, 3, 32, (16, 17), (3, 3), 1, (1, 1), 1),
    "pixels, depthwise": (2, 24, 24, 24, (12, 10), (3, 3), 1, (1, 1), 1),
    "one by one": (3, 1, 64, 40, (14, 14), (1, 1), 1, (0, 0), 1),
    "one by one, small images": (9, 1, 70, 131, (7, 7), (1, 1), 1, (0, 0), 1),
    "one by one, groups": (3, 2, 48, 64, (9, 9), (1, 1), 1, (0, 0), 1),
    "one by one, many sums": (16, 1, 64, 128, (33, 31), (1, 1), 1, (0, 0), 1),
    "one by one, padded": (2, 1, 32, 24, (9, 8), (1, 1), 1, (1, 1), 1),
    "one by one, strided": (2, 1, 64, 32, (15, 14), (1, 1), 2, (0, 0), 1),
}


def operands(case: tuple[Any, ...]) -> tuple[np.ndarray, np.ndarray]:
    batch, _, inside, outside, size, kernel, stride, padding, dilation = case
    out = [(n + 2 * p - dilation * (k - 1) - 1) // stride + 1 for n, k, p in zip(size, kernel, padding, strict=True)]
    r = np.random.default_rng(7)
    return r.standard_normal((batch, inside, *size)), r.standard_normal((batch, outside, *out))


def definition(case: tuple[Any, ...], x: np.ndarray, dy: np.ndarray) -> np.ndarray:
    batch, groups, inside, outside, _, kernel, stride, padding, dilation = case
    x = np.pad(x, [(0, 0), (0, 0), *[(p, p) for p in padding]])
    x = x.reshape(batch, groups, inside // groups, *x.shape[2:])
    g = dy.reshape(batch, groups, outside // groups, *dy.shape[2:])
    dw = np.zeros((groups, outside // groups, inside // groups, *kernel))
    for i in range(kernel[0]):
        for j in range(kernel[1]):
            rows = slice(i * dilation, i * dilation + (g.shape[3] - 1) * stride + 1, stride)
            columns = slice(j * dilation, j * dilation + (g.shape[4] - 1) * stride + 1, stride)
            dw[..., i, j] = np.einsum("ngkhw,ngchw->gkc", g, x[..., rows, columns], optimize=True)
    return dw.reshape(outside, inside // groups, *kernel)


def weight_grad(case: tuple[Any, ...], x: np.ndarray, dy: np.ndarray, dtype: Any) -> np.ndarray:
    _, groups, _, _, _, kernel, stride, padding, dilation = case
    dw = core.conv_weight_grad(
        gg.tensor(x, dtype=dtype), gg.tensor(dy, dtype=dtype), kernel, stride, padding, dilation, groups
    )
    return dw.to(gg.float64).numpy()


@pytest.mark.parametrize("dtype, tolerance", [("float64", 1e-14), ("float32", 4e-6), ("bfloat16", 2e-2)])
@pytest.mark.parametrize("name", CASES)
def test_against_the_definition(name: str, dtype: str, tolerance: float) -> None:
    """Errors are measured against what a sum of so many random products is likely to be."""
    case = CASES[name]
    x, dy = operands(case)
    scale = np.sqrt(dy.shape[0] * dy.shape[2] * dy.shape[3])
    error = weight_grad(case, x, dy, getattr(gg, dtype)) - definition(case, x, dy)
    assert abs(error).max() < tolerance * scale


@pytest.mark.parametrize("name", CASES)
def test_threads_bitwise(name: str) -> None:
    case = CASES[name]
    x, dy = operands(case)
    threads = gg.get_num_threads()
    try:
        found = []
        for n in (1, 2, 3):
            gg.set_num_threads(n)
            found.append(weight_grad(case, x, dy, gg.float32))
    finally:
        gg.set_num_threads(threads)
    assert np.array_equal(found[0], found[1]) and np.array_equal(found[0], found[2])


@pytest.mark.parametrize("name", CASES)
def test_an_infinity_stays_where_it_belongs(name: str) -> None:
    case = CASES[name]
    x, dy = operands(case)
    x[1, 1, 3, 2] = np.inf
    with np.errstate(invalid="ignore"):
        expected = definition(case, x, dy)
    found = weight_grad(case, x, dy, gg.float32)
    assert np.array_equal(np.isinf(found), np.isinf(expected)) and np.array_equal(np.isnan(found), np.isnan(expected))
