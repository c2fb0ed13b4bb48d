"""Matrix products on a device, at sizes that cross tiles and parts of K, in every layout."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import glassgrad as gg
from test_op_table_device import DEVICE

# Of the largest entry of |A| |B|, whose sums' errors grow as the root of their length.
TOLERANCE = {"float64": 1e-15, "float32": 4e-7, "float16": 2e-3, "bfloat16": 1e-2}


def numbers(r: np.random.Generator, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    if dtype in TOLERANCE:
        return gg.tensor(r.standard_normal(shape), dtype=getattr(gg, dtype)).to(gg.float64).numpy()
    return r.integers(0 if dtype == "uint8" else -128, 128, shape)


def laid_out(x: np.ndarray, dtype: str, layout: str) -> gg.Tensor:
    """A matrix with dense rows or dense columns, rows that no vector access fits, or steps along both axes."""

    def to_device(a: np.ndarray) -> gg.Tensor:
        return gg.tensor(a, dtype=getattr(gg, dtype)).to(DEVICE)

    if layout == "rows":
        return to_device(x)
    if layout == "columns":
        return to_device(np.ascontiguousarray(x.swapaxes(-1, -2))).transpose(-1, -2)
    step = 1 if layout == "odd" else 2
    storage = np.zeros((*x.shape[:-1], step * x.shape[-1] + 3), x.dtype)
    storage[..., 1:-2:step] = x
    return to_device(storage)[..., 1:-2:step]


def check(y: gg.Tensor, a: np.ndarray, b: np.ndarray, dtype: str, addend: float | np.ndarray = 0.0) -> None:
    if dtype not in TOLERANCE:
        assert (y.cpu().numpy() == (a @ b + addend).astype(dtype)).all()
        return
    found, expected = y.cpu().to(gg.float64).numpy(), a @ b + addend
    size = (np.abs(a) @ np.abs(b)).max(initial=0) + np.abs(addend).max() + 1e-300
    assert found.shape == expected.shape
    assert np.abs(found - expected).max(initial=0) <= TOLERANCE[dtype] * size


# What the sizes reach: one tile, several of 64, several of 128, parts of K, a single column, up to eight, and one
# product that is a long sum.
SIZES = [
    (20, 30, 7),
    (70, 90, 33),
    (130, 140, 72),
    (40, 33, 2100),
    (300, 1, 70),
    (1, 257, 1100),
    (5, 300, 1100),
    (300, 7, 530),
    (3, 2, 9000),
]
LAYOUTS = ["rows rows", "rows columns", "columns rows", "columns columns", "odd spaced"]


@pytest.mark.parametrize("layouts", LAYOUTS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_layouts(
    sizes: tuple[int, int, int], dtype: str, layouts: str, set_architecture: Callable[[int], None]
) -> None:
    set_architecture(80)
    r = np.random.default_rng(1)
    m, n, k = sizes
    a, b = numbers(r, (m, k), dtype), numbers(r, (k, n), dtype)
    first, second = layouts.split()
    check(laid_out(a, dtype, first) @ laid_out(b, dtype, second), a, b, dtype)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("sizes", [(136, 264, 72), (40, 64, 2048), (130, 72, 200)], ids=str)
def test_hopper(sizes: tuple[int, int, int], dtype: str, set_architecture: Callable[[int], None]) -> None:
    set_architecture(90)
    r = np.random.default_rng(9)
    m, n, k = sizes
    a, b = numbers(r, (m, k), dtype), numbers(r, (k, n), dtype)
    for layouts in LAYOUTS:
        first, second = layouts.split()
        check(laid_out(a, dtype, first) @ laid_out(b, dtype, second), a, b, dtype)


def test_hopper_float32(set_architecture: Callable[[int], None]) -> None:
    set_architecture(90)
    r = np.random.default_rng(10)
    a, b = numbers(r, (130, 1100), "float32"), numbers(r, (1100, 960), "float32")
    check(laid_out(a, "float32", "rows") @ laid_out(b, "float32", "columns"), a, b, "float32")


@pytest.mark.parametrize("dtype", ["float64", "float16", "uint8", "int8", "int16", "int32", "int64"])
@pytest.mark.parametrize("sizes", [(70, 90, 33), (40, 33, 700), (5, 130, 300), (300, 1, 70)], ids=str)
def test_dtypes(sizes: tuple[int, int, int], dtype: str, set_architecture: Callable[[int], None]) -> None:
    set_architecture(80)
    r = np.random.default_rng(2)
    m, n, k = sizes
    a, b = numbers(r, (m, k), dtype), numbers(r, (k, n), dtype)
    for first, second in (("rows", "rows"), ("columns", "spaced"), ("odd", "columns")):
        check(laid_out(a, dtype, first) @ laid_out(b, dtype, second), a, b, dtype)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_halves_without_tensor_cores(dtype: str, set_architecture: Callable[[int], None]) -> None:
    set_architecture(75)
    r = np.random.default_rng(3)
    a, b = numbers(r, (70, 40), dtype), numbers(r, (40, 66), dtype)
    for first, second in (("rows", "columns"), ("spaced", "odd")):
        check(laid_out(a, dtype, first) @ laid_out(b, dtype, second), a, b, dtype)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int32"])
@pytest.mark.parametrize("addend", ["full", "row", "column", "number", "transposed"])
def test_addends(addend: str, dtype: str, set_architecture: Callable[[int], None]) -> None:
    set_architecture(80)
    r = np.random.default_rng(4)
    for m, n, k in ((40, 72, 20), (40, 33, 1500), (64, 3, 70)):
        a, b = numbers(r, (m, k), dtype), numbers(r, (k, n), dtype)
        shape = {"full": (m, n), "row": (n,), "column": (m, 1), "number": (), "transposed": (m, n)}[addend]
        d = numbers(r, shape, dtype)
        y = gg.addmm(
            laid_out(d, dtype, "columns" if addend == "transposed" else "rows"),
            laid_out(a, dtype, "rows"),
            laid_out(b, dtype, "columns"),
            beta=3,
            alpha=2,
        )
        check(y, 2 * a, b, dtype, 3 * d)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int64"])
def test_batches(dtype: str, set_architecture: Callable[[int], None]) -> None:
    set_architecture(80)
    r = np.random.default_rng(5)
    for a_batch, b_batch in (((3,), (3,)), ((2, 1, 3), (4, 1)), ((), (5,)), ((5,), ())):
        for m, n, k in ((20, 30, 17), (4, 40, 24), (33, 2, 40)):
            a, b = numbers(r, (*a_batch, m, k), dtype), numbers(r, (*b_batch, k, n), dtype)
            for layout in ("rows", "columns"):
                check(laid_out(a, dtype, layout) @ laid_out(b, dtype, layout), a, b, dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_inverse(dtype: str) -> None:
    r = np.random.default_rng(6)
    for n in (1, 2, 7, 65):
        a = r.standard_normal((3, n, n))
        a[0, 0, 0] = 0 if n > 1 else 2
        x = gg.tensor(a, dtype=getattr(gg, dtype))
        found = gg.linalg.inv(x.to(DEVICE)).cpu().to(gg.float64).numpy()
        np.testing.assert_allclose(found, np.linalg.inv(x.to(gg.float64).numpy()), rtol=1e-6, atol=1e-6 * n)
    a[1, 3] = a[1, 5]
    a[1, :, 4] = 0
    with pytest.raises(RuntimeError, match="singular"):
        gg.linalg.inv(gg.tensor(a).to(DEVICE))
