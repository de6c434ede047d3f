"""The red-black tree of VMAs with its list and its cache, as Linux had it before 6.1.

Nodes are part of the VMAs: parent, children, list links and the largest gap in the subtree, 48 bytes a VMA and no allocation. find() looks into
a cache of four VMAs first, hashed by the address. Look-ups take mmap_lock for reading, changes for writing.
Models: mm/mmap.c of Linux 6.0 find_vma(), find_vma_links(), __vma_link_rb(), vma_gap_update(), unmapped_area_topdown(); mm/vmacache.c; lib/rbtree.c.
Left out: the cache is an address space's, not a thread's. Cost: find, insert, erase O(log VMAs); find_gap O(log VMAs) but for gaps that only
limits or a stack's guard make too small.
"""

import numpy as np

from mmlab.kernels.jit import kernel, leaf
from mmlab.model.const import (
    ENOMEM, VMA_STAT_BYTES, VMA_STAT_HEIGHT, VMA_STAT_NODES, VMA_STAT_READ_LOCKS, VMA_STAT_TOUCHED, VMA_STAT_WRITE_LOCKS,
)
from mmlab.model.layout import reserve
from mmlab.model.rows import MM_INDEX, MM_STRIDE, VMA_END, VMA_START, VMA_STRIDE
from mmlab.policies import VmaIndex
from mmlab_rivals.vma_index.gap_search import guard_below

NODE_BYTES = 48
# words of m.mm from MM_INDEX on; a cached VMA is kept + 1
R_ROOT, R_FIRST, R_LAST, R_COUNT, R_TOUCHED, R_READS, R_WRITES, R_CACHE = range(8)
NR_CACHED = 4
CACHE_SHIFT = 21


def new_state(params, machine):
    """up, left, right: VMAs, -1 none; red: colour; before, after: the list; gap: the largest free range below a VMA of the subtree. A VMA each."""
    length = len(machine.vma) // VMA_STRIDE
    state = {name: reserve(length, "int64") for name in ("up", "left", "right", "before", "after", "gap")}
    return {**state, "red": reserve(length, "int8")}


@leaf
def _row(mm):
    return mm * MM_STRIDE + MM_INDEX


@leaf
def _start(m, vma):
    return m.vma[vma * VMA_STRIDE + VMA_START]


@leaf
def _end(m, vma):
    return m.vma[vma * VMA_STRIDE + VMA_END]


@kernel
def init_mm(m, st, mm):
    """An empty tree."""
    row = _row(mm)
    for word in range(R_CACHE + NR_CACHED):
        m.mm[row + word] = 0
    m.mm[row + R_ROOT] = m.mm[row + R_FIRST] = m.mm[row + R_LAST] = -1
    return 0


@kernel
def destroy_mm(m, st, mm):
    """Nothing to free."""
    row = _row(mm)
    m.mm[row + R_ROOT] = m.mm[row + R_FIRST] = m.mm[row + R_LAST] = -1
    m.mm[row + R_COUNT] = 0
    _flush_cache(m, row)
    return 0


# gaps -----------------------------------------------------------------------------------------------------------------------------------------
@leaf
def own_gap(m, st, vma):
    """Free bytes between the VMA and the one before it."""
    before = st.before[vma]
    return _start(m, vma) - (_end(m, before) if before >= 0 else 0)


@leaf
def _subtree_gap(m, st, vma):
    best = own_gap(m, st, vma)
    if st.left[vma] >= 0:
        best = max(best, st.gap[st.left[vma]])
    if st.right[vma] >= 0:
        best = max(best, st.gap[st.right[vma]])
    return best


@kernel
def vma_gap_update(m, st, row, vma):
    """The gap below the VMA has changed, or its children: set the values from here to the root."""
    while vma >= 0:
        st.gap[vma] = _subtree_gap(m, st, vma)
        vma = st.up[vma]
        m.mm[row + R_TOUCHED] += 1
    return 0


# the tree -------------------------------------------------------------------------------------------------------------------------------------
@leaf
def _replace_child(m, st, row, old, new):
    """`new` (or nothing) takes the place of `old` below its parent."""
    parent = st.up[old]
    if parent < 0:
        m.mm[row + R_ROOT] = new
    elif st.left[parent] == old:
        st.left[parent] = new
    else:
        st.right[parent] = new
    if new >= 0:
        st.up[new] = parent


