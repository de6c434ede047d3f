"""The files of the multi-generational LRU: lru_gen/min_ttl_ms, and debugfs lru_gen with its commands (lru_gen/enabled is the core's).

Models: mm/vmscan.c lru_gen_seq_show(), lru_gen_seq_write(), run_cmd(), run_aging(), run_eviction(), min_ttl_ms_store().
Left out: lru_gen_full.
"""

from __future__ import annotations

from typing import Any

from mmlab.errors import NotSupported
from mmlab.kernels.jit import kernel
from mmlab.model.const import EINVAL, ERANGE, SCAN_MAY_SWAP, SCAN_MAY_UNMAP, SCAN_MAY_WRITEPAGE, SCAN_RECLAIM_IDX_SHIFT
from mmlab.model.gfp import MAX_NR_ZONES, ZONE_MOVABLE
from mmlab.model.rows import (
    SC_CPU, SC_IN_RECLAIM, SC_MM_WALK, SC_NOW_NS, SC_NR_NODES, SC_RECLAIM_MEMCG, SC_SHRINK_MEMCG, SC_TASK,
)
from mmlab_linux.reclaimer.mglru.aging import get_swappiness, try_to_inc_max_seq
from mmlab_linux.reclaimer.mglru.batch import lru_add_drain
from mmlab_linux.reclaimer.mglru.evict import evict_folios
from mmlab_linux.reclaimer.mglru.lrugen import BIRTH_NS, GEN_STRIDE, MAX_NR_GENS, MAX_SEQ, MIN_NR_GENS, MIN_SEQ, NR_STRIDE, max_seq, min_seq

COMMAND_FLAGS = SCAN_MAY_SWAP | SCAN_MAY_UNMAP | SCAN_MAY_WRITEPAGE | ZONE_MOVABLE << SCAN_RECLAIM_IDX_SHIFT


@kernel
def run_aging(m, st, lruvec, seq, can_swap, force_scan):
    """The command +: a new generation, if seq is the youngest. 0, -EINVAL for a seq beyond it, or -ERANGE: without force_scan no generation
    is merged into the next."""
    if seq < max_seq(st, lruvec):
        return 0
    if seq > max_seq(st, lruvec):
        return -EINVAL
    if force_scan == 0 and min_seq(st, lruvec, 1 - can_swap) + MAX_NR_GENS - 1 <= seq:
        return -ERANGE
    try_to_inc_max_seq(m, st, lruvec, seq, can_swap, force_scan)
    return 0


@kernel
def run_eviction(m, st, lruvec, seq, swappiness, nr_to_reclaim):
    """The command -: evict generations up to seq until nr_to_reclaim pages are gone. 0, or -EINVAL for one of the two youngest."""
    if seq + MIN_NR_GENS > max_seq(st, lruvec):
        return -EINVAL
    m.sc[SC_SHRINK_MEMCG] = m.sc[SC_RECLAIM_MEMCG] = lruvec // m.sc[SC_NR_NODES]
    m.sc[SC_IN_RECLAIM] = m.sc[SC_MM_WALK] = 1
    can_swap = 1 if swappiness else 0
    st.reclaimed[0] = 0
    while min_seq(st, lruvec, 1 - can_swap) <= seq and st.reclaimed[0] < nr_to_reclaim:
        if evict_folios(m, st, lruvec, COMMAND_FLAGS, swappiness) == 0:
            break
    m.sc[SC_IN_RECLAIM] = m.sc[SC_MM_WALK] = m.sc[SC_SHRINK_MEMCG] = m.sc[SC_RECLAIM_MEMCG] = 0
    return 0


@kernel
def lru_gen_command(m, st, what, lruvec, seq, option, more):
    """One command: what 0 ages (option: can_swap, -1 by vm.swappiness; more: force_scan), 1 evicts (option: swappiness, -1; more: pages)."""
    lru_add_drain(m, st, m.sc[SC_CPU])
    swappiness = option
    if option < 0:
        swappiness = get_swappiness(m, lruvec, SCAN_MAY_SWAP)
    elif option > 200:
        return -EINVAL
    if what == 0:
        can_swap = 1 if swappiness else 0
        return run_aging(m, st, lruvec, seq, can_swap, more)
    return run_eviction(m, st, lruvec, seq, swappiness, more)


