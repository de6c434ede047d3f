"""The command line: what it prints, and its exit codes; a simulator that costs nothing takes the place of the real one."""

from __future__ import annotations

import json
import subprocess
import sys
import types

import numpy as np
import pytest
from attrs import field, frozen
from attrs.validators import ge, le

import mmlab
from mmlab import cli
from mmlab.errors import InputError, MmlabError, PluginError
from mmlab.policies import DEFAULTS
from mmlab.results.cell_result import CellResult

TEXT = """
question = "Which one?"
[machine]
memory = "64M"
[matrix]
reclaimer.use = ["two_list", "clock"]
[workload]
kind = "synthetic"
generator = "uniform"
params = {pages = 10, events = 20}
"""


@frozen
class Params:
    swappiness: int = field(default=60, validator=[ge(0), le(200)])


@frozen
class Policy:
    slot: str
    name: str
    params: type | None = None
    summary: str = "a policy"
    level: str = "L1"
    distribution: str = "mmlab-linux"
    version: str = "2.5"
    source: str = "policy.py"
    source_digest: str = "d0"


class Registry:
    def __init__(self):
        made = [Policy(slot, name, Params if slot == "reclaimer" else None) for slot, name in DEFAULTS.items()]
        self._policies = {(p.slot, p.name): p for p in [*made, Policy("reclaimer", "two_list", Params), Policy("reclaimer", "clock")]}

    def names(self, slot):
        return sorted(name for s, name in self._policies if s == slot)

    def get(self, slot, name):
        return self._policies[slot, name]

    def policies(self):
        return list(self._policies.values())


def run_cell(cell, progress, out_dir):
    major = len(cell.config["policies"]["reclaimer"]["use"]) * 100
    progress(20, 20, "")
    series = {"time_ns": np.array([0, 5]), "pgmajfault": np.array([0, major])}
    return CellResult({"pgfault": 2 * major, "pgmajfault": major, "events": 20}, series, timing={"wall_s": 0.1})


@pytest.fixture
def mm(monkeypatch, tmp_path, capsys):
    """mm("run", "x.toml", ...) -> (exit code, stdout, stderr), in a folder with x.toml, in this process."""
    simulation = types.ModuleType("mmlab.simulation")
    simulation.run_cell = run_cell
    monkeypatch.setitem(sys.modules, "mmlab.simulation", simulation)
    monkeypatch.setattr("mmlab.pluginmanager.load_plugins", Registry)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("MMLAB_DEBUG", raising=False)
    (tmp_path / "x.toml").write_text(TEXT)

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["mmlab", *arguments])
        with pytest.raises(SystemExit) as left:
            cli.main()
        said = capsys.readouterr()
        return left.value.code or 0, said.out, said.err

    call.simulation = simulation
    return call


def test_run_shows_the_plan_the_table_and_the_place(mm, tmp_path):
    code, out, err = mm("run", "x.toml", "--jobs", "1")
    assert (code, err) == (0, "")
    lines = [line.split() for line in out.splitlines()]
    assert ["machine", "64M"] in lines
    assert ["workload", "synthetic,", "uniform"] in lines
    assert ["reclaimer", "two_list", "(mmlab-linux", "2.5),", "clock", "(mmlab-linux", "2.5)"] in lines
    assert ["cells", "2:", "2", "combinations", "of", "reclaimer.use,", "1", "seed"] in lines
    assert next(line for line in lines if line[:1] == ["clock"])[:3] == ["clock", "1,000", "500"]
    assert out.rstrip().endswith("results: results/x  report: results/x/report.html")
    names = {p.name for p in (tmp_path / "results/x").iterdir()}
    assert names == {".lock", "cells", "cells.parquet", "series.parquet", "result.json", "report.html"}


@pytest.mark.parametrize(("columns", "first"), [("200", "two_list 1,600 800"), ("40", "faults 1,600 1,000"), ("10", "faults 1,600 1,000")])
def test_figures_are_never_cut(mm, monkeypatch, columns, first):
    monkeypatch.setenv("COLUMNS", columns)
    out = mm("run", "x.toml", "-j1")[1]
    assert first in [" ".join(line.split()[:3]) for line in out.splitlines()]


