"""glassgrad beside PyTorch on the CPU: `python benchmarks/run.py [--quick] [--only PATTERN] [--threads N]`.

Each library runs in a process of its own; they take turns of a few milliseconds for many rounds, so that whatever else
the machine does falls on both. Results are compared before anything is timed: a case whose results differ is an error,
and the exit status says so. README.md beside this file says how to read the report.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import importlib.metadata
import json
import multiprocessing
import os
import platform
import shutil
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "tests")]

import measure  # noqa: E402
import worker  # noqa: E402
from limits import processor  # noqa: E402
from steps import NoCounterpart  # noqa: E402

BUDGET = 3.0  # seconds of one case's rounds
FEWEST = 5  # rounds that a case has in any case
QUICK_ROUNDS, FULL_ROUNDS = 7, 15
DEADLINE = 600  # seconds that a worker may take for one answer
SAVE_EVERY = 30  # seconds: what an interrupted run leaves is at most so old
ISAS = {
    "avx2": {"ATEN_CPU_CAPABILITY": "avx2", "MKL_ENABLE_INSTRUCTIONS": "AVX2", "GLASSGRAD_ISA": "avx2"},
    "native": {},
}


class Failed(Exception):
    """What a worker could not do."""


class Ended(Failed):
    """The worker is gone, or out of step: a new one must be made."""


class Worker:
    """The near end of a library's process."""

    def __init__(self, library: str, threads: int, target: Any = worker.work, *first: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=target, args=(*first, library, threads, theirs), daemon=True)
        self.process.start()
        theirs.close()
        self.answer: Any = self.receive()

    def receive(self) -> Any:
        """The next answer."""
        try:
            if not self.pipe.poll(DEADLINE):
                raise Ended(f"no answer in {DEADLINE} seconds")
            answer = self.pipe.recv()
        except EOFError:
            raise Ended("the process ended") from None
        if isinstance(answer, NoCounterpart):
            raise answer
        if isinstance(answer, Exception):
            raise Failed(str(answer))
        return answer

    def ask(self, message: Any) -> Any:
        """Sends a message and waits for its answer."""
        try:
            self.pipe.send(message)
        except OSError:
            raise Ended("the process ended") from None
        return self.receive()

    def close(self) -> None:
        """Ends the process."""
        with contextlib.suppress(OSError):
            self.pipe.send(None)
        self.process.join(5)
        if self.process.is_alive():
            self.process.terminate()


def same(a: list[Any], b: list[Any], random: bool = False) -> bool:
    """Whether two libraries computed the same, up to float32 rounding; random numbers: the same distribution."""
    import numpy as np

    if len(a) != len(b):
        return False
    for x, y in zip(a, b, strict=True):
        if x is None or y is None or np.shape(x) != np.shape(y):
            return x is None and y is None
        if random:
            if abs(np.mean(x) - np.mean(y)) > 0.1 or abs(np.std(x) - np.std(y)) > 0.1:
                return False
            continue
        scale = float(np.abs(y[np.isfinite(y)]).max(initial=1e-30)) if np.size(y) else 1.0
        if not np.allclose(x, y, rtol=1e-3, atol=1e-4 * scale, equal_nan=True):
            return False
    return True


def run_case(case: Any, workers: dict[str, Worker], rounds: int, limits: Any) -> dict[str, Any]:
    """Compares, times and describes one case; Failed if a result differs or glassgrad cannot run it."""
    made, missing = {}, {}
    for library, process in workers.items():
        if library == "torch.compile" and case.family != "step":
            continue
        try:
            made[library] = process.ask(("make", case.key))
        except NoCounterpart as error:
            if library == "glassgrad":
                raise Failed(f"{library}: {error}") from error
            missing[library] = str(error)
        except Failed as error:
            raise type(error)(f"{library}: {error}") from error
    values, moved, touched, _ = made["glassgrad"]
    operations = case.operations or max(answer[3] for answer in made.values())
    for library, (theirs, *_) in made.items():
        if not same(values, theirs, case.random):
            raise Failed(f"the results differ from {library}'s")
    times: dict[str, list[float]] = {library: [] for library in made}
    start = time.perf_counter()
    for number in range(rounds):
        order = list(times) if number % 2 == 0 else list(reversed(times))  # neither always follows the other
        for library in order:
            times[library].append(workers[library].ask("turn"))
        if number + 1 >= FEWEST and time.perf_counter() - start > BUDGET:
            break
    ours = measure.quartiles(times["glassgrad"])[1]
    floor = limits.floor(operations, moved, touched)
    return {
        "key": case.key,
        "family": case.family,
        "name": case.name,
        "what": case.what,
        "threads": limits.threads,
        "operations": operations,
        "bytes": moved,
        "level": limits.level(touched),
        "floor": floor,
        "share": floor / ours,
        "rate": operations / ours if operations else moved / ours,
        "unit": "GFLOP/s" if operations else "GB/s",
        "times": times,
        "quartiles": {library: measure.quartiles(found) for library, found in times.items()},
        "ratios": {k: measure.ratio(times["glassgrad"], v) for k, v in times.items() if k != "glassgrad"},
        "missing": missing,
    }


