"""NUMA policies as text, and /sys/kernel/mm/mempolicy/weighted_interleave."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from mmlab.model import rows as r
from mmlab.model.const import EINVAL, ENOENT

_WORDS = ("default", "prefer", "bind", "interleave", "local", "prefer (many)", "weighted interleave")
_WEIGHT = re.compile(r"/sys/kernel/mm/mempolicy/weighted_interleave/node(\d+)")
MAX_WEIGHT = 255


def node_ranges(numbers: Iterable[int]) -> str:
    """``0-2,5``: ascending numbers as Linux lists CPUs and nodes."""
    ranges: list[list[int]] = []
    for n in numbers:
        if ranges and ranges[-1][1] == n - 1:
            ranges[-1][1] = n
        else:
            ranges.append([n, n])
    return ",".join(f"{a}-{b}" if a != b else str(a) for a, b in ranges)


def policy_text(policy: int) -> str:
    """``interleave:0-1``, of a policy's number. Models: mm/mempolicy.c mpol_to_str()."""
    nodes = node_ranges(node for node in range(32) if policy >> 8 + node & 1)
    return f"{_WORDS[policy & 255]}:{nodes}" if nodes else _WORDS[policy & 255]


def weight_node(path: str) -> int:
    """The node whose weight the file would hold, whether or not the machine has it, or -1 for another file."""
    match = _WEIGHT.fullmatch(path)
    return int(match[1]) if match else -1


def read_weight(sim: Any, node: int) -> str:
    """The node's share of a weighted interleave; 1 if none was set. FileNotFoundError for a node that the machine has not."""
    if node >= sim.layout.nr_nodes:
        raise FileNotFoundError(f"weighted_interleave/node{node}: the machine has {sim.layout.nr_nodes}")
    return f"{max(1, int(sim.machine.node[node * r.NODE_STRIDE + r.N_WEIGHT]))}\n"


def write_weight(sim: Any, node: int, text: str) -> int:
    """0, -ENOENT for a node that the machine has not, or -EINVAL beyond 255; 0 or nothing at all sets the default."""
    if node >= sim.layout.nr_nodes:
        return -ENOENT
    words = text.split()
    if words and not words[0].isdigit() or words and int(words[0]) > MAX_WEIGHT:
        return -EINVAL
    sim.machine.node[node * r.NODE_STRIDE + r.N_WEIGHT] = int(words[0]) if words else 0
    return 0
