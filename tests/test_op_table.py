"""Every check that a row of the op table allows (see op_table.py)."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest

import glassgrad as gg
import op_table as table
from op_table import FLOATS, Row, Sample, arguments, as_numpy, dtype_name, flatten, floating_inputs, is_floating, torch

ROWS = table.gather()

STEP = 1e-6  # of a central difference in float64: truncation 1e-12, rounding 1e-10
needs_torch = pytest.mark.skipif(torch is None, reason="PyTorch, the second oracle, is not installed")


def rows(condition: Callable[[Row], Any]) -> Any:
    chosen = [row for row in ROWS if condition(row)]
    return pytest.mark.parametrize("row", chosen, ids=[f"{row.family}-{row.name}" for row in chosen])


def call(fn: Callable[..., Any], sample: Sample) -> Any:
    gg.manual_seed(0)
    return fn(*sample.args, **sample.kwargs)


def close(actual: Any, expected: Any, rtol: float, atol: float, where: str) -> None:
    """Fail with the worst element, in one line."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape, f"{where}: shape {actual.shape}, expected {expected.shape}"
    if actual.size == 0:
        return
    a, e = (np.asarray(v, np.complex128 if v.dtype.kind == "c" else np.float64) for v in (actual, expected))
    with np.errstate(invalid="ignore"):
        error = np.abs(a - e)
    same = (a == e) | (np.isnan(a) & np.isnan(e))
    error = np.where(same, 0.0, np.where(np.isfinite(error), error, np.inf))
    bound = atol + rtol * np.where(np.isfinite(e), np.abs(e), 0.0)
    excess = error - bound
    if (excess > 0).any():
        worst = np.unravel_index(int(np.argmax(excess)), excess.shape)
        pytest.fail(
            f"{where}: {int((excess > 0).sum())} of {a.size} elements differ; worst at {tuple(map(int, worst))}: "
            f"{a[worst]!r}, expected {e[worst]!r} (allowed {bound[worst]:.2g})",
            pytrace=False,
        )


def normwise(actual: Any, expected: Any, rtol: float, atol: float, where: str) -> None:
    """Close relative to the largest element: for gradients, whose small elements are differences of large ones."""
    finite = np.abs(np.asarray(expected, np.float64))[np.isfinite(expected)]
    close(actual, expected, rtol, atol + rtol * float(finite.max(initial=0.0)), where)


def each_sample(row: Row, make: str = "samples") -> Iterator[tuple[str, Sample]]:
    for i, sample in enumerate(getattr(row, make)(row.random())):
        yield f"{row.name}, sample {i} {sample!r}", sample


# Values --------------------------------------------------------------------------------------------------------------


def reference(row: Row, sample: Sample, dtype: str) -> Any:
    """The result in float64 on the rounded inputs, by numpy or else torch."""
    if row.ref is not None:
        seen = sample.map(lambda a: table.exact(a, dtype), lambda d: np.dtype("float64" if d == "bfloat16" else str(d)))
        with np.errstate(all="ignore"):
            return row.ref(*seen.args, **seen.kwargs)
    fn = row.torch_function()
    wide = dtype if dtype not in FLOATS else "float64"
    seen = sample.map(lambda a: table.exact(a, dtype) if dtype in FLOATS else a)
    return as_numpy(call(fn, arguments(seen, wide, table.torch_tensor, torch)))


@rows(lambda row: row.ref is not None or row.torch is not None)
def test_forward(row: Row) -> None:
    if row.ref is None and row.torch_function() is None:
        pytest.skip("the reference is PyTorch, which is not installed or has no such op")
    fn = row.function()
    for where, sample in each_sample(row):
        for dtype in row.dtypes:
            result = flatten(call(fn, arguments(sample, dtype)))
            expected = flatten(reference(row, sample, dtype))
            assert len(result) == len(expected), f"{where}: {len(result)} results, expected {len(expected)}"
            for i, (y, e) in enumerate(zip(result, expected, strict=True)):
                y_dtype = dtype_name(y) if hasattr(y, "dtype") else "float64"
                e = np.asarray(e)
                if y_dtype in table.INTS and e.dtype.kind in "iub":
                    e = e.astype(y_dtype)
                close(as_numpy(y), e, *row.tolerance(dtype, y_dtype), f"{where}, {dtype}, output {i}")


