"""Tables and plans as the command line prints them."""

from __future__ import annotations

import inspect
import os
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table

if TYPE_CHECKING:
    from mmlab.results.result import Result

#: rows of a table that one takes in; a longer one is followed by its grid
GLANCE = 20


def print_plan(console: Console, name: str, question: str, lines: list[tuple[str, str]]) -> None:
    """What is about to be run."""
    console.print(f"[bold]{name}[/bold]  {question}")
    table = Table.grid(padding=(0, 2))
    for heading, text in lines:
        table.add_row(f"[dim]{heading}[/dim]", text)
    console.print(table)


def print_rows(console: Console, titles: list[str], body: list[list[str]], folded: int = 2) -> None:
    """A table of texts. Only the last columns (folded: how many) may be folded; where they would get too narrow for that, they stand below
    their row. A table in which nothing may be folded is as wide as it has to be."""
    whole = max(1, len(titles) - folded)
    needed = sum(3 + max(len(row[i]) for row in [titles, *body]) for i in range(whole)) + 24 * (len(titles) - whole)
    if folded == 0:
        console.width = max(console.width, needed)
    fits = needed <= console.width
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for index, title in enumerate(titles if fits else titles[:whole]):
        table.add_column(escape(title), no_wrap=index < whole, overflow="fold")
    if fits:
        for line in body:
            table.add_row(*map(escape, line))
        console.print(table)
        return
    for line in body:
        console.print("  ".join(escape(text) for text in line[:whole]), soft_wrap=True)
        for text in line[whole:]:
            console.print(Padding(escape(text), (0, 0, 0, 4)), overflow="fold")


def print_result(console: Console, result: Result) -> None:
    """The table of all figures and, where that is more than one looks at, every policy under every condition in a few lines."""
    print_figures(console, *result.summary())
    grid = result.grid() if len(result.rows()) > GLANCE else None
    if grid is None:
        return
    titles, body = grid.table()
    titles = [title.replace(", ", "\n") for title in titles]
    widths = [3 + max(len(part) for row in (titles, *body) for part in row[i].split("\n")) for i in range(len(titles))]
    console.print(f"[bold]{grid.title}[/bold]")
    first = 1
    while first < len(titles):
        last = first + 1
        while last < len(titles) and widths[0] + sum(widths[first : last + 1]) <= console.width:
            last += 1
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for i in (0, *range(first, last)):
            table.add_column(escape(titles[i]), justify="right" if i else "left", no_wrap=True)
        for line in body:
            table.add_row(*map(escape, (line[0], *line[first:last])))
        console.print(table)
        first = last


def print_figures(console: Console, titles: list[str], body: list[list[str]]) -> None:
    """A table of numbers, never folded: on its side where it would be too wide for the terminal otherwise."""
    lines = [[title.replace(" (", "\n(") for title in titles], *body]

    def width(rows: list[list[str]]) -> int:
        return sum(3 + max(len(part) for row in rows for part in row[i].split("\n")) for i in range(len(rows[0])))

    if width(lines) > console.width:
        sideways = [list(row) for row in zip(titles, *body, strict=True)]
        lines = min(lines, sideways, key=width)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for index, title in enumerate(lines[0]):
        table.add_column(escape(title), justify="right" if index else "left", no_wrap=True)
    for row in lines[1:]:
        table.add_row(*map(escape, row))
    Console(highlight=False, width=max(width(lines), console.width)).print(table)


def print_hooks(console: Console) -> None:
    """Every hook with its text, and the slots in a line each."""
    from mmlab import hookspecs
    from mmlab.abi import SLOTS

    for name, function in inspect.getmembers(hookspecs, inspect.isfunction):
        if name.startswith("mmlab_"):
            console.print(f"{name}{inspect.signature(function)}\n\n{inspect.getdoc(function)}\n")
    console.print("Slots (`mmlab hooks SLOT` prints a slot's ops):\n")
    for slot, contract in SLOTS.items():
        console.print(f"{slot:<16}{len(contract.ops):>3} ops  {contract.doc}")
    console.print(f"{'cost_model':<16}{'':>3}      How much simulated time things take.")


def short_path(path: str) -> str:
    """A path as seen from the current folder, where that is shorter."""
    try:
        return os.path.relpath(path) if not os.path.relpath(path).startswith("../..") else path
    except ValueError:
        return path
