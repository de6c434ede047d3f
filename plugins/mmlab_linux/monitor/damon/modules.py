"""DAMON_RECLAIM and DAMON_LRU_SORT: kdamonds over physical memory that module parameters drive.

Models: mm/damon/reclaim.c, lru_sort.c, modules-common.c. Parameters are read when `enabled` becomes Y or `commit_inputs` is written; statistics are
live. As in 6.12 DAMON_RECLAIM ends without its scheme and with default attributes: applying its parameters commits an empty context over them.
Left out: quota_mem_pressure_us, quota_autotune_feedback (goals of a scheme that is not there), commit_inputs of DAMON_RECLAIM's scheme.
"""

from __future__ import annotations

from collections.abc import Iterator
from errno import EACCES
from typing import Any

from mmlab.model.const import EINVAL, ENOENT
from mmlab_linux.monitor.damon import state as s
from mmlab_linux.monitor.damon.control import Context, Control, Scheme, Target, check_context
from mmlab_linux.monitor.damon.sysfs import parse_bool, parse_ulong

ATTRS = {"sample_interval": 5000, "aggr_interval": 100_000, "min_nr_regions": 10, "max_nr_regions": 1000}
DEFAULT_ATTRS = (5000, 100_000, 60_000_000, 10, 1000)
REGION = {"monitor_region_start": 0, "monitor_region_end": 0}
SWITCHES = ("enabled", "commit_inputs", "skip_anon")
PARAMETERS: dict[str, dict[str, int]] = {
    "damon_reclaim": {
        "min_age": 120_000_000, "quota_ms": 10, "quota_sz": 128 << 20, "quota_reset_interval_ms": 1000, "wmarks_interval": 5_000_000,
        "wmarks_high": 500, "wmarks_mid": 400, "wmarks_low": 200, "quota_mem_pressure_us": 0, "quota_autotune_feedback": 0, **ATTRS, **REGION,
    },
    "damon_lru_sort": {
        "hot_thres_access_freq": 500, "cold_min_age": 120_000_000, "quota_ms": 10, "quota_reset_interval_ms": 1000,
        "wmarks_interval": 5_000_000, "wmarks_high": 200, "wmarks_mid": 150, "wmarks_low": 50, **ATTRS, **REGION,
    },
}  # fmt: skip
KDAMOND = {"damon_reclaim": s.KDAMOND_RECLAIM, "damon_lru_sort": s.KDAMOND_LRU_SORT}
#: statistics: file -> (scheme, S_* word)
STATS: dict[str, dict[str, tuple[int, int]]] = {
    "damon_reclaim": {
        "nr_reclaim_tried_regions": (0, s.S_NR_TRIED), "bytes_reclaim_tried_regions": (0, s.S_SZ_TRIED),
        "nr_reclaimed_regions": (0, s.S_NR_APPLIED), "bytes_reclaimed_regions": (0, s.S_SZ_APPLIED), "nr_quota_exceeds": (0, s.S_QT_EXCEEDS),
    },
    "damon_lru_sort": {
        name.format(kind): (scheme, word)
        for scheme, kind in enumerate(("hot", "cold"))
        for name, word in (
            ("nr_lru_sort_tried_{}_regions", s.S_NR_TRIED), ("bytes_lru_sort_tried_{}_regions", s.S_SZ_TRIED),
            ("nr_lru_sorted_{}_regions", s.S_NR_APPLIED), ("bytes_lru_sorted_{}_regions", s.S_SZ_APPLIED), ("nr_{}_quota_exceeds", s.S_QT_EXCEEDS),
        )
    },
}  # fmt: skip


def biggest_system_ram(sim: Any) -> tuple[int, int]:
    """First and last byte of the largest usable range of the firmware's map; of all zones where there is no map."""
    usable = [(first, last) for first, last, kind in sim.layout.e820 if kind == "usable"]
    if not usable:
        usable = [(zone.start_pfn << 12, (zone.end_pfn << 12) - 1) for zone in sim.layout.zones]
    return max(usable, key=lambda ends: ends[1] - ends[0])


