"""Pages on their way between lists: the per-CPU batch of MADV_FREE, and draining all batches of a CPU.

Models: mm/swap.c folio_mark_lazyfree(), lru_lazyfree(), lru_add_drain(). The reclaimer's own batches are its business (its op drain). A page in
the batch holds a reference.
"""

from mmlab.kernels.jit import kernel
from mmlab.kernels.ops import reclaimer_drain, reclaimer_folio_added, reclaimer_folio_removed
from mmlab.kernels.services import folio_put
from mmlab.model.const import PAGEVEC_SIZE
from mmlab.model.page import (
    PG_ACTIVE, PG_ANON, PG_HEAD, PG_REFERENCED, PG_SWAPBACKED, PG_SWAPCACHE, PG_UNEVICTABLE, add_refs, folio_nr_pages, page_clear,
    page_mapcount, page_test,
)
from mmlab.model.rows import SC_CPU, SC_MLOCK_BATCH
from mmlab.model.vmstat import V_PGLAZYFREE

LAZYFREE_STRIDE = 32  # m.lazyfree: count, then PAGEVEC_SIZE pages a CPU


@kernel
def lru_lazyfree_drain(m, cpu):
    """Every page of the CPU's batch that still qualifies becomes lazily freeable: no swap behind it any more, on the inactive file list."""
    base = cpu * LAZYFREE_STRIDE
    count = m.lazyfree[base]
    m.lazyfree[base] = 0
    for i in range(base + 1, base + 1 + count):
        pfn = m.lazyfree[i]
        swapbacked = page_test(m, pfn, PG_ANON) and page_test(m, pfn, PG_SWAPBACKED)
        if swapbacked and page_test(m, pfn, PG_SWAPCACHE | PG_UNEVICTABLE) == 0 and page_mapcount(m, pfn):
            reclaimer_folio_removed(m, pfn)
            page_clear(m, pfn, PG_ACTIVE | PG_REFERENCED | PG_SWAPBACKED)
            m.vmstat[V_PGLAZYFREE] += folio_nr_pages(m, pfn)
            reclaimer_folio_added(m, pfn)
        folio_put(m, pfn)
    return count


@kernel
def folio_mark_lazyfree(m, pfn):
    """MADV_FREE of a page: into the batch, which takes effect when it is full; a large folio's at once."""
    if page_test(m, pfn, PG_SWAPBACKED) == 0 or page_test(m, pfn, PG_SWAPCACHE | PG_UNEVICTABLE):
        return 0
    base = m.sc[SC_CPU] * LAZYFREE_STRIDE
    count = m.lazyfree[base] + 1
    m.lazyfree[base] = count
    m.lazyfree[base + count] = pfn
    add_refs(m, pfn, 1)
    if count == PAGEVEC_SIZE or page_test(m, pfn, PG_HEAD):
        lru_lazyfree_drain(m, m.sc[SC_CPU])
    return 0


@kernel
def lru_add_drain(m):
    """All batches of this CPU take effect."""
    reclaimer_drain(m, m.sc[SC_CPU])
    m.sc[SC_MLOCK_BATCH] = 0
    if m.lazyfree[m.sc[SC_CPU] * LAZYFREE_STRIDE]:
        lru_lazyfree_drain(m, m.sc[SC_CPU])
        reclaimer_drain(m, m.sc[SC_CPU])  # they went through the reclaimer's batch of new pages
    return 0
