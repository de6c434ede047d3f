"""Linux's classic LRU, op by op; the figures follow from the rules that the policy's files name."""

import random

import numpy as np
import pytest
from lru_machine import ANON_PAGE, DIRECT, FILE_PAGE, LruMachine

from mmlab.kernels.jit import JIT_OFF
from mmlab.model import rows as r
from mmlab.model.const import (
    LRU_ACTIVE_ANON, LRU_ACTIVE_FILE, LRU_INACTIVE_ANON, LRU_INACTIVE_FILE, LRU_UNEVICTABLE, NOTE_SKIPPED_DEACTIVATE, SCAN_FORCE_DEACTIVATE,
    SCAN_KSWAPD,
)
from mmlab.model.page import PG_ACTIVE, PG_HEAD, PG_LRU, PG_MLOCKED, PG_REFERENCED, PG_WORKINGSET, PG_WRITEBACK
from mmlab.testing.python_build import digest_arrays, evidence_of
from mmlab_linux.reclaimer.lruvec import STAT_STRIDE
from mmlab_linux.reclaimer.two_list import TWO_LIST, Params

EXACT_STATS = Params(stats_period_ms=0)


def machine(**more):
    return LruMachine(TWO_LIST, **{"params": EXACT_STATS, **more})


def active(lru, pfns, flags=FILE_PAGE):
    """Add pages that start active, as after a refault."""
    lru.add(pfns, flags | PG_ACTIVE)
    lru.op("drain", 0)


def test_pages_join_their_list_in_runs_of_31():
    lru = machine()
    lru.add(range(30))
    assert lru.size(LRU_INACTIVE_FILE) == 0
    lru.add([30])
    assert lru.size(LRU_INACTIVE_FILE) == 31
    lru.add(range(31, 40), ANON_PAGE)
    assert lru.size(LRU_INACTIVE_ANON) == 0
    lru.op("drain", 0)
    assert (lru.size(LRU_INACTIVE_FILE), lru.size(LRU_INACTIVE_ANON)) == (31, 9)
    assert lru.op("check") == 0


def test_a_large_folio_joins_at_once_and_counts_all_its_pages():
    lru = machine()
    lru.machine.pagex[4 * 512 + 3] = 9 << 8  # order 9
    lru.add([3])
    lru.add([512], ANON_PAGE | PG_HEAD)
    assert (lru.size(LRU_INACTIVE_FILE), lru.size(LRU_INACTIVE_ANON)) == (1, 512)
    lru.op("folio_removed", 512)
    assert lru.size(LRU_INACTIVE_ANON) == 0


def test_mark_accessed_activates_at_the_second_time_only():
    lru = machine()
    lru.add(range(1000))
    lru.op("drain", 0)
    for expected in (0, 1000, 1000):
        lru.each("folio_accessed", range(1000))
        lru.op("drain", 0)
        assert lru.vmstat("pgactivate") == lru.size(LRU_ACTIVE_FILE) == expected
    assert lru.flags[0] & PG_REFERENCED  # of the third time
    assert lru.op("check") == 0


def test_a_page_in_the_add_batch_that_is_marked_twice_starts_active_uncounted():
    lru = machine()
    lru.add([7])
    lru.each("folio_accessed", [7, 7])
    lru.op("drain", 0)
    assert (lru.size(LRU_ACTIVE_FILE), lru.vmstat("pgactivate")) == (1, 0)


def test_oldest_pages_go_first_and_32_at_a_time():
    lru = machine()
    lru.add(range(310))
    assert lru.shrink(0, nr_to_reclaim=40) == 64  # enough after the second round
    assert lru.freed() == list(range(64))
    assert lru.shrink(3) == 246 >> 3
    assert lru.freed() == list(range(64, 94))
    assert lru.op("check") == 0


def test_a_young_page_survives_exactly_one_scan():
    lru = machine()
    lru.add(range(62))
    lru.access(range(62))
    assert lru.shrink(0) == 0
    assert lru.vmstat("pgscan_file") == 62
    assert lru.shrink(0) == 62
    assert (lru.vmstat("pgscan_file"), lru.vmstat("pgscan_direct"), lru.vmstat("pgsteal_direct")) == (124, 124, 62)


