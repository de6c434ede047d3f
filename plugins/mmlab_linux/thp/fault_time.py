"""Huge pages at fault time: a 2 MiB page for the first touch of an empty, aligned 2 MiB range that lies inside one VMA.

Three policies, as /sys/kernel/mm/transparent_hugepage/enabled has three values; `defrag` and `use_zero_page` are the files beside it.
The core checks that no page table exists for the range yet, allocates, and falls back to small pages.

Models: mm/huge_memory.c __thp_vma_allowable_orders(), vma_thp_gfp_mask(), do_huge_pmd_anonymous_page().
Left out: khugepaged, sizes below 2 MiB, shmem, prctl(PR_SET_THP_DISABLE). O(1).
"""

import attrs
from attrs.validators import ge, le

from mmlab.kernels.jit import kernel, leaf
from mmlab.model.const import HPAGE_PMD_NR, HPAGE_PMD_ORDER, PAGE_SHIFT
from mmlab.model.gfp import GFP_DIRECT_RECLAIM, GFP_KSWAPD_RECLAIM, GFP_NORETRY, GFP_TRANSHUGE, GFP_TRANSHUGE_LIGHT
from mmlab.model.rows import VM_HUGEPAGE, VM_NOHUGEPAGE, VMA_END, VMA_FLAGS, VMA_START, VMA_STRIDE
from mmlab.policies import Thp

DEFRAG_ALWAYS, DEFRAG_DEFER, DEFRAG_DEFER_MADVISE, DEFRAG_MADVISE, DEFRAG_NEVER = range(5)  # in the order in which sysfs lists them


@attrs.frozen
class Params:
    """defrag: who may reclaim for a huge page, 0 always, 1 defer, 2 defer+madvise, 3 madvise, 4 never.

    use_zero_page: reads map the huge zero page.
    """

    defrag: int = attrs.field(default=DEFRAG_MADVISE, validator=[ge(DEFRAG_ALWAYS), le(DEFRAG_NEVER)])
    use_zero_page: bool = True


@leaf
def pmd_orders(m, vma, vpn):
    """Bit 9 if the aligned 2 MiB around vpn lies inside the VMA."""
    start = (vpn & ~(HPAGE_PMD_NR - 1)) << PAGE_SHIFT
    end = start + (HPAGE_PMD_NR << PAGE_SHIFT)
    inside = m.vma[vma * VMA_STRIDE + VMA_START] <= start and end <= m.vma[vma * VMA_STRIDE + VMA_END]
    return 1 << HPAGE_PMD_ORDER if inside else 0


@kernel
def orders_always(m, st, mm, vma, vpn, access):
    """All VMAs but those that madvise() excluded."""
    if m.vma[vma * VMA_STRIDE + VMA_FLAGS] & VM_NOHUGEPAGE:
        return 0
    return pmd_orders(m, vma, vpn)


@kernel
def orders_madvise(m, st, mm, vma, vpn, access):
    """Only VMAs for which madvise() asked."""
    if m.vma[vma * VMA_STRIDE + VMA_FLAGS] & VM_HUGEPAGE == 0:
        return 0
    return pmd_orders(m, vma, vpn)


@kernel
def orders_never(m, st, mm, vma, vpn, access):
    """None."""
    return 0


@kernel
def fault_gfp(m, st, mm, vma, order):
    """GFP flags by defrag, and by whether madvise() asked for huge pages."""
    defrag = st.defrag[0]
    madvised = m.vma[vma * VMA_STRIDE + VMA_FLAGS] & VM_HUGEPAGE
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


def _record(name: str, summary: str, fault_orders):
    return Thp(
        name=name,
        summary=summary,
        models="mm/huge_memory.c __thp_vma_allowable_orders(), vma_thp_gfp_mask()",
        left_out="khugepaged, sizes below 2 MiB, shmem",
        level="L1",
        params=Params,
        fault_orders=fault_orders,
        fault_gfp=fault_gfp,
        use_zero_page=use_zero_page,
    )


ALWAYS = _record("always", "a huge page at every first touch where one fits", orders_always)
MADVISE = _record("madvise", "huge pages where a program asks by madvise()", orders_madvise)
NEVER = _record("never", "small pages only", orders_never)
