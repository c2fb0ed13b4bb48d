"""The update rules. Each `update` gathers lists and makes one call of the core, which walks all parameters in parallel.

p: parameter, g: gradient (plus weight_decay p), t: the step, counted from 1. The formulas stand in csrc/ops/optimizer.
Options that PyTorch has for the sake of speed (foreach, fused, capturable) are accepted and change nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from glassgrad import _core as core
from glassgrad.optim.optimizer import Optimizer, Params, zeros_for
from glassgrad.tensor import Tensor

__all__ = ["SGD", "Adadelta", "Adagrad", "Adam", "AdamW", "Adamax", "NAdam", "RAdam", "RMSprop", "Rprop"]


def _at_least(optimizer: str, minimum: float, **options: Any) -> None:
    for name, value in options.items():
        if not float(value) >= minimum:
            raise ValueError(f"{optimizer}: {name} is {value}; it must be at least {minimum:g}")


def _fraction(optimizer: str, **options: Any) -> None:
    for name, value in options.items():
        if not 0 <= value < 1:
            raise ValueError(f"{optimizer}: {name} is {value}; it must be in [0, 1)")


class _Stateful(Optimizer):
    """An optimizer with a step count and named states for each parameter."""

    def states(self, params: list[Tensor], make: Callable[[Tensor], dict[str, Any]], *names: str) -> list[list[Tensor]]:
        """One list for each name, as long as params; `make` gives a parameter's first state."""
        every = []
        for p in params:
            state = self.state[p]
            if not state:
                state["step"] = core.full((), 0, core.float32, None)
                state.update(make(p))
            every.append(state)
        return [[state[name] for state in every] for name in ("step", *names)]


def _grads(params: list[Tensor]) -> list[Tensor]:
    return [p.grad for p in params]


class SGD(Optimizer):
    """p -= lr (g, or its running sum buf = momentum buf + (1 - dampening) g); nesterov steps by g + momentum buf.

    The first buf is g. Raises ValueError for an option out of range. (Sutskever et al., 2013.)

    >>> w = gg.ones(1, requires_grad=True)
    >>> optimizer = gg.optim.SGD([w], lr=0.1, momentum=0.9)
    >>> for _ in range(2):
    ...     optimizer.zero_grad()
    ...     w.sum().backward()
    ...     optimizer.step()
    >>> w
    tensor([0.7100], requires_grad=True)
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        **options: Any,
    ) -> None:
        _at_least("SGD", 0, lr=lr, momentum=momentum, weight_decay=weight_decay)
        if nesterov and (momentum <= 0 or dampening != 0):
            raise ValueError(f"SGD: nesterov needs a momentum above 0 and dampening 0, not {momentum} and {dampening}")
        super().__init__(
            params,
            {
                "lr": lr,
                "momentum": momentum,
                "dampening": dampening,
                "weight_decay": weight_decay,
                "nesterov": nesterov,
                "maximize": maximize,
            },
            options,
        )

    def update(self, group: dict[str, Any], params: list[Tensor]) -> None:
        buffers: list[Tensor] = []
        fresh: list[bool] = []
        if group["momentum"] != 0:
            for p in params:
                state = self.state[p]
                buffer = state.get("momentum_buffer")
                fresh.append(buffer is None)
                if buffer is None:
                    state["momentum_buffer"] = buffer = zeros_for(p)
                buffers.append(buffer)
        core.sgd_step(
            params,
            _grads(params),
            buffers,
            fresh,
            float(group["lr"]),
            float(group["momentum"]),
            float(group["dampening"]),
            float(group["weight_decay"]),
            group["nesterov"],
            group["maximize"],
        )


class Adam(_Stateful):
    """m += (1 - b1)(g - m), v = b2 v + (1 - b2) g^2, p -= lr m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps).

    `amsgrad` takes the largest v so far. weight_decay is an L2 term of g; AdamW's is decoupled. Raises ValueError for
    an option out of range. (Kingma and Ba, 2015; amsgrad: Reddi, Kale and Kumar, 2018.)

    >>> w = gg.ones(1, requires_grad=True)
    >>> optimizer = gg.optim.Adam([w], lr=0.1)
    >>> w.sum().backward()
    >>> optimizer.step()
    >>> w
    tensor([0.9000], requires_grad=True)
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        decoupled_weight_decay: bool = False,
        **options: Any,
    ) -> None:
        me = type(self).__name__
        _at_least(me, 0, lr=lr, eps=eps, weight_decay=weight_decay)
        _fraction(me, **{"betas[0]": betas[0], "betas[1]": betas[1]})
        super().__init__(
            params,
            {
                "lr": lr,
                "betas": betas,
                "eps": eps,
                "weight_decay": weight_decay,
                "amsgrad": amsgrad,
                "maximize": maximize,
                "decoupled_weight_decay": decoupled_weight_decay,
            },
            options,
        )

    def update(self, group: dict[str, Any], params: list[Tensor]) -> None:
        names = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq") if group["amsgrad"] else ("exp_avg", "exp_avg_sq")
        steps, *states = self.states(params, lambda p: {name: zeros_for(p) for name in names}, *names)
        core.adam_step(
            params,
            _grads(params),
            states[0],
            states[1],
            states[2] if group["amsgrad"] else [],
            steps,
            float(group["lr"]),
            float(group["betas"][0]),
            float(group["betas"][1]),
            float(group["eps"]),
            float(group["weight_decay"]),
            group.get("decoupled_weight_decay", False),
            group["maximize"],
        )


