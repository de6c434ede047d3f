"""Invariants of the generations."""

from mmlab.kernels.jit import kernel
from mmlab.kernels.lists import policy_list
from mmlab.kernels.memcg import nr_lruvecs, page_lruvec
from mmlab.model.const import LRU_UNEVICTABLE
from mmlab.model.page import PG_LRU, PG_UNEVICTABLE, page_flags, page_next, page_prev
from mmlab_linux.reclaimer.lruvec import ALL_ZONES, folio_nr_pages, lruvec_lru_size
from mmlab_linux.reclaimer.mglru.lrugen import (
    CLEAN, FIRST_GEN_LIST, ISOLATED, MAX_NR_GENS, MIN_NR_GENS, NR_STRIDE, flags_gen, folio_kind, gen_cell, lru_gen_is_active, lru_of,
    nr_gens, zone_index_of,
)


@kernel
def check_list(m, st, lruvec, number):
    """Walk a list, adding its pages to st.counted by the generation their flags name. 0, or a code of check()."""
    head = policy_list(m, lruvec, number)
    before = head
    pfn = page_next(m, head)
    while pfn != head:
        if page_prev(m, pfn) != before:
            return 1
        flags = page_flags(m, pfn)
        if flags & PG_LRU == 0:
            return 2
        kind, gen, zone = folio_kind(flags), flags_gen(flags), zone_index_of(m, flags)
        if number == LRU_UNEVICTABLE:
            if flags & PG_UNEVICTABLE == 0 or gen >= 0:
                return 3
            st.counted[NR_STRIDE] += folio_nr_pages(m, pfn, flags)
        else:
            if page_lruvec(m, pfn) != lruvec or gen < 0:
                return 3
            place = number - FIRST_GEN_LIST - gen_cell(0, kind, zone)
            if place < 0 or place % gen_cell(1, 0, 0) != 0 or place >= NR_STRIDE:
                return 3
            st.counted[gen_cell(gen, kind, zone)] += folio_nr_pages(m, pfn, flags)
        before = pfn
        pfn = page_next(m, pfn)
    return 1 if page_prev(m, head) != before else 0


@kernel
def check(m, st):
    """1: a broken link; 2: a page on a list is not PG_LRU; 3: it is on a list of another lruvec, kind or zone; 4: a
    generation or list does not hold what was counted; 5: fewer than two or more than four generations of file pages; 6: a task left pages isolated
    (kswapd, preempted, may)."""
    for lruvec in range(nr_lruvecs(m)):
        for cell in range(NR_STRIDE + 1):
            st.counted[cell] = 0
        broken = check_list(m, st, lruvec, LRU_UNEVICTABLE)
        for number in range(ISOLATED, CLEAN + 1):
            if page_next(m, policy_list(m, lruvec, number)) != policy_list(m, lruvec, number):
                broken = 6
        for number in range(FIRST_GEN_LIST, FIRST_GEN_LIST + NR_STRIDE):
            if broken == 0:
                broken = check_list(m, st, lruvec, number)
        if broken:
            return broken
        for cell in range(NR_STRIDE):
            if st.counted[cell] != st.nr[lruvec * NR_STRIDE + cell]:
                return 4
        if nr_gens(st, lruvec, 1) < MIN_NR_GENS or nr_gens(st, lruvec, 1) > MAX_NR_GENS:
            return 5
        for kind in range(2):
            pages = 0
            for gen in range(MAX_NR_GENS):
                if lru_gen_is_active(st, lruvec, gen):
                    for zone in range(gen_cell(0, 1, 0)):
                        pages += st.counted[gen_cell(gen, kind, zone)]
            if pages != lruvec_lru_size(m, st, lruvec, lru_of(kind, 1), ALL_ZONES):
                return 4
        if st.counted[NR_STRIDE] != lruvec_lru_size(m, st, lruvec, LRU_UNEVICTABLE, ALL_ZONES):
            return 4
    return 0
