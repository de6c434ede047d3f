"""Quotas of a scheme: how many bytes it may act on in a window, and which regions come first.

Models: mm/damon/core.c damos_adjust_quota(), damos_set_effective_quota(), damon_feed_loop_next_input(), damos_quota_score(); ops-common.c
damon_hot_score(), damon_cold_score(), damos_set_quota_goal_current_value(). O(regions) a due application with a quota.
"""

from mmlab.kernels.jit import kernel, leaf
from mmlab.model.rows import PSI_SEEN, SC_NOW_NS
from mmlab_linux.monitor.damon.merge_split import max_nr_accesses
from mmlab_linux.monitor.damon.region import next_region, region_sz, target_row
from mmlab_linux.monitor.damon.state import (
    C_AGGR_US, C_NR_TARGETS, CTX_STRIDE, D_MIN, DAMOS_LRU_DEPRIO, DAMOS_LRU_PRIO, DAMOS_MIGRATE_COLD, DAMOS_MIGRATE_HOT, DAMOS_PAGEOUT,
    G_CURRENT, G_LAST_PSI, G_METRIC, G_TARGET, GOAL_SOME_MEM_PSI_US, GOAL_STRIDE, MAX_GOALS, MAX_SCHEMES, NR_SCORES, R_AGE, R_NR_ACCESSES, R_NR_ACCESSES_BP, REGION_STRIDE, S_ACTION,
    S_CHARGED_FROM, S_CHARGED_SZ, S_ESZ, S_ESZ_BP, S_MAX_AGE, S_MAX_NR_ACCESSES, S_MAX_SZ, S_MIN_AGE, S_MIN_NR_ACCESSES, S_MIN_SCORE,
    S_MIN_SZ, S_NR_GOALS, S_Q_MS, S_Q_RESET_MS, S_Q_SZ, S_Q_WEIGHT_AGE, S_Q_WEIGHT_NR_ACCESSES, S_QT_EXCEEDS, S_TOTAL_CHARGED_NS,
    S_TOTAL_CHARGED_SZ, SCHEME_STRIDE, T_HEAD, TICK_NS, ULONG_MAX,
)

GOAL_SCORE = 10000
MAX_SUBSCORE = 100
MAX_AGE_LOG = 32


@leaf
def scheme_row(k, scheme):
    """First word of a context's scheme in st.scheme."""
    return (k * MAX_SCHEMES + scheme) * SCHEME_STRIDE


