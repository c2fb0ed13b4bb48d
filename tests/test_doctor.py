"""`python -m glassgrad doctor` says what is there, and what to do about what is not."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest

import glassgrad as gg
from glassgrad import doctor


def machine(problem: str = "", architectures: str = "sm_80, compute_90", arch: tuple[int, int] = (8, 6)) -> Any:
    """The module of a build on some machine."""
    about = {"name": "NVIDIA Something", "total_memory": 48 << 30, "multi_processor_count": 84}
    return SimpleNamespace(
        runtime_version=13000,
        architectures=architectures,
        driver_version=lambda: 0 if problem else 13010,
        problem=lambda: problem,
        device_count=lambda: 0 if problem else 1,
        properties=lambda i: about | {"major": arch[0], "minor": arch[1]},
    )


def test_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "glassgrad", "doctor"], capture_output=True, text=True, check=True)
    assert f"glassgrad    {gg.__version__}" in done.stdout and gg.config()["isa"] in done.stdout
    if gg.cuda.problem():
        assert gg.cuda.problem() in done.stdout or "no CUDA kernels" in done.stdout


def test_a_machine_in_order() -> None:
    found, advice = doctor.report(machine())
    assert "CUDA         built with 13.0 for sm_80, compute_90" in found
    assert "cuda:0       NVIDIA Something, sm_86, 48 GiB, 84 multiprocessors" in found
    assert any(line.startswith("driver") and line.endswith("serves CUDA 13.1") for line in found)
    assert not any("cuda" in line.lower() or "GPU" in line for line in advice)


def test_no_device() -> None:
    found, advice = doctor.report(machine("no NVIDIA driver is installed on this machine"))
    assert "driver       none" in found and "devices      none" in found
    assert "No GPU can be used: no NVIDIA driver is installed on this machine. Everything runs on the CPU." in advice


def test_a_device_without_kernels() -> None:
    _, advice = doctor.report(machine(architectures="sm_80, sm_90a", arch=(12, 0)))
    assert "cuda:0 is sm_120, and this build has kernels for sm_80, sm_90a" in advice[0]
    _, advice = doctor.report(machine(architectures="sm_90, compute_90", arch=(9, 0)))
    assert "90a-real" in advice[0]


def test_nothing_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_module", lambda name: None)
    monkeypatch.setattr(doctor.shutil, "which", lambda name: "/opt/bin/nvcc")
    found, advice = doctor.report()
    assert "CUDA         not built" in found and "simt         not built" in found
    assert "there is a compiler (/opt/bin/nvcc): install glassgrad anew" in advice[0]


def test_which_kernels_run_where() -> None:
    def runs(architectures: str, device: int) -> bool:
        return doctor.runs_on(architectures.split(), device)

    assert runs("sm_80", 80) and runs("sm_80", 89) and not runs("sm_80", 90) and not runs("sm_86", 80)
    assert runs("sm_80 compute_90", 120) and not runs("compute_90", 89)
    assert not runs("sm_90a", 90)
