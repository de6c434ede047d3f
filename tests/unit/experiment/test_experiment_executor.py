"""Running cells: whole or not at all, once only, whatever happens to one of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from experiment_fakes import DEFAULTS, FakeRegistry, Silent, run_cell, run_cell_failing, run_cell_interrupted, run_cell_plugin_error

from mmlab.errors import InputError, MmlabError, PluginError
from mmlab.experiment.executor import Interrupted, execute
from mmlab.experiment.load import load_experiment
from mmlab.experiment.run import failure

TEXT = """
[matrix]
reclaimer.use = ["two_list", "clock", "fifo", "opt"]
[workload]
kind = "synthetic"
generator = "uniform"
params = {pages = 10, events = 20}
"""


@pytest.fixture
def cells(tmp_path):
    (tmp_path / "x.toml").write_text(TEXT)
    return load_experiment(tmp_path / "x.toml", None, FakeRegistry(), DEFAULTS).cells


def names(folder):
    return sorted(p.name for p in (folder / "cells").iterdir())


@pytest.mark.parametrize("jobs", [1, 2])
def test_every_cell_is_written_whole(cells, tmp_path, jobs):
    listener = Silent()
    outcome = execute(cells, tmp_path / "r", run_cell, jobs, listener)
    assert (outcome.done, outcome.skipped, outcome.failed) == (4, 0, [])
    assert names(tmp_path / "r") == sorted(c.key for c in cells)
    folder = tmp_path / "r" / "cells" / cells[2].key
    assert sorted(p.name for p in folder.iterdir()) == ["cell.json", "left_by_simulator.txt", "series.npz", "timing.json"]
    assert json.loads((folder / "cell.json").read_text())["counters"]["pgmajfault"] == 9001
    assert "compiling reclaimer ... 0.1 s" in listener.phases
    assert sorted(listener.ended) == sorted((c.label, None) for c in cells)


def test_same_bytes_in_any_process(cells, tmp_path):
    execute(cells, tmp_path / "a", run_cell, 1, Silent())
    execute(cells, tmp_path / "b", run_cell, 2, Silent())
    for cell in cells:
        for name in ("cell.json", "series.npz"):
            assert (tmp_path / "a/cells" / cell.key / name).read_bytes() == (tmp_path / "b/cells" / cell.key / name).read_bytes()


def test_only_what_is_missing_runs(cells, tmp_path):
    execute(cells[:3], tmp_path / "r", run_cell, 1, Silent())
    listener = Silent()
    outcome = execute(cells, tmp_path / "r", run_cell, 1, listener)
    assert (outcome.done, outcome.skipped) == (1, 3)
    assert listener.ended == [(cells[3].label, None)]


def test_failures_do_not_stop_the_rest(cells, tmp_path):
    """Among them a process that dies: only its own cell is lost."""
    outcome = execute(cells, tmp_path / "r", run_cell_failing, 2, Silent())
    assert names(tmp_path / "r") == [cells[0].key]
    by_policy = {cell.axes["reclaimer.use"]: (message, code) for cell, message, code in outcome.failed}
    assert by_policy["fifo"] == ("w.npz: truncated", 2)
    assert by_policy["clock"][0].startswith("ZeroDivisionError: a bug (in experiment_fakes.py:")
    assert "its process was killed" in by_policy["opt"][0]
    error = failure(outcome)
    assert type(error) is MmlabError
    assert str(error).startswith("3 of 4 cells failed\n")


def test_what_the_failures_amount_to(cells, tmp_path):
    outcome = execute(cells[2:3], tmp_path / "r", run_cell_failing, 1, Silent())
    assert isinstance(failure(outcome), InputError)
    assert failure(outcome).messages == ["w.npz: truncated"]
    outcome = execute(cells, tmp_path / "r", run_cell_plugin_error, 1, Silent())
    assert isinstance(failure(outcome), PluginError)
    assert str(failure(outcome)) == "4 of 4 cells failed\nreclaimer.use=two_list seed=1 and 3 more: plugin x (y 1.0): broke"


def test_ctrl_c_keeps_what_is_finished(cells, tmp_path):
    with pytest.raises(Interrupted) as caught:
        execute(cells, tmp_path / "r", run_cell_interrupted, 1, Silent())
    assert caught.value.remaining == 3
    assert names(tmp_path / "r") == [cells[0].key]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert execute(cells, tmp_path / "r", run_cell, 1, Silent()).skipped == 1


SLOW = """
import sys, time
from pathlib import Path
sys.path[:0] = {path!r}
from experiment_fakes import *
from mmlab.experiment.executor import execute, Interrupted
from mmlab.experiment.load import load_experiment
import slow_cell
cells = load_experiment({toml!r}, None, FakeRegistry(), DEFAULTS).cells
try:
    execute(cells, Path({results!r}), slow_cell.run_cell, 2, Silent())
except Interrupted as stop:
    print("remaining", stop.remaining)
"""


def test_ctrl_c_with_processes_and_a_script_without_main_guard(cells, tmp_path):
    """The script is read from stdin, too: there is no file that a worker could import."""
    (tmp_path / "slow_cell.py").write_text(
        "import time, experiment_fakes\n"
        "def run_cell(cell, progress, out_dir):\n"
        "    if cell.axes['reclaimer.use'] != 'two_list':\n"
        "        for i in range(600):\n"
        "            time.sleep(0.05)\n"
        "            progress(i, 600, '')\n"
        "    return experiment_fakes.run_cell(cell, progress, out_dir)\n"
    )
    path = [str(tmp_path), os.path.dirname(__file__)]
    text = SLOW.format(path=path, toml=str(tmp_path / "x.toml"), results=str(tmp_path / "r"))
    # not in the checkout: "-" would import mmlab from there, this test may run an installed one
    process = subprocess.Popen(
        [sys.executable, "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path
    )
    process.stdin.write(text)
    process.stdin.close()
    process.stdin = None
    deadline = time.monotonic() + 60
    while not (tmp_path / "r/cells" / cells[0].key).exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "remaining 3\n"), err
    assert "Traceback" not in err
    assert names(tmp_path / "r") == [cells[0].key]


def test_folder_that_is_no_folder(cells, tmp_path):
    (tmp_path / "r").write_text("")
    with pytest.raises(InputError, match="the results folder cannot be written: .*--results DIR"):
        execute(cells, tmp_path / "r" / "x", run_cell, 1, Silent())


def test_two_runs_do_not_share_a_folder(cells, tmp_path):
    def run_again(cell, progress, out_dir):
        execute(cells, tmp_path / "r", run_cell, 1, Silent())

    outcome = execute(cells[:1], tmp_path / "r", run_again, 1, Silent())
    assert "another mmlab run is writing here" in outcome.failed[0][1]


#: a main thread in native code that comes back for no signal, as a compiled endless loop: a mutex locked twice
STUCK = """
import ctypes
from mmlab.experiment.executor import _stop_on_ctrl_c
libc, mutex = ctypes.CDLL(None), ctypes.create_string_buffer(64)
with _stop_on_ctrl_c():
    libc.pthread_mutex_lock(mutex)
    print("locked", flush=True)
    libc.pthread_mutex_lock(mutex)
"""


def test_a_second_ctrl_c_ends_compiled_code_that_does_not_end():
    process = subprocess.Popen([sys.executable, "-c", STUCK], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "locked\n"
    process.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(1)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said.endswith("stopped in the middle of compiled code (an endless loop in a policy?); finished cells are kept\n")
