"""The tiering slot on a machine with 4 MiB of fast memory and 12 MiB that take 160 ns longer: what each policy moves, and what that saves."""

import numpy as np
import pytest

from mmlab._engine.sampler import Sampler
from mmlab._engine.stream_run import StreamRun
from mmlab.experiment.run import run
from mmlab.kernels.jit import JIT_OFF
from mmlab.model.const import READ, WRITE
from mmlab.model.page import PG_REFERENCED
from mmlab.model.rows import N_ACCESSES, NODE_STRIDE, SC_DEMOTION_ENABLED, SC_MAX_PFN, SC_NOW_NS, SC_NUMA_BALANCING, SC_TIERING_TIMER_NS
from mmlab.procfs.resident import resident_pages
from mmlab.procfs.walk import zone_nodes
from mmlab.simulation import Simulation
from mmlab.workload.generators import make_generator

pytestmark = [pytest.mark.nojit, pytest.mark.skipif(not JIT_OFF, reason="ops on a whole machine: python build")]
PAGE = 4096
MACHINE = {"nodes": [{"memory": "4M", "cpus": [0, 1]}, {"memory": "12M", "cpus": []}], "hmat": [[0, 0, 90, 50], [0, 1, 250, 10]], "bare": True}
SETTINGS = {"sysctl": {"kernel.numa_balancing": "2"}, "sysfs": {"kernel/mm/numa/demotion_enabled": "1"}}
COLD, HOT = 700, 600  # pages: the cold ones are touched first and take most of the 1024 fast frames


class Tiered:
    """A task whose first COLD pages lie in fast memory, and most of the next HOT in slow memory."""

    def __init__(self, policy: str, **params: int):
        chosen = {"tiering": {"use": policy, "params": params}, "thp": {"use": "never"}, "reclaimer": {"use": "two_list"}}
        stream = make_generator("scan", {"pages": 1, "events": 1}).stream(0) if policy == "oracle" else None  # which sees no future otherwise
        self.sim = Simulation.from_table(MACHINE, policies=chosen, **SETTINGS, stream=stream)
        self.machine, self.state = self.sim.machine, self.sim.machine.states["tiering"]
        self.machine.sc[SC_TIERING_TIMER_NS] = 1 << 62  # it works when the test says so
        self.sim.spawn("A")
        self.addr = self.sim.mmap("A", (COLD + HOT) * PAGE)
        self.sim.touch("A", self.addr, COLD + HOT, WRITE)
        self.machine.op("reclaimer", "drain", 0)

    def nodes(self) -> np.ndarray:
        """Node of each page, cold ones first."""
        pages = resident_pages(self.machine, [0])
        return zone_nodes(self.machine, pages.pfn[np.argsort(pages.vpn)])

    def pfn(self, page: int) -> int:
        pages = resident_pages(self.machine, [0])
        return int(pages.pfn[pages.vpn == (self.addr >> 12) + page][0])

    def step(self) -> int:
        wait = self.machine.op("tiering", "step", self.sim.now_ns)
        assert self.sim.check_state() == []
        return wait


def test_first_touch_moves_nothing_whatever_the_machine_says():
    t = Tiered("first_touch")
    before = t.nodes()
    assert before[:COLD].max() == 0 and before[-1] == 1
    assert t.machine.sc[SC_NUMA_BALANCING] == t.machine.sc[SC_DEMOTION_ENABLED] == 0
    assert t.machine.op("tiering", "demotion_node", t.pfn(0), 0, 0) == -1
    assert t.machine.op("tiering", "should_migrate", 0, t.pfn(COLD + HOT - 1), 1, 0) == 0
    assert Tiered("linux").machine.sc[SC_NUMA_BALANCING] == 2


def test_tpp_promotes_at_the_second_fault():
    t = Tiered("tpp")
    pfn = t.pfn(COLD + HOT - 1)
    assert t.machine.op("tiering", "should_migrate", 0, pfn, 1, 0) == 0
    assert t.machine.page[4 * pfn + 2] & PG_REFERENCED
    assert t.machine.op("tiering", "should_migrate", 0, pfn, 1, 0) == 1
    assert t.machine.op("tiering", "should_migrate", 0, t.pfn(0), 0, 0) == 0  # fast already


def test_tpp_keeps_room_free_by_moving_down_what_was_not_touched_since():
    t = Tiered("tpp", headroom=2000, batch=8192)  # a fifth of fast memory; once round all frames
    assert t.machine.sc[SC_MAX_PFN] == 8192
    before = int((t.nodes() == 0).sum())
    t.step()
    assert int((t.nodes() == 0).sum()) == before  # everything was touched: the first round only clears the marks
    t.sim.touch("A", t.addr, 100, READ)
    t.step()
    nodes = t.nodes()
    assert nodes[:100].max() == 0  # touched since
    assert before - int((nodes == 0).sum()) >= 100
    assert t.step() == 10_000_000


def test_memtis_gives_fast_memory_to_what_is_sampled_most():
    t = Tiered("memtis", period=1, sample_ns=0)
    hot = [COLD + page for page in range(400, HOT)]
    assert t.nodes()[hot].min() == 1
    for page in hot:
        for _ in range(4):
            t.machine.op("tiering", "page_accessed", 0, t.pfn(page), READ)
    assert t.step() == 100_000_000
    assert t.nodes()[hot].max() == 0
    assert (t.nodes()[:COLD] == 1).sum() > 0  # which made room
    counts = t.state.count[t.state.key > 0]
    assert counts.tolist() == [4] * len(hot)


