"""mbind() over addresses where nothing is mapped: only the default policy passes over them."""

import pytest

from mmlab import procfs
from mmlab.model.const import EFAULT
from mmlab.simulation import Simulation

pytestmark = pytest.mark.nojit
PAGE = 4096
BASE = 1 << 40


@pytest.fixture
def sim():
    """Pages 0 to 8 and 16 to 24 are mapped, and bound to node 1."""
    sim = Simulation.from_table({"memory": "64M", "bare": True, "nodes": [{"memory": "32M", "cpus": [0]}, {"memory": "32M"}]})
    sim.spawn("A")
    for first in (0, 16):
        sim.mmap("A", 8 * PAGE, addr=BASE + first * PAGE)
        assert sim.mbind("A", BASE + first * PAGE, 8 * PAGE, "bind", [1]) == 0
    return sim


def on_node_1(sim):
    """Pages that touching all of both maps puts on node 1."""

    def other_node():
        return int(procfs.read(sim, "/sys/devices/system/node/node1/numastat").split()[-1])

    before = other_node()
    for first in (0, 16):
        sim.touch("A", BASE + first * PAGE, 8, 1)
    return other_node() - before


def test_a_policy_over_a_hole_changes_nothing(sim):
    assert sim.mbind("A", BASE, 24 * PAGE, "preferred", [0]) == -EFAULT
    assert on_node_1(sim) == 16


def test_the_default_policy_passes_over_holes(sim):
    assert sim.mbind("A", BASE, 32 * PAGE, "default") == 0
    assert on_node_1(sim) == 0 and sim.check_state() == []


def test_a_part_before_a_hole_alone(sim):
    assert sim.mbind("A", BASE + 4 * PAGE, 8 * PAGE, "default") == 0
    assert on_node_1(sim) == 4 + 8 and sim.check_state() == []


def test_nothing_but_a_hole_is_an_error_for_the_default_as_well(sim):
    assert sim.mbind("A", BASE + 8 * PAGE, 8 * PAGE, "default") == -EFAULT
    assert sim.mbind("A", BASE + 64 * PAGE, 8 * PAGE, "default") == -EFAULT
