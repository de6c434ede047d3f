"""What a script keeps takes memory: on the recorded machines the executor's results are files in a tmpfs.

Left out: ops.jsonl, the logs of probes, the folders' own inodes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmlab._engine import loop
from mmlab._engine.script_driver import has_driver, on_driver
from mmlab.mm import files
from mmlab.model import rows as r

#: on the recorded machines slabinfo has a line for each of some 190 caches
SLABINFO_BYTES = 20_700
PIECE_BYTES = 4032  # a read() of a file of /proc gives whole lines, a little less than a page of them


def keep_result(sim: Any, target: Path, text: str | bytes) -> None:
    """Write a result file, and let it take memory where a script's executor runs; short of memory, none of it."""
    data = text.encode() if isinstance(text, str) else text
    target.write_bytes(data)
    if not (has_driver(sim) and sim.results_in_memory):
        return
    machine = sim.machine
    with on_driver(sim):
        inode = machine.run(files.inode_create, 0, r.IF_SHMEM | r.IF_NORESERVE)
        file = machine.run(files.file_open, inode) if inode >= 0 else -1
        if file >= 0:
            length = max(len(data), SLABINFO_BYTES) if target.name == "slabinfo" else len(data)
            machine.sc[r.SC_WRITE_CLASS] = machine.sc[r.SC_STORE_CLASS]  # text, which compresses
            machine.run(loop.file_io, file, 0, length, PIECE_BYTES, 1)
            machine.sc[r.SC_WRITE_CLASS] = r.CLASS_ZERO
            machine.run(files.file_close, file)
