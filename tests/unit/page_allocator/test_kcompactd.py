"""kcompactd: woken for blocks that are missing, by requests that cannot compact and by kswapd; and by itself when memory is too fragmented."""

from __future__ import annotations

import pytest
from test_compaction import a_machine, events, fragmented, free_blocks

from mmlab.mm import compaction, kcompactd
from mmlab.mm.page_alloc import alloc_pages
from mmlab.mm.kswapd import wakeup_kswapd
from mmlab.model import rows as r
from mmlab.model.const import WRITE
from mmlab.model.gfp import GFP_DIRECT_RECLAIM, GFP_KSWAPD_RECLAIM, GFP_TRANSHUGE
from mmlab.procfs import read, write
from mmlab.simulation import Simulation

DEFER = (GFP_TRANSHUGE & ~GFP_DIRECT_RECLAIM) | GFP_KSWAPD_RECLAIM
PROACTIVENESS = "/proc/sys/vm/compaction_proactiveness"


def without_huge_blocks() -> Simulation:
    """A machine with a quarter of a large range in use, and no free block of order 9."""
    sim = a_machine("96M")
    write(sim, PROACTIVENESS, "0")
    fragmented(sim, 6_000)
    while free_blocks(sim, 9):
        assert sim.machine.run(alloc_pages, DEFER & ~GFP_KSWAPD_RECLAIM, 9, 0) >= 0
    return sim


def test_a_request_that_cannot_compact_wakes_it():
    sim = without_huge_blocks()
    sim.machine.node[r.N_KSWAPD_FAILURES] = 16  # kswapd has given up: there is nothing that it could reclaim
    assert sim.machine.run(alloc_pages, DEFER, 9, 0) < 0
    assert events(sim, "compact_daemon_wake") == {"compact_daemon_wake": 0}  # it has not run yet
    sim.sleep(1)
    counts = events(sim, "compact_")
    assert counts["compact_daemon_wake"] == 1 and counts["compact_stall"] == 0
    assert counts["compact_daemon_migrate_scanned"] == counts["compact_migrate_scanned"] > 0
    assert counts["compact_daemon_free_scanned"] == counts["compact_free_scanned"] > 0
    assert free_blocks(sim, 9) >= 1
    assert sim.machine.run(alloc_pages, DEFER, 9, 0) >= 0
    assert sim.check_state() == []


def test_one_that_may_compact_by_itself_does_not():
    sim = without_huge_blocks()
    assert sim.machine.run(alloc_pages, GFP_TRANSHUGE | GFP_KSWAPD_RECLAIM, 9, 0) >= 0
    sim.sleep(1)
    counts = events(sim, "compact_")
    assert counts["compact_stall"] == 1 and counts["compact_daemon_wake"] == 0


def test_kswapd_hands_over_what_it_cannot_get_by_freeing_pages():
    sim = without_huge_blocks()
    row = sim.machine.node
    assert sim.machine.run(wakeup_kswapd, 0, 0, 3) == 1  # of single pages there are enough
    row[r.N_KSWAPD_AWAKE], row[r.N_KSWAPD_IDX], row[r.N_KSWAPD_ORDER], row[r.N_KSWAPD_ALLOC_ORDER] = 1, 3, 0, 9
    sim.machine.sc[r.SC_KSWAPD_AWAKE] = 1
    sim.sleep(1)
    assert row[r.N_KSWAPD_AWAKE] == 0
    assert events(sim, "compact_daemon_wake") == {"compact_daemon_wake": 1} and free_blocks(sim, 9) >= 1


def test_a_run_that_finds_nothing_puts_the_next_off():
    sim = without_huge_blocks()
    m = sim.machine
    m.node[r.N_KCOMPACTD_ORDER] = 10  # blocks of two pageblocks: none comes together by moving within one
    m.run(kcompactd.kcompactd_do_work, 0)
    zone = 1 * r.CZ_STRIDE
    failed = m.compact[zone + r.CZ_DEFER_SHIFT]
    assert m.node[r.N_KCOMPACTD_ORDER] == 0 and m.node[r.N_KCOMPACTD_IDX] == 3
    assert failed in (0, 1) and (failed == 0) == (free_blocks(sim, 10) > 0)


