"""The maps a program starts with: what the kernel's loader made before the first instruction, which no system call shows.

A page is an initial page of a program image when it was touched before any mmap, brk or mremap of that image covered it. At the moment
a program's banner appears (before its dynamic linker has made its first map) the recorder looks at /proc/PID/maps: an initial page
within the map of a file gives that whole map (file, offset, protection). The others (stack, zeroed data) become anonymous maps; pages
less than 8 MiB apart with nothing else between them share one, so that the stack is one map, as far down as the program went.

Left out: maps that were never touched; the vdso (valgrind hides it).
"""

from __future__ import annotations

import numpy as np
from attrs import Factory, define, frozen

from mmlab.workload.operation import PROT_EXEC, PROT_READ, PROT_WRITE
from mmlab.workload.stream import KIND_EXECUTE, unpack
from mmlab.workload.trace_format import MMAP, Change

_MAP_PRIVATE, _MAP_ANONYMOUS = 0x2, 0x20
_NEVER = 1 << 62
_GAP_PAGES = 2048


@frozen
class Vma:
    """A line of /proc/PID/maps, in pages; `path` is empty for anonymous memory."""

    first: int
    end: int
    prot: int
    offset: int
    path: str


def parse_maps(text: str) -> list[Vma]:
    """The maps of /proc/PID/maps."""
    vmas = []
    for line in text.splitlines():
        extent, perms, offset, _, _, *path = line.split(maxsplit=5)
        first, end = (int(part, 16) >> 12 for part in extent.split("-"))
        prot = sum(bit for letter, bit in zip("rwx", (PROT_READ, PROT_WRITE, PROT_EXEC)) if letter in perms)
        vmas.append(Vma(first, end, prot, int(offset, 16) >> 12, path[0] if path and path[0].startswith("/") else ""))
    return vmas


@define
class Image:
    """One program in one process (and in processes forked from it, until they exec).

    task, index  where its maps belong: the task, and before which change
    segments     [task, time it began, time it ended or None]: whose accesses are this image's
    covers       (time, first page, end page) of everything that was mapped later
    vmas         the maps when it began
    """

    task: int
    time: int
    index: int
    covers: list[tuple[int, int, int]] = Factory(list)
    vmas: list[Vma] = Factory(list)
    segments: list[list] = Factory(lambda self: [[self.task, self.time, None]], takes_self=True)


def initial_maps(image: Image, time: np.ndarray, word: np.ndarray, file_number) -> list[Change]:
    """The image's first maps as changes.

    time, word   all kept accesses in order, int64[n] each
    file_number  path -> number in the trace's table of files
    """
    pages, executed = _initial_pages(image, time, word)
    files = [vma for vma in image.vmas if vma.path and _any_within(pages, vma)]
    changes = []
    for vma in files:
        inside = (pages >= vma.first) & (pages < vma.end)
        pages, executed = pages[~inside], executed[~inside]
        number = file_number(vma.path)
        changes.append(Change(MMAP, image.task, vma.first, vma.end - vma.first, vma.prot, _MAP_PRIVATE, number, vma.offset))
    taken = [(vma.first, vma.end) for vma in files] + [(first, end) for _, first, end in image.covers]
    for group in _runs(pages, taken):
        prot = PROT_READ | PROT_WRITE | (PROT_EXEC if executed[group].any() else 0)
        first, end = int(pages[group[0]]), int(pages[group[-1]]) + 1
        changes.append(Change(MMAP, image.task, first, end - first, prot, _MAP_PRIVATE | _MAP_ANONYMOUS))
    return sorted(changes, key=lambda change: change.page)


def _initial_pages(image: Image, time: np.ndarray, word: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(sorted pages, whether any access executed there)."""
    parts = []
    kind, task, page = unpack(word)
    for number, begin, end in image.segments:
        low, high = np.searchsorted(time, [begin, _NEVER if end is None else end], side="right")
        parts.append(low + np.flatnonzero(task[low:high] == number))
    index = np.sort(np.concatenate(parts))
    pages, first, inverse = np.unique(page[index], return_index=True, return_inverse=True)
    covered = np.full(len(pages), _NEVER, np.int64)
    for at, low_page, end_page in image.covers:
        low, high = np.searchsorted(pages, [low_page, end_page])
        np.minimum(covered[low:high], at, out=covered[low:high])
    executed = np.bincount(inverse, kind[index] == KIND_EXECUTE, len(pages)) > 0
    initial = time[index][first] <= covered
    return pages[initial], executed[initial]


def _any_within(pages: np.ndarray, vma: Vma) -> bool:
    low, high = np.searchsorted(pages, [vma.first, vma.end])
    return bool(high > low)


def _runs(pages: np.ndarray, taken: list[tuple[int, int]]) -> list[np.ndarray]:
    """Indices of `pages` in groups that one map can hold."""
    if not len(pages):
        return []
    breaks = []
    for i in np.flatnonzero(np.diff(pages) > 1).tolist():
        low, high = int(pages[i]) + 1, int(pages[i + 1])
        if high - low > _GAP_PAGES or any(first < high and end > low for first, end in taken):
            breaks.append(i + 1)
    return np.split(np.arange(len(pages)), breaks)
