"""Optimizer: parameter groups, state, and what surrounds a step. The rules themselves stand in optim/rules.py."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any, Union

from glassgrad import _core as core
from glassgrad import cuda
from glassgrad.autograd import enable_grad
from glassgrad.tensor import RemovableHandle, Tensor

__all__ = ["Optimizer"]

Params = Iterable[Union[Tensor, "dict[str, Any]", "tuple[str, Tensor]"]]
Hook = Callable[["Optimizer", "tuple[Any, ...]", "dict[str, Any]"], Any]

_ACCEPTED = ("foreach", "fused", "capturable", "differentiable")


class Optimizer:
    """Base of all optimizers: holds parameter groups, each a dict of parameters and options, and a state for each
    parameter.

    A subclass gives `update(group, params)`, which changes `params`, those of the group that have a gradient.
    Raises TypeError for what is no parameter and ValueError for a parameter in two groups or an option out of range.

    >>> class SignDescent(gg.optim.Optimizer):
    ...     def update(self, group, params):
    ...         with gg.no_grad():
    ...             for p in params:
    ...                 p -= group["lr"] * p.grad.sign()
    >>> w = gg.ones(2, requires_grad=True)
    >>> (w * w).sum().backward()
    >>> SignDescent([w], {"lr": 0.25}).step()
    >>> w
    tensor([0.7500, 0.7500], requires_grad=True)
    """

    def __init__(self, params: Params, defaults: dict[str, Any], options: dict[str, Any] | None = None) -> None:
        for name, value in (options or {}).items():
            if name not in _ACCEPTED:
                raise TypeError(f"{type(self).__name__}: there is no option {name!r}")
            if value and name == "differentiable":
                raise ValueError(f"{type(self).__name__}: differentiable=True is not supported")
        defaults.update(
            {"foreach": None, "capturable": False, "differentiable": False, "fused": None}, **(options or {})
        )
        self.defaults = defaults
        self.state: defaultdict[Tensor, dict[str, Any]] = defaultdict(dict)
        self.param_groups: list[dict[str, Any]] = []
        self._step_count = 0
        self._pre_hooks: dict[int, Hook] = {}
        self._post_hooks: dict[int, Hook] = {}
        if isinstance(params, Tensor):
            raise TypeError(
                f"{type(self).__name__}: params must be an iterable of Tensors or of dicts, not a single Tensor"
            )
        groups = list(params)
        if not groups:
            raise ValueError(f"{type(self).__name__}: got an empty list of parameters")
        if not isinstance(groups[0], dict):
            groups = [{"params": groups}]
        for group in groups:
            self.add_param_group(group)  # type: ignore[arg-type]

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Adds a dict with "params" and any options that differ from the defaults.

        >>> w, b = gg.zeros(2, requires_grad=True), gg.zeros(1, requires_grad=True)
        >>> optimizer = gg.optim.SGD([w], lr=0.1)
        >>> optimizer.add_param_group({"params": [b], "lr": 0.01})
        >>> [group["lr"] for group in optimizer.param_groups]
        [0.1, 0.01]
        """
        me = type(self).__name__
        if not isinstance(param_group, dict):
            raise TypeError(f"{me}: a parameter group must be a dict, not {type(param_group).__name__}")
        group = dict(param_group)
        params = group["params"]
        if isinstance(params, (set, frozenset)):
            raise TypeError(f"{me}: parameters need an order, which a set has not; pass a list")
        params = [params] if isinstance(params, Tensor) else list(params)
        if params and all(isinstance(p, tuple) for p in params):
            group["param_names"] = [name for name, _ in params]
            params = [p for _, p in params]
        group["params"] = params
        for p in params:
            if not isinstance(p, Tensor):
                raise TypeError(f"{me}: can only optimize Tensors, but got {type(p).__name__}")
            if not p.is_leaf:
                raise ValueError(
                    f"{me}: can't optimize a non-leaf tensor {tuple(p.shape)} {p.dtype}; detach() it first"
                )
        for name, default in self.defaults.items():
            group.setdefault(name, default)
        if len(set(map(id, params))) != len(params):
            raise ValueError(f"{me}: a parameter group holds the same parameter twice")
        held = {id(p) for other in self.param_groups for p in other["params"]}
        if not held.isdisjoint(map(id, params)):
            raise ValueError(f"{me}: some parameters appear in more than one parameter group")
        self.param_groups.append(group)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drops every gradient, or fills it with zeros where `set_to_none` is False.

        >>> w = gg.ones(2, requires_grad=True)
        >>> w.sum().backward()
        >>> gg.optim.SGD([w], lr=0.1).zero_grad()
        >>> w.grad is None
        True
        """
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                if set_to_none:
                    p.grad = None
                else:
                    p.grad = p.grad.detach().zero_()

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Changes every parameter that has a gradient; `closure`, where given, first computes the loss, which is
        returned.

        >>> w = gg.ones(2, requires_grad=True)
        >>> (w * w).sum().backward()
        >>> gg.optim.SGD([w], lr=0.1).step()
        >>> w
        tensor([0.8000, 0.8000], requires_grad=True)
        """
        arguments: tuple[Any, ...] = () if closure is None else (closure,)
        for hook in list(self._pre_hooks.values()):
            changed = hook(self, arguments, {})
            if changed is not None:
                if not isinstance(changed, tuple) or len(changed) != 2:
                    raise RuntimeError(f"{type(self).__name__}: a step pre-hook must return None or (args, kwargs)")
                arguments = changed[0]
        if arguments:
            closure = arguments[0]
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if params:
                with cuda.captured_update(self, group, params):
                    self.update(group, params)
        self._step_count += 1
        for hook in list(self._post_hooks.values()):
            hook(self, arguments, {})
        return loss

    def update(self, group: dict[str, Any], params: list[Tensor]) -> None:
        """One step of `params`, all of which have a gradient, with the options of `group`."""
        raise NotImplementedError(f"{type(self).__name__}: an optimizer needs an update method")

    def register_step_pre_hook(self, hook: Hook) -> RemovableHandle:
        """Calls `hook(optimizer, args, kwargs)` before every step; it may return new (args, kwargs)."""
        return RemovableHandle(self._pre_hooks, hook)

    def register_step_post_hook(self, hook: Hook) -> RemovableHandle:
        """Calls `hook(optimizer, args, kwargs)` after every step."""
        return RemovableHandle(self._post_hooks, hook)

    def state_dict(self) -> dict[str, Any]:
        """{"state": {number: {...}}, "param_groups": [{..., "params": [numbers]}]}: parameters by their number, in
        order.

        The tensors are the optimizer's own, not copies.

        >>> w = gg.ones(2, requires_grad=True)
        >>> gg.optim.SGD([w], lr=0.1).state_dict()["param_groups"][0]["params"]
        [0]
        """
        number: dict[int, int] = {}
        groups = []
        for group in self.param_groups:
            for p in group["params"]:
                number.setdefault(id(p), len(number))
            packed = {name: value for name, value in group.items() if name != "params"}
            packed["params"] = [number[id(p)] for p in group["params"]]
            groups.append(packed)
        return {"state": {number[id(p)]: s for p, s in self.state.items()}, "param_groups": groups}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes over a state_dict() of an optimizer with equal groups; states take their parameter's dtype.

        Raises ValueError where the numbers of groups or of parameters differ.
        """
        me = type(self).__name__
        groups, saved = self.param_groups, copy.deepcopy(state_dict["param_groups"])
        if len(groups) != len(saved):
            raise ValueError(f"{me}: loaded state dict has {len(saved)} parameter groups, this optimizer {len(groups)}")
        for i, (group, new) in enumerate(zip(groups, saved)):
            if len(group["params"]) != len(new["params"]):
                raise ValueError(
                    f"{me}: group {i} of the loaded state dict has {len(new['params'])} parameters, this optimizer's "
                    f"{len(group['params'])}"
                )
        params = {n: p for group, new in zip(groups, saved) for n, p in zip(new["params"], group["params"])}
        self.state = defaultdict(dict)
        for n, values in state_dict["state"].items():
            p = params.get(n)
            if p is None:
                continue
            self.state[p] = {
                name: _like(p, value) if isinstance(value, Tensor) and name != "step" else copy.deepcopy(value)
                for name, value in values.items()
            }
        for group, new in zip(groups, saved):
            kept = {"params": group["params"]}
            group.update({name: value for name, value in new.items() if name != "params"}, **kept)

    def __getstate__(self) -> dict[str, Any]:
        return {"defaults": self.defaults, "state": self.state, "param_groups": self.param_groups}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._step_count = 0
        self._pre_hooks, self._post_hooks = {}, {}

    def __repr__(self) -> str:
        lines = [f"{type(self).__name__} ("]
        for i, group in enumerate(self.param_groups):
            lines.append(f"Parameter Group {i}")
            lines += [f"    {name}: {group[name]}" for name in sorted(group) if name != "params"]
        return "\n".join([*lines, ")"])


def _like(param: Tensor, value: Tensor) -> Tensor:
    """A copy of a saved state on its parameter's device, in its dtype where both are floating."""
    floating = param.dtype.is_floating_point and value.dtype.is_floating_point
    return value.detach().to(param.device, param.dtype if floating else value.dtype).clone()


def zeros_for(param: Tensor) -> Tensor:
    """A dense state of zeros for a parameter."""
    return core.full(param.shape, 0, param.dtype, param.device)
