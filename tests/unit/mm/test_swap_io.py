"""What becomes of a page that is swapped out: zeroes, a disk that takes time, zram, zswap. Figures measured on Linux 6.12 where it says so."""

import re

import pytest
from mm_script import Ran

from mmlab import procfs
from mmlab.mm.monitoring import pageout_folio
from mmlab.mm.shrinker import shrink_slab_memcg
from mmlab.mm.zswap import zswap_shrinker_count
from mmlab.model import rows as r
from mmlab.model import vmstat as v
from mmlab.procfs import cgroups
from mmlab.procfs.walk import entries, mapped_pages
from mmlab.simulation import Simulation

pytestmark = pytest.mark.nojit
CLASSIC = {"kernel/mm/lru_gen/enabled": "0"}


def stat(ran, label, **expected):
    assert {name: ran.vmstat(label, name) for name in expected} == expected


def text(ran, name):
    return ran.files[name].decode().split()


# pages of zeroes --------------------------------------------------------------------------------------------------------------------------
def test_a_page_that_nobody_stored_into_is_not_written():
    ran = Ran(
        """
spawn A
mmap A z 20 anon
madvise A z 0 20 populate_write
touch A z 0 5 w
madvise A z 0 20 pageout
snapshot s1
touch A z 0 20 r
snapshot s2
madvise A z 0 20 pageout
snapshot s3
touch A z 6 1 w
madvise A z 0 20 pageout
snapshot s4
""",
        zram="8M",
    )
    stat(ran, "s1", pswpout=5, swpout_zero=15, nr_vmscan_write=20)
    stat(ran, "s2", pswpin=5, swpin_zero=15)
    assert ran.op[7]["majflt"] == 20
    stat(ran, "s3", pswpout=10, swpout_zero=30)  # zram keeps no slot of a page that was read
    stat(ran, "s4", pswpout=11, swpin_zero=16, swpout_zero=30)


# a disk -------------------------------------------------------------------------------------------------------------------------------------
def swapped_out(pages=100, **machine):
    """A simulation in which a task's pages have just been sent to a disk; writes take a millisecond and 1 us a page."""
    sim = Simulation.from_table({"memory": "64M", "bare": True, "cpus": 1, "swap": "8M", **machine}, sysfs=CLASSIC)
    sim.machine.cost[r.COST_DEVICE_WRITE], sim.machine.cost[r.COST_DEVICE_WRITE_PAGE] = 1_000_000, 1000
    sim.spawn("A")
    addr = sim.mmap("A", pages * 4096)
    sim.touch("A", addr, pages, 1)
    assert sim.madvise("A", addr, pages * 4096, "pageout") == 0
    return sim, addr


def counters(sim, *names):
    return [int(sim.machine.vmstat[v.VMSTAT_NAMES.index(name)]) for name in names]


def test_pages_are_under_writeback_until_the_disk_is_done():
    sim, _ = swapped_out()
    began = sim.now_ns
    assert counters(sim, "pswpout", "nr_writeback", "nr_written", "nr_swapcached") == [100, 100, 0, 100]
    done = int(sim.machine.bio[r.BIO_DONE_NS])
    assert 1_000_000 < done - began <= 1_000_000 + 100 * 1000
    sim.sleep((done - began) / 1e6 - 0.01)
    assert counters(sim, "nr_writeback", "pgrotated") == [100, 0] and sim.check_state() == []
    sim.sleep(0.02)
    assert counters(sim, "nr_writeback", "nr_written", "nr_swapcached") == [0, 100, 100]
    assert counters(sim, "pgrotated") == [93]  # three batches of 31; the fourth waits
    assert sim.check_state() == []


def test_what_is_written_is_freed_without_a_second_write():
    sim, addr = swapped_out()
    sim.sleep(5)
    free = sim.machine.zone[r.Z_FREE :: r.ZONE_STRIDE].sum()
    outcome = sim.touch("A", addr, 50)
    assert (outcome.minflt, outcome.majflt) == (50, 0)  # still there
    sim.madvise("A", addr, 100 * 4096, "pageout")
    assert counters(sim, "pswpout", "nr_writeback", "nr_swapcached") == [100, 0, 50]  # not mapped: MADV_PAGEOUT does not see the others
    assert sim.machine.zone[r.Z_FREE :: r.ZONE_STRIDE].sum() >= free
    assert sim.touch("A", addr, 50).majflt > 0 and sim.check_state() == []


