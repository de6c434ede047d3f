"""my_policy: huge pages for writes only, and no effort to make room for them."""

from mmlab.kernels.jit import kernel
from mmlab.model.const import WRITE
from mmlab.model.gfp import GFP_TRANSHUGE_LIGHT
from mmlab.model.rows import VM_NOHUGEPAGE, VMA_END, VMA_FLAGS, VMA_START, VMA_STRIDE
from mmlab.policies import Thp


@kernel
def fault_orders(m, st, mm, vma, vpn, access):
    row = vma * VMA_STRIDE
    if access != WRITE or m.vma[row + VMA_FLAGS] & VM_NOHUGEPAGE:
        return 0
    start = (vpn >> 9) << 21
    fits = start >= m.vma[row + VMA_START] and start + (1 << 21) <= m.vma[row + VMA_END]
    return 1 << 9 if fits else 0


@kernel
def fault_gfp(m, st, mm, vma, order):
    return GFP_TRANSHUGE_LIGHT


POLICY = Thp(name="my_policy", summary="huge pages for writes only", fault_orders=fault_orders, fault_gfp=fault_gfp)