@kernel
def _rotate(m, st, row, vma, to_left):
    """The VMA's child on the other side takes its place."""
    if to_left:
        child = st.right[vma]
        inner = st.left[child]
        st.right[vma], st.left[child] = inner, vma
    else:
        child = st.left[vma]
        inner = st.right[child]
        st.left[vma], st.right[child] = inner, vma
    if inner >= 0:
        st.up[inner] = vma
    _replace_child(m, st, row, vma, child)
    st.up[vma] = child
    st.gap[vma] = _subtree_gap(m, st, vma)
    st.gap[child] = _subtree_gap(m, st, child)
    return child


@leaf
def _is_red(st, vma):
    return 1 if vma >= 0 and np.int64(st.red[vma]) else 0


@kernel
def _insert_color(m, st, row, vma):
    """No red VMA has a red child, after one was added."""
    while _is_red(st, st.up[vma]):
        parent = st.up[vma]
        grand = st.up[parent]
        on_left = 1 if st.left[grand] == parent else 0
        uncle = st.right[grand] if on_left else st.left[grand]
        if _is_red(st, uncle):
            st.red[parent] = st.red[uncle] = 0
            st.red[grand] = 1
            vma = grand
            continue
        if vma == (st.right[parent] if on_left else st.left[parent]):
            _rotate(m, st, row, parent, on_left)
            vma, parent = parent, vma
        st.red[parent], st.red[grand] = 0, 1
        _rotate(m, st, row, grand, 1 - on_left)
    st.red[m.mm[row + R_ROOT]] = 0
    return 0


@kernel
def _erase_color(m, st, row, child, parent):
    """The way through `child` (or nothing) below `parent` has one black VMA too few."""
    while parent >= 0 and _is_red(st, child) == 0:
        on_left = 1 if st.left[parent] == child else 0
        sibling = st.right[parent] if on_left else st.left[parent]
        if _is_red(st, sibling):
            st.red[sibling], st.red[parent] = 0, 1
            _rotate(m, st, row, parent, on_left)
            sibling = st.right[parent] if on_left else st.left[parent]
        near = st.left[sibling] if on_left else st.right[sibling]
        far = st.right[sibling] if on_left else st.left[sibling]
        if _is_red(st, near) == 0 and _is_red(st, far) == 0:
            st.red[sibling] = 1
            child, parent = parent, st.up[parent]
            continue
        if _is_red(st, far) == 0:
            st.red[near], st.red[sibling] = 0, 1
            _rotate(m, st, row, sibling, 1 - on_left)
            far, sibling = sibling, near
        st.red[sibling] = st.red[parent]
        st.red[parent] = st.red[far] = 0
        _rotate(m, st, row, parent, on_left)
        break
    if child >= 0:
        st.red[child] = 0
    return 0


# look-ups -------------------------------------------------------------------------------------------------------------------------------------
@leaf
def _flush_cache(m, row):
    for i in range(NR_CACHED):
        m.mm[row + R_CACHE + i] = 0


@kernel
def lowest_ending_above(m, st, row, addr):
    """The lowest VMA with vm_end > addr, or -1, by the tree."""
    vma, best = m.mm[row + R_ROOT], -1
    while vma >= 0:
        m.mm[row + R_TOUCHED] += 1
        if _end(m, vma) > addr:
            best = vma
            vma = st.left[vma]
        else:
            vma = st.right[vma]
    return best


@kernel
def find(m, st, mm, addr):
    """find_vma(): the cache, then the tree."""
    row = _row(mm)
    m.mm[row + R_READS] += 1
    at = (addr >> CACHE_SHIFT) & (NR_CACHED - 1)
    for i in range(NR_CACHED):
        cached = m.mm[row + R_CACHE + ((at + i) & (NR_CACHED - 1))] - 1
        if cached >= 0 and _start(m, cached) <= addr and addr < _end(m, cached):
            m.mm[row + R_TOUCHED] += 1
            return cached
    vma = lowest_ending_above(m, st, row, addr)
    if vma >= 0 and _start(m, vma) <= addr:
        m.mm[row + R_CACHE + at] = vma + 1
    return vma


@kernel
def find_prev(m, st, mm, addr):
    """The highest VMA with vm_start < addr, or -1."""
    row = _row(mm)
    m.mm[row + R_READS] += 1
    vma, best = m.mm[row + R_ROOT], -1
    while vma >= 0:
        m.mm[row + R_TOUCHED] += 1
        if _start(m, vma) < addr:
            best = vma
            vma = st.right[vma]
        else:
            vma = st.left[vma]
    return best


