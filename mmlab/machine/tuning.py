"""``ZoneTuning``: the sysctls behind watermarks, reserves and per-CPU limits, and what each write recomputes."""

from __future__ import annotations

from collections.abc import Callable

from . import watermarks as wm
from .layout import MachineLayout
from .watermarks import PcpLimits, Watermarks

EINVAL = 22
INT_MAX = 2**31 - 1
NO_USER_VALUE = -1
#: sysctls of ZoneTuning: what boot sets, the least and greatest value allowed for each of its numbers
TUNED: dict[str, tuple[tuple[int, ...], int, int]] = {
    "vm.min_free_kbytes": ((1024,), 0, INT_MAX),
    "vm.watermark_scale_factor": ((10,), 1, 3000),
    "vm.watermark_boost_factor": ((15000,), 0, INT_MAX),
    "vm.lowmem_reserve_ratio": (wm.LOWMEM_RESERVE_RATIO, -INT_MAX - 1, INT_MAX),
    "vm.percpu_pagelist_high_fraction": ((0,), 0, INT_MAX),
}


def thp_at_boot(layout: MachineLayout, mode: str | None = None) -> str:
    """transparent_hugepage/enabled after boot: the command line's mode or always; never with under 512 MiB managed.

    Models: mm/huge_memory.c hugepage_init()
    """
    small = sum(z.managed_at_setup for z in layout.zones) < wm.THP_MIN_TOTALRAM_PAGES
    return "never" if small else mode or "always"


