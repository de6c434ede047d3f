"""Compressed memory as files: zswap's settings (module parameters) and figures (debugfs), and a zram device's.

Models: mm/zswap.c zswap_debugfs_init() and its module parameters; drivers/block/zram/zram_drv.c mm_stat_show(), io_stat_show(),
disksize_show(). Left out: the compressor's choice (the ratio is the machine's), zpools but zsmalloc, zram's settings.
"""

from __future__ import annotations

import re
from typing import Any

from mmlab.errors import NotSupported
from mmlab.model import rows as r
from mmlab.model.const import EINVAL, PAGE_SIZE

PARAMETERS, DEBUGFS = "/sys/module/zswap/parameters/", "/sys/kernel/debug/zswap/"
_ZRAM = re.compile(r"/sys/block/(zram\d+)/(mm_stat|io_stat|disksize)")
FIXED = {"compressor": "lzo", "zpool": "zsmalloc"}
SWITCHES = {"enabled": r.ZSW_ENABLED, "shrinker_enabled": r.ZSW_SHRINKER}
HEADER_BYTES, HEADER_ZSPAGE = 63, 5 * PAGE_SIZE  # the page that mkswap wrote, measured; its memory is among what boot left in use
NUMBERS = {"max_pool_percent": r.ZSW_MAX_POOL_PERCENT, "accept_threshold_percent": r.ZSW_ACCEPT_PERCENT}
FIGURES: dict[str, int | None] = {
    "pool_limit_hit": r.ZSW_POOL_LIMIT_HIT, "pool_total_size": None, "reject_alloc_fail": r.ZSW_REJECT_ALLOC_FAIL, "reject_compress_fail": None,
    "reject_compress_poor": r.ZSW_REJECT_COMPRESS_POOR, "reject_kmemcache_fail": None, "reject_reclaim_fail": r.ZSW_REJECT_RECLAIM_FAIL,
    "stored_pages": r.ZSW_STORED, "written_back_pages": r.ZSW_WRITTEN_BACK,
}  # fmt: skip


def knows(path: str) -> bool:
    """Whether the path is one of these files."""
    return path in paths() or _ZRAM.fullmatch(path) is not None


def paths() -> list[str]:
    """zswap's files."""
    return [*(PARAMETERS + name for name in (*SWITCHES, *FIXED, *NUMBERS)), *(DEBUGFS + name for name in FIGURES)]


def read(sim: Any, path: str) -> str:
    """The file's text; FileNotFoundError for a zram device that the machine does not have."""
    zswap = sim.machine.zswap
    name = path.rpartition("/")[2]
    if match := _ZRAM.fullmatch(path):
        return _zram(sim, match[1], match[2], path)
    if path.startswith(DEBUGFS):
        if name == "pool_total_size":
            return f"{int(sim.machine.zs_pool[r.ZSP_PAGES]) * PAGE_SIZE}\n"
        return f"{0 if FIGURES[name] is None else int(zswap[FIGURES[name]])}\n"
    if name in SWITCHES:
        return "Y\n" if zswap[SWITCHES[name]] else "N\n"
    return f"{FIXED[name] if name in FIXED else int(zswap[NUMBERS[name]])}\n"


def write(sim: Any, path: str, text: str) -> int:
    """A parameter: 0, or -EINVAL; NotSupported for what is not simulated."""
    name, value = path.rpartition("/")[2], text.strip()
    if path.startswith(PARAMETERS):
        if name in SWITCHES:
            on = {"y": 1, "1": 1, "t": 1, "on": 1, "n": 0, "0": 0, "f": 0, "off": 0}.get(value.lower())
            if on is None:
                return -EINVAL
            sim.machine.zswap[SWITCHES[name]] = on
            return 0
        elif name in NUMBERS:
            if not value.isdigit() or int(value) > (100 if name == "accept_threshold_percent" else 1 << 32):
                return -EINVAL
            sim.machine.zswap[NUMBERS[name]] = int(value)
            return 0
        elif FIXED.get(name) == value:
            return 0
    raise NotSupported(f"{path} = {value}: not supported yet")


def _zram(sim: Any, name: str, file: str, path: str) -> str:
    names = [device.name for device in sim.cfg.swap_devices]
    if name not in names:
        raise FileNotFoundError(path)
    number = names.index(name)
    device = sim.cfg.swap_devices[number]
    if file == "disksize":
        return f"{device.size_bytes}\n"
    if file == "io_stat":
        return "       0        0        0        0\n"  # failed reads and writes, invalid, notified frees
    base, info = (1 + number) * r.ZS_POOL_STRIDE, number * r.SWAP_INFO_STRIDE
    pages, stored, objects, most = (int(sim.machine.zs_pool[base + field]) for field in (r.ZSP_PAGES, r.ZSP_BYTES, r.ZSP_OBJECTS, r.ZSP_MAX_PAGES))
    first = int(sim.machine.swap_info[info + r.SI_FIRST])
    slots = slice(first, first + device.pages)
    classes = sim.machine.swap_class[slots][sim.machine.zram[slots] > 0]
    huge = int((sim.machine.compress[classes] == PAGE_SIZE).sum())
    figures = (
        (objects + 1) * PAGE_SIZE, stored + HEADER_BYTES, pages * PAGE_SIZE + HEADER_ZSPAGE, 0, most * PAGE_SIZE + HEADER_ZSPAGE, 0, 0, huge, huge,
    )
    return f"{figures[0]:8} " + " ".join(f"{value:8}" for value in figures[1:]) + "\n"
