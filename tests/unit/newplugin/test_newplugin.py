"""`mmlab new-plugin` writes a package that registers a working record, says what each op must do, and refuses what cannot be."""

import importlib
import sys

import pytest
import tomli

from mmlab.abi import SLOTS
from mmlab.errors import InputError
from mmlab.newplugin import new_plugin, policy_source
from mmlab.pluginmanager import registry_of
from mmlab.policies import ALL_SLOTS


@pytest.mark.parametrize("slot", ALL_SLOTS)
def test_package_registers_a_record_of_the_slot(slot, tmp_path, monkeypatch):
    name = f"zz_{slot}"
    made = new_plugin(name, slot, tmp_path)
    assert made == tmp_path / f"mmlab_{name}"
    monkeypatch.syspath_prepend(str(made))
    module = importlib.import_module(f"mmlab_{name}")
    try:
        found = registry_of(module).get(slot, name)
        assert (found.policy.slot, found.policy.name) == (slot, name)
    finally:
        for loaded in [key for key in sys.modules if key.split(".")[0] == f"mmlab_{name}"]:
            del sys.modules[loaded]


def test_project_file_names_the_entry_point(tmp_path):
    project = tomli.loads((new_plugin("my_clock", "reclaimer", tmp_path) / "pyproject.toml").read_text())
    assert project["project"]["entry-points"]["mmlab"] == {"my_clock": "mmlab_my_clock"}
    assert project["tool"]["setuptools"]["packages"] == ["mmlab_my_clock"]


def test_package_brings_its_conformance_test_and_a_readme(tmp_path):
    made = new_plugin("my_clock", "oom_policy", tmp_path)
    test = (made / "tests" / "test_my_clock.py").read_text()
    assert "class TestOomPolicy(OomPolicyConformance):\n    policy = POLICY\n" in test
    assert 'use = "my_clock"' in (made / "README.md").read_text()


@pytest.mark.parametrize("slot", SLOTS)
def test_every_op_of_the_contract_is_explained_once(slot):
    lines = policy_source("my_policy", slot).splitlines()
    for op in SLOTS[slot].ops:
        head = f"# {op.name}({', '.join(('m', 'st', *op.args))}), {op.bound}"
        assert lines.count(head) == 1, head


def test_explanation_stands_above_its_function():
    lines = policy_source("my_clock", "reclaimer").splitlines()
    at = lines.index("def folio_removed(m, st, pfn):")
    assert lines[at - 4] == "# folio_removed(m, st, pfn), O(1)"
    assert lines[at - 2 : at] == ["#   Returns 0.", "@kernel"]


@pytest.mark.parametrize("name", ["", "my-clock", "9lives", "class", "a b", "../up", "müll"])
def test_names_that_are_no_identifiers_are_refused(name, tmp_path):
    with pytest.raises(InputError, match="NAME: must be an identifier"):
        new_plugin(name, "reclaimer", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_all_mistakes_are_told_at_once(tmp_path):
    with pytest.raises(InputError) as caught:
        new_plugin("my-clock", "reclaimr", tmp_path)
    assert len(caught.value.messages) == 2
    assert caught.value.messages[1].endswith("did you mean 'reclaimer'?")


def test_existing_folder_is_left_alone(tmp_path):
    (tmp_path / "mmlab_my_clock").mkdir()
    with pytest.raises(InputError, match="mmlab_my_clock: exists already"):
        new_plugin("my_clock", "reclaimer", tmp_path)
    assert list((tmp_path / "mmlab_my_clock").iterdir()) == []


def test_installed_packages_are_not_shadowed(tmp_path):
    with pytest.raises(InputError, match="a package mmlab_linux is installed already"):
        new_plugin("linux", "reclaimer", tmp_path)


def test_a_name_that_a_policy_has_is_refused(tmp_path):
    with pytest.raises(InputError, match="NAME: a monitor named 'damon' is installed already \\(mmlab\\); choose another name"):
        new_plugin("damon", "monitor", tmp_path)
    assert new_plugin("damon", "reclaimer", tmp_path).is_dir()  # another slot's names are others


def test_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        new_plugin("my_clock", "reclaimer", tmp_path / "file")
