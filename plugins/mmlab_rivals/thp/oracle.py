"""The oracle: knows which pages a stream will touch, and makes exactly those ranges huge, at their first fault, of which enough pages are.

With min_pages 512 nothing is ever there that nobody touches, and no policy without bloat has fewer TLB misses; smaller values trade one for the
other, along the curve that the others are to be measured against.
Models: nothing real. For bulk streams only: what a script will do is not known before it does it. Left out: when a page is touched (a range
that is full at the end is huge from the beginning), and that memory may be unmapped in between. O(log ranges) a fault.
"""

import attrs
from attrs.validators import ge, le

from mmlab.kernels.jit import kernel
from mmlab.model.const import HPAGE_PMD_NR, HPAGE_PMD_ORDER
from mmlab.model.gfp import GFP_TRANSHUGE
from mmlab.model.rows import FUTURE_TASK_SHIFT, MM_OWNER, MM_STRIDE
from mmlab.policies import Thp
from mmlab_rivals.thp.ranges import holds_range, may_be_huge


@attrs.frozen
class Params:
    """min_pages: pages of a range that will be touched, from which on it is worth a huge page."""

    min_pages: int = attrs.field(default=HPAGE_PMD_NR, validator=[ge(1), le(HPAGE_PMD_NR)])


@kernel
def pages_to_be_touched(m, mm, vpn):
    """Pages of the range around vpn that the stream touches at any time."""
    key = m.mm[mm * MM_STRIDE + MM_OWNER] << FUTURE_TASK_SHIFT | vpn >> HPAGE_PMD_ORDER
    low, high = 0, len(m.future_range)
    while low < high:
        middle = (low + high) // 2
        if m.future_range[middle] < key:
            low = middle + 1
        else:
            high = middle
    return m.future_pages[low] if low < len(m.future_range) and m.future_range[low] == key else 0


@kernel
def fault_orders(m, st, mm, vma, vpn, access):
    """A PMD if enough pages of the range will be touched."""
    if may_be_huge(m, vma) == 0 or holds_range(m, vma, vpn) == 0:
        return 0
    return 1 << HPAGE_PMD_ORDER if pages_to_be_touched(m, mm, vpn) >= st.min_pages[0] else 0


@kernel
def fault_gfp(m, st, mm, vma, order):
    """What is worth a huge page is worth reclaim and compaction."""
    return GFP_TRANSHUGE


@kernel
def use_zero_page(m, st, mm, vma):
    """Never: what will be written needs a page of its own."""
    return 0


ORACLE_THP = Thp(
    name="oracle",
    summary="huge pages for the ranges that a stream will touch wholly",
    models="nothing real: a bound",
    left_out="when pages are touched; scripts",
    level="L1",
    needs_future=True,
    params=Params,
    fault_orders=fault_orders,
    fault_gfp=fault_gfp,
    use_zero_page=use_zero_page,
)
