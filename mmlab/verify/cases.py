"""Recorded cases: what a script did on the real kernel, with the state it started from.

A case is a folder ``AREA/NAME`` with ``case.toml`` (script, machine, settings), ``boot.json`` (the machine before line 1 of the script)
and ``expected.json`` (figures with tolerances).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import attrs
import tomli

from mmlab.errors import InputError, did_you_mean

#: What the machine of a case may start from; the rest of boot.json (watermarks, batches, limits, ...) is for the simulator to compute.
ZONE_INPUTS = ("node", "zone", "present", "spanned", "start_pfn", "managed", "managed_at_setup", "free_lists")
PCP_INPUTS = ("count", "high")
LRU_INPUTS = ("inactive_anon", "active_anon", "inactive_file", "active_file", "unevictable")
TOTAL_INPUTS = (*LRU_INPUTS, "slab_reclaimable", "slab_unreclaimable", "shmem", "mapped", "page_table_pages")

_ZONE_REQUIRED = ("node", "present", "spanned", "start_pfn", "managed")


@attrs.frozen
class Expected:
    """One figure: a value holds if ``|got - value| <= max(tolerance * |value|, abs)``.

    ``data``, ``start``: the file with the state that this figure starts from, and the name of the dump there; ``given``: values that the
    figure is a function of. All three are None for most.
    """

    id: str
    value: Any
    tolerance: float = 0.0
    abs: float = 0.0
    data: str | None = None
    start: str | None = None
    given: dict[str, Any] | None = None


@attrs.frozen
class Case:
    """A recorded case. ``files`` and ``extra_modules`` as case.toml names them, ``boot`` and ``baseline`` as recorded."""

    path: Path
    area: str
    name: str
    summary: str
    script: str = attrs.field(repr=False)
    machine: dict[str, Any]
    figures: tuple[Expected, ...] = attrs.field(repr=False)
    boot: dict[str, Any] = attrs.field(repr=False)
    baseline: dict[str, Any] = attrs.field(repr=False)
    warm_text: bool = False
    files: tuple[str, ...] = ()
    extra_modules: tuple[str, ...] = ()
    sysctl: dict[str, Any] = attrs.field(factory=dict)
    sysfs: dict[str, Any] = attrs.field(factory=dict)
    trace: dict[str, Any] = attrs.field(factory=dict)
    timeout: int = 300

    def start_state(self) -> dict[str, Any]:
        """The part of boot.json that a simulation may start from: ``{"zones": [...], "lru": {...}, "Committed_AS": kB}``.

        A zone has ZONE_INPUTS (``managed_at_setup``: the range [low, high] its managed pages had when watermarks were first set up,
        only where recorded), ``pcp`` with PCP_INPUTS per CPU, and ``lru`` with LRU_INPUTS.
        """
        at_setup = {(z["node"], z["zone"]): z["managed_at_setup"] for z in self.baseline.get("zones", []) if "managed_at_setup" in z}
        zones = []
        for zone in self.boot["zones"]:
            inputs = {name: zone[name] for name in ZONE_INPUTS if name in zone}
            if (key := (zone["node"], zone["zone"])) in at_setup:
                inputs.setdefault("managed_at_setup", at_setup[key])
            inputs["pcp"] = [{name: pcp[name] for name in PCP_INPUTS if name in pcp} for pcp in zone.get("pcp", [])]
            inputs["lru"] = {name: zone["lru"][name] for name in LRU_INPUTS if name in zone.get("lru", {})}
            zones.append(inputs)
        totals = {name: self.boot["lru"][name] for name in TOTAL_INPUTS if name in self.boot.get("lru", {})}
        return {"zones": zones, "lru": totals, "Committed_AS": self.boot.get("meminfo", {}).get("Committed_AS", 0)}


def find_cases(paths: Iterable[Path | str], area: str | None = None, case: str | None = None) -> list[Case]:
    """The cases below ``paths``, each a case's folder, an area's, or one that holds areas; sorted by area and name.

    ``area`` and ``case`` keep those of that name. Raises :class:`InputError` with everything that is wrong with the cases kept, or if
    a folder holds none, no case has such a name or two have the same.
    """
    errors, folders = [], {}
    for path in map(Path, paths):
        found = _case_folders(path)
        if not path.is_dir():
            errors.append(f"{path}: must be a folder of recorded cases, but there is no such folder")
        elif not found:
            errors.append(f"{path}: must hold recorded cases (a case.toml here or up to two folders down), but has none")
        for folder in found:
            folders[folder.resolve()] = folder
    if errors:
        raise InputError(errors)
    kept = sorted(folders, key=lambda f: (f.parent.name, f.name))
    for wanted, name_of, what in ((area, lambda f: f.parent.name, "area"), (case, lambda f: f.name, "case")):
        if wanted is not None:
            names = sorted({name_of(f) for f in kept})
            kept = [f for f in kept if name_of(f) == wanted]
            if not kept:
                raise InputError(f"no {what} is named {wanted!r} (known: {', '.join(names)}){did_you_mean(wanted, names)}")
    errors += [
        f"{folders[first]} and {folders[second]}: two cases named {first.parent.name}/{first.name}: give them to two runs"
        for first, second in zip(kept, kept[1:]) if first.parts[-2:] == second.parts[-2:]
    ]  # fmt: skip
    cases = []
    for folder in kept:
        try:
            cases.append(read_case(folders[folder]))
        except InputError as e:
            errors += e.messages
    if errors:
        raise InputError(errors)
    return cases


def _case_folders(path: Path) -> list[Path]:
    for pattern in ("case.toml", "*/case.toml", "*/*/case.toml"):
        if found := sorted(path.glob(pattern)):
            return [file.parent for file in found]
    return []


def read_case(folder: Path) -> Case:
    """Reads one case's folder; raises :class:`InputError` with all that is wrong with its files."""
    errors: list[str] = []
    toml = _load(folder / "case.toml", tomli.loads, errors)
    boot = _load(folder / "boot.json", json.loads, errors)
    expected = _load(folder / "expected.json", json.loads, errors)
    if errors:
        raise InputError(errors)
    checked = _Checked(errors)
    script = checked.get(toml, "script", str, folder / "case.toml", required=True)
    if script and "\n" not in script:
        script = _load(folder / script, str, errors)
    machine = checked.get(toml, "machine", dict, folder / "case.toml", required=True)
    checked.get(machine or {}, "memory", str, folder / "case.toml", "machine.", required=machine is not None)
    options = {name: checked.get(toml, name, kind, folder / "case.toml") for name, kind in
               (("warm_text", bool), ("files", list), ("extra_modules", list), ("sysctl", dict), ("sysfs", dict), ("trace", dict), ("timeout", int))}
    options = {name: tuple(value) if isinstance(value, list) else value for name, value in options.items() if value is not None}
    errors += [f"{folder / 'case.toml'}: files: no file {name} beside it" for name in options.get("files", ()) if not (folder / name).is_file()]
    _check_boot(boot, folder / "boot.json", checked)
    figures = _figures(expected, folder / "expected.json", checked)
    if errors:
        raise InputError(errors)
    where = folder.resolve()
    return Case(path=folder, area=where.parent.name, name=where.name, summary=str(toml.get("summary", "")), script=script, machine=machine,
                figures=figures, boot=boot, baseline=expected.get("baseline", {}), **options)


