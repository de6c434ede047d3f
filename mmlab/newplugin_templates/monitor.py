"""my_policy: counts reads and writes of the whole stream."""

import numpy as np

from mmlab.kernels.jit import kernel
from mmlab.model.const import WRITE
from mmlab.policies import Monitor


def new_state(params, machine):
    """counts: reads, writes."""
    return {"counts": np.zeros(2, "int64")}


@kernel
def on_access(m, st, task, vpn, access):
    st.counts[1 if access == WRITE else 0] += 1
    return 0


def report(machine, state):
    """One row: how many reads and writes there were."""
    return [{"nr_reads": int(state.counts[0]), "nr_writes": int(state.counts[1])}]


POLICY = Monitor(name="my_policy", summary="counts accesses", new_state=new_state, wants_accesses=True, on_access=on_access, report=report)
