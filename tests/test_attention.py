"""What a row of the op table cannot say of attention: dropout, memory, layouts."""

from __future__ import annotations

import math

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
