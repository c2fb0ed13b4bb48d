"""Copies, elementwise ops, random numbers and optimizers on a device against the CPU.

What the op table's samples leave out: every pair of dtypes, ways of lying in memory that choose a kernel's path (whole
runs, parts of them, other alignments, transposes of odd sizes), numbers beside tensors, every rule of an optimizer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

import glassgrad as gg
from glassgrad import _core as core
from op_table import ALL, FLOATS, INTS
from test_op_table_device import DEVICE
from test_optim import RULES

DTYPES = {name: getattr(gg, name) for name in ALL}


def whole(shape: Sequence[int], dtype: str, seed: int = 0) -> gg.Tensor:
    """Numbers that every dtype with room for a fraction or a sign holds."""
    r = np.random.default_rng(seed)
    a = r.integers(-9, 10, tuple(shape)) / (4.0 if dtype in FLOATS else 1.0)
    return gg.from_numpy(np.asarray(np.abs(a) if dtype == "uint8" else a)).to(DTYPES[dtype])


def same(there: gg.Tensor, here: gg.Tensor, what: object = "") -> None:
    assert there.dtype == here.dtype and there.shape == here.shape, what
    a, b = (t.detach().cpu().to(gg.float64).numpy() for t in (there, here))
    np.testing.assert_array_equal(a, b, err_msg=str(what))


VIEWS: dict[str, Callable[[gg.Tensor], gg.Tensor]] = {
    "whole": lambda x: x,
    "behind one element": lambda x: x.reshape(-1)[1:],
    "matrices transposed": lambda x: x.transpose(1, 2),
    "first axis last": lambda x: x.permute(1, 2, 0),
    "last axis first": lambda x: x.permute(2, 0, 1),
    "every axis turned": lambda x: x.permute(2, 1, 0),
    "every other row": lambda x: x[:, ::2, 1:],
    "every other column": lambda x: x[..., ::2],
    "rows repeated": lambda x: x[:, :1].expand(x.shape[0], 5, x.shape[2]),
    "columns repeated": lambda x: x[:, :, :1].expand(*x.shape[:2], 7),
    "one element": lambda x: x[0, 0, 0],
}


@pytest.mark.parametrize("dtype", ["bool", "int16", "float32", "float64"])
@pytest.mark.parametrize("view", VIEWS)
def test_copies(view: str, dtype: str) -> None:
    for shape in ((3, 5, 7), (2, 64, 64), (1, 70, 130), (4, 33, 16), (2, 130, 3), (1, 1, 5000)):
        x = whole(shape, dtype)
        here, there = VIEWS[view](x), VIEWS[view](x.to(DEVICE))
        same(there.clone(), here.clone(), shape)
        for dims in ((0,), (-1,), tuple(range(here.ndim))):
            if here.ndim:
                same(there.flip(dims), here.flip(dims), (shape, dims))
        ys = [gg.zeros_like(x, device=d) for d in ("cpu", DEVICE)]
        for y, v in zip(ys, (here, there), strict=True):
            target = VIEWS[view](y)
            if "repeated" not in view:
                target.copy_(v.contiguous())
        same(ys[1], ys[0], shape)


@pytest.mark.parametrize("to", ALL)
@pytest.mark.parametrize("dtype", ALL)
def test_conversions(dtype: str, to: str) -> None:
    x = whole((4, 9, 33), dtype)
    for view in ("whole", "behind one element", "last axis first", "every other column"):
        here, there = VIEWS[view](x), VIEWS[view](x.to(DEVICE))
        same(there.to(DTYPES[to]), here.to(DTYPES[to]), view)


@pytest.mark.parametrize("dtype", ALL)
def test_fills(dtype: str) -> None:
    for n in (1, 15, 16, 17, 33, 4099):
        for start in (0, 1, 3):
            here = whole((n + 4,), dtype)
            there = here.to(DEVICE)
            for x in (here, there):
                x[start : start + n].fill_(3)
            same(there, here, (n, start))
    here = whole((9, 32), dtype)
    there = here.to(DEVICE)
    for x in (here, there):
        x[::2, 3:9] = 5
        x[:, ::4] = 1
    same(there, here)


@pytest.mark.parametrize("cols", [1, 30, 32, 48])
@pytest.mark.parametrize("dtype", ["bool", "bfloat16", "float32", "float64"])
def test_triangles(dtype: str, cols: int) -> None:
    here = whole((2, 35, cols), dtype)
    there = here.to(DEVICE)
    for diagonal in (-100, -3, 0, 1, 31, 100):
        same(there.tril(diagonal), here.tril(diagonal), diagonal)
        same(there.triu(diagonal), here.triu(diagonal), diagonal)
        for indices in (gg.tril_indices, gg.triu_indices):
            same(indices(7, cols % 9, diagonal, device=DEVICE), indices(7, cols % 9, diagonal), diagonal)


# Whole runs, rows of runs, rows that are none, each way to repeat, single numbers.
PAIRS = [
    ((4, 6), (4, 6)),
    ((2000,), (2000,)),
    ((7, 9), (9,)),
    ((5, 8), (5, 1)),
    ((16, 64), (64,)),
    ((2, 3, 8), (3, 1)),
    ((1,), (3, 5)),
    ((), (6,)),
    ((6,), ()),
]
OPS: list[Callable[[Any, Any], gg.Tensor]] = [
    lambda a, b: a + b,
    lambda a, b: a * b,
    lambda a, b: a == b,
    lambda a, b: a < b,
]


@pytest.mark.parametrize("other", ALL)
@pytest.mark.parametrize("dtype", ALL)
def test_pairs_of_dtypes(dtype: str, other: str) -> None:
    for shape, other_shape in PAIRS:
        a, b = whole(shape, dtype), whole(other_shape, other, 1)
        for i, op in enumerate(OPS):
            same(op(a.to(DEVICE), b.to(DEVICE)), op(a, b), (shape, other_shape, i))


@pytest.mark.parametrize("dtype", ALL)
def test_numbers_beside_tensors(dtype: str) -> None:
    here = whole((7, 16), dtype)
    there = here.to(DEVICE)
    numbers = [True, 2, 0.5, gg.tensor(3), gg.tensor(0.25, dtype=gg.float16), gg.tensor(True)]
    for number in numbers:
        for i, op in enumerate(OPS):
            same(op(there, number), op(here, number), (number, i))
            same(op(number, there), op(number, here), (number, i))
        same(gg.where(there > 0, there, number), gg.where(here > 0, here, number), number)
        same(gg.where(there > 0, number, there), gg.where(here > 0, number, here), number)
    if dtype != "bool":
        for x in (here, there):
            x += 1
            x *= 2
        same(there, here)


def test_more_than_one_grid() -> None:
    """Loops that every thread walks more than once: simt's grids have few blocks."""
    here = whole((300_007,), "float32")
    there = here.to(DEVICE)
    same(there.clone(), here.clone())
    same(there[1:].clone(), here[1:].clone())
    same(there.to(gg.bfloat16), here.to(gg.bfloat16))
    same(there[2:].to(gg.int32), here[2:].to(gg.int32))
    same(there * 2 + there, here * 2 + here)
    same(there[1:] + there[:-1], here[1:] + here[:-1])
    matrix, other = here[:300_000].reshape(500, 600), there[:300_000].reshape(500, 600)
    same(other.t().contiguous(), matrix.t().contiguous())
    same(other + other[:1], matrix + matrix[:1])
    same(other.tril(), matrix.tril())
    same(gg.full((300_007,), 3, dtype=gg.int16, device=DEVICE), gg.full((300_007,), 3, dtype=gg.int16))
    same(gg.arange(300_007, device=DEVICE), gg.arange(300_007))
    same(*drawn(lambda t: t.normal_(), 300_007, "float32"))
    same(*drawn(lambda t: t.random_(), 100_007, "int64"))


