"""2Q: new pages pass through a FIFO queue; only those that are asked for again after they left it come into the LRU list.

A1in (the FIFO) holds what is new, A1out remembers what A1in dropped, Am holds in LRU order what came back while A1out remembered it.
Models: Johnson and Shasha, "2Q" (VLDB 1994), the full version; libCacheSim's TwoQ: a victim is Am's oldest while A1in has no more than its
share. An access to a page in A1in changes nothing. Told of every access. O(1).
"""

from typing import Any

import attrs
from attrs.validators import and_, ge, gt, le, lt

from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.zones import page_node
from mmlab.model.page import page_flags
from mmlab.policies import Explained, Reclaimer
from mmlab_rivals.reclaimer.ghosts import RETURNED, check, ghost_state, remember, workingset_refault
from mmlab_rivals.reclaimer.one_list import POSITION, folio_deactivate, folio_rotate, nr_lru_pages
from mmlab_rivals.reclaimer.passes import end_pass, more_wanted
from mmlab_rivals.reclaimer.queues import (
    begin_pass, can_move, capacity, evict, explain_page, folio_added, folio_removed, make_newest, nr_queued, oldest, queue_of, queue_state,
)

A1IN, AM = 0, RETURNED


@attrs.frozen
class Params:
    """a_in_size_ratio: A1in's share of memory. a_out_size_ratio: pages that A1out remembers, as a share of memory."""

    a_in_size_ratio: float = attrs.field(default=0.25, validator=and_(gt(0), lt(1)))
    a_out_size_ratio: float = attrs.field(default=0.5, validator=and_(ge(0), le(8)))


def new_state(params: Params, machine: Any) -> dict[str, Any]:
    """Queues, and A1out a node."""
    return {**queue_state(machine), **ghost_state(machine, 1, params.a_out_size_ratio)}


@leaf
def folio_accessed(m, st, pfn):
    """In Am: newest."""
    flags = page_flags(m, pfn)
    if queue_of(flags) == AM and can_move(flags):
        make_newest(m, page_node(m, pfn), pfn, flags)
    return 0


@kernel
def eviction_shadow(m, st, pfn):
    """A1out remembers what leaves A1in."""
    if queue_of(page_flags(m, pfn)) == AM:
        return 0
    node = page_node(m, pfn)
    return remember(st, node, int(capacity(m, st, node) * st.a_out_size_ratio[0]))


@leaf
def shrink_node(m, st, node, priority, nr_to_reclaim, scan_flags):
    """The oldest of A1in if that has more than its share, else of Am."""
    begin_pass(m, st, node, priority)
    a_in_size = int(capacity(m, st, node) * st.a_in_size_ratio[0])
    while more_wanted(st, nr_to_reclaim):
        queue = AM if nr_queued(st, node, AM) > 0 and nr_queued(st, node, A1IN) <= a_in_size else A1IN
        evict(m, st, node, oldest(m, node, queue), scan_flags)
    return end_pass(m, st, scan_flags)


TWO_Q = Reclaimer(
    name="two_q", summary="a FIFO queue for new pages, LRU for those that come back", models="Johnson and Shasha 1994", level="L2",
    params=Params, wants_accesses=True, new_state=new_state, folio_added=folio_added, folio_accessed=folio_accessed,
    folio_removed=folio_removed, folio_deactivate=folio_deactivate, folio_rotate=folio_rotate, shrink_node=shrink_node,
    eviction_shadow=eviction_shadow, workingset_refault=workingset_refault, nr_lru_pages=nr_lru_pages, check=check,
    explains=(Explained("queue", "where it is", ("a1in", "am")), POSITION), explain_page=explain_page,
)  # fmt: skip
