"""Compaction: pages move and stay what they were; large free blocks come together; failures are put off."""

from __future__ import annotations

import numpy as np
import pytest

from mmlab.kernels.ops import page_allocator_drain
from mmlab.mm import compaction, compaction_block
from mmlab.mm.page_alloc import alloc_pages, free_pages
from mmlab.model import rows as r
from mmlab.model.const import COMPACT_COMPLETE, COMPACT_PRIO_ASYNC, COMPACT_PRIO_SYNC_LIGHT, COMPACT_SKIPPED, COMPACT_SUCCESS, WRITE
from mmlab.model.gfp import GFP_ATOMIC, GFP_KERNEL, GFP_TRANSHUGE
from mmlab.model.page import PG_HEAD
from mmlab.model.vmstat import VMSTAT_NAMES
from mmlab.procfs import write
from mmlab.simulation import Simulation

COMPACT_MEMORY = "/proc/sys/vm/compact_memory"


def a_machine(memory: str = "128M", cpus: int = 1) -> Simulation:
    return Simulation.from_table({"memory": memory, "cpus": cpus}, sysfs={"kernel/mm/transparent_hugepage/enabled": "never"})


def fragmented(sim: Simulation, pages: int, keep: int = 4) -> tuple[int, int]:
    """A task that has one page in `keep` of a range: its mm, and the range's first virtual page."""
    sim.spawn("A")
    addr = sim.mmap("A", pages << 12, prot="rw")
    sim.touch("A", addr, pages, WRITE)
    for page in range(0, pages, keep):
        sim.madvise("A", addr + (page << 12), (keep - 1) << 12, "dontneed")
    return int(sim.machine.task[sim.tasks["A"].index * r.TASK_STRIDE + r.T_MM]), addr >> 12


def events(sim: Simulation, prefix: str) -> dict[str, int]:
    return {name: int(sim.machine.vmstat[i]) for i, name in enumerate(VMSTAT_NAMES) if name.startswith(prefix)}


def free_blocks(sim: Simulation, order: int) -> int:
    """Free memory in blocks of at least this order, in such blocks, once the CPU's lists are empty."""
    m = sim.machine
    for zone in range(m.sizes.nr_zones):
        m.run(page_allocator_drain, zone, 0)
    return sum(
        m.op("page_allocator", "nr_free_blocks", zone, o, kind) << (o - order)
        for zone in range(m.sizes.nr_zones) for o in range(order, 11) for kind in range(5)
    )  # fmt: skip


def frames(sim: Simulation, mm: int, vpn: int, pages: int) -> dict[int, int]:
    """Which frame each virtual page has, for those that have one."""
    from mmlab.kernels.pte import walk_pte

    entries = {page: int(sim.machine.pt[slot]) for page in range(vpn, vpn + pages) if (slot := sim.machine.run(walk_pte, mm, page)) >= 0}
    return {page: entry >> r.PTE_SHIFT for page, entry in entries.items() if entry & r.PTE_PRESENT}


def test_pages_move_up_and_free_memory_comes_together():
    sim = a_machine()
    pages = 12_000
    mm, vpn = fragmented(sim, pages)
    before, huge = frames(sim, mm, vpn, pages), free_blocks(sim, 9)
    free = int(sim.machine.zone[r.Z_FREE :: r.ZONE_STRIDE].sum())
    assert write(sim, COMPACT_MEMORY, "1") == 0
    after = frames(sim, mm, vpn, pages)
    moved = [page for page in before if before[page] != after[page]]
    assert list(after) == list(before) and len(set(after.values())) == pages // 4
    assert len(moved) > 500 and all(after[page] > before[page] for page in moved)
    assert free_blocks(sim, 9) > huge + 4
    index = sim.machine.pagex[1::4]
    assert all(int(index[pfn]) == page & 0xFFFFFFFF for page, pfn in after.items())
    counts = events(sim, "compact_") | events(sim, "pgmigrate_")
    assert counts["pgmigrate_success"] == len(moved)  # nothing else of this machine can move
    assert counts["compact_isolated"] >= 2 * len(moved)
    assert counts["compact_stall"] == counts["compact_daemon_wake"] == 0
    assert int(sim.machine.zone[r.Z_FREE :: r.ZONE_STRIDE].sum()) == free
    assert sim.check_state() == []


