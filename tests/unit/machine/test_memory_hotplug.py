"""Memory blocks go offline, come back, are removed and added; what follows from the amount of memory follows."""

from __future__ import annotations

import pytest

from mmlab.errors import InputError, NotSupported
from mmlab.mm.page_alloc import alloc_pages
from mmlab.model import rows as r
from mmlab.model.const import WRITE
from mmlab.model.gfp import GFP_HIGHUSER_MOVABLE, GFP_KERNEL, GFP_THISNODE
from mmlab.procfs import read, write
from mmlab.simulation import Simulation

ROOT = "/sys/devices/system/memory/"


def a_machine(cmdline: str = "", policies=None, **more) -> Simulation:
    never = {"kernel/mm/transparent_hugepage/enabled": "never"}
    table = {"memory": "1G", "dimms": ["512M"], "maxmem": "4G", "cpus": 1, "cmdline": cmdline} | more
    return Simulation.from_table(table, sysfs=never, policies=policies)


def normal(sim: Simulation):
    return sim.layout.zone(0, "Normal")


def zone_value(sim: Simulation, name: str, field: str) -> int:
    text = read(sim, "/proc/zoneinfo").split(f"zone {name:>8}")[1].split("Node")[0]
    return int(next(line.split()[-1] for line in text.splitlines() if line.split()[:1] == [field]))


def blocks(sim: Simulation, state: str) -> list[int]:
    return [block for block in sim.blocks.state if read(sim, f"{ROOT}memory{block}/state") == state + "\n"]


def test_blocks_of_128_mib_with_their_state():
    sim = a_machine()
    first = normal(sim).start_pfn >> 15
    assert blocks(sim, "online")[-4:] == [first, first + 1, first + 2, first + 3]
    assert read(sim, f"{ROOT}memory{first}/phys_index") == f"{first:08x}\n" and read(sim, f"{ROOT}memory{first}/online") == "1\n"
    with pytest.raises(FileNotFoundError):
        read(sim, f"{ROOT}memory9999/state")
    assert write(sim, f"{ROOT}memory9999/state", "offline") == -2


def test_offline_and_online_again():
    sim = a_machine()
    before = normal(sim), read(sim, "/proc/meminfo")
    block = (normal(sim).end_pfn >> 15) - 1
    sim.spawn("A")
    addr = sim.mmap("A", 40_000 << 12)
    sim.touch("A", addr, 40_000, WRITE)
    free = int(sim.machine.zone[r.Z_FREE :: r.ZONE_STRIDE].sum())
    assert write(sim, f"{ROOT}memory{block}/state", "offline") == 0
    assert normal(sim).present == zone_value(sim, "Normal", "present") == before[0].present - 32768
    assert zone_value(sim, "Normal", "managed") == before[0].managed - 32768 and normal(sim).end_pfn == block << 15
    assert 0 < free - int(sim.machine.zone[r.Z_FREE :: r.ZONE_STRIDE].sum()) - 32768 + 40_000 < 41_000
    assert int(read(sim, "/proc/meminfo").split()[1]) == int(before[1].split()[1]) - 4 * 32768
    assert write(sim, f"{ROOT}memory{block}/state", "offline") == -22
    assert sim.check_state() == []
    got = [sim.machine.run(alloc_pages, GFP_HIGHUSER_MOVABLE, 9, 0) for _ in range(100)]
    assert not any(pfn >> 15 == block for pfn in got)
    low, least = sim.tuning.lowmem_reserve[1][2], int(read(sim, "/proc/sys/vm/min_free_kbytes"))
    assert low == 3 * 32768 // 256  # DMA32 keeps this from requests that could use Normal
    assert write(sim, f"{ROOT}memory{block}/online", "1") == 0
    assert normal(sim) == before[0] and sim.tuning.lowmem_reserve[1][2] == 4 * 32768 // 256
    assert int(read(sim, "/proc/sys/vm/min_free_kbytes")) > least
    assert sim.check_state() == []


def test_what_lies_in_a_block_moves_and_what_cannot_stops_it():
    sim = a_machine()
    first = normal(sim).start_pfn
    sim.spawn("A")
    addr = sim.mmap("A", 50_000 << 12)
    sim.touch("A", addr, 50_000, WRITE)
    block = (first >> 15) + 1
    assert write(sim, f"{ROOT}memory{block}/state", "offline") == 0
    moved = int(sim.machine.vmstat[_index("pgmigrate_success")])
    assert 50_000 - 32768 - 2048 < moved <= 32768
    assert sim.check_state() == []
    other = first >> 15  # page tables lie there
    assert any(sim.machine.run(alloc_pages, GFP_KERNEL, 0, 0) >> 15 == other for _ in range(100))
    assert write(sim, f"{ROOT}memory{other}/state", "offline") == -16
    assert read(sim, f"{ROOT}memory{other}/state") == "online\n"
    assert sim.check_state() == []


def _index(name: str) -> int:
    from mmlab.model.vmstat import VMSTAT_NAMES

    return VMSTAT_NAMES.index(name)


