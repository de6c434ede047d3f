"""DAMON's random numbers: a function of the experiment's seed, the context and a counter, so that a run repeats bit for bit.

Models: include/linux/damon.h damon_rand(). Every product stays below 2^63 (odd multipliers below 2^31 on 32 bits).
"""

from mmlab.kernels.jit import leaf
from mmlab.model.rows import SC_SEED
from mmlab_linux.monitor.damon.state import C_RAND, CTX_STRIDE

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
def damon_rand(m, st, k, low, high):
    """low plus a number below (high - low) mod 2^32, or below 2^32 if that is 0."""
    count = st.ctx[k * CTX_STRIDE + C_RAND]
    st.ctx[k * CTX_STRIDE + C_RAND] = count + 1
    span = (high - low) & BITS32
    if span == 0:
        span = BITS32 + 1
    return low + (((random32(m.sc[SC_SEED], k, count) & BITS31) * span) >> 31)
