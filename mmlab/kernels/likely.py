"""unlikely(): the branch that a kernel hardly ever takes. It changes no result; compiled code keeps the other way straight and in registers."""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from mmlab.kernels.jit import JIT_OFF

if JIT_OFF:

    def unlikely(condition):
        """The condition."""
        return condition

else:

    @intrinsic
    def unlikely(_context, condition):
        """The condition, as a bool."""

        def generate(context, builder, signature, values):
            bit = ir.IntType(1)
            function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(bit, [bit, bit]), "llvm.expect.i1")
            truth = context.cast(builder, values[0], signature.args[0], types.boolean)
            return builder.call(function, [truth, ir.Constant(bit, 0)])

        return types.boolean(condition), generate
