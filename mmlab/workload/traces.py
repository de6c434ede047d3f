"""The recorded programs that come with mmlab: `mmlab/traces/NAME.mmtrace`; its README says how each was made."""

from __future__ import annotations

from pathlib import Path


def shipped() -> dict[str, Path]:
    """Name -> file."""
    folder = Path(__file__).parent.parent / "traces"
    return {path.stem: path for path in sorted(folder.glob("*.mmtrace"))}
