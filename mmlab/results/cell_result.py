"""What running one cell gives back: the contract between the simulator and the results."""

from __future__ import annotations

from typing import Any

import numpy as np
from attrs import field, frozen

#: `series` columns that every run has when the machine has the thing they count. A label follows a colon:
#: one column per zone (`nr_free:0,DMA32`, in pages) and per order (`free_blocks:3`, free blocks of that order, all zones together).
#: Both indices of fragmentation are for a huge page (order 9), times 1000, as debugfs shows them.
SERIES = {
    "time_ns": "simulated time of the sample; increasing, the same length as every other column",
    "pgfault": "page faults so far",
    "pgmajfault": "major page faults so far",
    "refaults": "workingset_refault_anon + workingset_refault_file so far",
    "rss_pages": "resident pages, all tasks together",
    "nr_free": "free pages of one zone; label NODE,ZONE",
    "free_blocks": "free blocks of one order; label ORDER",
    "free_huge_frames": "huge frames (2 MiB, aligned) that are wholly free and in the shared lists",
    "extfrag_index": "-1000 a huge page can be had, near 0 memory is short, 1000 it is fragmented; label NODE,ZONE",
    "unusable_index": "share of free memory that lies in blocks too small for a huge page; label NODE,ZONE",
}


@frozen(eq=False)
class CellResult:
    """The figures of one finished cell.

    counters: final values under their /proc/vmstat names, plus `sim_time_ns` and `events`. Nothing here may depend on the wall
        clock: the same cell gives the same counters, byte for byte.
    series: column -> int64 or float64 array of one length, sampled on simulated time; names as in `SERIES`.
    tables: further tables by name, each a list of rows (OOM kills, monitor regions ...). JSON values only.
    meta: policies exercised, calls per policy, fidelity levels, wmarks ... JSON values only, not dependent on the wall clock.
    timing: what does depend on it, in seconds: `wall_s` (the run without compiling), `compile_s`; kept apart from the rest.
    """

    counters: dict[str, int | float]
    series: dict[str, np.ndarray] = field(factory=dict)
    tables: dict[str, list[dict[str, Any]]] = field(factory=dict)
    meta: dict[str, Any] = field(factory=dict)
    timing: dict[str, float] = field(factory=dict)

    @series.validator
    def _one_length(self, attribute: Any, value: dict[str, np.ndarray]) -> None:
        lengths = {name: len(column) for name, column in value.items()}
        if value and "time_ns" not in value:
            raise ValueError(f"series needs a column 'time_ns', got {sorted(value)}")
        if len(set(lengths.values())) > 1:
            raise ValueError(f"series columns must have one length, got {lengths}")
