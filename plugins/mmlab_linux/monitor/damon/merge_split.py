"""How regions follow the accesses: neighbours that look alike merge, then all are cut at random so that differences can show.

Models: mm/damon/core.c damon_merge_two_regions(), damon_merge_regions_of(), kdamond_merge_regions(), damon_split_regions_of(),
kdamond_split_regions(). O(regions).
"""

from mmlab.kernels.jit import kernel, leaf
from mmlab_linux.monitor.damon.rand import damon_rand
from mmlab_linux.monitor.damon.region import (
    destroy_region, next_region, region_sz, set_nr_accesses, split_region_at, target_row,
)
from mmlab_linux.monitor.damon.state import (
    C_AGGR_US, C_MAX_NR_REGIONS, C_NR_REGIONS, C_NR_TARGETS, C_SAMPLE_US, C_SZ_LIMIT, CTX_STRIDE, D_MIN, ONE_SPLIT_LAST, R_AGE, R_END,
    R_LAST_NR_ACCESSES, R_NR_ACCESSES, R_START, REGION_STRIDE, T_HEAD,
)


@leaf
def sample_us(st, k):
    """The sampling interval, 0 counting as 1."""
    return max(1, st.ctx[k * CTX_STRIDE + C_SAMPLE_US])


@leaf
def max_nr_accesses(st, k):
    """damon_max_nr_accesses(): the most that a region can show in a window."""
    return max(1, st.ctx[k * CTX_STRIDE + C_AGGR_US] // sample_us(st, k))


@kernel
def merge_two_regions(st, k, row, left, right):
    """damon_merge_two_regions(): means weighted by size; last_nr_accesses stays the left one's."""
    base, other = left * REGION_STRIDE, right * REGION_STRIDE
    left_pages, right_pages = region_sz(st, left) // D_MIN, region_sz(st, right) // D_MIN
    pages = left_pages + right_pages
    set_nr_accesses(st, left, (st.region[base + R_NR_ACCESSES] * left_pages + st.region[other + R_NR_ACCESSES] * right_pages) // pages)
    st.region[base + R_AGE] = (st.region[base + R_AGE] * left_pages + st.region[other + R_AGE] * right_pages) // pages
    st.region[base + R_END] = st.region[other + R_END]
    destroy_region(st, k, row, right)


@kernel
def merge_regions_of(st, k, index, thres, sz_limit):
    """damon_merge_regions_of(): one pass over a target: ages, then merges of neighbours at most thres apart and sz_limit together."""
    row = target_row(k, index)
    head = st.target[row + T_HEAD]
    prev = head
    r = next_region(st, head)
    while r != head:
        base = r * REGION_STRIDE
        after = next_region(st, r)
        if abs(st.region[base + R_NR_ACCESSES] - st.region[base + R_LAST_NR_ACCESSES]) > thres:
            st.region[base + R_AGE] = 0
        else:
            st.region[base + R_AGE] += 1
        before = prev * REGION_STRIDE
        if (
            prev != head
            and st.region[before + R_END] == st.region[base + R_START]
            and abs(st.region[before + R_NR_ACCESSES] - st.region[base + R_NR_ACCESSES]) <= thres
            and region_sz(st, prev) + region_sz(st, r) <= sz_limit
        ):
            merge_two_regions(st, k, row, prev, r)
        else:
            prev = r
        r = after


@kernel
def kdamond_merge_regions(st, k, thres):
    """One pass over all targets; more, with twice the threshold, while there are too many regions."""
    base = k * CTX_STRIDE
    limit = st.ctx[base + C_AGGR_US] // sample_us(st, k)
    while True:
        for index in range(st.ctx[base + C_NR_TARGETS]):
            merge_regions_of(st, k, index, thres, st.ctx[base + C_SZ_LIMIT])
        thres = max(1, thres * 2)
        if st.ctx[base + C_NR_REGIONS] <= st.ctx[base + C_MAX_NR_REGIONS] or thres // 2 >= limit:
            return 0


@kernel
def split_regions_of(m, st, k, index, nr_subs):
    """damon_split_regions_of(): each region into up to nr_subs pieces at random tenths."""
    row = target_row(k, index)
    head = st.target[row + T_HEAD]
    r = next_region(st, head)
    while r != head:
        after = next_region(st, r)
        sz = region_sz(st, r)
        for _ in range(nr_subs - 1):
            if sz <= 2 * D_MIN:
                break
            sub = damon_rand(m, st, k, 1, 10) * sz // 10 // D_MIN * D_MIN
            if sub == 0 or sub >= sz:
                continue
            split_region_at(st, k, row, r, sub)
            sz = sub
        r = after


@kernel
def kdamond_split_regions(m, st, k):
    """Cut every region in two, or in three if the number has not changed since the last cut; none while there are more than half of the bound."""
    base = k * CTX_STRIDE
    nr_regions, bound = st.ctx[base + C_NR_REGIONS], st.ctx[base + C_MAX_NR_REGIONS]
    if nr_regions > bound // 2:
        return 0
    nr_subs = 3 if st.one[ONE_SPLIT_LAST] == nr_regions and nr_regions < bound // 3 else 2
    for index in range(st.ctx[base + C_NR_TARGETS]):
        split_regions_of(m, st, k, index, nr_subs)
    st.one[ONE_SPLIT_LAST] = nr_regions
    return 0
