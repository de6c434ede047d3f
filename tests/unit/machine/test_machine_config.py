"""The [machine] table: what is accepted, and what is said about what is not."""

import copy
import json
from pathlib import Path

import pytest

from mmlab.errors import InputError
from mmlab.machine import build_machine
from mmlab.machine.cmdline import CoreSize, MemmapRange, parse_cmdline
from mmlab.machine.config import MachineConfig, machine_from_table, parse_size
from mmlab.machine.presets import PRESETS


def messages(table, **settings):
    with pytest.raises(InputError) as e:
        machine_from_table(table, "case.toml", **settings)
    return e.value.messages


@pytest.mark.parametrize(("text", "n"), [("512M", 512 << 20), ("1G", 1 << 30), ("64K", 65536), ("2GiB", 2 << 30), ("4096", 4096), (7, 7)])
def test_parse_size(text, n):
    assert parse_size(text) == n


@pytest.mark.parametrize("text", ["", "M", "1.5G", "-1M", "1X", True, None, -4])
def test_parse_size_refuses(text):
    with pytest.raises(ValueError, match="must be a size such as"):
        parse_size(text)


# Every form that occurs in the recorded cases' [machine] tables.
RECORDED = [
    {"memory": "512M", "cpus": 1, "kernel": "6.12", "swap": "64M", "swap_ssd": True, "disk": "600M"},
    {"memory": "1G", "cpus": 2, "modules": ["virtio_blk"], "icount": "shift=3,sleep=off",
     "cmdline": "transparent_hugepage=never cryptomgr.notests"},
    {"memory": "256M", "cpus": 1, "zram": "256M", "cmdline": "slab_min_order=1 slab_max_order=2 slab_min_objects=12"},
    {"memory": "1G", "cpus": 1, "maxmem": "8G", "dimms": ["512M"]},
    {"memory": "1G", "nodes": [{"memory": "512M", "cpus": [0], "initiator": 0}, {"memory": "512M", "initiator": 0}],
     "hmat": [[0, 0, 10, 10], [0, 1, 20, 5]]},
    {"memory": "1G", "cpus": 1, "cmdline": "memmap=64M$512M memmap=3M$901M"},
]  # fmt: skip


@pytest.mark.parametrize("table", RECORDED)
def test_recorded_tables_are_accepted(table):
    cfg = machine_from_table(table)
    assert cfg.memory_bytes == parse_size(table["memory"])


def test_values_end_up_where_they_belong():
    cfg = machine_from_table(RECORDED[4], sysctl={"vm.swappiness": 60}, sysfs={"kernel/mm/lru_gen/enabled": "0"})
    assert cfg.hmat == ((0, 0, 10, 10), (0, 1, 20, 5))
    assert [(n.memory_bytes, n.cpus, n.initiator) for n in cfg.nodes] == [(512 << 20, (0,), 0), (512 << 20, (), 0)]
    assert (cfg.sysctl, cfg.sysfs) == ({"vm.swappiness": "60"}, {"kernel/mm/lru_gen/enabled": "0"})
    assert machine_from_table({}) == MachineConfig()


def test_unknown_keys_get_a_suggestion():
    (m,) = messages({"memroy": "1G"})
    assert m.startswith("case.toml: machine.memroy: no such key (known: preset, memory,")
    assert m.endswith("did you mean 'memory'?")


def test_all_errors_come_at_once():
    got = messages(
        {
            "memory": "lots",
            "cpus": 0,
            "kernel": "5.4",
            "swap_ssd": "yes",
            "cmdline": "memmap=64M transparent_hugepage=sometimes",
            "disk": "3000",
        },
        sysctl={"vm.swappiness": [1]},
    )
    assert got == [
        "case.toml: machine.memory: must be a size such as \"512M\", got 'lots'",
        "case.toml: machine.cpus: must be a whole number between 1 and 8192, got 0",
        "case.toml: machine.kernel: must be one of 6.12, 6.1, got '5.4'",
        "case.toml: machine.cmdline: memmap: must be SIZE$START, SIZE#START, SIZE!START or SIZE@START, got '64M'",
        "case.toml: machine.cmdline: transparent_hugepage: must be one of always, madvise, never, got 'sometimes'",
        "case.toml: machine.swap_ssd: must be true or false, got 'yes'",
        "case.toml: machine.disk: must be a whole number of 4 KiB pages, got '3000'",
        'case.toml: sysctl."vm.swappiness": must be a string or a number, got [1]',
    ]


