"""Words, digests, and the next use of each access."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmlab.workload.ops import make_operation
from mmlab.workload.stream import KIND_OPERATION, NEVER, EventStream, next_use, pack, repeated, unpack


def test_a_word():
    assert int(pack(1, 3, 0x10000000)) == 1 | 3 << 4 | 0x10000000 << 16
    assert [int(x) for x in unpack(pack(15, 4095, 7))] == [15, 4095, 7]


def plain_next_use(words):
    result = []
    for i, word in enumerate(words):
        later = [j for j in range(i + 1, len(words)) if words[j] >> 4 == word >> 4 and words[j] & 15 != 15]
        result.append(later[0] if later and word & 15 != 15 else NEVER)
    return result


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from([0, 1, 2, 15]), st.integers(0, 2), st.integers(0, 5) | st.integers(1 << 40, (1 << 40) + 3))))
def test_next_use(events):
    words = pack(*np.array(events, np.int64).reshape(-1, 3).T)
    assert next_use(words).tolist() == plain_next_use(words.tolist())


def test_operations_are_no_use():
    assert next_use(pack([0, 15, 0], 0, 5)).tolist() == [2, NEVER, NEVER]


@pytest.mark.parametrize(
    "other",
    [
        EventStream(pack(0, 0, [1, 2]), (), ("T",)),
        EventStream(pack(0, 0, [1, 3]), (make_operation("spawn", "T"),), ("T",)),
        EventStream(pack(0, 0, [1, 2]), (make_operation("spawn", "T", cpu=1),), ("T",)),
        EventStream(pack(0, 0, [1, 2]), (make_operation("spawn", "T"),), ("U",)),
    ],
)
def test_digest_is_of_the_content(other):
    stream = EventStream(pack(0, 0, [1, 2]), (make_operation("spawn", "T"),), ("T",), {"source": "a"})
    assert stream.digest() == EventStream(stream.words, stream.ops, ("T",), {"source": "b"}).digest() != other.digest()


def test_operation_index_is_the_payload():
    words = pack(KIND_OPERATION, 0, [0])
    assert EventStream(words, (make_operation("spawn", "T"),), ("T",)).words.dtype == np.int64


def test_repeated_accesses_stay_in_their_maps():
    ops = (make_operation("spawn", "T"), make_operation("mmap", "T", region="r"))
    stream = EventStream(np.concatenate((pack(15, 0, [0, 1]), pack(0, 0, [7, 8]))), ops, ("T",))
    assert repeated(stream, 3).words.tolist() == pack(15, 0, [0, 1]).tolist() + pack(0, 0, [7, 8]).tolist() * 3


def test_a_repeated_program_is_spawned_again():
    ops = (make_operation("mkfile", None), make_operation("spawn", "T"), make_operation("exit", "T"))
    run = pack([15, 0, 15], 0, [1, 7, 2]).tolist()
    stream = EventStream(np.concatenate((pack(15, 0, [0]), run)), ops, ("T",))
    assert repeated(stream, 2).words.tolist() == pack(15, 0, [0]).tolist() + run * 2