class AdamW(Adam):
    """Adam with decoupled weight decay: p shrinks by lr weight_decay p before each step. (Loshchilov and Hutter, 2019.)

    >>> w = gg.ones(1, requires_grad=True)
    >>> optimizer = gg.optim.AdamW([w], lr=0.1, weight_decay=0.5)
    >>> w.sum().backward()
    >>> optimizer.step()
    >>> w
    tensor([0.8500], requires_grad=True)
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(
            params, lr, betas, eps, weight_decay, amsgrad, maximize=maximize, decoupled_weight_decay=True, **options
        )


class RMSprop(_Stateful):
    """v = alpha v + (1 - alpha) g^2, p -= lr g / (sqrt(v) + eps), through a buffer where momentum > 0.

    `centered` subtracts the square of the running mean of g from v. Raises ValueError for an option out of range.
    (Hinton, lecture 6e, 2012; centred: Graves, 2013.)

    >>> w = gg.ones(1, requires_grad=True)
    >>> optimizer = gg.optim.RMSprop([w], lr=0.01)
    >>> w.sum().backward()
    >>> optimizer.step()
    >>> w
    tensor([0.9000], requires_grad=True)
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum: float = 0,
        centered: bool = False,
        capturable: bool = False,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
    ) -> None:
        _at_least("RMSprop", 0, lr=lr, eps=eps, momentum=momentum, weight_decay=weight_decay, alpha=alpha)
        super().__init__(
            params,
            {
                "lr": lr,
                "momentum": momentum,
                "alpha": alpha,
                "eps": eps,
                "centered": centered,
                "weight_decay": weight_decay,
                "maximize": maximize,
            },
            {"capturable": capturable, "foreach": foreach, "differentiable": differentiable},
        )

    def update(self, group: dict[str, Any], params: list[Tensor]) -> None:
        names = ["square_avg"]
        if group["momentum"] > 0:
            names.append("momentum_buffer")
        if group["centered"]:
            names.append("grad_avg")
        steps, *states = self.states(params, lambda p: {name: zeros_for(p) for name in names}, *names)
        of = dict(zip(names, states))
        core.rmsprop_step(
            params,
            _grads(params),
            of["square_avg"],
            of.get("grad_avg", []),
            of.get("momentum_buffer", []),
            steps,
            float(group["lr"]),
            float(group["alpha"]),
            float(group["eps"]),
            float(group["weight_decay"]),
            float(group["momentum"]),
            group["maximize"],
        )


