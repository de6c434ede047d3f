"""Policies and a simulator that cost nothing, for tests of everything around them."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
from attrs import field, frozen
from attrs.validators import ge, le

from mmlab.errors import InputError, PluginError
from mmlab.experiment.cells import Cell
from mmlab.results.cell_result import CellResult

DEFAULTS = {"reclaimer": "two_list", "page_allocator": "buddy", "cost_model": "vm_guest", "thp": "always"}


@frozen
class TwoListParams:
    swappiness: int = field(default=60, validator=[ge(0), le(200)])
    workingset: bool = True


@frozen
class ClockParams:
    hand_step: int = field(default=1, validator=ge(1))


@frozen
class FakePolicy:
    slot: str
    name: str
    params: type | None = None
    summary: str = "a policy"
    level: str = "L0"
    distribution: str = "mmlab"
    version: str = "1.0"
    source: str = "fake.py"
    source_digest: str = "d0"


class FakeRegistry:
    """Offers four reclaimers, one policy of two more slots, and none for thp."""

    def __init__(self, digest: str = "d0"):
        made = [FakePolicy("reclaimer", "two_list", TwoListParams), FakePolicy("reclaimer", "clock", ClockParams)]
        made += [FakePolicy("reclaimer", name, source_digest=digest) for name in ("fifo", "opt")]
        made += [FakePolicy("page_allocator", "buddy"), FakePolicy("cost_model", "vm_guest")]
        self._policies = {(p.slot, p.name): p for p in made}

    def names(self, slot: str) -> list[str]:
        return sorted(name for s, name in self._policies if s == slot)

    def get(self, slot: str, name: str) -> FakePolicy:
        return self._policies[slot, name]

    def policies(self) -> list[FakePolicy]:
        return list(self._policies.values())


#: Major faults of each reclaimer at seed 1, in thousands.
FAULTS = {"two_list": 5, "clock": 6, "fifo": 9, "opt": 3}


def run_cell(cell: Cell, progress, out_dir: Path) -> CellResult:
    """Counters that follow from the reclaimer and the seed alone."""
    major = 1000 * FAULTS[cell.config["policies"]["reclaimer"]["use"]] + cell.seed
    progress(0, 100, "compiling reclaimer ... 0.1 s")
    progress(100, 100, "")
    (out_dir / "left_by_simulator.txt").write_text("x\n")
    time_ns = np.arange(0, 5_000_000_000, 100_000_000, dtype=np.int64)
    growth = np.linspace(0, major, len(time_ns)).astype(np.int64)
    series = {
        "time_ns": time_ns,
        "pgfault": 3 * growth,
        "pgmajfault": growth,
        "nr_free:0,DMA32": 9000 - growth,
        "free_blocks:0": growth % 97,
    }
    counters = {"pgfault": 3 * major, "pgmajfault": major, "sim_time_ns": 10**6 * major, "events": 10_000}
    return CellResult(counters, series, timing={"wall_s": time.perf_counter() % 1 + 0.01})


def run_cell_failing(cell: Cell, progress, out_dir: Path) -> CellResult:
    """fifo fails as mmlab's own errors do, clock by a bug, opt kills its process."""
    name = cell.config["policies"]["reclaimer"]["use"]
    if name == "fifo":
        raise InputError("w.npz: truncated")
    if name == "clock":
        raise ZeroDivisionError("a bug")
    if name == "opt":
        os._exit(9)
    return run_cell(cell, progress, out_dir)


def run_cell_plugin_error(cell: Cell, progress, out_dir: Path) -> CellResult:
    raise PluginError("plugin x (y 1.0): broke")


def run_cell_interrupted(cell: Cell, progress, out_dir: Path) -> CellResult:
    """Like Ctrl-C while the second cell runs."""
    if cell.config["policies"]["reclaimer"]["use"] == "clock":
        os.kill(os.getpid(), 2)
        progress(1, 2, "")
    return run_cell(cell, progress, out_dir)


class Silent:
    """A listener that keeps what it hears."""

    def __init__(self):
        self.phases, self.ended = [], []

    def progress(self, cell, done, total, phase):
        self.phases.append(phase)

    def finished(self, cell, error):
        self.ended.append((cell.label, error))
