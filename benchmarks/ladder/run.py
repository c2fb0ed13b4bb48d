"""The rungs of matmul and of attention: checked, their traffic counted on simt, their time taken on cuda.

    python benchmarks/ladder/run.py [matmul|attention] [--device simt|cuda] [--size N]

A rung is a .cu file with its kernels and a host function that launches them, compiled when it is asked for: on simt by
the C++ compiler (glassgrad.testing.simt.RawFunction), on cuda by nvcc (nvcc.py). Each is compared with float64 at odd
and even sizes first. On simt the table then shows what a multiply-add costs in memory traffic; on cuda, times beside
PyTorch (cuBLAS, and its attention), or CuPy, kept in benchmarks/results/ladder_<GPU>.json and drawn beside it.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import functools
import importlib
import json
import re
import statistics
import subprocess
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import glassgrad as gg
from glassgrad.testing import simt

HERE = Path(__file__).resolve().parent
RESULTS = HERE.parent / "results"
HEAD_SIZE = 64  # of attention
Function = Callable[..., None]


@dataclass(frozen=True)
class Rung:
    """A file of a ladder; N and K of a product must be multiples of `multiple`, the GPU at least sm_`arch`."""

    name: str
    idea: str
    dtype: str = "bfloat16"
    multiple: int = 8
    arch: int = 80

    @property
    def ladder(self) -> str:
        return self.name.split("_")[0]

    @property
    def file(self) -> Path:
        return HERE / f"{self.name}.cu"


RUNGS = [
    Rung("matmul_1_naive", "a thread for each element", "float32", 1, 75),
    Rung("matmul_2_coalesced", "lanes read neighbours", "float32", 1, 75),
    Rung("matmul_3_shared", "tiles in shared memory", "float32", 1, 75),
    Rung("matmul_4_registers", "tiles in registers", "float32", 1, 75),
    Rung("matmul_5_vectors", "vectors, double buffer", "float32", 4, 75),
    Rung("matmul_6_tensor_cores", "mma.sync, ldmatrix, cp.async"),
    Rung("matmul_7_hopper", "wgmma, TMA", arch=90),
    Rung("matmul_8_specialised", "producer and consumers", arch=90),
    Rung("matmul_9_persistent", "persistent, grouped (ships)", arch=90),
    Rung("attention_1_stored", "three kernels, scores stored", "float32", 1, 75),
    Rung("attention_2_online", "online softmax, a row a warp", "float32", 1, 75),
    Rung("attention_3_tiles", "tiles in shared memory", "float32", 1, 75),
    Rung("attention_4_tensor_cores", "mma.sync, weights in registers (ships)"),
    Rung("attention_5_hopper", "wgmma, TMA, persistent (ships)", arch=90),
]


@dataclass
class Problem:
    """Operands rounded to their dtype; some rows of the result in float64, and how far from it a rung may be."""

    operands: list[gg.Tensor]
    sizes: tuple[int, ...]
    shape: tuple[int, ...]
    multiply_adds: int
    rows: np.ndarray[Any, Any]
    want: np.ndarray[Any, Any]
    tolerance: Any


def make_problem(rung: Rung, sizes: Sequence[int]) -> Problem:
    """A random problem of (M, N, K), or (heads, L, S), as a rung takes it."""
    random = np.random.default_rng(0)
    if rung.ladder == "matmul":
        m, n, k = sizes
        n, k = (-(-x // rung.multiple) * rung.multiple for x in (n, k))
        sizes, shape, work = (m, n, k), (m, n), m * n * k
        shapes: list[tuple[int, ...]] = [(m, k), (k, n)]
    else:
        heads, m, keys = sizes
        shape, work = (heads, m, HEAD_SIZE), 2 * HEAD_SIZE * heads * m * keys
        shapes = [(heads, rows, HEAD_SIZE) for rows in (m, keys, keys)]
    dtype = getattr(gg, rung.dtype)
    operands = [gg.tensor(random.standard_normal(s, dtype=np.float32)).to(dtype) for s in shapes]
    exact = [x.float().numpy().astype(np.float64) for x in operands]
    rows = np.unique(np.linspace(0, m - 1, min(m, 512)).astype(int))
    rounding = 2.0**-8 if rung.dtype == "bfloat16" else 0.0
    if rung.ladder == "matmul":
        a, b = exact[0][rows], exact[1]
        want = a @ b
        tolerance = rounding * abs(want) + 1e-5 * (abs(a) @ abs(b))
    else:
        q, k, v = exact[0][:, rows], exact[1], exact[2]
        weights = np.exp(q @ k.swapaxes(1, 2) / HEAD_SIZE**0.5)
        want = weights @ v / weights.sum(-1, keepdims=True)
        tolerance = (2 * rounding + 1e-5) * abs(v).max()  # weights are rounded as well
    return Problem(operands, tuple(sizes), shape, work, rows, want, tolerance)


def arguments(problem: Problem, device: str) -> list[Any]:
    """Operands, a result that nobody has written, and sizes."""
    result = gg.full(problem.shape, float("nan"), dtype=problem.operands[0].dtype)
    return [*(x.to(device) for x in (*problem.operands, result)), *problem.sizes]


def check(rung: Rung, function: Function, problem: Problem, args: Sequence[Any]) -> None:
    """Raises an AssertionError where the rung's result is too far from float64's."""
    function(*args)
    got = args[len(problem.operands)].cpu().float().numpy()[..., problem.rows, :]
    excess = float((abs(got - problem.want) / problem.tolerance).max())
    assert excess <= 1, f"{rung.name} at {problem.sizes}: {excess:.3g} times the error that it may have"


def compiled(rungs: Sequence[Rung], device: str) -> list[Any]:
    """The host functions, a few compilers at once."""
    if device == "simt":
        with ThreadPoolExecutor(2) as pool:
            return list(
                pool.map(lambda r: simt.RawFunction(r.file, f"ladder_{r.ladder}", [HERE.parents[1] / "csrc"]), rungs)
            )
    import nvcc

    major, minor = gg.cuda.get_device_capability()
    arch = f"{major}{minor}" + "a" * (major >= 9)
    nvcc.runtime(arch)
    kinds = {"matmul": "pppiii", "attention": "ppppiii"}
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(lambda r: nvcc.Function(r.file, f"ladder_{r.ladder}", kinds[r.ladder], arch), rungs))


CHECKED = {"matmul": [(301, 39, 199), (128, 256, 320)], "attention": [(2, 135, 70), (1, 64, 193), (2, 128, 128)]}
COLUMNS = ["asked", "moved", "shared", "accesses", "shuffles", "barriers"]


def traffic(rung: Rung, function: Function, size: int) -> dict[str, float]:
    """What a multiply-add costs: bytes; instructions of a warp for a thousand; meetings of a block for a million."""
    problem = make_problem(rung, (size, size, size) if rung.ladder == "matmul" else (1, size, size))
    args = arguments(problem, "simt")
    with simt.counters() as c:
        function(*args)
    work = problem.multiply_adds
    return {
        "asked": (c.global_read_bytes + c.global_write_bytes) / work,
        "moved": 32 * c.global_sectors / work,
        "shared": 128 * c.shared_wavefronts / work,
        "accesses": 1e3 * (c.global_requests + c.shared_requests) / work,
        "shuffles": 1e3 * c.shuffles / work,
        "barriers": 1e6 * (c.barriers + c.phases) / work,
    }


def call_in_a_row(function: Any, args: Sequence[Any], times: int) -> float:
    return float(function.milliseconds(times, *args))


def seconds(run: Callable[[int], float]) -> float:
    """The median of seven measurements of some 20 milliseconds; run(times) takes the milliseconds of so many calls."""
    run(3)
    times = max(1, int(20 / max(run(5) / 5, 1e-3)))
    return statistics.median(run(times) / times for _ in range(7)) * 1e-3


def timed(call: Callable[[], object], event: Callable[[], Any], between: Callable[[Any, Any], float]) -> Any:
    """A function that gives the milliseconds of so many calls, by events of the library that is called."""

    def run(times: int) -> float:
        begin, end = event(), event()
        begin.record()
        for _ in range(times):
            call()
        end.record()
        end.synchronize()
        return float(between(begin, end))

    return run


def rival(problem: Problem, ladder: str) -> tuple[str, Callable[[int], float]] | None:
    """The same by PyTorch, or by CuPy (float32 products only), and how it is timed."""
    float32 = problem.operands[0].dtype == gg.float32
    numbers = [x.float().numpy() for x in problem.operands]
    with contextlib.suppress(ImportError):
        torch = importlib.import_module("torch")
        if torch.cuda.is_available():
            torch.backends.cuda.matmul.allow_tf32 = False
            dtype = torch.float32 if float32 else torch.bfloat16
            tensors = [torch.from_numpy(x).to("cuda", dtype) for x in numbers]
            attention = torch.nn.functional.scaled_dot_product_attention
            function = torch.matmul if ladder == "matmul" else lambda *qkv: attention(*(x[None] for x in qkv))
            event = functools.partial(torch.cuda.Event, enable_timing=True)
            run = timed(lambda: function(*tensors), event, torch.cuda.Event.elapsed_time)
            return f"PyTorch {torch.__version__}", run
    with contextlib.suppress(ImportError):
        cupy = importlib.import_module("cupy")
        if ladder == "matmul" and float32:
            a, b = (cupy.asarray(x) for x in numbers)
            return f"CuPy {cupy.__version__}", timed(lambda: a @ b, cupy.cuda.Event, cupy.cuda.get_elapsed_time)
    return None


def show_traffic(rungs: Sequence[Rung], functions: Sequence[Function], size: int) -> None:
    """The table of simt."""
    print(f"\nFor a multiply-add, at {size}: bytes asked of and moved from global memory, bytes of shared memory;")
    print("for a thousand, accesses and shuffles of a warp; for a million, barriers of a block.")
    print(f"{'rung':26}{'idea':40}{'dtype':>9}" + "".join(f"{c:>10}" for c in COLUMNS))
    for rung, function in zip(rungs, functions, strict=True):
        found = traffic(rung, function, size)
        cells = "".join(f"{found[c]:10.3g}" if found[c] else f"{'-':>10}" for c in COLUMNS)
        print(f"{rung.name:26}{rung.idea:40}{rung.dtype:>9}{cells}", flush=True)


def first_line(*command: str) -> str | None:
    """What a program says first, where it is there."""
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        return subprocess.run(command, cwd=HERE, capture_output=True, text=True, check=True).stdout.split("\n")[0]
    return None


def show_times(rungs: Sequence[Rung], functions: Sequence[Any], size: int | None) -> None:
    """The table of cuda, its file and its picture."""
    gpu = gg.cuda.get_device_name()
    source = {
        "date": str(datetime.date.today()),
        "commit": first_line("git", "rev-parse", "--short", "HEAD"),
        "driver": first_line("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"),
    }
    results: list[dict[str, Any]] = []
    print(f"\n{gpu}\n{'rung':26}{'idea':40}{'dtype':>9}{'ms':>10}{'TFLOP/s':>10}{'of rival':>10}")
    for rung, function in zip(rungs, functions, strict=True):
        sizes = (size or 4096,) * 3 if rung.ladder == "matmul" else (32, size or 4096, size or 4096)
        problem = make_problem(rung, sizes)
        args = arguments(problem, "cuda")
        check(rung, function, problem, args)
        own = seconds(functools.partial(call_in_a_row, function, args))
        other = rival(problem, rung.ladder)
        rate = 2e-12 * problem.multiply_adds / own
        result: dict[str, Any] = {
            "rung": rung.name,
            "idea": rung.idea,
            "dtype": rung.dtype,
            "sizes": list(problem.sizes),
        }
        result |= source | {"seconds": own, "rate": rate}
        share = ""
        if other is not None:
            theirs = seconds(other[1])
            result |= {"rival": other[0], "rival_seconds": theirs, "share": theirs / own}
            share = f"{theirs / own:10.1%}"
        results.append(result)
        print(f"{rung.name:26}{rung.idea:40}{rung.dtype:>9}{own * 1e3:10.3f}{rate:10.1f}{share}", flush=True)
    stem = f"ladder_{re.sub('[^a-z0-9]+', '_', gpu.lower())}"
    results = keep(results, gpu, stem)
    draw(results, gpu, "TFLOP/s; the line is PyTorch or CuPy in the same precision", stem)
    if size is None:
        fill_readme(results, HERE / "README.md", "({}.cu)")


def keep(results: Sequence[dict[str, Any]], machine: str, stem: str) -> list[dict[str, Any]]:
    """Results join those of other rungs in benchmarks/results; all that are there then."""
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / f"{stem}.json"
    kept = json.loads(file.read_text())["rungs"] if file.exists() else []
    fresh = {r["rung"] for r in results}
    merged = sorted([r for r in kept if r["rung"] not in fresh] + list(results), key=lambda r: r["rung"])
    file.write_text(json.dumps({"machine": machine, "rungs": merged}, indent=1) + "\n")
    print(f"kept in {file}")
    return merged


def shown(result: dict[str, Any]) -> str:
    """A rate and its share of the rival's."""
    if "share" not in result:
        return f"{result['rate']:.3g}"
    digits = 0 if result["share"] > 0.1 else 1
    return f"{result['rate']:.3g}, {result['share']:.{digits}%} of {result['rival'].split()[0]}"


