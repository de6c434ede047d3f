"""The generations of a lruvec: which lists and counts there are, and how a page joins, leaves and changes its generation.

Models: include/linux/mmzone.h struct lru_gen_folio; include/linux/mm_inline.h lru_gen_add_folio(), lru_gen_del_folio(),
lru_gen_update_size(), lru_gen_is_active(), folio_lru_refs(), lru_tier_from_refs(); mm/vmscan.c folio_update_gen(), folio_inc_gen().

A page's generation number + 1 is in its flags (GEN_MASK, 0: on no list of generations); of its uses through file descriptors the first is
PG_REFERENCED, the second PG_WORKINGSET and up to three more are counted in st.refs. A page that a page-table walk promotes changes its
generation at once but stays where it is linked until a scan meets it.
"""

from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.lists import list_add, list_add_tail, list_del, list_find_del, policy_list
from mmlab.kernels.memcg import page_lruvec
from mmlab.model.const import LRU_INACTIVE_ANON, LRU_INACTIVE_FILE, LRU_UNEVICTABLE, SCAN_KSWAPD
from mmlab.model.gfp import MAX_NR_ZONES
from mmlab.model.page import (
    GEN_MASK, GEN_SHIFT, PG_ACTIVE, PG_DIRTY, PG_RECLAIM, PG_REFERENCED, PG_SWAPBACKED, PG_SWAPCACHE, PG_UNEVICTABLE, PG_WORKINGSET,
    PG_WRITEBACK, ZONE_SHIFT, page_flags, set_page_flags,
)
from mmlab.model.rows import ZONE_STRIDE, Z_INDEX
from mmlab_linux.reclaimer.lruvec import ANON, FILE, folio_nr_pages, update_lru_size

MIN_NR_GENS, MAX_NR_GENS, MAX_NR_TIERS = 2, 4, 4
MIN_LRU_BATCH, MAX_LRU_BATCH = 64, 4096
MAX_REFS = 3  # what st.refs counts up to
# st.gen: GEN_STRIDE words a lruvec
GEN_STRIDE = 16
MAX_SEQ, MIN_SEQ, BIRTH_NS, WALKED_SEQ = 0, 1, 4, 8  # MIN_SEQ: two words by ANON and FILE; BIRTH_NS: four, by generation
# st.nr: pages, by generation, kind and zone index; NR_STRIDE words a lruvec
NR_STRIDE = MAX_NR_GENS * 2 * MAX_NR_ZONES
# lists of a lruvec: NR_STRIDE lists of generations from FIRST_GEN_LIST on, and scratch lists of a pass; kswapd, which can be preempted within a
# batch, has its own from ISOLATED + OF_KSWAPD on
ISOLATED, MOVED, CLEAN = 5, 6, 7
FIRST_GEN_LIST = 8
OF_KSWAPD = FIRST_GEN_LIST + NR_STRIDE - ISOLATED


@leaf
def max_seq(st, lruvec):
    """Sequence number of the youngest generation."""
    return st.gen[lruvec * GEN_STRIDE + MAX_SEQ]


@leaf
def min_seq(st, lruvec, kind):
    """Sequence number of the oldest generation of a kind (ANON, FILE)."""
    return st.gen[lruvec * GEN_STRIDE + MIN_SEQ + kind]


@leaf
def nr_gens(st, lruvec, kind):
    """How many generations a kind has."""
    return max_seq(st, lruvec) - min_seq(st, lruvec, kind) + 1


@leaf
def gen_cell(gen, kind, zone_index):
    """Number of a generation's zone within st.nr of its lruvec, and of its list from FIRST_GEN_LIST on."""
    return (gen * 2 + kind) * MAX_NR_ZONES + zone_index


@leaf
def gen_list(m, lruvec, gen, kind, zone_index):
    """Head of a generation's list of a zone."""
    return policy_list(m, lruvec, FIRST_GEN_LIST + gen_cell(gen, kind, zone_index))


