"""A stranger's monitor or tiering policy that breaks its contract: exit code 3, and the plugin and what it did are named."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PLUGIN = '''
import numpy as np
from mmlab.hookspecs import hookimpl
from mmlab.kernels.jit import kernel
from mmlab.kernels.services import migrate_folio_to
from mmlab.model.rows import SC_MONITOR_CHECKS, SC_NOW_NS
from mmlab.policies import Monitor, Tiering


def new_state(params, machine):
    return {"counts": np.zeros(2, "int64")}


@kernel
def sample(m, st, now_ns):
    m.sc[SC_MONITOR_CHECKS] += 1
    return 10000000


@kernel
def no_wait(m, st, now_ns):
    return -5


@kernel
def back(m, st, now_ns):
    m.sc[SC_NOW_NS] -= 1000000
    return 10000000


@kernel
def refund(m, st, now_ns):
    m.sc[SC_MONITOR_CHECKS] -= 1
    return 10000000


@kernel
def nothing(m, st, now_ns):
    st.counts[0] += 1


@kernel
def raises(m, st, now_ns):
    raise ValueError("never")


@kernel
def beyond(m, st, now_ns):
    st.counts[1 << 40] += 1
    return 10000000


@kernel
def lower(m, st, pfn, node, scan_flags):
    return 1 - node


@kernel
def nowhere(m, st, pfn, node, scan_flags):
    return 99


@kernel
def move(m, st, task, pfn, source, node):
    return 1


@kernel
def no_page(m, st, now_ns):
    return 1000 + migrate_folio_to(m, 1 << 40, 0)


def ones(machine, state, pages):
    return np.ones(len(pages)), None


ESTIMATES = {
    "short": lambda machine, state, pages: (np.ones(3), None),
    "alone": lambda machine, state, pages: np.ones(len(pages)),
    "cold": lambda machine, state, pages: (-np.ones(len(pages)), None),
    "nan": lambda machine, state, pages: (np.full(len(pages), np.nan), None),
    "young": lambda machine, state, pages: (np.ones(len(pages)), np.full(len(pages), -7)),
    "key": lambda machine, state, pages: {}["x"],
}
REPORTS = {"no_rows": lambda machine, state: None, "mixed": lambda machine, state: [{"a": 1}, {"b": 2}], "arrays": lambda machine, state: [{"a": np.zeros(2)}]}
REGION = {"start": 8192, "end": 4096, "nr_accesses": {"samples": 1}}


def backwards(machine, state):
    return [{"snapshots": [{"start_time": 0, "end_time": 5, "regions": [REGION]}]}]


def monitor(name, **fields):
    return Monitor(**{"name": name, "summary": "bad", "new_state": new_state, "sample": sample, "estimate": ones, **fields})


@hookimpl
def mmlab_policies():
    policies = [monitor(step.__name__, sample=step) for step in (no_wait, back, refund, nothing, raises, beyond)]
    policies += [monitor(name, estimate=estimate) for name, estimate in ESTIMATES.items()] + [monitor(name, report=report) for name, report in REPORTS.items()]
    policies += [monitor("backwards", records=backwards), monitor("words", trace=lambda machine, state: [1])]
    ops = {"hint_faults": True, "demotes": True, "demotion_node": lower, "should_migrate": move}
    bad = {"nowhere": {"demotion_node": nowhere}, "no_page": {"step": no_page}}
    return policies + [Tiering(**{"name": name, "summary": "bad", **ops, **fields}) for name, fields in bad.items()]
'''
MONITOR = """
[machine]
memory = "8M"
bare = true
cpus = 2
[workload]
kind = "synthetic"
generator = "loop"
params = {pages = 200, events = 3000}
[thp]
use = "never"
[cost_model.params]
hit_ns = 10_000
[run]
score_ms = 15
"""
TIERING = """
[machine]
nodes = [{memory = "8M", cpus = [0, 1]}, {memory = "8M", cpus = []}]
hmat = [[0, 0, 90, 50], [0, 1, 250, 10]]
bare = true
[sysfs]
"kernel/mm/numa/demotion_enabled" = "1"
[workload]
kind = "synthetic"
generator = "loop"
params = {pages = 2500, events = 6000, write_fraction = 1.0}
[thp]
use = "never"
"""


def run(folder, toml, slot, name, jit_off="1", *options):
    """`mmlab run` with a plugin that is installed beside it."""
    (folder / "mmlab_bad.py").write_text(PLUGIN)
    about = folder / "mmlab_bad-0.1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: mmlab-bad\nVersion: 0.1\n")
    (about / "entry_points.txt").write_text("[mmlab]\nbad = mmlab_bad\n")
    (folder / "x.toml").write_text(f'{toml}[{slot}]\nuse = "{name}"\n')
    path = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH", "")]))
    env = {**os.environ, "NUMBA_DISABLE_JIT": jit_off, "PYTHONPATH": path}
    command = [sys.executable, "-m", "mmlab", "run", "x.toml", "--jobs", "1", "--results", "r", *options]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, env=env)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no_wait", "sample() must return the ns until its next turn, 0 for never, and may only add to m.sc[SC_NOW_NS]"),
        ("back", "it answered less than 0, or turned the clock back"),
        ("refund", "its cost must not be negative, got -3 checks (SC_MONITOR_CHECKS) and 0 ns"),
        ("nothing", "op sample must return ns until the next sample, 0: never, got None"),
        ("beyond", "IndexError: index 1099511627776 is out of bounds"),
        ("short", "estimate() must return heat as an array of a number for each of the 200 pages, got an array of shape (3,) and float64"),
        ("alone", "estimate() must return a pair (heat, age_ns), got an array of shape (200,) and float64"),
        ("cold", "estimate() must return numbers of at least 0 as heat, got -1 for page 0 of 200"),
        ("nan", "estimate() must return numbers of at least 0 as heat, got nan for page 0"),
        ("young", "estimate() must return numbers of at least 0 as age_ns, got -7 for page 0"),
        ("key", "KeyError: 'x' (in mmlab_bad.py:"),
        ("no_rows", "report() must return a list of rows, got None"),
        ("mixed", "report() must return dicts that all have the same keys, got row 1: {'b': 2}"),
        ("arrays", "report() must return plain numbers and texts, got row 0, 'a': an array of shape (2,)"),
        ("backwards", "records(): record 0, snapshot 0: a region must end behind its start"),
        ("words", "trace() must return lines of text, got line 0: int 1"),
    ],
)
def test_a_bad_monitor_is_named(tmp_path, name, message):
    done = run(tmp_path, MONITOR, "monitor", name)
    assert done.returncode == 3, done.stderr
    assert f"plugin bad (mmlab-bad 0.1): monitor '{name}': " in done.stderr and message in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere", "demotion_node() must return another node of the machine, or -1"),
        ("no_page", "called migrate_folio_to() for a page or a node that does not exist"),
    ],
)
def test_a_bad_tiering_policy_is_named(tmp_path, name, message):
    done = run(tmp_path, TIERING, "tiering", name)
    assert done.returncode == 3, done.stderr
    assert f"plugin bad (mmlab-bad 0.1): tiering '{name}': {message}" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.jit
def test_machine_code_that_writes_nowhere_is_named(tmp_path):
    """The compiled build does not look at indices: the process ends, but says why."""
    done = run(tmp_path, MONITOR, "monitor", "beyond", "0")
    assert done.returncode == 3, done.stderr
    assert "plugin bad (mmlab-bad 0.1): monitor 'beyond': its compiled code read or wrote where it has no memory" in done.stderr


@pytest.mark.jit
def test_it_is_named_in_a_process_of_many(tmp_path):
    done = run(tmp_path, MONITOR, "monitor", "beyond", "0", "--jobs", "2", "--set", "seeds.count=2")
    assert done.returncode == 3, done.stderr
    assert "a plugin ended its process, as was said above" in done.stderr


@pytest.mark.jit
def test_a_kernel_with_a_raise_is_told_what_to_do_instead(tmp_path):
    done = run(tmp_path, MONITOR, "monitor", "raises", "0")
    assert done.returncode == 3, done.stderr
    assert "op sample does not compile: it or a function it calls has a raise or an assert; kernels have no exceptions, they return codes" in done.stderr
