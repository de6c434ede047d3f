"""Kernel settings that have no state of their own: sysctls and the files of transparent_hugepage and lru_gen.

A setting that nothing simulated reads is kept and read back; a value that would switch on a mechanism that is not simulated is refused by
name. Watermarks and per-CPU limits are :class:`mmlab.machine.ZoneTuning`'s.
"""

from __future__ import annotations

from typing import Any

from mmlab._engine.boot import apply_tuning
from mmlab.errors import NotSupported
from mmlab.machine import thp_at_boot
from mmlab.mm import compaction, files, page_writeback, shrinker
from mmlab.mm.kcompactd import PROACTIVE_TRIGGER
from mmlab.mm.shmem_huge import (
    SHMEM_HUGE_ADVISE, SHMEM_HUGE_ALWAYS, SHMEM_HUGE_DENY, SHMEM_HUGE_FORCE, SHMEM_HUGE_NEVER, SHMEM_HUGE_WITHIN_SIZE,
)
from mmlab.model import rows as r
from mmlab.model.const import EACCES, EINVAL, NEVER_NS, NR_LRU_LISTS, NUMA_BALANCING_MEMORY_TIERING
from mmlab.model.vmstat import V_PGPROMOTE_CANDIDATE, VMSTAT_STRIDE

RANDOMIZE = "kernel.randomize_va_space"
INT_MAX = (1 << 31) - 1
PROACTIVENESS = "vm.compaction_proactiveness"
#: integer sysctls: what boot sets, the least and greatest value allowed, the scalar that holds it (None: only kept)
INTEGERS: dict[str, tuple[int, int, int, int | None]] = {
    "vm.swappiness": (60, 0, 200, r.SC_SWAPPINESS),
    "vm.extfrag_threshold": (500, 0, 1000, r.SC_EXTFRAG_THRESHOLD),
    PROACTIVENESS: (20, 0, 100, r.SC_PROACTIVENESS),
    "vm.overcommit_memory": (0, 0, 2, r.SC_OVERCOMMIT),
    "vm.overcommit_ratio": (50, 0, INT_MAX, None),
    "vm.overcommit_kbytes": (0, 0, (1 << 63) - 1, None),
    "vm.max_map_count": (65530, 0, INT_MAX, r.SC_MAX_MAP_COUNT),
    "vm.mmap_min_addr": (65536, 0, (1 << 63) - 1, r.SC_MMAP_MIN_ADDR),
    "vm.page-cluster": (3, 0, 31, r.SC_PAGE_CLUSTER),
    "vm.zone_reclaim_mode": (0, 0, INT_MAX, r.SC_NODE_RECLAIM_MODE),
    "vm.min_unmapped_ratio": (1, 0, 100, r.SC_MIN_UNMAPPED_RATIO),
    "vm.min_slab_ratio": (5, 0, 100, None),
    "kernel.numa_balancing_promote_rate_limit_MBps": (65536, 0, INT_MAX, None),
    "vm.stat_interval": (1, 0, INT_MAX, None),
    "vm.dirty_ratio": (20, 0, 100, None),
    "vm.dirty_background_ratio": (10, 0, 100, None),
    "vm.dirty_bytes": (0, 2 * 4096, (1 << 63) - 1, None),
    "vm.dirty_background_bytes": (0, 1, (1 << 63) - 1, None),
    "vm.dirty_expire_centisecs": (3000, 0, INT_MAX, None),
    "vm.dirty_writeback_centisecs": (500, 0, INT_MAX, None),
    "vm.vfs_cache_pressure": (100, 0, INT_MAX, r.SC_VFS_CACHE_PRESSURE),
    "vm.admin_reserve_kbytes": (8192, 0, (1 << 63) - 1, None),
    "vm.user_reserve_kbytes": (131072, 0, (1 << 63) - 1, None),
    "vm.oom_dump_tasks": (1, -INT_MAX - 1, INT_MAX, None),
    "vm.panic_on_oom": (0, 0, 2, r.SC_PANIC_ON_OOM),
    "vm.oom_kill_allocating_task": (0, -INT_MAX - 1, INT_MAX, r.SC_OOM_KILL_ALLOCATING),
    "kernel.printk_ratelimit": (5, 0, INT_MAX, None),
}
#: how much may be dirty and for how long: field of m.wb, the setting that it replaces
DIRTY: dict[str, tuple[int, str]] = {
    "vm.dirty_ratio": (r.WB_DIRTY_RATIO, "vm.dirty_bytes"), "vm.dirty_bytes": (r.WB_DIRTY_BYTES, "vm.dirty_ratio"),
    "vm.dirty_background_ratio": (r.WB_BACKGROUND_RATIO, "vm.dirty_background_bytes"),
    "vm.dirty_background_bytes": (r.WB_BACKGROUND_BYTES, "vm.dirty_background_ratio"),
    "vm.dirty_expire_centisecs": (r.WB_EXPIRE_NS, ""), "vm.dirty_writeback_centisecs": (r.WB_INTERVAL_NS, ""),
}  # fmt: skip
#: sysctls that only have the value with which nothing more happens
FIXED = {
    "vm.laptop_mode": "0", "vm.nr_hugepages": "0", RANDOMIZE: "0",
}  # fmt: skip
#: sysctls whose write does something once
COMMANDS = ("vm.stat_refresh", "vm.compact_memory", "vm.drop_caches")
NUMA_BALANCING_MAX = 4
NUMA_BALANCING, LOWMEM_RESERVE_RATIO = "kernel.numa_balancing", "vm.lowmem_reserve_ratio"
NUMAB_FILES = {
    "scan_delay_ms": r.NB_SCAN_DELAY, "scan_period_min_ms": r.NB_SCAN_PERIOD_MIN, "scan_period_max_ms": r.NB_SCAN_PERIOD_MAX,
    "scan_size_mb": r.NB_SCAN_SIZE, "hot_threshold_ms": r.NB_HOT_THRESHOLD,
}  # fmt: skip
THP_CHOICES = {
    "enabled": ("always", "madvise", "never"),
    "defrag": ("always", "defer", "defer+madvise", "madvise", "never"),
    "shmem_enabled": ("always", "within_size", "advise", "never", "deny", "force"),
}  # fmt: skip
SHMEM_HUGE = {
    "never": SHMEM_HUGE_NEVER, "always": SHMEM_HUGE_ALWAYS, "within_size": SHMEM_HUGE_WITHIN_SIZE, "advise": SHMEM_HUGE_ADVISE,
    "deny": SHMEM_HUGE_DENY, "force": SHMEM_HUGE_FORCE,
}  # fmt: skip
#: of each size; 2 MiB (order 9) inherits what `enabled` says, the others are off
THP_SIZES = {f"hugepages-{4 << order}kB": order for order in range(2, 10)}
SIZE_ENABLED = ("always", "inherit", "madvise", "never")
DEFAULT_DEFRAG = 3  # madvise
#: khugepaged's files: name -> (default, greatest value)
KHUGEPAGED = {
    "defrag": (1, 1), "pages_to_scan": (4096, (1 << 32) - 1), "scan_sleep_millisecs": (10000, (1 << 32) - 1),
    "alloc_sleep_millisecs": (60000, (1 << 32) - 1), "max_ptes_none": (511, 511), "max_ptes_swap": (64, 511), "max_ptes_shared": (256, 511),
}  # fmt: skip
KHUGEPAGED_COUNTERS = {"pages_collapsed": r.SC_KHUGEPAGED_COLLAPSED, "full_scans": r.SC_KHUGEPAGED_FULL_SCANS}


