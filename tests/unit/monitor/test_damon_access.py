"""What DAMON sees of accesses: windows, rates, ages, three ranges, the one page of a region."""

import pytest
from damon_script import CTX, pid, regions, run, scheme, setup
from mmlab_linux.monitor.damon import state as s

from mmlab.mm.rmap import folio_referenced
from mmlab.model.page import PG_IDLE, PG_YOUNG
from mmlab.model.rows import COST_CONTEXT_SWITCH, COST_DAMON_CHECK, COST_DAMOS_PAGE, PTE_ACCESSED, SC_MONITOR_CHECKS, SC_MONITOR_NS
from mmlab.procfs.walk import entries, mapped_pages

pytestmark = pytest.mark.nojit
ONE_PAGE = [("@A.r", "@A.r+4K"), ("@A.r+8K", "@A.r+12K")]
WARM = "spawn A\nmmap A r 8M anon align=2M huge=no\ntouch A r 0 8M w\n"
ON, OFF = "sysfs mm/damon/admin/kdamonds/0/state on\n", "sysfs mm/damon/admin/kdamonds/0/state off\n"


def _folder(tmp_path, name):
    (tmp_path / name).mkdir()
    return tmp_path / name


def windows(found):
    """nr_accesses and age of each region by window."""
    return [[(r.nr_accesses, r.age) for r in passed] for _, passed in found.trace.aggregations]


def test_a_page_that_is_always_touched_and_one_that_never_is(tmp_path):
    found = run(tmp_path, WARM + setup("fvaddr") + pid(0, "A") + regions(0, *ONE_PAGE) + "bg loop A r 0 4K 450 w period=1000\n" + ON + "sleep 430\n" + OFF)
    # the hot region's count changed from 0 to 20 in its first window: its age begins again
    assert windows(found) == [[(20, 0), (0, 1)], [(20, 1), (0, 2)], [(20, 2), (0, 3)], [(20, 3), (0, 4)]]


def test_a_page_touched_every_20_ms_shows_a_quarter(tmp_path):
    found = run(tmp_path, WARM + setup("fvaddr") + pid(0, "A") + regions(0, ONE_PAGE[0]) + "bg loop A r 0 4K 500 w period=20000\n" + ON + "sleep 450\n" + OFF)
    assert [count for ((count, _),) in windows(found)] == [6, 5, 5, 5]  # the passes at 0, 20, ... 100 ms; at 120, ... 200 ms; ...


def test_pages_that_wait_in_an_lru_batch_are_not_seen(tmp_path):
    script = "spawn A\nmmap A r 64K anon\ntouch A r 0 64K w\n" + setup("fvaddr") + pid(0, "A") + regions(0, ONE_PAGE[0])
    found = run(tmp_path, script + "bg loop A r 0 4K 150 w period=1000\n" + ON + "sleep 120\n" + OFF)
    assert windows(found) == [[(0, 1)]]


def test_intervals_of_attributes_are_the_windows(tmp_path):
    attrs = f"sysfs {CTX}monitoring_attrs/intervals/sample_us 10000\nsysfs {CTX}monitoring_attrs/intervals/aggr_us 50000\n"
    found = run(tmp_path, WARM + setup("fvaddr") + pid(0, "A") + regions(0, ONE_PAGE[0]) + attrs + "bg loop A r 0 4K 300 w period=1000\n" + ON + "sleep 220\n" + OFF)
    assert [count for ((count, _),) in windows(found)] == [5, 5, 5, 5]
    assert found.trace.max_nr_accesses == 5


def test_vaddr_covers_all_but_the_two_biggest_holes_in_about_min_nr_regions_pieces(tmp_path):
    maps = "mmap A a 4M anon at=0x10000000\nmmap A b 4M anon at=0x10800000\nmmap A c 8M anon at=0x40000000\nmmap A d 2M anon at=0x7f0000000000\n"
    found = run(tmp_path, "spawn A\n" + maps + setup("vaddr") + pid(0, "A") + ON + "sleep 110\n" + OFF)
    first = found.trace.aggregations[0][1]
    # the hole of 4 MiB inside the first range is watched; 22 MiB in all, cut into pieces of at least 2.2 MiB
    spans = [(0x10000000, 0x10C00000), (0x40000000, 0x40800000), (0x7F0000000000, 0x7F0000200000)]
    assert [(r.start, r.end) for r in first][0][0] == spans[0][0] and first[-1].end == spans[2][1]
    assert sum(r.bytes for r in first) == sum(end - start for start, end in spans)
    assert len([r for r in first if r.start >= spans[0][0] and r.end <= spans[0][1]]) == 5  # 12 MiB / 2.2 MiB
    assert len([r for r in first if r.start >= spans[1][0] and r.end <= spans[1][1]]) == 3


