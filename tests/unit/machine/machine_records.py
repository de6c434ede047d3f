"""Figures of real machines (kernel 6.12): data/recorded.json, one entry a case.

A zone's ``setup``: bounds of the managed count that its boot-time marks belong to. ``pcp``: batch, high_min, high_max.
"""

import json
from pathlib import Path

from mmlab.machine import layout_from_boot, machine_from_table

CASES = json.loads((Path(__file__).parent / "data/recorded.json").read_text())
NAMES = [c["case"] for c in CASES]


def case(name):
    return CASES[NAMES.index(name)]


def config(entry):
    return machine_from_table(entry["machine"])


def layout(entry, *, with_setup=True):
    """From the recorded zones; with_setup hands over the bounds that the record leaves for managed_at_setup."""
    zones = [{k: z[k] for k in ("node", "zone", "start_pfn", "spanned", "present", "managed")} for z in entry["zones"]]
    for row, z in zip(zones, entry["zones"]):
        if with_setup and "setup" in z:
            row["managed_at_setup"] = z["setup"]
    return layout_from_boot({"zones": zones}, config(entry))
