"""Zonelists: the order in which an allocation tries zones."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from .config import MAX_NUMNODES
from .layout import MachineLayout

PENALTY_FOR_NODE_WITH_CPUS = 1


@attrs.frozen
class Zonelists:
    """By node: zones in the order they are tried, as positions in ``layout.zones``. ``node_order``: the nodes of the fallback list."""

    fallback: tuple[tuple[int, ...], ...]
    thisnode: tuple[tuple[int, ...], ...]
    node_order: tuple[tuple[int, ...], ...]

    def names(self, layout: MachineLayout, node: int, which: str = "fallback") -> list[str]:
        """``["0:DMA32", "0:DMA"]``; ``which`` is ``fallback`` or ``thisnode``."""
        row = (self.fallback if which == "fallback" else self.thisnode)[node]
        return [f"{layout.zones[i].node}:{layout.zones[i].name}" for i in row]


def node_orders(distances: Sequence[Sequence[int]], with_memory: set[int], with_cpus: set[int]) -> list[tuple[int, ...]]:
    """The node order of every node's fallback list.

    Nearest first; of equally near nodes one after the list's own is preferred, one without CPUs, and one that heads fewer groups of other
    lists (node_load, which grows while the lists are built in node order). Models: mm/page_alloc.c build_zonelists(), find_next_best_node()
    """
    nr = len(distances)
    load = [0] * nr
    orders = []
    for node in range(nr):
        order: list[int] = []
        previous = node
        if node in with_memory:
            order.append(node)
        while len(order) < len(with_memory):

            def value(n: int, node: int = node) -> int:
                near = distances[node][n] + (n < node) + (PENALTY_FOR_NODE_WITH_CPUS if n in with_cpus else 0)
                return near * MAX_NUMNODES + load[n]

            best = min((n for n in sorted(with_memory) if n not in order), key=value)
            if distances[node][best] != distances[node][previous]:
                load[best] += 1
            order.append(best)
            previous = best
        orders.append(tuple(order))
    return orders


def build_zonelists(layout: MachineLayout) -> Zonelists:
    """Zonelists of every node: all zones of a node that have memory, highest first, before those of the next. At boot no CPU is known to be
    any node's yet."""
    by_node = [[i for i, z in reversed(list(enumerate(layout.zones))) if z.node == n and z.managed] for n in range(layout.nr_nodes)]
    with_memory = {n for n, zones in enumerate(by_node) if zones}
    with_cpus = {n for n, cpus in enumerate(layout.node_cpus) if cpus and layout.zonelists_rebuilt}
    orders = node_orders(layout.distances, with_memory, with_cpus)
    fallback = tuple(tuple(i for n in order for i in by_node[n]) for order in orders)
    return Zonelists(fallback, tuple(map(tuple, by_node)), tuple(orders))
