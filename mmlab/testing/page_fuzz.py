"""A long random life of a page allocator: blocks of all orders, types and CPUs, checked every so often, bisected when something is wrong.

For tests of allocators: ``fuzz_pages(lambda: Simulation.from_table({"memory": "1G", "bare": True}, policies=...), 10**6, seed=1)``.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs
import numpy as np

from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.random import random32, random_below
from mmlab.kernels.services import alloc_pages, free_pages
from mmlab.model.gfp import GFP_HIGHMEM, GFP_MEMALLOC, GFP_MOVABLE, GFP_RECLAIMABLE
from mmlab.model.rows import PCP_COUNT, PCP_FREE_DIFF, PCP_STRIDE, SC_CPU, SC_MAX_PFN, SC_NR_CPUS, SC_TASK, Z_FREE, ZONE_STRIDE
from mmlab.simulation import Simulation

WRONG = {1: "a block that is not aligned or outside of memory", 2: "a frame that is in use"}
ORDERS = (0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 2, 3, 4, 6, 9, 10)
ORDER_WORD = sum(order << 4 * place for place, order in enumerate(ORDERS[:15]))  # 15 places: the top bit stays clear
TIDE = 20_000  # operations for which memory fills, then empties


@leaf
def gfp_of(number):
    """GFP flags of an unmovable, a movable or a reclaimable request that may use all of memory."""
    if number == 0:
        return GFP_MEMALLOC
    return GFP_MEMALLOC | (GFP_HIGHMEM | GFP_MOVABLE if number == 1 else GFP_RECLAIMABLE)


@leaf
def add_block(m, blocks, taken, pfn, order):
    """Note a new block; a code of WRONG, or 0."""
    if pfn & ((1 << order) - 1) or pfn + (1 << order) > m.sc[SC_MAX_PFN]:
        return 1
    for frame in range(pfn, pfn + (1 << order)):
        if taken[frame]:
            return 2
        taken[frame] = 1
    blocks[0] += 1
    blocks[blocks[0]] = pfn << 4 | order
    return 0


@kernel
def live(m, blocks, taken, wrong, seed, start, stop):
    """Operations start .. stop - 1: `stop`, or the number of the first one that went wrong, with wrong[0] a code and wrong[1] the block.

    blocks: int64, how many, then pfn << 4 | order of each block in use; taken: int64 a frame.
    """
    m.sc[SC_TASK] = -1
    for i in range(start, stop):
        draw = random32(seed, 0, i)
        m.sc[SC_CPU] = (draw >> 8) % m.sc[SC_NR_CPUS]
        fills = 180 if i // TIDE % 2 == 0 else 76
        if draw & 255 < fills:
            order = (ORDER_WORD >> (4 * random_below(seed, 1, i, 15))) & 15
            if order == 9 and draw >> 20 & 1:
                order = 10
            pfn = alloc_pages(m, gfp_of((draw >> 16) % 3), order, -1)
            if pfn >= 0:
                code = add_block(m, blocks, taken, pfn, order)
                if code:
                    wrong[0], wrong[1] = code, pfn << 4 | order
                    return i
        elif blocks[0] > 0:
            at = 1 + random_below(seed, 1, i, blocks[0])
            pfn, order = blocks[at] >> 4, blocks[at] & 15
            if order > 0 and draw >> 24 < 16:  # the block is split: its halves are freed some other time
                blocks[at] = pfn << 4 | order - 1
                blocks[0] += 1
                blocks[blocks[0]] = pfn + (1 << (order - 1)) << 4 | order - 1
                continue
            blocks[at] = blocks[blocks[0]]
            blocks[0] -= 1
            for frame in range(pfn, pfn + (1 << order)):
                taken[frame] = 0
            free_pages(m, pfn, order)
    return stop


@attrs.define
class Fuzz:
    """One machine on its way through the operations of a seed."""

    sim: Simulation
    seed: int
    done: int = 0
    blocks: np.ndarray = attrs.field(init=False)
    taken: np.ndarray = attrs.field(init=False)
    wrong: np.ndarray = attrs.field(factory=lambda: np.zeros(2, np.int64))
    pages: int = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        frames = self.sim.machine.sizes.nr_frames
        self.blocks, self.taken = np.zeros(frames + 1, np.int64), np.zeros(frames, np.int64)
        self.pages = self._free()

    def _free(self) -> int:
        """Free pages of all zones, those on per-CPU lists included."""
        machine = self.sim.machine
        pcp = machine.pcp.reshape(-1, PCP_STRIDE)
        return int(machine.zone[Z_FREE::ZONE_STRIDE].sum() + pcp[:, PCP_FREE_DIFF].sum() + pcp[:, PCP_COUNT].sum())

    def run(self, until: int) -> str:
        """Go on to operation `until`; what is wrong, or nothing."""
        self.done = self.sim.machine.run(live, self.blocks, self.taken, self.wrong, self.seed, self.done, until)
        if self.done < until:
            code, block = self.wrong.tolist()
            return f"operation {self.done} got {WRONG[code]}: order {block & 15} at frame {block >> 4}"
        for zone in range(self.sim.machine.sizes.nr_zones):
            found = self.sim.machine.op("page_allocator", "check", zone)
            if found:
                return f"check({zone}) says {found}"
        free, used = self._free(), int(self.taken.sum())
        return "" if free + used == self.pages else f"{free} pages are free and {used} in use, of {self.pages}"


def fuzz_pages(make: Callable[[], Simulation], operations: int, seed: int, check_every: int = 10_000) -> Fuzz:
    """Run the operations on a machine that `make` makes, with a check every so often and at the end: the machine and what is in use.

    Raises AssertionError that names the first operation after which something is wrong, found by bisection on new machines.
    """
    fuzz = Fuzz(make(), seed)
    while fuzz.done < operations:
        good, until = fuzz.done, min(operations, fuzz.done + check_every)
        found = fuzz.run(until)
        if found:
            raise AssertionError(f"seed {seed}: {_first(make, seed, good, min(fuzz.done + 1, until), found)}")
    return fuzz


def _first(make: Callable[[], Simulation], seed: int, good: int, bad: int, found: str) -> str:
    """Nothing is wrong after `good` operations, something after `bad`: where it begins, and what it is."""
    while bad - good > 1:
        middle = (good + bad) // 2
        said = Fuzz(make(), seed).run(middle)
        if said:
            bad, found = middle, said
        else:
            good = middle
    return f"after operation {bad - 1}: {found}"
