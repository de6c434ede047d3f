"""Every form of figure id, read from folders made by hand."""

import struct

import pytest

from mmlab.errors import InputError, MmlabError
from mmlab.verify import ResultFolder, Unsupported
from mmlab.verify.ids import size_bytes

ADDR = 0x7F0000000000

VMSTAT = "nr_free_pages 100\npgfault 7\nnr_shmem 3\n"
ZONEINFO = """\
Node 0, zone      DMA
  per-node stats
      nr_inactive_anon 11
      nr_slab_reclaimable 22
  pages free     3808
        boost    0
        min      22
        protection: (0, 438, 438)
      nr_free_pages 3808
  pagesets
    cpu: 0
              count:    5
              high:     14
              batch:    1
              high_min: 14
              high_max: 480
  vm stats threshold: 2
    cpu: 1
              count:    6
              high:     15
              batch:    1
  vm stats threshold: 2
  node_unreclaimable:  0
  start_pfn:           1
Node 1, zone   Normal
  per-node stats
      nr_inactive_anon 4
  pages free     9
        min      1
"""
SLABINFO = """\
slabinfo - version: 2.1
# name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab> : tunables ...
dentry              120    126    192   21    1 : tunables    0    0    0 : slabdata      5      6      0
"""
LRU_GEN = """\
memcg     1 /
 node     0
          0       5000          1         10
          1        100          2         20
memcg    33 /g
 node     0
          4         10        500x          0
          5          0          0          7
"""
MAPS = f"""\
00400000-00401000 r--p 00000000 00:02 25    /bin/x
{ADDR:x}-{ADDR + 0x4000:x} rw-p 00000000 00:00 0
{ADDR + 0x4000:x}-{ADDR + 0x9000:x} r--p 00000000 00:00 0
"""
SMAPS = f"""\
{ADDR - 0x1000:x}-{ADDR:x} rw-p 00000000 00:00 0
Rss:                 999 kB
VmFlags: rd
{ADDR:x}-{ADDR + 0x4000:x} rw-p 00000000 00:00 0
Rss:                  16 kB
Private_Clean:         4 kB
Private_Dirty:         8 kB
THPeligible:           1
VmFlags: rd wr mr
{ADDR + 0x4000:x}-{ADDR + 0x9000:x} r--p 00000000 00:00 0
Rss:                   4 kB
Private_Clean:         0 kB
Private_Dirty:         2 kB
THPeligible:           0
VmFlags: rd mr
"""
NUMA_MAPS = f"""\
{ADDR - 0x1000:x} default anon=1 N0=1 kernelpagesize_kB=4
{ADDR:x} bind:1 anon=4 dirty=4 N0=1 N1=3 kernelpagesize_kB=4
{ADDR + 0x4000:x} default anon=2 N1=2 kernelpagesize_kB=4
"""
DMESG = """\
A invoked oom-killer: gfp_mask=0x140cca, order=0, oom_score_adj=0
oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),task=A
Memory cgroup out of memory: Killed process 155 (A) total-vm:616292kB, anon-rss:12704kB, file-rss:4kB, pgtables:356kB oom_score_adj:-7
B invoked oom-killer: gfp_mask=0x140cca, order=0
oom-kill:constraint=CONSTRAINT_NONE
Out of memory: Killed process 156 (E) total-vm:10kB, anon-rss:5kB
"""
TRACE = """\
# tracer: nop
   A-155  [000] .....  10.000001: mm_page_alloc: page=0 pfn=0x1 order=0 migratetype=1
   A-155  [000] .....  10.000002: mm_page_alloc: page=0 pfn=0x2 order=3 migratetype=0
   A-155  [000] .....  10.000003: mm_page_alloc: page=0 pfn=0x3 order=30 migratetype=0
   A-155  [000] .....  10.000004: mm_page_free: page=0 pfn=0x3 order=3
"""


def pagemap(*entries: str) -> bytes:
    """P present and exclusive, S present and a file's, W swapped, - nothing."""
    bits = {"P": 1 << 63 | 1 << 56, "S": 1 << 63 | 1 << 61, "W": 1 << 62, "-": 0}
    return b"".join(struct.pack("<Q", bits[e]) for e in entries)


