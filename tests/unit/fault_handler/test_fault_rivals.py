"""The rivals of demand paging: which pages a fault maps, and what fork copies."""

import pytest
from mmlab_rivals.fault_handler.prefault import Params

from mmlab.kernels.pte import walk_pte
from mmlab.model.rows import SC_FAULT_AROUND, SC_SHARED_TABLES
from mmlab.policies import python_function
from mmlab.simulation import Simulation

pytestmark = pytest.mark.nojit
BASE, MIB, PAGE = 0x10000000000, 1 << 20, 4096


def machine(name, memory="64M", thp="never", swap="0", **params):
    policies = {"fault_handler": {"use": name, "params": params}, "thp": {"use": thp}, "cost_model": {"use": "vm_guest"}}
    sim = Simulation.from_table({"memory": memory, "swap": swap, "bare": True}, policies=policies)
    sim.spawn("A")
    return sim


def entry(sim, task, page):
    """The PTE of the page'th page from BASE on."""
    return int(sim.machine.pt[python_function(walk_pte)(sim.machine, sim.task(task).mm, (BASE >> 12) + page)])


@pytest.mark.parametrize("name, faults", [("linux", 2), ("no_fault_around", 32)])
def test_reads_of_a_cached_file(name, faults):
    """32 pages in the page cache: two windows of 16, or one fault each."""
    sim = machine(name)
    sim.mkfile("f", 32 * PAGE)
    addr = sim.mmap("A", 32 * PAGE, flags=["fixed"], addr=BASE, file=sim.open("f"))
    setting = int(sim.machine.sc[SC_FAULT_AROUND])
    assert sim.touch("A", addr, 32, 0).minflt == faults
    assert sim.check_state() == []
    assert sim.machine.sc[SC_FAULT_AROUND] == setting == 16  # the setting itself stays


def test_prefault_maps_the_window_of_the_first_write():
    sim = machine("prefault", pages=8)
    addr = sim.mmap("A", MIB, flags=["fixed"], addr=BASE)
    assert sim.touch("A", addr, 64, 1).minflt == 64 // 8
    assert sim.rss_pages() == 64
    sim.touch("A", addr + 100 * PAGE, 1, 1)  # pages 96 to 103
    assert sim.rss_pages() == 72
    assert sim.touch("A", addr + 100 * PAGE, 4, 1).minflt == 0
    assert sim.touch("A", addr + 104 * PAGE, 1, 1).minflt == 1
    assert sim.check_state() == []


def test_prefault_leaves_reads_to_the_zero_page_and_knows_the_vmas_end():
    sim = machine("prefault", pages=16)
    addr = sim.mmap("A", 20 * PAGE, flags=["fixed"], addr=BASE)
    assert sim.touch("A", addr, 20, 0).minflt == 20
    assert sim.rss_pages() == 0
    assert sim.touch("A", addr + 18 * PAGE, 1, 1).minflt == 1  # the others of the window have an entry already
    assert sim.rss_pages() == 1
    end = sim.mmap("A", 4 * PAGE, flags=["fixed"], addr=0x20000000000)
    sim.touch("A", end, 1, 1)
    assert sim.rss_pages() == 5
    assert sim.check_state() == []


def test_prefaulted_pages_are_not_young_and_nothing_is_prefaulted_when_memory_is_short():
    sim = machine("prefault", memory="16M", swap="16M", pages=16)
    addr = sim.mmap("A", 15 * MIB)
    outcome = sim.touch("A", addr, 15 * 256, 1)
    assert outcome.minflt > 15 * 256 // 16  # window by window at first, page by page in the end
    assert sim.alive("A") and sim.kills == []
    assert sim.check_state() == []


def test_prefault_windows_are_powers_of_two():
    with pytest.raises(ValueError, match="pages: must be a power of two, got 12"):
        Params(pages=12)


def test_eager_fork_copies_and_nobody_faults_afterwards():
    sim = machine("eager_copy")
    addr = sim.mmap("A", MIB)
    sim.touch("A", addr, 100, 1)
    sim.touch("A", addr + 200 * PAGE, 10, 0)  # zero pages stay shared
    sim.fork("A", "B")
    assert sim.rss_pages() == 200
    assert sim.touch("A", addr, 100, 1).minflt == 0
    assert sim.touch("B", addr, 100, 1).minflt == 0
    assert sim.touch("B", addr + 200 * PAGE, 1, 1).minflt == 1
    assert sim.check_state() == []
    sim.exit("A")
    assert sim.touch("B", addr, 100, 1).minflt == 0
    assert sim.rss_pages() == 101
    assert sim.check_state() == []


def test_eager_fork_takes_the_time_of_its_copies():
    took = {}
    for name in ("linux", "eager_copy"):
        sim = machine(name)
        addr = sim.mmap("A", MIB)
        sim.touch("A", addr, 100, 1)
        before = sim.now_ns
        sim.fork("A", "B")
        took[name] = sim.now_ns - before
    assert took["eager_copy"] - took["linux"] >= 100 * 2258  # a copy of each page, by vm_guest


