"""The oracle: counts every access of the stream, exactly. What sampling monitors are measured against.

A table keyed by (task, region of 2^region_order pages). When it is 7/8 full, accesses to new regions are counted as dropped, never silently
lost.
Models: nothing of the kernel (it cannot see accesses). Left out: accesses of scripts' operations that are not page touches. O(1) an access.
"""

from typing import Any

import attrs
import numpy as np
from attrs.validators import ge, le

from mmlab.kernels.access_table import TASK_SHIFT, count_in_window, key_of, last_window, place_of, table_arrays
from mmlab.kernels.jit import kernel
from mmlab.model.const import WRITE
from mmlab.model.layout import reserve
from mmlab.model.rows import SC_MONITOR_CHECKS, SC_NOW_NS
from mmlab.policies import Monitor

TOTAL, DROPPED, REGIONS = range(3)  # entries of st.seen


@attrs.frozen
class Params:
    """region_order: pages counted together, as a power of two; table_order: places in the table as a power of two, 0: by memory size;
    window_ms: how hot a region is are its accesses in the last whole window of so much simulated time."""

    region_order: int = attrs.field(default=0, validator=[ge(0), le(18)])
    table_order: int = attrs.field(default=0, validator=[ge(0), le(32)])
    window_ms: int = attrs.field(default=100, validator=ge(1))


def new_state(params: Params, machine: Any) -> dict[str, np.ndarray]:
    """The arrays of an access table, and nr_reads, nr_writes: one place a region; seen: TOTAL, DROPPED, REGIONS."""
    order = params.table_order or max(12, (4 * machine.sizes.nr_present - 1).bit_length())
    places = 1 << order
    return {
        **table_arrays(places),
        "nr_reads": reserve(places, "int64"),
        "nr_writes": reserve(places, "int64"),
        "seen": np.zeros(3, np.int64),
    }


@kernel
def on_access(m, st, task, vpn, access):
    """Count one access; a new region takes a place unless the table is full."""
    key = key_of(task, vpn >> st.region_order[0])
    places = len(st.key)
    place = place_of(st.key, key)
    st.seen[TOTAL] += 1
    m.sc[SC_MONITOR_CHECKS] += 1
    if st.key[place] == 0:
        if st.seen[REGIONS] >= places - places // 8:
            st.seen[DROPPED] += 1
            return 0
        st.key[place] = key
        st.seen[REGIONS] += 1
    if access == WRITE:
        st.nr_writes[place] += 1
    else:
        st.nr_reads[place] += 1
    count_in_window(st, place, m.sc[SC_NOW_NS] // (st.window_ms[0] * 1000000))
    return 0


@kernel
def check(m, st):
    """1: places in use are not what REGIONS says; 2: counts do not add up to all accesses. O(places)."""
    regions = 0
    counted = st.seen[DROPPED]
    for place in range(len(st.key)):
        if st.key[place] != 0:
            regions += 1
            counted += st.nr_reads[place] + st.nr_writes[place]
    if regions != st.seen[REGIONS]:
        return 1
    return 2 if counted != st.seen[TOTAL] else 0


def report(machine: Any, state: Any) -> list[dict[str, int]]:
    """One row a region that was accessed: task, start_vpn, nr_pages, nr_reads, nr_writes; by task and address."""
    used = np.flatnonzero(state.key)
    used = used[np.argsort(state.key[used])]
    order = int(state.region_order[0])
    columns = {
        "task": state.key[used] >> TASK_SHIFT,
        "start_vpn": ((state.key[used] & ((1 << TASK_SHIFT) - 1)) - 1) << order,
        "nr_pages": np.full(len(used), 1 << order),
        "nr_reads": state.nr_reads[used],
        "nr_writes": state.nr_writes[used],
    }
    return [dict(zip(columns, values)) for values in zip(*(column.tolist() for column in columns.values()))]


def estimate(machine: Any, state: Any, pages: Any) -> tuple[np.ndarray, None]:
    """Accesses of each page's region in the last whole window, over its pages."""
    order = int(state.region_order[0])
    key = (pages.task << TASK_SHIFT) | ((pages.vpn >> order) + 1)
    return last_window(state, key, int(machine.sc[SC_NOW_NS]) // (int(state.window_ms[0]) * 1_000_000)) / (1 << order), None


ORACLE = Monitor(
    name="oracle",
    summary="counts every access, exactly",
    level="L2",
    params=Params,
    new_state=new_state,
    wants_accesses=True,
    on_access=on_access,
    check=check,
    report=report,
    estimate=estimate,
)
