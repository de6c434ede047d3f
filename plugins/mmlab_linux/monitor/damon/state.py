"""What DAMON keeps: contexts, targets, regions, schemes, their quotas, goals and filters, and the lines that its tracepoints print.

Models: include/linux/damon.h struct damon_ctx, damon_target, damon_region, damos, damos_quota, damos_filter. Tables are flat int64 arrays, field F
of row R at R * STRIDE + F. A context has a kdamond of its own; the second half of the contexts are the parameter contexts that a commit reads.
Units: addresses and sizes bytes, intervals us, quota times ms, moments ns; sizes above 2^63 - 1 are that.
"""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np
from attrs.validators import ge

from mmlab.model.layout import reserve

AHEAD = 64  # regions whose pages are looked for together
D_MIN = 4096  # DAMON_MIN_REGION
TICK_NS = 4_000_000  # a jiffy: HZ is 250
ULONG_MAX = (1 << 63) - 1

NR_KDAMONDS = 8  # of sysfs; DAMON_RECLAIM and DAMON_LRU_SORT have the two after them
KDAMOND_RECLAIM, KDAMOND_LRU_SORT = NR_KDAMONDS, NR_KDAMONDS + 1
NR_CTX = NR_KDAMONDS + 2
PARAM_CTX = NR_CTX  # context k commits from context PARAM_CTX + k

CTX_STRIDE = 32
(
    C_STATE, C_WAKE_NS, C_PHASE, C_OPS, C_SAMPLE_US, C_AGGR_US, C_UPDATE_US, C_MIN_NR_REGIONS, C_MAX_NR_REGIONS, C_SIS, C_NEXT_AGGREGATION,
    C_NEXT_OPS_UPDATE, C_SZ_LIMIT, C_NR_TARGETS, C_NR_SCHEMES, C_NR_REGIONS, C_REQUEST, C_PID, C_RAND, C_NR_AGGREGATIONS, C_NR_CHECKS,
) = range(21)
CTX_OFF, CTX_ON = 0, 1
PHASE_START, PHASE_WAIT, PHASE_SAMPLE = 0, 1, 2
OPS_VADDR, OPS_FVADDR, OPS_PADDR = 0, 1, 2
OPS_NAMES = ("vaddr", "fvaddr", "paddr")
# what user space waits for
REQ_NONE, REQ_COMMIT, REQ_GOALS, REQ_LOOK, REQ_TRIED, REQ_OFF, REQ_BAD_COMMIT = range(7)

MAX_TARGETS = 256
TARGET_STRIDE = 8
T_TASK, T_PID_NR, T_HEAD, T_NR_REGIONS, T_RANGES, T_NR_RANGES = range(6)
MAX_RANGES = 4096  # user regions of a context: st.range, start and end
NR_REGION_ROWS = 1 << 20

REGION_STRIDE = 16
R_START, R_END, R_SAMPLING_ADDR, R_NR_ACCESSES, R_NR_ACCESSES_BP, R_LAST_NR_ACCESSES, R_AGE, R_NEXT, R_PREV = range(9)

MAX_SCHEMES = 32
SCHEME_STRIDE = 64
(
    S_ACTION, S_TARGET_NID, S_APPLY_US, S_MIN_SZ, S_MAX_SZ, S_MIN_NR_ACCESSES, S_MAX_NR_ACCESSES, S_MIN_AGE, S_MAX_AGE,
    S_Q_MS, S_Q_SZ, S_Q_RESET_MS, S_Q_WEIGHT_SZ, S_Q_WEIGHT_NR_ACCESSES, S_Q_WEIGHT_AGE, S_NR_GOALS,
    S_WM_METRIC, S_WM_INTERVAL_US, S_WM_HIGH, S_WM_MID, S_WM_LOW, S_NR_FILTERS,
) = range(22)  # what user space sets
NR_SCHEME_PARAMS = 22
(
    S_NEXT_APPLY, S_ACTIVATED, S_ESZ, S_ESZ_BP, S_CHARGED_SZ, S_CHARGED_FROM, S_TOTAL_CHARGED_SZ, S_TOTAL_CHARGED_NS, S_CHARGE_TARGET,
    S_CHARGE_ADDR, S_MIN_SCORE, S_NR_TRIED, S_SZ_TRIED, S_NR_APPLIED, S_SZ_APPLIED, S_QT_EXCEEDS, S_TRIED_WANTED,
    S_TRIED_TIMEOUT,
) = range(32, 50)  # what DAMON keeps
TRIED_NOT, TRIED_IDLE, TRIED_STARTED = 0, 1, 2  # S_TRIED_WANTED: what is tried is not asked for; is, but nothing was tried; something was
NR_STATS = 5
ACTIONS = (
    "willneed", "cold", "pageout", "hugepage", "nohugepage", "lru_prio", "lru_deprio", "migrate_hot", "migrate_cold", "stat",
)  # fmt: skip
(
    DAMOS_WILLNEED, DAMOS_COLD, DAMOS_PAGEOUT, DAMOS_HUGEPAGE, DAMOS_NOHUGEPAGE, DAMOS_LRU_PRIO, DAMOS_LRU_DEPRIO, DAMOS_MIGRATE_HOT,
    DAMOS_MIGRATE_COLD, DAMOS_STAT,
) = range(10)
WM_NONE, WM_FREE_MEM_RATE = 0, 1

