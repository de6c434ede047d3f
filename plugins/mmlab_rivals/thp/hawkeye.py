"""HawkEye: huge pages at faults as Linux; what has small pages is promoted in the order of its access coverage; bloat is taken back under pressure.

Access coverage is how many of a range's 512 pages are accessed within a window, sampled every period, as a moving average; ranges lie in ten
buckets of it, and the fullest bucket is promoted first, over all processes. When more than high_pct percent of memory is in use, huge pages of
which at least min_zero_pages pages were never written are split, and those pages become the zero page again, until no more than low_pct is in
use. Nothing is promoted above low_pct; a range that gave pages back is only when it would not have to again.
Models: Panwar et al., "HawkEye: Efficient Fine-grained OS Support for Huge Pages", ASPLOS 2019 (the variant without performance counters).
Left out: pre-zeroing of free huge pages, turns of processes within a bucket, the order in which processes give bloat back (by address space
here), the threads' own CPU time but for reading pages for zeroes. O(ranges) a step, O(page tables) a sample.
"""

from typing import Any

import attrs
import numpy as np
from attrs.validators import ge, le

from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.pte import walk_pmd
from mmlab.kernels.services import collapse_range, find_vma, lru_add_drain_all, split_folio, split_huge_pmd, zap_pte
from mmlab.kernels.zones import nr_free_pages
from mmlab.model.const import HPAGE_PMD_NR, HPAGE_PMD_ORDER, SCAN_ALLOC_HUGE_PAGE_FAIL, SCAN_SUCCEED
from mmlab.model.gfp import GFP_TRANSHUGE, GFP_TRANSHUGE_LIGHT
from mmlab.model.layout import reserve
from mmlab.model.page import page_mapcount, page_refs
from mmlab.model.rows import (
    COST_ZERO_PAGE, PTE_HUGE, PTE_PRESENT, PTE_SHIFT, PTE_SPECIAL, SC_NOW_NS, SC_NR_TASKS, SC_TOTALRAM, SC_ZERO_PFN, SUBPAGE_WRITTEN,
    VMA_FLAGS, VMA_STRIDE, VM_LOCKED,
)
from mmlab.policies import Thp
from mmlab_rivals.thp.ranges import NS_PER_MS, harvest, holds_range, lives, may_be_huge, next_range, utilization

BUCKET = 50  # pages of coverage a bucket
TIMER_SAMPLE, TIMER_READ = range(2)  # entries of st.timer, ns: when a window begins, when it ends (0: none is open)


@attrs.frozen
class Params:
    """huge_faults: faults map huge pages; sample_ms, window_ms: how often, and for how long, accessed bits are watched; promote_ms, promote_max: how
    often ranges are promoted, and how many; high_pct, low_pct: of memory in use, where bloat recovery begins and ends; min_zero_pages: what
    makes a huge page worth splitting."""

    huge_faults: bool = True
    sample_ms: int = attrs.field(default=30_000, validator=ge(1))
    window_ms: int = attrs.field(default=1000, validator=ge(1))
    promote_ms: int = attrs.field(default=100, validator=ge(1))
    promote_max: int = attrs.field(default=32, validator=ge(1))
    high_pct: int = attrs.field(default=85, validator=[ge(1), le(100)])
    low_pct: int = attrs.field(default=70, validator=[ge(0), le(100)])
    min_zero_pages: int = attrs.field(default=64, validator=[ge(1), le(HPAGE_PMD_NR)])

    def __attrs_post_init__(self) -> None:
        if self.low_pct > self.high_pct:
            raise ValueError(f"low_pct: must be at most high_pct ({self.high_pct}), got {self.low_pct}")


def new_state(params: Params, machine: Any) -> dict[str, np.ndarray]:
    """coverage: pages accessed in a window on average, recovered: 1 if bloat was taken back, a range; timer: TIMER_*."""
    ranges = len(machine.pt)
    return {"coverage": reserve(ranges, "int16"), "recovered": reserve(ranges, "int8"), "timer": np.zeros(2, np.int64)}


@kernel
def fault_orders(m, st, mm, vma, vpn, access):
    """A PMD wherever it fits."""
    return 1 << HPAGE_PMD_ORDER if st.huge_faults[0] and may_be_huge(m, vma) and holds_range(m, vma, vpn) else 0


@kernel
def fault_gfp(m, st, mm, vma, order):
    """A fault takes what is there."""
    return GFP_TRANSHUGE_LIGHT


@kernel
def use_zero_page(m, st, mm, vma):
    """Reads map the huge zero page."""
    return 1


@kernel
def sample_coverage(m, st, end):
    """Clear all accessed bits; at the end of a window count what they say first."""
    for mm in range(m.sc[SC_NR_TASKS]):
        vpn = next_range(m, mm, 0) if lives(m, mm) else -1
        while vpn >= 0:
            pmd = walk_pmd(m, mm, vpn)
            found = harvest(m, pmd)
            if end:
                st.coverage[pmd] = (np.int64(st.coverage[pmd]) + found + 1) // 2
            vpn = next_range(m, mm, vpn + HPAGE_PMD_NR)
    return 0


