"""Reader of workload scripts (`.ops`): the text that both the real kernel's loader and the simulated machine run.

One operation a line, tokens separated by spaces, `#` starts a comment. `SPECS` is the whole language: each operation's arguments in
order, its options (`key=VALUE`) and its flags, with the names that `Operation.args` gives them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from attrs import field, frozen

from mmlab.errors import InputError, did_you_mean
from mmlab.workload import tokens as t
from mmlab.workload.operation import PAGE_SIZE, PROT_READ, PROT_WRITE, Operation

MAX_LINE, MAX_TOKENS = 1023, 24  # the real executor's buffers

Parser = Callable[[str], Any]


@frozen
class Option:
    """`key=VALUE`: how the value is read, the argument's name, and its value where the option is not given."""

    parse: Parser
    default: Any = None
    arg: str | None = None


@frozen
class Spec:
    """The grammar of one operation, its first word left out."""

    on_task: bool
    positional: tuple[tuple[str, Parser], ...] = ()
    options: dict[str, Option] = field(factory=dict)
    flags: tuple[str, ...] = ()
    rest: tuple[str, Parser] | None = None  # takes all the tokens that are left, as a tuple
    optional: int = 0  # so many of the last positional arguments may be left out, all of them or none
    background: bool = True  # may follow `bg`
    check: Callable[[dict[str, Any]], str | None] = lambda args: None


def _mmap_check(args: dict[str, Any]) -> str | None:
    for flag in ("over", "hint"):
        if args[flag] and args["at"] is None:
            return f"'{flag}' needs at="
    if args["over"] and args["hint"]:
        return "'over' and 'hint' exclude each other"
    if args["align"] is not None and args["at"] is not None:
        return "align= and at= exclude each other"
    if args["align"] is not None and args["align"] & (args["align"] - 1):
        return f"align= must be a power of two, got {args['align']} bytes"
    if args["file"] is None and (args["keep"] or args["off"]):
        return "keep and off= need file:F"
    return None


def _whole_region_check(args: dict[str, Any]) -> str | None:
    return "an absolute address needs OFF and LEN" if isinstance(args["region"], int) and args["length"] is None else None


def _rtouch_check(args: dict[str, Any]) -> str | None:
    return "LEN must be at least one page" if args["length"] < PAGE_SIZE else None


_REGION = ("region", t.region)
_NAMED = ("region", t.name)
_RANGE = (_REGION, ("offset", t.offset), ("length", t.size))
_MODE = ("mode", t.read_write)
_STRIDE = {"stride": Option(t.positive_size, PAGE_SIZE)}
_NODES = {"nodes": Option(t.nodes, ())}
_PROT = Option(t.prot, PROT_READ | PROT_WRITE)
_FILE_RANGE = (("file", t.word), ("offset", t.size), ("length", t.size))

SPECS: dict[str, Spec] = {
    # tasks
    "spawn": Spec(
        True,
        options={"cpu": Option(t.count), "oom_score_adj": Option(t.integer, 0), "cgroup": Option(t.word)},
        background=False,
    ),
    "fork": Spec(True, (("child", t.name),), background=False),
    "exit": Spec(True, background=False),
    "kill": Spec(True, background=False),
    "cpu": Spec(True, (("cpu", t.count),)),
    "oom_score_adj": Spec(True, (("value", t.integer),), background=False),
    "rlimit": Spec(True, (("limit", t.limit), ("size", t.size))),
    "join": Spec(True, background=False),
    # address space
    "mmap": Spec(
        True,
        (("region", t.region_name), ("size", t.size), ("file", t.backing)),
        {
            "prot": _PROT, "at": Option(t.place), "align": Option(t.positive_size), "off": Option(t.size, 0), "huge": Option(t.yes_no),
        },
        ("shared", "populate", "noreserve", "over", "hint", "growsdown", "locked", "keep"),
        check=_mmap_check,
    ),
    "nmap": Spec(True, (("count", t.count), ("size", t.size)), {"prot": _PROT}, ("alt",)),
    "munmap": Spec(True, _RANGE, optional=2, check=_whole_region_check),
    "mprotect": Spec(True, (*_RANGE, ("prot", t.prot))),
    "mremap": Spec(True, (_NAMED, ("size", t.size)), {"to": Option(t.name)}, ("nomove", "dontunmap")),
    "brk": Spec(True, (("size", t.offset),)),
    "region": Spec(True, (("region", t.region_name), ("area", t.area))),
    # accesses
    "touch": Spec(True, (*_RANGE, _MODE), _STRIDE, ("reverse",)),
    "rtouch": Spec(True, (*_RANGE, ("count", t.count), _MODE), {"seed": Option(t.count, 1)}, check=_rtouch_check),
    "access": Spec(
        True,
        (_REGION, ("file", t.word), ("mode", t.read_write_mixed)),
        {"from": Option(t.count, 0, "start"), "count": Option(t.count)},
    ),
    "loop": Spec(True, (*_RANGE, ("ms", t.count), _MODE), {**_STRIDE, "period": Option(t.count, None, "period_us")}, ("noflush",)),
    # advice, pinning, placement
    "madvise": Spec(True, (*_RANGE, ("advice", t.advice))),
    "mlock": Spec(True, _RANGE, flags=("onfault",)),
    "munlock": Spec(True, _RANGE),
    "mlockall": Spec(True, flags=("current", "future", "onfault")),
    "munlockall": Spec(True),
    "mincore": Spec(True, (_NAMED,)),
    "pagemap": Spec(True, (_NAMED, ("label", t.word))),
    "mbind": Spec(True, (*_RANGE, ("policy", t.policy)), _NODES, ("move",)),
    "set_mempolicy": Spec(True, (("policy", t.policy),), _NODES),
    # files
    "mkfile": Spec(False, (("file", t.word), ("size", t.size))),
    "fread": Spec(True, _FILE_RANGE, {"advice": Option(t.count)}),
    "fwrite": Spec(True, _FILE_RANGE, {"advice": Option(t.count)}),
    "fsync": Spec(True, (("file", t.word),)),
    "truncate": Spec(True, (("file", t.word), ("size", t.size))),
    # the machine
    "sysctl": Spec(False, (("key", t.word), ("value", t.word))),
    "sysfs": Spec(False, (("path", t.word), ("value", t.word))),
    "write": Spec(False, (("path", t.path),), rest=("value", t.word)),
    "cgroup": Spec(False, (("cgroup", t.word),), rest=("settings", t.setting)),
    "sleep": Spec(False, (("ms", t.count),)),
    "snapshot": Spec(False, (("label", t.word),), flags=("brief",)),
    "cat": Spec(False, (("path", t.path), ("label", t.word))),
    "tree": Spec(False, (("path", t.path), ("label", t.word))),
    "sh": Spec(False, rest=("command", t.word)),
    "probe": Spec(False, (("file", t.word), ("label", t.word))),
}  # fmt: skip


