"""kdamond: the thread of a context, as a machine that does one sampling interval's work a step and then sleeps.

Models: mm/damon/core.c kdamond_fn(), kdamond_init_ctx(), kdamond_reset_aggregated(), kdamond_need_stop(). Intervals count sampling intervals, not
time: a late kdamond stretches everything. Left out: being pre-empted within a step. O(regions) a step, and what schemes do.
"""

from mmlab.kernels.jit import kernel, leaf
from mmlab.model.rows import COST_CONTEXT_SWITCH, SC_NOW_NS, SC_UNPREEMPTED_NS
from mmlab_linux.monitor.damon.access import check_accesses, prepare_access_checks, target_mm
from mmlab_linux.monitor.damon.commit import commit_ctx, commit_goals, init_scheme
from mmlab_linux.monitor.damon.damos import kdamond_apply_schemes
from mmlab_linux.monitor.damon.merge_split import kdamond_merge_regions, kdamond_split_regions, sample_us
from mmlab_linux.monitor.damon.quota import scheme_row
from mmlab_linux.monitor.damon.region import destroy_target, init_target, next_region, region_sz, set_user_regions, target_row
from mmlab_linux.monitor.damon.state import (
    C_AGGR_US, C_MIN_NR_REGIONS, C_NEXT_AGGREGATION, C_NEXT_OPS_UPDATE, C_NR_AGGREGATIONS, C_NR_REGIONS, C_NR_SCHEMES, C_NR_TARGETS, C_OPS,
    C_PHASE, C_REQUEST, C_SAMPLE_US, C_SIS, C_STATE, C_SZ_LIMIT, C_UPDATE_US, C_WAKE_NS, CTX_OFF, CTX_STRIDE, D_MIN, EVENT_AGGREGATED,
    ONE_RESCHED_NS, OPS_PADDR, OPS_VADDR, PHASE_SAMPLE, PHASE_START, PHASE_WAIT, R_LAST_NR_ACCESSES, R_NR_ACCESSES, REGION_STRIDE, REQ_BAD_COMMIT, REQ_COMMIT,
    REQ_GOALS, REQ_NONE, REQ_OFF, REQ_TRIED, S_TRIED_TIMEOUT, S_TRIED_WANTED, T_HEAD, T_NR_REGIONS, TICK_NS, TRIED_NOT, TRIED_STARTED,
)
from mmlab_linux.monitor.damon.trace import trace_region
from mmlab_linux.monitor.damon.vaddr import va_init_regions, va_update
from mmlab_linux.monitor.damon.watermarks import activation_wait_us, kdamond_usleep


