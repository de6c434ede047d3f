"""The hit path (access to a present page) against the same loop in C over the same arrays."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest

from mmlab._engine import loop
from mmlab.model import rows as r
from mmlab.simulation import Simulation
from mmlab.workload.generators import make_generator

PAGES, EVENTS = 1 << 20, 1 << 22
pytestmark = pytest.mark.bench


@pytest.fixture(scope="module")
def sim():
    """A machine with a million pages of one task resident."""
    sim = Simulation.from_table({"memory": "6G", "bare": True}, policies={"thp": {"use": "never"}})
    sim.spawn("A")
    addr = sim.mmap("A", PAGES << 12, flags=["fixed"], addr=0x10000000000)
    assert addr == 0x10000000000
    assert sim.touch("A", addr, PAGES, 1).minflt == PAGES
    return sim


@pytest.mark.parametrize("name", ["uniform", "zipf"])
def test_hit_path(name, sim, c_library, compare):
    params = {"pages": PAGES, "events": EVENTS, "write_fraction": 0.3} | ({"alpha": 0.99} if name == "zipf" else {})
    stream = make_generator(name, params, "params").stream(1)
    words = stream.words[(stream.words & 15) < 3].copy()
    machine = sim.machine
    task = sim.task("A")
    words |= np.int64(task.index << 4)
    root = int(machine.mm[task.mm * r.MM_STRIDE + r.MM_ROOT]) * 512
    hit = c_library("hit").hit
    hit.argtypes = [ctypes.c_void_p, ctypes.c_uint64, ctypes.c_void_p, ctypes.c_uint64, ctypes.c_int64, ctypes.c_int64]
    hit.restype = ctypes.c_int64

    def ours():
        assert machine.run(loop.run_stream, words, 0, len(words)) == len(words)

    def theirs():
        assert hit(machine.pt.ctypes.data, root, words.ctypes.data, len(words), 1, 1 << 62) == len(words)

    compare(ours, theirs, len(words), at_most=1.5)
