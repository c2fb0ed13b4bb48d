"""Arithmetic, comparisons and mathematical functions, element by element (kernels: csrc/ops/elementwise).

Operands broadcast; dtypes promote as PyTorch's do. A function of one argument saves what its derivative is simplest in,
the input or the output. `rule` is that derivative in ordinary ops: backward uses it when gradients are themselves
recorded, and otherwise the kernel's `grad`, the same mathematics in one pass.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Optional, TypeGuard, Union

from glassgrad import _core as core
from glassgrad.amp import Casts
from glassgrad.autograd.graph import OUTPUT, Op, direct, recording, unbroadcast

if TYPE_CHECKING:
    from glassgrad.tensor import Tensor

Operand = Union["Tensor", int, float]
Gradients = tuple[Optional["Tensor"], ...]


class OfInput(Op):
    """y = f(x), whose derivative is a function of x."""

    kernel: ClassVar[Callable[..., Tensor]]
    fused: ClassVar[Callable[..., Tensor] | None] = None
    saves = ((0, 0),)

    def backward(self, dy: Tensor) -> Tensor:
        (kept,) = self.saved
        if self.fused is None or recording():
            return self.rule(kept, dy, *self.params)
        return self.fused(kept, dy, *self.params)

    def rule(self, kept: Tensor, dy: Tensor, *params: Any) -> Tensor:
        """The gradient in ordinary ops."""
        raise NotImplementedError


class OfOutput(OfInput):
    """y = f(x), whose derivative is a function of y."""

    saves = ((OUTPUT, 0),)


class Flat(Op):
    """A function made of constant pieces: its derivative is zero wherever it has one."""

    kernel: ClassVar[Callable[..., Tensor]]

    def forward(self, x: Tensor, *others: Any) -> Tensor:
        self.shapes = [shape_of(t) for t in (x, *others)]
        return self.kernel(x, *others)

    def backward(self, dy: Tensor) -> Gradients:
        from glassgrad.ops.creation import zeros

        return tuple(
            None if edge is None else zeros(shape, dtype=dy.dtype, device=dy.device)
            for shape, edge in zip(self.shapes, self.edges)
        )


class OfTwo(Op):
    """y = f(a, b) with broadcasting: `first` and `second` are the gradients by a and b in y's shape."""

    kernel: ClassVar[Callable[..., Tensor]]

    saves = ((0, None), (1, None))

    def backward(self, dy: Tensor) -> Gradients:
        a, b = self.saved
        want_a, want_b = self.edges[0] is not None, self.edges[1] is not None
        return (
            self.by(0, self.first(a, b, dy)) if want_a else None,
            self.by(1, self.second(a, b, dy)) if want_b else None,
        )

    def first(self, a: Any, b: Any, dy: Tensor) -> Tensor:
        """The gradient by a."""
        raise NotImplementedError

    def second(self, a: Any, b: Any, dy: Tensor) -> Tensor:
        """The gradient by b."""
        raise NotImplementedError


def is_tensor(x: Any) -> TypeGuard[Tensor]:
    return isinstance(x, core.TensorBase)


def shape_of(x: Any) -> tuple[int, ...]:
    return x.shape if is_tensor(x) else ()


# Arithmetic ----------------------------------------------------------------------------------------------------------


class Add(Op):
    """a + b"""

    kernel = core.add

    # dL/da = dy, dL/db = dy
    def backward(self, dy: Tensor) -> Gradients:
        return self.by(0, dy), self.by(1, dy)


class AddScaled(Op):
    """a + alpha b"""

    kernel = core.add_scaled

    # dL/da = dy, dL/db = alpha dy
    def backward(self, dy: Tensor) -> Gradients:
        return self.by(0, dy), self.by(1, dy * self.params[-1]) if self.needs[1] else None


class Sub(Op):
    """a - b"""

    kernel = core.sub

    def backward(self, dy: Tensor) -> Gradients:
        return self.by(0, dy), self.by(1, -dy) if self.needs[1] else None


class Mul(Op):
    """a b"""

    kernel = core.mul
    # Each factor is kept only for the other's gradient: one that nobody needs may be changed in place afterwards.
    saves = ((0, 1), (1, 0))

    # dL/da = dy b, dL/db = dy a
    def backward(self, dy: Tensor) -> Gradients:
        a, b = self.saved
        return None if b is None else self.by(0, dy * b), None if a is None else self.by(1, dy * a)


class Div(Op):
    """y = a / b"""

    kernel = core.div
    saves = ((0, 1), (1, None))

    # dL/da = dy / b, dL/db = -dy a / b^2
    def backward(self, dy: Tensor) -> Gradients:
        a, b = self.saved
        da = self.by(0, dy / b) if self.edges[0] is not None else None
        if self.edges[1] is None:
            return da, None
        db = -dy * (a / b / b) if recording() else core.div_backward(a, b, dy)
        return da, self.by(1, db)


class NumberOver(Div):
    """y = a / x for a number a: a times the reciprocal of x to autocast"""

    autocast = Casts(gpu="float32")


class Neg(Op):
    """-x"""

    kernel = core.neg

    def backward(self, dy: Tensor) -> Tensor:
        return -dy


class Remainder(OfTwo):
    """a - b floor(a / b)"""

    kernel = core.remainder

    def first(self, a: Any, b: Any, dy: Tensor) -> Tensor:
        return dy

    def second(self, a: Any, b: Any, dy: Tensor) -> Tensor:
        return -dy * div(a, b, rounding_mode="floor")


class Fmod(OfTwo):
    """a - b trunc(a / b)"""

    kernel = core.fmod

    def first(self, a: Any, b: Any, dy: Tensor) -> Tensor:
        return dy

    def second(self, a: Any, b: Any, dy: Tensor) -> Tensor:
        return -dy * div(a, b, rounding_mode="trunc")


class DivFloor(Flat):
    """floor(a / b)"""

    kernel = core.floor_divide


class DivTrunc(Flat):
    """trunc(a / b)"""

    kernel = core.div_trunc


class Pow(Op):
    """y = a^b"""

    autocast = Casts(gpu="float32")

    def forward(self, a: Operand, b: Operand) -> Tensor:
        self.numbers: tuple[Any, Any] = None if is_tensor(a) else a, None if is_tensor(b) else b
        y = core.pow(a, b)
        self.save(a if is_tensor(a) else None, b if is_tensor(b) else None, y if self.edges and is_tensor(b) else None)
        return y

    # dL/da = dy b a^(b-1), nothing for b = 0; dL/db = dy a^b ln a, whose limit at a = 0 < b is nothing.
    def backward(self, dy: Tensor) -> Gradients:
        a, b, y = self.saved
        if b is None:
            b = self.numbers[1]
            return (dy * (b * a ** (b - 1)) if b != 0 else dy * 0), None
        da = None
        if a is None:
            a = self.numbers[0]
        elif self.edges[0] is not None:
            da = unbroadcast(where(b == 0, 0.0, dy * (b * a ** (b - 1))), a.shape)
        if self.edges[1] is None:
            return da, None
        if is_tensor(a):
            grows = where((a == 0) & (b >= 0), 0.0, dy * (y * log(a)))
        elif a == 0:
            grows = where(b >= 0, 0.0, dy * (y * -math.inf))
        else:
            grows = dy * (y * (math.log(a) if a > 0 else math.nan))
        return da, unbroadcast(grows, b.shape)


class Square(OfInput):
    """x^2; dx = 2 x dy"""

    kernel, fused = core.square, core.square_backward
    autocast = Casts(gpu="float32")

    def rule(self, x: Tensor, dy: Tensor) -> Tensor:
        return dy * (x * 2)


class Cube(OfInput):
    """x^3; dx = 3 x^2 dy"""

    kernel, fused = core.cube, core.cube_backward
    autocast = Casts(gpu="float32")

    def rule(self, x: Tensor, dy: Tensor) -> Tensor:
        return dy * (x * x * 3)