class Adagrad(_Stateful):
    """sum += g^2, p -= lr / (1 + (t - 1) lr_decay) g / (sqrt(sum) + eps).

    Raises ValueError for an option out of range. (Duchi, Hazan and Singer, 2011.)

    >>> w = gg.ones(1, requires_grad=True)
    >>> optimizer = gg.optim.Adagrad([w], lr=0.1)
    >>> w.sum().backward()
    >>> optimizer.step()
    >>> w
    tensor([0.9000], requires_grad=True)
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1e-2,
        lr_decay: float = 0,
        weight_decay: float = 0,
        initial_accumulator_value: float = 0,
        eps: float = 1e-10,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        **options: Any,
    ) -> None:
        _at_least("Adagrad", 0, lr=lr, lr_decay=lr_decay, weight_decay=weight_decay, eps=eps)
        _at_least("Adagrad", 0, initial_accumulator_value=initial_accumulator_value)
        super().__init__(
            params,
            {
                "lr": lr,
                "lr_decay": lr_decay,
                "eps": eps,
                "weight_decay": weight_decay,
                "initial_accumulator_value": initial_accumulator_value,
                "maximize": maximize,
            },
            {"foreach": foreach, **options},
        )
        for group in self.param_groups:
            self._first(group, group["params"])

    def _first(self, group: dict[str, Any], params: list[Tensor]) -> list[list[Tensor]]:
        value = group["initial_accumulator_value"]
        return self.states(params, lambda p: {"sum": core.full(p.shape, value, p.dtype, p.device)}, "sum")

    def update(self, group: dict[str, Any], params: list[Tensor]) -> None:
        steps, sums = self._first(group, params)
        core.adagrad_step(
            params,
            _grads(params),
            sums,
            steps,
            float(group["lr"]),
            float(group["lr_decay"]),
            float(group["eps"]),
            float(group["weight_decay"]),
            group["maximize"],
        )


class Adadelta(_Stateful):
    """v = rho v + (1 - rho) g^2, u = sqrt(d + eps) / sqrt(v + eps) g, d = rho d + (1 - rho) u^2, p -= lr u.

    Raises ValueError for an option out of range. (Zeiler, 2012.)

    >>> w = gg.ones(1, requires_grad=True)
    >>> optimizer = gg.optim.Adadelta([w])
    >>> w.sum().backward()
    >>> optimizer.step()
    >>> w
    tensor([0.9968], requires_grad=True)
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1.0,
        rho: float = 0.9,
        eps: float = 1e-6,
        weight_decay: float = 0,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        **options: Any,
    ) -> None:
        _at_least("Adadelta", 0, lr=lr, eps=eps, weight_decay=weight_decay)
        if not 0 <= rho <= 1:
            raise ValueError(f"Adadelta: rho is {rho}; it must be in [0, 1]")
        super().__init__(
            params,
            {"lr": lr, "rho": rho, "eps": eps, "weight_decay": weight_decay, "maximize": maximize},
            {"foreach": foreach, **options},
        )

    def update(self, group: dict[str, Any], params: list[Tensor]) -> None:
        names = ("square_avg", "acc_delta")
        steps, squares, deltas = self.states(params, lambda p: {name: zeros_for(p) for name in names}, *names)
        core.adadelta_step(
            params,
            _grads(params),
            squares,
            deltas,
            steps,
            float(group["lr"]),
            float(group["rho"]),
            float(group["eps"]),
            float(group["weight_decay"]),
            group["maximize"],
        )


class Adamax(_Stateful):
    """m += (1 - b1)(g - m), u = max(b2 u, |g| + eps), p -= lr / (1 - b1^t) m / u.

    Raises ValueError for an option out of range. (Kingma and Ba, 2015.)

    >>> w = gg.ones(1, requires_grad=True)
    >>> optimizer = gg.optim.Adamax([w], lr=0.1)
    >>> w.sum().backward()
    >>> optimizer.step()
    >>> w
    tensor([0.9000], requires_grad=True)
    """

    def __init__(
        self,
        params: Params,
        lr: float = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        **options: Any,
    ) -> None:
        _at_least("Adamax", 0, lr=lr, eps=eps, weight_decay=weight_decay)
        _fraction("Adamax", **{"betas[0]": betas[0], "betas[1]": betas[1]})
        super().__init__(
            params,
            {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "maximize": maximize},
            {"foreach": foreach, **options},
        )

    def update(self, group: dict[str, Any], params: list[Tensor]) -> None:
        names = ("exp_avg", "exp_inf")
        steps, averages, largest = self.states(params, lambda p: {name: zeros_for(p) for name in names}, *names)
        core.adamax_step(
            params,
            _grads(params),
            averages,
            largest,
            steps,
            float(group["lr"]),
            float(group["betas"][0]),
            float(group["betas"][1]),
            float(group["eps"]),
            float(group["weight_decay"]),
            group["maximize"],
        )


