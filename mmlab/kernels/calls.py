"""Calls through the machine's table: a slot's op, or a core service, by address.

A callee is compiled by itself, so exchanging a policy recompiles that policy alone. Callees are plain functions (see
:mod:`mmlab.kernels.plain`); those of the checked build follow numba's own convention: an IndexError travels up to Python from any depth.
Cost: 1-2 ns.

Table words: op i has (address, state pointer) at 2i, 2i+1; service j has its address at 2*NR_OPS + j.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from mmlab.errors import PluginError
from mmlab.kernels.jit import BUILD, JIT_OFF
from mmlab.kernels.plain import CONVENTION, plain_type

_I64 = ir.IntType(64)


def _emit_call(context, builder, machine_type, machine, state, address, args, arg_types):
    """Call a kernel (machine, [state,] int64...) -> int64 at `address`, passing errors on."""
    values = [context.cast(builder, v, t, types.int64) for v, t in zip(args, arg_types)]
    if state is not None:
        values = [state, *values]
    if BUILD != "checked":
        nr_pointers = 1 if state is None else 2
        function = builder.inttoptr(address, plain_type(nr_pointers, len(args)).as_pointer())
        return builder.call(function, [machine, *values], cconv=CONVENTION)
    # A pointer and an int64 travel alike, so the state's own type need not be known here.
    types_ = (machine_type,) + ((machine_type,) if state is not None else ()) + (types.int64,) * len(args)
    function_type = context.call_conv.get_function_type(types.int64, types_)
    function = builder.inttoptr(address, function_type.as_pointer())
    status, result = context.call_conv.call_function(builder, function, types.int64, types_, [machine, *values])
    with cgutils.if_unlikely(builder, status.is_error):
        context.call_conv.return_status_propagate(builder, status)
    return result


def _argument_types(args: tuple) -> tuple:
    return tuple(args[0].types) if len(args) == 1 and isinstance(args[0], (types.Tuple, types.UniTuple)) else args


def _no_answer(m: Any, index: int) -> NoReturn:
    """The plain-Python build's word for an op that does not return."""
    from mmlab.abi import OPS

    slot, op = OPS[index]
    chosen = m.chosen[slot]
    raise PluginError(f"{chosen.blame or f'{slot} {chosen.policy.name!r}'}: op {op.name} must return {op.returns}, got None")


def op_stub(index: int) -> Callable:
    """A function (m, *ints) -> int64 that calls slot op number `index` with its policy's state."""
    if JIT_OFF:
        def python_op(m, *args):
            answer = m._ops[index](m, m._states[index], *args)
            return int(answer) if answer is not None else _no_answer(m, index)

        return python_op

    @intrinsic
    def call_op(_context, m, *args):
        arg_types = _argument_types(args)

        def generate(context, builder, _signature, values):
            machine, packed = values
            address = builder.load(cgutils.gep(builder, machine, 2 * index))
            state = builder.inttoptr(builder.load(cgutils.gep(builder, machine, 2 * index + 1)), _I64.as_pointer())
            return _emit_call(context, builder, m, machine, state, address, cgutils.unpack_tuple(builder, packed), arg_types)

        return types.int64(m, types.Tuple(arg_types)), generate

    return call_op


def service_stub(word: int, index: int) -> Callable:
    """A function (m, *ints) -> int64 that calls core service number `index`, whose address is in table word `word`."""
    if JIT_OFF:
        def python_service(m, *args):
            return int(m._services[index](m, *args))

        return python_service

    @intrinsic
    def call_service(_context, m, *args):
        arg_types = _argument_types(args)

        def generate(context, builder, _signature, values):
            machine, packed = values
            address = builder.load(cgutils.gep(builder, machine, word))
            return _emit_call(context, builder, m, machine, None, address, cgutils.unpack_tuple(builder, packed), arg_types)

        return types.int64(m, types.Tuple(arg_types)), generate

    return call_service
