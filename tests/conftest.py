"""Fixtures of the whole suite."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

import glassgrad as gg


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