def test_shared_and_file_pages_keep_all_their_mappings():
    sim = a_machine()
    sim.mkfile("f", 2000 << 12)
    sim.spawn("A")
    shared = sim.mmap("A", 2000 << 12, prot="r", flags={"shared"}, file=sim.open("f"))
    anon = sim.mmap("A", 4000 << 12, prot="rw")
    for page in range(2000):  # by turns, so that the freed half leaves holes
        sim.touch("A", shared + (page << 12), 1)
        sim.touch("A", anon + (page << 13), 2, WRITE)
    sim.fork("A", "B")
    sim.munmap("A", anon, 4000 << 12)
    sim.munmap("B", anon, 4000 << 12)
    mms = [int(sim.machine.task[sim.tasks[name].index * r.TASK_STRIDE + r.T_MM]) for name in "AB"]
    before = frames(sim, mms[0], shared >> 12, 2000)
    assert write(sim, COMPACT_MEMORY, "1") == 0
    after = frames(sim, mms[0], shared >> 12, 2000)
    assert list(after) == list(before) and after != before
    child = frames(sim, mms[1], shared >> 12, 2000)
    assert all(after[page] == pfn for page, pfn in child.items())
    assert sim.check_state() == []


def test_a_node_is_compacted_by_its_own_file():
    sim = a_machine()
    fragmented(sim, 12_000)
    assert write(sim, "/sys/devices/system/node/node0/compact", "1") == 0
    assert events(sim, "pgmigrate_success")["pgmigrate_success"] > 500


def test_only_one_is_written_to_compact_memory():
    sim = a_machine()
    assert write(sim, COMPACT_MEMORY, "2") == -22 and events(sim, "compact_migrate_scanned") == {"compact_migrate_scanned": 0}


def fill(sim: Simulation) -> list[int]:
    """All memory down to the reserves, page by page."""
    pfns = []
    while (pfn := sim.machine.run(alloc_pages, GFP_ATOMIC, 0, 0)) >= 0:
        pfns.append(pfn)
    return pfns


def test_direct_compaction_serves_a_huge_page():
    sim = a_machine()
    mm, vpn = fragmented(sim, 14_000)
    while free_blocks(sim, 9):
        assert sim.machine.run(alloc_pages, GFP_ATOMIC, 9, 0) >= 0
    before = events(sim, "pgalloc_dma32") | events(sim, "pgfree")
    hits = int(sim.machine.zone[r.Z_NUMA_HIT :: r.ZONE_STRIDE].sum())
    pfn = sim.machine.run(alloc_pages, GFP_TRANSHUGE, 9, 0)
    assert pfn >= 0 and pfn % 512 == 0
    assert events(sim, "pgalloc_dma32")["pgalloc_dma32"] == before["pgalloc_dma32"]  # captured: it came past the zone's lists
    assert int(sim.machine.zone[r.Z_NUMA_HIT :: r.ZONE_STRIDE].sum()) == hits
    assert sim.machine.cc[r.CC_CAPTURE] == 0
    counts = events(sim, "compact_")
    assert counts["compact_stall"] == counts["compact_success"] == 1 and counts["compact_fail"] == 0
    assert len(set(frames(sim, mm, vpn, 14_000).values())) == 14_000 // 4
    assert sim.check_state() == []


def test_requests_that_may_not_wait_do_not_compact():
    sim = a_machine()
    fragmented(sim, 14_000)
    while sim.machine.run(alloc_pages, GFP_ATOMIC, 9, 0) >= 0:
        pass
    assert events(sim, "compact_stall") == {"compact_stall": 0}


def test_without_room_compaction_is_skipped():
    sim = a_machine("128M")
    fill(sim)
    assert sim.machine.run(compaction.do_try_to_compact_pages, GFP_KERNEL, 9, 0, 0, COMPACT_PRIO_SYNC_LIGHT) == COMPACT_SKIPPED


def test_a_block_that_is_free_already_needs_no_compaction():
    sim = a_machine()
    assert sim.machine.run(compaction.do_try_to_compact_pages, GFP_KERNEL, 3, 0, 0, COMPACT_PRIO_ASYNC) == COMPACT_SUCCESS
    assert events(sim, "compact_migrate_scanned") == {"compact_migrate_scanned": 0}


def test_failures_double_the_time_to_the_next_try():
    sim = a_machine()
    m, zone = sim.machine, 1
    assert m.run(compaction.compaction_deferred, zone, 9) == 0  # nothing failed yet
    m.compact[zone * r.CZ_STRIDE + r.CZ_ORDER_FAILED] = 10
    asked = []
    for _ in range(7):
        m.run(compaction.defer_compaction, zone, 9)
        nr = 1
        while m.run(compaction.compaction_deferred, zone, 9):
            nr += 1
        asked.append(nr)
    assert asked == [2, 4, 8, 16, 32, 64, 64]
    assert m.run(compaction.compaction_deferred, zone, 8) == 0  # a smaller order did not fail
    m.run(compaction.compaction_defer_reset, zone, 9, 1)
    assert m.run(compaction.compaction_deferred, zone, 9) == 0


