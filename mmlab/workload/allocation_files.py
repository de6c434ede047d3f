"""Allocator streams from files, by format."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mmlab.workload.allocations import Allocations, read_allocations
from mmlab.workload.kmem_trace import read_kmem_trace
from mmlab.workload.llfree_trace import read_llfree_trace

ALLOCATION_FORMATS: dict[str, Callable[[Path, str], Allocations]] = {
    "npz": lambda path, events: read_allocations(path),
    "kmem": read_kmem_trace,
    "llfree": lambda path, events: read_llfree_trace(path),
}
_ENDINGS = {".npz": "npz", ".llfree": "llfree"}


def read_allocation_file(path: Path, format: str = "", events: str = "auto") -> Allocations:
    """The stream of a file. format: one of ALLOCATION_FORMATS, "" by the ending; events: see read_kmem_trace(). Raises InputError as the readers do."""
    return ALLOCATION_FORMATS[format or _ENDINGS.get(path.suffix, "kmem")](path, events)
