"""Figures of allocator programs: from a log made by hand, and from the recorded runs' own data."""

import gzip
import hashlib
import json
import shutil

import pytest

from mmlab.verify import Unsupported, find_cases
from mmlab.verify.probe import digest

GEOMETRY = "size={} object_size=7 align=8 inuse=7 offset=0 order=1 objects={} min_order=0 min_partial=5 cpu_partial=120 cpu_partial_slabs=2 refcount=3 flags=10"
ZONE = "Z 0 DMA start=1 spanned=9 present=8 managed=7 free={} boost=0 highatomic=0 free_highatomic=0 flags=1f protection=0,10 numa={}"
LOG = "\n".join([
    "ZL 0 fallback 0:Normal 0:DMA32",
    "DUMP a", ZONE.format(100, "5,0,0,0,5,0"), "C 0 DMA cpu=0 count=2 high=4 alloc_factor=0 free_count=0 free_diff=-3", "P 0 DMA cpu=0 list=1 17 18",
    "F 0 DMA order=0 mt=1 20 22", "B 0 DMA first=512 0 1 x", "M 0 DMA first=512 5", "END",
    "A 7 8 -1", "A 9",
    "DUMP b", ZONE.format(98, "8,1,0,0,5,0"), "C 0 DMA cpu=0 count=2 high=4 alloc_factor=0 free_count=0 free_diff=0", "END",
    "NEW x K root " + GEOMETRY.format(104, 39), "NEW y failed", "K kmalloc-8 " + GEOMETRY.format(8, 512), "S 8 0 K s " + GEOMETRY.format(8, 1024), "S 9 0 failed",
    "O c=0 100:0 100:1 101:0 -1", "D c=0 100", "O c=0 100:3 101:1", "O c=1 100:0",
    "CACHE d c=0 K x size=104", "cpu 0 freelist=[1,2,3]", "cpuslab pfn=100 node=0 inuse=39 objects=39 frozen=1 slabs=0 free=[]",
    "cpupartial pfn=101 node=0 inuse=2 objects=39 frozen=0 slabs=1 free=[]", "node 0 nr_partial=1 nr_slabs=3 total_objects=117",
    "partial pfn=102 node=0 inuse=1 objects=39 frozen=0 slabs=-1 free=[]", "END",
    "M 1 500:0 ksize=8 cache=kmalloc-8", "M 9000 512/2 ksize=16384 cache=-", "M 5 -1",
]) + "\n"


@pytest.fixture
def folder(result_folder):
    return result_folder(files={"p.probe": LOG, "cut.probe": "DUMP a\n"})


COUNTERS = [{"zone": [0, "DMA"], "free": 97, "boost": 0, "highatomic": 0, "free_highatomic": 0,
             "pcp": [{"cpu": 0, "count": 2, "high": 4, "alloc_factor": 0, "free_count": 0}]}]


@pytest.mark.parametrize(("what", "value"), [
    ("pfns[0]", digest([7, 8, -1])), ("count[0]", 2), ("count[1]", 1),
    ("free_lists[a]", digest([[0, "DMA", {"0": {"1": [20, 22]}}]])), ("pcp_lists[a]", digest([[0, "DMA", 0, {"1": [17, 18]}]])),
    ("pageblocks[a]", digest([[0, "DMA", [0, 1, None]]])), ("counters[a]", digest(COUNTERS)),
    ("zone[a][0,DMA].protection", [0, 10]), ("zone[a][0,DMA].flags", 31), ("zone[a][0,DMA].pcp_high", [4]), ("zone[a][0,DMA].first_pageblock", 1),
    ("numa[a,b][0,DMA]", [3, 1, 0, 0, 0, 0]), ("zonelist[0,fallback]", ["0:Normal", "0:DMA32"]),
    ("cache[x].root", "root"), ("cache[x].objects", 39), ("cache[kmalloc-8].size", 8), ("sweep[8,0].objects", 1024),
    ("table", [[8, 0, 8, 8, 1, 1024, 0, 5, 120, 2, 16]]),
    ("slabs", [[0, 0, 1, -1], [2, 1], [0]]),
    ("slab_state[d]", {"cpu": [[2, 39, 39]], "cpu_partial": [[1, 2, 39]], "node_partial": [[3, 1, 39]], "freelist": [3],
                       "nodes": [{"nr_partial": 1, "nr_slabs": 3, "total_objects": 117}]}),
    ("kmalloc[0]", [1, 8, "kmalloc-8", -1]), ("kmalloc[1]", [9000, 16384, "pages", 2]), ("kmalloc[2]", [5, -1, "failed", -1]),
])
def test_figure(folder, what, value):
    assert folder.figure(f"probe[p].{what}") == value


@pytest.mark.parametrize("fid", ["probe[q].table", "probe[p@0].pfns[0]", "probe[p].pfns[2]", "probe[p].free_lists[b]", "probe[p].free_lists[z]",
                                 "probe[p].zone[a][1,DMA].flags", "probe[p].zone[a][0,DMA].nosuch", "probe[p].cache[y].size", "probe[p].kmalloc[3]"])
def test_unsupported(folder, fid):
    with pytest.raises(Unsupported):
        folder.figure(fid)


def test_a_log_that_ends_inside_a_dump_is_an_error(folder):
    with pytest.raises(Exception, match="ends inside a dump"):
        folder.figure("probe[cut].counters[a]")


def test_digest():
    assert digest({"b": [1, None], "a": 2}) == hashlib.sha256(b'{"a":2,"b":[1,null]}').hexdigest()[:16]


def test_a_runs_own_start_state_as_log_or_document(result_folder):
    document = gzip.compress(json.dumps({"zonelists": {}, "states": {}, "pfns": [[1]]}).encode())
    folder = result_folder(files={"p.run0.json.gz": document, "p@1.probe": "A 2\n", "p.run1.json.gz": document})
    assert folder.figure("probe[p@0].pfns[0]") == digest([1])
    assert folder.figure("probe[p@1].pfns[0]") == digest([2])  # the log counts where both are there


def test_recorded_runs_give_the_expected_digests(ground_truth, result_folder):
    folder = result_folder()
    nr_figures = 0
    for case in find_cases([ground_truth / "allocators"], case="buddy-merge"):
        for figure in case.figures:
            if figure.data:
                shutil.copy(case.path / figure.data, folder.path)
                assert folder.figure(figure.id) == figure.value, figure.id
                nr_figures += 1
    assert nr_figures == 102
