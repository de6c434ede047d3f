"""TPP: cold pages leave the fast node before it is full, and a page of slow memory comes back at the second hinting fault, not the first.

A page that faults is marked accessed first, which makes it active; one that is active (on MGLRU: referenced) already is promoted. Room is kept
free above the high watermark, so that promotions and new pages find some: a hand goes over the fast node's frames and demotes what was not
touched since it came by.
Models: Maruf et al., "TPP: Transparent Page Placement for CXL-Enabled Tiered-Memory", ASPLOS 2023. Left out: the kernel's inactive list as the
hand (here frames, in order), page-type aware allocation. O(frames looked at) a step.
"""

from typing import Any

import attrs
import numpy as np
from attrs.validators import ge, le

from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.memory_tiers import node_has_room
from mmlab.kernels.services import folio_mark_accessed, migrate_folio_to, rmap_walk
from mmlab.kernels.zones import page_node
from mmlab.model.const import RMAP_CLEAR_YOUNG
from mmlab.model.gfp import ZONE_MOVABLE
from mmlab.model.page import PG_ACTIVE, PG_HEAD, PG_LRU, PG_REFERENCED, PG_TAIL, PG_YOUNG, page_set, page_test
from mmlab.model.rows import (
    COST_SCAN_PAGE, N_DEMOTION_TARGETS, N_MANAGED, N_TOPTIER, NODE_STRIDE, SC_MAX_PFN, SC_NOW_NS, SC_NR_NODES,
)
from mmlab.policies import Tiering
from mmlab_linux.tiering.linux import next_demotion_node

WMARK_HIGH = 2


@attrs.frozen
class Params:
    """headroom: part of a fast node, in 1/10000, that is kept free above its high watermark; period_ms: simulated time between two looks;
    batch: frames looked at each time at most."""

    headroom: int = attrs.field(default=200, validator=[ge(0), le(5000)])
    period_ms: int = attrs.field(default=10, validator=ge(1))
    batch: int = attrs.field(default=4096, validator=ge(1))


def new_state(params: Params, machine: Any) -> dict[str, np.ndarray]:
    """hand: the next frame to look at."""
    return {"hand": np.zeros(1, np.int64)}


@leaf
def is_short(m, st, node):
    """1 for a fast node with less than its headroom."""
    row = node * NODE_STRIDE
    if m.node[row + N_TOPTIER] == 0 or m.node[row + N_DEMOTION_TARGETS] == 0:
        return 0
    return 1 - node_has_room(m, node, WMARK_HIGH, m.node[row + N_MANAGED] * st.headroom[0] // 10000, ZONE_MOVABLE)


@kernel
def step(m, st, now_ns):
    """Demote until every fast node has its headroom, or the batch is over."""
    wanted = 0
    for node in range(m.sc[SC_NR_NODES]):
        wanted |= is_short(m, st, node) << node
    looked = 0
    while wanted and looked < st.batch[0]:
        pfn = st.hand[0]
        st.hand[0] = pfn + 1 if pfn + 1 < m.sc[SC_MAX_PFN] else 0
        looked += 1
        if page_test(m, pfn, PG_LRU) == 0 or page_test(m, pfn, PG_HEAD | PG_TAIL):
            continue
        node = page_node(m, pfn)
        if (wanted >> node) & 1 == 0:
            continue
        m.sc[SC_NOW_NS] += m.cost[COST_SCAN_PAGE]
        if rmap_walk(m, pfn, RMAP_CLEAR_YOUNG) > 0:
            page_set(m, pfn, PG_YOUNG)
        elif migrate_folio_to(m, pfn, next_demotion_node(m, node)) and is_short(m, st, node) == 0:
            wanted &= ~(1 << node)
    return st.period_ms[0] * 1000000


@kernel
def demotion_node(m, st, pfn, node, scan_flags):
    """Reclaim's own demotions go where Linux's do."""
    return next_demotion_node(m, node)


@kernel
def should_migrate(m, st, task, pfn, source, node):
    """At the second fault. Between fast nodes pages stay."""
    if m.node[source * NODE_STRIDE + N_TOPTIER]:
        return 0
    if page_test(m, pfn, PG_ACTIVE | PG_REFERENCED):
        return 1
    folio_mark_accessed(m, pfn)
    return 0


TPP = Tiering(
    name="tpp",
    summary="demotes before memory is full, promotes at the second hinting fault",
    models="Maruf et al., ASPLOS 2023",
    left_out="page-type aware allocation",
    level="L1",
    params=Params,
    new_state=new_state,
    hint_faults=True,
    demotes=True,
    demotion_node=demotion_node,
    should_migrate=should_migrate,
    step=step,
)
