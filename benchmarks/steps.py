"""Whole training steps, optimizer steps and the backward of a chain: one source for both libraries.

A builder takes the library, `torch` or `glassgrad`, and returns a `Job`. A new model is one function and one line of
`STEPS`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

Library = Any


class NoCounterpart(NotImplementedError):
    """A library has nothing to compare with this case."""


@dataclass
class Job:
    """Something to be called again and again; `check` gives arrays that must be the same in both libraries."""

    call: Callable[[], Any]
    check: Callable[[], list[Any]]
    moved: float = 0.0
    live: float = 0.0  # bytes of everything that a call touches


def fill(L: Library, model: Any) -> None:
    """Random weights, the same for every library: normal, scaled by the inputs of a unit; biases zero."""
    generator = np.random.default_rng(0)
    with L.no_grad():
        for p in model.parameters():
            if p.dim() > 1:
                shape = tuple(p.shape)
                values = generator.standard_normal(shape) / math.sqrt(math.prod(shape[1:]))
                p.copy_(L.from_numpy(values.astype(np.float32)))
            elif abs(float(p.detach().numpy().mean()) - 1) > 1e-6:  # the scales of a norm stay at one
                p.copy_(L.zeros(*p.shape))


def classifier(make: Callable[[Library], Any], shape: tuple[int, ...], L: Library, compile: bool = False) -> Job:
    """A training step: forward, cross-entropy, backward, Adam."""
    generator = np.random.default_rng(1)
    x = L.from_numpy(generator.standard_normal(shape).astype(np.float32))
    y = L.from_numpy(generator.integers(0, 10, shape[0]))
    model = make(L)
    fill(L, model)
    optimizer = L.optim.Adam(model.parameters(), lr=1e-3)

    def loss_of(x: Any, y: Any) -> Any:
        return L.nn.functional.cross_entropy(model(x), y)

    forward = L.compile(loss_of) if compile else loss_of

    def step() -> Any:
        optimizer.zero_grad()
        loss = forward(x, y)
        loss.backward()
        optimizer.step()
        return loss

    def check() -> list[Any]:
        """Three losses without dropout, whose random numbers are each library's own."""
        layers = [m for m in model.modules() if isinstance(m, L.nn.Dropout)]
        rates = [m.p for m in layers]
        for m in layers:
            m.p = 0.0
        losses = [np.asarray(step().item()) for _ in range(3)]
        for m, p in zip(layers, rates, strict=True):
            m.p = p
        return losses

    size = 4.0 * sum(math.prod(tuple(p.shape)) for p in model.parameters())
    return Job(step, check, live=4 * size)  # parameters, gradients and Adam's two states


def tiny(L: Library) -> Any:
    """A little of every layer."""
    nn = L.nn
    return nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(18, 10)
    )


def mlp(L: Library) -> Any:
    nn = L.nn
    return nn.Sequential(
        nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10)
    )  # fmt: skip


def mnist_cnn(L: Library) -> Any:
    """Keras's example: two convolutions with pooling, half of the features dropped."""
    nn = L.nn
    return nn.Sequential(
        *(nn.Conv2d(1, 32, 3), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Dropout(0.5), nn.Linear(1600, 10)),
    )


def cifar_cnn(L: Library) -> Any:
    nn = L.nn
    blocks: list[Any] = []
    for inside, outside in ((3, 32), (32, 64), (64, 128)):
        blocks += [nn.Conv2d(inside, outside, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*blocks, nn.Flatten(), nn.Linear(128 * 4 * 4, 10))


def resnet18(L: Library) -> Any:
    """ResNet-18 (He et al., 2015) for 32 x 32 images: a 3x3 stem without pooling."""
    nn = L.nn

    class Block(nn.Module):  # type: ignore[misc]
        def __init__(self, inside: int, outside: int, stride: int) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(inside, outside, 3, stride=stride, padding=1, bias=False)
            self.bn1 = nn.BatchNorm2d(outside)
            self.conv2 = nn.Conv2d(outside, outside, 3, padding=1, bias=False)
            self.bn2 = nn.BatchNorm2d(outside)
            self.shortcut = nn.Sequential()
            if stride > 1 or inside != outside:
                self.shortcut = nn.Sequential(
                    nn.Conv2d(inside, outside, 1, stride=stride, bias=False), nn.BatchNorm2d(outside)
                )

        def forward(self, x: Any) -> Any:
            relu = L.nn.functional.relu
            y = self.bn2(self.conv2(relu(self.bn1(self.conv1(x)))))
            return relu(y + self.shortcut(x))

    layers: list[Any] = [nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64), nn.ReLU()]
    inside = 64
    for outside, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
        layers += [Block(inside, outside, stride), Block(outside, outside, 1)]
        inside = outside
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10))


Builder = Callable[..., Job]
STEPS: list[tuple[str, Builder, bool]] = [  # title, builder, whether a quick run has it
    ("MLP 784-512-512-10, batch 1", functools.partial(classifier, mlp, (1, 784)), False),
    ("MLP 784-512-512-10, batch 64", functools.partial(classifier, mlp, (64, 784)), True),
    ("MNIST CNN, batch 32", functools.partial(classifier, mnist_cnn, (32, 1, 28, 28)), True),
    ("CIFAR CNN, batch 64", functools.partial(classifier, cifar_cnn, (64, 3, 32, 32)), False),
    ("ResNet-18 at 32x32, batch 32", functools.partial(classifier, resnet18, (32, 3, 32, 32)), False),
]


def optimizer_step(name: str, variant: str, L: Library) -> Job:
    """clip_grad_norm_ and one step for 20 layers of 512 x 512, 5.25 million parameters."""
    generator = np.random.default_rng(2)
    parameters = []
    for _ in range(20):
        for shape in ((512, 512), (512,)):
            p = L.nn.Parameter(L.from_numpy(generator.standard_normal(shape).astype(np.float32)))
            p.grad = L.from_numpy(generator.standard_normal(shape).astype(np.float32))
            parameters.append(p)
    settings = {"momentum": 0.9} if name == "SGD" else {}
    theirs = {variant: True} if L.__name__ == "torch" else {}
    optimizer = getattr(L.optim, name)(parameters, lr=1e-3, **settings, **theirs)

    def step() -> None:
        L.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()

    def check() -> list[Any]:
        for _ in range(3):
            step()
        return [p.detach().numpy().copy() for p in parameters[:4]]

    size = 4.0 * sum(math.prod(tuple(p.shape)) for p in parameters)
    states = 1 if name == "SGD" else 2
    # The norm reads the gradients once; clipping may fold into the step, which reads and writes the gradients, the
    # parameters and each state.
    return Job(step, check, moved=size * (1 + 2 + 2 + 2 * states), live=size * (2 + states))


OPTIMIZERS: list[tuple[str, Builder, bool]] = [
    (f"{name} against {variant}", functools.partial(optimizer_step, name, variant), name == "Adam")
    for name in ("Adam", "AdamW", "SGD")
    for variant in ("foreach", "fused")
]


def chain(L: Library) -> Job:
    """Backward of 100 additions and multiplications of 8 x 8, over a graph that is kept."""
    generator = np.random.default_rng(3)
    x, b = (L.from_numpy(generator.standard_normal((8, 8)).astype(np.float32)) for _ in range(2))
    x.requires_grad_(True)
    y = x
    for _ in range(50):
        y = (y + b) * 1.01
    cotangent = L.ones(8, 8)

    def call() -> None:
        x.grad = None
        y.backward(cotangent, retain_graph=True)

    def check() -> list[Any]:
        call()
        return [x.grad.numpy().copy()]

    return Job(call, check)