@pytest.fixture
def folder(result_folder):
    ops = [
        "spawn A",
        ("mmap A r 4 anon", {"addr": ADDR, "minflt": 2}),
        "snapshot s0",
        ("mremap A r 8", {"addr": ADDR, "moved": 1}),
        ("touch A r 0 1 w", {"ret": -14, "signal": 11, "si_code": 1}),
        "snapshot s1",
        ("mmap A x 2M anon", {"addr": ADDR - 0x3000}),
    ]
    ends = [{"task": "A", "alive": True, "signal": 0}, {"task": "E", "alive": False, "signal": 9}]
    files = {
        "s0/vmstat": VMSTAT, "s1/vmstat": "nr_free_pages 90\npgfault 27\nnr_shmem 8\n", "s0/zoneinfo": ZONEINFO, "s0/slabinfo": SLABINFO,
        "s0/meminfo": "MemTotal:        1000 kB\nActive(anon):      12 kB\nHugePages_Total:       0\n",
        "s0/node1.meminfo": "Node 1 MemFree:         77 kB\nNode 1 Active(anon):  5 kB\n", "s0/node0.numastat": "numa_hit 40\nnuma_miss 2\n",
        "s0/node0.vmstat": "nr_mlock 6\n", "s0/mthp": "64kB.anon_fault_alloc 3\n64kB.split 1\n",
        "s0/buddyinfo": "Node 0, zone      DMA      1      0      2\nNode 0, zone    DMA32      3      4      5\n",
        "s0/pagetypeinfo": "Free pages count\nNode    0, zone      DMA, type    Unmovable      1 >100000      2\n", "s0/lru_gen": LRU_GEN,
        "s0/swaps": "Filename Type Size Used Priority\n/dev/vdb partition 131068 512 -2\n/dev/zram0 partition 9 8 -3\n",
        "s0/memory": "some avg10=0.00 avg60=0.00 avg300=0.00 total=1234\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=56\n",
        "s0/A.maps": MAPS, "s1/A.maps": MAPS, "s0/A.smaps": SMAPS, "s1/A.smaps": SMAPS, "s1/A.numa_maps": NUMA_MAPS,
        "s0/A.status": "Name:\tA\nVmRSS:\t    1644 kB\nThreads:\t1\n", "s1/A.status": "VmRSS:\t    1600 kB\n",
        "s0/A.stat": "155 (A B) S 1 2 3 4 5 6 21 22 23 24 0 0\n", "s0/A.oom_score": "669\n", "s0/A.oom_score_adj": "-5\n",
        "p1.pagemap": pagemap("S", "S", "-", "P", "W", "W", "P", "P"),
        "plain": "8000000\n", "word": "always [madvise] never\n", "stat": "anon 4096\nfile 8192\npgscan: 7\n",
        "tree": "0/stats/nr_tried 5\n0/stats/nr_tried_x 6\n", "dmesg.txt": DMESG, "given.json": '{"extfrag_index[0,DMA]@0": [-1.0, 0.996]}',
    }
    return result_folder(ops, ends, files, TRACE)


