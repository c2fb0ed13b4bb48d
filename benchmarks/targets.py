"""The families of cases and the figures that each is to reach: PyTorch eager's time over glassgrad's."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    """A family's figures: no case under `least`, and a geometric mean of at least `mean`."""

    title: str
    least: float
    mean: float


TARGETS = {
    "overhead": Target("per-op overhead", 4, 5),
    "chain": Target("backward of a chain of 100 tiny ops", 4, 5),
    "matmul": Target("matmul", 0.95, 1.1),
    "linear": Target("linear + bias + activation", 1.0, 1.3),
    "conv": Target("convolution, forward", 1.0, 1.5),
    "conv grad": Target("convolution, forward and both gradients", 1.2, 1.8),
    "attention": Target("attention, forward", 1.4, 1.8),
    "attention grad": Target("attention, forward + backward", 1.4, 1.8),
    "attention causal": Target("attention, causal", 2.0, 2.5),
    "pool": Target("pooling, forward and backward", 4, 8),
    "batch norm": Target("batch norm, train", 2, 3),
    "norm": Target("layer norm, rms norm, softmax", 1.3, 1.8),
    "cross entropy": Target("cross-entropy", 2.5, 4),
    "dropout": Target("dropout", 6, 12),
    "elementwise": Target("elementwise, broadcast, copies, transposes", 1.0, 2.0),
    "reduce": Target("reductions, embedding", 1.0, 1.3),
    "optimizer": Target("optimizer step with clipping", 1.5, 2.5),
    "order": Target("sorting, gather/scatter, cumulative ops", 0.8, 1.2),
    "step": Target("training steps against eager", 1.3, 1.7),
    "other": Target("other ops", 1.0, 1.0),
}
COMPILED = Target("training steps against torch.compile", 0.9, 1.1)

LEAST_SHARE = 0.4  # of the limit, for every case that takes longer than LONG
MEAN_SHARE = 0.65  # geometric mean of those shares
LONG = 100e-6  # seconds

# Files of tests/rows whose ops are a family of their own; further rows are told apart in family_of.
_FILES = {
    "activation": "elementwise",
    "creation": "elementwise",
    "elementwise": "elementwise",
    "embedding": "reduce",
    "index": "order",
    "layout": "elementwise",
    "matmul": "matmul",
    "norm": "norm",
    "pool": "pool",
    "reduce": "reduce",
    "scan": "order",
    "softmax": "norm",
    "sort": "order",
}


def family_of(file: str, name: str, backward: bool, causal: bool) -> str:
    """The family of a row's sample."""
    if file == "conv":
        return "conv grad" if backward else "conv"
    if file == "attention":
        return "attention causal" if causal else "attention grad" if backward else "attention"
    named = {"linear": "linear", "batch_norm": "batch norm", "cross_entropy": "cross entropy", "dropout": "dropout"}
    return named.get(name, _FILES.get(file, "other"))
