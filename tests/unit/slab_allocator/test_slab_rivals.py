"""SLAB, SLOB, sheaves and SLUB without CPU partial lists: where objects come from and go to, on machines with one page allocator."""

from __future__ import annotations

import random

import numpy as np
import pytest
from mmlab_rivals.page_allocator.first_fit import FIRST_FIT
from mmlab_rivals.slab_allocator.sheaves import BARN_STRIDE, SHEAF_STRIDE, SHEAVES
from mmlab_rivals.slab_allocator.sheaves import Params as SheavesParams
from mmlab_rivals.slab_allocator.slab import AC_STRIDE, ALIEN_STRIDE, SHARED_STRIDE, SLAB
from mmlab_rivals.slab_allocator.slob import SLOB
from mmlab_rivals.slab_allocator.slub_nocpupartial import SLUB_NOCPUPARTIAL

from mmlab.kernels.jit import JIT_OFF
from mmlab.model import rows as r
from mmlab.model.const import EBUSY, EINVAL, SLAB_STAT_ACTIVE_OBJS, SLAB_STAT_NUM_OBJS, SLAB_STAT_NUM_SLABS, SLAB_STAT_OBJPERSLAB
from mmlab.model.gfp import GFP_KERNEL
from mmlab.model.page import PG_SLAB
from mmlab.model.slabinfo import SLAB_RECLAIM_ACCOUNT, SLAB_STAT_LIVE_OBJS, SLAB_STAT_NR_PARTIAL, SLAB_STAT_ORDER
from mmlab.testing.harness import small_machine
from mmlab_linux.slab_allocator.slub import SLUB

RIVALS = {p.name: p for p in (SLUB_NOCPUPARTIAL, SLAB, SLOB, SHEAVES)}
NUMA = {"nodes": [{"memory": "32M", "cpus": [0, 1]}, {"memory": "32M", "cpus": [2, 3]}]}


class Machine:
    """ops by name; cpu decides the node."""

    def __init__(self, policy, cpus=2, params=None, table=None):
        self.m = small_machine("64M", cpus, params={"slab_allocator": params}, table=table, slab_allocator=policy, page_allocator=FIRST_FIT)
        self.st = self.m.states["slab_allocator"]
        self.nodes = 2 if table else 1

    def on(self, cpu):
        self.m.sc[r.SC_CPU], self.m.sc[r.SC_NODE] = cpu, cpu // 2 if self.nodes == 2 else 0

    def op(self, name, *args):
        return self.m.op("slab_allocator", name, *args)

    def alloc(self, cache, cpu=0):
        self.on(cpu)
        return self.op("alloc", cache, GFP_KERNEL)

    def free(self, obj, cpu=0):
        self.on(cpu)
        return self.op("free", obj)

    def stat(self, cache, what):
        return self.op("stat", cache, what)


