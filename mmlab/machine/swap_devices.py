"""Swap devices of a machine, and how well pages compress.

Models: mm/swapfile.c SYSCALL_DEFINE2(swapon) (priorities below zero in the order of starting), drivers/block/zram.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

PAGE_BYTES = 4096
MAX_DEVICES = 8
FIRST_PRIORITY = -2  # of a device started without one; the next has one less
PRIORITIES = range(-32768, 32768)
DEVICE_KEYS = ("size", "ssd", "zram", "priority")
#: page classes that compress, with (zram's bytes, zswap's) of a page. touched: one word stored into a page of zeroes, as scripts do it,
#: measured on Linux 6.12 with its default compressors, lz4 and lzo; data: an assumed ratio of 3
COMPRESSED_BYTES = {"touched": (27, 44), "data": (1365, 1365)}


@attrs.frozen
class SwapDevice:
    """A device: its name in /dev, bytes with the header, whether it is rotational, whether it is zram, and its priority."""

    name: str
    size_bytes: int
    rotational: bool
    zram: bool
    priority: int

    @property
    def pages(self) -> int:
        """Slots that can be used."""
        return self.size_bytes // PAGE_BYTES - 1


def lab_devices(swap_bytes: int, swap_ssd: bool, zram_bytes: int, has_disk: bool) -> tuple[SwapDevice, ...]:
    """What `swap`, `swap_ssd` and `zram` of a [machine] table stand for: the disk is started first."""
    devices = []
    if swap_bytes:
        devices.append(SwapDevice("vdc" if has_disk else "vdb", swap_bytes, not swap_ssd, False, FIRST_PRIORITY))
    if zram_bytes:
        devices.append(SwapDevice("zram0", zram_bytes, False, True, FIRST_PRIORITY - len(devices)))
    return tuple(devices)


def listed_devices(reader: Any, table_reader: Any) -> tuple[SwapDevice, ...]:
    """The devices of `swaps`, a list of {size, ssd, zram, priority}, highest priority first; errors go to the reader.

    table_reader(table, path) makes a reader of one of the tables.
    """
    devices = []
    disks, zrams = 0, 0
    priority = FIRST_PRIORITY
    rows = reader.typed("swaps", list, "a list of tables", [])
    if len(rows) > MAX_DEVICES:
        reader.bad("swaps", f"must name at most {MAX_DEVICES} devices, got {len(rows)}")
    for i, table in enumerate(rows[:MAX_DEVICES]):
        if not isinstance(table, Mapping):
            reader.bad(f"swaps[{i}]", f'must be a table such as {{size = "1G", priority = 5}}, got {table!r}')
            continue
        row = table_reader(table, f"swaps[{i}]")
        row.unknown(DEVICE_KEYS)
        size = row.size("size", 0)
        if size < 2 * PAGE_BYTES:
            row.bad("size", f"must be at least two pages (8K), header included, got {table.get('size')!r}")
        zram = row.typed("zram", bool, "true or false", False)
        given = row.integer("priority", priority, PRIORITIES.start, PRIORITIES.stop - 1)
        if "priority" not in table:
            priority -= 1
        name = f"zram{zrams}" if zram else f"vd{chr(ord('b') + disks)}"
        zrams, disks = zrams + zram, disks + (not zram)
        devices.append(SwapDevice(name, size, not (zram or row.typed("ssd", bool, "true or false", False)), zram, given))
    return tuple(sorted(devices, key=lambda device: -device.priority))


def compression(reader: Any) -> dict[str, tuple[int, int]]:
    """Compressed bytes by class from `compression = {data = 2.5}`: how many times smaller a page of the class gets."""
    bytes_of = dict(COMPRESSED_BYTES)
    for name, ratio in reader.typed("compression", Mapping, "a table of ratios by page class", {}).items():
        if name not in bytes_of:
            reader.bad(f"compression.{name}", f"no such page class (known: {', '.join(bytes_of)})")
        elif not isinstance(ratio, (int, float)) or isinstance(ratio, bool) or not 1 <= ratio <= 1000:
            reader.bad(f"compression.{name}", f"must be a ratio between 1 and 1000, got {ratio!r}")
        else:
            bytes_of[name] = (max(1, int(PAGE_BYTES / ratio)),) * 2
    return bytes_of
