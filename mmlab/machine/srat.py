"""Numbers of NUMA nodes: the firmware's table names proximity domains, and the kernel numbers them in the order in which it meets them.

A table lists its CPUs before its memory, so nodes with CPUs come first, in the order of their first CPU; the others follow by address. On
most machines both orders are the same. Models: drivers/acpi/numa/srat.c acpi_map_pxm_to_node(), as QEMU writes the table.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmlab.machine import memmap
from mmlab.machine.config import MachineConfig, machine_from_table


def domains_in_order(cfg: MachineConfig) -> list[int]:
    """The domains, which the machine's description lists by address, in the order of the kernel's node numbers."""
    with_cpus = sorted((min(cpus), domain) for domain, cpus in enumerate(cfg.node_cpus()) if cpus)
    first = [domain for _, domain in with_cpus]
    return first + [domain for domain in range(cfg.nr_nodes) if domain not in first]


def with_kernel_numbers(table: Mapping[str, Any], where: str = "") -> dict[str, Any]:
    """A ``[machine]`` table with a ``boot`` record whose ``nodes``, ``distances`` and ``hmat`` name domains: the same with the kernel's node
    numbers, and where each node's memory lies. Raises InputError with every error of the table but for the record."""
    cfg = machine_from_table({key: value for key, value in table.items() if key != "boot"}, where)
    order = domains_in_order(cfg)
    if order == sorted(order):
        return dict(table)
    node = {domain: number for number, domain in enumerate(order)}
    nodes = [dict(table["nodes"][domain]) for domain in order]
    for of_node in nodes:
        if "initiator" in of_node:
            of_node["initiator"] = node[of_node["initiator"]]
    pairs = {key: [[node[a], node[b], *rest] for a, b, *rest in table[key]] for key in ("distances", "hmat") if key in table}
    ranges = memmap.split_over_nodes(cfg, memmap.usable_ranges(cfg))
    boot = {**table["boot"], "node_ranges": [[node[domain], start << 12, (end << 12) - 1] for domain, start, end in ranges]}
    return {**table, "nodes": nodes, **pairs, "boot": boot}
