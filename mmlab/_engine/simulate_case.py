"""Runs a recorded case in the simulator: the machine in the case's starting state, its script, its result folder."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmlab._engine import trace_buffers
from mmlab._engine.script import run_script
from mmlab._engine.script_driver import look_up_settings
from mmlab._engine.script_probe import log_text
from mmlab.errors import NotSupported
from mmlab.machine.fragmentation import extfrag_index, unusable_index
from mmlab.machine.srat import with_kernel_numbers
from mmlab.model.rows import SC_BOOST_FACTOR
from mmlab.procfs import tracing
from mmlab.verify.cases import Case
from mmlab.verify.ids import Unsupported
from mmlab.verify.probe_run import ProbeRun, load_state, program_cpu
from mmlab.workload.operation import Operation
from mmlab.workload.ops import parse_ops

if TYPE_CHECKING:
    from mmlab.simulation import Simulation


def start_record(case: Case) -> dict[str, Any]:
    """The case's starting state as a boot record: what it leaves out follows from the LRU lists, or is not known (0)."""
    state = case.start_state()
    lru = state["lru"]
    anon = lru["inactive_anon"] + lru["active_anon"] + lru["unevictable"] - lru["shmem"]
    files = lru["inactive_file"] + lru["active_file"] + lru["shmem"]
    guessed = {"anon_pages": max(0, anon), "file_pages": files, "mapped": 0, "kernel_stack": 0}
    return {"zones": state["zones"], "lru": {**guessed, **lru}, "meminfo": {"Committed_AS": state["Committed_AS"]}}


def case_policies(case: Case) -> dict[str, dict[str, Any]]:
    """Policies other than the defaults that the case's sysctls, machine and script stand for."""
    chosen: dict[str, dict[str, Any]] = {"cost_model": {"use": "icount_guest" if case.machine.get("icount") else "tcg_guest"}}
    if "damon" in case.script:
        chosen["monitor"] = {"use": "damon", "params": {"autostart": False}}
    return chosen


def simulation_of(case: Case) -> Simulation:
    """The case's machine as it is before its script."""
    from mmlab.simulation import Simulation

    where = str(case.path / "case.toml")
    return Simulation.from_table(
        with_kernel_numbers({**case.machine, "boot": start_record(case)}, where),
        sysctl={"kernel.randomize_va_space": "2"} | case.sysctl, sysfs=case.sysfs, where=where, policies=case_policies(case), script=True, warm_text=case.warm_text,
    )  # fmt: skip


def simulate_case(case: Case, out_dir: Path) -> None:
    """Run the case's script into ``out_dir`` (new or empty).

    An operation that is not simulated ends the run: what was done before it stays, so that its figures can be compared, and
    ``unsupported.txt`` says what is missing; if nothing was done, Unsupported is raised.
    """
    operations = parse_ops(case.script, str(case.path / "case.toml"))
    try:
        sim = simulation_of(case)
        _trace_buffers(case, sim)
        tracing.switch_on(sim, case.trace.get("events", ()))
        look_up_settings(sim, case.sysctl, case.sysfs)
        try:
            run_script(sim, operations, out_dir, case.path, keep_partial=True)
        finally:
            if out_dir.is_dir():
                _run_recorded_probes(case, sim, operations, out_dir)  # even if the script ended early: they start from states of their own
    except NotSupported as error:
        if not (out_dir / "ops.jsonl").exists():
            raise Unsupported(str(error)) from None
        (out_dir / "unsupported.txt").write_text(f"{error}\n")
    finally:
        _write_given(case, out_dir)


def _trace_buffers(case: Case, sim: Any) -> None:
    """Tracing takes its memory before the script begins; some boot records were made with it, others without."""
    if not case.trace:
        return
    buffer_kb = case.trace.get("buffer_kb", trace_buffers.BUFFER_KB)
    if not trace_buffers.in_record(case.boot, trace_buffers.buffer_pages(buffer_kb) * sim.layout.nr_cpus):
        trace_buffers.allocate(sim, buffer_kb)


def _run_recorded_probes(case: Case, sim: Any, operations: list[Operation], out_dir: Path) -> None:
    """Each allocator program again from the states that real runs started from: ``LABEL@R.probe``."""
    programs = {op.args["label"]: op.args["file"] for op in operations if op.name == "probe"}
    starts = {(figure.data, figure.start) for figure in case.figures if figure.data and figure.start}
    for data, start in sorted(starts):
        label, run = data.removesuffix(".json.gz").split(".run")
        record = json.loads(gzip.decompress((case.path / data).read_bytes()))
        boost_factor, cpu = int(sim.machine.sc[SC_BOOST_FACTOR]), program_cpu(record["states"])
        machine = load_state(record["states"][start], record["zonelists"], sim.policies, boost_factor, cpu)
        program = (case.path / programs[label]).read_text().splitlines()
        try:
            log = ProbeRun(machine).run_from_dump(line for line in program if line.split() != ["zonelists"])
        except Unsupported:
            continue
        (out_dir / f"{label}@{run}.probe").write_text(log_text(log))


def _given_figure(given: dict[str, Any], form: str) -> list[float]:
    index = extfrag_index if form == "extfrag_index" else unusable_index
    blocks = given["free_blocks"]
    return [index(blocks, order) / 1000 for order in range(len(blocks))]


def given_figures(case: Case) -> dict[str, list[float]]:
    """Figures that are functions of values given with them, by id."""
    return {figure.id: _given_figure(figure.given, figure.id.partition("[")[0]) for figure in case.figures if figure.given}


def _write_given(case: Case, out_dir: Path) -> None:
    figures = given_figures(case)
    if figures:
        (out_dir / "given.json").write_text(json.dumps(figures))
