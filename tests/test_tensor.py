"""The Tensor object: making one, numpy and DLPack without copies, printing, pickling, memory."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys

import numpy as np
import pytest

import glassgrad as gg

DTYPES = [gg.bool, gg.uint8, gg.int8, gg.int16, gg.int32, gg.int64, gg.float16, gg.bfloat16, gg.float32, gg.float64]


def test_dtypes_inferred_from_python_and_numpy():
    assert gg.tensor(1).dtype is gg.int64 and gg.tensor(1.0).dtype is gg.float32 and gg.tensor(True).dtype is gg.bool
    assert gg.tensor([1, 2.5]).dtype is gg.float32 and gg.tensor([]).dtype is gg.float32
    assert gg.tensor(np.ones(2)).dtype is gg.float64 and gg.tensor(np.float64(2)).dtype is gg.float64
    assert gg.tensor([gg.tensor(1.5), gg.tensor(2.5)]).tolist() == [1.5, 2.5]
    assert gg.tensor([1, 2], dtype=gg.float64).dtype is gg.float64


def test_uneven_and_unknown_data():
    with pytest.raises(ValueError, match=r"item 0 has shape \(2,\) and item 1 has shape \(1,\)"):
        gg.tensor([[1, 2], [3]])
    with pytest.raises(TypeError, match="tensor"):
        gg.tensor(["a"])
    with pytest.raises(RuntimeError, match="too large"):
        gg.tensor(2**63)


@pytest.mark.parametrize("name", ["bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64"])
def test_numpy_both_ways_shares_memory(name):
    a = np.zeros((3, 4), dtype=name)
    x = gg.from_numpy(a)
    a[1, 2] = 1
    assert x[1, 2].item() == 1
    x[0, 0] = 1
    assert a[0, 0] == 1
    b = x.t().numpy()
    assert b.shape == (4, 3) and np.shares_memory(a, b)
    assert np.shares_memory(np.asarray(x), a)
    assert gg.from_numpy(a[:, ::2]).tolist() == a[:, ::2].tolist()


def test_arrays_that_need_a_copy():
    a = np.arange(4.0)
    assert gg.from_numpy(a[::-1]).tolist() == [3.0, 2.0, 1.0, 0.0]
    a.flags.writeable = False
    x = gg.from_numpy(a)
    x[0] = 5.0
    assert a[0] == 0.0
    assert gg.from_numpy(np.arange(3, dtype=">i4")).tolist() == [0, 1, 2]


def test_memory_outlives_its_first_owner():
    x = gg.from_numpy(np.full(1000, 7.0))
    y = gg.full((1000,), 3.0).numpy()
    gg.zeros(1000), np.zeros(1000)
    assert x.tolist() == [7.0] * 1000 and y.tolist() == [3.0] * 1000


def test_numpy_refuses_what_it_cannot_have():
    with pytest.raises(RuntimeError, match="detach"):
        gg.ones(1, requires_grad=True).numpy()
    assert gg.ones(1, requires_grad=True).numpy(force=True).tolist() == [1.0]
    with pytest.raises(TypeError, match="bfloat16"):
        gg.ones(1, dtype=gg.bfloat16).numpy()
    with pytest.raises((RuntimeError, TypeError)):
        np.asarray(gg.ones(1, requires_grad=True))


def test_dlpack_with_numpy():
    x = gg.arange(6.0).reshape(2, 3)
    a = np.from_dlpack(x)
    assert a.tolist() == x.tolist() and a.ctypes.data == x.data_ptr()
    y = gg.from_dlpack(np.arange(3))
    assert y.tolist() == [0, 1, 2]


def test_dlpack_with_torch():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    for dtype in DTYPES:
        x = gg.ones(2, 3).to(dtype).t()
        y = torch.from_dlpack(x)
        assert y.data_ptr() == x.data_ptr() and y.shape == (3, 2) and str(y.dtype) == f"torch.{dtype.name}"
        z = gg.from_dlpack(y)
        assert z.dtype is dtype and z.data_ptr() == x.data_ptr() and z.stride() == x.stride()


def test_python_protocols():
    x = gg.tensor([1.5, 2.5])
    assert len(x) == 2 and [v.item() for v in x] == [1.5, 2.5] and 2.5 in x
    assert float(x[0]) == 1.5 and int(x[1]) == 2 and [10, 20][gg.tensor(1)] == 20
    assert bool(gg.tensor(1.0)) and f"{gg.tensor(1.25):.1f}" == "1.2"
    with pytest.raises(RuntimeError, match="ambiguous"):
        bool(x)
    with pytest.raises(gg.ShapeError, match="item"):
        x.item()
    assert {x: 1}[x] == 1


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: d.name)
def test_pickle_and_deepcopy(dtype):
    x = gg.ones(2, 3).to(dtype).t()
    for y in (pickle.loads(pickle.dumps(x)), copy.deepcopy(x), copy.copy(x)):
        assert y.dtype is dtype and y.tolist() == x.tolist()
    assert pickle.loads(pickle.dumps(dtype)) is dtype
    w = gg.nn.Parameter(gg.ones(2))
    v = pickle.loads(pickle.dumps(w))
    assert isinstance(v, gg.nn.Parameter) and v.requires_grad


PRINTED = [
    [1.0, 2.0], [1.5, -2.25], [1e-5, 1.0], [1e9, 1.0], [0.0], [], [[1, 2], [3, 4]], [True, False],
    [float("nan"), float("inf"), 1.0], [[[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0], [7.0, 8.5]]],
    [1000.0, 0.001], 3.5, 7, [100000.0, 1.5],
]  # fmt: skip


@pytest.mark.parametrize("data", PRINTED, ids=str)
def test_print_as_torch(data):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    assert repr(gg.tensor(data)) == repr(torch.tensor(data))


@pytest.mark.parametrize("shape", [(30,), (5, 40), (2000,), (50, 50), (3, 10, 50), (0, 3), (2, 0)])
def test_print_large_as_torch(shape):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    a = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    assert repr(gg.tensor(a)) == repr(torch.tensor(a))
    i = (a * 100).astype(np.int64)
    assert repr(gg.tensor(i)) == repr(torch.tensor(i)).replace("torch.", "glassgrad.")


def test_print_details():
    x = gg.ones(2, requires_grad=True)
    assert repr(x) == "tensor([1., 1.], requires_grad=True)"
    assert repr(x * 2) == "tensor([2., 2.], grad_fn=<MulBackward>)"
    assert repr(gg.ones(1, dtype=gg.int32)) == "tensor([1], dtype=glassgrad.int32)"


def test_memory_statistics():
    gg.reset_peak_memory_stats()
    before = gg.memory_stats()
    x = gg.empty(1 << 20)
    during = gg.memory_stats()
    assert during["allocated_bytes"] - before["allocated_bytes"] == 4 << 20
    del x
    after = gg.memory_stats()
    assert (
        after["allocated_bytes"] == before["allocated_bytes"]
        and after["peak_allocated_bytes"] >= during["allocated_bytes"]
    )
    hits = after["cache_hits"]
    gg.empty(1 << 20)
    assert gg.memory_stats()["cache_hits"] == hits + 1
    gg.empty_cache()
    assert gg.memory_stats()["cached_bytes"] == 0


def test_out_of_memory_says_what_was_asked_and_what_is_held():
    with pytest.raises(MemoryError, match=r"asked for \d+ bytes.*\d+ bytes are held"):
        gg.empty(1 << 50, dtype=gg.float64)
    with pytest.raises((ValueError, MemoryError), match=r"64 bits|bytes"):
        gg.empty(1 << 40, 1 << 40)
    assert gg.ones(2).sum().item() == 2.0


def test_more_than_2_to_the_31_elements():
    n = (1 << 31) + 8
    x = gg.zeros(n, dtype=gg.uint8)
    x[-1] = 3
    x[n // 2] = 2
    assert int(x.sum()) == 5 and int(x.argmax()) == n - 1
    assert x[-4:].tolist() == [0, 0, 0, 3]
    y = x + 1
    assert y[-1].item() == 4 and y[0].item() == 1
    del x, y
    gg.empty_cache()


def test_threads_and_isas():
    before = gg.get_num_threads()
    gg.set_num_threads(1)
    assert gg.get_num_threads() == 1
    gg.set_num_threads(before)
    with pytest.raises(ValueError, match="at least 1"):
        gg.set_num_threads(0)
    assert gg.config()["isa"] in gg.config()["isas"]


def run(code, **environment):
    import os

    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **environment}, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_environment_settings():
    assert run("import glassgrad as gg; print(gg.get_num_threads())", GLASSGRAD_NUM_THREADS="3") == "3"
    assert run("import glassgrad as gg; print(gg.config()['isa'])", GLASSGRAD_ISA="baseline") == "baseline"


def test_import_is_quick():
    code = (
        "import time, numpy, sys; a = time.process_time(); import glassgrad; print(time.process_time() - a);"
        "assert 'torch' not in sys.modules and 'matplotlib' not in sys.modules"
    )
    assert min(float(run(code)) for _ in range(5)) < 0.3


def test_fork_after_threads_ran():
    code = """
import os, glassgrad as gg
x = gg.ones(400, 400)
total = float((x @ x).sum())
pid = os.fork()
if pid == 0:
    os._exit(0 if float((x @ x).sum()) == total else 1)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""
    assert run(code) == "0"


def test_other_python_threads_run_during_a_kernel():
    import threading
    import time

    x = gg.randn(1200, 1200)
    counted, stop = [0], [False]

    def count():
        while not stop[0]:
            counted[0] += 1
            time.sleep(0.0005)

    thread = threading.Thread(target=count)
    thread.start()
    start = time.perf_counter()
    while time.perf_counter() - start < 0.5:
        x @ x
    stop[0] = True
    thread.join()
    assert counted[0] > 50
