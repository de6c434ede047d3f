"""Tasks and address spaces: making, copying, tearing down; the OOM killer's hand.

Models: kernel/fork.c mm_init(), dup_mmap(); mm/mmap.c exit_mmap(); mm/oom_kill.c out_of_memory(), oom_kill_process().
"""

from mmlab.kernels.jit import cold, kernel, leaf
from mmlab.kernels.memcg import memcg_is_descendant
from mmlab.kernels.ops import (
    fault_handler_copy_page_range, oom_policy_candidate_score, oom_policy_oom_score, oom_policy_select_victim, vma_index_destroy_mm,
    vma_index_find, vma_index_init_mm,
)
from mmlab.kernels.services import alloc_pages, free_pages, zap_range
from mmlab.kernels.zones import page_node
from mmlab.mm.huge_memory import khugepaged_enter_mm
from mmlab.mm.mmap import vm_enough_memory
from mmlab.mm.objcg import alloc_object, free_object
from mmlab.mm.page_counter import memcg_memory_event
from mmlab.mm.page_writeback import DIRTY_POLL_THRESH
from mmlab.mm.pgtable import free_pgtables, pgd_alloc, pgd_free
from mmlab.mm.rmap import anon_vma_fork
from mmlab.mm.swap import lru_lazyfree_drain
from mmlab.mm.vma import vm_area_alloc, vm_area_free, vm_stat_account, vma_link, vma_unlink
from mmlab.model.const import ENOMEM, TASK_SIZE
from mmlab.model.gfp import GFP_KERNEL_ACCOUNT
from mmlab.model.layout import KILL_STRIDE
from mmlab.model.page import KIND_KERNEL, set_page_counts, set_page_kind
from mmlab.model.rows import (
    CACHE_MM_STRUCT, CACHE_TASK_STRUCT, COST_OOM_KILL, COST_SYSCALL, MC_EVENT_OOM_GROUP_KILL, MC_EVENT_OOM_KILL, MC_OOM_GROUP, MC_PARENT,
    MEMCG_STRIDE, MM_BRK, MM_DATA_VM, MM_DEF_FLAGS, MM_END_CODE, MM_EXEC_VM, MM_HIWATER_RSS, MM_HIWATER_VM, MM_KHUGEPAGED, MM_MMAP_BASE,
    MM_NUMA_NEXT_SCAN_NS, MM_OBJ, MM_OWNER, MM_PGTABLES_BYTES, MM_RLIMIT_AS, MM_RLIMIT_DATA, MM_RLIMIT_MEMLOCK, MM_RLIMIT_STACK,
    MM_RSS_ANON, MM_RSS_FILE, MM_RSS_SHMEM, MM_STACK_VM, MM_START_BRK, MM_START_CODE, MM_STRIDE, MM_SWAPENTS, MM_TOTAL_VM, MM_USERS, NB_SCAN_DELAY,
    NT_SCAN_PERIOD, NT_STRIDE, OC_ADJ, OC_KILL, OC_OOM_SCORE, OC_RSS, OC_SCORE, OC_STRIDE, OC_SWAP, OC_TASK, OOM_DEAD, OOM_DYING,
    OOM_ELSEWHERE, OOM_FINE, OOM_NO_CANDIDATE, OOM_NO_TASK, OOM_PROTECTED, OOM_USER_SPACE, RLIM_INFINITY, SC_COMMITTED_AS, SC_CPU,
    SC_NOW_NS, SC_NR_CANDIDATES, SC_NR_KILLS, SC_NR_TASKS, SC_OOM_CHOSEN, SC_OOM_FAULT, SC_OOM_MEMCG, SC_OOM_NODEMASK, SC_OOM_VICTIM,
    SC_PANIC, SC_PID_NEXT, SC_TASK, TASK_STRIDE, TF_KILLED, TF_OOM_VICTIM, T_ALIVE, T_CMAJ_FLT, T_CMIN_FLT, T_CPU, T_FLAGS, T_IL_PREV,
    T_IL_WEIGHT, T_MAJ_FLT, T_MEMCG, T_MEMPOLICY, T_MEMS, T_MIN_FLT, T_MM, T_NR_DIRTIED_PAUSE, T_OBJ, T_OOM_SCORE_ADJ, T_PARENT, T_PID,
    T_SIGNAL, T_STACK_PFN, T_START_NS, VMA_END, VMA_FILE, VMA_FLAGS, VMA_INODE, VMA_NAME, VMA_PGOFF, VMA_POLICY, VMA_START, VMA_STRIDE,
    VM_ACCOUNT, VM_DONTCOPY, VM_LOCKED, VM_LOCKONFAULT, KILL_BY_SYSRQ, KILL_BY_USER_SPACE, SC_PANIC_ON_OOM, PANIC_DEADLOCKED, PANIC_FAULT,
    PANIC_ON_OOM,
)
from mmlab.model.vmstat import V_NR_KERNEL_STACK, V_OOM_KILL, mod_node_state

