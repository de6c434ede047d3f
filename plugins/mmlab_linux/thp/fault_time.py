"""Huge pages at fault time: a 2 MiB page for the first touch of an empty, aligned 2 MiB range that lies inside one VMA, or a smaller block.

Three policies, which differ in what /sys/kernel/mm/transparent_hugepage/enabled says at the start; it may be written later. `defrag` and
`use_zero_page` are the files beside it; each size from 16 kB to 2 MB has an `enabled` of its own (2 MB inherits, the others are off).
The core checks that nothing is mapped in the block yet, allocates, and falls back to smaller ones.

Models: mm/huge_memory.c __thp_vma_allowable_orders(), thp_vma_suitable_orders(), vma_thp_gfp_mask(), do_huge_pmd_anonymous_page().
Left out: prctl(PR_SET_THP_DISABLE). O(1).
"""

import attrs
import numpy as np
from attrs.validators import ge, le

from mmlab.kernels.jit import kernel, leaf
from mmlab.model.const import HPAGE_PMD_ORDER, PAGE_SHIFT
from mmlab.model.gfp import GFP_DIRECT_RECLAIM, GFP_KSWAPD_RECLAIM, GFP_NORETRY, GFP_TRANSHUGE, GFP_TRANSHUGE_LIGHT
from mmlab.model.rows import VM_HUGEPAGE, VM_NOHUGEPAGE, VMA_END, VMA_FLAGS, VMA_START, VMA_STRIDE
from mmlab.policies import Thp
from mmlab_linux.thp.khugepaged import khugepaged_do_scan, khugepaged_state

MODE_ALWAYS, MODE_MADVISE, MODE_NEVER = range(3)  # as sysfs lists them, like the next ones
DEFRAG_ALWAYS, DEFRAG_DEFER, DEFRAG_DEFER_MADVISE, DEFRAG_MADVISE, DEFRAG_NEVER = range(5)
SIZE_ALWAYS, SIZE_INHERIT, SIZE_MADVISE, SIZE_NEVER = range(4)


@attrs.frozen
class Params:
    """defrag: who may reclaim for a huge page, 0 always, 1 defer, 2 defer+madvise, 3 madvise, 4 never.

    use_zero_page: reads map the huge zero page.
    """

    defrag: int = attrs.field(default=DEFRAG_MADVISE, validator=[ge(DEFRAG_ALWAYS), le(DEFRAG_NEVER)])
    use_zero_page: bool = True


def new_state(mode: int):
    """The policy's arrays: mode, what `enabled` says; orders: a bit set of orders for each SIZE_*, as the sizes' own `enabled` files say."""

    def arrays(params, machine):
        orders = np.zeros(4, np.int64)
        orders[SIZE_INHERIT] = 1 << HPAGE_PMD_ORDER
        return {"mode": np.array([mode]), "orders": orders, **khugepaged_state()}

    return arrays


@leaf
def allowable_orders(st, vm_flags):
    """Bit set of orders that the settings grant a VMA with these flags."""
    if vm_flags & VM_NOHUGEPAGE:
        return 0
    orders = st.orders[SIZE_ALWAYS]
    if vm_flags & VM_HUGEPAGE:
        orders |= st.orders[SIZE_MADVISE]
        if st.mode[0] != MODE_NEVER:
            orders |= st.orders[SIZE_INHERIT]
    elif st.mode[0] == MODE_ALWAYS:
        orders |= st.orders[SIZE_INHERIT]
    return orders


@leaf
def suitable_orders(m, vma, vpn, orders):
    """Those of the orders whose aligned block around vpn lies inside the VMA."""
    first = m.vma[vma * VMA_STRIDE + VMA_START] >> PAGE_SHIFT
    end = m.vma[vma * VMA_STRIDE + VMA_END] >> PAGE_SHIFT
    left = orders
    order = HPAGE_PMD_ORDER
    while left and order > 0:
        start = vpn >> order << order
        if left & (1 << order) and start >= first and start + (1 << order) <= end:
            return left  # every smaller block lies in this one
        left &= ~(1 << order)
        order -= 1
    return left


@kernel
def fault_orders(m, st, mm, vma, vpn, access):
    """By `enabled`, the sizes' own, and madvise()."""
    orders = allowable_orders(st, m.vma[vma * VMA_STRIDE + VMA_FLAGS])
    return suitable_orders(m, vma, vpn, orders) if orders else 0


@kernel
def fault_gfp(m, st, mm, vma, order):
    """GFP flags by defrag, and by whether madvise() asked for huge pages."""
    defrag = st.defrag[0]
    madvised = m.vma[vma * VMA_STRIDE + VMA_FLAGS] & VM_HUGEPAGE if vma >= 0 else 0
    if defrag == DEFRAG_ALWAYS:
        return GFP_TRANSHUGE if madvised else GFP_TRANSHUGE | GFP_NORETRY
    if defrag == DEFRAG_DEFER:
        return GFP_TRANSHUGE_LIGHT | GFP_KSWAPD_RECLAIM
    if defrag == DEFRAG_DEFER_MADVISE:
        return GFP_TRANSHUGE_LIGHT | (GFP_DIRECT_RECLAIM if madvised else GFP_KSWAPD_RECLAIM)
    if defrag == DEFRAG_MADVISE and madvised:
        return GFP_TRANSHUGE_LIGHT | GFP_DIRECT_RECLAIM
    return GFP_TRANSHUGE_LIGHT


@kernel
def use_zero_page(m, st, mm, vma):
    """As the param says."""
    return st.use_zero_page[0]


@kernel
def step(m, st, now_ns):
    """khugepaged, which runs while huge PMDs may come about at all."""
    pmd = 1 << HPAGE_PMD_ORDER
    if (st.orders[SIZE_ALWAYS] | st.orders[SIZE_MADVISE]) & pmd or (st.orders[SIZE_INHERIT] & pmd and st.mode[0] != MODE_NEVER):
        return khugepaged_do_scan(m, st, now_ns)
    return 0


def _record(name: str, summary: str, mode: int):
    return Thp(
        name=name,
        summary=summary,
        models="mm/huge_memory.c __thp_vma_allowable_orders(), thp_vma_suitable_orders(), vma_thp_gfp_mask()",
        left_out="prctl(PR_SET_THP_DISABLE)",
        level="L4",
        params=Params,
        new_state=new_state(mode),
        fault_orders=fault_orders,
        fault_gfp=fault_gfp,
        use_zero_page=use_zero_page,
        step=step,
    )


ALWAYS = _record("always", "a huge page at every first touch where one fits", MODE_ALWAYS)
MADVISE = _record("madvise", "huge pages where a program asks by madvise()", MODE_MADVISE)
NEVER = _record("never", "small pages only", MODE_NEVER)
