"""Softmax, norms, reductions, scans and losses on a device against the CPU: shapes for every way through their kernels.

The op table's samples are small; here rows outgrow a warp, a block's registers, its shared memory and a block's chunk,
and begin off 16-byte boundaries.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import glassgrad as gg
from glassgrad import _core as core
from test_op_table import normwise
from test_op_table_device import DEVICE

TOLERANCE = {"float64": 1e-12, "float32": 1e-5, "float16": 2e-3, "bfloat16": 1.6e-2}
ALL = tuple(TOLERANCE)
FLOAT = ("float32",)
WIDE = ("float32", "bfloat16")


class Inputs:
    """Random tensors of one dtype, the same on every device, `off` elements behind a 16-byte boundary."""

    def __init__(self, dtype: str, device: str, off: int = 0) -> None:
        self.rng, self.dtype, self.device, self.off = np.random.default_rng(5), dtype, device, off

    def put(self, a: np.ndarray, dtype: str | None = None) -> Any:
        """a on the device, behind self.off elements of its storage."""
        flat = gg.tensor(
            np.concatenate([np.zeros(self.off, a.dtype), a.ravel()]), dtype=getattr(gg, dtype or self.dtype)
        )
        return flat.to(self.device)[self.off :].reshape(a.shape)

    def normal(self, *shape: int, dtype: str | None = None) -> Any:
        return self.put(self.rng.standard_normal(shape), dtype)

    def integers(self, low: int, high: int, *shape: int) -> Any:
        return self.put(self.rng.integers(low, high, shape), "int64")


CASES: list[Any] = []


def case(*shapes: Any, dtypes: tuple[str, ...] = FLOAT, off: int = 0) -> Callable[[Any], Any]:
    """Registers a function of (inputs, *shape) for each shape."""

    def register(fn: Any) -> Any:
        for shape in shapes:
            for dtype in dtypes:
                name = f"{fn.__name__}-{'x'.join(map(str, shape))}-{dtype}" + (f"-off{off}" if off else "")
                CASES.append(pytest.param(fn, shape, dtype, off, id=name))
        return fn

    return register


def both_softmaxes(i: Inputs, x: Any, dim: int) -> list[Any]:
    found = []
    dy = i.normal(*x.shape)
    for name in "softmax", "log_softmax":
        y = getattr(core, f"{name}_forward")(x, dim)
        found += [y, getattr(core, f"{name}_backward")(dy, y, dim)]
    return found


@case((300, 7), (9, 1000), (3, 2048), (2, 8192), dtypes=ALL)
@case((5, 33), (3, 1001), (3, 8191), dtypes=ALL, off=1)
@case((2, 16384), (2, 20000), (1, 60001), dtypes=WIDE, off=1)
def softmax_rows(i: Inputs, rows: int, n: int) -> list[Any]:
    return both_softmaxes(i, i.normal(rows, n), 1)


@case((130, 16385), dtypes=("bfloat16",), off=1)
def softmax_of_many_long_rows(i: Inputs, rows: int, n: int) -> list[Any]:
    return both_softmaxes(i, i.normal(rows, n), 1)[:2]


@case((2, 3, 5), (3, 10, 70), (2, 100, 40), (1, 1500, 3), (1, 700, 300), dtypes=ALL)
def softmax_columns(i: Inputs, *shape: int) -> list[Any]:
    return both_softmaxes(i, i.normal(*shape), 1)


@case((4, 300), (3, 20000))
def softmax_of_infinities(i: Inputs, rows: int, n: int) -> list[Any]:
    a = np.random.default_rng(1).standard_normal((rows, n))
    a[0, 3:] = -np.inf
    a[1] = -np.inf
    a[2, n // 2] = np.inf
    a[-1, n - 1] = np.nan
    x = i.put(a)
    return [core.softmax_forward(x, 1), core.log_softmax_forward(x, 1), core.softmax_forward(i.put(a.T), 0)]


def losses_of(i: Inputs, x: Any, target: Any, weight: Any, reduction: str, smoothing: float) -> list[Any]:
    loss, stats, total = core.cross_entropy_forward(x, target, weight, reduction, 2, smoothing)
    dy = i.normal(*loss.shape)
    q = target.dtype != gg.int64
    found = core.cross_entropy_backward(dy, x, target, weight, stats, total, reduction, 2, smoothing, q)
    return [loss, stats, *found]


@case((30, 10), (3, 1000), (2, 40000), (200, 3, 7), (2, 600, 40), dtypes=ALL)
@case((5, 33), (3, 20001), (2, 33, 3), dtypes=WIDE, off=1)
def cross_entropy(i: Inputs, *shape: int) -> list[Any]:
    n, rows = shape[1], (shape[0], *shape[2:])
    x, target, q = i.normal(*shape), i.integers(0, n, *rows), i.normal(*shape)
    weight = i.normal(n, dtype="float64" if i.dtype == "float64" else "float32")
    found = losses_of(i, x, target, None, "mean", 0.0)
    found += losses_of(i, x, target, weight, "sum", 0.1)
    return found + losses_of(i, x, q, weight, "none", 0.2)


@case((130, 17000), dtypes=("bfloat16",))
def cross_entropy_of_many_long_rows(i: Inputs, rows: int, n: int) -> list[Any]:
    return losses_of(i, i.normal(rows, n), i.integers(0, n, rows), None, "mean", 0.0)


@case((20000, 4))
def nll_of_many_rows(i: Inputs, rows: int, n: int) -> list[Any]:
    x, target = i.normal(rows, n), i.integers(0, n, rows)
    loss, total = core.nll_loss_forward(x, target, i.normal(n), "mean", 2)
    return [loss, total, core.nll_loss_backward(loss, x, target, None, total, "mean", 2)]


def line(i: Inputs, n: int) -> Any:
    return i.normal(n, dtype="float64" if i.dtype == "float64" else "float32")


@case((70, 5), (9, 1000), (2, 8192), dtypes=ALL)
@case((600, 40), (3, 12289), (2, 20000), dtypes=WIDE)
@case((130, 8200), dtypes=("bfloat16",))
@case((70, 5), (3, 1001), (2, 12289), (2, 20001), dtypes=WIDE, off=1)
def layer_norm(i: Inputs, rows: int, n: int) -> list[Any]:
    x, dy, w = i.normal(rows, n), i.normal(rows, n), line(i, n)
    y, mean, rstd = core.layer_norm_forward(x, [n], w, line(i, n), 1e-5)
    found = [y, mean, rstd, *core.layer_norm_backward(dy, x, [n], w, mean, rstd, True, True, True)]
    y, rstd = core.rms_norm_forward(x, [n], None, 1e-5)
    found += [y, rstd, *core.rms_norm_backward(dy, x, [n], None, rstd, True, False)]
    return [*found, *core.layer_norm_backward(dy, x, [n], w, mean, rstd, False, True, False)]


@case((3, 12), (2, 12, 5, 7), (3, 12, 33), (2, 12, 4100), (1, 6, 9001), dtypes=ALL)
@case((2, 12, 7), (2, 6, 4101), dtypes=WIDE, off=1)
def group_norm(i: Inputs, *shape: int) -> list[Any]:
    x, dy, w = i.normal(*shape), i.normal(*shape), line(i, shape[1])
    y, mean, rstd = core.group_norm_forward(x, 3, w, line(i, shape[1]), 1e-5)
    return [y, mean, rstd, *core.group_norm_backward(dy, x, 3, w, mean, rstd, True, True, True)]


@case((70, 6), (150, 40), (70, 3, 5), (3, 5, 33), (4, 130, 8, 8), (20, 3, 700), (2, 3, 9001), dtypes=ALL)
@case((70, 3, 5), (3, 5, 33), (20, 3, 701), dtypes=WIDE, off=1)
def batch_norm(i: Inputs, *shape: int) -> list[Any]:
    x, dy, w, b = i.normal(*shape), i.normal(*shape), line(i, shape[1]), line(i, shape[1])
    running_mean, running_var = i.normal(shape[1]), i.put(i.rng.uniform(0.5, 2, shape[1]))
    y, mean, rstd = core.batch_norm_forward(x, w, b, running_mean, running_var, 0.1, 1e-5)
    found = [y, mean, rstd, running_mean, running_var]
    found += core.batch_norm_backward(dy, x, w, mean, rstd, True, True, True, True)
    y, mean, rstd = core.batch_norm_eval(x, None, b, running_mean, running_var, 1e-5)
    return [*found, y, *core.batch_norm_backward(dy, x, None, mean, rstd, False, True, False, True)]


@case(((3, 70000), [1]), ((700, 33), [1]), ((70, 1025), [1]), ((5, 4, 3000), [0, 2]), ((9, 70, 50), [0, 2]))
@case(((60, 70, 3), [0, 2]), ((3, 5, 7, 9), [1, 3]), ((40000,), None), dtypes=ALL)
@case(
    ((70000, 3), [0]), ((600, 70), [0]), ((2, 500, 40), [1]), ((33, 7, 65), [0, 1]), ((20, 3, 4, 9), [0, 2]), dtypes=ALL
)
@case(((3, 5001), [1]), ((700, 33), [0]), dtypes=ALL, off=1)
def reductions(i: Inputs, shape: tuple[int, ...], dim: list[int] | None) -> list[Any]:
    x = i.normal(*shape)
    found = [
        core.sum(x, dim, False),
        core.mean(x, dim, True),
        core.nansum(x, dim, False),
        core.prod(x * 1.5, dim, False),
    ]
    found += [core.amax(x, dim, False, "amax"), core.amin(x, dim, False, "amin"), core.logsumexp(x, dim, False)]
    found += [core.norm(x, p, dim, False) for p in (1.0, 2.0, 3.0)]
    return [*found, *core.var(x, dim, 1.0, False, False, "var"), core.var(x, dim, 0.0, False, True, "std")[0]]


@case(((3, 70000), 1), ((70, 33), 1), ((60000, 3), 0), ((600, 70), 0), ((2, 300, 40), 1), dtypes=ALL)
def extremes(i: Inputs, shape: tuple[int, ...], dim: int) -> list[Any]:
    a = np.trunc(i.rng.standard_normal(shape) * 4)  # ties
    a.flat[:: a.size // 3] = np.nan
    x = i.put(a)
    return [*core.max_dim(x, dim, False), *core.min_dim(x, dim, True), core.argmax(i.put(a[:1]), None, None)]


@case(((3, 70000), 1), ((70, 33), 1), ((60000, 3), 0), ((600, 70), 0), ((2, 300, 41), 1))
def whole_reductions(i: Inputs, shape: tuple[int, ...], dim: int) -> list[Any]:
    found = []
    for dtype in "uint8", "int8", "int16", "int32", "int64", "bool":
        a = i.rng.integers(0, 2, shape) if dtype == "bool" else i.rng.integers(0, 120, shape)
        a[a < 50] = 0
        x = i.put(a, dtype)
        found += [core.sum(x, [dim], False), core.any(x, [dim], False), core.all(x, [dim], False)]
        found += [core.count_nonzero(x, [dim]), core.amax(x, [dim], False, "amax"), core.prod(x, [dim], False)]
        found += core.max_dim(x, dim, False)
    x = i.normal(*shape)
    return [*found, core.count_nonzero(x, [dim]), core.any(x, [dim], False), core.all(x, [dim], False)]


@case((3, 2000, 1), (70, 33, 1), (2, 300, 41), (3, 3, 3000), dtypes=ALL)
def prod_gradient(i: Inputs, *shape: int) -> list[Any]:
    x = i.put(i.rng.uniform(0.99, 1.01, shape))
    return [core.prod_backward(i.normal(shape[0], shape[2]), x, 1)]


@pytest.fixture
def schedule() -> Iterator[Callable[[str], None]]:
    if DEVICE != "simt":
        pytest.skip("only simt chooses the order of threads")
    import glassgrad._simt as simt

    before = simt.get_schedule()
    yield lambda kind: simt.set_schedule(kind, 3)
    simt.set_schedule(*before)


def run(fn: Any, shape: tuple[Any, ...], dtype: str, off: int, device: str) -> list[np.ndarray]:
    found = fn(Inputs(dtype, device, off), *shape)
    return [np.asarray(y.cpu().to(gg.float64 if y.dtype == gg.bfloat16 else y.dtype).numpy()) for y in found]


@pytest.mark.parametrize(("fn", "shape", "dtype", "off"), CASES)
def test_against_cpu(fn: Any, shape: tuple[Any, ...], dtype: str, off: int) -> None:
    expected = run(fn, shape, dtype, off, "cpu")
    for k, (y, e) in enumerate(zip(run(fn, shape, dtype, off, DEVICE), expected, strict=True)):
        normwise(y, e, TOLERANCE[dtype], TOLERANCE[dtype] / 100, f"result {k} against the CPU")


@pytest.mark.parametrize(("fn", "shape", "dtype", "off"), [c for c in CASES if "float32" in c.id])
def test_any_order(fn: Any, shape: tuple[Any, ...], dtype: str, off: int, schedule: Callable[[str], None]) -> None:
    """Threads and blocks in any order give the same bits."""
    found = run(fn, shape, dtype, off, DEVICE)
    for kind in "reverse", "random":
        schedule(kind)
        for k, (a, b) in enumerate(zip(found, run(fn, shape, dtype, off, DEVICE), strict=True)):
            assert a.tobytes() == b.tobytes(), f"result {k} differs under the {kind} schedule"
