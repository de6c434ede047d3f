"""Pages from the allocator and back, first-touch faults and reclaim: against the same steps in C over the same arrays, and the fault rate beside that of the kernel below."""

from __future__ import annotations

import ctypes

import pytest
from paths import BlockPairs, FaultPath, PagePairs, RandomBlocks, ReclaimPath

PAGES = 1 << 18
KERNEL_PAGES = 1 << 18
pytestmark = pytest.mark.bench


def test_buddy_pair_full_split_and_merge(c_library, compare):
    path, library = BlockPairs(PAGES), c_library("buddy")
    compare(path.ours, lambda: path.theirs(library), PAGES, reset=path.snapshot.restore, at_most=1.5, at_most_ns=60)


def test_buddy_pair_random_1_gib(c_library, compare):
    path, library = RandomBlocks(PAGES), c_library("buddy")
    compare(path.ours, lambda: path.theirs(library), PAGES, reset=path.snapshot.restore, at_most_ns=50)


def test_buddy_pair_pcp_all_counters(c_library, compare):
    path, library = PagePairs(PAGES), c_library("buddy")
    compare(path.ours, lambda: path.theirs(library), PAGES, reset=path.snapshot.restore, at_most_ns=15)


def test_fault_path_sorted_array_buddy_two_list(c_library, compare):
    path, library = FaultPath(PAGES), c_library("fault")
    compare(path.ours, lambda: path.theirs(library), PAGES, reset=path.snapshot.restore, at_most=1.5)


def test_reclaim_path_buddy_two_list(c_library, compare):
    path, library = ReclaimPath(PAGES), c_library("reclaim")
    compare(path.ours, lambda: path.theirs(library), path.pages, reset=path.snapshot.restore, at_most=1.5)


def test_fault_rate_linux_defaults_beside_host_kernel(c_library, compare):
    """With the defaults (maple_tree, buddy, two_list) and small pages; beside it what the kernel under this process does, zeroing included."""
    path = FaultPath(PAGES, {"thp": {"use": "never"}})
    touch = c_library("kernel_faults").kernel_faults
    touch.argtypes, touch.restype = [ctypes.c_int64], ctypes.c_int64

    def kernel():
        assert touch(KERNEL_PAGES) >= KERNEL_PAGES, "the kernel did not fault once a page"

    compare(path.ours, kernel, PAGES, reset=path.snapshot.restore, at_least_m_per_s=7, reference="host kernel", their_ops=KERNEL_PAGES)
