"""NUMA policies: from which node a task's pages come (mbind(), which moves pages: mm/mbind.py).

A policy is one number: 0 the default, else mode | nodes << 8 | slot << POLICY_SLOT_SHIFT; equal numbers may merge. The slot names the
zonelists that hold only the policy's nodes (bind, preferred_many), rows of m.zonelist behind the nodes' own. What preferred_many's cannot
serve without reclaim is then asked of all nodes: m.nodemask_next, mm/page_alloc.py alloc_pages_preferred_many().
Models: mm/mempolicy.c policy_nodemask(), interleave_nid(), weighted_interleave_nid(), interleave_nodes(), mpol_shared_policy_lookup(),
alloc_pages_mpol().
Left out: home nodes, MPOL_F_STATIC_NODES and MPOL_F_RELATIVE_NODES.
How policies of shared memory are set: mm/shared_policy.py.
"""

from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.likely import unlikely
from mmlab.kernels.services import alloc_pages
from mmlab.kernels.zones import page_node, zone_of
from mmlab.model.const import HPAGE_PMD_ORDER
from mmlab.model.gfp import GFP_DIRECT_RECLAIM, GFP_NORETRY, GFP_THISNODE
from mmlab.model.rows import (
    I_FLAGS, IF_SHMEM, INODE_STRIDE, I_SHMEM_INO, N_WEIGHT, NODE_STRIDE, SC_INTERLEAVE_NODE, SC_NODE, SC_NR_NODES, SC_SHARED_POLICIES,
    SC_TASK, SP_END, SP_INODE, SP_POLICY, SP_START, SP_STRIDE, T_IL_PREV, T_IL_WEIGHT, T_MEMPOLICY, T_MEMS, TASK_STRIDE, VMA_INODE,
    VMA_PGOFF, VMA_POLICY, VMA_START, VMA_STRIDE, Z_NUMA_INTERLEAVE, ZONE_STRIDE,
)

MODES = ("default", "preferred", "bind", "interleave", "local", "preferred_many", "weighted_interleave")  # numbered as in the kernel
MPOL_PREFERRED, MPOL_BIND, MPOL_INTERLEAVE, MPOL_LOCAL, MPOL_PREFERRED_MANY, MPOL_WEIGHTED_INTERLEAVE = range(1, 7)
POLICY_SLOT_SHIFT = 44


@leaf
def policy_mode(policy):
    """MPOL_*."""
    return policy & 255


@leaf
def policy_nodes(policy):
    """The policy's nodes, a bit each."""
    return (policy >> 8) & 0xFFFFFFFF


@leaf
def next_node_in(m, node, nodes):
    """The next node of a set after `node`, round and round."""
    for step in range(1, m.sc[SC_NR_NODES] + 1):
        after = (node + step) % m.sc[SC_NR_NODES]
        if (nodes >> after) & 1:
            return after
    return 0


@leaf
def node_weight(m, node):
    """The node's share of a weighted interleave."""
    return max(1, m.node[node * NODE_STRIDE + N_WEIGHT])


@kernel
def interleave_nid(m, policy, index):
    """Node of page `index` of a range that is interleaved: the set's nodes by turns, or by their weights."""
    nodes = policy_nodes(policy)
    weighted = policy_mode(policy) == MPOL_WEIGHTED_INTERLEAVE
    total = 0
    for node in range(m.sc[SC_NR_NODES]):
        if (nodes >> node) & 1:
            total += node_weight(m, node) if weighted else 1
    target = index % total
    for node in range(m.sc[SC_NR_NODES]):
        if (nodes >> node) & 1:
            target -= node_weight(m, node) if weighted else 1
            if target < 0:
                return node
    return m.sc[SC_NODE]


@kernel
def interleave_nodes(m, policy, row):
    """Node of a task's next page that belongs to no range (page tables, page cache): taken by turns."""
    nodes = policy_nodes(policy)
    if policy_mode(policy) == MPOL_INTERLEAVE:
        m.task[row + T_IL_PREV] = next_node_in(m, m.task[row + T_IL_PREV], nodes)
        return m.task[row + T_IL_PREV]
    if m.task[row + T_IL_WEIGHT] == 0 or (nodes >> max(0, m.task[row + T_IL_PREV])) & 1 == 0:
        m.task[row + T_IL_PREV] = next_node_in(m, m.task[row + T_IL_PREV], nodes)
        m.task[row + T_IL_WEIGHT] = node_weight(m, m.task[row + T_IL_PREV])
    m.task[row + T_IL_WEIGHT] -= 1
    return m.task[row + T_IL_PREV]


