"""check_state(): every invariant of a simulated machine, recomputed from scratch and compared. For tests and `--check-every`; slow by design."""

from __future__ import annotations

from collections import Counter

import numpy as np

from mmlab import abi
from mmlab.kernels.large_folio import PG_ON_SPLIT_QUEUE
from mmlab.model import rows as r
from mmlab.model.page import (
    KIND_ANON, KIND_FILE, KIND_FREE, KIND_SHMEM, KIND_TABLE, MAPCOUNT_MASK, PG_ANON, PG_DIRTY, PG_HEAD, PG_SWAPBACKED, PG_TAIL,
    PG_WRITEBACK,
)
from mmlab.model.page import page_folio as folio_of
from mmlab.model.vmstat import V_NR_DIRTY, VMSTAT_STRIDE
from mmlab.policies import python_function

page_folio = python_function(folio_of)


def check_state(sim) -> list[str]:
    """Broken invariants as sentences: each frame in one place only, lists consistent both ways, counters equal to what they count, page tables
    and mem_map agree; and what each policy's own check says."""
    machine = sim.machine
    broken = [*_policy_checks(machine), *_mapped_pages(sim), *_tables(machine), *_vmas(sim), *_dirty_pages(machine), *_swap(machine)]
    return broken


def _swap(machine) -> list[str]:
    """Slots used and free add up, pages under writeback are those on their way to the disk, compressed pages are where slots say."""
    sc = machine.sc
    slots = np.arange(1, max(1, int(sc[r.SC_NR_SWAP_SLOTS])))
    refs, cache = machine.swap_map[slots].astype(np.int64), machine.swap_cache[slots]
    used = int(((refs > 0) | (cache & 1 == 1) | (cache == r.SLOT_HELD)).sum())
    found = []
    info = machine.swap_info.reshape(-1, r.SWAP_INFO_STRIDE)
    if used != int(info[:, r.SI_INUSE].sum()) or len(slots) - used != sc[r.SC_NR_SWAP_FREE]:
        found.append(f"{used} of {len(slots)} swap slots are used, the devices say {info[:, r.SI_INUSE].sum()}, free are {sc[r.SC_NR_SWAP_FREE]}")
    flags = machine.page[2::4][: machine.sizes.nr_frames].astype(np.int64)
    head, tail = int(machine.bio[r.BIO_HEAD]), int(machine.bio[r.BIO_TAIL])
    sent = [int(machine.bio[r.BIO_RING + r.BIO_WORDS * (i % r.BIO_ENTRIES)]) for i in range(head, tail)]
    plugged = [plug[r.PLUG_FIRST + r.BIO_WORDS * i] for plug in machine.plug.reshape(-1, r.PLUG_STRIDE).tolist() for i in range(plug[r.PLUG_COUNT])]
    if sorted(sent + plugged) != np.flatnonzero((flags & PG_WRITEBACK > 0) & (flags & PG_SWAPBACKED > 0)).tolist():
        found.append("pages under writeback are not those that are being written to swap")
    held = [machine.zswap_entry[slots], *(machine.zram[int(i[r.SI_FIRST]) : int(i[r.SI_FIRST] + i[r.SI_PAGES])] for i in info)]
    for number, pool in enumerate(machine.zs_pool.reshape(-1, r.ZS_POOL_STRIDE)):
        handles = Counter(h for h in held[number].tolist() if h)
        rows = {h: machine.zspage[h * r.ZSPAGE_STRIDE : (h + 1) * r.ZSPAGE_STRIDE] for h in handles}
        if any(int(rows[h][r.ZP_INUSE]) != n or rows[h][r.ZP_POOL] != number for h, n in handles.items()):
            found.append(f"zsmalloc pool {number}: a zspage does not hold as many objects as slots say")
        pages = sum(int(machine.zs_class[int(row[r.ZP_CLASS]) * r.ZS_STRIDE + r.ZS_PAGES]) for row in rows.values())
        if (pages, handles.total()) != (pool[r.ZSP_PAGES], pool[r.ZSP_OBJECTS]):
            found.append(f"zsmalloc pool {number}: {handles.total()} objects in {pages} pages, the pool says {pool[r.ZSP_OBJECTS]} in {pool[r.ZSP_PAGES]}")
    return found


def _policy_checks(machine) -> list[str]:
    found = []
    for slot, contract in abi.SLOTS.items():
        for op in contract.ops:
            if op.name != "check" or slot not in machine.states:
                continue
            subjects: list[tuple[int, ...]] = [()]
            if slot == "page_allocator":
                subjects = [(zone,) for zone in range(machine.sizes.nr_zones)]
            elif slot == "vma_index":
                mms = machine.mm.reshape(-1, r.MM_STRIDE)
                subjects = [(mm,) for mm in range(int(machine.sc[r.SC_NR_TASKS])) if mms[mm, r.MM_USERS]]
            for subject in subjects:
                code = machine.op(slot, "check", *subject)
                if code:
                    found.append(f"{slot} {machine.chosen[slot].policy.name}: check{subject} says {code}")
    return found


