"""The pages of tasks as arrays: what a monitor is asked to estimate."""

from __future__ import annotations

from typing import Any

import numpy as np
from attrs import frozen

from mmlab.model import rows as r
from mmlab.model.const import HPAGE_PMD_NR
from mmlab.model.page import PG_TAIL
from mmlab.procfs.walk import entries


@frozen(eq=False)
class ResidentPages:
    """Pages that have an entry in a page table (mapped, swapped out or PROT_NONE), by task and address; int64[n] each.

    task: row of m.task; vpn: virtual page; pfn: its frame, -1 if it is in none; folio: first frame of its folio, -1 likewise.
    """

    task: np.ndarray
    vpn: np.ndarray
    pfn: np.ndarray
    folio: np.ndarray

    def __len__(self) -> int:
        return len(self.vpn)

    @property
    def key(self) -> np.ndarray:
        """One number a page, ascending: task << 45 | vpn."""
        return self.task << 45 | self.vpn

    def of_folios(self, column: np.ndarray, absent: int = 0) -> np.ndarray:
        """For each page what a per-frame column has for its folio; `absent` where there is no frame."""
        return np.where(self.folio >= 0, column[np.maximum(self.folio, 0)], absent)


def resident_pages(machine: Any, tasks: list[int]) -> ResidentPages:
    """The pages of these rows of m.task, which must be alive, in the order of their numbers. O(page tables)."""
    parts = []
    for task in tasks:
        found = entries(machine, int(machine.task[task * r.TASK_STRIDE + r.T_MM]), 0, 1 << 36)
        here = (found.entry & (r.PTE_PRESENT | r.PTE_PROTNONE) != 0) & (found.entry & r.PTE_SWAP == 0)
        within = np.arange(HPAGE_PMD_NR)
        vpn = np.concatenate([found.vpn, (found.huge_vpn[:, None] + within).ravel()])
        pfn = np.concatenate([np.where(here, found.entry >> r.PTE_SHIFT, -1), ((found.huge_entry >> r.PTE_SHIFT)[:, None] + within).ravel()])
        order = np.argsort(vpn, kind="stable")
        parts.append((np.full(len(vpn), task), vpn[order], pfn[order]))
    rows, vpn, pfn = (np.concatenate([part[i] for part in parts] or [np.zeros(0, np.int64)]) for i in range(3))
    at = np.maximum(pfn, 0) * 4
    tail = machine.page[at + 2].astype(np.int64) & PG_TAIL != 0
    folio = np.where(tail & (pfn >= 0), pfn - machine.pagex[at + 2].astype(np.int64), pfn)
    return ResidentPages(rows, vpn, pfn, folio)
