"""/proc/PID/maps, smaps, smaps_rollup and numa_maps.

Models: fs/proc/task_mmu.c show_map_vma(), smaps_account(), smaps_pte_entry(), show_smap(), show_numa_map(); mm/huge_memory.c
__thp_vma_allowable_orders() for THPeligible. Left out: KSM, hugetlb, uffd.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from mmlab.mm.mempolicy import shared_policy_lookup
from mmlab.mm.shmem import shmem_partial_swap_usage
from mmlab.mm.shmem_huge import thp_eligible_shmem
from mmlab.model import rows as r
from mmlab.model.page import (
    PG_ACTIVE, PG_ANON, PG_DIRTY, PG_MLOCKED, PG_REFERENCED, PG_SWAPBACKED, PG_SWAPCACHE, PG_UNEVICTABLE, PG_WRITEBACK, PG_YOUNG,
)
from mmlab.procfs.mempolicy import policy_text
from mmlab.procfs.settings import THP_SIZES, settings_of
from mmlab.procfs.tasks import backing, vma_name
from mmlab.procfs.walk import Pages, Vma, entries, mapped_pages, vmas, zone_nodes

PSS_SHIFT = 12
PAGE_PSS = 4096 << PSS_SHIFT
NAME_COLUMN = 73
FLAG_LETTERS = (
    (r.VM_READ, "rd"), (r.VM_WRITE, "wr"), (r.VM_EXEC, "ex"), (r.VM_SHARED, "sh"), (r.VM_MAYREAD, "mr"), (r.VM_MAYWRITE, "mw"),
    (r.VM_MAYEXEC, "me"), (r.VM_MAYSHARE, "ms"), (r.VM_GROWSDOWN, "gd"), (r.VM_PFNMAP, "pf"), (r.VM_LOCKED, "lo"), (r.VM_IO, "io"),
    (r.VM_SEQ_READ, "sr"), (r.VM_RAND_READ, "rr"), (r.VM_DONTCOPY, "dc"), (r.VM_DONTEXPAND, "de"), (r.VM_LOCKONFAULT, "lf"),
    (r.VM_ACCOUNT, "ac"), (r.VM_NORESERVE, "nr"), (r.VM_WIPEONFORK, "wf"), (r.VM_DONTDUMP, "dd"), (r.VM_SOFTDIRTY, "sd"),
    (r.VM_MIXEDMAP, "mm"), (r.VM_HUGEPAGE, "hg"), (r.VM_NOHUGEPAGE, "nh"), (r.VM_MERGEABLE, "mg"),
)  # fmt: skip
BYTE_FIELDS = (
    "Rss",
    "Pss",
    "Pss_Dirty",
    "Shared_Clean",
    "Shared_Dirty",
    "Private_Clean",
    "Private_Dirty",
    "Referenced",
    "Anonymous",
    "KSM",
    "LazyFree",
    "AnonHugePages",
    "ShmemPmdMapped",
    "FilePmdMapped",
    "Shared_Hugetlb",
    "Private_Hugetlb",
    "Swap",
    "SwapPss",
    "Locked",
)
ROLLUP_PSS = ("Pss", "Pss_Dirty", "Pss_Anon", "Pss_File", "Pss_Shmem")
PSS_FIELDS = frozenset(ROLLUP_PSS) | {"SwapPss", "Locked"}


def header(sim: Any, mm: int, vma: Vma) -> str:
    """The line of a VMA in maps, and the first of its lines in smaps."""
    flags = vma.flags
    letters = "".join(c if flags & bit else "-" for c, bit in (("r", r.VM_READ), ("w", r.VM_WRITE), ("x", r.VM_EXEC)))
    device, inode, path = backing(sim, vma)
    offset = vma.pgoff << 12 if inode else 0
    text = f"{vma.start:08x}-{vma.end:08x} {letters}{'s' if flags & r.VM_MAYSHARE else 'p'} {offset:08x} {device} {inode} "
    name = path or vma_name(sim.machine, mm, vma)
    return f"{text:<{NAME_COLUMN}}{name}\n" if name else f"{text}\n"


def maps(sim: Any, task: Any) -> str:
    """/proc/PID/maps."""
    return "".join(header(sim, task.mm, vma) for vma in vmas(sim.machine, task.mm))


def usage(sim: Any, mm: int, vma: Vma) -> dict[str, int]:
    """Bytes of each kind in a VMA; Pss, Pss_*, SwapPss and Locked in bytes << PSS_SHIFT."""
    found = entries(sim.machine, mm, vma.first_vpn, vma.end >> 12)
    pages = mapped_pages(sim.machine, found)
    out = dict.fromkeys((*BYTE_FIELDS, *ROLLUP_PSS), 0)
    if len(pages.pfn):
        _count_pages(out, pages, bool(vma.flags & r.VM_LOCKED))
    swapped = found.entry[(found.entry & r.PTE_PRESENT == 0) & (found.entry & r.PTE_SWAP != 0)] >> r.PTE_SHIFT
    if len(swapped):
        out["Swap"] = 4096 * len(swapped)
        out["SwapPss"] = int((PAGE_PSS // np.maximum(sim.machine.swap_map[swapped].astype(np.int64), 1)).sum())
    if vma.inode >= 0 and sim.machine.inode[vma.inode * r.INODE_STRIDE + r.I_FLAGS] & r.IF_SHMEM and vma.flags & (r.VM_SHARED | r.VM_WRITE) != r.VM_WRITE:
        out["Swap"] += 4096 * sim.machine.run(shmem_partial_swap_usage, vma.inode, vma.pgoff, vma.pgoff + vma.nr_pages)
    return out


def _count_pages(out: dict[str, int], pages: Pages, locked: bool) -> None:
    anon = pages.flags & PG_ANON != 0
    backed = pages.flags & PG_SWAPBACKED != 0
    dirty = (pages.entry & r.PTE_DIRTY != 0) | (pages.flags & PG_DIRTY != 0)
    shared = pages.mapcount >= 2
    pss = PAGE_PSS // np.maximum(pages.mapcount, 1)
    referenced = (pages.entry & r.PTE_ACCESSED != 0) | (pages.flags & (PG_REFERENCED | PG_YOUNG) != 0)

    def size(chosen: np.ndarray) -> int:
        return 4096 * int(np.count_nonzero(chosen))

    out["Rss"] = 4096 * len(pages.pfn)
    out["Pss"], out["Pss_Dirty"] = int(pss.sum()), int(pss[dirty].sum())
    out["Pss_Anon"], out["Pss_Shmem"], out["Pss_File"] = (int(pss[c].sum()) for c in (anon, ~anon & backed, ~anon & ~backed))
    out["Shared_Clean"], out["Shared_Dirty"] = size(shared & ~dirty), size(shared & dirty)
    out["Private_Clean"], out["Private_Dirty"] = size(~shared & ~dirty), size(~shared & dirty)
    out["Referenced"], out["Anonymous"] = size(referenced), size(anon)
    out["LazyFree"] = size(anon & ~backed & ~dirty)
    out["AnonHugePages"], out["ShmemPmdMapped"], out["FilePmdMapped"] = (
        size(pages.huge & c) for c in (anon, ~anon & backed, ~anon & ~backed)
    )  # fmt: skip
    out["Locked"] = out["Pss"] if locked else 0


def _kb(name: str, value: int) -> str:
    return f"{name + ':':<16}{value >> (10 + PSS_SHIFT if name in PSS_FIELDS else 10):8} kB\n"


def vm_flags(flags: int) -> str:
    """``VmFlags: rd wr mr ...`` with the space that Linux leaves at the end."""
    return "VmFlags: " + "".join(f"{name} " for bit, name in FLAG_LETTERS if flags & bit) + "\n"


def thp_eligible(sim: Any, vma: Vma) -> int:
    """1 if a huge page of some size could ever be mapped somewhere in the VMA."""
    if vma.flags & (r.VM_NOHUGEPAGE | r.VM_SPECIAL):
        return 0
    if vma.inode >= 0:
        return int(bool(sim.machine.run(thp_eligible_shmem, vma.row)))
    settings = settings_of(sim)
    asked = bool(vma.flags & r.VM_HUGEPAGE)
    for size, order in THP_SIZES.items():
        wish = settings[f"thp.{size}/enabled"]
        wish = settings["thp.enabled"] if wish == "inherit" else wish
        block = 4096 << order
        if (wish == "always" or (wish == "madvise" and asked)) and -(-vma.start // block) * block + block <= vma.end:
            return 1
    return 0


def smaps(sim: Any, task: Any) -> str:
    """/proc/PID/smaps."""
    out = []
    for vma in vmas(sim.machine, task.mm):
        used = usage(sim, task.mm, vma)
        out.append(header(sim, task.mm, vma))
        out.append(f"Size:           {(vma.end - vma.start) >> 10:8} kB\nKernelPageSize:        4 kB\nMMUPageSize:           4 kB\n")
        out += [_kb(name, used[name]) for name in BYTE_FIELDS]
        out.append(f"THPeligible:    {thp_eligible(sim, vma):8}\nProtectionKey:  {0:8}\n{vm_flags(vma.flags)}")
    return "".join(out)


def smaps_rollup(sim: Any, task: Any) -> str:
    """/proc/PID/smaps_rollup: the sum over all VMAs."""
    total = dict.fromkeys((*BYTE_FIELDS, *ROLLUP_PSS), 0)
    areas = list(vmas(sim.machine, task.mm))
    for vma in areas:
        for name, value in usage(sim, task.mm, vma).items():
            total[name] += value
    if not areas:
        return ""
    first = f"{areas[0].start:08x}-{areas[-1].end:08x} ---p 00000000 00:00 0 "
    names = ("Rss", *ROLLUP_PSS, *BYTE_FIELDS[3:])
    return f"{first:<{NAME_COLUMN}}[rollup]\n" + "".join(_kb(name, total[name]) for name in names)


def numa_maps(sim: Any, task: Any) -> str:
    """/proc/PID/numa_maps; a VMA without a policy shows its task's."""
    of_task = int(sim.machine.task[task.index * r.TASK_STRIDE + r.T_MEMPOLICY])
    return "".join(_numa_line(sim, task.mm, vma, of_task) for vma in vmas(sim.machine, task.mm))


