"""DataLoader: batches of a data set, collated, in this process or by worker processes.

Workers are forked (or spawned) processes. The main process sends each lists of indices and takes batches back in order,
`prefetch_factor` ahead per worker. Arrays travel through shared memory: a worker writes a batch's tensors into one
block and sends its name; the main process maps it, and the block goes away with the last tensor over it. An exception
in a worker is raised in the main process with the worker's number, the index and the original traceback.
"""

from __future__ import annotations

import contextlib
import glob
import itertools
import multiprocessing
import os
import queue
import traceback
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing import shared_memory
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np

from glassgrad import _core as core
from glassgrad import cuda
from glassgrad.data.dataset import IterableDataset
from glassgrad.data.sampler import BatchSampler, RandomSampler, SequentialSampler
from glassgrad.tensor import as_tensor, from_numpy, tensor

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["DataLoader", "WorkerInfo", "default_collate", "default_convert", "get_worker_info"]

T = TypeVar("T", covariant=True)


def default_collate(batch: Sequence[Any]) -> Any:
    """Joins samples into a batch: tensors and arrays stack, numbers become tensors, tuples and dicts go item by item.

    >>> gg.data.default_collate([(1, 2.0), (3, 4.0)])
    [tensor([1, 3]), tensor([2., 4.], dtype=glassgrad.float64)]
    """
    from glassgrad.ops.layout import stack

    first = batch[0]
    if isinstance(first, core.TensorBase):
        return stack(list(batch))
    if isinstance(first, np.ndarray):
        if first.dtype.kind not in "biuf":
            raise TypeError(f"default_collate: arrays of {first.dtype} cannot become tensors")
        shapes = {a.shape for a in batch}
        if len(shapes) > 1:
            raise core.ShapeError(f"default_collate: arrays of different shapes {sorted(shapes)} cannot be stacked")
        return from_numpy(np.stack(batch))
    if isinstance(first, np.generic):
        return tensor(np.array(batch))
    if isinstance(first, bool):
        return tensor(list(batch))
    if isinstance(first, float):
        return tensor(list(batch), dtype=core.float64)
    if isinstance(first, int):
        return tensor(list(batch))
    if isinstance(first, (str, bytes)):
        return list(batch)
    if isinstance(first, Mapping):
        return type(first)({k: default_collate([sample[k] for sample in batch]) for k in first})  # type: ignore[call-arg]
    if isinstance(first, tuple) and hasattr(first, "_fields"):
        return type(first)(*(default_collate(items) for items in zip(*batch, strict=True)))
    if isinstance(first, (tuple, list)):
        if any(len(sample) != len(first) for sample in batch):
            raise RuntimeError("default_collate: each sample of a batch must have the same number of items")
        items = [default_collate(column) for column in zip(*batch)]
        return items if isinstance(first, tuple) else type(first)(items)
    raise TypeError(
        f"default_collate: cannot batch samples of type {type(first).__name__}; they may be tensors, numpy arrays, "
        "numbers, strings, or tuples, lists and dicts of these: pass collate_fn for others"
    )


def default_convert(data: Any) -> Any:
    """Turns numpy arrays within a sample into tensors; used when batching is off.

    >>> gg.data.default_convert({"x": np.zeros(2, np.float32)})
    {'x': tensor([0., 0.])}
    """
    if isinstance(data, np.ndarray) and data.dtype.kind in "biuf":
        return as_tensor(data)
    if isinstance(data, Mapping):
        return type(data)({k: default_convert(v) for k, v in data.items()})  # type: ignore[call-arg]
    if isinstance(data, tuple) and hasattr(data, "_fields"):
        return type(data)(*(default_convert(v) for v in data))
    if isinstance(data, (tuple, list)):
        return [default_convert(v) for v in data]
    return data


