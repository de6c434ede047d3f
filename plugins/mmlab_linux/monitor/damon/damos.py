"""DAMOS: schemes act on the regions whose size, accesses and age fit their pattern.

Models: mm/damon/core.c kdamond_apply_schemes(), damon_do_apply_schemes(), damos_skip_charged_region(), damos_apply_scheme(),
damos_update_stat(). What a quota, a filter or a mark splits off is not met before the next round: the walk
has looked up its next region already. O(regions * schemes) a round.
"""

from mmlab.kernels.jit import kernel, leaf
from mmlab.model.rows import SC_NOW_NS
from mmlab_linux.monitor.damon.filters import damos_filter_out
from mmlab_linux.monitor.damon.merge_split import sample_us
from mmlab_linux.monitor.damon.paddr import pa_apply_scheme
from mmlab_linux.monitor.damon.quota import adjust_quota, fits_pattern, scheme_row, scheme_score
from mmlab_linux.monitor.damon.region import next_region, prev_region, region_sz, split_region_at, target_row
from mmlab_linux.monitor.damon.state import (
    C_AGGR_US, C_NR_SCHEMES, C_NR_TARGETS, C_OPS, C_SIS, CTX_STRIDE, D_MIN, DAMOS_STAT, EVENT_BEFORE_APPLY, NR_TRIED_ROWS, ONE_NR_TRIED,
    OPS_PADDR, R_AGE, R_END, R_NR_ACCESSES_BP, R_START, REGION_STRIDE, S_ACTION, S_ACTIVATED, S_APPLY_US, S_CHARGE_ADDR, S_CHARGE_TARGET,
    S_CHARGED_SZ, S_ESZ, S_MIN_SCORE, S_NEXT_APPLY, S_NR_APPLIED, S_NR_TRIED, S_SZ_APPLIED, S_SZ_TRIED, S_TOTAL_CHARGED_NS,
    S_TRIED_WANTED, T_HEAD, TICK_NS, TRIED_NOT, TRIED_STARTED, TRIED_STRIDE,
)
from mmlab_linux.monitor.damon.trace import trace_region
from mmlab_linux.monitor.damon.vaddr import va_apply_scheme


@leaf
def apply_interval(st, k, row):
    """The scheme's apply interval in sampling intervals."""
    us = st.scheme[row + S_APPLY_US]
    return (us if us > 0 else st.ctx[k * CTX_STRIDE + C_AGGR_US]) // sample_us(st, k)


@leaf
def is_due(st, k, row):
    """1 if the scheme is on and its time has come."""
    return 1 if st.ctx[k * CTX_STRIDE + C_SIS] >= st.scheme[row + S_NEXT_APPLY] and st.scheme[row + S_ACTIVATED] else 0


@kernel
def skip_charged_region(st, k, scheme, index, r):
    """damos_skip_charged_region(): -1 to leave the region out, else the region to use (what is left of it beyond the mark)."""
    at = scheme_row(k, scheme)
    if st.scheme[at + S_CHARGE_TARGET] < 0:
        return r
    if index != st.scheme[at + S_CHARGE_TARGET]:
        return -1
    row = target_row(k, index)
    mark = st.scheme[at + S_CHARGE_ADDR]
    base = r * REGION_STRIDE
    if r == prev_region(st, st.target[row + T_HEAD]):
        st.scheme[at + S_CHARGE_TARGET] = -1
        st.scheme[at + S_CHARGE_ADDR] = 0
        return -1
    if mark > 0 and st.region[base + R_END] <= mark:
        return -1
    if mark > 0 and st.region[base + R_START] < mark:
        sz = (mark - st.region[base + R_START]) // D_MIN * D_MIN
        if sz == 0:
            if region_sz(st, r) <= D_MIN:
                return -1
            sz = D_MIN
        new = split_region_at(st, k, row, r, sz)
        r = new if new >= 0 else r
    st.scheme[at + S_CHARGE_TARGET] = -1
    st.scheme[at + S_CHARGE_ADDR] = 0
    return r


