"""reservation: who asks for pages gets a whole huge frame kept for it, and takes its pages from there, lowest first.

Everyone (a task, or the CPU where no task asks; movable and other pages apart) has one reservation, a huge frame of its own. When it is
used up another wholly free one is reserved; when there is none, pages come from frames that nobody reserved, at last from the reservation
that was used longest ago, which is broken. A reservation whose pages have all come back is given up. So the pages of one owner lie
together and leave together.
Models: the reservations of Navarro, Iyer, Druschel, Cox, "Practical, transparent operating system support for superpages", OSDI 2002.
Left out: reservations by memory object and offset (an allocator of pages does not see them), population maps' sizes below a huge frame,
mobility types, per-CPU lists, highatomic reserve, boost.
Cost: O(512 / 32) from a reservation, O(huge frames) to find another. Memory: 1/8 byte a frame.
"""

import numpy as np

from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.zones import mod_zone_free, zone_free_exact, zone_of
from mmlab.model.const import ENOMEM, MAX_ORDER, MIGRATE_MOVABLE, NR_PAGE_ORDERS
from mmlab.model.rows import SC_CPU, SC_NR_CPUS, SC_NR_ZONES, SC_TASK
from mmlab.policies import PageAllocator
from mmlab_rivals.page_allocator.bits import (
    WORD, WORD_ORDER, bit_of, count_blocks_again, count_cut, has_block, is_free, maximal_run, run_free, set_bits, zone_end,
    zone_start,
)  # fmt: skip
from mmlab_rivals.page_allocator.untyped import block_type, nr_free_blocks

CHUNK_ORDER = 9
CHUNK = 1 << CHUNK_ORDER
WRONG_CHUNK, WRONG_OWNER, WRONG_BLOCKS, WRONG_NR_FREE = 1, 2, 3, 4


def new_state(params, machine):
    """bits, nr_blocks: see bits.py. By huge frame: chunk_free, its free frames, and chunk_owner, owner + 1 or 0. By owner (CPUs, then tasks;
    two kinds of pages; zones): reserved, its huge frame or -1, and used_at, when it was used last, in allocations. may_be: by zone and order, no
    huge frame below this one, reserved ones aside, has a free run of the order."""
    sizes = machine.sizes
    chunks = (sizes.nr_frames >> CHUNK_ORDER) + 1
    owners = (sizes.nr_cpus + sizes.nr_tasks) * 2 * sizes.nr_zones
    return {
        "bits": np.zeros(sizes.nr_frames >> WORD_ORDER, np.uint32), "nr_blocks": np.zeros(sizes.nr_zones * NR_PAGE_ORDERS, np.int64),
        "chunk_free": np.zeros(chunks, np.int16), "chunk_owner": np.zeros(chunks, np.int32),
        "reserved": np.full(owners, -1, np.int64), "used_at": np.zeros(owners, np.int64), "clock": np.zeros(1, np.int64),
        "may_be": np.zeros(sizes.nr_zones * NR_PAGE_ORDERS, np.int64),
    }  # fmt: skip


@leaf
def owner_of(m, zone, migratetype):
    """Number of who asks."""
    who = m.sc[SC_NR_CPUS] + m.sc[SC_TASK] if m.sc[SC_TASK] >= 0 else m.sc[SC_CPU]
    return (who * 2 + (1 if migratetype == MIGRATE_MOVABLE else 0)) * m.sc[SC_NR_ZONES] + zone


@kernel
def find_in_chunk(m, st, zone, chunk, order):
    """The lowest free aligned run of up to a huge frame in a huge frame's part of the zone: pfn, or -1."""
    if np.int64(st.chunk_free[chunk]) < 1 << order:
        return -1
    pfn = max(chunk << CHUNK_ORDER, zone_start(m, zone))
    pfn = (pfn + (1 << order) - 1) & ~((1 << order) - 1)
    end = min((chunk + 1) << CHUNK_ORDER, zone_end(m, zone))
    while pfn + (1 << order) <= end:
        if order < WORD_ORDER and pfn & (WORD - 1) == 0 and st.bits[pfn >> WORD_ORDER] == 0:
            pfn += WORD
            continue
        if run_free(st, pfn, order):
            return pfn
        pfn += 1 << order
    return -1


