"""Which frames have a struct page, where it is, and what struct pages cost."""

from __future__ import annotations

import numpy as np
import pytest

from mmlab.kernels.services import alloc_pages
from mmlab.model.gfp import GFP_KERNEL
from mmlab.simulation import Simulation
from mmlab.testing.harness import small_machine
from mmlab_linux.memory_model.sparsemem_vmemmap import SPARSEMEM_VMEMMAP
from mmlab_rivals.memory_model.flatmem import FLATMEM
from mmlab_rivals.memory_model.sparsemem import SPARSEMEM

SECTION = 32768


class Model:
    """One memory model's ops on a machine."""

    def __init__(self, policy, memory: str = "64M", **table):
        self.m = small_machine(memory, table=table or None, memory_model=policy)

    def __getattr__(self, name):
        return lambda *args: self.m.op("memory_model", name, *args)


@pytest.fixture(scope="module", params=[SPARSEMEM_VMEMMAP, FLATMEM], ids=lambda policy: policy.name)
def small(request):
    return Model(request.param)


def test_every_present_frame_of_a_machine_is_valid_and_none_outside(small):
    zone = small.m.zone
    first, last = int(zone[2]), int(zone[3])  # a bare machine: one zone, no holes
    assert [small.pfn_valid(pfn) for pfn in (first, first + 5000, last - 1)] == [1, 1, 1]
    assert [small.pfn_valid(pfn) for pfn in (-1, first - 1, last, 1 << 40)] == [0, 0, 0, 0]
    assert small.check() == 0


def test_page_to_pfn_undoes_pfn_to_page(small):
    first = int(small.m.zone[2])
    for pfn in (first, first + 1, first + 16383):
        assert small.page_to_pfn(small.pfn_to_page(pfn)) == pfn


def test_where_struct_pages_lie():
    first = 4096
    assert Model(SPARSEMEM_VMEMMAP).pfn_to_page(first) == first
    assert Model(FLATMEM).pfn_to_page(first) == 0


def test_a_section_costs_512_pages_even_for_one_frame():
    model = Model(SPARSEMEM_VMEMMAP)  # frames 4096 .. 20479, all in section 0
    assert model.memmap_pages(4096, 20480) == 512
    assert model.memmap_pages(4096, 4097) == 512
    assert model.memmap_pages(0, 10 * SECTION) == 512
    assert model.memmap_pages(20480, 10 * SECTION) == model.memmap_pages(5000, 5000) == 0


@pytest.mark.parametrize("frames, pages", [(1, 1), (64, 1), (65, 2), (16384, 256), (0, 0)])
def test_flatmem_costs_64_bytes_a_frame_in_whole_pages(frames, pages):
    assert Model(FLATMEM).memmap_pages(4096, 4096 + frames) == pages


def test_the_hole_below_4g_has_no_struct_pages_in_sections_but_has_in_a_flat_array():
    # 6 GiB: 3 GiB from 0 (24 sections), 3 GiB from 4 GiB (24 sections), a hole of 8 sections between
    frames = 56 * SECTION
    sparse, flat = Model(SPARSEMEM_VMEMMAP, "6G", bare=False), Model(FLATMEM, "6G", bare=False)
    below, hole, above = 700000, 900000, 32 * SECTION + 5
    assert [sparse.pfn_valid(pfn) for pfn in (below, hole, above)] == [1, 0, 1]
    assert [flat.pfn_valid(pfn) for pfn in (below, hole, above)] == [1, 1, 1]
    assert sparse.memmap_pages(0, frames) == 48 * 512
    assert flat.memmap_pages(0, frames) == 56 * 512
    assert sparse.memmap_pages(24 * SECTION, 32 * SECTION) == 0
    assert sparse.check() == flat.check() == 0


def test_a_section_with_one_present_frame_has_one_valid_subsection():
    model = Model(SPARSEMEM_VMEMMAP, "200M")  # nr_frames reaches into section 1
    model.m.states["memory_model"].section[1] = 0
    model.m.states["memory_model"].subsection[64:128] = 0
    assert model.add_range(0, SECTION + 1023, SECTION + 1024) == 0
    assert [model.pfn_valid(SECTION + pfn) for pfn in (511, 512, 1023, 1024)] == [0, 1, 1, 0]
    assert model.memmap_pages(0, 2 * SECTION) == 1024
    assert model.check() == 0


def test_check_finds_tables_that_contradict_each_other():
    model = Model(SPARSEMEM_VMEMMAP, "200M")
    tables = model.m.states["memory_model"]
    tables.subsection[64:128] = 0
    assert model.check() == 1
    tables.section[:] = 0
    assert model.check() == 2
    flat = Model(FLATMEM)
    flat.m.states["memory_model"].max_mapnr[0] = 1 << 30
    assert flat.check() == 1


def test_sparsemem_numbers_its_arrays_as_sections_appear():
    model = Model(SPARSEMEM, "64M")
    before = int(model.m.states["memory_model"].nr[1])
    model.add_range(0, 40 * SECTION, 41 * SECTION)
    assert model.pfn_to_page(40 * SECTION + 7) == before * SECTION + 7
    assert model.page_to_pfn(before * SECTION + 7) == 40 * SECTION + 7
    assert model.pfn_valid(39 * SECTION) == 0 and model.pfn_valid(41 * SECTION - 1) == 1
    assert model.memmap_pages(39 * SECTION, 42 * SECTION) == 512
    assert model.check() == 0


def test_boot_writes_one_struct_page_a_free_block():
    sim = Simulation.from_table({"memory": "4G", "bare": True})
    flags = sim.machine.page[2::4][: sim.machine.sizes.nr_frames]
    assert np.count_nonzero(flags) == (4 << 30) // (4096 << 10)  # all of memory is free, in blocks of order 10
    sim.machine.run(alloc_pages, GFP_KERNEL, 9, 0)
    assert np.count_nonzero(flags[1:]) > 1024  # a block was cut: its half and what was handed out
    assert sim.check_state() == []
