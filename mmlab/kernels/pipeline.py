"""numba's passes, less those that kernels have no use for, and with a memory for what operators on integers and fields give.

Kernels are integers, fields, loops and calls: no closures, no arrays to be fused, no object mode. What is left out here, and asking numba once
instead of 40,000 times what int64 + int64 is, is a fifth of all compiling.
"""

from __future__ import annotations

import operator
from typing import Any

from numba.core import types
from numba.core.compiler import DefaultPassBuilder
from numba.core.compiler_machinery import register_pass
from numba.core.typed_passes import DumpParforDiagnostics, InlineOverloads, NativeLowering, NopythonRewrites, NopythonTypeInference
from numba.core.untyped_passes import InlineClosureLikes, LiteralPropagationSubPipelinePass, LiteralUnroll, RewriteDynamicRaises, WithLifting

_LEFT_OUT = (
    DumpParforDiagnostics, InlineClosureLikes, InlineOverloads, LiteralPropagationSubPipelinePass, LiteralUnroll, NopythonRewrites,
    RewriteDynamicRaises, WithLifting,
)  # fmt: skip
_BINARY = "add sub mul floordiv mod lshift rshift and_ or_ xor".split()
_OTHERS = "eq ne lt le gt ge neg pos invert not_ getitem setitem".split()
_OPERATORS = frozenset(getattr(operator, name) for name in [*_BINARY, *("i" + name.rstrip("_") for name in _BINARY), *_OTHERS]) | {bool, min, max}
_known: dict[tuple, Any] = {}


class _Memory:
    """A typing context that asks numba's own only once for each operator and types."""

    def __init__(self, context: Any):
        self._context = context

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    def resolve_function_type(self, func: Any, args: tuple, kws: dict) -> Any:
        what = func.typing_key if isinstance(func, types.Function) else func
        if kws or what not in _OPERATORS or not all(isinstance(arg, (types.Integer, types.Boolean)) or _is_field(arg) for arg in args):
            return self._context.resolve_function_type(func, args, kws)
        key = (what, *(types.unliteral(arg) for arg in args))
        if key not in _known:
            _known[key] = self._context.resolve_function_type(func, key[1:], kws)
        return _known[key]


def _is_field(kind: Any) -> bool:
    return hasattr(kind, "field")


@register_pass(mutates_CFG=True, analysis_only=False)
class KernelTypeInference(NopythonTypeInference):
    """numba's type inference, with the memory."""

    _name = "mmlab_type_inference"

    def run_pass(self, state: Any) -> bool:
        context = state.typingctx
        state.typingctx = _Memory(context)
        try:
            return super().run_pass(state)
        finally:
            state.typingctx = context


def kernel_passes(state: Any, name: str, lowering: type) -> Any:
    """The passes of a kernel, the last of them with another lowering."""
    pipeline = DefaultPassBuilder.define_nopython_pipeline(state, name)
    instead = {NativeLowering: lowering, NopythonTypeInference: KernelTypeInference}
    pipeline.passes = [(instead.get(step, step), what) for step, what in pipeline.passes if step not in _LEFT_OUT]
    pipeline._finalized = False
    pipeline.finalize()
    return pipeline
