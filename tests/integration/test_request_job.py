"""A cache trace through `mmlab run`, as a user would: the table, the report, and what is said when something is wrong."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from mmlab.workload.requests import ORACLE_GENERAL

TOML = """
name = "cache"
question = "Which policy misses least?"
[workload]
kind = "requests"
file = "loop.oracleGeneral"
cache_objects = 100
repeat = 2
[matrix]
"reclaimer.use" = ["fifo", "opt"]
"""
LOOP = np.tile(np.arange(101), 3)


def run(folder: Path, toml: str = TOML, ids: np.ndarray = LOOP, cut: int = 0) -> subprocess.CompletedProcess:
    """`mmlab run` in a process of its own, over a trace of these ids, cut short by so many bytes."""
    records = np.zeros(len(ids), ORACLE_GENERAL)
    records["id"], records["next"] = ids + 1000, -1
    (folder / "loop.oracleGeneral").write_bytes(records.tobytes()[: records.nbytes - cut])
    (folder / "x.toml").write_text(toml)
    command = [sys.executable, "-m", "mmlab", "run", "x.toml", "--jobs", "1", "--results", "r"]
    env = {**os.environ, "NUMBA_DISABLE_JIT": "1", "COLUMNS": "200"}
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env=env)


def test_a_loop_one_longer_than_the_cache(tmp_path):
    """101 objects, six times in turn, through a cache of 100: FIFO misses always, OPT after the first round once in 100 requests."""
    done = run(tmp_path)
    assert done.returncode == 0, done.stderr
    found = {(row["reclaimer.use"], row["counter"]): row["value"] for row in pq.read_table(tmp_path / "r/cache/cells.parquet").to_pylist()}
    assert (found["fifo", "requests"], found["fifo", "objects"], found["fifo", "misses"]) == (606, 101, 606)
    assert found["opt", "misses"] == 101 + 5
    assert found["fifo", "pgsteal_direct"] == 606 - 100
    shown = done.stdout + done.stderr
    assert "faults" not in shown and "simulated time" not in shown and "thp" not in shown
    report = (tmp_path / "r/cache/report.html").read_text()
    assert "<dt>events</dt><dd>object accesses</dd>" in report and "Tested are misses:" in report
    assert "<dt>time by</dt>" not in report and "major faults" not in report


def test_named_sources_shares_and_regret(tmp_path):
    """A CSV of the loop and the generator's: the same stream, so the same misses; the cache is 100/101 of the objects."""
    (tmp_path / "loop.csv").write_text("time,page\n" + "".join(f"{i},{i % 101}\n" for i in range(606)))
    toml = TOML.replace('file = "loop.oracleGeneral"\ncache_objects = 100\nrepeat = 2\n', "cache_share = 0.99\n").replace("[matrix]\n", """
[workload.sources]
file = {file = "loop.csv", columns = {page = "page"}}
made = {generator = "loop", params = {pages = 101, events = 606}}
[matrix]
workload.source = ["file", "made"]
""")
    done = run(tmp_path, toml)
    assert done.returncode == 0, done.stderr
    rows = pq.read_table(tmp_path / "r/cache/cells.parquet").to_pylist()
    found = {(row["workload.source"], row["reclaimer.use"], row["counter"]): row["value"] for row in rows}
    for source in ("file", "made"):
        assert (found[source, "fifo", "misses"], found[source, "opt", "misses"], found[source, "fifo", "objects"]) == (606, 106, 101)
    assert "regret %" in done.stdout and f"{100 * (606 - 106) / 106:.0f}" in done.stdout
    assert "page accesses" in (tmp_path / "r/cache/report.html").read_text()


@pytest.mark.parametrize(
    ("changed", "cut", "message"),
    [
        ({'file = "loop.oracleGeneral"': 'file = "loop.oracleGeneral"\ntrace = "gcc"'}, 0, "workload: needs one of file = PATH, trace = NAME"),
        ({"repeat = 2": "cache_share = 0.5"}, 0, "workload: needs one of cache_objects and cache_share, got both"),
        ({"repeat = 2": 'format = "oracel"'}, 0, "workload.format: must be one of oracleGeneral, csv"),
        ({"repeat = 2": 'source = "a"'}, 0, "workload.source: must name one of workload.sources (there is none), got 'a'"),
        ({"repeat = 2": 'source = "lopo"\nsources.loop = {repeat = 2}'}, 0, "workload.source: must name one of workload.sources (loop), got 'lopo'; did you mean 'loop'?"),
        ({"loop.oracleGeneral": "lop.oracleGeneral"}, 0, "x.toml: workload.file: no such file: lop.oracleGeneral (looked in "),
        ({"cache_objects = 100": "cache_objects = -1"}, 0, "x.toml: workload.cache_objects: must be 0 or more, got -1"),
        ({"[matrix]": '[thp]\nuse = "never"\n[matrix]'}, 0, "x.toml: thp: has no part in a request replay, only the reclaimer has"),
        ({"reclaimer.use": "thp.use", '"fifo", "opt"': '"never", "always"'}, 0, "thp: has no part in a request replay"),
        ({}, 1, "loop.oracleGeneral: ends within record 302 (7271 bytes)"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, changed, cut, message):
    toml = TOML
    for old, new in changed.items():
        toml = toml.replace(old, new)
    done = run(tmp_path, toml, cut=cut)
    assert done.returncode == 2
    assert message in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "r/cache/result.json").exists()
