"""The benchmarks' own logic: the C references take the same steps as mmlab, and every factor of tox selects something."""

from __future__ import annotations

import configparser
import re
from pathlib import Path

import numpy as np
import pytest

from mmlab.bench import benchmark_folder, list_benchmarks
from mmlab.experiment.load import load_experiment
from mmlab.pluginmanager import load_plugins

ROOT = Path(__file__).parents[2]
REPLAYED = {"fifo", "clock", "lru", "opt"}  # their benchmark needs libcachesim
#: what mmlab counts and decides beside the steps that the references take
NOT_IN_C = {"nr_calls", "reclaim_iter", "reclaimer.nr", "reclaimer.targets", "reclaimer.stats", "reclaimer.inactive"}


@pytest.fixture
def benchmarks(monkeypatch):
    """The modules of the benchmarks can be imported."""
    monkeypatch.syspath_prepend(str(benchmark_folder()))


@pytest.mark.parametrize(
    ("path", "reference", "array"),
    [
        ("FaultPath", "fault", "pt"), ("ReclaimPath", "reclaim", "pt"), ("BlockPairs", "buddy", None), ("RandomBlocks", "buddy", "held"),
        ("PagePairs", "buddy", "zone"),
    ],
)  # fmt: skip
def test_c_reference_ends_in_the_same_state(path, reference, array, benchmarks, tmp_path):
    import paths
    from reference import compile_c, have_gcc

    if not have_gcc():
        pytest.skip("gcc is missing")
    run = getattr(paths, path)(4096)
    before = run.snapshot.values()
    run.ours()
    ours = run.snapshot.values()
    assert array is None or not np.array_equal(ours[array], before[array])
    run.snapshot.restore()
    run.theirs(compile_c(reference, tmp_path))
    theirs = run.snapshot.values()
    ours["reclaimer.vec"][1:] = theirs["reclaimer.vec"][1:]  # scan costs and the like; word 0 is the clock of evictions
    assert [name for name in ours if name not in NOT_IN_C and not np.array_equal(ours[name], theirs[name])] == []


def test_every_factor_of_tox_selects_a_benchmark():
    tox = configparser.ConfigParser()
    tox.read(ROOT / "tox.ini")
    section = next(name for name in tox.sections() if name.startswith("testenv:bench-{"))
    policies = re.findall(r"\w+", section.split("{")[1])
    assert "buddy" in policies
    names = list_benchmarks()
    without = {policy for policy in policies if not any(policy in name for name in names)}
    assert without == (set() if any("replay" in name for name in names) else REPLAYED)
    for policy in policies:
        assert f"{policy}: {{[bench]run}} -k {policy} " in tox[section]["commands"]


@pytest.mark.parametrize(("slot", "experiment"), [("monitor", "monitor_accuracy"), ("tiering", "tiering")])
def test_tox_has_every_policy_of_an_experiment(slot, experiment):
    """An environment a policy of the experiment's matrix, no more and no fewer, that runs this one."""
    tox = configparser.ConfigParser(interpolation=None)
    tox.read(ROOT / "tox.ini")
    section = next(name for name in tox.sections() if name.startswith(f"testenv:{slot}-{{"))
    policies = re.findall(r"\w+", section.split("{")[1])
    cells = load_experiment(ROOT / "experiments" / f"{experiment}.toml").cells
    assert set(policies) == {cell.config["policies"][slot]["use"] for cell in cells}
    assert tox[section]["set_env"].split("\n")[2:] == [f"{policy}: POLICY = {policy}" for policy in policies]
    assert f"mmlab run experiments/{experiment}.toml --set {slot}.use={{env:POLICY}} " in tox[section]["commands"]


def test_the_matrix_of_the_docs_names_what_there_is():
    """The tox.ini in docs/tox_matrix.md can be read, and its policies exist, but for the one that stands for a plugin."""
    text = (ROOT / "docs" / "tox_matrix.md").read_text()
    tox = configparser.ConfigParser(interpolation=None)
    tox.read_string(text.partition("```ini\n")[2].partition("```")[0])
    factors = re.findall(r"\w+", tox["tox"]["env_list"].split("-{")[1])
    assert tox["testenv"]["set_env"].split("\n")[2:] == [f"{policy}: MONITOR = {policy}" for policy in factors]
    assert {*factors} - {"my_monitor"} <= {*load_plugins().names("monitor")}


def test_table(benchmarks):
    import importlib.util

    spec = importlib.util.spec_from_file_location("benchmarks_conftest", benchmark_folder() / "conftest.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    ours = {"mmlab": "9.0 ns", "reference": "6.0 ns, C", "ratio": 1.5, "goal": "ratio at most 1.5", "met": True}
    assert module.table_row("hit", ours) == ["hit", "9.0 ns", "6.0 ns, C", "1.50", "ratio at most 1.5", "yes"]
    replay = {"m_requests_per_s": 81.5, "ratio_to_libcachesim": 3.5, "goal": 4}
    assert module.table_row("replay", replay) == ["replay", "81.50 m_requests_per_s", "libcachesim", "3.50", "ratio at least 4", "no"]
