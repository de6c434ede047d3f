"""The table a researcher looks at first: a row per policy (or combination), a column per headline figure, means over seeds."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from attrs import evolve, frozen

from mmlab.results.cell_files import FinishedCell


@frozen
class Column:
    """A headline figure: the sum of these counters (those that the run has), or None when it has none of them.

    tested: policies are judged by it; the others are described. Each further test makes every test weaker. more_is_better: of most figures less is.
    """

    title: str
    counters: tuple[str, ...]
    is_time: bool = False
    tested: bool = False
    more_is_better: bool = False

    def value(self, cell: FinishedCell) -> float | None:
        present = [cell.result.counters[name] for name in self.counters if name in cell.result.counters]
        return float(sum(present)) if present else None


def _pages(prefix: str) -> tuple[str, ...]:
    return tuple(f"{prefix}_{who}" for who in ("kswapd", "direct", "khugepaged", "proactive"))


COLUMNS = (
    Column("requests", ("requests",)),
    Column("misses", ("misses",), tested=True),
    Column("faults", ("pgfault",)),
    Column("major faults", ("pgmajfault",), tested=True),
    Column("refaults", ("workingset_refault_anon", "workingset_refault_file")),
    Column("scanned", _pages("pgscan")),
    Column("stolen", _pages("pgsteal")),
    Column("swap in", ("pswpin",)),
    Column("swap out", ("pswpout",)),
    Column("simulated time", ("sim_time_ns",), is_time=True, tested=True),
    Column("slow accesses", ("accesses_slow",), tested=True),
    Column("tiering's CPU", ("tiering_ns",), is_time=True),
    Column("F1 of hot bytes", ("monitor_f1",), tested=True, more_is_better=True),
    Column("precision", ("monitor_precision",), more_is_better=True),
    Column("recall", ("monitor_recall",), more_is_better=True),
    Column("rank correlation", ("monitor_rank_correlation",), more_is_better=True),
    Column("age error (ms)", ("monitor_age_error_ms",)),
    Column("checks", ("monitor_checks",)),
    Column("monitor's CPU", ("monitor_ns",), is_time=True),
    Column("monitor's CPU %", ("monitor_cpu_percent",)),
)


#: by how many percent a policy's misses are above those of opt under the same conditions (of a request replay: a machine reads ahead, and
#: then opt is no bound)
REGRET = Column("regret %", ())


@frozen
class Row:
    """axes: what tells this row from the others; cells: its runs, one per seed; values: column title -> mean over them."""

    axes: dict[str, Any]
    cells: tuple[FinishedCell, ...]
    values: dict[str, float | None]
    events_per_s: float | None

    def label(self, keys: Sequence[str]) -> str:
        return label({key: self.axes.get(key) for key in keys})


def columns_for(cells: Sequence[FinishedCell], extra: Iterable[str]) -> tuple[Column, ...]:
    """The headline columns that a run has a figure for (a request replay has no faults, a machine no requests), and one, tested, for each
    further counter. One that describes says nothing where it is 0 everywhere, and is left out."""
    measured = [column for column in COLUMNS if any(column.value(cell) is not None if column.tested else column.value(cell) for cell in cells)]
    return (*measured, *(Column(name, (name,), tested=True) for name in extra))


def table_columns(columns: Sequence[Column], cells: Sequence[FinishedCell]) -> tuple[Column, ...]:
    """The columns and, behind the figure that it is of, the regret where the optimum is among the cells."""
    misses = next((i for i, column in enumerate(columns) if column.title == "misses"), None)
    if misses is None or not {"opt"} < {cell.axes.get("reclaimer.use") for cell in cells}:
        return tuple(columns)
    return (*columns[: misses + 1], REGRET, *columns[misses + 1 :])


def rows(cells: Sequence[FinishedCell], columns: Sequence[Column] = COLUMNS) -> list[Row]:
    """One row per different setting of the axes, in the order of the cells."""
    found = _plain_rows(cells, columns)
    if REGRET not in columns:
        return found
    best = {_conditions(row): row.values["misses"] for row in found if row.axes.get("reclaimer.use") == "opt"}
    return [evolve(row, values={**row.values, REGRET.title: _regret(row.values["misses"], best.get(_conditions(row)))}) for row in found]


def _conditions(row: Row) -> str:
    """What a policy runs under, as text."""
    return json.dumps({key: value for key, value in row.axes.items() if not key.startswith("reclaimer.")}, sort_keys=True)


def _regret(value: float | None, best: float | None) -> float | None:
    return 100 * (value - best) / best if value is not None and best else None


def _plain_rows(cells: Sequence[FinishedCell], columns: Sequence[Column]) -> list[Row]:
    groups: dict[str, list[FinishedCell]] = {}
    for cell in cells:
        groups.setdefault(json.dumps(cell.axes, sort_keys=True), []).append(cell)
    return [Row(g[0].axes, tuple(g), {c.title: _mean([c.value(x) for x in g]) for c in columns}, _speed(g)) for g in groups.values()]


def varying(cells: Sequence[FinishedCell]) -> list[str]:
    """Axes with more than one value among the cells."""
    keys = list(cells[0].axes) if cells else []
    return [key for key in keys if len({json.dumps(cell.axes[key], sort_keys=True) for cell in cells}) > 1]


def arm_axes(cells: Sequence[FinishedCell]) -> list[str]:
    """The axes whose values are compared: the policies if any varies, else everything that varies but the workload, else that."""
    keys = varying(cells)
    return [key for key in keys if key.endswith(".use")] or [key for key in keys if not key.startswith("workload.")] or keys


def axis_title(key: str) -> str:
    """`reclaimer` for reclaimer.use, `swappiness` for sysctl.vm.swappiness, `age/min` for a file deep below /sys."""
    return "/".join(key.removesuffix(".use").split(".")[-1].split("/")[-2:])


def label(values: dict[str, Any]) -> str:
    """`clock` for one policy, `clock, swappiness=60` for more; policies and workloads' sources by name alone."""
    words = [str(v) if k.endswith((".use", ".source")) else f"{axis_title(k)}={v}" for k, v in values.items() if v is not None]
    return ", ".join(words) or "all"


def text_number(value: float | None, is_time: bool = False) -> str:
    """`1,234,567`, `12.3 ms`, or `-` for what was not measured."""
    if value is None:
        return "-"
    if not is_time:
        return f"{value:,.0f}" if value == int(value) or abs(value) >= 100 else f"{value:,.2f}"
    for unit, size in (("s", 1e9), ("ms", 1e6), ("us", 1e3)):
        if abs(value) >= size:
            return f"{value / size:,.4g} {unit}"
    return f"{value:,.0f} ns"


def cost_models(cells: Sequence[FinishedCell]) -> str:
    """Names of the cost models behind the simulated times; empty where no time was simulated."""
    timed = [cell.config["policies"] for cell in cells if "sim_time_ns" in cell.result.counters]
    return ", ".join(dict.fromkeys(policies["cost_model"]["use"] for policies in timed if "cost_model" in policies))


def _mean(values: list[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return sum(known) / len(known) if known else None


def _speed(cells: Sequence[FinishedCell]) -> float | None:
    seconds = sum(cell.result.timing.get("wall_s", 0.0) for cell in cells)
    return sum(cell.result.counters.get("events", 0) for cell in cells) / seconds if seconds else None
