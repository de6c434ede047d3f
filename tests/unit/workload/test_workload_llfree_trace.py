"""LLFree's allocation traces: entries of several CPUs merged by time, and what is said of files that are something else."""

import numpy as np
import pytest

from mmlab.errors import InputError
from mmlab.model import gfp
from mmlab.workload.allocation_files import read_allocation_file
from mmlab.workload.allocations import ALLOC_PAGES, FREE_PAGES
from mmlab.workload.llfree_trace import BLOCK, read_llfree_trace

MOVABLE = gfp.GFP_HIGHUSER_MOVABLE


def entry(time_us, pfn, alloc, order, flags=0, pid=0):
    value = time_us | pfn << 38 | alloc << 62 | order << 63 | flags << 67 | pid << 96
    return value.to_bytes(16, "little")


def trace(*blocks, cpus=2, max_pfn=9999):
    header = np.array([len(blocks), cpus, max_pfn], "<u4").tobytes().ljust(BLOCK, b"\0")
    return header + b"".join((cpu.to_bytes(4, "little").ljust(16, b"\0") + b"".join(entries)).ljust(BLOCK, b"\0") for cpu, entries in blocks)


TWO = trace(
    (0, [entry(10, 5000, 1, 9, MOVABLE | 1 << 28, 7), entry(30, 5001, 0, 0)]),
    (1, [entry(20, 5600, 1, 0, gfp.GFP_KERNEL), entry(25, 5600, 0, 0)]),
    (0, [entry(30, 6144, 1, 10)]),
)  # fmt: skip


def file(tmp_path, content, name="t.llfree"):
    (tmp_path / name).write_bytes(content)
    return tmp_path / name


def test_entries_are_merged_by_time(tmp_path):
    s = read_allocation_file(file(tmp_path, TWO))
    assert s.op.tolist() == [ALLOC_PAGES, ALLOC_PAGES, FREE_PAGES, FREE_PAGES, ALLOC_PAGES]
    assert (s.id + 4096).tolist() == [5000, 5600, 5600, 5001, 6144]  # from the lowest frame's 4 MiB on
    assert s.arg.tolist() == [9, 0, 0, 0, 10]
    assert s.gfp.tolist() == [MOVABLE, gfp.GFP_KERNEL, 0, 0, 0]
    assert s.cpu.tolist() == [0, 1, 1, 0, 0]
    assert s.time_ns.tolist() == [0, 10_000, 15_000, 20_000, 20_000]
    assert s.meta["source"] == "LLFree trace" and s.meta["cpus"] == 2


def test_a_machine_runs_it(tmp_path):
    from mmlab import Simulation
    from mmlab._engine.alloc_run import AllocationRun
    from mmlab._engine.sampler import Sampler
    from mmlab.testing.slots import nr_free

    sim = Simulation.from_table({"memory": "32M", "bare": True, "cpus": 2})
    before = nr_free(sim)
    happened = AllocationRun(sim, read_llfree_trace(file(tmp_path, TWO)), Sampler(sim, 10**9), 0, tmp_path / "x.state").run(lambda *_: None)
    # of 512 pages one was freed, 1024 were added
    assert happened["events"] == 5 and not sim.check_state()
    assert before - nr_free(sim) == 511 + 1024


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (TWO[:-5], "cut short, or not a trace of LLFree?"),
        (b"", "has 0 bytes; a trace of LLFree is a multiple of 4096"),
        (b"a" * 8192, "must be of 1 to 1024 CPUs, got 1633771873: not a trace of LLFree?"),
        (trace((2, [entry(1, 1, 1, 0)])), "block 1 must be of a CPU below 2, got 2"),
        (trace((0, [entry(1, 1, 1, 0), entry(1, 1, 1, 11)])), "block 1, entry 1: order must be at most 10, got 11"),
        (trace((0, []), (1, [entry(1, 10_000, 1, 0)])), "block 2, entry 0: frame must be at most 9999, got 10000"),
        (trace((0, [])), "has no entries"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(tmp_path, content, message):
    path = file(tmp_path, content)
    with pytest.raises(InputError) as caught:
        read_llfree_trace(path)
    assert message in caught.value.messages[0] and caught.value.messages[0].startswith(str(path))
