"""Losses; cross_entropy and nll_loss stand in rows/softmax.py."""

from __future__ import annotations

from math import lgamma

import numpy as np

import glassgrad as gg
from op_table import Bad, Row, Sample


def reduced(losses, reduction):
    return losses if reduction == "none" else losses.sum() if reduction == "sum" else losses.mean()


def loss(f):
    """The reference of a loss from its formula per element."""

    def reference(*args, reduction="mean", **kwargs):
        return reduced(np.asarray(f(*args, **kwargs)), reduction)

    return reference


def each_reduction(make):
    """Three shapes, one with each reduction."""

    def samples(r):
        return [
            make(r, 3, 4).map(lambda a: a),
            Sample(*make(r, 5).args, reduction="sum", **make(r, 5).kwargs),
            Sample(*(m := make(r, 2, 3, 11)).args, reduction="none", **m.kwargs),
        ]

    return samples


def pair(r, *shape):
    return Sample(r.normal(*shape), r.normal(*shape))


def signs(r, *shape):
    return np.where(r.bools(*shape), 1.0, -1.0)


MISMATCH = [
    Bad(lambda: ((np.ones((32, 1)), np.ones(32)), {}), gg.ShapeError, r"\(32, 1\).*\(32,\).*does not broadcast"),
    Bad(lambda: ((np.ones(3), np.ones(3)), {"reduction": "max"}), ValueError, "'mean'"),
]


def log_sigmoid(x):
    return -np.logaddexp(0, -x)


def bce_with_logits(x, t, weight=1.0, pos_weight=1.0):
    return -weight * (pos_weight * t * log_sigmoid(x) + (1 - t) * log_sigmoid(-x))


def bce(x, t, weight=1.0):
    with np.errstate(divide="ignore"):
        return -weight * (t * np.maximum(np.log(x), -100) + (1 - t) * np.maximum(np.log1p(-x), -100))


def kl_div(x, t, reduction="mean", log_target=False):
    with np.errstate(divide="ignore", invalid="ignore"):
        losses = np.exp(t) * (t - x) if log_target else np.where(t > 0, t * np.log(np.where(t > 0, t, 1)), 0) - t * x
    return losses.sum() / x.shape[0] if reduction == "batchmean" else reduced(losses, reduction)


def poisson_nll(x, t, log_input=True, full=False, eps=1e-8):
    losses = np.exp(x) - t * x if log_input else x - t * np.log(x + eps)
    if full:
        s = np.where(t > 1, t, 2)
        losses = losses + np.where(t > 1, s * np.log(s) - s + 0.5 * np.log(2 * np.pi * s), 0)
    return losses


def gaussian_nll(x, t, var, full=False, eps=1e-6):
    if np.ndim(var) == x.ndim - 1 and np.ndim(var):
        var = var[..., None]
    v = np.maximum(var, eps)
    return 0.5 * (np.log(v) + (x - t) ** 2 / v) + (0.5 * np.log(2 * np.pi) if full else 0)


def cosine_embedding(a, b, t, margin=0.0):
    cosine = (a * b).sum(-1) / np.sqrt(((a * a).sum(-1) + 1e-12) * ((b * b).sum(-1) + 1e-12))
    return np.where(t == 1, 1 - cosine, np.maximum(0, cosine - margin))


def distance(a, b, p=2.0, eps=1e-6):
    return np.linalg.norm(a - b + eps, p, -1)


def triplet(a, b, c, margin=1.0, p=2.0, eps=1e-6, swap=False):
    far = distance(a, c, p, eps)
    if swap:
        far = np.minimum(far, distance(b, c, p, eps))
    return np.maximum(0, distance(a, b, p, eps) - far + margin)


def multi_margin(x, t, p=1, margin=1.0, weight=None):
    rows, own = x.reshape(-1, x.shape[-1]), t.reshape(-1)
    out = []
    for row, c in zip(rows, own, strict=True):
        z = np.maximum(0, margin - row[c] + row) ** p * (1 if weight is None else weight[c])
        out.append((z.sum() - z[c]) / len(row))
    return np.array(out).reshape(t.shape)


