"""Who dies under each rival, why, and what happens when a policy names one who cannot be killed."""

import numpy as np
import pytest
from mmlab_rivals.oom_policy.oracle import ORACLE_OOM
from mmlab_rivals.oom_policy.youngest import YOUNGEST

from mmlab.errors import NotSupported, PluginError
from mmlab.kernels.jit import kernel
from mmlab.model.rows import MC_USAGE, MEMCG_STRIDE, PSI_AVG, PSI_STRIDE, SC_NOW_NS, SC_OOM_TIMER_NS, SC_TOTALRAM
from mmlab.model.vmstat import V_PGSCAN_DIRECT, VMSTAT_STRIDE
from mmlab.pluginmanager import Registered, Registry, load_plugins
from mmlab.policies import OomPolicy
from mmlab.procfs.cgroups import make
from mmlab.simulation import Simulation
from mmlab.workload.maps import mapped_stream
from mmlab.workload.stream import EventStream, pack, work_of_tasks

pytestmark = pytest.mark.nojit
PAGE = 4096
MS = 1_000_000


def simulation(use, params=None, script=False, **table):
    return Simulation.from_table({"memory": "8M", "cpus": 1, "bare": True, **table}, policies={"oom_policy": {"use": use, "params": params or {}}}, script=script)


def fill(sim, name, nr_pages, adj=0):
    """A task that writes so many pages."""
    sim.spawn(name, oom_score_adj=adj)
    address = sim.mmap(name, nr_pages * PAGE)
    assert address > 0
    sim.touch(name, address, nr_pages, 1)


def victims(sim):
    return [(kill["task"], kill["by"]) for kill in sim.kills]


def scores(sim, kill):
    return [(row["task"], row["score"], row["chosen"]) for row in sim.candidates if row["kill"] == kill]


