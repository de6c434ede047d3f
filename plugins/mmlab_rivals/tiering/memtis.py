"""MEMTIS-like: samples of accesses make a histogram of how hot pages are, and fast memory gets the hottest that it has room for.

Every period-th access counts for its page; counts halve after so many samples (cooling). A step sorts pages into bins by the logarithm of
their counts, chooses the lowest bin such that all pages from it on fit fast memory, moves those of slow memory up, and makes room by moving
pages below that bin down, the coldest first; what room is left goes to the bin below.
Models: Lee et al., "MEMTIS: Efficient Memory Tiering with Dynamic Page Classification and Page Size Determination", SOSP 2023. Left out: huge
pages and their splitting, adaptive sampling periods, the histogram kept at each sample (here made anew in each step). Unlike there, pages of the
bin below the hot ones (warm) do not just stay where they are: they fill the room that these leave and go when it is needed. The artifact's own
settings are a period of 199, cooling every 2,000,000 samples and steps every 500 ms, for machines of many GB. O(frames) a step.
"""

from typing import Any

import attrs
import numpy as np
from attrs.validators import ge, le

from mmlab.kernels.access_table import place_of
from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.memory_tiers import node_has_room
from mmlab.kernels.services import migrate_folio_to
from mmlab.kernels.zones import page_node, wmark_pages
from mmlab.model.gfp import ZONE_MOVABLE
from mmlab.model.layout import reserve
from mmlab.model.page import PG_HEAD, PG_LRU, PG_TAIL, page_mapcount, page_test
from mmlab.model.rows import (
    COST_DAMOS_PAGE, N_DEMOTION_TARGETS, N_TOPTIER, NODE_STRIDE, SC_MAX_PFN, SC_NOW_NS, SC_NR_NODES, SC_NR_ZONES, Z_MANAGED, Z_NODE, ZONE_STRIDE,
)
from mmlab.policies import Tiering
from mmlab_linux.tiering.linux import next_demotion_node
from mmlab_rivals.monitor.history import page_owner

WMARK_HIGH = 2
NR_BINS = 16
COUNTDOWN, SAMPLES, EPOCH, PAGES, HAND, HAND_BIN = range(6)  # of st.one


@attrs.frozen
class Params:
    """period: accesses from one sample to the next; sample_ns: what the CPU takes for one (estimated); cooling: samples until counts halve;
    step_ms: simulated time between two steps; limit_mb: how much a step promotes at most; table_order: pages known at most, as a power of
    two, 0: by memory size."""

    period: int = attrs.field(default=199, validator=ge(1))
    sample_ns: int = attrs.field(default=400, validator=ge(0))
    cooling: int = attrs.field(default=100_000, validator=ge(1))
    step_ms: int = attrs.field(default=100, validator=ge(1))
    limit_mb: int = attrs.field(default=64, validator=ge(1))
    table_order: int = attrs.field(default=0, validator=[ge(0), le(32)])


def new_state(params: Params, machine: Any) -> dict[str, np.ndarray]:
    """key, count, epoch: a place a page, by its owner; bins: pages of each; one: COUNTDOWN ..."""
    places = 1 << (params.table_order or max(12, (4 * machine.sizes.nr_present - 1).bit_length()))
    table = {name: reserve(places, "int64") for name in ("key", "count", "epoch")}
    return {**table, "bins": np.zeros(NR_BINS, np.int64), "one": np.zeros(8, np.int64)}


@kernel
def page_accessed(m, st, task, pfn, access):
    """Every period-th access is a sample."""
    st.one[COUNTDOWN] += 1
    if st.one[COUNTDOWN] < st.period[0]:
        return 0
    st.one[COUNTDOWN] = 0
    m.sc[SC_NOW_NS] += st.sample_ns[0]
    key = page_owner(m, pfn)
    place = place_of(st.key, key)
    if st.key[place] == 0:
        if st.one[PAGES] >= len(st.key) - len(st.key) // 8:
            return 0
        st.key[place] = key
        st.one[PAGES] += 1
    st.count[place] = (st.count[place] >> min(62, st.one[EPOCH] - st.epoch[place])) + 1
    st.epoch[place] = st.one[EPOCH]
    st.one[SAMPLES] += 1
    if st.one[SAMPLES] % st.cooling[0] == 0:
        st.one[EPOCH] += 1
    return 0


@leaf
def bin_of(m, st, pfn):
    """How hot the page is: 0 for no samples, else 1 + log2 of its count; -1 for a frame whose page cannot move."""
    if page_test(m, pfn, PG_LRU) == 0 or page_test(m, pfn, PG_HEAD | PG_TAIL) or page_mapcount(m, pfn) == 0:
        return -1
    place = place_of(st.key, page_owner(m, pfn))
    count = st.count[place] >> min(62, st.one[EPOCH] - st.epoch[place]) if st.key[place] else 0
    number = 0
    while count and number < NR_BINS - 1:
        count >>= 1
        number += 1
    return number


