"""Checkpointing: forget what a segment saved, and compute it again when backward asks.

Chen et al. 2016, arXiv:1604.06174. The segment runs recorded as usual, so its graph is whole: parameters inside it,
outer inputs and higher orders need nothing special. Then every node of the segment gives up its saved tensors for one
shared `Recompute`. The first node that backward asks for them runs the function again; the new graph has the same nodes
in the same order, and hands its tensors over.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from glassgrad import _core as core
from glassgrad.autograd import graph
from glassgrad.autograd.grad_mode import enable_grad
from glassgrad.autograd.graph import Op

__all__ = ["checkpoint", "checkpoint_sequential"]


class Recompute:
    """What the nodes of a checkpointed segment hold instead of their tensors."""

    def __init__(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], state: Any) -> None:
        self.function, self.args, self.kwargs, self.random_state = function, args, kwargs, state
        if graph.casting is not None:  # what is recomputed must be cast as it was
            from glassgrad.amp import current_setting, under

            self.function = functools.partial(under, current_setting(), function)
        self.nodes: list[Op] = []

    def restore(self) -> None:
        """Runs the segment again and gives its nodes their tensors back."""
        from glassgrad.ops.random import get_rng_state, set_rng_state

        before = None
        if self.random_state is not None:
            before = get_rng_state()
            set_rng_state(self.random_state)
        try:
            with enable_grad():
                again = _segment(self.function(*self.args, **self.kwargs), self.args)
        finally:
            if before is not None:
                set_rng_state(before)
        if [type(n) for n in again] != [type(n) for n in self.nodes]:
            raise RuntimeError(
                f"checkpoint: the function recorded {len(self.nodes)} ops the first time and {len(again)} others the "
                "second; it must do the same every time it is called"
            )
        for old, new in zip(self.nodes, again):
            if old._saved is self:
                old._take_saved(new)


def _segment(out: Any, args: tuple[Any, ...]) -> list[Op]:
    """The nodes between the arguments and the result, in an order that depends on the graph's form only."""
    outside = {id(a._node) for a in args if isinstance(a, core.TensorBase) and a._node is not None}
    stack = [o._node for o in (out if isinstance(out, (tuple, list)) else (out,)) if isinstance(o, core.TensorBase)]
    seen: set[int] = set()
    nodes: list[Op] = []
    while stack:
        node = stack.pop()
        if node is None or id(node) in seen or id(node) in outside:
            continue
        seen.add(id(node))
        nodes.append(node)
        for edge in node.edges:
            to = edge[0] if type(edge) is tuple else edge
            if isinstance(to, Op):
                stack.append(to)
    return nodes


def checkpoint(
    function: Callable[..., Any],
    *args: Any,
    use_reentrant: bool | None = None,
    preserve_rng_state: bool = True,
    **kwargs: Any,
) -> Any:
    """Calls `function(*args, **kwargs)` without keeping what its ops saved; backward computes it again.

    Memory falls to the segment's arguments at the price of one more forward pass. Random numbers (dropout) repeat
    unless `preserve_rng_state` is False, and autocast is what it was. `use_reentrant` is accepted for code written for
    PyTorch and changes nothing.

    >>> x = gg.tensor([1.0, 2.0], requires_grad=True)
    >>> gg.autograd.checkpoint(lambda v: v.exp().sin(), x).sum().backward()
    >>> x.grad
    tensor([-2.4783,  3.3129])
    """
    from glassgrad.ops.random import get_rng_state

    recompute = Recompute(function, args, kwargs, get_rng_state() if preserve_rng_state else None)
    out = function(*args, **kwargs)
    recompute.nodes = _segment(out, args)
    for node in recompute.nodes:
        if node._saved:
            node._saved = recompute
    return out


def checkpoint_sequential(functions: Any, segments: int, input: Any, use_reentrant: bool | None = None) -> Any:
    """Runs a Sequential, or a list of functions, in `segments` checkpointed parts.

    >>> model = gg.nn.Sequential(gg.nn.Linear(2, 2), gg.nn.ReLU(), gg.nn.Linear(2, 1))
    >>> gg.autograd.checkpoint_sequential(model, 2, gg.zeros(3, 2)).shape
    (3, 1)
    """
    parts = list(functions)
    size = -(-len(parts) // segments)

    def through(chain: Sequence[Any]) -> Callable[[Any], Any]:
        def run(x: Any) -> Any:
            for f in chain:
                x = f(x)
            return x

        return run

    for start in range(0, len(parts), size):
        input = checkpoint(through(parts[start : start + size]), input)
    return input
