"""Operations of a script on the machine as a whole: settings, files kept, tasks started and ended, time."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress

from mmlab import procfs
from mmlab._engine import script_loop
from mmlab._engine.results_tmpfs import keep_file, keep_result, make_pipes
from mmlab._engine.script_mem import Answer
from mmlab._engine.script_driver import look_up, proc_flush_pid
from mmlab._engine.script_probe import run_probe
from mmlab._engine.script_shell import run_shell
from mmlab._engine.script_snapshot import snapshot
from mmlab._engine.script_state import Region, ScriptError, ScriptState, TaskState
from mmlab.errors import InputError, MmlabError
from mmlab.procfs import cgroups
from mmlab.workload.operation import Operation
from mmlab.workload.tokens import task_reference



def _spawn(run: ScriptState, op: Operation) -> Answer:
    make_pipes(run.sim)
    where = {} if op.args["cgroup"] is None else {"cgroup": op.args["cgroup"]}
    task = run.sim.spawn(op.task, cpu=op.args["cpu"] or 0, oom_score_adj=op.args["oom_score_adj"], **where)
    run.tasks[op.task] = TaskState(task)
    look_up(run.sim, f"/proc/{task.pid}/oom_score_adj")
    return {"ret": 0, "pid": task.pid}


def _cgroup(run: ScriptState, op: Operation) -> Answer:
    """Make the cgroup and write its settings, up to the first that is refused."""
    row = cgroups.make(run.sim, op.args["cgroup"])
    for key, value in op.args["settings"]:
        if error := cgroups.write(run.sim, row, key, value):
            return {"ret": error}
    return {"ret": 0}


def _fork(run: ScriptState, op: Operation) -> Answer:
    parent, child = run.tasks[op.task], op.args["child"]
    make_pipes(run.sim)
    task = run.sim.fork(op.task, child)
    if isinstance(task, int):
        run.tasks[child] = TaskState(None, op.task, alive=False)
        return {"ret": task, "pid": -1}
    regions = {name: Region(region.addr, region.length) for name, region in parent.regions.items()}
    run.tasks[child] = TaskState(task, op.task, True, regions, dict(parent.kept_files))
    return {"ret": 0, "pid": task.pid}


def _kill(run: ScriptState, op: Operation) -> Answer:
    script_loop.forget(run, op.task)
    if run.tasks[op.task].alive and run.runs(op.task):
        run.sim.kill(op.task)
        proc_flush_pid(run.sim, run.tasks[op.task].task.pid)
    run.tasks[op.task].alive = False
    return {"ret": 0}


def value_text(run: ScriptState, value: str) -> str:
    """A setting's value with @A (a pid), @A.R and @A.R+SIZE (an address in decimal) filled in."""
    reference = task_reference(value)
    if reference is None:
        return value
    if reference.region is None:
        return str(run.tasks[reference.task].task.pid)
    try:
        return str(run.region(reference.task, reference.region).addr + reference.offset)
    except ScriptError:
        raise InputError(f"{value}: task {reference.task} has no region {reference.region}") from None


def _path(run: ScriptState, path: str) -> str:
    return re.sub(r"/@([^/]+)", lambda match: f"/{run.tasks[match[1]].task.pid}", path)


def _write_setting(run: ScriptState, path: str, text: str) -> Answer:
    answer = procfs.write(run.sim, path, text)
    look_up(run.sim, path)
    return {"ret": answer}


def _sysctl(run: ScriptState, op: Operation) -> Answer:
    return _write_setting(run, "/proc/sys/" + op.args["key"].replace(".", "/"), value_text(run, op.args["value"]))


def _sysfs(run: ScriptState, op: Operation) -> Answer:
    return _write_setting(run, "/sys/kernel/" + op.args["path"], value_text(run, op.args["value"]))


def _write(run: ScriptState, op: Operation) -> Answer:
    words = op.args["value"]
    text = value_text(run, words[0]) if len(words) == 1 else " ".join(words)
    return _write_setting(run, _path(run, op.args["path"]), text)


def _oom_score_adj(run: ScriptState, op: Operation) -> Answer:
    return _write_setting(run, f"/proc/{run.tasks[op.task].task.pid}/oom_score_adj", str(op.args["value"]))


def _sh(run: ScriptState, op: Operation) -> Answer:
    """The few commands of a shell that mmlab._engine.script_shell knows."""
    return {"ret": run_shell(run, op.text.removeprefix("sh ").strip())}


def _mkfile(run: ScriptState, op: Operation) -> Answer:
    run.made_files.add(op.args["file"])
    return {"ret": run.sim.mkfile(op.args["file"], op.args["size"])}


def _sleep(run: ScriptState, op: Operation) -> Answer:
    run.sim.sleep(op.args["ms"])
    return {"ret": 0}


def _snapshot(run: ScriptState, op: Operation) -> Answer:
    snapshot(run.sim, run.out / op.args["label"], op.args["brief"])
    return {"ret": 0}


def _cat(run: ScriptState, op: Operation) -> Answer:
    path = _path(run, op.args["path"])
    with suppress(FileNotFoundError):  # the executor keeps nothing then, and says nothing
        keep_file(run.sim, path, run.out / op.args["label"])
    return {"ret": 0}


def _tree(run: ScriptState, op: Operation) -> Answer:
    lines = (f"{path} {text.rstrip(chr(10)).replace(chr(10), ',')}\n" for path, text in procfs.files(run.sim, op.args["path"]))
    keep_result(run.sim, run.out / op.args["label"], "".join(lines))
    return {"ret": 0}


def _probe(run: ScriptState, op: Operation) -> Answer:
    path = run.files / op.args["file"]
    if not path.is_file():
        raise MmlabError(f"probe: no file {op.args['file']} beside the script")
    (run.out / f"{op.args['label']}.probe").write_text(run_probe(run.sim, path.read_text()))
    return {"ret": 0}


#: what the driver does by itself: the answers have no faults and no time
OPERATIONS: dict[str, Callable[[ScriptState, Operation], Answer]] = {
    "spawn": _spawn, "cgroup": _cgroup, "fork": _fork, "kill": _kill, "sysctl": _sysctl, "sysfs": _sysfs, "write": _write, "oom_score_adj": _oom_score_adj,
    "sh": _sh, "mkfile": _mkfile, "sleep": _sleep, "snapshot": _snapshot, "cat": _cat, "tree": _tree, "probe": _probe,
}  # fmt: skip
