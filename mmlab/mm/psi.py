"""Pressure stall information of memory: how long tasks could not run because memory was short, in the machine and in each cgroup.

A task is stalled while it reclaims for itself, waits for a page that has been pushed out of the working set, or sleeps over memory.high:
"some" counts that time; "full" as well, unless another task can run meanwhile. kswapd's work counts as "some" of the machine. Averages over 10, 60
and 300 s are fixed-point (11 bits), updated every two seconds.
Models: kernel/sched/psi.c psi_memstall_enter(), psi_memstall_leave(), update_averages(), calc_avgs(), psi_show(); include/linux/sched/loadavg.h
calc_load(). Left out: triggers, io, cpu and irq pressure, refaults from swap, several tasks stalled at once on several CPUs.
"""

from typing import Any

from mmlab.kernels.jit import kernel, leaf
from mmlab.model.rows import (
    MC_PARENT, MEMCG_STRIDE, PSI_AVG, PSI_BEGAN_NS, PSI_DEPTH, PSI_FULL_NS, PSI_LAST_NS, PSI_NEXT_NS, PSI_SEEN, PSI_SOME_NS, PSI_STRIDE,
    SC_NOW_NS, SC_NR_LOOPS, SC_NR_MEMCGS, SC_TASK, T_MEMCG, TASK_STRIDE,
)

FSHIFT = 11
FIXED_1 = 1 << FSHIFT
EXP_10S, EXP_60S, EXP_300S = 1677, 1981, 2034  # of FIXED_1: what is left of an average after two seconds
PSI_PERIOD_NS = 501 * 4_000_000  # 2 s and a tick


@leaf
def psi_memstall_enter(m):
    """The running thread stalls from now on."""
    if m.psi[PSI_DEPTH] == 0:
        m.psi[PSI_BEGAN_NS] = m.sc[SC_NOW_NS]
    m.psi[PSI_DEPTH] += 1


@kernel
def account_stall(m, ns):
    """The running task (none: a thread of the kernel) was stalled for so long, in its cgroup and all above. Returns 0."""
    task = m.sc[SC_TASK]
    memcg = m.task[task * TASK_STRIDE + T_MEMCG] if task >= 0 else 0
    full = ns if task >= 0 and m.sc[SC_NR_LOOPS] == 0 else 0
    while memcg >= 0:
        m.psi[memcg * PSI_STRIDE + PSI_SOME_NS] += ns
        m.psi[memcg * PSI_STRIDE + PSI_FULL_NS] += full
        memcg = m.memcg[memcg * MEMCG_STRIDE + MC_PARENT]
    return 0


@leaf
def psi_memstall_leave(m):
    """It goes on."""
    m.psi[PSI_DEPTH] -= 1
    if m.psi[PSI_DEPTH] == 0 and m.sc[SC_NOW_NS] > m.psi[PSI_BEGAN_NS]:
        account_stall(m, m.sc[SC_NOW_NS] - m.psi[PSI_BEGAN_NS])


@leaf
def calc_load(load, left, active):
    """A step of a decaying average in fixed point: left (of FIXED_1) of it stays, the rest becomes active. It rises to its goal."""
    load_scaled = load * left + active * (FIXED_1 - left)
    return (load_scaled + (FIXED_1 - 1 if active >= load else 0)) >> FSHIFT


@kernel
def update_averages(m):
    """Bring the averages of all groups up to now, if two seconds have passed; periods that were missed count as idle. Returns 1 if updated."""
    now = m.sc[SC_NOW_NS]
    if now < m.psi[PSI_NEXT_NS]:
        return 0
    missed = (now - m.psi[PSI_NEXT_NS]) // PSI_PERIOD_NS
    period = now - (m.psi[PSI_LAST_NS] + missed * PSI_PERIOD_NS)
    m.psi[PSI_NEXT_NS] += (1 + missed) * PSI_PERIOD_NS
    m.psi[PSI_LAST_NS] = now
    for group in range(m.sc[SC_NR_MEMCGS]):
        for state in range(2):
            row = group * PSI_STRIDE
            sample = min(m.psi[row + PSI_SOME_NS + state] - m.psi[row + PSI_SEEN + state], period)
            m.psi[row + PSI_SEEN + state] += sample
            percent = sample * 100 // period << FSHIFT
            for window in range(3):
                left = EXP_10S if window == 0 else EXP_60S if window == 1 else EXP_300S
                at = row + PSI_AVG + 3 * state + window
                for _ in range(min(missed, 1 << FSHIFT)):
                    m.psi[at] = calc_load(m.psi[at], left, 0)
                m.psi[at] = calc_load(m.psi[at], left, percent)
    return 1


def pressure(machine: Any, group: int) -> str:
    """Text of /proc/pressure/memory (group 0) or of a cgroup's memory.pressure (its row)."""
    machine.run(update_averages)
    row = machine.psi[group * PSI_STRIDE : (group + 1) * PSI_STRIDE].tolist()
    text = ""
    for state, name in enumerate(("some", "full")):
        averages = row[PSI_AVG + 3 * state : PSI_AVG + 3 * state + 3]
        shown = [f"{a >> FSHIFT}.{(a & FIXED_1 - 1) * 100 >> FSHIFT:02}" for a in averages]
        text += f"{name} avg10={shown[0]} avg60={shown[1]} avg300={shown[2]} total={row[PSI_SOME_NS + state] // 1000}\n"
    return text
