"""Operations of a script that change a task's address space: mmap and its options, mremap, brk, madvise, mlock and their kin."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mmlab._engine.results_tmpfs import keep_result
from mmlab._engine.script_state import Region, ScriptError, ScriptState, TaskName
from mmlab.model import rows as r
from mmlab.model.const import EINVAL, ENOMEM
from mmlab.procfs import cpusets, mincore, pagemap
from mmlab.procfs.tasks import vma_name
from mmlab.procfs.walk import vmas
from mmlab.workload.operation import PAGE_SIZE, PROT_EXEC, PROT_READ, PROT_WRITE, Operation

Answer = dict[str, Any]
_RLIMITS = {"stack": r.MM_RLIMIT_STACK, "as": r.MM_RLIMIT_AS, "data": r.MM_RLIMIT_DATA, "memlock": r.MM_RLIMIT_MEMLOCK}


def prot_text(prot: int) -> str:
    """``rw`` of PROT_ bits; ``n`` for none."""
    return "".join(c for bit, c in ((PROT_READ, "r"), (PROT_WRITE, "w"), (PROT_EXEC, "x")) if prot & bit) or "n"


def _checked(result: int) -> int:
    if result < 0:
        raise ScriptError(-result)
    return result


def _open(run: ScriptState, name: TaskName, file: str, keep: bool) -> Any:
    """An open file for a map: a new one, or with `keep` the one that earlier such maps of the file use."""
    kept = run.tasks[name].kept_files
    if keep and file in kept:
        return kept[file]
    opened = run.sim.open(run.existing(file))
    if keep:
        kept[file] = opened
    return opened


def _mmap(run: ScriptState, op: Operation) -> Answer:
    a, sim, name = op.args, run.sim, op.task
    flags = {flag for flag in ("shared", "populate", "noreserve", "growsdown", "locked") if a[flag]}
    file = None if a["file"] is None else _open(run, name, a["file"], a["keep"])
    address = 0
    if a["at"] is not None:
        place = a["at"]
        address = place.offset + (0 if place.region is None else run.region(name, place.region).addr)
        if not a["hint"]:
            flags.add("fixed" if a["over"] else "fixed_noreplace")
    if a["align"] is not None:  # reserve, trim, map fixed
        reserve = _checked(sim.mmap(name, a["size"] + a["align"], prot="n", flags={"noreserve"}))
        _checked(sim.munmap(name, reserve, a["size"] + a["align"]))
        address = -(-reserve // a["align"]) * a["align"]
        flags.add("fixed_noreplace")
    result = sim.mmap(name, a["size"], prot=prot_text(a["prot"]), flags=flags, addr=address, file=file, offset=a["off"])
    if file is not None and not a["keep"]:
        sim.close(file)
    address = _checked(result)
    run.tasks[name].regions[a["region"]] = Region(address, a["size"])
    if a["huge"] is not None:
        sim.madvise(name, address, a["size"], "hugepage" if a["huge"] else "nohugepage")
    return {"ret": 0, "addr": address}


def _nmap(run: ScriptState, op: Operation) -> Answer:
    for made in range(op.args["count"]):
        prot = "n" if op.args["alt"] and made & 1 else prot_text(op.args["prot"])
        result = run.sim.mmap(op.task, op.args["size"], prot=prot, flags={"noreserve"})
        if result < 0:
            return {"ret": made, "errno": -result}
    return {"ret": op.args["count"]}


def _munmap(run: ScriptState, op: Operation) -> Answer:
    region = run.region(op.task, op.args["region"])
    length = region.length if op.args["length"] is None else op.args["length"]
    return {"ret": run.sim.munmap(op.task, region.addr + (op.args["offset"] or 0), length)}


def _mprotect(run: ScriptState, op: Operation) -> Answer:
    at = run.region(op.task, op.args["region"]).addr + op.args["offset"]
    return {"ret": run.sim.mprotect(op.task, at, op.args["length"], prot_text(op.args["prot"]))}


def _mremap(run: ScriptState, op: Operation) -> Answer:
    a = op.args
    region = run.region(op.task, a["region"])
    target = run.tasks[op.task].regions.get(a["to"])
    flags = {flag for flag, on in (("maymove", not a["nomove"]), ("dontunmap", a["dontunmap"]), ("fixed", target)) if on}
    address = _checked(run.sim.mremap(op.task, region.addr, region.length, a["size"], flags, target.addr if target else 0))
    moved = int(address != region.addr)
    region.addr, region.length = address, a["size"]
    return {"ret": 0, "addr": address, "moved": moved}


def _brk(run: ScriptState, op: Operation) -> Answer:
    mm = run.mm(op.task)
    old = int(run.sim.machine.mm[mm + r.MM_BRK])
    wanted = old + op.args["size"]
    run.sim.brk(op.task, wanted)
    if int(run.sim.machine.mm[mm + r.MM_BRK]) != wanted:
        raise ScriptError(ENOMEM)
    region = run.tasks[op.task].regions.setdefault("brk", Region(old, 0))
    region.length += op.args["size"]
    return {"ret": 0, "addr": region.addr}


def _region(run: ScriptState, op: Operation) -> Answer:
    wanted, task = f"[{op.args['area']}]", run.tasks[op.task]
    found = [vma for vma in vmas(run.sim.machine, task.task.mm) if vma_name(run.sim.machine, task.task.mm, vma) == wanted]
    if not found:
        return {"ret": -2}
    start, end = found[-1].start, found[-1].end
    task.regions[op.args["region"]] = Region(start, end - start)
    return {"ret": 0, "addr": start, "pages": (end - start) // PAGE_SIZE}


def _madvise(run: ScriptState, op: Operation) -> Answer:
    at = run.region(op.task, op.args["region"]).addr + op.args["offset"]
    return {"ret": run.sim.madvise(op.task, at, op.args["length"], op.args["advice"])}


def _mbind(run: ScriptState, op: Operation) -> Answer:
    at = run.region(op.task, op.args["region"]).addr + op.args["offset"]
    return {"ret": run.sim.mbind(op.task, at, op.args["length"], op.args["policy"], op.args["nodes"] or (), move=op.args["move"])}


def _set_mempolicy(run: ScriptState, op: Operation) -> Answer:
    return {"ret": run.sim.set_mempolicy(op.task, op.args["policy"], op.args["nodes"] or ())}


def _mlock(run: ScriptState, op: Operation) -> Answer:
    at = run.region(op.task, op.args["region"]).addr + op.args["offset"]
    if op.name == "munlock":
        return {"ret": run.sim.munlock(op.task, at, op.args["length"])}
    return {"ret": run.sim.mlock(op.task, at, op.args["length"], onfault=op.args["onfault"])}


def _mlockall(run: ScriptState, op: Operation) -> Answer:
    if op.name == "munlockall":
        return {"ret": run.sim.munlockall(op.task)}
    return {"ret": run.sim.mlockall(op.task, current=op.args["current"], future=op.args["future"], onfault=op.args["onfault"])}


def _mincore(run: ScriptState, op: Operation) -> Answer:
    region = run.region(op.task, op.args["region"])
    return {"ret": mincore(run.sim, run.tasks[op.task].task.mm, region.addr, region.length // PAGE_SIZE)}


def _pagemap(run: ScriptState, op: Operation) -> Answer:
    region = run.region(op.task, op.args["region"])
    words = pagemap(run.sim, run.tasks[op.task].task.mm, region.addr, region.length // PAGE_SIZE)
    keep_result(run.sim, run.out / f"{op.args['label']}.pagemap", words.astype("<u8").tobytes())
    return {"ret": 0}


def _rlimit(run: ScriptState, op: Operation) -> Answer:
    run.sim.machine.mm[run.mm(op.task) + _RLIMITS[op.args["limit"]]] = op.args["size"]
    return {"ret": 0}


def _cpu(run: ScriptState, op: Operation) -> Answer:
    nodes = [node for node, cpus in enumerate(run.sim.layout.node_cpus) if op.args["cpu"] in cpus]
    row = run.row(op.task)
    if not nodes or op.args["cpu"] not in cpusets.effective(run.sim, int(run.sim.machine.task[row + r.T_MEMCG]), "cpus"):
        raise ScriptError(EINVAL)
    run.sim.machine.task[row + r.T_CPU], run.sim.machine.task[row + r.T_NODE] = op.args["cpu"], nodes[0]
    return {"ret": 0}


OPERATIONS: dict[str, Callable[[ScriptState, Operation], Answer]] = {
    "mmap": _mmap, "nmap": _nmap, "munmap": _munmap, "mprotect": _mprotect, "mremap": _mremap, "brk": _brk, "region": _region,
    "madvise": _madvise, "mbind": _mbind, "set_mempolicy": _set_mempolicy, "mlock": _mlock, "munlock": _mlock, "mlockall": _mlockall, "munlockall": _mlockall, "mincore": _mincore,
    "pagemap": _pagemap, "rlimit": _rlimit, "cpu": _cpu,
}  # fmt: skip
