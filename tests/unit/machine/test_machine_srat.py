"""Nodes as firmware lists them, and as the kernel numbers them."""

from mmlab.machine import machine_from_table
from mmlab.machine.srat import domains_in_order, with_kernel_numbers


def test_nodes_with_cpus_come_first_in_the_order_of_their_first_cpu():
    cfg = machine_from_table({"cpus": 3, "nodes": [{"memory": "256M"}, {"memory": "256M", "cpus": [1, 2]}, {"memory": "256M", "cpus": [0]}]})
    assert domains_in_order(cfg) == [2, 1, 0]


def test_a_description_follows_the_numbers():
    """Linux 6.12 on 256 MiB without a CPU and 768 MiB with one: the second is node 0."""
    table = {
        "memory": "1G", "cpus": 1, "nodes": [{"memory": "256M", "initiator": 1}, {"memory": "768M", "cpus": [0]}],
        "distances": [[0, 1, 30]], "hmat": [[1, 0, 10, 5]], "boot": {"zones": []},
    }  # fmt: skip
    numbered = with_kernel_numbers(table)
    assert numbered["nodes"] == [{"memory": "768M", "cpus": [0]}, {"memory": "256M", "initiator": 0}]
    assert numbered["distances"] == [[1, 0, 30]] and numbered["hmat"] == [[0, 1, 10, 5]]
    first_of = {node: start for node, start, _ in reversed(numbered["boot"]["node_ranges"])}
    assert first_of == {1: 4096, 0: 256 << 20}
    assert max(end for node, _, end in numbered["boot"]["node_ranges"]) < 1 << 30


def test_nodes_in_order_stay_as_they_are():
    table = {"memory": "1G", "cpus": 1, "nodes": [{"memory": "512M", "cpus": [0]}, {"memory": "512M"}], "boot": {"zones": []}}
    assert with_kernel_numbers(table) == table
