"""A machine between its boot and its workload: the settings it begins with, and the memory that is in use before anybody asks for any."""

from __future__ import annotations

import errno

from mmlab._engine.core import memblock_services
from mmlab._engine.swap_devices import start_swap
from mmlab.errors import InputError, NotSupported, did_you_mean
from mmlab.kernels.services import kmem_cache_alloc
from mmlab.machine import memory_tiers
from mmlab.mm.ext4_meta import ext4_commit_super
from mmlab.mm.kcompactd import CHECK_INTERVAL_NS
from mmlab.mm.memblock import memblock_alloc
from mmlab.mm.memory import memblock_zeroed_folio
from mmlab.mm.slab import create_kernel_caches
from mmlab.model.const import NEVER_NS
from mmlab.model.gfp import GFP_KERNEL, ZONE_MOVABLE
from typing import TYPE_CHECKING


from mmlab.model import rows as r

if TYPE_CHECKING:
    from mmlab.simulation import Simulation

FIRST_PID = 150
LONG_AGO_MS = 10_000
NUMAB_DEFAULTS = (1000, 1000, 60000, 256, 1000, 65536)  # in the order of NB_*


def settings(sim: Simulation, script: bool) -> None:
    """What Linux, the chosen policies and the machine's tables say about settings, before anything uses memory."""
    sc, cost = sim.machine.sc, sim.machine.cost
    costs = sim.policies["cost_model"].policy.costs(sim.policies["cost_model"].params)
    for name, ns in costs.items():
        cost[r.COST_NAMES.index(name)] = int(ns)
    start_swap(sim.machine, sim.cfg.swap_devices, sim.cfg.compression, script)
    sc[r.SC_PAGE_CLUSTER], sc[r.SC_SWAPPINESS], sc[r.SC_BOOST_FACTOR] = 3, 60, 15000
    sc[r.SC_STACK_GUARD_GAP], sc[r.SC_MAX_MAP_COUNT], sc[r.SC_MMAP_MIN_ADDR] = 256, 65530, 65536
    sc[r.SC_FAULT_AROUND], sc[r.SC_READAHEAD_PAGES], sc[r.SC_PGTABLE_LEVELS] = 16, 32, sim.cfg.pgtable_levels
    sc[r.SC_COMMIT_LIMIT] = sc[r.SC_TOTALRAM] // 2 + max(0, sc[r.SC_NR_SWAP_SLOTS] - 1)
    sc[r.SC_EXTFRAG_THRESHOLD], sc[r.SC_PROACTIVENESS], sc[r.SC_MIN_UNMAPPED_RATIO], sc[r.SC_VFS_CACHE_PRESSURE] = 500, 20, 1, 100
    sim.machine.numab[: len(NUMAB_DEFAULTS)] = NUMAB_DEFAULTS
    balanced = sim.cfg.options.numa_balancing
    sc[r.SC_NUMA_BALANCING] = int(sim.layout.nr_nodes > 1 if balanced is None else balanced)
    sc[r.SC_STAT_INTERVAL_NS] = sc[r.SC_NEXT_TICK_NS] = 1_000_000_000
    sc[r.SC_KSWAPD_SLICE_NS], sc[r.SC_NEXT_SAMPLE_NS], sc[r.SC_NEXT_EVENT_NS] = 3_000_000, NEVER_NS, 0
    sc[r.SC_KHUGEPAGED_MM], sc[r.SC_KCOMPACTD_NS], sc[r.SC_KSWAPD_TIMER_NS] = -1, CHECK_INTERVAL_NS, NEVER_NS
    sc[r.SC_OOM_VICTIM], sc[r.SC_SEED], sc[r.SC_PID_NEXT] = -1, sim.seed, FIRST_PID
    wants = r.WANTS_RECLAIMER if sim.policies["reclaimer"].policy.wants_accesses else 0
    wants |= r.WANTS_MONITOR if sim.policies["monitor"].policy.wants_accesses else 0
    wants |= r.WANTS_TIERING if sim.policies["tiering"].policy.wants_accesses else 0
    wants |= r.WANTS_TLB if sim.machine.sizes.tlb_entries else 0
    wants |= r.WANTS_SUBPAGES if sim.machine.sizes.subpages else 0
    sc[r.SC_WANTS_ACCESS] = wants
    sc[r.SC_MTHP_ORDERS] = r.MTHP_PLACES if "place" in sim.policies["thp"].policy.ops() else 0
    sc[r.SC_NEEDS_FUTURE] = int(sim._future)
    tiers = memory_tiers(sim.cfg, sim.layout)
    for initiator, target, latency, _ in sim.cfg.hmat:
        fastest = min(row[2] for row in sim.cfg.hmat if row[0] == initiator)
        sim.machine.node_extra[initiator * sim.layout.nr_nodes + target] = latency - fastest
    if sim.machine.node_extra.any():
        sc[r.SC_WANTS_ACCESS] |= r.WANTS_NODES
    for node, cpus in enumerate(sim.layout.node_cpus):
        row = node * r.NODE_STRIDE
        sim.machine.node[row + r.N_KCOMPACTD_IDX], sim.machine.node[row + r.N_KCOMPACTD_NEXT_NS] = ZONE_MOVABLE, CHECK_INTERVAL_NS
        sim.machine.node[row + r.N_KSWAPD_CPU] = cpus[0] if cpus else 0
        sim.machine.node[row + r.N_KSWAPD_IDX], sim.machine.node[row + r.N_KSWAPD_ASKED_IDX] = ZONE_MOVABLE, -1
        sim.machine.node[row + r.N_TOPTIER], sim.machine.node[row + r.N_LOWER_TIERS] = tiers.toptier[node], tiers.lower[node]
        sim.machine.node[row + r.N_DEMOTION_TARGETS] = tiers.targets[node]
        sim.machine.node[row + r.N_NBP_RL_START] = -LONG_AGO_MS  # the machine was up for a while when the clock began