MAX_GOALS = 8
GOAL_STRIDE = 4
G_METRIC, G_TARGET, G_CURRENT, G_LAST_PSI = range(4)
GOAL_METRICS = ("user_input", "some_mem_psi_us")
GOAL_USER_INPUT, GOAL_SOME_MEM_PSI_US = 0, 1

MAX_FILTERS = 16
FILTER_STRIDE = 8
F_TYPE, F_MATCHING, F_START, F_END, F_TARGET, F_MEMCG = range(6)
FILTER_TYPES = ("anon", "memcg", "young", "addr", "target")
FILTER_ANON, FILTER_MEMCG, FILTER_YOUNG, FILTER_ADDR, FILTER_TARGET = range(5)

NR_SCORES = 100
TRACE_STRIDE = 16
NR_TRACE_ROWS = 1 << 21
TR_NS, TR_EVENT, TR_CTX, TR_SCHEME, TR_TARGET, TR_NR_REGIONS, TR_START, TR_END, TR_NR_ACCESSES, TR_AGE, TR_PID = range(11)
EVENT_AGGREGATED, EVENT_BEFORE_APPLY = 0, 1
TRIED_STRIDE = 8
NR_TRIED_ROWS = 1 << 16
# st.one: single values
(
    ONE_NR_TRACE, ONE_LOST_TRACE, ONE_SPLIT_LAST, ONE_LAST_ADDR, ONE_LAST_FOLIO_SZ, ONE_LAST_ACCESSED, ONE_REGION_FREE, ONE_REGION_TOP,
    ONE_NR_TRIED, ONE_STARTED, ONE_RESCHED_NS,
) = range(11)


@attrs.frozen
class Params:
    """autostart: one kdamond over every task of the run from its start (without: /sys/kernel/mm/damon starts them); paddr: over all memory instead.

    The others are the attributes of that kdamond: intervals in us, bounds of the number of regions.
    """

    autostart: bool = True
    paddr: bool = False
    sample_us: int = attrs.field(default=5000, validator=ge(1))
    aggr_us: int = attrs.field(default=100_000, validator=ge(1))
    update_us: int = attrs.field(default=60_000_000, validator=ge(1))
    min_nr_regions: int = attrs.field(default=10, validator=ge(3))
    max_nr_regions: int = attrs.field(default=1000, validator=ge(3))

    def __attrs_post_init__(self) -> None:
        refuse_contradictions(self)


def refuse_contradictions(p: Any) -> None:
    """ValueError for params that contradict each other, as damon_set_attrs() refuses them."""
    if p.min_nr_regions > p.max_nr_regions:
        raise ValueError(f"min_nr_regions: must be at most max_nr_regions ({p.max_nr_regions}), got {p.min_nr_regions}")
    if p.sample_us > p.aggr_us:
        raise ValueError(f"sample_us: must be at most aggr_us ({p.aggr_us}), got {p.sample_us}")


def new_state(params: Params, machine: Any) -> dict[str, np.ndarray]:
    """ctx, target, region, scheme, goal, filter, range: rows as above; score: bytes by score; trace, tried: what was noted; ahead: row and slot of the
    entry of the regions that are looked for together; one: single values."""
    one = np.zeros(16, np.int64)
    one[ONE_LAST_FOLIO_SZ], one[ONE_REGION_FREE] = D_MIN, -1
    return {
        "ctx": np.zeros(2 * NR_CTX * CTX_STRIDE, np.int64),
        "target": np.zeros(2 * NR_CTX * MAX_TARGETS * TARGET_STRIDE, np.int64),
        "range": np.zeros(2 * NR_CTX * MAX_RANGES * 2, np.int64),
        "region": reserve(NR_REGION_ROWS * REGION_STRIDE, "int64"),
        "scheme": np.zeros(2 * NR_CTX * MAX_SCHEMES * SCHEME_STRIDE, np.int64),
        "goal": np.zeros(2 * NR_CTX * MAX_SCHEMES * MAX_GOALS * GOAL_STRIDE, np.int64),
        "filter": np.zeros(2 * NR_CTX * MAX_SCHEMES * MAX_FILTERS * FILTER_STRIDE, np.int64),
        "score": np.zeros(NR_SCORES, np.int64),
        "trace": reserve(NR_TRACE_ROWS * TRACE_STRIDE, "int64"),
        "ahead": np.zeros(2 * AHEAD, np.int64),
        "tried": reserve(NR_TRIED_ROWS * TRIED_STRIDE, "int64"),
        "one": one,
    }
