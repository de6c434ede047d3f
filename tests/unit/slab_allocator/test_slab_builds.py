"""The compiled, the checked and the plain Python build of SLUB end in the same bytes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from slab_script import digest

SCRIPT = Path(__file__).with_name("slab_script.py")


@pytest.mark.parametrize("build", [{"NUMBA_DISABLE_JIT": "1"}, {"MMLAB_BUILD": "checked"}], ids=["python", "checked"])
def test_other_builds_give_the_same_state(build):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **build}
    done = subprocess.run([sys.executable, str(SCRIPT)], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == digest()
