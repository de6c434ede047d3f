"""my_policy: the same time for every page fault and every read of a disk, nothing else."""

import attrs

from mmlab.policies import CostModel


@attrs.frozen
class Params:
    """ns of a fault and of a read."""

    fault_ns: int = 1000
    device_read_ns: int = 100_000


def costs(params):
    """ns by COST_NAMES (mmlab.model.rows); what is missing costs nothing."""
    return {"fault": params.fault_ns, "device_read": params.device_read_ns}


POLICY = CostModel(name="my_policy", summary="faults and reads cost, nothing else does", params=Params, costs=costs)
