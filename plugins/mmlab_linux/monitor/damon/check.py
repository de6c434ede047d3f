"""check_state() of DAMON: regions are ascending, disjoint, whole pages; lists agree both ways; the numbers of regions are what they count."""

from mmlab.kernels.jit import kernel
from mmlab_linux.monitor.damon.region import next_region, prev_region, region_sz, target_row
from mmlab_linux.monitor.damon.state import (
    C_NR_REGIONS, C_NR_TARGETS, C_PHASE, C_STATE, CTX_ON, CTX_STRIDE, D_MIN, NR_CTX, PHASE_START, R_END, R_START, REGION_STRIDE, T_HEAD,
    T_NR_REGIONS,
)


@kernel
def check(m, st):
    """1: a broken link; 2: overlap or an empty region; 3: not whole pages; 4: a target's number of regions; 5: a context's. O(regions)."""
    for k in range(NR_CTX):
        base = k * CTX_STRIDE
        if st.ctx[base + C_STATE] != CTX_ON or st.ctx[base + C_PHASE] == PHASE_START:
            continue
        total = 0
        for index in range(st.ctx[base + C_NR_TARGETS]):
            row = target_row(k, index)
            head = st.target[row + T_HEAD]
            r = next_region(st, head)
            count = 0
            end = 0
            while r != head:
                if prev_region(st, next_region(st, r)) != r:
                    return 1
                start = st.region[r * REGION_STRIDE + R_START]
                if start < end or region_sz(st, r) <= 0:
                    return 2
                end = st.region[r * REGION_STRIDE + R_END]
                if start % D_MIN or end % D_MIN:
                    return 3
                count += 1
                r = next_region(st, r)
            if count != st.target[row + T_NR_REGIONS]:
                return 4
            total += count
        if total != st.ctx[base + C_NR_REGIONS]:
            return 5
    return 0
