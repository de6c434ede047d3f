"""The hit path (access to a present page) against the same loop in C over the same arrays, interleaved in one run; medians of 7 rounds."""

from __future__ import annotations

import ctypes
import shutil
import statistics
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from mmlab._engine import loop
from mmlab.model import rows as r
from mmlab.simulation import Simulation
from mmlab.workload.generators import make_generator

PAGES, EVENTS = 1 << 20, 1 << 22
pytestmark = [pytest.mark.bench, pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")]


@pytest.fixture(scope="module")
def c_hit(tmp_path_factory):
    """The C reference, compiled with gcc -O3."""
    library = tmp_path_factory.mktemp("c") / "hit.so"
    subprocess.run(["gcc", "-O3", "-shared", "-fPIC", "-o", library, Path(__file__).parent / "c" / "hit.c"], check=True)
    function = ctypes.CDLL(str(library)).hit
    function.argtypes = [ctypes.c_void_p, ctypes.c_uint64, ctypes.c_void_p, ctypes.c_uint64, ctypes.c_int64, ctypes.c_int64]
    function.restype = ctypes.c_int64
    return function


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
def test_hit_path(name, sim, c_hit, record_property):
    params = {"pages": PAGES, "events": EVENTS, "write_fraction": 0.3} | ({"alpha": 0.99} if name == "zipf" else {})
    stream = make_generator(name, params, "params").stream(1)
    words = stream.words[(stream.words & 15) < 3].copy()
    machine = sim.machine
    task = sim.task("A")
    words |= np.int64(task.index << 4)
    root = int(machine.mm[task.mm * r.MM_STRIDE + r.MM_ROOT]) * 512
    ours, theirs = [], []
    for _ in range(7):
        begin = time.process_time()
        assert machine.run(loop.run_stream, words, 0, len(words)) == len(words)
        ours.append(time.process_time() - begin)
        begin = time.process_time()
        assert c_hit(machine.pt.ctypes.data, root, words.ctypes.data, len(words), 1, 1 << 62) == len(words)
        theirs.append(time.process_time() - begin)
    ratio = statistics.median(a / b for a, b in zip(ours[1:], theirs[1:]))
    print(f"\nhit {name}: {statistics.median(ours[1:]) / len(words) * 1e9:.2f} ns, C {statistics.median(theirs[1:]) / len(words) * 1e9:.2f} ns, ratio {ratio:.2f}")
    record_property("ratio_to_c", ratio)


def test_fault_rate(record_property):
    """First-touch anonymous faults with the full Linux defaults, one core."""
    rates = []
    for _ in range(3):
        sim = Simulation.from_table({"memory": "2G", "bare": True}, policies={"thp": {"use": "never"}})
        sim.spawn("A")
        addr = sim.mmap("A", 1 << 30)
        sim.touch("A", addr, 1024, 1)
        begin = time.process_time()
        sim.touch("A", addr + (1024 << 12), (1 << 18) - 1024, 1)
        rates.append(((1 << 18) - 1024) / (time.process_time() - begin) / 1e6)
    print(f"\nfaults: {statistics.median(rates):.2f} M/s")
    record_property("faults_m_per_s", statistics.median(rates))
