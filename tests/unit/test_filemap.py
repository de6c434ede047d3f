"""The page cache: its index, read-ahead windows (figures measured on Linux 6.12), faults, writing, dropping, refaults, shmem."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mmlab_linux.page_allocator.buddy import BUDDY

from mmlab.kernels.jit import kernel
from mmlab._engine import loop
from mmlab.mm import filemap, files, page_cache, readahead, shmem, swap_slots, swap_state, xarray
from mmlab.model import page as sp
from mmlab.model import rows as r
from mmlab.model import vmstat as v
from mmlab.model.const import ENOMEM, VM_FAULT_MAJOR, VM_FAULT_SIGBUS
from mmlab.model.gfp import GFP_HIGHUSER_MOVABLE, GFP_WRITE
from mmlab.model.page import KIND_FILE, KIND_SHMEM, PG_ACTIVE, PG_DIRTY, PG_LOCKED, PG_READAHEAD, PG_SWAPBACKED, PG_UPTODATE, PG_WORKINGSET
from mmlab.policies import Reclaimer, SlabAllocator, python_function
from mmlab.testing.harness import small_machine

# looked at from Python, in every build
add_mapcount, page_flags, page_index, page_kind, page_mapping, page_refs = (
    python_function(f) for f in (sp.add_mapcount, sp.page_flags, sp.page_index, sp.page_kind, sp.page_mapping, sp.page_refs)
)
MAJOR = VM_FAULT_MAJOR << 40


def machine_with(ra_pages=32, **more):
    m = small_machine(page_allocator=BUDDY, **more)
    m.sc[r.SC_READAHEAD_PAGES] = ra_pages
    return m


def file_of(m, pages, flags=0):
    return m.run(files.inode_create, pages * 4096, flags)


def inode_field(m, inode, field):
    return int(m.inode[inode * r.INODE_STRIDE + field])


def nr_cached(m, inode):
    assert m.run(xarray.xa_check, inode) == 0
    return inode_field(m, inode, r.I_NRPAGES)


def flags_of(m, inode, index):
    return int(page_flags(m, m.run(page_cache.filemap_get_page, inode, index)))


def fread(m, inode, first, pages, advice=0):
    """What a script's fread does: open, advise, read() page by page, close. Returns pages cached afterwards."""
    file = m.run(files.file_open, inode)
    m.run(files.fadvise, file, 0, 0, advice)
    assert m.run(loop.file_io, file, first * 4096, pages * 4096, 4096, 0) == pages * 4096
    m.run(files.file_close, file)
    return nr_cached(m, inode)


# the index --------------------------------------------------------------------------------------------------------------------------------
INDEXES = st.sampled_from([0, 1, 2, 63, 64, 65, 127, 4095, 4096, 4097, 262143, 262144, (1 << 30) - 1, 1 << 39])
STORES = st.lists(st.tuples(INDEXES, st.sampled_from([0, 0, 5 << 2 | 1, 6 << 2 | 1, 0 << 2 | 2, 9 << 2 | 2])), max_size=40)


@settings(max_examples=30, deadline=None)
@given(STORES)
def test_the_index_is_a_dictionary(stores):
    m = index_machine()
    inode = file_of(m, 1)
    model = {}
    for index, entry in stores:
        assert m.run(xarray.xa_store, inode, index, entry) == 0
        model[index] = entry
        model = {i: e for i, e in model.items() if e}
        assert m.run(xarray.xa_check, inode) == 0
        assert inode_field(m, inode, r.I_NRPAGES) == sum(e & 3 == 1 for e in model.values())
        assert inode_field(m, inode, r.I_NRSHADOWS) == sum(e & 3 == 2 for e in model.values())
    found, index = [], m.run(xarray.xa_next, inode, 0)
    while index >= 0:
        found.append((index, m.run(xarray.xa_load, inode, index)))
        index = m.run(xarray.xa_next, inode, index + 1)
    assert found == sorted(model.items())
    for index in model:
        m.run(xarray.xa_store, inode, index, 0)
    assert inode_field(m, inode, r.I_ROOT) == 0 and m.vmstat[v.V_WORKINGSET_NODES] == 0


