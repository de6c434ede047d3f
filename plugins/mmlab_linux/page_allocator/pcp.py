"""Per-CPU lists: fourteen lists a CPU and zone for orders 0-3 (three types each) and 9 (movable or not), with self-tuning limits.

Models: mm/page_alloc.c __rmqueue_pcplist(), rmqueue_bulk(), nr_pcp_alloc(), free_unref_page_commit(), nr_pcp_high(), nr_pcp_free(),
free_pcppages_bulk(), decay_pcp_high(), drain_pages_zone(); mm/vmstat.c refresh_cpu_vm_stats(). Left out: lock contention between CPUs.
Cost: O(1), O(batch) when a list runs empty or full.
"""

from mmlab.kernels.jit import cold, kernel, leaf
from mmlab.kernels.likely import unlikely
from mmlab.kernels.lists import list_add, list_add_tail, list_del
from mmlab.kernels.zones import wmark_pages, zone_watermark_order0
from mmlab.model.const import HPAGE_PMD_ORDER, MIGRATE_ISOLATE, MIGRATE_MOVABLE, MIGRATE_PCPTYPES
from mmlab.model.gfp import ZONE_MOVABLE
from mmlab.model.page import page_next, page_prev, set_page_next, set_page_prev
from mmlab.model.rows import (
    N_FIRST_CPU, N_NR_CPUS, NODE_STRIDE, NR_PCP_LISTS, PCP_ALLOC_FACTOR, PCP_BATCH, PCP_COUNT, PCP_EXPIRE, PCP_FLAGS, PCP_FREE_COUNT,
    PCP_FREE_DIFF, PCP_HEADS, PCP_HIGH, PCP_HIGH_MAX, PCP_HIGH_MIN, PCP_STRIDE, SC_CPU, SC_NR_ZONES, Z_FLAGS, Z_FREE, Z_FREE_CMA, Z_NODE,
    ZONE_BELOW_HIGH, ZONE_RECLAIM_ACTIVE, ZONE_STRIDE,
)
from mmlab_linux.page_allocator.fallback import RMQUEUE_NORMAL, rmqueue
from mmlab_linux.page_allocator.free_lists import free_one_page, free_pages_ok, pageblock_type, rmqueue_smallest_run

COSTLY_ORDER = 3
BATCH_SCALE_MAX = 5
PREV_FREE_HIGH_ORDER, FREE_HIGH_BATCH = 1, 2  # PCP_FLAGS
THP_LIST = 12
REMOTE_EXPIRE = 3  # PCP_EXPIRE: periods that the lists of a remote zone survive unused


@leaf
def pcp_row(m, zone, cpu):
    """Base of the CPU's row for a zone in m.pcp."""
    return (cpu * m.sc[SC_NR_ZONES] + zone) * PCP_STRIDE


@leaf
def pcp_allowed_order(order):
    """1 if blocks of this order go through the per-CPU lists."""
    return 1 if order <= COSTLY_ORDER or order == HPAGE_PMD_ORDER else 0


@leaf
def pcp_list(order, migratetype):
    """Number of the list for an order and one of the three types."""
    if order == HPAGE_PMD_ORDER:
        return THP_LIST + (1 if migratetype == MIGRATE_MOVABLE else 0)
    return order * MIGRATE_PCPTYPES + migratetype


@leaf
def clamp(value, low, high):
    """value, at least low, but at most high."""
    return min(max(value, low), high)


@kernel
def nr_pcp_alloc(m, zone, row, order):
    """How many blocks a refill takes: doubles from refill to refill, and lets `high` grow with it."""
    batch = m.pcp[row + PCP_BATCH]
    high_min = m.pcp[row + PCP_HIGH_MIN]
    high_max = m.pcp[row + PCP_HIGH_MAX]
    high = clamp(m.pcp[row + PCP_HIGH], high_min, high_max)
    m.pcp[row + PCP_HIGH] = high
    if high < batch:
        return 1
    nr = batch if order else batch << m.pcp[row + PCP_ALLOC_FACTOR]
    if high_min != high_max and m.zone[zone * ZONE_STRIDE + Z_FLAGS] & ZONE_BELOW_HIGH == 0:
        high = min(high + nr, high_max)
        m.pcp[row + PCP_HIGH] = high
    if order == 0:
        most = max(high - m.pcp[row + PCP_COUNT] - batch, batch)
        if nr <= most and m.pcp[row + PCP_ALLOC_FACTOR] < BATCH_SCALE_MAX:
            m.pcp[row + PCP_ALLOC_FACTOR] += 1
        nr = min(nr, most)
    return max(nr >> order, 2) if nr > 1 else 1


