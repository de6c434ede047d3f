"""Synthetic access streams: one frozen record a generator, deterministic from the seed (PCG64).

Every generator knows its map's size in pages and makes page numbers in it; the rest (tasks in turns, writes, the operations in front) is
common. In an experiment: `[workload] kind = "synthetic"`, `generator = "zipf"`, `params = {pages = 1000, events = 100000}`.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from attrs import asdict, field, frozen
from attrs.validators import and_, ge, gt, le, min_len

from mmlab.errors import InputError, did_you_mean
from mmlab.experiment.structure import structure
from mmlab.workload.maps import BASE_PAGE, mapped_stream
from mmlab.workload.stream import KIND_READ, KIND_WRITE, MAX_TASKS, EventStream, pack


@frozen(kw_only=True)
class Generator:
    """What all generators share.

    pages           size of the region that is used, in pages
    events          accesses of each task
    first_page      where the region starts in the task's map
    write_fraction  of the accesses, drawn for each by itself
    tasks           how many tasks do this, each in its own address space and with its own random numbers
    quantum         accesses a task makes before the next has its turn
    seed            overrides the experiment's seed
    """

    name: ClassVar[str]

    pages: int = field(validator=ge(1))
    events: int = field(validator=ge(0))
    first_page: int = field(default=0, validator=ge(0))
    write_fraction: float = field(default=0.0, validator=and_(ge(0), le(1)))
    tasks: int = field(default=1, validator=and_(ge(1), le(MAX_TASKS)))
    quantum: int = field(default=1000, validator=ge(1))
    seed: int | None = None

    @property
    def map_pages(self) -> int:
        """Size of a task's map."""
        return self.first_page + self.pages

    def page_numbers(self, rng: np.random.Generator) -> np.ndarray:
        """The accesses of one task as int64[events], 0 … pages - 1."""
        raise NotImplementedError

    def accesses(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """One task's (map page int64[events], kind int64[events])."""
        pages = self.first_page + self.page_numbers(rng)
        if not self.write_fraction:
            return pages, np.full(len(pages), KIND_READ, np.int64)
        return pages, np.where(rng.random(len(pages)) < self.write_fraction, KIND_WRITE, KIND_READ)

    def stream(self, seed: int = 0) -> EventStream:
        """The whole stream. seed: used where the record has none of its own."""
        seed = self.seed if self.seed is not None else seed
        words = []
        for task in range(self.tasks):
            rng = np.random.Generator(np.random.PCG64(seed if task == 0 else [seed, task]))
            pages, kinds = self.accesses(rng)
            words.append(pack(kinds, task, BASE_PAGE + pages))
        names = [f"T{task}" for task in range(self.tasks)]
        meta = {"source": "synthetic", "generator": self.name, "params": asdict(self), "seed": seed}
        return mapped_stream(_in_turns(words, self.quantum), names, [self.map_pages] * self.tasks, meta)


def _in_turns(words: list[np.ndarray], quantum: int) -> np.ndarray:
    """`quantum` words of each stream in turn, until all are done."""
    if len(words) == 1:
        return words[0]
    turn = np.concatenate([np.arange(len(w)) // quantum for w in words])
    return np.concatenate(words)[np.argsort(turn, kind="stable")]


@frozen(kw_only=True)
class Uniform(Generator):
    """Each access to a page drawn at random, all equally likely."""

    name = "uniform"

    def page_numbers(self, rng: np.random.Generator) -> np.ndarray:
        return rng.integers(0, self.pages, self.events, dtype=np.int64)


@frozen(kw_only=True)
class Zipf(Generator):
    """The page of rank k is drawn with probability proportional to 1 / k**alpha.

    alpha    skew; 0 is uniform
    scatter  ranks lie scattered over the region (by the seed); otherwise page 0 is the hottest
    """

    name = "zipf"

    alpha: float = field(default=1.0, validator=ge(0))
    scatter: bool = True

    def page_numbers(self, rng: np.random.Generator) -> np.ndarray:
        cumulative = np.cumsum(1.0 / np.arange(1, self.pages + 1) ** self.alpha)
        cumulative /= cumulative[-1]
        page_of_rank = rng.permutation(self.pages) if self.scatter else np.arange(self.pages)
        ranks = np.searchsorted(cumulative, rng.random(self.events), side="right")
        return page_of_rank[np.minimum(ranks, self.pages - 1)].astype(np.int64, copy=False)


@frozen(kw_only=True)
class Scan(Generator):
    """One pass over the region, never coming back.

    stride   pages from one to the next
    touches  accesses to a page before the next one
    """

    name = "scan"

    stride: int = field(default=1, validator=ge(1))
    touches: int = field(default=1, validator=ge(1))

    def __attrs_post_init__(self) -> None:
        most = -(-self.pages // self.stride) * self.touches
        if self.events > most:
            raise ValueError(f"events: one pass makes at most {most} accesses, got {self.events} (generator 'loop' goes round)")

    def page_numbers(self, rng: np.random.Generator) -> np.ndarray:
        return np.arange(self.events, dtype=np.int64) // self.touches * self.stride


@frozen(kw_only=True)
class Loop(Generator):
    """The region from its start to its end, again and again. stride: pages from one access to the next."""

    name = "loop"

    stride: int = field(default=1, validator=ge(1))

    def page_numbers(self, rng: np.random.Generator) -> np.ndarray:
        return np.arange(self.events, dtype=np.int64) % -(-self.pages // self.stride) * self.stride


@frozen(kw_only=True)
class Drift(Generator):
    """A working set that moves: uniform accesses in a window whose start advances through the region, round and round.

    working_set      pages of the window
    events_per_page  accesses until the window's start moves on by one page
    """

    name = "drift"

    working_set: int = field(validator=ge(1))
    events_per_page: int = field(validator=gt(0))

    def __attrs_post_init__(self) -> None:
        if self.working_set > self.pages:
            raise ValueError(f"working_set: must be at most pages ({self.pages}), got {self.working_set}")

    def page_numbers(self, rng: np.random.Generator) -> np.ndarray:
        start = np.arange(self.events, dtype=np.int64) // self.events_per_page
        return (start + rng.integers(0, self.working_set, self.events, dtype=np.int64)) % self.pages


@frozen(kw_only=True)
class _Turns:
    """The keys of `phases` beside the list itself."""

    repeat: int = field(default=1, validator=ge(1))
    tasks: int = field(default=1, validator=and_(ge(1), le(MAX_TASKS)))
    quantum: int = field(default=1000, validator=ge(1))
    seed: int | None = None


@frozen(kw_only=True)
class Phases(_Turns):
    """Generators one after the other, over one map. phases: their records, all with one task; repeat: how often the whole list runs."""

    name: ClassVar[str] = "phases"

    phases: tuple[Generator, ...] = field(validator=min_len(1))

    map_pages = property(lambda self: max(phase.map_pages for phase in self.phases))
    stream = Generator.stream

    def accesses(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """One task's (map page, kind) arrays."""
        parts = [phase.accesses(rng) for _ in range(self.repeat) for phase in self.phases]
        return np.concatenate([pages for pages, _ in parts]), np.concatenate([kinds for _, kinds in parts])


@frozen(kw_only=True)
class _Both:
    """The keys of `together` beside the list itself."""

    quantum: int = field(default=1000, validator=ge(1))
    seed: int | None = None


@frozen(kw_only=True)
class Together(_Both):
    """Tasks that differ: each of `parts` is a generator with keys of its own (`tasks`: so many alike), all take turns of `quantum` accesses."""

    name: ClassVar[str] = "together"

    parts: tuple[Generator, ...] = field(validator=min_len(1))

    def stream(self, seed: int = 0) -> EventStream:
        """The whole stream. seed: used where the record has none of its own."""
        seed = self.seed if self.seed is not None else seed
        makers = [part for part in self.parts for _ in range(part.tasks)]
        words = []
        for task, part in enumerate(makers):
            pages, kinds = part.accesses(np.random.Generator(np.random.PCG64([seed, task])))
            words.append(pack(kinds, task, BASE_PAGE + pages))
        names = [f"T{task}" for task in range(len(makers))]
        meta = {"source": "synthetic", "generator": self.name, "params": asdict(self), "seed": seed}
        return mapped_stream(_in_turns(words, self.quantum), names, [part.map_pages for part in makers], meta)


GENERATORS: dict[str, type] = {cls.name: cls for cls in (Uniform, Zipf, Scan, Loop, Drift, Phases, Together)}
#: generators made of others: the key of their list, and the keys that belong to the whole
_COMPOSED: dict[str, tuple[str, tuple[str, ...]]] = {"phases": ("phases", ("tasks", "quantum", "seed")), "together": ("parts", ("quantum", "seed"))}


def make_generator(name: str, params: dict[str, Any], where: str = "params") -> Generator | Phases | Together:
    """The record of generator `name` with `params` (as a TOML table holds them).

    A table in `phases` or `parts` has the key `generator` and that generator's own keys. Raises `InputError` with every fault; `where` is the
    key path that the messages start with.
    """
    errors: list[str] = []
    generator = _make(name, params, where, errors)
    if errors:
        raise InputError(errors)
    assert generator is not None
    return generator


def _make(name: str, params: dict[str, Any], where: str, errors: list[str]) -> Generator | Phases | Together | None:
    if name not in GENERATORS:
        known = ", ".join(sorted(GENERATORS))
        errors.append(f"{where}: no generator named '{name}' (known: {known}){did_you_mean(str(name), GENERATORS)}")
        return None
    if name not in _COMPOSED:
        return structure(GENERATORS[name], params, where, errors)
    key, of_the_whole = _COMPOSED[name]
    tables = params.get(key)
    if not isinstance(tables, list) or not tables or not all(isinstance(table, dict) for table in tables):
        errors.append(f"{where}.{key}: must be a list of tables, each with a generator and its params, got {tables!r}")
        return None
    parts: list[Any] = []
    for number, table in enumerate(tables):
        path = f"{where}.{key}[{number}]"
        inner = table.get("generator")
        if inner is None or inner in _COMPOSED:
            errors.append(f"{path}.generator: must name a generator other than {' and '.join(map(repr, _COMPOSED))}, got {inner!r}")
            continue
        errors += [f"{path}.{own}: belongs to the whole stream, not to a part of it" for own in of_the_whole if own in table]
        parts.append(_make(inner, {k: v for k, v in table.items() if k != "generator" and k not in of_the_whole}, path, errors))
    common = structure(_Turns if name == "phases" else _Both, {k: v for k, v in params.items() if k != key}, where, errors)
    if common is None or None in parts or len(parts) != len(tables):
        return None
    if name == "phases":
        return Phases(phases=tuple(parts), **asdict(common))
    tasks = sum(part.tasks for part in parts)
    if tasks > MAX_TASKS:
        errors.append(f"{where}.parts: must make at most {MAX_TASKS} tasks, got {tasks}")
        return None
    return Together(parts=tuple(parts), **asdict(common))
