"""What a policy must not do: turn the clock back in its periodic step, ask to be called in the past, or name a page or node that does not
exist. The run stops, and it is to blame. (Of reclaimers: reclaim_fault.py.)"""

from mmlab.kernels.jit import leaf
from mmlab.kernels.likely import unlikely
from mmlab.model.const import NEVER_NS
from mmlab.model.rows import PANIC_FAULT, POLICY_FINE, SC_NOW_NS, SC_OOM_VICTIM, SC_PANIC, SC_POLICY_FAULT


@leaf
def stop_for_fault(m):
    """Stop the run at the next event: a policy is to blame."""
    m.sc[SC_OOM_VICTIM] = 0  # Python looks
    m.sc[SC_PANIC] = PANIC_FAULT


@leaf
def blame_policy(m, why):
    """Note the first fault (POLICY_*), and stop."""
    if m.sc[SC_POLICY_FAULT] == POLICY_FINE:
        m.sc[SC_POLICY_FAULT] = why
    stop_for_fault(m)


@leaf
def step_due(m, why, began, wait):
    """When a step that began at `began` is due again, `wait` ns after its end; NEVER_NS for a wait of 0. why: POLICY_*_STEP, its fault if it has one."""
    if unlikely(wait < 0 or m.sc[SC_NOW_NS] < began):
        blame_policy(m, why)
        m.sc[SC_NOW_NS] = max(m.sc[SC_NOW_NS], began)
    return m.sc[SC_NOW_NS] + wait if wait > 0 else NEVER_NS
