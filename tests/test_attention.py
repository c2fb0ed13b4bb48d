"""What a row of the op table cannot say of attention: dropout, memory, layouts."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

import glassgrad as gg
import glassgrad.nn.functional as F
from glassgrad.ops.attention import attention_composite


def qkv(queries: int, keys: int) -> list[gg.Tensor]:
    shapes = ((2, 2, queries, 8), (2, 2, keys, 8), (2, 2, keys, 5))
    return [gg.randn(*shape, dtype=gg.float64, requires_grad=True) for shape in shapes]


@pytest.mark.parametrize(("queries", "keys"), [(70, 131), (3, 9), (64, 128)])
def test_dropout_is_the_same_forward_backward_and_in_second_order(queries: int, keys: int) -> None:
    gg.manual_seed(0)
    q, k, v = qkv(queries, keys)
    mask = gg.randn(queries, keys, dtype=gg.float64, requires_grad=True)
    out = F.scaled_dot_product_attention(q, k, v, mask, dropout_p=0.3)
    keep = gg._core.attention_dropout(q.detach(), k.detach(), 0.3, *out.grad_fn.stream)
    expected = attention_composite(q, k, v, mask, False, 1 / math.sqrt(8), keep)
    gg.testing.assert_close(out, expected)
    dout = gg.randn(*out.shape, dtype=gg.float64)
    wanted = gg.autograd.grad(expected, (q, k, v, mask), dout)
    for create_graph in (False, True):
        found = gg.autograd.grad(out, (q, k, v, mask), dout, retain_graph=True, create_graph=create_graph)
        for a, b in zip(found, wanted, strict=True):
            gg.testing.assert_close(a.detach(), b)


def test_dropout_keeps_the_mean_and_repeats_under_a_seed() -> None:
    x = gg.ones(1, 1, 512, 4)
    gg.manual_seed(1)
    first = F.scaled_dot_product_attention(x, x, x, dropout_p=0.5)
    gg.manual_seed(1)
    assert gg.equal(first, F.scaled_dot_product_attention(x, x, x, dropout_p=0.5))
    assert not gg.equal(first, F.scaled_dot_product_attention(x, x, x, dropout_p=0.5))
    assert abs(first.mean().item() - 1) < 0.01
    assert F.scaled_dot_product_attention(x, x, x, dropout_p=1.0).abs().max().item() == 0


def test_memory_does_not_grow_with_the_score_matrix() -> None:
    x = gg.randn(1, 1, 8192, 4, requires_grad=True)
    gg.reset_peak_memory_stats()
    before = gg.memory_stats()["peak_allocated_bytes"]
    F.scaled_dot_product_attention(x, x, x, is_causal=True).sum().backward()
    assert gg.memory_stats()["peak_allocated_bytes"] - before < 8192 * 8192 * 4 / 16


def test_heads_cut_out_of_rows_come_back_so() -> None:
    q = gg.randn(2, 7, 3, 4).transpose(1, 2)
    out = F.scaled_dot_product_attention(q, q, q)
    assert out.transpose(1, 2).is_contiguous()
    gg.testing.assert_close(out, F.scaled_dot_product_attention(*[q.contiguous()] * 3))


@pytest.fixture(params=gg.config()["isas"])
def isa(request: pytest.FixtureRequest, set_isa: Callable[[str], None]) -> None:
    set_isa(request.param)


def sums_of_products(*shape: int) -> list[gg.Tensor]:
    return [gg.randn(*shape, requires_grad=True) for _ in range(3)]


@pytest.mark.parametrize("causal", [False, True])
def test_no_isa_errs_more_than_twice_as_much_as_another(
    causal: bool, isas: list[str], set_isa: Callable[[str], None]
) -> None:
    gg.manual_seed(2)
    inputs = sums_of_products(1, 2, 600, 48)
    doubles = [x.detach().double().requires_grad_() for x in inputs]
    expected = F.scaled_dot_product_attention(*doubles, is_causal=causal)
    dout = gg.randn(*expected.shape)
    wanted = (expected, *gg.autograd.grad(expected, doubles, dout.double()))
    errors = []
    for name in isas:
        set_isa(name)
        out = F.scaled_dot_product_attention(*inputs, is_causal=causal)
        found = (out, *gg.autograd.grad(out, inputs, dout))
        errors.append([(a.detach().double() - b.detach()).norm().item() for a, b in zip(found, wanted, strict=True)])
    for column, b in zip(zip(*errors, strict=True), wanted, strict=True):
        assert max(column) < 2 * min(column) and max(column) < 1e-6 * b.detach().norm().item()


@pytest.mark.usefixtures("isa")
def test_scores_that_differ_by_thousands() -> None:
    gg.manual_seed(3)
    q, k, v = (x.detach() for x in sums_of_products(1, 1, 200, 32))
    q = q * 300.0
    expected = F.scaled_dot_product_attention(q.double(), k.double(), v.double())
    gg.testing.assert_close(F.scaled_dot_product_attention(q, k, v).double(), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("which", [0, 1, 2])
def test_infinities_are_the_same_under_every_isa(which: int, isas: list[str], set_isa: Callable[[str], None]) -> None:
    gg.manual_seed(4)
    inputs = [x.detach() for x in sums_of_products(1, 2, 150, 32)]
    inputs[which][0, 0, 100, 3] = math.inf
    dout = gg.randn(1, 2, 150, 32)
    results = []
    for name in isas:
        set_isa(name)
        leaves = [x.clone().requires_grad_() for x in inputs]
        out = F.scaled_dot_product_attention(*leaves, is_causal=True)
        results.append((out.detach(), *gg.autograd.grad(out, leaves, dout)))
    assert results[0][0][0, 0, :64].isfinite().all().item() and not results[0][1].isfinite().all().item()
    for found in results[1:]:
        for a, b in zip(found, results[0], strict=True):
            gg.testing.assert_close(a, b, rtol=1e-3, atol=1e-4, equal_nan=True)


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("length", [50, 100])
def test_dropout_in_float32(length: int) -> None:
    gg.manual_seed(5)
    inputs = sums_of_products(1, 2, length, 32)
    out = F.scaled_dot_product_attention(*inputs, dropout_p=0.4)
    keep = gg._core.attention_dropout(inputs[0].detach(), inputs[1].detach(), 0.4, *out.grad_fn.stream)
    expected = attention_composite(*inputs, None, False, 1 / math.sqrt(32), keep)
    dout = gg.randn(*out.shape)
    for a, b in zip(gg.autograd.grad(out, inputs, dout), gg.autograd.grad(expected, inputs, dout), strict=True):
        gg.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
