"""Runs an allocator stream on a simulation: packs its columns, keeps who has what, takes samples. It can be left between two chunks and resumed."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mmlab._engine import alloc_loop as loop
from mmlab._engine import checkpoint
from mmlab._engine.compile import Entry
from mmlab._engine.loop import STOP_SAMPLE
from mmlab.errors import InputError, MmlabError
from mmlab.mm.slab import KMALLOC_FIRST, KMALLOC_SIZES, USER_CACHES, kmalloc_cache
from mmlab.mm.slab_common import kmalloc_order, kmalloc_type
from mmlab.model import rows as r
from mmlab.model.gfp import GFP_DIRECT_RECLAIM, GFP_RETRY_MAYFAIL
from mmlab.model.layout import reserve
from mmlab.workload.allocations import ALLOC_OBJECT, KMALLOC, NS_PER_EVENT, Allocations, AllocationStream

if TYPE_CHECKING:
    from mmlab._engine.sampler import Sampler

CHUNK = 1 << 19
ENTRIES = [Entry(loop.run_allocations, arrays=5)]


class AllocationRun:
    """A stream on a simulation. check_every: events between two checks of every invariant, 0 for none. state: the checkpoint's folder, used
    when progress raises KeyboardInterrupt, and looked for at the start. seconds_before: what earlier parts of the run took.

    No task runs, so there is nobody for the OOM killer: an allocation that may reclaim fails when reclaim does (as with
    __GFP_RETRY_MAYFAIL), and is counted. Raises InputError for CPUs and nodes that the machine does not have.
    """

    def __init__(self, sim: Any, stream: AllocationStream, sampler: Sampler | None, check_every: int = 0, state: Path | None = None):
        self.sim, self.stream, self.sampler, self.check_every, self.state = sim, stream, sampler, check_every, state
        self.nr_pages = stream.nr_page_ids
        self.where = reserve(self.nr_pages + stream.nr_object_ids, "int64")
        self.counts = np.zeros(loop.NR_COUNTS, np.int64)
        self.caches = self._make_caches()
        self.ns_per_event = NS_PER_EVENT
        self.done = self.nr_parts = 0  # events; parts after which a sample was taken
        self.seconds_before, self.began = 0.0, time.perf_counter()
        if state is not None and state.is_dir():
            self._resume(state)

    def run(self, progress: Callable[[int, int, str], None]) -> dict[str, int]:
        """Run all that is left; what happened on the way. Between chunks progress is called, and may raise KeyboardInterrupt to stop: the run
        is saved then."""
        total, end = self.stream.events, 0
        self.began = time.perf_counter()
        if self.done:
            progress(self.done, total, "")
        for number, part in enumerate(self.stream.parts()):
            begin, end = end, end + len(part)
            if number < self.nr_parts:
                continue
            try:
                self.run_part(part, lambda: progress(self.done, total, ""), self.done - begin)
            except KeyboardInterrupt:
                self._save()
                raise
            if self.sampler is not None:
                self.sampler.sample()
            self.nr_parts = number + 1
        names = ("failed_allocations", "unknown_frees", "missing_frees")
        counted = {name: value for name, value in self.stream.meta.items() if name in ("lost_events", "other_lines", "failed_in_trace")}
        return {"events": self.done, **dict(zip(names, self.counts.tolist())), **counted}

    def run_part(self, part: Allocations, progress: Callable[[], None] = lambda: None, first: int = 0) -> None:
        """Run one part of the stream from its event `first` on; samples are taken when the clock says so."""
        words, ids = self._words(part), np.where(part.op > 1, part.id + self.nr_pages, part.id)
        times = np.zeros(1, np.int64) if part.time_ns is None else part.time_ns
        if len(times) == len(words) == 1:  # one element says that there are none
            times = np.zeros(1, np.int64)
        at = first
        while at < len(words):
            stop = min(len(words), at + CHUNK, at + self.check_every - self.done % self.check_every if self.check_every else len(words))
            now = self.sim.machine.run(loop.run_allocations, words, ids, times, self.where, self.counts, self.ns_per_event, at, stop)
            self.done += now - at
            at = now
            if self.sim.machine.sc[r.SC_EVENT] == STOP_SAMPLE:
                if self.sampler is not None:
                    self.sampler.sample()
            elif at == stop:
                progress()
            if self.check_every and self.done % self.check_every == 0:
                broken = self.sim.check_state()
                if broken:
                    raise MmlabError(f"after {self.done} events: " + "; ".join(broken[:8]))

    def _arrays(self) -> dict[str, np.ndarray]:
        return {**checkpoint.arrays_of(self.sim), "run.where": self.where, "run.counts": self.counts}

    def _save(self) -> None:
        if self.state is None or self.done == self.stream.events:
            return
        rest: dict[str, Any] = {"done": self.done, "nr_parts": self.nr_parts, "seconds": self.seconds_before + time.perf_counter() - self.began}
        if self.sampler is not None:
            rest |= {"rows": self.sampler.rows, "period": self.sampler.period}
        checkpoint.save(self.state, self._arrays(), rest)

    def _resume(self, state: Path) -> None:
        rest = checkpoint.load(state, self._arrays())
        if rest is None:
            return
        self.done, self.nr_parts, self.seconds_before = rest["done"], rest["nr_parts"], rest["seconds"]
        if self.sampler is not None:
            self.sampler.rows, self.sampler.period = rest["rows"], rest["period"]

    def _words(self, part: Allocations) -> np.ndarray:
        """The columns as words of the loop: kmalloc() finds its cache, or its order."""
        sizes = self.sim.machine.sizes
        for name, column, limit in (("CPU", part.cpu, sizes.nr_cpus), ("node", part.node, sizes.nr_nodes)):
            if len(column) and column.max() >= limit:
                raise InputError(f"workload: {name} {column.max()} does not exist: the machine has {limit} (machine.cpus, machine.nodes)")
        op, arg = part.op.astype(np.int64), part.arg.copy()
        cached = part.op == ALLOC_OBJECT
        if cached.any():
            arg[cached] = self.caches[arg[cached]]
        asked = part.op == KMALLOC
        if asked.any():
            kinds = np.array([kmalloc_type(int(gfp)) for gfp in np.unique(part.gfp[asked])])[np.unique(part.gfp[asked], return_inverse=True)[1]]
            places = np.searchsorted(KMALLOC_SIZES, arg[asked])
            large = places == len(KMALLOC_SIZES)
            orders = np.array([kmalloc_order(int(size)) for size in arg[asked][large]], np.int64)
            arg[asked] = KMALLOC_FIRST + kinds * len(KMALLOC_SIZES) + places
            rows = np.flatnonzero(asked)
            op[rows] = loop.EV_ALLOC_OBJECT
            op[rows[large]], arg[rows[large]] = loop.EV_KMALLOC_LARGE, orders
        gfp = np.where(part.gfp & GFP_DIRECT_RECLAIM, part.gfp | GFP_RETRY_MAYFAIL, part.gfp)
        return op | part.cpu << loop.CPU_SHIFT | (part.node + 1) << loop.NODE_SHIFT | gfp << loop.GFP_SHIFT | arg << loop.ARG_SHIFT

    def _make_caches(self) -> np.ndarray:
        """A slab cache for each size; beyond the numbers there are, the kmalloc caches serve."""
        numbers, machine = [], self.sim.machine
        free = iter(USER_CACHES)
        for size in self.stream.caches:
            number = next(free, -1)
            if number < 0:
                number = kmalloc_cache(size)
            elif machine.op("slab_allocator", "create", number, size, 0, 0) < 0:
                raise MmlabError(f"slab_allocator {machine.chosen['slab_allocator'].policy.name!r}: cannot create a cache of {size} bytes")
            else:
                machine.cache_names[number] = f"stream-{size}"
            numbers.append(number)
        return np.array(numbers, np.int64)
