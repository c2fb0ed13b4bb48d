"""What was built and what is used, and the facts of dtypes."""

from __future__ import annotations

import importlib.util
import os
import platform
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np

from glassgrad import _core as core

__all__ = [
    "can_cast",
    "config",
    "empty_cache",
    "finfo",
    "get_default_dtype",
    "get_num_threads",
    "iinfo",
    "memory_stats",
    "promote_types",
    "reset_peak_memory_stats",
    "result_type",
    "set_default_dtype",
    "set_num_threads",
]


def set_num_threads(n: int) -> None:
    """How many threads a kernel may use; results do not depend on it. GLASSGRAD_NUM_THREADS sets it from outside.

    >>> before = gg.get_num_threads()
    >>> gg.set_num_threads(1)
    >>> gg.get_num_threads()
    1
    >>> gg.set_num_threads(before)
    """
    core.set_num_threads(n)


def get_num_threads() -> int:
    """How many threads a kernel may use: at first one for each core this process may run on.

    >>> gg.get_num_threads() >= 1
    True
    """
    return core.get_num_threads()


def get_default_dtype() -> Any:
    """The dtype of Python floats and of tensors made without one.

    >>> gg.get_default_dtype()
    glassgrad.float32
    """
    return core.get_default_dtype()


def set_default_dtype(d: Any) -> None:
    """Sets the dtype of Python floats and of tensors made without one; it must be floating point.

    >>> gg.set_default_dtype(gg.float64)
    >>> gg.tensor(1.5).dtype
    glassgrad.float64
    >>> gg.set_default_dtype(gg.float32)
    """
    core.set_default_dtype(d)


def empty_cache(device: Any = None) -> None:
    """Gives the memory that a device's allocator (the CPU's if not given) keeps for reuse back to the system.

    >>> gg.empty_cache()
    >>> gg.memory_stats()["cached_bytes"]
    0
    """
    core.empty_cache(device)


def reset_peak_memory_stats(device: Any = None) -> None:
    """Starts the peak of `memory_stats` again from the bytes in use now.

    >>> gg.reset_peak_memory_stats()
    """
    core.reset_peak_memory_stats(device)


def promote_types(type1: Any, type2: Any) -> Any:
    """The smallest dtype of PyTorch's promotion lattice that holds both.

    >>> gg.promote_types(gg.int32, gg.float16)
    glassgrad.float16
    """
    return core.promote_types(type1, type2)


def config() -> dict[str, Any]:
    """What this build can do and what it uses, for a bug report.

    >>> gg.config()["devices"][0]
    'cpu'
    """
    return {
        "version": _version(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "compiler": core.compiler(),
        "devices": ["cpu", *(name for name in ("cuda", "simt") if find_spec(f"glassgrad._{name}"))],
        "isa": core.get_isa(),
        "isas": list(core.supported_isas()),
        "threads": core.get_num_threads(),
        "cpu": platform.machine(),
        "environment": {k: v for k, v in sorted(os.environ.items()) if k.startswith("GLASSGRAD_")},
    }


def _simt() -> list[str]:
    return ["simt"] if importlib.util.find_spec("glassgrad._simt") else []


def _version() -> str:
    from glassgrad import __version__

    return __version__


def memory_stats(device: Any = None) -> dict[str, int]:
    """Counters of a device's allocator, the CPU's if not given.

    Bytes in use, their peak, bytes kept for reuse, requests and cache hits.

    >>> sorted(gg.memory_stats())
    ['allocated_bytes', 'allocations', 'cache_hits', 'cached_bytes', 'peak_allocated_bytes']
    """
    names = ("allocated_bytes", "peak_allocated_bytes", "cached_bytes", "allocations", "cache_hits")
    return dict(zip(names, core.memory_stats(device)))


def result_type(tensor1: Any, tensor2: Any) -> Any:
    """The dtype that arithmetic between the two gives.

    >>> gg.result_type(gg.tensor([1, 2]), 1.0)
    glassgrad.float32
    """
    return core.result_type(tensor1, tensor2)


def can_cast(from_: Any, to: Any) -> bool:
    """Whether PyTorch's casting rules let `from_` become `to` (never to a lower kind: float, int, bool).

    >>> gg.can_cast(gg.float32, gg.int64)
    False
    """

    def kind(t: Any) -> int:
        return 2 if t.is_floating_point else 0 if t is core.bool else 1

    return kind(from_) <= kind(to)


@dataclass(frozen=True)
class finfo:
    """The limits of a floating-point dtype: bits, eps, max, min, tiny, resolution.

    >>> gg.finfo(gg.float32).eps
    1.1920928955078125e-07
    """

    dtype: Any = core.float32

    def __post_init__(self) -> None:
        if not self.dtype.is_floating_point:
            raise TypeError(f"finfo: {self.dtype!r} is not floating point; use gg.iinfo")

    @property
    def bits(self) -> int:
        """Bits of an element."""
        return 8 * int(self.dtype.itemsize)

    @property
    def _format(self) -> tuple[int, int]:  # digits after the point in base 2, largest exponent
        formats = {"float16": (10, 15), "bfloat16": (7, 127), "float32": (23, 127), "float64": (52, 1023)}
        return formats[self.dtype.name]

    @property
    def eps(self) -> float:
        """The distance from 1 to the next larger number."""
        return 2.0 ** -self._format[0]

    @property
    def max(self) -> float:
        """The largest finite number."""
        digits, exponent = self._format
        return (2.0 - 2.0**-digits) * 2.0**exponent

    @property
    def min(self) -> float:
        """The smallest finite number, -max."""
        return -self.max

    @property
    def tiny(self) -> float:
        """The smallest positive normal number."""
        return 2.0 ** (1 - self._format[1])

    smallest_normal = tiny

    @property
    def resolution(self) -> float:
        """The approximate decimal resolution."""
        return {"float16": 1e-3, "bfloat16": 1e-2, "float32": 1e-6, "float64": 1e-15}[self.dtype.name]


@dataclass(frozen=True)
class iinfo:
    """The limits of an integer dtype: bits, max, min.

    >>> gg.iinfo(gg.int8).max
    127
    """

    dtype: Any = core.int64

    def __post_init__(self) -> None:
        if self.dtype.is_floating_point or self.dtype is core.bool:
            raise TypeError(f"iinfo: {self.dtype!r} is not an integer type; use gg.finfo")

    @property
    def bits(self) -> int:
        """Bits of an element."""
        return 8 * int(self.dtype.itemsize)

    @property
    def max(self) -> int:
        """The largest number."""
        return int(np.iinfo(self.dtype.name).max)

    @property
    def min(self) -> int:
        """The smallest number."""
        return int(np.iinfo(self.dtype.name).min)