def settings_of(sim: Any) -> Settings:
    """The settings of a simulation, made at the first look and kept in its attribute ``settings``."""
    if not hasattr(sim, "settings"):
        sim.settings = Settings(sim)
    return sim.settings


def to_integer(text: str) -> int | None:
    """The number that a file's text begins with, or None."""
    words = text.split()
    try:
        return int(words[0], 0) if words else None
    except ValueError:
        return None


def to_bool(text: str) -> int | None:
    """The truth value that a file's text begins with, or None. Models: lib/kstrtox.c kstrtobool()"""
    word = text.strip().lower()
    if word.startswith(("1", "y", "t", "on")):
        return 1
    return 0 if word.startswith(("0", "n", "f", "of")) else None


class Settings(dict):
    """Values by name: sysctls as ``vm.swappiness``, THP files as ``thp.enabled``. Filled with what boot sets."""

    def __init__(self, sim: Any):
        super().__init__({name: str(row[0]) for name, row in INTEGERS.items()} | FIXED)
        self.sim = sim
        if getattr(sim, "randomized", False):
            self[RANDOMIZE] = "2"  # which it is, is decided before the first task
        on = thp_at_boot(sim.layout, sim.cfg.options.transparent_hugepage)
        small = sum(z.managed_at_setup for z in sim.layout.zones) < (512 << 20) // 4096
        self.update(
            {"thp.enabled": on, "thp.defrag": "never" if small else THP_CHOICES["defrag"][DEFAULT_DEFRAG], "thp.shmem_enabled": "never"}
        )
        self["thp.use_zero_page"] = "0" if small else "1"
        self.update({f"thp.khugepaged/{name}": str(default) for name, (default, _) in KHUGEPAGED.items()})
        self.update({f"thp.khugepaged/{name}": "0" for name in KHUGEPAGED_COUNTERS})
        self.update({f"thp.{size}/enabled": "inherit" if order == 9 else "never" for size, order in THP_SIZES.items()})
        if small:
            self._set_state("use_zero_page", 0)
            self._set_state("defrag", THP_CHOICES["defrag"].index("never"))

    def knows_sysctl(self, name: str) -> bool:
        """Whether the sysctl can be read."""
        return name in self or self.sim.tuning.knows(name) or name in ("vm.stat_refresh", "vm.drop_caches", NUMA_BALANCING)

    def read_sysctl(self, name: str) -> str:
        """Text of a sysctl file."""
        if name == NUMA_BALANCING:
            return f"{int(self.sim.machine.sc[r.SC_NUMA_BALANCING])}\n"
        if name == LOWMEM_RESERVE_RATIO:  # its handler does not ask whether it is a write: a look sets the reserves up from today's managed pages
            self._write_tuning(name, self.sim.tuning.read(name))
        return f"{self.sim.tuning.read(name) if self.sim.tuning.knows(name) else self.get(name, '')}\n"

    def write_sysctl(self, name: str, text: str) -> int:
        """0, or -EINVAL with nothing changed; NotSupported where the value asks for what is not simulated."""
        if self.sim.tuning.knows(name):
            return self._write_tuning(name, text)
        if name in INTEGERS:
            return self._write_integer(name, text)
        if name == NUMA_BALANCING:
            return write_numa_balancing(self.sim, to_integer(text))
        if name == "vm.stat_refresh":
            return refresh_counters(self.sim)
        if name == "vm.compact_memory":
            return compact_memory(self.sim, to_integer(text))
        if name == "vm.drop_caches":
            return drop_caches(self.sim, to_integer(text))
        if name in FIXED and text.strip() == self[name]:
            return 0
        raise NotSupported(f"sysctl {name} = {text.strip()}: not supported yet")

    def _write_tuning(self, name: str, text: str) -> int:
        sim = self.sim
        zones = len(sim.layout.zones)
        sim.tuning.boost = sim.machine.zone[: zones * r.ZONE_STRIDE].reshape(zones, r.ZONE_STRIDE)[:, r.Z_WATERMARK_BOOST].tolist()
        result = sim.tuning.write(name, text)
        if result == 0:
            apply_tuning(sim.machine, sim.layout, sim.tuning)
            if name == "vm.watermark_boost_factor":
                sim.machine.sc[r.SC_BOOST_FACTOR] = sim.tuning.values[name][0]
        return result

    def _write_integer(self, name: str, text: str) -> int:
        _, low, high, scalar = INTEGERS[name]
        value = to_integer(text)
        if value is None or not low <= value <= high:
            return -EINVAL
        self[name] = str(value)
        if scalar is not None:
            self.sim.machine.sc[scalar] = value
        other = {"vm.overcommit_ratio": "vm.overcommit_kbytes", "vm.overcommit_kbytes": "vm.overcommit_ratio"}.get(name)
        if other:
            self[other] = "0"
            self.sim.machine.sc[r.SC_COMMIT_LIMIT] = self.commit_limit()
        if name == "kernel.numa_balancing_promote_rate_limit_MBps":
            self.sim.machine.numab[r.NB_RATE_LIMIT] = value
        if name == "vm.stat_interval":
            self.sim.machine.sc[r.SC_STAT_INTERVAL_NS] = value * 1_000_000_000
        if name in DIRTY:
            self._write_dirty(name, value)
        if name == PROACTIVENESS and value:
            wake_kcompactd(self.sim)
        return 0

    def _write_dirty(self, name: str, value: int) -> None:
        """vm.dirty_*: a size in bytes replaces one in percent, and the other way round; an interval that is set starts or stops the flusher's looks."""
        wb = self.sim.machine.wb
        field, other = DIRTY[name]
        centisecs = name.endswith("_centisecs")
        changed = wb[field] != value or "background" in name
        wb[field] = value * 10_000_000 if centisecs else value
        if other and changed:
            wb[DIRTY[other][0]] = 0
            self[other] = "0"
            if "background" not in name:
                self.set_dirty_limit()
        if field == r.WB_INTERVAL_NS:
            dirty = wb[r.WB_LISTS + 2 * r.IO_DIRTY] > 0 and value > 0
            wb[r.WB_TIMER_NS] = self.sim.machine.sc[r.SC_NOW_NS] + wb[field] if dirty else NEVER_NS
            wb[r.WB_NEXT_NS] = min(wb[r.WB_TIMER_NS], wb[r.WB_IO_NEXT_NS])
            self.sim.machine.sc[r.SC_NEXT_EVENT_NS] = 0

    def set_dirty_limit(self) -> None:
        """The limit that the flusher's chunks go by starts from the threshold of now. Models: mm/page-writeback.c writeback_set_ratelimit()."""
        self.sim.machine.run(page_writeback.set_dirty_limit)

    def commit_limit(self) -> int:
        """vm_commit_limit() in pages, from vm.overcommit_kbytes or vm.overcommit_ratio."""
        sc, kbytes = self.sim.machine.sc, int(self["vm.overcommit_kbytes"])
        allowed = kbytes >> 2 if kbytes else int(sc[r.SC_TOTALRAM]) * int(self["vm.overcommit_ratio"]) // 100
        return allowed + max(0, int(sc[r.SC_NR_SWAP_SLOTS]) - 1)

    def _thp_state(self, name: str) -> Any:
        """An array of the thp policy's state; None if the policy has no such thing."""
        return getattr(self.sim.machine.states.get("thp"), name, None)

    def _set_state(self, name: str, value: int) -> None:
        array = self._thp_state(name)
        if array is not None:
            array[0] = value

    def read_thp(self, name: str) -> str:
        """A file of /sys/kernel/mm/transparent_hugepage; choices with the one in force in brackets."""
        choices = SIZE_ENABLED if name.startswith("hugepages-") else THP_CHOICES.get(name)
        if choices is not None:
            return " ".join(f"[{word}]" if word == self[f"thp.{name}"] else word for word in choices) + "\n"
        counter = KHUGEPAGED_COUNTERS.get(name.removeprefix("khugepaged/"))
        return f"{self['thp.' + name] if counter is None else int(self.sim.machine.sc[counter])}\n"

    def write_thp(self, name: str, text: str) -> int:
        """Write such a file. ``enabled`` also changes min_free_kbytes as khugepaged does."""
        value = text.strip()
        if name.startswith("khugepaged/"):
            return self._write_khugepaged(name, value)
        if name.startswith("hugepages-"):
            return self._write_size(name, value)
        if value not in THP_CHOICES.get(name, ("0", "1")):
            return -EINVAL
        if name == "enabled":
            self._switch_thp(value)
        elif name == "defrag":
            self._set_state("defrag", THP_CHOICES["defrag"].index(value))
        elif name == "use_zero_page":
            self._set_state("use_zero_page", int(value))
        elif name == "shmem_enabled":
            mode = SHMEM_HUGE[value]
            self.sim.machine.sc[r.SC_SHMEM_HUGE] = mode
            if mode >= 0:
                self.sim.machine.sc[r.SC_SHMEM_MOUNT_HUGE] = mode
        self[f"thp.{name}"] = value
        return 0

    def _write_size(self, name: str, value: str) -> int:
        """``hugepages-NkB/enabled``."""
        if value not in SIZE_ENABLED:
            return -EINVAL
        orders = self._thp_state("orders")
        if orders is None:
            raise NotSupported(f"transparent_hugepage/{name} with the thp policy {self.sim.machine.chosen['thp'].policy.name}: not supported yet")
        order = THP_SIZES[name.partition("/")[0]]
        orders &= ~(1 << order)
        orders[SIZE_ENABLED.index(value)] |= 1 << order
        self[f"thp.{name}"] = value
        self.sim.machine.sc[r.SC_MTHP_ORDERS] = int(orders[0] | orders[1] | orders[2]) & ~(1 << 9)
        self._khugepaged_started()
        return 0

    def _write_khugepaged(self, name: str, text: str) -> int:
        value = to_integer(text)
        short = name.removeprefix("khugepaged/")
        if short in KHUGEPAGED_COUNTERS:
            return -EACCES
        if value is None or not 0 <= value <= KHUGEPAGED[short][1] or (short == "pages_to_scan" and value == 0):
            return -EINVAL
        self[f"thp.{name}"] = str(value)
        self._set_state("khugepaged_defrag" if short == "defrag" else short, value)
        if short.endswith("sleep_millisecs"):
            self._wake_khugepaged()
        return 0

    def _wake_khugepaged(self) -> None:
        sc = self.sim.machine.sc
        if sc[r.SC_KHUGEPAGED_WAKE] == r.KHUGEPAGED_LOCKED_OUT and self.sim.machine.sizes.nr_cpus == 1:
            sc[r.SC_KHUGEPAGED_WAKE] = r.KHUGEPAGED_RAN  # that pass was over before this call began
            sc[r.SC_KHUGEPAGED_FULL_SCANS] += 1
        sc[r.SC_THP_TIMER_NS] = sc[r.SC_NEXT_EVENT_NS] = sc[r.SC_NOW_NS]

    def _switch_thp(self, mode: str) -> None:
        running = self.sim.machine.chosen["thp"].policy.name
        state = self._thp_state("mode")
        if state is not None:
            state[0] = THP_CHOICES["enabled"].index(mode)
        elif mode != running:
            raise NotSupported(f"transparent_hugepage/enabled = {mode} while the thp policy is {running}: not supported yet")
        self["thp.enabled"] = mode
        self._khugepaged_started()

    def _khugepaged_started(self) -> None:
        """khugepaged runs while huge PMDs may come about, and then wants more memory free."""
        size = self["thp.hugepages-2048kB/enabled"]
        self.sim.tuning.thp_switched(size in ("always", "madvise") or (size == "inherit" and self["thp.enabled"] != "never"))
        apply_tuning(self.sim.machine, self.sim.layout, self.sim.tuning)
        sc, scan_pass = self.sim.machine.sc, self._thp_state("scan_pass")
        if self.sim.tuning.thp_pmd_enabled and sc[r.SC_THP_TIMER_NS] == NEVER_NS:
            self._wake_khugepaged()
        elif not self.sim.tuning.thp_pmd_enabled and scan_pass is not None:  # the thread ends; another one will begin afresh
            sc[r.SC_THP_TIMER_NS], sc[r.SC_KHUGEPAGED_WAKE], sc[r.SC_KHUGEPAGED_READY] = NEVER_NS, r.KHUGEPAGED_NEW, 0
            scan_pass[:] = 0