@leaf
def pass_list(m, lruvec, number, scan_flags):
    """Head of ISOLATED, MOVED or CLEAN of who reclaims."""
    return policy_list(m, lruvec, number + (OF_KSWAPD if scan_flags & SCAN_KSWAPD else 0))


@kernel
def remove_isolated(m, lruvec, pfn):
    """A page that is being freed leaves the batch of a reclaim that was preempted."""
    for number in range(ISOLATED, ISOLATED + 2 * 3):
        head = policy_list(m, lruvec, number if number <= CLEAN else number - 3 + OF_KSWAPD)
        if list_find_del(m, head, pfn):
            return


@leaf
def gen_size(st, lruvec, gen, kind):
    """Pages of a generation in all zones."""
    base = lruvec * NR_STRIDE + gen_cell(gen, kind, 0)
    pages = 0
    for zone in range(MAX_NR_ZONES):
        pages += max(0, st.nr[base + zone])
    return pages


@leaf
def flags_gen(flags):
    """The generation in a page's flags, -1 for none."""
    return ((flags & GEN_MASK) >> GEN_SHIFT) - 1


@leaf
def zone_index_of(m, flags):
    """Index of the page's zone within its node."""
    return m.zone[(flags >> ZONE_SHIFT) * ZONE_STRIDE + Z_INDEX]


@leaf
def folio_kind(flags):
    """FILE for a page of the file lists, ANON for one that has swap behind it (shmem too)."""
    return ANON if flags & PG_SWAPBACKED else FILE


@leaf
def folio_lru_refs(st, pfn, flags):
    """Uses through file descriptors beyond the first."""
    return st.refs[pfn] + (1 if flags & PG_WORKINGSET else 0)


@leaf
def lru_tier_from_refs(refs):
    """Tier of so many uses: order_base_2(refs + 1)."""
    if refs == 0:
        return 0
    if refs == 1:
        return 1
    return 2 if refs <= 3 else 3


@leaf
def lru_gen_is_active(st, lruvec, gen):
    """1 for the two youngest generations, which /proc shows as active."""
    youngest = max_seq(st, lruvec)
    return 1 if gen == youngest % MAX_NR_GENS or gen == (youngest - 1) % MAX_NR_GENS else 0


@leaf
def lru_of(kind, active):
    """LRU_* that /proc counts a page under."""
    return (LRU_INACTIVE_FILE if kind == FILE else LRU_INACTIVE_ANON) + active


@kernel
def lru_gen_update_size(m, st, lruvec, pfn, flags, old_gen, new_gen):
    """The page goes from one generation to another; -1: from or to no generation."""
    kind = folio_kind(flags)
    pages = folio_nr_pages(m, pfn, flags)
    zone = zone_index_of(m, flags)
    was = now = -1
    if old_gen >= 0:
        st.nr[lruvec * NR_STRIDE + gen_cell(old_gen, kind, zone)] -= pages
        was = lru_of(kind, lru_gen_is_active(st, lruvec, old_gen))
    if new_gen >= 0:
        st.nr[lruvec * NR_STRIDE + gen_cell(new_gen, kind, zone)] += pages
        now = lru_of(kind, lru_gen_is_active(st, lruvec, new_gen))
    if was != now:
        if was >= 0:
            update_lru_size(m, st, pfn, flags, was, -pages)
        if now >= 0:
            update_lru_size(m, st, pfn, flags, now, pages)


