"""Reclaim's tracepoints: switched on by their files, counted as the counters of /proc/vmstat are."""

import gzip
import re

import pytest
from mm_script import Ran

from mmlab.errors import NotSupported
from mmlab.model.gfp import GFP_COMP, GFP_HIGHUSER_MOVABLE, GFP_KERNEL, GFP_RECLAIMABLE, GFP_ZERO
from mmlab.workload.gfp_names import gfp_text

EVENTS = "/sys/kernel/tracing/events/vmscan/"
STREAM = f"""
spawn A
mkfile f 40M
write /proc/sys/vm/drop_caches 1
snapshot s0
write {EVENTS}%s 1
fread A f 0 40M
sleep 500
write {EVENTS}enable 0
snapshot s1
"""
MACHINE = {"memory": "32M", "bare": True, "disk": "64M"}


def ran(event, lru_gen="0", script=STREAM):
    return Ran(script % event, sysfs={"kernel/mm/lru_gen/enabled": lru_gen}, **MACHINE)


def rows(run, event):
    lines = gzip.decompress(run.files["trace.txt.gz"]).decode().splitlines()
    return [dict(re.findall(r"(\w+)=(\S+)", line.partition(f"{event}: ")[2])) for line in lines if f" {event}: " in line]


def total(run, event, field):
    return sum(int(row[field]) for row in rows(run, event))


def risen(run, *names):
    before, after = (dict(line.split() for line in run.files[f"{label}/vmstat"].decode().splitlines()) for label in ("s0", "s1"))
    return sum(int(after[name]) - int(before[name]) for name in names)


@pytest.mark.parametrize("lru_gen", ["0", "7"])
def test_every_event_of_reclaim_is_in_the_trace(lru_gen):
    run = ran("enable", lru_gen)
    assert len(rows(run, "mm_vmscan_kswapd_wake")) == risen(run, "pageoutrun") > 8
    assert len(rows(run, "mm_vmscan_kswapd_wake")) == len(rows(run, "mm_vmscan_wakeup_kswapd"))
    stalls = risen(run, "allocstall_dma", "allocstall_dma32", "allocstall_normal", "allocstall_movable")
    assert len(rows(run, "mm_vmscan_direct_reclaim_begin")) == len(rows(run, "mm_vmscan_direct_reclaim_end")) == stalls
    assert total(run, "mm_vmscan_lru_shrink_inactive", "nr_reclaimed") == risen(run, "pgsteal_file", "pgsteal_anon") > 1000
    taken = sum(int(row["nr_taken"]) for row in rows(run, "mm_vmscan_lru_isolate") if row["lru"].startswith("inactive"))
    assert taken == risen(run, "pgscan_file", "pgscan_anon")
    assert max(int(row["nr_requested"]) for row in rows(run, "mm_vmscan_lru_isolate")) == (32 if lru_gen == "0" else 4096)
    assert len(rows(run, "mm_vmscan_kswapd_sleep")) == 1  # a tenth of a second after the stream: nothing woke it again


def test_only_what_is_switched_on_is_kept_and_nothing_without():
    run = ran("mm_vmscan_lru_isolate/enable")
    text = gzip.decompress(run.files["trace.txt.gz"]).decode().splitlines()
    assert text[0] == "# events: mm_vmscan_lru_isolate" and len(text) > 100
    assert all(" mm_vmscan_lru_isolate: " in line for line in text[1:])
    assert "trace.txt.gz" not in Ran(STREAM.replace(f"write {EVENTS}%s 1\n", ""), **MACHINE).files


def test_events_that_are_not_simulated_cannot_be_switched_on():
    with pytest.raises(NotSupported, match="mm_vmscan_throttled"):
        ran("mm_vmscan_throttled/enable")


def test_gfp_flags_are_printed_as_the_kernel_prints_them():
    assert gfp_text(GFP_HIGHUSER_MOVABLE | GFP_COMP | GFP_ZERO) == "GFP_HIGHUSER_MOVABLE|__GFP_ZERO|__GFP_COMP"
    assert gfp_text(GFP_KERNEL | GFP_RECLAIMABLE) == "GFP_KERNEL|__GFP_RECLAIMABLE" and gfp_text(0) == "0"
