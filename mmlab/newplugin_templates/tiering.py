"""my_policy: pages go to the next slower node when memory is short, and come back at the first hinting fault."""

from mmlab.kernels.jit import kernel
from mmlab.model.rows import N_DEMOTION_TARGETS, NODE_STRIDE, SC_NR_NODES
from mmlab.policies import Tiering


@kernel
def demotion_node(m, st, pfn, node, scan_flags):
    targets = m.node[node * NODE_STRIDE + N_DEMOTION_TARGETS]
    for target in range(m.sc[SC_NR_NODES]):
        if (targets >> target) & 1:
            return target
    return -1


@kernel
def should_migrate(m, st, task, pfn, source, node):
    return 1


POLICY = Tiering(
    name="my_policy", summary="demotes to the next node, promotes at once", hint_faults=True, demotes=True, demotion_node=demotion_node,
    should_migrate=should_migrate,
)  # fmt: skip