@kernel
def region_sz_limit(st, k):
    """damon_region_sz_limit(): all bytes over min_nr_regions; two regions never merge into more."""
    base = k * CTX_STRIDE
    total = 0
    for index in range(st.ctx[base + C_NR_TARGETS]):
        head = st.target[target_row(k, index) + T_HEAD]
        r = next_region(st, head)
        while r != head:
            total += region_sz(st, r)
            r = next_region(st, r)
    return max(total // max(1, st.ctx[base + C_MIN_NR_REGIONS]), D_MIN)


@kernel
def kdamond_start(m, st, k):
    """kdamond_init_ctx(), and ops.init: the first regions."""
    base = k * CTX_STRIDE
    st.ctx[base + C_SIS] = 0
    st.ctx[base + C_NR_REGIONS] = 0
    st.ctx[base + C_NEXT_AGGREGATION] = st.ctx[base + C_AGGR_US] // sample_us(st, k)
    st.ctx[base + C_NEXT_OPS_UPDATE] = st.ctx[base + C_UPDATE_US] // sample_us(st, k)
    for scheme in range(st.ctx[base + C_NR_SCHEMES]):
        init_scheme(st, k, scheme)
    for index in range(st.ctx[base + C_NR_TARGETS]):
        init_target(st, k, index)
        set_user_regions(st, k, index)
        if st.ctx[base + C_OPS] == OPS_VADDR and st.target[target_row(k, index) + T_NR_REGIONS] == 0:
            va_init_regions(m, st, k, index)
    st.ctx[base + C_SZ_LIMIT] = region_sz_limit(st, k)
    return 0


@leaf
def need_stop(m, st, k):
    """1 when no target has a process any more."""
    base = k * CTX_STRIDE
    if st.ctx[base + C_OPS] == OPS_PADDR:
        return 0
    for index in range(st.ctx[base + C_NR_TARGETS]):
        if target_mm(m, st, k, index) >= 0:
            return 0
    return 1


@kernel
def kdamond_end(st, k):
    """The thread ends, and all its regions go. Also what `off` does."""
    base = k * CTX_STRIDE
    if st.ctx[base + C_PHASE] != PHASE_START:
        for index in range(st.ctx[base + C_NR_TARGETS]):
            destroy_target(st, k, index)
    st.ctx[base + C_STATE] = CTX_OFF
    st.ctx[base + C_PHASE] = PHASE_START
    st.ctx[base + C_NR_REGIONS] = 0
    st.ctx[base + C_REQUEST] = REQ_NONE
    return 0


@kernel
def reset_aggregated(m, st, k):
    """kdamond_reset_aggregated(): trace each region, keep its count as the last one, and count from 0."""
    for index in range(st.ctx[k * CTX_STRIDE + C_NR_TARGETS]):
        head = st.target[target_row(k, index) + T_HEAD]
        r = next_region(st, head)
        while r != head:
            trace_region(m, st, k, EVENT_AGGREGATED, 0, index, r)
            st.region[r * REGION_STRIDE + R_LAST_NR_ACCESSES] = st.region[r * REGION_STRIDE + R_NR_ACCESSES]
            st.region[r * REGION_STRIDE + R_NR_ACCESSES] = 0
            r = next_region(st, r)
    st.ctx[k * CTX_STRIDE + C_NR_AGGREGATIONS] += 1
    return 0


@kernel
def tried_regions_done(m, st, k):
    """damos_sysfs_mark_finished_regions_updates(), damos_sysfs_regions_upd_done(): 1 if each scheme had a round in which it tried something, or
    waited for two. That ends its part."""
    done = 1
    for scheme in range(st.ctx[k * CTX_STRIDE + C_NR_SCHEMES]):
        row = scheme_row(k, scheme)
        if st.scheme[row + S_TRIED_WANTED] == TRIED_STARTED or m.sc[SC_NOW_NS] // TICK_NS > st.scheme[row + S_TRIED_TIMEOUT]:
            st.scheme[row + S_TRIED_WANTED] = TRIED_NOT
        if st.scheme[row + S_TRIED_WANTED]:
            done = 0
    return done


@kernel
def serve_request(m, st, k, active, after_aggregation):
    """What user space asked for by `state`: a commit only at the end of an aggregation, the rest at any time. While watermarks keep all schemes
    off (active 0) none will try anything. 1 if the thread ends, as after a commit of what DAMON refuses."""
    request = st.ctx[k * CTX_STRIDE + C_REQUEST]
    if (request == REQ_COMMIT or request == REQ_BAD_COMMIT) and after_aggregation == 0:
        return 0
    if request == REQ_BAD_COMMIT:
        return 1
    if request == REQ_COMMIT:
        commit_ctx(st, k)
    elif request == REQ_GOALS:
        commit_goals(st, k)
    elif request == REQ_TRIED and tried_regions_done(m, st, k) == 0 and active:
        return 0
    st.ctx[k * CTX_STRIDE + C_REQUEST] = REQ_NONE
    return 0


@kernel
def after_sample(m, st, k):
    """One sampling interval has passed: look, and at the ends of windows merge, act, trace, split and update. 1 if the thread ends."""
    base = k * CTX_STRIDE
    next_aggregation, next_update = st.ctx[base + C_NEXT_AGGREGATION], st.ctx[base + C_NEXT_OPS_UPDATE]
    st.ctx[base + C_SIS] += 1
    sis = st.ctx[base + C_SIS]
    most = check_accesses(m, st, k)
    if sis >= next_aggregation:
        kdamond_merge_regions(st, k, most // 10)
    if serve_request(m, st, k, 1, sis >= next_aggregation):
        return 1
    if st.ctx[base + C_NR_SCHEMES] > 0:
        kdamond_apply_schemes(m, st, k)
    if sis >= next_aggregation:
        st.ctx[base + C_NEXT_AGGREGATION] = next_aggregation + st.ctx[base + C_AGGR_US] // sample_us(st, k)
        reset_aggregated(m, st, k)
        kdamond_split_regions(m, st, k)
    if sis >= next_update:
        st.ctx[base + C_NEXT_OPS_UPDATE] = next_update + st.ctx[base + C_UPDATE_US] // sample_us(st, k)
        if st.ctx[base + C_OPS] == OPS_VADDR:
            for index in range(st.ctx[base + C_NR_TARGETS]):
                if target_mm(m, st, k, index) >= 0:
                    va_update(m, st, k, index)
        st.ctx[base + C_SZ_LIMIT] = region_sz_limit(st, k)
    return 0


@kernel
def kdamond_step(m, st, k):
    """run_kdamond(), which cannot be preempted but where it reclaims, migrates or calls madvise()."""
    began = m.sc[SC_NOW_NS]
    st.one[ONE_RESCHED_NS] = 0
    run_kdamond(m, st, k)
    m.sc[SC_UNPREEMPTED_NS] += m.sc[SC_NOW_NS] - began - st.one[ONE_RESCHED_NS]
    return 0


@kernel
def run_kdamond(m, st, k):
    """Run the thread until it sleeps: C_WAKE_NS says until when."""
    base = k * CTX_STRIDE
    m.sc[SC_NOW_NS] += 2 * m.cost[COST_CONTEXT_SWITCH]
    if st.ctx[base + C_REQUEST] == REQ_OFF:
        return kdamond_end(st, k)
    ends = 0
    if st.ctx[base + C_PHASE] == PHASE_START:
        kdamond_start(m, st, k)
    elif st.ctx[base + C_PHASE] == PHASE_SAMPLE:
        ends = after_sample(m, st, k)
    else:
        ends = serve_request(m, st, k, 0, 1)
    if ends or need_stop(m, st, k):
        return kdamond_end(st, k)
    wait = activation_wait_us(m, st, k)
    if wait > 0:
        st.ctx[base + C_PHASE] = PHASE_WAIT
        st.ctx[base + C_WAKE_NS] = kdamond_usleep(m, wait)
        return 0
    prepare_access_checks(m, st, k)
    st.ctx[base + C_PHASE] = PHASE_SAMPLE
    # an interval of 0 still takes a moment, or nothing else would ever run
    st.ctx[base + C_WAKE_NS] = max(kdamond_usleep(m, st.ctx[base + C_SAMPLE_US]), m.sc[SC_NOW_NS] + 1000)
    return 0
