"""maps, smaps, numa_maps, pagemap, mincore, status, stat, statm of a hand-made address space."""

import numpy as np
import pytest

from mmlab import procfs
from mmlab.model import rows as r
from mmlab.model.page import PG_ANON, PG_DIRTY, PG_REFERENCED, PG_SWAPBACKED
from mmlab.procfs.maps import vm_flags
from mmlab.verify.tasks import parse_vmas
from procfs_fakes import FakeSimulation

START = 0x7FFFF7FB9000
VPN = START >> 12
RW = r.VM_READ | r.VM_WRITE | r.VM_MAYREAD | r.VM_MAYWRITE | r.VM_MAYEXEC
PRESENT = r.PTE_PRESENT


@pytest.fixture
def sim():
    return FakeSimulation(nr_swap_slots=64)


@pytest.fixture
def task(sim):
    """64 pages: 0 dirty and exclusive, 1 clean and shared by two, 2 by three, 3 zero page, 4 in swap, 5 without rights, the rest empty."""
    task = sim.add_task("A")
    sim.add_vma(task, START, 64, RW | r.VM_ACCOUNT | r.VM_SOFTDIRTY)
    anon = PG_ANON | PG_SWAPBACKED
    sim.map_page(task, VPN, 5000, PRESENT | r.PTE_ACCESSED | r.PTE_DIRTY, anon | PG_DIRTY)
    sim.map_page(task, VPN + 1, 5001, PRESENT, anon, mapcount=2)
    sim.map_page(task, VPN + 2, 5002, PRESENT, anon | PG_DIRTY, mapcount=3)
    sim.map_page(task, VPN + 3, 4999, PRESENT | r.PTE_SPECIAL)
    sim.map_page(task, VPN + 4, 7, r.PTE_SWAP)
    sim.machine.swap_map[7] = 2
    sim.map_page(task, VPN + 5, 5005, r.PTE_PROTNONE, anon)
    sim.set_page(5005, anon, 1)
    return task


def smaps(sim, task, number=0):
    return parse_vmas(procfs.read(sim, f"/proc/{task.pid}/smaps"))[number].fields


def test_maps_line_is_the_kernels(sim, task):
    sim.add_vma(task, 0x7FFFFFFDE000, 33, RW | r.VM_GROWSDOWN, name=r.NAME_STACK)
    assert procfs.read(sim, f"/proc/{task.pid}/maps").splitlines() == [
        "7ffff7fb9000-7ffff7ff9000 rw-p 00000000 00:00 0 ",
        "7ffffffde000-7ffffffff000 rw-p 00000000 00:00 0                          [stack]",
    ]


def test_what_brk_made_is_the_heap(sim, task):
    sim.add_vma(task, 0x5B2000, 4)
    mm = task.mm * r.MM_STRIDE
    sim.machine.mm[mm + r.MM_START_BRK], sim.machine.mm[mm + r.MM_BRK] = 0x5B2000, 0x5B6000
    assert procfs.read(sim, f"/proc/{task.pid}/maps").splitlines()[0].endswith("[heap]")


def test_smaps_counts_each_kind(sim, task):
    f = smaps(sim, task)
    assert (f["Size"], f["Rss"], f["Anonymous"]) == (256, 16, 16)
    assert (f["Private_Dirty"], f["Private_Clean"], f["Shared_Dirty"], f["Shared_Clean"]) == (4, 4, 4, 4)
    assert f["Pss"] == (4096 * 2 + 2048 + 1365) // 1024  # 4096/3 rounded down to 1365 bytes and a fraction
    assert f["Pss_Dirty"] == (4096 + 1365) // 1024
    assert f["Referenced"] == 4
    assert (f["Swap"], f["SwapPss"]) == (4, 2)
    assert f["VmFlags"] == "rd wr mr mw me ac sd"
    assert f["Locked"] == 0


