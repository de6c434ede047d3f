"""Operations of a script that the kernel refused are told on the terminal."""

import pytest

from mmlab._engine.script import run_script
from mmlab.results.cell_result import CellResult
from mmlab.results.refused import refused
from mmlab.simulation import Simulation
from mmlab.workload.ops import parse_ops

SCRIPT = """spawn A
set_mempolicy A bind nodes=5
set_mempolicy A interleave nodes=0,1
set_mempolicy A default nodes=0
mmap A r 4 anon
mbind A r 0 4 bind
mbind A r 0 4 weighted_interleave nodes=1 move
touch A r 0 4 w
cgroup g cpuset.mems=7
sysfs mm/mempolicy/weighted_interleave/node9 3
"""


@pytest.mark.nojit
def test_a_script_hands_back_what_was_refused(tmp_path):
    sim = Simulation.from_table({"memory": "64M", "bare": True, "nodes": [{"memory": "32M", "cpus": [0]}, {"memory": "32M"}]}, script=True)
    rows = run_script(sim, parse_ops(SCRIPT, "x.ops"), tmp_path / "out", tmp_path)
    assert list(refused([CellResult({}, tables={"refused": rows})])) == [
        "refused: line 2: set_mempolicy A bind nodes=5: EINVAL",
        "refused: line 4: set_mempolicy A default nodes=0: EINVAL",
        "refused: line 6: mbind A r 0 4 bind: EINVAL",
        "refused: line 9: cgroup g cpuset.mems=7: EINVAL",
        "refused: line 10: sysfs mm/mempolicy/weighted_interleave/node9 3: ENOENT",
    ]


def test_what_only_some_cells_refused_says_how_many():
    row = {"line": 3, "op": "mlock A r 0 4", "errno": 12}
    assert list(refused([CellResult({}), CellResult({}, tables={"refused": [row]})])) == ["refused in 1 of 2 cells: line 3: mlock A r 0 4: ENOMEM"]
    assert list(refused([CellResult({})])) == []
