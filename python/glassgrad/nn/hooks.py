"""Backward hooks of modules: two identity ops, on the inputs and on the outputs, see the gradients that pass."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from glassgrad import _core as core
from glassgrad.autograd.graph import Op

if TYPE_CHECKING:
    from glassgrad.nn.module import Module
    from glassgrad.tensor import Tensor


class Gate(Op):
    """Passes all its inputs through; `seen(gradients)` may replace the gradients on their way back."""

    def forward(self, *args: Any) -> tuple[Tensor, ...]:
        *xs, self.seen = args
        return tuple([x._alias() for x in xs])

    def backward(self, *dys: Tensor | None) -> tuple[Tensor | None, ...]:
        return tuple(self.seen(dys))


def _gate(values: tuple[Any, ...], seen: Any) -> tuple[Any, ...]:
    places = [i for i, v in enumerate(values) if isinstance(v, core.TensorBase) and v.dtype.is_floating_point]
    passed = Gate.apply(*[values[i] for i in places], seen) if places else ()
    out = list(values)
    for i, v in zip(places, passed):
        out[i] = v
    return tuple(out)


def call_with_backward_hooks(module: Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Runs forward between two gates that call the module's backward hooks."""
    state: dict[str, Any] = {"grad_output": ()}

    def entered(dys: tuple[Any, ...]) -> tuple[Any, ...]:
        for hook in list(module._backward_pre_hooks.values()):
            changed = hook(module, dys)
            if changed is not None:
                dys = changed if isinstance(changed, tuple) else (changed,)
        state["grad_output"] = dys
        if not any(isinstance(a, core.TensorBase) and a.requires_grad for a in args):
            left((None,) * len(args))
        return dys

    def left(dxs: tuple[Any, ...]) -> tuple[Any, ...]:
        for hook in list(module._backward_hooks.values()):
            changed = hook(module, dxs, state["grad_output"])
            if changed is not None:
                dxs = changed if isinstance(changed, tuple) else (changed,)
        return dxs

    out = module.forward(*_gate(args, left), **kwargs)
    if isinstance(out, tuple):
        return _gate(out, entered)
    if isinstance(out, core.TensorBase):
        return _gate((out,), entered)[0]
    return out
