"""assert_close: what it accepts, and what its message says."""

from __future__ import annotations

import numpy as np
import pytest

import glassgrad as gg
from glassgrad.testing import assert_close


def test_accepts_tensors_arrays_numbers_and_nests() -> None:
    assert_close(gg.tensor([1.0, 2.0]), gg.tensor([1.0, 2.000001]))
    assert_close(1.0, 1.0 + 1e-9)
    assert_close(np.arange(3), np.arange(3))
    assert_close({"w": [gg.ones(2), 3]}, {"w": [gg.ones(2), 3]})
    assert_close(gg.tensor([float("inf")]), gg.tensor([float("inf")]))
    assert_close(gg.tensor([float("nan")]), gg.tensor([float("nan")]), equal_nan=True)
    assert_close(gg.ones(2), gg.ones(2, dtype=gg.float64), check_dtype=False)


def test_message_names_the_worst_element() -> None:
    with pytest.raises(AssertionError, match=r"2 of 3 elements differ; the worst at \(2,\): 3, expected 5"):
        assert_close(gg.tensor([1.0, 2.0, 3.0]), gg.tensor([1.0, 2.1, 5.0]))
    with pytest.raises(AssertionError, match=r"\['w'\]\[1\]: 1 of 1 elements"):
        assert_close({"w": [gg.ones(2), 3]}, {"w": [gg.ones(2), 4]})


@pytest.mark.parametrize(
    ("actual", "expected", "words"),
    [
        (gg.ones(2), gg.ones(3), "shapes"),
        (gg.ones(2), gg.ones(2, dtype=gg.float64), "dtypes float32 and float64"),
        (gg.tensor([float("nan")]), gg.tensor([float("nan")]), "1 of 1"),
        (gg.tensor([float("inf")]), gg.tensor([1.0]), "1 of 1"),
        (gg.tensor([1.0]), gg.tensor([float("inf")]), "1 of 1"),
        ([1, 2], [1], "lengths 2 and 1"),
        ({"a": 1}, {"b": 1}, "keys"),
        (gg.tensor([1]), gg.tensor([2]), "1 of 1"),
    ],
)
def test_differences_fail(actual: object, expected: object, words: str) -> None:
    with pytest.raises(AssertionError, match=words):
        assert_close(actual, expected)


def test_tolerances_come_in_pairs() -> None:
    with pytest.raises(ValueError, match="both"):
        assert_close(1.0, 1.0, rtol=1e-3)
