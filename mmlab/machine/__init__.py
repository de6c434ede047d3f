"""Machines: their description, memory map, zones, watermarks, zonelists and the state they start from."""

from __future__ import annotations

import attrs

from .aged import AGED_STATES, Aged
from .boot import BootState, PcpState, ZoneBoot, boot_from_json, fresh_boot
from .config import MachineConfig, NodeConfig, machine_from_table, parse_size
from .layout import MachineLayout, ZoneLayout, layout_from_boot, layout_from_config
from .memory_tiers import MemoryTiers, memory_tiers
from .overheads import MemmapPages, vmemmap_pages
from .presets import PRESETS, preset_table
from .procimport import ImportedMachine, import_machine, machine_toml, with_free_blocks
from .tuning import ZoneTuning, thp_at_boot
from .watermarks import PcpLimits, Watermarks
from .zonelists import Zonelists, build_zonelists

__all__ = [
    "AGED_STATES", "PRESETS", "Aged", "BootState", "ImportedMachine", "MachineConfig", "MachineLayout", "MemmapPages", "MemoryTiers", "NodeConfig", "PcpLimits", "PcpState",
    "Watermarks", "ZoneBoot", "ZoneLayout", "ZoneTuning", "Zonelists", "boot_from_json", "build_machine", "build_zonelists", "default_policy", "fresh_boot",
    "import_machine", "layout_from_boot", "layout_from_config", "layout_of", "machine_from_table", "machine_toml", "memory_tiers", "parse_size", "preset_table",
    "thp_at_boot", "vmemmap_pages",
]  # fmt: skip


LRU_GEN_OFF = ("0", "n", "0x0000")


def build_machine(cfg: MachineConfig, memmap_pages: MemmapPages = vmemmap_pages) -> tuple[MachineConfig, MachineLayout, BootState]:
    """The description (completed by an import), layout and starting state of a machine.

    From ``import_dir``, from ``boot``, or by Linux's formulas alone, in this order. ``memmap_pages`` counts in the last case only.
    ``aged.pagetypeinfo`` says what is free, whatever the rest comes from.
    """
    full, layout, boot = _described(cfg, memmap_pages)
    if cfg.aged is not None and cfg.aged.pagetypeinfo is not None:
        boot = with_free_blocks(boot, layout, cfg.aged.pagetypeinfo)
    return full, layout, boot


def _described(cfg: MachineConfig, memmap_pages: MemmapPages) -> tuple[MachineConfig, MachineLayout, BootState]:
    if cfg.import_dir is not None:
        got = import_machine(cfg.import_dir)
        full = attrs.evolve(
            cfg, memory_bytes=got.config.memory_bytes, cpus=got.config.cpus, nodes=got.config.nodes, distances=got.config.distances,
            swap_bytes=cfg.swap_bytes or got.config.swap_bytes, cmdline=" ".join(filter(None, (got.config.cmdline, cfg.cmdline))),
            sysctl={**got.config.sysctl, **cfg.sysctl},
        )  # fmt: skip
        return full, got.layout, got.boot
    if cfg.boot is not None:
        return cfg, layout_from_boot(cfg.boot, cfg), boot_from_json(cfg.boot)
    layout = layout_from_config(cfg, memmap_pages)
    return cfg, layout, fresh_boot(layout)


def layout_of(cfg: MachineConfig) -> MachineLayout:
    """The layout of a machine, whatever its memory has been through."""
    return _described(cfg, vmemmap_pages)[1]


def default_policy(slot: str, cfg: MachineConfig, default: str) -> str:
    """The policy of a slot that the machine's own settings choose; default: where they say nothing.

    thp: what [sysfs] says, else what Linux boots with (never below 512 MiB). reclaimer: two_list where lru_gen is off.
    """
    if slot == "thp":
        written = cfg.sysfs.get("kernel/mm/transparent_hugepage/enabled")
        if written in ("always", "madvise", "never"):
            return written
        return thp_at_boot(layout_of(cfg), cfg.options.transparent_hugepage)
    if slot == "reclaimer" and str(cfg.sysfs.get("kernel/mm/lru_gen/enabled", "y")).strip().lower() in LRU_GEN_OFF:
        return "two_list"
    return default
