"""Judges a monitor by the accesses of the same run: once in a window, what it takes to be hot against what was accessed.

The stream itself is the full trace, so nothing is added to the hot loop: at the end of a window the events since the last one are counted.
The monitor is asked a fiftieth of a window later, when it has done what was due at the end.
Judged are pages with an entry in a page table. Hot are the pages, hottest first, that together have hot_share of all accesses (ties count
as hot); of a monitor the pages that have this share of the heat that it estimates. A page's age is the time since it became hot or ceased to
be, at the windows' resolution; a monitor that keeps ages of its own is judged by these.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from attrs import asdict, define, field

from mmlab._engine import monitor_told
from mmlab.model import rows as r
from mmlab.procfs.resident import ResidentPages, resident_pages
from mmlab.simulation import Simulation
from mmlab.workload.stream import EventStream, unpack

PAGE = 4096
#: largest run of neighbouring hot pages of each class by size
SIZES = (16, 256, 4096, 1 << 45)
GRANULE_SHIFT = 4  # heat maps keep 16 pages together
HEATMAP_ROWS = 192
DELAY = 50


def hot_pages(weight: np.ndarray, share: float) -> np.ndarray:
    """bool[n]: the smallest set, heaviest first, with this share of the weight, and what weighs as much as its lightest; float64[n] in."""
    total = weight.sum()
    if total <= 0:
        return np.zeros(len(weight), bool)
    heaviest = np.sort(weight)[::-1]
    last = heaviest[min(int(np.searchsorted(np.cumsum(heaviest), share * total * (1 - 1e-12))), len(heaviest) - 1)]
    return (weight >= last) & (weight > 0)


def rank_correlation(a: np.ndarray, b: np.ndarray) -> float | None:
    """Spearman's, ties at their mean rank; None where one of them is the same everywhere."""
    ranks = []
    for values in (a, b):
        _, place, count = np.unique(values, return_inverse=True, return_counts=True)
        if len(count) < 2:
            return None
        ranks.append((np.cumsum(count) - (count - 1) / 2)[place])
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def run_lengths(key: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """int64[n]: of each chosen page how many chosen ones lie side by side with it, itself included; 0 of the others. key ascends."""
    lengths = np.zeros(len(key), np.int64)
    picked = np.flatnonzero(chosen)
    if len(picked):
        breaks = np.flatnonzero(np.diff(key[picked]) != 1) + 1
        sizes = np.diff(np.concatenate(([0], breaks, [len(picked)])))
        lengths[picked] = np.repeat(sizes, sizes)
    return lengths


class _Ages:
    """Since when pages are hot or not: ns by page."""

    def __init__(self) -> None:
        self.key, self.hot, self.since = np.zeros(0, np.int64), np.zeros(0, bool), np.zeros(0, np.int64)

    def update(self, key: np.ndarray, hot: np.ndarray, now_ns: int) -> np.ndarray:
        """Take note of a window; the age of each page in ns, int64[n]. A page not seen before counts from now."""
        since = np.full(len(key), now_ns)
        if len(self.key):
            at = np.minimum(np.searchsorted(self.key, key), len(self.key) - 1)
            same = (self.key[at] == key) & (self.hot[at] == hot)
            since[same] = self.since[at[same]]
        self.key, self.hot, self.since = key, hot, since
        return now_ns - since


@define
class _OfSize:
    """Hot areas of a class of sizes, over all windows: pages truly hot and of them those found; pages found hot and of them those truly so;
    the rank correlations of windows over the truly hot areas of this size and all that is cold."""

    true: int = 0
    recalled: int = 0
    found: int = 0
    right: int = 0
    ranks: list[float] = field(factory=list)

    def add(self, is_true: np.ndarray, is_found: np.ndarray, true_hot: np.ndarray, found_hot: np.ndarray, truth: np.ndarray, heat: np.ndarray) -> None:
        """A window's; bool[n] each, is_true and is_found of this size's areas; truth and heat float64[n]."""
        self.true += int(is_true.sum())
        self.recalled += int((is_true & found_hot).sum())
        self.found += int(is_found.sum())
        self.right += int((is_found & true_hot).sum())
        judged = is_true | ~true_hot
        rank = rank_correlation(truth[judged], heat[judged]) if is_true.any() else None
        if rank is not None:
            self.ranks.append(rank)

    def row(self, upto: int) -> dict[str, Any]:
        return {
            "upto_bytes": PAGE * upto if upto < SIZES[-1] else None, "true_bytes": PAGE * self.true, "found_bytes": PAGE * self.found,
            "precision": self.right / self.found if self.found else None, "recall": self.recalled / self.true if self.true else None,
            "rank_correlation": sum(self.ranks) / len(self.ranks) if self.ranks else None,
        }  # fmt: skip


class Scorer:
    """Keeps the score of a run's monitor; due() is to be called when the clock has reached next_ns."""

    def __init__(self, sim: Simulation, stream: EventStream, window_ns: int, hot_share: float):
        self.sim, self.stream, self.window_ns, self.hot_share = sim, stream, window_ns, hot_share
        self.next_ns, self.done = window_ns, 0
        self.ended: tuple[int, int] | None = None  # the window whose end has come: when, and events before it
        self.true_ages, self.found_ages = _Ages(), _Ages()
        self.rows: list[dict[str, Any]] = []
        self.by_size = [_OfSize() for _ in SIZES]
        self.heat: list[tuple[int, list[int], list[float], list[float]]] = []  # time, granules, truth and estimate per page of each

    @classmethod
    def of(cls, sim: Simulation, stream: EventStream, run: Mapping[str, Any]) -> Scorer | None:
        """The scorer that [run] asks for; None without one, or for a monitor that estimates nothing."""
        if not run.get("score_ms") or sim.policies["monitor"].policy.estimate is None:
            return None
        return cls(sim, stream, round(run["score_ms"] * 1e6), run["hot_share"])

    def accesses(self, done: int) -> tuple[np.ndarray, np.ndarray]:
        """(page keys, accesses) of the events from the last window's end to `done`; int64 each, keys ascending."""
        kind, task, vpn = unpack(self.stream.words[self.done : done])
        return np.unique((task << 45 | vpn)[kind < 3], return_counts=True)

    def due(self, done: int) -> None:
        """next_ns has come, and events before `done` have happened: the end of a window, or the time to ask the monitor about it."""
        if self.ended is None:
            self.ended, self.next_ns = (self.next_ns, done), self.next_ns + self.window_ns // DELAY
            return
        end, done = self.ended
        self.ended, self.next_ns = None, (self.sim.now_ns // self.window_ns + 1) * self.window_ns
        self.window(end, done)

    def window(self, now: int, done: int) -> None:
        """Judge the window that ended at `now` with the event before `done`."""
        sim = self.sim
        key, count = self.accesses(done)
        self.done = done
        alive = [number for number, name in enumerate(self.stream.tasks) if name in sim.tasks and sim.alive(name)]
        pages = resident_pages(sim.machine, alive)
        if not len(pages):
            return
        truth = np.zeros(len(pages))
        if len(key):
            at = np.minimum(np.searchsorted(key, pages.key), len(key) - 1)
            truth = np.where(key[at] == pages.key, count[at], 0).astype(np.float64)
        self._compare(now, pages, truth, *monitor_told.estimate(sim, pages))

    def _compare(self, now: int, pages: ResidentPages, truth: np.ndarray, heat: np.ndarray, age_ns: np.ndarray | None) -> None:
        true_hot, found_hot = hot_pages(truth, self.hot_share), hot_pages(heat, self.hot_share)
        true_age, own_age = self.true_ages.update(pages.key, true_hot, now), self.found_ages.update(pages.key, found_hot, now)
        both = int((true_hot & found_hot).sum())
        true, found = int(true_hot.sum()), int(found_hot.sum())
        error = np.abs((own_age if age_ns is None else age_ns) - true_age)
        sc = self.sim.machine.sc
        self.rows.append({
            "time_ms": now / 1e6, "resident_bytes": PAGE * len(pages), "true_hot_bytes": PAGE * true, "found_hot_bytes": PAGE * found,
            "both_hot_bytes": PAGE * both, "precision": both / found if found else None, "recall": both / true if true else None,
            "rank_correlation": rank_correlation(truth, heat), "age_error_ms": float(error.mean()) / 1e6,
            "checks": int(sc[r.SC_MONITOR_CHECKS]), "cpu_ns": int(sc[r.SC_MONITOR_NS]),
        })  # fmt: skip
        lengths, found_lengths = run_lengths(pages.key, true_hot), run_lengths(pages.key, found_hot)
        below = 0
        for of_size, upto in zip(self.by_size, SIZES, strict=True):
            is_true, is_found = ((below < n) & (n <= upto) for n in (lengths, found_lengths))
            of_size.add(is_true, is_found, true_hot, found_hot, truth, heat)
            below = upto
        granule, first, size = np.unique(pages.key >> GRANULE_SHIFT, return_index=True, return_counts=True)
        means = (np.add.reduceat(values, first) / size for values in (truth, heat))
        self.heat.append((now, granule.tolist(), *(values.tolist() for values in means)))

    def counters(self) -> dict[str, float]:
        """The whole run in figures: hot bytes of all windows together, the other two as means over windows. Without a window: none."""
        if not self.rows:
            return {}
        true, found, both = (sum(row[name] for row in self.rows) for name in ("true_hot_bytes", "found_hot_bytes", "both_hot_bytes"))
        ranked = [row["rank_correlation"] for row in self.rows if row["rank_correlation"] is not None]
        return {
            "monitor_precision": both / found if found else 0.0, "monitor_recall": both / true if true else 0.0,
            "monitor_f1": 2 * both / (true + found) if true + found else 0.0,
            "monitor_rank_correlation": sum(ranked) / len(ranked) if ranked else 0.0,
            "monitor_age_error_ms": sum(row["age_error_ms"] for row in self.rows) / len(self.rows),
        }  # fmt: skip

    def tables(self) -> dict[str, list[dict[str, Any]]]:
        """monitor_score: a row a window. monitor_score_by_size: recall by the size of what was hot side by side, precision by the size of what
        was found so. monitor_heatmap: mean heat of each row of addresses by time; monitor_heatmap_rows: the addresses."""
        sizes = [of_size.row(upto) for upto, of_size in zip(SIZES, self.by_size, strict=True) if of_size.true or of_size.found]
        rows, times = self._heatmap()
        return {"monitor_score": self.rows, "monitor_score_by_size": sizes, "monitor_heatmap_rows": rows, "monitor_heatmap": times}

    def _heatmap(self) -> tuple[list[dict[str, int]], list[dict[str, Any]]]:
        """Granules that were ever resident, side by side without the gaps, in at most HEATMAP_ROWS rows."""
        known = np.unique(np.concatenate([np.array(granules, np.int64) for _, granules, _, _ in self.heat] or [np.zeros(0, np.int64)]))
        nr_rows = min(len(known), HEATMAP_ROWS)
        row_of = np.arange(len(known)) * nr_rows // max(1, len(known))
        starts, ends = known[np.searchsorted(row_of, np.arange(nr_rows))], known[np.searchsorted(row_of, np.arange(nr_rows), side="right") - 1] + 1
        page = (1 << 45) - 1
        rows = [
            {"task": int(first) >> 45 - GRANULE_SHIFT, "start": (int(first) << GRANULE_SHIFT & page) << 12, "end": (int(end) << GRANULE_SHIFT & page) << 12}
            for first, end in zip(starts, ends, strict=True)
        ]
        size = np.bincount(row_of, minlength=nr_rows)
        times = []
        for now, granules, *values in self.heat:
            at = row_of[np.searchsorted(known, granules)]
            true, found = ((np.bincount(at, v, nr_rows) / size).round(4).tolist() for v in values)
            times.append({"time_ms": now / 1e6, "true": true, "found": found})
        return rows, times

    # -- leaving and resuming --------------------------------------------------------------------------------------------------------------
    def saved(self) -> dict[str, Any]:
        """What resume() needs, as JSON values."""
        ages = [[ages.key.tolist(), ages.hot.tolist(), ages.since.tolist()] for ages in (self.true_ages, self.found_ages)]
        return {"next_ns": self.next_ns, "done": self.done, "ended": self.ended, "ages": ages, "rows": self.rows, "by_size": [asdict(of_size) for of_size in self.by_size], "heat": self.heat}

    def resume(self, saved: Mapping[str, Any]) -> None:
        """Go on from what saved() gave."""
        self.next_ns, self.done, self.rows = saved["next_ns"], saved["done"], saved["rows"]
        self.by_size = [_OfSize(**of_size) for of_size in saved["by_size"]]
        self.heat, self.ended = [tuple(window) for window in saved["heat"]], tuple(saved["ended"]) if saved["ended"] else None
        for ages, (key, hot, since) in zip((self.true_ages, self.found_ages), saved["ages"], strict=True):
            ages.key, ages.hot, ages.since = np.array(key, np.int64), np.array(hot, bool), np.array(since, np.int64)
