"""Schemes: what they act on, what they count, how quotas, watermarks and filters hold them back."""

import gzip
import re

import pytest
from damon_script import ADMIN, CTX, pid, regions, run, scheme, setup

from mmlab.model.rows import COST_LRU_MOVE

pytestmark = pytest.mark.nojit
WARM = "spawn A\nmmap A r 8M anon align=2M huge=no\ntouch A r 0 8M w\nmmap A x 128K anon\ntouch A x 0 128K w\n"  # x: r's pages leave the LRU batch
ON, OFF = f"sysfs {ADMIN}0/state on\n", f"sysfs {ADMIN}0/state off\n"
STATS = f"sysfs {ADMIN}0/state update_schemes_stats\ntree /sys/kernel/{CTX}schemes st\n"
WHOLE = [("@A.r", "@A.r+8M")]


def stat(found, name, number=0):
    return found.folder.figure(f"cat[st].{number}/stats/{name}")


def applied(found, number=0):
    return [r for _, r in found.trace.applied if r.who == number]


def test_pageout_takes_what_is_cold_and_leaves_what_is_hot(tmp_path):
    halves = [("@A.r", "@A.r+4M"), ("@A.r+4M", "@A.r+8M")]
    script = WARM + setup("fvaddr", schemes=1) + pid(0, "A") + regions(0, *halves) + scheme(0, "pageout", (0, 0), (2, 100))
    script += "bg loop A r 0 4M 450 w period=1000\n" + ON + "join A\n" + STATS + OFF + "snapshot s\ntouch A r 4M 16 r\n"
    found = run(tmp_path, script, swap="32M")
    assert found.folder.figure("snap[s].A.smaps[r].Swap") == 4096 and found.folder.figure("snap[s].A.smaps[r].Rss") == 4096
    assert {(r.nr_accesses, r.age) for r in applied(found)} == {(0, 2)} and sum(r.bytes for r in applied(found)[:5]) >= 2 << 20
    # in windows 2 and 4; the second finds nothing mapped, which counts all the same
    assert stat(found, "sz_tried") == stat(found, "sz_applied") == 2 * (4 << 20) and stat(found, "nr_tried") == stat(found, "nr_applied")
    # out of the page tables but still under write-back: no major fault
    assert (found.rows[-1]["minflt"], found.rows[-1]["majflt"]) == (16, 0)


def test_an_action_begins_ages_again_and_stat_does_not(tmp_path):
    script = WARM + setup("fvaddr", schemes=2) + pid(0, "A") + regions(0, *WHOLE)
    script += scheme(0, "stat", (0, 20)) + scheme(1, "cold", (0, 0), (3, 100)) + ON + "sleep 950\n" + STATS + OFF
    found = run(tmp_path, script)
    assert max(r.age for _, passed in found.trace.aggregations for r in passed) <= 3  # the trace comes after the action
    assert {r.age for r in applied(found, 1)} == {3}
    assert stat(found, "nr_applied") == stat(found, "sz_applied") == 0
    assert stat(found, "sz_tried") == 9 * (8 << 20)
    assert stat(found, "sz_applied", 1) == stat(found, "sz_tried", 1) == 3 * (8 << 20)  # in windows 3, 6 and 9


def test_a_size_quota_limits_all_windows_but_the_first_and_goes_round(tmp_path):
    quota = "quotas/bytes 1048576\nquotas/reset_interval_ms 200"
    script = WARM + setup("fvaddr", schemes=1) + pid(0, "A") + regions(0, *WHOLE) + scheme(0, "stat", (0, 20), more=quota)
    found = run(tmp_path, script + ON + "sleep 2450\n" + STATS + OFF)
    sizes: dict[float, int] = {}
    for at, r in found.trace.applied:
        sizes[at] = sizes.get(at, 0) + r.bytes
    sizes_in_order = list(sizes.values())
    assert sizes_in_order[:2] == [8 << 20, 8 << 20] and max(sizes_in_order[2:]) == 1 << 20
    assert sum(sizes_in_order[2:]) == 12 << 20  # a window is two applications: 25 of them, the first two free
    least = min(r.start for r in applied(found))
    assert {(r.start - least) >> 20 for r in applied(found)} == set(range(8))  # window after window it goes on where it stopped
    last = [r for r in applied(found) if r.bytes < 8 << 20][-8:]
    assert all(after.start == before.end for before, after in zip(last, last[1:]) if after.start > before.start)  # and leaves out nothing between
    assert stat(found, "qt_exceeds") == 10  # each window that has ended, but the first


