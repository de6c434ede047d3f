"""What a process tells its compiling helpers is enough to bind the same machine."""

from __future__ import annotations

import json

import attrs

from mmlab._engine import loop
from mmlab._engine.compile import Entry, bind_request
from mmlab.mm.mmap import sys_mmap
from mmlab.simulation import Simulation


def test_a_helper_binds_the_same_machine():
    """Sizes, policies and entries survive the way through JSON, and the state types, which decide what is compiled, are equal."""
    machine = Simulation.from_table({"memory": "16M", "bare": True}, policies={"reclaimer": {"use": "fifo"}}).machine
    request = machine.request((Entry(loop.run_stream, arrays=1), Entry(sys_mmap)))
    assert request is not None
    assert [name for name, _ in request.entries] == ["mmlab._engine.loop:run_stream", "mmlab.mm.mmap:sys_mmap"]
    other = bind_request(json.dumps(attrs.asdict(request)))
    assert other.sizes == machine.sizes
    assert {slot: c.policy for slot, c in other.chosen.items()} == {slot: c.policy for slot, c in machine.chosen.items()}
    assert other._type == machine._type
    assert {slot: state._type for slot, state in other.states.items()} == {slot: state._type for slot, state in machine.states.items()}
