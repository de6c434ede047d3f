"""masim's configuration files as access streams: regions, then phases of so many milliseconds with a pattern of accesses for some regions.

The text says what is accessed when, so it is the ground truth for monitors (`Masim.shares()`). A paragraph of `name, bytes[, file]` lines,
then one a phase: its name, its time in ms, and lines `region, 1 random or 0 sequential, stride in bytes, probability[, ro|wo|rw]`; lines that
begin with # are comments. masim runs as fast as the CPU; here each millisecond has `accesses_per_ms` accesses and the task sleeps for the
rest of it, so that phases last as long as they say. A region with a file of initial data is written once from its start before the first
phase, as masim loads it. Left out: that file's own pages, hints, repetitions, and batches: the pattern is drawn for each access, not for
131,072 of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from attrs import frozen

from mmlab.errors import InputError, did_you_mean
from mmlab.workload.operation import PAGE_SIZE, Place
from mmlab.workload.ops import make_operation
from mmlab.workload.stream import KIND_OPERATION, KIND_READ, KIND_WRITE, STREAM_BASE, EventStream, pack

TASK = "masim"
MODES = ("ro", "wo", "rw")
#: a program has more than its data: text below and a stack above, of a page each (DAMON looks for the two biggest gaps between maps)
TEXT, STACK = 0x400000, 0x7FFFFFFFD000


@frozen
class Region:
    """A map of its own. start: page number behind STREAM_BASE; loaded: it begins with data from a file."""

    name: str
    size: int
    start: int
    loaded: bool = False

    @property
    def pages(self) -> int:
        return -(-self.size // PAGE_SIZE)


@frozen
class Pattern:
    """Accesses to a region. stride in bytes; probability: its part of a phase's accesses, relative to the others'."""

    region: Region
    random: bool
    stride: int
    probability: int
    mode: str


@frozen
class Phase:
    name: str
    ms: int
    patterns: tuple[Pattern, ...]


@frozen
class Masim:
    """A configuration file, read."""

    regions: tuple[Region, ...]
    phases: tuple[Phase, ...]

    def shares(self, ms: float) -> dict[str, float]:
        """Each region's part of all accesses at a time since the start; of the last phase behind the end."""
        phase, end = self.phases[-1], 0
        for one in self.phases:
            end += one.ms
            if ms < end:
                phase = one
                break
        total = sum(pattern.probability for pattern in phase.patterns)
        shares = {region.name: 0.0 for region in self.regions}
        for pattern in phase.patterns:
            shares[pattern.region.name] += pattern.probability / total
        return shares

    def stream(self, accesses_per_ms: int, seed: int) -> EventStream:
        """The whole run as a stream with the same accesses for the same seed (PCG64)."""
        rng = np.random.Generator(np.random.PCG64(seed))
        words, ms = [], 0
        for phase in self.phases:
            made = self._phase(phase, accesses_per_ms, rng)
            # behind each millisecond's accesses an operation: sleep until it is over
            sleeps = pack(KIND_OPERATION, 0, 1 + len(self.regions) + 2 + ms + np.arange(phase.ms))
            words.append(np.concatenate([made.reshape(phase.ms, -1), sleeps[:, None]], axis=1).ravel())
            ms += phase.ms
        maps = [("text", TEXT, PAGE_SIZE), ("stack", STACK, PAGE_SIZE)]
        maps += [(region.name, STREAM_BASE + region.start * PAGE_SIZE, region.pages * PAGE_SIZE) for region in self.regions]
        ops = [make_operation("spawn", TASK, f"spawn {TASK}")]
        ops += [
            make_operation("mmap", TASK, f"mmap {TASK} {name} {size} anon at={at:#x}", region=name, size=size, file=None, at=Place(None, at))
            for name, at, size in maps
        ]
        ops += [make_operation("sleep", None, f"sleep until {i + 1} ms", ms=i + 1) for i in range(ms)]
        front = pack(KIND_OPERATION, 0, np.arange(len(maps) + 1))
        touched = pack(KIND_READ, 0, np.array([TEXT, STACK]) // PAGE_SIZE)
        loaded = [pack(KIND_WRITE, 0, STREAM_BASE // PAGE_SIZE + region.start + np.arange(region.pages)) for region in self.regions if region.loaded]
        meta = {"source": "masim", "accesses_per_ms": accesses_per_ms, "seed": seed}
        return EventStream(np.concatenate([front, touched, *loaded, *words]), tuple(ops), (TASK,), meta)

    def _phase(self, phase: Phase, accesses_per_ms: int, rng: np.random.Generator) -> np.ndarray:
        """int64 words of a phase's accesses: `rw` makes a read and then a write of the same page out of two of them."""
        total = phase.ms * accesses_per_ms
        weight = np.array([pattern.probability for pattern in phase.patterns], np.float64)
        chosen = rng.choice(len(weight), size=total, p=weight / weight.sum())
        words = np.zeros(total, np.int64)
        for number, pattern in enumerate(phase.patterns):
            mine = np.flatnonzero(chosen == number)
            step = np.arange(len(mine)) // (2 if pattern.mode == "rw" else 1)
            steps = int(step[-1]) + 1 if len(mine) else 0
            if pattern.random:
                offset = rng.integers(0, pattern.region.size, steps)[step]
            else:
                offset = (step + 1) % -(-pattern.region.size // pattern.stride) * pattern.stride  # masim steps before it accesses
            page = offset // PAGE_SIZE
            kind = np.arange(len(mine)) % 2 if pattern.mode == "rw" else KIND_READ if pattern.mode == "ro" else KIND_WRITE
            words[mine] = pack(kind, 0, STREAM_BASE // PAGE_SIZE + pattern.region.start + page)
        return words


def read_masim(path: str | Path) -> Masim:
    """Read a configuration file. InputError has every fault with its line."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from None
    errors: list[str] = []
    paragraphs = list(_paragraphs(text))
    if len(paragraphs) < 2:
        raise InputError(f"{path}: must have a paragraph of regions and one or more of phases, got {len(paragraphs)} paragraphs")
    regions = _regions(paragraphs[0], errors)
    phases = [_phase(lines, {region.name: region for region in regions}, errors) for lines in paragraphs[1:]]
    if errors:
        raise InputError([f"{path}:{message}" for message in errors])
    return Masim(tuple(regions), tuple(phase for phase in phases if phase is not None))


def _paragraphs(text: str) -> Iterator[list[tuple[int, str]]]:
    """Lines with their numbers, without comments; an empty line ends a paragraph."""
    lines: list[tuple[int, str]] = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("#"):
            continue
        if line.strip():
            lines.append((number, line))
        elif lines:
            yield lines
            lines = []
    if lines:
        yield lines


def _regions(lines: list[tuple[int, str]], errors: list[str]) -> list[Region]:
    found: list[Region] = []
    for number, line in lines:
        fields = [field.strip() for field in line.split(",")]
        if len(fields) not in (2, 3) or not fields[0]:
            errors.append(f"{number}: a region is `name, bytes[, data file]`, got {line!r}")
            continue
        size = _number(fields[1], 1, f"{number}: bytes of region {fields[0]!r}", errors)
        if fields[0] in [region.name for region in found]:
            errors.append(f"{number}: there is a region named {fields[0]!r} already")
        start = found[-1].start + found[-1].pages if found else 0
        found.append(Region(fields[0], max(size, 1), start, loaded=len(fields) == 3 and fields[2] not in ("", "none")))
    return found


def _phase(lines: list[tuple[int, str]], regions: dict[str, Region], errors: list[str]) -> Phase | None:
    first, name = lines[0]
    if len(lines) < 3:
        errors.append(f"{first}: a phase is its name, its ms and a line or more of patterns, got {len(lines)} lines")
        return None
    ms = _number(lines[1][1].strip(), 1, f"{lines[1][0]}: ms of phase {name.strip()!r}", errors)
    patterns = []
    for number, line in lines[2:]:
        fields = [field.strip() for field in line.split(",")]
        if len(fields) not in (4, 5):
            errors.append(f"{number}: a pattern is `region, random, stride, probability[, ro|wo|rw]`, got {line!r}")
            continue
        if fields[0] not in regions:
            errors.append(f"{number}: no region named {fields[0]!r} (known: {', '.join(regions)}){did_you_mean(fields[0], regions)}")
            continue
        random = _number(fields[1], 0, f"{number}: random", errors)
        stride = _number(fields[2], 0 if random else 1, f"{number}: stride", errors)
        probability = _number(fields[3], 0, f"{number}: probability", errors)
        mode = fields[4] if len(fields) == 5 else "wo"
        if mode not in MODES:
            errors.append(f"{number}: the mode must be one of {', '.join(MODES)}, got {mode!r}")
        patterns.append(Pattern(regions[fields[0]], bool(random), stride, probability, mode))
    if patterns and not sum(pattern.probability for pattern in patterns):
        errors.append(f"{first}: some pattern of phase {name.strip()!r} must have a probability above 0")
    return Phase(name.strip(), ms, tuple(patterns))


def _number(text: str, least: int, what: str, errors: list[str]) -> int:
    if text.isascii() and text.isdigit() and int(text) >= least:
        return int(text)
    errors.append(f"{what} must be a whole number of at least {least}, got {text!r}")
    return least
