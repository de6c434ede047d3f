"""DAMOS as a tiering policy: DAMON watches each kind of memory; migrate_hot moves up what slow memory has hot, migrate_cold what fast memory
has cold down.

Two kdamonds, as users set them up: one over the frames of the fast nodes, one over the others', each with one scheme and a quota. Everything
below is DAMON's own code (mmlab_linux/monitor/damon).
Models: mm/damon/core.c, paddr.c DAMOS_MIGRATE_HOT, DAMOS_MIGRATE_COLD. Left out: goals of memory in use (6.12 has none). O(regions) a sampling
interval, and what the schemes move.
"""

from typing import Any

import attrs
import numpy as np
from attrs.validators import ge

from mmlab.kernels.jit import kernel
from mmlab.model.rows import N_TOPTIER, NODE_STRIDE, SC_NOW_NS, SC_NR_NODES, SC_NR_ZONES, Z_END_PFN, Z_NODE, Z_START_PFN, ZONE_STRIDE
from mmlab.policies import Tiering
from mmlab_linux.monitor.damon import state as d
from mmlab_linux.monitor.damon.check import check
from mmlab_linux.monitor.damon.kdamond import kdamond_step
from mmlab_linux.monitor.damon.quota import scheme_row
from mmlab_linux.monitor.damon.region import target_row
from mmlab_linux.tiering.linux import next_demotion_node

FAST, SLOW = 0, 1  # kdamonds


@attrs.frozen
class Params:
    """sample_us, aggr_us, min_nr_regions, max_nr_regions: of both kdamonds; hot_accesses: nr_accesses from which on a region of slow memory is
    hot; cold_age: aggregation intervals without an access that make one of fast memory cold; quota_mb: what each scheme moves a second."""

    sample_us: int = attrs.field(default=5000, validator=ge(1))
    aggr_us: int = attrs.field(default=100_000, validator=ge(1))
    min_nr_regions: int = attrs.field(default=10, validator=ge(3))
    max_nr_regions: int = attrs.field(default=1000, validator=ge(3))
    hot_accesses: int = attrs.field(default=5, validator=ge(1))
    cold_age: int = attrs.field(default=5, validator=ge(0))
    quota_mb: int = attrs.field(default=200, validator=ge(0))

    def __attrs_post_init__(self) -> None:
        d.refuse_contradictions(self)
        most = self.aggr_us // self.sample_us
        if self.hot_accesses > most:
            raise ValueError(f"hot_accesses: must be at most aggr_us / sample_us ({most}), or nothing is ever hot, got {self.hot_accesses}")


def new_state(params: Params, machine: Any) -> dict[str, np.ndarray]:
    """DAMON's."""
    shared = d.Params(sample_us=params.sample_us, aggr_us=params.aggr_us, min_nr_regions=params.min_nr_regions, max_nr_regions=params.max_nr_regions)
    return d.new_state(shared, machine)


@kernel
def start_kdamond(m, st, k, action, nid, least, most, age):
    """A context over the zones of one kind of memory, with one scheme."""
    base, row, scheme = k * d.CTX_STRIDE, target_row(k, 0), scheme_row(k, 0)
    ranges = 0
    for zone in range(m.sc[SC_NR_ZONES]):
        words = zone * ZONE_STRIDE
        if (m.node[m.zone[words + Z_NODE] * NODE_STRIDE + N_TOPTIER] > 0) == (k == FAST):
            at = k * d.MAX_RANGES + ranges
            st.range[2 * at], st.range[2 * at + 1] = m.zone[words + Z_START_PFN] << 12, m.zone[words + Z_END_PFN] << 12
            ranges += 1
    st.target[row + d.T_RANGES], st.target[row + d.T_NR_RANGES] = 0, ranges
    st.ctx[base + d.C_OPS], st.ctx[base + d.C_NR_TARGETS], st.ctx[base + d.C_NR_SCHEMES] = d.OPS_PADDR, 1, 1
    st.ctx[base + d.C_SAMPLE_US], st.ctx[base + d.C_AGGR_US], st.ctx[base + d.C_UPDATE_US] = st.sample_us[0], st.aggr_us[0], 1000000
    st.ctx[base + d.C_MIN_NR_REGIONS], st.ctx[base + d.C_MAX_NR_REGIONS] = st.min_nr_regions[0], st.max_nr_regions[0]
    st.scheme[scheme + d.S_ACTION], st.scheme[scheme + d.S_TARGET_NID] = action, nid
    st.scheme[scheme + d.S_MAX_SZ], st.scheme[scheme + d.S_MAX_AGE] = d.ULONG_MAX, d.ULONG_MAX
    st.scheme[scheme + d.S_MIN_NR_ACCESSES], st.scheme[scheme + d.S_MAX_NR_ACCESSES], st.scheme[scheme + d.S_MIN_AGE] = least, most, age
    st.scheme[scheme + d.S_Q_SZ], st.scheme[scheme + d.S_Q_RESET_MS] = st.quota_mb[0] << 20, 1000
    st.scheme[scheme + d.S_Q_WEIGHT_NR_ACCESSES], st.scheme[scheme + d.S_Q_WEIGHT_AGE] = 1, 1
    st.ctx[base + d.C_STATE], st.ctx[base + d.C_PHASE], st.ctx[base + d.C_WAKE_NS] = d.CTX_ON, d.PHASE_START, m.sc[SC_NOW_NS]
    return 0


@kernel
def start(m, st):
    """Both kdamonds; nothing on a machine with one kind of memory."""
    fast = slow = -1
    for node in range(m.sc[SC_NR_NODES] - 1, -1, -1):
        if m.node[node * NODE_STRIDE + N_TOPTIER]:
            fast = node
        else:
            slow = node
    st.one[d.ONE_STARTED] = 1
    if fast < 0 or slow < 0:
        return 0
    start_kdamond(m, st, FAST, d.DAMOS_MIGRATE_COLD, slow, 0, 0, st.cold_age[0])
    return start_kdamond(m, st, SLOW, d.DAMOS_MIGRATE_HOT, fast, st.hot_accesses[0], d.ULONG_MAX, 0)


@kernel
def step(m, st, now_ns):
    """Let the kdamonds whose sleep is over run; the time to the next end of a sleep."""
    if st.one[d.ONE_STARTED] == 0:
        start(m, st)
    wake = -1
    for k in range(2):
        base = k * d.CTX_STRIDE
        if st.ctx[base + d.C_STATE] == d.CTX_ON and st.ctx[base + d.C_WAKE_NS] <= m.sc[SC_NOW_NS]:
            kdamond_step(m, st, k)
        if st.ctx[base + d.C_STATE] == d.CTX_ON and (wake < 0 or st.ctx[base + d.C_WAKE_NS] < wake):
            wake = st.ctx[base + d.C_WAKE_NS]
    return 0 if wake < 0 else max(1, wake - m.sc[SC_NOW_NS])


@kernel
def demotion_node(m, st, pfn, node, scan_flags):
    """Reclaim's own demotions go where Linux's do."""
    return next_demotion_node(m, node)


@kernel
def should_migrate(m, st, task, pfn, source, node):
    """Hinting faults decide nothing."""
    return 0


DAMOS = Tiering(
    name="damos",
    summary="DAMON's migrate_hot and migrate_cold, a kdamond for each kind of memory",
    models="mm/damon (6.12)",
    left_out="goals of memory in use",
    level="L1",
    params=Params,
    new_state=new_state,
    demotes=True,
    demotion_node=demotion_node,
    should_migrate=should_migrate,
    step=step,
    check=check,
)
