"""Two Bloom filters a lruvec: page tables worth looking into, found by one pass for the next.

Models: mm/vmscan.c test_bloom_filter(), update_bloom_filter(), reset_bloom_filter(). A filter that was never made lets everything through.
The hash is mmlab's own: the kernel's depends on addresses.
"""

from mmlab.kernels.jit import kernel, leaf

BLOOM_FILTER_SHIFT = 15
FILTER_BITS = 1 << BLOOM_FILTER_SHIFT
HASH_MULTIPLIER = 0x61C88647


@leaf
def filter_of(lruvec, seq):
    """Number of the filter that the pass at max_seq = seq tests."""
    return lruvec * 2 + seq % 2


@leaf
def bloom_hash(pmd):
    """30 bits from the slot of a PMD entry."""
    return (((pmd ^ (pmd >> 31)) & 0x7FFFFFFF) * HASH_MULTIPLIER >> 2) & ((1 << 30) - 1)


@leaf
def test_bloom_filter(st, lruvec, seq, pmd):
    """1 if the page table may be in the filter."""
    number = filter_of(lruvec, seq)
    if st.filter_made[number] == 0:
        return 1
    key = bloom_hash(pmd)
    base = number * FILTER_BITS
    return 1 if st.filter[base + (key & (FILTER_BITS - 1))] and st.filter[base + (key >> BLOOM_FILTER_SHIFT)] else 0


@leaf
def update_bloom_filter(st, lruvec, seq, pmd):
    """Put a page table into the filter, if there is one."""
    number = filter_of(lruvec, seq)
    if st.filter_made[number]:
        key = bloom_hash(pmd)
        base = number * FILTER_BITS
        st.filter[base + (key & (FILTER_BITS - 1))] = 1
        st.filter[base + (key >> BLOOM_FILTER_SHIFT)] = 1


@kernel
def reset_bloom_filter(st, lruvec, seq):
    """Empty the filter, or make it."""
    number = filter_of(lruvec, seq)
    for bit in range(number * FILTER_BITS, (number + 1) * FILTER_BITS):
        st.filter[bit] = 0
    st.filter_made[number] = 1
