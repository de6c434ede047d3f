"""kswapd and a task that reclaims for itself take turns on one CPU, also within a batch of pages; what each writes gathers in its own plug."""

import pytest

from mmlab.abi import OP_INDEX, SERVICE_INDEX
from mmlab.mm.page_io import blk_finish_plug, swap_io_wait
from mmlab.model import rows as r
from mmlab.model import vmstat as v
from mmlab.model.const import ENOMEM, NEVER_NS
from mmlab.procfs import write
from mmlab.simulation import Simulation
from mmlab_linux.reclaimer import shrink_list
from mmlab_linux.reclaimer.mglru import lrugen

pytestmark = pytest.mark.nojit
LRU = {"two_list": {"kernel/mm/lru_gen/enabled": "0"}, "mglru": {"kernel/mm/lru_gen/enabled": "7"}}
KSWAPD_LISTS = {"two_list": shrink_list.ISOLATED + shrink_list.OF_KSWAPD, "mglru": lrugen.ISOLATED + lrugen.OF_KSWAPD}


def machine(reclaimer, slice_ns=20_000):
    """64 MiB, one CPU, a task with 80 MiB that it has not touched; turns of a few pages' writes."""
    sim = Simulation.from_table({"memory": "64M", "bare": True, "cpus": 1, "swap": "128M"}, sysfs=LRU[reclaimer])
    sim.machine.cost[r.COST_SUBMIT_PAGE], sim.machine.cost[r.COST_DEVICE_WRITE] = 9000, 100_000
    sim.machine.sc[r.SC_KSWAPD_SLICE_NS] = slice_ns
    sim.spawn("A")
    return sim, sim.mmap("A", 80 << 20)


def kswapd_holds(sim, reclaimer):
    """Pages on the lists of the batch in which kswapd was preempted."""
    first, after, held = int(sim.machine.sc[r.SC_POLICY_LISTS]), sim.machine.page[0::4], []
    for number in range(3):
        head = first + KSWAPD_LISTS[reclaimer] + number
        pfn = int(after[head])
        while pfn != head:
            held.append(pfn)
            pfn = int(after[pfn])
    return held


def until_preempted(sim, addr, reclaimer, writes=False):
    """Touch page after page until kswapd holds pages of a batch that it has not ended (writes: and has writes that are not sent)."""
    for page in range(80 << 8):
        sim.touch("A", addr + page * 4096, 1, 1)
        if kswapd_holds(sim, reclaimer) and not (writes and sim.machine.plug[r.PLUG_STRIDE + r.PLUG_COUNT] == 0):
            return
    raise AssertionError("kswapd was never preempted within a batch")


@pytest.mark.parametrize("reclaimer", LRU)
def test_within_a_batch_and_it_goes_on_where_it_was(reclaimer):
    sim, addr = machine(reclaimer)
    until_preempted(sim, addr, reclaimer)
    assert sim.check_state() == [] and sim.machine.node[r.N_PASS_MEMCG] == 1
    sim.sleep(100)
    assert kswapd_holds(sim, reclaimer) == [] and sim.machine.node[r.N_KSWAPD_AWAKE] == 0 and sim.check_state() == []


@pytest.mark.parametrize("reclaimer", LRU)
def test_its_requests_are_not_sent_with_a_tasks(reclaimer):
    sim, addr = machine(reclaimer)
    until_preempted(sim, addr, reclaimer, writes=True)
    plugs = sim.machine.plug.reshape(-1, r.PLUG_STRIDE)
    waiting = int(plugs[1][r.PLUG_COUNT])
    assert waiting > 0 and plugs[0][r.PLUG_COUNT] == 0
    sim.machine.run(blk_finish_plug, 0)
    assert plugs[1][r.PLUG_COUNT] == waiting
    sim.machine.run(swap_io_wait)  # who waits for everything waits for kswapd as well
    assert plugs[1][r.PLUG_COUNT] == 0 and sim.machine.vmstat[v.VMSTAT_NAMES.index("nr_writeback")] == 0


@pytest.mark.parametrize("reclaimer", LRU)
def test_pages_that_are_freed_meanwhile_leave_its_batch(reclaimer):
    sim, addr = machine(reclaimer)
    until_preempted(sim, addr, reclaimer)
    sim.munmap("A", addr, 80 << 20)
    assert sim.check_state() == []
    sim.sleep(100)
    assert kswapd_holds(sim, reclaimer) == [] and sim.machine.node[r.N_KSWAPD_AWAKE] == 0 and sim.check_state() == []


@pytest.mark.parametrize("reclaimer", LRU)
def test_another_reclaimer_takes_over_no_batch(reclaimer):
    sim, addr = machine(reclaimer)
    until_preempted(sim, addr, reclaimer)
    assert write(sim, "/sys/kernel/mm/lru_gen/enabled", "0" if reclaimer == "mglru" else "7") == 0
    assert kswapd_holds(sim, reclaimer) == [] and sim.check_state() == []


