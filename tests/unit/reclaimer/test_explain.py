"""Explanations of what reclaim decided: a sample of decisions, with what the policy knows of the page and of others."""

import numpy as np
import pytest

from mmlab._engine.explained import decisions
from mmlab._engine.requests import RequestMachine
from mmlab.simulation import Simulation
from mmlab_linux.reclaimer.mglru import MGLRU
from mmlab_linux.reclaimer.two_list import TWO_LIST
from mmlab_rivals.reclaimer import RECLAIMERS
from mmlab_rivals.reclaimer.clock import CLOCK
from mmlab_rivals.reclaimer.fifo import FIFO
from mmlab_rivals.reclaimer.lfu import LFU
from mmlab_rivals.reclaimer.lru import LRU
from mmlab_rivals.reclaimer.opt import OPT

ALL = [*RECLAIMERS, TWO_LIST, MGLRU]


def replayed(policy, ids, size, explain):
    machine = RequestMachine(policy, None, np.array(ids, np.int64), size, explain=explain)
    while not machine.done:
        machine.step()
    return machine


def explained(policy, ids, size, explain=100):
    """[(row of the decision, rows of pages that stay)]."""
    found = {}
    for row in decisions(replayed(policy, ids, size, explain).machine):
        found.setdefault(row["decision"], []).append(row)
    return [(rows[0], rows[1:]) for rows in found.values()]


def mixed(requests=3000, objects=200, seed=5):
    rng = np.random.Generator(np.random.PCG64(seed))
    return np.minimum(rng.zipf(1.3, requests), objects) - 1


def test_fifo_evicts_in_the_order_of_arrival():
    found = explained(FIFO, range(8), 4)
    assert [(row["fate"], row["page"]) for row, _ in found] == [("evicted", page) for page in (0, 1, 2, 3)]
    for row, others in found:
        assert others, "somebody stays"
        for other in others:  # the victim is off the list, so the next one is at the old end
            assert other["fate"] == "stays" and other["position"] == other["page"] - row["page"] - 1


def test_lru_evicts_behind_everybody():
    ids = [0, 1, 2, 3, 0, 4]
    (row, others), = explained(LRU, ids, 4)
    assert row["page"] == 1 and row["position"] == -1
    assert {other["page"]: other["position"] for other in others}.items() <= {2: 0, 3: 1, 0: 2}.items()


def test_clock_says_whom_it_spared():
    found = explained(CLOCK, [0, 1, 2, 0, 3], 3)
    assert [(row["fate"], row["page"], row["accessed"]) for row, _ in found] == [("accessed", 0, 1), ("evicted", 1, 0)]


@pytest.mark.parametrize("policy, worse", [
    (OPT, lambda row, other: row["next_use"] == -1 or 0 <= other["next_use"] <= row["next_use"]),
    (LFU, lambda row, other: row["accesses"] <= other["accesses"]),
])  # fmt: skip
def test_the_victim_is_the_worst_by_the_policys_own_figure(policy, worse):
    found = explained(policy, mixed(), 40)
    assert len(found) >= 100
    assert all(worse(row, other) for row, others in found for other in others)


@pytest.mark.parametrize("policy", ALL, ids=lambda policy: policy.name)
def test_explaining_changes_nothing(policy):
    ids = mixed()
    plain, told = replayed(policy, ids, 40, 0), replayed(policy, ids, 40, 30)
    assert plain.misses == told.misses and plain.counters()["pgscan_direct"] == told.counters()["pgscan_direct"]
    rows = decisions(told.machine)
    evicted = [row for row in rows if row["fate"] == "evicted"]
    assert 30 <= len(evicted) <= 60
    wanted = {said.name: said.words for said in policy.explains}
    for row in rows:
        assert row["kind"] == "object" and 0 <= row["page"] < 200
        assert wanted.keys() <= row.keys()
        assert all(row[name] in words for name, words in wanted.items() if words)


def test_the_sample_is_spread_evenly_however_long_the_run_is():
    for objects in (20, 500, 9000):
        pages = [row["page"] for row, _ in explained(FIFO, range(objects), 2, 5)]
        steps = set(np.diff(pages).tolist())
        assert len(steps) == 1 and steps.pop().bit_count() == 1  # every 2**k-th
        assert pages[0] == 0 and 5 <= len(pages) <= 10


@pytest.mark.parametrize("reclaimer", ["two_list", "mglru", "sieve"])
def test_on_a_machine(reclaimer):
    counted = []
    for explain in (0, 20):
        sim = Simulation.from_table({"memory": "8M", "bare": True, "swap": "32M"}, policies={"reclaimer": {"use": reclaimer}}, explain=explain)
        sim.spawn("A")
        pages = 2200
        addr = sim.mmap("A", pages << 12)
        for _ in range(2):
            sim.touch("A", addr, pages, 1)
        assert not sim.check_state()
        counted.append(sim.counters())
    assert counted[0] == counted[1]
    rows = sim.explained()
    names = {said.name for said in sim.policies["reclaimer"].policy.explains}
    taken = [row for row in rows if row["fate"] == "evicted"]
    assert taken and names
    for row in rows:
        assert row["kind"] in ("anon", "swap cache") and names <= row.keys()
        if row["owner"]:
            assert row["owner"] == "A" and addr >> 12 <= row["page"] < (addr >> 12) + pages
    if reclaimer == "mglru":
        assert all(row["older"] == 0 for row in taken), "victims come from the oldest generation"
        assert all(row["age"] >= 0 for row in rows)
    if reclaimer == "two_list":
        assert {row["list"] for row in taken} == {"inactive_anon"}
