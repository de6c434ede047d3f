"""Large folios: the books of 2^order pages that page tables map whole (by a PMD) or page by page.

The head's mapcount is that of all entries that map something of the folio; a tail's is that of the PTEs that map just this page. Three words
lie in the mapping words of the first tails: PTEs of the head page itself, PMDs that map the folio whole, and how many of its pages have PTEs.
The folios that wait to be split are on their cgroup's queue; what no cgroup was made for is the root's, whatever its node.
Models: mm/rmap.c __folio_add_rmap(), __folio_remove_rmap(); mm/huge_memory.c deferred_split_folio(). The folio's order is 2 or more.
"""

from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.zones import page_node
from mmlab.model.const import HPAGE_PMD_NR, HPAGE_PMD_ORDER
from mmlab.model.page import (
    PG_ANON, PG_HEAD, PG_RECLAIM, PG_SWAPBACKED, PG_SWAPCACHE, PG_WORKINGSET, add_mapcount, page_clear, page_folio, page_mapcount, page_mapping,
    page_memcg, page_next, page_order, page_prev, page_set, page_test, set_page_mapping, set_page_next, set_page_prev,
)
from mmlab.model.rows import (
    MC_SPLIT_QUEUE, MEMCG_STRIDE, MM_RSS_ANON, MM_RSS_FILE, MM_RSS_SHMEM, MM_STRIDE, MTHP_NR_ANON_PARTIALLY_MAPPED, MTHP_SPLIT_DEFERRED,
    MTHP_STRIDE, SHR_FIRST, SHR_LAST, SHR_NR,
)
from mmlab.model.vmstat import (
    V_NR_ANON_PAGES, V_NR_ANON_TRANSPARENT_HUGEPAGES, V_NR_FILE_PMDMAPPED, V_NR_MAPPED, V_NR_SHMEM_PMDMAPPED, V_THP_DEFERRED_SPLIT_PAGE,
    mod_node_state,
)

# on the first tail; the second one's list words link the queue (head + 1, 0: none)
PG_PARTIALLY_MAPPED, PG_ON_SPLIT_QUEUE = PG_RECLAIM, PG_WORKINGSET


@leaf
def split_queue(memcg):
    """Where the queue of a cgroup's folios that wait to be split is in m.memcg."""
    return memcg * MEMCG_STRIDE + MC_SPLIT_QUEUE


@leaf
def init_large_folio(m, head):
    """Nothing maps the fresh folio."""
    set_page_mapping(m, head + 1, 0)
    set_page_mapping(m, head + 2, 0)
    set_page_mapping(m, head + 3, 0)


@leaf
def entire_mapcount(m, head):
    """PMDs that map the folio whole."""
    return page_mapping(m, head + 2)


@leaf
def nr_pages_mapped(m, head):
    """Pages of the folio that PTEs map."""
    return page_mapping(m, head + 3)


@leaf
def page_pte_mapcount(m, head, pfn):
    """PTEs that map this page of the folio."""
    return page_mapping(m, head + 1) if pfn == head else page_mapcount(m, pfn)


@leaf
def folio_likely_mapped_shared(m, folio):
    """1 if more than one address space seems to map the folio: a large one mapped page by page is judged by its first page."""
    mapcount = page_mapcount(m, folio)
    if mapcount <= 1 or page_test(m, folio, PG_HEAD) == 0:
        return 1 if mapcount > 1 else 0
    if entire_mapcount(m, folio) or mapcount > 1 << page_order(m, folio):
        return 1
    return 1 if page_pte_mapcount(m, folio, folio) > 1 else 0


@leaf
def add_pte_mapcount(m, head, pfn, delta):
    """Change it by 1 or -1 together with nr_pages_mapped; the new value. The folio's own mapcount is the caller's."""
    if pfn == head:
        own = page_mapping(m, head + 1) + delta
        set_page_mapping(m, head + 1, own)
    else:
        own = add_mapcount(m, pfn, delta)
    if own == (1 if delta > 0 else 0):
        set_page_mapping(m, head + 3, page_mapping(m, head + 3) + delta)
    return own


@leaf
def folio_rss_counter(m, head):
    """Which MM_RSS_* field counts the folio."""
    if page_test(m, head, PG_ANON):
        return MM_RSS_ANON
    return MM_RSS_SHMEM if page_test(m, head, PG_SWAPBACKED) else MM_RSS_FILE


@leaf
def _stat(m, head):
    return V_NR_ANON_PAGES if page_test(m, head, PG_ANON) else V_NR_MAPPED


@leaf
def _pmd_stat(m, head):
    if page_test(m, head, PG_ANON):
        return V_NR_ANON_TRANSPARENT_HUGEPAGES
    return V_NR_SHMEM_PMDMAPPED if page_test(m, head, PG_SWAPBACKED) else V_NR_FILE_PMDMAPPED


@kernel
def deferred_split_folio(m, head, partially_mapped):
    """Put the anonymous folio on the queue of the shrinker that splits, unless it is there or on its way to swap.

    partially_mapped: some of it is mapped no more, which is counted once a folio; a new huge page is queued as well.
    """
    if page_test(m, head, PG_SWAPCACHE):
        return 0
    if partially_mapped and page_test(m, head + 1, PG_PARTIALLY_MAPPED) == 0:
        page_set(m, head + 1, PG_PARTIALLY_MAPPED)
        order = page_order(m, head)
        if order == HPAGE_PMD_ORDER:
            m.vmstat[V_THP_DEFERRED_SPLIT_PAGE] += 1
        m.mthp[order * MTHP_STRIDE + MTHP_SPLIT_DEFERRED] += 1
        m.mthp[order * MTHP_STRIDE + MTHP_NR_ANON_PARTIALLY_MAPPED] += 1
    if page_test(m, head + 1, PG_ON_SPLIT_QUEUE) == 0:
        page_set(m, head + 1, PG_ON_SPLIT_QUEUE)
        _queue_tail(m, head, split_queue(page_memcg(m, head)))
    return 0