MMAP_BASE = 0x7FFFF7FFF000  # TASK_SIZE less 128 MiB, as without randomisation
OOM_SCORE_ADJ_MIN = -1000
STACK_ORDER = 2  # 16 KiB kernel stacks


@kernel
def mm_alloc(m, mm):
    """An empty address space in row mm: 0, or -ENOMEM."""
    obj = alloc_object(m, CACHE_MM_STRUCT)
    if obj < 0:
        return -ENOMEM
    base = mm * MM_STRIDE
    for field in range(MM_STRIDE):
        m.mm[base + field] = 0
    m.mm[base + MM_OBJ] = obj
    m.mm[base + MM_USERS] = 1
    m.mm[base + MM_MMAP_BASE] = MMAP_BASE
    m.mm[base + MM_NUMA_NEXT_SCAN_NS] = m.sc[SC_NOW_NS] + m.numab[NB_SCAN_DELAY] * 1_000_000
    m.mm[base + MM_RLIMIT_STACK] = 8 << 20
    m.mm[base + MM_RLIMIT_AS] = m.mm[base + MM_RLIMIT_DATA] = m.mm[base + MM_RLIMIT_MEMLOCK] = RLIM_INFINITY
    if pgd_alloc(m, mm) < 0:
        free_object(m, CACHE_MM_STRUCT, obj)
        m.mm[base + MM_USERS] = 0
        return -ENOMEM
    if vma_index_init_mm(m, mm) < 0:
        pgd_free(m, mm)
        free_object(m, CACHE_MM_STRUCT, obj)
        m.mm[base + MM_USERS] = 0
        return -ENOMEM
    return 0


@kernel
def task_alloc(m, cpu, oom_score_adj, parent):
    """A task with its kernel stack and an empty address space (row of mm = row of task): the task, or -ENOMEM."""
    task = m.sc[SC_NR_TASKS]
    obj = alloc_object(m, CACHE_TASK_STRUCT)
    if obj < 0:
        return -ENOMEM
    stack = alloc_pages(m, GFP_KERNEL_ACCOUNT, STACK_ORDER, -1)
    if stack < 0:
        free_object(m, CACHE_TASK_STRUCT, obj)
        return -ENOMEM
    if mm_alloc(m, task) < 0:
        free_object(m, CACHE_TASK_STRUCT, obj)
        free_pages(m, stack, STACK_ORDER)
        return -ENOMEM
    set_page_counts(m, stack, 0, 1)
    set_page_kind(m, stack, KIND_KERNEL)
    mod_node_state(m, page_node(m, stack), V_NR_KERNEL_STACK, 16)
    row = task * TASK_STRIDE
    for field in range(TASK_STRIDE):
        m.task[row + field] = 0
    for field in range(NT_STRIDE):
        m.numa_task[task * NT_STRIDE + field] = 0
    m.numa_task[task * NT_STRIDE + NT_SCAN_PERIOD] = m.numab[NB_SCAN_DELAY]
    m.task[row + T_PID] = m.sc[SC_PID_NEXT]
    m.sc[SC_PID_NEXT] += 1
    m.task[row + T_MM] = task
    m.task[row + T_CPU] = cpu
    m.task[row + T_ALIVE] = 1
    m.task[row + T_OOM_SCORE_ADJ] = oom_score_adj
    m.task[row + T_PARENT] = parent
    m.task[row + T_NR_DIRTIED_PAUSE] = DIRTY_POLL_THRESH
    m.task[row + T_OBJ] = obj
    m.task[row + T_STACK_PFN] = stack
    m.task[row + T_START_NS] = m.sc[SC_NOW_NS]
    m.mm[task * MM_STRIDE + MM_OWNER] = task
    m.sc[SC_NR_TASKS] += 1
    return task