@dataclass
class WorkerInfo:
    """Which worker this process is: id of num_workers, its seed, and its copy of the data set.

    >>> gg.data.WorkerInfo(id=0, num_workers=2, seed=7, dataset=[1, 2]).id
    0
    """

    id: int
    num_workers: int
    seed: int
    dataset: Any


_worker_info: WorkerInfo | None = None


def get_worker_info() -> WorkerInfo | None:
    """In a worker, which one it is; None in the main process.

    >>> gg.data.get_worker_info() is None
    True
    """
    return _worker_info


class DataLoader(Generic[T]):
    """Iterates over a data set in batches.

    `num_workers` processes prepare batches ahead; worker w of an epoch has the seed base + w, the base being drawn from
    `generator` (or the default stream) once an epoch, so seeds differ between workers and epochs and repeat with
    `manual_seed`. With `pin_memory` the tensors of a batch lie in pinned memory, from which
    `.to("cuda", non_blocking=True)` copies without waiting; where there is no GPU it changes nothing.

    >>> loader = gg.data.DataLoader([1, 2, 3], batch_size=2)
    >>> list(loader)
    [tensor([1, 2]), tensor([3])]
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int | None = 1,
        shuffle: bool | None = None,
        sampler: Any = None,
        batch_sampler: Any = None,
        num_workers: int = 0,
        collate_fn: Callable[[Any], Any] | None = None,
        pin_memory: bool = False,
        drop_last: bool = False,
        timeout: float = 0,
        worker_init_fn: Callable[[int], None] | None = None,
        multiprocessing_context: Any = None,
        generator: Any = None,
        *,
        prefetch_factor: int | None = None,
        persistent_workers: bool = False,
        pin_memory_device: str = "",
    ) -> None:
        if num_workers < 0:
            raise ValueError(f"DataLoader: num_workers is {num_workers}; it cannot be negative")
        if timeout < 0:
            raise ValueError(f"DataLoader: timeout is {timeout}; it cannot be negative")
        if num_workers == 0 and prefetch_factor is not None:
            raise ValueError("DataLoader: prefetch_factor needs num_workers > 0")
        if num_workers == 0 and persistent_workers:
            raise ValueError("DataLoader: persistent_workers needs num_workers > 0")
        if sampler is not None and shuffle:
            raise ValueError("DataLoader: sampler and shuffle exclude each other")
        iterable = isinstance(dataset, IterableDataset)
        if iterable and (shuffle or sampler is not None or batch_sampler is not None):
            raise ValueError("DataLoader: an IterableDataset has its own order; shuffle and samplers do not apply")
        if batch_sampler is not None:
            if batch_size != 1 or shuffle or sampler is not None or drop_last:
                raise ValueError("DataLoader: batch_sampler excludes batch_size, shuffle, sampler and drop_last")
            batch_size = None
        elif batch_size is None and drop_last:
            raise ValueError("DataLoader: without batching (batch_size=None) there is nothing to drop")
        if sampler is None and not iterable:
            sampler = RandomSampler(dataset, generator=generator) if shuffle else SequentialSampler(dataset)
        batching = batch_size is not None or batch_sampler is not None
        if batch_size is not None and batch_sampler is None and not iterable:
            batch_sampler = BatchSampler(sampler, batch_size, drop_last)
        self.dataset, self.batch_size, self.drop_last = dataset, batch_size, drop_last
        self.sampler, self.batch_sampler, self.generator = sampler, batch_sampler, generator
        self.num_workers, self.timeout, self.worker_init_fn = num_workers, timeout, worker_init_fn
        self.pin_memory, self.prefetch_factor = pin_memory, prefetch_factor or 2
        self.persistent_workers = persistent_workers
        self.collate_fn = collate_fn or (default_collate if batching else default_convert)
        self.multiprocessing_context = multiprocessing_context
        self._batching, self._iterable = batching, iterable
        self._workers: _Workers | None = None

    def __len__(self) -> int:
        if self._iterable:
            n = len(self.dataset)
            if self.batch_size is None:
                return n
            return n // self.batch_size if self.drop_last else -(-n // self.batch_size)
        return len(self.batch_sampler if self._batching else self.sampler)

    def __iter__(self) -> Iterator[Any]:
        batches = self._here() if self.num_workers == 0 else self._by_workers()
        return map(_pinned, batches) if self.pin_memory and cuda.is_available() else batches

    def _plain(self) -> dict[str, Any]:
        """What a worker needs to know."""
        return {
            "dataset": self.dataset,
            "collate_fn": self.collate_fn,
            "worker_init_fn": self.worker_init_fn,
            "iterable": self._iterable,
            "batch_size": self.batch_size,
            "drop_last": self.drop_last,
        }

    def _tasks(self) -> Iterator[Any]:
        """What to fetch, batch by batch: lists of indices, or single indices without batching."""
        return iter(self.batch_sampler if self._batching else self.sampler)

    def _here(self) -> Iterator[Any]:
        if self._iterable:
            yield from _iterate(self.dataset, self.batch_size, self.drop_last, self.collate_fn)
            return
        for task in self._tasks():
            yield _fetch(self.dataset, task, self.collate_fn)

    def _by_workers(self) -> Iterator[Any]:
        from glassgrad.ops.random import randint

        seed = int(randint(0, 2**62, size=(), generator=self.generator).item())
        workers = self._workers
        if workers is None:
            workers = _Workers(self)
            if self.persistent_workers:
                self._workers = workers
        try:
            yield from workers.run(self, seed)
        finally:
            if not self.persistent_workers:
                workers.stop()


def _pinned(batch: Any) -> Any:
    """A batch with its tensors in pinned memory."""
    if hasattr(batch, "pin_memory"):
        return batch.pin_memory()
    if isinstance(batch, dict):
        return type(batch)((name, _pinned(value)) for name, value in batch.items())
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*map(_pinned, batch))
    return type(batch)(map(_pinned, batch)) if isinstance(batch, (list, tuple)) else batch


def _fetch(dataset: Any, task: Any, collate: Callable[[Any], Any]) -> Any:
    if not isinstance(task, (list, tuple)):
        return collate(dataset[task])
    if hasattr(dataset, "__getitems__"):
        return collate(dataset.__getitems__(task))
    return collate([dataset[i] for i in task])


def _iterate(dataset: Any, batch_size: int | None, drop_last: bool, collate: Callable[[Any], Any]) -> Iterator[Any]:
    items = iter(dataset)
    if batch_size is None:
        yield from map(collate, items)
        return
    while batch := list(itertools.islice(items, batch_size)):
        if len(batch) == batch_size or not drop_last:
            yield collate(batch)


class _Workers:
    """The worker processes of one DataLoader, and the order in which their batches come back."""

    def __init__(self, loader: DataLoader[Any]) -> None:
        context = loader.multiprocessing_context
        if context is None or isinstance(context, str):
            context = multiprocessing.get_context(context or ("fork" if hasattr(os, "fork") else "spawn"))
        self.results: Any = context.Queue()
        self.queues = [context.Queue() for _ in range(loader.num_workers)]
        self.processes = [
            context.Process(target=_work, args=(i, loader.num_workers, loader._plain(), q, self.results), daemon=True)
            for i, q in enumerate(self.queues)
        ]
        for process in self.processes:
            process.start()
        self.epoch = 0
        self._end = weakref.finalize(self, _end, self.processes)  # also when the loader is dropped, or Python ends

    def run(self, loader: DataLoader[Any], seed: int) -> Iterator[Any]:
        self.epoch += 1
        n = len(self.processes)
        for i, q in enumerate(self.queues):
            q.put(("epoch", self.epoch, seed + i))
        tasks: Iterator[Any] = itertools.repeat(None) if loader._iterable else loader._tasks()
        active = list(range(n))
        owner: dict[int, int] = {}  # which worker a batch was asked from
        ready: dict[int, Any] = {}
        sent = given = 0
        turn = itertools.cycle(range(n))

        def ask(worker: int) -> bool:
            nonlocal sent
            try:
                task = next(tasks)
            except StopIteration:
                return False
            self.queues[worker].put(("task", sent, task))
            owner[sent] = worker
            sent += 1
            return True

        for _ in range(loader.prefetch_factor * n):
            if not ask(next(turn)):
                break
        while given < sent:
            while given not in ready:
                number, payload = self._take(loader, owner)
                if number is not None:
                    ready[number] = payload
            kind, value = ready.pop(given)
            worker = owner.pop(given)
            given += 1
            if kind == "end":  # this worker's iterable is exhausted
                if worker in active:
                    active.remove(worker)
                continue
            if kind == "error":
                name, text, where = value
                raise _same_type(name)(f"DataLoader worker {worker} failed on {where}\n{text}")
            if loader._iterable:
                if worker in active:
                    ask(worker)
            else:
                ask(worker)
            yield _open(value)

    def _take(self, loader: DataLoader[Any], owner: dict[int, int]) -> tuple[int | None, Any]:
        waited = 0.0
        while True:
            try:
                epoch, number, payload = self.results.get(timeout=loader.timeout or 5.0)
                if epoch != self.epoch:  # left over from an epoch that was broken off
                    if payload[0] == "batch":
                        _open(payload[1])
                    return None, None
                return number, payload
            except queue.Empty:
                waited += 5.0
                dead = [(i, p.exitcode) for i, p in enumerate(self.processes) if not p.is_alive()]
                if dead:
                    raise RuntimeError(
                        f"DataLoader worker {dead[0][0]} exited unexpectedly with code {dead[0][1]}"
                        + ("; it may have run out of memory" if dead[0][1] == -9 else "")
                    ) from None
                if loader.timeout:
                    raise RuntimeError(f"DataLoader: no batch within {loader.timeout} seconds") from None

    def stop(self) -> None:
        for q in self.queues:
            q.put(("stop", 0, 0))
        for process in self.processes:
            process.join(timeout=0.2)
        self._end()
        for q in [*self.queues, self.results]:
            q.close()
            q.cancel_join_thread()


def _end(processes: list[Any]) -> None:
    """Ends what still runs, and removes batches that nobody will read, some perhaps never announced."""
    for process in processes:
        if process.is_alive():
            process.terminate()
            process.join()
        for left in glob.glob(f"/dev/shm/{_block_name(os.getpid(), process.pid, '*')}"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(left)


def _same_type(name: str) -> type[Exception]:
    """The worker's exception type where it is a builtin one that takes a message, else RuntimeError."""
    import builtins

    kind = getattr(builtins, name, None)
    simple = (
        isinstance(kind, type) and issubclass(kind, Exception) and not issubclass(kind, (UnicodeError, StopIteration))
    )
    return kind if simple else RuntimeError  # type: ignore[return-value]


