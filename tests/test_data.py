"""Data sets, samplers and the DataLoader with and without workers."""

from __future__ import annotations

import collections
import os

import numpy as np
import pytest

import glassgrad as gg
from glassgrad.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    TensorDataset,
    get_worker_info,
    random_split,
)


class Squares(Dataset):
    def __init__(self, n=10):
        self.n = n

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        return {"x": np.full((3, 2), i, np.float32), "y": i * i, "name": f"item{i}"}


class Fails(Squares):
    def __getitem__(self, i):
        if i == 5:
            raise KeyError("broken item")
        return i


class Stream(IterableDataset):
    def __iter__(self):
        info = get_worker_info()
        step = info.num_workers if info else 1
        return iter(range(info.id if info else 0, 10, step))


class Seeds(Squares):
    def __getitem__(self, i):
        return get_worker_info().seed, float(gg.rand(1)), float(np.random.rand()), os.getpid()


class Dies(Squares):
    def __getitem__(self, i):
        os._exit(3)


def blocks_left():
    """Shared memory that this process's workers made and nobody removed."""
    return [f for f in os.listdir("/dev/shm") if f.startswith(f"glassgrad_{os.getpid()}_")]


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_in_order(workers):
    batches = list(DataLoader(Squares(), batch_size=4, num_workers=workers))
    assert [b["y"].tolist() for b in batches] == [[0, 1, 4, 9], [16, 25, 36, 49], [64, 81]]
    assert batches[0]["x"].shape == (4, 3, 2) and batches[1]["x"][2, 0, 0].item() == 6.0
    assert batches[2]["name"] == ["item8", "item9"]
    batches[0]["x"][0] = 9.0  # a batch is the receiver's own, to write as well


@pytest.mark.parametrize("workers", [0, 2])
def test_drop_last_shuffle_and_lengths(workers):
    loader = DataLoader(Squares(), batch_size=4, shuffle=True, drop_last=True, num_workers=workers)
    gg.manual_seed(3)
    first = [b["y"].tolist() for b in loader]
    second = [b["y"].tolist() for b in loader]
    gg.manual_seed(3)
    again = [b["y"].tolist() for b in loader]
    assert len(loader) == len(first) == 2 and first == again and first != second


def test_workers_seeds_differ_and_repeat():
    loader = DataLoader(Seeds(8), batch_size=None, num_workers=2)

    def epoch():
        return [tuple(item) for item in loader]

    gg.manual_seed(0)
    a = epoch()
    gg.manual_seed(0)
    b = epoch()
    c = epoch()
    values = [row[:3] for row in a]
    assert values == [row[:3] for row in b] and values != [row[:3] for row in c]
    assert len({row[0] for row in a}) == 2 and len({row[1] for row in a}) == 8 and len({row[2] for row in a}) == 8
    assert os.getpid() not in {row[3] for row in a}


def test_errors_name_worker_index_and_line():
    with pytest.raises(KeyError, match="broken item"):
        list(DataLoader(Fails()))
    with pytest.raises(KeyError, match=r"(?s)worker \d failed on index \[4, 5\].*test_data.py.*broken item"):
        list(DataLoader(Fails(), batch_size=2, num_workers=2))


def test_a_dead_worker_is_reported():
    with pytest.raises(RuntimeError, match=r"worker \d exited unexpectedly with code 3"):
        list(DataLoader(Dies(), num_workers=1))


def test_iterable_datasets():
    assert [b.tolist() for b in DataLoader(Stream(), batch_size=4)] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    got = [b.tolist() for b in DataLoader(Stream(), batch_size=3, num_workers=2)]
    assert sorted(i for batch in got for i in batch) == list(range(10))
    with pytest.raises(ValueError, match="own order"):
        DataLoader(Stream(), shuffle=True)


def test_persistent_workers_and_breaking_off():
    loader = DataLoader(Squares(40), batch_size=2, num_workers=2, persistent_workers=True)
    for _ in range(3):
        for i, _batch in enumerate(loader):
            if i == 2:
                break
    assert [b["y"][0].item() for b in loader] == [(2 * i) ** 2 for i in range(20)]
    processes = loader._workers.processes
    for _ in loader:
        break
    del loader
    assert not any(p.is_alive() for p in processes) and not blocks_left()


def test_no_shared_memory_is_left_behind():
    kept = list(DataLoader(Squares(), batch_size=2, num_workers=2))
    for _ in DataLoader(Squares(100), batch_size=2, num_workers=2):
        break
    assert not blocks_left() and kept[1]["x"][0, 0, 0].item() == 2.0


def test_collate():
    Point = collections.namedtuple("Point", "a b")
    batch = gg.data.default_collate([Point(1, gg.ones(2)), Point(2, gg.zeros(2))])
    assert isinstance(batch, Point) and batch.a.tolist() == [1, 2] and batch.b.shape == (2, 2)
    with pytest.raises(gg.ShapeError, match="default_collate"):
        gg.data.default_collate([np.zeros(2), np.zeros(3)])
    with pytest.raises(TypeError, match="collate_fn"):
        gg.data.default_collate([object()])


def test_tensor_dataset_split_and_samplers():
    data = TensorDataset(gg.arange(10), gg.arange(10) * 2)
    parts = random_split(data, [0.7, 0.3])
    assert [len(p) for p in parts] == [7, 3]
    assert sorted(p[0].item() for part in parts for p in part) == list(range(10))
    with pytest.raises(ValueError, match="sum to 11"):
        random_split(data, [5, 6])
    with pytest.raises(ValueError, match="same first axis"):
        TensorDataset(gg.zeros(2), gg.zeros(3))
    assert len(list(RandomSampler(range(4), replacement=True, num_samples=9))) == 9
    assert next(iter(DataLoader(range(5), batch_sampler=BatchSampler([4, 3, 2], 2, False)))).tolist() == [4, 3]


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"num_workers": -1}, "num_workers"),
        ({"batch_size": 0}, "batch_size"),
        ({"prefetch_factor": 2}, "prefetch_factor"),
        ({"sampler": [0], "shuffle": True}, "exclude"),
        ({"batch_sampler": [[0]], "batch_size": 4}, "excludes"),
    ],
)
def test_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        DataLoader(Squares(), **kwargs)
