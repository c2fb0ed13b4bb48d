"""The graph itself: backward, grad, modes, hooks, in-place changes, views, custom functions, checkpointing, memory."""

from __future__ import annotations

import gc
import threading
import weakref

import numpy as np
import pytest

import glassgrad as gg
from glassgrad.autograd.graph import Op


def leaf(*values):
    return gg.tensor(list(values), requires_grad=True)


def test_gradients_accumulate_until_they_are_dropped():
    x = leaf(1.0, 2.0)
    (x * x).sum().backward()
    (x * x).sum().backward()
    assert x.grad.tolist() == [4.0, 8.0]


def test_first_gradient_shares_no_memory_between_leaves():
    a, b = leaf(1.0), leaf(1.0)
    (a + b).sum().backward()
    a.grad.fill_(7.0)
    assert b.grad.tolist() == [1.0]


def test_gradient_argument_stays_the_callers():
    x = leaf(1.0, 2.0)
    g = gg.tensor([1.0, 1.0])
    (x + 0).backward(g)
    g.fill_(5.0)
    assert x.grad.tolist() == [1.0, 1.0]


def test_backward_needs_a_scalar_or_a_gradient():
    x = leaf(1.0, 2.0)
    with pytest.raises(RuntimeError, match="scalar outputs"):
        (x * 2).backward()
    with pytest.raises(gg.ShapeError, match="gradient"):
        (x * 2).backward(gg.ones(3))
    with pytest.raises(RuntimeError, match="does not require grad"):
        gg.ones(1).backward()


def test_second_backward_says_that_the_graph_is_freed():
    x = leaf(2.0)
    y = (x * x).sum()
    y.backward()
    with pytest.raises(RuntimeError, match=r"Mul.*retain_graph=True"):
        y.backward()
    y = (x * x).sum()
    y.backward(retain_graph=True)
    y.backward()
    assert x.grad.tolist() == [12.0]


def test_grad_of_leaves_and_of_inner_tensors():
    x = leaf(3.0)
    h = x * x
    y = (h * h).sum()
    dh, dx = gg.autograd.grad(y, [h, x])
    assert dh.tolist() == [18.0] and dx.tolist() == [108.0]
    assert x.grad is None


def test_unused_inputs():
    x, z = leaf(1.0), leaf(1.0)
    with pytest.raises(RuntimeError, match="allow_unused"):
        gg.autograd.grad((x * 2).sum(), [z])
    assert gg.autograd.grad((x * 2).sum(), [z], allow_unused=True) == (None,)
    assert gg.autograd.grad((x * 2).sum(), [z], materialize_grads=True)[0].tolist() == [0.0]


def test_backward_to_chosen_inputs_only():
    x, z = leaf(1.0), leaf(2.0)
    (x * z).sum().backward(inputs=[x])
    assert x.grad.tolist() == [2.0] and z.grad is None


def test_third_derivative():
    x = leaf(2.0)
    y = (x**4).sum()
    for expected in (32.0, 48.0, 48.0):
        (y,) = gg.autograd.grad(y, x, create_graph=True)
        assert y.item() == pytest.approx(expected)


def test_gradient_of_a_saved_output_of_second_order():
    x = leaf(0.5)
    (d,) = gg.autograd.grad(x.exp().sum(), x, create_graph=True)
    (dd,) = gg.autograd.grad(d.sum(), x)
    assert dd.item() == pytest.approx(np.exp(0.5))


def test_mixed_dtypes_get_gradients_of_their_own():
    x = gg.tensor([1.0, 2.0], requires_grad=True)
    y = gg.tensor([3.0, 4.0], dtype=gg.float64, requires_grad=True)
    (x * y).sum().backward()
    assert x.grad.dtype is gg.float32 and y.grad.dtype is gg.float64


def test_a_chain_of_100000_ops_runs_and_is_freed_without_recursion():
    x = leaf(1.0)
    y = x
    for _ in range(100_000):
        y = y + 1
    y.sum().backward()
    assert x.grad.tolist() == [1.0]
    del y


def test_the_graph_goes_without_the_cyclic_collector():
    class Watched(Op):
        def forward(self, x):
            y = x._alias()
            self.save(y)
            return y

        def backward(self, dy):
            return dy

    gc.collect()
    gc.disable()
    try:
        x = leaf(1.0)
        y = Watched.apply(x).exp().sum()
        node = y._node
        while not isinstance(node, Watched):
            node = node.edges[0]
        gone = weakref.ref(node)
        del node, y
        assert gone() is None
    finally:
        gc.enable()


