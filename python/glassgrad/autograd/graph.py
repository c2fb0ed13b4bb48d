"""The graph: what an op records on the way forward, and what it is asked on the way back.

Every differentiable operation is a class with `forward` above `backward`. `Op.apply` runs forward; if any argument
needs a gradient, the instance itself becomes the node of the graph that the result points at.

A node points at its inputs only, through `edges`, never at its outputs. So a value that nobody holds any more takes its
part of the graph with it at once, without the cyclic garbage collector. An edge is one of

    None                  the argument needs no gradient
    Op or (Op, i)         the argument is the (i-th) output of that node
    Tensor                the argument is a leaf: its gradient accumulates in `.grad`
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, Union

from glassgrad import _core as core

if TYPE_CHECKING:
    from glassgrad.amp import Casts
    from glassgrad.tensor import Tensor

__all__ = ["OUTPUT", "Edge", "Op", "View", "composite_backward", "direct", "recording", "unbroadcast"]

Edge = Union[None, "Op", "tuple[Op, int]", "Tensor"]
Gradients = Union[None, "Tensor", "tuple[Tensor | None, ...]"]
Function = TypeVar("Function", bound=Callable[..., Any])

OUTPUT = -1

recording: Callable[[], bool] = core.is_grad_enabled  # whether ops are being recorded in this thread
casting: Callable[[type[Op], tuple[Any, ...]], tuple[Any, ...]] | None = None  # casts, while a thread is in autocast


def set_casting(function: Callable[[type[Op], tuple[Any, ...]], tuple[Any, ...]] | None) -> None:
    """What casts the arguments of ops that have a rule for autocast; None while no thread is in it."""
    global casting
    casting = function
    core.set_casting(function)


class Op(core.Node):
    """A node of the graph: subclasses give `forward` and, under it, `backward`.

    An op whose forward is one call of the core names it as its `kernel`, and as `saves` what backward will need:
    pairs of an argument's place (OUTPUT for the result) and the argument for whose gradient it is kept (None: always).
    What a node keeps, and `apply`, are the core's (csrc/python/graph.cpp):

        apply(*args)     runs forward, and records the node where an argument needs a gradient
        save(*tensors)   keeps inputs or outputs for backward; `saved` fails if they were changed in between
        saved, params    what was saved, and the arguments after the last tensor
        needs            whether each argument needs a gradient
        by(i, dy)        dy summed over the axes along which argument i was stretched; None where it needs no gradient
    """

    __slots__ = ()

    name: ClassVar[str] = ""
    kernel: ClassVar[Callable[..., Any] | None] = None
    saves: ClassVar[tuple[tuple[int, int | None], ...]] = ()
    is_view: ClassVar[bool] = False
    autocast: ClassVar[Casts | None] = None  # what autocast does to the arguments

    def __init_subclass__(cls) -> None:
        if not cls.__dict__.get("name"):
            cls.name = cls.__name__

    def forward(self, *args: Any) -> Any:
        """Computes the result from `args`; calls `self.save(...)` with what backward will need."""
        raise TypeError(f"{self.name}: an Op needs a forward method")

    def backward(self, *dy: Any) -> Gradients:
        """Gives the gradient of the loss by each leading argument, from those by the outputs."""
        raise RuntimeError(f"{self.name}: this operation has no derivative")

    @property
    def next_functions(self) -> tuple[tuple[Any, int], ...]:
        """The nodes the inputs came from, each with the number of its output."""
        return tuple([e if isinstance(e, tuple) else (e, 0) for e in self.edges])

    def __repr__(self) -> str:
        return f"<{self.name}Backward>"


class View(Op):
    """An Op whose output shares its input's storage: `args[0]` is the input, the rest says which part of it.

    In-place changes of a view must reach its base's gradient, so the output remembers how it was made
    (`glassgrad.autograd.in_place`).
    """

    is_view = True


def direct(
    op: type[Op], arguments: int | None = None, when: Callable[..., bool] | None = None
) -> Callable[[Function], Function]:
    """Decorates a function that, called with its required arguments alone, is `op.apply` of them.

    Such a call costs no frame of Python; any other is the function's. `arguments` is how many there are where optional
    ones belong to them; `when`, a function of the core, says of them whether the function is that op.
    """
    return lambda function: core.direct(function, op, -1 if arguments is None else arguments, when)


def unbroadcast(dy: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Sums `dy` over the axes along which an operand of `shape` was stretched: the gradient of broadcasting."""
    if dy.shape == shape:
        return dy
    lead = dy.ndim - len(shape)
    dims = [i for i in range(dy.ndim) if i < lead or (shape[i - lead] == 1 and dy.shape[i] != 1)]
    if dims:
        dy = dy.sum(dims, keepdim=True)
    return dy.reshape(shape) if lead else dy