@leaf
def _queue_tail(m, head, queue):
    last = m.memcg[queue + SHR_LAST]
    set_page_prev(m, head + 2, last)
    set_page_next(m, head + 2, 0)
    if last:
        set_page_next(m, last - 1 + 2, head + 1)
    else:
        m.memcg[queue + SHR_FIRST] = head + 1
    m.memcg[queue + SHR_LAST] = head + 1
    m.memcg[queue + SHR_NR] += 1


@leaf
def _dequeue(m, head, queue):
    before, after = page_prev(m, head + 2), page_next(m, head + 2)
    if before:
        set_page_next(m, before - 1 + 2, after)
    else:
        m.memcg[queue + SHR_FIRST] = after
    if after:
        set_page_prev(m, after - 1 + 2, before)
    else:
        m.memcg[queue + SHR_LAST] = before
    m.memcg[queue + SHR_NR] -= 1


@leaf
def requeue_deferred_split(m, head):
    """To the end of the queue that it is on."""
    queue = split_queue(page_memcg(m, head))
    _dequeue(m, head, queue)
    _queue_tail(m, head, queue)


@leaf
def move_deferred_split(m, src, dst):
    """A folio that may be on a queue has moved, its marks and its charge with it."""
    if page_test(m, dst + 1, PG_ON_SPLIT_QUEUE):
        queue = split_queue(page_memcg(m, dst))
        _dequeue(m, src, queue)
        _queue_tail(m, dst, queue)


@leaf
def folio_unqueue_deferred_split(m, head):
    """The folio is split or freed, or nothing is to be won by a split: it waits no more."""
    if page_test(m, head + 1, PG_ON_SPLIT_QUEUE):
        page_clear(m, head + 1, PG_ON_SPLIT_QUEUE)
        _dequeue(m, head, split_queue(page_memcg(m, head)))
    if page_test(m, head + 1, PG_PARTIALLY_MAPPED):
        page_clear(m, head + 1, PG_PARTIALLY_MAPPED)
        m.mthp[page_order(m, head) * MTHP_STRIDE + MTHP_NR_ANON_PARTIALLY_MAPPED] -= 1


@leaf
def note_partially_mapped(m, head):
    """After PTEs of the folio were removed: queue it if it is anonymous and still mapped in part only."""
    if page_test(m, head, PG_ANON) and entire_mapcount(m, head) == 0:
        mapped = nr_pages_mapped(m, head)
        if mapped and mapped < 1 << page_order(m, head):
            deferred_split_folio(m, head, 1)


@kernel
def folio_add_rmap_pte(m, mm, pfn):
    """One more PTE of mm maps this page of a large folio."""
    head = page_folio(m, pfn)
    m.mm[mm * MM_STRIDE + folio_rss_counter(m, head)] += 1
    add_mapcount(m, head, 1)
    if add_pte_mapcount(m, head, pfn, 1) == 1 and entire_mapcount(m, head) == 0:
        mod_node_state(m, page_node(m, head), _stat(m, head), 1)
    return 0


@kernel
def folio_remove_rmap_pte(m, mm, pfn):
    """One PTE of mm less; the folio's mappings left. The caller calls note_partially_mapped() after the last of a batch."""
    head = page_folio(m, pfn)
    m.mm[mm * MM_STRIDE + folio_rss_counter(m, head)] -= 1
    if add_pte_mapcount(m, head, pfn, -1) == 0 and entire_mapcount(m, head) == 0:
        mod_node_state(m, page_node(m, head), _stat(m, head), -1)
    return add_mapcount(m, head, -1)


@kernel
def folio_add_rmap_pmd(m, mm, head):
    """One more PMD of mm maps the folio whole."""
    m.mm[mm * MM_STRIDE + folio_rss_counter(m, head)] += HPAGE_PMD_NR
    add_mapcount(m, head, 1)
    entire = entire_mapcount(m, head) + 1
    set_page_mapping(m, head + 2, entire)
    if entire == 1:
        mod_node_state(m, page_node(m, head), _stat(m, head), HPAGE_PMD_NR - nr_pages_mapped(m, head))
        mod_node_state(m, page_node(m, head), _pmd_stat(m, head), 1)
    return 0


@kernel
def folio_remove_rmap_pmd(m, mm, head):
    """One PMD of mm less; the folio's mappings left. What PTEs elsewhere still map may leave it partially mapped."""
    m.mm[mm * MM_STRIDE + folio_rss_counter(m, head)] -= HPAGE_PMD_NR
    entire = entire_mapcount(m, head) - 1
    set_page_mapping(m, head + 2, entire)
    left = add_mapcount(m, head, -1)
    if entire == 0:
        mod_node_state(m, page_node(m, head), _stat(m, head), nr_pages_mapped(m, head) - HPAGE_PMD_NR)
        mod_node_state(m, page_node(m, head), _pmd_stat(m, head), -1)
        note_partially_mapped(m, head)
    return left
