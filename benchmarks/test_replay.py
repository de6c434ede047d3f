"""A whole machine under a stream of accesses: page tables and accessed bits, kswapd, MGLRU, swap on a disk; accesses a second on one core."""

from __future__ import annotations

import pytest

from mmlab._engine import loop
from mmlab.model import rows as r
from mmlab.simulation import Simulation
from mmlab.workload.generators import make_generator

MEMORY_PAGES = 1 << 17  # 512 MiB
EVENTS = 1 << 21  # a round
ROUNDS = 10  # streams go on from round to round; the first two bring the machine into its steady state
pytestmark = pytest.mark.bench


class Replay:
    """One task whose stream goes on with every round; missed(): the share of accesses since the last call that had to wait for the disk."""

    def __init__(self, generator: str, params: dict[str, object]):
        self.sim = Simulation.from_table(
            {"memory": f"{MEMORY_PAGES << 2}K", "bare": True, "swap": "4G", "cpus": 1}, policies={"thp": {"use": "never"}}, sysctl={"vm.page-cluster": "0"}
        )
        stream = make_generator(generator, {"events": ROUNDS * EVENTS, "write_fraction": 0.3, **params}, "params").stream(1)
        words = stream.words[(stream.words & 15) < 3]
        self.sim.spawn("A")
        pages = int(words.max() >> 16) + 1 - (0x10000000000 >> 12)
        assert self.sim.mmap("A", pages << 12, flags=["fixed", "noreserve"], addr=0x10000000000) == 0x10000000000
        self.words = words | self.sim.task("A").index << 4
        self.at = self.faults = 0
        for _ in range(2):
            self.run()
        self.missed()

    def run(self) -> None:
        machine, stop = self.sim.machine, self.at + EVENTS
        while self.at < stop:
            self.at = machine.run(loop.run_stream, self.words, self.at, stop)
            assert machine.sc[r.SC_EVENT] == loop.STOP_DONE

    def missed(self) -> float:
        before, self.faults = self.faults, self.sim.counters()["pgmajfault"]
        return (self.faults - before) / (self.at - 2 * EVENTS or 1)


@pytest.mark.parametrize("generator, params, low, high, goal", [
    ("zipf", {"pages": MEMORY_PAGES * 9 // 8, "alpha": 0.99}, 0.002, 0.015, 20),
    ("uniform", {"pages": MEMORY_PAGES * 5 // 4}, 0.22, 0.28, 3),
], ids=["mostly_resident", "a_quarter_missing"])  # fmt: skip
def test_machine_replay(generator, params, low, high, goal, compare):
    replay = Replay(generator, params)
    compare(replay.run, None, EVENTS, at_least_m_per_s=goal)
    share = replay.missed()
    assert low <= share <= high, f"{share:.3f} of the accesses missed"
    assert replay.sim.counters()["pgscan_kswapd"] > 0 and not replay.sim.check_state()
