"""Trainings on a device follow the CPU's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import glassgrad as gg
from glassgrad import demo
from test_op_table_device import DEVICE

F = gg.nn.functional


@pytest.mark.parametrize(("optimizer", "steps"), [("SGD", 23), ("Adam", 5)])
def test_demo_network(optimizer: str, steps: int) -> None:
    """The demo's network over all its digits (an epoch is 23 steps): every loss is the CPU's to 1e-4.

    Adam divides gradients by their own size, so that it makes the rounding of tiny ones as large as any: two float32
    runs of it part after a few steps, whatever computes them.
    """
    pytest.importorskip("sklearn")
    images, labels, *_ = demo.load_digits(None)

    def train(device: str) -> list[float]:
        gg.manual_seed(0)
        model = demo.make_model(images.shape[-1]).to(device)
        rule: Any = getattr(gg.optim, optimizer)(model.parameters(), lr=0.05 if optimizer == "SGD" else 2e-3)
        losses = []
        for batch in gg.randperm(len(labels)).split(demo.BATCH)[:steps]:
            loss = F.cross_entropy(model(images[batch].to(device)), labels[batch].to(device))
            rule.zero_grad()
            loss.backward()
            rule.step()
            losses.append(float(loss))
        return losses

    there, here = train(DEVICE), train("cpu")
    assert len(there) == steps
    np.testing.assert_allclose(there, here, rtol=0, atol=1e-4)


class Block(gg.nn.Module):
    """A Transformer block over embedded tokens, with a class for each sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = gg.nn.Embedding(50, 32)
        self.norm = gg.nn.LayerNorm(32)
        self.attention = gg.nn.MultiheadAttention(32, 4, batch_first=True)
        self.hidden = gg.nn.Linear(32, 64)
        self.out = gg.nn.Linear(64, 5)
        self.dropout = gg.nn.Dropout(0.1)

    def forward(self, tokens: Any) -> Any:
        x = self.embedding(tokens)
        y = self.norm(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        return self.out(F.gelu(self.hidden(self.dropout(x)))).mean(1)


@pytest.mark.parametrize("optimizer", ["SGD", "AdamW"])
def test_attention_network(optimizer: str) -> None:
    gg.manual_seed(0)
    tokens, targets = gg.randint(0, 50, (6, 12)), gg.randint(0, 5, (6,))

    def train(device: str) -> tuple[list[float], list[Any]]:
        gg.manual_seed(1)
        model = Block().to(device)
        steps = getattr(gg.optim, optimizer)(model.parameters(), lr=0.01)
        x, y = tokens.to(device), targets.to(device)
        losses = []
        for _ in range(4):
            steps.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            gg.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            steps.step()
            losses.append(float(loss))
        return losses, [p.detach().cpu().numpy() for p in model.parameters()]

    (there, weights), (here, expected) = train(DEVICE), train("cpu")
    np.testing.assert_allclose(there, here, rtol=1e-5, atol=1e-5)
    if optimizer == "AdamW":  # the gradient by the keys' bias is zero but for rounding, which Adam makes large
        return
    for a, b in zip(weights, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("dtype", [gg.bfloat16, gg.float16])
def test_autocast_network(dtype: Any) -> None:
    """Mixed precision on the device: losses fall, and stay near full precision's."""
    gg.manual_seed(0)
    x, y = gg.randn(64, 40), gg.randint(0, 4, (64,))

    def train(mixed: bool) -> list[float]:
        gg.manual_seed(1)
        model = gg.nn.Sequential(gg.nn.Linear(40, 64), gg.nn.ReLU(), gg.nn.Linear(64, 4)).to(DEVICE)
        optimizer = gg.optim.Adam(model.parameters(), lr=0.01)
        scaler = gg.amp.GradScaler(enabled=mixed and dtype is gg.float16)
        there, targets = x.to(DEVICE), y.to(DEVICE)
        losses = []
        for _ in range(8):
            optimizer.zero_grad()
            with gg.autocast(DEVICE, dtype=dtype, enabled=mixed):
                loss = F.cross_entropy(model(there), targets)
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
            losses.append(float(loss))
        return losses

    mixed, full = train(True), train(False)
    assert mixed[-1] < 0.7 * mixed[0]
    np.testing.assert_allclose(mixed, full, rtol=0.03)
