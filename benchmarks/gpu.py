"""On a GPU: its ceilings, then ours beside PyTorch (and CuPy) op by op and training step by training step.

    python benchmarks/gpu.py [--only PATTERN] [--seconds 240] [--device cuda|cpu]

Both libraries run the same lines, in one process, on the same fresh random-normal numbers; results are compared before
anything is timed; times are medians of CUDA events, taken in turns. What is done when the seconds are over is written:
benchmarks/results/<gpu>.json and .md. With --device cpu sizes are tiny and nothing is written: a check of this file.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import re
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import glassgrad as gg

RESULTS = Path(__file__).resolve().parent / "results"
ROUNDS = 7
TURN = 0.02  # seconds of one turn


@dataclass(frozen=True)
class Case:
    """`run(lib, F, *inputs)` is one call in either library; target is PyTorch's time over ours that the issue asks."""

    name: str
    shapes: list[tuple[int, ...]]
    run: Callable[..., Any]
    dtype: str = "float32"
    backward: bool = False
    target: float | None = None
    moved: float = 0  # bytes that must move
    work: float = 0  # operations
    cupy: Callable[..., Any] | None = None


def cases(small: bool) -> Iterator[Case]:
    """Every op that the issue has a target for, and a few beside them."""
    n = 1 << (12 if small else 26)
    r, c = (32, 64) if small else (16384, 4096)
    both = (False, True)
    yield Case("copy", [(n,)], lambda t, F, x: x.clone(), moved=8 * n, target=0.95, cupy=lambda cp, x: x.copy())
    yield Case("exp", [(n,)], lambda t, F, x: t.exp(x), moved=8 * n, cupy=lambda cp, x: cp.exp(x))
    yield Case("add", [(n,), (n,)], lambda t, F, x, y: x + y, moved=12 * n, cupy=lambda cp, x, y: x + y)
    yield Case("add a row", [(r, c), (c,)], lambda t, F, x, y: x + y, moved=8 * r * c)
    yield Case("transpose", [(r, c)], lambda t, F, x: x.t().contiguous(), moved=8 * r * c)
    yield Case("sum", [(n,)], lambda t, F, x: x.sum(), moved=4 * n, cupy=lambda cp, x: x.sum())
    yield Case("sum of columns", [(r, c)], lambda t, F, x: x.sum(0), moved=4 * r * c, cupy=lambda cp, x: x.sum(0))
    for dtype, size in (("float32", 4), ("bfloat16", 2)):
        for b in both:
            moved = size * r * c * (3 if b else 2)
            goal = {"target": 1.1} if not b else {}
            yield Case("softmax", [(r, c)], lambda t, F, x: F.softmax(x, -1), dtype, b, moved=moved, **goal)
            goal = {"target": 1.8 if b else 1.1}
            layer = [(r, c), (c,), (c,)]
            yield Case("layer_norm", layer, lambda t, F, x, w, v: F.layer_norm(x, w.shape, w, v), dtype, b, **goal)
            yield Case("rms_norm", layer[:2], lambda t, F, x, w: F.rms_norm(x, w.shape, w), dtype, b, **goal)
        yield Case("cross_entropy", [(64, 100) if small else (8192, 50304)], cross_entropy, dtype, True, 2.0)
    for size in (64,) if small else (1024, 2048, 4096, 8192):
        square, work = [(size, size)] * 2, 2.0 * size**3
        goal = 0.9 if size == 1024 else 0.95
        yield Case(f"matmul {size}", square, lambda t, F, x, y: x @ y, "bfloat16", target=goal, work=work)
        linear = [(size, size), (size, size), (size,)]
        yield Case(f"linear + gelu {size}", linear, linear_gelu, "bfloat16", target=1.0, work=work)
        goal = 1.5 if size >= 2048 else None
        yield Case(f"matmul {size}", square, lambda t, F, x, y: x @ y, target=goal, work=work)
    for heads, length, size in ((2, 32, 64),) if small else ((12, 1024, 64), (16, 4096, 128)):
        for causal in both:
            for b in both:
                name = f"attention {'causal ' if causal else ''}d{size} T{length}"
                run = attention_causal if causal else attention
                shape = (2 if small else 8, heads, length, size)
                work = 4.0 * shape[0] * heads * length**2 * size * (2.5 if b else 1) / (2 if causal else 1)
                yield Case(name, [shape] * 3, run, "bfloat16", b, 0.75 if b else 0.9, work=work)
    batch, channels, side = (2, 8, 8) if small else (32, 128, 56)
    image, weights = (batch, channels, side, side), (channels, channels, 3, 3)
    work = 2.0 * batch * channels**2 * 9 * side**2
    for b in both:
        w = work * (2 if b else 1)
        yield Case(
            "conv 3x3", [image, weights], lambda t, F, x, k: F.conv2d(x, k, padding=1), "bfloat16", b, 0.85, 0, w
        )
        block = [image, weights, (channels,)]
        yield Case("conv + bias + relu", block, conv_relu, "bfloat16", b, 1.0, 0, w)
    yield Case("max_pool", [image], lambda t, F, x: F.max_pool2d(x, 3, 2, 1), backward=True)
    yield Case("sort rows", [(r, c)], lambda t, F, x: t.sort(x, -1)[0])


