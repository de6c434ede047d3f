"""Aged states: what a machine has been through before the workload starts, so that its free memory is not in one piece.

`[machine] aged = "fresh"` (nothing has happened), `aged = "half_random"`, `aged = {state = "half_random", fill = 0.5, seed = 3}` with changes of the state's own params (those of the
generator of allocations `fragmentation`), or `aged = {pagetypeinfo = FILE}`: the free blocks that a real machine's /proc/pagetypeinfo counts.
What stays in use belongs to nobody: it can be neither reclaimed nor moved.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import attrs

from ..errors import InputError, did_you_mean

if TYPE_CHECKING:
    from mmlab.workload.allocation_generators import Fragmentation

AGED_STATES: dict[str, dict[str, Any]] = {
    "half_random": {"fill": 0.9, "free": 0.5, "pattern": "random"},
    "checkerboard": {"fill": 0.9, "free": 0.5, "pattern": "every"},
    "huge_holes": {"fill": 0.9, "free": 0.5, "pattern": "runs"},
    "churned": {"fill": 0.8, "free": 0.3, "pattern": "random", "rounds": 20},
    "sprinkled": {"fill": 0.9, "free": 1.0, "unmovable": 0.02},
    "long_uptime": {"fill": 0.85, "free": 0.4, "unmovable": 0.1, "rounds": 10},
}


@attrs.frozen
class Aged:
    """An aged state. generator: what happens to memory (its seed: None for the experiment's), or pagetypeinfo: a file."""

    generator: Fragmentation | None = None
    pagetypeinfo: str | None = None


def aged_from(value: Any) -> Aged | None:
    """What the key `aged` of a [machine] table says; None for "fresh". Raises InputError; messages begin with the key."""
    from mmlab.workload.allocation_generators import make_allocation_generator

    if value == "fresh":
        return None
    table = {"state": value} if isinstance(value, str) else value
    if not isinstance(table, Mapping):
        raise InputError(f'aged: must be the name of a state or a table such as {{state = "half_random", fill = 0.5}}, got {value!r}')
    if "pagetypeinfo" in table:
        file = table["pagetypeinfo"]
        if len(table) > 1 or not isinstance(file, str):
            raise InputError(f"aged.pagetypeinfo: must be a file and stand alone, got {dict(table)!r}")
        return Aged(pagetypeinfo=file)
    name = table.get("state")
    if name not in AGED_STATES:
        raise InputError(f"aged.state: no aged state named {name!r} (known: fresh, {', '.join(AGED_STATES)}){did_you_mean(str(name), AGED_STATES)}")
    params = {**AGED_STATES[name], **{key: value for key, value in table.items() if key != "state"}}
    return Aged(make_allocation_generator("fragmentation", params, "aged"))
