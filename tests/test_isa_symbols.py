"""No function is shared between the objects compiled for different ISAs.

The linker keeps one copy of a weak function. Were that the AVX-512 one, an older machine would crash in it; so kernel
objects define nothing weak that is code, and nothing global outside the namespace of their ISA.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

BUILD = Path(__file__).parent.parent / "build"
# Objects with sanitizers are not optimised, so functions meant to be inlined stand in them; they are for tests alone.
OBJECTS = [p for p in sorted(BUILD.glob("**/kernels_*.dir/**/*_cpu.cpp.o")) if p.parts[len(BUILD.parts)] != "sanitize"]

# Weak data is harmless where it is the same for every ISA: our constants, and pointers to the exception handler.
CONSTANTS = ("gg::", "DW.ref.__gxx_personality")

needs_objects = pytest.mark.skipif(
    not OBJECTS or shutil.which("nm") is None, reason="kernel objects (build/) or nm are not available"
)


def symbols(path: Path) -> list[tuple[str, str, str]]:
    """(name, class letter, FUNC or OBJECT) of what an object defines."""
    out = subprocess.run(
        ["nm", "-C", "--defined-only", "-f", "sysv", path], capture_output=True, text=True, check=True
    ).stdout
    fields = [line.rsplit("|", 6) for line in out.splitlines() if line.count("|") >= 6]
    return [(f[0].strip(), f[2].strip(), f[3].strip()) for f in fields]


def isa(path: Path) -> str:
    found = re.search(r"kernels_(\w+)\.dir", str(path))
    assert found is not None
    return found[1]


@needs_objects
def test_kernel_objects_share_no_code() -> None:
    weak, foreign = [], []
    for path in OBJECTS:
        own = f"gg::{isa(path)}::"
        for name, letter, kind in symbols(path):
            if letter in "WwVvui" and (kind == "FUNC" or not name.startswith(CONSTANTS)):
                weak.append(f"{path.name} ({isa(path)}): {name}")
            elif letter in "TDRBGS" and not name.startswith(own):
                foreign.append(f"{path.name} ({isa(path)}): {name}")
    assert not weak, f"weak symbols, of which the linker keeps any ISA's copy: {weak}"
    assert not foreign, f"global symbols outside their ISA's namespace: {foreign}"


@needs_objects
def test_every_isa_defines_the_same_tables() -> None:
    tables: dict[Path, dict[str, set[str]]] = {}
    for path in OBJECTS:
        root = next(parent for parent in path.parents if parent.name == "CMakeFiles")
        names = {
            n.split("::")[-1]
            for n, letter, _ in symbols(path)
            if letter in "TDRBG" and n.startswith(f"gg::{isa(path)}::")
        }
        tables.setdefault(root, {}).setdefault(isa(path), set()).update(names)
    for root, by_isa in tables.items():
        assert len(set(map(frozenset, by_isa.values()))) == 1, f"{root}: {by_isa}"
