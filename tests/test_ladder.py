"""Every rung of benchmarks/ladder is right on simt, in every order of threads, and moves less than the one below."""

from __future__ import annotations

import importlib.util
import itertools
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from glassgrad.testing import simt

FILE = Path(__file__).parent.parent / "benchmarks" / "ladder" / "run.py"
spec = importlib.util.spec_from_file_location("ladder", FILE)
assert spec is not None and spec.loader is not None
ladder: Any = importlib.util.module_from_spec(spec)
sys.modules["ladder"] = ladder  # its dataclasses look themselves up
spec.loader.exec_module(ladder)


@pytest.fixture(scope="module")
def functions() -> dict[str, Any]:
    return dict(zip([r.name for r in ladder.RUNGS], ladder.compiled(ladder.RUNGS, "simt"), strict=True))


def test_every_file_is_a_rung_with_a_line_in_readme() -> None:
    files = {f.stem for f in FILE.parent.glob("*.cu")}
    assert files == {r.name for r in ladder.RUNGS}
    assert files == set(
        re.findall(r"^\| \[\d\]\((\w+)\.cu\) \|", (FILE.parent / "README.md").read_text(), re.MULTILINE)
    )


def test_figures_of_a_gpu_go_into_their_cells(tmp_path: Path) -> None:
    copy = tmp_path / "README.md"
    copy.write_text((FILE.parent / "README.md").read_text())
    result = {"rung": "matmul_2_coalesced", "tflops": 1.234, "share": 0.5, "rival": "PyTorch 2"}
    ladder.fill_readme([result], copy)
    lines = [line for line in copy.read_text().splitlines() if "1.23, 50% of PyTorch |" in line]
    assert len(lines) == 1 and "(matmul_2_coalesced.cu)" in lines[0]


@pytest.mark.parametrize("schedule", ["forward", "reverse", "random"])
@pytest.mark.parametrize("rung", ladder.RUNGS, ids=lambda r: r.name)
def test_agrees_with_float64(functions: dict[str, Any], rung: Any, schedule: str) -> None:
    with simt.checks(True), simt.schedule(schedule, 1):
        problem = ladder.make_problem(rung, ladder.CHECKED[rung.ladder][0])
        ladder.check(rung, functions[rung.name], problem, ladder.arguments(problem, "simt"))


@pytest.mark.parametrize("name", ["matmul", "attention"])
def test_traffic_falls(functions: dict[str, Any], name: str) -> None:
    rungs = [r for r in ladder.RUNGS if r.ladder == name]
    moved = [ladder.traffic(r, functions[r.name], 128)["moved"] for r in rungs]
    assert all(after <= 1.01 * before for before, after in itertools.pairwise(moved)), moved
    assert moved[-1] < moved[0] / 100, moved
