"""Function: a differentiable operation of the user's own, with PyTorch's interface of static forward and backward."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from glassgrad import _core as core
from glassgrad.autograd.grad_mode import no_grad
from glassgrad.autograd.graph import Op

if TYPE_CHECKING:
    from glassgrad.tensor import Tensor

__all__ = ["Function", "once_differentiable"]


class FunctionCtx(Op):
    """What forward leaves for backward: saved tensors and any attributes."""

    name = "Function"
    owner: type[Function]
    arguments: int
    materialize: bool
    input_shapes: list[Any]
    described: list[tuple[tuple[int, ...], Any, Any]]
    non_differentiable: set[int]
    dirty: set[int]

    def save_for_backward(self, *tensors: Tensor | None) -> None:
        """Keeps inputs or outputs; `saved_tensors` gives them back and checks that they were not changed."""
        self.save(*tensors)

    @property
    def saved_tensors(self) -> tuple[Any, ...]:
        """What `save_for_backward` kept."""
        return self.saved

    @property
    def needs_input_grad(self) -> tuple[bool, ...]:
        """Whether each argument of forward needs a gradient."""
        return self.needs[: self.arguments]

    def mark_non_differentiable(self, *outputs: Tensor) -> None:
        """These outputs have no gradient."""
        self.non_differentiable = {id(o) for o in outputs}

    def mark_dirty(self, *inputs: Tensor) -> None:
        """These inputs were changed in place by forward and returned."""
        self.dirty = {id(x) for x in inputs}

    def set_materialize_grads(self, value: bool) -> None:
        """Whether backward gets zeros (the default) or None for outputs that were not used."""
        self.materialize = value

    def backward(self, *dys: Tensor | None) -> Any:
        if self.materialize:
            from glassgrad.ops.creation import zeros

            dys = tuple(
                zeros(shape, dtype=dtype, device=device) if dy is None else dy
                for dy, (shape, dtype, device) in zip(dys, self.described)
            )
        dxs = self.owner.backward(self, *dys)
        dxs = dxs if isinstance(dxs, tuple) else (dxs,)
        if len(dxs) > self.arguments and any(dx is not None for dx in dxs[self.arguments :]):
            raise RuntimeError(
                f"{self.owner.__name__}: backward returned {len(dxs)} gradients for {self.arguments} arguments of "
                "forward"
            )
        if len(dxs) < self.arguments:
            raise RuntimeError(
                f"{self.owner.__name__}: backward returned {len(dxs)} gradients for {self.arguments} arguments of "
                "forward; give None for those that need none"
            )
        for i, (dx, shape) in enumerate(zip(dxs, self.input_shapes)):
            if dx is not None and self.needs[i] and dx.shape != shape:
                raise core.ShapeError(
                    f"{self.owner.__name__}: backward returned a gradient {dx.shape} for argument {i} of shape {shape}"
                )
        return dxs


class Function:
    """Base class of custom differentiable functions.

    Subclasses define static `forward(ctx, *args)` and `backward(ctx, *dys)`; call them through `apply`. With
    `setup_context(ctx, inputs, output)` defined, forward takes no ctx.

    >>> class Cube(gg.autograd.Function):
    ...     @staticmethod
    ...     def forward(ctx, x):
    ...         ctx.save_for_backward(x)
    ...         return x**3
    ...     @staticmethod
    ...     def backward(ctx, dy):
    ...         (x,) = ctx.saved_tensors
    ...         return 3 * x**2 * dy
    >>> x = gg.tensor(2.0, requires_grad=True)
    >>> Cube.apply(x).backward()
    >>> x.grad
    tensor(12.)
    """

    @staticmethod
    def forward(*args: Any, **kwargs: Any) -> Any:
        """Computes the result; static, with ctx first unless setup_context is defined."""
        raise RuntimeError("Function: define a static forward method")

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        """Saves what backward needs, apart from forward."""

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        """Gives one gradient for each argument of forward; static."""
        raise RuntimeError("Function: define a static backward method")

    @classmethod
    def apply(cls, *args: Any) -> Any:
        """Runs forward without recording its inside, and records this one node."""
        ctx = FunctionCtx()
        ctx.owner = cls
        ctx.arguments = len(args)
        ctx.materialize = True
        ctx.non_differentiable, ctx.dirty = set(), set()
        ctx.edges = core.edges(args)
        with no_grad():
            if cls.setup_context is Function.setup_context:
                out = cls.forward(ctx, *args)
            else:
                out = cls.forward(*args)
                cls.setup_context(ctx, args, out)
        if not ctx.edges:
            return out
        is_tuple = isinstance(out, tuple)
        given = {id(a) for a in args if isinstance(a, core.TensorBase)}
        outs: list[Any] = []
        for o in out if is_tuple else (out,):
            returned_input = isinstance(o, core.TensorBase) and id(o) in given and id(o) not in ctx.dirty
            outs.append(o._alias() if returned_input else o)
        ctx.input_shapes = [a.shape if isinstance(a, core.TensorBase) else None for a in args]
        tensors = tuple(o for o in outs if isinstance(o, core.TensorBase))
        ctx.described = [(o.shape, o.dtype, o.device) for o in tensors]
        if tensors:
            ctx._record(tensors if len(tensors) > 1 else tensors[0])
        for o in tensors:
            if id(o) in ctx.non_differentiable:
                o._node = None
        return tuple(outs) if is_tuple else outs[0]


def once_differentiable(function: Any) -> Any:
    """Marks a backward whose result is not differentiable again: its ops are not recorded.

    >>> class Double(gg.autograd.Function):
    ...     @staticmethod
    ...     def forward(ctx, x):
    ...         return 2 * x
    ...     @staticmethod
    ...     @gg.autograd.function.once_differentiable
    ...     def backward(ctx, dy):
    ...         return 2 * dy
    """
    return no_grad()(function)
