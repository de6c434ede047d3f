"""Runs one cell of an experiment: machine, policies, workload, samples on the simulated clock, counters."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from mmlab import abi
from mmlab._engine import loop
from mmlab._engine.compile import Entry
from mmlab._engine.stream_ops import StreamTasks, entries_of
from mmlab.errors import MmlabError
from mmlab.experiment.cells import Cell
from mmlab.experiment.workloads import shipped_trace
from mmlab.machine import machine_from_table
from mmlab.model import rows as r
from mmlab.results.cell_result import CellResult
from mmlab.simulation import Simulation
from mmlab.workload.generators import make_generator
from mmlab.workload.readers import read_accesses, read_oracle_general
from mmlab.workload.stream import EventStream, repeated
from mmlab.workload.trace_format import read_recorded

Progress = Callable[[int, int, str], None]
CHUNK = 1 << 19
MAX_SAMPLES = 1000
#: policies that a run can choose without ever calling them
IDLE = {("monitor", "none"), ("thp", "never"), ("thp", "madvise"), ("thp", "always"), ("memory_model", None), ("oom_policy", None)}


def load_stream(cell: Cell) -> EventStream:
    """The events of a cell's workload. Raises InputError for files that are missing or cut short."""
    w = cell.config["workload"]
    kind = w["kind"]
    if kind == "trace":
        stream = read_recorded(shipped_trace(w["trace"]) if w.get("trace") else cell.path(w["file"]))
    elif kind == "stream":
        stream = read_accesses(cell.path(w["file"]))
    elif kind == "requests":
        stream = read_oracle_general(cell.path(w["file"]))
    else:
        stream = make_generator(w["generator"], w.get("params") or {}, "workload.params").stream(cell.seed)  # type: ignore[misc]
    return repeated(stream, w["repeat"]) if w.get("repeat", 1) > 1 else stream


class Sampler:
    """Time series on the simulated clock. When there are too many samples every second one goes and the period doubles."""

    def __init__(self, sim: Simulation, period_ns: int):
        self.sim, self.period = sim, max(1, period_ns)
        self.rows: list[list[int]] = []
        zones = [f"nr_free:{z.node},{z.name}" for z in sim.layout.zones]
        self.names = ["time_ns", "pgfault", "pgmajfault", "refaults", "rss_pages", *zones, *(f"free_blocks:{order}" for order in range(11))]
        self.sample()

    def sample(self) -> None:
        """Take a sample now and set the time of the next."""
        sim, sc = self.sim, self.sim.machine.sc
        counters = sim.counters()
        zones = sim.machine.zone.reshape(-1, r.ZONE_STRIDE)[: len(sim.layout.zones)]
        orders = [sum(sim.machine.op("page_allocator", "nr_free_blocks", z, o, t) for z in range(len(sim.layout.zones)) for t in range(5)) for o in range(11)]
        refaults = counters["workingset_refault_anon"] + counters["workingset_refault_file"]
        self.rows.append([sim.now_ns, counters["pgfault"], counters["pgmajfault"], refaults, sim.rss_pages(), *map(int, zones[:, r.Z_FREE]), *orders])
        if len(self.rows) >= MAX_SAMPLES:
            self.rows = self.rows[::2]
            self.period *= 2
        sc[r.SC_NEXT_SAMPLE_NS] = sim.now_ns + self.period
        sc[r.SC_NEXT_EVENT_NS] = min(int(sc[r.SC_NEXT_EVENT_NS]), int(sc[r.SC_NEXT_SAMPLE_NS]))

    def series(self) -> dict[str, np.ndarray]:
        """The columns, with a last sample at the end of the run."""
        if self.rows[-1][0] < self.sim.now_ns:
            self.sample()
        table = np.array(self.rows, dtype=np.int64)
        keep = np.concatenate(([True], np.diff(table[:, 0]) > 0))
        return {name: np.ascontiguousarray(table[keep, i]) for i, name in enumerate(self.names)}


