"""Convolutions, their transposes, unfold and fold."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np

import glassgrad as gg
from op_table import Bad, Random, Row, Sample

SUMS = {"float32": (1e-4, 1e-4), "float16": (4e-3, 4e-3), "bfloat16": (3e-2, 3e-2)}  # of some hundred products


def per_axis(value: Any, nd: int) -> list[int]:
    return [value] * nd if isinstance(value, int) else list(value) * (nd // len(value))


def conv(nd: int) -> Callable[..., np.ndarray]:
    def reference(
        x: np.ndarray,
        w: np.ndarray,
        b: np.ndarray | None = None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
    ) -> np.ndarray:
        if x.ndim == nd + 1:
            return reference(x[None], w, b, stride, padding, dilation, groups)[0]
        stride, dilation, kernel = per_axis(stride, nd), per_axis(dilation, nd), w.shape[2:]
        if padding == "same":
            total = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
            pads = [(t // 2, t - t // 2) for t in total]
        else:
            pads = [(p, p) for p in per_axis(0 if padding == "valid" else padding, nd)]
        x = np.pad(x, [(0, 0), (0, 0), *pads])
        size = [
            (n - d * (k - 1) - 1) // s + 1 for n, k, s, d in zip(x.shape[2:], kernel, stride, dilation, strict=True)
        ]
        xg = x.reshape(x.shape[0], groups, x.shape[1] // groups, *x.shape[2:])
        wg = w.reshape(groups, -1, *w.shape[1:])
        y = np.zeros((x.shape[0], groups, wg.shape[1], *size))
        for tap in product(*map(range, kernel)):
            at = tuple(
                slice(t * d, t * d + (n - 1) * s + 1, s) for t, d, n, s in zip(tap, dilation, size, stride, strict=True)
            )
            y += np.einsum("ngc...,gkc->ngk...", xg[(slice(None),) * 3 + at], wg[(slice(None),) * 3 + tap])
        y = y.reshape(x.shape[0], w.shape[0], *size)
        return y if b is None else y + b.reshape(-1, *[1] * nd)

    return reference


def conv_transpose(nd: int) -> Callable[..., np.ndarray]:
    def reference(
        x: np.ndarray,
        w: np.ndarray,
        b: np.ndarray | None = None,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: int = 1,
        dilation: Any = 1,
    ) -> np.ndarray:
        if x.ndim == nd + 1:
            return reference(x[None], w, b, stride, padding, output_padding, groups, dilation)[0]
        stride, dilation, kernel = per_axis(stride, nd), per_axis(dilation, nd), w.shape[2:]
        padding, extra = per_axis(padding, nd), per_axis(output_padding, nd)
        full = [
            (n - 1) * s + d * (k - 1) + 1 + e
            for n, s, d, k, e in zip(x.shape[2:], stride, dilation, kernel, extra, strict=True)
        ]
        xg = x.reshape(x.shape[0], groups, x.shape[1] // groups, *x.shape[2:])
        wg = w.reshape(groups, -1, *w.shape[1:])
        y = np.zeros((x.shape[0], groups, w.shape[1], *full))
        for tap in product(*map(range, kernel)):
            at = tuple(
                slice(t * d, t * d + (n - 1) * s + 1, s)
                for t, d, n, s in zip(tap, dilation, x.shape[2:], stride, strict=True)
            )
            y[(slice(None),) * 3 + at] += np.einsum("ngc...,gck->ngk...", xg, wg[(slice(None),) * 3 + tap])
        y = y.reshape(x.shape[0], -1, *full)
        y = y[(slice(None),) * 2 + tuple(slice(p, n - p) for p, n in zip(padding, full, strict=True))]
        return y if b is None else y + b.reshape(-1, *[1] * nd)

    return reference


def samples(nd: int) -> Callable[[Random], list[Sample]]:
    def make(r: Random) -> list[Sample]:
        size = {1: (11,), 2: (7, 6), 3: (4, 5, 3)}[nd]
        kernel = {1: (3,), 2: (3, 2), 3: (2, 3, 1)}[nd]
        stride = (2, 1, 3)[:nd]
        n = r.normal
        return [
            Sample(n(2, 3, *size), n(4, 3, *kernel), n(4)),
            Sample(n(3, *size), n(2, 3, *kernel)),
            Sample(n(2, 4, *size), n(6, 2, *kernel), n(6), stride=stride, padding=1, groups=2),
            Sample(n(1, 2, *size), n(3, 2, *kernel), None, 1, (2, 1, 0)[:nd], 2),
            Sample(n(2, 3, *size), n(3, 1, *kernel), padding="same", groups=3),
            Sample(n(2, 2, *size), n(9, 2, *kernel), padding="valid", stride=3),
            Sample(n(1, 2, *size), n(5, 2, *[1] * nd), n(5), stride=2),
            Sample(n(3, 4, *size), n(6, 2, *[1] * nd), n(6), groups=2),
            Sample(n(2, 3, *(6 * s for s in size)), n(2, 3, *[1] * nd), n(2)),
            Sample(n(0, 2, *size), n(3, 2, *kernel), n(3)),
        ]

    return make


def transpose_samples(nd: int) -> Callable[[Random], list[Sample]]:
    def make(r: Random) -> list[Sample]:
        size = {1: (5,), 2: (4, 3), 3: (2, 3, 2)}[nd]
        kernel = {1: (3,), 2: (3, 2), 3: (2, 3, 1)}[nd]
        n = r.normal
        return [
            Sample(n(2, 3, *size), n(3, 4, *kernel), n(4)),
            Sample(n(3, *size), n(3, 2, *kernel), stride=2),
            Sample(n(2, 4, *size), n(4, 3, *kernel), n(6), stride=(3, 2, 2)[:nd], output_padding=1, groups=2),
            Sample(n(1, 2, *size), n(2, 3, *[3] * nd), None, 1, 1, 0, 1, 2),
            Sample(n(1, 2, *size), n(2, 1, *[2] * nd), stride=1, dilation=3, output_padding=2),
        ]

    return make


def images(r: Random) -> list[Sample]:
    n = r.normal
    return [
        Sample(n(16, 64, 56, 56), n(64, 64, 3, 3), n(64), padding=1),
        Sample(n(32, 3, 32, 32), n(32, 3, 3, 3), n(32), padding=1),
        Sample(n(64, 32, 8, 8), n(64, 32, 3, 3), n(64), padding=1),
        Sample(n(8, 1, 28, 28), n(32, 1, 3, 3), n(32)),
        Sample(n(16, 64, 56, 56), n(64, 1, 3, 3), n(64), padding=1, groups=64),
        Sample(n(16, 64, 56, 56), n(128, 64, 1, 1), n(128)),
    ]


def bad(nd: int) -> list[Bad]:
    size, kernel = (8,) * nd, (3,) * nd
    x, w = np.ones((2, 4, *size)), np.ones((6, 4, *kernel))
    return [
        Bad(lambda: ((x, np.ones((6, 5, *kernel))), {}), gg.ShapeError, "4 input channels, weight takes 5"),
        Bad(lambda: ((x, w), {"groups": 4}), gg.ShapeError, "groups 4: 4 input channels, weight takes 16"),
        Bad(lambda: ((x, np.ones((3, 2, *kernel))), {"groups": 2}), gg.ShapeError, "3 output channels"),
        Bad(lambda: ((x, np.ones((6, 4, *[9] * nd))), {}), gg.ShapeError, "size 8 after padding, the kernel spans 9"),
        Bad(lambda: ((x, w), {"dilation": 4}), gg.ShapeError, "the kernel spans 9"),
        Bad(lambda: ((x, w), {"stride": 0}), ValueError, "stride .* at least 1"),
        Bad(lambda: ((x, w), {"padding": -1}), ValueError, "padding .* at least 0"),
        Bad(lambda: ((x, w), {"groups": 0}), ValueError, "groups 0"),
        Bad(lambda: ((x, w), {"stride": (1,) * (nd + 1)}), ValueError, "numbers"),
        Bad(lambda: ((x, w), {"padding": "some"}), ValueError, "'some'"),
        Bad(lambda: ((x, w), {"padding": "same", "stride": 2}), ValueError, "same"),
        Bad(lambda: ((x, w, np.ones(4)), {}), gg.ShapeError, r"bias \(6,\) would fit"),
        Bad(lambda: ((x[0, 0], w), {}), gg.ShapeError, "input needs the axes"),
        Bad(lambda: ((x, 3), {}), TypeError, "weight must be a Tensor"),
        Bad(lambda: ((x, w.astype(np.int64)), {}), TypeError, "dtypes differ"),
    ]


def transpose_bad(nd: int) -> list[Bad]:
    x, w = np.ones((2, 4, *[5] * nd)), np.ones((4, 3, *[3] * nd))
    return [
        Bad(lambda: ((x, np.ones((5, 4, *[3] * nd))), {}), gg.ShapeError, "4 input channels, weight takes 5"),
        Bad(lambda: ((x, w), {"output_padding": 1}), ValueError, "output_padding"),
        Bad(lambda: ((x, w), {"padding": 9}), gg.ShapeError, "the result would have size"),
        Bad(lambda: ((x, w, np.ones(4)), {}), gg.ShapeError, r"bias \(3,\) would fit"),
    ]


def unfolded(x: np.ndarray, kernel: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1) -> np.ndarray:
    if x.ndim == 3:
        return unfolded(x[None], kernel, dilation, padding, stride)[0]
    (kh, kw), (dh, dw), (ph, pw), (sh, sw) = (per_axis(v, 2) for v in (kernel, dilation, padding, stride))
    x = np.pad(x, [(0, 0), (0, 0), (ph, ph), (pw, pw)])
    oh, ow = (x.shape[2] - dh * (kh - 1) - 1) // sh + 1, (x.shape[3] - dw * (kw - 1) - 1) // sw + 1
    taps = [
        x[:, :, i * dh : i * dh + (oh - 1) * sh + 1 : sh, j * dw : j * dw + (ow - 1) * sw + 1 : sw]
        for i in range(kh)
        for j in range(kw)
    ]
    return np.stack(taps, 2).reshape(x.shape[0], x.shape[1] * kh * kw, oh * ow)


ROWS = [
    *(
        Row(
            f"conv{nd}d",
            samples=samples(nd),
            ref=conv(nd),
            grad=True,
            bad=bad(nd),
            bench=images if nd == 2 else None,
            tol=SUMS,
        )
        for nd in (1, 2, 3)
    ),
    *(
        Row(
            f"conv_transpose{nd}d",
            samples=transpose_samples(nd),
            ref=conv_transpose(nd),
            grad=True,
            bad=transpose_bad(nd),
            tol=SUMS,
        )
        for nd in (1, 2, 3)
    ),
    Row(
        "unfold",
        fn=gg.nn.functional.unfold,  # Tensor.unfold is another op
        torch=lambda *args, **kwargs: __import__("torch").nn.functional.unfold(*args, **kwargs),
        samples=lambda r: [
            Sample(r.normal(2, 3, 5, 6), 2),
            Sample(r.normal(3, 5, 6), (2, 3), padding=1, stride=(2, 1)),
            Sample(r.normal(1, 2, 7, 5), (3, 2), dilation=2, padding=(2, 1)),
            Sample(r.normal(0, 2, 4, 4), 2),
        ],
        ref=unfolded,
        grad=True,
        bad=[
            Bad(lambda: ((np.ones((2, 3)), 2), {}), gg.ShapeError, "axes"),
            Bad(lambda: ((np.ones((1, 3, 4, 4)), 5), {}), gg.ShapeError, "smaller than kernel_size"),
            Bad(lambda: ((np.ones((1, 3, 4, 4)), 2), {"stride": 0}), ValueError, "stride"),
        ],
    ),
    Row(
        "fold",
        samples=lambda r: [
            Sample(r.normal(2, 12, 20), (5, 6), 2),
            Sample(r.normal(12, 18), (5, 6), (2, 3), padding=1, stride=(2, 1)),
            Sample(r.normal(1, 12, 35), (7, 5), (3, 2), dilation=2, padding=(2, 1)),
        ],
        grad=True,
        bad=[
            Bad(lambda: ((np.ones((1, 12, 21)), (5, 6), 2), {}), gg.ShapeError, "21 blocks, these sizes make 20"),
            Bad(lambda: ((np.ones((1, 13, 20)), (5, 6), 2), {}), gg.ShapeError, "no multiple"),
            Bad(lambda: ((np.ones((1, 12, 20)), (5, 6), 7), {}), gg.ShapeError, "smaller than kernel_size"),
        ],
    ),
]
