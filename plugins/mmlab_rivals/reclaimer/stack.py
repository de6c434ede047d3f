"""One order over the pages of a node and their ghosts: LIRS's stack, CLOCK-Pro's clock. O(1) each.

State: stack, int32, two words a place: older + 1, newer + 1. Places are page frames, then the ghosts of ghosts.py, then a head for each node
of the machine, which its newest lies below and its oldest above; 0 0: in no order. nr_stack: pages and ghosts a node. nr_frames: where
ghosts begin.
"""

import numpy as np

from mmlab.kernels.jit import leaf
from mmlab.model.layout import reserve
from mmlab_rivals.reclaimer.ghosts import NR_SLOTS, drop_ghost

OLDER, NEWER = 0, 1


def stack_state(machine, ghosts):
    """The arrays; ghosts: those of ghost_state()."""
    frames, nodes = machine.sizes.nr_frames, machine.sizes.nr_nodes
    first = frames + int(ghosts["ghost_pool"][NR_SLOTS])
    stack = reserve(2 * (first + nodes), "int32", huge=first <= 1 << 24)
    for head in range(first, first + nodes):
        stack[2 * head + OLDER] = stack[2 * head + NEWER] = head + 1
    return {"stack": stack, "nr_stack": np.zeros(nodes, np.int64), "nr_frames": np.array([frames], np.int64)}


@leaf
def stack_head(st, node):
    """The node of S that its newest lies below, and its oldest above."""
    return st.nr_frames[0] + st.ghost_pool[NR_SLOTS] + node


@leaf
def in_stack(st, x):
    """1 if a page or ghost is in the stack."""
    return 1 if st.stack[2 * x] != 0 else 0


@leaf
def older(st, x):
    """The next older, or the head."""
    return np.int64(st.stack[2 * x + OLDER]) - 1


@leaf
def newer(st, x):
    """The next newer, or the head."""
    return np.int64(st.stack[2 * x + NEWER]) - 1


@leaf
def stack_remove(st, node, x):
    """Out of the stack."""
    below = older(st, x)
    above = newer(st, x)
    st.stack[2 * above + OLDER] = below + 1
    st.stack[2 * below + NEWER] = above + 1
    st.stack[2 * x + OLDER] = 0
    st.stack[2 * x + NEWER] = 0
    st.nr_stack[node] -= 1


@leaf
def stack_insert(st, node, above, x):
    """Into the stack, right below another (the head: as the newest)."""
    below = older(st, above)
    st.stack[2 * x + OLDER] = below + 1
    st.stack[2 * x + NEWER] = above + 1
    st.stack[2 * above + OLDER] = x + 1
    st.stack[2 * below + NEWER] = x + 1
    st.nr_stack[node] += 1


@leaf
def bottom(st, node):
    """The oldest of the stack, or its head."""
    return newer(st, stack_head(st, node))


@leaf
def stack_drop(st, node, x):
    """Out of the stack, and a ghost is forgotten."""
    stack_remove(st, node, x)
    if x >= st.nr_frames[0]:
        drop_ghost(st, x - st.nr_frames[0])


@leaf
def check_stack(st, node):
    """0; 30: the order is broken, 31: the number of its places is wrong."""
    head = stack_head(st, node)
    before = head
    x = older(st, head)
    found = 0
    while x != head:
        if newer(st, x) != before:
            return 30
        found += 1
        before = x
        x = older(st, x)
    return 31 if found != st.nr_stack[node] else 0
