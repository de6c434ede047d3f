"""Aged states: named, seeded, from pagetypeinfo, and what is said about those that cannot be."""

from __future__ import annotations

import pytest

from mmlab import Simulation
from mmlab.errors import InputError
from mmlab.machine import AGED_STATES, machine_from_table
from mmlab.machine.fragmentation import unusable_index
from mmlab.procfs.registry import read

MANAGED = 32 << 8


def simulation(aged, seed=1, allocator="buddy", memory="32M", **table):
    policies = {"page_allocator": {"use": allocator}}
    return Simulation.from_table({"memory": memory, "bare": True, "aged": aged, **table}, policies=policies, seed=seed)


def free_blocks(sim, zone=0):
    return [sum(sim.machine.op("page_allocator", "nr_free_blocks", zone, order, kind) for kind in range(5)) for order in range(11)]


def pages(blocks):
    return sum(count << order for order, count in enumerate(blocks))


@pytest.mark.parametrize("name", AGED_STATES)
def test_named_states_leave_what_they_say(name):
    sim = simulation(name)
    assert sim.check_state() == []
    state = AGED_STATES[name]
    blocks = int(state["fill"] * MANAGED)
    stays = int(state.get("unmovable", 0) * blocks)
    left = stays + (blocks - stays) - int(state["free"] * (blocks - stays))
    assert pages(free_blocks(sim)) == MANAGED - left
    assert sim.now_ns == 0 and sim.counters()["pgfree"] == 0 and sim.machine.calls()["page_allocator"] == 0


def test_half_random_has_no_huge_frame_but_the_unfilled_ones():
    blocks = free_blocks(simulation("half_random"))
    assert blocks[9] * 1 + blocks[10] * 2 == 1  # 819 pages were never used
    assert unusable_index(blocks, 9) > 800
    assert free_blocks(simulation({"state": "huge_holes", "seed": 2}))[10] >= 2


def test_seeds():
    first, again, other = (simulation("half_random", seed) for seed in (1, 1, 2))
    assert free_blocks(first) == free_blocks(again) != free_blocks(other)
    assert free_blocks(simulation({"state": "half_random", "seed": 1}, seed=7)) == free_blocks(first)


def test_states_hold_under_any_allocator():
    for allocator in ("llfree", "first_fit"):
        sim = simulation({"state": "checkerboard", "fill": 0.75}, allocator=allocator)
        assert sim.check_state() == []
        assert free_blocks(sim) == [MANAGED * 3 // 8] + [0] * 9 + [2]  # every second page: no two together


def test_filling_stops_where_memory_ends():
    sim = simulation({"state": "half_random", "fill": 1.0, "free": 0.0})
    assert 0 < pages(free_blocks(sim)) < MANAGED // 20  # down to the watermarks


def test_pagetypeinfo_of_one_machine_for_another(tmp_path):
    aged = simulation({"state": "half_random", "free": 0.2, "unmovable": 0.05}, memory="64M")
    (tmp_path / "pagetypeinfo").write_text(read(aged, "/proc/pagetypeinfo"))
    sim = simulation({"pagetypeinfo": str(tmp_path / "pagetypeinfo")}, memory="64M")
    assert sim.check_state() == []
    want = {kind: [aged.machine.op("page_allocator", "nr_free_blocks", 0, o, kind) for o in range(11)] for kind in range(3)}
    got = {kind: [sim.machine.op("page_allocator", "nr_free_blocks", 0, o, kind) for o in range(11)] for kind in range(3)}
    assert got == want


def said(aged, **table):
    with pytest.raises(InputError) as caught:
        machine_from_table({"memory": "64M", "aged": aged, **table})
    return caught.value.messages


def test_what_is_wrong_with_a_state():
    assert said("half_randum")[0].startswith("machine.aged.state: no aged state named 'half_randum'")
    assert said("half_randum")[0].endswith("did you mean 'half_random'?")
    assert said(3)[0].startswith("machine.aged: must be the name of a state or a table")
    assert said({"state": "churned", "fill": 2})[0].startswith("machine.aged.fill: ")
    assert said({"state": "churned", "pages": 2})[0].startswith("machine.aged.pages: unknown key")
    assert said({"pagetypeinfo": "f", "fill": 0.5})[0].startswith("machine.aged.pagetypeinfo: must be a file and stand alone")


def test_what_is_wrong_with_a_pagetypeinfo(tmp_path):
    path = tmp_path / "pagetypeinfo"
    aged = {"pagetypeinfo": str(path)}
    with pytest.raises(InputError, match="no such file; it must be a copy"):
        simulation(aged)
    path.write_text("nothing\n")
    with pytest.raises(InputError, match="is it a copy of /proc/pagetypeinfo"):
        simulation(aged)
    path.write_text(read(simulation("sprinkled", memory="64M"), "/proc/pagetypeinfo"))
    with pytest.raises(InputError, match="machine.aged.pagetypeinfo: .* has only 8192"):
        simulation(aged)
    path.write_text("Node 1, zone Normal, type Movable 1 0 0 0 0 0 0 0 0 0 0\n")
    with pytest.raises(InputError) as caught:
        simulation(aged)
    assert [m.rpartition(": ")[2] for m in caught.value.messages] == [
        "the machine has no zone Normal of node 1", "no line for zone DMA32 of node 0, which the machine has",
    ]  # fmt: skip
