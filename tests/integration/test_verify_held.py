"""The recorded cases that hold must go on holding: `mmlab/verify/held.txt` only grows."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmlab.simulation import simulate_case
from mmlab.verify import find_cases, verify
from mmlab.verify.held import must_hold

ROOT = Path(__file__).parent.parent / "ground_truth"


@pytest.mark.nojit
@pytest.mark.parametrize("name", must_hold())
def test_case_holds_whole(name):
    area, case = name.split("/")
    report = verify(find_cases([ROOT], area=area, case=case), simulate_case)
    wrong = [f"{f.id}: expected {f.expected}, got {f.got} {f.reason}" for f in report.cases[0].figures if f.status not in ("held", "input")]
    assert wrong == []


@pytest.mark.nojit
def test_compaction_finds_the_driver_in_the_memory_of_boot():
    """What the driving process holds came from memory that was in use; taken from the free lists, compaction meets other pages."""
    report = verify(find_cases([ROOT], area="allocators", case="compact-memory"), simulate_case)
    failed = {f.id.rpartition(".")[2] for f in report.cases[0].figures if f.status == "failed"}
    # the first is what reading and keeping the files takes; how many pages move depends on where in a block of 32 the first one lies
    assert failed <= {"numa_hit", "pgmigrate_success"}
