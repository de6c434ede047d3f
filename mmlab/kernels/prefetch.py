"""A hint to the processor: this array element will be wanted soon. It changes no result, and does nothing in the python build."""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from mmlab.kernels.jit import JIT_OFF, leaf
from mmlab.kernels.pointer import FieldType, element_pointer

if JIT_OFF:

    def prefetch(array, index):
        """Start loading array[index] into the cache; index must lie within the array."""
        return 0

else:

    @intrinsic
    def prefetch(_context, array, index):
        """Start loading array[index] into the cache; index must lie within the array."""

        def generate(context, builder, signature, values):
            array_type, index_type = signature.args
            if isinstance(array_type, FieldType):
                pointer = element_pointer(context, builder, array_type, values[0], index_type, values[1])
            else:
                data = context.make_array(array_type)(context, builder, values[0]).data
                pointer = cgutils.gep(builder, data, context.cast(builder, values[1], index_type, types.intp))
            byte_pointer, word = ir.IntType(8).as_pointer(), ir.IntType(32)
            function_type = ir.FunctionType(ir.VoidType(), [byte_pointer, word, word, word])
            function = cgutils.get_or_insert_function(builder.module, function_type, "llvm.prefetch.p0")
            read, keep, data_cache = (ir.Constant(word, value) for value in (0, 3, 1))
            builder.call(function, [builder.bitcast(pointer, byte_pointer), read, keep, data_cache])
            return context.get_constant(types.int64, 0)

        return types.int64(array, types.intp), generate


LOOK_AHEAD = 8  # events: what is asked for now is there by then


@leaf
def prefetch_page(m, pfn):
    """Start loading what mem_map knows of a frame of this machine."""
    prefetch(m.page, pfn * 4)
    prefetch(m.pagex, pfn * 4)
