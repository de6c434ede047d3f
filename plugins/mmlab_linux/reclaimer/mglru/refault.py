"""Shadows of evicted pages and what a refault tells the controller.

Models: mm/workingset.c lru_gen_eviction(), lru_gen_test_recent(), lru_gen_refault().
"""

from mmlab.kernels.jit import kernel
from mmlab.kernels.memcg import nr_lruvecs, page_lruvec
from mmlab.model.page import page_flags
from mmlab.model.rows import SC_IN_LRU_FAULT
from mmlab_linux.reclaimer.lruvec import folio_nr_pages
from mmlab_linux.reclaimer.mglru.control import EVICTED, REFAULTED, ctrl_cell
from mmlab_linux.reclaimer.mglru.lrugen import MAX_REFS, folio_kind, folio_lru_refs, lru_tier_from_refs, min_seq

LRUVEC_BITS = 14  # of a shadow: min_seq, uses (3 bits), lruvec
REFS_BITS = 3
REFAULT_RECENT, REFAULT_RESTORE = 4, 2  # answers to the core: counted as activate without being made active; counted as restore


@kernel
def eviction_shadow(m, st, pfn):
    """The oldest generation now and how often the page was used; its tier's eviction is counted."""
    flags = page_flags(m, pfn)
    lruvec = page_lruvec(m, pfn)
    kind = folio_kind(flags)
    refs = folio_lru_refs(st, pfn, flags)
    st.ctrl[ctrl_cell(lruvec, kind, lru_tier_from_refs(refs)) + EVICTED] += folio_nr_pages(m, pfn, flags)
    return ((min_seq(st, lruvec, kind) << REFS_BITS | refs) << LRUVEC_BITS) | lruvec


@kernel
def workingset_refault(m, st, pfn, shadow):
    """Recent only if the oldest generation is still the same. Then a fault, or a page used often before, counts as a stall."""
    lruvec = shadow & ((1 << LRUVEC_BITS) - 1)
    token = shadow >> LRUVEC_BITS
    if lruvec >= nr_lruvecs(m):
        return 0  # the classic LRU left it
    flags = page_flags(m, pfn)
    kind = folio_kind(flags)
    if token >> REFS_BITS != min_seq(st, lruvec, kind) or lruvec != page_lruvec(m, pfn):
        return 0
    refs = token & ((1 << REFS_BITS) - 1)
    st.ctrl[ctrl_cell(lruvec, kind, lru_tier_from_refs(refs)) + REFAULTED] += folio_nr_pages(m, pfn, flags)
    if m.sc[SC_IN_LRU_FAULT] or refs >= MAX_REFS:
        st.refs[pfn] = MAX_REFS
        return REFAULT_RECENT | REFAULT_RESTORE
    return REFAULT_RECENT