@needs_torch
@rows(lambda row: row.torch is not None)
def test_forward_as_torch(row: Row) -> None:
    fn, torch_fn = row.function(), row.torch_function()
    if torch_fn is None:
        pytest.skip(f"this PyTorch has no {row.name}")
    for where, sample in each_sample(row):
        for dtype in row.dtypes:
            try:
                expected = flatten(call(torch_fn, arguments(sample, dtype, table.torch_tensor, torch)))
            except (RuntimeError, TypeError, NotImplementedError) as error:
                if dtype in ("float64", "float32"):
                    raise AssertionError(f"{where}: PyTorch refuses this sample: {error}") from error
                continue
            result = flatten(call(fn, arguments(sample, dtype)))
            assert len(result) == len(expected), f"{where}: {len(result)} results, torch gives {len(expected)}"
            for i, (y, e) in enumerate(zip(result, expected, strict=True)):
                if not hasattr(e, "dtype"):
                    assert not hasattr(y, "dtype") and y == e, f"{where}, {dtype}: {y!r}, torch gives {e!r}"
                    continue
                assert dtype_name(y) == dtype_name(e), f"{where}, {dtype}: {dtype_name(y)}, torch gives {dtype_name(e)}"
                assert tuple(y.shape) == tuple(e.shape), f"{where}, {dtype}: {tuple(y.shape)}, torch: {tuple(e.shape)}"
                if dtype not in ("float16", "bfloat16"):  # torch rounds between the steps of an op there
                    rtol, atol = row.tolerance(dtype, dtype_name(y))
                    close(as_numpy(y), as_numpy(e), 2 * rtol, 2 * atol, f"{where}, {dtype}, output {i} against torch")


SPECIAL = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 0.5, -2.5, 3.0, 88.0, -88.0, 104.0, 1e30, -1e30, 1e-30, 1e-45]


@needs_torch
@rows(lambda row: row.nonfinite)
def test_nonfinite_as_torch(row: Row) -> None:
    fn, torch_fn = row.function(), row.torch_function()
    _, sample = next(each_sample(row))
    floats = [a for a in sample.arrays() if a.dtype == np.float64]
    grid = iter([g.ravel() for g in np.meshgrid(*[SPECIAL] * len(floats))])
    special = sample.map(lambda a: next(grid).copy() if a.dtype == np.float64 else a.ravel()[:1].reshape(()))
    for dtype in ("float64", "float32"):
        ours, theirs = arguments(special, dtype), arguments(special, dtype, table.torch_tensor, torch)
        x, tx = floating_inputs(ours, row.wrt), floating_inputs(theirs, row.wrt)
        for t in (*x, *tx):
            t.requires_grad_(row.grad)
        y, ty = flatten(call(fn, ours))[0], flatten(call(torch_fn, theirs))[0]
        tol = row.tolerance(dtype, dtype_name(y))
        case = ", ".join(f"argument {i}: {a.tolist()}" for i, a in enumerate(special.arrays()) if a.size <= 20)
        close(as_numpy(y), as_numpy(ty), *tol, f"{row.name} {dtype} on special values ({case})")
        if row.grad and is_floating(y):
            ones = gg.from_numpy(np.ones(tuple(y.shape), dtype))
            for i, (g, tg) in enumerate(
                zip(gradients([y], x, [ones]), gradients([ty], tx, [torch.ones_like(ty)], torch), strict=True)
            ):
                close(g, tg, *tol, f"{row.name} {dtype}, gradient {i} on special values ({case})")


# Gradients -----------------------------------------------------------------------------------------------------------


def gradients(ys: Sequence[Any], xs: Sequence[Any], dys: Sequence[Any], library: Any = gg) -> list[np.ndarray]:
    """The gradients of sum(ys * dys) by xs as numpy arrays, zero where none flows."""
    found = library.autograd.grad(list(ys), list(xs), list(dys), allow_unused=True)
    return [np.zeros(tuple(x.shape)) if g is None else as_numpy(g) for x, g in zip(xs, found, strict=True)]