@leaf
def feed_loop(last, score):
    """damon_feed_loop_next_input(): grows by how far the score is below the goal, shrinks by how far it is above."""
    if score == GOAL_SCORE:
        return last
    if score >= 2 * GOAL_SCORE:
        return GOAL_SCORE
    change = last // GOAL_SCORE * abs(score - GOAL_SCORE) + last % GOAL_SCORE * abs(score - GOAL_SCORE) // GOAL_SCORE
    if score < GOAL_SCORE:
        return min(last + change, ULONG_MAX // 4)
    return max(last - change, GOAL_SCORE)


@leaf
def quota_score(m, st, k, scheme):
    """The highest over the scheme's goals of current / target, in 1/10000. A goal of memory pressure asks for the microseconds in which some task
    was stalled since it was asked last, as far as the averages know: they look once in two seconds."""
    best = 0
    for i in range(st.scheme[scheme_row(k, scheme) + S_NR_GOALS]):
        goal = ((k * MAX_SCHEMES + scheme) * MAX_GOALS + i) * GOAL_STRIDE
        if st.goal[goal + G_METRIC] == GOAL_SOME_MEM_PSI_US:
            total = m.psi[PSI_SEEN] // 1000
            st.goal[goal + G_CURRENT] = total - st.goal[goal + G_LAST_PSI]
            st.goal[goal + G_LAST_PSI] = total
        best = max(best, st.goal[goal + G_CURRENT] * GOAL_SCORE // max(1, st.goal[goal + G_TARGET]))
    return best


@kernel
def set_effective_quota(m, st, k, scheme):
    """damos_set_effective_quota(): the size, time and goal limits as bytes a window."""
    row = scheme_row(k, scheme)
    ms, sz, goals = st.scheme[row + S_Q_MS], st.scheme[row + S_Q_SZ], st.scheme[row + S_NR_GOALS]
    if ms == 0 and goals == 0:
        st.scheme[row + S_ESZ] = sz
        return 0
    esz = ULONG_MAX
    if goals > 0:
        st.scheme[row + S_ESZ_BP] = feed_loop(max(st.scheme[row + S_ESZ_BP], GOAL_SCORE), quota_score(m, st, k, scheme))
        esz = st.scheme[row + S_ESZ_BP] // GOAL_SCORE
    if ms > 0:
        throughput = D_MIN * 1024
        if st.scheme[row + S_TOTAL_CHARGED_NS] > 0:
            throughput = st.scheme[row + S_TOTAL_CHARGED_SZ] * 1000 // max(1, st.scheme[row + S_TOTAL_CHARGED_NS] // 1000)
        esz = max(min(throughput * ms, esz), D_MIN)
    if sz > 0 and sz < esz:
        esz = sz
    st.scheme[row + S_ESZ] = esz
    return 0


@leaf
def hot_score(st, k, row, r):
    """damon_hot_score(): 0 .. 99 by how often and how long, weighted."""
    base = r * REGION_STRIDE
    freq = st.region[base + R_NR_ACCESSES] * MAX_SUBSCORE // max_nr_accesses(st, k)
    seconds = st.region[base + R_AGE] * st.ctx[k * CTX_STRIDE + C_AGGR_US] // 1000000
    bits = 0
    while bits < MAX_AGE_LOG and seconds > 0:
        seconds >>= 1
        bits += 1
    age = ((-bits if freq == 0 else bits) + MAX_AGE_LOG) * MAX_SUBSCORE // MAX_AGE_LOG // 2
    by_freq, by_age = st.scheme[row + S_Q_WEIGHT_NR_ACCESSES], st.scheme[row + S_Q_WEIGHT_AGE]
    hotness = by_freq * freq + by_age * age
    if by_freq + by_age > 0:
        hotness //= by_freq + by_age
    return hotness * (NR_SCORES - 1) // MAX_SUBSCORE


@leaf
def scheme_score(st, k, row, r):
    """ops.get_scheme_score(): how much a region wants the action; all alike for most."""
    action = st.scheme[row + S_ACTION]
    if action in (DAMOS_LRU_PRIO, DAMOS_MIGRATE_HOT):
        return hot_score(st, k, row, r)
    if action in (DAMOS_PAGEOUT, DAMOS_LRU_DEPRIO, DAMOS_MIGRATE_COLD):
        return NR_SCORES - 1 - hot_score(st, k, row, r)
    return NR_SCORES - 1


@leaf
def fits_pattern(st, row, r):
    """1 if size, nr_accesses and age of the region are in the scheme's access pattern."""
    base = r * REGION_STRIDE
    sz, nr_accesses, age = region_sz(st, r), st.region[base + R_NR_ACCESSES_BP] // 10000, st.region[base + R_AGE]
    if sz < st.scheme[row + S_MIN_SZ] or sz > st.scheme[row + S_MAX_SZ]:
        return 0
    if nr_accesses < st.scheme[row + S_MIN_NR_ACCESSES] or nr_accesses > st.scheme[row + S_MAX_NR_ACCESSES]:
        return 0
    return 1 if st.scheme[row + S_MIN_AGE] <= age and age <= st.scheme[row + S_MAX_AGE] else 0


@kernel
def find_min_score(st, k, scheme):
    """The least score that regions may have so that those at or above it reach the quota."""
    row = scheme_row(k, scheme)
    for score in range(NR_SCORES):
        st.score[score] = 0
    most = 0
    for index in range(st.ctx[k * CTX_STRIDE + C_NR_TARGETS]):
        head = st.target[target_row(k, index) + T_HEAD]
        r = next_region(st, head)
        while r != head:
            if fits_pattern(st, row, r):
                score = scheme_score(st, k, row, r)
                st.score[score] += region_sz(st, r)
                most = max(most, score)
            r = next_region(st, r)
    score = most
    total = st.score[score]
    while total < st.scheme[row + S_ESZ] and score > 0:
        score -= 1
        total += st.score[score]
    st.scheme[row + S_MIN_SCORE] = score
    return 0


@kernel
def adjust_quota(m, st, k, scheme):
    """damos_adjust_quota(): begin a new window when the old one is over, and find the least score."""
    row = scheme_row(k, scheme)
    if st.scheme[row + S_Q_MS] == 0 and st.scheme[row + S_Q_SZ] == 0 and st.scheme[row + S_NR_GOALS] == 0:
        return 0
    ticks = m.sc[SC_NOW_NS] // TICK_NS
    if st.scheme[row + S_TOTAL_CHARGED_SZ] == 0 and st.scheme[row + S_CHARGED_FROM] < 0:
        st.scheme[row + S_CHARGED_FROM] = ticks
    if ticks >= st.scheme[row + S_CHARGED_FROM] + (st.scheme[row + S_Q_RESET_MS] * 1000000 + TICK_NS - 1) // TICK_NS:
        if st.scheme[row + S_ESZ] > 0 and st.scheme[row + S_CHARGED_SZ] >= st.scheme[row + S_ESZ]:
            st.scheme[row + S_QT_EXCEEDS] += 1
        st.scheme[row + S_TOTAL_CHARGED_SZ] += st.scheme[row + S_CHARGED_SZ]
        st.scheme[row + S_CHARGED_FROM] = ticks
        st.scheme[row + S_CHARGED_SZ] = 0
        set_effective_quota(m, st, k, scheme)
    return find_min_score(st, k, scheme)
