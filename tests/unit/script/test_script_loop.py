"""`loop`, `bg` and `join` on a real machine: passes, periods, who waits for whom, and what ends them."""

import re
import shutil

import pytest

from mmlab._engine.looping import preempt_by_loops
from mmlab._engine.sampler import Sampler
from mmlab._engine.script import run_script
from mmlab.errors import NotSupported
from mmlab.experiment.run import run as run_file
from mmlab.model import rows as r
from mmlab.simulation import Simulation
from mmlab.verify.folder import ResultFolder
from mmlab.workload.ops import parse_ops

pytestmark = pytest.mark.nojit
MAP = "spawn A\nmmap A r 64 anon huge=no\n"
MS = 1_000_000


@pytest.fixture
def run(tmp_path):
    """Runs a script: the answers by line, and the simulation."""

    def go(text, **machine):
        sim = Simulation.from_table({"memory": "16M", "bare": True, **machine})
        run_script(sim, parse_ops(text, "t.ops"), tmp_path / "out", tmp_path)
        assert sim.check_state() == []
        return ResultFolder(tmp_path / "out").ops, sim

    return go


def test_passes_begin_every_period_until_the_time_is_over(run):
    ops, _ = run(MAP + "loop A r 0 64 100 w period=10000")
    assert (ops[3]["ret"], ops[3]["minflt"]) == (10, 64) and 100 * MS <= ops[3]["ns"] < 101 * MS


def test_without_a_period_the_time_of_a_pass_says_how_many_there_are(run):
    ops, _ = run(MAP + "touch A r 0 64 w\nloop A r 0 64 100 r")
    assert ops[4]["ret"] == pytest.approx(100 * MS / (64 * 8), rel=0.01)  # a touched page costs 8 ns
    assert ops[4]["minflt"] == 0


def test_the_script_goes_on_beside_a_loop_and_join_brings_its_answer(run):
    ops, _ = run(MAP + "bg loop A r 0 64 50 w period=5000\nsleep 20\nspawn B\nmmap B q 4 anon\njoin A\njoin A")
    assert ops[3]["ret"] == 0 and "minflt" not in ops[3]
    assert 20 * MS <= ops[5]["at"] < 21 * MS and ops[6]["at"] < 21 * MS
    assert (ops[7]["ret"], ops[7]["minflt"]) == (10, 64) and ops[8] == {"line": 8, "op": "join A", "at": ops[8]["at"], "ret": 0}
    assert 50 * MS <= ops[8]["at"] < 51 * MS


def test_a_tasks_next_operation_waits_for_its_loop(run):
    ops, sim = run(MAP + "bg loop A r 0 64 50 w period=5000\ntouch A r 0 1 r\nbg touch A r 0 64 r\nfork A B\n")
    assert ops[4]["ret"] == 0 and sim.now_ns >= 50 * MS and ops[5]["at"] >= 50 * MS


def test_a_slice_ends_within_a_pass_whose_pages_fault(run):
    text = "spawn A\nmmap A r 32M anon huge=no\n" + MAP.replace(" A", " B") + "touch B r 0 64 w\nbg loop A r 0 32M 1 w\nbg loop B r 0 64 6 r\njoin B\njoin A"
    ops, sim = run(text, memory="64M")
    assert (ops[9]["ret"], ops[9]["minflt"]) == (1, 8192)
    assert sim.now_ns > 12 * MS  # the first touches of A's one pass
    assert ops[8]["ret"] > 1000  # B has had its turns meanwhile, at 0.5 us a pass


def test_two_loops_share_one_cpu(run):
    text = MAP + MAP.replace(" A", " B") + "touch A r 0 64 w\ntouch B r 0 64 w\nbg loop A r 0 64 60 w\nbg loop B r 0 64 60 w\njoin A\njoin B"
    ops, _ = run(text)
    alone = 60 * MS / (64 * 8)
    assert ops[9]["ret"] == pytest.approx(alone / 2, rel=0.1) and ops[10]["ret"] == pytest.approx(alone / 2, rel=0.1)


