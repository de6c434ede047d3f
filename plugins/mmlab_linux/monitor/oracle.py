"""The oracle: counts every access of the stream, exactly. What sampling monitors are measured against.

A hash table with linear probing, keyed by (task, region of 2^region_order pages); its room is reserved at the start and takes memory only
where it is used. When it is 7/8 full, accesses to new regions are counted as dropped, never silently lost.
Models: nothing of the kernel (it cannot see accesses). Left out: accesses of scripts' operations that are not page touches. O(1) an access.
"""

from typing import Any

import attrs
import numpy as np
from attrs.validators import ge, le

from mmlab.kernels.jit import kernel, leaf
from mmlab.model.const import WRITE
from mmlab.model.layout import reserve
from mmlab.policies import Monitor

TASK_SHIFT = 45  # a key is task << 45 | region + 1, 0 is an empty place: virtual page numbers have up to 45 bits
LOW_BITS = (1 << 31) - 1
MIX_LOW, MIX_HIGH = 1640531527, 1540483477  # odd 31-bit multipliers: products stay below 2^62, so int64 never overflows
TOTAL, DROPPED, REGIONS = range(3)  # entries of st.seen


@attrs.frozen
class Params:
    """region_order: pages counted together, as a power of two; table_order: places in the table as a power of two, 0: by memory size."""

    region_order: int = attrs.field(default=0, validator=[ge(0), le(18)])
    table_order: int = attrs.field(default=0, validator=[ge(0), le(32)])


def new_state(params: Params, machine: Any) -> dict[str, np.ndarray]:
    """key, nr_reads, nr_writes: one place a region; seen: TOTAL, DROPPED, REGIONS."""
    order = params.table_order or max(12, (4 * machine.sizes.nr_present - 1).bit_length())
    places = 1 << order
    return {
        "key": reserve(places, "int64"),
        "nr_reads": reserve(places, "int64"),
        "nr_writes": reserve(places, "int64"),
        "seen": np.zeros(3, np.int64),
    }


@leaf
def first_place(key, places):
    """Where probing for a key begins."""
    mixed = ((key & LOW_BITS) * MIX_LOW) ^ ((key >> 31) * MIX_HIGH)
    return (mixed ^ (mixed >> 27)) & (places - 1)


@kernel
def on_access(m, st, task, vpn, access):
    """Count one access; a new region takes a place unless the table is full."""
    key = (task << TASK_SHIFT) | ((vpn >> st.region_order[0]) + 1)
    places = len(st.key)
    place = first_place(key, places)
    while st.key[place] != key and st.key[place] != 0:
        place = (place + 1) & (places - 1)
    st.seen[TOTAL] += 1
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
)
