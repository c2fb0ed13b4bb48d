"""The op families: one module each, every op's gradient rule under its forward rule."""

from glassgrad.ops import (
    activation,
    creation,
    elementwise,
    embedding,
    index,
    layout,
    loss,
    norm,
    random,
    reduce,
    scan,
    softmax,
    sort,
)

__all__ = [
    "activation",
    "creation",
    "elementwise",
    "embedding",
    "index",
    "layout",
    "loss",
    "norm",
    "random",
    "reduce",
    "scan",
    "softmax",
    "sort",
]
