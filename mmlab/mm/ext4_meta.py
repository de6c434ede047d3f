"""The blocks of a disk's file system that describe its files, in the page cache: what /proc/meminfo calls Buffers, and the maps of free blocks.

A mounted disk keeps its superblock and its group descriptors; making, finding and writing files reads the blocks that say so, which stay
cached like a file's pages, and dirties them. fsync() writes a block but leaves its page dirty: the flusher cleans it.
Models: fs/ext4/super.c ext4_fill_super(); fs/ext4/ialloc.c __ext4_new_inode(); fs/ext4/namei.c ext4_lookup(); fs/ext4/mballoc.c
ext4_mb_new_blocks(), ext4_mb_load_buddy(); fs/ext4/inode.c ext4_dirty_inode(); fs/buffer.c __find_get_block(). Without a journal, as on the
recorded machines. Left out: where the blocks lie (places here only tell them apart), buffer heads of pages written through a map, journals, directories but one, blocks of
extents, freeing of blocks. A machine has this once ext4_mount() has run (m.sc[SC_BDEV], the disk's own inode).
"""

from mmlab.kernels.dirty import folio_mark_dirty
from mmlab.kernels.jit import cold, kernel, leaf
from mmlab.kernels.ops import reclaimer_folio_accessed
from mmlab.mm.buffer import bh_lru_install
from mmlab.mm.page_cache import create_empty_buffers, filemap_add, filemap_get_page
from mmlab.mm.readahead import count_read
from mmlab.model.const import PAGE_SHIFT
from mmlab.model.gfp import GFP_HIGHUSER_MOVABLE
from mmlab.model.page import PG_DIRTY, add_refs, page_test
from mmlab.model.rows import INODE_STRIDE, I_BLOCKS, I_INO, I_SIZE_BYTES, SC_BDEV, SC_BUDDY, SC_EXT4_BLOCKS, SC_EXT4_INO

# places in the disk's page cache
SUPERBLOCK, DESCRIPTORS, INODE_BITMAP, DIRECTORY, BLOCK_BITMAPS, INODE_TABLE = 0, 1, 2, 16, 64, 1 << 16
ROOT_INO, FIRST_INO = 2, 12
INODES_A_PAGE = 16  # of 256 bytes
NAMES_A_PAGE = 340  # of 12 bytes, short ones
SMALL_DISK = 512 << 20  # below, blocks have 1 KiB
MAX_EXTENT = 2048  # pages that a write-back asks blocks for at once
MAX_GROUPS = 64  # whose maps a first search loads


@leaf
def blocks_a_page(m):
    """Blocks of the disk in a page."""
    return 4 if m.inode[m.sc[SC_BDEV] * INODE_STRIDE + I_SIZE_BYTES] < SMALL_DISK else 1


@leaf
def group_pages(m):
    """Pages of the disk that a block's bits tell free or used."""
    return 32768 // (blocks_a_page(m) * blocks_a_page(m))


@kernel
def sb_getblk(m, inode, index, read, dirty):
    """A block is looked up, and again if it is changed: in memory from now on, read if need be, then dirty. Returns its page, or -ENOMEM."""
    pfn = filemap_get_page(m, inode, index)
    if pfn < 0:
        pfn = filemap_add(m, inode, index, GFP_HIGHUSER_MOVABLE, -1)
        if pfn < 0:
            return pfn
        if inode == m.sc[SC_BDEV]:
            create_empty_buffers(m, pfn)
            reclaimer_folio_accessed(m, pfn)  # made for use, and then looked up
        count_read(m, read, read)
    if inode == m.sc[SC_BDEV]:
        bh_lru_install(m, pfn)
    reclaimer_folio_accessed(m, pfn)
    if dirty:
        reclaimer_folio_accessed(m, pfn)
        if page_test(m, pfn, PG_DIRTY) == 0:
            folio_mark_dirty(m, pfn)
    return pfn


@leaf
def pinned_dirty(m, index):
    """A block that the mount holds is changed: nobody looks it up."""
    pfn = filemap_get_page(m, m.sc[SC_BDEV], index)
    if page_test(m, pfn, PG_DIRTY) == 0:
        folio_mark_dirty(m, pfn)