def walk(machine, mm: int) -> list[tuple[int, int, int]]:
    """Every leaf entry of an address space as (vpn, entry, pages)."""
    found = []
    root = int(machine.mm[mm * r.MM_STRIDE + r.MM_ROOT])

    def table(number: int) -> np.ndarray:
        return machine.pt[number * 512 : number * 512 + 512]

    def descend(number: int, level: int, base: int) -> None:
        slots = table(number)
        for i in np.flatnonzero(slots):
            entry, vpn = int(slots[i]), base | int(i) << 9 * level
            if level == 0:
                found.append((vpn, entry, 1))
            elif level == 1 and entry & r.PTE_HUGE:
                found.append((vpn, entry, 512))
            else:
                descend(entry >> r.PTE_SHIFT, level - 1, vpn)

    descend(root, 3, 0)
    return found


def _mapped_pages(sim) -> list[str]:
    machine = sim.machine
    found: list[str] = []
    mapcount: Counter[int] = Counter()
    words: Counter[tuple[int, str]] = Counter()
    for task in range(int(machine.sc[r.SC_NR_TASKS])):
        mm = int(machine.task[task * r.TASK_STRIDE + r.T_MM])
        base = mm * r.MM_STRIDE
        if not machine.mm[base + r.MM_USERS]:
            continue
        rss = swap = 0
        for vpn, entry, pages in walk(machine, mm):
            if entry & r.PTE_SWAP:
                swap += 1
                if machine.swap_map[entry >> r.PTE_SHIFT] <= 0:
                    found.append(f"mm {mm}: page {vpn:#x} refers to swap slot {entry >> r.PTE_SHIFT}, which is free")
            elif not entry & r.PTE_SPECIAL:
                pfn = entry >> r.PTE_SHIFT
                rss += pages
                head = page_folio(machine, pfn)
                mapcount[head] += 1
                if pages > 1:
                    words[head, "PMDs that map it"] += 1
                elif pfn != head:
                    mapcount[pfn] += 1
                elif int(machine.page[4 * pfn + 2]) & PG_HEAD:
                    words[head, "PTEs of its first page"] += 1
                kind = int(machine.pagex[4 * pfn + 3]) >> 12 & 15
                if kind in (KIND_FREE, KIND_TABLE):
                    found.append(f"mm {mm}: page {vpn:#x} maps frame {pfn}, which is of kind {kind}")
        counted = int(machine.mm[base + r.MM_RSS_ANON] + machine.mm[base + r.MM_RSS_FILE] + machine.mm[base + r.MM_RSS_SHMEM])
        if rss != counted:
            found.append(f"mm {mm}: {rss} pages are mapped, its RSS counters say {counted}")
        if swap != machine.mm[base + r.MM_SWAPENTS]:
            found.append(f"mm {mm}: {swap} swap entries, the counter says {int(machine.mm[base + r.MM_SWAPENTS])}")
    counts = machine.page[3::4][: machine.sizes.nr_frames].astype(np.int64) & MAPCOUNT_MASK
    for pfn in set(mapcount) | set(np.flatnonzero(counts).tolist()):
        if mapcount[pfn] != counts[pfn]:
            found.append(f"frame {pfn}: {mapcount[pfn]} entries map it, its mapcount is {int(counts[pfn])}")
    return found + _large_folios(machine, words)


def _large_folios(machine, words: Counter) -> list[str]:
    """What the tails of each large folio say of its mappings, and the sizes' counts of folios."""
    found = []
    nr_anon: Counter[int] = Counter()
    flags = machine.page[2::4][: machine.sizes.nr_frames].astype(np.int64)
    for head in np.flatnonzero(flags & PG_HEAD).tolist():
        order, kind = (int(machine.pagex[4 * head + 3]) >> shift & 15 for shift in (8, 12))
        if kind not in (KIND_ANON, KIND_FILE, KIND_SHMEM):
            continue  # a slab
        nr_anon[order] += bool(flags[head] & PG_ANON)
        own, entire, mapped = (int(machine.pagex[4 * (head + i)]) for i in (1, 2, 3))
        tails = machine.page[4 * (head + 1) + 3 : 4 * (head + (1 << order)) : 4].astype(np.int64) & MAPCOUNT_MASK
        expected = words[head, "PTEs of its first page"], words[head, "PMDs that map it"], int(np.count_nonzero(tails)) + (own > 0)
        if (own, entire, mapped) != expected:
            found.append(f"folio {head}: first page's PTEs, PMDs, pages with PTEs are {expected}, its tails say {own, entire, mapped}")
    found += _split_queue(machine, flags)
    for order in range(10):
        counted = int(machine.mthp[order * r.MTHP_STRIDE + r.MTHP_NR_ANON])
        if counted != nr_anon[order]:
            found.append(f"{nr_anon[order]} anonymous folios of order {order}, nr_anon says {counted}")
    return found


