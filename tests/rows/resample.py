"""interpolate, grid_sample, affine_grid, pixel and channel shuffles."""

from __future__ import annotations

import numpy as np

import glassgrad as gg
from op_table import Bad, Random, Row, Sample


def resized(r: Random) -> list[Sample]:
    n = r.normal
    return [
        Sample(n(2, 3, 5), size=8),
        Sample(n(2, 3, 5), scale_factor=0.6, mode="nearest"),
        Sample(n(1, 2, 5, 4), scale_factor=2, mode="nearest-exact"),
        Sample(n(1, 2, 3, 4, 2), size=(2, 6, 5)),
        Sample(n(2, 2, 7), size=3, mode="linear"),
        Sample(n(2, 2, 4), size=9, mode="linear", align_corners=True),
        Sample(n(2, 2, 5, 4), size=(8, 3), mode="bilinear"),
        Sample(n(1, 2, 5, 4), scale_factor=(1.5, 2.2), mode="bilinear", align_corners=True),
        Sample(n(1, 2, 5, 4), scale_factor=1.3, mode="bilinear", recompute_scale_factor=True),
        Sample(n(1, 2, 9, 7), size=(4, 3), mode="bilinear", antialias=True),
        Sample(n(1, 2, 5, 4), size=(7, 9), mode="bicubic"),
        Sample(n(1, 2, 5, 4), size=(3, 8), mode="bicubic", align_corners=True),
        Sample(n(1, 1, 9, 7), size=(4, 3), mode="bicubic", antialias=True),
        Sample(n(1, 2, 3, 4, 2), size=(5, 3, 4), mode="trilinear"),
        Sample(n(1, 2, 5, 4), size=(3, 3), mode="area"),
        Sample(n(0, 2, 5, 4), size=(3, 3), mode="bilinear"),
    ]


def grid_samples(r: Random) -> list[Sample]:
    n, u = r.normal, r.uniform
    samples = [
        Sample(n(2, 3, 4, 5), u(-1.3, 1.3, 2, 3, 2, 2), mode, padding, corners)
        for mode in ("bilinear", "nearest", "bicubic")
        for padding in ("zeros", "border", "reflection")
        for corners in (False, True)
    ]
    samples += [
        Sample(n(1, 2, 3, 4, 2), u(-1.3, 1.3, 1, 2, 2, 3, 3), "bilinear", padding, False)
        for padding in ("zeros", "border", "reflection")
    ]
    samples.append(Sample(n(1, 20, 9, 9), u(-1, 1, 1, 9, 9, 2), align_corners=False))
    samples.append(Sample(n(2, 9, 4, 5), u(-1.3, 1.3, 2, 9, 8, 2), "bicubic", "zeros", False))
    samples.append(Sample(n(1, 17, 3, 2, 4), u(-1.3, 1.3, 1, 2, 2, 3, 3), align_corners=True))
    samples.append(Sample(n(0, 2, 4, 5), u(-1, 1, 0, 3, 2, 2), align_corners=False))
    return samples


ONE, IMAGE = np.ones((2, 4, 6)), np.ones((2, 4, 6, 6))

