"""Tensors of a device beside the CPU: moving, mixing, looking at values, files, gradients, modules, exit.

The device is simt; GLASSGRAD_TEST_DEVICE=cuda asks the GPU. That ops compute there what they compute on the CPU is
test_op_table_device.py's part.
"""

from __future__ import annotations

import copy
import os
import pickle
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import glassgrad as gg
import op_table as table
from op_table import Bad, Row, map_arrays

DEVICE = os.environ.get("GLASSGRAD_TEST_DEVICE", "simt")
HERE = gg.zeros(1, device=DEVICE).device
DTYPES = [getattr(gg, name) for name in table.ALL]


def there(data: Any, **kwargs: Any) -> Any:
    return gg.tensor(data, device=DEVICE, **kwargs)


def same(x: Any, y: Any) -> None:
    """Equal numbers, dtypes and shapes, wherever they are."""
    assert x.dtype is y.dtype and x.shape == y.shape
    assert x.cpu().tolist() == y.cpu().tolist()


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", f"import glassgrad as gg\nDEVICE = {DEVICE!r}\n{code}"],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, **environment},
    )


# Devices -------------------------------------------------------------------------------------------------------------


def test_names_of_devices() -> None:
    assert str(gg.device("simt")) == "simt" and repr(gg.device("simt")) == "device(type='simt')"
    assert str(gg.device("cuda")) == "cuda:0" and repr(gg.device("cuda", 1)) == "device(type='cuda', index=1)"
    assert gg.device("cuda:0") == gg.device("cuda") != gg.device("cuda:1")
    assert gg.device("cpu").index is None and gg.device("simt").index is None and gg.device("cuda", 2).index == 2
    assert len({gg.device("cpu"), gg.device("cpu", 0), gg.device("simt"), gg.device("cuda")}) == 3
    for device in (gg.device("simt"), gg.device("cuda", 1)):
        assert pickle.loads(pickle.dumps(device)) == device


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ("gpu", "'gpu' is not a device; known are 'cpu', 'cuda', 'cuda:N' and 'simt'"),
        ("cuda:x", "'cuda:x' is not a device"),
        ("cpu:1", "there is one cpu device, number 0"),
        ("simt:1", "there is one simt device, number 0"),
    ],
)
def test_unknown_devices(wanted: str, message: str) -> None:
    for make in (gg.device, lambda name: gg.zeros(1, device=name), lambda name: gg.zeros(1).to(name)):
        with pytest.raises(ValueError, match=re.escape(message)):
            make(wanted)
    with pytest.raises(ValueError, match="no simt device of number 1"):
        gg.device("simt", 1)


def test_absent_device_is_one_sentence() -> None:
    try:
        count = gg._core.device_count("cuda")
    except ValueError as error:
        assert str(error).startswith("device cuda: ") and "\n" not in str(error)
        with pytest.raises(ValueError, match=r"^device cuda"):
            gg.zeros(2).cuda()
    else:
        with pytest.raises(ValueError, match=f"device cuda:{count}: .*number {count - 1}"):
            gg.zeros(2, device=f"cuda:{count}")
    assert gg.zeros(2).tolist() == [0, 0]


def test_modules_are_loaded_when_their_device_is_named() -> None:
    done = run("import sys\nassert 'glassgrad._simt' not in sys.modules\nassert 'glassgrad._cuda' not in sys.modules")
    assert done.returncode == 0, done.stderr


# Moving --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_there_and_back(dtype: Any) -> None:
    x = gg.tensor(np.arange(-6, 6).reshape(3, 4)).to(dtype)
    y = x.to(DEVICE)
    assert y.device == HERE and y.dtype is dtype and y.is_contiguous()
    same(y, x)
    for part in (x.t(), x[:, 1:3], x[0].expand(2, 4), x[1, 2], x[:0]):
        same(part.to(DEVICE), part)
        same(part.to(DEVICE).cpu(), part)
    for part in (lambda a: a.t(), lambda a: a[:, 1:3], lambda a: a[0].expand(2, 4), lambda a: a[1, 2], lambda a: a[:0]):
        same(part(y).cpu(), part(x))


