"""mmlab's default policies: what Linux 6.12 does, one folder a slot."""

from mmlab.hookspecs import hookimpl
from mmlab_linux.cost_model.free import FREE
from mmlab_linux.cost_model.icount_guest import ICOUNT_GUEST
from mmlab_linux.cost_model.nvme_desktop import NVME_DESKTOP
from mmlab_linux.cost_model.skylake import SKYLAKE
from mmlab_linux.cost_model.tcg_guest import TCG_GUEST
from mmlab_linux.cost_model.vm_guest import VM_GUEST
from mmlab_linux.cost_model.zen import ZEN
from mmlab_linux.fault_handler.linux import LINUX_FAULT
from mmlab_linux.memory_model.sparsemem_vmemmap import SPARSEMEM_VMEMMAP
from mmlab_linux.monitor.damon import DAMON
from mmlab_linux.monitor.none import NONE
from mmlab_linux.monitor.oracle import ORACLE
from mmlab_linux.oom_policy.linux import LINUX_OOM
from mmlab_linux.page_allocator.buddy import BUDDY
from mmlab_linux.reclaimer.mglru import MGLRU
from mmlab_linux.reclaimer.two_list import TWO_LIST
from mmlab_linux.slab_allocator.slub import SLUB
from mmlab_linux.thp.fault_time import ALWAYS, MADVISE, NEVER
from mmlab_linux.tiering.linux import LINUX_TIERING
from mmlab_linux.vma_index.maple_tree import MAPLE_TREE


@hookimpl
def mmlab_policies():
    """Linux's policies of every slot, and what watching and time cost."""
    return [
        SPARSEMEM_VMEMMAP, BUDDY, SLUB, MAPLE_TREE, LINUX_FAULT, MGLRU, TWO_LIST, LINUX_OOM, ALWAYS, MADVISE, NEVER, LINUX_TIERING, NONE, ORACLE,
        DAMON, VM_GUEST, NVME_DESKTOP, SKYLAKE, ZEN, TCG_GUEST, ICOUNT_GUEST, FREE,
    ]  # fmt: skip
