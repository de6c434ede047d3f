"""S3-FIFO: a small FIFO queue that new pages must leave with accesses to come into the main one, and a memory of those that did not.

Counts accesses, never moves a page at one. Out of the small queue a page with `move_to_main_threshold` accesses goes to the main queue,
another is evicted and remembered; a page that comes back while it is remembered goes to the main queue at once. There a page with accesses
goes round once more with one less (it counts up to 3). Models: Yang et al., "FIFO queues are all you need for cache eviction" (SOSP 2023);
libCacheSim's S3FIFO, which until the first eviction also puts what the small queue has no room for into the main one. Told of every access.
Amortised O(1). (libCacheSim admits nothing where the small queue would have one place; here it has its page.)

State beside queues.py's and ghosts.py's: freq, accesses a page (uint8); turn, the queue that an eviction under way looks at, -1: none;
evicted, 1 after a node's first eviction.
"""

from typing import Any

import attrs
import numpy as np
from attrs.validators import and_, ge, gt, le, lt

from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.zones import page_node
from mmlab.model.page import page_flags
from mmlab.policies import Explained, Reclaimer
from mmlab_rivals.reclaimer.ghosts import RETURNED, check, ghost_state, remember, workingset_refault
from mmlab_rivals.reclaimer.one_list import POSITION, folio_deactivate, folio_rotate, nr_lru_pages
from mmlab_rivals.reclaimer.passes import end_pass, more_wanted
from mmlab_rivals.reclaimer.queues import (
    begin_pass, capacity, enqueue, evict, explain_queued, folio_removed, nr_queued, oldest, pass_over, queue_of, queue_state, requeue, set_queue,
)

SMALL, MAIN = 0, RETURNED
MAX_FREQ = 3  # in the main queue


@attrs.frozen
class Params:
    """small_size_ratio: the small queue's share of memory. ghost_size_ratio: pages that are remembered, as a share of memory.
    move_to_main_threshold: accesses that bring a page from the small queue to the main one."""

    small_size_ratio: float = attrs.field(default=0.1, validator=and_(gt(0), lt(1)))
    ghost_size_ratio: float = attrs.field(default=0.9, validator=and_(ge(0), le(8)))
    move_to_main_threshold: int = attrs.field(default=2, validator=and_(ge(1), le(255)))


def new_state(params: Params, machine: Any) -> dict[str, Any]:
    """Queues, ghosts of the small one, and what the module's docstring lists."""
    nodes = machine.sizes.nr_nodes
    return {
        "freq": machine.page_column("uint8"), "turn": np.full(nodes, -1, np.int64), "evicted": np.zeros(nodes, np.int64),
        **queue_state(machine), **ghost_state(machine, 1, params.ghost_size_ratio),
    }  # fmt: skip


@leaf
def small_size(m, st, node):
    """Pages that the small queue may hold."""
    return int(capacity(m, st, node) * st.small_size_ratio[0])


@leaf
def folio_accessed(m, st, pfn):
    """One access more."""
    freq = np.int64(st.freq[pfn])
    if freq < max(MAX_FREQ, st.move_to_main_threshold[0]):
        st.freq[pfn] = freq + 1
    return 0


@kernel
def folio_added(m, st, pfn):
    """Newest of its queue, without accesses."""
    node = page_node(m, pfn)
    st.freq[pfn] = 0
    if st.evicted[node] == 0 and nr_queued(st, node, SMALL) >= small_size(m, st, node):
        set_queue(m, pfn, MAIN)
    enqueue(m, st, node, pfn)
    return 0


@kernel
def eviction_shadow(m, st, pfn):
    """Remember what leaves the small queue."""
    if queue_of(page_flags(m, pfn)) == MAIN:
        return 0
    node = page_node(m, pfn)
    return remember(st, node, int(capacity(m, st, node) * st.ghost_size_ratio[0]))


@leaf
def shrink_node(m, st, node, priority, nr_to_reclaim, scan_flags):
    """Go through the main queue if it has more than its share, else through the small one, until a page without enough accesses is found."""
    begin_pass(m, st, node, priority)
    main_size = capacity(m, st, node) - small_size(m, st, node)
    st.evicted[node] = 1
    while more_wanted(st, nr_to_reclaim):
        queue = st.turn[node]
        if queue < 0 or nr_queued(st, node, queue) == 0:
            queue = MAIN if nr_queued(st, node, MAIN) > main_size or nr_queued(st, node, SMALL) == 0 else SMALL
            st.turn[node] = queue
        pfn = oldest(m, node, queue)
        freq = np.int64(st.freq[pfn])
        if freq < (st.move_to_main_threshold[0] if queue == SMALL else 1):
            evict(m, st, node, pfn, scan_flags)
            st.turn[node] = -1
        else:
            pass_over(m, st, pfn)
            requeue(m, st, node, pfn, MAIN)
            st.freq[pfn] = 0 if queue == SMALL else min(freq, MAX_FREQ) - 1
    return end_pass(m, st, scan_flags)


@kernel
def explain_page(m, st, pfn, what):
    """Its queue, its position there, its accesses."""
    return np.int64(st.freq[pfn]) if what == 2 else explain_queued(m, pfn, what)


S3_FIFO = Reclaimer(
    name="s3_fifo", summary="small and main FIFO queues, and a memory of what the small one dropped", models="Yang et al. 2023", level="L2",
    params=Params, wants_accesses=True, new_state=new_state, folio_added=folio_added, folio_accessed=folio_accessed,
    folio_removed=folio_removed, folio_deactivate=folio_deactivate, folio_rotate=folio_rotate, shrink_node=shrink_node,
    eviction_shadow=eviction_shadow, workingset_refault=workingset_refault, nr_lru_pages=nr_lru_pages, check=check,
    explains=(Explained("queue", "where it is", ("small", "main")), POSITION,
              Explained("accesses", "in the small queue up to the threshold; in the main queue one goes with each round")), explain_page=explain_page,
)  # fmt: skip
