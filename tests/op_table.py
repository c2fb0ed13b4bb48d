"""The op table: one row says what an op computes, on which inputs, and what it refuses.

`tests/rows/FAMILY.py` holds `ROWS = [Row(...), ...]`; `test_op_table.py` runs every check that a row allows.

    Row("softmax",                                gg.softmax, gg.nn.functional.softmax or Tensor.softmax; dotted names
        samples=lambda r: [Sample(r.normal(3, 5), dim=1)],
        ref=lambda x, dim: ...,                   numpy, float64 in and out; None: torch in float64 is the reference
        grad=True,                                first order, second order, every floating dtype, torch
        bad=[Bad(lambda: ((np.ones((2, 3)), 5), {}), IndexError, "dim")])

Arrays in a sample may stand anywhere: positional, by keyword, inside lists, tuples and dicts. float64 arrays take the
dtype under test; all others keep theirs. A sample on a kink or a tie is marked `Sample(...).at_kink()`: torch alone
judges its gradient.
`Dtype("float32")` stands for a dtype argument in every library.
"""

from __future__ import annotations

import importlib.util
import inspect
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

import glassgrad as gg

try:
    import torch
except ImportError:
    torch = None

FLOATS = ("float64", "float32", "float16", "bfloat16")
INTS = ("uint8", "int8", "int16", "int32", "int64")
ALL = (*FLOATS, *INTS, "bool")

# (rtol, atol): a few units in the last place of a result whose parts were rounded once.
TOLERANCE = {
    "float64": (1e-9, 1e-10),
    "float32": (2e-5, 1e-5),
    "float16": (3e-3, 2e-3),
    "bfloat16": (2e-2, 1e-2),
}


class Dtype(str):
    """A dtype argument of a sample, by name."""


class Random:
    """Random float64, int64 and bool arrays; the same ones in every run."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def normal(self, *shape: int) -> np.ndarray:
        return np.asarray(self.rng.standard_normal(shape))

    def uniform(self, low: float, high: float, *shape: int) -> np.ndarray:
        return np.asarray(self.rng.uniform(low, high, shape))

    def positive(self, *shape: int) -> np.ndarray:
        return np.asarray(self.rng.uniform(0.2, 2.0, shape))

    def integers(self, low: int, high: int, *shape: int) -> np.ndarray:
        return np.asarray(self.rng.integers(low, high, shape, dtype=np.int64))

    def bools(self, *shape: int) -> np.ndarray:
        return np.asarray(self.rng.random(shape) < 0.5)

    def distinct(self, *shape: int) -> np.ndarray:
        """Values that differ pairwise by at least 1/8, so that an order survives a small step and every dtype."""
        n = int(np.prod(shape))
        return np.asarray((self.rng.permutation(n).reshape(shape) - n // 2) / 8.0)

    def permutation(self, n: int) -> np.ndarray:
        return self.rng.permutation(n).astype(np.int64)


class Sample:
    """Arguments of one call."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.args = args
        self.kwargs = kwargs
        self.kink = False

    def at_kink(self) -> Sample:
        """Mark a sample on a tie or corner of the function: finite differences say nothing there."""
        self.kink = True
        return self

    def map(self, f: Callable[[np.ndarray], Any], dtype: Callable[[Dtype], Any] = lambda d: d) -> Sample:
        """The same arguments with f applied to each array and dtype to each Dtype."""
        mapped = Sample(*map_arrays(self.args, f, dtype), **map_arrays(self.kwargs, f, dtype))
        mapped.kink = self.kink
        return mapped

    def arrays(self) -> list[np.ndarray]:
        found: list[np.ndarray] = []
        self.map(lambda a: found.append(a) or a)
        return found

    def __repr__(self) -> str:
        def show(value: Any) -> str:
            if isinstance(value, np.ndarray):
                return f"{value.dtype}{list(value.shape)}"
            if isinstance(value, (list, tuple)):
                return "[" + ", ".join(map(show, value)) + "]"
            return repr(value)

        return f"({', '.join([*map(show, self.args), *(f'{k}={show(v)}' for k, v in self.kwargs.items())])})"


