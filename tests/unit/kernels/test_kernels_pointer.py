"""Fields of a state in compiled kernels, each build in a process of its own."""

import os
import subprocess
import sys

import pytest

CODE = """
import numpy as np
from mmlab.kernels.jit import routine
from mmlab.kernels.pointer import State

@routine
def touch(st, i):
    st.small[i] = st.small[i] + 1
    st.real[0] += 0.5
    return np.int64(st.small[i]) * 10 + len(st.small)

st = State("test", {"small": np.arange(4, dtype=np.uint32), "real": np.zeros(1)}, head_words=2)
print(touch(st, 3), touch(st, np.uint64(0)), st.small.tolist(), st.real.tolist())
for i in BEYOND:
    try:
        touch(st, i)
    except IndexError as error:
        print(i, error)
print(st.small.tolist())
"""


def run(build, beyond):
    """What the code prints, line by line."""
    env = {name: value for name, value in os.environ.items() if name != "NUMBA_DISABLE_JIT"} | {"MMLAB_BUILD": build}
    code = CODE.replace("BEYOND", repr(beyond))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("build", ["jit", "checked"])
def test_fields_are_read_and_written(build):
    assert run(build, [])[0] == "44 14 [1, 1, 2, 4] [1.0]"


def test_the_checked_build_stops_at_an_index_outside_of_the_field():
    """A negative one too: it does not count from the end."""
    said = run("checked", [4, -1])
    assert said[1:] == ["4 index is out of bounds", "-1 index is out of bounds", "[1, 1, 2, 4]"]