@kernel
def policy_zonelist(m, policy, index):
    """Row of m.zonelist from which a page is taken; index: its place in an interleaved range, -1 for none.

    The rows of a task in a cpuset hold only the nodes that it allows; bind and preferred_many have rows of their own, made within them."""
    mode = policy_mode(policy)
    m.sc[SC_INTERLEAVE_NODE] = 0
    allowed = m.sc[SC_NR_NODES] * m.task[m.sc[SC_TASK] * TASK_STRIDE + T_MEMS] if m.sc[SC_TASK] >= 0 else 0
    if mode == MPOL_PREFERRED:
        return allowed + next_node_in(m, -1, policy_nodes(policy))
    if mode == MPOL_BIND or mode == MPOL_PREFERRED_MANY:
        return m.sc[SC_NR_NODES] * (1 + (policy >> POLICY_SLOT_SHIFT)) + m.sc[SC_NODE]
    if mode == MPOL_INTERLEAVE or mode == MPOL_WEIGHTED_INTERLEAVE:
        node = interleave_nid(m, policy, index) if index >= 0 else interleave_nodes(m, policy, m.sc[SC_TASK] * TASK_STRIDE)
        if mode == MPOL_INTERLEAVE:
            m.sc[SC_INTERLEAVE_NODE] = node + 1
        return allowed + node
    return allowed + m.sc[SC_NODE]


@kernel
def task_zonelist(m):
    """The same for memory that belongs to no range, by the policy of the task that runs."""
    policy = m.task[m.sc[SC_TASK] * TASK_STRIDE + T_MEMPOLICY] if m.sc[SC_TASK] >= 0 else 0
    return policy_zonelist(m, policy, -1)


@kernel
def shared_policy_lookup(m, inode, index):
    """The policy of a page of an inode; 0 where none was set."""
    for i in range(m.sc[SC_SHARED_POLICIES]):
        row = i * SP_STRIDE
        if m.shared_policy[row + SP_INODE] == inode and m.shared_policy[row + SP_START] <= index and index < m.shared_policy[row + SP_END]:
            return m.shared_policy[row + SP_POLICY]
    return 0


@leaf
def vma_page_index(m, vma, vpn):
    """The page's place in what the VMA maps."""
    return m.vma[vma * VMA_STRIDE + VMA_PGOFF] + vpn - (m.vma[vma * VMA_STRIDE + VMA_START] >> 12)


@kernel
def get_vma_policy(m, vma, vpn):
    """The policy of a page of a VMA: the VMA's or, of shared memory, the object's, else the task's."""
    policy = m.vma[vma * VMA_STRIDE + VMA_POLICY]
    if m.sc[SC_SHARED_POLICIES] and m.vma[vma * VMA_STRIDE + VMA_INODE] >= 0:
        policy = shared_policy_lookup(m, m.vma[vma * VMA_STRIDE + VMA_INODE], vma_page_index(m, vma, vpn))
    if policy == 0 and m.sc[SC_TASK] >= 0:
        policy = m.task[m.sc[SC_TASK] * TASK_STRIDE + T_MEMPOLICY]
    return policy


@leaf
def shmem_interleave_index(m, inode, index, order):
    """The place of a folio of a shared memory object in an interleaved range: it begins at the object's number."""
    return m.inode[inode * INODE_STRIDE + I_SHMEM_INO] + (index >> order)


@leaf
def vma_interleave_index(m, vma, vpn, order):
    """The place of a folio of a VMA in an interleaved range; of a map of shared memory, private or not, that in the object."""
    index = vma_page_index(m, vma, vpn)
    inode = m.vma[vma * VMA_STRIDE + VMA_INODE]
    if inode >= 0 and m.inode[inode * INODE_STRIDE + I_FLAGS] & IF_SHMEM:
        return shmem_interleave_index(m, inode, index, order)
    return index >> order


@kernel
def vma_zonelist(m, vma, vpn, order):
    """Row of m.zonelist for a folio of a VMA."""
    return policy_zonelist(m, get_vma_policy(m, vma, vpn), vma_interleave_index(m, vma, vpn, order))


@kernel
def alloc_pages_mpol(m, gfp, order, policy, index):
    """A block by a policy; index: its place in an interleaved range, in blocks of its size. Pfn, or -ENOMEM.

    2 MiB come from the node that is asked first; from others only if the request may reclaim and that node has none even after compaction."""
    zonelist = policy_zonelist(m, policy, index)
    mode = policy_mode(policy)
    if order == HPAGE_PMD_ORDER and mode != MPOL_INTERLEAVE and mode != MPOL_WEIGHTED_INTERLEAVE and mode != MPOL_PREFERRED_MANY:
        node = zonelist % m.sc[SC_NR_NODES]
        if mode != MPOL_BIND or (policy_nodes(policy) >> node) & 1:
            pfn = alloc_pages(m, gfp | GFP_THISNODE | GFP_NORETRY, order, zonelist)
            if pfn >= 0 or gfp & GFP_DIRECT_RECLAIM == 0:
                return pfn
    return alloc_pages(m, gfp, order, zonelist)


@leaf
def count_interleave(m, pfn):
    """A page that came from the node whose turn it was."""
    if unlikely(m.sc[SC_INTERLEAVE_NODE] > 0):
        if pfn >= 0 and page_node(m, pfn) == m.sc[SC_INTERLEAVE_NODE] - 1:
            m.zone[zone_of(m, pfn) * ZONE_STRIDE + Z_NUMA_INTERLEAVE] += 1
        m.sc[SC_INTERLEAVE_NODE] = 0
