"""Runs a few lines of script on a small machine and gives back what they answered and what the machine then shows."""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path

from mmlab._engine.script import run_script
from mmlab.simulation import Simulation
from mmlab.workload.ops import parse_ops


class Ran:
    """A script's run: answers by line number, snapshots, and the simulation as it was left. Broken invariants fail at once.

    results_in_memory: what snapshots keep takes memory, and a page of the driving process with them, as on the recorded machines.
    """

    def __init__(self, script: str, sysctl: dict | None = None, sysfs: dict | None = None, results_in_memory: bool = False,
                 monitor: dict | None = None, cost_model: dict | None = None, **machine):
        machine = {"memory": "256M", "cpus": 1, "cmdline": "transparent_hugepage=never", **machine}
        policies = {slot: chosen for slot, chosen in (("monitor", monitor), ("cost_model", cost_model)) if chosen}
        self.sim = Simulation.from_table(machine, sysctl=sysctl or {}, sysfs=sysfs or {}, script=True, warm_text=True,
                                         policies=policies)
        self.sim._driver_grown = not results_in_memory
        self.sim.results_in_memory = results_in_memory
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "out"
            run_script(self.sim, parse_ops(script.strip("\n"), "test"), out, Path(folder))
            rows = [json.loads(line) for line in (out / "ops.jsonl").read_text().splitlines()]
            self.op = {row["line"]: row for row in rows if "line" in row}
            self.files = {str(p.relative_to(out)): p.read_bytes() for p in out.rglob("*") if p.is_file()}
        assert self.sim.check_state() == []

    def ret(self, *lines: int) -> list[int]:
        """Answers of these lines."""
        return [self.op[line]["ret"] for line in lines]

    def minflt(self, *lines: int) -> list[int]:
        """Minor faults of these lines."""
        return [self.op[line]["minflt"] for line in lines]

    def vmstat(self, label: str, name: str) -> int:
        """A counter of /proc/vmstat in a snapshot."""
        return int(re.search(rf"^{name} (\d+)$", self.files[f"{label}/vmstat"].decode(), re.M)[1])

    def smaps(self, label: str, task: str, addr: int, field: str) -> int:
        """A figure in kB of the VMA that holds an address."""
        for part in re.split(r"(?m)^(?=[0-9a-f]+-[0-9a-f]+ )", self.files[f"{label}/{task}.smaps"].decode())[1:]:
            low, high = (int(word, 16) for word in part.split(" ", 1)[0].split("-"))
            if low <= addr < high:
                return int(re.search(rf"(?m)^{field}: +(\d+)", part)[1])
        raise AssertionError(f"no VMA at {addr:#x}")
