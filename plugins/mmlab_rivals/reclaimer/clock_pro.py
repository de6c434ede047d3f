"""CLOCK-Pro: LIRS's distinction of hot and cold pages with accessed bits only, on one clock with three hands.

On the clock are hot pages, cold pages, and ghosts of cold pages that were evicted within their test period. A page comes in as cold, in its
test period. HAND_cold looks for a victim: a cold page without its bit; it leaves a ghost if it is in its test period. With its bit it becomes
hot if it is in its test period, else it gets a new one. HAND_hot turns hot pages without their bit cold where there are more hot pages than
memory less the target of cold ones; it ends the test period of every cold page that it passes. HAND_test does that where there are more
ghosts than pages of memory. A ghost's page that comes back is hot. The target of cold pages grows by one with such a page and falls by one
with a test period that ends. Models: Jiang, Chen and Zhang, "CLOCK-Pro: An Effective Improvement of the CLOCK Replacement" (USENIX ATC
2005). Marks as CLOCK's. Amortised O(1) a victim.

libCacheSim's ClockPro.c is no yardstick: a page that comes back from its test period is not entered into the cache's size, so that it ends
with about half of its capacity in use, and its eviction takes no page while its hand is at a hot one.

State beside that of queues.py, ghosts.py and stack.py: in_test, uint8 a page; cold_target, hand_cold and hand_test (a place, the head, or -1:
the oldest) an entry a node. HAND_hot is always between the oldest and the newest, at the head.
"""

from typing import Any

import attrs
import numpy as np
from attrs.validators import and_, gt, lt

from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.zones import page_node
from mmlab.model.page import PG_LRU, PG_MLOCKED, page_flags
from mmlab.model.rows import SC_NR_NODES
from mmlab.policies import Explained, Reclaimer
from mmlab_rivals.reclaimer.ghosts import REFAULT_RECENT, add_ghost, check_ghosts, find_ghost, ghost_list, ghost_shadow, ghost_state
from mmlab_rivals.reclaimer.one_list import POSITION, folio_rotate, make_oldest, nr_lru_pages, set_referenced, was_accessed
from mmlab_rivals.reclaimer.passes import end_pass, more_wanted
from mmlab_rivals.reclaimer.queues import (
    begin_pass, can_move, capacity, check_queues, dequeue, enqueue, evict, explain_queued, nr_queued, pass_over, queue_of, queue_state, requeue, set_queue,
)
from mmlab_rivals.reclaimer.stack import bottom, check_stack, in_stack, newer, stack_drop, stack_head, stack_insert, stack_remove, stack_state

COLD, HOT = 0, 1


@attrs.frozen
class Params:
    """cold_size_ratio: what the target of cold pages begins with, as a share of memory."""

    cold_size_ratio: float = attrs.field(default=0.1, validator=and_(gt(0), lt(1)))


def new_state(params: Params, machine: Any) -> dict[str, Any]:
    """Queues, the clock and its ghosts, and what the module's docstring lists."""
    nodes, ghosts = machine.sizes.nr_nodes, ghost_state(machine, 1)
    return {
        "in_test": machine.page_column("uint8"), "cold_target": np.zeros(nodes, np.int64), "hand_cold": np.full(nodes, -1, np.int64),
        "hand_test": np.full(nodes, -1, np.int64), **queue_state(machine), **ghosts, **stack_state(machine, ghosts),
    }  # fmt: skip


@leaf
def hot_size(m, st, node):
    """Pages that may be hot."""
    pages = capacity(m, st, node)
    if st.cold_target[node] == 0:
        st.cold_target[node] = max(1, int(pages * st.cold_size_ratio[0]))
    return pages - st.cold_target[node]


@leaf
def move_target(m, st, node, by):
    """The target of cold pages, within 1 and memory less one."""
    hot_size(m, st, node)
    st.cold_target[node] = max(1, min(st.cold_target[node] + by, capacity(m, st, node) - 1))


@leaf
def at_hand(st, node, hand):
    """The place that a hand is at."""
    return bottom(st, node) if hand < 0 or hand == stack_head(st, node) else hand


@leaf
def step_off(st, node, x):
    """Hands that are at this place go on to the next newer one: it will not be where it was."""
    if st.hand_cold[node] == x:
        st.hand_cold[node] = newer(st, x)
    if st.hand_test[node] == x:
        st.hand_test[node] = newer(st, x)


@leaf
def to_newest(st, node, x):
    """Behind HAND_hot."""
    step_off(st, node, x)
    stack_remove(st, node, x)
    stack_insert(st, node, stack_head(st, node), x)


@leaf
def drop(st, node, x):
    """Off the clock."""
    step_off(st, node, x)
    stack_drop(st, node, x)


@leaf
def end_test(m, st, node, x):
    """The test period of a cold page or ghost is over: 1 if that was a ghost, which is off the clock now."""
    if x >= st.nr_frames[0]:
        drop(st, node, x)
        move_target(m, st, node, -1)
        return 1
    if queue_of(page_flags(m, x)) == COLD and np.int64(st.in_test[x]):
        st.in_test[x] = 0
        move_target(m, st, node, -1)
    return 0


@kernel
def run_hand_hot(m, st, node):
    """Until a hot page has become cold."""
    nr_hot = nr_queued(st, node, HOT)
    while nr_queued(st, node, HOT) == nr_hot and nr_hot > 0:
        x = bottom(st, node)
        if end_test(m, st, node, x) == 0:
            if queue_of(page_flags(m, x)) == HOT and was_accessed(m, x) == 0:
                requeue(m, st, node, x, COLD)
                st.in_test[x] = 0
            to_newest(st, node, x)
    return 0


