"""Params of a data TLB, for cost models to inherit: none unless entries are given, so that nothing is looked up."""

from __future__ import annotations

import attrs
from attrs.validators import ge, le


@attrs.frozen(kw_only=True)
class TlbParams:
    """Entries and ways (associativity; as many as entries: fully associative) of the first level for 4 KiB pages, of the first level for 2 MiB
    pages (0 entries: they share the other), and of the second level, which holds both (0: there is none). tlb_l1_entries 0: no TLB.

    tlb_miss_ns, tlb_miss_huge_ns: a walk that ends in a PTE, in a PMD; tlb_l2_hit_ns: what was found in the second level.
    """

    tlb_l1_entries: int = attrs.field(default=0, validator=[ge(0), le(1 << 16)])
    tlb_l1_ways: int = attrs.field(default=4, validator=ge(1))
    tlb_l1_huge_entries: int = attrs.field(default=0, validator=[ge(0), le(1 << 16)])
    tlb_l1_huge_ways: int = attrs.field(default=4, validator=ge(1))
    tlb_l2_entries: int = attrs.field(default=0, validator=[ge(0), le(1 << 16)])
    tlb_l2_ways: int = attrs.field(default=12, validator=ge(1))
    tlb_miss_ns: int = attrs.field(default=30, validator=ge(0))
    tlb_miss_huge_ns: int = attrs.field(default=10, validator=ge(0))
    tlb_l2_hit_ns: int = attrs.field(default=2, validator=ge(0))

    def __attrs_post_init__(self) -> None:
        for level in ("l1", "l1_huge", "l2"):
            entries, ways = (getattr(self, f"tlb_{level}_{what}") for what in ("entries", "ways"))
            if entries % ways:
                raise ValueError(f"tlb_{level}_entries: must be a multiple of tlb_{level}_ways ({ways}), got {entries}")
        if self.tlb_l1_entries == 0 and (self.tlb_l1_huge_entries or self.tlb_l2_entries):
            raise ValueError("tlb_l1_entries: must be at least 1 where another part of the TLB has entries, got 0")


def tlb(params: TlbParams) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
    """(entries, ways) of the first level for small pages, for huge pages, of the second level."""
    return (
        (params.tlb_l1_entries, params.tlb_l1_ways),
        (params.tlb_l1_huge_entries, params.tlb_l1_huge_ways),
        (params.tlb_l2_entries, params.tlb_l2_ways),
    )


def tlb_costs(params: TlbParams) -> dict[str, float]:
    """ns of what a TLB does, by COST_NAMES."""
    return {"tlb_miss": params.tlb_miss_ns, "tlb_miss_huge": params.tlb_miss_huge_ns, "tlb_l2_hit": params.tlb_l2_hit_ns}
