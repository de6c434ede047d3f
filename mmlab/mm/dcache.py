"""Names and inodes of files in memory: cached while they are used, and until reclaim takes them.

A file's dentry waits on a list once nobody has the file open; without a dentry the inode waits on another, if it has no pages and is not
dirty. What goes is read again at the next open. Names of /proc and /sys wait as well, on lists of their own, and take their inodes with
them; their directories are held by the names in them (I_OPENS counts these too) and go with the last one. The cached map of a file's blocks (ext4's extent status) has a shrinker of its own.
Models: fs/dcache.c dput(), __dentry_kill(), shrink_dentry_list(), prune_dcache_sb(); fs/namei.c link_path_walk(); fs/inode.c iput(), inode_lru_isolate(), evict(); fs/super.c super_cache_count(),
super_cache_scan(); fs/ext4/extents_status.c ext4_es_count(), ext4_es_scan(); fs/kernfs/file.c kernfs_unlink_open_file(). Left out: directories of
the disk, RCU (objects are freed at once), a list a node and cgroup.
"""

from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.list_lru import list_lru_add, list_lru_del
from mmlab.kernels.services import kmem_cache_alloc, kmem_cache_free, xa_store
from mmlab.mm.kfree_rcu import kfree_rcu
from mmlab.mm.objcg import alloc_object, free_object
from mmlab.mm.slab import KMALLOC_FIRST
from mmlab.mm.xarray import xa_next
from mmlab.model.const import ENOMEM
from mmlab.model.gfp import GFP_KERNEL, GFP_NOFS
from mmlab.model.rows import (
    CACHE_DENTRY, CACHE_EXTENT_STATUS, CACHE_INODE, CACHE_LSM_INODE, CACHE_PROC_INODE, CACHE_SHMEM_INODE, CACHE_SYSFS_INODE, IF_LINK,
    IF_NEGATIVE, IF_PROC, IF_SHMEM, IF_SYSFS, IF_WB_SHIFT, INODE_STRIDE, IO_NONE, I_DENTRY, I_EXTENTS, I_EXTENT_OBJ, I_FLAGS, I_HEIGHT, I_IO_LIST, I_LRU, I_LSM,
    I_NRPAGES, I_OBJ, I_OPENS, I_PARENT, I_REFERENCED, I_REF_DENTRY, I_REF_EXTENTS, I_REF_INODE, I_ROOT, SC_INODE_TOP,
    SHR_DENTRIES, SHR_EXTENTS, SHR_FIRST, SHR_INODES, SHR_NR, SHR_PROC, SHR_STRIDE, SHR_SYSFS,
)

KERNFS_OPEN_NODE = KMALLOC_FIRST + 4  # kmalloc-96
EXTENTS_OF_A_FILE = 2  # what is written, in one piece, and the hole behind it


@leaf
def inode_cache(m, inode):
    """The slab cache of the inode's file system."""
    flags = m.inode[inode * INODE_STRIDE + I_FLAGS]
    return CACHE_SHMEM_INODE if flags & IF_SHMEM else CACHE_PROC_INODE if flags & IF_PROC else CACHE_SYSFS_INODE if flags & IF_SYSFS else CACHE_INODE


@leaf
def iget(m, inode):
    """Make sure that the inode is in memory, if there is such a file: 0, or -ENOMEM."""
    row = inode * INODE_STRIDE
    if m.inode[row + I_OBJ] == 0 and m.inode[row + I_FLAGS] & IF_NEGATIVE == 0:
        obj = alloc_object(m, inode_cache(m, inode))
        if obj < 0:
            return -ENOMEM
        blob = kmem_cache_alloc(m, CACHE_LSM_INODE, GFP_NOFS)
        if blob < 0:
            free_object(m, inode_cache(m, inode), obj)
            return -ENOMEM
        m.inode[row + I_OBJ], m.inode[row + I_LSM] = obj, blob
    return 0


