"""The cases: what is timed. Each is built from a library (`torch` or `glassgrad`), whose names mean the same.

The benchmark shapes of tests/rows join these (`row_cases`), and the training steps of steps.py.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

import op_table as table
import steps
from targets import family_of

Library = Any
Inputs = Callable[[table.Random], table.Sample]
FORWARD, GRAPH, BACKWARD = "f", "f graph", "f+b"  # GRAPH: forward alone, recorded for a backward


@dataclass(frozen=True)
class Case:
    """One thing that is timed. An op has `inputs` and `function`; a whole job (`build`) makes its own."""

    family: str
    name: str
    what: str = FORWARD
    inputs: Inputs | None = None
    function: Callable[[Library], Any] | None = None
    build: Callable[[Library], steps.Job] | None = None
    operations: float = 0.0  # floating-point operations that the result needs, of matrix products alone
    wrt: Any = None
    lookup: bool = False  # reads what its indices name, not the whole of its inputs
    quick: bool = False
    random: bool = False  # draws random numbers: results are compared as distributions
    reference: Callable[..., Any] | None = None  # numpy

    @property
    def key(self) -> str:
        """A name that no other case has."""
        return f"{self.family}: {self.name} [{self.what}]"


def both(family: str, name: str, inputs: Inputs, function: Any, flops: float = 0.0, **extra: Any) -> Iterator[Case]:
    """Forward, and forward with gradients: each of two operands of a product takes a product of the same size."""
    backward_family = {"conv": "conv grad", "attention": "attention grad"}.get(family, family)
    yield Case(family, name, FORWARD, inputs, function, operations=flops, **extra)
    yield Case(backward_family, name, BACKWARD, inputs, function, operations=3 * flops, **extra)


def normal(*shapes: tuple[int, ...], **keywords: Any) -> Inputs:
    """Inputs of these shapes."""
    return lambda r: table.Sample(*[r.normal(*shape) for shape in shapes], **keywords)


def functional(name: str, **keywords: Any) -> Callable[[Library], Any]:
    """A function of nn.functional."""

    def get(library: Library) -> Any:
        found = getattr(library.nn.functional, name)
        return functools.partial(found, **keywords) if keywords else found

    return get


def overhead() -> Iterator[Case]:
    small = (8, 8)
    ops: list[tuple[str, Inputs, Callable[[Library], Any]]] = [
        ("add", normal(small, small), lambda L: operator.add),
        ("matmul", normal(small, small), lambda L: L.matmul),
        ("linear", normal(small, small, (8,)), functional("linear")),
    ]
    for name, inputs, function in ops:
        for what in (FORWARD, GRAPH):
            yield Case("overhead", f"{name} 8x8", what, inputs, function, quick=True)
    yield Case("chain", "100 ops on 8x8", build=steps.chain, what="b", quick=True)


def products() -> Iterator[Case]:
    for n in (32, 64, 128, 256, 512, 1024, 2048):
        square = normal((n, n), (n, n))
        yield from both("matmul", f"{n} square", square, lambda L: L.matmul, 2.0 * n**3, quick=n == 512)
    for m, k, n in ((1, 4096, 4096), (4, 1024, 4096), (4096, 64, 64), (64, 8192, 64), (1024, 16, 1024)):
        yield from both("matmul", f"{m}x{k}x{n}", normal((m, k), (k, n)), lambda L: L.matmul, 2.0 * m * k * n)
    yield from both("matmul", "matrix x vector 4096", normal((4096, 4096), (4096,)), lambda L: L.matmul, 2.0 * 4096**2)
    batched = normal((64, 128, 64), (64, 64, 128))
    yield from both("matmul", "64 of 128x64x128", batched, lambda L: L.matmul, 2.0 * 64 * 128 * 64 * 128)
    turned: list[tuple[str, Callable[[Library], Any]]] = [
        ("A^T B", lambda L: lambda a, b: L.matmul(a.t(), b)),
        ("A B^T", lambda L: lambda a, b: L.matmul(a, b.t())),
        ("A^T B^T", lambda L: lambda a, b: L.matmul(a.t(), b.t())),
    ]
    for name, function in turned:
        yield from both("matmul", f"{name} 512", normal((512, 512), (512, 512)), function, 2.0 * 512**3)
    for m, k, n in ((64, 784, 512), (256, 768, 3072), (1, 784, 512)):
        for name in ("relu", "gelu"):

            def activated(L: Library, name: str = name) -> Any:
                F = L.nn.functional
                return lambda x, w, b: getattr(F, name)(F.linear(x, w, b))

            inputs = normal((m, k), (n, k), (n,))
            quick = (m, name) == (256, "gelu")
            yield from both("linear", f"{m}x{k}x{n} {name}", inputs, activated, 2.0 * m * k * n, quick=quick)


def convolutions() -> Iterator[Case]:
    shapes: list[tuple[str, int, int, int, int, dict[str, int]]] = [  # batch, channels in, size, channels out
        ("MNIST 3x3", 32, 1, 28, 32, {}),
        ("MNIST 3x3 deep", 32, 32, 13, 64, {}),
        ("CIFAR 3x3 first", 64, 3, 32, 32, {"padding": 1}),
        ("CIFAR 3x3", 64, 32, 16, 64, {"padding": 1}),
        ("CIFAR 3x3 deep", 64, 64, 8, 128, {"padding": 1}),
        ("ResNet 3x3", 8, 64, 56, 64, {"padding": 1}),
        ("ResNet 3x3 deep", 8, 256, 14, 256, {"padding": 1}),
        ("ResNet 7x7 stem", 4, 3, 224, 64, {"padding": 3, "stride": 2, "kernel": 7}),
        ("ResNet 3x3 strided", 8, 64, 56, 128, {"padding": 1, "stride": 2}),
        ("ResNet 1x1 strided", 8, 64, 56, 128, {"stride": 2, "kernel": 1}),
        ("1x1", 8, 256, 14, 256, {"kernel": 1}),
        ("grouped", 8, 128, 28, 128, {"padding": 1, "groups": 32}),
        ("depthwise", 8, 128, 28, 128, {"padding": 1, "groups": 128}),
    ]
    for name, batch, inside, size, outside, settings in shapes:
        keywords = {"kernel": 3, **settings}
        kernel = keywords.pop("kernel")
        groups = keywords.get("groups", 1)
        edge = (size + 2 * keywords.get("padding", 0) - kernel) // keywords.get("stride", 1) + 1
        flops = 2.0 * batch * outside * edge**2 * inside // groups * kernel**2
        inputs = normal((batch, inside, size, size), (outside, inside // groups, kernel, kernel), (outside,))
        yield from both("conv", name, inputs, functional("conv2d", **keywords), flops, quick=name == "ResNet 3x3")
    inputs = normal((8, 128, 14, 14), (128, 64, 4, 4), (64,))
    flops = 2.0 * 8 * 128 * 14**2 * 64 * 16
    yield from both("conv", "transposed 4x4", inputs, functional("conv_transpose2d", stride=2, padding=1), flops)


def attentions() -> Iterator[Case]:
    for batch, heads, length, width in ((2, 8, 512, 64), (1, 12, 128, 64), (1, 4, 2048, 64)):
        inputs = normal(*[(batch, heads, length, width)] * 3)
        flops = 4.0 * batch * heads * length**2 * width
        name, quick = f"{batch}x{heads}x{length}x{width}", length == 512
        whole, causal = (functional("scaled_dot_product_attention", **k) for k in ({}, {"is_causal": True}))
        yield from both("attention", name, inputs, whole, flops, quick=quick)
        for what, times in ((FORWARD, 0.5), (BACKWARD, 1.5)):
            yield Case("attention causal", name, what, inputs, causal, operations=times * flops, quick=quick)


def layers() -> Iterator[Case]:
    for shape in ((64, 32, 28, 28), (16, 64, 56, 56)):
        sized = "x".join(map(str, shape))
        quick = shape[0] == 64
        for pool in ("max_pool2d", "avg_pool2d"):
            yield from both("pool", f"{pool} {sized}", normal(shape), functional(pool, kernel_size=2), quick=quick)

        def batch_norm(L: Library) -> Any:
            return lambda x, w, b: L.nn.functional.batch_norm(x, None, None, w, b, training=True)

        channels = (shape[1],)
        yield from both("batch norm", sized, normal(shape, channels, channels), batch_norm, quick=quick)
    for rows, width in ((512, 768), (8192, 1024)):
        for name, count in (("layer_norm", 2), ("rms_norm", 1)):
            inputs = normal((rows, width), *[(width,)] * count)

            def normed(L: Library, name: str = name, width: int = width) -> Any:
                return lambda x, *affine: getattr(L.nn.functional, name)(x, (width,), *affine)

            yield from both("norm", f"{name} {rows}x{width}", inputs, normed, quick=rows == 512)
        for name in ("softmax", "log_softmax"):
            function = functional(name, dim=1)
            quick = (rows, name) == (512, "softmax")
            yield from both("norm", f"{name} {rows}x{width}", normal((rows, width)), function, quick=quick)
    for rows, words in ((64, 10), (512, 1000), (512, 32_000)):

        def predictions(r: table.Random, rows: int = rows, words: int = words) -> table.Sample:
            return table.Sample(r.normal(rows, words), r.integers(0, words, rows))

        function = functional("cross_entropy")
        yield from both("cross entropy", f"{rows} of {words}", predictions, function, quick=words == 1000)
    for n in (10_000, 1_000_000):
        function = functional("dropout", p=0.5, training=True)
        yield from both("dropout", f"{n:,}", normal((n,)), function, random=True, quick=n > 10_000)


def elementwise() -> Iterator[Case]:
    ops: list[tuple[str, int, Callable[[Library], Any]]] = [
        ("add", 2, lambda L: L.add),
        ("mul", 2, lambda L: L.mul),
        ("exp", 1, lambda L: L.exp),
        ("tanh", 1, lambda L: L.tanh),
        ("gelu", 1, functional("gelu")),
    ]
    for exponent in range(3, 9):
        for name, count, function in ops:
            if exponent == 8 and name not in ("add", "exp"):
                continue
            quick = (exponent, name) in ((3, "add"), (6, "add"), (6, "exp"), (6, "gelu"))
            inputs = normal(*[(10**exponent,)] * count)
            if exponent == 8:  # its gradients would take gigabytes
                yield Case("elementwise", f"{name} 1e8", FORWARD, inputs, function)
            else:
                yield from both("elementwise", f"{name} 1e{exponent}", inputs, function, quick=quick)
    wide: list[tuple[str, Inputs, Callable[[Library], Any], bool]] = [
        ("add, a row to each", normal((1024, 1024), (1024,)), lambda L: L.add, True),
        ("add, a column to each", normal((1024, 1024), (1024, 1)), lambda L: L.add, False),
        ("outer sum", normal((1024, 1), (1, 1024)), lambda L: L.add, False),
        ("copy", normal((2048, 2048)), lambda L: L.Tensor.clone, True),
        ("transposed copy", normal((2048, 2048)), lambda L: lambda x: x.t().contiguous(), True),
        ("permuted copy", normal((16, 64, 56, 56)), lambda L: lambda x: x.permute(0, 2, 3, 1).contiguous(), False),
        ("add to a transpose", normal((1024, 1024), (1024, 1024)), lambda L: lambda a, b: a + b.t(), False),
    ]
    for name, inputs, function, quick in wide:
        yield from both("elementwise", name, inputs, function, quick=quick)


def reductions() -> Iterator[Case]:
    for name in ("sum", "mean", "amax", "var"):
        for dim in (0, 1, (0, 1)):

            def reduced(L: Library, name: str = name, dim: Any = dim) -> Any:
                return functools.partial(getattr(L, name), dim=dim)

            axis = "all" if dim == (0, 1) else f"axis {dim}"
            quick = name == "sum"
            yield from both("reduce", f"{name} 2048x2048, {axis}", normal((2048, 2048)), reduced, quick=quick)
    inner = normal((64, 64, 56, 56))
    yield from both("reduce", "sum of channels", inner, lambda L: functools.partial(L.sum, dim=(0, 2, 3)))

    def tokens(r: table.Random) -> table.Sample:
        return table.Sample(r.integers(0, 30_000, 16, 128), r.normal(30_000, 256))

    yield from both("reduce", "embedding 30,000", tokens, functional("embedding"), lookup=True, quick=True)


def ordering() -> Iterator[Case]:
    matrix = normal((1000, 1000))

    def indexed(r: table.Random) -> table.Sample:
        return table.Sample(r.normal(1000, 1000), 1, r.integers(0, 1000, 1000, 1000))

    def scattered(r: table.Random) -> table.Sample:
        return table.Sample(r.normal(1000, 1000), 1, r.integers(0, 1000, 1000, 1000), r.normal(1000, 1000))

    for name in ("sort", "argsort"):

        def stable(L: Library, name: str = name) -> Any:  # or equal elements may come in any order
            return functools.partial(getattr(L, name), dim=1, stable=True)

        yield Case("order", f"{name} 1000x1000", FORWARD, matrix, stable, quick=name == "sort")
    yield Case("order", "topk 10 of 1000x1000", FORWARD, matrix, lambda L: functools.partial(L.topk, k=10))
    yield from both("order", "gather 1000x1000", indexed, lambda L: L.gather, lookup=True, quick=True)
    yield from both("order", "scatter_add 1000x1000", scattered, lambda L: L.scatter_add, wrt=(0, 3))
    for dim in (0, 1):

        def running(L: Library, dim: int = dim) -> Any:
            return functools.partial(L.cumsum, dim=dim)

        yield from both("order", f"cumsum 1000x1000, axis {dim}", matrix, running, quick=dim == 1)


class Shapes(table.Random):
    """Arrays of the right shapes without the time that random numbers take: for the names of the cases."""

    def normal(self, *shape: int) -> np.ndarray:
        return np.zeros(shape)

    def uniform(self, low: float, high: float, *shape: int) -> np.ndarray:
        return np.zeros(shape)

    def integers(self, low: int, high: int, *shape: int) -> np.ndarray:
        return np.zeros(shape, np.int64)


def row_cases() -> Iterator[Case]:
    """Every op row's benchmark shapes."""
    for row in table.gather():
        if row.bench is None:
            continue
        for index, sample in enumerate(row.bench(Shapes(0))):
            causal = bool(sample.kwargs.get("is_causal"))

            def inputs(r: table.Random, row: table.Row = row, index: int = index) -> table.Sample:
                return list(row.bench(row.random()))[index]  # type: ignore[misc]

            def function(L: Library, row: table.Row = row) -> Any:
                found = row.function() if L.__name__ == "glassgrad" else row.torch_function()
                if found is None:
                    raise steps.NoCounterpart("PyTorch has no such op")
                return found

            for what in (FORWARD, BACKWARD) if row.grad else (FORWARD,):
                yield Case(
                    family_of(row.family, row.op, what == BACKWARD, causal),
                    f"row {row.name} {shapes_of(sample)}",
                    what,
                    inputs,
                    function,
                    operations=row_operations(row.op, sample) * (3 if what == BACKWARD else 1) * (0.5 if causal else 1),
                    lookup=row.family in ("index", "embedding"),
                    wrt=row.wrt,
                    random=row.family == "random",
                    reference=row.ref,
                )


