"""What the conformance kit asks of single slots, op by op; mixed into the classes of :mod:`mmlab.testing.conformance`."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import numpy as np

from mmlab.mm.page_alloc import alloc_pages, free_pages
from mmlab.model import rows as r
from mmlab.model.const import EINVAL, ENOMEM, MAX_ORDER, MIGRATE_TYPES, READ, SLAB_STAT_NUM_OBJS, WRITE
from mmlab.model.gfp import GFP_HIGHMEM, GFP_KERNEL, GFP_MEMALLOC, GFP_MOVABLE, GFP_RECLAIMABLE
from mmlab.testing.oracles.vma_index import VmaIndexOracle

if TYPE_CHECKING:
    from mmlab.policies import Policy
    from mmlab.simulation import Simulation

PAGE = 4096


class _Slot:
    """What the mixins take from PolicyConformance."""

    if TYPE_CHECKING:
        policy: Policy
        params: dict[str, Any]

        def simulation(self, **table: Any) -> Simulation: ...


def nr_free(sim: Simulation) -> int:
    """Free pages of all zones, exact, after every CPU's lists were drained."""
    machine = sim.machine
    for zone in range(machine.sizes.nr_zones):
        for cpu in range(machine.sizes.nr_cpus):
            machine.sc[r.SC_CPU] = cpu
            machine.op("page_allocator", "drain", zone, cpu)
    machine.sc[r.SC_CPU] = 0
    zones = machine.zone.reshape(-1, r.ZONE_STRIDE)[:, r.Z_FREE].sum()
    return int(zones + machine.pcp.reshape(-1, r.PCP_STRIDE)[:, r.PCP_FREE_DIFF].sum())


class MemoryModelTests(_Slot):
    """Each frame that exists has one struct page, and the way back leads to it."""

    def test_frames_and_struct_pages_correspond(self):
        machine = self.simulation().machine
        pages = set()
        valid = 0
        for zone in machine.zone.reshape(-1, r.ZONE_STRIDE).tolist():
            for pfn in range(zone[r.Z_START_PFN], zone[r.Z_END_PFN]):
                if machine.op("memory_model", "pfn_valid", pfn):
                    page = machine.op("memory_model", "pfn_to_page", pfn)
                    assert machine.op("memory_model", "page_to_pfn", page) == pfn
                    pages.add(page)
                    valid += 1
        assert len(pages) == valid >= machine.sizes.nr_present

    def test_frames_that_do_not_exist_are_invalid(self):
        machine = self.simulation().machine
        beyond = machine.sizes.nr_frames + (1 << 15)
        assert [machine.op("memory_model", "pfn_valid", pfn) for pfn in (-1, beyond, 1 << 40)] == [0, 0, 0]

    def test_struct_pages_of_nothing_cost_nothing(self):
        machine = self.simulation().machine
        assert machine.op("memory_model", "memmap_pages", 0, 0) == 0
        assert machine.op("memory_model", "memmap_pages", 0, machine.sizes.nr_frames) > 0


class PageAllocatorTests(_Slot):
    """Blocks are aligned, belong to one owner at a time, and come back whole."""

    def test_blocks_never_overlap_and_all_memory_comes_back(self):
        sim = self.simulation(memory="16M", swap="0")
        machine, rng = sim.machine, random.Random(7)
        before = nr_free(sim)
        owned: dict[int, int] = {}
        taken = np.zeros(machine.sizes.nr_frames, bool)
        for _ in range(400):
            machine.sc[r.SC_CPU] = rng.randrange(machine.sizes.nr_cpus)
            if owned and rng.random() < 0.45:
                pfn = rng.choice(sorted(owned))
                order = owned.pop(pfn)
                taken[pfn : pfn + (1 << order)] = False
                machine.run(free_pages, pfn, order)
                continue
            order = min(rng.randrange(MAX_ORDER), rng.randrange(MAX_ORDER))
            gfp = GFP_MEMALLOC | rng.choice([0, GFP_HIGHMEM | GFP_MOVABLE, GFP_RECLAIMABLE])
            pfn = machine.run(alloc_pages, gfp, order, -1)
            if pfn < 0:
                assert pfn == -ENOMEM
                continue
            assert pfn % (1 << order) == 0, f"block of order {order} at pfn {pfn} is not aligned"
            assert not taken[pfn : pfn + (1 << order)].any(), f"block of order {order} at pfn {pfn} has an owner already"
            assert machine.op("page_allocator", "is_free", pfn) == 0
            taken[pfn : pfn + (1 << order)] = True
            owned[pfn] = order
        assert nr_free(sim) + int(taken.sum()) == before
        _check_zones(sim)
        for pfn, order in owned.items():
            machine.run(free_pages, pfn, order)
        assert nr_free(sim) == before
        _check_zones(sim)

    def test_all_of_memory_can_be_used(self):
        sim = self.simulation(memory="16M", swap="0")
        machine = sim.machine
        before = nr_free(sim)
        pages = []
        while (pfn := machine.run(alloc_pages, GFP_MEMALLOC | GFP_HIGHMEM | GFP_MOVABLE, 0, -1)) >= 0:
            pages.append(pfn)
        assert pfn == -ENOMEM and len(set(pages)) == len(pages)
        assert len(pages) + nr_free(sim) == before
        assert nr_free(sim) <= machine.sizes.nr_zones * 2, "pages that nobody can get"
        assert machine.op("page_allocator", "can_alloc", 0, 1, 0) == 0
        for pfn in pages:
            machine.run(free_pages, pfn, 0)
        assert nr_free(sim) == before

    def test_free_blocks_add_up_to_free_pages(self):
        sim = self.simulation()
        total = nr_free(sim)
        blocks = [
            count << order
            for zone in range(sim.machine.sizes.nr_zones)
            for order in range(MAX_ORDER + 1)
            for kind in range(MIGRATE_TYPES)
            if (count := sim.machine.op("page_allocator", "nr_free_blocks", zone, order, kind))
        ]
        assert sum(blocks) == total


