"""Zones of real machines, from the formulas and from a boot record."""

import machine_records as recorded
import pytest

from mmlab.errors import InputError
from mmlab.machine import layout_from_boot, layout_from_config, machine_from_table, vmemmap_pages
from mmlab.machine.overheads import hash_pages
from mmlab.machine.watermarks import memory_block_bytes

SPAN = ("node", "zone", "start_pfn", "spanned", "present")


def spans(zones):
    return [(z.node, z.name, z.start_pfn, z.spanned, z.present) for z in zones]


def machine(**table):
    return layout_from_config(machine_from_table(table))


@pytest.mark.parametrize("entry", recorded.CASES, ids=recorded.NAMES)
def test_zones_from_the_description_alone(entry):
    assert spans(layout_from_config(recorded.config(entry)).zones) == [tuple(z[k] for k in SPAN) for z in entry["zones"]]


@pytest.mark.parametrize("entry", recorded.CASES, ids=recorded.NAMES)
def test_managed_from_the_description_is_within_six_pages(entry):
    managed = [z.managed for z in layout_from_config(recorded.config(entry)).zones]
    assert all(abs(got - z["managed"]) <= 6 for got, z in zip(managed, entry["zones"]))


@pytest.mark.parametrize("entry", recorded.CASES, ids=recorded.NAMES)
def test_a_boot_record_is_taken_over(entry):
    lay = recorded.layout(entry)
    assert spans(lay.zones) == [tuple(z[k] for k in SPAN) for z in entry["zones"]]
    assert [z.managed for z in lay.zones] == [z["managed"] for z in entry["zones"]]
    assert all(sum(b - a for a, b in z.ranges) == z.present for z in lay.zones)


@pytest.mark.parametrize("entry", [c for c in recorded.CASES if "block" in c], ids=lambda c: c["case"])
def test_managed_at_setup_is_within_the_recorded_bounds(entry):
    for z, row in zip(recorded.layout(entry, with_setup=False).zones, entry["zones"]):
        assert row["setup"][0] <= z.managed_at_setup <= row["setup"][1]


def test_block_size():
    assert all(f"{recorded.layout(c).block_size_bytes:x}" == str(c["block"]) for c in recorded.CASES if "block" in c)
    assert memory_block_bytes(64 << 18) == 2 << 30
    assert memory_block_bytes((65 << 18) + 3 * 32768) == 128 << 20
    assert memory_block_bytes((64 << 30) + (256 << 20) >> 12) == 256 << 20


def test_present_ranges_of_a_machine_with_holes():
    lay = recorded.layout(recorded.case("memmap-hole"))
    assert lay.zone(0, "DMA").ranges == ((1, 159), (256, 4096))
    assert lay.zone(0, "DMA32").ranges == ((4096, 131072), (147456, 230656), (231424, 262109))
    with pytest.raises(KeyError, match="no zone Normal"):
        lay.zone(0, "Normal")


def test_the_map_is_split_at_3g_once_memory_reaches_3_5g():
    below, above = machine(memory="3583M"), machine(memory="3584M")
    assert below.max_pfn == (3583 << 8) - 35
    assert above.zone(0, "DMA32").ranges == ((4096, (3 << 18) - 35),)
    assert above.zone(0, "Normal").ranges == ((1 << 20, (1 << 20) + (512 << 8)),)


def test_a_disk_and_a_swap_disk_make_the_acpi_tables_grow():
    assert [machine(memory="512M", **more).max_pfn for more in ({}, {"disk": "64M"}, {"disk": "64M", "swap": "64M"})] == [
        131037,
        131034,
        131031,
    ]


def test_nodes_lie_one_after_the_other_around_the_hole():
    lay = layout_from_config(machine_from_table({"preset": "server-2node"}))
    got = [(z.node, z.name, z.ranges[0][0], z.ranges[-1][1]) for z in lay.zones]
    assert got == [
        (0, "DMA", 1, 4096),
        (0, "DMA32", 4096, (3 << 18) - 38),  # one swap disk: 38 pages of ACPI tables
        (0, "Normal", 1 << 20, 17 << 18),
        (1, "Normal", 17 << 18, 33 << 18),
    ]
    assert (lay.nr_nodes, lay.nr_cpus, lay.cpus_sharing(1)) == (2, 8, 4)


