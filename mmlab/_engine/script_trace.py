"""What a run leaves of its tracepoints: ``trace.txt.gz``, what the monitor's and those of reclaim printed, as the real kernel's executor keeps
its trace, and ``damon.data``, the monitor's as a record of damo (JSON, zlib), which ``damo report`` reads.
"""

from __future__ import annotations

import gzip
import json
import zlib
from pathlib import Path
from typing import Any

from mmlab._engine import monitor_told
from mmlab.procfs import tracing
from mmlab.verify.logs import SIMULATED


def write_trace(sim: Any, folder: Path) -> None:
    """Write the files if the monitor has tracepoints and records, and if events of reclaim were switched on."""
    if found := monitor_told.records(sim):
        (folder / "damon.data").write_bytes(zlib.compress(json.dumps(found, default=int).encode()))
    reclaim = tracing.lines(sim)
    if sim.policies["monitor"].policy.trace is None and not tracing.names(sim):
        return
    text = [f"{SIMULATED}{' '.join(tracing.names(sim))}\n", *monitor_told.trace_lines(sim)]
    text += [line for _, line in sorted(reclaim, key=lambda item: item[0])]
    with gzip.GzipFile(folder / "trace.txt.gz", "wb", mtime=0) as file:
        file.write("".join(text).encode())
