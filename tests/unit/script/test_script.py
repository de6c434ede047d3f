"""The script runner against a recording simulation: what it asks for, what ops.jsonl says, what is kept."""

import json
import struct
from types import SimpleNamespace

import numpy as np
import pytest
from script_fakes import MMAP_TOP, RecordingSimulation

from mmlab._engine.script import run_script
from mmlab.errors import InputError, NotSupported
from mmlab.model import rows as r
from mmlab.verify import ResultFolder
from mmlab.workload.ops import parse_ops

PAGE = 4096


@pytest.fixture
def sim():
    return RecordingSimulation(nr_swap_slots=64)


@pytest.fixture
def run(sim, tmp_path):
    """Runs a script; gives the rows of ops.jsonl by line, and the ends by task."""

    def go(text, **more):
        run_script(sim, parse_ops(text, "t.ops"), tmp_path / "out", tmp_path, **more)
        rows = [json.loads(line) for line in (tmp_path / "out" / "ops.jsonl").read_text().splitlines()]
        return {row["line"]: row for row in rows if "line" in row}, {row["task"]: row for row in rows if row.get("end")}

    return go


def called(sim, name):
    return [call[1:] for call in sim.calls if call[0] == name]


def test_spawn_answers_the_pid_and_is_logged_without_its_options(sim, run):
    rows, ends = run("spawn A cpu=0 oom_score_adj=-5")
    assert rows[1] == {"line": 1, "op": "spawn A", "at": 0, "ret": 0, "pid": 150}
    assert called(sim, "spawn") == [("A", 0, -5)] and ends == {"A": {"end": True, "task": "A", "alive": True, "signal": 0}}


def test_answers_of_a_task_have_its_faults_and_time(run):
    rows, _ = run("spawn A\nmmap A r 64 anon\ntouch A r 0 16 w  # first")
    assert rows[2] == {
        "line": 2,
        "op": "mmap A r 64 anon",
        "at": 1000,
        "ret": 0,
        "minflt": 0,
        "majflt": 0,
        "ns": 1000,
        "addr": MMAP_TOP - 64 * PAGE,
    }
    assert rows[3] == {"line": 3, "op": "touch A r 0 16 w", "at": 2000, "ret": 0, "minflt": 16, "majflt": 0, "ns": 1000}


def test_a_signal_ends_the_touch_and_keeps_its_faults(sim, run):
    sim.answers["touch"] = SimpleNamespace(ret=-14, signal=11, si_code=2, si_addr=0x1000)
    rows, _ = run("spawn A\ntouch A 0x1000 0 1 w")
    assert rows[2] == {
        "line": 2,
        "op": "touch A 0x1000 0 1 w",
        "at": 1000,
        "ret": -14,
        "minflt": 1,
        "majflt": 0,
        "ns": 1000,
        "signal": 11,
        "si_code": 2,
        "si_addr": 4096,
    }


def test_offsets_may_be_negative_and_strides_any_size(sim, run):
    run(
        "spawn A\nmmap A r 64 anon\ntouch A r -1 1 r\n"
        "touch A r 0 10 w stride=3\ntouch A r 0 10 w stride=3 reverse\ntouch A r 0 2 r stride=2K"
    )
    base = MMAP_TOP - 64 * PAGE
    assert called(sim, "touch") == [("A", base - PAGE, 1, 0, 1, False), ("A", base, 4, 1, 3, False), ("A", base - 2 * PAGE, 4, 1, 3, True)]
    assert called(sim, "touch_pages") == [("A", [base >> 12, base >> 12, (base >> 12) + 1, (base >> 12) + 1], [0, 0, 0, 0])]


