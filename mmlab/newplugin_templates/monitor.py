"""my_policy: looks at the accessed bit of every mapped page at an interval; a page is the hotter, the more of the last looks found it touched."""

import attrs
import numpy as np
from attrs.validators import ge

from mmlab.kernels.jit import kernel
from mmlab.kernels.services import rmap_walk
from mmlab.model.const import RMAP_CLEAR_YOUNG
from mmlab.model.page import PG_TAIL, PG_YOUNG, page_mapcount, page_set, page_test
from mmlab.model.rows import COST_SCAN_PAGE, SC_MAX_PFN, SC_MONITOR_CHECKS, SC_NOW_NS
from mmlab.policies import Monitor


@attrs.frozen
class Params:
    """interval_ms: simulated time between looks."""

    interval_ms: int = attrs.field(default=10, validator=ge(1))


def new_state(params, machine):
    """heat: of the page in each frame, int32; half of it stays from one look to the next."""
    return {"heat": machine.page_column("int32")}


@kernel
def sample(m, st, now_ns):
    checks = 0
    for pfn in range(m.sc[SC_MAX_PFN]):
        if page_mapcount(m, pfn) == 0 or page_test(m, pfn, PG_TAIL):
            st.heat[pfn] = 0
            continue
        checks += 1
        st.heat[pfn] = np.int64(st.heat[pfn]) // 2
        if rmap_walk(m, pfn, RMAP_CLEAR_YOUNG) > 0:
            page_set(m, pfn, PG_YOUNG)  # reclaim still sees it
            st.heat[pfn] = np.int64(st.heat[pfn]) + 1024
    m.sc[SC_MONITOR_CHECKS] += checks
    m.sc[SC_NOW_NS] += checks * m.cost[COST_SCAN_PAGE]
    return st.interval_ms[0] * 1000000


def estimate(machine, state, pages):
    """How hot each of pages is; ages are left to the scorer. With `[run] score_ms` it is judged by this."""
    return pages.of_folios(state.heat), None


def report(machine, state):
    """A row: how many frames are as hot as can be, warm, and cold."""
    heat = state.heat[state.heat > 0]
    return [{"hot": int((heat >= 1024).sum()), "warm": int((heat < 1024).sum()), "cold": len(state.heat) - len(heat)}]


POLICY = Monitor(
    name="my_policy", summary="looks at every page's accessed bit", params=Params, new_state=new_state, sample=sample, estimate=estimate, report=report
)