@leaf
def dentry_lru(m, inode):
    """The list on which the file's name waits."""
    flags = m.inode[inode * INODE_STRIDE + I_FLAGS]
    return SHR_PROC if flags & IF_PROC else SHR_SYSFS if flags & IF_SYSFS else SHR_DENTRIES


@leaf
def parent_of(m, inode):
    """The directory of a name of /proc or /sys: its row, 0 for what lies at the top (and for files of disks)."""
    row = inode * INODE_STRIDE
    return m.inode[row + I_PARENT] if m.inode[row + I_FLAGS] & (IF_PROC | IF_SYSFS) else 0


@kernel
def d_alloc(m, inode):
    """A dentry and the inode for a name whose directory is in memory: the name holds the directory. 0, or -ENOMEM."""
    row = inode * INODE_STRIDE
    if iget(m, inode) < 0:
        return -ENOMEM
    obj = alloc_object(m, CACHE_DENTRY)
    if obj < 0:
        return -ENOMEM
    if m.inode[row + I_LRU] == SHR_INODES:
        list_lru_del(m, inode)
    m.inode[row + I_DENTRY] = obj
    parent = parent_of(m, inode)
    if parent:
        m.inode[parent * INODE_STRIDE + I_OPENS] += 1
    return 0


@kernel
def link_path_walk(m, inode):
    """The directories above a name are in memory from now on, from the top down. 0, or -ENOMEM."""
    while True:
        at = parent_of(m, inode)
        if at == 0 or m.inode[at * INODE_STRIDE + I_DENTRY]:
            return 0
        above = parent_of(m, at)
        while above and m.inode[above * INODE_STRIDE + I_DENTRY] == 0:
            at = above
            above = parent_of(m, at)
        if d_alloc(m, at) < 0:
            return -ENOMEM


@kernel
def d_open(m, inode):
    """Somebody opens the file: its inode, its dentry and the directories above are in memory from now on. Returns 0, or -ENOMEM."""
    row = inode * INODE_STRIDE
    if iget(m, inode) < 0:
        return -ENOMEM
    if m.inode[row + I_DENTRY] == 0 and (link_path_walk(m, inode) < 0 or d_alloc(m, inode) < 0):
        return -ENOMEM
    m.inode[row + I_OPENS] += 1
    return 0


@leaf
def d_free(m, inode):
    """The dentry goes; what it held of its directory is the caller's to drop."""
    row = inode * INODE_STRIDE
    if m.inode[row + I_LRU] != SHR_INODES:
        list_lru_del(m, inode)
    if m.inode[row + I_DENTRY]:
        free_object(m, CACHE_DENTRY, m.inode[row + I_DENTRY])
        m.inode[row + I_DENTRY] = 0
    m.inode[row + I_REFERENCED] &= ~I_REF_DENTRY


@leaf
def dput(m, inode):
    """An open file is closed. The last one leaves the dentry on the list; one that is there already counts as used. Files of tmpfs stay."""
    row = inode * INODE_STRIDE
    m.inode[row + I_OPENS] -= 1
    if m.inode[row + I_OPENS] or m.inode[row + I_FLAGS] & IF_SHMEM:
        return
    if m.inode[row + I_LRU] == 0:
        list_lru_add(m, dentry_lru(m, inode), inode)
    else:
        m.inode[row + I_REFERENCED] |= I_REF_DENTRY


@leaf
def mapping_shrinkable(m, inode):
    """1 if no page keeps the inode in memory; shadows do while they need a node."""
    row = inode * INODE_STRIDE
    return 1 if m.inode[row + I_NRPAGES] == 0 and (m.inode[row + I_ROOT] == 0 or m.inode[row + I_HEIGHT] == 0) else 0


