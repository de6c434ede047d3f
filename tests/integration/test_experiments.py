"""The experiments that come with mmlab, at a reduced size: they run, and show what they are about."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from mmlab.experiment.load import load_experiment

EXPERIMENTS = Path(__file__).parents[2] / "experiments"


def run(folder, name, *changes, axis="reclaimer.use"):
    """The reduced experiment in a process of its own: (what it printed, (axis values..., counter) -> value)."""
    command = [sys.executable, "-m", "mmlab", "run", str(EXPERIMENTS / name), "--jobs", "1", "--results", str(folder / "r")]
    command += [word for change in changes for word in ("--set", change)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "NUMBA_DISABLE_JIT": "1", "COLUMNS": "200"})
    assert done.returncode == 0, done.stderr
    rows = pq.read_table(next((folder / "r").glob("*/cells.parquet"))).to_pylist()
    return done.stdout, {(row["workload.source"], row[axis], row["counter"]): row["value"] for row in rows}


@pytest.mark.parametrize("path", sorted(EXPERIMENTS.glob("*.toml")), ids=lambda path: path.stem)
def test_every_experiment_is_well_formed(path):
    assert load_experiment(path, {}).cells


def test_the_example_of_runs_help():
    assert len(load_experiment(EXPERIMENTS / "first_look.toml", {"reclaimer.use": "fifo", "seeds.count": 10}).cells) == 10


def test_reclaim_shootout(tmp_path):
    """On a loop of 100 pages over a cache of 40, LRU and FIFO always miss, the optimum misses 60 of 99 after the first round, and the table
    has each policy's regret."""
    shown, found = run(
        tmp_path, "reclaim_shootout.toml", 'matrix.workload.source=["loop", "mix"]', "matrix.workload.cache_share=[0.4]",
        "workload.sources.loop.params.pages=100", "workload.sources.loop.params.events=2080", "workload.sources.mix.params.repeat=1",
        'workload.sources.mix.params.phases=[{generator="zipf", pages=300, events=2000}, {generator="scan", first_page=300, pages=200, events=200}]',
    )  # fmt: skip
    policies = {policy for _, policy, _ in found}
    assert len(policies) == 19
    assert found["loop", "lru", "misses"] == found["loop", "fifo", "misses"] == 2080
    assert found["loop", "opt", "misses"] == 100 + 60 * 1980 // 99
    for policy in policies:
        for source in ("loop", "mix"):
            assert found[source, "opt", "misses"] <= found[source, policy, "misses"] <= found[source, policy, "requests"]
    assert "regret %" in shown
    line = next(line for line in shown.splitlines() if "loop, lru " in line)
    assert line.split()[2:5] == ["2,080", "2,080", "60"]  # requests, misses, and 60 % more than the 1300 of the optimum
    glance = shown.partition("Misses: percent above the optimum (regret)")[2].splitlines()
    line = {words[0]: words[1:] for line in glance if len(words := line.split()) == 3}  # a policy, loop, mix
    assert len(line) == 19 + 1 and line["%"] == ["loop", "mix"]
    assert line["opt"] == ["0.0", "0.0"] and line["lru"][0] == line["fifo"][0] == "60"


def test_mglru_vs_lru(tmp_path):
    """All three reclaim by kswapd and swap."""
    shown, found = run(
        tmp_path, "mglru_vs_lru.toml", 'matrix.workload.source=["loop"]', 'matrix.machine.memory=["12M"]', "seeds.count=1",
        "workload.sources.loop.params.pages=4800", "workload.sources.loop.params.events=14000",
    )  # fmt: skip
    for policy in ("two_list", "mglru", "opt"):
        assert found["loop", policy, "pgscan_kswapd"] > 0
        assert found["loop", policy, "pgmajfault"] > 0
    assert "regret %" not in shown  # major faults of opt are no bound: what is still being written is found in the swap cache


def test_thp_policies(tmp_path):
    """Dense: whoever makes everything huge misses once a range; sparse: what that costs in memory, and who does not pay
    it. The streams touch 302 pages of 10 ranges, and all 2048 pages of 4 ranges, so often
    that each is met again after its range was made huge."""
    shown, found = run(
        tmp_path, "thp_policies.toml", 'machine.memory="32M"', "workload.sources.sparse.params.pages=5120", "workload.sources.sparse.params.events=30000",
        "workload.sources.dense.params.pages=2048", "workload.sources.dense.params.events=60000", "workload.sources.dense.params.alpha=0", "thp.params.high_pct=50", "thp.params.low_pct=40",
        axis="thp.use",
    )  # fmt: skip
    policies = ("always", "madvise", "never", "ingens", "hawkeye", "reservation", "oracle")
    value = {(source, name): {c: found[source, name, c] for c in ("tlb_misses", "bloat_pages", "rss_pages")} for source in ("sparse", "dense") for name in policies}
    for name in ("madvise", "never", "ingens", "reservation", "oracle"):
        assert value["sparse", name]["bloat_pages"] == 0, name
    assert value["sparse", "always"]["bloat_pages"] == 10 * 512 - 302
    assert value["sparse", "always"]["tlb_misses"] == 10
    assert 0 < value["sparse", "hawkeye"]["bloat_pages"] < value["sparse", "always"]["bloat_pages"] * 2 // 3  # from 63 % to 40 % of memory
    assert value["sparse", "never"]["tlb_misses"] >= 302
    assert {value["dense", name]["bloat_pages"] for name in policies} == {0}
    assert value["dense", "always"]["tlb_misses"] == value["dense", "oracle"]["tlb_misses"] == 4
    assert value["dense", "never"] == value["dense", "madvise"]
    for name in ("ingens", "reservation", "hawkeye"):
        assert value["dense", name]["tlb_misses"] < value["dense", "never"]["tlb_misses"], name
    assert "bloat_pages" in shown
    report = next((tmp_path / "r").glob("*/report.html")).read_text(encoding="utf-8")
    assert "TLB misses against bloat" in report


