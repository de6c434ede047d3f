"""Memory cgroups (v2): limits, protection, what happens over memory.high and at memory.max.

Models: mm/memcontrol.c try_charge_memcg(), consume_stock(), refill_stock(), drain_all_stock(), mem_cgroup_handle_over_high(),
calculate_high_delay(), mem_cgroup_oom(), memory_reclaim(), memory_max_write(), memory_high_write(). Left out: cgroup v1, moving charges,
zswap and swap.high limits.
"""

from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.likely import unlikely
from mmlab.kernels.memcg import memcg_is_descendant
from mmlab.kernels.services import handle_over_high, lru_add_drain_all, out_of_memory
from mmlab.mm.page_counter import memcg_memory_event, over_limit, page_counter_charge
from mmlab.mm.psi import psi_memstall_enter, psi_memstall_leave
from mmlab.mm.vmscan import try_to_free_mem_cgroup_pages
from mmlab.model.const import EAGAIN, ENOMEM, HZ, SWAP_CLUSTER_MAX
from mmlab.model.gfp import GFP_DIRECT_RECLAIM, GFP_HIGH, GFP_NOFAIL, GFP_NORETRY, GFP_RETRY_MAYFAIL
from mmlab.model.rows import (
    MC_EVENT_HIGH, MC_EVENT_MAX, MC_EVENT_OOM, MC_HIGH, MC_MAX, MC_PARENT, MC_USAGE, MEMCG_STRIDE, SC_CPU, SC_IN_RECLAIM, SC_NOW_NS,
    SC_NR_CPUS, SC_OOM_MEMCG, SC_TASK, STOCK_STRIDE, TASK_STRIDE, TF_KILLED, TF_OOM_VICTIM, T_FLAGS, T_MEMCG, T_OVER_HIGH,
)

MEMCG_CHARGE_BATCH = 64
MAX_RECLAIM_RETRIES = 16
COSTLY_PAGES = 8
MEMCG_MAX_HIGH_DELAY_JIFFIES = 2 * HZ
MEMCG_DELAY_PRECISION_SHIFT, MEMCG_DELAY_SCALING_SHIFT = 20, 14


@leaf
def consume_stock(m, memcg, nr_pages):
    """1 if this CPU's stock of the cgroup had the pages."""
    base = m.sc[SC_CPU] * STOCK_STRIDE
    if nr_pages > MEMCG_CHARGE_BATCH or m.memcg_stock[base] != memcg or m.memcg_stock[base + 1] < nr_pages:
        return 0
    m.memcg_stock[base + 1] -= nr_pages
    return 1


@leaf
def drain_stock(m, cpu):
    """A CPU's stock goes back to the cgroup that it is charged to."""
    base = cpu * STOCK_STRIDE
    page_counter_charge(m, m.memcg_stock[base], -m.memcg_stock[base + 1])
    m.memcg_stock[base] = m.memcg_stock[base + 1] = 0


@leaf
def drain_all_stock(m, root):
    """The stocks of all CPUs that belong below root."""
    for cpu in range(m.sc[SC_NR_CPUS]):
        if m.memcg_stock[cpu * STOCK_STRIDE] > 0 and memcg_is_descendant(m, m.memcg_stock[cpu * STOCK_STRIDE], root):
            drain_stock(m, cpu)


@leaf
def refill_stock(m, memcg, nr_pages):
    """Pages charged in advance; another cgroup's stock, and one that grows too large, is given back."""
    base = m.sc[SC_CPU] * STOCK_STRIDE
    if m.memcg_stock[base] != memcg:
        drain_stock(m, m.sc[SC_CPU])
        m.memcg_stock[base] = memcg
    m.memcg_stock[base + 1] += nr_pages
    if m.memcg_stock[base + 1] > MEMCG_CHARGE_BATCH:
        drain_stock(m, m.sc[SC_CPU])


@leaf
def task_is_dying(m, task):
    """1 if the task was killed."""
    return 1 if task >= 0 and m.task[task * TASK_STRIDE + T_FLAGS] & (TF_KILLED | TF_OOM_VICTIM) else 0