def test_a_missed_goal_doubles_the_quota_each_window(tmp_path):
    quota = "quotas/reset_interval_ms 200\nquotas/goals/nr_goals 1\nquotas/goals/0/target_value 100\nquotas/goals/0/current_value 0"
    script = WARM + setup("fvaddr", schemes=1) + pid(0, "A") + regions(0, *WHOLE) + scheme(0, "stat", (0, 20), more=quota) + ON
    look = f"sysfs {ADMIN}0/state update_schemes_effective_quotas\ncat /sys/kernel/{CTX}schemes/0/quotas/effective_bytes "
    script += f"sleep 950\n{look}a\nsysfs {CTX}schemes/0/quotas/goals/0/current_value 150\nsysfs {ADMIN}0/state commit_schemes_quota_goals\n"
    script += f"sleep 200\n{look}b\nsysfs {CTX}schemes/0/quotas/goals/0/current_value 100\nsysfs {ADMIN}0/state commit_schemes_quota_goals\n"
    found = run(tmp_path, script + f"sleep 1000\n{look}c\n" + OFF)
    a, b, c = (found.folder.figure(f"cat[{label}]") for label in "abc")
    # windows end with every second application: four by 0.95 s; then half of it a window; then it stays
    assert a == 16 and b in (8, 4) and c == b


def test_watermarks_keep_a_scheme_and_the_monitoring_off(tmp_path):
    marks = "watermarks/metric free_mem_rate\nwatermarks/interval_us 50000\nwatermarks/high {}\nwatermarks/mid 500\nwatermarks/low 300"
    start = "spawn A\nmmap A r 64M anon noreserve huge=no\ntouch A r 0 8M w\n" + setup("fvaddr", schemes=1) + pid(0, "A")
    start += regions(0, ("@A.r", "@A.r+8M")) + scheme(0, "stat", (0, 20), more=marks.format(700))
    steps = "sleep 500\ntouch A r 8M 27M w\nsleep 500\nmunmap A r 8M 9M\nsleep 500\ntouch A r 35M 20M w\nsleep 500\n"
    found = run(tmp_path, start + ON + steps + OFF, memory="64M")
    on = found.folder.op(1 + start.count("\n"))["at"] / 1e9
    counts = [sum(on + 0.5 * i <= at < on + 0.5 * (i + 1) for at, _ in found.trace.aggregations) for i in range(4)]
    # free memory 87 %, then 45, 59 (off only above 70), 28
    assert counts[0] == 0 and counts[1] in (3, 4, 5) and counts[2] in (4, 5) and counts[3] <= 1


def filter_lines(**files):
    """One filter of the first scheme."""
    lines = ["filters/nr_filters 1"]
    return "\n".join([*lines, *(f"filters/0/{name} {value}" for name, value in files.items())])


def test_an_address_filter_cuts_regions_at_its_bounds(tmp_path):
    inside = filter_lines(type="addr", matching="N", addr_start="@A.r+1M", addr_end="@A.r+3M")
    script = WARM + setup("fvaddr", schemes=1) + pid(0, "A") + regions(0, *WHOLE) + scheme(0, "stat", (0, 20), more=inside)
    found = run(tmp_path, script + ON + "sleep 750\n" + STATS + OFF)
    start = found.folder.regions_at(max(found.folder.ops))["A"]["r"][0]
    assert {r.start for r in applied(found)} >= {start + (1 << 20)}
    assert min(r.start for r in applied(found)) == start + (1 << 20) and max(r.end for r in applied(found)) == start + (3 << 20)


def test_what_a_filter_cuts_off_waits_for_the_next_round_and_the_whole_counts_as_tried(tmp_path):
    """Two regions of 4 MiB that never merge or split: 8 MiB / 3 is less than two pieces, two are more than half of three."""
    halves = [("@A.r", "@A.r+4M"), ("@A.r+4M", "@A.r+8M")]
    inside = filter_lines(type="addr", matching="N", addr_start="@A.r+1M", addr_end="@A.r+3M")
    script = WARM + setup("fvaddr", schemes=1) + pid(0, "A") + regions(0, *halves) + scheme(0, "stat", (0, 20), more=inside)
    script += f"sysfs {CTX}monitoring_attrs/nr_regions/min 3\nsysfs {CTX}monitoring_attrs/nr_regions/max 3\n"
    found = run(tmp_path, script + ON + "sleep 550\n" + STATS + OFF)
    rounds = [len(passed) for _, passed in found.trace.aggregations]
    assert rounds == [3, 4, 4, 4, 4, 4]  # cut at 1 MiB in the first round, at 3 MiB in the second
    assert [r.bytes for r in applied(found)] == 5 * [2 << 20]  # from the second round on
    assert stat(found, "nr_tried") == 4 and stat(found, "sz_tried") == (3 << 20) + 3 * (2 << 20)  # asked for before the last