class Addcmul(Op):
    """x + value a b"""

    autocast = Casts(gpu="widest")

    def forward(self, x: Tensor, a: Tensor, b: Tensor, value: float) -> Tensor:
        self.shape, self.value = x.shape, value
        self.save(a, b)
        return core.addcmul(x, a, b, value)

    def backward(self, dy: Tensor) -> Gradients:
        a, b = self.saved
        scaled = dy if self.value == 1 else dy * self.value
        x_, a_, b_ = (edge is not None for edge in self.edges[:3])
        return (
            unbroadcast(dy, self.shape) if x_ else None,
            unbroadcast(scaled * b, a.shape) if a_ else None,
            unbroadcast(scaled * a, b.shape) if b_ else None,
        )


class Addcdiv(Op):
    """x + value a / b"""

    autocast = Casts(gpu="widest")

    def forward(self, x: Tensor, a: Tensor, b: Tensor, value: float) -> Tensor:
        self.shape, self.value = x.shape, value
        self.save(a, b)
        return core.addcdiv(x, a, b, value)

    def backward(self, dy: Tensor) -> Gradients:
        a, b = self.saved
        scaled = dy if self.value == 1 else dy * self.value
        x_, a_, b_ = (edge is not None for edge in self.edges[:3])
        return (
            unbroadcast(dy, self.shape) if x_ else None,
            unbroadcast(scaled / b, a.shape) if a_ else None,
            unbroadcast(-scaled * (a / (b * b)), b.shape) if b_ else None,
        )


class Lerp(Op):
    """a + w (b - a)"""

    def forward(self, a: Tensor, b: Tensor, w: Operand) -> Tensor:
        self.number: Any = None if is_tensor(w) else w
        self.save(a, b, w if is_tensor(w) else None)
        return core.lerp(a, b, w)

    # dL/da = (1 - w) dy, dL/db = w dy, dL/dw = (b - a) dy
    def backward(self, dy: Tensor) -> Gradients:
        a, b, w = self.saved
        weight = self.number if w is None else w
        a_, b_, w_ = (edge is not None for edge in self.edges[:3])
        return (
            unbroadcast(dy * (1 - weight), a.shape) if a_ else None,
            unbroadcast(dy * weight, b.shape) if b_ else None,
            unbroadcast(dy * (b - a), w.shape) if w_ else None,
        )


# Choices -------------------------------------------------------------------------------------------------------------


class Where(Op):
    """a where the condition holds, else b"""

    def forward(self, a: Operand, b: Operand, condition: Tensor) -> Tensor:
        self.shapes = shape_of(a), shape_of(b)
        self.save(condition)
        return core.where(condition, a, b)

    def backward(self, dy: Tensor) -> Gradients:
        (condition,) = self.saved
        da = unbroadcast(where(condition, dy, 0.0), self.shapes[0]) if self.edges[0] is not None else None
        db = unbroadcast(where(condition, 0.0, dy), self.shapes[1]) if self.edges[1] is not None else None
        return da, db


class Maximum(OfTwo):
    """The larger of a and b, NaN where either is."""

    kernel = core.maximum

    # The larger one receives dy; equal ones share it.
    def first(self, a: Any, b: Any, dy: Tensor) -> Tensor:
        return larger_share(a, b, dy)

    def second(self, a: Any, b: Any, dy: Tensor) -> Tensor:
        return larger_share(b, a, dy)


class Minimum(OfTwo):
    """The smaller of a and b, NaN where either is."""

    kernel = core.minimum

    def first(self, a: Any, b: Any, dy: Tensor) -> Tensor:
        return larger_share(-a, -b, dy)

    def second(self, a: Any, b: Any, dy: Tensor) -> Tensor:
        return larger_share(-b, -a, dy)


def larger_share(a: Any, b: Any, dy: Tensor) -> Tensor:
    """What a in max(a, b) receives of dy."""
    if recording():
        return where(as_condition(a < b), 0.0, where(as_condition(a == b), dy * 0.5, dy))
    return core.maximum_backward(a, b, dy)


def as_condition(x: Any) -> Tensor:
    from glassgrad.tensor import tensor

    return x if is_tensor(x) else tensor(x)


class Fmax(OfTwo):
    """The larger of a and b, the other one where one is NaN; a receives the gradient of a tie."""

    kernel = core.fmax

    def first(self, a: Any, b: Any, dy: Tensor) -> Tensor:
        return where((a >= b) | (b != b), dy, 0.0)

    def second(self, a: Any, b: Any, dy: Tensor) -> Tensor:
        return where((a >= b) | (b != b), 0.0, dy)


class Fmin(OfTwo):
    """The smaller of a and b, the other one where one is NaN; a receives the gradient of a tie."""

    kernel = core.fmin

    def first(self, a: Any, b: Any, dy: Tensor) -> Tensor:
        return where((a <= b) | (b != b), dy, 0.0)

    def second(self, a: Any, b: Any, dy: Tensor) -> Tensor:
        return where((a <= b) | (b != b), 0.0, dy)


class Clamp(Op):
    """min(max(x, low), high)"""

    def forward(self, x: Tensor, low: Operand, high: Operand) -> Tensor:
        self.low: Any = None if is_tensor(low) else low
        self.high: Any = None if is_tensor(high) else high
        self.save(x, low if is_tensor(low) else None, high if is_tensor(high) else None)
        return core.clamp(x, low, high)

    # x receives dy inside the bounds and on them, a bound where it is the result.
    def backward(self, dy: Tensor) -> Gradients:
        x, low, high = self.saved
        if low is None and high is None and not recording():
            return core.clamp_backward(x, dy, self.low, self.high), None, None
        low, high = self.low if low is None else low, self.high if high is None else high
        x_, low_, high_ = ((*(edge is not None for edge in self.edges), False, False, False))[:3]
        return (
            unbroadcast(where((x >= low) & (x <= high), dy, 0.0), x.shape) if x_ else None,
            unbroadcast(where((x < low) & as_condition(low < high), dy, 0.0), low.shape) if low_ else None,
            unbroadcast(where((x > high) | as_condition(low > high), dy, 0.0), high.shape) if high_ else None,
        )


class ClampMin(OfTwo):
    """max(x, low); x receives dy where it is at least low"""

    kernel = core.maximum

    def first(self, a: Any, b: Any, dy: Tensor) -> Tensor:
        return where(a >= b, dy, 0.0)

    def second(self, a: Any, b: Any, dy: Tensor) -> Tensor:
        return where(a < b, dy, 0.0)


class ClampMax(OfTwo):
    """min(x, high); x receives dy where it is at most high"""

    kernel = core.minimum

    def first(self, a: Any, b: Any, dy: Tensor) -> Tensor:
        return where(a <= b, dy, 0.0)

    def second(self, a: Any, b: Any, dy: Tensor) -> Tensor:
        return where(a > b, dy, 0.0)


# Signs and rounding --------------------------------------------------------------------------------------------------


class Abs(OfInput):
    """|x|; dx = sign(x) dy, zero at zero"""

    kernel, fused = core.abs, core.abs_backward

    def rule(self, x: Tensor, dy: Tensor) -> Tensor:
        return dy * sign(x)


class Sign(Flat):
    """-1, 0 or 1"""

    kernel = core.sign


class Floor(Flat):
    """The next whole number below"""

    kernel = core.floor


class Ceil(Flat):
    """The next whole number above"""

    kernel = core.ceil


class Round(Flat):
    """The nearest whole number, halves to even"""

    kernel = core.round


class RoundDecimals(Flat):
    """The nearest multiple of a power of ten"""

    kernel = core.round_decimals


class Trunc(Flat):
    """The next whole number towards zero"""

    kernel = core.trunc


class Frac(Op):
    """x - trunc(x)"""

    def forward(self, x: Tensor) -> Tensor:
        return core.frac(x)

    def backward(self, dy: Tensor) -> Tensor:
        return dy


class NanToNum(OfInput):
    """x with numbers for NaN and the infinities; the rest receives dy"""

    kernel, fused = core.nan_to_num, core.nan_to_num_backward

    def rule(self, x: Tensor, dy: Tensor, *numbers: float) -> Tensor:
        return where(isfinite(x), dy, 0.0)


