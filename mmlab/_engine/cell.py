"""Runs one cell of an experiment: machine, policies, workload, samples on the simulated clock, counters."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmlab import abi
from mmlab._engine import alloc_run, loop, tlb
from mmlab._engine.blame import plugin_fault
from mmlab._engine.compile import Entry
from mmlab._engine.explained import decisions
from mmlab._engine.machine import Machine
from mmlab._engine.sampler import Sampler
from mmlab._engine.score import Scorer
from mmlab._engine.script_trace import write_trace
from mmlab._engine.stream_ops import entries_of
from mmlab._engine.stream_run import Progress, StreamRun
from mmlab.errors import MmlabError
from mmlab.experiment.cells import Cell
from mmlab.experiment.workloads import shipped_trace
from mmlab.machine import MachineConfig, default_policy, layout_of, machine_from_table
from mmlab.results.cell_result import CellResult
from mmlab.model import rows as r
from mmlab.policies import DEFAULTS
from mmlab.simulation import Simulation
from mmlab.workload.allocation_generators import GeneratedAllocations, make_allocation_generator
from mmlab.workload.allocation_files import read_allocation_file
from mmlab.workload.allocations import FREE_PAGES, AllocationStream, Allocations
from mmlab.workload.damo_record import read_damo
from mmlab.workload.generators import make_generator
from mmlab.workload.masim import read_masim
from mmlab.workload.readers import read_accesses
from mmlab.workload.request_readers import PAGES, page_requests, read_requests
from mmlab.workload.requests import Requests
from mmlab.workload.stream import EventStream, repeated
from mmlab.workload.trace_format import read_recorded

#: policies that are chosen to do nothing, and the slot that has done its part when a machine stands
IDLE = {("monitor", "none"), ("thp", "never"), ("tiering", "first_touch")}
AT_BOOT = "memory_model"


def load_stream(cell: Cell) -> EventStream:
    """The events of a cell's workload. Raises InputError for files that are missing or cut short."""
    w = cell.config["workload"]
    kind = w["kind"]
    if kind == "trace":
        stream = read_recorded(shipped_trace(w["trace"]) if w.get("trace") else cell.path(w["file"]))
    elif kind == "stream":
        stream = read_accesses(cell.path(w["file"]))
    elif kind == "masim":
        stream = read_masim(cell.path(w["file"])).stream(w["accesses_per_ms"], cell.seed)
    elif kind == "damo":
        stream = read_damo(cell.path(w["file"])).stream(w["accesses_per_ms"], w["write_fraction"], cell.seed)
    else:
        stream = _generated(cell)
    return repeated(stream, w["repeat"]) if w.get("repeat", 1) > 1 else stream


def _generated(cell: Cell) -> EventStream:
    w = cell.config["workload"]
    return make_generator(w["generator"], w.get("params") or {}, "workload.params").stream(cell.seed)  # type: ignore[misc]


def load_allocations(cell: Cell, machine: MachineConfig) -> AllocationStream:
    """The allocator stream of a cell's workload on this machine. Raises InputError for files that are missing or cut short."""
    w = cell.config["workload"]
    if w.get("generator"):
        pages = sum(zone.present for zone in layout_of(machine).zones)
        return GeneratedAllocations(make_allocation_generator(w["generator"], w.get("params") or {}, "workload.params"), pages, cell.seed)
    path = shipped_trace(w["trace"], w["kind"]) if w.get("trace") else cell.path(w["file"])
    return read_allocation_file(path, w.get("format", ""), w["events"])


def run_cell(cell: Cell, progress: Progress, out_dir: Path) -> CellResult:
    """Run a cell, or the rest of it. Raises InputError, PluginError or MmlabError; KeyboardInterrupt passes through between chunks, and leaves
    the state of a stream's or an allocator stream's run beside out_dir, from which the next call goes on.

    out_dir: the cell's folder; a script leaves its result folder in out_dir/script.
    """
    try:
        return _run_cell(cell, progress, out_dir)
    except MmlabError:
        raise
    except Exception as error:
        if (fault := plugin_fault(error, cell.config["policies"])) is None:
            raise
        raise fault from error


