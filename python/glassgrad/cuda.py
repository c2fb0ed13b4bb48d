"""CUDA devices, under the names of torch.cuda: devices, streams, events, memory, graphs.

Everything here can be called on a machine without a GPU: `is_available()` is False, `device_count()` 0, and what needs
a device raises a RuntimeError that says what is missing. Work is given to a device's current stream, in order, and done
later; results wait for it when they are read. A number, a string, a `gg.device` or None (the current one) names a
device.

    device = "cuda" if gg.cuda.is_available() else "cpu"
    model = model.to(device)
"""

from __future__ import annotations

import contextlib
import copy
import gc
import importlib
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any

from glassgrad import _core as core
from glassgrad._core import OutOfMemoryError

if TYPE_CHECKING:
    from glassgrad.optim.optimizer import Optimizer
    from glassgrad.tensor import Tensor

__all__ = [
    "CUDAGraph",
    "Event",
    "ExternalStream",
    "OutOfMemoryError",
    "Stream",
    "can_device_access_peer",
    "current_device",
    "current_stream",
    "default_stream",
    "device",
    "device_count",
    "device_of",
    "empty_cache",
    "get_arch_list",
    "get_device_capability",
    "get_device_name",
    "get_device_properties",
    "get_rng_state",
    "graph",
    "graph_pool_handle",
    "init",
    "initial_seed",
    "is_available",
    "is_bf16_supported",
    "is_current_stream_capturing",
    "is_initialized",
    "manual_seed",
    "manual_seed_all",
    "max_memory_allocated",
    "max_memory_reserved",
    "mem_get_info",
    "memory_allocated",
    "memory_reserved",
    "memory_snapshot",
    "memory_stats",
    "memory_summary",
    "reset_accumulated_memory_stats",
    "reset_peak_memory_stats",
    "seed",
    "seed_all",
    "set_device",
    "set_per_process_memory_fraction",
    "set_rng_state",
    "set_stream",
    "stream",
    "synchronize",
]

Device = Any  # an int, a str, a gg.device, or None

_module: Any = None
_used = False


def _backend() -> Any:
    """The module glassgrad._cuda, or None where the build has none."""
    global _module
    if _module is None:
        try:
            _module = importlib.import_module("glassgrad._cuda")
        except ModuleNotFoundError:
            _module = False
    return _module or None


def problem() -> str:
    """Why no device can be used, in one sentence; empty where one can.

    >>> gg.cuda.is_available() == (not gg.cuda.problem())
    True
    """
    backend = _backend()
    if backend is None:
        return "this build has no CUDA backend: it is made where CMake finds a CUDA compiler"
    return str(backend.problem())


def _need() -> Any:
    """The module glassgrad._cuda where a device can be used; RuntimeError elsewhere."""
    global _used
    why = problem()
    if why:
        raise RuntimeError(f"cuda: {why}")
    _used = True
    return _module


def _index(device: Device, function: str) -> int:
    """The number of a device that is there."""
    if device is None:
        return current_device()
    count = _need().device_count()
    named: Any = None if isinstance(device, int) else core.device(device)
    if named is not None and named.type != "cuda":
        raise ValueError(f"{function}: {device!r} is not a cuda device")
    index = int(device if named is None else named.index)
    if not 0 <= index < count:
        raise RuntimeError(f"{function}: there is no cuda device of number {index}; there are {count}")
    return index


# ---- Devices ---------------------------------------------------------------------------------------------------------


def is_available() -> bool:
    """Whether a CUDA device can be used.

    >>> device = "cuda" if gg.cuda.is_available() else "cpu"
    >>> gg.ones(2, device=device).sum().item()
    2.0
    """
    return not problem()


def is_initialized() -> bool:
    """Whether this process has used a device."""
    return _used and is_available()


def init() -> None:
    """Starts the current device, which its first use does as well."""
    _need().use_device(current_device())


def device_count() -> int:
    """The number of devices that can be used, 0 where there are none.

    >>> gg.cuda.device_count() > 0 or not gg.cuda.is_available()
    True
    """
    backend = _backend()
    return int(backend.device_count()) if backend else 0


