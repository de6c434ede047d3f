"""DAMON's records in damo's format: what they hold, and that the real damo reads them."""

import gzip
import json
import shutil
import subprocess
import zlib

import damon_script as ds
import pytest

from mmlab.kernels.jit import JIT_OFF

pytestmark = [pytest.mark.nojit, pytest.mark.skipif(not JIT_OFF, reason="a script on a whole machine: python build")]
MIB = 1 << 20
SCRIPT = (
    "spawn A\nmmap A hot 1M anon at=0x10000000\nmmap A cold 3M anon at=0x20000000\n"
    + ds.setup("fvaddr")
    + ds.pid(0, "A")
    + ds.regions(0, ("@A.hot", "@A.hot+1M"), ("@A.cold", "@A.cold+3M"))
    + f"sysfs {ds.CTX}monitoring_attrs/nr_regions/min 3\nsysfs {ds.ADMIN}0/state on\n"
    + "loop A hot 0 1M 350 w\n"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("damon")
    ds.run(path, SCRIPT)
    return path / "out"


def test_records_are_what_the_trace_says(folder):
    (record,) = json.loads(zlib.decompress((folder / "damon.data").read_bytes()))
    assert record["target_id"] == 0 and record["intervals"] == {"sample_us": 5000, "aggr_us": 100000, "ops_update_us": 60000000}
    lines = [line for line in gzip.open(folder / "trace.txt.gz", "rt") if "damon_aggregated" in line]
    assert sum(len(snapshot["regions"]) for snapshot in record["snapshots"]) == len(lines)
    traced = [line.split("nr_regions=")[1].split(" ", 1)[1].strip() for line in lines]
    regions = [r for snapshot in record["snapshots"] for r in snapshot["regions"]]
    assert [f"{r['start']}-{r['end']}: {r['nr_accesses']['samples']} {r['age']['aggr_intervals']}" for r in regions] == traced
    snapshots = record["snapshots"]
    assert len(snapshots) >= 2 and all(snapshot["total_bytes"] == 4 * MIB for snapshot in snapshots)
    assert [a["end_time"] for a in snapshots[:-1]] == [b["start_time"] for b in snapshots[1:]]


@pytest.mark.skipif(shutil.which("damo") is None or shutil.which("file") is None, reason="damo (PyPI) and file(1) are missing")
def test_damo_reads_the_record(folder):
    def damo(*words: str) -> str:
        done = subprocess.run(["damo", "report", *words, "--input", str(folder / "damon.data")], capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    access = damo("access", "--raw_form")
    assert "target_id: 0" in access and access.count("000010000000-000010100000 (1024.000 KiB)") >= 2  # hot, one region in every snapshot
    assert "200 hz" in damo("access") and "total size: 4.000 MiB" in damo("access")
    sets = [line.split("|")[0].split() for line in damo("wss", "--exclude_samples", "0").splitlines() if not line.startswith("#")]
    assert [words[:2] for words in sets if words] == [[f"{percentile}", "1024.000"] for percentile in (0, 25, 50, 75, 100)]  # KiB: hot, all the time
    raw = damo("heatmap", "--output", "raw", "--draw_range", "all", "--resol", "3", "4")
    rows = [[float(word) for word in line.split()] for line in raw.splitlines() if line.strip()]
    assert len(rows) == 2 * 12  # hot and cold, each three moments by four places
    assert min(heat for _, _, heat in rows[:12]) > 0 == max(heat for _, _, heat in rows[12:])
