"""Pooling's ways through a plane: rows longer and shorter than a vector, ties, NaN and infinities, against a loop."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

import glassgrad as gg

F = gg.nn.functional

SHAPES = [(2, 3, 9, 37), (1, 19, 8, 8), (2, 1, 7, 70), (1, 2, 33, 5)]
WINDOWS: list[tuple[Any, Any, Any, bool]] = [  # kernel, stride, padding, ceil_mode
    ((2, 2), (2, 2), (0, 0), False),
    ((2, 2), (2, 2), (0, 0), True),
    ((3, 2), (3, 2), (0, 0), False),
    ((2, 2), (1, 1), (1, 1), False),
    ((3, 3), (2, 2), (1, 1), False),
    ((3, 3), (1, 1), (1, 1), False),
    ((3, 5), (1, 1), (0, 2), False),
    ((3, 4), (2, 1), (1, 2), True),
    ((3, 3), (3, 3), (1, 0), True),
]


def ranges(size: int, kernel: int, stride: int, padding: int, ceil_mode: bool) -> list[tuple[int, int]]:
    """Begin and end of every window of one axis, outside of the image too."""
    room = size + 2 * padding - kernel
    count = (-(-room // stride) if ceil_mode else room // stride) + 1
    if ceil_mode and (count - 1) * stride >= size + padding:
        count -= 1
    return [(o * stride - padding, o * stride - padding + kernel) for o in range(count)]


def inside(window: tuple[int, int], size: int) -> slice:
    return slice(max(window[0], 0), min(window[1], size))


def first_of_largest(part: np.ndarray) -> tuple[float, int, int]:
    """The last NaN, else the first of the largest."""
    flat = part.ravel()
    nan = np.flatnonzero(np.isnan(flat))
    at = int(nan[-1]) if len(nan) else int(np.argmax(flat))
    return flat[at], at // part.shape[1], at % part.shape[1]


def maxima(x: np.ndarray, rows: list[slice], columns: list[slice]) -> tuple[np.ndarray, np.ndarray]:
    shape = (*x.shape[:2], len(rows), len(columns))
    y, index = np.zeros(shape, x.dtype), np.zeros(shape, np.int64)
    for n, c, i, j in np.ndindex(*shape):
        y[n, c, i, j], h, w = first_of_largest(x[n, c, rows[i], columns[j]])
        index[n, c, i, j] = (rows[i].start + h) * x.shape[3] + columns[j].start + w
    return y, index


def scattered(x: np.ndarray, index: np.ndarray, dy: np.ndarray) -> np.ndarray:
    dx = np.zeros((x.shape[0] * x.shape[1], x.shape[2] * x.shape[3]))
    flat = index.reshape(len(dx), -1)
    for p in range(len(dx)):
        np.add.at(dx[p], flat[p], dy.reshape(len(dx), -1)[p])
    return dx.reshape(x.shape)


def image(shape: tuple[int, ...], special: bool, dtype: Any) -> np.ndarray:
    r = np.random.default_rng(3)
    x = np.round(r.standard_normal(shape) * 3)  # with ties
    if special:
        x[r.random(shape) < 0.3] = -np.inf
        x[r.random(shape) < 0.1] = np.nan
    return x.astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("special", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_max_pool(shape: tuple[int, ...], special: bool, dtype: Any) -> None:
    x = image(shape, special, dtype)
    for (kernel, stride, padding, ceil_mode), with_indices in product(WINDOWS, (False, True)):
        rows, columns = (
            [inside(w, shape[2 + a]) for w in ranges(shape[2 + a], kernel[a], stride[a], padding[a], ceil_mode)]
            for a in range(2)
        )
        expected, places = maxima(x, rows, columns)
        t = gg.tensor(x).requires_grad_()
        if with_indices:
            y, index = F.max_pool2d_with_indices(t, kernel, stride, padding, 1, ceil_mode)
            assert np.array_equal(index.numpy(), places)
        else:
            y = F.max_pool2d(t, kernel, stride, padding, 1, ceil_mode)
        assert np.array_equal(y.detach().numpy(), expected, equal_nan=True)
        dy = np.round(np.random.default_rng(4).standard_normal(expected.shape) * 8)
        y.backward(gg.tensor(dy.astype(dtype)))
        assert np.array_equal(t.grad.numpy(), scattered(x, places, dy))


@pytest.mark.parametrize("count_include_pad", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_avg_pool(shape: tuple[int, ...], count_include_pad: bool) -> None:
    x = image(shape, False, np.float64)
    for (kernel, stride, padding, ceil_mode), divisor in product(WINDOWS, (None, 3, 8)):
        spans = [ranges(shape[2 + a], kernel[a], stride[a], padding[a], ceil_mode) for a in range(2)]
        y = np.zeros((*shape[:2], len(spans[0]), len(spans[1])))
        dy, dx = np.random.default_rng(4).standard_normal(y.shape), np.zeros_like(x)
        for i, j in np.ndindex(*y.shape[2:]):
            window = inside(spans[0][i], shape[2]), inside(spans[1][j], shape[3])
            if count_include_pad:
                count = np.prod(
                    [
                        min(s[k][1], n + p) - s[k][0]
                        for s, k, n, p in zip(spans, (i, j), shape[2:], padding, strict=True)
                    ]
                )
            else:
                count = np.prod([w.stop - w.start for w in window])
            y[:, :, i, j] = x[:, :, window[0], window[1]].sum((2, 3)) / (divisor or count)
            dx[:, :, window[0], window[1]] += dy[:, :, i, j, None, None] / (divisor or count)
        t = gg.tensor(x).requires_grad_()
        z = F.avg_pool2d(t, kernel, stride, padding, ceil_mode, count_include_pad, divisor)
        z.backward(gg.tensor(dy))
        assert np.allclose(z.detach().numpy(), y, 1e-13, 1e-13)
        assert np.allclose(t.grad.numpy(), dx, 1e-13, 1e-13)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("special", [False, True])
@pytest.mark.parametrize("size", [(1, 1), (4, 4), (3, 2), (1, 5)])
def test_adaptive_max_pool(size: tuple[int, int], special: bool, dtype: Any) -> None:
    for shape in ((3, 7, 8, 12), (1, 33, 7, 7), (2, 2, 3, 5), (1, 1, 4, 3)):
        x = image(shape, special, dtype)
        rows, columns = (
            [slice(o * n // m, -(-(o + 1) * n // m)) for o in range(m)] for n, m in zip(shape[2:], size, strict=True)
        )
        expected, places = maxima(x, rows, columns)
        y, index = F.adaptive_max_pool2d_with_indices(gg.tensor(x), size)
        assert np.array_equal(y.numpy(), expected, equal_nan=True)
        assert np.array_equal(index.numpy(), places)
