"""Placeholders for services that are still being written."""

from mmlab.kernels.jit import kernel


@kernel
def alloc_pages(m, gfp, order, node):
    return -1


@kernel
def free_pages(m, pfn, order):
    return -1


@kernel
def folio_put(m, pfn):
    return -1


@kernel
def folio_referenced(m, pfn):
    return -1


@kernel
def reclaim_folio(m, pfn, scan_flags):
    return -1


@kernel
def rmap_walk(m, pfn, what):
    return -1


@kernel
def alloc_anon_folio(m, mm, vma, vpn, order, gfp):
    return -1


@kernel
def swap_in(m, mm, vma, vpn, entry, access):
    return -1


@kernel
def filemap_fault(m, mm, vma, vpn, access):
    return -1


@kernel
def filemap_get_page(m, inode, index):
    return -1


@kernel
def kmem_cache_alloc(m, cache, gfp):
    return -1


@kernel
def kmem_cache_free(m, obj):
    return -1


@kernel
def pte_alloc(m, mm, vpn):
    return -1


@kernel
def anon_vma_prepare(m, vma):
    return -1


@kernel
def zap_pte(m, mm, vma, slot):
    return -1


@kernel
def wake_kswapd(m, node, order):
    return -1


@kernel
def out_of_memory(m, task, order):
    return -1


PLACEHOLDERS = {"alloc_pages": alloc_pages, "free_pages": free_pages, "folio_put": folio_put, "folio_referenced": folio_referenced, "reclaim_folio": reclaim_folio, "rmap_walk": rmap_walk, "alloc_anon_folio": alloc_anon_folio, "swap_in": swap_in, "filemap_fault": filemap_fault, "filemap_get_page": filemap_get_page, "kmem_cache_alloc": kmem_cache_alloc, "kmem_cache_free": kmem_cache_free, "pte_alloc": pte_alloc, "anon_vma_prepare": anon_vma_prepare, "zap_pte": zap_pte, "wake_kswapd": wake_kswapd, "out_of_memory": out_of_memory}
