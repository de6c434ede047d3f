"""Counts, the printed report, the JSON file, the Markdown table, and the list of cases that must hold."""

import io
import json
import re

import pytest
from rich.console import Console

from mmlab.errors import InputError
from mmlab.verify import CaseResult, FigureResult, Report, find_cases, markdown, print_case, print_summary, write_json
from mmlab.verify.held import HELD_FILE, broken, extend, must_hold


def figures(*rows):
    return tuple(FigureResult(f"op[{i}].ret", expected, got, 0.0, status) for i, (expected, got, status) in enumerate(rows))


WHOLE = CaseResult("faults", "whole", figures((7, 7, "held"), (0, 0, "held"), (9, 9, "input")))
ZEROS_ONLY = CaseResult("faults", "zeros", figures((0, 0, "held"), ([], [], "held"), ([0, 0], [0, 0], "held")))
PARTLY = CaseResult("faults", "partly", figures((5, 6, "failed"), (0, None, "unsupported"), (False, False, "held")))
LATER = CaseResult("monitor", "later", figures((5, None, "unsupported"), ("", None, "unsupported")), error="line 3: sh is not supported yet [1]")
REPORT = Report((WHOLE, ZEROS_ONLY, PARTLY, LATER))


def printed(function, *args) -> str:
    out = io.StringIO()
    function(Console(file=out, width=160, color_system=None), *args)
    return out.getvalue()


def test_counts_and_whole():
    assert WHOLE.whole() and WHOLE.whole(informative=True)
    assert ZEROS_ONLY.whole() and not ZEROS_ONLY.whole(informative=True)
    assert not PARTLY.whole() and not LATER.whole()
    assert PARTLY.counts(informative=True) == {"failed": 1, "held": 1}  # False says something, 0 doesn't
    echoes = CaseResult("a", "b", figures((9, 9, "input")))
    assert not echoes.whole()


def test_json_is_exactly_the_documented_form(tmp_path):
    write_json(REPORT, tmp_path / "out.json")
    doc = json.loads((tmp_path / "out.json").read_text())
    assert doc["summary"] == {"cases": 4, "figures": 11, "held": 6, "failed": 1, "unsupported": 3, "input": 1}
    assert doc["cases"][2] == {"area": "faults", "case": "partly", "figures": [
        {"id": "op[0].ret", "expected": 5, "got": 6, "tolerance": 0.0, "status": "failed"},
        {"id": "op[1].ret", "expected": 0, "got": None, "tolerance": 0.0, "status": "unsupported"},
        {"id": "op[2].ret", "expected": False, "got": False, "tolerance": 0.0, "status": "held"}]}
    assert set(doc) == {"cases", "summary"}
    assert [p.name for p in tmp_path.iterdir()] == ["out.json"]


def test_json_to_a_place_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match="must be writable"):
        write_json(REPORT, tmp_path / "none" / "out.json")


def test_a_line_per_case():
    assert "whole faults/whole: 2 held, 1 input of 3" in printed(print_case, WHOLE)
    line = printed(print_case, LATER)
    assert "monitor/later: 2 unsupported of 2  line 3: sh is not supported yet [1]" in line and "whole" not in line


def test_verbose_shows_every_figure():
    lines = printed(print_case, PARTLY, True).splitlines()
    assert re.search(r"op\[0\]\.ret +5 +6 +0 +failed", "\n".join(lines))
    assert re.search(r"op\[1\]\.ret +0 +- +0 +unsupported", "\n".join(lines))
    assert len(lines) == 5


def test_verbose_shortens_long_values_and_tells_slack_and_reason():
    case = CaseResult("a", "b", (FigureResult("x[1]", list(range(100)), None, 0.05, "unsupported", abs=8, reason="no file [y]"),))
    text = printed(print_case, case, True)
    assert "0.05, abs 8" in text and "unsupported (no file [y])" in text and "..." in text and "99" not in text


def row(text: str, title: str, kind: str) -> list[int]:
    line = next(line for line in text[text.index(title):].splitlines() if kind in line)
    return [int(x) for x in re.findall(r"\d+", line.partition(kind)[2])]


def test_a_table_per_area_over_all_and_informative_figures():
    text = printed(print_summary, REPORT)
    # figures, held, failed, unsupported, input, cases, whole
    assert row(text, "faults", "all figures") == [9, 6, 1, 1, 1, 3, 2]
    assert row(text, "faults", "0 or empty") == [4, 2, 1, 0, 1, 2, 1]
    assert row(text, "monitor", "all figures") == [2, 0, 0, 2, 0, 1, 0]
    assert row(text, "all areas", "all figures") == [11, 6, 1, 3, 1, 4, 2]


def test_markdown():
    lines = markdown(REPORT).splitlines()
    assert lines[2] == "| faults | 9 / 4 | 6 / 2 | 1 / 1 | 1 / 0 | 1 / 1 | 3 / 2 | 2 / 1 |"
    assert lines[4].startswith("| all | 11 / 5 |")
    assert len(lines[0].split("|")) == len(lines[1].split("|")) == len(lines[2].split("|"))


def test_listed_cases_must_hold_whole(tmp_path):
    listed = tmp_path / "held.txt"
    listed.write_text("# head\nfaults/whole\n\nfaults/partly  # why\nmonitor/later\nreclaim/gone\n")
    assert must_hold(listed) == ["faults/whole", "faults/partly", "monitor/later", "reclaim/gone"]
    said = broken(REPORT, listed)
    assert said == ["faults/partly: 2 of 3 figures do not hold: op[0].ret expected 5 got 6 (failed), op[1].ret expected 0 got None (unsupported)",
                    "monitor/later: line 3: sh is not supported yet [1]", "reclaim/gone: was not run"]


def test_the_list_only_grows(tmp_path):
    listed = tmp_path / "held.txt"
    listed.write_text("# head\nmonitor/later\nfaults/whole\n")
    assert extend(REPORT, listed) == ["faults/zeros"]
    assert listed.read_text() == "# head\nmonitor/later\nfaults/whole\nfaults/zeros\n"
    assert extend(REPORT, listed) == []


def test_listed_cases_exist_and_are_listed_once(ground_truth):
    known = {f"{case.area}/{case.name}" for case in find_cases([ground_truth])}
    listed = must_hold()
    assert set(listed) <= known
    assert len(listed) == len(set(listed))
    assert HELD_FILE.read_text().startswith("#")
