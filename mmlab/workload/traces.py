"""The recordings that come with mmlab: programs `mmlab/traces/NAME.mmtrace`, allocator traces `NAME.kmem.txt.zst`; the README there says how
each was made."""

from __future__ import annotations

from pathlib import Path


def shipped() -> dict[str, Path]:
    """Name -> file."""
    folder = Path(__file__).parent.parent / "traces"
    return {path.stem: path for path in sorted(folder.glob("*.mmtrace"))}


def shipped_allocations() -> dict[str, Path]:
    """Name -> file of the recorded allocator traces, for workloads of kind "allocations"."""
    folder = Path(__file__).parent.parent / "traces"
    return {path.name.removesuffix(".kmem.txt.zst"): path for path in sorted(folder.glob("*.kmem.txt.zst"))}
