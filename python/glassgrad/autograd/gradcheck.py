"""Gradients against central differences, with a verdict: which element, both values, and the likely fault.

The Jacobian that backward gives (one backward pass per output element) is compared with
    (f(x + eps e_i) - f(x - eps e_i)) / 2 eps
element by element. A mismatch is tried against what people get wrong: precision, a kink, the sign, a factor, a
transpose, the sum over a broadcast axis; the first that explains the numbers is named.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

import glassgrad as gg

if TYPE_CHECKING:
    from glassgrad.tensor import Tensor

__all__ = ["GradcheckError", "gradcheck", "gradgradcheck"]

Floats = npt.NDArray[np.float64]
# What the engine and a custom Function say of it.
_GRADIENT_OF_WRONG_SHAPE = re.compile(r"gradient (?:of shape )?(\([\d, ]*\)) (?:.*)?for .* shape (\([\d, ]*\))")


class GradcheckError(RuntimeError):
    """A gradient that central differences contradict; `fault` is the likely fault in one word."""

    def __init__(self, message: str, fault: str = "") -> None:
        super().__init__(message)
        self.fault = fault


def gradcheck(
    func: Callable[..., Any],
    inputs: Tensor | Sequence[Any],
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    raise_exception: bool = True,
    nondet_tol: float = 0.0,
    check_undefined_grad: bool = True,
    check_grad_dtypes: bool = False,
    fast_mode: bool = False,
) -> bool:
    """Check the gradients of func at inputs against central differences.

    Every input that requires a gradient is checked, through every floating output:
        |backward - numerical| <= atol + rtol |numerical|
    Inputs should be float64: with float32 the numerical value itself has no digits left at eps = 1e-6.

    Args:
        func: takes the inputs, returns a tensor or several.
        inputs: a tensor or a sequence; at least one requires a gradient.
        eps: the step; atol, rtol: what is allowed.
        raise_exception: False returns False where True raises.
        nondet_tol: how far two backward passes may differ.
        check_undefined_grad: also require that backward copes with outputs that nobody used.
        check_grad_dtypes: require that a gradient has its input's dtype.
        fast_mode: compare along one random direction first, element by element only when that fails.

    Raises:
        GradcheckError: names the element, both values and the likely fault.
        ValueError: no input requires a gradient.

    >>> x = gg.tensor([1.0, 2.0], dtype=gg.float64, requires_grad=True)
    >>> gg.autograd.gradcheck(gg.exp, x)
    True
    """
    args = _as_tuple(inputs)
    try:
        problem = _Problem(func, args, eps, atol, rtol)
        if check_grad_dtypes:
            problem.check_dtypes()
        if check_undefined_grad:
            problem.check_undefined()
        if not (fast_mode and problem.agrees_along_a_random_direction()):
            problem.check_elements()
        problem.check_deterministic(nondet_tol)
    except GradcheckError:
        if raise_exception:
            raise
        return False
    return True


def gradgradcheck(
    func: Callable[..., Any],
    inputs: Tensor | Sequence[Any],
    grad_outputs: Tensor | Sequence[Tensor] | None = None,
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    gen_non_contig_grad_outputs: bool = False,
    raise_exception: bool = True,
    nondet_tol: float = 0.0,
    check_undefined_grad: bool = True,
    check_grad_dtypes: bool = False,
    fast_mode: bool = False,
) -> bool:
    """Check the second derivatives of func: gradcheck of the map (inputs, grad_outputs) -> gradients of the inputs.

    grad_outputs are random where none are given (with gaps between their elements if gen_non_contig_grad_outputs); the
    rest is as for gradcheck.

    Raises:
        GradcheckError: as gradcheck does, about the derivative of a gradient.

    >>> x = gg.tensor([1.0, 2.0], dtype=gg.float64, requires_grad=True)
    >>> gg.autograd.gradgradcheck(gg.exp, x)
    True
    """
    args = _as_tuple(inputs)
    with gg.no_grad():
        outputs = _floating(func(*args))
    if grad_outputs is None:
        rng = np.random.default_rng(0)
        weights = [_tensor(rng.standard_normal(tuple(y.shape)), y, gen_non_contig_grad_outputs) for y in outputs]
    else:
        weights = [w.detach() for w in _as_tuple(grad_outputs)]
    for w in weights:
        w.requires_grad_()
    n = len(args)

    def gradient(*both: Any) -> tuple[Tensor, ...]:
        xs, dys = both[:n], both[n:]
        ys = _floating(func(*xs))
        pairs = [(y, dy) for y, dy in zip(ys, dys, strict=True) if y.requires_grad]
        wanted = [x for x in xs if _differentiable(x)]
        found = gg.autograd.grad(
            [y for y, _ in pairs], wanted, [dy for _, dy in pairs], create_graph=True, allow_unused=True
        )
        return tuple(g for g in found if g is not None and g.requires_grad)

    gradient.__name__ = f"the gradient of {_name(func)}"
    return gradcheck(
        gradient,
        (*args, *weights),
        eps=eps,
        atol=atol,
        rtol=rtol,
        raise_exception=raise_exception,
        nondet_tol=nondet_tol,
        check_undefined_grad=check_undefined_grad,
        check_grad_dtypes=check_grad_dtypes,
        fast_mode=fast_mode,
    )


# The comparison ------------------------------------------------------------------------------------------------------


@dataclass
class _Block:
    """The Jacobian of one output by one input: rows are input elements, columns output elements."""

    output: int
    input: int
    analytical: Floats
    numerical: Floats


class _Problem:
    def __init__(self, func: Callable[..., Any], args: tuple[Any, ...], eps: float, atol: float, rtol: float) -> None:
        self.func, self.args, self.eps, self.atol, self.rtol = func, args, eps, atol, rtol
        self.places = [i for i, x in enumerate(args) if _differentiable(x)]
        self.name = _name(func)
        if not self.places:
            raise ValueError(
                f"gradcheck: none of the inputs of {self.name} is a floating tensor that requires a gradient"
            )
        self.x = [_numpy(args[i]) for i in self.places]
        self.y = [_numpy(y) for y in self.outputs()]

    # Evaluations -------------------------------------------------------------

    def outputs(self) -> list[Tensor]:
        return _floating(self.func(*self.args))

    def values(self, place: int, x: Floats) -> tuple[list[Floats], Floats]:
        """The outputs with one input replaced, and that input as its dtype holds it."""
        args = list(self.args)
        old = args[self.places[place]]
        new = _tensor(x, old).requires_grad_()  # func may itself differentiate
        args[self.places[place]] = new
        return [_numpy(y) for y in _floating(self.func(*args))], _numpy(new)

    def backward(self, output: int, dy: Floats) -> list[Floats]:
        """The gradients of sum(output * dy), zero where none flows."""
        y = self.outputs()[output]
        wanted = [self.args[i] for i in self.places]
        if not y.requires_grad:
            return [np.zeros(x.shape) for x in self.x]
        try:
            found = gg.autograd.grad([y], wanted, [_tensor(dy, y)], allow_unused=True)
        except RuntimeError as error:
            shapes = _GRADIENT_OF_WRONG_SHAPE.search(str(error))
            if shapes is None:
                raise  # the rule itself failed, not what came out of it
            got, expected = (tuple(map(int, re.findall(r"\d+", s))) for s in shapes.groups())
            raise self.wrong_shape(got, expected) from error
        return [np.zeros(x.shape) if g is None else _numpy(g) for x, g in zip(self.x, found, strict=True)]

    def wrong_shape(self, got: tuple[int, ...], wanted: tuple[int, ...]) -> GradcheckError:
        if len(got) >= len(wanted) and all(w in (1, g) for g, w in zip(got[::-1], wanted[::-1], strict=False)):
            fault = "broadcast"
            advice = (
                "missing sum over a broadcast: a gradient is summed over every axis along which its input was "
                "repeated (unbroadcast(dy, x.shape))."
            )
        elif sorted(got) == sorted(wanted):
            fault, advice = "transpose", "transpose: the axes of the gradient are in another order than the input's."
        else:
            fault, advice = "shape", "shape: the rule was derived for other axes; write down the shape of every factor."
        return GradcheckError(
            f"gradcheck: {self.name}: backward gives an input of shape {wanted} a gradient of shape {got}.\n"
            f"Likely fault: {advice}",
            fault,
        )

    def difference(self, place: int, element: int, eps: float) -> list[Floats]:
        """(f(x + eps e) - f(x - eps e)) / 2 eps for every output, with the step that the dtype really made."""
        plus, x_plus = self.values(place, self.moved(place, element, eps))
        minus, x_minus = self.values(place, self.moved(place, element, -eps))
        width = x_plus.ravel()[element] - x_minus.ravel()[element]
        with np.errstate(divide="ignore", invalid="ignore"):
            return [np.asarray((p - m) / width) for p, m in zip(plus, minus, strict=True)]

    def moved(self, place: int, element: int, by: float) -> Floats:
        x = self.x[place].copy()
        x.reshape(-1)[element] += by
        return x

    # Checks ------------------------------------------------------------------

    def check_dtypes(self) -> None:
        wanted = [self.args[i] for i in self.places]
        for k, y in enumerate(self.outputs()):
            if not y.requires_grad:
                continue
            for place, g in enumerate(
                gg.autograd.grad([y], wanted, [gg.ones_like(y)], allow_unused=True, retain_graph=True)
            ):
                if g is not None and g.dtype != wanted[place].dtype:
                    raise GradcheckError(
                        f"gradcheck: {self.name}: input {place} is {wanted[place].dtype}, its gradient through "
                        f"output {k} is {g.dtype}",
                        "dtype",
                    )

    def check_undefined(self) -> None:
        """Each output alone: the others hand backward nothing."""
        for k, y in enumerate(self.y):
            try:
                self.backward(k, np.ones(y.shape))
            except GradcheckError:
                raise
            except Exception as error:
                raise GradcheckError(
                    f"gradcheck: {self.name}: backward fails when only output {k} of {len(self.y)} is used: {error}",
                    "undefined",
                ) from error

    def check_deterministic(self, tolerance: float) -> None:
        for k, y in enumerate(self.y):
            dy = np.ones(y.shape)
            for place, (a, b) in enumerate(zip(self.backward(k, dy), self.backward(k, dy), strict=True)):
                worst = float(np.nanmax(np.abs(a - b), initial=0.0))
                if worst > tolerance:
                    raise GradcheckError(
                        f"gradcheck: {self.name}: two backward passes differ by {worst:.3g} in the gradient of "
                        f"input {place} through output {k}; nondet_tol allows {tolerance:g}",
                        "nondeterministic",
                    )

    def agrees_along_a_random_direction(self) -> bool:
        rng = np.random.default_rng(0)
        for k, y in enumerate(self.y):
            u = rng.standard_normal(y.shape)
            for place, g in enumerate(self.backward(k, u)):
                v = rng.standard_normal(g.shape)
                v /= max(float(np.linalg.norm(v)), 1e-300)
                plus, _ = self.values(place, self.x[place] + self.eps * v)
                minus, _ = self.values(place, self.x[place] - self.eps * v)
                numerical = float(np.sum((plus[k] - minus[k]) / (2 * self.eps) * u))
                # u has about sqrt(n) times the length of one element's unit vector
                if not abs(np.sum(g * v) - numerical) <= self.atol * max(1.0, u.size**0.5) + self.rtol * abs(numerical):
                    return False
        return True

    def check_elements(self) -> None:
        for place, x in enumerate(self.x):
            columns = [np.zeros((x.size, y.size)) for y in self.y]
            for element in range(x.size):
                for k, slope in enumerate(self.difference(place, element, self.eps)):
                    columns[k][element] = slope.ravel()
            for k, y in enumerate(self.y):
                analytical = np.zeros((x.size, y.size))
                for j in range(y.size):
                    unit = np.zeros(y.shape)
                    unit.reshape(-1)[j] = 1.0
                    analytical[:, j] = self.backward(k, unit)[place].ravel()
                block = _Block(k, place, analytical, columns[k])
                if self.wrong(block.analytical, block.numerical).any():
                    raise self.verdict(block)

    def wrong(self, analytical: Floats, numerical: Floats) -> npt.NDArray[np.bool_]:
        """Where the two disagree; two NaNs agree, and so do equal infinities."""
        with np.errstate(invalid="ignore"):
            off = ~(np.abs(analytical - numerical) <= self.atol + self.rtol * np.abs(numerical))
        return np.asarray(off & (analytical != numerical) & ~(np.isnan(analytical) & np.isnan(numerical)))

    # Verdict -----------------------------------------------------------------

    def verdict(self, block: _Block) -> GradcheckError:
        wrong = self.wrong(block.analytical, block.numerical)
        error = np.where(wrong, np.abs(block.analytical - block.numerical), -1.0)
        i, j = np.unravel_index(int(np.argmax(np.where(np.isnan(error), np.inf, error))), error.shape)
        x, y = self.x[block.input], self.y[block.output]
        at = _index(int(i), x.shape)
        fault, advice = self.fault(block, int(i), int(j))
        return GradcheckError(
            f"gradcheck: {self.name}: derivative of output {block.output}{_index(int(j), y.shape)} by "
            f"input {block.input}{at} = {x.ravel()[i]:.6g}:\n"
            f"  backward            {block.analytical[i, j]:+.9g}\n"
            f"  central differences {block.numerical[i, j]:+.9g}   (eps {self.eps:g})\n"
            f"{int(wrong.sum())} of {wrong.size} elements of this Jacobian are outside "
            f"atol {self.atol:g} + rtol {self.rtol:g}.\n"
            f"Likely fault: {advice}",
            fault,
        )

    def fault(self, block: _Block, i: int, j: int) -> tuple[str, str]:
        """A word and a sentence for what explains the disagreement, the first that does."""
        a, n = block.analytical, block.numerical
        for explain in (self.precision, self.kink):
            found = explain(block, i, j)
            if found:
                return found
        if not np.isfinite(a).all():
            return "nonfinite", "non-finite values: backward produces inf or nan where the function is smooth."
        if not a.any():
            return (
                "zero",
                "no gradient: backward returns nothing or zeros for this input, though the output depends on it.",
            )
        if self.same(-a, n):
            return "sign", "sign: backward has the right size and the wrong sign everywhere."
        factor = _factor(a, n)
        if factor is not None and self.same(a / factor, n):
            repeats = max(1.0, self.y[block.output].size / max(1, self.x[block.input].size))
            if repeats > 1 and abs(factor * repeats - 1) < 1e-3:
                return "broadcast", (
                    f"missing sum over a broadcast: backward is 1/{repeats:g} of the numerical value, the mean over "
                    "the axes along which this input was repeated instead of the sum."
                )
            return "factor", f"factor: backward is {_fraction(factor)} times the numerical value everywhere."
        for which, candidate in self.transposes(block):
            if self.same(candidate, n):
                return "transpose", f"transpose: the gradient is right once {which} is transposed."
        off = self.wrong(a, n)
        if not a[off].any():
            if self.repeated(block):
                return "broadcast", (
                    "missing sum over a broadcast: some output elements send nothing back, the others are right; "
                    "a gradient is summed over every axis along which its input was repeated."
                )
            return "part", "a missing part: where backward disagrees it is zero, elsewhere it is right."
        rows, columns = off.any(1), off.any(0)
        if rows.sum() == 1 < rows.size:
            where = f"only input element {_index(i, self.x[block.input].shape)} is affected: an edge or an index"
        elif columns.sum() == 1 < columns.size:
            where = f"only output element {_index(j, self.y[block.output].shape)} is affected: an edge or an index"
        else:
            where = f"{int(off.sum())} of {off.size} elements, by no constant sign or factor: derive the rule again"
        return "formula", f"formula: {where}."

    def same(self, a: Floats, n: Floats) -> bool:
        return not self.wrong(a, n).any()

    def precision(self, block: _Block, i: int, j: int) -> tuple[str, str] | None:
        """Is the numerical value itself noise? eps_of_dtype |f| / eps is what rounding leaves of it."""
        dtypes = {str(self.args[p].dtype).rsplit(".", 1)[-1] for p in self.places}
        narrow = sorted(dtypes - {"float64"})
        if narrow:
            return "rounding", (
                f"rounding: the inputs are {', '.join(narrow)}, in which a step of {self.eps:g} drowns in rounding "
                "error; check in float64 (x.double()), or with eps=1e-2 and atol to match."
            )
        noise = np.finfo(np.float64).eps * max(1.0, abs(float(self.y[block.output].ravel()[j]))) / self.eps
        if noise <= self.atol + self.rtol * abs(block.numerical[i, j]):
            return None
        for eps in (1e-4, 1e-2):
            wider = self.difference(block.input, i, eps * max(1.0, abs(float(self.x[block.input].ravel()[i]))))
            slope = np.asarray(wider[block.output].ravel()[j])
            if not self.wrong(np.asarray(block.analytical[i, j]), slope).any():
                return "rounding", (
                    f"rounding: f is about {self.y[block.output].ravel()[j]:.3g} here, so central differences with eps "
                    f"{self.eps:g} carry an error of {noise:.2g}; with eps {eps:g} they agree with backward."
                )
        return None

    def kink(self, block: _Block, i: int, j: int) -> tuple[str, str] | None:
        """One-sided slopes that differ by the same amount at two steps: a corner; curvature would shrink."""
        jumps = []
        slopes = (0.0, 0.0)
        for eps in (self.eps, 8 * self.eps):
            here = self.y[block.output].ravel()[j]
            right = (self.values(block.input, self.moved(block.input, i, eps))[0][block.output].ravel()[j] - here) / eps
            left = (here - self.values(block.input, self.moved(block.input, i, -eps))[0][block.output].ravel()[j]) / eps
            jumps.append(right - left)
            slopes = (float(left), float(right)) if len(jumps) == 1 else slopes
        small, large = jumps
        if not np.isfinite(small) or not np.isfinite(large):
            return None
        tolerance = 10 * (self.atol + self.rtol * abs(block.numerical[i, j]))
        if abs(small) > tolerance and abs(large - small) < 0.1 * abs(small):
            return "kink", (
                f"kink: the slope is {slopes[0]:.6g} on the left and {slopes[1]:.6g} on the right of this element, so "
                "no number is its derivative; check at a point away from the corner."
            )
        return None

    def transposes(self, block: _Block) -> Iterator[tuple[str, Floats]]:
        """The Jacobian with the last two axes of the gradient, or of the incoming gradient, exchanged."""
        x, y = self.x[block.input].shape, self.y[block.output].shape
        if len(x) >= 2:
            swapped = (*x[:-2], x[-1], x[-2])
            yield (
                "the gradient of this input",
                np.swapaxes(block.analytical.reshape(*swapped, -1), len(x) - 2, len(x) - 1).reshape(
                    block.analytical.shape
                ),
            )
        if len(y) >= 2:
            swapped = (*y[:-2], y[-1], y[-2])
            yield (
                "the incoming gradient",
                np.swapaxes(block.analytical.reshape(-1, *swapped), -1, -2).reshape(block.analytical.shape),
            )

    def repeated(self, block: _Block) -> bool:
        """Does each element of this input reach several output elements?"""
        return bool((np.abs(block.numerical) > self.atol).sum(1).max(initial=0) > 1)


# Small helpers -------------------------------------------------------------------------------------------------------


def _factor(a: Floats, n: Floats) -> float | None:
    """The median of a / n over the elements that matter, where it is one number worth naming."""
    matter = np.abs(n) > 1e-3 * np.abs(n).max(initial=0.0)
    if not matter.any():
        return None
    factor = float(np.median(a[matter] / n[matter]))
    return factor if np.isfinite(factor) and factor != 0 else None


def _fraction(factor: float) -> str:
    from fractions import Fraction  # slow to import, and only a failure needs it

    simple = Fraction(factor).limit_denominator(64)
    if simple and abs(float(simple) / factor - 1) < 1e-5:
        return str(simple)
    return f"{factor:.6g}"


def _index(flat: int, shape: tuple[int, ...]) -> str:
    return str([int(i) for i in np.unravel_index(flat, shape)]) if shape else ""


def _name(func: Callable[..., Any]) -> str:
    name = getattr(func, "__name__", type(func).__name__)
    return "the function" if name == "<lambda>" else str(name)


def _as_tuple(inputs: Any) -> tuple[Any, ...]:
    return tuple(inputs) if isinstance(inputs, (tuple, list)) else (inputs,)


def _differentiable(x: Any) -> bool:
    return isinstance(x, gg.Tensor) and x.requires_grad and x.is_floating_point()


def _floating(result: Any) -> list[Tensor]:
    return [y for y in _as_tuple(result) if isinstance(y, gg.Tensor) and y.is_floating_point()]


def _numpy(x: Tensor) -> Floats:
    return np.array(x.detach().cpu().to(gg.float64).numpy(), np.float64)


def _tensor(x: Floats, like: Tensor, gaps: bool = False) -> Tensor:
    if gaps and x.ndim:
        x = np.repeat(x, 2, axis=-1)[..., ::2]
    else:
        x = np.array(x, np.float64)
    return gg.from_numpy(x).to(like)
