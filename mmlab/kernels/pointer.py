"""State behind one pointer: a numba type over a table of data pointers, whose attributes are one-dimensional fields.

A kernel that got each array as an argument (or in a tuple) would count references at every access; these types carry none, so kernels
are as fast as C over the same arrays. In the python build a :class:`State` is an ordinary object with array attributes.

The pointer table of a machine begins with the calls (see :mod:`mmlab.kernels.calls`), then two words a field: address and length.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from llvmlite import ir
from numba import from_dtype, types
from numba.core import cgutils
from numba.core.extending import infer_getattr, lower_getattr_generic
from numba.core.typing.templates import AbstractTemplate, AttributeTemplate, infer_global, signature
from numba.extending import NativeValue, lower_builtin, models, register_model, typeof_impl, unbox

from mmlab.kernels.jit import OPTIONS

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


class FieldType(types.Type):
    """A field of a State as kernels see it: `field[i]` with 0 <= i < len(field), nothing else. Its value is where the table names it.

    An ordinary array type would look for negative indices at every access, and load its address anew after every store. Fields of
    different names never overlap, and the compiler is told so (type-based alias analysis, one type a name).
    """

    def __init__(self, name: str, dtype: types.Type):
        self.field, self.dtype = name, dtype
        super().__init__(f"mmlab.field({name}, {dtype})")


@register_model(FieldType)
class _FieldModel(models.PrimitiveModel):
    def __init__(self, dmm, fe_type):
        super().__init__(dmm, fe_type, _I64.as_pointer())


@infer_getattr
class _StateAttributes(AttributeTemplate):
    key = StateType

    def generic_resolve(self, typ, attr):
        for name, dtype in typ.fields:
            if name == attr:
                return FieldType(name, dtype)
        return None


@lower_getattr_generic(StateType)
def _lower_state_getattr(context, builder, typ, value, attr):
    position = [name for name, _ in typ.fields].index(attr)
    return cgutils.gep(builder, value, typ.head_words + 2 * position)


@infer_global(operator.getitem)
class _FieldGetItem(AbstractTemplate):
    def generic(self, args, kws):
        field, index = args
        if isinstance(field, FieldType) and isinstance(index, types.Integer):
            return signature(field.dtype, field, index)
        return None


@infer_global(operator.setitem)
class _FieldSetItem(AbstractTemplate):
    def generic(self, args, kws):
        field, index, _ = args
        if isinstance(field, FieldType) and isinstance(index, types.Integer):
            return signature(types.none, field, index, field.dtype)
        return None


@infer_global(len)
class _FieldLen(AbstractTemplate):
    def generic(self, args, kws):
        return signature(types.intp, *args) if isinstance(args[0], FieldType) else None


def _load_constant(builder, pointer):
    """A word of a pointer table. Tables do not change while kernels run, so a store in between is no reason to load it again."""
    load = builder.load(pointer)
    load.set_metadata("invariant.load", builder.module.add_metadata([]))
    return load


def element_pointer(context, builder, field_type, field, index_type, index):
    """Pointer to field[index]; in the checked build an index outside of the field raises IndexError."""
    index = context.cast(builder, index, index_type, types.intp)
    if OPTIONS["boundscheck"]:
        cgutils.do_boundscheck(context, builder, index, _load_constant(builder, cgutils.gep(builder, field, 1)))
    base = builder.inttoptr(_load_constant(builder, field), context.get_data_type(field_type.dtype).as_pointer())
    return builder.gep(base, [index], inbounds=True)


def _tag(builder, access, field_type):
    """Name the field that a load or store belongs to."""
    module, zero = builder.module, ir.Constant(_I64, 0)
    kind = module.add_metadata([field_type.field, module.add_metadata(["mmlab fields"]), zero])
    access.set_metadata("tbaa", module.add_metadata([kind, kind, zero]))


@lower_builtin(operator.getitem, FieldType, types.Integer)
def _lower_field_getitem(context, builder, sig, args):
    load = builder.load(element_pointer(context, builder, sig.args[0], args[0], sig.args[1], args[1]))
    _tag(builder, load, sig.args[0])
    return context.data_model_manager[sig.return_type].from_data(builder, load)


@lower_builtin(operator.setitem, FieldType, types.Integer, types.Any)
def _lower_field_setitem(context, builder, sig, args):
    pointer = element_pointer(context, builder, sig.args[0], args[0], sig.args[1], args[1])
    value = context.cast(builder, args[2], sig.args[2], sig.args[0].dtype)
    _tag(builder, builder.store(context.data_model_manager[sig.args[0].dtype].as_data(builder, value), pointer), sig.args[0])
    return context.get_dummy_value()


@lower_builtin(len, FieldType)
def _lower_field_len(context, builder, sig, args):
    return _load_constant(builder, cgutils.gep(builder, args[0], 1))