def current_device() -> int:
    """The number of the device that "cuda" without a number means, in this thread."""
    _need()
    return core.get_cuda_device()


def set_device(device: Device) -> None:
    """Chooses the device that "cuda" without a number means, in this thread. A negative number changes nothing."""
    if isinstance(device, int) and device < 0:
        return
    index = _index(device, "set_device")
    _need().use_device(index)
    core.set_cuda_device(index)


class device:
    """A block in which another device is the current one. With None or a negative number it changes nothing.

    >>> with gg.cuda.device(0 if gg.cuda.is_available() else None):
    ...     x = gg.ones(2)
    """

    def __init__(self, device: Device) -> None:
        none = device is None or (isinstance(device, int) and device < 0)
        self.idx = -1 if none else _index(device, "device")
        self.prev_idx = -1

    def __enter__(self) -> None:
        if self.idx >= 0:
            self.prev_idx = current_device()
            set_device(self.idx)

    def __exit__(self, *_: object) -> None:
        set_device(self.prev_idx)


class device_of(device):
    """A block in which the device of a tensor is the current one, if it is a cuda device."""

    def __init__(self, obj: Tensor) -> None:
        super().__init__(obj.get_device() if obj.is_cuda else -1)


@dataclass(frozen=True)
class DeviceProperties:
    """What a device is and has; sizes in bytes."""

    name: str
    major: int
    minor: int
    total_memory: int
    multi_processor_count: int
    warp_size: int
    max_threads_per_block: int
    max_threads_per_multi_processor: int
    regs_per_multiprocessor: int
    shared_memory_per_block: int
    shared_memory_per_block_optin: int
    shared_memory_per_multiprocessor: int
    L2_cache_size: int
    is_integrated: int
    is_multi_gpu_board: int
    pci_bus_id: int
    pci_device_id: int
    pci_domain_id: int
    uuid: str


def get_device_properties(device: Device = None) -> DeviceProperties:
    """Name, compute capability, memory and limits of a device."""
    return DeviceProperties(**_need().properties(_index(device, "get_device_properties")))


def get_device_name(device: Device = None) -> str:
    """The name of a device, such as 'NVIDIA H200'."""
    return get_device_properties(device).name


def get_device_capability(device: Device = None) -> tuple[int, int]:
    """The compute capability of a device, such as (9, 0)."""
    properties = get_device_properties(device)
    return properties.major, properties.minor


def get_arch_list() -> list[str]:
    """The architectures that this build has kernels for; empty where no device can be used.

    >>> isinstance(gg.cuda.get_arch_list(), list)
    True
    """
    return _need().architectures.split(", ") if is_available() else []


def is_bf16_supported(including_emulation: bool = True) -> bool:
    """Whether kernels of bfloat16 run: on every device, by hardware from compute capability 8.0 on."""
    return is_available() and (including_emulation or get_device_capability()[0] >= 8)


def can_device_access_peer(device: Device, peer_device: Device) -> bool:
    """Whether a device can read the memory of another."""
    there = _index(peer_device, "can_device_access_peer")
    return bool(_need().can_access_peer(_index(device, "can_device_access_peer"), there))


def synchronize(device: Device = None) -> None:
    """Waits until a device has done all that it was given."""
    _need().synchronize(_index(device, "synchronize"))


# ---- Streams and events ----------------------------------------------------------------------------------------------