def _load(file: Path, parse: Any, errors: list[str]) -> Any:
    """What the file holds, else None and a message."""
    try:
        value = parse(file.read_text(encoding="utf-8"))
    except OSError as e:
        errors.append(f"{file}: must be there and readable ({e.strerror})")
    except (tomli.TOMLDecodeError, ValueError) as e:
        errors.append(f"{file}: must be {'TOML' if file.suffix == '.toml' else 'JSON'} in UTF-8: {e}")
    else:
        if parse is str or isinstance(value, dict):
            return value
        errors.append(f"{file}: must be a table, got {str(value)[:40]}")
    return None


@attrs.define
class _Checked:
    """Collects messages about keys that are missing or of the wrong type."""

    errors: list[str]

    def get(self, table: dict, key: str, kind: type, file: Path, prefix: str = "", required: bool = False) -> Any:
        value = table.get(key)
        if value is None and not required:
            return None
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            self.errors.append(f"{file}: {prefix}{key}: must be a {_KIND[kind]}, got {'nothing' if value is None else repr(value)[:60]}")
            return None
        return value


_KIND = {str: "string", dict: "table", list: "list", int: "number", bool: "true or false"}


def _check_boot(boot: dict, file: Path, checked: _Checked) -> None:
    for i, zone in enumerate(checked.get(boot, "zones", list, file, required=True) or []):
        if not isinstance(zone, dict):
            checked.errors.append(f"{file}: zones[{i}]: must be a table, got {zone!r}")
            continue
        checked.get(zone, "zone", str, file, f"zones[{i}].", required=True)
        for key in _ZONE_REQUIRED:
            checked.get(zone, key, int, file, f"zones[{i}].", required=True)


def _figures(expected: dict, file: Path, checked: _Checked) -> tuple[Expected, ...]:
    names = [a.name for a in attrs.fields(Expected)]
    figures = []
    for i, row in enumerate(checked.get(expected, "figures", list, file, required=True) or []):
        at = f"{file}: figures[{i}]"
        if not isinstance(row, dict) or not isinstance(row.get("id"), str) or "value" not in row:
            checked.errors.append(f"{at}: must have an id and a value, got {str(row)[:60]}")
            continue
        for key in ("tolerance", "abs"):
            if isinstance(row.get(key, 0), bool) or not isinstance(row.get(key, 0), (int, float)) or row.get(key, 0) < 0:
                checked.errors.append(f"{at}.{key}: must be a number of at least 0, got {row[key]!r}")
        figures.append(Expected(**{name: row[name] for name in names if name in row}))
    return tuple(figures)
