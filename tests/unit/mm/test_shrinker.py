"""Shrinkers: dentries, inodes, maps of blocks and index nodes of shadows, under pressure and by drop_caches."""

import pytest
from mm_script import Ran

from mmlab import procfs
from mmlab.kernels.jit import kernel
from mmlab.mm import shrinker, workingset, xarray
from mmlab.mm.migrate import isolate_folio, migrate_folio
from mmlab.mm.page_alloc import alloc_pages
from mmlab.model import rows as r
from mmlab.model import vmstat as v
from mmlab.model.const import SLAB_STAT_ACTIVE_OBJS
from mmlab.model.gfp import GFP_TRANSHUGE
from mmlab.model.page import add_refs
from mmlab.policies import python_function
from mmlab.procfs.cgroups import make
from mmlab.simulation import Simulation


@pytest.fixture
def sim():
    sim = Simulation.from_table({"memory": "64M", "cpus": 1, "disk": "64M", "bare": True}, policies={"reclaimer": {"use": "two_list"}})
    sim.spawn("A")
    return sim


def made(sim, count, size=4096):
    for i in range(count):
        sim.mkfile(f"f{i}", size)


def waiting(sim):
    return [int(sim.machine.shrinker[which * r.SHR_STRIDE + r.SHR_NR]) for which in (r.SHR_DENTRIES, r.SHR_INODES, r.SHR_EXTENTS)]


def inode_of(sim, name):
    return sim._files[name] * r.INODE_STRIDE


def scanned(sim):
    return int(sim.machine.vmstat[v.V_SLABS_SCANNED])


def test_names_wait_once_nobody_has_the_file_open(sim):
    made(sim, 3)
    assert waiting(sim) == [3, 0, 6]
    file = sim.open("f0")
    assert int(sim.machine.inode[inode_of(sim, "f0") + r.I_OPENS]) == 1 and waiting(sim)[0] == 3  # it leaves the list at the next scan only
    sim.close(file)
    assert int(sim.machine.inode[inode_of(sim, "f0") + r.I_REFERENCED]) & r.I_REF_DENTRY


def test_dropping_slab_takes_names_then_inodes(sim):
    made(sim, 100)
    for i in range(50):
        sim.close(sim.open(f"f{i}"))
    assert procfs.write(sim, "/proc/sys/vm/drop_caches", "2") == 0
    # with their pages the inodes stay. Scanned: 2 * 100 names; 2 * 200 entries of maps in batches of 128, 16 left over; in the second round,
    # with those, 2 * 16 entries: the first 200 looks only cleared the marks
    assert waiting(sim) == [0, 0, 0] and scanned(sim) == 200 + 384 + 32 and int(sim.machine.inode[inode_of(sim, "f0") + r.I_OBJ]) > 0
    assert procfs.write(sim, "/proc/sys/vm/drop_caches", "3") == 0
    assert waiting(sim) == [0, 0, 0] and scanned(sim) == 616 + 200  # each inode without a name and pages: twice as much as there are
    assert int(sim.machine.inode[inode_of(sim, "f0") + r.I_OBJ]) == 0
    assert int(sim.machine.vmstat[v.V_DROP_SLAB]) == 2 and sim.check_state() == []


def test_a_file_that_left_memory_is_read_again(sim):
    made(sim, 1)
    assert procfs.write(sim, "/proc/sys/vm/drop_caches", "3") == 0
    assert sim.fread("A", "f0", 0, 4096).ret == 4096
    assert int(sim.machine.inode[inode_of(sim, "f0") + r.I_OBJ]) > 0 and waiting(sim) == [1, 0, 2]
    assert sim.machine.op("slab_allocator", "stat", r.CACHE_INODE, SLAB_STAT_ACTIVE_OBJS) > 0