class Stream:
    """Work in order. Streams run beside each other; `wait_stream` and events put them in order.

    priority: below 0 for one that goes first. Tensors that a stream uses and did not make need `record_stream`.

        side = gg.cuda.Stream()
        side.wait_stream(gg.cuda.current_stream())
        with gg.cuda.stream(side):
            y = x * 2
        gg.cuda.current_stream().wait_stream(side)
    """

    cuda_stream: int  # the handle of the CUDA runtime
    device: Any

    def __init__(self, device: Device = None, priority: int = 0) -> None:
        index = _index(device, "Stream")
        self._set(_need().side_stream(index, priority < 0), index)
        self.priority = -1 if priority < 0 else 0

    def _set(self, handle: int, index: int) -> Stream:
        self.cuda_stream, self.device, self.priority = handle, core.device("cuda", index), 0
        return self

    @classmethod
    def _of(cls, handle: int, index: int) -> Stream:
        return Stream.__new__(Stream)._set(handle, index)

    @property
    def stream_id(self) -> int:
        """The handle."""
        return self.cuda_stream

    def query(self) -> bool:
        """Whether all that it was given is done."""
        return bool(_need().stream_query(self.cuda_stream))

    def synchronize(self) -> None:
        """Waits until all that it was given is done."""
        _need().stream_synchronize(self.cuda_stream)

    def wait_event(self, event: Event) -> None:
        """What it is given from now on waits for the event."""
        event.wait(self)

    def wait_stream(self, stream: Stream) -> None:
        """What it is given from now on waits for all that the other stream was given so far."""
        self.wait_event(stream.record_event())

    def record_event(self, event: Event | None = None) -> Event:
        """An event behind all that it was given so far."""
        event = Event() if event is None else event
        event.record(self)
        return event

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Stream) and (self.cuda_stream, self.device) == (other.cuda_stream, other.device)

    def __hash__(self) -> int:
        return hash((self.cuda_stream, self.device))

    def __repr__(self) -> str:
        return f"<glassgrad.cuda.Stream device={self.device} cuda_stream={self.cuda_stream:#x}>"


class ExternalStream(Stream):
    """A stream of another library, by its handle; that library keeps it alive."""

    def __init__(self, stream_ptr: int, device: Device = None) -> None:
        self._set(stream_ptr, _index(device, "ExternalStream"))


def default_stream(device: Device = None) -> Stream:
    """The stream that a device starts with. It is in order with the default streams of CuPy and PyTorch."""
    index = _index(device, "default_stream")
    return Stream._of(_need().default_stream(index), index)


def current_stream(device: Device = None) -> Stream:
    """The stream that this thread gives a device's work to."""
    index = _index(device, "current_stream")
    return Stream._of(_need().current_stream(index), index)


def set_stream(stream: Stream | None) -> None:
    """Makes a stream and its device the current ones of this thread. None changes nothing."""
    if stream is None:
        return
    set_device(stream.device)
    _need().set_current_stream(stream.device.index, stream.cuda_stream)


class stream:
    """A block whose work is given to a stream. With None it changes nothing.

    >>> with gg.cuda.stream(gg.cuda.Stream() if gg.cuda.is_available() else None):
    ...     x = gg.ones(2)
    """

    def __init__(self, stream: Stream | None) -> None:
        self.stream = stream
        self._before: tuple[Stream, int] | None = None

    def __enter__(self) -> None:
        if self.stream is not None:
            self._before = current_stream(self.stream.device), current_device()
            set_stream(self.stream)

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            before, index = self._before
            set_stream(before)
            set_device(index)


_on_stream = stream


