"""PEBS-like sampling: the CPU writes the address of every period-th access into a buffer, which an interrupt or a thread empties.

What gets lost is modelled: a record that finds its CPU's buffer full is dropped, and a CPU that has taken more samples within a tick than
perf_event_max_sample_rate allows takes none until the next. Samples are counted by page and window; nothing is known of pages that had none.
Models: arch/x86/events/intel/ds.c in what it costs and loses; kernel/events/core.c __perf_event_account_interrupt(), perf_event_max_sample_rate.
Left out: which accesses an event counts (here all of a stream's, hits in caches included), skid. O(1) an access, O(samples) a drain.
"""

from typing import Any

import attrs
import numpy as np
from attrs.validators import ge, le

from mmlab.kernels.access_table import count_in_window, key_of, last_window, place_of, table_arrays
from mmlab.kernels.jit import kernel
from mmlab.model.rows import SC_MONITOR_CHECKS, SC_MONITOR_NS, SC_NOW_NS, SC_NR_CPUS, T_CPU, TASK_STRIDE
from mmlab.policies import Monitor

TICK_NS = 4_000_000  # HZ is 250
SAMPLED, DROPPED, THROTTLED, REGIONS, DRAINED = range(5)  # of st.seen
CPU_STRIDE = 4
CPU_COUNT, CPU_RECORDS, CPU_TICK, CPU_IN_TICK = range(4)


@attrs.frozen
class Params:
    """period: accesses from one sample to the next; buffer: records a CPU's buffer holds; drain_ms: simulated time between two emptyings;
    max_sample_rate: samples a second and CPU, 0: no limit; record_ns, drain_ns: what the CPU takes to write a record, and the kernel to read
    one (estimated); window_ms: how hot a page is are its samples in the last whole window of so much time; table_order: pages known at most,
    as a power of two, 0: by memory size."""

    period: int = attrs.field(default=199, validator=ge(1))
    buffer: int = attrs.field(default=1024, validator=[ge(1), le(1 << 20)])
    drain_ms: int = attrs.field(default=10, validator=ge(1))
    max_sample_rate: int = attrs.field(default=100_000, validator=ge(0))
    record_ns: int = attrs.field(default=250, validator=ge(0))
    drain_ns: int = attrs.field(default=150, validator=ge(0))
    window_ms: int = attrs.field(default=100, validator=ge(1))
    table_order: int = attrs.field(default=0, validator=[ge(0), le(32)])


def new_state(params: Params, machine: Any) -> dict[str, np.ndarray]:
    """An access table; cpu: CPU_* a CPU; record: keys and ns of each buffer; seen: SAMPLED, DROPPED, THROTTLED, REGIONS, DRAINED."""
    order = params.table_order or max(12, (4 * machine.sizes.nr_present - 1).bit_length())
    nr_cpus = machine.sizes.nr_cpus
    rest = {"cpu": np.zeros(CPU_STRIDE * nr_cpus, np.int64), "record": np.zeros(2 * params.buffer * nr_cpus, np.int64), "seen": np.zeros(5, np.int64)}
    return {**table_arrays(1 << order), **rest}


@kernel
def on_access(m, st, task, vpn, access):
    """Count down; at 0 a record, if there is room and the limit allows."""
    cpu = m.task[task * TASK_STRIDE + T_CPU]
    base = cpu * CPU_STRIDE
    st.cpu[base + CPU_COUNT] += 1
    if st.cpu[base + CPU_COUNT] < st.period[0]:
        return 0
    st.cpu[base + CPU_COUNT] = 0
    tick = m.sc[SC_NOW_NS] // TICK_NS
    if st.cpu[base + CPU_TICK] != tick:
        st.cpu[base + CPU_TICK], st.cpu[base + CPU_IN_TICK] = tick, 0
    if st.max_sample_rate[0] and st.cpu[base + CPU_IN_TICK] >= max(1, st.max_sample_rate[0] * TICK_NS // 1000000000):
        st.seen[THROTTLED] += 1
        return 0
    st.cpu[base + CPU_IN_TICK] += 1
    m.sc[SC_NOW_NS] += st.record_ns[0]
    m.sc[SC_MONITOR_NS] += st.record_ns[0]
    m.sc[SC_MONITOR_CHECKS] += 1
    if st.cpu[base + CPU_RECORDS] >= st.buffer[0]:
        st.seen[DROPPED] += 1
        return 0
    at = 2 * (cpu * st.buffer[0] + st.cpu[base + CPU_RECORDS])
    st.record[at], st.record[at + 1] = key_of(task, vpn), m.sc[SC_NOW_NS]
    st.cpu[base + CPU_RECORDS] += 1
    st.seen[SAMPLED] += 1
    return 0


@kernel
def sample(m, st, now_ns):
    """Empty every CPU's buffer; returns the time to the next time."""
    places = len(st.key)
    window_ns = st.window_ms[0] * 1000000
    for cpu in range(m.sc[SC_NR_CPUS]):
        records = st.cpu[cpu * CPU_STRIDE + CPU_RECORDS]
        st.cpu[cpu * CPU_STRIDE + CPU_RECORDS] = 0
        m.sc[SC_NOW_NS] += records * st.drain_ns[0]
        for i in range(records):
            at = 2 * (cpu * st.buffer[0] + i)
            place = place_of(st.key, st.record[at])
            if st.key[place] == 0:
                if st.seen[REGIONS] >= places - places // 8:
                    st.seen[DROPPED] += 1
                    continue
                st.key[place] = st.record[at]
                st.seen[REGIONS] += 1
            count_in_window(st, place, max(st.window[place], st.record[at + 1] // window_ns))
            st.seen[DRAINED] += 1
    return st.drain_ms[0] * 1000000


@kernel
def check(m, st):
    """1: records in buffers and those read are not those taken; 2: a buffer holds more than it can. O(CPUs)."""
    waiting = 0
    for cpu in range(m.sc[SC_NR_CPUS]):
        if st.cpu[cpu * CPU_STRIDE + CPU_RECORDS] > st.buffer[0]:
            return 2
        waiting += st.cpu[cpu * CPU_STRIDE + CPU_RECORDS]
    return 1 if st.seen[DRAINED] + waiting > st.seen[SAMPLED] else 0


def report(machine: Any, state: Any) -> list[dict[str, int]]:
    """One row: samples taken, read, dropped because a buffer (or the table) was full, left out because there were too many, and pages known."""
    names = ("nr_sampled", "nr_dropped", "nr_throttled", "nr_pages", "nr_drained")
    return [dict(zip(names, state.seen.tolist()))]


def estimate(machine: Any, state: Any, pages: Any) -> tuple[np.ndarray, None]:
    """Samples of each page in the last whole window."""
    return last_window(state, pages.key + 1, int(machine.sc[SC_NOW_NS]) // (int(state.window_ms[0]) * 1_000_000)), None


PEBS = Monitor(
    name="pebs",
    summary="samples the address of every period-th access, with buffers that overflow",
    models="arch/x86/events/intel/ds.c, kernel/events/core.c",
    left_out="which accesses an event counts, skid",
    level="L1",
    params=Params,
    new_state=new_state,
    wants_accesses=True,
    on_access=on_access,
    sample=sample,
    check=check,
    report=report,
    estimate=estimate,
)
