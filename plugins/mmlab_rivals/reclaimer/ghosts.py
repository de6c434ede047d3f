"""Ghosts: what a policy remembers of pages that it evicted, in lists a node, newest first.

A ghost is a slot of a pool. Its number and how often the slot was used make the shadow that the core keeps in the page's place; a shadow
whose ghost has been dropped since names nothing. O(1) each. 16 bytes a slot.

State: ghost, int32, four words a slot: next, prev, list + 1 (0: free), uses; behind the pool come the lists' heads. ghost_nr: ghosts a list.
ghost_pool: slots, slots ever used, first free slot + 1.
"""

import numpy as np

from mmlab.kernels.jit import kernel, leaf
from mmlab.model.layout import reserve
from mmlab_rivals.reclaimer.queues import check_queues, set_queue

NEXT, PREV, OWNER, USES = range(4)
WORDS = 4
SLOT_BITS = 32
SLOT_MASK = (1 << SLOT_BITS) - 1
USES_MASK = (1 << 25) - 1  # a shadow has 58 bits
NR_SLOTS, NR_TOUCHED, FIRST_FREE = range(3)
RETURNED = 1  # the queue of pages that come back while they are remembered
REFAULT_RECENT = 4  # workingset_refault(): counted as activated


def ghost_state(machine, nr_lists, times=1.0):
    """The arrays of nr_lists lists a node and a pool of so many times the machine's pages."""
    slots, heads = int(machine.sizes.nr_frames * times) + 1, machine.sizes.nr_nodes * nr_lists
    ghost = reserve(WORDS * (slots + heads), "int32", huge=slots <= 1 << 24)
    for head in range(slots, slots + heads):
        ghost[WORDS * head + NEXT] = ghost[WORDS * head + PREV] = head
    return {"ghost": ghost, "ghost_nr": np.zeros(heads, np.int64), "ghost_pool": np.array([slots, 0, 0], np.int64)}


@leaf
def oldest_ghost(st, lst):
    """The slot at the old end of a list; of an empty one its head."""
    return np.int64(st.ghost[WORDS * (st.ghost_pool[NR_SLOTS] + lst) + PREV])


@leaf
def drop_ghost(st, slot):
    """Forget a ghost."""
    base = WORDS * slot
    before = np.int64(st.ghost[base + PREV])
    after = np.int64(st.ghost[base + NEXT])
    st.ghost[WORDS * before + NEXT] = after
    st.ghost[WORDS * after + PREV] = before
    st.ghost_nr[np.int64(st.ghost[base + OWNER]) - 1] -= 1
    st.ghost[base + OWNER] = 0
    st.ghost[base + NEXT] = st.ghost_pool[FIRST_FREE]
    st.ghost_pool[FIRST_FREE] = slot + 1


@leaf
def keep_ghosts(st, lst, most):
    """Drop the oldest ghosts of a list until it has no more than so many."""
    while st.ghost_nr[lst] > most and st.ghost_nr[lst] > 0:
        drop_ghost(st, oldest_ghost(st, lst))


@leaf
def add_ghost(st, lst):
    """The slot of a new ghost, the newest of a list; in a full pool the list's oldest goes for it. -1: the pool is full of others' ghosts."""
    pool = st.ghost_pool[NR_SLOTS]
    if st.ghost_pool[FIRST_FREE] == 0 and st.ghost_pool[NR_TOUCHED] == pool:
        if st.ghost_nr[lst] == 0:
            return -1
        drop_ghost(st, oldest_ghost(st, lst))
    slot = st.ghost_pool[FIRST_FREE] - 1
    if slot >= 0:
        st.ghost_pool[FIRST_FREE] = np.int64(st.ghost[WORDS * slot + NEXT])
    else:
        slot = st.ghost_pool[NR_TOUCHED]
        st.ghost_pool[NR_TOUCHED] = slot + 1
    base = WORDS * slot
    head = pool + lst
    after = np.int64(st.ghost[WORDS * head + NEXT])
    st.ghost[WORDS * head + NEXT] = slot
    st.ghost[WORDS * after + PREV] = slot
    st.ghost[base + NEXT] = after
    st.ghost[base + PREV] = head
    st.ghost[base + OWNER] = lst + 1
    st.ghost[base + USES] = (np.int64(st.ghost[base + USES]) + 1) & USES_MASK
    st.ghost_nr[lst] += 1
    return slot


@leaf
def ghost_shadow(st, slot):
    """What the core is to remember: 1 or more, or 0 for no ghost (slot -1)."""
    if slot < 0:
        return 0
    return np.int64(st.ghost[WORDS * slot + USES]) << SLOT_BITS | (slot + 1)


@leaf
def find_ghost(st, shadow):
    """The slot that a shadow names, or -1 if it names none any more."""
    slot = (shadow & SLOT_MASK) - 1
    if slot < 0 or np.int64(st.ghost[WORDS * slot + OWNER]) == 0 or np.int64(st.ghost[WORDS * slot + USES]) != shadow >> SLOT_BITS:
        return -1
    return slot


@leaf
def ghost_list(st, slot):
    """The list that a ghost is on."""
    return np.int64(st.ghost[WORDS * slot + OWNER]) - 1


@leaf
def remember(st, lst, most):
    """A ghost more on a list that may have so many: the shadow."""
    if most <= 0:
        return 0
    keep_ghosts(st, lst, most - 1)
    return ghost_shadow(st, add_ghost(st, lst))


@kernel
def workingset_refault(m, st, pfn, shadow):
    """A page that is remembered goes to queue RETURNED, and its ghost with it."""
    slot = find_ghost(st, shadow)
    if slot < 0:
        return 0
    drop_ghost(st, slot)
    set_queue(m, pfn, RETURNED)
    return REFAULT_RECENT


@leaf
def check_ghosts(st):
    """0; 20: a list is broken; 21: it holds another's ghost; 22: its number of ghosts is wrong."""
    pool = st.ghost_pool[NR_SLOTS]
    for lst in range(len(st.ghost_nr)):
        before = pool + lst
        slot = np.int64(st.ghost[WORDS * before + NEXT])
        found = 0
        while slot != pool + lst:
            if np.int64(st.ghost[WORDS * slot + PREV]) != before:
                return 20
            if ghost_list(st, slot) != lst:
                return 21
            found += 1
            before = slot
            slot = np.int64(st.ghost[WORDS * slot + NEXT])
        if found != st.ghost_nr[lst]:
            return 22
    return 0


@kernel
def check(m, st):
    """Codes of check_queues() and check_ghosts()."""
    broken = check_queues(m, st)
    return broken if broken else check_ghosts(st)
