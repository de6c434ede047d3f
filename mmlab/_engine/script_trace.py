"""What a monitor leaves on disk: ``trace.txt.gz``, what its tracepoints printed, as the real kernel's executor keeps its trace, and
``damon.data``, the same as a record of damo (JSON, zlib), which ``damo report`` reads.
"""

from __future__ import annotations

import gzip
import json
import zlib
from pathlib import Path
from typing import Any


def write_trace(sim: Any, folder: Path) -> None:
    """Write the files if the monitor has tracepoints and records."""
    monitor = sim.policies["monitor"].policy if hasattr(sim, "policies") else None
    lines, records = getattr(monitor, "trace", None), getattr(monitor, "records", None)
    if records is not None:
        found = records(sim.machine, sim.machine.states["monitor"])
        if found:
            (folder / "damon.data").write_bytes(zlib.compress(json.dumps(found).encode()))
    if lines is None:
        return
    with gzip.GzipFile(folder / "trace.txt.gz", "wb", mtime=0) as file:
        file.write("".join(lines(sim.machine, sim.machine.states["monitor"])).encode())
