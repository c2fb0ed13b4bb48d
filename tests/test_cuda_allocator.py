"""The CUDA backend's caching allocator over a device that only counts."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

simt = pytest.importorskip("glassgrad._simt", reason="simt, with the allocator's mock, is not built")

MiB = 1 << 20
S, T = 7, 8  # two streams


@pytest.fixture
def make() -> Callable[..., Any]:
    return lambda mib=1024: simt.MockAllocator(mib * MiB)


def current(a: Any, counter: str, share: str = "all") -> int:
    return a.stats()[f"{counter}.{share}.current"]


def check_consistent(a: Any) -> None:
    """Blocks tile their segments, no two free neighbours lie apart, and the counters are sums over them."""
    totals = {"allocation": 0, "allocated_bytes": 0, "requested_bytes": 0, "active": 0, "active_bytes": 0}
    split = split_bytes = reserved = 0
    for segment in a.segments():
        at, before = segment["address"], ""
        for block in segment["blocks"]:
            assert block["address"] == at and block["size"] % 512 == 0
            assert not before == block["state"] == "inactive"
            at, before = at + block["size"], block["state"]
            if before == "active_allocated":
                totals["allocation"] += 1
                totals["allocated_bytes"] += block["size"]
                totals["requested_bytes"] += block["requested_size"]
            if before != "inactive":
                totals["active"] += 1
                totals["active_bytes"] += block["size"]
            elif len(segment["blocks"]) > 1:
                split += 1
                split_bytes += block["size"]
        assert at == segment["address"] + segment["total_size"]
        reserved += segment["total_size"]
    totals |= {"inactive_split": split, "inactive_split_bytes": split_bytes, "reserved_bytes": reserved}
    totals["segment"] = len(a.segments())
    stats = a.stats()
    for name, total in totals.items():
        assert stats[f"{name}.all.current"] == total, name
        assert stats[f"{name}.small_pool.current"] + stats[f"{name}.large_pool.current"] == total, name
        assert stats[f"{name}.all.allocated"] - stats[f"{name}.all.freed"] == total, name
    assert a.device_bytes == reserved


def test_sizes(make: Callable[..., Any]) -> None:
    # bytes asked for, bytes of the block, bytes of its segment
    sizes = [
        (1, 512, 2 * MiB),
        (512, 512, 2 * MiB),
        (513, 1024, 2 * MiB),
        (MiB, MiB, 2 * MiB),
        (MiB + 1, MiB + 512, 20 * MiB),
        (10 * MiB - 512, 10 * MiB - 512, 20 * MiB),
        (10 * MiB, 10 * MiB, 10 * MiB),
        (11 * MiB, 12 * MiB, 12 * MiB),  # the last MiB is too little to be a block of its own
        (33 * MiB + 1, 34 * MiB, 34 * MiB),
    ]
    for asked, block, segment in sizes:
        a = make()
        a.allocate(asked, S)
        (found,) = a.segments()
        assert found["total_size"] == segment and found["blocks"][0]["size"] == block, asked
        assert found["blocks"][0]["requested_size"] == asked
        assert found["segment_type"] == ("small" if asked <= MiB else "large")
        check_consistent(a)


def test_nothing_is_no_block(make: Callable[..., Any]) -> None:
    a = make()
    assert a.allocate(0, S) == 0
    a.release(0)
    assert a.segments() == []


def test_a_released_block_is_handed_out_again(make: Callable[..., Any]) -> None:
    a = make()
    x = a.allocate(1000, S)
    a.release(x)
    assert a.allocate(1000, S) == x
    assert a.stats()["num_device_alloc"] == 1
    check_consistent(a)


def test_best_fit_and_merging(make: Callable[..., Any]) -> None:
    a = make()
    blocks = [a.allocate(n * 512, S) for n in (1, 4, 1, 2, 1)]
    assert len(a.segments()) == 1
    a.release(blocks[1])
    a.release(blocks[3])
    assert a.allocate(2 * 512, S) == blocks[3]  # the smallest that fits, not the first
    a.release(blocks[3])
    a.release(blocks[2])  # joins 4 + 1 + 2
    check_consistent(a)
    assert a.allocate(7 * 512, S) == blocks[1]
    check_consistent(a)
    for x in (blocks[0], blocks[1], blocks[4]):
        a.release(x)
    (segment,) = a.segments()
    assert [b["size"] for b in segment["blocks"]] == [2 * MiB]


def test_streams_share_nothing(make: Callable[..., Any]) -> None:
    a = make()
    x = a.allocate(1000, S)
    a.release(x)
    y = a.allocate(1000, T)
    assert y != x and len(a.segments()) == 2
    assert a.allocate(1000, S) == x


def test_use_on_another_stream_is_waited_for(make: Callable[..., Any]) -> None:
    a = make()
    x = a.allocate(1000, S)
    assert a.record_stream(x, T)
    assert a.record_stream(x, S)  # its own stream: no wait
    a.release(x)
    assert current(a, "allocation") == 0 and current(a, "active") == 1
    assert a.segments()[0]["blocks"][0]["state"] == "active_awaiting_free"
    check_consistent(a)
    assert a.allocate(1000, S) != x
    a.finish(T)
    assert a.allocate(1000, S) == x
    assert a.events == 0
    check_consistent(a)


def test_memory_that_is_not_ours_has_no_streams(make: Callable[..., Any]) -> None:
    assert not make().record_stream(4096, T)


def test_kept_memory_goes_back_before_a_request_fails(make: Callable[..., Any]) -> None:
    a = make(64)
    for x in [a.allocate(20 * MiB, S) for _ in range(3)]:
        a.release(x)
    assert a.device_bytes == 60 * MiB
    a.allocate(50 * MiB, S)
    assert a.stats()["num_alloc_retries"] == 1 and a.device_bytes == 50 * MiB
    check_consistent(a)


def test_other_streams_are_waited_for_before_a_request_fails(make: Callable[..., Any]) -> None:
    a = make(64)
    x = a.allocate(40 * MiB, S)
    a.record_stream(x, T)
    a.release(x)
    assert a.allocate(40 * MiB, S) == x
    assert a.waits == 1 and a.stats()["num_alloc_retries"] == 0


def test_out_of_memory_says_what_holds_what(make: Callable[..., Any]) -> None:
    a = make(64)
    kept = [a.allocate(12 * MiB, S), a.allocate(16 * MiB, S)]
    hole = a.allocate(3 * MiB, S)
    a.allocate(3 * MiB, S)
    a.release(hole)
    with pytest.raises(RuntimeError) as error:
        a.allocate(40 * MiB, S)
    assert str(error.value) == (
        "out of memory on mock:0: asked for 40.00 MiB. Of 64.00 MiB there are 16.00 MiB free; arrays hold 31.00 MiB in "
        "3 blocks, the largest 16.00 MiB, 12.00 MiB, 3.00 MiB; 17.00 MiB lie in gaps of at most 14.00 MiB. Let go of "
        "arrays, or make the batch smaller"
    )
    assert a.stats()["num_ooms"] == 1
    for x in kept:
        a.release(x)
    a.allocate(40 * MiB, S)
    check_consistent(a)


def test_limit(make: Callable[..., Any]) -> None:
    a = make()
    a.set_limit(30 * MiB)
    a.allocate(20 * MiB, S)
    with pytest.raises(RuntimeError, match=r"30.00 MiB allowed to this process"):
        a.allocate(20 * MiB, S)
    a.set_limit(40 * MiB)
    a.allocate(20 * MiB, S)


def test_sizes_that_overflow(make: Callable[..., Any]) -> None:
    with pytest.raises(RuntimeError, match="out of memory"):
        make().allocate(2**64 - 1, S)
    with pytest.raises(RuntimeError, match="out of memory"):
        make().allocate(2**62, S)


def test_empty_cache_gives_back_what_nobody_uses(make: Callable[..., Any]) -> None:
    a = make()
    x, y = a.allocate(15 * MiB, S), a.allocate(1000, S)
    z = a.allocate(12 * MiB, S)
    a.record_stream(z, T)
    a.release(x)
    a.release(z)  # waits for T, which empty_cache does
    a.empty_cache()
    assert a.device_bytes == 2 * MiB
    a.release(y)
    a.empty_cache()
    assert a.device_bytes == 0 and a.segments() == []
    check_consistent(a)


def test_peaks(make: Callable[..., Any]) -> None:
    a = make()
    x = a.allocate(2 * MiB, S)
    a.release(x)
    a.allocate(MiB, S)
    stats = a.stats()
    assert stats["allocated_bytes.all.peak"] == 2 * MiB and stats["allocated_bytes.all.current"] == MiB
    a.reset_peak()
    assert a.stats()["allocated_bytes.all.peak"] == MiB
    a.reset_accumulated()
    assert a.stats()["allocation.all.allocated"] == 0 and a.stats()["num_device_alloc"] == 0
    assert a.stats()["allocation.all.current"] == 1


def test_a_graph_has_memory_of_its_own(make: Callable[..., Any]) -> None:
    a = make()
    before = a.allocate(1000, S)
    a.release(before)
    pool = a.make_pool()
    a.begin_capture(pool, S)
    x = a.allocate(1000, S)
    assert x != before
    assert a.allocate(1000, T) not in (before, x)  # not captured: everybody's pool
    a.release(x)
    assert a.allocate(1000, S) == x  # within the capture it is used again
    a.end_capture(pool)
    a.release(x)
    assert a.allocate(1000, S) == before
    check_consistent(a)

    a.empty_cache()  # a replay writes there
    assert pool in {s["segment_pool_id"] for s in a.segments()}
    a.hold_pool(pool)  # a second graph in the same pool
    a.drop_pool(pool)
    a.empty_cache()
    assert pool in {s["segment_pool_id"] for s in a.segments()}
    a.drop_pool(pool)
    a.empty_cache()
    assert pool not in {s["segment_pool_id"] for s in a.segments()}
    with pytest.raises(RuntimeError, match="there is no memory pool"):
        a.hold_pool(pool)
    check_consistent(a)


def test_a_graph_s_output_outlives_it(make: Callable[..., Any]) -> None:
    a = make()
    pool = a.make_pool()
    a.begin_capture(pool, S)
    x = a.allocate(1000, S)
    a.end_capture(pool)
    a.drop_pool(pool)
    a.empty_cache()
    assert current(a, "allocation") == 1
    a.release(x)
    a.empty_cache()
    assert a.segments() == []


def test_no_event_is_recorded_during_a_capture(make: Callable[..., Any]) -> None:
    a = make()
    x = a.allocate(1000, S)
    a.record_stream(x, T)
    pool = a.make_pool()
    a.begin_capture(pool, T)
    a.release(x)
    a.allocate(1000, S)
    assert a.events == 0
    check_consistent(a)
    a.end_capture(pool)
    a.allocate(1000, S)
    assert a.events == 1
    a.finish(T)
    assert a.allocate(1000, S) == x


@pytest.mark.parametrize("seed", range(6))
def test_any_order_of_calls(make: Callable[..., Any], seed: int) -> None:
    r = random.Random(seed)
    a, held, pools, capture = make(256), {}, [], 0
    for _ in range(1500):
        call = r.random()
        if call < 0.5:
            size = int(2 ** r.uniform(0, 24.5))
            try:
                at = a.allocate(size, r.choice((S, T)))
            except RuntimeError:
                continue
            assert all(at + size <= x or x + n <= at for x, n in held.items()), "two blocks overlap"
            held[at] = size
        elif call < 0.85 and held:
            at = r.choice(sorted(held))
            del held[at]
            a.release(at)
        elif call < 0.92 and held:
            assert a.record_stream(r.choice(sorted(held)), r.choice((S, T)))
        elif call < 0.95:
            a.finish(r.choice((S, T)))
        elif call < 0.96:
            a.empty_cache()
        elif call < 0.98 and not capture:
            capture = a.make_pool()
            a.begin_capture(capture, S)
        elif capture:
            a.end_capture(capture)
            pools.append(capture)
            capture = 0
            if len(pools) > 2:
                a.drop_pool(pools.pop(0))
        check_consistent(a)
    if capture:
        a.end_capture(capture)
        a.drop_pool(capture)
    for at in held:
        a.release(at)
    for pool in pools:
        a.drop_pool(pool)
    a.empty_cache()
    check_consistent(a)
    assert a.device_bytes == 0 and a.events == 0
