"""A model layer by layer: output shapes, parameters and floating-point operations of one forward pass.

Operations are counted by closed formulas, a multiplication and an addition being two:

    Linear   2 in out for each row          Conv   2 (C_in / groups) K for each output element
    others   one for each output element (activations, norms, pooling: their windows)
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from glassgrad import _core as core
from glassgrad.autograd.grad_mode import no_grad

if TYPE_CHECKING:
    from glassgrad.nn.module import Module

__all__ = ["LayerFacts", "Summary", "summary"]


@dataclass
class LayerFacts:
    """One line of a summary."""

    name: str
    kind: str
    shape: tuple[int, ...]
    parameters: int
    flops: int


@dataclass
class Summary:
    """The lines of a summary; `str` draws the table."""

    layers: list[LayerFacts] = field(default_factory=list)

    @property
    def parameters(self) -> int:
        """Parameters of all layers."""
        return sum(layer.parameters for layer in self.layers)

    @property
    def flops(self) -> int:
        """Floating-point operations of one forward pass."""
        return sum(layer.flops for layer in self.layers)

    def __str__(self) -> str:
        rows = [("layer", "kind", "output shape", "parameters", "FLOPs")]
        rows += [(x.name, x.kind, str(x.shape), f"{x.parameters:,}", f"{x.flops:,}") for x in self.layers]
        rows.append(("total", "", "", f"{self.parameters:,}", f"{self.flops:,}"))
        widths = [max(len(row[i]) for row in rows) for i in range(5)]
        lines = []
        for row in rows:
            cells = [c.ljust(w) if i < 3 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths))]
            lines.append("  ".join(cells).rstrip())
        rule = "-" * max(map(len, lines))
        return "\n".join([lines[0], rule, *lines[1:-1], rule, lines[-1]])


def _flops(module: Module, args: tuple[Any, ...], out: Any) -> int:
    elements = int(out.numel())
    weight = module._parameters.get("weight")
    kind = type(module).__name__
    if weight is not None and kind.startswith("Conv"):
        per_output = weight[0].numel() if not kind.startswith("ConvTranspose") else 0
        if not per_output:  # each input element meets one filter of every output channel in its group
            return 2 * int(args[0].numel()) * int(weight[0].numel())
        return 2 * elements * int(per_output)
    if weight is not None and weight.ndim == 2 and kind in ("Linear",):
        return 2 * elements * int(weight.shape[1])
    kernel = getattr(module, "kernel_size", None)
    if kernel is not None and "Pool" in kind:
        dims = int(kind[-2]) if kind[-2].isdigit() else 1
        return elements * (math.prod(kernel) if isinstance(kernel, (tuple, list)) else int(kernel) ** dims)
    if kind in ("Flatten", "Unflatten", "Identity", "Embedding") or kind.startswith("Dropout"):
        return 0
    return elements


def summary(model: Module, *inputs: Any) -> Summary:
    """Runs the model once, unrecorded, and lists its leaf layers in the order they were called.

    >>> facts = gg.inspect.summary(gg.nn.Sequential(gg.nn.Linear(4, 2), gg.nn.ReLU()), gg.zeros(3, 4))
    >>> facts.parameters, facts.flops
    (10, 54)
    """
    result = Summary()
    seen: set[int] = set()
    handles = []
    for name, module in model.named_modules():
        if next(module.children(), None) is not None:
            continue

        def note(m: Module, args: tuple[Any, ...], out: Any, name: str = name) -> None:
            first = out[0] if isinstance(out, tuple) else out
            if not isinstance(first, core.TensorBase):
                return
            own = [p for p in m.parameters() if id(p) not in seen]
            seen.update(id(p) for p in own)
            count = sum(p.numel() for p in own)
            kind = type(m).__name__
            result.layers.append(LayerFacts(name or kind, kind, tuple(first.shape), count, _flops(m, args, first)))

        handles.append(module.register_forward_hook(note))
    mode = model.training
    try:
        with no_grad():
            model.eval()(*inputs)
    finally:
        model.train(mode)
        for handle in handles:
            handle.remove()
    return result