class Copysign(Op):
    """|a| with b's sign"""

    def forward(self, a: Tensor, b: Operand) -> Tensor:
        y = core.copysign(a, b)
        self.shape = shape_of(b)
        self.save(a, y)
        return y

    # dL/da = dy times the sign that a was multiplied by, zero at zero; b has no share
    def backward(self, dy: Tensor) -> Gradients:
        from glassgrad.ops.creation import zeros

        a, y = self.saved
        da = unbroadcast(dy * (sign(a) * sign(y)), a.shape) if self.edges[0] is not None else None
        return da, zeros(self.shape, dtype=dy.dtype, device=dy.device) if self.edges[1] is not None else None


# Exponentials, logarithms, roots -------------------------------------------------------------------------------------


class Exp(OfOutput):
    """y = e^x; dx = y dy"""

    kernel = core.exp
    autocast = Casts(gpu="float32")

    def rule(self, y: Tensor, dy: Tensor) -> Tensor:
        return dy * y


class Exp2(OfOutput):
    """y = 2^x; dx = y ln 2 dy"""

    kernel, fused = core.exp2, core.exp2_backward

    def rule(self, y: Tensor, dy: Tensor) -> Tensor:
        return dy * (y * math.log(2))


class Expm1(OfOutput):
    """y = e^x - 1; dx = (y + 1) dy"""

    kernel, fused = core.expm1, core.expm1_backward
    autocast = Casts(gpu="float32")

    def rule(self, y: Tensor, dy: Tensor) -> Tensor:
        return dy * (y + 1)


class Log(OfInput):
    """ln x; dx = dy / x"""

    kernel = core.log
    autocast = Casts(gpu="float32")

    def rule(self, x: Tensor, dy: Tensor) -> Tensor:
        return dy / x


class Log2(OfInput):
    """log2 x; dx = dy / (x ln 2)"""

    kernel, fused = core.log2, core.log2_backward
    autocast = Casts(gpu="float32")

    def rule(self, x: Tensor, dy: Tensor) -> Tensor:
        return dy / (x * math.log(2))


class Log10(OfInput):
    """log10 x; dx = dy / (x ln 10)"""

    kernel, fused = core.log10, core.log10_backward
    autocast = Casts(gpu="float32")

    def rule(self, x: Tensor, dy: Tensor) -> Tensor:
        return dy / (x * math.log(10))


class Log1p(OfInput):
    """ln (1 + x); dx = dy / (1 + x)"""

    kernel, fused = core.log1p, core.log1p_backward
    autocast = Casts(gpu="float32")

    def rule(self, x: Tensor, dy: Tensor) -> Tensor:
        return dy / (x + 1)


class Sqrt(OfOutput):
    """y = x^(1/2); dx = dy / (2 y)"""

    kernel, fused = core.sqrt, core.sqrt_backward

    def rule(self, y: Tensor, dy: Tensor) -> Tensor:
        return dy / (y * 2)


class PowHalf(Sqrt):
    """x^(1/2) as a power, which autocast takes for one"""

    autocast = Casts(gpu="float32")


class Rsqrt(OfOutput):
    """y = x^(-1/2); dx = -y^3 dy / 2"""

    kernel, fused = core.rsqrt, core.rsqrt_backward
    autocast = Casts(gpu="float32")

    def rule(self, y: Tensor, dy: Tensor) -> Tensor:
        return dy * (y * y * y * -0.5)


class Reciprocal(OfOutput):
    """y = 1 / x; dx = -y^2 dy"""

    kernel, fused = core.reciprocal, core.reciprocal_backward
    autocast = Casts(gpu="float32")

    def rule(self, y: Tensor, dy: Tensor) -> Tensor:
        return -dy * y * y


class Xlogy(OfTwo):
    """a ln b, zero where a is; d/da = ln b, d/db = a / b"""

    kernel = core.xlogy

    def first(self, a: Any, b: Any, dy: Tensor) -> Tensor:
        logarithm = log(b) if is_tensor(b) else math.log(b) if b > 0 else -math.inf if b == 0 else math.nan
        return where((a == 0) & as_condition(b <= 0), 0.0, dy * logarithm)

    def second(self, a: Any, b: Any, dy: Tensor) -> Tensor:
        return dy * (a / b)


class Logaddexp(OfTwo):
    """ln(e^a + e^b); d/da = e^a / (e^a + e^b) = sigmoid(a - b)"""

    kernel = core.logaddexp

    def first(self, a: Any, b: Any, dy: Tensor) -> Tensor:
        return dy / (1 + exp(b - a))

    def second(self, a: Any, b: Any, dy: Tensor) -> Tensor:
        return dy / (1 + exp(a - b))


class Logaddexp2(OfTwo):
    """log2(2^a + 2^b); d/da = 2^a / (2^a + 2^b)"""

    kernel = core.logaddexp2

    def first(self, a: Any, b: Any, dy: Tensor) -> Tensor:
        return dy / (1 + exp2(b - a))

    def second(self, a: Any, b: Any, dy: Tensor) -> Tensor:
        return dy / (1 + exp2(a - b))


class Hypot(OfTwo):
    """(a^2 + b^2)^(1/2); d/da = a / y"""

    kernel = core.hypot

    def first(self, a: Any, b: Any, dy: Tensor) -> Tensor:
        return dy * (a / hypot(a, b))

    def second(self, a: Any, b: Any, dy: Tensor) -> Tensor:
        return dy * (b / hypot(a, b))


# Trigonometric and hyperbolic functions ------------------------------------------------------------------------------


class Sin(OfInput):
    """sin x; dx = cos(x) dy"""

    kernel, fused = core.sin, core.sin_backward

    def rule(self, x: Tensor, dy: Tensor) -> Tensor:
        return dy * cos(x)


class Cos(OfInput):
    """cos x; dx = -sin(x) dy"""

    kernel, fused = core.cos, core.cos_backward

    def rule(self, x: Tensor, dy: Tensor) -> Tensor:
        return -dy * sin(x)


class Tan(OfOutput):
    """y = tan x; dx = (1 + y^2) dy"""

    kernel, fused = core.tan, core.tan_backward
    autocast = Casts(gpu="float32")

    def rule(self, y: Tensor, dy: Tensor) -> Tensor:
        return dy * (y * y + 1)


class Asin(OfInput):
    """arcsin x; dx = dy / (1 - x^2)^(1/2)"""

    kernel, fused = core.asin, core.asin_backward
    autocast = Casts(gpu="float32")

    def rule(self, x: Tensor, dy: Tensor) -> Tensor:
        return dy * rsqrt(1 - x * x)


class Acos(OfInput):
    """arccos x; dx = -dy / (1 - x^2)^(1/2)"""

    kernel, fused = core.acos, core.acos_backward
    autocast = Casts(gpu="float32")

    def rule(self, x: Tensor, dy: Tensor) -> Tensor:
        return -dy * rsqrt(1 - x * x)


class Atan(OfInput):
    """arctan x; dx = dy / (1 + x^2)"""

    kernel, fused = core.atan, core.atan_backward

    def rule(self, x: Tensor, dy: Tensor) -> Tensor:
        return dy / (x * x + 1)


class Atan2(OfTwo):
    """The angle of the point (b, a); d/da = b / (a^2 + b^2), d/db = -a / (a^2 + b^2)"""

    kernel = core.atan2
    autocast = Casts(gpu="widest")

    def first(self, a: Any, b: Any, dy: Tensor) -> Tensor:
        return dy * (b / (a * a + b * b))

    def second(self, a: Any, b: Any, dy: Tensor) -> Tensor:
        return -dy * (a / (a * a + b * b))


class Sinh(OfInput):
    """sinh x; dx = cosh(x) dy"""

    kernel, fused = core.sinh, core.sinh_backward
    autocast = Casts(gpu="float32")

    def rule(self, x: Tensor, dy: Tensor) -> Tensor:
        return dy * cosh(x)