def multilabel_margin(x, t):
    out = []
    for row, listed in zip(x.reshape(-1, x.shape[-1]), t.reshape(-1, t.shape[-1]), strict=True):
        n = list(listed).index(-1) if -1 in listed else len(listed)
        own = set(listed[:n].tolist())
        others = [i for i in range(len(row)) if i not in own]
        out.append(sum(max(0, 1 - (row[j] - row[i])) for j in listed[:n] for i in others) / len(row))
    return np.array(out).reshape(x.shape[:-1])


def multilabel_soft_margin(x, t, weight=1.0):
    return bce_with_logits(x, t, weight).mean(-1)


def ctc(logits, targets, input_lengths, target_lengths, blank=0, reduction="mean", zero_infinity=False):
    """Sums the probability of all paths by the recursion over prefixes."""
    lp = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    losses, at = [], 0
    for n, (steps, length) in enumerate(zip(input_lengths, target_lengths, strict=True)):
        own = targets[n, :length] if targets.ndim == 2 else targets[at : at + length]
        at += length
        states = [blank]
        for label in own:
            states += [label, blank]
        p = np.zeros(len(states))
        for t in range(steps):
            q = np.zeros(len(states))
            for s, symbol in enumerate(states):
                before = p[s] + (p[s - 1] if s else 0)
                if s >= 2 and symbol != blank and symbol != states[s - 2]:
                    before += p[s - 2]
                q[s] = (float(s < 2) if t == 0 else before) * np.exp(lp[t, n, symbol])
            p = q
        with np.errstate(divide="ignore"):
            losses.append(-np.log(p[-1] + (p[-2] if length else 0)))
    losses = np.array(losses)
    if zero_infinity:
        losses = np.where(np.isinf(losses), 0, losses)
    if reduction == "mean":
        return (losses / np.maximum(target_lengths, 1)).mean()
    return reduced(losses, reduction)


def ctc_of_logits(library):
    def f(logits, *args, **kwargs):
        return library.nn.functional.ctc_loss(library.log_softmax(logits, -1), *args, **kwargs)

    return f


def ctc_of_logits_in_torch(logits, targets, input_lengths, target_lengths, **kwargs):
    import torch

    lp = torch.log_softmax(logits, -1)
    return torch.nn.functional.ctc_loss(lp, targets, tuple(input_lengths), tuple(target_lengths), **kwargs)


