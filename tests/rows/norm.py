"""Batch, layer, group, instance and RMS norm, and what divides by a norm."""

from __future__ import annotations

import numpy as np

import glassgrad as gg
from op_table import Bad, Row, Sample

# Statistics of two or three values amplify what their inputs were rounded by.
ROUGH = {"float16": (2e-2, 2e-2), "bfloat16": (6e-2, 6e-2), "float32": (1e-4, 5e-5)}


def standard(x, dims, eps):
    m = x.mean(dims, keepdims=True)
    return (x - m) / np.sqrt(((x - m) ** 2).mean(dims, keepdims=True) + eps)


def affine(h, weight, bias, line=None):
    if weight is not None:
        h = h * (weight if line is None else weight.reshape(line))
    return h if bias is None else h + (bias if line is None else bias.reshape(line))


def channel_line(x):
    return [-1] + [1] * (x.ndim - 2)


def layer_norm(x, normalized_shape, weight=None, bias=None, eps=1e-5):
    return affine(standard(x, tuple(range(x.ndim - len(normalized_shape), x.ndim)), eps), weight, bias)


def rms_norm(x, normalized_shape, weight=None, eps=2.0**-52):
    dims = tuple(range(x.ndim - len(normalized_shape), x.ndim))
    return affine(x / np.sqrt((x * x).mean(dims, keepdims=True) + eps), weight, None)


def group_norm(x, num_groups, weight=None, bias=None, eps=1e-5):
    rows = x.reshape(x.shape[0], num_groups, -1)
    return affine(standard(rows, 2, eps).reshape(x.shape), weight, bias, channel_line(x))


def batch_norm(x, running_mean, running_var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5):
    line = channel_line(x)
    if training:
        h = standard(x, tuple(i for i in range(x.ndim) if i != 1), eps)
    else:
        h = (x - running_mean.reshape(line)) / np.sqrt(running_var.reshape(line) + eps)
    return affine(h, weight, bias, line)


def running(library):
    """The running statistics after a step of training, beside the output."""

    def f(x, mean, var, momentum):
        y = library.nn.functional.batch_norm(x, mean, var, training=True, momentum=momentum)
        return y, mean, var

    return f


def running_reference(x, mean, var, momentum):
    dims = tuple(i for i in range(x.ndim) if i != 1)
    new_mean = (1 - momentum) * mean + momentum * x.mean(dims)
    new_var = (1 - momentum) * var + momentum * x.var(dims, ddof=1)
    return batch_norm(x, None, None, training=True), new_mean, new_var


def instance_norm(x, weight=None, bias=None, eps=1e-5):
    return affine(standard(x, tuple(range(2, x.ndim)), eps), weight, bias, channel_line(x))


def instance_running(library):
    def f(x, mean, var):
        y = library.nn.functional.instance_norm(x, mean, var, use_input_stats=True, momentum=0.3)
        return y, mean, var

    return f


def instance_running_reference(x, mean, var):
    dims = tuple(range(2, x.ndim))
    return (
        instance_norm(x),
        0.7 * mean + 0.3 * x.mean(dims).mean(0),
        0.7 * var + 0.3 * x.var(dims, ddof=1).mean(0),
    )


