"""Machines from copies of /proc files: a real one-node machine, and a two-node one put together by hand."""

import shutil
from pathlib import Path

import pytest
import tomli

from mmlab.errors import InputError
from mmlab.machine import ZoneTuning, build_machine, import_machine, machine_from_table, machine_toml

DATA = Path(__file__).parent / "data"


@pytest.fixture
def one_node(tmp_path):
    return shutil.copytree(DATA / "one-node", tmp_path / "m")


def test_a_real_machine():
    m = import_machine(DATA / "one-node")
    assert [(z.name, z.start_pfn, z.spanned, z.present) for z in m.layout.zones] == [
        ("DMA", 1, 4095, 3998), ("DMA32", 4096, 1044480, 782336), ("Normal", 1048576, 5505024, 5505024),
    ]  # fmt: skip
    assert m.layout.zone(0, "DMA32").ranges == ((4096, 786432),)
    assert (m.config.cpus, m.config.nr_nodes) == (2, 1)
    dma = m.boot.zones[0]
    assert dma.free_lists["Movable"] == (0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 3)
    assert dma.free_lists["Unmovable"] == (0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0)
    assert dma.pageblocks == {"Unmovable": 1, "Movable": 7, "Reclaimable": 0, "HighAtomic": 0, "Isolate": 0}
    # Normal holds neither the kernel image nor the initrd: DMA32's reserve against it is what the machine's zoneinfo says
    assert ZoneTuning(m.layout).lowmem_reserve[1] == (0, 0, 2560, 2560, 2560)


def test_two_nodes():
    m = import_machine(DATA / "two-node")
    assert [(z.node, z.name, z.managed) for z in m.layout.zones] == [
        (0, "DMA", 3840),
        (0, "DMA32", 765952),
        (0, "Normal", 249856),
        (1, "Normal", 1028096),
    ]
    assert m.layout.node_cpus == ((0, 2), (1, 3))
    assert m.layout.distances == ((10, 32), (32, 10))
    assert m.config.swap_bytes == 2097148 << 10
    assert m.config.cmdline == "transparent_hugepage=madvise"
    assert m.config.sysctl == {"vm.min_free_kbytes": "67584", "vm.lowmem_reserve_ratio": "256 256 32 0 0"}
    # without pagetypeinfo every free block counts as Movable
    assert m.boot.zones[3].free_lists["Movable"] == (7,) * 10 + (900,)
    assert [(p.count, p.high) for p in m.boot.zones[3].pcp] == [(1, 100), (11, 101), (21, 102), (31, 103)]
    assert m.boot.zones[3].lru == {"inactive_anon": 11, "active_anon": 12, "inactive_file": 13, "active_file": 14, "unevictable": 15}
    assert (m.boot.lru["inactive_anon"], m.boot.totals["page_table_pages"], m.boot.committed_as_kb) == (100, 112, 123456)


@pytest.mark.parametrize("name", ["one-node", "two-node"])
def test_the_toml_describes_the_same_machine(name):
    m = import_machine(DATA / name)
    text = machine_toml(m)
    tables = tomli.loads(text)
    cfg, layout, boot = build_machine(machine_from_table(tables["machine"], sysctl=tables.get("sysctl")))
    assert (layout, boot) == (m.layout, m.boot)
    assert (cfg.cmdline, cfg.sysctl, cfg.swap_bytes) == (m.config.cmdline, m.config.sysctl, m.config.swap_bytes)
    assert str(DATA) not in text


def test_import_dir_and_settings_of_the_table():
    table = {"import_dir": str(DATA / "two-node"), "cmdline": "stack_guard_gap=1"}
    cfg, layout, _ = build_machine(machine_from_table(table, sysctl={"vm.min_free_kbytes": 1000}))
    assert layout == import_machine(DATA / "two-node").layout
    assert (cfg.cpus, cfg.cmdline) == (4, "transparent_hugepage=madvise stack_guard_gap=1")
    assert cfg.sysctl["vm.min_free_kbytes"] == "1000"