@kernel
def give_up(st, chunk):
    """A reservation ends; its free frames are anybody's."""
    owner = np.int64(st.chunk_owner[chunk]) - 1
    if owner >= 0:
        st.reserved[owner] = -1
        st.chunk_owner[chunk] = 0
    return owner


@leaf
def opened(st, zone, chunk):
    """A huge frame has got free frames that anybody may have: searches must not begin above it."""
    for order in range(NR_PAGE_ORDERS):
        at = zone * NR_PAGE_ORDERS + order
        st.may_be[at] = min(st.may_be[at], chunk & ~1 if order > CHUNK_ORDER else chunk)


@kernel
def find_unreserved(m, st, zone, order):
    """The lowest run of the size outside reservations: pfn, or -1."""
    at = zone * NR_PAGE_ORDERS + order
    last = (zone_end(m, zone) - 1) >> CHUNK_ORDER
    chunk = max(st.may_be[at], zone_start(m, zone) >> CHUNK_ORDER)
    if order > CHUNK_ORDER:
        chunk = (chunk + 1) & ~1
    while chunk <= last:
        pfn = -1
        if order > CHUNK_ORDER:
            if chunk < last and np.int64(st.chunk_free[chunk]) + np.int64(st.chunk_free[chunk + 1]) == 2 * CHUNK:
                if st.chunk_owner[chunk] == 0 and st.chunk_owner[chunk + 1] == 0:
                    pfn = chunk << CHUNK_ORDER
            if pfn >= 0 and (pfn < zone_start(m, zone) or pfn + (1 << order) > zone_end(m, zone)):
                pfn = -1
        elif st.chunk_owner[chunk] == 0:
            pfn = find_in_chunk(m, st, zone, chunk, order)
        if pfn >= 0:
            break
        chunk += 2 if order > CHUNK_ORDER else 1
    st.may_be[at] = chunk
    return pfn if chunk <= last else -1


@kernel
def break_oldest(m, st, zone, order):
    """Give up the reservation used longest ago that has a free run of the order, or half of one of order 10: 1, or 0 if there is none."""
    oldest = -1
    for chunk in range(zone_start(m, zone) >> CHUNK_ORDER, ((zone_end(m, zone) - 1) >> CHUNK_ORDER) + 1):
        owner = np.int64(st.chunk_owner[chunk]) - 1
        if owner < 0 or find_in_chunk(m, st, zone, chunk, min(order, CHUNK_ORDER)) < 0:
            continue
        if oldest < 0 or st.used_at[owner] < st.used_at[np.int64(st.chunk_owner[oldest]) - 1]:
            oldest = chunk
    if oldest < 0:
        return 0
    give_up(st, oldest)
    opened(st, zone, oldest)
    return 1


@kernel
def take(m, st, zone, pfn, order):
    """A free run is handed out."""
    count_cut(st, zone, order, maximal_run(st, pfn, zone_start(m, zone), zone_end(m, zone)))
    set_bits(st, pfn, order, 0)
    for i in range(1 << max(0, order - CHUNK_ORDER)):
        st.chunk_free[(pfn >> CHUNK_ORDER) + i] = np.int64(st.chunk_free[(pfn >> CHUNK_ORDER) + i]) - min(1 << order, CHUNK)
    mod_zone_free(m, zone, -(1 << order))
    return pfn


@kernel
def find_reserved(m, st, zone, owner, order):
    """A run of less than a huge frame from the owner's reservation, or from a new one: pfn, or -1."""
    chunk = st.reserved[owner]
    if chunk >= 0:
        pfn = find_in_chunk(m, st, zone, chunk, order)
        if pfn >= 0:
            return pfn
        give_up(st, chunk)
        if st.chunk_free[chunk]:
            opened(st, zone, chunk)
    pfn = find_unreserved(m, st, zone, CHUNK_ORDER)
    if pfn >= 0:
        st.reserved[owner] = pfn >> CHUNK_ORDER
        st.chunk_owner[pfn >> CHUNK_ORDER] = owner + 1
    return pfn


