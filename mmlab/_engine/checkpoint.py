"""A half-run cell on disk: the arrays of the machine and its policies, only where they hold something, and what Python knows beside them."""

from __future__ import annotations

import json
import mmap
import os
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

_PAGE = 4096
_SMALL = 1 << 20
_PRESENT_OR_SWAPPED = np.uint64(3 << 62)  # bits 63 and 62 of a word in /proc/self/pagemap


def arrays_of(sim: Any) -> dict[str, np.ndarray]:
    """Every array of a simulation's machine and of its policies."""
    states = {"machine": sim.machine, **sim.machine.states}
    return {f"{owner}.{name}": array for owner, state in states.items() for name, array in state.arrays().items()}


def save(folder: Path, arrays: Mapping[str, np.ndarray], rest: Mapping[str, Any]) -> None:
    """Write a checkpoint; the folder appears whole or not at all. rest must be JSON."""
    partial = folder.with_name(folder.name + ".new")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    (partial / "rest.json").write_text(json.dumps(rest))
    contents: dict[str, Any] = {}
    for name, array in arrays.items():
        octets = array.view(np.uint8)
        pages = _pages_in_use(octets)
        contents[f"{name}:pages"] = pages
        contents[f"{name}:octets"] = np.concatenate([octets[p * _PAGE : (p + 1) * _PAGE] for p in pages]) if len(pages) else octets[:0]
    np.savez(partial / "arrays.npz", **contents)
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(partial, folder)


def load(folder: Path, arrays: Mapping[str, np.ndarray]) -> dict[str, Any] | None:
    """Bring the arrays (of a machine made in the same way) to where they were, and return `rest`; None if there is no usable checkpoint."""
    try:
        rest = json.loads((folder / "rest.json").read_text())
        with np.load(folder / "arrays.npz", allow_pickle=False) as saved:
            if {name.rsplit(":", 1)[0] for name in saved.files} != set(arrays):
                return None
            contents = {name: saved[name] for name in saved.files}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile):
        return None
    for name, array in arrays.items():
        octets, stored = array.view(np.uint8), contents[f"{name}:octets"]
        for page in _pages_in_use(octets):
            octets[page * _PAGE : (page + 1) * _PAGE] = 0
        at = 0
        for page in contents[f"{name}:pages"]:
            part = octets[page * _PAGE : (page + 1) * _PAGE]
            part[:] = stored[at : at + len(part)]
            at += len(part)
    return rest


def _pages_in_use(octets: np.ndarray) -> np.ndarray:
    """Numbers of the 4096-byte pieces of an array that are not all zero. Large arrays are reserved address space: what was never touched is
    not looked at, since looking would take memory."""
    nr_pages = -(-len(octets) // _PAGE)
    touched = np.arange(nr_pages) if len(octets) <= _SMALL else _touched(octets, nr_pages)
    return np.array([page for page in touched if octets[page * _PAGE : (page + 1) * _PAGE].any()], np.int64)


def _touched(octets: np.ndarray, nr_pages: int) -> np.ndarray:
    """Pieces that lie (in part) in memory that this process has touched."""
    address = octets.ctypes.data
    first, last = address // mmap.PAGESIZE, (address + len(octets) - 1) // mmap.PAGESIZE
    with open("/proc/self/pagemap", "rb") as pagemap:
        pagemap.seek(first * 8)
        words = np.fromfile(pagemap, np.uint64, last - first + 1)
    used = np.flatnonzero(words & _PRESENT_OR_SWAPPED)
    start = (used + first) * mmap.PAGESIZE - address  # a host page covers one or two pieces
    pieces = np.unique(np.concatenate([start // _PAGE, (start + mmap.PAGESIZE - 1) // _PAGE]))
    return pieces[(pieces >= 0) & (pieces < nr_pages)]