@pytest.mark.parametrize("source", DTYPES, ids=str)
def test_converting_on_the_way(source: Any) -> None:
    x = gg.tensor([[0.0, 1.75, 2.5], [3.0, 100.0, 7.0]]).to(source)
    for target in DTYPES:
        expected = x.to(target)
        for made in (x.to(DEVICE, target), x.to(DEVICE).to("cpu", target), x.to(DEVICE).to(target)):
            same(made, expected)


def test_what_is_there_already_is_not_copied() -> None:
    x = there([1.0, 2.0])
    assert x.to(DEVICE) is x and x.to(HERE, gg.float32) is x and x.to(gg.zeros(1, device=DEVICE)) is x
    assert x.to(DEVICE, copy=True).data_ptr() != x.data_ptr()
    y = gg.zeros(2)
    assert y.cpu() is y and y.to("cpu") is y and y.to(x).device == HERE


@pytest.mark.parametrize("to_device", [True, False])
def test_copy_across(to_device: bool) -> None:
    to, source = (DEVICE, "cpu") if to_device else ("cpu", DEVICE)
    x = gg.arange(6.0).reshape(2, 3).to(source)
    y = gg.zeros(4, 3, device=to)
    y[1:3].copy_(x)  # part of a storage
    assert y.tolist() == [[0, 0, 0], [0, 1, 2], [3, 4, 5], [0, 0, 0]]
    z = gg.zeros(3, 2, dtype=gg.int64, device=to)
    z.t().copy_(x)  # strided, converted
    assert z.tolist() == [[0, 3], [1, 4], [2, 5]]
    w = gg.zeros(2, 3, device=to)
    w.copy_(x[:, :1])  # broadcast
    assert w.tolist() == [[0, 0, 0], [3, 3, 3]]
    w.copy_(gg.tensor(7.0, device=source))
    assert w.tolist() == [[7] * 3] * 2
    with pytest.raises(gg.ShapeError, match="copy"):
        w.copy_(gg.zeros(5, device=source))


def test_made_there() -> None:
    for made, expected in [
        (gg.zeros(2, 3, device=DEVICE), gg.zeros(2, 3)),
        (gg.ones(2, dtype=gg.int8, device=DEVICE), gg.ones(2, dtype=gg.int8)),
        (gg.full((2,), 2.5, device=DEVICE), gg.full((2,), 2.5)),
        (gg.full((2,), gg.tensor(2.5), device=DEVICE), gg.full((2,), 2.5)),
        (gg.full((2,), there(2.5)), gg.full((2,), 2.5)),
        (gg.arange(5, device=DEVICE), gg.arange(5)),
        (gg.linspace(0, 1, 3, device=DEVICE), gg.linspace(0, 1, 3)),
        (gg.eye(3, device=DEVICE), gg.eye(3)),
        (gg.tril_indices(3, 3, device=DEVICE), gg.tril_indices(3, 3)),
        (gg.ones_like(there([1, 2])), gg.ones(2, dtype=gg.int64)),
        (there([1.0]).new_tensor([3, 4]), gg.tensor([3.0, 4.0])),
        (gg.tensor([there(1.0), 2.0]), gg.tensor([1.0, 2.0])),
        (there([True, False]), gg.tensor([True, False])),
        (gg.as_tensor(np.arange(3), device=DEVICE), gg.arange(3)),
    ]:
        same(made, expected)
    assert gg.zeros_like(there([1.0])).device == gg.rand_like(there([1.0])).device == HERE
    assert gg.zeros_like(there([1.0]), device="cpu").device.type == "cpu"