@kernel
def sys_fork(m, parent):
    """fork(2): the child task, or -ENOMEM. VMAs in address order; DONTFORK ones are left out."""
    m.sc[SC_NOW_NS] += m.cost[COST_SYSCALL]
    row = parent * TASK_STRIDE
    child = task_alloc(m, m.task[row + T_CPU], m.task[row + T_OOM_SCORE_ADJ], parent)
    if child < 0:
        return -ENOMEM
    for field in (T_MEMCG, T_MEMPOLICY, T_IL_PREV, T_IL_WEIGHT, T_MEMS):
        m.task[child * TASK_STRIDE + field] = m.task[row + field]
    old, new = m.task[row + T_MM], child
    for field in range(MM_MMAP_BASE, MM_DEF_FLAGS):
        m.mm[new * MM_STRIDE + field] = m.mm[old * MM_STRIDE + field]
    m.mm[new * MM_STRIDE + MM_START_BRK] = m.mm[old * MM_STRIDE + MM_START_BRK]
    m.mm[new * MM_STRIDE + MM_BRK] = m.mm[old * MM_STRIDE + MM_BRK]
    for field in (MM_TOTAL_VM, MM_DATA_VM, MM_STACK_VM, MM_EXEC_VM, MM_START_CODE, MM_END_CODE):
        m.mm[new * MM_STRIDE + field] = m.mm[old * MM_STRIDE + field]
    if m.mm[old * MM_STRIDE + MM_KHUGEPAGED]:
        khugepaged_enter_mm(m, new)
    vma = vma_index_find(m, old, 0)
    while vma >= 0:
        src = vma * VMA_STRIDE
        end = m.vma[src + VMA_END]
        if m.vma[src + VMA_FLAGS] & VM_DONTCOPY:
            vm_stat_account(m, new, m.vma[src + VMA_FLAGS], (m.vma[src + VMA_START] - end) >> 12)
        elif _dup_vma(m, old, new, vma) < 0:
            exit_mm(m, child)
            m.task[child * TASK_STRIDE + T_ALIVE] = 0
            return -ENOMEM
        vma = vma_index_find(m, old, end)
    m.mm[new * MM_STRIDE + MM_HIWATER_VM] = m.mm[new * MM_STRIDE + MM_TOTAL_VM]
    m.mm[new * MM_STRIDE + MM_HIWATER_RSS] = m.mm[new * MM_STRIDE + MM_RSS_ANON] + m.mm[new * MM_STRIDE + MM_RSS_FILE] + m.mm[new * MM_STRIDE + MM_RSS_SHMEM]
    return child


