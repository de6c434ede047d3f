"""What a settings file takes, in words: for errors that name a key of [sysctl] or [sysfs] before anything runs, or where boot refuses a value."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mmlab.errors import did_you_mean
from mmlab.machine.tuning import TUNED
from mmlab.procfs.registry import DEMOTION_ENABLED, NUMAB_ROOT, THP_ROOT
from mmlab.procfs.settings import (
    COMMANDS, FIXED, INT_MAX, INTEGERS, KHUGEPAGED, NUMA_BALANCING, NUMA_BALANCING_MAX, NUMAB_FILES, SIZE_ENABLED, THP_CHOICES, THP_SIZES, to_bool,
    to_integer,
)  # fmt: skip

#: file below /sys -> words that it takes
CHOICES = {
    THP_ROOT + "use_zero_page": ("0", "1"), **{THP_ROOT + name: words for name, words in THP_CHOICES.items()},
    **{f"{THP_ROOT}{size}/enabled": SIZE_ENABLED for size in THP_SIZES},
}  # fmt: skip
#: sysctl or file below /sys -> least and greatest whole number that it takes
RANGES = {
    **{name: (low, high) for name, (_, low, high, _) in INTEGERS.items()}, NUMA_BALANCING: (0, NUMA_BALANCING_MAX),
    **{name: (low, high) for name, (at_boot, low, high) in TUNED.items() if len(at_boot) == 1},
    **{NUMAB_ROOT + name: (0, INT_MAX) for name in NUMAB_FILES},
    **{f"{THP_ROOT}khugepaged/{name}": (int(name == "pages_to_scan"), high) for name, (_, high) in KHUGEPAGED.items()},
}  # fmt: skip
#: every sysctl that there is
SYSCTLS = {*INTEGERS, *TUNED, *FIXED, *COMMANDS, NUMA_BALANCING}


def refused(table: str, key: str, text: str) -> str:
    """What a key of `table` ("sysctl" or "sysfs") must be and what it got, as far as ranges and words tell; empty where nothing is wrong."""
    name = key if table == "sysctl" else "/sys/" + key
    if table == "sysctl" and name not in SYSCTLS:
        return "mmlab has no such sysctl" + (did_you_mean(name, SYSCTLS) or f" (it has {', '.join(sorted(SYSCTLS))})")
    if name in CHOICES and text.strip() not in CHOICES[name]:
        return f"must be one of {', '.join(CHOICES[name])}, got {text!r}"
    if name == DEMOTION_ENABLED and to_bool(text) is None:
        return f"must be a truth value (1, 0, true, false, on, off), got {text!r}"
    if name in RANGES:
        (low, high), number = RANGES[name], to_integer(text)
        if number is None or not low <= number <= high:
            return f"must be a whole number between {low} and {high}, got {text!r}"
    return ""


def settings_faults(tables: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """A sentence per value that its file would refuse; tables: [sysctl] and [sysfs] as they are written."""
    for table, values in tables.items():
        for key, value in values.items():
            fault = refused(table, key, str(int(value) if isinstance(value, bool) else value)) if isinstance(value, (str, int)) else ""
            if fault:
                yield f'{table}."{key}": {fault}'
