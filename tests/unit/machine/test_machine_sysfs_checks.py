"""What a [sysfs] table may not say, and the same of params: errors by key, before anything runs."""

import pytest

from mmlab.errors import InputError, NotSupported
from mmlab.experiment.load import load_experiment
from mmlab.machine import machine_from_table
from mmlab.procfs.accepted import settings_faults
from mmlab.simulation import Simulation

CTX = "kernel/mm/damon/admin/kdamonds/0/contexts/0/"
WORKLOAD = '[workload]\nkind = "synthetic"\ngenerator = "loop"\nparams = {pages = 10, events = 10}\n'


@pytest.mark.parametrize(
    ("table", "faults"),
    [
        ({"kernel/mm/mempolicy/weighted_interleave/node0": "0"}, ["node0\": a weight must be 1 to 255 (Linux would take 0 as the default), got '0'"]),
        ({"kernel/mm/mempolicy/weighted_interleave/node0": "256"}, ["node0\": a weight must be 1 to 255 (Linux would take 0 as the default), got '256'"]),
        ({"kernel/mm/mempolicy/weighted_interleave/node0": "two"}, ["node0\": a weight must be 1 to 255 (Linux would take 0 as the default), got 'two'"]),
        ({"kernel/mm/mempolicy/weighted_interleave/node9": "3"}, ["node9\": node 9 does not exist: the machine has 1"]),
        ({CTX + "monitoring_attrs/intervals/aggr_us": 0}, ["aggr_us\": an interval must be at least 1, got 0", "sample_us\": must be at most aggr_us (0), got 5000"]),
        ({CTX + "monitoring_attrs/nr_regions/min": 2}, ["nr_regions/min\": must be at least 3, got 2"]),
        ({CTX + "monitoring_attrs/nr_regions/max": 5}, ["nr_regions/min\": must be at most max (5), got 10"]),
        (
            {CTX + "schemes/1/access_pattern/age/min": 7, CTX + "schemes/1/access_pattern/age/max": 5},
            ["schemes/1/access_pattern/age/min\": must be at most max (5), got 7: the scheme would match nothing"],
        ),
        (
            {CTX + "schemes/0/watermarks/high": 500, CTX + "schemes/0/watermarks/mid": 600, CTX + "schemes/0/watermarks/low": 700},
            ["watermarks/mid\": must be at most high (500), got 600", "watermarks/low\": must be at most mid (600), got 700"],
        ),
        ({CTX + "targets/0/regions/0/start": 8192, CTX + "targets/0/regions/0/end": 4096}, ["regions/0/start\": must be below end (4096), got 8192"]),
        (
            {CTX + f"targets/1/regions/{i}/{name}": at for i, ends in enumerate([(0, 5000), (4096, 9000)]) for name, at in zip(("start", "end"), ends)},
            ["targets/1/regions/1/start\": must be at least the end of the region before, rounded up to a page (8192), got 4096"],
        ),
        (
            {CTX + "schemes/0/filters/2/addr_start": 10, CTX + "schemes/0/filters/2/addr_end": 9},
            ["filters/2/addr_start\": must be at most addr_end (9), got 10"],
        ),
    ],
)
def test_faults_of_sysfs(table, faults):
    with pytest.raises(InputError) as error:
        machine_from_table({"memory": "64M"}, "x.toml", sysfs=table)
    assert len(error.value.messages) == len(faults)
    for message, fault in zip(error.value.messages, faults):
        assert message.startswith("x.toml: sysfs.") and fault in message


def test_what_is_right_stays():
    table = {CTX + "schemes/0/access_pattern/age/max": "3", CTX + "state": "on", "kernel/mm/mempolicy/weighted_interleave/node0": "3"}
    assert machine_from_table({"memory": "64M"}, "", sysfs=table).sysfs == table


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[monitor]\nuse = 'damon'\nparams = {min_nr_regions = 20, max_nr_regions = 10}", "monitor.params.min_nr_regions: must be at most max_nr_regions (10), got 20"),
        ("[monitor]\nuse = 'damon'\nparams = {sample_us = 0}", "monitor.params.sample_us: must be 1 or more, got 0"),
        ("[monitor]\nuse = 'damon'\nparams = {sample_us = 200, aggr_us = 100}", "monitor.params.sample_us: must be at most aggr_us (100), got 200"),
        ("[monitor]\nuse = 'hint_fault'\nparams = {scan_period_ms = 0}", "monitor.params.scan_period_ms: must be 1 or more, got 0"),
        (
            "[tiering]\nuse = 'damos'\nparams = {hot_accesses = 30}",
            "tiering.params.hot_accesses: must be at most aggr_us / sample_us (20), or nothing is ever hot, got 30",
        ),
    ],
)
def test_params_that_contradict(text, message, tmp_path):
    (tmp_path / "x.toml").write_text(WORKLOAD + text)
    with pytest.raises(InputError) as error:
        load_experiment(tmp_path / "x.toml")
    assert error.value.messages == [f"{tmp_path}/x.toml: {message}"]


