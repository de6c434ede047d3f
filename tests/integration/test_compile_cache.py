"""Compiled kernels are cached by what they were made of: whatever changes the code misses, going back hits, and no two processes compile the same."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

FILES = {
    "far.py": "from mmlab.kernels.jit import kernel\n\n@kernel\ndef far(x):\n    return 3 * x\n",
    "near.py": "from mmlab.kernels.jit import kernel\nfrom stranger.far import far\n\n@kernel\ndef near(x):\n    return far(x) + 1\n",
    "policy.py": (
        "from mmlab.kernels.jit import kernel\nfrom stranger.near import near\n\nSTEP = 10\n\n@kernel\ndef op(m, st, x):\n    return near(x) + STEP\n"
    ),
    "__init__.py": "",
}
USE = """
import sys
import numpy as np
from mmlab._engine.link import units_of
from mmlab.kernels.jit import OPTIONS
from mmlab.kernels.pointer import State
if len(sys.argv) > 1:
    OPTIONS["error_model"] = sys.argv[1]
from stranger.policy import op
m, st = State("m", {"a": np.zeros(1)}), State("s", {"b": np.zeros(1)})
unit = units_of("stranger policy", {"op": op}, m._type, st._type)["op"]
missed = unit.compile()
print(unit.call(m, st, 5), "compiled" if missed else "loaded")
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A plugin's package of three files, each calling the next."""
    folder = tmp_path / "stranger"
    folder.mkdir()
    for name, text in FILES.items():
        (folder / name).write_text(text)
    return folder


def environment_of(package: Path) -> dict[str, str]:
    """The package can be imported; Python's own cache, which goes by times and sizes, is off."""
    path = os.pathsep.join([str(package.parent), *sys.path])
    cache = str(package.parent / "cache")
    return {**os.environ, "NUMBA_DISABLE_JIT": "0", "MMLAB_CACHE_DIR": cache, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}


def use(package: Path, *args: str) -> str:
    """The op of 5, and whether it was compiled or loaded, in a process of its own."""
    environment = environment_of(package)
    done = subprocess.run([sys.executable, "-c", USE, *args], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def edit(package: Path, name: str, old: str, new: str) -> None:
    """Change a file, and leave its time as it was: the content decides."""
    path = package / name
    before = path.stat()
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_whatever_changes_the_code_misses_and_going_back_hits(package):
    """3 * 5 + 1 + 10 = 26 at first."""
    assert use(package) == "26 compiled"
    assert use(package) == "26 loaded"
    edit(package, "policy.py", "STEP = 10", "STEP = 20")
    assert use(package) == "36 compiled"
    edit(package, "policy.py", "STEP = 20", "STEP = 10")
    assert use(package) == "26 loaded"
    edit(package, "far.py", "3 * x", "4 * x")  # two files down
    assert use(package) == "31 compiled"
    edit(package, "far.py", "4 * x", "3 * x")
    assert use(package) == "26 loaded"
    assert use(package, "python") == "26 compiled"  # a jit option
    assert use(package) == "26 loaded"


def test_two_processes_at_once_compile_each_unit_once(package):
    """The lock of a unit: who comes second loads what the first one compiled."""
    script = package.parent / "two.py"
    script.write_text(
        "import numpy as np\nfrom mmlab._engine.compile import compile_units\nfrom mmlab._engine.link import units_of\n"
        "from mmlab.kernels.pointer import State\nfrom stranger.policy import op\n"
        'm, st = State("m", {"a": np.zeros(1)}), State("s", {"b": np.zeros(1)})\n'
        'units = units_of("stranger policy", {"op": op, "again": op}, m._type, st._type)\n'
        "compile_units(list(units.values()), None)\n"
        "print(*(sum(u.dispatcher.stats.cache_misses.values()) for u in units.values()), *(u.call(m, st, 5) for u in units.values()))\n"
    )
    environment = environment_of(package)
    both = [subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True, env=environment) for _ in range(2)]
    answers = [process.communicate()[0].split() for process in both]
    assert [answer[2:] for answer in answers] == [["26", "26"]] * 2
    assert [int(a) + int(b) for a, b in zip(answers[0][:2], answers[1][:2])] == [1, 1]


