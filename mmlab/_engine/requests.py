"""Drives a reclaimer over a request stream: frames, tables, chunks, counters. The kernels are in mmlab/mm/requests.py."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from mmlab import abi
from mmlab._engine.absent import ABSENT
from mmlab._engine.compile import Progress
from mmlab._engine.explained import explained_requests
from mmlab._engine.machine import Chosen, Machine
from mmlab._engine.blame import reclaim_fault
from mmlab.errors import InputError, PluginError
from mmlab.mm import requests as core
from mmlab.mm.memblock import init_heads
from mmlab.model import rows as r
from mmlab.model.layout import Sizes, count_heads
from mmlab.model.page import NO_MAPPING, PG_UPTODATE
from mmlab.model.vmstat import VMSTAT_NAMES, VMSTAT_STRIDE
from mmlab.policies import Policy

CHUNK = 1 << 20
# Services that mean nothing here return 0. ABSENT counts a state among its arguments, a service has none.
SERVICES: dict[str, Callable] = {s.name: ABSENT[len(s.args) - 1] for s in abi.SERVICES}
SERVICES.update({"folio_referenced": core.folio_referenced, "reclaim_folio": core.reclaim_folio})
SERVICES_WITH_SHADOWS = {**SERVICES, "reclaim_folio": core.reclaim_folio_with_shadow}


class RequestMachine:
    """A cache of nr_frames objects under one reclaimer, at some point of a request stream. One frame more is kept free.

    ids: whole numbers from 0, one a request (any integer dtype; a table of max + 1 entries is made, so keep them dense);
    params: an instance of the policy's params class, None for its defaults; progress: told what is compiled, and how long it took;
    seed: of policies that draw lots; explain: decisions to be explained (mmlab._engine.explained.decisions()).
    `step()` runs a chunk; `counters()` may be read between chunks.
    Raises InputError for ids or nr_frames that cannot be, PluginError from step() when the reclaimer stops freeing frames or names one that is not its;
    blame: how that names it.
    """

    def __init__(self, policy: Policy, params: Any, ids: np.ndarray, nr_frames: int, progress: Progress | None = None, seed: int = 0, explain: int = 0,
                 blame: str = ""):
        self.ids = _checked(ids, nr_frames)
        self.position = self.misses = 0
        self.seconds = self.prepare_seconds = 0.0
        objects = int(self.ids.max(initial=0)) + 1
        shadows = policy.ops().get("workingset_refault") is not None
        sizes = Sizes(
            nr_frames=nr_frames + 1, nr_present=0, nr_heads=count_heads(1, 1, 1), nr_cpus=1, nr_nodes=1, nr_zones=1, nr_tasks=1,
            nr_swap_slots=0, next_use=policy.needs_future, nr_request_ids=objects, request_shadows=shadows, explain=explain,
        )  # fmt: skip
        services = SERVICES_WITH_SHADOWS if shadows else SERVICES
        if explain:
            services = explained_requests(services, shadows)
        self.machine = Machine(sizes, {"reclaimer": Chosen(policy, params, blame)}, progress, services)
        self.machine.bind()
        self.machine.sc[r.SC_SEED] = seed
        self._boot(policy, nr_frames)
        self.next_use = self._future(objects) if policy.needs_future else np.zeros(1, np.int64)

    def _boot(self, policy: Policy, cache: int) -> None:
        """One node with one zone whose frames are all free, the lowest first in line."""
        m, frames = self.machine, self.machine.sizes.nr_frames
        m.sc[r.SC_NR_NODES] = m.sc[r.SC_NR_ZONES] = m.sc[r.SC_NR_CPUS] = 1
        m.sc[r.SC_MAX_PFN], m.sc[r.SC_NR_HEADS], m.sc[r.SC_TASK] = frames, m.sizes.nr_heads, -1
        m.sc[r.SC_POLICY_LISTS] = frames
        m.sc[r.SC_WANTS_ACCESS], m.sc[r.SC_NEEDS_FUTURE] = policy.wants_accesses, policy.needs_future
        m.sc[r.SC_WANTS_PASSES] = any(policy.ops().get(name) is not None for name in ("prepare_scan", "end_reclaim"))
        m.zone[r.Z_INDEX] = 2
        m.zone[r.Z_END_PFN] = frames
        m.zone[[r.Z_PRESENT, r.Z_MANAGED]] = cache
        m.run(init_heads, frames, frames + m.sizes.nr_heads)
        m.rq_object[:] = NO_MAPPING
        m.page[2 : 4 * frames : 4] = PG_UPTODATE
        m.rq_free[0] = frames
        m.rq_free[1:] = np.arange(frames - 1, -1, -1)
        m.op("reclaimer", "init")

    def _future(self, objects: int) -> np.ndarray:
        begin = time.perf_counter()
        next_use = np.empty(len(self.ids), np.int64)
        self.machine.run(core.find_next_uses, self.ids, np.full(objects, core.NEVER, np.int64), next_use)
        self.prepare_seconds = time.perf_counter() - begin
        return next_use

    @property
    def done(self) -> bool:
        """True after the last request."""
        return self.position == len(self.ids)

    def step(self, requests: int = CHUNK) -> int:
        """Run up to so many requests: how many missed."""
        stop = min(self.position + requests, len(self.ids))
        begin = time.perf_counter()
        misses = self.machine.run(core.replay_requests, self.ids, self.next_use, self.position, stop)
        self.seconds += time.perf_counter() - begin
        if (fault := reclaim_fault(self.machine)) is not None:
            raise fault
        if misses < 0:
            choice = self.machine.chosen["reclaimer"]
            raise PluginError(
                f"{choice.blame or f'reclaimer {choice.policy.name!r}'}: freed nothing in {core.MAX_RECLAIM_RETRIES} rounds of reclaim of a request "
                "replay, where every page can go: shrink_node() has to call reclaim_folio() for its victims"
            )
        self.position = stop
        self.misses += misses
        return misses

    def counters(self) -> dict[str, float]:
        """requests, misses, seconds (of replay; prepare_seconds: finding next uses), and what the reclaimer counted, so far.

        The last are vmstat counters: pages scanned and stolen, refaults if the reclaimer tells them, and any other that is not 0.
        """
        vmstat = dict(zip(VMSTAT_NAMES, self.machine.vmstat[:VMSTAT_STRIDE].tolist()))
        always = ("pgscan_direct", "pgsteal_direct") + ("workingset_refault_file",) * self.machine.sizes.request_shadows
        named = {name: value for name, value in vmstat.items() if value or name in always}
        return {"requests": self.position, "misses": self.misses, "seconds": self.seconds, "prepare_seconds": self.prepare_seconds, **named}


def replay(
    policy: Policy, params: Any, ids: np.ndarray, nr_frames: int, progress: Callable[[int, int], None] | None = None
) -> dict[str, float]:
    """Replay all requests over a cache of nr_frames objects: the counters of `RequestMachine.counters()`.

    progress: called with (requests done, all requests) after each chunk of 2**20, where Ctrl-C takes effect too.
    """
    machine = RequestMachine(policy, params, ids, nr_frames)
    while not machine.done:
        machine.step()
        if progress is not None:
            progress(machine.position, len(machine.ids))
    return machine.counters()


def _checked(ids: np.ndarray, nr_frames: int) -> np.ndarray:
    ids = np.asarray(ids)
    if ids.ndim != 1 or ids.dtype.kind not in "iu":
        raise InputError(f"requests: ids must be a one-dimensional array of whole numbers, got {ids.dtype} of shape {ids.shape}")
    if len(ids) and not 0 <= int(ids.min()) <= int(ids.max()) < core.OBJECT:
        raise InputError(f"requests: ids must be from 0 to {core.OBJECT - 1}, got {int(ids.min())} to {int(ids.max())}")
    if not 1 <= nr_frames < 1 << 31:
        raise InputError(f"requests: the cache must hold from 1 to {(1 << 31) - 1} objects, got {nr_frames}")
    return np.ascontiguousarray(ids, np.uint32)