def parse_ops(text: str, filename: str) -> list[Operation]:
    """Parse a script.

    text      the script; line numbers are 1-based lines of this text (as the real executor counts them)
    filename  for messages

    Raises `InputError` with every mistake of the script: unknown operations and options, bad values, missing or surplus arguments,
    tasks that no earlier line starts, regions that no earlier line of the task or of those it was forked from names. (Whether a region was
    mapped is left to the run: a script may ask for one that failed.)
    """
    operations: list[Operation] = []
    errors: list[str] = []
    tasks: set[str] = set()
    regions: dict[str, set[str]] = {}
    for number, raw in enumerate(text.split("\n"), 1):
        line = raw.split("#", 1)[0].strip()
        if not line:
            continue
        found = len(errors)
        operation = _parse_line(line, number, errors, raw)
        errors[found:] = [f"{filename}:{number}: {message}" for message in errors[found:]]
        words = line.split()
        if words[0] in ("spawn", "fork") and len(words) > (1 if words[0] == "spawn" else 2):
            starts = words[1] if words[0] == "spawn" else words[2]
        else:
            starts = None
        if operation is not None:
            messages = _unknown_tasks(operation, tasks) or _unknown_regions(operation, regions)
            errors += [f"{filename}:{number}: {message}" for message in messages]
            operations.append(operation)
        if starts:
            tasks.add(starts)
            regions[starts] = set(regions.get(words[1], ())) if words[0] == "fork" else set()
    if errors:
        raise InputError(errors)
    return operations


def _parse_line(line: str, number: int, errors: list[str], raw: str) -> Operation | None:
    words = line.split()
    background = words[0] == "bg"
    if background:
        words = words[1:]
        if not words:
            errors.append("bg: needs an operation")
            return None
    name, *words = words
    spec = SPECS.get(name)
    if spec is None:
        errors.append(f"unknown operation '{name}'{did_you_mean(name, [*SPECS, 'bg'])}")
        return None
    if len(raw.encode()) > MAX_LINE or len(words) + 1 > MAX_TOKENS and name != "sh":
        errors.append(f"{name}: a line may have {MAX_LINE} bytes and {MAX_TOKENS} words")
        return None
    if background and not (spec.on_task and spec.background):
        errors.append(f"bg: '{name}' cannot run in the background (only what a task does by itself)")
    task = None
    if spec.on_task:
        if not words:
            errors.append(f"{name}: which task? (usage: {usage(name)})")
            return None
        task, *words = words
        if len(task.encode()) > 23:
            errors.append(f"{name}: task '{task}' is longer than 23 bytes")
    before = len(errors)
    args = _arguments(name, spec, words, errors)
    return Operation(name, task, args, number, line, background) if len(errors) == before else None


