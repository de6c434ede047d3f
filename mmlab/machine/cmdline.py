"""The kernel command line: the options that shape memory are read, all others are kept as they are."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import attrs

_SIZE = re.compile(r"(0x[0-9a-f]+|\d+)([kmgt]?)", re.IGNORECASE)
_SHIFT = {"": 0, "k": 10, "m": 20, "g": 30, "t": 40}
THP_MODES = ("always", "madvise", "never")
MEMMAP_KINDS = {"$": "reserved", "#": "ACPI data", "!": "persistent", "@": "usable"}


@attrs.frozen
class CoreSize:
    """A ``kernelcore=`` or ``movablecore=`` amount: bytes, or a percentage of all pages."""

    nbytes: int = 0
    percent: int | None = None

    def pages(self, totalpages: int) -> int:
        """The amount in pages of a machine of ``totalpages``."""
        if self.percent is not None:
            return totalpages * 100 * self.percent // 10000
        return self.nbytes >> 12


@attrs.frozen
class MemmapRange:
    """``memmap=SIZE$START``: the range changes its e820 kind; sizes in bytes."""

    start_bytes: int
    size_bytes: int
    kind: str


@attrs.frozen
class CmaSize:
    """``cma=SIZE[@START]``: bytes of the area for contiguous blocks, and where it begins (None: where there is room)."""

    size_bytes: int
    start_bytes: int | None = None


@attrs.frozen
class Cmdline:
    """What the command line says about memory; ``None`` where it says nothing. ``other`` keeps the options not read here, in order."""

    transparent_hugepage: str | None = None
    movablecore: CoreSize | None = None
    kernelcore: CoreSize | None = None
    mem_bytes: int | None = None
    memmap: tuple[MemmapRange, ...] = ()
    cma: CmaSize | None = None
    stack_guard_gap: int | None = None
    numa_balancing: bool | None = None
    slab_min_order: int | None = None
    slab_max_order: int | None = None
    slab_min_objects: int | None = None
    slab_nomerge: bool = False
    shuffle: bool = False
    memhp_default_state: str = "online"
    other: tuple[str, ...] = ()


def parse_memparse(text: str) -> int:
    """Bytes of ``64M``, ``0x1000`` or ``4096``, as the kernel's memparse reads it; ValueError otherwise."""
    m = _SIZE.fullmatch(text)
    if not m:
        raise ValueError(f"must be a size such as 64M, got '{text}'")
    return int(m[1], 0) << _SHIFT[m[2].lower()]


def _core(text: str) -> CoreSize:
    if text.endswith("%"):
        if not text[:-1].isdigit():
            raise ValueError(f"must be a size or a percentage, got '{text}'")
        return CoreSize(percent=int(text[:-1]))
    return CoreSize(nbytes=parse_memparse(text))


def _thp(text: str) -> str:
    if text not in THP_MODES:
        raise ValueError(f"must be one of {', '.join(THP_MODES)}, got '{text}'")
    return text


def _count(text: str) -> int:
    if not text.isdigit():
        raise ValueError(f"must be a number, got '{text}'")
    return int(text)


def _switch(text: str) -> bool:
    words = {"enable": True, "1": True, "on": True, "y": True, "disable": False, "0": False, "off": False, "n": False}
    if text not in words:
        raise ValueError(f"must be enable or disable, got '{text}'")
    return words[text]


def _memmap(text: str) -> tuple[MemmapRange, ...]:
    ranges = []
    for part in text.split(","):
        m = re.fullmatch(r"(\w+)([$#!@])(\w+)", part)
        if not m:
            raise ValueError(f"must be SIZE$START, SIZE#START, SIZE!START or SIZE@START, got '{part}'")
        ranges.append(MemmapRange(parse_memparse(m[3]), parse_memparse(m[1]), MEMMAP_KINDS[m[2]]))
    return tuple(ranges)


def _memhp(text: str) -> str:
    if text not in ("online", "online_kernel", "online_movable", "offline"):
        raise ValueError(f"must be online, online_kernel, online_movable or offline, got '{text}'")
    return text


def _cma(text: str) -> CmaSize:
    size, at, start = text.partition("@")
    return CmaSize(parse_memparse(size), parse_memparse(start) if at else None)


_OPTIONS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "transparent_hugepage": ("transparent_hugepage", _thp),
    "movablecore": ("movablecore", _core),
    "kernelcore": ("kernelcore", _core),
    "mem": ("mem_bytes", parse_memparse),
    "memmap": ("memmap", _memmap),
    "cma": ("cma", _cma),
    "memhp_default_state": ("memhp_default_state", _memhp),
    "stack_guard_gap": ("stack_guard_gap", _count),
    "numa_balancing": ("numa_balancing", _switch),
    "page_alloc.shuffle": ("shuffle", _switch),
    "slab_min_order": ("slab_min_order", _count),
    "slab_max_order": ("slab_max_order", _count),
    "slab_min_objects": ("slab_min_objects", _count),
    "slub_min_order": ("slab_min_order", _count),
    "slub_max_order": ("slab_max_order", _count),
    "slub_min_objects": ("slab_min_objects", _count),
}
_FLAGS = {"slab_nomerge": "slab_nomerge", "slub_nomerge": "slab_nomerge"}


def parse_cmdline(text: str) -> tuple[Cmdline, list[str]]:
    """Read a command line; the second value is one message per bad option (``movablecore: must be ...``), empty if all are good.

    As in the kernel, the last of repeated options counts, but every ``memmap=`` adds its ranges.
    """
    found: dict[str, Any] = {}
    other, errors = [], []
    for word in text.split():
        name, eq, value = word.partition("=")
        if not eq and name in _FLAGS:
            found[_FLAGS[name]] = True
        elif eq and name in _OPTIONS and not (name == "kernelcore" and value == "mirror"):
            field, read = _OPTIONS[name]
            try:
                got = read(value)
            except ValueError as e:
                errors.append(f"{name}: {e}")
                continue
            found[field] = found.get(field, ()) + got if field == "memmap" else got
        else:
            other.append(word)
    return Cmdline(**found, other=tuple(other)), errors
