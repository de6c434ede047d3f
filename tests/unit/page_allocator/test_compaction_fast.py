"""Compaction's short cuts on a zone of 32 pageblocks: what the free lists offer and how they turn, what capture takes, where a run begins."""

from __future__ import annotations

import numpy as np
import pytest
from zone_machine import ZoneMachine

from mmlab.kernels.jit import kernel
from mmlab.kernels.lists import list_make_first, list_make_last
from mmlab.mm import compaction, compaction_fast, compaction_reset
from mmlab.model import rows as r
from mmlab.model.const import MIGRATE_MOVABLE, MIGRATE_UNMOVABLE
from mmlab.model.page import PG_LRU
from mmlab.model.vmstat import V_COMPACT_ISOLATED
from mmlab_linux.memory_model.sparsemem_vmemmap import SPARSEMEM_VMEMMAP
from mmlab_linux.page_allocator.buddy import BUDDY
from mmlab_linux.page_allocator.free_lists import free_head

@kernel
def make_first(m, head, pfn):
    list_make_first(m, head, pfn)
    return 0


@kernel
def make_last(m, head, pfn):
    list_make_last(m, head, pfn)
    return 0


ORDER = 5  # of the free blocks: past the per-CPU lists


@pytest.fixture(scope="module")
def booted():
    return ZoneMachine(BUDDY, "64M", memory_model=SPARSEMEM_VMEMMAP)


@pytest.fixture
def z(booted):
    """Everything is in use."""
    booted.reset()
    booted.m.cc[:] = booted.m.compact[:] = booted.m.block_skip[:] = 0
    booted.m.vmstat[:] = 0
    booted.row[r.Z_WMARK_MIN] = 0
    for _ in range(16):
        assert booted.alloc(10) >= 0
    return booted


def at(z: ZoneMachine, block: int) -> int:
    """First frame of a pageblock of the zone."""
    return z.start + block * 512


def free(z: ZoneMachine, *blocks: int) -> None:
    """The first 32 pages of each pageblock, one after the other: the last is first on the list."""
    for block in blocks:
        z.free(at(z, block), ORDER)
    assert listed(z) == list(reversed(blocks))