class Differentiated:
    """One sample as a function of its floating arrays (a list of numpy arrays, which may be strided)."""

    def __init__(self, row: Row, sample: Sample, dtype: str = "float64") -> None:
        self.row, self.sample, self.dtype, self.fn = row, sample, dtype, row.function()
        ours = arguments(sample, dtype)
        chosen = {id(t) for t in floating_inputs(ours, row.wrt)}
        tensors: list[Any] = []
        _collect(ours, tensors)
        self.where = [i for i, t in enumerate(tensors) if id(t) in chosen]
        arrays = sample.arrays()
        self.x = [arrays[i] for i in self.where]
        outputs = [y for y in flatten(call(self.fn, ours)) if is_floating(y)]
        r = row.random()
        # dyadic, so that every dtype holds the same weights
        self.dy = [np.asarray(r.integers(-8, 9, *y.shape) / 8.0) for y in outputs]

    def run(self, x: Sequence[np.ndarray], grad: bool) -> tuple[list[Any], list[Any]]:
        """Fresh inputs and outputs at x."""
        count = iter(range(10**9))
        by_place = dict(zip(self.where, x, strict=True))
        placed = self.sample.map(lambda a: by_place.get(next(count), a))
        ours = arguments(placed, self.dtype)
        inputs = floating_inputs(ours, self.row.wrt)
        if grad:
            for t in inputs:
                t.requires_grad_()
        return inputs, [y for y in flatten(call(self.fn, ours)) if is_floating(y)]

    def loss(self, x: Sequence[np.ndarray]) -> float:
        with gg.no_grad():
            _, ys = self.run(x, grad=False)
        return float(sum(np.sum(as_numpy(y).astype(np.float64) * dy) for y, dy in zip(ys, self.dy, strict=True)))

    def gradient(self, x: Sequence[np.ndarray]) -> list[np.ndarray]:
        inputs, ys = self.run(x, grad=True)
        return gradients(ys, inputs, [table.tensor(dy, self.dtype) for dy in self.dy])


def _collect(sample: Sample, found: list[Any]) -> None:
    def walk(value: Any) -> None:
        if type(value) in (list, tuple):
            for v in value:
                walk(v)
        elif isinstance(value, dict):
            walk(list(value.values()))
        elif isinstance(value, gg.Tensor):
            found.append(value)

    walk([sample.args, list(sample.kwargs.values())])


def directions(x: Sequence[np.ndarray], r: table.Random) -> Iterator[tuple[int, list[np.ndarray]]]:
    """For each input in turn, a random direction of unit length that moves only it."""
    for i, a in enumerate(x):
        if a.size:
            v = r.normal(*a.shape)
            yield i, [v / np.linalg.norm(v) if j == i else np.zeros_like(b) for j, b in enumerate(x)]


def step(x: Sequence[np.ndarray], v: Sequence[np.ndarray], by: float) -> list[np.ndarray]:
    return [np.asarray(a + by * d) for a, d in zip(x, v, strict=True)]


def inner(a: Sequence[np.ndarray], b: Sequence[np.ndarray]) -> float:
    return float(sum(np.sum(x * y) for x, y in zip(a, b, strict=True)))


@rows(lambda row: row.grad)
def test_gradient(row: Row) -> None:
    """Central differences along random directions, one input at a time."""
    for where, sample in each_sample(row):
        if sample.kink:
            continue
        f = Differentiated(row, sample)
        assert f.x, f"{where}: a differentiable row needs a float64 array"
        g = f.gradient(f.x)
        for i, v in directions(f.x, row.random()):
            expected = (f.loss(step(f.x, v, STEP)) - f.loss(step(f.x, v, -STEP))) / (2 * STEP)
            scale = max(1.0, abs(f.loss(f.x)), float(np.linalg.norm(g[i])))
            close(
                inner(g, v),
                expected,
                1e-5,
                1e-7 * scale,
                f"{where}: derivative along a random direction of input {i} "
                "(if PyTorch does not differentiate this input either, list the others in Row(wrt=...))",
            )


@needs_torch
@rows(lambda row: row.grad and row.torch is not None)
def test_gradient_as_torch(row: Row) -> None:
    torch_fn = row.torch_function()
    if torch_fn is None:
        pytest.skip(f"this PyTorch has no {row.name}")
    for where, sample in each_sample(row):
        f = Differentiated(row, sample)
        theirs = arguments(sample, "float64", table.torch_tensor, torch)
        inputs = [t.requires_grad_() for t in floating_inputs(theirs, row.wrt)]
        ys = [y for y in flatten(call(torch_fn, theirs)) if is_floating(y)]
        dys = [torch.from_numpy(dy) for dy in f.dy]
        pairs = [(y, dy) for y, dy in zip(ys, dys, strict=True) if y.requires_grad]
        if not pairs:
            continue
        expected = gradients([y for y, _ in pairs], inputs, [dy for _, dy in pairs], torch)
        for i, (g, e) in enumerate(zip(f.gradient(f.x), expected, strict=True)):
            normwise(g, e, *row.tolerance("float64", "float64"), f"{where}: gradient of input {i} against torch")


