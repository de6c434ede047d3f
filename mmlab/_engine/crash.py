"""What a stranger's compiled policy did to this process: machine code does not look where it writes, and a bad index may end it.

While such a policy runs, a fault of memory access ends the process with a sentence that names the policy, and the exit code of a plugin's fault.
Left out: wild accesses that hit memory of the process; the plain-Python and the checked build find these.
"""

from __future__ import annotations

import contextlib
import ctypes
import signal
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from numba import cfunc, types

from mmlab.errors import PluginError
from mmlab.kernels.jit import JIT_OFF

SIGNALS = (signal.SIGSEGV, signal.SIGBUS)


def strangers(policies: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """How errors name the policies that are not mmlab's own. policies: slot -> {"use": name}."""
    from mmlab.pluginmanager import load_plugins

    registry = load_plugins()
    entries = [registry.get(slot, table["use"]) for slot, table in policies.items()]
    return [entry.blame for entry in entries if entry.distribution != "mmlab"]


@contextlib.contextmanager
def blamed(names: Sequence[str]) -> Iterator[None]:
    """While this lasts, a fault of memory access is said to be that of one of these; nothing changes where there are none."""
    if JIT_OFF or not names:
        yield
        return
    libc = ctypes.CDLL(None)
    libc.signal.restype, libc.signal.argtypes = ctypes.c_void_p, (ctypes.c_int, ctypes.c_void_p)
    message = ctypes.create_string_buffer((
        f"\n{' or '.join(names)}: its compiled code read or wrote where it has no memory, as with an index beyond an array; "
        "NUMBA_DISABLE_JIT=1 (slow) says where\n"
    ).encode())
    handler = _handler(message)
    before = {number: libc.signal(number, handler.address) for number in SIGNALS}
    try:
        yield
    finally:
        for number, old in before.items():
            libc.signal(number, old)


def _handler(message: Any) -> Any:
    """A compiled `void (int)` that writes a buffer of text, which must outlive it, and ends the process: it may use nothing but system calls."""
    address, length, code = ctypes.addressof(message), len(message.value), PluginError.exit_code
    libc = ctypes.CDLL(None)
    write, leave = libc.write, libc._exit
    write.restype, write.argtypes = ctypes.c_ssize_t, (ctypes.c_int, ctypes.c_size_t, ctypes.c_size_t)
    leave.restype, leave.argtypes = None, (ctypes.c_int,)

    def handler(number):
        write(2, address, length)
        leave(code)

    return cfunc(types.void(types.int32))(handler)