def lru_sort_schemes(p: dict[str, int]) -> list[Scheme]:
    """lru_prio for what is accessed often, lru_deprio for what is not accessed at all for long; half of the time quota each."""
    most = max(1, p["aggr_interval"] // max(1, p["sample_interval"]))
    common = {
        s.S_MIN_SZ: s.D_MIN, s.S_MAX_SZ: s.ULONG_MAX, s.S_MAX_AGE: s.ULONG_MAX, s.S_TARGET_NID: -1, s.S_APPLY_US: 0, s.S_Q_MS: p["quota_ms"] // 2,
        s.S_Q_SZ: 0, s.S_Q_RESET_MS: p["quota_reset_interval_ms"], s.S_Q_WEIGHT_SZ: 0, s.S_Q_WEIGHT_NR_ACCESSES: 1, s.S_Q_WEIGHT_AGE: 0,
        s.S_WM_METRIC: s.WM_FREE_MEM_RATE, s.S_WM_INTERVAL_US: p["wmarks_interval"], s.S_WM_HIGH: p["wmarks_high"],
        s.S_WM_MID: p["wmarks_mid"], s.S_WM_LOW: p["wmarks_low"],
    }  # fmt: skip
    hot = {
        s.S_ACTION: s.DAMOS_LRU_PRIO, s.S_MIN_NR_ACCESSES: most * p["hot_thres_access_freq"] // 1000, s.S_MAX_NR_ACCESSES: s.ULONG_MAX,
        s.S_MIN_AGE: 0,
    }  # fmt: skip
    cold = {
        s.S_ACTION: s.DAMOS_LRU_DEPRIO, s.S_MIN_NR_ACCESSES: 0, s.S_MAX_NR_ACCESSES: 0,
        s.S_MIN_AGE: p["cold_min_age"] // max(1, p["aggr_interval"]),
    }  # fmt: skip
    return [Scheme(common | hot), Scheme(common | cold)]


class ModuleParameters:
    """The files of one module's parameters of one simulation."""

    def __init__(self, control: Control, module: str):
        self.control, self.module, self.k = control, module, KDAMOND[module]
        self.folder = f"/sys/module/{module}/parameters/"
        self.values = dict(PARAMETERS[module])
        self.skip_anon = "N"

    def paths(self) -> Iterator[str]:
        """Every file."""
        own = ("skip_anon",) if self.module == "damon_reclaim" else ()
        for name in ("enabled", "commit_inputs", "kdamond_pid", *own, *self.values, *STATS[self.module]):
            yield self.folder + name

    def read(self, path: str) -> str:
        """A file's text."""
        name = path.removeprefix(self.folder)
        if name == "enabled":
            return "Y\n" if self.control.running(self.k) else "N\n"
        if name == "commit_inputs":
            return "N\n"
        if name == "skip_anon":
            return f"{self.skip_anon}\n"
        if name == "kdamond_pid":
            return f"{self.control.word(self.k, s.C_PID) if self.control.running(self.k) else -1}\n"
        if name in STATS[self.module]:
            scheme, word = STATS[self.module][name]
            return f"{self.control.scheme(self.k, scheme, word) if self.control.word(self.k, s.C_NR_SCHEMES) > scheme else 0}\n"
        if name not in self.values:
            raise FileNotFoundError(path)
        return f"{self.values[name]}\n"

    def write(self, path: str, text: str) -> int:
        """0 or -errno."""
        name = path.removeprefix(self.folder)
        if name in SWITCHES:
            flag = parse_bool(text)
            if flag is None:
                return -EINVAL
            if name == "skip_anon":
                self.skip_anon = flag
                return 0
            return self._turn(flag == "Y") if name == "enabled" else self._commit(flag == "Y")
        if name == "kdamond_pid" or name in STATS[self.module]:
            return -EACCES
        if name not in self.values:
            return -ENOENT
        value = parse_ulong(text)
        if value >= 0:
            self.values[name] = value
        return min(value, 0)

    def _turn(self, on: bool) -> int:
        if on == self.control.running(self.k):
            return 0
        return (self._refused() or self.control.start(self.k, self._context())) if on else self.control.stop(self.k)

    def _commit(self, on: bool) -> int:
        if not on or not self.control.running(self.k):
            return 0
        context = self._context()
        bad = self._refused() or self.control.fill(s.PARAM_CTX + self.k, context)
        self.control.state.ctx[self.k * s.CTX_STRIDE + s.C_REQUEST] = s.REQ_BAD_COMMIT if bad else s.REQ_COMMIT
        return 0

    def _attrs(self) -> tuple[int, int, int, int, int]:
        p = self.values
        return p["sample_interval"], p["aggr_interval"], 0, p["min_nr_regions"], p["max_nr_regions"]

    def _refused(self) -> int:
        """-EINVAL for attributes that DAMON refuses, also where they come to nothing, else 0."""
        return check_context(Context(s.OPS_PADDR, self._attrs(), []))

    def _context(self) -> Context:
        p = self.values
        if p["monitor_region_start"] == p["monitor_region_end"] == 0:
            p["monitor_region_start"], p["monitor_region_end"] = biggest_system_ram(self.control.sim)
        target = Target(0, ((p["monitor_region_start"], p["monitor_region_end"]),))
        if self.module == "damon_reclaim":
            return Context(s.OPS_PADDR, DEFAULT_ATTRS, [target])
        return Context(s.OPS_PADDR, self._attrs(), [target], lru_sort_schemes(p))