@kernel
def alloc(m, st, zone, order, migratetype, alloc_flags):
    """From a reservation, else from what nobody reserved, else reservations break; alloc_flags do not matter."""
    if has_block(st, zone, order) == 0:
        return -ENOMEM
    owner = owner_of(m, zone, migratetype)
    st.clock[0] += 1
    st.used_at[owner] = st.clock[0]
    pfn = -1
    if order < CHUNK_ORDER:
        pfn = find_reserved(m, st, zone, owner, order)
    if pfn < 0:
        pfn = find_unreserved(m, st, zone, order)
    while pfn < 0 and break_oldest(m, st, zone, order):
        pfn = find_unreserved(m, st, zone, order)
    return take(m, st, zone, pfn, order)


@kernel
def give(m, st, zone, pfn, order):
    """Frames become free; a reservation that is empty now ends."""
    set_bits(st, pfn, order, 1)
    whole = maximal_run(st, pfn, zone_start(m, zone), zone_end(m, zone))
    for larger in range(order, whole):  # the other half of each level was a run of its own
        st.nr_blocks[zone * NR_PAGE_ORDERS + larger] -= 1
    st.nr_blocks[zone * NR_PAGE_ORDERS + whole] += 1
    for i in range(1 << max(0, order - CHUNK_ORDER)):
        chunk = (pfn >> CHUNK_ORDER) + i
        st.chunk_free[chunk] = np.int64(st.chunk_free[chunk]) + min(1 << order, CHUNK)
        if np.int64(st.chunk_free[chunk]) == CHUNK:
            give_up(st, chunk)
        if st.chunk_owner[chunk] == 0:
            opened(st, zone, chunk)
    mod_zone_free(m, zone, 1 << order)
    return 0


@kernel
def init_range(m, st, zone, pfn, nr_pages):
    """Free memory of boot."""
    end = pfn + nr_pages
    while pfn < end:
        order = MAX_ORDER
        while pfn & ((1 << order) - 1) or pfn + (1 << order) > end:
            order -= 1
        give(m, st, zone, pfn, order)
        pfn += 1 << order
    return 0


@kernel
def free(m, st, pfn, order):
    """The frames are free at once, for their reservation's owner first."""
    return give(m, st, zone_of(m, pfn), pfn, order)


@kernel
def can_alloc(m, st, zone, order, alloc_flags):
    """1 if a run of this size exists, reserved or not."""
    return has_block(st, zone, order)


@kernel
def drain(m, st, zone, cpu):
    """The CPU's own reservations end. No page was hidden there: 0."""
    for kind in range(2):
        chunk = st.reserved[(cpu * 2 + kind) * m.sc[SC_NR_ZONES] + zone]
        if chunk >= 0:
            give_up(st, chunk)
            opened(st, zone, chunk)
    return 0


@kernel
def isolate_free(m, st, pfn):
    """The maximal free run that begins at pfn, taken."""
    found = is_free(m, st, pfn)
    if found:
        take(m, st, zone_of(m, pfn), pfn, found - 1)
    return found


@kernel
def check(m, st, zone):
    """Counts follow from the bits, owners and reservations name each other. Cost: O(frames)."""
    for chunk in range(-(-zone_start(m, zone) >> CHUNK_ORDER), zone_end(m, zone) >> CHUNK_ORDER):
        frames = 0
        for pfn in range(chunk << CHUNK_ORDER, (chunk + 1) << CHUNK_ORDER):
            frames += bit_of(st, pfn)
        if frames != np.int64(st.chunk_free[chunk]):
            return WRONG_CHUNK
        owner = np.int64(st.chunk_owner[chunk]) - 1
        if owner >= 0 and (st.reserved[owner] != chunk or frames == CHUNK):
            return WRONG_OWNER
    frames = count_blocks_again(st, zone, zone_start(m, zone), zone_end(m, zone))
    if frames < 0:
        return WRONG_BLOCKS
    return 0 if frames == zone_free_exact(m, zone) else WRONG_NR_FREE


RESERVATION = PageAllocator(
    name="reservation", summary="a huge frame kept for each task or CPU, whose pages come from there", models="Navarro et al., OSDI 2002",
    left_out="reservations by object and offset, mobility types, per-CPU lists, highatomic reserve, boost", new_state=new_state,
    init_range=init_range, alloc=alloc, free=free, can_alloc=can_alloc, drain=drain, is_free=is_free, isolate_free=isolate_free,
    nr_free_blocks=nr_free_blocks, block_type=block_type, check=check,
)  # fmt: skip
