"""/sys/devices/system/memory: memory blocks and their states; and the ACPI devices of memory modules, which can be ejected.

Models: drivers/base/memory.c, drivers/acpi/acpi_memhotplug.c. Left out: valid_zones, phys_device, auto_online_blocks (see
``memhp_default_state=`` on the command line).
"""

from __future__ import annotations

import re
from typing import Any

from mmlab._engine.memory_hotplug import ABSENT, ONLINE
from mmlab.errors import NotSupported
from mmlab.model.const import EINVAL, ENOENT

ROOT = "/sys/devices/system/memory/"
_BLOCK = re.compile(ROOT + r"memory(\d+)/(state|online|phys_index|removable)")
_DIMM = re.compile(r"/sys/bus/acpi/devices/PNP0C80:([0-9a-f]{2})/eject")


def knows(path: str) -> bool:
    """Whether the path is of this kind."""
    return path == ROOT + "probe" or bool(_BLOCK.fullmatch(path) or _DIMM.fullmatch(path))


def paths(sim: Any) -> list[str]:
    """Readable files of the blocks that there are."""
    states = sim.blocks.state if hasattr(sim, "blocks") else {}
    return [f"{ROOT}memory{block}/{name}" for block, state in states.items() if state != ABSENT for name in ("state", "online", "phys_index")]


def _block(sim: Any, path: str) -> tuple[int, str] | None:
    match = _BLOCK.fullmatch(path)
    if not match or sim.blocks.state.get(int(match[1]), ABSENT) == ABSENT:
        return None
    return int(match[1]), match[2]


def read(sim: Any, path: str) -> str:
    """A file's text; FileNotFoundError for a block that is not there."""
    found = _block(sim, path)
    if found is None:
        if _BLOCK.fullmatch(path):
            raise FileNotFoundError(path)
        raise NotSupported(f"{path}: can only be written")
    block, name = found
    state = sim.blocks.state[block]
    return {"state": f"{state}\n", "online": f"{int(state == ONLINE)}\n", "phys_index": f"{block:08x}\n", "removable": "1\n"}[name]


def write(sim: Any, path: str, text: str) -> int:
    """state: online, online_kernel, offline; online: 1, 0; probe: the address of a block; eject: 1. 0 or -errno."""
    word = text.strip()
    if path == ROOT + "probe":
        try:
            return sim.blocks.probe(int(word, 0))
        except ValueError:
            return -EINVAL
    if match := _DIMM.fullmatch(path):
        if int(match[1], 16) >= len(sim.blocks.dimms):
            return -ENOENT
        return sim.blocks.eject(int(match[1], 16)) if word == "1" else -EINVAL
    found = _block(sim, path)
    if found is None:
        return -ENOENT
    block, name = found
    if name == "state" and word == "online_movable":
        raise NotSupported(f"{path} = {word}: blocks join the zone that they belonged to")
    words = {"state": {"online": True, "online_kernel": True, "offline": False}, "online": {"1": True, "0": False}}.get(name, {})
    if word not in words:
        return -EINVAL
    return sim.blocks.online(block) if words[word] else sim.blocks.offline(block)