@leaf
def inode_block(m, ino, dirty):
    """An inode's place in the table is looked at, or changed."""
    sb_getblk(m, m.sc[SC_BDEV], INODE_TABLE + (ino - 1) // INODES_A_PAGE, 1, dirty)


@kernel
def ext4_mount(m, bdev, buddy):
    """The disk's file system is there: its first blocks are cached, two of them for good. Returns 0, or -ENOMEM."""
    m.sc[SC_BDEV], m.sc[SC_BUDDY], m.sc[SC_EXT4_INO] = bdev, buddy, FIRST_INO
    for index in range(DESCRIPTORS + 1):
        pfn = sb_getblk(m, bdev, index, 1, 0)
        if pfn < 0:
            return pfn
        add_refs(m, pfn, 1)
    inode_block(m, ROOT_INO, 0)
    return 0


@kernel
def ext4_commit_super(m):
    """The superblock says that the file system is in use. Returns 0."""
    pinned_dirty(m, SUPERBLOCK)
    return 0


@leaf
def directory_block(m, inode, dirty):
    """The file's name in the directory is looked at, or made."""
    sb_getblk(m, m.sc[SC_BDEV], DIRECTORY + (m.inode[inode * INODE_STRIDE + I_INO] - FIRST_INO) // NAMES_A_PAGE, 1, dirty)


@kernel
def ext4_create(m, inode):
    """A new file: a name, an inode and its bit. Returns 0."""
    m.inode[inode * INODE_STRIDE + I_INO] = m.sc[SC_EXT4_INO]
    m.sc[SC_EXT4_INO] += 1
    directory_block(m, inode, 1)
    sb_getblk(m, m.sc[SC_BDEV], INODE_BITMAP, 1, 1)
    pinned_dirty(m, DESCRIPTORS)
    inode_block(m, m.inode[inode * INODE_STRIDE + I_INO], 1)
    inode_block(m, ROOT_INO, 1)
    return 0


@cold
def ext4_lookup(m, inode, cached):
    """A file is found by its name; without its inode in memory (cached 0), that is read as well. Returns 0."""
    directory_block(m, inode, 0)
    if cached == 0:
        inode_block(m, m.inode[inode * INODE_STRIDE + I_INO], 0)
    return 0


@leaf
def load_buddy(m, group):
    """The maps of a group's free blocks are used: two blocks, beside the disk's own page cache."""
    first = 2 * group // blocks_a_page(m)
    for index in range(first, (2 * group + 1) // blocks_a_page(m) + 1):
        sb_getblk(m, m.sc[SC_BUDDY], index, 0, 0)


@cold
def ext4_map_blocks(m, inode, index):
    """Write-back has come to pages without blocks: they get some, and all that says so is dirty. Returns 0."""
    row = inode * INODE_STRIDE
    end = min(index + MAX_EXTENT, (m.inode[row + I_SIZE_BYTES] + (1 << PAGE_SHIFT) - 1) >> PAGE_SHIFT)
    group = m.sc[SC_EXT4_BLOCKS] // group_pages(m)
    if m.sc[SC_EXT4_BLOCKS] == 0:  # the first search looks at all
        groups = max(1, (m.inode[m.sc[SC_BDEV] * INODE_STRIDE + I_SIZE_BYTES] >> PAGE_SHIFT) // group_pages(m))
        for other in range(1, min(groups, MAX_GROUPS)):
            sb_getblk(m, m.sc[SC_BDEV], BLOCK_BITMAPS + other // blocks_a_page(m), 1 if other == groups - 1 else 0, 0)
            load_buddy(m, other)
    for _ in range(2):  # to find free blocks, and to take them
        load_buddy(m, group)
    sb_getblk(m, m.sc[SC_BDEV], BLOCK_BITMAPS + group // blocks_a_page(m), 1, 1)
    pinned_dirty(m, DESCRIPTORS)
    inode_block(m, m.inode[row + I_INO], 1)
    m.sc[SC_EXT4_BLOCKS] += max(1, end - index)
    m.inode[row + I_BLOCKS] = max(end, index + 1)
    return 0


@cold
def ext4_dirty_inode(m, inode):
    """A write changes the file's times."""
    inode_block(m, m.inode[inode * INODE_STRIDE + I_INO], 1)
    return 0