@kernel
def lru_gen_add_folio(m, st, pfn, flags, reclaiming):
    """The page joins: the youngest generation if it is active, the oldest if reclaiming (at the tail), else one in between. Sets its flags."""
    lruvec = page_lruvec(m, pfn)
    kind = folio_kind(flags)
    youngest, oldest = max_seq(st, lruvec), min_seq(st, lruvec, kind)
    if flags & PG_ACTIVE:
        seq = youngest
    elif (kind == ANON and flags & PG_SWAPCACHE == 0) or (flags & PG_RECLAIM and flags & (PG_DIRTY | PG_WRITEBACK)):
        seq = youngest - 1
    elif reclaiming or oldest + MIN_NR_GENS >= youngest:
        seq = oldest
    else:
        seq = oldest + 1
    gen = seq % MAX_NR_GENS
    flags = (flags & ~(GEN_MASK | PG_ACTIVE)) | ((gen + 1) << GEN_SHIFT)
    set_page_flags(m, pfn, flags)
    lru_gen_update_size(m, st, lruvec, pfn, flags, -1, gen)
    head = gen_list(m, lruvec, gen, kind, zone_index_of(m, flags))
    if reclaiming:
        list_add_tail(m, head, pfn)
    else:
        list_add(m, head, pfn)


@kernel
def lru_gen_del_folio(m, st, pfn, flags, reclaiming):
    """The page leaves its generation; unless reclaiming, PG_ACTIVE tells that it was one of the two youngest. Sets its flags."""
    lruvec = page_lruvec(m, pfn)
    gen = flags_gen(flags)
    lru_gen_update_size(m, st, lruvec, pfn, flags, gen, -1)
    list_del(m, pfn)
    new = flags & ~GEN_MASK
    if reclaiming == 0 and lru_gen_is_active(st, lruvec, gen):
        new |= PG_ACTIVE
    set_page_flags(m, pfn, new)


@kernel
def lruvec_add_folio(m, st, pfn, flags, reclaiming):
    """To the lists of generations, or to the unevictable list."""
    if flags & PG_UNEVICTABLE:
        list_add(m, policy_list(m, page_lruvec(m, pfn), LRU_UNEVICTABLE), pfn)
        update_lru_size(m, st, pfn, flags, LRU_UNEVICTABLE, folio_nr_pages(m, pfn, flags))
        set_page_flags(m, pfn, flags)
    else:
        lru_gen_add_folio(m, st, pfn, flags, reclaiming)


@kernel
def lruvec_del_folio(m, st, pfn, flags):
    """Off whichever list the page is on."""
    if flags_gen(flags) >= 0:
        lru_gen_del_folio(m, st, pfn, flags, 0)
    else:
        list_del(m, pfn)
        update_lru_size(m, st, pfn, flags, LRU_UNEVICTABLE, -folio_nr_pages(m, pfn, flags))


@kernel
def folio_update_gen(m, st, pfn, gen):
    """A page-table walk found the page young: into generation gen, where it is linked or not. An isolated one is only marked referenced."""
    flags = page_flags(m, pfn)
    old = flags_gen(flags)
    if old < 0:
        set_page_flags(m, pfn, flags | PG_REFERENCED)
        return
    st.refs[pfn] = 0
    flags = (flags & ~(GEN_MASK | PG_REFERENCED | PG_WORKINGSET)) | ((gen + 1) << GEN_SHIFT)
    set_page_flags(m, pfn, flags)
    if old != gen:
        lru_gen_update_size(m, st, page_lruvec(m, pfn), pfn, flags, old, gen)


@kernel
def folio_inc_gen(m, st, lruvec, pfn, reclaiming):
    """A page of the oldest generation goes to the next; one that a walk has promoted stays there. Returns the generation it is in now."""
    flags = page_flags(m, pfn)
    old = min_seq(st, lruvec, folio_kind(flags)) % MAX_NR_GENS
    gen = flags_gen(flags)
    if gen >= 0 and gen != old:
        return gen
    gen = (old + 1) % MAX_NR_GENS
    st.refs[pfn] = 0
    flags = (flags & ~(GEN_MASK | PG_REFERENCED | PG_WORKINGSET)) | ((gen + 1) << GEN_SHIFT)
    if reclaiming:
        flags |= PG_RECLAIM
    set_page_flags(m, pfn, flags)
    lru_gen_update_size(m, st, lruvec, pfn, flags, old, gen)
    return gen
