"""Learning-rate schedules: `scheduler.step()` after each epoch (or batch) sets every group's "lr".

Most schedules multiply the current rate by a ratio that depends on the epoch, so several can act on one optimizer at
once; each also knows its closed form, the rate of an epoch by itself. e is `last_epoch`, which is 0 after construction.
"""

from __future__ import annotations

import math
import types
import warnings
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from glassgrad.optim.optimizer import Optimizer

__all__ = [
    "ChainedScheduler",
    "ConstantLR",
    "CosineAnnealingLR",
    "CosineAnnealingWarmRestarts",
    "CyclicLR",
    "ExponentialLR",
    "LRScheduler",
    "LambdaLR",
    "LinearLR",
    "MultiStepLR",
    "MultiplicativeLR",
    "OneCycleLR",
    "PolynomialLR",
    "ReduceLROnPlateau",
    "SequentialLR",
    "StepLR",
]

PerGroup = float | Sequence[float]


def _check_optimizer(optimizer: Any) -> None:
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"lr_scheduler: {type(optimizer).__name__} is not an Optimizer")


def _per_group(name: str, optimizer: Optimizer, value: Any) -> list[Any]:
    """One value for each group, from one for all or a list of as many."""
    groups = len(optimizer.param_groups)
    if not isinstance(value, (list, tuple)):
        return [value] * groups
    if len(value) != groups:
        raise ValueError(f"lr_scheduler: {name} has {len(value)} values; the optimizer has {groups} parameter groups")
    return list(value)