def write_numa_balancing(sim: Any, mode: int | None) -> int:
    """kernel.numa_balancing: 1 normal, 2 memory tiering, 3 both. Tiering begins with fresh hot thresholds. Models: reset_memory_tiering()."""
    if mode is None or not 0 <= mode <= NUMA_BALANCING_MAX:
        return -EINVAL
    machine = sim.machine
    if mode & ~int(machine.sc[r.SC_NUMA_BALANCING]) & NUMA_BALANCING_MEMORY_TIERING:
        for node in range(sim.layout.nr_nodes):
            row = node * r.NODE_STRIDE
            machine.node[row + r.N_NBP_THRESHOLD] = 0
            machine.node[row + r.N_NBP_TH_NR_CAND] = machine.vmstat[node * VMSTAT_STRIDE + V_PGPROMOTE_CANDIDATE]
            machine.node[row + r.N_NBP_TH_START] = machine.sc[r.SC_NOW_NS] // 4_000_000 * 4
    machine.sc[r.SC_NUMA_BALANCING] = mode
    machine.sc[r.SC_NEXT_EVENT_NS] = 0
    return 0


def read_numab(sim: Any, name: str) -> str:
    """A file of debugfs's sched/numa_balancing."""
    return f"{int(sim.machine.numab[NUMAB_FILES[name]])}\n"


