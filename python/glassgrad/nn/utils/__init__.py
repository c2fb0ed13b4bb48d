"""Helpers on parameters: gradient clipping and flat vectors."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from glassgrad import _core as core
from glassgrad.autograd.grad_mode import no_grad

if TYPE_CHECKING:
    from glassgrad.tensor import Tensor

__all__ = ["clip_grad_norm_", "clip_grad_value_", "get_total_norm", "parameters_to_vector", "vector_to_parameters"]


def _with_grad(parameters: Any) -> list[Any]:
    listed = [parameters] if isinstance(parameters, core.TensorBase) else list(parameters)
    return [p for p in listed if p.grad is not None]


@no_grad()
def get_total_norm(tensors: Iterable[Tensor], norm_type: float = 2.0, error_if_nonfinite: bool = False) -> Tensor:
    """The norm of all tensors together, as if they were one vector.

    >>> gg.nn.utils.get_total_norm([gg.tensor([3.0]), gg.tensor([4.0])])
    tensor(5.)
    """
    from glassgrad.ops.creation import zeros
    from glassgrad.ops.layout import stack

    listed = list(tensors)
    if not listed:
        return zeros(())
    total: Tensor | None = core.total_norm(listed) if norm_type == 2 else None
    if total is None:
        norms = [t.detach().norm(norm_type) for t in listed]
        total = stack([n.to(norms[0]) for n in norms]).norm(norm_type)
    if error_if_nonfinite and not math.isfinite(total.item()):
        raise RuntimeError(
            f"get_total_norm: the total norm of order {norm_type} is {total.item()}, so gradients cannot be clipped"
        )
    return total


@no_grad()
def clip_grad_norm_(
    parameters: Any, max_norm: float, norm_type: float = 2.0, error_if_nonfinite: bool = False, foreach: Any = None
) -> Tensor:
    """Scales all gradients so that their common norm is at most max_norm; returns the norm before.

    >>> w = gg.zeros(2, requires_grad=True)
    >>> w.grad = gg.tensor([3.0, 4.0])
    >>> gg.nn.utils.clip_grad_norm_([w], 1.0)
    tensor(5.)
    >>> w.grad
    tensor([0.6000, 0.8000])
    """
    grads = [p.grad for p in _with_grad(parameters)]
    total = get_total_norm(grads, norm_type, error_if_nonfinite)
    factor = (max_norm / (total + 1e-6)).clamp(max=1.0)
    on_cpu = factor.device.type == "cpu"  # a GPU's factor stays there: to look at it would wait for all that is queued
    if on_cpu and ((value := factor.item()) == 1 or core.scale_all(grads, value)):
        return total
    for g in grads:
        g.mul_(factor.to(g.dtype))
    return total


@no_grad()
def clip_grad_value_(parameters: Any, clip_value: float, foreach: Any = None) -> None:
    """Holds every gradient element in [-clip_value, clip_value].

    >>> w = gg.zeros(2, requires_grad=True)
    >>> w.grad = gg.tensor([3.0, -0.5])
    >>> gg.nn.utils.clip_grad_value_([w], 1.0)
    >>> w.grad
    tensor([ 1.0000, -0.5000])
    """
    for p in _with_grad(parameters):
        p.grad.clamp_(-clip_value, clip_value)


def parameters_to_vector(parameters: Iterable[Tensor]) -> Tensor:
    """All parameters as one vector.

    >>> gg.nn.utils.parameters_to_vector(gg.nn.Linear(2, 1).parameters()).shape
    (3,)
    """
    from glassgrad.ops.layout import cat

    return cat([p.reshape(-1) for p in parameters])


@no_grad()
def vector_to_parameters(vec: Tensor, parameters: Iterable[Tensor]) -> None:
    """Copies stretches of a vector into the parameters.

    >>> w = gg.zeros(2)
    >>> gg.nn.utils.vector_to_parameters(gg.tensor([1.0, 2.0]), [w])
    >>> w
    tensor([1., 2.])
    """
    listed = list(parameters)
    wanted = sum(p.numel() for p in listed)
    if vec.numel() != wanted:
        raise core.ShapeError(
            f"vector_to_parameters: vec {tuple(vec.shape)} must have the parameters' {wanted} elements"
        )
    at = 0
    for p in listed:
        p.copy_(vec[at : at + p.numel()].reshape(p.shape))
        at += p.numel()
