"""Per-CPU batches: pages wait in runs of up to 31 before they join a generation or are moved.

Models: mm/swap.c folio_add_lru(), lru_add(), folio_activate(), lru_activate(), lru_deactivate(), lru_deactivate_file(), lru_move_tail(),
lru_add_drain_cpu(), with lru_gen on. What a page in a batch is: lru_batch.py.
"""

from mmlab.kernels.jit import kernel
from mmlab.kernels.memcg import count_folio_events
from mmlab.model.const import PAGEVEC_SIZE
from mmlab.model.page import (
    PG_ACTIVE, PG_DIRTY, PG_HEAD, PG_LRU, PG_MLOCKED, PG_RECLAIM, PG_REFERENCED, PG_UNEVICTABLE, PG_WRITEBACK, page_flags, page_mapcount,
    page_set,
)
from mmlab.model.rows import SC_CPU
from mmlab.model.vmstat import (
    V_PGACTIVATE, V_PGDEACTIVATE, V_PGROTATED, V_UNEVICTABLE_PGS_CULLED, V_UNEVICTABLE_PGS_RESCUED, count_vm_events,
)
from mmlab_linux.reclaimer.lru_batch import (
    BATCH_ACTIVATE, BATCH_ADD, BATCH_DEACTIVATE, BATCH_DEACTIVATE_FILE, BATCH_ROTATE, NR_BATCHES, batch_of,
)
from mmlab_linux.reclaimer.lruvec import folio_nr_pages
from mmlab_linux.reclaimer.mglru.lrugen import lruvec_add_folio, lruvec_del_folio


@kernel
def lru_add(m, st, pfn, flags):
    """A new page joins a generation, or the unevictable list while mlock() holds it."""
    pages = folio_nr_pages(m, pfn, flags)
    if flags & PG_MLOCKED:
        if flags & PG_UNEVICTABLE == 0:
            count_vm_events(m, V_UNEVICTABLE_PGS_CULLED, pages)
        flags = (flags | PG_UNEVICTABLE) & ~PG_ACTIVE
    elif flags & PG_UNEVICTABLE:
        count_vm_events(m, V_UNEVICTABLE_PGS_RESCUED, pages)
        flags &= ~PG_UNEVICTABLE
    lruvec_add_folio(m, st, pfn, flags | PG_LRU, 0)


@kernel
def lru_move(m, st, pfn, which):
    """A page on a list moves as its batch says."""
    flags = page_flags(m, pfn)
    if flags & PG_UNEVICTABLE or (which == BATCH_DEACTIVATE_FILE and page_mapcount(m, pfn)):
        return
    pages = folio_nr_pages(m, pfn, flags)
    lruvec_del_folio(m, st, pfn, flags)
    flags = page_flags(m, pfn)
    if which == BATCH_ACTIVATE:
        flags |= PG_ACTIVE
        count_folio_events(m, pfn, V_PGACTIVATE, pages)
    elif which != BATCH_ROTATE:
        flags &= ~(PG_ACTIVE | PG_REFERENCED)
        if which == BATCH_DEACTIVATE:
            count_folio_events(m, pfn, V_PGDEACTIVATE, pages)
    waits = which == BATCH_DEACTIVATE_FILE and flags & (PG_DIRTY | PG_WRITEBACK)
    rotated = which == BATCH_ROTATE or (which == BATCH_DEACTIVATE_FILE and waits == 0)
    if rotated:
        flags &= ~PG_ACTIVE
        count_vm_events(m, V_PGROTATED, pages)
    lruvec_add_folio(m, st, pfn, flags, 1 if rotated else 0)
    if waits:
        page_set(m, pfn, PG_RECLAIM)  # only now: what it tells a page that joins concerns the next time


@kernel
def drain_batch(m, st, cpu, which):
    """Empty one batch, oldest entry first. Returns how many pages it held."""
    base = batch_of(cpu, which)
    count = st.batch[base]
    for i in range(base + 1, base + 1 + count):
        if which == BATCH_ADD:
            lru_add(m, st, st.batch[i], page_flags(m, st.batch[i]))
        elif page_flags(m, st.batch[i]) & PG_LRU:
            lru_move(m, st, st.batch[i], which)
    st.batch[base] = 0
    if which != BATCH_ADD:
        st.waiting[0] -= count
    return count


@kernel
def lru_add_drain(m, st, cpu):
    """Empty all of a CPU's batches."""
    for which in range(NR_BATCHES):
        drain_batch(m, st, cpu, which)
    return 0


@kernel
def batch_add(m, st, pfn, which):
    """Put a page into this CPU's batch, and drain the batch if it is full or the folio large."""
    cpu = m.sc[SC_CPU]
    base = batch_of(cpu, which)
    flags = page_flags(m, pfn)
    if which != BATCH_ADD:
        if flags & PG_LRU == 0:
            return 0
        st.waiting[0] += 1
    count = st.batch[base] + 1
    st.batch[base] = count
    st.batch[base + count] = pfn
    if count == PAGEVEC_SIZE or flags & PG_HEAD:
        drain_batch(m, st, cpu, which)
    return 0
