"""A machine: the state's arrays, the chosen policies' states, and the call table that binds them.

``Machine(sizes, chosen)`` makes arrays and states; :func:`bind` links ops and core services into the table. After that kernels run:
``machine.run(kernel, *ints)`` for core entry points, ``machine.op(slot, name, *ints)`` for one op of a policy.
"""

from __future__ import annotations
from collections.abc import Callable, Iterable, Mapping, Sequence
from mmlab import abi
from mmlab._engine.absent import ABSENT
from mmlab._engine.compile import compile_units, Entry, Progress, Request
from mmlab._engine.core import SERVICES
from mmlab._engine.first_call import first_call
from mmlab._engine.link import Unit, units_of
from mmlab.errors import MmlabError, PluginError
from mmlab.kernels.jit import BUILD, JIT_OFF
from mmlab.kernels.pointer import State
from mmlab.model.const import NEVER_NS
from mmlab.model.layout import make_arrays, reserve, Sizes
from mmlab.model.rows import SC_POLL_NS, SC_PREEMPT_NS
from mmlab.policies import Policy, python_function
from numba import typeof, types
from typing import Any

import time

import attrs
import numpy as np



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
        self.sc[SC_PREEMPT_NS] = self.sc[SC_POLL_NS] = NEVER_NS
        self.sizes = sizes
        self.chosen = dict(chosen)
        self.progress = progress
        self.compile_s = 0.0  # seconds that compiling, loading and waiting for others that compile took
        self.failure: BaseException | None = None  # what was raised while a service was compiled at its first call
        self._core = services
        self.states: dict[str, State] = {}
        self.nodemasks: list[tuple[int, int]] = []  # sets of nodes that policies and cpusets name, in the order of their zonelists
        self.cache_names: dict[int, str] = {}  # slab caches that a script made, by number
        self._ops: list[Callable | None] = [None] * abi.NR_OPS
        self._states: list[Any] = [None] * abi.NR_OPS
        self._services: list[Callable | None] = [None] * abi.NR_SERVICES
        self._columns: list[np.ndarray] = []
        self._entries: dict[str, Unit] = {}

    def page_column(self, dtype: str) -> np.ndarray:
        """A zeroed array with one element a page frame, for a policy's own data; memory is taken only where it is touched."""
        column = reserve(self.sizes.nr_frames, dtype, huge=self.sizes.nr_frames <= 1 << 24)
        self._columns.append(column)
        return column

    def bind(self, entries: Iterable[Entry] = ()) -> None:
        """Make the policies' states and fill the call table; entries: core kernels that will be run, to be compiled with the rest."""
        for slot, choice in self.chosen.items():
            if slot in abi.SLOTS:
                self.states[slot] = _policy_state(choice, self)
        if JIT_OFF:
            self._bind_python()
        else:
            self._link(tuple(entries))

    def _bind_python(self) -> None:
        self._services = [self._core[service.name] for service in abi.SERVICES]
        for number, (slot, op) in enumerate(abi.OPS):
            functions = self.chosen[slot].policy.ops() if slot in self.chosen else {}
            self._ops[number] = functions.get(op.name) or ABSENT[len(op.args)]
            self._states[number] = self.states.get(slot, self)

    def _link(self, entries: tuple[Entry, ...]) -> None:
        """Compile, or load, everything that is called through the table; then write the addresses down."""
        absent = units_of("absent ops", {f.__name__: f for f in ABSENT}, self._type, self._type)
        policies = {slot: self._policy_units(slot) for slot in abi.SLOTS}
        table: dict[int, Unit] = {}
        for number, (slot, op) in enumerate(abi.OPS):
            asked = op.name != "check" and (op.name != "explain_page" or self.sizes.explain)  # check is for Python: compiled when it is asked for
            called = policies[slot].get(op.name) if asked else None
            table[2 * number] = called or absent[ABSENT[len(op.args)].__name__]
            self._table[2 * number + 1] = self.states.get(slot, self)._address
        for number, service in enumerate(abi.SERVICES):
            if service.rare and BUILD == "jit":
                self._table[2 * abi.NR_OPS + number] = first_call(self, number)
            else:
                table[2 * abi.NR_OPS + number] = self.core_unit(self._core[service.name])
        self._compile([*table.values(), *(self.core_unit(entry.function, entry.arguments) for entry in entries)], self.request(entries))
        for word, unit in table.items():
            self._table[word] = unit.address()

    def _compile(self, units: Sequence[Unit], request: Request | None = None) -> None:
        begin = time.perf_counter()
        compile_units(units, request, self.progress)
        self.compile_s += time.perf_counter() - begin

    def link_service(self, number: int) -> None:
        """Compile, or load, one service, and put it into the table."""
        unit = self.core_unit(self._core[abi.SERVICES[number].name])
        self._compile([unit])
        self._table[2 * abi.NR_OPS + number] = unit.address()

    def _policy_units(self, slot: str) -> dict[str, Unit]:
        """Units of the slot's policy by op; empty where the machine has no policy of the slot."""
        choice = self.chosen.get(slot)
        if choice is None or not choice.policy.ops():
            return {}
        policy = choice.policy
        return units_of(f"{slot} {policy.name}", policy.ops(), self._type, self.states[slot]._type, blame=choice.blame or policy.name)

    def core_unit(self, function: Callable, arguments: tuple[Any, ...] | None = None) -> Unit:
        """A kernel of the core by itself; arguments: numba's types of what comes after the machine, None: int64s."""
        name = python_function(function).__name__
        return units_of(f"core {name}", {name: function}, self._type, arguments=arguments)[name]

    def request(self, entries: tuple[Entry, ...]) -> Request | None:
        """What another process needs to compile the same; None for request replays, which are small."""
        if self._core is not SERVICES and (self.sizes.nr_request_ids or not self.sizes.explain):
            return None
        policies = {slot: choice.policy.name for slot, choice in self.chosen.items()}
        names = [(f"{f.__module__}:{f.__name__}", entry.arrays) for entry in entries for f in (python_function(entry.function),)]
        return Request(attrs.asdict(self.sizes), policies, names)

    def run(self, function: Callable, *args: Any) -> int:
        """Call a core kernel by itself; it is compiled, or loaded, at its first use."""
        if JIT_OFF:
            return int(function(self, *args))
        name = python_function(function).__name__
        unit = self._entries.get(name)
        if unit is None:
            arguments = tuple(typeof(argument) if isinstance(argument, np.ndarray) else types.int64 for argument in args)
            unit = self._entries[name] = self.core_unit(function, arguments)
            self._compile([unit])
        return self._answer(unit, *args)

    def op(self, slot: str, name: str, *args: int) -> int:
        """Call one op of the slot's policy (tests, /proc views, notebooks)."""
        function = self.chosen[slot].policy.ops().get(name)
        if function is None:
            return 0
        if JIT_OFF:
            return int(function(self, self.states[slot], *args))
        unit = self._entries.get(f"{slot} {name}")
        if unit is None:
            unit = self._entries[f"{slot} {name}"] = self._policy_units(slot)[name]
        return self._answer(unit, self.states[slot], *args)

    def run_policy(self, slot: str, function: Callable, *args: int) -> int:
        """Call a kernel (m, st, int64...) of a policy that is not one of its ops (a file's command)."""
        if JIT_OFF:
            return int(function(self, self.states[slot], *args))
        name = python_function(function).__name__
        unit = self._entries.get(f"{slot} {name}")
        if unit is None:
            owner = f"{slot} {self.chosen[slot].policy.name} {name}"
            unit = self._entries[f"{slot} {name}"] = units_of(owner, {name: function}, self._type, self.states[slot]._type)[name]
        return self._answer(unit, self.states[slot], *args)

    def _answer(self, unit: Unit, *args: Any) -> int:
        """What a kernel returns. Raises what was raised meanwhile where a service was compiled."""
        answer = int(unit.call(self, *args))
        if self.failure is not None:
            failure, self.failure = self.failure, None
            raise failure
        return answer

    def replace_policy(self, slot: str, choice: Chosen, state: State | None = None) -> State:
        """From now on the slot is served by another policy; state: what it had when it served the slot before. Returns the state that it has."""
        self.chosen[slot] = choice
        self.states[slot] = state if state is not None else _policy_state(choice, self)
        self._entries = {name: unit for name, unit in self._entries.items() if not name.startswith(f"{slot} ")}
        if JIT_OFF:
            self._bind_python()
        else:
            self._link(())
        if state is None:
            self.op(slot, "init")
        return self.states[slot]

    def calls(self) -> dict[str, int]:
        """How often each slot's ops were called through the table, init, check and explain_page aside."""
        total = {slot: 0 for slot in abi.SLOTS}
        for (slot, op), count in zip(abi.OPS, self.nr_calls.tolist()):
            if op.name not in ("init", "check", "explain_page"):
                total[slot] += count
        return total


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
                # kernels are compiled on the promise that fields do not overlap
                taken = {**machine.arrays(), **{f"new_state()[{key!r}]": value for key, value in own.items() if key != name}}
                for other, memory in taken.items():
                    if np.may_share_memory(array, memory):
                        raise ValueError(f"new_state()[{name!r}] shares memory with {other}: a policy's arrays must be its own")
            arrays.update(own)
        except MmlabError:
            raise
        except Exception as error:  # a stranger's code
            raise PluginError(f"{choice.blame or policy.name}: new_state() raised {type(error).__name__}: {error}") from error
    return State(f"{policy.slot}.{policy.name}", arrays)