class NAdam(_Stateful):
    """Adam that looks ahead along its momentum, whose weight mu_t = b1 (1 - 0.96^(t momentum_decay) / 2) grows.

    Raises ValueError for an option out of range. (Dozat, 2016.)

    >>> w = gg.ones(1, requires_grad=True)
    >>> optimizer = gg.optim.NAdam([w], lr=0.1)
    >>> w.sum().backward()
    >>> optimizer.step()
    >>> w
    tensor([0.8944], requires_grad=True)
    """

    def __init__(
        self,
        params: Params,
        lr: float = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum_decay: float = 4e-3,
        decoupled_weight_decay: bool = False,
        *,
        maximize: bool = False,
        **options: Any,
    ) -> None:
        _at_least("NAdam", 0, lr=lr, eps=eps, weight_decay=weight_decay, momentum_decay=momentum_decay)
        _fraction("NAdam", **{"betas[0]": betas[0], "betas[1]": betas[1]})
        super().__init__(
            params,
            {
                "lr": lr,
                "betas": betas,
                "eps": eps,
                "weight_decay": weight_decay,
                "momentum_decay": momentum_decay,
                "decoupled_weight_decay": decoupled_weight_decay,
                "maximize": maximize,
            },
            options,
        )

    def update(self, group: dict[str, Any], params: list[Tensor]) -> None:
        def make(p: Tensor) -> dict[str, Any]:
            return {
                "mu_product": core.full((), 1, core.float32, None),
                "exp_avg": zeros_for(p),
                "exp_avg_sq": zeros_for(p),
            }

        steps, products, averages, squares = self.states(params, make, "mu_product", "exp_avg", "exp_avg_sq")
        core.nadam_step(
            params,
            _grads(params),
            averages,
            squares,
            products,
            steps,
            float(group["lr"]),
            float(group["betas"][0]),
            float(group["betas"][1]),
            float(group["eps"]),
            float(group["weight_decay"]),
            float(group["momentum_decay"]),
            group["decoupled_weight_decay"],
            group["maximize"],
        )


class RAdam(_Stateful):
    """Adam whose adaptive step is rectified by its variance, and plain momentum while that is not tractable (t small).

    Raises ValueError for an option out of range. (Liu et al., 2020.)

    >>> w = gg.ones(1, requires_grad=True)
    >>> optimizer = gg.optim.RAdam([w], lr=0.1)
    >>> w.sum().backward()
    >>> optimizer.step()
    >>> w
    tensor([0.9000], requires_grad=True)
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        decoupled_weight_decay: bool = False,
        *,
        maximize: bool = False,
        **options: Any,
    ) -> None:
        _at_least("RAdam", 0, lr=lr, eps=eps, weight_decay=weight_decay)
        _fraction("RAdam", **{"betas[0]": betas[0], "betas[1]": betas[1]})
        super().__init__(
            params,
            {
                "lr": lr,
                "betas": betas,
                "eps": eps,
                "weight_decay": weight_decay,
                "decoupled_weight_decay": decoupled_weight_decay,
                "maximize": maximize,
            },
            options,
        )

    def update(self, group: dict[str, Any], params: list[Tensor]) -> None:
        names = ("exp_avg", "exp_avg_sq")
        steps, averages, squares = self.states(params, lambda p: {name: zeros_for(p) for name in names}, *names)
        core.radam_step(
            params,
            _grads(params),
            averages,
            squares,
            steps,
            float(group["lr"]),
            float(group["betas"][0]),
            float(group["betas"][1]),
            float(group["eps"]),
            float(group["weight_decay"]),
            group["decoupled_weight_decay"],
            group["maximize"],
        )


class Rprop(_Stateful):
    """p -= sign(g) size, where an element's size grows while its gradient keeps its sign and shrinks where it turns.

    Raises ValueError for an option out of range. (Riedmiller and Braun, 1993.)

    >>> w = gg.ones(1, requires_grad=True)
    >>> optimizer = gg.optim.Rprop([w], lr=0.1)
    >>> w.sum().backward()
    >>> optimizer.step()
    >>> w
    tensor([0.9000], requires_grad=True)
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1e-2,
        etas: tuple[float, float] = (0.5, 1.2),
        step_sizes: tuple[float, float] = (1e-6, 50),
        *,
        maximize: bool = False,
        **options: Any,
    ) -> None:
        _at_least("Rprop", 0, lr=lr)
        if not 0 < etas[0] < 1 < etas[1]:
            raise ValueError(f"Rprop: etas are {etas}; 0 < etas[0] < 1 < etas[1] is needed")
        super().__init__(params, {"lr": lr, "etas": etas, "step_sizes": step_sizes, "maximize": maximize}, options)

    def update(self, group: dict[str, Any], params: list[Tensor]) -> None:
        def make(p: Tensor) -> dict[str, Any]:
            return {"prev": zeros_for(p), "step_size": core.full(p.shape, float(group["lr"]), p.dtype, p.device)}

        steps, previous, sizes = self.states(params, make, "prev", "step_size")
        core.rprop_step(
            params,
            _grads(params),
            previous,
            sizes,
            steps,
            float(group["etas"][0]),
            float(group["etas"][1]),
            float(group["step_sizes"][0]),
            float(group["step_sizes"][1]),
            group["maximize"],
        )
