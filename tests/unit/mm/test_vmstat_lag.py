"""What /proc/vmstat shows of the LRU lists lags behind what is on them, by what each CPU keeps back."""

import pytest
from mm_script import Ran

from mmlab.model import rows as r
from mmlab.procfs.registry import write

PAGE = 4096


def shown(run, label):
    return int(dict(line.split() for line in run.files[f"{label}/vmstat"].decode().splitlines())["nr_inactive_file"])


@pytest.mark.parametrize("lru_gen", ["0", "7"])
def test_a_cpu_tells_of_its_pages_when_it_has_more_than_the_threshold(lru_gen):
    reads = "".join(f"fread A f {i} 1\nmadvise A d 0 1 cold\nsnapshot s{i}\n" for i in range(12))
    run = Ran("spawn A\nmmap A d 1 anon\nmkfile f 12\nfsync A f\nwrite /proc/sys/vm/drop_caches 1\nmadvise A d 0 1 cold\nwrite /proc/sys/vm/stat_refresh 1\nsnapshot a\n" + reads +
              "write /proc/sys/vm/stat_refresh 1\nsnapshot b\n", sysfs={"kernel/mm/lru_gen/enabled": lru_gen, "block/vdb/queue/read_ahead_kb": "0"}, disk="64M")
    assert int(run.sim.machine.zone.reshape(-1, r.ZONE_STRIDE)[1, r.Z_STAT_THRESHOLD]) == 4  # 256 MiB, one CPU
    assert [shown(run, f"s{i}") - shown(run, "a") for i in range(12)] == [0, 0, 0, 0, 5, 5, 5, 5, 5, 10, 10, 10]
    assert shown(run, "b") - shown(run, "a") == 12
    assert write(run.sim, "/proc/sys/vm/stat_refresh", "1") == 0 and run.sim.check_state() == []


def test_a_second_later_everything_is_shown():
    run = Ran("spawn A\nmmap A d 1 anon\nmkfile f 3\nfsync A f\nwrite /proc/sys/vm/drop_caches 1\nsleep 2000\nsnapshot a\nfread A f 0 3\nmadvise A d 0 1 cold\nsnapshot b\n"
              "sleep 1000\nsnapshot c\n", disk="64M")
    assert [shown(run, label) - shown(run, "a") for label in "bc"] == [0, 3]
