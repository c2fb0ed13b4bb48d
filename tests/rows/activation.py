"""Activation functions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from op_table import ALL, FLOATS, INTS, Bad, Row, Sample

erf = np.vectorize(math.erf, otypes=[np.float64])

SINGLE = {"float64": (1e-7, 1e-7)}  # torch holds a constant in float32


def activation(name: str, ref: Any, *arguments: dict[str, Any], **row: Any) -> Row:
    """Samples away from corners, one for each set of keyword arguments."""
    row.setdefault("grad", True)
    row.setdefault("nonfinite", True)
    row.setdefault("dtypes", FLOATS)

    def samples(r: Any) -> list[Sample]:
        sets = arguments or ({},)
        made = [Sample(r.normal(67) * 3, **kwargs) for kwargs in sets]
        return [
            *made,
            Sample(r.normal(3, 5), **sets[0]),
            Sample(r.normal(), **sets[0]),
            Sample(r.normal(0, 2), **sets[0]),
        ]

    return Row(
        name, samples=samples, ref=ref, bench=lambda r: [Sample(r.normal(100_000), **(arguments or ({},))[0])], **row
    )


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-np.asarray(x, np.float64)))


def elu(x: Any, alpha: float = 1.0, scale: float = 1.0, k: float = 1.0) -> Any:
    return scale * np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0) * k))


def gelu(x: Any, approximate: str = "none") -> Any:
    if approximate == "tanh":
        return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return 0.5 * x * (1 + erf(x / math.sqrt(2)))


def softplus(x: Any, beta: float = 1, threshold: float = 20) -> Any:
    return np.where(x * beta > threshold, x, np.logaddexp(0, x * beta) / beta)


def logit(x: Any, eps: float | None = None) -> Any:
    x = np.asarray(x, np.float64)
    if eps is not None:
        x = np.clip(x, eps, 1 - eps)
    return np.log(x / (1 - x))


def glu(x: Any, dim: int = -1) -> Any:
    a, b = np.split(x, 2, dim)
    return a * sigmoid(b)


def prelu(x: Any, weight: Any) -> Any:
    if weight.size > 1:
        weight = weight.reshape((1, -1) + (1,) * (x.ndim - 2))
    return np.where(x > 0, x, weight * x)


ROWS = [
    activation("sigmoid", sigmoid, dtypes=ALL, method=True, inplace="sigmoid_"),
    activation("logsigmoid", lambda x: -np.logaddexp(0, -x)),
    Row(
        "logit",
        samples=lambda r: [
            Sample(r.uniform(0.1, 0.9, 40)),
            Sample(r.uniform(-0.2, 1.2, 3, 4), eps=0.1),
            Sample(r.uniform(0.1, 0.9, 3, 4), 1e-6),
        ],
        ref=logit,
        grad=True,
        method=True,
    ),
    activation(
        "relu",
        lambda x: np.maximum(x, 0),
        dtypes=(*FLOATS, *INTS),
        method=True,
        inplace="relu_",
        bad=[Bad(lambda: ((np.ones(2, bool),), {}), TypeError, "bool")],
    ),
    activation("relu6", lambda x: np.clip(x, 0, 6)),
    activation(
        "leaky_relu",
        lambda x, negative_slope=0.01: np.where(x > 0, x, negative_slope * x),
        {},
        {"negative_slope": 0.3},
        bad=[Bad(lambda: ((np.ones(2, np.int64),), {}), TypeError, "floating")],
    ),
    Row(
        "prelu",
        samples=lambda r: [
            Sample(r.normal(2, 3, 4), r.normal(3)),
            Sample(r.normal(2, 3), r.normal(1)),
            Sample(r.normal(5), r.normal(1)),
            Sample(r.normal(2, 3, 2, 2), r.normal(3)),
        ],
        ref=prelu,
        grad=True,
        method=True,
        bad=[Bad(lambda: ((np.ones((2, 3)), np.ones(2)), {}), ValueError, "channels")],
    ),
    activation("rrelu", lambda x: np.where(x > 0, x, (1 / 8 + 1 / 3) / 2 * x)),
    activation("elu", elu, {}, {"alpha": 0.7}, nonfinite=False, notes="torch: float32 and float64 differ at NaN"),
    activation("selu", lambda x: elu(x, 1.6732632423543772848, 1.0507009873554804935), nonfinite=False),
    activation(
        "celu", lambda x, alpha=1.0: elu(x, alpha, 1.0, 1 / alpha), {}, {"alpha": 1.7}, nonfinite=False, tol=SINGLE
    ),
    activation(
        "gelu",
        gelu,
        {},
        {"approximate": "tanh"},
        nonfinite=False,
        notes="torch gives NaN at minus infinity",
        bad=[Bad(lambda: ((np.ones(2),), {"approximate": "erf"}), RuntimeError, "approximate")],
    ),
    activation("silu", lambda x: x * sigmoid(x), nonfinite=False),
    activation("mish", lambda x: x * np.tanh(np.logaddexp(0, x)), nonfinite=False),
    activation("softplus", softplus, {}, {"beta": 2}, {"beta": 3, "threshold": 4}),
    activation("softsign", lambda x: x / (1 + np.abs(x)), dtypes=(*FLOATS, *INTS), nonfinite=False),
    activation("tanhshrink", lambda x: x - np.tanh(x)),
    activation(
        "hardtanh",
        lambda x, min_val=-1.0, max_val=1.0: np.clip(x, min_val, max_val),
        {},
        {"min_val": -2.0, "max_val": 0.5},
        bad=[Bad(lambda: ((np.ones(2),), {"min_val": 2.0, "max_val": 1.0}), ValueError, "above")],
    ),
    activation("hardsigmoid", lambda x: np.clip(x + 3, 0, 6) / 6, tol=SINGLE),
    activation("hardswish", lambda x: x * np.clip(x + 3, 0, 6) / 6, nonfinite=False),
    activation(
        "softshrink",
        lambda x, lambd=0.5: np.sign(x) * np.maximum(np.abs(x) - lambd, 0),
        {},
        {"lambd": 1.5},
        bad=[Bad(lambda: ((np.ones(2),), {"lambd": -1.0}), RuntimeError, "lambd")],
    ),
    activation("hardshrink", lambda x, lambd=0.5: np.where(np.abs(x) > lambd, x, 0.0), {}, {"lambd": 1.5}),
    activation(
        "threshold",
        lambda x, threshold, value: np.where(x > threshold, x, value),
        {"threshold": 0.25, "value": -1.5},
    ),
    Row(
        "glu",
        samples=lambda r: [Sample(r.normal(4, 6)), Sample(r.normal(4, 6), dim=0), Sample(r.normal(2, 6, 3), 1)],
        ref=glu,
        grad=True,
        bad=[Bad(lambda: ((np.ones(3),), {}), ValueError, "odd")],
    ),
    Row(
        "relu",
        samples=lambda r: [Sample(np.array([-1.0, 0.0, 2.0])).at_kink()],
        ref=lambda x: np.maximum(x, 0),
        grad=True,
    ),
]
