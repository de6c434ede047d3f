"""Finding and reading recorded cases, good and broken."""

import json

import pytest

from mmlab.errors import InputError
from mmlab.verify import find_cases, read_case, task_image


def test_the_visible_cases_are_all_read(ground_truth):
    cases = find_cases([ground_truth])
    assert len(cases) == 129
    assert sum(len(case.figures) for case in cases) == 8813
    assert [(c.area, c.name) for c in cases] == sorted((c.area, c.name) for c in cases)
    by_area = {area: sum(c.area == area for c in cases) for area in ("allocators", "faults", "monitor", "reclaim")}
    assert by_area == {"allocators": 29, "faults": 33, "monitor": 31, "reclaim": 36}


def test_case_area_and_root_folders(ground_truth):
    one = find_cases([ground_truth / "faults" / "fault-anon"])
    assert [(c.area, c.name) for c in one] == [("faults", "fault-anon")]
    assert one == find_cases([ground_truth / "faults"], case="fault-anon") == find_cases([ground_truth], area="faults", case="fault-anon")
    assert find_cases([ground_truth / "faults" / "fault-anon", ground_truth / "faults" / "." / "fault-anon"]) == one


def test_what_a_case_says(ground_truth):
    case = read_case(ground_truth / "faults" / "fault-anon")
    assert case.script.splitlines()[:2] == ["spawn A", "mmap A r 64 anon"]
    assert case.warm_text and case.timeout == 300 and case.files == ()
    assert case.machine == {"kernel": "6.12", "memory": "512M", "cpus": 1}
    assert case.sysfs == {"kernel/mm/transparent_hugepage/enabled": "never"}
    figure = next(f for f in case.figures if f.id == "op[4].minflt")
    assert (figure.value, figure.tolerance, figure.abs, figure.data) == (16, 0, 0, None)


def test_figures_with_a_start_of_their_own(ground_truth):
    probe = next(f for f in read_case(ground_truth / "allocators" / "buddy-merge").figures if f.id == "probe[p@1].pfns[0]")
    assert (probe.data, probe.start) == ("p.run1.json.gz", "start")
    index = next(f for f in read_case(ground_truth / "allocators" / "extfrag-index").figures if f.id == "extfrag_index[0,DMA]@0")
    assert index.given == {"free_blocks": [1792, 0, 0, 0, 0, 1, 1, 1, 0, 0, 0]}


def test_start_state_is_inputs_only(write_case):
    state = read_case(write_case()).start_state()
    assert state == {
        "zones": [{"node": 0, "zone": "DMA32", "present": 900, "spanned": 1000, "start_pfn": 4096, "managed": 800,
                   "free_lists": {"Movable": [1, 2]}, "pcp": [{"count": 5, "high": 9}], "lru": {"active_anon": 4}}],
        "lru": {"shmem": 3, "mapped": 2}, "Committed_AS": 44}


def test_garbage_in_computed_keys_changes_no_start_state(write_case, tmp_path):
    folder = write_case()
    before = read_case(folder).start_state()
    boot = json.loads((folder / "boot.json").read_text())
    boot["zones"][0].update(min=-1, low="?", high=None, promo=[], boost=9, protection="none")
    boot["zones"][0]["pcp"][0]["batch"] = 12345
    boot["meminfo"].update(CommitLimit=-3, MemAvailable="?")
    (folder / "boot.json").write_text(json.dumps(boot))
    assert read_case(folder).start_state() == before


def test_managed_at_setup_comes_from_the_recording(ground_truth):
    zones = read_case(ground_truth / "allocators" / "zones-128m").start_state()["zones"]
    assert {z["zone"]: z["managed_at_setup"] for z in zones} == {"DMA": [3840, 3847], "DMA32": [15592, 15599]}
    assert "managed_at_setup" not in read_case(ground_truth / "faults" / "fault-anon").start_state()["zones"][0]


def test_script_in_a_file_of_its_own(write_case):
    folder = write_case()
    (folder / "x.ops").write_text("spawn B\n")
    (folder / "case.toml").write_text('script = "x.ops"\n[machine]\nmemory = "1G"\n')
    assert read_case(folder).script == "spawn B\n"


def test_no_cases_and_no_folder_are_reported_together(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError) as e:
        find_cases([tmp_path / "empty", tmp_path / "nowhere"])
    assert len(e.value.messages) == 2
    assert "has none" in e.value.messages[0] and "no such folder" in e.value.messages[1]


def test_unknown_area_and_case_suggest_a_name(ground_truth):
    with pytest.raises(InputError, match="did you mean 'faults'"):
        find_cases([ground_truth], area="fault")
    with pytest.raises(InputError, match="did you mean 'fault-anon'"):
        find_cases([ground_truth], case="fault-anom")


def test_two_cases_of_one_name_are_refused(write_case, tmp_path):
    """Their figures could not be told apart; the same folder given twice is one case."""
    cases, copy = tmp_path / "cases", tmp_path / "copy"
    for root in (cases, copy):
        write_case(name="a", root=root), write_case(name="b", root=root)
    assert len(find_cases([cases, cases / "faults" / "a"])) == 2
    with pytest.raises(InputError) as e:
        find_cases([cases, copy])
    assert [message.split(": ")[1] for message in e.value.messages] == ["two cases named faults/a", "two cases named faults/b"]


def test_all_errors_of_all_cases_at_once(write_case, tmp_path):
    bad_toml, bad_json, bad_values, gone = (write_case(name=name) for name in ("a", "b", "c", "d"))
    (bad_toml / "case.toml").write_text("script = \n")
    (bad_json / "expected.json").write_text("{")
    (bad_values / "case.toml").write_text('script = 3\nwarm_text = "yes"\nfiles = ["none.u32"]\n[machine]\ncpus = 1\n')
    (bad_values / "boot.json").write_text('{"zones": [{"node": 0, "zone": "DMA", "present": "many", "spanned": 1, "start_pfn": 1}]}')
    (bad_values / "expected.json").write_text('{"figures": [{"id": "x"}, {"id": "y", "value": 1, "tolerance": -1}]}')
    (gone / "boot.json").unlink()
    with pytest.raises(InputError) as e:
        find_cases([tmp_path / "cases"])
    said = "\n".join(e.value.messages)
    for part in ("a/case.toml: must be TOML", "b/expected.json: must be JSON", "c/case.toml: script: must be a string, got 3",
                 "c/case.toml: warm_text: must be a true or false, got 'yes'", "c/case.toml: files: no file none.u32",
                 "c/case.toml: machine.memory: must be a string, got nothing", "zones[0].present: must be a number, got 'many'",
                 "zones[0].managed: must be a number, got nothing", "figures[0]: must have an id and a value", "figures[1].tolerance: must be a number",
                 "d/boot.json: must be there"):
        assert part in said
    assert len(e.value.messages) == 11


def test_task_images():
    for warm_text, vm_rss in ((False, 1644), (True, 1872)):
        folder = task_image(warm_text)
        assert {f.name for f in folder.iterdir()} == {f"{task}.{file}" for task in "TU" for file in ("maps", "smaps", "status")}
        assert f"VmRSS:\t    {vm_rss} kB" in (folder / "T.status").read_text()
