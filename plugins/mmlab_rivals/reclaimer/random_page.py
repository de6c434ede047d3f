"""Random: any page goes, each with the same chance. What a policy has to beat that remembers something.

Models: the baseline of Belady, "A study of replacement algorithms" (1966). Draws come from the experiment's seed and a counter. O(1).

State: page, int32, the pages of a node, in no order, `run` entries a node; size, how many; draws, how many so far; counted,
scratch of check(); that of passes.py. A page's forward link holds its place.
"""

import numpy as np

from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.random import random_below
from mmlab.kernels.services import reclaim_folio
from mmlab.kernels.zones import page_node
from mmlab.model.const import LRU_UNEVICTABLE, RECLAIM_FREED
from mmlab.model.layout import reserve
from mmlab.model.page import PG_LRU, PG_MLOCKED, page_flags, page_next, set_page_flags, set_page_next
from mmlab.model.rows import SC_NR_NODES, SC_SEED
from mmlab.policies import Reclaimer
from mmlab_rivals.reclaimer.one_list import (
    check_begin, check_end, check_placed, count_pages, evictable_pages, folio_nr_pages, nr_lru_pages, put_first, take_off,
)
from mmlab_rivals.reclaimer.passes import begin_looks, end_pass, freed, look, more_wanted, pass_state

STREAM = 0x52414E44  # apart from other users of the seed


def new_state(params, machine):
    """What the module's docstring lists."""
    pages, nodes = machine.sizes.nr_frames, machine.sizes.nr_nodes
    return {
        "page": reserve(pages * nodes, "int32"), "size": np.zeros(nodes, np.int64), "draws": np.zeros(1, np.int64),
        "run": np.array([pages], np.int64), "counted": np.zeros(LRU_UNEVICTABLE + 1, np.int64), **pass_state(),
    }  # fmt: skip


@leaf
def put(m, st, node, i, pfn):
    """Page number i of a node."""
    st.page[node * st.run[0] + i] = pfn
    set_page_next(m, pfn, i)


@leaf
def folio_added(m, st, pfn):
    """One more to draw from."""
    node = page_node(m, pfn)
    flags = page_flags(m, pfn)
    if flags & PG_MLOCKED:
        put_first(m, node, pfn)
        return 0
    set_page_flags(m, pfn, flags | PG_LRU)
    count_pages(m, flags, folio_nr_pages(m, pfn, flags))
    put(m, st, node, st.size[node], pfn)
    st.size[node] += 1
    return 0


@leaf
def remove(m, st, node, pfn):
    """Uncount a page; the last one takes its place."""
    flags = page_flags(m, pfn)
    set_page_flags(m, pfn, flags & ~PG_LRU)
    count_pages(m, flags, -folio_nr_pages(m, pfn, flags))
    last = st.size[node] - 1
    st.size[node] = last
    put(m, st, node, page_next(m, pfn), np.int64(st.page[node * st.run[0] + last]))


@kernel
def folio_removed(m, st, pfn):
    """One less to draw from."""
    flags = page_flags(m, pfn)
    if flags & PG_LRU == 0:
        return 0
    if flags & PG_MLOCKED:
        take_off(m, pfn, flags, folio_nr_pages(m, pfn, flags))
    else:
        remove(m, st, page_node(m, pfn), pfn)
    return 0


@leaf
def shrink_node(m, st, node, priority, nr_to_reclaim, scan_flags):
    """Draw pages; one that cannot go may be drawn again."""
    begin_looks(st, evictable_pages(m, node), priority)
    while more_wanted(st, nr_to_reclaim) and st.size[node] > 0:
        i = random_below(m.sc[SC_SEED], STREAM, st.draws[0], st.size[node])
        st.draws[0] += 1
        pfn = np.int64(st.page[node * st.run[0] + i])
        flags = page_flags(m, pfn)
        look(m, st, pfn, flags)
        remove(m, st, node, pfn)
        if reclaim_folio(m, pfn, scan_flags) == RECLAIM_FREED:
            freed(st, flags)
        else:
            folio_added(m, st, pfn)
    return end_pass(m, st, scan_flags)


@kernel
def check(m, st):
    """1 to 4 as the other rivals' check; 6: a page's place is wrong; 7: it does not belong here."""
    for node in range(m.sc[SC_NR_NODES]):
        broken = check_begin(m, st, node)
        for i in range(st.size[node]):
            if broken == 0:
                broken = check_placed(m, st, node, np.int64(st.page[node * st.run[0] + i]), i)
        if broken == 0:
            broken = check_end(m, st, node)
        if broken:
            return broken
    return 0


RANDOM = Reclaimer(
    name="random", summary="any page goes, each with the same chance", models="Belady 1966", left_out="any use of accesses", level="L2",
    new_state=new_state, folio_added=folio_added, folio_removed=folio_removed, shrink_node=shrink_node, nr_lru_pages=nr_lru_pages, check=check,
)  # fmt: skip
