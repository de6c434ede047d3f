"""Changing a running context: new attributes with converted results, schemes and targets from the parameter context.

Models: mm/damon/core.c damon_commit_ctx(), damon_set_attrs(), damon_update_monitoring_results(), damos_commit(), damos_commit_quota_goals(),
damon_commit_targets().
"""

from mmlab.kernels.jit import kernel
from mmlab_linux.monitor.damon.damos import apply_interval
from mmlab_linux.monitor.damon.merge_split import max_nr_accesses, sample_us
from mmlab_linux.monitor.damon.quota import scheme_row
from mmlab_linux.monitor.damon.region import destroy_target, init_target, next_region, set_nr_accesses, set_user_regions, target_row
from mmlab_linux.monitor.damon.state import (
    C_AGGR_US, C_MAX_NR_REGIONS, C_NEXT_AGGREGATION, C_NEXT_OPS_UPDATE, C_NR_SCHEMES, C_NR_TARGETS, C_SAMPLE_US, C_SIS,
    C_UPDATE_US, CTX_STRIDE, FILTER_STRIDE, G_LAST_PSI, GOAL_STRIDE, MAX_FILTERS, MAX_GOALS, MAX_RANGES, MAX_SCHEMES, NR_SCHEME_PARAMS, PARAM_CTX,
    R_AGE, R_NR_ACCESSES, REGION_STRIDE, S_ACTIVATED, S_CHARGE_TARGET, S_CHARGED_FROM, S_NEXT_APPLY, S_NR_GOALS, SCHEME_STRIDE, T_HEAD, T_NR_RANGES,
    T_PID_NR, T_RANGES, T_TASK,
)


