"""What the rivals share: lists a node, newest first (FIFO, CLOCK and LRU have one), and one more for pages that mlock() holds.

Pages on the lists carry PG_LRU. Which list a page belongs to is in the generation bits of its flags: 0 for a new page. Their numbers are
kept in the zones' rows (anonymous or file, all as inactive, or unevictable), so /proc and the OOM decision see them. PG_SWAPBACKED and
PG_MLOCKED must not change while a page is on a list: the core takes it off (folio_removed), changes the flag and adds it again.
Left out: per-CPU batches; a request for a low zone takes any page of the node.
"""

import numpy as np

from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.lists import list_add, list_add_tail, list_del, list_empty, list_position, policy_list
from mmlab.kernels.scan import count_scan, count_steal
from mmlab.kernels.services import folio_referenced, reclaim_folio
from mmlab.kernels.zones import page_node
from mmlab.model.const import LRU_INACTIVE_ANON, LRU_INACTIVE_FILE, LRU_UNEVICTABLE, RECLAIM_FREED, SWAP_CLUSTER_MAX
from mmlab.model.page import (
    GEN_MASK, GEN_SHIFT, PG_HEAD, PG_LRU, PG_MLOCKED, PG_REFERENCED, PG_SWAPBACKED, ZONE_SHIFT, page_flags, page_next, page_order, page_prev,
    page_set, page_test_clear, set_page_flags,
)
from mmlab.model.rows import SC_NR_NODES, SC_NR_ZONES, Z_LRU, Z_NODE, ZONE_STRIDE
from mmlab.model.vmstat import V_PGROTATED, count_vm_events
from mmlab.policies import Explained

MAIN_LIST = 0
YOUNG_PTES = 0xFFFF  # folio_referenced(): how many, below its VM_* bits
NR_QUEUES = 4  # lists that a policy may use: below LRU_UNEVICTABLE
#: what explain_page() tells of a page on a list
POSITION = Explained("position", "pages nearer to the old end of its list, where victims are taken; -1: it is off the list")


@leaf
def lru_of(flags):
    """The LRU_* number under which a page with these flags is counted."""
    if flags & PG_MLOCKED:
        return LRU_UNEVICTABLE
    return LRU_INACTIVE_ANON if flags & PG_SWAPBACKED else LRU_INACTIVE_FILE


@leaf
def head_of(m, node, flags):
    """Head of the list for a page with these flags."""
    return policy_list(m, node, LRU_UNEVICTABLE if flags & PG_MLOCKED else (flags & GEN_MASK) >> GEN_SHIFT)


@leaf
def folio_nr_pages(m, pfn, flags):
    """Pages of the folio that pfn heads."""
    return 1 << page_order(m, pfn) if flags & PG_HEAD else 1


@leaf
def count_pages(m, flags, pages):
    """So many pages with these flags join (or leave, if negative) the lists: their zone's row."""
    m.zone[(flags >> ZONE_SHIFT) * ZONE_STRIDE + Z_LRU + lru_of(flags)] += pages


@leaf
def put_first(m, node, pfn):
    """Link an unlinked page as the newest, and count it."""
    flags = page_flags(m, pfn)
    list_add(m, head_of(m, node, flags), pfn)
    set_page_flags(m, pfn, flags | PG_LRU)
    count_pages(m, flags, folio_nr_pages(m, pfn, flags))


@leaf
def take_off(m, pfn, flags, nr_pages):
    """Unlink a linked page of nr_pages, and no longer count it."""
    list_del(m, pfn)
    set_page_flags(m, pfn, flags & ~PG_LRU)
    count_pages(m, flags, -nr_pages)


@leaf
def was_accessed(m, pfn):
    """Nonzero if the page's mark is set: the accessed bit of a page-table entry, or PG_REFERENCED. All of them are clear afterwards."""
    return page_test_clear(m, pfn, PG_REFERENCED) | (folio_referenced(m, pfn) & YOUNG_PTES)


@kernel
def set_referenced(m, st, pfn):
    """folio_accessed() of policies that look at marks: an access through read() or write() sets the page's own."""
    page_set(m, pfn, PG_REFERENCED)
    return 0


@leaf
def folio_added(m, st, pfn):
    """Newest."""
    put_first(m, page_node(m, pfn), pfn)
    return 0


@kernel
def folio_removed(m, st, pfn):
    """Off its list."""
    flags = page_flags(m, pfn)
    if flags & PG_LRU:
        take_off(m, pfn, flags, folio_nr_pages(m, pfn, flags))
    return 0


@leaf
def make_oldest(m, pfn):
    """Next victim: 1 if the page was on a list, else 0."""
    flags = page_flags(m, pfn)
    if flags & PG_LRU == 0:
        return 0
    list_del(m, pfn)
    list_add_tail(m, head_of(m, page_node(m, pfn), flags), pfn)
    return 1


@kernel
def folio_deactivate(m, st, pfn):
    """Next victim."""
    make_oldest(m, pfn)
    return 0


@kernel
def folio_rotate(m, st, pfn):
    """Next victim, counted as rotated."""
    count_vm_events(m, V_PGROTATED, make_oldest(m, pfn))
    return 0


@leaf
def scanned_enough(m, node, priority, scanned):
    """1 if a pass at this priority has looked at its share of the node's pages: pages >> priority, a batch of 32 at least."""
    if scanned < SWAP_CLUSTER_MAX:
        return 0
    return 1 if scanned >= evictable_pages(m, node) >> priority else 0