def write_numab(sim: Any, name: str, text: str) -> int:
    """Write such a file; tasks take over new periods when they are adapted next."""
    value = to_integer(text)
    if value is None or not 0 <= value <= INT_MAX:
        return -EINVAL
    sim.machine.numab[NUMAB_FILES[name]] = value
    return 0


def refresh_counters(sim: Any) -> int:
    """Fold every CPU's differences into the zones' counters. Models: mm/vmstat.c vmstat_refresh()."""
    machine = sim.machine
    zones = machine.sizes.nr_zones
    machine.pcp.reshape(-1, r.PCP_STRIDE)[:, r.PCP_LRU_DIFF : r.PCP_LRU_DIFF + NR_LRU_LISTS] = 0
    for cpu in range(machine.sizes.nr_cpus):
        for number in range(zones):
            slot = (cpu * zones + number) * r.PCP_STRIDE + r.PCP_FREE_DIFF
            machine.zone[number * r.ZONE_STRIDE + r.Z_FREE] += machine.pcp[slot]
            machine.pcp[slot] = 0
    return 0


def compact_memory(sim: Any, value: int | None) -> int:
    """A write to vm.compact_memory: every node is compacted as far as it goes. Models: mm/compaction.c sysctl_compaction_handler()."""
    if value != 1:
        return -EINVAL
    for node in range(sim.layout.nr_nodes):
        sim.machine.run(compaction.compact_node, node)
    return 0


def wake_kcompactd(sim: Any) -> None:
    """Every node's score is looked at now. Models: mm/compaction.c compaction_proactiveness_sysctl_handler()."""
    sc, rows = sim.machine.sc, sim.machine.node.reshape(-1, r.NODE_STRIDE)
    rows = rows[: sim.layout.nr_nodes]
    rows[rows[:, r.N_KCOMPACTD_ZONE] == 0, r.N_KCOMPACTD_NEXT_NS] = PROACTIVE_TRIGGER  # one that is at it will look by itself
    sc[r.SC_KCOMPACTD_NS] = sc[r.SC_NEXT_EVENT_NS] = 0


def drop_caches(sim: Any, value: int | None) -> int:
    """Write vm.drop_caches: bit 0 the page cache, bit 1 reclaimable slab, 4 only silences a message."""
    if value is None or not 1 <= value <= 4:
        return -EINVAL
    if value & 1:
        sim.machine.run(files.drop_caches)
    if value & 2:
        sim.machine.run(shrinker.drop_slab)
    return 0