@kernel
def _dup_vma(m, old_mm, new_mm, vma):
    src = vma * VMA_STRIDE
    if m.vma[src + VMA_FLAGS] & VM_ACCOUNT and vm_enough_memory(m, old_mm, (m.vma[src + VMA_END] - m.vma[src + VMA_START]) >> 12) < 0:
        return -ENOMEM
    copy = vm_area_alloc(m, new_mm)
    if copy < 0:
        return -ENOMEM
    dst = copy * VMA_STRIDE
    for field in (VMA_START, VMA_END, VMA_PGOFF, VMA_FILE, VMA_INODE, VMA_NAME, VMA_POLICY):
        m.vma[dst + field] = m.vma[src + field]
    m.vma[dst + VMA_FLAGS] = m.vma[src + VMA_FLAGS] & ~(VM_LOCKED | VM_LOCKONFAULT)
    if anon_vma_fork(m, copy, vma) < 0:
        vm_area_free(m, copy)
        return -ENOMEM
    if vma_link(m, copy) < 0:
        return -ENOMEM
    return fault_handler_copy_page_range(m, new_mm, old_mm, copy, vma)


@kernel
def exit_mm(m, task):
    """Tear down a task's address space: pages, tables, VMAs."""
    mm = m.task[task * TASK_STRIDE + T_MM]
    if m.mm[mm * MM_STRIDE + MM_USERS] == 0:
        return 0
    lru_lazyfree_drain(m, m.sc[SC_CPU])
    vma = vma_index_find(m, mm, 0)
    while vma >= 0:
        row = vma * VMA_STRIDE
        end = m.vma[row + VMA_END]
        zap_range(m, mm, vma, m.vma[row + VMA_START] >> 12, end >> 12)
        if m.vma[row + VMA_FLAGS] & VM_ACCOUNT:
            m.sc[SC_COMMITTED_AS] -= (end - m.vma[row + VMA_START]) >> 12
        vma_unlink(m, vma)
        vma = vma_index_find(m, mm, end)
    free_pgtables(m, mm, 0, (TASK_SIZE >> 12) + 1, 0, 1 << 36)
    vma_index_destroy_mm(m, mm)
    pgd_free(m, mm)
    free_object(m, CACHE_MM_STRUCT, m.mm[mm * MM_STRIDE + MM_OBJ])
    m.mm[mm * MM_STRIDE + MM_USERS] = 0
    return 0


@kernel
def do_exit(m, task, signal):
    """End a task: its memory goes, its faults are added to its parent's children's."""
    row = task * TASK_STRIDE
    if m.task[row + T_ALIVE] == 0:
        return 0
    exit_mm(m, task)
    m.task[row + T_ALIVE] = 0
    m.task[row + T_SIGNAL] = signal
    parent = m.task[row + T_PARENT]
    if parent >= 0:
        m.task[parent * TASK_STRIDE + T_CMIN_FLT] += m.task[row + T_MIN_FLT]
        m.task[parent * TASK_STRIDE + T_CMAJ_FLT] += m.task[row + T_MAJ_FLT]
    mod_node_state(m, page_node(m, m.task[row + T_STACK_PFN]), V_NR_KERNEL_STACK, -16)
    free_pages(m, m.task[row + T_STACK_PFN], STACK_ORDER)
    free_object(m, CACHE_TASK_STRUCT, m.task[row + T_OBJ])
    return 0


@leaf
def _log_kill(m, victim, order):
    if (m.sc[SC_NR_KILLS] + 1) * KILL_STRIDE <= len(m.kill):
        at = m.sc[SC_NR_KILLS] * KILL_STRIDE
        base = m.task[victim * TASK_STRIDE + T_MM] * MM_STRIDE
        m.kill[at] = victim
        m.kill[at + 1] = m.mm[base + MM_TOTAL_VM]
        m.kill[at + 2] = m.mm[base + MM_RSS_ANON]
        m.kill[at + 3] = m.mm[base + MM_RSS_FILE]
        m.kill[at + 4] = m.mm[base + MM_RSS_SHMEM]
        m.kill[at + 5] = m.mm[base + MM_PGTABLES_BYTES]
        m.kill[at + 6] = m.task[victim * TASK_STRIDE + T_OOM_SCORE_ADJ]
        m.kill[at + 7] = order
        m.kill[at + 8] = m.sc[SC_OOM_MEMCG]
        m.kill[at + 9] = m.sc[SC_OOM_NODEMASK]
        m.kill[at + 10] = m.task[m.sc[SC_TASK] * TASK_STRIDE + T_MEMS] if m.sc[SC_TASK] >= 0 else 0
        m.kill[at + 11] = m.sc[SC_TASK]
        m.kill[at + 12] = m.sc[SC_NOW_NS]
        m.sc[SC_NR_KILLS] += 1


