"""A long random life of every page allocator, and what the fuzz says of allocators that are wrong."""

from __future__ import annotations

import attrs
import pytest
from mmlab_rivals.page_allocator.first_fit import FIRST_FIT
from mmlab_rivals.page_allocator.first_fit import alloc as first_fit_alloc
from mmlab_rivals.page_allocator.first_fit import free as first_fit_free

from mmlab import Simulation
from mmlab._engine.check import walk
from mmlab.errors import MmlabError
from mmlab.kernels.jit import JIT_OFF, kernel
from mmlab.kernels.services import free_pages
from mmlab.model.rows import PTE_SHIFT
from mmlab.pluginmanager import load_plugins
from mmlab.testing.page_fuzz import Fuzz, fuzz_pages

ALLOCATORS = ("buddy", "buddy_nopcp", "buddy_nomigratetype", "first_fit", "next_fit", "llfree", "tlsf", "reservation")


def maker(name, memory, cpus=2):
    return lambda: Simulation.from_table({"memory": memory, "bare": True, "cpus": cpus}, policies={"page_allocator": {"use": name}})


@pytest.mark.parametrize("name", ALLOCATORS)
def test_a_short_life(name):
    fuzz = fuzz_pages(maker(name, "16M"), 3_000 if JIT_OFF else 50_000, seed=4, check_every=1_000)
    assert fuzz.blocks[0] > 10


@pytest.mark.slow
@pytest.mark.skipif(JIT_OFF, reason="a million operations")
@pytest.mark.parametrize("name", ALLOCATORS)
def test_a_million_operations_on_a_gigabyte(name):
    fuzz = fuzz_pages(maker(name, "1G"), 10**6, seed=9)
    machine = fuzz.sim.machine
    for block in fuzz.blocks[1 : fuzz.blocks[0] + 1].tolist():
        machine.run(free_pages, block >> 4, block & 15)
    for cpu in range(2):
        machine.op("page_allocator", "drain", 0, cpu)
    assert machine.op("page_allocator", "check", 0) == 0
    assert sum(machine.op("page_allocator", "nr_free_blocks", 0, 10, kind) for kind in range(5)) == 256


FORGOTTEN, TWICE = 4096 + 700, 4096 + 300


@kernel
def forgetful_free(m, st, pfn, order):
    """Loses the block at one frame."""
    return 0 if pfn == FORGOTTEN else first_fit_free(m, st, pfn, order)


@kernel
def generous_alloc(m, st, zone, order, migratetype, alloc_flags):
    """Hands out one frame a second time."""
    pfn = first_fit_alloc(m, st, zone, order, migratetype, alloc_flags)
    return TWICE if pfn == TWICE + 100 else pfn


def broken(**ops):
    policy = attrs.evolve(FIRST_FIT, **ops)
    registry = load_plugins()

    class Registry:
        def names(self, slot):
            return registry.names(slot)

        def get(self, slot, name):
            entry = registry.get(slot, name)
            return attrs.evolve(entry, policy=policy) if slot == "page_allocator" else entry

    return lambda: Simulation.from_table(
        {"memory": "16M", "bare": True}, policies={"page_allocator": {"use": "first_fit"}}, registry=Registry()
    )  # fmt: skip


def first_wrong(make, seed, limit=4_000):
    """The first operation after which something is wrong, one by one."""
    fuzz = Fuzz(make(), seed)
    while not (found := fuzz.run(fuzz.done + 1)):
        assert fuzz.done < limit
    return fuzz.done - (0 if "got" in found else 1)


@pytest.mark.parametrize(
    ("ops", "said"),
    [({"free": forgetful_free}, "pages are free and"), ({"alloc": generous_alloc}, f"got a frame that is in use: order 0 at frame {TWICE}")],
    ids=["lost", "twice"],
)
@pytest.mark.skipif(not JIT_OFF, reason="an allocator of a test's own is compiled anew")
def test_a_wrong_allocator_is_found_at_its_first_wrong_operation(ops, said):
    make = broken(**ops)
    with pytest.raises(AssertionError) as caught:
        fuzz_pages(make, 4_000, seed=6, check_every=2_000)
    text = str(caught.value)
    assert said in text
    assert f"seed 6: after operation {first_wrong(make, 6)}: " in text


@pytest.mark.parametrize("name", ALLOCATORS)
def test_what_cannot_be_freed_is_refused_and_named(name):
    sim = maker(name, "16M")()
    pfn, other = sim.alloc_pages(3), sim.alloc_pages(0)

    def refused(frame, order):
        before = [array.tobytes() for array in (sim.machine.page, sim.machine.zone, sim.machine.pcp)]
        with pytest.raises(MmlabError) as caught:
            sim.free_pages(frame, order)
        assert before == [array.tobytes() for array in (sim.machine.page, sim.machine.zone, sim.machine.pcp)]
        return str(caught.value)

    assert refused(pfn, 2) == f"free_pages: frame {pfn} cannot be freed with order 2: it is in use, a block of order 3"
    assert refused(pfn, 4).endswith("it is in use, a block of order 3")
    assert refused(pfn + 2, 0).endswith(f"it is in use, a part of the block of order 3 at frame {pfn}")
    sim.free_pages(pfn, 3)
    assert f"frame {pfn} cannot be freed with order 3: it is free" in refused(pfn, 3)
    sim.free_pages(other)
    assert f"frame {other} cannot be freed with order 0: it is free" in refused(other, 0)
    assert refused(3, 0).endswith("it is no frame of this machine")
    assert sim.check_state() == []


def test_frames_of_others_are_refused():
    sim = maker("llfree", "16M")()
    sim.spawn("A")
    address = sim.mmap("A", 4096)
    sim.touch("A", address, 1, 1)
    entry = next(entry for _, entry, _ in walk(sim.machine, sim.task("A").mm))
    with pytest.raises(MmlabError, match="it is in use by a task's memory"):
        sim.free_pages(entry >> PTE_SHIFT)
    for bad in ({"order": 11}, {"cpu": 9}, {"node": 4}, {"gfp": "GFP_KERNAL"}):
        with pytest.raises(MmlabError, match="alloc_pages: "):
            sim.alloc_pages(**bad)
