"""What a plugin hands over: one frozen record per slot. A record checks itself when it is made.

Each slot's record has the common fields of :class:`Policy` and one field per op of the slot (`mmlab hooks SLOT` prints them; the table is
:data:`mmlab.abi.SLOTS`). An op is a module-level ``@kernel`` function ``op(m, st, *int64) -> int64``. Example::

    CLOCK = Reclaimer(name="clock", summary="second chance", new_state=new_state, folio_added=folio_added, ...)
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import attrs

from mmlab.abi import SLOTS
from mmlab.errors import PluginError

#: the policy of each slot when an experiment names none
DEFAULTS: dict[str, str] = {
    "memory_model": "sparsemem_vmemmap",
    "page_allocator": "buddy",
    "slab_allocator": "slub",
    "vma_index": "maple_tree",
    "fault_handler": "linux",
    "reclaimer": "mglru",
    "oom_policy": "linux",
    "thp": "always",
    "tiering": "linux",
    "monitor": "none",
    "cost_model": "vm_guest",
}
ALL_SLOTS: tuple[str, ...] = tuple(DEFAULTS)
#: things that a reclaimer may tell of a page
EXPLAIN_MOST = 6


def python_function(kernel: Callable) -> Callable:
    """The function behind a kernel (itself where jit is off)."""
    return getattr(kernel, "py_func", kernel)


@attrs.frozen
class Explained:
    """One thing that a reclaimer tells of a page: its name, what it means, and words for its values from 0 on (none: it is a number)."""

    name: str
    meaning: str
    words: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class Policy:
    """Fields of every record.

    name: as in TOML (``[slot] use = "name"``); summary: a line for lists and reports; models: kernel files, or the paper; params: an attrs
    class of int, bool and float fields with defaults and validators; new_state: ``(params, machine) -> {name: 1-d array}``, the policy's own
    arrays (per-page columns through ``machine.page_column(dtype)``), which kernels index by whole numbers from 0, and ask for their len();
    params' fields are added as arrays of one element. level: how far
    the policy is checked (L0 invariants .. L5 published orderings). contract: the version of the slot's contract it was written for.
    files: ``(simulation, state) -> {path: object}``, the policy's own files of /proc and /sys, or folders of them (a path that ends in "/"):
    ``paths()`` names them all, ``read(path)`` is the text, ``write(path, text)`` returns 0 or -errno;
    ``wanted(path)``, if there is one, says in words what a file takes, for errors by key.
    """

    name: str
    summary: str
    models: str = ""
    left_out: str = ""
    level: str = "L0"
    params: type | None = None
    new_state: Callable[[Any, Any], Mapping[str, Any]] | None = None
    contract: int = 1
    files: Callable[[Any, Any], Mapping[str, Any]] | None = None
    slot: ClassVar[str] = ""
    #: what the fields of the slot's own record mean
    fields_doc: ClassVar[str] = ""

    def __attrs_post_init__(self) -> None:
        problems = list(_problems(self))
        if problems:
            raise PluginError(f"{self.slot} {self.name!r}: " + "; ".join(problems))

    if TYPE_CHECKING:
        # the fields of each slot's own record

        def __getattr__(self, name: str) -> Any: ...

    def ops(self) -> dict[str, Callable]:
        """The ops that this policy has, by name."""
        return {op.name: getattr(self, op.name) for op in SLOTS[self.slot].ops if getattr(self, op.name) is not None} if self.slot in SLOTS else {}


def _problems(policy: Policy):
    if not policy.name.isidentifier():
        yield f"name must be an identifier like 'two_list', got {policy.name!r}"
    if policy.params is not None:
        if not attrs.has(policy.params):
            yield f"params must be an attrs class, got {policy.params!r}"
        else:
            for field in attrs.fields(policy.params):
                if field.default is attrs.NOTHING:
                    yield f"params.{field.name} must have a default"
                if field.type not in (int, float, bool, "int", "float", "bool"):
                    yield f"params.{field.name} must be int, float or bool, got {field.type!r}"
    contract = SLOTS.get(policy.slot)
    if contract is None:
        return
    explains = getattr(policy, "explains", ())
    if len(explains) > EXPLAIN_MOST or bool(explains) != bool(getattr(policy, "explain_page", None)):
        yield f"explains must name what explain_page() tells, {EXPLAIN_MOST} things at most, got {len(explains)}"
    if policy.contract != contract.version:
        yield f"was written for version {policy.contract} of the {policy.slot} contract; this mmlab has version {contract.version}"
    for op in contract.ops:
        function = getattr(policy, op.name)
        if function is None:
            if not op.optional:
                yield f"op {op.name} is missing"
            continue
        yield from _op_problems(op, function)
    if not policy.ops() and all(op.optional for op in contract.ops):
        yield f"has no op, must have at least one ({', '.join(op.name for op in contract.ops)})"


def _op_problems(op, function):
    plain = python_function(function)
    if not inspect.isfunction(plain):
        yield f"op {op.name} must be a function, got {function!r}"
        return
    wanted = ("m", "st", *op.args)
    signature = inspect.signature(plain)
    if any(p.kind not in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in signature.parameters.values()) or len(signature.parameters) != len(wanted):
        yield f"op {op.name} must take ({', '.join(wanted)}), got {signature}"
    elif inspect.isgeneratorfunction(plain) or inspect.iscoroutinefunction(plain):
        yield f"op {op.name} must be a plain function, numba cannot compile a generator or coroutine here"
    if plain.__closure__:
        yield f"op {op.name} must not be a closure (it reads {', '.join(plain.__code__.co_freevars)})"
    module = sys.modules.get(plain.__module__)
    if "." in plain.__qualname__ or (module is not None and getattr(module, plain.__name__, None) is not function):
        yield f"op {op.name} must be a module-level name of {plain.__module__}, got {plain.__qualname__}"


def _record(slot: str, class_name: str, doc: str = "", **more: Any) -> type:
    """A record with a field an op; more: further fields and their defaults, which doc describes, a paragraph each."""
    fields: dict[str, Any] = {name: attrs.field(default=default) for name, default in more.items()}
    for op in SLOTS[slot].ops:
        fields[op.name] = attrs.field(default=None, metadata={"op": op})
    record = attrs.make_class(class_name, fields, bases=(Policy,), frozen=True, kw_only=True)
    described = f"\n\n{inspect.cleandoc(doc)}" if doc else ""
    record.__doc__ = f"{SLOTS[slot].doc} Ops: {', '.join(op.name for op in SLOTS[slot].ops)}.{described}"
    record.__module__ = __name__
    setattr(record, "slot", slot)  # noqa: B010
    setattr(record, "fields_doc", inspect.cleandoc(doc))  # noqa: B010
    return record


MemoryModel = _record("memory_model", "MemoryModel")
PageAllocator = _record("page_allocator", "PageAllocator")
SlabAllocator = _record("slab_allocator", "SlabAllocator")
VmaIndex = _record("vma_index", "VmaIndex")
FaultHandler = _record("fault_handler", "FaultHandler")
Reclaimer = _record("reclaimer", "Reclaimer", """
    wants_accesses: folio_accessed() at every access of a stream.
    needs_future: m.next_use[pfn] holds the event number of the page's next access.
    per_memcg: keeps a page on the lists of its page_lruvec(), so that cgroups can be reclaimed from.
    explains: what explain_page() tells of a page, an Explained each.