@leaf
def would_keep(m, st, pmd):
    """1 unless the range would have to give back again what promotion adds."""
    return 1 if np.int64(st.recovered[pmd]) == 0 or HPAGE_PMD_NR - utilization(m, pmd) < st.min_zero_pages[0] else 0


@kernel
def promote(m, st):
    """Ranges of small pages, those of the highest bucket first: how many were promoted."""
    done = 0
    bucket = HPAGE_PMD_NR // BUCKET
    while bucket >= 0:
        for mm in range(m.sc[SC_NR_TASKS]):
            vpn = next_range(m, mm, 0) if lives(m, mm) else -1
            while vpn >= 0:
                pmd = walk_pmd(m, mm, vpn)
                coverage = np.int64(st.coverage[pmd])
                if m.pt[pmd] & PTE_HUGE == 0 and coverage > 0 and coverage // BUCKET == bucket and would_keep(m, st, pmd):
                    result = collapse_range(m, mm, vpn, HPAGE_PMD_NR - 1, GFP_TRANSHUGE)
                    done += 1 if result == SCAN_SUCCEED else 0
                    if result == SCAN_ALLOC_HUGE_PAGE_FAIL or done == st.promote_max[0]:
                        return done
                vpn = next_range(m, mm, vpn + HPAGE_PMD_NR)
        bucket -= 1
    return done


@kernel
def recover(m, st, mm, vpn):
    """Split the huge page at vpn and give back what was never written, if that is enough: pages given back."""
    pmd = walk_pmd(m, mm, vpn)
    entry = m.pt[pmd]
    vma = find_vma(m, mm, vpn << 12)
    head = entry >> PTE_SHIFT
    if entry & PTE_HUGE == 0 or entry & PTE_SPECIAL or page_mapcount(m, head) != 1 or page_refs(m, head) or m.vma[vma * VMA_STRIDE + VMA_FLAGS] & VM_LOCKED:
        return 0
    zeroes = 0
    for i in range(HPAGE_PMD_NR):
        if np.int64(m.subpage[head + i]) & SUBPAGE_WRITTEN == 0:
            zeroes += 1
    m.sc[SC_NOW_NS] += zeroes * m.cost[COST_ZERO_PAGE]  # reading a page of zeroes takes as long as writing it
    if zeroes < st.min_zero_pages[0]:
        return 0
    st.recovered[pmd] = 1
    split_huge_pmd(m, mm, pmd)
    table = (m.pt[pmd] >> PTE_SHIFT) * 512
    for i in range(HPAGE_PMD_NR):
        if np.int64(m.subpage[head + i]) & SUBPAGE_WRITTEN == 0:
            zap_pte(m, mm, vma, table + i)
            m.pt[table + i] = (m.sc[SC_ZERO_PFN] << PTE_SHIFT) | PTE_PRESENT | PTE_SPECIAL
    if zeroes < HPAGE_PMD_NR:
        split_folio(m, head)
    return zeroes


@kernel
def recover_bloat(m, st):
    """Until no more than low_pct of memory is in use, or nothing is left to give back: pages given back."""
    wanted = m.sc[SC_TOTALRAM] * (100 - st.low_pct[0]) // 100
    lru_add_drain_all(m)
    given = 0
    for mm in range(m.sc[SC_NR_TASKS]):
        vpn = next_range(m, mm, 0) if lives(m, mm) else -1
        while vpn >= 0:
            if nr_free_pages(m) >= wanted:
                return given
            given += recover(m, st, mm, vpn)
            vpn = next_range(m, mm, vpn + HPAGE_PMD_NR)
    return given


@kernel
def step(m, st, now_ns):
    """The sampling, the promoting and the bloat recovery thread."""
    if st.timer[TIMER_READ] and now_ns >= st.timer[TIMER_READ]:
        sample_coverage(m, st, 1)
        st.timer[TIMER_READ] = 0
    if now_ns >= st.timer[TIMER_SAMPLE]:
        sample_coverage(m, st, 0)
        st.timer[TIMER_READ] = now_ns + st.window_ms[0] * NS_PER_MS
        st.timer[TIMER_SAMPLE] = now_ns + max(st.sample_ms[0], st.window_ms[0]) * NS_PER_MS
    used = m.sc[SC_TOTALRAM] - nr_free_pages(m)
    if used * 100 > st.high_pct[0] * m.sc[SC_TOTALRAM]:
        recover_bloat(m, st)
    elif used * 100 <= st.low_pct[0] * m.sc[SC_TOTALRAM]:
        promote(m, st)
    wait = min(st.promote_ms[0] * NS_PER_MS, st.timer[TIMER_SAMPLE] - now_ns)
    return max(1, min(wait, st.timer[TIMER_READ] - now_ns) if st.timer[TIMER_READ] else wait)


HAWKEYE = Thp(
    name="hawkeye",
    summary="huge pages by access coverage, and bloat taken back under pressure",
    models="Panwar et al., ASPLOS 2019 (HawkEye-G)",
    left_out="pre-zeroing, turns within a bucket, the threads' CPU time",
    level="L1",
    wants_subpages=True,
    params=Params,
    new_state=new_state,
    fault_orders=fault_orders,
    fault_gfp=fault_gfp,
    use_zero_page=use_zero_page,
    step=step,
)
