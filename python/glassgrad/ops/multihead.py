"""Multi-head attention as a function of its projections (Vaswani et al. 2017, section 3.2.2).

    Q, K, V = query Wqᵀ + bq, ...   split into H heads of E/H   softmax(Q Kᵀ / sqrt(E/H) + mask) V   joined,
    times Woᵀ + bo

Sequence first: query (L, N, E), key and value (S, N, ·); or without N. Where the weights are not asked for, the fused
attention kernel runs and the (L, S) matrix never exists.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from glassgrad import _core as core

if TYPE_CHECKING:
    from glassgrad.tensor import Tensor

__all__ = ["multi_head_attention_forward"]


def _additive(mask: Tensor | None, like: Tensor) -> Tensor | None:
    """A mask whose True blocks, as 0 and -inf; a float mask in the dtype of the scores."""
    if mask is None or mask.dtype is not core.bool:
        return mask if mask is None else mask.to(like.dtype)
    return like.detach().new_zeros(mask.shape).masked_fill(mask, -math.inf)


def multi_head_attention_forward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    embed_dim_to_check: int,
    num_heads: int,
    in_proj_weight: Tensor | None,
    in_proj_bias: Tensor | None,
    bias_k: Tensor | None,
    bias_v: Tensor | None,
    add_zero_attn: bool,
    dropout_p: float,
    out_proj_weight: Tensor,
    out_proj_bias: Tensor | None,
    training: bool = True,
    key_padding_mask: Tensor | None = None,
    need_weights: bool = True,
    attn_mask: Tensor | None = None,
    use_separate_proj_weight: bool = False,
    q_proj_weight: Tensor | None = None,
    k_proj_weight: Tensor | None = None,
    v_proj_weight: Tensor | None = None,
    static_k: Tensor | None = None,
    static_v: Tensor | None = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Attention of several heads between projected sequences; returns the output and, if asked for, the weights.

    query (L, N, E), key and value (S, N, ·), or all without N; output (L, N, E), weights (N, L, S), or (N, H, L, S)
    unless averaged. In the masks True blocks: attn_mask (L, S) or (N H, L, S), key_padding_mask (N, S); float masks are
    added.

    >>> x = gg.ones(3, 1, 2)
    >>> eye = gg.eye(2)
    >>> y, weights = F.multi_head_attention_forward(
    ...     x, x, x, 2, 1, gg.cat([eye, eye, eye]), None, None, None, False, 0.0, eye, None
    ... )
    >>> y.shape, weights.shape
    ((3, 1, 2), (1, 3, 3))
    """
    from glassgrad.ops.attention import scaled_dot_product_attention
    from glassgrad.ops.layout import cat, pad
    from glassgrad.ops.matmul import linear
    from glassgrad.ops.random import dropout
    from glassgrad.ops.softmax import softmax

    name = "multi_head_attention_forward"
    batched = query.ndim == 3
    if query.ndim not in (2, 3) or key.ndim != query.ndim or value.ndim != query.ndim:
        raise core.ShapeError(
            f"{name}: query {tuple(query.shape)}, key {tuple(key.shape)} and value {tuple(value.shape)} must all have "
            "3 axes (sequence, batch, embedding), or all 2"
        )
    if not batched:
        query, key, value = query.unsqueeze(1), key.unsqueeze(1), value.unsqueeze(1)
        key_padding_mask = None if key_padding_mask is None else key_padding_mask.unsqueeze(0)
    length, n, embed = query.shape
    source = key.shape[0]
    head = embed // num_heads
    if embed != embed_dim_to_check or head * num_heads != embed:
        raise core.ShapeError(
            f"{name}: query {tuple(query.shape)} must have an embedding of {embed_dim_to_check}, divisible by "
            f"{num_heads} heads"
        )
    if is_causal and attn_mask is None:
        raise RuntimeError(f"{name}: is_causal is a hint about attn_mask, which is needed as well")

    if use_separate_proj_weight:
        weights: Any = (q_proj_weight, k_proj_weight, v_proj_weight)
    elif in_proj_weight is not None:
        weights = in_proj_weight.chunk(3)
    biases = (None, None, None) if in_proj_bias is None else in_proj_bias.chunk(3)
    q, k, v = (linear(x, w, b) for x, w, b in zip((query, key, value), weights, biases))
    if bias_k is not None and bias_v is not None:
        k, v = cat([k, bias_k.expand(1, n, embed)]), cat([v, bias_v.expand(1, n, embed)])

    # (L, N, E) -> (N, H, L, E/H)
    q = q.reshape(length, n, num_heads, head).permute(1, 2, 0, 3)
    k = k.reshape(k.shape[0], n, num_heads, head).permute(1, 2, 0, 3)
    v = v.reshape(v.shape[0], n, num_heads, head).permute(1, 2, 0, 3)
    if static_k is not None:
        k = static_k.reshape(n, num_heads, -1, head)
    if static_v is not None:
        v = static_v.reshape(n, num_heads, -1, head)
    if add_zero_attn:
        k, v = pad(k, (0, 0, 0, 1)), pad(v, (0, 0, 0, 1))

    mask = _additive(attn_mask, q)
    if mask is not None:
        mask = mask.reshape(n, num_heads, *mask.shape[1:]) if mask.ndim == 3 else mask
    padding = _additive(key_padding_mask, q)
    if padding is not None:
        if padding.shape != (n, source):
            raise core.ShapeError(f"{name}: key_padding_mask {tuple(padding.shape)} must be ({n}, {source})")
        padding = padding.reshape(n, 1, 1, source)
        mask = padding if mask is None else mask + padding
    extra = k.shape[2] - source
    if mask is not None and extra and mask.shape[-1] == source:
        mask = pad(mask, (0, extra))

    drop = dropout_p if training else 0.0
    found = None
    if need_weights:
        scores = (q * (1 / math.sqrt(head))) @ k.transpose(-2, -1)
        found = softmax(scores if mask is None else scores + mask, -1)
        found = dropout(found, drop) if drop > 0 else found
        y = found @ v
        found = found.mean(1) if average_attn_weights else found
    else:
        if mask is not None:
            mask = mask.expand(n, num_heads, length, k.shape[2]) if mask.ndim == 4 else mask
        y = scaled_dot_product_attention(q, k, v, mask, drop)
    y = linear(y.permute(2, 0, 1, 3).reshape(length, n, embed), out_proj_weight, out_proj_bias)
    if batched:
        return y, found
    return y.squeeze(1), None if found is None else found.squeeze(0)