def test_random_numbers_are_the_cpu_s() -> None:
    p = gg.tensor([0.1, 0.5, 0.9])
    draws: list[Callable[[str], Any]] = [
        lambda d: gg.rand(300, device=d),
        lambda d: gg.rand(7, dtype=gg.float64, device=d),
        lambda d: gg.randint(0, 1000, (50,), device=d),
        lambda d: gg.randperm(40, device=d),
        lambda d: gg.bernoulli(p.to(d)),
        lambda d: gg.multinomial(p.to(d), 5, replacement=True),
    ]
    for draw in draws:
        gg.manual_seed(3)
        here = draw("cpu")
        gg.manual_seed(3)
        made = draw(DEVICE)
        assert made.device == HERE
        same(made, here)


# Numbers and tensors of the CPU beside tensors of the device ---------------------------------------------------------


def test_numbers_beside_tensors() -> None:
    x, y = gg.tensor([1.0, -2.0, 3.0]), there([1.0, -2.0, 3.0])
    half, mask = gg.tensor(0.5), gg.tensor([True, False, True])
    for op in (
        lambda a, d: a + 1,
        lambda a, d: 2 - a,
        lambda a, d: a * half,
        lambda a, d: half / a,
        lambda a, d: a**2,
        lambda a, d: 2.0**a,
        lambda a, d: a > 0,
        lambda a, d: gg.maximum(a, gg.tensor(0.0)),
        lambda a, d: gg.where(mask.to(d), a, 0.0),
        lambda a, d: gg.where(mask.to(d), a, half),
        lambda a, d: gg.lerp(a, a * 2, 0.25),
        lambda a, d: gg.lerp(a, a * 2, half),
        lambda a, d: gg.addcmul(a, half, a, value=3),
        lambda a, d: a.clamp(-1, 2),
        lambda a, d: a.clamp(min=gg.tensor(0.0)),
        lambda a, d: a.masked_fill(mask.to(d), -5),
        lambda a, d: a.masked_fill(mask.to(d), half),
        lambda a, d: a.index_fill(0, gg.tensor([1]).to(d), 9.0),
        lambda a, d: a.scatter(0, gg.tensor([2]).to(d), 8.0),
        lambda a, d: a.clone().fill_(half),
        lambda a, d: gg.nn.functional.pad(a, (1, 1), value=4.0),
        lambda a, d: gg.searchsorted(a.sort().values, 2.0),
        lambda a, d: gg.isin(a, 3.0),
        lambda a, d: a.clone().add_(half).mul_(2).sub_(gg.tensor(1)),
        lambda a, d: a + gg.tensor(1, dtype=gg.float64),  # 0-d tensors do not promote
        lambda a, d: a.to(gg.int64) + half,
    ):
        made = op(y, DEVICE)
        assert made.device == HERE
        same(made, op(x, "cpu"))


def test_indices_of_the_cpu() -> None:
    x = gg.arange(12.0).reshape(3, 4)
    y = x.to(DEVICE)
    for key in ([0, 2], gg.tensor([2, 0]), (slice(None), [1, -1]), x > 4, ([0, 1], gg.tensor([1, 3])), gg.tensor(1)):
        same(y[key], x[key])
        a, b = x.clone(), y.clone()
        a[key] = -1.0
        b[key] = -1.0
        same(b, a)
    y[gg.tensor([0, 1])] = y[gg.tensor([1, 0])]
    y[2] = gg.tensor([9.0, 8.0, 7.0, 6.0])  # a copy across devices
    assert y.tolist() == [[4, 5, 6, 7], [0, 1, 2, 3], [9, 8, 7, 6]]
    with pytest.raises(ValueError, match=f"cpu and .* on {HERE}"):
        x[there([0])]


