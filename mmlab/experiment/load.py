"""From a file to a checked `Experiment`: everything that can be wrong with it is said here, at once, before anything runs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from mmlab.errors import InputError, did_you_mean
from mmlab.experiment.cells import Cell, canonical_json, cell_key, core_source_digest, file_digest, resolve_path
from mmlab.experiment.matrix import expand, read_matrix
from mmlab.experiment.resolve import pagetypeinfo_of, Policies, Resolver, axis_values
from mmlab.experiment.schema import SECTIONS, Experiment, Head, Matrix, Report, Seeds
from mmlab.experiment.structure import structure
from mmlab.experiment.toml_file import apply_changes, read_toml
from mmlab.experiment.workloads import workload_files


def load_experiment(
    path: str | Path, changes: Mapping[str, Any] | None = None, registry: Policies | None = None, defaults: dict[str, str] | None = None
) -> Experiment:
    """Read and check an experiment file, or make the experiment that runs one `.ops` script on the default machine.

    changes: dotted key -> value, put over what the file says; a key that the matrix varies stops varying, and a baseline
    that is not varied any more is forgotten. registry, defaults: other
    policies than the installed ones, and the policy of each slot when none is named (tests). InputError has every fault of the file.
    """
    path = Path(path)
    tables = _script_tables(path) if path.suffix == ".ops" else read_toml(path)
    if registry is None:
        from mmlab.pluginmanager import load_plugins

        registry = load_plugins()
    if defaults is None:
        from mmlab.policies import DEFAULTS

        defaults = DEFAULTS
    try:
        apply_changes(tables, changes or {})
        return _build(path, tables, registry, defaults, frozenset(changes or ()))
    except InputError as error:
        raise InputError(f"{path}: {m}" for m in error.messages) from None


def _script_tables(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", path.stem).lstrip("-._") or "script"
    return {"name": name, "question": f"What does {path.name} do?", "workload": {"kind": "ops", "script": path.name}}


def _build(path: Path, tables: dict[str, Any], registry: Policies, defaults: dict[str, str], changed: frozenset[str]) -> Experiment:
    errors: list[str] = []
    known = [*SECTIONS, *defaults]
    errors += [f"{key}: unknown key (known: {', '.join(known)}){did_you_mean(key, known)}" for key in tables if key not in known]
    head = structure(Head, {"name": path.stem, **{k: tables[k] for k in ("name", "question", "description") if k in tables}}, "", errors)
    seeds = _section(Seeds, tables, "seeds", errors)
    report = _section(Report, tables, "report", errors)
    matrix = read_matrix(tables.get("matrix", {}), list(defaults), errors)
    combinations = expand(matrix)
    resolver = Resolver(tables, defaults, registry, path.parent, changed)
    configs = resolver.resolve(combinations)
    errors += resolver.errors
    if not configs:
        errors.append("matrix.exclude: leaves no combination to run")
    if report and report.judged and report.judged not in report.counters:
        errors.append(f"report.judged: must be one of report.counters ({', '.join(report.counters) or 'there is none'}), got {report.judged!r}{did_you_mean(report.judged, report.counters)}")
    if report and report.baseline:
        fault = _baseline_fault(report.baseline, matrix, configs)
        if fault and changed and "report.baseline" not in changed:
            report = attrs.evolve(report, baseline="")  # what it named is not among what is left to compare
            tables = {**tables, "report": {key: value for key, value in tables["report"].items() if key != "baseline"}}
        else:
            errors += fault
    if errors:
        raise InputError(errors)
    policies = _used(configs, registry)
    axes = list(dict.fromkeys([*matrix.axes, *(key for entry in matrix.include for key in entry)]))
    cells = _cells(head.name, configs, seeds.all(), axes, policies, path.parent)
    jobs = tables.get("run", {}).get("jobs", 0)
    resolved = {**tables, "name": head.name, "seeds": {"values": list(seeds.all())}, "cells": len(cells)}
    return Experiment(head, path, resolved, cells, tuple(axes), policies, report, jobs)


def _section(cls: type, tables: dict[str, Any], name: str, errors: list[str]) -> Any:
    table = tables.get(name, {})
    if not isinstance(table, dict):
        errors.append(f"{name}: must be a table, got {table!r}")
        return None
    return structure(cls, table, name, errors)


def _baseline_fault(baseline: str, matrix: Matrix, configs: list[dict[str, Any]]) -> list[str]:
    values = {str(v) for config in configs for v in axis_values(config, list(matrix.axes)).values()}
    if baseline in values:
        return []
    hint = did_you_mean(baseline, values)
    return [
        f"report.baseline: must be a value that the matrix varies (one of: {', '.join(sorted(values)) or 'none'}), got {baseline!r}{hint}"
    ]


def _used(configs: list[dict[str, Any]], registry: Policies) -> dict[tuple[str, str], dict[str, str]]:
    chosen = {(slot, config["policies"][slot]["use"]): None for config in configs for slot in config["policies"]}
    found = {key: registry.get(*key) for key in chosen}
    about = ("distribution", "version", "source_digest", "level", "summary")
    return {key: {name: getattr(policy, name) for name in about} for key, policy in found.items()}


def _cells(
    name: str, configs: list[dict[str, Any]], seeds: tuple[int, ...], axes: list[str], policies: dict[tuple[str, str], Any], base_dir: Path
) -> tuple[Cell, ...]:
    """A cell per different configuration and seed; combinations that differ only in a parameter their policy lacks are one."""
    digested: dict[Path, str] = {}
    cells: dict[str, Cell] = {}
    for config in configs:
        files = {}
        for text, file in _files(config, base_dir):
            digested[file] = files[text] = digested.get(file) or file_digest(file)
        digests = {
            "core": core_source_digest(),
            "plugins": {slot: policies[slot, choice["use"]]["source_digest"] for slot, choice in config["policies"].items()},
            "files": files,
        }
        for seed in seeds:
            full = {**config, "seed": seed}
            canonical_json(full)
            key = cell_key(full, digests)
            cells.setdefault(key, Cell(name, key, full, base_dir, axis_values(config, axes)))
    return tuple(cells.values())


def _files(config: dict[str, Any], base_dir: Path) -> list[tuple[str, Path]]:
    """Text in the configuration -> file or folder whose content decides the result."""
    files = workload_files(config["workload"], base_dir)
    if folder := config["machine"].get("import_dir"):
        files.append((folder, resolve_path(folder, base_dir)))
    if (file := pagetypeinfo_of(config["machine"])) is not None:
        files.append((file, resolve_path(file, base_dir)))
    return files
