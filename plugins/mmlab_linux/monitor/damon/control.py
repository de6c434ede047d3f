"""How /sys and modules' parameters drive kdamonds: fill a context from plain values, start and stop it, ask it for something and wait.

Models: mm/damon/sysfs.c damon_sysfs_build_ctx(), damon_sysfs_turn_damon_on(), damon_sysfs_handle_cmd(); mm/damon/core.c damon_start().
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs

from mmlab.errors import NotSupported
from mmlab.model import rows as r
from mmlab.model.const import EBUSY, EINVAL, EPERM
from mmlab_linux.monitor.damon import state as s

POLL_NS = 100_000_000  # user space's wait for a kdamond looks again each 100 ms


@attrs.frozen
class Target:
    """pid: of a task, 0 for physical memory; regions: (start, end) in bytes."""

    pid: int
    regions: tuple[tuple[int, int], ...] = ()


@attrs.frozen
class Scheme:
    """values: S_* -> value of what user space sets; goals: rows of G_*; filters: rows of F_*."""

    values: Mapping[int, int]
    goals: Sequence[Mapping[int, int]] = ()
    filters: Sequence[Mapping[int, int]] = ()


@attrs.frozen
class Context:
    """attrs: C_SAMPLE_US ... C_MAX_NR_REGIONS in order."""

    ops: int
    attrs: tuple[int, int, int, int, int]
    targets: Sequence[Target]
    schemes: Sequence[Scheme] = ()


def check_context(context: Context) -> int:
    """-EINVAL for what DAMON refuses, else 0."""
    sample, aggr, _update, least, most = context.attrs
    if least < 3 or least > most or sample > aggr:
        return -EINVAL
    if context.ops == s.OPS_PADDR and len(context.targets) > 1:
        return -EINVAL
    for target in context.targets:
        ends = 0
        for start, end in target.regions:
            if start >= end or start // s.D_MIN * s.D_MIN < ends:
                return -EINVAL
            ends = -(-end // s.D_MIN) * s.D_MIN
    return 0


class Control:
    """The kdamonds of one simulation."""

    def __init__(self, sim: Any, state: Any):
        self.sim, self.state = sim, state

    def word(self, k: int, field: int) -> int:
        """A word of context k."""
        return int(self.state.ctx[k * s.CTX_STRIDE + field])

    def running(self, k: int) -> bool:
        """Whether kdamond k runs."""
        return self.word(k, s.C_STATE) == s.CTX_ON

    def scheme(self, k: int, index: int, field: int) -> int:
        """A word of a scheme of context k."""
        return int(self.state.scheme[(k * s.MAX_SCHEMES + index) * s.SCHEME_STRIDE + field])

    def fill(self, k: int, context: Context) -> int:
        """Write a context's values into rows k: 0, or -EINVAL (also for a pid without a process)."""
        error = check_context(context)
        if error:
            return error
        st = self.state
        ranges = sum(len(target.regions) for target in context.targets)
        if len(context.targets) > s.MAX_TARGETS or len(context.schemes) > s.MAX_SCHEMES or ranges > s.MAX_RANGES - 3:
            raise NotSupported(f"damon: more than {s.MAX_TARGETS} targets, {s.MAX_SCHEMES} schemes or {s.MAX_RANGES - 3} regions of a context")
        pids = {task.pid: task.index for task in self.sim.tasks.values() if self.sim.alive(task.name)}
        base, at = k * s.CTX_STRIDE, 0
        for index, target in enumerate(context.targets):
            if context.ops != s.OPS_PADDR and target.pid not in pids:
                return -EINVAL
            row = (k * s.MAX_TARGETS + index) * s.TARGET_STRIDE
            st.target[row + s.T_TASK], st.target[row + s.T_PID_NR] = pids.get(target.pid, 0), target.pid
            st.target[row + s.T_RANGES], st.target[row + s.T_NR_RANGES] = at, len(target.regions)
            for start, end in target.regions:
                word = (k * s.MAX_RANGES + at) * 2
                st.range[word], st.range[word + 1] = start, end
                at += 1
        st.ctx[base + s.C_OPS] = context.ops
        st.ctx[base + s.C_SAMPLE_US : base + s.C_MAX_NR_REGIONS + 1] = context.attrs
        st.ctx[base + s.C_NR_TARGETS], st.ctx[base + s.C_NR_SCHEMES] = len(context.targets), len(context.schemes)
        for index, scheme in enumerate(context.schemes):
            self._fill_scheme(k * s.MAX_SCHEMES + index, scheme)
        return 0

    def fill_goals(self, k: int, goals: Sequence[Sequence[Mapping[int, int]]]) -> None:
        """Write the goals of each scheme, and nothing else, into rows k."""
        self.state.ctx[k * s.CTX_STRIDE + s.C_NR_SCHEMES] = len(goals)
        for index, rows in enumerate(goals):
            self._fill_goals(k * s.MAX_SCHEMES + index, rows)

    def _fill_goals(self, number: int, goals: Sequence[Mapping[int, int]]) -> None:
        st = self.state
        if len(goals) > s.MAX_GOALS:
            raise NotSupported(f"damon: more than {s.MAX_GOALS} goals of a scheme")
        st.scheme[number * s.SCHEME_STRIDE + s.S_NR_GOALS] = len(goals)
        for i, goal in enumerate(goals):
            for field, value in goal.items():
                st.goal[(number * s.MAX_GOALS + i) * s.GOAL_STRIDE + field] = min(value, s.ULONG_MAX)

    def _fill_scheme(self, number: int, scheme: Scheme) -> None:
        st = self.state
        if len(scheme.filters) > s.MAX_FILTERS:
            raise NotSupported(f"damon: more than {s.MAX_FILTERS} filters of a scheme")
        for field, value in scheme.values.items():
            st.scheme[number * s.SCHEME_STRIDE + field] = min(value, s.ULONG_MAX)
        self._fill_goals(number, scheme.goals)
        st.scheme[number * s.SCHEME_STRIDE + s.S_NR_FILTERS] = len(scheme.filters)
        for i, row in enumerate(scheme.filters):
            for field, value in row.items():
                st.filter[(number * s.MAX_FILTERS + i) * s.FILTER_STRIDE + field] = min(value, s.ULONG_MAX)

    def start(self, k: int, context: Context) -> int:
        """Begin kdamond k: 0, -EBUSY if it runs (or an exclusive one does, or would have to be alone), -EINVAL for a bad context."""
        if self.running(k):
            return -EBUSY
        error = self.fill(k, context)
        if error:
            return error
        exclusive = k >= s.NR_KDAMONDS
        if any(self.running(other) and (exclusive or other >= s.NR_KDAMONDS) for other in range(s.NR_CTX)):
            return -EBUSY
        st, base, sc = self.state, k * s.CTX_STRIDE, self.sim.machine.sc
        if context.ops != s.OPS_PADDR and not context.targets:  # it begins, finds no process to monitor and ends
            sc[r.SC_PID_NEXT] += 1
            return 0
        st.ctx[base + s.C_STATE], st.ctx[base + s.C_PHASE], st.ctx[base + s.C_REQUEST] = s.CTX_ON, s.PHASE_START, s.REQ_NONE
        st.ctx[base + s.C_WAKE_NS] = self.sim.now_ns
        st.ctx[base + s.C_PID] = sc[r.SC_PID_NEXT]
        st.one[s.ONE_STARTED] = 1
        sc[r.SC_PID_NEXT] += 1
        self.kick()
        return 0

    def kick(self) -> None:
        """Let the monitor be called at the next chance."""
        sc = self.sim.machine.sc
        sc[r.SC_MONITOR_TIMER_NS] = sc[r.SC_NEXT_EVENT_NS] = 0

    def stop(self, k: int) -> int:
        """End kdamond k: 0, or -EPERM if it does not run."""
        if not self.running(k):
            return -EPERM
        base = k * s.CTX_STRIDE
        self.state.ctx[base + s.C_REQUEST], self.state.ctx[base + s.C_WAKE_NS] = s.REQ_OFF, 0
        self.kick()
        while self.running(k):
            self.sim.sleep_until(self.sim.now_ns + 1)
        return 0

    def ask(self, k: int, request: int, then: Callable[[], None] = lambda: None) -> int:
        """Have kdamond k do something, `then` at once unless it ends before; user space looks each 100 ms whether it is done. 0."""
        began = self.sim.now_ns
        self.state.ctx[k * s.CTX_STRIDE + s.C_REQUEST] = request
        while self.running(k) and self.word(k, s.C_REQUEST) != s.REQ_NONE:
            self.sim.sleep_until(max(self.sim.now_ns + 1, int(self.sim.machine.sc[r.SC_NEXT_EVENT_NS])))
        if self.running(k):
            then()
        self.sim.sleep_until(began - (began - self.sim.now_ns) // POLL_NS * POLL_NS)
        return 0