def test_monitor_accuracy(tmp_path):
    """The oracle is right; page scans see all that is hot and more; sampling sees part of it and little else; looking at regions costs less
    than looking at pages."""
    shown, found = run(
        tmp_path, "monitor_accuracy.toml", 'matrix.workload.source=["steady"]', "workload.sources.steady.accesses_per_ms=100", axis="monitor.use",
    )  # fmt: skip
    score = {name: {key: found["steady", name, f"monitor_{key}"] for key in ("precision", "recall", "ns")} for _, name, _ in found}
    assert len(score) == 7 and "age error" in shown
    assert min(score["oracle"]["precision"], score["oracle"]["recall"]) > 0.99
    assert score["accessed_bit_scan"]["recall"] > 0.95 > score["accessed_bit_scan"]["precision"]
    assert score["clear_refs"]["precision"] < 0.3
    assert score["pebs"]["precision"] > 0.6 > score["pebs"]["recall"]
    assert score["damon"]["ns"] < score["accessed_bit_scan"]["ns"] < score["idle_page"]["ns"]


def test_tiering(tmp_path):
    """The oracle has the fewest accesses to slow memory, first touch moves nothing, and everybody else moves something."""
    fill = '{generator="scan", pages=8000, events=8000, write_fraction=1.0}'
    shown, found = run(
        tmp_path, "tiering.toml", 'matrix.workload.source=["phases"]', "sysfs.kernel/debug/sched/numa_balancing/scan_delay_ms=5",
        f'workload.sources.phases.params.phases=[{fill}, {{generator="uniform", first_page=5000, pages=2500, events=60000, write_fraction=0.3}}]',
        axis="tiering.use",
    )  # fmt: skip
    slow = {name: found["phases", name, "accesses_slow"] for _, name, _ in found}
    moved = {name: found["phases", name, "pgmigrate_success"] for _, name, _ in found}
    assert len(slow) == 6 and "slow accesses" in shown
    assert slow["oracle"] == min(slow.values()) < slow["first_touch"] / 2
    assert moved["first_touch"] == 0 < min(count for name, count in moved.items() if name != "first_touch")


def test_proactive_reclaim(tmp_path):
    """Of 2000 pages touched once 200 are used further: where ten idle intervals are enough most of the others go, where none ever is nothing does."""
    age = "sysfs.kernel/mm/damon/admin/kdamonds/0/contexts/0/schemes/0/access_pattern/age/min"
    phases = (
        '{generator="scan", pages=2000, events=2000, write_fraction=1.0}',
        '{generator="uniform", first_page=300, pages=200, events=600000, write_fraction=0.3}',
    )
    shown, found = run(
        tmp_path, "proactive_reclaim.toml", 'matrix.workload.source=["steady"]', f"matrix.{age}=[1000000, 10]", 'machine.memory="32M"',
        "sysfs.kernel/mm/damon/admin/kdamonds/0/contexts/0/targets/0/regions/0/end=0x2000000",
        f"workload.sources.steady.params.phases=[{', '.join(phases)}]", axis=age,
    )  # fmt: skip
    assert found["steady", 1000000, "pswpout"] == found["steady", 1000000, "pgmajfault"] == 0
    assert 1500 < found["steady", 10, "pswpout"] <= 2000 < found["steady", 10, "pswpout"] + found["steady", 10, "rss_pages"] + 200
    assert found["steady", 10, "rss_pages"] < found["steady", 10, "rss_pages_mean"] < found["steady", 1000000, "rss_pages_mean"] <= 2000
    assert "age/min=10 " in shown


def test_oom_policies(tmp_path):
    """Six tasks of 4000 accesses each want 7200 pages of at most 5120: two have to go, a third where the kernel needs too much for itself. The
    oracle loses the least, and daemons that kill earlier wait less. The report says why."""
    shown, found = run(
        tmp_path, "oom_policies.toml", 'matrix.workload.source=["uniform"]', "workload.sources.uniform.params.events=4000", "seeds.count=1",
        axis="oom_policy.use",
    )  # fmt: skip
    figure = {name: {key: found["uniform", name, key] for key in ("kills", "work_lost", "memory_some_ns", "oom_kill", "events")} for _, name, _ in found}
    assert len(figure) == 7 and "work_lost" in shown
    assert 2 <= figure["oracle"]["kills"] <= 3
    for name, of in figure.items():
        assert of["work_lost"] == 4000 * of["kills"] >= figure["oracle"]["work_lost"], name
        assert of["events"] < 24_006 <= of["events"] + of["work_lost"], name
    for name in ("earlyoom", "oomd", "lmkd"):
        assert figure[name]["oom_kill"] < figure[name]["kills"], name
        assert figure[name]["memory_some_ns"] < figure["linux"]["memory_some_ns"], name
    report = next((tmp_path / "r").glob("*/report.html")).read_text(encoding="utf-8")
    assert "Who was killed, and why" in report and "killed by the daemon" in report
    assert "Work lost against waiting for memory" in report
