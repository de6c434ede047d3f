"""vmstat, zoneinfo, buddyinfo, pagetypeinfo, meminfo, swaps, and the settings, of a hand-made machine."""

import pytest

from mmlab import procfs
from mmlab.errors import NotSupported
from mmlab.model import rows as r
from mmlab.model import vmstat as v
from mmlab.model.const import (
    SLAB_STAT_ACTIVE_OBJS,
    SLAB_STAT_NUM_OBJS,
    SLAB_STAT_NUM_SLABS,
    SLAB_STAT_OBJPERSLAB,
    SLAB_STAT_OBJSIZE,
    SLAB_STAT_PAGESPERSLAB,
)
from mmlab.verify.machine import parse_zoneinfo
from procfs_fakes import FakeSimulation

TWO_NODES = {"memory": "64M", "cpus": 2, "nodes": [{"memory": "32M", "cpus": [0]}, {"memory": "32M", "cpus": [1]}]}
LAB = {"bare": False, "memory": "512M"}


def table(text):
    return {line.split()[0].rstrip(":"): int(line.split()[1]) for line in text.splitlines()}


def test_vmstat_has_every_name_in_order_and_sums_nodes():
    sim = FakeSimulation(TWO_NODES)
    sim.machine.vmstat[v.V_PGFAULT] = 5
    sim.machine.vmstat[v.V_NR_ANON_PAGES] = 10
    sim.machine.vmstat[v.VMSTAT_STRIDE + v.V_NR_ANON_PAGES] = 7
    sim.machine.lru[1, 0] = 3
    sim.machine.zone[r.Z_FREE], sim.machine.zone[r.ZONE_STRIDE + r.Z_FREE] = 100, 23
    sim.boot.totals["anon_pages"] = 1000
    text = procfs.read(sim, "/proc/vmstat")
    assert [line.split()[0] for line in text.splitlines()] == list(v.VMSTAT_NAMES)
    got = table(text)
    assert (got["pgfault"], got["nr_anon_pages"], got["nr_inactive_anon"], got["nr_free_pages"]) == (5, 1017, 3, 123)
    assert table(procfs.read(sim, "/sys/devices/system/node/node1/vmstat"))["nr_anon_pages"] == 7


def test_stat_refresh_folds_the_cpus_differences():
    sim = FakeSimulation()
    sim.machine.zone[r.Z_FREE], sim.machine.pcp[r.PCP_FREE_DIFF] = 100, -3
    assert table(procfs.read(sim, "/proc/vmstat"))["nr_free_pages"] == 100
    assert procfs.write(sim, "/proc/sys/vm/stat_refresh", "1") == 0
    assert table(procfs.read(sim, "/proc/vmstat"))["nr_free_pages"] == 97


def test_zoneinfo_reads_back():
    sim = FakeSimulation(LAB)
    number = len(sim.layout.zones) - 1
    base = number * r.ZONE_STRIDE
    sim.machine.zone[base + r.Z_FREE], sim.machine.zone[base + r.Z_WATERMARK_BOOST] = 104891, 1024
    sim.machine.pcp[number * r.PCP_STRIDE + r.PCP_COUNT] = 2861
    zones, nodes = parse_zoneinfo(procfs.read(sim, "/proc/zoneinfo"))
    zone, mark, limits = zones[0, "DMA32"], sim.tuning.wmark[number], sim.tuning.pcp[number]
    assert (zone["free"], zone["boost"], zone["start_pfn"], zone["spanned"]) == (104891, 1024, 4096, sim.layout.zones[number].spanned)
    assert (zone["min"], zone["low"]) == (mark.min + 1024, mark.low + 1024)
    assert zone["pcp"][0] == {
        "count": 2861,
        "high": limits.high_min,
        "batch": limits.batch,
        "high_min": limits.high_min,
        "high_max": limits.high_max,
    }
    assert zones[0, "DMA"]["protection"] == list(sim.tuning.lowmem_reserve[0])
    assert zones[0, "Normal"]["present"] == 0 and "pcp" in zones[0, "Normal"] and not zones[0, "Normal"]["pcp"]
    assert list(nodes)[:2] == ["nr_inactive_anon", "nr_active_anon"] and "nr_dirty_threshold" not in nodes


def test_zoneinfo_text_is_the_kernels():
    lines = procfs.read(FakeSimulation(), "/proc/zoneinfo").splitlines()
    assert lines[0] == "Node 0, zone      DMA" and lines[1] == "  pages free     0" and lines[2] == "        boost    0"
    assert "      nr_mapped    0" in lines and "              high_min: " in "\n".join(lines)
    assert "  vm stats threshold: " in "\n".join(lines) and "  start_pfn:           4096" in lines


