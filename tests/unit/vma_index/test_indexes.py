"""What every VMA index answers."""

from __future__ import annotations

import pytest
from index_machine import PAGE, Index, duel, erase_many, store_many
from mmlab_linux.vma_index.maple_tree import MAPLE_TREE
from mmlab_rivals.vma_index.bplus_tree import BPLUS_TREE
from mmlab_rivals.vma_index.rbtree import RBTREE
from mmlab_rivals.vma_index.skip_list import SKIP_LIST
from mmlab_rivals.vma_index.sorted_array import SORTED_ARRAY

from mmlab.kernels.jit import JIT_OFF
from mmlab.model.const import ENOMEM, VMA_STAT_BYTES, VMA_STAT_HEIGHT, VMA_STAT_NODES, VMA_STAT_READ_LOCKS, VMA_STAT_TOUCHED, VMA_STAT_WRITE_LOCKS

pytestmark = pytest.mark.nojit

TOP = 0x7FFFF7FFF000


@pytest.fixture(params=[MAPLE_TREE, SORTED_ARRAY, RBTREE, BPLUS_TREE, SKIP_LIST], ids=lambda policy: policy.name)
def index(request):
    return Index(request.param)


def test_an_empty_address_space_has_one_gap_and_no_memory(index):
    assert index.op("find", 0) == index.op("find_prev", TOP) == -1
    assert index.op("find_gap", PAGE, 0, TOP) == TOP - PAGE
    assert index.op("find_gap", TOP, 0, TOP) == 0
    assert index.op("find_gap", TOP + PAGE, 0, TOP) == -ENOMEM
    assert [index.op("stat", what) for what in (VMA_STAT_NODES, VMA_STAT_HEIGHT, VMA_STAT_BYTES)] == [0, 0, 0]
    assert index.op("check") == 0


def test_find_is_the_first_vma_that_ends_above(index):
    index.store(7, 2 * PAGE, 4 * PAGE)
    index.store(3, 6 * PAGE, 7 * PAGE)
    assert [index.op("find", addr) for addr in (0, 2 * PAGE, 4 * PAGE - 1, 4 * PAGE, 7 * PAGE - 1, 7 * PAGE)] == [7, 7, 7, 3, 3, -1]
    assert [index.op("find_prev", addr) for addr in (0, 2 * PAGE, 2 * PAGE + 1, 6 * PAGE, 6 * PAGE + 1, TOP)] == [-1, -1, 7, 7, 3, 3]
    assert index.op("stat", VMA_STAT_TOUCHED) > 0


def test_find_gap_takes_the_top_of_the_highest_gap_that_fits(index):
    index.store(0, 10 * PAGE, 20 * PAGE)
    index.store(1, 22 * PAGE, 30 * PAGE)
    assert index.op("find_gap", 2 * PAGE, 0, 30 * PAGE) == 20 * PAGE
    assert index.op("find_gap", 3 * PAGE, 0, 30 * PAGE) == 7 * PAGE
    assert index.op("find_gap", 3 * PAGE, 0, 32 * PAGE) == 7 * PAGE
    assert index.op("find_gap", 3 * PAGE, 0, 33 * PAGE) == 30 * PAGE
    assert index.op("find_gap", PAGE, 0, 21 * PAGE) == 20 * PAGE
    assert index.op("find_gap", 3 * PAGE, 8 * PAGE, 30 * PAGE) == -ENOMEM


def test_a_stack_keeps_its_guard_free(index):
    index.store(0, 1000 * PAGE, 1033 * PAGE, grows_down=True)
    assert index.op("find_gap", 16 * PAGE, 0, 1033 * PAGE) == (1000 - 256 - 16) * PAGE
    # a gap inside the guard lowers the limit for all that follows, so the gap below the next VMA is cut as well
    index.store(1, 900 * PAGE, 950 * PAGE)
    assert index.op("find_gap", 50 * PAGE, 0, 1033 * PAGE) == (1000 - 256 - 50) * PAGE
    # a gap too small to be tried is not, and the guard with it
    assert index.op("find_gap", 51 * PAGE, 0, 1033 * PAGE) == (900 - 51) * PAGE


def test_a_guard_that_reaches_below_zero_leaves_no_gap(index):
    index.store(0, 100 * PAGE, 101 * PAGE, grows_down=True)
    assert index.op("find_gap", PAGE, 0, 101 * PAGE) == -ENOMEM


def test_resize_writes_the_row(index):
    index.store(0, 10 * PAGE, 20 * PAGE)
    index.store(1, 20 * PAGE, 30 * PAGE)
    assert index.op("resize", 0, 5 * PAGE, 15 * PAGE) == 0
    assert index.bounds(0) == (5 * PAGE, 15 * PAGE)
    assert [index.op("find", page * PAGE) for page in (5, 14, 15, 20)] == [0, 0, 1, 1]
    assert index.op("resize", 0, 40 * PAGE, 41 * PAGE) == 0
    assert [index.op("find", page * PAGE) for page in (5, 20, 30, 41)] == [1, 1, 0, -1]
    assert index.op("check") == 0


def test_destroy_frees_everything(index):
    assert index.machine.run(store_many, 1000, 1, 8) == 0
    index.op("destroy_mm")
    assert index.slab.used[0] == 0
    assert index.op("stat", VMA_STAT_BYTES) == 0
    index.op("init_mm")
    assert index.store(0, PAGE, 2 * PAGE) == 0
    assert index.op("find", 0) == 0


