"""/sys/kernel/mm/damon/admin and the modules' parameters: defaults, what is refused and how, what is exclusive."""

import pytest
from damon_script import ADMIN, CTX
from mmlab_linux.monitor.damon import report
from mmlab_linux.monitor.damon import state as s

from mmlab import procfs
from mmlab._engine.cell import unexercised
from mmlab.errors import NotSupported
from mmlab.model import rows as r
from mmlab.simulation import Simulation

pytestmark = pytest.mark.nojit
ROOT = "/sys/kernel/"
EINVAL, EBUSY, EACCES, ENOMEM, ENOENT, EPERM, ERANGE = -22, -16, -13, -12, -2, -1, -34


@pytest.fixture
def sim():
    found = Simulation.from_table({"memory": "32M", "bare": True}, policies={"monitor": {"use": "damon", "params": {"autostart": False}}})
    found.spawn("A")
    return found


def put(sim, path, value):
    return procfs.write(sim, ROOT + path, str(value))


def get(sim, path):
    return procfs.read(sim, ROOT + path).rstrip("\n")


def ready(sim, operations="paddr", **attrs):
    """A context that can be turned on; attrs: path below monitoring_attrs with __ for /."""
    for path, value in ((f"{ADMIN}nr_kdamonds", 1), (f"{ADMIN}0/contexts/nr_contexts", 1), (f"{CTX}operations", operations), (f"{CTX}targets/nr_targets", 1)):
        assert put(sim, path, value) == 0
    for name, value in attrs.items():
        assert put(sim, f"{CTX}monitoring_attrs/{name.replace('__', '/')}", value) == 0


def test_defaults(sim):
    ready(sim, "vaddr")
    assert put(sim, f"{CTX}schemes/nr_schemes", 1) == 0
    files = dict(procfs.files(sim, "/sys/kernel/mm/damon/admin"))
    context = "kdamonds/0/contexts/0/"
    expected = {
        "kdamonds/nr_kdamonds": "1", "kdamonds/0/state": "off", "kdamonds/0/pid": "-1", context + "avail_operations": "vaddr\nfvaddr\npaddr",
        context + "monitoring_attrs/intervals/sample_us": "5000", context + "monitoring_attrs/intervals/aggr_us": "100000",
        context + "monitoring_attrs/intervals/update_us": "60000000", context + "monitoring_attrs/nr_regions/min": "10",
        context + "monitoring_attrs/nr_regions/max": "1000", context + "schemes/0/action": "stat", context + "schemes/0/target_nid": "-1",
        context + "schemes/0/watermarks/metric": "none", context + "schemes/0/access_pattern/sz/max": "0",
    }  # fmt: skip
    assert {path: files[path].rstrip("\n") for path in expected} == expected


@pytest.mark.parametrize(
    ("path", "value", "error"),
    [
        (f"{ADMIN}0/contexts/nr_contexts", 2, EINVAL),
        (f"{CTX}operations", "nothing", EINVAL),
        (f"{CTX}monitoring_attrs/intervals/sample_us", "-1", EINVAL),
        (f"{CTX}monitoring_attrs/intervals/sample_us", "fast", EINVAL),
        (f"{CTX}schemes/0/action", "pageout now", EINVAL),
        (f"{CTX}schemes/1/action", "pageout", ENOENT),
        (f"{CTX}avail_operations", "vaddr", EACCES),
        (f"{ADMIN}0/state", "maybe", EINVAL),
        (f"{CTX}schemes/0/stats/nr_tried", 5, EACCES),
        (f"{ADMIN}0/state", "off", EINVAL),
        (f"{ADMIN}0/state", "update_schemes_stats", EINVAL),
    ],
)
def test_what_a_file_refuses(sim, path, value, error):
    ready(sim)
    put(sim, f"{CTX}schemes/nr_schemes", 1)
    assert put(sim, path, value) == error


