"""kswapd between its runs: the light sleep, what it was asked for meanwhile, the end of a watermark boost, and whose CPU it takes."""

import pytest

from mmlab.mm.kswapd import wakeup_kswapd
from mmlab.model import rows as r
from mmlab.model.const import NEVER_NS
from mmlab.model.vmstat import VMSTAT_NAMES
from mmlab.procfs import write
from mmlab.simulation import Simulation

pytestmark = pytest.mark.nojit
TWO_NODES = {
    "memory": "64M", "cpus": 2, "bare": True, "disk": "64M", "cmdline": "transparent_hugepage=never",
    "nodes": [{"memory": "32M", "cpus": [0]}, {"memory": "32M", "cpus": [1]}],
}  # fmt: skip


def counts(sim, *names):
    return tuple(int(sim.machine.vmstat[VMSTAT_NAMES.index(name)]) for name in names)


def wants_more_than_there_is(sim, node):
    """Nothing can bring the node's zones above their high watermarks."""
    for zone in sim.machine.zone.reshape(-1, r.ZONE_STRIDE)[: sim.machine.sizes.nr_zones]:
        if zone[r.Z_NODE] == node:
            zone[r.Z_WMARK_HIGH] = zone[r.Z_MANAGED]


def sleeps_lightly(sim):
    """kswapd was woken for nothing much, and is in its light sleep."""
    sim.machine.zone[r.Z_WATERMARK_BOOST] = 512
    assert sim.machine.run(wakeup_kswapd, 0, 0, 3) == 0
    sim.sleep(1)
    row = sim.machine.node
    assert row[r.N_KSWAPD_AWAKE] == 0 and row[r.N_KSWAPD_LIGHT_SLEEP_NS] > sim.machine.sc[r.SC_NOW_NS]
    assert counts(sim, "pageoutrun") == (1,)


def test_works_again_if_too_much_was_used_while_it_slept_lightly():
    sim = Simulation.from_table({"memory": "64M", "cpus": 1, "bare": True})
    sleeps_lightly(sim)
    wants_more_than_there_is(sim, 0)
    sim.sleep(98)
    assert counts(sim, "pageoutrun", "kswapd_high_wmark_hit_quickly") == (1, 0)
    sim.sleep(10)
    # there is nothing to reclaim: 16 runs without a page, then it gives up; it never gets back to sleep between them
    assert sim.machine.node[r.N_KSWAPD_FAILURES] == 16 and sim.machine.node[r.N_KSWAPD_AWAKE] == 0
    assert counts(sim, "pageoutrun", "kswapd_high_wmark_hit_quickly", "kswapd_low_wmark_hit_quickly") == (16, 15, 0)
    assert sim.check_state() == []


def test_sleeps_on_if_the_node_is_still_balanced():
    sim = Simulation.from_table({"memory": "64M", "cpus": 1, "bare": True})
    sleeps_lightly(sim)
    sim.sleep(200)
    assert sim.machine.node[r.N_KSWAPD_LIGHT_SLEEP_NS] == 0 and sim.machine.sc[r.SC_KSWAPD_TIMER_NS] == NEVER_NS
    assert counts(sim, "pageoutrun", "kswapd_high_wmark_hit_quickly") == (1, 0)
    wants_more_than_there_is(sim, 0)
    sim.sleep(200)
    assert counts(sim, "pageoutrun") == (1,)  # until somebody wakes it


def test_who_wakes_it_from_its_light_sleep_is_counted():
    sim = Simulation.from_table({"memory": "64M", "cpus": 1, "bare": True})
    sleeps_lightly(sim)
    sim.machine.zone[r.Z_WATERMARK_BOOST] = 512
    assert sim.machine.run(wakeup_kswapd, 0, 0, 3) == 0
    assert counts(sim, "pageoutrun", "kswapd_low_wmark_hit_quickly") == (2, 1)


def test_goes_on_to_what_it_was_asked_for_while_it_worked():
    sim = Simulation.from_table({"memory": "64M", "cpus": 1, "bare": True})
    row = sim.machine.node
    sim.machine.zone[r.Z_WATERMARK_BOOST] = 512
    sim.machine.run(wakeup_kswapd, 0, 0, 3)
    assert sim.machine.run(wakeup_kswapd, 0, 2, 0) == 0 and sim.machine.run(wakeup_kswapd, 0, 3, 1) == 0
    assert (row[r.N_KSWAPD_ASKED_ORDER], row[r.N_KSWAPD_ASKED_IDX]) == (3, 1)  # the largest of each
    assert (row[r.N_KSWAPD_ORDER], row[r.N_KSWAPD_IDX]) == (0, 3)
    sim.sleep(1)
    # that is there: it sleeps with the order in mind, and does not begin a run for it
    assert (row[r.N_KSWAPD_ALLOC_ORDER], row[r.N_KSWAPD_IDX], row[r.N_KSWAPD_AWAKE]) == (3, 1, 0)
    assert counts(sim, "pageoutrun") == (1,)


def test_a_run_takes_back_the_boost_it_found_and_asks_kcompactd():
    sim = Simulation.from_table({"memory": "64M", "cpus": 1, "bare": True})
    boost = sim.machine.zone[r.Z_WATERMARK_BOOST :: r.ZONE_STRIDE]
    boost[0] = 512
    sim.machine.run(wakeup_kswapd, 0, 0, 3)
    boost[0] += 100  # somebody mixes types again meanwhile
    sim.sleep(1)
    assert boost[0] == 100
    assert sim.machine.node[r.N_KCOMPACTD_ORDER] == 9 and counts(sim, "compact_daemon_wake") == (0,)  # there are blocks enough
    sim.sleep(500)  # kcompactd has a look every half second
    assert sim.machine.node[r.N_KCOMPACTD_ORDER] == 0 and counts(sim, "compact_daemon_wake") == (1,)


def test_zones_above_the_one_it_works_for_keep_their_boost():
    sim = Simulation.from_table({"memory": "256M", "cpus": 1})
    zones = sim.machine.zone.reshape(-1, r.ZONE_STRIDE)[: sim.machine.sizes.nr_zones]
    assert list(zones[:, r.Z_INDEX]) == [0, 1]  # DMA, DMA32
    zones[:, r.Z_WATERMARK_BOOST] = 512
    sim.machine.run(wakeup_kswapd, 0, 0, 0)
    sim.sleep(1)
    assert list(zones[:, r.Z_WATERMARK_BOOST]) == [0, 512]


def test_where_a_node_has_one_cpu_its_kswapd_takes_that_from_the_task():
    taken = []
    for node in (0, 1):
        sim = Simulation.from_table(TWO_NODES, script=True)
        sim.spawn("A", cpu=node)
        sim.mkfile("f", 1000 << 12)
        write(sim, "/proc/sys/vm/drop_caches", "1")
        sim.fread("A", "f", 0, 1000 << 12)  # its pages are on A's node
        sim.spawn("B", cpu=0)
        addr = sim.mmap("B", 4096)
        wants_more_than_there_is(sim, node)
        before = int(sim.machine.sc[r.SC_NOW_NS])
        assert sim.machine.run(wakeup_kswapd, node, 0, 3) == 0
        sim.touch("B", addr, 1, 1)
        assert counts(sim, "pgsteal_kswapd") > (0,)
        taken.append(int(sim.machine.sc[r.SC_NOW_NS]) - before)
        assert sim.check_state() == []
    assert taken[0] > 10 * taken[1]
