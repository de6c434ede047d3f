"""Write-back: thresholds, the disk's queue, the flusher, the pauses of writers, and reclaim that meets dirty pages."""

import pytest
from mmlab_linux.reclaimer.mglru import MGLRU
from mmlab_linux.reclaimer.two_list import TWO_LIST

from mmlab import procfs
from mmlab._engine.check import _dirty_pages
from mmlab.mm.fs_writeback import wakeup_flusher_threads, wb_step
from mmlab.mm.page_writeback import memcg_background_threshold, memcg_dirty_threshold
from mmlab.model import rows as r
from mmlab.model import vmstat as v
from mmlab.procfs import cgroups
from mmlab.simulation import Simulation


def simulation(reclaimer="two_list", memory="64M", **sysctl):
    sim = Simulation.from_table(
        {"memory": memory, "cpus": 1, "disk": "64M", "bare": True}, sysctl={f"vm.{k}": str(value) for k, value in sysctl.items()},
        policies={"reclaimer": {"use": reclaimer}},
    )  # fmt: skip
    sim.spawn("A")
    return sim


def made(sim, name="f"):
    if name not in sim._files:
        sim.mkfile(name, 0)
    return sim._files[name]


def counted(sim, *items):
    return [int(sim.machine.vmstat[item]) for item in items]


def test_a_disk_writes_in_order_and_neighbours_without_a_seek():
    sim = simulation(dirty_writeback_centisecs=0)
    made(sim)
    sim.machine.cost[:] = 0
    sim.machine.cost[r.COST_DEVICE_WRITE], sim.machine.cost[r.COST_DEVICE_READ_PAGE] = 1000, 10
    sim.fwrite("A", "f", 0, 3 * 4096)
    sim.fwrite("A", "f", 8 * 4096, 4096)
    began = sim.now_ns
    sim.fsync("A", "f")
    assert sim.now_ns - began == 2 * 1000 + 4 * 10  # two runs of neighbours, one after the other
    assert counted(sim, v.V_NR_DIRTY, v.V_NR_WRITEBACK, v.V_NR_WRITTEN, v.V_PGPGOUT) == [0, 0, 4, 16]
    assert sim.check_state() == []


def test_above_the_background_threshold_the_flusher_writes_all():
    sim = simulation(dirty_background_bytes=64 * 4096, dirty_bytes=1 << 24, dirty_writeback_centisecs=0)
    made(sim)
    sim.fwrite("A", "f", 0, 64 * 4096)
    sim.sleep(100)
    assert counted(sim, v.V_NR_DIRTY, v.V_NR_WRITTEN) == [64, 0]  # not more than the threshold
    sim.fwrite("A", "f", 64 * 4096, 64 * 4096)
    sim.sleep(100)
    # the writer looked once more than 64 pages were dirty; what it wrote after that is below the threshold again
    dirty, written, writeback = counted(sim, v.V_NR_DIRTY, v.V_NR_WRITTEN, v.V_NR_WRITEBACK)
    assert written > 64 and dirty <= 64 and dirty + written == 128 and writeback == 0
    assert sim.check_state() == []


def test_old_data_is_written_when_it_has_been_dirty_for_long():
    sim = simulation()
    made(sim)
    sim.fwrite("A", "f", 0, 10 * 4096)
    sim.sleep(29_000)
    assert counted(sim, v.V_NR_DIRTY, v.V_NR_WRITTEN) == [10, 0]
    sim.sleep(7000)  # a look every five seconds at what is dirty for thirty
    assert counted(sim, v.V_NR_DIRTY, v.V_NR_WRITTEN) == [0, 10]
    assert int(sim.machine.wb[r.WB_TIMER_NS]) == 1 << 62  # nothing is dirty: nobody looks


def test_intervals_are_settings():
    sim = simulation(dirty_expire_centisecs=100, dirty_writeback_centisecs=50)
    made(sim)
    sim.fwrite("A", "f", 0, 4096)
    sim.sleep(1600)
    assert counted(sim, v.V_NR_WRITTEN) == [1]
    assert procfs.write(sim, "/proc/sys/vm/dirty_writeback_centisecs", "0") == 0
    sim.fwrite("A", "f", 0, 4096)
    sim.sleep(60_000)
    assert counted(sim, v.V_NR_WRITTEN, v.V_NR_DIRTY) == [1, 1]


def test_a_size_in_bytes_replaces_one_in_percent():
    sim = simulation()
    assert procfs.write(sim, "/proc/sys/vm/dirty_background_bytes", "4096") == 0
    assert [procfs.read(sim, f"/proc/sys/vm/dirty_background_{what}") for what in ("bytes", "ratio")] == ["4096\n", "0\n"]
    assert procfs.write(sim, "/proc/sys/vm/dirty_bytes", "4096") == -22  # less than two pages
    assert procfs.write(sim, "/proc/sys/vm/dirty_background_ratio", "7") == 0
    assert procfs.read(sim, "/proc/sys/vm/dirty_background_bytes") == "0\n"


