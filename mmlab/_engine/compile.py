"""Compiling on every core. numba compiles one function at a time in a process, so a process that finds kernels missing from the cache starts
helpers, one for every idle core. All walk the same list of units from different places; a lock on each unit's file makes sure that nothing
is compiled twice, and what another process compiled is loaded."""

from __future__ import annotations

import bisect
import contextlib
import fcntl
import importlib
import inspect
import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs
from numba import types

from mmlab._engine.link import Unit, cache_folder
from mmlab.policies import python_function

Progress = Callable[[str, float], None]
#: a message is worth showing when compiling took longer than this
SHOW_SECONDS = 0.25


@attrs.frozen
class Entry:
    """A core kernel that Python runs by itself. arrays: how many int64 arrays it takes, before its integers."""

    function: Callable
    arrays: int = 0

    @property
    def arguments(self) -> tuple:
        """numba's types of its arguments after the machine."""
        count = len(inspect.signature(python_function(self.function)).parameters) - 1 - self.arrays
        return (types.int64[::1],) * self.arrays + (types.int64,) * count


@attrs.frozen
class Request:
    """A machine to be compiled for. sizes: fields of Sizes; policies: names by slot; entries: "module:function" and number of arrays."""

    sizes: dict[str, Any]
    policies: dict[str, str]
    entries: list[tuple[str, int]]


def compile_units(units: Sequence[Unit], request: Request | None, progress: Progress | None = None) -> None:
    """Have every unit compiled and loaded; progress: told of each one that this process compiled. Raises PluginError."""

    def work(unit: Unit, wait: bool) -> bool:
        if not unit.is_kept():
            cores.share(progress)
        begin = time.perf_counter()
        with _lock(unit.path.with_suffix(".lock"), wait) as mine:
            missed = mine and unit.compile()
        took = time.perf_counter() - begin
        if missed and progress is not None and took > SHOW_SECONDS:
            progress(f"compiling {unit.label}", took)
        return mine

    with _Cores(request) as cores:
        first = _first(units, cores.place)
        elsewhere = [unit for unit in [*units[first:], *units[:first]] if not work(unit, wait=False)]
        for unit in elsewhere:
            work(unit, wait=True)


def _first(units: Sequence[Unit], place: float) -> int:
    """Where in the list this part of the work lies behind; a core kernel takes about three times as long as a policy's op."""
    work = list(itertools.accumulate(1 if unit.blame else 3 for unit in units))
    return bisect.bisect_right(work, place * work[-1])


@contextlib.contextmanager
def _lock(path: Path, wait: bool) -> Iterator[bool]:
    """Hold a file's lock; yields whether it is held."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        yield True


class _Cores:
    """The computer's cores as lock files in the cache folder: who compiles holds one, and starts helpers on those nobody holds."""

    def __init__(self, request: Request | None):
        self.request = request
        self.held = contextlib.ExitStack()
        self.helpers: list[subprocess.Popen] = []
        self.place = float(os.environ.get(_PLACE, "0"))  # set in helpers only: their part of the list to begin with
        self.shared = _PLACE in os.environ

    def __enter__(self) -> _Cores:
        return self

    def share(self, progress: Progress | None) -> None:
        """Something is to be compiled. The first time: wait for a core, and start helpers on the other idle ones."""
        if self.shared:
            return
        self.shared = True
        begin = time.perf_counter()
        while not (free := self._idle()):
            if progress is not None:
                progress("waiting for another process that compiles", time.perf_counter() - begin)
            time.sleep(0.1)
        if self.request is None:
            return
        for n in range(1, len(free)):
            environment = {**os.environ, _PLACE: str(n / len(free))}
            command = [sys.executable, "-m", "mmlab._engine.compile", json.dumps(attrs.asdict(self.request))]
            null = subprocess.DEVNULL
            self.helpers.append(subprocess.Popen(command, env=environment, stdin=null, stdout=null, stderr=null))

    def _idle(self) -> list[int]:
        cores = range(len(os.sched_getaffinity(0)))
        return [n for n in cores if self.held.enter_context(_lock(cache_folder() / f"core{n}.lock", wait=False))]

    def __exit__(self, *_: object) -> None:
        for helper in self.helpers:
            helper.terminate()
            helper.wait()
        self.held.close()


_PLACE = "MMLAB_COMPILE_FROM"


def bind_request(text: str) -> Any:
    """A helper's work: a machine as the request (JSON) says, bound. Its place in the list of units is in the environment."""
    from mmlab._engine.core import SERVICES
    from mmlab._engine.explained import EXPLAINED
    from mmlab._engine.machine import Chosen, Machine
    from mmlab.model.layout import Sizes
    from mmlab.pluginmanager import load_plugins

    request, registry = Request(**json.loads(text)), load_plugins()
    chosen = {slot: Chosen(registry.get(slot, name).policy) for slot, name in request.policies.items()}
    entries = []
    for name, arrays in request.entries:
        module, function = name.split(":")
        entries.append(Entry(getattr(importlib.import_module(module), function), arrays))
    sizes = Sizes(**request.sizes)
    machine = Machine(sizes, chosen, services=EXPLAINED if sizes.explain else SERVICES)
    machine.bind(entries)
    return machine


if __name__ == "__main__":
    bind_request(sys.argv[1])
