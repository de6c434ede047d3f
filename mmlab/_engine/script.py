"""Runs a workload script on a simulated machine and leaves the folder that the real kernel's executor leaves.

``ops.jsonl`` has an object a line: line, op, at, then the operation's answer; at the end one for each task. Beside it are a folder per
snapshot, the files that ``cat``, ``tree``, ``pagemap`` and ``probe`` keep, ``trace.txt.gz`` of the policies' tracepoints, and ``dmesg.txt``.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TextIO

from mmlab._engine import script_access, script_loop, script_machine, script_mem
from mmlab._engine.script_dmesg import dmesg
from mmlab._engine.script_driver import driver_waits, proc_flush_pid
from mmlab._engine.script_mem import Answer
from mmlab._engine.script_state import ScriptError, ScriptState, TaskName, TaskState
from mmlab._engine.script_trace import write_trace
from mmlab.errors import InputError, NotSupported
from mmlab.model import rows as r
from mmlab.workload.operation import Operation

ESRCH = 3
TASK_OPERATIONS = {**script_mem.OPERATIONS, **script_access.OPERATIONS}


def run_script(
    sim: Any,
    operations: Sequence[Operation],
    out_dir: Path,
    files_dir: Path,
    progress: Callable[[int, int], None] | None = None,
    keep_partial: bool = False,
) -> list[dict[str, Any]]:
    """Run the operations one after the other; ``out_dir`` appears whole when all are done. Returns those that were refused, as {line, op, errno}.

    files_dir: where ``access`` and ``probe`` find their files. progress: called with (done, all) after each operation. keep_partial: if an
    operation is not supported, leave what was done before it as well (no end of tasks, no dmesg), then raise.
    Raises NotSupported naming the operation and its line; InputError if ``out_dir`` cannot be written or is not empty.
    """
    out_dir = Path(out_dir)
    try:
        out_dir.parent.mkdir(parents=True, exist_ok=True)
        if out_dir.exists() and (not out_dir.is_dir() or any(out_dir.iterdir())):
            raise InputError(f"{out_dir}: must be a new or empty folder for the script's results")
        part = Path(tempfile.mkdtemp(prefix=f".{out_dir.name}.", dir=out_dir.parent))
    except OSError as error:
        raise InputError(f"{out_dir}: must be writable ({error.strerror})") from None
    done = False
    try:
        refused = _run(ScriptState(sim, part, Path(files_dir)), operations, progress)
        done = True
    except NotSupported:
        done = keep_partial
        raise
    finally:
        if done:
            write_trace(sim, part)
            part.chmod(0o755)
            os.replace(part, out_dir)
        else:
            shutil.rmtree(part, ignore_errors=True)
    return refused


def _run(run: ScriptState, operations: Sequence[Operation], progress: Callable[[int, int], None] | None) -> list[dict[str, Any]]:
    """Every operation in order: those whose answer is an error, as {line, op, errno}."""
    refused = []
    with (run.out / "ops.jsonl").open("w") as log:
        for number, op in enumerate(operations, 1):
            at = run.sim.now_ns
            driver_waits(run.sim, op.name)
            try:
                answer = _answer(run, op)
            except NotSupported as error:
                raise NotSupported(_not_supported(op, str(error))) from None
            text = f"spawn {op.task}" if op.name == "spawn" else op.text
            _write_line(log, {"line": op.line, "op": text, "at": at, **answer})
            if isinstance(answer.get("ret"), int) and answer["ret"] < 0:
                refused.append({"line": op.line, "op": op.text, "errno": -answer["ret"]})
            if progress:
                progress(number, len(operations))
        _write_ends(run, log)
    (run.out / "dmesg.txt").write_text(dmesg(run.sim.kills))
    return refused


def _not_supported(op: Operation, why: str) -> str:
    name = f"operation '{'bg ' if op.background else ''}{op.name}' (line {op.line})"
    why = why.removesuffix(": not supported yet")
    return f"{name}: not supported yet" if why == op.name else f"{name}: {why}: not supported yet"


def _write_line(log: TextIO, row: dict[str, Any]) -> None:
    log.write(json.dumps(row, separators=(",", ":")) + "\n")


def _answer(run: ScriptState, op: Operation) -> Answer:
    if op.name not in TASK_OPERATIONS and op.name not in script_machine.OPERATIONS and op.name not in ("exit", "loop", "join"):
        raise NotSupported(op.name)
    if op.task is not None and op.name not in ("spawn", "kill", "oom_score_adj") and run.tasks[op.task].busy:
        answer = script_loop.finish(run, op.task)
        if op.name == "join":
            return _dead(run, op.task) or answer
    elif op.name == "join":
        return _dead(run, op.task) or {"ret": 0}
    if op.name in script_machine.OPERATIONS:
        if op.name == "fork" and (dead := _dead(run, op.task)):
            run.tasks[op.args["child"]] = TaskState(None, op.task, alive=False)
            return dead
        return script_machine.OPERATIONS[op.name](run, op)
    return _task_answer(run, op)


def _dead(run: ScriptState, name: TaskName) -> Answer | None:
    """The answer for a task that runs no more: the first time how it ended, then -ESRCH."""
    state = run.tasks[name]
    if not state.alive:
        return {"ret": -ESRCH, "dead": True}
    if run.runs(name):
        return None
    state.alive = False
    proc_flush_pid(run.sim, state.task.pid)
    signal = run.ended_by(name)
    return {"ret": 0, "died": True, "signal": signal, "status": signal}


def _task_answer(run: ScriptState, op: Operation) -> Answer:
    """An operation that the task itself does, with its own faults and simulated time."""
    name = op.task
    if dead := _dead(run, name):
        return dead
    if op.name == "exit":
        run.sim.exit(name)
        return _dead(run, name) or {"ret": 0}
    if op.background or op.name == "loop":
        try:
            answer = script_loop.start(run, op)
        except ScriptError as error:
            return {"ret": 0 if op.background else -error.errno}
        return answer if op.background else _dead(run, name) or script_loop.finish(run, name)
    before, began = run.faults(name), run.sim.now_ns
    try:
        answer = TASK_OPERATIONS[op.name](run, op)
    except ScriptError as error:
        answer = {"ret": -error.errno}
    _finish_kill(run, name)
    if dead := _dead(run, name):
        return dead
    after = run.faults(name)
    counts = {"minflt": after[0] - before[0], "majflt": after[1] - before[1], "ns": run.sim.now_ns - began}
    return {"ret": answer.pop("ret"), **counts, **answer}


def _finish_kill(run: ScriptState, name: TaskName) -> None:
    """A victim of the OOM killer that was itself in a system call dies on the way out of it."""
    if run.runs(name) and run.sim.machine.task[run.row(name) + r.T_FLAGS] & r.TF_KILLED:
        run.sim.kill(name)


def _write_ends(run: ScriptState, log: TextIO) -> None:
    """Who is alive at the end; a signal only for a process that nobody has noticed to be dead."""
    for name, state in run.tasks.items():
        dead = not state.alive or not run.runs(name)
        signal = run.ended_by(name) if state.alive and dead else 0
        _write_line(log, {"end": True, "task": name, "alive": not dead, "signal": signal})