def cross_entropy(t: Any, F: Any, x: Any) -> Any:
    return F.cross_entropy(x, t.arange(x.shape[0], device=x.device) % x.shape[1])


def linear_gelu(t: Any, F: Any, x: Any, w: Any, b: Any) -> Any:
    return F.gelu(F.linear(x, w, b))


def attention(t: Any, F: Any, q: Any, k: Any, v: Any) -> Any:
    return F.scaled_dot_product_attention(q, k, v)


def attention_causal(t: Any, F: Any, q: Any, k: Any, v: Any) -> Any:
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


def conv(t: Any, F: Any, x: Any, k: Any) -> Any:
    return F.conv2d(x, k, padding=1)


def conv_relu(t: Any, F: Any, x: Any, k: Any, b: Any) -> Any:
    return F.relu(F.conv2d(x, k, b, padding=1))


# ---- Training steps: one text for both libraries ---------------------------------------------------------------------


def mlp(t: Any, small: bool) -> tuple[Any, tuple[int, ...], int]:
    nn, wide = t.nn, 32 if small else 4096
    layers = [nn.Linear(784, wide), nn.ReLU(), nn.Linear(wide, wide), nn.ReLU(), nn.Linear(wide, 10)]
    return nn.Sequential(*layers), (8 if small else 1024, 784), 10


def cnn(t: Any, small: bool) -> tuple[Any, tuple[int, ...], int]:
    nn, wide = t.nn, 4 if small else 64
    layers = [nn.Conv2d(3, wide, 3, padding=1), nn.BatchNorm2d(wide), nn.ReLU(), nn.MaxPool2d(2)]
    layers += [nn.Conv2d(wide, 2 * wide, 3, padding=1), nn.BatchNorm2d(2 * wide), nn.ReLU(), nn.MaxPool2d(2)]
    layers += [nn.Flatten(), nn.Linear(2 * wide * 64, 10)]
    return nn.Sequential(*layers), (4 if small else 512, 3, 32, 32), 10


def resnet18(t: Any, small: bool) -> tuple[Any, tuple[int, ...], int]:
    nn = t.nn

    class Block(nn.Module):  # type: ignore[name-defined,misc]
        def __init__(self, i: int, o: int, stride: int) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(i, o, 3, stride, 1, bias=False), nn.Conv2d(o, o, 3, 1, 1, bias=False)
            self.na, self.nb, self.relu = nn.BatchNorm2d(o), nn.BatchNorm2d(o), nn.ReLU()
            short = nn.Sequential(nn.Conv2d(i, o, 1, stride, bias=False), nn.BatchNorm2d(o))
            self.short = short if stride != 1 or i != o else nn.Identity()

        def forward(self, x: Any) -> Any:
            return self.relu(self.nb(self.b(self.relu(self.na(self.a(x))))) + self.short(x))

    wide = 8 if small else 64
    layers = [nn.Conv2d(3, wide, 7, 2, 3, bias=False), nn.BatchNorm2d(wide), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    before = wide
    for stage in range(4):
        for block in range(2):
            layers.append(Block(before, wide << stage, 2 if stage and not block else 1))
            before = wide << stage
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, 1000)]
    return nn.Sequential(*layers), (2, 3, 64, 64) if small else (128, 3, 224, 224), 1000