def composite_backward(
    function: Callable[..., Any], inputs: tuple[Any, ...], dy: Any, needs: tuple[bool, ...] | None = None
) -> tuple[Tensor | None, ...]:
    """The gradients of `function`, written in ordinary ops, by its tensor inputs: differentiable themselves.

    Fused kernels use it for higher orders: the saved `inputs` go through the same mathematics once more. `dy` is the
    gradient by the output, or a tuple of them. The result has one entry for each of `inputs`, None where it is no
    tensor or needs no gradient.
    """
    from glassgrad.autograd.engine import run

    wanted = [i for i, x in enumerate(inputs) if isinstance(x, core.TensorBase) and x.requires_grad]
    if needs is not None:
        wanted = [i for i in wanted if needs[i]]
    # Fresh nodes for the inputs: the gradient must stop here, not run on into what made them.
    stand_ins = list(inputs)
    for i in wanted:
        stand_ins[i] = Identity.apply(inputs[i])
    out = function(*stand_ins)
    outs, dys = (out, dy) if isinstance(out, tuple) else ((out,), (dy,))
    pairs = [(o, d) for o, d in zip(outs, dys) if d is not None and o.requires_grad]
    found = run([o for o, _ in pairs], [d for _, d in pairs], True, True, [stand_ins[i] for i in wanted])
    gradients: list[Tensor | None] = [None] * len(inputs)
    for i, g in zip(wanted, found):
        gradients[i] = g
    return tuple(gradients)


class Identity(Op):
    """y = x, with a node of its own."""

    def forward(self, x: Tensor) -> Tensor:
        return x._alias()

    def backward(self, dy: Tensor) -> Tensor:
        return dy


class Fetch(Op):
    """A 0-d tensor of the CPU whose value a kernel took to its device."""

    # The gradient, which the kernel's device has, comes back to the CPU.
    def backward(self, dy: Tensor) -> Tensor:
        return dy.cpu()


def fetched(edge: Edge, dtype: Any) -> Op:
    """The edge of a 0-d tensor of the CPU beside tensors of a device."""
    node = Fetch()
    node.edges, node.dtype = (edge,), dtype
    return node


def _show_line(line: Any) -> str:
    if line is None:
        return "an unknown line"
    code, lasti = line
    number = code.co_firstlineno
    for start, _, here in code.co_lines():
        if start <= lasti and here is not None:
            number = here
        if start > lasti:
            break
    return f"{code.co_filename}:{number}"


last_changes: dict[int, Any] = {}  # address of a storage: the line that changed it last


def note_change(x: Tensor) -> None:
    """Remembers the user's line that changes x in place, for the message of an error that may come much later."""
    if len(last_changes) > 1000:
        last_changes.clear()
    last_changes[x.data_ptr() - x.storage_offset() * x.itemsize] = core.user_line()


def _changed_error(op: Op, t: Tensor, version: int) -> RuntimeError:
    changed = last_changes.get(t.data_ptr() - t.storage_offset() * t.itemsize)
    return RuntimeError(
        f"{op.name}: a tensor {tuple(t.shape)} {t.dtype} that backward needs was modified by an inplace operation "
        f"after it was saved (version {version}, now {t._version}); saved at {_show_line(op.line)}, changed at "
        f"{_show_line(changed)}; use the form without the trailing underscore there, or a clone()"
    )


core.set_graph(Op.forward, unbroadcast, _changed_error)