def test_result_json_has_the_provenance(mm, tmp_path):
    mm("run", "x.toml", "--set", "seeds.count=2", "-j1")
    about = json.loads((tmp_path / "results/x/result.json").read_text())
    assert about["seeds"] == [1, 2]
    assert len(about["cells"]) == len(about["timing"]) == 4
    assert {"slot": "reclaimer", "name": "clock", "version": "2.5", "distribution": "mmlab-linux", "source_digest": "d0", "level": "L1",
            "summary": "a policy"} in about["policies"]  # fmt: skip
    assert set(about["provenance"]) == {"host", "versions", "git", "finished"}
    assert about["resolved"]["matrix"] == {"reclaimer": {"use": ["two_list", "clock"]}}


def test_second_run_does_nothing_and_gives_the_same_bytes(mm, tmp_path):
    mm("run", "x.toml", "-j1")
    before = {name: (tmp_path / "results/x" / name).read_bytes() for name in ("cells.parquet", "series.parquet")}
    code, out, _ = mm("run", "x.toml", "-j1")
    assert code == 0
    assert "2 of 2 cells were finished before" in out
    mm("run", "x.toml", "-j1", "--results", "again")
    for name, content in before.items():
        assert (tmp_path / "results/x" / name).read_bytes() == content
        assert (tmp_path / "again/x" / name).read_bytes() == content


def test_run_from_python(mm):
    result = mmlab.run(
        "x.toml", {"reclaimer.use": "clock", "reclaimer.params.swappiness": 5} | {"reclaimer.params": {}}, jobs=1, quiet=True
    )
    assert [cell.result.counters["pgmajfault"] for cell in result.cells] == [500]


def test_report_again(mm, tmp_path):
    mm("run", "x.toml", "-j1")
    (tmp_path / "results/x/report.html").unlink()
    code, out, _ = mm("report", "results/x")
    assert code == 0
    assert "report: results/x/report.html" in out
    assert (tmp_path / "results/x/report.html").stat().st_size > 10**6
    assert mm("report", "results/y")[::2] == (
        2,
        "results/y: no result here (No such file or directory: result.json); `mmlab run` makes one\n",
    )


def test_bad_input_is_code_2_and_every_message(mm, tmp_path):
    code, out, err = mm("run", "x.toml", "--set", "reclaimer.params.swappiness=250", "--set", "run.sample_ms=0", "--set", "seed=3")
    assert (code, out) == (2, "")
    assert err.splitlines()[1:] == [
        "x.toml: run.sample_ms: must be between 0.001 and 1000000000.0, got 0.0",
        "x.toml: reclaimer.params.swappiness: must be between 0 and 200, got 250",
    ]
    assert err.splitlines()[0].startswith("x.toml: seed: unknown key")
    assert not (tmp_path / "results").exists()


def test_results_that_cannot_be_written(mm, tmp_path):
    (tmp_path / "results").write_text("")
    code, _, err = mm("run", "x.toml", "-j1")
    assert code == 2
    assert err.startswith("results/x: the results folder cannot be written")


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (InputError("w.npz: truncated"), 2, "w.npz: truncated\n"),
        (PluginError("plugin p (d 1): broke"), 3, "2 of 2 cells failed\nreclaimer.use=two_list seed=1 and 1 more: plugin p (d 1): broke\n"),
        (MmlabError("no memory"), 1, "2 of 2 cells failed\nreclaimer.use=two_list seed=1 and 1 more: no memory\n"),
    ],
)
def test_failed_cells(mm, error, code, message):
    def fail(*_):
        raise error

    mm.simulation.run_cell = fail
    assert mm("run", "x.toml", "-j1")[::2] == (code, message)


def test_ctrl_c_is_a_sentence(mm):
    def stop_at_clock(cell, progress, out_dir):
        if cell.axes["reclaimer.use"] == "clock":
            raise KeyboardInterrupt
        return run_cell(cell, progress, out_dir)

    mm.simulation.run_cell = stop_at_clock
    assert mm("run", "x.toml", "-j1")[::2] == (130, "stopped: 1 cells are kept, 1 remain; the same command goes on from here\n")


def test_plugins(mm):
    code, out, _ = mm("plugins", "--slot", "reclaimer")
    rows = [line.split() for line in out.splitlines() if "reclaimer" in line]
    assert code == 0
    assert [row[1] for row in rows] == ["mglru", "two_list", "clock"]
    assert rows[0][2] == "*"
    code, _, err = mm("plugins", "--slot", "reclaimr")
    assert code == 2
    assert err.endswith("did you mean 'reclaimer'?\n")