def map_arrays(value: Any, f: Callable[[np.ndarray], Any], dtype: Callable[[Dtype], Any]) -> Any:
    if isinstance(value, (np.ndarray, np.generic)):
        return f(np.asarray(value))
    if isinstance(value, Dtype):
        return dtype(value)
    if type(value) in (list, tuple):
        return type(value)(map_arrays(v, f, dtype) for v in value)
    if isinstance(value, dict):
        return {k: map_arrays(v, f, dtype) for k, v in value.items()}
    return value


@dataclass
class Bad:
    """A call that must raise: call() or call(r) gives (args, kwargs); the message matches regex and names the op."""

    call: Callable[..., Any]
    error: type[Exception] | tuple[type[Exception], ...]
    regex: str

    def arguments(self, r: Random) -> tuple[tuple[Any, ...], dict[str, Any]]:
        needed = [p for p in inspect.signature(self.call).parameters.values() if p.default is p.empty]
        made = self.call(r) if needed else self.call()
        if isinstance(made, Sample):
            return made.args, made.kwargs
        if (
            isinstance(made, tuple)
            and len(made) == 2
            and isinstance(made[0], (tuple, list))
            and isinstance(made[1], dict)
        ):
            return tuple(made[0]), made[1]
        return (tuple(made) if isinstance(made, (tuple, list)) else (made,)), {}


SAME_NAME = "the same name"


@dataclass(repr=False)
class Row:
    name: str
    samples: Callable[[Random], Sequence[Sample]]
    ref: Callable[..., Any] | None = None
    dtypes: Sequence[str] = FLOATS
    grad: bool = False
    gradgrad: bool = True
    wrt: Sequence[int | str] | None = None  # the arguments that are differentiated; None: every floating array
    bad: Sequence[Bad] = ()
    bench: Callable[[Random], Sequence[Sample]] | None = None
    torch: str | Callable[..., Any] | None = SAME_NAME
    fn: Callable[..., Any] | None = None
    tol: dict[str, tuple[float, float]] = field(default_factory=dict)
    method: bool = False
    inplace: str | None = None
    nonfinite: bool = False  # nan, inf, 0, huge and tiny values in every float argument behave as in torch
    strided: bool = True  # False: the result depends on memory layout (view, as_strided, ...)
    notes: str = ""
    family: str = ""

    def __repr__(self) -> str:
        return f"Row({self.family}: {self.name})"

    @property
    def op(self) -> str:
        return self.name.rsplit(".", 1)[-1]

    def random(self) -> Random:
        return Random(zlib.crc32(self.name.encode()))

    def function(self) -> Callable[..., Any]:
        if self.fn is not None:
            return self.fn
        found = resolve(gg, self.name)
        if found is None:
            raise AttributeError(f"glassgrad has no {self.name}: not in gg, gg.nn.functional or gg.Tensor")
        return found

    def torch_function(self) -> Callable[..., Any] | None:
        if torch is None or self.torch is None:
            return None
        if self.torch == SAME_NAME:
            return resolve(torch, self.name) or self.fn
        return resolve(torch, self.torch) if isinstance(self.torch, str) else self.torch

    def tolerance(self, dtype: str, output: str) -> tuple[float, float]:
        """The row's own for this dtype, or the coarser of what the input's and the output's dtype can hold."""
        if dtype in self.tol:
            return self.tol[dtype]
        known = [TOLERANCE[d] for d in (dtype, output) if d in TOLERANCE]
        return (max(t[0] for t in known), max(t[1] for t in known)) if known else (0.0, 0.0)


def resolve(library: Any, name: str) -> Callable[..., Any] | None:
    """The function that name means in glassgrad or torch: at top level, in nn.functional, or a method of Tensor."""
    for root in (library, library.nn.functional, library.Tensor):
        found: Any = root
        for part in name.split("."):
            found = getattr(found, part, None)
        if callable(found) and not isinstance(found, ModuleType):
            return found
    return None


# Numbers in and out --------------------------------------------------------------------------------------------------


