"""Tidy tables, the summary, figures and the page."""

from __future__ import annotations

import json
import re

import numpy as np
import pyarrow.parquet
import pytest

from mmlab.errors import InputError
from mmlab.experiment.cells import Cell
from mmlab.results.cell_files import read_cell, write_cell
from mmlab.results.cell_result import CellResult
from mmlab.results.figures import free_blocks, lines, page_plots
from mmlab.results.provenance import git_state, provenance
from mmlab.results.report import describe, report_html
from mmlab.results.result import Result
from mmlab.results.summary import arm_axes, label, rows, text_number, varying
from mmlab.results.tables import cells_table, series_table, write_table


def test_cell_survives_its_folder(tmp_path, finished):
    before = finished("fifo", 3, 40)
    write_cell(tmp_path, Cell("x", before.key, before.config, tmp_path), before.result)
    after = read_cell(tmp_path, before.axes)
    assert (after.key, after.seed, after.result.counters, after.result.timing) == (before.key, 3, before.result.counters, {"wall_s": 0.5})
    assert {name: column.tolist() for name, column in after.result.series.items()}["pgmajfault"] == [0, 40]
    assert after.result.series["pgmajfault"].dtype == np.int64


def test_series_of_one_length():
    with pytest.raises(ValueError, match="series columns must have one length, got {'time_ns': 2, 'pgfault': 1}"):
        CellResult({}, {"time_ns": np.zeros(2), "pgfault": np.zeros(1)})
    with pytest.raises(ValueError, match="series needs a column 'time_ns'"):
        CellResult({}, {"pgfault": np.zeros(1)})


def test_cells_table_has_a_row_per_cell_and_counter(finished):
    table = cells_table([finished("fifo", 1, 40), finished("opt", 1, 30, "64M")])
    assert table.column_names == ["cell", "cost_model.use", "reclaimer.use", "machine.memory", "seed", "counter", "value"]
    assert table.num_rows == 8
    row = next(r for r in table.to_pylist() if r["reclaimer.use"] == "opt" and r["counter"] == "pgmajfault")
    assert (row["machine.memory"], row["seed"], row["value"]) == ("64M", 1, 30.0)


def test_series_table_splits_the_label(finished):
    table = series_table([finished("fifo", 1, 40)])
    assert table.num_rows == 8
    assert {(r["series"], r["label"]) for r in table.to_pylist()} == {
        ("pgmajfault", ""),
        ("nr_free", "0,Normal"),
        ("free_blocks", "0"),
        ("free_blocks", "10"),
    }
    (last,) = [r for r in table.to_pylist() if r["series"] == "pgmajfault" and r["time_ns"] == 10**7]
    assert last["value"] == 40.0


def test_a_column_of_mixed_values_is_text(finished):
    cells = [finished("fifo", 1, 40), finished("fifo", 2, 40)]
    cells[0].axes["machine.nodes"], cells[1].axes["machine.nodes"] = [1, 2], None
    assert cells_table(cells)["machine.nodes"].to_pylist()[::4] == ["[1, 2]", None]


def test_tables_have_the_same_bytes_each_time(tmp_path, finished):
    for name in ("a", "b"):
        write_table(tmp_path / name, series_table([finished("fifo", 1, 40)]))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert pyarrow.parquet.read_table(tmp_path / "a").num_rows == 8
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b"]


def test_rows_are_means_over_seeds(finished):
    cells = [finished("fifo", seed, 40 + seed) for seed in (1, 3)] + [finished("opt", 1, 30)]
    fifo, opt = rows(cells)
    assert (fifo.label(varying(cells)), fifo.values["major faults"], fifo.events_per_s) == ("fifo", 42.0, 100.0)
    assert opt.values["refaults"] is None  # the runs have no such counter


def test_policies_are_compared_and_settings_pair(finished):
    cells = [finished(name, 1, 1, memory) for name in ("fifo", "opt") for memory in ("64M", "1G")]
    assert varying(cells) == ["reclaimer.use", "machine.memory"]
    assert arm_axes(cells) == ["reclaimer.use"]
    assert arm_axes(cells[:2]) == ["machine.memory"]
    assert label({"reclaimer.use": "fifo", "machine.memory": "64M", "reclaimer.params.x": None}) == "fifo, memory=64M"


def test_without_policies_settings_are_compared_and_workloads_pair(finished):
    cells = []
    for source in ("zipf", "drift"):
        for age in (5, 40):
            cells.append(finished("fifo", 1, 1))
            cells[-1].axes.update({"workload.source": source, "sysfs.kernel/mm/damon/admin/schemes/0/access_pattern/age/min": age})
    assert arm_axes(cells) == ["sysfs.kernel/mm/damon/admin/schemes/0/access_pattern/age/min"]
    assert arm_axes(cells[::2]) == ["workload.source"]
    assert rows(cells)[0].label(varying(cells)) == "zipf, age/min=5"


