"""Backward, from Python's side: the loop itself is csrc/python/engine.cpp."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from glassgrad import _core as core
from glassgrad.autograd import graph

if TYPE_CHECKING:
    from glassgrad.tensor import Tensor

__all__ = ["run"]


def run(
    roots: Sequence[Tensor],
    gradients: Sequence[Tensor],
    retain_graph: bool,
    create_graph: bool,
    inputs: Sequence[Tensor] | None = None,
    accumulate: bool = False,
) -> list[Tensor | None]:
    """Propagates `gradients` from `roots`.

    Without `inputs`, gradients accumulate in the leaves' `.grad`. With them, only what leads to them is computed, and
    their gradients are returned (None where the graph does not reach), or, if `accumulate`, added to their `.grad`.
    """
    if graph.casting is None:
        return core.backward(roots, gradients, retain_graph, create_graph, inputs, accumulate)
    from glassgrad import amp

    casting = amp.switch(amp.OFF)  # backward computes in forward's dtypes
    try:
        return core.backward(roots, gradients, retain_graph, create_graph, inputs, accumulate)
    finally:
        amp.switch(casting)


def _accumulate(leaf: Any, dy: Any, create_graph: bool) -> None:
    held = leaf.grad
    if held is not None:
        if create_graph:
            leaf.grad = held + dy
        elif not core.add_into(held, dy):
            core.copy_(held, core.add(held, dy))
    else:
        leaf.grad = dy.clone() if create_graph else dy._alias().clone()


core.set_accumulate(_accumulate)
