"""Activation functions, element by element (kernels: csrc/ops/elementwise; base classes: ops/elementwise.py).

Each class states y = f(x) and the gradient dx; `rule` is that gradient in ordinary ops, for gradients of gradients.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from glassgrad import _core as core
from glassgrad.amp import Casts
from glassgrad.autograd.graph import Op, direct, unbroadcast
from glassgrad.autograd.in_place import check_in_place, in_place, overwrite
from glassgrad.ops._names import numpy_names
from glassgrad.ops.elementwise import OfInput, OfOutput, erf, exp, tanh, where

if TYPE_CHECKING:
    from glassgrad.tensor import Tensor


class Sigmoid(OfOutput):
    """y = 1 / (1 + e^-x); dx = y (1 - y) dy"""

    kernel, fused = core.sigmoid, core.sigmoid_backward

    def rule(self, y: Tensor, dy: Tensor) -> Tensor:
        return dy * ((1 - y) * y)


class LogSigmoid(OfInput):
    """-ln(1 + e^-x); dx = sigmoid(-x) dy"""

    kernel, fused = core.logsigmoid, core.logsigmoid_backward

    def rule(self, x: Tensor, dy: Tensor) -> Tensor:
        return dy * sigmoid(-x)


class Logit(OfInput):
    """ln(x / (1 - x)), x clamped into [eps, 1 - eps] if eps >= 0; dx = dy / (x (1 - x)), zero where clamped"""

    kernel, fused = core.logit, core.logit_backward

    def rule(self, x: Tensor, dy: Tensor, eps: float) -> Tensor:
        outside = 0.0 if eps >= 0 else math.nan
        low = max(eps, 0.0)
        return where((x < low) | (x > 1 - low), outside, dy / (x * (1 - x)))


class Relu(OfOutput):
    """y = max(x, 0); dx = dy where y > 0"""

    kernel, fused = core.relu, core.relu_backward

    def rule(self, y: Tensor, dy: Tensor) -> Tensor:
        return where(y <= 0, 0.0, dy)


class LeakyRelu(OfInput):
    """x above zero, slope x below; dx = dy or slope dy"""

    kernel, fused = core.leaky_relu, core.leaky_relu_backward

    def rule(self, x: Tensor, dy: Tensor, slope: float) -> Tensor:
        return where(x > 0, dy, dy * slope)


class Elu(OfInput):
    """scale x above zero, scale alpha (e^(k x) - 1) below; dx = scale dy or scale alpha k e^(k x) dy"""

    kernel, fused = core.elu, core.elu_backward

    def rule(self, x: Tensor, dy: Tensor, alpha: float, scale: float, k: float) -> Tensor:
        below = where(x > 0, 0.0, x)  # e^(k x) must not overflow where it is not used
        return dy * where(x > 0, scale, exp(below * k) * (alpha * scale * k))


class Gelu(OfInput):
    """x P(x), P the normal distribution function; dx = (P(x) + x e^(-x^2/2) / sqrt(2 pi)) dy"""

    kernel, fused = core.gelu, core.gelu_backward

    def rule(self, x: Tensor, dy: Tensor) -> Tensor:
        distribution = erf(x * math.sqrt(0.5)) * 0.5 + 0.5
        density = exp(x * x * -0.5) / math.sqrt(2 * math.pi)
        return dy * (distribution + x * density)


class GeluTanh(OfInput):
    """x s, s = sigmoid(2 u), u = sqrt(2/pi) (x + 0.044715 x^3); dx = (s + 2 x s (1 - s) u') dy"""

    kernel, fused = core.gelu_tanh, core.gelu_tanh_backward

    def rule(self, x: Tensor, dy: Tensor) -> Tensor:
        a = 2 * math.sqrt(2 / math.pi)
        b = a * 0.044715
        z = x * x
        s = sigmoid(x * (z * b + a))
        return dy * (s + x * s * (1 - s) * (z * (3 * b) + a))


class Silu(OfInput):
    """x s, s = sigmoid(x); dx = s (1 + x (1 - s)) dy"""

    kernel, fused = core.silu, core.silu_backward

    def rule(self, x: Tensor, dy: Tensor) -> Tensor:
        s = sigmoid(x)
        return dy * (s * (x * (1 - s) + 1))


class Mish(OfInput):
    """x t, t = tanh(ln(1 + e^x)); dx = (t + x (1 - t^2) sigmoid(x)) dy"""

    kernel, fused = core.mish, core.mish_backward

    def rule(self, x: Tensor, dy: Tensor) -> Tensor:
        t = tanh(softplus(x))
        return dy * (t + x * (1 - t * t) * sigmoid(x))


class Softplus(OfInput):
    """ln(1 + e^(beta x)) / beta, x itself where beta x > threshold; dx = sigmoid(beta x) dy, or dy"""

    kernel, fused = core.softplus, core.softplus_backward
    autocast = Casts(gpu="float32")

    def rule(self, x: Tensor, dy: Tensor, beta: float, threshold: float) -> Tensor:
        t = x * beta
        return where(t > threshold, dy, dy * sigmoid(t))


class Softsign(OfInput):
    """x / (1 + |x|); dx = dy / (1 + |x|)^2"""

    kernel, fused = core.softsign, core.softsign_backward

    def rule(self, x: Tensor, dy: Tensor) -> Tensor:
        d = x.abs() + 1
        return dy / (d * d)


class Hardtanh(OfInput):
    """x brought into [low, high]; dx = dy strictly inside"""

    kernel, fused = core.hardtanh, core.hardtanh_backward

    def rule(self, x: Tensor, dy: Tensor, low: float, high: float) -> Tensor:
        return where((x > low) & (x < high), dy, 0.0)


class Hardsigmoid(OfInput):
    """(x + 3) / 6 brought into [0, 1]; dx = dy / 6 strictly inside"""

    kernel, fused = core.hardsigmoid, core.hardsigmoid_backward

    def rule(self, x: Tensor, dy: Tensor) -> Tensor:
        return where((x > -3) & (x < 3), dy / 6, 0.0)


class Hardswish(OfInput):
    """x hardsigmoid(x); dx = (x / 3 + 1/2) dy between -3 and 3, nothing below, dy above"""

    kernel, fused = core.hardswish, core.hardswish_backward

    def rule(self, x: Tensor, dy: Tensor) -> Tensor:
        return where(x <= -3, 0.0, where(x >= 3, dy, dy * (x / 3 + 0.5)))


class Softshrink(OfInput):
    """x moved towards zero by lambd, at most to zero; dx = dy where |x| > lambd"""

    kernel, fused = core.softshrink, core.softshrink_backward

    def rule(self, x: Tensor, dy: Tensor, lambd: float) -> Tensor:
        return where((x < -lambd) | (x > lambd), dy, 0.0)


class Hardshrink(OfInput):
    """x where |x| > lambd, else 0; dx = dy there"""

    kernel, fused = core.hardshrink, core.hardshrink_backward

    def rule(self, x: Tensor, dy: Tensor, lambd: float) -> Tensor:
        return where((x < -lambd) | (x > lambd), dy, 0.0)


class Threshold(OfInput):
    """x where x > threshold, else value; dx = dy there"""

    kernel, fused = core.threshold, core.threshold_backward

    def rule(self, x: Tensor, dy: Tensor, threshold: float, value: float) -> Tensor:
        return where(x <= threshold, 0.0, dy)


@direct(Sigmoid)
def sigmoid(input: Tensor) -> Tensor:
    """1 / (1 + e^-input).

    >>> gg.sigmoid(gg.tensor([0.0, 1.0]))
    tensor([0.5000, 0.7311])
    """
    return Sigmoid.apply(input)


@direct(LogSigmoid)
def logsigmoid(input: Tensor) -> Tensor:
    """ln(sigmoid(input)) = -ln(1 + e^-input).

    >>> gg.nn.functional.logsigmoid(gg.tensor([0.0, 1.0]))
    tensor([-0.6931, -0.3133])
    """
    return LogSigmoid.apply(input)


def logit(input: Tensor, eps: float | None = None) -> Tensor:
    """ln(input / (1 - input)), NaN outside [0, 1]; with eps, input is first brought into [eps, 1 - eps].

    >>> gg.logit(gg.tensor([0.5, 0.9]))
    tensor([0.0000, 2.1972])
    """
    return Logit.apply(input, -1.0 if eps is None else eps)


def change(input: Tensor, output: Tensor, inplace: bool) -> Tensor:
    """The output, written over the input if that was asked for."""
    if not inplace:
        return output
    check_in_place("inplace", input)
    return overwrite("inplace", input, output)


@direct(Relu)
def relu(input: Tensor, inplace: bool = False) -> Tensor:
    """max(input, 0); the derivative at zero is zero.

    >>> gg.relu(gg.tensor([-1.0, 2.0]))
    tensor([0., 2.])
    """
    output = Relu.apply(input)
    return change(input, output, True) if inplace else output


def relu6(input: Tensor, inplace: bool = False) -> Tensor:
    """min(max(input, 0), 6).

    >>> gg.nn.functional.relu6(gg.tensor([-1.0, 2.0, 7.0]))
    tensor([0., 2., 6.])
    """
    return change(input, Hardtanh.apply(input, 0.0, 6.0), inplace)


def leaky_relu(input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    """input above zero, negative_slope * input below.

    >>> gg.nn.functional.leaky_relu(gg.tensor([-1.0, 2.0]))
    tensor([-0.0100,  2.0000])
    """
    return change(input, LeakyRelu.apply(input, negative_slope), inplace)


def prelu(input: Tensor, weight: Tensor) -> Tensor:
    """input above zero, weight * input below.

    weight has one element, or one for each channel (axis 1) of input.

    >>> gg.prelu(gg.tensor([-1.0, 2.0]), gg.tensor([0.25]))
    tensor([-0.2500,  2.0000])
    """
    if weight.numel() != 1:
        channels = input.shape[1] if input.ndim > 1 else 1
        if weight.ndim != 1 or weight.numel() != channels:
            raise core.ShapeError(
                f"prelu: weight {tuple(weight.shape)} {weight.dtype} for input {tuple(input.shape)} {input.dtype}: it "
                f"must have one element, or one for each of the {channels} channels"
            )
        weight = weight.reshape((1, channels, *[1] * (input.ndim - 2)))
    elif weight.ndim:
        weight = weight.reshape(())
    return Prelu.apply(input, weight)


class Prelu(Op):
    """x above zero, w x below"""

    autocast = Casts(cpu="lower", gpu="lower")

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        if w.dtype is not x.dtype:
            raise TypeError(f"prelu: input {x.dtype} and weight {w.dtype} must have one dtype")
        self.save(x, w)
        return core.where(core.gt(x, 0), x, core.mul(x, w))

    # dx = dy or w dy; dw = x dy below zero
    def backward(self, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, w = self.saved
        dx = where(x > 0, dy, dy * w) if self.edges[0] is not None else None
        dw = unbroadcast(where(x > 0, 0.0, dy * x), w.shape) if self.edges[1] is not None else None
        return dx, dw


def rrelu(
    input: Tensor, lower: float = 1.0 / 8, upper: float = 1.0 / 3, training: bool = False, inplace: bool = False
) -> Tensor:
    """leaky_relu with a slope drawn from U(lower, upper) for each element in training, and with their mean otherwise.

    >>> gg.nn.functional.rrelu(gg.tensor([-4.8, 2.0]))
    tensor([-1.1000,  2.0000])
    """
    if not training:
        return change(input, LeakyRelu.apply(input, (lower + upper) / 2), inplace)
    from glassgrad.ops.creation import empty_like

    slope = empty_like(input).uniform_(lower, upper)
    return change(input, where(input > 0, input, input * slope), inplace)


def elu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """input above zero, alpha (e^input - 1) below.

    >>> gg.nn.functional.elu(gg.tensor([-1.0, 2.0]))
    tensor([-0.6321,  2.0000])
    """
    return change(input, Elu.apply(input, alpha, 1.0, 1.0), inplace)


def selu(input: Tensor, inplace: bool = False) -> Tensor:
    """1.0507 input above zero, 1.0507 * 1.6733 (e^input - 1) below (Klambauer et al., 2017).

    >>> gg.selu(gg.tensor([-1.0, 2.0]))
    tensor([-1.1113,  2.1014])
    """
    return change(
        input, Elu.apply(input, 1.6732632423543772848170429916717, 1.0507009873554804934193349852946, 1.0), inplace
    )


def celu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """input above zero, alpha (e^(input / alpha) - 1) below.

    >>> gg.celu(gg.tensor([-1.0, 2.0]), alpha=2.0)
    tensor([-0.7869,  2.0000])
    """
    if alpha == 0:
        raise RuntimeError("celu: alpha must not be 0")
    return change(input, Elu.apply(input, alpha, 1.0, 1.0 / alpha), inplace)


def gelu(input: Tensor, approximate: str = "none") -> Tensor:
    """input times the normal distribution function of input (Hendrycks and Gimpel, 2016).

    approximate="tanh" gives input (1 + tanh(sqrt(2/pi) (input + 0.044715 input^3))) / 2.

    >>> gg.nn.functional.gelu(gg.tensor([-1.0, 2.0]))
    tensor([-0.1587,  1.9545])
    """
    if approximate == "none":
        return Gelu.apply(input)
    if approximate == "tanh":
        return GeluTanh.apply(input)
    raise RuntimeError(f"gelu: approximate is {approximate!r}; it must be 'none' or 'tanh'")


def silu(input: Tensor, inplace: bool = False) -> Tensor:
    """input * sigmoid(input).

    >>> gg.nn.functional.silu(gg.tensor([-1.0, 2.0]))
    tensor([-0.2689,  1.7616])
    """
    return change(input, Silu.apply(input), inplace)


def mish(input: Tensor, inplace: bool = False) -> Tensor:
    """input * tanh(ln(1 + e^input)).

    >>> gg.nn.functional.mish(gg.tensor([-1.0, 2.0]))
    tensor([-0.3034,  1.9440])
    """
    return change(input, Mish.apply(input), inplace)


def softplus(input: Tensor, beta: float = 1, threshold: float = 20) -> Tensor:
    """ln(1 + e^(beta input)) / beta, and input itself where beta input > threshold.

    >>> gg.nn.functional.softplus(gg.tensor([-1.0, 2.0]))
    tensor([0.3133, 2.1269])
    """
    return Softplus.apply(input, beta, threshold)


@direct(Softsign)
def softsign(input: Tensor) -> Tensor:
    """input / (1 + |input|).

    >>> gg.nn.functional.softsign(gg.tensor([-1.0, 3.0]))
    tensor([-0.5000,  0.7500])
    """
    return Softsign.apply(input)


def tanhshrink(input: Tensor) -> Tensor:
    """input - tanh(input).

    >>> gg.nn.functional.tanhshrink(gg.tensor([-1.0, 2.0]))
    tensor([-0.2384,  1.0360])
    """
    return input - tanh(input)


def hardtanh(input: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Tensor:
    """input brought into [min_val, max_val].

    >>> gg.nn.functional.hardtanh(gg.tensor([-3.0, 0.5]))
    tensor([-1.0000,  0.5000])
    """
    if min_val > max_val:
        raise ValueError(f"hardtanh: min_val {min_val} is above max_val {max_val}")
    return change(input, Hardtanh.apply(input, min_val, max_val), inplace)


def hardsigmoid(input: Tensor, inplace: bool = False) -> Tensor:
    """(input + 3) / 6 brought into [0, 1].

    >>> gg.nn.functional.hardsigmoid(gg.tensor([-4.0, 0.0]))
    tensor([0.0000, 0.5000])
    """
    return change(input, Hardsigmoid.apply(input), inplace)


def hardswish(input: Tensor, inplace: bool = False) -> Tensor:
    """input * hardsigmoid(input).

    >>> gg.nn.functional.hardswish(gg.tensor([-1.0, 2.0]))
    tensor([-0.3333,  1.6667])
    """
    return change(input, Hardswish.apply(input), inplace)


def softshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """input moved towards zero by lambd, at most to zero.

    >>> gg.nn.functional.softshrink(gg.tensor([-1.0, 0.2]))
    tensor([-0.5000,  0.0000])
    """
    if lambd < 0:
        raise RuntimeError(f"softshrink: lambd is {lambd}; it must not be negative")
    return Softshrink.apply(input, lambd)


def hardshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """input where |input| > lambd, else 0.

    >>> gg.nn.functional.hardshrink(gg.tensor([-1.0, 0.2]))
    tensor([-1.,  0.])
    """
    return Hardshrink.apply(input, lambd)


def threshold(input: Tensor, threshold: float, value: float, inplace: bool = False) -> Tensor:
    """input where it is above threshold, else value.

    >>> gg.threshold(gg.tensor([-1.0, 2.0]), 0.1, 20.0)
    tensor([20.,  2.])
    """
    return change(input, Threshold.apply(input, threshold, value), inplace)


@numpy_names
def glu(input: Tensor, dim: int = -1) -> Tensor:
    """a * sigmoid(b), where a and b are the halves of input along dim (Dauphin et al., 2017).

    >>> gg.nn.functional.glu(gg.tensor([1.0, 2.0, 0.0, 0.0]))
    tensor([0.5000, 1.0000])
    """
    if input.ndim == 0:
        raise RuntimeError("glu: input is 0-d; it needs an axis to halve")
    if input.shape[dim] % 2:
        raise core.ShapeError(
            f"glu: axis {dim} of input {tuple(input.shape)} {input.dtype} has an odd size; it must halve"
        )
    a, b = input.chunk(2, dim)
    return a * sigmoid(b)


expit = sigmoid
celu_, elu_, relu_, selu_ = in_place(celu), in_place(elu), in_place(relu), in_place(selu)
hardtanh_, leaky_relu_, rrelu_, threshold_ = (
    in_place(hardtanh),
    in_place(leaky_relu),
    in_place(rrelu),
    in_place(threshold),
)
