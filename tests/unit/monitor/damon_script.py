"""Runs a script on a small machine with DAMON: the result folder, the simulation, and DAMON's state to look at."""

from pathlib import Path
from types import SimpleNamespace

from mmlab._engine.script import run_script
from mmlab.simulation import Simulation
from mmlab.verify.damon import _read
from mmlab.verify.folder import ResultFolder
from mmlab.workload.ops import parse_ops

ADMIN = "mm/damon/admin/kdamonds/"
CTX = ADMIN + "0/contexts/0/"


def setup(operations: str, targets: int = 1, schemes: int = 0) -> str:
    """One kdamond with one context."""
    text = f"sysfs {ADMIN}nr_kdamonds 1\nsysfs {ADMIN}0/contexts/nr_contexts 1\nsysfs {CTX}operations {operations}\n"
    text += f"sysfs {CTX}targets/nr_targets {targets}\n"
    return text + (f"sysfs {CTX}schemes/nr_schemes {schemes}\n" if schemes else "")


def regions(target: int, *bounds: tuple[str, str]) -> str:
    """User regions of a target."""
    base = f"sysfs {CTX}targets/{target}/regions/"
    lines = [f"{base}nr_regions {len(bounds)}"]
    for i, (start, end) in enumerate(bounds):
        lines += [f"{base}{i}/start {start}", f"{base}{i}/end {end}"]
    return "\n".join(lines) + "\n"


def pid(target: int, task: str) -> str:
    return f"sysfs {CTX}targets/{target}/pid_target @{task}\n"


def scheme(number: int, action: str, nr_accesses: tuple[int, int], age: tuple[int, int] = (0, 4_000_000), more: str = "") -> str:
    """A scheme for every size; more: "path value" pairs, a line each."""
    base = f"sysfs {CTX}schemes/{number}/"
    lines = [f"action {action}", "access_pattern/sz/min 4096", "access_pattern/sz/max 9223372036854775808"]
    for name, (low, high) in (("nr_accesses", nr_accesses), ("age", age)):
        lines += [f"access_pattern/{name}/min {low}", f"access_pattern/{name}/max {high}"]
    return "".join(f"{base}{line}\n" for line in [*lines, *more.strip().splitlines()])


def run(tmp_path: Path, script: str, memory: str = "64M", swap: str = "0", reclaimer: str = "two_list", cost_model: str = "vm_guest", **machine) -> SimpleNamespace:
    """rows: answers of ops.jsonl in order; trace: DAMON's; folder, sim, st."""
    table = {"memory": memory, "swap": swap, "bare": True, **machine}
    choice = {"monitor": {"use": "damon", "params": {"autostart": False}}, "reclaimer": {"use": reclaimer}, "cost_model": {"use": cost_model}}
    sim = Simulation.from_table(table, policies=choice, script=not table["bare"])
    run_script(sim, parse_ops(script, "test.ops"), tmp_path / "out", tmp_path)
    assert sim.check_state() == []
    folder = ResultFolder(tmp_path / "out")
    rows = [folder.ops[line] for line in sorted(folder.ops)]
    return SimpleNamespace(folder=folder, sim=sim, st=sim.machine.states["monitor"], trace=_read(folder), rows=rows)
