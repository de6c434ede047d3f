"""Reading the text of an allocator trace of 10 million lines: at least a million lines a second."""

from __future__ import annotations

import pytest

from mmlab.workload.kmem_trace import _blocks, _Reading, read_kmem_trace
from mmlab.workload.traces import shipped_allocations

LINES = 10_000_000
pytestmark = pytest.mark.bench


@pytest.fixture(scope="module")
def trace(tmp_path_factory):
    """The shipped trace again and again."""
    (packed,) = shipped_allocations().values()
    text = b"".join(bytes(block[:stop]) for block, stop in _blocks(packed, _Reading(packed)))
    path = tmp_path_factory.mktemp("kmem") / "trace.txt"
    with path.open("wb") as file:
        for _ in range(-(-LINES // text.count(b"\n"))):
            file.write(text)
    yield path
    path.unlink()


@pytest.mark.parametrize("events", ["pages", "all"])
def test_kmem_trace_lines(trace, events, compare):
    lines = read_kmem_trace(trace, events).meta["lines"]
    compare(lambda: read_kmem_trace(trace, events), None, lines, at_least_m_per_s=1)
