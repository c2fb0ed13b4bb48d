"""Runs a CUDA compiler's command and reads what ptxas says of each kernel.

A line `// hot: no spills` above a kernel makes the compilation fail where that kernel spills registers. It fails as
well where ptxas lets the wgmma instructions of any kernel wait for each other (its warnings C7508 to C7519). The rest
of ptxas's report is dropped.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ENTRY = re.compile(r"Compiling entry function '(\S+)' for '(\S+)'")
PROPERTIES = re.compile(r"Function properties for (\S+)")
SPILLS = re.compile(r"(\d+) bytes spill stores, (\d+) bytes spill loads")
SERIALISED = re.compile(r"\(C75(0[89]|1\d)\)")


def hot_kernels(source: Path) -> list[str]:
    """The names of the hot kernels of a source and of the headers of this folder that it includes."""
    text = source.read_text()
    for header in re.findall(r'^#include "cuda/(\S+)"', text, re.M):
        text += (Path(__file__).parent / header).read_text()
    return re.findall(r"^// hot: no spills$.*?(\w+_kernel)\(", text, re.M | re.S)


def is_named(mangled: str, name: str) -> bool:
    """Whether a mangled symbol is a function of that name, in any namespace and with any template arguments."""
    return f"{len(name)}{name}" in mangled


def faults(report: str, hot: list[str]) -> list[str]:
    """What is wrong with the kernels that ptxas reports on."""
    found, kernels = [], set()
    function = architecture = ""
    for line in report.splitlines():
        if entry := ENTRY.search(line):
            function, architecture = entry.groups()
            kernels.add(function)
        elif properties := PROPERTIES.search(line):
            function = properties[1]
        elif spills := SPILLS.search(line):
            if spills.groups() != ("0", "0") and any(is_named(function, name) for name in hot):
                found.append(f"hot kernel {function} spills registers on {architecture}: {line.strip()}")
        elif SERIALISED.search(line):
            found.append(line.strip())
    if kernels:
        missing = [name for name in hot if not any(is_named(kernel, name) for kernel in kernels)]
        found += [f"{name} is marked hot, but ptxas reports no such kernel" for name in missing]
    return found


def is_chatter(line: str) -> bool:
    """Whether a line is part of ptxas's report on kernels that are in order."""
    return line.startswith("ptxas info") or re.match(r"\s+\d+ bytes stack frame", line) is not None


def main(command: list[str]) -> int:
    """Runs the command; its exit status, or 1 where a kernel is not in order."""
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, errors="replace")
    sys.stderr.writelines(line for line in done.stderr.splitlines(keepends=True) if not is_chatter(line))
    source = next((word for word in command if word.endswith(".cu")), None)
    if done.returncode or source is None:
        return done.returncode
    found = faults(done.stderr, hot_kernels(Path(source)))
    for fault in found:
        print(f"{source}: error: {fault}", file=sys.stderr)
    if found and "-o" in command:  # else the next build would take the object for good
        Path(command[command.index("-o") + 1]).unlink(missing_ok=True)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
