"""What rows cannot say of views and copies: shared memory, in-place changes through them, large and odd copies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import glassgrad as gg

VIEWS: dict[str, Callable[[Any], Any]] = {
    "reshape": lambda x: x.reshape(4, 3),
    "transpose": lambda x: x.transpose(0, 1),
    "permute": lambda x: x.permute(1, 0),
    "movedim": lambda x: x.movedim(0, 1),
    "unsqueeze": lambda x: x.unsqueeze(1),
    "squeeze": lambda x: x.unsqueeze(1).squeeze(1),
    "narrow": lambda x: x.narrow(1, 1, 2),
    "select": lambda x: x.select(0, 1),
    "diagonal": lambda x: x.diagonal(1),
    "unfold": lambda x: x.unfold(1, 2, 2),
    "split": lambda x: x.split(2)[1],
    "unbind": lambda x: x.unbind(1)[2],
    "as_strided": lambda x: x.as_strided((2, 2), (4, 1), 1),
    "flatten": lambda x: x.flatten(),
}


@pytest.mark.parametrize("name", VIEWS)
def test_view_shares_memory(name: str) -> None:
    x = gg.zeros(3, 4)
    VIEWS[name](x).fill_(1)
    assert x.sum().item() == VIEWS[name](x).numel()


@pytest.mark.parametrize("name", [name for name in VIEWS if name not in ("split", "unbind")])
def test_change_through_view_reaches_gradient(name: str) -> None:
    """Elements written over by a constant lose their gradient, all others keep it."""
    x = gg.ones(3, 4, requires_grad=True)
    y = x * 2
    view = VIEWS[name](y)
    view.fill_(5)
    (y * y).sum().backward()
    expected = np.full((3, 4), 8.0)
    VIEWS[name](gg.from_numpy(expected)).fill_(0)
    np.testing.assert_array_equal(x.grad.numpy(), expected)


@pytest.mark.parametrize("name", [name for name in VIEWS if name not in ("split", "unbind")])
def test_view_follows_its_base(name: str) -> None:
    """A view taken before an in-place change of its base belongs to the changed graph."""
    x = gg.ones(3, 4, requires_grad=True)
    y = x * 2
    view = VIEWS[name](y)
    y.mul_(3)
    view.sum().backward()
    expected = np.zeros((3, 4))
    VIEWS[name](gg.from_numpy(expected)).fill_(6)
    np.testing.assert_array_equal(x.grad.numpy(), expected)


def test_copy_has_the_gradient_of_its_source() -> None:
    source = gg.tensor([1.0, 2.0], dtype=gg.float64, requires_grad=True)
    x = gg.zeros(3, 2).mul(1)
    x.copy_(source)
    (x * gg.arange(6).reshape(3, 2)).sum().backward()
    np.testing.assert_array_equal(source.grad.numpy(), [6.0, 9.0])
    assert source.grad.dtype is gg.float64


def test_conversion_has_a_gradient_in_the_old_dtype() -> None:
    for dtype in (gg.float64, gg.float16, gg.bfloat16):
        x = gg.ones(3, requires_grad=True)
        y = x.to(dtype)
        (y * y).sum().backward()
        assert x.grad.dtype is gg.float32
        assert x.grad.tolist() == [2.0, 2.0, 2.0]
    assert not gg.ones(3, requires_grad=True).long().requires_grad


def test_cat_gradients_have_their_inputs_dtypes() -> None:
    a, b = gg.ones(2, dtype=gg.float16, requires_grad=True), gg.ones(1, dtype=gg.float64, requires_grad=True)
    y = gg.cat([a, b])
    assert y.dtype is gg.float64
    y.sum().backward()
    assert (a.grad.dtype, b.grad.dtype) == (gg.float16, gg.float64)


def test_in_place_reshaping() -> None:
    x = gg.ones(2, 1, 3, requires_grad=True)
    y = x * 2
    assert y.squeeze_(1) is y
    assert y.t_().shape == (3, 2)
    assert y.unsqueeze_(0).transpose_(1, 2).shape == (1, 2, 3)
    (y * y).sum().backward()
    assert x.grad.shape == (2, 1, 3) and x.grad.unique().tolist() == [8.0]
    with pytest.raises(RuntimeError, match="leaf"):
        x.squeeze_()


def test_expanded_tensor_refuses_in_place() -> None:
    with pytest.raises(RuntimeError, match="memory location"):
        gg.zeros(1, 3).expand(2, 3).fill_(1)


def test_overlapping_copy() -> None:
    x = gg.arange(10)
    x.narrow(0, 1, 9).copy_(x.narrow(0, 0, 9))
    assert x.tolist() == [0, 0, 1, 2, 3, 4, 5, 6, 7, 8]


def test_view_refuses_what_strides_do_not_allow() -> None:
    with pytest.raises(gg.ShapeError, match="use reshape"):
        gg.zeros(2, 3).t().view(6)
    assert gg.zeros(2, 3).t().reshape(6).shape == (6,)


def test_view_as_dtype() -> None:
    x = gg.arange(4, dtype=gg.int32)
    assert x.view(gg.int64).shape == (2,)
    assert x.view(gg.uint8).shape == (16,)
    assert x.view(gg.float32).data_ptr() == x.data_ptr()
    with pytest.raises(gg.ShapeError, match="multiples"):
        gg.zeros(3, dtype=gg.int32).view(gg.int64)


SHAPES = [(130, 70), (70, 130), (3, 4099), (4099, 3), (5, 67, 69), (2, 3, 65, 5), (1, 1, 300), (64, 64)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32", "int64", "float16"])
def test_transposed_copies(shape: tuple[int, ...], dtype: str) -> None:
    """Whole tiles, their edges, short rows, and converted ones."""
    rng = np.random.default_rng(0)
    a = rng.integers(0, 100, shape).astype(dtype)
    x = gg.from_numpy(a)
    for dims in (range(len(shape) - 1, -1, -1), np.roll(range(len(shape)), 1), np.roll(range(len(shape)), -1)):
        order = [int(d) for d in dims]
        np.testing.assert_array_equal(x.permute(order).contiguous().numpy(), a.transpose(order))
        np.testing.assert_array_equal(x.permute(order).to(gg.float64).numpy(), a.transpose(order))
        y = gg.zeros(shape, dtype=x.dtype)
        y.permute(order).copy_(gg.from_numpy(np.ascontiguousarray(a.transpose(order))))
        np.testing.assert_array_equal(y.numpy(), a)


def test_whole_numbers_never_pass_through_floats() -> None:
    big = 2**62 + 1
    x = gg.tensor([big, -big])
    assert x.t().clone().tolist() == [big, -big]
    assert x.to(gg.int32).tolist() == [1, -1]
    assert gg.tensor([2.0**53 + 2], dtype=gg.float64).to(gg.int64).item() == 2**53 + 2
    assert gg.full((1,), big).item() == big


def test_every_conversion_as_numpy() -> None:
    values = np.array([0.0, 1.0, -1.0, 0.5, -2.5, 100.7, np.inf, -np.inf, np.nan, 65504.0, 1e-7])
    for dtype in ("float16", "float32", "float64"):
        x = gg.from_numpy(values.astype(dtype))
        for to in ("float16", "float32", "float64", "bool"):
            with np.errstate(over="ignore"):
                expected = values.astype(dtype).astype(to)
            np.testing.assert_array_equal(x.to(getattr(gg, to)).numpy(), expected)
