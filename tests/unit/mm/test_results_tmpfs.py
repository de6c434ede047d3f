"""What a script keeps takes memory on the machine: files in a tmpfs, written by the executor on a CPU that no task keeps busy."""

from __future__ import annotations

import re

from mm_script import Ran

from mmlab._engine.results_tmpfs import SLABINFO_BYTES

TWO_NODES = [{"memory": "128M", "cpus": [0]}, {"memory": "128M", "cpus": [1]}]


def pages(ran: Ran, label: str) -> int:
    """Pages of all files of a snapshot; a real slabinfo has lines for caches that are not simulated."""
    sizes = {name: len(data) for name, data in ran.files.items() if name.startswith(f"{label}/")}
    sizes[f"{label}/slabinfo"] = SLABINFO_BYTES
    return sum(-(-size // 4096) for size in sizes.values())


def numastat(ran: Ran, label: str, node: int) -> dict[str, int]:
    return {name: int(value) for name, value in re.findall(r"(\w+) (\d+)", ran.files[f"{label}/node{node}.numastat"].decode())}


def test_a_snapshot_stays_in_shared_memory():
    ran = Ran("spawn A\nsnapshot a\nsnapshot b\ncat /proc/vmstat c\nsnapshot d", results_in_memory=True)
    assert pages(ran, "a") > 20
    assert ran.vmstat("b", "nr_shmem") - ran.vmstat("a", "nr_shmem") == pages(ran, "a")
    kept = pages(ran, "b") + -(-len(ran.files["c"]) // 4096)
    assert ran.vmstat("d", "nr_shmem") - ran.vmstat("b", "nr_shmem") == kept
    assert ran.vmstat("d", "nr_file_pages") - ran.vmstat("b", "nr_file_pages") == kept


def test_the_executor_works_beside_the_task():
    """Each task's operation sends it to the other CPU; between snapshots it stays where it is."""
    script = (
        "spawn A cpu=0\nspawn B cpu=1\nmmap A r 64 anon at=0x10040000000\ntouch A r 0 8 w\nsnapshot a\ntouch A r 8 50 w\nsnapshot b\n"
        "mmap B q 64 anon at=0x10040000000\ntouch B q 0 8 w\nsnapshot c\ntouch B q 8 50 w\nsnapshot d"
    )
    ran = Ran(script, results_in_memory=True, cpus=2, nodes=TWO_NODES)
    counts = {label: [numastat(ran, label, node) for node in (0, 1)] for label in "abcd"}
    delta = {(old, new): [counts[new][node]["numa_hit"] - counts[old][node]["numa_hit"] for node in (0, 1)] for old, new in ("ab", "cd")}
    assert delta["a", "b"][0] == 50 and delta["a", "b"][1] >= pages(ran, "a")
    assert delta["c", "d"][1] == 50 and delta["c", "d"][0] >= pages(ran, "c")


def test_out_of_a_script_nothing_is_kept():
    ran = Ran("spawn A\nsnapshot a\nsnapshot b")
    assert ran.vmstat("b", "nr_shmem") == ran.vmstat("a", "nr_shmem")
