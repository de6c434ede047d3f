"""`mmlab mrc`: exact and sampled miss-ratio curves, as files and as a table, and what is said when something is wrong."""

from __future__ import annotations

import csv
import os
import subprocess
import sys

import numpy as np
import pytest

from mmlab._engine.mrc import LEAST, default_sizes, exact_curve, sample, sampled_curve
from mmlab.testing.oracles.replacement import ORACLES
from mmlab.workload.request_readers import numbered
from mmlab_rivals.reclaimer.fifo import FIFO
from mmlab_rivals.reclaimer.lru import LRU
from mmlab_rivals.reclaimer.opt import OPT


def zipf(requests=6000, objects=600):
    rng = np.random.Generator(np.random.PCG64(5))
    weights = 1 / np.arange(1, objects + 1)
    return numbered(rng.permutation(objects)[rng.choice(objects, requests, p=weights / weights.sum())], {"file": "zipf", "unit": "page accesses"})


@pytest.mark.parametrize("policy", [LRU, FIFO, OPT], ids=lambda policy: policy.name)
def test_exact_curves_are_the_oracles(policy):
    requests = zipf(1500, 200)
    for point in exact_curve(policy, None, requests, [3, 20, 500]):
        assert point.miss_ratio == sum(ORACLES[policy.name](requests.ids.tolist(), point.size)[0]) / 1500
        assert point.error == 0


def test_one_pass_gives_the_optimum_at_many_sizes():
    """As a replay does at each of them."""
    requests = zipf(800, 120)
    many, few = exact_curve(OPT, None, requests, list(range(1, 121))), exact_curve(OPT, None, requests, [1, 60, 119])
    assert {point.method for point in many} == {"one pass"} and {point.method for point in few} == {"replay"}
    assert [many[size - 1].miss_ratio for size in (1, 60, 119)] == [point.miss_ratio for point in few]


def test_a_sample_holds_all_requests_of_the_chosen_objects():
    requests = zipf()
    ids = sample(requests, 0.25, 7)
    counts = np.bincount(requests.ids, minlength=requests.objects)
    assert 0.2 * requests.objects < ids.max() + 1 < 0.3 * requests.objects
    chosen = [counts[i] for i in range(requests.objects) if counts[i]]
    assert sorted(np.bincount(ids).tolist())[-1] in chosen
    assert len(sample(requests, 1.0, 7)) == len(requests)


def test_sampled_curves_lie_within_their_error():
    """Twelve samples of a tenth: every point within four standard errors of the exact one, and the errors small."""
    requests = zipf(20_000, 2000)
    sizes = [100, 400, 1000]
    exact = exact_curve(LRU, None, requests, sizes)
    for truth, point in zip(exact, sampled_curve(LRU, None, requests, sizes, 0.1, 12), strict=True):
        assert 0 < point.error < 0.05
        assert abs(point.miss_ratio - truth.miss_ratio) < 4 * point.error


def test_sizes():
    assert default_sizes(100_000, 4) == [100, 1000, 10_000, 100_000]
    assert default_sizes(5, 3) == [1, 5]
    few = sampled_curve(LRU, None, zipf(), [10, 100, 300], 0.1, 1)
    assert [point.size for point in few] == [100, 300] and round(100 * 0.1) >= LEAST
    assert np.isnan(few[0].error)


def mrc(folder, *words):
    command = [sys.executable, "-m", "mmlab", "mrc", *(words if "--results" in words else (*words, "--results", str(folder / "r")))]
    env = {**os.environ, "NUMBA_DISABLE_JIT": "1", "COLUMNS": "160"}
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env=env)


def test_the_command(tmp_path):
    """A loop of 10 pages: LRU misses always below 10, then ten times in all."""
    (tmp_path / "loop.csv").write_text("page\n" + "\n".join(str(i % 10) for i in range(100)) + "\n")
    done = mrc(tmp_path, "loop.csv", "--column", "page=page", "-p", "lru", "-p", "opt", "-p", "gclock:max_count=1", "--sizes", "9,1,0.99")
    assert done.returncode == 0, done.stderr
    assert "loop.csv: 100 page accesses, 10 different" in done.stdout and "exact" in done.stdout
    assert ["9", "1.0000", "0.2000", "1.0000"] in [line.split() for line in done.stdout.splitlines()]  # a line a size, never folded
    rows = list(csv.DictReader(open(tmp_path / "r/mrc_loop/mrc.csv")))
    assert [(row["policy"], row["objects"], row["miss_ratio"], row["method"]) for row in rows[:3]] == [
        ("lru", "1", "1.0", "one pass"), ("lru", "9", "1.0", "one pass"), ("lru", "10", "0.1", "one pass"),
    ]  # fmt: skip
    assert [(row["policy"], row["miss_ratio"], row["method"]) for row in rows[4:6]] == [("opt", "0.2", "replay"), ("opt", "0.1", "replay")]
    assert rows[-1]["method"] == "replay" and rows[-1]["policy"] == "gclock:max_count=1" and rows[-1]["miss_ratio"] == "0.1"
    assert "plotly" in (tmp_path / "r/mrc_loop/mrc.html").read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["no.csv"], "no.csv: no such file, nor a recorded program (gcc, json, sqlite)"),
        (["gc"], "gc: no such file, nor a recorded program (gcc, json, sqlite); did you mean 'gcc'?"),
        (["t.csv", "--column", "page"], "--column page: must read KEY=VALUE, for example --column object=key"),
        (["t.csv", "--column", "page=page", "-p", "gclock:max_count"], "-p gclock: max_count: must read KEY=VALUE"),
        (["t.csv", "--column", "page=page", "--results", "t.csv"], "t.csv/mrc_t: the results folder cannot be written: Not a directory"),
        (["t.csv", "--column", "page=page", "--sample", "0"], "--sample: must be above 0 and at most 1, got 0.0"),
        (["t.csv", "--column", "page=page", "--sample", "0.5"], "sample: at a rate of 0.5 every size would be sampled by less than 8 objects"),
        (["t.csv", "--column", "page=page", "--sizes", "1,x"], "--sizes: must be whole numbers from 1 or shares below 1"),
        (["t.csv", "--column", "page=page", "-p", "siev"], "did you mean 'sieve'?"),
        (["t.csv", "--column", "page=page", "-p", "gclock:max_cuont=1"], "reclaimer.params.max_cuont: unknown key"),
        (["t.csv"], "columns: must name one of object, page, address and offset"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, words, message):
    (tmp_path / "t.csv").write_text("page\n1\n2\n")
    done = mrc(tmp_path, *words)
    assert done.returncode == 2
    assert message in done.stderr and "Traceback" not in done.stderr
