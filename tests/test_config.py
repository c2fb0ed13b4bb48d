"""Settings from the environment, and what an import needs and costs."""

from __future__ import annotations

import os
import subprocess
import sys

import glassgrad as gg


def run(code: str, **environment: str) -> tuple[str, str]:
    """What a fresh interpreter prints to its output and its error stream."""
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **environment}, capture_output=True, text=True, check=True
    )
    return done.stdout.strip(), done.stderr


def test_isa_setting_chooses_the_kernels(isas: list[str]) -> None:
    for isa in isas:
        assert run("import glassgrad as gg; print(gg.config()['isa'])", GLASSGRAD_ISA=isa) == (isa, "")


def test_an_isa_that_cannot_be_had_is_a_warning() -> None:
    isa, warning = run("import glassgrad as gg; print(gg.config()['isa'])", GLASSGRAD_ISA="avx3")
    assert isa == gg.config()["isas"][-1]
    assert "RuntimeWarning: GLASSGRAD_ISA is 'avx3', but this build on this machine has baseline" in warning


def test_threads_setting() -> None:
    show = "import glassgrad as gg; print(gg.get_num_threads())"
    assert run(show, GLASSGRAD_NUM_THREADS="3") == ("3", "")
    for wrong in ("0", "-2", "two", "3x"):
        threads, warning = run(show, GLASSGRAD_NUM_THREADS=wrong)
        assert int(threads) == len(os.sched_getaffinity(0))
        assert f"RuntimeWarning: GLASSGRAD_NUM_THREADS is '{wrong}'" in warning


def test_import_needs_numpy_alone() -> None:
    code = """
import sys
import numpy
before = set(sys.modules)
import glassgrad
roots = {name.partition(".")[0] for name in set(sys.modules) - before}
print(sorted(r for r in roots - {"numpy"} if r not in sys.stdlib_module_names and not r.startswith("_")))
"""
    assert run(code) == ("['glassgrad']", "")
