"""Every VMA index against a sorted list while it holds many ranges: random stores, changes of bounds and erasures, then every kind of query."""

from __future__ import annotations

import sys
from bisect import bisect_left, bisect_right
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mmlab_linux.vma_index.maple_tree import MAPLE_TREE
from mmlab_rivals.vma_index.bplus_tree import BPLUS_TREE
from mmlab_rivals.vma_index.rbtree import RBTREE
from mmlab_rivals.vma_index.skip_list import SKIP_LIST
from mmlab_rivals.vma_index.sorted_array import SORTED_ARRAY

from mmlab.kernels.jit import JIT_OFF
from mmlab.model.const import ENOMEM

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "unit" / "vma_index"))
from index_machine import PAGE, Index  # noqa: E402

POLICIES = [MAPLE_TREE, SORTED_ARRAY, RBTREE, BPLUS_TREE, SKIP_LIST]
TOP = 1 << 47


class SortedList:
    """vm_start of every range in order, and its end and VMA."""

    def __init__(self):
        self.starts: list[int] = []
        self.of: dict[int, tuple[int, int]] = {}

    def insert(self, start: int, end: int, vma: int) -> None:
        self.starts.insert(bisect_left(self.starts, start), start)
        self.of[start] = end, vma

    def erase(self, at: int) -> tuple[int, int, int]:
        start = self.starts.pop(at)
        return start, *self.of.pop(start)

    def gap_around(self, at: int) -> tuple[int, int]:
        """Where range number `at` could stretch to."""
        below = self.of[self.starts[at - 1]][0] if at else 0
        return below, self.starts[at + 1] if at + 1 < len(self.starts) else TOP

    def find(self, addr: int) -> int:
        at = bisect_right(self.starts, addr)
        if at and self.of[self.starts[at - 1]][0] > addr:
            return self.of[self.starts[at - 1]][1]
        return self.of[self.starts[at]][1] if at < len(self.starts) else -1

    def find_prev(self, addr: int) -> int:
        at = bisect_left(self.starts, addr)
        return self.of[self.starts[at - 1]][1] if at else -1

    def gaps(self) -> tuple[np.ndarray, np.ndarray]:
        """Starts and ends of the free ranges below TOP."""
        starts = np.array(self.starts)
        ends = np.array([self.of[start][0] for start in self.starts])
        return np.concatenate(([0], ends)), np.concatenate((starts, [TOP]))


class Large:
    """An index and a sorted list with `count` ranges of 1 to 16 pages and gaps of 0 to 8."""

    def __init__(self, policy, count: int, rng: np.random.Generator):
        self.index = Index(policy, memory="512M" if count > 100_000 else "64M")
        self.rng, self.list = rng, SortedList()
        pages, gaps = rng.integers(1, 17, count), rng.integers(0, 9, count)
        ends = np.cumsum(pages + gaps) * PAGE
        starts = ends - pages * PAGE
        order = np.arange(count) if policy is SORTED_ARRAY else rng.permutation(count)  # an array moves all that lies above
        for vma in order.tolist():
            assert self.index.store(vma, int(starts[vma]), int(ends[vma])) == 0
        self.list.starts = starts.tolist()
        self.list.of = {start: (end, vma) for vma, (start, end) in enumerate(zip(starts.tolist(), ends.tolist()))}
        self.unused: list[int] = []

    def pick(self) -> int:
        return int(self.rng.integers(len(self.list.starts)))

    def erase(self, at: int) -> None:
        _, _, vma = self.list.erase(at)
        assert self.index.op("erase", vma) == 0
        self.unused.append(vma)

    def erase_run(self) -> None:
        """Some neighbours, so that nodes become too empty."""
        for _ in range(int(self.rng.integers(1, 24))):
            self.erase(min(self.pick(), len(self.list.starts) - 1) if self.rng.random() < 0.2 else len(self.list.starts) // 3)

    def insert_run(self) -> None:
        """One-page ranges, as many as there is room for above a range."""
        at = self.pick()
        below, above = self.list.of[self.list.starts[at]][0], self.list.gap_around(at)[1]
        while below < above and self.unused:
            assert self.index.store(vma := self.unused.pop(), below, below + PAGE) == 0
            self.list.insert(below, below + PAGE, vma)
            below += PAGE * int(self.rng.integers(1, 3))

    def resize(self) -> None:
        """Other bounds, between the neighbours."""
        at = self.pick()
        low, high = self.list.gap_around(at)
        start, end, vma = self.list.erase(at)
        low, high = max(low, start - 20 * PAGE), min(high, end + 20 * PAGE)
        start, end = sorted((self.rng.choice((high - low) // PAGE + 1, 2, replace=False) * PAGE + low).tolist())
        assert self.index.op("resize", vma, start, end) == 0
        assert self.index.bounds(vma) == (start, end)
        self.list.insert(start, end, vma)

    def compare(self) -> None:
        assert self.index.op("check") == 0
        for at in self.rng.integers(0, len(self.list.starts), 50).tolist():
            start = self.list.starts[at]
            for addr in (start - 1, start, start + 1, self.list.of[start][0] - 1, self.list.of[start][0]):
                assert self.index.op("find", addr) == self.list.find(addr)
                assert self.index.op("find_prev", addr) == self.list.find_prev(addr)
        starts, ends = self.list.gaps()
        for length in (1, 3, 8, 20, 60):
            low, high = sorted(self.rng.integers(0, self.list.starts[-1] // PAGE, 2).tolist())
            tops = np.minimum(ends, high * PAGE)
            fitting = np.flatnonzero(tops - np.maximum(starts, low * PAGE) >= length * PAGE)
            expected = int(tops[fitting[-1]]) - length * PAGE if len(fitting) else -ENOMEM
            assert self.index.op("find_gap", length * PAGE, low * PAGE, high * PAGE) == expected


def _check(policy, count: int, seed: int, steps: int) -> None:
    large = Large(policy, count, np.random.default_rng(seed))
    large.compare()
    for _ in range(5):
        for step in range(steps):
            (large.erase_run, large.insert_run, large.insert_run, large.resize, large.resize)[step % 5]()
        large.compare()
    while len(large.list.starts) > count // 2 and len(large.unused) < 20 * steps:
        large.erase(large.pick())
    large.compare()
    large.index.op("destroy_mm")
    assert large.index.slab.used[0] == 0


@pytest.mark.nojit
@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.name)
@settings(max_examples=2, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 1 << 32))
def test_thousands_of_ranges(policy, seed):
    _check(policy, 1500 if JIT_OFF else 20_000, seed, 30 if JIT_OFF else 300)


@pytest.mark.slow
@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.name)
def test_a_million_ranges(policy):
    _check(policy, 1_000_000, 1, 3000)
