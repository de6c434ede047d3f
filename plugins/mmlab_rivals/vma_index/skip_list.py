"""A skip list of VMAs: a sorted list in which one VMA in four is also on the next sparser list, one in sixteen on the one above that.

Look-ups hold no lock and find what is linked when they come by; a change locks the VMA and the ones before it on each of its levels.
Models: nothing in Linux (proposed for it more than once). Pugh, "Skip Lists: A Probabilistic Alternative to Balanced Trees", CACM 1990; locks as
in Herlihy et al., "A Simple Optimistic Skiplist Algorithm", SIROCCO 2007. Left out: the nodes' memory is not taken from the simulated machine;
concurrent changes. Levels come from the experiment's seed. Cost: find, insert, erase O(log VMAs) on average; find_gap O(VMAs).
"""

import numpy as np

from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.random import random32
from mmlab.model.const import (
    ENOMEM, VMA_STAT_BYTES, VMA_STAT_HEIGHT, VMA_STAT_NODES, VMA_STAT_READ_LOCKS, VMA_STAT_TOUCHED, VMA_STAT_WRITE_LOCKS,
)
from mmlab.model.layout import reserve
from mmlab.model.rows import MM_INDEX, MM_STRIDE, SC_SEED, VMA_END, VMA_START, VMA_STRIDE
from mmlab.policies import VmaIndex
from mmlab_rivals.vma_index.gap_search import guard_below

MAX_LEVEL = 12
NODE_BYTES, LINK_BYTES = 24, 8  # bounds and the way back; a link a level
STREAM = 0x5C1B  # of the random numbers
# words of m.mm from MM_INDEX on; S_LEVEL: levels in use
S_LEVEL, S_COUNT, S_LAST, S_BYTES, S_TOUCHED, S_WRITES, S_MADE = range(7)


def new_state(params, machine):
    """start: of a VMA as it is linked; level, before: a VMA each; link: MAX_LEVEL successors a VMA, then as many first ones an mm; way: the node
    before an address on each level. Places of nodes in link: VMAs first, then the heads of address spaces."""
    length = len(machine.vma) // VMA_STRIDE
    nodes = length + machine.sizes.nr_tasks
    return {
        "start": reserve(length, "int64"), "level": reserve(length, "int8"), "before": reserve(length, "int64"),
        "link": reserve(nodes * MAX_LEVEL, "int64"), "way": np.zeros(MAX_LEVEL, "int64"),
    }  # fmt: skip


@leaf
def _row(mm):
    return mm * MM_STRIDE + MM_INDEX


@leaf
def _head(st, mm):
    return len(st.start) + mm


@leaf
def _end(m, vma):
    return m.vma[vma * VMA_STRIDE + VMA_END]


@kernel
def init_mm(m, st, mm):
    """An empty list."""
    row = _row(mm)
    for word in range(S_MADE + 1):
        m.mm[row + word] = 0
    m.mm[row + S_LAST] = -1
    for level in range(MAX_LEVEL):
        st.link[_head(st, mm) * MAX_LEVEL + level] = -1
    return 0


@kernel
def destroy_mm(m, st, mm):
    """All links are forgotten."""
    row = _row(mm)
    m.mm[row + S_LEVEL] = m.mm[row + S_COUNT] = m.mm[row + S_BYTES] = 0
    m.mm[row + S_LAST] = -1
    for level in range(MAX_LEVEL):
        st.link[_head(st, mm) * MAX_LEVEL + level] = -1
    return 0


@kernel
def walk(m, st, mm, addr):
    """The last VMA with vm_start < addr, or -1; st.way has the node before addr on each level."""
    row = _row(mm)
    node = _head(st, mm)
    level = m.mm[row + S_LEVEL] - 1
    while level >= 0:
        following = st.link[node * MAX_LEVEL + level]
        while following >= 0 and st.start[following] < addr:
            m.mm[row + S_TOUCHED] += 1
            node = following
            following = st.link[node * MAX_LEVEL + level]
        m.mm[row + S_TOUCHED] += 1
        st.way[level] = node
        level -= 1
    return node if node < len(st.start) else -1


