"""create, alloc, free, shrink and destroy one by one: addresses, struct pages, errors, counters, CPUs and nodes."""

from __future__ import annotations

import numpy as np
import pytest
from slab_machine import SlabMachine

from mmlab.mm.slab import KMALLOC_FIRST, create_kernel_caches, slabinfo_rows
from mmlab.model import rows as r
from mmlab.model.const import (
    EBUSY, EINVAL, ENOMEM, SLAB_STAT_ACTIVE_OBJS, SLAB_STAT_NUM_OBJS, SLAB_STAT_NUM_SLABS,
)  # fmt: skip
from mmlab.model.page import KIND_SLAB, NO_MAPPING, PG_HEAD, PG_SLAB, PG_TAIL, ZONE_SHIFT
from mmlab.model.slabinfo import SLAB_CACHE_DMA, SLAB_RECLAIM_ACCOUNT, SLAB_STAT_LIVE_OBJS, SLAB_STAT_NR_PARTIAL
from mmlab.model.vmstat import V_NR_SLAB_RECLAIMABLE, V_NR_SLAB_UNRECLAIMABLE, VMSTAT_STRIDE
from mmlab_linux.slab_allocator.slub import Params


def state_of(machine: SlabMachine) -> list[bytes]:
    of_machine = [machine.m.arrays()[name].tobytes() for name in ("page", "pagex", "zone", "pcp", "vmstat")]
    return of_machine + [machine.st.arrays()[name].tobytes() for name in ("cache", "cpu", "node", "nr_shuffled")]


def test_a_new_slab_hands_out_its_objects_in_order_of_address():
    machine = SlabMachine()
    machine.op("create", 1, 1000, 0, 0)
    found = [machine.alloc(1) for _ in range(8)]
    assert np.diff(found).tolist() == [1000] * 7
    assert found[0] % 4096 == 0
    assert machine.slab_of(machine.alloc(1)) != machine.slab_of(found[0])


def test_the_object_freed_last_is_used_next():
    machine = SlabMachine()
    machine.op("create", 1, 64, 0, 0)
    first, second = machine.alloc(1), machine.alloc(1)
    machine.free(first)
    machine.free(second)
    assert [machine.alloc(1), machine.alloc(1)] == [second, first]