def test_a_new_mapping_is_watched_from_the_next_update(tmp_path):
    maps = "mmap A a 4M anon at=0x10000000\nmmap A c 8M anon at=0x40000000\nmmap A d 2M anon at=0x7f0000000000\n"
    update = f"sysfs {CTX}monitoring_attrs/intervals/update_us 300000\n"
    found = run(tmp_path, "spawn A\n" + maps + setup("vaddr") + pid(0, "A") + update + ON + "sleep 150\nmmap A e 4M anon at=0x7e0000000000\nsleep 400\n" + OFF)
    seen = [any(r.start <= 0x7E0000000000 < r.end for r in passed) for _, passed in found.trace.aggregations]
    assert seen == [False, False, False, True, True]


def test_paddr_sees_the_frames_of_what_is_touched(tmp_path):
    script = WARM + setup("paddr") + regions(0, ("0", "67108864")) + "bg loop A r 0 4M 1500 w period=2000\n" + ON + "sleep 1450\n" + OFF
    found = run(tmp_path, script)
    hot = [sum(r.bytes for r in passed if r.nr_accesses >= 10) for _, passed in found.trace.aggregations]
    assert sum(hot[-4:]) / 4 == pytest.approx(4 << 20, rel=0.25)


def test_what_kdamond_costs(tmp_path):
    """Two context switches a sampling interval, and a check for each page that is on an LRU list: frames that nobody uses cost nothing."""
    cost = {}
    for name, bounds in {"used": ONE_PAGE, "free": [("0", "4096"), ("8192", "12288")]}.items():
        paddr = name == "free"
        script = WARM + setup("paddr" if paddr else "fvaddr") + ("" if paddr else pid(0, "A")) + regions(0, *bounds) + ON + "sleep 52\n"
        machine = run(_folder(tmp_path, name), script).sim.machine
        cost[name] = int(machine.sc[SC_MONITOR_NS]), int(machine.sc[SC_MONITOR_CHECKS]), machine.cost
    (used, checks, prices), (free, same, _) = cost["used"], cost["free"]
    wakes = checks // 2 + 1  # the first one chooses pages, the others look as well
    assert checks == same == 20
    assert free == wakes * 2 * int(prices[COST_CONTEXT_SWITCH])
    assert used == free + checks * int(prices[COST_DAMON_CHECK])


