"""Composition: turns kernels into addresses. Each owner (the core, or one policy) has a folder named by its fingerprint, where numba keeps what it
made of the owner's kernels, so nothing stale can be loaded."""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs
import platformdirs
from numba import njit, types
from numba.core.caching import CompileResultCacheImpl, FunctionCache, _CacheLocator

from mmlab._engine.fingerprint import fingerprint
from mmlab.errors import InputError, PluginError
from mmlab.kernels.jit import BUILD, LINKED
from mmlab.kernels.plain import plain_name
from mmlab.policies import python_function


def cache_folder() -> Path:
    """Where compiled kernels lie: MMLAB_CACHE_DIR, or the user's cache folder."""
    return Path(os.environ.get("MMLAB_CACHE_DIR") or platformdirs.user_cache_dir("mmlab"))


def _folder(owner: str, functions: Mapping[str, Callable]) -> Path:
    """The owner's folder, made if need be. Raises InputError."""
    folder = cache_folder() / fingerprint(functions.values(), " ".join([owner, *functions]))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(13, os.strerror(13))
    except OSError as error:
        raise InputError(f"{cache_folder()}: compiled kernels cannot be kept there: {error.strerror} (name another folder in MMLAB_CACHE_DIR)") from None
    return folder


class _Cache(FunctionCache):
    """numba's cache of a function, in a folder whose name says what the function is made of."""

    def __init__(self, function: Callable, folder: Path, name: str):
        class Locator(_CacheLocator):
            def get_cache_path(self) -> str:
                return str(folder)

            def get_source_stamp(self) -> str:
                return ""

            def get_disambiguator(self) -> str:
                return name

            @classmethod
            def from_function(cls, py_func: Callable, py_file: str) -> _CacheLocator:
                return cls()

        self._impl_class: Any = type("Implementation", (CompileResultCacheImpl,), {"_locator_classes": [Locator]})
        super().__init__(function)


_dispatchers: dict[tuple[Path, str], Any] = {}


def _dispatcher(folder: Path, name: str, function: Callable) -> Any:
    """numba's dispatcher of a kernel that is called by address or from Python; one a process."""
    if (folder, name) not in _dispatchers:
        dispatcher = njit(**LINKED)(python_function(function))
        dispatcher._cache = _Cache(dispatcher.py_func, folder, name)
        _dispatchers[folder, name] = dispatcher
    return _dispatchers[folder, name]


@attrs.frozen(eq=False)
class Unit:
    """One kernel for one signature: what is compiled, cached and called by address.

    label: for progress ("vma_index maple_tree insert"). path: the file that stands for it in the cache (without the suffixes of numba's own
    files). blame: who to name if it does not compile; empty for the core.
    """

    label: str
    path: Path
    dispatcher: Any
    signature: tuple
    blame: str = ""

    def is_kept(self) -> bool:
        """Whether it is loaded, or lies in the cache."""
        return self.signature in self.dispatcher.overloads or Path(self.dispatcher._cache._cache_file._index_path).exists()

    def compile(self) -> bool:
        """Compile it, or load it; True when it had to be compiled. Raises PluginError for a stranger's kernel that does not compile."""
        if self.signature in self.dispatcher.overloads:
            return False
        missed = sum(self.dispatcher.stats.cache_misses.values())
        try:
            self.dispatcher.compile(types.int64(*self.signature))
        except Exception as error:  # numba raises many kinds; a stranger's kernel must never end in a traceback
            if not self.blame:
                raise
            raise PluginError(f"{self.blame}: op {self.path.name} does not compile: {_first_line(error)}") from error
        return sum(self.dispatcher.stats.cache_misses.values()) > missed

    def call(self, *args: Any) -> int:
        """Call it from Python, compiled or loaded first."""
        self.compile()
        return self.dispatcher(*args)

    def address(self) -> int:
        """Its native code, for calls through the machine's table."""
        self.compile()
        result = self.dispatcher.overloads[self.signature]
        return result.library.get_pointer_to_function(result.fndesc.llvm_func_name if BUILD == "checked" else plain_name(result.fndesc))


def units_of(
    owner: str, functions: Mapping[str, Callable], *leading: types.Type, blame: str = "", arguments: tuple[types.Type, ...] | None = None
) -> dict[str, Unit]:
    """The units of kernels (leading..., arguments...) -> int64, by name; arguments: as many int64s as each takes, unless they are given."""
    folder = _folder(owner, functions)
    units = {}
    for name, function in functions.items():
        count = len(inspect.signature(python_function(function)).parameters) - len(leading)
        label = f"{owner} {name}" if not owner.startswith("core ") else owner
        rest = (types.int64,) * count if arguments is None else arguments
        units[name] = Unit(label, folder / name, _dispatcher(folder, name, function), (*leading, *rest), blame)
    return units


def _first_line(error: Exception) -> str:
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error))  # numba's colours
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if "LLVM IR parsing error" in text:
        return "it or a function it calls has a raise or an assert; kernels have no exceptions, they return codes"
    useful = [line for line in lines if not line.startswith(("Failed in", "During:", "File "))]
    return f"{type(error).__name__}: {(useful or lines or ['?'])[0]}"