@leaf
def _after(st, mm, vma):
    """The VMA behind this one (-1: the first)."""
    return st.link[(vma if vma >= 0 else _head(st, mm)) * MAX_LEVEL]


@kernel
def find(m, st, mm, addr):
    """The lowest VMA with vm_end > addr, or -1."""
    vma = walk(m, st, mm, addr + 1)
    if vma >= 0 and _end(m, vma) > addr:
        return vma
    return _after(st, mm, vma)


@kernel
def find_prev(m, st, mm, addr):
    """The highest VMA with vm_start < addr, or -1."""
    return walk(m, st, mm, addr)


@leaf
def _random_level(m, row):
    """1, and one more for each further two bits that are zero."""
    bits = random32(m.sc[SC_SEED], STREAM, m.mm[row + S_MADE])
    m.mm[row + S_MADE] += 1
    level = 1
    while level < MAX_LEVEL and bits & 3 == 0:
        level += 1
        bits >>= 2
    return level


@kernel
def link(m, st, mm, vma, levels):
    """Into its levels, by the bounds in its row."""
    row = _row(mm)
    start = m.vma[vma * VMA_STRIDE + VMA_START]
    while m.mm[row + S_LEVEL] < levels:
        m.mm[row + S_LEVEL] += 1
    before = walk(m, st, mm, start)
    st.start[vma], st.level[vma], st.before[vma] = start, levels, before
    locked = -1
    for level in range(levels):
        node = st.way[level]
        st.link[vma * MAX_LEVEL + level] = st.link[node * MAX_LEVEL + level]
        st.link[node * MAX_LEVEL + level] = vma
        m.mm[row + S_WRITES] += 1 if node != locked else 0
        locked = node
    after = st.link[vma * MAX_LEVEL]
    if after >= 0:
        st.before[after] = vma
    else:
        m.mm[row + S_LAST] = vma
    m.mm[row + S_COUNT] += 1
    m.mm[row + S_BYTES] += NODE_BYTES + LINK_BYTES * levels
    return 0


@kernel
def unlink(m, st, mm, vma):
    """Out of its levels."""
    row = _row(mm)
    walk(m, st, mm, st.start[vma])
    levels = np.int64(st.level[vma])
    locked = -1
    for level in range(levels):
        node = st.way[level]
        st.link[node * MAX_LEVEL + level] = st.link[vma * MAX_LEVEL + level]
        m.mm[row + S_WRITES] += 1 if node != locked else 0
        locked = node
    m.mm[row + S_WRITES] += 1  # the VMA itself
    after = st.link[vma * MAX_LEVEL]
    if after >= 0:
        st.before[after] = st.before[vma]
    else:
        m.mm[row + S_LAST] = st.before[vma]
    while m.mm[row + S_LEVEL] > 0 and st.link[_head(st, mm) * MAX_LEVEL + m.mm[row + S_LEVEL] - 1] < 0:
        m.mm[row + S_LEVEL] -= 1
    m.mm[row + S_COUNT] -= 1
    m.mm[row + S_BYTES] -= NODE_BYTES + LINK_BYTES * levels
    return 0


@kernel
def insert(m, st, mm, vma):
    """On as many levels as chance gives."""
    return link(m, st, mm, vma, _random_level(m, _row(mm)))


@kernel
def erase(m, st, mm, vma):
    """As the row still has its bounds."""
    return unlink(m, st, mm, vma)


