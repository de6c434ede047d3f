"""From TOML to checked cells, and everything that can be wrong with a file."""

from __future__ import annotations

from pathlib import Path

import pytest
from experiment_fakes import DEFAULTS, FakeRegistry

from mmlab.errors import InputError
from mmlab.experiment.load import load_experiment
from mmlab.experiment.toml_file import read_set

WORKLOAD = '[workload]\nkind = "synthetic"\ngenerator = "uniform"\nparams = {pages = 10, events = 20}\n'


@pytest.fixture
def load(tmp_path):
    def load_text(text, changes=None, registry=None, workload=WORKLOAD):
        (tmp_path / "scan.toml").write_text(text + "\n" + workload)
        return load_experiment(tmp_path / "scan.toml", changes, registry or FakeRegistry(), DEFAULTS)

    return load_text


@pytest.fixture
def messages(load, tmp_path):
    def of(text, **more):
        with pytest.raises(InputError) as caught:
            load(text, **more)
        return [m.removeprefix(f"{tmp_path / 'scan.toml'}: ") for m in caught.value.messages]

    return of


def settings(experiment):
    return [(c.config["policies"]["reclaimer"]["use"], c.axes, c.seed) for c in experiment.cells]


def test_empty_file_gives_the_defaults(load):
    experiment = load("")
    (cell,) = experiment.cells
    assert experiment.name == "scan"
    assert cell.config["policies"] == {
        "reclaimer": {"use": "two_list", "params": {"swappiness": 60, "workingset": True}},
        "page_allocator": {"use": "buddy", "params": {}},
        "cost_model": {"use": "vm_guest", "params": {}},
    }  # no plugin offers a thp
    assert cell.config["run"] == {"check_every": 0, "sample_ns": 10_000_000, "after_oom": "fail", "explain": 0, "score_ms": 0.0, "hot_share": 0.9}
    assert cell.config["seed"] == 1
    assert cell.axes == {}


def test_matrix_runs_the_last_key_fastest_and_seeds_within(load):
    experiment = load("[matrix]\nreclaimer.use = ['two_list', 'opt']\n'machine.cpus' = [1, 2]\n[seeds]\nvalues = [7, 9]")
    assert settings(experiment)[:3] == [
        ("two_list", {"reclaimer.use": "two_list", "machine.cpus": 1}, 7),
        ("two_list", {"reclaimer.use": "two_list", "machine.cpus": 1}, 9),
        ("two_list", {"reclaimer.use": "two_list", "machine.cpus": 2}, 7),
    ]
    assert len(experiment.cells) == 8


def test_a_parameter_applies_where_the_policy_has_it(load):
    """clock has no swappiness: it runs once, not once per swappiness."""
    experiment = load("[matrix]\nreclaimer.use = ['two_list', 'clock']\nreclaimer.params.swappiness = [0, 100]")
    assert [(c.axes["reclaimer.use"], c.axes["reclaimer.params.swappiness"]) for c in experiment.cells] == [
        ("two_list", 0),
        ("two_list", 100),
        ("clock", None),
    ]
    assert experiment.cells[2].config["policies"]["reclaimer"]["params"] == {"hand_step": 1}


def test_include_and_exclude(load):
    text = """
    [matrix]
    reclaimer.use = ["two_list", "opt"]
    machine.cpus = [1, 2]
    exclude = [{reclaimer.use = "opt", machine.cpus = 2}]
    include = [{"reclaimer.use" = "fifo", "machine.memory" = "64M"}]
    """
    cells = load(text).cells
    assert [tuple(c.axes.values()) for c in cells] == [
        ("two_list", 1, None),
        ("two_list", 2, None),
        ("opt", 1, None),
        ("fifo", None, "64M"),
    ]


def test_sysctl_keys_may_be_quoted_or_not(load):
    (cell,) = load("[sysctl]\nvm.swappiness = 10\n'vm.min_free_kbytes' = 2000").cells
    assert cell.config["sysctl"] == {"vm.swappiness": 10, "vm.min_free_kbytes": 2000}


def test_changes_replace_values_and_matrix_keys(load):
    text = "[matrix]\nreclaimer.use = ['two_list', 'opt']\nmachine.cpus = [1, 2]"
    experiment = load(text, dict([read_set("reclaimer.use=fifo"), read_set("seeds.count=2")]))
    assert [(name, seed) for name, _, seed in settings(experiment)] == [("fifo", 1), ("fifo", 2), ("fifo", 1), ("fifo", 2)]
    assert experiment.axes == ("machine.cpus",)