@pytest.mark.parametrize("name", RIVALS)
def test_a_random_life_on_two_nodes(name):
    machine, rng = Machine(RIVALS[name], 4, table=NUMA), random.Random(3)
    kinds = {1: (24, 0), 2: (200, 64), 3: (1500, 0), 4: (5000, 0), 5: (64, SLAB_RECLAIM_ACCOUNT)}
    for cache, (size, flags) in kinds.items():
        assert machine.op("create", cache, size, 0, flags) == 0
    before = machine.m.zone[r.Z_FREE :: r.ZONE_STRIDE].sum()
    live: dict[int, int] = {}
    for i in range(2500 if JIT_OFF else 20_000):
        if live and rng.random() < (0.35 if i // 800 % 2 == 0 else 0.65):
            obj = rng.choice(list(live))
            del live[obj]
            assert machine.free(obj, rng.randrange(4)) == 0
        else:
            cache = rng.randrange(1, 6)
            obj = machine.alloc(cache, rng.randrange(4))
            assert obj > 0 and obj not in live
            live[obj] = cache
        if i % 500 == 0:
            assert machine.op("check") == 0
    spans = sorted((obj, obj + kinds[cache][0]) for obj, cache in live.items())
    assert all(a[1] <= b[0] for a, b in zip(spans, spans[1:]))
    for cache in kinds:
        held = [obj for obj, owner in live.items() if owner == cache]
        assert machine.stat(cache, SLAB_STAT_LIVE_OBJS) == len(held)
        assert machine.op("destroy", cache) == (-EBUSY if held else 0)
        for obj in held:
            assert machine.free(obj) == 0
            assert machine.free(obj) == -EINVAL  # twice
        machine.op("shrink", cache)
        assert machine.stat(cache, SLAB_STAT_NUM_OBJS) == 0
        assert machine.op("destroy", cache) == 0 and machine.op("check") == 0
    drifts = machine.m.pcp[r.PCP_FREE_DIFF :: r.PCP_STRIDE].sum()
    assert machine.m.zone[r.Z_FREE :: r.ZONE_STRIDE].sum() + drifts == before


@pytest.mark.parametrize("name", RIVALS)
def test_what_is_no_object_is_refused(name):
    machine = Machine(RIVALS[name])
    machine.op("create", 1, 64, 0, 0)
    obj = machine.alloc(1)
    for bad in (-1, 1 << 50, obj + 8, obj + 4096 * 100):
        assert machine.free(bad) == -EINVAL
    assert machine.op("create", 1, 64, 0, 0) == -EINVAL and machine.op("alloc", 2, GFP_KERNEL) == -EINVAL
    assert machine.free(obj) == 0 and machine.op("check") == 0


def test_slab_moves_batches_between_arrays_and_slabs():
    machine = Machine(SLAB)
    machine.op("create", 1, 256, 0, 0)  # arrays of 120, moved by 60; 16 a page
    ac, shared = machine.st.ac[1 * 2 * AC_STRIDE :], machine.st.shared[SHARED_STRIDE:]
    objs = [machine.alloc(1)]
    assert ac[0] == 15  # an untouched array takes at most 16 at first
    while ac[0]:
        objs.append(machine.alloc(1))
    objs.append(machine.alloc(1))
    assert ac[0] == 15  # from a new slab: no more than it has
    objs += [machine.alloc(1) for _ in range(148)]
    assert (len(objs), ac[0]) == (165, 11)  # eleven slabs of 16
    for obj in objs[:109]:
        machine.free(obj)
    assert (ac[0], shared[0]) == (120, 0)
    machine.free(objs[109])
    assert (ac[0], shared[0]) == (61, 60)  # the older half went to the shared array
    assert machine.alloc(1, cpu=1) == objs[48]  # where the other CPU gets its first 16: what came last, of 11 unused and 49 freed objects
    assert shared[0] == 60 - 16
    assert machine.op("check") == 0


def test_slab_orders_and_limits():
    machine = Machine(SLAB, cpus=1)
    sizes = {64: 0, 1000: 0, 1500: 1, 3000: 1, 5000: 1, 20_000: 3}
    for cache, (size, order) in enumerate(sizes.items(), 1):
        assert machine.op("create", cache, size, 0, 0) == 0
        assert machine.stat(cache, SLAB_STAT_ORDER) == order, size
    assert machine.stat(3, SLAB_STAT_OBJPERSLAB) == 8192 // 1504
    assert machine.op("create", 9, 1500, 0, SLAB_RECLAIM_ACCOUNT) == 0
    assert machine.stat(9, SLAB_STAT_ORDER) == 0


def test_slab_keeps_objects_of_other_nodes_apart():
    machine = Machine(SLAB, 4, table=NUMA)
    machine.op("create", 1, 256, 0, 0)
    objs = [machine.alloc(1, cpu=0) for _ in range(20)]
    alien = machine.st.alien[(1 * 2 + 1) * 2 * ALIEN_STRIDE :]  # node 1's array for node 0
    for obj in objs[:12]:
        machine.free(obj, cpu=2)
    assert alien[0] == 12
    machine.free(objs[12], cpu=2)
    assert alien[0] == 1 and machine.st.shared[1 * 2 * SHARED_STRIDE] == 12  # they went home, to node 0's shared array
    assert machine.op("check") == 0


def test_slab_gives_back_slabs_beyond_its_limit():
    machine = Machine(SLAB, cpus=1)
    machine.op("create", 1, 1024, 0, 0)  # limit 54, batch 27, 4 a page; without a shared array
    objs = [machine.alloc(1) for _ in range(400)]
    assert machine.stat(1, SLAB_STAT_NUM_SLABS) >= 100
    for obj in objs:
        machine.free(obj)
    free = machine.stat(1, SLAB_STAT_NUM_OBJS) - machine.stat(1, SLAB_STAT_ACTIVE_OBJS)
    assert 2 * 27 + 4 - 4 < free <= 2 * 27 + 4  # just below (1 + CPUs) * batch + one slab
    assert machine.op("shrink", 1) > 0 and machine.stat(1, SLAB_STAT_NUM_SLABS) == 0


def test_slob_shares_pages_among_caches():
    machine = Machine(SLOB, cpus=1)
    for cache, size in ((1, 40), (2, 24), (3, 600), (4, 6000), (5, 64)):
        assert machine.op("create", cache, size, 64 if cache == 5 else 0, 0) == 0
    a, b, c, d = machine.alloc(1), machine.alloc(2), machine.alloc(1), machine.alloc(5)
    assert (b - a, c - a, d - a) == (40, 64, 128)  # side by side, and the next multiple of 64
    other, large = machine.alloc(3), machine.alloc(4)
    assert other >> 12 != a >> 12 and large & 4095 == 0
    machine.free(b)
    e = machine.alloc(2)
    assert e == b  # the first run that fits
    machine.free(e)
    machine.free(a)
    assert machine.alloc(5) == a  # 64 bytes: both runs joined
    assert machine.op("check") == 0
    for obj in (a, c, d, other, large):
        assert machine.free(obj) == 0
    assert machine.op("check") == 0
    assert [machine.stat(cache, SLAB_STAT_LIVE_OBJS) for cache in range(1, 6)] == [0] * 5
    assert not (machine.m.page[2::4][: machine.m.sizes.nr_frames] & PG_SLAB).any()  # every page went back


def test_slob_frees_a_full_page_from_its_end():
    machine = Machine(SLOB, cpus=1)
    machine.op("create", 1, 64, 0, 0)
    objs = [machine.alloc(1) for _ in range(130)]
    for obj in objs[127:63:-1]:  # the second page; the third follows it in memory
        assert machine.free(obj) == 0
        assert machine.op("check") == 0
    assert machine.stat(1, SLAB_STAT_LIVE_OBJS) == 66
    assert machine.alloc(1) == objs[129] + 64  # the page with room that was used last


def test_sheaves_turn_over_without_slub():
    machine = Machine(SHEAVES, cpus=1, params=SheavesParams(sheaf_capacity=4))
    machine.op("create", 1, 64, 0, 0)
    barn = machine.st.barn[BARN_STRIDE:]
    objs = [machine.alloc(1) for _ in range(100)]
    calls = machine.stat(1, SLAB_STAT_NUM_OBJS)
    for obj in objs[:8]:
        assert machine.free(obj) == 0
    assert barn[:2].tolist() == [0, 0]  # main and spare hold eight
    machine.free(objs[8])
    assert barn[:2].tolist() == [1, 0]  # one full sheaf in the barn
    for obj in objs[9:]:
        machine.free(obj)
    assert barn[0] == 10  # no more than ten; the rest went to SLUB
    assert machine.stat(1, SLAB_STAT_LIVE_OBJS) == 0 and machine.stat(1, SLAB_STAT_NUM_OBJS) == calls
    assert machine.alloc(1) == objs[-1]
    got = [machine.alloc(1) for _ in range(47)]
    assert len(set(got)) == 47 and machine.op("check") == 0
    assert barn[0] <= 1


def test_sheaves_leave_objects_of_other_nodes_to_slub():
    machine = Machine(SHEAVES, 4, table=NUMA)
    machine.op("create", 1, 64, 0, 0)
    obj = machine.alloc(1, cpu=0)
    machine.free(obj, cpu=2)
    sheaves = machine.st.sheaf.reshape(-1, SHEAF_STRIDE)
    assert sheaves[:, 0].max() == 59  # what is left of the first sheaf, of 60; nothing on node 1
    assert machine.stat(1, SLAB_STAT_LIVE_OBJS) == 0 and machine.op("check") == 0


def test_without_cpu_partial_lists_slabs_go_to_their_node():
    for policy, listed in ((SLUB, 0), (SLUB_NOCPUPARTIAL, 1)):
        machine = Machine(policy, cpus=1)
        machine.op("create", 1, 1024, 0, 0)
        objs = [machine.alloc(1) for _ in range(64)]
        machine.free(objs[0])  # of a slab that was full and is no CPU's any more
        assert machine.stat(1, SLAB_STAT_NR_PARTIAL) == listed


def test_the_sizes_of_a_sheaf():
    machine = Machine(SHEAVES, cpus=1)
    held = {}
    for cache, size in enumerate((64, 300, 1024, 4096), 1):
        machine.op("create", cache, size, 0, 0)
        machine.alloc(cache)
        count = len(machine.st.sheaf) // r.NR_CACHES
        held[size] = 1 + int(np.max(machine.st.sheaf[cache * count + SHEAF_STRIDE : (cache + 1) * count : SHEAF_STRIDE]))
    assert held == {64: 60, 300: 26, 1024: 12, 4096: 4}
