"""/sys/kernel/mm/damon/admin: settings as text in a tree of folders, and the word `state` that makes a kdamond use them.

Models: mm/damon/sysfs.c, sysfs-schemes.c, sysfs-common.c. A folder is a dict: a str is a file, a dict a folder, numbered folders are made by
writing nr_*. What a running kdamond has is not here: `state` copies it in and out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from errno import EACCES
from typing import Any

from mmlab.errors import NotSupported
from mmlab.model.const import EBUSY, EINVAL, ENOENT, ENOMEM, ERANGE
from mmlab_linux.monitor.damon import state as s
from mmlab_linux.monitor.damon.control import Context, Control, Scheme, Target, check_context

ROOT = "/sys/kernel/mm/damon/admin/"
Folder = dict[str, Any]
ULONG_BITS, UINT_BITS = (1 << 64) - 1, (1 << 32) - 1
COMMANDS = (
    "on", "off", "commit", "commit_schemes_quota_goals", "update_schemes_stats", "update_schemes_tried_bytes", "update_schemes_tried_regions",
    "clear_schemes_tried_regions", "update_schemes_effective_quotas",
)  # fmt: skip


def _bounds() -> Folder:
    return {"min": "0", "max": "0"}


def _context() -> Folder:
    intervals = {"sample_us": "5000", "aggr_us": "100000", "update_us": "60000000"}
    attrs = {"intervals": intervals, "nr_regions": {"min": "10", "max": "1000"}}
    return {
        "avail_operations": "\n".join(s.OPS_NAMES), "operations": "vaddr", "monitoring_attrs": attrs,
        "targets": {"nr_targets": "0"}, "schemes": {"nr_schemes": "0"},
    }  # fmt: skip


def _scheme() -> Folder:
    weights = {"sz_permil": "0", "nr_accesses_permil": "0", "age_permil": "0"}
    quotas = {"ms": "0", "bytes": "0", "reset_interval_ms": "0", "effective_bytes": "0", "weights": weights, "goals": {"nr_goals": "0"}}
    stats = dict.fromkeys(("nr_tried", "sz_tried", "nr_applied", "sz_applied", "qt_exceeds"), "0")
    return {
        "action": "stat", "target_nid": "-1", "apply_interval_us": "0",
        "access_pattern": {"sz": _bounds(), "nr_accesses": _bounds(), "age": _bounds()}, "quotas": quotas,
        "watermarks": {"metric": "none", "interval_us": "0", "high": "0", "mid": "0", "low": "0"},
        "filters": {"nr_filters": "0"}, "stats": stats, "tried_regions": {"total_bytes": "0"},
    }  # fmt: skip


#: nr_X -> what each numbered folder beside it holds
CHILDREN = {
    "nr_kdamonds": lambda: {"state": "off", "pid": "-1", "contexts": {"nr_contexts": "0"}},
    "nr_contexts": _context,
    "nr_targets": lambda: {"pid_target": "0", "regions": {"nr_regions": "0"}},
    "nr_regions": lambda: {"start": "0", "end": "0"},
    "nr_schemes": _scheme,
    "nr_goals": lambda: {"target_metric": "user_input", "target_value": "0", "current_value": "0"},
    "nr_filters": lambda: {
        "type": "anon", "memcg_path": "", "addr_start": "0", "addr_end": "0", "damon_target_idx": "0", "matching": "N",
    },
}  # fmt: skip
CHOICES = {
    "operations": s.OPS_NAMES, "action": s.ACTIONS, "metric": ("none", "free_mem_rate"), "target_metric": s.GOAL_METRICS, "type": s.FILTER_TYPES,
}  # fmt: skip
SIGNED = ("pid_target", "target_nid", "damon_target_idx")
NO_RANGE = ("pid_target", "ms", "bytes", "reset_interval_ms")  # whatever is wrong with the number is EINVAL
READ_ONLY = ("avail_operations", "pid", "effective_bytes", "total_bytes", "nr_tried", "sz_tried", "nr_applied", "sz_applied", "qt_exceeds")


def parse_ulong(text: str, most: int = ULONG_BITS) -> int:
    """What kstrtoul(text, 0) reads, or -EINVAL for what is no number, -ERANGE for one that is too large."""
    word = text.strip()
    try:
        value = int(word[1:] if word.startswith("+") else word, 8 if word[:1] == "0" and word.isdigit() else 0)
    except ValueError:
        return -EINVAL
    return -EINVAL if value < 0 else value if value <= most else -ERANGE


def parse_int(text: str) -> tuple[int, int]:
    """(error, value) of kstrtoint(text, 0)."""
    word = text.strip()
    size = parse_ulong(word.removeprefix("-"), 1 << 31 if word.startswith("-") else (1 << 31) - 1)
    return (size, 0) if size < 0 else (0, -size if word.startswith("-") else size)


def parse_bool(text: str) -> str | None:
    """Y or N, or None."""
    word = text.strip().lower()
    if word in ("1", "on") or word[:1] in ("y", "t"):
        return "Y"
    return "N" if word in ("0", "off") or word[:1] in ("n", "f") else None


def numbered(folder: Folder) -> list[Folder]:
    """The folders 0, 1, ... in order."""
    return [folder[str(i)] for i in range(sum(name.isdigit() for name in folder))]


class SysfsTree:
    """The files below ROOT of one simulation."""

    def __init__(self, control: Control):
        self.control = control
        self.root: Folder = {"kdamonds": {"nr_kdamonds": "0"}}

    def paths(self) -> Iterator[str]:
        """Every file."""
        yield from self._walk(ROOT, self.root)

    def _walk(self, path: str, folder: Folder) -> Iterator[str]:
        for name, entry in folder.items():
            if isinstance(entry, dict):
                yield from self._walk(f"{path}{name}/", entry)
            else:
                yield path + name

    def _find(self, path: str) -> tuple[Folder, str, int]:
        """The folder that holds the file, the file's name, the kdamond's number (-1 above them). Raises FileNotFoundError."""
        parts = path.removeprefix(ROOT).split("/")
        folder = self.root
        for part in parts[:-1]:
            if not isinstance(folder.get(part), dict):
                raise FileNotFoundError(path)
            folder = folder[part]
        if not isinstance(folder.get(parts[-1]), str):
            raise FileNotFoundError(path)
        return folder, parts[-1], int(parts[1]) if len(parts) > 2 else -1

    def read(self, path: str) -> str:
        """A file's text."""
        folder, name, k = self._find(path)
        if name == "state":
            return "on\n" if self.control.running(k) else "off\n"
        if name == "pid":
            return f"{self.control.word(k, s.C_PID) if self.control.running(k) else -1}\n"
        return folder[name] + "\n"

    def write(self, path: str, text: str) -> int:
        """0 or -errno."""
        try:
            folder, name, k = self._find(path)
        except FileNotFoundError:
            return -ENOENT
        if name in CHILDREN:
            return self._write_number(folder, name, text)
        if name == "state":
            return self._command(k, folder, text.strip())
        if name in READ_ONLY or "/tried_regions/" in path:
            return -EACCES
        error, value = _checked(name, text)
        if error == 0:
            folder[name] = value
        return error

    def wanted(self, path: str) -> str:
        """What a file takes, in words; for folders that are not there, what makes them."""
        name = path.rpartition("/")[2]
        try:
            self.read(path)
        except FileNotFoundError:
            return "no such file; the folders of a number N come by N in nr_contexts, nr_targets, nr_schemes ... before"
        if name in READ_ONLY or "/tried_regions/" in path:
            return "cannot be written"
        if name == "state":
            return f"must be one of {', '.join(COMMANDS)}, and what it starts must be whole (operations, targets, attributes, target_nid of migrations)"
        if name in CHOICES:
            return f"must be one of {', '.join(CHOICES[name])}"
        return "must be Y or N" if name == "matching" else f"must be a whole number{'' if name in SIGNED else ', not below 0'}"

    def _write_number(self, folder: Folder, name: str, text: str) -> int:
        """All numbered folders go; so many new ones come."""
        error, number = parse_int(text)
        if error or number < 0 or name == "nr_contexts" and number > 1:
            return error or -EINVAL
        if name == "nr_kdamonds":
            if any(self.control.running(k) for k in range(s.NR_KDAMONDS)):
                return -EBUSY
            if number > s.NR_KDAMONDS:
                raise NotSupported(f"damon: more than {s.NR_KDAMONDS} kdamonds")
        for child in [child for child in folder if child.isdigit()]:
            del folder[child]
        folder[name] = str(number)
        folder.update({str(i): CHILDREN[name]() for i in range(number)})
        return 0

    def _command(self, k: int, kdamond: Folder, command: str) -> int:
        if command not in COMMANDS:
            return -EINVAL
        if command == "off":
            return -EINVAL if kdamond["pid"] == "-1" else self.control.stop(k)
        contexts = numbered(kdamond["contexts"])
        if not contexts:
            return -EINVAL
        context = contexts[0]
        if command == "on":
            if self.control.running(k):
                return -EBUSY
            described = read_context(context, self.control.sim.cgroups)
            error = self._check(described, context) or self.control.start(k, described)
            kdamond["pid"] = "0" if error == 0 else "-1"  # whether it has a context
            return error
        if not self.control.running(k):
            return -EINVAL
        schemes = numbered(context["schemes"])
        if command == "clear_schemes_tried_regions":
            return self.control.ask(k, s.REQ_LOOK, lambda: _clear_tried(schemes))
        if command == "commit":
            described = read_context(context, self.control.sim.cgroups)
            bad = self._check(described, context) or self.control.fill(s.PARAM_CTX + k, described)
            return self.control.ask(k, s.REQ_BAD_COMMIT if bad else s.REQ_COMMIT)
        if command == "commit_schemes_quota_goals":
            self.control.fill_goals(s.PARAM_CTX + k, [read_goals(scheme["quotas"]) for scheme in schemes])
            return self.control.ask(k, s.REQ_GOALS)
        if command in ("update_schemes_tried_bytes", "update_schemes_tried_regions"):
            self._want_tried(k, schemes)
            whole = command == "update_schemes_tried_regions"
            return self.control.ask(k, s.REQ_TRIED, lambda: self._copy_tried(schemes, whole))
        copy = self._copy_stats if command == "update_schemes_stats" else self._copy_quotas
        return self.control.ask(k, s.REQ_LOOK, lambda: copy(k, schemes))

    def _check(self, described: Context, folder: Folder) -> int:
        """0, or why the context cannot be made: -EINVAL for attributes and targets, -ENOMEM for filters that name no cgroup, or no addresses."""
        filters = [row for scheme in numbered(folder["schemes"]) for row in numbered(scheme["filters"])]
        paths = [row["memcg_path"] for row in filters if row["type"] == "memcg"]
        bad = any(path[:1] != "/" or path[1:] not in self.control.sim.cgroups for path in paths)
        bad = bad or any(int(row["addr_end"]) < int(row["addr_start"]) for row in filters if row["type"] == "addr")
        return check_context(described) or (-ENOMEM if bad else 0)

    def _copy_stats(self, k: int, schemes: list[Folder]) -> None:
        for i, scheme in enumerate(schemes):
            for n, name in enumerate(("nr_tried", "sz_tried", "nr_applied", "sz_applied", "qt_exceeds")):
                scheme["stats"][name] = str(self.control.scheme(k, i, s.S_NR_TRIED + n))

    def _copy_quotas(self, k: int, schemes: list[Folder]) -> None:
        for i, scheme in enumerate(schemes):
            scheme["quotas"]["effective_bytes"] = str(self.control.scheme(k, i, s.S_ESZ))

    def _want_tried(self, k: int, schemes: list[Folder]) -> None:
        state = self.control.state
        state.one[s.ONE_NR_TRIED] = 0
        now, aggr_us = self.control.sim.now_ns // s.TICK_NS, self.control.word(k, s.C_AGGR_US)
        for i in range(min(len(schemes), self.control.word(k, s.C_NR_SCHEMES))):
            row = (k * s.MAX_SCHEMES + i) * s.SCHEME_STRIDE
            apply_us = int(state.scheme[row + s.S_APPLY_US]) or aggr_us
            state.scheme[row + s.S_TRIED_WANTED], state.scheme[row + s.S_TRIED_TIMEOUT] = s.TRIED_IDLE, now - -apply_us * 1000 // s.TICK_NS * 2

    def _copy_tried(self, schemes: list[Folder], whole: bool) -> None:
        _clear_tried(schemes)
        state = self.control.state
        rows = state.tried[: int(state.one[s.ONE_NR_TRIED]) * s.TRIED_STRIDE].reshape(-1, s.TRIED_STRIDE)
        for number, (start, end, nr_accesses, age, scheme) in enumerate(rows[:, :5].tolist()):  # all schemes' regions count on
            tried = schemes[scheme]["tried_regions"]
            tried["total_bytes"] = str(int(tried["total_bytes"]) + end - start)
            if whole:
                tried[str(number)] = {"start": str(start), "end": str(end), "nr_accesses": str(nr_accesses), "age": str(age)}