def scattered(sim: Simulation, step: int = 8) -> None:
    """Most memory in use, but one page in `step`: what is free is in single pages."""
    sim.spawn("A")
    free = sum(int(sim.machine.zone[zone * r.ZONE_STRIDE + r.Z_FREE]) for zone in range(sim.machine.sizes.nr_zones))
    pages = free - 1500
    addr = sim.mmap("A", pages << 12, prot="rw")
    sim.touch("A", addr, pages, WRITE)
    for page in range(0, pages, step):
        sim.madvise("A", addr + (page << 12), 1 << 12, "dontneed")


def test_memory_too_fragmented_is_compacted_without_being_asked():
    sim = a_machine("96M")
    scattered(sim, 2)
    free_blocks(sim, 9)  # pages on per-CPU lists count for nothing
    score = sim.machine.run(compaction.fragmentation_score_node, 0)
    assert read(sim, PROACTIVENESS) == "20\n" and score > 90
    sim.machine.node[r.N_KCOMPACTD_ORDER] = 0  # nobody asks: not what kswapd asked for after the boosts, either
    sim.sleep(600)
    counts = events(sim, "compact_")
    assert counts["compact_daemon_wake"] == 0 and counts["compact_daemon_migrate_scanned"] == counts["compact_migrate_scanned"] > 0
    assert sim.machine.run(compaction.fragmentation_score_node, 0) < score
    assert sim.check_state() == []


def test_not_below_the_mark_nor_when_switched_off():
    sim = a_machine("96M")
    sim.sleep(2000)
    assert events(sim, "compact_migrate_scanned") == {"compact_migrate_scanned": 0}
    assert write(sim, PROACTIVENESS, "0") == 0 and write(sim, PROACTIVENESS, "101") == -22
    scattered(sim)
    sim.sleep(2000)
    assert events(sim, "compact_migrate_scanned") == {"compact_migrate_scanned": 0}
    assert write(sim, PROACTIVENESS, "20") == 0  # looks at once
    sim.sleep(1)
    assert events(sim, "compact_daemon_migrate_scanned")["compact_daemon_migrate_scanned"] > 0


def test_a_run_without_progress_is_not_repeated_soon():
    sim = a_machine("96M")
    m = sim.machine
    scattered(sim)
    sim.sleep(600)
    m.node[r.N_KCOMPACTD_NEXT_NS] = m.sc[r.SC_NOW_NS]
    while m.run(compaction.fragmentation_score_node, 0) > 90:
        before = m.run(compaction.fragmentation_score_node, 0)
        wait = m.run(kcompactd.kcompactd)
        after = m.run(compaction.fragmentation_score_node, 0)
        assert wait == (500_000_000 << 6 if after >= before else 500_000_000)
        if after >= before:
            break
        m.node[r.N_KCOMPACTD_NEXT_NS] = m.sc[r.SC_NOW_NS]


@pytest.mark.parametrize("cpus", [1, 2])
def test_a_proactive_run_takes_its_time(cpus):
    sim = a_machine("96M", cpus)
    m = sim.machine
    write(sim, PROACTIVENESS, "0")
    scattered(sim, 2)
    moved = events(sim, "pgmigrate_success")["pgmigrate_success"]
    m.cost[r.COST_MIGRATE_FOLIO], m.cost[r.COST_MIGRATE_PAGE] = 0, 100_000
    write(sim, PROACTIVENESS, "100")
    start = m.sc[r.SC_NOW_NS]
    sim.sleep(100)
    batch = 512 // 2  # half of each pageblock is in use; what is taken of one at a time moves without a break
    assert 100 <= (m.sc[r.SC_NOW_NS] - start) / 1e6 < 100 + batch / 10
    assert 1000 - batch < events(sim, "pgmigrate_success")["pgmigrate_success"] - moved < 1000 + batch
    assert m.node[r.N_KCOMPACTD_ZONE]
    dma = events(sim, "compact_daemon_migrate_scanned")["compact_daemon_migrate_scanned"]
    assert dma <= 4096  # a zone counts at its end
    before = events(sim, "compact_migrate_scanned")["compact_migrate_scanned"]
    assert write(sim, "/proc/sys/vm/compact_memory", "1") == 0  # takes the lists, but leaves kcompactd its run
    assert sim.check_state() == []
    other = events(sim, "compact_migrate_scanned")["compact_migrate_scanned"] - before
    while m.node[r.N_KCOMPACTD_ZONE]:
        sim.sleep(100)
    counts = events(sim, "compact_")
    assert dma < counts["compact_daemon_migrate_scanned"] == counts["compact_migrate_scanned"] - other
    assert sim.check_state() == []
