"""A run through an event stream: chunks of the jitted loop, and what Python does between them. It can be left between two chunks and resumed."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import attrs
import numpy as np

from mmlab._engine import checkpoint, loop
from mmlab._engine.sampler import Sampler
from mmlab._engine.score import Scorer
from mmlab._engine.stream_ops import StreamTasks
from mmlab.errors import MmlabError
from mmlab.model import rows as r
from mmlab.simulation import File, Simulation, Task
from mmlab.workload.stream import EventStream

Progress = Callable[[int, int, str], None]
CHUNK = 1 << 19


class StreamRun:
    """A stream on a simulation. check_every: events between two checks of every invariant, 0 for none. state: the checkpoint's folder, used
    when progress raises KeyboardInterrupt, and looked for at the start. scorer: compares the monitor with the stream. seconds_before: what
    earlier parts of the run took."""

    def __init__(
        self, sim: Simulation, stream: EventStream, sampler: Sampler, check_every: int = 0, state: Path | None = None, scorer: Scorer | None = None,
    ):  # fmt: skip
        self.sim, self.stream, self.sampler, self.check_every, self.state, self.scorer = sim, stream, sampler, check_every, state, scorer
        self.tasks = StreamTasks(sim, stream.tasks)
        self.done = self.nr_signals = 0
        self.seconds_before, self.began = 0.0, time.perf_counter()
        if state is not None and state.is_dir():
            self._resume(state)

    def run(self, progress: Progress) -> dict[str, int]:
        """Run all events that are left; what happened on the way. Between chunks progress is called, and may raise KeyboardInterrupt to stop:
        the run is saved then."""
        sc, total, reported = self.sim.machine.sc, len(self.stream.words), self.done
        self.began = time.perf_counter()
        self._next_sample()
        if self.done:
            progress(self.done, total, "")
        future = self.stream.next_use() if sc[r.SC_NEEDS_FUTURE] else self.stream.words
        while self.done < total:
            self._chunk(future)
            if self.done - reported >= CHUNK or self.done == total:
                reported = self.done
                try:
                    progress(self.done, total, "")
                except KeyboardInterrupt:
                    self._save()
                    raise
        return {"events": total, "signals": self.nr_signals, "failed_operations": self.tasks.nr_failed}

    def _chunk(self, future: np.ndarray) -> None:
        """Run up to the next thing that Python has to do, and do it."""
        machine, sc, words, start = self.sim.machine, self.sim.machine.sc, self.stream.words, self.done
        stop = min(len(words), start + CHUNK)
        if self.check_every:
            stop = min(stop, (start // self.check_every + 1) * self.check_every)
        if sc[r.SC_WANTS_ACCESS] or sc[r.SC_NEEDS_FUTURE]:
            self.done = machine.run(loop.run_stream_watched, words, future, start, stop)
        else:
            self.done = machine.run(loop.run_stream, words, start, stop)
        why = int(sc[r.SC_EVENT])
        if why == loop.STOP_OPERATION:
            self.tasks.run(self.stream.ops[int(words[self.done]) >> 16])
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

    def _next_sample(self) -> None:
        """Let the loop stop when the next of both is due."""
        sc = self.sim.machine.sc
        sc[r.SC_NEXT_SAMPLE_NS] = min(self.sampler.next_ns, self.scorer.next_ns) if self.scorer is not None else self.sampler.next_ns
        sc[r.SC_NEXT_EVENT_NS] = min(int(sc[r.SC_NEXT_EVENT_NS]), int(sc[r.SC_NEXT_SAMPLE_NS]))

    def _after_kill(self) -> None:
        """The OOM killer struck: dead tasks' events no longer count; a machine without anybody left to kill panics."""
        sim, tasks = self.sim, self.tasks
        sim._notice_kills()
        if sim.machine.sc[r.SC_PANIC]:
            raise MmlabError("out of memory, and the OOM policy named nobody to kill: the machine panics")
        rows = sim.machine.task.reshape(-1, r.TASK_STRIDE)
        for name in self.stream.tasks:
            known = sim.tasks.get(name)
            if known is not None and name not in tasks.dead and (rows[known.index, r.T_FLAGS] & r.TF_KILLED or not rows[known.index, r.T_ALIVE]):
                sim.exit(name, 9)
                tasks.dead.add(name)
        dead = [tasks.number[name] for name in tasks.dead]
        rest = self.stream.words[self.done :]
        if np.isin((rest >> 4) & 4095, dead)[(rest & 15) < 3].any():
            raise MmlabError(f"the OOM killer ended {', '.join(sorted(tasks.dead))}, whose events go on: give the machine more memory or swap")

    # -- leaving and resuming --------------------------------------------------------------------------------------------------------------
    def _save(self) -> None:
        if self.state is None or self.done == len(self.stream.words):
            return
        sim, tasks, sampler = self.sim, self.tasks, self.sampler
        rest = {
            "done": self.done, "nr_signals": self.nr_signals, "seconds": self.seconds_before + time.perf_counter() - self.began,
            "tasks": [attrs.asdict(task) for task in sim.tasks.values()], "kills": sim.kills, "files": sim._files,
            "open": {name: file.index for name, file in tasks.files.items()}, "nr_failed": tasks.nr_failed, "dead": sorted(tasks.dead),
            "rows": sampler.rows, "period": sampler.period, "next_ns": sampler.next_ns, "score": self.scorer.saved() if self.scorer else None,
        }  # fmt: skip
        checkpoint.save(self.state, checkpoint.arrays_of(sim), rest)

    def _resume(self, state: Path) -> None:
        rest = checkpoint.load(state, checkpoint.arrays_of(self.sim))
        if rest is None:
            return
        sim, tasks, sampler = self.sim, self.tasks, self.sampler
        self.done, self.nr_signals, self.seconds_before = rest["done"], rest["nr_signals"], rest["seconds"]
        sim.tasks = {task["name"]: Task(**task) for task in rest["tasks"]}
        sim.kills, sim._files = rest["kills"], rest["files"]
        sim._file_names = {inode: name for name, inode in sim._files.items()}
        tasks.files = {name: File(name, index) for name, index in rest["open"].items()}
        tasks.nr_failed, tasks.dead = rest["nr_failed"], set(rest["dead"])
        sampler.rows, sampler.period, sampler.next_ns = rest["rows"], rest["period"], rest["next_ns"]
        if self.scorer is not None:
            self.scorer.resume(rest["score"])
