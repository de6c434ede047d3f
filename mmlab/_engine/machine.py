"""A machine: the state's arrays, the chosen policies' states, and the call table that binds them.

``Machine(sizes, chosen)`` makes arrays and states; :func:`bind` links ops and core services into the table. After that kernels run:
``machine.run(kernel, *ints)`` for core entry points, ``machine.op(slot, name, *ints)`` for one op of a policy.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import attrs
import numpy as np
from numba import types

from mmlab import abi
from mmlab._engine.absent import ABSENT
from mmlab._engine.core import SERVICES
from mmlab._engine.link import Progress, address_of, generate, link, linkable
from mmlab.errors import MmlabError, PluginError
from mmlab.kernels.jit import JIT_OFF
from mmlab.kernels.pointer import State
from mmlab.model.layout import Sizes, make_arrays, reserve
from mmlab.policies import Policy, python_function


@attrs.frozen
class Chosen:
    """A policy with the params of this run; blame is how errors name it."""

    policy: Policy
    params: Any = None
    blame: str = ""


class Machine(State):
    """The state of a simulated machine. Arrays are attributes (:mod:`mmlab.model.layout`); `states` are the policies' own by slot."""

    def __init__(
        self, sizes: Sizes, chosen: Mapping[str, Chosen], progress: Progress | None = None,
        services: Mapping[str, Callable] = SERVICES,
    ):  # fmt: skip
        super().__init__("machine", make_arrays(sizes), abi.HEAD_WORDS)
        self.sizes = sizes
        self.chosen = dict(chosen)
        self.progress = progress
        self._core = services
        self.states: dict[str, State] = {}
        self._ops: list[Callable | None] = [None] * abi.NR_OPS
        self._states: list[Any] = [None] * abi.NR_OPS
        self._services: list[Callable | None] = [None] * abi.NR_SERVICES
        self._columns: list[np.ndarray] = []
        self._entries: dict[str, Any] = {}

    def page_column(self, dtype: str) -> np.ndarray:
        """A zeroed array with one element a page frame, for a policy's own data; memory is taken only where it is touched."""
        column = reserve(self.sizes.nr_frames, dtype, huge=self.sizes.nr_frames <= 1 << 24)
        self._columns.append(column)
        return column

    def bind(self) -> None:
        """Make the policies' states and fill the call table."""
        for slot, choice in self.chosen.items():
            if slot in abi.SLOTS:
                self.states[slot] = _policy_state(choice, self)
        self._bind_ops()
        self._bind_services()

    def _bind_ops(self) -> None:
        absent: dict[str, int] = {}
        if linkable({"absent": ABSENT[0]}):
            absent = link("absent ops", {f.__name__: f for f in ABSENT}, self._type, self._type)
        for slot, contract in abi.SLOTS.items():
            choice, state = self.chosen.get(slot), self.states.get(slot, self)
            functions = choice.policy.ops() if choice else {}
            addresses = {}
            if choice is not None and linkable(functions):
                addresses = link(f"{slot} {choice.policy.name}", functions, self._type, state._type, choice.blame or choice.policy.name, self.progress)
            for op in contract.ops:
                index = abi.OP_INDEX[slot, op.name]
                if JIT_OFF:
                    self._ops[index] = functions.get(op.name) or ABSENT[len(op.args)]
                    self._states[index] = state
                else:
                    self._table[2 * index] = addresses.get(op.name) or absent[ABSENT[len(op.args)].__name__]
                    self._table[2 * index + 1] = state._address

    def _bind_services(self) -> None:
        if JIT_OFF:
            self._services = [self._core[service.name] for service in abi.SERVICES]
            return
        for j, service in enumerate(abi.SERVICES):
            self._table[2 * abi.NR_OPS + j] = service_address(service.name, self._core[service.name], self)

    def run(self, function: Callable, *args: Any) -> int:
        """Call a core kernel by itself; it is compiled, or loaded, at its first use."""
        if JIT_OFF:
            return int(function(self, *args))
        name = python_function(function).__name__
        wrapper = self._entries.get(name)
        if wrapper is None:
            wrapper = self._entries[name] = getattr(generate(f"core {name}", {name: function}), name)
            begin = time.perf_counter()
            answer = int(wrapper(self, *args))
            if self.progress is not None and sum(wrapper.stats.cache_misses.values()):
                self.progress(f"compiling core {name}", time.perf_counter() - begin)
            return answer
        return int(wrapper(self, *args))

    def op(self, slot: str, name: str, *args: int) -> int:
        """Call one op of the slot's policy (tests, /proc views, notebooks)."""
        function = self.chosen[slot].policy.ops().get(name)
        if function is None:
            return 0
        if JIT_OFF:
            return int(function(self, self.states[slot], *args))
        wrapper = self._entries.get(f"{slot} {name}")
        if wrapper is None:
            module = generate(f"{slot} {self.chosen[slot].policy.name}", self.chosen[slot].policy.ops())
            wrapper = self._entries[f"{slot} {name}"] = getattr(module, name)
        return int(wrapper(self, self.states[slot], *args))

    def run_policy(self, slot: str, function: Callable, *args: int) -> int:
        """Call a kernel (m, st, int64...) of a policy that is not one of its ops (a file's command)."""
        if JIT_OFF:
            return int(function(self, self.states[slot], *args))
        name = python_function(function).__name__
        wrapper = self._entries.get(f"{slot} {name}")
        if wrapper is None:
            module = generate(f"{slot} {self.chosen[slot].policy.name} {name}", {name: function})
            wrapper = self._entries[f"{slot} {name}"] = getattr(module, name)
        return int(wrapper(self, self.states[slot], *args))

    def calls(self) -> dict[str, int]:
        """How often each slot's ops were called through the table, init and check aside."""
        total = {slot: 0 for slot in abi.SLOTS}
        for (slot, op), count in zip(abi.OPS, self.nr_calls.tolist()):
            if op.name not in ("init", "check"):
                total[slot] += count
        return total


def service_address(name: str, function: Callable, machine: Machine) -> int:
    """Native code of the function behind a service, compiled or loaded."""
    plain = python_function(function).__name__
    dispatcher = getattr(generate(f"core {plain}", {plain: function}), plain)
    arguments = len(abi.SERVICES[abi.SERVICE_INDEX[name]].args)
    return address_of(dispatcher, (machine._type,) + (types.int64,) * arguments, f"core {name}", machine.progress)


def _policy_state(choice: Chosen, machine: Machine) -> State:
    policy, params = choice.policy, choice.params
    if params is None and policy.params is not None:
        params = policy.params()
    arrays: dict[str, np.ndarray] = {}
    if params is not None:
        for field in attrs.fields(type(params)):
            value = getattr(params, field.name)
            arrays[field.name] = np.array([value], dtype="float64" if isinstance(value, float) else "int64")
    if policy.new_state is not None:
        try:
            own = dict(policy.new_state(params, machine))
            for name, array in own.items():
                if name in arrays:
                    raise ValueError(f"new_state() and params both define {name!r}")
                if not isinstance(array, np.ndarray) or array.ndim != 1:
                    raise ValueError(f"new_state()[{name!r}] must be a one-dimensional array")
            arrays.update(own)
        except MmlabError:
            raise
        except Exception as error:  # a stranger's code
            raise PluginError(f"{choice.blame or policy.name}: new_state() raised {type(error).__name__}: {error}") from error
    return State(f"{policy.slot}.{policy.name}", arrays)