@kernel
def resize(m, st, mm, vma, vm_start, vm_end):
    """New bounds where the VMA stands, or, if it jumps over others, taken out and linked anew."""
    row = _row(mm)
    before, after = st.before[vma], st.link[vma * MAX_LEVEL]
    jumps = (before >= 0 and vm_start < _end(m, before)) or (after >= 0 and vm_end > st.start[after])
    levels = np.int64(st.level[vma])
    if jumps:
        unlink(m, st, mm, vma)
    m.vma[vma * VMA_STRIDE + VMA_START] = vm_start
    m.vma[vma * VMA_STRIDE + VMA_END] = vm_end
    if jumps:
        return link(m, st, mm, vma, levels)
    st.start[vma] = vm_start
    m.mm[row + S_WRITES] += 1
    return 0


@kernel
def find_gap(m, st, mm, length, low, high):
    """Every gap from the top. Where a stack's guard reaches into the gap, begin again below the guard."""
    row = _row(mm)
    low = max(0, low)
    vma = find(m, st, mm, high - 1)
    while length > 0 and high - low >= length:
        below = st.before[vma] if vma >= 0 else m.mm[row + S_LAST]
        gap_start = _end(m, below) if below >= 0 else 0
        top = min(st.start[vma], high) if vma >= 0 else high
        m.mm[row + S_TOUCHED] += 1
        if top - max(gap_start, low) >= length:
            guard = guard_below(m, vma)
            if guard >= top:
                return top - length
            high = guard
            vma = find(m, st, mm, high - 1)
        elif below < 0 or gap_start <= low:
            return -ENOMEM
        else:
            vma = below
    return -ENOMEM


@kernel
def stat(m, st, mm, what):
    """Nodes are VMAs, the height is the number of levels; look-ups take no locks."""
    row = _row(mm)
    if what == VMA_STAT_NODES:
        return m.mm[row + S_COUNT]
    if what == VMA_STAT_HEIGHT:
        return m.mm[row + S_LEVEL]
    if what == VMA_STAT_BYTES:
        return m.mm[row + S_BYTES]
    if what == VMA_STAT_READ_LOCKS:
        return 0
    if what == VMA_STAT_WRITE_LOCKS:
        return m.mm[row + S_WRITES]
    return m.mm[row + S_TOUCHED] if what == VMA_STAT_TOUCHED else 0


@kernel
def check(m, st, mm):
    """1: an entry differs from its VMA's row; 2: order, overlap or a way back; 3: a level is out of order or has a VMA that is not on it; 4: the
    counts."""
    row = _row(mm)
    head = _head(st, mm)
    count = nr_bytes = 0
    before, vma = -1, st.link[head * MAX_LEVEL]
    while vma >= 0 and count <= m.mm[row + S_COUNT]:
        if m.vma[vma * VMA_STRIDE + VMA_START] != st.start[vma] or _end(m, vma) <= st.start[vma]:
            return 1
        if st.before[vma] != before or (before >= 0 and _end(m, before) > st.start[vma]):
            return 2
        count += 1
        nr_bytes += NODE_BYTES + LINK_BYTES * np.int64(st.level[vma])
        before, vma = vma, st.link[vma * MAX_LEVEL]
    if count != m.mm[row + S_COUNT] or before != m.mm[row + S_LAST] or nr_bytes != m.mm[row + S_BYTES]:
        return 4
    on_levels = 0
    for level in range(MAX_LEVEL):
        node, vma = head, st.link[head * MAX_LEVEL + level]
        while vma >= 0:
            if np.int64(st.level[vma]) <= level or (node != head and st.start[node] >= st.start[vma]):
                return 3
            on_levels += 1
            node, vma = vma, st.link[vma * MAX_LEVEL + level]
    return 0 if on_levels * LINK_BYTES + count * NODE_BYTES == nr_bytes else 3


SKIP_LIST = VmaIndex(
    name="skip_list",
    summary="a skip list: sorted lists, each a quarter as long as the one below, without locks for look-ups",
    models="nothing in Linux: Pugh 1990",
    left_out="the nodes' memory, concurrent changes",
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
