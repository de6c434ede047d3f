"""Which differences between policies matter: pairs of runs that differ in nothing but the policy, compared.

The test is the sign-flip (Fisher-Pitman) permutation test on the paired differences: exact up to 16 pairs, with 20,000 random flips above.
It asks nothing of the distribution, which matters since counters are skewed and seeds are few. Tested are major faults and simulated time,
or the misses of a request replay, and the counters that the experiment's [report] names, for all policies together corrected by Holm's
method. Other figures are described: they hang together with these, and testing them too would only make every test weaker. The interval
is a percentile bootstrap of the mean difference, the effect size Cohen's d of the differences. Seeds that change nothing (a replayed
trace) are no repetitions: they count as one run.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from attrs import evolve, frozen

from mmlab.results.cell_files import FinishedCell
from mmlab.results.summary import COLUMNS, Column, arm_axes, label

ALPHA = 0.05
EXACT_PAIRS = 16
RANDOM_FLIPS = 20_000
RESAMPLES = 10_000


@frozen
class Difference:
    """One policy against the baseline in one figure; differences are arm - baseline.

    pairs: runs compared. mean, low, high: mean difference and its 95 % interval (None with fewer than 3 pairs). relative: mean difference
    as a part of the baseline's mean (None if that is 0). p, p_holm: None with one pair or when not tested. effect: Cohen's d of the
    differences, None if they do not vary. needed: pairs with which p_holm can fall below 0.05 at all; None where nothing is tested.
    """

    column: str
    is_time: bool
    tested: bool
    arm: str
    baseline: str
    pairs: int
    baseline_mean: float
    mean: float
    relative: float | None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    p_holm: float | None = None
    needed: int | None = None
    effect: float | None = None
    more_is_better: bool = False

    @property
    def matters(self) -> bool:
        return self.p_holm is not None and self.p_holm < ALPHA

    @property
    def better(self) -> bool | None:
        """Whether the arm does better than the baseline; None where they are equal."""
        return None if self.mean == 0 else (self.mean > 0) == self.more_is_better

    @property
    def verdict(self) -> str:
        """The answer in words."""
        if self.mean == 0 and self.p in (None, 1.0):
            return "equal"
        if not self.tested:
            return "not tested"
        if self.p_holm is None or self.needed is None:
            return "one run: no test"
        if self.matters:
            return "matters"
        return f"too few runs to tell: {self.needed} pairs are needed" if self.pairs < self.needed else "may be chance"


def compare(cells: Sequence[FinishedCell], baseline: str = "", columns: Sequence[Column] = COLUMNS) -> list[Difference]:
    """Every other arm against the baseline in every column: what is tested first, in it the largest certain differences.

    baseline: an arm's label or one of its values; the first arm when empty. Runs are paired by the other axes and the seed.
    """
    keys = arm_axes(cells)
    arms: dict[str, dict[str, dict[int, FinishedCell]]] = {}
    for cell in cells:
        block = json.dumps({k: v for k, v in cell.axes.items() if k not in keys}, sort_keys=True)
        arms.setdefault(label({k: cell.axes[k] for k in keys}), {}).setdefault(block, {})[cell.seed] = cell
    if len(arms) < 2:
        return []
    base = _find(arms, baseline, keys)
    found = [
        difference
        for name, blocks in arms.items()
        if name != base
        for difference in _differences(name, base, _pairs(blocks, arms[base], columns), columns)
    ]
    return sorted(
        _holm(found), key=lambda d: (not d.tested, not d.matters, -abs(d.relative) if d.relative is not None else -float(d.mean != 0))
    )


def sign_flip_p(differences: np.ndarray) -> float:
    """Two-sided p of the mean of paired differences under random signs; float64[n] in."""
    n = len(differences)
    if n <= EXACT_PAIRS:
        signs = 1 - 2 * (np.arange(1 << n)[:, None] >> np.arange(n) & 1)
        extra = 0
    else:
        signs = np.random.default_rng(0).choice(np.array([-1, 1]), size=(RANDOM_FLIPS, n))
        extra = 1
    sums = np.abs(signs @ differences)
    tolerance = 1e-12 * float(np.abs(differences).sum())
    reached = int((sums >= abs(float(differences.sum())) - tolerance).sum())
    return (reached + extra) / (len(signs) + extra)


def bootstrap_interval(differences: np.ndarray) -> tuple[float, float]:
    """95 % percentile interval of the mean, from 10,000 resamples with a fixed seed."""
    picks = np.random.default_rng(0).integers(0, len(differences), size=(RESAMPLES, len(differences)))
    low, high = np.percentile(differences[picks].mean(axis=1), [2.5, 97.5])
    return float(low), float(high)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction, in the order given."""
    order = np.argsort(p_values, kind="stable")
    adjusted, running = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = running
    return adjusted


def _find(arms: dict[str, Any], baseline: str, keys: list[str]) -> str:
    if not baseline:
        return next(iter(arms))
    return next((name for name in arms if name == baseline or baseline in [w.split("=")[-1] for w in name.split(", ")]), next(iter(arms)))


def _pairs(
    blocks: dict[str, dict[int, FinishedCell]], base: dict[str, dict[int, FinishedCell]], columns: Sequence[Column]
) -> list[tuple[FinishedCell, FinishedCell]]:
    pairs = []
    for block, runs in blocks.items():
        seeds = sorted(set(runs) & set(base.get(block, {})))
        mine = [(runs[seed], base[block][seed]) for seed in seeds]
        outcomes = {tuple(c.value(cell) for cell in pair for c in columns) for pair in mine}
        pairs += mine[:1] if len(outcomes) == 1 else mine
    return pairs


def _differences(name: str, base: str, pairs: list[tuple[FinishedCell, FinishedCell]], columns: Sequence[Column]) -> list[Difference]:
    found = []
    for column in columns:
        values = [(a, b) for a, b in ((column.value(x), column.value(y)) for x, y in pairs) if a is not None and b is not None]
        if not values:
            continue
        of_arm, of_base = np.array(values, dtype=np.float64).T
        delta = of_arm - of_base
        n, mean, base_mean = len(delta), float(delta.mean()), float(of_base.mean())
        low, high = bootstrap_interval(delta) if n >= 3 else (None, None)
        spread = float(delta.std(ddof=1)) if n >= 2 else 0.0
        p = sign_flip_p(delta) if column.tested and n >= 2 else None
        relative, effect = (mean / base_mean if base_mean else None), (mean / spread if spread else None)
        found.append(
            Difference(column.title, column.is_time, column.tested, name, base, n, base_mean, mean, relative, low, high, p, effect=effect,
                       more_is_better=column.more_is_better)  # fmt: skip
        )
    return found


def _holm(found: list[Difference]) -> list[Difference]:
    """Correct what is tested; a figure that is 0 everywhere is no test."""
    tested = [d for d in found if d.p is not None and (d.mean or d.baseline_mean)]
    adjusted = dict(zip(map(id, tested), holm([d.p for d in tested if d.p is not None]), strict=True))
    needed = 2 + math.floor(math.log2(len(tested) / ALPHA)) if tested else None
    return [evolve(d, p_holm=adjusted[id(d)], needed=needed) if id(d) in adjusted else d for d in found]
