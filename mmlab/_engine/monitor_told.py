"""What a monitor says in Python, checked before it is used: a plugin's fault becomes an error that names it.

`sim` is a Simulation; each function raises PluginError for an answer that is not what the record's field promises (`mmlab hooks monitor`).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mmlab.errors import InputError, PluginError
from mmlab.model import rows as r
from mmlab.procfs.resident import ResidentPages
from mmlab.workload.damo_record import snapshots_of


def estimate(sim: Any, pages: ResidentPages) -> tuple[np.ndarray, np.ndarray | None]:
    """(heat float64[n], age in ns int64[n] or None) of the pages."""
    answer = _monitor(sim).estimate(sim.machine, sim.machine.states["monitor"], pages)
    if not isinstance(answer, tuple) or len(answer) != 2:
        raise _fault(sim, f"estimate() must return a pair (heat, age_ns), got {_what(answer)}")
    heat = _column(sim, "heat", answer[0], len(pages))
    return heat, None if answer[1] is None else _column(sim, "age_ns", answer[1], len(pages)).astype(np.int64)


def _column(sim: Any, name: str, values: Any, length: int) -> np.ndarray:
    try:
        column = np.asarray(values, np.float64)
    except (TypeError, ValueError):
        column = np.zeros(())
    if column.shape != (length,):
        raise _fault(sim, f"estimate() must return {name} as an array of a number for each of the {length} pages, got {_what(values)}")
    bad = np.flatnonzero(~(column >= 0) | np.isinf(column))
    if len(bad):
        raise _fault(sim, f"estimate() must return numbers of at least 0 as {name}, got {column[bad[0]]:g} for page {bad[0]} of {length}")
    return column


def report(sim: Any) -> list[dict[str, Any]]:
    """The monitor's rows for the results, of plain values; none where it reports nothing."""
    if _monitor(sim).report is None:
        return []
    rows = _list(sim, "report", "of rows")
    for number, row in enumerate(rows):
        if not isinstance(row, dict) or row.keys() != rows[0].keys():
            raise _fault(sim, f"report() must return dicts that all have the same keys, got row {number}: {row!r:.200}")
        for key, value in row.items():
            if isinstance(value, np.generic):
                value = row[key] = value.item()
            if not isinstance(value, int | float | str | None):
                raise _fault(sim, f"report() must return plain numbers and texts, got row {number}, {key!r}: {_what(value)}")
    return rows


def trace_lines(sim: Any) -> list[str]:
    """The lines of its tracepoints."""
    if _monitor(sim).trace is None:
        return []
    lines = _list(sim, "trace", "of lines")
    for number, line in enumerate(lines):
        if not isinstance(line, str):
            raise _fault(sim, f"trace() must return lines of text, got line {number}: {_what(line)}")
    return lines


def records(sim: Any) -> list[dict[str, Any]]:
    """The same as records of damo."""
    if _monitor(sim).records is None:
        return []
    found = _list(sim, "records", "of records of damo")
    try:
        snapshots_of(found, "records()")
    except InputError as error:
        raise _fault(sim, "; ".join(error.messages)) from None
    return found


def cost_fault(sim: Any) -> PluginError | None:
    """The error for a monitor that took checks or time back which it had counted."""
    sc = sim.machine.sc
    if sc[r.SC_MONITOR_CHECKS] >= 0 and sc[r.SC_MONITOR_NS] >= 0:
        return None
    return _fault(sim, f"its cost must not be negative, got {sc[r.SC_MONITOR_CHECKS]} checks (SC_MONITOR_CHECKS) and {sc[r.SC_MONITOR_NS]} ns (SC_MONITOR_NS)")


def _list(sim: Any, name: str, what: str) -> list[Any]:
    answer = getattr(_monitor(sim), name)(sim.machine, sim.machine.states["monitor"])
    if isinstance(answer, str | bytes | dict) or not hasattr(answer, "__iter__"):
        raise _fault(sim, f"{name}() must return a list {what}, got {_what(answer)}")
    return list(answer)


def _monitor(sim: Any) -> Any:
    return sim.policies["monitor"].policy


def _fault(sim: Any, why: str) -> PluginError:
    return PluginError(f"{sim.policies['monitor'].blame}: {why}")


def _what(value: Any) -> str:
    """`an array of shape (3,) and float64`, or `None`, or `int 5`."""
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape} and {value.dtype}"
    return "None" if value is None else f"{type(value).__name__} {value!r:.80}"
