"""`python -m glassgrad doctor`: what this machine and this build have, and what to do about what is missing."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import glassgrad as gg

__all__ = ["report", "runs_on"]

# Optional packages, and what they are for.
PACKAGES = {
    "cupy": "arrays and kernels on a GPU beside ours (pip install cupy-cuda13x)",
    "torch": "comparison in tests and benchmarks (pip install torch)",
    "safetensors": "reading and writing .safetensors files (pip install safetensors)",
    "matplotlib": "pictures of the examples (pip install matplotlib)",
    "sklearn": "the demo's data set without a download (pip install scikit-learn)",
    "tqdm": "progress bars (pip install tqdm)",
}


def report(cuda: Any = None, simt: Any = None) -> tuple[list[str], list[str]]:
    """(what there is, what to do), line by line; `cuda` and `simt` stand for the modules in tests.

    >>> found, advice = report()
    >>> found[0].startswith("glassgrad")
    True
    """
    cuda, simt = cuda or _module("_cuda"), simt or _module("_simt")
    config = gg.config()
    found = [_line("glassgrad", f"{config['version']}, Python {config['python']}, numpy {config['numpy']}")]
    found.append(_line("compiler", config["compiler"]))
    isas = ", ".join(config["isas"])
    found.append(_line("CPU", f"{_processor()}: kernels for {config['isa']} (of {isas}), {config['threads']} threads"))
    advice = []

    if cuda is None:
        found.append(_line("CUDA", "not built"))
        nvcc = shutil.which("nvcc") or ("/usr/local/cuda/bin/nvcc" if Path("/usr/local/cuda/bin/nvcc").exists() else "")
        advice.append(
            f"This build has no CUDA kernels, but there is a compiler ({nvcc}): install glassgrad anew to build them."
            if nvcc
            else "This build has no CUDA kernels: install CUDA 12.0 or later (nvcc) and then glassgrad anew for a GPU."
        )
    else:
        found.append(_line("CUDA", f"built with {_version(cuda.runtime_version)} for {cuda.architectures}"))
        driver = cuda.driver_version()
        found.append(_line("driver", f"{_driver()}serves CUDA {_version(driver)}" if driver else "none"))
        why = cuda.problem()
        if why:
            found.append(_line("devices", "none"))
            advice.append(f"No GPU can be used: {why}. Everything runs on the CPU.")
        for i in range(cuda.device_count()):
            p = cuda.properties(i)
            arch = 10 * p["major"] + p["minor"]
            memory = f"{p['total_memory'] / 2**30:.0f} GiB, {p['multi_processor_count']} multiprocessors"
            found.append(_line(f"cuda:{i}", f"{p['name']}, sm_{arch}, {memory}"))
            if not runs_on(cuda.architectures.split(", "), arch):
                advice.append(
                    f"cuda:{i} is sm_{arch}, and this build has kernels for {cuda.architectures}: build on this "
                    "machine with GLASSGRAD_CUDA_ARCHS=native."
                )
            elif arch == 90 and "sm_90a" not in cuda.architectures:
                advice.append(f"cuda:{i} is a Hopper; kernels of its own need a build for 90a-real as well.")

    found.append(
        _line("simt", "not built" if simt is None else f"built, checks {'on' if simt.get_checks() else 'off'}")
    )
    if simt is None:
        advice.append("The device simt, which runs the CUDA kernels on the CPU, is not built: install glassgrad anew.")
    for name, purpose in PACKAGES.items():
        version = _installed(name)
        found.append(_line(name, version or f"not installed; for {purpose}"))
    outside = ("CUDA_VISIBLE_DEVICES", "CUDA_LAUNCH_BLOCKING")
    settings = config["environment"] | {name: os.environ[name] for name in outside if name in os.environ}
    for name, value in settings.items():
        found.append(_line("set", f"{name}={value}"))
    return found, advice


def runs_on(architectures: Iterable[str], device: int) -> bool:
    """Whether kernels built for some architectures run on a device, such as 86.

    Machine code serves devices of its generation from its own number on, PTX those of every later one; sm_90a holds
    Hopper's own kernels only, which need the others beside them.

    >>> runs_on(["sm_80", "sm_90a"], 86), runs_on(["sm_80", "sm_90a"], 90)
    (True, False)
    """
    for name in architectures:
        kind, number = name.split("_")
        if not number.isdigit():
            continue
        if kind == "compute" and int(number) <= device:
            return True
        if kind == "sm" and int(number) // 10 == device // 10 and int(number) <= device:
            return True
    return False


def _line(name: str, text: str) -> str:
    return f"{name:12} {text}"


def _module(name: str) -> Any:
    try:
        return importlib.import_module(f"glassgrad.{name}")
    except ImportError:
        return None


def _version(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}"


def _driver() -> str:
    """The version of the NVIDIA kernel module, as '580.65.06, ', where it can be read."""
    try:
        found = re.search(r"\b(\d{3}\.\d+(?:\.\d+)?)\b", Path("/proc/driver/nvidia/version").read_text())
    except OSError:
        return ""
    return f"{found[1]}, " if found else ""


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor() or platform.machine()
    found = re.search(r"^model name\s*: (.*)$", text, re.M)
    return found[1] if found else platform.machine()


def _installed(name: str) -> str | None:
    """The version of a package that provides a module, without importing it."""
    if importlib.util.find_spec(name) is None:
        return None
    for package in importlib.metadata.packages_distributions().get(name, [name]):
        try:
            return importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return "installed"