@kernel
def reclaim_for_charge(m, memcg, gfp, nr_pages):
    """Make room below the limits for nr_pages: 1 if there is some, 0 if the charge must fail. Ends in bounded work: 16 tries, a kill, 16 more."""
    task = m.sc[SC_TASK]
    retries = MAX_RECLAIM_RETRIES
    drained = 0
    passed_oom = 0
    while True:
        over = over_limit(m, memcg, nr_pages)
        if over == 0:
            return 1
        if m.sc[SC_IN_RECLAIM] or gfp & GFP_DIRECT_RECLAIM == 0:
            return 0
        memcg_memory_event(m, over, MC_EVENT_MAX)
        psi_memstall_enter(m)
        reclaimed = try_to_free_mem_cgroup_pages(m, over, nr_pages, 1, 0)
        psi_memstall_leave(m)
        base = over * MEMCG_STRIDE
        if m.memcg[base + MC_MAX] - m.memcg[base + MC_USAGE] >= nr_pages:
            continue
        if drained == 0:
            drain_all_stock(m, over)
            drained = 1
            continue
        if gfp & GFP_NORETRY:
            return 0
        if reclaimed > 0 and nr_pages <= COSTLY_PAGES:
            continue
        if retries > 0:
            retries -= 1
            continue
        if gfp & GFP_RETRY_MAYFAIL or (passed_oom and task_is_dying(m, task)):
            return 0
        if mem_cgroup_oom(m, over, nr_pages) == 0:
            return 0
        passed_oom = 1
        retries = MAX_RECLAIM_RETRIES


@kernel
def mem_cgroup_oom(m, memcg, nr_pages):
    """Kill in the cgroup whose limit was hit: 1 if somebody was (or is being) killed."""
    if nr_pages > COSTLY_PAGES:
        return 0
    memcg_memory_event(m, memcg, MC_EVENT_OOM)
    if task_is_dying(m, m.sc[SC_TASK]):
        return 1
    m.sc[SC_OOM_MEMCG] = memcg
    killed = out_of_memory(m, m.sc[SC_TASK], 0)
    m.sc[SC_OOM_MEMCG] = 0
    return killed


@kernel
def try_charge(m, memcg, gfp, nr_pages):
    """Service: charge a cgroup and its parents for nr_pages: 0, or -ENOMEM. Charges come in batches of 64 while the limits allow."""
    if memcg == 0 or consume_stock(m, memcg, nr_pages):
        return 0
    batch = max(nr_pages, MEMCG_CHARGE_BATCH)
    if over_limit(m, memcg, batch):
        batch = nr_pages
        if over_limit(m, memcg, nr_pages) and reclaim_for_charge(m, memcg, gfp, nr_pages) == 0:
            if gfp & (GFP_NOFAIL | GFP_HIGH) == 0 and m.sc[SC_IN_RECLAIM] == 0:
                return -ENOMEM
    page_counter_charge(m, memcg, batch)
    if batch > nr_pages:
        refill_stock(m, memcg, batch - nr_pages)
    _note_over_high(m, memcg, batch, gfp)
    return 0


@leaf
def _above_high(m, memcg):
    at = memcg
    while at > 0:
        base = at * MEMCG_STRIDE
        if m.memcg[base + MC_USAGE] > m.memcg[base + MC_HIGH]:
            return 1
        at = m.memcg[base + MC_PARENT]
    return 0


@kernel
def _note_over_high(m, memcg, batch, gfp):
    """Pages charged above memory.high are to be reclaimed by the task itself, on its way back to user space or, if too many piled up, now."""
    task = m.sc[SC_TASK]
    if task < 0 or _above_high(m, memcg) == 0:
        return
    m.task[task * TASK_STRIDE + T_OVER_HIGH] += batch
    if m.task[task * TASK_STRIDE + T_OVER_HIGH] > MEMCG_CHARGE_BATCH and m.sc[SC_IN_RECLAIM] == 0 and gfp & GFP_DIRECT_RECLAIM:
        handle_over_high(m, task)


