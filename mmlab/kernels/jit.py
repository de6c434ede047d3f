"""How every kernel is compiled: one decorator, three builds of one source.

``MMLAB_BUILD=jit`` (default) and ``MMLAB_BUILD=checked`` (every array index checked; an error comes up as an exception that names it) use numba;
``NUMBA_DISABLE_JIT=1`` runs the same functions as ordinary Python. The build is chosen when mmlab is imported, for the whole process.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from numba import config, njit, types

from mmlab.kernels.inner import ColdCompiler, InnerCompiler
from mmlab.kernels.plain import PlainCompiler

JIT_OFF: bool = bool(getattr(config, "DISABLE_JIT"))  # noqa: B009 (numba sets it at run time)
BUILD: str = "python" if JIT_OFF else os.environ.get("MMLAB_BUILD", "jit")
if BUILD not in ("jit", "checked", "python"):
    raise ValueError(f"MMLAB_BUILD: must be jit or checked, got {BUILD!r}")

# _nrt=False: kernels never allocate, so no array is reference-counted (12-27 times faster on the fault path).
OPTIONS: dict[str, Any] = {"_nrt": False, "nogil": True, "error_model": "numpy", "boundscheck": BUILD == "checked"}


# Kernels call one another; only those that are linked are called from Python (a fifth less to compile).
_INNER: dict[str, Any] = {**OPTIONS, "no_cpython_wrapper": True, "no_cfunc_wrapper": True, "pipeline_class": InnerCompiler}


_COLD: dict[str, Any] = {**_INNER, "pipeline_class": ColdCompiler}

# Those that are called by address or from Python. In the checked build they keep numba's convention, by which errors travel.
LINKED: dict[str, Any] = {**OPTIONS, "no_cfunc_wrapper": True} | ({} if BUILD == "checked" else {"pipeline_class": PlainCompiler})


def kernel(function: Callable) -> Callable:
    """Compile a module-level function as a kernel. Kernels take the machine (and a policy's state) and integers, and return an integer or nothing."""
    return _once(njit(**_INNER)(function))


def cold(function: Callable) -> Callable:
    """A kernel for what happens rarely: it is not inlined, so that its callers do not make room for it."""
    return _once(njit(**_COLD)(function))


def leaf(function: Callable) -> Callable:
    """A kernel small enough to be inlined wherever it is called (list links, flags, table look-ups)."""
    return _once(njit(forceinline=True, **_INNER)(function))


def _once(dispatcher: Any) -> Any:
    """Let a constant argument count as an integer: numba would compile the function again for each constant (a fifth of all compiling)."""
    if JIT_OFF:
        return dispatcher
    resolve = dispatcher.get_call_template

    def get_call_template(args: tuple, kws: dict) -> Any:
        return resolve([types.unliteral(arg) for arg in args], {name: types.unliteral(arg) for name, arg in kws.items()})

    dispatcher.get_call_template = get_call_template
    return dispatcher


def routine(function: Callable) -> Callable:
    """An array routine that Python calls directly (parsers, filters); not part of a machine, so nothing links it."""
    return njit(**OPTIONS)(function)