def test_a_number_written_makes_new_folders_with_defaults(sim):
    ready(sim)
    put(sim, f"{CTX}schemes/nr_schemes", 2)
    put(sim, f"{CTX}schemes/1/action", "cold")
    put(sim, f"{CTX}schemes/nr_schemes", 2)
    assert get(sim, f"{CTX}schemes/1/action") == "stat"
    put(sim, f"{CTX}schemes/nr_schemes", 0)
    with pytest.raises(FileNotFoundError):
        get(sim, f"{CTX}schemes/0/action")


@pytest.mark.parametrize(
    "attrs",
    [
        {"nr_regions__min": 2},
        {"nr_regions__min": 11, "nr_regions__max": 10},
        {"intervals__sample_us": 200_000},
    ],
)
def test_attributes_that_contradict_are_refused_by_on(sim, attrs):
    ready(sim, **attrs)
    assert put(sim, f"{ADMIN}0/state", "on") == EINVAL


@pytest.mark.parametrize("bounds", [[(8192, 4096)], [(8192, 8192)], [(0, 8192), (4096, 12288)], [(8192, 12288), (0, 4096)]])
def test_regions_that_are_no_ranges_are_refused_by_on(sim, bounds):
    ready(sim)
    put(sim, f"{CTX}targets/0/regions/nr_regions", len(bounds))
    for i, (start, end) in enumerate(bounds):
        put(sim, f"{CTX}targets/0/regions/{i}/start", start)
        put(sim, f"{CTX}targets/0/regions/{i}/end", end)
    assert put(sim, f"{ADMIN}0/state", "on") == EINVAL


def test_on_needs_a_process_for_virtual_addresses_and_one_target_for_physical(sim):
    ready(sim, "vaddr")
    put(sim, f"{CTX}targets/0/pid_target", 99999)
    assert put(sim, f"{ADMIN}0/state", "on") == EINVAL
    ready(sim, "paddr")
    put(sim, f"{CTX}targets/nr_targets", 2)
    assert put(sim, f"{ADMIN}0/state", "on") == EINVAL


def test_a_running_kdamond_is_busy_and_has_a_pid(sim):
    ready(sim)
    assert put(sim, f"{ADMIN}0/state", "on") == 0
    assert put(sim, f"{ADMIN}0/state", "on") == EBUSY and put(sim, f"{ADMIN}nr_kdamonds", 2) == EBUSY
    assert get(sim, f"{ADMIN}0/state") == "on" and int(get(sim, f"{ADMIN}0/pid")) > 0
    assert put(sim, f"{ADMIN}0/state", "off") == 0
    assert (get(sim, f"{ADMIN}0/state"), get(sim, f"{ADMIN}0/pid")) == ("off", "-1")
    assert put(sim, f"{ADMIN}0/state", "off") == EPERM
    assert put(sim, f"{ADMIN}0/state", "on") == 0  # the settings are still there


def test_a_kdamond_without_a_process_to_monitor_ends_at_once(sim):
    ready(sim, "vaddr")
    assert put(sim, f"{CTX}targets/nr_targets", 0) == 0 and put(sim, f"{ADMIN}0/state", "on") == 0
    assert get(sim, f"{ADMIN}0/state") == "off"
    assert (put(sim, f"{ADMIN}0/state", "commit"), put(sim, f"{ADMIN}0/state", "off")) == (EINVAL, EPERM)


def test_off_needs_no_settings(sim):
    ready(sim)
    assert put(sim, f"{ADMIN}0/state", "off") == EINVAL  # it never had a context
    assert put(sim, f"{ADMIN}0/state", "on") == 0 and put(sim, f"{ADMIN}0/contexts/nr_contexts", 0) == 0
    states = [put(sim, f"{ADMIN}0/state", command) for command in ("commit", "off", "off")]
    assert states == [EINVAL, 0, EPERM]


