"""A result folder: what a script left of the real kernel or of the simulated machine, and the figures read from it.

A folder holds ``ops.jsonl`` (an object per operation, then one per task), a folder of /proc and /sys text per snapshot
(``vmstat``, ``zoneinfo``, ``TASK.smaps``, ...), files kept by ``cat``, ``tree``, ``pagemap`` and ``probe``, ``trace.txt.gz`` and
``dmesg.txt``. The forms of figure ids are in the tables ``FORMS`` of the sibling modules, and below.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from mmlab.errors import InputError, MmlabError
from mmlab.verify import damon, logs, machine, ops, probe, tasks
from mmlab.verify.ids import PAGE_SIZE, Forms, Unsupported, field, lookup, size_bytes

T = TypeVar("T")
Regions = dict[str, dict[str, tuple[int, int]]]


class ResultFolder:
    """Reads one result folder.

    ``ops``: operation of each script line; ``ends``: how each task ended; ``snap_line``: script line of each snapshot.
    Raises :class:`InputError` if ``path`` is not a result folder or its ``ops.jsonl`` is broken.
    """

    def __init__(self, path: Path | str):
        self.path = Path(path)
        self.ops: dict[int, dict[str, Any]] = {}
        self.ends: dict[str, dict[str, Any]] = {}
        self.snap_line: dict[str, int] = {}
        self._cache: dict[Any, Any] = {}
        self._read_ops()

    def _read_ops(self) -> None:
        file = self.path / "ops.jsonl"
        try:
            lines = file.read_text().splitlines()
        except OSError as e:
            raise InputError(f"{self.path}: must be a result folder with an ops.jsonl ({e.strerror})") from None
        for number, line in enumerate(lines, 1):
            try:
                row = json.loads(line)
                if row.get("end"):
                    self.ends[row["task"]] = row
                    continue
                self.ops[row["line"]] = row
                words = row["op"].split()
                if words[0] == "snapshot":
                    self.snap_line[words[1]] = row["line"]
            except (ValueError, KeyError, IndexError, TypeError, AttributeError) as e:
                raise InputError(f"{file}: line {number}: must be an operation's answer as JSON, got {line[:80]!r} ({e!r})") from None

    def cached(self, key: Any, make: Callable[[], T]) -> T:
        """What ``make()`` gave the first time that this key was asked for."""
        if key not in self._cache:
            self._cache[key] = make()
        return self._cache[key]

    def bytes(self, *parts: str) -> bytes:
        """Content of a file below the folder; :class:`Unsupported` if it is not there."""
        try:
            return self.path.joinpath(*parts).read_bytes()
        except OSError:
            raise Unsupported(f"no file {'/'.join(parts)}") from None

    def text(self, *parts: str) -> str:
        """The same as text."""
        return self.bytes(*parts).decode(errors="replace")

    def op(self, line: int | str) -> dict[str, Any]:
        """The answer of the operation on a script line."""
        return field(self.ops, int(line), "ops.jsonl")

    def regions_at(self, line: int) -> Regions:
        """``{task: {region: (start address, bytes)}}`` after a script line; a region that was unmapped keeps its last place."""
        return self.cached(("regions", line), lambda: _regions(self.ops[n] for n in sorted(self.ops) if n <= line))

    def region(self, snap: str, task: str, name: str) -> tuple[int, int]:
        """Start address and bytes of a task's region when the snapshot was taken."""
        line = field(self.snap_line, snap, "ops.jsonl")
        return field(field(self.regions_at(line), task, "the script"), name, f"task {task}")

    def figure(self, fid: str) -> Any:
        """The value of a figure by its id: int, float, str, bool, list or dict.

        Raises :class:`Unsupported` if the id's form is unknown or the folder lacks what it is read from, and
        :class:`MmlabError` if that is there but cannot be read.
        """
        found = lookup(FORMS, fid)
        if found is None:
            raise Unsupported(f"no figure has the form {fid}")
        function, groups = found
        try:
            return function(self, *groups)
        except (KeyError, IndexError) as e:
            raise Unsupported(f"nothing for {fid} ({e!r})") from None
        except (ValueError, TypeError, OSError, EOFError) as e:
            raise MmlabError(f"{self.path}: {fid}: cannot be read ({e!r})") from None


def _regions(rows) -> Regions:
    """Where each task's regions are after these operations, in order."""
    now: Regions = {}
    for row in rows:
        words = row["op"].split()
        if words[0] == "spawn":
            now[words[1]] = {}
        elif words[0] == "fork" and row.get("ret", 0) == 0:
            now[words[2]] = dict(now.get(words[1], {}))
        elif "addr" not in row:
            continue
        elif words[0] in ("mmap", "mremap"):
            now[words[1]][words[2]] = (row["addr"], size_bytes(words[3]))
        elif words[0] == "region":
            now[words[1]][words[2]] = (row["addr"], row["pages"] * PAGE_SIZE)
        elif words[0] == "brk":
            start, length = now[words[1]].get("brk", (row["addr"], 0))
            now[words[1]]["brk"] = (start, length + size_bytes(words[2]))
    return now


def _parts(text: str) -> list[str]:
    """``a;f(b;c);d`` split at the semicolons outside brackets."""
    parts, depth = [""], 0
    for char in text:
        depth += {"(": 1, ")": -1}.get(char, 0)
        if char == ";" and depth == 0:
            parts.append("")
        else:
            parts[-1] += char
    return parts


def _sum(folder: ResultFolder, args: str) -> Any:
    return sum(folder.figure(fid) for fid in _parts(args))


def _diff(folder: ResultFolder, args: str) -> Any:
    first, second = _parts(args)
    return folder.figure(first) - folder.figure(second)


def _delta(folder: ResultFolder, before: str, after: str, rest: str) -> Any:
    return folder.figure(f"snap[{after}].{rest}") - folder.figure(f"snap[{before}].{rest}")


def _given(folder: ResultFolder, fid: str) -> Any:
    """A function of the kernel's applied to values that came with the figure; the simulator leaves them in given.json by id."""
    return field(folder.cached("given", lambda: json.loads(folder.text("given.json"))), fid, "given.json")


FORMS: Forms = [
    (r"sum\((.*)\)", _sum),
    (r"diff\((.*)\)", _diff),
    (r"delta\[(\w+),(\w+)\]\.(.+)", _delta),
    (r"(extfrag_(?:index|unusable)\[\d+,\w+\]@\d+)", _given),
    *ops.FORMS,
    *logs.FORMS,
    *damon.FORMS,
    *probe.FORMS,
    *tasks.FORMS,
    *machine.FORMS,
]
