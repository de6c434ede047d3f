"""`snapshot L`: the /proc and /sys files of the moment in a folder L, the same set as the real kernel's executor keeps."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from mmlab._engine.image import driver_grows
from mmlab._engine.results_tmpfs import keep_file, keep_folder, keep_result
from mmlab._engine.script_driver import look_up, look_up_sizes, open_numa_maps
from mmlab.errors import NotSupported
from mmlab.mm.page_io import swap_io_wait
from mmlab.procfs import mthp
from mmlab.procfs.tasks import living

NR_BRIEF = 5
MACHINE = (
    "/proc/vmstat",
    "/proc/buddyinfo",
    "/proc/pagetypeinfo",
    "/proc/zoneinfo",
    "/proc/meminfo",
    "/proc/slabinfo",
    "/proc/swaps",
    "/sys/kernel/debug/lru_gen",
    "/sys/kernel/debug/extfrag/extfrag_index",
    "/sys/kernel/debug/extfrag/unusable_index",
)
#: (node, file): in the order in which the executor reads them
NODE = (
    (0, "vmstat"), (1, "vmstat"), (0, "numastat"), (1, "numastat"), (2, "numastat"), (3, "numastat"),
    (0, "meminfo"), (1, "meminfo"), (2, "vmstat"), (3, "vmstat"), (2, "meminfo"), (3, "meminfo"),
)  # fmt: skip
NR_NODES = 4  # that it asks for
TASK = ("smaps", "status", "stat", "statm", "oom_score", "oom_score_adj", "numa_maps", "maps")


def snapshot(sim: Any, folder: Path, brief: bool) -> None:
    """Write the files into a folder (made here). A file that is not simulated is left out, as the executor leaves out what is not there."""
    keep_folder(sim, folder)
    if hasattr(sim.machine, "run"):
        sim.machine.run(swap_io_wait)  # the executor takes some milliseconds before it reads the first file
    for path in MACHINE[:NR_BRIEF] if brief else MACHINE:
        _keep(sim, path, folder / path.rpartition("/")[2])
    if brief:
        return
    for node, name in NODE:
        if node < sim.layout.nr_nodes:
            _keep(sim, f"/sys/devices/system/node/node{node}/{name}", folder / f"node{node}.{name}")
    for node in range(sim.layout.nr_nodes, NR_NODES):
        look_up(sim, f"/sys/devices/system/node/node{node}", exists=False)
    _keep(sim, "/proc/pressure/memory", folder / "memory")
    look_up_sizes(sim)
    keep_result(sim, folder / "mthp", "".join(mthp.lines(sim)))
    for task in living(sim):
        for name in TASK:
            if name == "numa_maps":
                open_numa_maps(sim)
            _keep(sim, f"/proc/{task.pid}/{name}", folder / f"{task.name}.{name}")
    if getattr(sim, "_driver", -1) >= 0 and not sim._driver_grown:
        sim._driver_grown = True
        driver_grows(sim)


def _keep(sim: Any, path: str, target: Path) -> None:
    with suppress(NotSupported):
        keep_file(sim, path, target)