@leaf
def high_delay_jiffies(m, memcg, nr_pages):
    """How long a task that charged nr_pages sleeps, by how far above memory.high its cgroup (or a parent) is."""
    overage = 0
    at = memcg
    while at > 0:
        usage, high = m.memcg[at * MEMCG_STRIDE + MC_USAGE], max(1, m.memcg[at * MEMCG_STRIDE + MC_HIGH])
        if usage > high:
            overage = max(overage, ((usage - high) << MEMCG_DELAY_PRECISION_SHIFT) // high)
        at = m.memcg[at * MEMCG_STRIDE + MC_PARENT]
    overage = min(overage, 1 << 26)  # far beyond the longest delay
    jiffies = overage * overage * HZ >> MEMCG_DELAY_PRECISION_SHIFT >> MEMCG_DELAY_SCALING_SHIFT
    return min(jiffies * nr_pages // MEMCG_CHARGE_BATCH, MEMCG_MAX_HIGH_DELAY_JIFFIES)


@kernel
def reclaim_high(m, memcg, nr_pages):
    """Reclaim nr_pages from each cgroup on the way up that is over its memory.high: pages reclaimed."""
    reclaimed = 0
    at = memcg
    while at > 0:
        base = at * MEMCG_STRIDE
        if m.memcg[base + MC_USAGE] > m.memcg[base + MC_HIGH]:
            memcg_memory_event(m, at, MC_EVENT_HIGH)
            psi_memstall_enter(m)
            reclaimed += try_to_free_mem_cgroup_pages(m, at, nr_pages, 1, 0)
            psi_memstall_leave(m)
        at = m.memcg[base + MC_PARENT]
    return reclaimed


@kernel
def do_handle_over_high(m, task):
    """mem_cgroup_handle_over_high(): reclaim what was charged above memory.high; if that is not enough, the task sleeps."""
    row = task * TASK_STRIDE
    nr_pages = m.task[row + T_OVER_HIGH]
    m.task[row + T_OVER_HIGH] = 0
    memcg = m.task[row + T_MEMCG]
    wanted = nr_pages
    retries = MAX_RECLAIM_RETRIES
    while True:
        if task_is_dying(m, task):
            return 0
        reclaimed = reclaim_high(m, memcg, wanted)
        delay = high_delay_jiffies(m, memcg, nr_pages)
        if delay <= HZ // 100:
            return 0
        if reclaimed == 0:
            if retries == 0:
                break
            retries -= 1
        wanted = SWAP_CLUSTER_MAX
    psi_memstall_enter(m)
    m.sc[SC_NOW_NS] += delay * (1_000_000_000 // HZ)
    psi_memstall_leave(m)
    return 0


@leaf
def resume_user_mode(m, task):
    """What a task does for memory.high on its way back to user space."""
    if unlikely(task >= 0 and m.task[task * TASK_STRIDE + T_OVER_HIGH] > 0):
        handle_over_high(m, task)


@kernel
def memory_reclaim(m, memcg, nr_pages):
    """memory.reclaim: reclaim nr_pages from the cgroup: 0, or -EAGAIN when 16 tries in a row got nothing."""
    done = 0
    retries = MAX_RECLAIM_RETRIES
    while done < nr_pages:
        if retries == 0:
            lru_add_drain_all(m)
        reclaimed = try_to_free_mem_cgroup_pages(m, memcg, (nr_pages - done) // 4, 1, 1)
        if reclaimed == 0:
            if retries == 0:
                return -EAGAIN
            retries -= 1
        done += reclaimed
    return 0


@kernel
def memory_max_write(m, memcg, limit):
    """A new memory.max: reclaim down to it, then kill in the cgroup until it fits. Returns 0."""
    base = memcg * MEMCG_STRIDE
    m.memcg[base + MC_MAX] = limit
    retries = MAX_RECLAIM_RETRIES
    drained = 0
    while m.memcg[base + MC_USAGE] > limit:
        if drained == 0:
            drain_all_stock(m, memcg)
            drained = 1
            continue
        if retries > 0:
            if try_to_free_mem_cgroup_pages(m, memcg, m.memcg[base + MC_USAGE] - limit, 1, 0) == 0:
                retries -= 1
            continue
        memcg_memory_event(m, memcg, MC_EVENT_OOM)
        m.sc[SC_OOM_MEMCG] = memcg
        killed = out_of_memory(m, -1, 0)
        m.sc[SC_OOM_MEMCG] = 0
        if killed == 0:
            break
    return 0


@kernel
def memory_high_write(m, memcg, limit):
    """A new memory.high: reclaim down to it as far as 16 tries go. Returns 0."""
    base = memcg * MEMCG_STRIDE
    m.memcg[base + MC_HIGH] = limit
    retries = MAX_RECLAIM_RETRIES
    drain_all_stock(m, memcg)
    while m.memcg[base + MC_USAGE] > limit and retries > 0:
        if try_to_free_mem_cgroup_pages(m, memcg, m.memcg[base + MC_USAGE] - limit, 1, 0) == 0:
            retries -= 1
    return 0
