"""The starting state, and that nothing Linux computes is read from a record."""

import copy
from pathlib import Path

import machine_records as recorded
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmlab import procfs
from mmlab._engine.simulate_case import simulation_of
from mmlab.kernels.jit import kernel
from mmlab.kernels.zones import page_node
from mmlab.machine import ZoneTuning, boot_from_json, build_machine, fresh_boot, layout_from_boot, layout_from_config, machine_from_table
from mmlab.machine.boot import aligned_orders
from mmlab.machine.record import LRU_LISTS, MIGRATE_TYPES, TOTALS
from mmlab.mm.memblock import memblock_alloc
from mmlab.model import rows
from mmlab.model.const import ENOMEM
from mmlab.model.page import KIND_BOOT, KIND_KERNEL
from mmlab.procfs.walk import entries, mapped_pages
from mmlab.simulation import Simulation
from mmlab.verify.cases import read_case
from mmlab.verify.probe_run import dump_state

GROUND_TRUTH = Path(__file__).resolve().parents[2] / "ground_truth"

# A boot.json, shortened: zones-512m as recorded.
NO_BLOCKS = {t: [0] * 11 for t in MIGRATE_TYPES}
BOOT = {
    "snapshot": "boot",
    "zones": [
        {"node": 0, "zone": "DMA", "spanned": 4095, "present": 3998, "managed": 3840, "free": 3808, "boost": 0,
         "min": 22, "low": 27, "high": 32, "promo": 37, "protection": [0, 438, 438, 438, 438], "start_pfn": 1,
         "pcp": [{"count": 0, "high": 0, "batch": 1}],
         "lru": dict.fromkeys(LRU_LISTS, 0),
         "free_lists": NO_BLOCKS | {"Unmovable": [0, 0, 0, 0, 0, 1, 1, 1, 0, 0, 0], "Movable": [0] * 9 + [1, 3]}},
        {"node": 0, "zone": "DMA32", "spanned": 126941, "present": 126941, "managed": 114464, "free": 102816, "boost": 0,
         "min": 658, "low": 822, "high": 986, "promo": 1150, "protection": [0, 0, 0, 0, 0], "start_pfn": 4096,
         "pcp": [{"count": 3278, "high": 6850, "batch": 31}],
         "lru": dict.fromkeys(LRU_LISTS, 0) | {"active_anon": 1351, "unevictable": 462},
         "free_lists": NO_BLOCKS | {"Movable": [1, 0, 0, 0, 1, 0, 0, 1, 0, 0, 99], "Reclaimable": [1, 0, 0, 1, 1, 0, 1, 0, 0, 1, 0]}},
    ],
    "lru": dict.fromkeys(LRU_LISTS + TOTALS, 0)
    | {"active_anon": 1351, "unevictable": 462, "slab_unreclaimable": 1925, "page_table_pages": 21},
    "meminfo": {"MemTotal": 473216, "MemFree": 426496, "MemAvailable": 421028, "CommitLimit": 236608, "Committed_AS": 7564},
}  # fmt: skip
CFG = machine_from_table({"memory": "512M"})


def test_what_a_record_says():
    b = boot_from_json(BOOT)
    dma, dma32 = b.zones
    assert dma.nr_free == 3808
    assert (dma32.pcp[0].count, dma32.pcp[0].high) == (3278, 6850)
    assert dma32.free_lists["Reclaimable"] == (1, 0, 0, 1, 1, 0, 1, 0, 0, 1, 0)
    assert (dma32.lru["active_anon"], b.lru["unevictable"], b.totals["slab_unreclaimable"], b.committed_as_kb) == (1351, 462, 1925, 7564)


def test_computed_figures_in_a_record_are_never_read():
    garbage = copy.deepcopy(BOOT)
    for z in garbage["zones"]:
        for key in ("min", "low", "high", "promo", "boost", "free", "protection"):
            z[key] = "garbage"
        for p in z["pcp"]:
            p["batch"] = p["high_min"] = p["high_max"] = "garbage"
        z["pcp_limits"] = z["threshold"] = "garbage"
    for key in ("MemTotal", "MemFree", "MemAvailable", "CommitLimit"):
        garbage["meminfo"][key] = "garbage"
    garbage["snapshot"] = "garbage"
    without = copy.deepcopy(garbage)
    for z in without["zones"]:
        for key in ("min", "low", "high", "promo", "boost", "free", "protection", "pcp_limits", "threshold"):
            del z[key]
    for record in (garbage, without):
        assert boot_from_json(record) == boot_from_json(BOOT)
        assert layout_from_boot(record, CFG) == layout_from_boot(BOOT, CFG)
        got, want = ZoneTuning(layout_from_boot(record, CFG)), ZoneTuning(layout_from_boot(BOOT, CFG))
        assert (got.wmark, got.lowmem_reserve, got.pcp) == (want.wmark, want.lowmem_reserve, want.pcp)


