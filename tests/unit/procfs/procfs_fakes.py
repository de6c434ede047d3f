"""A small machine whose state a test fills by hand: real arrays, layout and tuning, no policies and no kernels."""

from __future__ import annotations

from types import SimpleNamespace

from mmlab._engine.boot import _zone_row, apply_tuning, sizes_of
from mmlab.machine import ZoneTuning, build_machine, machine_from_table
from mmlab.model import rows as r
from mmlab.model.layout import make_arrays
from mmlab.model.page import PG_ANON, PG_DIRTY, PG_SWAPBACKED


class FakeMachine:
    """State arrays. What policies would answer: `blocks[zone][type][order]`, `lru[node, list]`, `scores[task]`, `slabs[cache][what]`."""

    def __init__(self, layout, nr_swap_slots=0):
        self.sizes = sizes_of(layout, nr_tasks=8, nr_swap_slots=nr_swap_slots)
        for name, array in make_arrays(self.sizes).items():
            setattr(self, name, array)
        self.blocks = [[[0] * 11 for _ in range(6)] for _ in layout.zones]
        self.lru = {}
        self.scores = {}
        self.slabs = {}
        self.vma_rows = {}
        self.chosen = {
            slot: SimpleNamespace(policy=SimpleNamespace(name=name)) for slot, name in (("thp", "never"), ("oom_policy", "linux"))
        }
        self.states = {}

    def run(self, function, *args):
        return 0

    def op(self, slot, name, *args):
        if (slot, name) == ("page_allocator", "nr_free_blocks"):
            zone, order, kind = args
            return self.blocks[zone][kind][order]
        if (slot, name) == ("reclaimer", "nr_lru_pages"):
            return self.lru.get(args, 0)
        if (slot, name) == ("oom_policy", "oom_score"):
            return self.scores.get(args[0], 0)
        if (slot, name) == ("slab_allocator", "stat"):
            return self.slabs.get(args[0], {}).get(args[1], 0)
        if (slot, name) == ("vma_index", "find"):
            mm, address = args
            rows = [row for row in self.vma_rows.get(mm, []) if self.vma[row * r.VMA_STRIDE + r.VMA_END] > address]
            return min(rows, key=lambda row: self.vma[row * r.VMA_STRIDE + r.VMA_START], default=-1)
        raise AssertionError(f"unexpected op {slot}.{name}")


class FakeSimulation:
    """What mmlab.procfs needs of a simulation, plus makers of tasks, VMAs and mapped pages."""

    def __init__(self, table=None, nr_swap_slots=0):
        swap = {"swap": f"{nr_swap_slots * 4}K"} if nr_swap_slots else {}
        self.cfg = machine_from_table({"memory": "64M", "bare": True, **swap, **(table or {})})
        _, self.layout, self.boot = build_machine(self.cfg)
        self.tuning = ZoneTuning(self.layout)
        self.machine = FakeMachine(self.layout, nr_swap_slots)
        for number, zone in enumerate(self.layout.zones):
            _zone_row(self.machine, number, zone)
        apply_tuning(self.machine, self.layout, self.tuning)
        sc = self.machine.sc
        sc[r.SC_TOTALRAM], sc[r.SC_NR_SWAP_SLOTS], sc[r.SC_NR_SWAP_FREE] = (
            self.layout.totalram_pages,
            nr_swap_slots,
            max(0, nr_swap_slots - 1),
        )
        self.tasks, self.cgroups = {}, {"": 0}
        self.kills = []
        self.next_table = 1

    def add_task(self, name):
        index = len(self.tasks)
        task = SimpleNamespace(name=name, index=index, mm=index, pid=150 + index)
        row, mm = index * r.TASK_STRIDE, index * r.MM_STRIDE
        self.machine.task[row + r.T_PID], self.machine.task[row + r.T_MM], self.machine.task[row + r.T_ALIVE] = task.pid, index, 1
        self.machine.task[row + r.T_PARENT] = -1
        self.machine.mm[mm + r.MM_ROOT] = self._table()
        self.tasks[name] = task
        return task

    def add_vma(self, task, start, nr_pages, flags=r.VM_READ | r.VM_WRITE | r.VM_MAYREAD | r.VM_MAYWRITE | r.VM_MAYEXEC, name=0):
        row = sum(map(len, self.machine.vma_rows.values()))
        words = self.machine.vma[row * r.VMA_STRIDE : (row + 1) * r.VMA_STRIDE]
        words[r.VMA_START], words[r.VMA_END], words[r.VMA_FLAGS] = start, start + (nr_pages << 12), flags
        words[r.VMA_FILE] = words[r.VMA_INODE] = words[r.VMA_ANON_VMA] = -1
        words[r.VMA_PGOFF], words[r.VMA_NAME] = start >> 12, name
        self.machine.vma_rows.setdefault(task.mm, []).append(row)
        return row

    def _table(self):
        self.next_table += 1
        return self.next_table - 1

    def _slot(self, task, vpn, last_level):
        table = int(self.machine.mm[task.mm * r.MM_STRIDE + r.MM_ROOT])
        for level, shift in enumerate((27, 18, 9, 0)):
            slot = table * 512 + (vpn >> shift & 511)
            if level == last_level:
                return slot
            if not self.machine.pt[slot]:
                self.machine.pt[slot] = self._table() << r.PTE_SHIFT | r.PTE_PRESENT
            table = int(self.machine.pt[slot]) >> r.PTE_SHIFT
        raise AssertionError

    def map_page(self, task, vpn, pfn, entry=r.PTE_PRESENT | r.PTE_ACCESSED, flags=PG_ANON | PG_SWAPBACKED, mapcount=1):
        self.machine.pt[self._slot(task, vpn, 3)] = pfn << r.PTE_SHIFT | entry
        if entry & r.PTE_PRESENT and not entry & r.PTE_SPECIAL:
            self.set_page(pfn, flags, mapcount)

    def map_huge(self, task, vpn, pfn, flags=PG_ANON | PG_SWAPBACKED | PG_DIRTY):
        self.machine.pt[self._slot(task, vpn, 2)] = pfn << r.PTE_SHIFT | r.PTE_PRESENT | r.PTE_HUGE | r.PTE_ACCESSED
        self.set_page(pfn, flags, 1)

    def set_page(self, pfn, flags, mapcount):
        self.machine.page[pfn * 4 + 2] = flags
        self.machine.page[pfn * 4 + 3] = mapcount
