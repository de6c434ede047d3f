"""One combination of the matrix to one fully resolved configuration, with every fault named by its key."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, Protocol

import attrs

from mmlab.errors import InputError, did_you_mean
from mmlab.experiment.cells import resolve_path
from mmlab.experiment.matrix import VARYING
from mmlab.experiment.schema import Run
from mmlab.experiment.structure import structure
from mmlab.experiment.toml_file import flatten, get, put
from mmlab.experiment.workloads import KINDS, check_workload

#: kinds of workloads whose page accesses are no stream
UNSEEN = ("ops", "requests", "allocations")
#: kinds of workload whose accesses are not known before they happen
WITHOUT_A_FUTURE = ("ops", "allocations")


class Policies(Protocol):
    """What is asked of `mmlab.pluginmanager.Registry`."""

    def names(self, slot: str) -> list[str]: ...

    def get(self, slot: str, name: str) -> Any: ...


class Resolver:
    """Resolves the combinations of one file, checking equal sections once.

    tables: the file's tables. slots: slot -> name of the default policy. base_dir: the file's folder. changed: keys that were given over the
    file's, as by --set.
    After the last combination `errors` holds every fault, each once, in the order of the file's sections.
    """

    def __init__(self, tables: dict[str, Any], slots: dict[str, str], registry: Policies, base_dir: Path, changed: frozenset[str] = frozenset()):
        self.tables, self.slots, self.registry, self.base_dir, self.changed = tables, slots, registry, base_dir, changed
        self.errors: list[str] = []

    def combine(self, axes: dict[str, Any]) -> dict[str, Any]:
        """The file's tables with the values of one combination put in."""
        tables = {name: copy.deepcopy(self.tables.get(name, {})) for name in (*VARYING, *self.slots)}
        for key, value in axes.items():
            try:
                put(tables, key, copy.deepcopy(value))
            except InputError as error:
                self.errors.extend(f"matrix.{m}" for m in error.messages)
        for slot in ("thp", "reclaimer"):
            if slot in tables and self.registry.names(slot) and isinstance(tables[slot], dict) and "use" not in tables[slot]:
                tables[slot]["use"] = self._machines_own(slot, tables)
        return tables

    def _machines_own(self, slot: str, tables: dict[str, Any]) -> str:
        """Linux's own choice for this machine; a machine that is described wrongly is reported elsewhere."""
        from mmlab.machine import default_policy, machine_from_table

        try:
            return default_policy(slot, machine_from_table(tables["machine"], "", sysfs=flatten(tables["sysfs"])), self.slots[slot])
        except (InputError, TypeError, AttributeError):
            return self.slots[slot]

    def resolve(self, combinations: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Configurations without a seed, one per combination, in order; look at `errors` before using them."""
        combined = [self.combine(axes) for axes in combinations]
        used = self._used_policies(combined)
        configs = []
        for axes, tables in zip(combinations, combined, strict=True):
            errors: list[str] = []
            run = structure(Run, _as_table(tables["run"], "run", errors), "run", errors)
            machine = self._machine(tables, errors)
            workload = check_workload(tables["workload"], self.base_dir, errors)
            if run and run.score_ms and workload["kind"] in UNSEEN:
                errors.append(f"run.score_ms: a workload of kind {workload['kind']!r} has no stream of accesses to score a monitor by; must be 0, got {run.score_ms}")
            slots = [slot for slot in self.slots if self.registry.names(slot)]
            if workload["kind"] == "requests":
                named = {*(slot for slot in slots if self.tables.get(slot)), *(key.partition(".")[0] for key in axes)}
                errors.extend(f"{slot}: has no part in a request replay, only the reclaimer has" for slot in slots if slot in named - {"reclaimer"})
                slots = ["reclaimer"]
            config = {
                **machine,
                "workload": workload,
                "policies": {slot: self._policy(slot, tables[slot], used[slot], errors) for slot in slots},
                "run": run.config() if run else {},
            }
            if workload["kind"] in WITHOUT_A_FUTURE:
                errors.extend(self._without_a_future(config["policies"], workload["kind"]))
            for message in errors:
                key = message.split(": ", 1)[0]
                message = f"matrix.{message}" if key in axes else message
                # The list of known names differs from policy to policy; the mistake is one.
                if all(message.split(" (known")[0] != other.split(" (known")[0] for other in self.errors):
                    self.errors.append(message)
            configs.append(config)
        return configs

    def _used_policies(self, combined: list[dict[str, Any]]) -> dict[str, list[Any]]:
        """slot -> the policies that any combination chooses; unknown names are left to `_policy`, a slot without plugins is empty."""
        used: dict[str, list[Any]] = {}
        for slot, default in self.slots.items():
            names = {str(t[slot].get("use", default)) if isinstance(t[slot], dict) else default for t in combined}
            known = self.registry.names(slot)
            used[slot] = [self.registry.get(slot, name) for name in sorted(names) if name in known] if known else []
            if not known and any(t[slot] for t in combined):
                self.errors.append(f"{slot}: no installed plugin offers a {slot}")
        return used

    def _without_a_future(self, policies: dict[str, dict[str, Any]], kind: str) -> list[str]:
        """Errors for policies that know the future accesses, with a workload whose accesses are not known beforehand."""
        return [
            f"{slot}.use: {table['use']!r} knows the future accesses of a bulk stream; a workload of kind {kind!r} has none"
            f" (kinds that have: {', '.join(k for k in KINDS if k not in WITHOUT_A_FUTURE)})"
            for slot, table in policies.items()
            if table["use"] in self.registry.names(slot) and getattr(self.registry.get(slot, table["use"]), "needs_future", False)
        ]

    def _policy(self, slot: str, table: Any, used: list[Any], errors: list[str]) -> dict[str, Any]:
        table = _as_table(table, slot, errors)
        for key in table:
            if key not in ("use", "params"):
                errors.append(f"{slot}.{key}: unknown key (known: params, use){_hint(key, used)}")
        name, params = table.get("use", self.slots[slot]), _as_table(table.get("params", {}), f"{slot}.params", errors)
        known = self.registry.names(slot)
        if name not in known:
            hint = did_you_mean(str(name), known)
            errors.append(f"{slot}.use: no {slot} named {name!r} (known: {', '.join(sorted(known))}){hint}")
            return {"use": name, "params": params}
        policy = self.registry.get(slot, name)
        own = _param_names(policy)
        # A parameter may be meant for another policy of the same matrix; one that no chosen policy has is a mistake.
        elsewhere = set().union(*(_param_names(p) for p in used)) - own
        if self.changed & {f"{slot}.use", f"matrix.{slot}.use"}:  # or for one that the file's matrix chose before it was changed
            every = set().union(*(_param_names(self.registry.get(slot, other)) for other in known))
            elsewhere |= {key for key in every - own if f"{slot}.params.{key}" not in self.changed}
        mine = {key: value for key, value in params.items() if key not in elsewhere}
        if policy.params is None:
            errors.extend(f"{slot}.params.{key}: unknown key: {name} has no parameters" for key in mine)
            return {"use": name, "params": {}}
        made = structure(policy.params, mine, f"{slot}.params", errors)
        return {"use": name, "params": _plain(attrs.asdict(made)) if made is not None else {}}

    def _machine(self, tables: dict[str, Any], errors: list[str]) -> dict[str, Any]:
        """The tables as they were written (the simulator reads them again), after checking that they describe a machine."""
        from mmlab.machine.config import machine_from_table
        from mmlab.procfs.accepted import settings_faults

        machine = _as_table(tables["machine"], "machine", errors)
        # `vm.swappiness = 10` in [sysctl] is the key "vm.swappiness", quoted or not.
        settings = {name: flatten(_as_table(tables[name], name, errors)) for name in ("sysctl", "sysfs")}
        try:
            machine_from_table(machine, "", **settings)
        except InputError as error:
            errors.extend(error.messages)
        errors.extend(settings_faults(settings))
        folder = machine.get("import_dir")
        if isinstance(folder, str) and not resolve_path(folder, self.base_dir).is_dir():
            errors.append(f"machine.import_dir: no such folder: {folder} (looked in {self.base_dir} and the working directory)")
        file = pagetypeinfo_of(machine)
        if file is not None and not resolve_path(file, self.base_dir).is_file():
            errors.append(f"machine.aged.pagetypeinfo: no such file: {file} (looked in {self.base_dir} and the working directory)")
        return {"machine": machine, **settings}


def pagetypeinfo_of(machine: dict[str, Any]) -> str | None:
    """The file that a [machine] table's aged state comes from."""
    aged = machine.get("aged")
    file = aged.get("pagetypeinfo") if isinstance(aged, dict) else None
    return file if isinstance(file, str) else None


def axis_values(config: dict[str, Any], keys: list[str]) -> dict[str, Any]:
    """What a configuration has at the matrix' keys; None where the chosen policy has no such parameter."""
    values = {}
    for key in keys:
        section, _, rest = key.partition(".")
        if section in ("sysctl", "sysfs"):
            values[key] = config[section].get(rest)
        else:
            values[key] = get(config, key) if section in config else get(config["policies"].get(section, {}), rest)
    if "run.sample_ms" in values:
        values["run.sample_ms"] = config["run"]["sample_ns"] / 1e6
    return values


def _as_table(value: Any, path: str, errors: list[str]) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    hint = f"; for a policy write {path}.use = {value!r}" if isinstance(value, str) and path not in VARYING else ""
    errors.append(f"{path}: must be a table, got {value!r}{hint}")
    return {}


def _param_names(policy: Any) -> set[str]:
    return set() if policy.params is None else {a.alias.lstrip("_") for a in attrs.fields(policy.params) if a.init}


def _hint(key: str, used: list[Any]) -> str:
    if any(key in _param_names(policy) for policy in used):
        return f"; '{key}' is a parameter: it belongs into the table below, params"
    return did_you_mean(key, ["use", "params"])


def _plain(value: Any) -> Any:
    """Tuples to lists, so that a configuration equals what JSON gives back."""
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, (list, tuple)) else value
