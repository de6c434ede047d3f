"""`mmlab explain`: which decisions it shows, and what it says of runs that explain nothing."""

import json

import pytest
from typer.testing import CliRunner

from mmlab import cli
from mmlab.errors import InputError
from mmlab.results.explained import chosen_decisions, explained_table

FILE = """
workload = {kind = "requests", generator = "scan", params = {pages = 50, events = 50}, cache_objects = 10}
reclaimer = {use = "fifo"}
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "x.toml").write_text(FILE)
    answer = CliRunner().invoke(cli.app, ["run", str(tmp_path / "x.toml"), "--set", "run.explain=8", "--results", str(tmp_path), "-j", "1"])
    assert answer.exit_code == 0, answer.output
    return tmp_path / "x"


def test_a_run_says_why(folder):
    answer = CliRunner().invoke(cli.app, ["explain", str(folder), "-n", "3"])
    narrow = CliRunner(env={"COLUMNS": "40"}).invoke(cli.app, ["explain", str(folder), "-n", "3"])
    assert any(line.split()[:3] == ["at", "fate", "kind"] and "position" in line for line in narrow.output.splitlines())  # the head stays
    assert answer.exit_code == 0
    lines = answer.output.splitlines()
    # 40 evictions of objects 0 to 39 in order: every 4th is noted; three of these ten, spread
    assert [line.split()[4] for line in lines if " evicted " in line] == ["0", "16", "36"]
    assert any(line.startswith("position: pages nearer") for line in lines)
    assert "Why pages left, and stayed" in (folder / "report.html").read_text()
    assert CliRunner().invoke(cli.app, ["explain", str(folder), "--page", "16"]).output.count("evicted ") == 1


def test_what_is_not_there(folder, finished):
    answer = CliRunner().invoke(cli.app, ["explain", str(folder), "--fate", "accessed"])
    assert answer.exit_code == 1 and "no decision of the sample is like that" in str(answer.exception)
    with pytest.raises(InputError, match="--fate: must be one of evicted, kept, activated, accessed, got 'evicte'; did you mean 'evicted'?"):
        CliRunner().invoke(cli.app, ["explain", str(folder), "--fate", "evicte"], catch_exceptions=False)
    with pytest.raises(InputError, match="run.explain=100"):
        chosen_decisions(finished("lru", 1, 5))


def test_columns_are_the_common_ones_then_the_policys(folder):
    from mmlab.results.result import Result

    cell = Result(folder).cells[0]
    titles, body = explained_table(cell, chosen_decisions(cell, most=2))
    assert titles == ["at", "fate", "kind", "page", "pfn", "accessed", "position"]
    assert body[0][:4] == ["0.010 ms", "evicted", "object", "0"]
    assert json.loads(next((folder / "cells").glob("*/cell.json")).read_text())["meta"]["explains"][0][0] == "position"
