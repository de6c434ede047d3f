"""Allocator streams made from the seed (PCG64), part by part: a sample is taken after each part.

In an experiment: `[workload] kind = "allocations"`, `generator = "fragmentation"`, `params = {fill = 0.9}`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
from attrs import asdict, field, frozen
from attrs.validators import and_, ge, gt, le

from mmlab.errors import InputError, did_you_mean
from mmlab.experiment.structure import structure
from mmlab.model.const import MAX_ORDER
from mmlab.model.gfp import GFP_KERNEL
from mmlab.workload.allocations import ALLOC_PAGES, FREE_PAGES, Allocations
from mmlab.workload.gfp_names import gfp_flags

FRACTION = and_(ge(0.0), le(1.0))


def _known_gfp(instance: Any, attribute: Any, value: str) -> None:
    gfp_flags(value)


@frozen(kw_only=True)
class Fragmentation:
    """Memory that ages: filled with blocks of one order, a part of them freed in some pattern, then exchanged for others round by round.

    fill     of the machine's memory, allocated first
    free     of those blocks, freed next
    pattern  which ones: "random", "every" (evenly spaced: every second one for 0.5), "tail" (those allocated last), "runs" (aligned groups of
             512 pages, drawn at random)
    rounds   how often `churn` of the blocks that are left, drawn at random, are freed and allocated again, `batch` at a time
    order    of the blocks
    unmovable  of the blocks, drawn at random, allocated with GFP_KERNEL and never freed
    gfp      of the other allocations
    cpus     CPUs that share the work of each part, the first part of it on CPU 0 and so on
    seed     overrides the experiment's
    """

    name: ClassVar[str] = "fragmentation"

    fill: float = field(default=0.9, validator=FRACTION)
    free: float = field(default=0.5, validator=FRACTION)
    pattern: str = "random"
    rounds: int = field(default=0, validator=ge(0))
    churn: float = field(default=0.1, validator=and_(gt(0.0), le(1.0)))
    batch: int = field(default=1, validator=ge(1))
    order: int = field(default=0, validator=and_(ge(0), le(MAX_ORDER)))
    unmovable: float = field(default=0.0, validator=FRACTION)
    gfp: str = field(default="GFP_HIGHUSER_MOVABLE", validator=_known_gfp)
    cpus: int = field(default=1, validator=and_(ge(1), le(1024)))
    seed: int | None = None

    def __attrs_post_init__(self) -> None:
        if self.pattern not in PATTERNS:
            raise ValueError(f"pattern: must be one of {', '.join(PATTERNS)}, got {self.pattern!r}{did_you_mean(self.pattern, PATTERNS)}")

    def blocks(self, pages: int) -> int:
        """How many blocks fill a machine of so many pages."""
        return int(self.fill * pages) >> self.order

    def total(self, pages: int) -> int:
        """Events of the whole stream."""
        blocks = self.blocks(pages)
        movable = blocks - int(self.unmovable * blocks)
        freed = int(self.free * movable)
        return blocks + freed + 2 * self.rounds * int(self.churn * (movable - freed))

    def events(self, pages: int, seed: int) -> Iterator[Allocations]:
        """The parts: filling, freeing, then each round."""
        rng = np.random.Generator(np.random.PCG64(self.seed if self.seed is not None else seed))
        blocks = self.blocks(pages)
        fill = self._part(np.arange(blocks), ALLOC_PAGES)
        stays = rng.permutation(blocks)[: int(self.unmovable * blocks)] if self.unmovable else np.zeros(0, np.int64)
        fill.gfp[stays] = GFP_KERNEL
        yield fill
        movable = np.setdiff1d(np.arange(blocks), stays, assume_unique=True)
        freed = movable[PATTERNS[self.pattern](rng, len(movable), int(self.free * len(movable)), max(1, 512 >> self.order))]
        yield self._part(freed, FREE_PAGES)
        left = np.setdiff1d(movable, freed, assume_unique=True)
        for _ in range(self.rounds):
            chosen = rng.permutation(left)[: int(self.churn * len(left))]
            yield _in_turns(self._part(chosen, FREE_PAGES), self._part(chosen, ALLOC_PAGES), self.batch)

    def _part(self, blocks: np.ndarray, op: int) -> Allocations:
        n = len(blocks)
        gfp = gfp_flags(self.gfp) if op == ALLOC_PAGES else 0
        return Allocations(
            op=np.full(n, op, np.uint8), id=blocks << self.order, arg=np.full(n, self.order, np.int64), gfp=np.full(n, gfp, np.int64),
            cpu=np.arange(n) * self.cpus // max(n, 1), node=np.full(n, -1, np.int64),
        )  # fmt: skip


def _random(rng: np.random.Generator, blocks: int, count: int, group: int) -> np.ndarray:
    return rng.permutation(blocks)[:count]


def _every(rng: np.random.Generator, blocks: int, count: int, group: int) -> np.ndarray:
    return np.arange(count) * blocks // max(count, 1)


def _tail(rng: np.random.Generator, blocks: int, count: int, group: int) -> np.ndarray:
    return np.arange(blocks - count, blocks)


def _runs(rng: np.random.Generator, blocks: int, count: int, group: int) -> np.ndarray:
    chosen = (rng.permutation(-(-blocks // group))[:, None] * group + np.arange(group)).ravel()
    return chosen[chosen < blocks][:count]


PATTERNS = {"random": _random, "every": _every, "tail": _tail, "runs": _runs}


def _in_turns(first: Allocations, second: Allocations, batch: int) -> Allocations:
    """`batch` events of the one, the same of the other, and so on."""
    n = len(first)
    order = np.argsort(np.concatenate((2 * (np.arange(n) // batch), 2 * (np.arange(n) // batch) + 1)), kind="stable")
    names = ("op", "id", "arg", "gfp", "cpu", "node")
    columns: dict[str, Any] = {name: np.concatenate((getattr(first, name), getattr(second, name)))[order] for name in names}
    return Allocations(**columns)


@frozen
class GeneratedAllocations:
    """A generator's stream for a machine of so many pages."""

    generator: Fragmentation
    pages: int
    seed: int
    caches: tuple[int, ...] = ()

    @property
    def meta(self) -> dict[str, Any]:
        return {"source": "synthetic", "generator": self.generator.name, "params": asdict(self.generator), "seed": self.seed}

    @property
    def events(self) -> int:
        return self.generator.total(self.pages)

    @property
    def nr_page_ids(self) -> int:
        return self.generator.blocks(self.pages) << self.generator.order

    @property
    def nr_object_ids(self) -> int:
        return 0

    def parts(self) -> Iterator[Allocations]:
        """Part by part."""
        return self.generator.events(self.pages, self.seed)


GENERATORS: dict[str, type] = {Fragmentation.name: Fragmentation}


def make_allocation_generator(name: str, params: dict[str, Any], where: str = "params") -> Fragmentation:
    """The record of generator `name` with `params`. Raises `InputError` with every fault."""
    if name not in GENERATORS:
        raise InputError(f"{where}: no generator of allocations named {name!r} (known: {', '.join(GENERATORS)}){did_you_mean(name, GENERATORS)}")
    errors: list[str] = []
    made = structure(GENERATORS[name], params, where, errors)
    if errors:
        raise InputError(errors)
    return made
