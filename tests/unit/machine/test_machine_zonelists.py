"""Zonelists of real machines and of made-up distances."""

import machine_records as recorded
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmlab.machine import build_zonelists, layout_from_config, machine_from_table
from mmlab.machine.zonelists import node_orders


@pytest.mark.parametrize("entry", recorded.CASES, ids=recorded.NAMES)
def test_recorded_zonelists(entry):
    lay = recorded.layout(entry)
    lists = build_zonelists(lay)
    for key, zones in entry["zonelists"].items():
        node, which = key.split(",")
        assert lists.names(lay, int(node), which) == zones


def test_equal_distances_rotate():
    d = [[10 if a == b else 20 for b in range(4)] for a in range(4)]
    assert node_orders(d, {0, 1, 2, 3}, {0, 1, 2, 3}) == [(0, 1, 2, 3), (1, 2, 3, 0), (2, 3, 0, 1), (3, 0, 1, 2)]


def test_node_load_separates_ties():
    # Nodes 0 and 1 both lie above neither 2 nor 3 at equal distance: 0 takes 2 first, so 1 takes 3
    d = [[10, 40, 20, 20], [40, 10, 20, 20], [20, 20, 10, 40], [20, 20, 40, 10]]
    orders = node_orders(d, {0, 1, 2, 3}, set())
    assert [o[1] for o in orders[:2]] == [2, 3]


def test_a_node_without_cpus_is_preferred():
    d = [[10, 20, 20], [20, 10, 20], [20, 20, 10]]
    assert node_orders(d, {0, 1, 2}, {0, 1})[0] == (0, 2, 1)


def test_no_cpu_is_a_nodes_yet_when_the_kernel_boots():
    """Linux 6.12 with five nodes of 256 MiB, two of which have a CPU: the order at boot. A zone that comes later has the lists built again."""
    nodes = [{"memory": "256M", "cpus": [0]}, {"memory": "256M", "cpus": [1]}, *[{"memory": "256M"}] * 3]
    lay = layout_from_config(machine_from_table({"cpus": 2, "nodes": nodes}))
    assert build_zonelists(lay).node_order == ((0, 1, 2, 3, 4), (1, 2, 3, 4, 0), (2, 3, 4, 0, 1), (3, 4, 0, 1, 2), (4, 0, 1, 2, 3))
    again = layout_from_config(machine_from_table({"cpus": 2, "nodes": nodes, "dimms": ["256M"], "maxmem": "4G"}))
    assert again.zonelists_rebuilt and build_zonelists(again).node_order[0] == (0, 2, 3, 4, 1)


def test_a_node_without_memory_falls_back_only():
    lay = layout_from_config(machine_from_table({"cpus": 2, "nodes": [{"memory": "512M", "cpus": [0]}, {"memory": "0", "cpus": [1]}]}))
    lists = build_zonelists(lay)
    assert lists.names(lay, 1) == ["0:DMA32", "0:DMA"]
    assert lists.names(lay, 1, "thisnode") == []


@given(
    st.integers(1, 6).flatmap(lambda n: st.lists(st.lists(st.integers(11, 60), min_size=n, max_size=n), min_size=n, max_size=n)), st.data()
)
def test_every_order_holds_each_node_with_memory_once_nearest_first(d, data):
    n = len(d)
    for a in range(n):
        d[a][a] = 10
    memory = data.draw(st.sets(st.integers(0, n - 1), min_size=1))
    for node, order in enumerate(node_orders(d, memory, set(range(n)))):
        assert sorted(order) == sorted(memory)
        assert node not in memory or order[0] == node
        # the two preferences move a node by at most 2 units of distance
        assert all(d[node][b] >= d[node][a] - 2 for a, b in zip(order, order[1:]))