@pytest.mark.parametrize(("fid", "value"), [
    ("op[2].minflt", 2), ("op[2].addr", ADDR), ("op[2].signal", 0), ("op[2].died", 0), ("op[4].moved", 1), ("op[5].ret", -14), ("op[5].signal", 11),
    ("rel[2,7]", -3),
    ("end.A.alive", True), ("end.E.alive", False), ("end.E.signal", 9),
    ("pagemap[p1].present", 5), ("pagemap[p1].exclusive", 3), ("pagemap[p1].file", 2), ("pagemap[p1].swapped", 2), ("pagemap[p1].softdirty", 0),
    ("pagemap[p1].ranges", ["0..2 S", "3..4 P", "4..6 W", "6..8 P"]),
    ("snap[s0].vmstat.pgfault", 7), ("delta[s0,s1].vmstat.pgfault", 20), ("snap[s0].meminfo.Active(anon)", 12), ("snap[s0].meminfo.HugePages_Total", 0),
    ("snap[s0].nodememinfo[1].MemFree", 77), ("snap[s0].numastat[0].numa_hit", 40), ("snap[s0].nodevmstat[0].nr_mlock", 6),
    ("snap[s0].mthp.64kB.anon_fault_alloc", 3),
    ("snap[s0].zoneinfo[0,DMA].free", 3808), ("snap[s0].zoneinfo[0,DMA].min", 22), ("snap[s0].zoneinfo[0,DMA].protection", [0, 438, 438]),
    ("snap[s0].zoneinfo[0,DMA].start_pfn", 1), ("snap[s0].zoneinfo[0,DMA].pcp", [[14, 480, 1], [15, None, 1]]), ("snap[s0].zoneinfo[1,Normal].min", 1),
    ("snap[s0].nodestat.nr_inactive_anon", 15), ("snap[s0].nodestat.nr_slab_reclaimable", 22),
    ("snap[s0].buddyinfo[0,DMA32]", [3, 4, 5]), ("snap[s0].pagetypeinfo[0,DMA].Unmovable", [1, 100000, 2]),
    ("snap[s0].slabinfo[dentry].active_objs", 120), ("snap[s0].slabinfo[dentry].pagesperslab", 1), ("snap[s0].slabinfo[dentry].num_slabs", 6),
    ("snap[s0].lru_gen[/,0].gens", 2), ("snap[s0].lru_gen[/,0].file", [10, 20]), ("snap[s0].lru_gen[/g,0].min_seq", 4),
    ("snap[s0].lru_gen[/g,0].max_seq", 5), ("snap[s0].lru_gen[/g,0].anon", [500, 0]),
    ("snap[s0].swaps.used", 520), ("snap[s0].pressure.some", 1234), ("snap[s0].pressure.full", 56),
    ("snap[s0].A.maps.count", 3), ("snap[s0].A.maps[r]", ["0..4 rw-p"]), ("snap[s1].A.maps[r]", ["0..4 rw-p", "4..9 r--p"]),
    ("snap[s0].A.smaps[r].Rss", 16), ("snap[s1].A.smaps[r].Rss", 20), ("snap[s1].A.smaps[r].Uss", 14), ("snap[s1].A.smaps[r].count", 2),
    ("snap[s1].A.smaps[r].THPeligible", 1), ("snap[s1].A.smaps[r].VmFlags", ["rd wr mr", "rd mr"]),
    ("snap[s1].A.numa_maps[r].N1", 5), ("snap[s1].A.numa_maps[r].N0", 1), ("snap[s1].A.numa_maps[r].N2", 0), ("snap[s1].A.numa_maps[r].policy", "bind:1"),
    ("snap[s0].A.status.VmRSS", 1644), ("delta[s0,s1].A.status.VmRSS", -44), ("snap[s0].A.oom_score", 669), ("snap[s0].A.oom_score_adj", -5),
    ("snap[s0].A.stat.minflt", 21), ("snap[s0].A.stat.cminflt", 22), ("snap[s0].A.stat.majflt", 23), ("snap[s0].A.stat.cmajflt", 24),
    ("cat[plain]", 8000000), ("cat[word]", "always [madvise] never"), ("cat[stat].file", 8192), ("cat[stat].pgscan", 7), ("cat[tree].0/stats/nr_tried", 5),
    ("dmesg.killed", ["A", "E"]), ("dmesg.killed.count", 2), ("dmesg.oom.count", 2), ("dmesg.kill[0].total-vm", 616292),
    ("dmesg.kill[0].oom_score_adj", -7), ("dmesg.kill[1].anon-rss", 5), ("dmesg.constraint[0]", "CONSTRAINT_MEMCG"),
    ("trace.mm_page_alloc.count", 3), ("trace.kmem:mm_page_alloc.count", 3), ("trace.mm_page_alloc[order=3].count", 1),
    ("trace.mm_page_alloc[migratetype=0].count", 2), ("trace.mm_page_alloc.sum.order", 33), ("trace.mm_page_alloc.max.order", 30),
    ("trace.mm_page_alloc.min.order", 0), ("trace.mm_page_free.sum.order", 3), ("trace.no_such_event.count", 0),
    ("sum(snap[s0].vmstat.pgfault;snap[s0].vmstat.nr_shmem;op[2].minflt)", 12), ("diff(delta[s0,s1].vmstat.pgfault;delta[s0,s1].vmstat.nr_shmem)", 15),
    ("sum(diff(snap[s0].vmstat.pgfault;op[2].minflt);op[2].minflt)", 7),
    ("extfrag_index[0,DMA]@0", [-1.0, 0.996]),
])
def test_figure(folder, fid, value):
    got = folder.figure(fid)
    assert got == value
    assert type(got) is type(value)


