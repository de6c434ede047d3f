"""The rivals of Linux's huge page settings: what becomes huge, what stays small, and what comes back."""

import numpy as np
import pytest
from mmlab_rivals.thp import reservation as rv

from mmlab._engine.sampler import Sampler
from mmlab._engine.stream_run import StreamRun
from mmlab.errors import InputError, NotSupported
from mmlab.experiment.load import load_experiment
from mmlab.model import rows as r
from mmlab.model.vmstat import V_NR_ANON_TRANSPARENT_HUGEPAGES
from mmlab.simulation import Simulation
from mmlab.workload.generators import make_generator
from mmlab.workload.stream import touched_ranges

pytestmark = pytest.mark.nojit
BASE, MIB, PAGE, MS = 0x10000000000, 1 << 20, 4096, 1_000_000


def machine(name, memory="64M", size=16 * MIB, tasks=("A",), **params):
    sim = Simulation.from_table({"memory": memory, "bare": True}, sysctl={"vm.overcommit_memory": 1}, policies={"thp": {"use": name, "params": params}})
    for task in tasks:
        sim.spawn(task)
        assert sim.mmap(task, size, flags=["fixed"], addr=BASE) == BASE
    return sim


def huge(sim):
    return int(sim.machine.vmstat[V_NR_ANON_TRANSPARENT_HUGEPAGES])


def entry(sim, task, addr):
    """The PMD entry at an address."""
    vpn, table = addr >> 12, int(sim.machine.mm[sim.task(task).mm * r.MM_STRIDE + r.MM_ROOT])
    for shift in (27, 18):
        table = int(sim.machine.pt[table * 512 + (vpn >> shift & 511)]) >> r.PTE_SHIFT
    return int(sim.machine.pt[table * 512 + (vpn >> 9 & 511)])


def is_huge(sim, task, addr):
    return bool(entry(sim, task, addr) & r.PTE_HUGE)


# Ingens -------------------------------------------------------------------------------------------------------------------------------------
def test_ingens_promotes_at_its_threshold():
    sim = machine("ingens", fmfi_pct=0, util_pct=90, promote_ms=5)
    sim.touch("A", BASE, 460, 1)  # 90 % of 512 are 461 pages
    sim.sleep(50)
    assert huge(sim) == 0
    sim.touch("A", BASE + 460 * PAGE, 1, 1)
    sim.sleep(10)
    assert huge(sim) == 1 and is_huge(sim, "A", BASE)
    assert sim.rss_pages() == 512
    assert sim.check_state() == []


def test_ingens_is_aggressive_while_free_memory_is_in_large_blocks():
    """Of 28 MiB every second page goes back: what per-CPU lists do not keep of it is free in single pages, half of all once little else is left."""
    sim = machine("ingens", memory="64M", size=60 * MIB, fmfi_pct=50, promote_ms=5)
    sim.madvise("A", BASE + 32 * MIB, 28 * MIB, "nohugepage")
    sim.touch("A", BASE + 32 * MIB, 14 * 512, 1)
    for page in range(0, 14 * 512, 2):
        sim.madvise("A", BASE + 32 * MIB + page * PAGE, PAGE, "dontneed")
    made = []
    for i in range(15):
        sim.sleep(10)
        sim.touch("A", BASE + 2 * MIB * i, 1, 1)
        made.append((int(sim.machine.states["thp"].fmfi[0]), is_huge(sim, "A", BASE + 2 * MIB * i)))
    assert all(is_huge == (fmfi < 50) for fmfi, is_huge in made)
    assert made[0][1] and not made[-1][1], made
    assert sim.check_state() == []


def test_ingens_takes_turns_by_huge_pages_and_idleness():
    """B has no huge page, A has two: B's range is first. One promotion a look."""
    sim = machine("ingens", tasks=("A", "B"), fmfi_pct=0, promote_max=1, promote_ms=1000)
    sim.touch("A", BASE, 1024, 1)
    sim.sleep(2500)
    assert huge(sim) == 2
    sim.touch("A", BASE + 4 * MIB, 512, 1)
    sim.touch("B", BASE, 512, 1)
    while huge(sim) == 2:
        sim.sleep(1)
    assert is_huge(sim, "B", BASE) and not is_huge(sim, "A", BASE + 4 * MIB)
    assert sim.check_state() == []