def test_devices_do_not_mix() -> None:
    x, y = gg.ones(2, 2), gg.ones(2, 2, device=DEVICE)
    index, row = gg.tensor([[0, 1]]), gg.ones(2)
    functional = gg.nn.functional
    calls: dict[str, Callable[[], Any]] = {
        "add": lambda: x + y,
        "maximum": lambda: gg.maximum(y, x),
        "where": lambda: gg.where(y > 0, x, y),
        "matmul": lambda: x @ y,
        "linear": lambda: functional.linear(y, x),
        "addmm": lambda: gg.addmm(x, y, y),
        "cat": lambda: gg.cat([y, x]),
        "stack": lambda: gg.stack([x, y]),
        "gather": lambda: y.gather(0, index),
        "scatter_add": lambda: y.scatter_add(0, index.to(DEVICE), x),
        "index_add": lambda: y.index_add(0, there([0]), x[:1]),
        "index_put": lambda: y.index_put((there([0]),), row),
        "masked_fill": lambda: y.masked_fill(x > 0, 1.0),
        "masked_select": lambda: y.masked_select(x > 0),
        "masked_scatter": lambda: y.masked_scatter(y > 0, x),
        "searchsorted": lambda: gg.searchsorted(row.to(DEVICE), row),
        "isin": lambda: gg.isin(y, x),
        "embedding": lambda: functional.embedding(index, y),
        "embedding_bag": lambda: functional.embedding_bag(there([0, 1]), y, gg.tensor([0])),
        "layer_norm": lambda: functional.layer_norm(y, (2,), row, row),
        "batch_norm": lambda: functional.batch_norm(y, row, row),
        "conv2d": lambda: functional.conv2d(y[None, None], x[None, None]),
        "grid_sample": lambda: functional.grid_sample(y[None, None], gg.zeros(1, 1, 1, 2)),
        "scaled_dot_product_attention": lambda: functional.scaled_dot_product_attention(y, y, x),
        "cross_entropy": lambda: functional.cross_entropy(y, gg.tensor([0, 1])),
        "nll_loss": lambda: functional.nll_loss(y, there([0, 1]), row),
        "mse_loss": lambda: functional.mse_loss(y, x),
        "ctc_loss": lambda: functional.ctc_loss(y[:, None], gg.tensor([[1]]), (2,), (1,)),
        "cdist": lambda: gg.cdist(y, x),
        "sgd_step": lambda: gg._core.sgd_step([y], [x], [], [True], 0.1, 0.0, 0.0, 0.0, False, False),
    }
    for name, call in calls.items():
        with pytest.raises(ValueError) as caught:
            call()
        message = str(caught.value)
        assert name in message and f"on {HERE}" in message and "on cpu" in message, message


# Errors --------------------------------------------------------------------------------------------------------------


def bad_rows() -> list[Any]:
    return [
        pytest.param(row, bad, id=f"{row.family}-{row.name}-{i}")
        for row in table.gather()
        for i, bad in enumerate(row.bad)
    ]


def outcome(row: Row, bad: Bad, device: str) -> tuple[type, str]:
    def moved(value: Any) -> Any:
        return value.to(device) if isinstance(value, gg.Tensor) else value

    args, kwargs = bad.arguments(row.random())
    try:
        args, kwargs = (map_arrays(v, table.tensor, lambda d: getattr(gg, d)) for v in (args, kwargs))
        row.function()(*map(moved, args), **{name: moved(value) for name, value in kwargs.items()})
    except Exception as error:
        return type(error), str(error)
    return type(None), ""


@pytest.mark.parametrize(("row", "bad"), bad_rows())
def test_errors_are_the_cpu_s(row: Row, bad: Bad) -> None:
    assert outcome(row, bad, DEVICE) == outcome(row, bad, "cpu")


