"""NUMA hint faults as a monitor: a scan makes entries PROT_NONE, and the next access to each faults. How soon says how hot the page is.

Exact about which page, but it sees one access a scan, and every look costs its task a page fault. The scan goes round all tasks' maps,
scan_size_mb at a time. Works with NUMA balancing off; with it on, the kernel's own scans are heard as well.
Models: mm/mprotect.c change_pte_range(), mm/memory.c do_numa_page(), as numa_balancing=2 measures hint page fault latency. Left out: huge pages
(they are not scanned). O(scan_size) a scan, O(1) a fault.
"""

from typing import Any

import attrs
import numpy as np
from attrs.validators import ge

from mmlab.kernels.jit import kernel
from mmlab.kernels.pte import walk_pmd
from mmlab.kernels.services import find_vma
from mmlab.model.rows import (
    COST_FAULT, COST_PROT_NUMA, PTE_HUGE, PTE_PRESENT, PTE_PROTNONE, PTE_SHIFT, PTE_SPECIAL, PTE_WRITE, SC_MONITOR_CHECKS, SC_MONITOR_NS, SC_NOW_NS,
    SC_NR_TASKS, T_ALIVE, T_MM, TASK_STRIDE, VM_IO, VM_MIXEDMAP, VM_PFNMAP, VM_READ, VM_WRITE, VMA_END, VMA_FLAGS, VMA_START, VMA_STRIDE,
)
from mmlab.policies import Monitor
from mmlab_rivals.monitor.history import history_columns, same_page

PAGES_PER_MB = 256
TICK_NS = 4_000_000  # HZ is 250
AT_TASK, AT_VPN = range(2)  # of st.at: where the next scan begins
NR_SCANNED, NR_FAULTS = range(2)  # of st.seen


@attrs.frozen
class Params:
    """scan_period_ms: simulated time between two scans; scan_size_mb: how much of the tasks' maps each covers."""

    scan_period_ms: int = attrs.field(default=100, validator=ge(1))
    scan_size_mb: int = attrs.field(default=256, validator=ge(1))


def new_state(params: Params, machine: Any) -> dict[str, np.ndarray]:
    """owner, scan_ns (moment + 1 of the last scan, 0: none), latency_ns (from the scan to the fault; 0: there was none): a frame each; at, seen."""
    rest = {"at": np.zeros(2, np.int64), "seen": np.zeros(2, np.int64)}
    return {**history_columns(machine), "scan_ns": machine.page_column("int64"), "latency_ns": machine.page_column("int64"), **rest}


@kernel
def scan_range(m, st, mm, vpn, end):
    """Make the entries of [vpn, end) PROT_NONE: how many changed. A page that has waited since the last scan is not hot any more."""
    changed = 0
    while vpn < end:
        pmd = walk_pmd(m, mm, vpn)
        if pmd < 0 or m.pt[pmd] == 0 or m.pt[pmd] & PTE_HUGE:
            vpn = ((vpn >> 9) + 1) << 9 if pmd >= 0 else ((vpn >> 18) + 1) << 18
            continue
        slot = (m.pt[pmd] >> PTE_SHIFT) * 512 + (vpn & 511)
        vpn += 1
        entry = m.pt[slot]
        if entry & (PTE_PRESENT | PTE_PROTNONE) == 0 or entry & PTE_SPECIAL:
            continue
        pfn = entry >> PTE_SHIFT
        if same_page(m, st, pfn) == 0 or entry & PTE_PROTNONE:
            st.latency_ns[pfn] = 0
        if entry & PTE_PROTNONE:
            continue
        st.scan_ns[pfn] = m.sc[SC_NOW_NS] + 1
        m.pt[slot] = (entry & ~(PTE_PRESENT | PTE_WRITE)) | PTE_PROTNONE
        changed += 1
    return changed


@kernel
def sample(m, st, now_ns):
    """Scan on from where the last scan ended, once round at most; returns the time to the next scan."""
    left = st.scan_size_mb[0] * PAGES_PER_MB
    nr_tasks = m.sc[SC_NR_TASKS]
    changed = 0
    for i in range(nr_tasks + 1 if nr_tasks else 0):
        task = (st.at[AT_TASK] + (1 if i else 0)) % nr_tasks
        if i:
            st.at[AT_TASK], st.at[AT_VPN] = task, 0
        if m.task[task * TASK_STRIDE + T_ALIVE] == 0:
            continue
        mm = m.task[task * TASK_STRIDE + T_MM]
        vma = find_vma(m, mm, st.at[AT_VPN] << 12)
        while vma >= 0 and left > 0:
            base = vma * VMA_STRIDE
            flags = m.vma[base + VMA_FLAGS]
            start, end = max(m.vma[base + VMA_START] >> 12, st.at[AT_VPN]), m.vma[base + VMA_END] >> 12
            if flags & (VM_IO | VM_PFNMAP | VM_MIXEDMAP) == 0 and flags & (VM_READ | VM_WRITE):
                end = min(end, start + left)
                changed += scan_range(m, st, mm, start, end)
                left -= end - start
            st.at[AT_VPN] = end
            vma = find_vma(m, mm, end << 12)
        if left <= 0:
            break
    st.seen[NR_SCANNED] += changed
    m.sc[SC_MONITOR_CHECKS] += changed
    m.sc[SC_NOW_NS] += changed * m.cost[COST_PROT_NUMA]
    return st.scan_period_ms[0] * 1000000


@kernel
def hint_fault(m, st, task, vpn, pfn):
    """The first access since the scan."""
    st.seen[NR_FAULTS] += 1
    if st.scan_ns[pfn] > 0:
        st.latency_ns[pfn] = max(1, m.sc[SC_NOW_NS] + 1 - st.scan_ns[pfn])
    m.sc[SC_MONITOR_NS] += m.cost[COST_FAULT]
    return 0


def report(machine: Any, state: Any) -> list[dict[str, int]]:
    """One row: entries made PROT_NONE, and faults on them."""
    return [{"nr_scanned": int(state.seen[NR_SCANNED]), "nr_faults": int(state.seen[NR_FAULTS])}]


def estimate(machine: Any, state: Any, pages: Any) -> tuple[np.ndarray, None]:
    """One over the time from scan to fault in ticks, which is as exact as the kernel's; 0 for pages whose last scan no fault has followed."""
    latency = pages.of_folios(state.latency_ns)
    return np.where(latency > 0, 1 / (1 + latency // TICK_NS), 0.0), None


HINT_FAULT = Monitor(
    name="hint_fault",
    summary="makes entries PROT_NONE and measures how soon each page faults",
    models="mm/mprotect.c, mm/memory.c do_numa_page()",
    left_out="huge pages",
    level="L1",
    params=Params,
    new_state=new_state,
    sample=sample,
    hint_fault=hint_fault,
    report=report,
    estimate=estimate,
)
