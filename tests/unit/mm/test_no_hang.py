"""Reclaim that cannot succeed ends in an OOM kill or an error, after a bounded amount of work: whichever reclaimer, whatever holds the memory."""

import pytest

from mmlab.errors import MmlabError
from mmlab.model.const import EAGAIN, EBUSY, ENOMEM
from mmlab.model.vmstat import VMSTAT_NAMES, VMSTAT_STRIDE
from mmlab.procfs.cgroups import make, read as read_limit, write as set_limit
from mmlab.simulation import Simulation
from mmlab_linux.reclaimer.mglru import MGLRU
from mmlab_linux.reclaimer.two_list import TWO_LIST
from mmlab_rivals.reclaimer import RECLAIMERS

pytestmark = pytest.mark.nojit
PAGE = 4096
RAM = 1024  # pages
#: priorities 12 to 0 look at all pages about twice; 16 rounds without progress, and as many that kswapd makes before it gives up
LOOKS = 2 * 32 * RAM
POLICIES = [policy.name for policy in (TWO_LIST, MGLRU, *RECLAIMERS) if not policy.needs_future]


def simulation(use="mglru", swap="0", script=False, **table):
    table = {"memory": "4M", "cpus": 1, "bare": True, "swap": swap, **table}
    return Simulation.from_table(table, policies={"reclaimer": {"use": use}}, script=script)


def fill(sim, name, nr_pages, adj=0, lock=False, cgroup=None):
    """A task that maps so many pages, may lock them, and writes them; what the last call answered."""
    sim.spawn(name, oom_score_adj=adj, cgroup=cgroup)
    address = sim.mmap(name, nr_pages * PAGE)
    assert address > 0
    if lock:
        return sim.mlock(name, address, nr_pages * PAGE)
    return sim.touch(name, address, nr_pages, 1)


def scanned(sim):
    vmstat = sim.machine.vmstat.reshape(-1, VMSTAT_STRIDE).sum(axis=0)
    return sum(int(vmstat[VMSTAT_NAMES.index(name)]) for name in ("pgscan_kswapd", "pgscan_direct", "pgscan_khugepaged"))


def killed(sim):
    return [kill["task"] for kill in sim.kills]


@pytest.mark.parametrize("use", POLICIES)
def test_nothing_reclaimable(use):
    """Anonymous memory and no swap."""
    sim = simulation(use)
    fill(sim, "A", 700)
    fill(sim, "B", 600)
    assert killed(sim) == ["A"] and sim.alive("B") and sim.rss_pages() == 600
    assert scanned(sim) <= LOOKS
    assert sim.check_state() == []


@pytest.mark.parametrize("use", POLICIES)
def test_swap_full(use):
    """1024 pages and 255 slots hold one of the two, not both. mglru stops at a batch of 64 free slots. A's pages that are still being written when
    it dies do not come free at once, so B may die as well."""
    sim = simulation(use, swap="1M")
    fill(sim, "A", 900)
    fill(sim, "B", 800)
    assert killed(sim) in (["A"], ["A", "B"])
    assert sim.counters()["pswpout"] >= (192 if use == "mglru" else 255)
    assert scanned(sim) <= 8 * LOOKS
    assert sim.check_state() == []


@pytest.mark.parametrize("use", POLICIES)
def test_everything_mlocked(use):
    sim = simulation(use, swap="1M")
    assert fill(sim, "A", 700, lock=True) == 0
    fill(sim, "B", 900)
    assert killed(sim) == ["B"] or killed(sim) == ["A"]
    assert scanned(sim) <= 8 * LOOKS
    assert sim.check_state() == []


def test_mlock_of_more_than_there_is():
    sim = simulation(swap="1M")
    answer = fill(sim, "A", 1023, lock=True)
    assert answer in (0, -ENOMEM, -EAGAIN) and killed(sim) == ["A"]
    assert sim.check_state() == []


def test_nobody_can_be_killed():
    sim = simulation()
    with pytest.raises(MmlabError, match="panics"):
        fill(sim, "A", 1020, adj=-1000)
    assert scanned(sim) <= LOOKS


