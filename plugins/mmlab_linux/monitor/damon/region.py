"""Regions: rows on the circular, ascending list of their target; T_HEAD is the list's sentinel row.

Models: mm/damon/core.c damon_new_region(), damon_insert_region(), damon_destroy_region(), damon_split_region_at(), damon_set_regions(),
damon_fill_regions_holes(). Everything is O(1) but damon_set_regions().
"""

from mmlab.kernels.jit import kernel, leaf
from mmlab_linux.monitor.damon.state import (
    C_NR_REGIONS, CTX_STRIDE, D_MIN, MAX_RANGES, MAX_TARGETS, NR_REGION_ROWS, ONE_REGION_FREE, ONE_REGION_TOP, R_AGE, R_END,
    R_NEXT, R_NR_ACCESSES, R_NR_ACCESSES_BP, R_PREV, R_START, REGION_STRIDE, T_HEAD, T_NR_RANGES,
    T_NR_REGIONS, T_RANGES, TARGET_STRIDE,
)


@leaf
def target_row(k, index):
    """First word of a context's target in st.target."""
    return (k * MAX_TARGETS + index) * TARGET_STRIDE


@leaf
def next_region(st, r):
    """The row after r on its list."""
    return st.region[r * REGION_STRIDE + R_NEXT]


@leaf
def prev_region(st, r):
    """The row before r on its list."""
    return st.region[r * REGION_STRIDE + R_PREV]


@leaf
def region_sz(st, r):
    """Bytes."""
    return st.region[r * REGION_STRIDE + R_END] - st.region[r * REGION_STRIDE + R_START]


@leaf
def can_add_region(st):
    """1 while there is a row left."""
    return 1 if st.one[ONE_REGION_FREE] >= 0 or st.one[ONE_REGION_TOP] < NR_REGION_ROWS else 0


@kernel
def alloc_row(st):
    """A row with all counters 0, linked to itself."""
    r = st.one[ONE_REGION_FREE]
    if r >= 0:
        st.one[ONE_REGION_FREE] = st.region[r * REGION_STRIDE + R_NEXT]
    else:
        r = st.one[ONE_REGION_TOP]
        st.one[ONE_REGION_TOP] += 1
    base = r * REGION_STRIDE
    for field in range(R_NEXT):
        st.region[base + field] = 0
    st.region[base + R_NEXT] = r
    st.region[base + R_PREV] = r
    return r


@leaf
def free_row(st, r):
    """Back to the free rows."""
    st.region[r * REGION_STRIDE + R_NEXT] = st.one[ONE_REGION_FREE]
    st.one[ONE_REGION_FREE] = r


@kernel
def insert_region(st, k, row, before, start, end):
    """damon_insert_region(): a new region of the target at `row`, in front of region (or sentinel) `before`; its row number."""
    r = alloc_row(st)
    base = r * REGION_STRIDE
    prev = prev_region(st, before)
    st.region[base + R_START], st.region[base + R_END] = start, end
    st.region[base + R_NEXT], st.region[base + R_PREV] = before, prev
    st.region[prev * REGION_STRIDE + R_NEXT] = r
    st.region[before * REGION_STRIDE + R_PREV] = r
    st.target[row + T_NR_REGIONS] += 1
    st.ctx[k * CTX_STRIDE + C_NR_REGIONS] += 1
    return r


@kernel
def destroy_region(st, k, row, r):
    """Off its target's list."""
    before, after = prev_region(st, r), next_region(st, r)
    st.region[before * REGION_STRIDE + R_NEXT] = after
    st.region[after * REGION_STRIDE + R_PREV] = before
    st.target[row + T_NR_REGIONS] -= 1
    st.ctx[k * CTX_STRIDE + C_NR_REGIONS] -= 1
    free_row(st, r)


@kernel
def split_region_at(st, k, row, r, sz):
    """damon_split_region_at(): r keeps the first sz bytes; the rest is a new region after it with the same counters. Its row, or -1."""
    if can_add_region(st) == 0:
        return -1
    base = r * REGION_STRIDE
    cut = st.region[base + R_START] + sz
    new = insert_region(st, k, row, next_region(st, r), cut, st.region[base + R_END])
    st.region[base + R_END] = cut
    for field in range(R_NR_ACCESSES, R_AGE + 1):
        st.region[new * REGION_STRIDE + field] = st.region[base + field]
    return new


@kernel
def init_target(st, k, index):
    """An empty list of regions."""
    row = target_row(k, index)
    st.target[row + T_HEAD] = alloc_row(st)
    st.target[row + T_NR_REGIONS] = 0


@kernel
def destroy_target(st, k, index):
    """All of its regions, and its sentinel."""
    row = target_row(k, index)
    head = st.target[row + T_HEAD]
    while next_region(st, head) != head:
        destroy_region(st, k, row, next_region(st, head))
    free_row(st, head)


@leaf
def intersects(st, r, start, end):
    """1 if the region has bytes in [start, end)."""
    return 0 if st.region[r * REGION_STRIDE + R_END] <= start or end <= st.region[r * REGION_STRIDE + R_START] else 1


@kernel
def set_regions(st, k, index, first_range, nr_ranges):
    """damon_set_regions(): the target's regions fit ranges [first_range, + nr_ranges) of st.range, keeping what lies inside.

    Regions that meet no range go; the first and last that meet a range take its bounds; holes between them become new regions.
    """
    row = target_row(k, index)
    head = st.target[row + T_HEAD]
    r = next_region(st, head)
    while r != head:
        after = next_region(st, r)
        meets = 0
        for i in range(first_range, first_range + nr_ranges):
            if intersects(st, r, st.range[2 * i], st.range[2 * i + 1]):
                meets = 1
        if meets == 0:
            destroy_region(st, k, row, r)
        r = after
    r = next_region(st, head)
    for i in range(first_range, first_range + nr_ranges):
        start = st.range[2 * i] // D_MIN * D_MIN
        end = (st.range[2 * i + 1] + D_MIN - 1) // D_MIN * D_MIN
        first = -1
        last = -1
        while r != head and st.region[r * REGION_STRIDE + R_START] < st.range[2 * i + 1]:
            if intersects(st, r, st.range[2 * i], st.range[2 * i + 1]):
                first = r if first < 0 else first
                last = r
            r = next_region(st, r)
        if first < 0:
            insert_region(st, k, row, r, start, end)
            continue
        st.region[first * REGION_STRIDE + R_START] = start
        st.region[last * REGION_STRIDE + R_END] = end
        at = first
        while at != last:
            after = next_region(st, at)
            if st.region[at * REGION_STRIDE + R_END] != st.region[after * REGION_STRIDE + R_START]:
                insert_region(st, k, row, after, st.region[at * REGION_STRIDE + R_END], st.region[after * REGION_STRIDE + R_START])
            at = after


@kernel
def set_user_regions(st, k, index):
    """The target's regions become the user's, if there are any."""
    row = target_row(k, index)
    if st.target[row + T_NR_RANGES] > 0:
        set_regions(st, k, index, k * MAX_RANGES + st.target[row + T_RANGES], st.target[row + T_NR_RANGES])


@leaf
def set_nr_accesses(st, r, nr_accesses):
    """nr_accesses, and the same in 1/10000."""
    st.region[r * REGION_STRIDE + R_NR_ACCESSES] = nr_accesses
    st.region[r * REGION_STRIDE + R_NR_ACCESSES_BP] = nr_accesses * 10000
