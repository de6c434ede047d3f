"""Filters: which regions, and which pages of them, a scheme leaves alone.

Models: mm/damon/core.c damos_filter_match(), damos_filter_out(); mm/damon/paddr.c damos_pa_filter_match(), damos_pa_filter_out().
"""

from mmlab.kernels.jit import kernel, leaf
from mmlab.model.page import PG_ANON, page_memcg, page_test
from mmlab.model.rows import COST_SCAN_PAGE, SC_NOW_NS
from mmlab_linux.monitor.damon.ops_common import damon_folio_mkold, damon_folio_young
from mmlab_linux.monitor.damon.quota import scheme_row
from mmlab_linux.monitor.damon.region import split_region_at
from mmlab_linux.monitor.damon.state import (
    D_MIN, F_END, F_MATCHING, F_MEMCG, F_START, F_TARGET, F_TYPE, FILTER_ADDR, FILTER_ANON, FILTER_MEMCG, FILTER_STRIDE, FILTER_TARGET,
    FILTER_YOUNG, MAX_FILTERS, MAX_SCHEMES, ONE_RESCHED_NS, R_END, R_START, REGION_STRIDE, S_NR_FILTERS,
)


@leaf
def filter_row(k, scheme, i):
    """First word of a scheme's filter in st.filter."""
    return ((k * MAX_SCHEMES + scheme) * MAX_FILTERS + i) * FILTER_STRIDE


@kernel
def address_matches(st, k, row, at, r):
    """1 if the region lies within the filter's range; one that crosses a bound is cut there, and what is left of it is judged."""
    start, end = st.filter[at + F_START] // D_MIN * D_MIN, st.filter[at + F_END] // D_MIN * D_MIN
    first, last = st.region[r * REGION_STRIDE + R_START], st.region[r * REGION_STRIDE + R_END]
    if start <= first and last <= end:
        return 1
    if last <= start or end <= first:
        return 0
    if first < start:
        split_region_at(st, k, row, r, start - first)
        return 0
    split_region_at(st, k, row, r, end - first)
    return 1


@kernel
def damos_filter_out(st, k, scheme, index, row, r):
    """1 if a filter of addresses or targets rejects the region (of target number `index` at `row`)."""
    for i in range(st.scheme[scheme_row(k, scheme) + S_NR_FILTERS]):
        at = filter_row(k, scheme, i)
        kind = st.filter[at + F_TYPE]
        matched = -1
        if kind == FILTER_TARGET:
            matched = 1 if st.filter[at + F_TARGET] == index else 0
        elif kind == FILTER_ADDR:
            matched = address_matches(st, k, row, at, r)
        if matched == st.filter[at + F_MATCHING]:
            return 1
    return 0


@kernel
def young_old(m, st, folio):
    """1 if the folio is young; then it is made old. Each asks all of its mappings, and lets other tasks go first meanwhile."""
    young = damon_folio_young(m, folio)
    if young:
        damon_folio_mkold(m, folio)
    m.sc[SC_NOW_NS] += (1 + young) * m.cost[COST_SCAN_PAGE]
    st.one[ONE_RESCHED_NS] += (1 + young) * m.cost[COST_SCAN_PAGE]
    return young


@kernel
def damos_pa_filter_out(m, st, k, scheme, folio):
    """1 if a filter of pages rejects the folio. A young folio that a young filter looks at is old afterwards."""
    for i in range(st.scheme[scheme_row(k, scheme) + S_NR_FILTERS]):
        at = filter_row(k, scheme, i)
        kind = st.filter[at + F_TYPE]
        if kind == FILTER_ADDR or kind == FILTER_TARGET:
            continue
        matched = 0
        if kind == FILTER_ANON:
            matched = 1 if page_test(m, folio, PG_ANON) else 0
        elif kind == FILTER_MEMCG:
            matched = 1 if page_memcg(m, folio) == st.filter[at + F_MEMCG] else 0
        elif kind == FILTER_YOUNG:
            matched = young_old(m, st, folio)
        if matched == st.filter[at + F_MATCHING]:
            return 1
    return 0


@leaf
def has_young_filter(st, k, scheme):
    """1 if user space set a filter of young pages."""
    for i in range(st.scheme[scheme_row(k, scheme) + S_NR_FILTERS]):
        if st.filter[filter_row(k, scheme, i) + F_TYPE] == FILTER_YOUNG:
            return 1
    return 0