def test_a_request_takes_the_cpu_time_once_however_many_pages_it_has():
    """MADV_PAGEOUT gathers 100 neighbours in one request; DAMON's pageout sends off each page by itself."""
    sim, addr = swapped_out()
    taken = []
    for price in (0, 500_000):
        sim.machine.cost[r.COST_SUBMIT_REQUEST] = price
        sim.touch("A", addr, 100, 1)
        sim.sleep(5)
        began = sim.now_ns
        sim.madvise("A", addr, 100 * 4096, "pageout")
        taken.append(sim.now_ns - began)
    assert taken[1] - taken[0] == 500_000
    sim.touch("A", addr, 100, 1)
    sim.sleep(5)
    pages = mapped_pages(sim.machine, entries(sim.machine, sim.tasks["A"].mm, addr >> 12, (addr >> 12) + 3)).pfn
    sim.machine.cost[r.COST_SUBMIT_PAGE] = sim.machine.cost[r.COST_SCAN_PAGE] = sim.machine.cost[r.COST_RECLAIM_PAGE] = 0
    began = sim.now_ns
    for pfn in pages.tolist():
        sim.machine.run(pageout_folio, pfn)
    assert sim.now_ns - began == 3 * 500_000


def test_a_page_that_is_being_written_outlives_its_task():
    sim, addr = swapped_out()
    sim.munmap("A", addr, 100 * 4096)
    assert counters(sim, "nr_swapcached", "nr_writeback") == [100, 100] and sim.check_state() == []
    sim.sleep(5)
    assert counters(sim, "nr_swapcached", "nr_writeback") == [100, 0] and sim.check_state() == []  # nobody needs it, reclaim will find it


def test_a_page_that_is_being_written_keeps_its_slot_when_it_is_written_to():
    sim, addr = swapped_out()
    sim.touch("A", addr, 100, 1)
    assert counters(sim, "nr_swapcached") == [100]
    sim.sleep(5)
    sim.madvise("A", addr, 100 * 4096, "pageout")
    assert counters(sim, "pswpout", "nr_swapcached") == [200, 100] and sim.check_state() == []


def test_neighbouring_slots_are_one_request_of_at_most_254_pages():
    sim, _ = swapped_out(300)
    ring = sim.machine.bio[r.BIO_RING + 1 : r.BIO_RING + 300 * r.BIO_WORDS : r.BIO_WORDS].tolist()
    assert len(set(ring[:254])) == len(set(ring[254:300])) == 1
    assert ring[254] - ring[0] == 46 * 1000 or ring[0] - ring[254] < 0  # the second is behind the first by what it takes


def test_kswapd_is_preempted_within_a_pass():
    sim = Simulation.from_table({"memory": "64M", "bare": True, "cpus": 1, "swap": "128M"}, sysfs=CLASSIC)
    sim.machine.sc[r.SC_KSWAPD_SLICE_NS] = 5_000
    sim.spawn("A")
    addr = sim.mmap("A", 80 << 20)
    preempted = 0
    for page in range(80 << 8):
        sim.touch("A", addr + page * 4096, 1, 1)
        preempted += int(sim.machine.node[r.N_PASS_MEMCG] > 0)
    assert preempted > 10 and sim.check_state() == []
    sim.sleep(100)
    assert sim.machine.node[r.N_PASS_MEMCG] == 0 and sim.machine.node[r.N_KSWAPD_AWAKE] == 0


# zram ---------------------------------------------------------------------------------------------------------------------------------------
def test_zram_as_measured():
    ran = Ran(
        """
spawn A
mmap A m 1500 anon
touch A m 0 1500 w
cat /sys/block/zram0/mm_stat z0
madvise A m 0 1500 pageout
cat /sys/block/zram0/mm_stat z1
snapshot s1
touch A m 0 1500 r
cat /sys/block/zram0/mm_stat z2
snapshot s2
cat /proc/swaps sw
""",
        zram="256M",
    )
    assert text(ran, "z0") == "4096 63 20480 0 20480 0 0 0 0".split()  # the header
    assert text(ran, "z1") == "6148096 40563 94208 0 94208 0 0 0 0".split()
    stat(ran, "s1", nr_zspages=18, nr_swapcached=0, nr_writeback=0, nr_written=1500)
    assert ran.op[8]["majflt"] == 1500
    kept = 1500 % 64 or 64  # freed slots that the CPU still has
    assert text(ran, "z2")[:2] == [str((kept + 1) * 4096), str(kept * 27 + 63)]
    stat(ran, "s2", swap_ra=0, pswpin=1500)
    assert text(ran, "sw")[5:] == ["/dev/zram0", "partition", "262140", "256", "-2"]


def test_a_zram_page_that_does_not_compress_is_kept_as_it_is():
    ran = Ran(
        """
spawn A
mmap A m 10 anon
touch A m 0 10 w
madvise A m 0 10 pageout
cat /sys/block/zram0/mm_stat z
""",
        zram="8M", compression={"touched": 1.1},
    )  # fmt: skip
    assert text(ran, "z") == [str(11 * 4096), str(10 * 4096 + 63), str(10 * 4096 + 20480), "0", str(10 * 4096 + 20480), "0", "0", "10", "10"]


