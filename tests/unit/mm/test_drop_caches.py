"""Pages that drop_caches cannot drop, writes that are no accesses, and names of /proc and /sys; the figures are those of Linux 6.12."""

import pytest

from mmlab import procfs
from mmlab._engine.boot import above_low_pages
from mmlab._engine.script import run_script
from mmlab._engine.script_driver import leave_room
from mmlab.kernels.services import kmem_cache_alloc
from mmlab.machine.overheads import KERNEL_LOAD_PFN, KERNEL_PAGES
from mmlab.mm import dcache, files, kfree_rcu, shrinker
from mmlab.mm.slab import KMALLOC_FIRST
from mmlab.model import rows as r
from mmlab.model import vmstat as v
from mmlab.model.gfp import GFP_KERNEL
from mmlab.model.page import KIND_BOOT
from mmlab.model.const import (
    LRU_ACTIVE_ANON, LRU_ACTIVE_FILE, LRU_INACTIVE_ANON, LRU_INACTIVE_FILE, SLAB_STAT_NUM_SLABS,
)
from mmlab.simulation import Simulation
from mmlab.workload.ops import parse_ops

TWO_BATCHES = 62  # pages: whole batches of the lists, so that nothing waits in one


def machine(reclaimer="two_list", disk="64M"):
    sim = Simulation.from_table({"memory": "64M", "cpus": 1, "disk": disk, "bare": True}, policies={"reclaimer": {"use": reclaimer}})
    sim.spawn("A")
    sim.mkfile("f", 0)
    return sim


def on_list(sim, lru):
    return sum(int(sim.machine.zone[z * r.ZONE_STRIDE + r.Z_LRU + lru]) for z in range(len(sim.layout.zones)))


def counted(sim, item):
    return int(sim.machine.vmstat[item])


def drop(sim, what):
    assert procfs.write(sim, "/proc/sys/vm/drop_caches", what) == 0


# pages ------------------------------------------------------------------------------------------------------------------------------------
def test_writes_to_a_file_on_a_disk_are_no_accesses():
    sim = machine()
    for _ in range(3):
        sim.fwrite("A", "f", 0, TWO_BATCHES << 12)
    assert (on_list(sim, LRU_INACTIVE_FILE), on_list(sim, LRU_ACTIVE_FILE), counted(sim, v.V_PGACTIVATE)) == (TWO_BATCHES, 0, 0)
    sim.fread("A", "f", 0, TWO_BATCHES << 12)
    assert counted(sim, v.V_PGACTIVATE) == 0  # the first access
    sim.fread("A", "f", 0, TWO_BATCHES << 12)
    assert on_list(sim, LRU_ACTIVE_FILE) == counted(sim, v.V_PGACTIVATE) == TWO_BATCHES and sim.check_state() == []


def test_dropping_takes_time_in_which_others_have_their_turns():
    sim = machine()
    sim.mkfile("g", 3000 << 12)
    sim.fread("A", "g", 0, 3000 << 12)
    sc, clean = sim.machine.sc, on_list(sim, LRU_INACTIVE_FILE)
    before = sc[r.SC_NOW_NS]
    sc[r.SC_NEXT_TICK_NS] = sc[r.SC_NEXT_EVENT_NS] = before + 1
    dropped = sim.machine.run(files.drop_caches)
    assert dropped >= 3000 and clean > 2900
    assert sc[r.SC_NOW_NS] - before >= dropped * 134  # vm_guest's zap_pte
    assert sc[r.SC_NEXT_TICK_NS] > before + 1  # the timer of the statistics did not wait for the end
    assert sim.check_state() == []


def test_writes_to_tmpfs_are_accesses():
    sim = machine(disk="0")
    sim.fwrite("A", "f", 0, TWO_BATCHES << 12)
    assert on_list(sim, LRU_INACTIVE_ANON) == TWO_BATCHES
    sim.fwrite("A", "f", 0, TWO_BATCHES << 12)
    assert on_list(sim, LRU_ACTIVE_ANON) == counted(sim, v.V_PGACTIVATE) == TWO_BATCHES and sim.check_state() == []


