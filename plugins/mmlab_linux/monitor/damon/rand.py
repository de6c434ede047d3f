"""DAMON's random numbers: a function of the experiment's seed, the context and a counter.

Models: include/linux/damon.h damon_rand().
"""

from mmlab.kernels.jit import leaf
from mmlab.kernels.random import BITS32, random_below
from mmlab.model.rows import SC_SEED
from mmlab_linux.monitor.damon.state import C_RAND, CTX_STRIDE


@leaf
def damon_rand(m, st, k, low, high):
    """low plus a number below (high - low) mod 2^32, or below 2^32 if that is 0."""
    count = st.ctx[k * CTX_STRIDE + C_RAND]
    st.ctx[k * CTX_STRIDE + C_RAND] = count + 1
    span = (high - low) & BITS32
    if span == 0:
        span = BITS32 + 1
    return low + random_below(m.sc[SC_SEED], k, count, span)