class LRScheduler:
    """Base of the schedules: `get_lr()` gives the rates of epoch `last_epoch`, one for each group.

    >>> optimizer = gg.optim.SGD([gg.zeros(1, requires_grad=True)], lr=1.0)
    >>> class Halving(gg.optim.lr_scheduler.LRScheduler):
    ...     def get_lr(self):
    ...         return [base / 2**self.last_epoch for base in self.base_lrs]
    >>> Halving(optimizer).get_last_lr()
    [1.0]
    """

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1) -> None:
        _check_optimizer(optimizer)
        self.optimizer = optimizer
        for i, group in enumerate(optimizer.param_groups):
            if last_epoch == -1:
                group.setdefault("initial_lr", group["lr"])
            elif "initial_lr" not in group:
                raise KeyError(
                    f"{type(self).__name__}: parameter group {i} has no 'initial_lr', which resuming at last_epoch "
                    f"{last_epoch} needs; load the optimizer's state first"
                )
        self.base_lrs = [group["initial_lr"] for group in optimizer.param_groups]
        self.last_epoch = last_epoch
        self._initial_step()

    def _initial_step(self) -> None:
        self._step_count = 0
        self.step()

    def get_lr(self) -> list[float]:
        """The rates of epoch `last_epoch`, from the current ones."""
        raise NotImplementedError(f"{type(self).__name__}: a schedule needs a get_lr method")

    def closed_form(self) -> list[float]:
        """The rates of epoch `last_epoch` by themselves."""
        return self.get_lr()

    def get_last_lr(self) -> list[float]:
        """The rates that the last step set, one for each group."""
        return self._last_lr

    def step(self, epoch: int | None = None) -> None:
        """Goes to the next epoch (or to `epoch`) and sets the rates.

        >>> optimizer = gg.optim.SGD([gg.zeros(1, requires_grad=True)], lr=1.0)
        >>> scheduler = gg.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.5)
        >>> optimizer.step()
        >>> scheduler.step()
        >>> scheduler.get_last_lr()
        [0.5]
        """
        if self._step_count == 1 and self.optimizer._step_count == 0 and type(self.optimizer).step is Optimizer.step:
            warnings.warn(
                "lr_scheduler.step() before optimizer.step() skips the first rate of the schedule; call it after",
                UserWarning,
                stacklevel=2,
            )
        self._step_count += 1
        self._update(epoch)

    def _update(self, epoch: int | None = None) -> None:
        if epoch is None:
            self.last_epoch += 1
            rates = self.get_lr()
        else:
            self.last_epoch = epoch
            rates = self.closed_form()
        for group, rate in zip(self.optimizer.param_groups, rates):
            group["lr"] = rate
        self._last_lr = [group["lr"] for group in self.optimizer.param_groups]

    def _current(self) -> list[float]:
        return [group["lr"] for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """Everything but the optimizer, to be saved beside the optimizer's own state."""
        return {name: value for name, value in self.__dict__.items() if name != "optimizer"}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes over what state_dict() gave."""
        self.__dict__.update(state_dict)


class _ByRatio(LRScheduler):
    """Schedules of one factor for all groups: `ratio(e)` by the epoch before, `scale(e)` by the initial rate."""

    def ratio(self, e: int) -> float:
        raise NotImplementedError

    def scale(self, e: int) -> float:
        raise NotImplementedError

    def get_lr(self) -> list[float]:
        r = self.ratio(self.last_epoch)
        return self._current() if r == 1 else [lr * r for lr in self._current()]

    def closed_form(self) -> list[float]:
        s = self.scale(self.last_epoch)
        return [base * s for base in self.base_lrs]


class StepLR(_ByRatio):
    """lr is multiplied by gamma every `step_size` epochs.

    >>> optimizer = gg.optim.SGD([gg.zeros(1, requires_grad=True)], lr=1.0)
    >>> gg.optim.lr_scheduler.StepLR(optimizer, step_size=30).get_last_lr()
    [1.0]
    """

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, last_epoch: int = -1) -> None:
        self.step_size, self.gamma = step_size, gamma
        super().__init__(optimizer, last_epoch)

    def ratio(self, e: int) -> float:
        return self.gamma if e > 0 and e % self.step_size == 0 else 1

    def scale(self, e: int) -> float:
        return self.gamma ** (e // self.step_size)


class MultiStepLR(_ByRatio):
    """lr is multiplied by gamma at each of `milestones`.

    >>> optimizer = gg.optim.SGD([gg.zeros(1, requires_grad=True)], lr=1.0)
    >>> gg.optim.lr_scheduler.MultiStepLR(optimizer, milestones=[30, 80]).get_last_lr()
    [1.0]
    """

    def __init__(
        self, optimizer: Optimizer, milestones: Sequence[int], gamma: float = 0.1, last_epoch: int = -1
    ) -> None:
        self.milestones, self.gamma = Counter(milestones), gamma
        super().__init__(optimizer, last_epoch)

    def ratio(self, e: int) -> float:
        return self.gamma ** self.milestones[e] if e in self.milestones else 1

    def scale(self, e: int) -> float:
        return self.gamma ** bisect_right(sorted(self.milestones.elements()), e)


class ConstantLR(_ByRatio):
    """lr is `factor` times the initial one for the first `total_iters` epochs. Raises ValueError for a factor outside
    [0, 1].

    >>> optimizer = gg.optim.SGD([gg.zeros(1, requires_grad=True)], lr=1.0)
    >>> gg.optim.lr_scheduler.ConstantLR(optimizer, factor=0.5).get_last_lr()
    [0.5]
    """

    def __init__(
        self, optimizer: Optimizer, factor: float = 1.0 / 3, total_iters: int = 5, last_epoch: int = -1
    ) -> None:
        if not 0 <= factor <= 1:
            raise ValueError(f"ConstantLR: factor is {factor}; it must be in [0, 1]")
        self.factor, self.total_iters = factor, total_iters
        super().__init__(optimizer, last_epoch)

    def ratio(self, e: int) -> float:
        return self.factor if e == 0 else 1 / self.factor if e == self.total_iters else 1

    def scale(self, e: int) -> float:
        return self.factor if e < self.total_iters else 1


class LinearLR(_ByRatio):
    """lr goes from start_factor to end_factor times the initial one in `total_iters` epochs.

    Raises ValueError for a start_factor outside (0, 1] or an end_factor outside [0, 1].

    >>> optimizer = gg.optim.SGD([gg.zeros(1, requires_grad=True)], lr=1.0)
    >>> gg.optim.lr_scheduler.LinearLR(optimizer, start_factor=0.25).get_last_lr()
    [0.25]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        start_factor: float = 1.0 / 3,
        end_factor: float = 1.0,
        total_iters: int = 5,
        last_epoch: int = -1,
    ) -> None:
        if not 0 < start_factor <= 1:
            raise ValueError(f"LinearLR: start_factor is {start_factor}; it must be in (0, 1]")
        if not 0 <= end_factor <= 1:
            raise ValueError(f"LinearLR: end_factor is {end_factor}; it must be in [0, 1]")
        self.start_factor, self.end_factor, self.total_iters = start_factor, end_factor, total_iters
        super().__init__(optimizer, last_epoch)

    def ratio(self, e: int) -> float:
        if e == 0:
            return self.start_factor
        if e > self.total_iters:
            return 1
        rise = self.end_factor - self.start_factor
        return 1 + rise / (self.total_iters * self.start_factor + (e - 1) * rise)

    def scale(self, e: int) -> float:
        return self.start_factor + (self.end_factor - self.start_factor) * min(self.total_iters, e) / self.total_iters