@kernel
def oom_kill_process(m, victim, task, order):
    """One task dies. Its memory goes at once, unless it is the one that asks."""
    row = victim * TASK_STRIDE
    m.vmstat[V_OOM_KILL] += 1
    memcg_memory_event(m, m.task[row + T_MEMCG], MC_EVENT_OOM_KILL)
    m.sc[SC_NOW_NS] += m.cost[COST_OOM_KILL]
    m.sc[SC_OOM_VICTIM] = victim
    _log_kill(m, victim, order)
    m.task[row + T_FLAGS] |= TF_OOM_VICTIM | TF_KILLED
    m.task[row + T_SIGNAL] = 9


@leaf
def oom_group(m, memcg):
    """The highest cgroup with memory.oom.group, from the victim's up to the one that is out of memory; 0: none."""
    group = 0
    at = memcg
    while at > 0:
        if m.memcg[at * MEMCG_STRIDE + MC_OOM_GROUP]:
            group = at
        if at == m.sc[SC_OOM_MEMCG]:
            break
        at = m.memcg[at * MEMCG_STRIDE + MC_PARENT]
    return group


@leaf
def _why_not(m, victim):
    """What forbids killing a task: OOM_*."""
    if victim < 0 or victim >= m.sc[SC_NR_TASKS]:
        return OOM_NO_TASK
    row = victim * TASK_STRIDE
    if m.task[row + T_ALIVE] == 0 or m.task[row + T_MM] < 0:
        return OOM_DEAD
    if m.task[row + T_FLAGS] & (TF_KILLED | TF_OOM_VICTIM):
        return OOM_DYING
    if m.task[row + T_OOM_SCORE_ADJ] == OOM_SCORE_ADJ_MIN:
        return OOM_PROTECTED
    return OOM_FINE if memcg_is_descendant(m, m.task[row + T_MEMCG], m.sc[SC_OOM_MEMCG]) else OOM_ELSEWHERE


@cold
def accept_victim(m, victim, asker):
    """Before a kill: the scores of all candidates are noted. 1, or 0 if the policy has chosen one who cannot be killed: the run ends."""
    for task in range(m.sc[SC_NR_TASKS]):
        row, at = task * TASK_STRIDE, m.sc[SC_NR_CANDIDATES] * OC_STRIDE
        if m.task[row + T_ALIVE] == 0 or m.task[row + T_MM] < 0 or at + OC_STRIDE > len(m.oom_candidate):
            continue
        score = oom_policy_candidate_score(m, task, asker)
        if score == OOM_NO_CANDIDATE:
            continue
        mm = m.task[row + T_MM] * MM_STRIDE
        m.oom_candidate[at + OC_KILL] = m.sc[SC_NR_KILLS]
        m.oom_candidate[at + OC_TASK] = task
        m.oom_candidate[at + OC_SCORE] = score
        m.oom_candidate[at + OC_OOM_SCORE] = oom_policy_oom_score(m, task)
        m.oom_candidate[at + OC_RSS] = m.mm[mm + MM_RSS_ANON] + m.mm[mm + MM_RSS_FILE] + m.mm[mm + MM_RSS_SHMEM]
        m.oom_candidate[at + OC_SWAP] = m.mm[mm + MM_SWAPENTS]
        m.oom_candidate[at + OC_ADJ] = m.task[row + T_OOM_SCORE_ADJ]
        m.sc[SC_NR_CANDIDATES] += 1
    why = _why_not(m, victim)
    if why == OOM_FINE:
        return 1
    m.sc[SC_OOM_FAULT] = why
    m.sc[SC_OOM_CHOSEN] = victim
    m.sc[SC_OOM_VICTIM] = 0  # Python looks
    m.sc[SC_PANIC] = PANIC_FAULT
    return 0


