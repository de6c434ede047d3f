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
#: (address of the machine, number of the service) -> 1 if the service can be called now, else 0
_Callback = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_uint64, ctypes.c_int64)


def first_call(machine: Machine, service: int) -> int:
    """What stands in the machine's table for service number `service` until it is called: the address of its stub."""
    _machines[machine._address] = machine
    library, _ = _stubs()
    return library.get_pointer_to_function(_name(service))


def _name(service: int) -> str:
    return f"mmlab.first_call.{abi.SERVICES[service].name}"


@_Callback
def _resolve(address: int, service: int) -> int:
    """Called from compiled code, through which nothing can be raised: Ctrl-C and errors are kept for the end of the machine's run."""
    machine = _machines[address]
    while True:
        try:
            machine.link_service(service)
            return 1
        except KeyboardInterrupt as interrupt:  # the compiler starts again
            machine.failure = interrupt
        except BaseException as error:
            machine.failure = error
            return 0


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
    callback_type = ir.FunctionType(_I64, [_I64, _I64])
    callback = builder.inttoptr(ir.Constant(_I64, ctypes.cast(_resolve, ctypes.c_void_p).value), callback_type.as_pointer())
    linked = builder.call(callback, [builder.ptrtoint(machine, _I64), ir.Constant(_I64, number)])
    with builder.if_then(builder.icmp_signed("==", linked, ir.Constant(_I64, 0)), likely=False):
        builder.ret(ir.Constant(_I64, 0))
    address = builder.load(builder.gep(machine, [ir.Constant(_I64, 2 * abi.NR_OPS + number)]))
    kernel = builder.inttoptr(address, function.ftype.as_pointer())
    builder.ret(builder.call(kernel, function.args, cconv=CONVENTION))
