"""Ingens: faults get small pages; a kernel thread makes a range huge once most of its pages are there, the fairest process first.

That is what it does while memory is fragmented. As long as less than fmfi_pct percent of free memory is in blocks smaller than a huge page
(the free memory fragmentation index), it is aggressive: faults get huge pages at once, as with `always`. The index is read at every look.
A range counts as used where a page is mapped (the paper's util bitvector); it is promoted from util_pct percent on. Accessed bits are sampled;
the moving average of how many of a range's 512 pages were accessed tells frequently used huge pages (three quarters on average) from idle
ones. Whose range is next: the process with the smallest sum of huge pages, idle ones counted idle_tax_pct percent (its promotion metric, with
equal shares).
Models: Kwon et al., "Coordinated and Efficient Huge Page Management with Ingens", OSDI 2016. Left out: sharing of identical
pages, shares other than equal ones, compaction ahead of need, the scanning threads' own CPU time. O(page tables) a step.
"""

from typing import Any

import attrs
import numpy as np
from attrs.validators import ge, le

from mmlab.kernels.jit import kernel
from mmlab.kernels.ops import page_allocator_nr_free_blocks
from mmlab.kernels.pte import walk_pmd
from mmlab.kernels.services import collapse_range
from mmlab.model.const import HPAGE_PMD_NR, HPAGE_PMD_ORDER, MIGRATE_TYPES, NR_PAGE_ORDERS, SCAN_ALLOC_HUGE_PAGE_FAIL, SCAN_SUCCEED
from mmlab.model.gfp import GFP_TRANSHUGE, GFP_TRANSHUGE_LIGHT
from mmlab.model.layout import reserve
from mmlab.model.rows import PTE_HUGE, SC_NR_TASKS, SC_NR_ZONES
from mmlab.policies import Thp
from mmlab_rivals.thp.ranges import NS_PER_MS, harvest, holds_range, lives, may_be_huge, next_range, utilization

SCALE = 16  # of st.frequency
FREQUENT = 3 * HPAGE_PMD_NR * SCALE // 4


@attrs.frozen
class Params:
    """fmfi_pct: of free memory in small blocks, from where on it is conservative (0: always); util_pct: how full a range must be; promote_ms:
    between two looks for such ranges; promote_max: promotions a look; sample_ms: between two readings of accessed bits; weight_pct: of the
    newest in the average; idle_tax_pct: what an idle huge page counts when processes compete."""

    fmfi_pct: int = attrs.field(default=50, validator=[ge(0), le(101)])
    util_pct: int = attrs.field(default=90, validator=[ge(1), le(100)])
    promote_ms: int = attrs.field(default=10, validator=ge(1))
    promote_max: int = attrs.field(default=32, validator=ge(1))
    sample_ms: int = attrs.field(default=1000, validator=ge(1))
    weight_pct: int = attrs.field(default=40, validator=[ge(1), le(100)])
    idle_tax_pct: int = attrs.field(default=200, validator=ge(100))


def new_state(params: Params, machine: Any) -> dict[str, np.ndarray]:
    """frequency: pages accessed on average a range, times SCALE; cursor, cost: of an address space in a look; next_sample: ns;
    fmfi: the last index in percent, -1 before the first."""
    nr_mms = machine.sizes.nr_tasks
    return {
        "frequency": reserve(len(machine.pt), "int32"), "cursor": np.zeros(nr_mms, np.int64), "cost": np.zeros(nr_mms, np.int64),
        "next_sample": np.zeros(1, np.int64), "fmfi": np.full(1, -1, np.int64),
    }  # fmt: skip


@kernel
def fragmentation_index_pct(m):
    """Per cent of free memory in blocks smaller than a huge page; 100 where nothing is free."""
    free = 0
    huge = 0
    for zone in range(m.sc[SC_NR_ZONES]):
        for order in range(NR_PAGE_ORDERS):
            for migratetype in range(MIGRATE_TYPES):
                pages = page_allocator_nr_free_blocks(m, zone, order, migratetype) << order
                free += pages
                if order >= HPAGE_PMD_ORDER:
                    huge += pages
    return (free - huge) * 100 // free if free else 100


