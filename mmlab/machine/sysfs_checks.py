"""What is wrong with a [sysfs] table before anything runs: values that Linux would take and make nothing of, or refuse later at another file.

A script that writes such values gets the kernel's own answer; a table is a description, and what contradicts itself in it is a mistake.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

MIN_NR_REGIONS = 3
PAGE = 4096
_WEIGHT = re.compile(r"kernel/mm/mempolicy/weighted_interleave/node(\d+)")
_CONTEXT = re.compile(r"(kernel/mm/damon/admin/kdamonds/\d+/contexts/\d+/)(.*)")
_REGION = re.compile(r"(targets/\d+/regions/)(\d+)/(start|end)")
_FILTER = re.compile(r"(filters/\d+/)addr_start")
_SCHEME = re.compile(r"(schemes/\d+/)(.*)")


def sysfs_faults(table: Mapping[str, str], nr_nodes: int) -> Iterator[tuple[str, str]]:
    """(key, what must hold and what it got) of each fault. table: path below /sys -> value, in the file's order."""
    contexts: dict[str, dict[str, int]] = {}
    for key, text in table.items():
        if match := _WEIGHT.fullmatch(key):
            if int(match[1]) >= nr_nodes:
                yield key, f"node {match[1]} does not exist: the machine has {nr_nodes}"
            elif not text.strip().isdigit() or not 1 <= int(text) <= 255:
                yield key, f"a weight must be 1 to 255 (Linux would take 0 as the default), got {text!r}"
        if (match := _CONTEXT.fullmatch(key)) and text.strip().lstrip("-").isdigit():
            contexts.setdefault(match[1], {})[match[2]] = int(text)
    for base, values in contexts.items():
        for name, message in [*_attrs(values), *_targets(values), *_schemes(values)]:
            yield base + name, message


def _attrs(values: Mapping[str, int]) -> Iterator[tuple[str, str]]:
    """monitoring_attrs of a context."""
    at = "monitoring_attrs/"
    for name in ("sample_us", "aggr_us", "update_us"):
        if values.get(f"{at}intervals/{name}") == 0:
            yield f"{at}intervals/{name}", "an interval must be at least 1, got 0"
    sample, aggr = values.get(f"{at}intervals/sample_us", 5000), values.get(f"{at}intervals/aggr_us", 100_000)
    if sample > aggr:
        yield f"{at}intervals/sample_us", f"must be at most aggr_us ({aggr}), got {sample}"
    low, high = values.get(f"{at}nr_regions/min", 10), values.get(f"{at}nr_regions/max", 1000)
    if low < MIN_NR_REGIONS:
        yield f"{at}nr_regions/min", f"must be at least {MIN_NR_REGIONS}, got {low}"
    if low > high:
        yield f"{at}nr_regions/min", f"must be at most max ({high}), got {low}"


def _targets(values: Mapping[str, int]) -> Iterator[tuple[str, str]]:
    """Regions that are no ranges, or lie in one another."""
    targets: dict[str, dict[int, dict[str, int]]] = {}
    for name, value in values.items():
        if match := _REGION.fullmatch(name):
            targets.setdefault(match[1], {}).setdefault(int(match[2]), {})[match[3]] = value
    for base, regions in targets.items():
        last = 0
        for number, ends in sorted(regions.items()):
            start, end = ends.get("start", 0), ends.get("end", 0)
            if start >= end:
                yield f"{base}{number}/start", f"must be below end ({end}), got {start}"
            elif start // PAGE * PAGE < last:
                yield f"{base}{number}/start", f"must be at least the end of the region before, rounded up to a page ({last}), got {start}"
            last = max(last, -(-end // PAGE) * PAGE)


def _schemes(values: Mapping[str, int]) -> Iterator[tuple[str, str]]:
    """Schemes that can match nothing, or never run."""
    schemes: dict[str, dict[str, int]] = {}
    for name, value in values.items():
        if match := _SCHEME.fullmatch(name):
            schemes.setdefault(match[1], {})[match[2]] = value
    for base, own in schemes.items():
        for what in ("sz", "nr_accesses", "age"):
            low, high = own.get(f"access_pattern/{what}/min", 0), own.get(f"access_pattern/{what}/max", 0)
            if low > high:
                yield f"{base}access_pattern/{what}/min", f"must be at most max ({high}), got {low}: the scheme would match nothing"
        for upper, lower in (("high", "mid"), ("mid", "low")):
            most, got = own.get(f"watermarks/{upper}"), own.get(f"watermarks/{lower}")
            if most is not None and got is not None and got > most:
                yield f"{base}watermarks/{lower}", f"must be at most {upper} ({most}), got {got}"
        for name, start in own.items():
            if (match := _FILTER.fullmatch(name)) and start > own.get(f"{match[1]}addr_end", 0):
                yield base + name, f"must be at most addr_end ({own.get(f'{match[1]}addr_end', 0)}), got {start}"
