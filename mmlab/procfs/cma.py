"""CMA areas as files: /sys/kernel/debug/cma/AREA/ (written: allocations of so many pages) and /sys/kernel/mm/cma/AREA/ (what happened).

Models: mm/cma_debug.c, mm/cma_sysfs.c. Left out: order_per_bit other than 0.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np

from mmlab.errors import NotSupported
from mmlab.model.const import EINVAL, ENOMEM

_PATH = re.compile(r"/sys/kernel/(debug|mm)/cma/(\w+)/(\w+)")


def _runs(area: Any) -> list[int]:
    """Lengths of the free runs of an area."""
    edges = np.flatnonzero(np.diff(np.concatenate(([1], area.bitmap.astype(np.int8), [1]))))
    return [int(b - a) for a, b in zip(edges[::2], edges[1::2])]


DEBUG: dict[str, Callable[[Any], object]] = {
    "base_pfn": lambda area: area.base_pfn, "count": lambda area: area.count, "order_per_bit": lambda area: 0,
    "used": lambda area: int(area.bitmap.sum()), "maxchunk": lambda area: max(_runs(area), default=0),
}  # fmt: skip
SYSFS: dict[str, Callable[[Any], object]] = {
    "alloc_pages_success": lambda area: area.alloc_success, "alloc_pages_fail": lambda area: area.alloc_fail,
    "release_pages_success": lambda area: area.release_success,
}  # fmt: skip


def _find(sim: Any, path: str) -> tuple[str, Any, str] | None:
    match = _PATH.fullmatch(path)
    area = next((a for a in getattr(sim, "cma", []) if match and a.name == match[2]), None)
    return (match[1], area, match[3]) if match and area else None


def knows(sim: Any, path: str) -> bool:
    """Whether the path is a file of an area that the machine has."""
    found = _find(sim, path)
    return found is not None and found[2] in {"debug": [*DEBUG, "alloc", "free"], "mm": SYSFS}[found[0]]


def paths(sim: Any) -> list[str]:
    """Every readable file."""
    folders = {"/sys/kernel/debug/cma": DEBUG, "/sys/kernel/mm/cma": SYSFS}
    return [f"{folder}/{area.name}/{name}" for area in getattr(sim, "cma", []) for folder, names in folders.items() for name in names]


def read(sim: Any, path: str) -> str:
    """A file's text."""
    kind, area, name = _find(sim, path)  # type: ignore[misc]
    table = DEBUG if kind == "debug" else SYSFS
    if name not in table:
        raise NotSupported(f"{path}: can only be written")
    return f"{table[name](area)}\n"


def write(sim: Any, path: str, text: str) -> int:
    """alloc: so many frames in a row; free: so many frames of the last blocks allocated, the last first. 0 or -errno."""
    kind, area, name = _find(sim, path)  # type: ignore[misc]
    if kind != "debug" or name not in ("alloc", "free"):
        raise NotSupported(f"{path}: can only be read")
    if not text.strip().isdigit():
        return -EINVAL
    pages = int(text)
    if name == "alloc":
        pfn = area.alloc(sim.machine, pages)
        if pfn < 0:
            return -ENOMEM
        area.blocks.append((pfn, pages))
        return 0
    while pages and area.blocks:
        pfn, count = area.blocks.pop()
        taken = min(pages, count)
        area.release(sim.machine, pfn, taken)
        if taken < count:
            area.blocks.append((pfn + taken, count - taken))
        pages -= taken
    return 0
