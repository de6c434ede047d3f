"""kswapd shares the only CPU with a task that never sleeps; beside one that sleeps between its passes it works on."""

import pytest

from mmlab.model import rows as r
from mmlab.model.vmstat import V_PGSCAN_KSWAPD
from mmlab.simulation import Simulation

pytestmark = pytest.mark.nojit


@pytest.mark.parametrize("period_ms, waits", [(0, True), (5, False)])
def test_after_a_long_turn_a_loop_without_a_period_runs_as_long(period_ms, waits):
    sim = Simulation.from_table({"memory": "64M", "bare": True, "cpus": 1, "swap": "128M"})
    machine = sim.machine
    looping = sim.spawn("B").index
    begin = sim.mmap("B", 4096)
    sim.touch("B", begin, 1, 1)
    sim.spawn("A")
    addr = sim.mmap("A", 80 << 20)
    page = 0
    while machine.node[r.N_KSWAPD_AWAKE] == 0:
        sim.touch("A", addr + page * 4096, 1, 1)
        page += 1
    machine.node[r.N_KSWAPD_CLOCK_NS] = sim.now_ns + 50_000_000  # it had 50 ms
    row = looping * r.LOOP_STRIDE
    for field, value in {
        r.LOOP_VPN: begin >> 12, r.LOOP_COUNT: 1, r.LOOP_STEP: 1, r.LOOP_END_NS: sim.now_ns + 1_000_000_000, r.LOOP_PERIOD_NS: period_ms * 1_000_000,
        r.LOOP_NEXT_NS: sim.now_ns, r.LOOP_NOFLUSH: 1, r.LOOP_STATE: r.LOOP_RUNS, r.LOOP_BEGAN_NS: sim.now_ns,
    }.items():  # fmt: skip
        machine.loop[row + field] = value
    machine.sc[r.SC_NR_LOOPS] += 1
    machine.sc[r.SC_NEXT_EVENT_NS] = 0
    scanned = machine.vmstat[V_PGSCAN_KSWAPD]
    sim.sleep(40)
    assert (machine.vmstat[V_PGSCAN_KSWAPD] == scanned) == waits
    sim.sleep(400)
    assert machine.node[r.N_KSWAPD_AWAKE] == 0 and sim.check_state() == []