def test_an_open_or_dirty_file_stays(sim):
    made(sim, 2)
    file = sim.open("f0")
    sim.fwrite("A", "f1", 0, 4096)
    procfs.write(sim, "/proc/sys/vm/drop_caches", "3")
    assert int(sim.machine.inode[inode_of(sim, "f0") + r.I_OBJ]) > 0 and int(sim.machine.inode[inode_of(sim, "f1") + r.I_OBJ]) > 0
    sim.close(file)
    assert waiting(sim)[0] == 1  # its name left the list while it was in use, and is back
    sim.fsync("A", "f1")
    procfs.write(sim, "/proc/sys/vm/drop_caches", "3")
    assert int(sim.machine.inode[inode_of(sim, "f1") + r.I_OBJ]) == 0 and sim.check_state() == []


def test_too_little_for_a_batch_is_left_for_later(sim):
    made(sim, 40)
    run = sim.machine.run
    # 40 >> 4 = 2 objects, times 4 / 2 seeks: 4 a run at priority 4, less than a batch of 1024 and than the 40 there are
    for _ in range(3):
        run(shrinker.do_shrink_slab, r.SHR_SUPER, 4)
    row = r.SHR_SUPER * r.SHR_STRIDE
    assert scanned(sim) == 0 and int(sim.machine.shrinker[row + r.SHR_DEFERRED]) == 12
    run(shrinker.do_shrink_slab, r.SHR_SUPER, 0)
    assert scanned(sim) == 80 and int(sim.machine.shrinker[row + r.SHR_DEFERRED]) == 12  # 12 + 80 were due, at most twice the 40 are done


def test_cache_pressure_scales_what_there_is_to_free(sim):
    made(sim, 40)
    assert procfs.write(sim, "/proc/sys/vm/vfs_cache_pressure", "0") == 0
    sim.machine.run(shrinker.do_shrink_slab, r.SHR_SUPER, 0)
    assert scanned(sim) == 0 and waiting(sim)[0] == 40
    assert procfs.write(sim, "/proc/sys/vm/vfs_cache_pressure", "50") == 0
    sim.machine.run(shrinker.do_shrink_slab, r.SHR_SUPER, 0)
    assert scanned(sim) == 40


def test_reclaim_shrinks_slabs(sim):
    made(sim, 600)
    made_before = scanned(sim)
    sim.mkfile("big", 80 << 20)
    assert scanned(sim) >= made_before and sim.check_state() == []


@kernel
def shadows_everywhere(m, inode, nodes):
    """A shadow in the first slot of each of so many nodes."""
    for node in range(nodes):
        xarray.xa_store(m, inode, node * 64, (5 << 2) | xarray.XA_VALUE)
    return 0


def test_nodes_of_shadows_are_freed_beyond_an_eighth_of_the_pages(sim):
    sim.mkfile("f", 0)
    m, inode = sim.machine, sim._files["f"]
    m.run(shadows_everywhere, inode, 3000)
    pages = sum(int(m.zone[z * r.ZONE_STRIDE + r.Z_LRU + lru]) for z in range(len(sim.layout.zones)) for lru in range(5))
    pages += int(m.vmstat[v.V_NR_SLAB_RECLAIMABLE] + m.vmstat[v.V_NR_SLAB_UNRECLAIMABLE])
    assert m.run(workingset.count_shadow_nodes, 0) == 3000 - pages // 8 > 0
    assert int(m.vmstat[v.V_WORKINGSET_NODES]) == 3000
    assert m.run(workingset.scan_shadow_nodes, 0, 100) == 100
    assert m.run(xarray.xa_check, inode) == 0
    assert int(m.inode[inode * r.INODE_STRIDE + r.I_NRSHADOWS]) == 2900 and m.run(xarray.xa_load, inode, 99 * 64) == 0
    assert [int(m.vmstat[item]) for item in (v.V_WORKINGSET_NODES, v.V_WORKINGSET_NODERECLAIM)] == [2900, 100]