def test_ingens_average_of_accesses():
    sim = machine("ingens", fmfi_pct=0, sample_ms=100, weight_pct=50, promote_ms=100, util_pct=100)
    sim.sleep(1)
    sim.touch("A", BASE, 256, 1)
    sim.sleep(250)  # read twice: once with 256 pages accessed, once with none
    state = sim.machine.states["thp"]
    found = np.unique(state.frequency[state.frequency > 0])
    assert found.tolist() == [256 * 16 // 2 // 2]


# HawkEye ------------------------------------------------------------------------------------------------------------------------------------
def test_hawkeye_promotes_by_coverage():
    """400 of the second range's pages are accessed in the window, 100 of the first one's: the second goes first."""
    sim = machine("hawkeye", huge_faults=False, sample_ms=100, window_ms=20, promote_ms=10, promote_max=1)
    sim.sleep(30)  # the first window is over
    sim.touch("A", BASE, 512, 1)
    sim.touch("A", BASE + 2 * MIB, 512, 1)
    sim.sleep_until(105 * MS)
    assert huge(sim) == 0  # the second has begun
    sim.touch("A", BASE, 100, 0)
    sim.touch("A", BASE + 2 * MIB, 400, 0)
    while huge(sim) == 0:
        sim.sleep(1)
    assert is_huge(sim, "A", BASE + 2 * MIB) and not is_huge(sim, "A", BASE)
    sim.sleep(50)
    assert huge(sim) == 2
    assert sim.check_state() == []


def test_hawkeye_takes_bloat_back_under_pressure():
    """Ten huge pages with 12 written pages each; a read does not make a page anything but zeroes."""
    sim = machine("hawkeye", memory="64M", size=48 * MIB, high_pct=60, low_pct=58, promote_ms=10, sample_ms=50, window_ms=20)
    for i in range(10):
        sim.touch("A", BASE + 2 * MIB * i, 12, 1)
        sim.touch("A", BASE + 2 * MIB * i + 400 * PAGE, 20, 0)
    sim.sleep(100)
    total = int(sim.machine.sc[r.SC_TOTALRAM])
    assert huge(sim) == 10  # 20 of 64 MiB
    assert sim.bloat_pages() == 10 * (512 - 32)
    sim.touch("A", BASE + 24 * MIB, 512 * 9, 1)
    sim.sleep(100)
    free = int(sim.machine.zone.reshape(-1, r.ZONE_STRIDE)[:, r.Z_FREE].sum())
    assert total - free < total * 0.6
    small = [i for i in range(10) if not is_huge(sim, "A", BASE + 2 * MIB * i)]
    assert small
    assert all(is_huge(sim, "A", BASE + 24 * MIB + 2 * MIB * i) for i in range(9))  # nothing in these is zero
    assert sim.rss_pages() == 9 * 512 + (10 - len(small)) * 512 + len(small) * 12
    sim.touch("A", BASE + 2 * MIB * small[0], 12, 1)
    sim.sleep(200)
    assert not is_huge(sim, "A", BASE + 2 * MIB * small[0])  # although it is accessed
    faults = sim.touch("A", BASE + 2 * MIB * small[0], 12, 1).minflt
    assert faults == 0  # what was written is still there
    assert sim.touch("A", BASE + 2 * MIB * small[0] + 400 * PAGE, 1, 0).minflt == 0  # the zero page
    assert sim.touch("A", BASE + 2 * MIB * small[0] + 400 * PAGE, 1, 1).minflt == 1
    assert sim.check_state() == []


def test_hawkeye_percentages():
    with pytest.raises(ValueError, match=r"low_pct: must be at most high_pct \(85\), got 90"):
        from mmlab_rivals.thp.hawkeye import Params

        Params(low_pct=90)


# reservations -------------------------------------------------------------------------------------------------------------------------------
def reservations(sim):
    return int(sim.machine.states["thp"].queue[rv.NR_RESERV])


def free_pages(sim):
    for zone in range(sim.machine.sizes.nr_zones):
        sim.machine.op("page_allocator", "drain", zone, 0)
    zones = sim.machine.zone.reshape(-1, r.ZONE_STRIDE)[:, r.Z_FREE].sum()
    return int(zones + sim.machine.pcp.reshape(-1, r.PCP_STRIDE)[:, r.PCP_FREE_DIFF].sum())


def test_a_reservation_becomes_huge_without_a_copy():
    sim = machine("reservation")
    sim.touch("A", BASE, 511, 1)
    assert (reservations(sim), huge(sim), sim.rss_pages()) == (1, 0, 511)
    table = (entry(sim, "A", BASE) >> r.PTE_SHIFT) * 512
    frames = [int(e) >> r.PTE_SHIFT for e in sim.machine.pt[table : table + 511]]
    assert frames == list(range(frames[0], frames[0] + 511)) and frames[0] % 512 == 0
    assert sim.check_state() == []
    sim.touch("A", BASE + 511 * PAGE, 1, 1)
    assert (reservations(sim), huge(sim), sim.rss_pages()) == (0, 1, 512)
    assert entry(sim, "A", BASE) >> r.PTE_SHIFT == frames[0]
    assert sim.check_state() == []
    assert sim.touch("A", BASE, 512, 1).minflt == 0
    before = free_pages(sim)
    sim.munmap("A", BASE, 2 * MIB)
    assert free_pages(sim) == before + 512 + 1  # and the table
    assert sim.check_state() == []


def test_a_reservation_holds_memory_that_nobody_uses_yet():
    sim = machine("reservation")
    sim.touch("A", BASE, 1, 1)
    before = free_pages(sim)
    sim.touch("A", BASE + 2 * MIB, 1, 1)
    assert before - free_pages(sim) == 512 + 1  # the block, and a page table
    assert sim.rss_pages() == 2
    sim.exit("A")
    sim.sleep(20)
    assert reservations(sim) == 0
    assert sim.check_state() == []


def test_the_oldest_reservation_breaks_when_memory_is_short():
    sim = machine("reservation", memory="32M", size=64 * MIB)
    for i in range(32):
        sim.touch("A", BASE + 2 * MIB * i, 1, 1)
    assert sim.check_state() == []
    assert 0 < reservations(sim) < 32
    state = sim.machine.states["thp"]
    oldest = int(state.queue[rv.OLDEST])
    assert state.reserv[oldest + rv.RV_VPN] > BASE >> 12  # the first of all is gone
    assert sim.touch("A", BASE, 1, 1).minflt == 0  # but its page is there


def test_unmapped_ranges_lose_their_reservation():
    sim = machine("reservation")
    sim.touch("A", BASE, 100, 1)
    sim.munmap("A", BASE + PAGE, PAGE)
    sim.sleep(20)
    assert reservations(sim) == 0
    sim.touch("A", BASE, 1, 1)
    assert sim.check_state() == []


# the oracle ---------------------------------------------------------------------------------------------------------------------------------
def oracle_stream():
    """Task T0 writes all of its first 2 MiB, 100 pages of the second, and one page of the fourth, over and over."""
    phases = [
        {"generator": "scan", "pages": 512, "events": 512, "write_fraction": 1.0},
        {"generator": "uniform", "first_page": 512, "pages": 100, "events": 2000, "write_fraction": 1.0},
        {"generator": "loop", "first_page": 1536, "pages": 512, "stride": 512, "events": 10, "write_fraction": 1.0},
    ]  # fmt: skip
    return make_generator("phases", {"phases": phases}, "params").stream(1)


def test_touched_ranges():
    keys, pages = touched_ranges(oracle_stream().words)
    first = BASE >> 21
    assert keys.tolist() == [first, first + 1, first + 3]
    assert pages.tolist() == [512, 100, 1]


@pytest.mark.parametrize("min_pages, expected, bloat", [(512, [1, 0, 0], 0), (100, [1, 1, 0], 412)])
def test_oracle_makes_huge_what_will_be_full(min_pages, expected, bloat):
    stream = oracle_stream()
    policies = {"thp": {"use": "oracle", "params": {"min_pages": min_pages}}, "cost_model": {"use": "skylake"}}
    sim = Simulation.from_table({"memory": "64M", "bare": True}, policies=policies, stream=stream)
    StreamRun(sim, stream, Sampler(sim, 1 << 62)).run(lambda *_: None)
    assert [is_huge(sim, "T0", BASE + 2 * MIB * i) for i in (0, 1, 3)] == [bool(e) for e in expected]
    assert sim.bloat_pages() == bloat
    assert sim.check_state() == []


def test_oracle_refuses_what_has_no_future():
    with pytest.raises(NotSupported, match="thp 'oracle' knows the future accesses of a bulk stream; there is none here"):
        machine("oracle")


def test_oracle_refuses_scripts(tmp_path):
    (tmp_path / "a.ops").write_text("spawn A\n")
    (tmp_path / "a.toml").write_text('[workload]\nkind = "ops"\nscript = "a.ops"\n[thp]\nuse = "oracle"\n')
    with pytest.raises(InputError, match="thp.use: 'oracle' knows the future accesses of a bulk stream; a workload of kind 'ops' has none"):
        load_experiment(tmp_path / "a.toml", {})
