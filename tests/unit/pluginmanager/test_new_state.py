"""What a policy may return from new_state()."""

from __future__ import annotations

import attrs
import numpy as np
import pytest

from mmlab.errors import PluginError
from mmlab.testing.harness import small_machine
from mmlab.testing.standins import STANDINS


def machine_with(new_state):
    """A small machine whose reclaimer has this new_state()."""
    return small_machine("16M", reclaimer=attrs.evolve(STANDINS["reclaimer"], new_state=new_state))


def _twice(params, machine):
    array = np.zeros(4, np.int64)
    return {"a": array, "b": array[2:]}


@pytest.mark.parametrize(
    ("new_state", "complaint"),
    [
        (lambda params, machine: {"mine": machine.page}, r"new_state\(\)\['mine'\] shares memory with page"),
        (_twice, r"new_state\(\)\['a'\] shares memory with new_state\(\)\['b'\]"),
        (lambda params, machine: {"mine": 3}, r"new_state\(\)\['mine'\] must be a one-dimensional array"),
        (lambda params, machine: {}["x"], r"new_state\(\) raised KeyError"),
    ],
)
def test_a_state_that_cannot_be_is_the_plugins_fault(new_state, complaint):
    """Kernels are compiled on the promise that a state's fields are arrays of their own."""
    with pytest.raises(PluginError, match=complaint):
        machine_with(new_state)


def test_an_array_of_ones_own_is_a_field():
    machine = machine_with(lambda params, machine: {"mine": machine.page_column("int64")})
    assert len(machine.states["reclaimer"].mine) == machine.sizes.nr_frames
