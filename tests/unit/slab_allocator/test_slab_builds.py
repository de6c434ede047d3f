"""The compiled and the plain Python build of SLUB end in the same bytes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from slab_script import digest

SCRIPT = Path(__file__).with_name("slab_script.py")


def test_the_python_build_gives_the_same_state():
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "NUMBA_DISABLE_JIT": "1"}
    done = subprocess.run([sys.executable, str(SCRIPT)], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == digest()
