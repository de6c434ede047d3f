"""clear_refs: user space clears a process's accessed bits by /proc/PID/clear_refs, waits, and reads Referenced in /proc/PID/smaps.

What it learns is how much of each map was used, not which pages: all pages of a VMA are equally hot. Clearing takes the accesses away from
reclaim (no PG_young is left behind). Both files walk the page tables: an entry costs two of madvise's looks.
Models: fs/proc/task_mmu.c clear_refs_write(), smaps_pte_entry(). Left out: the text of smaps, what tools do with it. O(mapped pages).
"""

from typing import Any

import attrs
import numpy as np
from attrs.validators import ge

from mmlab.kernels.jit import kernel
from mmlab.kernels.pte import walk_pmd
from mmlab.kernels.services import find_vma
from mmlab.model.page import PG_REFERENCED, PG_YOUNG, page_clear, page_folio, page_test
from mmlab.model.rows import (
    COST_DAMOS_PAGE, PTE_ACCESSED, PTE_HUGE, PTE_PRESENT, PTE_PROTNONE, PTE_SHIFT, PTE_SPECIAL, SC_MONITOR_CHECKS, SC_NOW_NS, SC_NR_TASKS, T_ALIVE,
    T_MM, TASK_STRIDE, VMA_END, VMA_START, VMA_STRIDE,
)
from mmlab.policies import Monitor

ROW_STRIDE = 8
ROW_TASK, ROW_START, ROW_END, ROW_PAGES, ROW_REFERENCED = range(5)
NR_ROWS, NR_LOST = range(2)  # of st.count
MAX_ROWS = 1 << 16


@attrs.frozen
class Params:
    """interval_ms: simulated time between clearing and reading."""

    interval_ms: int = attrs.field(default=100, validator=ge(1))


def new_state(params: Params, machine: Any) -> dict[str, np.ndarray]:
    """row: ROW_* of each VMA at the last reading (virtual pages); count: how many, and how many more had no room."""
    return {"row": np.zeros(MAX_ROWS * ROW_STRIDE, np.int64), "count": np.zeros(2, np.int64)}


@kernel
def look_at(m, mm, vpn, end):
    """Pages of [vpn, end) that are mapped | those of them referenced << 32; clears what says so."""
    found = 0
    while vpn < end:
        slot = walk_pmd(m, mm, vpn)
        if slot < 0 or m.pt[slot] == 0:
            vpn = ((vpn >> 9) + 1) << 9 if slot >= 0 else ((vpn >> 18) + 1) << 18
            continue
        size = 1
        if m.pt[slot] & PTE_HUGE:
            size = 512 - (vpn & 511)
        else:
            slot = (m.pt[slot] >> PTE_SHIFT) * 512 + (vpn & 511)
        entry = m.pt[slot]
        vpn += size
        if entry & (PTE_PRESENT | PTE_PROTNONE) == 0 or entry & PTE_SPECIAL:
            continue
        folio = page_folio(m, entry >> PTE_SHIFT)
        found += size
        if entry & PTE_ACCESSED or page_test(m, folio, PG_REFERENCED | PG_YOUNG):
            found += size << 32
        m.pt[slot] = entry & ~PTE_ACCESSED
        page_clear(m, folio, PG_REFERENCED | PG_YOUNG)
        m.sc[SC_MONITOR_CHECKS] += 2
        m.sc[SC_NOW_NS] += 2 * m.cost[COST_DAMOS_PAGE]
    return found


@kernel
def sample(m, st, now_ns):
    """Read and clear every task's maps; returns the time to the next time."""
    rows = 0
    st.count[NR_LOST] = 0
    for task in range(m.sc[SC_NR_TASKS]):
        if m.task[task * TASK_STRIDE + T_ALIVE] == 0:
            continue
        mm = m.task[task * TASK_STRIDE + T_MM]
        vma = find_vma(m, mm, 0)
        while vma >= 0:
            start, end = m.vma[vma * VMA_STRIDE + VMA_START] >> 12, m.vma[vma * VMA_STRIDE + VMA_END] >> 12
            found = look_at(m, mm, start, end)
            if rows < MAX_ROWS:
                base = rows * ROW_STRIDE
                st.row[base + ROW_TASK], st.row[base + ROW_START], st.row[base + ROW_END] = task, start, end
                st.row[base + ROW_PAGES], st.row[base + ROW_REFERENCED] = found & 0xFFFFFFFF, found >> 32
                rows += 1
            else:
                st.count[NR_LOST] += 1
            vma = find_vma(m, mm, end << 12)
    st.count[NR_ROWS] = rows
    return st.interval_ms[0] * 1000000


def _rows(state: Any) -> np.ndarray:
    return state.row[: int(state.count[NR_ROWS]) * ROW_STRIDE].reshape(-1, ROW_STRIDE)


def report(machine: Any, state: Any) -> list[dict[str, int]]:
    """One row a VMA as last read: task, start, end (bytes), nr_pages mapped, nr_referenced of them."""
    return [
        {"task": row[ROW_TASK], "start": row[ROW_START] << 12, "end": row[ROW_END] << 12, "nr_pages": row[ROW_PAGES], "nr_referenced": row[ROW_REFERENCED]}
        for row in _rows(state).tolist()
    ]


def estimate(machine: Any, state: Any, pages: Any) -> tuple[np.ndarray, None]:
    """The part of each page's VMA that was referenced."""
    rows = _rows(state)
    heat = np.zeros(len(pages))
    if len(rows):
        at = np.searchsorted(rows[:, ROW_TASK] << 45 | rows[:, ROW_START], pages.key, side="right") - 1
        inside = (at >= 0) & (rows[at, ROW_TASK] == pages.task) & (pages.vpn < rows[at, ROW_END])
        heat[inside] = (rows[at, ROW_REFERENCED] / np.maximum(rows[at, ROW_PAGES], 1))[inside]
    return heat, None


CLEAR_REFS = Monitor(
    name="clear_refs",
    summary="clears accessed bits by clear_refs and reads how much of each map is Referenced later",
    models="fs/proc/task_mmu.c",
    level="L1",
    params=Params,
    new_state=new_state,
    sample=sample,
    report=report,
    estimate=estimate,
)