def early_memory(sim: Simulation, script: bool) -> None:
    """What exists before the workload: kernel caches, the zero page, a script's driver; out of memory that boot left in use."""
    machine = sim.machine
    on_lists = [sum(zone.lru.values()) for zone in sim.boot.zones]
    zone = max(range(len(on_lists)), key=lambda i: (on_lists[i], i))  # the node that the programs of the image lie on; unknown: the last
    machine.sc[r.SC_MEMBLOCK_FIRST] = machine.sc[r.SC_MEMBLOCK_ZONE] = zone
    machine.sc[r.SC_MEMBLOCK_PFN] = sim.layout.zones[zone].end_pfn
    with memblock_services(machine, {"alloc_pages": memblock_alloc, "vma_alloc_zeroed_movable_folio": memblock_zeroed_folio}):
        create_kernel_caches(machine)
        zero = machine.run(memblock_alloc, 0, 0, -1)
        machine.sc[r.SC_ZERO_PFN] = zero if zero >= 0 else 0
        if script:
            from mmlab._engine.image import make_driver, make_initramfs, mount_disk
            from mmlab._engine.script_driver import driver_starts

            for at in range(r.BIO_POOL_SIZE):
                machine.bio[r.BIO_POOL + at] = machine.run(kmem_cache_alloc, r.CACHE_BIO, GFP_KERNEL) + 1
            machine.sc[r.SC_IN_LRU_FAULT] = 1  # its memory came by page faults
            sim._driver = make_driver(sim)
            machine.sc[r.SC_IN_LRU_FAULT] = 0
            make_initramfs(sim)
            if sim.cfg.disk_bytes:
                mount_disk(sim)
            driver_starts(sim)
    machine.vmstat[:] = 0
    machine.nr_calls[:] = 0
    machine.sc[r.SC_COMMITTED_AS] = sim.boot.committed_as_kb // 4
    machine.sc[r.SC_NOW_NS] = 0
    if machine.sc[r.SC_BDEV]:
        machine.run(ext4_commit_super)


def apply_setting(sim: Simulation, table: str, key: str, value: str) -> None:
    """A key of [sysctl] or [sysfs] (`table`) is written to its file. Raises InputError or NotSupported that name it."""
    from mmlab.procfs import write
    from mmlab.procfs.accepted import refused
    from mmlab.procfs.registry import known_files, policy_owner

    path = f"/proc/sys/{key.replace('.', '/')}" if table == "sysctl" else f"/sys/{key}"
    try:
        error = write(sim, path, value)
    except NotSupported as fault:
        known, (folder, _, name) = set(known_files(sim)), path.rpartition("/")
        if path not in known:
            beside = [other.rpartition("/")[2] for other in known if other.rpartition("/")[0] == folder]
            raise InputError(f'{table}."{key}": mmlab has no such file{did_you_mean(name, beside)}') from None
        raise NotSupported(f'{table}."{key}": {fault}') from None
    except FileNotFoundError:
        raise InputError(f'{table}."{key}": there is no such file on this machine') from None
    if error:
        wanted = getattr(policy_owner(sim, path), "wanted", None)
        why = f"{wanted(path)}, got {value!r}" if wanted else refused(table, key, value) or f"the file does not take {value!r}"
        raise InputError(f'{table}."{key}": {why} ({errno.errorcode.get(-error, -error)})')