def test_a_page_young_at_two_scans_becomes_active():
    lru = machine()
    lru.add(range(62))
    lru.access(range(62))
    lru.shrink(0)
    lru.access(range(10))
    assert lru.shrink(0) == 52
    assert (lru.vmstat("pgactivate"), lru.size(LRU_ACTIVE_FILE), lru.size(LRU_INACTIVE_FILE)) == (10, 10, 0)
    assert lru.op("check") == 0


def test_a_page_under_writeback_becomes_active_and_is_rotated_when_it_is_done():
    lru = machine()
    lru.add(range(31), FILE_PAGE)
    lru.flags[5] |= PG_WRITEBACK
    assert lru.shrink(0) == 30
    assert lru.size(LRU_ACTIVE_FILE) == 1
    lru.add(range(100, 131))
    lru.flags[5] &= ~np.uint32(PG_WRITEBACK)
    lru.op("folio_rotate", 5)
    lru.op("drain", 0)
    lru.freed()
    lru.shrink(2, nr_to_reclaim=1)
    assert lru.freed()[0] == 5
    assert lru.vmstat("pgrotated") == 1


def test_mlocked_pages_wait_on_the_unevictable_list():
    lru = machine()
    lru.add(range(31), FILE_PAGE | PG_MLOCKED)
    assert (lru.size(LRU_UNEVICTABLE), lru.vmstat("unevictable_pgs_culled")) == (31, 31)
    assert lru.shrink(0) == 0
    for pfn in range(31):
        lru.op("folio_removed", pfn)
        lru.flags[pfn] &= ~np.uint32(PG_MLOCKED)
        lru.op("folio_added", pfn)
    assert (lru.size(LRU_UNEVICTABLE), lru.size(LRU_INACTIVE_FILE), lru.vmstat("unevictable_pgs_rescued")) == (0, 31, 31)
    assert lru.op("check") == 0


def test_removed_from_list_and_from_batches():
    lru = machine()
    lru.add(range(62))
    lru.add(range(62, 70))  # in the add batch
    lru.each("folio_accessed", [1, 1, 2, 2])  # in the activate batch, still on the list
    lru.each("folio_removed", [0, 1, 65])
    lru.op("drain", 0)
    assert (lru.size(LRU_INACTIVE_FILE), lru.size(LRU_ACTIVE_FILE)) == (70 - 3 - 1, 1)
    assert lru.op("check") == 0
    assert lru.shrink(0) == 66
    assert sorted(lru.freed()) == [3, *[pfn for pfn in range(4, 70) if pfn != 65]]


def test_cold_pages_leave_the_active_list():
    lru = machine()
    active(lru, range(10))
    lru.add(range(10, 20))
    lru.op("drain", 0)
    lru.each("folio_deactivate", range(5, 15))
    lru.op("drain", 0)
    assert (lru.size(LRU_ACTIVE_FILE), lru.size(LRU_INACTIVE_FILE), lru.vmstat("pgdeactivate")) == (5, 15, 5)


def test_anonymous_pages_are_spared_while_there_are_enough_inactive_file_pages():
    for swappiness in (0, 60, 200):
        lru = machine(swap=10_000)
        lru.machine.sc[r.SC_SWAPPINESS] = swappiness
        lru.add(range(2000), ANON_PAGE)
        lru.add(range(2000, 4000))
        lru.op("drain", 0)
        assert lru.shrink(2) == 500
        assert lru.vmstat("pgscan_anon") == 0


@pytest.mark.parametrize(("swappiness", "anon", "file"), [(0, 0, 250), (60, 75, 175), (100, 125, 125), (200, 250, 0)])
def test_swappiness_shares_the_scan_when_file_pages_are_all_active(swappiness, anon, file):
    lru = machine(swap=10_000)
    lru.machine.sc[r.SC_SWAPPINESS] = swappiness
    lru.add(range(2000), ANON_PAGE)
    active(lru, range(2000, 4000))
    assert lru.shrink(3) == lru.vmstat("pgscan_anon") == anon  # of 2000 >> 3
    assert lru.vmstat("pgrefill") == lru.vmstat("pgdeactivate") == file
    assert lru.size(LRU_ACTIVE_FILE) == 2000 - file


def test_without_swap_only_file_pages_are_scanned():
    lru = machine(swap=0)
    lru.add(range(2000), ANON_PAGE)
    active(lru, range(2000, 4000))
    lru.shrink(3)
    assert (lru.vmstat("pgscan_anon"), lru.vmstat("pgrefill")) == (0, 250)


