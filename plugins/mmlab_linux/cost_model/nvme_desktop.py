"""A desktop without a hypervisor, with an NVMe disk. Nothing here was measured on such a machine: use it to see what faster devices change.

CPU figures: those of vm_guest halved, since nested paging makes the guest two to four times slower than the same machine without it (an
estimate as well). Disk figures: what data sheets of consumer NVMe drives promise for 4 KiB at queue depth 1.
"""

import attrs
from attrs.validators import ge

from mmlab.policies import CostModel
from mmlab_linux.cost_model.tlb import TlbParams, tlb, tlb_costs


@attrs.frozen(kw_only=True)
class Params(TlbParams):
    """What a read and a write-back of one page at a random place of the disk take, in ns. A TLB has none of its entries unless asked for (`skylake` and `zen` are this machine with one)."""

    device_read_ns: int = attrs.field(default=60_000, validator=ge(0))  # data sheets: 50-80 us
    device_write_ns: int = attrs.field(default=20_000, validator=ge(0))  # data sheets: 15-25 us, into the drive's cache


def costs(params: Params) -> dict[str, float]:
    """ns by COST_NAMES."""
    return {
        "hit": 4,
        **tlb_costs(params),  # estimated: a one-dimensional walk, mostly in the second-level cache
        "fault": 250,
        "zero_page": 500,
        "host_fault": 0,  # no guest
        "copy_page": 1100,
        "migrate_folio": 580,
        "migrate_page": 860,
        "huge_zero": 100_000,  # derived: 2 MiB at 20 GB/s
        "page_table": 500,
        "fork_pte": 45,
        "zap_pte": 65,
        "syscall": 60,
        "alloc_bulk": 650,
        "swap_cache_hit": 150,
        "scan_page": 75,
        "reclaim_page": 350,
        "device_read": params.device_read_ns,
        "device_read_page": 1200,  # data sheets: 3.5 GB/s
        "device_write": params.device_write_ns,
        "device_write_page": 1400,  # data sheets: 3 GB/s
        "submit_request": 700,  # estimated: as vm_guest, without leaving a guest
        "submit_page": 500,
        "compress_page": 2500,  # estimated: lz4 or lzo at 1.6 GB/s
        "decompress_page": 1000,  # estimated: at 4 GB/s
        "ipi": 1000,  # estimated
        "context_switch": 1200,  # estimated
        "lock_wait": 0,  # not modelled
        "split_thp": 10_000,
        "damos_page": 20,
        "walk_pte": 2,
        "walk_young": 6,
        "lru_move": 30,
        "writepage": 400,
        "damon_check": 300,
        "numa_scan": 12,
        "node_is_toptier": 4,
        "prot_numa": 19,
        "oom_kill": 500_000,
    }


NVME_DESKTOP = CostModel(
    name="nvme_desktop",
    summary="a desktop with an NVMe disk and no hypervisor; estimated",
    models="data sheets, and vm_guest halved",
    params=Params,
    costs=costs,
    tlb=tlb,
)