_index_machine = []


def index_machine():
    if not _index_machine:
        _index_machine.append(machine_with())
    return _index_machine[0]


def test_nodes_of_the_index():
    m = machine_with()
    inode = file_of(m, 1)
    m.run(xarray.xa_store, inode, 0, 5 << 2 | 1)
    assert m.sc[r.SC_XA_TOP] == 0  # page 0 alone lies in the root
    m.run(xarray.xa_store, inode, 100, 6 << 2 | 2)
    assert m.sc[r.SC_XA_TOP] == 3  # two levels: a root, the leaves of 0..63 and 64..127
    assert m.vmstat[v.V_WORKINGSET_NODES] == 1
    m.run(xarray.xa_store, inode, 100, 0)
    assert inode_field(m, inode, r.I_HEIGHT) == 0 and inode_field(m, inode, r.I_ROOT) == 5 << 2 | 1
    assert m.vmstat[v.V_WORKINGSET_NODES] == 0


@kernel
def scarce_alloc(m, st, cache, gfp):
    if cache != r.CACHE_RADIX_TREE_NODE:
        return 0
    st.left[0] -= 1
    return 0 if st.left[0] >= 0 else -ENOMEM


@kernel
def nothing_1(m, st, a):
    return 0


@kernel
def nothing_2(m, st, a, b):
    return 0


@kernel
def nothing_4(m, st, a, b, c, d):
    return 0


SCARCE = SlabAllocator(
    name="scarce", summary="two nodes, then none", new_state=lambda params, machine: {"left": np.array([2])},
    create=nothing_4, alloc=scarce_alloc, free=nothing_1, stat=nothing_2,
)


def test_a_store_without_memory_changes_nothing():
    m = machine_with(slab_allocator=SCARCE)
    inode = file_of(m, 1)
    m.run(xarray.xa_store, inode, 0, 5 << 2 | 1)
    before = m.arrays()["inode"][:64].copy()
    assert m.run(xarray.xa_store, inode, 5000, 6 << 2 | 1) == -ENOMEM  # would take three levels: five nodes
    assert (m.inode[:64] == before).all() and m.run(xarray.xa_check, inode) == 0
    free_pages = m.zone[r.Z_FREE::r.ZONE_STRIDE].sum()
    assert m.run(page_cache.filemap_add, inode, 5000, GFP_HIGHUSER_MOVABLE, -1) == -ENOMEM
    assert m.zone[r.Z_FREE::r.ZONE_STRIDE].sum() <= free_pages and m.vmstat[v.V_NR_FILE_PAGES] == 0


# read(): case readahead-read ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("ra_pages, reads", [
    (32, [(0, 1, 0, 4)]),
    (32, [(0, 4, 0, 12), (4, 1, 0, 30), (5, 64, 0, 126)]),
    (32, [(0, 64, 0, 124)]),
    (32, [(1000, 1, 0, 1), (1001, 1, 0, 2), (3000, 1, 0, 3), (3001, 3, 0, 16)]),
    (32, [(0, 64, files.FADV_RANDOM, 64)]),
    (32, [(0, 64, files.FADV_SEQUENTIAL, 188)]),
    (32, [(0, 1024, 0, 1084)]),
    (4, [(0, 1, 0, 2), (1, 64, 0, 70)]),
    (0, [(0, 64, 0, 64)]),
])
def test_read_ahead_of_read(ra_pages, reads):
    m = machine_with(ra_pages)
    inode = file_of(m, 8192)
    for first, pages, advice, cached in reads:
        assert fread(m, inode, first, pages, advice) == cached
    assert m.vmstat[v.V_NR_FILE_PAGES] == cached and m.vmstat[v.V_PGPGIN] == 4 * cached


