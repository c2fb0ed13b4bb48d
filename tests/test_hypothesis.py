"""Random shapes, strides, dtypes and arguments at every row: a result, or a documented exception with a message."""

from __future__ import annotations

import faulthandler
import math
import resource
import signal
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import glassgrad as gg
import op_table as table
from op_table import Row, Sample, flatten, is_floating

ROWS = table.gather()

# ShapeError is a RuntimeError, DTypeError a TypeError; NotImplementedError is a RuntimeError too and not documented.
DOCUMENTED = (RuntimeError, ValueError, TypeError, IndexError, MemoryError, OverflowError)
SECONDS = 10
MEMORY = 6 << 30

# Ops that return as many tensors as they are told.
MANY = {"tensor_split"}

shapes = st.lists(st.integers(0, 4), max_size=4).map(tuple)
dtypes = st.sampled_from(["float64", "float32", "float16", *table.INTS, "bool"])
layouts = st.sampled_from(["dense", "transposed", "spaced", "repeated", "reversed"])
numbers = st.sampled_from([0.0, 1.0, -1.0, 0.5, 3.0, 1e30, -1e-30, math.nan, math.inf, -math.inf])
integers = st.integers(-4, 6) | st.sampled_from([2**31, -(2**31) - 1, 2**40, 2**62, -(2**63)])
anything = st.none() | st.booleans() | integers | numbers | st.sampled_from(["", "none", "same", "mean"]) | shapes


@pytest.fixture(autouse=True)
def limits() -> Iterator[None]:
    """A call that hangs or swallows the machine fails here, not the whole run."""

    def hung(*_: Any) -> None:
        raise AssertionError(f"no answer within {SECONDS} s")

    before = signal.signal(signal.SIGALRM, hung)
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (address_space() + MEMORY, hard))
    yield
    signal.alarm(0)
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    signal.signal(signal.SIGALRM, before)


def address_space() -> int:
    with open("/proc/self/statm") as f:
        return int(f.read().split()[0]) * resource.getpagesize()


@st.composite
def arrays(draw: st.DrawFn, like: np.ndarray) -> np.ndarray:
    """The sample's own array, or one of another shape, dtype or layout."""
    change = draw(st.sampled_from(["none", "none", "shape", "dtype", "layout", "all"]))
    shape = draw(shapes) if change in ("shape", "all") else like.shape
    dtype = draw(dtypes) if change in ("dtype", "all") else like.dtype
    if shape == like.shape:
        values = like
    else:
        flat = np.resize(like.ravel(), int(np.prod(shape))) if like.size else np.ones(int(np.prod(shape)))
        values = flat.reshape(shape)
    with np.errstate(invalid="ignore"):
        values = np.array(values).astype(dtype)
    layout = draw(layouts) if change in ("layout", "all") else "dense"
    if layout == "transposed":
        return np.array(values.T, order="C").T
    if layout == "spaced" and values.ndim:
        return np.repeat(values, 2, axis=-1)[..., ::2]
    if layout == "repeated" and values.ndim and values.shape[0]:
        return np.broadcast_to(values[:1], values.shape)
    if layout == "reversed" and values.ndim:
        return np.array(values[::-1])[::-1]
    return values


@st.composite
def attributes(draw: st.DrawFn, value: Any) -> Any:
    """An argument that is no array: usually as it is, else of its own kind, else of any."""
    how = draw(st.sampled_from(["as it is"] * 4 + ["same kind"] * 2 + ["anything"]))
    if how == "as it is":
        return value
    if how == "anything":
        return draw(anything)
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return draw(integers)
    if isinstance(value, float):
        return draw(numbers)
    if isinstance(value, (tuple, list)) and value and all(isinstance(v, int) for v in value):
        return type(value)(draw(st.lists(integers, max_size=4)))
    return value


@st.composite
def calls(draw: st.DrawFn, row: Row) -> Sample:
    samples = list(row.samples(row.random()))
    sample = samples[draw(st.integers(0, len(samples) - 1))]

    def change(value: Any) -> Any:
        if isinstance(value, (np.ndarray, np.generic)):
            return draw(arrays(np.asarray(value)))
        if type(value) in (list, tuple) and any(isinstance(v, np.ndarray) for v in value):
            return type(value)(change(v) for v in value)
        return draw(attributes(value))

    return Sample(*map(change, sample.args), **{k: change(v) for k, v in sample.kwargs.items()})


def whole_numbers(sample: Sample) -> list[int]:
    return [v for v in (*sample.args, *sample.kwargs.values()) if isinstance(v, int)]


def tensor(a: np.ndarray) -> Any:
    return gg.from_numpy(a if a.flags.writeable else np.array(a))


@pytest.mark.parametrize("row", ROWS, ids=[f"{row.family}-{row.name}" for row in ROWS])
@settings(
    max_examples=15,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
    print_blob=False,
)
@given(data=st.data())
def test_no_crash_and_only_documented_exceptions(row: Row, data: st.DataObject) -> None:
    sample = data.draw(calls(row))
    assume(row.op not in MANY or max(map(abs, whole_numbers(sample)), default=0) < 100)
    signal.alarm(SECONDS)
    faulthandler.dump_traceback_later(3 * SECONDS, exit=True)  # a kernel that never returns hears no signal
    try:
        ours = sample.map(tensor, lambda d: getattr(gg, d))
        if row.grad:
            for t in table.floating_inputs(ours):
                t.requires_grad_()
        ys = [y for y in flatten(row.function()(*ours.args, **ours.kwargs)) if is_floating(y) and y.requires_grad]
        if ys:
            gg.autograd.grad(ys, table.floating_inputs(ours), [gg.ones_like(y) for y in ys], allow_unused=True)
    except DOCUMENTED as error:
        assert not isinstance(error, (NotImplementedError, RecursionError)), f"{row.name}{sample!r}: {error!r}"
        assert str(error), f"{row.name}{sample!r}: {type(error).__name__} without a message"
    finally:
        faulthandler.cancel_dump_traceback_later()
        signal.alarm(0)
