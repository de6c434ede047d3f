"""The scan counts per mapped page how often it was found touched; a fake rmap_walk stands for the page tables."""

import numpy as np
import pytest
from mmlab_rivals.monitor.accessed_bit_scan import ACCESSED_BIT_SCAN

from mmlab._engine.link import units_of
from mmlab.abi import HEAD_WORDS, NR_OPS, NR_SERVICES, SERVICE_INDEX
from mmlab.kernels.jit import JIT_OFF, kernel
from mmlab.kernels.pointer import State
from mmlab.model.page import PG_ANON, PG_HEAD, PG_TAIL, PG_YOUNG
from mmlab.model.rows import COST_SCAN_PAGE, NR_COSTS, NR_SCALARS, SC_MAX_PFN, SC_MONITOR_CHECKS, SC_NOW_NS
from mmlab.procfs.resident import ResidentPages
from mmlab.testing.calls import call_op

pytestmark = pytest.mark.nojit
FRAMES = 32


@kernel
def fake_rmap_walk(m, pfn, what):
    """Young entries of a page, now cleared; `what` must be RMAP_CLEAR_YOUNG."""
    young = m.young[pfn]
    m.young[pfn] = 0
    return young if what == 2 else -1000


@pytest.fixture
def m():
    sizes = {"sc": (NR_SCALARS, np.int64), "page": (4 * FRAMES, np.uint32), "pagex": (4 * FRAMES, np.uint32), "young": (FRAMES, np.int64), "cost": (NR_COSTS, np.int64)}
    machine = State("machine", {name: np.zeros(length, dtype) for name, (length, dtype) in sizes.items()}, HEAD_WORDS)
    machine.sc[SC_MAX_PFN], machine.cost[COST_SCAN_PAGE] = FRAMES, 150
    if JIT_OFF:
        machine._services = [None] * NR_SERVICES
        machine._services[SERVICE_INDEX["rmap_walk"]] = fake_rmap_walk
    else:
        fake = units_of("fake", {"fake_rmap_walk": fake_rmap_walk}, machine._type)["fake_rmap_walk"]
        machine._table[2 * NR_OPS + SERVICE_INDEX["rmap_walk"]] = fake.address()
    return machine


@pytest.fixture
def st():
    columns = {name: np.zeros(FRAMES, dtype) for name, dtype in (("nr_young", np.int32), ("nr_scans", np.int32), ("owner", np.int64), ("history", np.int64))}
    return State("monitor.accessed_bit_scan", {"interval_ms": np.array([20]), "window": np.array([2]), **columns})


def map_page(m, pfn: int, mapping: int, index: int, flags: int = PG_ANON, order: int = 0) -> None:
    """The frame holds page `index` of a mapping, mapped once."""
    m.page[4 * pfn + 2], m.page[4 * pfn + 3] = flags, 1
    m.pagex[4 * pfn], m.pagex[4 * pfn + 1], m.pagex[4 * pfn + 3] = mapping, index & 0xFFFFFFFF, (index >> 32) | (order << 8)


def row(kind: str, mapping: int, start_index: int, nr_pages: int, nr_young: int, nr_scans: int) -> dict:
    return {"kind": kind, "mapping": mapping, "start_index": start_index, "nr_pages": nr_pages, "nr_young": nr_young, "nr_scans": nr_scans}


def scan(m, st, *touched: int) -> int:
    for pfn in touched:
        m.young[pfn] = 1
    return call_op(ACCESSED_BIT_SCAN, "sample", m, st, 0)


def test_counts_scans_in_which_a_page_was_touched(m, st):
    for pfn, index in ((4, 100), (9, 101), (5, 102)):
        map_page(m, pfn, 7, index)
    assert scan(m, st, 4, 9) == 20_000_000  # ns until the next scan
    scan(m, st, 4, 9)
    scan(m, st)
    assert ACCESSED_BIT_SCAN.report(m, st) == [row("anon", 7, 100, 2, 2, 3), row("anon", 7, 102, 1, 0, 3)]


def test_a_page_costs_a_look_and_is_as_hot_as_the_last_scans_found_it(m, st):
    for pfn in (4, 5, 6):
        map_page(m, pfn, 7, pfn)
    for touched in ((4, 6), (4, 5), (4,)):
        scan(m, st, *touched)
    assert (m.sc[SC_MONITOR_CHECKS], m.sc[SC_NOW_NS]) == (9, 9 * 150)
    pages = ResidentPages(*(np.array(column) for column in ([0] * 4, [4, 5, 6, 7], [4, 5, 6, -1], [4, 5, 6, -1])))
    assert ACCESSED_BIT_SCAN.estimate(m, st, pages)[0].tolist() == [2, 1, 0, 0]  # of the last two


def test_reclaim_still_learns_of_the_access(m, st):
    map_page(m, 4, 7, 100)
    map_page(m, 5, 7, 101)
    scan(m, st, 4)
    assert [int(m.page[4 * pfn + 2]) & PG_YOUNG for pfn in (4, 5)] == [PG_YOUNG, 0]


def test_unmapped_and_tail_frames_are_not_looked_at(m, st):
    map_page(m, 8, 7, 512, PG_ANON | PG_HEAD, order=2)
    for tail in (9, 10, 11):
        map_page(m, tail, 7, 512 + tail - 8, PG_TAIL)
    scan(m, st, 3, 8, 9)
    assert ACCESSED_BIT_SCAN.report(m, st) == [row("anon", 7, 512, 4, 1, 1)]


def test_a_frame_that_got_another_page_starts_again(m, st):
    map_page(m, 4, 7, 100)
    scan(m, st, 4)
    scan(m, st, 4)
    map_page(m, 4, 7, 1 << 34)
    assert ACCESSED_BIT_SCAN.report(m, st) == []  # not scanned since
    scan(m, st, 4)
    assert ACCESSED_BIT_SCAN.report(m, st) == [row("anon", 7, 1 << 34, 1, 1, 1)]


def test_regions_do_not_cross_mappings_kinds_or_gaps(m, st):
    for pfn, mapping, index, flags in ((1, 7, 100, PG_ANON), (2, 7, 102, PG_ANON), (3, 7, 103, 0), (4, 8, 104, 0), (5, 8, 105, 0)):
        map_page(m, pfn, mapping, index, flags)
    scan(m, st)
    assert ACCESSED_BIT_SCAN.report(m, st) == [
        row("anon", 7, 100, 1, 0, 1), row("anon", 7, 102, 1, 0, 1), row("file", 7, 103, 1, 0, 1), row("file", 8, 104, 2, 0, 1),
    ]


def test_check_sees_a_page_touched_more_often_than_looked_at(m, st):
    map_page(m, 6, 7, 100)
    scan(m, st, 6)
    assert call_op(ACCESSED_BIT_SCAN, "check", m, st) == 0
    st.nr_young[6] = 2
    assert call_op(ACCESSED_BIT_SCAN, "check", m, st) == 7