def test_values_that_a_file_would_refuse_are_named_by_key_with_all_other_faults(tmp_path):
    (tmp_path / "x.toml").write_text(
        '[machine]\nnodes = [{memory = "8M", cpus = [0]}, {memory = "8M"}]\n' + WORKLOAD + "[sysctl]\nkernel.numa_balancing = 9\nvm.zone_reclaim_mode = -1\n"
        '[sysfs]\n"kernel/mm/numa/demotion_enabled" = "maybe"\n"kernel/debug/sched/numa_balancing/scan_size_mb" = "a"\n'
        '"kernel/mm/transparent_hugepage/enabled" = "sometimes"\n"kernel/mm/transparent_hugepage/khugepaged/pages_to_scan" = 0\n'
    )
    with pytest.raises(InputError) as caught:
        load_experiment(tmp_path / "x.toml")
    assert [message.partition("x.toml: ")[2] for message in caught.value.messages] == [
        "machine.nodes: memory must be at least 32M together, got 16384K",
        "sysctl.\"kernel.numa_balancing\": must be a whole number between 0 and 4, got '9'",
        "sysctl.\"vm.zone_reclaim_mode\": must be a whole number between 0 and 2147483647, got '-1'",
        "sysfs.\"kernel/mm/numa/demotion_enabled\": must be a truth value (1, 0, true, false, on, off), got 'maybe'",
        "sysfs.\"kernel/debug/sched/numa_balancing/scan_size_mb\": must be a whole number between 0 and 2147483647, got 'a'",
        "sysfs.\"kernel/mm/transparent_hugepage/enabled\": must be one of always, madvise, never, got 'sometimes'",
        "sysfs.\"kernel/mm/transparent_hugepage/khugepaged/pages_to_scan\": must be a whole number between 1 and 4294967295, got '0'",
    ]


@pytest.mark.parametrize("value", ["1", "true", "on", "Y", "off", "0"])
def test_truth_values_are_taken_as_the_kernel_takes_them(value):
    assert list(settings_faults({"sysfs": {"kernel/mm/numa/demotion_enabled": value}})) == []


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("kdamonds/nr_kdamonds", "x", "must be a whole number, not below 0, got 'x' (EINVAL)"),
        (CTX.removeprefix("kernel/mm/damon/admin/") + "operations", "vadr", "must be one of vaddr, fvaddr, paddr, got 'vadr' (EINVAL)"),
        (CTX.removeprefix("kernel/mm/damon/admin/") + "monitoring_attrs/intervals/sample_us", "5ms", "must be a whole number, not below 0, got '5ms' (EINVAL)"),
        (CTX.removeprefix("kernel/mm/damon/admin/") + "monitoring_attrs/nr_regions/least", "3", "no such file; the folders of a number N come by N in nr_contexts"),
        (CTX.removeprefix("kernel/mm/damon/admin/") + "schemes/0/action", "pageout", "no such file; the folders of a number N come by N in nr_contexts"),
    ],
)
def test_what_damon_refuses_at_boot_names_the_key(key, value, said):
    made = {"kernel/mm/damon/admin/kdamonds/nr_kdamonds": "1", "kernel/mm/damon/admin/kdamonds/0/contexts/nr_contexts": "1"}
    policies = {"monitor": {"use": "damon"}, "thp": {"use": "never"}}
    with pytest.raises(InputError) as caught:
        Simulation.from_table({"memory": "4M", "bare": True}, sysfs={**made, f"kernel/mm/damon/admin/{key}": value}, policies=policies)
    assert f'sysfs."kernel/mm/damon/admin/{key}": {said}' in str(caught.value)


def test_an_unknown_sysctl_is_named_when_the_file_is_read(tmp_path):
    (tmp_path / "x.toml").write_text(WORKLOAD + "[sysctl]\nvm.swapiness = 10\nkernel.pid_max = 1000\nvm.watermark_scale_factor = 0\n")
    with pytest.raises(InputError) as caught:
        load_experiment(tmp_path / "x.toml")
    typo, low, foreign = [message.partition("x.toml: ")[2] for message in caught.value.messages]
    assert typo == "sysctl.\"vm.swapiness\": mmlab has no such sysctl; did you mean 'vm.swappiness'?"
    assert foreign.startswith("sysctl.\"kernel.pid_max\": mmlab has no such sysctl (it has kernel.numa_balancing, ") and "vm.zone_reclaim_mode" in foreign
    assert low == "sysctl.\"vm.watermark_scale_factor\": must be a whole number between 1 and 3000, got '0'"


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("kernel/mm/numa/demotion_enable", "; did you mean 'demotion_enabled'?"),
        ("kernel/mm/transparent_hugepage/khugepaged/scan_sleep_millisec", "; did you mean 'scan_sleep_millisecs'?"),
        ("kernel/mm/ksm/run", ""),
    ],
)
def test_an_unknown_file_is_bad_input_with_the_near_one_of_its_folder(key, hint):
    with pytest.raises(InputError) as caught:
        Simulation.from_table({"memory": "4M", "bare": True}, sysfs={key: 1})
    assert caught.value.messages == [f'sysfs."{key}": mmlab has no such file{hint}']


def test_a_setting_that_is_not_simulated_names_its_key():
    with pytest.raises(NotSupported, match='^sysctl."vm.laptop_mode": sysctl vm.laptop_mode = 3: not supported yet'):
        Simulation.from_table({"memory": "4M", "bare": True}, sysctl={"vm.laptop_mode": 3})


@pytest.mark.parametrize("nodes", [[{}], [{"cpus": [0]}]])
def test_nodes_without_any_memory(nodes):
    with pytest.raises(InputError, match="machine.nodes: at least one must have memory"):
        machine_from_table({"nodes": nodes, "bare": True})
