"""Jacobians, Hessians and their products with vectors, by reverse mode.

With J the Jacobian of func at inputs (outputs by inputs) and H the Hessian of a scalar func:
    vjp  v^T J   one backward pass
    jvp  J v     two: g(w) = w^T J is linear in w, so the derivative of v . g(w) by w is J v
    vhp  v^T H   a backward pass through a backward pass
    hvp  H v     jvp of the gradient
Inputs are taken as fresh leaves; what comes back carries a graph only with create_graph=True.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import glassgrad as gg

if TYPE_CHECKING:
    from glassgrad.tensor import Tensor

__all__ = ["hessian", "hvp", "jacobian", "jvp", "vhp", "vjp"]

Func = Callable[..., Any]


def vjp(func: Func, inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False) -> tuple[Any, Any]:
    """The outputs of func and the product v^T J, shaped like the inputs.

    v has the outputs' shapes; it may be left out where func returns a single element. strict=True refuses outputs that
    do not depend on the inputs, which otherwise count as zeros.

    Raises:
        RuntimeError: v is missing or has other shapes than the outputs; with strict, an independent output or input.
        TypeError: an input or output is not a tensor.

    >>> x = gg.tensor([1.0, 2.0])
    >>> gg.autograd.functional.vjp(lambda x: (x * x).sum(), x)
    (tensor(5.), tensor([2., 4.]))
    """
    with gg.enable_grad():
        xs, one_input = _leaves("vjp", inputs, create_graph)
        ys, one_output = _outputs("vjp", func(*xs), strict)
        vs = _weights("vjp", v, ys, "outputs")
        found = _grad("vjp", ys, xs, vs, create_graph, strict)
    return _finish(ys, one_output, create_graph), _finish(found, one_input, create_graph)


def jvp(func: Func, inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False) -> tuple[Any, Any]:
    """The outputs of func and the product J v, shaped like the outputs.

    v has the inputs' shapes; it may be left out where the input is a single element.

    Raises:
        RuntimeError: v is missing or has other shapes than the inputs; with strict, an independent output or input.
        TypeError: an input or output is not a tensor.

    >>> x = gg.tensor([1.0, 2.0])
    >>> gg.autograd.functional.jvp(lambda x: x * x, x, gg.tensor([1.0, 1.0]))
    (tensor([1., 4.]), tensor([2., 4.]))
    """
    with gg.enable_grad():
        xs, _ = _leaves("jvp", inputs, create_graph)
        vs = _weights("jvp", v, xs, "inputs")
        ys, one_output = _outputs("jvp", func(*xs), strict)
        ws = [gg.zeros_like(y).requires_grad_() for y in ys]
        rows = _grad("jvp", ys, xs, ws, True, strict)
        found = _grad("jvp", rows, ws, vs, create_graph, strict)
    return _finish(ys, one_output, create_graph), _finish(found, one_output, create_graph)


def jacobian(
    func: Func,
    inputs: Any,
    create_graph: bool = False,
    strict: bool = False,
    vectorize: bool = False,
    strategy: str = "reverse-mode",
) -> Any:
    """The Jacobian of func: for each output and input a tensor of shape output.shape + input.shape.

    One backward pass per output element; vectorize is accepted for PyTorch's sake and changes nothing. The result is
    nested as the outputs and inputs are: a tensor, a tuple, or a tuple of tuples (outputs outermost).

    Raises:
        ValueError: strategy is not "reverse-mode".
        RuntimeError: with strict, an output that does not depend on an input.
        TypeError: an input or output is not a tensor.

    >>> gg.autograd.functional.jacobian(lambda x: x * x, gg.tensor([1.0, 2.0]))
    tensor([[2., 0.],
            [0., 4.]])
    """
    if strategy != "reverse-mode":
        raise ValueError(f'jacobian: strategy {strategy!r} is not known; "reverse-mode" is')
    with gg.enable_grad():
        xs, one_input = _leaves("jacobian", inputs, create_graph)
        ys, one_output = _outputs("jacobian", func(*xs), strict)
        blocks = []
        for y in ys:
            rows: list[list[Tensor]] = [[] for _ in xs]
            for j in range(y.numel()):
                unit = y.new_zeros(y.numel())
                unit[j] = 1
                found = _grad("jacobian", [y], xs, [unit.reshape(y.shape)], create_graph, strict)
                for row, g in zip(rows, found, strict=True):
                    row.append(g)
            block = tuple(
                gg.stack(row).reshape((*y.shape, *x.shape)) if row else x.new_zeros((*y.shape, *x.shape))
                for row, x in zip(rows, xs, strict=True)
            )
            blocks.append(_finish(block, one_input, create_graph))
    return blocks[0] if one_output else tuple(blocks)


def hessian(
    func: Func,
    inputs: Any,
    create_graph: bool = False,
    strict: bool = False,
    vectorize: bool = False,
    outer_jacobian_strategy: str = "reverse-mode",
) -> Any:
    """The Hessian of a func that returns one element: for inputs i, j a tensor of shape input_i.shape + input_j.shape.

    The Jacobian of the gradient, one backward pass through backward per input element.

    Raises:
        RuntimeError: func returns more than one element, or, with strict, does not depend on an input.
        ValueError: outer_jacobian_strategy is not "reverse-mode".

    >>> gg.autograd.functional.hessian(lambda x: (x**3).sum(), gg.tensor([1.0, 2.0]))
    tensor([[ 6.,  0.],
            [ 0., 12.]])
    """
    one_input = isinstance(inputs, gg.Tensor)

    def gradient(*xs: Tensor) -> Any:
        y = _scalar("hessian", func(*xs))
        return tuple(_grad("hessian", [y], list(xs), None, True, strict))

    found = jacobian(gradient, inputs, create_graph, strict, vectorize, outer_jacobian_strategy)
    return found[0] if one_input else found


def vhp(func: Func, inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False) -> tuple[Any, Any]:
    """The value of a func that returns one element, and v^T H, shaped like the inputs.

    Raises:
        RuntimeError: func returns more than one element, or v does not have the inputs' shapes.
        TypeError: an input or output is not a tensor.

    >>> gg.autograd.functional.vhp(lambda x: (x**3).sum(), gg.tensor([1.0, 2.0]), gg.tensor([1.0, 1.0]))
    (tensor(9.), tensor([ 6., 12.]))
    """
    with gg.enable_grad():
        xs, one_input = _leaves("vhp", inputs, create_graph)
        vs = _weights("vhp", v, xs, "inputs")
        y = _scalar("vhp", func(*xs))
        first = _grad("vhp", [y], xs, None, True, strict)
        found = _grad("vhp", first, xs, vs, create_graph, strict)
    return _finish([y], True, create_graph), _finish(found, one_input, create_graph)


def hvp(func: Func, inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False) -> tuple[Any, Any]:
    """The value of a func that returns one element, and H v, shaped like the inputs.

    Where the second derivatives are continuous this equals vhp, which costs a third less.

    Raises:
        RuntimeError: func returns more than one element, or v does not have the inputs' shapes.
        TypeError: an input or output is not a tensor.

    >>> gg.autograd.functional.hvp(lambda x: (x**3).sum(), gg.tensor([1.0, 2.0]), gg.tensor([1.0, 1.0]))
    (tensor(9.), tensor([ 6., 12.]))
    """
    with gg.enable_grad():
        xs, one_input = _leaves("hvp", inputs, create_graph)
        vs = _weights("hvp", v, xs, "inputs")
        y = _scalar("hvp", func(*xs))
        first = _grad("hvp", [y], xs, None, True, strict)
        ws = [gg.zeros_like(x).requires_grad_() for x in xs]
        rows = _grad("hvp", first, xs, ws, True, strict)
        found = _grad("hvp", rows, ws, vs, create_graph, strict)
    return _finish([y], True, create_graph), _finish(found, one_input, create_graph)


# Arguments and results -----------------------------------------------------------------------------------------------


def _tensors(op: str, what: str, given: Any) -> tuple[list[Tensor], bool]:
    """The tensors given, and whether there was just one outside a tuple."""
    one = isinstance(given, gg.Tensor)
    tensors = [given] if one else list(given) if isinstance(given, (tuple, list)) else None
    if tensors is None or not all(isinstance(t, gg.Tensor) for t in tensors):
        raise TypeError(f"{op}: {what} must be a tensor or a tuple of tensors, got {given!r}")
    return tensors, one


def _leaves(op: str, inputs: Any, create_graph: bool) -> tuple[list[Tensor], bool]:
    """Fresh leaves; with create_graph views that stay connected to the caller's tensors."""
    xs, one = _tensors(op, "inputs", inputs)
    if create_graph:
        return [x.view_as(x) if x.requires_grad else x.detach().requires_grad_() for x in xs], one
    return [x.detach().requires_grad_() for x in xs], one


