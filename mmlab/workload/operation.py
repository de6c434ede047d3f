"""One operation of a workload, and the small vocabularies its arguments come from.

`ops.py` makes operations from a script, `trace_format.py` and `generators.py` make them with absolute addresses.
"""

from __future__ import annotations

from typing import Any

from attrs import field, frozen

PAGE_SIZE = 4096

PROT_READ, PROT_WRITE, PROT_EXEC = 1, 2, 4

#: madvise advice by name, with the kernel's numbers (include/uapi/asm-generic/mman-common.h).
ADVICE = {
    "normal": 0, "random": 1, "sequential": 2, "willneed": 3, "dontneed": 4, "free": 8, "remove": 9, "dontfork": 10, "dofork": 11,
    "mergeable": 12, "unmergeable": 13, "hugepage": 14, "nohugepage": 15, "wipeonfork": 18, "keeponfork": 19, "cold": 20, "pageout": 21,
    "populate_read": 22, "populate_write": 23, "dontneed_locked": 24, "collapse": 25,
}  # fmt: skip

#: NUMA policies by name, with the kernel's numbers (include/uapi/linux/mempolicy.h).
MEMPOLICY = {"default": 0, "preferred": 1, "bind": 2, "interleave": 3, "local": 4, "preferred_many": 5, "weighted_interleave": 6}


@frozen
class Place:
    """Where a map is asked to go: `offset` bytes from a region's start, or the absolute address `offset` when `region` is None."""

    region: str | None
    offset: int


@frozen
class Operation:
    """One operation, parsed and typed.

    name        the operation's word (`touch`, `mmap`, …)
    task        the task that runs it, None for operations of the machine (`sysctl`, `snapshot`, `sleep`, …)
    args        every argument and option of the operation by name, options that were not given with their defaults.
                Sizes, lengths and offsets are bytes (offsets may be negative); `region` is a name, or an int for an absolute address;
                `prot` is the PROT_ bits; `ops.py` lists the names of each operation
    line        1-based line of the script (the `line` of ops.jsonl); 0 where there is no script
    text        the line without its comment
    background  True under `bg`: start it and go on
    """

    name: str
    task: str | None
    args: dict[str, Any] = field(factory=dict)
    line: int = 0
    text: str = ""
    background: bool = False


@frozen
class TaskReference:
    """`@A`, `@A.R` or `@A.R+SIZE` in a value: a task's pid, or (with a region) an address `offset` bytes into it."""

    task: str
    region: str | None
    offset: int
