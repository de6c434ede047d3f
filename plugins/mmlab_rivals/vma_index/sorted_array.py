"""A sorted array of VMAs per address space: what an index costs that has no tree at all.

Models: nothing in Linux. It is the plain data structure to compare the maple tree of mm/mmap.c with: find by binary search over the vm_end
values, which lie side by side, find_gap by looking at every gap from the top.
Left out: the array's memory is not taken from the simulated machine. Cost: find O(log n), all else O(n).

All arrays share one pool of entries (start, end, vma). An array is a chunk of 2^class entries; it moves to a chunk of twice the size when
it is full and to one of half the size when three quarters of it are empty. Freed chunks wait in a free list per class.
"""

import numpy as np

from mmlab.kernels.jit import kernel, leaf
from mmlab.model.const import ENOMEM, PAGE_SHIFT, VMA_STAT_BYTES, VMA_STAT_HEIGHT, VMA_STAT_NODES, VMA_STAT_READ_LOCKS, VMA_STAT_TOUCHED, VMA_STAT_WRITE_LOCKS
from mmlab.model.layout import reserve
from mmlab.model.rows import MM_INDEX, MM_STRIDE, SC_STACK_GUARD_GAP, VM_GROWSDOWN, VMA_END, VMA_FLAGS, VMA_START, VMA_STRIDE
from mmlab.policies import VmaIndex

MIN_CLASS = 4
NR_CLASSES = 48
ENTRY_BYTES = 24
ADDRESS_LIMIT = (1 << 63) - 1

# words of m.mm from MM_INDEX on: first entry of the chunk, its class (-1: no chunk), VMAs, entries looked at or moved so far, look-ups, changes
A_FIRST, A_CLASS, A_COUNT, A_TOUCHED, A_READS, A_WRITES = range(6)


