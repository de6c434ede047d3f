"""What the modules that read figures share: the error for what a result folder does not hold, and the form of an id table."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from mmlab.errors import NotSupported

PAGE_SIZE = 4096
_UNITS = {"": PAGE_SIZE, "B": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}

#: A table of figure forms: the pattern an id must match as a whole, and the function that gets (folder, *groups).
Forms = list[tuple[str, Callable[..., Any]]]


class Unsupported(NotSupported):
    """The simulator has no such mechanism yet, or a result folder lacks the file or field a figure is read from."""


def need(match: re.Match[str] | None, what: str) -> re.Match[str]:
    """The match, or :class:`Unsupported` naming what was looked for."""
    if match is None:
        raise Unsupported(f"no {what}")
    return match


def field(table: dict, key: Any, where: str) -> Any:
    """``table[key]``, or :class:`Unsupported` naming the key and where it should have been."""
    if key not in table:
        raise Unsupported(f"{where} has no {key}")
    return table[key]


def lookup(forms: Forms, fid: str) -> tuple[Callable[..., Any], tuple] | None:
    """The function and groups of the first form that the id matches as a whole."""
    for pattern, function in forms:
        if match := re.fullmatch(pattern, fid):
            return function, match.groups()
    return None


def size_bytes(text: str) -> int:
    """A script's size in bytes: a bare number counts pages, ``B K M G`` count bytes (``4M``, ``-16``, ``0x10``)."""
    match = re.fullmatch(r"(-?(?:0x[0-9a-fA-F]+|\d+))([BKMG]?)", text)
    if match is None:
        raise ValueError(f"{text!r} is not a size")
    return int(match[1], 0) * _UNITS[match[2]]