def test_a_bad_index_is_no_end() -> None:
    table_ = gg.ones(3, 2, device=DEVICE)
    with pytest.raises(IndexError, match=r"index 5 .*3"):
        table_[there([0, 5])]
    with pytest.raises(IndexError, match="index 7 is out of bounds for axis 0 of weight"):
        gg.nn.functional.embedding(there([1, 7]), table_)
    with pytest.raises(IndexError, match="class 9"):
        gg.nn.functional.cross_entropy(table_, there([0, 1, 9]))
    with pytest.raises(IndexError, match="index -1 is out of bounds"):
        table_.gather(0, there([[-1]]))
    same(table_, gg.ones(3, 2))


def test_out_of_memory() -> None:
    with pytest.raises(MemoryError):
        gg.empty(1 << 50, device=DEVICE)
    same(gg.ones(2, device=DEVICE), gg.ones(2))


def test_memory_is_counted_and_given_back() -> None:
    before = gg.memory_stats(DEVICE)["allocated_bytes"]
    x = gg.zeros(1000, device=DEVICE)
    view = x[10:].reshape(-1, 2)
    assert gg.memory_stats(DEVICE)["allocated_bytes"] >= before + 4000
    del x
    assert gg.memory_stats(DEVICE)["allocated_bytes"] >= before + 4000
    del view
    assert gg.memory_stats(DEVICE)["allocated_bytes"] == before
    gg.reset_peak_memory_stats(DEVICE)
    gg.empty_cache(DEVICE)


@pytest.mark.skipif(HERE.type != "simt", reason="a GPU locks its memory itself")
def test_memory_is_locked_to_the_host() -> None:
    code = (
        "import ctypes\nx = gg.ones(3, device=DEVICE) + 1\nassert x.sum().item() == 6\nctypes.string_at(x.data_ptr())"
    )
    assert run(code, GLASSGRAD_SIMT_LOCK="0").returncode == 0
    assert run(code, GLASSGRAD_SIMT_LOCK="1").returncode == -signal.SIGSEGV


# Looking at values ---------------------------------------------------------------------------------------------------


def test_python_values() -> None:
    x = there([[1.5, -2.0]])
    assert x.tolist() == [[1.5, -2.0]] and x[0, 1].item() == -2.0 and float(x[0, 0]) == 1.5 and int(x[0, 1]) == -2
    assert bool(there(True)) and not there([0.0]) and there([3])[0].__index__() == 3 and [10, 11, 12][there(1)] == 11
    assert there([2, 3]).to(gg.bfloat16).tolist() == [2.0, 3.0] and isinstance(there(1).item(), int)
    assert 1.5 in x and 7.0 not in x and [float(v) for v in there([1.0, 2.0])] == [1.0, 2.0]
    assert f"{there(1.25):.1f}" == "1.2" and x.t()[1].item() == -2.0
    with pytest.raises(gg.ShapeError, match=r"item: .* 2 elements"):
        x.item()


def test_printing() -> None:
    where = f", device='{HERE}'"
    assert repr(there([1.0, 2.5])) == f"tensor([1.0000, 2.5000]{where})"
    assert repr(there([[1, 2]], dtype=gg.int8)) == f"tensor([[1, 2]]{where}, dtype=glassgrad.int8)"
    assert repr(gg.zeros(0, device=DEVICE)) == f"tensor([]{where})"
    many = gg.arange(2000.0).reshape(20, 100)
    assert repr(many.to(DEVICE)) == repr(many)[:-1] + where + ")"
    assert "requires_grad=True" in repr(there([1.0], requires_grad=True))


def test_numpy_is_refused() -> None:
    x = there([1.0, 2.0])
    for look in (x.numpy, lambda: np.asarray(x), lambda: np.array(x), lambda: memoryview(x)):
        with pytest.raises(TypeError, match=re.escape(f"{HERE}") + r".*\.cpu\(\)"):
            look()
    assert x.numpy(force=True).tolist() == [1, 2]
    assert there([1.0], requires_grad=True).numpy(force=True).tolist() == [1]


