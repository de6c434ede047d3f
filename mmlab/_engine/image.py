"""The image of a script's task: a hidden driver process holds it, spawned tasks are forks of the driver, as on the recorded machines.

Data: `mmlab/verify/data/{plain,warm}/{T,U}.smaps`, recorded from a real kernel: T a task just spawned, U its child just forked;
`loop.pages`: addresses of code, data and stack that a task in `loop` keeps touching.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import attrs
import numpy as np

from mmlab._engine.boot import above_low_pages
from mmlab.machine.record import LRU_LISTS
from mmlab.mm.ext4_meta import ext4_mount
from mmlab.mm.files import inode_create
from mmlab.mm.fork import OOM_SCORE_ADJ_MIN, mm_alloc
from mmlab.mm.page_cache import filemap_get_page
from mmlab.mm.exec import image_anon_pages, image_cache_pages, image_file_pages, image_vma
from mmlab.mm.mlock import mlock_folio
from mmlab.mm.swap import lru_add_drain
from mmlab.model import rows as r
from mmlab.model.gfp import GFP_KERNEL
from mmlab.model.page import PG_DIRTY, PG_REFERENCED
from mmlab.model.vmstat import V_NR_MAPPED
from mmlab.procfs.tasks import PROGRAM
from mmlab.procfs.walk import entries

DATA = Path(__file__).resolve().parent.parent / "verify" / "data"
INITRAMFS_LOCKED = 202  # pages of the recorded machines' initramfs that the driver has locked: its program
DRIVER_PAGE = 0x7FFFF7E00000  # beside the kernel's own pages, whose page table it shares
_FLAGS = {
    "rd": r.VM_READ, "wr": r.VM_WRITE, "ex": r.VM_EXEC, "sh": r.VM_SHARED, "mr": r.VM_MAYREAD, "mw": r.VM_MAYWRITE, "me": r.VM_MAYEXEC, "ms": r.VM_MAYSHARE,
    "gd": r.VM_GROWSDOWN, "pf": r.VM_PFNMAP, "lo": r.VM_LOCKED, "io": r.VM_IO, "de": r.VM_DONTEXPAND, "ac": r.VM_ACCOUNT, "dd": r.VM_DONTDUMP, "sd": r.VM_SOFTDIRTY,
}
_NAMES = {"[heap]": r.NAME_HEAP, "[stack]": r.NAME_STACK, "[vvar]": r.NAME_VVAR, "[vdso]": r.NAME_VDSO}


@attrs.frozen
class ImageVma:
    """One VMA of the image. Pages: resident, anonymous, private (written since the fork that made the task), referenced."""

    start: int
    end: int
    offset: int
    flags: int
    path: str
    rss: int
    anonymous: int
    private: int
    referenced: int

    @property
    def name(self) -> int:
        return _NAMES.get(self.path, r.NAME_NONE)

    @property
    def is_file(self) -> bool:
        return self.path.startswith("/")


#: kernel.randomize_va_space = 2, one draw of it: bytes by which the mapped areas and the stack lie lower, and the heap higher than the end of
#: the program's data, from which it is apart then. Areas keep their places within 2 MiB and lie in 1 GiB each, as in most draws.
BSS_PAGES = 193
MMAP_LOWER, STACK_LOWER, HEAP_HIGHER = 64 << 30, 4 << 30, 0x24000000


def randomize(address: int) -> int:
    """Where an address of the image without randomisation lies with it."""
    if address >= 0x7FFFF8000000:
        return address - STACK_LOWER
    if address >= 0x7FFF00000000:
        return address - MMAP_LOWER
    return address + HEAP_HIGHER if address >= 0x590000 else address


def _randomized(image: list[ImageVma]) -> list[ImageVma]:
    vmas = []
    for v in image:
        if v.name == r.NAME_HEAP:
            edge = v.start + (BSS_PAGES << 12)
            vmas.append(attrs.evolve(v, end=edge, path="", rss=BSS_PAGES, anonymous=BSS_PAGES, private=min(v.private, BSS_PAGES)))
            left = {key: max(0, getattr(v, key) - BSS_PAGES) for key in ("rss", "anonymous", "private", "referenced")}
            v = attrs.evolve(v, start=edge, **left)
        vmas.append(attrs.evolve(v, start=randomize(v.start), end=randomize(v.end - 1) + 1))
    return vmas


@cache
def read_image(warm: bool, who: str, randomized: bool = False) -> tuple[ImageVma, ...]:
    """The VMAs of T (spawned) or U (forked)."""
    found: list[ImageVma] = []
    head: tuple = ()
    values: dict[str, int] = {}
    for line in (DATA / ("warm" if warm else "plain") / f"{who}.smaps").read_text().splitlines():
        mapping = re.match(r"([0-9a-f]+)-([0-9a-f]+) \S{4} ([0-9a-f]+) \S+ \d+\s*(.*)", line)
        if mapping:
            head = (int(mapping[1], 16), int(mapping[2], 16), int(mapping[3], 16), mapping[4].strip())
            values = {}
        elif line.startswith("VmFlags:"):
            flags = sum(_FLAGS[word] for word in line.split()[1:])
            pages = {key: values[key] // 4 for key in ("Rss", "Anonymous", "Private_Dirty", "Referenced")}
            found.append(ImageVma(head[0], head[1], head[2], flags, head[3], *pages.values()))
        else:
            field = re.match(r"(\w+):\s+(\d+) kB", line)
            if field:
                values[field[1]] = int(field[2])
    return tuple(_randomized(found) if randomized else found)


def _image_of(sim, who: str) -> tuple[ImageVma, ...]:
    return read_image(sim.warm_text, who, sim.randomized)


#: objects that the shell which started the driver holds, by cache: ten VMAs, four of them with anonymous memory
#: (make_shell() makes one of the VMAs, and the address space, in earnest)
SHELL_OBJECTS = {r.CACHE_VM_AREA_STRUCT: 9, r.CACHE_VMA_LOCK: 9, r.CACHE_MAPLE_NODE: 1, r.CACHE_ANON_VMA: 4, r.CACHE_ANON_VMA_CHAIN: 4}
SHELL_TEXT = 0x400000
SLEEP_CODE = 0x480000  # where the program's code of nanosleep() is: none of what it uses before


def make_driver(sim) -> int:
    """The hidden process whose forks the script's tasks are: its task row. Its memory is part of what boot left in use."""
    machine = sim.machine
    for number, count in SHELL_OBJECTS.items():
        for _ in range(count):
            machine.op("slab_allocator", "alloc", number, GFP_KERNEL)
    driver = sim._task_alloc(cpu=0, oom_score_adj=-1000, parent=-1)
    mm = int(machine.task[driver * r.TASK_STRIDE + r.T_MM])
    image = _image_of(sim, "T")
    vvar = next(v for v in image if v.name == r.NAME_VVAR)
    if sim.randomized:
        machine.mm[mm * r.MM_STRIDE + r.MM_MMAP_BASE] -= MMAP_LOWER
    length = max(v.offset + v.end - v.start for v in image if v.is_file)
    program = sim._open_inode(sim.machine.run(inode_create, length, r.IF_SHMEM))  # a part of what boot committed
    machine.run(image_cache_pages, sim._inode_of(program), length >> 12, 0)
    sim._file_names[sim._inode_of(program)] = PROGRAM
    code = next(v for v in image if v.is_file and v.flags & r.VM_EXEC)
    machine.mm[mm * r.MM_STRIDE + r.MM_START_CODE], machine.mm[mm * r.MM_STRIDE + r.MM_END_CODE] = code.start, code.end
    vdso_inode = sim._make_inode(6 << 12, shmem=False)
    vdso = sim._open_inode(vdso_inode)
    machine.run(image_cache_pages, vdso_inode, 6, 1)
    for index in range(6):  # pages of the kernel itself: on no list
        machine.op("reclaimer", "folio_removed", machine.run(filemap_get_page, vdso_inode, index))
    for v in image:
        special = v.name in (r.NAME_VVAR, r.NAME_VDSO)
        file = program if v.is_file else vdso if special else -1
        pgoff = v.offset >> 12 if v.is_file else (v.start - vvar.start) >> 12 if special else v.start >> 12
        vma = machine.run(image_vma, mm, v.start, v.end, v.flags, pgoff, file, v.name)
        if v.anonymous:
            machine.run(image_anon_pages, mm, vma, v.start >> 12, v.anonymous)
        if v.is_file and v.rss > v.anonymous:  # whole: it has locked itself in memory
            machine.run(image_file_pages, mm, vma, v.start >> 12, (v.end - v.start) >> 12)
        elif v.name == r.NAME_VDSO:
            machine.run(image_file_pages, mm, vma, v.start >> 12, 1)
    machine.run(lru_add_drain)
    locked = sum(machine.run(mlock_folio, machine.run(filemap_get_page, sim._inode_of(program), index)) for index in range(length >> 12))
    for v in image:  # it has locked itself in memory; boot's figures count that
        vma = machine.op("vma_index", "find", mm, v.start)
        if not v.flags & r.VM_SPECIAL:
            machine.vma[vma * r.VMA_STRIDE + r.VMA_FLAGS] |= r.VM_LOCKED
            slots = entries(machine, mm, v.start >> 12, v.end >> 12)
            for pfn in slots.entry >> r.PTE_SHIFT:
                locked += machine.run(mlock_folio, int(pfn))
            if v.anonymous == v.rss:  # forks find them referenced without having touched them; those not are among the last, which forks do not write
                machine.page[(slots.entry[: v.referenced] >> r.PTE_SHIFT) * 4 + 2] |= np.uint32(PG_REFERENCED)
    machine.run(lru_add_drain)
    _take_from_boot(sim, "unevictable", locked)
    own = [(randomize(int(line, 16)) if sim.randomized else int(line, 16)) >> 12 for line in (DATA / "loop.pages").read_text().split()]
    machine.loop_page[: len(own)] = own
    heap = next(v for v in image if v.name == r.NAME_HEAP)
    machine.mm[mm * r.MM_STRIDE + r.MM_START_BRK] = heap.end
    machine.mm[mm * r.MM_STRIDE + r.MM_BRK] = heap.end
    return driver


