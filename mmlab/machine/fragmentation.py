"""External fragmentation of a zone, from counts of free blocks by order (all migratetypes together)."""

from __future__ import annotations

from collections.abc import Sequence


def extfrag_index(free_blocks: Sequence[int], order: int) -> int:
    """Fragmentation index times 1000 for an allocation of ``order``: -1000 it would succeed, near 0 memory is short, 1000 fragmented.

    Models: mm/vmstat.c __fragmentation_index()
    """
    blocks = sum(free_blocks)
    if not blocks:
        return 0
    if any(free_blocks[order:]):
        return -1000
    pages = sum(n << o for o, n in enumerate(free_blocks))
    return 1000 - (1000 + pages * 1000 // (1 << order)) // blocks


def unusable_index(free_blocks: Sequence[int], order: int) -> int:
    """Share of free memory, times 1000, in blocks too small for ``order``. Models: mm/vmstat.c unusable_free_index()."""
    pages = sum(n << o for o, n in enumerate(free_blocks))
    if not pages:
        return 1000
    suitable = sum(n << o for o, n in enumerate(free_blocks) if o >= order)
    return (pages - suitable) * 1000 // pages


def format_index(index: int) -> str:
    """``0.953`` or ``-1.000``, as debugfs prints it."""
    sign = "-" if index < 0 else ""
    return f"{sign}{abs(index) // 1000}.{abs(index) % 1000:03d}"
