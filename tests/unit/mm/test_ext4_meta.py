"""Blocks of a disk's file system in the page cache; the figures are those of Linux 6.12 on a disk of 512 MiB."""

import pytest

from mmlab import procfs
from mmlab.mm.buffer import invalidate_bh_lrus
from mmlab.mm.ext4_meta import sb_getblk
from mmlab.mm.reclaim_folio import do_reclaim_folio
from mmlab.model import rows as r
from mmlab.model import vmstat as v
from mmlab.model.const import RECLAIM_FREED, SCAN_MAY_UNMAP, SCAN_MAY_WRITEPAGE, SLAB_STAT_ACTIVE_OBJS
from mmlab.model.rows import BH_LRU_SIZE
from mmlab.procfs import cgroups
from mmlab.simulation import Simulation


@pytest.fixture
def sim():
    sim = Simulation.from_table({"memory": "256M", "cpus": 1, "disk": "512M"}, script=True, sysfs={"block/vdb/queue/read_ahead_kb": "0"})
    sim.spawn("A")
    return sim


def buffers(sim):
    return next(int(line.split()[1]) // 4 for line in procfs.read(sim, "/proc/meminfo").splitlines() if line.startswith("Buffers:"))


def generations(sim):
    """File pages of each generation, the pages that wait in batches included in theirs."""
    sim.machine.op("reclaimer", "drain", 0)
    return [int(line.split()[3].rstrip("x")) for line in procfs.read(sim, "/sys/kernel/debug/lru_gen").splitlines()[2:]]


def drop(sim, what):
    assert procfs.write(sim, "/proc/sys/vm/drop_caches", what) == 0


def counted(sim, item):
    return int(sim.machine.vmstat[item])


def test_buffers_of_files_made_found_and_written(sim):
    # superblock, descriptors, the table's first block
    assert (buffers(sim), generations(sim), counted(sim, v.V_NR_DIRTY)) == (3, [0, 3, 0, 0], 1)
    sim.mkfile("f", 100 << 12)
    # a block of the directory, a bitmap of inodes, bitmaps of four groups of blocks; beside them two maps of free blocks a group
    assert (buffers(sim), generations(sim)) == (9, [0, 100 + 9 + 8, 0, 0])
    sim.mkfile("g", 100 << 12)
    assert (buffers(sim), generations(sim)) == (9, [0, 200 + 9 + 8, 0, 0])
    # all that both files share is dirty, the files' pages are not: fsync() wrote them
    assert (counted(sim, v.V_NR_DIRTY), counted(sim, v.V_NR_WRITTEN)) == (6, 200)
    drop(sim, "1")
    assert (buffers(sim), generations(sim)) == (6, [0, 6, 0, 0])
    drop(sim, "3")
    sim.fread("A", "f", 0, 100 << 12)
    assert (buffers(sim), generations(sim)) == (6, [0, 100, 6, 0])
    sim.mkfile("n", 10 << 12)
    assert (buffers(sim), generations(sim)) == (6, [0, 112, 6, 0])  # of the maps of free blocks only one group's are looked at again
    assert sim.check_state() == []


def buffer_heads(sim):
    return sim.machine.op("slab_allocator", "stat", r.CACHE_BUFFER_HEAD, SLAB_STAT_ACTIVE_OBJS)


def test_pages_that_the_file_system_writes_have_buffer_heads(sim):
    """39 of 104 bytes a page of memory, until the page is dropped; pages that were only read have none."""
    sim.mkfile("f", 1)
    before = buffer_heads(sim)
    sim.fwrite("A", "f", 0, 39 * 40 << 12)
    sim.fwrite("A", "f", 0, 39 * 40 << 12)
    assert 39 * 39 <= buffer_heads(sim) - before <= 39 * 40
    sim.fsync("A", "f")
    drop(sim, "1")
    assert buffer_heads(sim) < before + 39 * 10  # what is left lies on slabs that the CPU keeps
    before = buffer_heads(sim)
    sim.fread("A", "f", 0, 39 * 40 << 12)
    assert buffer_heads(sim) == before and sim.check_state() == []


def test_what_is_looked_up_again_is_charged_to_who_looks(sim):
    sim.mkfile("f", 4096)
    sim.machine.wb[r.WB_EXPIRE_NS] = 1
    sim.sleep(11_000)  # the flusher has written the blocks
    assert counted(sim, v.V_NR_DIRTY) == 0
    drop(sim, "3")
    assert buffers(sim) == 2  # the mount holds the superblock and the descriptors
    group = cgroups.make(sim, "g")
    sim.spawn("B", cgroup="g")
    sim.fread("B", "f", 0, 4096)
    assert buffers(sim) == 4  # the directory and the inode's block
    stat = dict(line.split() for line in cgroups.read(sim, group, "memory.stat").splitlines())
    assert int(stat["file"]) == 3 * 4096 and sim.check_state() == []


def test_a_disk_outside_scripts_has_none_of_it():
    sim = Simulation.from_table({"memory": "64M", "cpus": 1, "disk": "512M", "bare": True})
    sim.mkfile("f", 4096)
    assert buffers(sim) == 0 and counted(sim, v.V_NR_FILE_PAGES) == 1


def test_the_last_16_blocks_that_a_cpu_looked_up_cannot_be_reclaimed(sim):
    m = sim.machine
    bdev = int(m.sc[r.SC_BDEV])
    pages = [m.run(sb_getblk, bdev, 1000 + block, 1, 0) for block in range(BH_LRU_SIZE + 2)]
    m.run(sb_getblk, bdev, 1001, 0, 0)  # once more: it is the latest now, and the third the oldest
    m.op("reclaimer", "drain", 0)
    for page in pages:
        m.op("reclaimer", "folio_removed", page)
    freed = [m.run(do_reclaim_folio, page, SCAN_MAY_UNMAP | SCAN_MAY_WRITEPAGE) == RECLAIM_FREED for page in pages]
    assert freed == [True, False, True] + [False] * (BH_LRU_SIZE - 1)
    m.run(invalidate_bh_lrus)
    assert m.run(do_reclaim_folio, pages[1], SCAN_MAY_UNMAP | SCAN_MAY_WRITEPAGE) == RECLAIM_FREED
