"""Runs cells: on all cores or in this process, each finished cell written at once and whole, finished ones skipped.

A cell is run into `cells/.KEY.partial` and renamed to `cells/KEY` when it is complete, so whatever has a plain name is whole.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import multiprocessing
import os
import shutil
import signal
import sys
import threading
import traceback
import types
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, Protocol

from attrs import field, frozen

from mmlab.errors import InputError, MmlabError, PluginError
from mmlab.experiment.cells import Cell
from mmlab.results.cell_files import write_cell
from mmlab.results.cell_result import CellResult

Progress = Callable[[int, int, str], None]
RunCell = Callable[[Cell, Progress, Path], CellResult]


class Listener(Protocol):
    """Who wants to know how it goes; `mmlab.experiment.progress` has the one for terminals."""

    def progress(self, cell: Cell, done: int, total: int, phase: str) -> None: ...

    def finished(self, cell: Cell, error: str | None) -> None: ...


@frozen
class Outcome:
    """done: cells finished now. skipped: finished before. failed: cell, error message and exit code of each that failed."""

    done: int = 0
    skipped: int = 0
    failed: list[tuple[Cell, str, int]] = field(factory=list)


class Interrupted(KeyboardInterrupt):
    """Ctrl-C; `remaining` cells are still to be run."""

    def __init__(self, remaining: int):
        self.remaining = remaining
        super().__init__(f"{remaining} cells remain")


def execute(cells: tuple[Cell, ...], folder: Path, run_cell: RunCell, jobs: int, listener: Listener) -> Outcome:
    """Run every cell that `folder` (results/EXPERIMENT) has not got yet.

    jobs: cells at once; 0 as many as there are cores; 1 runs them in this process. run_cell: a function of a module, since worker
    processes import it. Raises InputError before anything runs when the folder cannot be written, Interrupted after Ctrl-C.
    """
    done = folder / "cells"
    with _writable(folder):
        _remove_partials(done)
        todo = [cell for cell in cells if not (done / cell.key).is_dir()]
        jobs = min(jobs or os.cpu_count() or 1, len(todo))
        failed: list[tuple[Cell, str, int]] = []
        counted = 0
        runner = _run_here(todo, done, run_cell, listener) if jobs <= 1 else _run_in_processes(todo, done, run_cell, jobs, listener)
        try:
            for cell, error, exit_code in runner:
                counted += 1
                if error is not None:
                    failed.append((cell, error, exit_code))
                listener.finished(cell, error)
        except KeyboardInterrupt:
            raise Interrupted(sum(not (done / cell.key).is_dir() for cell in todo)) from None
        finally:
            _remove_partials(done)
    return Outcome(counted - len(failed), len(cells) - len(todo), failed)


def _remove_partials(done: Path) -> None:
    """What processes that were killed left."""
    for partial in done.glob(".*.partial"):
        shutil.rmtree(partial, ignore_errors=True)


def run_one(cell: Cell, done: Path, run_cell: RunCell, progress: Progress) -> tuple[str | None, int]:
    """Run one cell and leave its folder; an error comes back as text and exit code, so that the other cells go on."""
    partial, whole = done / f".{cell.key}.partial", done / cell.key
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        write_cell(partial, cell, run_cell(cell, progress, partial))
        os.replace(partial, whole)
        shutil.rmtree(partial.with_suffix(".state"), ignore_errors=True)  # where an interrupted run of it had got to
    except Exception as error:
        return _say(error), error.exit_code if isinstance(error, MmlabError) else 1
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return None, 0


def _say(error: Exception) -> str:
    if isinstance(error, MmlabError) and not os.environ.get("MMLAB_DEBUG"):
        return str(error)
    if os.environ.get("MMLAB_DEBUG"):
        return traceback.format_exc()
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} (in {Path(last.filename).name}:{last.lineno}; MMLAB_DEBUG=1 shows where from)"


def _run_here(todo: list[Cell], done: Path, run_cell: RunCell, listener: Listener) -> Iterator[tuple[Cell, str | None, int]]:
    with _stop_on_ctrl_c() as stopped:
        for cell in todo:

            def progress(count: int, total: int, phase: str, cell: Cell = cell) -> None:
                listener.progress(cell, count, total, phase)
                if stopped():
                    raise KeyboardInterrupt

            yield cell, *run_one(cell, done, run_cell, progress)
            if stopped():
                raise KeyboardInterrupt


def _run_in_processes(
    todo: list[Cell], done: Path, run_cell: RunCell, jobs: int, listener: Listener
) -> Iterator[tuple[Cell, str | None, int]]:
    context = multiprocessing.get_context("spawn")
    messages, stop = context.SimpleQueue(), context.Event()
    by_key = {cell.key: cell for cell in todo}
    lost: list[Cell] = []
    others = set(multiprocessing.active_children())
    with _stop_on_ctrl_c(stop.set) as stopped, ProcessPoolExecutor(jobs, context, _start_worker, (messages, stop)) as pool:
        with _apart():
            futures = {pool.submit(_work, cell, done, run_cell): cell for cell in todo}
        workers = set(multiprocessing.active_children()) - others
        waiting = set(futures)
        try:
            while waiting:
                ended, waiting = wait(waiting, timeout=0.1, return_when=FIRST_COMPLETED)
                while not messages.empty():
                    key, *rest = messages.get()
                    listener.progress(by_key[key], *rest)
                for future in sorted(ended, key=lambda f: todo.index(futures[f])):
                    try:
                        error, exit_code = future.result()
                    except BrokenProcessPool:
                        lost.append(futures[future])
                        continue
                    if error != _STOPPED:
                        yield futures[future], error, exit_code
            if stopped():
                raise KeyboardInterrupt
        except KeyboardInterrupt:
            if waiting:
                for process in workers:
                    process.terminate()
            raise
    # A process that dies takes the whole pool with it; run what was lost one by one to find the cell that did it.
    for cell in lost:
        if todo == [cell] and PluginError.exit_code in {process.exitcode for process in workers}:
            yield cell, "a plugin ended its process, as was said above", PluginError.exit_code
        elif todo == [cell]:
            yield cell, "its process was killed (out of memory?); a smaller --jobs leaves more memory to each", 1
        else:
            yield from _run_in_processes([cell], done, run_cell, 1, listener)


_STOPPED = "stopped"
INTERRUPTED = 130  # exit code after Ctrl-C
_worker: dict[str, Any] = {}


def _start_worker(messages: Any, stop: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides, and tells by `stop`
    _worker.update(messages=messages, stop=stop)


def _work(cell: Cell, done: Path, run_cell: RunCell) -> tuple[str | None, int]:
    def progress(count: int, total: int, phase: str) -> None:
        if _worker["stop"].is_set():
            raise KeyboardInterrupt
        _worker["messages"].put((cell.key, count, total, phase))

    if _worker["stop"].is_set():
        return _STOPPED, 1
    try:
        return run_one(cell, done, run_cell, progress)
    except KeyboardInterrupt:
        return _STOPPED, 1


@contextlib.contextmanager
def _stop_on_ctrl_c(tell: Callable[[], Any] = lambda: None) -> Iterator[Callable[[], bool]]:
    """The first Ctrl-C asks to stop at the next chunk, the second stops at once; yields whether it was asked."""
    asked: list[int] = []

    def on_sigint(signum: int, frame: Any) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(signum)
        print("\nstopping after the events under way; Ctrl-C again stops at once", file=sys.stderr)
        tell()

    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    before = signal.signal(signal.SIGINT, on_sigint)
    with _end_at_second_ctrl_c():
        try:
            yield lambda: bool(asked)
        finally:
            signal.signal(signal.SIGINT, before)


#: seconds that Python has to end by itself after a second Ctrl-C
GRACE_S = 2.0


@contextlib.contextmanager
def _end_at_second_ctrl_c() -> Iterator[None]:
    """Python's handlers wait for compiled code, which may be a policy's endless loop: a thread sees signals all the same, and ends the process."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    over = threading.Event()

    def watch() -> None:
        signals = b""
        while signals.count(signal.SIGINT) < 2:
            got = os.read(reader, 16)
            if not got:
                return
            signals += got
        if not over.wait(GRACE_S):
            print("stopped in the middle of compiled code (an endless loop in a policy?); finished cells are kept", file=sys.stderr, flush=True)
            os._exit(INTERRUPTED)

    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        signal.set_wakeup_fd(before)
        os.close(writer)
        thread.join()
        os.close(reader)


@contextlib.contextmanager
def _apart() -> Iterator[None]:
    """Processes started in here do not run the user's script again (which may have no `__main__` guard) and ignore Ctrl-C from birth."""
    main, sigint = sys.modules["__main__"], None
    sys.modules["__main__"] = types.ModuleType("__main__")
    if threading.current_thread() is threading.main_thread():
        sigint = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        sys.modules["__main__"] = main
        if sigint is not None:
            signal.signal(signal.SIGINT, sigint)


@contextlib.contextmanager
def _writable(folder: Path) -> Iterator[None]:
    """Hold the experiment's folder for this process; InputError if it cannot be written or another run holds it."""
    try:
        (folder / "cells").mkdir(parents=True, exist_ok=True)
        for path in (folder, folder / "cells"):
            if not os.access(path, os.W_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        lock = (folder / ".lock").open("w")
    except OSError as error:
        raise InputError(f"{folder}: the results folder cannot be written: {error.strerror} (choose another with --results DIR)") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise InputError(
                f"{folder}: another mmlab run is writing here; wait for it or choose another folder with --results DIR"
            ) from None
        yield
