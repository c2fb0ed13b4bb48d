"""Views and copies of shape."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import glassgrad as gg
from op_table import ALL, Bad, Dtype, Random, Row, Sample

Samples = Callable[[Random], Sequence[Sample]]

# A copy and its gradient lose nothing.
EXACT = dict.fromkeys(ALL, (0.0, 0.0))


CONVERSIONS = {
    "double": np.float64,
    "float": np.float32,
    "half": np.float16,
    "bfloat16": np.float64,
    "long": np.int64,
    "int": np.int32,
    "short": np.int16,
    "char": np.int8,
    "byte": np.uint8,
    "bool": np.bool_,
}


def row(name: str, samples: Samples, ref: Callable[..., Any] | None = None, **kwargs: Any) -> Row:
    """A differentiable row over every dtype."""
    return Row(name, samples=samples, ref=ref, **{"dtypes": ALL, "grad": True, **kwargs})


def moved(x: np.ndarray, dims: Any) -> tuple[int, ...]:
    return tuple(range(x.ndim)) if dims is None else (dims,) if isinstance(dims, int) else tuple(dims)


def pad_reference(x: np.ndarray, pad: Sequence[int], mode: str = "constant", value: float = 0) -> np.ndarray:
    counts = [(0, 0)] * (x.ndim - len(pad) // 2) + [tuple(pad[i : i + 2]) for i in range(len(pad) - 2, -1, -2)]
    crop = tuple(slice(max(-a, 0), n - max(-b, 0)) for (a, b), n in zip(counts, x.shape))
    pairs = [(max(a, 0), max(b, 0)) for a, b in counts]
    if mode == "constant":
        return np.pad(x[crop], pairs, constant_values=value)
    if mode == "circular":
        return np.pad(x[crop], pairs, mode="wrap")
    cropped = [slice(max(-p, 0), None if q >= 0 else q) for p, q in counts]
    return np.pad(x, pairs, mode="edge" if mode == "replicate" else mode)[tuple(cropped)]


def unfold_reference(x: np.ndarray, dimension: int, size: int, step: int) -> np.ndarray:
    if x.ndim == 0:
        return x.reshape(1)[:size]
    return np.lib.stride_tricks.sliding_window_view(x, size, dimension)[
        (slice(None),) * (dimension % x.ndim) + (slice(None, None, step),)
    ]


def diag_embed_reference(x: np.ndarray, offset: int = 0, dim1: int = -2, dim2: int = -1) -> np.ndarray:
    n = x.shape[-1] + abs(offset)
    out = np.zeros((*x.shape[:-1], n, n), x.dtype)
    i = np.arange(x.shape[-1])
    out[..., i + max(-offset, 0), i + max(offset, 0)] = x
    return np.moveaxis(out, (-2, -1), (dim1, dim2))


def split_reference(x: np.ndarray, size: Any, dim: int = 0) -> list[np.ndarray]:
    n = x.shape[dim]
    sizes = size if isinstance(size, (list, tuple)) else [min(size, n - i) for i in range(0, n, size)]
    return np.split(x, np.cumsum(sizes)[:-1], dim)


def meshgrid_reference(*arrays: Any, indexing: str = "ij") -> Any:
    return np.meshgrid(*(arrays[0] if isinstance(arrays[0], (list, tuple)) else arrays), indexing=indexing)


def block_diag_reference(*arrays: np.ndarray) -> np.ndarray:
    blocks = [np.atleast_2d(a) for a in arrays]
    out = np.zeros((sum(b.shape[0] for b in blocks), sum(b.shape[1] for b in blocks)), blocks[0].dtype)
    i = j = 0
    for b in blocks:
        out[i : i + b.shape[0], j : j + b.shape[1]] = b
        i, j = i + b.shape[0], j + b.shape[1]
    return out


ROWS = [
    # Views
    row(
        "reshape",
        lambda r: [
            Sample(r.normal(2, 6), (3, 4)),
            Sample(r.normal(2, 3, 4), (4, -1)),
            Sample(r.normal(), (1, 1)),
            Sample(r.normal(1), ()),
            Sample(r.normal(0, 3), (3, 0, 2)),
        ],
        lambda x, shape: x.reshape(shape),
        method=True,
        bad=[
            Bad(lambda: ((np.ones((2, 3)), (4, 2)), {}), RuntimeError, "6 elements"),
            Bad(lambda: ((np.ones((2, 3)), (-1, -1)), {}), RuntimeError, "more than one -1"),
            Bad(lambda: ((np.ones((2, 3)), (-1, 4)), {}), RuntimeError, "no multiple"),
            Bad(lambda: ((np.ones((0, 3)), (-1, 0)), {}), RuntimeError, "could be any size"),
            Bad(lambda: ((np.ones((2, 3)), (-2, 3)), {}), RuntimeError, "negative"),
        ],
    ),
    row(
        "view",
        lambda r: [Sample(r.normal(2, 6), 3, 4), Sample(r.normal(2, 3, 4), (-1, 4))],
        lambda x, *shape: x.reshape(*shape),
        strided=False,
        bad=[Bad(lambda: ((np.ones((2, 3)), (7,)), {}), RuntimeError, "6 elements")],
    ),
    row(
        "view_as",
        lambda r: [Sample(r.normal(2, 6), r.normal(3, 4))],
        lambda x, y: x.reshape(y.shape),
        strided=False,
        wrt=[0],
    ),
    row("reshape_as", lambda r: [Sample(r.normal(2, 6), r.normal(3, 4))], lambda x, y: x.reshape(y.shape), wrt=[0]),
    row(
        "flatten",
        lambda r: [
            Sample(r.normal(2, 3, 4)),
            Sample(r.normal(2, 3, 4), 1),
            Sample(r.normal(2, 3, 4), start_dim=0, end_dim=-2),
            Sample(r.normal(3), 0, 0),
            Sample(r.normal()),
            Sample(r.normal(2, 0, 3)),
        ],
        lambda x, start_dim=0, end_dim=-1: (
            x.reshape(
                *x.shape[:start_dim],
                -1 if x.size else 0,
                *x.shape[x.ndim + end_dim + 1 if end_dim < 0 else end_dim + 1 :],
            )
            if x.ndim
            else x.reshape(1)
        ),
        method=True,
        bad=[
            Bad(lambda: ((np.ones((2, 3)), 1, 0), {}), RuntimeError, "comes after"),
            Bad(lambda: ((np.ones((2, 3)), 2), {}), IndexError, "out of range"),
        ],
    ),
    row(
        "unflatten",
        lambda r: [
            Sample(r.normal(2, 6), 1, (2, 3)),
            Sample(r.normal(6, 2), 0, (-1, 3)),
            Sample(r.normal(2, 4), -1, (2, 2)),
        ],
        lambda x, dim, sizes: x.reshape(*x.shape[: dim % x.ndim], *sizes, *x.shape[dim % x.ndim + 1 :]),
        strided=False,
        bad=[Bad(lambda: ((np.ones((2, 6)), 1, (4, 2)), {}), RuntimeError, "product")],
    ),
    row("ravel", lambda r: [Sample(r.normal(2, 3)), Sample(r.normal()), Sample(r.normal(0, 2))], np.ravel),
    row(
        "transpose",
        lambda r: [
            Sample(r.normal(2, 3, 4), 0, 2),
            Sample(r.normal(2, 3), -1, 0),
            Sample(r.normal(), 0, -1),
            Sample(r.normal(0, 3), 0, 1),
        ],
        lambda x, a, b: np.swapaxes(x, a, b) if x.ndim else x,
        method=True,
        bad=[Bad(lambda: ((np.ones((2, 3)), 0, 2), {}), IndexError, "out of range")],
        bench=lambda r: [Sample(r.normal(512, 512), 0, 1)],
    ),
    row("swapaxes", lambda r: [Sample(r.normal(2, 3, 4), 0, 2)], np.swapaxes, method=True),
    row("swapdims", lambda r: [Sample(r.normal(2, 3, 4), 0, -1)], np.swapaxes, method=True),
    row("moveaxis", lambda r: [Sample(r.normal(2, 3, 4), 0, 2)], np.moveaxis, method=True),
    row(
        "movedim",
        lambda r: [
            Sample(r.normal(2, 3, 4), 0, 2),
            Sample(r.normal(2, 3, 4), (0, -1), (1, 0)),
            Sample(r.normal(2, 3, 4, 5), (3, 1), (0, 2)),
        ],
        np.moveaxis,
        method=True,
        bad=[
            Bad(lambda: ((np.ones((2, 3)), (0, 1), 0), {}), RuntimeError, "as many"),
            Bad(lambda: ((np.ones((2, 3)), (0, 0), (0, 1)), {}), RuntimeError, "twice"),
        ],
    ),
    row(
        "permute",
        lambda r: [Sample(r.normal(2, 3, 4), (2, 0, 1)), Sample(r.normal(2, 3, 4), (-1, 1, 0)), Sample(r.normal(), ())],
        np.transpose,
        method=True,
        bad=[
            Bad(lambda: ((np.ones((2, 3)), (0,)), {}), RuntimeError, "named once"),
            Bad(lambda: ((np.ones((2, 3)), (0, 0)), {}), RuntimeError, "twice"),
        ],
    ),
    row(
        "t",
        lambda r: [Sample(r.normal(2, 3)), Sample(r.normal(3)), Sample(r.normal())],
        np.transpose,
        method=True,
        bad=[Bad(lambda: ((np.ones((2, 3, 4)),), {}), RuntimeError, "at most 2")],
    ),
    row(
        "T",
        lambda r: [Sample(r.normal(2, 3)), Sample(r.normal(0, 3))],
        np.transpose,
        fn=lambda x: x.T,
        torch=lambda x: x.T,
    ),
    row(
        "mT",
        lambda r: [Sample(r.normal(2, 3, 4))],
        lambda x: np.swapaxes(x, -1, -2),
        fn=lambda x: x.mT,
        torch=lambda x: x.mT,
    ),
    row("H", lambda r: [Sample(r.normal(2, 3))], np.transpose, fn=lambda x: x.H, torch=lambda x: x.H),
    row(
        "mH",
        lambda r: [Sample(r.normal(4, 2, 3))],
        lambda x: np.swapaxes(x, -1, -2),
        fn=lambda x: x.mH,
        torch=lambda x: x.mH,
    ),
    row(
        "squeeze",
        lambda r: [
            Sample(r.normal(1, 3, 1)),
            Sample(r.normal(1, 3, 1), 0),
            Sample(r.normal(1, 3, 1), 1),
            Sample(r.normal(1, 3, 1), (0, -1)),
            Sample(r.normal(1, 1)),
            Sample(r.normal(), 0),
        ],
        lambda x, dim=None: np.squeeze(x, tuple(d for d in moved(x, dim) if x.ndim and x.shape[d] == 1)),
        method=True,
        bad=[Bad(lambda: ((np.ones((2, 1)), 2), {}), IndexError, "out of range")],
    ),
    row(
        "unsqueeze",
        lambda r: [
            Sample(r.normal(2, 3), 0),
            Sample(r.normal(2, 3), -1),
            Sample(r.normal(2, 3), 1),
            Sample(r.normal(), 0),
        ],
        np.expand_dims,
        method=True,
        bad=[Bad(lambda: ((np.ones((2, 3)), 3), {}), IndexError, "out of range")],
    ),
    row(
        "expand",
        lambda r: [
            Sample(r.normal(2, 1), (2, 3)),
            Sample(r.normal(3), (2, -1)),
            Sample(r.normal(), (2, 2)),
            Sample(r.normal(1, 3), (0, 3)),
            Sample(r.normal(2, 1, 3), (4, 2, 5, 3)),
        ],
        lambda x, size: np.broadcast_to(x, [x.shape[i - len(size)] if n == -1 else n for i, n in enumerate(size)]),
        bad=[
            Bad(lambda: ((np.ones((2, 3)), (2, 4)), {}), RuntimeError, "only axes of size 1"),
            Bad(lambda: ((np.ones((2, 3)), (3,)), {}), RuntimeError, "more axes"),
            Bad(lambda: ((np.ones(3), (-1, 3)), {}), RuntimeError, "needs its size"),
        ],
    ),
    row(
        "expand_as",
        lambda r: [Sample(r.normal(2, 1), r.normal(2, 3))],
        lambda x, y: np.broadcast_to(x, y.shape),
        wrt=[0],
    ),
    row("broadcast_to", lambda r: [Sample(r.normal(2, 1), (4, 2, 3))], np.broadcast_to, method=True),
    row(
        "broadcast_tensors",
        lambda r: [Sample(r.normal(2, 1), r.normal(3)), Sample(r.normal(), r.normal(2, 2))],
        lambda *x: np.broadcast_arrays(*x),
        bad=[Bad(lambda: ((np.ones(2), np.ones(3)), {}), RuntimeError, "broadcast")],
    ),
    Row(
        "broadcast_shapes",
        lambda r: [Sample((2, 1), (3,)), Sample((), 4), Sample((0, 1), (1, 5))],
        np.broadcast_shapes,
        dtypes=("float64",),
        fn=lambda *s: list(gg.broadcast_shapes(*s)),
    ),
    row(
        "narrow",
        lambda r: [Sample(r.normal(2, 5), 1, 1, 3), Sample(r.normal(4), 0, -2, 2), Sample(r.normal(4, 2), 0, 4, 0)],
        lambda x, dim, start, length: np.take(
            x,
            np.arange(
                start % (x.shape[dim] + 1) if start >= 0 else start + x.shape[dim],
                (start if start >= 0 else start + x.shape[dim]) + length,
            ),
            dim,
        ),
        method=True,
        bad=[
            Bad(lambda: ((np.ones((2, 5)), 1, 3, 3), {}), RuntimeError, "do not fit"),
            Bad(lambda: ((np.ones((2, 5)), 1, 6, 0), {}), IndexError, "out of range"),
            Bad(lambda: ((np.ones(()), 0, 0, 1), {}), RuntimeError, "no axis"),
        ],
    ),
    row(
        "select",
        lambda r: [Sample(r.normal(2, 5), 1, 3), Sample(r.normal(2, 5), -2, -1), Sample(r.normal(4), 0, 0)],
        lambda x, dim, index: np.take(x, index, dim),
        method=True,
        bad=[Bad(lambda: ((np.ones((2, 5)), 1, 5), {}), IndexError, "out of range")],
    ),
    row(
        "diagonal",
        lambda r: [
            Sample(r.normal(3, 4)),
            Sample(r.normal(3, 4), 2),
            Sample(r.normal(3, 4), -1),
            Sample(r.normal(3, 4), 7),
            Sample(r.normal(2, 3, 4), offset=1, dim1=0, dim2=-1),
        ],
        lambda x, offset=0, dim1=0, dim2=1: np.diagonal(x, offset, dim1, dim2),
        method=True,
        bad=[
            Bad(lambda: ((np.ones(3),), {}), RuntimeError, "at least 2"),
            Bad(lambda: ((np.ones((2, 3)), 0, 1, 1), {}), RuntimeError, "same axis"),
        ],
    ),
    row(
        "diag_embed",
        lambda r: [Sample(r.normal(3)), Sample(r.normal(2, 3), 1), Sample(r.normal(2, 3), offset=-2, dim1=0, dim2=2)],
        diag_embed_reference,
        method=True,
        bad=[Bad(lambda: ((np.ones(3), 0, 1, 1), {}), RuntimeError, "same axis")],
    ),
    row(
        "diag",
        lambda r: [Sample(r.normal(3)), Sample(r.normal(3), -1), Sample(r.normal(3, 4), 1), Sample(r.normal(3, 4))],
        np.diag,
        method=True,
        bad=[Bad(lambda: ((np.ones((2, 2, 2)),), {}), RuntimeError, "vector or a matrix")],
    ),
    row("diagflat", lambda r: [Sample(r.normal(2, 2)), Sample(r.normal(3), 1)], np.diagflat, method=True),
    row(
        "Tensor.unfold",
        lambda r: [
            Sample(r.normal(7), 0, 3, 2),
            Sample(r.normal(2, 6), 1, 3, 1),
            Sample(r.normal(6, 2), 0, 2, 3),
            Sample(r.normal(2, 5, 3), -2, 5, 1),
            Sample(r.normal(), 0, 1, 1),
        ],
        unfold_reference,
        fn=lambda x, *a: x.unfold(*a),
        torch=lambda x, *a: x.unfold(*a),
        bad=[
            Bad(lambda: ((np.ones(3), 0, 4, 1), {}), RuntimeError, "do not fit"),
            Bad(lambda: ((np.ones(3), 0, 2, 0), {}), ValueError, "positive"),
        ],
    ),
    row(
        "as_strided",
        lambda r: [
            Sample(r.normal(9), (2, 3), (3, 1)),
            Sample(r.normal(6), (2, 2), (1, 2), 1),
            Sample(r.normal(3, 3), (5,), (2,)),
        ],
        lambda x, size, stride, offset=0: np.lib.stride_tricks.as_strided(
            x.ravel()[offset:], size, [s * x.itemsize for s in stride]
        ),
        method=True,
        strided=False,
        bad=[
            Bad(lambda: ((np.ones(4), (5,), (1,)), {}), RuntimeError, "reaches element"),
            Bad(lambda: ((np.ones(4), (2,), (-1,)), {}), ValueError, "negative"),
            Bad(lambda: ((np.ones(4), (2,), (1, 1)), {}), RuntimeError, "equal length"),
        ],
    ),
    row(
        "split",
        lambda r: [Sample(r.normal(5, 2), 2), Sample(r.normal(2, 6), [1, 2, 3], dim=1), Sample(r.normal(4), 4)],
        split_reference,
        method=True,
        bad=[
            Bad(lambda: ((np.ones(5), [2, 2]), {}), RuntimeError, "sum to 5"),
            Bad(lambda: ((np.ones(5), 0), {}), RuntimeError, "positive"),
        ],
    ),
    row("split_with_sizes", lambda r: [Sample(r.normal(5, 2), [4, 1])], split_reference, method=True),
    row(
        "chunk",
        lambda r: [Sample(r.normal(5, 2), 3), Sample(r.normal(2, 6), 4, 1), Sample(r.normal(2, 3), 2, dim=-1)],
        lambda x, chunks, dim=0: split_reference(x, -(-x.shape[dim] // chunks), dim),
        method=True,
        bad=[Bad(lambda: ((np.ones(5), 0), {}), RuntimeError, "positive")],
    ),
    row(
        "tensor_split",
        lambda r: [
            Sample(r.normal(5, 2), 3),
            Sample(r.normal(7), (1, 4)),
            Sample(r.normal(2, 5), (1, -1), dim=1),
            Sample(r.normal(4), (3, 1)),
        ],
        lambda x, n, dim=0: np.array_split(x, n, dim) if isinstance(n, int) else np.split(x, n, dim),
        method=True,
        bad=[Bad(lambda: ((np.ones(5), 0), {}), RuntimeError, "positive")],
    ),
    row(
        "hsplit",
        lambda r: [Sample(r.normal(2, 4), 2), Sample(r.normal(4), (1, 3))],
        lambda x, n: np.hsplit(x, n),
        method=True,
        bad=[Bad(lambda: ((np.ones(5), 2), {}), RuntimeError, "even parts")],
    ),
    row("vsplit", lambda r: [Sample(r.normal(4, 2), 2)], lambda x, n: np.vsplit(x, n), method=True),
    row("dsplit", lambda r: [Sample(r.normal(2, 1, 4), 2)], lambda x, n: np.dsplit(x, n), method=True),
    row(
        "unbind",
        lambda r: [Sample(r.normal(3, 2)), Sample(r.normal(2, 3), 1), Sample(r.normal(2, 0))],
        lambda x, dim=0: list(np.moveaxis(x, dim, 0)),
        method=True,
        bad=[Bad(lambda: ((np.ones(()),), {}), RuntimeError, "no axis")],
    ),
    row(
        "meshgrid",
        lambda r: [
            Sample(r.normal(2), r.normal(3), indexing="ij"),
            Sample(r.normal(2), r.normal(3), r.normal(4), indexing="xy"),
            Sample([r.normal(2), r.normal()], indexing="ij"),
        ],
        meshgrid_reference,
        bad=[
            Bad(lambda: ((np.ones((2, 2)),), {}), RuntimeError, "vectors"),
            Bad(lambda: ((np.ones(2),), {"indexing": "yx"}), RuntimeError, "indexing"),
        ],
    ),
    row("atleast_1d", lambda r: [Sample(r.normal()), Sample(r.normal(2), r.normal())], lambda *x: np.atleast_1d(*x)),
    row(
        "atleast_2d", lambda r: [Sample(r.normal()), Sample(r.normal(2), r.normal(2, 2))], lambda *x: np.atleast_2d(*x)
    ),
    row(
        "atleast_3d", lambda r: [Sample(r.normal()), Sample(r.normal(2), r.normal(2, 2))], lambda *x: np.atleast_3d(*x)
    ),
    # Copies
    row("clone", lambda r: [Sample(r.normal(2, 3)), Sample(r.normal()), Sample(r.normal(0))], np.copy, method=True),
    row("contiguous", lambda r: [Sample(r.normal(2, 3))], np.copy),
    *[
        Row(
            name,
            lambda r: [Sample(np.trunc(np.abs(r.normal(3, 5)) * 3)), Sample(r.normal()), Sample(r.normal(0, 2))],
            operator.methodcaller("astype", numpy_dtype),
            dtypes=ALL,
            tol=dict.fromkeys(ALL, (4e-3, 0.0) if name in ("half", "bfloat16") else (1e-6, 0.0)),
            fn=operator.methodcaller(name),
            torch=operator.methodcaller(name),
        )
        for name, numpy_dtype in CONVERSIONS.items()
    ],
    row(
        "to",
        lambda r: [
            Sample(r.normal(2, 3), "cpu"),
            Sample(r.normal(2), copy=True),
            Sample(r.normal(2), dtype=Dtype("float64")),
            Sample(r.normal(2), "cpu", Dtype("float64")),
        ],
        lambda x, *args, **kwargs: x.astype(np.float64) if kwargs.get("dtype") or len(args) > 1 else x,
        fn=gg.Tensor.to,
        torch="Tensor.to",
    ),
    row("type_as", lambda r: [Sample(r.normal(2, 3), r.normal(1))], lambda x, y: x, wrt=[0]),
    row(
        "cat",
        lambda r: [
            Sample([r.normal(2, 3), r.normal(1, 3)]),
            Sample([r.normal(2, 3), r.normal(2, 1), r.normal(2, 0)], dim=1),
            Sample([r.normal(2, 2), r.normal(0), r.normal(1, 2)]),
            Sample((r.normal(3),), -1),
            Sample([r.normal(2, 3), r.integers(0, 9, 2, 3)]),
        ],
        lambda xs, dim=0: np.concatenate([x for x in xs if x.shape != (0,)], dim),
        bad=[
            Bad(lambda: (([],), {}), RuntimeError, "at least one"),
            Bad(lambda: (([np.ones((2, 3)), np.ones((2, 4))],), {}), RuntimeError, "must agree"),
            Bad(lambda: (([np.ones(()), np.ones(())],), {}), RuntimeError, "no axis"),
            Bad(lambda: (([np.ones(2)], 1), {}), IndexError, "out of range"),
        ],
        bench=lambda r: [Sample([r.normal(64, 64, 28, 28), r.normal(64, 64, 28, 28)], 1)],
    ),
    row("concat", lambda r: [Sample([r.normal(2), r.normal(3)])], lambda xs: np.concatenate(xs)),
    row("concatenate", lambda r: [Sample([r.normal(2), r.normal(3)])], lambda xs: np.concatenate(xs)),
    row(
        "stack",
        lambda r: [
            Sample([r.normal(2, 3), r.normal(2, 3)]),
            Sample([r.normal(2), r.normal(2)], -1),
            Sample([r.normal(), r.normal()]),
        ],
        lambda xs, dim=0: np.stack(xs, dim),
        bad=[
            Bad(lambda: (([np.ones(2), np.ones(3)],), {}), RuntimeError, "must be equal"),
            Bad(lambda: (([],), {}), RuntimeError, "at least one"),
        ],
    ),
    row(
        "hstack",
        lambda r: [
            Sample([r.normal(2), r.normal(3)]),
            Sample([r.normal(2, 1), r.normal(2, 2)]),
            Sample([r.normal(), r.normal()]),
        ],
        lambda xs: np.hstack(xs),
    ),
    row(
        "vstack",
        lambda r: [Sample([r.normal(3), r.normal(2, 3)]), Sample([r.normal(), r.normal()])],
        lambda xs: np.vstack(xs),
    ),
    row("row_stack", lambda r: [Sample([r.normal(3), r.normal(3)])], lambda xs: np.vstack(xs)),
    row("dstack", lambda r: [Sample([r.normal(3), r.normal(1, 3)])], lambda xs: np.dstack(xs)),
    row(
        "column_stack",
        lambda r: [Sample([r.normal(3), r.normal(3, 2)]), Sample([r.normal(), r.normal()])],
        lambda xs: np.column_stack(xs),
    ),
    row(
        "flip",
        lambda r: [
            Sample(r.normal(2, 3), [0]),
            Sample(r.normal(2, 3, 5), (0, -1)),
            Sample(r.normal(2, 3), ()),
            Sample(r.normal(0, 3), [0]),
            Sample(r.normal(33), [0]),
        ],
        lambda x, dims: np.flip(x, dims),
        method=True,
        bad=[
            Bad(lambda: ((np.ones((2, 3)), [2]), {}), IndexError, "out of range"),
            Bad(lambda: ((np.ones((2, 3)), [0, 0]), {}), RuntimeError, "more than once"),
        ],
        bench=lambda r: [Sample(r.normal(512, 512), [0, 1])],
    ),
    row(
        "fliplr",
        lambda r: [Sample(r.normal(2, 3))],
        np.fliplr,
        method=True,
        bad=[Bad(lambda: ((np.ones(3),), {}), RuntimeError, "at least 2")],
    ),
    row("flipud", lambda r: [Sample(r.normal(2, 3)), Sample(r.normal(3))], np.flipud, method=True),
    row(
        "roll",
        lambda r: [
            Sample(r.normal(2, 3), 1),
            Sample(r.normal(4, 3), -1, 0),
            Sample(r.normal(4, 3, 2), (1, 7), (0, 2)),
            Sample(r.normal(4), (1, 2), (0, 0)),
            Sample(r.normal(0, 2), 1, 1),
            Sample(r.normal(), 3),
        ],
        lambda x, shifts, dims=None: np.roll(x, shifts, dims),
        method=True,
        bad=[
            Bad(lambda: ((np.ones((2, 3)), (1, 2), 0), {}), RuntimeError, "equal length"),
            Bad(lambda: ((np.ones((2, 3)), 1, 2), {}), IndexError, "out of range"),
        ],
        bench=lambda r: [Sample(r.normal(512, 512), (5, 7), (0, 1))],
    ),
    row(
        "rot90",
        lambda r: [Sample(r.normal(2, 3), k) for k in (-1, 0, 1, 2, 3)] + [Sample(r.normal(2, 3, 4), 1, (2, 0))],
        lambda x, k=1, dims=(0, 1): np.rot90(x, k, dims),
        method=True,
        bad=[Bad(lambda: ((np.ones((2, 3)), 1, (0, 0)), {}), RuntimeError, "different")],
    ),
    row(
        "Tensor.repeat",
        lambda r: [
            Sample(r.normal(2, 3), 2, 1),
            Sample(r.normal(3), 2, 2),
            Sample(r.normal(2), (0,)),
            Sample(r.normal(), 3),
            Sample(r.normal(2, 1, 3), 1, 2, 3, 2),
        ],
        lambda x, *n: np.tile(x, n[0] if isinstance(n[0], tuple) else n),
        fn=lambda x, *n: x.repeat(*n),
        torch=lambda x, *n: x.repeat(*n),
        bad=[
            Bad(lambda: ((np.ones((2, 3)), 2), {}), RuntimeError, "more axes"),
            Bad(lambda: ((np.ones(2), -1), {}), ValueError, "negative"),
        ],
    ),
    row(
        "tile",
        lambda r: [Sample(r.normal(2, 3), (2,)), Sample(r.normal(3), (2, 2)), Sample(r.normal(2, 2), (0, 1))],
        np.tile,
        method=True,
    ),
    row(
        "repeat_interleave",
        lambda r: [
            Sample(r.normal(2, 3), 2),
            Sample(r.normal(2, 3), 3, 1),
            Sample(r.normal(3), np.array([0, 2, 1])),
            Sample(r.normal(2, 3), np.array([1, 2]), dim=0),
            Sample(r.normal(2, 3), np.array([2]), dim=1, output_size=6),
            Sample(r.normal(), 2),
        ],
        lambda x, repeats, dim=None, output_size=None: np.repeat(x, repeats, dim),
        method=True,
        bad=[
            Bad(lambda: ((np.ones((2, 3)), np.array([1, 2]), 1), {}), RuntimeError, "one count for each"),
            Bad(lambda: ((np.ones(2), -1), {}), RuntimeError, "negative"),
            Bad(lambda: ((np.ones(2), np.array([1, -1])), {}), ValueError, "negative"),
        ],
    ),
    row(
        "tril",
        lambda r: [
            Sample(r.normal(3, 4)),
            Sample(r.normal(2, 4, 3), 1),
            Sample(r.normal(3, 3), -2),
            Sample(r.normal(3, 3), 9),
            Sample(r.normal(0, 3)),
        ],
        lambda x, k=0: np.tril(x, k),
        method=True,
        inplace="tril_",
        bad=[Bad(lambda: ((np.ones(3),), {}), RuntimeError, "at least 2")],
    ),
    row(
        "triu",
        lambda r: [
            Sample(r.normal(3, 4)),
            Sample(r.normal(2, 4, 3), 1),
            Sample(r.normal(3, 3), -2),
            Sample(r.normal(3, 3), -9),
        ],
        lambda x, k=0: np.triu(x, k),
        method=True,
        inplace="triu_",
        bad=[Bad(lambda: ((np.ones(3),), {}), RuntimeError, "at least 2")],
        bench=lambda r: [Sample(r.normal(512, 512))],
    ),
    row(
        "pad",
        lambda r: [
            Sample(r.normal(3), (1, 2)),
            Sample(r.normal(2, 3, 4), (1, 0, 0, 2), value=1.0),
            Sample(r.normal(3, 4), (-1, 2, 1, -1)),
            Sample(r.normal(2, 3, 4, 2), (0, 0, 1, 1, 0, 2, 1, 0), "constant", -2.0),
            Sample(r.normal(0, 2), (1, 1, 1, 1)),
            *[
                s
                for mode in ("reflect", "replicate", "circular")
                for s in (
                    Sample(r.normal(2, 4), (2, 1), mode),
                    Sample(r.normal(1, 3, 4), (1, 2, 2, 0), mode=mode),
                    Sample(r.normal(1, 2, 3, 3, 3), (1, 1, 0, 2, 2, 1), mode),
                )
            ],
            Sample(r.normal(1, 2, 3), (4, 5), "replicate"),
            Sample(r.normal(1, 2, 3), (-1, 2), "circular"),
            Sample(r.normal(1, 4, 4), (-2, 3), "reflect"),
            Sample(np.arange(132_000.0) % 512, (3, 2)),
            Sample(r.normal(1, 4, 4), (2, -3, -1, 0), "replicate"),
            Sample(r.normal(2, 3, 2, 37), (3, 2, 0, 0, 1, 2), "reflect"),
            Sample(r.normal(2, 3, 70).transpose(2, 0, 1), (1, 1, 0, 1), "replicate"),
        ],
        pad_reference,
        bad=[
            Bad(lambda: ((np.ones(3), (1,)), {}), RuntimeError, "pair"),
            Bad(lambda: ((np.ones(3), (1, 1, 1, 1)), {}), RuntimeError, "pair"),
            Bad(lambda: ((np.ones((1, 3)), (3, 0), "reflect"), {}), RuntimeError, "to reflect"),
            Bad(lambda: ((np.ones((1, 3)), (4, 0), "circular"), {}), RuntimeError, "wrap around"),
            Bad(lambda: ((np.ones((1, 3)), (1, 1), "mirror"), {}), ValueError, "mode"),
            Bad(lambda: ((np.ones(3), (-2, -2)), {}), RuntimeError, "cropped"),
        ],
        bench=lambda r: [
            Sample(r.normal(32, 16, 28, 28), (1, 1, 1, 1)),
            Sample(r.normal(32, 16, 28, 28), (2, 2, 2, 2), "reflect"),
        ],
    ),
    row(
        "cartesian_prod",
        lambda r: [
            Sample(r.normal(2), r.normal(3)),
            Sample(r.normal(2), r.normal(2), r.normal(2)),
            Sample(r.normal(3)),
        ],
        lambda *x: np.array(list(itertools.product(*x))) if len(x) > 1 else x[0],
        bad=[Bad(lambda: ((np.ones((2, 2)),), {}), RuntimeError, "vectors")],
    ),
    row(
        "combinations",
        lambda r: [
            Sample(r.normal(4)),
            Sample(r.normal(4), 3),
            Sample(r.normal(3), 2, with_replacement=True),
            Sample(r.normal(3), 1),
        ],
        lambda x, r=2, with_replacement=False: np.array(
            list((itertools.combinations_with_replacement if with_replacement else itertools.combinations)(x, r))
        ),
        bad=[Bad(lambda: ((np.ones((2, 2)),), {}), RuntimeError, "vector")],
    ),
    row(
        "block_diag",
        lambda r: [Sample(r.normal(2, 3), r.normal(1, 2)), Sample(r.normal(), r.normal(2))],
        block_diag_reference,
        bad=[Bad(lambda: ((np.ones((2, 2, 2)),), {}), RuntimeError, "at most 2")],
    ),
    row(
        "fill",
        lambda r: [Sample(r.normal(2, 3), 2.0), Sample(r.normal(2, 3), r.normal())],
        lambda x, v: np.full_like(x, v),
        dtypes=("float64", "float32"),
        inplace="fill_",
    ),
]
