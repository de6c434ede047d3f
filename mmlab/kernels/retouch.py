"""Setting bits in many page-table entries at once. In the python build numpy does it, for a pass over memory would take seconds there."""

from mmlab.kernels.jit import JIT_OFF, leaf


@leaf
def retouch(m, slot, count, step, need, bits):
    """`count` entries from m.pt[slot], `step` apart: 1 with `bits` set in all of them if each has all bits of `need`, else 0."""
    if JIT_OFF:
        entries = m.pt[slot : slot + (count - 1) * step + 1 : step]
        if ((entries & need) != need).any():
            return 0
        entries |= bits
        return 1
    for i in range(count):
        if m.pt[slot + i * step] & need != need:
            return 0
    for i in range(count):
        m.pt[slot + i * step] |= bits
    return 1
