"""Kernels on a device at sizes beyond one block, one tile or one pass, against the CPU.

The op table's samples are small; these cross the boundaries at which a kernel changes its way: rows that no longer fit
registers or shared memory, sorts of many blocks, products of several tiles with odd edges, splits of long sums.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import glassgrad as gg
from glassgrad.nn import functional as F
from test_op_table import normwise
from test_op_table_device import DEVICE, fetched

TOLERANCE = {gg.float64: 1e-10, gg.float32: 3e-5, gg.float16: 4e-3, gg.bfloat16: 3e-2}


def compare(fn: Callable[..., Any], *inputs: gg.Tensor, tolerance: float | None = None) -> None:
    """Values and gradients of fn there and here; the gradients of a fixed random direction."""

    def run(device: str) -> list[Any]:
        gg.manual_seed(1)
        xs = [x.detach().to(device).requires_grad_(x.requires_grad) for x in inputs]
        ys = fn(*xs)
        ys = list(ys) if isinstance(ys, tuple) else [ys]
        found = [fetched(y) for y in ys]
        wanted = [x for x in xs if x.requires_grad]
        ys = [y for y in ys if y.requires_grad]
        if wanted and ys:
            gg.manual_seed(2)
            dys = [gg.randn(y.shape, dtype=gg.float32).to(y.dtype).to(device) for y in ys]
            found += [fetched(g) for g in gg.autograd.grad(ys, wanted, dys)]
        return found

    bound = tolerance or max(TOLERANCE.get(x.dtype, 0.0) for x in inputs)
    for i, (there, here) in enumerate(zip(run(DEVICE), run("cpu"), strict=True)):
        normwise(there, here, bound, bound * 0.01, f"result {i}")


def normal(*shape: int, dtype: Any = gg.float32, grad: bool = True) -> gg.Tensor:
    gg.manual_seed(sum(shape))
    x = gg.randn(*shape).to(dtype)
    return x.requires_grad_(grad)


ROWS = [(3, 31), (70, 257), (2, 1024), (5, 4099), (1, 70000), (300, 7), (2000, 3)]


@pytest.mark.parametrize("dtype", [gg.float32, gg.bfloat16])
@pytest.mark.parametrize("shape", ROWS)
@pytest.mark.parametrize("fn", [F.softmax, F.log_softmax], ids=["softmax", "log_softmax"])
def test_softmax(fn: Any, shape: Any, dtype: Any) -> None:
    compare(lambda x: fn(x, dim=1), normal(*shape, dtype=dtype))


@pytest.mark.parametrize("shape", [(40, 5, 33), (2, 300, 70), (3, 1500, 2), (1, 6000, 3)])
def test_softmax_columns(shape: Any) -> None:
    compare(lambda x: F.softmax(x, dim=1), normal(*shape))


@pytest.mark.parametrize("dtype", [gg.float32, gg.float16])
@pytest.mark.parametrize("shape", [(33, 10), (7, 5000), (3, 40000)])
def test_cross_entropy(shape: Any, dtype: Any) -> None:
    gg.manual_seed(0)
    target = gg.randint(0, shape[1], (shape[0],))
    compare(lambda x, t: F.cross_entropy(x, t, label_smoothing=0.1), normal(*shape, dtype=dtype), target)
    compare(lambda x, t: F.cross_entropy(x, t, reduction="none"), normal(*shape, dtype=dtype), target)


@pytest.mark.parametrize("dtype", [gg.float32, gg.bfloat16])
@pytest.mark.parametrize("shape", ROWS)
def test_layer_norm(shape: Any, dtype: Any) -> None:
    n = shape[-1]
    compare(lambda x, w, b: F.layer_norm(x, (n,), w, b), normal(*shape, dtype=dtype), normal(n), normal(n))
    compare(lambda x, w: F.rms_norm(x, (n,), w), normal(*shape, dtype=dtype), normal(n))


@pytest.mark.parametrize("shape", [(2, 6, 5, 7), (3, 32, 40, 33), (70, 3, 9), (2, 500, 3)])
def test_batch_and_group_norm(shape: Any) -> None:
    c = shape[1]
    compare(lambda x, w, b: F.batch_norm(x, None, None, w, b, training=True), normal(*shape), normal(c), normal(c))
    groups = 3 if c % 3 == 0 else 2
    compare(lambda x, w, b: F.group_norm(x, groups, w, b), normal(*shape), normal(c), normal(c))


REDUCTIONS = {
    "sum": lambda x, d: x.sum(d),
    "mean": lambda x, d: x.mean(d),
    "var": lambda x, d: x.var(d),
    "amax": lambda x, d: x.amax(d),
    "logsumexp": lambda x, d: x.logsumexp(d),
    "norm": lambda x, d: x.norm(dim=d),
    "any": lambda x, d: (x > 2).any(d),
    "count_nonzero": lambda x, d: x.count_nonzero(d),
}


@pytest.mark.parametrize("name", REDUCTIONS)
@pytest.mark.parametrize(
    ("shape", "dim"),
    [((100000,), 0), ((3, 33000), 1), ((33000, 3), 0), ((700, 90), 1), ((700, 90), 0), ((9, 300, 11, 20), (0, 2))],
)
def test_reductions(name: str, shape: Any, dim: Any) -> None:
    if isinstance(dim, tuple) and name in ("any", "norm"):
        dim = dim[0]
    compare(lambda x: REDUCTIONS[name](x, dim), normal(*shape, grad=name not in ("any", "count_nonzero")))


@pytest.mark.parametrize("shape", [(50000,), (3, 9000), (9000, 3)])
def test_extrema_and_scans(shape: Any) -> None:
    dim = shape.index(max(shape))
    x = normal(*shape)
    compare(lambda x: x.argmax(dim), x)
    compare(lambda x: x.cumsum(dim), x.double())
    compare(lambda x: x.cummax(dim)[0], x)
    compare(lambda x: gg.logcumsumexp(x, dim), x)


@pytest.mark.parametrize("dtype", [gg.float32, gg.int64, gg.uint8, gg.float16])
@pytest.mark.parametrize("shape", [(5, 700), (3, 5000), (1, 70000), (400, 9)])
def test_sort(shape: Any, dtype: Any) -> None:
    gg.manual_seed(0)
    x = (gg.randn(*shape) * 50).to(dtype)
    for descending in (False, True):
        compare(lambda x, d=descending: gg.sort(x, dim=1, stable=True, descending=d), x, tolerance=1e-30)
    compare(lambda x: gg.topk(x, min(9, x.shape[1]), dim=1)[0], x, tolerance=1e-30)
    compare(lambda x: gg.unique(x), x, tolerance=1e-30)


@pytest.mark.parametrize("n", [1000, 30000])
def test_index_and_embedding(n: int) -> None:
    gg.manual_seed(0)
    index = gg.randint(0, 300, (n,))
    compare(lambda w, i: F.embedding(i, w), normal(300, 20), index)
    compare(lambda x, v, i: x.index_add(0, i, v), normal(300, 5), normal(n, 5), index)
    compare(lambda x, i: x[i], normal(300, 5), index)
    compare(lambda x, v, i: x.scatter_add(0, i[:, None].expand(n, 3), v), normal(300, 3), normal(n, 3), index)
    compare(lambda x: gg.nonzero(x > 1), normal(n, grad=False), tolerance=1e-30)
    compare(lambda i: gg.bincount(i), index, tolerance=1e-30)


@pytest.mark.parametrize("dtype", [gg.float32, gg.bfloat16, gg.float16, gg.float64])
@pytest.mark.parametrize(
    ("m", "n", "k"), [(1, 300, 513), (130, 1, 70), (129, 257, 65), (64, 64, 3000), (200, 136, 72), (33, 34, 35)]
)
def test_products(m: int, n: int, k: int, dtype: Any) -> None:
    compare(lambda a, b: a @ b, normal(m, k, dtype=dtype), normal(k, n, dtype=dtype))
    compare(lambda a, b: a.t() @ b.t(), normal(k, m, dtype=dtype), normal(n, k, dtype=dtype))
    compare(
        lambda x, w, b: F.linear(x, w, b), normal(m, k, dtype=dtype), normal(n, k, dtype=dtype), normal(n).to(dtype)
    )


@pytest.mark.parametrize("dtype", [gg.float32, gg.bfloat16])
def test_batched_products(dtype: Any) -> None:
    compare(lambda a, b: a @ b, normal(5, 70, 40, dtype=dtype), normal(5, 40, 72, dtype=dtype))
    compare(lambda a, b: a @ b, normal(2, 3, 70, 40, dtype=dtype), normal(3, 40, 72, dtype=dtype))
    compare(lambda a, b: a @ b, normal(4, 70, 40, dtype=dtype), normal(40, 72, dtype=dtype))


CONVOLUTIONS = [
    ((2, 3, 33, 31), (16, 3, 3, 3), {"padding": 1}),
    ((3, 32, 14, 14), (48, 32, 3, 3), {"stride": 2, "padding": 1}),
    ((2, 64, 9, 9), (40, 64, 1, 1), {}),
    ((2, 24, 17, 17), (24, 1, 5, 5), {"groups": 24, "padding": 2}),
    ((2, 12, 17, 17), (18, 4, 3, 3), {"groups": 3, "dilation": 2}),
    ((2, 5, 300), (7, 5, 9), {"stride": 3}),
    ((1, 3, 7, 8, 9), (6, 3, 3, 3, 3), {"padding": 1}),
]


@pytest.mark.parametrize("dtype", [gg.float32, gg.bfloat16])
@pytest.mark.parametrize("case", CONVOLUTIONS, ids=[str(c[1]) for c in CONVOLUTIONS])
def test_convolutions(case: Any, dtype: Any) -> None:
    x, w, options = case
    fn = {3: F.conv1d, 4: F.conv2d, 5: F.conv3d}[len(x)]
    compare(
        lambda x, w, b: fn(x, w, b, **options), normal(*x, dtype=dtype), normal(*w, dtype=dtype), normal(w[0]).to(dtype)
    )


def test_transposed_convolution() -> None:
    compare(
        lambda x, w, b: F.conv_transpose2d(x, w, b, stride=2, padding=1),
        normal(2, 20, 9, 9),
        normal(20, 12, 4, 4),
        normal(12),
    )


def test_pooling_and_resampling() -> None:
    x = normal(2, 5, 37, 41)
    compare(lambda x: F.max_pool2d(x, 3, stride=2, padding=1), x)
    compare(lambda x: F.avg_pool2d(x, 3, stride=2, padding=1), x)
    compare(lambda x: F.adaptive_avg_pool2d(x, (7, 5)), x)
    compare(lambda x: F.interpolate(x, scale_factor=1.7, mode="bilinear", align_corners=False), x)
    compare(lambda x: F.unfold(x, 3, padding=1), x)
    grid = (gg.rand(2, 20, 30, 2) * 2 - 1).requires_grad_()
    compare(lambda x, g: F.grid_sample(x, g, align_corners=False), x, grid)


@pytest.mark.parametrize("dtype", [gg.float32, gg.bfloat16, gg.float64])
@pytest.mark.parametrize(
    ("heads", "kv_heads", "length", "keys", "size"), [(1, 1, 150, 150, 64), (2, 1, 65, 100, 128), (2, 1, 33, 70, 40)]
)
@pytest.mark.parametrize("causal", [False, True])
def test_attention(heads: int, kv_heads: int, length: int, keys: int, size: int, causal: bool, dtype: Any) -> None:
    if causal:
        keys = length
    q, k, v = (normal(1, h, n, size, dtype=dtype) for h, n in ((heads, length), (kv_heads, keys), (kv_heads, keys)))
    compare(
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=causal, enable_gqa=heads != kv_heads), q, k, v
    )


def test_random_numbers_are_the_cpus() -> None:
    for draw in (gg.rand, gg.randn):
        gg.manual_seed(5)
        there = draw(30001, device=DEVICE)
        gg.manual_seed(5)
        normwise(fetched(there), fetched(draw(30001)), 1e-6, 1e-7, draw.__name__)
    gg.manual_seed(5)
    there = gg.randperm(5000, device=DEVICE)
    gg.manual_seed(5)
    assert (there.cpu() == gg.randperm(5000)).all()


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW", "RMSprop", "Adagrad"])
def test_optimizers(name: str) -> None:
    def train(device: str) -> list[Any]:
        gg.manual_seed(3)
        parameters = [gg.randn(n).to(device).requires_grad_() for n in (1, 7, 1000, 70001)]
        options = {"momentum": 0.9} if name == "SGD" else {}
        optimizer = getattr(gg.optim, name)(parameters, lr=0.01, weight_decay=0.01, **options)
        for _ in range(3):
            for p in parameters:
                p.grad = (p.detach() * 3).cos()
            optimizer.step()
        return [fetched(p.detach()) for p in parameters]

    for i, (there, here) in enumerate(zip(train(DEVICE), train("cpu"), strict=True)):
        normwise(there, here, 1e-5, 1e-6, f"{name}, parameter {i}")
