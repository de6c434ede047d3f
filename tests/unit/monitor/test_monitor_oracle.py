"""The oracle counts what a dict counts, says what it dropped, and its check sees a wrong count."""

from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mmlab_linux.monitor.none import NONE
from mmlab_linux.monitor.oracle import ORACLE, Params

from mmlab.kernels.pointer import State
from mmlab.model.const import EXEC, READ, WRITE
from mmlab.model.rows import NR_SCALARS, SC_NOW_NS
from mmlab.testing.calls import call_op

pytestmark = pytest.mark.nojit
NO_MACHINE = State("machine", {"sc": np.zeros(NR_SCALARS, np.int64)})


def oracle(region_order: int = 0, table_order: int = 12) -> State:
    params = Params(region_order=region_order, table_order=table_order)
    arrays = ORACLE.new_state(params, SimpleNamespace(sizes=SimpleNamespace(nr_present=100)))
    return State("monitor.oracle", {"region_order": np.array([region_order]), "table_order": np.array([table_order]), "window_ms": np.array([100]), **arrays})


def feed(state: State, accesses) -> None:
    for task, vpn, access in accesses:
        call_op(ORACLE, "on_access", NO_MACHINE, state, task, vpn, access)


PAGES = st.sampled_from([0, 1, 7, 8, 511, 1 << 34, (1 << 45) - 2])
ACCESSES = st.lists(st.tuples(st.integers(0, 255), PAGES, st.sampled_from([READ, WRITE, EXEC])), max_size=60)


@settings(max_examples=60, deadline=None)
@given(ACCESSES, st.sampled_from([0, 3]))
def test_equal_to_counting_with_a_dict(accesses, region_order):
    state = oracle(region_order)
    feed(state, accesses)
    writes = Counter((task, vpn >> region_order) for task, vpn, access in accesses if access == WRITE)
    reads = Counter((task, vpn >> region_order) for task, vpn, access in accesses if access != WRITE)
    places = [{"task": task, "start_vpn": region << region_order, "nr_pages": 1 << region_order} for task, region in sorted(reads | writes)]
    counts = [{"nr_reads": reads[key], "nr_writes": writes[key]} for key in sorted(reads | writes)]
    expected = [{**place, **count} for place, count in zip(places, counts)]
    assert ORACLE.report(NO_MACHINE, state) == expected
    assert call_op(ORACLE, "check", NO_MACHINE, state) == 0


def test_a_full_table_drops_new_regions_but_keeps_counting_old_ones():
    state = oracle(table_order=4)  # 16 places, 14 of them may be used
    feed(state, [(0, vpn, READ) for vpn in range(20)])
    feed(state, [(0, vpn, WRITE) for vpn in range(20)])
    rows = ORACLE.report(NO_MACHINE, state)
    assert [row["start_vpn"] for row in rows] == list(range(14))
    assert all(row["nr_reads"] == row["nr_writes"] == 1 for row in rows)
    assert state.seen.tolist() == [40, 12, 14]
    assert call_op(ORACLE, "check", NO_MACHINE, state) == 0


def test_check_sees_wrong_counts():
    state = oracle()
    feed(state, [(1, 5, READ)])
    place = int(np.flatnonzero(state.key)[0])
    state.nr_reads[place] += 1
    assert call_op(ORACLE, "check", NO_MACHINE, state) == 2
    state.key[place - 1] = 1
    assert call_op(ORACLE, "check", NO_MACHINE, state) == 1


def test_estimates_are_the_accesses_of_the_last_whole_window():
    state = oracle()
    pages = SimpleNamespace(task=np.array([1, 1, 1, 2]), vpn=np.array([5, 6, 7, 5]))
    for ms, vpn in ((0, 5), (99, 5), (100, 6), (150, 5), (199, 6), (200, 7)):
        NO_MACHINE.sc[SC_NOW_NS] = ms * 1_000_000
        feed(state, [(1, vpn, READ)])
    heat, age = ORACLE.estimate(NO_MACHINE, state, pages)
    assert (heat.tolist(), age) == ([1, 2, 0, 0], None)  # of 100 to 200 ms
    NO_MACHINE.sc[SC_NOW_NS] = 310 * 1_000_000
    assert ORACLE.estimate(NO_MACHINE, state, pages)[0].tolist() == [0, 0, 1, 0]
    NO_MACHINE.sc[SC_NOW_NS] = 400 * 1_000_000
    assert not ORACLE.estimate(NO_MACHINE, state, pages)[0].any()


def test_table_is_sized_by_memory():
    made = ORACLE.new_state(Params(), SimpleNamespace(sizes=SimpleNamespace(nr_present=3000)))
    assert len(made["key"]) == 16384  # the power of two that holds four regions a page


def test_none_asks_for_nothing():
    assert call_op(NONE, "sample", NO_MACHINE, State("monitor.none", {}), 10**9) == 0
    assert not NONE.wants_accesses