def test_rules_between_keys():
    nodes = [{"memory": "512M", "cpus": [0, 3]}, {"memory": "512M", "cpus": [0]}]
    got = messages({"memory": "2G", "cpus": 2, "nodes": nodes, "distances": [[0, 1, 9], [0, 2, 20]], "dimms": ["100M"]})
    assert got == [
        "case.toml: machine.memory: must equal the sum of machine.nodes' memory (1024M), got '2G'",
        "case.toml: machine.nodes: CPU 3 does not exist: machine.cpus is 2",
        "case.toml: machine.nodes: CPU 0 is in more than one node",
        "case.toml: machine.nodes: CPU 1 is in no node: machine.cpus is 2, and where one node names its CPUs every CPU must be named",
        "case.toml: machine.distances[1]: node 2 does not exist: the machine has 2",
        "case.toml: machine.distances[0]: must be 10 from a node to itself and 11 to 254 between two, got 9",
        "case.toml: machine.dimms[0]: must be a multiple of 128M, got 100M",
        "case.toml: machine.maxmem: must be at least memory and dimms together",
    ]


def test_a_boot_record_is_checked():
    got = messages({"boot": {"lru": {}, "meminfo": {"Committed_AS": 1}, "zones": [{"node": 0, "zone": "Dma"}]}})
    assert "case.toml: machine.boot.zones[0].zone: must be one of DMA, DMA32, Normal, Movable, Device, got 'Dma'" in got
    assert "case.toml: machine.boot.zones[0].free_lists.Movable: must be 11 counts of free blocks, got None" in got
    assert "case.toml: machine.boot.lru.shmem: must be a count, got None" in got


def test_import_excludes_a_description():
    assert messages({"import_dir": "x", "memory": "1G"}) == [
        "case.toml: machine.memory: comes from machine.import_dir; leave one of the two out"
    ]


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_machines(name):
    assert machine_from_table({"preset": name}).preset == name


def test_preset_values():
    qemu, desktop, server = (machine_from_table({"preset": n}) for n in ("qemu-1g", "desktop-16g", "server-2node"))
    assert (qemu.memory_bytes >> 30, qemu.cpus, qemu.swap_bytes >> 20) == (1, 1, 512)
    assert (desktop.memory_bytes >> 30, desktop.cpus) == (16, 4)
    assert (server.memory_bytes >> 30, server.cpus, server.distance_matrix()) == (32, 8, ((10, 21), (21, 10)))


def test_presets_of_real_machines():
    xeon, epyc, cxl = (machine_from_table({"preset": n}) for n in ("xeon-2socket-192g", "epyc-2socket-1536g", "xeon-2socket-cxl"))
    assert [len(cpus) for cpus in xeon.node_cpus()] == [36, 36] and xeon.node_cpus()[1][18] == 54
    assert (epyc.memory_bytes >> 40 << 40, epyc.distance_matrix()) == (1 << 40, ((10, 32), (32, 10)))
    assert [len(cpus) for cpus in cxl.node_cpus()] == [104, 104, 0, 0]
    assert cxl.distance_matrix()[2] == (14, 24, 10, 26)


def test_a_table_overrides_its_preset():
    cfg = machine_from_table({"preset": "server-2node", "memory": "4G", "swap": "1G"})
    assert (cfg.memory_bytes >> 30, cfg.nodes, cfg.distances, cfg.cpus, cfg.swap_bytes >> 30) == (4, (), (), 8, 1)
    assert machine_from_table({"preset": "xeon-2socket-cxl", "memory": "4G"}).hmat == ()
    assert messages({"preset": "qemu-2g"}) == [
        f"case.toml: machine.preset: no preset named 'qemu-2g' (known: {', '.join(PRESETS)}); did you mean 'qemu-1g'?"
    ]


