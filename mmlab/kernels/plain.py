"""How kernels that are called through the machine's table are compiled: as plain functions (machine, [state,] int64...) -> int64.

numba's own convention returns a status, and the result through memory; the checked build needs it, since an IndexError travels up through
it. Where no kernel can raise, a plain function saves 1-2 ns a call. numba's function stays, for calls from Python: it calls the plain one.
"""

from __future__ import annotations

import platform
from typing import Any

from llvmlite import ir
from llvmlite.binding import Linkage, llvm_version_info
from numba.core import types
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase
from numba.core.compiler_machinery import register_pass
from numba.core.lowering import Lower
from numba.core.typed_passes import NativeLowering

from mmlab.kernels.pipeline import kernel_passes

_I64 = ir.IntType(64)
_PLAIN, _BODY = ".plain", ".body"
#: instructions of a kernel that is not inlined where it is called
LARGE = 40
#: Callers keep what they need across a call: cheaper than every callee saving the registers it uses. Known to LLVM from version 19.
CONVENTION = "preserve_nonecc" if llvm_version_info >= (19, 0, 0) and platform.machine() in ("x86_64", "aarch64") else ""


def plain_name(fndesc: Any) -> str:
    """The symbol of the plain function behind a compiled kernel."""
    return fndesc.llvm_func_name + _PLAIN


def plain_type(nr_pointers: int, nr_integers: int) -> ir.FunctionType:
    """The plain function's type in LLVM: the machine's (and the state's) pointer, then the integers."""
    return ir.FunctionType(_I64, [_I64.as_pointer()] * nr_pointers + [_I64] * nr_integers)


class PlainLibrary(JITCodeLibrary):
    """A kernel with all that it reaches. Nothing else calls the kernels linked into it, so they may be changed to fit.

    Large ones stay functions: inlined into their only caller, what they keep in registers would be saved around every call there. Vector
    instructions are left out for the same reason: loops are short and rare here.
    """

    def _optimize_final_module(self) -> None:
        for function in self._final_module.functions:
            if function.is_declaration:
                continue
            function.add_function_attribute("noimplicitfloat")
            if function.linkage == Linkage.linkonce_odr:
                function.linkage = "internal"
                if _is_large(function) and b"alwaysinline" not in b" ".join(function.attributes):
                    function.add_function_attribute("noinline")
        super()._optimize_final_module()


def _is_large(function: Any) -> bool:
    return sum(1 for block in function.blocks for _ in block.instructions) > LARGE


class PlainLower(Lower):
    """Lowers a kernel, then moves its code into a plain function, of which numba's function becomes a caller."""

    def lower(self) -> None:
        super().lower()
        if any(isinstance(argument, types.Array) for argument in self.fndesc.argtypes):
            return  # an entry of Python's alone
        module = self.library._final_module
        module.get_function(self.fndesc.llvm_func_name).name += _BODY
        self.library.add_ir_module(self._plain())
        body = module.get_function(self.fndesc.llvm_func_name + _BODY)
        body.linkage = "internal"
        body.add_function_attribute("alwaysinline")
        self.library.add_ir_module(self._caller())

    def _plain(self) -> ir.Module:
        """The plain function: numba's, inlined, with its result taken from memory and its status forgotten."""
        context, fndesc = self.context, self.fndesc
        module = context.create_module("plain")
        body_type = context.call_conv.get_function_type(fndesc.restype, fndesc.argtypes)
        body = ir.Function(module, body_type, fndesc.llvm_func_name + _BODY)
        builder = self._function(module, self._plain_type(), plain_name(fndesc))
        _, result = context.call_conv.call_function(builder, body, fndesc.restype, fndesc.argtypes, builder.function.args)
        builder.ret(result)
        builder.function.calling_convention = CONVENTION
        return module

    def _caller(self) -> ir.Module:
        """numba's function, which never fails."""
        context, fndesc = self.context, self.fndesc
        module = context.create_module("caller")
        plain = ir.Function(module, self._plain_type(), plain_name(fndesc))
        plain.calling_convention = CONVENTION
        builder = self._function(module, context.call_conv.get_function_type(fndesc.restype, fndesc.argtypes), fndesc.llvm_func_name)
        result = builder.call(plain, context.call_conv.get_arguments(builder.function), cconv=CONVENTION, attrs=("noinline",))
        context.call_conv.return_value(builder, result)
        return module

    def _plain_type(self) -> ir.FunctionType:
        nr_integers = sum(isinstance(argument, types.Integer) for argument in self.fndesc.argtypes)
        return plain_type(len(self.fndesc.argtypes) - nr_integers, nr_integers)

    def _function(self, module: ir.Module, function_type: ir.FunctionType, name: str) -> ir.IRBuilder:
        function = ir.Function(module, function_type, name)
        function.attributes.add("nounwind")
        return ir.IRBuilder(function.append_basic_block("entry"))


@register_pass(mutates_CFG=True, analysis_only=False)
class PlainLowering(NativeLowering):
    """numba's lowering, by PlainLower."""

    _name = "mmlab_plain_lowering"

    def run_pass(self, state: Any) -> bool:
        if state.library is None:
            state.library = PlainLibrary(state.targetctx.codegen(), state.func_id.func_qualname)
            state.library.enable_object_caching()
        return super().run_pass(state)

    @property
    def lowering_class(self) -> type:
        return PlainLower


class PlainCompiler(CompilerBase):
    """numba's usual passes, with PlainLowering."""

    def define_pipelines(self) -> list[Any]:
        return [kernel_passes(self.state, "mmlab_plain", PlainLowering)]