def _check_zones(sim: Simulation) -> None:
    for zone in range(sim.machine.sizes.nr_zones):
        assert sim.machine.op("page_allocator", "check", zone) == 0


class SlabAllocatorTests(_Slot):
    """Objects are aligned, do not overlap, and an empty cache keeps no object."""

    def test_objects_never_overlap(self):
        sim = self.simulation()
        machine, rng = sim.machine, random.Random(8)
        kinds = [(8, 8), (24, 8), (192, 64), (700, 0), (4096, 4096), (6000, 0)]  # bytes, alignment
        caches = {r.CACHE_USER + i: kind for i, kind in enumerate(kinds)}
        for cache, (size, align) in caches.items():
            assert machine.op("slab_allocator", "create", cache, size, align, 0) == 0
        live: dict[int, int] = {}
        for _ in range(500):
            machine.sc[r.SC_CPU] = rng.randrange(machine.sizes.nr_cpus)
            if live and rng.random() < 0.4:
                obj = rng.choice(sorted(live))
                del live[obj]
                assert machine.op("slab_allocator", "free", obj) == 0
                continue
            cache = rng.choice(sorted(caches))
            obj = machine.op("slab_allocator", "alloc", cache, GFP_KERNEL)
            assert obj > 0
            assert obj % max(1, caches[cache][1]) == 0, f"object of cache {cache} at {obj:#x} is not aligned"
            live[obj] = cache
        ends = 0
        for obj in sorted(live):
            assert obj >= ends, f"object at {obj:#x} overlaps the one below"
            ends = obj + caches[live[obj]][0]
        for cache in caches:
            held = sum(1 for owner in live.values() if owner == cache)
            assert machine.op("slab_allocator", "stat", cache, SLAB_STAT_NUM_OBJS) >= held
        assert machine.op("slab_allocator", "check") == 0
        for obj in live:
            assert machine.op("slab_allocator", "free", obj) == 0
        for cache in caches:
            machine.op("slab_allocator", "shrink", cache)
            assert machine.op("slab_allocator", "destroy", cache) == 0
        assert machine.op("slab_allocator", "check") == 0

    def test_refuses_what_cannot_be(self):
        machine = self.simulation().machine
        assert machine.op("slab_allocator", "create", r.NR_CACHES, 64, 8, 0) == -EINVAL
        assert machine.op("slab_allocator", "create", r.CACHE_USER, 0, 8, 0) == -EINVAL
        assert machine.op("slab_allocator", "free", -1) == -EINVAL