@pytest.mark.parametrize("use", ["two_list", "mglru"])
@pytest.mark.parametrize("adj, killed_then", [(0, ["A"]), (-1000, [])])
def test_memory_max_below_what_is_pinned(use, adj, killed_then):
    """Writing the limit reclaims what it can, then kills; without anybody to kill it gives up and the group stays above its limit."""
    sim = simulation(use, script=True, memory="128M", bare=False)
    group = make(sim, "g")
    assert fill(sim, "A", 1024, adj=adj, lock=True, cgroup="g") == 0
    before = scanned(sim)
    assert set_limit(sim, group, "memory.max", "1M") == 0
    assert killed(sim) == killed_then
    assert (int(read_limit(sim, group, "memory.current")) > 1 << 20) == (not killed_then)
    assert scanned(sim) - before <= 64 * 1024
    assert set_limit(sim, group, "memory.reclaim", "1M") in (0, -EAGAIN, -EBUSY)
    assert sim.check_state() == []


@pytest.mark.parametrize("use", ["two_list", "mglru"])
def test_memory_reclaim_of_what_cannot_go(use):
    sim = simulation(use, script=True, memory="128M", bare=False)
    group = make(sim, "g")
    fill(sim, "A", 500, lock=True, cgroup="g")
    before = scanned(sim)
    assert set_limit(sim, group, "memory.reclaim", "1M") == -EAGAIN
    assert scanned(sim) - before <= 64 * 500 and killed(sim) == []


def test_pages_that_nobody_can_give():
    """alloc_pages() on a machine without tasks: the reserves, then an error."""
    sim = simulation()
    pages = []
    with pytest.raises(MmlabError, match="panics"):
        while len(pages) < 2 * RAM:
            pfn = sim.alloc_pages(0)
            if pfn < 0:
                raise MmlabError("refused, no panics")
            pages.append(pfn)
    assert len(pages) < RAM


@pytest.mark.parametrize("use", ["two_list", "mglru"])
def test_a_cgroup_that_may_hold_nothing(use):
    """memory.max 0: whoever wants a page, for its map in this case, dies. As on Linux 6.12: 35 times at the limit, one OOM."""
    sim = simulation(use, script=True, memory="128M", bare=False)
    group = make(sim, "g")
    assert set_limit(sim, group, "memory.max", "0") == 0
    sim.spawn("A", cgroup="g")
    assert sim.mmap("A", 10 * PAGE) == -ENOMEM and killed(sim) == ["A"]
    assert read_limit(sim, group, "memory.events").split() == "low 0 high 0 max 35 oom 1 oom_kill 1 oom_group_kill 0".split()
    assert sim.check_state() == []


@pytest.mark.parametrize("use", ["two_list", "mglru"])
def test_a_cgroup_always_above_its_high_limit(use):
    """memory.high 0 kills nobody: it costs 17 tries of reclaim and a sleep of two seconds, once for the 64 pages charged at the first fault."""
    sim = simulation(use, script=True, memory="128M", bare=False)
    group = make(sim, "g")
    assert set_limit(sim, group, "memory.high", "0") == 0 and set_limit(sim, group, "memory.swap.max", "0") == 0
    began = sim.now_ns
    fill(sim, "A", 2, cgroup="g")
    assert killed(sim) == [] and 2_000_000_000 <= sim.now_ns - began <= 2_100_000_000
    assert "high 17" in read_limit(sim, group, "memory.events")


@pytest.mark.parametrize("use", ["two_list", "mglru"])
def test_limits_that_contradict(use):
    """memory.min and memory.low above memory.max above memory.high: a cgroup's own reclaim knows no protection of its own."""
    sim = simulation(use, script=True, memory="128M", bare=False, disk="64M")
    group = make(sim, "g")
    for name, value in (("min", "8M"), ("low", "16M"), ("high", "2M"), ("max", "4M"), ("swap.max", "0")):
        assert set_limit(sim, group, f"memory.{name}", value) == 0
    fill(sim, "A", 300, cgroup="g")
    sim.mkfile("f", 0)
    sim.fwrite("A", "f", 0, 2000 * PAGE)
    assert killed(sim) == [] and int(read_limit(sim, group, "memory.current")) <= 4 << 20
    assert set_limit(sim, group, "memory.max", "400K") == 0
    assert killed(sim) == ["A"] and sim.check_state() == []
