"""Counting what cgroups use: pages, swap slots, events. Everything here is counted for a cgroup and its parents.

Models: mm/page_counter.c page_counter_charge(); mm/memcontrol.c __mem_cgroup_charge(), uncharge_folio(), __mem_cgroup_try_charge_swap(),
memcg_memory_event(); kernel/cgroup/cgroup.c cgroup_file_notify(). Usage, limits and events are fields of a row of m.memcg; the root (row 0) is charged for nothing.
Kernel objects: mm/objcg.py.
"""

from mmlab.kernels.jit import leaf
from mmlab.kernels.pte import lru_gen_use_mm
from mmlab.kernels.services import try_charge
from mmlab.model.const import ENOMEM
from mmlab.model.page import page_memcg, set_page_memcg
from mmlab.model.rows import (
    MC_EVENT_LOW, MC_EVENT_SWAP_FAIL, MC_EVENT_SWAP_MAX, MC_LOCAL, MC_MAX, MC_NOTIFY_NS, MC_PARENT, MC_PEAK, MC_SWAP_MAX, MC_SWAP_PEAK, MC_SWAP_USAGE,
    MC_USAGE, MEMCG_STRIDE, SC_NOW_NS, SC_NR_MEMCGS, SC_TASK, TASK_STRIDE, T_MEMCG,
)

NOTIFY_NS = 10_000_000


@leaf
def current_memcg(m):
    """The running task's cgroup; 0 for the root and for nobody."""
    task = m.sc[SC_TASK]
    return m.task[task * TASK_STRIDE + T_MEMCG] if m.sc[SC_NR_MEMCGS] > 1 and task >= 0 else 0


@leaf
def memcg_memory_event(m, memcg, event):
    """Count an event (MC_EVENT_*) in memory.events of a cgroup and its parents, and in its memory.events.local.

    Whoever polls these files is told, at most every NOTIFY_NS, by a kernel thread, for which the running task makes room.
    """
    if m.sc[SC_NOW_NS] >= m.memcg[memcg * MEMCG_STRIDE + MC_NOTIFY_NS]:
        m.memcg[memcg * MEMCG_STRIDE + MC_NOTIFY_NS] = m.sc[SC_NOW_NS] + NOTIFY_NS
        lru_gen_use_mm(m)
    m.memcg[memcg * MEMCG_STRIDE + event - MC_EVENT_LOW + MC_LOCAL] += 1
    at = memcg
    while at > 0:
        m.memcg[at * MEMCG_STRIDE + event] += 1
        at = m.memcg[at * MEMCG_STRIDE + MC_PARENT]


@leaf
def over_limit(m, memcg, nr_pages):
    """The cgroup, of this one and its parents, whose memory.max nr_pages more would exceed; 0: none."""
    at = memcg
    while at > 0:
        base = at * MEMCG_STRIDE
        if m.memcg[base + MC_USAGE] + nr_pages > m.memcg[base + MC_MAX]:
            return at
        at = m.memcg[base + MC_PARENT]
    return 0


@leaf
def page_counter_charge(m, memcg, nr_pages):
    """nr_pages more (or, negative, less) in use by the cgroup and its parents, whatever their limits."""
    at = memcg
    while at > 0:
        base = at * MEMCG_STRIDE
        m.memcg[base + MC_USAGE] += nr_pages
        m.memcg[base + MC_PEAK] = max(m.memcg[base + MC_PEAK], m.memcg[base + MC_USAGE])
        at = m.memcg[base + MC_PARENT]


@leaf
def mem_cgroup_charge(m, pfn, memcg, gfp, nr_pages):
    """Charge a page (or the head of a folio) to a cgroup: 0, or -ENOMEM with nothing changed."""
    if memcg:
        if try_charge(m, memcg, gfp, nr_pages) < 0:
            return -ENOMEM
        set_page_memcg(m, pfn, memcg)
    return 0


@leaf
def mem_cgroup_uncharge(m, pfn, nr_pages):
    """The page is freed: nobody is charged for it any more."""
    memcg = page_memcg(m, pfn)
    if memcg:
        page_counter_charge(m, memcg, -nr_pages)
        set_page_memcg(m, pfn, 0)


@leaf
def uncharge_swap(m, memcg, nr_slots):
    """The cgroup and its parents use nr_slots less (or, negative, more)."""
    at = memcg
    while at > 0:
        base = at * MEMCG_STRIDE
        m.memcg[base + MC_SWAP_USAGE] -= nr_slots
        m.memcg[base + MC_SWAP_PEAK] = max(m.memcg[base + MC_SWAP_PEAK], m.memcg[base + MC_SWAP_USAGE])
        at = m.memcg[base + MC_PARENT]


@leaf
def charge_swap(m, memcg, nr):
    """Slots of swap for the cgroup and its parents: 0, or -ENOMEM when memory.swap.max forbids it."""
    at = memcg
    while at > 0:
        base = at * MEMCG_STRIDE
        if m.memcg[base + MC_SWAP_USAGE] + nr > m.memcg[base + MC_SWAP_MAX]:
            memcg_memory_event(m, at, MC_EVENT_SWAP_MAX)
            memcg_memory_event(m, at, MC_EVENT_SWAP_FAIL)
            return -ENOMEM
        at = m.memcg[base + MC_PARENT]
    uncharge_swap(m, memcg, -nr)
    return 0
