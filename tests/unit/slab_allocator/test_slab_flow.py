"""Which slab each object comes from, against the recording of a real kernel (ground truth case slab-flow)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from flow_program import FlowProgram
from slab_machine import SlabMachine

CASE = Path(__file__).resolve().parents[2] / "ground_truth" / "allocators" / "slab-flow"


@pytest.fixture(scope="module")
def replay():
    machine = SlabMachine()
    program = FlowProgram(machine)
    program.run((CASE / "p.prog").read_text())
    return machine, program


@pytest.fixture(scope="module")
def expected():
    return {figure["id"]: figure["value"] for figure in json.loads((CASE / "expected.json").read_text())["figures"]}


def test_every_object_comes_from_the_slab_that_linux_took_it_from(replay, expected):
    _, program = replay
    assert program.slabs == expected["probe[p].slabs"]


def test_cpu_slab_cpu_list_and_node_list_are_those_of_linux(replay, expected):
    _, program = replay
    recorded = {name: expected[f"probe[p].slab_state[{name}]"] for name in program.states}
    assert program.states == recorded
    assert len(recorded) == 14


@pytest.mark.parametrize("cache, name", [(1, "flow_a"), (2, "flow_b"), (3, "flow_c")])
def test_slabinfo_after_the_program(replay, expected, cache, name):
    from mmlab.mm.slab import slabinfo_rows

    machine, _ = replay
    row = next(row for row in slabinfo_rows(machine.m) if row[0] in (f"cache-{cache}", _kernel_name(cache)))
    columns = ("active_objs", "num_objs", "objsize", "objperslab", "pagesperslab", "active_slabs", "num_slabs")
    assert dict(zip(columns, row[1:])) == {column: expected[f"snap[s1].slabinfo[{name}].{column}"] for column in columns}


def _kernel_name(cache: int) -> str:
    from mmlab.mm.slab import KERNEL_CACHES

    return KERNEL_CACHES[cache].name


def test_the_invariants_hold_and_pages_are_counted(replay):
    machine, _ = replay
    assert machine.op("check") == 0
    from mmlab.model.vmstat import V_NR_SLAB_UNRECLAIMABLE

    pages = sum(machine.op("stat", c, 4) * machine.op("stat", c, 5) for c in (1, 2, 3))
    assert machine.m.vmstat[V_NR_SLAB_UNRECLAIMABLE] == pages