@rows(lambda row: row.grad and any(d in FLOATS and d != "float64" for d in row.dtypes))
def test_gradient_dtypes(row: Row) -> None:
    """Gradients in the narrow dtypes are the float64 gradients at the rounded inputs."""
    for where, sample in each_sample(row):
        if sample.kink:
            continue
        for dtype in row.dtypes:
            if dtype == "float64" or dtype not in FLOATS:
                continue
            f = Differentiated(row, sample, dtype)
            wide = Differentiated(row, sample.map(lambda a, d=dtype: table.exact(a, d)))
            rtol, atol = row.tolerance(dtype, dtype)
            for i, (g, e) in enumerate(zip(f.gradient(f.x), wide.gradient(wide.x), strict=True)):
                normwise(g, e, 2 * rtol, 2 * atol, f"{where}, {dtype}: gradient of input {i} against float64")


@rows(lambda row: row.grad and row.gradgrad)
def test_second_order(row: Row) -> None:
    """create_graph=True gives the same first gradients, and their derivatives match central differences."""
    for where, sample in each_sample(row):
        if sample.kink:
            continue
        f = Differentiated(row, sample)
        inputs, ys = f.run(f.x, grad=True)
        dys = [table.tensor(dy).requires_grad_() for dy in f.dy]
        first = gg.autograd.grad(ys, inputs, dys, allow_unused=True, create_graph=True)
        plain = f.gradient(f.x)
        for i, (g, e) in enumerate(zip(first, plain, strict=True)):
            if g is not None:
                normwise(as_numpy(g), e, 1e-9, 1e-10, f"{where}: gradient {i} with create_graph against without")
        live = [i for i, g in enumerate(first) if g is not None and g.requires_grad]
        if not live:
            continue
        r = row.random()
        u = [r.normal(*plain[i].shape) for i in live]
        wanted = [*inputs, *dys]
        second = gradients([first[i] for i in live], wanted, [table.tensor(a) for a in u])
        point = [*f.x, *f.dy]
        n = len(f.x)

        def slope(z: Sequence[np.ndarray], f: Differentiated = f, n: int = n, u: Any = u, live: Any = live) -> float:
            inputs, ys = f.run(z[:n], grad=True)
            g = gradients(ys, inputs, [table.tensor(dy) for dy in z[n:]])
            return inner([g[i] for i in live], u)

        for i, v in directions(point, r):
            expected = (slope(step(point, v, STEP)) - slope(step(point, v, -STEP))) / (2 * STEP)
            name = f"input {i}" if i < n else f"incoming gradient {i - n}"
            scale = max(1.0, abs(slope(point)), float(np.linalg.norm(second[i])))
            close(inner(second, v), expected, 1e-5, 1e-6 * scale, f"{where}: second derivative by {name}")


# Layout, ISA, threads ------------------------------------------------------------------------------------------------


def transposed(a: np.ndarray) -> np.ndarray:
    return np.array(a.T, order="C").T


def spaced(a: np.ndarray) -> np.ndarray:
    """Every second element of a longer storage that begins earlier."""
    if a.ndim == 0:
        return a
    storage = np.zeros((*a.shape[:-1], 2 * a.shape[-1] + 1), a.dtype)
    view = storage[..., 1::2][..., : a.shape[-1]]
    view[...] = a
    return view