def read_lru_gen(sim: Any) -> str:
    """Generations of every cgroup and node: number, age in ms, anonymous and file pages."""
    state, nodes = sim.machine.states["reclaimer"], sim.layout.nr_nodes
    now, text = int(sim.machine.sc[SC_NOW_NS]), ""
    for path, memcg in sim.cgroups.items():
        text += f"memcg {memcg + 1:5} /{path}\n"
        for node in range(nodes):
            text += f" node {node:5}\n"
            lruvec = memcg * nodes + node
            gen = state.gen[lruvec * GEN_STRIDE : (lruvec + 1) * GEN_STRIDE].tolist()
            nr = state.nr[lruvec * NR_STRIDE : (lruvec + 1) * NR_STRIDE].reshape(MAX_NR_GENS, 2, MAX_NR_ZONES).sum(axis=2).tolist()
            for seq in range(min(gen[MIN_SEQ], gen[MIN_SEQ + 1]), gen[MAX_SEQ] + 1):
                age = (now - gen[BIRTH_NS + seq % MAX_NR_GENS]) // 1_000_000
                sizes = [max(0, nr[seq % MAX_NR_GENS][kind]) if gen[MIN_SEQ + kind] <= seq else 0 for kind in range(2)]
                text += f" {seq:10} {age:10}" + "".join(f" {size:10} " for size in sizes) + "\n"
    return text


def write_lru_gen(sim: Any, text: str) -> int:
    """Commands, separated by commas or lines: `+ memcg node max_seq [can_swap [force_scan]]`, `- memcg node min_seq [swappiness [nr]]`."""
    for command in text.replace("\n", ",").split(","):
        if command.strip():
            error = _command(sim, command.split())
            if error:
                return error
    return 0


def _command(sim: Any, words: list[str]) -> int:
    try:
        numbers = [int(word) for word in words[1:]]
    except ValueError:
        return -EINVAL
    if words[0] not in ("+", "-") or not 3 <= len(numbers) <= 5:
        return -EINVAL
    memcg, node, seq = numbers[0] - 1, numbers[1], numbers[2]
    if memcg not in sim.cgroups.values() or not 0 <= node < sim.layout.nr_nodes:
        return -EINVAL
    option = numbers[3] if len(numbers) > 3 else -1
    more = numbers[4] if len(numbers) > 4 else (1 if words[0] == "+" else 1 << 40)
    sim.machine.sc[SC_TASK] = -1
    return sim.machine.run_policy("reclaimer", lru_gen_command, int(words[0] == "-"), memcg * sim.layout.nr_nodes + node, seq, option, more)


def write_min_ttl(sim: Any, text: str) -> int:
    """lru_gen/min_ttl_ms."""
    if not text.strip().isdigit():
        return -EINVAL
    sim.machine.states["reclaimer"].min_ttl_ms[0] = int(text)
    return 0


READ = {
    "/sys/kernel/mm/lru_gen/min_ttl_ms": lambda sim: f"{int(sim.machine.states['reclaimer'].min_ttl_ms[0])}\n",
    "/sys/kernel/debug/lru_gen": read_lru_gen,
}
WRITE = {
    "/sys/kernel/mm/lru_gen/min_ttl_ms": write_min_ttl,
    "/sys/kernel/debug/lru_gen": write_lru_gen,
}


class LruGenFiles:
    """The files of one simulation."""

    def __init__(self, sim: Any):
        self.sim = sim

    def paths(self) -> list[str]:
        """All of them."""
        return list(READ)

    def read(self, path: str) -> str:
        """Text of a file."""
        if path not in READ:
            raise NotSupported(f"{path}: not supported yet")
        return READ[path](self.sim)

    def write(self, path: str, text: str) -> int:
        """Write a file: 0 or -errno."""
        if path not in WRITE:
            raise NotSupported(f"{path} = {text.strip()}: not supported yet")
        return WRITE[path](self.sim, text)


def lru_gen_files(sim: Any, state: Any) -> dict[str, LruGenFiles]:
    """Where they lie."""
    files = LruGenFiles(sim)
    return {"/sys/kernel/mm/lru_gen/min_ttl_ms": files, "/sys/kernel/debug/lru_gen": files}