def test_a_cgroup_keeps_as_many_nodes_of_shadows_as_its_statistics_allow():
    """None until they are refreshed for the first time. Half of the nodes are due at any priority, too few for a scan; with all pressure the
    half left over makes it all of them."""
    sim = Simulation.from_table({"memory": "64M", "cpus": 1, "disk": "64M", "bare": True}, script=True)
    group = make(sim, "g")
    sim.spawn("A", cgroup="g")
    sim.mkfile("f", 0)
    m, inode = sim.machine, sim._files["f"]
    m.sc[r.SC_TASK] = sim.task("A").index
    m.run(shadows_everywhere, inode, 10)
    assert m.run(workingset.count_shadow_nodes, group) == 10 and m.run(workingset.count_shadow_nodes, 0) == 0
    m.run(shrinker.shrink_slab_memcg, group, 12)
    assert int(m.vmstat[v.V_WORKINGSET_NODERECLAIM]) == 0
    m.run(shrinker.shrink_slab_memcg, group, 0)
    assert int(m.vmstat[v.V_WORKINGSET_NODERECLAIM]) == 10
    m.run(shadows_everywhere, inode, 10)
    sim.mkfile("g", 0)
    sim.fwrite("A", "g", 0, 200 << 12)
    sim.sleep(2000)
    assert m.run(workingset.count_shadow_nodes, group) == 0  # 200 pages: enough for 25
    assert sim.check_state() == []


# folios that wait to be split -----------------------------------------------------------------------------------------------------------------
def huge_machine(memory="64M", swap="0"):
    sim = Simulation.from_table({"memory": memory, "swap": swap, "bare": True}, policies={"thp": {"use": "always"}})
    sim.spawn("A")
    addr = sim.mmap("A", 16 << 20, flags=["fixed"], addr=0x10000000000)
    return sim, addr


def split_queue(sim):
    return int(sim.machine.memcg[r.MC_SPLIT_QUEUE + r.SHR_NR])


def counter(sim, name):
    return sim.counters()[name]


def free_pages(sim):
    for zone in range(sim.machine.sizes.nr_zones):
        sim.machine.op("page_allocator", "drain", zone, 0)
    return int(sim.machine.zone.reshape(-1, r.ZONE_STRIDE)[:, r.Z_FREE].sum() + sim.machine.pcp.reshape(-1, r.PCP_STRIDE)[:, r.PCP_FREE_DIFF].sum())


def test_parts_that_nobody_maps_come_back_when_the_shrinker_splits():
    """Three huge pages of which 100, 511 and no pages are unmapped."""
    sim, addr = huge_machine()
    sim.touch("A", addr, 3 * 512, 1)
    assert split_queue(sim) == 3  # new huge pages are looked at once
    before = free_pages(sim)
    sim.munmap("A", addr, 100 * 4096)
    sim.munmap("A", addr + (2 << 20) + 4096, 511 * 4096)
    assert free_pages(sim) == before  # not yet
    assert (split_queue(sim), counter(sim, "thp_deferred_split_page"), counter(sim, "thp_split_page")) == (3, 2, 0)
    assert sim.check_state() == []
    assert procfs.write(sim, "/proc/sys/vm/drop_caches", "2") == 0
    assert free_pages(sim) == before + 611
    assert (split_queue(sim), counter(sim, "thp_split_page")) == (0, 2)
    assert counter(sim, "nr_anon_transparent_hugepages") == 1  # whole: not worth a split
    assert sim.touch("A", addr + 100 * 4096, 412, 1).minflt == 0
    assert sim.check_state() == []
    scanned_so_far = scanned(sim)
    procfs.write(sim, "/proc/sys/vm/drop_caches", "2")
    assert scanned(sim) == scanned_so_far  # nothing waits