def test_a_record_can_be_the_machine():
    cfg = machine_from_table({"memory": "512M", "boot": BOOT})
    _, lay, boot = build_machine(cfg)
    assert lay == layout_from_boot(BOOT, CFG) and boot == boot_from_json(BOOT)


@pytest.mark.parametrize("entry", recorded.CASES, ids=recorded.NAMES)
def test_a_fresh_machine_has_all_managed_pages_free(entry):
    lay = layout_from_config(recorded.config(entry))
    boot = fresh_boot(lay)
    assert [(z.node, z.name, z.nr_free) for z in boot.zones] == [(z.node, z.name, z.managed) for z in lay.zones]
    assert all(len(z.pcp) == lay.nr_cpus for z in boot.zones)


def test_blocks_are_naturally_aligned():
    assert aligned_orders(4096 + 3, 4096 + 16) == [0, 2, 3]
    assert aligned_orders(0, 3000) == [10, 10, 9, 8, 7, 5, 4, 3]


@given(st.integers(0, 1 << 21), st.integers(0, 5000))
def test_blocks_cover_the_range_exactly(start, length):
    pfn = start
    orders = aligned_orders(start, start + length)
    for order in orders:
        assert order <= 10 and pfn % (1 << order) == 0
        # no larger block would fit here
        assert order == 10 or pfn % (2 << order) or pfn + (2 << order) > start + length
        pfn += 1 << order
    assert pfn == start + length


def test_every_free_block_of_a_record_has_its_place():
    """Even in a zone of which all but 32 pages are free, where not every block finds a place of twice its size."""
    sim = Simulation.from_table({"memory": "512M", "cpus": 1, "boot": BOOT})
    rows = procfs.read(sim, "/proc/pagetypeinfo").splitlines()
    for zone in BOOT["zones"]:
        blocks = {(order, name): n for name, counts in zone["free_lists"].items() for order, n in enumerate(counts) if n}
        found = [line.split() for line in rows if f"zone {zone['zone']:>8}, type" in line]
        assert {(order, words[5]): int(n) for words in found for order, n in enumerate(words[6:]) if int(n)} == blocks
    assert sim.check_state() == []


@kernel
def node_of(m, pfn):
    """A frame's node."""
    return page_node(m, pfn)


@pytest.mark.nojit
@pytest.mark.parametrize("case, node", [("numa-balancing", 0), ("numa-cpuset", 1)])
def test_programs_of_the_image_lie_on_the_node_where_boot_left_pages_on_lists(case, node):
    """The boot record of one case has 559 active pages on node 0, that of the other 1352 on node 1."""
    sim = simulation_of(read_case(GROUND_TRUTH / "monitor" / case))
    machine = sim.machine
    text = mapped_pages(machine, entries(machine, 0, 0x401, 0x49D)).pfn.tolist()
    assert {machine.run(node_of, int(pfn)) for pfn in text} == {node} and len(text) > 100


def test_what_many_pages_on_a_cpus_lists_are():
    """Of 3278 pages that the record counts 512 are one unmovable block, and 38 % of the others are unmovable; movable allocations get none of these
    until the lists are drained."""
    sim = Simulation.from_table({"memory": "512M", "cpus": 1, "boot": BOOT})
    pcp = dump_state(sim.machine)[1]["pcp"][0]
    singles = 3278 - 512
    unmovable = singles * 38 // 100
    assert pcp["count"] == 3278
    assert {index: len(pfns) for index, pfns in pcp["lists"].items()} == {"0": unmovable, "1": singles - unmovable, "12": 1}
    assert sim.check_state() == []


def test_boots_memory_is_taken_from_every_zone_of_any_start():
    """The programs of the image lie on the first zone, say; what boot left there may be too little for all that the script's driver has."""
    sim = simulation_of(read_case(GROUND_TRUTH / "allocators" / "numa-node-numbers"))
    machine, zones = sim.machine, sim.layout.zones
    machine.sc[rows.SC_MEMBLOCK_FIRST] = machine.sc[rows.SC_MEMBLOCK_ZONE] = 1
    machine.sc[rows.SC_MEMBLOCK_PFN] = zones[1].end_pfn
    kinds = machine.pagex[3::4] >> 12 & 15
    for zone in zones:
        for start, end in zone.ranges:
            used = start + np.flatnonzero(kinds[start:end] == KIND_BOOT)
            machine.pagex[4 * used[:-2] + 3] ^= (KIND_BOOT ^ KIND_KERNEL) << 12  # leave two
    left = sum(int(np.count_nonzero((machine.pagex[3::4] >> 12 & 15)[start:end] == KIND_BOOT)) for z in zones for start, end in z.ranges)
    pfns = [machine.run(memblock_alloc, 0, 0, -1) for _ in range(left)]
    at = [next(i for i, z in enumerate(zones) if z.start_pfn <= pfn < z.end_pfn) for pfn in pfns]
    assert list(dict.fromkeys(at)) == [1, 0, *range(len(zones) - 1, 1, -1)]
    assert machine.run(memblock_alloc, 0, 0, -1) == -ENOMEM