class Cosh(OfInput):
    """cosh x; dx = sinh(x) dy"""

    kernel, fused = core.cosh, core.cosh_backward
    autocast = Casts(gpu="float32")

    def rule(self, x: Tensor, dy: Tensor) -> Tensor:
        return dy * sinh(x)


class Tanh(OfOutput):
    """y = tanh x; dx = (1 - y^2) dy"""

    kernel, fused = core.tanh, core.tanh_backward

    def rule(self, y: Tensor, dy: Tensor) -> Tensor:
        return dy * (1 - y * y)


class Asinh(OfInput):
    """arsinh x; dx = dy / (x^2 + 1)^(1/2)"""

    kernel, fused = core.asinh, core.asinh_backward

    def rule(self, x: Tensor, dy: Tensor) -> Tensor:
        return dy * rsqrt(x * x + 1)


class Acosh(OfInput):
    """arcosh x; dx = dy / (x^2 - 1)^(1/2)"""

    kernel, fused = core.acosh, core.acosh_backward

    def rule(self, x: Tensor, dy: Tensor) -> Tensor:
        return dy * rsqrt(x * x - 1)


class Atanh(OfInput):
    """artanh x; dx = dy / (1 - x^2)"""

    kernel, fused = core.atanh, core.atanh_backward

    def rule(self, x: Tensor, dy: Tensor) -> Tensor:
        return dy / (1 - x * x)


# Special functions ---------------------------------------------------------------------------------------------------


class Erf(OfInput):
    """2/sqrt(pi) times the integral of e^(-t^2) from 0 to x; dx = 2/sqrt(pi) e^(-x^2) dy"""

    kernel, fused = core.erf, core.erf_backward

    def rule(self, x: Tensor, dy: Tensor) -> Tensor:
        return dy * (exp(-x * x) * (2 / math.sqrt(math.pi)))


class Erfc(OfInput):
    """1 - erf(x)"""

    kernel, fused = core.erfc, core.erfc_backward

    def rule(self, x: Tensor, dy: Tensor) -> Tensor:
        return -dy * (exp(-x * x) * (2 / math.sqrt(math.pi)))


class Erfinv(OfOutput):
    """y with erf(y) = x; dx = sqrt(pi)/2 e^(y^2) dy"""

    kernel, fused = core.erfinv, core.erfinv_backward
    autocast = Casts(gpu="float32")

    def rule(self, y: Tensor, dy: Tensor) -> Tensor:
        return dy * (exp(y * y) * (math.sqrt(math.pi) / 2))


class Lgamma(OfInput):
    """ln |Gamma(x)|; dx = digamma(x) dy"""

    kernel, fused = core.lgamma, core.lgamma_backward

    def rule(self, x: Tensor, dy: Tensor) -> Tensor:
        return dy * digamma(x)


class Digamma(OfInput):
    """(ln Gamma)'(x); dx = digamma'(x) dy"""

    kernel, fused = core.digamma, core.digamma_backward

    def rule(self, x: Tensor, dy: Tensor) -> Tensor:
        return dy * polygamma(1, x)


class Polygamma(OfInput):
    """The n-th derivative of digamma"""

    kernel, fused = core.polygamma, core.polygamma_backward

    def rule(self, x: Tensor, dy: Tensor, n: int) -> Tensor:
        return dy * polygamma(n + 1, x)


class Sinc(OfInput):
    """sin(t) / t, t = pi x; dx = (cos(t) - sin(t) / t) / x dy"""

    kernel, fused = core.sinc, core.sinc_backward

    def rule(self, x: Tensor, dy: Tensor) -> Tensor:
        away = where(x == 0, 1.0, x)  # the quotient is 0/0 at zero, where every derivative of odd order is zero
        t = away * math.pi
        return where(x == 0, -(math.pi**2 / 3) * x * dy, dy * ((cos(t) - sin(t) / t) / away))


# Functions: arithmetic -----------------------------------------------------------------------------------------------


@direct(Add)
def add(input: Tensor, other: Operand, *, alpha: float = 1) -> Tensor:
    """input + alpha * other, broadcast; for bool, "or".

    >>> gg.add(gg.tensor([1.0, 2.0]), 1)
    tensor([2., 3.])
    """
    if alpha == 1:
        return Add.apply(input, other)
    check_alpha("add", input, other, alpha)
    return AddScaled.apply(input, other, alpha)


@direct(Sub)
def sub(input: Tensor, other: Operand, *, alpha: float = 1) -> Tensor:
    """input - alpha * other, broadcast; bool operands raise TypeError.

    >>> gg.sub(gg.tensor([1, 2]), gg.tensor([3, 3]))
    tensor([-2, -1])
    """
    if alpha == 1:
        return Sub.apply(input, other)
    check_alpha("sub", input, other, alpha)
    return AddScaled.apply(input, other, -alpha)


def add_into(input: Tensor, other: Operand, *, alpha: float = 1) -> bool:
    """input += alpha * other in input's own memory; False where that cannot be."""
    check_alpha("add", input, other, alpha)
    return core.add_into(input, other) if alpha == 1 else core.add_scaled_into(input, other, alpha)


def sub_into(input: Tensor, other: Operand, *, alpha: float = 1) -> bool:
    """input -= alpha * other in input's own memory; False where that cannot be."""
    check_alpha("sub", input, other, alpha)
    return core.sub_into(input, other) if alpha == 1 else core.add_scaled_into(input, other, -alpha)


def div_into(input: Tensor, other: Operand, *, rounding_mode: str | None = None) -> bool:
    """input /= other in input's own memory; False where that cannot be."""
    return rounding_mode is None and core.div_into(input, other)


def rsub(input: Tensor, other: Operand, *, alpha: float = 1) -> Tensor:
    """other - alpha * input, broadcast.

    >>> 1 - gg.tensor([1.0, 2.0])
    tensor([ 0., -1.])
    """
    return Sub.apply(other, input if alpha == 1 else input * alpha)


def check_alpha(op: str, input: Operand, other: Operand, alpha: float) -> None:
    if alpha != 1 and isinstance(alpha, float) and not core.result_type(input, other).is_floating_point:
        raise RuntimeError(f"{op}: alpha is {alpha}; for whole numbers it must be one as well")


@direct(Mul)
def mul(input: Tensor, other: Operand) -> Tensor:
    """input * other, broadcast; for bool, "and".

    >>> gg.tensor([1.0, 2.0]) * gg.tensor([[2.0], [3.0]])
    tensor([[2., 4.],
            [3., 6.]])
    """
    return Mul.apply(input, other)


def div(input: Tensor, other: Operand, *, rounding_mode: str | None = None) -> Tensor:
    """input / other, broadcast: the true quotient, or rounded towards zero ("trunc") or down ("floor").

    Of whole numbers the true quotient is float32, a rounded one whole; dividing by zero then raises RuntimeError.

    >>> gg.div(gg.tensor([7, -7]), 2)
    tensor([ 3.5000, -3.5000])
    >>> gg.div(gg.tensor([7, -7]), 2, rounding_mode="floor")
    tensor([ 3, -4])
    """
    if rounding_mode is None:
        return Div.apply(input, other)
    if rounding_mode == "trunc":
        return DivTrunc.apply(input, other)
    if rounding_mode == "floor":
        return DivFloor.apply(input, other)
    raise RuntimeError(f"div: rounding_mode is {rounding_mode!r}; it must be None, 'trunc' or 'floor'")


@direct(Div)
def true_divide(input: Tensor, other: Operand) -> Tensor:
    """input / other, never rounded to whole numbers.

    >>> gg.true_divide(gg.tensor([1, 2]), 4)
    tensor([0.2500, 0.5000])
    """
    return Div.apply(input, other)


def rtruediv(input: Tensor, other: Operand) -> Tensor:
    """other / input."""
    if is_tensor(other):
        return Div.apply(other, input)
    return Reciprocal.apply(input) if other == 1 else NumberOver.apply(other, input)


