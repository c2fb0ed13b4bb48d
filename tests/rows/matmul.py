"""Products of matrices and what is made of them, pairwise distances."""

from __future__ import annotations

from functools import reduce
from typing import Any

import numpy as np

import glassgrad as gg
from op_table import FLOATS, INTS, Bad, Random, Row, Sample

NUMBERS = (*FLOATS, *INTS)
SUMS = {"float32": (1e-4, 1e-4), "float16": (5e-3, 5e-3), "bfloat16": (4e-2, 4e-2)}  # of some hundred products


def matmul_samples(r: Random) -> list[Sample]:
    shapes = [
        ((3, 4), (4, 5)),
        ((4,), (4,)),
        ((4,), (4, 5)),
        ((3, 4), (4,)),
        ((2, 3, 4), (4, 5)),
        ((2, 3, 4), (4,)),
        ((4,), (2, 4, 5)),
        ((2, 3, 4), (2, 4, 5)),
        ((2, 1, 3, 4), (3, 4, 2)),
        ((3, 4), (2, 4, 1)),
        ((1, 1), (1, 1)),
        ((1, 7), (7, 1)),
        ((7, 1), (1, 7)),
        ((0, 4), (4, 5)),
        ((3, 0), (0, 5)),
        ((2, 3, 0), (0, 2)),
        ((0, 3, 4), (4, 5)),
        ((17, 33), (33, 19)),
    ]
    return [Sample(r.normal(*a), r.normal(*b)) for a, b in shapes]


def addend(product: Any) -> Any:
    return lambda d, a, b, beta=1, alpha=1: beta * d + alpha * product(a, b)


def linear(x: np.ndarray, w: np.ndarray, b: np.ndarray | None = None) -> np.ndarray:
    y = x @ w.T
    return y if b is None else y + b


def bilinear(x: np.ndarray, y: np.ndarray, w: np.ndarray, b: np.ndarray | None = None) -> np.ndarray:
    z = np.einsum("...i,oij,...j->...o", x, w, y)
    return z if b is None else z + b


def cdist(x: np.ndarray, y: np.ndarray, p: float = 2.0) -> np.ndarray:
    d = np.abs(x[..., :, None, :] - y[..., None, :, :])
    if p == 0:
        return (d != 0).sum(-1).astype(float)
    return d.max(-1, initial=0) if p == np.inf else (d**p).sum(-1) ** (1 / p)


def pdist(x: np.ndarray, p: float = 2.0) -> np.ndarray:
    return cdist(x, x, p)[np.triu_indices(len(x), 1)]


def einsum_samples(r: Random) -> list[Sample]:
    n = r.normal
    return [
        Sample("ij,jk->ik", n(3, 4), n(4, 5)),
        Sample("ij,jk", n(3, 4), n(4, 5)),
        Sample("ii->i", n(3, 3)),
        Sample("ii", n(3, 3)),
        Sample("ij->ji", n(3, 4)),
        Sample("ij->", n(3, 4)),
        Sample("ba", n(3, 4)),
        Sample("i,j->ij", n(3), n(4)),
        Sample("bij,bjk->bik", n(2, 3, 4), n(2, 4, 5)),
        Sample("b...j,j->b...", n(2, 3, 4), n(4)),
        Sample("...ij,...jk->...ik", n(2, 1, 3, 4), n(5, 4, 2)),
        Sample("bhld,bhsd->bhls", n(2, 2, 3, 4), n(2, 2, 5, 4)),
        Sample("ij,jk,kl->il", n(2, 3), n(3, 4), n(4, 2)),
        Sample("i,i,i->i", n(3), n(3), n(3)),
        Sample("i,i,i", n(3), n(3), n(3)),
        Sample("ijk,ilm,njm,nlk,abc->", n(2, 3, 2), n(2, 2, 3), n(2, 3, 3), n(2, 2, 2), n(2, 2, 2)),
        Sample("iji->j", n(3, 2, 3)),
        Sample("iij,jkk->ik", n(2, 2, 3), n(3, 4, 4)),
        Sample("...ii->...i", n(2, 3, 3)),
        Sample("a...b->b...a", n(2, 3, 4)),
        Sample(" i j , j k -> i k ", n(2, 3), n(3, 2)),
        Sample("ij,j->ij", n(2, 3), n(3)),
        Sample("ij,kj->ikj", n(2, 3), n(4, 3)),
        Sample(",i->i", n(), n(3)),
        Sample("ij,jk->ik", n(0, 3), n(3, 2)),
        Sample("ij,jk->ik", n(2, 0), n(0, 3)),
        Sample("ij,ij->j", n(2, 3), n(2, 3)),
        Sample("ij,jk->ik", n(3, 1), n(4, 5)),
        Sample("bn,anm,bm->ba", n(2, 3), n(4, 3, 5), n(2, 5)),
    ]


