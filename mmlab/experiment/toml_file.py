"""Reading TOML: the only file of mmlab that knows the format. Everything behind it sees plain tables."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomli

from mmlab.errors import InputError


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file; InputError with file, line and column when it is broken, missing or no text."""
    try:
        text = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not a UTF-8 text (byte {error.start})") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    try:
        return tomli.loads(text)
    except tomli.TOMLDecodeError as error:
        line, column = getattr(error, "lineno", None), getattr(error, "colno", None)
        place = f"{path}:{line}:{column}" if line else str(path)
        raise InputError(f"{place}: broken TOML: {getattr(error, 'msg', error)}") from None


def read_set(item: str, option: str = "--set", example: str = "reclaimer.use=fifo") -> tuple[str, Any]:
    """Key and value of an option's `key=value`: TOML if it parses (`250`, `true`, `[1, 2]`, `"x"`), else the text itself."""
    key, equals, text = item.partition("=")
    if not equals or not key.strip():
        raise InputError(f"{option} {item}: must read KEY=VALUE, for example {option} {example}")
    try:
        return key.strip(), tomli.loads(f"value = {text}")["value"]
    except (tomli.TOMLDecodeError, KeyError):
        return key.strip(), text.strip()


def apply_changes(tables: dict[str, Any], changes: Mapping[str, Any]) -> None:
    """Put each value at its dotted key. A key that the matrix varies stops varying: the value given holds."""
    for key, value in changes.items():
        put(tables, key, value)
        if isinstance(matrix := tables.get("matrix"), dict) and not key.startswith("matrix."):
            _forget(matrix, key)


def put(tables: dict[str, Any], key: str, value: Any) -> None:
    """`tables[a][b][c] = value` for the key "a.b.c", making the tables between; InputError if a value is in the way."""
    *parents, last = key.split(".")
    for name in parents:
        tables = tables.setdefault(name, {})
        if not isinstance(tables, dict):
            raise InputError(f"{key}: '{name}' is a value, not a table")
    tables[last] = value


def get(tables: Any, key: str) -> Any:
    """The value at a dotted key, or None."""
    for name in key.split("."):
        if not isinstance(tables, dict) or name not in tables:
            return None
        tables = tables[name]
    return tables


def flatten(table: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted key -> value; `"a.b" = 1`, `a.b = 1` and `[a] b = 1` are the same."""
    flat = {}
    for key, value in table.items():
        flat.update(flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value})
    return flat


def _forget(matrix: dict[str, Any], key: str) -> None:
    matrix.pop(key, None)
    head, _, rest = key.partition(".")
    if rest and isinstance(matrix.get(head), dict):
        _forget(matrix[head], rest)
