"""The op families: one module each, every op's gradient rule under its forward rule."""

from glassgrad.ops import (
    activation,
    attention,
    creation,
    elementwise,
    embedding,
    index,
    layout,
    loss,
    matmul,
    norm,
    random,
    reduce,
    scan,
    softmax,
    sort,
)

__all__ = [
    "activation",
    "attention",
    "creation",
    "elementwise",
    "embedding",
    "index",
    "layout",
    "loss",
    "matmul",
    "norm",
    "random",
    "reduce",
    "scan",
    "softmax",
    "sort",
]