def shapes_of(sample: table.Sample) -> str:
    """The arguments, arrays by their shapes alone: floats are cast before they are used."""
    return repr(sample).replace("float64[", "[")


def row_operations(op: str, sample: table.Sample) -> float:
    """Floating-point operations of a row that is one product of matrices; 0 where bytes are the limit."""
    shapes = [a.shape for a in sample.arrays()]
    if op == "scaled_dot_product_attention":
        return 4.0 * math.prod(shapes[0]) * shapes[1][-2]
    if op in ("matmul", "bmm", "mm") and len(shapes[0]) >= 2 and len(shapes[1]) >= 2:
        return 2.0 * math.prod(shapes[0]) * shapes[1][-1]
    if op == "linear":
        return 2.0 * math.prod(shapes[0]) * shapes[1][0]
    if op in ("conv1d", "conv2d", "conv3d"):  # stride and padding are whole numbers in the benchmark's shapes
        x, weight = shapes[:2]
        stride, padding = sample.kwargs.get("stride", 1), sample.kwargs.get("padding", 0)
        outputs = [(n + 2 * padding - k) // stride + 1 for n, k in zip(x[2:], weight[2:], strict=True)]
        return 2.0 * x[0] * math.prod(outputs) * math.prod(weight)
    return 0.0


def all_cases() -> list[Case]:
    """Every case, in the order of the report."""
    groups = (overhead, products, convolutions, attentions, layers, elementwise, reductions, ordering)
    found = [case for group in groups for case in group()]
    for title, build, quick in steps.OPTIMIZERS:
        found.append(Case("optimizer", title, "step", build=build, quick=quick))
    for title, build, quick in steps.STEPS:
        found.append(Case("step", title, "step", build=build, quick=quick))
    return found + list(row_cases())