def _outputs(op: str, outputs: Any, strict: bool) -> tuple[list[Tensor], bool]:
    ys, one = _tensors(op, "the outputs of func", outputs)
    for i, y in enumerate(ys):
        if strict and not y.requires_grad:
            raise RuntimeError(f"{op}: output {i} does not depend on the inputs, which strict=True refuses")
    return ys, one


def _scalar(op: str, output: Any) -> Tensor:
    ys, _ = _tensors(op, "the output of func", output)
    if len(ys) != 1 or ys[0].numel() != 1:
        shapes = ", ".join(str(tuple(y.shape)) for y in ys)
        raise RuntimeError(f"{op}: func must return a tensor of one element, got {shapes}")
    return ys[0]


def _weights(op: str, v: Any, like: Sequence[Tensor], what: str) -> list[Tensor]:
    if v is None:
        if len(like) != 1 or like[0].numel() != 1:
            raise RuntimeError(f"{op}: v may only be left out where the {what} are a single element")
        return [gg.ones_like(like[0]).detach()]
    vs, _ = _tensors(op, "v", v)
    if len(vs) != len(like) or any(tuple(a.shape) != tuple(b.shape) for a, b in zip(vs, like, strict=True)):
        got, wanted = ([tuple(t.shape) for t in ts] for ts in (vs, like))
        raise RuntimeError(f"{op}: v has shapes {got}, the {what} have {wanted}; they must be equal")
    return vs


def _grad(
    op: str, ys: Sequence[Tensor], xs: Sequence[Tensor], dys: Sequence[Tensor] | None, create_graph: bool, strict: bool
) -> list[Tensor]:
    """grad with zeros, or with strict an error, where nothing connects an input."""
    live = [(y, None if dys is None else dys[i]) for i, y in enumerate(ys) if y.requires_grad]
    found: Sequence[Tensor | None] = [None] * len(xs)
    if live:
        found = gg.autograd.grad(
            [y for y, _ in live],
            xs,
            [dy for _, dy in live],
            retain_graph=True,
            create_graph=create_graph,
            allow_unused=True,
        )
    if strict:
        for i, g in enumerate(found):
            if g is None:
                raise RuntimeError(f"{op}: the outputs do not depend on input {i}, which strict=True refuses")
    return [gg.zeros_like(x) if g is None else g for x, g in zip(xs, found, strict=True)]


def _finish(tensors: Sequence[Tensor], one: bool, create_graph: bool) -> Any:
    done = tuple(tensors) if create_graph else tuple(t.detach() for t in tensors)
    return done[0] if one else done
