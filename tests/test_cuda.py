"""gg.cuda: without a GPU, over a stand-in for the driver, and on a GPU where there is one."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import glassgrad as gg

needs_gpu = pytest.mark.skipif(not gg.cuda.is_available(), reason=f"no GPU: {gg.cuda.problem()}")
needs_none = pytest.mark.skipif(gg.cuda.is_available(), reason="there is a GPU")


# ---- Without a GPU ---------------------------------------------------------------------------------------------------


@needs_none
def test_nothing_is_there_and_nothing_breaks() -> None:
    assert not gg.cuda.is_available() and gg.cuda.device_count() == 0 and not gg.cuda.is_initialized()
    assert gg.cuda.memory_stats() == {} and gg.cuda.memory_allocated() == gg.cuda.max_memory_reserved() == 0
    assert gg.cuda.get_arch_list() == [] and not gg.cuda.is_bf16_supported()
    assert not gg.cuda.is_current_stream_capturing()
    gg.cuda.empty_cache()
    state = gg.get_rng_state()
    gg.cuda.manual_seed(3)
    gg.cuda.manual_seed_all(3)
    assert (gg.get_rng_state() == state).all()
    with gg.cuda.device(None), gg.cuda.device(-1), gg.cuda.stream(None):
        gg.cuda.set_device(-1)
    assert not gg.zeros(2).is_pinned()


@needs_none
@pytest.mark.parametrize(
    "call",
    [
        gg.cuda.init,
        gg.cuda.current_device,
        gg.cuda.synchronize,
        gg.cuda.get_device_name,
        gg.cuda.get_device_capability,
        gg.cuda.mem_get_info,
        gg.cuda.reset_peak_memory_stats,
        gg.cuda.current_stream,
        gg.cuda.Stream,
        gg.cuda.Event,
        gg.cuda.CUDAGraph,
        gg.cuda.graph_pool_handle,
        lambda: gg.cuda.set_device(0),
        lambda: gg.zeros(2).pin_memory(),
    ],
)
def test_what_needs_a_device_says_what_is_missing(call: Any) -> None:
    with pytest.raises(RuntimeError) as error:
        call()
    assert gg.cuda.problem() in str(error.value)


@needs_none
def test_a_tensor_that_needs_a_device_says_what_is_missing() -> None:
    for make in (lambda: gg.zeros(2, device="cuda"), lambda: gg.zeros(2).cuda(), lambda: gg.zeros(2).to(0)):
        with pytest.raises((RuntimeError, ValueError)) as error:
            make()
        assert gg.cuda.problem().split(":")[0] in str(error.value)


def test_every_absence_has_a_sentence() -> None:
    cuda = pytest.importorskip("glassgrad._cuda", reason="the CUDA backend is not built")
    old, new = 12040, 13000
    said = {
        (35, 0): "no NVIDIA driver is installed",
        (35, old): "the NVIDIA driver is too old: it serves CUDA 12.4, this build needs 13.0",
        (34, 0): "stub",
        (100, new): "finds no device",
        (803, new): "different versions: restart",
        (802, new): "nvidia-fabricmanager",
        (46, new): "in use",
        (3, new): "does not start",
        (999, new): "does not start",
    }
    for (error, driver), text in said.items():
        assert text in cuda.explain_absence(error, driver, new), error


def test_numbers_name_gpus() -> None:
    assert gg.device(1) == gg.device("cuda:1") and gg.device("cuda").index == 0
    with pytest.raises(ValueError, match="no cuda device of number -1"):
        gg.device(-1)


# ---- Over a stand-in for the driver ----------------------------------------------------------------------------------


class Graph:
    """Counts what a graph would do."""

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.copies = 0

    def begin(self, pool: int, mode: str) -> None:
        self.calls.append(("begin", pool, mode))

    def end(self) -> None:
        self.calls.append("end")

    def cancel(self) -> None:
        self.calls.append("cancel")

    def replay(self, key: int, moved: int) -> None:
        self.calls.append(("replay", key, moved))

    def kept(self) -> int:
        self.copies += 1  # as if something was copied in between two calls
        return self.copies

    def begin_refresh(self, first: int) -> None:
        self.calls.append(("begin_refresh", first))

    def end_refresh(self, last: int) -> None:
        self.calls.append(("end_refresh", last))

    def pool(self) -> int:
        return 5


class Driver:
    """Two devices that do nothing."""

    Graph = Graph
    architectures = "sm_80"

    def __init__(self) -> None:
        self.handles = itertools.count(100)
        self.current = [10, 20]
        self.waits: list[tuple[int, int]] = []
        self.used: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return lambda *_: None

    def problem(self) -> str:
        return ""

    def device_count(self) -> int:
        return 2

    def use_device(self, index: int) -> None:
        self.used.append(index)

    def default_stream(self, index: int) -> int:
        return 10 * (index + 1)

    def side_stream(self, index: int, high: bool) -> int:
        return next(self.handles)

    def current_stream(self, index: int) -> int:
        return self.current[index]

    def set_current_stream(self, index: int, handle: int) -> None:
        self.current[index] = handle

    def make_event(self, *_: Any) -> int:
        return next(self.handles)

    def event_query(self, event: int) -> bool:
        return False

    def stream_wait_event(self, stream: int, event: int) -> None:
        self.waits.append((stream, event))


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Driver]:
    fake = Driver()
    monkeypatch.setattr(gg.cuda, "_module", fake)
    monkeypatch.setattr(gg.cuda.graph, "default_capture_stream", None)
    yield fake
    gg._core.set_cuda_device(0)


def test_the_current_device(driver: Driver) -> None:
    assert gg.cuda.current_device() == 0
    with gg.cuda.device("cuda:1"):
        assert gg.cuda.current_device() == 1 and gg.device("cuda") == gg.device("cuda:1")
        with gg.cuda.device(None):
            assert gg.cuda.current_device() == 1
    assert gg.cuda.current_device() == 0 and driver.used == [1, 0]
    with pytest.raises(RuntimeError, match="no cuda device of number 2; there are 2"):
        gg.cuda.set_device(2)
    with pytest.raises(ValueError, match="'cpu' is not a cuda device"):
        gg.cuda.synchronize("cpu")


def test_streams_nest(driver: Driver) -> None:
    a, b = gg.cuda.Stream(), gg.cuda.Stream(1, priority=-1)
    assert (a.device, b.device, b.priority) == (gg.device(0), gg.device(1), -1)
    with gg.cuda.stream(a):
        assert gg.cuda.current_stream() == a
        with gg.cuda.stream(b):
            assert gg.cuda.current_stream() == b and gg.cuda.current_device() == 1
            assert gg.cuda.current_stream(0) == a
        assert gg.cuda.current_stream() == a
    assert gg.cuda.current_stream() == gg.cuda.default_stream() != a
    assert gg.cuda.current_stream(1) == gg.cuda.default_stream(1)
    assert len({a, b, gg.cuda.ExternalStream(a.cuda_stream)}) == 2


def test_events_are_made_by_their_first_record(driver: Driver) -> None:
    event = gg.cuda.Event()
    event.synchronize()
    event.wait()
    assert event.query() and driver.waits == []
    a = gg.cuda.Stream()
    a.wait_stream(gg.cuda.current_stream())
    assert [stream for stream, _ in driver.waits] == [a.cuda_stream]
    event.record()
    assert not event.query()
    with pytest.raises(RuntimeError, match="it was made for cuda:0; a stream of cuda:1"):
        event.record(gg.cuda.Stream(1))
    with pytest.raises(ValueError, match="enable_timing=True"):
        event.elapsed_time(event)
    timed = gg.cuda.Event(enable_timing=True)
    with pytest.raises(ValueError, match="must be recorded"):
        timed.elapsed_time(timed)


def test_a_capture_leaves_counts_where_they_were(driver: Driver) -> None:
    w = gg.ones(3, requires_grad=True)
    optimizer = gg.optim.Adam([w], lr=0.5)
    w.sum().backward()
    optimizer.step()  # makes its state
    g = gg.cuda.CUDAGraph()
    gg.manual_seed(7)
    gg.rand(4)
    before = gg.get_rng_state()
    key, counter = gg.default_generator._position
    with gg.cuda.graph(g, pool=(0, 9)):
        gg.rand(1000)
        drawn = gg.default_generator._position[1] - counter
        optimizer.step()
        assert optimizer.state[w]["step"].item() == 2
    assert optimizer.state[w]["step"].item() == 1
    assert (gg.get_rng_state() == before).all()

    grad = w.grad
    w.grad = None  # a replay puts back what the kernels read
    g.replay()
    assert optimizer.state[w]["step"].item() == 2 and w.grad is grad
    gg.rand(4)
    g.replay()
    assert optimizer.state[w]["step"].item() == 3
    more = gg.default_generator._position[1] - counter - 2 * drawn
    assert g._graph.calls == [
        ("begin", 9, "global"),
        "end",
        ("begin_refresh", 1),
        ("end_refresh", 2),
        ("replay", key, 0),
        ("begin_refresh", 1),
        ("end_refresh", 2),
        ("replay", key, drawn + more),
    ]
    assert more > 0 and g.pool() == (0, 5)


def test_a_capture_that_fails_is_given_up(driver: Driver) -> None:
    g = gg.cuda.CUDAGraph()
    with pytest.raises(KeyError), gg.cuda.graph(g):
        raise KeyError
    assert g._graph.calls[-1] == "cancel"
    assert gg.cuda.current_stream() == gg.cuda.default_stream()
    with gg.cuda.graph(g), pytest.raises(RuntimeError, match="another graph is being captured"):
        gg.cuda.CUDAGraph().capture_begin()


def test_an_optimizer_has_its_state_before_a_capture(driver: Driver) -> None:
    w = gg.ones(3, requires_grad=True)
    w.sum().backward()
    with (
        pytest.raises(RuntimeError, match="Adam makes its state in its first step"),
        gg.cuda.graph(gg.cuda.CUDAGraph()),
    ):
        gg.optim.Adam([w]).step()


# ---- On a GPU --------------------------------------------------------------------------------------------------------


@needs_gpu
def test_there_and_back() -> None:
    for n in (0, 1, 1000, 3 << 20):  # the last in several pieces
        x = gg.arange(float(n))
        assert np.array_equal(x.cuda().cpu().numpy(), x.numpy())
        assert np.array_equal(x.pin_memory().to("cuda", non_blocking=True).cpu().numpy(), x.numpy())
        back = x.cuda().to("cpu", non_blocking=True)
        gg.cuda.synchronize()
        assert back.is_pinned() and np.array_equal(back.numpy(), x.numpy())


@needs_gpu
def test_host_memory_may_change_at_once() -> None:
    x, copies = gg.zeros(1 << 18), []
    for i in range(100):
        x.fill_(float(i))
        copies.append(x.to("cuda"))
    assert [y.cpu().numpy().max() for y in copies] == [float(i) for i in range(100)]


@needs_gpu
def test_memory_is_counted() -> None:
    gg.cuda.empty_cache()
    before = gg.cuda.memory_allocated()
    gg.cuda.reset_peak_memory_stats()
    x = gg.empty(1 << 20, device="cuda")
    assert gg.cuda.memory_allocated() - before == x.nbytes
    del x
    assert gg.cuda.memory_allocated() == before and gg.cuda.max_memory_allocated() >= before + (4 << 20)
    assert gg.cuda.memory_reserved() > 0
    free, total = gg.cuda.mem_get_info()
    assert 0 < free <= total == gg.cuda.get_device_properties().total_memory
    assert "Allocated memory" in gg.cuda.memory_summary()


@needs_gpu
def test_too_much_memory_is_an_error_and_the_process_goes_on() -> None:
    with pytest.raises(gg.cuda.OutOfMemoryError, match="out of memory on cuda:0") as error:
        gg.empty(1 << 50, dtype=gg.uint8, device="cuda")
    assert "asked for" in str(error.value) and gg.ones(3, device="cuda").sum().item() == 3


@needs_gpu
def test_streams_and_events() -> None:
    side, x = gg.cuda.Stream(), gg.ones(1 << 20, device="cuda")
    start, end = gg.cuda.Event(enable_timing=True), gg.cuda.Event(enable_timing=True)
    side.wait_stream(gg.cuda.current_stream())
    with gg.cuda.stream(side):
        start.record()
        for _ in range(50):
            x = x * 1.5
        end.record()
    gg.cuda.current_stream().wait_stream(side)
    x.record_stream(gg.cuda.current_stream())
    assert abs(x[0].item() / 1.5**50 - 1) < 1e-5
    end.synchronize()
    assert end.query() and side.query() and start.elapsed_time(end) > 0


@needs_gpu
def test_a_graph_trains_as_steps_do() -> None:
    def make() -> tuple[Any, Any, Any]:
        gg.manual_seed(0)
        model = gg.nn.Sequential(gg.nn.Linear(20, 32), gg.nn.ReLU(), gg.nn.Dropout(0.5), gg.nn.Linear(32, 4)).cuda()
        optimizer = gg.optim.AdamW(model.parameters(), lr=0.01)
        return model, optimizer, gg.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)

    batches = [(gg.randn(16, 20), gg.randint(0, 4, (16,))) for _ in range(8)]

    def step(model: Any, optimizer: Any, x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        loss = gg.nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    model, optimizer, scheduler = make()
    expected = []
    for x, y in batches:
        expected.append(step(model, optimizer, x.cuda(), y.cuda()).item())
        scheduler.step()

    model, optimizer, scheduler = make()
    x, y = (t.cuda() for t in batches[0])
    found = [step(model, optimizer, x, y).item()]
    scheduler.step()
    g = gg.cuda.CUDAGraph()
    optimizer.zero_grad()
    with gg.cuda.graph(g):
        loss = step(model, optimizer, x, y)
    for new_x, new_y in batches[1:]:
        x.copy_(new_x)
        y.copy_(new_y)
        g.replay()
        scheduler.step()
        found.append(loss.item())
    assert np.allclose(found, expected, rtol=1e-5)


@needs_gpu
def test_what_cannot_be_captured_says_so() -> None:
    x = gg.ones(3, device="cuda")
    with pytest.raises(RuntimeError, match="while a graph is captured"), gg.cuda.graph(gg.cuda.CUDAGraph()):
        (x + 1).sum().item()
    assert (x + 1).sum().item() == 6


@needs_gpu
def test_a_fork_says_that_it_has_no_gpu() -> None:
    code = """
import os, glassgrad as gg
gg.ones(1, device="cuda")
if os.fork() == 0:
    try:
        gg.ones(1, device="cuda")
    except Exception as error:
        os._exit(0 if "spawn" in str(error) and not gg.cuda.is_available() else 1)
    os._exit(2)
assert os.waitstatus_to_exitcode(os.wait()[1]) == 0
"""
    subprocess.run([sys.executable, "-c", code], check=True)