class VmaIndexTests(_Slot):
    """Every answer equals that of a sorted list that is searched from end to end."""

    def test_equal_to_a_sorted_list(self):
        sim = self.simulation()
        machine, rng = sim.machine, random.Random(9)
        mm = sim.spawn("A").mm
        oracle = VmaIndexOracle(int(machine.sc[r.SC_STACK_GUARD_GAP]))
        first = 200  # rows that the machine has not handed out
        spare = [row for row in range(first, first + 64)]
        live: dict[int, tuple[int, int]] = {}

        def op(name: str, *args: int) -> int:
            return machine.op("vma_index", name, mm, *args)

        def room() -> tuple[int, int] | None:
            start = rng.randrange(16, 4096)
            end = start + rng.randrange(1, 40)
            return (start * PAGE, end * PAGE) if all(e <= start * PAGE or s >= end * PAGE for s, e in live.values()) else None

        for _ in range(400):
            what = rng.random()
            bounds = room()
            if what < 0.45 and spare and bounds:
                vma, row = spare.pop(), machine.vma
                grows = rng.random() < 0.1
                base = vma * r.VMA_STRIDE
                row[base : base + r.VMA_STRIDE] = 0
                row[base + r.VMA_START], row[base + r.VMA_END], row[base + r.VMA_MM] = bounds[0], bounds[1], mm
                row[base + r.VMA_FLAGS] = r.VM_GROWSDOWN if grows else 0
                assert op("insert", vma) == 0
                oracle.insert(vma, *bounds, grows)
                live[vma] = bounds
            elif what < 0.6 and live:
                vma = rng.choice(sorted(live))
                assert op("erase", vma) == 0
                oracle.erase(vma)
                del live[vma]
                spare.append(vma)
            elif what < 0.7 and live:
                vma = rng.choice(sorted(live))
                start, end = live[vma]
                if end - start > PAGE:
                    start += PAGE
                    assert op("resize", vma, start, end) == 0
                    oracle.resize(vma, start, end)
                    live[vma] = (start, end)
                    assert [int(machine.vma[vma * r.VMA_STRIDE + field]) for field in (r.VMA_START, r.VMA_END)] == [start, end]
            addr = rng.randrange(0, 4200 * PAGE)
            assert op("find", addr) == oracle.find(addr)
            assert op("find_prev", addr) == oracle.find_prev(addr)
            length = rng.randrange(1, 300) * PAGE
            assert op("find_gap", length, 16 * PAGE, 4096 * PAGE) == oracle.find_gap(length, 16 * PAGE, 4096 * PAGE)
            assert op("check") == 0
        for vma in live:
            assert op("erase", vma) == 0
        assert op("find", 0) == -1


class ThpTests(_Slot):
    """Orders that exist, and flags of an allocation that may fail."""

    def test_answers_are_orders(self):
        sim = self.simulation(memory="64M")
        task = sim.spawn("A")
        addr = sim.mmap("A", 8 << 20)
        vma = sim.machine.op("vma_index", "find", task.mm, addr)
        for vpn in (addr >> 12, (addr >> 12) + 1024, ((addr + (8 << 20)) >> 12) - 1):
            for access in (READ, WRITE):
                orders = sim.machine.op("thp", "fault_orders", task.mm, vma, vpn, access)
                assert 0 <= orders < 1 << (MAX_ORDER + 1) and orders & 1 == 0
            assert sim.machine.op("thp", "fault_gfp", task.mm, vma, 9) >= 0
        assert sim.machine.op("thp", "use_zero_page", task.mm, vma) in (0, 1)


class ReclaimerTests(_Slot):
    """As a cache of equal objects: no better than Belady, no worse than missing always, and exact where everything fits."""

    def misses(self, ids: list[int], frames: int) -> int:
        from mmlab._engine.requests import RequestMachine

        params = self.policy.params(**self.params) if self.policy.params is not None else None
        machine = RequestMachine(self.policy, params, np.array(ids), frames)
        while not machine.done:
            machine.step()
        return machine.misses

    def test_what_fits_is_never_missed_twice(self):
        rng = random.Random(10)
        ids = [rng.randrange(90) for _ in range(600)]
        assert self.misses(ids, 100) == len(set(ids))

    def test_a_scan_that_never_repeats_always_misses(self):
        assert self.misses(list(range(300)), 80) == 300

    def test_no_better_than_belady(self):
        rng = random.Random(11)
        ids = [min(rng.randrange(200), rng.randrange(200)) for _ in range(900)]
        missed = self.misses(ids, 64)
        assert belady_misses(ids, 64) <= missed <= len(ids)


def belady_misses(ids: list[int], frames: int) -> int:
    """Misses of the best possible policy: evict what is asked for last, or never again. O(requests x frames)."""
    cached: set[int] = set()
    missed = 0
    for i, wanted in enumerate(ids):
        if wanted in cached:
            continue
        missed += 1
        if len(cached) == frames:
            later = ids[i + 1 :]
            cached.remove(max(cached, key=lambda one: later.index(one) if one in later else len(ids)))
        cached.add(wanted)
    return missed
