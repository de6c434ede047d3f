"""What a script keeps takes memory: on the recorded machines the executor's results are files in a tmpfs.

Left out: what ops.jsonl holds, the logs of probes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmlab import procfs
from mmlab._engine import loop
from mmlab._engine.script_driver import has_driver, look_up, on_driver
from mmlab.mm import files
from mmlab.model import rows as r

#: on the recorded machines slabinfo has a line for each of some 190 caches
SLABINFO_BYTES = 20_700
PIECE_BYTES = 4032  # a read() of a file of /proc gives whole lines, a little less than a page of them


def keep_file(sim: Any, path: str, target: Path) -> None:
    """Keep a file of /proc or /sys: its copy is made before it is read. FileNotFoundError, NotSupported as procfs.read()."""
    look_up(sim, path)
    copy = _create(sim)
    try:
        _write(sim, copy, target, procfs.read(sim, path))
    finally:
        _close(sim, copy)


def keep_result(sim: Any, target: Path, text: str | bytes) -> None:
    """Write a result file, and let it take memory where a script's executor runs; short of memory, none of it."""
    copy = _create(sim)
    _write(sim, copy, target, text)
    _close(sim, copy)


def keep_folder(sim: Any, folder: Path) -> None:
    """Make a folder of results, which has a name and an inode."""
    if not folder.exists():
        _close(sim, _create(sim))
    folder.mkdir(exist_ok=True)


def make_pipes(sim: Any) -> None:
    """A task gets its operations through one named pipe and answers through another, both in tmpfs."""
    for _ in range(2):
        _close(sim, _create(sim))


def _create(sim: Any) -> int:
    """An empty file in tmpfs, open; -1 where results take no memory, or if there is none."""
    if not (has_driver(sim) and sim.results_in_memory):
        return -1
    with on_driver(sim):
        inode = sim.machine.run(files.inode_create, 0, r.IF_SHMEM | r.IF_NORESERVE)
        return sim.machine.run(files.file_open, inode) if inode >= 0 else -1


def _write(sim: Any, copy: int, target: Path, text: str | bytes) -> None:
    data = text.encode() if isinstance(text, str) else text
    target.write_bytes(data)
    if copy >= 0:
        length = max(len(data), SLABINFO_BYTES) if target.name == "slabinfo" else len(data)
        with on_driver(sim):
            machine = sim.machine
            machine.sc[r.SC_WRITE_CLASS] = machine.sc[r.SC_STORE_CLASS]  # text, which compresses
            machine.run(loop.file_io, copy, 0, length, PIECE_BYTES, 1)
            machine.sc[r.SC_WRITE_CLASS] = r.CLASS_ZERO


def _close(sim: Any, copy: int) -> None:
    if copy >= 0:
        with on_driver(sim):
            sim.machine.run(files.file_close, copy)
