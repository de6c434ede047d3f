"""Sequences of requests on small machines: no frame twice, none lost, every invariant after every step, and the oracle's PFNs."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as s

sys.path.append(str(Path(__file__).parents[1] / "unit" / "page_allocator"))
from zone_machine import STATE, ZoneMachine

from mmlab.kernels.jit import JIT_OFF
from mmlab.model import rows as r
from mmlab.model.const import ALLOC_HIGHATOMIC, ALLOC_KSWAPD, ALLOC_NOFRAGMENT, ALLOC_NON_BLOCK
from mmlab.testing.oracles.buddy import BuddyZone
from mmlab_linux.page_allocator.buddy import BUDDY
from mmlab_rivals.page_allocator.first_fit import FIRST_FIT
from mmlab_rivals.page_allocator.llfree import LLFREE
from mmlab_rivals.page_allocator.next_fit import NEXT_FIT
from mmlab_rivals.page_allocator.reservation import RESERVATION
from mmlab_rivals.page_allocator.tlsf import TLSF

POLICIES = {p.name: p for p in (BUDDY, FIRST_FIT, NEXT_FIT, LLFREE, TLSF, RESERVATION)}
FLAGS = (0, ALLOC_NOFRAGMENT, ALLOC_KSWAPD, ALLOC_NON_BLOCK, ALLOC_NON_BLOCK | ALLOC_HIGHATOMIC)
SETTINGS = settings(max_examples=10 if JIT_OFF else 60, deadline=None, suppress_health_check=list(HealthCheck))

orders = s.sampled_from((0, 0, 0, 1, 2, 3, 4, 5, 7, 8, 9, 10))
allocation = s.tuples(s.just("alloc"), orders, s.integers(0, 2), s.sampled_from(FLAGS), s.integers(1, 60))
release = s.tuples(s.just("free"), s.integers(0, 10**6), s.integers(1, 80), s.sampled_from((1, 2, 3)), s.booleans())
other = s.tuples(s.sampled_from(("drain", "tick", "below_high", "split")))


def sequences(*steps: s.SearchStrategy) -> s.SearchStrategy:
    """Short ones, which shrink well, and long ones: hypothesis alone would make few of those."""
    step = s.one_of(*steps)
    return s.one_of(s.lists(step, max_size=20), s.lists(step, min_size=50, max_size=200))


@cache
def zone_machine(policy: str, memory: str) -> ZoneMachine:
    return ZoneMachine(POLICIES[policy], memory)


def oracle_of(z: ZoneMachine) -> BuddyZone:
    pcp = z.pcp_row(0)
    oracle = BuddyZone(
        z.start, z.end, int(z.row[r.Z_MANAGED]), int(z.row[r.Z_WMARK_HIGH]), int(pcp[r.PCP_BATCH]), int(pcp[r.PCP_HIGH_MIN]),
        int(pcp[r.PCP_HIGH_MAX]), high=int(pcp[r.PCP_HIGH]), grouped=not z.m.sc[r.SC_MOBILITY_DISABLED],
    )  # fmt: skip
    oracle.add_range(z.start, z.end - z.start)
    return oracle


def same_state(z: ZoneMachine, oracle: BuddyZone) -> None:
    dump, pcp = z.dump(), z.pcp_row(0)
    lists = {(int(order), int(kind)): pfns for order, types in dump["free_lists"].items() for kind, pfns in types.items()}
    assert lists == {key: pfns for key, pfns in oracle.lists.items() if pfns}
    assert dump["pcp"][0]["lists"] == {str(i): pfns for i, pfns in enumerate(oracle.pcp.values()) if pfns}
    assert z.nr_free() == oracle.free_pages()
    assert (int(z.row[r.Z_WATERMARK_BOOST]), int(pcp[r.PCP_COUNT])) == (oracle.boost, oracle.count())
    assert pcp[[r.PCP_HIGH, r.PCP_ALLOC_FACTOR, r.PCP_FREE_COUNT]].tolist() == [oracle.high, oracle.alloc_factor, oracle.free_count]
    assert dump["pageblocks"] == [oracle.type_of(pfn) for pfn in range(z.start, z.end, 512)]


class Frames:
    """Who has which frame, and the blocks in use in the order of allocation."""

    def __init__(self, z: ZoneMachine):
        self.z = z
        self.taken = np.zeros(z.end, bool)
        self.blocks: list[tuple[int, int]] = []

    def add(self, pfn: int, order: int) -> None:
        assert pfn % (1 << order) == 0 and self.z.start <= pfn and pfn + (1 << order) <= self.z.end
        assert not self.taken[pfn : pfn + (1 << order)].any(), "a frame was handed out twice"
        self.taken[pfn : pfn + (1 << order)] = True
        self.blocks.append((pfn, order))

    def pick(self, at: int, n: int, step: int, backwards: bool) -> list[tuple[int, int]]:
        if not self.blocks:
            return []
        first = at % len(self.blocks)
        chosen = self.blocks[first : first + n * step : step]
        del self.blocks[first : first + n * step : step]
        for pfn, order in chosen:
            self.taken[pfn : pfn + (1 << order)] = False
        return chosen[::-1] if backwards else chosen

    def split(self) -> None:
        if self.blocks:
            pfn, order = self.blocks.pop()
            self.blocks += [(pfn + i, 0) for i in range(1 << order)]

    def in_use(self) -> int:
        return int(self.taken.sum())


@pytest.mark.parametrize("memory", ["2M", "8M", "64M"])
def test_buddy_equals_the_oracle(memory):
    z = zone_machine("buddy", memory)

    @SETTINGS
    @given(sequences(allocation, release, other))
    def run(steps):
        z.reset()
        oracle, frames = oracle_of(z), Frames(z)
        for step in steps:
            oracle.below_high = bool(z.row[r.Z_FLAGS] & r.ZONE_BELOW_HIGH)
            if step[0] == "alloc":
                _, order, kind, flags, n = step
                for _ in range(n):
                    pfn, wanted = z.alloc(order, kind, flags), oracle.alloc(order, kind, flags)
                    assert pfn == (-12 if wanted is None else wanted)
                    if pfn < 0:
                        break
                    frames.add(pfn, order)
            elif step[0] == "free":
                for pfn, order in frames.pick(*step[1:]):
                    oracle.below_high = bool(z.row[r.Z_FLAGS] & r.ZONE_BELOW_HIGH)
                    z.free(pfn, order)
                    oracle.free(pfn, order)
            elif step[0] == "drain":
                z.drain()
                oracle.drain()
            elif step[0] == "tick":
                z.tick()
                oracle.decay()
            elif step[0] == "split":
                frames.split()
            else:
                z.row[r.Z_FLAGS] |= r.ZONE_BELOW_HIGH
            assert z.check() == 0
            assert z.nr_free() + oracle.count() + frames.in_use() == z.end - z.start
        same_state(z, oracle)

    run()


@pytest.mark.parametrize("memory", ["2M", "8M", "64M"])
def test_first_fit_takes_the_lowest_run(memory):
    z = zone_machine("first_fit", memory)

    def lowest(frames: Frames, order: int) -> int:
        free = ~frames.taken[z.start :].reshape(-1, 1 << order).any(axis=1) if (z.end - z.start) >> order else np.zeros(0, bool)
        return z.start + (int(np.argmax(free)) << order) if free.any() else -12

    @SETTINGS
    @given(sequences(allocation, release, s.just(("split",))))
    def run(steps):
        z.reset()
        frames = Frames(z)
        for step in steps:
            if step[0] == "alloc":
                _, order, kind, flags, n = step
                for _ in range(n):
                    wanted = lowest(frames, order)
                    assert z.can_alloc(order) == (wanted >= 0)
                    pfn = z.alloc(order, kind, flags)
                    assert pfn == wanted
                    if pfn < 0:
                        break
                    frames.add(pfn, order)
            elif step[0] == "free":
                for pfn, order in frames.pick(*step[1:]):
                    z.free(pfn, order)
            else:
                frames.split()
            assert z.check() == 0
            assert z.nr_free() + frames.in_use() == z.end - z.start

    run()


@pytest.mark.parametrize("policy", ["next_fit", "llfree", "tlsf", "reservation"])
@pytest.mark.parametrize("memory", ["2M", "8M", "64M"])
def test_rivals_find_a_block_whenever_there_is_one(policy, memory):
    z = zone_machine(policy, memory)

    @SETTINGS
    @given(sequences(allocation, release, other))
    def run(steps):
        z.reset()
        frames = Frames(z)
        for step in steps:
            if step[0] == "alloc":
                _, order, kind, flags, n = step
                for _ in range(n):
                    size = 1 << order
                    whole = z.end - z.start >> order << order
                    there = bool((~frames.taken[z.start : z.start + whole].reshape(-1, size).any(axis=1)).any())
                    pfn = z.alloc(order, kind, flags)
                    assert (pfn >= 0) == there
                    if pfn < 0:
                        break
                    frames.add(pfn, order)
            elif step[0] == "free":
                for pfn, order in frames.pick(*step[1:]):
                    z.free(pfn, order)
            elif step[0] == "drain":
                z.drain()
            elif step[0] == "split":
                frames.split()
            assert z.check() == 0
            assert z.nr_free() + frames.in_use() == z.end - z.start

    run()


def fuzz(z: ZoneMachine, operations: int, check_every: int, seed: int) -> Frames:
    """Random requests of all orders around a fill level that moves between empty and full."""
    rng, frames = random.Random(seed), Frames(z)
    for i in range(operations):
        if rng.random() < (0.7 if i // 5000 % 2 == 0 else 0.3):
            order = rng.choice((0, 0, 0, 0, 0, 0, 1, 1, 2, 3, 4, 6, 9, 10))
            pfn = z.alloc(order, rng.randrange(3), rng.choice(FLAGS))
            if pfn >= 0:
                frames.add(pfn, order)
        else:
            for pfn, order in frames.pick(rng.randrange(10**6), 1, 1, False):
                z.free(pfn, order)
        if i % check_every == 0:
            assert z.check() == 0
            assert z.nr_free() + int(z.pcp_row(0)[r.PCP_COUNT]) + frames.in_use() == z.end - z.start
    return frames


@pytest.mark.parametrize("policy", list(POLICIES))
def test_long_fuzz_and_all_memory_comes_back(policy):
    z = zone_machine(policy, "64M")
    z.reset()
    frames = fuzz(z, 3_000 if JIT_OFF else 100_000, 1_000 if JIT_OFF else 10_000, seed=11)
    for pfn, order in frames.pick(0, len(frames.blocks), 1, False):
        z.free(pfn, order)
    z.drain()
    assert z.check() == 0
    assert z.nr_free() == z.end - z.start
    assert sum(z.blocks(10, kind) for kind in range(5)) == (z.end - z.start) // 1024


def state_digest(policy: str) -> str:
    z = zone_machine(policy, "8M")
    z.reset()
    fuzz(z, 1_000, 250, seed=5)
    arrays = [getattr(z.m, name) for name in STATE] + list(z.m.states["page_allocator"].arrays().values())
    return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()


@pytest.mark.skipif(JIT_OFF, reason="compares this build with the python build")
@pytest.mark.parametrize("policy", list(POLICIES))
def test_python_build_leaves_the_same_bytes(policy):
    code = f"import sys; sys.path[:0] = {sys.path!r}; import test_page_allocator as t; print(t.state_digest({policy!r}))"
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    python = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parent, env=environment, capture_output=True, text=True, check=True
    )
    assert python.stdout.strip() == state_digest(policy)
