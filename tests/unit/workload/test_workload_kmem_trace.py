"""Allocator traces from text: the fields of several kernels and tools, what was lost, and what is said about traces that are not right."""

import gzip

import numpy as np
import pytest

from mmlab.errors import InputError
from mmlab.model import gfp
from mmlab.workload import kmem_trace
from mmlab.workload.allocations import ALLOC_OBJECT, ALLOC_PAGES, FREE_OBJECT, FREE_PAGES, KMALLOC
from mmlab.workload.gfp_names import gfp_flags
from mmlab.workload.kmem_trace import read_kmem_trace
from mmlab.workload.traces import shipped_allocations

FTRACE = """\
# tracer: nop
# entries-in-buffer/entries-written: 7/19   #P:2
            init-1       [000] .....     4.653928: mm_page_alloc: page=000000000eb59176 pfn=0x4400 order=2 migratetype=2 gfp_flags=GFP_KERNEL|__GFP_COMP
 kworker/1:2-77       [001] d..1.     4.653930: mm_page_free: page=00000000ae99bb42 pfn=0x4402 order=0
CPU:1 [LOST 30 EVENTS]
   a: b [x] c-9       [001] .....     4.700000: mm_page_alloc: page=(nil) pfn=0x0 order=9 migratetype=1 gfp_flags=GFP_TRANSHUGE
            init-1       [000] .....     4.700001: sched_switch: prev_comm=init
            init-1       [001] .....     4.700002: mm_page_alloc: page=00000000ae99bb42 pfn=0x4c00 order=0 migratetype=1 gfp_flags=0xcc0
"""
OBJECTS = """\
 x-1 [000] .....     1.000001: kmalloc: call_site=f+0x1/0x2 [mod] ptr=00000000ce844cf9 bytes_req=72 bytes_alloc=96 gfp_flags=GFP_NOFS|__GFP_ZERO node=1 accounted=false
 x-1 [000] .....     1.000002: kmem_cache_alloc: call_site=g+0x2 ptr=00000000d1de5a42 bytes_req=184 bytes_alloc=192 gfp_flags=GFP_KERNEL node=-1 accounted=true
 x-1 [000] .....     1.000003: kmem_cache_alloc_node: call_site=g+0x2 ptr=ffffffffd1de5a42 bytes_req=40 bytes_alloc=40 gfp_flags=GFP_KERNEL node=0
 x-1 [001] .....     1.000004: kfree: call_site=h+0x1 ptr=0000000000000000
 x-1 [001] .....     1.000005: kfree: call_site=h+0x1 ptr=00000000ce844cf9
 x-1 [001] .....     1.000006: kmem_cache_free: call_site=h+0x1 ptr=00000000d1de5a42 name=filp
"""


def file(tmp_path, text):
    path = tmp_path / "t.txt"
    path.write_text(text)
    return path


def message(path, **more):
    with pytest.raises(InputError) as caught:
        read_kmem_trace(path, **more)
    (text,) = caught.value.messages
    return text


def test_pages_of_ftrace(tmp_path):
    s = read_kmem_trace(file(tmp_path, FTRACE))
    assert s.op.tolist() == [ALLOC_PAGES, FREE_PAGES, ALLOC_PAGES]
    assert s.id.tolist() == [0, 2, 0x800]  # frames from the lowest one's 4 MiB on
    assert s.arg.tolist() == [2, 0, 0]
    assert s.gfp.tolist() == [gfp.GFP_KERNEL | gfp.GFP_COMP, 0, gfp.GFP_KERNEL]
    assert s.cpu.tolist() == [0, 1, 1] and s.node.tolist() == [-1, -1, -1]
    assert s.time_ns.tolist() == [0, 2000, 46_074_000]
    counted = {name: s.meta[name] for name in ("lines", "other_lines", "lost_events", "failed_in_trace")}
    assert counted == {"lines": 8, "other_lines": 2, "lost_events": 19 - 7 + 30, "failed_in_trace": 1}
    assert (s.nr_page_ids, s.nr_object_ids) == (0x801, 0)


def test_objects_by_pointer_and_caches_by_size(tmp_path):
    s = read_kmem_trace(file(tmp_path, OBJECTS))
    assert s.op.tolist() == [KMALLOC, ALLOC_OBJECT, ALLOC_OBJECT, FREE_OBJECT, FREE_OBJECT]
    assert s.id[0] == s.id[3] and s.id[1] == s.id[4] and len(set(s.id[:3])) == 3
    assert s.caches == (40, 184)
    assert s.arg.tolist() == [72, 1, 0, 0, 0]
    assert s.node.tolist() == [1, -1, 0, -1, -1]
    assert s.meta["frees_of_nothing"] == 1
    assert (s.nr_page_ids, s.nr_object_ids) == (0, 3)


