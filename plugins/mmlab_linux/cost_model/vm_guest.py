"""A KVM guest with 4 KiB pages and a virtio disk: what mmlab counts time by unless told otherwise.

Measured: on Linux 6.18 in a 2-CPU KVM guest (Intel Xeon, nested paging, memory warmed first), median of 5 runs, CPU time. Derived: a
difference of measured figures. Estimated: a round figure for such a machine, not measured; only its order of magnitude is meant.
"""

import attrs
from attrs.validators import ge

from mmlab.policies import CostModel
from mmlab_linux.cost_model.tlb import TlbParams, tlb, tlb_costs


@attrs.frozen(kw_only=True)
class Params(TlbParams):
    """What a read and a write-back of one page at a random place of the disk take, in ns; hit_ns: an access of the stream to a present page,
    which may stand for many (a recorded program's events leave out accesses to the pages used last). A TLB is simulated only if it is given
    entries."""

    device_read_ns: int = attrs.field(default=100_000, validator=ge(0))  # estimated: virtio over a shared disk
    device_write_ns: int = attrs.field(default=100_000, validator=ge(0))  # estimated: as a read
    hit_ns: int = attrs.field(default=8, validator=ge(0))  # measured: independent random loads over 16 MiB, 8.5 ns
    tlb_miss_ns: int = attrs.field(default=221, validator=ge(0))  # derived: dependent loads over 256 MiB take 503 ns on 4 KiB pages and 282 ns on huge pages
    tlb_miss_huge_ns: int = attrs.field(default=60, validator=ge(0))  # estimated: a two-dimensional walk whose tables stay in the caches
    tlb_l2_hit_ns: int = attrs.field(default=3, validator=ge(0))  # estimated: 9 cycles


def costs(params: Params) -> dict[str, float]:
    """ns by COST_NAMES."""
    return {
        "hit": params.hit_ns,
        **tlb_costs(params),
        "fault": 512,  # measured: read fault that maps the zero page (trap, walk, map; nothing allocated or cleared)
        "zero_page": 1027,  # derived: anonymous write fault 1539 ns without the 512 of "fault": allocate, clear, charge, LRU
        "host_fault": 0,  # measured with memory that the host had mapped
        "copy_page": 2258,  # derived: copy-on-write fault after fork 2770 ns without "fault"
        "migrate_folio": 1170,  # scaled: a 39th of what icount_guest takes
        "migrate_page": 1730,  # scaled
        "huge_zero": 216_000,  # derived: 2 MiB at the 9.7 GB/s of a sequential read; the measured 3.5 ms was bound by the host's memory
        "page_table": 1027,  # estimated: as "zero_page", a table page is allocated and cleared alike
        "fork_pte": 92,  # measured: fork, per page
        "zap_pte": 134,  # measured: munmap, per page
        "syscall": 83,  # measured: getpid 82.8 ns
        "alloc_bulk": 1300,  # derived: refill of a per-CPU list, 63 pages at 21 ns (split and merge of all orders in C)
        "swap_cache_hit": 300,  # estimated: a look-up and a lock more than "fault"
        "scan_page": 150,  # estimated: one page looked at by reclaim, its rmap walk included
        "reclaim_page": 700,  # estimated: unmap, flush, free of one page
        "device_read": params.device_read_ns,
        "device_read_page": 8000,  # estimated: each further page of one read, 500 MB/s
        "device_write": params.device_write_ns,
        "device_write_page": 2000,  # estimated: each page of a request, 2 GB/s into the host's page cache
        "submit_page": 1000,  # estimated: unmap a page, give it a slot, queue it
        "submit_request": 1300,  # estimated: tell the device, be interrupted
        "compress_page": 4000,  # estimated: lz4 or lzo at 1 GB/s
        "decompress_page": 1500,  # estimated: at 2.7 GB/s
        "ipi": 4000,  # estimated: with an exit to the hypervisor
        "context_switch": 2000,  # estimated
        "lock_wait": 0,  # not modelled
        "split_thp": 20_000,  # estimated: 512 entries rewritten
        "damos_page": 40,  # estimated: one entry or folio looked at by DAMOS or madvise
        "walk_pte": 4,  # scaled: a sixth of what tcg_guest takes
        "walk_young": 11,  # scaled
        "lru_move": 60,  # estimated: from one list to another, through a batch
        "writepage": 900,  # estimated: write-back of one page, without the disk: 0.4 of a write() into the cache, as recorded runs compare
        "damon_check": 600,  # estimated: two walks and two folio look-ups, a region and sampling interval
        "numa_scan": 24,  # scaled: a 39th of what icount_guest takes
        "node_is_toptier": 8,  # scaled
        "prot_numa": 38,  # scaled
        "oom_kill": 1_000_000,  # estimated: choosing, reporting, signalling
    }


VM_GUEST = CostModel(
    name="vm_guest",
    summary="a KVM guest with nested paging and a virtio disk; mostly measured",
    models="timings of Linux 6.18 in a KVM guest",
    level="L1",
    params=Params,
    costs=costs,
    tlb=tlb,
)
