"""Figures of kept files, the kernel's messages and its tracepoints.

    cat[LABEL]              a number if the file is one, else its text; cat[LABEL].NAME the number after NAME (also a path that `tree` kept)
    dmesg.killed            names in order; dmesg.killed.count, dmesg.oom.count
    dmesg.kill[I].NAME      total-vm, anon-rss, file-rss, shmem-rss, pgtables (kB), oom_score_adj; dmesg.constraint[I]
    trace.EVENT[FIELD=VALUE].count|sum.FIELD|max.FIELD|min.FIELD    [FIELD=VALUE] may be left out
"""

from __future__ import annotations

import gzip
import re
from typing import TYPE_CHECKING, Any

from mmlab.verify.ids import Forms, Unsupported, need

#: begins the first line of a simulated trace, which names the events of reclaim that were on
SIMULATED = "# events: "

if TYPE_CHECKING:
    from mmlab.verify.folder import ResultFolder


def _cat(folder: ResultFolder, label: str) -> Any:
    text = folder.text(label).strip()
    return int(text) if re.fullmatch(r"-?\d+", text) else text


def _cat_name(folder: ResultFolder, label: str, name: str) -> int:
    return int(need(re.search(rf"^{re.escape(name)}:?\s+(-?\d+)", folder.text(label), re.MULTILINE), f"{name} in {label}")[1])


def _kills(folder: ResultFolder) -> list[tuple[str, str]]:
    """Name of each task that the OOM killer chose, and the rest of its message."""
    return re.findall(r"[Kk]illed process \d+ \(([^)]*)\)(.*)", folder.text("dmesg.txt"))


def _killed(folder: ResultFolder) -> list[str]:
    return [name for name, _ in _kills(folder)]


def _killed_count(folder: ResultFolder) -> int:
    return len(_kills(folder))


def _oom_count(folder: ResultFolder) -> int:
    return folder.text("dmesg.txt").count("invoked oom-killer")


def _kill(folder: ResultFolder, index: str, name: str) -> int:
    return int(need(re.search(rf"{re.escape(name)}:(-?\d+)", _kills(folder)[int(index)][1]), f"{name} in kill {index}")[1])


def _constraint(folder: ResultFolder, index: str) -> str:
    return re.findall(r"constraint=(\w+)", folder.text("dmesg.txt"))[int(index)]


def trace_lines(folder: ResultFolder) -> list[str]:
    """The trace's lines without comments."""
    def read() -> list[str]:
        return [line for line in _trace_text(folder).splitlines() if not line.startswith("#")]

    return folder.cached("trace", read)


def _trace_text(folder: ResultFolder) -> str:
    return gzip.decompress(folder.bytes("trace.txt.gz")).decode(errors="replace")


def _was_on(folder: ResultFolder, event: str) -> bool:
    """Whether an event that is not in the trace would have been: a simulated trace names those of reclaim that were on in its first line."""
    first = _trace_text(folder).partition("\n")[0]
    return not first.startswith(SIMULATED) or event in first.split() or event.startswith("damo")


def _trace(folder: ResultFolder, event: str, name: str | None, value: str | None, how: str, of: str | None) -> int:
    if (how == "count") == bool(of):
        raise Unsupported(f"trace.{event}.{how}: sum, max and min need a field, count has none")
    rows = [line for line in trace_lines(folder) if f" {event}: " in line]
    if not rows and not _was_on(folder, event):
        raise Unsupported(f"trace.{event}: the event is not simulated")
    if any(field and rows and not any(re.search(rf"\b{field}[= ]", line) for line in rows) for field in (name, of)):
        raise Unsupported(f"trace.{event}: no field {name or of} in its lines")
    if name:
        wanted = re.compile(rf"\b{name}[= ]{re.escape(value or '')}(?!\S)")
        rows = [line for line in rows if wanted.search(line)]
    if how == "count":
        return len(rows)
    numbers: list[int] = [int(match[1]) for line in rows if (match := re.search(rf"\b{of}[= ](-?\d+)", line))]
    if not numbers:
        return 0
    return sum(numbers) if how == "sum" else max(numbers) if how == "max" else min(numbers)


FORMS: Forms = [
    (r"cat\[(\w+)\]", _cat),
    (r"cat\[(\w+)\]\.(\S+)", _cat_name),
    (r"dmesg\.killed", _killed),
    (r"dmesg\.killed\.count", _killed_count),
    (r"dmesg\.oom\.count", _oom_count),
    (r"dmesg\.kill\[(\d+)\]\.(.+)", _kill),
    (r"dmesg\.constraint\[(\d+)\]", _constraint),
    (r"trace\.(?:\w+:)?(\w+)(?:\[(\w+)=([^\]]+)\])?\.(count|sum|max|min)(?:\.(\w+))?", _trace),
]