@pytest.mark.parametrize(("disk", "inactive", "active"), [("64M", LRU_INACTIVE_FILE, LRU_ACTIVE_FILE), ("0", LRU_INACTIVE_ANON, LRU_ACTIVE_ANON)])
def test_dirty_pages_age_when_caches_are_dropped(disk, inactive, active):
    sim = machine(disk=disk)
    sim.fwrite("A", "f", 0, TWO_BATCHES << 12)
    for _ in range(2):
        sim.fread("A", "f", 0, TWO_BATCHES << 12)
    assert on_list(sim, active) == TWO_BATCHES
    drop(sim, "1")
    assert (on_list(sim, inactive), on_list(sim, active), counted(sim, v.V_PGDEACTIVATE)) == (TWO_BATCHES, 0, TWO_BATCHES)
    sim.fsync("A", "f")
    assert counted(sim, v.V_PGROTATED) == (TWO_BATCHES if disk != "0" else 0)  # written: next victims
    assert sim.check_state() == []


def test_generations_of_dirty_pages_when_caches_are_dropped_once_and_again():
    """What PG_reclaim tells a page that joins shows the second time only: then it goes to the second youngest generation."""
    sim = machine("mglru")
    sim.fwrite("A", "f", 0, TWO_BATCHES << 12)
    for generations in ([0, TWO_BATCHES, 0, 0], [0, 0, TWO_BATCHES, 0]):
        drop(sim, "1")
        rows = [line.split() for line in procfs.read(sim, "/sys/kernel/debug/lru_gen").splitlines()[2:]]
        assert [int(row[3].rstrip("x")) for row in rows] == generations
    assert counted(sim, v.V_PGDEACTIVATE) == 0 and sim.check_state() == []  # no page on a generation's list is PG_active


def test_mapped_pages_of_a_dropped_file_keep_their_place():
    sim = machine(disk="0")
    sim.fwrite("A", "f", 0, TWO_BATCHES << 12)
    at = sim.mmap("A", TWO_BATCHES << 12, flags=["shared"], file=sim.open("f"))
    sim.touch("A", at, TWO_BATCHES, 0)
    sim.fwrite("A", "f", 0, TWO_BATCHES << 12)
    drop(sim, "1")
    assert on_list(sim, LRU_ACTIVE_ANON) == TWO_BATCHES and counted(sim, v.V_PGDEACTIVATE) == 0


# names ------------------------------------------------------------------------------------------------------------------------------------
def used_names(sim, flags, times):
    """Names of /proc or /sys, each looked up so often."""
    for count in times:
        inode = sim.machine.run(files.inode_create, 0, flags)
        for _ in range(count):
            assert sim.machine.run(dcache.name_use, inode) == 0


def shrunk(sim, which):
    """Objects looked at and freed by a run of a shrinker with all pressure."""
    before = counted(sim, v.V_SLABS_SCANNED)
    freed = sim.machine.run(shrinker.do_shrink_slab, which, 0)
    return counted(sim, v.V_SLABS_SCANNED) - before, freed


@pytest.mark.parametrize(("flags", "which", "times", "rounds"), [
    (r.IF_SYSFS, r.SHR_SYSFS, [1] * 3 + [3] * 114, [(0, 0), (0, 0), (174, 59), (0, 0), (58, 58), (0, 0)]),
    (r.IF_PROC, r.SHR_PROC, [1] * 6 + [3] * 16, [(0, 0), (22, 6), (0, 0), (16, 16), (0, 0)]),
])
def test_names_of_views_of_the_kernel_cost_nothing_to_make_again(flags, which, times, rounds):
    """Half of them are due in each run, and nothing is done before as many are as there are (seen by mm_shrink_slab_start and _end)."""
    sim = machine()
    used_names(sim, flags, times)
    assert [shrunk(sim, which) for _ in rounds] == rounds
    assert int(sim.machine.shrinker[which * r.SHR_STRIDE + r.SHR_NR]) == 0
    assert sim.check_state() == []


def test_a_name_that_does_not_exist_has_no_inode():
    sim = machine()
    used_names(sim, r.IF_SYSFS | r.IF_NEGATIVE, [1])
    assert int(sim.machine.shrinker[r.SHR_SYSFS * r.SHR_STRIDE + r.SHR_NR]) == 1
    assert int(sim.machine.inode[sim.machine.sc[r.SC_INODE_TOP] * r.INODE_STRIDE + r.I_OBJ]) == 0


