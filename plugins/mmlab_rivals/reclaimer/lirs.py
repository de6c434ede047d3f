"""LIRS: pages with a short distance between their last two accesses (LIR) stay; of the others (HIR) only a small queue is in memory.

Stack S orders pages by their last access: all LIR, HIR that were accessed since the oldest LIR, and ghosts of HIR that were evicted since.
A HIR that is accessed while S still has it becomes LIR, and S's oldest LIR a HIR in its place; S never ends with a HIR (it is pruned).
Victims are the oldest of Q, the resident HIR. Models: Jiang and Zhang, "LIRS" (SIGMETRICS 2002); libCacheSim's LIRS: S is limited to
`stack_size_ratio` times memory by forgetting the ghosts that were evicted first. Told of every access. Amortised O(1).

libCacheSim differs from the paper in one point (LIRS.c, hit_RD_HIRinQ() calling evictLIR()): where an access to a HIR that is in Q but no
longer in S only renews it, libCacheSim first makes S's oldest LIR a HIR, for which Q's oldest page leaves at once. `demote_on_queue_hit`
does that. (With less than 200 pages, where Q has one place, libCacheSim then counts the accessed page as gone and hits it all the same;
here it stays, and Q has one page more.)

State: that of queues.py, ghosts.py and stack.py.
"""

from typing import Any

import attrs
from attrs.validators import and_, ge, gt, le, lt

from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.zones import page_node
from mmlab.model.const import SCAN_MAY_SWAP, SCAN_MAY_UNMAP, SCAN_MAY_WRITEPAGE, SCAN_RECLAIM_IDX_SHIFT
from mmlab.model.gfp import ZONE_MOVABLE
from mmlab.model.page import PG_LRU, PG_MLOCKED, page_flags
from mmlab.model.rows import SC_NR_NODES
from mmlab.policies import Explained, Reclaimer
from mmlab_rivals.reclaimer.ghosts import (
    REFAULT_RECENT, add_ghost, check_ghosts, find_ghost, ghost_list, ghost_shadow, ghost_state, oldest_ghost,
)
from mmlab_rivals.reclaimer.one_list import POSITION, folio_rotate, make_oldest, nr_lru_pages
from mmlab_rivals.reclaimer.passes import end_pass, more_wanted
from mmlab_rivals.reclaimer.queues import (
    begin_pass, can_move, capacity, check_queues, dequeue, enqueue, evict, explain_queued, make_newest, nr_queued, oldest, queue_of, queue_state, requeue,
    set_queue,
)
from mmlab_rivals.reclaimer.stack import bottom, check_stack, in_stack, newer, stack_drop, stack_head, stack_insert, stack_remove, stack_state

HIR, LIR = 0, 1
ON_HIT = SCAN_MAY_SWAP | SCAN_MAY_UNMAP | SCAN_MAY_WRITEPAGE | ZONE_MOVABLE << SCAN_RECLAIM_IDX_SHIFT


@attrs.frozen
class Params:
    """hir_size_ratio: Q's share of memory, one page at least. stack_size_ratio: what S may hold, as a share of memory.
    demote_on_queue_hit: as libCacheSim."""

    hir_size_ratio: float = attrs.field(default=0.01, validator=and_(gt(0), lt(1)))
    stack_size_ratio: float = attrs.field(default=2.0, validator=and_(ge(1), le(8)))
    demote_on_queue_hit: bool = False


def new_state(params: Params, machine: Any) -> dict[str, Any]:
    """Queues, S, and its ghosts."""
    ghosts = ghost_state(machine, 1, params.stack_size_ratio)
    return {**queue_state(machine), **ghosts, **stack_state(machine, ghosts)}


@leaf
def is_lir(m, st, x):
    """1 if a node of S is a LIR page."""
    return 1 if x < st.nr_frames[0] and queue_of(page_flags(m, x)) == LIR else 0