@leaf
def inode_add_lru(m, inode):
    """An inode without dentry waits to be taken, unless it has pages or is dirty."""
    row = inode * INODE_STRIDE
    if m.inode[row + I_OBJ] == 0 or m.inode[row + I_DENTRY] or m.inode[row + I_IO_LIST] != IO_NONE or mapping_shrinkable(m, inode) == 0:
        return
    if m.inode[row + I_LRU] == 0:
        list_lru_add(m, SHR_INODES, inode)
    else:
        m.inode[row + I_REFERENCED] |= I_REF_INODE


@leaf
def es_insert(m, inode):
    """The file's blocks are looked up: their map is cached (and used)."""
    row = inode * INODE_STRIDE
    m.inode[row + I_REFERENCED] |= I_REF_EXTENTS
    while m.inode[row + I_EXTENTS] < EXTENTS_OF_A_FILE:
        obj = kmem_cache_alloc(m, CACHE_EXTENT_STATUS, GFP_KERNEL)
        if obj < 0:
            return
        m.inode[row + I_EXTENT_OBJ + m.inode[row + I_EXTENTS]] = obj
        m.inode[row + I_EXTENTS] += 1
        m.shrinker[SHR_EXTENTS * SHR_STRIDE + SHR_NR] += 1


@leaf
def es_remove(m, inode):
    """One cached entry of the file's map goes."""
    row = inode * INODE_STRIDE
    m.inode[row + I_EXTENTS] -= 1
    m.shrinker[SHR_EXTENTS * SHR_STRIDE + SHR_NR] -= 1
    kmem_cache_free(m, m.inode[row + I_EXTENT_OBJ + m.inode[row + I_EXTENTS]])


@kernel
def evict(m, inode):
    """The inode leaves memory, with the shadows and the map that hang on it."""
    row = inode * INODE_STRIDE
    list_lru_del(m, inode)
    at = xa_next(m, inode, 0)
    while at >= 0:
        xa_store(m, inode, at, 0)
        at = xa_next(m, inode, at + 1)
    while m.inode[row + I_EXTENTS] > 0:
        es_remove(m, inode)
    if m.inode[row + I_OBJ]:
        free_object(m, inode_cache(m, inode), m.inode[row + I_OBJ])
        kmem_cache_free(m, m.inode[row + I_LSM])
    m.inode[row + I_OBJ] = 0
    m.inode[row + I_REFERENCED] = 0
    m.inode[row + I_FLAGS] &= (1 << IF_WB_SHIFT) - 1
    return 0


@kernel
def name_use(m, inode):
    """A file of /proc or /sys is opened and closed, if it exists. Returns 0, or -ENOMEM."""
    if d_open(m, inode) < 0:
        return -ENOMEM
    dput(m, inode)
    if m.inode[inode * INODE_STRIDE + I_FLAGS] & (IF_SYSFS | IF_NEGATIVE | IF_LINK) == IF_SYSFS:
        open_node = kmem_cache_alloc(m, KERNFS_OPEN_NODE, GFP_KERNEL)
        if open_node < 0:
            return -ENOMEM
        kfree_rcu(m, open_node)
    return 0


@kernel
def dentry_kill(m, inode):
    """A name of /proc or /sys goes with its inode, and so do the directories above that nothing else holds."""
    while inode:
        d_free(m, inode)
        evict(m, inode)
        inode = parent_of(m, inode)
        if inode:
            m.inode[inode * INODE_STRIDE + I_OPENS] -= 1
            if m.inode[inode * INODE_STRIDE + I_OPENS]:
                break
    return 0