def _vma_policy(machine: Any, vma: Vma) -> int:
    """The policy at a VMA's start; that of shared memory belongs to the object."""
    if vma.inode >= 0 and machine.inode[vma.inode * r.INODE_STRIDE + r.I_FLAGS] & r.IF_SHMEM:
        return machine.run(shared_policy_lookup, vma.inode, vma.pgoff)
    return int(machine.vma[vma.row * r.VMA_STRIDE + r.VMA_POLICY])


def _numa_line(sim: Any, mm: int, vma: Vma, of_task: int) -> str:
    text = f"{vma.start:08x} {policy_text(_vma_policy(sim.machine, vma) or of_task)}"
    path = backing(sim, vma)[2].replace(" ", "\\040")
    name = vma_name(sim.machine, mm, vma)
    text += f" file={path}" if path else {"[heap]": " heap", "[stack]": " stack"}.get(name, "")
    pages = mapped_pages(sim.machine, entries(sim.machine, mm, vma.first_vpn, vma.end >> 12))
    total = len(pages.pfn)
    if not total or vma.name == r.NAME_VDSO:  # pages of the kernel's own
        return text + "\n"

    def count(chosen: np.ndarray) -> int:
        return int(np.count_nonzero(chosen))

    anon = count(pages.flags & PG_ANON)
    dirty = count((pages.entry & r.PTE_DIRTY) | (pages.flags & PG_DIRTY))
    active, highest = count(pages.flags & (PG_ACTIVE | PG_UNEVICTABLE | PG_MLOCKED)), int(pages.mapcount.max())
    parts = [
        ("anon", anon, anon > 0),
        ("dirty", dirty, dirty > 0),
        ("mapped", total, total not in (anon, dirty)),
        ("mapmax", highest, highest > 1),
    ]
    parts += [("swapcache", n := count(pages.flags & PG_SWAPCACHE), n > 0), ("active", active, active < total)]
    parts += [("writeback", n := count(pages.flags & PG_WRITEBACK), n > 0)]
    nodes = np.bincount(zone_nodes(sim.machine, pages.pfn)).tolist()
    parts += [(f"N{node}", n, n > 0) for node, n in enumerate(nodes)]
    return text + "".join(f" {label}={n}" for label, n, shown in parts if shown) + " kernelpagesize_kB=4\n"


TASK_FILES: dict[str, Callable[[Any, Any], str]] = {"maps": maps, "smaps": smaps, "smaps_rollup": smaps_rollup, "numa_maps": numa_maps}