def memory_of(case: Any, libraries: list[str], threads: int) -> dict[str, int]:
    """Peak memory of a step in each library, each in a fresh process."""
    found = {}
    for library in libraries:
        if library in ("glassgrad", "torch"):
            process = Worker(library, threads, worker.peak_memory, case.key)
            found[library] = process.answer
            process.close()
    return found


def machine(isa: str) -> dict[str, Any]:
    """Where and with what the figures were made."""
    import glassgrad as gg

    versions = {}
    for name in ("torch", "numpy", "jax"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "processor": processor(),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {"glassgrad": gg.__version__, **versions},
        "isa": gg.config()["isa"],
        "forced isa": isa,
        "load before": os.getloadavg(),
    }


def write_atomically(path: Path, text: str) -> None:
    """A reader sees the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.write_text(text)
    fresh.replace(path)


def progress(total: int) -> Any:
    """A bar with the time left."""
    try:
        from tqdm import tqdm
    except ImportError:
        sys.exit("the progress bar needs tqdm: pip install 'glassgrad[bench]'")
    return tqdm(total=total, unit="case", dynamic_ncols=True, disable=None)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a typical shape of each family, fewer rounds")
    parser.add_argument("--only", default="", help="cases whose family or name contains this")
    parser.add_argument("--threads", action="append", help="1, or 1,2; may be repeated (default: 1 and all cores)")
    parser.add_argument("--against", default="torch", help="torch, numpy, jax, or several with commas; '' for none")
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, help="torch.compile; on in a full run")
    parser.add_argument("--rounds", type=int, help=f"turns (default {FULL_ROUNDS}, quick {QUICK_ROUNDS})")
    parser.add_argument("--isa", choices=sorted(ISAS), default="native", help="the instructions both may use")
    parser.add_argument("--json", type=Path, help="a file for the results (default OUT/results.json)")
    parser.add_argument("--out", type=Path, default=HERE / "results", help="where the report goes")
    options = parser.parse_args(arguments)
    cores = os.cpu_count() or 1
    options.threads = sorted({int(n) for text in options.threads or [f"1,{cores}"] for n in text.split(",")})
    options.rounds = options.rounds or (QUICK_ROUNDS if options.quick else FULL_ROUNDS)
    options.compile = not options.quick if options.compile is None else options.compile
    return options


def peers_of(options: argparse.Namespace) -> tuple[list[str], list[str]]:
    """The libraries beside glassgrad, and why others are left out."""
    peers, notes = [], []
    for peer in filter(None, options.against.split(",")):
        try:
            importlib.metadata.version(peer)
        except importlib.metadata.PackageNotFoundError:
            notes.append(f"{peer} is not installed")
        else:
            if peer == "jax":
                notes.append("jax: no case has a jax form yet")
            else:
                peers.append(peer)
    if options.compile and "torch" in peers:
        if shutil.which("g++") or shutil.which(os.environ.get("CXX", "c++")):
            peers.append("torch.compile")
        else:
            notes.append("torch.compile: no C++ compiler was found")
    return peers, notes


def start(libraries: list[str], threads: int, notes: list[str]) -> dict[str, Worker]:
    """A process for each library; a peer that does not start is left out, and a note says why."""
    workers = {}
    for library in libraries:
        try:
            workers[library] = Worker(library, threads)
        except Failed as error:
            if library == "glassgrad":
                raise
            notes.append(f"{library}: {error}")
    return workers


def main(arguments: list[str] | None = None) -> int:
    """Runs the cases and writes the report; returns the exit status."""
    options = parse(arguments)
    os.environ.update(ISAS[options.isa])  # before a library is imported, here and in the workers
    import cases
    import limits
    import report

    chosen = [case for case in cases.all_cases() if options.only in case.key and (not options.quick or case.quick)]
    peers, notes = peers_of(options)
    results: dict[str, Any] = {"machine": machine(options.isa), "limits": [], "cases": [], "errors": [], "notes": notes}
    kept = options.json or options.out / "results.json"
    saved = time.perf_counter()
    with progress(len(chosen) * len(options.threads)) as bar:
        for threads in options.threads:
            found = limits.measure(threads, options.isa)
            results["limits"].append(found.as_json())
            workers = start(["glassgrad", *peers], threads, notes)
            for case in chosen:
                bar.set_description(f"{threads} threads, {case.family}")
                try:
                    row = run_case(case, workers, options.rounds, found)
                    if case.family == "step":
                        row["memory"] = memory_of(case, list(workers), threads)
                    results["cases"].append(row)
                except Failed as error:
                    results["errors"].append({"key": case.key, "threads": threads, "error": str(error)})
                    if isinstance(error, Ended):
                        for process in workers.values():
                            process.close()
                        workers = start(list(workers), threads, notes)
                bar.update()
                if time.perf_counter() - saved > SAVE_EVERY:
                    write_atomically(kept, json.dumps(results, indent=1))
                    saved = time.perf_counter()
            for process in workers.values():
                process.close()
    results["machine"]["load after"] = os.getloadavg()
    write_atomically(kept, json.dumps(results, indent=1))
    report.show(results)
    report.write(results, options.out)
    return 1 if results["errors"] else 0


if __name__ == "__main__":
    sys.exit(main())