@pytest.mark.parametrize(
    ("path", "value", "error"),
    [
        ("monitoring_attrs/intervals/sample_us", 1 << 64, ERANGE), ("schemes/0/quotas/ms", 1 << 64, EINVAL), ("schemes/0/quotas/ms", "x", EINVAL),
        ("schemes/0/quotas/weights/age_permil", 1 << 32, ERANGE), ("schemes/0/target_nid", 1 << 31, ERANGE), ("schemes/0/target_nid", -5, 0),
        ("schemes/0/access_pattern/sz/max", (1 << 64) - 1, 0), ("schemes/0/filters/nr_filters", -1, EINVAL), ("targets/0/pid_target", 1 << 31, EINVAL),
        ("targets/0/pid_target", -1, 0), ("targets/nr_targets", 1 << 31, ERANGE),
    ],
)  # fmt: skip
def test_numbers_that_do_not_fit_are_out_of_range_or_invalid_by_file(sim, path, value, error):
    ready(sim)
    assert put(sim, f"{CTX}schemes/nr_schemes", 1) == 0
    assert put(sim, CTX + path, value) == error


def test_a_filter_takes_any_int_as_target(sim):
    ready(sim)
    assert put(sim, f"{CTX}schemes/nr_schemes", 1) == 0 and put(sim, f"{CTX}schemes/0/filters/nr_filters", 1) == 0
    assert put(sim, f"{CTX}schemes/0/filters/0/damon_target_idx", -1) == 0
    assert put(sim, f"{CTX}schemes/0/filters/0/damon_target_idx", -(1 << 31) - 1) == ERANGE


def test_parameters_that_are_not_there(sim):
    assert procfs.write(sim, "/sys/module/damon_reclaim/parameters/nosuch", "1") == ENOENT
    assert procfs.write(sim, "/sys/module/damon_reclaim/parameters/min_age", str(1 << 64)) == ERANGE


def test_modules_want_to_be_alone(sim):
    lru_sort, reclaim = ("/sys/module/damon_lru_sort/parameters/", "/sys/module/damon_reclaim/parameters/")
    ready(sim)
    assert put(sim, f"{ADMIN}0/state", "on") == 0 and procfs.write(sim, lru_sort + "enabled", "Y") == EBUSY
    assert put(sim, f"{ADMIN}0/state", "off") == 0 and procfs.write(sim, lru_sort + "enabled", "Y") == 0
    assert procfs.write(sim, reclaim + "enabled", "Y") == EBUSY and put(sim, f"{ADMIN}0/state", "on") == EBUSY
    assert procfs.read(sim, lru_sort + "enabled") == "Y\n" and procfs.write(sim, lru_sort + "enabled", "N") == 0
    assert procfs.write(sim, reclaim + "quota_ms", "soon") == EINVAL


def test_reclaim_watches_the_biggest_range_of_ram_and_reclaims_nothing():
    machine = {"memory": "128M", "swap": "64M"}
    sim = Simulation.from_table(machine, policies={"monitor": {"use": "damon", "params": {"autostart": False}}})
    folder = "/sys/module/damon_reclaim/parameters/"
    sim.spawn("A")
    sim.touch("A", sim.mmap("A", 8 << 20), 2048, 1)
    for name, value in {"min_age": 200_000, "quota_ms": 0, "wmarks_high": 999, "wmarks_mid": 998, "wmarks_low": 1, "enabled": "Y"}.items():
        assert procfs.write(sim, folder + name, str(value)) == 0
    sim.sleep(2000)
    assert procfs.read(sim, folder + "monitor_region_start") == "1048576\n"
    assert int(procfs.read(sim, folder + "monitor_region_end")) == (128 << 20) - 38 * 4096 - 1  # up to the ACPI tables of a machine with one disk
    assert procfs.read(sim, folder + "nr_reclaim_tried_regions") == "0\n" and sim.counters()["pswpout"] == 0
    assert sim.machine.states["monitor"].ctx.any() and sim.check_state() == []


def test_reclaim_refuses_attributes_though_it_uses_none(sim):
    folder = "/sys/module/damon_reclaim/parameters/"
    assert procfs.write(sim, folder + "min_nr_regions", "2000") == 0 and procfs.write(sim, folder + "enabled", "Y") == EINVAL
    assert procfs.write(sim, folder + "min_nr_regions", "10") == 0 and procfs.write(sim, folder + "enabled", "Y") == 0


