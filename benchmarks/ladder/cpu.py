"""The rungs of matmul and of attention on the CPU: checked, and timed on one thread beside NumPy and PyTorch.

    python benchmarks/ladder/cpu.py [matmul|attention] [--size N]

A rung is a file of benchmarks/ladder/cpu, compiled for this machine when it is asked for. Each is compared with float64
at odd and even sizes; then all take turns, in alternating order. Rates stand beside this core's peak of multiply-adds
(../limits.py), which a matrix unit (AMX) exceeds: the peak is that of vectors. benchmarks/results keeps and draws them.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import datetime
import functools
import importlib
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # NumPy's threads, which are counted when it is imported
ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
from benchmarks import limits  # noqa: E402
from benchmarks.ladder import run as ladder  # noqa: E402

import glassgrad as gg  # noqa: E402

FILES = sorted(ladder.HERE.glob("cpu/*.cpp"))  # whose heads tell their idea
RUNGS = [ladder.Rung(f.stem, re.findall(r"rung \d: ([^.]*)\.", f.read_text())[0], "float32", 1) for f in FILES]
CHECKED = {"matmul": [(257, 301, 333)], "attention": []}  # beside those of GPUs: odd, and large enough for AMX
FLAGS = ["-std=c++20", "-O3", "-march=native", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math"]
FLAGS += ["-fPIC", "-Wall", "-Wextra", "-Wno-psabi"]
CORE = [ROOT / "csrc" / "core" / name for name in ("parallel.cpp", "allocator.cpp", "kernels.cpp")]
TURNS, SLOW = 15, 0.2  # who takes so many seconds has three


def compiled(rungs: Sequence[ladder.Rung]) -> list[ladder.Function]:
    """The functions, with vectors as wide as this machine's, two compilers at once."""
    asked = [limits.compiler(), "-march=native", "-dM", "-E", "-x", "c++", os.devnull]
    macros = subprocess.run(asked, check=True, capture_output=True, text=True).stdout
    width = 64 if "__AVX512F__" in macros else 32 if "__AVX2__" in macros else 16
    wide = ["-mprefer-vector-width=512", "-DGG_NATIVE_AVX512"] if width == 64 else []
    options = [*FLAGS, *wide, "-DGG_ISA=baseline", f"-DGG_VECTOR_BYTES={width}", f"-I{ROOT / 'csrc'}"]
    core = limits.compiled(CORE, [*options, "-r", "-nostdlib"])

    def function(rung: ladder.Rung) -> ladder.Function:
        source = ladder.HERE / "cpu" / f"{rung.name}.cpp"
        library = ctypes.CDLL(str(limits.compiled([source], [*options, "-shared", str(core)])))
        entry = getattr(library, f"ladder_{rung.ladder}")
        return lambda *args: entry(*(ctypes.c_void_p(x.data_ptr()) if isinstance(x, gg.Tensor) else x for x in args))

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(function, rungs))


def check(rung: ladder.Rung, function: ladder.Function) -> None:
    """Raises an AssertionError where a result is too far from float64's."""
    for sizes in ladder.CHECKED[rung.ladder] + CHECKED[rung.ladder]:
        problem = ladder.make_problem(rung, sizes)
        ladder.check(rung, function, problem, ladder.arguments(problem, "cpu"))


def rivals(operands: Sequence[gg.Tensor], name: str) -> dict[str, Any]:
    """The same by NumPy (products only) and PyTorch, where they are installed, on one thread."""
    numbers = [x.numpy() for x in operands]
    found: dict[str, Any] = {}
    if name == "matmul":
        found[f"NumPy {np.__version__}"] = functools.partial(np.matmul, *numbers)
    with contextlib.suppress(ImportError):
        torch = importlib.import_module("torch")
        torch.set_num_threads(1)
        attention = torch.nn.functional.scaled_dot_product_attention
        tensors = [torch.from_numpy(x if name == "matmul" else x[None]) for x in numbers]
        call = torch.matmul if name == "matmul" else attention
        found[f"PyTorch {torch.__version__}"] = functools.partial(call, *tensors)
    return found


def make_problem(name: str, size: int) -> ladder.Problem:
    return ladder.make_problem(ladder.Rung(name, "", "float32", 1), (size if name == "matmul" else 8, size, size))


def take_turns(functions: dict[str, ladder.Function], problem: ladder.Problem, **others: Any) -> dict[str, list[float]]:
    """The seconds of the turns of all functions, and of other calls."""
    calls = {key: functools.partial(f, *ladder.arguments(problem, "cpu")) for key, f in functions.items()} | others
    taken: dict[str, list[float]] = {key: [] for key in calls}
    for turn in range(TURNS):
        for key, call in list(calls.items())[:: 1 - turn % 2 * 2]:
            if turn < 3 or taken[key][0] < SLOW:
                begin = time.perf_counter()
                call()
                taken[key].append(time.perf_counter() - begin)
    return taken


def show_times(name: str, functions: dict[str, ladder.Function], size: int, peak: float) -> list[dict[str, Any]]:
    """The table of a ladder."""
    problem = make_problem(name, size)
    source = {"date": str(datetime.date.today()), "commit": ladder.first_line("git", "rev-parse", "--short", "HEAD")}
    common = {"sizes": list(problem.sizes), "rival": "peak", "peak": peak * 1e-9} | source
    results, ideas = [], {r.name: r.idea for r in RUNGS}
    print(f"\n{'rung':26}{'idea':56}{'ms':>10}{'GFLOP/s':>10}{'of peak':>10}")
    own = {key: f for key, f in functions.items() if key.startswith(name)}
    for key, turns in take_turns(own, problem, **rivals(problem.operands, name)).items():
        taken, idea = statistics.median(turns), ideas.get(key, "")
        rate = 2 * problem.multiply_adds / taken
        result = {"rung": key if idea else f"{name}_{key}", "idea": idea, "seconds": taken}
        results.append(result | common | {"rate": rate * 1e-9, "share": rate / peak})
        print(f"{key:26}{idea:56}{1e3 * taken:10.3f}{rate * 1e-9:10.1f}{rate / peak:10.1%}")
    return results


def main() -> None:
    """Reads the command line, checks and measures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ladder", nargs="?", choices=list(CHECKED))
    parser.add_argument("--size", type=int, help="of every axis (1024); attention has 8 heads")
    options = parser.parse_args()
    rungs = [r for r in RUNGS if options.ladder in (None, r.ladder)]
    functions = {r.name: f for r, f in zip(rungs, compiled(rungs), strict=True)}
    for rung in rungs:
        check(rung, functions[rung.name])
    print(f"{len(rungs)} rungs agree with float64")
    results, peak = [], max(limits.measure(1).peak for _ in range(3))
    for name in [options.ladder] if options.ladder else CHECKED:
        results += show_times(name, functions, options.size or 1024, peak)
    if options.size is None:
        machine, readme = limits.processor(), ladder.HERE / "README.md"
        results = ladder.keep(results, machine, "ladder_cpu")
        ladder.draw(results, machine, "GFLOP/s of one core; the line is its peak of fused multiply-adds", "ladder_cpu")
        ladder.fill_readme(results, readme, "(cpu/{}.cpp)")
        peers = "".join(f"; {r['rung'].replace('_', ' ')}: {ladder.shown(r)}" for r in results if not r["idea"])
        found = f"Measured on {machine}, {results[0]['date']}, one core, peak {results[0]['peak']:.0f} GFLOP/s{peers}."
        readme.write_text(re.sub(r"^Measured on .*$", found, readme.read_text(), flags=re.MULTILINE))


if __name__ == "__main__":
    main()