@direct(DivFloor)
def floor_divide(input: Tensor, other: Operand) -> Tensor:
    """floor(input / other), broadcast; whole numbers stay whole and raise RuntimeError when divided by zero.

    >>> gg.tensor([7.0, -7.0]) // 2
    tensor([ 3., -4.])
    """
    return DivFloor.apply(input, other)


def rfloordiv(input: Tensor, other: Operand) -> Tensor:
    """floor(other / input)."""
    return DivFloor.apply(other, input)


@direct(Remainder)
def remainder(input: Operand, other: Operand) -> Tensor:
    """input - other * floor(input / other): the remainder with the divisor's sign, as Python's %.

    >>> gg.remainder(gg.tensor([-3.0, 3.0]), 2)
    tensor([1., 1.])
    """
    return Remainder.apply(input, other)


def rmod(input: Tensor, other: Operand) -> Tensor:
    """other % input."""
    return Remainder.apply(other, input)


@direct(Fmod)
def fmod(input: Tensor, other: Operand) -> Tensor:
    """input - other * trunc(input / other): the remainder with the dividend's sign, as C's fmod.

    >>> gg.fmod(gg.tensor([-3.0, 3.0]), 2)
    tensor([-1.,  1.])
    """
    return Fmod.apply(input, other)


@direct(Neg)
def neg(input: Tensor) -> Tensor:
    """-input; bool raises TypeError.

    >>> -gg.tensor([1.0, -2.0])
    tensor([-1.,  2.])
    """
    return Neg.apply(input)


def positive(input: Tensor) -> Tensor:
    """input itself; bool raises TypeError.

    >>> +gg.tensor([1.0])
    tensor([1.])
    """
    if input.dtype is core.bool:
        raise TypeError("positive: is not defined for bool")
    return input


def square(input: Tensor) -> Tensor:
    """input^2.

    >>> gg.square(gg.tensor([1.0, -3.0]))
    tensor([1., 9.])
    """
    return pow(input, 2)


def pow(input: Operand, exponent: Operand) -> Tensor:
    """input^exponent, broadcast; one of the two may be a number.

    Whole numbers to a negative whole number raise ValueError.

    >>> gg.pow(gg.tensor([1.0, 2.0, 3.0]), 2)
    tensor([1., 4., 9.])
    >>> 2 ** gg.tensor([1, 2, 3])
    tensor([2, 4, 8])
    """
    if not is_tensor(exponent) and is_tensor(input):
        number = input.dtype is not core.bool
        if exponent == 2 and number and (isinstance(exponent, int) or input.dtype.is_floating_point):
            return Square.apply(input)
        if exponent == 3 and number and (isinstance(exponent, int) or input.dtype.is_floating_point):
            return Cube.apply(input)
        if exponent == 0.5:
            return PowHalf.apply(input)
        if exponent == -0.5:
            return Rsqrt.apply(input)
        if exponent == -1 and input.dtype.is_floating_point:
            return Reciprocal.apply(input)
    return Pow.apply(input, exponent)


def rpow(input: Tensor, other: Operand) -> Tensor:
    """other^input."""
    return Pow.apply(other, input)


def float_power(input: Operand, exponent: Operand) -> Tensor:
    """input^exponent in float64.

    >>> gg.float_power(gg.tensor([2]), -1)
    tensor([0.5000], dtype=glassgrad.float64)
    """
    double = [x.to(core.float64) if is_tensor(x) else float(x) for x in (input, exponent)]
    return pow(*double)


def lerp(input: Tensor, end: Tensor, weight: Operand) -> Tensor:
    """input + weight * (end - input), from the nearer end; floating dtypes.

    >>> gg.lerp(gg.tensor([0.0, 10.0]), gg.tensor([1.0, 20.0]), 0.5)
    tensor([ 0.5000, 15.0000])
    """
    if core.promote_types(input.dtype, end.dtype) is not input.dtype or input.dtype is not end.dtype:
        raise TypeError(f"lerp: input {input.dtype} and end {end.dtype} must have one dtype")
    return Lerp.apply(input, end, weight)


def addcmul(input: Tensor, tensor1: Tensor, tensor2: Tensor, *, value: float = 1) -> Tensor:
    """input + value * tensor1 * tensor2, broadcast.

    >>> gg.addcmul(gg.tensor([1.0]), gg.tensor([2.0]), gg.tensor([3.0]), value=0.5)
    tensor([4.])
    """
    return Addcmul.apply(input, tensor1, tensor2, value)


def addcdiv(input: Tensor, tensor1: Tensor, tensor2: Tensor, *, value: float = 1) -> Tensor:
    """input + value * tensor1 / tensor2, broadcast; floating dtypes.

    >>> gg.addcdiv(gg.tensor([1.0]), gg.tensor([3.0]), gg.tensor([2.0]), value=2)
    tensor([4.])
    """
    return Addcdiv.apply(input, tensor1, tensor2, value)


def ldexp(input: Tensor, other: Tensor) -> Tensor:
    """input * 2^other.

    >>> gg.ldexp(gg.tensor([1.0]), gg.tensor([3]))
    tensor([8.])
    """
    if input.dtype.is_floating_point and not other.dtype.is_floating_point:
        other = other.to(input.dtype)
    return mul(input, pow(2.0, other))


def gcd(input: Tensor, other: Tensor) -> Tensor:
    """The greatest common divisor of whole numbers.

    >>> gg.gcd(gg.tensor([12]), gg.tensor([-18]))
    tensor([6])
    """
    return core.gcd(input, other)


def lcm(input: Tensor, other: Tensor) -> Tensor:
    """The least common multiple of whole numbers.

    >>> gg.lcm(gg.tensor([4]), gg.tensor([6]))
    tensor([12])
    """
    return core.lcm(input, other)


# Functions: choices --------------------------------------------------------------------------------------------------


def where(condition: Tensor, input: Operand | None = None, other: Operand | None = None) -> Any:
    """input where the bool condition holds, else other, broadcast.

    With the condition alone: the indices of its nonzero elements, one tensor for each axis.

    >>> gg.where(gg.tensor([True, False]), gg.tensor([1.0, 2.0]), 0.0)
    tensor([1., 0.])
    """
    if input is None and other is None:
        return condition.nonzero(as_tuple=True)
    if input is None or other is None:
        raise TypeError("where: give both input and other, or neither")
    return Where.apply(input, other, condition)


def where_method(self: Tensor, condition: Tensor, other: Operand) -> Tensor:
    """self where the condition holds, else other."""
    return Where.apply(self, other, condition)


@direct(Maximum)
def maximum(input: Tensor, other: Tensor) -> Tensor:
    """The larger of two elements, NaN where either is; equal ones share the gradient.

    >>> gg.maximum(gg.tensor([1.0, 5.0]), gg.tensor([3.0, 2.0]))
    tensor([3., 5.])
    """
    return Maximum.apply(input, other)


@direct(Minimum)
def minimum(input: Tensor, other: Tensor) -> Tensor:
    """The smaller of two elements, NaN where either is; equal ones share the gradient.

    >>> gg.minimum(gg.tensor([1.0, 5.0]), gg.tensor([3.0, 2.0]))
    tensor([1., 2.])
    """
    return Minimum.apply(input, other)


@direct(Fmax)
def fmax(input: Tensor, other: Tensor) -> Tensor:
    """The larger of two elements, ignoring NaN.

    >>> gg.fmax(gg.tensor([1.0, float("nan")]), gg.tensor([3.0, 2.0]))
    tensor([3., 2.])
    """
    return Fmax.apply(input, other)


@direct(Fmin)
def fmin(input: Tensor, other: Tensor) -> Tensor:
    """The smaller of two elements, ignoring NaN.

    >>> gg.fmin(gg.tensor([1.0, float("nan")]), gg.tensor([3.0, 2.0]))
    tensor([1., 2.])
    """
    return Fmin.apply(input, other)