def make_initramfs(sim) -> None:
    """Pages of the root file system that are not locked, which reclaim can swap out: a part of what boot left on the lists of anonymous memory,
    all active. Their memory and their counters are boot's: the lowest above the kernel's image, as the first to be taken. The shell maps some."""
    machine = sim.machine
    count = min(sim.boot.totals["shmem"] - INITRAMFS_LOCKED, sum(zone.lru["active_anon"] for zone in sim.boot.zones))
    if count <= 0:
        return
    inode = machine.run(inode_create, count << 12, r.IF_SHMEM)
    zone, top = int(machine.sc[r.SC_MEMBLOCK_ZONE]), int(machine.sc[r.SC_MEMBLOCK_PFN])
    machine.sc[r.SC_MEMBLOCK_PFN] = above_low_pages(machine, sim.layout.zones[zone], count, top)
    machine.run(image_cache_pages, inode, count, 0)
    machine.sc[r.SC_MEMBLOCK_ZONE], machine.sc[r.SC_MEMBLOCK_PFN] = zone, top
    machine.run(lru_add_drain)
    for index in range(count):
        pfn = machine.run(filemap_get_page, inode, index)
        machine.op("reclaimer", "folio_accessed", pfn)  # written a part of a page at a time: used twice
        machine.op("reclaimer", "folio_accessed", pfn)
    machine.run(lru_add_drain)
    _take_from_boot(sim, "active_anon", count)
    machine.op("reclaimer", "flush_stats")
    make_shell(sim, inode, min(count, sim.boot.totals["mapped"] - int(machine.vmstat[V_NR_MAPPED])))


