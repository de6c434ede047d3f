"""What a page and a page-table slot cost, by the layout table."""

import attrs

from mmlab.model.layout import ARRAYS, Sizes

SIZES = Sizes(
    nr_frames=1 << 20, nr_present=1 << 20, nr_heads=256, nr_cpus=1, nr_nodes=1, nr_zones=3, nr_tasks=16, nr_swap_slots=0, next_use=False
)  # fmt: skip
BYTES = {"uint8": 1, "uint16": 2, "int32": 4, "uint32": 4, "int64": 8}


def bytes_of(array, sizes):
    return array.length(sizes) * BYTES[array.dtype]


def test_mem_map_takes_at_most_32_bytes_a_page():
    more = attrs.evolve(SIZES, nr_frames=2 * SIZES.nr_frames)
    growth = {a.name: (bytes_of(a, more) - bytes_of(a, SIZES)) / SIZES.nr_frames for a in ARRAYS}
    assert growth == {a.name: a.bytes_per_page for a in ARRAYS}
    assert growth["page"] + growth["pagex"] <= 32
    assert {name for name, size in growth.items() if size} == {"page", "pagex", "pageblock", "block_skip", "page_class"}


def test_page_tables_take_8_bytes_a_slot():
    tables = next(a for a in ARRAYS if a.name == "pt")
    assert BYTES[tables.dtype] == 8
    more = attrs.evolve(SIZES, nr_present=SIZES.nr_present + 1)
    assert bytes_of(tables, more) - bytes_of(tables, SIZES) == 4096
