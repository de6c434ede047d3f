"""One pass of reclaim over a node: how many pages it may look at, and what it counts.

begin_looks(), then look() or freed() for a page at a time while more_wanted(), then end_pass().
State: seen, scratch of the pass that runs (LEFT ...).
"""

import numpy as np

from mmlab.kernels.jit import leaf
from mmlab.model.const import SWAP_CLUSTER_MAX
from mmlab.model.page import PG_SWAPBACKED
from mmlab_rivals.reclaimer.one_list import count_shrink, folio_nr_pages

LEFT, FREED, SCANNED_ANON, SCANNED_FILE, FREED_ANON, FREED_FILE, NR_SEEN = range(7)


def pass_state():
    """The array."""
    return {"seen": np.zeros(NR_SEEN, np.int64)}


@leaf
def begin_looks(st, pages, priority):
    """A pass at this priority may look at its share of so many pages: all >> priority, 32 at least, but none twice."""
    for i in range(NR_SEEN):
        st.seen[i] = 0
    st.seen[LEFT] = min(pages, max(SWAP_CLUSTER_MAX, pages >> priority))


@leaf
def more_wanted(st, nr_to_reclaim):
    """1 while the pass has to free more and may look at more."""
    return 1 if st.seen[FREED] < nr_to_reclaim and st.seen[LEFT] > 0 else 0


@leaf
def look(m, st, pfn, flags):
    """Count a page with these flags that was looked at."""
    nr_pages = folio_nr_pages(m, pfn, flags)
    st.seen[LEFT] -= nr_pages
    st.seen[SCANNED_ANON if flags & PG_SWAPBACKED else SCANNED_FILE] += nr_pages


@leaf
def freed(st, flags):
    """Count a page with these flags that was freed (of a large folio one: reclaim_folio() splits it, and the rest is added again)."""
    st.seen[FREED] += 1
    st.seen[FREED_ANON if flags & PG_SWAPBACKED else FREED_FILE] += 1


@leaf
def end_pass(m, st, scan_flags):
    """Count what the pass looked at and freed; returns pages freed."""
    count_shrink(m, scan_flags, st.seen[SCANNED_ANON], st.seen[SCANNED_FILE], st.seen[FREED_ANON], st.seen[FREED_FILE])
    return st.seen[FREED]