def _clear_tried(schemes: list[Folder]) -> None:
    for scheme in schemes:
        scheme["tried_regions"] = {"total_bytes": "0"}


def _checked(name: str, text: str) -> tuple[int, str]:
    """0 and what a file keeps of what is written, or the error with which it refuses that."""
    word = text.strip()
    if name in CHOICES:
        return (0, word) if word in CHOICES[name] else (-EINVAL, "")
    if name == "matching":
        flag = parse_bool(text)
        return (0, flag) if flag else (-EINVAL, "")
    if name == "memcg_path":
        return 0, word
    if name in SIGNED:
        error, value = parse_int(text)
    else:
        value = parse_ulong(text, UINT_BITS if name.endswith("_permil") else ULONG_BITS)
        error = min(value, 0)
    return (-EINVAL if error and name in NO_RANGE else error), str(value)


def read_context(folder: Folder, cgroups: Mapping[str, int]) -> Context:
    """The context that the files describe. Raises NotSupported for what is not simulated.

    cgroups: path below the root of cgroup v2 -> row in m.memcg.
    """
    intervals, bounds = folder["monitoring_attrs"]["intervals"], folder["monitoring_attrs"]["nr_regions"]
    targets = [
        Target(int(target["pid_target"]), tuple((int(region["start"]), int(region["end"])) for region in numbered(target["regions"])))
        for target in numbered(folder["targets"])
    ]
    sample, aggr, update = (int(intervals[name]) for name in ("sample_us", "aggr_us", "update_us"))
    attrs = (sample, aggr, update, int(bounds["min"]), int(bounds["max"]))
    return Context(s.OPS_NAMES.index(folder["operations"]), attrs, targets, [read_scheme(scheme, cgroups) for scheme in numbered(folder["schemes"])])


