"""Ctrl-C inside a cell: the run goes on where it stopped, and ends with the bytes of a run that was never stopped."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mmlab._engine import alloc_run, checkpoint, stream_run
from mmlab._engine.sampler import Sampler
from mmlab._engine.stream_run import StreamRun
from mmlab.experiment.executor import Interrupted, execute
from mmlab.experiment.load import load_experiment
from mmlab.experiment.run import simulate
from mmlab.model.layout import reserve
from mmlab.simulation import Simulation
from mmlab.workload.operation import Operation, Place
from mmlab.workload.stream import KIND_OPERATION, EventStream, pack, repeated

TOML = """
name = "stopped"
[machine]
memory = "8M"
bare = true
swap = "64M"
disk = "1G"
[workload]
kind = "trace"
trace = "json"
[reclaimer]
use = "two_list"
[run]
sample_ms = 1
check_every = 10000
"""


ALLOCATIONS = """
name = "stopped"
[machine]
memory = "16M"
bare = true
[workload]
kind = "allocations"
generator = "fragmentation"
params = {fill = 0.9, rounds = 6, churn = 0.5}
[run]
sample_ms = 1
check_every = 2000
"""


class StopAfter:
    """A listener that is Ctrl-C at the n-th progress of a run (0: never); `seen` are the positions it was told."""

    def __init__(self, n: int):
        self.left, self.seen = n, []

    def progress(self, _cell, done, _total, _phase):
        if not done:
            return
        self.seen.append(done)
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt

    def finished(self, _cell, error):
        assert error is None, error


@pytest.mark.parametrize("text, module, chunk", [(TOML, stream_run, 8000), (ALLOCATIONS, alloc_run, 700)], ids=["stream", "allocations"])
def test_an_interrupted_cell_goes_on_and_ends_with_the_same_bytes(tmp_path: Path, monkeypatch, text, module, chunk):
    """Stopped after two chunks and again after one more: every later run begins where the last one stopped."""
    monkeypatch.setattr(module, "CHUNK", chunk)
    (tmp_path / "x.toml").write_text(text)
    cells = load_experiment(tmp_path / "x.toml").cells
    whole = StopAfter(0)
    execute(cells, tmp_path / "whole", simulate, 1, whole)
    first, second, last = StopAfter(2), StopAfter(2), StopAfter(0)
    for listener in (first, second):
        with pytest.raises(Interrupted) as caught:
            execute(cells, tmp_path / "parts", simulate, 1, listener)
        assert caught.value.remaining == 1
        assert (tmp_path / "parts" / "cells" / f".{cells[0].key}.state").is_dir()
    execute(cells, tmp_path / "parts", simulate, 1, last)
    assert first.seen + second.seen[1:] + last.seen[1:] == whole.seen
    assert second.seen[0] == first.seen[-1]
    folders = [tmp_path / name / "cells" / cells[0].key for name in ("whole", "parts")]
    for name in ("cell.json", "series.npz"):
        assert folders[0].joinpath(name).read_bytes() == folders[1].joinpath(name).read_bytes()
    assert [p.name for p in (tmp_path / "parts" / "cells").iterdir()] == [cells[0].key]  # no state is left


@pytest.mark.parametrize("stops", [1, 3, 7, 12])
def test_an_allocator_stream_is_left_anywhere(tmp_path: Path, monkeypatch, stops):
    """At the end of a part, too, where its sample is still to be taken."""
    monkeypatch.setattr(alloc_run, "CHUNK", 1000)
    (tmp_path / "x.toml").write_text(ALLOCATIONS)
    cells = load_experiment(tmp_path / "x.toml").cells
    execute(cells, tmp_path / "whole", simulate, 1, StopAfter(0))
    with pytest.raises(Interrupted):
        execute(cells, tmp_path / "parts", simulate, 1, StopAfter(stops))
    execute(cells, tmp_path / "parts", simulate, 1, StopAfter(0))
    folders = [tmp_path / name / "cells" / cells[0].key for name in ("whole", "parts")]
    for name in ("cell.json", "series.npz"):
        assert folders[0].joinpath(name).read_bytes() == folders[1].joinpath(name).read_bytes()


def test_a_checkpoint_holds_what_is_not_zero_and_nothing_else(tmp_path):
    """A gigabyte of reserved memory with three bytes set takes three pages; what was set since the checkpoint is zero again after it."""
    large, small = reserve(1 << 27, "int64"), np.arange(100)
    large[0], large[5000], large[-1] = 1, 2, 3
    checkpoint.save(tmp_path / "s", {"large": large, "small": small}, {"done": 7})
    assert (tmp_path / "s" / "arrays.npz").stat().st_size < 16384
    large[0], large[5000], large[70_000_000], small[:] = 9, 0, 4, -1
    assert checkpoint.load(tmp_path / "s", {"large": large, "small": small}) == {"done": 7}
    assert [int(large[i]) for i in (0, 5000, 70_000_000, -1)] == [1, 2, 0, 3]
    assert small.tolist() == list(range(100))


@pytest.mark.parametrize("damage", ["cut", "gone", "other"])
def test_a_damaged_checkpoint_is_no_checkpoint(tmp_path, damage):
    """The run starts again then, with nothing changed."""
    array = np.arange(2000)
    checkpoint.save(tmp_path / "s", {"a": array}, {})
    file = tmp_path / "s" / "arrays.npz"
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:3000])
    elif damage == "gone":
        file.unlink()
    arrays = {"b" if damage == "other" else "a": array}
    array[:] = 5
    assert checkpoint.load(tmp_path / "s", arrays) is None
    assert array.tolist() == [5] * 2000


def test_a_recorded_program_runs_again_and_again(tmp_path):
    """repeat: from spawn to exit each time, as often as asked; every run faults in the same pages anew."""
    once = _faults(tmp_path, 1)
    assert once > 0
    assert _faults(tmp_path, 3) == 3 * once


def _faults(tmp_path: Path, times: int) -> int:
    program = [
        Operation("spawn", "p", {"cpu": 0}),
        Operation("mmap", "p", {"at": Place(None, 0x10000000), "size": 64 << 12}),
        Operation("exit", "p"),
    ]
    words = np.concatenate([pack(KIND_OPERATION, 0, [0, 1]), pack(1, 0, 0x10000 + np.arange(64)), pack(KIND_OPERATION, 0, [2])])
    stream = repeated(EventStream(words, tuple(program), ("p",)), times)
    sim = Simulation.from_table({"memory": "8M", "bare": True})
    happened = StreamRun(sim, stream, Sampler(sim, 1000)).run(lambda *_: None)
    assert happened["failed_operations"] == 0
    assert sim.check_state() == []
    return sim.counters()["pgfault"]
