"""The list of recorded cases that must hold whole, ``held.txt``: one AREA/CASE a line, ``#`` starts a comment. It only grows."""

from __future__ import annotations

from pathlib import Path

from mmlab.verify.compare import HELD, INPUT
from mmlab.verify.outcome import CaseResult, Report

HELD_FILE = Path(__file__).with_name("held.txt")


def must_hold(file: Path = HELD_FILE) -> list[str]:
    """The listed cases as AREA/CASE, in the file's order."""
    lines = (line.partition("#")[0].strip() for line in file.read_text().splitlines())
    return [line for line in lines if line]


def broken(report: Report, file: Path = HELD_FILE) -> list[str]:
    """A message for each listed case that the report lacks or that doesn't hold whole."""
    cases = {f"{case.area}/{case.name}": case for case in report.cases}
    return [f"{name}: {_why(cases.get(name))}" for name in must_hold(file) if name not in cases or not cases[name].whole()]


def _why(case: CaseResult | None) -> str:
    if case is None:
        return "was not run"
    if case.error:
        return case.error
    bad = [f for f in case.figures if f.status not in (HELD, INPUT)]
    shown = ", ".join(f"{f.id} expected {f.expected} got {f.got} ({f.status})" for f in bad[:3])
    return f"{len(bad)} of {len(case.figures)} figures do not hold: {shown}"


def extend(report: Report, file: Path = HELD_FILE) -> list[str]:
    """Appends the cases that hold whole and aren't listed yet; lines that are there stay. Returns the cases added."""
    listed = set(must_hold(file))
    new = [name for case in report.cases if case.whole() and (name := f"{case.area}/{case.name}") not in listed]
    if new:
        file.write_text(file.read_text() + "".join(f"{name}\n" for name in new))
    return new