def clamp(input: Tensor, min: Operand | None = None, max: Operand | None = None) -> Tensor:
    """input brought into [min, max]; bounds are numbers or tensors, and either may be missing.

    A lower bound above the upper one gives the upper one.

    >>> gg.clamp(gg.tensor([-1.0, 0.5, 2.0]), 0, 1)
    tensor([0.0000, 0.5000, 1.0000])
    """
    if min is None:
        if max is None:
            raise RuntimeError("clamp: at least one of min and max must not be None")
        return ClampMax.apply(input, max)
    if max is None:
        return ClampMin.apply(input, min)
    return Clamp.apply(input, min, max)


def clamp_min(input: Tensor, min: Operand) -> Tensor:
    """input, but at least min.

    >>> gg.clamp_min(gg.tensor([-1.0, 2.0]), 0)
    tensor([0., 2.])
    """
    return ClampMin.apply(input, min)


def clamp_max(input: Tensor, max: Operand) -> Tensor:
    """input, but at most max.

    >>> gg.clamp_max(gg.tensor([-1.0, 2.0]), 0)
    tensor([-1.,  0.])
    """
    return ClampMax.apply(input, max)


def heaviside(input: Tensor, values: Tensor) -> Tensor:
    """0 below zero, 1 above, values at zero.

    >>> gg.heaviside(gg.tensor([-1.0, 0.0, 2.0]), gg.tensor(0.5))
    tensor([0.0000, 0.5000, 1.0000])
    """
    if input.dtype is not values.dtype:
        raise RuntimeError(f"heaviside: input {input.dtype} and values {values.dtype} must have one dtype")
    return core.heaviside(input, values)


# Functions: comparisons and logic ------------------------------------------------------------------------------------


def eq(input: Tensor, other: Operand) -> Tensor:
    """input == other, as bool.

    >>> gg.tensor([1, 2]) == 2
    tensor([False,  True])
    """
    return core.eq(input, other)


def equals(self: Tensor, other: Any) -> Any:
    """self == other as an operator: what is neither a tensor nor a number is not equal."""
    return core.eq(self, other) if isinstance(other, (core.TensorBase, numbers.Number)) else NotImplemented


def differs(self: Tensor, other: Any) -> Any:
    """self != other as an operator."""
    return core.ne(self, other) if isinstance(other, (core.TensorBase, numbers.Number)) else NotImplemented


def ne(input: Tensor, other: Operand) -> Tensor:
    """input != other, as bool.

    >>> gg.tensor([1, 2]) != 2
    tensor([ True, False])
    """
    return core.ne(input, other)


def lt(input: Tensor, other: Operand) -> Tensor:
    """input < other, as bool.

    >>> gg.tensor([1, 2]) < 2
    tensor([ True, False])
    """
    return core.lt(input, other)


def le(input: Tensor, other: Operand) -> Tensor:
    """input <= other, as bool.

    >>> gg.tensor([1, 3]) <= 2
    tensor([ True, False])
    """
    return core.le(input, other)


def gt(input: Tensor, other: Operand) -> Tensor:
    """input > other, as bool.

    >>> gg.tensor([1, 3]) > 2
    tensor([False,  True])
    """
    return core.gt(input, other)


def ge(input: Tensor, other: Operand) -> Tensor:
    """input >= other, as bool.

    >>> gg.tensor([1, 2]) >= 2
    tensor([False,  True])
    """
    return core.ge(input, other)


def logical_and(input: Tensor, other: Tensor) -> Tensor:
    """Whether both are not zero.

    >>> gg.logical_and(gg.tensor([1, 0]), gg.tensor([2, 2]))
    tensor([ True, False])
    """
    return core.logical_and(input, other)


def logical_or(input: Tensor, other: Tensor) -> Tensor:
    """Whether either is not zero.

    >>> gg.logical_or(gg.tensor([1, 0]), gg.tensor([0, 0]))
    tensor([ True, False])
    """
    return core.logical_or(input, other)


def logical_xor(input: Tensor, other: Tensor) -> Tensor:
    """Whether exactly one is not zero.

    >>> gg.logical_xor(gg.tensor([1, 0]), gg.tensor([2, 2]))
    tensor([False,  True])
    """
    return core.logical_xor(input, other)


def logical_not(input: Tensor) -> Tensor:
    """Whether it is zero.

    >>> gg.logical_not(gg.tensor([1, 0]))
    tensor([False,  True])
    """
    return core.logical_not(input)


def bitwise_and(input: Operand, other: Operand) -> Tensor:
    """input & other, for whole numbers and bool.

    >>> gg.tensor([5, 6]) & 3
    tensor([1, 2])
    """
    return core.bitwise_and(input, other)


def bitwise_or(input: Operand, other: Operand) -> Tensor:
    """input | other, for whole numbers and bool.

    >>> gg.tensor([5, 6]) | 3
    tensor([7, 7])
    """
    return core.bitwise_or(input, other)


def bitwise_xor(input: Operand, other: Operand) -> Tensor:
    """input ^ other, for whole numbers and bool.

    >>> gg.tensor([5, 6]) ^ 3
    tensor([6, 5])
    """
    return core.bitwise_xor(input, other)


def bitwise_not(input: Tensor) -> Tensor:
    """~input: every bit of a whole number turned, or not of a bool.

    >>> ~gg.tensor([0, 5])
    tensor([-1, -6])
    """
    return core.logical_not(input) if input.dtype is core.bool else core.bitwise_not(input)


def bitwise_left_shift(input: Operand, other: Operand) -> Tensor:
    """input << other, for whole numbers.

    >>> gg.tensor([1, 3]) << 2
    tensor([ 4, 12])
    """
    return core.bitwise_left_shift(input, other)


def bitwise_right_shift(input: Operand, other: Operand) -> Tensor:
    """input >> other with the sign kept, for whole numbers.

    >>> gg.tensor([8, -8]) >> 2
    tensor([ 2, -2])
    """
    return core.bitwise_right_shift(input, other)


def rlshift(input: Tensor, other: Operand) -> Tensor:
    """other << input."""
    return core.bitwise_left_shift(other, input)


def rrshift(input: Tensor, other: Operand) -> Tensor:
    """other >> input."""
    return core.bitwise_right_shift(other, input)


def isnan(input: Tensor) -> Tensor:
    """Whether it is NaN.

    >>> gg.isnan(gg.tensor([1.0, float("nan")]))
    tensor([False,  True])
    """
    return core.isnan(input)


def isinf(input: Tensor) -> Tensor:
    """Whether it is infinite.

    >>> gg.isinf(gg.tensor([1.0, float("inf")]))
    tensor([False,  True])
    """
    return core.isinf(input)


def isfinite(input: Tensor) -> Tensor:
    """Whether it is neither NaN nor infinite.

    >>> gg.isfinite(gg.tensor([1.0, float("inf")]))
    tensor([ True, False])
    """
    return core.isfinite(input)


def isposinf(input: Tensor) -> Tensor:
    """Whether it is plus infinity.

    >>> gg.isposinf(gg.tensor([-float("inf"), float("inf")]))
    tensor([False,  True])
    """
    return core.isposinf(input)


def isneginf(input: Tensor) -> Tensor:
    """Whether it is minus infinity.

    >>> gg.isneginf(gg.tensor([-float("inf"), float("inf")]))
    tensor([ True, False])
    """
    return core.isneginf(input)


def isreal(input: Tensor) -> Tensor:
    """Whether it is a real number: always, as there are no complex dtypes.

    >>> gg.isreal(gg.tensor([1.0]))
    tensor([True])
    """
    return core.full(input.shape, True, core.bool, input.device)


def signbit(input: Tensor) -> Tensor:
    """Whether the sign bit is set: below zero, and -0.0.

    >>> gg.signbit(gg.tensor([-0.0, 1.0]))
    tensor([ True, False])
    """
    return core.signbit(input)


