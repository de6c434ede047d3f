"""A monitor is judged by the accesses of its own run; masim's text says what these are."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from mmlab._engine.sampler import Sampler
from mmlab._engine.score import Scorer, _OfSize, hot_pages, rank_correlation, run_lengths
from mmlab._engine.stream_run import StreamRun
from mmlab.cli import app
from mmlab.errors import InputError
from mmlab.experiment.load import load_experiment
from mmlab.experiment.run import run
from mmlab.kernels.jit import JIT_OFF
from mmlab.results.monitor_figures import monitor_plots
from mmlab.results.report import report_html
from mmlab.simulation import Simulation
from mmlab.workload.generators import make_generator
from mmlab.workload.stream import STREAM_BASE

CONFIG = "#regions\nhot, 65536\ncold, 262144\n\nfill\n40\ncold, 0, 4096, 4, wo\nhot, 0, 4096, 1\n\nuse\n80\nhot, 1, 64, 1, ro\n"
TABLES = """
[machine]
memory = "16M"
bare = true
[thp]
use = "never"
[workload]
kind = "masim"
file = "two.cfg"
accesses_per_ms = 20
[monitor]
use = "{monitor}"
params = {params}
[run]
score_ms = 20
sample_ms = 50
"""


def test_hot_is_the_smallest_set_with_the_share_and_its_ties():
    weight = np.array([5.0, 0, 3, 1, 1])
    assert hot_pages(weight, 0.8).tolist() == [True, False, True, False, False]  # 8 of 10
    assert hot_pages(weight, 0.9).tolist() == [True, False, True, True, True]  # the second 1 is as hot as the first
    assert not hot_pages(np.zeros(3), 0.9).any()


def test_rank_correlation_with_ties():
    assert rank_correlation(np.array([1, 2, 3]), np.array([10, 20, 90])) == pytest.approx(1)
    assert rank_correlation(np.array([1, 2, 3]), np.array([3, 2, 1])) == pytest.approx(-1)
    # ranks 1 2.5 2.5 4 against 1 2 3 4: covariance 4.5, variances 4.5 and 5
    assert rank_correlation(np.array([0, 5, 5, 9]), np.array([1, 2, 3, 4])) == pytest.approx(4.5 / math.sqrt(4.5 * 5))
    assert rank_correlation(np.array([1, 1]), np.array([1, 2])) is None


def test_runs_of_neighbours():
    key = np.array([4, 5, 6, 9, 10, 20])
    assert run_lengths(key, np.array([True, True, False, True, True, True])).tolist() == [2, 2, 0, 2, 2, 1]


def test_areas_are_judged_by_their_size():
    """Hot are one page and 20 side by side; found are these 20, and 20 others that are cold."""
    true_hot, found_hot = np.zeros(100, bool), np.zeros(100, bool)
    true_hot[[5, *range(40, 60)]] = True
    found_hot[[*range(40, 60), *range(70, 90)]] = True
    small, large = _OfSize(), _OfSize()
    for of_size, few in ((small, True), (large, False)):
        is_true, is_found = ((0 < n) & ((n <= 16) == few) for n in (run_lengths(np.arange(100), hot) for hot in (true_hot, found_hot)))
        of_size.add(is_true, is_found, true_hot, found_hot, true_hot.astype(float), found_hot.astype(float))
    # one hot page and 79 cold ones, 20 of them with heat: ranks of two values each
    rank = np.corrcoef([1] + 79 * [0], [0] + 20 * [1] + 59 * [0])[0, 1]
    assert small.row(16) == {"upto_bytes": 65536, "true_bytes": 4096, "found_bytes": 0, "precision": None, "recall": 0, "rank_correlation": pytest.approx(rank)}
    assert (large.row(256)["precision"], large.row(256)["recall"]) == (0.5, 1)


def result_of(tmp_path: Path, monitor: str, params: str = "{}"):
    (tmp_path / "two.cfg").write_text(CONFIG)
    (tmp_path / "x.toml").write_text(TABLES.format(monitor=monitor, params=params))
    return run(tmp_path / "x.toml", results=tmp_path / "results", quiet=True, jobs=1)


@pytest.mark.skipif(not JIT_OFF, reason="a run of the whole machine: python build")
def test_the_oracle_is_right_and_the_text_says_what_is_hot(tmp_path):
    cell = result_of(tmp_path, "oracle", "{window_ms = 20}").cells[0].result
    rows = cell.tables["monitor_score"]
    assert [row["time_ms"] for row in rows] == [20, 40, 60, 80, 100]
    assert min(row["precision"] for row in rows) > 0.97 and min(row["recall"] for row in rows) > 0.97
    # from 40 ms on 16 pages have all accesses, some 25 each: those up to 90 % of them are hot, 13 pages at least
    assert all(13 * 4096 <= row["true_hot_bytes"] <= 65536 for row in rows[3:])
    assert cell.counters["monitor_checks"] == 120 * 20 + 2  # and the two touches of text and stack
    heat = cell.tables["monitor_heatmap"]
    assert sum(heat[3]["true"]) > 0 and heat[3]["true"] == pytest.approx(heat[3]["found"], abs=0.2)


@pytest.mark.skipif(not JIT_OFF, reason="a run of the whole machine: python build")
def test_a_scan_sees_pages_once_and_pays_for_each(tmp_path):
    result = result_of(tmp_path, "accessed_bit_scan")
    cell = result.cells[0].result
    assert cell.counters["monitor_ns"] == 150 * cell.counters["monitor_checks"] > 0  # vm_guest's scan_page
    assert cell.counters["monitor_cpu_percent"] == pytest.approx(100 * cell.counters["monitor_ns"] / cell.counters["sim_time_ns"])
    row = cell.tables["monitor_score"][-1]  # one scan, at 100 ms, of what was touched in 100 ms: everything is equally hot
    assert row["found_hot_bytes"] >= 65536 + 262144
    assert 0 < row["precision"] < 0.3 and row["recall"] == 1
    plots = monitor_plots(result.cells)
    assert [plot["layout"]["title"]["text"] for plot in plots][-2:] == ["Accesses", "As accessed_bit_scan sees it"]
    assert "What the monitors saw" in report_html(result)
    told = CliRunner().invoke(app, ["cell", str(result.folder), "--cell", result.cells[0].key[:8]])
    assert (Path(told.stdout.strip()) / "cell.json").exists()
    pytest.importorskip("matplotlib")
    for name in ("heat.png", "heat.svg"):
        done = CliRunner().invoke(app, ["heatmap", str(result.folder), "--out", str(tmp_path / name)])
        assert done.exit_code == 0 and (tmp_path / name).stat().st_size > 1000
    refused = CliRunner().invoke(app, ["heatmap", str(result.folder), "--out", str(tmp_path / "heat.bmp")])
    assert isinstance(refused.exception, InputError) and "must end in .png, .svg or .pdf" in str(refused.exception)


@pytest.mark.skipif(not JIT_OFF, reason="a run of the whole machine: python build")
def test_a_score_can_be_left_and_resumed():
    stream = make_generator("loop", {"pages": 40, "events": 4000}).stream(1)
    sim = Simulation.from_table({"memory": "16M", "bare": True}, policies={"monitor": {"use": "accessed_bit_scan"}}, nr_tasks=9)
    scorer = Scorer(sim, stream, 4000, 0.9)  # 4 us: 500 accesses that hit
    StreamRun(sim, stream, Sampler(sim, 10**12), scorer=scorer).run(lambda done, total, text: None)
    assert len(scorer.rows) > 3
    other = Scorer(sim, stream, 4000, 0.9)
    other.resume(json.loads(json.dumps(scorer.saved())))
    assert other.saved() == scorer.saved() and other.tables() == scorer.tables()


@pytest.mark.skipif(not JIT_OFF, reason="a run of the whole machine: python build")
def test_damon_watches_a_task_with_one_map(tmp_path):
    """Tasks of bare streams have one map and so no holes that divide an address space in three: DAMON gets the map. Of its 64 pages 16 are hot."""
    (tmp_path / "x.toml").write_text(
        '[machine]\nmemory = "16M"\nbare = true\ncpus = 2\n[thp]\nuse = "never"\n[cost_model.params]\nhit_ns = 100_000\n[run]\nscore_ms = 100\n'
        '[monitor]\nuse = "damon"\n[workload]\nkind = "synthetic"\ngenerator = "phases"\nparams = {phases = ['
        '{generator = "scan", pages = 64, events = 64, write_fraction = 1.0}, {generator = "loop", pages = 16, events = 8000}]}\n'
    )
    cell = run(tmp_path / "x.toml", results=tmp_path / "results", quiet=True, jobs=1).cells[0].result
    rows = cell.tables["monitor"]
    assert (rows[0]["start"], rows[-1]["end"]) == (STREAM_BASE, STREAM_BASE + 64 * 4096)
    assert cell.tables["monitor_score"][-1]["recall"] == 1
    assert cell.tables["monitor_score"][-1]["rank_correlation"] > 0.5


def test_a_script_cannot_be_scored(tmp_path):
    (tmp_path / "a.ops").write_text("spawn A\n")
    (tmp_path / "x.toml").write_text('[workload]\nkind = "ops"\nscript = "a.ops"\n[run]\nscore_ms = 5\n')
    with pytest.raises(InputError, match="run.score_ms: a workload of kind 'ops' has no stream of accesses"):
        load_experiment(tmp_path / "x.toml")