def test_a_target_filter_leaves_out_a_task(tmp_path):
    script = WARM + WARM.replace(" A", " B") + setup("fvaddr", 2, 1) + pid(0, "A") + pid(1, "B") + regions(0, *WHOLE)
    script += regions(1, ("@B.r", "@B.r+8M")) + scheme(0, "stat", (0, 20), more=filter_lines(type="target", matching="Y", damon_target_idx=0))
    found = run(tmp_path, script + ON + "sleep 350\n" + STATS + OFF)
    assert stat(found, "sz_tried") == 3 * (8 << 20)
    assert {line.split("target_idx=")[1][0] for line in trace_text(found) if "damos_before_apply" in line} == {"1"}


def trace_text(found):
    return gzip.decompress((found.folder.path / "trace.txt.gz").read_bytes()).decode().splitlines()


def test_physical_pageout_spares_young_pages_and_filtered_ones(tmp_path):
    shared = "mmap A s 4M anon shared align=2M\ntouch A s 0 4M w\nmmap A y 128K anon\ntouch A y 0 128K w\n"
    script = WARM + shared + setup("paddr", schemes=1) + regions(0, ("0", "67108864"))
    script += scheme(0, "pageout", (0, 0), (2, 1000), filter_lines(type="anon", matching="Y")) + ON + "sleep 1500\n" + STATS + OFF + "snapshot s\n"
    found = run(tmp_path, script, swap="32M")
    assert found.folder.figure("snap[s].A.smaps[r].Rss") == 8192 and found.folder.figure("snap[s].A.smaps[r].Swap") == 0
    assert found.folder.figure("snap[s].A.smaps[s].Swap") == 4096


def test_a_memcg_filter_keeps_to_the_pages_of_a_cgroup(tmp_path):
    other = "spawn B\nmmap B q 4M anon align=2M huge=no\ntouch B q 0 4M w\nmmap B y 128K anon\ntouch B y 0 128K w\n"
    script = "cgroup g memory.max=32M\n" + WARM.replace("spawn A", "spawn A cgroup=g") + other + setup("paddr", schemes=1) + regions(0, ("0", "134217728"))
    script += scheme(0, "pageout", (0, 0), (2, 1000), filter_lines(type="memcg", matching="N", memcg_path="/g")) + ON + "sleep 1500\n" + STATS + OFF + "snapshot s\n"
    found = run(tmp_path, script, memory="128M", swap="64M", bare=False, reclaimer="mglru")
    assert found.folder.figure("snap[s].A.smaps[r].Swap") == 8192 and found.folder.figure("snap[s].B.smaps[q].Swap") == 0


def test_migrate_moves_cold_pages_to_another_node(tmp_path):
    script = "spawn A\nmmap A r 8M anon align=2M huge=no\ntouch A r 0 8M w\nmmap A x 128K anon\ntouch A x 0 128K w\n" + setup("paddr", schemes=1)
    script += regions(0, ("0", "67108864")) + scheme(0, "migrate_cold", (0, 0), (3, 1000), "target_nid 1") + "snapshot a\n"
    script += "bg loop A r 0 4M 1900 w period=2000\n" + ON + "join A\n" + STATS + OFF + "snapshot b\n"
    nodes = [{"memory": "64M", "cpus": [0]}, {"memory": "64M"}]
    found = run(tmp_path, script, memory="128M", nodes=nodes, bare=False)
    moved = found.folder.figure("snap[b].A.numa_maps[r].N1")
    assert found.folder.figure("snap[a].A.numa_maps[r].N1") == 0 and 800 <= moved <= 1300  # the cold half is 1024 pages
    assert stat(found, "sz_applied") >= moved * 4096 and found.folder.figure("delta[a,b].vmstat.pgmigrate_success") >= moved


@pytest.mark.parametrize("node", [-1, 0, 5])
def test_what_stays_on_its_node_is_handled_all_the_same(tmp_path, node):
    """Migration to no node, its own or one that is not there takes each page off its list and back: 8 MiB of them, twice 60 ns each."""
    script = WARM + setup("paddr", schemes=1) + regions(0, ("0", "67108864")) + scheme(0, "migrate_cold", (0, 1000), more=f"target_nid {node}")
    found = run(tmp_path, script + ON + "sleep 105\n" + STATS + OFF)
    assert stat(found, "sz_tried") == 64 << 20 and stat(found, "sz_applied") == 0
    took = found.trace.aggregations[0][0] - found.trace.applied[0][0]
    assert took * 1e9 >= 2048 * 2 * found.sim.machine.cost[COST_LRU_MOVE] > 0


