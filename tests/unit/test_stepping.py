"""A notebook's way through an experiment: a cell run some events at a time, looked at in between."""

from __future__ import annotations

import pytest

from mmlab import Simulation
from mmlab.errors import InputError

EXPERIMENT = """
name = "steps"
[machine]
memory = "4M"
bare = true
swap = "8M"
[workload]
kind = "synthetic"
generator = "loop"
params = {pages = 300, events = 1500, write_fraction = 1.0}
[matrix]
reclaimer.use = ["fifo", "clock"]
"""


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "steps.toml"
    path.write_text(EXPERIMENT)
    return path


def test_steps_come_to_the_same_as_one_run(path):
    """Five rounds over 300 pages, the first of which faults. Two events are no accesses: the task begins, and maps its memory."""
    sim, whole = Simulation.from_experiment(path, reclaimer="clock"), Simulation.from_experiment(path, reclaimer="clock")
    assert sim.policies["reclaimer"].policy.name == "clock"
    for done in range(100, 1600, 100):
        assert sim.step(100) == max(1502 - done, 0)
        assert sim.rss_pages() == min(done - 2, 300) and sim.check_state() == []
    assert sim.step(100) == whole.step(10_000) == 0
    assert (sim.counters(), sim.now_ns) == (whole.counters(), whole.now_ns)
    assert sim.counters()["pgfault"] == 300


def test_plot_shows_the_steps_so_far(path):
    sim = Simulation.from_experiment(path)
    assert sim.policies["reclaimer"].policy.name == "fifo"
    sim.step(150)
    (line,) = sim.plot("rss_pages").data
    assert line.y[-1] == sim.rss_pages() > 100
    with pytest.raises(InputError, match="no series 'rss'.*rss_pages"):
        sim.plot("rss")


def test_what_cannot_be_stepped_is_refused(path):
    with pytest.raises(InputError, match=r"steps.toml: no cell has reclaimer 'lru' \(the matrix varies reclaimer.use: clock, fifo\)"):
        Simulation.from_experiment(path, reclaimer="lru")
    path.write_text(EXPERIMENT.replace('"synthetic"', '"requests"'))
    with pytest.raises(InputError, match="workload.kind 'requests' is no stream of accesses"):
        Simulation.from_experiment(path)
    with pytest.raises(InputError, match="no stream of events"):
        Simulation.from_table({"memory": "4M", "bare": True}).step()
