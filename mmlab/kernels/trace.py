"""Tracepoints of reclaim: rows of m.trace, kept only while their event is switched on.

Off, an event is one test of a bit. Models: include/trace/events/vmscan.h. Left out: what the simulator has no counterpart of, named at each event;
throttling, the shrinkers of slabs, MADV_PAGEOUT, zone_reclaim_mode.
"""

from mmlab.kernels.jit import cold, leaf
from mmlab.kernels.likely import unlikely
from mmlab.model.rows import (
    SC_CPU, SC_NOW_NS, SC_TASK, TRACE_EVENTS, TRACE_HEAD, TRACE_KSWAPD, TRACE_LOST, TRACE_NR, TRACE_ORDER, TRACE_ROWS, TRACE_STRIDE,
    TR_ARGS, TR_CPU, TR_EVENT, TR_NS, TR_WHO,
)


@cold
def keep_event(m, event, a, b, c, d, e):
    """A row of an event that is switched on; one for which there is no room is counted."""
    if m.trace[TRACE_NR] >= TRACE_ROWS:
        m.trace[TRACE_LOST] += 1
        return 0
    row = TRACE_HEAD + m.trace[TRACE_NR] * TRACE_STRIDE
    m.trace[TRACE_NR] += 1
    m.trace[row + TR_NS] = m.sc[SC_NOW_NS]
    m.trace[row + TR_EVENT] = event
    m.trace[row + TR_CPU] = m.sc[SC_CPU]
    m.trace[row + TR_WHO] = -m.trace[TRACE_KSWAPD] if m.trace[TRACE_KSWAPD] else m.sc[SC_TASK]
    m.trace[row + TR_ARGS] = a
    m.trace[row + TR_ARGS + 1] = b
    m.trace[row + TR_ARGS + 2] = c
    m.trace[row + TR_ARGS + 3] = d
    m.trace[row + TR_ARGS + 4] = e
    m.trace[row + TR_ARGS + 5] = m.trace[TRACE_ORDER]
    return 0


@leaf
def trace_event(m, event, a, b, c, d, e):
    """Keep an event (EVENT_*) with up to five values, if it is switched on."""
    if unlikely(m.trace[TRACE_EVENTS] >> event & 1):
        keep_event(m, event, a, b, c, d, e)