def test_align_reserves_trims_and_maps_fixed(sim, run):
    rows, _ = run("spawn A\nmmap A r 4M anon align=2M")
    reserve = MMAP_TOP - (6 << 20)
    aligned = -(-reserve // (2 << 20)) * (2 << 20)
    assert rows[2]["addr"] == aligned
    assert sim.calls[1:4] == [("mmap", "A", 6 << 20, "n", frozenset({"noreserve"}), 0, None, 0), ("munmap", "A", reserve, 6 << 20),
                              ("mmap", "A", 4 << 20, "rw", frozenset({"fixed_noreplace"}), aligned, None, 0)]  # fmt: skip


def test_places_and_flags_of_mmap(sim, run):
    run(
        "spawn A\nmmap A r 16 anon prot=n\nmmap A q 16 anon at=r-16 shared populate\n"
        "mmap A p 1 anon at=r+2 over\nmmap A h 1 anon at=0x10000 hint huge=no"
    )
    base = MMAP_TOP - 16 * PAGE
    got = [(call[2], call[3], call[4]) for call in called(sim, "mmap")]
    assert got == [
        ("n", frozenset(), 0),
        ("rw", frozenset({"shared", "populate", "fixed_noreplace"}), base - 16 * PAGE),
        ("rw", frozenset({"fixed"}), base + 2 * PAGE),
        ("rw", frozenset(), 0x10000),
    ]
    assert called(sim, "madvise")[0][3] == "nohugepage"


def test_file_maps_open_anew_unless_kept(sim, run):
    run(
        "spawn A\nmkfile data 16\nmmap A a 4 file:data\n"
        "mmap A b 4 file:data keep\nmmap A c 4 file:data keep off=4\nfork A B\nmmap B d 4 file:data keep"
    )
    files = [call[5].number for call in called(sim, "mmap")]
    assert len(called(sim, "open")) == 2 and len(called(sim, "close")) == 1 and files[0] != files[1] == files[2] == files[3]
    assert called(sim, "mmap")[2][6] == 4 * PAGE


def test_a_missing_file_is_enoent(run):
    rows, _ = run("spawn A\nmmap A a 4 file:none\nfread A none 0 1\naccess A a none r")
    assert [rows[n]["ret"] for n in (2, 3, 4)] == [-2, -2, -2]


def test_files(sim, run):
    rows, _ = run("spawn A\nmkfile f 8\nfread A f 0 4\nfwrite A new 0 2\nfread A new 0 2")
    assert [rows[n]["ret"] for n in (2, 3, 4, 5)] == [0, 4 * PAGE, 2 * PAGE, 2 * PAGE]
    assert called(sim, "mkfile") == [("f", 8 * PAGE), ("new", 0)] and called(sim, "fwrite") == [("A", "new", 0, 2 * PAGE)]


def test_failed_mmap_makes_no_region(sim, run):
    sim.answers["mmap"] = -12
    rows, _ = run("spawn A\nmmap A r 4 anon\ntouch A r 0 1 w")
    assert "addr" not in rows[2] and (rows[2]["ret"], rows[3]["ret"]) == (-12, -2)


def test_munmap_takes_the_whole_region_by_default(sim, run):
    run("spawn A\nmmap A r 16 anon\nmunmap A r\nmunmap A r 4 2")
    base = MMAP_TOP - 16 * PAGE
    assert called(sim, "munmap") == [("A", base, 16 * PAGE), ("A", base + 4 * PAGE, 2 * PAGE)]


def test_mremap_moves_the_region(sim, run):
    sim.answers["mremap"] = 0x700000000000
    rows, _ = run("spawn A\nmmap A r 16 anon\nmmap A t 8 anon\nmremap A r 32 to=t dontunmap\ntouch A r 0 1 w")
    assert rows[4]["moved"] == 1 and rows[4]["addr"] == 0x700000000000
    base = MMAP_TOP - 16 * PAGE
    assert called(sim, "mremap") == [("A", base, 16 * PAGE, 32 * PAGE, frozenset({"maymove", "dontunmap", "fixed"}), base - 8 * PAGE)]
    assert called(sim, "touch")[0][1] == 0x700000000000


def test_brk_grows_one_region(sim, run):
    sim.answers["spawn"] = None
    rows, _ = run("spawn A\nbrk A 4\nbrk A 4\ntouch A brk 0 8 w")
    assert (rows[2]["addr"], rows[3]["addr"]) == (0, 0) and called(sim, "brk") == [("A", 4 * PAGE), ("A", 8 * PAGE)]
    sim.answers["brk"] = -1


def test_brk_refused_is_enomem(sim, run):
    sim.answers["brk"] = -1
    rows, _ = run("spawn A\nbrk A 4")
    assert rows[2]["ret"] == -12


def test_nmap_counts_and_alternates(sim, run):
    sim.answers["mmap"] = lambda *args: -12 if len(called(sim, "mmap")) == 4 else 1 << 30
    rows, _ = run("spawn A\nnmap A 10 1 alt")
    assert (rows[2]["ret"], rows[2]["errno"]) == (3, 12) and [call[2] for call in called(sim, "mmap")] == ["rw", "n", "rw", "n"]


def test_region_names_what_the_kernel_made(sim, run):
    sim.spawn = lambda name, cpu=0, oom_score_adj=0: (task := sim.add_task(name), sim.add_vma(task, 0x7FFFFFFDE000, 33, name=r.NAME_STACK))[
        0
    ]
    rows, _ = run("spawn A\nregion A s stack\nregion A h heap\ntouch A s -2 1 w")
    assert (rows[2]["addr"], rows[2]["pages"], rows[3]["ret"]) == (0x7FFFFFFDE000, 33, -2)
    assert called(sim, "touch")[0][1] == 0x7FFFFFFDC000


def test_rtouch_touches_splitmix_pages(sim, run):
    run("spawn A\nmmap A r 64 anon\nrtouch A r 8 16 3 w seed=0")
    first = (MMAP_TOP >> 12) - 64 + 8
    expected = [
        first + x % 16 for x in (0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F)
    ]  # the generator's first outputs from seed 0
    assert called(sim, "touch_pages") == [("A", expected, [1, 1, 1])]


def test_access_reads_offsets_and_write_bits(sim, run, tmp_path):
    (tmp_path / "f.u32").write_bytes(struct.pack("<4I", 5, 1 | 1 << 31, 2, 3))
    rows, _ = run("spawn A\nmmap A r 8 anon\naccess A r f.u32 m from=1 count=2")
    first = (MMAP_TOP >> 12) - 8
    assert called(sim, "touch_pages") == [("A", [first + 1, first + 2], [1, 0])] and rows[3]["ret"] == 2


def test_children_have_the_parents_regions(sim, run):
    rows, _ = run("spawn A\nmmap A r 4 anon\nfork A B\ntouch B r 0 1 w\nmunmap A r\nexit B")
    assert rows[3] == {"line": 3, "op": "fork A B", "at": 2000, "ret": 0, "pid": 151} and called(sim, "touch")[0][:2] == (
        "B",
        MMAP_TOP - 4 * PAGE,
    )


def test_a_failed_fork_leaves_a_dead_child(sim, run):
    sim.answers["fork"] = -12
    rows, ends = run("spawn A\nfork A B\ntouch B 0x1000 0 1 w")
    assert (
        rows[2]["ret"] == -12
        and rows[3] == {"line": 3, "op": "touch B 0x1000 0 1 w", "at": 2000, "ret": -3, "dead": True}
        and ends["B"]["alive"] is False
    )


def test_how_tasks_end(sim, run):
    """exit is noticed at once, an idle victim at its next operation; one that is never asked shows its signal at the end."""
    sim.sleep = lambda ms: (sim.end("B", 9), sim.end("C", 9), sim.end("D", 9))
    rows, ends = run("spawn A\nspawn B\nspawn C\nfork A D\nsleep 1\nexit A\ntouch B 0x1000 0 1 w\ntouch B 0x1000 0 1 w")
    assert rows[6] == {"line": 6, "op": "exit A", "at": 4000, "ret": 0, "died": True, "signal": 0, "status": 0}
    assert (rows[7]["died"], rows[7]["signal"], rows[8]["ret"]) == (True, 9, -3)
    assert {name: (row["alive"], row["signal"]) for name, row in ends.items()} == {
        "A": (False, 0),
        "B": (False, 0),
        "C": (False, 9),
        "D": (False, 9),
    }


def test_the_driver_cannot_wait_for_a_living_tasks_child(sim, run):
    sim.sleep = lambda ms: sim.end("B", 9)
    _, ends = run("spawn A\nfork A B\nsleep 1")
    assert ends["B"] == {"end": True, "task": "B", "alive": False, "signal": 0}


def test_kill_is_noticed(sim, run):
    rows, ends = run("spawn A\nkill A")
    assert rows[2]["ret"] == 0 and ends["A"] == {"end": True, "task": "A", "alive": False, "signal": 0}


def test_a_victim_in_its_own_system_call_dies(sim, run):
    def fault(*args):
        sim.machine.task[r.T_FLAGS] |= r.TF_KILLED | r.TF_OOM_VICTIM
        return SimpleNamespace(ret=-14, signal=9, si_code=0, si_addr=0)

    sim.answers["touch"] = fault
    rows, ends = run("spawn A\nmmap A r 4 anon\ntouch A r 0 4 w")
    assert (
        rows[3] == {"line": 3, "op": "touch A r 0 4 w", "at": 2000, "ret": 0, "died": True, "signal": 9, "status": 9}
        and ends["A"]["signal"] == 0
    )


def test_settings(sim, run):
    rows, _ = run(
        "spawn A\nsysctl vm.swappiness 10\nsysctl vm.swappiness 300\n"
        "sysfs mm/lru_gen/enabled 0\nwrite /proc/sys/vm/lowmem_reserve_ratio 32 64 16 0\n"
        "oom_score_adj A 500\nwrite /proc/@A/oom_score_adj 600\nsh echo 20 > /proc/sys/vm/swappiness\n"
        "sh true\ncat /proc/@A/oom_score_adj adj\ncat /proc/sys/vm/swappiness sw"
    )
    assert [rows[n]["ret"] for n in range(2, 12)] == [0, -22, 0, 0, 0, 0, 0, 0, 0, 0]
    assert "minflt" not in rows[6] and sim.tuning.values["vm.lowmem_reserve_ratio"] == [32, 64, 16, 0, 0]


def test_values_name_tasks_and_regions(sim, run, tmp_path):
    run("spawn A\nmmap A r 64 anon\nwrite /proc/sys/vm/overcommit_kbytes @A.r+1M\nwrite /proc/sys/vm/max_map_count @A")
    assert int(sim.settings["vm.overcommit_kbytes"]) == MMAP_TOP - 64 * PAGE + (1 << 20) and sim.settings["vm.max_map_count"] == "150"


def test_everything_reads_back(sim, run, tmp_path):
    sim.kills.append(
        {
            "task": "A",
            "pid": 150,
            "total-vm": 1892,
            "anon-rss": 1060,
            "file-rss": 4,
            "shmem-rss": 808,
            "pgtables": 44,
            "oom_score_adj": 0,
            "constraint": "CONSTRAINT_NONE",
        }
    )
    (tmp_path / "z.prog").write_text("zonelists\nzones z\n")
    run(
        "spawn A\nmmap A r 4 anon\nsnapshot s0\npagemap A r p\n"
        "cat /proc/sys/vm/swappiness sw\nsnapshot s1 brief\nprobe z.prog z\ntree /sys/kernel/mm/transparent_hugepage thp"
    )
    folder = ResultFolder(tmp_path / "out")
    numbers = {
        "op[2].addr": MMAP_TOP - 4 * PAGE,
        "rel[2,2]": 0,
        "end.A.alive": True,
        "pagemap[p].present": 0,
        "cat[sw]": 60,
        "snap[s0].vmstat.pgfault": 0,
        "delta[s0,s1].vmstat.pgfault": 0,
        "snap[s0].zoneinfo[0,DMA32].spanned": 16384,
        "snap[s0].buddyinfo[0,DMA32]": [0] * 11,
        "snap[s0].meminfo.MemTotal": 65536,
        "snap[s0].pagetypeinfo[0,DMA32].Movable": [0] * 11,
        "snap[s0].A.maps.count": 0,
        "snap[s0].A.status.VmRSS": 0,
        "snap[s0].A.stat.minflt": 0,
        "snap[s0].A.oom_score_adj": 0,
        "snap[s0].swaps.used": 0,
        "snap[s0].nodememinfo[0].MemTotal": 65536,
        "snap[s0].numastat[0].numa_hit": 0,
        "probe[z].zone[z][0,DMA32].spanned": 16384,
        "probe[z].zonelist[0,fallback]": ["0:DMA32"],
        "dmesg.killed": ["A"],
        "dmesg.oom.count": 1,
        "dmesg.kill[0].anon-rss": 1060,
        "dmesg.kill[0].pgtables": 44,
        "dmesg.kill[0].oom_score_adj": 0,
        "dmesg.constraint[0]": "CONSTRAINT_NONE",
        "probe[z].zone[z][0,DMA32].high_min": sim.tuning.pcp[0].high_min,
        "probe[z].zone[z][0,DMA32].protection": [0] * 5,
    }
    assert {fid: folder.figure(fid) for fid in numbers} == numbers
    assert sorted(p.name for p in (tmp_path / "out" / "s1").iterdir()) == ["buddyinfo", "meminfo", "pagetypeinfo", "vmstat", "zoneinfo"]
    assert "enabled always madvise [never]\n" in (tmp_path / "out" / "thp").read_text()


def test_pagemap_is_little_endian_words(sim, run, tmp_path):
    run("spawn A\nmmap A r 4 anon\npagemap A r p")
    assert np.fromfile(tmp_path / "out" / "p.pagemap", "<u8").tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("bg madvise A r 0 1 cold", r"operation 'bg madvise' \(line 3\): not supported yet"),
        ("bg touch A r 0 4 w reverse", r"operation 'bg touch' \(line 3\): reverse: not supported yet"),
        ("sh uname -r", r"operation 'sh' \(line 3\): sh uname -r: not supported yet"),
        ("cat /proc/pressure/io x", r"operation 'cat' \(line 3\): /proc/pressure/io: not supported yet"),
    ],
)
def test_what_comes_later_is_named_and_nothing_is_left(run, tmp_path, line, message):
    (tmp_path / "p.prog").write_text("kinfo\n")
    before = set(tmp_path.iterdir())
    with pytest.raises(NotSupported, match=message):
        run("spawn A\nmmap A r 4 anon\n" + line)
    assert set(tmp_path.iterdir()) == before