def test_cost_turns_the_scan_to_the_cheaper_kind():
    # 4000 pages: a cost of 1000 or more would be halved. file cost 900: total 900, anon weight 900, file weight 1800,
    # shares 60 * 2701 // 901 = 179 and 140 * 2701 // 1801 = 209: 250 * 179 // 388 = 115 anonymous pages
    lru = machine(swap=10_000)
    lru.add(range(2000), ANON_PAGE)
    active(lru, range(2000, 4000))
    lru.machine.states["reclaimer"].vec[2] = 900
    assert lru.shrink(3) == 115


def test_pages_of_too_high_zones_are_passed_over():
    lru = machine()
    lru.add(range(62))
    low_zones = DIRECT & 255 | 0 << 8
    assert lru.shrink(0, flags=low_zones) == 0  # no list has pages in zone 0, so none is scanned
    assert lru.vmstat("pgskip_normal") == 0
    lru.machine.zone[r.Z_INDEX] = 3
    assert lru.shrink(0, flags=DIRECT & 255 | 2 << 8) == 0
    assert lru.shrink(0) == 62


def test_refault_within_the_active_list_starts_active():
    lru = machine()
    active(lru, range(10))
    shadow = lru.op("eviction_shadow", 100)
    for pfn in range(9):
        lru.op("eviction_shadow", 200 + pfn)
    lru.flags[100] |= FILE_PAGE
    assert lru.op("workingset_refault", 100, shadow) == 1  # distance 10, working set 10
    # the activation moved the clock on: distance 11
    assert lru.op("workingset_refault", 100, shadow) == 0


def test_refault_of_a_page_that_had_been_active_is_restored():
    lru = machine()
    active(lru, range(10))
    lru.flags[100] |= PG_WORKINGSET
    assert lru.op("workingset_refault", 100, lru.op("eviction_shadow", 100)) == 3


def test_anonymous_refaults_compete_with_file_pages_and_with_swap_also_the_reverse():
    lru = machine(swap=100)
    lru.add(range(31))  # inactive file
    lru.flags[100] |= ANON_PAGE
    lru.flags[200] |= FILE_PAGE
    assert lru.op("workingset_refault", 100, lru.op("eviction_shadow", 100)) == 1  # 31 file pages
    assert lru.op("workingset_refault", 200, lru.op("eviction_shadow", 200)) == 0  # no active file, no anonymous pages
    lru.add(range(300, 331), ANON_PAGE)
    assert lru.op("workingset_refault", 200, lru.op("eviction_shadow", 200)) == 1


def test_decisions_lag_behind_until_the_statistics_are_refreshed():
    lru = machine(params=Params())
    lru.shrink(12)  # the first refresh, of empty lists
    active(lru, range(310))
    lru.shrink(0)
    assert lru.vmstat("pgdeactivate") == 0
    lru.machine.sc[r.SC_NOW_NS] = 2_000_000_000
    lru.shrink(0)
    assert lru.vmstat("pgdeactivate") == 310


def test_reclaim_that_got_nothing_says_so_and_deactivates_by_force_when_told():
    lru = machine(params=Params())
    lru.shrink(12)
    active(lru, range(310))
    for priority in range(12, -1, -1):
        assert lru.shrink(priority) == 0
    assert lru.vmstat("pgdeactivate") == 0
    assert lru.machine.sc[r.SC_RECLAIM_NOTES] & NOTE_SKIPPED_DEACTIVATE
    lru.shrink(3, flags=DIRECT | SCAN_FORCE_DEACTIVATE)
    assert lru.vmstat("pgdeactivate") == 310 >> 3


@pytest.mark.parametrize(("inactive", "deactivated"), [(238_312, True), (238_313, False)])
def test_inactive_ratio_grows_with_memory(inactive, deactivated):
    # 10 GiB of file pages: ratio sqrt(10 * 10) = 10; 238 312 * 10 is less than the other 2 383 128, 238 313 * 10 is not less than 2 383 127
    lru = machine(params=Params())
    active(lru, range(310))
    lru.machine.states["reclaimer"].stats[:STAT_STRIDE] = [0, 0, inactive, 2_621_440 - inactive, 0, 0, 0, 0]
    lru.machine.states["reclaimer"].next_refresh_ns[0] = 1 << 60
    lru.shrink(0)
    assert (lru.vmstat("pgdeactivate") > 0) is deactivated