def test_random_freelists_use_every_object_once_and_follow_the_seed():
    found = {}
    for seed in (None, 1, 2, 1):
        machine = SlabMachine(params=Params(freelist_random=seed is not None))
        machine.m.sc[r.SC_SEED] = seed or 0
        machine.op("create", 1, 64, 0, 0)
        machine.op("create", 2, 64, 0, 0)
        orders = [[(machine.alloc(cache) & 4095) // 64 for _ in range(64)] for cache in (1, 1, 2)]
        assert all(sorted(order) == list(range(64)) for order in orders)
        assert found.setdefault(seed, orders) == orders
        assert machine.op("check") == 0
    assert found[None] == [list(range(64))] * 3
    first, second, other = found[1]
    at = second.index(first[0])
    assert second != first == second[at:] + second[:at]  # a cache has one order, and slabs begin anywhere in it
    assert other not in (first, second) and found[2][0] not in (first, second)


def test_struct_pages_of_a_slab_and_after_it_is_freed():
    machine = SlabMachine()
    machine.op("create", 7, 2000, 0, 0)  # 16 KiB slabs of 8 objects
    obj = machine.alloc(7)
    slab = machine.slab_of(obj)
    flags, kinds, words = machine.m.page[2::4], (machine.m.pagex[3::4] >> 12) & 15, machine.m.pagex
    assert flags[slab] & (PG_SLAB | PG_HEAD | PG_TAIL) == PG_SLAB | PG_HEAD
    assert [int(f) & (PG_SLAB | PG_TAIL) for f in flags[slab + 1 : slab + 4]] == [PG_TAIL] * 3
    assert kinds[slab : slab + 4].tolist() == [KIND_SLAB] * 4
    assert (words[slab * 4], machine.counts(slab)) == (7, (8, 8))
    assert machine.free(obj) == 0
    assert machine.op("shrink", 7) == 4
    flags = machine.m.page[2::4]
    assert [int(f) & ((1 << ZONE_SHIFT) - 1) for f in flags[slab : slab + 4]] == [0] * 4
    assert (words[slab * 4], words[slab * 4 + 2], words[slab * 4 + 6]) == (NO_MAPPING, 0, 0)


@pytest.mark.parametrize(
    "what", ["negative", "behind memory", "a free page", "inside an object", "behind the last object", "twice", "twice, other slab"],
)  # fmt: skip
def test_freeing_what_is_no_allocated_object_changes_nothing(what):
    machine = SlabMachine()
    machine.op("create", 1, 96, 0, 0)  # 42 objects leave 64 bytes
    objects = [machine.alloc(1) for _ in range(50)]
    machine.free(objects[0])
    machine.free(objects[45])
    slab = machine.slab_of(objects[0]) << 12
    bad = {
        "negative": -4096, "behind memory": 1 << 40, "a free page": slab + (600 << 12), "inside an object": objects[3] + 8,
        "behind the last object": slab + 42 * 96, "twice": objects[45], "twice, other slab": objects[0],
    }[what]  # fmt: skip
    before = state_of(machine)
    assert machine.free(bad) == -EINVAL
    assert state_of(machine) == before
    assert machine.op("check") == 0


@pytest.mark.parametrize("cache, size, align, flags", [
    (-1, 64, 0, 0), (r.NR_CACHES, 64, 0, 0), (1, 0, 0, 0), (1, -8, 0, 0), (1, (4 << 20) + 1, 0, 0), (1, 64, 24, 0), (1, 64, 0, 1 << 30),
])  # fmt: skip
def test_bad_caches_are_refused(cache, size, align, flags):
    machine = SlabMachine()
    assert machine.op("create", cache, size, align, flags) == -EINVAL
    assert machine.op("alloc", cache, 0) == -EINVAL
    assert machine.op("stat", cache, 0) == machine.op("shrink", cache) == machine.op("destroy", cache) == -EINVAL


def test_a_number_is_used_once_until_its_cache_is_destroyed():
    machine = SlabMachine()
    assert machine.op("create", 1, 64, 0, 0) == 0
    assert machine.op("create", 1, 64, 0, 0) == -EINVAL
    assert machine.op("destroy", 1) == 0
    assert machine.op("create", 1, 128, 0, 0) == 0
    assert slabinfo_rows(machine.m)[-1][3] == 128


def test_destroy_waits_for_the_last_object():
    machine = SlabMachine(cpus=2)
    machine.op("create", 1, 64, 0, 0)
    objects = [machine.alloc(1, cpu=i % 2) for i in range(300)]
    for obj in objects[1:]:
        machine.free(obj)
    before = state_of(machine)
    assert machine.op("destroy", 1) == -EBUSY
    assert state_of(machine) == before
    machine.free(objects[0])
    assert machine.op("destroy", 1) == 0
    assert machine.m.vmstat[V_NR_SLAB_UNRECLAIMABLE] == 0
    assert not (machine.m.page[2::4] & PG_SLAB).any()
    assert machine.op("check") == 0


def test_slab_pages_are_counted_by_kind():
    machine = SlabMachine()
    machine.op("create", 1, 2000, 0, SLAB_RECLAIM_ACCOUNT)
    machine.op("create", 2, 64, 0, 0)
    machine.alloc(1)
    machine.alloc(2)
    assert (machine.m.vmstat[V_NR_SLAB_RECLAIMABLE], machine.m.vmstat[V_NR_SLAB_UNRECLAIMABLE]) == (4, 1)


def test_a_dma_cache_takes_dma_pages():
    machine = SlabMachine(memory="256M", table={"bare": False})  # a bare machine has no DMA zone
    machine.op("create", 1, 64, 0, SLAB_CACHE_DMA)
    machine.op("create", 2, 64, 0, 0)
    assert machine.alloc(1) < 16 << 20 <= machine.alloc(2)


def test_the_smaller_order_serves_when_the_better_one_fails():
    machine = SlabMachine()
    machine.op("create", 1, 1024, 0, 0)  # 8 objects in two pages, or 4 in one
    machine.m.states["page_allocator"].fail_order[0] = 1
    found = [machine.alloc(1) for _ in range(5)]
    assert machine.counts(machine.slab_of(found[0])) == (4, 4)
    assert machine.op("stat", 1, SLAB_STAT_NUM_OBJS) == 8
    machine.m.states["page_allocator"].fail_order[0] = 0
    for _ in range(3):
        machine.alloc(1)
    assert machine.alloc(1, gfp=0) == -ENOMEM
    assert (machine.op("stat", 1, SLAB_STAT_LIVE_OBJS), machine.op("stat", 1, SLAB_STAT_NUM_OBJS), machine.op("check")) == (8, 8, 0)


def test_what_other_cpus_free_is_seen_when_the_cpu_runs_dry():
    machine = SlabMachine(cpus=2)
    machine.op("create", 1, 256, 0, 0)
    objects = [machine.alloc(1, cpu=0) for _ in range(16)]
    assert [machine.free(obj, cpu=1) for obj in objects[:2]] == [0, 0]
    assert (machine.cpu_partial(1, 1), machine.node_partial(1)) == ([], [])  # the slab stays CPU 0's
    assert machine.counts(machine.slab_of(objects[0])) == (14, 16)
    assert [machine.alloc(1, cpu=0) for _ in range(2)] == objects[1::-1]
    assert machine.slab_of(machine.alloc(1, cpu=1)) != machine.slab_of(objects[0])


def test_a_full_slab_goes_to_the_list_of_the_cpu_that_frees():
    machine = SlabMachine(cpus=2)
    machine.op("create", 1, 256, 0, 0)
    objects = [machine.alloc(1, cpu=0) for _ in range(33)]
    machine.free(objects[0], cpu=1)
    machine.free(objects[16], cpu=0)
    assert machine.cpu_partial(1, 1) == [machine.slab_of(objects[0])]
    assert machine.cpu_partial(1, 0) == [machine.slab_of(objects[16])]
    assert machine.op("stat", 1, SLAB_STAT_ACTIVE_OBJS) == machine.op("stat", 1, SLAB_STAT_NUM_OBJS) == 64 - 16
    assert machine.op("stat", 1, SLAB_STAT_LIVE_OBJS) == 31


def test_without_cpu_partial_lists_slabs_go_to_the_node_and_back_to_memory():
    machine = SlabMachine(params=Params(cpu_partial=False))
    machine.op("create", 1, 512, 0, 0)  # 8 objects a slab, min_partial 5
    objects = [machine.alloc(1) for _ in range(8 * 8 + 1)]
    for obj in objects[:-1]:
        machine.free(obj)
    assert machine.cpu_partial(1) == []
    assert machine.op("stat", 1, SLAB_STAT_NR_PARTIAL) == 4  # the fifth makes the list five long as it empties, and goes
    assert machine.op("stat", 1, SLAB_STAT_NUM_SLABS) == 5
    assert machine.op("shrink", 1) == 4
    assert machine.op("check") == 0


def test_nodes_have_lists_of_their_own_and_lend_when_they_have_plenty():
    table = {"nodes": [{"memory": "64M", "cpus": [0]}, {"memory": "64M", "cpus": [1]}]}
    machine = SlabMachine(cpus=2, memory="128M", table=table, params=Params(cpu_partial=False))
    machine.op("create", 1, 512, 0, 0)  # with two CPUs 16 objects in two pages
    sc = machine.m.sc
    sc[r.SC_NODE] = 1
    remote = [machine.alloc(1, cpu=1) for _ in range(7 * 16 + 1)]
    zones = {int(machine.m.page[machine.slab_of(obj) * 4 + 2]) >> ZONE_SHIFT for obj in remote}
    assert [machine.m.zone[zone * r.ZONE_STRIDE + r.Z_NODE] for zone in zones] == [1]
    for obj in remote[: 6 * 16 : 16]:
        machine.free(obj, cpu=0)
    assert (len(machine.node_partial(1, 0)), len(machine.node_partial(1, 1))) == (0, 6)
    sc[r.SC_NODE] = 0
    assert machine.alloc(1, cpu=0) == remote[0]  # node 1 has more than min_partial
    assert machine.alloc(1, cpu=0) not in remote  # now it has not: a new slab of node 0
    assert machine.op("check") == 0
    assert machine.m.vmstat[[V_NR_SLAB_UNRECLAIMABLE, VMSTAT_STRIDE + V_NR_SLAB_UNRECLAIMABLE]].tolist() == [2, 16]


def test_kmem_cache_services_reach_the_slab_slot():
    from mmlab.kernels.services import kmem_cache_alloc, kmem_cache_free

    machine = SlabMachine()
    create_kernel_caches(machine.m)
    obj = machine.m.run(kmem_cache_alloc, KMALLOC_FIRST + 3, 0)
    assert obj > 0
    assert machine.op("stat", KMALLOC_FIRST + 3, SLAB_STAT_LIVE_OBJS) == 1
    assert machine.m.run(kmem_cache_free, obj) == 0
    assert machine.op("stat", KMALLOC_FIRST + 3, SLAB_STAT_LIVE_OBJS) == 0