def test_an_action_on_frames_that_are_on_no_list_costs_a_look_at_each(tmp_path):
    """A region of 256 frames: one round of lru_prio looks at all of them, and moves none."""
    cost = []
    for name, schemes in (("watch", 0), ("act", 1)):
        script = WARM + setup("paddr", schemes=schemes) + regions(0, ("0", "1048576")) + (scheme(0, "lru_prio", (0, 20)) if schemes else "")
        found = run(_folder(tmp_path, name), script + ON + "sleep 103\n")
        assert len(found.trace.aggregations) == 1
        cost.append(int(found.sim.machine.sc[SC_MONITOR_NS]))
    assert cost[1] - cost[0] == 256 * (int(found.sim.machine.cost[COST_DAMOS_PAGE]) // 2)


def test_kdamond_ends_with_its_last_task(tmp_path):
    found = run(tmp_path, WARM + setup("fvaddr") + pid(0, "A") + regions(0, ONE_PAGE[0]) + ON + "sleep 250\nexit A\nsleep 300\n" + OFF)
    assert len(found.trace.aggregations) == 2
    assert found.rows[-1]["ret"] == -1  # off: it does not run


def test_two_targets_are_traced_by_their_numbers(tmp_path):
    script = WARM + WARM.replace(" A", " B").replace("8M", "4M") + setup("fvaddr", 2) + pid(0, "A") + pid(1, "B")
    script += regions(0, ONE_PAGE[0]) + regions(1, ("@B.r", "@B.r+4K")) + "bg loop B r 0 4K 200 w period=1000\n" + ON + "sleep 110\n" + OFF
    found = run(tmp_path, script)
    assert [(r.who, r.nr_accesses) for r in found.trace.aggregations[0][1]] == [(0, 0), (1, 20)]


def test_reclaim_still_learns_of_an_access_that_damon_cleared(tmp_path):
    found = run(tmp_path, WARM + setup("fvaddr") + pid(0, "A") + regions(0, ONE_PAGE[0]) + ON + "sleep 7\n")
    machine = found.sim.machine
    region = found.folder.regions_at(99)["A"]["r"][0]
    page = mapped_pages(machine, entries(machine, found.sim.tasks["A"].mm, region >> 12, (region >> 12) + 1))
    assert page.entry[0] & PTE_ACCESSED == 0 and page.flags[0] & PG_YOUNG and page.flags[0] & PG_IDLE
    assert [machine.run(folio_referenced, int(page.pfn[0])) & 0xFFFF for _ in range(2)] == [1, 0]


def test_check_finds_what_is_broken(tmp_path):
    found = run(tmp_path, WARM + setup("fvaddr") + pid(0, "A") + regions(0, *ONE_PAGE) + ON + "sleep 110\n")
    machine, st = found.sim.machine, found.st
    head = int(st.target[s.T_HEAD])
    first = int(st.region[head * s.REGION_STRIDE + s.R_NEXT])
    st.target[s.T_NR_REGIONS] += 1
    assert machine.op("monitor", "check") == 4
    st.target[s.T_NR_REGIONS] -= 1
    st.region[first * s.REGION_STRIDE + s.R_END] += 100
    assert machine.op("monitor", "check") == 3
    st.region[first * s.REGION_STRIDE + s.R_END] += 1 << 30
    assert machine.op("monitor", "check") == 3 or machine.op("monitor", "check") == 2


def aggregation_ms(found):
    """How long each window took, the first left out."""
    moments = [moment for moment, _ in found.trace.aggregations]
    return [(b - a) * 1000 for a, b in zip(moments, moments[1:], strict=False)]


BUSY = "spawn A\nmmap A r 40M anon align=2M huge=no\ntouch A r 0 40M w\n" + setup("fvaddr") + pid(0, "A") + regions(0, ONE_PAGE[0])


def test_a_monitor_that_wakes_waits_for_the_base_slice_of_the_running_task(tmp_path):
    """A pass takes 0.72 of 2 ms and is over before its slice of 0.75: kdamond, which wakes within it with 36 in 100, waits 0.36 ms on average.

    One of 1.43 ms it leaves after the slice: what wakes in the first 0.75 of 2 ms waits for the end of the slice, 0.375 ms on average, the rest
    for nobody. A sampling interval is 5 ms, that, and 0.08 ms of kdamond's own.
    """
    short = run(_folder(tmp_path, "short"), BUSY + "bg loop A r 0 40M 1500 w period=2000\n" + ON + "sleep 1450\n" + OFF, memory="128M", cost_model="icount_guest")
    assert all(20 * 5.08 < ms < 20 * (5.08 + 0.72) for ms in aggregation_ms(short))
    twice = BUSY.replace("40M", "80M")
    long = run(_folder(tmp_path, "long"), twice + "bg loop A r 0 80M 1500 w period=2000\n" + ON + "sleep 1450\n" + OFF, memory="128M", cost_model="icount_guest")
    assert all(20 * 5.08 < ms < 20 * (5.08 + 0.76) for ms in aggregation_ms(long))


def test_a_walk_of_frames_is_not_preempted(tmp_path):
    """lru_prio visits 65536 frames, half of them on a list: 32768 * 1.8 + 32768 * 0.9 = 88 ms in which the task does not run, so its passes are
    late and catch up; with its 0.36 of every 2 ms the walk would take 108 ms."""
    fill = "spawn A\nmmap A r 128M anon align=2M huge=no\ntouch A r 0 128M w\n"
    script = fill + setup("paddr", schemes=1) + regions(0, ("0", "268435456")) + scheme(0, "lru_prio", (0, 20)) + "bg loop A r 0 20M 1500 w period=2000\n"
    found = run(tmp_path, script + ON + "sleep 1450\n" + OFF, memory="256M", cost_model="icount_guest")
    assert all(88 + 20 * 5.08 < ms < 108 + 20 * 5.08 for ms in aggregation_ms(found)[3:])