def round_bfloat16(x: np.ndarray) -> np.ndarray:
    """Nearest bfloat16 value, ties to even, as float32."""
    bits = np.asarray(x, np.float32).view(np.uint32)
    rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32)
    return np.where(np.isnan(x), np.float32(np.nan), rounded)


def cast(x: np.ndarray, dtype: str) -> np.ndarray:
    """A float64 array in the dtype under test (bfloat16 as float32 that it can hold); other arrays as they are."""
    if x.dtype != np.float64 or dtype == "float64":
        return x
    if dtype == "bfloat16":
        return round_bfloat16(x)
    if dtype == "bool":
        return x > 0
    if dtype == "uint8":
        return np.abs(np.trunc(x * 4)).astype(np.uint8)
    if dtype in INTS:
        return np.trunc(x * 4).astype(dtype)
    with np.errstate(over="ignore"):
        return x.astype(dtype)


def exact(x: np.ndarray, dtype: str) -> np.ndarray:
    """What the reference sees: the rounded values in float64, whole numbers in int64, bools."""
    if x.dtype != np.float64:
        return x
    rounded = cast(x, dtype)
    if rounded.dtype.kind == "f":
        return rounded.astype(np.float64)
    return rounded.astype(np.int64) if rounded.dtype.kind in "iu" else rounded


def tensor(x: np.ndarray, dtype: str = "float64") -> Any:
    """A contiguous glassgrad tensor that shares no memory with x."""
    t = gg.from_numpy(np.array(cast(x, dtype), order="C"))
    return t.to(gg.bfloat16) if dtype == "bfloat16" and x.dtype == np.float64 else t


def torch_tensor(x: np.ndarray, dtype: str = "float64") -> Any:
    t = torch.from_numpy(np.array(cast(x, dtype), order="C"))
    return t.to(torch.bfloat16) if dtype == "bfloat16" and x.dtype == np.float64 else t


def as_numpy(value: Any) -> Any:
    """Numpy arrays for the tensors in a result; bfloat16 as float32."""
    if isinstance(value, (tuple, list)):
        return tuple(as_numpy(v) for v in value)
    if hasattr(value, "detach"):
        value = value.detach()
        if dtype_name(value) == "bfloat16":
            value = value.float()
        return np.array(value.numpy())
    return value if value is None else np.asarray(value)


def dtype_name(t: Any) -> str:
    return str(t.dtype).rsplit(".", 1)[-1]


def arguments(sample: Sample, dtype: str, make: Callable[[np.ndarray, str], Any] = tensor, library: Any = gg) -> Sample:
    return sample.map(lambda a: make(a, dtype), lambda d: getattr(library, d))


def flatten(result: Any) -> list[Any]:
    """The tensors, arrays and numbers of a result, in order."""
    if isinstance(result, (tuple, list)):
        return [leaf for item in result for leaf in flatten(item)]
    return [] if result is None else [result]


def is_floating(t: Any) -> bool:
    return hasattr(t, "dtype") and dtype_name(t) in FLOATS


def floating_inputs(sample: Sample, wrt: Sequence[int | str] | None = None) -> list[Any]:
    """The floating tensors among the arguments, in order; with wrt only those of the named arguments."""
    if wrt is None:
        chosen: list[Any] = [sample.args, list(sample.kwargs.values())]
    else:
        chosen = [sample.kwargs.get(k) if isinstance(k, str) else (sample.args[k : k + 1] or None) for k in wrt]

    def walk(value: Any) -> Iterator[Any]:
        if type(value) in (list, tuple):
            for v in value:
                yield from walk(v)
        elif isinstance(value, dict):
            yield from walk(list(value.values()))
        elif is_floating(value):
            yield value

    return list(walk(chosen))


# The rows ------------------------------------------------------------------------------------------------------------


def gather() -> list[Row]:
    """All rows of tests/rows."""
    rows: list[Row] = []
    for path in sorted((Path(__file__).parent / "rows").glob("*.py")):
        spec = importlib.util.spec_from_file_location(f"rows_{path.stem}", path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        for row in module.ROWS:
            row.family = path.stem
            rows.append(row)
    return rows
