"""How the maple tree grows and shrinks, and what happens without memory for nodes."""

from __future__ import annotations

import pytest
from index_machine import PAGE, Index, store_many
from mmlab_linux.vma_index.maple_node import N_GAP, N_SLOT, T_ROOT
from mmlab_linux.vma_index.maple_tree import MAPLE_TREE

from mmlab.kernels.jit import JIT_OFF
from mmlab.model.const import ENOMEM, VMA_STAT_BYTES, VMA_STAT_HEIGHT, VMA_STAT_NODES
from mmlab.model.rows import MM_INDEX

pytestmark = pytest.mark.nojit


@pytest.fixture
def tree():
    return Index(MAPLE_TREE)


def test_one_vma_needs_one_leaf(tree):
    tree.store(0, PAGE, 2 * PAGE)
    assert [tree.op("stat", what) for what in (VMA_STAT_NODES, VMA_STAT_HEIGHT, VMA_STAT_BYTES)] == [1, 1, 256]
    tree.op("erase", 0)
    assert [tree.op("stat", what) for what in (VMA_STAT_NODES, VMA_STAT_HEIGHT, VMA_STAT_BYTES)] == [0, 0, 0]
    assert tree.slab.used[0] == 0


def test_a_leaf_holds_sixteen_ranges(tree):
    for vma in range(7):  # with a gap below each and one above all: 15 ranges
        tree.store(vma, (2 * vma + 1) * PAGE, (2 * vma + 2) * PAGE)
    assert tree.op("stat", VMA_STAT_NODES) == 1
    tree.store(7, 14 * PAGE, 15 * PAGE)  # directly above the last: 16
    assert tree.op("stat", VMA_STAT_NODES) == 1
    tree.store(8, 15 * PAGE, 16 * PAGE)
    assert (tree.op("stat", VMA_STAT_NODES), tree.op("stat", VMA_STAT_HEIGHT)) == (3, 2)


@pytest.mark.parametrize("downwards", [True, False])
def test_maps_side_by_side_leave_nodes_nearly_full(tree, downwards):
    count = 2000 if JIT_OFF else 20010
    assert tree.machine.run(store_many, count, count - 1 if downwards else 1, 16) == 0
    assert tree.op("check") == 0
    # 15 ranges a leaf, 9 children a node
    assert 0.93 < tree.op("stat", VMA_STAT_NODES) / (count / 15 * 9 / 8) < 1.07
    assert tree.slab.used[0] == tree.op("stat", VMA_STAT_NODES)


def test_without_memory_nothing_changes(tree):
    refused = 0
    for vma in range(400):
        page = vma * 7919 % 400 * 4 + 4
        tree.slab.left[0] = vma % 3
        before = [tree.op("stat", what) for what in (VMA_STAT_NODES, VMA_STAT_HEIGHT)]
        if tree.store(vma, page * PAGE, (page + 2) * PAGE) == 0:
            continue
        refused += 1
        assert [tree.op("stat", what) for what in (VMA_STAT_NODES, VMA_STAT_HEIGHT)] == before
        assert tree.op("check") == 0
        assert tree.op("find", page * PAGE) != vma
        assert tree.slab.used[0] == before[0]
        tree.slab.left[0] = 100
        assert tree.store(vma, page * PAGE, (page + 2) * PAGE) == 0
    assert refused > 10
    assert tree.slab.used[0] == tree.op("stat", VMA_STAT_NODES)


def test_a_resize_without_memory_leaves_the_vma(tree):
    for vma in range(7):
        tree.store(vma, 4 * vma * PAGE + PAGE, 4 * vma * PAGE + 4 * PAGE)
    tree.store(7, 28 * PAGE, 31 * PAGE)  # the leaf is full: 16 ranges
    tree.slab.left[0] = 0
    assert tree.op("resize", 7, 29 * PAGE, 31 * PAGE) == -ENOMEM  # a gap more
    assert tree.bounds(7) == (28 * PAGE, 31 * PAGE)
    assert tree.op("check") == 0
    tree.slab.left[0] = 2
    assert tree.op("resize", 7, 29 * PAGE, 31 * PAGE) == 0
    assert tree.op("check") == 0


def test_check_finds_a_wrong_pivot_child_and_gap(tree):
    tree.machine.run(store_many, 40, 1, 8)
    root = int(tree.machine.mm[MM_INDEX + T_ROOT])
    node = tree.machine.states["vma_index"].node
    for word in (root, root + N_SLOT, root + N_GAP):  # first pivot, child and gap
        value = int(node[word])
        node[word] = int(node[root + N_SLOT + 1]) if word == root + N_SLOT else value + PAGE
        assert tree.op("check") > 0
        node[word] = value
        assert tree.op("check") == 0
