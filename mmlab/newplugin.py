"""`mmlab new-plugin`: a package that installs, shows up in `mmlab plugins` and passes its own tests, to start an own policy from."""

from __future__ import annotations

import importlib.util
import keyword
import re
import textwrap
from pathlib import Path

from mmlab.abi import SLOTS, Op
from mmlab.errors import InputError, did_you_mean
from mmlab.pluginmanager import load_plugins
from mmlab.policies import ALL_SLOTS, RECORDS

TEMPLATES = Path(__file__).parent / "newplugin_templates"

PYPROJECT = """\
[build-system]
requires = ["setuptools>=64"]
build-backend = "setuptools.build_meta"

[project]
name = "{package}"
version = "0.1.0"
description = "{slot} {name} for mmlab"
requires-python = ">=3.10"
dependencies = ["mmlab"]

[project.optional-dependencies]
test = ["pytest"]

[project.entry-points.mmlab]
{name} = "{package}"

[tool.setuptools]
packages = ["{package}"]
"""

INIT = '''\
"""{slot} {name} for mmlab."""

from mmlab.hookspecs import hookimpl
from {package}.{slot} import POLICY


@hookimpl
def mmlab_policies():
    """The policies of this package."""
    return [POLICY]
'''

TEST = '''\
"""{name} keeps the contract of a {slot}; add tests of what makes it different."""

from {package}.{slot} import POLICY

from mmlab.testing.conformance import {record}Conformance


class Test{record}({record}Conformance):
    policy = POLICY
'''

README = """\
# {package}

{slot} `{name}` for mmlab. The policy is `{package}/{slot}.py`; what each of its functions must do stands
above it (`mmlab hooks {slot}` prints the whole contract).

    pip install -e '.[test]'
    mmlab plugins --slot {slot}
    pytest

To run it, name it in an experiment:

    [{slot}]
    use = "{name}"
{more}"""
#: what else an experiment needs to show what a policy of the slot does
MORE = {
    "monitor": "\n    [run]\n    score_ms = 100   # judged by every access of the run: precision, recall, rank correlation, age error, cost\n",
    "tiering": "\n    [machine]         # fast memory, and slower memory without CPUs\n"
    '    nodes = [{memory = "16M", cpus = [0, 1]}, {memory = "64M", cpus = []}]\n'
    "    hmat = [[0, 0, 90, 50], [0, 1, 250, 10]]\n\n    [sysctl]\n    kernel.numa_balancing = 2\n\n    [sysfs]\n"
    '    "kernel/mm/numa/demotion_enabled" = "1"\n',
}


def new_plugin(name: str, slot: str, folder: Path) -> Path:
    """Write the package `mmlab_NAME` for a policy of a slot into `folder`, and return its folder.

    The policy works as it is: for a reclaimer FIFO, for the other slots the least that does the job. InputError if the name is not a plain
    identifier or is taken, the slot does not exist, or the package's folder does.
    """
    problems = []
    if not (name.isidentifier() and name.isascii()) or keyword.iskeyword(name):
        problems.append(f"NAME: must be an identifier of ASCII letters, digits and _, such as my_clock, got {name!r}")
    if slot not in ALL_SLOTS:
        problems.append(f"--slot: no slot {slot!r} (known: {', '.join(ALL_SLOTS)}){did_you_mean(slot, ALL_SLOTS)}")
    package = f"mmlab_{name}"
    made = folder / package
    if not problems and importlib.util.find_spec(package) is not None:
        problems.append(f"NAME: a package {package} is installed already; choose another name")
    if not problems and name in load_plugins().names(slot):
        problems.append(f"NAME: a {slot} named {name!r} is installed already ({load_plugins().get(slot, name).distribution}); choose another name")
    if not problems and made.exists():
        problems.append(f"{made}: exists already; choose another name or another --dir")
    if problems:
        raise InputError(problems)
    values = {"name": name, "slot": slot, "package": package, "record": RECORDS[slot].__name__, "more": MORE.get(slot, "")}
    files = {
        "pyproject.toml": PYPROJECT.format(**values),
        "README.md": README.format(**values),
        f"{package}/__init__.py": INIT.format(**values),
        f"{package}/{slot}.py": policy_source(name, slot),
        f"tests/test_{name}.py": TEST.format(**values),
    }
    try:
        for path, text in files.items():
            target = made / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
    except OSError as error:
        raise InputError(f"{made}: cannot be written: {error.strerror}") from None
    return made


def policy_source(name: str, slot: str) -> str:
    """The policy's file: the slot's template under the policy's name, with the contract of each op as a comment above it."""
    text = (TEMPLATES / f"{slot}.py").read_text().replace("my_policy", name)
    if slot not in SLOTS:
        return text
    left_out = []
    for op in SLOTS[slot].ops:
        head = re.compile(rf"^@kernel\ndef {op.name}\(m, st\b", re.MULTILINE)
        found = head.search(text)
        if found is None:
            left_out.append(op)
        else:
            text = f"{text[: found.start()]}{_contract(op)}\n{text[found.start() :]}"
    if left_out:
        text += "\n# Ops that may be added, each as a @kernel function (m, st, ...) and as a field of the record:\n#\n"
        text += "\n#\n".join(_contract(op) for op in left_out) + "\n"
    return text


def _contract(op: Op) -> str:
    """What an op must do, as comment lines."""
    lines = [f"# {op.name}({', '.join(('m', 'st', *op.args))}), {op.bound}"]
    for sentence in (op.doc, f"Returns {op.returns}."):
        lines += textwrap.wrap(sentence, 120, initial_indent="#   ", subsequent_indent="#   ")
    return "\n".join(lines)
