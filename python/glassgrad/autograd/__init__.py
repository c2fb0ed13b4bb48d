"""Reverse-mode automatic differentiation: `backward`, `grad`, grad modes, hooks, custom functions, checks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from glassgrad import _core as core
from glassgrad.autograd import engine, function, functional
from glassgrad.autograd.checkpoint import checkpoint, checkpoint_sequential
from glassgrad.autograd.function import Function
from glassgrad.autograd.grad_mode import enable_grad, inference_mode, is_grad_enabled, no_grad, set_grad_enabled
from glassgrad.autograd.gradcheck import GradcheckError, gradcheck, gradgradcheck

if TYPE_CHECKING:
    from glassgrad.tensor import Tensor

__all__ = [
    "Function",
    "GradcheckError",
    "backward",
    "checkpoint",
    "checkpoint_sequential",
    "enable_grad",
    "function",
    "functional",
    "grad",
    "gradcheck",
    "gradgradcheck",
    "inference_mode",
    "is_grad_enabled",
    "no_grad",
    "set_grad_enabled",
]


def _listed(x: Any) -> list[Any]:
    return list(x) if isinstance(x, (tuple, list)) else [x]


def _first_gradients(op: str, outputs: list[Any], given: Any) -> list[Any]:
    """The gradients to start from: what was given, or 1 for a scalar."""
    gradients = [None] * len(outputs) if given is None else _listed(given)
    if len(gradients) != len(outputs):
        raise RuntimeError(f"{op}: got {len(outputs)} tensors and {len(gradients)} gradients for them")
    for i, (y, dy) in enumerate(zip(outputs, gradients)):
        if not isinstance(y, core.TensorBase):
            raise TypeError(f"{op}: expected a Tensor, got {type(y).__name__}")
        if not y.requires_grad:
            raise RuntimeError(
                f"{op}: tensor {i} {tuple(y.shape)} {y.dtype} does not require grad and does not have a grad_fn: none "
                "of what it was computed from has requires_grad=True, or it was computed under no_grad"
            )
        if dy is None:
            if y.numel() != 1:
                raise RuntimeError(
                    f"{op}: grad can be implicitly created only for scalar outputs, and this one is {tuple(y.shape)}: "
                    "reduce it first, for example with .sum(), or pass its gradient"
                )
            gradients[i] = core.full(y.shape, 1, y.dtype, y.device)
        elif not isinstance(dy, core.TensorBase):
            raise TypeError(f"{op}: a gradient must be a Tensor or None, got {type(dy).__name__}")
        elif dy.shape != y.shape:
            raise core.ShapeError(
                f"{op}: a gradient {tuple(dy.shape)} for an output {tuple(y.shape)}: the shapes must be the same"
            )
        elif dy.device is not y.device:
            raise ValueError(f"{op}: a gradient on {dy.device} for an output on {y.device}: move it with .to(device)")
    return gradients


def backward(
    tensors: Tensor | Sequence[Tensor],
    grad_tensors: Tensor | Sequence[Tensor | None] | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    inputs: Tensor | Sequence[Tensor] | None = None,
) -> None:
    """Accumulates the gradients of `tensors` in the `.grad` of the leaves they come from (or of `inputs` only).

    `grad_tensors` are the gradients to start from, 1 for scalars. What ops saved is freed on the way unless
    `retain_graph`; with `create_graph` the gradients can be differentiated again.

    >>> x = gg.tensor(3.0, requires_grad=True)
    >>> gg.autograd.backward(x * x)
    >>> x.grad
    tensor(6.)
    """
    outputs = _listed(tensors)
    gradients = _first_gradients("backward", outputs, grad_tensors)
    keep = create_graph if retain_graph is None else retain_graph
    if inputs is None:
        engine.run(outputs, gradients, keep, create_graph)
        return
    wanted = _listed(inputs)
    if not wanted:
        raise RuntimeError("backward: inputs is empty; leave it out to reach all leaves")
    _check_inputs("backward", wanted)
    engine.run(outputs, gradients, keep, create_graph, wanted, accumulate=True)


def grad(
    outputs: Tensor | Sequence[Tensor],
    inputs: Tensor | Sequence[Tensor],
    grad_outputs: Tensor | Sequence[Tensor | None] | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    allow_unused: bool | None = None,
    is_grads_batched: bool = False,
    materialize_grads: bool = False,
) -> tuple[Any, ...]:
    """The gradients of `outputs` by `inputs`, as a tuple; `.grad` is left alone.

    An input that the outputs do not depend on is an error without `allow_unused` (gives None) or
    `materialize_grads` (gives zeros).

    >>> x = gg.tensor([1.0, 2.0], requires_grad=True)
    >>> gg.autograd.grad((x**3).sum(), x)
    (tensor([ 3., 12.]),)
    """
    if is_grads_batched:
        raise ValueError("grad: is_grads_batched=True is not supported; call grad once for each gradient")
    ends, wanted = _listed(outputs), _listed(inputs)
    _check_inputs("grad", wanted)
    gradients = _first_gradients("grad", ends, grad_outputs)
    keep = create_graph if retain_graph is None else retain_graph
    found = engine.run(ends, gradients, keep, create_graph, wanted)
    for i, g in enumerate(found):
        if g is not None:
            continue
        if materialize_grads:
            found[i] = wanted[i]._alias().new_zeros(wanted[i].shape)
        elif not allow_unused:
            raise RuntimeError(
                f"grad: input {i} {tuple(wanted[i].shape)} {wanted[i].dtype} appears to not have been used in the "
                "graph; pass allow_unused=True to get None for it"
            )
    return tuple(found)


def _check_inputs(op: str, inputs: list[Any]) -> None:
    for i, x in enumerate(inputs):
        if not isinstance(x, core.TensorBase):
            raise TypeError(f"{op}: input {i} must be a Tensor, got {type(x).__name__}")
        if not x.requires_grad:
            raise RuntimeError(f"{op}: input {i} {tuple(x.shape)} {x.dtype} does not require grad")