# zswap --------------------------------------------------------------------------------------------------------------------------------------
ON = "write /sys/module/zswap/parameters/enabled Y\n"


def test_zswap_as_measured():
    ran = Ran(
        ON
        + """
spawn A
mmap A m 1500 anon
touch A m 0 1500 w
madvise A m 0 1500 pageout
snapshot s1
tree /sys/kernel/debug/zswap t1
touch A m 0 1500 r
snapshot s2
madvise A m 0 1500 pageout
snapshot s3
""",
        swap="256M",
    )
    stat(ran, "s1", zswpout=1500, pswpout=0, nr_zspages=24, nr_swapcached=0)
    assert "stored_pages 1500" in ran.files["t1"].decode() and "pool_total_size 98304" in ran.files["t1"].decode()
    assert ran.op[9]["majflt"] == 188
    stat(ran, "s2", zswpin=1500, pswpin=0, nr_zspages=0, nr_swapcached=1500)
    stat(ran, "s3", zswpout=3000, nr_swapcached=0)  # the entries went with the load: the pages are dirty


def test_a_full_pool_sends_pages_to_the_disk_and_writes_back_what_had_its_second_chance():
    ran = Ran(
        ON
        + """
write /sys/module/zswap/parameters/max_pool_percent 0
spawn A
mmap A m 200 anon
touch A m 0 200 w
madvise A m 0 100 pageout
tree /sys/kernel/debug/zswap t1
snapshot s1
write /sys/module/zswap/parameters/max_pool_percent 20
madvise A m 100 100 pageout
write /sys/module/zswap/parameters/max_pool_percent 0
touch A m 0 100 w
madvise A m 0 100 pageout
sleep 100
snapshot s2
tree /sys/kernel/debug/zswap t2
""",
        swap="64M",
    )
    assert "pool_limit_hit 100" in ran.files["t1"].decode()
    stat(ran, "s1", pswpout=100, zswpout=0)
    assert ran.vmstat("s2", "zswpout") == 100
    back = int(re.search(r"written_back_pages (\d+)", ran.files["t2"].decode())[1])
    assert back > 0 and ran.vmstat("s2", "zswpwb") == back and ran.vmstat("s2", "pswpout") == 200 + back


