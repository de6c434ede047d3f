"""`[workload]`: one record per kind, and the files that each reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
from attrs import field, frozen
from attrs.validators import and_, ge, in_, le

from mmlab.errors import InputError, did_you_mean
from mmlab.experiment.cells import resolve_path
from mmlab.experiment.structure import structure
from mmlab.workload.allocation_files import ALLOCATION_FORMATS
from mmlab.workload.kmem_trace import EVENTS
from mmlab.workload.traces import shipped, shipped_allocations


@frozen
class TraceWorkload:
    """`kind = "trace"`: replay a recorded program. trace: name of a shipped one (`mmlab traces`), or file: one of `mmlab record`."""

    kind: str
    trace: str = ""
    file: str = ""
    repeat: int = field(default=1, validator=ge(1))

    def __attrs_post_init__(self) -> None:
        if bool(self.trace) == bool(self.file):
            raise ValueError("needs one of trace = NAME (`mmlab traces` lists them) and file = PATH")


@frozen
class OpsWorkload:
    """`kind = "ops"`: a script of operations, as the real kernel's lab runs it."""

    kind: str
    script: str


@frozen
class StreamWorkload:
    """`kind = "stream"`: accesses from a .npz or .parquet file with the columns task, page, write."""

    kind: str
    file: str
    repeat: int = field(default=1, validator=ge(1))


@frozen
class RequestsWorkload:
    """`kind = "requests"`: a stream of requests over the reclaimer alone: a file, the pages of a shipped recording (trace), or of a generator.

    format: of the file (`mmlab.workload.request_readers.FORMATS`), "" by its ending; columns: of a CSV file, see `read_csv()`.
    cache_objects: how many objects the cache holds, all of one size; cache_share: the same as a share of the different objects of the stream;
    both 0: as many as the machine has pages.
    """

    kind: str
    file: str = ""
    trace: str = ""
    generator: str = ""
    format: str = ""
    columns: dict[str, Any] = field(factory=dict)
    params: dict[str, Any] = field(factory=dict)
    cache_objects: int = field(default=0, validator=ge(0))
    cache_share: float = field(default=0.0, validator=and_(ge(0), le(1)))
    repeat: int = field(default=1, validator=ge(1))

    def __attrs_post_init__(self) -> None:
        if sum(map(bool, (self.file, self.trace, self.generator))) != 1:
            raise ValueError("needs one of file = PATH, trace = NAME (`mmlab traces` lists them) and generator = NAME")
        if self.cache_objects and self.cache_share:
            raise ValueError("needs one of cache_objects and cache_share, got both")


@frozen
class SyntheticWorkload:
    """`kind = "synthetic"`: accesses made by a generator from the seed; params are the generator's own."""

    kind: str
    generator: str
    params: dict[str, Any] = field(factory=dict)
    repeat: int = field(default=1, validator=ge(1))


@frozen
class MasimWorkload:
    """`kind = "masim"`: a configuration file of masim; accesses_per_ms: of which one millisecond has so many."""

    kind: str
    file: str
    accesses_per_ms: int = field(default=100, validator=[ge(1), le(100_000)])


@frozen
class DamoWorkload:
    """`kind = "damo"`: accesses drawn from what DAMON estimated, a file of `damo record`.

    accesses_per_ms: of which one millisecond has so many; write_fraction: how many of them write (DAMON does not tell).
    """

    kind: str
    file: str
    accesses_per_ms: int = field(default=100, validator=[ge(1), le(100_000)])
    write_fraction: float = field(default=1.0, validator=[ge(0), le(1)])


