"""Starting a machine's swap devices: their rows, and the tables that compressed pages need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mmlab._engine.machine import Machine
from mmlab.machine.swap_devices import PAGE_BYTES, SwapDevice
from mmlab.mm.swap_slots import swapon
from mmlab.mm.zsmalloc import huge_class_size, size_classes
from mmlab.model import rows as r


def nr_swap_slots(devices: Sequence[SwapDevice]) -> int:
    """Length of the arrays of slots: slot 0 and what can be used of each device."""
    return 1 + sum(device.pages for device in devices) if devices else 0


def start_swap(machine: Machine, devices: Sequence[SwapDevice], compressed: Mapping[str, tuple[int, int]], script: bool) -> None:
    """Start the devices, highest priority first. compressed: (zram's, zswap's) bytes by class name; script: tasks store little
    and write() zeroes, as the scripts' executor does."""
    for device in devices:
        flags = r.SWAP_SSD * (not device.rotational) | r.SWAP_SYNCHRONOUS * device.zram
        machine.run(swapon, device.pages + 1, flags, device.priority)
    machine.sc[r.SC_STORE_CLASS] = r.CLASS_TOUCHED if script else r.CLASS_DATA
    machine.sc[r.SC_WRITE_CLASS] = r.CLASS_ZERO if script else r.CLASS_DATA
    set_compression(machine, compressed)


def set_compression(machine: Machine, compressed: Mapping[str, tuple[int, int]]) -> None:
    """Fill zsmalloc's classes and m.compress; zram keeps a page that would compress badly as it is."""
    for number, row in enumerate(size_classes()):
        machine.zs_class[number * r.ZS_STRIDE : number * r.ZS_STRIDE + len(row)] = row
    for name, (zram, zswap) in compressed.items():
        content = r.CLASS_NAMES.index(name)
        machine.compress[content] = PAGE_BYTES if zram >= huge_class_size() else zram
        machine.compress[r.NR_CLASSES + content] = zswap
    machine.zswap[[r.ZSW_MAX_POOL_PERCENT, r.ZSW_ACCEPT_PERCENT]] = 20, 90
