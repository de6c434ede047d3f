"""Operations of a script that touch memory or files: touch, rtouch, access, fread, fwrite, fsync, truncate."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from mmlab._engine.script_mem import Answer
from mmlab._engine.script_state import ScriptError, ScriptState
from mmlab.model.const import EFAULT, ENOENT, PAGE_SHIFT, READ, WRITE
from mmlab.workload.operation import PAGE_SIZE, Operation
from mmlab.workload.splitmix import rtouch_pages

_MODE = {"r": READ, "w": WRITE}
_WRITE_BIT = np.uint32(1 << 31)
_CHUNK = 1 << 20


def _answer(outcome: Any) -> Answer:
    """Outcome of a run of accesses as the script reports it: -EFAULT and the signal where one ended it."""
    if not outcome.signal:
        return {"ret": 0}
    return {"ret": -EFAULT, "signal": outcome.signal, "si_code": outcome.si_code, "si_addr": outcome.si_addr & (1 << 64) - 1}


def _touch(run: ScriptState, op: Operation) -> Answer:
    a = op.args
    start, stride = run.region(op.task, a["region"]).addr + a["offset"], a["stride"]
    count = -(-a["length"] // stride)
    if a["reverse"]:
        start += a["length"] - count * stride  # the last access of all
    if stride % PAGE_SIZE == 0:
        pages = {"stride_pages": stride >> PAGE_SHIFT, "reverse": a["reverse"]}
        return _answer(run.sim.touch(op.task, start, count, _MODE[a["mode"]], **pages))
    addresses = start + stride * np.arange(count, dtype=np.int64)
    vpns = (addresses[::-1] if a["reverse"] else addresses) >> PAGE_SHIFT
    return _touch_pages(run, op, ((vpns, np.full(count, _MODE[a["mode"]], np.int64)) for _ in range(1)))


def _touch_pages(run: ScriptState, op: Operation, chunks: Iterable[tuple[np.ndarray, np.ndarray]]) -> Answer:
    for vpns, accesses in chunks:
        outcome = run.sim.touch_pages(op.task, vpns, accesses)
        if outcome.signal or not run.runs(op.task):
            return _answer(outcome)
    return {"ret": 0}


def _rtouch(run: ScriptState, op: Operation) -> Answer:
    a = op.args
    first = (run.region(op.task, a["region"]).addr + a["offset"]) >> PAGE_SHIFT
    pages = rtouch_pages(a["seed"], a["count"], a["length"] // PAGE_SIZE, _CHUNK)
    return _touch_pages(run, op, ((first + page, np.full(len(page), _MODE[a["mode"]], np.int64)) for page in pages))


def _access(run: ScriptState, op: Operation) -> Answer:
    a = op.args
    path = run.files / a["file"]
    if not path.is_file():
        raise ScriptError(ENOENT)
    first = run.region(op.task, a["region"]).addr >> PAGE_SHIFT
    words = np.fromfile(path, "<u4", -1 if a["count"] is None else a["count"], offset=4 * a["start"])
    writes = (words & _WRITE_BIT != 0) if a["mode"] == "m" else np.full(len(words), a["mode"] == "w")
    vpns = first + (words & ~_WRITE_BIT).astype(np.int64)
    kinds = np.where(writes, WRITE, READ).astype(np.int64)
    answer = _touch_pages(run, op, ((vpns[i : i + _CHUNK], kinds[i : i + _CHUNK]) for i in range(0, len(vpns), _CHUNK)))
    return answer if answer["ret"] else {"ret": len(words)}


def _file_io(run: ScriptState, op: Operation) -> Answer:
    a = op.args
    if op.name == "fread":
        return {"ret": run.sim.fread(op.task, run.existing(a["file"]), a["offset"], a["length"], advice=a["advice"] or 0).ret}
    if a["file"] not in run.made_files:  # opened with O_CREAT
        run.made_files.add(a["file"])
        run.sim.mkfile(a["file"], 0)
    return {"ret": run.sim.fwrite(op.task, a["file"], a["offset"], a["length"]).ret}


def _fsync(run: ScriptState, op: Operation) -> Answer:
    return {"ret": min(0, _ret(run.sim.fsync(op.task, run.existing(op.args["file"]))))}


def _truncate(run: ScriptState, op: Operation) -> Answer:
    return {"ret": _ret(run.sim.truncate(op.task, run.existing(op.args["file"]), op.args["size"]))}


def _ret(result: Any) -> int:
    return result if isinstance(result, int) else result.ret


OPERATIONS: dict[str, Callable[[ScriptState, Operation], Answer]] = {
    "touch": _touch, "rtouch": _rtouch, "access": _access, "fread": _file_io, "fwrite": _file_io, "fsync": _fsync, "truncate": _truncate,
}  # fmt: skip
