"""Scaled dot-product attention: the fused kernel against the scores written out."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import glassgrad as gg
from glassgrad.ops.attention import attention_composite
from op_table import FLOATS, Bad, Random, Row, Sample

TOLERANCE = {"float32": (1e-4, 2e-5), "float16": (5e-3, 5e-3), "bfloat16": (4e-2, 4e-2)}


def reference(
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    attn_mask: np.ndarray | None = None,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> np.ndarray:
    if enable_gqa:
        k, v = (np.repeat(x, q.shape[-3] // x.shape[-3], -3) for x in (k, v))
    scores = q @ np.swapaxes(k, -1, -2) * (1 / math.sqrt(q.shape[-1]) if scale is None else scale)
    if attn_mask is not None:
        scores = np.where(attn_mask, scores, -np.inf) if attn_mask.dtype == bool else scores + attn_mask
    if is_causal:
        scores = np.where(np.tri(*scores.shape[-2:], dtype=bool), scores, -np.inf)
    top = scores.max(-1, keepdims=True, initial=-np.inf)
    weights = np.exp(scores - np.where(np.isfinite(top), top, 0))
    total = weights.sum(-1, keepdims=True)
    return weights / np.where(total == 0, 1, total) @ v


def samples(r: Random) -> list[Sample]:
    n = r.normal

    def qkv(*lead: int, q: int = 5, s: int = 7, e: int = 4, f: int = 4) -> tuple[np.ndarray, ...]:
        return n(*lead, q, e), n(*lead, s, e), n(*lead, s, f)

    blind = r.bools(5, 7)
    blind[2] = False
    additive = n(5, 7)
    additive[:, 3] = -100.0
    return [
        Sample(*qkv()),
        Sample(*qkv(3)),
        Sample(*qkv(2, 3)),
        Sample(*qkv(2, 1, 3, f=6)),
        Sample(*qkv(2, 2), is_causal=True),
        Sample(*qkv(2, q=9, s=4), is_causal=True),
        Sample(*qkv(1, 2, e=3, f=5), scale=0.3),
        Sample(*qkv(2, 2), attn_mask=blind),
        Sample(*qkv(2, 2), attn_mask=r.bools(2, 1, 1, 7)),
        Sample(*qkv(2, 2), attn_mask=additive),
        Sample(*qkv(2, 2), attn_mask=n(2, 1, 5, 7)),
        Sample(*qkv(2, 2), attn_mask=n(2, 1, 1)),
        Sample(n(2, 4, 5, 3), n(2, 2, 7, 3), n(2, 2, 7, 3), enable_gqa=True),
        Sample(n(2, 4, 5, 3), n(2, 1, 7, 3), n(2, 1, 7, 3), is_causal=True, enable_gqa=True),
        Sample(*qkv(1, 1, q=70, s=131, e=17, f=9)),
        Sample(*qkv(1, 1, q=130, s=140, e=8, f=8), is_causal=True),
        Sample(*qkv(1, 1, q=70, s=131, e=17, f=39)),
        Sample(*qkv(1, 2, q=130, s=97, e=40, f=16), is_causal=True),
        Sample(*qkv(1, 1, q=33, s=70, e=16, f=16), attn_mask=r.bools(33, 70)),
        Sample(n(1, 4, 20, 16), n(1, 2, 34, 16), n(1, 2, 34, 20), enable_gqa=True),
        Sample(n(2, 1, 3, 4), n(1, 3, 5, 4), n(2, 3, 5, 4)),
        Sample(*qkv(2, 2, q=0)),
        Sample(*qkv(2, 2, s=0)),
        Sample(*qkv(0, 2)),
        Sample(*qkv(1, 1, q=1, s=1)),
    ]


def composite(
    q: Any, k: Any, v: Any, attn_mask: Any = None, is_causal: bool = False, scale: float | None = None
) -> Any:
    return attention_composite(q, k, v, attn_mask, is_causal, scale or 1 / math.sqrt(max(q.shape[-1], 1)), None)


def bad(q: tuple[int, ...], k: tuple[int, ...], v: tuple[int, ...], **kwargs: Any) -> Any:
    return lambda: ((gg.ones(*q), gg.ones(*k), gg.ones(*v)), {name: make() for name, make in kwargs.items()})


ROWS = [
    Row(
        "scaled_dot_product_attention",
        samples=samples,
        ref=reference,
        dtypes=FLOATS,
        grad=True,
        tol=TOLERANCE,
        bad=[
            Bad(bad((2, 3), (4, 5), (4, 5)), gg.ShapeError, "scaled_dot_product_attention: .*3 and 5 elements"),
            Bad(bad((2, 3), (4, 3), (5, 3)), gg.ShapeError, "scaled_dot_product_attention: .*4 keys and 5 values"),
            Bad(bad((3,), (3,), (3,)), gg.ShapeError, "scaled_dot_product_attention: .*two axes"),
            Bad(bad((2, 2, 3), (3, 2, 3), (3, 2, 3)), gg.ShapeError, "scaled_dot_product_attention: .*leading axes"),
            Bad(
                bad((2, 3), (4, 3), (4, 3), attn_mask=lambda: gg.ones(2, 5)),
                gg.ShapeError,
                "scaled_dot_product_attention: attn_mask",
            ),
            Bad(
                bad((2, 3), (4, 3), (4, 3), attn_mask=lambda: gg.ones(2, 4).long()),
                TypeError,
                "scaled_dot_product_attention: attn_mask",
            ),
            Bad(
                bad((2, 3), (4, 3), (4, 3), dropout_p=lambda: 2.0),
                ValueError,
                "scaled_dot_product_attention: dropout_p",
            ),
        ],
        bench=lambda r: [
            Sample(r.normal(2, 8, 512, 64), r.normal(2, 8, 512, 64), r.normal(2, 8, 512, 64)),
            Sample(r.normal(2, 8, 512, 64), r.normal(2, 8, 512, 64), r.normal(2, 8, 512, 64), is_causal=True),
        ],
    ),
    Row(
        "attention_composite",
        fn=composite,
        samples=lambda r: [
            Sample(r.normal(2, 5, 4), r.normal(2, 7, 4), r.normal(2, 7, 3)),
            Sample(r.normal(2, 5, 4), r.normal(2, 7, 4), r.normal(2, 7, 3), attn_mask=r.bools(5, 7)),
            Sample(r.normal(2, 5, 4), r.normal(2, 7, 4), r.normal(2, 7, 3), attn_mask=r.normal(5, 7), is_causal=True),
        ],
        ref=reference,
        grad=True,
        tol=TOLERANCE,
        torch=None,
    ),
]
