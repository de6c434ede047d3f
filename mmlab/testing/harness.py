"""A small machine for tests of policies and kernels."""

from __future__ import annotations

from typing import Any

from mmlab._engine.boot import boot_machine, sizes_of
from mmlab._engine.machine import Chosen, Machine
from mmlab.machine import ZoneTuning, build_machine, machine_from_table
from mmlab.model.rows import SC_NEXT_TICK_NS, SC_STAT_INTERVAL_NS, SC_WANTS_ACCESS, WANTS_SUBPAGES
from mmlab.policies import DEFAULTS, Policy
from mmlab.testing.standins import STANDINS


def small_machine(memory: str = "64M", cpus: int = 1, swap_pages: int = 0, params: dict[str, Any] | None = None, table: dict | None = None, **policies: Policy) -> Machine:
    """A booted machine. memory, cpus: as in TOML (table: more keys of [machine]); policies: records by slot; params: params instances by slot.

    Slots not given get the default policy if it is installed, else a stand-in that does the least possible.
    """
    cfg = machine_from_table({"memory": memory, "cpus": cpus, "bare": True, **(table or {})})
    _, layout, boot = build_machine(cfg)
    needs_future = bool(getattr(policies.get("reclaimer"), "needs_future", False))
    subpages = bool(getattr(policies.get("thp"), "wants_subpages", False))
    chosen = {slot: Chosen(policies.get(slot) or _default(slot), (params or {}).get(slot)) for slot in DEFAULTS}
    machine = Machine(sizes_of(layout, nr_swap_slots=swap_pages + 1 if swap_pages else 0, next_use=needs_future, subpages=subpages), chosen)
    machine.bind()
    boot_machine(machine, layout, ZoneTuning(layout), boot)
    machine.sc[SC_WANTS_ACCESS] = WANTS_SUBPAGES if subpages else 0
    machine.sc[SC_STAT_INTERVAL_NS] = machine.sc[SC_NEXT_TICK_NS] = 1_000_000_000
    return machine


def _default(slot: str) -> Policy:
    if slot in STANDINS:
        return STANDINS[slot]
    from mmlab.pluginmanager import load_plugins

    return load_plugins().get(slot, DEFAULTS[slot]).policy
