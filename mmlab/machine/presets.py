"""Machines by name: ``machine.preset = "qemu-1g"``. Each is a ``[machine]`` table."""

from __future__ import annotations

import copy
from typing import Any

from ..errors import did_you_mean

PRESETS: dict[str, dict[str, Any]] = {
    # The machine of most recorded cases: one small virtual machine with a swap disk.
    "qemu-1g": {"memory": "1G", "cpus": 1, "swap": "512M"},
    # An i386 machine with PAE: DMA, Normal up to 896 MiB, HighMem. Its kernel takes nothing, its tasks' address spaces are 64-bit ones.
    "i386-2g": {"memory": "2G", "cpus": 1, "bits": 32, "bare": True, "swap": "512M"},
    "desktop-16g": {"memory": "16G", "cpus": 4, "swap": "4G", "swap_ssd": True},
    "server-2node": {
        "cpus": 8,
        "nodes": [{"memory": "16G", "cpus": [0, 1, 2, 3]}, {"memory": "16G", "cpus": [4, 5, 6, 7]}],
        "distances": [[0, 1, 21]],
        "swap": "8G",
        "swap_ssd": True,
    },
    # AWS c5n.18xlarge: two Xeon Platinum 8124M, 192 GiB. CPUs and distances from the `numactl --hardware` of github.com/awslabs/aws-c-s3/pull/403.
    "xeon-2socket-192g": {
        "cpus": 72,
        "nodes": [{"memory": "96G", "cpus": [*range(18), *range(36, 54)]}, {"memory": "96G", "cpus": [*range(18, 36), *range(54, 72)]}],
        "distances": [[0, 1, 21]],
    },
    # Two EPYC 9375F without SMT, 1.5 TiB. From the `numactl --hardware` of github.com/egandro/proxmox-cpu-affinity/issues/58.
    "epyc-2socket-1536g": {
        "cpus": 64,
        "nodes": [{"memory": "768G", "cpus": [*range(32)]}, {"memory": "768G", "cpus": [*range(32, 64)]}],
        "distances": [[0, 1, 32]],
    },
    # Two 52-core Xeons with a CXL memory expander each. CPUs, sizes and distances from the `numactl -H` of
    # stevescargall.com/blog/2022/12/how-to-map-a-cxl-endpoint-to-a-cpu-socket-in-linux. Estimated: latencies and bandwidths, which that page
    # does not give; they make the expanders a slower tier (memory_tier68) than DRAM (memory_tier4).
    "xeon-2socket-cxl": {
        "cpus": 208,
        "nodes": [
            {"memory": "64G", "cpus": [*range(52), *range(104, 156)]},
            {"memory": "64G", "cpus": [*range(52, 104), *range(156, 208)]},
            {"memory": "64G", "initiator": 0},
            {"memory": "128G", "initiator": 1},
        ],
        "distances": [[0, 1, 21], [0, 2, 14], [0, 3, 24], [1, 2, 24], [1, 3, 14], [2, 3, 26]],
        "hmat": [[0, 0, 110, 200], [1, 1, 110, 200], [0, 2, 250, 30], [1, 3, 250, 30]],
    },
}


def preset_table(name: str) -> dict[str, Any]:
    """A copy of a preset's ``[machine]`` table; KeyError with a message that names the known ones."""
    if name not in PRESETS:
        raise KeyError(f"no preset named '{name}' (known: {', '.join(PRESETS)}){did_you_mean(name, PRESETS)}")
    return copy.deepcopy(PRESETS[name])