def gpt2(t: Any, small: bool) -> tuple[Any, tuple[int, ...], int]:
    nn, F = t.nn, t.nn.functional
    wide, heads, depth, length, words = (32, 2, 2, 16, 100) if small else (768, 12, 12, 1024, 50304)

    class Block(nn.Module):  # type: ignore[name-defined,misc]
        def __init__(self) -> None:
            super().__init__()
            self.n1, self.n2 = nn.LayerNorm(wide), nn.LayerNorm(wide)
            self.qkv, self.out = nn.Linear(wide, 3 * wide), nn.Linear(wide, wide)
            self.up, self.down = nn.Linear(wide, 4 * wide), nn.Linear(4 * wide, wide)

        def forward(self, x: Any) -> Any:
            b, n, _ = x.shape
            q, k, v = (p.view(b, n, heads, wide // heads).transpose(1, 2) for p in self.qkv(self.n1(x)).split(wide, -1))
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + self.out(y.transpose(1, 2).reshape(b, n, wide))
            return x + self.down(F.gelu(self.up(self.n2(x)), approximate="tanh"))

    class GPT(nn.Module):  # type: ignore[name-defined,misc]
        def __init__(self) -> None:
            super().__init__()
            self.token, self.place = nn.Embedding(words, wide), nn.Embedding(length, wide)
            self.blocks = nn.Sequential(*(Block() for _ in range(depth)))
            self.norm, self.head = nn.LayerNorm(wide), nn.Linear(wide, words, bias=False)

        def forward(self, x: Any) -> Any:
            x = self.token(x) + self.place(t.arange(x.shape[1], device=x.device))
            return self.head(self.norm(self.blocks(x))).view(-1, words)

    return GPT(), (2 if small else 8, length), words


# Name, model, whether bfloat16 by autocast, target.
STEPS = [("MLP", mlp, False), ("CNN", cnn, False), ("ResNet-18", resnet18, True), ("GPT-2 124M", gpt2, True)]


class Step:
    """A training step of a model: forward, cross-entropy, backward, AdamW."""

    def __init__(self, t: Any, make: Any, half: bool, device: str, small: bool, weights: list[Any] | None) -> None:
        self.t, self.half, self.device = t, half, device
        self.model, shape, classes = make(t, small)
        self.model = self.model.to(device)
        for p, w in zip(self.model.parameters(), weights or []):
            p.data = tensor(t, w, "float32", device)
        random = np.random.default_rng(0)
        rows = shape[0] * (shape[1] if len(shape) == 2 and make is gpt2 else 1)
        words = random.integers(0, classes, shape) if make is gpt2 else None
        self.x = tensor(t, random.standard_normal(shape) if words is None else words, "", device)
        self.y = tensor(t, random.integers(0, classes, rows), "", device)
        fused = {"fused": True} if t is torch and device == "cuda" else {}
        self.optimizer = t.optim.AdamW(self.model.parameters(), lr=1e-4, **fused)

    def __call__(self) -> Any:
        self.optimizer.zero_grad(set_to_none=True)
        with self.t.autocast(self.device, dtype=self.t.bfloat16) if self.half else contextlib.nullcontext():
            loss = self.t.nn.functional.cross_entropy(self.model(self.x), self.y)
        loss.backward()
        self.optimizer.step()
        return loss


# ---- Measuring -------------------------------------------------------------------------------------------------------


def tensor(t: Any, array: Any, dtype: str, device: str) -> Any:
    array = np.asarray(array)
    x = t.tensor(array if array.dtype.kind == "i" else array.astype(np.float32), device=device)
    return x.to(getattr(t, dtype)) if dtype else x


def seconds(t: Any, device: str, call: Callable[[], Any], count: int) -> float:
    """Of one call, over `count` of them."""
    if device == "cpu":
        start = time.perf_counter()
        for _ in range(count):
            call()
        return (time.perf_counter() - start) / count
    start, end = t.cuda.Event(enable_timing=True), t.cuda.Event(enable_timing=True)
    start.record()
    for _ in range(count):
        call()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) * 1e-3 / count


def measured(calls: dict[str, tuple[Any, Callable[[], Any]]], device: str) -> dict[str, float]:
    """Medians of several turns each."""
    counts, times = {}, {name: [] for name in calls}
    for name, (t, call) in calls.items():
        call()
        once = max(seconds(t, device, call, 2), 1e-7)
        counts[name] = max(1, min(1000, int(TURN / once)))
    for _ in range(ROUNDS if device == "cuda" else 1):
        for name, (t, call) in calls.items():
            times[name].append(seconds(t, device, call, counts[name]))
    return {name: statistics.median(found) for name, found in times.items()}


def numbers(x: Any) -> Any:
    return np.asarray(x.detach().float().cpu().numpy(), np.float64)


def difference(ours: Any, theirs: Any) -> float:
    """The largest difference, relative to the largest number."""
    a, b = numbers(ours), numbers(theirs)
    if a.shape != b.shape or not np.isfinite(b).all():
        return float("inf")
    return float(np.abs(a - b).max() / max(np.abs(b).max(), 1e-30)) if a.size else 0.0


def prepared(case: Case, t: Any, device: str) -> Callable[[], list[Any]]:
    """The case in one library: the call, or its gradients."""
    random = np.random.default_rng(0)
    inputs = [tensor(t, random.standard_normal(s, np.float32), case.dtype, device) for s in case.shapes]
    F = t.nn.functional
    if not case.backward:
        return lambda: [case.run(t, F, *inputs)]
    for x in inputs:
        x.requires_grad_()
    y = case.run(t, F, *inputs)
    shape = tuple(y.shape)
    dy = tensor(t, random.standard_normal(shape, np.float32) if shape else np.ones((), np.float32), case.dtype, device)
    dy = dy.to(y.dtype)
    return lambda: list(t.autograd.grad(y, inputs, dy, retain_graph=True))


def ceilings(device: str) -> dict[str, float]:
    """What this GPU reaches: a copy's bytes, cuBLAS's operations, a second."""
    n, size = (1 << 28, 8192) if device == "cuda" else (1 << 16, 64)
    x = torch.randn(n, device=device)
    y = torch.empty_like(x)
    found = {"copy_GB_s": 8e-9 * n / measured({"copy": (torch, lambda: y.copy_(x))}, device)["copy"]}
    for name, dtype, tf32 in (("bf16", torch.bfloat16, False), ("tf32", torch.float32, True), ("fp32", None, False)):
        torch.backends.cuda.matmul.allow_tf32 = tf32
        a, b = (torch.randn(size, size, device=device, dtype=dtype or torch.float32) for _ in range(2))
        took = measured({"product": (torch, lambda a=a, b=b: a @ b)}, device)["product"]
        found[f"cublas_{name}_TFLOP_s"] = 2e-12 * size**3 / took
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    return found


def run_case(case: Case, device: str) -> dict[str, Any]:
    ours, theirs = prepared(case, gg, device), prepared(case, torch, device)
    tolerance = 4e-2 if case.dtype == "bfloat16" else 1e-3
    apart = max(difference(a, b) for a, b in zip(ours(), theirs(), strict=True))
    result: dict[str, Any] = {"op": case.name, "dtype": case.dtype, "pass": "backward" if case.backward else "forward"}
    result |= {"shapes": case.shapes, "target": case.target, "apart": apart}
    if not apart <= tolerance:
        return result | {"fault": f"differs from PyTorch by {apart:.1e} (relative to the largest number)"}
    calls = {"ours": (gg, ours), "torch": (torch, theirs)}
    if case.cupy and device == "cuda" and not case.backward:
        with contextlib.suppress(ImportError):
            import cupy

            arrays = [cupy.random.standard_normal(s, dtype=cupy.float32) for s in case.shapes]
            calls["cupy"] = (torch, lambda: case.cupy(cupy, *arrays))  # on the legacy stream, which torch's events time
    result |= measured(calls, device)
    if case.moved:
        result["GB_s"] = 1e-9 * case.moved / result["ours"]
    if case.work:
        result["TFLOP_s"] = 1e-12 * case.work / result["ours"]
    return result


def run_step(name: str, make: Any, half: bool, device: str, small: bool) -> dict[str, Any]:
    theirs = Step(torch, make, half, device, small, None)
    weights = [p.detach().cpu().numpy() for p in theirs.model.parameters()]
    ours = Step(gg, make, half, device, small, weights)
    result: dict[str, Any] = {"op": f"step: {name}", "dtype": "bfloat16" if half else "float32", "pass": "step"}
    losses = [(float(ours().item()), float(theirs().item())) for _ in range(3)]
    apart = max(abs(a - b) / abs(b) for a, b in losses)
    result |= {"target": 1.0, "apart": apart, "losses": losses}
    if not apart <= (2e-2 if half else 1e-3):
        return result | {"fault": f"losses {losses} differ"}
    calls = {"ours": (gg, ours), "torch": (torch, theirs)}
    if device == "cuda":
        graph = gg.cuda.CUDAGraph()
        with gg.cuda.graph(graph):
            ours()
        calls["graph"] = (gg, graph.replay)
    return result | measured(calls, device)


def table(about: dict[str, Any], results: list[dict[str, Any]]) -> str:
    lines = [f"# {about['gpu']}: {about['date']}, driver {about['driver']}, commit {about['commit']}", ""]
    lines.append(f"PyTorch {about['torch']}, cuDNN {about['cudnn']}. " + ", ".join(
        f"{name.replace('_', ' ')} {value:.4g}" for name, value in about["ceilings"].items()
    ))  # fmt: skip
    lines += ["", "| op | dtype | pass | ours us | PyTorch us | PyTorch / ours | target | reached |", "|" + "---|" * 8]
    for r in results:
        if "fault" in r:
            lines.append(f"| {r['op']} | {r['dtype']} | {r['pass']} | {r['fault']} |||||")
            continue
        ratio = r["torch"] / min(r["ours"], r.get("graph", r["ours"]))
        reached = f"{r['GB_s']:.0f} GB/s" if "GB_s" in r else f"{r['TFLOP_s']:.3g} TFLOP/s" if "TFLOP_s" in r else ""
        if "graph" in r:
            reached = f"by a graph {r['graph'] * 1e6:.0f} us"
        cells = [r["op"], r["dtype"], r["pass"], f"{r['ours'] * 1e6:.1f}", f"{r['torch'] * 1e6:.1f}", f"{ratio:.2f}"]
        lines.append("| " + " | ".join([*cells, f"{r['target'] or ''}", reached]) + " |")
    return "\n".join(lines) + "\n"


def said(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, cwd=RESULTS.parent, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="cases whose name contains this")
    parser.add_argument("--seconds", type=float, default=240, help="when to stop")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    arguments = parser.parse_args()
    device, small, end = arguments.device, arguments.device == "cpu", time.monotonic() + arguments.seconds
    if device == "cuda" and gg.cuda.problem():
        raise SystemExit(f"gpu.py: {gg.cuda.problem()}")
    gpu = gg.cuda.get_device_name() if device == "cuda" else "CPU"
    about = {
        "gpu": gpu,
        "date": str(datetime.date.today()),
        "commit": said("git", "rev-parse", "--short", "HEAD"),
        "driver": said("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader").splitlines()[0],
        "torch": torch.__version__,
        "cudnn": torch.backends.cudnn.version(),
        "ceilings": ceilings(device),
    }
    print(json.dumps(about, indent=1))
    results: list[dict[str, Any]] = []

    def note(name: str, run: Callable[[], dict[str, Any]]) -> None:
        if arguments.only not in name or time.monotonic() > end:
            return
        try:
            results.append(run())
        except Exception as error:
            results.append({"op": name, "dtype": "", "pass": "", "fault": f"{type(error).__name__}: {error}"})
        print(table(about, results[-1:]).splitlines()[-1], flush=True)
        if device == "cuda":
            gg.cuda.empty_cache()
            torch.cuda.empty_cache()
            RESULTS.mkdir(exist_ok=True)
            place = RESULTS / re.sub(r"\W+", "_", gpu.lower().replace("nvidia ", "")).strip("_")
            place.with_suffix(".json").write_text(json.dumps({**about, "results": results}, indent=1) + "\n")
            place.with_suffix(".md").write_text(table(about, results))

    for name, make, half in STEPS:
        note(f"step: {name}", lambda n=name, m=make, h=half: run_step(n, m, h, device, small))  # type: ignore[misc]
    for case in cases(small):
        note(case.name, lambda c=case: run_case(c, device))  # type: ignore[misc]
    if any("fault" in r for r in results):
        raise SystemExit("gpu.py: some cases were not timed, see above")


if __name__ == "__main__":
    main()