def test_a_writer_is_no_faster_than_the_disk():
    sim = simulation(memory="128M", dirty_background_bytes=500 * 4096, dirty_bytes=1500 * 4096)
    made(sim)
    outcome = sim.fwrite("A", "f", 0, 9000 * 4096)
    assert outcome.ret == 9000 * 4096
    dirty, writeback = counted(sim, v.V_NR_DIRTY, v.V_NR_WRITEBACK)
    assert dirty + writeback <= 1500
    per_page = int(sim.machine.cost[r.COST_DEVICE_READ_PAGE])
    assert outcome.ns >= (9000 - 1500) * per_page  # the disk had to take all but what may be dirty
    assert sim.check_state() == []


def test_many_files_take_turns():
    sim = simulation(dirty_writeback_centisecs=0)
    for name in "abc":
        made(sim, name)
        sim.fwrite("A", name, 0, 20 * 4096)
    sim.machine.run(wakeup_flusher_threads)
    sim.sleep(100)
    assert counted(sim, v.V_NR_DIRTY, v.V_NR_WRITTEN) == [0, 60]
    assert [int(sim.machine.wb[r.WB_LISTS + 2 * io_list]) for io_list in (r.IO_DIRTY, r.IO_QUEUED, r.IO_MORE)] == [0, 0, 0]


@pytest.mark.parametrize("background_bytes", [1 << 24, 4096])
def test_the_flusher_sleeps_while_all_that_is_dirty_is_under_write_back(background_bytes):
    """Pages written to again while they are on their way: nothing can be written until the disk has answered."""
    sim = simulation(dirty_background_bytes=background_bytes, dirty_bytes=1 << 25, dirty_writeback_centisecs=0)
    made(sim)
    sim.machine.cost[r.COST_DEVICE_WRITE] = 1_000_000_000
    sim.fwrite("A", "f", 0, 4 * 4096)
    sim.machine.run(wakeup_flusher_threads)
    sim.sleep(1)
    sim.fwrite("A", "f", 0, 4 * 4096)
    assert counted(sim, v.V_NR_DIRTY, v.V_NR_WRITEBACK) == [4, 4]
    sim.machine.run(wakeup_flusher_threads)
    began = sim.now_ns
    steps = next(step for step in range(20) if sim.machine.run(wb_step) == 0)
    assert steps > 0 and sim.now_ns == began and int(sim.machine.wb[r.WB_AWAKE]) == 0
    sim.sleep(3000)
    sim.machine.run(wakeup_flusher_threads)
    sim.sleep(3000)
    assert counted(sim, v.V_NR_DIRTY, v.V_NR_WRITEBACK, v.V_NR_WRITTEN) == [0, 0, 8]
    assert sim.check_state() == []


def test_dirty_files_that_go_leave_nothing_behind():
    sim = simulation(dirty_writeback_centisecs=0)
    made(sim)
    sim.fwrite("A", "f", 0, 8 * 4096)
    sim.truncate("A", "f", 2 * 4096)
    assert counted(sim, v.V_NR_DIRTY) == [2] and sim.check_state() == []
    sim.truncate("A", "f", 0)
    assert counted(sim, v.V_NR_DIRTY, v.V_NR_WRITTEN) == [0, 0] and sim.check_state() == []
    assert int(sim.machine.zone[r.Z_WRITE_PENDING]) == 0


@pytest.mark.parametrize("reclaimer", [TWO_LIST.name, MGLRU.name, "fifo"])
def test_reclaim_has_dirty_pages_written(reclaimer):
    """More is written than fits into memory while nothing but reclaim asks for write-back."""
    sim = simulation(reclaimer, "32M", dirty_bytes=1 << 30, dirty_background_bytes=1 << 29, dirty_writeback_centisecs=0)
    made(sim)
    assert sim.fwrite("A", "f", 0, 12000 * 4096).ret == 12000 * 4096
    assert sim.kills == [] and counted(sim, v.V_NR_WRITTEN)[0] > 4000
    assert sim.check_state() == []


def test_what_is_dirty_is_checked():
    sim = simulation(dirty_writeback_centisecs=0)
    inode = made(sim)
    sim.fwrite("A", "f", 0, 4096)
    sim.machine.inode[inode * r.INODE_STRIDE + r.I_NR_DIRTY] += 1
    sim.machine.vmstat[v.V_NR_DIRTY] += 1
    assert len(_dirty_pages(sim.machine)) == 2


