"""The progress of a run on a terminal: one bar over all cells, events per second, and a line for what takes time besides."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from mmlab.experiment.cells import Cell


class TerminalListener:
    """Prints compile messages and errors as lines and keeps the bar; made by `watching`."""

    def __init__(self, bar: Progress, task: TaskID):
        self._bar, self._task = bar, task
        self._share: dict[str, float] = {}
        self._events: dict[str, int] = {}
        self._ended = 0
        self._printed: set[str] = set()
        self._since: float | None = None

    def progress(self, cell: Cell, done: int, total: int, phase: str) -> None:
        """done, total: events of the cell; phase: what it is doing. What is compiled is printed as a line, once."""
        if phase.startswith("compil") and phase not in self._printed:
            self._printed.add(phase)
            self._bar.console.print(f"[dim]{phase}[/dim]", highlight=False)
        if done and self._since is None:
            self._since = time.monotonic()
        self._events[cell.key] = done
        self._share[cell.key] = min(done / total, 1.0) if total else 0.0
        self._show(f"{cell.label}: {phase}" if phase else cell.label)

    def finished(self, cell: Cell, error: str | None) -> None:
        """Called once per cell; error: None, or why it failed (said in full when everything has run)."""
        self._ended += 1
        self._share.pop(cell.key, None)
        if error is not None:
            self._bar.console.print(f"[red]failed[/red] {cell.label}")
        self._show(cell.label)

    def _show(self, text: str) -> None:
        seconds = time.monotonic() - self._since if self._since else 0.0
        speed = f"{sum(self._events.values()) / seconds:,.0f} events/s" if seconds > 0.2 else ""
        self._bar.update(self._task, completed=self._ended + sum(self._share.values()), speed=speed, doing=text)


@contextmanager
def watching(cells: int, console: Console) -> Iterator[TerminalListener]:
    """A listener with its bar on `console`; the bar is left out where the output is no terminal."""
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("cells"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[speed]}"),
        TextColumn("[dim]{task.fields[doing]}"),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        yield TerminalListener(bar, bar.add_task("", total=cells, speed="", doing="starting"))
