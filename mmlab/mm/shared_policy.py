"""NUMA policies of shared memory objects: they belong to ranges of the inode, whoever maps it. Rows of m.shared_policy, m.sc[SC_SHARED_POLICIES] of them.

Models: mm/mempolicy.c mpol_set_shared_policy(), shared_policy_replace(), mpol_free_shared_policy(); mm/shmem.c
shmem_get_pgoff_policy(). Left out: a cpuset's change does not rebind them (nor does the kernel). O(rows) a page of shared memory.
"""

from mmlab.kernels.jit import kernel, leaf
from mmlab.mm.mempolicy import policy_zonelist, shared_policy_lookup, shmem_interleave_index
from mmlab.model.const import ENOMEM
from mmlab.model.rows import SC_NR_NODES, SC_SHARED_POLICIES, SC_TASK, SP_END, SP_INODE, SP_POLICY, SP_START, SP_STRIDE, T_MEMPOLICY, TASK_STRIDE


@kernel
def shmem_policy(m, inode, index):
    """The policy of a page of a shared memory object: its own, else the task's."""
    policy = shared_policy_lookup(m, inode, index)
    if policy == 0 and m.sc[SC_TASK] >= 0:
        policy = m.task[m.sc[SC_TASK] * TASK_STRIDE + T_MEMPOLICY]
    return policy


@kernel
def shmem_zonelist(m, inode, index, order):
    """Row of m.zonelist for a folio of a shared memory object. Each inode is interleaved from its number on."""
    if m.sc[SC_NR_NODES] == 1:
        return -1
    return policy_zonelist(m, shmem_policy(m, inode, index), shmem_interleave_index(m, inode, index, order))


@leaf
def _add(m, inode, start, end, policy):
    """A row more: 0, or -ENOMEM."""
    row = m.sc[SC_SHARED_POLICIES] * SP_STRIDE
    if row == len(m.shared_policy):
        return -ENOMEM
    m.shared_policy[row + SP_INODE], m.shared_policy[row + SP_START], m.shared_policy[row + SP_END] = inode, start, end
    m.shared_policy[row + SP_POLICY] = policy
    m.sc[SC_SHARED_POLICIES] += 1
    return 0


@kernel
def set_shared_policy(m, inode, start, end, policy):
    """Pages [start, end) of an inode get a policy (0: none of their own) in place of what they had: 0, or -ENOMEM."""
    i = 0
    while i < m.sc[SC_SHARED_POLICIES]:
        row = i * SP_STRIDE
        first, last = m.shared_policy[row + SP_START], m.shared_policy[row + SP_END]
        if m.shared_policy[row + SP_INODE] != inode or last <= start or end <= first:
            i += 1
        elif first < start:
            m.shared_policy[row + SP_END] = start
            if end < last and _add(m, inode, end, last, m.shared_policy[row + SP_POLICY]) < 0:
                return -ENOMEM
            i += 1
        elif end < last:
            m.shared_policy[row + SP_START] = end
            i += 1
        else:  # the last row takes its place
            m.sc[SC_SHARED_POLICIES] -= 1
            for field in range(SP_STRIDE):
                m.shared_policy[row + field] = m.shared_policy[m.sc[SC_SHARED_POLICIES] * SP_STRIDE + field]
    return _add(m, inode, start, end, policy) if policy else 0