def test_a_module_is_taken_out_and_put_back():
    sim = a_machine()
    first = normal(sim).start_pfn
    assert write(sim, "/sys/bus/acpi/devices/PNP0C80:00/eject", "1") == 0
    assert normal(sim).present == 0 and not any(i == sim.layout.zones.index(normal(sim)) for i in sim.machine.zonelist[:8])
    assert sim.machine.op("memory_model", "pfn_valid", first) == 0
    assert "zone   Normal" not in read(sim, "/proc/buddyinfo")
    assert sim.machine.run(alloc_pages, GFP_KERNEL | GFP_THISNODE, 0, 0) < first
    assert sim.tuning.lowmem_reserve[1][2] == 0  # DMA32 is the highest again
    assert sim.check_state() == []
    assert write(sim, "/sys/bus/acpi/devices/PNP0C80:00/eject", "1") == -22 and write(sim, "/sys/bus/acpi/devices/PNP0C80:01/eject", "1") == -2
    for number in range(4):
        assert write(sim, ROOT + "probe", hex((first << 12) + (number << 27))) == 0
    assert write(sim, ROOT + "probe", hex(first << 12)) == -17 and write(sim, ROOT + "probe", hex((first << 12) + 4096)) == -22
    assert normal(sim).present == 131072 and sim.machine.run(alloc_pages, GFP_KERNEL, 0, 0) >= first
    assert sim.tuning.lowmem_reserve[1][2] == 131072 // 256
    assert sim.check_state() == []


def test_modules_that_are_movable():
    """512 MiB above 4 GiB: ZONE_MOVABLE, and no zone Normal."""
    sim = a_machine("memhp_default_state=online_movable")
    movable = next(zone for zone in sim.layout.zones if zone.name == "Movable")
    assert (movable.start_pfn, movable.present, movable.managed) == (1 << 20, 131072, 131072)
    assert all(zone.name != "Normal" for zone in sim.layout.zones)
    assert sim.tuning.wmark[-1].min == 128 and sim.machine.run(alloc_pages, GFP_HIGHUSER_MOVABLE, 0, 0) >= 1 << 20  # 1/1024 of the zone
    assert sim.check_state() == []


def test_modules_that_wait_to_be_made_online():
    sim = a_machine("memhp_default_state=offline")
    assert normal(sim).present == 0 and len(blocks(sim, "offline")) == 4
    assert sim.tuning.lowmem_reserve[1][2] == 0 and "zone   Normal" not in read(sim, "/proc/buddyinfo")
    for block in blocks(sim, "offline"):
        assert write(sim, f"{ROOT}memory{block}/state", "online") == 0
    assert normal(sim).present == 131072
    assert sim.check_state() == []


def test_sections_of_the_classic_model_come_and_go():
    sim = a_machine(policies={"memory_model": {"use": "sparsemem"}})
    first = normal(sim).start_pfn
    for _ in range(3):
        assert write(sim, "/sys/bus/acpi/devices/PNP0C80:00/eject", "1") == 0
        assert sim.machine.op("memory_model", "pfn_valid", first) == 0
        for number in range(4):
            assert write(sim, ROOT + "probe", hex((first << 12) + (number << 27))) == 0
        page = sim.machine.op("memory_model", "pfn_to_page", first + 77)
        assert sim.machine.op("memory_model", "page_to_pfn", page) == first + 77
        assert sim.check_state() == []


def test_flatmem_refuses():
    sim = a_machine(policies={"memory_model": {"use": "flatmem"}})
    block = normal(sim).start_pfn >> 15
    for path, text in ((f"{ROOT}memory{block}/state", "offline"), (ROOT + "probe", "0x100000000"), ("/sys/bus/acpi/devices/PNP0C80:00/eject", "1")):
        with pytest.raises(NotSupported, match="memory model 'flatmem' has one array of struct pages"):
            write(sim, path, text)
    with pytest.raises(NotSupported, match="flatmem"):
        a_machine("memhp_default_state=offline", policies={"memory_model": {"use": "flatmem"}})


def test_bad_words():
    sim = a_machine()
    block = normal(sim).start_pfn >> 15
    assert write(sim, f"{ROOT}memory{block}/state", "gone") == -22 and write(sim, ROOT + "probe", "x") == -22
    with pytest.raises(NotSupported, match="online_movable"):
        write(sim, f"{ROOT}memory{block}/state", "online_movable")
    with pytest.raises(InputError, match="machine.cmdline: memhp_default_state: must be online, online_kernel, online_movable or offline, got 'maybe'"):
        a_machine("memhp_default_state=maybe")


def test_watermarks_and_reserves_as_a_kernel_has_them():
    """1 GiB and a module of 512 MiB, one block of which goes offline and comes back: measured on Linux 6.12."""
    sim = Simulation.from_table({"memory": "1G", "dimms": ["512M"], "maxmem": "4G", "cpus": 1})
    seen = []
    for word in ("online", "offline", "online"):
        write(sim, ROOT + "memory35/state", word)
        marks = [(zone_value(sim, name, "min"), zone_value(sim, name, "low")) for name in ("DMA32", "Normal")]
        seen.append((*marks, zone_value(sim, "Normal", "spanned"), sim.tuning.lowmem_reserve[1][2]))
    assert seen == [
        ((10553, 13191), (6162, 7702), 131072, 512),
        ((11275, 14093), (4888, 6110), 98304, 384),
        ((10592, 13240), (6123, 7653), 131072, 512),
    ]


def test_a_look_at_the_reserve_ratio_sets_reserves_up_from_what_zones_manage_now():
    """Its handler does not ask whether it is a write. 1 GiB: at boot the reserve is of the pages before the initial RAM disk was freed."""
    sim = Simulation.from_table({"memory": "1G", "cpus": 1})
    dma32 = next(zone for zone in sim.layout.zones if zone.name == "DMA32")
    reserve = r.Z_LOWMEM_RESERVE + 1  # of zone DMA against requests for DMA32
    assert sim.machine.zone[reserve] == dma32.managed_at_setup // 256 != dma32.managed // 256
    assert read(sim, "/proc/sys/vm/lowmem_reserve_ratio").split() == ["256", "256", "32", "0", "0"]
    assert sim.machine.zone[reserve] == dma32.managed // 256