def name_in(sim, directory, flags=r.IF_SYSFS):
    inode = sim.machine.run(files.inode_create, 0, flags)
    sim.machine.inode[inode * r.INODE_STRIDE + r.I_PARENT] = directory
    return inode


def in_memory(sim, inodes):
    return [bool(sim.machine.inode[inode * r.INODE_STRIDE + r.I_DENTRY]) for inode in inodes]


def test_a_directory_is_in_memory_as_long_as_a_name_in_it():
    sim = machine()
    m = sim.machine
    top = name_in(sim, 0)
    below = name_in(sim, top)
    first, second, other = name_in(sim, below), name_in(sim, below, r.IF_SYSFS | r.IF_NEGATIVE), name_in(sim, top)
    rows = (top, below, first, second, other)
    for inode in (first, second, other):
        assert m.run(dcache.name_use, inode) == 0
    assert in_memory(sim, rows) == [True] * 5
    assert int(m.shrinker[r.SHR_SYSFS * r.SHR_STRIDE + r.SHR_NR]) == 3  # directories do not wait: they are held
    for left in ([True, True, False, True, True], [True, False, False, False, True], [False] * 5):
        assert m.run(dcache.prune_dcache, r.SHR_SYSFS, 1) == 1  # who goes takes directories along that nothing else holds; they do not count
        assert in_memory(sim, rows) == left
    assert [int(m.inode[inode * r.INODE_STRIDE + r.I_OBJ]) for inode in rows] == [0] * 5
    assert m.run(dcache.name_use, first) == 0
    assert in_memory(sim, rows) == [True, True, True, False, False] and sim.check_state() == []


@pytest.mark.parametrize(("opens", "wait_ms", "scanned"), [
    (319, 0, (128, 319)),  # one batch frees them all
    (40, 0, (80, 40)),
    (319, 5000, (0, 0)),  # freed meanwhile
    (511, 0, (2, 1)),  # a block of pointers was full
])
def test_what_waits_for_a_grace_period_can_be_freed_at_once(opens, wait_ms, scanned):
    sim = machine()
    used_names(sim, r.IF_SYSFS, [1] * opens)
    if wait_ms:
        sim.sleep(wait_ms)
    assert shrunk(sim, r.SHR_KFREE_RCU) == scanned