def _work(worker: int, num_workers: int, plain: dict[str, Any], tasks: Any, results: Any) -> None:
    """A worker's life: seeds, then batches until told to stop."""
    import random

    from glassgrad.ops.random import manual_seed

    global _worker_info
    core.set_num_threads(1)
    dataset, collate = plain["dataset"], plain["collate_fn"]
    items: Iterator[Any] | None = None
    epoch = 0
    started = False
    while True:
        kind, number, value = tasks.get()
        if kind == "stop":
            return
        if kind == "epoch":
            epoch, seed = number, value
            random.seed(seed)
            np.random.seed(seed % 2**32)
            manual_seed(seed)
            _worker_info = WorkerInfo(worker, num_workers, seed, dataset)
            items = None
            if not started and plain["worker_init_fn"] is not None:
                plain["worker_init_fn"](worker)
            started = True
            continue
        where = "its next item" if plain["iterable"] else f"index {value}"
        try:
            if plain["iterable"]:
                if items is None:
                    items = _iterate(dataset, plain["batch_size"], plain["drop_last"], collate)
                try:
                    batch = next(items)
                except StopIteration:
                    results.put((epoch, number, ("end", None)))
                    continue
            else:
                batch = _fetch(dataset, value, collate)
            results.put((epoch, number, ("batch", _share(batch))))
        except KeyboardInterrupt:
            return
        except Exception as error:
            results.put((epoch, number, ("error", (type(error).__name__, traceback.format_exc(), where))))