ROWS = [
    Row(
        "interpolate",
        samples=resized,
        dtypes=("float64", "float32"),
        grad=True,
        bench=lambda r: [
            Sample(r.normal(8, 32, 56, 56), scale_factor=2, mode="bilinear"),
            Sample(r.normal(8, 32, 56, 56), scale_factor=2, mode="nearest"),
        ],
        bad=[
            Bad(lambda: ((IMAGE,), {}), ValueError, "exactly one of size and scale_factor"),
            Bad(lambda: ((IMAGE, 3, 2.0), {}), ValueError, "exactly one of size and scale_factor"),
            Bad(lambda: ((IMAGE, (3,)), {}), ValueError, "1 numbers"),
            Bad(lambda: ((IMAGE, 0), {}), ValueError, "at least 1"),
            Bad(lambda: ((IMAGE, 3), {"mode": "cubic"}), ValueError, "'cubic' is none of"),
            Bad(lambda: ((ONE, 3), {"mode": "bilinear"}), gg.ShapeError, "needs 4"),
            Bad(lambda: ((IMAGE, 3), {"align_corners": True}), ValueError, "align_corners"),
            Bad(lambda: ((IMAGE, 3), {"antialias": True}), ValueError, "antialias"),
            Bad(lambda: ((np.ones((2, 3, 4), np.int64), 3), {}), TypeError, "floating"),
        ],
    ),
    *(
        Row(
            name,
            samples=lambda r: [Sample(r.normal(2, 3, 4, 5), scale_factor=2), Sample(r.normal(1, 2, 4, 5), 7)],
            dtypes=("float64", "float32"),
            grad=True,
        )
        for name in ("upsample", "upsample_nearest", "upsample_bilinear")
    ),
    Row(
        "grid_sample",
        samples=grid_samples,
        dtypes=("float64", "float32"),
        tol={"float32": (2e-4, 1e-4)},  # a coordinate's rounding times the image's slope
        grad=True,
        bench=lambda r: [Sample(r.normal(8, 32, 56, 56), r.uniform(-1, 1, 8, 56, 56, 2), align_corners=False)],
        bad=[
            Bad(lambda: ((IMAGE, np.zeros((2, 3, 3, 3))), {}), gg.ShapeError, "the last of size 2"),
            Bad(lambda: ((IMAGE, np.zeros((1, 3, 3, 2))), {}), gg.ShapeError, "the first of size 2"),
            Bad(lambda: ((ONE, np.zeros((2, 3, 1))), {}), gg.ShapeError, "axes"),
            Bad(lambda: ((IMAGE, np.zeros((2, 3, 3, 2)), "linear"), {}), ValueError, "'linear' is none of"),
            Bad(lambda: ((IMAGE, np.zeros((2, 3, 3, 2)), "nearest", "wrap"), {}), ValueError, "'wrap' is none of"),
            Bad(lambda: ((np.ones((1, 1, 2, 2, 2)), np.zeros((1, 1, 1, 1, 3)), "bicubic"), {}), ValueError, "bicubic"),
            Bad(lambda: ((IMAGE, 3), {}), TypeError, "grid must be a Tensor"),
        ],
    ),
    Row(
        "affine_grid",
        samples=lambda r: [
            Sample(r.normal(2, 2, 3), (2, 3, 4, 5), align_corners=False),
            Sample(r.normal(2, 2, 3), (2, 3, 1, 5), align_corners=True),
            Sample(r.normal(1, 3, 4), (1, 3, 2, 4, 3), align_corners=False),
        ],
        dtypes=("float64", "float32"),
        grad=True,
        bad=[
            Bad(lambda: ((np.ones((2, 2, 3)), (1, 3, 4, 5)), {}), gg.ShapeError, "would fit"),
            Bad(lambda: ((np.ones((2, 2, 3)), (2, 3, 4)), {}), ValueError, "4 or 5"),
        ],
    ),
    Row(
        "pixel_shuffle",
        samples=lambda r: [
            Sample(r.normal(2, 8, 3, 4), 2),
            Sample(r.normal(9, 2, 1), 3),
        ],
        ref=lambda x, f: np.moveaxis(
            x.reshape(*x.shape[:-3], x.shape[-3] // f**2, f, f, *x.shape[-2:]), (-4, -3), (-3, -1)
        ).reshape(*x.shape[:-3], x.shape[-3] // f**2, x.shape[-2] * f, x.shape[-1] * f),
        grad=True,
        bad=[
            Bad(lambda: ((IMAGE, 3), {}), gg.ShapeError, "no multiple of 9"),
            Bad(lambda: ((IMAGE, 0), {}), ValueError, "at least 1"),
            Bad(lambda: ((np.ones((2, 2)), 2), {}), gg.ShapeError, "axes"),
        ],
    ),
    Row(
        "pixel_unshuffle",
        samples=lambda r: [Sample(r.normal(2, 2, 6, 4), 2), Sample(r.normal(1, 3, 6), 3)],
        grad=True,
        bad=[
            Bad(lambda: ((IMAGE, 4), {}), gg.ShapeError, "multiples of downscale_factor 4"),
            Bad(lambda: ((IMAGE, 0), {}), ValueError, "at least 1"),
        ],
    ),
    Row(
        "channel_shuffle",
        samples=lambda r: [Sample(r.normal(2, 6, 3), 3), Sample(r.normal(2, 4, 3, 2), 2)],
        ref=lambda x, g: x.reshape(x.shape[0], g, -1, *x.shape[2:]).swapaxes(1, 2).reshape(x.shape),
        grad=True,
        bad=[
            Bad(lambda: ((IMAGE, 3), {}), gg.ShapeError, "no multiple of groups 3"),
            Bad(lambda: ((IMAGE, 0), {}), ValueError, "at least 1"),
        ],
    ),
]
