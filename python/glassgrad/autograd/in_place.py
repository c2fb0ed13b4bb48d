"""In-place changes: what they write, and what they do to the graph.

`x.add_(y)` computes x + y, recorded like any op, writes the result over x's elements and lets x stand for the new node:

    x (old node) ──> Add ──> x (new node)

A leaf that requires a gradient cannot be changed (its gradient would have no owner), except under no_grad. Whoever
saved x's old elements is told by the version counter when it reads them.

If x is a view, its base's elements change too. Then the base gets the node WriteRegion, whose gradient is the base's
with the view's region cut out (for the old base) and that region alone (for what was written); the view itself, and
every other view of that base, gets a new node from the new base when it is next used.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from glassgrad import _core as core
from glassgrad.autograd import graph
from glassgrad.autograd.graph import Op, View, note_change, recording

if TYPE_CHECKING:
    from glassgrad.tensor import Tensor

__all__ = ["check_in_place", "in_place", "overwrite", "refresh_view"]

F = TypeVar("F", bound=Callable[..., Any])


def in_place(function: F, into: Callable[..., bool] | None = None) -> F:
    """The in-place method of an op: `relu_ = in_place(relu)`.

    `into(x, ...)`, if there is one, computes the op in x's own memory and says whether it could; it serves where no
    graph is recorded.
    """
    name = f"{function.__name__}_"

    @functools.wraps(function)
    def method(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        check_in_place(name, self)
        if into is not None and not core.edges((self, *args)) and into(self, *args, **kwargs):
            note_change(self)
            return self
        if graph.casting is None:
            return overwrite(name, self, function(self, *args, **kwargs))
        from glassgrad.amp import without_autocast

        return overwrite(name, self, without_autocast(function, self, *args, **kwargs))

    method.__name__ = name
    method.__qualname__ = name
    method.__doc__ = f"In-place form of {function.__name__}."
    return method  # type: ignore[return-value]


def check_in_place(name: str, x: Tensor) -> None:
    """Refuses a leaf that requires a gradient, its views, and tensors whose elements share memory."""
    if recording() and x.requires_grad:
        root = x
        while root._view is not None:
            root = root._view[0]
        if root.is_leaf and root.requires_grad:
            what = "a leaf" if root is x else "a view of a leaf"
            raise RuntimeError(
                f"{name}: {what} Variable that requires grad ({tuple(root.shape)} {root.dtype}) is being used in an "
                "in-place operation; do it under gg.no_grad(), or use the form without the trailing underscore"
            )
    if 0 in x.stride() and x.numel() and any(s == 0 and n > 1 for s, n in zip(x.stride(), x.shape)):
        raise RuntimeError(
            f"{name}: several elements of this expanded tensor {tuple(x.shape)} share a memory location; clone() it "
            "first"
        )


def overwrite(name: str, x: Tensor, y: Tensor) -> Tensor:
    """Writes y over x's elements; x then stands for y's place in the graph."""
    if y.shape != x.shape:
        raise core.ShapeError(
            f"{name}: the result {tuple(y.shape)} does not fit x {tuple(x.shape)} {x.dtype}: an in-place op cannot "
            "change the shape of its first operand"
        )
    if y.dtype is not x.dtype:
        if _kind(y.dtype) > _kind(x.dtype):
            raise RuntimeError(
                f"{name}: result type {y.dtype.name.capitalize()} can't be cast to the desired output type "
                f"{x.dtype.name}"
            )
        y = y.to(x.dtype)
    if y._node is not None:
        _keep_operands(y._node, x)
    core.copy_(x, y)
    note_change(x)
    if y.requires_grad or (recording() and x.requires_grad):
        _adopt(x, y)
    return x


def _keep_operands(node: Op, x: Tensor) -> None:
    """What the op saved of x is about to be overwritten: the op gets a copy."""
    saved = node._saved
    if type(saved) is tuple and any(t is x for t in saved):
        node._replace_saved(x, x.detach().clone())


def _kind(dtype: Any) -> int:
    return 2 if dtype.is_floating_point else 0 if dtype.name == "bool" else 1


def _adopt(x: Tensor, y: Tensor) -> None:
    if x._view is None:
        if y._node is None:
            y = y.clone() if y.requires_grad else y
        x._node, x._output = y._node, y._output
        return
    parent, _, view, args = x._view
    _adopt(parent, WriteRegion.apply(parent, y, view, args))
    refresh_view(x)


def refresh_view(x: Tensor) -> None:
    """Makes a view the output of a new node on its parent as it is now."""
    parent, _, view, args = x._view
    node = view()
    node.edges = core.edges((parent, *args))
    output = x._output
    x._node = None
    if node.edges:
        out = node.forward(parent, *args)
        node._record(out)
        x._node, x._output = node, output
    x._view = (parent, parent._node, view, args)


class WriteRegion(Op):
    """The parent with one of its views' elements replaced by y; they have been written already."""

    def forward(self, parent: Tensor, y: Tensor, view: type[View], args: tuple[Any, ...]) -> Tensor:
        self.view, self.args = view, args
        return parent._alias()

    # d parent: dy outside the region, zero inside.  d y: dy inside the region.
    def backward(self, dy: Tensor) -> tuple[Tensor, Tensor]:
        region = self.view.apply(dy, *self.args)
        if isinstance(region, tuple):
            raise RuntimeError(
                "in-place: a view that is one of several outputs cannot be changed in place; clone() it first"
            )
        d_parent = dy.clone()
        with_region = self.view.apply(d_parent, *self.args)
        with_region.zero_()
        return d_parent, region