@leaf
def fast_pages(m):
    """What fits fast memory, high watermarks left free."""
    pages = 0
    for zone in range(m.sc[SC_NR_ZONES]):
        if m.node[m.zone[zone * ZONE_STRIDE + Z_NODE] * NODE_STRIDE + N_TOPTIER]:
            pages += max(0, m.zone[zone * ZONE_STRIDE + Z_MANAGED] - wmark_pages(m, zone, WMARK_HIGH))
    return pages


@kernel
def hot_bin(m, st):
    """The lowest bin from which on all pages fit fast memory; at least 1."""
    for number in range(NR_BINS):
        st.bins[number] = 0
    for pfn in range(m.sc[SC_MAX_PFN]):
        number = bin_of(m, st, pfn)
        if number >= 0:
            st.bins[number] += 1
            m.sc[SC_NOW_NS] += m.cost[COST_DAMOS_PAGE]
    room = fast_pages(m)
    number = NR_BINS
    while number > 1 and st.bins[number - 1] <= room:
        room -= st.bins[number - 1]
        number -= 1
    return number


@leaf
def node_with_room(m):
    """A fast node above its high watermark, or -1."""
    for node in range(m.sc[SC_NR_NODES]):
        if m.node[node * NODE_STRIDE + N_TOPTIER] and node_has_room(m, node, WMARK_HIGH, 1, ZONE_MOVABLE):
            return node
    return -1


@kernel
def demote_one(m, st, hot):
    """Move a page of fast memory below the hot bin down, the coldest first: 1, or 0 if there is none. The hand goes over all frames once a bin."""
    while st.one[HAND_BIN] < hot:
        while st.one[HAND] < m.sc[SC_MAX_PFN]:
            pfn = st.one[HAND]
            st.one[HAND] = pfn + 1
            node = page_node(m, pfn)
            row = node * NODE_STRIDE
            if m.node[row + N_TOPTIER] == 0 or m.node[row + N_DEMOTION_TARGETS] == 0 or bin_of(m, st, pfn) != st.one[HAND_BIN]:
                continue
            if migrate_folio_to(m, pfn, next_demotion_node(m, node)):
                return 1
        st.one[HAND] = 0
        st.one[HAND_BIN] += 1
    return 0


@kernel
def promote(m, st, least, left):
    """Move pages of slow memory from bin `least` on up, in exchange for pages below it: how many of `left` may still be moved."""
    st.one[HAND], st.one[HAND_BIN] = 0, 0
    pfn = 0
    while pfn < m.sc[SC_MAX_PFN] and left > 0:
        if m.node[page_node(m, pfn) * NODE_STRIDE + N_TOPTIER] == 0 and bin_of(m, st, pfn) >= least:
            node = node_with_room(m)
            while node < 0 and demote_one(m, st, least):
                node = node_with_room(m)
            if node < 0:
                break
            left -= migrate_folio_to(m, pfn, node)
        pfn += 1
    return left


@kernel
def step(m, st, now_ns):
    """Exchange what is hot in slow memory for what is not in fast memory; the bin below the hot ones fills what these leave."""
    hot = hot_bin(m, st)
    left = promote(m, st, hot, st.limit_mb[0] * 256)
    if hot > 1:
        promote(m, st, hot - 1, left)
    return st.step_ms[0] * 1000000


@kernel
def demotion_node(m, st, pfn, node, scan_flags):
    """Reclaim's own demotions go where Linux's do."""
    return next_demotion_node(m, node)


@kernel
def should_migrate(m, st, task, pfn, source, node):
    """Hinting faults decide nothing."""
    return 0


@kernel
def check(m, st):
    """1: pages in the table are not what PAGES says; 2: a page was sampled in an epoch to come. O(places)."""
    pages = 0
    for place in range(len(st.key)):
        if st.key[place]:
            pages += 1
            if st.epoch[place] > st.one[EPOCH]:
                return 2
    return 1 if pages != st.one[PAGES] else 0


MEMTIS = Tiering(
    name="memtis",
    summary="MEMTIS-like: a histogram of sampled accesses decides what fast memory holds",
    models="Lee et al., SOSP 2023",
    left_out="huge pages, adaptive sampling periods",
    level="L1",
    params=Params,
    new_state=new_state,
    wants_accesses=True,
    demotes=True,
    demotion_node=demotion_node,
    should_migrate=should_migrate,
    page_accessed=page_accessed,
    step=step,
    check=check,
)
