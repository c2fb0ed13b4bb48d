"""glassgrad.autograd.functional against closed forms, and PyTorch where it is installed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import glassgrad as gg
from glassgrad.autograd.functional import hessian, hvp, jacobian, jvp, vhp, vjp


def values(x: Any) -> Any:
    return tuple(values(t) for t in x) if isinstance(x, tuple) else x.detach().numpy()


A = np.array([[1.0, 2.0], [3.0, -1.0], [0.5, 4.0]])
x0 = np.array([0.5, -2.0])


def linear(x: Any) -> Any:
    return gg.tensor(A) @ x


def cubic(x: Any) -> Any:
    return (x**3).sum() + x[0] * x[1]


def cubic_hessian(x: np.ndarray) -> np.ndarray:
    return np.diag(6 * x) + np.array([[0.0, 1.0], [1.0, 0.0]])


def test_products_with_a_linear_map() -> None:
    x, v, u = gg.tensor(x0), gg.tensor([1.0, -1.0], dtype=gg.float64), gg.tensor([1.0, 2.0, 3.0], dtype=gg.float64)
    y, product = vjp(linear, x, u)
    np.testing.assert_allclose(values(y), A @ x0)
    np.testing.assert_allclose(values(product), np.array([1.0, 2.0, 3.0]) @ A)
    y, product = jvp(linear, x, v)
    np.testing.assert_allclose(values(product), A @ [1.0, -1.0])
    np.testing.assert_allclose(values(jacobian(linear, x)), A)
    assert not product.requires_grad


def test_hessian_and_its_products() -> None:
    x, v = gg.tensor(x0), gg.tensor([2.0, 1.0], dtype=gg.float64)
    H = cubic_hessian(x0)
    np.testing.assert_allclose(values(hessian(cubic, x)), H)
    np.testing.assert_allclose(values(hvp(cubic, x, v)[1]), H @ [2.0, 1.0])
    np.testing.assert_allclose(values(vhp(cubic, x, v)[1]), [2.0, 1.0] @ H)
    np.testing.assert_allclose(values(hvp(cubic, x, v)[0]), (x0**3).sum() + x0[0] * x0[1])


def test_several_inputs_and_outputs_nest() -> None:
    a, b = gg.tensor(x0), gg.tensor(3.0, dtype=gg.float64)
    J = jacobian(lambda a, b: (a * b, a.sum()), (a, b))
    assert isinstance(J, tuple) and [tuple(t.shape) for row in J for t in row] == [(2, 2), (2,), (2,), ()]
    np.testing.assert_allclose(values(J[0][0]), 3 * np.eye(2))
    np.testing.assert_allclose(values(J[0][1]), x0)
    np.testing.assert_allclose(values(J[1][1]), 0)
    H = hessian(lambda a, b: (a * a).sum() * b, (a, b))
    np.testing.assert_allclose(values(H[0][1]), 2 * x0)
    np.testing.assert_allclose(values(H[1][0]), 2 * x0)
    np.testing.assert_allclose(values(H[1][1]), 0)


def test_create_graph_differentiates_on() -> None:
    x = gg.tensor(x0, requires_grad=True)
    J = jacobian(lambda x: x**3, x, create_graph=True)
    J.sum().backward()
    np.testing.assert_allclose(values(x.grad), 6 * x0)
    assert jvp(lambda x: x**3, x, gg.ones_like(x).detach(), create_graph=True)[1].requires_grad


def test_strict_refuses_what_does_not_depend() -> None:
    x = gg.tensor(x0)
    np.testing.assert_allclose(values(jacobian(lambda x: gg.ones(2), x)), np.zeros((2, 2)))
    for product in (vjp, jvp, jacobian):
        arguments = () if product is jacobian else (gg.ones(2),)
        with pytest.raises(RuntimeError, match="output 0 does not depend"):
            product(lambda x: gg.ones(2), x, *arguments, strict=True)


def test_errors_name_the_function_and_the_shapes() -> None:
    x = gg.tensor(x0)
    with pytest.raises(RuntimeError, match=r"vjp: v has shapes \[\(2,\)\], the outputs have \[\(3,\)\]"):
        vjp(linear, x, gg.ones(2, dtype=gg.float64))
    with pytest.raises(RuntimeError, match="vjp: v may only be left out"):
        vjp(linear, x)
    with pytest.raises(RuntimeError, match="hessian: func must return a tensor of one element"):
        hessian(linear, x)
    with pytest.raises(TypeError, match="jacobian: inputs must be a tensor"):
        jacobian(linear, 3.0)
    with pytest.raises(ValueError, match="forward-mode"):
        jacobian(linear, x, strategy="forward-mode")


def test_as_torch() -> None:
    torch = pytest.importorskip("torch")

    def network(x: Any, w: Any) -> Any:
        return (x @ w).tanh()

    r = np.random.default_rng(0)
    x, w, v, u = r.normal(size=(2, 3)), r.normal(size=(3, 2)), r.normal(size=(2, 3)), r.normal(size=(3, 2))
    ours, theirs = (gg.tensor(x), gg.tensor(w)), (torch.tensor(x), torch.tensor(w))
    for a, b in zip(jacobian(network, ours), torch.autograd.functional.jacobian(network, theirs), strict=True):
        np.testing.assert_allclose(values(a), b.numpy(), atol=1e-12)
    product = jvp(network, ours, (gg.tensor(v), gg.tensor(u)))[1]
    expected = torch.autograd.functional.jvp(network, theirs, (torch.tensor(v), torch.tensor(u)))[1]
    np.testing.assert_allclose(values(product), expected.numpy(), atol=1e-12)

    def loss(x: Any, w: Any) -> Any:
        return network(x, w).square().sum()

    for row, expected_row in zip(hessian(loss, ours), torch.autograd.functional.hessian(loss, theirs), strict=True):
        for a, b in zip(row, expected_row, strict=True):
            np.testing.assert_allclose(values(a), b.numpy(), atol=1e-12)
