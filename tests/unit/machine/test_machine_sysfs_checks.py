"""What a [sysfs] table may not say, and the same of params: errors by key, before anything runs."""

import pytest

from mmlab.errors import InputError
from mmlab.experiment.load import load_experiment
from mmlab.machine import machine_from_table

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
