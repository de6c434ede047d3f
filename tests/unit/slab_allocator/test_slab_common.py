"""Caches by name, merging, kmalloc of any size, and the slab allocator's commands of an allocator program."""

from __future__ import annotations

import pytest

from mmlab.errors import MmlabError
from mmlab.mm.slab import KERNEL_CACHES
from mmlab.mm.slab_common import (
    KmemCache, SlabCaches, booted_caches, calculate_alignment, flags_of, free_large_kmalloc, kmalloc_large, kmalloc_order, kmalloc_type,
)
from mmlab.model import slabinfo as s
from mmlab.model.gfp import GFP_ACCOUNT, GFP_DMA, GFP_KERNEL, GFP_NOWAIT, GFP_RECLAIMABLE
from mmlab.model.vmstat import V_NR_SLAB_UNRECLAIMABLE
from mmlab.simulation import Simulation
from mmlab.verify.probe_log import ProbeLog
from mmlab.verify.probe_run import ProbeRun


def a_machine(**table):
    return Simulation.from_table({"memory": "128M", "cpus": 1, **table}).machine


def test_alignment_of_a_cache_line_is_halved_for_small_objects():
    assert [calculate_alignment(s.SLAB_HWCACHE_ALIGN, 0, size) for size in (8, 9, 17, 33, 65)] == [8, 16, 32, 64, 64]
    assert calculate_alignment(0, 0, 100) == 8 and calculate_alignment(0, 32, 100) == 32


def test_equal_caches_are_merged_unless_flags_differ_or_forbid_it():
    caches = SlabCaches(a_machine())
    first = caches.create("first", 3000)
    assert caches.create("rounded_up_to_it", 2993) is first
    assert caches.create("eight_less", 2992) is not first
    assert caches.create("aligned", 3000, flags=s.SLAB_HWCACHE_ALIGN) is not first  # 3008 bytes
    for flags in (s.SLAB_RECLAIM_ACCOUNT, s.SLAB_ACCOUNT, s.SLAB_CACHE_DMA, s.SLAB_TYPESAFE_BY_RCU, s.SLAB_NO_MERGE):
        assert caches.create("other", 3000, flags=flags) is not first
    assert caches.create("copied_to_users", 3000, usersize=8) is not first
    assert (first.refcount, first.object_size) == (2, 3000)
    assert SlabCaches(caches.machine, nomerge=True).create("alone", 3000) is not first


def test_a_merged_cache_grows_to_its_largest_user_but_keeps_its_geometry():
    caches = SlabCaches(a_machine())
    root = caches.create("root", 3001)
    before = caches.geometry(root)
    assert caches.create("larger", 3008) is root
    assert caches.geometry(root) == before | {"object_size": 3008, "inuse": 3008, "refcount": 2}


def test_a_new_cache_may_join_one_of_the_booted_kernel():
    caches = SlabCaches(a_machine())
    perf_event = next(cache for cache in caches.caches if cache.name == "perf_event")
    assert caches.create("mine", 1312) is perf_event and perf_event.refcount == 2
    # the kernel's accounted msg_msg-96 and kmalloc-cg-96 have windows for copies to user space
    assert caches.create("accounted", 96, 32, s.SLAB_ACCOUNT).name == "accounted"
    ping = caches.create("grown", 1024, flags=s.SLAB_HWCACHE_ALIGN | s.SLAB_ACCOUNT)
    assert ping.name == "PING" and caches.geometry(ping)["offset"] == 496  # half of the first user's 992 bytes


def test_a_window_for_user_space_is_no_flag():
    caches = SlabCaches(a_machine())
    window = caches.create("window", 3000, usersize=8)
    assert window.flags == 0 and caches.create("plain", 3000) is not window


def test_more_caches_than_a_program_has_numbers_for():
    caches = SlabCaches(a_machine())
    made = [caches.create(f"c{i}", 3000, flags=s.SLAB_NO_MERGE) for i in range(64)]
    assert len({cache.number for cache in made}) == 64 and not {cache.number for cache in made} & set(KERNEL_CACHES)


