"""What verifying gave: a status per figure, per case, and the counts over them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import attrs

from mmlab.verify.compare import FAILED, HELD, STATUSES, UNSUPPORTED


@attrs.frozen
class FigureResult:
    """``got`` is None where there is no value; ``reason`` says why."""

    id: str
    expected: Any
    got: Any
    tolerance: float
    status: str
    abs: float = 0.0
    reason: str = ""

    @property
    def informative(self) -> bool:
        """Whether the expected value isn't 0 or empty: a simulator that does nothing gets those right."""
        return not _is_nothing(self.expected)


def _is_nothing(value: Any) -> bool:
    if isinstance(value, bool):
        return False
    if isinstance(value, list):
        return all(map(_is_nothing, value))
    return not value


@attrs.frozen
class CaseResult:
    """``error``: why the simulation ended early, empty if it did not."""

    area: str
    name: str
    figures: tuple[FigureResult, ...]
    error: str = ""

    def counts(self, informative: bool = False) -> Counter[str]:
        """Figures by status, all or only the informative ones."""
        return Counter(f.status for f in self.figures if f.informative or not informative)

    def whole(self, informative: bool = False) -> bool:
        """Whether at least one of these figures holds, and none failed or is unsupported."""
        counts = self.counts(informative)
        return counts[HELD] > 0 and counts[FAILED] == counts[UNSUPPORTED] == 0


@attrs.frozen
class Report:
    """The cases in the order of area and name."""

    cases: tuple[CaseResult, ...]

    def areas(self) -> dict[str, list[CaseResult]]:
        """The cases of each area."""
        areas: dict[str, list[CaseResult]] = {}
        for case in self.cases:
            areas.setdefault(case.area, []).append(case)
        return areas

    def to_json(self) -> dict[str, Any]:
        """The report as ``mmlab verify --json`` writes it."""
        counts = total(self.cases)
        return {
            "cases": [{"area": case.area, "case": case.name,
                       "figures": [{"id": f.id, "expected": f.expected, "got": f.got, "tolerance": f.tolerance, "status": f.status}
                                   for f in case.figures]} for case in self.cases],
            "summary": {"cases": len(self.cases), "figures": sum(counts.values()), **{status: counts[status] for status in STATUSES}},
        }


def total(cases: Iterable[CaseResult], informative: bool = False) -> Counter[str]:
    """Figures by status over several cases."""
    counts: Counter[str] = Counter()
    for case in cases:
        counts.update(case.counts(informative))
    return counts