class ExponentialLR(_ByRatio):
    """lr is multiplied by gamma every epoch.

    >>> optimizer = gg.optim.SGD([gg.zeros(1, requires_grad=True)], lr=1.0)
    >>> gg.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.9).get_last_lr()
    [1.0]
    """

    def __init__(self, optimizer: Optimizer, gamma: float, last_epoch: int = -1) -> None:
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def ratio(self, e: int) -> float:
        return self.gamma if e > 0 else 1

    def scale(self, e: int) -> float:
        return self.gamma**e


class PolynomialLR(_ByRatio):
    """lr is (1 - e / total_iters)^power times the initial one, 0 from `total_iters` on.

    >>> optimizer = gg.optim.SGD([gg.zeros(1, requires_grad=True)], lr=1.0)
    >>> gg.optim.lr_scheduler.PolynomialLR(optimizer, total_iters=4).get_last_lr()
    [1.0]
    """

    def __init__(self, optimizer: Optimizer, total_iters: int = 5, power: float = 1.0, last_epoch: int = -1) -> None:
        self.total_iters, self.power = total_iters, power
        super().__init__(optimizer, last_epoch)

    def ratio(self, e: int) -> float:
        if e == 0 or e > self.total_iters:
            return 1
        return float(((1 - e / self.total_iters) / (1 - (e - 1) / self.total_iters)) ** self.power)

    def scale(self, e: int) -> float:
        return float((1 - min(self.total_iters, e) / self.total_iters) ** self.power)