# changes --------------------------------------------------------------------------------------------------------------------------------------
@kernel
def link(m, st, row, vma):
    """__vma_link(): into the tree and the list, by the bounds in its row."""
    start = _start(m, vma)
    parent = before = after = -1
    at = m.mm[row + R_ROOT]
    while at >= 0:
        m.mm[row + R_TOUCHED] += 1
        parent = at
        if _start(m, at) > start:
            after = at
            at = st.left[at]
        else:
            before = at
            at = st.right[at]
    st.left[vma] = st.right[vma] = -1
    st.up[vma], st.red[vma] = parent, 1
    if parent < 0:
        m.mm[row + R_ROOT] = vma
    elif parent == after:
        st.left[parent] = vma
    else:
        st.right[parent] = vma
    st.before[vma], st.after[vma] = before, after
    if before >= 0:
        st.after[before] = vma
    else:
        m.mm[row + R_FIRST] = vma
    if after >= 0:
        st.before[after] = vma
    else:
        m.mm[row + R_LAST] = vma
    vma_gap_update(m, st, row, vma)
    vma_gap_update(m, st, row, after)
    _insert_color(m, st, row, vma)
    m.mm[row + R_COUNT] += 1
    return 0


@kernel
def unlink(m, st, row, vma):
    """Out of the tree and the list; the cache forgets all."""
    before, after = st.before[vma], st.after[vma]
    if before >= 0:
        st.after[before] = after
    else:
        m.mm[row + R_FIRST] = after
    if after >= 0:
        st.before[after] = before
    else:
        m.mm[row + R_LAST] = before
    left, right = st.left[vma], st.right[vma]
    black = 1 - _is_red(st, vma)
    if left < 0 or right < 0:
        child, parent = (right if left < 0 else left), st.up[vma]
        _replace_child(m, st, row, vma, child)
    else:
        black = 1 - _is_red(st, after)  # its successor, which has no left child, takes its place
        child, parent = st.right[after], st.up[after]
        if parent == vma:
            parent = after
        else:
            _replace_child(m, st, row, after, child)
            st.right[after], st.up[right] = right, after
        _replace_child(m, st, row, vma, after)
        st.left[after], st.up[left] = left, after
        st.red[after] = st.red[vma]
    vma_gap_update(m, st, row, parent)
    vma_gap_update(m, st, row, after)
    if black:
        _erase_color(m, st, row, child, parent)
    m.mm[row + R_COUNT] -= 1
    _flush_cache(m, row)
    return 0


@kernel
def insert(m, st, mm, vma):
    """Needs no memory, so it cannot fail."""
    row = _row(mm)
    m.mm[row + R_WRITES] += 1
    return link(m, st, row, vma)


@kernel
def erase(m, st, mm, vma):
    """As the row still has its bounds."""
    row = _row(mm)
    m.mm[row + R_WRITES] += 1
    return unlink(m, st, row, vma)


@kernel
def resize(m, st, mm, vma, vm_start, vm_end):
    """__vma_adjust(): the gaps at both ends change; a VMA that jumps over others is taken out and put in again."""
    row = _row(mm)
    m.mm[row + R_WRITES] += 1
    before, after = st.before[vma], st.after[vma]
    jumps = (before >= 0 and vm_start < _end(m, before)) or (after >= 0 and vm_end > _start(m, after))
    if jumps:
        unlink(m, st, row, vma)
    m.vma[vma * VMA_STRIDE + VMA_START] = vm_start
    m.vma[vma * VMA_STRIDE + VMA_END] = vm_end
    if jumps:
        return link(m, st, row, vma)
    vma_gap_update(m, st, row, vma)
    return vma_gap_update(m, st, row, after)


# find_gap -------------------------------------------------------------------------------------------------------------------------------------
@kernel
def next_gap_below(m, st, row, vma, length):
    """The highest VMA below this one with `length` free bytes below it, or -1, by the subtrees' largest gaps."""
    down = st.left[vma]
    while True:
        if down >= 0 and st.gap[down] >= length:
            vma = down
            while True:
                m.mm[row + R_TOUCHED] += 1
                if st.right[vma] >= 0 and st.gap[st.right[vma]] >= length:
                    vma = st.right[vma]
                elif own_gap(m, st, vma) >= length:
                    return vma
                else:
                    vma = st.left[vma]
        child = vma
        vma = st.up[vma]
        while vma >= 0 and st.right[vma] != child:
            child, vma = vma, st.up[vma]
        m.mm[row + R_TOUCHED] += 1
        if vma < 0:
            return -1
        if own_gap(m, st, vma) >= length:
            return vma
        down = st.left[vma]


