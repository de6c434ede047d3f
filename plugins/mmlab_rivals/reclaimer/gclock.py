"""GCLOCK: CLOCK with a counter a page: an access adds one, the hand takes one away, a page at 0 goes.

Models: Smith, "Sequentiality and prefetching in database systems" (TODS 1978); Nicola, Dan and Dias (SIGMETRICS 1992); libCacheSim's Clock
with n_bit_counter bits (max_count is 2**n_bit_counter - 1, init_count its init_freq). Told of every access. Amortised O(1).

State beside queues.py's: count, a page's counter (uint8).
"""

from typing import Any

import attrs
import numpy as np
from attrs.validators import and_, ge, le

from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.zones import page_node
from mmlab.policies import Explained, Reclaimer
from mmlab_rivals.reclaimer.one_list import MAIN_LIST, POSITION, folio_deactivate, folio_rotate, nr_lru_pages, position_of
from mmlab_rivals.reclaimer.passes import end_pass, more_wanted
from mmlab_rivals.reclaimer.queues import begin_pass, check, enqueue, evict, folio_removed, oldest, pass_over, queue_state, requeue


@attrs.frozen
class Params:
    """max_count: where the counter stops. init_count: what a new page has."""

    max_count: int = attrs.field(default=3, validator=and_(ge(1), le(255)))
    init_count: int = attrs.field(default=0, validator=and_(ge(0), le(255)))

    def __attrs_post_init__(self) -> None:
        if self.init_count > self.max_count:
            raise ValueError(f"init_count: must not be above max_count {self.max_count}, got {self.init_count}")


def new_state(params: Params, machine: Any) -> dict[str, Any]:
    """Queues, and the counters."""
    return {"count": machine.page_column("uint8"), **queue_state(machine)}


@leaf
def folio_accessed(m, st, pfn):
    """One more."""
    count = np.int64(st.count[pfn])
    if count < st.max_count[0]:
        st.count[pfn] = count + 1
    return 0


@kernel
def folio_added(m, st, pfn):
    """Newest, with the first count."""
    st.count[pfn] = st.init_count[0]
    enqueue(m, st, page_node(m, pfn), pfn)
    return 0


@leaf
def shrink_node(m, st, node, priority, nr_to_reclaim, scan_flags):
    """From the old end: a page at 0 goes, another loses one and becomes the newest."""
    begin_pass(m, st, node, priority)
    while more_wanted(st, nr_to_reclaim):
        pfn = oldest(m, node, MAIN_LIST)
        count = np.int64(st.count[pfn])
        if count == 0:
            evict(m, st, node, pfn, scan_flags)
        else:
            pass_over(m, st, pfn)
            st.count[pfn] = count - 1
            requeue(m, st, node, pfn, MAIN_LIST)
    return end_pass(m, st, scan_flags)


@kernel
def explain_page(m, st, pfn, what):
    """The page's counter, its position."""
    return np.int64(st.count[pfn]) if what == 0 else position_of(m, pfn)


GCLOCK = Reclaimer(
    name="gclock", summary="CLOCK with a counter a page in place of a bit", models="Smith 1978", level="L2", params=Params,
    wants_accesses=True, new_state=new_state, folio_added=folio_added, folio_accessed=folio_accessed, folio_removed=folio_removed,
    folio_deactivate=folio_deactivate, folio_rotate=folio_rotate, shrink_node=shrink_node, nr_lru_pages=nr_lru_pages, check=check,
    explains=(Explained("count", "accesses that it may still be passed over for; at 0 it goes"), POSITION), explain_page=explain_page,
)  # fmt: skip
