"""Sizes, orders and limits of caches, against real kernels (ground truth cases slab-geometry, slab-geometry-options, slab-merge)."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from slab_machine import SlabMachine

from mmlab.mm.slab import KERNEL_CACHES, KMALLOC_SIZES, create_kernel_caches, kmalloc_cache, slabinfo_rows
from mmlab.model.slabinfo import SLAB_HWCACHE_ALIGN, SLAB_POISON, SLAB_RED_ZONE, SLAB_STORE_USER, SLAB_TYPESAFE_BY_RCU
from mmlab.policies import python_function
from mmlab.testing.oracles.slub import geometry
from mmlab_linux.slab_allocator.rows import MAX_OBJS_PER_SLAB, RECIPROCAL_SHIFT, reciprocal_value
from mmlab_linux.slab_allocator.slub import Params

CASES = Path(__file__).resolve().parents[2] / "ground_truth" / "allocators"
LINUX_HWCACHE_ALIGN, LINUX_RCU = 0x10, 0x200  # what the recorded flag words call them
OPTIONS = {"slab_min_order": 1, "slab_max_order": 2, "slab_min_objects": 12}
FIELDS = ("size", "align", "order", "objects", "min_order", "min_partial", "cpu_partial", "cpu_partial_slabs")


def figures(case: str) -> dict:
    return {figure["id"]: figure["value"] for figure in json.loads((CASES / case / "expected.json").read_text())["figures"]}


@pytest.fixture(scope="module", params=[("slab-geometry", {}), ("slab-geometry-options", OPTIONS)], ids=["defaults", "options"])
def machine_and_figures(request):
    case, options = request.param
    machine = SlabMachine(params=Params(**options))
    create_kernel_caches(machine.m)
    return machine, figures(case), options


def test_unmerged_caches_of_every_size(machine_and_figures):
    machine, recorded, _ = machine_and_figures
    rows = recorded["probe[p].table"]
    found = []
    for size, align, *_, flags in rows:
        asked = (SLAB_HWCACHE_ALIGN if flags & LINUX_HWCACHE_ALIGN else 0) | (SLAB_TYPESAFE_BY_RCU if flags & LINUX_RCU else 0)
        assert machine.op("create", 40, size, align, asked) == 0
        found.append([size, align, *(machine.field(40, field) for field in FIELDS), flags])
        assert machine.op("destroy", 40) == 0
    assert found == rows
    assert len(rows) >= 86


def test_the_oracle_knows_the_same_table(machine_and_figures):
    _, recorded, options = machine_and_figures
    for size, align, *expected, flags in recorded["probe[p].table"]:
        asked = (SLAB_HWCACHE_ALIGN if flags & LINUX_HWCACHE_ALIGN else 0) | (SLAB_TYPESAFE_BY_RCU if flags & LINUX_RCU else 0)
        found = geometry(size, align, asked, min_order=options.get("slab_min_order", 0), max_order=options.get("slab_max_order", 3),
                         min_objects=options.get("slab_min_objects", 0))  # fmt: skip
        assert [getattr(found, field) for field in FIELDS] == expected


def test_caches_of_a_booted_kernel(machine_and_figures):
    machine, recorded, _ = machine_and_figures
    numbers = {cache.name: number for number, cache in KERNEL_CACHES.items()}
    compared = set()
    for key, value in recorded.items():
        match = re.fullmatch(r"probe\[p\]\.cache\[(.+)\]\.(.+)", key)
        if match is None or match[1] not in numbers or (match[1], match[2]) == ("filp", "offset"):  # filp names the place itself
            continue
        assert machine.field(numbers[match[1]], match[2]) == value, key
        compared.add(match[1])
    assert {f"kmalloc-{name}" for name in ("8", "96", "1k", "8k")} | {"dma-kmalloc-64", "kmalloc-rcl-192", "kmalloc-cg-4k"} <= compared


def test_slabinfo_of_a_machine_with_one_cpu():
    machine = SlabMachine()
    create_kernel_caches(machine.m)
    found = {row[0]: row[1:] for row in slabinfo_rows(machine.m)}
    assert len(found) == len(KERNEL_CACHES)
    for name, size, per_slab, pages in (
        ("vm_area_struct", 176, 23, 1), ("vma_lock", 40, 102, 1), ("mm_struct", 1408, 11, 4), ("anon_vma", 104, 39, 1),
        ("anon_vma_chain", 64, 64, 1), ("maple_node", 256, 16, 1), ("radix_tree_node", 584, 14, 2), ("task_struct", 8448, 3, 8),
        ("ext4_inode_cache", 1168, 14, 4),
    ):  # fmt: skip
        assert found[name] == (0, 0, size, per_slab, pages, 0, 0)


@pytest.mark.parametrize("cpus, order, objects", [(1, 1, 14), (2, 1, 14), (4, 2, 28), (8, 2, 28)])
def test_more_cpus_ask_for_more_objects_a_slab(cpus, order, objects):
    # 8, 12, 16 and 20 objects of 584 bytes need 2, 2, 4 and 4 pages
    machine = SlabMachine(cpus=cpus)
    assert machine.op("create", 1, 584, 0, 0) == 0
    assert (machine.field(1, "order"), machine.field(1, "objects")) == (order, objects)
    assert geometry(584, cpus=cpus).objects == objects


def test_merge_case_sizes_of_aligned_and_rcu_caches():
    machine, recorded = SlabMachine(), figures("slab-merge")
    for cache, (name, flags) in enumerate([("mg_e", SLAB_HWCACHE_ALIGN), ("mg_h", SLAB_TYPESAFE_BY_RCU), ("mg_a", 0)]):
        assert machine.op("create", cache, 5000, 0, flags) == 0
        assert machine.field(cache, "size") == recorded[f"probe[p].cache[{name}].size"]
        assert machine.field(cache, "order") == recorded[f"probe[p].cache[{name}].order"]


@pytest.mark.parametrize("flags, size, offset", [
    (SLAB_POISON, 48, 40),  # free pointer behind the object
    (SLAB_RED_ZONE, 64, 16),  # 40 + 8 right, 8 left and its padding
    (SLAB_STORE_USER, 104, 16),  # two tracks of 32 bytes
])  # fmt: skip
def test_debug_flags_enlarge_the_object_and_switch_cpu_lists_off(flags, size, offset):
    machine = SlabMachine()
    assert machine.op("create", 1, 40, 0, flags) == 0
    assert (machine.field(1, "size"), machine.field(1, "offset"), machine.field(1, "cpu_partial_slabs")) == (size, offset, 0)
    assert (geometry(40, flags=flags).size, geometry(40, flags=flags).offset) == (size, offset)


def test_kmalloc_picks_the_smallest_class_that_holds_the_size():
    recorded = [value for key, value in figures("kmalloc-classes").items() if value[2] != "pages" and value[2] != "failed"]
    kinds = {"kmalloc-rcl-": 1, "kmalloc-cg-": 2, "dma-kmalloc-": 3}
    for size, ksize, name, _ in recorded:
        cache = KERNEL_CACHES[kmalloc_cache(size, next((kind for prefix, kind in kinds.items() if name.startswith(prefix)), 0))]
        assert (cache.size, cache.name) == (ksize, name)
    assert len(recorded) > 40
    assert kmalloc_cache(8193) == kmalloc_cache(0) == -1
    assert KMALLOC_SIZES[-1] == 8192


def test_objects_are_numbered_without_a_division():
    for size in (8, 24, 104, 192, 1000, 2080, 8448, 100_000, 3 << 20):
        reciprocal = python_function(reciprocal_value)(size)
        for n in range(min(MAX_OBJS_PER_SLAB, (4 << 20) // size)):
            assert n * size * reciprocal >> RECIPROCAL_SHIFT == n
            assert n * size * reciprocal < 1 << 63