def fill_readme(results: Sequence[dict[str, Any]], file: Path, link: str) -> None:
    """Figures into the last column of the lines of README's tables that have a rung's link."""
    text = file.read_text()
    for r in results:
        line = rf"({re.escape(link.format(r['rung']))}.*\| )[^|\n]*( \|)$"
        text = re.sub(line, rf"\g<1>{shown(r)}\g<2>", text, flags=re.MULTILINE)
    file.write_text(text)


def draw(results: Sequence[dict[str, Any]], machine: str, label: str, stem: str) -> None:
    """A bar for each rung and a line for what it is compared with, where matplotlib is there."""
    try:
        plot = importlib.import_module("matplotlib.pyplot")
    except ImportError:
        return
    figure, axes = plot.subplots(figsize=(9, 0.4 * len(results) + 1.2), layout="constrained")
    axes.barh([r["rung"] for r in results], [r["rate"] for r in results], color="tab:blue")
    for i, r in enumerate(results):
        share = r.get("share", 1)
        if "share" in r:
            axes.plot([r["rate"] / share] * 2, [i - 0.4, i + 0.4], color="black")
        axes.text(max(r["rate"], r["rate"] / share), i, f" {shown(r)}", va="center")
    axes.invert_yaxis()
    axes.margins(x=0.3)
    axes.set(xlabel=label, title=machine)
    figure.savefig(RESULTS / f"{stem}.png", dpi=120)


def main() -> None:
    """Reads the command line, checks and measures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ladder", nargs="?", choices=["matmul", "attention"])
    parser.add_argument("--device", choices=["simt", "cuda"], default="simt")
    parser.add_argument("--size", type=int, help="of every axis (simt: 256, cuda: 4096)")
    options = parser.parse_args()
    rungs = [r for r in RUNGS if options.ladder in (None, r.ladder)]
    if options.device == "cuda":
        major, minor = gg.cuda.get_device_capability()
        rungs = [r for r in rungs if (major == 9 if r.arch == 90 else 10 * major + minor >= r.arch)]
    functions = compiled(rungs, options.device)
    for rung, function in zip(rungs, functions, strict=True):
        for sizes in CHECKED[rung.ladder]:
            problem = make_problem(rung, sizes)
            check(rung, function, problem, arguments(problem, options.device))
    print(f"{len(rungs)} rungs agree with float64 on {options.device}")
    if options.device == "simt":
        show_traffic(rungs, functions, options.size or 256)
    else:
        show_times(rungs, functions, options.size)


if __name__ == "__main__":
    main()
