"""The elementary functions of float32 on the CPU, beside float64: errors in units in the last place."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import glassgrad as gg

Array = np.ndarray

# Name: largest error allowed, and the arguments: a range of values, or "all" for all magnitudes.
BOUNDS: dict[str, tuple[float, object]] = {
    "exp": (1.5, (-87, 88)),
    "exp2": (1.5, (-126, 128)),
    "expm1": (2, (-20, 88)),
    "log": (1.5, "positive"),
    "log2": (3, "positive"),
    "log10": (3, "positive"),
    "log1p": (1.5, (-0.999, 1e6)),
    "sin": (2, (-9e4, 9e4)),
    "cos": (2, (-9e4, 9e4)),
    "tan": (4, (-9e4, 9e4)),
    "asin": (3, (-1, 1)),
    "acos": (3, (-1, 1)),
    "atan": (3, "all"),
    "sinh": (4, (-88, 88)),
    "cosh": (4, (-88, 88)),
    "tanh": (6, (-12, 12)),
    "asinh": (2, "all"),
    "acosh": (3, (1, 1e20)),
    "atanh": (4, (-0.9999, 0.9999)),
    "sigmoid": (4, (-80, 80)),
    "erf": (7, (-5, 5)),
    "erfc": (9, (-5, 9)),
    "erfinv": (8, (-1, 1)),
    "lgamma": (2, (-30, 1e4)),
    "digamma": (1, (0, 1e4)),
    "sqrt": (0.5001, "positive"),
    "rsqrt": (2, "positive"),
}


def arguments(domain: object) -> Array:
    random = np.random.default_rng(0)
    if isinstance(domain, tuple):
        low, high = domain
        spread = random.uniform(low, high, 40000)
        near = random.uniform(-1, 1, 20000) * 10.0 ** random.uniform(-30, 0, 20000)  # and around zero
        x = np.concatenate([spread, near, [low, high]]).astype(np.float32)
        return x[(x >= low) & (x <= high)]
    bits = random.integers(0x00800000, 0x7F800000, 60000, dtype=np.uint32)
    x = bits.view(np.float32)
    return x if domain == "positive" else np.concatenate([x, -x])


def ulps(found: Array, exact: Array) -> Array:
    """Errors in units of the last place of what float32 has nearest to the exact value."""
    normal = (np.abs(exact) >= 2.0**-126) & (np.abs(exact) < 2.0**128 * (1 - 2.0**-24))
    error = np.zeros_like(exact)
    unit = np.spacing(np.abs(exact[normal]).astype(np.float32)).astype(np.float64)
    error[normal] = np.abs(found[normal].astype(np.float64) - exact[normal]) / unit
    return error


@pytest.fixture(params=gg.config()["isas"])
def isa(request: pytest.FixtureRequest, set_isa: Callable[[str], None]) -> str:
    set_isa(request.param)
    return str(request.param)


def apply(name: str, *x: Array) -> Array:
    function: Callable[..., gg.Tensor] = getattr(gg, name)
    return function(*[gg.tensor(a) for a in x]).numpy()


@pytest.mark.parametrize("name", BOUNDS)
def test_float_error(name: str, isa: str) -> None:
    bound, domain = BOUNDS[name]
    x = arguments(domain)
    error = ulps(apply(name, x), apply(name, x.astype(np.float64)))
    worst = int(error.argmax())
    assert error[worst] <= bound, f"{name}({x[worst]!r}) under {isa}: {error[worst]:.2f} ulp"


def test_pow_and_hypot_error(isa: str) -> None:
    generator = np.random.default_rng(2)
    x = np.exp2(generator.uniform(-30, 30, 60000)).astype(np.float32)
    y = generator.uniform(-4, 4, 60000).astype(np.float32)
    for name, function in (("pow", np.power), ("hypot", np.hypot)):
        exact = function(x.astype(np.float64), y.astype(np.float64))
        assert ulps(apply(name, x, y), exact).max() <= 0.51, name


@pytest.mark.parametrize("name", ["pow", "hypot", "atan2"])
def test_special_pairs(name: str, isa: str) -> None:
    values = np.concatenate([SPECIAL, np.array([3, -3, 2.5, -2.5, 1e-30, 0.99], np.float32)])
    x, y = (a.ravel() for a in np.meshgrid(values, values))
    found, exact = apply(name, x, y), apply(name, x.astype(np.float64), y.astype(np.float64)).astype(np.float32)
    np.testing.assert_allclose(found, exact, rtol=1e-6, atol=2e-45)
    np.testing.assert_array_equal(np.signbit(found[exact == 0]), np.signbit(exact[exact == 0]))


def test_gamma_family_of_doubles() -> None:
    x = np.concatenate([np.linspace(-9.9, 20, 1300) + 0.0123, np.geomspace(1e-6, 1e6, 300)])
    found = [f(gg.tensor(x)).numpy() for f in (gg.digamma, lambda t: gg.polygamma(1, t))]
    for n, values in enumerate(found):  # the recurrence psi_n(x + 1) = psi_n(x) + (-1)^n n! / x^(n+1)
        next_one = (gg.digamma(gg.tensor(x + 1)) if n == 0 else gg.polygamma(1, gg.tensor(x + 1))).numpy()
        step = 1 / x if n == 0 else -1 / x**2
        np.testing.assert_allclose(values + step, next_one, rtol=1e-12, atol=1e-12 * np.abs(step).max())
    known = gg.tensor([1.0, 0.5, 10.0, 8.0, float("inf")], dtype=gg.float64)
    euler = 0.57721566490153286061
    psi = [-euler, -euler - 2 * np.log(2), 2.25175258906672110765, 2.01564147795561002254, np.inf]
    np.testing.assert_allclose(gg.digamma(known).numpy(), psi, rtol=4e-15)
    psi1 = [np.pi**2 / 6, np.pi**2 / 2, 0.10516633568168574612, 0.13313701469403142514, 0]
    np.testing.assert_allclose(gg.polygamma(1, known).numpy(), psi1, rtol=4e-15)


def test_atan2_error(isa: str) -> None:
    y, x = arguments("all"), np.random.default_rng(1).permutation(arguments("all"))
    exact = np.arctan2(y.astype(np.float64), x.astype(np.float64))
    assert ulps(apply("atan2", y, x), exact).max() <= 3


SPECIAL = np.array([0.0, -0.0, 1, -1, 2, -2, 0.5, np.inf, -np.inf, np.nan, 1e-40, -1e-40, 3e38, -3e38], np.float32)


@pytest.mark.parametrize("name", BOUNDS)
def test_special_values(name: str, isa: str) -> None:
    found, exact = apply(name, SPECIAL), apply(name, SPECIAL.astype(np.float64)).astype(np.float32)
    np.testing.assert_allclose(found, exact, rtol=1e-6, atol=2e-45)
    if name not in ("tanh", "erf"):  # whose zero is +0
        np.testing.assert_array_equal(np.signbit(found[exact == 0]), np.signbit(exact[exact == 0]))


@pytest.mark.parametrize("axis", ["log2", "exp2"])
def test_powers_of_two_are_exact(axis: str, isa: str) -> None:
    k = np.arange(-126, 128, dtype=np.float32)
    powers = np.ldexp(np.float32(1), k.astype(np.int32))
    x, y = (powers, k) if axis == "log2" else (k, powers)
    np.testing.assert_array_equal(apply(axis, x), y)