def test_the_mark_moves_with_the_windows():
    m = machine_with()
    inode = file_of(m, 8192)
    fread(m, inode, 0, 1)
    assert [i for i in range(4) if flags_of(m, inode, i) & PG_READAHEAD] == [1]
    m.run(files.drop_caches)
    assert nr_cached(m, inode) == 0
    fread(m, inode, 0, 64)
    assert [i for i in range(124) if flags_of(m, inode, i) & PG_READAHEAD] == [92]
    assert not any(flags_of(m, inode, i) & PG_LOCKED for i in range(124))


def test_a_large_read_wants_all_its_pages():
    m = machine_with()
    inode = file_of(m, 8192)
    file = m.run(files.file_open, inode)
    assert m.run(files.file_read, file, 0, 16 * 4096) == 16 * 4096
    assert nr_cached(m, inode) == 32 and flags_of(m, inode, 16) & PG_READAHEAD  # init(16) = 32, the mark after what was asked for
    assert m.run(files.file_read, file, 8191 * 4096, 8192) == 4096  # cut at the end of the file
    assert m.run(files.file_read, file, 8192 * 4096, 4096) == 0


def test_time_and_device():
    m = machine_with()
    m.cost[r.COST_DEVICE_READ], m.cost[r.COST_DEVICE_READ_PAGE] = 1000, 10
    inode = file_of(m, 8192)
    fread(m, inode, 0, 1)
    assert m.sc[r.SC_NOW_NS] == 1000 + 4 * 10  # one request of four pages
    fread(m, inode, 1, 1)
    assert m.sc[r.SC_NOW_NS] == 1040 + 8 * 10  # the mark: next miss 4, window next(4 - 1 + 1) = 8; nobody waits


# faults: cases readahead-mmap, sigbus ---------------------------------------------------------------------------------------------------
VMA = 1


def mapped(m, inode, flags=0):
    file = m.run(files.file_open, inode)
    row = VMA * r.VMA_STRIDE
    m.vma[row + r.VMA_START], m.vma[row + r.VMA_PGOFF], m.vma[row + r.VMA_FLAGS] = 0x10000000, 0, flags
    m.vma[row + r.VMA_FILE], m.vma[row + r.VMA_INODE] = file, inode
    return file


def touch(m, pages):
    """Faults without fault-around: how many were major."""
    return sum(m.run(filemap.filemap_fault, 0, VMA, 0x10000 + page, 0) & MAJOR != 0 for page in pages)


@pytest.mark.parametrize("flags, touches", [
    (0, [(range(1), 1, 32), (range(64), 0, 96), (range(64, 576), 0, 608)]),
    (0, [([4000], 1, 32), ([1000], 1, 64), ([6000], 1, 96), ([4001], 0, 96)]),
    (r.VM_RAND_READ, [(range(16), 16, 16), ([4000], 1, 17)]),
    (r.VM_SEQ_READ, [(range(1), 1, 32), (range(1, 32), 0, 64), (range(32, 512), 0, 544)]),
])
def test_read_ahead_of_faults(flags, touches):
    m = machine_with()
    inode = file_of(m, 8192)
    mapped(m, inode, flags)
    majors = 0
    for pages, major, cached in touches:
        assert touch(m, pages) == major
        assert nr_cached(m, inode) == cached
        majors += major
    assert m.vmstat[v.V_PGMAJFAULT] == majors


def test_many_misses_stop_reading_around():
    m = machine_with()
    inode = file_of(m, 8192)
    file = mapped(m, inode)
    touch(m, range(0, 6400, 64))
    assert m.file[file * r.FILE_STRIDE + r.F_MMAP_MISS] == 100 and nr_cached(m, inode) == 16 + 99 * 32 + 16
    touch(m, [7000])
    assert nr_cached(m, inode) == 100 * 32 + 1
    touch(m, [7000])  # a hit forgives one miss
    touch(m, [7200])
    assert m.file[file * r.FILE_STRIDE + r.F_MMAP_MISS] == 101 and nr_cached(m, inode) == 100 * 32 + 2


