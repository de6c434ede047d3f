"""The conformance kit: what every policy of a slot must keep, as pytest classes to subclass.

    from mmlab.testing.conformance import ReclaimerConformance

    class TestMine(ReclaimerConformance):
        policy = MY_RECLAIMER

Every class runs the policy in a whole simulated machine with Linux's defaults in the other slots: a short life of two tasks under memory
pressure, after which every invariant of the machine holds, the same seed gives the same bytes, and the python build agrees with the
compiled one bit for bit. On top come the tests of the slot (:mod:`mmlab.testing.slots`).
"""

from __future__ import annotations

import inspect
import random
from typing import Any, ClassVar

import attrs
import numpy as np
import pytest

from mmlab._engine import monitor_told
from mmlab.kernels.jit import JIT_OFF
from mmlab.model.rows import COST_NAMES, SC_TOTALRAM
from mmlab.pluginmanager import Registered, Registry, load_plugins
from mmlab.policies import Policy
from mmlab.procfs.resident import resident_pages
from mmlab.simulation import Simulation
from mmlab.testing.python_build import digest_arrays, evidence_of
from mmlab.testing.slots import MemoryModelTests, PageAllocatorTests, ReclaimerTests, SlabAllocatorTests, ThpTests, VmaIndexTests
from mmlab.workload.stream import EventStream

PAGE = 4096


class PolicyConformance:
    """What holds in every slot.

    policy: the record; params: values by name, as `[SLOT.params]` would give them; machine: the [machine] table.
    """

    policy: ClassVar[Policy]
    params: ClassVar[dict[str, Any]] = {}
    machine: ClassVar[dict[str, Any]] = {"memory": "8M", "swap": "8M", "cpus": 2, "bare": True}
    #: a policy that has nothing to do in this life (a monitor that only watches streams) need not be called
    must_be_called: ClassVar[bool] = True
    #: sysctl and sysfs of the machine
    settings: ClassVar[dict[str, Any]] = {}

    def simulation(self, **table: Any) -> Simulation:
        """A machine with the policy in its slot and the defaults in all others; keywords change the [machine] table."""
        mine = Registered(self.policy, "conformance", "conformance", "0")
        key = (self.policy.slot, self.policy.name)
        others = [entry for entry in load_plugins().policies() if (entry.policy.slot, entry.policy.name) != key]
        choice = {self.policy.slot: {"use": self.policy.name, "params": self.params}}
        # who knows the future has a stream, in which nothing is accessed
        stream = EventStream(np.zeros(0, np.int64), (), ()) if getattr(self.policy, "needs_future", False) else None
        return Simulation.from_table({**self.machine, **table}, policies=choice, registry=Registry([*others, mine]), stream=stream, **self.settings)

    def drive(self, seed: int) -> dict[str, Any]:
        """The life of two tasks, as evidence: what each operation answered, and digests of all state at the end."""
        sim = self.simulation()
        trace = _life(sim, random.Random(seed))
        assert sim.check_state() == []
        state = sim.machine.states.get(self.policy.slot)
        return {
            "trace": trace,
            "arrays": digest_arrays(sim.machine, *([state] if state is not None else [])),
            "calls": sim.machine.calls().get(self.policy.slot, 0),
        }

    def test_record_describes_itself(self):
        assert self.policy.summary, "summary is a line for lists and reports"
        if self.policy.params is not None:
            given = attrs.asdict(self.policy.params())
            assert self.policy.params(**given) == self.policy.params(), "defaults must pass the validators"

    @pytest.mark.parametrize("seed", [1] if JIT_OFF else [1, 2])
    def test_invariants_hold_and_the_policy_is_used(self, seed):
        evidence = self.drive(seed)
        assert evidence["calls"] > 0 or not self.must_be_called, f"{self.policy.slot} {self.policy.name} was never called"

    @pytest.mark.skipif(JIT_OFF, reason="the compiled build compares itself with this one")
    def test_same_seed_same_bytes(self):
        assert self.drive(3) == self.drive(3)

    @pytest.mark.skipif(JIT_OFF, reason="the compiled build compares itself with this one")
    def test_python_build_agrees(self):
        ours = self.drive(4)
        theirs = evidence_of(inspect.getfile(type(self)), type(self).__name__, 4)
        for compiled, plain in zip(ours["trace"], theirs["trace"], strict=True):
            assert plain == compiled, "the first difference"
        assert [name for name in ours["arrays"] if ours["arrays"][name] != theirs["arrays"][name]] == []