@cold
def rmqueue_bulk(m, st, zone, row, head, order, migratetype, alloc_flags):
    """Refill a list from the free lists, in the order they give. Returns how many blocks came."""
    wanted = nr_pcp_alloc(m, zone, row, order)
    st.mode[0] = RMQUEUE_NORMAL
    got = 0
    own_first = m.zone[zone * ZONE_STRIDE + Z_FREE_CMA] == 0  # with CMA areas each page is asked for by itself
    while got < wanted:
        run = 0
        if own_first and st.mode[0] == RMQUEUE_NORMAL:
            run = rmqueue_smallest_run(m, st, zone, order, migratetype, wanted - got, head)
        if run == 0:
            pfn = rmqueue(m, st, zone, order, migratetype, alloc_flags)
            if pfn < 0:
                break
            list_add_tail(m, head, pfn)
            run = 1
        got += run
    m.pcp[row + PCP_COUNT] += got << order
    return got


@leaf
def rmqueue_pcplist(m, st, zone, order, migratetype, alloc_flags):
    """The first block of this CPU's list, refilled if it is empty: pfn, or -1."""
    row = pcp_row(m, zone, m.sc[SC_CPU])
    m.pcp[row + PCP_FREE_COUNT] >>= 1
    head = m.pcp[row + PCP_HEADS] + pcp_list(order, migratetype)
    pfn = page_next(m, head)
    if unlikely(pfn == head):
        if rmqueue_bulk(m, st, zone, row, head, order, migratetype, alloc_flags) == 0:
            return -1
        pfn = page_next(m, head)
    second = page_next(m, pfn)  # cheaper than list_del(): the page's own links do not matter any more
    set_page_next(m, head, second)
    set_page_prev(m, second, head)
    m.pcp[row + PCP_COUNT] -= 1 << order
    return pfn


@kernel
def free_pcppages_bulk(m, st, zone, row, nr_pages, first):
    """Give pages back, oldest first, whole lists one after the other beginning with list `first`. Returns the pages given back."""
    left = min(nr_pages, m.pcp[row + PCP_COUNT])
    given = 0
    number = first
    while given < left:
        head = m.pcp[row + PCP_HEADS] + number
        order = HPAGE_PMD_ORDER if number >= THP_LIST else number // MIGRATE_PCPTYPES
        pfn = page_prev(m, head)
        while given < left and pfn != head:
            list_del(m, pfn)
            given += 1 << order
            free_one_page(m, st, zone, pfn, order, pageblock_type(m, pfn), 0)
            pfn = page_prev(m, head)
        number = (number + 1) % NR_PCP_LISTS
    m.pcp[row + PCP_COUNT] -= given
    return given


@leaf
def nr_pcp_high(m, zone, row, batch, count, free_count, free_high):
    """From how many pages on a free gives some back; moves PCP_HIGH with what the CPU does and how short the zone is."""
    high_min = m.pcp[row + PCP_HIGH_MIN]
    high_max = m.pcp[row + PCP_HIGH_MAX]
    flags = m.zone[zone * ZONE_STRIDE + Z_FLAGS]
    was = m.pcp[row + PCP_HIGH]
    high = clamp(was, high_min, high_max)
    tuned = high
    limit = high
    if high == 0:
        limit = 0
    elif free_high:
        tuned = max(high - (batch << BATCH_SCALE_MAX), high_min)
        limit = 0
    elif flags & ZONE_RECLAIM_ACTIVE:
        tuned = max(high - max(free_count, batch), high_min)
        limit = min(batch << 2, tuned)
    elif high_min != high_max:
        if flags & ZONE_BELOW_HIGH:
            tuned = max(high - max(free_count, batch), high_min)
            limit = max(count, high_min)
        elif count >= high and high < free_count + batch:
            tuned = clamp(free_count + batch, high_min, high_max)
    if tuned != was:
        m.pcp[row + PCP_HIGH] = tuned
    return limit


@leaf
def nr_pcp_free(batch, count, free_count, high, free_high):
    """How many pages a bulk free gives back."""
    if free_high:
        return min(count, batch << BATCH_SCALE_MAX)
    if high < batch:
        return 1
    return clamp(free_count, batch, high - batch)


@cold
def tune_pcp_high(m, st, zone, row, number, free_high):
    """After a free to list `number`: move `high`, and if the lists hold more than they may give some back, after which the zone may count as
    above its high watermark again."""
    batch = m.pcp[row + PCP_BATCH]
    count = m.pcp[row + PCP_COUNT]
    free_count = m.pcp[row + PCP_FREE_COUNT]
    high = nr_pcp_high(m, zone, row, batch, count, free_count, free_high)
    if count < high:
        return 0
    free_pcppages_bulk(m, st, zone, row, nr_pcp_free(batch, count, free_count, high, free_high), number)
    flags = m.zone[zone * ZONE_STRIDE + Z_FLAGS]
    if flags & ZONE_BELOW_HIGH and zone_watermark_order0(m, zone, 0, wmark_pages(m, zone, 2), ZONE_MOVABLE, 0):
        m.zone[zone * ZONE_STRIDE + Z_FLAGS] = flags & ~ZONE_BELOW_HIGH
    return 0


