"""Every rung of benchmarks/ladder is right, on simt in every order of threads, and better than the one below."""

from __future__ import annotations

import itertools
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from glassgrad.testing import simt

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "benchmarks" / "ladder"
sys.path.insert(0, str(ROOT))

from benchmarks import limits  # noqa: E402
from benchmarks.ladder import cpu  # noqa: E402
from benchmarks.ladder import run as ladder  # noqa: E402


@pytest.fixture(scope="module")
def functions() -> dict[str, Any]:
    return dict(zip([r.name for r in ladder.RUNGS], ladder.compiled(ladder.RUNGS, "simt"), strict=True))


@pytest.fixture(scope="module")
def cpu_functions() -> dict[str, Any]:
    try:
        limits.compiler()
    except RuntimeError as error:
        pytest.skip(f"rungs on the CPU are compiled when they are asked for: {error}")
    return dict(zip([r.name for r in cpu.RUNGS], cpu.compiled(cpu.RUNGS), strict=True))


@pytest.mark.parametrize(("files", "rungs"), [("*.cu", ladder.RUNGS), ("cpu/*.cpp", cpu.RUNGS)], ids=["gpu", "cpu"])
def test_every_file_is_a_rung_with_a_line_in_readme(files: str, rungs: list[Any]) -> None:
    names = {f.stem for f in FOLDER.glob(files)}
    assert names == {r.name for r in rungs}
    link = re.escape(files).replace(r"\*", r"(\w+)")
    assert names == set(re.findall(rf"^\| \[\d\]\({link}\) \|", (FOLDER / "README.md").read_text(), re.MULTILINE))


@pytest.mark.parametrize("link", ["(matmul_2_coalesced.cu)", "(cpu/matmul_2_rows.cpp)"])
def test_figures_go_into_their_cells(tmp_path: Path, link: str) -> None:
    copy = tmp_path / "README.md"
    copy.write_text((FOLDER / "README.md").read_text())
    ladder.fill_readme([{"rung": "this", "rate": 1.234, "share": 0.5, "rival": "PyTorch 2"}], copy, link)
    lines = [line for line in copy.read_text().splitlines() if "1.23, 50% of PyTorch |" in line]
    assert len(lines) == 1 and link in lines[0]


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


@pytest.mark.parametrize("rung", cpu.RUNGS, ids=lambda r: f"cpu/{r.name}")
def test_agrees_with_float64_on_the_cpu(cpu_functions: dict[str, Any], rung: Any) -> None:
    cpu.check(rung, cpu_functions[rung.name])


def test_the_last_rung_on_the_cpu_is_faster(cpu_functions: dict[str, Any]) -> None:
    for name in cpu.CHECKED:
        rungs = [r.name for r in cpu.RUNGS if r.ladder == name]
        functions = {r: cpu_functions[r] for r in (rungs[0], rungs[-1])}
        times = cpu.take_turns(functions, cpu.make_problem(name, 256))
        assert 5 * min(times[rungs[-1]]) < min(times[rungs[0]]), times