def new_state(params, machine):
    """start, end, vma: the pool of entries, eight for each VMA the machine has room for; free_chunk: first free chunk of each class, linked
    through vma; top: entries ever handed out."""
    length = 8 * (len(machine.vma) // VMA_STRIDE) + 32 * machine.sizes.nr_tasks
    pool = {name: reserve(length, "int64") for name in ("start", "end", "vma")}
    return {**pool, "free_chunk": np.full(NR_CLASSES, -1, "int64"), "top": np.zeros(1, "int64")}


@leaf
def _row(mm):
    return mm * MM_STRIDE + MM_INDEX


@kernel
def _take_chunk(st, size_class):
    """First entry of a free chunk of 2^size_class entries, or -ENOMEM."""
    first = st.free_chunk[size_class]
    if first >= 0:
        st.free_chunk[size_class] = st.vma[first]
        return first
    first = st.top[0]
    if first + (1 << size_class) > len(st.vma):
        return -ENOMEM
    st.top[0] = first + (1 << size_class)
    return first


@leaf
def _give_chunk(st, first, size_class):
    st.vma[first] = st.free_chunk[size_class]
    st.free_chunk[size_class] = first


@kernel
def _move(m, st, mm, size_class):
    """Move the array to a chunk of another class. 0, or -ENOMEM with nothing changed."""
    row = _row(mm)
    to = _take_chunk(st, size_class)
    if to < 0:
        return -ENOMEM
    old_class = m.mm[row + A_CLASS]
    if old_class >= 0:
        first = m.mm[row + A_FIRST]
        count = m.mm[row + A_COUNT]
        for i in range(count):
            st.start[to + i] = st.start[first + i]
            st.end[to + i] = st.end[first + i]
            st.vma[to + i] = st.vma[first + i]
        m.mm[row + A_TOUCHED] += count
        _give_chunk(st, first, old_class)
    m.mm[row + A_FIRST] = to
    m.mm[row + A_CLASS] = size_class
    return 0


@leaf
def _search(m, st, row, addr):
    """Number of VMAs with vm_end <= addr: the position of the lowest one with vm_end > addr."""
    low = m.mm[row + A_FIRST]
    left = m.mm[row + A_COUNT]
    first = low
    probes = 0
    while left > 0:
        half = left >> 1
        # two selects, no branch: the outcome of a probe cannot be predicted
        beyond = st.end[low + half] <= addr
        low = low + half + 1 if beyond else low
        left = left - half - 1 if beyond else half
        probes += 1
    m.mm[row + A_TOUCHED] += probes
    return low - first


@kernel
def init_mm(m, st, mm):
    """An empty array; its chunk comes with the first VMA."""
    row = _row(mm)
    m.mm[row + A_FIRST] = 0
    m.mm[row + A_CLASS] = -1
    m.mm[row + A_COUNT] = 0
    m.mm[row + A_TOUCHED] = m.mm[row + A_READS] = m.mm[row + A_WRITES] = 0
    return 0


@kernel
def destroy_mm(m, st, mm):
    """Give the chunk back."""
    row = _row(mm)
    if m.mm[row + A_CLASS] >= 0:
        _give_chunk(st, m.mm[row + A_FIRST], m.mm[row + A_CLASS])
    m.mm[row + A_CLASS] = -1
    m.mm[row + A_COUNT] = 0
    return 0


@kernel
def find(m, st, mm, addr):
    """The lowest VMA with vm_end > addr, or -1."""
    row = _row(mm)
    m.mm[row + A_READS] += 1
    at = _search(m, st, row, addr)
    return st.vma[m.mm[row + A_FIRST] + at] if at < m.mm[row + A_COUNT] else -1


@kernel
def find_prev(m, st, mm, addr):
    """The highest VMA with vm_start < addr, or -1."""
    row = _row(mm)
    m.mm[row + A_READS] += 1
    at = _search(m, st, row, addr)
    first = m.mm[row + A_FIRST]
    if at < m.mm[row + A_COUNT] and st.start[first + at] < addr:
        return st.vma[first + at]
    return st.vma[first + at - 1] if at > 0 else -1


@kernel
def insert(m, st, mm, vma):
    """Shift what lies above by one entry and put the VMA in."""
    row = _row(mm)
    m.mm[row + A_WRITES] += 1
    start = m.vma[vma * VMA_STRIDE + VMA_START]
    at = _search(m, st, row, start)
    count = m.mm[row + A_COUNT]
    size_class = m.mm[row + A_CLASS]
    if size_class < 0 or count == 1 << size_class:
        if _move(m, st, mm, max(MIN_CLASS, size_class + 1)) < 0:
            return -ENOMEM
    first = m.mm[row + A_FIRST]
    for i in range(first + count, first + at, -1):
        st.start[i] = st.start[i - 1]
        st.end[i] = st.end[i - 1]
        st.vma[i] = st.vma[i - 1]
    st.start[first + at] = start
    st.end[first + at] = m.vma[vma * VMA_STRIDE + VMA_END]
    st.vma[first + at] = vma
    m.mm[row + A_COUNT] = count + 1
    m.mm[row + A_TOUCHED] += count - at + 1
    return 0


@kernel
def erase(m, st, mm, vma):
    """Shift what lies above down by one entry; an array that is three quarters empty moves to a smaller chunk if there is one."""
    row = _row(mm)
    m.mm[row + A_WRITES] += 1
    at = _search(m, st, row, m.vma[vma * VMA_STRIDE + VMA_START])
    first = m.mm[row + A_FIRST]
    count = m.mm[row + A_COUNT] - 1
    for i in range(first + at, first + count):
        st.start[i] = st.start[i + 1]
        st.end[i] = st.end[i + 1]
        st.vma[i] = st.vma[i + 1]
    m.mm[row + A_COUNT] = count
    m.mm[row + A_TOUCHED] += count - at + 1
    size_class = m.mm[row + A_CLASS]
    if count == 0:
        _give_chunk(st, first, size_class)
        m.mm[row + A_CLASS] = -1
    elif size_class > MIN_CLASS and count <= 1 << (size_class - 2):
        _move(m, st, mm, size_class - 1)
    return 0


@kernel
def resize(m, st, mm, vma, vm_start, vm_end):
    """Write the new bounds; entries in between move if the VMA jumps over others."""
    row = _row(mm)
    m.mm[row + A_WRITES] += 1
    base = vma * VMA_STRIDE
    first = m.mm[row + A_FIRST]
    last = first + m.mm[row + A_COUNT] - 1
    at = first + _search(m, st, row, m.vma[base + VMA_START])
    while at > first and st.start[at - 1] >= vm_end:
        st.start[at] = st.start[at - 1]
        st.end[at] = st.end[at - 1]
        st.vma[at] = st.vma[at - 1]
        at -= 1
    while at < last and st.end[at + 1] <= vm_start:
        st.start[at] = st.start[at + 1]
        st.end[at] = st.end[at + 1]
        st.vma[at] = st.vma[at + 1]
        at += 1
    st.start[at] = vm_start
    st.end[at] = vm_end
    st.vma[at] = vma
    m.vma[base + VMA_START] = vm_start
    m.vma[base + VMA_END] = vm_end
    return 0


@kernel
def find_gap(m, st, mm, length, low, high):
    """Look at every gap from the top. Where the guard of a VM_GROWSDOWN VMA reaches into the gap, begin again below the guard."""
    row = _row(mm)
    m.mm[row + A_READS] += 1
    first = m.mm[row + A_FIRST]
    count = m.mm[row + A_COUNT]
    low = max(0, low)
    at = _search(m, st, row, high - 1)
    while length > 0 and high - low >= length:
        gap_end = st.start[first + at] if at < count else ADDRESS_LIMIT
        gap_start = st.end[first + at - 1] if at > 0 else 0
        m.mm[row + A_TOUCHED] += 1
        top = min(gap_end, high)
        if top - max(gap_start, low) >= length:
            guard = top
            if at < count:
                base = st.vma[first + at] * VMA_STRIDE
                if m.vma[base + VMA_FLAGS] & VM_GROWSDOWN:
                    guard = max(0, gap_end - (m.sc[SC_STACK_GUARD_GAP] << PAGE_SHIFT))
            if guard >= top:
                return top - length
            high = guard
            at = _search(m, st, row, high - 1)
        elif at == 0 or gap_start <= low:
            return -ENOMEM
        else:
            at -= 1
    return -ENOMEM


@kernel
def stat(m, st, mm, what):
    """The array counts as one node; touched are entries looked at or moved. Everything takes the one lock of the array."""
    row = _row(mm)
    has_chunk = 1 if m.mm[row + A_CLASS] >= 0 else 0
    if what == VMA_STAT_NODES or what == VMA_STAT_HEIGHT:
        return has_chunk
    if what == VMA_STAT_BYTES:
        return ENTRY_BYTES << m.mm[row + A_CLASS] if has_chunk else 0
    if what == VMA_STAT_READ_LOCKS:
        return m.mm[row + A_READS]
    if what == VMA_STAT_WRITE_LOCKS:
        return m.mm[row + A_WRITES]
    return m.mm[row + A_TOUCHED] if what == VMA_STAT_TOUCHED else 0


@kernel
def check(m, st, mm):
    """1: the chunk does not fit the number of VMAs; 2: an entry differs from its VMA's row; 3: an empty range; 4: wrong order, overlap."""
    row = _row(mm)
    first = m.mm[row + A_FIRST]
    count = m.mm[row + A_COUNT]
    size_class = m.mm[row + A_CLASS]
    if count < 0 or (count > 0) != (size_class >= 0) or (size_class >= 0 and count > 1 << size_class):
        return 1
    for i in range(first, first + count):
        base = st.vma[i] * VMA_STRIDE
        if st.vma[i] < 0 or m.vma[base + VMA_START] != st.start[i] or m.vma[base + VMA_END] != st.end[i]:
            return 2
        if st.start[i] >= st.end[i]:
            return 3
        if i > first and st.end[i - 1] > st.start[i]:
            return 4
    return 0


SORTED_ARRAY = VmaIndex(
    name="sorted_array",
    summary="a sorted array of VMAs per address space: binary search, every insertion shifts what lies above",
    models="nothing in Linux: the baseline without a tree",
    left_out="the array's own memory",
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
