"""The compiled core: which function is behind each service, and the entry points that Python calls."""

from __future__ import annotations

from collections.abc import Callable

from mmlab._engine.absent_services import PLACEHOLDERS
from mmlab.mm import memblock, page_alloc, vmscan

SERVICES: dict[str, Callable] = {
    **PLACEHOLDERS,
    "alloc_pages": page_alloc.alloc_pages,
    "free_pages": page_alloc.free_pages,
    "wake_kswapd": vmscan.wakeup_kswapd,
}


ENTRIES: dict[str, Callable] = {
    f.__name__: f
    for f in (
        memblock.init_heads, memblock.mark_range, memblock.mark_free, memblock.add_range, memblock.init_range, memblock.boot_free_to_pcp,
        vmscan.kswapd_step,
    )
}
