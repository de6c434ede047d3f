"""DAMON's figures from a trace made by hand: aggr 100 ms / sample 10 ms, so that M is 10."""

import pytest

from mmlab.verify import Unsupported

MIB = 1 << 20
BASE = 64 * MIB


def region(at: float, target: int, start_mib: float, end_mib: float, nr_accesses: int, age: int) -> str:
    start, end = BASE + int(start_mib * MIB), BASE + int(end_mib * MIB)
    return f" kdamond.0-90 [000] ..... {at:.6f}: damon_aggregated: target_id={target} nr_regions=2 {start}-{end}: {nr_accesses} {age}\n"


def applied(at: float, scheme: int, start_mib: int, end_mib: int, nr_accesses: int, age: int) -> str:
    return (f" kdamond.0-90 [000] ..... {at:.6f}: damos_before_apply: ctx_idx=0 scheme_idx={scheme} target_idx=0 nr_regions=9 "
            f"{BASE + start_mib * MIB}-{BASE + end_mib * MIB}: {nr_accesses} {age}\n")


# operation N begins at second N: the window 5 to 7 holds the second and third aggregation
TRACE = "# comment\n" + "".join([
    region(4.9, 0, 0, 1, 9, 9),
    region(5.0, 0, 0, 4, 10, 1), region(5.0, 0, 4, 16, 0, 3), region(5.0, 1, 0, 2, 5, 1),
    applied(5.5, 0, 4, 8, 0, 3), applied(5.5, 0, 12, 14, 1, 7), applied(5.6, 1, 0, 1, 9, 0),
    region(6.0, 0, 0, 2, 10, 2), region(6.0, 0, 2, 8, 5, 0), region(6.0, 0, 12, 16, 0, 7), region(6.0, 1, 0, 2, 0, 4),
    region(7.0, 0, 0, 16, 1, 1),
])


@pytest.fixture
def folder(result_folder):
    ops = ["spawn A", ("mmap A r 16M anon", {"addr": BASE}), "sysfs mm/damon/admin/kdamonds/0/contexts/0/targets/0/pid_target @A",
           "sysfs x/intervals/sample_us 10000", "sleep 1", "spawn B", "sleep 1"]
    return result_folder(ops, trace=TRACE)


@pytest.mark.parametrize(("what", "value"), [
    ("aggregations", 2),
    ("regions.mean", 3.5), ("regions.min", 3), ("regions.max", 4), ("regions.first", 3),
    ("bytes", (18 + 14) / 2 * MIB),
    ("hot@50", ((4 + 2) + (2 + 6)) / 2 * MIB), ("hot@60", (4 + 2) / 2 * MIB),
    ("cold_age", 7),
    ("ranges", [8 * MIB, 4 * MIB, 2 * MIB]), ("ranges.count", 3),
    ("A.r[0,4M].freq", round((1.0 + (2 * 1.0 + 2 * 0.5) / 4) / 2, 4)),
    ("A.r[0,8M].recall@50", round((4 / 8 + 8 / 8) / 2, 4)), ("A.r[0,8M].recall@60", round((4 / 8 + 2 / 8) / 2, 4)),
    ("A.r[2M,2M].precision@50", round((2 / 4 + 2 / 8) / 2, 4)),
    ("A.r[3M,6M].regions", round((2 + 1) / 2, 4)),
    ("A.r[0,4M].age", 1.0),  # 2 MiB of age 2, 2 of age 0
])
def test_damon(folder, what, value):
    assert folder.figure(f"damon[5,7].{what}") == value


@pytest.mark.parametrize(("what", "value"), [
    ("0.count", 2), ("0.bytes", 6 * MIB), ("0.bytes_per_aggregation", 3.0 * MIB), ("0.min_age", 3), ("0.min_nr_accesses", 0), ("0.max_nr_accesses", 1),
    ("0.max_bytes", 4 * MIB), ("0.A.r.min_off", 4 * MIB), ("0.A.r.max_off", 14 * MIB), ("1.count", 1), ("2.count", 0), ("2.bytes", 0),
])
def test_damos(folder, what, value):
    assert folder.figure(f"damos[5,7].{what}") == value


@pytest.mark.parametrize("fid", ["damon[1,2].bytes", "damon[5,7].nosuch", "damon[5,7].A.x[0,4M].freq", "damon[5,7].A.r[0,4M].recall",
                                 "damos[5,7].2.min_age", "damos[5,7].0.nosuch", "damon[5,9].bytes"])
def test_unsupported(folder, fid):
    with pytest.raises(Unsupported):
        folder.figure(fid)


def test_a_task_that_is_no_target_sees_all_targets(folder):
    folder.regions_at(7)["B"]["q"] = (BASE, 2 * MIB)
    assert folder.figure("damon[5,7].B.q[0,2M].regions") == 2.0