def test_buddyinfo_and_pagetypeinfo():
    sim = FakeSimulation()
    sim.machine.blocks[0][1] = [3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 100_001]
    sim.machine.blocks[0][0][0] = 2
    sim.machine.pageblock[8:40] = 1
    sim.machine.pageblock[9] = 0
    assert procfs.read(sim, "/proc/buddyinfo") == "Node 0, zone    DMA32      5" + "      0" * 9 + " 100001 \n"
    text = procfs.read(sim, "/proc/pagetypeinfo")
    assert "Free pages count per migrate type at order       0      1" in text
    assert "Node    0, zone    DMA32, type      Movable      3" in text and ">100000 \n" in text
    assert text.splitlines()[-2:] == [
        "Number of blocks type     Unmovable      Movable  Reclaimable   HighAtomic      Isolate ",
        "Node 0, zone    DMA32            1           31            0            0            0 ",
    ]


def test_meminfo():
    sim = FakeSimulation(nr_swap_slots=1024)
    sim.machine.zone[r.Z_FREE] = 8000
    sim.machine.lru[0, 2], sim.machine.lru[0, 3] = 300, 100
    sim.machine.vmstat[v.V_NR_FILE_PAGES], sim.machine.vmstat[v.V_NR_SWAPCACHED] = 450, 20
    sim.machine.sc[r.SC_COMMITTED_AS], sim.machine.sc[r.SC_NR_SWAP_FREE] = 77, 1000
    text = procfs.read(sim, "/proc/meminfo")
    assert text.splitlines()[0] == "MemTotal:          65536 kB"
    got = table(text)
    low = sim.tuning.wmark[0].low
    available = 8000 - sim.tuning.totalreserve_pages + 400 - min(200, low)
    assert (got["MemFree"], got["MemAvailable"], got["Cached"], got["SwapCached"]) == (32000, available * 4, 430 * 4, 80)
    assert (got["Active"], got["Inactive(file)"], got["SwapTotal"], got["SwapFree"]) == (400, 1200, 4092, 4000)
    assert (got["CommitLimit"], got["Committed_AS"]) == ((16384 // 2 + 1023) * 4, 308)
    sim.machine.swap_info[r.SI_INUSE] = 23
    assert procfs.read(sim, "/proc/swaps").splitlines()[1] == "/dev/vdb                                partition\t4092\t\t92\t\t-2"


def test_slabinfo():
    sim = FakeSimulation()
    sim.machine.slabs[r.CACHE_VM_AREA_STRUCT] = {
        SLAB_STAT_ACTIVE_OBJS: 70,
        SLAB_STAT_NUM_OBJS: 92,
        SLAB_STAT_OBJSIZE: 176,
        SLAB_STAT_OBJPERSLAB: 23,
        SLAB_STAT_PAGESPERSLAB: 1,
        SLAB_STAT_NUM_SLABS: 4,
    }
    lines = procfs.read(sim, "/proc/slabinfo").splitlines()
    assert lines[0] == "slabinfo - version: 2.1" and lines[1].startswith("# name            <active_objs> <num_objs> <objsize>")
    assert lines[2] == "vm_area_struct        70     92    176   23    1 : tunables    0    0    0 : slabdata      4      4      0"


def test_no_swap_no_line():
    assert len(procfs.read(FakeSimulation(), "/proc/swaps").splitlines()) == 1


def test_node_files():
    sim = FakeSimulation(TWO_NODES)
    sim.machine.zone[r.ZONE_STRIDE + r.Z_NUMA_MISS] = 4
    assert "Node 1 MemTotal:          32768 kB\n" in procfs.read(sim, "/sys/devices/system/node/node1/meminfo")
    assert table(procfs.read(sim, "/sys/devices/system/node/node1/numastat"))["numa_miss"] == 4
    assert procfs.read(sim, "/sys/devices/system/node/node0/distance") == "10 20\n"
    assert procfs.read(sim, "/sys/devices/system/node/has_cpu") == "0-1\n"
    with pytest.raises(FileNotFoundError):
        procfs.read(sim, "/sys/devices/system/node/node2/meminfo")


def test_dirty_thresholds_follow_the_settings():
    sim = FakeSimulation()
    sim.machine.zone[r.Z_FREE] = sim.tuning.totalreserve_pages + 9999
    got = table(procfs.read(sim, "/proc/vmstat"))
    assert (got["nr_dirty_threshold"], got["nr_dirty_background_threshold"]) == (819 * 10000 // 4096, 409 * 10000 // 4096)
    assert procfs.write(sim, "/proc/sys/vm/dirty_bytes", "409600") == 0
    got = table(procfs.read(sim, "/proc/vmstat"))
    assert (got["nr_dirty_threshold"], got["nr_dirty_background_threshold"]) == (100, 50)
    assert procfs.read(sim, "/proc/sys/vm/dirty_ratio") == "0\n"


def test_watermark_sysctl_reaches_the_zones():
    sim = FakeSimulation(LAB)
    assert procfs.write(sim, "/proc/sys/vm/min_free_kbytes", "8192") == 0
    number = len(sim.layout.zones) - 1
    assert sim.machine.zone[number * r.ZONE_STRIDE + r.Z_WMARK_MIN] == sim.tuning.wmark[number].min > 1000
    assert procfs.read(sim, "/proc/sys/vm/min_free_kbytes") == "8192\n"
    assert procfs.write(sim, "/proc/sys/vm/watermark_scale_factor", "0") == -22
    assert procfs.write(sim, "/proc/sys/vm/lowmem_reserve_ratio", "32 64 16 0") == 0
    assert procfs.read(sim, "/proc/sys/vm/lowmem_reserve_ratio") == "32\t64\t16\t0\t0\n"


def test_integer_sysctls_are_checked_and_kept():
    sim = FakeSimulation()
    assert procfs.write(sim, "/proc/sys/vm/swappiness", "100") == 0 and sim.machine.sc[r.SC_SWAPPINESS] == 100
    assert procfs.write(sim, "/proc/sys/vm/swappiness", "201") == -22 and procfs.read(sim, "/proc/sys/vm/swappiness") == "100\n"
    assert procfs.write(sim, "/proc/sys/vm/overcommit_kbytes", "4096") == 0
    assert sim.machine.sc[r.SC_COMMIT_LIMIT] == 1024 and procfs.read(sim, "/proc/sys/vm/overcommit_ratio") == "0\n"
    assert procfs.write(sim, "/proc/sys/vm/overcommit_ratio", "100") == 0 and sim.machine.sc[r.SC_COMMIT_LIMIT] == 16384


def test_oom_kill_allocating_task():
    sim = FakeSimulation()
    path = "/proc/sys/vm/oom_kill_allocating_task"
    assert procfs.read(sim, path) == "0\n" and procfs.write(sim, path, "x") == -22
    assert procfs.write(sim, path, "1") == 0 and procfs.read(sim, path) == "1\n"
    assert sim.machine.sc[r.SC_OOM_KILL_ALLOCATING] == 1


def test_thp_files():
    sim = FakeSimulation()
    root = "/sys/kernel/mm/transparent_hugepage/"
    assert procfs.read(sim, root + "enabled") == "always madvise [never]\n"  # below 512 MiB
    assert procfs.write(sim, root + "enabled", "sometimes") == -22
    with pytest.raises(NotSupported, match="enabled = always while the thp policy is never"):
        procfs.write(sim, root + "enabled", "always")
    assert procfs.write(sim, root + "khugepaged/scan_sleep_millisecs", "50") == 0
    assert procfs.read(sim, root + "khugepaged/scan_sleep_millisecs") == "50\n"
    assert [procfs.write(sim, root + f"khugepaged/{name}", value) for name, value in (("pages_to_scan", "0"), ("max_ptes_none", "512"))] == [-22, -22]
    assert procfs.read(sim, root + "hugepages-2048kB/enabled") == "always [inherit] madvise never\n"
    assert procfs.write(sim, root + "hugepages-2048kB/enabled", "sometimes") == -22


def test_fault_around_and_read_ahead():
    sim = FakeSimulation()
    assert procfs.write(sim, "/sys/kernel/debug/fault_around_bytes", "20000") == 0 and sim.machine.sc[r.SC_FAULT_AROUND] == 4
    assert procfs.write(sim, "/sys/kernel/debug/fault_around_bytes", "4194304") == -22
    assert procfs.write(sim, "/sys/block/vdb/queue/read_ahead_kb", "16") == 0 and sim.machine.sc[r.SC_READAHEAD_PAGES] == 4
    # a script's results lie on another disk than its files
    assert procfs.write(sim, "/sys/block/vda/queue/read_ahead_kb", "64") == 0 and sim.machine.sc[r.SC_READAHEAD_PAGES] == 4
    assert procfs.read(sim, "/sys/block/vda/queue/read_ahead_kb") == "64\n"


@pytest.mark.parametrize("path", ["/proc/pressure/io", "/proc/sys/vm/unheard_of", "/sys/fs/cgroup/g/memory.stat", "/proc/1/environ"])
def test_what_is_not_simulated_is_named(path):
    with pytest.raises(NotSupported, match=path):
        procfs.read(FakeSimulation(), path)


def test_generations_are_off():
    sim = FakeSimulation()
    assert procfs.read(sim, "/sys/kernel/mm/lru_gen/enabled") == "0x0000\n"
    assert procfs.write(sim, "/sys/kernel/mm/lru_gen/enabled", "0") == 0
    with pytest.raises(NotSupported):
        procfs.write(sim, "/sys/kernel/mm/lru_gen/enabled", "7")


def test_tree_lists_what_can_be_read():
    found = dict(procfs.files(FakeSimulation(), "/sys/kernel/mm/transparent_hugepage"))
    assert found["enabled"].endswith("[never]\n") and list(found) == sorted(found)