def _split_queue(machine, flags: np.ndarray) -> list[str]:
    """Folios that wait for the shrinker that splits are those with the mark, each on the queue of its cgroup, linked both ways, and counted."""
    queued: list[int] = []
    for memcg in range(max(1, int(machine.sc[r.SC_NR_MEMCGS]))):
        row = memcg * r.MEMCG_STRIDE + r.MC_SPLIT_QUEUE
        before = nr = 0
        at = int(machine.memcg[row + r.SHR_FIRST])
        while at and nr <= int(machine.memcg[row + r.SHR_NR]):
            links = machine.page[4 * (at + 1) : 4 * (at + 1) + 2]  # of the second tail
            if int(links[1]) != before:
                return [f"the queue of folios to split: {at - 1} does not point back to {before - 1}"]
            owner = int(machine.pagex[4 * (at - 1) + 3]) >> 16
            if owner != memcg:
                return [f"the queue of folios to split of cgroup {memcg} holds {at - 1}, which is cgroup {owner}'s"]
            queued.append(at - 1)
            nr += 1
            before, at = at, int(links[0])
        if nr != machine.memcg[row + r.SHR_NR] or before != machine.memcg[row + r.SHR_LAST]:
            return [f"{nr} folios are on the queue of those to split of cgroup {memcg}, the count is {machine.memcg[row + r.SHR_NR]}"]
    marked = np.flatnonzero(flags[1:] & PG_ON_SPLIT_QUEUE & np.where(flags[1:] & PG_TAIL, -1, 0) & np.where(flags[:-1] & PG_HEAD, -1, 0)).tolist()
    if sorted(queued) != marked:
        return [f"{len(queued)} folios are on the queues of those to split, {len(marked)} are marked"]
    return []


def _dirty_pages(machine) -> list[str]:
    """Dirty pages and pages under write-back are what the inodes, the lists of dirty inodes and the counters say."""
    found = []
    frames = machine.sizes.nr_frames
    flags = machine.page[2::4][:frames].astype(np.int64)
    of_file = (machine.pagex[3::4] >> 12 & 15 == KIND_FILE) & (flags & PG_SWAPBACKED == 0)
    inodes = machine.pagex[0::4]
    for what, bit, field in (("dirty", PG_DIRTY, r.I_NR_DIRTY), ("under write-back", PG_WRITEBACK, r.I_NR_WRITEBACK)):
        pages = Counter(inodes[of_file & (flags & bit > 0)].tolist())
        for inode in range(1, int(machine.sc[r.SC_INODE_TOP]) + 1):
            counted = int(machine.inode[inode * r.INODE_STRIDE + field]) if machine.inode[inode * r.INODE_STRIDE + r.I_NLINK] else 0
            if pages[inode] != counted:
                found.append(f"inode {inode}: {pages[inode]} pages are {what}, the inode says {counted}")
    dirty = int(np.count_nonzero(of_file & (flags & PG_DIRTY > 0)))
    if (counted := _node_sum(machine, V_NR_DIRTY)) != dirty:
        found.append(f"{dirty} file pages are dirty, nr_dirty says {counted}")
    memcgs = machine.pagex[3::4] >> 16
    for what, bit, field, which in (("dirty", PG_DIRTY, r.MC_NR_DIRTY, of_file), ("under write-back", PG_WRITEBACK, r.MC_NR_WRITEBACK, flags >= 0)):
        of_memcg = Counter(memcgs[which & (flags & bit > 0)].tolist())
        for memcg in reversed(range(1, int(machine.sc[r.SC_NR_MEMCGS]))):  # children have higher numbers than their parents
            row = memcg * r.MEMCG_STRIDE
            if of_memcg[memcg] != machine.memcg[row + field]:
                found.append(f"cgroup {memcg}: {of_memcg[memcg]} pages are {what}, it has counted {machine.memcg[row + field]}")
            of_memcg[int(machine.memcg[row + r.MC_PARENT])] += of_memcg[memcg]
    listed: Counter[int] = Counter()
    for io_list in (r.IO_DIRTY, r.IO_QUEUED, r.IO_MORE):
        inode = int(machine.wb[r.WB_LISTS + 2 * io_list])
        while inode and listed[inode] == 0:
            listed[inode] += 1
            if machine.inode[inode * r.INODE_STRIDE + r.I_IO_LIST] != io_list:
                found.append(f"inode {inode} is on list {io_list} of dirty inodes and does not know it")
            inode = int(machine.inode[inode * r.INODE_STRIDE + r.I_IO_NEXT])
    for inode in range(1, int(machine.sc[r.SC_INODE_TOP]) + 1):
        row = inode * r.INODE_STRIDE
        if machine.inode[row + r.I_NLINK] and machine.inode[row + r.I_NR_DIRTY] and not listed[inode] and machine.wb[r.WB_INODE] != inode:
            found.append(f"inode {inode} has dirty pages and is on no list")
    return found


