"""The main job: an experiment file runs, its figures are right in ways a reader can check, and the same twice gives the same bytes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from mmlab.errors import InputError, NotSupported
from mmlab.experiment.load import load_experiment
from mmlab.simulation import Simulation
from mmlab.workload.stream import EventStream

TOML = """
name = "pressure"
[machine]
memory = "12M"
bare = true
swap = "64M"
[workload]
kind = "synthetic"
generator = "loop"
params = {pages = 4000, events = 9000, write_fraction = 1.0}
[matrix]
"reclaimer.use" = ["fifo", "opt"]
[run]
check_every = 3000
"""


def run(folder: Path, results: str, toml: str = TOML, **env: str) -> subprocess.CompletedProcess:
    """`mmlab run` in a process of its own."""
    (folder / "x.toml").write_text(toml)
    command = [sys.executable, "-m", "mmlab", "run", "x.toml", "--jobs", "1", "--results", results]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env={**os.environ, **env})


def counters(folder: Path, results: str) -> dict[str, dict[str, float]]:
    """Counters by reclaimer, from the tidy table."""
    found: dict[str, dict[str, float]] = {}
    for row in pq.read_table(folder / results / "pressure" / "cells.parquet").to_pylist():
        found.setdefault(row["reclaimer.use"], {})[row["counter"]] = row["value"]
    return found


def test_a_loop_larger_than_memory(tmp_path):
    """4000 pages in turn through 3072 frames: FIFO loses every page before it comes round again, OPT keeps most; all invariants hold."""
    done = run(tmp_path, "r", NUMBA_DISABLE_JIT="1")
    assert done.returncode == 0, done.stderr
    found = counters(tmp_path, "r")
    # the loop runs 2.25 times: 4000 first touches, then 5000 accesses that FIFO misses all
    assert found["fifo"]["pgfault"] >= 4000 + 4500
    assert found["opt"]["pgfault"] < 4000 + 2500
    for name in ("fifo", "opt"):
        assert found[name]["pswpout"] > 900  # what does not fit must have gone to swap
    assert (tmp_path / "r" / "pressure" / "report.html").stat().st_size > 100_000
    before = (tmp_path / "r" / "pressure" / "cells.parquet").read_bytes()
    again = run(tmp_path, "r2", NUMBA_DISABLE_JIT="1")
    assert again.returncode == 0
    assert (tmp_path / "r2" / "pressure" / "cells.parquet").read_bytes() == before


@pytest.mark.jit
def test_jit_equals_python(tmp_path):
    """The compiled build gives the very counters of the plain-Python one."""
    assert run(tmp_path, "py", NUMBA_DISABLE_JIT="1").returncode == 0
    done = run(tmp_path, "jit", NUMBA_DISABLE_JIT="0")
    assert done.returncode == 0, done.stderr
    assert counters(tmp_path, "jit") == counters(tmp_path, "py")


@pytest.mark.nojit
@pytest.mark.parametrize("reclaimer", ["two_list", "clock", "fifo", "lru", "opt"])
def test_fork_exit_and_reclaim_leave_a_consistent_machine(reclaimer):
    """Touch more than memory, fork, copy on write, exit: check_state() finds nothing at any point, and exit gives all memory back."""
    nothing = EventStream(np.zeros(0, np.int64), (), ())  # opt takes a stream only; here no page is accessed again
    sim = Simulation.from_table(
        {"memory": "4M", "bare": True, "swap": "16M"}, policies={"reclaimer": {"use": reclaimer}, "thp": {"use": "never"}}, stream=nothing
    )
    sim.spawn("A")
    addr = sim.mmap("A", 6 << 20)
    assert sim.touch("A", addr, 1536, 1).ret == 0
    assert sim.check_state() == []
    assert sim.counters()["pswpout"] > 0
    sim.fork("A", "B")
    assert sim.touch("B", addr, 200, 1).ret == 0
    assert sim.check_state() == []
    sim.exit("A")
    sim.exit("B")
    assert sim.check_state() == []
    assert sim.rss_pages() == 0
    assert sim.counters()["nr_anon_pages"] == 0
    assert sim.counters()["nr_page_table_pages"] == 0


@pytest.mark.parametrize(("slot", "name"), [("reclaimer", "opt"), ("tiering", "oracle"), ("oom_policy", "oracle"), ("thp", "oracle")])
def test_who_knows_the_future_refuses_what_has_none(tmp_path, slot, name):
    """A machine whose operations come one by one, and a script; the message says where it can be used."""
    with pytest.raises(NotSupported, match=f"^{slot} '{name}' knows the future accesses of a bulk stream; there is none here: Simulation.from_experiment"):
        Simulation.from_table({"memory": "4M", "bare": True}, policies={slot: {"use": name}})
    (tmp_path / "a.ops").write_text("spawn A\n")
    (tmp_path / "a.toml").write_text(f'[workload]\nkind = "ops"\nscript = "a.ops"\n[{slot}]\nuse = "{name}"\n')
    with pytest.raises(InputError) as caught:
        load_experiment(tmp_path / "a.toml", {})
    assert caught.value.messages == [
        f"{tmp_path}/a.toml: {slot}.use: '{name}' knows the future accesses of a bulk stream; a workload of kind 'ops' has none "
        "(kinds that have: trace, stream, synthetic, masim, damo, requests)"
    ]


def test_a_map_that_linux_refuses_ends_the_run(tmp_path):
    """4000 pages are more than the 3072 of memory and the 256 of swap together: mmap() fails, and nothing that follows would mean anything.
    vm.overcommit_memory = 1 grants it; then memory runs out."""
    small = TOML.replace('swap = "64M"', 'swap = "1M"')
    done = run(tmp_path, "r", small, NUMBA_DISABLE_JIT="1")
    assert done.returncode == 1
    assert "T0: its map of 15.6 MiB was refused (ENOMEM), as Linux refuses one map that is larger than memory and swap together" in done.stderr
    done = run(tmp_path, "r", small + '[sysctl]\n"vm.overcommit_memory" = 1\n', NUMBA_DISABLE_JIT="1")
    assert done.returncode == 1 and "the OOM killer ended T0" in done.stderr
