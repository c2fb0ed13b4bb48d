"""The benchmark runs end to end, notices results that differ, and its regression check finds a slower case."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

FOLDER = Path(__file__).parent.parent / "benchmarks"
OWN = ("cases", "compare", "limits", "measure", "report", "run", "steps", "targets", "worker")


@pytest.fixture(scope="module", autouse=True)
def on_the_path() -> Iterator[None]:
    """The benchmark's files import each other by their short names."""
    sys.path.insert(0, str(FOLDER))
    yield
    sys.path.remove(str(FOLDER))
    for name in OWN:
        sys.modules.pop(name, None)


def test_a_run_writes_json_and_a_page(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("tqdm")
    pytest.importorskip("matplotlib")
    import run

    only = ["--only", "overhead: add 8x8", "--threads", "1", "--rounds", "2", "--no-compile"]
    assert run.main([*only, "--out", str(tmp_path)]) == 0
    results = json.loads((tmp_path / "results.json").read_text())
    assert [c["what"] for c in results["cases"]] == ["f", "f graph"] and not results["errors"]
    for case in results["cases"]:
        ratio, low, high = case["ratios"]["torch"]
        assert 0 < low <= ratio <= high and len(case["times"]["glassgrad"]) == 2
    assert results["machine"]["versions"]["glassgrad"] and results["limits"][0]["peak"] > 0
    page = (tmp_path / "index.html").read_text()
    assert "<svg" in page and "add 8x8" in page and "src=" not in page  # nothing is loaded from elsewhere
    assert (tmp_path / "families.png").read_bytes().startswith(b"\x89PNG")


class Answers:
    """A worker that gives one result and one time."""

    def __init__(self, value: float) -> None:
        self.value = value

    def ask(self, message: Any) -> Any:
        return 1e-3 if message == "turn" else ([np.full(3, self.value)], 12.0, 12.0, 0.0)


def test_results_that_differ_are_an_error() -> None:
    import cases
    import limits
    import run

    case = cases.Case("matmul", "planted")
    bounds = limits.Limits(1, 1e9, dict.fromkeys(limits.LEVELS, 1e9), {"L2": 1 << 20, "L3": 1 << 24}, {})
    with pytest.raises(run.Failed, match="differ from torch"):
        run.run_case(case, {"glassgrad": Answers(1.0), "torch": Answers(1.1)}, 2, bounds)
    row = run.run_case(case, {"glassgrad": Answers(1.0), "torch": Answers(1.0)}, 2, bounds)
    assert row["ratios"] == {"torch": [1.0, 1.0, 1.0]}
    assert row["share"] == pytest.approx(12e-9 / 1e-3)


def test_comparison_finds_the_slower_case(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import compare

    def write(name: str, **ratios: list[float]) -> str:
        cases = [{"key": key, "threads": 1, "ratios": {"torch": found}} for key, found in ratios.items()]
        (tmp_path / name).write_text(json.dumps({"cases": cases}))
        return str(tmp_path / name)

    old = write("old.json", steady=[1.5, 1.4, 1.6], planted=[2.0, 1.9, 2.1])
    assert compare.main([old, old]) == 0
    assert compare.main([old, write("new.json", steady=[1.45, 1.4, 1.5], planted=[1.5, 1.4, 1.6])]) == 1
    assert "SLOWER    planted" in capsys.readouterr().out
    assert compare.main([old, write("less.json", steady=[1.5, 1.4, 1.6])]) == 1


def test_limits_are_plausible() -> None:
    import limits

    if limits.shutil.which("c++") is None:
        pytest.skip("no C++ compiler")
    found = limits.measure(1)
    assert 1e9 < found.peak < 1e12
    assert all(1e8 < b < 1e13 for b in found.bandwidth.values())
    assert found.floor(found.peak, 0, 0) == pytest.approx(1)
    assert found.level(1024) == "L2" and found.level(1 << 50) == "memory"


def test_cases_have_their_own_names_and_figures() -> None:
    import cases
    import targets

    found = cases.all_cases()
    assert len({case.key for case in found}) == len(found)
    assert {case.family for case in found} <= targets.TARGETS.keys()
    assert set(targets.TARGETS) - {"other"} <= {case.family for case in found if case.quick}
