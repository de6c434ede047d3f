"""Tracepoints as files, /sys/kernel/tracing/events/vmscan/EVENT/enable, and the lines that they print.

Models: kernel/trace/trace_events.c event_enable_write(); include/trace/events/vmscan.h. Left out: fields of the kernel's lines that have no
counterpart here (gfp_flags where the simulator does not know them, the flags and most counts of mm_vmscan_lru_shrink_inactive).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from mmlab.mm.kswapd import kswapd_timers
from mmlab.model import rows as r
from mmlab.model.const import EINVAL
from mmlab.workload.gfp_names import gfp_text

ROOT = "/sys/kernel/tracing/events/"
LRU_NAMES = ("inactive_anon", "active_anon", "inactive_file", "active_file", "unevictable")


def _isolate(a: int, b: int, c: int, d: int, e: int, order: int) -> str:
    counts = f"nr_requested={b} nr_scanned={c} nr_skipped={d} nr_taken={e}"
    return f"classzone={a >> 8} order={order} {counts} lru={LRU_NAMES[a & 0xFF]}"


#: each event's number and its line, from five values and the order that reclaim works for
EVENTS: dict[str, tuple[int, Callable[..., str]]] = {
    "mm_vmscan_kswapd_sleep": (r.EVENT_KSWAPD_SLEEP, lambda a, *_: f"nid={a}"),
    "mm_vmscan_kswapd_wake": (r.EVENT_KSWAPD_WAKE, lambda a, b, *_: f"nid={a} order={b}"),
    "mm_vmscan_wakeup_kswapd": (r.EVENT_WAKEUP_KSWAPD, lambda a, b, *_: f"nid={a} order={b}"),
    "mm_vmscan_direct_reclaim_begin": (r.EVENT_DIRECT_RECLAIM_BEGIN, lambda a, b, *_: f"order={a} gfp_flags={gfp_text(b)}"),
    "mm_vmscan_direct_reclaim_end": (r.EVENT_DIRECT_RECLAIM_END, lambda a, *_: f"nr_reclaimed={a}"),
    "mm_vmscan_memcg_reclaim_begin": (r.EVENT_MEMCG_RECLAIM_BEGIN, lambda a, *_: f"order={a}"),
    "mm_vmscan_memcg_reclaim_end": (r.EVENT_MEMCG_RECLAIM_END, lambda a, *_: f"nr_reclaimed={a}"),
    "mm_vmscan_lru_isolate": (r.EVENT_LRU_ISOLATE, _isolate),
    "mm_vmscan_write_folio": (r.EVENT_WRITE_FOLIO, lambda a, *_: f"pfn={a:#x}"),
    "mm_vmscan_lru_shrink_inactive": (
        r.EVENT_LRU_SHRINK_INACTIVE, lambda a, b, c, d, e, _: f"nid={a} nr_scanned={b} nr_reclaimed={c} priority={d} flags=RECLAIM_WB_{('ANON', 'FILE')[e]}",
    ),
    "mm_vmscan_lru_shrink_active": (
        r.EVENT_LRU_SHRINK_ACTIVE,
        lambda a, b, c, d, e, _: f"nid={a} nr_taken={b + c} nr_active={b} nr_deactivated={c} nr_referenced={b} priority={d} flags={LRU_NAMES[e]}",
    ),
}  # fmt: skip
_BY_NUMBER = {number: (name, text) for name, (number, text) in EVENTS.items()}


def _events_of(path: str) -> list[int]:
    """Numbers of the events that a file switches: one, or all of vmscan."""
    parts = path.removeprefix(ROOT).split("/")
    if parts == ["vmscan", "enable"]:
        return sorted(_BY_NUMBER)
    return [EVENTS[parts[1]][0]] if len(parts) == 3 and parts[0] == "vmscan" and parts[1] in EVENTS and parts[2] == "enable" else []


def knows(path: str) -> bool:
    """Whether the path switches events that are simulated."""
    return path.startswith(ROOT) and bool(_events_of(path))


def paths() -> list[str]:
    """Every such file."""
    return [f"{ROOT}vmscan/enable", *(f"{ROOT}vmscan/{name}/enable" for name in EVENTS)]


def read(sim: Any, path: str) -> str:
    """1, 0, or X where some of several are on."""
    on = [int(sim.machine.trace[r.TRACE_EVENTS]) >> event & 1 for event in _events_of(path)]
    return f"{'1' if all(on) else 'X' if any(on) else '0'}\n"


def write(sim: Any, path: str, text: str) -> int:
    """Switch events on (1) or off (0): 0, or -EINVAL."""
    if text.strip() not in ("0", "1"):
        return -EINVAL
    _settle(sim)
    mask = sum(1 << event for event in _events_of(path))
    trace = sim.machine.trace
    if text.strip() == "1":
        trace[r.TRACE_EVENTS] |= mask
        trace[r.TRACE_EVER] |= mask
    else:
        trace[r.TRACE_EVENTS] &= ~mask
    return 0


def _settle(sim: Any) -> None:
    """Note what has happened without being noted yet."""
    sim.machine.run(kswapd_timers)


def switch_on(sim: Any, events: Iterable[str]) -> None:
    """Switch on those events (``vmscan:mm_vmscan_kswapd_wake``) of a list that are simulated."""
    for event in events:
        path = ROOT + event.replace(":", "/") + "/enable"
        if knows(path):
            write(sim, path, "1")


def names(sim: Any) -> list[str]:
    """The events that are on, or were."""
    return [name for name, (number, _) in EVENTS.items() if sim.machine.trace[r.TRACE_EVER] >> number & 1]


def lines(sim: Any) -> list[tuple[int, str]]:
    """(ns, line) of every event kept, in order."""
    machine = sim.machine
    if not machine.trace[r.TRACE_EVER]:
        return []
    _settle(sim)
    nr = int(machine.trace[r.TRACE_NR])
    rows = machine.trace[r.TRACE_HEAD : r.TRACE_HEAD + nr * r.TRACE_STRIDE].reshape(-1, r.TRACE_STRIDE).tolist()
    found = [(row[r.TR_NS], _line(sim, row)) for row in rows]
    if machine.trace[r.TRACE_LOST]:
        found.append((int(machine.sc[r.SC_NOW_NS]), f"# {int(machine.trace[r.TRACE_LOST])} events lost\n"))
    return found


def _line(sim: Any, row: list[int]) -> str:
    name, text = _BY_NUMBER[row[r.TR_EVENT]]
    return f"{_who(sim, row[r.TR_WHO]):>23} [{row[r.TR_CPU]:03}] ..... {row[r.TR_NS] // 1000 / 1e6:12.6f}: {name}: {text(*row[r.TR_ARGS :])}\n"


def _who(sim: Any, who: int) -> str:
    if who < 0:
        return f"kswapd{-who - 1}"
    task = next((task for task in sim.tasks.values() if task.index == who), None)
    return f"{task.name}-{task.pid}" if task else f"<...>-{who}"
