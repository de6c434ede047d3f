"""Everything is free: simulated time stands still, for experiments in which only counts matter."""

from typing import Any

from mmlab.policies import CostModel


def costs(params: Any) -> dict[str, float]:
    """Nothing costs anything."""
    return {}


FREE = CostModel(name="free", summary="nothing takes time; only counts matter", level="L1", costs=costs)
