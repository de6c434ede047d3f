"""The traces that come with mmlab are what their README says."""

from pathlib import Path

import numpy as np
import pytest

from mmlab.workload import traces
from mmlab.workload.trace_format import read_trace
from mmlab.workload.traces import shipped

README = Path(traces.__file__).parents[1] / "traces" / "README.md"


def test_names_and_size():
    assert list(shipped()) == ["gcc", "json", "sqlite"]
    assert sum(path.stat().st_size for path in shipped().values()) < 8 << 20


@pytest.mark.parametrize("name", ["gcc", "json", "sqlite"])
def test_a_shipped_trace(name):
    trace = read_trace(shipped()[name])
    pages = len(np.unique(trace.accesses >> 4))
    events = len(trace.accesses) + len(trace.changes)
    assert trace.meta["filter"] == 64 and trace.meta["exit_code"] == 0 and 200_000 <= events <= 3_000_000 and pages >= 1024
    row = next(line for line in README.read_text().splitlines() if line.startswith(f"| {name} |"))
    assert row.endswith(f"| {trace.meta['references']:,} | {events:,} | {pages:,} |")