def test_what_is_not_simulated_is_said(sim):
    with pytest.raises(NotSupported, match="more than 8 kdamonds"):
        put(sim, f"{ADMIN}nr_kdamonds", 9)


BAD_COMMITS = [("monitoring_attrs/nr_regions/min", 2000), ("monitoring_attrs/intervals/aggr_us", 1000), ("targets/nr_targets", 2)]


@pytest.mark.parametrize(("path", "value"), BAD_COMMITS)
def test_a_commit_that_is_refused_ends_the_kdamond(sim, path, value):
    """The write itself succeeds, as on the recorded kernel; then there is nothing to commit to, and what is wrong keeps it from starting."""
    ready(sim)
    assert put(sim, f"{ADMIN}0/state", "on") == 0 and put(sim, CTX + path, value) == 0
    assert put(sim, f"{ADMIN}0/state", "commit") == 0
    assert get(sim, f"{ADMIN}0/state") == "off" and get(sim, f"{ADMIN}0/pid") == "-1"
    assert [put(sim, f"{ADMIN}0/state", word) for word in ("commit", "on", "off")] == [EINVAL] * 3


def test_only_goals_are_read_when_goals_are_committed(sim):
    """What is wrong elsewhere does not matter then."""
    ready(sim)
    assert put(sim, f"{CTX}schemes/nr_schemes", 1) == 0 and put(sim, f"{ADMIN}0/state", "on") == 0
    assert put(sim, f"{CTX}monitoring_attrs/nr_regions/min", 2000) == put(sim, f"{CTX}schemes/0/quotas/goals/nr_goals", 1) == 0
    assert put(sim, f"{CTX}schemes/0/quotas/goals/0/target_value", 50) == 0 and put(sim, f"{ADMIN}0/state", "commit_schemes_quota_goals") == 0
    assert get(sim, f"{ADMIN}0/state") == "on" and sim.machine.states["monitor"].goal[s.G_TARGET] == 50


def test_a_refused_commit_of_parameters_ends_lru_sort(sim):
    folder = "/sys/module/damon_lru_sort/parameters/"
    for name, value in {"wmarks_high": 1000, "wmarks_mid": 999, "wmarks_low": 0, "enabled": "Y"}.items():
        assert procfs.write(sim, folder + name, str(value)) == 0
    assert procfs.write(sim, folder + "sample_interval", "200000") == 0 and procfs.write(sim, folder + "commit_inputs", "Y") == 0
    sim.sleep(300)
    assert procfs.read(sim, folder + "enabled") == "N\n" and procfs.write(sim, folder + "enabled", "Y") == EINVAL


def test_numbers_of_files_are_longs_and_some_of_damon_are_not(sim):
    """A pattern's accesses and ages are unsigned ints: 2**32 is 0 of them. A goal without a target is none."""
    ready(sim)
    for path, value in (("nr_schemes", 1), ("0/access_pattern/age/max", 1 << 32), ("0/access_pattern/nr_accesses/max", (1 << 32) + 7),
                        ("0/access_pattern/sz/max", 1 << 32), ("0/quotas/goals/nr_goals", 2), ("0/quotas/goals/1/target_value", 50)):  # fmt: skip
        assert put(sim, f"{CTX}schemes/{path}", value) == 0
    assert put(sim, f"{ADMIN}0/state", "on") == 0
    row = sim.machine.states["monitor"].scheme
    assert [row[word] for word in (s.S_MAX_AGE, s.S_MAX_NR_ACCESSES, s.S_MAX_SZ, s.S_NR_GOALS)] == [0, 7, 1 << 32, 1]


