"""What an experiment is made of, as frozen records: the schema of experiments/*.toml and its documentation.

`linux_default.toml` shows every key with its default; a test holds the two together.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from attrs import field, frozen
from attrs.validators import ge, gt, in_, le, matches_re

from mmlab.experiment.cells import Cell

#: Sections of an experiment file that are no slots.
SECTIONS = ("name", "question", "description", "machine", "sysctl", "sysfs", "workload", "matrix", "seeds", "run", "report")


@frozen
class Head:
    """The top-level keys.

    name: of the results folder; letters, digits, `.`, `_`, `-`. question: the one question the file answers.
    """

    name: str = field(validator=matches_re(r"[A-Za-z0-9][A-Za-z0-9._-]*"))
    question: str = ""
    description: str = ""


@frozen
class Seeds:
    """`[seeds]`: `values = [1, 2, 3]`, or `count = 3` of them from `first` on. One seed, 1, when nothing is said."""

    values: tuple[int, ...] | None = None
    count: int = field(default=1, validator=[ge(1), le(10_000)])
    first: int = field(default=1, validator=ge(0))

    def __attrs_post_init__(self) -> None:
        if self.values is not None and (not self.values or min(self.values) < 0 or len(set(self.values)) < len(self.values)):
            raise ValueError(f"values must be different numbers of 0 or more, at least one, got {list(self.values)}")

    def all(self) -> tuple[int, ...]:
        return self.values if self.values is not None else tuple(range(self.first, self.first + self.count))


@frozen
class Run:
    """`[run]`: how a cell is run.

    sample_ms: simulated milliseconds between samples of the time series. check_every: check every invariant of the machine after
    that many events; 0 never. jobs: cells run at once; 0 as many as there are cores. score_ms: the monitor is compared with what was
    really accessed once in that many simulated milliseconds; 0 never. hot_share: hot are the pages, hottest first, with this share of all
    accesses. after_oom: what becomes of a stream when a task is killed whose accesses go on: "fail" ends the run, "go_on" leaves them out
    (`work_lost` counts them). explain: of so many decisions of reclaim, once to twice, spread over the run, the results say why (`mmlab explain`).
    """

    sample_ms: float = field(default=10.0, validator=[ge(0.001), le(1e9)])
    check_every: int = field(default=0, validator=ge(0))
    jobs: int = field(default=0, validator=[ge(0), le(4096)])
    score_ms: float = field(default=0.0, validator=[ge(0), le(1e9)])
    hot_share: float = field(default=0.9, validator=[gt(0), le(1)])
    after_oom: str = field(default="fail", validator=in_(("fail", "go_on")))
    explain: int = field(default=0, validator=[ge(0), le(10_000)])

    def config(self) -> dict[str, Any]:
        """The part that decides a cell's outcome."""
        scoring = {"score_ms": self.score_ms, "hot_share": self.hot_share}
        return {"check_every": self.check_every, "sample_ns": round(self.sample_ms * 1e6), "after_oom": self.after_oom, "explain": self.explain, **scoring}


@frozen
class Report:
    """`[report]`: baseline: the policy (or value of the first axis) that others are compared with; the first of the matrix when
    empty. counters: further counters to show in the table, by their /proc/vmstat names. judged: the figure that the picture of all policies is
    of, one of `counters`; misses, major faults or time when empty."""

    baseline: str = ""
    counters: tuple[str, ...] = ()
    judged: str = ""


@frozen
class Matrix:
    """`[matrix]`: dotted key -> values; every combination is run. include: combinations run besides, each a table of dotted keys.
    exclude: combinations left out, each a table; a combination is dropped when all keys of one such table match it."""

    axes: dict[str, list[Any]] = field(factory=dict)
    include: tuple[dict[str, Any], ...] = ()
    exclude: tuple[dict[str, Any], ...] = ()


@frozen
class Experiment:
    """A checked experiment. `cells` is what will be run; the rest says where that came from.

    resolved: JSON values: the whole file after defaults, as result.json keeps it. source: the file it was read from.
    policies: (slot, name) -> {"distribution", "version", "source_digest", "level", "summary"} of every policy that some cell uses.
    axes: the matrix' keys, in the file's order. jobs: cells run at once, 0 for all cores.
    """

    head: Head
    source: Path
    resolved: dict[str, Any]
    cells: tuple[Cell, ...]
    axes: tuple[str, ...]
    policies: dict[tuple[str, str], dict[str, str]]
    report: Report = field(factory=Report)
    jobs: int = 0

    @property
    def name(self) -> str:
        return self.head.name
