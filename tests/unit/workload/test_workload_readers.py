"""Access streams from files: what is read, and what is said about files that are not right."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmlab.errors import InputError
from mmlab.workload.maps import BASE_PAGE
from mmlab.workload.readers import read_accesses
from mmlab.workload.stream import unpack


def accesses(stream):
    kind, task, payload = unpack(stream.words[2 * len(stream.tasks) :])
    return kind.tolist(), [stream.tasks[t] for t in task.tolist()], (payload - BASE_PAGE).tolist()


def sizes(stream):
    return [op.args["size"] // 4096 for op in stream.ops if op.name == "mmap"]


def message(read, path):
    with pytest.raises(InputError) as caught:
        read(path)
    (text,) = caught.value.messages
    assert text.startswith(f"{path}: ")
    return text


@pytest.mark.parametrize("write", [np.array([True, False, True]), np.array([1, 0, 1], np.uint8)])
def test_npz(tmp_path, write):
    np.savez(tmp_path / "a.npz", page=np.array([5, 0, 7], np.uint32), write=write, task=[3, 9, 3])
    stream = read_accesses(tmp_path / "a.npz")
    assert accesses(stream) == ([1, 0, 1], ["T3", "T9", "T3"], [5, 0, 7]) and sizes(stream) == [8, 1]


def test_npz_of_pages_alone(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", page=[2, 1])
    assert accesses(read_accesses(tmp_path / "a.npz")) == ([0, 0], ["T0", "T0"], [2, 1])


def test_parquet_with_named_tasks(tmp_path):
    page = pa.array([1, 2, 3], pa.int32())
    table = pa.table({"page": page, "write": [False, True, False], "task": ["web", "db", "web"], "more": [0, 0, 0]})
    pq.write_table(table, tmp_path / "a.parquet")
    stream = read_accesses(tmp_path / "a.parquet")
    assert accesses(stream) == ([0, 1, 0], ["web", "db", "web"], [1, 2, 3]) and stream.tasks == ("db", "web")


def test_an_empty_stream(tmp_path):
    np.savez(tmp_path / "a.npz", page=np.array([], np.int64))
    assert accesses(read_accesses(tmp_path / "a.npz")) == ([], [], [])


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"pages": [1]}, "has no column 'page'"),
        ({"page": [1.5]}, "page: must be whole numbers, got float64"),
        ({"page": [1, -2]}, "page[1]: must be between 0 and"),
        ({"page": [1, 1 << 40]}, "page[1]: must be between 0 and"),
        ({"page": [1, 2], "write": [True]}, "write: must be as long as page (2), got 1"),
        ({"page": [1, 2], "write": [0, 2]}, "write[1]: must be 0 or 1, got 2"),
        ({"page": [[1, 2]]}, "page: must have one dimension, got 2"),
        ({"page": np.arange(5000), "task": np.arange(5000)}, "has 5000 tasks, at most 4096"),
        ({"page": [1], "task": [0.5]}, "task: must be whole numbers or names"),
    ],
)
def test_columns_that_are_not_right(tmp_path, columns, says):
    np.savez(tmp_path / "a.npz", **columns)
    assert says in message(read_accesses, tmp_path / "a.npz")


def test_nulls_are_refused(tmp_path):
    pq.write_table(pa.table({"page": [1, None]}), tmp_path / "a.parquet")
    assert "page: has 1 nulls" in message(read_accesses, tmp_path / "a.parquet")


@pytest.mark.parametrize("name", ["a.npz", "a.parquet"])
def test_files_cut_short(tmp_path, name):
    if name == "a.npz":
        np.savez(tmp_path / name, page=np.arange(1000))
    else:
        pq.write_table(pa.table({"page": np.arange(1000)}), tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) // 2])
    assert "cannot be read as" in message(read_accesses, tmp_path / name)


def test_missing_files(tmp_path):
    assert message(read_accesses, tmp_path / "a.npz").endswith("no such file")
    assert message(read_accesses, tmp_path).endswith("is not a file")


def test_other_endings(tmp_path):
    (tmp_path / "a.csv").touch()
    assert "is a .npz or a .parquet file, got '.csv'" in message(read_accesses, tmp_path / "a.csv")
