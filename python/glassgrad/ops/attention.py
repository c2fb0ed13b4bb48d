"""Attention: O = softmax(scale Q K^T + mask) V for Q (..., L, E), K (..., S, E), V (..., S, F).

One fused kernel (csrc/ops/attention) that never stores the (L, S) scores, after Dao, Fu, Ermon, Rudra, Re 2022,
"FlashAttention". Forward saves its inputs, the output and two numbers per row: the largest score and one over the sum
of exponentials; backward makes the scores again, tile by tile.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from glassgrad import _core as core
from glassgrad.amp import Casts
from glassgrad.autograd.graph import Op, composite_backward, recording, unbroadcast

if TYPE_CHECKING:
    from glassgrad.tensor import Tensor

__all__ = ["scaled_dot_product_attention"]


class Attention(Op):
    """O = P V with P = softmax(scale Q K^T + mask); rows whose keys are all masked are 0."""

    autocast = Casts(cpu="lower", gpu="lower")

    def forward(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool, scale: float, dropout: float
    ) -> Tensor:
        self.causal, self.scale, self.dropout = causal, scale, dropout
        out, stats, *self.stream = core.attention_forward(q, k, v, mask, causal, scale, dropout)
        self.save(q, k, v, mask, out, stats)
        return out

    # dV = P^T dO, dP = dO V^T, dS = P * (dP - rowsum(dO * O)), dQ = scale dS K, dK = scale dS^T Q, dmask = dS.
    def backward(self, dout: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, mask, out, stats = self.saved
        if recording():
            keep = core.attention_dropout(q, k, self.dropout, *self.stream) if self.dropout > 0 else None
            inputs = (q, k, v, mask, self.causal, self.scale, keep)
            return composite_backward(attention_composite, inputs, dout, self.needs)
        wants_mask = self.needs[3]
        dq, dk, dv, dscores = core.attention_backward(
            dout, q, k, v, mask, out, stats, self.causal, self.scale, self.dropout, *self.stream, wants_mask
        )
        return dq, dk, dv, unbroadcast(dscores, mask.shape) if wants_mask else None


def attention_composite(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool, scale: float, keep: Tensor | None
) -> Tensor:
    """Attention in ordinary ops, with the scores stored: what the kernel computes, differentiable to any order.

    `keep` multiplies the weights: the factors of dropout.
    """
    if k.ndim > 2 and k.shape[-3] != q.shape[-3]:
        group = q.shape[-3] // k.shape[-3]
        k, v = k.repeat_interleave(group, -3), v.repeat_interleave(group, -3)
    scores = (q * scale) @ k.mT
    if mask is not None:
        scores = scores.masked_fill(mask.logical_not(), -math.inf) if mask.dtype is core.bool else scores + mask
    if causal:
        ones = q.new_ones((q.shape[-2], k.shape[-2]), dtype=core.bool)
        scores = scores.masked_fill(ones.triu(1), -math.inf)
    if k.shape[-2] == 0:
        return scores @ v
    blind = scores.detach().amax(-1, keepdim=True) == -math.inf
    weights = scores.masked_fill(blind, 0.0).softmax(-1).masked_fill(blind, 0.0)
    if keep is not None:
        weights = weights * keep
    return weights.to(v.dtype) @ v


def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """softmax(scale Q K^T + mask) V: what each query reads from the values whose keys it resembles.

    Shapes: query (..., L, E), key (..., S, E), value (..., S, F); the result is (..., L, F). Leading axes broadcast.
    scale defaults to 1/sqrt(E). attn_mask broadcasts to (..., L, S): bool (True keeps) or floating point (added).
    is_causal lets query i see keys 0..i only. dropout_p drops weights with that probability and scales the others up.
    enable_gqa lets H query heads (the axis before L) share Hk key heads where Hk divides H. A query that sees no key
    reads 0. Memory does not grow with L S, except for the gradient by a floating-point mask. Raises ShapeError,
    TypeError and ValueError.

    Dao, Fu, Ermon, Rudra, Re 2022, "FlashAttention: fast and memory-efficient exact attention with IO-awareness".

    >>> q = k = gg.tensor([[1.0, 0.0], [0.0, 1.0]])
    >>> F.scaled_dot_product_attention(q, k, gg.tensor([[1.0], [3.0]]), is_causal=True)
    tensor([[1.0000],
            [2.3395]])
    """
    if min(query.ndim, key.ndim, value.ndim) >= 2:
        query, key, value = _broadcast_leading(query, key, value, enable_gqa)
    if scale is None:
        scale = 1.0 / math.sqrt(query.shape[-1]) if query.ndim and query.shape[-1] else 1.0
    return Attention.apply(query, key, value, attn_mask, is_causal, scale, dropout_p)


def _broadcast_leading(q: Tensor, k: Tensor, v: Tensor, grouped: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Expands the leading axes to common ones; with grouped queries the axis of heads keeps its own size."""
    if q.shape[:-2] == k.shape[:-2] == v.shape[:-2]:
        return q, k, v
    tensors = (q, k, v)
    kept = 3 if grouped and min(x.ndim for x in tensors) >= 3 else 2
    lead: list[int] = []
    for i in range(max(x.ndim for x in tensors) - kept):
        sizes = [x.shape[-kept - 1 - i] for x in tensors if x.ndim > kept + i]
        size = next((n for n in sizes if n != 1), 1)
        if any(n not in (1, size) for n in sizes):
            shapes = ", ".join(str(tuple(x.shape)) for x in tensors)
            raise core.ShapeError(
                f"scaled_dot_product_attention: query, key and value {shapes}: the leading axes do not broadcast"
            )
        lead.insert(0, size)
    q, k, v = (x.expand(*lead, *x.shape[-kept:]) for x in tensors)
    return q, k, v
