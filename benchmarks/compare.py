"""Did it get slower? `python benchmarks/compare.py OLD.json NEW.json [--tolerance 0.05]`

A case counts as changed when the intervals of its ratio in the two files do not overlap. The exit status is 1 if one
became slower by more than the tolerance, or a case of OLD is missing or failed in NEW.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any


def by_case(path: Path) -> dict[tuple[str, int, str], list[float]]:
    """Every ratio with its interval: (case, threads, peer) -> [ratio, low, high]."""
    results: dict[str, Any] = json.loads(path.read_text())
    return {
        (case["key"], case["threads"], peer): values
        for case in results["cases"]
        for peer, values in case["ratios"].items()
    }


def main(arguments: list[str] | None = None) -> int:
    """Compares two files; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--tolerance", type=float, default=0.05, help="a loss that is let pass")
    options = parser.parse_args(arguments)
    old, new = by_case(options.old), by_case(options.new)
    slower = 0
    for key in old.keys() | new.keys():
        if key not in new:
            print(f"missing   {key[0]}, {key[1]} threads, {key[2]}")
            slower += 1
    for key in sorted(old.keys() & new.keys()):
        (before, low, high), (after, new_low, new_high) = old[key], new[key]
        if new_low <= high and new_high >= low:
            continue
        bad = after < before * (1 - options.tolerance)
        slower += bad
        word = "SLOWER" if bad else "slower" if after < before else "faster"
        print(f"{word:9} {key[0]}, {key[1]} threads: {before:.2f} -> {after:.2f} times {key[2]}'s speed")
    print(f"{len(old.keys() & new.keys())} ratios compared, {slower} slower by more than {options.tolerance:.0%}")
    return 1 if slower else 0


if __name__ == "__main__":
    sys.exit(main())
