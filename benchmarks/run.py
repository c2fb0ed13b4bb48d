"""Every op row's benchmark shapes beside PyTorch: `python benchmarks/run.py [--only PATTERN] [--threads N]`.

Each library runs in a process of its own; they take turns, a few milliseconds each, for many rounds, so that whatever
else the machine does falls on both. Results are compared before anything is timed. Shown are the medians and their
ratio: above 1, glassgrad is faster. Single figures mean little on a shared machine; the ratios and their geometric mean
are what to read.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import multiprocessing
import platform
import statistics
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

SLICE = 0.004  # seconds of one turn
REST = 0.002  # seconds over which a process must have been idle before the other's turn
DTYPE = "float32"


class Case:
    """One sample of one row in one library, forward or forward and backward."""

    def __init__(self, library: str, name: str, index: int, backward: bool) -> None:
        import op_table as table

        row = next(r for r in table.gather() if r.name == name and r.bench is not None)
        sample = list(row.bench(row.random()))[index]  # type: ignore[misc]
        ours = library == "glassgrad"
        function = row.function() if ours else row.torch_function()
        assert function is not None
        self.function = function
        if ours:
            self.sample = table.arguments(sample, DTYPE)
        else:
            import torch

            self.sample = table.arguments(sample, DTYPE, table.torch_tensor, torch)
        self.backward = backward
        self.flatten, self.is_floating = table.flatten, table.is_floating
        self.inputs = table.floating_inputs(self.sample, row.wrt) if backward else []
        for x in self.inputs:
            x.requires_grad_(True)
        self.library = __import__("glassgrad" if ours else "torch")
        self.cotangents: list[Any] = []
        if backward:  # random ones: the gradient of a plain sum is zero for some ops
            make = table.tensor if ours else table.torch_tensor
            random = table.Random(1)  # not the stream that made the inputs: some gradients vanish along them
            first = self.function(*self.sample.args, **self.sample.kwargs)
            self.cotangents = [make(random.normal(*y.shape), DTYPE) for y in self.outputs(first)]

    def outputs(self, result: Any) -> list[Any]:
        """The differentiable tensors of a result."""
        return [y for y in self.flatten(result) if self.is_floating(y) and y.requires_grad]

    def __call__(self) -> Any:
        result = self.function(*self.sample.args, **self.sample.kwargs)
        if self.backward:
            for x in self.inputs:
                x.grad = None
            self.library.autograd.backward(self.outputs(result), self.cotangents)
        return result

    def values(self) -> list[Any]:
        """The results, and the gradients, as numpy arrays."""
        import op_table as table

        found = [table.as_numpy(y) for y in table.flatten(self())]
        return found + [table.as_numpy(x.grad) for x in self.inputs]

    def turn(self) -> float:
        """Seconds a call, over one turn; threads that slept through the other library's turn are woken first."""
        waking = time.perf_counter()
        while time.perf_counter() - waking < SLICE / 2:
            self()
        calls, start = 0, time.perf_counter()
        while True:
            self()
            calls += 1
            passed = time.perf_counter() - start
            if passed > SLICE:
                return passed / calls


def rest() -> None:
    """Waits until no thread of this process runs: OpenMP's spin for milliseconds after a loop, on the other's cores."""
    deadline = time.perf_counter() + 0.25
    while time.perf_counter() < deadline:
        before = time.process_time()
        time.sleep(REST)
        if time.process_time() - before < REST / 10:
            return


def work(library: str, threads: int, pipe: Any) -> None:
    """A library's process: makes cases and gives their turns."""
    module = __import__("glassgrad" if library == "glassgrad" else "torch")
    module.set_num_threads(threads)
    case: Any = None
    while (message := pipe.recv()) is not None:
        try:
            if message == "turn":
                seconds = case.turn()
                rest()
                pipe.send(seconds)
            else:
                case = Case(library, *message)
                values = case.values()
                for _ in range(3):
                    case()
                pipe.send(values)
        except Exception as error:
            pipe.send(error)


def same(a: list[Any], b: list[Any]) -> bool:
    """Whether the two libraries computed the same, up to float32 rounding."""
    import numpy as np

    if len(a) != len(b):
        return False
    for x, y in zip(a, b, strict=True):
        if x is None or y is None or np.shape(x) != np.shape(y):
            return x is None and y is None
        scale = float(np.abs(y[np.isfinite(y)]).max(initial=1e-30)) if np.size(y) else 1.0
        if not np.allclose(x, y, rtol=1e-3, atol=1e-4 * scale, equal_nan=True):
            return False
    return True


def processor() -> str:
    """The processor's name."""
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor()


def main() -> None:
    """Reads the command line, runs the cases and prints the table."""
    import glassgrad as gg
    import op_table as table

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="families and ops whose name contains this")
    parser.add_argument("--threads", type=int, default=gg.get_num_threads())
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", help="a file for the results")
    arguments = parser.parse_args()

    context = multiprocessing.get_context("spawn")
    pipes = {}
    for library in ("glassgrad", "torch"):
        pipes[library], theirs = context.Pipe()
        context.Process(target=work, args=(library, arguments.threads, theirs), daemon=True).start()

    def ask(library: str, message: Any) -> Any:
        pipes[library].send(message)
        answer = pipes[library].recv()
        if isinstance(answer, Exception):
            raise answer
        return answer

    print(f"{datetime.date.today()}, {processor()}, {arguments.threads} threads, {DTYPE}, {gg.config()['isa']} kernels")
    print(f"{'op':34} {'shapes':46} {'':5} {'glassgrad':>11} {'PyTorch':>11} {'ratio':>6}")
    results = []
    for row in table.gather():
        if row.bench is None or arguments.only not in f"{row.family} {row.name}" or row.torch_function() is None:
            continue
        for index, sample in enumerate(row.bench(row.random())):
            for backward in (False, True) if row.grad else (False,):
                message = (row.name, index, backward)
                try:
                    equal = same(ask("glassgrad", message), ask("torch", message))
                except Exception as error:
                    print(f"{row.name:34} {str(sample)[:46]:46}       not run: {error}")
                    continue
                if not equal and row.family != "random":
                    print(f"{row.name:34} {str(sample)[:46]:46}       not timed: the results differ")
                    continue
                times: dict[str, list[float]] = {"glassgrad": [], "torch": []}
                for _ in range(arguments.rounds):
                    for library, found in times.items():
                        found.append(ask(library, "turn"))
                ours, torch = (statistics.median(times[k]) for k in ("glassgrad", "torch"))
                what = "f+b" if backward else "f"
                results.append(
                    {
                        "family": row.family,
                        "op": row.name,
                        "sample": repr(sample),
                        "pass": what,
                        "ours": ours,
                        "torch": torch,
                    }
                )
                shown = f"{ours * 1e6:9.1f}us {torch * 1e6:9.1f}us {torch / ours:6.2f}"
                print(f"{row.name:34} {str(sample)[:46]:46} {what:5} {shown}", flush=True)
    for pipe in pipes.values():
        pipe.send(None)

    print(f"\n{'family':14} {'forward':>8} {'f + b':>8}   geometric means of PyTorch's time over ours")
    for family in sorted({str(r["family"]) for r in results}):
        cells = []
        for what in ("f", "f+b"):
            ratios = [math.log(r["torch"] / r["ours"]) for r in results if r["family"] == family and r["pass"] == what]
            cells.append(f"{math.exp(statistics.fmean(ratios)):8.2f}" if ratios else " " * 8)
        print(f"{family:14} {cells[0]} {cells[1]}")
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