def isclose(input: Tensor, other: Tensor, rtol: float = 1e-05, atol: float = 1e-08, equal_nan: bool = False) -> Tensor:
    """|input - other| <= atol + rtol |other|, element by element; infinities are close to themselves.

    >>> gg.isclose(gg.tensor([1.0, 2.0]), gg.tensor([1.0 + 1e-7, 3.0]))
    tensor([ True, False])
    """
    if input.dtype is not other.dtype:
        raise RuntimeError(f"isclose: input {input.dtype} and other {other.dtype} must have one dtype")
    if rtol < 0 or atol < 0:
        raise RuntimeError(f"isclose: rtol {rtol} and atol {atol} must not be negative")
    same = core.eq(input, other)
    if equal_nan:
        same = core.bitwise_or(same, core.bitwise_and(core.isnan(input), core.isnan(other)))
    if input.dtype is core.bool or (rtol == 0 and atol == 0):
        return same
    allowed = core.add(core.abs(core.mul(other, rtol)), atol)
    near = core.le(core.abs(core.sub(input, other)), allowed)
    return core.bitwise_or(same, core.bitwise_and(near, core.isfinite(allowed)))


def allclose(input: Tensor, other: Tensor, rtol: float = 1e-05, atol: float = 1e-08, equal_nan: bool = False) -> bool:
    """Whether isclose holds everywhere.

    >>> gg.allclose(gg.tensor([1.0]), gg.tensor([1.0 + 1e-7]))
    True
    """
    return bool(isclose(input, other, rtol, atol, equal_nan).all().item())


def equal(input: Tensor, other: Tensor) -> bool:
    """Whether shapes and all elements are equal.

    >>> gg.equal(gg.tensor([1, 2]), gg.tensor([1, 2]))
    True
    """
    return input.shape == other.shape and bool(core.eq(input, other).all().item())


# Functions: signs and rounding ---------------------------------------------------------------------------------------


@direct(Abs)
def abs(input: Tensor) -> Tensor:
    """|input|; the derivative at zero is zero.

    >>> gg.abs(gg.tensor([-1.0, 2.0]))
    tensor([1., 2.])
    """
    return Abs.apply(input)


@direct(Sign)
def sign(input: Tensor) -> Tensor:
    """-1, 0 or 1 with the sign of input; its derivative is zero.

    >>> gg.sign(gg.tensor([-3.0, 0.0, 2.0]))
    tensor([-1.,  0.,  1.])
    """
    return Sign.apply(input)


@direct(Copysign)
def copysign(input: Tensor, other: Operand) -> Tensor:
    """|input| with the sign of other.

    >>> gg.copysign(gg.tensor([1.0, 2.0]), gg.tensor([-1.0, 1.0]))
    tensor([-1.,  2.])
    """
    return Copysign.apply(input, other)


@direct(Floor)
def floor(input: Tensor) -> Tensor:
    """The largest whole number not above input.

    >>> gg.floor(gg.tensor([-1.5, 1.5]))
    tensor([-2.,  1.])
    """
    return Floor.apply(input)


@direct(Ceil)
def ceil(input: Tensor) -> Tensor:
    """The smallest whole number not below input.

    >>> gg.ceil(gg.tensor([-1.5, 1.5]))
    tensor([-1.,  2.])
    """
    return Ceil.apply(input)


def round(input: Tensor, *, decimals: int = 0) -> Tensor:
    """The nearest number with so many decimals, halves to the even one.

    >>> gg.round(gg.tensor([0.5, 1.5, 2.4]))
    tensor([0., 2., 2.])
    >>> gg.round(gg.tensor([1.234]), decimals=1)
    tensor([1.2000])
    """
    if decimals == 0:
        return Round.apply(input)
    return RoundDecimals.apply(input, 10.0 ** (decimals if decimals > 0 else -decimals), decimals < 0)


@direct(Trunc)
def trunc(input: Tensor) -> Tensor:
    """input without its fraction.

    >>> gg.trunc(gg.tensor([-1.5, 1.5]))
    tensor([-1.,  1.])
    """
    return Trunc.apply(input)


@direct(Frac)
def frac(input: Tensor) -> Tensor:
    """input - trunc(input), with the sign of input; floating dtypes.

    >>> gg.frac(gg.tensor([-1.5, 1.25]))
    tensor([-0.5000,  0.2500])
    """
    return Frac.apply(input)


def nan_to_num(
    input: Tensor, nan: float | None = None, posinf: float | None = None, neginf: float | None = None
) -> Tensor:
    """input with numbers for NaN (default 0) and for the infinities (default the dtype's largest and lowest).

    >>> gg.nan_to_num(gg.tensor([float("nan"), float("inf"), 1.0]), posinf=9.0)
    tensor([0., 9., 1.])
    """
    from glassgrad.config import finfo

    largest = finfo(input.dtype).max if input.dtype.is_floating_point else 0.0
    return NanToNum.apply(
        input, nan or 0.0, largest if posinf is None else posinf, -largest if neginf is None else neginf
    )


# Functions: exponentials, logarithms, roots --------------------------------------------------------------------------


@direct(Exp)
def exp(input: Tensor) -> Tensor:
    """e^input.

    >>> gg.exp(gg.tensor([0.0, 1.0]))
    tensor([1.0000, 2.7183])
    """
    return Exp.apply(input)


@direct(Exp2)
def exp2(input: Tensor) -> Tensor:
    """2^input.

    >>> gg.exp2(gg.tensor([0.0, 3.0]))
    tensor([1., 8.])
    """
    return Exp2.apply(input)


@direct(Expm1)
def expm1(input: Tensor) -> Tensor:
    """e^input - 1, precise near zero.

    >>> gg.expm1(gg.tensor([0.0, 1.0]))
    tensor([0.0000, 1.7183])
    """
    return Expm1.apply(input)


@direct(Log)
def log(input: Tensor) -> Tensor:
    """ln(input): minus infinity at zero, NaN below.

    >>> gg.log(gg.tensor([1.0, 2.0]))
    tensor([0.0000, 0.6931])
    """
    return Log.apply(input)


@direct(Log2)
def log2(input: Tensor) -> Tensor:
    """log2(input), exact for powers of two.

    >>> gg.log2(gg.tensor([1.0, 8.0]))
    tensor([0., 3.])
    """
    return Log2.apply(input)


@direct(Log10)
def log10(input: Tensor) -> Tensor:
    """log10(input).

    >>> gg.log10(gg.tensor([1.0, 1000.0]))
    tensor([0., 3.])
    """
    return Log10.apply(input)


@direct(Log1p)
def log1p(input: Tensor) -> Tensor:
    """ln(1 + input), precise near zero.

    >>> gg.log1p(gg.tensor([0.0, 1.0]))
    tensor([0.0000, 0.6931])
    """
    return Log1p.apply(input)


@direct(Sqrt)
def sqrt(input: Tensor) -> Tensor:
    """The square root, NaN below zero; the derivative at zero is infinite.

    >>> gg.sqrt(gg.tensor([4.0, 2.0]))
    tensor([2.0000, 1.4142])
    """
    return Sqrt.apply(input)


@direct(Rsqrt)
def rsqrt(input: Tensor) -> Tensor:
    """1 / sqrt(input).

    >>> gg.rsqrt(gg.tensor([4.0, 1.0]))
    tensor([0.5000, 1.0000])
    """
    return Rsqrt.apply(input)


@direct(Reciprocal)
def reciprocal(input: Tensor) -> Tensor:
    """1 / input.

    >>> gg.reciprocal(gg.tensor([4.0, 1.0]))
    tensor([0.2500, 1.0000])
    """
    return Reciprocal.apply(input)


@direct(Xlogy)
def xlogy(input: Operand, other: Operand) -> Tensor:
    """input * ln(other), zero where input is (unless other is NaN).

    >>> gg.xlogy(gg.tensor([0.0, 2.0]), gg.tensor([0.0, 3.0]))
    tensor([0.0000, 2.1972])
    """
    return Xlogy.apply(input, other)


@direct(Logaddexp)
def logaddexp(input: Tensor, other: Tensor) -> Tensor:
    """ln(e^input + e^other), without overflow.

    >>> gg.logaddexp(gg.tensor([1000.0]), gg.tensor([1000.0]))
    tensor([1000.6932])
    """
    return Logaddexp.apply(input, other)