def test_eager_fork_splits_huge_pages_of_the_child():
    sim = machine("eager_copy", thp="always", memory="64M")
    addr = sim.mmap("A", 2 * MIB, flags=["fixed"], addr=BASE)
    sim.touch("A", addr, 1, 1)
    sim.fork("A", "B")
    assert sim.rss_pages() == 1024
    assert sim.touch("B", addr, 512, 1).minflt == 0
    assert sim.check_state() == []


def test_eager_fork_shares_files_and_shared_memory():
    sim = machine("eager_copy")
    shared = sim.mmap("A", 16 * PAGE, flags=["shared"])
    sim.touch("A", shared, 16, 1)
    sim.fork("A", "B")
    sim.touch("B", shared, 16, 0)
    assert sim.counters()["nr_shmem"] == 16
    assert sim.check_state() == []


# on-demand fork -------------------------------------------------------------------------------------------------------------------------------
def forked(pages=1024, **more):
    """A has written `pages` pages from BASE on and forked B."""
    sim = machine("on_demand_fork", **more)
    sim.mmap("A", 8 * MIB, flags=["fixed"], addr=BASE)
    sim.touch("A", BASE, pages, 1)
    sim.fork("A", "B")
    return sim


def shared(sim):
    return int(sim.machine.sc[SC_SHARED_TABLES])


def test_on_demand_fork_copies_tables_when_they_are_needed():
    sim = forked()
    assert shared(sim) == 2
    assert sim.rss_pages() == 1024  # B has none of it yet
    assert sim.check_state() == []
    assert sim.touch("B", BASE, 512, 0).minflt == 1  # one fault brings the table
    assert (shared(sim), sim.rss_pages()) == (1, 1024 + 512)
    assert sim.touch("B", BASE, 10, 1).minflt == 10  # copies of single pages
    assert sim.touch("A", BASE, 10, 1).minflt == 10  # alone with its pages again, which it finds out by a fault each
    assert sim.check_state() == []


def test_on_demand_fork_costs_a_tables_part_of_linuxs():
    took = {}
    for name in ("linux", "on_demand_fork"):
        sim = machine(name)
        sim.mmap("A", 8 * MIB, flags=["fixed"], addr=BASE)
        sim.touch("A", BASE, 2048, 1)
        before = sim.now_ns
        sim.fork("A", "B")
        took[name] = sim.now_ns - before
    assert took["linux"] - took["on_demand_fork"] >= (2048 - 4) * 92  # vm_guest's fork_pte


def test_a_parents_write_gives_the_child_what_was_there():
    sim = forked()
    frames = [entry(sim, "A", page) >> 12 for page in range(3)]
    assert sim.touch("A", BASE + PAGE, 1, 1).minflt == 1
    assert shared(sim) == 1
    assert [entry(sim, "B", page) >> 12 for page in range(3)] == frames
    assert entry(sim, "A", 1) >> 12 != frames[1]  # A wrote to a copy
    assert sim.check_state() == []


@pytest.mark.parametrize("how", ["munmap", "dontneed", "mprotect", "exit"])
def test_the_child_keeps_what_the_parent_changes(how):
    sim = forked()
    frame = entry(sim, "A", 7) >> 12
    if how == "munmap":
        sim.munmap("A", BASE + 5 * PAGE, 10 * PAGE)
    elif how == "dontneed":
        sim.madvise("A", BASE, 2 * MIB, "dontneed")
    elif how == "mprotect":
        sim.mprotect("A", BASE, 2 * MIB, "r")
        sim.mprotect("A", BASE, 2 * MIB, "rw")
        sim.touch("A", BASE, 512, 1)
    else:
        sim.exit("A")
    assert shared(sim) == (0 if how == "exit" else 1)
    assert entry(sim, "B", 7) >> 12 == frame
    assert sim.check_state() == []
    assert sim.touch("B", BASE, 1024, 0).minflt == (0 if how == "exit" else 1)
    assert sim.check_state() == []


def test_a_child_that_goes_or_unmaps_gets_nothing():
    sim = forked()
    sim.munmap("B", BASE, 2 * MIB)
    assert (shared(sim), sim.rss_pages()) == (1, 1024)
    sim.exit("B")
    assert (shared(sim), sim.rss_pages()) == (0, 1024)
    assert sim.check_state() == []


def test_a_grandchild_and_a_second_child():
    sim = forked()
    sim.fork("B", "C")  # B gets its tables first, and shares them
    assert shared(sim) == 2
    sim.fork("A", "D")
    assert shared(sim) == 4
    assert sim.touch("C", BASE, 1024, 0).minflt == 2
    assert sim.touch("A", BASE, 1, 1).minflt == 1
    assert shared(sim) == 1  # D's second range
    assert sim.check_state() == []


def test_pages_in_swap_are_shared_too():
    sim = forked(pages=512, swap="32M")
    sim.madvise("A", BASE, 2 * MIB, "cold")
    assert shared(sim) == 0
    sim.fork("A", "E")
    assert shared(sim) == 1
    sim.spawn("Z")
    hog = sim.mmap("Z", 60 * MIB)
    sim.touch("Z", hog, 60 * 256, 1)  # reclaim takes A's pages
    assert sim.check_state() == []
    sim.touch("A", BASE, 512, 0)
    sim.touch("E", BASE, 512, 0)
    assert sim.check_state() == []