def test_parameters_of_policies_that_a_change_took_out_are_no_mistake(load):
    text = "[matrix]\nreclaimer.use = ['two_list', 'clock']\n[reclaimer.params]\nswappiness = 3\nhand_step = 2"
    for change in ({"reclaimer.use": "clock"}, {"matrix.reclaimer.use": ["clock"]}):
        (cell,) = load(text, change).cells
        assert cell.config["policies"]["reclaimer"] == {"use": "clock", "params": {"hand_step": 2}}
    with pytest.raises(InputError, match="reclaimer.params.swappiness: unknown key"):  # but what the change itself says is for its policy
        load(text, {"reclaimer.use": "clock", "reclaimer.params.swappiness": 5})
    with pytest.raises(InputError, match="reclaimer.params.swapiness: unknown key"):
        load(text.replace("swappiness", "swapiness"), {"reclaimer.use": "clock"})


def test_a_baseline_goes_with_what_a_change_takes_out_of_the_matrix(load):
    text = "[report]\nbaseline = 'opt'\n[matrix]\nreclaimer.use = ['two_list', 'opt']"
    assert load(text, {"reclaimer.use": "fifo"}).report.baseline == ""
    assert load(text, {"seeds.count": 2}).report.baseline == "opt"
    with pytest.raises(InputError, match=r"report.baseline: must be a value that the matrix varies \(one of: opt, two_list\), got 'lru'"):
        load(text, {"report.baseline": "lru"})


@pytest.mark.parametrize(
    ("item", "value"), [("a=1", 1), ("a=[1, 2]", [1, 2]), ("a=true", True), ("a=two_list", "two_list"), ("a='1'", "1")]
)
def test_read_set(item, value):
    assert read_set(item) == ("a", value)


def test_set_without_a_value():
    with pytest.raises(InputError, match="--set reclaimer: must read KEY=VALUE"):
        read_set("reclaimer")


def test_broken_toml_says_line_and_column(load, tmp_path):
    with pytest.raises(InputError) as caught:
        load("[machine]\nmemory 3")
    assert str(caught.value).startswith(f"{tmp_path / 'scan.toml'}:2:8: broken TOML: ")


def test_missing_file(tmp_path):
    with pytest.raises(InputError, match=r"no.toml: cannot be read: No such file"):
        load_experiment(tmp_path / "no.toml", None, FakeRegistry(), DEFAULTS)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "[reclaimer]\nuse = 'two_lists'",
            "reclaimer.use: no reclaimer named 'two_lists' (known: clock, fifo, opt, two_list); did you mean 'two_list'?",
        ),
        ("[reclaimer.params]\nswappiness = 250", "reclaimer.params.swappiness: must be between 0 and 200, got 250"),
        ("[reclaimer]\nuse = 'fifo'\nparams = {swappiness = 2}", "reclaimer.params.swappiness: unknown key: fifo has no parameters"),
        (
            "[reclaimer]\nswappiness = 2",
            "reclaimer.swappiness: unknown key (known: params, use); 'swappiness' is a parameter: it belongs into the table below, params",
        ),
        ("reclaimer = 'fifo'", "reclaimer: must be a table, got 'fifo'; for a policy write reclaimer.use = 'fifo'"),
        ("[thp]\nuse = 'never'", "thp: no installed plugin offers a thp"),
        ("[run]\nsample_ms = 0", "run.sample_ms: must be between 0.001 and 1000000000.0, got 0.0"),
        ("[seeds]\nvalues = [1, 1]", "seeds: values must be different numbers of 0 or more, at least one, got [1, 1]"),
        ("name = 'a/b'", "name: must match regex"),
        ("[machine]\nmemry = '1G'", "machine.memry: no such key"),
        ("[matrix]\nreclaimer.use = 'fifo'", "matrix.reclaimer.use: must be a list of at least one value, got 'fifo'"),
        ("[matrix]\nreclaimer.use = ['fifo', 'fifo']", "matrix.reclaimer.use: must not hold a value twice"),
        ("[matrix]\nreclamer.use = ['fifo']", "matrix.reclamer.use: must start with one of"),
        ("[matrix]\nreclaimer = ['fifo']", "matrix.reclaimer: must be reclaimer.use or reclaimer.params.NAME"),
        ("[matrix]\nseeds.count = [1, 2]", "matrix.seeds.count: seeds do not belong into the matrix; give them in [seeds]"),
        ("[matrix]\nreclaimer.use = ['fifo', 'op']", "matrix.reclaimer.use: no reclaimer named 'op'"),
        ("[matrix]\nreclaimer.params.swappiness = [10, 300]", "matrix.reclaimer.params.swappiness: must be between 0 and 200, got 300"),
        ("[matrix]\nmachine.cpus = [0]", "matrix.machine.cpus: must be a whole number between 1 and 8192, got 0"),
        ("[matrix]\nmachine.cpus = [1]\nexclude = [{machine.cpus = 1}]", "matrix.exclude: leaves no combination to run"),
        (
            "[matrix]\nmachine.cpus = [1]\nexclude = [{reclaimer.use = 'opt'}]",
            "matrix.exclude: 'reclaimer.use' is not varied by the matrix",
        ),
        (
            "[report]\nbaseline = 'optt'\n[matrix]\nreclaimer.use = ['opt', 'fifo']",
            "report.baseline: must be a value that the matrix varies",
        ),
        (
            "[report]\ncounters = ['kills', 'work_lost']\njudged = 'work_lots'",
            "report.judged: must be one of report.counters (kills, work_lost), got 'work_lots'; did you mean 'work_lost'?",
        ),
    ],
)
def test_each_fault_is_said_once(messages, text, message):
    (said,) = messages(text)
    assert said.startswith(message)