def _run_cell(cell: Cell, progress: Progress, out_dir: Path) -> CellResult:
    config = cell.config

    def compiled(text: str, seconds: float) -> None:
        progress(0, 0, f"{text} ... {seconds:.1f} s")

    workload = config["workload"]
    machine = machine_from_table(config["machine"], "", sysctl=config.get("sysctl"), sysfs=config.get("sysfs"))
    if workload["kind"] == "requests":
        return _run_requests(cell, machine, progress, compiled)
    script, allocations = workload["kind"] == "ops", None
    if workload["kind"] == "allocations":
        allocations = load_allocations(cell, machine)
    stream = None if script or allocations else load_stream(cell)
    nr_tasks = 512 if stream is None else len(stream.tasks) + 8
    sim = Simulation(
        machine, config["policies"], seed=cell.seed, script=script, warm_text=bool(workload.get("warm_text")), progress=compiled, nr_tasks=nr_tasks,
        base_dir=cell.base_dir, entries=alloc_run.ENTRIES if allocations else entries_of_stream(stream), stream=stream, explain=config["run"].get("explain", 0),
    )  # fmt: skip
    sampler, scorer = Sampler(sim, config["run"]["sample_ns"], stops=not script), None
    refused: list[dict[str, Any]] = []
    began, compiling = time.perf_counter(), sim.machine.compile_s
    if allocations:
        blocks = alloc_run.AllocationRun(sim, allocations, sampler, config["run"].get("check_every", 0), out_dir.with_suffix(".state"))
        happened = blocks.run(progress)
        began -= blocks.seconds_before
    elif stream is None:
        sim.sampler = sampler
        happened, refused = _run_script(sim, cell, progress, out_dir)
    else:
        scorer = Scorer.of(sim, stream, config["run"])
        go_on = config["run"].get("after_oom") == "go_on"
        run = StreamRun(sim, stream, sampler, config["run"].get("check_every", 0), out_dir.with_suffix(".state"), scorer, go_on)
        happened = run.run(progress)
        began -= run.seconds_before
    timing = {"wall_s": time.perf_counter() - began - (sim.machine.compile_s - compiling), "compile_s": sim.machine.compile_s}
    if config["run"].get("check_every"):
        broken = sim.check_state()
        if broken:
            raise MmlabError("at the end: " + "; ".join(broken[:8]))
    if stream is not None:
        out_dir.mkdir(parents=True, exist_ok=True)
        write_trace(sim, out_dir)
    calls = sim.machine.calls()
    unused = unexercised(sim, calls)
    if unused:
        raise MmlabError("; ".join(unused))
    tables: dict[str, list[dict[str, Any]]] = {"oom_kills": sim.kills, "oom_candidates": sim.candidates} if sim.kills else {}
    if refused:
        tables["refused"] = refused
    if sim.machine.sizes.explain:
        tables["explained"] = sim.explained()
    report = getattr(sim.policies["monitor"].policy, "report", None)
    if report is not None:
        tables["monitor"] = list(report(sim.machine, sim.machine.states["monitor"]))
    series = sampler.series()
    counters: dict[str, int | float] = {**sim.counters(), "sim_time_ns": sim.now_ns, **tlb.counted(sim.machine), **sampler.last(), **happened}
    if sim.machine.sc[r.SC_WANTS_ACCESS] & r.WANTS_NODES and stream is not None:
        counters |= _accesses_by_tier(sim)
    if stream is not None:
        counters |= {f"memory_{name}_ns": int(sim.machine.psi[at]) for name, at in (("some", r.PSI_SOME_NS), ("full", r.PSI_FULL_NS))}
    if sim.machine.sc[r.SC_TIERING_NS]:
        counters["tiering_ns"] = int(sim.machine.sc[r.SC_TIERING_NS])
    if sim.machine.sc[r.SC_MONITOR_CHECKS] and sim.policies["monitor"].policy.name != "none":
        counters["monitor_checks"], counters["monitor_ns"] = int(sim.machine.sc[r.SC_MONITOR_CHECKS]), int(sim.machine.sc[r.SC_MONITOR_NS])
        counters["monitor_cpu_percent"] = 100 * counters["monitor_ns"] / max(1, sim.now_ns)
    if scorer is not None:
        counters |= scorer.counters()
        tables |= scorer.tables()
    levels = {slot: sim.policies[slot].policy.level for slot in sim.policies}
    meta = {"calls": calls, "levels": levels, "cost_model": sim.policies["cost_model"].policy.name, **_explains(sim.machine)}
    if stream is not None or allocations is not None:
        meta["unit"] = stream.meta.get("unit", PAGES) if stream is not None else _unit_of(allocations)
    return CellResult(counters, series, tables, meta, timing)


def _unit_of(allocations: AllocationStream | None) -> str:
    """What the events of an allocator stream are."""
    if not isinstance(allocations, Allocations):
        return "allocations and frees, generated"
    pages = allocations.op <= FREE_PAGES
    what = "pages" if pages.all() else "pages and objects" if pages.any() else "objects"
    return f"allocations and frees of {what}"


