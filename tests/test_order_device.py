"""Sorting, indexing, embeddings, pooling and resampling on a device against the CPU, along every way of their kernels.

Sizes cross the bounds at which a sort changes from a network to a tile to passes over many tiles, and a scatter from
looking at neighbours to ordered destinations; keys hold what orders wrongly if anything does: NaN, both zeros,
infinities, ties. Destinations are also few, so that runs of equal ones cross chunks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import glassgrad as gg
from glassgrad import _core as core
from glassgrad.nn import functional as F
from test_op_table import normwise
from test_op_table_device import DEVICE, fetched

TOLERANCE = {"float64": 1e-12, "float32": 2e-5, "float16": 4e-3, "bfloat16": 3e-2}
ALL = ("float64", "float32", "float16", "bfloat16", "uint8", "int8", "int16", "int32", "int64", "bool")


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.fixture(params=["forward", "random"])
def schedule(request: Any) -> Iterator[None]:
    """Threads in their own order, and in one that shows who relies on it."""
    if DEVICE != "simt":
        if request.param == "random":
            pytest.skip("only simt chooses the order of threads")
        yield
        return
    import glassgrad._simt as simt

    before = simt.get_schedule()
    simt.set_schedule(request.param, 3)
    yield
    simt.set_schedule(*before)


def tensor(a: Any, dtype: str) -> gg.Tensor:
    return gg.tensor(a).to(getattr(gg, dtype))


def numbers(rng: np.random.Generator, shape: tuple[int, ...], dtype: str, few: bool) -> gg.Tensor:
    """Random elements with ties where few, and with every special value that the dtype has."""
    a = rng.standard_normal(shape) * (3 if few else 1000)
    if few:
        a = np.trunc(a)
    if dtype in TOLERANCE and a.size > 4:
        for special in (np.nan, -np.nan, -0.0, 0.0, np.inf, -np.inf):
            a.ravel()[rng.integers(0, a.size, 1 + a.size // 30)] = special
    elif dtype == "int64" and not few:
        return gg.tensor((a * 2**40).astype(np.int64))
    elif dtype == "bool":
        a = a > 0
    elif dtype != "int64":
        a = a.astype(np.int64).astype(dtype)
    return tensor(a, dtype)


def compare(fn: Callable[..., Any], *inputs: Any, exact: bool = False) -> None:
    """fn of the inputs there and here: the same bits where exact, else equal up to rounding."""

    def moved(value: Any) -> Any:
        if isinstance(value, list):
            return [moved(v) for v in value]
        return value.to(DEVICE) if isinstance(value, gg.Tensor) else value

    there, here = fn(*map(moved, inputs)), fn(*inputs)
    if isinstance(here, gg.Tensor):
        there, here = [there], [here]
    for i, (a, b) in enumerate(zip(there, here, strict=True)):
        if b is None:
            continue
        assert a.shape == b.shape and a.dtype == b.dtype, f"result {i}"
        if exact or b.dtype.name not in TOLERANCE:
            assert np.array_equal(fetched(a), fetched(b), equal_nan=b.dtype.name in TOLERANCE), f"result {i}"
        else:
            bound = TOLERANCE[b.dtype.name]
            normwise(fetched(a), fetched(b), bound, bound, f"result {i}")


# 512: a network's rows; 2048 and 4096: tiles of wide and other elements.
LENGTHS = [1, 2, 31, 512, 513, 2049, 4097]


@pytest.mark.parametrize("few", [True, False], ids=["ties", "distinct"])
@pytest.mark.parametrize("dtype", ALL)
def test_sort(dtype: str, few: bool, rng: np.random.Generator, schedule: None) -> None:
    for n in LENGTHS if dtype in ("float32", "int64") else [3, 600]:
        x = numbers(rng, (2, n), dtype, few)
        for descending in (False, True):
            compare(lambda x, d=descending: core.sort(x, -1, d), x, exact=True)


@pytest.mark.parametrize("shape", [(200, 5), (7, 100), (3, 300)])
def test_sort_of_rows_that_share_a_block(shape: Any, rng: np.random.Generator, schedule: None) -> None:
    compare(lambda x: core.sort(x, -1, False), numbers(rng, shape, "float32", True), exact=True)


def test_sort_carries_the_bits_of_elements(rng: np.random.Generator) -> None:
    """Zeros keep their sign, though they are equal."""
    x = gg.tensor(np.where(rng.random(5000) < 0.5, -0.0, 0.0).astype(np.float32))
    y, order = gg.sort(x.to(DEVICE))
    assert np.array_equal(order.cpu().numpy(), np.arange(5000))
    assert np.array_equal(np.signbit(y.cpu().numpy()), np.signbit(x.numpy()))


@pytest.mark.parametrize("dtype", ["float32", "float64", "int16"])
@pytest.mark.parametrize(("n", "k"), [(300, 7), (4096, 100), (9000, 10), (9000, 700), (9000, 3000), (70000, 30)])
def test_topk(n: int, k: int, dtype: str, rng: np.random.Generator) -> None:
    x = numbers(rng, (1 if n > 9000 else 2, n), dtype, True)
    for largest in (False, True):
        compare(lambda x, d=largest: core.topk(x, k, -1, d), x, exact=True)


@pytest.mark.parametrize("n", [5, 700, 5000])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int64"])
def test_order_statistics(n: int, dtype: str, rng: np.random.Generator) -> None:
    for few in (True, False):
        x = numbers(rng, (3, n), dtype, few)
        compare(lambda x: core.kthvalue(x, (n + 2) // 3, -1), x, exact=True)
        compare(lambda x: core.median(x, -1, False), x, exact=True)
        compare(lambda x: core.median(x, -1, True), x, exact=True)
        compare(lambda x: core.mode(x, -1), x, exact=True)


def test_mode_of_pieces(rng: np.random.Generator) -> None:
    """Runs longer than a block looks at; NaNs are no run."""
    x = np.repeat([3.0, 1.0, np.nan, 2.0], [9000, 2000, 9500, 500]).astype(np.float32)
    compare(lambda x: core.mode(x, -1), gg.tensor(rng.permutation(x)), exact=True)
    compare(lambda x: core.mode(x, -1), gg.tensor(np.full(3, np.nan)), exact=True)


@pytest.mark.parametrize("shape", [(50, 3), (700, 2), (5000, 2), (900, 9), (300, 20)])
def test_unique_rows(shape: Any, rng: np.random.Generator, schedule: None) -> None:
    x = gg.tensor(rng.integers(-2, 3, shape))
    compare(lambda x: core.unique(x, 0, True, True, True), x, exact=True)
    compare(lambda x: core.unique(x, 0, False, True, True), x, exact=True)
    compare(lambda x: core.unique(x, None, True, True, True), x.float(), exact=True)


@pytest.mark.parametrize("dtype", ["float32", "float16", "int32", "uint8"])
def test_search(dtype: str, rng: np.random.Generator) -> None:
    x, v = numbers(rng, (600,), dtype, True), numbers(rng, (7, 9), dtype, True)
    for right in (False, True):
        compare(lambda x, v, r=right: core.searchsorted("", core.sort(x, -1, False)[0], v, False, r, None), x, v)
    compare(lambda x, v: core.isin(v, x, False), x, v)


# 64: looked at; 2048: ordered by one block; more: in passes. Of n positions all, some or one destination.
POSITIONS = [1, 64, 65, 700, 2100, 4500]
FOLDS = ["sum", "prod", "amax", "amin", "mean"]


@pytest.mark.parametrize("spread", [1, 13, 3000])
@pytest.mark.parametrize("n", POSITIONS)
def test_index_writes(n: int, spread: int, rng: np.random.Generator, schedule: None) -> None:
    index = gg.tensor(rng.integers(-spread, spread, n))
    for width, dtype in ((8, "float32"), (3, "float32"), (8, "bfloat16"), (3, "int16"), (2, "float64")):
        if width * n > 20000 or (dtype != "float32" and n > 2100):
            continue
        x, v = tensor(rng.standard_normal((spread, width)), dtype), tensor(rng.standard_normal((n, width)), dtype)
        compare(lambda x, i, v: x.index_put([i], v), x, index, v, exact=True)
        compare(lambda x, i, v: x.index_put([i], v, accumulate=True), x, index, v)
        compare(lambda x, i, v: x.t().index_put([slice(None), i], v.t(), accumulate=True), x, index, v)


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8", "int32", "int64", "bool"])
@pytest.mark.parametrize("n", POSITIONS)
def test_scatters_along_an_axis(n: int, dtype: str, rng: np.random.Generator) -> None:
    x, src = tensor(rng.standard_normal((2, 500)) * 2, dtype), tensor(rng.standard_normal((2, n)) * 2, dtype)
    index = gg.tensor(rng.integers(0, 500, (2, n)))
    compare(lambda x, i: x.gather(1, i), x, index, exact=True)
    compare(lambda x, i, s: x.scatter(1, i, s), x, index, src, exact=True)
    compare(lambda x, i, s: x.t().scatter(0, i.t(), s.t()), x, index, src, exact=True)
    for fold in FOLDS if n <= 700 else ["sum", "amax"]:
        if dtype != "bool" or fold != "mean":
            compare(lambda x, i, s, f=fold: x.scatter_reduce(1, i, s, f), x, index, src)


def test_sums_have_one_order(rng: np.random.Generator) -> None:
    """All into a few rows, thousands each: the same bits run after run, whatever the schedule."""
    index, v = gg.tensor(rng.integers(0, 3, 6000)), gg.tensor(rng.standard_normal((6000, 4)).astype(np.float32))
    runs = [gg.zeros(3, 4).to(DEVICE).index_add(0, index.to(DEVICE), v.to(DEVICE)).cpu().numpy() for _ in range(2)]
    assert runs[0].tobytes() == runs[1].tobytes()
    exact = np.zeros((3, 4))
    np.add.at(exact, index.numpy(), v.numpy().astype(np.float64))
    assert np.abs(runs[0] - exact).max() < 1e-4


@pytest.mark.parametrize("n", [100, 40000, 100000])
def test_masks(n: int, rng: np.random.Generator) -> None:
    x, mask = gg.tensor(rng.standard_normal(n).astype(np.float32)), gg.tensor(rng.random(n) < 0.3)
    compare(lambda m: gg.nonzero(m.reshape(-1, 10)), mask)
    compare(lambda x, m: x[m], x, mask, exact=True)
    compare(lambda x, m: x.masked_fill(m, 2.5), x, mask, exact=True)
    compare(lambda x, m: x[1:].masked_fill(m[:-1], 2.5), x, mask, exact=True)
    compare(lambda x, m: x.masked_scatter(m, x * 2), x, mask, exact=True)
    compare(lambda x: core.histogram(x, 50, -2.0, 2.0), x)
    compare(lambda x: core.histogram(x, 5000, -2.0, 2.0), x)


@pytest.mark.parametrize(
    ("name", "fn"),
    [
        ("index", lambda x, i: x[i]),
        ("gather", lambda x, i: x.gather(0, i)),
        ("scatter", lambda x, i: x.scatter(0, i, 1.0)),
        ("scatter_add", lambda x, i: x.scatter_add(0, i, x[: i.shape[0]])),
        ("embedding", lambda x, i: F.embedding(i, x.reshape(-1, 1))),
    ],
)
def test_a_bad_index_is_an_error_and_no_more(name: str, fn: Any, rng: np.random.Generator) -> None:
    x, good = gg.tensor(rng.standard_normal(200)).to(DEVICE), rng.integers(0, 200, 150)
    for at in (0, 149):
        bad = good.copy()
        bad[at:] = 10**12
        with pytest.raises(IndexError, match=rf"{name}: index 1000000000000 is out of bounds for axis 0 of .*200"):
            fn(x, gg.tensor(bad).to(DEVICE))
    assert fn(x, gg.tensor(good).to(DEVICE)).shape[0] in (150, 200)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
@pytest.mark.parametrize("n", [1, 300, 700, 3000, 5000])
def test_embedding_gradient(n: int, dtype: str, rng: np.random.Generator, schedule: None) -> None:
    for rows, width in ((2, 8), (900, 5), (70000, 4)):
        if dtype != "float32" and (n > 700 or rows > 900):
            continue
        dy, index = tensor(rng.standard_normal((n, width)), dtype), gg.tensor(rng.integers(0, rows, n))
        scale, source = tensor(rng.standard_normal(n), dtype), gg.tensor(rng.integers(0, n, n))
        compare(lambda dy, i, r=rows: core.embedding_backward(dy, i, r, -1, None, None), dy, index)
        compare(lambda dy, i, s, j, r=rows: core.embedding_backward(dy, i, r, 1, s, j), dy, index, scale, source)


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
def test_embedding_bags(mode: str, rng: np.random.Generator) -> None:
    w, index = gg.tensor(rng.standard_normal((40, 12))).float(), gg.tensor(rng.integers(0, 40, 500))
    offsets = gg.tensor(np.sort(np.concatenate([[0], rng.integers(0, 500, 20)])))
    compare(lambda i, w, o: F.embedding_bag(i, w, o, mode=mode, padding_idx=3), index, w, offsets)

    def norms(i: gg.Tensor, w: gg.Tensor) -> gg.Tensor:
        w = w.clone()
        F.embedding(i, w, max_norm=2.0, norm_type=3.0)
        return w

    compare(norms, index, w)


WINDOWS = [
    {"kernel_size": 2},
    {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True},
    {"kernel_size": 3, "stride": 1, "padding": 1, "dilation": 2},
    {"kernel_size": (5, 20), "stride": (3, 2), "padding": (2, 10), "ceil_mode": True},
]


@pytest.mark.parametrize("options", WINDOWS, ids=str)
def test_max_pool(options: Any, rng: np.random.Generator, schedule: None) -> None:
    x = np.trunc(rng.standard_normal((2, 3, 17, 40)) * 3)
    x.ravel()[rng.integers(0, x.size, 9)] = np.nan
    x.ravel()[rng.integers(0, x.size, x.size // 3)] = -np.inf

    def pooled(x: gg.Tensor) -> Any:
        x = x.detach().requires_grad_()
        y, index = F.max_pool2d(x, **options, return_indices=True)
        (dx,) = gg.autograd.grad(y, [x], [(index % 7 - 3).to(y.dtype)])
        return y, index, dx, core.pool_scatter(y.detach(), 2, index, x.shape, None, (), (), ())

    compare(pooled, gg.tensor(x).float(), exact=True)
    compare(pooled, gg.tensor(x), exact=True)


@pytest.mark.parametrize("size", [1, (3, 5), (17, 40), (20, 7)], ids=str)
def test_adaptive_pools(size: Any, rng: np.random.Generator, schedule: None) -> None:
    def pooled(x: gg.Tensor) -> Any:
        x = x.detach().requires_grad_()
        y, index = F.adaptive_max_pool2d(x, size, return_indices=True)
        mean = F.adaptive_avg_pool2d(x, size)
        return (y, index, mean, *gg.autograd.grad([y, mean], [x], [y.detach(), mean.detach()]))

    compare(pooled, gg.tensor(rng.standard_normal((2, 3, 17, 40))).float())


@pytest.mark.parametrize("options", [o for o in WINDOWS if "dilation" not in o], ids=str)
def test_avg_pool(options: Any, rng: np.random.Generator, schedule: None) -> None:
    def pooled(x: gg.Tensor) -> Any:
        x = x.detach().requires_grad_()
        y, z = F.avg_pool2d(x, **options), F.avg_pool2d(x, **options, count_include_pad=False)
        return (y, z, *gg.autograd.grad([y, z], [x], [y.detach(), z.detach()]))

    compare(pooled, gg.tensor(rng.standard_normal((2, 3, 17, 40))).float())


def test_unpool_keeps_the_last(rng: np.random.Generator, schedule: None) -> None:
    y, index = gg.tensor(rng.standard_normal((4, 30))), gg.tensor(rng.integers(0, 50, (4, 30)))
    compare(lambda y, i: core.max_unpool_forward(y, 1, i, [50]), y, index, exact=True)
    with pytest.raises(IndexError, match="outside of the output"):
        core.max_unpool_forward(y.to(DEVICE), 1, (index + 1).to(DEVICE), [int(index.max().item())])


@pytest.mark.parametrize("mode", ["nearest", "bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(5, 7), (40, 33)])
def test_interpolate(size: Any, mode: str, rng: np.random.Generator, schedule: None) -> None:
    def resized(x: gg.Tensor) -> Any:
        x = x.detach().requires_grad_()
        ys = [F.interpolate(x, size, mode=mode)]
        if mode != "nearest":
            ys += [
                F.interpolate(x, size, mode=mode, align_corners=True),
                F.interpolate(x, size, mode=mode, antialias=True),
            ]
        return (*ys, *gg.autograd.grad(ys, [x], [y.detach() for y in ys]))

    compare(resized, gg.tensor(rng.standard_normal((2, 3, 17, 20))).float())


@pytest.mark.parametrize("points", ["spread", "one place"])
@pytest.mark.parametrize("mode", ["nearest", "bilinear", "bicubic"])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
def test_grid_sample(padding: str, mode: str, points: str, rng: np.random.Generator, schedule: None) -> None:
    """Points that all fall on one place are summed by chunks that their run crosses."""

    def sampled(x: gg.Tensor, grid: gg.Tensor) -> Any:
        x, grid = x.detach().requires_grad_(), grid.detach().requires_grad_()
        y = F.grid_sample(x, grid, mode, padding, align_corners=False)
        return (y, *gg.autograd.grad(y, [x, grid], y.detach()))

    grid = rng.uniform(-1.5, 1.5, (2, 30, 40, 2)) if points == "spread" else np.full((2, 30, 40, 2), 0.21)
    compare(sampled, gg.tensor(rng.standard_normal((2, 11, 9, 8))), gg.tensor(grid))


@pytest.mark.parametrize("options", [(2, 1, 0, 1), ((3, 2), 1, 1, (2, 1)), ((2, 3), (2, 1), (1, 2), (1, 3))], ids=str)
def test_unfold_and_fold(options: Any, rng: np.random.Generator) -> None:
    x = gg.tensor(rng.standard_normal((2, 3, 9, 30))).float()
    compare(lambda x: core.unfold_forward(x, *options), x, exact=True)
    compare(lambda y: core.fold_forward(y, (9, 30), *options), core.unfold_forward(x, *options))


@pytest.mark.parametrize("device", ["cpu", DEVICE])
@pytest.mark.parametrize(("shape", "dim"), [((40, 6), 0), ((6, 40), 1), ((5, 7, 6), 1), ((0, 7), 1)])
def test_an_expanded_index_is_any_index(shape: Any, dim: int, device: str, rng: np.random.Generator) -> None:
    sizes = [9 if d == dim else n for d, n in enumerate(shape)]
    row = gg.tensor(rng.integers(0, shape[dim], 9)).to(device)
    one = [9 if d == dim else 1 for d in range(len(shape))]
    index = row.reshape(one).expand(sizes)
    x, v = (gg.tensor(rng.standard_normal(s)).float().to(device) for s in (shape, sizes))
    for fn in (
        lambda i: x.gather(dim, i),
        lambda i: x.scatter(dim, i, v),
        lambda i: x.scatter_add(dim, i, v),
        lambda i: x.scatter_reduce(dim, i, v, "mean", include_self=False),
    ):
        normwise(fetched(fn(index)), fetched(fn(index.contiguous())), 1e-6, 1e-6, str(shape))
    if x.numel():
        with pytest.raises(IndexError, match=rf"gather: index {shape[dim]} is out of bounds for axis {dim}"):
            x.gather(dim, index * 0 + shape[dim])
        with pytest.raises(IndexError, match=rf"scatter: index {shape[dim]} is out of bounds for axis {dim}"):
            x.scatter(dim, (row * 0 + shape[dim]).reshape(one).expand(sizes), 1.0)
