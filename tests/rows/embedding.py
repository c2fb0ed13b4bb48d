"""Rows of a table picked by index, alone and in bags."""

from __future__ import annotations

import numpy as np

from op_table import Bad, Random, Row, Sample

W = np.zeros((5, 3))


def bagged(
    index: np.ndarray,
    weight: np.ndarray,
    offsets: np.ndarray | None = None,
    mode: str = "mean",
    per_sample_weights: np.ndarray | None = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> np.ndarray:
    if index.ndim == 2:
        offsets = np.arange(index.shape[0]) * index.shape[1]
        index = index.reshape(-1)
        per_sample_weights = None if per_sample_weights is None else per_sample_weights.reshape(-1)
    elif include_last_offset:
        index, offsets = index[: offsets[-1]], offsets[:-1]
    y = np.zeros((len(offsets), weight.shape[1]))
    for b, (begin, end) in enumerate(zip(offsets, [*offsets[1:], len(index)])):
        at = [j for j in range(begin, end) if padding_idx is None or index[j] != padding_idx % weight.shape[0]]
        rows = weight[index[at]] if per_sample_weights is None else weight[index[at]] * per_sample_weights[at][:, None]
        if len(at):
            y[b] = {"sum": np.sum, "mean": np.mean, "max": np.max}[mode](rows, axis=0)
    return y


def bags(r: Random) -> list[Sample]:
    flat, offsets = r.integers(0, 7, 12), np.array([0, 3, 3, 8])
    return [
        Sample(r.integers(0, 7, 3, 4), r.normal(7, 5)),
        Sample(flat, r.normal(7, 5), offsets),
        Sample(flat, r.normal(7, 5), offsets, mode="sum"),
        Sample(flat, r.normal(7, 5), offsets, mode="max"),
        Sample(flat, r.normal(7, 5), offsets, mode="sum", per_sample_weights=r.normal(12)),
        Sample(r.integers(0, 7, 3, 4), r.normal(7, 5), mode="sum", per_sample_weights=r.normal(3, 4)),
        Sample(flat, r.normal(7, 5), np.array([0, 3, 12]), include_last_offset=True),
        Sample(flat, r.normal(7, 5), offsets, mode="mean", padding_idx=2),
        Sample(flat, r.normal(7, 5), offsets, mode="max", padding_idx=-1),
        Sample(flat, r.normal(7, 5), offsets, mode="sum", padding_idx=3, per_sample_weights=r.normal(12)),
    ]


ROWS = [
    Row(
        "embedding",
        torch="nn.functional.embedding",
        samples=lambda r: [
            Sample(r.integers(0, 7, 3, 4), r.normal(7, 5)),
            Sample(r.integers(0, 7, 9), r.normal(7, 17), 2).at_kink(),
            Sample(np.array(3), r.normal(7, 5), padding_idx=-4).at_kink(),
            Sample(r.integers(0, 7, 9), r.normal(7, 5), scale_grad_by_freq=False),
            Sample(r.integers(0, 7, 0), r.normal(7, 5)),
            Sample(r.integers(0, 7, 3).astype(np.int32), r.normal(7, 5)),
        ],
        ref=lambda i, w, *a, **k: w[i],
        grad=True,
        bad=[
            Bad(
                lambda: ((np.array([5]), W), {}),
                IndexError,
                r"embedding: index 5 is out of bounds for axis 0 of weight \(5, 3\)",
            ),
            Bad(lambda: ((np.array([-1]), W), {}), IndexError, "embedding: index -1"),
            Bad(lambda: ((np.array([0.0]), W), {}), TypeError, "embedding: input .* must be int64"),
            Bad(lambda: ((np.array([0]), np.zeros(3)), {}), ValueError, "embedding: weight .* two axes"),
            Bad(lambda: ((np.array([0]), W, 5), {}), IndexError, "embedding: padding_idx 5"),
            Bad(
                lambda: ((np.array([0]), W), {"sparse": True}),
                ValueError,
                "embedding: sparse gradients are not supported",
            ),
        ],
        bench=lambda r: [
            Sample(r.integers(0, 50_000, 32, 512), r.normal(50_000, 256)),
            Sample(r.integers(0, 1000, 32, 512), r.normal(1000, 64)),
        ],
    ),
    Row(
        "embedding_bag",
        torch="nn.functional.embedding_bag",
        samples=bags,
        ref=bagged,
        grad=True,
        tol={"float16": (5e-3, 5e-3)},
        bad=[
            Bad(lambda: ((np.array([5]), W, np.array([0])), {}), IndexError, "embedding_bag: index 5 is out of bounds"),
            Bad(lambda: ((np.array([0]), W), {}), ValueError, "embedding_bag: .* needs offsets"),
            Bad(lambda: ((np.array([0]), W, np.array([1])), {}), ValueError, r"embedding_bag: offsets\[0\] must be 0"),
            Bad(
                lambda: ((np.array([0, 1]), W, np.array([0, 2, 1])), {}),
                ValueError,
                "embedding_bag: offsets must not decrease",
            ),
            Bad(
                lambda: ((np.array([0, 1]), W, np.array([0, 3])), {"include_last_offset": True}),
                ValueError,
                "embedding_bag: offsets end at 3",
            ),
            Bad(lambda: ((np.array([0, 1]), W, np.array([0])), {"mode": "min"}), ValueError, "embedding_bag: mode"),
            Bad(
                lambda: ((np.array([0, 1]), W, np.array([0])), {"per_sample_weights": np.zeros(2)}),
                NotImplementedError,
                "embedding_bag: per_sample_weights",
            ),
        ],
        bench=lambda r: [Sample(r.integers(0, 50_000, 512, 32), r.normal(50_000, 128), mode="sum")],
    ),
]
