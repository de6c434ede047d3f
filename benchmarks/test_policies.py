"""One policy's ops by themselves: allocators in random replacement of live blocks, beside glibc's malloc; VMA indexes beside a sorted array in C."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest
from drivers import fill_blocks, fill_objects, find_vmas, replace_blocks, replace_objects, replace_vmas

from mmlab.mm.slab import kmalloc_cache
from mmlab.model import rows as r
from mmlab.model.const import MIGRATE_MOVABLE
from mmlab.model.gfp import GFP_KERNEL
from mmlab.simulation import Simulation

LIVE, OPS, VMAS, SEED = 1 << 15, 1 << 18, 10_000, 5
pytestmark = pytest.mark.bench


def _machine(**policies):
    chosen = {"thp": {"use": "never"}} | {slot: {"use": name} for slot, name in policies.items()}
    return Simulation.from_table({"memory": "2G", "bare": True}, policies=chosen)


@pytest.fixture
def malloc(c_library):
    """malloc(sizes): fills as many live blocks and gives a function that replaces those picked."""
    library = c_library("malloc")
    library.fill.restype = library.replace.restype = ctypes.c_int64
    held: list[np.ndarray] = []

    def pointer(array):
        return ctypes.c_void_p(array.ctypes.data)

    def fill(sizes, picks):
        live = np.zeros(len(sizes), np.int64)
        held.append(live)
        assert library.fill(pointer(live), pointer(sizes), ctypes.c_int64(len(sizes))) == len(sizes)
        return lambda: library.replace(pointer(live), pointer(sizes), pointer(picks), ctypes.c_int64(len(picks)))

    yield fill
    for live in held:
        library.release(pointer(live), ctypes.c_int64(len(live)))


@pytest.mark.parametrize("orders", ["order_0", "orders_0_to_3"])
@pytest.mark.parametrize("policy", ["buddy", "first_fit", "llfree", "tlsf", "reservation"])
def test_page_allocator_pair(policy, orders, malloc, compare):
    """Free a random block of the live ones and allocate another of its size."""
    rng = np.random.default_rng(SEED)
    sizes = np.zeros(LIVE, np.int64) if orders == "order_0" else rng.integers(0, 4, LIVE)
    picks = rng.integers(0, LIVE, OPS)
    machine = _machine(page_allocator=policy).machine
    zone = int(machine.zonelist[0])
    live = np.zeros(LIVE, np.int64)
    assert machine.run(fill_blocks, live, sizes, zone, MIGRATE_MOVABLE) == LIVE

    def ours():
        assert machine.run(replace_blocks, live, sizes, picks, zone, MIGRATE_MOVABLE) == OPS

    compare(ours, malloc(4096 << sizes, picks), OPS, reference="glibc")


@pytest.mark.parametrize("policy", ["slub", "slab", "slob", "sheaves"])
@pytest.mark.parametrize("count", [1 << 14, 1 << 20], ids=["16k", "1M"])
def test_slab_allocator_pair(policy, count, malloc, compare):
    """Free a random 64-byte object of the live ones and allocate another."""
    picks = np.random.default_rng(SEED).integers(0, count, OPS)
    machine = _machine(slab_allocator=policy).machine
    cache = kmalloc_cache(64)
    live = np.zeros(count, np.int64)
    assert machine.run(fill_objects, live, cache, GFP_KERNEL) == count

    def ours():
        assert machine.run(replace_objects, live, picks, cache, GFP_KERNEL) == OPS

    goal = {1 << 14: 15, 1 << 20: 60}[count] if policy == "slub" else None
    compare(ours, malloc(np.full(count, 64), picks), OPS, at_most_ns=goal, reference="glibc")


class _Vmas:
    """A task with VMAS one-page mappings, two pages apart, so that none merge; and the same ranges as sorted arrays."""

    def __init__(self, policy):
        self.sim = sim = _machine(vma_index=policy)
        sim.spawn("A")
        self.mm = sim.task("A").mm
        first = 0x10000000000
        for i in range(VMAS):
            assert sim.mmap("A", 4096, flags=["fixed"], addr=first + i * 8192) == first + i * 8192
        rows = sim.machine.vma.reshape(-1, r.VMA_STRIDE)
        live = np.arange(1, int(sim.machine.sc[r.SC_VMA_TOP]) + 1)
        live = live[(rows[live, r.VMA_MM] == self.mm) & (rows[live, r.VMA_END] > 0)]
        self.ids = live[np.argsort(rows[live, r.VMA_START])].astype(np.int64)
        self.starts, self.ends = rows[self.ids, r.VMA_START].copy(), rows[self.ids, r.VMA_END].copy()


def _pointers(*arrays):
    return [ctypes.c_void_p(array.ctypes.data) for array in arrays]


@pytest.mark.parametrize("policy", ["maple_tree", "sorted_array"])
def test_vma_index_find(policy, c_library, compare):
    """Find the VMA of a random address among 10 000."""
    vmas = _Vmas(policy)
    rng = np.random.default_rng(SEED)
    addresses = vmas.starts[rng.integers(0, len(vmas.ids), OPS)] + rng.integers(0, 4096, OPS)
    find = c_library("sorted_array").find_all
    find.restype = ctypes.c_int64
    ends, ids, wanted = _pointers(vmas.ends, vmas.ids, addresses)
    found = []

    def theirs():
        found.append(find(ends, ids, ctypes.c_int64(len(vmas.ids)), wanted, ctypes.c_int64(OPS)))

    def ours():
        assert vmas.sim.machine.run(find_vmas, vmas.mm, addresses) == found[-1]

    compare(ours, theirs, OPS, reference="C sorted array")


@pytest.mark.parametrize("policy", ["maple_tree", "sorted_array"])
def test_vma_index_erase_insert(policy, c_library, compare):
    """Erase a random VMA of 10 000 and insert it again."""
    vmas, ops = _Vmas(policy), OPS >> 4
    picks = np.random.default_rng(SEED).integers(0, len(vmas.ids), ops)
    replace = c_library("sorted_array").replace_all
    replace.restype = ctypes.c_int64
    wanted, chosen = vmas.starts[picks], vmas.ids[picks]
    arrays = [vmas.starts.copy(), vmas.ends.copy(), vmas.ids.copy()]
    pointers = [*_pointers(*arrays), ctypes.c_int64(len(vmas.ids)), *_pointers(wanted), ctypes.c_int64(ops)]

    def ours():
        assert vmas.sim.machine.run(replace_vmas, vmas.mm, chosen) == ops

    compare(ours, lambda: replace(*pointers), ops, reference="C sorted array")