def test_pss_is_a_fixed_point_sum(sim, task):
    """Three pages of three sharers make 4095 bytes and 3 x 1365/4096ths: 3 kB, not 4."""
    for page in range(8, 11):
        sim.map_page(task, VPN + page, 5100 + page, PRESENT, PG_ANON | PG_SWAPBACKED, mapcount=3)
    assert smaps(sim, task)["Pss"] == (4096 * 2 + 2048 + 4 * (4096 * 4096 // 3) / 4096) // 1024


def test_locked_vma_shows_its_pss(sim):
    task = sim.add_task("A")
    sim.add_vma(task, START, 4, RW | r.VM_LOCKED)
    sim.map_page(task, VPN, 5000, mapcount=2)
    assert smaps(sim, task)["Locked"] == 2


def test_lazyfree_is_clean_anonymous_without_swap_backing(sim, task):
    sim.map_page(task, VPN + 20, 5020, PRESENT, PG_ANON)
    sim.map_page(task, VPN + 21, 5021, PRESENT | r.PTE_DIRTY, PG_ANON)
    assert smaps(sim, task)["LazyFree"] == 4


def test_huge_page_counts_512_pages(sim):
    task = sim.add_task("A")
    start = 0x7FFFF7A00000
    sim.add_vma(task, start, 1024)
    sim.map_huge(task, start >> 12, 4096 + 512)
    f = smaps(sim, task)
    assert (f["Rss"], f["Pss"], f["AnonHugePages"], f["Private_Dirty"]) == (2048, 2048, 2048, 2048)
    words = procfs.pagemap(sim, task.mm, start, 1024)
    assert int(words[511]) & (1 << 55) - 1 == 4096 + 1023 and int(words[511]) >> 63 == 1
    assert not words[512:].any()


def test_thp_eligible_needs_an_aligned_2m_and_the_mode(sim):
    task = sim.add_task("A")
    sim.add_vma(task, 0x7FFFF7A00000, 512)
    sim.add_vma(task, 0x7FFFF7201000, 600)
    sim.machine.chosen["thp"].policy.name = "always"
    assert procfs.write(sim, "/sys/kernel/mm/transparent_hugepage/enabled", "always") == 0
    assert [smaps(sim, task, i)["THPeligible"] for i in (0, 1)] == [0, 1]


def test_rollup_sums_the_vmas(sim, task):
    sim.add_vma(task, 0x7FFFF0000000, 4)
    sim.map_page(task, 0x7FFFF0000, 6000)
    text = procfs.read(sim, f"/proc/{task.pid}/smaps_rollup")
    assert text.splitlines()[0] == "7ffff0000000-7ffff7ff9000 ---p 00000000 00:00 0                          [rollup]"
    assert "Rss:                  20 kB\n" in text and "Pss_Anon:             15 kB\n" in text


def test_numa_maps(sim, task):
    line = procfs.read(sim, f"/proc/{task.pid}/numa_maps")
    assert line == "7ffff7fb9000 default anon=4 dirty=2 mapmax=3 active=0 N0=4 kernelpagesize_kB=4\n"


def test_pagemap_bits(sim, task):
    words = procfs.pagemap(sim, task.mm, START, 8)
    assert words.dtype == np.uint64
    bits = [int(word) >> 55 for word in words]
    present, swapped, exclusive, soft = 1 << 8, 1 << 7, 1 << 1, 1
    assert bits == [
        present | exclusive | soft,
        present | soft,
        present | soft,
        present | soft,
        swapped | soft,
        present | exclusive | soft,
        soft,
        soft,
    ]
    assert int(words[0]) & (1 << 55) - 1 == 5000
    assert int(words[4]) & (1 << 55) - 1 == 7 << 5


def test_pagemap_of_a_range_that_begins_inside_a_table(sim, task):
    words = procfs.pagemap(sim, task.mm, START + 2 * 4096, 2)
    assert [int(word) >> 63 for word in words] == [1, 1] and int(words[0]) & 0xFFFF == 5002


def test_mincore_counts_what_is_in_memory(sim, task):
    assert procfs.mincore(sim, task.mm, START, 64) == 5  # the swapped page is not
    sim.machine.swap_cache[7] = 5030 << 1 | 1
    assert procfs.mincore(sim, task.mm, START, 64) == 6
    assert procfs.mincore(sim, task.mm, START, 65) == -12


def test_clear_refs(sim, task):
    path = f"/proc/{task.pid}/clear_refs"
    sim.machine.page[5001 * 4 + 2] |= PG_REFERENCED
    assert smaps(sim, task)["Referenced"] == 8
    assert procfs.write(sim, path, "3") == 0 and smaps(sim, task)["Referenced"] == 8  # file VMAs only
    assert procfs.write(sim, path, "1") == 0 and smaps(sim, task)["Referenced"] == 0
    assert smaps(sim, task)["Swap"] == 4 and smaps(sim, task)["Rss"] == 16
    assert procfs.write(sim, path, "9") == -22
    row = task.mm * r.MM_STRIDE
    sim.machine.mm[row + r.MM_HIWATER_RSS], sim.machine.mm[row + r.MM_RSS_ANON] = 50, 4
    assert procfs.write(sim, path, "5") == 0 and "VmHWM:\t      16 kB\n" in procfs.read(sim, f"/proc/{task.pid}/status")


def test_status_lines(sim, task):
    row = task.mm * r.MM_STRIDE
    for field, value in (
        (r.MM_TOTAL_VM, 473),
        (r.MM_RSS_ANON, 265),
        (r.MM_RSS_FILE, 1),
        (r.MM_RSS_SHMEM, 202),
        (r.MM_DATA_VM, 230),
        (r.MM_STACK_VM, 33),
        (r.MM_EXEC_VM, 158),
        (r.MM_PGTABLES_BYTES, 7 * 4096),
        (r.MM_SWAPENTS, 3),
        (r.MM_START_CODE, 0x401000),
        (r.MM_END_CODE, 0x49C123),
        (r.MM_HIWATER_VM, 480),
    ):
        sim.machine.mm[row + field] = value
    lines = procfs.read(sim, f"/proc/{task.pid}/status").splitlines()
    expected = [
        "VmPeak:\t    1920 kB",
        "VmSize:\t    1892 kB",
        "VmHWM:\t    1872 kB",
        "VmRSS:\t    1872 kB",
        "RssAnon:\t    1060 kB",
        "RssShmem:\t     808 kB",
        "VmData:\t     920 kB",
        "VmExe:\t     624 kB",
        "VmLib:\t       8 kB",
        "VmPTE:\t      28 kB",
        "VmSwap:\t      12 kB",
        "Pid:\t150",
    ]
    assert [line for line in expected if line not in lines] == []
    assert procfs.read(sim, f"/proc/{task.pid}/statm") == "473 468 203 156 0 263 0\n"


def test_stat_has_52_fields_and_the_faults_in_place(sim, task):
    row = task.index * r.TASK_STRIDE
    for field, value in ((r.T_MIN_FLT, 239), (r.T_MAJ_FLT, 2), (r.T_CMIN_FLT, 11), (r.T_CMAJ_FLT, 1)):
        sim.machine.task[row + field] = value
    text = procfs.read(sim, f"/proc/{task.pid}/stat")
    assert len(text.split()) == 52
    assert text.rpartition(")")[2].split()[7:11] == ["239", "11", "2", "1"]


def test_oom_files(sim, task):
    sim.machine.scores[task.index] = 668
    path = f"/proc/{task.pid}/oom_score_adj"
    assert procfs.read(sim, f"/proc/{task.pid}/oom_score") == "668\n"
    assert procfs.write(sim, path, "-300") == 0 and procfs.read(sim, path) == "-300\n"
    assert procfs.write(sim, path, "1001") == -22 and procfs.write(sim, path, "x") == -22
    assert procfs.read(sim, path) == "-300\n"


def test_a_dead_task_has_no_files(sim, task):
    sim.machine.task[task.index * r.TASK_STRIDE + r.T_ALIVE] = 0
    with pytest.raises(FileNotFoundError):
        procfs.read(sim, f"/proc/{task.pid}/maps")


def test_vm_flags_are_in_bit_order():
    flags = r.VM_MERGEABLE | r.VM_NOHUGEPAGE | r.VM_READ | r.VM_SHARED | r.VM_GROWSDOWN | r.VM_LOCKED | r.VM_NORESERVE | r.VM_WIPEONFORK
    assert vm_flags(flags) == "VmFlags: rd sh gd lo nr wf nh mg \n"


def test_a_scripts_task_shows_program_files_and_shared_memory_as_linux_names_them():
    from mmlab.procfs import read
    from mmlab.simulation import Simulation

    sim = Simulation.from_table({"memory": "256M", "cmdline": "transparent_hugepage=never"}, script=True, warm_text=True)
    pid = sim.spawn("A").pid
    sim.mkfile("f", 8192)
    sim.mmap("A", 8192, file=sim.open("f"), flags=["shared"])
    shared = sim.mmap("A", 8192, flags=["shared"])
    lines = read(sim, f"/proc/{pid}/maps").splitlines()
    assert lines[1].split() == ["00401000-0049d000", "r-xp", "00001000", "00:02", "26", "/bin/mmload"]
    assert [line.split()[3:] for line in lines if line.endswith("/mnt/f")] == [["00:19", "2", "/mnt/f"]]
    assert next(line for line in lines if line.startswith(f"{shared:x}")).endswith(" /dev/zero (deleted)")
    assert read(sim, f"/proc/{pid}/statm").split()[3] == str(0x49D - 0x401)  # pages of code
    assert "VmExe:\t     624 kB\nVmLib:\t       8 kB\n" in read(sim, f"/proc/{pid}/status")
    numa = {line.split()[0]: line for line in read(sim, f"/proc/{pid}/numa_maps").splitlines()}
    assert numa["7ffff7ffd000"] == "7ffff7ffd000 default"  # pages of the kernel are not counted
    assert "active" not in numa["00401000"]  # all of them: the driver has locked them
