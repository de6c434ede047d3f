"""A guest of QEMU's software emulation on its own clock: the machine that most recorded cases ran on.

Measured: Linux 6.12 on it, one CPU, one run on an idle host. Memory that the guest uses for the first time costs the host a fault of its own
("host_fault"). Scaled: the figure of vm_guest times 6, the median of what is measured here over what is measured there.
"""

import attrs
from attrs.validators import ge

from mmlab.policies import CostModel


@attrs.frozen
class Params:
    """What a read and a write-back of one page take, in ns."""

    device_read_ns: int = attrs.field(default=105_000, validator=ge(0))  # derived: a random major fault takes 130 us
    device_write_ns: int = attrs.field(default=100_000, validator=ge(0))  # estimated: as a read


def costs(params: Params) -> dict[str, float]:
    """ns by COST_NAMES."""
    return {
        "hit": 120,  # measured: a second pass over 80 MiB
        "tlb_miss": 0,  # the emulator's translations are not the model's
        "tlb_miss_huge": 0,
        "tlb_l2_hit": 0,
        "fault": 2350,  # measured: read faults that map the zero page
        "zero_page": 6500,  # derived: the first touch of a page takes 8.8 us
        "host_fault": 10_000,  # derived: the first touch of a page whose frame was never used takes 18.9 us
        "copy_page": 14_000,  # derived: copy-on-write after fork into frames never used takes 26.3 us
        "migrate_folio": 6000,  # derived, with the next: to move 4 KiB into a frame used before takes 16 us
        "migrate_page": 10_000,  # measured: to move 2 MiB takes 10.5 ms, or 20 us a page, half of that "host_fault"
        "huge_zero": 5_000_000,  # measured: huge faults, 4.6 to 6.7 ms
        "page_table": 6500,  # estimated: as "zero_page"
        "fork_pte": 370,  # measured: fork, per page
        "zap_pte": 800,  # measured: exit, munmap, MADV_DONTNEED: 0.65 to 1.5 us a page
        "syscall": 500,  # scaled
        "alloc_bulk": 7800,  # scaled
        "swap_cache_hit": 3000,  # derived: a fault into the swap cache takes 5 us
        "scan_page": 1000,  # measured: a batch of pages that stay takes 1.2 us a page
        "reclaim_page": 700,  # measured: a batch of clean pages, scanned and freed, 1.6 us a page
        "device_read": params.device_read_ns,
        "device_read_page": 8000,  # estimated, as for vm_guest
        "device_write": params.device_write_ns,
        "device_write_page": 1000,  # measured: a request of 254 pages takes 330 us, small ones 100
        "submit_page": 9000,  # derived: MADV_PAGEOUT takes 10 us a page, 1 of them in the walk; within reclaim 7.7, and 1.2 when it ends
        "submit_request": 40_000,  # measured: from the end of the plug to the next page, 35 to 50 us
        "compress_page": 24_000,  # scaled
        "decompress_page": 9000,  # scaled
        "ipi": 24_000,  # scaled
        "context_switch": 12_000,  # scaled
        "lock_wait": 0,  # not modelled
        "split_thp": 120_000,  # scaled
        "damos_page": 240,  # scaled
        "walk_pte": 25,  # scaled from icount_guest, with the next
        "walk_young": 65,  # measured, with the former: the first aging of MGLRU walks 47,000 young entries in 4.5 ms
        "lru_move": 850,  # measured: mlock() of 8000 pages in memory takes 7.5 ms
        "writepage": 4500,  # measured: fsync of 4000 pages, the disk included
        "damon_check": 3600,  # scaled
        "numa_scan": 144,  # scaled
        "node_is_toptier": 47,  # scaled
        "prot_numa": 230,  # scaled
        "oom_kill": 6_000_000,  # scaled
    }


TCG_GUEST = CostModel(
    name="tcg_guest",
    summary="an emulated guest on the wall's clock; partly measured",
    models="timings of Linux 6.12 under QEMU without KVM",
    level="L1",
    params=Params,
    costs=costs,
)
