"""Every docstring example runs, every public function has one, and README's programs print what README says."""

from __future__ import annotations

import contextlib
import doctest
import importlib
import inspect
import io
import pkgutil
import re
from pathlib import Path

import numpy as np
import pytest

import glassgrad as gg

README = Path(__file__).parent.parent / "README.md"
MODULES = [
    m.name
    for m in pkgutil.walk_packages(gg.__path__, "glassgrad.")
    if not m.name.endswith(("__main__", "._core", "._simt", "._cuda"))
]


@pytest.mark.parametrize("name", ["glassgrad", *MODULES])
def test_docstring_examples(name, tmp_path):
    module = importlib.import_module(name)
    finder = doctest.DocTestFinder(exclude_empty=True)
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    report = io.StringIO()
    for test in finder.find(module, name, extraglobs={"gg": gg, "F": gg.nn.functional, "np": np, "tmp_path": tmp_path}):
        gg.manual_seed(0)
        runner.run(test, out=report.write)
    assert runner.failures == 0, report.getvalue()


def _public_functions():
    places = [("gg", gg), ("gg.nn", gg.nn), ("gg.nn.functional", gg.nn.functional), ("gg.nn.init", gg.nn.init)]
    places += [("gg.optim", gg.optim), ("gg.optim.lr_scheduler", gg.optim.lr_scheduler), ("gg.data", gg.data)]
    for path, place in places:
        for name, value in vars(place).items():
            if name.startswith("_") or inspect.ismodule(value) or not callable(value):
                continue
            in_place = hasattr(value, "__wrapped__") and name.endswith("_")  # its form without the underscore has one
            if getattr(value, "__module__", "").startswith("glassgrad.") and not in_place:
                yield pytest.param(value, id=f"{path}.{name}")


@pytest.mark.parametrize("function", _public_functions())
def test_public_names_have_an_example(function):
    assert function.__doc__ and ">>>" in function.__doc__, f"{function.__module__}.{function.__name__} has no example"


def _readme_programs():
    text = README.read_text()
    for i, match in enumerate(re.finditer(r"```python\n(.*?)```\n(?:\s*```text\n(.*?)```)?", text, re.DOTALL)):
        yield pytest.param(match.group(1), match.group(2), id=f"program{i}")


@pytest.mark.parametrize(("program", "output"), _readme_programs())
def test_readme_programs(program, output, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(program, "README.md", "exec"), {"__name__": "readme"})
    if output is not None:
        assert printed.getvalue().strip() == output.strip()
