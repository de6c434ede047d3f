"""The hot loop: accesses of tasks through their page tables.

An event is one int64: kind | task << 4 | virtual page << 16 (kind 0 read, 1 write, 2 execute, 15 an operation for Python). A present page is
served here without any call; everything else is a fault. The loop comes back to Python for operations, samples, signals and kills only.
"""

import numpy as np

from mmlab._engine.tlb import watch_access
from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.likely import unlikely
from mmlab.kernels.ops import monitor_on_access, reclaimer_folio_accessed, tiering_page_accessed
from mmlab.kernels.pte import mapped_entry, walk_pmd
from mmlab.kernels.services import background, run_due_work
from mmlab.kernels.zones import page_node
from mmlab.mm.files import file_read, file_write
from mmlab.mm.memcontrol import resume_user_mode
from mmlab.mm.memory import do_user_addr_fault
from mmlab.model.rows import (
    COST_HIT, LOOP_RUNS, LOOP_STATE, LOOP_STRIDE, MM_ROOT, MM_STRIDE, NODE_STRIDE, N_ACCESSES, PTE_ACCESSED, PTE_DIRTY, PTE_HUGE,
    PTE_PRESENT, PTE_SHIFT, PTE_SPECIAL, PTE_WRITE, SC_CPU, SC_EVENT, SC_IDLE_NS, SC_KSWAPD_AWAKE, SC_NEEDS_FUTURE, SC_NEXT_EVENT_NS,
    SC_NEXT_SAMPLE_NS, SC_NODE, SC_NOW_NS, SC_NR_CPUS, SC_NR_NODES, SC_OOM_VICTIM, SC_PANIC, SC_TASK, SC_WANTS_ACCESS, TASK_STRIDE,
    TF_KILLED, T_CPU, T_FLAGS, T_MM, T_NODE, WANTS_MONITOR, WANTS_NODES, WANTS_RECLAIMER, WANTS_SUBPAGES, WANTS_TIERING, WANTS_TLB,
    WB_BALANCE,
)

# why the loop stopped, in m.sc[SC_EVENT]
STOP_DONE, STOP_OPERATION, STOP_SAMPLE, STOP_SIGNAL, STOP_KILL = 0, 1, 2, 3, 4


@leaf
def switch_task(m, task):
    """Make a task current on its CPU."""
    m.sc[SC_TASK] = task
    m.sc[SC_CPU] = m.task[task * TASK_STRIDE + T_CPU]
    m.sc[SC_NODE] = m.task[task * TASK_STRIDE + T_NODE]


@leaf
def fault_event(m, task, vpn, access):
    """A fault within a stream or a touch: 0 to go on, else why to stop (STOP_*)."""
    if unlikely(m.sc[SC_TASK] != task):
        switch_task(m, task)
    result = do_user_addr_fault(m, task, vpn, access)
    return_to_user(m, task)
    if result >= 0 and m.sc[SC_OOM_VICTIM] < 0 and m.sc[SC_PANIC] == 0:
        return 0
    killed = m.task[task * TASK_STRIDE + T_FLAGS] & TF_KILLED or m.sc[SC_PANIC]
    return STOP_SIGNAL if result < 0 and not killed else STOP_KILL


@kernel
def run_stream(m, words, start, stop):
    """Run the events [start, stop) of words (int64): the index of the first event not done; m.sc[SC_EVENT] says why it stopped.

    For policies that do not ask for accesses. Cost of a present page: four dependent loads and, if an accessed or dirty bit is new, a store.
    """
    hit_ns = m.cost[COST_HIT]
    pt = m.pt
    task = np.int64(-1)
    root = np.uint64(0)
    now = m.sc[SC_NOW_NS]
    next_event = m.sc[SC_NEXT_EVENT_NS]
    m.sc[SC_EVENT] = STOP_DONE
    for i in range(np.uint64(start), np.uint64(stop)):
        word = words[i]
        kind = word & 15
        if unlikely(kind > 2):
            m.sc[SC_NOW_NS] = now
            m.sc[SC_EVENT] = STOP_OPERATION
            return np.int64(i)
        if unlikely((word >> 4) & 4095 != task):
            task = (word >> 4) & 4095
            root = np.uint64(m.mm[m.task[task * TASK_STRIDE + T_MM] * MM_STRIDE + MM_ROOT] * 512)
        vpn = word >> 16
        write = np.int64(1) if kind == 1 else np.int64(0)
        need = PTE_PRESENT | (write << 1)
        slot = np.uint64(0)
        entry = pt[root + np.uint64((vpn >> 27) & 511)]
        if entry:
            entry = pt[np.uint64((entry >> PTE_SHIFT) * 512 + ((vpn >> 18) & 511))]
            if entry:
                slot = np.uint64((entry >> PTE_SHIFT) * 512 + ((vpn >> 9) & 511))
                entry = pt[slot]
                if entry and entry & PTE_HUGE == 0:
                    slot = np.uint64((entry >> PTE_SHIFT) * 512 + (vpn & 511))
                    entry = pt[slot]
        if unlikely(entry & need != need):
            m.sc[SC_NOW_NS] = now
            why = fault_event(m, task, vpn, kind)
            now = m.sc[SC_NOW_NS]
            next_event = m.sc[SC_NEXT_EVENT_NS]
            if why:
                m.sc[SC_EVENT] = why
                return np.int64(i) + 1
            if now >= m.sc[SC_NEXT_SAMPLE_NS]:
                m.sc[SC_EVENT] = STOP_SAMPLE
                return np.int64(i) + 1
            continue
        new = entry | PTE_ACCESSED | (write << 3)
        if new != entry:
            pt[slot] = new
        now += hit_ns
        if unlikely(now >= next_event):
            m.sc[SC_NOW_NS] = now
            if now >= m.sc[SC_NEXT_SAMPLE_NS]:
                m.sc[SC_EVENT] = STOP_SAMPLE
                return np.int64(i) + 1
            switch_task(m, task)
            background(m)
            now = m.sc[SC_NOW_NS]
            next_event = m.sc[SC_NEXT_EVENT_NS]
            if m.sc[SC_OOM_VICTIM] >= 0:
                m.sc[SC_EVENT] = STOP_KILL
                return np.int64(i) + 1
    m.sc[SC_NOW_NS] = now
    return stop