def test_where_no_node_names_its_cpus_all_are_node_0s():
    cfg = machine_from_table({"cpus": 2, "nodes": [{"memory": "64M"}, {"memory": "64M"}]})
    assert cfg.node_cpus() == ((0, 1), ())


def test_one_distance_counts_for_both_directions_unless_both_are_given():
    nodes = [{"memory": "64M"}] * 3
    cfg = machine_from_table({"nodes": nodes, "distances": [[0, 1, 15], [1, 0, 15], [1, 2, 30], [2, 1, 40], [0, 2, 20], [2, 0, 20]]})
    assert cfg.distance_matrix() == ((10, 15, 20), (15, 10, 30), (20, 40, 10))


def test_cmdline():
    line, errors = parse_cmdline(
        "quiet movablecore=25% kernelcore=0x100M memmap=64M$1G,2M#3M memmap=4K!8K slab_nomerge stack_guard_gap=1 x=y kernelcore=mirror"
    )
    assert errors == []
    assert line.movablecore == CoreSize(percent=25) and line.movablecore.pages(1000) == 250
    assert line.kernelcore == CoreSize(nbytes=256 << 20)
    assert line.memmap == (
        MemmapRange(1 << 30, 64 << 20, "reserved"),
        MemmapRange(3 << 20, 2 << 20, "ACPI data"),
        MemmapRange(8192, 4096, "persistent"),
    )
    assert (line.slab_nomerge, line.stack_guard_gap, line.transparent_hugepage) == (True, 1, None)
    assert line.other == ("quiet", "x=y", "kernelcore=mirror")


def test_distances_and_hmat_that_cannot_be():
    nodes = [{"memory": "64M", "cpus": [0]}, {"memory": "64M", "initiator": 1}]
    got = messages({"cpus": 1, "nodes": nodes, "distances": [[0, 1, 20], [0, 1, 21]], "hmat": [[1, 0, 0, 5], [0, 1, 10, 0], [0, 1, 10, 10]]})
    assert got == [
        "case.toml: machine.distances[1]: must agree with the row before that says 20 from node 0 to 1, got 21",
        "case.toml: machine.hmat[0]: latency and bandwidth must be at least 1, got 0 ns and 5 GiB/s",
        "case.toml: machine.hmat[0]: the initiator must be a node with CPUs (0), got 1",
        "case.toml: machine.hmat[1]: latency and bandwidth must be at least 1, got 10 ns and 0 GiB/s",
        "case.toml: machine.hmat[2]: node 0 to 1 is given twice",
        "case.toml: machine.nodes[1].initiator: must be a node with CPUs (0), got 1",
    ]


TWO = [{"memory": "512M", "cpus": [0]}, {"memory": "512M"}]


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"memory": "-1G"}, 'machine.memory: must be a size such as "512M", got \'-1G\''),
        ({"memory": "1G", "swap": -4096}, 'machine.swap: must be a size such as "512M", got -4096'),
        ({"nodes": [{"memory": "-512M"}]}, "machine.nodes[0].memory: must be a size such as"),
        ({"nodes": [*TWO, {"memory": 0}]}, "machine.nodes[2]: has neither memory nor CPUs"),
        ({"nodes": [*TWO, {"memory": "1G"}], "distances": [[0, 1, 20], [2, 0, 30]]}, "machine.distances: has no row for nodes 1 and 2"),
        (
            {"nodes": [*TWO, {"memory": "1G"}], "distances": [[0, 1, 20], [1, 0, 21], [2, 0, 30], [1, 2, 30]]},
            "machine.distances: differ by direction between nodes 0 and 1, so every two nodes need a row each way: there is none from 0 to 2",
        ),
        ({"cpus": 3, "nodes": TWO}, "machine.nodes: CPU 1 is in no node: machine.cpus is 3"),
        ({"nodes": TWO, "hmat": [[0, 0, 10, 10], [0, 1, -5, 5]]}, "machine.hmat[1]: latency and bandwidth must be at least 1"),
        ({"cmdline": "memmap=64M$256M memmap=64M$300M"}, "machine.cmdline: memmap= ranges overlap: 0x4000000 bytes at 0x10000000 and 0x4000000 at"),
        ({"memory": "8G", "cmdline": "memmap=4G$0"}, "machine.cmdline: leaves no memory below 4 GiB"),
        ({"memory": "1G", "cmdline": "memmap=1G$0"}, "machine.cmdline: leaves no memory below 4 GiB"),
    ],
)
def test_impossible_machines_are_refused_by_key(table, said):
    with pytest.raises(InputError) as caught:
        build_machine(machine_from_table(table))
    assert [message for message in caught.value.messages if message.startswith(said)], caught.value.messages


