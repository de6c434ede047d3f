"""Per-CPU batches of the classic LRU: pages wait in runs of up to 31 before they join, move between or leave lists.

Models: mm/swap.c folio_add_lru(), lru_add(), folio_activate(), lru_activate(), lru_deactivate(), lru_deactivate_file(), lru_move_tail(), lru_add_drain_cpu().

A page in the batch for adding has no PG_LRU. In the others it stays on its list: it can be isolated from there, which makes the drain pass
over it, it can be in a batch more than once, and it cannot be reclaimed, because the batch holds a reference (held_by_batch()). A page that
is freed by others leaves its batches at once, where in the kernel the reference delays the free to the drain.
"""

from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.likely import unlikely
from mmlab.kernels.memcg import count_folio_events
from mmlab.model.const import PAGEVEC_SIZE
from mmlab.model.page import (
    PG_ACTIVE, PG_DIRTY, PG_HEAD, PG_LRU, PG_MLOCKED, PG_RECLAIM, PG_REFERENCED, PG_UNEVICTABLE, PG_WRITEBACK, page_flags, page_mapcount,
    set_page_flags,
)
from mmlab.model.rows import SC_CPU
from mmlab.model.vmstat import (
    V_PGACTIVATE, V_PGDEACTIVATE, V_PGROTATED, V_UNEVICTABLE_PGS_CULLED, V_UNEVICTABLE_PGS_RESCUED, count_vm_events,
)
from mmlab_linux.reclaimer.lruvec import folio_nr_pages, lruvec_add, lruvec_add_tail, lruvec_del, refresh_stats

# in the order of lru_add_drain_cpu()
BATCH_ADD, BATCH_ROTATE, BATCH_DEACTIVATE_FILE, BATCH_DEACTIVATE, BATCH_ACTIVATE = range(5)
NR_BATCHES = 5
BATCH_STRIDE = 32  # st.batch: count, then PAGEVEC_SIZE pages; NR_BATCHES a CPU


@leaf
def batch_of(cpu, which):
    """Where a CPU's batch begins in st.batch."""
    return (cpu * NR_BATCHES + which) * BATCH_STRIDE


@kernel
def lru_add(m, st, pfn, flags):
    """A new page joins its list: inactive unless it was made active; unevictable while mlock() holds it."""
    pages = folio_nr_pages(m, pfn, flags)
    if unlikely(flags & (PG_MLOCKED | PG_UNEVICTABLE)):
        if flags & PG_MLOCKED == 0:
            count_vm_events(m, V_UNEVICTABLE_PGS_RESCUED, pages)
            flags &= ~PG_UNEVICTABLE
        else:
            if flags & PG_UNEVICTABLE == 0:
                count_vm_events(m, V_UNEVICTABLE_PGS_CULLED, pages)
            flags = (flags | PG_UNEVICTABLE) & ~PG_ACTIVE
    flags |= PG_LRU
    set_page_flags(m, pfn, flags)
    lruvec_add(m, st, pfn, flags)


@kernel
def lru_move(m, st, pfn, flags, which):
    """A page on a list moves as its batch says."""
    pages = folio_nr_pages(m, pfn, flags)
    if flags & PG_UNEVICTABLE or (which == BATCH_DEACTIVATE_FILE and page_mapcount(m, pfn)):
        return
    if (which == BATCH_ACTIVATE and flags & PG_ACTIVE) or (which == BATCH_DEACTIVATE and flags & PG_ACTIVE == 0):
        return
    lruvec_del(m, st, pfn, flags)
    if which == BATCH_DEACTIVATE_FILE:
        lru_deactivate_file(m, st, pfn, flags, pages)
        return
    if which == BATCH_ACTIVATE:
        flags |= PG_ACTIVE
        count_folio_events(m, pfn, V_PGACTIVATE, pages)
    elif which == BATCH_DEACTIVATE:
        flags &= ~(PG_ACTIVE | PG_REFERENCED)
        count_folio_events(m, pfn, V_PGDEACTIVATE, pages)
    else:
        flags &= ~PG_ACTIVE
        count_vm_events(m, V_PGROTATED, pages)
    set_page_flags(m, pfn, flags)
    if which == BATCH_ROTATE:
        lruvec_add_tail(m, st, pfn, flags)
    else:
        lruvec_add(m, st, pfn, flags)


@kernel
def lru_deactivate_file(m, st, pfn, flags, pages):
    """To the inactive head, to be rotated when its write-back ends; one that is clean by now, to the tail."""
    if flags & PG_ACTIVE:
        count_folio_events(m, pfn, V_PGDEACTIVATE, pages)
    flags = flags & ~(PG_ACTIVE | PG_REFERENCED)
    if flags & (PG_DIRTY | PG_WRITEBACK):
        set_page_flags(m, pfn, flags | PG_RECLAIM)
        lruvec_add(m, st, pfn, flags)
    else:
        count_vm_events(m, V_PGROTATED, pages)
        set_page_flags(m, pfn, flags)
        lruvec_add_tail(m, st, pfn, flags)


@kernel
def drain_batch(m, st, cpu, which):
    """Empty one batch into the lists, oldest entry first. Returns how many pages it held."""
    base = batch_of(cpu, which)
    count = st.batch[base]
    for i in range(base + 1, base + 1 + count):
        pfn = st.batch[i]
        flags = page_flags(m, pfn)
        if which == BATCH_ADD:
            lru_add(m, st, pfn, flags)
        elif flags & PG_LRU:
            lru_move(m, st, pfn, flags, which)
    st.batch[base] = 0
    if which != BATCH_ADD:
        st.waiting[0] -= count
    if count:
        refresh_stats(m, st)
    return count


@kernel
def lru_add_drain(m, st, cpu):
    """Empty all of a CPU's batches."""
    for which in range(NR_BATCHES):
        drain_batch(m, st, cpu, which)
    return 0


@leaf
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
    if unlikely(count == PAGEVEC_SIZE or flags & PG_HEAD):
        drain_batch(m, st, cpu, which)
    return 0


@kernel
def find_in_batch(st, cpu, which, pfn):
    """Position of a page in st.batch, or -1; newest entries first."""
    base = batch_of(cpu, which)
    i = st.batch[base]
    while i > 0:
        if st.batch[base + i] == pfn:
            return base + i
        i -= 1
    return -1


@kernel
def held_by_batch(st, pfn):
    """1 if the page waits in a batch of some CPU that leaves it on its list. st.waiting: how many such entries there are."""
    if st.waiting[0] == 0:
        return 0
    for row in range(len(st.batch) // BATCH_STRIDE):
        if row % NR_BATCHES != BATCH_ADD and find_in_batch(st, row // NR_BATCHES, row % NR_BATCHES, pfn) >= 0:
            return 1
    return 0


@kernel
def batch_remove(st, pfn, adding):
    """A page leaves all batches: those for adding, or (adding 0) all others. Returns how many entries it had."""
    removed = 0
    for row in range(len(st.batch) // BATCH_STRIDE):
        which = row % NR_BATCHES
        if (which == BATCH_ADD) != adding:
            continue
        found = find_in_batch(st, row // NR_BATCHES, which, pfn)
        while found >= 0:
            last = row * BATCH_STRIDE + st.batch[row * BATCH_STRIDE]
            for i in range(found, last):
                st.batch[i] = st.batch[i + 1]
            st.batch[row * BATCH_STRIDE] -= 1
            removed += 1
            found = find_in_batch(st, row // NR_BATCHES, which, pfn)
    if adding == 0:
        st.waiting[0] -= removed
    return removed
