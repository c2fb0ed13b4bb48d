"""The report of a run: a table in the terminal, and a page with charts that needs no other file."""

from __future__ import annotations

import html
import io
from pathlib import Path
from typing import Any

from measure import geometric_mean
from targets import COMPILED, LEAST_SHARE, LONG, MEAN_SHARE, TARGETS

Row = dict[str, Any]


def seconds(t: float) -> str:
    """A time in a unit that suits it."""
    return f"{t * 1e9:.0f} ns" if t < 1e-6 else f"{t * 1e6:.1f} µs" if t < 1e-3 else f"{t * 1e3:.2f} ms"


def peers_of(rows: list[Row]) -> list[str]:
    """The libraries that some case was compared with."""
    return list(dict.fromkeys(peer for row in rows for peer in row["ratios"]))


def family_means(results: Row, peer: str) -> list[tuple[str, int, int, float, float]]:
    """(family, threads, cases, least ratio, geometric mean) of every family."""
    found = []
    for family in TARGETS:
        for threads in sorted({row["threads"] for row in results["cases"]}):
            ratios = [
                row["ratios"][peer][0]
                for row in results["cases"]
                if (row["family"], row["threads"]) == (family, threads) and peer in row["ratios"]
            ]
            if ratios:
                found.append((family, threads, len(ratios), min(ratios), geometric_mean(ratios)))
    return found


def misses(results: Row) -> list[str]:
    """Every case, family mean, share of the limit and peak memory that misses its figure."""
    found = []
    for row in results["cases"]:
        where = f"{row['key']}, {row['threads']} threads"
        limit = f"{row['share']:.0%} of the limit"
        for peer, target in (("torch", TARGETS[row["family"]]), ("torch.compile", COMPILED)):
            if peer in row["ratios"] and row["ratios"][peer][0] < target.least:
                found.append(f"{where}: {row['ratios'][peer][0]:.2f} of {target.least} against {peer}, {limit}")
        if row["floor"] and row["quartiles"]["glassgrad"][1] > LONG and row["share"] < LEAST_SHARE:
            found.append(f"{where}: {limit}, {LEAST_SHARE:.0%} wanted")
        memory = row.get("memory", {})
        if memory.get("glassgrad", 0) > memory.get("torch", float("inf")):
            found.append(f"{where}: {memory['glassgrad'] / memory['torch']:.2f} of PyTorch's peak memory")
    for family, threads, _, _, mean in family_means(results, "torch"):
        if mean < TARGETS[family].mean:
            title, wanted = TARGETS[family].title, TARGETS[family].mean
            found.append(f"{title}, {threads} threads: geometric mean {mean:.2f} of {wanted}")
    shares = long_shares(results)
    if shares and geometric_mean(shares) < MEAN_SHARE:
        found.append(f"geometric mean of the shares of the limit: {geometric_mean(shares):.2f} of {MEAN_SHARE}")
    return found


def long_shares(results: Row) -> list[float]:
    """The shares of the limit of the cases that take long enough for it to matter."""
    return [r["share"] for r in results["cases"] if r["share"] > 0 and r["quartiles"]["glassgrad"][1] > LONG]


def cells(row: Row, peers: list[str]) -> list[str]:
    """A case's line: name, threads, times, ratios with intervals, rate and share of the limit."""
    line = [row["family"], row["name"], row["what"], str(row["threads"])]
    for library in ("glassgrad", *peers):
        if library in row["quartiles"]:
            low, median, high = row["quartiles"][library]
            line.append(f"{seconds(median)} ±{(high - low) / 2 / median:.0%}")
        else:
            line.append("")
    ratios = [row["ratios"].get(peer) for peer in peers]
    line += ["{:.2f} ({:.2f}-{:.2f})".format(*found) if found else "" for found in ratios]
    line.append(f"{row['rate'] / 1e9:.3g} {row['unit']}" if row["rate"] else "")
    line.append(f"{row['share']:.0%} of {row['level']}" if row["floor"] else "")
    memory = row.get("memory", {})
    line.append(" / ".join(f"{memory[k] / 1e6:.0f} MB" for k in ("glassgrad", "torch") if k in memory))
    return line


def heads(peers: list[str]) -> list[str]:
    """The columns of `cells`."""
    libraries = ["glassgrad", *peers]
    return ["family", "case", "pass", "threads", *libraries, *[f"x {p}" for p in peers], "rate", "limit", "memory"]