def test_memory_of_an_unused_graph_comes_back():
    x = gg.ones(1000, 100, requires_grad=True)
    before = gg.memory_stats()["allocated_bytes"]
    y = ((x * 2).exp() * 3).sum()
    del y
    assert gg.memory_stats()["allocated_bytes"] == before


def test_grad_modes():
    x = leaf(1.0)
    with gg.no_grad():
        assert not (x * 2).requires_grad
        with gg.enable_grad():
            assert (x * 2).requires_grad
    with gg.inference_mode():
        assert not (x * 2).requires_grad
    with gg.set_grad_enabled(False):
        assert not (x * 2).requires_grad
    assert (x * 2).requires_grad

    @gg.no_grad()
    def quiet():
        return x * 2

    assert not quiet().requires_grad


def test_grad_mode_is_per_thread():
    seen = []
    with gg.no_grad():
        thread = threading.Thread(target=lambda: seen.append(gg.is_grad_enabled()))
        thread.start()
        thread.join()
    assert seen == [True]


def test_detach_shares_memory_and_leaves_the_graph():
    x = leaf(1.0, 2.0)
    y = (x * 2).detach()
    assert not y.requires_grad and y.is_leaf
    z = x.detach()
    z[0] = 9.0
    assert x.tolist() == [9.0, 2.0]


def test_requires_grad_rules():
    with pytest.raises(RuntimeError, match="floating-point"):
        gg.tensor([1], requires_grad=True)
    y = leaf(1.0) * 2
    with pytest.raises(RuntimeError, match="detach"):
        y.requires_grad = False


def test_hooks_on_leaves_and_inner_tensors():
    x = leaf(1.0)
    y = x * 3
    seen = []
    y.register_hook(lambda g: seen.append(g.item()))
    handle = x.register_hook(lambda g: g * 10)
    (y * 2).sum().backward()
    assert seen == [2.0] and x.grad.tolist() == [60.0]
    handle.remove()
    x.grad = None
    (x * 2).sum().backward()
    assert x.grad.tolist() == [2.0]


def test_retain_grad():
    x = leaf(1.0)
    y = x * 3
    y.retain_grad()
    (y * 2).sum().backward()
    assert y.retains_grad and y.grad.tolist() == [2.0]


# In-place changes


def test_a_leaf_cannot_be_changed_in_place():
    x = leaf(1.0)
    with pytest.raises(RuntimeError, match=r"add_: a leaf"):
        x.add_(1)
    with pytest.raises(RuntimeError, match=r"a view of a leaf"):
        x[0].add_(1)
    with gg.no_grad():
        x.add_(1)
    assert x.tolist() == [2.0]


def test_in_place_on_an_inner_tensor():
    x = leaf(1.0, 2.0)
    y = x * 2
    y.mul_(3)
    y += 1
    y.sum().backward()
    assert y.tolist() == [7.0, 13.0] and x.grad.tolist() == [6.0, 6.0]


def test_a_changed_saved_value_is_an_error_that_names_both_lines():
    x = leaf(1.0, 2.0)
    y = x * 2
    z = y * y  # saved here
    y.add_(1)  # changed here
    with pytest.raises(
        RuntimeError, match=r"Mul.*modified by an inplace operation.*test_autograd.py:\d+.*test_autograd.py:\d+"
    ):
        z.sum().backward()


def test_writing_through_a_view_reaches_the_base():
    x = leaf(1.0, 2.0, 3.0)
    w = leaf(5.0)
    y = x * 1
    v = y[1:]
    v.mul_(w)
    (y * gg.tensor([1.0, 10.0, 100.0])).sum().backward()
    assert y.tolist() == [1.0, 10.0, 15.0]
    assert x.grad.tolist() == [1.0, 50.0, 500.0]
    assert w.grad.tolist() == [320.0]


def test_a_view_sees_what_happened_to_its_base():
    x = leaf(1.0, 2.0)
    y = x * 1
    v = y[0]
    y.mul_(3)
    v.backward()
    assert v.item() == 3.0 and x.grad.tolist() == [3.0, 0.0]


def test_sibling_views():
    x = gg.ones(4, requires_grad=True)
    y = x * 1
    a, b = y[:2], y[1:3]
    a.mul_(10)
    b.sum().backward()
    assert b.tolist() == [10.0, 1.0] and x.grad.tolist() == [0.0, 10.0, 1.0, 0.0]


