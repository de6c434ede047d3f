"""Allocator streams as arrays and from the generator."""

import numpy as np
import pytest

from mmlab.errors import InputError
from mmlab.model.gfp import GFP_HIGHUSER_MOVABLE, GFP_KERNEL
from mmlab.workload.allocation_generators import GeneratedAllocations, make_allocation_generator
from mmlab.workload.allocations import ALLOC_PAGES, FREE_PAGES, read_allocations


def saved(tmp_path, **columns):
    np.savez(tmp_path / "s.npz", **{name: np.array(column) for name, column in columns.items()})
    return tmp_path / "s.npz"


def said(path):
    with pytest.raises(InputError) as caught:
        read_allocations(path)
    return [text.removeprefix(f"{path}: ") for text in caught.value.messages]


def test_arrays_and_their_defaults(tmp_path):
    s = read_allocations(saved(tmp_path, op=[0, 3, 2, 1, 4], id=[8, 0, 1, 8, 0], arg=[3, 64, 0, 3, 0], caches=[192]))
    assert (s.events, s.nr_page_ids, s.nr_object_ids, s.caches) == (5, 16, 2, (192,))
    assert s.gfp.tolist() == [GFP_KERNEL] * 5 and s.cpu.tolist() == [0] * 5 and s.node.tolist() == [-1] * 5 and s.time_ns is None


def test_what_is_wrong_with_arrays(tmp_path):
    assert said(saved(tmp_path, id=[1]))[0].startswith("has no column 'op'")
    assert said(saved(tmp_path, op=[0.5], id=[1])) == ["op: must be whole numbers in one dimension, got float64 of shape (1,)"]
    assert said(saved(tmp_path, op=[0, 1], id=[1])) == ["id: must be as long as op (2), got 1"]
    bad = saved(tmp_path, op=[0, 3, 2, 0], id=[0, 0, 0, -4], arg=[11, 0, 1, 0], caches=[64], cpu=[0, 0, 2000, 0], time_ns=[0, 2, 1, 3])
    assert said(bad) == [
        "id[3]: must be between 0 and 1099511627776, got -4 (1 such)", "arg (an order)[0]: must be between 0 and 10, got 11 (1 such)",
        "arg (bytes)[1]: must be between 1 and 4194304, got 0 (1 such)", "arg (a cache)[2]: must be between 0 and 0, got 1 (1 such)",
        "cpu[2]: must be between 0 and 1023, got 2000 (1 such)", "time_ns[2]: must not go back, got 1 after 2 (1 such)",
    ]  # fmt: skip
    (tmp_path / "s.npz").write_bytes(b"no zip")
    assert "cannot be read as .npz" in said(tmp_path / "s.npz")[0]


def parts(pages=1000, seed=3, **params):
    stream = GeneratedAllocations(make_allocation_generator("fragmentation", params), pages, seed)
    found = list(stream.parts())
    assert sum(map(len, found)) == stream.events
    assert max(int((part.id + (1 << part.arg)).max(initial=0)) for part in found) <= stream.nr_page_ids
    return found


def test_fragmentation_fills_frees_and_exchanges():
    fill, free, *rounds = parts(fill=0.8, free=0.25, rounds=3, churn=0.1)
    assert fill.id.tolist() == list(range(800)) and set(fill.op) == {ALLOC_PAGES} and set(fill.gfp) == {GFP_HIGHUSER_MOVABLE}
    assert len(free) == len(set(free.id)) == 200 and set(free.op) == {FREE_PAGES}
    assert [len(r) for r in rounds] == [120] * 3
    for r in rounds:
        assert r.op.tolist() == [FREE_PAGES, ALLOC_PAGES] * 60 and np.array_equal(r.id[::2], r.id[1::2])
        assert not set(r.id) & set(free.id)


def test_patterns():
    assert parts(fill=0.1, free=0.5, pattern="every")[1].id.tolist() == list(range(0, 100, 2))
    assert parts(fill=0.1, free=0.5, pattern="tail")[1].id.tolist() == list(range(50, 100))
    runs = parts(pages=4096, fill=1.0, free=0.25, pattern="runs")[1].id
    assert len(set(runs >> 9)) == 2 and len(runs) == 1024


def test_orders_cpus_batches_and_seeds():
    fill, free, turn = parts(fill=0.8, free=0.5, order=3, rounds=1, churn=0.5, batch=5, cpus=2)
    assert fill.id.tolist() == list(range(0, 800, 8)) and set(fill.arg) == {3}
    assert fill.cpu.tolist() == [0] * 50 + [1] * 50
    assert turn.op.tolist() == ([FREE_PAGES] * 5 + [ALLOC_PAGES] * 5) * 5
    assert np.array_equal(free.id, parts(fill=0.8, free=0.5, order=3)[1].id)
    assert not np.array_equal(free.id, parts(seed=4, fill=0.8, free=0.5, order=3)[1].id)


def test_what_is_wrong_with_params():
    with pytest.raises(InputError) as caught:
        make_allocation_generator("fragmentation", {"fill": 1.5, "order": 11, "gfp": "GFP_KERNAL", "pages": 3}, "workload.params")
    text = "\n".join(caught.value.messages)
    assert "workload.params.pages: unknown key" in text and "workload.params.fill" in text and "workload.params.order" in text
    assert "no GFP flag named 'GFP_KERNAL'" in text
    with pytest.raises(InputError, match="no generator of allocations named 'frag'"):
        make_allocation_generator("frag", {})
    with pytest.raises(InputError, match="pattern: must be one of random, every, tail, runs"):
        make_allocation_generator("fragmentation", {"pattern": "evry"})
