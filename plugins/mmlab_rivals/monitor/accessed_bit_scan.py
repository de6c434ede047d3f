"""Accessed-bit scan: every interval, look at each mapped page, note whether it was touched since the last time, and clear the mark.

Cost grows with memory, not with activity, and accesses between two scans count once: that is what region sampling (DAMON) improves.
Models: mm/page_idle.c page_idle_clear_pte_refs(), as idle-page tracking is used by working-set tools. Reclaim still sees a cleared access,
by PG_young. A page costs what reclaim's look at one costs. Left out: pages that left memory (their counts go with them); tail pages of large
folios. O(page frames) a scan.
"""

from typing import Any

import attrs
import numpy as np
from attrs.validators import ge, le

from mmlab.kernels.jit import kernel
from mmlab.kernels.services import rmap_walk
from mmlab.model.const import RMAP_CLEAR_YOUNG
from mmlab.model.page import MAPCOUNT_MASK, PG_ANON, PG_HEAD, PG_TAIL, PG_YOUNG, page_mapcount, page_set, page_test
from mmlab.model.rows import COST_SCAN_PAGE, SC_MAX_PFN, SC_MONITOR_CHECKS, SC_NOW_NS
from mmlab.policies import Monitor
from mmlab_rivals.monitor.history import INDEX_BITS, INDEX_MASK, MAPPING_MASK, estimate, history_columns, note_scan, same_page


@attrs.frozen
class Params:
    """interval_ms: simulated time between scans; window: how hot a page is is in how many of so many last scans it was found touched."""

    interval_ms: int = attrs.field(default=100, validator=ge(1))
    window: int = attrs.field(default=1, validator=[ge(1), le(62)])


def new_state(params: Params, machine: Any) -> dict[str, np.ndarray]:
    """nr_young, nr_scans, owner, history: a frame each, of the page that it holds now."""
    return {"nr_young": machine.page_column("int32"), "nr_scans": machine.page_column("int32"), **history_columns(machine)}


@kernel
def sample(m, st, now_ns):
    """Visit every mapped page once; returns the time to the next scan."""
    checks = 0
    for pfn in range(m.sc[SC_MAX_PFN]):
        if page_mapcount(m, pfn) == 0 or page_test(m, pfn, PG_TAIL) != 0:
            continue
        if same_page(m, st, pfn) == 0:
            st.nr_young[pfn] = 0
            st.nr_scans[pfn] = 0
        checks += 1
        st.nr_scans[pfn] = np.int64(st.nr_scans[pfn]) + 1
        young = 1 if rmap_walk(m, pfn, RMAP_CLEAR_YOUNG) > 0 else 0
        if young:
            page_set(m, pfn, PG_YOUNG)
        st.nr_young[pfn] = np.int64(st.nr_young[pfn]) + young
        note_scan(st, pfn, young)
    m.sc[SC_MONITOR_CHECKS] += checks
    m.sc[SC_NOW_NS] += checks * m.cost[COST_SCAN_PAGE]
    return st.interval_ms[0] * 1000000


@kernel
def check(m, st):
    """1 + pfn of the first frame found young more often than it was looked at. O(page frames)."""
    for pfn in range(m.sc[SC_MAX_PFN]):
        if np.int64(st.nr_young[pfn]) > np.int64(st.nr_scans[pfn]):
            return 1 + pfn
    return 0


def report(machine: Any, state: Any) -> list[dict[str, Any]]:
    """Neighbouring pages of one mapping with equal counts as rows: kind (anon, file), mapping, start_index, nr_pages, nr_young, nr_scans.

    For a private anonymous mapping the index is the virtual page number. Pages that are no longer mapped are left out.
    """
    page, pagex = machine.page.reshape(-1, 4), machine.pagex.reshape(-1, 4)
    scanned = np.flatnonzero(state.nr_scans)
    scanned = scanned[page[scanned, 3] & MAPCOUNT_MASK > 0]
    mapping, index = pagex[scanned, 0].astype(np.int64), pagex[scanned, 1].astype(np.int64)
    last_word, flags = pagex[scanned, 3].astype(np.int64), page[scanned, 2].astype(np.int64)
    index |= (last_word & 255) << 32
    size = np.where(flags & PG_HEAD, 1 << (last_word >> 8 & 15), 1)
    same = state.owner[scanned] == ((mapping & MAPPING_MASK) << INDEX_BITS | (index & INDEX_MASK)) + 1
    columns = (flags & PG_ANON == 0, mapping, index, size, state.nr_young[scanned], state.nr_scans[scanned])
    rows: list[dict[str, Any]] = []
    for is_file, number, start, nr_pages, nr_young, nr_scans in sorted(zip(*(column[same].tolist() for column in columns))):
        row = {"kind": "file" if is_file else "anon", "mapping": number, "start_index": start, "nr_pages": nr_pages}
        row |= {"nr_young": nr_young, "nr_scans": nr_scans}
        if rows and rows[-1] == {**row, "start_index": rows[-1]["start_index"], "nr_pages": start - rows[-1]["start_index"]}:
            rows[-1]["nr_pages"] += nr_pages
        else:
            rows.append(row)
    return rows


ACCESSED_BIT_SCAN = Monitor(
    name="accessed_bit_scan",
    summary="reads and clears every page's accessed bit at an interval",
    models="mm/page_idle.c",
    level="L1",
    params=Params,
    new_state=new_state,
    sample=sample,
    check=check,
    report=report,
    estimate=estimate,
)