def make_shell(sim, inode: int, pages: int) -> None:
    """PID 1, the shell that runs the driver and waits for it: all that is mapped at boot and not the driver's is its program, the root file
    system's first. It cannot be killed. Its task is not drawn from the caches, whose objects boot's record counts."""
    machine = sim.machine
    if pages <= 0:
        return
    task = int(machine.sc[r.SC_NR_TASKS])
    if machine.run(mm_alloc, task) < 0:
        return
    row = task * r.TASK_STRIDE
    machine.task[row : row + r.TASK_STRIDE] = 0
    machine.task[row + r.T_PID], machine.task[row + r.T_MM], machine.task[row + r.T_ALIVE] = 1, task, 1
    machine.task[row + r.T_OOM_SCORE_ADJ] = OOM_SCORE_ADJ_MIN
    machine.task[row + r.T_PARENT] = machine.task[row + r.T_OBJ] = machine.task[row + r.T_STACK_PFN] = -1
    machine.mm[task * r.MM_STRIDE + r.MM_OWNER] = task
    machine.mm[task * r.MM_STRIDE + r.MM_LRU_GEN] |= r.MM_LRU_ALL_USED
    machine.sc[r.SC_NR_TASKS] += 1
    flags = r.VM_READ | r.VM_EXEC | r.VM_MAYREAD | r.VM_MAYWRITE | r.VM_MAYEXEC
    vma = machine.run(image_vma, task, SHELL_TEXT, SHELL_TEXT + (pages << 12), flags, 0, sim._open_inode(inode), r.NAME_NONE)
    machine.run(image_file_pages, task, vma, SHELL_TEXT >> 12, pages)


