"""Allocator streams on a machine: who has what, what cannot be, and what the results say of fragmentation."""

from __future__ import annotations

import numpy as np
import pytest

from mmlab import Simulation
from mmlab._engine.alloc_run import AllocationRun
from mmlab._engine.sampler import Sampler
from mmlab.errors import InputError
from mmlab.mm.slab import KMALLOC_FIRST, KMALLOC_SIZES, USER_CACHES
from mmlab.model.const import SLAB_STAT_ACTIVE_OBJS
from mmlab.model.gfp import GFP_KERNEL, GFP_NOWAIT, GFP_RECLAIMABLE
from mmlab.model.slabinfo import SLAB_STAT_LIVE_OBJS
from mmlab.workload.allocation_generators import GeneratedAllocations, make_allocation_generator
from mmlab.workload.allocations import ALLOC_OBJECT, ALLOC_PAGES, FREE_OBJECT, FREE_PAGES, KMALLOC, Allocations

MANAGED = 16 << 8


def stream(events, caches=(), **columns):
    """events: (op, id, arg)."""
    op, ids, arg = (np.array(column, np.int64) for column in zip(*events))
    n = len(op)
    filled = {"gfp": np.full(n, GFP_KERNEL), "cpu": np.zeros(n, np.int64), "node": np.full(n, -1), **{k: np.array(v) for k, v in columns.items()}}
    return Allocations(op=op.astype(np.uint8), id=ids, arg=arg, caches=caches, **filled)


def simulation(memory="16M", allocator="buddy_nopcp", **table):
    return Simulation.from_table({"memory": memory, "bare": True, **table}, policies={"page_allocator": {"use": allocator}})


def run(sim, allocations, **more):
    runner = AllocationRun(sim, allocations, None, **more)
    counted = runner.run(lambda *_: None)
    assert sim.check_state() == []
    return runner, counted


def free_pages(sim):
    return sum(sim.machine.op("page_allocator", "nr_free_blocks", 0, order, kind) << order for order in range(11) for kind in range(5))


def test_a_block_is_freed_whole_or_in_parts():
    sim = simulation()
    runner, counted = run(sim, stream([(ALLOC_PAGES, 8, 3), (FREE_PAGES, 10, 1), (ALLOC_PAGES, 16, 0), (FREE_PAGES, 8, 0)]))
    assert free_pages(sim) == MANAGED - (8 - 2 - 1) - 1
    assert np.flatnonzero(runner.where).tolist() == [9, 12, 13, 14, 15, 16]
    assert counted == {"events": 4, "failed_allocations": 0, "unknown_frees": 0, "missing_frees": 0}
    _, counted = run(simulation(), stream([(ALLOC_PAGES, 0, 2), (FREE_PAGES, 1, 0), (FREE_PAGES, 0, 2)]))
    assert counted["unknown_frees"] == 1  # one of the four was free


def test_frees_of_strangers_and_missing_frees_are_counted():
    sim = simulation()
    _, counted = run(sim, stream([(FREE_PAGES, 5, 0), (ALLOC_PAGES, 4, 2), (ALLOC_PAGES, 6, 0), (FREE_OBJECT, 0, 0), (KMALLOC, 0, 8), (KMALLOC, 0, 8)]))
    assert counted == {"events": 6, "failed_allocations": 0, "unknown_frees": 2, "missing_frees": 2}
    assert free_pages(sim) == MANAGED - 4 - 1


def test_objects_come_from_their_caches():
    sim = simulation()
    events = [(KMALLOC, 0, 100), (KMALLOC, 1, 128), (ALLOC_OBJECT, 2, 0), (ALLOC_OBJECT, 3, 1), (KMALLOC, 4, 40_000), (FREE_OBJECT, 1, 0)]
    _, counted = run(sim, stream(events, caches=(200, 48), gfp=[GFP_KERNEL | GFP_RECLAIMABLE] + [GFP_KERNEL] * 5))
    live = [max(0, sim.machine.op("slab_allocator", "stat", number, SLAB_STAT_LIVE_OBJS)) for number in range(128)]
    place = KMALLOC_SIZES.index(128)
    assert live[KMALLOC_FIRST + place] == 0 and live[KMALLOC_FIRST + len(KMALLOC_SIZES) + place] == 1
    assert live[32:34] == [1, 1] and sum(live) == 3
    assert sim.machine.cache_names == {32: "stream-200", 33: "stream-48"}
    assert counted["failed_allocations"] == 0
    assert sim.counters()["nr_slab_unreclaimable"] >= 16  # the 40,000 bytes take 16 pages


