"""FunctionLayer: a layer that is one function with fixed keyword arguments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from glassgrad.nn.module import Module


class FunctionLayer(Module):
    """Keeps the arguments as attributes and passes them to `function` on every call."""

    function: Callable[..., Any]

    def __init__(self, **arguments: Any) -> None:
        super().__init__()
        self._arguments = tuple(arguments)
        for name, value in arguments.items():
            setattr(self, name, value)

    def forward(self, *inputs: Any) -> Any:
        return type(self).function(*inputs, **{name: getattr(self, name) for name in self._arguments})

    def extra_repr(self) -> str:
        return ", ".join(
            f"{name}={getattr(self, name)!r}"
            for name in self._arguments
            if not (name == "inplace" and not self.inplace)
            and not (name == "return_indices" and not self.return_indices)
        )