def test_a_goal_of_memory_pressure_asks_what_was_stalled_since(sim):
    """No stall: the quota doubles each window of one aggregation. 5 ms of stall are more than twice the goal of 1 ms: back to one byte."""
    ready(sim)
    for path, value in (("nr_schemes", 1), ("0/quotas/reset_interval_ms", 100), ("0/quotas/goals/nr_goals", 1),
                        ("0/quotas/goals/0/target_metric", "some_mem_psi_us"), ("0/quotas/goals/0/target_value", 1000)):  # fmt: skip
        assert put(sim, f"{CTX}schemes/{path}", value) == 0
    assert put(sim, f"{ADMIN}0/state", "on") == 0
    quota = sim.machine.states["monitor"].scheme
    seen = []
    for stalled_ns in (0, 0, 5_000_000, 0, 0):
        sim.machine.psi[[r.PSI_SOME_NS, r.PSI_SEEN]] += stalled_ns
        windows = int(quota[s.S_CHARGED_FROM])
        while int(quota[s.S_CHARGED_FROM]) in (windows, -1) or not quota[s.S_ESZ]:
            sim.sleep(20)
        seen.append(int(quota[s.S_ESZ]))
    assert seen == [2, 4, 1, 2, 4]


@pytest.mark.parametrize("filter_of", [{"type": "memcg", "memcg_path": "/nobody"}, {"type": "addr", "addr_start": 8192, "addr_end": 4096}])
def test_filters_that_cannot_be_are_refused_by_on(sim, filter_of):
    """With ENOMEM, as a scheme that could not be made; what ran before is gone then, and `off` has nothing to end."""
    ready(sim)
    put(sim, f"{CTX}schemes/nr_schemes", 1)
    assert put(sim, f"{ADMIN}0/state", "on") == 0 and put(sim, f"{ADMIN}0/state", "off") == 0
    assert put(sim, f"{ADMIN}0/state", "off") == EPERM
    put(sim, f"{CTX}schemes/0/filters/nr_filters", 1)
    for name, value in filter_of.items():
        assert put(sim, f"{CTX}schemes/0/filters/0/{name}", value) == 0
    assert put(sim, f"{ADMIN}0/state", "on") == ENOMEM
    assert put(sim, f"{ADMIN}0/state", "off") == EINVAL


def test_a_run_in_which_damon_looked_at_nothing_fails(sim):
    ready(sim)
    sim.sleep(100)
    assert ["looked at nothing" in text for text in unexercised(sim, sim.machine.calls()) if "damon" in text] == [True]
    put(sim, f"{CTX}targets/0/regions/nr_regions", 1)
    put(sim, f"{CTX}targets/0/regions/0/end", 1 << 20)
    assert put(sim, f"{ADMIN}0/state", "on") == 0
    sim.sleep(100)
    assert [text for text in unexercised(sim, sim.machine.calls()) if "damon" in text] == []


@pytest.mark.parametrize("paddr", [True, False])
def test_damon_starts_by_itself_where_no_script_does(paddr):
    sim = Simulation.from_table({"memory": "32M", "bare": True}, policies={"monitor": {"use": "damon", "params": {"paddr": paddr}}})
    sim.sleep(20)
    assert report(sim.machine, sim.machine.states["monitor"]) == [] or paddr
    sim.spawn("A")
    places = [sim.mmap("A", 1 << 20, addr=place, flags=["fixed"]) for place in (0x10000000, 0x20000000, 0x40000000)]
    sim.touch("A", places[2], 256, 1)
    sim.sleep(500)
    rows = report(sim.machine, sim.machine.states["monitor"])
    watched = sum(row["end"] - row["start"] for row in rows)
    assert sim.check_state() == []
    assert watched == (int(sim.machine.sc[r.SC_MAX_PFN]) << 12 if paddr else 3 << 20)


def test_without_damon_its_files_are_not_there():
    plain = Simulation.from_table({"memory": "32M", "bare": True})
    with pytest.raises(NotSupported, match="nr_kdamonds"):
        put(plain, f"{ADMIN}nr_kdamonds", 1)
    assert plain.machine.sc[r.SC_NR_LOOPS] == 0
