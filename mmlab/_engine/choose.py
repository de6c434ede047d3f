"""Which policy fills each slot of a machine, with its params."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from mmlab._engine.machine import Chosen
from mmlab.machine import MachineConfig, default_policy
from mmlab.pluginmanager import Registry
from mmlab.policies import DEFAULTS


def choose(registry: Registry, policies: Mapping[str, Mapping[str, Any]], cfg: MachineConfig) -> dict[str, Chosen]:
    """The policy of each slot: what `policies` names, else the default. Raises InputError for one that does not exist or params that are wrong."""
    chosen = {}
    for slot, default in DEFAULTS.items():
        table = dict(policies.get(slot) or {})
        chosen[slot] = choose_one(registry, slot, table.get("use", default_policy(slot, cfg, default)), dict(table.get("params") or {}), cfg)
    return chosen


def choose_one(registry: Registry, slot: str, name: str, params: dict[str, Any], cfg: MachineConfig) -> Chosen:
    """A slot's policy by name; params override its defaults."""
    entry = registry.get(slot, name)
    made = entry.make_params(_boot_params(cfg, slot, entry) | params, slot)
    return Chosen(entry.policy, made, entry.blame)


def _boot_params(cfg: MachineConfig, slot: str, entry: Any) -> dict[str, int]:
    """Params of the slab allocator that the machine's command line sets, if the policy has them."""
    if slot != "slab_allocator" or entry.policy.params is None:
        return {}
    known = {field.name for field in attrs.fields(entry.policy.params)}
    given = {name: getattr(cfg.options, name) for name in ("slab_min_order", "slab_max_order", "slab_min_objects")}
    return {name: value for name, value in given.items() if value is not None and name in known}
