"""What a plugin did wrong, as an error that names it."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmlab._engine.fingerprint import policy_files
from mmlab.errors import PluginError
from mmlab.model import rows as r

_WHY = {
    r.RECLAIM_NO_PAGE: "called reclaim_folio() for page {pfn}, which does not exist (pages 0 to {last})",
    r.RECLAIM_NOT_USER: "called reclaim_folio() for page {pfn}, which holds nothing that can be reclaimed: freed already, or never given to it by folio_added()",
    r.RECLAIM_ON_LIST: "called reclaim_folio() for page {pfn}, which is still on its list: take it off and clear PG_LRU first",
    r.RECLAIM_NOTHING: "answered shrink_node() with {pfn} reclaimed pages, but no reclaim_folio() of that pass had freed one",
}


def reclaim_fault(machine: Any) -> PluginError | None:
    """The error for the first thing that the reclaimer of a machine did wrong, None if it did nothing wrong."""
    sc, choice = machine.sc, machine.chosen["reclaimer"]
    if sc[r.SC_RECLAIM_FAULT] == r.RECLAIM_FINE:
        return None
    why = _WHY[int(sc[r.SC_RECLAIM_FAULT])].format(pfn=int(sc[r.SC_RECLAIM_FAULT_PFN]), last=int(sc[r.SC_MAX_PFN]) - 1)
    return PluginError(f"{choice.blame or f'reclaimer {choice.policy.name!r}'}: {why}")


_STEP = "{op}() must return the ns until its next turn, 0 for never, and may only add to m.sc[SC_NOW_NS]: it answered less than 0, or turned the clock back"
#: POLICY_* -> whose fault it is (the first of these slots that a stranger's policy fills), and what it did
_POLICY_WHY = {
    r.POLICY_MONITOR_STEP: (("monitor",), _STEP.format(op="sample")),
    r.POLICY_TIERING_STEP: (("tiering",), _STEP.format(op="step")),
    r.POLICY_THP_STEP: (("thp",), _STEP.format(op="step")),
    r.POLICY_OOM_STEP: (("oom_policy",), _STEP.format(op="step")),
    r.POLICY_DEMOTION_NODE: (("tiering",), "demotion_node() must return another node of the machine, or -1"),
    r.POLICY_MIGRATION: (("tiering", "monitor"), "called migrate_folio_to() for a page or a node that does not exist"),
}


def policy_fault(machine: Any) -> PluginError | None:
    """The error for the first thing of POLICY_* that a policy of a machine did wrong, None if there is none."""
    if machine.sc[r.SC_POLICY_FAULT] == r.POLICY_FINE:
        return None
    slots, why = _POLICY_WHY[int(machine.sc[r.SC_POLICY_FAULT])]
    choices = [machine.chosen[slot] for slot in slots]
    choice = next((choice for choice in choices if choice.blame and "(mmlab " not in choice.blame), choices[0])
    return PluginError(f"{choice.blame or f'{slots[0]} {choice.policy.name!r}'}: {why}")


def never_freed(machine: Any) -> PluginError | None:
    """The error for a reclaimer that never named a victim, though there is swap and swappiness lets it; None for any other."""
    sc, choice = machine.sc, machine.chosen["reclaimer"]
    if sc[r.SC_NR_VICTIMS] or sc[r.SC_NR_SWAP_SLOTS] <= 1 or not sc[r.SC_SWAPPINESS]:
        return None
    return PluginError(
        f"{choice.blame}: named no victim until memory ran out and the OOM killer struck, though swap was empty: "
        "shrink_node() has to call reclaim_folio() for its victims"
    )


def plugin_fault(error: Exception, policies: Mapping[str, Mapping[str, Any]]) -> PluginError | None:
    """The error for an exception that came out of the code of a chosen policy which is not mmlab's own; None for any other.

    policies: slot -> {"use": name}. Kernels raise in the plain-Python and the checked build only; machine code does not look.
    """
    from mmlab.pluginmanager import load_plugins

    registry, frames = load_plugins(), traceback.extract_tb(error.__traceback__)[::-1]
    for slot, table in policies.items():
        entry = registry.get(slot, table["use"])
        files = {str(file) for file in policy_files(entry.policy)} if entry.distribution != "mmlab" else set()
        at = next((frame for frame in frames if frame.filename in files), None)
        if at is not None:
            return PluginError(f"{entry.blame}: {type(error).__name__}: {error} (in {Path(at.filename).name}:{at.lineno}, {at.name}())")
    return None
