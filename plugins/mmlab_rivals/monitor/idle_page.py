"""Idle-page tracking: user space marks every page idle through /sys/kernel/mm/page_idle/bitmap, waits, and reads which are idle still.

By frame, and only pages on LRU lists; whoever uses a page otherwise (read(), reclaim's own look) clears the mark as well, so that a page counts
as used though no mapping was touched. Reading and writing the bitmap each walk a page's mappings: a page costs two of reclaim's looks.
Models: mm/page_idle.c page_idle_bitmap_read(), page_idle_bitmap_write(), page_idle_clear_pte_refs(). Left out: the system calls themselves.
O(page frames) an interval.
"""

from typing import Any

import attrs
import numpy as np
from attrs.validators import ge, le

from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.services import rmap_walk
from mmlab.model.const import RMAP_CLEAR_YOUNG
from mmlab.model.page import PG_IDLE, PG_LRU, PG_TAIL, PG_YOUNG, page_clear, page_mapcount, page_set, page_test
from mmlab.model.rows import COST_SCAN_PAGE, SC_MAX_PFN, SC_MONITOR_CHECKS, SC_NOW_NS
from mmlab.policies import Monitor
from mmlab_rivals.monitor.history import estimate, history_columns, note_scan, same_page


@attrs.frozen
class Params:
    """interval_ms: simulated time between marking and reading; window: how hot a page is is in how many of so many last readings it was used."""

    interval_ms: int = attrs.field(default=100, validator=ge(1))
    window: int = attrs.field(default=1, validator=[ge(1), le(62)])


def new_state(params: Params, machine: Any) -> dict[str, np.ndarray]:
    """owner, history: a frame each."""
    return history_columns(machine)


@leaf
def page_idle_clear_pte_refs(m, pfn):
    """A page that some mapping has touched is not idle, and young for reclaim."""
    if page_mapcount(m, pfn) > 0 and rmap_walk(m, pfn, RMAP_CLEAR_YOUNG) > 0:
        page_clear(m, pfn, PG_IDLE)
        page_set(m, pfn, PG_YOUNG)


@kernel
def sample(m, st, now_ns):
    """Read the bitmap and mark every page idle again; returns the time to the next time."""
    checks = 0
    for pfn in range(m.sc[SC_MAX_PFN]):
        if page_test(m, pfn, PG_LRU) == 0 or page_test(m, pfn, PG_TAIL) != 0:
            continue
        same_page(m, st, pfn)
        checks += 2
        page_idle_clear_pte_refs(m, pfn)
        note_scan(st, pfn, 0 if page_test(m, pfn, PG_IDLE) else 1)
        page_set(m, pfn, PG_IDLE)
    m.sc[SC_MONITOR_CHECKS] += checks
    m.sc[SC_NOW_NS] += checks * m.cost[COST_SCAN_PAGE]
    return st.interval_ms[0] * 1000000


IDLE_PAGE = Monitor(
    name="idle_page",
    summary="idle-page tracking: marks all pages idle, and later reads which still are",
    models="mm/page_idle.c",
    level="L1",
    params=Params,
    new_state=new_state,
    sample=sample,
    estimate=estimate,
)