class ZoneTuning:
    """Watermarks and limits of all zones of a machine, in the order of ``layout.zones``, as they are at this moment.

    The constructor does what boot does; then ``write`` (a sysctl), ``thp_switched`` and ``hotplug`` recompute what Linux recomputes, no
    more. Read: ``wmark`` (Watermarks), ``lowmem_reserve`` (five numbers), ``pcp`` (PcpLimits), ``stat_threshold``, ``percpu_drift_mark``:
    lists by zone; ``totalreserve_pages``; ``mobility_disabled``. ``managed`` (list) is set by the caller when memory is added or given
    back, and counts at the next recomputation. ``boost`` (list) is the zones' watermark_boost: set it before a call, which needs it and
    may zero it. ``thp``: the command line's transparent_hugepage mode, None if it has none.

    Models: mm/page_alloc.c init_per_zone_wmark_min() and the sysctl handlers, mm/khugepaged.c start_stop_khugepaged()
    """

    def __init__(self, layout: MachineLayout, thp: str | None = None):
        self.layout = layout
        self.zones = layout.zones
        n = len(self.zones)
        self.managed = [z.managed_at_setup for z in self.zones]
        self.boost = [0] * n
        self.wmark = [Watermarks(0, 0, 0, 0)] * n
        self.lowmem_reserve: list[tuple[int, ...]] = [(0,) * wm.NR_ZONES] * n
        self.pcp = [PcpLimits(1, 0, 0)] * n
        self.stat_threshold = [0] * n
        self.percpu_drift_mark = [0] * n
        self.totalreserve_pages = 0
        self.user_min_free_kbytes = NO_USER_VALUE
        self.thp_pmd_enabled = False
        self.values = {name: list(at_boot) for name, (at_boot, _, _) in TUNED.items()}
        self._writers: dict[str, Callable[[list[int]], int]] = {
            "vm.min_free_kbytes": self._write_min_free_kbytes,
            "vm.watermark_scale_factor": self._write_watermark_scale_factor,
            "vm.watermark_boost_factor": self._store("vm.watermark_boost_factor"),
            "vm.lowmem_reserve_ratio": self._write_lowmem_reserve_ratio,
            "vm.percpu_pagelist_high_fraction": self._write_high_fraction,
        }
        self.mobility_disabled = wm.mobility_grouping_disabled(sum(self.managed))
        self._boot(thp_at_boot(layout, thp))

    def _boot(self, thp: str) -> None:
        small = sum(self.managed) < wm.THP_MIN_TOTALRAM_PAGES
        self._init_per_zone_wmark_min()
        if not small:
            self.thp_switched(thp != "never")
        self.managed = [z.managed for z in self.zones]

    # What can happen to a running machine

    def knows(self, name: str) -> bool:
        """Whether ``write`` handles this sysctl (``vm.min_free_kbytes``)."""
        return name in TUNED

    def read(self, name: str) -> str:
        """The sysctl's text, values separated by tabs."""
        return "\t".join(map(str, self.values[name]))

    def write(self, name: str, text: str | int) -> int:
        """Write a sysctl: 0, or -22 (EINVAL) with nothing changed. KeyError for a name it does not know."""
        _, low, high = TUNED[name]
        try:
            new = [int(w, 0) for w in str(text).split()]
        except ValueError:
            return -EINVAL
        new = new[: len(self.values[name])]
        if not new or any(not low <= v <= high for v in new):
            return -EINVAL
        return self._writers[name](new)

    def thp_switched(self, pmd_enabled: bool) -> None:
        """A write to any of transparent_hugepage's ``enabled`` files; ``pmd_enabled``: whether PMD-sized THP is on anywhere after it."""
        self.thp_pmd_enabled = pmd_enabled
        self._set_recommended_min_free_kbytes()
        self._setup_per_zone_wmarks()

    def hotplug(self) -> None:
        """Memory came or went (``managed`` is already up to date)."""
        self._init_per_zone_wmark_min()
        if self.thp_pmd_enabled:
            self.thp_switched(True)

    # The kernel's steps

    def _high(self) -> list[int]:
        return [w.high + b for w, b in zip(self.wmark, self.boost)]

    def _buffer_pages(self) -> int:
        """Pages above high in the zones of a GFP_KERNEL zonelist: those up to Normal of all nodes."""
        use = [i for i, z in enumerate(self.zones) if z.index <= wm.ZONE_NORMAL]
        high = self._high()
        return wm.free_buffer_pages([self.managed[i] for i in use], [high[i] for i in use])

    def _calculate_min_free_kbytes(self) -> None:
        new = wm.boot_min_free_kbytes(self._buffer_pages())
        if new > self.user_min_free_kbytes:
            self.values["vm.min_free_kbytes"] = [new]

    def _set_recommended_min_free_kbytes(self) -> None:
        if not self.thp_pmd_enabled:
            self._calculate_min_free_kbytes()
            return
        nr_zones = sum(z.index <= wm.ZONE_NORMAL and managed > 0 for z, managed in zip(self.zones, self.managed))
        wanted = wm.khugepaged_min_free_kbytes(nr_zones, self._buffer_pages())
        self.values["vm.min_free_kbytes"] = [max(wanted, self.values["vm.min_free_kbytes"][0])]

    def _init_per_zone_wmark_min(self) -> None:
        self._calculate_min_free_kbytes()
        self._setup_per_zone_wmarks()
        cpus = self.layout.nr_cpus
        for i, managed in enumerate(self.managed):
            self.stat_threshold[i] = wm.stat_threshold(managed, cpus)
            self.percpu_drift_mark[i] = wm.percpu_drift_mark(self.wmark[i], self.stat_threshold[i], cpus)
        self._setup_lowmem_reserve()

    def _setup_per_zone_wmarks(self) -> None:
        lowmem = sum(m for z, m in zip(self.zones, self.managed) if z.index != wm.ZONE_MOVABLE)
        for i, z in enumerate(self.zones):
            self.wmark[i] = wm.zone_watermarks(
                self.managed[i], z.index, lowmem, self.values["vm.min_free_kbytes"][0], self.values["vm.watermark_scale_factor"][0]
            )
            self.boost[i] = 0
        self._update_totalreserve()
        self._update_pcp()

    def _setup_lowmem_reserve(self) -> None:
        for node in range(self.layout.nr_nodes):
            rows = wm.lowmem_reserve(self.layout.node_managed(node, self.managed), self.values["vm.lowmem_reserve_ratio"])
            for i, z in enumerate(self.zones):
                if z.node == node:
                    self.lowmem_reserve[i] = rows[z.index]
        self._update_totalreserve()

    def _update_totalreserve(self) -> None:
        self.totalreserve_pages = wm.totalreserve_pages(self.managed, self._high(), self.lowmem_reserve)

    def _update_pcp(self) -> None:
        fraction = self.values["vm.percpu_pagelist_high_fraction"][0]
        for i, z in enumerate(self.zones):
            low = self.wmark[i].low + self.boost[i]
            self.pcp[i] = wm.pcp_limits(self.managed[i], low, self.layout.cpus_sharing(z.node), fraction)

    # The handlers; each gets values that are in range

    def _store(self, name: str) -> Callable[[list[int]], int]:
        def store(new: list[int]) -> int:
            self.values[name] = new
            return 0

        return store

    def _write_min_free_kbytes(self, new: list[int]) -> int:
        self.values["vm.min_free_kbytes"] = new
        self.user_min_free_kbytes = new[0]
        self._setup_per_zone_wmarks()
        return 0

    def _write_watermark_scale_factor(self, new: list[int]) -> int:
        self.values["vm.watermark_scale_factor"] = new
        self._setup_per_zone_wmarks()
        return 0

    def _write_lowmem_reserve_ratio(self, new: list[int]) -> int:
        old = self.values["vm.lowmem_reserve_ratio"]
        self.values["vm.lowmem_reserve_ratio"] = [max(0, v) for v in new + old[len(new) :]]
        self._setup_lowmem_reserve()
        return 0

    def _write_high_fraction(self, new: list[int]) -> int:
        if 0 < new[0] < wm.MIN_HIGH_FRACTION:
            return -EINVAL
        if new != self.values["vm.percpu_pagelist_high_fraction"]:
            self.values["vm.percpu_pagelist_high_fraction"] = new
            self._update_pcp()
        return 0