def test_operands_of_several_devices() -> None:
    here, there = gg.ones(3), gg.ones(3, device=DEVICE)
    for call in (lambda: there + here, lambda: here + there, lambda: gg.where(there > 0, here, 1.0)):
        with pytest.raises(ValueError, match="move one with"):
            call()
    with pytest.raises(ValueError, match="move one with"):
        here.add_(gg.ones((), device=DEVICE))
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        there.to(gg.int64) // gg.tensor([1, 0, 2]).to(DEVICE)


DRAWS: dict[str, Callable[[gg.Tensor], Any]] = {
    "uniform": lambda t: t.uniform_(-1, 3),
    "normal": lambda t: t.normal_(1, 2),
    "log_normal": lambda t: t.log_normal_(0.5, 1.5),
    "exponential": lambda t: t.exponential_(2),
    "cauchy": lambda t: t.cauchy_(1, 2),
    "geometric": lambda t: t.geometric_(0.3),
    "bernoulli": lambda t: t.bernoulli_(0.3),
    "bernoulli of each": lambda t: t.copy_(gg.bernoulli(gg.linspace(0, 1, len(t), dtype=t.dtype, device=t.device))),
    "poisson": lambda t: t.copy_(gg.poisson(gg.ones_like(t) * 4)),
    "poisson of large rates": lambda t: t.copy_(gg.poisson(gg.ones_like(t) * 50)),
    "strided": lambda t: t[::2].normal_(),
}
WHOLE_DRAWS: dict[str, Callable[[gg.Tensor], Any]] = {
    "some": lambda t: t.random_(0, 100),
    "bernoulli": lambda t: t.bernoulli_(0.25),
    "always": lambda t: t.bernoulli_(1.0),
    "geometric": lambda t: t.geometric_(0.4),
}