def test_the_whole_zone_is_scanned_once():
    sim = a_machine()
    pfns = fill(sim)
    for pfn in pfns[::2]:
        sim.machine.run(free_pages, pfn, 0)
    m = sim.machine
    m.run(compaction.describe_run, 1, -1, compaction.MIGRATE_SYNC, 0, 1, 0)
    assert m.run(compaction.compact_zone) == COMPACT_COMPLETE
    zone = 1 * r.ZONE_STRIDE
    blocks = (int(m.zone[zone + r.Z_END_PFN]) >> 9) - (int(m.zone[zone + r.Z_START_PFN]) >> 9)
    assert m.vmstat[VMSTAT_NAMES.index("compact_migrate_scanned")] == blocks * 512  # kernel pages do not move: no places were looked for
    assert np.all(m.cc[[r.CC_NR_FREEPAGES, r.CC_NR_MIGRATEPAGES]] == 0)


@pytest.mark.parametrize("proactiveness, low, high", [(0, 100, 100), (20, 80, 90), (95, 5, 15), (100, 5, 15)])
def test_proactive_marks(proactiveness, low, high):
    m = a_machine().machine
    m.sc[r.SC_PROACTIVENESS] = proactiveness
    assert (m.run(compaction.fragmentation_score_wmark, 1), m.run(compaction.fragmentation_score_wmark, 0)) == (low, high)


def mixed_folios(sim: Simulation, order: int, blocks: int) -> tuple[int, int, int]:
    """A task whose range is made of folios of an order, every other one unmapped again: its mm, first virtual page, pages."""
    size = 4 << order
    write(sim, f"/sys/kernel/mm/transparent_hugepage/hugepages-{size}kB/enabled", "always")
    sim.spawn("A")
    pages = blocks << order
    addr = sim.mmap("A", pages << 12, prot="rw", flags={"fixed"}, addr=1 << 32)
    sim.touch("A", addr, pages, WRITE)
    for block in range(0, blocks, 2):
        sim.munmap("A", addr + (block << order << 12), 4096 << order)
    return int(sim.machine.task[sim.tasks["A"].index * r.TASK_STRIDE + r.T_MM]), addr >> 12, pages


def test_large_folios_move_whole():
    sim = a_machine()
    mm, vpn, pages = mixed_folios(sim, 4, 800)
    before = frames(sim, mm, vpn, pages)
    assert len(before) == pages // 2 and events(sim, "pgmigrate_success")["pgmigrate_success"] == 0
    assert write(sim, COMPACT_MEMORY, "1") == 0
    after = frames(sim, mm, vpn, pages)
    moved = [page for page in before if before[page] != after[page]]
    assert list(after) == list(before) and len(set(after.values())) == pages // 2
    whole = [page for page in moved if (page - vpn) % 16 == 0 and sim.machine.page[after[page] * 4 + 2] & PG_HEAD]
    assert len(whole) >= 10 and all(after[page + i] == after[page] + i for page in whole for i in range(16))
    assert all(after[page] % 16 == 0 for page in whole)
    split = int(sim.machine.mthp[4 * r.MTHP_STRIDE + r.MTHP_SPLIT])  # as long as smaller places wait, no block of 16 is looked for
    assert len(whole) * 16 <= len(moved) <= (len(whole) + split) * 16
    counts = events(sim, "compact_") | events(sim, "pgmigrate_")
    assert counts["pgmigrate_success"] == len(moved)
    assert counts["compact_isolated"] >= 2 * len(moved)
    assert sim.check_state() == []
    sim.exit("A")
    assert sim.check_state() == []


@pytest.mark.parametrize("order, wanted, skipped", [(0, 1, 0), (4, -1, 0), (4, 4, 1), (5, 4, 1), (4, 5, 0), (8, 9, 0), (9, -1, 1), (9, 10, 1)])
def test_folios_as_large_as_the_block_that_is_wanted_stay(order, wanted, skipped):
    assert a_machine().machine.run(compaction_block.skip_isolation_on_order, order, wanted) == skipped


def test_a_folio_mapped_in_part_is_split_before_it_moves():
    sim = a_machine()
    mm, vpn, pages = mixed_folios(sim, 4, 800)
    for block in range(1, 800, 2):
        sim.munmap("A", (vpn + 16 * block + 3) << 12, 4096)
    before = frames(sim, mm, vpn, pages)
    row = 4 * r.MTHP_STRIDE
    assert sim.machine.mthp[row + r.MTHP_NR_ANON_PARTIALLY_MAPPED] == 400
    assert write(sim, COMPACT_MEMORY, "1") == 0
    after = frames(sim, mm, vpn, pages)
    moved = [page for page in before if before[page] != after[page]]
    split = int(sim.machine.mthp[row + r.MTHP_SPLIT])
    assert list(after) == list(before) and len(moved) == events(sim, "pgmigrate_success")["pgmigrate_success"] > 15
    assert split >= len(moved) // 15 and sim.machine.mthp[row + r.MTHP_NR_ANON_PARTIALLY_MAPPED] == 400 - split
    assert sim.check_state() == []
