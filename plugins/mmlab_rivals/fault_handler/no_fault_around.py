"""Linux's demand paging without fault-around: a read of a mapped file maps the one page that was touched.

Models: mm/memory.c do_read_fault() with fault_around_bytes of one page, whatever the machine's setting says. O(1) a fault.
"""

from mmlab.kernels.jit import kernel
from mmlab.model.rows import SC_FAULT_AROUND
from mmlab.policies import FaultHandler
from mmlab_linux.fault_handler import linux
from mmlab_linux.fault_handler.linux import copy_page_range


@kernel
def handle_mm_fault(m, st, mm, vma, vpn, access):
    """Linux's, with a window of one page."""
    window = m.sc[SC_FAULT_AROUND]
    m.sc[SC_FAULT_AROUND] = 1
    result = linux.handle_mm_fault(m, st, mm, vma, vpn, access)
    m.sc[SC_FAULT_AROUND] = window
    return result


NO_FAULT_AROUND = FaultHandler(
    name="no_fault_around",
    summary="demand paging that maps one page a fault",
    models="mm/memory.c with fault_around_bytes of 4096",
    left_out="what linux leaves out",
    level="L1",
    handle_mm_fault=handle_mm_fault,
    copy_page_range=copy_page_range,
)
