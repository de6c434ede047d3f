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
