"""How inner kernels, which only other kernels call, are compiled: to LLVM's intermediate code, to be linked into those that are called by address.

numba optimises every function and generates machine code for it, once for itself and once more in every caller; for inner kernels the first
is never run. This pipeline leaves it out (a third of all compiling).
"""

from __future__ import annotations

from typing import Any

from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase
from numba.core.compiler_machinery import register_pass
from numba.core.typed_passes import NativeLowering

from mmlab.kernels.pipeline import kernel_passes


class _NoEnvironment:
    """A codegen for which environments (the Python objects that a function keeps) are nobody's business: inner kernels have none."""

    def __init__(self, codegen: Any):
        self._codegen = codegen

    def set_env(self, name: str, env: Any) -> None:
        """Nothing to do."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._codegen, name)


class InnerLibrary(JITCodeLibrary):
    """Code to be linked into other libraries, never run by itself."""

    @property
    def codegen(self) -> _NoEnvironment:
        return _NoEnvironment(self._codegen)

    def _optimize_final_module(self) -> None:
        """The library that this is linked into optimises everything at once."""

    def _finalize_final_module(self) -> None:
        self._finalize_dynamic_globals()
        self._verify_declare_only_symbols()
        self._finalized = True

    def get_pointer_to_function(self, name: str) -> int:
        """0: there is none."""
        self._ensure_finalized()
        return 0


@register_pass(mutates_CFG=True, analysis_only=False)
class InnerLowering(NativeLowering):
    """Lowering into an InnerLibrary."""

    _name = "mmlab_inner_lowering"

    def run_pass(self, state: Any) -> bool:
        if state.library is None:
            state.library = InnerLibrary(state.targetctx.codegen(), state.func_id.func_qualname)
        return super().run_pass(state)


class ColdLibrary(InnerLibrary):
    """The same of a function that stays out of its callers: they keep their registers for what they usually do."""

    def add_ir_module(self, ir_module: Any) -> None:
        """Its functions are marked before LLVM sees them."""
        for function in ir_module.functions:
            if not function.is_declaration and "alwaysinline" not in function.attributes:
                function.attributes.add("noinline")
                function.attributes.add("cold")
        super().add_ir_module(ir_module)


@register_pass(mutates_CFG=True, analysis_only=False)
class ColdLowering(NativeLowering):
    """Lowering into a ColdLibrary."""

    _name = "mmlab_cold_lowering"

    def run_pass(self, state: Any) -> bool:
        if state.library is None:
            state.library = ColdLibrary(state.targetctx.codegen(), state.func_id.func_qualname)
        return super().run_pass(state)


class ColdCompiler(CompilerBase):
    """InnerCompiler for functions that are rarely called."""

    def define_pipelines(self) -> list[Any]:
        return [kernel_passes(self.state, "mmlab_cold", ColdLowering)]


class InnerCompiler(CompilerBase):
    """numba's usual passes, with lowering into an InnerLibrary."""

    def define_pipelines(self) -> list[Any]:
        return [kernel_passes(self.state, "mmlab_inner", InnerLowering)]
