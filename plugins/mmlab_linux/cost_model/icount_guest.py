"""A guest of QEMU's software emulation whose clock counts executed instructions, 8 ns each (``icount = "shift=3"`` of a [machine] table).

The machine of recordings that depend on time: slow, but the same on every host. Measured: from recorded runs of Linux 6.12 on it. Scaled: the
figure of vm_guest times 39, as the first touch of a page compares (60 us against 1.5).
"""

import attrs
from attrs.validators import ge

from mmlab.policies import CostModel


@attrs.frozen
class Params:
    """What a read and a write-back of one page take, in ns."""

    device_read_ns: int = attrs.field(default=150_000, validator=ge(0))  # estimated: twice a write, since the reader waits
    device_write_ns: int = attrs.field(default=100_000, validator=ge(0))  # estimated


def costs(params: Params) -> dict[str, float]:
    """ns by COST_NAMES."""
    return {
        "hit": 70,  # measured: passes over ranges of memory
        "tlb_miss": 0,  # the emulator's translations take no instructions
        "tlb_miss_huge": 0,
        "tlb_l2_hit": 0,
        "fault": 12_250,  # measured: a read fault that maps the zero page, a write fault that reuses the page
        "zero_page": 48_000,  # derived: the first touch of a page takes 60.3 us
        "host_fault": 0,  # not in the guest's instructions
        "copy_page": 84_800,  # derived: copy-on-write takes 97.1 us a page; a collapse 84.7
        "migrate_folio": 45_700,  # derived, with the next: to move 4 KiB takes 113 us, 2 MiB 34.5 ms
        "migrate_page": 67_300,
        "huge_zero": 34_200_000,  # measured: huge faults; the kernel of the recordings zeroes a huge page twice
        "page_table": 40_000,  # scaled
        "fork_pte": 3600,  # scaled
        "zap_pte": 5200,  # scaled
        "syscall": 3200,  # scaled
        "alloc_bulk": 51_000,  # scaled
        "swap_cache_hit": 12_000,  # scaled
        "scan_page": 5800,  # scaled; DAMON's young filter with the rest of its page: 7.8 us
        "reclaim_page": 27_000,  # scaled
        "device_read": params.device_read_ns,
        "device_read_page": 40_000,  # estimated
        "device_write": params.device_write_ns,
        "device_write_page": 2000,  # estimated: the host's page cache takes it
        "submit_page": 54_500,  # derived: pageout of 16384 pages on an idle machine takes 61.5 us a page, 7 of them in the walk
        "submit_request": 49_000,  # measured: pageout takes 114 us a page where each is a request of its own, 64 where hundreds are one
        "compress_page": 160_000,  # scaled
        "decompress_page": 60_000,  # scaled
        "ipi": 100_000,  # estimated
        "context_switch": 30_000,  # measured: kdamond wakes, with its timer, and sleeps in 60 us
        "lock_wait": 0,  # not modelled
        "split_thp": 780_000,  # scaled
        "damos_page": 1800,  # measured: lru_prio on pages that are active already; half of it, 0.85 us, for a frame on no list
        "walk_pte": 460,  # measured: a walk of MGLRU over 32,768 entries, none of them young, takes 15.1 ms
        "walk_young": 1170,  # derived: 53.4 ms if all are
        "lru_move": 5200,  # derived: cold takes 7 us a page
        "writepage": 35_000,  # scaled
        "damon_check": 24_600,  # measured: 33 regions of virtual addresses stretch 20 samples by 5.4 ms more than 22 do; on an idle machine they take 117.2 ms
        "numa_scan": 950,  # measured: two scans of 33,000 local pages, which change nothing, take 62.8 ms
        "node_is_toptier": 310,  # measured: in mode 2, a scan of 6,371 pages of another node of the same tier, which changes nothing, takes 8.03 ms
        "prot_numa": 1490,  # derived: a scan of 16384 pages of another node takes 43.8 ms in mode 1, 51.4 in mode 2
        "oom_kill": 40_000_000,  # scaled
    }


ICOUNT_GUEST = CostModel(
    name="icount_guest",
    summary="an emulated guest whose time is a count of instructions; partly measured",
    models="timings of Linux 6.12 under QEMU with icount",
    level="L1",
    params=Params,
    costs=costs,
)
