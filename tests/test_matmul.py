"""Large products of float32 on the CPU: every ISA's kernels against float64, also where a matrix unit makes them."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

import glassgrad as gg

# M, K, N: whole blocks of 32, ragged edges, several blocks of K
SHAPES = [(256, 256, 256), (301, 129, 517), (130, 1100, 700), (640, 513, 193)]


def operands(m: int, k: int, n: int, layout: str) -> tuple[gg.Tensor, gg.Tensor]:
    gg.manual_seed(0)
    a = gg.randn(k, m).t() if layout[0] == "t" else gg.randn(m, k)
    b = gg.randn(n, k).t() if layout[1] == "t" else gg.randn(k, n)
    return a, b


@pytest.mark.parametrize("layout", ["nn", "nt", "tn", "tt"])
@pytest.mark.parametrize("shape", SHAPES)
def test_no_isa_errs_more_than_plain_float32(
    shape: tuple[int, int, int], layout: str, isas: list[str], set_isa: Callable[[str], None]
) -> None:
    a, b = operands(*shape, layout)
    expected = a.double() @ b.double()
    bound = a.abs().double() @ b.abs().double()  # errors are relative to what is added up
    errors = []
    for name in isas:
        set_isa(name)
        wrong = ((a @ b).double() - expected).abs() / bound
        assert wrong.max().item() < 1e-6
        errors.append(wrong.square().mean().sqrt().item())
    assert max(errors) < 1.2 * errors[0]


def test_an_addend_and_factors(isas: list[str], set_isa: Callable[[str], None]) -> None:
    a, b = operands(290, 600, 330, "nn")
    for addend in (gg.randn(290, 330), gg.randn(330), gg.randn(290, 1)):
        expected = 0.5 * addend.double() - 2.0 * (a.double() @ b.double())
        for name in isas:
            set_isa(name)
            found = gg.addmm(addend, a, b, beta=0.5, alpha=-2.0)
            gg.testing.assert_close(found.double(), expected, rtol=1e-5, atol=2e-4)


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("place", [(0, 0), (299, 1039)])
def test_what_is_not_finite_stays_in_its_row_or_column(
    value: float, place: tuple[int, int], isas: list[str], set_isa: Callable[[str], None]
) -> None:
    a, b = operands(300, 1040, 310, "nn")
    a[place] = value
    expected = (a.double() @ b.double()).float()
    for name in isas:
        set_isa(name)
        found = a @ b
        assert int((~found.isfinite()).sum().item()) == 310
        gg.testing.assert_close(found, expected, rtol=1e-4, atol=1e-3, equal_nan=True)
        turned = b.t() @ a.t()
        gg.testing.assert_close(turned, expected.t(), rtol=1e-4, atol=1e-3, equal_nan=True)


@pytest.mark.parametrize("exponent", [-60, -20, 40, 60])
def test_large_and_small_magnitudes(exponent: int, isas: list[str], set_isa: Callable[[str], None]) -> None:
    a, b = operands(256, 200, 256, "nn")
    a = a * 2.0**exponent
    expected = a.double() @ b.double()
    for name in isas:
        set_isa(name)
        found = (a @ b).double()
        assert ((found - expected).abs().max() / expected.abs().max()).item() < 1e-6