def _arguments(name: str, spec: Spec, words: list[str], errors: list[str]) -> dict[str, Any]:
    args: dict[str, Any] = {option.arg or key: option.default for key, option in spec.options.items()}
    args.update(dict.fromkeys(spec.flags, False))
    args.update({key: None for key, _ in spec.positional[len(spec.positional) - spec.optional :]} if spec.optional else {})

    def put(key: str, label: str, parse: Parser, token: str) -> None:
        try:
            args[key] = parse(token)
        except ValueError as error:
            errors.append(f"{name}: {label}: {error}")

    before = len(errors)
    given = words[: len(spec.positional)]
    options = words[len(given) :]
    if spec.optional and len(given) > len(spec.positional) - spec.optional and not all(re.match(r"-?\d", w) for w in given[1:]):
        given, options = words[:1], words[1:]  # `munmap A r` followed by something that is no number
    required = len(spec.positional) - spec.optional
    if len(given) != len(spec.positional) and len(given) != required:
        errors.append(f"{name}: {_label(spec.positional[len(given)][0])} is missing (usage: {usage(name)})")
    for (key, parse), token in zip(spec.positional, given):
        put(key, _label(key), parse, token)
    if spec.rest:
        key, parse = spec.rest
        values = []
        for token in options:
            try:
                values.append(parse(token))
            except ValueError as error:
                errors.append(f"{name}: {_label(key)}: {error}")
        if not options and name != "cgroup":
            errors.append(f"{name}: {_label(key)} is missing (usage: {usage(name)})")
        args[key] = tuple(values)
        options = []
    for token in options:
        key, equals, value = token.partition("=")
        if equals and key in spec.options:
            put(spec.options[key].arg or key, f"{key}=", spec.options[key].parse, value)
        elif not equals and key in spec.flags:
            args[key] = True
        else:
            known = [f"{option}=" for option in spec.options] + list(spec.flags)
            errors.append(f"{name}: '{token}' is not one of its options{did_you_mean(key + equals, known)} (usage: {usage(name)})")
    if len(errors) == before:
        message = spec.check(args)
        if message:
            errors.append(f"{name}: {message}")
    return args


def _unknown_tasks(operation: Operation, tasks: set[str]) -> list[str]:
    """Messages for every task that the operation names and no earlier line started."""
    asked = []
    if operation.task is not None and operation.name != "spawn":
        asked.append(operation.task)
    messages = []
    values = operation.args.get("value", ())
    for value in (values,) if isinstance(values, str) else values if operation.name == "write" else ():
        try:
            reference = t.task_reference(value)
        except ValueError as error:
            messages.append(f"{operation.name}: VALUE: {error}")
            continue
        if reference:
            asked.append(reference.task)
    if operation.name in ("write", "cat"):
        asked += re.findall(r"/@([^/]+)", operation.args["path"])
    known = ", ".join(sorted(tasks)) or "none"
    return messages + [
        f"{operation.name}: no task '{name}' was started before this line (known: {known}){did_you_mean(name, tasks)}"
        for name in asked
        if name not in tasks
    ]


def _unknown_regions(operation: Operation, regions: dict[str, set[str]]) -> list[str]:
    """Messages for every region that the operation names and no earlier line does; notes what it names itself. The task is known."""
    if operation.task is None or operation.name == "spawn":
        return []
    args, known = operation.args, regions[operation.task]
    asked = [args.get("to"), args["at"].region if args.get("at") is not None else None]
    if operation.name in ("mmap", "region"):
        named = args["region"]
    else:
        named = "brk" if operation.name == "brk" else None
        asked.insert(0, args.get("region"))
    messages = [
        f"{operation.name}: no earlier line gives {operation.task} a region '{name}' (known: {', '.join(sorted(known)) or 'none'}){did_you_mean(name, known)}"
        for name in asked
        if isinstance(name, str) and name not in known
    ]
    if named is not None:
        known.add(named)
    return messages


def _label(key: str) -> str:
    return {"region": "R", "offset": "OFF", "length": "LEN", "mode": "r|w", "file": "FILE"}.get(key, key.upper())


def usage(name: str) -> str:
    """`touch A R OFF LEN r|w [stride=] [reverse]`: one operation's grammar in a line."""
    spec = SPECS[name]
    labels = [_label(key) for key, _ in spec.positional]
    if name == "access":
        labels[-1] = "r|w|m"
    elif name == "mmap":
        labels[-1] = "anon|file:F"
    required = labels[: len(labels) - spec.optional]
    parts = [name, *(["A"] if spec.on_task else []), *required]
    if spec.optional:
        parts.append(f"[{' '.join(labels[len(required) :])}]")
    if spec.rest:
        parts.append(f"{_label(spec.rest[0])}…")
    return " ".join(parts + [f"[{key}=]" for key in spec.options] + [f"[{flag}]" for flag in spec.flags])


def make_operation(name: str, task: str | None, text: str = "", **args: Any) -> Operation:
    """An operation of the language made without a script: options and flags that are not given get their defaults."""
    spec = SPECS[name]
    defaults = {option.arg or key: option.default for key, option in spec.options.items()} | dict.fromkeys(spec.flags, False)
    return Operation(name, task, defaults | args, text=text or name)
