"""Maximum, average, adaptive and Lp pooling."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np

import glassgrad as gg
from op_table import Bad, Random, Row, Sample

SIZES = {1: (11,), 2: (7, 6), 3: (4, 5, 3)}


def per_axis(value: Any, nd: int) -> list[Any]:
    return [value] * nd if value is None or isinstance(value, int) else list(value) * (nd // len(value))


def windows(
    size: tuple[int, ...], kernel: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool
) -> list[list[list[int]]]:
    """For each axis and output the coordinates of the window, outside ones too."""
    nd = len(size)
    kernel, padding, dilation = per_axis(kernel, nd), per_axis(padding, nd), per_axis(dilation, nd)
    stride = kernel if stride is None else per_axis(stride, nd)
    out = []
    for n, k, s, p, d in zip(size, kernel, stride, padding, dilation, strict=True):
        room = n + 2 * p - d * (k - 1) - 1
        m = (-(-room // s) if ceil_mode else room // s) + 1
        if ceil_mode and (m - 1) * s >= n + p:
            m -= 1
        out.append([[o * s - p + r * d for r in range(k)] for o in range(m)])
    return out


def adaptive_windows(size: tuple[int, ...], output_size: Any) -> list[list[list[int]]]:
    sizes = [n if m is None else m for n, m in zip(size, per_axis(output_size, len(size)), strict=True)]
    return [[list(range(o * n // m, -(-(o + 1) * n // m))) for o in range(m)] for n, m in zip(size, sizes, strict=True)]


def pooled(x: np.ndarray, grid: list[list[list[int]]], f: Callable[[np.ndarray, list[list[int]]], Any]) -> np.ndarray:
    """f(elements inside the image, coordinates) of every window."""
    nd = len(grid)
    size = x.shape[-nd:]
    y = np.zeros((*x.shape[:-nd], *map(len, grid)))
    for o in product(*(range(len(g)) for g in grid)):
        window = [g[i] for g, i in zip(grid, o, strict=True)]
        inside = [[c for c in axis if 0 <= c < n] for axis, n in zip(window, size, strict=True)]
        part = x[(..., *np.ix_(*inside))].reshape(*x.shape[:-nd], math.prod(map(len, inside)))
        y[(..., *o)] = f(part, window)
    return y


def max_pool(nd: int) -> Callable[..., np.ndarray]:
    def reference(
        x: np.ndarray, kernel: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False
    ) -> np.ndarray:
        grid = windows(x.shape[-nd:], kernel, stride, padding, dilation, ceil_mode)
        return pooled(x, grid, lambda part, _: part.max(-1))

    return reference


def avg_pool(nd: int) -> Callable[..., np.ndarray]:
    def reference(
        x: np.ndarray,
        kernel: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> np.ndarray:
        size, pads = x.shape[-nd:], per_axis(padding, nd)

        def mean(part: np.ndarray, window: list[list[int]]) -> Any:
            counted = [sum(1 for c in axis if c < n + p) for axis, n, p in zip(window, size, pads, strict=True)]
            count = np.prod(counted) if count_include_pad else part.shape[-1]
            return part.sum(-1) / (divisor_override or count)

        return pooled(x, windows(size, kernel, stride, padding, 1, ceil_mode), mean)

    return reference


def samples(nd: int) -> Callable[[Random], list[Sample]]:
    def make(r: Random) -> list[Sample]:
        size = SIZES[nd]
        return [
            Sample(r.distinct(2, 3, *size), 2),
            Sample(r.distinct(3, *size), (3, 2, 2)[:nd], 1),
            Sample(r.distinct(2, 2, *size), 3, 2, 1),
            Sample(r.distinct(1, 2, *size), 2, 1, 0, 2),
            Sample(r.distinct(2, 2, *size), 3, 2, 1, 1, True),
            Sample(r.distinct(0, 2, *size), 2),
        ]

    return make


def avg_samples(nd: int) -> Callable[[Random], list[Sample]]:
    def make(r: Random) -> list[Sample]:
        size, n = SIZES[nd], r.normal
        more = [Sample(n(2, 2, *size), 2, 1, 1, divisor_override=3)] if nd > 1 else []
        return [
            Sample(n(2, 3, *size), 2),
            Sample(n(3, *size), (3, 2, 2)[:nd], 1),
            Sample(n(2, 2, *size), 3, 2, 1),
            Sample(n(2, 2, *size), 3, 2, 1, True),
            Sample(n(2, 2, *size), 3, 2, 1, True, False),
            Sample(n(0, 2, *size), 2),
            *more,
        ]

    return make


def bad(nd: int) -> list[Bad]:
    x = np.ones((2, 3, *[6] * nd))
    return [
        Bad(lambda: ((x, 7), {}), gg.ShapeError, "size 6 after padding, the window spans 7"),
        Bad(lambda: ((x, 2), {"stride": 0}), ValueError, "stride .* at least 1"),
        Bad(lambda: ((x, 0), {}), ValueError, "kernel_size .* at least 1"),
        Bad(lambda: ((x, 2), {"padding": 2}), ValueError, "more than half"),
        Bad(lambda: ((x, (2,) * (nd + 1)), {}), ValueError, "numbers"),
        Bad(lambda: ((x[0, 0], 2), {}), gg.ShapeError, "axes"),
        Bad(lambda: ((x[:, :0], 2), {}), gg.ShapeError, "empty"),
        Bad(lambda: ((3.0, 2), {}), TypeError, "input must be a Tensor"),
    ]


def adaptive_samples(nd: int) -> Callable[[Random], list[Sample]]:
    def make(r: Random) -> list[Sample]:
        size = SIZES[nd]
        return [
            Sample(r.distinct(2, 3, *size), 1),
            Sample(r.distinct(3, *size), (3, 2, 2)[:nd]),
            Sample(r.distinct(1, 2, *size), (13, None, 2)[:nd]),
            Sample(r.distinct(0, 2, *size), 2),
        ]

    return make


def unpool_samples(nd: int) -> Callable[[Random], list[Sample]]:
    def make(r: Random) -> list[Sample]:
        def sample(lead: tuple[int, ...], **more: Any) -> Sample:
            places = np.stack([r.permutation(4**nd)[: 2**nd] for _ in range(int(np.prod(lead)))])
            return Sample(r.normal(*lead, *[2] * nd), places.reshape(*lead, *[2] * nd), 2, **more)

        return [sample((2, 3)), sample((3,), stride=2), sample((2, 1), output_size=[5] * nd)]

    return make


def adaptive_bad(nd: int) -> list[Bad]:
    x = np.ones((2, 3, *[6] * nd))
    return [
        Bad(lambda: ((x, (2,) * (nd + 1)), {}), ValueError, "numbers"),
        Bad(lambda: ((x, -1), {}), ValueError, "at least 0"),
        Bad(lambda: ((np.ones((2,) * nd), 1), {}), gg.ShapeError, "axes"),
    ]


def unpool_bad(nd: int) -> list[Bad]:
    x, places = np.ones((1, 1, *[2] * nd)), np.zeros((1, 1, *[2] * nd), np.int64)
    return [
        Bad(lambda: ((x, places + 4**nd, 2), {}), IndexError, "outside of the output"),
        Bad(lambda: ((x, places - 1, 2), {}), IndexError, "outside of the output"),
        Bad(lambda: ((x, places[:, :, :1], 2), {}), gg.ShapeError, "shapes differ"),
        Bad(lambda: ((x, places, 2), {"output_size": [9] * nd}), ValueError, "output_size"),
        Bad(lambda: ((x, places.astype(np.int32), 2), {}), TypeError, "int64"),
    ]


ROWS = [
    *(
        Row(
            f"max_pool{nd}d",
            samples=samples(nd),
            ref=max_pool(nd),
            grad=True,
            bad=bad(nd),
            bench=(
                lambda r: [
                    Sample(r.normal(64, 32, 28, 28), 2),
                    Sample(r.normal(16, 64, 56, 56), 3, 2, 1),
                    Sample(r.normal(64, 64, 8, 8), 2),
                ]
            )
            if nd == 2
            else None,
        )
        for nd in (1, 2, 3)
    ),
    *(
        Row(
            f"max_pool{nd}d_with_indices",
            samples=samples(nd),
            grad=True,
        )
        for nd in (1, 2, 3)
    ),
    *(
        Row(
            f"max_unpool{nd}d",
            samples=unpool_samples(nd),
            grad=True,
            bad=unpool_bad(nd),
        )
        for nd in (1, 2, 3)
    ),
    *(
        Row(
            f"avg_pool{nd}d",
            samples=avg_samples(nd),
            ref=avg_pool(nd),
            grad=True,
            torch=f"avg_pool{nd}d" if nd < 3 else None,  # PyTorch has no avg_pool3d of 16-bit floats
            bad=bad(nd),
            bench=(lambda r: [Sample(r.normal(64, 32, 28, 28), 2), Sample(r.normal(16, 64, 56, 56), 3, 1, 1)])
            if nd == 2
            else None,
        )
        for nd in (1, 2, 3)
    ),
    *(
        Row(
            f"adaptive_{kind}_pool{nd}d",
            samples=adaptive_samples(nd),
            ref=lambda x, size, nd=nd, f=f: pooled(x, adaptive_windows(x.shape[-nd:], size), lambda part, _: f(part)),
            torch=lambda *args, name=f"adaptive_{kind}_pool{nd}d": getattr(__import__("torch").nn.functional, name)(
                *args
            ),
            fn=getattr(gg.nn.functional, f"adaptive_{kind}_pool{nd}d"),
            grad=True,
            bad=adaptive_bad(nd),
            bench=(lambda r: [Sample(r.normal(64, 512, 7, 7), 1)]) if nd == 2 else None,
        )
        for nd in (1, 2, 3)
        for kind, f in (("avg", lambda part: part.mean(-1)), ("max", lambda part: part.max(-1)))
    ),
    *(
        Row(
            f"adaptive_max_pool{nd}d_with_indices",
            fn=getattr(gg.nn.functional, f"adaptive_max_pool{nd}d_with_indices"),
            torch=lambda *args, name=f"adaptive_max_pool{nd}d_with_indices": getattr(
                __import__("torch").nn.functional, name
            )(*args),
            samples=adaptive_samples(nd),
            grad=True,
        )
        for nd in (1, 2, 3)
    ),
    *(
        Row(
            f"lp_pool{nd}d",
            samples=lambda r, nd=nd: [
                Sample(r.positive(2, 3, *SIZES[nd]), 2, 2),
                Sample(r.positive(3, *SIZES[nd]), 3, 2, 1),
                Sample(r.positive(2, 2, *SIZES[nd]), 1.5, 3, 2, True),
            ],
            grad=True,
            dtypes=("float64", "float32"),
            bad=[Bad(lambda: ((3.0, 2, 2), {}), TypeError, "input must be a Tensor")],
        )
        for nd in (1, 2, 3)
    ),
]
