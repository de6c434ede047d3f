"""On-demand fork: fork copies no entries of whole page tables; each 2 MiB table is copied when either side first needs its own.

fork() write-protects the parent's tables and notes for each that the child has still to get it. The table is copied when the child first touches
the range, when the parent writes to it or brings a page of it back from swap, or before it changes in another way (munmap, mprotect, mremap,
madvise, exit). Pages at the edges of a VMA, huge pages and files are copied at once, as Linux does. A child that cannot get a table for want
of memory is out of memory at its next fault there.
Models: Zhao et al., "On-demand-fork: A Microsecond Fork for Memory-Intensive and Latency-Sensitive Applications", EuroSys 2021. Left out: there the
child reads through the parent's table, so that its reads need neither a fault nor a table of its own; here its first read of a range takes
both. Its pages count as resident from then on. O(tables) a fork, O(512) a table when it is needed.
"""

import numpy as np

from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.pte import walk_pmd, walk_pte
from mmlab.model.const import ENOMEM, VM_FAULT_OOM, WRITE
from mmlab.model.layout import reserve
from mmlab.model.rows import (
    COST_FORK_PTE, PTE_HUGE, PTE_SHIFT, PTE_SWAP, PTE_WRITE, SC_NOW_NS, SC_SHARED_TABLES, VM_SHARED, VMA_END, VMA_FLAGS, VMA_INODE, VMA_START,
    VMA_STRIDE,
)  # fmt: skip
from mmlab.policies import FaultHandler
from mmlab_linux.fault_handler import linux
from mmlab_linux.fault_handler.linux import copy_pte_range, needs_copy

# a record: a table that a child has still to get. Chains: of the records with the same hash of (child, range), and of (parent, range)
SHARED_STRIDE = 8
SH_CHILD, SH_PARENT, SH_RANGE, SH_CHILD_NEXT, SH_PARENT_NEXT, SH_LOST = range(6)
BUCKETS = 1 << 12
FREE, TOP, COPIED = range(3)  # entries of st.pool


