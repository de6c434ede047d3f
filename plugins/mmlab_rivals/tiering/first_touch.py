"""First touch: a page stays where its first access put it, in the nearest memory that had room. What tiering has to beat."""

from mmlab.kernels.jit import kernel
from mmlab.policies import Tiering


@kernel
def demotion_node(m, st, pfn, node, scan_flags):
    """Nowhere."""
    return -1


@kernel
def should_migrate(m, st, task, pfn, source, node):
    """Never."""
    return 0


FIRST_TOUCH = Tiering(
    name="first_touch", summary="pages stay where their first access put them", level="L1", demotion_node=demotion_node, should_migrate=should_migrate,
)
