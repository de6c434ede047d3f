"""DAMON's tracepoints: damon_aggregated and damos_before_apply, kept as rows and printed as the kernel's trace prints them.

Models: include/trace/events/damon.h.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mmlab.kernels.jit import kernel
from mmlab.model.rows import SC_NOW_NS
from mmlab_linux.monitor.damon.region import target_row
from mmlab_linux.monitor.damon.state import (
    C_PID, CTX_STRIDE, EVENT_AGGREGATED, NR_TRACE_ROWS, ONE_LOST_TRACE, ONE_NR_TRACE, R_AGE, R_END, R_NR_ACCESSES, R_NR_ACCESSES_BP, R_START,
    REGION_STRIDE, T_NR_REGIONS, TR_AGE, TR_CTX, TR_END, TR_EVENT, TR_NR_ACCESSES, TR_NR_REGIONS, TR_NS, TR_PID, TR_SCHEME, TR_START,
    TR_TARGET, TRACE_STRIDE,
)


@kernel
def trace_region(m, st, k, event, scheme, index, r):
    """Keep a line for a region; when there is no room left, count it as lost."""
    at = st.one[ONE_NR_TRACE]
    if at >= NR_TRACE_ROWS:
        st.one[ONE_LOST_TRACE] += 1
        return 0
    st.one[ONE_NR_TRACE] = at + 1
    row, base = at * TRACE_STRIDE, r * REGION_STRIDE
    st.trace[row + TR_NS] = m.sc[SC_NOW_NS]
    st.trace[row + TR_EVENT], st.trace[row + TR_CTX], st.trace[row + TR_SCHEME], st.trace[row + TR_TARGET] = event, k, scheme, index
    st.trace[row + TR_PID] = st.ctx[k * CTX_STRIDE + C_PID]
    st.trace[row + TR_NR_REGIONS] = st.target[target_row(k, index) + T_NR_REGIONS]
    st.trace[row + TR_START], st.trace[row + TR_END] = st.region[base + R_START], st.region[base + R_END]
    st.trace[row + TR_NR_ACCESSES] = (
        st.region[base + R_NR_ACCESSES] if event == EVENT_AGGREGATED else st.region[base + R_NR_ACCESSES_BP] // 10000
    )
    st.trace[row + TR_AGE] = st.region[base + R_AGE]
    return 0


def trace_lines(machine: Any, state: Any) -> Iterator[str]:
    """The lines of the trace so far, as /sys/kernel/tracing/trace has them."""
    rows = state.trace[: int(state.one[ONE_NR_TRACE]) * TRACE_STRIDE].reshape(-1, TRACE_STRIDE)
    for row in rows.tolist():
        head = f"{f'kdamond.{row[TR_CTX]}-{row[TR_PID]}':>23} [000] ..... {row[TR_NS] // 1000 / 1e6:12.6f}: "
        region = f"nr_regions={row[TR_NR_REGIONS]} {row[TR_START]}-{row[TR_END]}: {row[TR_NR_ACCESSES]} {row[TR_AGE]}\n"
        if row[TR_EVENT] == EVENT_AGGREGATED:
            yield f"{head}damon_aggregated: target_id={row[TR_TARGET]} {region}"
        else:
            yield f"{head}damos_before_apply: ctx_idx=0 scheme_idx={row[TR_SCHEME]} target_idx={row[TR_TARGET]} {region}"
    if state.one[ONE_LOST_TRACE]:
        yield f"# {int(state.one[ONE_LOST_TRACE])} lines lost\n"
