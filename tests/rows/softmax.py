"""Softmax, log-softmax, cross-entropy and nll."""

from __future__ import annotations

import numpy as np

import glassgrad as gg
from op_table import FLOATS, Bad, Dtype, Row, Sample


def softmax(x, dim=0, dtype=None):
    if x.ndim == 0:
        return np.ones(())
    e = np.exp(x - x.max(dim, keepdims=True, initial=-np.inf))
    return e / e.sum(dim, keepdims=True)


def log_softmax(x, dim=0, dtype=None):
    if x.ndim == 0:
        return np.zeros(())
    d = x - x.max(dim, keepdims=True, initial=-np.inf)
    return d - np.log(np.exp(d).sum(dim, keepdims=True))


def axes(r):
    return [
        Sample(r.normal(3, 5), dim=1),
        Sample(r.normal(2, 3, 4), dim=-2),
        Sample(r.normal(4, 33), dim=0),
        Sample(r.normal(2, 67), dim=1),
        Sample(r.normal(2, 3, 5, 7), dim=1),
        Sample(r.normal(), dim=0),
        Sample(r.normal(0, 3), dim=1),
        Sample(r.normal(3, 0), dim=0),
        Sample(r.normal(1, 4) * 30, dim=1),
    ]


SOFTMAX_BAD = [
    Bad(lambda: ((np.ones((2, 3)), 2), {}), IndexError, "softmax"),
    Bad(lambda: ((np.ones((2, 3), np.int64), 1), {}), TypeError, "softmax"),
]


def picked(losses, weights, reduction):
    if reduction == "none":
        return losses
    return losses.sum() if reduction == "sum" else losses.sum() / weights.sum()


def nll_loss(x, target, weight=None, ignore_index=-100, reduction="mean"):
    rows = np.moveaxis(x, 0 if x.ndim == 1 else 1, -1)
    keep = target != ignore_index
    t = np.where(keep, target, 0)
    w = keep * (1.0 if weight is None else weight[t])
    return picked(-np.take_along_axis(rows, t[..., None], -1)[..., 0] * w, w, reduction)


def cross_entropy(x, target, weight=None, ignore_index=-100, reduction="mean", label_smoothing=0.0):
    dim = 0 if x.ndim == 1 else 1
    n = x.shape[dim]
    y = log_softmax(x, dim)
    rows = np.moveaxis(y, dim, -1)
    line = np.ones(n) if weight is None else weight
    if target.dtype.kind == "f":
        q = np.moveaxis(target, dim, -1) * (1 - label_smoothing) + label_smoothing / n
        losses = -(rows * q * line).sum(-1)
        return picked(losses, np.ones(losses.shape), reduction)
    keep = target != ignore_index
    w = keep * line[np.where(keep, target, 0)]
    losses = (1 - label_smoothing) * nll_loss(y, target, weight, ignore_index, "none")
    losses = losses - label_smoothing / n * (rows * line).sum(-1) * keep
    return picked(losses, w, reduction)


def labels(r, n, *shape):
    t = r.integers(0, n, *shape)
    t.flat[0] = -100
    return t


def class_samples(r):
    return [
        Sample(r.normal(4, 5), r.integers(0, 5, 4)),
        Sample(r.normal(5), r.integers(0, 5)),
        Sample(r.normal(20, 3), labels(r, 3, 20), reduction="sum"),
        Sample(r.normal(4, 5), labels(r, 5, 4), r.positive(5)),
        Sample(r.normal(4, 5), r.integers(0, 5, 4), ignore_index=2, reduction="none"),
        Sample(r.normal(2, 3, 4), labels(r, 3, 2, 4), weight=r.positive(3)),
        Sample(r.normal(2, 3, 4, 5), labels(r, 3, 2, 4, 5), reduction="none"),
        Sample(r.normal(2, 3, 70), r.integers(0, 3, 2, 70)),
    ]


def cross_entropy_samples(r):
    return [
        *class_samples(r),
        Sample(r.normal(3, 70), r.integers(0, 70, 3)),
        Sample(r.normal(4, 5), labels(r, 5, 4), label_smoothing=0.1),
        Sample(r.normal(4, 5), labels(r, 5, 4), weight=r.positive(5), label_smoothing=0.3),
        Sample(r.normal(2, 3, 5), labels(r, 3, 2, 5), weight=r.positive(3), label_smoothing=0.3, reduction="none"),
        Sample(r.normal(4, 5), r.uniform(0, 1, 4, 5)),
        Sample(r.normal(5), r.uniform(0, 1, 5), reduction="sum"),
        Sample(r.normal(4, 5), r.uniform(0, 1, 4, 5), weight=r.positive(5), label_smoothing=0.2),
        Sample(r.normal(2, 3, 4), r.uniform(0, 1, 2, 3, 4), weight=r.positive(3), reduction="none"),
    ]


