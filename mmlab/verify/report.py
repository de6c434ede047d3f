"""The fidelity report: a line per case and a table per area on the terminal, the JSON file, and the README's Markdown table."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mmlab.errors import InputError
from mmlab.verify.compare import FAILED, HELD, INPUT, STATUSES, UNSUPPORTED
from mmlab.verify.outcome import CaseResult, Report, total

_STYLE = {HELD: "green", FAILED: "red", UNSUPPORTED: "yellow", INPUT: "dim"}
_COLUMNS = ("figures", *STATUSES, "cases", "whole")
_SHOWN_WIDTH = 60
_MARKDOWN_NOTE = ("Before the slash: all figures; behind it: those whose expected value isn't 0 or empty. "
                  "*input*: a figure that only gives back what the simulation was started from; it isn't counted as held.")


def print_case(console: Console, case: CaseResult, verbose: bool = False) -> None:
    """A case's line; with ``verbose`` every figure with expected, got, tolerance and status below it."""
    counts = case.counts()
    parts = [f"[{_STYLE[status]}]{counts[status]} {status}[/]" for status in STATUSES if counts[status]]
    mark = "[green]whole[/]" if case.whole() else "     "
    error = f"  [dim]{escape(case.error)}[/]" if case.error else ""
    console.print(f"{mark} {case.area}/{case.name}: {', '.join(parts)} of {len(case.figures)}{error}", soft_wrap=True)
    if verbose:
        console.print(_figure_table(case))


def _figure_table(case: CaseResult) -> Table:
    table = Table("figure", "expected", "got", "tolerance", "status", box=None, pad_edge=False)
    for f in case.figures:
        allowed = f"{f.tolerance:g}" + (f", abs {f.abs:g}" if f.abs else "")
        reason = f" ({escape(f.reason)})" if f.reason and f.reason != case.error else ""
        table.add_row(escape(f.id), escape(_short(f.expected)), escape(_short(f.got)), allowed, f"[{_STYLE[f.status]}]{f.status}[/]{reason}")
    return table


def _short(value: Any) -> str:
    text = "-" if value is None else str(value)
    return text if len(text) <= _SHOWN_WIDTH else text[:_SHOWN_WIDTH - 3] + "..."


def print_summary(console: Console, report: Report) -> None:
    """A table per area, over all figures and over those whose expected value isn't 0 or empty."""
    for area, cases in report.areas().items():
        console.print(_counts_table(area, cases))
    if len(report.areas()) > 1:
        console.print(_counts_table("all areas", report.cases))


def _counts_table(title: str, cases) -> Table:
    table = Table("", *_COLUMNS, title=title, title_justify="left")
    for column in table.columns[1:]:
        column.justify = "right"
    table.add_row("all figures", *map(str, _row(cases, informative=False)))
    table.add_row("expected not 0 or empty", *map(str, _row(cases, informative=True)))
    return table


def _row(cases, informative: bool) -> list[int]:
    """The columns of _COLUMNS over these cases."""
    counts = total(cases, informative)
    nr_cases = sum(1 for case in cases if case.counts(informative))
    return [sum(counts.values()), *(counts[status] for status in STATUSES), nr_cases, sum(case.whole(informative) for case in cases)]


def markdown(report: Report) -> str:
    """A row per area and one over all, for README: figures held of those that aren't inputs, and cases held whole.

    Both over all figures and, behind the slash, over those whose expected value isn't 0 or empty.
    """
    lines = ["| area | figures | held | failed | not supported yet | input | cases | held whole |", "| --- | --: | --: | --: | --: | --: | --: | --: |"]
    areas = dict(report.areas())
    if len(areas) > 1:
        areas["all"] = list(report.cases)
    for area, cases in areas.items():
        pairs = zip(_row(cases, False), _row(cases, True))
        lines.append(f"| {area} | " + " | ".join(f"{every} / {informative}" for every, informative in pairs) + " |")
    lines += ["", _MARKDOWN_NOTE]
    return "\n".join(lines) + "\n"


def write_json(report: Report, file: Path) -> None:
    """Writes ``report.to_json()``, whole or not at all; raises :class:`InputError` if the place isn't writable."""
    part = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        part.write_text(json.dumps(report.to_json(), indent=1) + "\n")
        os.replace(part, file)
    except OSError as e:
        part.unlink(missing_ok=True)
        raise InputError(f"{file}: must be writable ({e.strerror})") from None
