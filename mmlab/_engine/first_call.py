"""Services that are compiled when they are called for the first time, so that a machine waits only for what it uses.

Until then a service's word in the call table names a small stub of its own. The stub asks Python for the service (which puts the address of
the compiled kernel into the table) and then calls it; later calls go straight there. The checked build links everything beforehand.
"""

from __future__ import annotations

import ctypes
import functools
import weakref
from typing import TYPE_CHECKING, Any

from llvmlite import ir
from numba.core.compiler_lock import global_compiler_lock
from numba.core.registry import cpu_target

from mmlab import abi
from mmlab.kernels.plain import CONVENTION, plain_type

if TYPE_CHECKING:
    from mmlab._engine.machine import Machine

_I64 = ir.IntType(64)
_machines: weakref.WeakValueDictionary[int, Machine] = weakref.WeakValueDictionary()
#: word of the table of the service (in a machine at this address) to be compiled
_Callback = ctypes.CFUNCTYPE(None, ctypes.c_uint64, ctypes.c_int64)


def first_call(machine: Machine, service: int) -> int:
    """What stands in the machine's table for service number `service` until it is called: the address of its stub."""
    _machines[machine._address] = machine
    library, _ = _stubs()
    return library.get_pointer_to_function(_name(service))


def _name(service: int) -> str:
    return f"mmlab.first_call.{abi.SERVICES[service].name}"


@_Callback
def _resolve(address: int, service: int) -> None:
    """Called from compiled code. Ctrl-C while the compiler runs is kept for the machine: nothing can be raised through compiled code."""
    machine = _machines[address]
    while True:
        try:
            machine.link_service(service)
            return
        except KeyboardInterrupt:
            machine.interrupted = True


@functools.cache
def _stubs() -> tuple[Any, Any]:
    """The stubs of all services that are rare, made once a process, and the callback that they keep."""
    module = ir.Module("mmlab.first_call")
    for number, service in enumerate(abi.SERVICES):
        if service.rare:
            _stub(module, number, len(service.args))
    library = cpu_target.target_context.codegen().create_library("mmlab.first_call")
    with global_compiler_lock:
        library.add_ir_module(module)
        library.finalize()
    return library, _resolve


def _stub(module: ir.Module, number: int, nr_integers: int) -> None:
    function = ir.Function(module, plain_type(1, nr_integers), _name(number))
    function.calling_convention = CONVENTION
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    machine = function.args[0]
    callback_type = ir.FunctionType(ir.VoidType(), [_I64, _I64])
    callback = builder.inttoptr(ir.Constant(_I64, ctypes.cast(_resolve, ctypes.c_void_p).value), callback_type.as_pointer())
    word = ir.Constant(_I64, number)
    builder.call(callback, [builder.ptrtoint(machine, _I64), word])
    address = builder.load(builder.gep(machine, [ir.Constant(_I64, 2 * abi.NR_OPS + number)]))
    kernel = builder.inttoptr(address, function.ftype.as_pointer())
    builder.ret(builder.call(kernel, function.args, cconv=CONVENTION))
