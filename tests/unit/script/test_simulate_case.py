"""What a recorded case gives the simulator."""

import gzip
import json
import shutil
from pathlib import Path

import pytest

from mmlab._engine.script_probe import log_text
from mmlab._engine.simulate_case import case_policies, given_figures, simulate_case, simulation_of, start_record
from mmlab.machine.record import boot_problems
from mmlab.model import rows as r
from mmlab.model.const import LRU_ACTIVE_ANON, LRU_UNEVICTABLE
from mmlab.procfs import read
from mmlab.verify import read_case
from mmlab.verify.probe_log import ProbeLog

CASES = Path(__file__).resolve().parents[2] / "ground_truth"


def test_the_starting_record_is_complete_and_guesses_from_the_lists():
    record = start_record(read_case(CASES / "faults" / "fault-anon"))
    assert not list(boot_problems(record))
    # 1341 + 462 pages on the anonymous and unevictable lists, 1521 of them shared memory; the recording says 280 and 1521
    assert (record["lru"]["anon_pages"], record["lru"]["file_pages"]) == (282, 1521)
    assert "min" not in record["zones"][0] and "batch" not in record["zones"][0]["pcp"][0]


def test_given_figures_are_the_recorded_ones():
    case = read_case(CASES / "allocators" / "extfrag-index")
    expected = {figure.id: figure.value for figure in case.figures if figure.given}
    assert given_figures(case) == expected and len(expected) == 12


@pytest.mark.parametrize(("name", "monitor"), [("damon-hot-tenth", {"use": "damon", "params": {"autostart": False}}), ("numa-cpuset", None)])
def test_policies_that_scripts_stand_for(name, monitor):
    assert case_policies(read_case(CASES / "monitor" / name)).get("monitor") == monitor


@pytest.mark.parametrize(("name", "model"), [("damon-hot-tenth", "icount_guest"), ("numa-cpuset", "tcg_guest")])
def test_cost_models_that_machines_stand_for(name, model):
    assert case_policies(read_case(CASES / "monitor" / name))["cost_model"] == {"use": model}


def test_the_driver_is_locked_and_the_rest_of_the_initramfs_can_be_swapped_out():
    case = read_case(CASES / "reclaim" / "anon-swap-classic")
    lists = case.start_state()["lru"]
    sim = simulation_of(case)
    stat = {name: int(value) for name, value in (line.split() for line in read(sim, "/proc/vmstat").splitlines())}
    assert lists["unevictable"] == 465 and stat["nr_unevictable"] == 470  # the image, of another boot, has 5 more
    boot = sim.machine.zone.reshape(-1, r.ZONE_STRIDE)[:, r.Z_BOOT_LRU : r.Z_BOOT_LRU + 5].sum(axis=0)
    assert boot[LRU_UNEVICTABLE] == 0
    assert boot[LRU_ACTIVE_ANON] == lists["active_anon"] - (lists["shmem"] - 202)  # 202 pages are the driver's program


def test_the_shell_maps_what_is_mapped_at_boot_and_not_the_drivers():
    case = read_case(CASES / "reclaim" / "anon-swap-mglru")
    assert case.start_state()["lru"]["mapped"] == 601
    sim = simulation_of(case)
    assert "nr_mapped 601\n" in read(sim, "/proc/vmstat")
    spaces = sim.machine.mm.reshape(-1, r.MM_STRIDE)
    tasks = sim.machine.task.reshape(-1, r.TASK_STRIDE)
    shell = next(row for row in tasks if row[r.T_PID] == 1)
    # the driver maps 201 of its program's 202 pages (the data of the last are its own copy) and the vDSO's one
    assert spaces[shell[r.T_MM], r.MM_RSS_SHMEM] == 601 - int(spaces[sim._driver, r.MM_RSS_SHMEM]) - int(spaces[sim._driver, r.MM_RSS_FILE])
    assert (shell[r.T_OOM_SCORE_ADJ], shell[r.T_ALIVE]) == (-1000, 1) and sim.check_state() == []


def test_log_text_reads_back():
    zone = {
        "node": 0,
        "zone": "DMA32",
        "start": 4096,
        "spanned": 1024,
        "present": 1024,
        "managed": 1000,
        "free": 900,
        "min": 1,
        "low": 2,
        "high": 3,
        "promo": 4,
        "boost": 0,
        "highatomic": 0,
        "batch": 31,
        "high_min": 5,
        "high_max": 6,
        "threshold": 12,
        "flags": 20,
        "free_highatomic": 0,
        "protection": [0, 1, 2, 3, 4],
        "numa": [1, 2, 3, 4, 5, 6],
        "pcp": [
            {
                "cpu": 0,
                "count": 2,
                "high": 5,
                "high_min": 5,
                "high_max": 6,
                "batch": 31,
                "flags": 0,
                "alloc_factor": 1,
                "free_count": 0,
                "expire": 0,
                "free_diff": -3,
                "lists": {"1": [4100, 4101]},
            }
        ],
        "free_lists": {"0": {"1": [4098, 4096]}, "10": {"1": [5120]}},
        "first_pageblock": 8,
        "pageblocks": [1, None],
    }
    read = ProbeLog.from_text(log_text(ProbeLog(pfns=[[7, -1], [8]], states={"a": [zone]})))
    assert read.pfns == [[7, -1], [8]]
    assert {key: value for key, value in read.states["a"][0].items() if key != "movable_pages"} == zone


def test_an_allocator_program_runs_from_its_recorded_states_even_if_the_script_ends_early(tmp_path):
    folder, out = tmp_path / "allocators" / "cut", tmp_path / "out"
    shutil.copytree(CASES / "allocators" / "buddy-merge", folder)
    text = (folder / "case.toml").read_text()
    (folder / "case.toml").write_text(text.replace("sleep 300", "sh frobnicate"))
    out.mkdir()
    simulate_case(read_case(folder), out)
    assert "frobnicate" in (out / "unsupported.txt").read_text()
    recorded = json.loads(gzip.decompress((folder / "p.run0.json.gz").read_bytes()))
    assert ProbeLog.from_text((out / "p@0.probe").read_text()).pfns == recorded["pfns"]
