"""What DAMON found as records of damo, its user-space tool: a list of targets with a snapshot an aggregation, as in a file of `damo record`.

Models: the JSON of damo 3 (`damo record --output_type json_compressed`); `damo report` reads it.
"""

from __future__ import annotations

from typing import Any

from mmlab_linux.monitor.damon.state import (
    C_AGGR_US, C_SAMPLE_US, C_UPDATE_US, CTX_STRIDE, EVENT_AGGREGATED, ONE_NR_TRACE, TR_AGE, TR_CTX, TR_END, TR_EVENT, TR_NR_ACCESSES,
    TR_NR_REGIONS, TR_NS, TR_START, TR_TARGET, TRACE_STRIDE,
)


def damo_records(machine: Any, state: Any) -> list[dict[str, Any]]:
    """A record a kdamond and target, from what damon_aggregated traced. Times in ns, addresses in bytes, intervals as the context has them now."""
    ctx = state.ctx.reshape(-1, CTX_STRIDE)
    rows = state.trace[: int(state.one[ONE_NR_TRACE]) * TRACE_STRIDE].reshape(-1, TRACE_STRIDE)
    records: dict[tuple[int, int], dict[str, Any]] = {}
    for row in rows[rows[:, TR_EVENT] == EVENT_AGGREGATED].tolist():
        k, target, now = row[TR_CTX], row[TR_TARGET], row[TR_NS]
        if (k, target) not in records:
            records[k, target] = _record(k, target, ctx[k].tolist())
        snapshots = records[k, target]["snapshots"]
        if not snapshots or len(snapshots[-1]["regions"]) == snapshots[-1].pop("nr_regions"):
            start = snapshots[-1]["end_time"] if snapshots else max(0, now - int(ctx[k, C_AGGR_US]) * 1000)
            snapshots.append({"start_time": start, "end_time": now, "regions": [], "total_bytes": None, "damos_stats": None, "sample_interval_us": None})
        snapshots[-1]["nr_regions"] = row[TR_NR_REGIONS]
        snapshots[-1]["regions"].append(_region(row))
    for record in records.values():
        for snapshot in record["snapshots"]:
            snapshot.pop("nr_regions", None)
            snapshot["total_bytes"] = sum(region["end"] - region["start"] for region in snapshot["regions"])
    return list(records.values())


def _record(k: int, target: int, ctx: list[int]) -> dict[str, Any]:
    intervals = {"sample_us": ctx[C_SAMPLE_US], "aggr_us": ctx[C_AGGR_US], "ops_update_us": ctx[C_UPDATE_US]}
    return {
        "kdamond_idx": k, "context_idx": 0, "intervals": intervals, "scheme_idx": None, "target_id": target, "scheme_filters": [],
        "snapshots": [], "data_source": "unknown",
    }  # fmt: skip


def _region(row: list[int]) -> dict[str, Any]:
    accesses, age = {"samples": row[TR_NR_ACCESSES], "percent": None}, {"usec": None, "aggr_intervals": row[TR_AGE]}
    return {"start": row[TR_START], "end": row[TR_END], "nr_accesses": accesses, "age": age, "probe_hits": [], "sz_filter_passed": 0}