def test_another_policy_leaves_everything_else_compiled(tmp_path):
    """Of two machines that differ in their reclaimer, all units but the reclaimer's stand for the same files."""
    script = tmp_path / "units.py"
    script.write_text(
        "from mmlab._engine import machine as m\nfrom mmlab.simulation import Simulation\n"
        "class Enough(Exception): pass\n"
        "def units(reclaimer):\n"
        "    found = {}\n"
        "    def keep(units, *_):\n        found.update((u.path, u.label) for u in units)\n        raise Enough\n"
        "    m.compile_units = keep\n"
        "    try:\n        Simulation.from_table({'memory': '16M', 'bare': True}, policies={'reclaimer': {'use': reclaimer}})\n"
        "    except Enough:\n        return found\n"
        "a, b = units('fifo'), units('clock')\n"
        "print(len(a.keys() & b.keys()) > 60, {label.split()[0] for path, label in (a | b).items() if (path in a) != (path in b)})\n"
    )
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "0", "MMLAB_CACHE_DIR": str(tmp_path / "cache")}
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "True {'reclaimer'}"), done.stderr


FIRST_CALL = """
import sys
from mmlab import abi
from mmlab._engine.machine import Machine
from mmlab._engine.requests import SERVICES
from mmlab.kernels.jit import kernel
from mmlab.kernels.services import shrink_memcg
from mmlab.model.layout import Sizes

@kernel
def service(m, memcg):
    return 2 * memcg

@kernel
def caller(m, memcg):
    return shrink_memcg(m, memcg) + 1

sizes = Sizes(nr_frames=512, nr_present=0, nr_heads=64, nr_cpus=1, nr_nodes=1, nr_zones=1, nr_tasks=1, nr_swap_slots=0, next_use=False)
m = Machine(sizes, {}, services={**SERVICES, "shrink_memcg": service})
m.bind()
if len(sys.argv) > 1:  # Ctrl-C, or an error, while it is compiled
    link = m.link_service
    def fail(number):
        m.link_service = link
        raise {"interrupt": KeyboardInterrupt, "error": OSError}[sys.argv[1]]
    m.link_service = fail
word = 2 * abi.NR_OPS + abi.SERVICE_INDEX["shrink_memcg"]
unit = m.core_unit(service)
before = int(m._table[word]), unit.is_kept()
try:
    print(m.run(caller, 5))
except (KeyboardInterrupt, OSError) as error:
    print(type(error).__name__)
print(before[1], int(m._table[word]) == before[0], m.run(caller, 6), int(m._table[word]) == unit.address())
"""


@pytest.mark.parametrize(
    ("how", "first", "still_the_stub"),
    [((), "11", "False"), (("interrupt",), "KeyboardInterrupt", "False"), (("error",), "OSError", "True")],
)
def test_a_rare_service_is_compiled_when_it_is_called_first(tmp_path, how, first, still_the_stub):
    """2 * 5 + 1: its word in the table names a stub until then, and its own address afterwards. Ctrl-C meanwhile comes up when the call is done;
    so does an error, and the next call tries again."""
    script = tmp_path / "first.py"
    script.write_text(FIRST_CALL)
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "0", "MMLAB_CACHE_DIR": str(tmp_path / "cache")}
    done = subprocess.run([sys.executable, script, *how], capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, done.stdout.split()) == (0, [first, "False", still_the_stub, "13", "True"]), done.stderr


def test_an_edit_after_the_import_poisons_nothing(package):
    """The op of a process that had imported the old file is kept under another key than the new file's."""
    during = "\nfrom pathlib import Path\npath = Path(far.__file__)\npath.write_text(path.read_text().replace('3 * x', '4 * x'))\n"
    edited = USE.replace("from stranger.policy import op\n", "from stranger import far\nfrom stranger.policy import op" + during)
    done = subprocess.run([sys.executable, "-c", edited], capture_output=True, text=True, env=environment_of(package), check=False)
    assert done.stdout.strip() == "26 compiled", done.stderr
    assert use(package) == "31 compiled"