def local_response_norm(x, size, alpha=1e-4, beta=0.75, k=1.0):
    padded = np.pad(x * x, [(0, 0), (size // 2, (size - 1) // 2)] + [(0, 0)] * (x.ndim - 2))
    total = sum(padded[:, i : i + x.shape[1]] for i in range(size))
    return x / (k + alpha / size * total) ** beta


def norm(x, p, dim):
    return np.linalg.norm(x, p, dim, keepdims=True)


def cosine_similarity(a, b, dim=1, eps=1e-8):
    a, b = np.broadcast_arrays(a, b)
    return (a * b / np.maximum(norm(a, 2, dim), eps) / np.maximum(norm(b, 2, dim), eps)).sum(dim)


def pairwise_distance(a, b, p=2.0, eps=1e-6, keepdim=False):
    y = norm(a - b + eps, p, -1)
    return y if keepdim else y[..., 0]


def affine_of(r, n):
    return {"weight": r.normal(n), "bias": r.normal(n)}


ROWS = [
    Row(
        "layer_norm",
        samples=lambda r: [
            Sample(r.normal(4, 6), [6]),
            Sample(r.normal(2, 3, 5), [3, 5], r.normal(3, 5), r.normal(3, 5)),
            Sample(r.normal(3, 40) * 3 + 5, [40], **affine_of(r, 40)),
            Sample(r.normal(7), [7], r.normal(7)),
            Sample(r.normal(0, 4), [4], **affine_of(r, 4)),
            Sample(r.normal(2, 4), [4], bias=r.normal(4), eps=0.1),
        ],
        ref=layer_norm,
        grad=True,
        tol=ROUGH,
        bad=[
            Bad(lambda: ((np.ones((2, 3)), [4]), {}), gg.ShapeError, "normalized_shape"),
            Bad(lambda: ((np.ones((2, 3)), [3], np.ones(2)), {}), gg.ShapeError, "weight"),
            Bad(lambda: ((np.ones((2, 3), np.int64), [3]), {}), TypeError, "layer_norm"),
        ],
        bench=lambda r: [Sample(r.normal(512, 768), [768], **affine_of(r, 768))],
    ),
    Row(
        "rms_norm",
        samples=lambda r: [
            Sample(r.normal(4, 6), [6], eps=1e-5),
            Sample(r.normal(2, 3, 5), [3, 5], r.normal(3, 5), eps=1e-5),
            Sample(r.normal(3, 40) * 3 + 5, [40], r.normal(40), 1e-3),
            Sample(r.normal(3, 5), [5]),
        ],
        ref=rms_norm,
        grad=True,
        tol=ROUGH,
        bad=[Bad(lambda: ((np.ones((2, 3)), []), {}), gg.ShapeError, "normalized_shape")],
        bench=lambda r: [Sample(r.normal(512, 768), [768], r.normal(768))],
    ),
    Row(
        "group_norm",
        samples=lambda r: [
            Sample(r.normal(2, 6, 4), 3),
            Sample(r.normal(2, 4, 3, 3), 2, r.normal(4), r.normal(4)),
            Sample(r.normal(3, 8), 2, **affine_of(r, 8)),
            Sample(r.normal(2, 4, 40) * 2 + 3, 1, **affine_of(r, 4)),
            Sample(r.normal(2, 3, 5, 7), 3, **affine_of(r, 3)),
        ],
        ref=group_norm,
        grad=True,
        tol=ROUGH,
        bad=[
            Bad(lambda: ((np.ones((2, 6, 3)), 4), {}), ValueError, "num_groups"),
            Bad(lambda: ((np.ones((2, 6, 3)), 3, np.ones(3)), {}), gg.ShapeError, "weight"),
            Bad(lambda: ((np.ones(6), 3), {}), gg.ShapeError, "group_norm"),
        ],
        bench=lambda r: [Sample(r.normal(32, 64, 16, 16), 8, **affine_of(r, 64))],
    ),
    Row(
        "batch_norm",
        torch="nn.functional.batch_norm",
        samples=lambda r: [
            Sample(r.normal(5, 3), None, None, training=True),
            Sample(r.normal(2, 3, 4), None, None, r.normal(3), r.normal(3), True),
            Sample(r.normal(4, 3, 5, 7) * 2 + 3, None, None, **affine_of(r, 3), training=True),
            Sample(r.normal(9, 20), None, None, **affine_of(r, 20), training=True),
            Sample(r.normal(3, 9, 6, 6), None, None, **affine_of(r, 9), training=True),
        ],
        ref=batch_norm,
        grad=True,
        tol=ROUGH,
        bad=[
            Bad(lambda: ((np.ones((1, 3)), None, None), {"training": True}), ValueError, "more than one value"),
            Bad(lambda: ((np.ones((2, 3)), None, None), {}), ValueError, "running_mean"),
            Bad(lambda: ((np.ones((2, 3)), np.ones(2), np.ones(2)), {}), gg.ShapeError, "running_mean"),
            Bad(lambda: ((np.ones(3), np.ones(3), np.ones(3)), {}), gg.ShapeError, "batch_norm"),
        ],
        bench=lambda r: [Sample(r.normal(32, 64, 56, 56), None, None, **affine_of(r, 64), training=True)],
    ),
    Row(
        "batch_norm with fixed statistics",
        fn=gg.nn.functional.batch_norm,
        torch="nn.functional.batch_norm",
        samples=lambda r: [
            Sample(r.normal(5, 3), r.normal(3), r.positive(3)),
            Sample(r.normal(2, 3, 4), r.normal(3), r.positive(3), **affine_of(r, 3)),
            Sample(r.normal(2, 3, 5, 5), r.normal(3), r.positive(3), **affine_of(r, 3), eps=1e-3),
        ],
        ref=batch_norm,
        grad=True,
        wrt=[0, "weight", "bias"],
    ),
    Row(
        "batch_norm's running statistics",
        fn=running(gg),
        torch=None,
        samples=lambda r: [
            Sample(r.normal(5, 3), r.normal(3), r.positive(3), 0.1),
            Sample(r.normal(2, 3, 20), r.normal(3), r.positive(3), 0.5),
        ],
        ref=running_reference,
        tol=ROUGH,
        strided=False,
    ),
    Row(
        "instance_norm",
        torch="nn.functional.instance_norm",
        samples=lambda r: [
            Sample(r.normal(2, 3, 5)),
            Sample(r.normal(2, 3, 4, 5), **affine_of(r, 3)),
            Sample(r.normal(2, 3, 3, 6, 6), **affine_of(r, 3)),
        ],
        ref=instance_norm,
        grad=True,
        tol=ROUGH,
        bad=[
            Bad(lambda: ((np.ones((2, 3, 1)),), {}), ValueError, "more than one value"),
            Bad(lambda: ((np.ones((2, 3, 2)),), {"use_input_stats": False}), ValueError, "running_mean"),
        ],
    ),
    Row(
        "instance_norm's running statistics",
        fn=instance_running(gg),
        torch=None,
        samples=lambda r: [Sample(r.normal(4, 3, 6), r.normal(3), r.positive(3))],
        ref=instance_running_reference,
        tol=ROUGH,
        strided=False,
    ),
    Row(
        "local_response_norm",
        samples=lambda r: [
            Sample(r.normal(2, 5, 3), 2),
            Sample(r.normal(2, 5, 3), 3, 0.5, 0.7, 1.5),
            Sample(r.normal(2, 4, 3, 2), 5, alpha=0.1),
            Sample(r.normal(2, 4, 3, 2), 1, alpha=0.1),
            Sample(r.normal(1, 2, 3), 7, alpha=0.1),
        ],
        ref=local_response_norm,
        grad=True,
        tol={"float16": (1e-2, 1e-2), "bfloat16": (4e-2, 4e-2)},
        bad=[Bad(lambda: ((np.ones((2, 3)), 2), {}), gg.ShapeError, "three axes")],
    ),
    Row(
        "normalize",
        samples=lambda r: [
            Sample(r.normal(3, 4)),
            Sample(r.normal(2, 3, 4), p=1.0, dim=-1),
            Sample(r.normal(2, 3), 3.0, 0),
            Sample(np.zeros((2, 3)), eps=0.01).at_kink(),
        ],
        ref=lambda x, p=2.0, dim=1, eps=1e-12: x / np.maximum(norm(x, p, dim), eps),
        grad=True,
        tol={"float16": (5e-3, 3e-3)},
        bad=[Bad(lambda: ((np.ones((2, 3)),), {"dim": 2}), IndexError, "normalize")],
    ),
    Row(
        "cosine_similarity",
        samples=lambda r: [
            Sample(r.normal(3, 4), r.normal(3, 4)),
            Sample(r.normal(2, 3, 4), r.normal(2, 3, 4), dim=-1),
            Sample(r.normal(1, 4), r.normal(3, 4), eps=1e-4),
            Sample(r.normal(5), r.normal(5), dim=0),
        ],
        ref=cosine_similarity,
        grad=True,
        tol={"float16": (5e-3, 3e-3), "bfloat16": (3e-2, 3e-2)},
    ),
    Row(
        "pairwise_distance",
        samples=lambda r: [
            Sample(r.normal(3, 4), r.normal(3, 4)),
            Sample(r.normal(3, 4), r.normal(3, 4), p=1.0, keepdim=True),
            Sample(r.normal(4), r.normal(4)),
            Sample(r.normal(3, 4), r.normal(4), 3.0, 1e-3),
        ],
        ref=pairwise_distance,
        grad=True,
        tol={"float16": (5e-3, 5e-3), "bfloat16": (4e-2, 4e-2)},
    ),
]