def test_memory_zswap_max_and_what_the_cgroup_shows():
    ran = Ran(
        ON
        + """
cgroup g memory.zswap.max=4096B
spawn A cgroup=g
mmap A m 200 anon
touch A m 0 200 w
madvise A m 0 200 pageout
cat /sys/fs/cgroup/g/memory.zswap.current c
cat /sys/fs/cgroup/g/memory.stat st
cat /sys/fs/cgroup/g/memory.zswap.max m
snapshot s1
""".replace("4096B", "4096"),
        swap="64M",
    )
    stored = -(-4096 // 44)  # entries of 44 bytes until the limit is reached
    again = 200 - 2 * stored  # each page that is refused takes an entry's second chance; then one entry goes for each page that comes
    assert text(ran, "c") == [str(stored * 44)] and text(ran, "m") == ["4096"]
    st = dict(line.split() for line in ran.files["st"].decode().splitlines())
    assert (st["zswap"], st["zswapped"]) == (str(stored * 44), str(stored * 4096))
    assert (st["zswpout"], st["zswpwb"]) == (str(stored + again), str(again))
    stat(ran, "s1", zswpout=stored + again, zswpwb=again, pswpout=stored + again)


def in_zswap(pages=100, **cgroup):
    """A simulation in which a cgroup's pages have just gone to zswap, where each takes half a page."""
    sim = Simulation.from_table({"memory": "64M", "bare": True, "cpus": 1, "swap": "8M"}, sysfs=CLASSIC, script=True)
    sim.machine.compress[r.NR_CLASSES :] = 2048
    for name in ("enabled", "shrinker_enabled"):
        assert procfs.write(sim, f"/sys/module/zswap/parameters/{name}", "Y") == 0
    cgroups.make(sim, "g")
    for name, value in cgroup.items():
        assert procfs.write(sim, f"/sys/fs/cgroup/g/{name}", value) == 0
    sim.spawn("A", cgroup="g")
    addr = sim.mmap("A", pages * 4096)
    sim.touch("A", addr, pages, 1)
    assert sim.madvise("A", addr, pages * 4096, "pageout") == 0 and sim.machine.zswap[r.ZSW_STORED] == pages
    return sim, addr


def count_zswap(sim, memcg):
    return sim.machine.run(zswap_shrinker_count, memcg)


def test_the_shrinker_counts_what_writing_back_would_free_and_spares_what_comes_from_the_disk():
    sim, _ = in_zswap()
    assert count_zswap(sim, 1) == 50  # 100 entries of half a page
    assert count_zswap(sim, 0) == 0  # the root has none of its own
    swapins = 1 * r.MEMCG_STRIDE + r.MC_ZSWAP_DISK_SWAPINS
    for pages, count, left in ((30, 35, 0), (130, 0, 30)):
        sim.machine.memcg[swapins] = pages
        assert (count_zswap(sim, 1), int(sim.machine.memcg[swapins])) == (count, left)
    assert procfs.write(sim, "/sys/fs/cgroup/g/memory.zswap.writeback", "0") == 0
    assert count_zswap(sim, 1) == 0
    assert procfs.write(sim, "/sys/fs/cgroup/g/memory.zswap.writeback", "1") == 0
    assert procfs.write(sim, "/sys/module/zswap/parameters/shrinker_enabled", "N") == 0
    assert count_zswap(sim, 1) == 0 and procfs.read(sim, "/sys/module/zswap/parameters/shrinker_enabled") == "N\n"


def test_the_shrinker_gives_a_second_chance_then_writes_back_and_reads_from_the_disk_are_noted():
    sim, addr = in_zswap()
    vmstat = sim.machine.vmstat
    assert sim.machine.run(shrink_slab_memcg, 1, 0) == 0  # at most twice 50 are looked at: the second chance of each
    assert sim.machine.memcg[r.MEMCG_STRIDE + r.MC_ZSWAP_DEFERRED] == 100 and vmstat[v.V_SLABS_SCANNED] == 0
    assert sim.machine.run(shrink_slab_memcg, 1, 0) == 100 and vmstat[v.V_SLABS_SCANNED] == 100
    assert (vmstat[v.V_ZSWPWB], sim.machine.zswap[r.ZSW_WRITTEN_BACK], sim.machine.zswap[r.ZSW_STORED]) == (100, 100, 0)
    assert sim.machine.memcg[r.MEMCG_STRIDE + r.MC_ZSWAP_ENTRIES] == 0 and not sim.check_state()
    sim.sleep(100)
    assert procfs.write(sim, "/sys/fs/cgroup/g/memory.reclaim", str(100 * 4096)) == 0  # what was written goes from the swap cache
    sim.touch("A", addr, 100, 0)
    assert vmstat[v.V_PSWPIN] == sim.machine.memcg[r.MEMCG_STRIDE + r.MC_ZSWAP_DISK_SWAPINS] > 0 and not sim.check_state()


def test_pressure_on_a_cgroup_calls_the_shrinker():
    sim, addr = in_zswap(1000, **{"memory.max": str(8 << 20)})
    sim.machine.zswap_referenced[:] = 0
    more = sim.mmap("A", 2000 * 4096)
    sim.touch("A", more, 2000, 1)  # 1000 entries of half a page and 2000 pages are more than 2048 pages
    assert sim.machine.vmstat[v.V_ZSWPWB] > 0 and not sim.check_state()


def test_dropped_slabs_are_zswap_too():
    sim, _ = in_zswap()
    sim.machine.zswap_referenced[:] = 0
    assert procfs.write(sim, "/proc/sys/vm/drop_caches", "2") == 0
    assert sim.machine.vmstat[v.V_ZSWPWB] == 100 and not sim.check_state()


# several devices ----------------------------------------------------------------------------------------------------------------------------
def test_devices_fill_in_the_order_of_their_priorities():
    ran = Ran(
        """
spawn A
mmap A m 5000 anon
touch A m 0 5000 w
madvise A m 0 5000 pageout
snapshot s1
touch A m 0 5000 r
snapshot s2
""",
        swaps=[{"size": "64M", "priority": 1}, {"size": "8M", "zram": True, "priority": 10}],
    )
    lines = [line.split() for line in ran.files["s1/swaps"].decode().splitlines()[1:]]
    assert [(line[0], line[4]) for line in lines] == [("/dev/zram0", "10"), ("/dev/vdb", "1")]
    assert int(lines[0][3]) == 2047 * 4 and (5000 - 2047) * 4 <= int(lines[1][3]) <= (5000 - 2047 + 64) * 4
    stat(ran, "s1", pswpout=5000)
    assert ran.op[6]["majflt"] >= 2047  # each page of zram by itself


def test_full_swap_leaves_what_does_not_fit_active():
    ran = Ran(
        """
spawn A
mmap A m 400 anon
touch A m 0 400 w
snapshot s0
madvise A m 0 400 pageout
snapshot s1
""",
        swap="1M",
        sysfs=CLASSIC,
    )
    stat(ran, "s1", pswpout=255)
    assert ran.vmstat("s1", "pgactivate") - ran.vmstat("s0", "pgactivate") == 400 - 255