def test_loops_on_two_cpus_do_not_share(run):
    text = MAP + MAP.replace("spawn A", "spawn B cpu=1").replace(" A", " B")
    ops, _ = run(text + "touch A r 0 64 w\ntouch B r 0 64 w\nbg loop A r 0 64 60 w\nbg loop B r 0 64 60 w\njoin A\njoin B", cpus=2)
    alone = 60 * MS / (64 * 8)
    assert [ops[9]["ret"], ops[10]["ret"]] == pytest.approx([alone, alone], rel=0.1)


def test_a_loop_that_is_always_runnable_takes_turns_with_other_work(run):
    text = MAP + "touch A r 0 64 w\nspawn B\nmmap B q 8192 anon huge=no\nbg loop A r 0 64 1000 w\ntouch B q 0 8192 r\nkill A"
    ops, _ = run(text, memory="64M")
    # 8192 faults of 0.5 us, 4.2 ms: A has a slice of 3 ms first and another when B has had one
    assert ops[7]["minflt"] == 8192 and 10 * MS < ops[7]["ns"] < 11 * MS


def test_a_stride_touches_every_nth_page(run):
    ops, _ = run(MAP + "loop A r 0 64 20 w stride=4 period=10000\nmincore A r")
    assert ops[3]["minflt"] == 16 and ops[4]["ret"] == 16


def test_a_signal_ends_a_loop(run):
    ops, _ = run(MAP + "munmap A r 32 32\nbg loop A r 0 64 50 w period=5000\njoin A\ntouch A r 0 1 w")
    assert (ops[5]["ret"], ops[5]["signal"], ops[5]["minflt"]) == (-14, 11, 32) and ops[6]["ret"] == 0


def test_kill_ends_a_loop_at_once(run):
    ops, sim = run(MAP + "bg loop A r 0 64 5000 w period=5000\nsleep 10\nkill A\nsleep 10")
    assert sim.now_ns < 21 * MS and sim.machine.sc[68] == 0
    assert ops[5]["ret"] == 0


@pytest.mark.parametrize("operation", ["bg madvise A r 0 64 cold", "bg touch A r 0 64 w reverse"])
def test_what_cannot_run_in_the_background_is_said(run, operation):
    with pytest.raises(NotSupported, match="line 3"):
        run(MAP + operation)


def test_without_flushes_only_the_first_pass_sets_accessed_bits(tmp_path):
    sim = Simulation.from_table({"memory": "128M"}, script=True)
    script = "spawn A\nmmap A r 64 anon at=0x10040000000\ntouch A r 0 64 w\nbg loop A r 0 64 20 r noflush\nsleep 5\nwrite /proc/@A/clear_refs 1\njoin A\nsnapshot a\n"
    kb = []
    for text in (script, script.replace(" noflush", "")):
        run_script(sim, parse_ops(text, "t.ops"), tmp_path / "out", tmp_path)
        smaps = (tmp_path / "out" / "a" / "A.smaps").read_text()
        kb.append(re.findall(r"Referenced: +(\d+) kB", smaps[smaps.index("10040000000-") :])[0])
        shutil.rmtree(tmp_path / "out")
        sim = Simulation.from_table({"memory": "128M"}, script=True)
    assert kb == ["0", "256"]


def test_a_looping_task_touches_its_own_code_and_stack(tmp_path):
    sim = Simulation.from_table({"memory": "128M"}, script=True)
    script = "spawn A\nmmap A r 4 anon\ntouch A r 0 4 w\nwrite /proc/@A/clear_refs 1\nsnapshot a\nloop A r 0 4 10 r period=1000\nsnapshot b"
    run_script(sim, parse_ops(script, "t.ops"), tmp_path / "out", tmp_path)
    folder = ResultFolder(tmp_path / "out")
    referenced = [re.findall(r"Referenced: +(\d+) kB", (folder.path / f"{label}/A.smaps").read_text()) for label in "ab"]
    grown = {i: int(b) - int(a) for i, (a, b) in enumerate(zip(*referenced)) if a != b}
    # by VMA: text, read-only data, data, heap, the region, stack: so many pages of each are in loop.pages, and the 16 around the code that sleeps
    assert list(grown.values()) == [12 + 64, 4, 8, 12, 16, 4]