@kernel
def set_attrs(st, k):
    """damon_set_attrs() from the parameter context: what regions show is converted to the new intervals, and their counts begin now."""
    base, new = k * CTX_STRIDE, (PARAM_CTX + k) * CTX_STRIDE
    old_top, old_aggr = max_nr_accesses(st, k), st.ctx[base + C_AGGR_US]
    for field in range(C_SAMPLE_US, C_MAX_NR_REGIONS + 1):
        st.ctx[base + field] = st.ctx[new + field]
    top, aggr = max_nr_accesses(st, k), st.ctx[base + C_AGGR_US]
    for index in range(st.ctx[base + C_NR_TARGETS]):
        head = st.target[target_row(k, index) + T_HEAD]
        r = next_region(st, head)
        while r != head:
            share = st.region[r * REGION_STRIDE + R_NR_ACCESSES] * 10000 // old_top
            set_nr_accesses(st, r, share * top // 10000)
            if aggr > 0:
                st.region[r * REGION_STRIDE + R_AGE] = st.region[r * REGION_STRIDE + R_AGE] * old_aggr // aggr
            r = next_region(st, r)
    st.ctx[base + C_NEXT_AGGREGATION] = st.ctx[base + C_SIS] + aggr // sample_us(st, k)
    st.ctx[base + C_NEXT_OPS_UPDATE] = st.ctx[base + C_SIS] + st.ctx[base + C_UPDATE_US] // sample_us(st, k)
    for scheme in range(st.ctx[base + C_NR_SCHEMES]):
        row = scheme_row(k, scheme)
        st.scheme[row + S_NEXT_APPLY] = st.ctx[base + C_SIS] + apply_interval(st, k, row)
    return 0


@kernel
def commit_goals(st, k):
    """damos_commit_quota_goals(): goals of the schemes that both contexts have; what was seen of memory pressure stays."""
    both = min(st.ctx[k * CTX_STRIDE + C_NR_SCHEMES], st.ctx[(PARAM_CTX + k) * CTX_STRIDE + C_NR_SCHEMES])
    for scheme in range(both):
        before = st.scheme[scheme_row(k, scheme) + S_NR_GOALS]
        st.scheme[scheme_row(k, scheme) + S_NR_GOALS] = st.scheme[scheme_row(PARAM_CTX + k, scheme) + S_NR_GOALS]
        to, source = ((k * MAX_SCHEMES + scheme) * MAX_GOALS, ((PARAM_CTX + k) * MAX_SCHEMES + scheme) * MAX_GOALS)
        for i in range(st.scheme[scheme_row(k, scheme) + S_NR_GOALS]):
            seen = st.goal[(to + i) * GOAL_STRIDE + G_LAST_PSI] if i < before else 0
            for word in range(GOAL_STRIDE):
                st.goal[(to + i) * GOAL_STRIDE + word] = st.goal[(source + i) * GOAL_STRIDE + word]
            st.goal[(to + i) * GOAL_STRIDE + G_LAST_PSI] = seen
    return 0


@kernel
def init_scheme(st, k, scheme):
    """A scheme as damon_new_scheme() leaves it, apart from what user space set."""
    row = scheme_row(k, scheme)
    for field in range(NR_SCHEME_PARAMS, SCHEME_STRIDE):
        st.scheme[row + field] = 0
    st.scheme[row + S_ACTIVATED] = 1
    st.scheme[row + S_CHARGED_FROM] = -1
    st.scheme[row + S_CHARGE_TARGET] = -1
    st.scheme[row + S_NEXT_APPLY] = st.ctx[k * CTX_STRIDE + C_SIS] + apply_interval(st, k, row)
    return 0


@kernel
def commit_schemes(st, k):
    """damon_commit_schemes(): matched by their numbers; statistics and quota windows of those that stay go on."""
    base, new = k * CTX_STRIDE, (PARAM_CTX + k) * CTX_STRIDE
    before = st.ctx[base + C_NR_SCHEMES]
    st.ctx[base + C_NR_SCHEMES] = st.ctx[new + C_NR_SCHEMES]
    for scheme in range(st.ctx[new + C_NR_SCHEMES]):
        row, source = scheme_row(k, scheme), scheme_row(PARAM_CTX + k, scheme)
        nr_goals = st.scheme[row + S_NR_GOALS] if scheme < before else 0
        for field in range(NR_SCHEME_PARAMS):
            st.scheme[row + field] = st.scheme[source + field]
        st.scheme[row + S_NR_GOALS] = nr_goals  # commit_goals() compares
        to, origin = (k * MAX_SCHEMES + scheme) * MAX_FILTERS, ((PARAM_CTX + k) * MAX_SCHEMES + scheme) * MAX_FILTERS
        for word in range(MAX_FILTERS * FILTER_STRIDE):
            st.filter[to * FILTER_STRIDE + word] = st.filter[origin * FILTER_STRIDE + word]
        if scheme >= before:
            init_scheme(st, k, scheme)
        st.scheme[row + S_ACTIVATED] = 1
    return commit_goals(st, k)


@kernel
def commit_targets(st, k):
    """damon_commit_targets(): matched by their numbers; regions that the user gave replace the old ones where they differ."""
    base, new = k * CTX_STRIDE, (PARAM_CTX + k) * CTX_STRIDE
    before, after = st.ctx[base + C_NR_TARGETS], st.ctx[new + C_NR_TARGETS]
    for index in range(after, before):
        destroy_target(st, k, index)
    st.ctx[base + C_NR_TARGETS] = after
    for word in range(2 * MAX_RANGES):
        st.range[k * 2 * MAX_RANGES + word] = st.range[(PARAM_CTX + k) * 2 * MAX_RANGES + word]
    for index in range(after):
        row, source = target_row(k, index), target_row(PARAM_CTX + k, index)
        for field in (T_TASK, T_PID_NR, T_RANGES, T_NR_RANGES):
            st.target[row + field] = st.target[source + field]
        if index >= before:
            init_target(st, k, index)
        set_user_regions(st, k, index)
    return 0


@kernel
def commit_ctx(st, k):
    """damon_commit_ctx(): everything."""
    commit_schemes(st, k)
    commit_targets(st, k)
    return set_attrs(st, k)