def test_unknown_section(messages):
    assert messages("[reclaimr]\nuse = 'fifo'")[0].endswith("did you mean 'reclaimer'?")


def test_a_parameter_that_no_policy_of_the_matrix_has_is_said_once(messages):
    text = "[matrix]\nreclaimer.use = ['two_list', 'clock']\n[reclaimer.params]\nswapiness = 3"
    (said,) = messages(text)
    assert said.startswith("reclaimer.params.swapiness: unknown key")


def test_all_faults_of_a_file_at_once(messages):
    text = """
    reclaimer = {use = 'two_list', params = {swappiness = 250, workingset = 2}}
    run.check_every = -1
    machine.cpus = 0
    seeds.cont = 2
    """
    said = messages(text, workload="[workload]\nkind = 'strem'")
    assert [m.split(":")[0] for m in said] == [
        "seeds.cont",
        "run.check_every",
        "machine.cpus",
        "workload.kind",
        "reclaimer.params.workingset",
        "reclaimer.params.swappiness",
    ]


@pytest.mark.parametrize(
    ("workload", "message"),
    [
        ("", "workload: must be a table with a kind"),
        ("[workload]\nkind = 'trace'", "workload: needs one of trace = NAME"),
        ("[workload]\nkind = 'trace'\ntrace = 'nothing_of_this_name'", "workload.trace: no shipped trace 'nothing_of_this_name'"),
        ("[workload]\nkind = 'stream'\nfile = 'a.npz'", "workload.file: no such file: a.npz (looked in "),
        ('[workload]\nkind = "ops"\nscript = "spawn A\\nexit A"', "workload.script: must be the path of a file, got 2 lines of text"),
        ("[workload]\nkind = 'stream'", "workload.file: missing"),
        ("[workload]\nkind = 'stream'\nfile = 'scan.toml'\nrepeat = 0", "workload.repeat: must be 1 or more, got 0"),
        ("[workload]\nkind = 'synthetic'\ngenerator = 'zip'", "workload.generator: no generator named 'zip'"),
        (
            "[workload]\nkind = 'synthetic'\ngenerator = 'uniform'\nparams = {pages = 0, events = 3}",
            "workload.params.pages: must be 1 or more, got 0",
        ),
    ],
)
def test_workload_faults(messages, workload, message):
    (said,) = messages("", workload=workload)
    assert said.startswith(message)


def test_script_faults_name_file_and_line(tmp_path):
    (tmp_path / "w.ops").write_text("spawn T\nmmap T a 4Q anon\nflush T\n")
    with pytest.raises(InputError) as caught:
        load_experiment(tmp_path / "w.ops", None, FakeRegistry(), DEFAULTS)
    assert len(caught.value.messages) == 2
    assert "w.ops:2" in caught.value.messages[0]
    assert "w.ops:3" in caught.value.messages[1]


def test_cgroup_limits_that_contradict(tmp_path):
    script = tmp_path / "g.ops"
    script.write_text("cgroup g memory.min=20M\ncgroup h memory.low=max memory.max=1M\ncgroup g memory.max=10M\ncgroup g memory.min=5M\n")
    with pytest.raises(InputError) as caught:
        load_experiment(script)
    assert caught.value.messages == [f"{script}: workload.script: {script}:3: cgroup g: memory.min must not be above memory.max, got 20M and 10M"]


def test_script_becomes_an_experiment(tmp_path):
    (tmp_path / "two words.ops").write_text("spawn T\n")
    experiment = load_experiment(tmp_path / "two words.ops", {"reclaimer.use": "fifo"}, FakeRegistry(), DEFAULTS)
    assert experiment.name == "two-words"
    assert experiment.cells[0].config["workload"] == {"kind": "ops", "script": "two words.ops"}
    assert experiment.cells[0].path("two words.ops") == tmp_path / "two words.ops"


