"""The python build of a conformance run: a subprocess without numba's compiler runs the same sequence, and its evidence is compared.

``python -m mmlab.testing.python_build FILE CLASS SEED`` prints the evidence of `CLASS().drive(SEED)` as JSON; FILE: the class's test file.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from mmlab.kernels.pointer import State


def digest_arrays(*states: State) -> dict[str, str]:
    """A digest of every array, by name, so that a difference names the array."""
    return {
        f"{i}.{name}": hashlib.blake2b(array.tobytes(), digest_size=8).hexdigest()
        for i, state in enumerate(states)
        for name, array in state.arrays().items()
    }


def evidence_of(file: str, class_name: str, seed: int) -> dict[str, Any]:
    """Run the sequence of a conformance class in a process with NUMBA_DISABLE_JIT=1; AssertionError with its output if that fails."""
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    environment.pop("MMLAB_BUILD", None)
    command = [sys.executable, "-m", "mmlab.testing.python_build", file, class_name, str(seed)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"the python build fails:\n{done.stderr[-3000:]}"
    return json.loads(done.stdout.splitlines()[-1])


def main(file: str, class_name: str, seed: str) -> None:
    """Print the evidence."""
    path = Path(file)
    sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    print(json.dumps(getattr(module, class_name)().drive(int(seed))))


if __name__ == "__main__":
    main(*sys.argv[1:])