@leaf
def tell_policies(m, task, mm, vpn, kind, future):
    """After an access: what policies that asked for every access are told, and the time that slower memory takes."""
    wants = m.sc[SC_WANTS_ACCESS]
    if wants & (WANTS_RECLAIMER | WANTS_TIERING | WANTS_NODES) or m.sc[SC_NEEDS_FUTURE]:
        entry = mapped_entry(m, mm, vpn)
        if entry & PTE_PRESENT and entry & PTE_SPECIAL == 0:
            if entry & PTE_HUGE == 0:
                if m.sc[SC_NEEDS_FUTURE]:
                    m.next_use[entry >> PTE_SHIFT] = future
                if wants & WANTS_RECLAIMER:
                    reclaimer_folio_accessed(m, entry >> PTE_SHIFT)
            if wants & WANTS_NODES:
                node = page_node(m, entry >> PTE_SHIFT)
                m.node[node * NODE_STRIDE + N_ACCESSES] += 1
                m.sc[SC_NOW_NS] += m.node_extra[m.task[task * TASK_STRIDE + T_NODE] * m.sc[SC_NR_NODES] + node]
            if wants & WANTS_TIERING:
                tiering_page_accessed(m, task, entry >> PTE_SHIFT, kind)
    if wants & WANTS_MONITOR:
        monitor_on_access(m, task, vpn, kind)


@kernel
def run_stream_watched(m, words, future, start, stop):
    """run_stream() for policies that ask for every access; future[i] is the event number of the next access to the same page."""
    m.sc[SC_EVENT] = STOP_DONE
    i = start
    while i < stop:
        word = words[i]
        kind = word & 15
        if kind > 2:
            m.sc[SC_EVENT] = STOP_OPERATION
            return i
        task = (word >> 4) & 4095
        vpn = word >> 16
        mm = m.task[task * TASK_STRIDE + T_MM]
        why = touch_one(m, task, mm, vpn, kind)
        if why == 0:
            tell_policies(m, task, mm, vpn, kind, future[i])
        i += 1
        if why:
            m.sc[SC_EVENT] = why
            return i
        if m.sc[SC_NOW_NS] >= m.sc[SC_NEXT_SAMPLE_NS]:
            m.sc[SC_EVENT] = STOP_SAMPLE
            return i
    return stop


@leaf
def touch_one(m, task, mm, vpn, kind):
    """One access: 0, or why to stop."""
    write = 1 if kind == 1 else 0
    need = PTE_PRESENT | (PTE_WRITE if write else 0)
    slot = walk_pmd(m, mm, vpn) if vpn >= 0 and vpn < 1 << 36 else -1
    if slot >= 0:
        entry = m.pt[slot]
        if entry and entry & PTE_HUGE == 0:
            slot = (entry >> PTE_SHIFT) * 512 + (vpn & 511)
            entry = m.pt[slot]
        if entry & need == need:
            m.pt[slot] = entry | PTE_ACCESSED | (PTE_DIRTY if write else 0)
            m.sc[SC_NOW_NS] += m.cost[COST_HIT]
            if unlikely(m.sc[SC_WANTS_ACCESS] & (WANTS_TLB | WANTS_SUBPAGES) != 0):
                watch_access(m, task, mm, vpn, write, entry)
            if m.sc[SC_NOW_NS] >= m.sc[SC_NEXT_EVENT_NS]:
                switch_task(m, task)
                background(m)
                if m.sc[SC_OOM_VICTIM] >= 0:
                    return STOP_KILL
            return 0
    why = fault_event(m, task, vpn, kind)
    if unlikely(m.sc[SC_WANTS_ACCESS] & (WANTS_TLB | WANTS_SUBPAGES) != 0) and why == 0:
        entry = mapped_entry(m, mm, vpn)
        if entry & PTE_PRESENT:  # what is due after a fault may have taken it away again
            watch_access(m, task, mm, vpn, write, entry)
    return why


