"""No monitor: accesses are not watched, which costs nothing."""

from mmlab.kernels.jit import kernel
from mmlab.policies import Monitor


@kernel
def sample(m, st, now_ns):
    """Never again."""
    return 0


NONE = Monitor(name="none", summary="watches nothing", level="L1", sample=sample)
