"""Pages from the allocator and back, first-touch faults and reclaim: against the same steps in C over the same arrays; rates of faults and address-space calls, beside those of the kernel below."""

from __future__ import annotations

import ctypes

import pytest
from paths import BlockPairs, CowPath, FaultPath, MapPairs, PagePairs, RandomBlocks, ReclaimPath

PAGES = 1 << 18
VMAS, PAIRS = 10_000, 1 << 17
SMALL_PAGES = {"thp": {"use": "never"}}
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


@pytest.fixture
def host_kernel(c_library):
    """host_kernel(NAME, int or array...): the CPU seconds of a function of c/kernel_faults.c."""
    library = c_library("kernel_faults")

    def call(name, *arguments):
        function = getattr(library, name)
        function.restype = ctypes.c_int64
        ns = function(*(ctypes.c_int64(a) if isinstance(a, int) else ctypes.c_void_p(a.ctypes.data) for a in arguments))
        assert ns > 0, f"the kernel did not do what {name} asks of it"
        return ns / 1e9

    return call


@pytest.mark.parametrize("access,goal", [(1, 7), (0, 10)], ids=["write", "zero_page_read"])
def test_first_touch_rate_beside_host_kernel(access, goal, host_kernel, compare):
    """Every page of 1 GiB with the defaults and small pages; beside it what the kernel under this process does, zeroing included."""
    path = FaultPath(PAGES, SMALL_PAGES, access=access)
    compare(
        path.ours, lambda: host_kernel("first_touch", PAGES, access), PAGES, reset=path.snapshot.restore, at_least_m_per_s=goal, reference="host kernel"
    )


def test_cow_rate_beside_host_kernel(host_kernel, compare):
    """Writes to 512 MiB that a child shares, copying included in the host's kernel."""
    path = CowPath(PAGES // 2, SMALL_PAGES)
    compare(path.ours, lambda: host_kernel("cow", path.pages), path.pages, reset=path.snapshot.restore, at_least_m_per_s=4, reference="host kernel")


def test_munmap_mmap_pair_among_10k_vmas_beside_host_kernel(host_kernel, compare):
    """A random one of 10 000 one-page mappings goes and comes back."""
    path = MapPairs(VMAS, PAIRS, SMALL_PAGES)
    compare(path.ours, lambda: host_kernel("map_pairs", VMAS, path.picks, PAIRS), PAIRS, at_least_m_per_s=2, reference="host kernel")
