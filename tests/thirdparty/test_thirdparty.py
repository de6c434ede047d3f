"""A distribution that mmlab has never heard of: found, run, and as fast as a built-in of the same kind."""

import statistics

import mmlab_example_fifo
import numpy as np
import pytest
from mmlab_example_fifo import EXAMPLE_FIFO

from mmlab._engine.requests import RequestMachine
from mmlab.pluginmanager import load_plugins
from mmlab.simulation import Simulation
from mmlab.testing.conformance import ReclaimerConformance

FRAMES = 1 << 14


def zipf(requests: int) -> np.ndarray:
    """Requests for 2^17 objects, object i about 1/(i+1) as often as the first."""
    return np.random.default_rng(1).zipf(1.2, 2 * requests).astype(np.int64)[:requests] % (1 << 17)


class TestExampleFifo(ReclaimerConformance):
    policy = EXAMPLE_FIFO


def test_shows_up_with_its_own_distribution():
    found = load_plugins().get("reclaimer", "example_fifo")
    assert (found.distribution, found.version, found.policy) == ("mmlab-example-fifo", "1.0", EXAMPLE_FIFO)
    assert found.source == mmlab_example_fifo.__file__


def test_runs_under_memory_pressure():
    sim = Simulation.from_table({"memory": "8M", "swap": "16M", "bare": True}, policies={"reclaimer": {"use": "example_fifo"}})
    sim.spawn("A")
    addr = sim.mmap("A", 16 << 20, flags=["noreserve"])
    for _ in range(2):
        sim.touch("A", addr, 3000, 1)
    counters = sim.counters()
    assert counters["pswpout"] > 900  # 3000 pages were written, about 2000 fit
    assert sim.machine.calls()["reclaimer"] > 3000
    assert sim.check_state() == []


def test_misses_as_the_built_in_does():
    ids = zipf(50_000)
    assert misses(EXAMPLE_FIFO, ids) == misses(load_plugins().get("reclaimer", "fifo").policy, ids)


def misses(policy, ids: np.ndarray) -> int:
    machine = RequestMachine(policy, None, ids, FRAMES)
    while not machine.done:
        machine.step()
    return machine.misses


@pytest.mark.bench
def test_at_least_80_percent_of_the_built_in_speed(capsys):
    """Both replay the same requests, taking turns in one process; medians of seven."""
    ids = zipf(2_000_000)
    policies = {"fifo": load_plugins().get("reclaimer", "fifo").policy, "example_fifo": EXAMPLE_FIFO}
    seconds: dict[str, list[float]] = {name: [] for name in policies}
    for turn in range(8):
        for name, policy in policies.items():
            machine = RequestMachine(policy, None, ids, FRAMES)
            while not machine.done:
                machine.step()
            if turn > 0:  # the first warms up
                seconds[name].append(machine.seconds)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    with capsys.disabled():
        print("".join(f"\n{name}: {len(ids) / median / 1e6:.1f} M requests/s" for name, median in medians.items()))
    assert medians["fifo"] / medians["example_fifo"] >= 0.8
