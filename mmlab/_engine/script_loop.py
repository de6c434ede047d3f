"""Operations that go on beside the script: `loop`, `bg` and `join`. A task does one at a time; its next operation waits for it."""

from __future__ import annotations

from typing import Any

from attrs import frozen

from mmlab._engine import loop
from mmlab._engine.image import SLEEP_CODE
from mmlab._engine.script_mem import Answer
from mmlab._engine.script_state import ScriptState, TaskName
from mmlab.errors import NotSupported
from mmlab.model import rows as r
from mmlab.model.const import EFAULT, EXEC, PAGE_SHIFT, READ, WRITE
from mmlab.workload.operation import PAGE_SIZE, Operation

BACKGROUND = ("loop", "touch")


@frozen
class Busy:
    """What a task does in the background: the operation's name, and the task's faults when it began."""

    name: str
    minflt: int
    majflt: int


def start(run: ScriptState, op: Operation) -> Answer:
    """Begin a loop (or, under `bg`, one pass of a `touch`) of a task that does nothing else."""
    a, sim = op.args, run.sim
    if op.name not in BACKGROUND:
        raise NotSupported(op.name)
    if a.get("reverse"):
        raise NotSupported("reverse")
    stride = a["stride"]
    if stride % PAGE_SIZE and PAGE_SIZE % stride:
        raise NotSupported(f"stride={stride}B")
    first = run.region(op.task, a["region"]).addr + a["offset"]
    step = max(1, stride // PAGE_SIZE)
    row = run.tasks[op.task].task.index * r.LOOP_STRIDE
    period = (a.get("period_us") or 0) * 1000
    fields = {
        r.LOOP_VPN: first >> PAGE_SHIFT, r.LOOP_COUNT: -(-a["length"] // (step * PAGE_SIZE)), r.LOOP_STEP: step,
        r.LOOP_ACCESS: WRITE if a["mode"] == "w" else READ, r.LOOP_END_NS: sim.now_ns + a.get("ms", 0) * 1_000_000, r.LOOP_PERIOD_NS: period,
        r.LOOP_NEXT_NS: sim.now_ns, r.LOOP_NOFLUSH: int(bool(a.get("noflush"))), r.LOOP_AT: 0, r.LOOP_PASSES: 0, r.LOOP_STATE: r.LOOP_RUNS, r.LOOP_BEGAN_NS: sim.now_ns,
    }  # fmt: skip
    for field, value in fields.items():
        sim.machine.loop[row + field] = value
    sim.machine.sc[r.SC_NR_LOOPS] += 1
    sim.machine.sc[r.SC_NEXT_EVENT_NS] = 0
    run.tasks[op.task].busy = Busy(op.name, *run.faults(op.task))
    if period and sim._driver >= 0:  # it sleeps between its passes, the first time by code that is not mapped yet
        sim.touch(op.task, SLEEP_CODE, 1, EXEC)
    return {"ret": 0}


def finish(run: ScriptState, name: TaskName) -> Answer:
    """Wait for what the task does in the background: its answer."""
    state, sim = run.tasks[name], run.sim
    busy, state.busy = state.busy, None
    if busy is None:
        return {"ret": 0}
    row = state.task.index * r.LOOP_STRIDE
    sim.machine.run(loop.wait_for_loop, state.task.index)
    sim._notice_kills()
    words: Any = sim.machine.loop[row : row + r.LOOP_STRIDE]
    ended = int(words[r.LOOP_STATE])
    words[r.LOOP_STATE] = r.LOOP_FREE
    after = run.faults(name)
    answer = {"minflt": after[0] - busy.minflt, "majflt": after[1] - busy.majflt, "ns": int(words[r.LOOP_ENDED_NS] - words[r.LOOP_BEGAN_NS])}
    if ended == r.LOOP_DONE:
        return {"ret": int(words[r.LOOP_PASSES]) if busy.name == "loop" else 0, **answer}
    task = sim.machine.task[state.task.index * r.TASK_STRIDE :][: r.TASK_STRIDE]
    if task[r.T_FLAGS] & r.TF_KILLED and task[r.T_ALIVE]:
        sim.exit(name, 9)
    if not task[r.T_ALIVE]:
        return {"ret": -EFAULT, **answer}
    signal = {"signal": int(task[r.T_SIGNAL]), "si_code": int(task[r.T_SI_CODE]), "si_addr": int(task[r.T_SI_ADDR]) & (1 << 64) - 1}
    task[r.T_SIGNAL] = 0
    return {"ret": -EFAULT, **answer, **signal}


def forget(run: ScriptState, name: TaskName) -> None:
    """The task is killed in the middle of it."""
    state = run.tasks[name]
    if state.busy is None:
        return
    row = state.task.index * r.LOOP_STRIDE
    if run.sim.machine.loop[row + r.LOOP_STATE] == r.LOOP_RUNS:
        run.sim.machine.sc[r.SC_NR_LOOPS] -= 1
    run.sim.machine.loop[row + r.LOOP_STATE] = r.LOOP_FREE
    state.busy = None
