"""slub_nocpupartial: SLUB as built without CONFIG_SLUB_CPU_PARTIAL: a slab that gets its first free object goes to its node's list at once.

It shows what the CPUs' partial lists buy: fewer trips to the node, and more half-empty slabs that nobody can give back.
Models: mm/slub.c without CONFIG_SLUB_CPU_PARTIAL. Left out: what slub leaves out.
"""

import attrs

from mmlab_linux.slab_allocator.slub import SLUB
from mmlab_linux.slab_allocator.slub import Params as SlubParams


@attrs.frozen
class Params(SlubParams):
    """slub's, with the lists off."""

    cpu_partial: bool = False


SLUB_NOCPUPARTIAL = attrs.evolve(SLUB, name="slub_nocpupartial", summary="SLUB without partial lists of CPUs", level="L0", params=Params)
