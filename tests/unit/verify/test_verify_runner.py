"""Running cases with a made-up simulator: errors stay with their case, also across processes."""

import importlib

import pytest

from mmlab.errors import InputError
from mmlab.verify import find_cases, verify

SIMULATOR = '''
import json, os
from mmlab.errors import MmlabError
from mmlab.verify import Unsupported

def simulate(case, out_dir):
    """Does what the case's name says; else one operation that answered 3."""
    if case.name == "later":
        raise Unsupported("line 1: sh is not supported yet")
    if case.name == "wrong":
        raise MmlabError("line 1: no memory")
    if case.name == "bug":
        return {}["oops"]
    if case.name == "crash":
        os._exit(9)
    row = {"line": 1, "op": case.script.strip(), "ret": 3, "minflt": 4}
    (out_dir / "ops.jsonl").write_text("{broken" if case.name == "broken" else json.dumps(row))
    (out_dir / "kept").write_text("not a number" if case.name == "bad-value" else "5")
'''
FIGURES = [("op[1].ret", 3), ("op[1].minflt", 5), ("op[1].majflt", 0)]


@pytest.fixture
def simulate(tmp_path, monkeypatch):
    """Importable by name, as processes need it."""
    (tmp_path / "made_up_simulator.py").write_text(SIMULATOR)
    monkeypatch.syspath_prepend(tmp_path)
    return importlib.import_module("made_up_simulator").simulate


def statuses(case):
    return [f.status for f in case.figures]


def test_held_failed_unsupported(write_case, simulate, tmp_path):
    write_case(figures=FIGURES)
    [case] = verify(find_cases([tmp_path / "cases"]), simulate).cases
    assert [(f.id, f.expected, f.got, f.status) for f in case.figures] == [
        ("op[1].ret", 3, 3, "held"), ("op[1].minflt", 5, 4, "failed"), ("op[1].majflt", 0, None, "unsupported")]
    assert case.figures[2].reason == "operation 1 has no majflt"
    assert not case.error and not case.whole()


@pytest.mark.parametrize(("name", "verdict", "reason"), [
    ("later", "unsupported", "sh is not supported yet"), ("wrong", "failed", "no memory"), ("bug", "failed", "KeyError: 'oops'"),
    ("broken", "failed", "ops.jsonl: line 1"),
])
def test_an_error_concerns_all_figures_of_its_case_and_no_other(write_case, simulate, tmp_path, name, verdict, reason):
    write_case(name="a", figures=FIGURES[:1])
    write_case(name=name, figures=FIGURES)
    write_case(area="reclaim", name="z", figures=FIGURES[:1])
    results = {case.name: case for case in verify(find_cases([tmp_path / "cases"]), simulate).cases}
    assert statuses(results[name]) == [verdict] * 3
    assert reason in results[name].error and results[name].figures[0].got is None
    assert results["a"].whole() and results["z"].whole()


def test_a_value_that_cannot_be_read_failed(write_case, simulate, tmp_path):
    write_case(name="bad-value", figures=[("sum(cat[kept];op[1].ret)", 8), ("op[1].ret", 3)])
    write_case(name="good", figures=[("sum(cat[kept];op[1].ret)", 8)])
    bad, good = verify(find_cases([tmp_path / "cases"]), simulate).cases
    assert statuses(bad) == ["failed", "held"] and "cannot be read" in bad.figures[0].reason
    assert statuses(good) == ["held"]


def test_processes_give_the_same_and_survive_a_crash(write_case, simulate, tmp_path):
    for name in ("a", "bug", "later", "z"):
        write_case(name=name, figures=FIGURES)
    in_turn = verify(find_cases([tmp_path / "cases"]), simulate)
    write_case(name="crash", figures=FIGURES)
    cases = find_cases([tmp_path / "cases"])
    seen = []
    report = verify(cases, simulate, jobs=2, progress=lambda case: seen.append(case.name))
    assert seen == [case.name for case in report.cases] == ["a", "bug", "crash", "later", "z"]
    crash = report.cases[2]
    assert statuses(crash) == ["failed"] * 3 and crash.error == "the simulator's process died"
    assert [case for case in report.cases if case != crash] == list(in_turn.cases)


def test_kept_result_folders(write_case, simulate, tmp_path):
    write_case(name="a", figures=FIGURES)
    write_case(name="bug", figures=FIGURES)
    cases = find_cases([tmp_path / "cases"])
    verify(cases, simulate, keep=tmp_path / "keep")
    assert (tmp_path / "keep" / "faults" / "a" / "ops.jsonl").exists()
    assert "KeyError" in (tmp_path / "keep" / "faults" / "bug" / "error.txt").read_text()
    with pytest.raises(InputError, match="must be empty"):
        verify(cases, simulate, keep=tmp_path / "keep")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="must be writable"):
        verify(cases, simulate, keep=tmp_path / "file")