def test_schemes_on_physical_memory_move_pages_between_the_lists(tmp_path):
    script = WARM + setup("paddr", schemes=2) + regions(0, ("0", "67108864")) + scheme(0, "lru_prio", (10, 20)) + scheme(1, "lru_deprio", (0, 0), (3, 1000))
    found = run(tmp_path, script + "snapshot a\nbg loop A r 0 4M 1500 w period=2000\n" + ON + "join A\n" + STATS + OFF + "snapshot b\n")
    grown = found.folder.figure("delta[a,b].meminfo.Active(anon)")
    assert 3000 < grown < 5200  # kB: the hot 4 MiB


def test_tried_regions_are_those_of_the_next_round(tmp_path):
    script = WARM + setup("fvaddr", schemes=2) + pid(0, "A") + regions(0, ("@A.r", "@A.r+4M"), ("@A.r+4M", "@A.r+8M"))
    script += scheme(0, "stat", (10, 20)) + scheme(1, "stat", (0, 0)) + "bg loop A r 0 4M 1000 w period=1000\n" + ON + "sleep 220\n"
    script += f"sysfs {ADMIN}0/state update_schemes_tried_regions\ntree /sys/kernel/{CTX}schemes a\n"
    script += f"sysfs {ADMIN}0/state update_schemes_tried_bytes\ntree /sys/kernel/{CTX}schemes b\n"
    found = run(tmp_path, script + f"sysfs {ADMIN}0/state clear_schemes_tried_regions\ntree /sys/kernel/{CTX}schemes c\n" + OFF)
    assert [found.folder.figure(f"cat[{label}].{i}/tried_regions/total_bytes") for label in "abc" for i in (0, 1)] == [4 << 20] * 4 + [0, 0]
    assert found.folder.figure("cat[a].0/tried_regions/0/nr_accesses") == 20
    numbers = re.findall(r"^(\d)/tried_regions/(\d+)/age", found.folder.text("a"), re.MULTILINE)
    assert {i for i, _ in numbers} == {"0", "1"} and sorted(int(n) for _, n in numbers) == list(range(len(numbers)))  # schemes share them
    with pytest.raises(Exception, match="tried_regions/0/age"):
        found.folder.figure("cat[b].0/tried_regions/0/age")


@pytest.mark.parametrize(("marks", "ms"), [("", 300), ("watermarks/metric free_mem_rate\nwatermarks/interval_us 10000", 100)])
def test_who_tries_nothing_is_waited_for_two_rounds_or_not_at_all(tmp_path, marks, ms):
    """Two apply intervals of 100 ms, as user space sees it that looks each 100 ms; a scheme that its watermarks keep off ends the wait at once."""
    script = WARM + setup("fvaddr", schemes=1) + pid(0, "A") + regions(0, *WHOLE) + scheme(0, "stat", (10, 20), more=marks) + ON + "sleep 50\n"
    script += f"sysfs {ADMIN}0/state update_schemes_tried_regions\ncat /sys/kernel/{CTX}schemes/0/tried_regions/total_bytes a\n"
    found = run(tmp_path, script + OFF)
    asked = next(i for i, row in enumerate(found.rows) if row["op"].endswith("update_schemes_tried_regions"))
    assert found.rows[asked + 1]["at"] - found.rows[asked]["at"] == ms * 1_000_000 and found.folder.figure("cat[a]") == 0


def test_commit_converts_ages_and_counts(tmp_path):
    script = WARM + setup("fvaddr") + pid(0, "A") + regions(0, *WHOLE) + ON + "sleep 1650\n"
    script += f"sysfs {CTX}monitoring_attrs/intervals/sample_us 10000\nsysfs {CTX}monitoring_attrs/intervals/aggr_us 400000\nsysfs {ADMIN}0/state commit\nsleep 1000\n"
    found = run(tmp_path, script + OFF)
    ages = [max(r.age for r in passed) for _, passed in found.trace.aggregations]
    assert ages[:16] == list(range(1, 17)) and ages[16:19] == [4, 5, 6]  # 17 windows of 100 ms are 4 of 400
    gaps = [b[0] - a[0] for a, b in zip(found.trace.aggregations, found.trace.aggregations[1:])]
    assert gaps[0] == pytest.approx(0.1, rel=0.02) and gaps[-1] == pytest.approx(0.4, rel=0.02)