def test_a_node_without_memory_has_no_zone_but_its_cpus_count():
    lay = machine(cpus=2, nodes=[{"memory": "512M", "cpus": [0]}, {"memory": "0", "cpus": [1]}])
    assert {z.node for z in lay.zones} == {0}
    assert (lay.nr_nodes, lay.cpus_sharing(0), lay.cpus_sharing(1)) == (2, 1, 1)


@pytest.mark.parametrize(
    ("cmdline", "starts"),
    [
        # kernelcore is shared evenly: 256M a node, from each node's start; node 0's part begins with 4095 - 97 pages below 16M,
        # which count as kernelcore: 65536 - 3998 pages from 4096 on, rounded up to 1024
        ("kernelcore=512M", {0: 66560, 1: 196608}),
        ("movablecore=512M", {0: 66560, 1: 196608}),
        ("movablecore=50%", {0: 66560, 1: 196608}),
        ("kernelcore=4G", {}),
        ("movablecore=0", {}),
    ],
)
def test_movable_on_two_nodes(cmdline, starts):
    lay = machine(memory="1G", nodes=[{"memory": "512M", "cpus": [0]}, {"memory": "512M"}], cmdline=cmdline)
    assert {z.node: z.start_pfn for z in lay.zones if z.name == "Movable"} == starts


def test_kernelcore_that_a_small_node_cannot_hold_goes_to_the_other():
    lay = machine(memory="1G", nodes=[{"memory": "128M", "cpus": [0]}, {"memory": "896M"}], cmdline="kernelcore=512M")
    # node 0 holds 32768 - 98 of its 65536; node 1 takes all else, 131072 - 32670 pages from 32768 on: 131170, rounded up to 1024
    assert [(z.node, z.start_pfn) for z in lay.zones if z.name == "Movable"] == [(1, 132096)]


def test_the_memory_model_decides_over_struct_pages():
    cfg = machine_from_table({"memory": "6G"})
    calls = []

    def flat(start, end):
        calls.append((start, end))
        return -(-(end - start) // 64)

    default = layout_from_config(cfg).totalram_pages
    flat_map = layout_from_config(cfg, flat, memmap_over_holes=True).totalram_pages
    assert calls == [(1, 7 << 18)]
    # 48 sections of 512 pages with vmemmap; one struct page for all 7 GiB of addresses flat
    assert default - flat_map == (7 << 18) // 64 - 48 * 512
    calls.clear()
    layout_from_config(cfg, flat)
    assert calls == [(1, 3 << 18), (1 << 20, 7 << 18)]  # the hole of the ACPI tables ends with its section


def test_vmemmap_is_whole_sections():
    assert [vmemmap_pages(a, b) for a, b in ((0, 1), (0, 32768), (0, 32769), (32767, 32769), (1 << 20, (1 << 20) + 65536))] == [
        512,
        512,
        1024,
        1024,
        1024,
    ]


def test_hash_tables_halve_with_memory():
    # 512M: 131072 free pages: 65536 buckets of 8 bytes (dentry), 32768 (inode)
    assert hash_pages(131072) == 128 + 64
    assert hash_pages(65537) == 128 + 64
    assert hash_pages(65536) == 64 + 32
    # above 64 GiB (16 Mi pages) each fourfold size halves the density once
    assert hash_pages(32 << 20) == 8 * (8 << 20) // 4096 + 8 * (4 << 20) // 4096


def test_too_small_for_the_kernel():
    with pytest.raises(InputError, match="machine.memory: too small for the kernel"):
        machine(memory="32M")


def test_a_modules_memory_is_normal_on_node_0_behind_ram():
    lay = machine(memory="4G", maxmem="8G", dimms=["512M", "256M"])
    z = lay.zone(0, "Normal")
    assert (z.start_pfn, z.spanned, z.present) == (1 << 20, (1 << 18) + (768 << 8), (1 << 18) + (768 << 8))
    assert z.managed > 768 << 8


def test_given_setup_counts_win():
    entry = recorded.case("zones-512m")
    zones = [dict(z, managed_at_setup=n) for z, n in zip(entry["zones"], (3840, 100000))]
    assert layout_from_boot({"zones": zones}, recorded.config(entry)).zones[1].managed_at_setup == 100000


def test_a_hole_of_unknown_place_is_at_the_end():
    zone = {"node": 0, "zone": "Normal", "start_pfn": 1 << 20, "spanned": 1000, "present": 900, "managed": 800}
    assert layout_from_boot({"zones": [zone]}, machine_from_table({})).zones[0].ranges == (((1 << 20), (1 << 20) + 900),)