def test_records_that_contradict_themselves():
    boot = json.loads((Path(__file__).parents[2] / "ground_truth/allocators/zones-512m/boot.json").read_text())

    def said(change):
        wrong = copy.deepcopy(boot)
        change(wrong)
        with pytest.raises(InputError) as caught:
            machine_from_table({"memory": "512M", "boot": wrong})
        return caught.value.messages

    def overlap(b):
        b["zones"][1]["start_pfn"] = 4000

    def too_many(b):
        b["zones"][1]["managed"] = b["zones"][1]["present"] + 1

    def too_high(b):
        for z in b["zones"]:
            z["start_pfn"] += 1 << 20

    def twice(b):
        b["node_ranges"] = [[0, 0x1000, 0x9FFFF], [0, 0x9F000, 0xFFFFF]]

    assert said(overlap)[0].startswith("machine.boot.zones[1].start_pfn: overlaps zones[0] of the same node, which ends at frame 4096, got 4000")
    assert said(too_many)[0].startswith("machine.boot.zones[1]: managed must be at most present")
    assert said(too_high)[0].startswith("machine.boot.zones: must have memory below 4 GiB")
    assert said(twice)[0].startswith("machine.boot.node_ranges[1]: overlaps node_ranges[0]")


# swap devices -----------------------------------------------------------------------------------------------------------------------------
def test_swap_devices_of_the_short_form():
    both = machine_from_table({"swap": "64M", "swap_ssd": True, "zram": "32M", "disk": "1G"}).swap_devices
    assert [(d.name, d.pages, d.rotational, d.zram, d.priority) for d in both] == [("vdc", 16383, False, False, -2), ("zram0", 8191, False, True, -3)]
    assert machine_from_table({}).swap_devices == ()


def test_listed_swap_devices_come_by_priority():
    cfg = machine_from_table({"swaps": [{"size": "8M"}, {"size": "16M", "zram": True, "priority": 100}, {"size": "4M", "ssd": True}]})
    assert [(d.name, d.priority, d.rotational) for d in cfg.swap_devices] == [("zram0", 100, False), ("vdb", -2, True), ("vdc", -3, False)]


def test_compression_is_a_ratio_by_page_class():
    assert machine_from_table({"compression": {"data": 2}}).compression == {"touched": (27, 44), "data": (2048, 2048)}


def test_what_is_wrong_with_swap():
    table = {
        "swap": "4K", "zram": "1M", "swaps": [{"size": "4K"}, {"size": "8M", "priority": 40000}, {"size": "8M", "rotational": True}, "8M"],
        "compression": {"text": 2, "data": 0.5},
    }  # fmt: skip
    found = messages(table)
    for start in (
        "machine.swaps[0].size: must be at least two pages (8K), header included, got '4K'",
        "machine.swaps[1].priority: must be a whole number between -32768 and 32767, got 40000",
        "machine.swaps[2].rotational: no such key (known: size, ssd, zram, priority)",
        "machine.swaps[3]: must be a table such as",
        "machine.compression.text: no such page class (known: touched, data)",
        "machine.compression.data: must be a ratio between 1 and 1000, got 0.5",
        "machine.swap: machine.swaps names all devices; leave one of the two out",
        "machine.zram: machine.swaps names all devices; leave one of the two out",
    ):
        assert any(message.startswith(f"case.toml: {start}") for message in found), start
    assert messages({"swap": "4K"}) == ["case.toml: machine.swap: must be at least two pages (8K), header included, got '4K'"]