@kernel
def note_tried(st, scheme, at, r):
    """For tried_regions: what a scheme tries in the round that is asked for."""
    if st.scheme[at + S_TRIED_WANTED] == TRIED_NOT or st.one[ONE_NR_TRIED] >= NR_TRIED_ROWS:
        return 0
    st.scheme[at + S_TRIED_WANTED] = TRIED_STARTED
    row, base = st.one[ONE_NR_TRIED] * TRIED_STRIDE, r * REGION_STRIDE
    st.one[ONE_NR_TRIED] += 1
    st.tried[row], st.tried[row + 1] = st.region[base + R_START], st.region[base + R_END]
    st.tried[row + 2], st.tried[row + 3] = st.region[base + R_NR_ACCESSES_BP] // 10000, st.region[base + R_AGE]
    st.tried[row + 4] = scheme
    return 0


@kernel
def apply_scheme(m, st, k, scheme, index, r):
    """damos_apply_scheme(): the action on one region that fits, within the quota and past the filters. A region that a filter cuts counts as
    tried, and is charged, in the size it had before."""
    at, row = scheme_row(k, scheme), target_row(k, index)
    action, esz = st.scheme[at + S_ACTION], st.scheme[at + S_ESZ]
    sz = region_sz(st, r)
    applied = 0
    if esz > 0 and st.scheme[at + S_CHARGED_SZ] + sz > esz:
        sz = (esz - st.scheme[at + S_CHARGED_SZ]) // D_MIN * D_MIN
        if sz > 0:
            split_region_at(st, k, row, r, sz)
    if sz > 0:
        if damos_filter_out(st, k, scheme, index, row, r):
            return 0
        began = m.sc[SC_NOW_NS] // TICK_NS
        note_tried(st, scheme, at, r)
        trace_region(m, st, k, EVENT_BEFORE_APPLY, scheme, index, r)
        if st.ctx[k * CTX_STRIDE + C_OPS] == OPS_PADDR:
            applied = pa_apply_scheme(m, st, k, scheme, r, action)
        else:
            applied = va_apply_scheme(m, st, k, index, r, action)
        st.scheme[at + S_TOTAL_CHARGED_NS] += (m.sc[SC_NOW_NS] // TICK_NS - began) * TICK_NS
        st.scheme[at + S_CHARGED_SZ] += sz
        if esz > 0 and st.scheme[at + S_CHARGED_SZ] >= esz:
            st.scheme[at + S_CHARGE_TARGET] = index
            st.scheme[at + S_CHARGE_ADDR] = st.region[r * REGION_STRIDE + R_END]
        if action != DAMOS_STAT:
            st.region[r * REGION_STRIDE + R_AGE] = 0
    st.scheme[at + S_NR_TRIED] += 1
    st.scheme[at + S_SZ_TRIED] += sz
    if applied > 0:
        st.scheme[at + S_NR_APPLIED] += 1
    st.scheme[at + S_SZ_APPLIED] += applied
    return 0


@kernel
def do_apply_schemes(m, st, k, index, r):
    """damon_do_apply_schemes(): every scheme that is due, on one region."""
    for scheme in range(st.ctx[k * CTX_STRIDE + C_NR_SCHEMES]):
        at = scheme_row(k, scheme)
        esz = st.scheme[at + S_ESZ]
        if is_due(st, k, at) == 0 or (esz > 0 and st.scheme[at + S_CHARGED_SZ] >= esz):
            continue
        use = skip_charged_region(st, k, scheme, index, r)
        if use < 0:
            continue
        r = use
        if fits_pattern(st, at, r) and (esz == 0 or scheme_score(st, k, at, r) >= st.scheme[at + S_MIN_SCORE]):
            apply_scheme(m, st, k, scheme, index, r)
    return 0


@kernel
def kdamond_apply_schemes(m, st, k):
    """One round of the schemes that are due."""
    base = k * CTX_STRIDE
    nr_schemes = st.ctx[base + C_NR_SCHEMES]
    due = 0
    for scheme in range(nr_schemes):
        if is_due(st, k, scheme_row(k, scheme)):
            due = 1
            adjust_quota(m, st, k, scheme)
    if due == 0:
        return 0
    for index in range(st.ctx[base + C_NR_TARGETS]):
        head = st.target[target_row(k, index) + T_HEAD]
        r = next_region(st, head)
        while r != head:
            following = next_region(st, r)
            do_apply_schemes(m, st, k, index, r)
            r = following
    for scheme in range(nr_schemes):
        at = scheme_row(k, scheme)
        if st.ctx[base + C_SIS] >= st.scheme[at + S_NEXT_APPLY]:
            st.scheme[at + S_NEXT_APPLY] += apply_interval(st, k, at)
    return 0
