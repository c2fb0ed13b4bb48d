"""The machine code of the CUDA kernels, read without a GPU: the instructions that each must show (tests/sass_table.py),
and no local memory in those marked hot. And the reader of ptxas's reports, which fails a build that spills."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from sass_table import TABLE, Expected

ROOT = Path(__file__).parent.parent
INSTRUCTION = re.compile(r"\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_.]*)")


def _check_ptxas() -> ModuleType:
    spec = importlib.util.spec_from_file_location("check_ptxas", ROOT / "csrc/cuda/check_ptxas.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


ptxas = _check_ptxas()


def _tools() -> Path | None:
    """The folder of cuobjdump and nvdisasm: of the toolkit, or of their wheels."""
    if shutil.which("cuobjdump") and shutil.which("nvdisasm"):
        return Path(str(shutil.which("cuobjdump"))).parent
    spec = importlib.util.find_spec("nvidia")
    for place in spec.submodule_search_locations or [] if spec else []:
        for found in Path(place).glob("*/bin/cuobjdump"):
            return found.parent
    return None


MODULE = importlib.util.find_spec("glassgrad._cuda")
TOOLS = _tools()


# Of each (architecture, mangled kernel) the opcodes.
Kernels = dict[tuple[str, str], set[str]]


@pytest.fixture(scope="module")
def kernels() -> Kernels:
    if MODULE is None:
        pytest.skip("the CUDA backend is not built")
    if TOOLS is None:
        pytest.skip("cuobjdump and nvdisasm are not here (pip install nvidia-cuda-cuobjdump nvidia-cuda-nvdisasm)")
    command = [TOOLS / "cuobjdump", "-sass", str(MODULE.origin)]
    found: Kernels = {}
    architecture, opcodes = "", set[str]()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={"PATH": str(TOOLS)}) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if match := INSTRUCTION.match(line):
                opcodes.add(match[1])
            elif line.startswith("arch = "):
                architecture = line.split()[2]
            elif "Function :" in line:
                opcodes = found.setdefault((architecture, line.split()[2]), set())
    assert process.returncode == 0 and found
    return found


def instantiations(kernels: Kernels, source: str, kernel: str) -> Iterator[tuple[str, str, set[str]]]:
    """(architecture, mangled name, opcodes) of a kernel; one in an anonymous namespace carries its file's name."""
    for (architecture, name), opcodes in kernels.items():
        file = re.search(rf"N__[0-9a-f]{{8}}_\d+_(\w+?)_cu_[0-9a-f]{{8}}(?:_\d+)?{len(kernel)}{kernel}", name)
        if ptxas.is_named(name, kernel) and (file is None or file[1] == source):
            yield architecture, name, opcodes


def missing(kernels: Kernels, row: Expected) -> Iterator[str]:
    """What a row expects and the machine code does not show."""
    found = list(instantiations(kernels, row.source, row.kernel))
    if not found and not (row.source.endswith("_sm90") and not any(a == "sm_90a" for a, _ in kernels)):
        yield f"{row.kernel} is no kernel of {row.source}.cu"
    for architecture in sorted({a for a, _, _ in found}):
        here = [(name, opcodes) for a, name, opcodes in found if a == architecture]
        without = {}
        for name, opcodes in here:
            lacks = [o for o in row.opcodes if not any(there.startswith(o) for there in opcodes)]
            if lacks:
                without[name] = lacks
        if len(without) > (1 - row.share) * len(here):
            yield f"{architecture} {row.source} {row.kernel}: {len(without)} of {len(here)} lack {without}"


def local_memory(kernels: Kernels) -> Iterator[str]:
    """Hot kernels that use local memory."""
    excused = {(row.source, row.kernel) for row in TABLE if row.local}
    for path in sorted(ROOT.glob("csrc/ops/*/*.cu")):
        for kernel in ptxas.hot_kernels(path):
            if (path.stem, kernel) not in excused:
                for architecture, name, opcodes in instantiations(kernels, path.stem, kernel):
                    local = sorted(o for o in opcodes if o.startswith(("LDL", "STL")))
                    if local:
                        yield f"{architecture} {path.stem} {name}: {local}"


def test_machine_code(kernels: Kernels) -> None:
    faults = [fault for row in TABLE for fault in missing(kernels, row)] + list(local_memory(kernels))
    assert not faults, "\n".join(faults)


# ---- The reader of ptxas's reports -----------------------------------------------------------------------------------

REPORT = """\
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function '_ZN2gg4cuda10row_kernelIfEEvPT_' for 'sm_80'
ptxas info    : Function properties for _ZN2gg4cuda10row_kernelIfEEvPT_
    40 bytes stack frame, {spill} bytes spill stores, {spill} bytes spill loads
ptxas info    : Used 255 registers, used 1 barriers, 400 bytes cmem[0]
ptxas info    : Compiling entry function '_ZN2gg4cuda13narrow_kernelEPf' for 'sm_80'
ptxas info    : Function properties for _ZN2gg4cuda13narrow_kernelEPf
    40 bytes stack frame, 36 bytes spill stores, 36 bytes spill loads
ptxas info    : Used 32 registers
"""


def test_hot_kernels_are_found_in_their_source(tmp_path: Path) -> None:
    source = tmp_path / "x_cuda.cu"
    source.write_text("""
// hot: no spills
template <class T, int N>
__global__ void __launch_bounds__(256, 2) row_kernel(const T* x, T* y) {}
__global__ void cold_kernel(float* y) {}
// hot: no spills
__global__ void __launch_bounds__(256)
    long_name_kernel(const __grid_constant__ Offsets<2> at) {}
""")
    assert ptxas.hot_kernels(source) == ["row_kernel", "long_name_kernel"]


def test_spills_of_hot_kernels_are_faults() -> None:
    assert ptxas.faults(REPORT.format(spill=0), ["row_kernel"]) == []
    (fault,) = ptxas.faults(REPORT.format(spill=12), ["row_kernel"])
    assert "row_kernelIfEE" in fault and "spills registers on sm_80" in fault and "12 bytes spill stores" in fault
    assert ptxas.faults(REPORT.format(spill=12), []) == []
    (fault,) = ptxas.faults(REPORT.format(spill=0), ["gone_kernel"])
    assert fault == "gone_kernel is marked hot, but ptxas reports no such kernel"


def test_serialised_products_are_faults() -> None:
    line = "ptxas info    : (C7510) Potential Performance Loss: wgmma.mma_async instructions are serialized due to ..."
    assert ptxas.faults(REPORT.format(spill=0) + line, []) == [line]


def test_nothing_else_of_the_compiler_is_dropped() -> None:
    assert all(ptxas.is_chatter(line) for line in REPORT.splitlines())
    assert not ptxas.is_chatter("x.cu(3): error: identifier is undefined")
    assert not ptxas.is_chatter("ptxas warning : Registers are spilled")