def _uint(text: str) -> int:
    """What is left of a number of the files, a long, where DAMON keeps an unsigned int."""
    return int(text) & 0xFFFFFFFF


def read_scheme(folder: Folder, cgroups: Mapping[str, int]) -> Scheme:
    """One scheme."""
    pattern, quotas, marks = folder["access_pattern"], folder["quotas"], folder["watermarks"]
    values = {
        s.S_ACTION: s.ACTIONS.index(folder["action"]), s.S_TARGET_NID: int(folder["target_nid"]), s.S_APPLY_US: int(folder["apply_interval_us"]),
        s.S_MIN_SZ: int(pattern["sz"]["min"]), s.S_MAX_SZ: int(pattern["sz"]["max"]),
        s.S_MIN_NR_ACCESSES: _uint(pattern["nr_accesses"]["min"]), s.S_MAX_NR_ACCESSES: _uint(pattern["nr_accesses"]["max"]),
        s.S_MIN_AGE: _uint(pattern["age"]["min"]), s.S_MAX_AGE: _uint(pattern["age"]["max"]),
        s.S_Q_MS: int(quotas["ms"]), s.S_Q_SZ: int(quotas["bytes"]), s.S_Q_RESET_MS: int(quotas["reset_interval_ms"]),
        s.S_Q_WEIGHT_SZ: _uint(quotas["weights"]["sz_permil"]), s.S_Q_WEIGHT_NR_ACCESSES: _uint(quotas["weights"]["nr_accesses_permil"]),
        s.S_Q_WEIGHT_AGE: _uint(quotas["weights"]["age_permil"]), s.S_WM_METRIC: int(marks["metric"] == "free_mem_rate"),
        s.S_WM_INTERVAL_US: int(marks["interval_us"]), s.S_WM_HIGH: int(marks["high"]), s.S_WM_MID: int(marks["mid"]),
        s.S_WM_LOW: int(marks["low"]),
    }  # fmt: skip
    return Scheme(values, read_goals(quotas), [_filter(row, cgroups) for row in numbered(folder["filters"])])


def read_goals(quotas: Folder) -> list[dict[int, int]]:
    """A scheme's goals; one without a target is none."""
    return [_goal(goal) for goal in numbered(quotas["goals"]) if int(goal["target_value"])]


def _goal(folder: Folder) -> dict[int, int]:
    metric = s.GOAL_METRICS.index(folder["target_metric"])
    current = int(folder["current_value"]) if metric == s.GOAL_USER_INPUT else 0
    return {s.G_METRIC: metric, s.G_TARGET: int(folder["target_value"]), s.G_CURRENT: current, s.G_LAST_PSI: 0}


def _filter(folder: Folder, cgroups: Mapping[str, int]) -> dict[int, int]:
    return {
        s.F_TYPE: s.FILTER_TYPES.index(folder["type"]), s.F_MATCHING: int(folder["matching"] == "Y"), s.F_START: int(folder["addr_start"]),
        s.F_END: int(folder["addr_end"]), s.F_TARGET: int(folder["damon_target_idx"]), s.F_MEMCG: cgroups.get(folder["memcg_path"][1:], 0),
    }  # fmt: skip
