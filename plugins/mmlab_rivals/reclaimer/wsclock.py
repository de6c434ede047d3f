"""WSClock: a clock that takes pages which were not accessed within the last `tau_us`, the working set's window.

The hand clears an accessed page's mark and notes the time; a page without a mark that was noted longer than tau ago is not in the working
set and goes: at once if it is clean, else its write-back begins (reclaim_folio() does what the core does with a dirty page) and the hand
goes on. If it finds none among 32 pages, it takes the one of these that was noted first. Models: Carr and Hennessy, "WSCLOCK - a
simple and effective algorithm for virtual memory management" (SOSP 1981). Left out: a process's own virtual time; the machine's is taken
(in a request replay a microsecond a request). Marks as CLOCK's. O(1) a look.

State beside queues.py's: noted_ns, the time at which a page's mark was seen last, at first its arrival.
"""

from typing import Any

import attrs
from attrs.validators import and_, ge, le

from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.zones import page_node
from mmlab.model.const import SWAP_CLUSTER_MAX
from mmlab.model.rows import SC_NOW_NS
from mmlab.policies import Explained, Reclaimer
from mmlab_rivals.reclaimer.one_list import MAIN_LIST, POSITION, folio_deactivate, folio_rotate, nr_lru_pages, position_of, set_referenced, was_accessed
from mmlab_rivals.reclaimer.passes import FREED, LEFT, end_pass, more_wanted
from mmlab_rivals.reclaimer.queues import begin_pass, check, enqueue, evict, folio_removed, oldest, pass_over, queue_state, requeue


@attrs.frozen
class Params:
    """tau_us: the working set is what was accessed so many microseconds ago at most."""

    tau_us: int = attrs.field(default=100_000, validator=and_(ge(0), le(1 << 40)))


def new_state(params: Params, machine: Any) -> dict[str, Any]:
    """Queues, and noted_ns."""
    return {"noted_ns": machine.page_column("int64"), **queue_state(machine)}


@kernel
def folio_added(m, st, pfn):
    """Newest, noted now."""
    st.noted_ns[pfn] = m.sc[SC_NOW_NS]
    enqueue(m, st, page_node(m, pfn), pfn)
    return 0


@leaf
def shrink_node(m, st, node, priority, nr_to_reclaim, scan_flags):
    """Turn the clock; pages that stay become the newest."""
    begin_pass(m, st, node, priority)
    while more_wanted(st, nr_to_reclaim):
        freed = st.seen[FREED]
        first = -1
        looked = 0
        while looked < SWAP_CLUSTER_MAX and st.seen[FREED] == freed and st.seen[LEFT] > 0:
            looked += 1
            pfn = oldest(m, node, MAIN_LIST)
            if was_accessed(m, pfn):
                st.noted_ns[pfn] = m.sc[SC_NOW_NS]
            elif m.sc[SC_NOW_NS] - st.noted_ns[pfn] > st.tau_us[0] * 1000:
                evict(m, st, node, pfn, scan_flags)
                continue
            pass_over(m, st, pfn)
            requeue(m, st, node, pfn, MAIN_LIST)
            if first < 0 or st.noted_ns[pfn] < st.noted_ns[first]:
                first = pfn
        if st.seen[FREED] == freed and first >= 0:
            evict(m, st, node, first, scan_flags)
    return end_pass(m, st, scan_flags)


@kernel
def explain_page(m, st, pfn, what):
    """Microseconds since the page's mark was seen, its position."""
    return (m.sc[SC_NOW_NS] - st.noted_ns[pfn]) // 1000 if what == 0 else position_of(m, pfn)


WSCLOCK = Reclaimer(
    name="wsclock", summary="a clock that takes pages outside the working set's window", models="Carr and Hennessy 1981",
    left_out="virtual time of a process", level="L1", params=Params, new_state=new_state, folio_added=folio_added,
    folio_accessed=set_referenced, folio_removed=folio_removed, folio_deactivate=folio_deactivate, folio_rotate=folio_rotate,
    shrink_node=shrink_node, nr_lru_pages=nr_lru_pages, check=check,
    explains=(Explained("idle_us", "since its mark was last seen; in the working set up to tau_us"), POSITION), explain_page=explain_page,
)  # fmt: skip
