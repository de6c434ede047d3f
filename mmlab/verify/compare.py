"""Whether a figure holds: the comparison, and which figures only give back what the simulation was started from."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from mmlab.verify.cases import Case, Expected
from mmlab.verify.ids import lookup

HELD, FAILED, UNSUPPORTED, INPUT = STATUSES = ("held", "failed", "unsupported", "input")

_KB_PER_PAGE = 4
_UNIT_KB = {"K": 1, "M": 1 << 10, "G": 1 << 20}


def holds(want: Any, got: Any, tolerance: float = 0.0, slack: float = 0.0) -> bool:
    """Whether ``got`` is the expected value: numbers within ``max(tolerance * |want|, slack)``, lists and tables element by element,
    everything else equal. A tolerance doesn't widen strings and truth values, and a number is never equal to one of those.
    """
    if _is_number(want) and _is_number(got):
        return bool(abs(got - want) <= max(tolerance * abs(want), slack))
    if isinstance(want, list) and isinstance(got, list):
        return len(want) == len(got) and all(holds(w, g, tolerance, slack) for w, g in zip(want, got))
    if isinstance(want, dict) and isinstance(got, dict):
        return want.keys() == got.keys() and all(holds(want[key], got[key], tolerance, slack) for key in want)
    return type(want) is type(got) and want == got


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def status(case: Case, figure: Expected, got: Any) -> str:
    """``held`` or ``failed``; ``input`` for a figure that holds but only echoes the start state."""
    if not holds(figure.value, got, figure.tolerance, figure.abs):
        return FAILED
    return INPUT if is_echo(case, figure) else HELD


def is_echo(case: Case, figure: Expected) -> bool:
    """Whether the id is in the table below and the start state's own value already meets the expected one.

    The second condition keeps figures that the script changed, of a zone that it hot-plugged for instance.
    """
    found = lookup(_ECHOES, figure.id)
    if found is None:
        return False
    return holds(figure.value, found[0](case, *found[1]), figure.tolerance, figure.abs)


def _zones(case: Case, node: str | None = None, zone: str | None = None) -> list[dict[str, Any]]:
    return [z for z in case.boot["zones"] if node in (None, str(z["node"])) and zone in (None, z["zone"])]


def _zone_input(case: Case, node: str, zone: str, name: str) -> int | None:
    return next((z[name] for z in _zones(case, node, zone)), None)


def _mem_total_kb(case: Case, node: str | None = None) -> int:
    return _KB_PER_PAGE * sum(z["managed"] for z in _zones(case, node))


def _swap_total_kb(case: Case) -> int:
    sizes = [re.fullmatch(r"(\d+)([KMG])", str(case.machine[key])) for key in ("swap", "zram") if key in case.machine]
    return sum(int(m[1]) * _UNIT_KB[m[2]] - _KB_PER_PAGE for m in sizes if m)


_SIZES = "spanned|present|start_pfn|managed"
_ECHOES: list[tuple[str, Callable[..., Any]]] = [
    # a zone's place and sizes: the simulator is told all four, since they follow from what firmware and boot took
    (rf"snap\[\w+\]\.zoneinfo\[(\d+),(\w+)\]\.({_SIZES})", _zone_input),
    # the same from an allocator program's dump
    (rf"probe\[\w+\]\.zone\[\w+\]\[(\d+),(\w+)\]\.({_SIZES})", _zone_input),
    # the sum of the zones' managed pages, in kB
    (r"snap\[\w+\]\.meminfo\.MemTotal", _mem_total_kb),
    (r"snap\[\w+\]\.nodememinfo\[(\d+)\]\.MemTotal", _mem_total_kb),
    # the [machine] table's swap sizes, less a header page each
    (r"snap\[\w+\]\.meminfo\.SwapTotal", _swap_total_kb),
]
