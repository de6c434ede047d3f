"""Figures of a task's own files in a snapshot.

    snap[S].TASK.maps.count         VMAs
    snap[S].TASK.maps[R]            "0..16 rw-p" of each VMA that intersects region R, in pages from R's start, not clipped
    snap[S].TASK.smaps[R].NAME      sum over those VMAs (kB); VmFlags a string for each, count how many, Uss private clean and dirty
    snap[S].TASK.numa_maps[R].NAME  sum over the VMAs that start in R (N0, anon, ...); policy the first one's
    snap[S].TASK.status.NAME, .oom_score, .oom_score_adj, .stat.minflt|cminflt|majflt|cmajflt
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import attrs

from mmlab.verify.ids import PAGE_SIZE, Forms, Unsupported, field
from mmlab.verify.machine import table

if TYPE_CHECKING:
    from mmlab.verify.folder import ResultFolder

_HEAD = re.compile(r"([0-9a-f]+)-([0-9a-f]+) (\S{4}) ")
_STAT_FIELD = {"minflt": 7, "cminflt": 8, "majflt": 9, "cmajflt": 10}  # counted from the state, behind the name's bracket


@attrs.define
class Vma:
    """One VMA of maps or smaps: addresses in bytes, ``fields`` the lines below it (kB; VmFlags as printed)."""

    start: int
    end: int
    perm: str
    fields: dict[str, Any] = attrs.field(factory=dict)


def parse_vmas(text: str) -> list[Vma]:
    """The VMAs of a maps or smaps file, in its order."""
    vmas: list[Vma] = []
    for line in text.splitlines():
        if head := _HEAD.match(line):
            vmas.append(Vma(int(head[1], 16), int(head[2], 16), head[3]))
            continue
        name, _, value = line.partition(":")
        words = value.split()
        if not vmas or not words:
            continue
        if name == "VmFlags":
            vmas[-1].fields[name] = " ".join(words)
        elif words[0].isdigit():
            vmas[-1].fields[name] = int(words[0])
    return vmas


def _vmas(folder: ResultFolder, snap: str, task: str, kind: str) -> list[Vma]:
    return folder.cached((snap, task, kind), lambda: parse_vmas(folder.text(snap, f"{task}.{kind}")))


def _in_region(folder: ResultFolder, snap: str, task: str, region: str, kind: str) -> tuple[int, list[Vma]]:
    """The region's start and the VMAs that intersect it."""
    start, length = folder.region(snap, task, region)
    return start, [vma for vma in _vmas(folder, snap, task, kind) if vma.start < start + length and vma.end > start]


def _maps_count(folder: ResultFolder, snap: str, task: str) -> int:
    return len(_vmas(folder, snap, task, "maps"))


def _maps(folder: ResultFolder, snap: str, task: str, region: str) -> list[str]:
    base, vmas = _in_region(folder, snap, task, region, "maps")
    return [f"{(vma.start - base) // PAGE_SIZE}..{(vma.end - base) // PAGE_SIZE} {vma.perm}" for vma in vmas]


def _smaps(folder: ResultFolder, snap: str, task: str, region: str, name: str) -> Any:
    _, vmas = _in_region(folder, snap, task, region, "smaps")
    if name == "count":
        return len(vmas)
    names = ["Private_Clean", "Private_Dirty"] if name in ("Uss", "USS") else [name]
    values = [field(vma.fields, n, f"{task}.smaps") for vma in vmas for n in names]
    return values if name == "VmFlags" else sum(values)


def _numa_maps(folder: ResultFolder, snap: str, task: str, region: str, name: str) -> Any:
    start, length = folder.region(snap, task, region)
    rows = [line.split() for line in folder.text(snap, f"{task}.numa_maps").splitlines()]
    rows = [words for words in rows if start <= int(words[0], 16) < start + length]
    if name == "policy":
        if not rows:
            raise Unsupported(f"{task}.numa_maps shows nothing in {region}")
        return rows[0][1]
    return sum(int(word.partition("=")[2]) for words in rows for word in words[2:] if word.startswith(f"{name}="))


def _status(folder: ResultFolder, snap: str, task: str, name: str) -> int:
    return field(table(folder, snap, f"{task}.status"), name, f"{task}.status")


def _one_number(folder: ResultFolder, snap: str, task: str, file: str) -> int:
    return int(folder.text(snap, f"{task}.{file}"))


def _stat(folder: ResultFolder, snap: str, task: str, name: str) -> int:
    return int(folder.text(snap, f"{task}.stat").rpartition(")")[2].split()[_STAT_FIELD[name]])


_TASK = r"snap\[(\w+)\]\.(\w+)\."
FORMS: Forms = [
    (_TASK + r"maps\.count", _maps_count),
    (_TASK + r"maps\[(\w+)\]", _maps),
    (_TASK + r"smaps\[(\w+)\]\.(\w+)", _smaps),
    (_TASK + r"numa_maps\[(\w+)\]\.(\w+)", _numa_maps),
    (_TASK + r"status\.(\w+)", _status),
    (_TASK + r"(oom_score|oom_score_adj)", _one_number),
    (_TASK + rf"stat\.({'|'.join(_STAT_FIELD)})", _stat),
]