def _life(sim: Simulation, rng: random.Random) -> list[list]:
    """Two tasks that map, touch, fork, unmap and exit, with more memory in use than there is: [what was done, what came of it ...]."""
    trace: list[list] = []

    def note(what: str, *answer: Any) -> None:
        trace.append([what, *(int(value) for value in answer)])

    def touch(task: str, addr: int, nr_pages: int, access: int, **more: Any) -> None:
        if sim.alive(task):
            outcome = sim.touch(task, addr, nr_pages, access, **more)
            note(f"touch {task} {addr:#x} {nr_pages} {access}", *attrs.astuple(outcome))

    length = int(sim.machine.sc[SC_TOTALRAM]) * 3 // 4
    sim.spawn("A")
    heap = sim.mmap("A", length * PAGE)
    shared = sim.mmap("A", 64 * PAGE, flags=["shared"])
    note("mmap A", heap, shared)
    touch("A", heap, length // 3, 1)
    touch("A", shared, 64, 1)
    child = sim.fork("A", "B")
    note("fork A", child if isinstance(child, int) else child.index)
    other = sim.mmap("B", length * PAGE)
    note("mmap B", other)
    for _ in range(8):
        task, base = rng.choice([("A", heap), ("B", heap), ("B", other)])
        first, count = rng.randrange(length * 3 // 4), rng.randrange(1, length // 4)
        touch(task, base + first * PAGE, count, rng.randrange(2), reverse=rng.random() < 0.3)
    touch("B", other, length, 1)  # with the next, one and a half times the machine's memory
    touch("A", heap, length, 1)
    if sim.alive("B"):
        note("munmap B", sim.munmap("B", other + PAGE * (length // 4), PAGE * (length // 2)))
    if sim.alive("A"):
        note("mprotect A", sim.mprotect("A", shared, 32 * PAGE, "r"))
        note("madvise A", sim.madvise("A", heap, (length // 4) * PAGE, "dontneed"))
    sim.sleep(20)
    for task in ("B", "A"):
        assert sim.check_state() == []
        if sim.alive(task):
            note(f"exit {task}", sim.exit(task))
    note("now_ns", sim.now_ns)
    return trace + [[name, value] for name, value in sim.counters().items()]


class MemoryModelConformance(MemoryModelTests, PolicyConformance):
    """For slot memory_model."""

    must_be_called = False  # asked at boot


class PageAllocatorConformance(PageAllocatorTests, PolicyConformance):
    """For slot page_allocator."""


class SlabAllocatorConformance(SlabAllocatorTests, PolicyConformance):
    """For slot slab_allocator."""


class VmaIndexConformance(VmaIndexTests, PolicyConformance):
    """For slot vma_index."""


class FaultHandlerConformance(PolicyConformance):
    """For slot fault_handler."""


class ReclaimerConformance(ReclaimerTests, PolicyConformance):
    """For slot reclaimer."""


class OomPolicyConformance(PolicyConformance):
    """For slot oom_policy: without swap, the life ends in kills."""

    machine = {"memory": "8M", "cpus": 1, "bare": True}

    def test_only_a_task_that_may_be_killed_is_chosen(self):
        sim = self.simulation()
        tasks = [sim.spawn(name, oom_score_adj=adj) for name, adj in (("A", 0), ("B", -1000), ("C", 500))]
        victim = sim.machine.op("oom_policy", "select_victim", tasks[1].index, 0)
        assert victim in (-1, tasks[0].index, tasks[2].index)
        for task in tasks:
            assert 0 <= sim.machine.op("oom_policy", "oom_score", task.index) <= 2000
        sim.exit("A")
        sim.exit("C")
        assert sim.machine.op("oom_policy", "select_victim", tasks[1].index, 0) == -1


class ThpConformance(ThpTests, PolicyConformance):
    """For slot thp."""


class TieringConformance(PolicyConformance):
    """For slot tiering: two kinds of memory, with everything on that may ask it."""

    machine = {
        "memory": "8M", "nodes": [{"memory": "4M", "cpus": [0, 1]}, {"memory": "4M", "cpus": []}], "swap": "8M", "bare": True,
        "hmat": [[0, 0, 90, 50], [0, 1, 250, 10]],
    }  # fmt: skip
    settings: ClassVar[dict[str, Any]] = {"sysctl": {"kernel.numa_balancing": "2"}, "sysfs": {"kernel/mm/numa/demotion_enabled": "1"}}

    def test_demotion_goes_to_a_slower_node_or_nowhere(self):
        sim = self.simulation()
        sim.spawn("A")
        addr = sim.mmap("A", 4 * PAGE)
        sim.touch("A", addr, 4, 1)
        pfn = int(resident_pages(sim.machine, [0]).pfn[0])
        assert sim.machine.op("tiering", "demotion_node", pfn, 0, 0) in (-1, 1)
        assert sim.machine.op("tiering", "should_migrate", 0, pfn, 0, 0) in (0, 1)


class MonitorConformance(PolicyConformance):
    """For slot monitor."""

    def test_report_is_a_table(self):
        sim = self.simulation()
        _life(sim, random.Random(6))
        monitor_told.report(sim)  # raises PluginError for what is no table

    def test_estimate_has_a_number_for_every_page(self):
        sim = self.simulation()
        sim.spawn("A")
        sim.touch("A", sim.mmap("A", 64 * PAGE), 64, 1)
        sim.sleep(300)
        pages = resident_pages(sim.machine, [0])
        if self.policy.estimate is None:
            pytest.skip("this monitor cannot be scored: it has no estimate()")
        heat, _ = monitor_told.estimate(sim, pages)
        assert len(heat) == len(pages) >= 64
        assert monitor_told.cost_fault(sim) is None


class CostModelConformance(PolicyConformance):
    """For slot cost_model."""

    must_be_called = False  # asked once, at the start

    def test_costs_exist_and_are_times(self):
        params = self.policy.params(**self.params) if self.policy.params is not None else None
        costs = self.policy.costs(params)
        assert set(costs) <= set(COST_NAMES)
        assert all(ns >= 0 for ns in costs.values())

    def test_its_tlb_has_whole_sets(self):
        params = self.policy.params() if self.policy.params else None
        for entries, ways in self.policy.tlb(params) if self.policy.tlb else ():
            assert entries >= 0
            assert ways >= 1
            assert entries % ways == 0