@pytest.mark.parametrize(
    ("value", "is_time", "text"),
    [(None, False, "-"), (1234567, False, "1,234,567"), (1.5, False, "1.50"), (12_345_678, True, "12.35 ms"), (999, True, "999 ns")],
)
def test_text_number(value, is_time, text):
    assert text_number(value, is_time) == text


def test_lines_are_one_per_cell_and_thinned(finished):
    cells = [finished("fifo", 1, 40), finished("opt", 1, 30)]
    length = 100_000
    cells[0].result.series.update(time_ns=np.arange(length) * 10**6, pgmajfault=np.arange(length))
    plot = lines(cells, "pgmajfault")
    assert [trace["name"] for trace in plot["data"]] == ["fifo", "opt"]
    assert len(plot["data"][0]["x"]) == 400
    assert (plot["data"][0]["y"][0], plot["data"][0]["y"][-1]) == (0, length - 1)
    assert plot["layout"]["xaxis"]["title"]["text"] == "simulated time (s)"


def test_free_blocks_are_in_order_of_order(finished):
    (heat,) = free_blocks(finished("fifo", 1, 40), "fifo")["data"]
    assert heat["y"] == [0, 10]
    assert heat["customdata"] == [[4, 1], [9, 0]]
    assert heat["z"][1] == [1, 0]


def test_page_plots(finished):
    titles = [plot["layout"]["title"]["text"] for plot in page_plots([finished("fifo", 1, 40), finished("opt", 1, 30)])]
    assert titles == ["Major faults", "Free memory, zone Normal", "Free blocks by order: fifo", "Free blocks by order: opt"]


@pytest.fixture
def result(tmp_path, finished):
    cells = [finished("fifo", 1, 40), finished("opt", 1, 30)]
    about = {
        "experiment": "x<y",
        "question": "Is a < b & c?",
        "description": "</script><!--PLOTLY-->",
        "resolved": {"machine": {"memory": "64M", "cpus": 2}, "workload": {"kind": "ops", "script": "a.ops"}},
        "axes": ["reclaimer.use", "machine.memory"],
        "report": {"baseline": "", "counters": ["events"]},
        "seeds": [1],
        "policies": [dict.fromkeys(("slot", "name", "version", "distribution", "level", "summary", "source_digest"), "fifo")],
        "cells": [{"key": c.key, "axes": c.axes, "seed": 1} for c in cells],
        "missing": [{"key": "k", "axes": {}, "seed": 2}],
        "timing": [],
        "provenance": provenance(tmp_path),
    }  # fmt: skip
    (tmp_path / "result.json").write_text(json.dumps(about))
    for cell in cells:
        (tmp_path / "cells" / cell.key).mkdir(parents=True)
        write_cell(tmp_path / "cells" / cell.key, Cell("x", cell.key, cell.config, tmp_path), cell.result)
    write_table(tmp_path / "cells.parquet", cells_table(cells))
    write_table(tmp_path / "series.parquet", series_table(cells))
    return Result(tmp_path)


def test_page_is_whole_and_fetches_nothing(result):
    page = report_html(result)
    head, tail = page[: page.index("plotly.js v")], page[page.rindex("<script>") :]
    assert not re.search("<!--[A-Z_]+-->", head + tail)
    assert not re.search(r"<(script|link|img)[^>]*(src|href)=", head)
    assert "Is a &lt; b &amp; c?" in head
    assert "&lt;/script&gt;&lt;!--PLOTLY--&gt;" in head
    assert "1 of 3 cells are missing" in head
    assert "one run: no test" in head
    assert page.count("plotly.js v") == 1
    blocks = json.loads(re.search(r'id="blocks">(.*?)</script>', page, re.S)[1])
    assert [len(block["plots"]) for block in blocks] == [4]
    assert json.loads(re.search(r'id="glance">(.*?)</script>', page, re.S)[1]) == []  # one condition: nothing to look at
    assert "choices;" not in page


def test_smallest_is_marked(result):
    page = report_html(result)
    assert len(re.findall(r"class=best", page)) == 3  # faults, major faults, simulated time; events are equal


def test_result_in_python(result):
    assert result.table().num_rows == 8
    assert result.series("pgmajfault").num_rows == 4
    assert len(result.plot("pgmajfault").data) == 2
    assert str(result).splitlines()[1].split()[:3] == ["fifo", "80", "40"]
    assert "<th>events/s</th>" in result._repr_html_()
    with pytest.raises(InputError, match="no series 'pgfalt'"):
        result.plot("pgfalt")


def test_no_result(tmp_path):
    with pytest.raises(InputError, match="no result here"):
        Result(tmp_path / "x")
    (tmp_path / "result.json").write_text("{")
    with pytest.raises(InputError, match="damaged"):
        Result(tmp_path)


def test_describe():
    assert describe({"memory": "1G", "cpus": 1}, ("preset", "memory", "cpus"), "default") == "1G, 1 CPU"
    assert describe({}, ("preset",), "default") == "default"


def test_git_state_outside_a_repository(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_state(tmp_path) is None
