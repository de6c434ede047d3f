"""The published run of LLFree at 1/8 of its memory: shares of the possible huge frames within 2 percentage points."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmlab import run
from mmlab.kernels.jit import JIT_OFF

POSSIBLE = 33_914
PUBLISHED = {"buddy": (5108, 5107), "llfree": (5024, 31_967)}


@pytest.mark.slow
@pytest.mark.skipif(JIT_OFF, reason="43 million events")
def test_huge_frames_as_published(tmp_path):
    result = run(Path(__file__).parents[2] / "experiments" / "allocator_fragmentation.toml", results=tmp_path, quiet=True)
    series = {cell.axes["page_allocator.use"]: cell.result.series for cell in result.cells}
    possible = sum(int(column[-1]) for name, column in series["llfree"].items() if name.startswith("nr_free:")) / 512
    for name, (first, last) in PUBLISHED.items():
        frames = series[name]["free_huge_frames"][2:]
        assert len(frames) == 101
        assert abs(frames[0] / possible - first / POSSIBLE) < 0.02
        assert abs(frames[-1] / possible - last / POSSIBLE) < 0.02
    assert series["llfree"]["free_huge_frames"][-1] / possible > 0.9
