"""Finished cells made by hand."""

from __future__ import annotations

import numpy as np
import pytest

from mmlab.results.cell_files import FinishedCell
from mmlab.results.cell_result import CellResult


@pytest.fixture
def finished():
    """finished(reclaimer, seed, major, memory=...): a cell with these major faults, twice as many faults and two samples."""

    def make(reclaimer: str, seed: int, major: int, memory: str = "1G") -> FinishedCell:
        config = {"policies": {"reclaimer": {"use": reclaimer}, "cost_model": {"use": "vm_guest"}}, "seed": seed}
        series = {
            "time_ns": np.array([0, 10**7], dtype=np.int64),
            "pgmajfault": np.array([0, major], dtype=np.int64),
            "nr_free:0,Normal": np.array([100, 5], dtype=np.int64),
            "free_blocks:0": np.array([4, 1], dtype=np.int64),
            "free_blocks:10": np.array([9, 0], dtype=np.int64),
        }
        counters = {"pgfault": 2 * major, "pgmajfault": major, "sim_time_ns": 1000 * major, "events": 50}
        result = CellResult(counters, series, timing={"wall_s": 0.5})
        return FinishedCell(
            f"{reclaimer}{seed}{memory}".ljust(64, "0"), {"reclaimer.use": reclaimer, "machine.memory": memory}, config, result
        )

    return make
