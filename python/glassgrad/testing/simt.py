"""CUDA kernels on a machine without a GPU, with every access checked.

`x.to("simt")` puts a tensor where glassgrad's own CUDA kernels run on the CPU: each CUDA thread is a fiber, blocks run
one after the other, and a fault is an exception that names the kernel, the block, the thread and the line of the .cu
file. Kernels of your own run the same way:

>>> from glassgrad.testing import simt
>>> reverse = simt.RawKernel('''
... __global__ void reverse(const float* x, float* y, int n) {
...   __shared__ float tile[256];
...   int i = threadIdx.x;
...   if (i < n) tile[i] = x[i];
...   __syncthreads();
...   if (i < n) y[i] = tile[n - 1 - i];
... }''', "reverse")
>>> x = gg.arange(100.0).to("simt")
>>> y = gg.zeros(100).to("simt")
>>> reverse(1, 128, (x, y, 100))
>>> y[:4].cpu()
tensor([99., 98., 97., 96.])

**A planted race.** Without the barrier, a thread reads what another may not have written yet. On a GPU that is right on
most days; here it is an error every time:

>>> racy = simt.RawKernel('''
... __global__ void racy(const float* x, float* y, int n) {
...   __shared__ float tile[256];
...   int i = threadIdx.x;
...   if (i < n) tile[i] = x[i];
...   if (i < n) y[i] = tile[n - 1 - i];
... }''', "racy")
>>> racy(1, 128, (x, y, 100))
Traceback (most recent call last):
    ...
RuntimeError: simt: racy: block (0, 0, 0), thread (0, 0, 0): unwritten memory at racy.cu:6: reads shared memory at
    offset 396, which nobody has written

Blocks are never ordered within a launch, and both sides of a race between them are named:

>>> count = simt.RawKernel('__global__ void count(int* total) { total[0] += 1; }', "count")
>>> count(2, 1, (gg.zeros(1, dtype=gg.int32).to("simt"),))
Traceback (most recent call last):
    ...
RuntimeError: simt: count: block (1, 0, 0), thread (0, 0, 0): race at count.cu:1: reads global memory at 0x..., which
    block (0, 0, 0), thread (0, 0, 0) wrote at count.cu:1, and nothing orders the two

**Counting.** What limits a kernel is mostly what it moves. Every access is seen, so it can be counted as a GPU would
serve it. Here each thread of `walk` reads 32 numbers one after the other, and a warp touches 32 sectors of 32 bytes at
a time to use 4 bytes of each; in `stride` neighbours read neighbours:

>>> walk = simt.RawKernel("__global__ void walk(const float* x, float* y) { "
...     "float s = 0; for (int i = 0; i < 32; ++i) s += x[32 * threadIdx.x + i]; y[threadIdx.x] = s; }", "walk")
>>> stride = simt.RawKernel("__global__ void stride(const float* x, float* y) { "
...     "float s = 0; for (int i = 0; i < 32; ++i) s += x[32 * i + threadIdx.x]; y[threadIdx.x] = s; }", "stride")
>>> x = gg.ones(1024).to("simt")
>>> for kernel in (walk, stride):
...     with simt.counters() as counted:
...         kernel(1, 32, (x, y))
...     print(counted.global_read_bytes, counted.global_sectors)
4096 1028
4096 132

**In the graph.** A kernel becomes an op with its gradient by `gg.autograd.Function`; on a GPU a `cupy.RawKernel` takes
the same place, its arguments `cupy.asarray(x)` without a copy:

>>> square = simt.RawKernel(
...     "__global__ void square(const float* x, float* y, int n) {"
...     "  int i = threadIdx.x; if (i < n) y[i] = x[i] * x[i]; }", "square")
>>> class Square(gg.autograd.Function):
...     @staticmethod
...     def forward(ctx, x):
...         ctx.save_for_backward(x)
...         y = gg.empty_like(x)
...         square(1, 128, (x.detach(), y, x.numel()))
...         return y
...     @staticmethod
...     def backward(ctx, dy):
...         (x,) = ctx.saved_tensors
...         return 2 * x * dy
>>> x = gg.arange(4.0).to("simt").requires_grad_()
>>> Square.apply(x).sum().backward()
>>> x.grad.cpu()
tensor([0., 2., 4., 6.])

What is checked, at every load and store: bounds of device and shared memory, alignment of vector accesses, reads of
shared memory that nobody wrote, races between threads of a block, between lanes of a warp and between blocks; barriers
that part of a block never reaches (the report lists who waits where); asynchronous copies whose result is used before
the wait, or whose target is still in use; and launches no GPU would take. What cannot be checked here: speed, the
rounding inside tensor cores, and reorderings of a GPU's memory system within one thread's accesses.

`GLASSGRAD_SIMT_CHECKS=0`, `GLASSGRAD_SIMT_SCHEDULE=forward|reverse|random:SEED` and `GLASSGRAD_SIMT_ARCH=75|80|90` set
from outside what `checks`, `schedule` and `architecture` set here. To step through a kernel, run Python under gdb and
break on a line of the .cu file.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import os
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import glassgrad as gg

__all__ = ["Counters", "RawFunction", "RawKernel", "architecture", "checks", "counters", "schedule"]

# As the build compiles glassgrad's own kernels: -fsanitize=thread announces every access to the hooks in _simt.
COMPILE = [
    "-x",
    "c++",
    "-std=c++20",
    "-c",
    "-fPIC",
    "-O1",
    "-g1",
    "-w",
    "-DGG_SIMT",
    "-fsanitize=thread",
    "-fno-tree-sra",
    "-ffp-contract=off",
]
COMPILE += ["--param", "tsan-distinguish-volatile=1", "--param", "tsan-instrument-func-entry-exit=0"]
_PACK = {"i": "i", "j": "q", "f": "f", "d": "d"}


def _module() -> Any:
    return importlib.import_module("glassgrad._simt")


@contextlib.contextmanager
def checks(on: bool) -> Iterator[None]:
    """With or without the checks of memory: without them kernels run several times faster.

    >>> with gg.testing.simt.checks(False):
    ...     y = gg.ones(3, device="simt") + 1
    """
    simt = _module()
    before = simt.get_checks()
    simt.set_checks(on)
    try:
        yield
    finally:
        simt.set_checks(before)


@contextlib.contextmanager
def schedule(kind: str, seed: int = 0) -> Iterator[None]:
    """The order in which threads and blocks take their turns: "forward", "reverse" or "random" with a seed.

    A kernel without a race gives the same result under each.

    Raises:
        ValueError: another kind.

    >>> with gg.testing.simt.schedule("reverse"):
    ...     float(gg.ones(1000, device="simt").sum())
    1000.0
    """
    simt = _module()
    before = simt.get_schedule()
    simt.set_schedule(kind, seed)
    try:
        yield
    finally:
        simt.set_schedule(*before)


@contextlib.contextmanager
def architecture(number: int) -> Iterator[None]:
    """The GPU that simt stands for, 75, 80 or 90, which decides between kernels for any GPU and those for Hopper.

    Raises:
        ValueError: another number.

    >>> with gg.testing.simt.architecture(80):
    ...     y = gg.ones(64, 64, device="simt", dtype=gg.bfloat16) @ gg.ones(64, 64, device="simt", dtype=gg.bfloat16)
    """
    simt = _module()
    before = simt.get_architecture()
    simt.set_architecture(number)
    try:
        yield
    finally:
        simt.set_architecture(before)


@dataclass
class Counters:
    """What kernels asked of a GPU, as `counters` found it.

    A *request* is one instruction of a warp. Of global memory it moves sectors of 32 bytes; shared memory serves it in
    wavefronts of up to 128 bytes, one word from each of 32 banks, so that a bank conflict is a wavefront more. Copies
    by TMA and operands of wgmma are bytes, sectors and wavefronts, but no requests. Caches are not looked at.
    """

    launches: int = 0
    global_read_bytes: int = 0
    global_write_bytes: int = 0
    global_requests: int = 0
    global_sectors: int = 0
    shared_read_bytes: int = 0
    shared_write_bytes: int = 0
    shared_requests: int = 0
    shared_wavefronts: int = 0
    barriers: int = 0  # meetings of a block or a part of it, each once
    phases: int = 0  # of Hopper's barriers in shared memory
    shuffles: int = 0  # of a warp, each once
    tensor_multiply_adds: int = 0


@contextlib.contextmanager
def counters() -> Iterator[Counters]:
    """Counts what the kernels launched inside ask of memory and of each other, with the checks on; filled at the end.

    >>> x = gg.ones(1024, device="simt")
    >>> with gg.testing.simt.counters() as counted:
    ...     y = x.clone()
    >>> counted.global_read_bytes, counted.global_write_bytes, counted.global_sectors
    (4096, 4096, 256)
    """
    simt, counted = _module(), Counters()
    simt.count(True)
    try:
        yield counted
    finally:
        simt.count(False)
        for name, value in simt.counters().items():
            setattr(counted, name, value)


def _include() -> Path:
    installed = Path(gg.__file__).parent / "include"
    return installed if installed.exists() else Path(gg.__file__).parents[2] / "csrc"


class _Raw:
    """A function of a piece of CUDA, compiled, with its parameters' kinds and where it starts."""

    start = ""  # how the module calls it

    def __init__(self, code: str | Path, name: str, include: Sequence[Path] = ()) -> None:
        compiler = os.environ.get("CXX") or shutil.which("g++")
        if compiler is None:
            raise RuntimeError(f"{type(self).__name__}: no C++ compiler found: install g++ or name one in CXX")
        self.name = name
        self._folder = tempfile.TemporaryDirectory()  # stays: a fault looks its lines up in the library
        source, made, library = (
            Path(self._folder.name) / f"{name.split('::')[-1]}{end}" for end in (".cu", ".o", ".so")
        )
        text = f'#include "{code.resolve()}"\n' if isinstance(code, Path) else f'#line 1 "{source.name}"\n{code}\n'
        source.write_text(
            f'#include "simt/raw.h"\n{text}using Function = gg::simt::Raw<&{name}>;\n'
            'extern "C" const char* gg_kinds() { return Function::kinds; }\n'
            'extern "C" void gg_start(gg::simt::Dim3 g, gg::simt::Dim3 b, size_t s, const void* const* a) '
            f"{self.start}\n"
        )
        ccache = filter(None, [shutil.which("ccache")])
        # Linked by itself: with the flag, a linker would bring the compiler's own hooks.
        for step in (
            [*ccache, compiler, *COMPILE, *(f"-I{f}" for f in [*include, _include()]), source.name, "-o", made.name],
            [compiler, "-shared", made.name, _module().__file__, "-o", library.name],
        ):
            environment = os.environ | {"CCACHE_NOHASHDIR": "1"}  # the folder is another one each time
            done = subprocess.run(step, capture_output=True, text=True, cwd=self._folder.name, env=environment)
            if done.returncode != 0:
                raise RuntimeError(f"{type(self).__name__}: {name} does not compile:\n{done.stderr}")
        self._library = ctypes.CDLL(str(library))
        self._library.gg_kinds.restype = ctypes.c_char_p
        self._kinds: str = self._library.gg_kinds().decode()

    def _run(self, grid: Any, block: Any, args: Sequence[Any], shared_mem: int) -> None:
        if len(args) != len(self._kinds):
            raise TypeError(f"{self.name}: {len(args)} arguments for {len(self._kinds)} parameters")
        packed = [self._pack(i, kind, value) for i, (kind, value) in enumerate(zip(self._kinds, args, strict=True))]
        start = ctypes.cast(self._library.gg_start, ctypes.c_void_p).value
        _module().start_raw(start, _three(grid), _three(block), shared_mem, packed)

    def _pack(self, place: int, kind: str, value: Any) -> bytes:
        if kind == "p":
            if not isinstance(value, gg.Tensor) or value.device.type != "simt":
                raise TypeError(f"{self.name}: argument {place} must be a tensor on simt, got {value!r}")
            return struct.pack("P", value.data_ptr())
        try:
            return struct.pack(_PACK[kind], value)
        except struct.error as error:
            raise TypeError(f"{self.name}: argument {place}, {value!r}: {error}") from None