@pytest.mark.parametrize("layout", [transposed, spaced])
@rows(lambda row: row.strided)
def test_strided(row: Row, layout: Callable[[np.ndarray], np.ndarray]) -> None:
    fn = row.function()
    dtype = "float64" if "float64" in row.dtypes else row.dtypes[0]
    for where, sample in each_sample(row):
        if all(a.ndim == 0 for a in sample.arrays()):
            continue

        def relaid(a: np.ndarray, dtype: str = dtype) -> Any:
            return gg.from_numpy(layout(np.array(table.cast(a, dtype))))

        plain = flatten(call(fn, arguments(sample, dtype)))
        strided = sample.map(relaid, lambda d: getattr(gg, d))
        for i, (y, e) in enumerate(zip(flatten(call(fn, strided)), plain, strict=True)):
            close(as_numpy(y), as_numpy(e), 1e-12, 1e-12, f"{where}, {layout.__name__}: output {i} against contiguous")
        if row.grad and dtype == "float64":
            f = Differentiated(row, sample)
            strided = sample.map(relaid, lambda d: getattr(gg, d))
            inputs = [t.requires_grad_() for t in floating_inputs(strided, row.wrt)]
            ys = [y for y in flatten(call(fn, strided)) if is_floating(y)]
            g = gradients(ys, inputs, [gg.from_numpy(layout(dy.copy())) for dy in f.dy])
            for i, (a, e) in enumerate(zip(g, f.gradient(f.x), strict=True)):
                normwise(a, e, 1e-11, 1e-11, f"{where}, {layout.__name__}: gradient {i} against contiguous")


def outputs_and_gradients(row: Row, sample: Sample, dtype: str) -> list[np.ndarray]:
    found = [np.asarray(as_numpy(y)) for y in flatten(call(row.function(), arguments(sample, dtype)))]
    if row.grad and dtype in FLOATS:
        f = Differentiated(row, sample, dtype)
        found += f.gradient(f.x)
    return found


@rows(lambda row: "float32" in row.dtypes)
def test_every_isa(row: Row, isas: list[str], set_isa: Callable[[str], None]) -> None:
    if len(isas) == 1:
        pytest.skip(f"this build or machine has one ISA, {isas[0]}")
    rtol, atol = row.tolerance("float32", "float32")
    for where, sample in each_sample(row):
        if sample.kink:
            continue
        set_isa(isas[-1])
        expected = outputs_and_gradients(row, sample, "float32")
        for isa in isas[:-1]:
            set_isa(isa)
            for i, (a, e) in enumerate(zip(outputs_and_gradients(row, sample, "float32"), expected, strict=True)):
                normwise(a, e, 2 * rtol, 2 * atol, f"{where}: output or gradient {i}, {isa} against {isas[-1]}")


@rows(lambda row: True)
def test_threads_bitwise(row: Row) -> None:
    """1 and 2 threads give the same bits; the benchmark's shapes are large enough to be cut."""
    dtype = "float32" if "float32" in row.dtypes else row.dtypes[0]
    cases = list(each_sample(row, "bench")) if row.bench else list(each_sample(row))
    cases.sort(key=lambda case: sum(a.size for a in case[1].arrays()))
    threads = gg.get_num_threads()
    try:
        for where, sample in cases[:2] if row.bench else cases:
            gg.set_num_threads(1)
            one = outputs_and_gradients(row, sample, dtype)
            gg.set_num_threads(2)
            two = outputs_and_gradients(row, sample, dtype)
            for i, (a, b) in enumerate(zip(one, two, strict=True)):
                same = a.tobytes() == b.tobytes()
                assert same, f"{where}: output or gradient {i} differs between 1 and 2 threads"
    finally:
        gg.set_num_threads(threads)


# Refusals and forms --------------------------------------------------------------------------------------------------


@rows(lambda row: row.bad)
def test_bad_inputs(row: Row) -> None:
    fn = row.function()
    for i, bad in enumerate(row.bad):
        args, kwargs = bad.arguments(row.random())
        sample = arguments(Sample(*args, **kwargs), "float32")
        with pytest.raises(bad.error) as caught:
            call(fn, sample)
        message = str(caught.value)
        assert re.search(bad.regex, message), f"{row.name}, bad {i}: /{bad.regex}/ is not in: {message}"
        assert row.op.rstrip("_") in message, f"{row.name}, bad {i}: the message does not name the op: {message}"


@rows(lambda row: row.method)
def test_method(row: Row) -> None:
    fn, method = row.function(), getattr(gg.Tensor, row.op)
    dtype = "float64" if "float64" in row.dtypes else row.dtypes[0]
    for where, sample in each_sample(row):
        expected = flatten(call(fn, arguments(sample, dtype)))
        for y, e in zip(flatten(call(method, arguments(sample, dtype))), expected, strict=True):
            close(as_numpy(y), as_numpy(e), 0, 0, f"{where} as a method")


