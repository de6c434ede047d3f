"""What an op that a policy leaves out does: nothing, and returns 0. The machine stands in for the state, which is not looked at."""

from mmlab.kernels.jit import kernel


@kernel
def absent_0(m, st):
    """No arguments."""
    return 0


@kernel
def absent_1(m, st, a):
    """One argument."""
    return 0


@kernel
def absent_2(m, st, a, b):
    """Two arguments."""
    return 0


@kernel
def absent_3(m, st, a, b, c):
    """Three arguments."""
    return 0


@kernel
def absent_4(m, st, a, b, c, d):
    """Four arguments."""
    return 0


@kernel
def absent_5(m, st, a, b, c, d, e):
    """Five arguments."""
    return 0


ABSENT = (absent_0, absent_1, absent_2, absent_3, absent_4, absent_5)