@kernel
def prune(m, st, node):
    """Take the oldest of S out until it is LIR, or the only one."""
    x = bottom(st, node)
    while st.nr_stack[node] > 1 and is_lir(m, st, x) == 0:
        stack_drop(st, node, x)
        x = bottom(st, node)
    return 0


@leaf
def prune_for_first(m, st, node):
    """A page became LIR: if it is the only one, what is below it goes."""
    return prune(m, st, node) if nr_queued(st, node, LIR) == 1 else 0


@kernel
def demote_bottom(m, st, node):
    """S's oldest LIR becomes the newest of Q; S is pruned."""
    x = bottom(st, node)
    while st.nr_stack[node] > 0 and is_lir(m, st, x) == 0:
        stack_drop(st, node, x)
        x = bottom(st, node)
    if st.nr_stack[node] > 0:
        stack_remove(st, node, x)
        requeue(m, st, node, x, HIR)
        prune(m, st, node)
    return 0


@leaf
def hir_size(m, st, node):
    """Pages that Q may hold."""
    return max(1, int(st.hir_size_ratio[0] * capacity(m, st, node)))


@leaf
def demote_for_one(m, st, node):
    """Make room for one LIR more."""
    if nr_queued(st, node, LIR) >= capacity(m, st, node) - hir_size(m, st, node) and nr_queued(st, node, LIR) > 0:
        demote_bottom(m, st, node)


@leaf
def limit_stack(m, st, node):
    """Forget the ghosts that were evicted first while S is too large."""
    most = int(st.stack_size_ratio[0] * capacity(m, st, node))
    while st.nr_stack[node] > most and st.ghost_nr[node] > 0:
        stack_drop(st, node, st.nr_frames[0] + oldest_ghost(st, node))


@kernel
def access_hir(m, st, node, pfn, flags):
    """An access to a page of Q: in S it becomes LIR, else it is renewed in both."""
    if in_stack(st, pfn):
        stack_remove(st, node, pfn)
        stack_insert(st, node, stack_head(st, node), pfn)
        demote_for_one(m, st, node)
        requeue(m, st, node, pfn, LIR)
        return prune_for_first(m, st, node)
    make_newest(m, node, pfn, flags)
    if st.demote_on_queue_hit[0]:
        demote_for_one(m, st, node)
        victim = oldest(m, node, HIR)
        if nr_queued(st, node, HIR) > hir_size(m, st, node) and victim != pfn:
            begin_pass(m, st, node, 0)
            evict(m, st, node, victim, ON_HIT)
            end_pass(m, st, ON_HIT)
    stack_insert(st, node, stack_head(st, node), pfn)
    limit_stack(m, st, node)
    return 0


@leaf
def folio_accessed(m, st, pfn):
    """Newest of S; what else changes depends on whether the page is LIR, and if not, on whether S had it."""
    flags = page_flags(m, pfn)
    if can_move(flags):
        node = page_node(m, pfn)
        if queue_of(flags) == HIR:
            access_hir(m, st, node, pfn, flags)
        else:
            was_bottom = 1 if bottom(st, node) == pfn else 0
            stack_remove(st, node, pfn)
            stack_insert(st, node, stack_head(st, node), pfn)
            if was_bottom:
                prune(m, st, node)
    return 0


@kernel
def folio_added(m, st, pfn):
    """Newest of S: LIR while there is room for that or if its ghost was in S, else HIR and the newest of Q."""
    node = page_node(m, pfn)
    flags = page_flags(m, pfn)
    if flags & PG_MLOCKED == 0:
        if queue_of(flags) == HIR and nr_queued(st, node, LIR) < capacity(m, st, node) - hir_size(m, st, node):
            set_queue(m, pfn, LIR)
        stack_insert(st, node, stack_head(st, node), pfn)
    enqueue(m, st, node, pfn)
    prune_for_first(m, st, node)
    limit_stack(m, st, node)
    return 0


