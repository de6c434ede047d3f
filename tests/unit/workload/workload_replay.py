"""Replays a stream on the plainest address spaces there are (a dict of page -> protection a task) and lists accesses that would fault."""

from __future__ import annotations

from mmlab.workload.operation import PAGE_SIZE, PROT_EXEC, PROT_READ, PROT_WRITE
from mmlab.workload.stream import KIND_OPERATION, EventStream, unpack

NEEDS = {0: PROT_READ, 1: PROT_WRITE, 2: PROT_EXEC}


def segfaults(stream: EventStream) -> list[tuple[int, str, int, int]]:
    """(event, task, kind, page) of every access outside its task's maps or against their protection."""
    spaces: dict[str, dict[int, int]] = {}
    bad = []
    for index, (kind, task, payload) in enumerate(zip(*(part.tolist() for part in unpack(stream.words)))):
        if kind == KIND_OPERATION:
            _apply(spaces, stream.ops[payload])
        elif not spaces[stream.tasks[task]].get(payload, 0) & NEEDS[kind]:
            bad.append((index, stream.tasks[task], kind, payload))
    return bad


def _apply(spaces, op):
    args, space = op.args, spaces.get(op.task)
    if op.name == "spawn":
        spaces[op.task] = {}
    elif op.name == "exit":
        del spaces[op.task]
    elif op.name == "fork":
        spaces[args["child"]] = dict(space)
    elif op.name == "mmap":
        space.update(dict.fromkeys(_pages(args["at"].offset, args["size"]), args["prot"]))
    elif op.name == "munmap":
        for page in [page for page in space if page in _pages(args["region"], args["length"])]:
            del space[page]
    elif op.name == "mprotect":
        for page in _pages(args["region"], args["length"]):
            if page in space:
                space[page] = args["prot"]
    elif op.name == "brk":
        start, size = args["address"], args["size"]
        if size > 0:
            space.update(dict.fromkeys(_pages(start, size), PROT_READ | PROT_WRITE))
        for page in _pages(start + size, -size):
            space.pop(page, None)
    elif op.name == "mremap":
        prot = space[args["region"] // PAGE_SIZE]
        for page in _pages(args["region"], args["old_size"]):
            space.pop(page, None)
        space.update(dict.fromkeys(_pages(args["to"], args["size"]), prot))


def _pages(start, length):
    return range(start // PAGE_SIZE, (start + length) // PAGE_SIZE)
