"""A simulated machine to step, inspect and plot: ``Simulation.from_table({"memory": "64M"})``, or an experiment's cell through ``run_cell``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np

from mmlab._engine import cma, loop, tlb
from mmlab._engine.aged import age
from mmlab._engine.alloc_run import ENTRIES as AGING
from mmlab._engine.compile import Entry
from mmlab._engine.bring_up import apply_setting, early_memory, settings
from mmlab._engine.choose import choose, choose_one
from mmlab._engine.boot import boot_machine, device_memmap, nodemask_slot, sizes_of
from mmlab._engine.core import SERVICES
from mmlab._engine.explained import EXPLAINED, decisions
from mmlab._engine.page_calls import HeldBlocks
from mmlab._engine.machine import Chosen, Machine
from mmlab._engine.memory_hotplug import MemoryBlocks
from mmlab._engine.swap_devices import nr_swap_slots
from mmlab.errors import InputError, MmlabError, NotSupported
from mmlab.machine import MachineConfig, ZoneTuning, build_machine, machine_from_table
from mmlab.mm import files, fork, gup, madvise, mbind, mempolicy, mmap, mremap, sys_mlock
from mmlab.mm.ext4_meta import ext4_create
from mmlab.model import rows as r
from mmlab.model import vmstat as v
from mmlab.model.const import EINVAL, PAGE_SIZE, READ, WRITE
from mmlab.model.page import PG_ANON
from mmlab.procfs import cpusets
from mmlab.procfs.cgroups import NR_MEMCGS
from mmlab.procfs.cgroups import make as make_cgroup
from mmlab.pluginmanager import Registry, load_plugins
from mmlab.workload.stream import EventStream, touched_ranges, work_of_tasks

if TYPE_CHECKING:
    import plotly.graph_objects

    from mmlab._engine.sampler import Sampler
    from mmlab._engine.stepping import Stepper

PROT = {"r": r.VM_READ, "w": r.VM_WRITE, "x": r.VM_EXEC, "n": 0}
MAP_FLAGS = {
    "shared": mmap.MAP_SHARED, "fixed": mmap.MAP_FIXED, "fixed_noreplace": mmap.MAP_FIXED_NOREPLACE, "noreserve": mmap.MAP_NORESERVE,
    "growsdown": mmap.MAP_GROWSDOWN, "locked": mmap.MAP_LOCKED, "populate": mmap.MAP_POPULATE,
}
WRITE_BYTES = 1 << 16  # of one write() of mkfile


@attrs.frozen
class Task:
    """A process: its name, its row in m.task and m.mm, and its pid."""

    name: str
    index: int
    mm: int
    pid: int


@attrs.frozen
class File:
    """An open file: its name and its row in m.file."""

    name: str
    index: int


@attrs.frozen
class Outcome:
    """What an operation did to its task: its answer, its own faults, the signal it got, and simulated ns."""

    ret: int
    minflt: int = 0
    majflt: int = 0
    ns: int = 0
    signal: int = 0
    si_code: int = 0
    si_addr: int = 0
    died: bool = False


def _quiet(_text: str, _seconds: float) -> None:
    pass


class Simulation:
    """One machine with one choice of policies. Operations take tasks by name, addresses in bytes, and answer as the system call would.

    stream: the bulk stream that will be run, for policies that know the future accesses; explain: decisions of reclaim of which explained() is
    to tell, once and twice as many (0: none).
    """

    def __init__(self, cfg: MachineConfig, policies: Mapping[str, Mapping[str, Any]] | None = None, *, seed: int = 0, script: bool = False, warm_text: bool = False,
                 registry: Registry | None = None, progress: Callable[[str, float], None] = _quiet, nr_tasks: int = 256, base_dir: Path | None = None,
                 entries: Iterable[Entry] = (), stream: EventStream | None = None, explain: int = 0):
        if cfg.import_dir and base_dir is not None and not Path(cfg.import_dir).is_absolute() and (base_dir / cfg.import_dir).exists():
            cfg = attrs.evolve(cfg, import_dir=str(base_dir / cfg.import_dir))
        if cfg.aged and cfg.aged.pagetypeinfo and base_dir is not None and (base_dir / cfg.aged.pagetypeinfo).exists():
            cfg = attrs.evolve(cfg, aged=attrs.evolve(cfg.aged, pagetypeinfo=str(base_dir / cfg.aged.pagetypeinfo)))
        self.registry = registry or load_plugins()
        self.warm_text, self.seed = warm_text, seed
        self.randomized = str(cfg.sysctl.get("kernel.randomize_va_space", "0")) != "0"
        self.policies = choose(self.registry, policies or {}, cfg)
        self.cfg, self.layout, self.boot = build_machine(cfg)
        self.tuning = ZoneTuning(self.layout, thp=cfg.options.transparent_hugepage)
        self.tasks: dict[str, Task] = {}
        self.kills: list[dict[str, Any]] = []
        self.candidates: list[dict[str, Any]] = []
        self.stepper: Stepper | None = None
        self.sampler: Sampler | None = None
        self.held = HeldBlocks(self)
        self.cgroups: dict[str, int] = {"": 0}
        self.cpusets: dict[int, cpusets.Cpuset] = {}
        self._files: dict[str, int] = {}
        self._file_names: dict[int, str] = {}
        self._driver = -1
        self._driver_grown = False
        self.results_in_memory = True  # what a script's executor keeps takes memory
        reclaimer = self.policies["reclaimer"].policy
        self._future = bool(reclaimer.needs_future or self.policies["tiering"].policy.needs_future)
        nr_memcgs = NR_MEMCGS if script and reclaimer.per_memcg else 1
        thp, cost_model = self.policies["thp"].policy, self.policies["cost_model"]
        oom_policy = self.policies["oom_policy"].policy
        for slot, chosen in self.policies.items():
            if stream is None and getattr(chosen.policy, "needs_future", False):
                raise NotSupported(
                    f"{slot} {chosen.policy.name!r} knows the future accesses of a bulk stream; there is none here: "
                    "Simulation.from_experiment(PATH) and `mmlab run` have one"
                )
        future = touched_ranges(stream.words) if thp.needs_future and stream is not None else ()
        geometry = tlb.geometry_of(cost_model.policy, cost_model.params)
        subpages = bool(tlb.entries_of(geometry) or thp.wants_subpages or script)
        sizes = sizes_of(
            self.layout, nr_tasks, nr_swap_slots(self.cfg.swap_devices), self._future, nr_memcgs, tlb.entries_of(geometry), subpages,
            len(future[0]) if future else 0, bool(oom_policy.needs_future), explain,
        )
        self.machine = Machine(sizes, self.policies, progress, EXPLAINED if explain else SERVICES)
        self.machine.bind([*entries, *(AGING if self.cfg.aged and AGING[0] not in entries else ())])
        boot_machine(self.machine, self.layout, self.tuning, self.boot)
        tlb.set_geometry(self.machine.tlb, geometry)
        if future:
            self.machine.future_range[: len(future[0])], self.machine.future_pages[: len(future[0])] = future
        if oom_policy.needs_future and stream is not None:
            work = work_of_tasks(stream.words, len(stream.tasks))
            self.machine.future_task[: work.size] = work.ravel()
        self.cma = cma.reserve(self.machine, self.layout, self.cfg.options.cma)
        settings(self, script)
        device_memmap(self.machine, self.layout)
        self.blocks = MemoryBlocks(self)
        if self.cfg.options.memhp_default_state == "offline":
            for block in (block for dimm in self.blocks.dimms for block in dimm if block in self.blocks.state):  # a boot record may lack them
                self.blocks.offline(block)
        early_memory(self, script)
        from mmlab.procfs.settings import settings_of

        settings_of(self).set_dirty_limit()
        for key, value in self.cfg.sysctl.items():
            apply_setting(self, "sysctl", key, value)
        for key, value in self.cfg.sysfs.items():
            apply_setting(self, "sysfs", key, value)
        tiering = self.policies["tiering"].policy
        if not tiering.hint_faults:
            self.machine.sc[r.SC_NUMA_BALANCING] = 0
        if not tiering.demotes:
            self.machine.sc[r.SC_DEMOTION_ENABLED] = 0
        if self.cfg.aged and self.cfg.aged.generator:
            age(self)

    @classmethod
    def from_experiment(cls, path: str | Path, **choice: Any) -> Simulation:
        """A cell of an experiment whose workload is a stream of accesses, before its first event: to be run by step() and looked at by plot().

        choice: what the cell has on axes of the matrix, named by slot or by the last part of the key (reclaimer="clock", memory="8M"); of
        several cells it is the first. Raises InputError.
        """
        from mmlab._engine.stepping import open_simulation

        return open_simulation(cls, path, choice)

    def choose(self, slot: str, name: str) -> Chosen:
        """A policy with its defaults, for a machine that changes it while it runs."""
        return choose_one(self.registry, slot, name, {}, self.cfg)

    def explained(self) -> list[dict[str, Any]]:
        """A sample of the pages that reclaim took up or found accessed so far, and of others that stay, with what the reclaimer knows of them.

        Rows as `mmlab explain` prints them (see mmlab._engine.explained.decisions()). Raises InputError for a simulation without `explain`.
        """
        if not self.machine.sizes.explain:
            raise InputError("this simulation explains nothing: make it with explain=N, for N decisions of reclaim")
        return decisions(self.machine, self)

    def step(self, events: int = 100_000) -> int:
        """Run the next events of the experiment's stream: how many are left. Raises InputError without a stream."""
        return self._stepping().run.step(events)

    def plot(self, name: str = "rss_pages") -> plotly.graph_objects.Figure:
        """A series of the steps so far over simulated time (rss_pages, pgfault, pgmajfault, refaults, nr_free, free_blocks ...)."""
        return self._stepping().plot(name)

    def _stepping(self) -> Stepper:
        if self.stepper is None:
            raise InputError("this simulation has no stream of events: Simulation.from_experiment(PATH) has one")
        return self.stepper

    @classmethod
    def from_table(cls, table: Mapping[str, Any], *, sysctl: Mapping[str, Any] | None = None, sysfs: Mapping[str, Any] | None = None, where: str = "", **more: Any) -> Simulation:
        """A simulation of a [machine] table; see the class for the other arguments."""
        return cls(machine_from_table(dict(table), where, sysctl=sysctl, sysfs=sysfs), **more)

    # -- plumbing --------------------------------------------------------------------------------------------------------------------------
    @property
    def now_ns(self) -> int:
        """The simulated clock."""
        return int(self.machine.sc[r.SC_NOW_NS])

    def task(self, name: str) -> Task:
        """A task by name; MmlabError if there is none."""
        if name not in self.tasks:
            raise MmlabError(f"no task named {name!r}")
        return self.tasks[name]

    def alive(self, name: str) -> bool:
        """Whether the task still runs."""
        return bool(self.machine.task[self.task(name).index * r.TASK_STRIDE + r.T_ALIVE])

    def _task_alloc(self, cpu: int, oom_score_adj: int, parent: int) -> int:
        index = self.machine.run(fork.task_alloc, cpu, oom_score_adj, parent)
        if index >= 0:
            self.machine.task[index * r.TASK_STRIDE + r.T_NODE] = self._node_of(cpu)
        return index

    def _node_of(self, cpu: int) -> int:
        for node, cpus in enumerate(self.layout.node_cpus):
            if cpu in cpus:
                return node
        return 0

    def _switch(self, index: int) -> None:
        sc, row = self.machine.sc, index * r.TASK_STRIDE
        sc[r.SC_TASK], sc[r.SC_CPU], sc[r.SC_NODE] = index, self.machine.task[row + r.T_CPU], self.machine.task[row + r.T_NODE]
        self.machine.mm[int(self.machine.task[row + r.T_MM]) * r.MM_STRIDE + r.MM_LRU_GEN] |= r.MM_LRU_ALL_USED
        sc[r.SC_RUN_SINCE_NS] = sc[r.SC_NOW_NS]
        if sc[r.SC_NUMA_BALANCING]:
            sc[r.SC_NEXT_EVENT_NS] = 0  # when this task's next tick matters is not known yet

    def _account(self, index: int) -> None:
        """A task's operation has ended: the rest of its run time counts."""
        sc = self.machine.sc
        self.machine.numa_task[index * r.NT_STRIDE + r.NT_RUNTIME] += sc[r.SC_NOW_NS] - sc[r.SC_RUN_SINCE_NS]
        sc[r.SC_RUN_SINCE_NS] = sc[r.SC_NOW_NS]

    def _register(self, name: str, index: int) -> Task:
        task = Task(name, index, int(self.machine.task[index * r.TASK_STRIDE + r.T_MM]), int(self.machine.task[index * r.TASK_STRIDE + r.T_PID]))
        self.tasks[name] = task
        return task

    def _notice_kills(self) -> None:
        """Keep what the OOM killer did since the last look. Raises PluginError if its policy chose one who cannot be killed."""
        from mmlab._engine.oomlog import notice

        notice(self)

    def _call(self, name: str, function: Callable, *args: int) -> int:
        """A system call of a task on its address space."""
        task = self.task(name)
        self._switch(task.index)
        answer = self.machine.run(function, task.mm, *args)
        self._account(task.index)
        self._notice_kills()
        return answer

    # -- pages -----------------------------------------------------------------------------------------------------------------------------
    def alloc_pages(self, order: int = 0, gfp: str | int = "GFP_KERNEL", node: int = -1, cpu: int = 0) -> int:
        """A block of 2^order frames that belongs to no task: its first frame, or -errno. gfp: names joined by | or bits of model/gfp.py."""
        return self.held.alloc(order, gfp, node, cpu)

    def alloc_pages_bulk(self, count: int, gfp: str | int = "GFP_KERNEL", node: int = -1, cpu: int = 0) -> list[int]:
        """Frames one by one, as many of `count` as one zone has above its low watermark, at least one if memory is to be had."""
        return self.held.alloc_bulk(count, gfp, node, cpu)

    def free_pages(self, pfn: int, order: int = 0, cpu: int = 0) -> None:
        """Give such a block back. Raises MmlabError that says what the frame is, unless exactly this block was handed out and not freed since."""
        self.held.free(pfn, order, cpu)

    # -- tasks -----------------------------------------------------------------------------------------------------------------------------
    def spawn(self, name: str, cpu: int = 0, oom_score_adj: int = 0, cgroup: str | None = None) -> Task:
        """Start a process: a fork of the script's driver with its image, or an empty one outside scripts. cgroup: moved there at once."""
        if name in self.tasks and self.alive(name):
            raise MmlabError(f"task {name!r} exists already")
        if not 0 <= cpu < self.machine.sizes.nr_cpus:
            raise InputError(f"task {name!r}: CPU {cpu} does not exist: the machine has {self.machine.sizes.nr_cpus} (machine.cpus)")
        if self._driver >= 0:
            from mmlab._engine.image import settle

            self.machine.task[self._driver * r.TASK_STRIDE + r.T_CPU] = cpu
            self._switch(self._driver)
            index = self.machine.run(fork.sys_fork, self._driver)
            if index >= 0:
                self.machine.task[index * r.TASK_STRIDE + r.T_NODE] = self._node_of(cpu)
                if cgroup is not None:  # it may use that cgroup's nodes only, but its image is not charged
                    cpusets.attach(self, self._register(name, index), make_cgroup(self, cgroup))
                    self.machine.task[index * r.TASK_STRIDE + r.T_MEMCG] = 0
                settle(self, index, "T", True)
                self.machine.task[index * r.TASK_STRIDE + r.T_PARENT] = -1
        else:
            index = self._task_alloc(cpu, oom_score_adj, -1)
        if index < 0:
            raise MmlabError(f"task {name!r} cannot be started: out of memory")
        self.machine.task[index * r.TASK_STRIDE + r.T_OOM_SCORE_ADJ] = oom_score_adj
        task = self._register(name, index)
        if cgroup is not None and self._driver >= 0:
            self.machine.task[index * r.TASK_STRIDE + r.T_MEMCG] = make_cgroup(self, cgroup)
        elif cgroup is not None:
            cpusets.attach(self, task, make_cgroup(self, cgroup))
        return task

    def fork(self, parent: str, child: str) -> Task | int:
        """fork(2): the child, or -errno."""
        old = self.task(parent)
        self._switch(old.index)
        index = self.machine.run(fork.sys_fork, old.index)
        if index < 0:
            return index
        self.machine.task[index * r.TASK_STRIDE + r.T_NODE] = self.machine.task[old.index * r.TASK_STRIDE + r.T_NODE]
        if self._driver >= 0:
            from mmlab._engine.image import settle

            settle(self, index, "U", True)
            settle(self, old.index, "U", False)
        return self._register(child, index)

    def exit(self, name: str, signal: int = 0) -> int:
        """The task ends; its memory goes."""
        task = self.task(name)
        self._switch(task.index)
        answer = self.machine.run(fork.do_exit, task.index, signal)
        self.machine.sc[r.SC_TASK] = -1
        return answer

    def kill(self, name: str, signal: int = 9) -> int:
        """The task gets a deadly signal."""
        return self.exit(name, signal)

    # -- address space -----------------------------------------------------------------------------------------------------------------------
    def mmap(self, name: str, length: int, prot: str = "rw", flags: Iterable[str] = (), addr: int = 0, file: File | None = None, offset: int = 0) -> int:
        """mmap(2): the address, or -errno. prot: letters of r w x, or n; flags: names of MAP_FLAGS."""
        bits = sum(MAP_FLAGS[flag] for flag in set(flags))
        row = file.index if file is not None else -1
        if file is not None and offset & 4095:
            return -EINVAL
        return self._call(name, mmap.sys_mmap, addr, length, sum(PROT[letter] for letter in set(prot)), bits, row, offset >> 12)

    def munmap(self, name: str, addr: int, length: int) -> int:
        """munmap(2)."""
        return self._call(name, mmap.sys_munmap, addr, length)

    def mprotect(self, name: str, addr: int, length: int, prot: str) -> int:
        """mprotect(2)."""
        return self._call(name, mmap.sys_mprotect, addr, length, sum(PROT[letter] for letter in set(prot)))

    def mremap(self, name: str, addr: int, old: int, new: int, flags: Iterable[str] = ("maymove",), new_addr: int = 0) -> int:
        """mremap(2). flags: maymove, fixed, dontunmap."""
        names = {"maymove": mremap.MREMAP_MAYMOVE, "fixed": mremap.MREMAP_FIXED, "dontunmap": mremap.MREMAP_DONTUNMAP}
        return self._call(name, mremap.sys_mremap, addr, old, new, sum(names[flag] for flag in set(flags)), new_addr)

    def brk(self, name: str, new_end: int) -> int:
        """brk(2): the end of the heap after the call."""
        return self._call(name, mmap.sys_brk, new_end)

    def madvise(self, name: str, addr: int, length: int, advice: str) -> int:
        """madvise(2)."""
        if advice in ("populate_read", "populate_write"):
            if addr & 4095:
                return -EINVAL
            end = addr + -(-length // 4096) * 4096
            return self._call(name, gup.madvise_populate, addr, end, WRITE if advice == "populate_write" else READ)
        if advice not in madvise.ADVICES:
            raise NotSupported(f"madvise {advice}")
        return self._call(name, madvise.sys_madvise, addr, length, madvise.ADVICES.index(advice))

    def mbind(self, name: str, addr: int, length: int, policy: str, nodes: Iterable[int] = (), move: bool = False) -> int:
        """mbind(2): a NUMA policy for a range; move: pages on other nodes than it names move (MPOL_MF_MOVE)."""
        number = self._mempolicy(name, policy, nodes)
        return number if number < 0 else self._call(name, mbind.sys_mbind, addr, length, number, int(move))

    def set_mempolicy(self, name: str, policy: str, nodes: Iterable[int] = ()) -> int:
        """set_mempolicy(2): the policy of what the task allocates from now on, where no mbind() says otherwise."""
        number = self._mempolicy(name, policy, nodes)
        if number < 0:
            return number
        row = self.tasks[name].index * r.TASK_STRIDE
        self.machine.task[row + r.T_MEMPOLICY] = number
        self.machine.task[row + r.T_IL_PREV], self.machine.task[row + r.T_IL_WEIGHT] = -1, 0
        return 0

    def _mempolicy(self, name: str, policy: str, nodes: Iterable[int]) -> int:
        """The number of a policy, or -EINVAL: nodes without memory and those that the task's cpuset forbids are dropped, and the others must
        be what the mode needs."""
        mode, asked = mempolicy.MODES.index(policy), set(nodes)
        row = int(self.machine.task[self.task(name).index * r.TASK_STRIDE + r.T_MEMCG])
        allowed = cpusets.effective(self, row, "mems")
        usable = sorted(asked & allowed)
        if mode in (0, mempolicy.MPOL_LOCAL):
            return -EINVAL if asked else mode
        if mode == mempolicy.MPOL_PREFERRED and not asked:
            return mempolicy.MPOL_LOCAL
        return self.policy_number(mode, usable, allowed) if usable else -EINVAL

    def policy_number(self, mode: int, nodes: Iterable[int], allowed: Iterable[int]) -> int:
        """How m.task and m.vma write a policy of these nodes; allowed: the nodes of the task's cpuset."""
        mask, within = (sum(1 << node for node in some) for some in (nodes, allowed))
        slot = 0
        if mode == mempolicy.MPOL_BIND:
            slot = self.nodemask_slot(mask, 0)
        elif mode == mempolicy.MPOL_PREFERRED_MANY:
            slot = self.nodemask_slot(mask & within, within)
        return mode | mask << 8 | slot << mempolicy.POLICY_SLOT_SHIFT

    def nodemask_slot(self, mask: int, then: int) -> int:
        """Number of the zonelists of a set of nodes; then: the set to which a request goes that they refuse, 0 for none."""
        return nodemask_slot(self.machine, self.layout, mask, then)

    def mlock(self, name: str, addr: int, length: int, onfault: bool = False) -> int:
        """mlock(2), mlock2(2) with MLOCK_ONFAULT."""
        return self._call(name, sys_mlock.sys_mlock, addr, length, r.VM_LOCKED | (r.VM_LOCKONFAULT if onfault else 0))

    def munlock(self, name: str, addr: int, length: int) -> int:
        """munlock(2)."""
        return self._call(name, sys_mlock.sys_mlock, addr, length, 0)

    def mlockall(self, name: str, current: bool = False, future: bool = False, onfault: bool = False) -> int:
        """mlockall(2)."""
        flags = (sys_mlock.MCL_CURRENT, current), (sys_mlock.MCL_FUTURE, future), (sys_mlock.MCL_ONFAULT, onfault)
        bits = sum(bit for bit, on in flags if on)
        return self._call(name, sys_mlock.sys_mlockall, bits) if bits else -EINVAL

    def munlockall(self, name: str) -> int:
        """munlockall(2)."""
        return self._call(name, sys_mlock.sys_mlockall, 0)

    # -- accesses ----------------------------------------------------------------------------------------------------------------------------
    def touch(self, name: str, addr: int, nr_pages: int, access: int = 0, stride_pages: int = 1, reverse: bool = False) -> Outcome:
        """One load (access 0) or store (1) in each of nr_pages pages."""
        stride = -stride_pages if reverse else stride_pages
        first = (addr >> 12) + (stride_pages * (nr_pages - 1) if reverse else 0)
        return self._touch(name, lambda task: self.machine.run(loop.touch_range, task.index, first, nr_pages, stride, access))

    def touch_pages(self, name: str, vpns: np.ndarray, accesses: np.ndarray) -> Outcome:
        """One access in each of the virtual pages given, in order; both arrays int64."""
        return self._touch(name, lambda task: self.machine.run(loop.touch_pages, task.index, vpns, accesses, 0, len(vpns)))

    def _touch(self, name: str, run: Callable[[Task], int]) -> Outcome:
        task, sc = self.task(name), self.machine.sc
        self._switch(task.index)
        row = task.index * r.TASK_STRIDE
        rows = self.machine.task
        before, began = (int(rows[row + r.T_MIN_FLT]), int(rows[row + r.T_MAJ_FLT])), self.now_ns
        run(task)
        self._account(task.index)
        why = int(sc[r.SC_EVENT])
        self._notice_kills()
        killed = bool(rows[row + r.T_FLAGS] & r.TF_KILLED)
        faults = int(rows[row + r.T_MIN_FLT]) - before[0], int(rows[row + r.T_MAJ_FLT]) - before[1]
        if killed:
            self.exit(name, 9)
            return Outcome(-14, *faults, self.now_ns - began, 9, died=True)
        if why == loop.STOP_SIGNAL:
            signal, code, address = (int(rows[row + field]) for field in (r.T_SIGNAL, r.T_SI_CODE, r.T_SI_ADDR))
            rows[row + r.T_SIGNAL] = 0
            return Outcome(-14, *faults, self.now_ns - began, signal, code, address)
        return Outcome(0, *faults, self.now_ns - began)

    def _touch_quietly(self, task: int, vpn: int, nr_pages: int) -> None:
        """Writes that are nobody's operation: the task's fault counts stay."""
        row = task * r.TASK_STRIDE
        kept = self.machine.task[row + r.T_MIN_FLT], self.machine.task[row + r.T_MAJ_FLT]
        self.machine.run(loop.touch_range, task, vpn, nr_pages, 1, 1)
        self.machine.task[row + r.T_MIN_FLT], self.machine.task[row + r.T_MAJ_FLT] = kept

    # -- files -------------------------------------------------------------------------------------------------------------------------------
    def _make_inode(self, size: int, shmem: bool) -> int:
        inode = self.machine.run(files.inode_create, size, r.IF_SHMEM | r.IF_NORESERVE | r.IF_MNT if shmem else 0)
        if inode < 0:
            raise MmlabError("no memory for an inode")
        if not shmem and self.machine.sc[r.SC_BDEV]:
            self.machine.run(ext4_create, inode)
        return inode

    def file_name(self, inode: int) -> str:
        """The name of a file by its row in m.inode."""
        return self._file_names.get(inode, f"inode {inode}")

    def _open_inode(self, inode: int) -> int:
        row = self.machine.run(files.file_open, inode)
        if row < 0:
            raise MmlabError("no memory for an open file")
        return row

    def _inode_of(self, file: int) -> int:
        return int(self.machine.file[file * r.FILE_STRIDE + r.F_INODE])

    def mkfile(self, fname: str, size: int) -> int:
        """A file of `size` bytes, its pages cached and clean; on tmpfs where the machine has no disk."""
        self.machine.sc[r.SC_TASK] = self._driver
        inode = self._make_inode(size if self.cfg.disk_bytes else 0, shmem=not self.cfg.disk_bytes)  # a tmpfs file grows as it is written
        self._files[fname] = inode
        self._file_names[inode] = fname
        row = self._open_inode(inode)
        answer = 0
        if size:
            answer = self.machine.run(loop.file_io, row, 0, size, WRITE_BYTES, 1)
        if self.cfg.disk_bytes:
            self.machine.run(files.file_fsync, row)
        self.machine.run(files.file_close, row)
        return min(answer, 0)

    def open(self, fname: str) -> File:
        """A new open file."""
        if fname not in self._files:
            raise MmlabError(f"no file named {fname!r}")
        return File(fname, self._open_inode(self._files[fname]))

    def close(self, file: File) -> None:
        """Close an open file; maps of it keep it."""
        self.machine.run(files.file_close, file.index)

    def _file_call(self, name: str, fname: str, function: Callable, *args: int, advice: int = 0) -> Outcome:
        task = self.task(name)
        self._switch(task.index)
        began = self.now_ns
        file = self.open(fname)
        if advice:
            self.machine.run(files.fadvise, file.index, 0, 0, advice)
        answer = self.machine.run(function, file.index, *args)
        self.close(file)
        self._account(task.index)
        self._notice_kills()
        return Outcome(answer, ns=self.now_ns - began)

    def fread(self, name: str, fname: str, offset: int, length: int, advice: int = 0) -> Outcome:
        """Read page by page through a new open file."""
        return self._file_call(name, fname, loop.file_io, offset, length, PAGE_SIZE, 0, advice=advice)

    def fwrite(self, name: str, fname: str, offset: int, length: int) -> Outcome:
        """Write page by page through a new open file."""
        return self._file_call(name, fname, loop.file_io, offset, length, PAGE_SIZE, 1)

    def fsync(self, name: str, fname: str) -> Outcome:
        """Write a file's dirty pages."""
        return self._file_call(name, fname, files.file_fsync)

    def truncate(self, name: str, fname: str, size: int) -> Outcome:
        """Change a file's size."""
        inode = self._files[fname]
        return Outcome(min(0, self.machine.run(files.truncate_inode, inode, size)))

    # -- time, settings, views -----------------------------------------------------------------------------------------------------------------
    def sleep(self, ms: float) -> None:
        """Let background work run for so much simulated time."""
        self.sleep_until(self.now_ns + int(ms * 1e6))

    def sleep_until(self, ns: int) -> None:
        """The same up to a moment of the simulated clock. Samples that are due before are taken."""
        while self.sampler is not None and self.sampler.next_ns < ns:
            self.machine.run(loop.sleep_until, self.sampler.next_ns)
            self.sampler.sample()
        self.machine.run(loop.sleep_until, ns)
        self._notice_kills()

    def counters(self) -> dict[str, int]:
        """/proc/vmstat's counters as the run changed them, summed over nodes."""
        rows = self.machine.vmstat.reshape(-1, v.VMSTAT_STRIDE)[:, : len(v.VMSTAT_NAMES)].sum(axis=0)
        return {name: int(value) for name, value in zip(v.VMSTAT_NAMES, rows)}

    def rss_pages(self) -> int:
        """Resident pages of all tasks."""
        mm = self.machine.mm.reshape(-1, r.MM_STRIDE)[: int(self.machine.sc[r.SC_NR_TASKS])]
        return int((mm[:, r.MM_RSS_ANON] + mm[:, r.MM_RSS_FILE] + mm[:, r.MM_RSS_SHMEM])[mm[:, r.MM_USERS] > 0].sum())

    def bloat_pages(self) -> int:
        """Anonymous memory that is there though nobody has touched it. Known only where the cost model has a TLB or the thp policy asks for it."""
        flags = self.machine.page[2::4][: len(self.machine.subpage)]
        return int(((flags & PG_ANON > 0) & (self.machine.subpage == 0)).sum()) if self.machine.sizes.subpages else 0

    def check_state(self) -> list[str]:
        """Every broken invariant, as sentences; empty when all hold."""
        from mmlab._engine.check import check_state

        return check_state(self)


def run_cell(*args: Any, **kwargs: Any) -> Any:
    """Run one cell of an experiment; see :func:`mmlab._engine.cell.run_cell`."""
    from mmlab._engine.cell import run_cell as run

    return run(*args, **kwargs)


def simulate_case(*args: Any, **kwargs: Any) -> None:
    """Run a recorded case; see :func:`mmlab._engine.simulate_case.simulate_case`."""
    from mmlab._engine.simulate_case import simulate_case as run

    run(*args, **kwargs)