def test_a_trace_with_both_gives_pages_unless_asked(tmp_path):
    path = file(tmp_path, FTRACE + OBJECTS)
    assert [len(read_kmem_trace(path, events)) for events in ("auto", "pages", "objects", "all")] == [3, 3, 5, 8]
    assert "no events of objects" in message(file(tmp_path, FTRACE), events="objects")


def test_perf_script_and_older_kernels(tmp_path):
    text = """\
swapper     0 [003]  5120.123456789:     kmem:mm_page_alloc: page=0xffffea0000110040 pfn=17408 order=0 migratetype=0 gfp_flags=GFP_ATOMIC|__GFP_COLD
            7fff81 ret_from_fork (kernel)
cc1  99 [002]  5120.200000000:     kmem:mm_page_free_direct: page=0xffffea0000110040 pfn=17408 order=0
cc1  99 [002]  5120.300000000: PERF_RECORD_LOST lost 5
"""
    s = read_kmem_trace(file(tmp_path, text))
    assert (s.op.tolist(), s.id.tolist(), s.cpu.tolist()) == ([ALLOC_PAGES, FREE_PAGES], [0, 0], [3, 2])
    assert s.time_ns.tolist() == [0, 76_543_211]
    assert s.gfp[0] == gfp.GFP_ATOMIC
    assert s.meta["lost_events"] == 5


def test_batched_frees_count_only_where_there_are_no_others(tmp_path):
    batched = " x-1 [000] .....     9.000000: mm_page_free_batched: page=1 pfn=0x4400 order=0\n"
    assert read_kmem_trace(file(tmp_path, FTRACE + batched)).op.tolist() == [ALLOC_PAGES, FREE_PAGES, ALLOC_PAGES]
    only = [line for line in FTRACE.splitlines() if "mm_page_free:" not in line]
    assert read_kmem_trace(file(tmp_path, "\n".join(only) + "\n" + batched)).op.tolist() == [ALLOC_PAGES, ALLOC_PAGES, FREE_PAGES]


def test_blocks_end_within_lines(tmp_path, monkeypatch):
    path = file(tmp_path, (FTRACE + OBJECTS) * 20)
    whole = read_kmem_trace(path, "all")
    monkeypatch.setattr(kmem_trace, "_BLOCK", 256)
    split = read_kmem_trace(path, "all")
    for name in ("op", "id", "arg", "gfp", "cpu", "node", "time_ns"):
        assert np.array_equal(getattr(whole, name), getattr(split, name)), name
    assert whole.meta == split.meta


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("order=2", "order=11", ":3: order must be 0 to 10"),
        ("pfn=0x4402 order=0", "pfn=0x4402", ":4: an event without a field"),
        ("pfn=0x4400", "pfn=main", ":3: an event without a field that it needs, or one that is no number"),
        ("__GFP_COMP", "__GFP_COMB", ":3: gfp_flags=GFP_KERNEL|__GFP_COMB: no GFP flag named '__GFP_COMB'; did you mean '__GFP_COMP'?"),
        ("gfp_flags=0xcc0\n", "gfp_flags=0xcc0", ":8: the file ends in the middle of a line"),
    ],
)
def test_what_is_wrong_is_said_with_file_and_line(tmp_path, old, new, said):
    path = file(tmp_path, FTRACE.replace(old, new))
    assert message(path).startswith(f"{path}{said}")


def test_files_that_are_no_traces(tmp_path):
    assert "has no kmem event in 2 lines" in message(file(tmp_path, "one: two\nthree\n"))
    assert "no such file" in message(tmp_path / "none")
    path = tmp_path / "t.txt.gz"
    path.write_bytes(gzip.compress(FTRACE.encode() * 50)[:-40])
    assert message(path).startswith(f"{path}:")


def test_gfp_texts():
    assert gfp_flags("GFP_HIGHUSER_MOVABLE|__GFP_ZERO") == gfp.GFP_HIGHUSER_MOVABLE | gfp.GFP_ZERO
    assert gfp_flags("__GFP_WAIT|__GFP_REPEAT") == gfp.GFP_RECLAIM | gfp.GFP_RETRY_MAYFAIL
    assert gfp_flags("GFP_NOWAIT|0x2000000") == gfp.GFP_NOWAIT


def test_the_shipped_trace():
    (path,) = shipped_allocations().values()
    s = read_kmem_trace(path, "all")
    assert len(s) + s.meta["other_lines"] + s.meta["frees_of_nothing"] == s.meta["lines"] - 1  # and the line that says nothing was lost
    assert s.meta["lost_events"] == 0 and set(s.op) == {ALLOC_PAGES, FREE_PAGES, ALLOC_OBJECT, KMALLOC, FREE_OBJECT}