""", wants_accesses=False, needs_future=False, per_memcg=False, explains=())  # fmt: skip
OomPolicy = _record("oom_policy", "OomPolicy", """
    needs_future: m.future_task (FT_*) says what the stream does with each task from its beginning to its end.
""", needs_future=False)  # fmt: skip
Thp = _record("thp", "Thp", """
    wants_subpages: m.subpage says what each page of a large folio has met (SUBPAGE_*).
    needs_future: m.future_range (task << FUTURE_TASK_SHIFT | vpn >> 9, in order) and m.future_pages say how many pages of each 2 MiB range the
        stream touches.
""", wants_subpages=False, needs_future=False)  # fmt: skip
Tiering = _record("tiering", "Tiering", """
    wants_accesses: page_accessed() at every access of a stream.
    needs_future: m.next_use[pfn] holds the event number of the page's next access.
    hint_faults, demotes: without them kernel.numa_balancing and demotion_enabled are off from the start, whatever the machine's settings say.
""", wants_accesses=False, needs_future=False, hint_faults=False, demotes=False)  # fmt: skip
Monitor = _record("monitor", "Monitor", """
    wants_accesses: on_access() at every access of a stream.
    estimate: (machine, state, pages) -> (heat, age_ns), how hot it takes each of pages (a mmlab.procfs.resident.ResidentPages) to have been
        lately, float64[n] of at least 0 in any unit, and for how long, int64[n] or None. By this it is scored against the truth ([run] score_ms).
    report: (machine, state) -> rows, dicts with the same keys: what the monitor found, for the results.
    trace: (machine, state) -> lines of its tracepoints.
    records: (machine, state) -> the same as records of damo.
    exercised: (state) -> bool, whether it ever looked at anything; without it, being called is enough.
    Ops count what they look at in m.sc[SC_MONITOR_CHECKS]; time that they charge outside of sample() they add to m.sc[SC_MONITOR_NS] as well.
""", wants_accesses=False, estimate=None, report=None, trace=None, records=None, exercised=None)  # fmt: skip


@attrs.frozen(kw_only=True)
class CostModel(Policy):
    """What simulated time things take. costs: ``(params) -> {name of COST_NAMES: ns}``; what is missing costs nothing.

    tlb: ``(params) -> (entries, ways) of the first level for small pages, of the first level for huge pages, of the second level``; 0 entries
    for huge pages: they share the first level with small ones; 0 in the second: there is none. Without it, or with 0 entries in the first
    level, no TLB is simulated.
    """

    costs: Callable[[Any], Mapping[str, float]]
    tlb: Callable[[Any], tuple[tuple[int, int], tuple[int, int], tuple[int, int]]] | None = None
    slot: ClassVar[str] = "cost_model"


RECORDS: dict[str, type[Policy]] = {
    "memory_model": MemoryModel, "page_allocator": PageAllocator, "slab_allocator": SlabAllocator, "vma_index": VmaIndex,
    "fault_handler": FaultHandler, "reclaimer": Reclaimer, "oom_policy": OomPolicy, "thp": Thp, "tiering": Tiering, "monitor": Monitor, "cost_model": CostModel,
}