def test_end_of_file():
    m = machine_with()
    inode = file_of(m, 12)
    mapped(m, inode)
    assert touch(m, [0]) == 1
    assert [i for i in range(12) if flags_of(m, inode, i) & PG_READAHEAD] == [4]  # 12 pages, a quarter of 32 before the end
    assert m.run(filemap.filemap_fault, 0, VMA, 0x10000 + 12, 0) == -VM_FAULT_SIGBUS
    m.run(files.truncate_inode, inode, 5 * 4096 + 1)
    assert nr_cached(m, inode) == 6 and touch(m, [5]) == 0
    assert m.run(filemap.filemap_fault, 0, VMA, 0x10000 + 6, 0) == -VM_FAULT_SIGBUS


def test_willneed_is_one_request():
    m = machine_with()
    inode = file_of(m, 8192)
    file = mapped(m, inode)
    assert m.run(files.fadvise, file, 0, 1024 * 4096, files.FADV_WILLNEED) == 0
    assert nr_cached(m, inode) == readahead.IO_PAGES == 320
    assert m.run(files.fadvise, file, 4096 * 10 + 1, 4096 * 20, files.FADV_DONTNEED) == 0  # whole pages: 11..29
    assert nr_cached(m, inode) == 320 - 19


# refaults ---------------------------------------------------------------------------------------------------------------------------------
@kernel
def note_refault(m, st, pfn, shadow):
    st.seen[0] = shadow
    return st.answer[0]


WATCHER = Reclaimer(
    name="watcher", summary="answers what the test wants", folio_added=nothing_1, folio_removed=nothing_1, shrink_node=nothing_4,
    new_state=lambda params, machine: {"seen": np.array([-1]), "answer": np.zeros(1, np.int64)}, workingset_refault=note_refault,
)


@pytest.mark.parametrize("answer, flags, activate, restore", [(0, 0, 0, 0), (1, PG_ACTIVE, 1, 0), (3, PG_ACTIVE | PG_WORKINGSET, 1, 1)])
def test_a_refault_is_counted_and_answered(answer, flags, activate, restore):
    m = machine_with(reclaimer=WATCHER)
    m.states["reclaimer"].answer[0] = answer
    inode = file_of(m, 8)
    pfn = m.run(page_cache.filemap_add, inode, 3, GFP_HIGHUSER_MOVABLE, -1)
    assert (page_kind(m, pfn), page_mapping(m, pfn), page_index(m, pfn), page_refs(m, pfn)) == (KIND_FILE, inode, 3, 1)
    assert m.run(page_cache.filemap_remove, pfn, 77) == 0 and inode_field(m, inode, r.I_NRSHADOWS) == 1
    assert m.run(page_cache.filemap_get_page, inode, 3) == -1
    pfn = m.run(page_cache.filemap_add, inode, 3, GFP_HIGHUSER_MOVABLE, -1)
    assert m.states["reclaimer"].seen[0] == 77 and inode_field(m, inode, r.I_NRSHADOWS) == 0
    assert page_flags(m, pfn) & (PG_ACTIVE | PG_WORKINGSET) == flags
    counters = (v.V_WORKINGSET_REFAULT_FILE, v.V_WORKINGSET_ACTIVATE_FILE, v.V_WORKINGSET_RESTORE_FILE)
    assert [m.vmstat[i] for i in counters] == [1, activate, restore]


def test_what_is_no_refault():
    m = machine_with(reclaimer=WATCHER)
    inode = file_of(m, 8)
    for gfp in (GFP_HIGHUSER_MOVABLE, GFP_HIGHUSER_MOVABLE | GFP_WRITE):
        pfn = m.run(page_cache.filemap_add, inode, 0, gfp, -1)
        m.run(page_cache.filemap_remove, pfn, 5)
    assert m.states["reclaimer"].seen[0] == -1  # the second page was going to be overwritten
    m.run(files.drop_caches)
    assert inode_field(m, inode, r.I_NRSHADOWS) == 0
    tmpfs = file_of(m, 8, r.IF_SHMEM)
    m.run(page_cache.filemap_remove, m.run(page_cache.filemap_add, tmpfs, 0, GFP_HIGHUSER_MOVABLE, -1), 5)
    assert inode_field(m, tmpfs, r.I_NRSHADOWS) == 0