class RawKernel(_Raw):
    """A CUDA kernel given as text, or as the path of a file, called as CuPy's: kernel(grid, block, args, shared_mem=0).

    Parameters of the kernel are pointers (given as tensors on simt), 4- and 8-byte whole numbers, float and double.
    It may use CUDA's language, `__shared__` arrays (not in templates), and what glassgrad's own kernels use
    (csrc/cuda: `shared<Struct>()`, `block_reduce`, ...); `include` names further folders of headers. Compiling takes
    the machine's C++ compiler a second or two.

    Raises:
        RuntimeError: no compiler; a compiler's error; a fault of the kernel.
        TypeError: an argument that does not fit its parameter.

    >>> double = gg.testing.simt.RawKernel(
    ...     "__global__ void twice(float* x, int n) { if (threadIdx.x < n) x[threadIdx.x] *= 2; }", "twice")
    >>> x = gg.ones(3).to("simt")
    >>> double(1, 32, (x, 3))
    >>> x.cpu()
    tensor([2., 2., 2.])
    """

    start = "{ Function::start(g, b, s, a); }"

    def __call__(self, grid: Any, block: Any, args: Sequence[Any], shared_mem: int = 0) -> None:
        self._run(grid, block, args, shared_mem)


class RawFunction(_Raw):
    """A host function that launches kernels itself, of text or a file as `RawKernel` has them: function(*args).

    Raises:
        RuntimeError, TypeError: as RawKernel.

    >>> twice = gg.testing.simt.RawFunction('''
    ... __global__ void twice_kernel(float* x, int n) { for (int i = first_item(); i < n; i += item_step()) x[i] *= 2; }
    ... void twice(float* x, int n) { launch(twice_kernel, grid_for(n, 64), dim3(64), 0, x, n); }''', "twice")
    >>> x = gg.ones(1000).to("simt")
    >>> twice(x, 1000)
    >>> x[-2:].cpu()
    tensor([2., 2.])
    """

    start = "{ Function::call(a); }"

    def __call__(self, *args: Any) -> None:
        self._run(1, 1, args, 0)


def _three(size: Any) -> tuple[int, int, int]:
    given = (size,) if isinstance(size, int) else tuple(size)
    x, y, z = (*given, 1, 1, 1)[:3]
    return x, y, z
