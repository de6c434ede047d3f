"""``trace.txt.gz``: what the tracepoints of the monitor printed, as the real kernel's executor keeps its trace."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any


def write_trace(sim: Any, folder: Path) -> None:
    """Write the file if the monitor has tracepoints."""
    lines = getattr(sim.policies["monitor"].policy, "trace", None) if hasattr(sim, "policies") else None
    if lines is None:
        return
    with gzip.GzipFile(folder / "trace.txt.gz", "wb", mtime=0) as file:
        file.write("".join(lines(sim.machine, sim.machine.states["monitor"])).encode())