# writing, dropping ------------------------------------------------------------------------------------------------------------------------
def test_write_and_fsync():
    m = machine_with()
    m.cost[r.COST_DEVICE_WRITE], m.cost[r.COST_DEVICE_READ_PAGE] = 1000, 10
    inode = file_of(m, 0)
    file = m.run(files.file_open, inode)
    for _ in range(2):
        assert m.run(files.file_write, file, 0, 4 * 4096) == 4 * 4096
    m.run(files.file_write, file, 6 * 4096, 100)
    counters = (v.V_NR_DIRTY, v.V_NR_DIRTIED, v.V_NR_WRITTEN, v.V_PGPGOUT, v.V_PGPGIN)
    assert [m.vmstat[i] for i in counters] == [5, 5, 0, 0, 0]  # rewriting a dirty page counts nothing
    assert inode_field(m, inode, r.I_SIZE_BYTES) == 6 * 4096 + 100
    assert m.run(files.drop_caches) == 0  # all dirty
    assert m.run(files.file_fsync, file) == 5
    assert [m.vmstat[i] for i in counters] == [0, 5, 5, 20, 0]
    assert m.sc[r.SC_NOW_NS] == 2 * 1000 + 5 * 10  # two runs of neighbours
    assert m.run(files.file_fsync, file) == 0
    m.run(files.file_write, file, 0, 1)
    assert m.vmstat[v.V_NR_DIRTIED] == 6
    m.run(files.truncate_inode, inode, 0)
    assert m.vmstat[v.V_NR_DIRTY] == 0 and m.vmstat[v.V_NR_FILE_PAGES] == 0


def test_a_partly_written_last_page():
    m = machine_with()
    inode = file_of(m, 0)
    mapped(m, inode)
    file = m.run(files.file_open, inode)
    m.run(files.file_write, file, 0, 4096 + 3000)  # of the last page three blocks of four
    assert flags_of(m, inode, 0) & PG_UPTODATE and not flags_of(m, inode, 1) & PG_UPTODATE
    assert touch(m, [1]) == 0 and flags_of(m, inode, 1) & PG_UPTODATE
    m.run(files.file_fsync, file)
    assert m.run(files.drop_caches) == 2
    m.run(files.file_write, file, 10, 10)  # within a page that lies on the disk
    assert m.vmstat[v.V_PGPGIN] == 4 and flags_of(m, inode, 0) & PG_UPTODATE


def test_drop_caches_keeps_what_is_in_use():
    m = machine_with(ra_pages=0)
    inode = file_of(m, 8)
    tmpfs = file_of(m, 1, r.IF_SHMEM)
    m.run(shmem.shmem_get_page, tmpfs, 0)
    fread(m, inode, 0, 8)
    file = m.run(files.file_open, inode)
    m.run(files.file_write, file, 0, 4096)
    mapped_page = m.run(page_cache.filemap_get_page, inode, 1)
    add_mapcount(m, mapped_page, 1)
    assert m.run(files.drop_caches) == 6
    assert nr_cached(m, inode) == 2 and nr_cached(m, tmpfs) == 1 and m.vmstat[v.V_DROP_PAGECACHE] == 1


def test_files_go_with_their_last_user():
    m = machine_with()
    inode = file_of(m, 64)
    file = m.run(files.file_open, inode)
    m.run(loop.file_io, file, 0, 64 * 4096, 4096, 0)
    assert m.run(files.do_inode_put, inode) == 1 and nr_cached(m, inode) == 64
    assert m.run(files.file_close, file) == 0
    assert m.vmstat[v.V_NR_FILE_PAGES] == 0
    assert m.vmstat[v.V_PGFREE] == m.vmstat[v.V_PGALLOC_DMA : v.V_PGALLOC_DEVICE + 1].sum() == 64
    assert file_of(m, 1) == inode and m.run(files.file_open, inode) == file  # numbers are used again