def _explains(machine: Machine) -> dict[str, Any]:
    """What the columns of the table `explained` mean, where there is one."""
    if not machine.sizes.explain:
        return {}
    return {"explains": [[said.name, said.meaning] for said in machine.chosen["reclaimer"].policy.explains]}


def _accesses_by_tier(sim: Simulation) -> dict[str, int]:
    """Accesses of the stream to memory of the top tiers, and to slower memory."""
    nodes = sim.machine.node.reshape(-1, r.NODE_STRIDE)[: sim.layout.nr_nodes]
    top = nodes[:, r.N_TOPTIER] > 0
    return {"accesses_fast": int(nodes[top, r.N_ACCESSES].sum()), "accesses_slow": int(nodes[~top, r.N_ACCESSES].sum())}


def entries_of_stream(stream: EventStream | None) -> list[Entry]:
    if stream is None:
        return []
    return [Entry(loop.run_stream, arrays=1), *entries_of(stream.ops)]


def unexercised(sim: Simulation, calls: dict[str, int]) -> list[str]:
    """Chosen policies that the run never called; the defaults need no reason to be there."""
    found = []
    for slot in abi.SLOTS:
        name = sim.policies[slot].policy.name
        idle = not calls[slot] and slot != AT_BOOT and (slot, name) not in IDLE
        if idle and name not in (DEFAULTS[slot], default_policy(slot, sim.cfg, DEFAULTS[slot])):
            found.append(f"{slot} {name!r} was chosen but never called: the workload does not reach it, so its figures would say nothing about it")
    monitor = sim.policies["monitor"].policy
    if getattr(monitor, "exercised", None) and not monitor.exercised(sim.machine.states["monitor"]):
        found.append(f"monitor {monitor.name!r} was chosen but looked at nothing: nothing of the workload started it, or it ended too soon")
    return found


def _run_script(sim: Simulation, cell: Cell, progress: Progress, out_dir: Path) -> tuple[dict[str, int], list[dict[str, Any]]]:
    """What happened, and the operations that were refused."""
    from mmlab._engine.script import run_script
    from mmlab.workload.ops import parse_ops

    path = cell.path(cell.config["workload"]["script"])
    operations = parse_ops(path.read_text(encoding="utf-8"), str(path))

    def after(done: int, total: int) -> None:
        if sim.sampler is not None and sim.now_ns >= sim.sampler.next_ns:
            sim.sampler.sample()
        progress(done, total, "")

    return {"events": len(operations)}, run_script(sim, operations, out_dir / "script", path.parent, after)


def _load_requests(cell: Cell) -> Requests:
    w = cell.config["workload"]
    if w.get("generator"):
        requests = page_requests(_generated(cell))
    elif w.get("trace"):
        requests = read_requests(shipped_trace(w["trace"]))
    else:
        requests = read_requests(cell.path(w["file"]), w.get("format", ""), w.get("columns"))
    return requests.repeated(w.get("repeat", 1))


def _run_requests(cell: Cell, machine: Any, progress: Progress, compiled: Callable[[str, float], None]) -> CellResult:
    """A cache trace: the reclaimer alone, over as many frames as the cache holds objects."""
    from mmlab._engine.requests import RequestMachine
    from mmlab.pluginmanager import load_plugins

    workload, table = cell.config["workload"], cell.config["policies"].get("reclaimer") or {}
    requests = _load_requests(cell)
    entry = load_plugins().get("reclaimer", table["use"])
    params = entry.make_params(table.get("params") or {}, "reclaimer")
    share = round(workload.get("cache_share", 0) * requests.objects)
    frames = workload.get("cache_objects") or share or machine.memory_bytes >> 12
    run = RequestMachine(entry.policy, params, requests.ids, frames, compiled, cell.seed, cell.config["run"].get("explain", 0), entry.blame)
    began, compiling = time.perf_counter(), run.machine.compile_s
    while not run.done:
        run.step()
        progress(run.position, len(requests), "")
    timing = {"wall_s": time.perf_counter() - began - (run.machine.compile_s - compiling), "compile_s": run.machine.compile_s}
    counted = {name: value for name, value in run.counters().items() if not name.endswith("seconds")}
    tables = {"explained": decisions(run.machine)} if run.machine.sizes.explain else {}
    meta = {"unit": requests.meta["unit"], **_explains(run.machine)}
    return CellResult({**counted, "objects": requests.objects, "events": len(requests)}, tables=tables, meta=meta, timing=timing)