def show(results: Row) -> None:
    """Prints the table."""
    machine, peers = results["machine"], peers_of(results["cases"])
    print(f"{machine['date']}, {machine['processor']}, {machine['cores']} cores, {machine['isa']} kernels")
    lines = [heads(peers), *[cells(row, peers) for row in results["cases"]]]
    lines = [[cell[:44] for cell in line] for line in lines]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    for peer in peers:
        print(f"\ngeometric means of {peer}'s time over ours")
        for family, threads, count, least, mean in family_means(results, peer):
            title = TARGETS[family].title
            print(f"  {title:44} {threads} threads  {count:4} cases  mean {mean:6.2f}  least {least:6.2f}")
    for title, found in (("missed", misses(results)), ("notes", results["notes"])):
        if found:
            print(f"\n{title}:\n  " + "\n  ".join(found))
    for error in results["errors"]:
        print(f"ERROR {error['key']}, {error['threads']} threads: {error['error']}")


def picture(figure: Any, kind: str) -> bytes:
    """A figure as a file's bytes."""
    stream = io.BytesIO()
    figure.savefig(stream, format=kind, bbox_inches="tight", dpi=130)
    return stream.getvalue()


def new_figure(width: float, height: float) -> tuple[Any, Any]:
    """A figure that needs no display."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    return figure, figure.subplots()


def family_chart(results: Row, peer: str) -> Any:
    """The geometric mean of each family, and its cases as dots."""
    means = family_means(results, peer)
    figure, axes = new_figure(8, 1 + 0.28 * len(means))
    names = [f"{TARGETS[family].title} ({threads})" for family, threads, *_ in means]
    for y, (family, threads, _, _, mean) in enumerate(means):
        axes.barh(y, mean - 1, left=1, color="#4477aa" if mean >= 1 else "#cc6677", alpha=0.7)
        dots = [
            row["ratios"][peer][0]
            for row in results["cases"]
            if (row["family"], row["threads"]) == (family, threads) and peer in row["ratios"]
        ]
        axes.plot(dots, [y] * len(dots), ".", color="black", markersize=3)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xlabel(f"{peer}'s time / glassgrad's (threads in brackets); right of 1, glassgrad is faster")
    return figure


def roofline(results: Row, limits: Row) -> Any:
    """Operations a second over operations a byte, under this machine's roof."""
    figure, axes = new_figure(8, 5)
    intensity = [2.0**i for i in range(-4, 12)]
    for level, bandwidth in limits["bandwidth"].items():
        axes.plot(intensity, [min(limits["peak"], i * bandwidth) / 1e9 for i in intensity], label=f"limit, {level}")
    for family in TARGETS:
        points = [
            (row["operations"] / row["bytes"], row["rate"] / 1e9)
            for row in results["cases"]
            if row["threads"] == limits["threads"] and row["family"] == family and row["operations"] and row["bytes"]
        ]
        if points:
            axes.plot(*zip(*points, strict=True), ".", label=TARGETS[family].title)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xlabel("operations a byte")
    axes.set_ylabel(f"GFLOP/s, {limits['threads']} threads")
    axes.legend(fontsize=7)
    return figure


def table_html(head: list[str], lines: list[list[str]]) -> str:
    """A table of escaped cells."""
    rows = ["".join(f"<td>{html.escape(cell)}</td>" for cell in line) for line in lines]
    titles = "".join(f"<th>{html.escape(cell)}</th>" for cell in head)
    return f"<table><tr>{titles}</tr>" + "".join(f"<tr>{row}</tr>" for row in rows) + "</table>"


def write(results: Row, out: Path) -> None:
    """Writes index.html, and families.png for README."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        print("the page with charts needs matplotlib: pip install 'glassgrad[bench]'")
        return
    peers = peers_of(results["cases"])
    charts = [family_chart(results, peer) for peer in peers]
    charts += [roofline(results, limits) for limits in results["limits"]]
    drawn = [svg[svg.index("<svg") :] for svg in (picture(chart, "svg").decode() for chart in charts)]
    facts = [[k, str(v)] for k, v in results["machine"].items()]
    errors = [[e["key"], str(e["threads"]), e["error"]] for e in results["errors"]]
    parts = [
        "<!doctype html><html lang='en'><meta charset='utf-8'><title>glassgrad: benchmark</title>",
        "<style>body{font:15px sans-serif;margin:2em;max-width:75em}td,th{padding:2px 8px;text-align:left}"
        "table{border-collapse:collapse;font-size:13px}tr:nth-child(odd){background:#f4f4f4}svg{max-width:100%;height:auto}</style>",
        "<h1>glassgrad beside its peers</h1>",
        table_html(["", ""], facts),
        *drawn,
        "<h2>Figures missed</h2>" + table_html(["case"], [[m] for m in misses(results)]),
        "<h2>Errors</h2>" + table_html(["case", "threads", "error"], errors),
        "<h2>Notes</h2>" + table_html(["note"], [[note] for note in results["notes"]]),
        "<h2>Cases</h2>" + table_html(heads(peers), [cells(row, peers) for row in results["cases"]]),
    ]
    out.mkdir(parents=True, exist_ok=True)
    (out / "index.html").write_text("\n".join(parts) + "</html>\n")
    if peers:
        (out / "families.png").write_bytes(picture(charts[0], "png"))
