"""Counter-based random numbers: a function of a seed, a stream and a count, so that a run repeats bit for bit.

Every product stays below 2^63 (odd multipliers below 2^31 on 32 bits).
"""

from mmlab.kernels.jit import leaf

BITS32 = (1 << 32) - 1
BITS31 = (1 << 31) - 1


@leaf
def mix32(x):
    """A permutation of 32 bits that leaves no trace of their order."""
    x = ((x ^ (x >> 17)) * 0x6D5AD4BB) & BITS32
    x = ((x ^ (x >> 11)) * 0x2C4C1B51) & BITS32
    x = ((x ^ (x >> 15)) * 0x31848BAB) & BITS32
    return x ^ (x >> 14)


@leaf
def random32(seed, stream, count):
    """32 bits: number `count` of a stream."""
    return mix32((count & BITS32) ^ mix32((count >> 32) ^ mix32((seed & BITS32) ^ mix32(stream + 0x9E37))))


@leaf
def random_below(seed, stream, count, limit):
    """A number from 0 to limit - 1; limit is at most 2^32."""
    return ((random32(seed, stream, count) & BITS31) * limit) >> 31