@kernel
def touch_range(m, task, vpn, count, stride, access):
    """Touch `count` pages from vpn, `stride` apart (negative: backwards): pages touched before a signal or kill; m.sc[SC_EVENT] says why it stopped."""
    m.sc[SC_EVENT] = STOP_DONE
    mm = m.task[task * TASK_STRIDE + T_MM]
    switch_task(m, task)
    for i in range(count):
        why = touch_one(m, task, mm, vpn, access)
        vpn += stride
        if why:
            m.sc[SC_EVENT] = why
            if why != STOP_KILL or m.task[task * TASK_STRIDE + T_FLAGS] & TF_KILLED or m.sc[SC_PANIC]:
                return i
            m.sc[SC_EVENT] = STOP_DONE
    return count


@kernel
def touch_pages(m, task, vpns, kinds, start, stop):
    """Touch the pages vpns[start:stop] (int64) as kinds says (int64, 0 read, 1 write): index of the first not touched."""
    m.sc[SC_EVENT] = STOP_DONE
    mm = m.task[task * TASK_STRIDE + T_MM]
    switch_task(m, task)
    for i in range(start, stop):
        why = touch_one(m, task, mm, vpns[i], kinds[i])
        if why:
            m.sc[SC_EVENT] = why
            if why != STOP_KILL or m.task[task * TASK_STRIDE + T_FLAGS] & TF_KILLED or m.sc[SC_PANIC]:
                return i
            m.sc[SC_EVENT] = STOP_DONE
    return stop


@kernel
def file_io(m, file, offset_bytes, length_bytes, call_bytes, write):
    """read() or write() again and again, call_bytes at a time, with background work in between: bytes done, or -errno if there are none.

    Reading ends at the end of the file.
    """
    done = 0
    while done < length_bytes:
        size = min(call_bytes, length_bytes - done)
        if write:
            got = file_write(m, file, offset_bytes + done, size)
        else:
            got = file_read(m, file, offset_bytes + done, size)
        return_to_user(m, m.sc[SC_TASK])
        if got < 0 and done == 0:
            return got
        if got <= 0:
            break
        done += got
        task = m.sc[SC_TASK]
        if task >= 0 and m.task[task * TASK_STRIDE + T_FLAGS] & TF_KILLED:
            break
    return done


@leaf
def return_to_user(m, task):
    """The end of a system call or fault: what memory.high asks of the task, and what is due by now."""
    resume_user_mode(m, task)
    if unlikely(m.sc[SC_NOW_NS] >= m.sc[SC_NEXT_EVENT_NS] or m.wb[WB_BALANCE]):
        run_due_work(m)


@leaf
def be_idle(m, until_ns):
    """The clock jumps to a later moment: no task wants a CPU before."""
    if until_ns > m.sc[SC_NOW_NS]:
        m.sc[SC_IDLE_NS] += until_ns - m.sc[SC_NOW_NS]
        m.sc[SC_NOW_NS] = until_ns


@kernel
def sleep_until(m, until_ns):
    """Nothing runs but background threads and loops until the clock reaches until_ns."""
    guard = 0
    m.sc[SC_TASK] = -1
    while m.sc[SC_NOW_NS] < until_ns and guard < 1 << 24:
        background(m)
        guard += 1
        if m.sc[SC_KSWAPD_AWAKE] > 0 and m.sc[SC_NR_CPUS] == 1:
            continue
        be_idle(m, min(until_ns, max(m.sc[SC_NEXT_EVENT_NS], m.sc[SC_NOW_NS] + 1)))
    return 0


@kernel
def wait_for_loop(m, task):
    """Let time pass until the task's loop has ended."""
    m.sc[SC_TASK] = -1
    while m.loop[task * LOOP_STRIDE + LOOP_STATE] == LOOP_RUNS:
        background(m)
        if m.loop[task * LOOP_STRIDE + LOOP_STATE] == LOOP_RUNS and (m.sc[SC_KSWAPD_AWAKE] == 0 or m.sc[SC_NR_CPUS] > 1):
            be_idle(m, m.sc[SC_NEXT_EVENT_NS])
    return 0
