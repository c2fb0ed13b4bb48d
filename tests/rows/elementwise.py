"""Arithmetic, comparisons and mathematical functions."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from op_table import ALL, FLOATS, INTS, Bad, Row, Sample

NUMBERS = (*FLOATS, *INTS)
WHOLE = (*INTS, "bool")


def elementwise(f: Callable[[float], float]) -> Callable[[Any], Any]:
    """A scalar function of the standard library on arrays, NaN where it refuses."""

    def guarded(x: float) -> float:
        try:
            return f(x)
        except (ValueError, OverflowError):
            return math.nan

    return np.vectorize(guarded, otypes=[np.float64])


def real(f: Callable[..., Any]) -> Callable[..., Any]:
    """f in float64: numpy takes the exponential of a bool in float16."""
    return lambda *x: f(*(np.asarray(a, np.float64) for a in x))


def unary(name: str, ref: Any, low: float = -2.0, high: float = 2.0, **row: Any) -> Row:
    row.setdefault("dtypes", ALL)
    row.setdefault("grad", True)
    row.setdefault("nonfinite", True)
    row.setdefault("method", True)
    return Row(
        name,
        samples=lambda r: [
            Sample(r.uniform(low, high, 67)),
            Sample(r.uniform(low, high, 3, 5)),
            Sample(r.uniform(low, high)),
            Sample(r.uniform(low, high, 0, 2)),
        ],
        ref=ref,
        bench=lambda r: [Sample(r.uniform(low, high, 100_000))],
        **row,
    )


def binary(name: str, ref: Any, low: float = -2.0, high: float = 2.0, **row: Any) -> Row:
    row.setdefault("dtypes", ALL)
    row.setdefault("grad", True)
    row.setdefault("method", True)
    row.setdefault(
        "bad",
        [Bad(lambda: ((np.ones((2, 3)), np.ones((2, 4))), {}), ValueError, r"\(2, 3\).*\(2, 4\)")],
    )
    return Row(
        name,
        samples=lambda r: [
            Sample(r.uniform(low, high, 67), r.uniform(low, high, 67)),
            Sample(r.uniform(low, high, 3, 5), r.uniform(low, high, 5)),
            Sample(r.uniform(low, high, 4, 1), r.uniform(low, high, 2, 1, 3)),
            Sample(r.uniform(low, high, 300, 2), r.uniform(low, high)),
            Sample(r.uniform(low, high), r.uniform(low, high)),
            Sample(r.uniform(low, high, 0, 2), r.uniform(low, high, 2)),
        ],
        ref=ref,
        bench=lambda r: [Sample(r.uniform(low, high, 100_000), r.uniform(low, high, 100_000))],
        **row,
    )


def whole(name: str, ref: Any, low: int, high: int, **row: Any) -> Row:
    row.setdefault("dtypes", ("int64",))
    return Row(
        name,
        samples=lambda r: [
            Sample(r.integers(low, high, 67), r.integers(low, high, 67)),
            Sample(r.integers(low, high, 3, 5), r.integers(low, high, 5)),
            Sample(r.integers(low, high, 3, 5).astype(np.int16), r.integers(low, high, 5).astype(np.int32)),
        ],
        ref=ref,
        bad=[Bad(lambda: ((np.ones(3), np.ones(3)), {}), TypeError, "whole")],
        **row,
    )


def lerp(a: Any, b: Any, w: Any) -> Any:
    return a + w * (b - a)


def divided(x: Any, y: Any, rounding_mode: str | None = None) -> Any:
    if rounding_mode is None:
        return x / y
    if rounding_mode == "floor":
        return np.floor_divide(x, y)
    return np.trunc(x / y) if np.asarray(x).dtype.kind == "f" else np.fix(x / y).astype(np.int64)


def relation(name: str, ref: Any) -> Row:
    return Row(
        name,
        samples=lambda r: [
            Sample(np.round(r.normal(67), 1), np.round(r.normal(67), 1)),
            Sample(np.round(r.normal(3, 4)), np.round(r.normal(4))),
            Sample(np.round(r.normal(3, 4)), 1),
            Sample(np.round(r.normal(3, 4)), 0.5),
            Sample(r.integers(-3, 3, 5), np.round(r.normal(5))),
        ],
        ref=ref,
        dtypes=ALL,
        method=True,
        nonfinite=True,
        bad=[Bad(lambda: ((np.ones((2, 3)), np.ones((2, 4))), {}), ValueError, r"\(2, 3\).*\(2, 4\)")],
    )


ROWS = [
    # arithmetic
    binary("add", lambda x, y: x + y if x.dtype != bool else x | y, inplace="add_"),
    Row(
        "add",
        samples=lambda r: [Sample(r.normal(3, 4), r.normal(4), alpha=0.5), Sample(r.normal(3), 2.5, alpha=2)],
        ref=lambda x, y, alpha: x + alpha * y,
        grad=True,
        bad=[Bad(lambda: ((np.ones(2, np.int64), np.ones(2, np.int64)), {"alpha": 0.5}), RuntimeError, "alpha")],
    ),
    binary(
        "sub",
        lambda x, y: x - y,
        dtypes=NUMBERS,
        inplace="sub_",
        bad=[Bad(lambda: ((np.ones(2, bool), np.ones(2, bool)), {}), TypeError, "bool")],
    ),
    Row(
        "sub",
        samples=lambda r: [Sample(r.normal(3, 4), r.normal(4), alpha=0.5)],
        ref=lambda x, y, alpha: x - alpha * y,
        grad=True,
    ),
    binary("rsub", lambda x, y: y - x, dtypes=NUMBERS, bad=()),
    binary("mul", lambda x, y: x * y, inplace="mul_"),
    binary("div", divided, 0.5, 2.0, inplace="div_"),
    Row(
        "div",
        samples=lambda r: (
            [Sample(r.normal(40), r.positive(40), rounding_mode=mode).at_kink() for mode in ("floor", "trunc", None)]
            + [Sample(r.integers(-20, 20, 30), r.integers(1, 7, 30), rounding_mode=mode) for mode in ("floor", "trunc")]
            + [Sample(r.normal(3), 1.5, rounding_mode="floor").at_kink()]
        ),
        ref=divided,
        dtypes=("float64", "float32"),
        bad=[
            Bad(lambda: ((np.ones(2), np.ones(2)), {"rounding_mode": "up"}), RuntimeError, "rounding_mode"),
            Bad(
                lambda: ((np.ones(2, np.int64), np.zeros(2, np.int64)), {"rounding_mode": "floor"}),
                RuntimeError,
                "ZeroDivisionError",
            ),
        ],
    ),
    Row(
        "floor_divide",
        samples=lambda r: [Sample(r.normal(40), r.positive(40)), Sample(r.integers(-20, 20, 30), r.integers(1, 7, 30))],
        ref=np.floor_divide,
        dtypes=("float64", "float32"),
        method=True,
        bad=[Bad(lambda: ((np.ones(2, np.int64), 0), {}), RuntimeError, "ZeroDivisionError")],
    ),
    binary("remainder", np.mod, 0.3, 4.0, dtypes=NUMBERS, inplace="remainder_"),
    binary("fmod", np.fmod, 0.3, 4.0, dtypes=NUMBERS, inplace="fmod_"),
    Row(
        "remainder",
        samples=lambda r: [Sample(r.integers(-20, 20, 30), r.integers(1, 7, 30) * (1 - 2 * r.bools(30)))],
        ref=np.mod,
        dtypes=("int64",),
        bad=[Bad(lambda: ((np.ones(2, np.int64), np.zeros(2, np.int64)), {}), RuntimeError, "ZeroDivisionError")],
    ),
    unary("neg", lambda x: -x, dtypes=NUMBERS, inplace="neg_"),
    unary("positive", lambda x: x, dtypes=NUMBERS),
    unary("square", lambda x: x * x, dtypes=NUMBERS, inplace="square_"),
    binary("pow", lambda x, y: x**y, 0.3, 2.0, dtypes=FLOATS, inplace="pow_"),
    Row(
        "pow",
        samples=lambda r: (
            [Sample(r.positive(3, 4), p) for p in (0, 1, 2, 3, 4, -1, -2, 0.5, -0.5, 1.7)]
            + [Sample(r.normal(5), p) for p in (2, 3, 5)]
            + [Sample(2.5, r.normal(5)), Sample(r.integers(-5, 5, 9), 3), Sample(2, r.integers(0, 9, 9))]
        ),
        ref=lambda x, y: np.asarray(x, np.float64 if isinstance(y, float) else None) ** y,
        grad=False,
        bad=[Bad(lambda: ((np.ones(2, np.int64), -1), {}), ValueError, "negative power")],
    ),
    Row(
        "pow",
        samples=lambda r: (
            [Sample(r.positive(3, 4), p) for p in (0, 1, 2, 3, 4, -1, -2, 0.5, -0.5, 1.7)]
            + [Sample(2.5, r.normal(5)), Sample(r.normal(5), 2), Sample(r.normal(5), 3)]
        ),
        ref=lambda x, y: x**y,
        grad=True,
    ),
    Row(
        "float_power",
        samples=lambda r: [Sample(r.positive(3, 4), r.normal(4)), Sample(r.positive(5), -2), Sample(2, r.normal(3))],
        ref=lambda x, y: np.asarray(x, np.float64) ** y,
        grad=True,
    ),
    Row(
        "lerp",
        samples=lambda r: [
            Sample(r.normal(3, 4), r.normal(3, 4), r.uniform(-1, 2, 3, 4)),
            Sample(r.normal(3, 4), r.normal(4), 0.3),
            Sample(r.normal(3, 1), r.normal(4), r.uniform(0, 1, 3, 4)),
        ],
        ref=lerp,
        grad=True,
        method=True,
        bad=[Bad(lambda: ((np.ones(3), np.ones(4), 0.5), {}), ValueError, r"\(3,\)")],
    ),
    Row(
        "addcmul",
        samples=lambda r: [
            Sample(r.normal(3, 4), r.normal(3, 4), r.normal(4)),
            Sample(r.normal(4), r.normal(3, 1), r.normal(4), value=0.5),
        ],
        ref=lambda x, a, b, value=1: x + value * a * b,
        dtypes=NUMBERS[:2],
        grad=True,
        method=True,
    ),
    Row(
        "addcdiv",
        samples=lambda r: [
            Sample(r.normal(3, 4), r.normal(3, 4), r.positive(4)),
            Sample(r.normal(4), r.normal(3, 1), r.positive(4), value=0.5),
        ],
        ref=lambda x, a, b, value=1: x + value * a / b,
        grad=True,
        method=True,
        bad=[Bad(lambda: ((np.ones(2, np.int64),) * 3, {}), TypeError, "floating")],
    ),
    Row(
        "ldexp",
        samples=lambda r: [Sample(r.normal(3, 4), r.integers(0, 4, 4))],
        ref=lambda x, e: x * 2.0**e,
        grad=True,
        method=True,
    ),
    whole("gcd", np.gcd, -30, 30, method=True),
    whole("lcm", np.lcm, -30, 30, method=True),
    # choices
    Row(
        "where",
        samples=lambda r: [
            Sample(r.bools(3, 4), r.normal(3, 4), r.normal(4)),
            Sample(r.bools(3, 1), r.normal(4), 2.0),
            Sample(r.bools(3, 1), 1.0, r.normal(3, 4)),
            Sample(r.bools(700), r.normal(700), r.normal(700)),
        ],
        ref=np.where,
        dtypes=FLOATS,
        grad=True,
        bad=[Bad(lambda: ((np.ones(3), np.ones(3), np.ones(3)), {}), TypeError, "bool")],
    ),
    binary("maximum", np.maximum, nonfinite=True),
    binary("minimum", np.minimum, nonfinite=True),
    Row(
        "maximum",
        samples=lambda r: [Sample(np.round(r.normal(40)), np.round(r.normal(40))).at_kink()],
        ref=np.maximum,
        grad=True,
    ),
    binary("fmax", np.fmax),
    binary("fmin", np.fmin),
    Row(
        "clamp",
        samples=lambda r: [
            Sample(r.normal(40), -0.5, 0.75),
            Sample(r.normal(3, 4), min=-0.5),
            Sample(r.normal(3, 4), max=0.5),
            Sample(r.normal(3, 4), r.normal(4), r.normal(3, 4)),
            Sample(r.normal(3, 4), max=r.normal(4)),
            Sample(np.array([-1.0, 0.0, 1.0, 2.0]), -1.0, 1.0).at_kink(),
        ],
        ref=lambda x, min=None, max=None: np.minimum(
            np.maximum(x, -np.inf if min is None else min), np.inf if max is None else max
        ),
        grad=True,
        method=True,
        inplace="clamp_",
        bad=[Bad(lambda: ((np.ones(3),), {}), RuntimeError, "min and max")],
    ),
    Row(
        "clamp_min",
        samples=lambda r: [Sample(r.normal(40), 0.1)],
        ref=np.maximum,
        dtypes=FLOATS,
        grad=True,
        method=True,
    ),
    Row(
        "clamp_max",
        samples=lambda r: [Sample(r.normal(40), 0.1)],
        ref=np.minimum,
        dtypes=FLOATS,
        grad=True,
        method=True,
    ),
    Row(
        "heaviside",
        samples=lambda r: [Sample(np.round(r.normal(40)), r.normal(40))],
        ref=np.heaviside,
        method=True,
        bad=[Bad(lambda: ((np.ones(3), np.ones(3, np.int64)), {}), RuntimeError, "one dtype")],
    ),
    # questions
    relation("eq", np.equal),
    relation("ne", np.not_equal),
    relation("lt", np.less),
    relation("le", np.less_equal),
    relation("gt", np.greater),
    relation("ge", np.greater_equal),
    binary("logical_and", np.logical_and, grad=False),
    binary("logical_or", np.logical_or, grad=False),
    binary("logical_xor", np.logical_xor, grad=False),
    unary("logical_not", np.logical_not, grad=False),
    unary("isnan", np.isnan, grad=False),
    unary("isinf", np.isinf, grad=False),
    unary("isfinite", np.isfinite, grad=False),
    unary("isposinf", lambda x: np.isposinf(np.asarray(x, float)), grad=False, method=False),
    unary("isneginf", lambda x: np.isneginf(np.asarray(x, float)), grad=False, method=False),
    unary("isreal", np.isreal, grad=False),
    unary("signbit", lambda x: np.signbit(np.asarray(x, float)), grad=False),
    Row(
        "isclose",
        samples=lambda r: [
            Sample(np.array([1.0, 2.0, np.inf, np.nan]), np.array([1.0 + 1e-7, 2.1, np.inf, np.nan])),
            Sample(np.array([1.0, np.nan]), np.array([1.05, np.nan]), rtol=0.1, equal_nan=True),
        ],
        ref=np.isclose,
        dtypes=("float64", "float32"),
        method=True,
    ),
    Row(
        "allclose",
        samples=lambda r: [Sample(np.array([1.0, 2.0]), np.array([1.0 + 1e-7, 2.0])), Sample(np.ones(2), np.zeros(2))],
        ref=np.allclose,
        dtypes=("float64", "float32"),
        method=True,
    ),
    Row(
        "equal",
        samples=lambda r: [
            Sample(np.ones(3), np.ones(3)),
            Sample(np.ones(3), np.zeros(3)),
            Sample(np.ones(3), np.ones(2)),
        ],
        ref=np.array_equal,
        dtypes=ALL,
        method=True,
    ),
    # whole numbers
    whole("bitwise_and", np.bitwise_and, -50, 50, method=True),
    whole("bitwise_or", np.bitwise_or, -50, 50, method=True),
    whole("bitwise_xor", np.bitwise_xor, -50, 50, method=True),
    unary("bitwise_not", np.invert, dtypes=WHOLE, grad=False, nonfinite=False),
    Row(
        "bitwise_left_shift",
        samples=lambda r: [Sample(r.integers(-50, 50, 20), r.integers(0, 9, 20)), Sample(r.integers(0, 9, 3), 2)],
        ref=np.left_shift,
        dtypes=("int64",),
        method=True,
        bad=[Bad(lambda: ((np.ones(3), np.ones(3)), {}), TypeError, "whole")],
    ),
    Row(
        "bitwise_right_shift",
        samples=lambda r: [Sample(r.integers(-500, 500, 20), r.integers(0, 9, 20)), Sample(r.integers(0, 90, 3), 2)],
        ref=np.right_shift,
        dtypes=("int64",),
        method=True,
        bad=[Bad(lambda: ((np.ones(3), np.ones(3)), {}), TypeError, "whole")],
    ),
    # signs and rounding
    unary("abs", np.abs, dtypes=NUMBERS, inplace="abs_"),
    unary("sign", lambda x: x if x.dtype == bool else np.sign(x), inplace="sign_"),
    unary("sgn", lambda x: x if x.dtype == bool else np.sign(x), grad=False),
    binary("copysign", real(np.copysign)),
    unary("floor", np.floor, dtypes=NUMBERS, inplace="floor_"),
    unary("ceil", np.ceil, dtypes=NUMBERS),
    unary("round", np.round, dtypes=NUMBERS),
    Row(
        "round",
        samples=lambda r: [Sample(r.normal(20) * 100, decimals=1), Sample(r.normal(20) * 1000, decimals=-2)],
        ref=np.round,
        dtypes=("float64", "float32"),
        method=True,
    ),
    unary("trunc", np.trunc, dtypes=NUMBERS),
    unary("fix", np.trunc, dtypes=NUMBERS),
    unary("frac", lambda x: x - np.trunc(x), dtypes=FLOATS, nonfinite=False),
    unary("nan_to_num", np.nan_to_num, dtypes=FLOATS),
    Row(
        "nan_to_num",
        samples=lambda r: [Sample(np.array([np.nan, np.inf, -np.inf, 2.0]), nan=3.0, posinf=4.0, neginf=-5.0)],
        ref=np.nan_to_num,
        method=True,
    ),
    # exponentials, logarithms, roots
    unary("exp", real(np.exp), inplace="exp_"),
    unary("exp2", real(np.exp2)),
    unary("expm1", real(np.expm1)),
    unary("log", real(np.log), 0.1, 3.0, inplace="log_"),
    unary("log2", real(np.log2), 0.1, 3.0),
    unary("log10", real(np.log10), 0.1, 3.0),
    unary("log1p", real(np.log1p), -0.9, 3.0),
    unary("sqrt", real(np.sqrt), 0.1, 3.0, inplace="sqrt_"),
    unary("rsqrt", lambda x: 1 / np.sqrt(x), 0.1, 3.0),
    unary("reciprocal", lambda x: 1 / np.asarray(x, np.float64), 0.3, 3.0),
    binary("xlogy", lambda x, y: np.where(x == 0, 0.0, x * np.log(np.asarray(y, float))), 0.2, 3.0),
    binary("logaddexp", np.logaddexp, dtypes=FLOATS),
    binary("logaddexp2", np.logaddexp2, dtypes=FLOATS),
    binary("hypot", np.hypot, dtypes=FLOATS),
    # trigonometric and hyperbolic functions
    unary("sin", real(np.sin), -9.0, 9.0, inplace="sin_"),
    unary("cos", real(np.cos), -9.0, 9.0),
    unary("tan", real(np.tan), -1.2, 1.2),
    unary("asin", real(np.arcsin), -0.9, 0.9),
    unary("acos", real(np.arccos), -0.9, 0.9),
    unary("atan", real(np.arctan), -3.0, 3.0),
    binary("atan2", real(np.arctan2)),
    unary("sinh", real(np.sinh)),
    unary("cosh", real(np.cosh)),
    unary("tanh", real(np.tanh), inplace="tanh_"),
    unary("asinh", real(np.arcsinh), nonfinite=False, notes="torch loses the sign of huge negative float32 arguments"),
    unary("acosh", real(np.arccosh), 1.1, 3.0),
    unary("atanh", real(np.arctanh), -0.9, 0.9),
    unary("deg2rad", real(np.deg2rad), -180.0, 180.0),
    unary("rad2deg", real(np.rad2deg)),
    # special functions
    unary("erf", elementwise(math.erf)),
    unary("erfc", elementwise(math.erfc)),
    unary("erfinv", None, -0.9, 0.9),
    unary("lgamma", elementwise(math.lgamma), 0.3, 4.0, dtypes=FLOATS, nonfinite=False),
    unary("digamma", None, 0.3, 4.0, dtypes=FLOATS, nonfinite=False),
    Row(
        "polygamma",
        samples=lambda r: [Sample(n, r.uniform(0.3, 4.0, 20)) for n in range(4)],
        dtypes=("float64", "float32"),
        grad=True,
        bad=[Bad(lambda: ((-1, np.ones(2)), {}), RuntimeError, "negative")],
    ),
    unary("sinc", real(np.sinc), -2.0, 2.0),
    Row(
        "mvlgamma",
        samples=lambda r: [Sample(r.uniform(2.0, 4.0, 20), p) for p in (1, 3)],
        dtypes=("float64", "float32"),
        grad=True,
        method=True,
        bad=[Bad(lambda: ((np.ones(2), 0), {}), RuntimeError, "at least 1")],
    ),
]