def _take_from_boot(sim, lru: str, count: int) -> None:
    """Pages of a list that boot left are simulated from now on: they count no more among those that are not."""
    for number, zone in enumerate(sim.boot.zones):
        taken = min(count, zone.lru.get(lru, 0))
        zone.lru[lru] = zone.lru.get(lru, 0) - taken
        sim.machine.zone[number * r.ZONE_STRIDE + r.Z_BOOT_LRU + LRU_LISTS.index(lru)] -= taken
        count -= taken


def mount_disk(sim) -> None:
    """The file system of the disk is there before the script: three of its blocks are cached, out of memory that boot left in use."""
    machine = sim.machine
    bdev, buddy = (machine.run(inode_create, size, 0) for size in (sim.cfg.disk_bytes, 0))
    for inode in (bdev, buddy):
        sim._open_inode(inode)  # in use, so reclaim leaves their inodes alone
    before = int(machine.inode[bdev * r.INODE_STRIDE + r.I_NRPAGES])
    machine.run(ext4_mount, bdev, buddy)
    cached = int(machine.inode[bdev * r.INODE_STRIDE + r.I_NRPAGES]) - before
    if sum(zone.lru["inactive_file"] for zone in sim.boot.zones) >= cached:  # they had reached the list by then
        machine.run(lru_add_drain)
        _take_from_boot(sim, "inactive_file", cached)


def settle(sim, task: int, who: str, text: bool) -> None:
    """A task just forked takes the copy-on-write faults of its own data and stack; text: and maps its code, as the record shows it."""
    machine = sim.machine
    mm = int(machine.task[task * r.TASK_STRIDE + r.T_MM])
    for v in _image_of(sim, who):
        if v.private:
            first = v.end // 4096 - v.private if v.flags & r.VM_GROWSDOWN else v.start // 4096  # a stack is written from its top
            sim._touch_quietly(task, first, v.private)
        if v.private and v.name == r.NAME_HEAP:
            _hold_zeroes(machine, entries(machine, mm, v.start >> 12, v.end >> 12))
        if text and v.rss > v.anonymous and not v.anonymous and (v.is_file or v.name == r.NAME_VDSO):
            vma = machine.op("vma_index", "find", mm, v.start)
            machine.run(image_file_pages, mm, vma, v.start >> 12, v.rss)
    if sim.warm_text:
        machine.run(lru_add_drain)  # its code came by MADV_POPULATE_READ


def _hold_zeroes(machine, found) -> None:
    """The program's bss, which the heap follows: what was stored into it are zeroes. (PTE_DIRTY would say otherwise.)"""
    present = (found.entry & r.PTE_PRESENT != 0) & (found.entry & r.PTE_SPECIAL == 0)
    machine.pt[found.slot[present]] &= ~r.PTE_DIRTY
    pages = found.entry[present] >> r.PTE_SHIFT
    machine.page[pages * 4 + 2] |= np.uint32(PG_DIRTY)
    machine.page_class[pages] = r.CLASS_ZERO | r.PAGE_USED


def driver_grows(sim) -> None:
    """The driving process takes one page more for itself when it writes its first full snapshot; its forks do not have it."""
    machine, driver = sim.machine, sim._driver
    mm = int(machine.task[driver * r.TASK_STRIDE + r.T_MM])
    current = int(machine.sc[r.SC_TASK]), int(machine.sc[r.SC_CPU]), int(machine.sc[r.SC_NODE])
    page = randomize(DRIVER_PAGE) if sim.randomized else DRIVER_PAGE
    flags = r.VM_READ | r.VM_WRITE | r.VM_MAYREAD | r.VM_MAYWRITE | r.VM_MAYEXEC | r.VM_ACCOUNT | r.VM_SOFTDIRTY | r.VM_LOCKED | r.VM_DONTCOPY
    machine.run(image_vma, mm, page, page + 4096, flags, page >> 12, -1, r.NAME_NONE)
    sim._touch_quietly(driver, page >> 12, 1)
    machine.sc[r.SC_TASK], machine.sc[r.SC_CPU], machine.sc[r.SC_NODE] = current
