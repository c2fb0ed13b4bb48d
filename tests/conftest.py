"""Fixtures of the whole suite."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest

os.environ.setdefault("GLASSGRAD_POISON", "1")  # before the core is loaded: unwritten memory of the CPU holds NaNs

import glassgrad as gg

# Memory of simt can be touched by kernels and copies only, as a GPU's: read when simt is loaded.
os.environ.setdefault("GLASSGRAD_SIMT_LOCK", "1")


@pytest.fixture
def isas() -> list[str]:
    """The ISAs that this build holds and this machine can run, slowest first."""
    return list(gg._core.supported_isas())


@pytest.fixture
def set_isa() -> Iterator[Callable[[str], None]]:
    """Choose the ISA of the kernels; the one in use comes back afterwards."""
    before = gg._core.get_isa()
    yield gg._core.set_isa
    gg._core.set_isa(before)


@pytest.fixture
def set_architecture() -> Iterator[Callable[[int], None]]:
    """Choose which GPU simt is, so that kernels for older ones run too; the one it was comes back afterwards."""
    if os.environ.get("GLASSGRAD_TEST_DEVICE", "simt") != "simt":
        yield lambda number: None  # a GPU is what it is
        return
    import glassgrad._simt as simt

    before = simt.get_architecture()
    yield simt.set_architecture
    simt.set_architecture(before)
