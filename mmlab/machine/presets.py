"""Machines by name: ``machine.preset = "qemu-1g"``. Each is a ``[machine]`` table."""

from __future__ import annotations

import copy
from typing import Any

from ..errors import did_you_mean

PRESETS: dict[str, dict[str, Any]] = {
    # The machine of most recorded cases: one small virtual machine with a swap disk.
    "qemu-1g": {"memory": "1G", "cpus": 1, "swap": "512M"},
    "desktop-16g": {"memory": "16G", "cpus": 4, "swap": "4G", "swap_ssd": True},
    "server-2node": {
        "cpus": 8,
        "nodes": [{"memory": "16G", "cpus": [0, 1, 2, 3]}, {"memory": "16G", "cpus": [4, 5, 6, 7]}],
        "distances": [[0, 1, 21]],
        "swap": "8G",
        "swap_ssd": True,
    },
}


def preset_table(name: str) -> dict[str, Any]:
    """A copy of a preset's ``[machine]`` table; KeyError with a message that names the known ones."""
    if name not in PRESETS:
        raise KeyError(f"no preset named '{name}' (known: {', '.join(PRESETS)}){did_you_mean(name, PRESETS)}")
    return copy.deepcopy(PRESETS[name])
