"""Automatic mixed precision: autocast chooses the dtype an op computes in, GradScaler keeps float16 gradients from
vanishing.

What autocast does to the floating operands of an op stands beside its forward, as a `Casts`, one rule for the CPU and
one for GPUs (cuda and simt), after PyTorch's lists for them:

    lower     to the region's 16-bit dtype: products and convolutions, which are fast in it
    float32   to float32: what would lose range or digits in 16 bits
    widest    to the widest dtype among them: ops that want operands of one dtype
    refused   an error: an op whose gradient no cast can save

An op without a rule takes its operands as they are. float64 is never cast, nor is anything in place or in backward.
Micikevicius et al. 2018, "Mixed precision training", arXiv:1710.03740.
"""

from __future__ import annotations

import functools
import threading
import warnings
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from glassgrad import _core as core
from glassgrad.autograd import graph

if TYPE_CHECKING:
    from glassgrad.optim import Optimizer
    from glassgrad.tensor import Tensor

__all__ = [
    "GradScaler",
    "autocast",
    "custom_bwd",
    "custom_fwd",
    "get_autocast_dtype",
    "is_autocast_available",
    "is_autocast_enabled",
]

F = TypeVar("F", bound=Callable[..., Any])

_GPUS = ("cuda", "simt")
_HALVES = (core.float16, core.bfloat16)
_CAST = (core.float32, core.float16, core.bfloat16)


# Regions -------------------------------------------------------------------------------------------------------------


class Setting(NamedTuple):
    """What autocast does in a thread."""

    dtypes: dict[str, Any]  # the 16-bit dtype of each type of device
    on: frozenset[str]  # the types of device it is on for
    keep: bool  # whether casts of weights are kept


OFF = Setting({"cpu": core.bfloat16, "cuda": core.float16, "simt": core.float16}, frozenset(), True)


class _Thread(threading.local):
    setting = OFF

    def __init__(self) -> None:
        self.outer: list[Setting] = []
        self.kept: dict[int, tuple[Any, Any, Any]] = {}  # id of a weight: the weight, its state, its cast


_thread = _Thread()
_lock = threading.Lock()
_regions = 0  # that all threads are in: while there is one, ops ask cast_operands


def _enter(setting: Setting) -> None:
    global _regions
    _thread.outer.append(_thread.setting)
    _thread.setting = setting
    with _lock:
        _regions += 1
        graph.set_casting(cast_operands)


def _leave() -> None:
    global _regions
    _thread.setting = _thread.outer.pop()
    if not _thread.outer:
        _thread.kept.clear()
    with _lock:
        _regions -= 1
        if _regions == 0:
            graph.set_casting(None)


def current_setting() -> Setting:
    """What autocast does in this thread now, for `under`."""
    return _thread.setting