class Event:
    """A mark in a stream, which another stream or the CPU can wait for; two with `enable_timing` measure time.

    start, end = gg.cuda.Event(enable_timing=True), gg.cuda.Event(enable_timing=True)
    start.record()
    y = x @ x
    end.record()
    end.synchronize()
    milliseconds = start.elapsed_time(end)
    """

    def __init__(self, enable_timing: bool = False, blocking: bool = False, interprocess: bool = False) -> None:
        _need()
        self.enable_timing, self.blocking, self.interprocess = enable_timing, blocking, interprocess
        self.cuda_event, self.device = 0, None  # made by the first record, on that stream's device

    def record(self, stream: Stream | None = None) -> None:
        """Marks where a stream, the current one if not given, is now."""
        stream = current_stream() if stream is None else stream
        if not self.cuda_event:
            flags = self.enable_timing, self.blocking, self.interprocess
            self.cuda_event, self.device = _need().make_event(stream.device.index, *flags), stream.device
        if self.device != stream.device:
            raise RuntimeError(f"Event: it was made for {self.device}; a stream of {stream.device} cannot record it")
        _need().event_record(self.cuda_event, stream.cuda_stream)

    def wait(self, stream: Stream | None = None) -> None:
        """What a stream, the current one if not given, gets from now on waits for this event."""
        stream = current_stream() if stream is None else stream
        if self.cuda_event:
            _need().stream_wait_event(stream.cuda_stream, self.cuda_event)

    def query(self) -> bool:
        """Whether the stream has passed it; True before it is recorded."""
        return not self.cuda_event or bool(_need().event_query(self.cuda_event))

    def synchronize(self) -> None:
        """Waits until the stream has passed it."""
        if self.cuda_event:
            _need().event_synchronize(self.cuda_event)

    def elapsed_time(self, end_event: Event) -> float:
        """Milliseconds from this event to another, both made with enable_timing, recorded and passed."""
        if not (self.enable_timing and end_event.enable_timing):
            raise ValueError("elapsed_time: both events must be made with enable_timing=True")
        if not (self.cuda_event and end_event.cuda_event):
            raise ValueError("elapsed_time: both events must be recorded first")
        return float(_need().event_elapsed_time(self.cuda_event, end_event.cuda_event))

    def __del__(self) -> None:
        if getattr(self, "cuda_event", 0) and _module:
            _module.destroy_event(self.cuda_event)

    def __repr__(self) -> str:
        return (
            f"<glassgrad.cuda.Event {self.cuda_event:#x}>" if self.cuda_event else "<glassgrad.cuda.Event unrecorded>"
        )


# ---- Memory ----------------------------------------------------------------------------------------------------------


def memory_stats(device: Device = None) -> OrderedDict[str, int]:
    """The allocator's counters, as "allocated_bytes.all.peak": empty before a device is used.

    What: allocation, segment, active, inactive_split, and the bytes allocated, reserved, active, inactive_split,
    requested. Where: all, small_pool (requests of up to 1 MB), large_pool. Which: current, peak (since
    reset_peak_memory_stats), allocated, freed (since reset_accumulated_memory_stats).

    >>> isinstance(gg.cuda.memory_stats(), dict)
    True
    """
    if not is_available():
        return OrderedDict()
    return OrderedDict(sorted(_need().memory_stats(_index(device, "memory_stats")).items()))


def memory_allocated(device: Device = None) -> int:
    """Bytes that tensors hold.

    >>> gg.cuda.memory_allocated() <= gg.cuda.max_memory_allocated()
    True
    """
    return memory_stats(device).get("allocated_bytes.all.current", 0)


def max_memory_allocated(device: Device = None) -> int:
    """The most bytes that tensors held since reset_peak_memory_stats."""
    return memory_stats(device).get("allocated_bytes.all.peak", 0)


def memory_reserved(device: Device = None) -> int:
    """Bytes that the allocator holds: those of tensors and those kept for later ones."""
    return memory_stats(device).get("reserved_bytes.all.current", 0)


def max_memory_reserved(device: Device = None) -> int:
    """The most bytes that the allocator held since reset_peak_memory_stats."""
    return memory_stats(device).get("reserved_bytes.all.peak", 0)


def reset_peak_memory_stats(device: Device = None) -> None:
    """Starts the peaks of memory_stats again from what is held now."""
    _need().reset_peak_memory_stats(_index(device, "reset_peak_memory_stats"))


def reset_accumulated_memory_stats(device: Device = None) -> None:
    """Sets the sums of memory_stats, those allocated and freed, to zero."""
    _need().reset_accumulated_memory_stats(_index(device, "reset_accumulated_memory_stats"))


def empty_cache() -> None:
    """Gives memory that is kept for later tensors back to the devices.

    >>> gg.cuda.empty_cache()
    """
    if is_available():
        _need().empty_cache()
        _need().pinned_empty_cache()


