"""Files that are there once a node: what a write to those of a node that is missing answers."""

import pytest

from mmlab import procfs
from mmlab.model.const import EINVAL, ENOENT
from mmlab.simulation import Simulation

WEIGHTS = "/sys/kernel/mm/mempolicy/weighted_interleave/node"


@pytest.fixture
def sim():
    return Simulation.from_table({"memory": "64M", "bare": True, "nodes": [{"memory": "32M", "cpus": [0]}, {"memory": "32M"}]})


@pytest.mark.nojit
@pytest.mark.parametrize(("node", "text", "answer", "reads"), [(1, "255", 0, "255\n"), (1, "256", -EINVAL, "1\n"), (1, "0", 0, "1\n"), (1, "x", -EINVAL, "1\n")])
def test_weights(sim, node, text, answer, reads):
    assert procfs.write(sim, f"{WEIGHTS}{node}", text) == answer
    assert procfs.read(sim, f"{WEIGHTS}{node}") == reads


@pytest.mark.nojit
def test_a_node_that_is_missing_has_no_files(sim):
    assert procfs.write(sim, f"{WEIGHTS}2", "3") == -ENOENT
    assert procfs.write(sim, "/sys/devices/system/node/node2/compact", "1") == -ENOENT
    with pytest.raises(FileNotFoundError):
        procfs.read(sim, f"{WEIGHTS}2")