@dataclass
class _Slot:
    """The place of an array in the shared block."""

    offset: int
    shape: tuple[int, ...]
    dtype: str
    is_tensor: bool


_block_numbers = itertools.count()


def _block_name(receiver: Any, worker: Any, number: Any) -> str:
    return f"glassgrad_{receiver}_{worker}_{number}"


def _share(batch: Any) -> tuple[str | None, Any]:
    """Moves all arrays of a batch into one block of shared memory."""
    arrays: list[NDArray[Any]] = []
    size = 0

    def place(x: Any) -> Any:
        nonlocal size
        if isinstance(x, core.TensorBase) and x.dtype is not core.bfloat16:
            array, is_tensor = x._alias().numpy(), True
        elif isinstance(x, np.ndarray) and x.dtype.kind in "biuf":
            array, is_tensor = x, False
        elif isinstance(x, dict):
            return {k: place(v) for k, v in x.items()}
        elif isinstance(x, tuple) and hasattr(x, "_fields"):
            return type(x)(*(place(v) for v in x))
        elif isinstance(x, (list, tuple)):
            return type(x)(place(v) for v in x)
        else:
            return x
        slot = _Slot(size, array.shape, array.dtype.str, is_tensor)
        arrays.append(array)
        size += -(-array.nbytes // 64) * 64
        return slot

    placed = place(batch)
    if size == 0:
        return None, placed
    name = _block_name(os.getppid(), os.getpid(), next(_block_numbers))
    block = shared_memory.SharedMemory(name, create=True, size=size)
    at = 0
    for array in arrays:
        np.ndarray(array.shape, array.dtype, block.buf, at)[...] = array
        at += -(-array.nbytes // 64) * 64
    block.close()
    _leave_to_receiver(name)
    return name, placed


def _leave_to_receiver(name: str) -> None:
    """The worker's resource tracker must not remove a block that the main process will."""
    from multiprocessing import resource_tracker

    resource_tracker.unregister(f"/{name.lstrip('/')}", "shared_memory")


def _open(shared: tuple[str | None, Any]) -> Any:
    """The batch again. The name goes at once; the memory with the last array over it."""
    name, placed = shared
    if name is None:
        return _place_back(placed, None)
    block = shared_memory.SharedMemory(name=name)
    block.unlink()
    return _place_back(placed, _Block(block))


class _Block:
    """Keeps a mapped block while an array over it lives."""

    def __init__(self, block: shared_memory.SharedMemory) -> None:
        import mmap

        # SharedMemory closes its mapping when collected, which fails while arrays look at it: keep the mapping alone.
        self.memory: mmap.mmap = block._mmap  # type: ignore[attr-defined]
        block._mmap = None  # type: ignore[attr-defined]
        block._buf = None  # type: ignore[attr-defined]
        block.close()


def _place_back(x: Any, block: _Block | None) -> Any:
    if isinstance(x, _Slot):
        if block is None or 0 in x.shape:
            array: NDArray[Any] = np.empty(x.shape, x.dtype)
        else:
            array = np.ndarray(x.shape, x.dtype, block.memory, x.offset)
        return from_numpy(array) if x.is_tensor else array
    if isinstance(x, dict):
        return {k: _place_back(v, block) for k, v in x.items()}
    if isinstance(x, tuple) and hasattr(x, "_fields"):
        return type(x)(*(_place_back(v, block) for v in x))
    if isinstance(x, (list, tuple)):
        return type(x)(_place_back(v, block) for v in x)
    return x