@direct(Logaddexp2)
def logaddexp2(input: Tensor, other: Tensor) -> Tensor:
    """log2(2^input + 2^other), without overflow.

    >>> gg.logaddexp2(gg.tensor([1000.0]), gg.tensor([1000.0]))
    tensor([1001.])
    """
    return Logaddexp2.apply(input, other)


@direct(Hypot)
def hypot(input: Tensor, other: Tensor) -> Tensor:
    """(input^2 + other^2)^(1/2), without overflow.

    >>> gg.hypot(gg.tensor([3.0]), gg.tensor([4.0]))
    tensor([5.])
    """
    return Hypot.apply(input, other)


# Functions: trigonometric and hyperbolic -----------------------------------------------------------------------------


@direct(Sin)
def sin(input: Tensor) -> Tensor:
    """The sine of an angle in radians.

    >>> gg.sin(gg.tensor([0.0, 1.0]))
    tensor([0.0000, 0.8415])
    """
    return Sin.apply(input)


@direct(Cos)
def cos(input: Tensor) -> Tensor:
    """The cosine of an angle in radians.

    >>> gg.cos(gg.tensor([0.0, 1.0]))
    tensor([1.0000, 0.5403])
    """
    return Cos.apply(input)


@direct(Tan)
def tan(input: Tensor) -> Tensor:
    """The tangent of an angle in radians.

    >>> gg.tan(gg.tensor([0.0, 1.0]))
    tensor([0.0000, 1.5574])
    """
    return Tan.apply(input)


@direct(Asin)
def asin(input: Tensor) -> Tensor:
    """The angle in [-pi/2, pi/2] whose sine is input; NaN outside [-1, 1].

    >>> gg.asin(gg.tensor([0.0, 1.0]))
    tensor([0.0000, 1.5708])
    """
    return Asin.apply(input)


@direct(Acos)
def acos(input: Tensor) -> Tensor:
    """The angle in [0, pi] whose cosine is input; NaN outside [-1, 1].

    >>> gg.acos(gg.tensor([0.0, 1.0]))
    tensor([1.5708, 0.0000])
    """
    return Acos.apply(input)


@direct(Atan)
def atan(input: Tensor) -> Tensor:
    """The angle in [-pi/2, pi/2] whose tangent is input.

    >>> gg.atan(gg.tensor([0.0, 1.0]))
    tensor([0.0000, 0.7854])
    """
    return Atan.apply(input)


@direct(Atan2)
def atan2(input: Tensor, other: Tensor) -> Tensor:
    """The angle in [-pi, pi] of the point with x = other and y = input.

    >>> gg.atan2(gg.tensor([1.0, -1.0]), gg.tensor([-1.0, 1.0]))
    tensor([ 2.3562, -0.7854])
    """
    return Atan2.apply(input, other)


@direct(Sinh)
def sinh(input: Tensor) -> Tensor:
    """(e^input - e^-input) / 2.

    >>> gg.sinh(gg.tensor([0.0, 1.0]))
    tensor([0.0000, 1.1752])
    """
    return Sinh.apply(input)


@direct(Cosh)
def cosh(input: Tensor) -> Tensor:
    """(e^input + e^-input) / 2.

    >>> gg.cosh(gg.tensor([0.0, 1.0]))
    tensor([1.0000, 1.5431])
    """
    return Cosh.apply(input)


@direct(Tanh)
def tanh(input: Tensor) -> Tensor:
    """sinh(input) / cosh(input).

    >>> gg.tanh(gg.tensor([0.0, 1.0]))
    tensor([0.0000, 0.7616])
    """
    return Tanh.apply(input)


@direct(Asinh)
def asinh(input: Tensor) -> Tensor:
    """The inverse of sinh.

    >>> gg.asinh(gg.tensor([0.0, 1.0]))
    tensor([0.0000, 0.8814])
    """
    return Asinh.apply(input)


@direct(Acosh)
def acosh(input: Tensor) -> Tensor:
    """The inverse of cosh; NaN below 1.

    >>> gg.acosh(gg.tensor([1.0, 2.0]))
    tensor([0.0000, 1.3170])
    """
    return Acosh.apply(input)


@direct(Atanh)
def atanh(input: Tensor) -> Tensor:
    """The inverse of tanh; NaN outside [-1, 1].

    >>> gg.atanh(gg.tensor([0.0, 0.5]))
    tensor([0.0000, 0.5493])
    """
    return Atanh.apply(input)


def deg2rad(input: Tensor) -> Tensor:
    """input * pi / 180.

    >>> gg.deg2rad(gg.tensor([180.0]))
    tensor([3.1416])
    """
    return Mul.apply(input, math.pi / 180)


def rad2deg(input: Tensor) -> Tensor:
    """input * 180 / pi.

    >>> gg.rad2deg(gg.tensor([3.141592653589793]))
    tensor([180.])
    """
    return Mul.apply(input, 180 / math.pi)


# Functions: special --------------------------------------------------------------------------------------------------


@direct(Erf)
def erf(input: Tensor) -> Tensor:
    """2/sqrt(pi) times the integral of e^(-t^2) from 0 to input.

    >>> gg.erf(gg.tensor([0.0, 1.0]))
    tensor([0.0000, 0.8427])
    """
    return Erf.apply(input)


@direct(Erfc)
def erfc(input: Tensor) -> Tensor:
    """1 - erf(input), precise where that is small.

    >>> gg.erfc(gg.tensor([0.0, 1.0]))
    tensor([1.0000, 0.1573])
    """
    return Erfc.apply(input)


@direct(Erfinv)
def erfinv(input: Tensor) -> Tensor:
    """The inverse of erf: infinite at -1 and 1, NaN outside.

    >>> gg.erfinv(gg.tensor([0.0, 0.5]))
    tensor([0.0000, 0.4769])
    """
    return Erfinv.apply(input)


@direct(Lgamma)
def lgamma(input: Tensor) -> Tensor:
    """ln |Gamma(input)|.

    >>> gg.lgamma(gg.tensor([1.0, 5.0]))
    tensor([0.0000, 3.1781])
    """
    return Lgamma.apply(input)


@direct(Digamma)
def digamma(input: Tensor) -> Tensor:
    """The derivative of ln Gamma.

    >>> gg.digamma(gg.tensor([1.0, 5.0]))
    tensor([-0.5772,  1.5061])
    """
    return Digamma.apply(input)


def polygamma(n: int, input: Tensor) -> Tensor:
    """The n-th derivative of digamma, n >= 0.

    >>> gg.polygamma(1, gg.tensor([1.0, 5.0]))
    tensor([1.6449, 0.2213])
    """
    if n < 0:
        raise RuntimeError(f"polygamma: n is {n}; it must not be negative")
    return Polygamma.apply(input, n)


def polygamma_method(self: Tensor, n: int) -> Tensor:
    """The n-th derivative of digamma."""
    return polygamma(n, self)


@direct(Sinc)
def sinc(input: Tensor) -> Tensor:
    """sin(pi input) / (pi input), 1 at zero.

    >>> gg.sinc(gg.tensor([0.0, 0.5]))
    tensor([1.0000, 0.6366])
    """
    return Sinc.apply(input)


def mvlgamma(input: Tensor, p: int) -> Tensor:
    """The logarithm of the multivariate Gamma function: p (p-1)/4 ln pi + sum_{i<p} lgamma(input - i/2).

    >>> gg.mvlgamma(gg.tensor([2.0, 3.0]), 2)
    tensor([0.4516, 1.5502])
    """
    if p < 1:
        raise RuntimeError(f"mvlgamma: p is {p}; it must be at least 1")
    total = lgamma(input)
    for i in range(1, p):
        total = total + lgamma(input - i / 2)
    return total + p * (p - 1) / 4 * math.log(math.pi)


absolute, negative, multiply, subtract, divide = abs, neg, mul, sub, div
arcsin, arccos, arctan, arctan2 = asin, acos, atan, atan2
arcsinh, arccosh, arctanh = asinh, acosh, atanh
clip, fix, sgn = clamp, trunc, sign
greater, greater_equal, less, less_equal, not_equal = gt, ge, lt, le, ne
