"""Summaries: shapes, parameters and operations against closed forms."""

from __future__ import annotations

import glassgrad as gg
from glassgrad import nn


def test_summary_counts():
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, groups=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.ConvTranspose2d(8, 4, 2, stride=2),
        nn.Flatten(),
        nn.Linear(4 * 8 * 8, 10, bias=False),
    )
    facts = gg.inspect.summary(model, gg.zeros(2, 3, 8, 8))
    assert [layer.shape for layer in facts.layers] == [
        (2, 8, 8, 8), (2, 8, 8, 8), (2, 8, 4, 4), (2, 4, 8, 8), (2, 256), (2, 10),
    ]  # fmt: skip
    assert [layer.parameters for layer in facts.layers] == [8 * 27 + 8, 0, 0, 8 * 4 * 4 + 4, 0, 2560]
    conv, transposed, linear = 2 * 2 * 8 * 64 * 27, 2 * (2 * 8 * 16) * (4 * 4), 2 * 2 * 10 * 256
    assert [layer.flops for layer in facts.layers] == [conv, 1024, 2 * 8 * 16 * 4, transposed, 0, linear]
    assert facts.parameters == sum(p.numel() for p in model.parameters())
    assert "ConvTranspose2d" in str(facts) and f"{facts.flops:,}" in str(facts)
    assert model.training and not any(m._forward_hooks for m in model.modules())


def test_shared_parameters_count_once():
    layer = nn.Linear(4, 4)
    assert gg.inspect.summary(nn.Sequential(layer, nn.Tanh(), layer), gg.zeros(1, 4)).parameters == 20


def test_config_says_what_is_used():
    facts = gg.config()
    assert {"version", "isa", "isas", "threads", "devices", "compiler", "numpy"} <= set(facts)


def test_torch_utils_places():
    from glassgrad.utils.checkpoint import checkpoint
    from glassgrad.utils.data import DataLoader

    assert DataLoader is gg.data.DataLoader and checkpoint is gg.autograd.checkpoint
