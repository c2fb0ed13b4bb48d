"""The checks of simt catch what they promise: copies of real kernels with one mistake each fault, the originals do not.

A mutant drops a barrier, a fence or a wait, shifts an index or removes a guard; the fault must be of the right kind and
name the .cu file.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from glassgrad import _simt
from glassgrad.testing import simt

ROOT = Path(__file__).parent.parent
WORK = ROOT / "build" / "mutants"


@dataclass
class Kernel:
    """A kernel file, the table it fills, or serves by what is appended, and a program that runs its kernels."""

    file: str
    table: str
    program: str
    append: str = 'extern "C" const void* gg_table() {{ return &gg::cuda::{table}; }}'


@dataclass
class Mutant:
    """`old` becomes `new` in the file, where it stands for the nth time; the program must then report `fault`."""

    kernel: str
    old: str
    new: str
    fault: str
    nth: int = 0
    header: str = ""  # the file, where it is not the kernel's


KERNELS = {
    "transpose": Kernel(
        "csrc/ops/layout/layout_cuda.cu",
        "layout_kernels",
        "x = gg.arange(700 * 900.0).reshape(700, 900); assert (x.to('simt').t().contiguous().cpu() == x.t()).all()",
    ),
    "product": Kernel(
        "csrc/ops/matmul/matmul_sm90.cu",
        "matmul_kernels",
        "a, b = gg.randn(136, 400).bfloat16(), gg.randn(400, 520).bfloat16(); y = a.to('simt') @ b.to('simt'); "
        "assert ((a @ b).float() - y.cpu().float()).abs().max() < 1",
        "#include <stdexcept>\nnamespace gg::cuda {{ namespace {{\n"
        "void only(DType t, const MatmulProblem& p) {{\n"
        '  if (!matmul_sm90(t, p)) throw std::runtime_error("not taken");\n}}\n'
        "const MatmulKernels table = {{only, nullptr, nullptr, nullptr}};\n}} }}\n"
        'extern "C" const void* gg_table() {{ return &gg::cuda::table; }}',
    ),
    "attention": Kernel(
        "csrc/ops/attention/attention_sm90.cu",
        "attention_kernels",
        "f, b = gg._core.attention_forward, gg._core.attention_backward; q = gg.randn(1, 2, 300, 64).bfloat16(); "
        "s = q.to('simt'); o, stats, *stream = f(s, s, s, None, True, 0.125, 0.0); "
        "assert (f(q, q, q, None, True, 0.125, 0.0)[0].float() - o.cpu().float()).abs().max() < 0.05; "
        "b(s, s, s, s, None, o, stats, True, 0.125, 0.0, *stream, False)",
        "#include <stdexcept>\nnamespace gg::cuda {{ namespace {{\nusing namespace attention;\n"
        "void forward(DType t, const AttentionProblem& p, void* out, const int64_t* step, void* stats) {{\n"
        "  if (!forward_sm90({{p, t, Dropout<float>(p), out, {{step[0], step[1], step[2]}}, "
        'static_cast<float*>(stats), 0, 0}})) throw std::runtime_error("not taken");\n}}\n'
        "void backward(DType t, const AttentionProblem& p, const void* dout, const int64_t* step, const void* out, "
        "const int64_t*, const void* stats, void* dq, void* dk, void* dv, void*) {{\n"
        "  Scratch<float> d(p.batch * p.heads * p.l);\n  zero(d, 4 * p.batch * p.heads * p.l);\n"
        "  if (!backward_sm90({{p, t, Dropout<float>(p), dout, out, {{step[0], step[1], step[2]}}, {{}}, "
        "static_cast<const float*>(stats), d, dq, dk, dv, nullptr, 0, 0}})) "
        'throw std::runtime_error("not taken");\n}}\n'
        "const AttentionKernels table = {{forward, backward, nullptr}};\n}} }}\n"
        'extern "C" const void* gg_table() {{ return &gg::cuda::table; }}',
    ),
}

TILES = "csrc/cuda/gemm_sm90.h"
MUTANTS = [
    Mutant("transpose", "__syncthreads();", "", "unwritten memory|race"),
    Mutant("transpose", "__syncthreads();", "", "race", nth=1),
    Mutant("product", "      fence_shared_for_async();", "", "missing fence"),
    Mutant("product", "w.meet();", "", "early reuse", nth=1),
    Mutant("product", "    if (!kSplit && w.thread == 0) tma_store_wait<0>();", "", "never waited for"),
    Mutant("product", "if (w.thread == 0) tma_store_wait_read<0>();", "", "early reuse"),
    Mutant("product", "barrier_wait(&s.barriers.full[ring.stage], ring.parity);", "", "missing wait", header=TILES),
    Mutant("product", "wgmma_wait<1>();", "wgmma_wait<2>();", "race|nobody can go on", header=TILES),
    Mutant(
        "product",
        "barrier_wait(&s.barriers.empty[ring.stage], ring.parity ^ 1);",
        "",
        "race|nobody can go on",
        header=TILES,
    ),
    Mutant("product", "      wgmma_fence();", "", "without a wgmma_fence", header=TILES),
    Mutant("product", "    wgmma_wait<0>();", "", "missing wait|race|never waited for", header=TILES),
    Mutant("product", "4 * kConsumers);", "4 * kConsumers + 1);", "nobody can go on", header=TILES),
    Mutant("product", "kSliceBytes<kN>);", "kSliceBytes<kN> + 16);", "nobody can go on", header=TILES),
    Mutant("attention", "fence_shared_for_async();", "", "missing fence"),
    Mutant("attention", "if (c.thread == 0) tma_store_wait_read<0>();", "", "early reuse"),
    Mutant("attention", "c.meet();  // Q has been read by all", "", "race|early reuse"),
    Mutant("attention", "barrier_wait(&s.q_full[c.index], q_parity);", "", "missing wait"),
    Mutant("attention", "barrier_wait(empty, ring.parity ^ 1);", "", "missing wait|race"),
    Mutant("attention", "wgmma_wait<1>();", "wgmma_wait<2>();", "missing wait|race"),
    Mutant("attention", "      wgmma_wait<0>();\n      leave_values();", "      leave_values();", "missing wait|race"),
    Mutant("attention", "fence_shared_for_async();", "", "missing fence", nth=1),
    Mutant("attention", "barrier_wait(&s.owned_full[slots.stage], slots.parity);", "", "missing wait"),
    Mutant("attention", "barrier_wait(&s.owned_empty[slots.stage], slots.parity ^ 1);", "", "early reuse|race"),
    Mutant("attention", "barrier_wait(&s.empty[stage], ring.parity ^ 1);", "", "missing wait|race"),
    Mutant("attention", "        barrier_arrive(&s.full[stage]);", "", "nobody can go on"),
]


def build(kernel: Kernel, source: str, name: str, header: tuple[str, str] | None = None) -> Path:
    """The file's kernels as a library that hands out their table; a header's text may take the place of its file."""
    folder = WORK / name
    folder.mkdir(parents=True, exist_ok=True)
    file, made, library = (folder / f"kernel{end}" for end in (".cu", ".o", ".so"))
    if header is not None:
        path = folder / Path(header[0]).relative_to("csrc")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'#line 1 "{header[0]}"\n{header[1]}')
    file.write_text(f'#line 1 "{kernel.file}"\n{source}\n{kernel.append.format(table=kernel.table)}\n')
    compiler = [*([ccache] if (ccache := shutil.which("ccache")) else []), "g++"]
    for step in (
        [*compiler, *simt.COMPILE, f"-I{folder}", f"-I{ROOT / 'csrc'}", str(file), "-o", str(made)],
        ["g++", "-shared", str(made), _simt.__file__, "-o", str(library)],
    ):
        done = subprocess.run(step, capture_output=True, text=True, cwd=ROOT, check=False)
        assert done.returncode == 0, done.stderr
    return library


def run(kernel: Kernel, library: Path) -> tuple[int, str]:
    command = [sys.executable, str(Path(__file__).parent / "mutant.py"), kernel.table, str(library), kernel.program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("name", KERNELS)
def test_original_is_silent(name: str) -> None:
    kernel = KERNELS[name]
    status, output = run(kernel, build(kernel, (ROOT / kernel.file).read_text(), name))
    assert status == 0, output


@pytest.mark.parametrize("number", range(len(MUTANTS)), ids=[f"{m.kernel}-{i}" for i, m in enumerate(MUTANTS)])
def test_mutant_is_caught(number: int) -> None:
    mutant = MUTANTS[number]
    kernel = KERNELS[mutant.kernel]
    original = (ROOT / kernel.file).read_text()
    changed = mutant.header or kernel.file
    parts = (ROOT / changed).read_text().split(mutant.old)
    assert len(parts) > mutant.nth + 1, f"{changed} has no {mutant.old!r} number {mutant.nth}"
    text = mutant.old.join(parts[: mutant.nth + 1]) + mutant.new + mutant.old.join(parts[mutant.nth + 1 :])
    name = f"{mutant.kernel}_{number}"
    library = build(kernel, original, name, (changed, text)) if mutant.header else build(kernel, text, name)
    status, output = run(kernel, library)
    assert status == 3, f"nothing was reported:\n{output}"
    assert re.search(mutant.fault, output), output
    assert ".cu" in output or ".h:" in output, output
