"""A rung on a GPU: its file and the runtime of csrc/cuda as one library, compiled by nvcc when it is asked for.

CMake knows nothing of the ladder. The library is a module of its own: it shares the device's memory with glassgrad
through addresses, and times itself with CUDA events on its own stream.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "ladder"

WRAPPER = """#include "{file}"

#include <string>

#include "cuda/runtime.h"

namespace gg::cuda {{

template <auto> struct Timed;
template <class... P, void (*function)(P...)> struct Timed<function> {{
  // Null, or what went wrong. The device is waited for before and after.
  static const char* run(int times, float* milliseconds, P... arguments) {{
    static std::string problem;
    try {{
      use_device(0);
      check_cuda(cudaDeviceSynchronize(), "waiting for the device");
      cudaEvent_t begin, end;
      check_cuda(cudaEventCreate(&begin), "making an event");
      check_cuda(cudaEventCreate(&end), "making an event");
      check_cuda(cudaEventRecord(begin, stream()), "recording an event");
      for (int i = 0; i < times; ++i) function(arguments...);
      check_cuda(cudaEventRecord(end, stream()), "recording an event");
      check_cuda(cudaEventSynchronize(end), "waiting for a rung");
      check_cuda(cudaEventElapsedTime(milliseconds, begin, end), "measuring a rung");
      cudaEventDestroy(begin);
      cudaEventDestroy(end);
    }} catch (const std::exception& e) {{
      problem = e.what();
      return problem.c_str();
    }}
    return nullptr;
  }}
}};

}}  // namespace gg::cuda

extern "C" __attribute__((visibility("default"))) const void* gg_run() {{
  return reinterpret_cast<const void*>(&gg::cuda::Timed<&gg::cuda::{name}>::run);
}}
"""


def compiler() -> str:
    """The path of nvcc.

    Raises:
        RuntimeError: there is none.
    """
    home = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH") or "/usr/local/cuda"
    found = shutil.which("nvcc") or shutil.which(f"{home}/bin/nvcc")
    if found is None:
        raise RuntimeError("the ladder on cuda needs nvcc: put it in PATH or its toolkit in CUDA_HOME")
    return found


def _run(command: Sequence[str | Path], what: str) -> None:
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{what} does not compile:\n{done.stdout}{done.stderr}")


def _newest(*folders: Path) -> float:
    files = (f for folder in folders for f in (folder.rglob("*") if folder.is_dir() else [folder]))
    return max(f.stat().st_mtime for f in files if f.suffix in (".h", ".cu", ".cpp", ".py"))


def _options(arch: str) -> list[str]:
    options = [
        "-std=c++20",
        "-O3",
        f"-I{ROOT / 'csrc'}",
        "--expt-relaxed-constexpr",
        "-Xcompiler=-fPIC,-fvisibility=hidden",
    ]
    return [*options, "-gencode", f"arch=compute_{arch},code=sm_{arch}"]


def runtime(arch: str) -> Path:
    """csrc/cuda as an archive, for all rungs."""
    BUILD.mkdir(parents=True, exist_ok=True)
    archive = BUILD / f"runtime_{arch}.a"
    if not archive.exists() or archive.stat().st_mtime < _newest(ROOT / "csrc" / "cuda", ROOT / "csrc" / "core"):
        sources = sorted(f for f in (ROOT / "csrc" / "cuda").glob("*.cpp") if f.name != "module.cpp")
        _run([compiler(), *_options(arch), "-lib", *sources, "-o", archive], "csrc/cuda")
    return archive


class Function:
    """The host function `name` of a .cu file, its parameters given by a letter each: p a tensor, i a whole number.

    arch: what to compile for: 80, 90a, ... Called as function(*args); `milliseconds` times it.

    Raises:
        RuntimeError: no nvcc; its error; a fault of the kernels.
    """

    def __init__(self, file: Path, name: str, kinds: str, arch: str) -> None:
        self.name = file.stem
        library = BUILD / f"{file.stem}_{arch}.so"
        archive = runtime(arch)
        newest = _newest(ROOT / "csrc" / "cuda", ROOT / "csrc" / "core", ROOT / "csrc" / "ops", file, Path(__file__))
        if not library.exists() or library.stat().st_mtime < newest:
            source = BUILD / f"{file.stem}.cu"
            source.write_text(WRAPPER.format(file=file, name=name))
            _run([compiler(), *_options(arch), "-shared", source, archive, "-o", library], file.name)
        self._library = ctypes.CDLL(str(library))
        self._library.gg_run.restype = ctypes.c_void_p
        types: dict[str, Any] = {"p": ctypes.c_void_p, "i": ctypes.c_int}
        signature: list[Any] = [ctypes.c_int, ctypes.POINTER(ctypes.c_float), *(types[k] for k in kinds)]
        self._function = ctypes.CFUNCTYPE(ctypes.c_char_p, *signature)(self._library.gg_run())

    def milliseconds(self, times: int, *args: Any) -> float:
        """How long that many calls take together."""
        passed = ctypes.c_float()
        plain = [a if isinstance(a, int) else a.data_ptr() for a in args]
        problem = self._function(times, ctypes.byref(passed), *plain)
        if problem:
            raise RuntimeError(f"{self.name}: {problem.decode()}")
        return passed.value

    def __call__(self, *args: Any) -> None:
        self.milliseconds(1, *args)
