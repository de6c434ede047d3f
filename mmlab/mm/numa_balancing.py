"""NUMA balancing: scans that make entries PROT_NONE, hinting faults, pages that follow the task that uses them, promotion to faster memory.

Models: mm/mempolicy.c vma_policy_mof(); kernel/sched/fair.c task_tick_numa(), task_numa_work(), task_numa_fault(), task_numa_placement(), update_task_scan_period(),
mm/memory.c do_numa_page(), numa_migrate_check(), numa_rebuild_large_mapping(); mm/huge_memory.c do_huge_pmd_numa_page(), change_huge_pmd();
mm/mprotect.c change_pte_range(); mm/migrate.c migrate_misplaced_folio(). Whether a page moves is the tiering slot's to say. Left out: groups of
tasks that share memory, moving a task to the node of its memory (tasks stay on the CPU they were given).

A page's last_cpupid (m.cpupid: 0 none, else 1 + cpu << 8 | pid & 255) holds on slow nodes, with memory tiering, 1 + the ms of its scan.
"""

import numpy as np

from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.memory_tiers import TICK_NS, jiffies_ms, node_has_room, node_is_toptier
from mmlab.kernels.ops import monitor_hint_fault, tiering_should_migrate, vma_index_find
from mmlab.kernels.large_folio import folio_likely_mapped_shared
from mmlab.kernels.pte import mm_rss, pte_offset, walk_pmd
from mmlab.kernels.services import migrate_folio, wake_kswapd
from mmlab.kernels.zones import page_node
from mmlab.mm.mempolicy import shared_policy_lookup
from mmlab.mm.migrate import alloc_migration_target, isolate_folio, putback_movable
from mmlab.model.const import HPAGE_PMD_NR, NUMA_BALANCING_MEMORY_TIERING, NUMA_BALANCING_NORMAL, WRITE
from mmlab.model.gfp import GFP_NOMEMALLOC, GFP_NORETRY, GFP_THISNODE, ZONE_MOVABLE
from mmlab.model.page import (
    KIND_FILE, PG_ANON, PG_ANON_EXCLUSIVE, PG_DIRTY, PG_HEAD, PG_SWAPBACKED, folio_nr_pages, page_folio, page_kind, page_order, page_test,
)
from mmlab.model.rows import (
    COST_FAULT, COST_NODE_IS_TOPTIER, COST_NUMA_SCAN, COST_PROT_NUMA, MM_NUMA_NEXT_SCAN_NS, MM_NUMA_SCAN_OFFSET, MM_NUMA_SCAN_SEQ, MM_STRIDE,
    NB_SCAN_DELAY, NB_SCAN_PERIOD_MAX, NB_SCAN_PERIOD_MIN, NB_SCAN_SIZE, NT_LOCALITY, NT_NODE_STAMP, NT_PREFERRED, NT_RUNTIME,
    NT_SCAN_PERIOD, NT_SCAN_PERIOD_MAX, NT_SCAN_SEQ, NT_STRIDE, PTE_ACCESSED, PTE_DIRTY, PTE_HUGE, PTE_PRESENT, PTE_PROTNONE, PTE_SHIFT,
    PTE_SPECIAL, PTE_WRITE, SC_NODE, SC_NOW_NS, SC_NR_NODES, SC_NUMA_BALANCING, SC_RUN_SINCE_NS, SC_SHARED_POLICIES, SC_TASK, T_MEMPOLICY,
    T_MEMS, T_MIN_FLT, T_MM, T_NODE, T_PID, TASK_STRIDE, VM_EXEC, VM_IO, VM_MIXEDMAP, VM_PFNMAP, VM_READ, VM_SHARED, VM_WRITE, VMA_END, VMA_FILE,
    VMA_FLAGS, VMA_INODE, VMA_NUMAB_NEXT_SCAN, VMA_NUMAB_PIDS, VMA_NUMAB_PIDS_OLD, VMA_NUMAB_PIDS_RESET, VMA_NUMAB_PREV_SEQ,
    VMA_NUMAB_START_SEQ, VMA_PGOFF, VMA_POLICY, VMA_START, VMA_STRIDE,
)
from mmlab.model.vmstat import (
    V_NUMA_HINT_FAULTS, V_NUMA_HINT_FAULTS_LOCAL, V_NUMA_HUGE_PTE_UPDATES, V_NUMA_PAGES_MIGRATED, V_NUMA_PTE_UPDATES, V_PGFAULT, V_PGMIGRATE_FAIL,
    V_PGPROMOTE_SUCCESS, V_THP_MIGRATION_FAIL, mod_node_state,
)