def run_stream(sim: Simulation, stream: EventStream, progress: Progress, check_every: int = 0, sampler: Sampler | None = None) -> dict[str, int]:
    """Run all events of a stream; what happened on the way. Between chunks progress is called, and may raise to stop."""
    machine, sc, words = sim.machine, sim.machine.sc, stream.words
    watched = bool(sc[r.SC_WANTS_ACCESS] or sc[r.SC_NEEDS_FUTURE])
    future = stream.next_use() if sc[r.SC_NEEDS_FUTURE] else words
    tasks = StreamTasks(sim, stream.tasks)
    done, total, reported, last_check = 0, len(words), 0, 0
    happened = {"events": total, "signals": 0, "failed_operations": 0}
    while done < total:
        stop = min(total, done + CHUNK)
        if check_every:
            stop = min(stop, (done // check_every + 1) * check_every)
        if watched:
            done = machine.run(loop.run_stream_watched, words, future, done, stop)
        else:
            done = machine.run(loop.run_stream, words, done, stop)
        why = int(sc[r.SC_EVENT])
        if why == loop.STOP_OPERATION:
            tasks.run(stream.ops[int(words[done]) >> 16])
            done += 1
        elif why == loop.STOP_SAMPLE and sampler is not None:
            sampler.sample()
        elif why == loop.STOP_SIGNAL:
            happened["signals"] += 1
        elif why == loop.STOP_KILL:
            done = _after_kill(sim, stream, tasks, done)
        if done - reported >= CHUNK or done == total:
            progress(done, total, "")
            reported = done
        if check_every and done // check_every > last_check:
            last_check = done // check_every
            broken = sim.check_state()
            if broken:
                raise MmlabError(f"after {done} events: " + "; ".join(broken[:8]))
    happened["failed_operations"] = tasks.nr_failed
    return happened


def _after_kill(sim: Simulation, stream: EventStream, tasks: StreamTasks, done: int) -> int:
    """The OOM killer struck: dead tasks' events no longer count; a machine without anybody left to kill panics."""
    sim._notice_kills()
    if sim.machine.sc[r.SC_PANIC]:
        raise MmlabError("out of memory, and the OOM policy named nobody to kill: the machine panics")
    rows = sim.machine.task.reshape(-1, r.TASK_STRIDE)
    for name in stream.tasks:
        known = sim.tasks.get(name)
        if known is not None and name not in tasks.dead and (rows[known.index, r.T_FLAGS] & r.TF_KILLED or not rows[known.index, r.T_ALIVE]):
            sim.exit(name, 9)
            tasks.dead.add(name)
    dead = [tasks.number[name] for name in tasks.dead]
    rest = stream.words[done:]
    if np.isin((rest >> 4) & 4095, dead)[(rest & 15) < 3].any():
        raise MmlabError(f"the OOM killer ended {', '.join(sorted(tasks.dead))}, whose events go on: give the machine more memory or swap")
    return done


def run_cell(cell: Cell, progress: Progress, out_dir: Path) -> CellResult:
    """Run a cell. Raises InputError, PluginError or MmlabError; KeyboardInterrupt passes through between chunks.

    out_dir: the cell's folder; a script leaves its result folder in out_dir/script.
    """
    config, timing = cell.config, {"compile_s": 0.0}

    def compiled(text: str, seconds: float) -> None:
        timing["compile_s"] += seconds
        progress(0, 0, f"{text} ... {seconds:.1f} s")

    workload = config["workload"]
    machine = machine_from_table(config["machine"], "", sysctl=config.get("sysctl"), sysfs=config.get("sysfs"))
    if workload["kind"] == "requests":
        return _run_requests(cell, machine, progress, compiled, timing)
    script = workload["kind"] == "ops"
    stream = None if script else load_stream(cell)
    nr_tasks = 512 if stream is None else len(stream.tasks) + 8
    sim = Simulation(
        machine, config["policies"], seed=cell.seed, script=script, warm_text=bool(workload.get("warm_text")), progress=compiled, nr_tasks=nr_tasks,
        base_dir=cell.base_dir, entries=_entries(stream),
    )  # fmt: skip
    sampler = Sampler(sim, config["run"]["sample_ns"])
    began, compiling = time.perf_counter(), timing["compile_s"]
    if stream is None:
        happened = _run_script(sim, cell, progress, out_dir)
    else:
        happened = run_stream(sim, stream, progress, config["run"].get("check_every", 0), sampler)
    timing["wall_s"] = time.perf_counter() - began - (timing["compile_s"] - compiling)
    if config["run"].get("check_every"):
        broken = sim.check_state()
        if broken:
            raise MmlabError("at the end: " + "; ".join(broken[:8]))
    calls = sim.machine.calls()
    unused = unexercised(sim, calls)
    if unused:
        raise MmlabError("; ".join(unused))
    tables: dict[str, list[dict[str, Any]]] = {"oom_kills": sim.kills} if sim.kills else {}
    report = getattr(sim.policies["monitor"].policy, "report", None)
    if report is not None:
        tables["monitor"] = list(report(sim.machine, sim.machine.states["monitor"]))
    counters: dict[str, int | float] = {**sim.counters(), "sim_time_ns": sim.now_ns, **happened}
    levels = {slot: sim.policies[slot].policy.level for slot in sim.policies}
    return CellResult(counters, sampler.series(), tables, {"calls": calls, "levels": levels, "cost_model": sim.policies["cost_model"].policy.name}, timing)


def _entries(stream: EventStream | None) -> list[Entry]:
    if stream is None:
        return []
    return [Entry(loop.run_stream, arrays=1), *entries_of(stream.ops)]


def unexercised(sim: Simulation, calls: dict[str, int]) -> list[str]:
    """Chosen policies that the run never called although a policy of the slot had a part in it."""
    found = []
    for slot in abi.SLOTS:
        name = sim.policies[slot].policy.name
        if not calls[slot] and (slot, name) not in IDLE and (slot, None) not in IDLE:
            found.append(f"{slot} {name!r} was chosen but never called: the workload does not reach it, so its figures would say nothing about it")
    return found


def _run_script(sim: Simulation, cell: Cell, progress: Progress, out_dir: Path) -> dict[str, int]:
    from mmlab._engine.script import run_script
    from mmlab.workload.ops import parse_ops

    path = cell.path(cell.config["workload"]["script"])
    operations = parse_ops(path.read_text(encoding="utf-8"), str(path))
    run_script(sim, operations, out_dir / "script", path.parent, lambda done, total: progress(done, total, ""))
    return {"events": len(operations)}


def _run_requests(cell: Cell, machine: Any, progress: Progress, compiled: Callable[[str, float], None], timing: dict[str, float]) -> CellResult:
    """A cache trace: the reclaimer alone over as many frames as the machine has pages."""
    from mmlab._engine.requests import RequestMachine
    from mmlab.pluginmanager import load_plugins

    stream = load_stream(cell)
    accesses = stream.words[(stream.words & 15) < 3] >> 16
    table = cell.config["policies"].get("reclaimer") or {}
    entry = load_plugins().get("reclaimer", table["use"])
    run = RequestMachine(entry.policy, entry.make_params(table.get("params") or {}, "reclaimer"), accesses - accesses.min(), machine.memory_bytes >> 12, compiled)
    began = time.perf_counter()
    while not run.done:
        run.step()
        progress(run.position, len(accesses), "")
    timing["wall_s"] = time.perf_counter() - began
    counted = {name: value for name, value in run.counters().items() if not name.endswith("seconds")}
    return CellResult({**counted, "events": len(accesses), "pgfault": run.misses, "pgmajfault": run.misses, "sim_time_ns": 0}, meta={"calls": {}, "cost_model": "none"}, timing=timing)