def mem_get_info(device: Device = None) -> tuple[int, int]:
    """Bytes of a device that are free, for every program, and all that it has."""
    return tuple(_need().mem_get_info(_index(device, "mem_get_info")))


def set_per_process_memory_fraction(fraction: float, device: Device = None) -> None:
    """Lets this process hold at most a fraction of a device's memory."""
    if not 0 <= fraction <= 1:
        raise ValueError(f"set_per_process_memory_fraction: {fraction} is not in [0, 1]")
    index = _index(device, "set_per_process_memory_fraction")
    _need().set_memory_limit(index, int(fraction * get_device_properties(index).total_memory))


def memory_snapshot(device: Device = None) -> list[dict[str, Any]]:
    """Every segment of device memory that the allocator holds, with the blocks in it."""
    return list(_need().memory_snapshot(_index(device, "memory_snapshot")))


def memory_summary(device: Device = None, abbreviated: bool = False) -> str:
    """A table of memory_stats for reading."""
    stats, index = memory_stats(device), _index(device, "memory_summary")
    rows = [
        ("Allocated memory", "allocated_bytes", True),
        ("Active memory", "active_bytes", True),
        ("Requested memory", "requested_bytes", True),
        ("Reserved memory", "reserved_bytes", True),
        ("In gaps", "inactive_split_bytes", True),
        ("Allocations", "allocation", False),
        ("Active blocks", "active", False),
        ("Segments", "segment", False),
        ("Gaps", "inactive_split", False),
    ]
    shares = [("all", "")] if abbreviated else [("all", ""), ("large_pool", "  large"), ("small_pool", "  small")]
    kinds = "current", "peak", "allocated", "freed"
    retries, failures = stats["num_alloc_retries"], stats["num_ooms"]
    lines = [f"cuda:{index} {get_device_name(index)}: {failures} times out of memory, {retries} retries"]
    lines.append(f"{'':18}" + "".join(f"{kind:>14}" for kind in kinds))
    for name, key, in_bytes in rows:
        for share, indented in shares:
            values = [stats[f"{key}.{share}.{kind}"] for kind in kinds]
            shown = [_bytes(v) if in_bytes else str(v) for v in values]
            lines.append(f"{indented or name:18}" + "".join(f"{v:>14}" for v in shown))
    return "\n".join(lines)


