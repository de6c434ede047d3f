"""Programs that a real kernel ran, replayed from its own dumped free lists: every PFN, list, pageblock type and counter must be equal."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from mmlab._engine.machine import Chosen
from mmlab.kernels.ops import page_allocator_check
from mmlab.testing.standins import STANDINS
from mmlab.verify.ids import Unsupported
from mmlab.verify.probe_run import ProbeRun, dump_state, load_state, program_cpu
from mmlab_linux.page_allocator.buddy import BUDDY

CASES = Path(__file__).resolve().parents[2] / "ground_truth" / "allocators"
RUNS = [(path.parent.name, int(path.name[5])) for path in sorted(CASES.glob("*/p.run*.json.gz"))]
CHOSEN = {slot: Chosen(policy) for slot, policy in STANDINS.items()} | {"page_allocator": Chosen(BUDDY)}


def recorded(case: str, run: int) -> dict:
    return json.loads(gzip.decompress((CASES / case / f"p.run{run}.json.gz").read_bytes()))


def program(case: str) -> list[str]:
    return (CASES / case / "p.prog").read_text().splitlines()


def without_input(zones: list[dict]) -> list[dict]:
    return [{name: value for name, value in zone.items() if name not in ("movable_pages", "first_pageblock")} for zone in zones]


def test_there_are_programs_for_every_part_of_the_allocator():
    assert {case for case, _ in RUNS} >= {
        "buddy-merge", "buddy-pcp-mix", "migratetype-fallback", "pcp-highorder", "highatomic", "alloc-to-the-watermarks", "numa-fallback",
    }  # fmt: skip


@pytest.mark.parametrize("case, run", RUNS, ids=[f"{case}@{run}" for case, run in RUNS])
def test_program_replays_exactly(case, run):
    real = recorded(case, run)
    commands = program(case)
    start = next(line.split()[1] for line in commands if line.startswith("dump"))
    machine = load_state(real["states"][start], real["zonelists"], CHOSEN)
    assert without_input(dump_state(machine)) == without_input(real["states"][start])
    log = ProbeRun(machine).run_from_dump(commands)
    assert log.pfns == real["pfns"]
    assert list(log.states) == list(real["states"])
    for name, zones in real["states"].items():
        assert without_input(log.states[name]) == without_input(zones), name
    assert [machine.run(page_allocator_check, zone) for zone in range(machine.sizes.nr_zones)] == [0] * machine.sizes.nr_zones


def test_a_dump_of_counters_alone_is_no_start_state():
    real = recorded("alloc-to-the-watermarks", 0)
    with pytest.raises(Unsupported):
        load_state(real["states"]["a"], real["zonelists"], CHOSEN)


def test_slots_begin_again_and_name_the_last_allocation():
    """An allocation that fails leaves its slot empty, what the slot named before stays allocated; a slot without a block splits into nothing."""
    real = recorded("buddy-merge", 0)
    run = ProbeRun(load_state(real["states"]["start"], real["zonelists"], CHOSEN))
    log = run.run(["alloc 65535 0 KERNEL n=2; split 5", "alloc 0 10 NOWAIT n=200", "alloc 0 10 NOWAIT n=200"])
    assert log.pfns[2] == [-1] * 200 and run.slots == {65535: (log.pfns[0][0], 0)}
    run.run(["free 65535 n=2"])
    assert not run.slots


def test_slab_commands_are_refused():
    real = recorded("buddy-merge", 0)
    machine = load_state(real["states"]["start"], real["zonelists"], CHOSEN)
    with pytest.raises(Unsupported):
        ProbeRun(machine).run(["dump a", "frobnicate 1"])


def test_a_program_ran_on_the_cpu_whose_lists_changed():
    real = recorded("pcp-highorder", 0)
    states = real["states"]
    assert program_cpu(states) == 0
    for zones in states.values():  # the same run, had there been a CPU before its own that was idle
        for zone in zones:
            (own,) = zone["pcp"]
            idle = {name: 0 for name in own} | {"batch": own["batch"], "high_min": own["high_min"], "high_max": own["high_max"], "lists": {}}
            zone["pcp"] = [idle, own | {"cpu": 1}]
    assert program_cpu(states) == 1
    log = ProbeRun(load_state(states["start"], real["zonelists"], CHOSEN, cpu=1)).run_from_dump(program("pcp-highorder"))
    assert log.pfns == real["pfns"]
    assert [zone["pcp"] for zone in log.states["j"]] == [zone["pcp"] for zone in states["j"]]
