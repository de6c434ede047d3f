"""Figures of the operations themselves: what each answered, where regions lie, how tasks ended, what a pagemap shows.

    op[LINE].KEY            ret, minflt, majflt, addr, pages, ...; signal, si_code, moved, died, errno are 0 where not mentioned
    rel[LINE1,LINE2]        pages from the address that LINE1's operation answered to that of LINE2's
    end.TASK.alive|signal
    pagemap[LABEL].present|swapped|file|exclusive|softdirty     how many pages
    pagemap[LABEL].ranges   "0..16 P": P present and mapped once, S present and shared, file or zero page, W in swap
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np

from mmlab.verify.ids import PAGE_SIZE, Forms, field

if TYPE_CHECKING:
    from mmlab.verify.folder import ResultFolder

_SAID_ONLY_WHEN_SO = ("signal", "si_code", "moved", "died", "errno")
_PAGEMAP_BIT = {"present": 63, "swapped": 62, "file": 61, "exclusive": 56, "softdirty": 55}


def _op(folder: ResultFolder, line: str, key: str) -> Any:
    answer = folder.op(line)
    return answer.get(key, 0) if key in _SAID_ONLY_WHEN_SO else field(answer, key, f"operation {line}")


def _rel(folder: ResultFolder, first: str, second: str) -> int:
    return (_op(folder, second, "addr") - _op(folder, first, "addr")) // PAGE_SIZE


def _end(folder: ResultFolder, task: str, key: str) -> Any:
    return field(field(folder.ends, task, "the end of ops.jsonl"), key, f"the end of {task}")


def _pagemap(folder: ResultFolder, label: str, what: str) -> Any:
    entries = np.frombuffer(folder.bytes(f"{label}.pagemap"), dtype="<u8")

    def bit(name: str) -> np.ndarray:
        return ((entries >> np.uint64(_PAGEMAP_BIT[name])) & np.uint64(1)).astype(bool)

    if what != "ranges":
        return int(bit(what).sum())
    kinds = np.select([bit("swapped"), ~bit("present"), bit("exclusive")], ["W", "", "P"], "S")
    ranges, start = [], 0
    for kind, run in groupby(kinds.tolist()):
        end = start + len(list(run))
        if kind:
            ranges.append(f"{start}..{end} {kind}")
        start = end
    return ranges


FORMS: Forms = [
    (r"op\[(\d+)\]\.(\w+)", _op),
    (r"rel\[(\d+),(\d+)\]", _rel),
    (r"end\.(\w+)\.(alive|signal)", _end),
    (rf"pagemap\[(\w+)\]\.({'|'.join(_PAGEMAP_BIT)}|ranges)", _pagemap),
]
