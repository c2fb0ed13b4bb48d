"""Optimizers and schedules: trajectories beside PyTorch's, state dicts, hooks, errors, threads."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import glassgrad as gg
from glassgrad.optim import lr_scheduler

try:
    import torch
except ImportError:
    torch = None

with_torch = pytest.mark.skipif(torch is None, reason="PyTorch, the reference here, is not installed")

RULES: list[tuple[str, dict[str, Any]]] = [
    ("SGD", {"lr": 0.1}),
    ("SGD", {"lr": 0.1, "momentum": 0.9}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.3, "weight_decay": 0.1}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True, "maximize": True}),
    ("Adam", {"lr": 0.05}),
    ("Adam", {"lr": 0.05, "betas": (0.8, 0.9), "eps": 1e-3, "weight_decay": 0.1}),
    ("Adam", {"lr": 0.05, "amsgrad": True, "maximize": True}),
    ("AdamW", {"lr": 0.05}),
    ("AdamW", {"lr": 0.05, "weight_decay": 0.2, "amsgrad": True}),
    ("RMSprop", {"lr": 0.02}),
    ("RMSprop", {"lr": 0.02, "centered": True, "momentum": 0.5, "weight_decay": 0.1}),
    ("RMSprop", {"lr": 0.02, "alpha": 0.8, "momentum": 0.5, "maximize": True}),
    ("Adagrad", {"lr": 0.1}),
    ("Adagrad", {"lr": 0.1, "lr_decay": 0.1, "weight_decay": 0.1, "initial_accumulator_value": 0.5}),
    ("Adadelta", {}),
    ("Adadelta", {"lr": 0.5, "rho": 0.8, "weight_decay": 0.1, "maximize": True}),
    ("Adamax", {"lr": 0.05}),
    ("Adamax", {"lr": 0.05, "betas": (0.8, 0.9), "weight_decay": 0.1, "maximize": True}),
    ("NAdam", {"lr": 0.05}),
    ("NAdam", {"lr": 0.05, "weight_decay": 0.1, "momentum_decay": 0.1}),
    ("NAdam", {"lr": 0.05, "weight_decay": 0.1, "decoupled_weight_decay": True}),
    ("RAdam", {"lr": 0.05}),
    ("RAdam", {"lr": 0.05, "betas": (0.8, 0.9), "weight_decay": 0.1}),
    ("RAdam", {"lr": 0.05, "weight_decay": 0.1, "decoupled_weight_decay": True, "maximize": True}),
    ("Rprop", {"lr": 0.05}),
    ("Rprop", {"lr": 0.05, "etas": (0.4, 1.5), "step_sizes": (1e-3, 0.2)}),
]
each_rule = pytest.mark.parametrize(("name", "options"), RULES, ids=lambda v: v if isinstance(v, str) else "-".join(v))

SHAPES = [(7,), (3, 5), (), (40, 33)]


def starts(seed: int = 0) -> list[np.ndarray]:
    r = np.random.default_rng(seed)
    return [np.asarray(r.standard_normal(shape)) for shape in SHAPES]


def walk(library: Any, name: str, options: dict[str, Any], dtype: str, steps: int = 25) -> list[list[np.ndarray]]:
    """Parameters after each step on gradients that depend on them and change sign."""
    params = [library.tensor(a.tolist(), dtype=getattr(library, dtype)) for a in starts()]
    for p in params:
        p.requires_grad_()
    optimizer = getattr(library.optim, name)(params, **options)
    path = []
    for t in range(steps):
        optimizer.zero_grad()
        loss = sum(((p - (-1) ** (t // 4)) ** 2 * (i + 1)).sum() for i, p in enumerate(params))
        loss.backward()
        optimizer.step()
        path.append([np.array(p.detach().double().numpy()) for p in params])
    return path


@with_torch
@each_rule
def test_trajectory(name: str, options: dict[str, Any]) -> None:
    ours, theirs = walk(gg, name, options, "float64"), walk(torch, name, options, "float64")
    for t, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        for x, y in zip(a, b, strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-6, atol=1e-7, err_msg=f"step {t + 1}")


@with_torch
@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW", "RMSprop"])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-4), ("float16", 0.05), ("bfloat16", 0.2)])
def test_trajectory_dtypes(name: str, dtype: str, tolerance: float) -> None:
    ours, theirs = walk(gg, name, {"lr": 0.01}, dtype, 20), walk(torch, name, {"lr": 0.01}, dtype, 20)
    for x, y in zip(ours[-1], theirs[-1], strict=True):
        np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance)


@each_rule
def test_threads_bitwise(name: str, options: dict[str, Any]) -> None:
    threads = gg.get_num_threads()
    try:
        final = []
        for n in (1, 2, 5):
            gg.set_num_threads(n)
            p = gg.tensor(np.linspace(-1, 1, 70001, dtype=np.float32))
            p.requires_grad_()
            optimizer = getattr(gg.optim, name)([p], **options)
            for _ in range(3):
                p.grad = (p.detach() * 3).cos()
                optimizer.step()
            final.append(p.detach().numpy().copy())
        assert (final[0] == final[1]).all()
        assert (final[0] == final[2]).all()
    finally:
        gg.set_num_threads(threads)


@with_torch
@each_rule
def test_state_dict_has_torchs_layout(name: str, options: dict[str, Any]) -> None:
    def state(library: Any) -> dict[str, Any]:
        p = library.ones(3, requires_grad=True)
        optimizer = getattr(library.optim, name)([p], **options)
        p.sum().backward()
        optimizer.step()
        return optimizer.state_dict()

    ours, theirs = state(gg), state(torch)
    assert ours["state"].keys() == theirs["state"].keys()
    for n, values in theirs["state"].items():
        kept = {k for k, v in values.items() if v is not None}
        assert ours["state"][n].keys() == kept
        for k in kept:
            np.testing.assert_allclose(np.asarray(ours["state"][n][k]), np.asarray(values[k]), rtol=1e-6, err_msg=k)
    assert theirs["param_groups"][0].keys() <= ours["param_groups"][0].keys() | {"decoupled_weight_decay"}
    assert ours["param_groups"][0]["params"] == [0]


def params_of(*arrays: np.ndarray) -> list[Any]:
    params = [gg.tensor(a.astype(np.float32)) for a in arrays]
    for p in params:
        p.requires_grad_()
    return params


def some_steps(optimizer: Any, params: list[Any], n: int) -> None:
    for _ in range(n):
        optimizer.zero_grad()
        sum((p * p).sum() for p in params).backward()
        optimizer.step()


@each_rule
def test_state_dict_resumes(name: str, options: dict[str, Any]) -> None:
    params = params_of(*starts())
    optimizer = getattr(gg.optim, name)(params, **options)
    some_steps(optimizer, params, 3)
    twins = [p.detach().clone().requires_grad_() for p in params]
    twin = getattr(gg.optim, name)(twins, **options)
    twin.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    some_steps(optimizer, params, 3)
    some_steps(twin, twins, 3)
    for p, q in zip(params, twins, strict=True):
        assert (p.detach().numpy() == q.detach().numpy()).all()


def test_state_takes_the_parameters_dtype() -> None:
    params = params_of(np.ones(3))
    optimizer = gg.optim.Adam(params)
    some_steps(optimizer, params, 1)
    halves = [gg.ones(3, dtype=gg.float16, requires_grad=True)]
    twin = gg.optim.Adam(halves)
    twin.load_state_dict(optimizer.state_dict())
    assert twin.state[halves[0]]["exp_avg"].dtype is gg.float16
    assert twin.state[halves[0]]["step"].dtype is gg.float32


def test_groups_have_their_own_options() -> None:
    a, b, c = params_of(np.ones(2), np.ones(2), np.ones(2))
    optimizer = gg.optim.SGD([{"params": [a]}, {"params": b, "lr": 0.5}], lr=0.1)
    optimizer.add_param_group({"params": [("c", c)], "momentum": 0.9})
    assert [g["lr"] for g in optimizer.param_groups] == [0.1, 0.5, 0.1]
    assert optimizer.param_groups[2]["param_names"] == ["c"]
    for p in (a, b, c):
        p.grad = gg.ones(2)
    optimizer.step()
    np.testing.assert_allclose(a.detach().numpy(), 0.9, rtol=1e-6)
    np.testing.assert_allclose(b.detach().numpy(), 0.5, rtol=1e-6)
    assert "momentum_buffer" in optimizer.state[c]
    assert a not in optimizer.state


def test_parameters_without_gradient_stay() -> None:
    a, b = params_of(np.ones(2), np.ones(2))
    optimizer = gg.optim.Adam([a, b])
    a.grad = gg.ones(2)
    optimizer.step()
    assert (b.detach().numpy() == 1).all()
    assert b not in optimizer.state


def test_strided_parameter() -> None:
    base = gg.tensor(np.arange(12, dtype=np.float32).reshape(3, 4))
    view = base.t()
    view.requires_grad_()
    optimizer = gg.optim.SGD([view], lr=1.0, momentum=0.5)
    view.grad = gg.ones(4, 3)
    optimizer.step()
    assert (base.detach().numpy() == np.arange(12).reshape(3, 4) - 1).all()


def test_step_bumps_versions() -> None:
    w, x = params_of(np.ones(2), np.ones(2))
    optimizer = gg.optim.SGD([w], lr=0.1)
    y = (w * x).sum()
    w.grad = gg.ones(2)
    optimizer.step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.backward()


def test_closure_and_hooks() -> None:
    (w,) = params_of(np.ones(2))
    optimizer = gg.optim.SGD([w], lr=0.1)
    calls: list[str] = []

    def closure() -> Any:
        optimizer.zero_grad()
        loss = (w * w).sum()
        loss.backward()
        calls.append("closure")
        return loss

    before = optimizer.register_step_pre_hook(lambda o, args, kwargs: calls.append("before"))
    optimizer.register_step_post_hook(lambda o, args, kwargs: calls.append("after"))
    with gg.no_grad():
        assert optimizer.step(closure).item() == 2.0
    assert calls == ["before", "closure", "after"]
    before.remove()
    optimizer.step(closure)
    assert calls[3:] == ["closure", "after"]


def test_zero_grad() -> None:
    (w,) = params_of(np.ones(2))
    optimizer = gg.optim.SGD([w], lr=0.1)
    w.grad = gg.ones(2)
    optimizer.zero_grad(set_to_none=False)
    assert (w.grad.numpy() == 0).all()
    optimizer.zero_grad()
    assert w.grad is None


def test_pickles() -> None:
    params = params_of(np.ones(2))
    optimizer = gg.optim.Adam(params)
    some_steps(optimizer, params, 2)
    twin = pickle.loads(pickle.dumps(optimizer))
    (state,) = twin.state.values()
    assert state["step"].item() == 2
    twin.step()


def bad_rules() -> list[tuple[Callable[[], Any], type[Exception], str]]:
    w = gg.ones(2, requires_grad=True)
    optim = gg.optim
    return [
        (lambda: optim.SGD([w], lr=-1), ValueError, "SGD: lr is -1"),
        (lambda: optim.SGD([w], momentum=-1), ValueError, "momentum is -1"),
        (lambda: optim.SGD([w], nesterov=True), ValueError, "nesterov"),
        (lambda: optim.Adam([w], betas=(0.9, 1.0)), ValueError, r"betas\[1\] is 1.0"),
        (lambda: optim.Adam([w], eps=-1.0), ValueError, "eps is -1.0"),
        (lambda: optim.Adam([w], lr=float("nan")), ValueError, "lr is nan"),
        (lambda: optim.AdamW([w], weight_decay=-0.5), ValueError, "AdamW: weight_decay is -0.5"),
        (lambda: optim.Adadelta([w], rho=2.0), ValueError, "rho is 2.0"),
        (lambda: optim.Rprop([w], etas=(1.5, 2.0)), ValueError, "etas"),
        (lambda: optim.Adam([w], fast=True), TypeError, "no option 'fast'"),
        (lambda: optim.Adam([w], differentiable=True), ValueError, "differentiable"),
        (lambda: optim.SGD([]), ValueError, "empty list"),
        (lambda: optim.SGD(w), TypeError, "single Tensor"),
        (lambda: optim.SGD([1.0]), TypeError, "float"),
        (lambda: optim.SGD([w * 2]), ValueError, "non-leaf"),
        (lambda: optim.SGD([w, w]), ValueError, "twice"),
        (lambda: optim.SGD([{"params": [w]}, {"params": [w]}]), ValueError, "more than one"),
        (lambda: optim.SGD([{"params": {w}}]), TypeError, "order"),
        (lambda: optim.SGD([w]).load_state_dict({"state": {}, "param_groups": []}), ValueError, "0 parameter groups"),
    ]


@pytest.mark.parametrize("i", range(len(bad_rules())))
def test_bad_options(i: int) -> None:
    call, error, message = bad_rules()[i]
    with pytest.raises(error, match=message):
        call()


# Schedules -----------------------------------------------------------------------------------------------------------

SCHEDULES: dict[str, Callable[[Any, Any], Any]] = {
    "StepLR": lambda s, o: s.StepLR(o, 4, 0.5),
    "MultiStepLR": lambda s, o: s.MultiStepLR(o, [3, 7, 7, 12], 0.5),
    "ConstantLR": lambda s, o: s.ConstantLR(o, 0.25, 6),
    "LinearLR": lambda s, o: s.LinearLR(o, 0.2, 0.9, 8),
    "ExponentialLR": lambda s, o: s.ExponentialLR(o, 0.9),
    "PolynomialLR": lambda s, o: s.PolynomialLR(o, 12, 2.0),
    "CosineAnnealingLR": lambda s, o: s.CosineAnnealingLR(o, 7, 0.01),
    "CosineAnnealingWarmRestarts": lambda s, o: s.CosineAnnealingWarmRestarts(o, 4, 2, 0.01),
    "OneCycleLR": lambda s, o: s.OneCycleLR(o, [0.5, 0.6], total_steps=30),
    "OneCycleLR-linear": lambda s, o: s.OneCycleLR(
        o, 0.5, epochs=5, steps_per_epoch=6, anneal_strategy="linear", three_phase=True
    ),
    "CyclicLR": lambda s, o: s.CyclicLR(o, 0.01, 0.5, 4, 6),
    "CyclicLR-triangular2": lambda s, o: s.CyclicLR(o, 0.01, [0.5, 0.6], 4, mode="triangular2"),
    "CyclicLR-exp_range": lambda s, o: s.CyclicLR(o, 0.01, 0.5, 5, mode="exp_range", gamma=0.9),
    "CyclicLR-scale_fn": lambda s, o: s.CyclicLR(o, 0.01, 0.5, 5, scale_fn=lambda x: 1 / x, cycle_momentum=False),
    "LambdaLR": lambda s, o: s.LambdaLR(o, [lambda e: 0.9**e, lambda e: 1 / (1 + e)]),
    "MultiplicativeLR": lambda s, o: s.MultiplicativeLR(o, lambda e: 0.9 if e % 2 else 1.05),
    "SequentialLR": lambda s, o: s.SequentialLR(
        o, [s.LinearLR(o, 0.1, total_iters=4), s.ExponentialLR(o, 0.9), s.StepLR(o, 3)], [5, 12]
    ),
    "SequentialLR-cosine": lambda s, o: s.SequentialLR(
        o, [s.ConstantLR(o, 0.1, 4), s.CosineAnnealingLR(o, 10)], milestones=[4]
    ),
    "ChainedScheduler": lambda s, o: s.ChainedScheduler([s.ConstantLR(o, 0.1, 4), s.ExponentialLR(o, 0.9)]),
}


def optimizer_of(library: Any, rule: str = "SGD") -> Any:
    groups = [
        {"params": [library.ones(2, requires_grad=True)]},
        {"params": [library.ones(2, requires_grad=True)], "lr": 0.03},
    ]
    options = {"momentum": 0.9} if rule == "SGD" else {}
    return getattr(library.optim, rule)(groups, lr=0.1, **options)


def rates(library: Any, name: str, rule: str, steps: int = 28) -> list[Any]:
    optimizer = optimizer_of(library, rule)
    scheduler = SCHEDULES[name](library.optim.lr_scheduler, optimizer)
    seen = []
    for _ in range(steps):
        groups = optimizer.param_groups
        momentums = [g["momentum"] if rule == "SGD" else g["betas"][0] for g in groups]
        seen.append([*(g["lr"] for g in groups), *scheduler.get_last_lr(), *momentums])
        optimizer.step()
        scheduler.step()
    return seen


@with_torch
@pytest.mark.parametrize("rule", ["SGD", "Adam"])
@pytest.mark.parametrize("name", SCHEDULES)
def test_schedule(name: str, rule: str) -> None:
    np.testing.assert_allclose(rates(gg, name, rule), rates(torch, name, rule), rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedule_resumes(name: str) -> None:
    optimizer, other = optimizer_of(gg), optimizer_of(gg)
    scheduler = SCHEDULES[name](lr_scheduler, optimizer)
    for _ in range(6):
        optimizer.step()
        scheduler.step()
    twin = SCHEDULES[name](lr_scheduler, other)
    other.load_state_dict(optimizer.state_dict())
    twin.load_state_dict(copy.deepcopy(scheduler.state_dict()))
    for _ in range(10):
        scheduler.step()
        twin.step()
        assert scheduler.get_last_lr() == twin.get_last_lr()
        assert scheduler.last_epoch == twin.last_epoch if hasattr(scheduler, "last_epoch") else True


@with_torch
@pytest.mark.parametrize(
    "options",
    [
        {"patience": 1},
        {"patience": 0, "cooldown": 2, "factor": 0.5, "min_lr": [0.02, 0.001]},
        {"mode": "max", "threshold_mode": "abs", "threshold": 0.1, "patience": 2},
        {"mode": "max", "threshold": 0.1, "patience": 1},
        {"threshold_mode": "abs", "threshold": 0.2, "patience": 1},
    ],
    ids=str,
)
def test_plateau(options: dict[str, Any]) -> None:
    metrics = [5.0, 4.0, 4.1, 3.9, 3.9, 3.9, 3.95, 3.0, 3.1, 3.2, 3.3, 3.4, 2.0, 2.0, 2.0, 2.0, 2.1, 2.2, 2.3, 2.4, 2.5]

    def run(library: Any) -> list[list[float]]:
        optimizer = optimizer_of(library)
        scheduler = library.optim.lr_scheduler.ReduceLROnPlateau(optimizer, **options)
        seen = []
        for metric in metrics:
            scheduler.step(metric)
            seen.append(list(scheduler.get_last_lr()))
        return seen

    np.testing.assert_allclose(run(gg), run(torch), rtol=1e-12)


@with_torch
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "name", ["StepLR", "MultiStepLR", "ConstantLR", "LinearLR", "ExponentialLR", "PolynomialLR", "CosineAnnealingLR"]
)
def test_step_to_an_epoch(name: str) -> None:
    def run(library: Any) -> list[list[float]]:
        optimizer = optimizer_of(library)
        scheduler = SCHEDULES[name](library.optim.lr_scheduler, optimizer)
        seen = []
        for epoch in (3, 5, 12, 4):
            scheduler.step(epoch)
            seen.append(list(scheduler.get_last_lr()))
        return seen

    np.testing.assert_allclose(run(gg), run(torch), rtol=1e-12, atol=1e-15)


@with_torch
def test_warm_restarts_at_fractions() -> None:
    def run(library: Any) -> list[list[float]]:
        scheduler = library.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer_of(library), 3, 2)
        seen = []
        for epoch in np.linspace(0, 22, 45):
            scheduler.step(float(epoch))
            seen.append(list(scheduler.get_last_lr()))
        return seen

    np.testing.assert_allclose(run(gg), run(torch), rtol=1e-12, atol=1e-15)


def test_schedule_before_step_warns() -> None:
    scheduler = lr_scheduler.StepLR(optimizer_of(gg), 2)
    with pytest.warns(UserWarning, match="before optimizer.step"):
        scheduler.step()


BAD_SCHEDULES: list[tuple[Callable[[Any], Any], type[Exception], str]] = [
    (lambda o: lr_scheduler.StepLR(None, 2), TypeError, "NoneType is not an Optimizer"),  # type: ignore[arg-type]
    (lambda o: lr_scheduler.StepLR(o, 2, last_epoch=3), KeyError, "initial_lr"),
    (lambda o: lr_scheduler.LambdaLR(o, [abs]), ValueError, "1 values.*2 parameter groups"),
    (lambda o: lr_scheduler.ConstantLR(o, 2.0), ValueError, "factor is 2.0"),
    (lambda o: lr_scheduler.LinearLR(o, 0.0), ValueError, "start_factor"),
    (lambda o: lr_scheduler.OneCycleLR(o, 0.1), ValueError, "total_steps"),
    (lambda o: lr_scheduler.OneCycleLR(o, 0.1, 10, anneal_strategy="sine"), ValueError, "'sine'"),
    (lambda o: lr_scheduler.CyclicLR(o, 0.1, 0.2, mode="square"), ValueError, "'square'"),
    (lambda o: lr_scheduler.CyclicLR(gg.optim.Adagrad([gg.ones(1)]), 0.1, 0.2), ValueError, "neither momentum"),
    (lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 0), ValueError, "T_0 is 0"),
    (lambda o: lr_scheduler.SequentialLR(o, [lr_scheduler.StepLR(o, 2)], [3]), ValueError, "0 milestones, not 1"),
    (lambda o: lr_scheduler.ChainedScheduler([]), ValueError, "at least one"),
    (
        lambda o: lr_scheduler.ChainedScheduler([lr_scheduler.StepLR(o, 2), lr_scheduler.StepLR(optimizer_of(gg), 2)]),
        ValueError,
        "another optimizer",
    ),
    (lambda o: lr_scheduler.ReduceLROnPlateau(o, "mean"), ValueError, "'mean'"),
    (lambda o: lr_scheduler.ReduceLROnPlateau(o, factor=1.0), ValueError, "factor is 1.0"),
]


@pytest.mark.parametrize("i", range(len(BAD_SCHEDULES)))
def test_bad_schedules(i: int) -> None:
    call, error, message = BAD_SCHEDULES[i]
    with pytest.raises(error, match=message):
        call(optimizer_of(gg))