def test_more_sizes_than_caches_use_kmallocs():
    own = len(USER_CACHES)
    sizes = tuple(range(8, 8 * (own + 9), 8))
    sim = simulation()
    run(sim, stream([(ALLOC_OBJECT, i, i) for i in range(own + 8)], caches=sizes))
    active = [sim.machine.op("slab_allocator", "stat", KMALLOC_FIRST + i, SLAB_STAT_ACTIVE_OBJS) for i in range(len(KMALLOC_SIZES))]
    assert [size for size, count in zip(KMALLOC_SIZES, active) if count] == [1024]  # the eight largest, 872 to 928 bytes, have no caches of their own


def test_what_memory_cannot_hold_fails_and_is_counted():
    sim = simulation("8M")
    _, counted = run(sim, stream([(ALLOC_PAGES, i, 0) for i in range(2100)] + [(FREE_PAGES, i, 0) for i in range(2100)], gfp=np.full(4200, GFP_NOWAIT)))
    assert counted["failed_allocations"] == counted["unknown_frees"] > 2100 - 2048
    assert free_pages(sim) == 2048


def test_cpus_and_nodes_of_the_machine():
    with pytest.raises(InputError, match="CPU 3 does not exist: the machine has 2"):
        run(simulation(cpus=2), stream([(ALLOC_PAGES, 0, 0)], cpu=[3]))
    sim = simulation("64M", nodes=[{"memory": "32M", "cpus": [0]}, {"memory": "32M", "cpus": [1]}])
    runner, _ = run(sim, stream([(ALLOC_PAGES, i, 0) for i in range(3)], cpu=[0, 1, 0], node=[-1, -1, 1]))
    zones = [zone.node for zone in sim.layout.zones for pfn in (runner.where[:3] >> 2).tolist() if zone.start_pfn <= pfn < zone.end_pfn]
    assert sorted(zones) == [0, 1, 1]


def test_the_clock_is_the_streams():
    sim = simulation()
    sampler = Sampler(sim, 10_000)
    times = np.arange(40) * 1000
    AllocationRun(sim, stream([(ALLOC_PAGES, i, 0) for i in range(40)], time_ns=times), sampler).run(lambda *_: None)
    assert sim.now_ns == 39_000
    assert sampler.series()["time_ns"].tolist() == [0, 10_000, 20_000, 30_000, 39_000]
    sim = simulation()
    run(sim, stream([(ALLOC_PAGES, i, 0) for i in range(40)]))
    assert sim.now_ns == 40_000


def test_series_show_fragmentation():
    sim = simulation("64M")
    sampler = Sampler(sim, 1 << 60)
    generator = make_allocation_generator("fragmentation", {"fill": 0.75, "free": 0.5, "pattern": "every"})
    AllocationRun(sim, GeneratedAllocations(generator, 64 << 8, 1), sampler).run(lambda *_: None)
    series = sampler.series()
    assert series["free_huge_frames"].tolist() == [32, 8, 8]
    free = 8 * 512 + 6 * 1024
    assert series["unusable_index:0,DMA32"].tolist() == [0, 0, (free - 8 * 512) * 1000 // free]
    assert series["extfrag_index:0,DMA32"].tolist() == [-1000] * 3
    assert sampler.last() == {"rss_pages": 0, "rss_pages_mean": 0, "free_huge_frames": 8, "extfrag_index:0,DMA32": -1000, "unusable_index:0,DMA32": 600}


def test_invariants_are_checked_on_the_way():
    sim = simulation()
    seen = []
    sim.check_state = lambda: seen.append(1) or []
    run(sim, stream([(ALLOC_PAGES, i, 0) for i in range(95)]), check_every=10)
    assert len(seen) == 9 + 1