class _OfFunctions(LRScheduler):
    """Schedules given by a function of the epoch, one for each group."""

    def __init__(
        self,
        optimizer: Optimizer,
        lr_lambda: Callable[[int], float] | Sequence[Callable[[int], float]],
        last_epoch: int = -1,
    ) -> None:
        _check_optimizer(optimizer)
        self.lr_lambdas = _per_group("lr_lambda", optimizer, lr_lambda)
        for f in self.lr_lambdas:
            if not callable(f):
                raise TypeError(f"{type(self).__name__}: lr_lambda must be a function, not {type(f).__name__}")
        super().__init__(optimizer, last_epoch)

    def state_dict(self) -> dict[str, Any]:
        """Everything but the optimizer; of the functions only the attributes of callable objects can be saved."""
        state = super().state_dict()
        state["lr_lambdas"] = [None if isinstance(f, types.FunctionType) else dict(f.__dict__) for f in self.lr_lambdas]
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes over what state_dict() gave; plain functions stay as they are."""
        functions = self.lr_lambdas
        super().load_state_dict(state_dict)
        for f, attributes in zip(functions, state_dict["lr_lambdas"]):
            if attributes is not None:
                f.__dict__.update(attributes)
        self.lr_lambdas = functions


class LambdaLR(_OfFunctions):
    """lr is lr_lambda(e) times the initial one; one function for all groups or a list.

    >>> optimizer = gg.optim.SGD([gg.zeros(1, requires_grad=True)], lr=1.0)
    >>> gg.optim.lr_scheduler.LambdaLR(optimizer, lambda e: 0.5 / (e + 1)).get_last_lr()
    [0.5]
    """

    def get_lr(self) -> list[float]:
        return [base * f(self.last_epoch) for base, f in zip(self.base_lrs, self.lr_lambdas)]


class MultiplicativeLR(_OfFunctions):
    """lr is multiplied by lr_lambda(e) at each epoch e > 0.

    >>> optimizer = gg.optim.SGD([gg.zeros(1, requires_grad=True)], lr=1.0)
    >>> gg.optim.lr_scheduler.MultiplicativeLR(optimizer, lambda e: 0.95).get_last_lr()
    [1.0]
    """

    def get_lr(self) -> list[float]:
        if self.last_epoch <= 0:
            return self._current()
        return [lr * f(self.last_epoch) for lr, f in zip(self._current(), self.lr_lambdas)]


class CosineAnnealingLR(LRScheduler):
    """lr follows half a cosine from the initial rate to eta_min in T_max epochs, then back up. (Loshchilov and Hutter,
    2017.)

    >>> optimizer = gg.optim.SGD([gg.zeros(1, requires_grad=True)], lr=1.0)
    >>> gg.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=10).get_last_lr()
    [1.0]
    """

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0, last_epoch: int = -1) -> None:
        self.T_max, self.eta_min = T_max, eta_min
        super().__init__(optimizer, last_epoch)

    # The recursion lets other schedules change the rate in between.
    def get_lr(self) -> list[float]:
        e, t = self.last_epoch, self.T_max
        if e == 0:
            return self._current()
        if self._step_count == 1:
            return self.closed_form()
        if (e - 1 - t) % (2 * t) == 0:
            step = (1 - math.cos(math.pi / t)) / 2
            return [lr + (base - self.eta_min) * step for base, lr in zip(self.base_lrs, self._current())]
        ratio = (1 + math.cos(math.pi * e / t)) / (1 + math.cos(math.pi * (e - 1) / t))
        return [ratio * (lr - self.eta_min) + self.eta_min for lr in self._current()]

    def closed_form(self) -> list[float]:
        height = (1 + math.cos(math.pi * self.last_epoch / self.T_max)) / 2
        return [self.eta_min + (base - self.eta_min) * height for base in self.base_lrs]


class CosineAnnealingWarmRestarts(LRScheduler):
    """lr follows half a cosine to eta_min and starts again, after T_0 epochs and then T_mult times as many each time.

    `step(epoch)` takes a fraction of an epoch too. Raises ValueError for a T_0 or T_mult that is not a whole number of
    at least 1. (Loshchilov and Hutter, 2017.)

    >>> optimizer = gg.optim.SGD([gg.zeros(1, requires_grad=True)], lr=1.0)
    >>> gg.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, T_0=10).get_last_lr()
    [1.0]
    """

    def __init__(
        self, optimizer: Optimizer, T_0: int, T_mult: int = 1, eta_min: float = 0.0, last_epoch: int = -1
    ) -> None:
        for name, value in (("T_0", T_0), ("T_mult", T_mult)):
            if not isinstance(value, int) or value < 1:
                raise ValueError(
                    f"CosineAnnealingWarmRestarts: {name} is {value}; a whole number of at least 1 is needed"
                )
        self.T_0, self.T_i, self.T_mult, self.eta_min = T_0, T_0, T_mult, eta_min
        self.T_cur: float = last_epoch
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        height = (1 + math.cos(math.pi * self.T_cur / self.T_i)) / 2
        return [self.eta_min + (base - self.eta_min) * height for base in self.base_lrs]

    def _update(self, epoch: float | None = None) -> None:
        if epoch is None and self.last_epoch < 0:
            epoch = 0
        if epoch is None:
            epoch = self.last_epoch + 1
            self.T_cur += 1
            if self.T_cur >= self.T_i:
                self.T_cur -= self.T_i
                self.T_i *= self.T_mult
        else:
            if epoch < 0:
                raise ValueError(f"CosineAnnealingWarmRestarts: epoch is {epoch}; it must not be negative")
            # The epochs before the n-th restart are T_0 (1 + T_mult + ... + T_mult^(n - 1)).
            if self.T_mult == 1:
                restarts, start = 0, epoch // self.T_0 * self.T_0
            else:
                restarts = int(math.log(epoch / self.T_0 * (self.T_mult - 1) + 1, self.T_mult))
                start = self.T_0 * (self.T_mult**restarts - 1) / (self.T_mult - 1)
            self.T_i = self.T_0 * self.T_mult**restarts
            self.T_cur = epoch - start
        super()._update(math.floor(epoch))


class _MomentumToo(LRScheduler):
    """Schedules that move momentum (or Adam's first beta) the other way; `_momentums` are the last ones computed."""

    use_beta1: bool

    def _check_momentum(self, optimizer: Optimizer) -> None:
        if "momentum" not in optimizer.defaults and "betas" not in optimizer.defaults:
            raise ValueError(
                f"{type(self).__name__}: {type(optimizer).__name__} has neither momentum nor betas; "
                "pass cycle_momentum=False"
            )
        self.use_beta1 = "betas" in optimizer.defaults

    def _set_momentums(self, values: Sequence[float]) -> None:
        for group, value in zip(self.optimizer.param_groups, values):
            if self.use_beta1:
                group["betas"] = (value, *group["betas"][1:])
            else:
                group["momentum"] = value


class CyclicLR(_MomentumToo):
    """lr goes from base_lr to max_lr in step_size_up steps and back in step_size_down, momentum the other way.

    `mode` "triangular" keeps the height, "triangular2" halves it each cycle, "exp_range" scales it by gamma^e;
    `scale_fn` of the cycle or the iteration (`scale_mode`) takes the place of mode. Raises ValueError for an unknown
    mode or an optimizer without momentum. (Smith, 2017.)

    >>> optimizer = gg.optim.SGD([gg.zeros(1, requires_grad=True)], lr=1.0)
    >>> gg.optim.lr_scheduler.CyclicLR(optimizer, base_lr=0.1, max_lr=1.0, cycle_momentum=False).get_last_lr()
    [0.1]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        base_lr: PerGroup,
        max_lr: PerGroup,
        step_size_up: int = 2000,
        step_size_down: int | None = None,
        mode: str = "triangular",
        gamma: float = 1.0,
        scale_fn: Callable[[float], float] | None = None,
        scale_mode: str = "cycle",
        cycle_momentum: bool = True,
        base_momentum: PerGroup = 0.8,
        max_momentum: PerGroup = 0.9,
        last_epoch: int = -1,
    ) -> None:
        _check_optimizer(optimizer)
        self.optimizer = optimizer
        if scale_fn is None and mode not in ("triangular", "triangular2", "exp_range"):
            raise ValueError(f"CyclicLR: mode {mode!r} is none of 'triangular', 'triangular2' and 'exp_range'")
        base_lrs = _per_group("base_lr", optimizer, base_lr)
        if last_epoch == -1:
            for group, rate in zip(optimizer.param_groups, base_lrs):
                group["lr"] = rate
        self.max_lrs = _per_group("max_lr", optimizer, max_lr)
        up, down = float(step_size_up), float(step_size_up if step_size_down is None else step_size_down)
        self.total_size = up + down
        self.step_ratio = up / self.total_size
        self.mode, self.gamma = mode, gamma
        self._scale_fn_custom = scale_fn
        self.scale_mode = scale_mode if scale_fn else "iterations" if mode == "exp_range" else "cycle"
        self.cycle_momentum = cycle_momentum
        if cycle_momentum:
            self._check_momentum(optimizer)
            self.base_momentums = _per_group("base_momentum", optimizer, base_momentum)
            self.max_momentums = _per_group("max_momentum", optimizer, max_momentum)
            if last_epoch == -1:
                self._set_momentums(self.max_momentums)
                for group, low, high in zip(optimizer.param_groups, self.base_momentums, self.max_momentums):
                    group["base_momentum"], group["max_momentum"] = low, high
        super().__init__(optimizer, last_epoch)
        self.base_lrs = base_lrs

    def scale_fn(self, x: float) -> float:
        """What the height of a cycle is multiplied by."""
        if self._scale_fn_custom is not None:
            return self._scale_fn_custom(x)
        return 1.0 if self.mode == "triangular" else 2.0 ** (1 - x) if self.mode == "triangular2" else self.gamma**x

    def get_lr(self) -> list[float]:
        cycle = math.floor(1 + self.last_epoch / self.total_size)
        x = 1.0 + self.last_epoch / self.total_size - cycle
        height = x / self.step_ratio if x <= self.step_ratio else (x - 1) / (self.step_ratio - 1)
        height *= self.scale_fn(cycle if self.scale_mode == "cycle" else self.last_epoch)
        if self.cycle_momentum:
            pairs = zip(self.base_momentums, self.max_momentums)
            self._set_momentums([high - (high - low) * height for low, high in pairs])
        return [low + (high - low) * height for low, high in zip(self.base_lrs, self.max_lrs)]

    def state_dict(self) -> dict[str, Any]:
        """Everything but the optimizer; of scale_fn only the attributes of a callable object can be saved."""
        state = super().state_dict()
        f = self._scale_fn_custom
        state["_scale_fn_custom"] = None if f is None or isinstance(f, types.FunctionType) else dict(f.__dict__)
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes over what state_dict() gave."""
        f = self._scale_fn_custom
        super().load_state_dict(state_dict)
        if f is not None and state_dict["_scale_fn_custom"] is not None:
            f.__dict__.update(state_dict["_scale_fn_custom"])
        self._scale_fn_custom = f


class OneCycleLR(_MomentumToo):
    """lr rises from max_lr / div_factor to max_lr in pct_start of the steps, then falls far below; momentum the other
    way.

    The number of steps is `total_steps`, or epochs times steps_per_epoch. `three_phase` returns to the initial rate
    before the last fall. Raises ValueError for options out of range, for one step too many, and for an optimizer
    without momentum. (Smith and Topin, 2019.)

    >>> optimizer = gg.optim.SGD([gg.zeros(1, requires_grad=True)], lr=1.0)
    >>> round(gg.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1.0, total_steps=100).get_last_lr()[0], 4)
    0.04
    """

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: PerGroup,
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        cycle_momentum: bool = True,
        base_momentum: PerGroup = 0.85,
        max_momentum: PerGroup = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
        last_epoch: int = -1,
    ) -> None:
        _check_optimizer(optimizer)
        self.optimizer = optimizer
        if total_steps is None:
            if epochs is None or steps_per_epoch is None:
                raise ValueError("OneCycleLR: total_steps, or both epochs and steps_per_epoch, must be given")
            for name, value in (("epochs", epochs), ("steps_per_epoch", steps_per_epoch)):
                if value <= 0 or not isinstance(value, int):
                    raise ValueError(f"OneCycleLR: {name} is {value}; a positive whole number is needed")
            total_steps = epochs * steps_per_epoch
        elif total_steps <= 0 or not isinstance(total_steps, int):
            raise ValueError(f"OneCycleLR: total_steps is {total_steps}; a positive whole number is needed")
        if not 0 <= pct_start <= 1:
            raise ValueError(f"OneCycleLR: pct_start is {pct_start}; it must be in [0, 1]")
        if anneal_strategy not in ("cos", "linear"):
            raise ValueError(f"OneCycleLR: anneal_strategy {anneal_strategy!r} is neither 'cos' nor 'linear'")
        self.total_steps = total_steps
        self._anneal_func_type = anneal_strategy
        # Phases: the step at which each ends, and the (rate, momentum) keys of the group between which it moves.
        peak = float(pct_start * total_steps) - 1
        turn = ("max_lr", "base_momentum")
        start, end = ("initial_lr", "max_momentum"), ("min_lr", "max_momentum")
        last = float(total_steps - 1)
        if three_phase:
            back = float(2 * pct_start * total_steps) - 2
            self._schedule_phases = [(peak, start, turn), (back, turn, start), (last, start, end)]
        else:
            self._schedule_phases = [(peak, start, turn), (last, turn, end)]
        if last_epoch == -1:
            for group, high in zip(optimizer.param_groups, _per_group("max_lr", optimizer, max_lr)):
                group["initial_lr"] = high / div_factor
                group["max_lr"] = high
                group["min_lr"] = group["initial_lr"] / final_div_factor
        self.cycle_momentum = cycle_momentum
        if cycle_momentum:
            self._check_momentum(optimizer)
            if last_epoch == -1:
                lows = _per_group("base_momentum", optimizer, base_momentum)
                highs = _per_group("max_momentum", optimizer, max_momentum)
                self._set_momentums(highs)
                for group, low, high in zip(optimizer.param_groups, lows, highs):
                    group["base_momentum"], group["max_momentum"] = low, high
        super().__init__(optimizer, last_epoch)

    def _anneal(self, start: float, end: float, part: float) -> float:
        if self._anneal_func_type == "linear":
            return (end - start) * part + start
        return end + (start - end) / 2.0 * (math.cos(math.pi * part) + 1)

    def get_lr(self) -> list[float]:
        step = self.last_epoch
        if step > self.total_steps:
            raise ValueError(f"OneCycleLR: step {step} is beyond the {self.total_steps} steps of the schedule")
        phase = 0
        while phase + 1 < len(self._schedule_phases) and step > self._schedule_phases[phase][0]:
            phase += 1
        end, source, goal = self._schedule_phases[phase]
        begin = self._schedule_phases[phase - 1][0] if phase else 0.0
        part = (step - begin) / (end - begin)
        groups = self.optimizer.param_groups
        if self.cycle_momentum:
            self._set_momentums([self._anneal(group[source[1]], group[goal[1]], part) for group in groups])
        return [self._anneal(group[source[0]], group[goal[0]], part) for group in groups]


