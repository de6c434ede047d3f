"""What each size of huge page counts: ``hugepages-NkB/stats/NAME``, and all of them in the one file that a snapshot keeps.

Models: mm/huge_memory.c anon_stats_attrs, file_stats_attrs, any_stats_attrs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from mmlab.model import rows as r

STAT = re.compile(r"/sys/kernel/mm/transparent_hugepage/hugepages-(\d+)kB/stats/(\w+)")
ORDERS = range(1, 10)
FILES_ONLY = 1  # the order that anonymous memory does not have
NAMES = tuple(name for name in r.MTHP_NAMES if name != "shmem_fallback_charge")


def _names(order: int) -> tuple[str, ...]:
    anon = ("anon_fault_alloc", "anon_fault_fallback", "anon_fault_fallback_charge", "split_deferred", "nr_anon", "nr_anon_partially_mapped")
    return tuple(name for name in NAMES if order != FILES_ONLY or name not in anon)


def _value(sim: Any, order: int, name: str) -> int:
    return int(sim.machine.mthp[order * r.MTHP_STRIDE + r.MTHP_NAMES.index(name)])


def lines(sim: Any) -> Iterator[str]:
    """``64kB.nr_anon 3`` for every size and name."""
    for order in ORDERS:
        for name in _names(order):
            yield f"{4 << order}kB.{name} {_value(sim, order, name)}\n"


def knows(path: str) -> bool:
    """Whether the path is such a file."""
    match = STAT.fullmatch(path)
    return match is not None and any(4 << order == int(match[1]) and match[2] in _names(order) for order in ORDERS)


def read(sim: Any, path: str) -> str:
    """The counter's text; the path is known."""
    match = STAT.fullmatch(path)
    assert match is not None
    return f"{_value(sim, (int(match[1]) // 4).bit_length() - 1, match[2])}\n"
