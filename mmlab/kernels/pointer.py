"""State behind one pointer: a numba type over a table of data pointers, whose attributes are borrowed one-dimensional arrays.

A kernel that got each array as an argument (or in a tuple) would count references at every access; this type carries none, so kernels
are as fast as C over the same arrays. In the python build a :class:`State` is an ordinary object with array attributes.

The pointer table of a machine begins with the calls (see :mod:`mmlab.kernels.calls`), then two words a field: address and length.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from llvmlite import ir
from numba import from_dtype, types
from numba.core import cgutils
from numba.core.extending import infer_getattr, lower_getattr_generic
from numba.core.typing.templates import AttributeTemplate
from numba.extending import NativeValue, models, register_model, typeof_impl, unbox

_I64 = ir.IntType(64)


class StateType(types.Type):
    """The numba type of a State: its name, the number of words before the fields, and the fields' names and dtypes."""

    def __init__(self, cname: str, head_words: int, fields: tuple):
        self.head_words = head_words
        self.fields = fields
        super().__init__(f"mmlab.{cname}")

    @property
    def key(self) -> tuple:
        return self.name, self.head_words, self.fields


class State:
    """Named one-dimensional arrays behind one pointer.

    cname: what the state is of, e.g. ``machine`` or ``reclaimer.clock``; arrays: name -> C-contiguous array; head_words: words reserved
    before the first field (the machine's call table). The State keeps the arrays alive; kernels must not keep one across calls.
    """

    def __init__(self, cname: str, arrays: Mapping[str, np.ndarray], head_words: int = 0):
        self._table = np.zeros(head_words + 2 * len(arrays), np.uint64)
        fields = []
        for i, (name, array) in enumerate(arrays.items()):
            if array.ndim != 1 or not array.flags.c_contiguous:
                raise ValueError(f"{cname}.{name}: must be a contiguous one-dimensional array, got shape {array.shape}")
            self._table[head_words + 2 * i] = array.ctypes.data
            self._table[head_words + 2 * i + 1] = len(array)
            fields.append((name, from_dtype(array.dtype)))
            setattr(self, name, array)
        self._names = tuple(arrays)
        self._type = StateType(cname, head_words, tuple(fields))
        self._address = self._table.ctypes.data

    if TYPE_CHECKING:
        # fields are attributes

        def __getattr__(self, name: str) -> np.ndarray: ...

    def arrays(self) -> dict[str, np.ndarray]:
        """Every field by name, in table order."""
        return {name: getattr(self, name) for name in self._names}


@register_model(StateType)
class _StateModel(models.PrimitiveModel):
    def __init__(self, dmm, fe_type):
        super().__init__(dmm, fe_type, _I64.as_pointer())


@typeof_impl.register(State)
def _typeof_state(value, _context):
    return value._type


@unbox(StateType)
def _unbox_state(_typ, obj, c):
    attribute = c.pyapi.object_getattr_string(obj, "_address")
    address = c.pyapi.long_as_ulonglong(attribute)
    c.pyapi.decref(attribute)
    failed = cgutils.is_not_null(c.builder, c.pyapi.err_occurred())
    return NativeValue(c.builder.inttoptr(address, _I64.as_pointer()), is_error=failed)


@infer_getattr
class _StateAttributes(AttributeTemplate):
    key = StateType

    def generic_resolve(self, typ, attr):
        for name, dtype in typ.fields:
            if name == attr:
                return types.Array(dtype, 1, "C", aligned=True)
        return None


@lower_getattr_generic(StateType)
def _lower_state_getattr(context, builder, typ, value, attr):
    position = [name for name, _ in typ.fields].index(attr)
    dtype = typ.fields[position][1]
    word = typ.head_words + 2 * position
    array_type = types.Array(dtype, 1, "C", aligned=True)
    array = context.make_array(array_type)(context, builder)
    address = builder.load(cgutils.gep(builder, value, word))
    length = builder.load(cgutils.gep(builder, value, word + 1))
    itemsize = context.get_constant(types.intp, context.get_abi_sizeof(context.get_data_type(dtype)))
    context.populate_array(
        array,
        data=builder.inttoptr(address, context.get_data_type(dtype).as_pointer()),
        shape=cgutils.pack_array(builder, [length]),
        strides=cgutils.pack_array(builder, [itemsize]),
        itemsize=itemsize,
        meminfo=None,
    )
    return array._getvalue()