def test_assignment_into_a_plain_tensor_records():
    w = leaf(2.0)
    x = gg.zeros(3)
    x[1] = w[0] * 3
    assert x.requires_grad
    (x * x).sum().backward()
    assert w.grad.tolist() == [36.0]


def test_nested_views_of_views():
    x = gg.ones(2, 3, requires_grad=True)
    y = x * 1
    y[0][1:].mul_(gg.tensor([2.0, 3.0]))
    y.sum().backward()
    assert x.grad.tolist() == [[1.0, 2.0, 3.0], [1.0, 1.0, 1.0]]


def test_expanded_tensors_cannot_be_changed_in_place():
    with pytest.raises(RuntimeError, match="share a memory location"):
        gg.zeros(1, 3).expand(2, 3).add_(1)


IN_PLACE = [
    "neg",
    "abs",
    "sign",
    "floor",
    "ceil",
    "trunc",
    "frac",
    "exp",
    "exp2",
    "expm1",
    "log",
    "log2",
    "log10",
    "log1p",
    "sqrt",
    "rsqrt",
    "reciprocal",
    "sin",
    "cos",
    "tan",
    "asin",
    "acos",
    "atan",
    "sinh",
    "cosh",
    "tanh",
    "asinh",
    "acosh",
    "atanh",
    "erf",
    "erfc",
    "erfinv",
    "lgamma",
    "digamma",
    "sinc",
    "sigmoid",
    "relu",
]


@pytest.mark.parametrize("name", IN_PLACE)
def test_in_place_without_a_graph_writes_into_the_operand(name):
    values = gg.tensor(np.random.default_rng(1).uniform(0.1, 0.9, (30, 50)).astype(np.float32))
    for view in (lambda t: t, lambda t: t.T[::2], lambda t: t[3, 4]):  # dense, strided, 0-d
        base = values.clone()
        x, expected = view(base), getattr(view(values), name)()
        pointer, version = x.data_ptr(), x._version
        assert getattr(x, f"{name}_")() is x
        np.testing.assert_array_equal(x.numpy(), expected.numpy())
        np.testing.assert_array_equal(view(base).numpy(), expected.numpy())
        assert x.data_ptr() == pointer and x._version > version


def test_in_place_of_whole_numbers_whose_result_is_not_whole():
    x = gg.tensor([1, 2])
    with pytest.raises(RuntimeError, match="can't be cast"):
        x.exp_()
    np.testing.assert_array_equal(x.numpy(), [1, 2])


def test_a_second_gradient_is_added_into_the_first():
    x = gg.tensor([1.0, 2.0]).requires_grad_()
    (x * 3).sum().backward()
    held = x.grad
    (x * 4).sum().backward()
    assert x.grad is held
    np.testing.assert_array_equal(held.numpy(), [7, 7])


def test_in_place_cannot_change_shape_or_kind():
    with pytest.raises(gg.ShapeError, match="add_"):
        gg.zeros(1).add_(gg.zeros(2))
    with pytest.raises(RuntimeError, match="can't be cast"):
        gg.tensor([1, 2]).add_(1.5)


def test_matches_torch_on_random_in_place_programs():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    random = np.random.default_rng(0)

    def program(lib, x, choices):
        y = x * 1
        for kind, i in choices:
            if kind == 0:
                y[i].mul_(2)
            elif kind == 1:
                y[i:] += 1
            elif kind == 2:
                y.t()[i].mul_(y[0, 0].item())
            elif kind == 3:
                y = y.clone()
            elif kind == 4:
                y[:, i] = y[i].clone() * 3
            else:
                y.view(-1)[i::2].exp_()
        return y

    compared = 0
    for _ in range(60):
        choices = [(int(random.integers(0, 6)), int(random.integers(0, 3))) for _ in range(5)]
        start = random.uniform(-0.5, 0.5, (3, 3))
        ours, theirs = gg.tensor(start, requires_grad=True), torch.tensor(start, requires_grad=True)
        a, b = program(gg, ours, choices), program(torch, theirs, choices)
        np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=1e-9)
        try:
            b.sum().backward()
        except RuntimeError:  # PyTorch's exp_ saves the very memory that a later step changes; ours saves its own
            continue
        a.sum().backward()
        np.testing.assert_allclose(ours.grad.numpy(), theirs.grad.numpy(), rtol=1e-9, err_msg=str(choices))
        compared += 1
    assert compared >= 20