CLASSES_BAD = [
    Bad(lambda: ((np.ones((2, 3)), np.array([0, 3])), {}), IndexError, "class 3.*0 to 2"),
    Bad(lambda: ((np.ones((2, 3)), np.array([0, -1])), {}), IndexError, "class -1"),
    Bad(lambda: ((np.ones((2, 3)), np.array([0, 1, 2])), {}), gg.ShapeError, r"\(2, 3\).*\(3,\).*\(2,\)"),
    Bad(lambda: ((np.ones((2, 3)), np.array([0, 1])), {"weight": np.ones(2)}), gg.ShapeError, "weight"),
    Bad(lambda: ((np.ones((2, 3)), np.array([True, False])), {}), TypeError, "target"),
    Bad(lambda: ((np.ones((2, 3)), np.array([0, 1])), {"reduction": "max"}), ValueError, "'mean'"),
]


def hard_gumbel(logits):
    y = gg.nn.functional.gumbel_softmax(logits, tau=0.5, hard=True)
    return y.sum(-1), ((y == 0) | (y == 1)).all()


ROWS = [
    Row(
        "softmax",
        samples=lambda r: [*axes(r), Sample(r.normal(3, 4), 1, dtype=Dtype("float64"))],
        ref=softmax,
        grad=True,
        method=True,
        bad=SOFTMAX_BAD,
        bench=lambda r: [Sample(r.normal(64, 1000), dim=1), Sample(r.normal(4096, 4096), dim=1)],
    ),
    Row(
        "log_softmax",
        samples=lambda r: [*axes(r), Sample(r.normal(3, 4), 1, dtype=Dtype("float64"))],
        ref=log_softmax,
        grad=True,
        method=True,
        bad=SOFTMAX_BAD,
        bench=lambda r: [Sample(r.normal(64, 1000), dim=1)],
    ),
    Row("softmin", samples=axes, ref=lambda x, dim: softmax(-x, dim), grad=True),
    Row(
        "cross_entropy",
        samples=cross_entropy_samples,
        ref=cross_entropy,
        grad=True,
        wrt=[0],
        bad=[
            *CLASSES_BAD,
            Bad(lambda: ((np.ones((2, 3)), np.ones((2, 4))), {}), gg.ShapeError, "probabilities"),
            Bad(lambda: ((np.ones((2, 3)), np.array([0, 1])), {"label_smoothing": 1.5}), ValueError, "label_smoothing"),
        ],
        bench=lambda r: [
            Sample(r.normal(64, 10), r.integers(0, 10, 64)),
            Sample(r.normal(512, 32000), r.integers(0, 32000, 512)),
        ],
    ),
    Row(
        "cross_entropy of probabilities",
        fn=gg.nn.functional.cross_entropy,
        torch="cross_entropy",
        samples=lambda r: [
            Sample(r.normal(4, 5), r.uniform(0, 1, 4, 5)),
            Sample(r.normal(2, 3, 4), r.uniform(0, 1, 2, 3, 4), reduction="none", label_smoothing=0.1),
        ],
        ref=cross_entropy,
        grad=True,
    ),
    Row("nll_loss", samples=class_samples, ref=nll_loss, grad=True, wrt=[0], bad=CLASSES_BAD),
    Row(
        "gumbel_softmax",
        fn=lambda x, dim: gg.nn.functional.gumbel_softmax(x, dim=dim).sum(dim),
        torch=None,
        samples=lambda r: [Sample(r.normal(3, 5), dim=1), Sample(r.normal(2, 3, 4), dim=1)],
        ref=lambda x, dim: np.ones(x.sum(dim).shape),
        notes="random: only that samples sum to one is checked here",
    ),
    Row(
        "gumbel_softmax, hard",
        fn=hard_gumbel,
        torch=None,
        samples=lambda r: [Sample(r.normal(3, 5))],
        ref=lambda x: (np.ones(3), np.array(True)),
        dtypes=FLOATS,
    ),
]