@kernel
def find_gap(m, st, mm, length, low, high):
    """unmapped_area_topdown(). Where a stack's guard reaches into the gap, begin again below the guard."""
    row = _row(mm)
    m.mm[row + R_READS] += 1
    low = max(0, low)
    while length > 0 and high - low >= length:
        vma = lowest_ending_above(m, st, row, high - 1)
        guard = -1
        if vma < 0:
            gap_start = _end(m, m.mm[row + R_LAST]) if m.mm[row + R_LAST] >= 0 else 0
            if high - max(gap_start, low) >= length:
                return high - length
            vma = m.mm[row + R_LAST]
            if gap_start <= low:
                return -ENOMEM
        while guard < 0:
            gap_start = _end(m, st.before[vma]) if st.before[vma] >= 0 else 0
            top = min(_start(m, vma), high)
            if top - max(gap_start, low) >= length:
                guard = guard_below(m, vma)
                if guard >= top:
                    return top - length
                high = guard
            else:
                vma = next_gap_below(m, st, row, vma, length) if gap_start > low else -1
                if vma < 0:
                    return -ENOMEM
    return -ENOMEM


# what it costs, and whether it is sound -------------------------------------------------------------------------------------------------------
@kernel
def height(m, st, row):
    """Levels of the tree: the longest way down. O(VMAs)."""
    best = 0
    vma = m.mm[row + R_FIRST]
    while vma >= 0:
        depth, at = 0, vma
        while at >= 0:
            depth += 1
            at = st.up[at]
        best = max(best, depth)
        vma = st.after[vma]
    return best


@kernel
def stat(m, st, mm, what):
    """Nodes are VMAs; touched are nodes looked at on the way down and up."""
    row = _row(mm)
    if what == VMA_STAT_NODES:
        return m.mm[row + R_COUNT]
    if what == VMA_STAT_HEIGHT:
        return height(m, st, row)
    if what == VMA_STAT_BYTES:
        return m.mm[row + R_COUNT] * NODE_BYTES
    if what == VMA_STAT_READ_LOCKS:
        return m.mm[row + R_READS]
    if what == VMA_STAT_WRITE_LOCKS:
        return m.mm[row + R_WRITES]
    return m.mm[row + R_TOUCHED] if what == VMA_STAT_TOUCHED else 0


@leaf
def _black_height(st, vma):
    """Black VMAs from here to the root."""
    blacks = 0
    while vma >= 0:
        blacks += 1 - _is_red(st, vma)
        vma = st.up[vma]
    return blacks


@kernel
def check(m, st, mm):
    """1: the list's order or an overlap; 2: a gap value; 3: a red VMA below a red one; 4: ways with different numbers of black VMAs; 5: links;
    6: the count."""
    row = _row(mm)
    vma, before, count, blacks = m.mm[row + R_FIRST], -1, 0, -1
    while vma >= 0 and count <= m.mm[row + R_COUNT]:
        start = _end(m, before) if before >= 0 else 0
        if _start(m, vma) < start or _end(m, vma) <= _start(m, vma) or st.before[vma] != before:
            return 1
        if st.gap[vma] != _subtree_gap(m, st, vma):
            return 2
        up = st.up[vma]
        if _is_red(st, vma) and (up < 0 or _is_red(st, up)):
            return 3
        if st.left[vma] < 0 or st.right[vma] < 0:
            if blacks >= 0 and blacks != _black_height(st, vma):
                return 4
            blacks = _black_height(st, vma)
        if (up < 0 and m.mm[row + R_ROOT] != vma) or (up >= 0 and st.left[up] != vma and st.right[up] != vma):
            return 5
        count += 1
        before, vma = vma, st.after[vma]
    return 6 if count != m.mm[row + R_COUNT] or before != m.mm[row + R_LAST] else 0


RBTREE = VmaIndex(
    name="rbtree",
    summary="a red-black tree with a list and a cache of four, as before Linux 6.1",
    models="mm/mmap.c, mm/vmacache.c and lib/rbtree.c of Linux 6.0",
    left_out="a cache for each thread",
    level="L0",
    new_state=new_state,
    init_mm=init_mm,
    destroy_mm=destroy_mm,
    find=find,
    find_prev=find_prev,
    insert=insert,
    erase=erase,
    resize=resize,
    find_gap=find_gap,
    stat=stat,
    check=check,
)