def listed(z: ZoneMachine) -> list[int]:
    """Pageblocks of the free blocks, as their list has them."""
    return [(pfn - z.start) // 512 for pfn in z.free_list(ORDER)]


def describe(z: ZoneMachine, order: int = 9, migrate: int = 0, free: int = 31, migratetype: int = MIGRATE_MOVABLE, wanted: int = 32) -> np.ndarray:
    """An asynchronous direct run with its scanners at two pageblocks and `wanted` pages that need places: m.cc."""
    z.m.run(compaction.describe_run, z.zone, order, compaction.MIGRATE_ASYNC, migratetype, 0, 1)
    z.m.cc[[r.CC_MIGRATE_PFN, r.CC_FREE_PFN, r.CC_NR_MIGRATEPAGES, r.CC_SEARCH_ORDER]] = at(z, migrate), at(z, free), wanted, order
    return z.m.cc


@pytest.mark.parametrize("block, first, last", [(2, [2, 1, 4, 3], [1, 4, 3, 2]), (4, [4, 3, 2, 1], [3, 2, 1, 4]), (1, [1, 4, 3, 2], [4, 3, 2, 1])])
def test_lists_turn(z, block, first, last):
    free(z, 1, 2, 3, 4)
    head = z.m.run(free_head, z.zone, ORDER, MIGRATE_MOVABLE)
    z.m.run(make_first, head, at(z, block))
    assert listed(z) == first
    z.m.run(make_last, head, at(z, block))
    assert listed(z) == last and z.check() == 0


def test_the_migrate_scanner_goes_to_a_block_that_is_free_in_part(z):
    free(z, 20, 3, 10)
    cc = describe(z)
    # the first half of what is between the scanners ends in block 15
    assert z.m.run(compaction_fast.fast_find_migrateblock) == at(z, 10)
    assert listed(z) == [3, 20, 10] and cc[r.CC_FAST_START_PFN] == at(z, 10) and cc[r.CC_MIGRATE_SCANNED] == 1
    cc[r.CC_MIGRATE_PFN] = at(z, 8)  # later an eighth of it: (31 - 8) / 8 blocks further, which is block 10
    z.m.block_skip[at(z, 3) >> 9] = 1
    z.free(at(z, 9), ORDER)
    assert listed(z) == [9, 3, 20, 10]
    assert z.m.run(compaction_fast.fast_find_migrateblock) == at(z, 9)
    assert listed(z) == [3, 20, 10, 9] and cc[r.CC_FAST_START_PFN] == at(z, 9)


def test_a_search_in_vain_goes_back_once_and_looks_at_less_next_time(z):
    free(z, 30)
    cc = describe(z, migrate=8)
    cc[r.CC_FAST_START_PFN] = at(z, 4)
    assert z.m.run(compaction_fast.fast_find_migrateblock) == at(z, 4) == cc[r.CC_MIGRATE_PFN]
    assert z.m.run(compaction_fast.freelist_scan_limit) == 32 // 2 + 1
    cc[r.CC_MIGRATE_PFN] = at(z, 12)
    assert z.m.run(compaction_fast.fast_find_migrateblock) == at(z, 12)
    assert cc[r.CC_FAST_SEARCH_FAIL] == 2 and z.m.run(compaction_fast.freelist_scan_limit) == 32 // 4 + 1


@pytest.mark.parametrize("change", [{"order": 3}, {"migratetype": MIGRATE_UNMOVABLE}, r.CC_IGNORE_SKIP, r.CC_FINISH_PAGEBLOCK])
def test_small_orders_unmovable_requests_and_whole_runs_walk(z, change):
    free(z, 10)
    cc = describe(z, **(change if isinstance(change, dict) else {}))
    if not isinstance(change, dict):
        cc[change] = 1
    assert z.m.run(compaction_fast.fast_find_migrateblock) == at(z, 0) and cc[r.CC_FAST_SEARCH_FAIL] == 0


def test_places_come_from_the_upper_quarter_or_are_the_highest_of_the_upper_half(z):
    free(z, 5, 20, 16, 27)
    cc = describe(z)
    # between blocks 0 and 31 the upper quarter begins in block 23, the upper half in block 15; searched from the tail: 5, 20, 16, 27
    z.m.run(compaction_fast.fast_isolate_freepages)
    assert listed(z) == [16, 20, 5] and cc[r.CC_NR_FREEPAGES] == 32 == z.m.vmstat[V_COMPACT_ISOLATED]
    assert cc[r.CC_FREE_SCANNED] == 4 + 31 and cc[r.CC_SEARCH_ORDER] == ORDER
    assert z.m.compact[z.zone * r.CZ_STRIDE + r.CZ_CACHED_FREE] == at(z, 26)
    cc[r.CC_NR_MIGRATEPAGES] = 64
    z.m.run(compaction_fast.fast_isolate_freepages)
    assert listed(z) == [5, 16] and cc[r.CC_NR_FREEPAGES] == 64  # 20, before which the list was turned


def test_without_a_place_the_free_scanner_starts_at_the_highest_one_seen(z):
    free(z, 5, 12)
    cc = describe(z)
    z.m.run(compaction_fast.fast_isolate_freepages)
    assert cc[r.CC_NR_FREEPAGES] == 0 and cc[r.CC_FREE_PFN] == at(z, 15)  # both are below the upper half, at whose start the walk begins
    cc = describe(z, free=20)  # ... block 10
    z.m.run(compaction_fast.fast_isolate_freepages)
    assert cc[r.CC_NR_FREEPAGES] == 32 and listed(z) == [5]


def test_places_around_one_are_taken_by_runs_that_have_time(z):
    z.free(at(z, 30), ORDER)
    z.free(at(z, 30) + 64, ORDER)
    z.free(at(z, 2), ORDER)  # 32 pages stay above min
    cc = describe(z, wanted=64)
    cc[r.CC_MODE] = compaction.MIGRATE_SYNC_LIGHT
    z.m.run(compaction_fast.fast_isolate_freepages)
    assert cc[r.CC_NR_FREEPAGES] == 64 and listed(z) == [2]


@pytest.mark.parametrize(
    "capture, wanted, zone, captured",
    [(6, MIGRATE_MOVABLE, 0, True), (6, MIGRATE_UNMOVABLE, 0, False), (7, MIGRATE_MOVABLE, 0, False), (6, MIGRATE_MOVABLE, 1, False),
     (0, MIGRATE_MOVABLE, 0, False)],
)  # fmt: skip
def test_capture_takes_the_block_that_comes_together(z, capture, wanted, zone, captured):
    cc = describe(z, migratetype=wanted)
    cc[r.CC_CAPTURE], cc[r.CC_CAPTURED], cc[r.CC_ZONE] = capture, -1, z.zone + zone
    z.free(at(z, 4), ORDER)
    z.free(at(z, 4) + 32, ORDER)
    assert cc[r.CC_CAPTURED] == (at(z, 4) if captured else -1)
    assert z.free_list(6) == ([] if captured else [at(z, 4)]) and z.free_list(ORDER) == []
    assert z.nr_free() == (0 if captured else 64) and z.check() == 0


def test_runs_begin_at_the_outermost_blocks_that_are_worth_it(z):
    free(z, 3, 20)
    m, row = z.m, z.m.compact[z.zone * r.CZ_STRIDE : (z.zone + 1) * r.CZ_STRIDE]
    m.page[2::4][at(z, 2) + 8] |= PG_LRU
    m.block_skip[:] = 1
    m.run(compaction_reset.reset_isolation_suitable, z.zone)
    assert np.all(m.block_skip == 1)  # only after a run to the end for an allocation
    row[r.CZ_BLOCKSKIP_FLUSH] = 1
    m.run(compaction_reset.reset_isolation_suitable, z.zone)
    assert row[r.CZ_BLOCKSKIP_FLUSH] == 0
    assert row[r.CZ_INIT_MIGRATE] == row[r.CZ_CACHED_MIGRATE] == row[r.CZ_CACHED_MIGRATE_SYNC] == at(z, 2)
    assert row[r.CZ_INIT_FREE] == row[r.CZ_CACHED_FREE] == at(z, 21) - 1
    # block 3 is a place below the middle: only the scanner from above clears places before a source is known
    assert sorted((np.flatnonzero(m.block_skip[z.start >> 9 : z.end >> 9] == 0)).tolist()) == [2, 3, 20]