def new_state(params, machine):
    """shared: SH_* a record, chained by st.by_child and st.by_parent (row + 1; free ones by SH_CHILD_NEXT); as_child, as_parent: records an mm."""
    return {
        "shared": reserve(SHARED_STRIDE * (4 * machine.sizes.nr_present // 512 + 4096), "int64"),
        "by_child": np.zeros(BUCKETS, np.int64), "by_parent": np.zeros(BUCKETS, np.int64), "pool": np.zeros(3, np.int64),
        "as_child": np.zeros(machine.sizes.nr_tasks, np.int64), "as_parent": np.zeros(machine.sizes.nr_tasks, np.int64),
    }  # fmt: skip


@leaf
def bucket_of(mm, number):
    """Where records of an address space and range are chained."""
    return (mm * 2654435761 + number * 40503) & (BUCKETS - 1)


@kernel
def find_shared(st, mm, number, as_child):
    """The first record of an address space's range, as the child or as the parent; -1: none."""
    row = (st.by_child[bucket_of(mm, number)] if as_child else st.by_parent[bucket_of(mm, number)]) - 1
    who, following = (SH_CHILD, SH_CHILD_NEXT) if as_child else (SH_PARENT, SH_PARENT_NEXT)
    while row >= 0 and (st.shared[row + who] != mm or st.shared[row + SH_RANGE] != number):
        row = st.shared[row + following] - 1
    return row


@kernel
def share(m, st, child, parent, number):
    """Note that the child has still to get a range's table. 0, or -1 when there is no room for another record."""
    row = st.pool[FREE] - 1
    if row >= 0:
        st.pool[FREE] = st.shared[row + SH_CHILD_NEXT]
    else:
        row = st.pool[TOP]
        if row + SHARED_STRIDE > len(st.shared):
            return -1
        st.pool[TOP] += SHARED_STRIDE
    st.shared[row + SH_CHILD], st.shared[row + SH_PARENT], st.shared[row + SH_RANGE] = child, parent, number
    st.shared[row + SH_LOST] = 0
    st.shared[row + SH_CHILD_NEXT] = st.by_child[bucket_of(child, number)]
    st.shared[row + SH_PARENT_NEXT] = st.by_parent[bucket_of(parent, number)]
    st.by_child[bucket_of(child, number)] = st.by_parent[bucket_of(parent, number)] = row + 1
    st.as_child[child] += 1
    st.as_parent[parent] += 1
    m.sc[SC_SHARED_TABLES] += 1
    return 0


@kernel
def unchain_parent(st, row):
    """Take a record out of its parent's chain."""
    bucket = bucket_of(st.shared[row + SH_PARENT], st.shared[row + SH_RANGE])
    if st.by_parent[bucket] == row + 1:
        st.by_parent[bucket] = st.shared[row + SH_PARENT_NEXT]
    else:
        at = st.by_parent[bucket] - 1
        while st.shared[at + SH_PARENT_NEXT] != row + 1:
            at = st.shared[at + SH_PARENT_NEXT] - 1
        st.shared[at + SH_PARENT_NEXT] = st.shared[row + SH_PARENT_NEXT]
    st.as_parent[st.shared[row + SH_PARENT]] -= 1
    return 0


@kernel
def forget(m, st, row):
    """Drop a record."""
    if st.shared[row + SH_LOST] == 0:
        unchain_parent(st, row)
    bucket = bucket_of(st.shared[row + SH_CHILD], st.shared[row + SH_RANGE])
    if st.by_child[bucket] == row + 1:
        st.by_child[bucket] = st.shared[row + SH_CHILD_NEXT]
    else:
        at = st.by_child[bucket] - 1
        while st.shared[at + SH_CHILD_NEXT] != row + 1:
            at = st.shared[at + SH_CHILD_NEXT] - 1
        st.shared[at + SH_CHILD_NEXT] = st.shared[row + SH_CHILD_NEXT]
    st.as_child[st.shared[row + SH_CHILD]] -= 1
    st.shared[row + SH_CHILD_NEXT] = st.pool[FREE]
    st.pool[FREE] = row + 1
    m.sc[SC_SHARED_TABLES] -= 1
    return 0


@kernel
def give_table(m, st, row):
    """Copy the range's entries to the child now: 0, or -ENOMEM, and then the child has lost them for good."""
    if st.shared[row + SH_LOST]:
        return -ENOMEM
    first = st.shared[row + SH_RANGE] << 9
    if copy_pte_range(m, st.shared[row + SH_CHILD], st.shared[row + SH_PARENT], first, first + 512, 0) < 0:
        unchain_parent(st, row)
        st.shared[row + SH_LOST] = 1
        return -ENOMEM
    st.pool[COPIED] += 1
    return forget(m, st, row)


@kernel
def give_all(m, st, mm, number):
    """Every child of mm that has still to get a range's table gets it."""
    row = find_shared(st, mm, number, 0)
    while row >= 0:
        give_table(m, st, row)
        row = find_shared(st, mm, number, 0)
    return 0


@kernel
def unshare(m, st, mm, first, end, gone):
    """Before entries of [first, end) change: children get theirs, and so does mm itself unless all of the range goes."""
    for number in range(first >> 9, (end + 511) >> 9):
        if st.as_parent[mm] == 0 and st.as_child[mm] == 0:
            return 0
        row = find_shared(st, mm, number, 1) if st.as_child[mm] else -1
        if row >= 0:
            if gone and first <= number << 9 and (number + 1) << 9 <= end:
                forget(m, st, row)
            else:
                give_table(m, st, row)
        if st.as_parent[mm]:
            give_all(m, st, mm, number)
    return 0


@kernel
def handle_mm_fault(m, st, mm, vma, vpn, access):
    """Linux's, with tables of their own for those who need them."""
    if st.as_child[mm]:
        row = find_shared(st, mm, vpn >> 9, 1)
        if row >= 0 and give_table(m, st, row) < 0:
            return VM_FAULT_OOM
    if st.as_parent[mm]:
        slot = walk_pte(m, mm, vpn)
        if access == WRITE or (slot >= 0 and m.pt[slot] & PTE_SWAP):
            give_all(m, st, mm, vpn >> 9)
    return linux.handle_mm_fault(m, st, mm, vma, vpn, access)


@kernel
def share_range(m, st, dst_mm, src_mm, vpn):
    """Write-protect the parent's table at vpn and note that the child has still to get it: 1, or 0 if it has to be copied now."""
    pmd = walk_pmd(m, src_mm, vpn)
    if pmd < 0 or m.pt[pmd] == 0:
        return 1  # nothing there to be shared
    if m.pt[pmd] & PTE_HUGE or share(m, st, dst_mm, src_mm, vpn >> 9) < 0:
        return 0
    m.sc[SC_NOW_NS] += m.cost[COST_FORK_PTE]
    table = (m.pt[pmd] >> PTE_SHIFT) * 512
    for slot in range(table, table + 512):
        if m.pt[slot] & PTE_SWAP == 0:
            m.pt[slot] &= ~PTE_WRITE
    return 1


@kernel
def copy_page_range(m, st, dst_mm, src_mm, dst_vma, src_vma):
    """fork: whole tables of private anonymous memory are shared, all else is copied. What the parent had still to get itself it gets first."""
    row = src_vma * VMA_STRIDE
    if needs_copy(m, src_vma) == 0:
        return 0
    vpn = m.vma[row + VMA_START] >> 12
    end = m.vma[row + VMA_END] >> 12
    shared = m.vma[row + VMA_FLAGS] & VM_SHARED
    while vpn < end:
        stop = min(end, ((vpn >> 9) + 1) << 9)
        if st.as_child[src_mm]:
            own = find_shared(st, src_mm, vpn >> 9, 1)
            if own >= 0 and give_table(m, st, own) < 0:
                return -ENOMEM
        whole = vpn & 511 == 0 and stop == vpn + 512 and shared == 0 and m.vma[row + VMA_INODE] < 0
        if whole == 0 or share_range(m, st, dst_mm, src_mm, vpn) == 0:
            if copy_pte_range(m, dst_mm, src_mm, vpn, stop, shared) < 0:
                return -ENOMEM
        vpn = stop
    return 0


@kernel
def check(m, st):
    """1: an address space's count of records; 2: the machine's; 3: a child has a table that it has still to get."""
    children = 0
    for mm in range(len(st.as_child)):
        children += st.as_child[mm]
    if children != m.sc[SC_SHARED_TABLES]:
        return 2
    found = 0
    for bucket in range(BUCKETS):
        row = st.by_child[bucket] - 1
        while row >= 0 and found <= children:
            found += 1
            pmd = walk_pmd(m, st.shared[row + SH_CHILD], st.shared[row + SH_RANGE] << 9)
            if pmd >= 0 and m.pt[pmd] and st.shared[row + SH_LOST] == 0:
                return 3
            row = st.shared[row + SH_CHILD_NEXT] - 1
    return 0 if found == children else 1


ON_DEMAND_FORK = FaultHandler(
    name="on_demand_fork",
    summary="demand paging whose fork copies a page table only when one side needs its own",
    models="Zhao et al., EuroSys 2021 (On-demand-fork)",
    left_out="reads of the child through the parent's table",
    level="L1",
    new_state=new_state,
    handle_mm_fault=handle_mm_fault,
    copy_page_range=copy_page_range,
    unshare=unshare,
    check=check,
)
