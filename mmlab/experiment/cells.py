"""A cell: one combination of an experiment's settings with one seed, named by the hash of everything that decides its outcome."""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from attrs import field, frozen

#: Parts of the package that show or check results and cannot change them.
NOT_THE_CORE = ("cli.py", "__main__.py", "__init__.py", "results", "verify", "testing", "experiment", "traces", "newplugin_templates")


@frozen
class Cell:
    """One run of the simulator.

    experiment: the experiment's name, also its folder under the results folder.
    key: sha256, 64 hex digits, over `config` and the digests of plugins, trace and core (`cell_key`).
    config: plain JSON values, everything resolved. `machine`, `sysctl`, `sysfs` are the tables for `machine_from_table`::

        {"machine": {...}, "sysctl": {...}, "sysfs": {...}, "workload": {"kind": ..., ...},
         "policies": {slot: {"use": name, "params": {...}}}, "seed": 1, "run": {"check_every": 0, "sample_ns": 10000000}}

    base_dir: folder of the TOML or script. Paths in `config` stay as they were written, so that a key does not depend on where
        the project lies; `cell.path(text)` finds the file.
    axes: what the matrix set for this cell, dotted key -> value; None where the key does not exist for the chosen policy.
    """

    experiment: str
    key: str
    config: dict[str, Any]
    base_dir: Path = field(converter=Path)
    axes: dict[str, Any] = field(factory=dict)

    @property
    def seed(self) -> int:
        return int(self.config["seed"])

    def path(self, text: str) -> Path:
        """The file a configuration names: relative to the experiment's folder, else to the working directory."""
        return resolve_path(text, self.base_dir)

    @property
    def label(self) -> str:
        """`reclaimer.use=clock seed=1`: what tells this cell from its neighbours."""
        return " ".join([*(f"{k}={v}" for k, v in self.axes.items() if v is not None), f"seed={self.seed}"])


def resolve_path(text: str, base_dir: Path) -> Path:
    """`base_dir / text` if it exists, else `text` from the working directory if that exists, else the first (for messages)."""
    near = base_dir / Path(text).expanduser()
    here = Path(text).expanduser()
    return here.absolute() if here.exists() and not near.exists() else near.absolute()


def canonical_json(value: Any) -> str:
    """The one JSON text of a value: sorted keys, no spaces; a NaN is refused."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def cell_key(config: dict[str, Any], digests: dict[str, Any]) -> str:
    """Hash of a resolved configuration and of the sources and files that decide what it gives.

    The order of [sysctl] and [sysfs] counts: that is how they are written, and a kdamond starts with what it has by then.
    digests: name -> digest or nested dict of them: `core`, `plugins` (slot -> source digest), `workload` (file digest, or None).
    """
    written = [list(config.get(table, ())) for table in ("sysctl", "sysfs")]
    return hashlib.sha256(canonical_json({"config": config, "written": written, "digests": digests}).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """sha256 of a file's bytes; of a folder, of its files' names and bytes in order."""
    if path.is_dir():
        return _digest_files(sorted(p for p in path.rglob("*") if p.is_file()), path)
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


@lru_cache(maxsize=1)
def core_source_digest() -> str:
    """sha256 over mmlab's own sources and data, without the parts that only show or check results."""
    root = Path(__file__).parent.parent
    files = [
        p
        for p in sorted(root.rglob("*"))
        if p.is_file() and p.suffix not in (".pyc", ".pyo") and p.relative_to(root).parts[0] not in NOT_THE_CORE
    ]
    return _digest_files(files, root)


def _digest_files(files: list[Path], root: Path) -> str:
    digest = hashlib.sha256()
    for path in files:
        digest.update(str(path.relative_to(root)).encode() + b"\0" + file_digest(path).encode() + b"\n")
    return digest.hexdigest()
