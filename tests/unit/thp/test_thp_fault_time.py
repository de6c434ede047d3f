"""Which faults may get a huge page, how hard the allocator tries, and when a read maps the huge zero page."""

import numpy as np
import pytest
from mmlab_linux.thp.fault_time import ALWAYS, MADVISE, NEVER, SIZE_ALWAYS, SIZE_MADVISE, Params

from mmlab.kernels.pointer import State
from mmlab.model.const import READ, WRITE
from mmlab.model.gfp import GFP_COMP, GFP_DIRECT_RECLAIM, GFP_KSWAPD_RECLAIM, GFP_MOVABLE, GFP_NORETRY, GFP_RECLAIM
from mmlab.model.rows import VM_HUGEPAGE, VM_NOHUGEPAGE, VMA_END, VMA_FLAGS, VMA_START, VMA_STRIDE
from mmlab.testing.calls import call_op

pytestmark = pytest.mark.nojit
MIB = 1 << 20
HUGE = 1 << 9


def machine(start: int, length: int, flags: int = 0) -> State:
    m = State("machine", {"vma": np.zeros(VMA_STRIDE, np.int64)})
    m.vma[VMA_START], m.vma[VMA_END], m.vma[VMA_FLAGS] = start, start + length, flags
    return m


def state(policy=ALWAYS, defrag: int = Params().defrag, zero_page: bool = True) -> State:
    own = policy.new_state(Params(), None)
    return State("thp.test", {"defrag": np.array([defrag]), "use_zero_page": np.array([int(zero_page)]), **own})


def orders(policy, m: State, addr: int) -> int:
    return call_op(policy, "fault_orders", m, state(policy), 0, 0, addr >> 12, WRITE)


def test_only_whole_aligned_ranges_of_a_vma():
    # 5 MiB that begin 1 MiB into a huge range: [1, 2) small, [2, 4) and [4, 6) huge
    m = machine(1 * MIB, 5 * MIB)
    assert [orders(ALWAYS, m, addr * MIB) for addr in range(1, 6)] == [0, HUGE, HUGE, HUGE, HUGE]


def test_a_range_that_sticks_out_at_the_end_gets_small_pages():
    m = machine(2 * MIB, 4 * MIB - 4096)
    assert [orders(ALWAYS, m, addr) for addr in (2 * MIB, 4 * MIB - 1, 4 * MIB)] == [HUGE, HUGE, 0]


@pytest.mark.parametrize(
    "policy, flags, expected",
    [
        (ALWAYS, 0, HUGE), (ALWAYS, VM_HUGEPAGE, HUGE), (ALWAYS, VM_NOHUGEPAGE, 0),
        (MADVISE, 0, 0), (MADVISE, VM_HUGEPAGE, HUGE), (MADVISE, VM_NOHUGEPAGE, 0),
        (NEVER, 0, 0), (NEVER, VM_HUGEPAGE, 0), (NEVER, VM_NOHUGEPAGE, 0),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_enabled_and_madvise(policy, flags, expected):
    m = machine(2 * MIB, 2 * MIB, flags)
    assert orders(policy, m, 3 * MIB) == expected
    assert call_op(policy, "fault_orders", m, state(policy), 0, 0, 3 * MIB >> 12, READ) == expected


# defrag 0..4 is always, defer, defer+madvise, madvise, never: the bits about reclaim without madvise(), and with it
RECLAIM_BITS = {
    0: (GFP_DIRECT_RECLAIM | GFP_NORETRY, GFP_DIRECT_RECLAIM),
    1: (GFP_KSWAPD_RECLAIM, GFP_KSWAPD_RECLAIM),
    2: (GFP_KSWAPD_RECLAIM, GFP_DIRECT_RECLAIM),
    3: (0, GFP_DIRECT_RECLAIM),
    4: (0, 0),
}


@pytest.mark.parametrize("defrag", RECLAIM_BITS)
def test_how_hard_to_try(defrag):
    for flags, expected in zip((0, VM_HUGEPAGE), RECLAIM_BITS[defrag]):
        gfp = call_op(ALWAYS, "fault_gfp", machine(0, 2 * MIB, flags), state(defrag=defrag), 0, 0, 9)
        assert gfp & (GFP_RECLAIM | GFP_NORETRY) == expected
        assert gfp & (GFP_COMP | GFP_MOVABLE) == GFP_COMP | GFP_MOVABLE


def test_zero_page_follows_its_param():
    m = machine(0, 2 * MIB)
    assert [call_op(ALWAYS, "use_zero_page", m, state(zero_page=on), 0, 0) for on in (True, False)] == [1, 0]


def test_params_are_the_kernels_defaults_and_checked():
    assert (Params().defrag, Params().use_zero_page) == (3, True)
    with pytest.raises(ValueError, match="defrag"):
        Params(defrag=5)


def test_sizes_of_their_own_and_which_blocks_fit():
    # a VMA of 40 pages that starts 8 pages before a 64 kB boundary; 64 kB always, 16 kB for those who ask
    st = state(NEVER)
    st.orders[SIZE_ALWAYS], st.orders[SIZE_MADVISE] = 1 << 4, 1 << 2
    first = (2 * MIB >> 12) + 8
    for flags, expected in ((0, [0, 1 << 4, 1 << 4]), (VM_HUGEPAGE, [1 << 2, 1 << 4 | 1 << 2, 1 << 4 | 1 << 2]), (VM_NOHUGEPAGE, [0, 0, 0])):
        m = machine(first << 12, 40 * 4096, flags)
        assert [call_op(NEVER, "fault_orders", m, st, 0, 0, first + at, WRITE) for at in (7, 8, 39)] == expected
