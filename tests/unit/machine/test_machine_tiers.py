"""Memory tiers from an HMAT: abstract distances, top tiers, demotion targets."""

from mmlab.machine import build_machine, machine_from_table, memory_tiers
from mmlab.machine.memory_tiers import abstract_distances


def tiers(**more):
    nodes = [{"memory": "64M", "cpus": [0]}, {"memory": "64M", "initiator": 0}]
    cfg, layout, _ = build_machine(machine_from_table({"memory": "128M", "cpus": 1, "bare": True, "nodes": nodes, **more}))
    return memory_tiers(cfg, layout), abstract_distances(cfg, layout)


def test_twice_the_latency_and_half_the_bandwidth_is_tier_18():
    found, distances = tiers(hmat=[[0, 0, 10, 10], [0, 1, 20, 5]])
    assert distances == [576, 2304]  # 4.5 * 128; four times that
    assert found.nodelists() == {4: [0], 18: [1]}
    assert found.toptier == (True, False) and found.targets == (0b10, 0) and found.lower == (0b10, 0)


def test_without_an_hmat_a_node_without_cpus_is_memory_like_any_other():
    found, distances = tiers()
    assert distances == [576, 576] and found.nodelists() == {4: [0, 1]}
    assert found.toptier == (True, True) and found.targets == (0, 0)


def test_three_tiers_demote_to_the_nearest_node_of_the_next_and_fall_back_to_all_lower_ones():
    nodes = [{"memory": "64M", "cpus": [0]}, {"memory": "64M"}, {"memory": "64M"}, {"memory": "64M"}]
    found, _ = tiers(
        memory="256M", nodes=nodes, distances=[[0, 1, 20], [0, 2, 30], [0, 3, 40], [1, 2, 20], [1, 3, 20], [2, 3, 20]],
        hmat=[[0, 0, 100, 100], [0, 1, 200, 100], [0, 2, 200, 100], [0, 3, 400, 100]],
    )
    assert found.nodelists() == {4: [0], 9: [1, 2], 18: [3]}
    assert found.targets == (0b0010, 0b1000, 0b1000, 0)  # node 1 is nearer to 0 than node 2 is
    assert found.lower == (0b1110, 0b1000, 0b1000, 0)


def test_equally_near_nodes_of_the_next_tier_are_both_targets():
    nodes = [{"memory": "64M", "cpus": [0]}, {"memory": "64M"}, {"memory": "64M"}]
    found, _ = tiers(memory="192M", nodes=nodes, hmat=[[0, 0, 100, 100], [0, 1, 200, 100], [0, 2, 200, 100]])
    assert found.targets[0] == 0b110


def test_the_cxl_preset_demotes_each_socket_to_its_own_expander():
    cfg, layout, _ = build_machine(machine_from_table({"preset": "xeon-2socket-cxl"}))
    found = memory_tiers(cfg, layout)
    assert found.targets == (0b0100, 0b1000, 0, 0) and found.toptier == (True, True, False, False)