NS_PER_MS = 1_000_000
MAX_SCAN_WINDOW_MB = 2560
NUMA_PERIOD_SLOTS, NUMA_PERIOD_THRESHOLD = 10, 7
PAGES_PER_MB = 256


# time ------------------------------------------------------------------------------------------------------------------------------------------
@leaf
def task_nr_scan_windows(m, mm):
    """How many scans it takes to see all of a resident set."""
    pages = m.numab[NB_SCAN_SIZE] * PAGES_PER_MB
    return max(1, (mm_rss(m, mm) + pages - 1) // pages)


@leaf
def task_scan_min(m, mm):
    """The shortest scan period, in ms: the larger the resident set the shorter, but no more than 2560 MB a second are scanned."""
    size = m.numab[NB_SCAN_SIZE]
    windows = MAX_SCAN_WINDOW_MB // size if size < MAX_SCAN_WINDOW_MB else 1
    return max(1000 // windows, m.numab[NB_SCAN_PERIOD_MIN] // task_nr_scan_windows(m, mm))


@leaf
def task_scan_max(m, mm):
    """The longest, in ms."""
    return max(task_scan_min(m, mm), m.numab[NB_SCAN_PERIOD_MAX] // task_nr_scan_windows(m, mm))


@leaf
def account_runtime(m, task):
    """A task's run time goes on to now; it is counted from the last switch on."""
    m.numa_task[task * NT_STRIDE + NT_RUNTIME] += m.sc[SC_NOW_NS] - m.sc[SC_RUN_SINCE_NS]
    m.sc[SC_RUN_SINCE_NS] = m.sc[SC_NOW_NS]


@kernel
def task_tick_numa(m, task):
    """Service: the scheduler's tick of a running task. When it has run for a scan period, its address space may be scanned. Returns ns until
    the next tick that matters."""
    row = task * NT_STRIDE
    account_runtime(m, task)
    period_ns = m.numa_task[row + NT_SCAN_PERIOD] * NS_PER_MS
    if m.numa_task[row + NT_RUNTIME] > m.numa_task[row + NT_NODE_STAMP] + period_ns:
        mm = m.task[task * TASK_STRIDE + T_MM]
        if m.numa_task[row + NT_NODE_STAMP] == 0:
            m.numa_task[row + NT_SCAN_PERIOD] = task_scan_min(m, mm)
        m.numa_task[row + NT_NODE_STAMP] += period_ns
        if m.sc[SC_NOW_NS] >= m.mm[mm * MM_STRIDE + MM_NUMA_NEXT_SCAN_NS]:
            task_numa_work(m, task, mm)
    left = m.numa_task[row + NT_NODE_STAMP] + m.numa_task[row + NT_SCAN_PERIOD] * NS_PER_MS - m.numa_task[row + NT_RUNTIME]
    return max(TICK_NS, left)


# scanning --------------------------------------------------------------------------------------------------------------------------------------
@leaf
def vma_policy_mof(m, vma, task):
    """1 if pages of the VMA may follow their users: it, or the shared memory object behind it, has no policy of its own, nor has the task."""
    row = vma * VMA_STRIDE
    policy = m.vma[row + VMA_POLICY]
    if m.sc[SC_SHARED_POLICIES] and m.vma[row + VMA_INODE] >= 0:
        policy = shared_policy_lookup(m, m.vma[row + VMA_INODE], m.vma[row + VMA_PGOFF])
    return 1 if policy == 0 and m.task[task * TASK_STRIDE + T_MEMPOLICY] == 0 else 0


@leaf
def pid_bit(pid):
    """The task's bit in a VMA's set of those that faulted there. Models: hash_32(pid, 6)."""
    return 1 << min(62, ((pid * 0x61C88647) & 0xFFFFFFFF) >> 26)


@leaf
def scannable(m, vma, task):
    """1 for VMAs whose pages can move and where that may help: not those that all only read (shared libraries)."""
    flags = m.vma[vma * VMA_STRIDE + VMA_FLAGS]
    if flags & (VM_IO | VM_PFNMAP | VM_MIXEDMAP) or vma_policy_mof(m, vma, task) == 0:
        return 0
    if m.vma[vma * VMA_STRIDE + VMA_FILE] >= 0 and flags & (VM_READ | VM_WRITE) == VM_READ:
        return 0
    return 1 if flags & (VM_READ | VM_WRITE | VM_EXEC) else 0


@leaf
def vma_is_accessed(m, mm, vma, task):
    """1 if the task faulted there lately; the first two sequences, and a VMA left out for long, are scanned in any case."""
    row = vma * VMA_STRIDE
    seq = m.mm[mm * MM_STRIDE + MM_NUMA_SCAN_SEQ]
    if seq - m.vma[row + VMA_NUMAB_START_SEQ] < 2:
        return 1
    if (m.vma[row + VMA_NUMAB_PIDS] | m.vma[row + VMA_NUMAB_PIDS_OLD]) & pid_bit(m.task[task * TASK_STRIDE + T_PID]):
        return 1
    if m.mm[mm * MM_STRIDE + MM_NUMA_SCAN_OFFSET] > m.vma[row + VMA_START]:
        return 1
    return 1 if seq > m.vma[row + VMA_NUMAB_PREV_SEQ] + 1 else 0


@kernel
def change_prot_numa(m, mm, vma, start, end, node):
    """Make the entries of [start, end) (bytes) PROT_NONE that a hinting fault may teach something about: how many changed.

    Left as they are: the zero page, pages of top tiers unless mode 1 is on; and, but for huge entries, copy-on-write pages that others map too,
    dirty file pages, in a private VMA pages that are on the task's node already.
    """
    flags = m.vma[vma * VMA_STRIDE + VMA_FLAGS]
    mode = m.sc[SC_NUMA_BALANCING]
    changed = 0
    vpn = start >> 12
    while vpn < end >> 12:
        pmd = walk_pmd(m, mm, vpn)
        huge = pmd >= 0 and m.pt[pmd] & PTE_HUGE
        if pmd < 0 or m.pt[pmd] == 0:
            vpn = ((vpn >> 9) + 1) << 9 if pmd >= 0 else ((vpn >> 18) + 1) << 18
            continue
        slot = pmd if huge else pte_offset(m, pmd, vpn)
        vpn = ((vpn >> 9) + 1) << 9 if huge else vpn + 1
        entry = m.pt[slot]
        if entry & PTE_PRESENT == 0 or entry & PTE_SPECIAL:
            continue
        m.sc[SC_NOW_NS] += m.cost[COST_NUMA_SCAN]
        folio = page_folio(m, entry >> PTE_SHIFT)
        on = page_node(m, folio)
        if huge == 0 and flags & VM_SHARED == 0 and (on == node or folio_likely_mapped_shared(m, folio)):
            continue
        if page_kind(m, folio) == KIND_FILE and page_test(m, folio, PG_DIRTY):
            continue
        top = node_is_toptier(m, on)
        m.sc[SC_NOW_NS] += m.cost[COST_NODE_IS_TOPTIER]
        if top and mode & NUMA_BALANCING_NORMAL == 0:
            continue
        if mode & NUMA_BALANCING_MEMORY_TIERING:
            m.sc[SC_NOW_NS] += m.cost[COST_NODE_IS_TOPTIER]  # folio_use_access_time() asks again
        if top == 0 and mode & NUMA_BALANCING_MEMORY_TIERING:
            m.cpupid[folio] = jiffies_ms(m) + 1
        m.pt[slot] = (entry & ~(PTE_PRESENT | PTE_WRITE)) | PTE_PROTNONE
        m.sc[SC_NOW_NS] += m.cost[COST_PROT_NUMA]
        changed += HPAGE_PMD_NR if huge else 1
        m.vmstat[V_NUMA_HUGE_PTE_UPDATES] += 1 if huge else 0
    m.vmstat[V_NUMA_PTE_UPDATES] += changed
    return changed


@leaf
def reset_ptenuma_scan(m, mm):
    """The end of the address space: the next scan begins at its start."""
    m.mm[mm * MM_STRIDE + MM_NUMA_SCAN_SEQ] += 1
    m.mm[mm * MM_STRIDE + MM_NUMA_SCAN_OFFSET] = 0


@leaf
def init_numab(m, mm, vma):
    """The VMA is seen by a scan for the first time."""
    row = vma * VMA_STRIDE
    delay_ns = m.numab[NB_SCAN_DELAY] * NS_PER_MS
    m.vma[row + VMA_NUMAB_START_SEQ] = m.mm[mm * MM_STRIDE + MM_NUMA_SCAN_SEQ]
    m.vma[row + VMA_NUMAB_NEXT_SCAN] = m.sc[SC_NOW_NS] + delay_ns
    m.vma[row + VMA_NUMAB_PIDS_RESET] = m.sc[SC_NOW_NS] + 5 * delay_ns
    m.vma[row + VMA_NUMAB_PREV_SEQ] = m.mm[mm * MM_STRIDE + MM_NUMA_SCAN_SEQ] - 1
    m.vma[row + VMA_NUMAB_PIDS] = m.vma[row + VMA_NUMAB_PIDS_OLD] = 0


@leaf
def vma_due(m, mm, vma, task):
    """1 to scan the VMA now, 0 to pass it by, -1: passed by because the task does not use it."""
    row = vma * VMA_STRIDE
    seq = m.mm[mm * MM_STRIDE + MM_NUMA_SCAN_SEQ]
    if scannable(m, vma, task) == 0:
        return 0
    if m.vma[row + VMA_NUMAB_NEXT_SCAN] == 0:
        init_numab(m, mm, vma)
    if seq and m.sc[SC_NOW_NS] < m.vma[row + VMA_NUMAB_NEXT_SCAN]:
        return 0
    if seq and m.sc[SC_NOW_NS] > m.vma[row + VMA_NUMAB_PIDS_RESET]:
        m.vma[row + VMA_NUMAB_PIDS_RESET] += 4 * m.numab[NB_SCAN_DELAY] * NS_PER_MS
        m.vma[row + VMA_NUMAB_PIDS_OLD] = m.vma[row + VMA_NUMAB_PIDS]
        m.vma[row + VMA_NUMAB_PIDS] = 0
    if m.vma[row + VMA_NUMAB_PREV_SEQ] == seq:
        m.mm[mm * MM_STRIDE + MM_NUMA_SCAN_OFFSET] = m.vma[row + VMA_END]
        return 0
    return 1 if vma_is_accessed(m, mm, vma, task) else -1


@kernel
def scan_vmas(m, mm, task, forced):
    """Scan from where the last scan ended: up to scan_size of memory with entries to change, eight times that of addresses. forced: one VMA
    that the task does not use as well. Returns 1 if VMAs were left out because the task does not use them and none is left."""
    base = mm * MM_STRIDE
    pages = m.numab[NB_SCAN_SIZE] * PAGES_PER_MB
    virtpages = pages * 8
    node = m.task[task * TASK_STRIDE + T_NODE]
    start = m.mm[base + MM_NUMA_SCAN_OFFSET]
    vma = vma_index_find(m, mm, start)
    if vma < 0:
        reset_ptenuma_scan(m, mm)
        start = 0
        vma = vma_index_find(m, mm, 0)
    skipped = 0
    while vma >= 0:
        row = vma * VMA_STRIDE
        due = vma_due(m, mm, vma, task)
        if due < 0 and forced == 0:
            skipped = 1
        if due > 0 or (due < 0 and forced):
            start = max(start, m.vma[row + VMA_START])
            while True:
                end = min((start + (pages << 12) + (1 << 21) - 1) >> 21 << 21, m.vma[row + VMA_END])
                if change_prot_numa(m, mm, vma, start, end, node):
                    pages -= (end - start) >> 12
                virtpages -= (end - start) >> 12
                start = end
                if pages <= 0 or virtpages <= 0:
                    m.mm[base + MM_NUMA_SCAN_OFFSET] = start
                    return 0
                if end == m.vma[row + VMA_END]:
                    break
            m.vma[row + VMA_NUMAB_PREV_SEQ] = m.mm[base + MM_NUMA_SCAN_SEQ]
            if forced:
                m.mm[base + MM_NUMA_SCAN_OFFSET] = start
                return 0
        vma = vma_index_find(m, mm, m.vma[row + VMA_END])
    if skipped:
        return 1
    reset_ptenuma_scan(m, mm)
    return 0


@kernel
def task_numa_work(m, task, mm):
    """The scan that a tick asked for, in the task's own time. A task confined to one node is not scanned: nothing could move."""
    row = task * NT_STRIDE
    mems = m.task[task * TASK_STRIDE + T_MEMS]
    if mems and m.nodemask[mems - 1] & (m.nodemask[mems - 1] - 1) == 0:
        return 0
    m.mm[mm * MM_STRIDE + MM_NUMA_NEXT_SCAN_NS] = m.sc[SC_NOW_NS] + m.numa_task[row + NT_SCAN_PERIOD] * NS_PER_MS
    m.numa_task[row + NT_NODE_STAMP] += 2 * TICK_NS
    began = m.sc[SC_NOW_NS]
    if scan_vmas(m, mm, task, 0):
        scan_vmas(m, mm, task, 1)
    ticks = (m.sc[SC_NOW_NS] - began) // TICK_NS  # a scan begins with a tick, and only ticks tell how long it took
    period_ns = m.numa_task[row + NT_SCAN_PERIOD] * NS_PER_MS
    for tick in range(1, ticks + 1):  # a stamp that is periods behind (balancing was off) catches up by one at each
        if m.numa_task[row + NT_RUNTIME] + tick * TICK_NS > m.numa_task[row + NT_NODE_STAMP] + period_ns:
            m.numa_task[row + NT_NODE_STAMP] += period_ns
    m.numa_task[row + NT_NODE_STAMP] += 32 * ticks * TICK_NS  # it takes at most 3 % of a task's time
    account_runtime(m, task)
    return 0


# hinting faults ----------------------------------------------------------------------------------------------------------------------------------
@leaf
def migrate_misplaced_folio(m, vma, folio, source, node):
    """Move a folio to the node whose CPU uses it, if that has room: its new place, or -1."""
    if page_kind(m, folio) == KIND_FILE:
        if page_test(m, folio, PG_DIRTY) or (m.vma[vma * VMA_STRIDE + VMA_FLAGS] & VM_EXEC and folio_likely_mapped_shared(m, folio)):
            return -1
    tiering = m.sc[SC_NUMA_BALANCING] & NUMA_BALANCING_MEMORY_TIERING
    nr = folio_nr_pages(m, folio)
    if node_has_room(m, node, 2, nr, ZONE_MOVABLE) == 0:
        if tiering:
            wake_kswapd(m, node, page_order(m, folio) if nr > 1 else 0, ZONE_MOVABLE)
        return -1
    if isolate_folio(m, folio) == 0:
        return -1
    dst = alloc_migration_target(m, folio, GFP_THISNODE | GFP_NOMEMALLOC | GFP_NORETRY, node)
    if dst < 0:
        putback_movable(m, folio)
        m.vmstat[V_PGMIGRATE_FAIL] += nr
        m.vmstat[V_THP_MIGRATION_FAIL] += 1 if nr == HPAGE_PMD_NR else 0
        return -1
    migrate_folio(m, folio, dst)
    m.vmstat[V_NUMA_PAGES_MIGRATED] += nr
    if tiering:
        m.sc[SC_NOW_NS] += 4 * m.cost[COST_NODE_IS_TOPTIER]  # of both folios: folio_migrate_flags(), then to count promotions
    if tiering and node_is_toptier(m, source) == 0 and node_is_toptier(m, node):
        mod_node_state(m, node, V_PGPROMOTE_SUCCESS, nr)
    return dst


@leaf
def update_task_scan_period(m, task, mm, shared, private):
    """The next scan period: longer where faults teach nothing, memory is local, or moving fails; shorter while memory is far away."""
    row = task * NT_STRIDE
    remote, local = m.numa_task[row + NT_LOCALITY], m.numa_task[row + NT_LOCALITY + 1]
    period = m.numa_task[row + NT_SCAN_PERIOD]
    if local + shared == 0 or m.numa_task[row + NT_LOCALITY + 2]:
        m.numa_task[row + NT_SCAN_PERIOD] = min(m.numa_task[row + NT_SCAN_PERIOD_MAX], period * 2)
        m.mm[mm * MM_STRIDE + MM_NUMA_NEXT_SCAN_NS] = m.sc[SC_NOW_NS] + m.numa_task[row + NT_SCAN_PERIOD] * NS_PER_MS
        return
    slot = (period + NUMA_PERIOD_SLOTS - 1) // NUMA_PERIOD_SLOTS
    lr_ratio = local * NUMA_PERIOD_SLOTS // (local + remote)
    ps_ratio = private * NUMA_PERIOD_SLOTS // (private + shared)
    if ps_ratio >= NUMA_PERIOD_THRESHOLD:
        diff = max(1, ps_ratio - NUMA_PERIOD_THRESHOLD) * slot
    elif lr_ratio >= NUMA_PERIOD_THRESHOLD:
        diff = max(1, lr_ratio - NUMA_PERIOD_THRESHOLD) * slot
    else:
        diff = -(NUMA_PERIOD_THRESHOLD - max(lr_ratio, ps_ratio)) * slot
    m.numa_task[row + NT_SCAN_PERIOD] = min(max(period + diff, task_scan_min(m, mm)), task_scan_max(m, mm))
    for i in range(3):
        m.numa_task[row + NT_LOCALITY + i] = 0


@leaf
def task_numa_placement(m, task, mm):
    """Once a scan sequence: the node with most faults, older ones counting half, becomes the preferred one; the scan period is adapted."""
    row = task * NT_STRIDE
    seq = m.mm[mm * MM_STRIDE + MM_NUMA_SCAN_SEQ]
    if m.numa_task[row + NT_SCAN_SEQ] == seq:
        return
    m.numa_task[row + NT_SCAN_SEQ] = seq
    m.numa_task[row + NT_SCAN_PERIOD_MAX] = task_scan_max(m, mm)
    shared = private = most = 0
    best = -1
    for node in range(m.sc[SC_NR_NODES]):
        base = (task * m.sc[SC_NR_NODES] + node) * 4
        shared += m.numa_faults[base + 2]
        private += m.numa_faults[base + 3]
        for kind in range(2):
            m.numa_faults[base + kind] += m.numa_faults[base + 2 + kind] - m.numa_faults[base + kind] // 2
            m.numa_faults[base + 2 + kind] = 0
        if m.numa_faults[base] + m.numa_faults[base + 1] > most:
            most = m.numa_faults[base] + m.numa_faults[base + 1]
            best = node
    if best >= 0:
        m.numa_task[row + NT_PREFERRED] = best + 1
    update_task_scan_period(m, task, mm, shared, private)


@leaf
def task_numa_fault(m, task, mm, last, node, nr, local, failed):
    """Count a hinting fault on a folio of nr pages: its node, whether it was the same task as the last time, whether the folio was local."""
    if node_is_toptier(m, node) == 0 and (m.sc[SC_NUMA_BALANCING] & NUMA_BALANCING_MEMORY_TIERING or last == 0):
        return
    private = 1 if last == 0 or (last - 1) & 255 == m.task[task * TASK_STRIDE + T_PID] & 255 else 0
    task_numa_placement(m, task, mm)
    if failed:
        m.numa_task[task * NT_STRIDE + NT_LOCALITY + 2] += nr
    m.numa_faults[(task * m.sc[SC_NR_NODES] + node) * 4 + 2 + private] += nr
    m.numa_task[task * NT_STRIDE + NT_LOCALITY + local] += nr


@leaf
def made_present(m, entry, flags):
    """The entry as it was before the scan: writable if the VMA is and no write to the page needs to be noticed."""
    entry = (entry & ~PTE_PROTNONE) | PTE_PRESENT | PTE_ACCESSED
    if flags & VM_WRITE == 0 or entry & PTE_SPECIAL:
        return entry
    pfn = entry >> PTE_SHIFT
    if flags & VM_SHARED:
        return entry | PTE_WRITE if entry & PTE_DIRTY or page_test(m, pfn, PG_SWAPBACKED) else entry
    return entry | PTE_WRITE if page_test(m, pfn, PG_ANON) and page_test(m, pfn, PG_ANON_EXCLUSIVE) else entry


@leaf
def rebuild_mapping(m, vma, vpn, slot, folio):
    """Entries are as they were before the scan: the huge one, or all that map the faulting page's folio in its VMA and table."""
    row = vma * VMA_STRIDE
    flags = m.vma[row + VMA_FLAGS]
    entry = m.pt[slot]
    if entry & PTE_HUGE or entry & PTE_SPECIAL or page_test(m, folio, PG_HEAD) == 0:
        m.pt[slot] = made_present(m, entry, flags)
        return
    ahead = vpn - ((entry >> PTE_SHIFT) - folio)
    first = max(ahead, vpn >> 9 << 9, m.vma[row + VMA_START] >> 12)
    last = min(ahead + folio_nr_pages(m, folio), ((vpn >> 9) + 1) << 9, m.vma[row + VMA_END] >> 12)
    for at in range(first, last):
        entry = m.pt[slot + at - vpn]
        if entry & PTE_PROTNONE and entry & PTE_SPECIAL == 0 and page_folio(m, entry >> PTE_SHIFT) == folio:
            m.pt[slot + at - vpn] = made_present(m, entry, flags)


@kernel
def do_numa_page(m, mm, vma, vpn, slot, access):
    """Service: a fault on an entry, huge or not, that a scan made PROT_NONE. The folio may move to the task's node; the entry is present
    afterwards.

    One that moved is mapped as the VMA's protection says, which is read-only unless it is shared memory: a write faults once more, which
    is counted here and left to the caller."""
    task, node = m.sc[SC_TASK], m.sc[SC_NODE]
    entry = m.pt[slot]
    folio = -1 if entry & PTE_SPECIAL else page_folio(m, entry >> PTE_SHIFT)
    if folio >= 0 and task >= 0:
        monitor_hint_fault(m, task, vpn, entry >> PTE_SHIFT)
    if folio < 0 or task < 0 or m.sc[SC_NUMA_BALANCING] == 0:
        rebuild_mapping(m, vma, vpn, slot, folio)
        return 0
    source, nr = page_node(m, folio), folio_nr_pages(m, folio)
    tiering = m.sc[SC_NUMA_BALANCING] & NUMA_BALANCING_MEMORY_TIERING and node_is_toptier(m, source) == 0
    last = 0 if tiering else np.int64(m.cpupid[folio])
    m.vma[vma * VMA_STRIDE + VMA_NUMAB_PIDS] |= pid_bit(m.task[task * TASK_STRIDE + T_PID])
    m.vmstat[V_NUMA_HINT_FAULTS] += 1
    if m.sc[SC_NUMA_BALANCING] & NUMA_BALANCING_MEMORY_TIERING:
        m.sc[SC_NOW_NS] += 2 * m.cost[COST_NODE_IS_TOPTIER]  # numa_migrate_check(), should_numa_migrate_memory()
    local = 1 if source == node else 0
    m.vmstat[V_NUMA_HINT_FAULTS_LOCAL] += local
    dst = -1
    failed = 0
    if local == 0 and vma_policy_mof(m, vma, task) and tiering_should_migrate(m, task, folio, source, node):
        dst = migrate_misplaced_folio(m, vma, folio, source, node)
        failed = 1 if dst < 0 else 0
    if dst < 0:
        rebuild_mapping(m, vma, vpn, slot, folio)
    task_numa_fault(m, task, mm, last, node if dst >= 0 else source, nr, local, failed)
    if access == WRITE and m.pt[slot] & PTE_WRITE == 0:
        m.sc[SC_NOW_NS] += m.cost[COST_FAULT]
        m.vmstat[V_PGFAULT] += 1
        m.task[task * TASK_STRIDE + T_MIN_FLT] += 1
    return 0
