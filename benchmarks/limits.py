"""What this machine can do at most, measured by limits.cpp, and the least time of a case that follows from it."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).with_name("limits.cpp")
LEVELS = ("L2", "L3", "memory")
L2_SHARE = 0.5  # of the cache, for a working set that stays there beside everything else
MOST_MEMORY = 512 << 20  # bytes a thread: a virtual machine may report the L3 of a whole host
FLAGS = {"avx2": ["-mavx2", "-mfma"], "native": ["-march=native"]}


@dataclass(frozen=True)
class Limits:
    """Operations a second, and bytes a second of each level (the best of copy, triad and streaming stores)."""

    threads: int
    peak: float
    bandwidth: dict[str, float]
    caches: dict[str, int]  # bytes of all threads
    measured: dict[str, float]

    def level(self, touched: float) -> str:
        """Where a working set of so many bytes lives."""
        return next((name for name in ("L2", "L3") if touched <= self.caches[name]), "memory")

    def floor(self, operations: float, moved: float, touched: float) -> float:
        """The least seconds that a case can take."""
        return max(operations / self.peak, moved / self.bandwidth[self.level(touched)])

    def as_json(self) -> dict[str, Any]:
        """For the results."""
        return asdict(self)


def cache_bytes() -> tuple[int, int]:
    """L2 of one core and L3, as the kernel tells; usual ones where it does not."""
    sizes = {}
    for index in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*"):
        try:
            text = (index / "size").read_text().strip()
            scale = {"K": 1 << 10, "M": 1 << 20}.get(text[-1], 1)
            sizes[(index / "level").read_text().strip()] = int(text.rstrip("KM")) * scale
        except OSError:
            continue
    return sizes.get("2", 1 << 20), sizes.get("3", 32 << 20)


def processor() -> str:
    """The processor's name."""
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor()


def compiler() -> str:
    """The machine's C++ compiler."""
    found = os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++")
    if found is None:
        raise RuntimeError("the machine's limits need a C++ compiler: install one or set CXX")
    return found


def compiled(sources: Sequence[Path], flags: Sequence[str]) -> Path:
    """What the compiler makes of the sources: once for this machine, these flags and all that is included."""
    command = [compiler(), *flags, *map(str, sources)]
    text = subprocess.run([*command, "-E"], check=True, capture_output=True).stdout
    name = hashlib.sha256(text + " ".join(command).encode()).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"glassgrad-bench-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    binary = folder / name
    if not binary.exists():
        fresh = binary.with_suffix(f".{os.getpid()}")
        subprocess.run([*command, "-o", str(fresh)], check=True)
        fresh.replace(binary)
    return binary


def program(isa: str) -> Path:
    """limits.cpp, compiled."""
    return compiled([SOURCE], ["-O3", "-std=c++17", "-pthread", *FLAGS[isa]])


def measure(threads: int, isa: str = "native") -> Limits:
    """Measures the limits for so many threads; isa "avx2" for its instructions only."""
    l2, l3 = cache_bytes()
    middle = min(l3 // 4, 16 * l2)
    large = min(4 * l3, MOST_MEMORY)
    sizes = [int(L2_SHARE * l2), middle, large]
    run = subprocess.run([program(isa), str(threads), *map(str, sizes)], check=True, capture_output=True, text=True)
    found = {name: float(value) for name, value in (line.split() for line in run.stdout.splitlines())}
    bandwidth = {level: max(v for k, v in found.items() if k.startswith(level + "_")) for level in LEVELS}
    return Limits(threads, found["peak"], bandwidth, {"L2": l2 * threads, "L3": l3}, found)
