"""SLUB against a plain-Python model of it: random allocations, frees and shrinks on two CPUs give the same objects and the same lists."""

from __future__ import annotations

import sys
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmlab.testing.oracles.slub import SlubOracle, geometry

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "unit" / "slab_allocator"))
from slab_machine import SlabMachine  # noqa: E402

CPUS = 2
SIZES = (96, 512, 1000, 4096, 20000)
MACHINE: list[SlabMachine] = []


def machine() -> SlabMachine:
    """One machine for all examples; each example uses a cache of its own and destroys it."""
    if not MACHINE:
        MACHINE.append(SlabMachine(cpus=CPUS))
    return MACHINE[0]


class Pair:
    """The same operations on the machine and the oracle, compared after each."""

    def __init__(self, size: int):
        self.m = machine()
        assert self.m.op("create", 1, size, 0, 0) == 0
        self.size = size
        self.oracle = SlubOracle(geometry(size, cpus=CPUS), CPUS)
        self.live: list[tuple[int, int, int]] = []  # address, oracle's slab, object
        self.slab_at: dict[int, int] = {}  # first frame -> oracle's slab

    def alloc(self, cpu: int, count: int) -> None:
        for _ in range(count):
            obj = self.m.alloc(1, cpu)
            number, n = self.oracle.alloc(cpu)
            slab = self.m.slab_of(obj)
            assert self.slab_at.setdefault(slab, number) == number
            assert obj == (slab << 12) + n * self.size_padded
            self.live.append((obj, number, n))
        self.compare()

    def free(self, cpu: int, start: int, step: int, count: int) -> None:
        for _ in range(count):
            if not self.live:
                break
            start = (start + step) % len(self.live)
            obj, number, n = self.live.pop(start)
            assert self.m.free(obj, cpu) == 0
            self.oracle.free(cpu, number, n)
        self.compare()

    def shrink(self) -> None:
        before = len(self.oracle.slabs)
        self.oracle.shrink()
        assert self.m.op("shrink", 1) == (before - len(self.oracle.slabs)) << self.oracle.cache.order
        self.compare()

    @property
    def size_padded(self) -> int:
        return self.oracle.cache.size

    def compare(self) -> None:
        m, oracle = self.m, self.oracle
        self.slab_at = {frame: number for frame, number in self.slab_at.items() if number in oracle.slabs}

        def seen(frames: list[int]) -> list[list[int]]:
            return [[self.slab_at[frame], m.counts(frame)[0]] for frame in frames]

        assert seen(m.node_partial(1)) == [[slab.number, slab.inuse] for slab in oracle.node_partial]
        for cpu in range(CPUS):
            assert seen(m.cpu_partial(1, cpu)) == [[slab.number, slab.inuse] for slab in oracle.cpu_partial[cpu]]
            assert m.private(1, cpu) == oracle.private[cpu][::-1]
        assert [m.op("stat", 1, what) for what in (0, 1, 5)] == [oracle.active_objs(), oracle.num_objs(), len(oracle.slabs)]
        assert m.op("stat", 1, 6) == len(self.live)

    def finish(self) -> None:
        assert self.m.op("check") == 0
        self.free(0, 0, 0, len(self.live))
        assert self.m.op("destroy", 1) == 0
        assert self.m.op("check") == 0


CPU = st.integers(0, CPUS - 1)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("alloc"), CPU, st.integers(1, 200)),
        st.tuples(st.just("free"), CPU, st.integers(0, 1000), st.integers(0, 60), st.integers(1, 200)),
        st.tuples(st.just("shrink")),
    ),
    min_size=2, max_size=14,
)  # fmt: skip


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(SIZES), STEPS)
def test_random_sequences_give_the_objects_and_lists_of_the_oracle(size, steps):
    pair = Pair(size)
    try:
        for name, *arguments in steps:
            getattr(pair, name)(*arguments)
        pair.finish()
    except BaseException:
        MACHINE.clear()  # half an example must not stay behind
        raise