@kernel
def prune_dcache(m, which, nr_to_scan):
    """Walk a list of dentries from the oldest on: those in use leave it, used ones get another round, the others go. Returns how many left."""
    freed = 0
    inode = m.shrinker[which * SHR_STRIDE + SHR_FIRST]
    for _ in range(nr_to_scan):
        if inode == 0:
            break
        row = inode * INODE_STRIDE
        if m.inode[row + I_OPENS] == 0 and m.inode[row + I_REFERENCED] & I_REF_DENTRY:
            m.inode[row + I_REFERENCED] &= ~I_REF_DENTRY
            list_lru_add_again(m, which, inode)
        else:
            list_lru_del(m, inode)
            freed += 1
            if m.inode[row + I_OPENS] == 0:
                if which == SHR_DENTRIES:
                    d_free(m, inode)
                    inode_add_lru(m, inode)
                else:
                    dentry_kill(m, inode)
        inode = m.shrinker[which * SHR_STRIDE + SHR_FIRST]
    return freed


@leaf
def list_lru_add_again(m, which, inode):
    """To the end of its list."""
    list_lru_del(m, inode)
    list_lru_add(m, which, inode)


@kernel
def prune_icache(m, nr_to_scan):
    """The same with inodes that have no dentry. Returns how many left the list."""
    freed = 0
    inode = m.shrinker[SHR_INODES * SHR_STRIDE + SHR_FIRST]
    for _ in range(nr_to_scan):
        if inode == 0:
            break
        row = inode * INODE_STRIDE
        if m.inode[row + I_DENTRY] or m.inode[row + I_IO_LIST] != IO_NONE or mapping_shrinkable(m, inode) == 0:
            list_lru_del(m, inode)
            freed += 1
        elif m.inode[row + I_REFERENCED] & I_REF_INODE:
            m.inode[row + I_REFERENCED] &= ~I_REF_INODE
            list_lru_add_again(m, SHR_INODES, inode)
        else:
            evict(m, inode)
            freed += 1
        inode = m.shrinker[SHR_INODES * SHR_STRIDE + SHR_FIRST]
    return freed


@leaf
def super_cache_count(m):
    """Dentries and inodes that wait."""
    return m.shrinker[SHR_DENTRIES * SHR_STRIDE + SHR_NR] + m.shrinker[SHR_INODES * SHR_STRIDE + SHR_NR]


@kernel
def pseudo_cache_scan(m, which, nr_to_scan):
    """The names of /proc (SHR_PROC) or /sys (SHR_SYSFS): their inodes go with them. Returns names that left."""
    names = m.shrinker[which * SHR_STRIDE + SHR_NR]
    return prune_dcache(m, which, nr_to_scan * names // (names + 1) + 1)


@kernel
def super_cache_scan(m, nr_to_scan):
    """Both lists in proportion to their lengths, one more of each. Returns objects that left."""
    dentries = m.shrinker[SHR_DENTRIES * SHR_STRIDE + SHR_NR]
    inodes = m.shrinker[SHR_INODES * SHR_STRIDE + SHR_NR]
    total = dentries + inodes + 1
    freed = prune_dcache(m, SHR_DENTRIES, nr_to_scan * dentries // total + 1)
    return freed + prune_icache(m, nr_to_scan * inodes // total + 1)


@kernel
def ext4_es_scan(m, nr_to_scan):
    """Entries of the files' maps, file by file from where the last scan stopped; a map in use gets another round. Returns entries freed."""
    top = m.sc[SC_INODE_TOP]
    at = m.shrinker[SHR_EXTENTS * SHR_STRIDE + SHR_FIRST]
    scanned = 0
    freed = 0
    for _ in range(2 * top):
        if scanned >= nr_to_scan:
            break
        at = at % top + 1
        row = at * INODE_STRIDE
        if m.inode[row + I_EXTENTS] == 0:
            continue
        if m.inode[row + I_REFERENCED] & I_REF_EXTENTS:
            m.inode[row + I_REFERENCED] &= ~I_REF_EXTENTS
            scanned += m.inode[row + I_EXTENTS]
            continue
        while m.inode[row + I_EXTENTS] > 0 and scanned < nr_to_scan:
            es_remove(m, at)
            scanned += 1
            freed += 1
    m.shrinker[SHR_EXTENTS * SHR_STRIDE + SHR_FIRST] = at if at else 0
    return freed
