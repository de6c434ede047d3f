"""The filter keeps LRU misses exact for memories of k pages and more; what it costs FIFO and CLOCK is measured."""

from collections import OrderedDict, deque

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmlab.workload.stack_filter import StackFilter, stack_filter
from mmlab.workload.stream import pack


def stack_distances(words):
    """Pages used since the last use of each access' page, itself included; 2**30 for a first use. Plain lists."""
    stack, distances = [], []
    for key in (words >> 4).tolist():
        distances.append(stack.index(key) + 1 if key in stack else 1 << 30)
        if key in stack:
            stack.remove(key)
        stack.insert(0, key)
    return np.array(distances)


def lru_misses(words, size):
    memory, misses = OrderedDict(), 0
    for key in (words >> 4).tolist():
        if key in memory:
            memory.move_to_end(key)
            continue
        misses += 1
        if len(memory) == size:
            memory.popitem(last=False)
        memory[key] = True
    return misses


def queue_misses(words, size, second_chance):
    """FIFO, or CLOCK with one accessed bit."""
    queue, accessed, misses = deque(), {}, 0
    for key in (words >> 4).tolist():
        if key in accessed:
            accessed[key] = second_chance
            continue
        misses += 1
        while len(queue) >= size:
            oldest = queue.popleft()
            if accessed[oldest]:
                accessed[oldest] = False
                queue.append(oldest)
            else:
                del accessed[oldest]
        queue.append(key)
        accessed[key] = False
    return misses


def program(seed, events=30_000):
    """Something like a program: a few hot pages all the time, loops over arrays, scattered look-ups, now and then a write."""
    rng = np.random.default_rng(seed)
    hot = rng.integers(0, 6, events)
    loop = 100 + np.arange(events) // 3 % 150
    scattered = 1000 + rng.zipf(1.3, events) % 600
    page = np.choose(rng.choice(3, events, p=[0.5, 0.3, 0.2]), [hot, loop, scattered])
    return pack(rng.choice([0, 1, 2], events, p=[0.6, 0.1, 0.3]), 0, page)


ACCESSES = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 1), st.integers(0, 12)), max_size=120)


@settings(deadline=None)
@given(ACCESSES, st.integers(1, 8))
def test_distances_beyond_the_window_are_exact(events, k):
    words = pack(*np.array(events, np.int64).reshape(-1, 3).T)
    before, after = stack_distances(words), stack_distances(stack_filter(words, k))
    assert after[after > k].tolist() == before[before > k].tolist()


@settings(deadline=None)
@given(ACCESSES, st.integers(1, 8))
def test_kept_accesses_are_a_subsequence(events, k):
    words = pack(*np.array(events, np.int64).reshape(-1, 3).T).tolist()
    remaining = iter(words)
    assert all(word in remaining for word in stack_filter(np.array(words, np.int64), k).tolist())


@pytest.mark.parametrize("k", [1, 16, 64])
def test_lru_misses_of_a_program(k):
    words = program(1)
    kept = stack_filter(words, k)
    assert [lru_misses(kept, size) for size in (k, k + 1, 100, 300)] == [lru_misses(words, size) for size in (k, k + 1, 100, 300)]


def test_a_window_of_one_keeps_every_change_of_page():
    words = pack([0, 0, 1, 1, 0, 0, 2], 0, [5, 5, 5, 5, 6, 5, 5])
    assert stack_filter(words, 1).tolist() == pack([0, 1, 0, 0], 0, [5, 5, 6, 5]).tolist()


def test_the_first_write_is_kept():
    words = pack([0, 0, 1, 0, 1, 0], 0, [1, 2, 1, 2, 1, 1])
    assert stack_filter(words, 4).tolist() == pack([0, 0, 1], 0, [1, 2, 1]).tolist()


def test_a_page_in_constant_use_does_not_look_old():
    # dropping all hits would leave A first and never again: an LRU memory of 3 would lose it when D comes
    a_between = pack(0, 0, [1, 2, 1, 3, 1, 4, 1, 5, 6, 1])
    assert lru_misses(stack_filter(a_between, 2), 3) == lru_misses(a_between, 3) == 6


def test_pages_of_two_tasks_differ():
    words = pack(0, [0, 1, 0, 1], 7)
    assert stack_filter(words, 1).tolist() == words.tolist() and len(stack_filter(words, 2)) == 2


def test_output_in_pieces_is_the_same():
    words = program(2, 3000)
    window = StackFilter(8, out_events=1)
    for part in np.array_split(words, 7):
        window.access(part)
    time, kept = window.events()
    assert kept.tolist() == stack_filter(words, 8).tolist() and (np.diff(time) > 0).all() and window.references == 3000


@pytest.mark.parametrize(("unmap", "kept"), [(True, [[0, 1], [1, 2]]), (False, [[1], [2]])])
def test_changes_of_the_address_space(unmap, kept):
    window = StackFilter(4)
    window.access(pack([0, 1], 0, [1, 2]))
    window.change(0, 1, 3, unmap)
    window.access(pack([0, 1], 0, [1, 2]))
    # unmapped pages enter anew; of the others only the next write is kept
    assert window.events()[1].tolist() == pack([0, 1], 0, [1, 2]).tolist() + pack(kept[0], 0, kept[1]).tolist()


def test_changes_reach_their_range_and_task_only():
    window = StackFilter(8)
    window.access(pack(0, [0, 0, 1], [1, 2, 1]))
    window.change(0, 2, 3, unmap=True)
    window.access(pack(0, [0, 0, 1], [1, 2, 1]))
    assert window.events()[1].tolist() == pack(0, [0, 0, 1, 0], [1, 2, 1, 2]).tolist()


def test_operations_are_refused():
    with pytest.raises(ValueError, match="accesses only"):
        stack_filter(pack([0, 15], 0, 1), 4)


@pytest.mark.parametrize("second_chance", [False, True])
def test_error_of_fifo_and_clock(second_chance):
    words = program(3)
    kept = stack_filter(words, 64)
    assert len(kept) < len(words) / 2
    for size in (192, 256, 512):  # three windows and more; nearer to the window the error reaches tens of percent
        exact = queue_misses(words, size, second_chance)
        assert queue_misses(kept, size, second_chance) == pytest.approx(exact, rel=0.05)
