"""The default random number generator, under torch.random's names."""

from __future__ import annotations

from glassgrad._core import Generator, default_generator
from glassgrad.ops.random import fork_rng, get_rng_state, initial_seed, manual_seed, seed, set_rng_state

__all__ = [
    "Generator",
    "default_generator",
    "fork_rng",
    "get_rng_state",
    "initial_seed",
    "manual_seed",
    "seed",
    "set_rng_state",
]
