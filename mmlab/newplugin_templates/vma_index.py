"""my_policy: a linked list of VMAs in order of address. Everything is O(vmas)."""

from mmlab.kernels.jit import kernel, leaf
from mmlab.model.const import ENOMEM, VMA_STAT_BYTES, VMA_STAT_HEIGHT, VMA_STAT_NODES
from mmlab.model.rows import MM_INDEX, MM_STRIDE, SC_STACK_GUARD_GAP, VM_GROWSDOWN, VMA_END, VMA_FLAGS, VMA_INDEX, VMA_START, VMA_STRIDE
from mmlab.policies import VmaIndex

# The first of the index's words of m.mm is the lowest VMA, the second their number; the first of those of m.vma is the next VMA. -1: none.
TOP_OF_MEMORY = 1 << 62


@leaf
def next_vma(m, vma):
    """The VMA above, or -1."""
    return m.vma[vma * VMA_STRIDE + VMA_INDEX]


@leaf
def place(m, mm, addr):
    """Word index, in m.mm (as it is) or in m.vma (as -1 - index), of the link to the lowest VMA that begins at addr or above."""
    link = mm * MM_STRIDE + MM_INDEX
    vma = m.mm[link]
    while vma >= 0 and m.vma[vma * VMA_STRIDE + VMA_START] < addr:
        link = -1 - (vma * VMA_STRIDE + VMA_INDEX)
        vma = next_vma(m, vma)
    return link


@leaf
def set_link(m, link, vma):
    """Make a link lead to a VMA."""
    if link < 0:
        m.vma[-1 - link] = vma
    else:
        m.mm[link] = vma


@kernel
def init_mm(m, st, mm):
    m.mm[mm * MM_STRIDE + MM_INDEX] = -1
    m.mm[mm * MM_STRIDE + MM_INDEX + 1] = 0
    return 0


@kernel
def destroy_mm(m, st, mm):
    m.mm[mm * MM_STRIDE + MM_INDEX] = -1
    m.mm[mm * MM_STRIDE + MM_INDEX + 1] = 0
    return 0


@kernel
def find(m, st, mm, addr):
    vma = m.mm[mm * MM_STRIDE + MM_INDEX]
    while vma >= 0 and m.vma[vma * VMA_STRIDE + VMA_END] <= addr:
        vma = next_vma(m, vma)
    return vma


@kernel
def find_prev(m, st, mm, addr):
    link = place(m, mm, addr)
    return (-1 - link) // VMA_STRIDE if link < 0 else -1


@kernel
def insert(m, st, mm, vma):
    link = place(m, mm, m.vma[vma * VMA_STRIDE + VMA_START])
    above = m.vma[-1 - link] if link < 0 else m.mm[link]
    m.vma[vma * VMA_STRIDE + VMA_INDEX] = above
    set_link(m, link, vma)
    m.mm[mm * MM_STRIDE + MM_INDEX + 1] += 1
    return 0


@kernel
def erase(m, st, mm, vma):
    set_link(m, place(m, mm, m.vma[vma * VMA_STRIDE + VMA_START]), next_vma(m, vma))
    m.mm[mm * MM_STRIDE + MM_INDEX + 1] -= 1
    return 0


@kernel
def resize(m, st, mm, vma, vm_start, vm_end):
    row = vma * VMA_STRIDE
    set_link(m, place(m, mm, m.vma[row + VMA_START]), next_vma(m, vma))
    m.vma[row + VMA_START] = vm_start
    m.vma[row + VMA_END] = vm_end
    link = place(m, mm, vm_start)
    m.vma[row + VMA_INDEX] = m.vma[-1 - link] if link < 0 else m.mm[link]
    set_link(m, link, vma)
    return 0


@kernel
def highest_gap(m, mm, length, low, high):
    """The VMA above the highest gap in [low, high) that is long enough, -1 for the gap above all VMAs, -2 if there is none."""
    best = -2
    gap_start = 0
    vma = m.mm[mm * MM_STRIDE + MM_INDEX]
    while True:
        gap_end = m.vma[vma * VMA_STRIDE + VMA_START] if vma >= 0 else TOP_OF_MEMORY
        if min(gap_end, high) - max(gap_start, low) >= length:
            best = vma
        if vma < 0:
            return best
        gap_start = m.vma[vma * VMA_STRIDE + VMA_END]
        vma = next_vma(m, vma)


@kernel
def find_gap(m, st, mm, length, low, high):
    while True:
        above = highest_gap(m, mm, length, low, high)
        if above == -2:
            return -ENOMEM
        top = high
        if above >= 0:
            start = m.vma[above * VMA_STRIDE + VMA_START]
            top = min(start, high)
            guard = start - (m.sc[SC_STACK_GUARD_GAP] << 12)
            if m.vma[above * VMA_STRIDE + VMA_FLAGS] & VM_GROWSDOWN and guard < top:
                high = max(0, guard)  # a stack may grow into what is above: look again below its guard
                continue
        return top - length


@kernel
def stat(m, st, mm, what):
    if what == VMA_STAT_NODES or what == VMA_STAT_HEIGHT:
        return m.mm[mm * MM_STRIDE + MM_INDEX + 1]
    return 8 * m.mm[mm * MM_STRIDE + MM_INDEX + 1] if what == VMA_STAT_BYTES else 0


@kernel
def check(m, st, mm):
    count = 0
    end = 0
    vma = m.mm[mm * MM_STRIDE + MM_INDEX]
    while vma >= 0:
        if m.vma[vma * VMA_STRIDE + VMA_START] < end:
            return 1
        end = m.vma[vma * VMA_STRIDE + VMA_END]
        count += 1
        vma = next_vma(m, vma)
    return 2 if count != m.mm[mm * MM_STRIDE + MM_INDEX + 1] else 0


POLICY = VmaIndex(
    name="my_policy",
    summary="a linked list of VMAs",
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
