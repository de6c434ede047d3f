"""A run through an event stream: chunks of the jitted loop, and what Python does between them. It can be left between two chunks and resumed."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import attrs
import numpy as np

from mmlab._engine import checkpoint, loop
from mmlab._engine.blame import never_freed
from mmlab._engine.sampler import Sampler
from mmlab._engine.score import Scorer
from mmlab._engine.stream_ops import StreamTasks
from mmlab.errors import MmlabError
from mmlab.model import rows as r
from mmlab.simulation import File, Simulation, Task
from mmlab.workload.operation import Operation
from mmlab.workload.stream import EventStream, work_of_tasks

Progress = Callable[[int, int, str], None]
CHUNK = 1 << 19


class StreamRun:
    """A stream on a simulation. check_every: events between two checks of every invariant, 0 for none. state: the checkpoint's folder, used
    when progress raises KeyboardInterrupt, and looked for at the start. scorer: compares the monitor with the stream. go_on: without the
    accesses of tasks that were killed. seconds_before: what earlier parts of the run took."""

    def __init__(
        self, sim: Simulation, stream: EventStream, sampler: Sampler, check_every: int = 0, state: Path | None = None, scorer: Scorer | None = None,
        go_on: bool = False,
    ):  # fmt: skip
        self.sim, self.stream, self.sampler, self.check_every, self.state, self.scorer = sim, stream, sampler, check_every, state, scorer
        self.tasks = StreamTasks(sim, stream.tasks)
        self.go_on = go_on and scorer is None
        self.cuts: list[tuple[int, list[int]]] = []
        self.words, self.work = stream.words, work_of_tasks(stream.words, len(stream.tasks))[:, 0]
        self.future = stream.next_use() if sim.machine.sc[r.SC_NEEDS_FUTURE] else None
        self.done = self.nr_signals = 0
        self.seconds_before, self.began = 0.0, time.perf_counter()
        if state is not None and state.is_dir():
            self._resume(state)

    def run(self, progress: Progress) -> dict[str, int]:
        """Run all events that are left; what happened on the way. Between chunks progress is called, and may raise KeyboardInterrupt to stop:
        the run is saved then."""
        reported = self.done
        self.began = time.perf_counter()
        self._next_sample()
        if self.done:
            progress(self.done, len(self.words), "")
        while self.done < len(self.words):
            self._chunk(len(self.words))
            if self.done - reported >= CHUNK or self.done == len(self.words):
                reported = self.done
                try:
                    progress(self.done, len(self.words), "")
                except KeyboardInterrupt:
                    self._save()
                    raise
        lost = int(self.work[[self.tasks.number[kill["task"]] for kill in self._killed()]].sum())
        return {"events": self.done, "signals": self.nr_signals, "failed_operations": self.tasks.nr_failed, "kills": len(self._killed()), "work_lost": lost}

    def step(self, events: int) -> int:
        """Run so many events, or all that are left: how many are left then."""
        self._next_sample()
        end = self.done + events
        while self.done < min(end, len(self.words)):
            self._chunk(min(end, len(self.words)))
        return len(self.words) - self.done

    def _killed(self) -> list[dict]:
        """The kills of the stream's tasks."""
        return [kill for kill in self.sim.kills if kill["task"] in self.tasks.number]

    def _chunk(self, end: int) -> None:
        """Run up to event number `end` at most, or to the next thing that Python has to do, and do it."""
        machine, sc, words, start = self.sim.machine, self.sim.machine.sc, self.words, self.done
        stop = min(end, start + CHUNK)
        if self.check_every:
            stop = min(stop, (start // self.check_every + 1) * self.check_every)
        if sc[r.SC_WANTS_ACCESS] or sc[r.SC_NEEDS_FUTURE]:
            self.done = machine.run(loop.run_stream_watched, words, words if self.future is None else self.future, start, stop)
        else:
            self.done = machine.run(loop.run_stream, words, start, stop)
        why = int(sc[r.SC_EVENT])
        if why == loop.STOP_OPERATION:
            op = self.stream.ops[int(words[self.done]) >> 16]
            if op.name == "sleep":
                self._sample_before(int(op.args["ms"]) * 1_000_000)
            if self.tasks.run(op) < 0 and op.name == "mmap" and self.stream.meta.get("source") != "recorded":
                raise MmlabError(_refused(op))
            self.done += 1
        elif why == loop.STOP_SAMPLE:
            self._sample()
        elif why == loop.STOP_SIGNAL:
            self.nr_signals += 1
        elif why == loop.STOP_KILL:
            self._after_kill()
        if self.check_every and self.done // self.check_every > start // self.check_every:
            broken = self.sim.check_state()
            if broken:
                raise MmlabError(f"after {self.done} events: " + "; ".join(broken[:8]))

    def _sample(self) -> None:
        """The time of a sample, or of comparing the monitor with the truth, has come."""
        now = self.sim.now_ns
        if now >= self.sampler.next_ns:
            self.sampler.sample()
        if self.scorer is not None and now >= self.scorer.next_ns:
            self.scorer.due(self.done)
        self._next_sample()

    def _sample_before(self, ns: int) -> None:
        """Let everybody sleep up to each sample that is due before a moment, and take it."""
        while (due := int(self.sim.machine.sc[r.SC_NEXT_SAMPLE_NS])) < ns:
            self.sim.sleep_until(due)
            self._sample()

    def _next_sample(self) -> None:
        """Let the loop stop when the next of both is due."""
        sc = self.sim.machine.sc
        sc[r.SC_NEXT_SAMPLE_NS] = min(self.sampler.next_ns, self.scorer.next_ns) if self.scorer is not None else self.sampler.next_ns
        sc[r.SC_NEXT_EVENT_NS] = min(int(sc[r.SC_NEXT_EVENT_NS]), int(sc[r.SC_NEXT_SAMPLE_NS]))

    def _after_kill(self) -> None:
        """The OOM killer struck: dead tasks' events no longer count. Raises MmlabError if the machine panics, PluginError for a reclaimer that never
        freed a page."""
        sim, tasks = self.sim, self.tasks
        sim._notice_kills()
        rows = sim.machine.task.reshape(-1, r.TASK_STRIDE)
        for name in self.stream.tasks:
            known = sim.tasks.get(name)
            if known is not None and name not in tasks.dead and (rows[known.index, r.T_FLAGS] & r.TF_KILLED or not rows[known.index, r.T_ALIVE]):
                sim.exit(name, 9)
                tasks.dead.add(name)
        dead = [tasks.number[name] for name in tasks.dead]
        if self._of(dead).any():
            if (fault := never_freed(sim.machine)) is not None:
                raise fault
            if not self.go_on:
                how = "give the machine more memory or swap, or set [run] after_oom = \"go_on\"" if self.scorer is None else "give the machine more memory or swap"
                raise MmlabError(f"the OOM killer ended {', '.join(sorted(tasks.dead))}, whose events go on: {how}")
            self.cuts.append((self.done, dead))
            self._cut(self.done, dead)

    def _of(self, tasks: list[int]) -> np.ndarray:
        """Which of the words that are left are accesses of these tasks, bool[left]."""
        rest = self.words[self.done :]
        return np.isin((rest >> 4) & 4095, tasks) & ((rest & 15) < 3)

    def _cut(self, done: int, dead: list[int]) -> None:
        """Leave the accesses of dead tasks out from here on."""
        self.done = done
        keep = ~self._of(dead)
        self.words = np.concatenate((self.words[:done], self.words[done:][keep]))
        if self.future is not None:  # numbers of events still say who comes later
            self.future = np.concatenate((self.future[:done], self.future[done:][keep]))

    # -- leaving and resuming --------------------------------------------------------------------------------------------------------------
    def _save(self) -> None:
        if self.state is None or self.done == len(self.words):
            return
        sim, tasks, sampler = self.sim, self.tasks, self.sampler
        rest = {
            "done": self.done, "nr_signals": self.nr_signals, "seconds": self.seconds_before + time.perf_counter() - self.began,
            "tasks": [attrs.asdict(task) for task in sim.tasks.values()], "kills": sim.kills, "candidates": sim.candidates, "cuts": self.cuts, "files": sim._files,
            "open": {name: file.index for name, file in tasks.files.items()}, "nr_failed": tasks.nr_failed, "dead": sorted(tasks.dead),
            "rows": sampler.rows, "period": sampler.period, "next_ns": sampler.next_ns, "score": self.scorer.saved() if self.scorer else None,
        }  # fmt: skip
        checkpoint.save(self.state, checkpoint.arrays_of(sim), rest)

    def _resume(self, state: Path) -> None:
        rest = checkpoint.load(state, checkpoint.arrays_of(self.sim))
        if rest is None:
            return
        sim, tasks, sampler = self.sim, self.tasks, self.sampler
        self.cuts = rest["cuts"]
        for done, dead in self.cuts:
            self._cut(done, dead)
        self.done, self.nr_signals, self.seconds_before = rest["done"], rest["nr_signals"], rest["seconds"]
        sim.tasks = {task["name"]: Task(**task) for task in rest["tasks"]}
        sim.kills, sim.candidates, sim._files = rest["kills"], rest["candidates"], rest["files"]
        sim._file_names = {inode: name for name, inode in sim._files.items()}
        tasks.files = {name: File(name, index) for name, index in rest["open"].items()}
        tasks.nr_failed, tasks.dead = rest["nr_failed"], set(rest["dead"])
        sampler.rows, sampler.period, sampler.next_ns = rest["rows"], rest["period"], rest["next_ns"]
        if self.scorer is not None:
            self.scorer.resume(rest["score"])


def _refused(op: Operation) -> str:
    """The map that all of a task's accesses go to cannot be had, so the run would show nothing."""
    return (
        f"{op.task}: its map of {op.args['size'] / 2**20:,.1f} MiB was refused (ENOMEM), as Linux refuses one map that is larger than memory and swap "
        'together: give the machine more of them, or set [sysctl] "vm.overcommit_memory" = 1'
    )