def test_address_spaces_are_apart(index):
    index.store(0, PAGE, 2 * PAGE)
    index.mm = 1
    index.op("init_mm")
    assert index.op("find", 0) == -1
    index.store(1, PAGE, 3 * PAGE)
    assert index.op("find", 0) == 1
    index.mm = 0
    assert index.op("find", 0) == 0


def test_check_finds_a_row_that_was_changed_behind_its_back(index):
    index.store(0, PAGE, 2 * PAGE)
    index.store(1, 3 * PAGE, 4 * PAGE)
    index.machine.vma[1] += 1
    assert index.op("check") > 0


@pytest.mark.parametrize("step", [1, 7919])
def test_growth_and_back_to_nothing(index, step):
    count = 500 if JIT_OFF else (100_000 if index.machine.chosen["vma_index"].policy is MAPLE_TREE else 5000)
    assert index.machine.run(store_many, count, step, 8) == 0
    assert index.op("check") == 0
    assert index.op("find", (count // 2 + 1) * 16 * PAGE + 8 * PAGE) == count // 2 + 1
    assert index.machine.run(erase_many, count - count // 10 * 9, 1) == 0
    assert index.op("check") == 0
    index.op("destroy_mm")
    index.op("init_mm")
    assert index.machine.run(store_many, count, step, 8) == 0
    index.machine.run(erase_many, count, 7907)
    assert index.op("check") == 0
    assert [index.op("stat", what) for what in (VMA_STAT_NODES, VMA_STAT_HEIGHT)] == [0, 0]
    assert index.slab.used[0] == 0


def test_what_they_cost():
    """500 VMAs, 100 look-ups in the middle: each rival's memory and locks by its own rules."""
    found = {}
    for policy in (MAPLE_TREE, SORTED_ARRAY, RBTREE, BPLUS_TREE, SKIP_LIST):
        index = Index(policy)
        assert index.machine.run(store_many, 500, 1, 8) == 0
        before = [index.op("stat", what) for what in (VMA_STAT_TOUCHED, VMA_STAT_READ_LOCKS, VMA_STAT_WRITE_LOCKS)]
        for _ in range(100):
            assert index.op("find", 250 * 16 * PAGE) == 249
        after = [index.op("stat", what) for what in (VMA_STAT_TOUCHED, VMA_STAT_READ_LOCKS, VMA_STAT_WRITE_LOCKS)]
        height, nr_bytes = index.op("stat", VMA_STAT_HEIGHT), index.op("stat", VMA_STAT_BYTES)
        found[policy.name] = (after[0] - before[0], after[1] - before[1], after[2], height, nr_bytes)
    touched, reads, writes, height, nr_bytes = found["rbtree"]
    assert (reads, writes, nr_bytes) == (100, 500, 500 * 48)
    assert 99 + 1 <= touched <= 99 + height  # the cache answers all but the first
    assert height <= 2 * 9  # twice the logarithm
    assert found["bplus_tree"][:2] == (100 * found["bplus_tree"][3], 100 * found["bplus_tree"][3])  # a node a level, each locked
    assert found["bplus_tree"][4] % 256 == 0 and found["bplus_tree"][4] >= 500 // 14 * 256
    assert found["maple_tree"][1] == found["skip_list"][1] == 0
    assert found["maple_tree"][2] == found["sorted_array"][2] == 500
    assert found["sorted_array"][1] == 100
    assert 500 * (24 + 8) < found["skip_list"][4] < 500 * (24 + 16)  # a third of a link more than one each
    assert found["skip_list"][2] >= 500


def test_a_bplus_tree_without_memory_keeps_what_it_has():
    index = Index(BPLUS_TREE)
    assert index.machine.run(store_many, 200, 1, 8) == 0
    index.slab.left[0] = 0
    answers = [index.store(300 + i, (9 + 16 * i) * PAGE, (10 + 16 * i) * PAGE) for i in range(200)]
    assert -ENOMEM in answers
    assert index.op("check") == 0
    assert [index.op("find", (9 + 16 * i) * PAGE) == 300 + i for i in range(200)] == [answer == 0 for answer in answers]
    moved = [index.op("resize", vma, (5000 + vma) * PAGE, (5001 + vma) * PAGE) for vma in range(100)]
    assert -ENOMEM in moved
    assert index.op("check") == 0
    for vma in [*range(200), *(300 + i for i in range(200) if answers[i] == 0)]:
        index.op("erase", vma)
    assert index.op("check") == 0 and index.slab.used[0] == 0


@pytest.mark.parametrize("policy", [SORTED_ARRAY, RBTREE, BPLUS_TREE, SKIP_LIST], ids=lambda policy: policy.name)
def test_the_indexes_agree_on_random_operations(policy):
    tree, array = Index(MAPLE_TREE, stack_guard_gap=0), Index(policy, stack_guard_gap=0)
    steps, cells, check_every = (3000, 300, 50) if JIT_OFF else (100_000, 16_000, 2000)
    assert tree.machine.run(duel, array.machine, 1, steps, cells, check_every) == 0
    assert tree.op("check") == array.op("check") == 0
    assert tree.machine.run(duel, array.machine, 2, 2000, 40, 10) == 0
