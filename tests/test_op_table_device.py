"""The op table on a device: the same calls there and on the CPU.

The device is simt, which runs the CUDA kernels on the CPU with every access checked; GLASSGRAD_TEST_DEVICE=cuda asks
the GPU. GLASSGRAD_TEST_FIRST=1 takes one sample of each row in one dtype, for tools that make kernels slow.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
import pytest

import glassgrad as gg
import op_table as table
from op_table import FLOATS, Row, Sample, arguments, as_numpy, dtype_name, flatten, floating_inputs, is_floating
from test_op_table import call, close, each_sample, normwise, rows, spaced, transposed

DEVICE = os.environ.get("GLASSGRAD_TEST_DEVICE", "simt")
FIRST = os.environ.get("GLASSGRAD_TEST_FIRST", "0") != "0"


def samples(row: Row) -> Iterator[tuple[str, Sample]]:
    return islice(each_sample(row), 1 if FIRST else None)


def dtypes(row: Row) -> Sequence[str]:
    if not FIRST:
        return row.dtypes
    return ["float32"] if "float32" in row.dtypes else row.dtypes[:1]


def on_device(x: np.ndarray, dtype: str) -> Any:
    return table.tensor(x, dtype).to(DEVICE)


def fetched(value: Any) -> Any:
    return as_numpy(value.cpu()) if isinstance(value, gg.Tensor) else np.asarray(value)


def outputs(row: Row, sample: Sample, dtype: str, make: Callable[[np.ndarray, str], Any]) -> list[Any]:
    return flatten(call(row.function(), arguments(sample, dtype, make)))


def gradients(row: Row, sample: Sample, dtype: str, make: Callable[[np.ndarray, str], Any]) -> list[np.ndarray | None]:
    """By every floating input, of the outputs weighted with dyadic numbers that every dtype holds."""
    ours = arguments(sample, dtype, make)
    inputs = [t.requires_grad_() for t in floating_inputs(ours, row.wrt)]
    ys = [y for y in flatten(call(row.function(), ours)) if is_floating(y)]
    r = row.random()
    dys = [make(np.asarray(r.integers(-8, 9, *y.shape) / 8.0), dtype).to(y) for y in ys]
    found = gg.autograd.grad(ys, inputs, dys, allow_unused=True)
    return [None if g is None else fetched(g) for g in found]


@rows(lambda row: True)
def test_forward(row: Row) -> None:
    for where, sample in samples(row):
        for dtype in dtypes(row):
            expected = outputs(row, sample, dtype, table.tensor)
            result = outputs(row, sample, dtype, on_device)
            assert len(result) == len(expected), f"{where}: {len(result)} results, {len(expected)} on the CPU"
            for i, (y, e) in enumerate(zip(result, expected, strict=True)):
                if isinstance(e, gg.Tensor):
                    assert dtype_name(y) == dtype_name(e), f"{where}: {dtype_name(y)}, {dtype_name(e)} on the CPU"
                rtol, atol = row.tolerance(dtype, dtype_name(e) if hasattr(e, "dtype") else "float64")
                close(fetched(y), fetched(e), 2 * rtol, 2 * atol, f"{where}, {dtype}, output {i} against the CPU")


@rows(lambda row: row.grad)
def test_gradient(row: Row) -> None:
    for where, sample in samples(row):
        for dtype in dtypes(row):
            if dtype not in FLOATS:
                continue
            expected = gradients(row, sample, dtype, table.tensor)
            result = gradients(row, sample, dtype, on_device)
            rtol, atol = row.tolerance(dtype, dtype)
            for i, (g, e) in enumerate(zip(result, expected, strict=True)):
                assert (g is None) == (e is None), f"{where}: gradient {i} is {g!r}, {e!r} on the CPU"
                if g is not None:
                    normwise(g, e, 2 * rtol, 2 * atol, f"{where}, {dtype}, gradient {i} against the CPU")


@pytest.mark.parametrize("layout", [transposed, spaced])
@rows(lambda row: row.strided and row.name != "to")
def test_strided(row: Row, layout: Callable[[np.ndarray], np.ndarray]) -> None:
    """Views on the device, of storages that lie there as they do on the CPU."""
    dtype = "float32" if "float32" in row.dtypes else row.dtypes[0]

    def relaid(a: np.ndarray, dtype: str) -> Any:
        if layout is transposed:
            return on_device(np.array(a.T), dtype).permute(*range(a.ndim - 1, -1, -1))
        if a.ndim == 0:
            return on_device(a, dtype)
        storage = np.zeros((*a.shape[:-1], 2 * a.shape[-1] + 1), a.dtype)
        storage[..., 1::2][..., : a.shape[-1]] = a
        return on_device(storage, dtype)[..., 1::2][..., : a.shape[-1]]

    for where, sample in each_sample(row):
        if all(a.ndim == 0 for a in sample.arrays()):
            continue
        expected = outputs(row, sample, dtype, table.tensor)
        for i, (y, e) in enumerate(zip(outputs(row, sample, dtype, relaid), expected, strict=True)):
            rtol, atol = row.tolerance(dtype, dtype_name(e) if hasattr(e, "dtype") else "float64")
            close(fetched(y), fetched(e), 2 * rtol, 2 * atol, f"{where}, {layout.__name__}: output {i}")


@pytest.fixture
def schedules() -> Iterator[Callable[[str, int], None]]:
    if DEVICE != "simt":
        pytest.skip("only simt chooses the order of threads")
    import glassgrad._simt as simt

    before = simt.get_schedule()
    yield simt.set_schedule
    simt.set_schedule(*before)


@rows(lambda row: "float32" in row.dtypes)
def test_schedules(row: Row, schedules: Callable[[str, int], None]) -> None:
    """Threads and blocks in any order give the same bits."""
    for where, sample in each_sample(row):
        found = []
        for schedule in ("forward", "reverse", "random"):
            schedules(schedule, 1)
            results = [fetched(y) for y in outputs(row, sample, "float32", on_device)]
            if row.grad:
                results += [g for g in gradients(row, sample, "float32", on_device) if g is not None]
            found.append(results)
        for kind, results in zip(("reverse", "random"), found[1:], strict=True):
            for i, (a, b) in enumerate(zip(found[0], results, strict=True)):
                assert a.tobytes() == b.tobytes(), f"{where}: result {i} differs under the {kind} schedule"