class SequentialLR(LRScheduler):
    """One schedule after another, each beginning at 0 at its milestone.

    Raises ValueError where there is not one milestone less than schedules, or a schedule has another optimizer.

    >>> optimizer = gg.optim.SGD([gg.zeros(1, requires_grad=True)], lr=1.0)
    >>> warmup = gg.optim.lr_scheduler.LinearLR(optimizer, start_factor=0.1)
    >>> decay = gg.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.9)
    >>> gg.optim.lr_scheduler.SequentialLR(optimizer, [warmup, decay], milestones=[5]).get_last_lr()
    [0.1]
    """

    def __init__(
        self, optimizer: Optimizer, schedulers: list[LRScheduler], milestones: list[int], last_epoch: int = -1
    ) -> None:
        _check_schedulers("SequentialLR", optimizer, schedulers)
        if len(milestones) != len(schedulers) - 1:
            raise ValueError(
                f"SequentialLR: {len(schedulers)} schedulers need {len(schedulers) - 1} milestones, "
                f"not {len(milestones)}"
            )
        self._schedulers, self._milestones = schedulers, milestones
        self.last_epoch = last_epoch + 1
        self.optimizer = optimizer
        # Every schedule took its first step when it was made: take those back, then let the first one begin.
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"]
        _undo(schedulers)
        first = schedulers[bisect_right(milestones, 0)]
        first._initial_step()
        self._last_lr = first.get_last_lr()

    def step(self, epoch: int | None = None) -> None:
        """Goes to the next epoch, of the schedule whose turn it is."""
        self.last_epoch += 1
        i = bisect_right(self._milestones, self.last_epoch)
        scheduler = self._schedulers[i]
        if i > 0 and self._milestones[i - 1] == self.last_epoch:
            scheduler._update(0)
        else:
            scheduler.step()
        self._last_lr = scheduler.get_last_lr()

    def state_dict(self) -> dict[str, Any]:
        """Everything but the optimizer, the schedules' states included."""
        return {**super().state_dict(), "_schedulers": [s.state_dict() for s in self._schedulers]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes over what state_dict() gave."""
        _load_schedulers(self, state_dict)


class ChainedScheduler(LRScheduler):
    """Several schedules that all act at every step.

    Raises ValueError where a schedule has another optimizer.

    >>> optimizer = gg.optim.SGD([gg.zeros(1, requires_grad=True)], lr=1.0)
    >>> warmup = gg.optim.lr_scheduler.ConstantLR(optimizer, factor=0.5)
    >>> decay = gg.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.9)
    >>> gg.optim.lr_scheduler.ChainedScheduler([warmup, decay]).get_last_lr()
    [0.5]
    """

    def __init__(self, schedulers: Sequence[LRScheduler], optimizer: Optimizer | None = None) -> None:
        if not schedulers:
            raise ValueError("ChainedScheduler: at least one scheduler is needed")
        self.optimizer = optimizer or schedulers[0].optimizer
        _check_schedulers("ChainedScheduler", self.optimizer, schedulers)
        self._schedulers = list(schedulers)
        self._last_lr = self._current()

    def step(self, epoch: int | None = None) -> None:
        """Takes a step of every schedule."""
        for scheduler in self._schedulers:
            scheduler.step()
        self._last_lr = self._current()

    def state_dict(self) -> dict[str, Any]:
        """Everything but the optimizer, the schedules' states included."""
        return {**super().state_dict(), "_schedulers": [s.state_dict() for s in self._schedulers]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes over what state_dict() gave."""
        _load_schedulers(self, state_dict)


def _check_schedulers(name: str, optimizer: Optimizer, schedulers: Sequence[Any]) -> None:
    if not schedulers:
        raise ValueError(f"{name}: at least one scheduler is needed")
    for i, scheduler in enumerate(schedulers):
        if not hasattr(scheduler, "optimizer"):
            raise TypeError(f"{name}: item {i}, a {type(scheduler).__name__}, is no scheduler")
        if isinstance(scheduler, ReduceLROnPlateau):
            raise ValueError(f"{name}: scheduler {i} is a ReduceLROnPlateau, whose step needs the metric")
        if scheduler.optimizer is not optimizer:
            raise ValueError(f"{name}: scheduler {i} belongs to another optimizer")


def _undo(schedulers: Sequence[LRScheduler]) -> None:
    for scheduler in schedulers:
        if hasattr(scheduler, "_schedulers"):
            _undo(scheduler._schedulers)
        elif hasattr(scheduler, "last_epoch"):
            scheduler.last_epoch -= 1


def _load_schedulers(scheduler: Any, state_dict: dict[str, Any]) -> None:
    scheduler.__dict__.update({name: value for name, value in state_dict.items() if name != "_schedulers"})
    for part, state in zip(scheduler._schedulers, state_dict["_schedulers"]):
        part.load_state_dict(state)


class ReduceLROnPlateau(LRScheduler):
    """lr is multiplied by `factor` when the metric has not improved for more than `patience` epochs.

    An improvement is by the part `threshold` of the best value ("rel") or by that amount ("abs"); after a reduction
    `cooldown` epochs do not count. Raises ValueError for a factor of 1 or more and for unknown modes.

    >>> optimizer = gg.optim.SGD([gg.zeros(1, requires_grad=True)], lr=1.0)
    >>> scheduler = gg.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0)
    >>> scheduler.step(1.0)
    >>> scheduler.step(1.0)
    >>> scheduler.get_last_lr()
    [0.1]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: PerGroup = 0,
        eps: float = 1e-8,
    ) -> None:
        _check_optimizer(optimizer)
        if factor >= 1:
            raise ValueError(f"ReduceLROnPlateau: factor is {factor}; it must be less than 1")
        if mode not in ("min", "max"):
            raise ValueError(f"ReduceLROnPlateau: mode {mode!r} is neither 'min' nor 'max'")
        if threshold_mode not in ("rel", "abs"):
            raise ValueError(f"ReduceLROnPlateau: threshold_mode {threshold_mode!r} is neither 'rel' nor 'abs'")
        self.optimizer = optimizer
        self.mode, self.factor, self.patience = mode, factor, patience
        self.threshold, self.threshold_mode, self.cooldown = threshold, threshold_mode, cooldown
        self.default_min_lr = min_lr if not isinstance(min_lr, (list, tuple)) else None
        self.min_lrs = _per_group("min_lr", optimizer, min_lr)
        self.eps = eps
        self.last_epoch = 0
        self._last_lr = self._current()
        self.best = math.inf if mode == "min" else -math.inf
        self.num_bad_epochs = self.cooldown_counter = 0

    def is_better(self, value: float, best: float) -> bool:
        """Whether a metric improves on the best so far by more than the threshold."""
        sign = 1 if self.mode == "max" else -1
        if self.threshold_mode == "rel":
            return sign * value > sign * best * (1 + sign * self.threshold)
        return sign * value > sign * best + self.threshold

    def step(self, metrics: Any, epoch: int | None = None) -> None:  # type: ignore[override]
        """Looks at the metric of an epoch and reduces the rates where it has stopped improving."""
        value = float(metrics)
        self.last_epoch = self.last_epoch + 1 if epoch is None else epoch
        if self.is_better(value, self.best):
            self.best, self.num_bad_epochs = value, 0
        else:
            self.num_bad_epochs += 1
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            if len(self.min_lrs) < len(self.optimizer.param_groups):  # a group was added since
                if self.default_min_lr is None:
                    raise RuntimeError(
                        "ReduceLROnPlateau: a parameter group was added; min_lr as a list has no value for it"
                    )
                self.min_lrs = _per_group("min_lr", self.optimizer, self.default_min_lr)
            for group, low in zip(self.optimizer.param_groups, self.min_lrs):
                new = max(group["lr"] * self.factor, low)
                if group["lr"] - new > self.eps:
                    group["lr"] = new
            self.cooldown_counter, self.num_bad_epochs = self.cooldown, 0
        self._last_lr = self._current()

    @property
    def in_cooldown(self) -> bool:
        """Whether a reduction was so recent that epochs do not count."""
        return self.cooldown_counter > 0
