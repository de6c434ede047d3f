"""Cache traces from files: dense object numbers, zstd, and what is said about files that are not right."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmlab.errors import InputError
from mmlab.workload import requests
from mmlab.workload.requests import ORACLE_GENERAL, ObjectNumbers, read_oracle_general


def oracle(ids, after=-1):
    records = np.zeros(len(ids), ORACLE_GENERAL)
    records["id"], records["size"], records["next"] = ids, 1, after
    return records.tobytes()


def file(tmp_path, content):
    (tmp_path / "t").write_bytes(content)
    return tmp_path / "t"


def message(path):
    with pytest.raises(InputError) as caught:
        read_oracle_general(path)
    (text,) = caught.value.messages
    assert text.startswith(f"{path}: ")
    return text


def in_order_of_appearance(ids):
    seen = {}
    return [seen.setdefault(i, len(seen)) for i in ids]


def test_objects_are_numbered_in_the_order_in_which_they_appear(tmp_path):
    found = read_oracle_general(file(tmp_path, oracle([900, 7, 900, 30], [2, -1, -1, -1])))
    assert found.ids.tolist() == [0, 1, 0, 2] and found.ids.dtype == np.uint32
    assert (found.objects, len(found), found.meta["unit"]) == (3, 4, "object accesses")


def test_ids_use_all_64_bits(tmp_path):
    found = read_oracle_general(file(tmp_path, oracle([2**64 - 1, 2**32 - 1, 0, 2**64 - 1, 2**63, 2**32, 0])))
    assert found.ids.tolist() == [0, 1, 2, 0, 3, 4, 2]


def test_a_next_access_may_be_any_index_or_minus_one(tmp_path):
    assert len(read_oracle_general(file(tmp_path, oracle([1, 2, 3], [-1, 2**63 - 1, 2**48 - 1])))) == 3


def test_what_is_no_oracle_general_trace_is_found_out(tmp_path):
    assert "record 1 (byte 24): next access must be -1 or the number of a later record, got 281474976710656" in message(file(tmp_path, oracle([1, 2], [-1, 2**48])))
    text = b"time,object,size\n" * 48  # a multiple of 24 bytes
    assert "record 0 (byte 0): next access must be" in message(file(tmp_path, text)) and "not an oracleGeneral trace?" in message(tmp_path / "t")


@pytest.mark.parametrize("pack", [bytes, lambda content: pa.compress(content, codec="zstd", asbytes=True)], ids=["plain", "zstd"])
def test_a_file_of_several_blocks(tmp_path, monkeypatch, pack):
    monkeypatch.setattr(requests, "_BLOCK", 8)
    ids = [(i * i) % 23 for i in range(8 * 5 + 3)]
    path = file(tmp_path, pack(oracle(ids)))
    assert read_oracle_general(path).ids.tolist() == in_order_of_appearance(ids)
    path.write_bytes(pack(oracle(ids)[:-1]))
    assert "ends within record 42 (1031 bytes); an oracleGeneral trace is a multiple of 24 bytes" in message(path)
    path.write_bytes(pack(oracle(ids, [-1] * 20 + [-7] + [-1] * 22)))
    assert "record 20 (byte 480): next access must be -1 or the number of a later record, got -7: not an oracleGeneral trace?" in message(path)


def test_a_next_access_is_later(tmp_path, monkeypatch):
    """Records in a place where they do not belong: all zeros, two traces in one file, over several blocks."""
    monkeypatch.setattr(requests, "_BLOCK", 2)
    assert "record 0 (byte 0): next access must be -1 or the number of a later record, got 0" in message(file(tmp_path, bytes(48)))
    good = oracle([5, 5, 5], [1, 2, -1])
    assert read_oracle_general(file(tmp_path, good)).ids.tolist() == [0, 0, 0]
    assert "record 3 (byte 72): next access must be -1 or the number of a later record, got 1" in message(file(tmp_path, good + good))


def test_two_zstd_frames_are_one_trace(tmp_path):
    frames = [pa.compress(oracle(ids), codec="zstd", asbytes=True) for ids in ([5, 6], [6, 7])]
    assert read_oracle_general(file(tmp_path, b"".join(frames))).ids.tolist() == [0, 1, 1, 2]


def test_files_that_are_not_right(tmp_path):
    assert message(tmp_path / "t").endswith("no such file")
    assert message(tmp_path).endswith("is not a file")
    assert "is empty" in message(file(tmp_path, b""))
    packed = pa.compress(oracle(range(1000)), codec="zstd", asbytes=True)
    assert "cannot be unpacked with zstd, is it cut short?" in message(file(tmp_path, packed[:-10]))


@given(st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 20).map(lambda i: i << 44), max_size=60))
def test_numbers_are_those_of_a_dict(ids):
    """From a table of four places, which has to grow again and again."""
    numbers = ObjectNumbers()
    numbers.table = np.zeros(4 * 4, np.uint32)
    half = len(ids) // 2
    found = [n for part in (ids[:half], ids[half:]) for n in numbers.number(np.frombuffer(oracle(part), "<u4")).tolist()]
    assert found == in_order_of_appearance(ids)
    assert numbers.known == len(set(ids)) <= len(numbers.table) // 8


def test_repeated(tmp_path):
    found = read_oracle_general(file(tmp_path, oracle([8, 9]))).repeated(3)
    assert (found.ids.tolist(), found.objects, found.meta["repeat"]) == ([0, 1, 0, 1, 0, 1], 2, 3)