@pytest.mark.nojit
def test_a_folio_that_is_held_waits_on():
    sim, addr = huge_machine()
    sim.touch("A", addr, 1024, 1)
    sim.munmap("A", addr, 4096)
    sim.munmap("A", addr + (2 << 20), 4096)
    head = int(sim.machine.memcg[r.MC_SPLIT_QUEUE + r.SHR_FIRST]) - 1
    python_function(add_refs)(sim.machine, head, 1)
    procfs.write(sim, "/proc/sys/vm/drop_caches", "2")
    assert (split_queue(sim), counter(sim, "thp_split_page")) == (1, 1)
    assert counter(sim, "thp_split_page_failed") >= 1
    python_function(add_refs)(sim.machine, head, -1)
    procfs.write(sim, "/proc/sys/vm/drop_caches", "2")
    assert (split_queue(sim), counter(sim, "thp_split_page")) == (0, 2)
    assert sim.check_state() == []


def test_direct_reclaim_splits_what_waits():
    """Seven of eight pages of 9 huge pages are unmapped; a program that needs more than the rest gets their memory, without swap or a kill."""
    sim, _ = huge_machine(memory="32M")
    addr = sim.mmap("A", 24 << 20, flags=["fixed"], addr=0x20000000000)
    sim.touch("A", addr, 9 * 512, 1)
    for i in range(9):
        sim.munmap("A", addr + (i << 21) + 64 * 4096, 448 * 4096)
    sim.spawn("B")
    wanted = 20 << 20
    other = sim.mmap("B", wanted)
    assert sim.madvise("B", other, wanted, "nohugepage") == 0
    sim.touch("B", other, wanted >> 12, 1)
    assert sim.kills == [] and sim.alive("B")
    assert counter(sim, "thp_split_page") > 0
    assert sim.check_state() == []


@pytest.mark.nojit
def test_a_cgroups_folios_wait_on_its_own_queue_and_its_own_pressure_splits_them():
    """A is outside, B in a cgroup; each unmaps a page of each of its huge pages. Reclaim from the cgroup splits B's alone, all of them at
    priority 0 at the latest; dropping slabs splits A's."""
    ran = Ran(
        """
spawn A
mmap A r 8M anon align=2M
touch A r 0 8M w
spawn B cgroup=g
mmap B r 6M anon align=2M
touch B r 0 6M w
munmap A r 0 1
munmap A r 2M 1
munmap B r 0 1
munmap B r 2M 1
snapshot s0
cgroup g memory.reclaim=1M
snapshot s1
sysctl vm.drop_caches 2
snapshot s2
""",
        memory="1G", cmdline="transparent_hugepage=always",
    )  # fmt: skip
    assert [ran.vmstat(label, "thp_deferred_split_page") for label in ("s0", "s1", "s2")] == [4, 4, 4]
    assert [ran.vmstat(label, "thp_split_page") for label in ("s0", "s1", "s2")] == [0, 2, 4]


def test_freed_folios_leave_the_queue():
    sim, addr = huge_machine()
    sim.touch("A", addr, 1024, 1)
    sim.munmap("A", addr, 4096)
    sim.munmap("A", addr, 4 << 20)
    assert split_queue(sim) == 0 and sim.check_state() == []


@pytest.mark.nojit
def test_a_folio_that_compaction_moves_waits_on():
    sim, addr = huge_machine()
    sim.touch("A", addr, 1024, 1)
    sim.munmap("A", addr, 4096)
    head = int(sim.machine.memcg[r.MC_SPLIT_QUEUE + r.SHR_FIRST]) - 1
    place = sim.machine.run(alloc_pages, GFP_TRANSHUGE, 9, -1)
    assert python_function(isolate_folio)(sim.machine, head) == 1
    sim.machine.run(migrate_folio, head, place)
    assert int(sim.machine.memcg[r.MC_SPLIT_QUEUE + r.SHR_LAST]) - 1 == place and split_queue(sim) == 2
    assert sim.check_state() == []
    procfs.write(sim, "/proc/sys/vm/drop_caches", "2")
    assert (split_queue(sim), counter(sim, "thp_split_page")) == (0, 1)
    assert sim.check_state() == []