@frozen
class AllocationsWorkload:
    """`kind = "allocations"`: allocations and frees of pages and objects, without tasks.

    From one of: trace (a shipped one), file, generator (params are its own). format of a file: "npz" (the columns of `Allocations`), "kmem" (the
    text of a trace of kmem:*, also .gz or .zst), "llfree" (LLFree's traces); "" by its ending: .npz, .llfree, else kmem. events: of a trace's
    text: "pages", "objects", "all", or "auto": pages if there are any.
    """

    kind: str
    trace: str = ""
    file: str = ""
    generator: str = ""
    params: dict[str, Any] = field(factory=dict)
    format: str = field(default="", validator=in_(("", *ALLOCATION_FORMATS)))
    events: str = field(default="auto", validator=in_(EVENTS))

    def __attrs_post_init__(self) -> None:
        if bool(self.trace) + bool(self.file) + bool(self.generator) != 1:
            raise ValueError("needs one of trace = NAME (`mmlab traces` lists them), file = PATH and generator = NAME")


KINDS: dict[str, type] = {
    "trace": TraceWorkload,
    "ops": OpsWorkload,
    "stream": StreamWorkload,
    "synthetic": SyntheticWorkload,
    "masim": MasimWorkload,
    "damo": DamoWorkload,
    "requests": RequestsWorkload,
    "allocations": AllocationsWorkload,
}
#: The keys that name files.
FILE_KEYS = ("file", "script")
#: Operations of scripts that read a file of the host.
READING = ("access", "probe")


def check_workload(table: Any, base_dir: Path, errors: list[str]) -> dict[str, Any]:
    """The table with its defaults filled in, as a cell's configuration keeps it; each fault is added to `errors`.

    `sources` holds named tables, of which `source` chooses one: its keys count as the workload's own. So a matrix can vary whole workloads.
    """
    source = ""
    if isinstance(table, dict) and ("source" in table or "sources" in table):
        table, source = _chosen_source(table, errors), table.get("source", "")
    if not isinstance(table, dict) or "kind" not in table:
        errors.append(f"workload: must be a table with a kind (one of: {', '.join(KINDS)}), got {table!r}")
        return {"kind": ""}
    kind = table["kind"]
    if kind not in KINDS:
        errors.append(f"workload.kind: must be one of {', '.join(KINDS)}, got {kind!r}{did_you_mean(str(kind), KINDS)}")
        return {"kind": ""}
    workload = structure(KINDS[kind], table, "workload", errors)
    if workload is None:
        return {"kind": ""}
    config = attrs.asdict(workload)
    faults = _check_files(config, base_dir)
    if not faults and kind == "ops":
        faults = _check_script(config["script"], base_dir)
    if not faults and kind == "masim":
        faults = _check_masim(resolve_path(config["file"], base_dir))
    if kind == "requests" and config["format"]:
        faults += _check_format(config["format"])
    if kind in ("synthetic", "requests") and config["generator"]:
        faults += _check_generator(config["generator"], config["params"])
    if kind == "allocations" and config["generator"]:
        faults += _check_allocation_generator(config["generator"], config["params"])
    errors.extend(faults)
    return {key: value for key, value in {**config, "source": source}.items() if value != ""}


def _chosen_source(table: dict[str, Any], errors: list[str]) -> dict[str, Any]:
    sources, name = table.get("sources", {}), table.get("source")
    own = {key: value for key, value in table.items() if key not in ("source", "sources")}
    if not isinstance(sources, dict) or not all(isinstance(source, dict) for source in sources.values()):
        errors.append(f"workload.sources: must hold tables, [workload.sources.NAME], got {sources!r}")
    elif name not in sources:
        errors.append(f"workload.source: must name one of workload.sources ({', '.join(sources) or 'there is none'}), got {name!r}{did_you_mean(str(name), sources)}")
    else:
        return {**own, **sources[name]}
    return own


def workload_files(config: dict[str, Any], base_dir: Path) -> list[tuple[str, Path]]:
    """(text in the configuration, file) for each file the workload reads, the scripts' own files included."""
    files = [(config[key], resolve_path(config[key], base_dir)) for key in FILE_KEYS if config.get(key)]
    if config.get("trace"):
        files.append((config["trace"], shipped_trace(config["trace"], config["kind"])))
    if config.get("script"):
        files += [(path.name, path) for _, path in _script_files(files[0][1])]
    return files