def _bytes(n: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(n) < 1024 or unit == "GiB":
            return f"{n:.0f} B" if unit == "B" else f"{n:.2f} {unit}"
        n /= 1024
    return ""


# What Tensor's methods use.


def is_pinned(x: Tensor) -> bool:
    """Whether a tensor lies in host memory that a device reads by itself."""
    return x.device.type == "cpu" and is_available() and bool(_need().is_pinned(x.data_ptr()))


def pinned_like(x: Tensor) -> Tensor:
    """A tensor of the same shape and dtype, dense, in pinned memory."""
    flat = core.from_buffer(_need().PinnedBuffer(max(1, x.numel()) * x.itemsize))
    return flat.view(x.dtype)[: x.numel()].view(x.shape)


def pinned_copy(x: Tensor) -> Tensor:
    """A copy in pinned memory."""
    y = pinned_like(x)
    core.copy_(y, x)
    return y


def move(x: Tensor, dtype: Any, device: Any) -> Tensor | None:
    """`x` on another device without waiting, or None where that takes waiting: the CPU's memory must be pinned."""
    if not x.is_contiguous() or (x.device.type, device.type) not in (("cpu", "cuda"), ("cuda", "cpu")):
        return None
    if device.type == "cuda":
        if not is_pinned(x):
            return None
        y = core.empty(x.shape, x.dtype, device)
        move_into(y, x)
        return y if dtype is x.dtype else core.to(y, dtype, device)
    x = x if dtype is x.dtype else core.to(x, dtype, x.device)
    y = pinned_like(x)
    move_into(y, x)
    return y


def move_into(y: Tensor, x: Tensor) -> bool:
    """Starts to copy `x` into `y` without waiting; False where that takes waiting."""
    alike = x.shape == y.shape and x.dtype is y.dtype and x.is_contiguous() and y.is_contiguous()
    kinds = x.device.type, y.device.type
    if not alike or kinds not in (("cpu", "cuda"), ("cuda", "cpu")):
        return False
    there, host = (y, x) if kinds[0] == "cpu" else (x, y)
    if not is_pinned(host):
        return False
    start = _need().copy_in_async if there is y else _need().copy_out_async
    start(there.device.index, y.data_ptr(), x.data_ptr(), x.nbytes)
    return True


def record_stream(x: Tensor, stream: Stream) -> None:
    """Keeps a tensor's memory, once let go of, from new tensors until the stream has done what it was given by then."""
    if not x.is_cuda:
        raise RuntimeError(f"record_stream: a tensor on {x.device} is on no GPU")
    start = x.data_ptr() - x.storage_offset() * x.itemsize
    _need().record_stream(x.device.index, start, stream.cuda_stream)


# ---- Random numbers: one generator serves every device --------------------------------------------------------------


def manual_seed(seed: int) -> None:
    """Seeds the generator, which is that of every device and of the CPU. Without a GPU it changes nothing.

    >>> gg.cuda.manual_seed(0)
    """
    if is_available():
        core.default_generator.manual_seed(seed)


manual_seed_all = manual_seed


def seed() -> None:
    """Seeds the generator by chance. Without a GPU it changes nothing."""
    if is_available():
        core.default_generator.seed()


seed_all = seed


def initial_seed() -> int:
    """The seed of the generator."""
    _need()
    return core.default_generator.initial_seed()


def get_rng_state(device: Device = "cuda") -> Tensor:
    """The state of the generator."""
    _index(device, "get_rng_state")
    return core.default_generator.get_state()


def set_rng_state(new_state: Tensor, device: Device = "cuda") -> None:
    """Goes back to what get_rng_state gave."""
    _index(device, "set_rng_state")
    core.default_generator.set_state(new_state)


# ---- Graphs ----------------------------------------------------------------------------------------------------------

_capturing: CUDAGraph | None = None


def is_current_stream_capturing() -> bool:
    """Whether the current stream's work is being captured for a graph."""
    return is_initialized() and bool(_need().stream_is_capturing(current_stream().cuda_stream))


def graph_pool_handle(device: Device = None) -> tuple[int, int]:
    """A memory pool for graphs that share it; they must not be replayed at the same time."""
    return 0, int(_need().make_pool(_index(device, "graph_pool_handle")))


class CUDAGraph:
    """Work of a stream, captured once and replayed as one launch, on the same memory.

    A replay reads the tensors that the captured code read and writes those that it wrote: copy new inputs into the
    first and read results from the second. Random numbers are new in every replay, and the steps of captured optimizers
    are counted. Nothing captured may wait for the device (.item(), printing, shapes that depend on values).
    """

    def __init__(self, keep_graph: bool = False) -> None:
        self._graph = _need().Graph()
        self._steps: list[_Step] = []
        self._key = self._counter = self._drawn = 0  # of the generator: where it stood, and what a replay takes

    def capture_begin(self, pool: tuple[int, int] | None = None, capture_error_mode: str = "global") -> None:
        """Captures what the current stream is given from now on, instead of running it."""
        global _capturing
        if _capturing is not None:
            raise RuntimeError("CUDAGraph: another graph is being captured")
        self._graph.begin(pool[1] if pool else 0, capture_error_mode)
        self._key, self._counter = core.default_generator._position
        _capturing = self

    def capture_end(self) -> None:
        """Ends the capture and makes it ready to be replayed."""
        self._stop()
        self._graph.end()

    def _cancel(self) -> None:
        self._stop()
        self._graph.cancel()

    def _stop(self) -> None:
        """Nothing has run: generator and step counts stand where they stood before the capture."""
        global _capturing
        _capturing = None
        self._drawn = core.default_generator._position[1] - self._counter
        core.default_generator._position = self._key, self._counter
        for step in self._steps:
            step.rewind()

    def replay(self) -> None:
        """Runs what was captured, on the current stream."""
        for step in self._steps:
            step.advance(self._graph)
        key, counter = core.default_generator._position
        self._graph.replay(key, (counter - self._counter) % 2**64)
        core.default_generator._position = key, (counter + self._drawn) % 2**64

    def reset(self) -> None:
        """Lets go of what was captured and of its memory."""
        self._graph.reset()
        self._steps.clear()

    def pool(self) -> tuple[int, int]:
        """The memory pool, for another graph to share."""
        return 0, int(self._graph.pool())


class _Step:
    """An optimizer's update in a capture: what it copied to the device holds step counts and learning rates."""

    def __init__(self, optimizer: Optimizer, group: dict[str, Any], params: list[Tensor]) -> None:
        self.optimizer, self.group, self.params = optimizer, group, params
        self.grads = [p.grad for p in params]
        self.sizes = [len(optimizer.state[p]) for p in params]
        # Counts are kept on the CPU, so the capture moves them on; what lies on the device it leaves as it is.
        self.counts = [
            {name: copy.deepcopy(v) for name, v in optimizer.state[p].items() if not getattr(v, "is_cuda", False)}
            for p in params
        ]
        self.kept = (0, 0)  # of the graph's copies, those of this update

    def rewind(self) -> None:
        for p, counts in zip(self.params, self.counts):
            self.optimizer.state[p].update(counts)

    def advance(self, recorded: Any) -> None:
        """The update's code runs again for its numbers; it starts no kernel."""
        for p, grad in zip(self.params, self.grads):
            p.grad = grad
        recorded.begin_refresh(self.kept[0])
        try:
            self.optimizer.update(self.group, self.params)
        finally:
            recorded.end_refresh(self.kept[1])


@contextlib.contextmanager
def captured_update(optimizer: Optimizer, group: dict[str, Any], params: list[Tensor]) -> Iterator[None]:
    """Around an optimizer's update: a graph that is being captured notes it."""
    if _capturing is None:
        yield
        return
    recorded = _capturing
    step, first = _Step(optimizer, group, params), recorded._graph.kept()
    yield
    if any(len(optimizer.state[p]) != n for p, n in zip(params, step.sizes)):
        raise RuntimeError(
            f"CUDAGraph: {type(optimizer).__name__} makes its state in its first step, which every replay would make "
            "anew; run a step before the capture"
        )
    step.kept = (first, recorded._graph.kept())
    recorded._steps.append(step)


class graph:
    """A block whose work is captured in a graph, on a stream of its own.

    Run the code two or three times before, so that what it sets up once is there. pool: of another graph, to share its
    memory. Raises RuntimeError where the code does what cannot be captured.

        g = gg.cuda.CUDAGraph()
        optimizer.zero_grad(set_to_none=True)
        with gg.cuda.graph(g):
            loss = loss_of(model(x), y)
            loss.backward()
            optimizer.step()
        for new_x, new_y in data:
            x.copy_(new_x)
            y.copy_(new_y)
            g.replay()
    """

    default_capture_stream: Stream | None = None

    def __init__(
        self,
        cuda_graph: CUDAGraph,
        pool: tuple[int, int] | None = None,
        stream: Stream | None = None,
        capture_error_mode: str = "global",
    ) -> None:
        if stream is None:
            graph.default_capture_stream = graph.default_capture_stream or Stream()
            stream = graph.default_capture_stream
        self.cuda_graph, self.pool, self.capture_error_mode = cuda_graph, pool, capture_error_mode
        self.capture_stream = stream
        self._context = _on_stream(stream)

    def __enter__(self) -> None:
        synchronize()
        gc.collect()
        empty_cache()
        self._context.__enter__()
        try:
            self.cuda_graph.capture_begin(self.pool, self.capture_error_mode)
        except BaseException:
            self._context.__exit__()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self.cuda_graph.capture_end()
            else:
                self.cuda_graph._cancel()
        finally:
            self._context.__exit__()


_stream_context = stream