@pytest.mark.parametrize("fid", [
    "nonsense", "op[99].ret", "op[2].pages", "rel[1,2]", "end.Z.alive", "pagemap[none].present", "snap[s9].vmstat.pgfault", "snap[s0].vmstat.nosuch",
    "snap[s0].zoneinfo[0,Movable].min", "snap[s0].zoneinfo[0,DMA].nosuch", "snap[s0].slabinfo[nosuch].num_objs", "snap[s0].slabinfo[dentry].nosuch",
    "snap[s0].lru_gen[/x,0].gens", "snap[s0].A.smaps[nosuch].Rss", "snap[s0].A.smaps[r].NoSuch", "snap[s0].B.status.VmRSS", "snap[s0].A.status.NoSuch",
    "snap[s0].A.numa_maps[r].N0", "cat[stat].nosuch", "dmesg.kill[2].total-vm", "dmesg.kill[1].pgtables", "dmesg.constraint[5]",
    "trace.mm_page_alloc.sum", "delta[s0,s1].meminfo.MemTotal", "sum(op[2].minflt;op[99].minflt)", "extfrag_index[0,DMA32]@0",
])
def test_what_is_not_there_is_unsupported(folder, fid):
    with pytest.raises(Unsupported):
        folder.figure(fid)


def test_no_trace_is_unsupported_not_zero(result_folder):
    with pytest.raises(Unsupported, match=r"trace\.txt\.gz"):
        result_folder().figure("trace.mm_page_alloc.count")


def test_an_event_that_was_off_is_unsupported_not_zero(result_folder):
    line = "A-1 [000] ..... 1.000000: mm_vmscan_kswapd_wake: nid=0 order=0\n"
    folder = result_folder(trace=f"# events: mm_vmscan_kswapd_wake mm_vmscan_kswapd_sleep\n{line}")
    assert folder.figure("trace.mm_vmscan_kswapd_wake.count") == 1 and folder.figure("trace.mm_vmscan_kswapd_sleep.count") == 0
    for figure in ("trace.mm_vmscan_lru_isolate.count", "trace.mm_page_alloc.count", "trace.mm_vmscan_kswapd_wake.max.zid"):
        with pytest.raises(Unsupported):
            folder.figure(figure)


def test_unreadable_content_is_an_error_not_unsupported(result_folder):
    folder = result_folder(files={"s0/A.oom_score": "many\n"})
    with pytest.raises(MmlabError, match="cannot be read") as e:
        folder.figure("snap[s0].A.oom_score")
    assert not isinstance(e.value, Unsupported)


def test_regions_follow_the_script(result_folder):
    folder = result_folder([
        "spawn A", ("mmap A r 4 anon", {"addr": 0x10000}), "fork A B", ("mmap B r 1M anon", {"addr": 0x90000}), ("mmap A x 1 anon", {"ret": -12}),
        ("brk A 2", {"addr": 0x50000}), ("brk A 3", {"addr": 0x52000}), ("region A s stack", {"addr": 0x70000, "pages": 33}), "snapshot s0",
    ])
    assert folder.region("s0", "A", "r") == (0x10000, 4 * 4096)
    assert folder.region("s0", "B", "r") == (0x90000, 1 << 20)
    assert folder.region("s0", "A", "brk") == (0x50000, 5 * 4096)
    assert folder.region("s0", "A", "s") == (0x70000, 33 * 4096)
    assert folder.regions_at(3)["B"] == {"r": (0x10000, 4 * 4096)}
    with pytest.raises(Unsupported):
        folder.region("s0", "A", "x")


@pytest.mark.parametrize(("text", "size"), [("3", 3 * 4096), ("-2", -8192), ("0x10", 65536), ("5B", 5), ("4K", 4096), ("0x2M", 2 << 20), ("1G", 1 << 30)])
def test_size_bytes(text, size):
    assert size_bytes(text) == size


def test_size_bytes_refuses_nonsense():
    with pytest.raises(ValueError, match="not a size"):
        size_bytes("4X")


def test_not_a_result_folder(tmp_path):
    with pytest.raises(InputError, match=r"ops\.jsonl"):
        ResultFolder(tmp_path)


@pytest.mark.parametrize("line", ["{broken", "[1]", '{"line": 2}', '{"line": 3, "op": ""}'])
def test_broken_ops_name_the_line(tmp_path, line):
    (tmp_path / "ops.jsonl").write_text('{"line": 1, "op": "spawn A", "ret": 0}\n' + line + "\n")
    with pytest.raises(InputError, match="line 2"):
        ResultFolder(tmp_path)