@leaf
def shrink_oldest(m, st, node, priority, nr_to_reclaim, scan_flags):
    """Reclaim from the old end; a page that cannot go becomes the newest. At most once round the list."""
    head = policy_list(m, node, MAIN_LIST)
    last = page_next(m, head)
    nr_reclaimed = nr_scanned = scanned_anon = freed_anon = 0
    pfn = head
    while nr_reclaimed < nr_to_reclaim and pfn != last and list_empty(m, head) == 0:
        if scanned_enough(m, node, priority, nr_scanned):
            break
        pfn = page_prev(m, head)
        flags = page_flags(m, pfn)
        nr_pages = folio_nr_pages(m, pfn, flags)
        take_off(m, pfn, flags, nr_pages)
        nr_scanned += nr_pages
        is_anon = flags & PG_SWAPBACKED
        if is_anon:
            scanned_anon += nr_pages
        if reclaim_folio(m, pfn, scan_flags) == RECLAIM_FREED:
            nr_reclaimed += 1  # of a large folio too: reclaim_folio() splits it, and the rest is added again
            if is_anon:
                freed_anon += 1
        else:
            put_first(m, node, pfn)
    count_shrink(m, scan_flags, scanned_anon, nr_scanned - scanned_anon, freed_anon, nr_reclaimed - freed_anon)
    return nr_reclaimed


@leaf
def count_shrink(m, scan_flags, scanned_anon, scanned_file, freed_anon, freed_file):
    """Count what one pass looked at and freed."""
    if scanned_anon:
        count_scan(m, scan_flags, 0, scanned_anon)
        count_steal(m, scan_flags, 0, freed_anon)
    if scanned_file:
        count_scan(m, scan_flags, 1, scanned_file)
        count_steal(m, scan_flags, 1, freed_file)


@leaf
def zone_sum(m, node, lru):
    """Pages of a kind in all zones of a node."""
    pages = 0
    for zone in range(m.sc[SC_NR_ZONES]):
        if m.zone[zone * ZONE_STRIDE + Z_NODE] == node:
            pages += m.zone[zone * ZONE_STRIDE + Z_LRU + lru]
    return pages


@leaf
def evictable_pages(m, node):
    """Pages of a node that may be reclaimed."""
    return zone_sum(m, node, LRU_INACTIVE_ANON) + zone_sum(m, node, LRU_INACTIVE_FILE)


@kernel
def nr_lru_pages(m, st, node, lru):
    """From the zones' rows."""
    return zone_sum(m, node, lru)


@leaf
def position_of(m, pfn):
    """POSITION."""
    return list_position(m, pfn) if page_flags(m, pfn) & PG_LRU else -1


@kernel
def explain_page(m, st, pfn, what):
    """POSITION, of policies with one list."""
    return position_of(m, pfn)


@leaf
def check_list(m, node, number, st_counts):
    """Walk one list; adds its pages to st_counts by LRU_*. 0, or 1 broken link, 2 page without PG_LRU, 3 page of another node or list."""
    head = policy_list(m, node, number)
    before = head
    pfn = page_next(m, head)
    while pfn != head:
        flags = page_flags(m, pfn)
        if page_prev(m, pfn) != before:
            return 1
        if flags & PG_LRU == 0:
            return 2
        if page_node(m, pfn) != node or head_of(m, node, flags) != head:
            return 3
        st_counts[lru_of(flags)] += folio_nr_pages(m, pfn, flags)
        before = pfn
        pfn = page_next(m, pfn)
    return 1 if page_prev(m, head) != before else 0


@leaf
def check_begin(m, st, node):
    """A node's pages are counted anew, its unevictable ones first: 0, or a code of check_list()."""
    for lru in range(len(st.counted)):
        st.counted[lru] = 0
    return check_list(m, node, LRU_UNEVICTABLE, st.counted)


@leaf
def check_placed(m, st, node, pfn, place):
    """Count a page that a policy keeps in an array: 0, 6 if its record names another place, 7 if it does not belong there."""
    flags = page_flags(m, pfn)
    if page_next(m, pfn) != place:
        return 6
    if flags & PG_LRU == 0 or flags & PG_MLOCKED or page_node(m, pfn) != node:
        return 7
    st.counted[lru_of(flags)] += folio_nr_pages(m, pfn, flags)
    return 0


@leaf
def check_end(m, st, node):
    """0, or 4: the zones' rows do not hold the number of pages counted."""
    for lru in range(len(st.counted)):
        if zone_sum(m, node, lru) != st.counted[lru]:
            return 4
    return 0


@kernel
def check(m, st):
    """Codes of check_list(), or 4: the zones' rows do not hold the number of pages on the lists."""
    for node in range(m.sc[SC_NR_NODES]):
        for lru in range(len(st.counted)):
            st.counted[lru] = 0
        for number in range(NR_QUEUES + 1):
            broken = check_list(m, node, number, st.counted)
            if broken:
                return broken
        for lru in range(len(st.counted)):
            if zone_sum(m, node, lru) != st.counted[lru]:
                return 4
    return 0


def new_state(params, machine):
    """Scratch of check(): pages counted by LRU_*."""
    return {"counted": np.zeros(LRU_UNEVICTABLE + 1, np.int64)}
