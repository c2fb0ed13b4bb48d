"""Every class of fault, planted in a backward, is found and named."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import glassgrad as gg
from glassgrad.autograd import Function
from glassgrad.autograd.gradcheck import GradcheckError, gradcheck, gradgradcheck


def double(*shape: int) -> Any:
    return gg.from_numpy(np.asarray(np.random.default_rng(0).uniform(0.5, 2.0, shape))).requires_grad_()


def planted(forward: Callable[..., Any], backward: Callable[..., Any]) -> Callable[..., Any]:
    """A function named `planted` with this forward and this (possibly wrong) backward(dy, *inputs)."""

    class Planted(Function):
        @staticmethod
        def forward(ctx: Any, *inputs: Any) -> Any:
            ctx.save_for_backward(*inputs)
            return forward(*inputs)

        @staticmethod
        def backward(ctx: Any, *dy: Any) -> Any:
            return backward(*dy, *ctx.saved_tensors)

    def planted(*inputs: Any) -> Any:
        return Planted.apply(*inputs)

    return planted


def failure(func: Callable[..., Any], *inputs: Any, **options: Any) -> GradcheckError:
    assert gradcheck(func, inputs, raise_exception=False, **options) is False
    with pytest.raises(GradcheckError) as caught:
        gradcheck(func, inputs, **options)
    return caught.value


def square(x: Any) -> Any:
    return x * x


CORRECT = {
    "elementwise": (planted(square, lambda dy, x: 2 * x * dy), (double(2, 3),)),
    "matmul": (planted(lambda x, w: x @ w, lambda dy, x, w: (dy @ w.T, x.T @ dy)), (double(2, 3), double(3, 2))),
    "two outputs": (lambda x: (x * x, x.exp()), (double(3),)),
    "unused input": (lambda x, y: x * 1.0 + 0 * y.detach(), (double(3), double(3))),
    "empty": (square, (double(0, 3),)),
    "0-d": (square, (double(),)),
    "other arguments": (lambda x, n: x**n, (double(3), 3)),
}


@pytest.mark.parametrize("case", CORRECT)
@pytest.mark.parametrize("fast_mode", [False, True])
def test_correct_gradients_pass(case: str, fast_mode: bool) -> None:
    func, inputs = CORRECT[case]
    assert gradcheck(func, inputs, fast_mode=fast_mode)


FAULTS = {
    "sign": ("sign", planted(square, lambda dy, x: -2 * x * dy), (double(2, 3),), "wrong sign"),
    "factor 1/2": ("factor", planted(square, lambda dy, x: x * dy), (double(2, 3),), r"1/2 times"),
    "factor 2": ("factor", planted(square, lambda dy, x: 4 * x * dy), (double(4),), "2 times"),
    "transpose": (
        "transpose",
        planted(lambda x, w: x @ w, lambda dy, x, w: (dy @ w.T, (x.T @ dy).T)),
        (double(3, 3), double(3, 3)),
        "gradient of this input is transposed",
    ),
    "transposed incoming": (
        "transpose",
        planted(square, lambda dy, x: 2 * x * dy.T),
        (gg.full((2, 2), 1.5, dtype=gg.float64).requires_grad_(),),
        "transposed",
    ),
    "mean over a broadcast": (
        "broadcast",
        planted(lambda x, b: x * 1.0 + b, lambda dy, x, b: (dy, dy.mean(0))),
        (double(4, 3), double(3)),
        "mean over the axes",
    ),
    "first row of a broadcast": (
        "broadcast",
        planted(lambda x, b: x * 1.0 + b, lambda dy, x, b: (dy, dy[0])),
        (double(4, 3), double(3)),
        "missing sum over a broadcast",
    ),
    "no sum over a broadcast": (
        "broadcast",
        planted(lambda x, b: x * 1.0 + b, lambda dy, x, b: (dy, dy)),
        (double(4, 3), double(3)),
        "missing sum over a broadcast",
    ),
    "transposed shape": (
        "transpose",
        planted(lambda x, w: x @ w, lambda dy, x, w: (dy @ w.T, dy.T @ x)),
        (double(4, 3), double(3, 2)),
        "axes of the gradient are in another order",
    ),
    "zero": ("zero", planted(square, lambda dy, x: dy * 0), (double(2, 3),), "no gradient"),
    "kink": (
        "kink",
        lambda x: (x - 1).relu(),
        (gg.tensor([1.0, 2.0], dtype=gg.float64).requires_grad_(),),
        "0 on the left and 1 on",
    ),
    "float32": ("rounding", square, (double(3).float().detach().requires_grad_(),), "float32"),
    "cancellation": ("rounding", lambda x: x * 1.0 + 1e9, (double(3),), "central differences"),
    "part": (
        "part",
        planted(square, lambda dy, x: 2 * x * dy * gg.tensor([1.0, 0.0, 1.0], dtype=gg.float64)),
        (double(3),),
        "missing part",
    ),
    "one element": (
        "formula",
        planted(square, lambda dy, x: 2 * x * dy + gg.tensor([0.0, 0.0, 1.0], dtype=gg.float64) * dy),
        (double(3),),
        r"only input element \[2\]",
    ),
    "formula": ("formula", planted(lambda x: x.exp(), lambda dy, x: x * dy), (double(2, 3),), "derive the rule again"),
    "nan": ("nonfinite", planted(square, lambda dy, x: dy * float("nan")), (double(2),), "inf or nan"),
}


@pytest.mark.parametrize("case", FAULTS)
def test_planted_fault_is_named(case: str) -> None:
    fault, func, inputs, words = FAULTS[case]
    error = failure(func, *inputs)
    assert error.fault == fault, str(error)
    with pytest.raises(GradcheckError, match=words):
        gradcheck(func, inputs)


def test_message_names_op_element_and_both_values() -> None:
    x = gg.tensor([[1.0, 2.0], [3.0, 4.0]], dtype=gg.float64, requires_grad=True)
    message = str(failure(planted(square, lambda dy, x: -2 * x * dy), x))
    assert "gradcheck: planted: derivative of output 0[1, 1] by input 0[1, 1] = 4" in message
    assert "backward            -8" in message
    assert "central differences +8" in message
    assert "4 of 16 elements" in message


def test_fast_mode_finds_faults_too() -> None:
    assert failure(planted(square, lambda dy, x: x * dy), double(2, 3), fast_mode=True).fault == "factor"


def test_nondeterministic_backward_is_found() -> None:
    rng = np.random.default_rng(0)
    noisy = planted(square, lambda dy, x: 2 * x * dy * float(1 + 1e-9 * rng.random()))
    assert failure(noisy, double(3)).fault == "nondeterministic"
    assert gradcheck(noisy, double(3), nondet_tol=1e-6)


def test_inputs_must_require_a_gradient() -> None:
    with pytest.raises(ValueError, match="requires a gradient"):
        gradcheck(square, gg.ones(2, dtype=gg.float64))


def test_second_order() -> None:
    assert gradgradcheck(lambda x, y: x * x * y.exp(), (double(2, 3), double(3)))
    assert gradgradcheck(square, double(3), gen_non_contig_grad_outputs=True)
    assert gradgradcheck(square, (double(3),), (gg.ones(3, dtype=gg.float64),))
    # right first derivative, whose own derivative is cut off
    cut = planted(square, lambda dy, x: 2 * x.detach() * dy)
    assert gradcheck(cut, double(3))
    with pytest.raises(GradcheckError, match="the gradient of planted"):
        gradgradcheck(cut, double(3))