def test_key_depends_on_what_decides_the_result_and_on_nothing_else(load, tmp_path):
    (tmp_path / "w.ops").write_text("spawn T\n")
    script = "[workload]\nkind = 'ops'\nscript = 'w.ops'"

    def key(text="[reclaimer]\nuse = 'opt'", registry=None):
        return load(text, registry=registry, workload=script).cells[0].key

    first = key()
    assert key() == first
    assert key("question = 'Why?'\n[reclaimer]\nuse = 'opt'\n[run]\njobs = 2") == first
    assert key("[reclaimer]\nuse = 'opt'\n[run]\nsample_ms = 5") != first
    assert key(registry=FakeRegistry("d1")) != first
    (tmp_path / "w.ops").write_text("spawn U\n")
    assert key() != first


def test_files_that_a_script_reads_decide_too(tmp_path):
    (tmp_path / "w.ops").write_text("spawn T\nmmap T a 4 anon\naccess T a pages.u32 r\n")
    with pytest.raises(InputError, match=r"w.ops:3: no such file: .*pages.u32"):
        load_experiment(tmp_path / "w.ops", None, FakeRegistry(), DEFAULTS)
    keys = set()
    for content in (b"0000", b"0000", b"1111"):
        (tmp_path / "pages.u32").write_bytes(content)
        keys.add(load_experiment(tmp_path / "w.ops", None, FakeRegistry(), DEFAULTS).cells[0].key)
    assert len(keys) == 2


def test_the_order_of_settings_counts_and_that_of_other_tables_does_not(tmp_path):
    """A module's parameters are read when it is enabled: what is written after that is another experiment. A varied key is written at its place."""
    age, on = '"module/damon_lru_sort/parameters/cold_min_age" = 1000', '"module/damon_lru_sort/parameters/enabled" = "Y"'
    keys = set()
    for first, second, machine in ((age, on, "memory = '64M'\ncpus = 2"), (age, on, "cpus = 2\nmemory = '64M'"), (on, age, "memory = '64M'\ncpus = 2")):
        (tmp_path / "x.toml").write_text(
            f"[machine]\n{machine}\n[workload]\nkind = 'synthetic'\ngenerator = 'loop'\nparams = {{pages = 10, events = 10}}\n[sysfs]\n{first}\n{second}\n"
            '[matrix]\nsysfs."module/damon_lru_sort/parameters/cold_min_age" = [2000, 3000]\n'
        )
        cells = load_experiment(tmp_path / "x.toml", {}).cells
        assert [list(cell.config["sysfs"])[0].rpartition("/")[2] for cell in cells] == ["cold_min_age" if first == age else "enabled"] * 2
        keys.add(tuple(cell.key for cell in cells))
    assert len(keys) == 2


def test_linux_default_lists_every_key():
    """All keys of the sections that the schema defines, and those of [machine] that are no business of the lab alone."""
    import attrs
    import tomli

    from mmlab import policies
    from mmlab.experiment.schema import SECTIONS, Head, Report, Run
    from mmlab.machine.config import KEYS

    path = Path(__file__).parents[3] / "experiments/linux_default.toml"
    tables = tomli.loads(path.read_text())
    assert set(tables) == {*SECTIONS, *policies.DEFAULTS}
    assert {slot: tables[slot]["use"] for slot in policies.DEFAULTS} == policies.DEFAULTS
    assert {f.name for f in attrs.fields(Head)} <= set(tables)
    for cls, section in ((Run, "run"), (Report, "report")):
        assert tables[section] == {f.name: list(f.default) if isinstance(f.default, tuple) else f.default for f in attrs.fields(cls)}
    assert set(KEYS) - set(tables["machine"]) == {"import_dir", "modules", "icount", "boot"}
    assert "import_dir" in path.read_text()


def test_a_machine_takes_the_settings_that_linux_default_has_in_comments():
    import re

    import tomli

    from mmlab import Simulation

    text = (Path(__file__).parents[3] / "experiments/linux_default.toml").read_text()
    start, end = text.index("[sysctl]"), text.index("# What runs on the machine")
    offered = tomli.loads(re.sub(r"^# (?=.* = )", "", text[start:end], flags=re.M))
    assert offered["sysctl"] == {"vm": {"min_free_kbytes": 4096}} and len(offered["sysfs"]) == 3
    sim = Simulation.from_table(
        {"memory": "64M", "bare": True}, sysctl={"vm.min_free_kbytes": 4096}, sysfs=offered["sysfs"],
        policies={"monitor": {"use": "damon", "params": {"autostart": False}}},
    )  # fmt: skip
    assert sim.tuning.values["vm.min_free_kbytes"] == [4096] and sim.settings["thp.enabled"] == "never"
