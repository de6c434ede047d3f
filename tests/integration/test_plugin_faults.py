"""A stranger's reclaimer that breaks its contract: the run stops with exit code 3, and the plugin and what it did are named."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PLUGIN = '''
from attrs import evolve
from mmlab.hookspecs import hookimpl
from mmlab.kernels.jit import kernel
from mmlab.kernels.lists import list_last, policy_list
from mmlab.kernels.services import reclaim_folio
from mmlab.model.const import RECLAIM_FREED
from mmlab_rivals.reclaimer.fifo import FIFO
from mmlab_rivals.reclaimer.one_list import folio_removed


@kernel
def twice(m, st, node, priority, nr_to_reclaim, scan_flags):
    freed = 0
    pfn = list_last(m, policy_list(m, node, 0))
    folio_removed(m, st, pfn)
    while freed < 1 or reclaim_folio(m, pfn, scan_flags) == RECLAIM_FREED:
        freed += reclaim_folio(m, pfn, scan_flags) == RECLAIM_FREED
    return freed


@kernel
def keeps(m, st, node, priority, nr_to_reclaim, scan_flags):
    return reclaim_folio(m, list_last(m, policy_list(m, node, 0)), scan_flags) == RECLAIM_FREED


@kernel
def strays(m, st, node, priority, nr_to_reclaim, scan_flags):
    return reclaim_folio(m, 7, scan_flags) == RECLAIM_FREED


@kernel
def beyond(m, st, node, priority, nr_to_reclaim, scan_flags):
    return reclaim_folio(m, 1 << 40, scan_flags) == RECLAIM_FREED


@kernel
def never(m, st, node, priority, nr_to_reclaim, scan_flags):
    return 0


@kernel
def lies(m, st, node, priority, nr_to_reclaim, scan_flags):
    return nr_to_reclaim


@kernel
def raises(m, st, node, priority, nr_to_reclaim, scan_flags):
    return m.sc[1 << 40]


@hookimpl
def mmlab_policies():
    bad = {"twice": twice, "keeps": keeps, "strays": strays, "beyond": beyond, "never": never, "lies": lies, "raises": raises}
    return [evolve(FIFO, name=name, shrink_node=kernel) for name, kernel in bad.items()]
'''
MACHINE = """
[machine]
memory = "8M"
bare = true
swap = "32M"
cpus = 1
[workload]
kind = "synthetic"
generator = "loop"
params = {pages = 2500, events = 3000, write_fraction = 1.0}
[thp]
use = "never"
"""
REQUESTS = """
[workload]
kind = "requests"
generator = "loop"
params = {pages = 50, events = 100}
cache_objects = 40
"""


def run(folder, toml, name):
    """`mmlab run` with a plugin that is installed beside it."""
    (folder / "mmlab_bad.py").write_text(PLUGIN)
    about = folder / "mmlab_bad-0.1.dist-info"
    about.mkdir(exist_ok=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: mmlab-bad\nVersion: 0.1\n")
    (about / "entry_points.txt").write_text("[mmlab]\nbad = mmlab_bad\n")
    (folder / "x.toml").write_text(f'{toml}[reclaimer]\nuse = "{name}"\n')
    path = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH", "")]))
    command = [sys.executable, "-m", "mmlab", "run", "x.toml", "--jobs", "1", "--results", "r"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=100, env={**os.environ, "NUMBA_DISABLE_JIT": "1", "PYTHONPATH": path})


@pytest.mark.parametrize(
    ("name", "on_requests", "on_machine"),
    [
        ("twice", "reclaim_folio() for page 0, which holds nothing that can be reclaimed: freed already, or never given", None),
        ("keeps", "reclaim_folio() for page 0, which is still on its list: take it off and clear PG_LRU first", "which is still on its list"),
        ("strays", None, "reclaim_folio() for page 7, which holds nothing that can be reclaimed"),
        ("beyond", "reclaim_folio() for page 1099511627776, which does not exist (pages 0 to 40)", "page 1099511627776, which does not exist"),
        ("never", "freed nothing in 16 rounds of reclaim of a request replay, where every page can go", "named no victim until memory ran out"),
        ("lies", "freed nothing in 16 rounds", "reclaimed pages, but no reclaim_folio() of that pass had freed one"),
        ("raises", "IndexError: index 1099511627776 is out of bounds", "(in mmlab_bad.py:49, raises())"),
    ],
)
def test_it_is_named(tmp_path, name, on_requests, on_machine):
    for toml, message in ((REQUESTS, on_requests), (MACHINE, on_machine)):
        if message is not None:
            done = run(tmp_path, toml, name)
            assert done.returncode == 3, done.stderr
            assert f"plugin bad (mmlab-bad 0.1): reclaimer '{name}': " in done.stderr and message in done.stderr and "Traceback" not in done.stderr