def test_partial_results_can_be_kept(run, tmp_path):
    with pytest.raises(NotSupported):
        run("spawn A\nmmap A r 4 anon\nsnapshot s\nbg touch A r 0 4 w reverse", keep_partial=True)
    folder = ResultFolder(tmp_path / "out")
    assert sorted(folder.ops) == [1, 2, 3] and not folder.ends and not (tmp_path / "out" / "dmesg.txt").exists()


def test_a_used_folder_is_refused(run, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").touch()
    with pytest.raises(InputError, match="new or empty"):
        run("spawn A")


def test_a_crash_leaves_nothing(sim, run, tmp_path):
    sim.answers["touch"] = lambda *args: 1 // 0
    with pytest.raises(ZeroDivisionError):
        run("spawn A\nmmap A r 4 anon\ntouch A r 0 1 w")
    assert not list(tmp_path.iterdir())


def test_progress_is_told(run):
    seen = []
    run("spawn A\nsleep 1", progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 2), (2, 2)]


@pytest.mark.nojit
@pytest.mark.parametrize("second", ["spawn A", "spawn B\nfork B A"])
def test_a_name_that_is_taken_is_an_error_of_the_line(second, tmp_path):
    from mmlab.simulation import Simulation

    lines = f"spawn A\n{second}"
    with pytest.raises(InputError, match=rf"line {lines.count(chr(10)) + 1}: .*'A' still runs"):
        run_script(Simulation.from_table({"memory": "256M"}, script=True), parse_ops(lines, "x.ops"), tmp_path / "out", tmp_path)
