"""Finds plugins by entry point, collects their policies, and refuses what clashes or breaks: a clear error names plugin and distribution."""

from __future__ import annotations

import functools
import importlib.metadata
from collections.abc import Iterable
from typing import Any

import attrs
import pluggy

import mmlab.hookspecs
from mmlab.errors import InputError, PluginError, did_you_mean
from mmlab.experiment.structure import structure
from mmlab.policies import ALL_SLOTS, Policy

GROUP = "mmlab"


@attrs.frozen
class Registered:
    """A policy with where it came from."""

    policy: Policy
    plugin: str
    distribution: str
    version: str

    def __getattr__(self, name: str) -> Any:
        return getattr(self.policy, name)

    @property
    def blame(self) -> str:
        """How errors name it."""
        return f"plugin {self.plugin} ({self.distribution} {self.version}): {self.policy.slot} {self.policy.name!r}"

    @property
    def source(self) -> str:
        """The file that defines the policy."""
        from mmlab._engine.fingerprint import policy_files

        files = policy_files(self.policy)
        return str(files[0]) if files else ""

    @property
    def source_digest(self) -> str:
        """A digest of everything the policy's result depends on: its package's sources and all files its kernels reach."""
        from mmlab._engine.fingerprint import policy_digest

        return policy_digest(self.policy)

    def make_params(self, given: dict[str, Any], where: str) -> Any:
        """An instance of the policy's params class; InputError lists what is wrong with `given`."""
        if self.policy.params is None:
            if given:
                raise InputError([f"{where}.params.{key}: {self.policy.slot} {self.policy.name!r} has no params" for key in given])
            return None
        errors: list[str] = []
        params = structure(self.policy.params, given, f"{where}.params", errors)
        if errors:
            raise InputError(errors)
        return params


class Registry:
    """All policies by slot and name."""

    def __init__(self, policies: Iterable[Registered]):
        self._by_slot: dict[str, dict[str, Registered]] = {slot: {} for slot in ALL_SLOTS}
        for entry in policies:
            known = self._by_slot[entry.policy.slot]
            if entry.policy.name in known:
                other = known[entry.policy.name]
                raise PluginError(
                    f"two plugins offer {entry.policy.slot} {entry.policy.name!r}: {other.plugin} ({other.distribution} {other.version}) "
                    f"and {entry.plugin} ({entry.distribution} {entry.version}); uninstall one of them"
                )
            known[entry.policy.name] = entry

    def names(self, slot: str) -> list[str]:
        """Names offered for a slot, sorted."""
        return sorted(self._by_slot[slot])

    def policies(self) -> list[Registered]:
        """Every policy, by slot then name."""
        return [self._by_slot[slot][name] for slot in ALL_SLOTS for name in self.names(slot)]

    def get(self, slot: str, name: str, where: str | None = None) -> Registered:
        """The policy of that name; InputError with the known names otherwise. where: the key that named it, for the message."""
        if slot not in self._by_slot:
            raise InputError(f"{where or slot}: no such slot (known: {', '.join(ALL_SLOTS)}){did_you_mean(slot, ALL_SLOTS)}")
        if name not in self._by_slot[slot]:
            known = self.names(slot)
            article = "an" if slot[0] in "aeiou" else "a"
            raise InputError(f"{where or slot + '.use'}: no {slot} named '{name}' ({article} {slot} is one of: {', '.join(known) or 'none installed'})"
                             f"{did_you_mean(name, known)}")
        return self._by_slot[slot][name]


def _collect(manager: pluggy.PluginManager, module: Any, plugin: str, distribution: str, version: str) -> list[Registered]:
    where = f"plugin {plugin} ({distribution} {version})"
    try:
        manager.register(module, name=plugin)
        manager.check_pending()
    except (pluggy.PluginValidationError, ValueError) as error:
        raise PluginError(f"{where}: {error}") from error
    implementation = getattr(module, "mmlab_policies", None)
    if implementation is None:
        raise PluginError(f"{where}: offers no mmlab_policies hook")
    try:
        policies = list(implementation())
    except PluginError as error:
        raise PluginError(f"{where}: {error}") from error
    except Exception as error:  # a stranger's code: whatever it raises is that plugin's fault
        raise PluginError(f"{where}: mmlab_policies() raised {type(error).__name__}: {error}") from error
    for policy in policies:
        if not isinstance(policy, Policy) or policy.slot not in ALL_SLOTS:
            raise PluginError(f"{where}: mmlab_policies() must return records of mmlab.policies, got {policy!r}")
    return [Registered(policy, plugin, distribution, version) for policy in policies]


def registry_of(*modules: Any) -> Registry:
    """A registry of plugin modules handed over directly (tests, notebooks)."""
    manager = pluggy.PluginManager("mmlab")
    manager.add_hookspecs(mmlab.hookspecs)
    found: list[Registered] = []
    for module in modules:
        name = module.__name__
        found += _collect(manager, module, name, name.split(".")[0], "0")
    return Registry(found)


@functools.cache
def load_plugins() -> Registry:
    """Every policy of every installed plugin. PluginError names the plugin that cannot be used."""
    manager = pluggy.PluginManager("mmlab")
    manager.add_hookspecs(mmlab.hookspecs)
    found: list[Registered] = []
    for entry in sorted(importlib.metadata.entry_points(group=GROUP), key=lambda e: e.name):
        distribution = entry.dist.name if entry.dist else "unknown distribution"
        version = entry.dist.version if entry.dist else "0"
        try:
            module = entry.load()
        except PluginError as error:
            raise PluginError(f"plugin {entry.name} ({distribution} {version}): {error}") from error
        except Exception as error:  # whatever a stranger's import raises
            raise PluginError(f"plugin {entry.name} ({distribution} {version}): import of {entry.value} failed: {type(error).__name__}: {error}") from error
        found += _collect(manager, module, entry.name, distribution, version)
    return Registry(found)