@kernel
def folio_removed(m, st, pfn):
    """Out of S and off its queue."""
    flags = page_flags(m, pfn)
    if flags & PG_LRU:
        node = page_node(m, pfn)
        dequeue(m, st, node, pfn)
        if in_stack(st, pfn):
            stack_remove(st, node, pfn)
            prune(m, st, node)
    return 0


@kernel
def folio_deactivate(m, st, pfn):
    """The next victim: a LIR page becomes HIR."""
    flags = page_flags(m, pfn)
    if can_move(flags) and queue_of(flags) == LIR:
        node = page_node(m, pfn)
        stack_remove(st, node, pfn)
        requeue(m, st, node, pfn, HIR)
        prune(m, st, node)
    make_oldest(m, pfn)
    return 0


@kernel
def workingset_refault(m, st, pfn, shadow):
    """A page whose ghost is in S becomes LIR, in the place of S's oldest."""
    slot = find_ghost(st, shadow)
    if slot < 0:
        return 0
    stack_drop(st, ghost_list(st, slot), st.nr_frames[0] + slot)
    demote_for_one(m, st, page_node(m, pfn))
    set_queue(m, pfn, LIR)
    return REFAULT_RECENT


@kernel
def eviction_shadow(m, st, pfn):
    """A page that is in S leaves a ghost in its place."""
    if in_stack(st, pfn) == 0:
        return 0
    node = page_node(m, pfn)
    slot = add_ghost(st, node)
    if slot >= 0:
        stack_insert(st, node, pfn, st.nr_frames[0] + slot)
    stack_remove(st, node, pfn)
    return ghost_shadow(st, slot)


@leaf
def shrink_node(m, st, node, priority, nr_to_reclaim, scan_flags):
    """The oldest of Q; if Q is empty, S's oldest LIR goes into it first."""
    begin_pass(m, st, node, priority)
    while more_wanted(st, nr_to_reclaim):
        if nr_queued(st, node, HIR) == 0:
            demote_bottom(m, st, node)
        evict(m, st, node, oldest(m, node, HIR), scan_flags)
    return end_pass(m, st, scan_flags)


@kernel
def check(m, st):
    """Codes of check_queues(), check_ghosts() and check_stack(), 32: S ends with a HIR, 33: it lacks a LIR page."""
    broken = check_queues(m, st)
    if broken == 0:
        broken = check_ghosts(st)
    for node in range(m.sc[SC_NR_NODES]):
        if broken == 0:
            broken = check_stack(st, node)
        nr_lir = 0
        x = bottom(st, node)
        if broken == 0 and nr_queued(st, node, LIR) > 0 and is_lir(m, st, x) == 0:
            broken = 32
        while broken == 0 and x != stack_head(st, node):
            nr_lir += is_lir(m, st, x)
            x = newer(st, x)
        if broken == 0 and nr_lir != nr_queued(st, node, LIR):
            broken = 33
    return broken


@kernel
def explain_page(m, st, pfn, what):
    """Its queue, its position there, whether S has it."""
    return in_stack(st, pfn) if what == 2 else explain_queued(m, pfn, what)


LIRS = Reclaimer(
    name="lirs", summary="pages accessed again soon stay, the others pass through a small queue", models="Jiang and Zhang 2002", level="L2",
    params=Params, wants_accesses=True, new_state=new_state, folio_added=folio_added, folio_accessed=folio_accessed,
    folio_removed=folio_removed, folio_deactivate=folio_deactivate, folio_rotate=folio_rotate, shrink_node=shrink_node,
    eviction_shadow=eviction_shadow, workingset_refault=workingset_refault, nr_lru_pages=nr_lru_pages, check=check,
    explains=(Explained("queue", "where it is", ("hir", "lir")), POSITION,
              Explained("in_stack", "1: accessed since the oldest LIR was, so that the next access makes it LIR")), explain_page=explain_page,
)  # fmt: skip
