"""VMA indexes, at three sizes, beside the kernel's own maple tree, which is compiled where Linux's sources are at hand."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest
from drivers import fill_vmas, find_vmas, replace_vmas
from linux_source import HINT, compile_kernel, find

from mmlab.simulation import Simulation

OPS, SEED, BASE = 1 << 18, 5, 1 << 40
pytestmark = pytest.mark.bench


@pytest.fixture(scope="session")
def kernel_maple(tmp_path_factory):
    """The library made of c/kernel_maple.c."""
    source = find()
    if source is None:
        pytest.skip(HINT)
    library = compile_kernel("kernel_maple", source, tmp_path_factory.mktemp("kernel_maple"))
    for name in ("tree_fill", "tree_find_all", "tree_replace_all"):
        getattr(library, name).restype = ctypes.c_int64
    return library


def _call(function, *arguments):
    """Arrays go as pointers, integers as int64."""
    return function(*(ctypes.c_void_p(a.ctypes.data) if isinstance(a, np.ndarray) else ctypes.c_int64(a) for a in arguments))


class Vmas:
    """`count` VMAs of 1 to 16 pages with gaps of 1 to 8 pages, stored in random order, in mmlab and in the kernel's tree."""

    def __init__(self, policy, count, kernel_maple):
        rng = np.random.default_rng(SEED)
        pages, gaps, order = rng.integers(1, 17, count), rng.integers(1, 9, count), rng.permutation(count)
        above = np.cumsum(pages + gaps)
        self.starts, self.ends = (BASE + (above - pages << 12))[order], (BASE + (above << 12))[order]
        self.picks = rng.integers(0, count, OPS)
        self.addresses = self.starts[self.picks] + rng.integers(0, 4096, OPS)
        sim = Simulation.from_table({"memory": "2G", "bare": True}, policies={"thp": {"use": "never"}, "vma_index": {"use": policy}})
        sim.spawn("A")
        self.machine, self.mm = sim.machine, sim.task("A").mm
        self.numbers = np.zeros(count, np.int64)
        assert self.machine.run(fill_vmas, self.mm, self.starts, self.ends, self.numbers) == count
        self.first = int(self.numbers[0])
        assert (self.numbers == self.first + np.arange(count)).all()
        self.tree = kernel_maple
        assert _call(self.tree.tree_fill, self.starts, self.ends, count) == 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.tree.tree_empty()


SIZES = pytest.mark.parametrize("count", [100, 10_000, 1_000_000], ids=["100", "10k", "1M"])
POLICIES = pytest.mark.parametrize("policy", ["maple_tree", "bplus_tree", "rbtree"])


@POLICIES
@SIZES
def test_find_beside_kernel_maple(policy, count, kernel_maple, compare):
    """Find the VMA of a random address."""
    with Vmas(policy, count, kernel_maple) as vmas:
        expected = int(vmas.picks.sum())
        assert _call(vmas.tree.tree_find_all, vmas.addresses, OPS) == expected

        def ours():
            assert vmas.machine.run(find_vmas, vmas.mm, vmas.addresses) == expected + OPS * vmas.first

        goal = 1.5 if policy == "maple_tree" else None
        compare(ours, lambda: _call(vmas.tree.tree_find_all, vmas.addresses, OPS), OPS, at_most=goal, reference="kernel maple")


@POLICIES
@SIZES
def test_erase_insert_beside_kernel_maple(policy, count, kernel_maple, compare):
    """Erase a random VMA and insert it again."""
    with Vmas(policy, count, kernel_maple) as vmas:
        chosen = vmas.numbers[vmas.picks]

        def theirs():
            assert _call(vmas.tree.tree_replace_all, vmas.picks, OPS) == OPS

        def ours():
            assert vmas.machine.run(replace_vmas, vmas.mm, chosen) == OPS

        goal = 1.0 if policy == "maple_tree" else None
        compare(ours, theirs, OPS, at_most=goal, reference="kernel maple")
