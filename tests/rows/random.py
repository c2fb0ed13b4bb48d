"""Random ops where chance has nothing to say, and what they refuse; tests/test_random.py tests the numbers
themselves."""

from __future__ import annotations

import numpy as np

import glassgrad as gg
from op_table import Bad, Dtype, Random, Row, Sample


def certain(r: Random) -> list[Sample]:
    """Samples of dropout-like ops whose result does not depend on chance."""
    return [
        Sample(r.normal(2, 3, 4), p=0.5, training=False),
        Sample(r.normal(2, 3, 4), p=0.0, training=True),
        Sample(r.normal(2, 3, 4), p=1.0, training=True),
    ]


def dropout_ref(x: np.ndarray, p: float = 0.5, training: bool = True) -> np.ndarray:
    return x * 0 if training and p == 1 else x


def bad_p(name: str, *shape: int) -> list[Bad]:
    return [
        Bad(lambda r: Sample(r.normal(*shape), p=1.5), ValueError, f"{name}: .*p must be in"),
        Bad(lambda r: Sample(r.normal(*shape), p=-0.1), ValueError, f"{name}: .*p must be in"),
    ]


ROWS = [
    *[
        Row(
            f"nn.functional.{name}",
            samples=certain,
            ref=dropout_ref,
            grad=True,
            bad=[
                *bad_p(name, 2, 3, 4),
                *([Bad(lambda r: Sample(r.normal(3)), (RuntimeError, ValueError), name)] if axes else []),
            ],
        )
        for name, axes in (("dropout", False), ("dropout1d", True), ("dropout2d", True), ("alpha_dropout", False))
    ],
    Row(
        "uniform_",  # in the place of a value that was needed: no gradient reaches it
        fn=lambda x: (x * 1).uniform_(),
        torch=None,
        samples=lambda r: [Sample(r.normal(2, 3))],
        grad=True,
    ),
    Row(
        "nn.functional.dropout3d",
        samples=lambda r: [s.map(lambda a: a[None]) for s in certain(r)],
        ref=dropout_ref,
        grad=True,
        bad=bad_p("dropout3d", 2, 3, 4, 5),
    ),
    Row(
        "nn.functional.feature_alpha_dropout",
        samples=certain,
        ref=dropout_ref,
        grad=True,
        bad=bad_p("feature_alpha_dropout", 2, 3, 4),
    ),
    Row(
        "feature_dropout",
        samples=lambda r: [
            Sample(r.normal(2, 3, 4), 0.5, False),
            Sample(r.normal(2, 3, 4), 0.0, True),
            Sample(r.normal(2, 3, 4), 1.0, True),
        ],
        ref=dropout_ref,
        grad=True,
        bad=[Bad(lambda r: Sample(r.normal(3), 0.5, True), (RuntimeError, ValueError), "feature_dropout: input")],
    ),
    Row(
        "dropout under a seed",
        fn=lambda x: gg.nn.functional.dropout(x, 0.3),
        samples=lambda r: [Sample(r.normal(5, 60)), Sample(r.normal(129))],
        torch=None,
        grad=True,
        bench=lambda r: [Sample(r.normal(1_000_000))],
    ),
    Row(
        "bernoulli",
        samples=lambda r: [Sample(np.array([0.0, 1.0, 1.0, 0.0])), Sample(r.normal(3), 1.0), Sample(r.normal(3), 0.0)],
        ref=lambda x, p=None: x if p is None else np.full(x.shape, p),
        method=True,
        bad=[
            Bad(lambda: (np.array([0.5, 1.5]),), ValueError, "bernoulli: p"),
            Bad(lambda r: Sample(r.integers(0, 2, 3)), TypeError, "bernoulli: p"),
        ],
    ),
    Row(
        "poisson",
        samples=lambda r: [Sample(np.zeros((2, 3)))],
        ref=lambda rate: rate,
        bad=[Bad(lambda r: Sample(r.integers(0, 2, 3)), TypeError, "poisson: input")],
    ),
    Row(
        "multinomial",
        samples=lambda r: [
            Sample(np.array([0.0, 3.0, 0.0]), 4, True),
            Sample(np.array([[0.0, 0.5], [2.0, 0.0]]), 1),
        ],
        ref=lambda w, n, replacement=False: np.repeat(np.argmax(w, -1, keepdims=True), n, -1),
        method=True,
        bad=[
            Bad(lambda r: Sample(np.zeros(3), 1), RuntimeError, "multinomial: input"),
            Bad(lambda r: Sample(np.array([1.0, 0.0]), 2), RuntimeError, "multinomial: input"),
            Bad(lambda r: Sample(np.array([1.0, -1.0]), 1), RuntimeError, "multinomial: input"),
            Bad(lambda r: Sample(r.positive(2, 2, 2), 1), (RuntimeError, ValueError), "multinomial: input"),
            Bad(lambda r: Sample(r.positive(2), 0), ValueError, "multinomial: num_samples"),
        ],
    ),
    Row(
        "normal",
        samples=lambda r: [Sample(r.normal(3), 0.0), Sample(2.0, 0.0, (2, 3))],
        ref=lambda mean, std, size=(): np.broadcast_to(mean, size) if np.ndim(mean) == 0 else mean,
        bad=[
            Bad(lambda r: Sample(0.0, -1.0, (2,)), ValueError, "normal"),
            Bad(lambda r: Sample(r.normal(2), -r.positive(2)), ValueError, "normal: std"),
        ],
    ),
    Row(
        "randint",
        samples=lambda r: [Sample(5, 6, (2, 3)), Sample(1, (4,)), Sample(7, 8, (2,), dtype=Dtype("float32"))],
        ref=lambda *args, dtype=None: np.full(args[-1], args[0] if len(args) == 3 else 0, dtype or np.int64),
        dtypes=("float32",),
        bad=[
            Bad(lambda: ((3, 3, (2,)), {}), ValueError, "randint: low 3 must be below high 3"),
            Bad(lambda: ((0, 1000, (2,)), {"dtype": gg.int8}), ValueError, "randint: .*does not fit"),
        ],
    ),
    Row(
        "randperm",
        samples=lambda r: [Sample(1), Sample(0)],
        ref=lambda n: np.arange(n),
        dtypes=("float32",),
        bad=[Bad(lambda: ((-1,), {}), ValueError, "randperm: n")],
    ),
]
