"""DAMON: watches one page a region and sampling interval; regions merge and split with what they show. DAMOS acts on what they show.

Models: mm/damon (6.12): core.c (kdamond.py, merge_split.py, region.py, damos.py, quota.py, filters.py, watermarks.py, commit.py), vaddr.c, paddr.c
(access.py, vaddr.py, paddr.py), ops-common.c, sysfs.c (sysfs.py, control.py), reclaim.c and lru_sort.c (modules.py).
Left out: more than one context a kdamond, MMU notifiers, goals of memory pressure.
Cost: O(regions) a sampling interval, whatever the size of memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from mmlab.kernels.jit import kernel
from mmlab.kernels.services import find_vma
from mmlab.model.rows import SC_MAX_PFN, SC_NOW_NS, SC_NR_TASKS, SC_PID_NEXT, T_ALIVE, T_MM, T_PID, TASK_STRIDE, VMA_END, VMA_START, VMA_STRIDE
from mmlab.policies import Monitor
from mmlab_linux.monitor.damon import sysfs
from mmlab_linux.monitor.damon.check import check
from mmlab_linux.monitor.damon.control import Control
from mmlab_linux.monitor.damon.kdamond import kdamond_step
from mmlab_linux.monitor.damon.modules import PARAMETERS, ModuleParameters
from mmlab_linux.monitor.damon.record import damo_records
from mmlab_linux.monitor.damon.region import target_row
from mmlab_linux.monitor.damon.state import (
    C_AGGR_US, C_MAX_NR_REGIONS, C_MIN_NR_REGIONS, C_NR_CHECKS, C_NR_TARGETS, C_OPS, C_PHASE, C_PID, C_SAMPLE_US, C_STATE, C_UPDATE_US,
    C_WAKE_NS, CTX_ON, CTX_STRIDE, MAX_TARGETS, NR_CTX, ONE_STARTED, OPS_PADDR, OPS_VADDR, PHASE_START, Params, R_AGE, R_END,
    R_LAST_NR_ACCESSES, R_NEXT, R_START, REGION_STRIDE, T_HEAD, T_NR_RANGES, T_PID_NR, T_RANGES, T_TASK, TARGET_STRIDE, new_state,
)
from mmlab_linux.monitor.damon.trace import trace_lines
from mmlab_linux.monitor.damon.vaddr import three_regions

SLEEP_NS = 1 << 62
RETRY_NS = 1_000_000


@kernel
def whole_span(m, st, k, index):
    """A target with fewer than two holes between its maps, as the tasks of bare streams have: it gets what lies from its first map to its last as
    its one range, which Linux leaves to who starts DAMON. 0, or -1 if it has no map yet."""
    row = target_row(k, index)
    mm = m.task[st.target[row + T_TASK] * TASK_STRIDE + T_MM]
    vma = find_vma(m, mm, 0)
    if vma < 0:
        return -1
    st.range[2 * index] = m.vma[vma * VMA_STRIDE + VMA_START]
    while vma >= 0:
        st.range[2 * index + 1] = m.vma[vma * VMA_STRIDE + VMA_END]
        vma = find_vma(m, mm, st.range[2 * index + 1])
    st.target[row + T_RANGES], st.target[row + T_NR_RANGES] = index, 1
    return 0


@kernel
def autostart(m, st):
    """kdamond 0 over all of memory, or over every task that there is; nothing while there is no task, or one without maps."""
    nr_targets = 0
    if st.paddr[0]:
        nr_targets = 1
        row = target_row(0, 0)
        st.target[row + T_RANGES], st.target[row + T_NR_RANGES] = 0, 1
        st.range[0], st.range[1] = 0, m.sc[SC_MAX_PFN] << 12
    else:
        for task in range(m.sc[SC_NR_TASKS]):
            if m.task[task * TASK_STRIDE + T_ALIVE] and nr_targets < MAX_TARGETS:
                row = target_row(0, nr_targets)
                st.target[row + T_TASK], st.target[row + T_PID_NR] = task, m.task[task * TASK_STRIDE + T_PID]
                st.target[row + T_NR_RANGES] = 0
                if three_regions(m, st, 0, nr_targets) < 0 and whole_span(m, st, 0, nr_targets) < 0:
                    return 0
                nr_targets += 1
    if nr_targets == 0:
        return 0
    st.ctx[C_OPS] = OPS_PADDR if st.paddr[0] else OPS_VADDR
    st.ctx[C_SAMPLE_US], st.ctx[C_AGGR_US], st.ctx[C_UPDATE_US] = st.sample_us[0], st.aggr_us[0], st.update_us[0]
    st.ctx[C_MIN_NR_REGIONS], st.ctx[C_MAX_NR_REGIONS], st.ctx[C_NR_TARGETS] = st.min_nr_regions[0], st.max_nr_regions[0], nr_targets
    st.ctx[C_STATE], st.ctx[C_PHASE], st.ctx[C_WAKE_NS], st.ctx[C_PID] = CTX_ON, PHASE_START, m.sc[SC_NOW_NS], m.sc[SC_PID_NEXT]
    st.one[ONE_STARTED] = 1
    return 0


@kernel
def sample(m, st, now_ns):
    """Let every kdamond whose sleep is over run; the time to the next end of a sleep."""
    if st.autostart[0] and st.one[ONE_STARTED] == 0:
        autostart(m, st)
        if st.one[ONE_STARTED] == 0:
            return RETRY_NS
    wake = SLEEP_NS
    for k in range(NR_CTX):
        base = k * CTX_STRIDE
        if st.ctx[base + C_STATE] == CTX_ON and st.ctx[base + C_WAKE_NS] <= m.sc[SC_NOW_NS]:
            kdamond_step(m, st, k)
        if st.ctx[base + C_STATE] == CTX_ON:
            wake = min(wake, st.ctx[base + C_WAKE_NS])
    return 0 if wake == SLEEP_NS else max(1, wake - m.sc[SC_NOW_NS])


def regions(state: Any) -> Iterator[tuple[int, int, list[int]]]:
    """(kdamond, target, the region's words) of every region of the kdamonds that run, by address."""
    ctx, region = state.ctx.reshape(-1, CTX_STRIDE), state.region.reshape(-1, REGION_STRIDE)
    target = state.target.reshape(-1, MAX_TARGETS, TARGET_STRIDE)
    for k in range(NR_CTX):
        if ctx[k, C_STATE] != CTX_ON or ctx[k, C_PHASE] == PHASE_START:
            continue
        for index in range(int(ctx[k, C_NR_TARGETS])):
            head = int(target[k, index, T_HEAD])
            at = int(region[head, R_NEXT])
            while at != head:
                yield k, index, region[at].tolist()
                at = int(region[at, R_NEXT])


def report(machine: Any, state: Any) -> list[dict[str, int]]:
    """One row a region as of the end: kdamond, target, start, end (bytes), nr_accesses of the last whole window, age (windows)."""
    rows = []
    for k, index, words in regions(state):
        row = {"kdamond": k, "target": index, "start": words[R_START], "end": words[R_END]}
        rows.append(row | {"nr_accesses": words[R_LAST_NR_ACCESSES], "age": words[R_AGE]})
    return rows


def estimate(machine: Any, state: Any, pages: Any) -> tuple[np.ndarray, np.ndarray]:
    """nr_accesses of the last whole window, and age, of the region that each page lies in; 0 outside of regions."""
    heat, age_ns = np.zeros(len(pages), np.int64), np.zeros(len(pages), np.int64)
    ctx, target = state.ctx.reshape(-1, CTX_STRIDE), state.target.reshape(-1, MAX_TARGETS, TARGET_STRIDE)
    found: dict[tuple[int, int], list[list[int]]] = {}
    for k, index, words in regions(state):
        found.setdefault((k, index), []).append(words)
    for (k, index), some in found.items():
        table = np.array(some, np.int64)
        paddr = ctx[k, C_OPS] == OPS_PADDR
        place = np.where(pages.pfn >= 0, pages.pfn, -1) if paddr else pages.vpn
        at = np.searchsorted(table[:, R_START] >> 12, place, side="right") - 1
        inside = (at >= 0) & (place < table[at, R_END] >> 12) & (paddr | (pages.task == target[k, index, T_TASK]))
        heat[inside] = table[at[inside], R_LAST_NR_ACCESSES]
        age_ns[inside] = table[at[inside], R_AGE] * ctx[k, C_AGGR_US] * 1000
    return heat, age_ns


def exercised(state: Any) -> bool:
    """Whether any region was looked at."""
    return bool(state.ctx.reshape(-1, CTX_STRIDE)[:, C_NR_CHECKS].any())


def files(sim: Any, state: Any) -> dict[str, Any]:
    """The folders of /sys that drive DAMON."""
    control = Control(sim, state)
    modules = {f"/sys/module/{module}/parameters/": ModuleParameters(control, module) for module in PARAMETERS}
    return {sysfs.ROOT: sysfs.SysfsTree(control), **modules}


DAMON = Monitor(
    name="damon",
    summary="Linux's DAMON with DAMOS: samples one page a region and interval",
    models="mm/damon (6.12)",
    left_out="several contexts a kdamond",
    level="L4",
    params=Params,
    new_state=new_state,
    sample=sample,
    check=check,
    report=report,
    estimate=estimate,
    exercised=exercised,
    files=files,
    trace=trace_lines,
    records=damo_records,
)
