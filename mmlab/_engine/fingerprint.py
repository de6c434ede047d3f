"""Fingerprints of compiled code: content of every source file reached, values of globals, jit options, versions.

numba's own cache does not notice an edited callee in another file, so a compiled kernel is stored in a folder named by this fingerprint.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import sys
import types
from collections.abc import Callable, Iterable
from pathlib import Path

import llvmlite
import numba
import numpy as np

from mmlab.kernels.jit import BUILD, OPTIONS
from mmlab.policies import Policy, python_function

_MMLAB = Path(__file__).resolve().parent.parent
_SKIP = ("numpy", "numba", "llvmlite", "math")


def _reached(roots: Iterable[Callable]) -> tuple[set[str], dict[tuple[str, str], str], list[bytes]]:
    """Source files and global values that the kernels can see, walking through the functions they name; and those functions' bytecode."""
    files: set[str] = set()
    values: dict[tuple[str, str], str] = {}
    codes: list[bytes] = []
    seen: set[int] = set()
    todo = [python_function(root) for root in roots]
    while todo:
        function = todo.pop()
        if id(function) in seen:
            continue
        seen.add(id(function))
        files.add(function.__code__.co_filename)
        codes.append(function.__code__.co_code + repr([c for c in function.__code__.co_consts if not isinstance(c, types.CodeType)]).encode())
        closure = inspect.getclosurevars(function)
        for name, value in {**closure.globals, **closure.nonlocals}.items():
            found = [value]
            if isinstance(value, types.ModuleType):
                if value.__name__.split(".")[0] in _SKIP:
                    continue
                found = [getattr(value, attribute) for attribute in function.__code__.co_names if hasattr(value, attribute)]
            for item in found:
                plain = python_function(item)
                if isinstance(plain, types.FunctionType):
                    if (plain.__module__ or "").split(".")[0] not in _SKIP:
                        todo.append(plain)
                elif isinstance(item, (int, float, bool, str, tuple, np.generic)):
                    values[function.__qualname__, name] = repr(item)
                elif isinstance(item, np.ndarray):
                    values[function.__qualname__, name] = hashlib.sha256(item.tobytes()).hexdigest()
    return files, values, codes


def _package_files(module_name: str) -> set[str]:
    """Every .py beside the module and below: what the walk cannot see (overloads, getattr) lies there."""
    module = sys.modules.get(module_name)
    origin = getattr(module, "__file__", None)
    if origin is None:
        return set()
    folder = Path(origin).parent
    if not (folder / "__init__.py").exists():
        return {origin}
    return {str(path) for path in folder.rglob("*.py")}


def _base_files() -> set[str]:
    """Sources that every compiled kernel depends on."""
    return {str(path) for folder in ("kernels", "model") for path in (_MMLAB / folder).glob("*.py")} | {str(_MMLAB / "abi.py")}


def policy_files(policy: Policy) -> list[Path]:
    """The policy's source files: the one of its name first, or the one that defines its first op."""
    kernels = list(policy.ops().values()) or [f for f in (getattr(policy, "costs", None),) if f]
    if not kernels:
        return []
    defining = [python_function(kernel).__code__.co_filename for kernel in kernels]
    if policy.params is not None:
        defining.append(str(sys.modules[policy.params.__module__].__file__))
    first = next((file for file in defining if Path(file).stem == policy.name), defining[0])
    files, _, _ = _reached(kernels)
    for kernel in kernels:
        files |= _package_files(python_function(kernel).__module__)
    if policy.new_state is not None:
        files.add(policy.new_state.__code__.co_filename)
    rest = sorted(f for f in files if f != first and not f.startswith(str(_MMLAB)))
    return [Path(first), *map(Path, rest)]


def _hash(files: Iterable[str], extra: object) -> str:
    digest = hashlib.sha256()
    for name in sorted(files):
        digest.update(_file_digest(name))
    digest.update(repr(extra).encode())
    return digest.hexdigest()[:20]


@functools.cache
def _file_digest(name: str) -> bytes:
    """A file's content, read once a process: what was imported is what is compiled."""
    path = Path(name)
    return hashlib.sha256(path.read_bytes()).digest() if path.exists() else b""


def _versions() -> tuple:
    return numba.__version__, llvmlite.__version__, np.__version__, sys.version_info[:2], BUILD, sorted(OPTIONS.items())


def fingerprint(kernels: Iterable[Callable], text: str) -> str:
    """Key of the folder for these kernels, kept under the names in `text`.

    A stranger's whole package counts, since overloads and getattr hide from the walk; the core keeps to what the walk sees. Bytecode counts
    too: a file may have been edited since it was imported, and what is compiled is what was imported.
    """
    kernels = list(kernels)
    files, values, codes = _reached(kernels)
    for kernel in kernels:
        module = python_function(kernel).__module__
        if not module.startswith("mmlab."):
            files |= _package_files(module)
    return _hash(files | _base_files(), (sorted(values.items()), sorted(codes), text, _versions()))


def policy_digest(policy: Policy) -> str:
    """Digest of a policy's behaviour, for the addresses of results; independent of versions and build."""
    kernels = list(policy.ops().values()) or [policy.costs]
    _, values, _ = _reached(kernels)
    return _hash(map(str, policy_files(policy)), sorted(values.items()))
