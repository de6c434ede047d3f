"""Plugins that clash, break or do not exist: each error names the plugin, its distribution and the way out."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

import pytest

from mmlab.errors import InputError, PluginError
from mmlab.pluginmanager import load_plugins, registry_of
from mmlab.policies import Monitor

KERNELS = """
from mmlab.hookspecs import hookimpl
from mmlab.kernels.jit import kernel
from mmlab.policies import Reclaimer

@kernel
def one(m, st, pfn):
    return 0

@kernel
def four(m, st, a, b, c, d):
    return 0

OPS = {"folio_added": one, "folio_removed": one, "shrink_node": four}
"""
GOOD = KERNELS + """
@hookimpl
def mmlab_policies():
    return [Reclaimer(name="POLICY", summary="a stranger's", **OPS)]
"""


@pytest.fixture
def install(tmp_path, monkeypatch):
    """install(distribution, module, source): what pip leaves of a plugin, on sys.path; load_plugins() sees these and mmlab's own."""
    monkeypatch.syspath_prepend(str(tmp_path))
    load_plugins.cache_clear()
    modules: list[str] = []

    def put(distribution: str, module: str, source: str, version: str = "1.2") -> None:
        (tmp_path / f"{module}.py").write_text(textwrap.dedent(source))
        info = tmp_path / f"{distribution.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(f"[mmlab]\n{module} = {module}\n")
        modules.append(module)

    yield put
    load_plugins.cache_clear()
    for module in modules:
        sys.modules.pop(module, None)


def error_of_load() -> str:
    with pytest.raises(PluginError) as caught:
        load_plugins()
    assert caught.value.exit_code == 3
    return str(caught.value)


def test_a_strangers_policy_is_found_with_its_distribution(install):
    install("zz-good", "zz_good", GOOD.replace("POLICY", "zz_policy"))
    found = load_plugins().get("reclaimer", "zz_policy")
    assert (found.plugin, found.distribution, found.version) == ("zz_good", "zz-good", "1.2")
    assert Path(found.source).name == "zz_good.py"
    assert found.summary == "a stranger's"


def test_two_plugins_with_one_name(install):
    install("zz-a", "zz_a", GOOD.replace("POLICY", "zz_same"))
    install("zz-b", "zz_b", GOOD.replace("POLICY", "zz_same"), version="3.4")
    assert error_of_load() == "two plugins offer reclaimer 'zz_same': zz_a (zz-a 1.2) and zz_b (zz-b 3.4); uninstall one of them"


def test_import_that_fails(install):
    install("zz-broken", "zz_broken", "import zz_no_such_module\n")
    reason = "ModuleNotFoundError: No module named 'zz_no_such_module'"
    assert error_of_load() == f"plugin zz_broken (zz-broken 1.2): import of zz_broken failed: {reason}"


def test_syntax_error(install):
    install("zz-syntax", "zz_syntax", "def f(:\n")
    assert error_of_load().startswith("plugin zz_syntax (zz-syntax 1.2): import of zz_syntax failed: SyntaxError: ")


def test_kernel_of_the_wrong_arity(install):
    install("zz-arity", "zz_arity", KERNELS + 'Reclaimer(name="zz", summary="", **{**OPS, "folio_added": four})\n')
    message = error_of_load()
    assert message.startswith("plugin zz_arity (zz-arity 1.2): reclaimer 'zz': op folio_added must take (m, st, pfn), got (m, st, a, b, c")


def test_missing_op_and_wrong_version_are_told_at_once(install):
    install("zz-old", "zz_old", KERNELS + 'Reclaimer(name="zz", summary="", contract=99, folio_added=one, folio_removed=one)\n')
    message = error_of_load()
    assert message.startswith("plugin zz_old (zz-old 1.2): reclaimer 'zz': was written for version 99 of the reclaimer contract; this ")
    assert message.endswith("op shrink_node is missing")