ROWS = [
    Row(
        "mse_loss",
        samples=lambda r: [
            *each_reduction(pair)(r),
            Sample(r.normal(3, 4), r.normal(3, 4), weight=r.positive(3, 4)),
        ],
        ref=lambda x, t, reduction="mean", weight=None: (
            reduced((x - t) ** 2, reduction) if weight is None else ((x - t) ** 2 * weight).sum() / weight.sum()
        ),
        grad=True,
        bad=MISMATCH,
        bench=lambda r: [pair(r, 1024, 1024)],
    ),
    Row(
        "l1_loss",
        samples=lambda r: [*each_reduction(pair)(r), Sample(np.zeros(3), np.zeros(3)).at_kink()],
        ref=loss(lambda x, t: np.abs(x - t)),
        grad=True,
        bad=MISMATCH,
    ),
    Row(
        "smooth_l1_loss",
        samples=lambda r: [
            *each_reduction(pair)(r),
            Sample(r.normal(3, 4) * 3, r.normal(3, 4), beta=0.5),
            Sample(r.normal(3, 4), r.normal(3, 4), beta=0.0),
        ],
        ref=loss(
            lambda x, t, beta=1.0: np.where(
                np.abs(x - t) < beta, (x - t) ** 2 / (2 * max(beta, 1e-300)), np.abs(x - t) - beta / 2
            )
        ),
        grad=True,
        bad=[*MISMATCH, Bad(lambda: ((np.ones(3), np.ones(3)), {"beta": -1.0}), ValueError, "beta")],
    ),
    Row(
        "huber_loss",
        samples=lambda r: [
            *each_reduction(pair)(r),
            Sample(r.normal(3, 4) * 3, r.normal(3, 4), delta=0.5),
        ],
        ref=loss(
            lambda x, t, delta=1.0: np.where(
                np.abs(x - t) <= delta, (x - t) ** 2 / 2, delta * (np.abs(x - t) - delta / 2)
            )
        ),
        grad=True,
        bad=[*MISMATCH, Bad(lambda: ((np.ones(3), np.ones(3)), {"delta": 0.0}), ValueError, "delta")],
    ),
    Row(
        "binary_cross_entropy",
        samples=lambda r: [
            *each_reduction(lambda r, *s: Sample(r.uniform(0.05, 0.95, *s), r.uniform(0.05, 0.95, *s)))(r),
            Sample(r.uniform(0.1, 0.9, 3, 4), r.uniform(0, 1, 3, 4), r.positive(4)),
            Sample(np.array([0.0, 1.0, 0.0, 1.0]), np.array([0.0, 1.0, 1.0, 0.0]), reduction="none").at_kink(),
        ],
        ref=loss(bce),
        grad=True,
        wrt=[0],
        tol={"float16": (5e-3, 3e-3), "bfloat16": (4e-2, 3e-2)},
        bad=[*MISMATCH, Bad(lambda: ((np.array([1.5]), np.array([1.0])), {}), ValueError, r"\[0, 1\]")],
    ),
    Row(
        "binary_cross_entropy_with_logits",
        torch="nn.functional.binary_cross_entropy_with_logits",
        samples=lambda r: [
            *each_reduction(lambda r, *s: Sample(r.normal(*s), r.uniform(0, 1, *s)))(r),
            Sample(r.normal(3, 4), r.uniform(0, 1, 3, 4), r.positive(4), pos_weight=r.positive(4)),
            Sample(r.normal(3, 4), r.uniform(0, 1, 3, 4), pos_weight=r.positive(1)),
            Sample(r.normal(3, 4) * 50, r.uniform(0, 1, 3, 4)),
        ],
        ref=loss(bce_with_logits),
        grad=True,
        wrt=[0, 1],
        tol={"float16": (5e-3, 3e-3), "bfloat16": (4e-2, 3e-2)},
        bad=MISMATCH,
    ),
    Row(
        "kl_div",
        torch="nn.functional.kl_div",
        samples=lambda r: [
            Sample(r.normal(3, 4), r.positive(3, 4), reduction="batchmean"),
            Sample(r.normal(3, 4), r.positive(3, 4), reduction="sum"),
            Sample(r.normal(3, 4), r.normal(3, 4), log_target=True, reduction="none"),
            Sample(r.normal(3, 4), r.normal(3, 4), log_target=True, reduction="batchmean"),
        ],
        ref=kl_div,
        grad=True,
        bad=MISMATCH,
        tol={"bfloat16": (3e-2, 3e-2)},
    ),
    Row(
        "kl_div of a target with zeros",
        fn=gg.nn.functional.kl_div,
        torch="nn.functional.kl_div",
        samples=lambda r: [Sample(r.normal(2, 3), np.array([[0.0, 0.5, 0.5], [1.0, 0.0, 0.0]]), reduction="sum")],
        ref=kl_div,
        grad=True,
        wrt=[0],
    ),
    Row(
        "poisson_nll_loss",
        torch="nn.functional.poisson_nll_loss",
        samples=lambda r: [
            *each_reduction(lambda r, *s: Sample(r.normal(*s), r.positive(*s)))(r),
            Sample(r.positive(3, 4), r.positive(3, 4), log_input=False),
            Sample(r.normal(3, 4), r.positive(3, 4) * 3, full=True),
        ],
        ref=loss(poisson_nll),
        grad=True,
        wrt=[0],
        bad=MISMATCH,
        tol={"float16": (1e-2, 5e-3), "bfloat16": (5e-2, 4e-2)},
        notes=f"Stirling's formula for log t!, where lgamma(3) = {lgamma(3):.3f}",
    ),
    Row(
        "gaussian_nll_loss",
        samples=lambda r: [
            *each_reduction(lambda r, *s: Sample(r.normal(*s), r.normal(*s), r.positive(*s)))(r),
            Sample(r.normal(3, 4), r.normal(3, 4), r.positive(3, 1), full=True),
            Sample(r.normal(3, 4), r.normal(3, 4), r.positive(3)),
            Sample(r.normal(3, 4), r.normal(3, 4), 2.0),
        ],
        ref=loss(gaussian_nll),
        grad=True,
        tol={"float16": (2e-2, 1e-2), "bfloat16": (8e-2, 8e-2), "float32": (1e-4, 2e-5)},
        bad=[
            Bad(lambda: ((np.ones((3, 1)), np.ones(3), np.ones(3)), {}), gg.ShapeError, "does not broadcast"),
            Bad(lambda: ((np.ones(3), np.ones(3), -np.ones(3)), {}), ValueError, "negative"),
            Bad(lambda: ((np.ones((3, 4)), np.ones((3, 4)), np.ones(2)), {}), gg.ShapeError, "var"),
        ],
    ),
    Row(
        "hinge_embedding_loss",
        torch="nn.functional.hinge_embedding_loss",
        samples=lambda r: [
            Sample(r.normal(3, 4), signs(r, 3, 4)),
            Sample(r.normal(5), signs(r, 5), 0.5, reduction="sum"),
            Sample(r.normal(2, 3), signs(r, 2, 3), reduction="none"),
        ],
        ref=loss(lambda x, t, margin=1.0: np.where(t == 1, x, np.maximum(0, margin - x))),
        grad=True,
        wrt=[0],
        bad=MISMATCH,
    ),
    Row(
        "soft_margin_loss",
        samples=each_reduction(lambda r, *s: Sample(r.normal(*s), signs(r, *s))),
        ref=loss(lambda x, t: np.log1p(np.exp(-t * x))),
        grad=True,
        wrt=[0],
        bad=MISMATCH,
    ),
    Row(
        "margin_ranking_loss",
        torch="nn.functional.margin_ranking_loss",
        samples=lambda r: [
            Sample(r.normal(6), r.normal(6), signs(r, 6)),
            Sample(r.normal(2, 3), r.normal(2, 3), signs(r, 2, 3), 0.3, reduction="none"),
        ],
        ref=loss(lambda a, b, t, margin=0.0: np.maximum(0, -t * (a - b) + margin)),
        grad=True,
        wrt=[0, 1],
        bad=[Bad(lambda: ((np.ones(3), np.ones(3), np.ones(1)), {}), gg.ShapeError, "margin_ranking_loss")],
    ),
    Row(
        "cosine_embedding_loss",
        torch="nn.functional.cosine_embedding_loss",
        samples=lambda r: [
            Sample(r.normal(4, 3), r.normal(4, 3), signs(r, 4)),
            Sample(r.normal(4, 3), r.normal(4, 3), signs(r, 4), 0.2, reduction="none"),
            Sample(r.normal(3), r.normal(3), np.array(1.0)),
        ],
        ref=loss(cosine_embedding),
        grad=True,
        wrt=[0, 1],
        tol={"float16": (1e-2, 5e-3), "bfloat16": (5e-2, 3e-2)},
        bad=[Bad(lambda: ((np.ones((4, 3)), np.ones((4, 3)), np.ones(3)), {}), gg.ShapeError, "target")],
    ),
    Row(
        "triplet_margin_loss",
        torch="nn.functional.triplet_margin_loss",
        samples=lambda r: [
            Sample(r.normal(4, 3), r.normal(4, 3), r.normal(4, 3)),
            Sample(r.normal(4, 3), r.normal(4, 3), r.normal(4, 3), 2.0, 1.0, swap=True, reduction="none"),
            Sample(r.normal(3), r.normal(3), r.normal(3), reduction="sum"),
        ],
        ref=loss(triplet),
        grad=True,
        tol={"float16": (1e-2, 1e-2), "bfloat16": (5e-2, 6e-2)},
        bad=[
            Bad(lambda: ((np.ones((4, 3)), np.ones((4, 3)), np.ones(3)), {}), gg.ShapeError, "axes"),
            Bad(lambda: ((np.ones(3), np.ones(3), np.ones(3)), {"margin": 0.0}), ValueError, "margin"),
        ],
    ),
    Row(
        "triplet_margin_with_distance_loss",
        samples=lambda r: [
            Sample(r.normal(4, 3), r.normal(4, 3), r.normal(4, 3)),
            Sample(r.normal(4, 3), r.normal(4, 3), r.normal(4, 3), swap=True, margin=2.0, reduction="none"),
            Sample(
                r.normal(4, 3),
                r.normal(4, 3),
                r.normal(4, 3),
                distance_function=lambda a, b: ((a - b) ** 2).sum(-1),
            ),
        ],
        ref=loss(
            lambda a, b, c, distance_function=distance, margin=1.0, swap=False: np.maximum(
                0,
                distance_function(a, b)
                - (np.minimum(distance_function(a, c), distance_function(b, c)) if swap else distance_function(a, c))
                + margin,
            )
        ),
        grad=True,
        tol={"float16": (2e-2, 2e-2), "bfloat16": (8e-2, 8e-2)},
    ),
    Row(
        "multi_margin_loss",
        samples=lambda r: [
            Sample(r.normal(4, 5), r.integers(0, 5, 4)),
            Sample(r.normal(4, 5), r.integers(0, 5, 4), 2, 0.5, r.positive(5), reduction="none"),
            Sample(r.normal(5), r.integers(0, 5)),
        ],
        ref=loss(multi_margin),
        grad=True,
        wrt=[0],
        bad=[
            Bad(lambda: ((np.ones((2, 3)), np.array([0, 3])), {}), IndexError, "class"),
            Bad(lambda: ((np.ones((2, 3)), np.array([0])), {}), gg.ShapeError, "target"),
            Bad(lambda: ((np.ones((2, 3)), np.array([0, 1])), {"p": 3}), ValueError, "p is 3"),
        ],
    ),
    Row(
        "multilabel_margin_loss",
        samples=lambda r: [
            Sample(r.normal(2, 4), np.array([[3, 0, -1, 1], [1, -1, -1, -1]])),
            Sample(r.normal(2, 4), np.array([[3, 0, 2, 1], [-1, 0, 0, 0]]), reduction="none"),
            Sample(r.normal(3), np.array([2, 0, -1]), reduction="sum"),
        ],
        ref=loss(multilabel_margin),
        grad=True,
        wrt=[0],
        bad=[
            Bad(lambda: ((np.ones((2, 3)), np.array([[0, 3, -1], [0, 1, 2]])), {}), IndexError, "class"),
            Bad(lambda: ((np.ones((2, 3)), np.array([0, 1, 2])), {}), gg.ShapeError, "target"),
        ],
    ),
    Row(
        "multilabel_soft_margin_loss",
        samples=lambda r: [
            Sample(r.normal(3, 4), r.uniform(0, 1, 3, 4)),
            Sample(r.normal(3, 4), r.uniform(0, 1, 3, 4), r.positive(4), reduction="none"),
        ],
        ref=loss(multilabel_soft_margin),
        grad=True,
        wrt=[0],
        tol={"float16": (5e-3, 3e-3), "bfloat16": (4e-2, 3e-2)},
        bad=MISMATCH,
    ),
    Row(
        "ctc_loss",
        fn=ctc_of_logits(gg),
        torch=ctc_of_logits_in_torch,
        dtypes=("float64", "float32"),
        samples=lambda r: [
            Sample(r.normal(6, 2, 4), r.integers(1, 4, 2, 3), [6, 5], [3, 2]),
            Sample(r.normal(6, 2, 4), np.array([1, 1, 2, 3, 3]), [6, 5], [3, 2], reduction="none"),
            Sample(r.normal(6, 2, 4), r.integers(0, 3, 2, 3), [6, 6], [3, 0], blank=3, reduction="sum"),
            Sample(r.normal(2, 2, 4), np.array([[1, 2, 3], [1, 2, 3]]), [2, 2], [3, 1], zero_infinity=True),
        ],
        ref=ctc,
        grad=True,
        wrt=[0],
        notes="through log_softmax: as in PyTorch, the loss's own gradient is the one for logits",
        bad=[
            Bad(lambda: ((np.zeros((6, 2, 4)), np.ones((2, 3), np.int64), [6], [3, 2]), {}), gg.ShapeError, "lengths"),
            Bad(lambda: ((np.zeros((6, 2, 4)), np.ones((2, 3), np.int64), [7, 5], [3, 2]), {}), ValueError, "length 7"),
            Bad(lambda: ((np.zeros((6, 2, 4)), np.full((2, 3), 4), [6, 5], [3, 2]), {}), IndexError, "label 4"),
            Bad(
                lambda: ((np.zeros((6, 2, 4)), np.ones((2, 3), np.int64), [6, 5], [3, 2]), {"blank": 4}),
                ValueError,
                "blank",
            ),
        ],
    ),
]