@pytest.mark.skipif(HERE.type != "simt", reason="a GPU has neighbours: tests/test_cuda_neighbours.py")
def test_neighbours_do_not_know_simt() -> None:
    x = there([1.0])
    for share in (x.__dlpack__, x.__dlpack_device__, lambda: np.from_dlpack(x)):
        with pytest.raises(BufferError, match=r"simt.*\.cpu\(\)"):
            share()
    assert not hasattr(x, "__cuda_array_interface__") and not hasattr(gg.ones(1), "__cuda_array_interface__")


def test_ops_that_look_at_values() -> None:
    x = gg.tensor([[3, 1], [0, 3], [3, 1]])
    y = x.to(DEVICE)
    for op in (
        lambda a: gg.unique(a, return_inverse=True, return_counts=True),
        lambda a: gg.unique(a, dim=0, return_inverse=True, return_counts=True),
        lambda a: gg.unique(a[:0], return_inverse=True, return_counts=True),
        lambda a: gg.unique_consecutive(a.t().reshape(-1), return_inverse=True, return_counts=True),
        lambda a: (gg.nonzero(a), *gg.nonzero(a, as_tuple=True)),
        lambda a: (a.repeat_interleave(gg.tensor([2, 0, 1]).to(a.device), 0), a.repeat_interleave(2)),
        lambda a: (gg.bincount(a.reshape(-1)), gg.histc(a.float(), 4), *gg.histogram(a.float(), 3)),
        lambda a: (a[a > 1], gg.nn.functional.one_hot(a)),
        lambda a: (gg.equal(a, a), gg.allclose(a.float(), a.float())),
    ):
        for made, expected in zip(op(y), op(x), strict=True):
            if isinstance(expected, gg.Tensor):
                assert made.device == HERE
                same(made, expected)
            else:
                assert made == expected


# Copies, pickles, files ----------------------------------------------------------------------------------------------


def test_deepcopy_and_pickle() -> None:
    for x in (there([1.0, 2.0], requires_grad=True), there([1.5]).to(gg.bfloat16), there([[1, 2], [3, 4]]).t()):
        for y in (copy.deepcopy(x), pickle.loads(pickle.dumps(x))):
            assert y.device == HERE and y.requires_grad == x.requires_grad and y.data_ptr() != x.data_ptr()
            same(y, x)


def test_files(tmp_path: Any) -> None:
    pytest.importorskip("safetensors")
    state = {"w": there([1.0, 2.0]), "step": 3, "more": [there([4], dtype=gg.int8), there([1.5]).to(gg.bfloat16)]}
    gg.save(state, tmp_path / "state.safetensors")
    loaded = gg.load(tmp_path / "state.safetensors")
    assert loaded["w"].device.type == "cpu" and loaded["step"] == 3
    moved = gg.load(tmp_path / "state.safetensors", map_location=DEVICE)
    assert moved["more"][1].device == HERE
    for made in (loaded, moved):
        same(made["w"], state["w"])
        same(made["more"][0], state["more"][0])
        same(made["more"][1], state["more"][1])
    gg.save({"w": there([1.0], requires_grad=True)}, tmp_path / "flat.safetensors")
    flat = gg.load(tmp_path / "flat.safetensors", map_location=gg.device(DEVICE))["w"]
    assert flat.device == HERE and flat.requires_grad and flat.is_leaf
    gg.io.save_npz(tmp_path / "a.npz", w=there([1.0, 2.0]))
    assert gg.load_npz(tmp_path / "a.npz")["w"].tolist() == [1, 2]


# Gradients -----------------------------------------------------------------------------------------------------------


def test_gradients_come_back() -> None:
    x = gg.tensor([1.0, 2.0], requires_grad=True)
    y = (x.to(DEVICE) * there([3.0, 4.0])).cpu().sum()
    y.backward()
    assert x.grad.device.type == "cpu" and x.grad.tolist() == [3, 4]
    z = x.to(DEVICE, gg.float64)
    (g,) = gg.autograd.grad((z * z).sum(), x, create_graph=True)
    assert g.dtype is gg.float32 and g.device.type == "cpu"
    (gg2,) = gg.autograd.grad(g.sum(), x)
    assert gg2.tolist() == [2, 2]


