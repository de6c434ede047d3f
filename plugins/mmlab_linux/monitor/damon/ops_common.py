"""The accessed bits that DAMON reads and clears, of one virtual address or one frame.

Models: mm/damon/ops-common.c damon_get_folio(), damon_ptep_mkold(), damon_pmdp_mkold(); mm/damon/vaddr.c damon_va_mkold(), damon_va_young();
mm/damon/paddr.c damon_folio_mkold(), damon_folio_young(). Left out: MMU notifiers, the folio lock (nobody holds it for long here). O(1).
"""

from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.services import rmap_walk
from mmlab.model.const import RMAP_CLEAR_YOUNG, RMAP_YOUNG
from mmlab.model.page import PG_HEAD, PG_IDLE, PG_LRU, PG_YOUNG, page_folio, page_order, page_set, page_test
from mmlab.model.rows import PTE_ACCESSED, PTE_HUGE, PTE_PRESENT, PTE_PROTNONE, PTE_SHIFT, SC_MAX_PFN
from mmlab_linux.monitor.damon.state import D_MIN, ONE_LAST_FOLIO_SZ

MAPPED = PTE_PRESENT | PTE_PROTNONE


@leaf
def damon_get_folio(m, pfn):
    """Head of the folio, or -1 unless it is on an LRU list (pages that wait in a batch are not)."""
    if pfn < 0 or pfn >= m.sc[SC_MAX_PFN]:
        return -1
    folio = page_folio(m, pfn)
    return folio if page_test(m, folio, PG_LRU) else -1


@leaf
def folio_sz(m, folio):
    """Bytes."""
    return D_MIN << page_order(m, folio) if page_test(m, folio, PG_HEAD) else D_MIN


@kernel
def damon_va_mkold(m, slot):
    """Clear the accessed bit of the entry at slot of m.pt (-1: there is none); its folio is idle from now on, and young if the bit was set, so that reclaim loses nothing."""
    folio = damon_get_folio(m, m.pt[slot] >> PTE_SHIFT) if slot >= 0 else -1
    if folio < 0:
        return 0
    entry = m.pt[slot]
    if entry & PTE_ACCESSED:
        m.pt[slot] = entry & ~PTE_ACCESSED
        page_set(m, folio, PG_YOUNG | PG_IDLE)
    else:
        page_set(m, folio, PG_IDLE)
    return 0


@kernel
def damon_va_young(m, st, slot):
    """1 if the page that the entry at slot maps was accessed since damon_va_mkold(); remembers its folio's size."""
    folio = damon_get_folio(m, m.pt[slot] >> PTE_SHIFT) if slot >= 0 else -1
    if folio < 0:
        return 0
    st.one[ONE_LAST_FOLIO_SZ] = 512 * D_MIN if m.pt[slot] & PTE_HUGE else folio_sz(m, folio)
    return 1 if m.pt[slot] & PTE_ACCESSED or page_test(m, folio, PG_IDLE) == 0 else 0


@kernel
def damon_folio_mkold(m, folio):
    """The same through every mapping of a folio."""
    if rmap_walk(m, folio, RMAP_YOUNG) > 0:
        rmap_walk(m, folio, RMAP_CLEAR_YOUNG)
        page_set(m, folio, PG_YOUNG)
    page_set(m, folio, PG_IDLE)
    return 0


@kernel
def damon_folio_young(m, folio):
    """1 if some mapping is young or the folio is not idle."""
    return 1 if page_test(m, folio, PG_IDLE) == 0 or rmap_walk(m, folio, RMAP_YOUNG) > 0 else 0


@kernel
def damon_pa_mkold(m, addr):
    """Make the folio of a frame old."""
    folio = damon_get_folio(m, addr >> 12)
    if folio >= 0:
        damon_folio_mkold(m, folio)
    return 0


@kernel
def damon_pa_young(m, st, addr):
    """1 if the folio of a frame was accessed; remembers its size."""
    folio = damon_get_folio(m, addr >> 12)
    if folio < 0:
        return 0
    st.one[ONE_LAST_FOLIO_SZ] = folio_sz(m, folio)
    return damon_folio_young(m, folio)