def test_linux_notes_the_badness_of_every_candidate():
    """Badness: resident pages, page tables (PUD, PMD and PTE table), a thousandth of 2048 pages (2) for each of oom_score_adj."""
    sim = simulation("linux")
    fill(sim, "A", 600)
    fill(sim, "B", 500, adj=500)
    sim.spawn("R", oom_score_adj=-1000)
    fill(sim, "C", 1500)
    assert sim.candidates[0]["rss"] == 500 * 4
    first, second, third = scores(sim, 0)
    thousandth = int(sim.machine.sc[SC_TOTALRAM]) // 1000
    assert first == ("B", 500 + 500 * thousandth + sim.kills[0]["pgtables"] // 4, True)
    assert [name for name, _, _ in (second, third)] == ["C", "A"] and not second[2] and not third[2]
    assert third[1] == 600 + 4
    assert sim.check_state() == []


def test_youngest_spares_the_old_whatever_they_hold():
    sim = simulation("youngest")
    fill(sim, "A", 1200)
    fill(sim, "B", 100)
    fill(sim, "C", 900)
    assert victims(sim)[0] == ("C", "kernel")
    pids = {name: task.pid for name, task in sim.tasks.items()}
    assert scores(sim, 0) == [("C", pids["C"], True), ("B", pids["B"], False), ("A", pids["A"], False)]


def test_youngest_by_pid():
    sim = simulation("youngest")
    tasks = [sim.spawn(name, oom_score_adj=adj) for name, adj in (("A", 0), ("B", 0), ("C", -1000))]
    assert sim.machine.op("oom_policy", "select_victim", tasks[0].index, 0) == tasks[1].index
    assert YOUNGEST.name == "youngest"


def test_earlyoom_acts_before_the_kernel_and_by_oom_score():
    sim = simulation("earlyoom", {"min_sleep_ms": 1, "max_sleep_ms": 1, "mem_pct": 30})
    fill(sim, "A", 900)
    assert sim.kills == []
    fill(sim, "B", 300, adj=900)  # 1200 of 2048 pages
    fill(sim, "C", 300)  # less than 30 % are available
    sim.sleep(2)
    assert victims(sim) == [("B", "user space")]
    assert sim.counters()["oom_kill"] == 0
    best, other = scores(sim, 0)[:2]
    assert best[1] >> 40 == sim.candidates[0]["oom_score"] > other[1] >> 40
    assert sim.check_state() == []


def test_earlyoom_waits_while_there_is_swap():
    sim = simulation("earlyoom", {"min_sleep_ms": 1, "max_sleep_ms": 1, "mem_pct": 60, "swap_pct": 50}, swap="16M")
    fill(sim, "A", 1900)
    sim.sleep(3)
    assert sim.kills == []
    fill(sim, "B", 3500)  # with less than half of the 4096 pages of swap left
    sim.sleep(3)
    assert sim.kills[0]["by"] == "user space" and sim.counters()["oom_kill"] == 0


def test_earlyoom_sleeps_as_long_as_memory_must_last():
    """1600 pages above the thresholds are 6400 kB: at 6000 kB/ms one millisecond, within the bounds."""
    sim = simulation("earlyoom", {"min_sleep_ms": 3, "max_sleep_ms": 50})
    sim.sleep(1)
    assert sim.machine.sc[SC_OOM_TIMER_NS] % (3 * MS) < MS


def test_a_machine_without_a_daemon_has_no_timer():
    sim = simulation("linux")
    sim.sleep(1)
    assert sim.machine.sc[SC_OOM_TIMER_NS] > 1 << 60


@pytest.mark.parametrize(("pages", "dies"), [(500, None), (900, "B"), (1200, "A")])
def test_lmkd_kills_the_more_important_the_less_is_left(pages, dies):
    """Of 2048 pages: below 60 % free oom_score_adj 500 may die, below 40 % oom_score_adj 100; the highest oom_score_adj of those who may."""
    levels = {f"minfree_{i}": pct for i, pct in enumerate((5, 10, 20, 30, 40, 60))} | {f"adj_{i}": adj for i, adj in enumerate((100, 100, 100, 100, 100, 500))}
    sim = simulation("lmkd", {**levels, "poll_ms": 1})
    sim.spawn("A", oom_score_adj=100)
    if dies != "A":
        sim.spawn("B", oom_score_adj=500)
    fill(sim, "C", pages)
    sim.sleep(3)
    assert [name for name, _ in victims(sim)] == ([dies] if dies else [])


def test_oomd_kills_by_swap_when_both_are_used_up():
    sim = simulation("oomd", {"interval_ms": 1, "swap_pct": 40, "post_action_ms": 1000}, swap="4M")
    fill(sim, "A", 1200)
    fill(sim, "B", 1500)
    sim.sleep(5)
    assert victims(sim) == [("A", "user space")]  # one: it waits afterwards
    swapped = {row["task"]: row["swap"] // 4 for row in sim.candidates}
    assert scores(sim, 0)[0] == ("A", swapped["A"], True) and swapped["A"] > swapped["B"]


def press(sim, memcg, percent, scanned):
    """As if a cgroup had been under this pressure, with pages scanned since the last look."""
    sim.machine.psi[memcg * PSI_STRIDE + PSI_AVG + 3] = percent << 11
    sim.machine.memcg_stat[memcg * VMSTAT_STRIDE + V_PGSCAN_DIRECT] += scanned


def test_oomd_kills_the_leaf_scanned_most_after_the_pressure_lasted():
    sim = simulation("oomd", {"interval_ms": 1, "limit_pct": 60, "duration_ms": 10}, script=True, memory="64M")
    for path in ("s", "s/a", "s/b", "t"):
        make(sim, path)
    for name, cgroup in (("A", "s/a"), ("B", "s/b"), ("B2", "s/b"), ("T", "t")):
        sim.spawn(name, cgroup=cgroup)
    st, sc, groups = sim.machine.states["oom_policy"], sim.machine.sc, sim.cgroups
    sc[SC_OOM_TIMER_NS] = 1 << 62  # it looks when the test says so

    def look(ms):
        sc[SC_NOW_NS] += ms * MS
        press(sim, groups["s/a"], 0, 10)
        press(sim, groups["s/b"], 0, 30)
        press(sim, groups["t"], 0, 90)  # the most, but not below what is under pressure
        sim.machine.op("oom_policy", "step", int(sc[SC_NOW_NS]))
        sim._notice_kills()

    press(sim, groups["s"], 60, 0)
    look(20)
    assert st.over_ns[groups["s"]] < 0  # the limit is not above the limit
    press(sim, groups["s"], 61, 0)
    look(1)
    look(9)
    assert sim.kills == []
    usage = int(sim.machine.memcg[groups["s/b"] * MEMCG_STRIDE + MC_USAGE])
    look(1)
    assert victims(sim) == [("B", "user space"), ("B2", "user space")]
    assert scores(sim, 0)[0][1] == 30 << 32 | usage and [name for name, _, _ in scores(sim, 0)] == ["B", "B2", "A"]
    look(20)
    assert len(sim.kills) == 2  # 15 s of rest
    look(15_000)
    look(20)
    assert [kill["task"] for kill in sim.kills[2:]] == ["A"]


def test_oomd_does_not_kill_where_nothing_is_scanned():
    sim = simulation("oomd", {"interval_ms": 1, "duration_ms": 0})
    sim.spawn("A")
    sim.machine.psi[PSI_AVG + 3] = 99 << 11
    sim.machine.sc[SC_OOM_TIMER_NS] = 1 << 62
    sim.machine.op("oom_policy", "step", 0)
    sim._notice_kills()
    assert sim.kills == []
    sim.machine.vmstat[V_PGSCAN_DIRECT] += 1
    sim.machine.op("oom_policy", "step", 1)
    sim._notice_kills()
    assert victims(sim) == [("A", "user space")]


# -- the oracle --------------------------------------------------------------------------------------------------------------------------------


def stream_of(*tasks):
    """Each task (pages, rounds) writes its pages so many times, one task after the other."""
    words = np.concatenate([pack(1, i, (1 << 20) + np.tile(np.arange(pages), rounds)) for i, (pages, rounds) in enumerate(tasks)])
    return EventStream(words, (), tuple(f"T{i}" for i in range(len(tasks))), {})


def test_work_of_tasks():
    assert work_of_tasks(stream_of((5, 3), (2, 10)).words, 3).tolist() == [[15, 5], [20, 2], [0, 0]]


@pytest.mark.parametrize(
    ("work", "dies"),
    [
        (((600, 2), (600, 9), (900, 3)), "T0"),  # one of them is too much: the least work
        (((100, 1), (700, 9), (1400, 3)), "T2"),  # without T0 the others do not fit; T2 has less to do than T1
        (((200, 1), (300, 1), (1700, 9)), "T1"),  # both small ones go for the large one; of the set who holds more
    ],
)
def test_the_oracle_gives_up_the_least_work_that_makes_room(work, dies):
    stream = stream_of(*work)
    sim = Simulation.from_table({"memory": "8M", "cpus": 1, "bare": True}, policies={"oom_policy": {"use": "oracle"}}, stream=stream)
    for name in stream.tasks:
        sim.spawn(name)
    for name, (pages, _) in zip(stream.tasks[:2], work):
        sim.touch(name, sim.mmap(name, pages * PAGE), pages, 1)
    assert sim.kills == []
    sim.touch("T2", sim.mmap("T2", work[2][0] * PAGE), work[2][0], 1)
    assert sim.kills[0]["task"] == dies
    assert [row["task"] for row in sim.candidates if row["kill"] == 0][0] == dies
    for row in sim.candidates:
        pages, rounds = work[int(row["task"][1:])]
        assert row["score"] == -1 - pages * rounds or row["score"] == (row["rss"] + row["swap"]) // 4


def test_the_oracle_refuses_what_it_cannot_know():
    with pytest.raises(NotSupported, match="oom_policy 'oracle' knows the future accesses of a bulk stream; there is none here"):
        simulation("oracle")
    assert ORACLE_OOM.needs_future and mapped_stream


# -- a policy at fault -------------------------------------------------------------------------------------------------------------------------


@kernel
def zero(m, st, task):
    return 0


@kernel
def first(m, st, task, order):
    """Task 0, whatever it is."""
    return 0


@kernel
def nobody_there(m, st, task, order):
    return 77


FIRST = OomPolicy(name="first", summary="kills task 0", select_victim=first, oom_score=zero)
ABSENT = OomPolicy(name="absent", summary="kills a task that does not exist", select_victim=nobody_there, oom_score=zero)


def with_policy(policy):
    registry = Registry([*load_plugins().policies(), Registered(policy, "bad", "bad-plugin", "1.0")])
    return Simulation.from_table({"memory": "8M", "cpus": 1, "bare": True}, policies={"oom_policy": {"use": policy.name}}, registry=registry)


@pytest.mark.parametrize(
    ("policy", "adj", "dead", "why"),
    [
        (FIRST, -1000, False, r"chose A to be killed, but it is exempt \(oom_score_adj -1000\)"),
        (FIRST, 0, True, "chose A to be killed, but it is dead"),
        (ABSENT, 0, False, "chose task 77 to be killed, but no such task"),
    ],
)
def test_a_policy_that_names_one_who_cannot_be_killed_is_at_fault(policy, adj, dead, why):
    sim = with_policy(policy)
    sim.spawn("A", oom_score_adj=adj)
    if dead:
        sim.exit("A")
    with pytest.raises(PluginError, match=f"plugin bad \\(bad-plugin 1.0\\): oom_policy '{policy.name}': {why}; its candidates by score: ") as caught:
        fill(sim, "B", 1000)
        fill(sim, "C", 1500)
    assert caught.value.exit_code == 3
    assert "B 0 (rss " in str(caught.value)
    assert sim.kills == []