def test_gradients_of_numbers_come_back() -> None:
    s = gg.tensor(2.0, requires_grad=True)
    x = there([1.0, 2.0, 3.0], requires_grad=True)
    (x * s).sum().backward()
    assert s.grad.device.type == "cpu" and s.grad.item() == 6 and x.grad.tolist() == [2, 2, 2]
    w = gg.tensor([1.0, 2.0], requires_grad=True)
    (w.sum() * x + w.prod()).sum().backward()  # 0-d, computed on the CPU
    assert w.grad.device.type == "cpu" and w.grad.tolist() == [12, 9]
    (g,) = gg.autograd.grad((x * s * s).sum(), s, create_graph=True)
    assert g.item() == 24
    assert gg.autograd.grad(g, s)[0].item() == 12
    t = there(2.0, requires_grad=True)
    (t * s).backward()
    assert t.grad.device == HERE and s.grad.device.type == "cpu"


def test_gradients_must_be_where_their_tensor_is() -> None:
    x = there([1.0, 2.0], requires_grad=True)
    with pytest.raises(ValueError, match=f"gradient on cpu for an output on {HERE}"):
        (x * 2).backward(gg.ones(2))
    with pytest.raises(ValueError, match=r"grad: operands .* move one"):
        x.grad = gg.ones(2)
    y = x * 2
    y.register_hook(lambda g: g.cpu())
    with pytest.raises(ValueError, match=f"{HERE}.*cpu|cpu.*{HERE}"):
        (y * there([1.0, 2.0])).sum().backward()
    assert x.grad is None