@pytest.mark.parametrize("reclaimer", LRU)
def test_a_task_gives_way_within_its_own_batch(reclaimer):
    """With turns shorter than a batch kswapd gets some while the task reclaims, and the task's counts stay its own: all that is scanned was
    scanned by one of them, and what was freed is what both took."""
    sim, addr = machine(reclaimer)
    turns = []
    given = sim.machine._services[SERVICE_INDEX["cond_resched"]]

    def note(m):
        turns.append((int(m.bio[r.BIO_PLUG]), int(m.sc[r.SC_NR_SCANNED])))
        result = given(m)
        assert (int(m.bio[r.BIO_PLUG]), int(m.sc[r.SC_NR_SCANNED])) == turns[-1]
        return result

    sim.machine._services[SERVICE_INDEX["cond_resched"]] = note
    sim.touch("A", addr, 80 << 8, 1)
    count = {name: int(sim.machine.vmstat[v.VMSTAT_NAMES.index(name)]) for name in
             ("pgscan_kswapd", "pgscan_direct", "pgscan_anon", "pgsteal_kswapd", "pgsteal_direct", "pgsteal_anon")}
    assert len(turns) > 3 and {plug for plug, _ in turns} == {0}
    assert count["pgscan_direct"] > 0 and count["pgscan_kswapd"] + count["pgscan_direct"] == count["pgscan_anon"]
    assert count["pgsteal_kswapd"] + count["pgsteal_direct"] == count["pgsteal_anon"] and sim.check_state() == []


def test_on_several_cpus_it_stops_between_batches_only():
    sim = Simulation.from_table({"memory": "64M", "bare": True, "cpus": 2, "swap": "128M"}, sysfs=LRU["two_list"])
    sim.spawn("A")
    addr = sim.mmap("A", 70 << 20)
    for page in range(70 << 8):
        sim.touch("A", addr + page * 4096, 1, 1)
        assert kswapd_holds(sim, "two_list") == [] and sim.machine.sc[r.SC_PREEMPT_NS] == NEVER_NS


def test_pages_written_while_they_are_isolated_are_not_rotated():
    """A write that ends while reclaim still holds its page finds it on no list: it is not counted as rotated."""
    sim, addr = machine("two_list")
    sim.touch("A", addr, 80 << 8, 1)
    sim.sleep(100)
    written, rotated = (int(sim.machine.vmstat[v.VMSTAT_NAMES.index(name)]) for name in ("nr_written", "pgrotated"))
    assert written > 5000 and written - rotated > 31  # up to 31 wait in a batch to be rotated


# bios ---------------------------------------------------------------------------------------------------------------------------------------
def test_a_write_holds_a_bio_until_it_ends():
    sim, addr = machine("two_list")
    objects = lambda: sim.machine.op("slab_allocator", "stat", r.CACHE_BIO, 0)  # noqa: E731
    sim.touch("A", addr, 200, 1)
    assert sim.madvise("A", addr, 200 * 4096, "pageout") == 0
    entries = sim.machine.bio[r.BIO_RING : r.BIO_RING + 200 * r.BIO_WORDS].reshape(-1, r.BIO_WORDS)
    assert len(set(entries[:, 2].tolist())) == 200 and entries[:, 2].min() >= 0
    held = objects()
    sim.sleep(5)
    assert held >= 200 and sim.machine.bio[r.BIO_POOL] > 0 and sim.machine.bio[r.BIO_POOL + 1] > 0  # the first two to come back are kept


def test_without_memory_a_writer_waits_for_one_of_two_bios():
    sim, addr = machine("two_list")
    m = sim.machine
    sim.touch("A", addr, 8, 1)
    assert sim.madvise("A", addr, 2 * 4096, "pageout") == 0
    sim.sleep(5)  # two bios are kept now
    number = OP_INDEX["slab_allocator", "alloc"]
    alloc = m._ops[number]
    m._ops[number] = lambda m, st, cache, gfp: -ENOMEM
    began = sim.now_ns
    assert sim.madvise("A", addr + 2 * 4096, 6 * 4096, "pageout") == 0
    m._ops[number] = alloc
    # six pages: the third and the fifth wait until those before them are written, each time 100 us and what the requests take
    assert sim.now_ns - began > 2 * 100_000 and m.bio[r.BIO_TAIL] - m.bio[r.BIO_HEAD] == 2 and m.bio[r.BIO_POOL] == m.bio[r.BIO_POOL + 1] == 0
    sim.sleep(5)
    assert m.bio[r.BIO_POOL] > 0 and m.bio[r.BIO_POOL + 1] > 0 and sim.check_state() == []