def under(setting: Setting, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Calls `function` in a region set so."""
    _enter(setting)
    try:
        return function(*args, **kwargs)
    finally:
        _leave()


def switch(setting: Setting) -> Setting:
    """Changes what autocast does within a region, and returns what it did."""
    before = _thread.setting
    _thread.setting = setting
    return before


def without_autocast(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Calls `function` with autocast off."""
    before = switch(OFF)
    try:
        return function(*args, **kwargs)
    finally:
        switch(before)


def _check_device_type(op: str, device_type: Any) -> None:
    if not isinstance(device_type, str):
        raise ValueError(f"{op}: device_type must be a str such as 'cpu', not {type(device_type).__name__}")
    if not is_autocast_available(device_type):
        known = ", ".join(map(repr, _thread.setting.dtypes))
        raise RuntimeError(f"{op}: device_type {device_type!r} is none of {known}")


class autocast:
    """A context, or a decorator, in which ops on `device_type` choose the dtype they compute in.

    Products, convolutions and attention run in `dtype`: bfloat16 or float16, by default that of the region around, or
    else bfloat16 on the CPU and float16 on "cuda" and "simt". What is unsafe in 16 bits (losses; on GPUs also exp, log,
    pow, sums, softmax, norms, ...) runs in float32, everything else in the dtypes it meets. Operands are cast and
    parameters stay float32; with `cache_enabled`, a parameter's cast is kept until the outermost region ends. Regions
    nest, `enabled=False` makes one without autocast, and each thread has its own. Wrap the forward pass and the loss:
    backward computes in forward's dtypes wherever it is called.

    Raises ValueError or RuntimeError for an unknown device_type; warns of another dtype, and the region is off then.

    >>> x, w = gg.ones(2, 3), gg.ones(4, 3)
    >>> with gg.autocast("cpu"):
    ...     y = F.linear(x, w)
    ...     loss = F.mse_loss(y, gg.zeros(2, 4))
    >>> y.dtype, loss.dtype
    (glassgrad.bfloat16, glassgrad.float32)
    """

    def __init__(
        self, device_type: str, dtype: Any = None, enabled: bool = True, cache_enabled: bool | None = None
    ) -> None:
        _check_device_type("autocast", device_type)
        self.device_type = device_type
        self.dtype = _thread.setting.dtypes[device_type] if dtype is None else dtype
        self.cache_enabled = cache_enabled
        if enabled and self.dtype not in _HALVES:
            warnings.warn(
                f"autocast: dtype {self.dtype} is neither bfloat16 nor float16; autocast is off in this region",
                stacklevel=2,
            )
            enabled = False
        self.enabled = enabled

    def __enter__(self) -> autocast:
        now = _thread.setting
        on = now.on | {self.device_type} if self.enabled else now.on - {self.device_type}
        keep = now.keep if self.cache_enabled is None else self.cache_enabled
        _enter(Setting({**now.dtypes, self.device_type: self.dtype}, on, keep))
        return self

    def __exit__(self, *error: object) -> None:
        _leave()

    def __call__(self, function: F) -> F:
        if not callable(function):
            raise TypeError(f"autocast: a decorator needs a function, not {type(function).__name__}")

        @functools.wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            with self:
                return function(*args, **kwargs)

        return wrapped  # type: ignore[return-value]


def is_autocast_available(device_type: str) -> bool:
    """Whether autocast knows this type of device.

    >>> gg.amp.is_autocast_available("cpu")
    True
    """
    return device_type in _thread.setting.dtypes


def is_autocast_enabled(device_type: str = "cuda") -> bool:
    """Whether autocast is on for this type of device, in this thread.

    >>> with gg.autocast("cpu"):
    ...     gg.is_autocast_enabled("cpu")
    True
    """
    _check_device_type("is_autocast_enabled", device_type)
    return device_type in _thread.setting.on


def get_autocast_dtype(device_type: str) -> Any:
    """The dtype that autocast lowers to on this type of device: the region's, or the default outside.

    >>> gg.get_autocast_dtype("cpu")
    glassgrad.bfloat16
    """
    _check_device_type("get_autocast_dtype", device_type)
    return _thread.setting.dtypes[device_type]


# What it does to operands --------------------------------------------------------------------------------------------


class Casts:
    """What autocast does to the operands of an op: the attribute `autocast` of its class.

    As a decorator it does so for a function made of several ops, inside which autocast is then off.
    """

    def __init__(self, cpu: str | None = None, gpu: str | None = None) -> None:
        self.cpu, self.gpu = cpu, gpu

    def __call__(self, function: F) -> F:
        @functools.wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            if graph.casting is None:
                return function(*args, **kwargs)
            tensors: list[Any] = []
            _over_tensors((args, kwargs), tensors.append)
            dtype = _dtype_for(self, function.__name__, tensors)
            if dtype is None:
                return function(*args, **kwargs)
            args, kwargs = _over_tensors((args, kwargs), lambda x: _cast(x, dtype))
            return without_autocast(function, *args, **kwargs)

        return wrapped  # type: ignore[return-value]


def cast_operands(op: type[graph.Op], args: tuple[Any, ...]) -> tuple[Any, ...]:
    """The arguments of an op that has a rule, as autocast in this thread gives them to it."""
    tensors = [a for a in args if isinstance(a, core.TensorBase)]
    dtype = _dtype_for(op.autocast or Casts(), op.name, tensors)
    if dtype is None:
        return args
    return tuple([_cast(a, dtype) if isinstance(a, core.TensorBase) else a for a in args])


def _dtype_for(casts: Casts, op: str, tensors: list[Any]) -> Any:
    """The dtype of the operands after `casts`; None where it says nothing about them."""
    setting = _thread.setting
    if not setting.on or not tensors:
        return None
    # A number without axes may be on the CPU beside operands on a GPU, which decide.
    device_type = next((kind for x in tensors if (kind := x.device.type) != "cpu"), "cpu")
    if device_type not in setting.on:
        return None
    rule = casts.gpu if device_type in _GPUS else casts.cpu
    if rule is None:
        return None
    if rule == "lower":
        return setting.dtypes[device_type]
    if rule == "float32":
        return core.float32
    if rule == "widest":
        found = {x.dtype for x in tensors if x.dtype in _CAST}
        return found.pop() if len(found) == 1 else core.float32
    raise RuntimeError(
        f"{op}: unsafe under autocast on {device_type}, as its gradient may not fit in 16 bits; use {op}_with_logits, "
        "or compute it in float32 within autocast(enabled=False)"
    )


def _cast(x: Any, dtype: Any) -> Any:
    """x in `dtype`, unless it is no operand that autocast casts; the cast of a weight may be one made before."""
    if x.dtype is dtype or x.dtype not in _CAST:
        return x
    from glassgrad.ops.layout import To

    is_weight = x.dtype is core.float32 and x.requires_grad and x._node is None and x._view is None
    if not is_weight or not _thread.setting.keep:
        return To.apply(x, dtype, x.device)
    state = dtype, x._version, x.data_ptr()
    kept = _thread.kept.get(id(x))
    # A cast that was made while nothing was recorded would take no gradient to the weight.
    if kept is not None and kept[1] == state and (kept[2]._node is not None or not graph.recording()):
        return kept[2]
    y = To.apply(x, dtype, x.device)
    _thread.kept[id(x)] = x, state, y
    return y


def _over_tensors(value: Any, function: Callable[[Any], Any]) -> Any:
    """`value` with `function` of every tensor in it, through lists, tuples and dicts."""
    if isinstance(value, core.TensorBase):
        return function(value)
    if type(value) in (list, tuple):
        return type(value)([_over_tensors(v, function) for v in value])
    if type(value) is dict:
        return {k: _over_tensors(v, function) for k, v in value.items()}
    return value


# Custom functions ----------------------------------------------------------------------------------------------------


def custom_fwd(fwd: Any = None, *, device_type: str, cast_inputs: Any = None) -> Any:
    """Decorates the forward of a `gg.autograd.Function`, so that `custom_bwd` can repeat its autocast state.

    With `cast_inputs`, in a region of autocast, floating inputs (but float64) are cast to that dtype and forward runs
    with autocast off.

    >>> class Product(gg.autograd.Function):
    ...     @staticmethod
    ...     @gg.amp.custom_fwd(device_type="cpu", cast_inputs=gg.float32)
    ...     def forward(ctx, a, b):
    ...         ctx.save_for_backward(a, b)
    ...         return a @ b
    ...     @staticmethod
    ...     @gg.amp.custom_bwd(device_type="cpu")
    ...     def backward(ctx, dy):
    ...         a, b = ctx.saved_tensors
    ...         return dy @ b.mT, a.mT @ dy
    >>> with gg.autocast("cpu"):
    ...     Product.apply(gg.ones(2, 2).bfloat16(), gg.ones(2, 2)).dtype
    glassgrad.float32
    """
    _check_device_type("custom_fwd", device_type)
    if fwd is None:
        return functools.partial(custom_fwd, device_type=device_type, cast_inputs=cast_inputs)

    def cast(x: Any) -> Any:
        return x.to(cast_inputs) if x.dtype in _CAST and x.device.type == device_type else x

    @functools.wraps(fwd)
    def wrapped(ctx: Any, *args: Any, **kwargs: Any) -> Any:
        ctx.forward_autocast = _thread.setting
        if cast_inputs is None or not is_autocast_enabled(device_type):
            return fwd(ctx, *args, **kwargs)
        ctx.forward_autocast = _thread.setting._replace(on=_thread.setting.on - {device_type})
        args, kwargs = _over_tensors((args, kwargs), cast)
        return under(ctx.forward_autocast, fwd, ctx, *args, **kwargs)

    return wrapped


def custom_bwd(bwd: Any = None, *, device_type: str) -> Any:
    """Decorates the backward of a `gg.autograd.Function` whose forward has `custom_fwd` (see there): it runs under the
    same autocast state.
    """
    _check_device_type("custom_bwd", device_type)
    if bwd is None:
        return functools.partial(custom_bwd, device_type=device_type)

    @functools.wraps(bwd)
    def wrapped(ctx: Any, *args: Any, **kwargs: Any) -> Any:
        return under(ctx.forward_autocast, bwd, ctx, *args, **kwargs)

    return wrapped


# Gradient scaling ----------------------------------------------------------------------------------------------------


class _Checked:
    """An optimizer's gradients since the last update."""

    def __init__(self, finite: list[Any]) -> None:
        self.finite = finite  # one bool tensor for each gradient
        self.stepped = False

    @functools.cached_property
    def found_inf(self) -> bool:
        """Whether any of them held an inf or a NaN: the one place where the host waits for the device."""
        from glassgrad.ops.layout import stack

        by_device: dict[str, list[Any]] = {}
        for x in self.finite:
            by_device.setdefault(str(x.device), []).append(x)
        return not all(core.all(stack(group), None, False).item() for group in by_device.values())


class GradScaler:
    """Scales the loss, so that gradients do not vanish in float16, and finds the scale as training goes.

    `scale(loss)` multiplies by the scale s; `step(optimizer)` divides the gradients by it and steps, unless one holds
    an inf or a NaN; `update()` then makes s `backoff_factor` s, or `growth_factor` s after `growth_interval` steps
    without any. The scale is a float on the host; gradients are checked on their device, and one answer for each
    optimizer is read back. `device` is there for PyTorch's sake: losses and gradients may be on any. Without `enabled`,
    step() is the optimizer's and everything else does nothing.

    Raises ValueError for a factor out of range and RuntimeError for calls out of order.

    >>> w = gg.ones(2, requires_grad=True)
    >>> optimizer, scaler = gg.optim.SGD([w], lr=0.1), gg.amp.GradScaler("cpu", init_scale=1024.0)
    >>> with gg.autocast("cpu", dtype=gg.float16):
    ...     loss = (w @ w) * 0.5
    >>> scaler.scale(loss).backward()
    >>> scaler.step(optimizer)
    >>> scaler.update()
    >>> w
    tensor([0.9000, 0.9000], requires_grad=True)
    """

    def __init__(
        self,
        device: str = "cuda",
        init_scale: float = 2.0**16,
        growth_factor: float = 2.0,
        backoff_factor: float = 0.5,
        growth_interval: int = 2000,
        enabled: bool = True,
    ) -> None:
        _check_device_type("GradScaler", device)
        if enabled and growth_factor <= 1:
            raise ValueError(f"GradScaler: growth_factor is {growth_factor}; it must be greater than 1")
        if enabled and backoff_factor >= 1:
            raise ValueError(f"GradScaler: backoff_factor is {backoff_factor}; it must be less than 1")
        self._enabled = enabled
        self._scale = float(init_scale)
        self._growth_factor, self._backoff_factor, self._growth_interval = (
            growth_factor,
            backoff_factor,
            growth_interval,
        )
        self._clean_steps = 0
        self._has_scaled = False
        self._checked: dict[int, _Checked] = {}  # by the id of the optimizer

    def scale(self, outputs: Any) -> Any:
        """`outputs`, a tensor or (nested) iterables of tensors, times the scale.

        >>> gg.amp.GradScaler("cpu", init_scale=8.0).scale([gg.tensor(1.0)])
        [tensor(8.)]
        """
        if not self._enabled:
            return outputs
        if isinstance(outputs, core.TensorBase):
            self._has_scaled = True
            # A tensor without axes rather than a number: a float16 loss without axes becomes float32, and 2^16 fits.
            return outputs * core.full((), self._scale, core.float32, outputs.device)
        if isinstance(outputs, (list, tuple)):
            return type(outputs)([self.scale(x) for x in outputs])
        if isinstance(outputs, Iterable):
            return map(self.scale, outputs)
        raise ValueError(f"scale: outputs must be a Tensor or an iterable of Tensors, not {type(outputs).__name__}")

    def unscale_(self, optimizer: Optimizer) -> None:
        """Divides the gradients of the optimizer's parameters by the scale, and checks them: once between updates.

        `step` does it where it has not been done; call it yourself to clip gradients before.

        >>> w = gg.ones(2, requires_grad=True)
        >>> optimizer, scaler = gg.optim.SGD([w], lr=0.1), gg.amp.GradScaler("cpu")
        >>> scaler.scale(w.sum()).backward()
        >>> scaler.unscale_(optimizer)
        >>> w.grad
        tensor([1., 1.])
        """
        if not self._enabled:
            return
        self._check_scaled("unscale_")
        checked = self._checked.get(id(optimizer))
        if checked is not None and checked.stepped:
            raise RuntimeError("unscale_: is being called after step(); call it before, and update() after both")
        if checked is not None:
            raise RuntimeError("unscale_: has already been called on this optimizer since the last update()")
        gradients: list[Tensor] = []
        for group in optimizer.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                if p.grad.dtype is core.float16:
                    raise ValueError(
                        f"unscale_: a gradient {tuple(p.grad.shape)} is float16, in which what was scaled vanishes "
                        "again; keep parameters in float32 and let autocast cast them"
                    )
                gradients.append(p.grad)
        finite = []
        for g in gradients:
            g._alias().mul_(1 / self._scale)
            finite.append(core.all(core.isfinite(g), None, False))
        self._checked[id(optimizer)] = _Checked(finite)

    def step(self, optimizer: Optimizer, *args: Any, **kwargs: Any) -> Any:
        """`unscale_(optimizer)` if that was not done, then `optimizer.step(...)` unless a gradient held an inf or NaN.

        Returns what the optimizer's step returns, None where it was left out. Closures are not supported.
        """
        if not self._enabled:
            return optimizer.step(*args, **kwargs)
        if kwargs.get("closure") is not None or any(callable(a) for a in args):
            raise RuntimeError("step: a closure is not supported while the GradScaler is enabled")
        self._check_scaled("step")
        if id(optimizer) not in self._checked:
            self.unscale_(optimizer)
        checked = self._checked[id(optimizer)]
        if checked.stepped:
            raise RuntimeError("step: has already been called since the last update()")
        if not checked.finite:
            raise RuntimeError("step: no parameter of this optimizer has a gradient; call backward() before")
        result = None if checked.found_inf else optimizer.step(*args, **kwargs)
        checked.stepped = True
        return result

    def update(self, new_scale: Any = None) -> None:
        """Makes the scale smaller if a gradient held an inf or a NaN, and larger after enough steps without; or sets it
        to `new_scale`, a number or a tensor of one element.

        >>> scaler = gg.amp.GradScaler("cpu")
        >>> _ = scaler.scale(gg.ones(1))
        >>> scaler.update(8.0)
        >>> scaler.get_scale()
        8.0
        """
        if not self._enabled:
            return
        self._check_scaled("update")
        if new_scale is not None:
            if isinstance(new_scale, core.TensorBase) and (new_scale.numel() != 1 or new_scale.requires_grad):
                raise ValueError(
                    f"update: new_scale {tuple(new_scale.shape)} {new_scale.dtype} must be a number or a tensor of one "
                    "element that needs no gradient"
                )
            self._scale = float(new_scale)
        elif not any(checked.finite for checked in self._checked.values()):
            raise RuntimeError("update: no gradients were checked since the last one; call step(optimizer) before")
        elif any(checked.found_inf for checked in self._checked.values()):
            self._scale *= self._backoff_factor
            self._clean_steps = 0
        else:
            self._clean_steps += 1
            if self._clean_steps == self._growth_interval:
                grown = self._scale * self._growth_factor
                self._scale = grown if grown < 2.0**128 else self._scale  # float32 has no larger
                self._clean_steps = 0
        self._checked = {}

    def _check_scaled(self, name: str) -> None:
        if not self._has_scaled:
            raise RuntimeError(f"{name}: nothing was scaled yet; call scale(loss).backward() before")

    def get_scale(self) -> float:
        """The scale, 1 where the scaler is not enabled.

        >>> gg.amp.GradScaler("cpu").get_scale()
        65536.0
        """
        return self._scale if self._enabled else 1.0

    def get_growth_factor(self) -> float:
        """What the scale grows by."""
        return self._growth_factor

    def set_growth_factor(self, new_factor: float) -> None:
        """Sets what the scale grows by."""
        self._growth_factor = new_factor

    def get_backoff_factor(self) -> float:
        """What the scale shrinks by."""
        return self._backoff_factor

    def set_backoff_factor(self, new_factor: float) -> None:
        """Sets what the scale shrinks by."""
        self._backoff_factor = new_factor

    def get_growth_interval(self) -> int:
        """After how many steps without inf or NaN the scale grows."""
        return self._growth_interval

    def set_growth_interval(self, new_interval: int) -> None:
        """Sets after how many steps without inf or NaN the scale grows."""
        self._growth_interval = new_interval

    def is_enabled(self) -> bool:
        """Whether this scaler does anything.

        >>> gg.amp.GradScaler("cpu", enabled=False).is_enabled()
        False
        """
        return self._enabled

    def state_dict(self) -> dict[str, Any]:
        """The scale, the factors and the steps since it changed; empty where the scaler is not enabled.

        >>> gg.amp.GradScaler("cpu").state_dict()["scale"]
        65536.0
        """
        if not self._enabled:
            return {}
        return {
            "scale": self._scale,
            "growth_factor": self._growth_factor,
            "backoff_factor": self._backoff_factor,
            "growth_interval": self._growth_interval,
            "_growth_tracker": self._clean_steps,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes over a state_dict(). Raises RuntimeError for an empty one, unless the scaler is not enabled."""
        if not self._enabled:
            return
        if not state_dict:
            raise RuntimeError(
                "load_state_dict: state_dict is empty; it may come from a GradScaler that was not enabled"
            )
        self._scale = float(state_dict["scale"])
        self._growth_factor = state_dict["growth_factor"]
        self._backoff_factor = state_dict["backoff_factor"]
        self._growth_interval = state_dict["growth_interval"]
        self._clean_steps = state_dict["_growth_tracker"]

    def __getstate__(self) -> dict[str, Any]:
        if self._checked:
            raise RuntimeError("GradScaler: can be pickled only between update() and the next unscale_() or step()")
        return dict(self.__dict__)
