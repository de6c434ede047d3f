"""Calls one op of a policy on states made by hand, for unit tests without a machine."""

from __future__ import annotations

from mmlab._engine.link import units_of
from mmlab.kernels.jit import JIT_OFF
from mmlab.kernels.pointer import State
from mmlab.policies import Policy


def call_op(policy: Policy, name: str, m: State, st: State, *args: int) -> int:
    """The answer of an op. m needs only the arrays that the op looks at; st those of the policy's state, params included.

    Kernels have no entry for Python in the compiled builds, so a test must not call one directly.
    """
    ops = policy.ops()
    if JIT_OFF:
        return int(ops[name](m, st, *args))
    return int(units_of(f"{policy.slot} {policy.name}", ops, m._type, st._type)[name].call(m, st, *args))
