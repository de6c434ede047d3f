"""next_fit: first_fit with a rover: a request gets the first free aligned run behind the last one handed out, round and round.

It stands against first_fit: the search never goes over the crowded bottom again, and small blocks end up spread over all of memory.
Models: the roving pointer of Knuth, The Art of Computer Programming 1, 2.5, exercise 6, restricted to powers of two.
Left out: what first_fit leaves out. Cost: as first_fit. Memory: 8 bytes a zone more.
"""

import attrs
import numpy as np

from mmlab.kernels.jit import kernel
from mmlab.model.const import ENOMEM
from mmlab_rivals.page_allocator import first_fit
from mmlab_rivals.page_allocator.bits import has_block
from mmlab_rivals.page_allocator.first_fit import FIRST_FIT, find_first, take


def new_state(params, machine):
    """first_fit's arrays, and rover: a zone's frame from which the next search begins."""
    return {**first_fit.new_state(params, machine), "rover": np.zeros(machine.sizes.nr_zones, np.int64)}


@kernel
def alloc(m, st, zone, order, migratetype, alloc_flags):
    """The first free aligned run from the rover on, else from the zone's start; the rover goes behind it."""
    if has_block(st, zone, order) == 0:
        return -ENOMEM
    pfn = -1
    low = st.rover[zone]
    while pfn < 0:
        pfn = find_first(m, st, zone, order, low)
        low = 0
    st.rover[zone] = pfn + (1 << order)
    return take(m, st, zone, pfn, order)


NEXT_FIT = attrs.evolve(
    FIRST_FIT, name="next_fit", summary="bitmap: the next free aligned run behind the last one, no per-CPU lists, no mobility types",
    models="Knuth TAOCP 1, 2.5 (next fit)", new_state=new_state, alloc=alloc,
)  # fmt: skip