# shmem ------------------------------------------------------------------------------------------------------------------------------------
def test_shmem_to_swap_and_back():
    m = machine_with(swap_pages=64)
    m.run(swap_slots.swapon, 65, 0, -2)
    m.sc[r.SC_PAGE_CLUSTER] = 3
    inode = file_of(m, 16, r.IF_SHMEM)
    mapped(m, inode)
    assert touch(m, range(16)) == 0  # zeroed pages, nothing is read
    assert m.vmstat[v.V_NR_SHMEM] == 16 and m.vmstat[v.V_NR_FILE_PAGES] == 16
    m.swap_class[:] = r.CLASS_DATA
    for index in range(16):
        pfn = m.run(page_cache.filemap_get_page, inode, index)
        assert page_kind(m, pfn) == KIND_SHMEM and page_flags(m, pfn) & PG_SWAPBACKED
        assert m.run(shmem.shmem_writepage, pfn) == index + 1
        assert m.run(swap_state.delete_from_swap_cache, pfn, -1) == 0
    assert m.vmstat[v.V_NR_SHMEM] == 0 and m.vmstat[v.V_NR_FILE_PAGES] == 0 and m.sc[r.SC_NR_SWAP_FREE] == 48
    assert touch(m, [9]) == 1 and m.vmstat[v.V_PSWPIN] == 8  # slots 8..15
    assert m.vmstat[v.V_NR_SHMEM] == 1 and m.vmstat[v.V_NR_SWAPCACHED] == 7 and m.vmstat[v.V_NR_FILE_PAGES] == 8
    assert m.sc[r.SC_NR_SWAP_FREE] == 49 and flags_of(m, inode, 9) & PG_DIRTY
    assert touch(m, [10]) == 0  # in the swap cache
    m.run(files.truncate_inode, inode, 0)
    assert m.sc[r.SC_NR_SWAP_FREE] == 64 and m.vmstat[v.V_NR_FILE_PAGES] == 0 and nr_cached(m, inode) == 0


def test_shmem_files():
    m = machine_with()
    inode = file_of(m, 8, r.IF_SHMEM)
    file = m.run(files.file_open, inode)
    assert m.run(files.file_read, file, 0, 4096 * 8) == 4096 * 8 and nr_cached(m, inode) == 0  # holes stay holes
    assert m.run(files.file_write, file, 4096, 10) == 10 and nr_cached(m, inode) == 1
    assert m.vmstat[v.V_NR_DIRTY] == 0 and flags_of(m, inode, 1) & PG_DIRTY
    assert m.run(files.file_fsync, file) == 0


# under pressure ---------------------------------------------------------------------------------------------------------------------------
def test_a_file_larger_than_memory():
    from mmlab_linux.reclaimer.two_list import TWO_LIST

    m = machine_with(memory="16M", reclaimer=TWO_LIST)
    inode = file_of(m, 8192)
    file = m.run(files.file_open, inode)
    for _ in range(2):
        assert m.run(loop.file_io, file, 0, 8192 * 4096, 4096, 0) == 8192 * 4096
        assert m.vmstat[v.V_NR_FILE_PAGES] == nr_cached(m, inode) > 1000
    assert m.vmstat[v.V_WORKINGSET_REFAULT_FILE] == inode_field(m, inode, r.I_NRPAGES) + inode_field(m, inode, r.I_NRSHADOWS) == 8192
    for index in range(8192):
        pfn = m.run(page_cache.filemap_get_page, inode, index)
        assert pfn < 0 or (page_flags(m, pfn) & PG_LOCKED == 0 and page_refs(m, pfn) <= 2)
    m.run(files.truncate_inode, inode, 0)
    assert m.vmstat[v.V_NR_FILE_PAGES] == 0