def _node_sum(machine, item: int) -> int:
    return int(machine.vmstat[item :: VMSTAT_STRIDE].sum())


def _tables(machine) -> list[str]:
    """Each page table is used once, and its frame knows it."""
    found = []
    used: Counter[int] = Counter()
    for task in range(int(machine.sc[r.SC_NR_TASKS])):
        mm = int(machine.task[task * r.TASK_STRIDE + r.T_MM])
        if not machine.mm[mm * r.MM_STRIDE + r.MM_USERS]:
            continue
        numbers, level = [int(machine.mm[mm * r.MM_STRIDE + r.MM_ROOT])], 3
        nr_tables = 0
        while level >= 0:
            used.update(numbers)
            nr_tables += len(numbers) if level < 3 else 0
            below = []
            for number in numbers:
                slots = machine.pt[number * 512 : number * 512 + 512]
                if level == 1:
                    deposit = int(machine.table[number * r.TABLE_STRIDE + r.TB_DEPOSIT])
                    while deposit:
                        used[deposit] += 1
                        nr_tables += 1
                        deposit = int(machine.table[deposit * r.TABLE_STRIDE + r.TB_NEXT_FREE])
                if level > 0:
                    below += [int(e) >> r.PTE_SHIFT for e in slots[np.flatnonzero(slots)] if not int(e) & r.PTE_HUGE]
            numbers, level = below, level - 1
        if nr_tables * 4096 != machine.mm[mm * r.MM_STRIDE + r.MM_PGTABLES_BYTES]:
            found.append(f"mm {mm}: {nr_tables} page tables, pgtables_bytes says {int(machine.mm[mm * r.MM_STRIDE + r.MM_PGTABLES_BYTES])}")
    for number, times in used.items():
        pfn = int(machine.table[number * r.TABLE_STRIDE + r.TB_PFN])
        if times != 1:
            found.append(f"page table {number} is used {times} times")
        if int(machine.pagex[4 * pfn + 3]) >> 12 & 15 != KIND_TABLE:
            found.append(f"page table {number}: frame {pfn} is not of kind TABLE")
    return found


def _vmas(sim) -> list[str]:
    """VMAs in order, without overlap; map_count and total_vm are what they add up to; every mapped page lies in one."""
    machine = sim.machine
    found = []
    for task in range(int(machine.sc[r.SC_NR_TASKS])):
        mm = int(machine.task[task * r.TASK_STRIDE + r.T_MM])
        base = mm * r.MM_STRIDE
        if not machine.mm[base + r.MM_USERS]:
            continue
        spans, at = [], 0
        while (vma := machine.op("vma_index", "find", mm, at)) >= 0:
            row = vma * r.VMA_STRIDE
            start, end = int(machine.vma[row + r.VMA_START]), int(machine.vma[row + r.VMA_END])
            if start < at or end <= start:
                found.append(f"mm {mm}: VMA {start:#x}-{end:#x} overlaps or is empty")
                break
            spans.append((start >> 12, end >> 12))
            at = end
        if len(spans) != machine.mm[base + r.MM_MAP_COUNT]:
            found.append(f"mm {mm}: {len(spans)} VMAs, map_count says {int(machine.mm[base + r.MM_MAP_COUNT])}")
        total = sum(end - start for start, end in spans)
        if total != machine.mm[base + r.MM_TOTAL_VM]:
            found.append(f"mm {mm}: {total} pages of VMAs, total_vm says {int(machine.mm[base + r.MM_TOTAL_VM])}")
        starts = np.array([s for s, _ in spans] or [0])
        ends = np.array([e for _, e in spans] or [0])
        for vpn, _, pages in walk(machine, mm):
            i = int(np.searchsorted(starts, vpn, side="right")) - 1
            if i < 0 or vpn + pages > ends[i]:
                found.append(f"mm {mm}: page {vpn:#x} is mapped outside every VMA")
    return found
