"""earlyoom: a daemon that ends the task of the highest oom_score while a little memory and swap are still left, before the kernel has to.

It acts when the available memory is at most mem_pct of all memory and the free swap at most swap_pct of all swap (a machine without swap has
none left). How long it sleeps follows from how soon memory could run out: 6000 kB of memory and 800 kB of swap a millisecond, between
min_sleep_ms and max_sleep_ms. A machine that runs out all the same has the kernel's killer.
Models: earlyoom 1.7 main.c poll_loop(), sleep_ms(), kill.c find_largest_process(), is_larger(). Left out: SIGTERM first and SIGKILL at half of
the percentages (a task that is asked to end ends), --prefer and --avoid, the time that the daemon takes. O(tasks) a look.
"""

import attrs
from attrs.validators import ge, le

from mmlab.kernels.jit import kernel
from mmlab.kernels.services import oom_kill
from mmlab.model.rows import OOM_NO_CANDIDATE, OOM_USER_SPACE, SC_NR_TASKS, SC_TOTALRAM
from mmlab.policies import OomPolicy
from mmlab_linux.oom_policy.badness import candidate_score as badness_of, oom_eligible, oom_score, select_bad_process
from mmlab_rivals.oom_policy.memory import mem_available, somebody_dies, swap_free, swap_total, task_rss

RAM_KB_MS, SWAP_KB_MS = 6000, 800


@attrs.frozen
class Params:
    """mem_pct, swap_pct: percent available from which on it kills (-m, -s). min_sleep_ms, max_sleep_ms: between two looks."""

    mem_pct: int = attrs.field(default=10, validator=[ge(1), le(99)])
    swap_pct: int = attrs.field(default=10, validator=[ge(1), le(100)])
    min_sleep_ms: int = attrs.field(default=100, validator=[ge(1), le(100_000)])
    max_sleep_ms: int = attrs.field(default=1000, validator=[ge(1), le(100_000)])


@kernel
def candidate_score(m, st, task, asker):
    """oom_score << 40 | VmRSS: of equal scores the larger; badness where the kernel kills."""
    if asker != OOM_USER_SPACE:
        return badness_of(m, st, task, asker)
    return oom_score(m, st, task) << 40 | task_rss(m, task) if oom_eligible(m, task, asker) else OOM_NO_CANDIDATE


@kernel
def select_victim(m, st, task, order):
    """It was too late: the kernel's own killer, by badness."""
    return select_bad_process(m, task)


@kernel
def sleep_ns(m, st, available, swap):
    """The time in which the headroom above the thresholds could be used up, within bounds."""
    ram_kb = max(0, available - m.sc[SC_TOTALRAM] * st.mem_pct[0] // 100) * 4
    swap_kb = max(0, swap - swap_total(m) * st.swap_pct[0] // 100) * 4
    ms = ram_kb // RAM_KB_MS + swap_kb // SWAP_KB_MS
    return max(st.min_sleep_ms[0], min(ms, st.max_sleep_ms[0])) * 1_000_000


@kernel
def step(m, st, now_ns):
    """A look at memory, and a kill if both are short."""
    if somebody_dies(m):
        return st.min_sleep_ms[0] * 1_000_000
    available, swap = mem_available(m), swap_free(m)
    if available * 100 <= st.mem_pct[0] * m.sc[SC_TOTALRAM] and swap * 100 <= st.swap_pct[0] * swap_total(m):
        chosen, highest = -1, OOM_NO_CANDIDATE
        for task in range(m.sc[SC_NR_TASKS]):
            score = candidate_score(m, st, task, OOM_USER_SPACE)
            if score > highest:
                chosen, highest = task, score
        if chosen >= 0:
            oom_kill(m, chosen)
        return st.min_sleep_ms[0] * 1_000_000
    return sleep_ns(m, st, available, swap)


EARLYOOM = OomPolicy(
    name="earlyoom",
    summary="a daemon kills the highest oom_score while some memory and swap are left",
    models="earlyoom 1.7 main.c poll_loop(), kill.c find_largest_process()",
    left_out="SIGTERM before SIGKILL, --prefer, --avoid, the daemon's own time",
    level="L1",
    params=Params,
    select_victim=select_victim,
    oom_score=oom_score,
    candidate_score=candidate_score,
    step=step,
)