def test_the_last_user_ends_a_cache_and_objects_in_use_keep_it():
    caches = SlabCaches(a_machine())
    cache = caches.create("mine", 3000)
    caches.create("mine too", 3000)
    caches.destroy(cache)
    assert cache in caches.caches
    assert caches.machine.op("slab_allocator", "alloc", cache.number, GFP_KERNEL) > 0
    with pytest.raises(MmlabError, match="'mine' cannot be destroyed: 1 objects are in use"):
        caches.destroy(cache)


def test_geometry_of_booted_caches():
    caches = SlabCaches(a_machine())
    found = {cache.name: caches.geometry(cache) for cache in booted_caches()}
    assert len(found) == 190
    assert found["filp"]["offset"] == 152 and found["filp"]["size"] == 192  # the one cache that names its free pointer's place
    assert found["TCP"]["size"] == 2432 and found["TCP"]["offset"] == 2368  # RCU: behind the object
    assert found["signal_cache"]["object_size"] == 1152 and found["signal_cache"]["offset"] == 552  # of 1104 bytes before others joined
    assert found["task_struct"]["objects"] == 3 and found["names_cache"]["objects"] == 8


def test_unknown_flags_are_named():
    assert flags_of("HWCACHE_ALIGN|RCU") == s.SLAB_HWCACHE_ALIGN | s.SLAB_TYPESAFE_BY_RCU
    with pytest.raises(MmlabError, match="no flag 'FAST'"):
        flags_of("FAST")


def test_kmalloc_kinds_and_orders():
    gfps = (GFP_KERNEL, GFP_KERNEL | GFP_RECLAIMABLE, GFP_KERNEL | GFP_ACCOUNT, GFP_DMA | GFP_RECLAIMABLE)
    assert [kmalloc_type(gfp) for gfp in gfps] == [0, 1, 2, 3]
    assert [kmalloc_order(size) for size in (8193, 16384, 16385, 4 << 20, (4 << 20) + 1)] == [2, 2, 3, 10, 11]


def test_large_kmalloc_counts_as_slab_memory():
    machine = a_machine()
    before = int(machine.vmstat[V_NR_SLAB_UNRECLAIMABLE])
    pfn = machine.run(kmalloc_large, GFP_KERNEL, 3)
    assert machine.vmstat[V_NR_SLAB_UNRECLAIMABLE] == before + 8
    machine.run(free_large_kmalloc, pfn, 3)
    assert machine.vmstat[V_NR_SLAB_UNRECLAIMABLE] == before


def program(*lines: str) -> ProbeLog:
    run = ProbeRun(a_machine())
    run.run(lines)
    return ProbeLog.from_text("\n".join(run.slab.lines))


def test_a_program_shows_where_each_object_and_slab_is():
    log = program("cache 1 c 700 0 NO_MERGE", "calloc 1 0 KERNEL n=23", "cdump 1 full", "cfree 1 0 n=11", "cdump 1 freed")
    assert log.objs == [[0] * 11 + [1] * 11 + [2]]  # 8 KiB slabs of 11
    nodes = [{"nr_partial": 0, "nr_slabs": 3, "total_objects": 33}]
    assert log.slab_states["full"] == {"cpu": [[2, 11, 11]], "cpu_partial": [], "node_partial": [], "freelist": [10], "nodes": nodes}
    assert log.slab_states["freed"] == log.slab_states["full"] | {"cpu_partial": [[0, 0, 11]]}


def test_a_slab_that_is_given_back_and_comes_again_has_a_new_number():
    log = program("cache 1 c 4096 0 NO_MERGE", "calloc 1 0 KERNEL n=8", "cfree 1 0 n=8", "cshrink 1", "cdump 1 empty", "calloc 1 0 KERNEL")
    assert log.objs == [[0] * 8, [1]]
    assert log.slab_states["empty"]["cpu"] == [] and log.slab_states["empty"]["freelist"] == []


def test_kmalloc_lines():
    log = program("kmalloc 0 100 KERNEL", "kmalloc 1 100 KERNEL|ACCOUNT", "kmalloc 2 9000 KERNEL", "kmalloc 3 4194305 KERNEL", "kfree 0 n=4")
    assert log.kmallocs == [[100, 128, "kmalloc-128", -1], [100, 128, "kmalloc-cg-128", -1], [9000, 16384, "pages", 2], [4194305, -1, "failed", -1]]


