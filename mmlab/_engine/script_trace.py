"""What a run leaves of its tracepoints: ``trace.txt.gz``, what the monitor's and those of reclaim printed, as the real kernel's executor keeps
its trace, and ``damon.data``, the monitor's as a record of damo (JSON, zlib), which ``damo report`` reads.
"""

from __future__ import annotations

import gzip
import json
import zlib
from pathlib import Path
from typing import Any

from mmlab.procfs import tracing
from mmlab.verify.logs import SIMULATED


def write_trace(sim: Any, folder: Path) -> None:
    """Write the files if the monitor has tracepoints and records, and if events of reclaim were switched on."""
    chosen = getattr(sim, "policies", {}).get("monitor")
    monitor = chosen.policy if chosen else None
    state = sim.machine.states["monitor"] if chosen else None
    monitor_lines, records = getattr(monitor, "trace", None), getattr(monitor, "records", None)
    if records is not None:
        found = records(sim.machine, state)
        if found:
            (folder / "damon.data").write_bytes(zlib.compress(json.dumps(found).encode()))
    reclaim = tracing.lines(sim)
    if monitor_lines is None and not tracing.names(sim):
        return
    text = [f"{SIMULATED}{' '.join(tracing.names(sim))}\n", *(monitor_lines(sim.machine, state) if monitor_lines else ())]
    text += [line for _, line in sorted(reclaim, key=lambda item: item[0])]
    with gzip.GzipFile(folder / "trace.txt.gz", "wb", mtime=0) as file:
        file.write("".join(text).encode())
