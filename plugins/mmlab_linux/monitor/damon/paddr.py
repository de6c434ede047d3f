"""DAMOS actions on physical memory: page by page over the folios that are on an LRU list.

Models: mm/damon/paddr.c damon_pa_apply_scheme(), damon_pa_pageout(), damon_pa_mark_accessed_or_deactivate(),
damon_pa_migrate(). Left out: that a folio which cannot go anywhere changes its place in its list. O(pages of the region).
"""

from mmlab.kernels.jit import kernel
from mmlab.kernels.services import folio_deactivate, folio_mark_accessed, migrate_folio_to, pageout_folio, rmap_walk
from mmlab.kernels.zones import page_node
from mmlab.model.const import RMAP_CLEAR_YOUNG
from mmlab.model.page import PG_LRU, PG_MLOCKED, PG_REFERENCED, PG_UNEVICTABLE, PG_YOUNG, page_clear, page_test
from mmlab.model.rows import COST_DAMOS_PAGE, COST_LRU_MOVE, SC_NOW_NS, SC_NR_NODES
from mmlab_linux.monitor.damon.filters import damos_pa_filter_out, has_young_filter, young_old
from mmlab_linux.monitor.damon.ops_common import damon_get_folio, folio_sz
from mmlab_linux.monitor.damon.quota import scheme_row
from mmlab_linux.monitor.damon.state import (
    D_MIN, DAMOS_LRU_DEPRIO, DAMOS_LRU_PRIO, DAMOS_MIGRATE_COLD, DAMOS_MIGRATE_HOT, DAMOS_PAGEOUT, ONE_RESCHED_NS, R_END, R_START, REGION_STRIDE,
    S_TARGET_NID,
)


@kernel
def pageout(m, folio):
    """A folio that passed the filters: its references forgotten, reclaimed. Bytes freed."""
    page_clear(m, folio, PG_REFERENCED | PG_YOUNG)
    rmap_walk(m, folio, RMAP_CLEAR_YOUNG)
    if page_test(m, folio, PG_UNEVICTABLE | PG_MLOCKED):
        return 0
    sz = folio_sz(m, folio)
    return sz if pageout_folio(m, folio) else 0


@kernel
def pa_apply_scheme(m, st, k, scheme, r, action):
    """Bytes applied: freed by pageout, migrated, or visited by the others."""
    migrate = action in (DAMOS_MIGRATE_HOT, DAMOS_MIGRATE_COLD)
    node = st.scheme[scheme_row(k, scheme) + S_TARGET_NID]
    nowhere = node < 0 or node >= m.sc[SC_NR_NODES]
    if action not in (DAMOS_PAGEOUT, DAMOS_LRU_PRIO, DAMOS_LRU_DEPRIO) and not migrate:
        return 0
    skip_young = action == DAMOS_PAGEOUT and has_young_filter(st, k, scheme) == 0
    addr, end = st.region[r * REGION_STRIDE + R_START], st.region[r * REGION_STRIDE + R_END]
    applied = 0
    while addr < end:
        folio = damon_get_folio(m, addr >> 12)
        if folio < 0:
            m.sc[SC_NOW_NS] += m.cost[COST_DAMOS_PAGE] // 2  # the frame alone
            addr += D_MIN
            continue
        sz = folio_sz(m, folio)
        addr = max(addr + D_MIN, (folio << 12) + sz)
        m.sc[SC_NOW_NS] += m.cost[COST_DAMOS_PAGE]
        if damos_pa_filter_out(m, st, k, scheme, folio):
            continue
        if action == DAMOS_PAGEOUT:
            if skip_young and young_old(m, st, folio):
                continue
            began = m.sc[SC_NOW_NS]
            applied += pageout(m, folio)
            st.one[ONE_RESCHED_NS] += m.sc[SC_NOW_NS] - began
            continue
        if migrate:
            began = m.sc[SC_NOW_NS]
            if nowhere or page_node(m, folio) == node:
                m.sc[SC_NOW_NS] += 2 * m.cost[COST_LRU_MOVE]  # taken off its list and put back all the same
            elif migrate_folio_to(m, folio, node):
                applied += sz
            st.one[ONE_RESCHED_NS] += m.sc[SC_NOW_NS] - began
            continue
        if action == DAMOS_LRU_PRIO:
            folio_mark_accessed(m, folio)
        else:
            folio_deactivate(m, folio)
        if page_test(m, folio, PG_LRU) == 0:
            m.sc[SC_NOW_NS] += m.cost[COST_LRU_MOVE]  # it is on its way to another list
        applied += sz
    return applied
