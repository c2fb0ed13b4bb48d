"""Module and Parameter: what every layer is, and what an optimizer changes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from glassgrad import _core as core
from glassgrad.autograd.grad_mode import no_grad
from glassgrad.tensor import RemovableHandle, Tensor

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Buffer", "Module", "Parameter"]

T = TypeVar("T", bound="Module")


class Parameter(Tensor):
    """A tensor that a module registers and an optimizer changes.

    >>> gg.nn.Parameter(gg.zeros(2))
    Parameter containing:
    tensor([0., 0.], requires_grad=True)
    """

    def __new__(cls, data: Tensor | None = None, requires_grad: bool = True) -> Any:
        self = core.TensorBase.__new__(cls, *(() if data is None else (data,)))
        self.requires_grad = requires_grad
        return self

    def __repr__(self) -> str:
        return "Parameter containing:\n" + super().__repr__()


class Buffer(Tensor):
    """A tensor that a module registers as a buffer when assigned; `persistent` ones are in its state_dict.

    >>> gg.nn.Buffer(gg.zeros(2)).tolist()
    [0.0, 0.0]
    """

    persistent: bool

    def __new__(cls, data: Tensor | None = None, *, persistent: bool = True) -> Any:
        self = core.TensorBase.__new__(cls, *(() if data is None else (data,)))
        self.persistent = persistent
        return self


class IncompatibleKeys(NamedTuple):
    """What load_state_dict did not find and did not know."""

    missing_keys: list[str]
    unexpected_keys: list[str]

    def __repr__(self) -> str:
        if not self.missing_keys and not self.unexpected_keys:
            return "<All keys matched successfully>"
        return f"IncompatibleKeys(missing_keys={self.missing_keys}, unexpected_keys={self.unexpected_keys})"


class Module:
    """Base of all layers and models: assign parameters and other modules as attributes, define `forward`.

    >>> class Scale(gg.nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.factor = gg.nn.Parameter(gg.tensor(2.0))
    ...     def forward(self, x):
    ...         return x * self.factor
    >>> Scale()(gg.ones(2)).tolist()
    [2.0, 2.0]
    """

    training: bool

    def __init__(self) -> None:
        object.__setattr__(self, "training", True)
        for name in (
            "_parameters", "_buffers", "_modules", "_forward_pre_hooks", "_forward_hooks",
            "_backward_hooks", "_backward_pre_hooks", "_state_dict_hooks", "_load_state_dict_pre_hooks",
        ):  # fmt: skip
            object.__setattr__(self, name, OrderedDict())
        object.__setattr__(self, "_non_persistent", set())

    if TYPE_CHECKING:
        _parameters: dict[str, Parameter | None]
        _buffers: dict[str, Tensor | None]
        _modules: dict[str, Module | None]
        _non_persistent: set[str]
        _forward_pre_hooks: dict[int, Any]
        _forward_hooks: dict[int, Any]
        _backward_hooks: dict[int, Any]
        _backward_pre_hooks: dict[int, Any]
        _state_dict_hooks: dict[int, Any]
        _load_state_dict_pre_hooks: dict[int, Any]

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Computes the output; subclasses define it."""
        raise TypeError(f"{type(self).__name__}: define a forward method")

    # Attributes

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, Parameter):
            self._ready(name)
            self._forget(name)
            self._parameters[name] = value
            return
        if isinstance(value, Module):
            self._ready(name)
            self._forget(name)
            self._modules[name] = value
            return
        if isinstance(value, Buffer):
            self._ready(name)
            self._forget(name)
            self.register_buffer(name, value, value.persistent)
            return
        registered = self.__dict__
        if name in registered.get("_parameters", ()):
            if value is not None:
                raise TypeError(
                    f"{type(self).__name__}: cannot assign {type(value).__name__} to the parameter '{name}'; "
                    "assign an nn.Parameter or None"
                )
            self._parameters[name] = None
        elif name in registered.get("_modules", ()):
            if value is not None:
                raise TypeError(
                    f"{type(self).__name__}: cannot assign {type(value).__name__} to the module '{name}'; assign a "
                    "Module or None"
                )
            self._modules[name] = None
        elif name in registered.get("_buffers", ()):
            if value is not None and not isinstance(value, Tensor):
                raise TypeError(
                    f"{type(self).__name__}: cannot assign {type(value).__name__} to the buffer '{name}'; assign a "
                    "Tensor or None"
                )
            self._buffers[name] = value
        else:
            object.__setattr__(self, name, value)

    def _ready(self, name: str) -> None:
        if "_parameters" not in self.__dict__:
            raise AttributeError(f"{type(self).__name__}: call super().__init__() before assigning '{name}'")

    def _forget(self, name: str) -> None:
        for registry in (self.__dict__, self._parameters, self._buffers, self._modules):
            registry.pop(name, None)

    def __getattr__(self, name: str) -> Any:
        for registry in ("_parameters", "_buffers", "_modules"):
            found = self.__dict__.get(registry)
            if found is not None and name in found:
                return found[name]
        raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")

    def __delattr__(self, name: str) -> None:
        for registry in (self._parameters, self._buffers, self._modules):
            if name in registry:
                del registry[name]
                self._non_persistent.discard(name)
                return
        object.__delattr__(self, name)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self._parameters, *self._buffers, *self._modules})

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """Adds a parameter (or None, a place for one) under `name`."""
        self._check_name(name, self._parameters)
        if param is not None and not isinstance(param, Parameter):
            raise TypeError(f"register_parameter: '{name}' must be an nn.Parameter or None, got {type(param).__name__}")
        self._parameters[name] = param

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Adds a tensor that is part of the state but no parameter; one not `persistent` is left out of state_dict."""
        self._check_name(name, self._buffers)
        if tensor is not None and not isinstance(tensor, Tensor):
            raise TypeError(f"register_buffer: '{name}' must be a Tensor or None, got {type(tensor).__name__}")
        self._buffers[name] = tensor
        if persistent:
            self._non_persistent.discard(name)
        else:
            self._non_persistent.add(name)

    def add_module(self, name: str, module: Module | None) -> None:
        """Adds a child module under `name`."""
        self._check_name(name, self._modules)
        if module is not None and not isinstance(module, Module):
            raise TypeError(f"add_module: '{name}' must be a Module or None, got {type(module).__name__}")
        self._modules[name] = module

    register_module = add_module

    def _check_name(self, name: str, registry: Mapping[str, Any]) -> None:
        self._ready(name)
        if not isinstance(name, str) or not name or "." in name:
            raise KeyError(f"{type(self).__name__}: '{name}' must be a non-empty string without a '.'")
        if hasattr(self, name) and name not in registry:
            raise KeyError(f"{type(self).__name__}: the attribute '{name}' already exists")

    # Calling, and hooks around it

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not (self._forward_pre_hooks or self._forward_hooks or self._backward_hooks or self._backward_pre_hooks):
            return self.forward(*args, **kwargs)
        for hook, with_kwargs in list(self._forward_pre_hooks.values()):
            changed = hook(self, args, kwargs) if with_kwargs else hook(self, args)
            if changed is None:
                continue
            if with_kwargs:
                args, kwargs = changed
            else:
                args = changed if isinstance(changed, tuple) else (changed,)
        if self._backward_hooks or self._backward_pre_hooks:
            from glassgrad.nn.hooks import call_with_backward_hooks

            out = call_with_backward_hooks(self, args, kwargs)
        else:
            out = self.forward(*args, **kwargs)
        for hook, with_kwargs in list(self._forward_hooks.values()):
            changed = hook(self, args, kwargs, out) if with_kwargs else hook(self, args, out)
            if changed is not None:
                out = changed
        return out

    def register_forward_pre_hook(
        self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False
    ) -> RemovableHandle:
        """Calls `hook(module, args)` before forward; what it returns replaces the arguments."""
        return self._register(self._forward_pre_hooks, (hook, with_kwargs), prepend)

    def register_forward_hook(
        self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False, always_call: bool = False
    ) -> RemovableHandle:
        """Calls `hook(module, args, output)` after forward; what it returns replaces the output."""
        if always_call:
            raise ValueError("register_forward_hook: always_call=True is not supported")
        return self._register(self._forward_hooks, (hook, with_kwargs), prepend)

    def register_full_backward_hook(self, hook: Callable[..., Any], prepend: bool = False) -> RemovableHandle:
        """Calls `hook(module, grad_input, grad_output)` in backward; what it returns replaces grad_input."""
        return self._register(self._backward_hooks, hook, prepend)

    def register_full_backward_pre_hook(self, hook: Callable[..., Any], prepend: bool = False) -> RemovableHandle:
        """Calls `hook(module, grad_output)` before the module's backward; what it returns replaces grad_output."""
        return self._register(self._backward_pre_hooks, hook, prepend)

    @staticmethod
    def _register(hooks: Any, hook: Any, prepend: bool) -> RemovableHandle:
        handle = RemovableHandle(hooks, hook)
        if prepend:
            hooks.move_to_end(handle.id, last=False)
        return handle

    # Walking the tree

    def named_modules(
        self, memo: set[int] | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Module]]:
        """This module and all below it, with dotted names, each once."""
        memo = set() if memo is None else memo
        if id(self) in memo:
            return
        if remove_duplicate:
            memo.add(id(self))
        yield prefix, self
        for name, child in self._modules.items():
            if child is not None:
                yield from child.named_modules(memo, f"{prefix}.{name}" if prefix else name, remove_duplicate)

    def modules(self) -> Iterator[Module]:
        """This module and all below it."""
        for _, module in self.named_modules():
            yield module

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """The modules directly below, with their names."""
        seen: set[int] = set()
        for name, child in self._modules.items():
            if child is not None and id(child) not in seen:
                seen.add(id(child))
                yield name, child

    def children(self) -> Iterator[Module]:
        """The modules directly below."""
        for _, child in self.named_children():
            yield child

    def _named_members(
        self, registry: str, prefix: str, recurse: bool, remove_duplicate: bool
    ) -> Iterator[tuple[str, Any]]:
        seen: set[int] = set()
        modules = self.named_modules(prefix=prefix, remove_duplicate=remove_duplicate) if recurse else [(prefix, self)]
        for module_prefix, module in modules:
            for name, value in getattr(module, registry).items():
                if value is None or (remove_duplicate and id(value) in seen):
                    continue
                seen.add(id(value))
                yield (f"{module_prefix}.{name}" if module_prefix else name), value

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Parameter]]:
        """All parameters with dotted names, shared ones once."""
        return self._named_members("_parameters", prefix, recurse, remove_duplicate)

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """All parameters, shared ones once."""
        for _, parameter in self.named_parameters(recurse=recurse):
            yield parameter

    def named_buffers(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Tensor]]:
        """All buffers with dotted names."""
        return self._named_members("_buffers", prefix, recurse, remove_duplicate)

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        """All buffers."""
        for _, buffer in self.named_buffers(recurse=recurse):
            yield buffer

    def get_submodule(self, target: str) -> Module:
        """The module at a dotted path."""
        module: Any = self
        for name in target.split(".") if target else []:
            if not isinstance(module, Module) or module._modules.get(name) is None:
                raise AttributeError(f"{type(self).__name__}: there is no module '{target}' ('{name}' is missing)")
            module = module._modules[name]
        return module

    def get_parameter(self, target: str) -> Parameter:
        """The parameter at a dotted path."""
        path, _, name = target.rpartition(".")
        found = self.get_submodule(path)._parameters.get(name)
        if found is None:
            raise AttributeError(f"{type(self).__name__}: there is no parameter '{target}'")
        return found

    def get_buffer(self, target: str) -> Tensor:
        """The buffer at a dotted path."""
        path, _, name = target.rpartition(".")
        found = self.get_submodule(path)._buffers.get(name)
        if found is None:
            raise AttributeError(f"{type(self).__name__}: there is no buffer '{target}'")
        return found

    def apply(self, fn: Callable[[Module], None]) -> Self:
        """Calls `fn` on every module below and then on this one; used to initialise."""
        for child in self.children():
            child.apply(fn)
        fn(self)
        return self

    # State

    def state_dict(
        self, *, destination: dict[str, Any] | None = None, prefix: str = "", keep_vars: bool = False
    ) -> dict[str, Any]:
        """Parameters and persistent buffers by dotted name; the tensors share memory with the module.

        >>> list(gg.nn.Linear(2, 1).state_dict())
        ['weight', 'bias']
        """
        state: dict[str, Any] = OrderedDict() if destination is None else destination
        for name, value in [*self._parameters.items(), *self._buffers.items()]:
            if value is not None and name not in self._non_persistent:
                state[prefix + name] = value if keep_vars else value.detach()
        for name, child in self._modules.items():
            if child is not None:
                child.state_dict(destination=state, prefix=f"{prefix}{name}.", keep_vars=keep_vars)
        for hook in list(self._state_dict_hooks.values()):
            hook(self, state, prefix, {})
        return state

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> IncompatibleKeys:
        """Copies values into parameters and buffers of the same names (`assign`: takes the tensors themselves).

        All shapes are checked before the first value is written. With `strict`, missing and unexpected names are an
        error; they are returned either way.
        """
        if not isinstance(state_dict, Mapping):
            raise TypeError(f"load_state_dict: expected a mapping of names to tensors, got {type(state_dict).__name__}")
        places: list[tuple[Module, str, str, Tensor]] = []
        for prefix, module in self.named_modules(remove_duplicate=False):
            for name, value in [*module._parameters.items(), *module._buffers.items()]:
                if value is not None and name not in module._non_persistent:
                    places.append((module, name, f"{prefix}.{name}" if prefix else name, value))
        known = {key for _, _, key, _ in places}
        result = IncompatibleKeys(
            [key for _, _, key, _ in places if key not in state_dict], [k for k in state_dict if k not in known]
        )
        problems = []
        if strict and result.unexpected_keys:
            problems.append("unexpected keys: " + ", ".join(result.unexpected_keys))
        if strict and result.missing_keys:
            problems.append("missing keys: " + ", ".join(result.missing_keys))
        for _, _, key, value in places:
            given = state_dict.get(key)
            if given is None:
                continue
            if not isinstance(given, core.TensorBase):
                problems.append(f"'{key}' must be a Tensor, got {type(given).__name__}")
            elif tuple(given.shape) != tuple(value.shape):
                problems.append(
                    f"size mismatch for '{key}': {tuple(given.shape)} in the state, {tuple(value.shape)} here"
                )
        if problems:
            raise RuntimeError(f"load_state_dict for {type(self).__name__}: " + "; ".join(problems))
        with no_grad():
            for module, name, key, value in places:
                given = state_dict.get(key)
                if given is None:
                    continue
                if not assign:
                    value.copy_(given)
                elif name in module._parameters:
                    module._parameters[name] = Parameter(given.detach(), bool(value.requires_grad))
                else:
                    module._buffers[name] = given.detach()
        return result

    def register_state_dict_post_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Calls `hook(module, state_dict, prefix, local_metadata)` when state_dict has collected this module."""
        return RemovableHandle(self._state_dict_hooks, hook)

    def _apply(self, change: Callable[[Tensor], Tensor]) -> Self:
        with no_grad():
            for module in self.modules():
                for parameter in module._parameters.values():
                    if parameter is None:
                        continue
                    changed = change(parameter)
                    gradient = parameter.grad
                    parameter.grad = None
                    parameter.data = changed
                    if gradient is not None:
                        parameter.grad = change(gradient)
                for name, buffer in module._buffers.items():
                    if buffer is not None:
                        module._buffers[name] = change(buffer)
        return self

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """Moves or converts parameters and buffers in place: to(device), to(dtype), to(device, dtype), to(tensor).

        A dtype must be floating point and changes only floating-point ones.
        """
        dtype, device = kwargs.get("dtype"), kwargs.get("device")
        for a in args:
            if isinstance(a, core.TensorBase):
                dtype, device = a.dtype, a.device
            elif isinstance(a, core.dtype):
                dtype = a
            elif isinstance(a, (str, core.device)):
                device = a
        if dtype is not None and not dtype.is_floating_point:
            raise TypeError(f"Module.to: a module can only be converted to a floating-point dtype, got {dtype!r}")

        def change(x: Tensor) -> Tensor:
            wanted = dtype if dtype is not None and x.dtype.is_floating_point else x.dtype
            return x.detach().to(wanted) if device is None else x.detach().to(device=device, dtype=wanted)

        return self._apply(change)

    def type(self, dst_type: Any) -> Self:
        """Converts all parameters and buffers to a dtype."""
        return self._apply(lambda x: x.detach().to(dst_type))

    def float(self) -> Self:
        """Converts floating-point parameters and buffers to float32."""
        return self.to(core.float32)

    def double(self) -> Self:
        """Converts floating-point parameters and buffers to float64."""
        return self.to(core.float64)

    def half(self) -> Self:
        """Converts floating-point parameters and buffers to float16."""
        return self.to(core.float16)

    def bfloat16(self) -> Self:
        """Converts floating-point parameters and buffers to bfloat16."""
        return self.to(core.bfloat16)

    def cpu(self) -> Self:
        """Moves parameters and buffers to the CPU."""
        return self.to("cpu")

    def cuda(self, device: Any = None) -> Self:
        """Moves parameters and buffers to a GPU: the first, that of a number, or a device."""
        return self.to(core.device("cuda" if device is None else device))

    def share_memory(self) -> Self:
        """For code written for PyTorch: workers get modules by value, so there is nothing to do."""
        return self

    def train(self, mode: bool = True) -> Self:
        """Sets training mode here and below: dropout drops, batch norm uses the batch."""
        if not isinstance(mode, bool):
            raise ValueError(f"train: mode must be a bool, got {type(mode).__name__}")
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> Self:
        """Sets evaluation mode here and below."""
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Sets whether gradients are computed for all parameters."""
        for parameter in self.parameters():
            parameter.requires_grad = requires_grad
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drops all gradients, or fills them with zeros."""
        for parameter in self.parameters():
            if set_to_none:
                parameter.grad = None
            elif parameter.grad is not None:
                parameter.grad.detach_()
                parameter.grad.zero_()

    # Text and copies

    def extra_repr(self) -> str:
        """What stands in the parentheses of `repr`."""
        return ""

    def _get_name(self) -> str:
        return type(self).__name__

    def __repr__(self) -> str:
        extra = self.extra_repr()
        rows = extra.split("\n") if extra else []
        children = []
        for name, child in self._modules.items():
            lines = repr(child).split("\n")
            children.append(f"({name}): " + "\n".join([lines[0], *("  " + line for line in lines[1:])]))
        if not children and len(rows) <= 1:
            return f"{self._get_name()}({extra})"
        return f"{self._get_name()}(\n  " + "\n  ".join(rows + children) + "\n)"

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