def test_hooks_name_every_op(mm):
    from mmlab.abi import SLOTS

    for slot, contract in SLOTS.items():
        out = mm("hooks", slot)[1]
        assert all(f"{op.name}({', '.join(('m', 'st', *op.args))})" in out for op in contract.ops)
    brief = mm("hooks")[1]
    assert "mmlab_policies()" in brief
    assert all(slot in brief for slot in DEFAULTS)
    assert mm("hooks", "cost_model")[0] == 0
    assert mm("hooks", "costmodel")[0] == 2


def test_presets_and_traces(mm):
    assert "qemu-1g" in mm("machine", "presets")[1]
    assert mm("traces")[0] == 0


def test_import_of_nothing(mm):
    assert mm("machine", "import", "nowhere")[::2] == (2, "nowhere: no such folder\n")


def test_usage_errors(mm):
    code, _, err = mm("rnu")
    assert code == 2
    assert "Did you mean 'run'?" in err
    assert mm("run")[0] == 2
    assert mm("run", "x.toml", "--jobs", "-1")[0] == 2


def test_bench_that_nothing_is_called(mm):
    code, _, err = mm("bench", "--list", "-k", "nosuch")
    assert (code, err) == (2, "-k 'nosuch': no benchmark has such a name; `mmlab bench --list` shows them\n")
    code, _, err = mm("bench", "--list", "-k", "buddy or")
    assert code == 2
    assert err.startswith("-k 'buddy or': Wrong expression passed to '-k'")


def test_bench_says_what_is_missing(mm, monkeypatch, tmp_path):
    assert mm("bench", "--json", "nowhere/x.json")[::2] == (2, "--json nowhere/x.json: the folder does not exist\n")
    monkeypatch.setattr("mmlab.bench.__file__", str(tmp_path / "mmlab" / "bench.py"))
    monkeypatch.setattr("sysconfig.get_path", lambda _name: str(tmp_path))
    code, _, err = mm("bench")
    assert code == 1
    assert err.startswith("the benchmarks were not installed with this mmlab")
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    assert mm("bench")[::2] == (1, "benchmarks need pytest and pytest-benchmark: pip install pytest pytest-benchmark\n")


def test_a_bug_is_a_sentence_too(mm, monkeypatch):
    def broken(*_):
        raise RuntimeError("oops")

    monkeypatch.setattr("mmlab.experiment.load.load_experiment", broken)
    code, _, err = mm("run", "x.toml")
    assert (code, err) == (1, "mmlab failed: RuntimeError: oops\nThis is a bug in mmlab; MMLAB_DEBUG=1 shows where.\n")


COMMANDS = [
    [],
    ["run"],
    ["report"],
    ["plugins"],
    ["hooks"],
    ["new-plugin"],
    ["verify"],
    ["record"],
    ["traces"],
    ["machine"],
    ["bench"],
    ["cache"],
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_of_every_command(mm, command):
    code, out, _ = mm(*command, "--help")
    assert code == 0
    assert "Usage: mmlab" in out


def test_help_and_import_load_nothing_heavy():
    text = (
        "import sys, mmlab, mmlab.cli\nsys.argv = ['mmlab', '--help']\ntry:\n    mmlab.cli.main()\nexcept SystemExit:\n    pass\n"
        "print(sorted({'numba', 'numpy', 'pyarrow', 'plotly', 'cattrs', 'pluggy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_python_m_and_version():
    done = subprocess.run([sys.executable, "-m", "mmlab", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"mmlab {mmlab.__version__}\n"


def test_public_names():
    assert dir(mmlab) == ["Result", "Simulation", "__version__", "load_experiment", "run"]
    assert mmlab.load_experiment.__module__ == "mmlab.experiment.load"
    with pytest.raises(AttributeError, match="has no attribute 'Simulatoin'"):
        _ = mmlab.Simulatoin


@pytest.mark.parametrize("columns", ["200", "50"])
def test_names_of_policies_are_never_cut(mm, monkeypatch, columns):
    """What one types into `use` is shown whole, however narrow the terminal is."""
    monkeypatch.setenv("COLUMNS", columns)
    code, out, _ = mm("plugins")
    assert code == 0
    assert set(DEFAULTS.values()) < {word for line in out.splitlines() for word in line.split()}