def test_a_tasks_first_sleep_maps_the_code_for_it(tmp_path):
    text = "spawn A\nmmap A r 4 anon\ntouch A r 0 4 w\nloop A r 0 4 10 r\nloop A r 0 4 10 r period=1000\nbg loop A r 0 4 10 r period=1000\njoin A\n"
    sim = Simulation.from_table({"memory": "128M"}, script=True)
    run_script(sim, parse_ops(text, "t.ops"), tmp_path / "out", tmp_path)
    ops = ResultFolder(tmp_path / "out").ops
    assert [ops[line]["minflt"] for line in (4, 5, 7)] == [0, 1, 0]
    warm = Simulation.from_table({"memory": "128M"}, script=True, warm_text=True)
    run_script(warm, parse_ops(text, "t.ops"), tmp_path / "warm", tmp_path)
    assert ResultFolder(tmp_path / "warm").ops[5]["minflt"] == 0


def test_a_long_turn_of_a_kernel_thread_lets_waking_tasks_go_first(run):
    """A pass of 64 pages takes 512 ns here, one is due every 1024 ns: 4 ms of a thread's work are stretched to 8 ms, 4 ms / 512 ns passes."""
    _, sim = run("spawn A\nmmap A r 64 anon huge=no\ntouch A r 0 64 w\nbg loop A r 0 64 1000 w period=1\n")
    machine, row = sim.machine, sim.tasks["A"].index * r.LOOP_STRIDE
    pass_ns = 64 * int(machine.cost[r.COST_HIT])
    began = int(machine.sc[r.SC_NOW_NS]) + 4 * MS
    machine.loop[row + r.LOOP_PERIOD_NS], machine.loop[row + r.LOOP_NEXT_NS], machine.loop[row + r.LOOP_PASSES] = 2 * pass_ns, began - 4 * MS, 0
    machine.sc[r.SC_NOW_NS] = began
    machine.run(preempt_by_loops, 2 * MS)  # no more than a slice: it was not interrupted
    assert int(machine.sc[r.SC_NOW_NS]) == began
    machine.run(preempt_by_loops, 4 * MS)
    passes = int(machine.loop[row + r.LOOP_PASSES])
    assert passes == -(-4 * MS // pass_ns) + (1 if 4 * MS % pass_ns == 0 else 0)
    assert int(machine.sc[r.SC_NOW_NS]) == began + passes * pass_ns


def test_samples_are_taken_while_a_script_sleeps():
    sim = Simulation.from_table({"memory": "16M", "bare": True})
    began = sim.now_ns
    sim.sampler = Sampler(sim, 10 * MS, stops=False)
    sim.sleep(35)
    assert sim.now_ns == began + 35 * MS and [row[0] - began for row in sim.sampler.rows] == [0, 10 * MS, 20 * MS, 30 * MS]


def test_an_experiment_samples_a_script_between_operations_and_in_its_sleeps(tmp_path):
    """What is due within a loop of 25 ms is taken at its end."""
    (tmp_path / "a.ops").write_text(MAP + "loop A r 0 64 25 w period=1000\nsleep 20\n")
    (tmp_path / "x.toml").write_text('[machine]\nmemory = "16M"\nbare = true\n[workload]\nkind = "ops"\nscript = "a.ops"\n[run]\nsample_ms = 10\n')
    times = run_file(tmp_path / "x.toml", results=tmp_path / "results", quiet=True, jobs=1).cells[0].result.series["time_ns"] // MS
    assert times.tolist() == [0, 25, 35, 45]