def test_in_place_and_views() -> None:
    x = there([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    y = x * 1
    y[0].mul_(3)
    y[:, 1] = 5.0
    y.sum().backward()
    assert x.grad.tolist() == [[3, 0], [1, 0]] and y.tolist() == [[3, 5], [3, 5]]


def test_custom_function() -> None:
    class Pair(gg.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            return x * 2, x * 3

        @staticmethod
        def backward(ctx: Any, a: Any, b: Any) -> Any:
            assert a.device == b.device == HERE
            return a * 2 + b * 3

    x = there([1.0], requires_grad=True)
    Pair.apply(x)[0].backward()  # the other gradient is zeros, made on the device
    assert x.grad.item() == 2
    assert gg.autograd.gradcheck(lambda v: v * v, there([1.0, 2.0], dtype=gg.float64, requires_grad=True))
    assert gg.autograd.functional.jacobian(lambda v: v * v, there([1.0, 2.0])).tolist() == [[2, 0], [0, 4]]


# Modules and optimizers ----------------------------------------------------------------------------------------------


def model() -> Any:
    gg.manual_seed(0)
    return gg.nn.Sequential(gg.nn.Linear(3, 4), gg.nn.Tanh(), gg.nn.Linear(4, 2))


def test_module_to() -> None:
    net = model()
    weight = net[0].weight
    weight.grad = gg.ones(4, 3)
    assert net.to(DEVICE) is net and net[0].weight is weight
    assert weight.device == weight.grad.device == HERE and weight.is_leaf and weight.requires_grad
    assert all(p.device == HERE for p in net.parameters())
    net.double().cpu()
    assert weight.dtype is gg.float64 and weight.device.type == "cpu" and weight.grad.device.type == "cpu"
    norm = gg.nn.BatchNorm1d(3).to(device=DEVICE)
    assert norm.running_mean.device == norm.num_batches_tracked.device == HERE
    assert gg.nn.Linear(2, 2, device=DEVICE).weight.device == HERE


def test_state_dicts_cross_devices() -> None:
    ours, theirs = model(), model().to(DEVICE)
    with gg.no_grad():
        for p in ours.parameters():
            p += 1
    theirs.load_state_dict(ours.state_dict())
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert q.device == HERE
        same(q, p)
    ours.load_state_dict(model().to(DEVICE).state_dict())
    assert ours[0].weight.device.type == "cpu"
    copied = copy.deepcopy(theirs)
    assert copied[0].weight.device == HERE and copied[0].weight.data_ptr() != theirs[0].weight.data_ptr()


OPTIMIZERS: dict[str, Callable[[Any], Any]] = {
    "SGD": lambda p: gg.optim.SGD(p, lr=0.1, momentum=0.9),
    "AdamW": lambda p: gg.optim.AdamW(p, lr=0.1),
    "NAdam": lambda p: gg.optim.NAdam(p, lr=0.1),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_as_on_the_cpu(name: str) -> None:
    x, labels = gg.tensor(np.linspace(-1, 1, 15).reshape(5, 3).astype(np.float32)), gg.tensor([0, 1, 1, 0, 1])
    losses: dict[str, list[float]] = {}
    for device in ("cpu", DEVICE):
        net = model().to(device)
        optimizer = OPTIMIZERS[name](net.parameters())
        for _ in range(3):
            optimizer.zero_grad()
            loss = gg.nn.functional.cross_entropy(net(x.to(device)), labels.to(device))
            loss.backward()
            gg.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
            losses.setdefault(device, []).append(loss.item())
        kept = [v for state in optimizer.state.values() for v in state.values() if isinstance(v, gg.Tensor) and v.ndim]
        assert kept and all(v.device == net[0].weight.device for v in kept)
        # A state that comes from the CPU goes where its parameter is.
        saved = copy.deepcopy(optimizer.state_dict())
        for state in saved["state"].values():
            for key, value in state.items():
                state[key] = value.cpu() if isinstance(value, gg.Tensor) else value
        fresh = OPTIMIZERS[name](net.parameters())
        fresh.load_state_dict(saved)
        fresh.step()
    assert losses[DEVICE] == pytest.approx(losses["cpu"], rel=1e-4)


def test_steps_may_be_counted_on_the_device() -> None:
    w = there([1.0, 2.0], requires_grad=True)
    optimizer = gg.optim.Adam([w], lr=0.1)
    w.grad = there([1.0, 1.0])
    optimizer.step()
    optimizer.state[w]["step"] = optimizer.state[w]["step"].to(DEVICE)
    optimizer.step()
    assert optimizer.state[w]["step"].item() == 2 and optimizer.state[w]["step"].device == HERE


# The process ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "code",
    [
        "x = gg.ones(1000, device=DEVICE)",
        "import builtins\nbuiltins.kept = [gg.ones(3, device=DEVICE, requires_grad=True)]\n(kept[0] * 2).sum()",
        "class Cycle: pass\nc = Cycle()\nc.me, c.x = c, gg.ones(3, device=DEVICE)",
        "import atexit\nx = gg.ones(3, device=DEVICE)\natexit.register(lambda: x.tolist())",
        "import threading\nkept = threading.local()\nkept.x = gg.ones(3, device=DEVICE)",
    ],
    ids=["global", "builtins", "cycle", "atexit", "thread-local"],
)
def test_exit_with_living_tensors(code: str) -> None:
    done = run(code)
    assert done.returncode == 0 and done.stderr == "", done.stderr


def test_fork() -> None:
    done = run(
        "import os, gc\n"
        "x = gg.ones(3, device=DEVICE)\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    y = gg.ones(3)\n"
        "    del x\n"
        "    gc.collect()\n"
        "    raise SystemExit(0 if y.sum().item() == 3 else 1)\n"
        "assert os.waitpid(child, 0)[1] == 0\n"
        "assert x.tolist() == [1, 1, 1]"
    )
    assert done.returncode == 0, done.stderr
