"""Every VMA index against a sorted list: random sequences of all operations give the same answers, and check() finds nothing after each."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mmlab_linux.vma_index.maple_tree import MAPLE_TREE
from mmlab_rivals.vma_index.bplus_tree import BPLUS_TREE
from mmlab_rivals.vma_index.rbtree import RBTREE
from mmlab_rivals.vma_index.skip_list import SKIP_LIST
from mmlab_rivals.vma_index.sorted_array import SORTED_ARRAY

from mmlab.testing.oracles.vma_index import VmaIndexOracle

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "unit" / "vma_index"))
from index_machine import PAGE, Index  # noqa: E402

pytestmark = pytest.mark.nojit

GUARD = 3
PAGES = 200
INDEXES: dict[str, Index] = {}

PAGE_NUMBERS = st.integers(0, PAGES)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("insert"), PAGE_NUMBERS, st.integers(1, 4), st.sampled_from([False, False, False, True])),
        st.tuples(st.just("fill"), PAGE_NUMBERS, st.integers(1, 30), st.integers(1, 3)),
        st.tuples(st.just("erase"), st.integers(0, 10**6), st.integers(1, 12), st.just(0)),
        st.tuples(st.just("resize"), st.integers(0, 10**6), st.integers(-3, 3), st.integers(-3, 3)),
        st.tuples(st.just("move"), st.integers(0, 10**6), PAGE_NUMBERS, st.integers(1, 4)),
        st.tuples(st.just("gap"), st.integers(1, 20), PAGE_NUMBERS, PAGE_NUMBERS),
    ),
    max_size=40,
)


class Pair:
    """The same operations on an index and on the oracle. Ranges that overlap another are not asked for."""

    def __init__(self, policy):
        if policy.name not in INDEXES:
            INDEXES[policy.name] = Index(policy, stack_guard_gap=GUARD)
        self.index = INDEXES[policy.name]
        self.index.op("destroy_mm")
        self.index.op("init_mm")
        self.oracle = VmaIndexOracle(GUARD)
        self.unused = list(range(1000))

    def is_free(self, start: int, end: int, but: int = -1) -> bool:
        return 0 <= start < end and all(end * PAGE <= a or b <= start * PAGE for a, b, vma, _ in self.oracle.ranges if vma != but)

    def insert(self, start: int, pages: int, grows_down: bool) -> None:
        if self.is_free(start, start + pages):
            vma = self.unused.pop()
            assert self.index.store(vma, start * PAGE, (start + pages) * PAGE, grows_down) == 0
            self.oracle.insert(vma, start * PAGE, (start + pages) * PAGE, grows_down)

    def fill(self, start: int, count: int, step: int) -> None:
        for i in range(count):
            self.insert(start + i * step, 1, False)

    def erase(self, number: int, count: int, _) -> None:
        for _ in range(min(count, len(self.oracle.ranges))):
            vma = self.oracle.ranges[number % len(self.oracle.ranges)][2]
            assert self.index.op("erase", vma) == 0
            self.oracle.erase(vma)
            self.unused.append(vma)

    def resize(self, number: int, down: int, up: int) -> None:
        if self.oracle.ranges:
            start, end, vma, _ = self.oracle.ranges[number % len(self.oracle.ranges)]
            self._set(vma, start // PAGE - down, end // PAGE + up)

    def move(self, number: int, start: int, pages: int) -> None:
        if self.oracle.ranges:
            self._set(self.oracle.ranges[number % len(self.oracle.ranges)][2], start, start + pages)

    def _set(self, vma: int, start: int, end: int) -> None:
        if self.is_free(start, end, but=vma):
            assert self.index.op("resize", vma, start * PAGE, end * PAGE) == 0
            self.oracle.resize(vma, start * PAGE, end * PAGE)
            assert self.index.bounds(vma) == (start * PAGE, end * PAGE)

    def gap(self, pages: int, low: int, high: int) -> None:
        limits = pages * PAGE, low * PAGE, high * PAGE
        assert self.index.op("find_gap", *limits) == self.oracle.find_gap(*limits)

    def compare(self) -> None:
        assert self.index.op("check") == 0
        some = self.oracle.ranges[:: 1 + len(self.oracle.ranges) // 8]
        for addr in {edge + by for start, end, _, _ in some for edge in (start, end) for by in (-1, 0, 1)}:
            assert self.index.op("find", addr) == self.oracle.find(addr)
            assert self.index.op("find_prev", addr) == self.oracle.find_prev(addr)
        self.gap(1, 0, PAGES + 8)
        self.gap(3, 5, PAGES // 2)


@pytest.mark.parametrize("policy", [MAPLE_TREE, SORTED_ARRAY, RBTREE, BPLUS_TREE, SKIP_LIST], ids=lambda policy: policy.name)
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=STEPS)
def test_answers_are_those_of_a_sorted_list(policy, steps):
    pair = Pair(policy)
    for name, *arguments in steps:
        getattr(pair, name)(*arguments)
        pair.compare()
    while pair.oracle.ranges:
        pair.erase(len(pair.oracle.ranges) // 2, 1, 0)
    assert pair.index.op("check") == 0
    assert pair.index.slab.used[0] == 0