def test_flags_that_the_kernel_adds():
    """Bit 2 POISON, 7 STORE_USER, 9 RCU, 12 NO_MERGE; 17: a free object is filled, 18: lists change without a lock."""
    log = program("sweep 100 100 1 0 POISON", "sweep 200 200 1 0 POISON|RCU", "sweep 300 300 1 0 STORE_USER")
    assert [row[-1] for row in log.table] == [1 << 2 | 1 << 12 | 3 << 17, 1 << 2 | 1 << 9 | 1 << 12 | 1 << 18, 1 << 7 | 1 << 12]


def test_a_slot_names_the_last_allocation_only():
    log = program("kmalloc 0 100 KERNEL; kmalloc 0 9000000 KERNEL  # too large", "kfree 0", "kmalloc 1 100 KERNEL")
    assert [row[2] for row in log.kmallocs] == ["kmalloc-128", "failed", "kmalloc-128"]
    run = ProbeRun(a_machine())
    run.run(["cache 1 c 700 0 NO_MERGE", "calloc 1 0 KERNEL n=2", "calloc 1 0 KERNEL", "cfree 1 0 n=2"])
    assert run.machine.op("slab_allocator", "stat", run.slab.caches[1].number, s.SLAB_STAT_LIVE_OBJS) == 1


def test_sweep_leaves_no_cache_behind():
    run = ProbeRun(a_machine())
    run.run(["sweep 8 3000 8 0 NONE"])
    log = ProbeLog.from_text("\n".join(run.slab.lines))
    assert len(log.table) == 375 and log.sweeps["3000,0"]["objects"] == 10
    assert all(isinstance(cache, KmemCache) and cache.name != "mmprobe-sweep" for cache in run.slab.known.caches)


def test_the_command_line_sets_slab_orders():
    caches = SlabCaches(a_machine(cmdline="slab_min_order=1 slab_max_order=2 slab_min_objects=12"))
    assert caches.geometry(caches.create("c", 3000))["order"] == 2
    assert caches.geometry(caches.create("d", 8))["order"] == 1


@pytest.mark.parametrize("name", ["slub", "slab", "slob", "sheaves"])
def test_bulk_gives_all_or_nothing(name):
    machine = Simulation.from_table({"memory": "8M", "bare": True}, policies={"slab_allocator": {"use": name}}).machine
    caches = SlabCaches(machine)
    cache = caches.create("mine", 2000, flags=s.SLAB_NO_MERGE)
    objects = caches.alloc_bulk(cache, 100)
    assert len(set(objects)) == 100
    assert caches.alloc_bulk(cache, 5000, GFP_NOWAIT) == []  # 10 MB of 8 MiB
    assert machine.op("slab_allocator", "stat", cache.number, s.SLAB_STAT_LIVE_OBJS) == 100
    with pytest.raises(MmlabError, match="'mine' cannot be destroyed: 100 objects are in use"):
        caches.destroy(cache)
    caches.free_bulk(objects[:60])
    with pytest.raises(MmlabError, match="free_bulk: 60 of 100 addresses are no objects in use"):
        caches.free_bulk(objects)
    caches.destroy(cache)
    assert machine.op("slab_allocator", "check") == 0


def test_slabs_of_a_debug_cache_are_never_a_cpus():
    """8 KiB slabs of 11: a full one is on no list, comes to its node's tail when an object is freed, and the first one gives until it is full."""
    log = program(
        "cache 1 c 700 0 NO_MERGE|RED_ZONE", "calloc 1 0 KERNEL n=12", "cdump 1 made", "cfree 1 0", "cfree 1 5 n=2", "cdump 1 freed",
        "calloc 1 20 KERNEL n=11", "cdump 1 again",
    )  # fmt: skip
    assert log.objs == [[0] * 11 + [1], [1] * 10 + [0]]
    lists = {name: (state["cpu"], state["node_partial"]) for name, state in log.slab_states.items()}
    assert lists == {"made": ([], [[1, 1, 11]]), "freed": ([], [[1, 1, 11], [0, 8, 11]]), "again": ([], [[0, 9, 11]])}