def test_kswapd_woken_within_a_tenth_of_a_second_is_counted():
    sim = simulation(memory="32M", watermark_boost_factor=0)
    sim.mkfile("f", 40 << 20)  # more than memory: kswapd sleeps and wakes all the time
    quickly, runs = counted(sim, v.V_KSWAPD_LOW_WMARK_HIT_QUICKLY, v.V_PAGEOUTRUN)
    assert 0 < quickly < runs
    sim.sleep(200)
    sim.fread("A", "f", 0, 8 << 20)
    assert counted(sim, v.V_PAGEOUTRUN)[0] - runs > counted(sim, v.V_KSWAPD_LOW_WMARK_HIT_QUICKLY)[0] - quickly  # the first came late


# cgroups ------------------------------------------------------------------------------------------------------------------------------------
def in_cgroup(limit="4M", **sysctl):
    """A machine of 64 MiB with a task in a cgroup that may have so much memory, and one outside."""
    sim = Simulation.from_table({"memory": "64M", "cpus": 1, "disk": "64M", "bare": True}, sysctl={f"vm.{k}": str(value) for k, value in sysctl.items()},
                                policies={"reclaimer": {"use": "two_list"}}, script=True)
    cgroups.make(sim, "g")
    assert procfs.write(sim, "/sys/fs/cgroup/g/memory.max", limit) == 0
    sim.spawn("A", cgroup="g")
    made(sim)
    made(sim, "other")
    sim.spawn("B")
    return sim


def of_g(sim, item):
    return int(sim.machine.memcg[r.MEMCG_STRIDE + item])


def test_a_cgroup_has_dirty_limits_of_its_own():
    sim = in_cgroup()
    sim.fwrite("A", "f", 0, 100 * 4096)
    sim.machine.op("reclaimer", "drain", 0)
    sim.machine.wb[r.WB_STATS_NS] = 0
    available = 100 + (1024 - of_g(sim, r.MC_USAGE))  # what it has, and what it may still take: there is enough of that
    assert sim.machine.run(memcg_dirty_threshold, 1) == (20 * 4096 // 100) * available >> 12
    assert sim.machine.run(memcg_background_threshold, 1, 1 << 20) == (10 * 4096 // 100) * available >> 12
    assert (of_g(sim, r.MC_NR_DIRTY), of_g(sim, r.MC_WB_DIRTY), of_g(sim, r.MC_SEEN_DIRTY)) == (100, 100, 100)
    sim.fsync("A", "f")
    assert (of_g(sim, r.MC_NR_WRITEBACK), of_g(sim, r.MC_WB_DIRTY)) == (0, 0) and sim.check_state() == []
    assert of_g(sim, r.MC_NR_DIRTY) <= 1  # a block of the file's map


def test_the_flusher_writes_a_cgroup_down_to_its_background_threshold_and_nobody_else():
    sim = in_cgroup()
    sim.fwrite("B", "other", 0, 300 * 4096)
    sim.fwrite("A", "f", 0, 150 * 4096)  # more than a tenth of 1024, less than the machine's limits
    assert counted(sim, v.V_NR_WRITTEN) == [0]
    sim.sleep(5500)  # the look at old data finds none that is old, but a cgroup over its threshold
    dirty = [int(sim.machine.inode[made(sim, name) * r.INODE_STRIDE + r.I_NR_DIRTY]) for name in ("other", "f")]
    assert counted(sim, v.V_NR_WRITTEN) == [150] and dirty == [300, 0]
    assert sim.check_state() == []


def test_who_is_over_the_limit_of_a_cgroup_by_its_statistics_waits():
    sim = in_cgroup()
    began = sim.now_ns
    sim.fwrite("A", "f", 0, 150 * 4096)
    assert sim.now_ns - began < 100_000_000  # its statistics say that it has nothing dirty
    sim.sleep(2100)
    sim.fwrite("A", "f", 150 * 4096, 200 * 4096)  # now they know of 150, which is between the thresholds: the flusher begins
    assert counted(sim, v.V_NR_WRITTEN)[0] > 0
    began = sim.now_ns
    sim.machine.memcg[r.MEMCG_STRIDE + r.MC_SEEN_DIRTY] = 1000  # above every limit
    sim.machine.wb[r.WB_STATS_NS] += 1_000_000_000  # until it is through
    sim.fwrite("A", "f", 350 * 4096, 200 * 4096)
    assert sim.now_ns - began > 150 * 4_000_000 and sim.check_state() == []  # a jiffy a page or more, though the flusher has written all


def test_a_file_belongs_to_the_cgroup_that_made_it_dirty_first():
    sim = in_cgroup()
    sim.fwrite("B", "f", 0, 4096)
    sim.fwrite("A", "f", 4096, 150 * 4096)
    assert (of_g(sim, r.MC_NR_DIRTY), of_g(sim, r.MC_WB_DIRTY)) == (150, 0)
    sim.sleep(5500)
    assert counted(sim, v.V_NR_WRITTEN) == [0]  # it is not g's flusher's
    sim.fsync("B", "f")
    assert sim.check_state() == []