def test_statistics_of_the_lists_lag():
    lru = machine(params=Params())
    active(lru, range(310))
    stats = lru.machine.states["reclaimer"].stats
    sizes = {}
    for ms in (1049, 1050, 3065, 3066):  # first after 1.05 s, then each 2.016
        if ms == 3065:
            active(lru, range(310, 341))
        lru.machine.sc[r.SC_NOW_NS] = ms * 1_000_000
        lru.shrink(0)
        sizes[ms] = stats[LRU_ACTIVE_FILE] + stats[LRU_INACTIVE_FILE]
    assert sizes == {1049: 0, 1050: 310, 3065: 310, 3066: 31}  # all 310 were reclaimed at once


def test_kswapd_keeps_old_anonymous_pages_at_hand():
    lru = machine(swap=1000)
    lru.machine.node[r.N_KSWAPD_IDX] = 3
    active(lru, range(310), ANON_PAGE)
    lru.op("age_node", 0)
    assert (lru.size(LRU_INACTIVE_ANON), lru.size(LRU_ACTIVE_ANON), lru.vmstat("pgdeactivate")) == (32, 278, 32)
    assert lru.flags[0] & PG_WORKINGSET


class Sequences:
    """Random ops over 600 frames; `drive` is what the builds must agree on."""

    def drive(self, seed):
        lru = machine(params=Params(stats_period_ms=1), frames=1024, swap=400)
        rng = random.Random(seed)
        known: dict[int, int] = {}  # pfn -> shadow, of pages that were evicted
        answers = []
        for step in range(1500):
            lru.machine.sc[r.SC_NOW_NS] += 20_000
            pfn = rng.randrange(600)
            there = lru.flags[pfn] & (ANON_PAGE | FILE_PAGE) != 0
            what = rng.randrange(12)
            if not there:
                lru.flags[pfn] |= rng.choice((FILE_PAGE, FILE_PAGE, ANON_PAGE, FILE_PAGE | PG_MLOCKED))
                if pfn in known:
                    answer = lru.op("workingset_refault", pfn, known.pop(pfn))
                    lru.flags[pfn] |= PG_ACTIVE * (answer & 1) | PG_WORKINGSET * (answer >> 1)
                    answers.append(answer)
                lru.machine.rq_object[pfn] = 0  # a frame that was reclaimed is an object's again
                lru.op("folio_added", pfn)
            elif what < 3:
                lru.op("folio_accessed", pfn)
            elif what < 7:
                lru.access([pfn])
            elif what == 7:
                lru.op(rng.choice(("folio_deactivate", "folio_rotate")), pfn)
            elif what == 8:
                lru.op("folio_removed", pfn)
                known[pfn] = lru.op("eviction_shadow", pfn)
                lru.flags[pfn] = 0
            elif step % 5 == 0:
                answers.append(lru.shrink(rng.randrange(6), rng.choice((1, 32, 100)), DIRECT | rng.choice((0, SCAN_KSWAPD))))
                lru.freed()
            assert lru.op("check") == 0
        arrays = digest_arrays(lru.machine, lru.machine.states["reclaimer"])
        return {"answers": answers, "arrays": arrays, "steals": lru.vmstat("pgsteal_file")}


def test_random_ops_keep_every_invariant():
    for seed in range(2 if JIT_OFF else 6):
        evidence = Sequences().drive(seed)
        assert evidence["steals"] > 50
        assert set(evidence["answers"][:40]) - {0}


@pytest.mark.skipif(JIT_OFF, reason="the compiled build compares itself with this one")
def test_python_build_agrees():
    ours, theirs = Sequences().drive(9), evidence_of(__file__, "Sequences", 9)
    assert theirs["answers"] == ours["answers"]
    assert [name for name in ours["arrays"] if ours["arrays"][name] != theirs["arrays"][name]] == []


def test_flags_of_freed_pages_are_clear():
    lru = machine()
    lru.add(range(31))
    lru.shrink(0)
    assert not any(int(f) & (PG_LRU | PG_ACTIVE | PG_REFERENCED) for f in lru.flags[:31])
