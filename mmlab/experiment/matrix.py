"""`[matrix]`: reading it and making its combinations."""

from __future__ import annotations

import itertools
from typing import Any

from mmlab.errors import did_you_mean
from mmlab.experiment.schema import Matrix
from mmlab.experiment.toml_file import flatten

#: Sections whose keys may vary besides the slots'.
VARYING = ("machine", "sysctl", "sysfs", "workload", "run")


def read_matrix(table: Any, slots: list[str], errors: list[str]) -> Matrix:
    """The checked matrix; each fault is added to `errors`."""
    if not isinstance(table, dict):
        errors.append(f"matrix: must be a table of dotted keys and lists, got {table!r}")
        return Matrix()
    table = dict(table)
    include = _combinations(table.pop("include", []), "matrix.include", slots, errors)
    exclude = _combinations(table.pop("exclude", []), "matrix.exclude", slots, errors)
    axes: dict[str, list[Any]] = {}
    for key, values in flatten(table).items():
        if fault := key_fault(key, slots):
            errors.append(f"matrix.{key}: {fault}")
        elif not isinstance(values, list) or not values:
            errors.append(f"matrix.{key}: must be a list of at least one value, got {values!r}")
        elif any(value in values[:i] for i, value in enumerate(values)):
            errors.append(f"matrix.{key}: must not hold a value twice, got {values!r}")
        else:
            axes[key] = values
    for entry in exclude:
        for key in sorted(set(entry) - set(axes)):
            errors.append(f"matrix.exclude: '{key}' is not varied by the matrix{did_you_mean(key, axes)}")
    return Matrix(axes, include, exclude)


def key_fault(key: str, slots: list[str]) -> str | None:
    """What is wrong with a dotted key as a matrix key, or None."""
    section, _, rest = key.partition(".")
    if section in slots:
        if rest == "use" or (rest.startswith("params.") and rest.count(".") == 1):
            return None
        return f"must be {section}.use or {section}.params.NAME"
    if section == "seeds":
        return "seeds do not belong into the matrix; give them in [seeds]"
    if section not in VARYING:
        known = [*VARYING, *slots]
        return f"must start with one of {', '.join(known)}{did_you_mean(section, known)}"
    if key == "run.jobs":
        return "does not change a result and cannot be varied"
    return None if rest else f"must name a key of [{section}]: {section}.KEY"


def expand(matrix: Matrix) -> list[dict[str, Any]]:
    """Every combination, dotted key -> value, the last key running fastest; then the included ones. One empty one without a matrix."""
    combinations = [dict(zip(matrix.axes, values, strict=True)) for values in itertools.product(*matrix.axes.values())]
    kept = [c for c in combinations if not any(all(k in c and c[k] == v for k, v in entry.items()) for entry in matrix.exclude)]
    if not matrix.axes and matrix.include:
        kept = []
    return kept + [dict(entry) for entry in matrix.include]


def _combinations(value: Any, path: str, slots: list[str], errors: list[str]) -> tuple[dict[str, Any], ...]:
    if not isinstance(value, list) or not all(isinstance(entry, dict) and entry for entry in value):
        errors.append(f"{path}: must be a list of tables, got {value!r}")
        return ()
    entries = tuple(flatten(entry) for entry in value)
    for entry in entries:
        errors.extend(f"{path}: {key}: {fault}" for key in entry if (fault := key_fault(key, slots)))
    return entries