@leaf
def free_unref_page(m, st, zone, pfn, order):
    """Free a block to this CPU's lists; what is isolated goes past them."""
    migratetype = pageblock_type(m, pfn)
    if unlikely(migratetype >= MIGRATE_PCPTYPES):
        if migratetype == MIGRATE_ISOLATE:
            free_pages_ok(m, st, zone, pfn, order)
            return
        migratetype = MIGRATE_MOVABLE
    number = pcp_list(order, migratetype)
    row = pcp_row(m, zone, m.sc[SC_CPU])
    flags = m.pcp[row + PCP_FLAGS]
    count = m.pcp[row + PCP_COUNT] + (1 << order)
    list_add(m, m.pcp[row + PCP_HEADS] + number, pfn)
    m.pcp[row + PCP_COUNT] = count
    m.pcp[row + PCP_ALLOC_FACTOR] >>= 1
    batch = m.pcp[row + PCP_BATCH]
    free_count = m.pcp[row + PCP_FREE_COUNT]
    free_high = 0
    if order > 0 and order <= COSTLY_ORDER:
        if flags & PREV_FREE_HIGH_ORDER and free_count >= batch and (flags & FREE_HIGH_BATCH == 0 or count >= batch):
            free_high = 1
        m.pcp[row + PCP_FLAGS] = flags | PREV_FREE_HIGH_ORDER
    elif flags & PREV_FREE_HIGH_ORDER:
        m.pcp[row + PCP_FLAGS] = flags & ~PREV_FREE_HIGH_ORDER
    if free_count < batch << BATCH_SCALE_MAX:
        m.pcp[row + PCP_FREE_COUNT] = free_count + (1 << order)
    high = m.pcp[row + PCP_HIGH]
    short = m.zone[zone * ZONE_STRIDE + Z_FLAGS] & (ZONE_BELOW_HIGH | ZONE_RECLAIM_ACTIVE)
    if unlikely(count >= high or free_high or short or high < m.pcp[row + PCP_HIGH_MIN] or high > m.pcp[row + PCP_HIGH_MAX]):
        tune_pcp_high(m, st, zone, row, number, free_high)


@kernel
def drain_pages_zone(m, st, zone, cpu):
    """Empty a CPU's lists of a zone. Returns the pages given back."""
    row = pcp_row(m, zone, cpu)
    given = 0
    while m.pcp[row + PCP_COUNT] > 0:
        given += free_pcppages_bulk(m, st, zone, row, m.pcp[row + PCP_BATCH] << BATCH_SCALE_MAX, 0)
    return given


@leaf
def decay_pcp_high(m, st, zone, row):
    """Let `high` sink while it is not needed, and give back what is above it."""
    high_min = m.pcp[row + PCP_HIGH_MIN]
    high = m.pcp[row + PCP_HIGH]
    batch = m.pcp[row + PCP_BATCH]
    if high > high_min:
        high = max(m.pcp[row + PCP_COUNT] - (batch << BATCH_SCALE_MAX), high - (high >> 3), high_min)
        m.pcp[row + PCP_HIGH] = high
    surplus = m.pcp[row + PCP_COUNT] - high
    while surplus > 0:
        free_pcppages_bulk(m, st, zone, row, min(surplus, batch), 0)
        surplus -= batch


@kernel
def refresh_cpu(m, st, cpu):
    """A CPU's periodic work: fold its free-page differences, let lists decay, shrink those of remote zones that were not used lately."""
    was = m.sc[SC_CPU]
    m.sc[SC_CPU] = cpu
    for zone in range(m.sc[SC_NR_ZONES]):
        row = pcp_row(m, zone, cpu)
        if m.pcp[row + PCP_FREE_DIFF] != 0:  # the zone was used since the last time
            m.zone[zone * ZONE_STRIDE + Z_FREE] += m.pcp[row + PCP_FREE_DIFF]
            m.pcp[row + PCP_FREE_DIFF] = 0
            m.pcp[row + PCP_EXPIRE] = REMOTE_EXPIRE
        decay_pcp_high(m, st, zone, row)
        if m.pcp[row + PCP_EXPIRE] == 0 or m.pcp[row + PCP_COUNT] == 0:
            continue
        node = m.zone[zone * ZONE_STRIDE + Z_NODE] * NODE_STRIDE
        first = m.node[node + N_FIRST_CPU]
        if first >= 0 and cpu >= first and cpu < first + m.node[node + N_NR_CPUS]:
            m.pcp[row + PCP_EXPIRE] = 0
            continue
        m.pcp[row + PCP_EXPIRE] -= 1
        if m.pcp[row + PCP_EXPIRE] == 0:
            free_pcppages_bulk(m, st, zone, row, m.pcp[row + PCP_BATCH], 0)
    m.sc[SC_CPU] = was
    return 0
