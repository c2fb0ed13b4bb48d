"""The thread pool and the allocator under concurrent callers, nested calls, exceptions and forks."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import glassgrad as gg

ROOT = Path(__file__).parent.parent
COMPILER = os.environ.get("CXX") or shutil.which("g++") or shutil.which("c++")
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no C++ compiler is here")


@pytest.fixture
def four_threads() -> Iterator[None]:
    before = gg.get_num_threads()
    gg.set_num_threads(4)
    yield
    gg.set_num_threads(before)


def build(folder: Path, *options: str) -> Path:
    """tests/parallel_stress.cpp with the pool and the allocator themselves, and nothing else of the core."""
    program = folder / "parallel_stress"
    files = ("tests/parallel_stress.cpp", "csrc/core/parallel.cpp", "csrc/core/allocator.cpp", "csrc/core/check.cpp")
    command = [str(COMPILER), "-std=c++20", "-O1", "-g", "-pthread", f"-I{ROOT / 'csrc'}", *options]
    subprocess.run([*command, *(str(ROOT / f) for f in files), "-o", str(program)], check=True, capture_output=True)
    return program


@needs_compiler
def test_pool_under_the_thread_sanitizer(tmp_path: Path) -> None:
    try:
        program = build(tmp_path, "-fsanitize=thread")
        subprocess.run([program, "0"], check=True, capture_output=True)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"the thread sanitizer does not run here: {error.stderr.decode()[-200:]}")
    done = subprocess.run([program, "3000"], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and "WARNING" not in done.stderr, done.stderr


@needs_compiler
def test_pool_and_allocator_survive_forks(tmp_path: Path) -> None:
    done = subprocess.run([build(tmp_path), "20000", "fork"], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def work(seed: int) -> np.ndarray:
    """A forward and a backward pass whose kernels are cut into pieces."""
    r = np.random.default_rng(seed)
    x = gg.tensor(r.standard_normal((300, 400)), dtype=gg.float32).requires_grad_()
    w = gg.tensor(r.standard_normal((400, 200)), dtype=gg.float32)
    (x.exp().softmax(1) @ w).tanh().sum().backward()
    assert x.grad is not None
    return np.array(x.grad.numpy())


@pytest.mark.usefixtures("four_threads")
def test_concurrent_callers_get_the_bits_of_a_lone_one() -> None:
    expected = [work(seed) for seed in range(4)]
    with ThreadPoolExecutor(6) as callers:
        results = list(callers.map(work, [seed % 4 for seed in range(48)]))
    for i, result in enumerate(results):
        np.testing.assert_array_equal(result, expected[i % 4])


@pytest.mark.usefixtures("four_threads")
def test_thread_count_may_change_while_kernels_run() -> None:
    expected = work(0)
    stop = threading.Event()

    def change() -> None:
        while not stop.is_set():
            for n in (1, 4, 2, 7):
                gg.set_num_threads(n)

    changer = threading.Thread(target=change)
    changer.start()
    try:
        for _ in range(20):
            np.testing.assert_array_equal(work(0), expected)
    finally:
        stop.set()
        changer.join()


def in_child(f: Callable[[], None], seconds: int = 60) -> int:
    """The wait status of a forked child that runs f and dies by SIGALRM if it hangs."""
    import signal

    child = os.fork()
    if child == 0:
        signal.alarm(seconds)
        try:
            f()
        except BaseException:
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1]


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.usefixtures("four_threads")
def test_a_child_forked_while_kernels_run_can_run_kernels() -> None:
    expected = work(1)
    stop = threading.Event()

    def busy() -> None:
        while not stop.is_set():
            work(2)

    threads = [threading.Thread(target=busy) for _ in range(2)]
    for t in threads:
        t.start()
    try:
        for _ in range(10):
            assert in_child(lambda: np.testing.assert_array_equal(work(1), expected)) == 0
    finally:
        stop.set()
        for t in threads:
            t.join()
