"""first_fit: always the lowest free aligned run, in a zone of 64 MiB that begins at frame 4096."""

from __future__ import annotations

import pytest
from zone_machine import ZoneMachine

from mmlab.model import rows as r
from mmlab.model.const import ENOMEM
from mmlab_rivals.page_allocator.first_fit import FIRST_FIT


@pytest.fixture(scope="module")
def booted():
    return ZoneMachine(FIRST_FIT, "64M")


@pytest.fixture
def z(booted):
    booted.reset()
    return booted


def test_requests_fill_memory_from_below(z):
    assert [z.alloc(order) for order in (0, 1, 0, 3, 0, 4)] == [4096, 4098, 4097, 4104, 4100, 4112]
    assert [z.alloc(order) for order in (5, 6, 10, 0)] == [4128, 4160, 5120, 4101]
    assert z.check() == 0


def test_a_freed_hole_is_used_before_what_lies_above(z):
    pages = [z.alloc() for _ in range(64)]
    z.free(pages[40])
    z.free(pages[7])
    assert [z.alloc() for _ in range(3)] == [pages[7], pages[40], 4160]


def test_every_order_to_the_end_of_memory(z):
    for order in range(11):
        z.reset()
        got = [z.alloc(order) for _ in range((16384 >> order) + 1)]
        assert got == [*range(4096, 20480, 1 << order), -ENOMEM]
        assert z.nr_free() == 0
        assert z.check() == 0


def test_counts_are_those_of_maximal_aligned_runs(z):
    z.alloc(4)
    assert [z.blocks(order) for order in range(11)] == [0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 15]
    assert [z.is_free(pfn) for pfn in (4096, 4112, 4113, 4128, 4608, 5120)] == [0, 5, 0, 6, 10, 11]
    assert z.blocks(4, migratetype=0) == 0
    z.free(4096, 4)
    assert [z.blocks(order) for order in range(11)] == [0] * 10 + [16]


def test_a_zone_that_begins_and_ends_within_a_word(z):
    z.row[r.Z_START_PFN], z.row[r.Z_END_PFN] = 4096 + 5, 4096 + 77
    assert [z.alloc(order) for order in (0, 3, 5, 5)] == [4101, 4104, 4128, -ENOMEM]
    assert [z.alloc(order) for order in (3, 3, 3, 2, 2)] == [4112, 4120, 4160, 4168, -ENOMEM]
    assert [z.alloc(order) for order in (1, 0, 0)] == [4102, 4172, -ENOMEM]


def test_check_finds_damage(z):
    z.m.states["page_allocator"].bits[4096 >> 5] = 1
    assert z.check() > 0
    z.reset()
    z.row[r.Z_FREE] += 1
    assert z.check() > 0