@kernel
def fault_orders(m, st, mm, vma, vpn, access):
    """A PMD wherever it fits while memory is hardly fragmented, else small pages."""
    if st.fmfi[0] < 0:
        st.fmfi[0] = fragmentation_index_pct(m)
    return 1 << HPAGE_PMD_ORDER if st.fmfi[0] < st.fmfi_pct[0] and may_be_huge(m, vma) and holds_range(m, vma, vpn) else 0


@kernel
def fault_gfp(m, st, mm, vma, order):
    """A fault takes what is there."""
    return GFP_TRANSHUGE_LIGHT


@kernel
def sample_accesses(m, st):
    """Update every range's average of accessed pages."""
    for mm in range(m.sc[SC_NR_TASKS]):
        vpn = next_range(m, mm, 0) if lives(m, mm) else -1
        while vpn >= 0:
            pmd = walk_pmd(m, mm, vpn)
            new = harvest(m, pmd) * SCALE
            st.frequency[pmd] = (st.weight_pct[0] * new + (100 - st.weight_pct[0]) * np.int64(st.frequency[pmd])) // 100
            vpn = next_range(m, mm, vpn + HPAGE_PMD_NR)
    return 0


@kernel
def weigh(m, st, mm):
    """What the huge pages of an address space count, in percent of one."""
    cost = 0
    vpn = next_range(m, mm, 0)
    while vpn >= 0:
        pmd = walk_pmd(m, mm, vpn)
        if m.pt[pmd] & PTE_HUGE:
            cost += 100 if np.int64(st.frequency[pmd]) >= FREQUENT else st.idle_tax_pct[0]
        vpn = next_range(m, mm, vpn + HPAGE_PMD_NR)
    return cost


@kernel
def next_candidate(m, st, mm, vpn):
    """The next range at or behind vpn that is full enough and not huge, or -1."""
    enough = (st.util_pct[0] * HPAGE_PMD_NR + 99) // 100
    vpn = next_range(m, mm, vpn)
    while vpn >= 0:
        pmd = walk_pmd(m, mm, vpn)
        if m.pt[pmd] & PTE_HUGE == 0 and utilization(m, pmd) >= enough:
            return vpn
        vpn = next_range(m, mm, vpn + HPAGE_PMD_NR)
    return -1


@kernel
def promote(m, st):
    """A look for ranges that are full enough."""
    for mm in range(m.sc[SC_NR_TASKS]):
        st.cursor[mm] = next_candidate(m, st, mm, 0) if lives(m, mm) else -1
        st.cost[mm] = weigh(m, st, mm) if st.cursor[mm] >= 0 else 0
    missing = HPAGE_PMD_NR - (st.util_pct[0] * HPAGE_PMD_NR + 99) // 100
    done = 0
    while done < st.promote_max[0]:
        best = -1
        for mm in range(m.sc[SC_NR_TASKS]):
            if st.cursor[mm] >= 0 and (best < 0 or st.cost[mm] < st.cost[best]):
                best = mm
        if best < 0:
            return done
        result = collapse_range(m, best, st.cursor[best], missing, GFP_TRANSHUGE)
        if result == SCAN_ALLOC_HUGE_PAGE_FAIL:
            return done
        if result == SCAN_SUCCEED:
            done += 1
            st.cost[best] += 100
        st.cursor[best] = next_candidate(m, st, best, st.cursor[best] + HPAGE_PMD_NR)
    return done


@kernel
def step(m, st, now_ns):
    """The sampling and the promoting thread."""
    if now_ns >= st.next_sample[0]:
        sample_accesses(m, st)
        st.next_sample[0] = now_ns + st.sample_ms[0] * NS_PER_MS
    st.fmfi[0] = fragmentation_index_pct(m)
    promote(m, st)
    return min(st.promote_ms[0] * NS_PER_MS, st.next_sample[0] - now_ns)


INGENS = Thp(
    name="ingens",
    summary="huge pages at faults while memory is not fragmented, else made later, of ranges that are nearly full",
    models="Kwon et al., OSDI 2016 (Ingens)",
    left_out="page sharing, shares, the threads' CPU time",
    level="L1",
    params=Params,
    new_state=new_state,
    fault_orders=fault_orders,
    fault_gfp=fault_gfp,
    step=step,
)