def einsum(equation: str, *operands: np.ndarray) -> np.ndarray:
    if equation == "ij,jk->ik" and operands[0].shape[1] == 1 != operands[1].shape[0]:
        return operands[0] * operands[1].sum(0)  # numpy contracts axes of equal size only
    return np.einsum(equation, *operands)


def wrong(*shapes: tuple[int, ...]) -> Any:
    return lambda: (tuple(gg.ones(*s) for s in shapes), {})


def mixed() -> Any:
    return (gg.ones(2, 2), gg.ones(2, 2, dtype=gg.float64)), {}


ROWS = [
    Row(
        "matmul",
        samples=matmul_samples,
        ref=np.matmul,
        dtypes=NUMBERS,
        grad=True,
        tol=SUMS,
        method=True,
        nonfinite=False,
        bad=[
            Bad(
                wrong((2, 3), (4, 5)),
                gg.ShapeError,
                "matmul: x .2, 3. float32 and y .4, 5. float32: inner dim.* 3 and 4",
            ),
            Bad(wrong((2, 2, 3), (3, 3, 2)), gg.ShapeError, "matmul.*batch axes"),
            Bad(wrong((), (3,)), gg.ShapeError, "matmul.*0-d"),
            Bad(mixed, TypeError, "matmul: x .2, 2. float32 and y .2, 2. float64"),
            Bad(lambda: ((gg.ones(2, 2) > 0, gg.ones(2, 2) > 0), {}), TypeError, "matmul.*bool"),
            Bad(lambda: ((gg.ones(2, 2), 3), {}), TypeError, "matmul"),
        ],
        bench=lambda r: [
            Sample(r.normal(64, 64), r.normal(64, 64)),
            Sample(r.normal(512, 512), r.normal(512, 512)),
            Sample(r.normal(1, 1024), r.normal(1024, 1024)),
            Sample(r.normal(64, 32, 32), r.normal(64, 32, 32)),
        ],
    ),
    Row(
        "mm",
        samples=lambda r: [Sample(r.normal(3, 4), r.normal(4, 2)), Sample(r.normal(65, 17), r.normal(17, 70))],
        ref=np.matmul,
        dtypes=NUMBERS,
        grad=True,
        tol=SUMS,
        method=True,
        bad=[
            Bad(wrong((2, 3, 4), (4, 5)), gg.ShapeError, "mm: input"),
            Bad(wrong((2, 3), (2, 3)), gg.ShapeError, "mm: "),
        ],
    ),
    Row(
        "bmm",
        samples=lambda r: [Sample(r.normal(2, 3, 4), r.normal(2, 4, 2)), Sample(r.normal(0, 3, 4), r.normal(0, 4, 2))],
        ref=np.matmul,
        dtypes=NUMBERS,
        grad=True,
        tol=SUMS,
        method=True,
        bad=[Bad(wrong((2, 3, 4), (3, 4, 5)), gg.ShapeError, "bmm: .*batch sizes 2 and 3")],
        bench=lambda r: [Sample(r.normal(64, 64, 64), r.normal(64, 64, 64))],
    ),
    Row(
        "mv",
        samples=lambda r: [Sample(r.normal(3, 4), r.normal(4)), Sample(r.normal(100, 33), r.normal(33))],
        ref=np.matmul,
        dtypes=NUMBERS,
        grad=True,
        tol=SUMS,
        method=True,
        bad=[Bad(wrong((3, 4), (4, 1)), gg.ShapeError, "mv: vec")],
    ),
    Row(
        "dot",
        samples=lambda r: [Sample(r.normal(5), r.normal(5)), Sample(r.normal(0), r.normal(0))],
        ref=np.dot,
        dtypes=NUMBERS,
        grad=True,
        tol=SUMS,
        method=True,
        bad=[Bad(wrong((3,), (4,)), gg.ShapeError, "dot: .*3 and 4"), Bad(wrong((3, 1), (3,)), gg.ShapeError, "dot: ")],
    ),
    Row(
        "vdot",
        samples=lambda r: [Sample(r.normal(5), r.normal(5))],
        ref=np.dot,
        dtypes=NUMBERS,
        grad=True,
        tol=SUMS,
        method=True,
    ),
    Row(
        "inner",
        samples=lambda r: [
            Sample(r.normal(5), r.normal(5)),
            Sample(r.normal(2, 3), r.normal(4, 3)),
            Sample(r.normal(2, 1, 3), r.normal(4, 3)),
            Sample(r.normal(), r.normal(3)),
        ],
        ref=np.inner,
        dtypes=NUMBERS,
        grad=True,
        tol=SUMS,
        method=True,
        bad=[Bad(wrong((2, 3), (2, 4)), gg.ShapeError, "inner: .*3 and 4")],
    ),
    Row(
        "outer",
        samples=lambda r: [Sample(r.normal(3), r.normal(4)), Sample(r.normal(0), r.normal(4))],
        ref=np.outer,
        dtypes=NUMBERS,
        grad=True,
        method=True,
        bad=[Bad(wrong((3, 1), (3,)), gg.ShapeError, "outer: ")],
    ),
    Row("ger", samples=lambda r: [Sample(r.normal(3), r.normal(4))], ref=np.outer, grad=True, method=True),
    Row(
        "addr",
        samples=lambda r: [
            Sample(r.normal(3, 4), r.normal(3), r.normal(4)),
            Sample(r.normal(4), r.normal(3), r.normal(4), beta=2, alpha=3),
            Sample(r.normal(3, 4), r.normal(3), r.normal(4), beta=0),
        ],
        ref=addend(np.outer),
        dtypes=NUMBERS,
        grad=True,
        tol=SUMS,
        method=True,
        inplace="addr_",
        bad=[Bad(wrong((3, 4), (3,), (5,)), gg.ShapeError, "addr: ")],
    ),
    Row(
        "addmm",
        samples=lambda r: [
            Sample(r.normal(3, 5), r.normal(3, 4), r.normal(4, 5)),
            Sample(r.normal(5), r.normal(3, 4), r.normal(4, 5), beta=2, alpha=3),
            Sample(r.normal(3, 1), r.normal(3, 4), r.normal(4, 5), alpha=-1),
            Sample(r.normal(), r.normal(3, 4), r.normal(4, 5), beta=0),
            Sample(r.normal(3, 5), r.normal(3, 0), r.normal(0, 5), beta=2),
        ],
        ref=addend(np.matmul),
        dtypes=NUMBERS,
        grad=True,
        tol=SUMS,
        method=True,
        inplace="addmm_",
        bad=[
            Bad(wrong((3, 5), (3, 4), (5, 5)), gg.ShapeError, "addmm: mat1 .*4 and 5"),
            Bad(wrong((2, 5), (3, 4), (4, 5)), gg.ShapeError, "addmm: input .*does not broadcast"),
        ],
        bench=lambda r: [Sample(r.normal(512), r.normal(256, 512), r.normal(512, 512))],
    ),
    Row(
        "addmv",
        samples=lambda r: [
            Sample(r.normal(3), r.normal(3, 4), r.normal(4)),
            Sample(r.normal(1), r.normal(3, 4), r.normal(4), beta=2, alpha=3),
        ],
        ref=addend(np.matmul),
        dtypes=NUMBERS,
        grad=True,
        tol=SUMS,
        method=True,
        inplace="addmv_",
        bad=[Bad(wrong((3,), (3, 4), (3,)), gg.ShapeError, "addmv: mat .*4 and 3")],
    ),
    Row(
        "baddbmm",
        samples=lambda r: [
            Sample(r.normal(2, 3, 5), r.normal(2, 3, 4), r.normal(2, 4, 5)),
            Sample(r.normal(3, 1), r.normal(2, 3, 4), r.normal(2, 4, 5), beta=2, alpha=3),
        ],
        ref=addend(np.matmul),
        dtypes=NUMBERS,
        grad=True,
        tol=SUMS,
        method=True,
        inplace="baddbmm_",
        bad=[Bad(wrong((1,), (2, 3, 4), (3, 4, 5)), gg.ShapeError, "baddbmm: batch1 .*batch sizes 2 and 3")],
    ),
    Row(
        "addbmm",
        samples=lambda r: [
            Sample(r.normal(3, 5), r.normal(2, 3, 4), r.normal(2, 4, 5)),
            Sample(r.normal(5), r.normal(2, 3, 4), r.normal(2, 4, 5), beta=2, alpha=3),
        ],
        ref=addend(lambda a, b: (a @ b).sum(0)),
        dtypes=NUMBERS,
        grad=True,
        tol=SUMS,
        method=True,
        inplace="addbmm_",
        bad=[Bad(wrong((1,), (2, 3, 4), (3, 4, 5)), gg.ShapeError, "addbmm: batch1")],
    ),
    Row(
        "linear",
        samples=lambda r: [
            Sample(r.normal(3, 4), r.normal(5, 4)),
            Sample(r.normal(3, 4), r.normal(5, 4), r.normal(5)),
            Sample(r.normal(4), r.normal(5, 4), r.normal(5)),
            Sample(r.normal(2, 3, 4), r.normal(5, 4), r.normal(5)),
            Sample(r.normal(0, 4), r.normal(5, 4), r.normal(5)),
            Sample(r.normal(2, 4), r.normal(4)),
            Sample(r.normal(40, 70), r.normal(33, 70), r.normal(33)),
        ],
        ref=linear,
        grad=True,
        tol=SUMS,
        bad=[
            Bad(wrong((3, 4), (5, 3)), gg.ShapeError, "linear: input .*in_features 4 and 3"),
            Bad(wrong((3, 4), (5, 4), (2, 3, 4, 5)), gg.ShapeError, "linear: bias"),
        ],
        bench=lambda r: [
            Sample(r.normal(64, 784), r.normal(512, 784), r.normal(512)),
            Sample(r.normal(1, 512), r.normal(512, 512), r.normal(512)),
        ],
    ),
    Row(
        "bilinear",
        samples=lambda r: [
            Sample(r.normal(2, 3), r.normal(2, 4), r.normal(5, 3, 4), r.normal(5)),
            Sample(r.normal(2, 2, 3), r.normal(2, 2, 4), r.normal(5, 3, 4)),
            Sample(r.normal(3), r.normal(4), r.normal(5, 3, 4), r.normal(5)),
        ],
        ref=bilinear,
        grad=True,
        tol=SUMS,
        bad=[Bad(wrong((2, 3), (2, 4), (5, 4, 3)), gg.ShapeError, "bilinear: ")],
    ),
    Row(
        "einsum",
        samples=einsum_samples,
        ref=einsum,
        grad=True,
        tol=SUMS,
        bad=[
            Bad(
                lambda: (("ij,jk->ik", gg.ones(2, 3), gg.ones(4, 5)), {}), gg.ShapeError, "einsum: .*index j has size 3"
            ),
            Bad(lambda: (("ij->ik", gg.ones(2, 3)), {}), gg.ShapeError, "einsum: .*'k'"),
            Bad(lambda: (("ijk->i", gg.ones(2, 3)), {}), gg.ShapeError, "einsum: .*'ijk'"),
            Bad(lambda: (("ij,jk", gg.ones(2, 3)), {}), gg.ShapeError, "einsum: .*2 terms for 1"),
            Bad(lambda: (("ii", gg.ones(2, 3)), {}), gg.ShapeError, "einsum: .*index i has size"),
        ],
        bench=lambda r: [Sample("bhld,bhsd->bhls", r.normal(2, 4, 64, 32), r.normal(2, 4, 64, 32))],
    ),
    Row(
        "einsum_sublists",
        fn=lambda x, a, y, b, c: gg.einsum(x, a, y, b, c),
        samples=lambda r: [Sample(r.normal(2, 3), [0, 1], r.normal(3, 4), [1, 30], [30, 0])],
        ref=lambda x, a, y, b, c: np.einsum(x, a, y, b, c),
        torch=None,
        grad=True,
        tol=SUMS,
    ),
    Row(
        "tensordot",
        samples=lambda r: [
            Sample(r.normal(2, 3, 4), r.normal(3, 4, 5)),
            Sample(r.normal(2, 3), r.normal(3, 5), dims=1),
            Sample(r.normal(2, 3), r.normal(4), dims=0),
            Sample(r.normal(2, 3, 4), r.normal(4, 5, 3), dims=([1, 2], [2, 0])),
            Sample(r.normal(2, 3, 4), r.normal(4, 5, 3), dims=([-2], [-1])),
        ],
        ref=lambda a, b, dims=2: np.tensordot(a, b, dims),
        dtypes=NUMBERS,
        grad=True,
        tol=SUMS,
        bad=[
            Bad(
                lambda: ((gg.ones(2, 3), gg.ones(4, 5)), {"dims": 1}),
                gg.ShapeError,
                "tensordot: a .* axis 1 of a has 3",
            ),
            Bad(lambda: ((gg.ones(2, 3), gg.ones(3, 5)), {"dims": 3}), gg.ShapeError, "tensordot: dims 3"),
        ],
    ),
    Row(
        "kron",
        samples=lambda r: [
            Sample(r.normal(2, 3), r.normal(3, 2)),
            Sample(r.normal(2), r.normal(3)),
            Sample(r.normal(2), r.normal(3, 2)),
            Sample(r.normal(2, 2, 1), r.normal(3, 2)),
            Sample(r.normal(), r.normal(3)),
        ],
        ref=np.kron,
        dtypes=NUMBERS,
        grad=True,
        method=True,
    ),
    Row(
        "linalg.multi_dot",
        samples=lambda r: [
            Sample([r.normal(2, 3), r.normal(3, 4)]),
            Sample([r.normal(2, 3), r.normal(3, 4), r.normal(4, 5), r.normal(5, 2)]),
            Sample([r.normal(3), r.normal(3, 4), r.normal(4)]),
            Sample([r.normal(3), r.normal(3, 4)]),
        ],
        ref=lambda xs: reduce(np.matmul, xs),
        grad=True,
        tol=SUMS,
        bad=[
            Bad(lambda: (([gg.ones(2, 3), gg.ones(4, 5)],), {}), gg.ShapeError, "multi_dot: .*3 and 4"),
            Bad(lambda: (([gg.ones(2, 3)],), {}), gg.ShapeError, "multi_dot: "),
        ],
    ),
    Row(
        "chain_matmul",
        samples=lambda r: [Sample(r.normal(2, 3), r.normal(3, 4), r.normal(4, 2)), Sample(r.normal(2, 3))],
        ref=lambda *xs: reduce(np.matmul, xs),
        grad=True,
        tol=SUMS,
    ),
    Row(
        "linalg.matrix_power",
        samples=lambda r: [Sample(r.normal(3, 3), n) for n in (0, 1, 2, 5)] + [Sample(r.normal(2, 3, 3), 3)],
        ref=np.linalg.matrix_power,
        grad=True,
        tol={"float32": (1e-3, 1e-3), "float16": (2e-2, 2e-2), "bfloat16": (1e-1, 2e-1)},
        bad=[Bad(lambda: ((gg.ones(2, 3), 2), {}), gg.ShapeError, "matrix_power: ")],
        torch=None,  # has no 16-bit floats here
    ),
    Row(
        "linalg.inv",
        samples=lambda r: [Sample(r.normal(n, n) + 3 * np.eye(n)) for n in (1, 2, 5)] + [Sample(r.normal(2, 3, 3))],
        ref=np.linalg.inv,
        dtypes=("float64", "float32"),
        grad=True,
        tol={"float32": (1e-3, 1e-3)},
        bad=[
            Bad(wrong((2, 3)), gg.ShapeError, "inv: A"),
            Bad(wrong((2, 2)), RuntimeError, "inv: A .*singular"),
        ],
    ),
    Row(
        "cov",
        samples=lambda r: [
            Sample(r.normal(3, 5)),
            Sample(r.normal(5), correction=0),
            Sample(r.normal(2, 4), fweights=np.array([1, 2, 3, 1]), aweights=np.array([0.5, 0.25, 1.0, 0.5])),
        ],
        ref=lambda x, correction=1, fweights=None, aweights=None: np.cov(
            x, ddof=correction, fweights=fweights, aweights=aweights
        ),
        grad=True,
        wrt=[0],
        tol=SUMS,
        method=True,
        bad=[Bad(wrong((2, 3, 4)), gg.ShapeError, "cov: input")],
    ),
    Row("corrcoef", samples=lambda r: [Sample(r.normal(3, 6))], ref=np.corrcoef, grad=True, tol=SUMS, method=True),
    Row(
        "linalg.diagonal",
        samples=lambda r: [Sample(r.normal(3, 4)), Sample(r.normal(2, 3, 4), offset=1)],
        ref=lambda x, offset=0: np.diagonal(x, offset, -2, -1),
        grad=True,
    ),
    Row(
        "linalg.vecdot",
        samples=lambda r: [Sample(r.normal(2, 3), r.normal(2, 3)), Sample(r.normal(3, 2), r.normal(3, 1), dim=0)],
        ref=lambda x, y, dim=-1: (x * y).sum(dim),
        grad=True,
        tol=SUMS,
    ),
    Row(
        "cross",
        samples=lambda r: [
            Sample(r.normal(4, 3), r.normal(4, 3)),
            Sample(r.normal(3, 4), r.normal(3, 4), dim=0),
            Sample(r.normal(2, 3), r.normal(1, 3), dim=-1),
        ],
        ref=lambda x, y, dim=-1: np.cross(x, y, axis=dim),
        dtypes=NUMBERS,
        grad=True,
        tol=SUMS,
        method=True,
        bad=[Bad(wrong((2, 4), (2, 4)), gg.ShapeError, "cross: ")],
    ),
    Row(
        "linalg.cross",
        samples=lambda r: [Sample(r.normal(3, 3), r.normal(3, 3)), Sample(r.normal(3, 4), r.normal(3, 4), dim=0)],
        ref=lambda x, y, dim=-1: np.cross(x, y, axis=dim),
        grad=True,
        tol=SUMS,
    ),
    Row(
        "cdist",
        samples=lambda r: (
            [Sample(r.normal(5, 3), r.normal(4, 3), p=p) for p in (2.0, 1.0, 0.0, float("inf"), 3.0, 1.5)]
            + [
                Sample(r.normal(2, 5, 3), r.normal(4, 3)),
                Sample(r.normal(40, 7), r.normal(35, 7)),
                Sample(r.normal(3, 0), r.normal(2, 0)),
                Sample(r.normal(0, 3), r.normal(2, 3)),
            ]
        ),
        ref=cdist,
        dtypes=FLOATS,
        grad=True,
        tol=SUMS,
        torch=lambda x, y, p=2.0: __import__("torch").cdist(x, y, p, compute_mode="donot_use_mm_for_euclid_dist"),
        bad=[
            Bad(wrong((2, 3), (2, 4)), gg.ShapeError, "cdist: .*3 and 4"),
            Bad(lambda: ((gg.ones(2, 3), gg.ones(2, 3)), {"p": -1.0}), ValueError, "cdist: p is -1"),
        ],
        bench=lambda r: [Sample(r.normal(256, 64), r.normal(256, 64))],
    ),
    Row(
        "pdist",
        samples=lambda r: [Sample(r.normal(5, 3)), Sample(r.normal(4, 2), p=1.0), Sample(r.normal(1, 3))],
        ref=pdist,
        grad=True,
        tol=SUMS,
        bad=[Bad(wrong((2, 3, 4)), gg.ShapeError, "pdist: ")],
    ),
]