def drawn(draw: Callable[[gg.Tensor], Any], n: int, dtype: str) -> list[gg.Tensor]:
    found = []
    for device in (DEVICE, "cpu"):
        gg.manual_seed(7)
        gg.rand(3)
        t = gg.zeros(n, dtype=DTYPES[dtype], device=device)
        draw(t)
        found.append(t)
    return found


@pytest.mark.parametrize(
    ("name", "dtype"), [(n, d) for n in DRAWS for d in FLOATS] + [(n, d) for n in WHOLE_DRAWS for d in INTS]
)
def test_draws_are_the_cpus(name: str, dtype: str) -> None:
    for n in (1, 31, 65, 129, 3000):
        same(*drawn((DRAWS if dtype in FLOATS else WHOLE_DRAWS)[name], n, dtype), n)


def test_whole_draws_of_any_range() -> None:
    for draw in (lambda t: t.random_(), lambda t: t.random_(-(2**40), 2**41), lambda t: t.random_(-(2**63), None)):
        same(*drawn(draw, 777, "int64"))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("p", [0.0, 0.3])
def test_dropout(p: float, dtype: str) -> None:
    for n in (1, 130, 1001):
        found = []
        for device in (DEVICE, "cpu"):
            gg.manual_seed(3)
            x = whole((n + 1,), dtype).to(device)[1:].detach().requires_grad_()
            y = gg.nn.functional.dropout(x, p)
            found.append((y, *gg.autograd.grad([y], [x], [gg.ones_like(y)])))
        for there, here in zip(*found, strict=True):
            same(there, here, n)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(("name", "options"), RULES, ids=lambda v: v if isinstance(v, str) else "-".join(v))
def test_optimizer_rules(name: str, options: dict[str, Any], dtype: str) -> None:
    def train(device: str) -> list[np.ndarray]:
        sizes = ((1,), (7,), (), (40, 33), (9001,))
        parameters = [whole(s, dtype, i).to(device).requires_grad_() for i, s in enumerate(sizes)]
        flat = whole((4098,), dtype, 9).to(device)
        parameters.append(flat[1:].requires_grad_())  # off a boundary of 16 bytes
        optimizer = getattr(gg.optim, name)(parameters, **options)
        for step in range(3):
            for i, p in enumerate(parameters):
                p.grad = whole(p.shape, dtype, 100 * step + i).to(device)
            optimizer.step()
        return [p.detach().cpu().to(gg.float64).numpy() for p in parameters]

    bound = {"float64": 1e-10, "float32": 1e-5, "float16": 4e-3, "bfloat16": 3e-2}[dtype]
    for there, here in zip(train(DEVICE), train("cpu"), strict=True):
        np.testing.assert_allclose(there, here, rtol=bound, atol=bound)


def test_ramps() -> None:
    for make in (
        lambda d: gg.arange(0, 1000, 7, device=d),
        lambda d: gg.arange(5, -40, -3, dtype=gg.int8, device=d),
        lambda d: gg.linspace(-3, 7, 101, dtype=gg.int32, device=d),
        lambda d: gg.eye(9, 5, device=d),
        lambda d: gg.full((3, 5), 2.5, dtype=gg.bfloat16, device=d),
    ):
        same(make(DEVICE), make("cpu"))
    for make in (
        lambda d: gg.arange(0.0, 1.0, 0.013, device=d),
        lambda d: gg.linspace(-3, 7, 1, device=d),
        lambda d: gg.linspace(-3, 7, 300, dtype=gg.float64, device=d),
        lambda d: gg.logspace(-2, 3, 57, device=d),
    ):
        a, b = make(DEVICE).cpu().numpy(), make("cpu").numpy()
        np.testing.assert_allclose(a, b, rtol=2e-6, atol=1e-6)


def test_repeats() -> None:
    for counts in ([3], [0, 2, 0, 0, 5, 1], list(range(40))):
        here = gg.tensor(counts)
        same(core.repeat_index(here.to(DEVICE), None), core.repeat_index(here, None))