@rows(lambda row: row.inplace)
def test_inplace(row: Row) -> None:
    fn, inplace = row.function(), resolve_inplace(row.inplace)
    for where, sample in each_sample(row):
        dtype = "float64" if "float64" in row.dtypes else row.dtypes[0]
        expected = call(fn, arguments(sample, dtype))
        ours = arguments(sample, dtype)
        x = ours.args[0]
        if tuple(expected.shape) != tuple(x.shape) or expected.dtype != x.dtype:
            continue
        version = x._version
        assert call(inplace, ours) is x, f"{where}: {row.inplace} does not return its own tensor"
        assert x._version > version, f"{where}: {row.inplace} does not bump the version"
        close(as_numpy(x), as_numpy(expected), 0, 0, f"{where} by {row.inplace}")
        if not row.grad or sample.kink:
            continue
        f = Differentiated(row, sample)
        ours = arguments(sample, "float64")
        inputs = [t.requires_grad_() for t in floating_inputs(ours, row.wrt)]
        y = call(inplace, Sample(ours.args[0].clone(), *ours.args[1:], **ours.kwargs))
        for i, (g, e) in enumerate(zip(gradients([y], inputs, [table.tensor(f.dy[0])]), f.gradient(f.x), strict=True)):
            normwise(g, e, 1e-12, 1e-12, f"{where}: gradient {i} through {row.inplace}")
        with pytest.raises(RuntimeError, match="leaf"):
            call(inplace, ours)


def resolve_inplace(name: str | None) -> Callable[..., Any]:
    assert name is not None
    found = table.resolve(gg, name)
    assert found is not None, f"glassgrad has no {name}"
    return found


NUMPY_NAMES = {"dim": "axis", "keepdim": "keepdims"}


@rows(lambda row: row.fn is None)
def test_numpy_names(row: Row) -> None:
    """axis and keepdims are accepted wherever dim and keepdim are."""
    fn = row.function()
    dtype = "float64" if "float64" in row.dtypes else row.dtypes[0]
    for where, sample in each_sample(row):
        if not NUMPY_NAMES.keys() & sample.kwargs.keys():
            continue
        renamed = Sample(*sample.args, **{NUMPY_NAMES.get(k, k): v for k, v in sample.kwargs.items()})
        expected = flatten(call(fn, arguments(sample, dtype)))
        for y, e in zip(flatten(call(fn, arguments(renamed, dtype))), expected, strict=True):
            close(as_numpy(y), as_numpy(e), 0, 0, f"{where} with numpy's names")
        break


# Coverage ------------------------------------------------------------------------------------------------------------


def op_classes() -> list[type]:
    """Every Op of glassgrad.ops."""
    ops = importlib.import_module("glassgrad.ops")
    graph = importlib.import_module("glassgrad.autograd.graph")
    for module in pkgutil.iter_modules(ops.__path__):
        importlib.import_module(f"glassgrad.ops.{module.name}")
    found: list[type] = []
    queue: list[type] = [graph.Op]
    while queue:
        for cls in queue.pop().__subclasses__():
            queue.append(cls)
            if cls.__module__.startswith("glassgrad.ops.") and "backward" in vars(cls):
                found.append(cls)
    return found


def twice(f: Differentiated) -> None:
    """Run backward, and backward of that."""
    inputs, ys = f.run(f.x, grad=True)
    dys = [table.tensor(dy).requires_grad_() for dy in f.dy]
    first = [g for g in gg.autograd.grad(ys, inputs, dys, allow_unused=True, create_graph=True) if g is not None]
    live = [g for g in first if g.requires_grad]
    if live:
        gradients(live, [*inputs, *dys], [table.tensor(as_numpy(g)) for g in live])


def test_every_differentiable_op_has_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: set[type] = set()

    def recording(cls: type, backward: Callable[..., Any]) -> Callable[..., Any]:
        def record(self: Any, *dy: Any) -> Any:
            ran.add(cls)
            return backward(self, *dy)

        return record

    classes = op_classes()
    for cls in classes:
        monkeypatch.setattr(cls, "backward", recording(cls, vars(cls)["backward"]))
    for row in ROWS:
        if not row.grad or (table.resolve(gg, row.name) is None and row.fn is None):
            continue
        for _, sample in each_sample(row):
            try:
                f = Differentiated(row, sample)
                f.gradient(f.x)
                if row.gradgrad:
                    twice(f)
            except Exception:  # the row's own tests say so
                continue
    missing = sorted(f"{cls.__module__}.{cls.__qualname__}" for cls in set(classes) - ran)
    assert not missing, f"no row of tests/rows runs the backward of: {', '.join(missing)}"