def shipped_trace(name: str, kind: str = "trace") -> Path:
    """File of a shipped trace for a kind of workload; InputError with the known names otherwise."""
    known = shipped_allocations() if kind == "allocations" else shipped()
    if name not in known:
        raise InputError(f"workload.trace: no shipped trace {name!r} (known: {', '.join(known) or 'none'}){did_you_mean(name, known)}")
    return known[name]


def _check_files(config: dict[str, Any], base_dir: Path) -> list[str]:
    faults = []
    for key in FILE_KEYS:
        if "\n" in (config.get(key) or ""):
            faults.append(f"workload.{key}: must be the path of a file, got {len(config[key].splitlines())} lines of text: put them into a file")
        elif config.get(key) and not resolve_path(config[key], base_dir).is_file():
            faults.append(f"workload.{key}: no such file: {config[key]} (looked in {base_dir} and the working directory)")
    if config.get("trace"):
        try:
            shipped_trace(config["trace"], config["kind"])
        except InputError as error:
            faults.extend(error.messages)
    return faults


def _check_script(text: str, base_dir: Path) -> list[str]:
    try:
        files = _script_files(resolve_path(text, base_dir))
    except InputError as error:
        return [f"workload.script: {message}" for message in error.messages]
    except (OSError, UnicodeDecodeError) as error:
        return [f"workload.script: {text}: cannot be read: {error}"]
    faults = [f"workload.script: {where}: no such file: {path}" for where, path in files if not path.is_file()]
    return faults + _contradictions(resolve_path(text, base_dir))


def _contradictions(script: Path) -> list[str]:
    """Where a script protects more of a cgroup's memory than the cgroup may have. Linux takes such limits; they cannot be meant."""
    from mmlab.procfs.cgroups import parse_limit
    from mmlab.workload.ops import parse_ops

    limits: dict[str, dict[str, str]] = {}
    faults = []
    for op in parse_ops(script.read_text(encoding="utf-8"), str(script)):
        if op.name != "cgroup":
            continue
        set_ = limits.setdefault(op.args["cgroup"], {})
        set_.update(op.args["settings"])
        most = parse_limit(set_.get("memory.max", "max"))
        for name in ("memory.min", "memory.low"):
            least = parse_limit(set_.get(name, "0"))
            if most is not None and least is not None and least > most and set_[name] != "max":
                faults.append(f"workload.script: {script}:{op.line}: cgroup {op.args['cgroup']}: {name} must not be above memory.max, got {set_[name]} and {set_['memory.max']}")
    return faults


def _script_files(script: Path) -> list[tuple[str, Path]]:
    """(`SCRIPT:LINE`, file beside the script) for each file that an operation reads."""
    from mmlab.workload.ops import parse_ops

    operations = parse_ops(script.read_text(encoding="utf-8"), str(script))
    return [(f"{script}:{op.line}", script.parent / op.args["file"]) for op in operations if op.name in READING]


def _check_masim(path: Path) -> list[str]:
    from mmlab.workload.masim import read_masim

    try:
        read_masim(path)
    except InputError as error:
        return [f"workload.file: {message}" for message in error.messages]
    return []


def _check_format(name: str) -> list[str]:
    from mmlab.workload.request_readers import FORMATS

    return [] if name in FORMATS else [f"workload.format: must be one of {', '.join(FORMATS)}, got {name!r}{did_you_mean(name, FORMATS)}"]


def _check_allocation_generator(name: str, params: dict[str, Any]) -> list[str]:
    from mmlab.workload.allocation_generators import make_allocation_generator

    try:
        make_allocation_generator(name, params, "workload.params")
    except InputError as error:
        return error.messages
    return []


def _check_generator(name: str, params: dict[str, Any]) -> list[str]:
    from mmlab.workload.generators import GENERATORS, make_generator

    if name not in GENERATORS:
        return [f"workload.generator: no generator named {name!r} (known: {', '.join(sorted(GENERATORS))}){did_you_mean(name, GENERATORS)}"]
    try:
        make_generator(name, params, "workload.params")
    except InputError as error:
        return error.messages
    return []