@leaf
def keep_hot(m, st, node):
    """No more hot pages than there may be."""
    while nr_queued(st, node, HOT) > max(0, hot_size(m, st, node)):
        run_hand_hot(m, st, node)


@kernel
def run_hand_test(m, st, node):
    """Until there are no more ghosts than pages of memory."""
    while st.ghost_nr[node] > capacity(m, st, node):
        x = at_hand(st, node, st.hand_test[node])
        st.hand_test[node] = newer(st, x)
        end_test(m, st, node, x)
    return 0


@kernel
def folio_added(m, st, pfn):
    """Cold and in its test period, or hot if it was a ghost; behind HAND_hot."""
    node = page_node(m, pfn)
    flags = page_flags(m, pfn)
    if flags & PG_MLOCKED == 0:
        st.in_test[pfn] = 1 if queue_of(flags) == COLD else 0
        stack_insert(st, node, stack_head(st, node), pfn)
    enqueue(m, st, node, pfn)
    keep_hot(m, st, node)
    return 0


@kernel
def folio_removed(m, st, pfn):
    """Off the clock."""
    flags = page_flags(m, pfn)
    if flags & PG_LRU:
        node = page_node(m, pfn)
        dequeue(m, st, node, pfn)
        if in_stack(st, pfn):
            drop(st, node, pfn)
    return 0


@kernel
def folio_deactivate(m, st, pfn):
    """Cold, and not in a test period."""
    flags = page_flags(m, pfn)
    if can_move(flags):
        requeue(m, st, page_node(m, pfn), pfn, COLD)
        st.in_test[pfn] = 0
    make_oldest(m, pfn)
    return 0


@kernel
def workingset_refault(m, st, pfn, shadow):
    """A page that comes back within its test period is hot, and more pages should be cold."""
    slot = find_ghost(st, shadow)
    if slot < 0:
        return 0
    drop(st, ghost_list(st, slot), st.nr_frames[0] + slot)
    move_target(m, st, page_node(m, pfn), 1)
    set_queue(m, pfn, HOT)
    return REFAULT_RECENT


@kernel
def eviction_shadow(m, st, pfn):
    """In its test period a page leaves a ghost in its place."""
    node = page_node(m, pfn)
    slot = add_ghost(st, node) if np.int64(st.in_test[pfn]) else -1
    if slot >= 0:
        stack_insert(st, node, pfn, st.nr_frames[0] + slot)
        if st.hand_test[node] == pfn:
            st.hand_test[node] = st.nr_frames[0] + slot
    drop(st, node, pfn)
    return ghost_shadow(st, slot)


@leaf
def shrink_node(m, st, node, priority, nr_to_reclaim, scan_flags):
    """Turn HAND_cold."""
    begin_pass(m, st, node, priority)
    while more_wanted(st, nr_to_reclaim):
        if nr_queued(st, node, COLD) == 0:
            run_hand_hot(m, st, node)
        x = at_hand(st, node, st.hand_cold[node])
        st.hand_cold[node] = newer(st, x)
        if x >= st.nr_frames[0]:
            continue
        if queue_of(page_flags(m, x)) == HOT:
            pass_over(m, st, x)
        elif was_accessed(m, x):
            pass_over(m, st, x)
            to_newest(st, node, x)
            if np.int64(st.in_test[x]):
                requeue(m, st, node, x, HOT)
                st.in_test[x] = 0
                keep_hot(m, st, node)
            else:
                st.in_test[x] = 1
        else:
            evict(m, st, node, x, scan_flags)
            run_hand_test(m, st, node)
    return end_pass(m, st, scan_flags)


@kernel
def check(m, st):
    """Codes of check_queues(), check_ghosts() and check_stack(), 34: a page is not on the clock, 35: a hand is not."""
    broken = check_queues(m, st)
    if broken == 0:
        broken = check_ghosts(st)
    for node in range(m.sc[SC_NR_NODES]):
        if broken == 0:
            broken = check_stack(st, node)
        if broken == 0 and st.nr_stack[node] - st.ghost_nr[node] > nr_queued(st, node, COLD) + nr_queued(st, node, HOT):
            broken = 34
        for hand in (st.hand_cold[node], st.hand_test[node]):
            if broken == 0 and hand >= 0 and in_stack(st, hand) == 0:
                broken = 35
    return broken


@kernel
def explain_page(m, st, pfn, what):
    """Its queue, its position there, whether it is in its test period."""
    return np.int64(st.in_test[pfn]) if what == 2 else explain_queued(m, pfn, what)


CLOCK_PRO = Reclaimer(
    name="clock_pro", summary="hot and cold pages on one clock, whose shares adapt", models="Jiang, Chen and Zhang 2005", level="L1",
    params=Params, new_state=new_state, folio_added=folio_added, folio_accessed=set_referenced, folio_removed=folio_removed,
    folio_deactivate=folio_deactivate, folio_rotate=folio_rotate, shrink_node=shrink_node, eviction_shadow=eviction_shadow,
    workingset_refault=workingset_refault, nr_lru_pages=nr_lru_pages, check=check,
    explains=(Explained("queue", "where it is", ("cold", "hot")), POSITION,
              Explained("in_test", "1: a cold page in its test period, which an access makes hot")), explain_page=explain_page,
)  # fmt: skip
