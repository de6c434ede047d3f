"""`[run] explain`: a sample of what reclaim decided, and why, as rows of the results."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from mmlab._engine.core import SERVICES
from mmlab._engine.machine import Machine
from mmlab.mm import explain
from mmlab.model import rows as r
from mmlab.model.page import PG_ACTIVE, PG_DIRTY, PG_REFERENCED, PG_SWAPBACKED, PG_WRITEBACK

#: of a machine whose reclaim is to be explained
EXPLAINED: dict[str, Callable] = {**SERVICES, "reclaim_folio": explain.reclaim_folio_explained, "folio_referenced": explain.folio_referenced_explained}
KINDS = ("object", "anon", "file", "swap cache")
FATES = ("kept", "evicted", "activated", "accessed", "stays")
_FLAGS = {"dirty": PG_DIRTY, "writeback": PG_WRITEBACK, "active": PG_ACTIVE, "referenced": PG_REFERENCED}


def explained_requests(services: Mapping[str, Callable], shadows: bool) -> dict[str, Callable]:
    """The services of a request replay that is to be explained. shadows: its reclaimer remembers what it evicted."""
    drop = explain.drop_object_with_shadow_explained if shadows else explain.drop_object_explained
    return {**services, "reclaim_folio": drop, "folio_referenced": explain.object_referenced_explained, "rmap_walk": explain.object_young}


def decisions(machine: Machine, sim: Any = None) -> list[dict[str, Any]]:
    """The table `explained`: for each decision of the sample a row of its page (`fate` evicted, kept, activated or accessed), and one of each page
    that stays beside it.

    decision: its number; time_ns; page: a task's virtual page, a file's page, a slot of swap or an object's number; owner: the task or file ("": nobody
    maps it); pfn; accessed: accessed bits that are set; dirty, writeback, active, referenced: the flags that it has; then what the
    reclaimer's `explains` name. sim: knows the names of tasks and files; None for a request replay.
    """
    part = len(machine.explain) // r.EXPLAIN_KINDS
    found: list[tuple[int, list[list[int]]]] = []
    for kind in range(r.EXPLAIN_KINDS):
        head = kind * part
        for group in range(int(machine.explain[head + r.EXH_NR])):
            at = head + r.EXPLAIN_HEAD + group * r.EXPLAIN_ROWS * r.EX_STRIDE
            entries = machine.explain[at : at + r.EXPLAIN_ROWS * r.EX_STRIDE].reshape(-1, r.EX_STRIDE).tolist()
            found.append((entries[0][r.EX_ORDER], [entry for entry in entries if entry[r.EX_PFN] >= 0]))
    found.sort()
    return [{"decision": number, **_row(machine, sim, entry)} for number, (_, entries) in enumerate(found) for entry in entries]


def _row(machine: Machine, sim: Any, entry: list[int]) -> dict[str, Any]:
    owner_kind, flags = entry[r.EX_OWNER_KIND], entry[r.EX_FLAGS]
    kind = "shmem" if owner_kind == r.EXPLAIN_FILE and flags & PG_SWAPBACKED else KINDS[owner_kind]
    return {
        "fate": FATES[entry[r.EX_FATE]], "time_ns": entry[r.EX_NOW_NS], "kind": kind, "owner": _owner(sim, owner_kind, entry[r.EX_OWNER]),
        "page": entry[r.EX_INDEX], "pfn": entry[r.EX_PFN], "accessed": entry[r.EX_ACCESSED],
        "flags": " ".join(name for name, bit in _FLAGS.items() if flags & bit), **dict(_told(machine, entry[r.EX_VALUES :])),
    }  # fmt: skip


def _told(machine: Machine, values: list[int]) -> Iterator[tuple[str, Any]]:
    for said, value in zip(machine.chosen["reclaimer"].policy.explains, values):
        yield said.name, said.words[value] if 0 <= value < len(said.words) else value


def _owner(sim: Any, kind: int, number: int) -> str:
    if kind == r.EXPLAIN_ANON:
        return next((task.name for task in sim.tasks.values() if task.mm == number), "")
    return sim.file_name(number) if kind == r.EXPLAIN_FILE else ""