def test_a_record_without_any_op():
    with pytest.raises(PluginError, match="monitor 'blind': has no op, must have at least one \\(init, on_access, "):
        Monitor(name="blind", summary="")


def test_closures_and_lambdas_are_refused(install):
    closure = "def make(n):\n    def op(m, st, pfn):\n        return n\n    return op\n\n"
    install("zz-closure", "zz_closure", KERNELS + closure + 'Reclaimer(name="zz", summary="", **{**OPS, "folio_added": make(1)})\n')
    message = error_of_load()
    assert message.startswith("plugin zz_closure (zz-closure 1.2): ")
    assert "op folio_added must not be a closure (it reads n)" in message


def test_hook_that_raises(install):
    install("zz-raises", "zz_raises", KERNELS + "@hookimpl\ndef mmlab_policies():\n    raise KeyError('oops')\n")
    assert error_of_load() == "plugin zz_raises (zz-raises 1.2): mmlab_policies() raised KeyError: 'oops'"


def test_hook_that_makes_a_bad_record_names_its_plugin(install):
    install("zz-late", "zz_late", KERNELS + '@hookimpl\ndef mmlab_policies():\n    return [Reclaimer(name="zz", summary="")]\n')
    message = error_of_load()
    assert message.startswith("plugin zz_late (zz-late 1.2): reclaimer 'zz': op folio_added is missing")


def test_hook_that_returns_something_else(install):
    install("zz-else", "zz_else", KERNELS + "@hookimpl\ndef mmlab_policies():\n    return ['fifo']\n")
    assert error_of_load() == "plugin zz_else (zz-else 1.2): mmlab_policies() must return records of mmlab.policies, got 'fifo'"


def test_no_hook_at_all(install):
    install("zz-empty", "zz_empty", "")
    assert error_of_load() == "plugin zz_empty (zz-empty 1.2): offers no mmlab_policies hook"


def test_hook_of_an_unknown_name(install):
    install("zz-typo", "zz_typo", KERNELS + "@hookimpl\ndef mmlab_polices():\n    return []\n")
    assert error_of_load().startswith("plugin zz_typo (zz-typo 1.2): unknown hook 'mmlab_polices'")


def test_unknown_policy_names_the_known_and_the_nearest(install):
    install("zz-good", "zz_good", GOOD.replace("POLICY", "zz_policy"))
    with pytest.raises(InputError) as caught:
        load_plugins().get("reclaimer", "zz_polcy", "x.toml: reclaimer.use")
    message = str(caught.value)
    assert message.startswith("x.toml: reclaimer.use: no reclaimer named 'zz_polcy' (a reclaimer is one of: ")
    assert message.endswith("; did you mean 'zz_policy'?")


def test_unknown_slot_names_the_nearest():
    with pytest.raises(InputError, match=r"reclaimr: no such slot \(known: memory_model, .*\); did you mean 'reclaimer'\?"):
        registry_of().get("reclaimr", "fifo")


def test_params_are_checked_all_at_once():
    import mmlab_linux

    thp = registry_of(mmlab_linux).get("thp", "always")
    with pytest.raises(InputError) as caught:
        thp.make_params({"defrag": 9, "use_zero_page": 1, "defrg": 0}, "x.toml: thp")
    assert len(caught.value.messages) == 3
    assert "x.toml: thp.params.use_zero_page: must be true or false, got 1" in caught.value.messages
    unknown = next(message for message in caught.value.messages if ".defrg: " in message)
    assert unknown.endswith("unknown key (known: defrag, use_zero_page); did you mean 'defrag'?")
    assert thp.make_params({"defrag": 4}, "x.toml: thp") == thp.policy.params(defrag=4)


@pytest.mark.parametrize("slot, name", [("page_allocator", "buddy_nopcp"), ("slab_allocator", "slub_nocpupartial"), ("page_allocator", "buddy")])
def test_a_policy_made_of_anothers_parts_is_shown_with_its_own_file(slot, name):
    assert Path(load_plugins().get(slot, name).source).name == f"{name}.py"