def test_the_files_may_lie_in_a_proc_folder(one_node, tmp_path):
    moved = tmp_path / "x"
    moved.mkdir()
    one_node.rename(moved / "proc")
    assert import_machine(moved).boot == import_machine(DATA / "one-node").boot


def edit(folder, name, old, new):
    path = folder / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def failing(folder):
    with pytest.raises(InputError) as e:
        import_machine(folder)
    return [m.replace(str(folder) + "/", "") for m in e.value.messages]


def test_missing_files_are_named_together(one_node):
    (one_node / "zoneinfo").unlink()
    (one_node / "meminfo").unlink()
    assert failing(one_node) == [
        "zoneinfo: no such file; it must be a copy of the real machine's /proc/zoneinfo",
        "meminfo: no such file; it must be a copy of the real machine's /proc/meminfo",
    ]
    assert failing(one_node / "nowhere") == [f"{one_node / 'nowhere'}: no such folder"]


def line_of(folder, name, text):
    return next(i for i, line in enumerate((folder / name).read_text().splitlines(), 1) if text in line)


def test_malformed_lines_are_named_with_file_and_line(one_node):
    edit(one_node, "zoneinfo", "spanned  4095", "spanned  many")
    edit(one_node, "buddyinfo", "Node 0, zone    DMA32", "Node 0, zone    DMA32  7")
    edit(one_node, "meminfo", "Committed_AS:", "Committed_AS: unknown")
    zone, span = line_of(one_node, "zoneinfo", "DMA"), line_of(one_node, "zoneinfo", "many")
    got = failing(one_node)
    assert got[:2] == [
        f"zoneinfo:{span}: spanned must be followed by a number, got 'spanned  many'",
        f"zoneinfo:{zone}: zone DMA of node 0 has no spanned",
    ]
    assert got[2].startswith("buddyinfo:2: must have 11 counts of free blocks (orders 0 to 10), got '7 ")
    assert got[3].startswith(f"meminfo:{line_of(one_node, 'meminfo', 'unknown')}: Committed_AS must be followed by a number")


def test_missing_lines_are_named(one_node):
    lines = (one_node / "buddyinfo").read_text().splitlines(keepends=True)
    (one_node / "buddyinfo").write_text("".join(lines[:2]))
    edit(one_node, "vmstat", "nr_shmem ", "nr_shmemx ")
    edit(one_node, "zoneinfo", "Node 0, zone    DMA32", "Node 0, zone  HighMem")
    assert failing(one_node) == [
        f"zoneinfo:{line_of(one_node, 'zoneinfo', 'HighMem')}: zone HighMem is not modelled (known: DMA, DMA32, Normal, Movable, Device)",
        "vmstat: no line for nr_shmem",
        "buddyinfo: no line for zone HighMem of node 0, which zoneinfo has",
        "buddyinfo: no line for zone Normal of node 0, which zoneinfo has",
    ]


def test_counts_that_pagetypeinfo_cut_off_come_from_buddyinfo(one_node):
    buddy = next(line for line in (one_node / "buddyinfo").read_text().splitlines() if "DMA32" in line).split()
    edit(one_node, "buddyinfo", f"DMA32      {buddy[4]}", "DMA32 250000")
    row = next(line for line in (one_node / "pagetypeinfo").read_text().splitlines() if "DMA32, type      Movable" in line)
    edit(one_node, "pagetypeinfo", row, "Node    0, zone    DMA32, type      Movable >100000 " + " ".join(row.split()[7:]))
    assert import_machine(one_node).boot.zones[1].free_lists["Movable"][0] == 250000


def test_cma_blocks_are_movable(one_node):
    text = (one_node / "pagetypeinfo").read_text()
    text = text.replace("Node    0, zone      DMA, type   HighAtomic", "Node    0, zone      DMA, type          CMA 0 0 0 0 0 0 0 0 0 2 0\n"
                        "Node    0, zone      DMA, type   HighAtomic")  # fmt: skip
    (one_node / "pagetypeinfo").write_text(text)
    assert import_machine(one_node).boot.zones[0].free_lists["Movable"] == (0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 3)