# the driver of a script -------------------------------------------------------------------------------------------------------------------
def test_a_snapshot_lies_in_tmpfs(tmp_path):
    sim = Simulation.from_table({"memory": "256M", "cpus": 1}, script=True)
    run_script(sim, parse_ops("snapshot a\nsnapshot b", "t.ops"), tmp_path / "out", tmp_path)
    kept = sum(-(-max(file.stat().st_size, 20_700 if file.name == "slabinfo" else 0) // 4096) for file in (tmp_path / "out" / "a").iterdir())
    first, second = (dict(line.split() for line in (tmp_path / "out" / label / "vmstat").read_text().splitlines()) for label in "ab")
    assert int(second["nr_shmem"]) - int(first["nr_shmem"]) == kept >= 20
    # names: of 9 sizes' 12 counters each some exist, three files of one node, three nodes that do not exist; in /proc seven files, memory
    # pressure, and what starting the machine left
    names = {which: int(sim.machine.shrinker[which * r.SHR_STRIDE + r.SHR_NR]) for which in (r.SHR_SYSFS, r.SHR_PROC)}
    assert names == {r.SHR_SYSFS: 9 * 12 + 3 + 3, r.SHR_PROC: 7 + 1 + 5} and sim.check_state() == []


def test_names_of_a_task_go_with_it(tmp_path):
    sim = Simulation.from_table({"memory": "256M", "cpus": 1}, script=True)
    proc = r.SHR_PROC * r.SHR_STRIDE + r.SHR_NR
    before = int(sim.machine.shrinker[proc])
    run_script(sim, parse_ops("spawn A\nsnapshot a\nkill A", "t.ops"), tmp_path / "out", tmp_path)
    assert int(sim.machine.shrinker[proc]) - before == 7 + 1  # those of the machine; A's eight are gone
    assert not any("/151" in name for name in sim._looked_up) and sim.check_state() == []


@pytest.mark.parametrize("count", [0, 3, 20, 21, 28])
def test_room_in_the_slabs_of_a_cache(count):
    m = machine().machine
    leave_room(m, r.CACHE_DENTRY, count)
    slabs = m.op("slab_allocator", "stat", r.CACHE_DENTRY, SLAB_STAT_NUM_SLABS)
    more = 0
    while m.op("slab_allocator", "stat", r.CACHE_DENTRY, SLAB_STAT_NUM_SLABS) == slabs:
        assert m.run(kmem_cache_alloc, r.CACHE_DENTRY, GFP_KERNEL) > 0
        more += 1
    assert more == count + 1


def test_an_inode_in_memory_has_a_security_blob():
    sim = machine()
    m = sim.machine
    before = [m.op("slab_allocator", "stat", cache, SLAB_STAT_NUM_SLABS) for cache in (r.CACHE_LSM_INODE, r.CACHE_INODE)]
    for _ in range(92):
        assert m.run(files.inode_create, 0, 0) >= 0
    after = [m.op("slab_allocator", "stat", cache, SLAB_STAT_NUM_SLABS) for cache in (r.CACHE_LSM_INODE, r.CACHE_INODE)]
    assert after[0] - before[0] == 92 // 46 and after[1] > before[1]  # 46 of 88 bytes in a page


def test_what_waits_for_rcu_is_freed_together():
    sim = machine()
    m, row = sim.machine, r.SHR_KFREE_RCU * r.SHR_STRIDE
    inode = m.run(files.inode_create, 0, r.IF_SYSFS)

    def slabs():
        return m.op("slab_allocator", "stat", KMALLOC_FIRST + 4, SLAB_STAT_NUM_SLABS)

    for _ in range(84):
        assert m.run(dcache.name_use, inode) == 0
    assert m.shrinker[row + r.SHR_NR] == 84 and slabs() == 84 // 42  # 42 of 96 bytes in a page
    m.sc[r.SC_NOW_NS] += kfree_rcu.KFREE_DRAIN_NS
    assert m.run(dcache.name_use, inode) == 0
    assert m.shrinker[row + r.SHR_NR] == 1 and slabs() == 3  # the 85th needed a page, then the others were freed
    for _ in range(83):
        m.run(dcache.name_use, inode)
    assert slabs() == 3 and sim.check_state() == []


def test_pages_kept_for_what_waits_for_rcu_can_be_reclaimed():
    sim = Simulation.from_table({"memory": "256M", "cpus": 1})
    m = sim.machine
    inode = m.run(files.inode_create, 0, r.IF_SYSFS)
    cached = m.kvfree_page[r.KVP_NR :: r.KVP_STRIDE]
    assert list(cached) == [5] and m.run(kfree_rcu.kfree_rcu_count) == 5
    m.run(dcache.name_use, inode)
    assert list(cached) == [4] and m.run(kfree_rcu.kfree_rcu_count) == 1 + 4  # one of them notes the object
    freed = int(m.vmstat[v.VMSTAT_NAMES.index("pgfree")])
    assert m.run(kfree_rcu.kfree_rcu_scan, 128) == 1 + 4
    assert m.vmstat[v.VMSTAT_NAMES.index("pgfree")] == freed + 4
    assert m.run(kfree_rcu.kfree_rcu_scan, 128) == -1  # somebody may still see the object that was noted there
    m.sc[r.SC_NOW_NS] += kfree_rcu.GRACE_PERIOD_NS
    assert m.run(kfree_rcu.kfree_rcu_count) == 1 and m.run(kfree_rcu.kfree_rcu_scan, 128) == 1
    assert m.vmstat[v.VMSTAT_NAMES.index("pgfree")] == freed + 5 and sim.check_state() == []


def test_low_pages_that_boot_left_in_use():
    sim = Simulation.from_table({"memory": "256M", "cpus": 1})
    zone = sim.layout.zones[-1]
    free = range(KERNEL_LOAD_PFN + KERNEL_PAGES, zone.end_pfn)
    used = [pfn for pfn in free if int(sim.machine.pagex[4 * pfn + 3]) >> 12 & 15 == KIND_BOOT]
    assert above_low_pages(sim.machine, zone, 100, zone.end_pfn) == used[99] + 1
    assert above_low_pages(sim.machine, zone, len(used) + 1, zone.end_pfn) == zone.end_pfn  # there are not so many
