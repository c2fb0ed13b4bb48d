"""Backward: the loop that walks the graph from the loss to the leaves.

    count   from the roots, how many consumers each node has
    ready   a node whose consumers have all sent their part of its gradient
    step    dy of a ready node -> its op's backward -> dx along each edge, added to what the edge's end has received

It is a loop, never recursion: a graph may be a million nodes deep. Keys of the pending gradients are the nodes
themselves, and the leaf tensors.
"""

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
    their gradients are returned (None where the graph does not reach), or accumulated in their `.grad` if `accumulate`.
    """
    start: list[tuple[Any, int]] = [_end(root._edge) for root in roots]
    wanted: dict[int, list[tuple[int, int]]] = {}  # id of a node or leaf: (output, place among inputs)
    if inputs is not None:
        for place, x in enumerate(inputs):
            end, output = _end(x._edge)
            wanted.setdefault(id(end), []).append((output, place))
    useful = None if inputs is None else _leading_to(_reachable(start), wanted)
    counts = _count(start, useful)

    found: list[Tensor | None] = [None] * (0 if inputs is None else len(inputs))
    pending: dict[Any, list[Tensor | None]] = {}
    ready: list[Any] = []
    before = core.set_grad_enabled(create_graph)
    casting = None
    if graph.casting is not None:  # backward computes in forward's dtypes
        from glassgrad import amp

        casting = amp.switch(amp.OFF)
    try:
        for (end, output), first in zip(start, gradients):
            _send(end, output, first, pending, counts, ready)
        while ready:
            end = ready.pop()
            dys = pending.pop(end)
            if isinstance(end, core.TensorBase):
                leaf: Any = end
                dy: Any = dys[0]
                if dy is None:
                    continue
                del dys
                dy = _leaf_gradient(leaf, dy)
                if inputs is None or (accumulate and id(leaf) in wanted):
                    _accumulate(leaf, dy, create_graph)
                for _, place in wanted.get(id(leaf), ()):
                    found[place] = dy
                continue
            node = end
            if node.hooks:
                for output, hooks in node.hooks.items():
                    if output < len(dys) and dys[output] is not None:
                        dys[output] = _call_hooks(hooks, dys[output])
            for output, place in wanted.get(id(node), ()):
                found[place] = dys[output] if output < len(dys) else None
                if accumulate and inputs is not None and found[place] is not None:
                    _accumulate(inputs[place], found[place], create_graph)
            if useful is not None and id(node) not in useful:
                continue
            dxs = _call_backward(node, dys)
            del dys
            if not retain_graph:
                node.release()
            for i, edge in enumerate(node.edges):
                if edge is None:
                    continue
                to, output = _end(edge)
                if useful is not None and id(to) not in useful and id(to) not in wanted:
                    continue
                # No name for the gradient here: it would outlive the loop and cost the leaf a copy (see _accumulate).
                _send(to, output, dxs[i] if i < len(dxs) else None, pending, counts, ready)
            del dxs
    finally:
        core.set_grad_enabled(before)
        if casting is not None:
            amp.switch(casting)
    return found


def _end(edge: Any) -> tuple[Any, int]:
    return edge if type(edge) is tuple else (edge, 0)


def _reachable(start: list[tuple[Any, int]]) -> list[Any]:
    """Every node that the roots lead to, each once."""
    seen: set[int] = set()
    nodes: list[Any] = []
    stack = [end for end, _ in start]
    while stack:
        node = stack.pop()
        if node is None or id(node) in seen:
            continue
        seen.add(id(node))
        nodes.append(node)
        if not isinstance(node, core.TensorBase):
            stack.extend(edge[0] if type(edge) is tuple else edge for edge in node.edges if edge is not None)
    return nodes


def _leading_to(nodes: list[Any], wanted: dict[int, Any]) -> set[int]:
    """Ids of the nodes from which some wanted input can be reached: only their backward needs to run."""
    parents: dict[int, list[int]] = {}
    for node in nodes:
        if not isinstance(node, core.TensorBase):
            for edge in node.edges:
                if edge is not None:
                    parents.setdefault(id(edge[0] if type(edge) is tuple else edge), []).append(id(node))
    useful: set[int] = set()
    stack = list(wanted)
    while stack:
        for parent in parents.get(stack.pop(), ()):
            if parent not in useful:
                useful.add(parent)
                stack.append(parent)
    return useful


def _count(start: list[tuple[Any, int]], useful: set[int] | None) -> dict[Any, int]:
    """How many parts of its gradient each node or leaf will be sent."""
    counts: dict[Any, int] = {}
    stack: list[Any] = []
    for end, _ in start:
        if end in counts:
            counts[end] += 1
        else:
            counts[end] = 1
            stack.append(end)
    while stack:
        node = stack.pop()
        if isinstance(node, core.TensorBase) or (useful is not None and id(node) not in useful):
            continue
        for edge in node.edges:
            if edge is None:
                continue
            to = edge[0] if type(edge) is tuple else edge
            if to in counts:
                counts[to] += 1
            else:
                counts[to] = 1
                stack.append(to)
    return counts


def _send(
    to: Any,
    output: int,
    dy: Tensor | None,
    pending: dict[Any, list[Tensor | None]],
    counts: dict[Any, int],
    ready: list[Any],
) -> None:
    slots = pending.get(to)
    if slots is None:
        dtype = to.dtype
        slots = pending[to] = [None] * (len(dtype) if type(dtype) is tuple else 1)
    if dy is not None:
        so_far = slots[output]
        slots[output] = dy if so_far is None else so_far + dy
    left = counts[to] - 1
    counts[to] = left
    if left == 0:
        ready.append(to)


def _call_backward(node: Any, dys: list[Tensor | None]) -> tuple[Tensor | None, ...]:
    dtype = node.dtype
    if type(dtype) is tuple:
        if all(dy is None for dy in dys):
            return ()
        dxs = node.backward(*[dy if dy is None or dy.dtype is t else dy.to(t) for dy, t in zip(dys, dtype)])
    else:
        dy = dys[0]
        if dy is None:
            return ()
        dxs = node.backward(dy if dy.dtype is dtype else dy.to(dtype))
    return dxs if type(dxs) is tuple else (dxs,)


def _leaf_gradient(leaf: Any, dy: Any) -> Any:
    if dy.dtype is not leaf.dtype:
        dy = dy.to(leaf.dtype)
    if leaf._hooks:
        dy = _call_hooks(leaf._hooks, dy)
    if dy.shape != leaf.shape:
        raise core.ShapeError(f"backward: a gradient of shape {dy.shape} arrived for a leaf of shape {leaf.shape}")
    return dy


def _call_hooks(hooks: dict[int, Any], dy: Any) -> Any:
    for hook in list(hooks.values()):
        changed = hook(dy)
        if changed is not None:
            dy = changed
    return dy


def _accumulate(leaf: Any, dy: Any, create_graph: bool) -> None:
    held = leaf.grad
    if held is not None:
        if create_graph:
            leaf.grad = held + dy
        else:
            core.copy_(held, core.add(held, dy))
    elif create_graph:
        leaf.grad = dy.clone()
    else:
        # The first gradient is kept as it is if nobody else can see its memory: these names hold three references.
        leaf.grad = dy if dy._owns_storage(3) else dy._alias().clone()