def test_memtis_fills_what_the_hot_leave_with_the_next_bin():
    t = Tiered("memtis", period=1, sample_ns=0)
    slow = [page for page in range(COLD + HOT) if t.nodes()[page] == 1]
    for page in range(COLD + HOT):  # more pages than fit, all in one bin but the first hundred, which nobody has sampled
        if page >= 100:
            t.machine.op("tiering", "page_accessed", 0, t.pfn(page), READ)
    t.step()
    assert t.nodes()[:100].min() == 1  # made room
    assert (t.nodes()[slow] == 0).sum() >= 50  # the rest brings the node above its high watermark


def test_memtis_halves_counts():
    t = Tiered("memtis", period=2, cooling=4, sample_ns=100)
    before = t.sim.now_ns
    a, b = t.pfn(0), t.pfn(1)
    for pfn in [a] * 8 + [b] * 8:  # 4 samples each: the epoch turns after each four
        t.machine.op("tiering", "page_accessed", 0, pfn, READ)
    for _ in range(2):
        t.machine.op("tiering", "page_accessed", 0, a, READ)
    assert sorted(t.state.count[t.state.key > 0].tolist()) == [2, 4]  # a: 4, halved twice, and one more
    assert t.sim.now_ns - before == 9 * 100


def test_damos_moves_hot_regions_up_and_cold_ones_down():
    t = Tiered("damos", sample_us=1000, aggr_us=10_000, cold_age=2, max_nr_regions=50)
    t.machine.sc[SC_TIERING_TIMER_NS] = 0
    before = t.nodes()
    for _ in range(150):
        t.sim.touch("A", t.addr + COLD * PAGE, HOT, READ)
        t.sim.sleep(1)
    after = t.nodes()
    assert t.sim.check_state() == []
    assert (after[:COLD] == 1).sum() > 300
    assert (after[COLD:] == 0).sum() > (before[COLD:] == 0).sum() + 100


def slow_accesses(policy: str, stream) -> tuple[int, int, int]:
    """(accesses to slow memory, all accesses, simulated ns) of a stream under a policy."""
    sim = Simulation.from_table(MACHINE, policies={"tiering": {"use": policy}, "thp": {"use": "never"}}, nr_tasks=9, stream=stream)
    StreamRun(sim, stream, Sampler(sim, 10**12)).run(lambda done, total, text: None)
    assert sim.check_state() == []
    return int(sim.machine.node[NODE_STRIDE + N_ACCESSES]), int(sim.machine.node[N_ACCESSES]) + int(sim.machine.node[NODE_STRIDE + N_ACCESSES]), sim.now_ns


def min_with_bypass(pages: list[int], frames: int) -> int:
    """Accesses that find their page outside when each access may bring it in, knowing the future. The first ones of each fill the frames."""
    after = {}
    next_use = [0] * len(pages)
    for i in range(len(pages) - 1, -1, -1):
        next_use[i] = after.get(pages[i], 1 << 62)
        after[pages[i]] = i
    inside: dict[int, int] = {}
    slow = 0
    for i, page in enumerate(pages):
        if page not in inside:
            if len(inside) < frames:
                inside[page] = next_use[i]
                continue
            slow += 1
            last = max(inside, key=lambda one: inside[one])
            if inside[last] <= next_use[i]:
                continue
            del inside[last]
        inside[page] = next_use[i]
    return slow


def test_oracle_is_belady_with_bypass():
    stream = make_generator("zipf", {"pages": 1500, "events": 9000, "alpha": 0.6, "write_fraction": 1.0}).stream(3)
    first, total, first_ns = slow_accesses("first_touch", stream)
    oracle, _, oracle_ns = slow_accesses("oracle", stream)
    assert total == 9000
    # 1024 frames, some of them the kernel's and below the watermark: the oracle lies where 700 to 1024 frames put the bound
    pages = [int(word) >> 16 for word in stream.words if word & 15 < 3]
    assert min_with_bypass(pages, 1024) <= oracle <= min_with_bypass(pages, 700) < first
    # everything else is equal, and a slow access takes 160 ns more
    assert first_ns - oracle_ns == 160 * (first - oracle)


def test_rivals_run_as_an_experiment(tmp_path):
    nodes = 'nodes = [{memory = "4M", cpus = [0, 1]}, {memory = "12M", cpus = []}]\nhmat = [[0, 0, 90, 50], [0, 1, 250, 10]]\nbare = true\n'
    (tmp_path / "x.toml").write_text(
        f'[machine]\n{nodes}[thp]\nuse = "never"\n[workload]\nkind = "synthetic"\ngenerator = "loop"\nparams = {{pages = 1500, events = 4500, write_fraction = 1.0}}\n'
        '[matrix]\ntiering.use = ["first_touch", "memtis"]\n[tiering.params]\nperiod = 3\nstep_ms = 1\n'
    )
    result = run(tmp_path / "x.toml", results=tmp_path / "r", quiet=True, jobs=1)
    counters = {cell.axes["tiering.use"]: cell.result.counters for cell in result.cells}
    assert all(c["accesses_fast"] + c["accesses_slow"] == 4500 for c in counters.values())
    assert counters["first_touch"]["accesses_slow"] > 0
    assert "slow accesses" in str(result)
    assert counters["memtis"]["tiering_ns"] > 0 and "tiering_ns" not in counters["first_touch"]


def test_time_of_the_task_stands_while_the_oracle_moves():
    t = Tiered("oracle")
    before = t.sim.now_ns
    page = t.pfn(COLD + HOT - 1)
    t.machine.next_use[page] = 5
    t.machine.op("tiering", "page_accessed", 0, page, READ)
    assert t.sim.now_ns == before and t.machine.sc[SC_NOW_NS] == before
