"""Comparisons for tests: assert_close and the gradient checks; `testing.simt`, CUDA kernels on the CPU."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

import glassgrad as gg
from glassgrad.autograd.gradcheck import GradcheckError, gradcheck, gradgradcheck
from glassgrad.testing import simt

__all__ = ["GradcheckError", "assert_close", "gradcheck", "gradgradcheck", "simt"]

# rtol and atol by dtype: PyTorch's. Whole numbers and bools must be equal.
_TOLERANCE = {
    "float16": (1e-3, 1e-5),
    "bfloat16": (1.6e-2, 1e-5),
    "float32": (1.3e-6, 1e-5),
    "float64": (1e-7, 1e-7),
}


def assert_close(
    actual: Any,
    expected: Any,
    *,
    rtol: float | None = None,
    atol: float | None = None,
    equal_nan: bool = False,
    check_device: bool = True,
    check_dtype: bool = True,
    check_stride: bool = False,
    msg: str | Callable[[str], str] | None = None,
) -> None:
    """Assert |actual - expected| <= atol + rtol |expected| elementwise; the message names the worst element.

    Takes tensors, numpy arrays, numbers, and sequences and mappings of them. Tolerances default to the coarser of both
    dtypes: float64 (1e-7, 1e-7), float32 (1.3e-6, 1e-5), float16 (1e-3, 1e-5), bfloat16 (1.6e-2, 1e-5), else exact.

    Raises:
        AssertionError: with the number of differing elements, the worst one and both its values.
        ValueError: only one of rtol and atol is given.

    >>> gg.testing.assert_close(gg.tensor([1.0, 2.0]), gg.tensor([1.0, 2.000001]))
    """
    if (rtol is None) != (atol is None):
        raise ValueError("assert_close: give both rtol and atol, or neither")
    problem = _compare(actual, expected, rtol, atol, equal_nan, check_device, check_dtype, check_stride, "")
    if problem is not None:
        raise AssertionError(msg(problem) if callable(msg) else msg or problem)


def _compare(
    actual: Any,
    expected: Any,
    rtol: float | None,
    atol: float | None,
    equal_nan: bool,
    check_device: bool,
    check_dtype: bool,
    check_stride: bool,
    where: str,
) -> str | None:
    """What differs, or None."""
    rest = (rtol, atol, equal_nan, check_device, check_dtype, check_stride)
    if isinstance(actual, Mapping) and isinstance(expected, Mapping):
        if actual.keys() != expected.keys():
            return f"{where or 'the mappings'}: keys {sorted(actual)} and {sorted(expected)} differ"
        pairs = [(actual[k], expected[k], f"{where}[{k!r}]") for k in actual]
    elif _is_sequence(actual) and _is_sequence(expected):
        if len(actual) != len(expected):
            return f"{where or 'the sequences'}: lengths {len(actual)} and {len(expected)} differ"
        pairs = [(a, e, f"{where}[{i}]") for i, (a, e) in enumerate(zip(actual, expected, strict=True))]
    else:
        return _compare_arrays(actual, expected, *rest, f"{where}: " if where else "")
    for a, e, at in pairs:
        problem = _compare(a, e, *rest, at)
        if problem is not None:
            return problem
    return None


def _is_sequence(x: Any) -> bool:
    return isinstance(x, Sequence) and not isinstance(x, (str, bytes))


def _compare_arrays(
    actual: Any,
    expected: Any,
    rtol: float | None,
    atol: float | None,
    equal_nan: bool,
    check_device: bool,
    check_dtype: bool,
    check_stride: bool,
    where: str,
) -> str | None:
    both = (actual, expected)
    if all(isinstance(x, gg.Tensor) for x in both):
        if check_device and actual.device != expected.device:
            return f"{where}devices {actual.device} and {expected.device} differ"
        if check_stride and actual.stride() != expected.stride():
            return f"{where}strides {actual.stride()} and {expected.stride()} differ"
    if check_dtype and all(hasattr(x, "dtype") for x in both) and _dtype(actual) != _dtype(expected):
        return f"{where}dtypes {_dtype(actual)} and {_dtype(expected)} differ"
    a, e = _wide(actual), _wide(expected)
    if a.shape != e.shape:
        return f"{where}shapes {a.shape} and {e.shape} differ"
    if rtol is None or atol is None:
        known = [_TOLERANCE.get(_dtype(x), (0.0, 0.0)) for x in both if hasattr(x, "dtype")]
        known = known or [_TOLERANCE["float64"] if any(isinstance(x, float) for x in both) else (0.0, 0.0)]
        rtol, atol = max(t[0] for t in known), max(t[1] for t in known)
    with np.errstate(invalid="ignore"):
        error = np.abs(a - e)
        wrong = ~(error <= atol + rtol * np.abs(e)) & (a != e)
    wrong |= np.isinf(e) & (a != e)
    if equal_nan:
        wrong &= ~(np.isnan(a) & np.isnan(e))
    if not wrong.any():
        return None
    worst = np.unravel_index(int(np.argmax(np.where(wrong, np.where(np.isnan(error), np.inf, error), -1.0))), a.shape)
    at = f" at {tuple(int(i) for i in worst)}" if a.ndim else ""
    return (
        f"{where}{int(wrong.sum())} of {a.size} elements differ; the worst{at}: {a[worst]:.9g}, expected "
        f"{e[worst]:.9g} (error {error[worst]:.3g}, allowed {atol + rtol * abs(e[worst]):.3g})"
    )


def _dtype(x: Any) -> str:
    return str(x.dtype).rsplit(".", 1)[-1] if hasattr(x, "dtype") else type(x).__name__


def _wide(x: Any) -> Any:
    """A numpy array in which differences are exact enough: float64, or int64 for whole numbers."""
    if isinstance(x, gg.Tensor):
        x = x.detach().cpu()
        x = x.to(gg.float64 if x.is_floating_point() else gg.int64).numpy()
    array = np.asarray(x)
    return array.astype(np.float64 if array.dtype.kind == "f" else np.int64)
