"""C references over a machine's own arrays: the generated header, the compiler, and the state that both sides start from."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import numpy as np

from mmlab._engine.machine import Machine
from mmlab.model import const, gfp, layout, page, rows, vmstat

SOURCES = Path(__file__).parent / "c"
#: arrays of policies' states that the references use: C name -> slot, name in the state
POLICY_ARRAYS = {
    "nr_free": ("page_allocator", "nr_free"),
    "ends": ("vma_index", "end"),
    "vmas": ("vma_index", "vma"),
    "batch": ("reclaimer", "batch"),
    "vec": ("reclaimer", "vec"),
    "size": ("reclaimer", "size"),
}
#: elements of an array that a snapshot keeps: more than any benchmark touches of a pool
SNAPSHOT_ELEMENTS = 9 << 18


def have_gcc() -> bool:
    """True where the references can be compiled."""
    return shutil.which("gcc") is not None


def header() -> str:
    """machine.h: a pointer for each array of the machine, and the integer constants of mmlab.model."""
    fields = [f"    {array.dtype}_t *{array.name};" for array in layout.ARRAYS] + [f"    int64_t *{name};" for name in POLICY_ARRAYS]
    constants: dict[str, int] = {}
    for module in (const, gfp, page, rows, vmstat):
        constants |= _integers(module)
    defines = [f"#define {name} INT64_C({value})" for name, value in constants.items()]
    return "\n".join(["#include <stdint.h>", "struct machine {", *fields, "};", *defines]) + "\n"


def _integers(module: ModuleType) -> dict[str, int]:
    return {name: value for name, value in vars(module).items() if name.isupper() and type(value) is int}


def compile_c(name: str, folder: Path) -> ctypes.CDLL:
    """benchmarks/c/NAME.c as a library, made with gcc -O3 in folder."""
    (folder / "machine.h").write_text(header())
    library = folder / f"{name}.so"
    subprocess.run(["gcc", "-O3", "-Wall", "-Werror", "-shared", "-fPIC", f"-I{folder}", "-o", library, SOURCES / f"{name}.c"], check=True)
    return ctypes.CDLL(str(library))


def call_c(library: ctypes.CDLL, name: str, machine: Machine, args: Sequence[int]) -> int:
    """NAME(machine, int64...) of a library that includes mm.h."""
    arrays = [getattr(machine, array.name) for array in layout.ARRAYS]
    for slot, field in POLICY_ARRAYS.values():
        arrays.append(getattr(machine.states[slot], field, np.zeros(1, np.int64)))
    pointers = (ctypes.c_void_p * len(arrays))(*(array.ctypes.data for array in arrays))
    function = getattr(library, name)
    function.restype = ctypes.c_int64
    return function(pointers, *map(ctypes.c_int64, args))


class Snapshot:
    """The state of a machine and its policies now; restore() brings it back, so that two runs do the same work on the same memory."""

    def __init__(self, machine: Machine):
        assert len(machine.page) <= SNAPSHOT_ELEMENTS, "a snapshot would keep only part of so much memory"
        arrays = dict(machine.arrays())
        for slot, state in machine.states.items():
            arrays |= {f"{slot}.{name}": array for name, array in state.arrays().items()}
        self._live = {name: array[:SNAPSHOT_ELEMENTS] for name, array in arrays.items()}
        self._kept = {name: array.copy() for name, array in self._live.items()}

    def restore(self) -> None:
        """Every array as it was."""
        for name, array in self._live.items():
            array[:] = self._kept[name]

    def values(self) -> dict[str, np.ndarray]:
        """The arrays as they are now, policies' under SLOT.NAME."""
        return {name: array.copy() for name, array in self._live.items()}