# Custom functions


class Power(gg.autograd.Function):
    @staticmethod
    def forward(ctx, x, exponent):
        ctx.exponent = exponent
        ctx.save_for_backward(x)
        return x**exponent

    @staticmethod
    def backward(ctx, dy):
        (x,) = ctx.saved_tensors
        return dy * ctx.exponent * x ** (ctx.exponent - 1), None


def test_custom_function_of_two_orders():
    x = leaf(3.0)
    (d,) = gg.autograd.grad(Power.apply(x, 3).sum(), x, create_graph=True)
    (dd,) = gg.autograd.grad(d.sum(), x)
    assert d.item() == 27.0 and dd.item() == 18.0


def test_custom_function_with_setup_context_and_two_outputs():
    class Split(gg.autograd.Function):
        @staticmethod
        def forward(x):
            return x * 2, x * 3

        @staticmethod
        def setup_context(ctx, inputs, output):
            ctx.save_for_backward(*inputs)

        @staticmethod
        def backward(ctx, a, b):
            return 2 * a + 3 * b

    x = leaf(1.0)
    a, b = Split.apply(x)
    (a + 10 * b).sum().backward()
    assert x.grad.tolist() == [32.0]
    x.grad = None
    Split.apply(x)[1].sum().backward()  # the other gradient arrives as zeros
    assert x.grad.tolist() == [3.0]


def test_custom_function_errors():
    class Wrong(gg.autograd.Function):
        @staticmethod
        def forward(ctx, x, y):
            return x * y

        @staticmethod
        def backward(ctx, dy):
            return dy

    with pytest.raises(RuntimeError, match="1 gradients for 2 arguments"):
        Wrong.apply(leaf(1.0), leaf(1.0)).sum().backward()

    class WrongShape(gg.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.sum()

        @staticmethod
        def backward(ctx, dy):
            return dy

    with pytest.raises(gg.ShapeError, match="WrongShape"):
        WrongShape.apply(leaf(1.0, 2.0)).backward()


def test_an_exception_in_backward_leaves_recording_on():
    class Fails(gg.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 1

        @staticmethod
        def backward(ctx, dy):
            raise ZeroDivisionError("inside")

    with pytest.raises(ZeroDivisionError, match="inside"):
        Fails.apply(leaf(1.0)).sum().backward()
    assert gg.is_grad_enabled()


# Checkpointing


def test_checkpoint_gives_the_same_gradients_with_less_memory():
    gg.manual_seed(0)
    layers = gg.nn.Sequential(
        *[gg.nn.Sequential(gg.nn.Linear(64, 64), gg.nn.Tanh(), gg.nn.Dropout(0.2)) for _ in range(4)]
    )
    x = gg.randn(256, 64)

    def gradients(run):
        gg.manual_seed(1)
        layers.zero_grad()
        y = run()
        held = gg.memory_stats()["allocated_bytes"]
        y.sum().backward()
        return held, [p.grad.numpy().copy() for p in layers.parameters()]

    plain, expected = gradients(lambda: layers(x))
    checked, found = gradients(lambda: gg.autograd.checkpoint_sequential(layers, 4, x))
    assert checked < plain
    for a, b in zip(expected, found):
        np.testing.assert_array_equal(a, b)


def test_checkpoint_of_second_order():
    x = leaf(0.7)
    y = gg.autograd.checkpoint(lambda v: v.sin() * v, x)
    (d,) = gg.autograd.grad(y.sum(), x, create_graph=True)
    (dd,) = gg.autograd.grad(d.sum(), x)
    assert dd.item() == pytest.approx(2 * np.cos(0.7) - 0.7 * np.sin(0.7), rel=1e-5)


def test_checkpoint_of_a_function_that_changes_its_mind():
    calls = []

    def function(x):
        calls.append(1)
        return x.exp() if len(calls) == 1 else x.sin()

    y = gg.autograd.checkpoint(function, leaf(1.0))
    with pytest.raises(RuntimeError, match="same every time"):
        y.sum().backward()


def test_threads_may_run_backward_at_once():
    x = gg.ones(50, 50, requires_grad=True)

    def work(results):
        (g,) = gg.autograd.grad((x @ x).sum(), x)
        results.append(g.numpy())

    results: list = []
    threads = [threading.Thread(target=work, args=(results,)) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(results) == 8 and all((r == results[0]).all() for r in results)