@kernel
def do_oom_kill(m, victim):
    """Service oom_kill: a killer in user space ends a task; 1 if it is gone, or will be when it returns from the kernel. It counts nowhere."""
    if accept_victim(m, victim, OOM_USER_SPACE) == 0:
        return 0
    m.sc[SC_OOM_VICTIM] = victim
    _log_kill(m, victim, KILL_BY_USER_SPACE)
    m.task[victim * TASK_STRIDE + T_FLAGS] |= TF_KILLED
    m.task[victim * TASK_STRIDE + T_SIGNAL] = 9
    if victim != m.sc[SC_TASK]:
        do_exit(m, victim, 9)
    return 1


@leaf
def check_panic_on_oom(m):
    """1 if vm.panic_on_oom forbids to go on: 2 always, 1 where neither a cgroup nor a set of nodes confines the request."""
    if m.sc[SC_PANIC_ON_OOM] == 0:
        return 0
    confined = m.sc[SC_OOM_MEMCG] > 0 or (m.sc[SC_OOM_NODEMASK] > 0 and m.nodemask[m.sc[SC_OOM_NODEMASK] - 1] != 0)
    return 0 if m.sc[SC_PANIC_ON_OOM] == 1 and confined else 1


@kernel
def moom(m):
    """SysRq f: the OOM killer without anybody who asks for memory; 1 if it killed somebody. vm.panic_on_oom = 1 does not count, nor is there a
    panic if nobody can be killed. Models: drivers/tty/sysrq.c moom_callback()."""
    current, mode = m.sc[SC_TASK], m.sc[SC_PANIC_ON_OOM]
    m.sc[SC_TASK] = -1
    m.sc[SC_PANIC_ON_OOM] = 0 if mode == 1 else mode
    killed = do_out_of_memory(m, -1, KILL_BY_SYSRQ)
    m.sc[SC_TASK], m.sc[SC_PANIC_ON_OOM] = current, mode
    if m.sc[SC_PANIC] == PANIC_DEADLOCKED:
        m.sc[SC_PANIC] = 0
    return killed


@kernel
def do_out_of_memory(m, task, order):
    """Service out_of_memory: kill whom the policy names, in m.sc[SC_OOM_MEMCG] if that is set; 1 if memory may come free.

    A policy that names one who cannot be killed stops the run (m.sc[SC_OOM_FAULT]).

    With memory.oom.group the victim is killed first, then all of its group, itself once more: so the kernel counts. Memory of a victim that did
    not ask goes at once, since a task of the simulator is never stuck: oom_reaper, which waits two seconds for that, finds nothing to do.
    """
    if check_panic_on_oom(m):
        m.sc[SC_PANIC] = PANIC_ON_OOM
        return 0
    victim = oom_policy_select_victim(m, task, max(order, 0))
    if victim < 0:
        m.sc[SC_PANIC] = PANIC_DEADLOCKED if m.sc[SC_OOM_MEMCG] == 0 else 0
        return 0
    if accept_victim(m, victim, task) == 0:
        return 0
    group = oom_group(m, m.task[victim * TASK_STRIDE + T_MEMCG])
    oom_kill_process(m, victim, task, order)
    if group:
        memcg_memory_event(m, group, MC_EVENT_OOM_GROUP_KILL)
        for member in range(m.sc[SC_NR_TASKS]):
            row = member * TASK_STRIDE
            exempt = m.task[row + T_OOM_SCORE_ADJ] == OOM_SCORE_ADJ_MIN or m.task[row + T_ALIVE] == 0
            if not exempt and memcg_is_descendant(m, m.task[row + T_MEMCG], group):
                oom_kill_process(m, member, task, order)
                if member != task and member != victim:
                    do_exit(m, member, 9)
    if victim != task:
        do_exit(m, victim, 9)
    return 1
