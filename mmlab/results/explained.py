"""Why pages left memory or stayed: the table `explained` of a run with `[run] explain`, for the command line and the report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mmlab.errors import InputError
from mmlab.results.cell_files import FinishedCell

#: columns that every reclaimer has; what follows in a row is the reclaimer's own
COMMON = ("decision", "fate", "time_ns", "kind", "owner", "page", "pfn", "accessed", "flags")
#: of the page that a decision is about
FATES = ("evicted", "kept", "activated", "accessed")
MEANINGS = {
    "fate": "evicted; kept or activated: reclaim took it up, but it is being written, or cannot go; accessed: reclaim found it in use; stays: another page, drawn at random",
    "page": "a task's virtual page, a page of a file, a slot of swap (read ahead, not asked for yet), or an object of a request stream",
    "accessed": "page-table entries whose accessed bit is set",
}


def chosen_decisions(cell: FinishedCell, fate: str = "", page: int | None = None, most: int = 10) -> list[dict[str, Any]]:
    """Rows of up to `most` decisions, spread over the run, whose own page has the fate (all where "") and the number.

    Raises InputError for a run that explains nothing.
    """
    rows = cell.result.tables.get("explained")
    if rows is None:
        raise InputError(f"cell {cell.key[:12]}: was run without explanations: mmlab run FILE --set run.explain=100")
    firsts = {row["decision"]: row for row in reversed(rows)}
    wanted = [number for number, row in sorted(firsts.items()) if fate in ("", row["fate"]) and page in (None, row["page"])]
    if len(wanted) > most:
        wanted = [wanted[int(i)] for i in np.linspace(0, len(wanted) - 1, most).round()]
    return [row for row in rows if row["decision"] in wanted]


def explained_table(cell: FinishedCell, rows: Sequence[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Titles and lines of some of the cell's rows; columns that are empty in all of them are left out."""
    told = [name for name, _ in cell.result.meta.get("explains", ())]
    titles = [name for name in (*COMMON[3:], *told) if any(row[name] not in ("", None) for row in rows)]
    body, last = [], None
    for row in rows:
        first = row["decision"] != last
        last = row["decision"]
        when = f"{row['time_ns'] / 1e6:,.3f} ms" if first else ""
        body.append([when, row["fate"], *(f"{row[name]:,}" if isinstance(row[name], int) and name in told else str(row[name]) for name in titles)])
    return ["at", "fate", *titles], body


def meanings(cell: FinishedCell) -> list[tuple[str, str]]:
    """(column, what it says) of a cell's table."""
    return [*MEANINGS.items(), *(tuple(pair) for pair in cell.result.meta.get("explains", ()))]
