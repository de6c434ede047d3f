"""A result folder of the real kernel's (its files that the case's figures need): every figure read from it holds."""

import shutil
from pathlib import Path

from mmlab.verify import ResultFolder, find_cases, verify

RECORDED = Path(__file__).parent / "fault-anon"


def test_a_real_result_folder_holds_its_case_whole(ground_truth):
    cases = find_cases([ground_truth], area="faults", case="fault-anon")
    report = verify(cases, lambda case, out_dir: shutil.copytree(RECORDED, out_dir, dirs_exist_ok=True))
    assert report.to_json()["summary"] == {"cases": 1, "figures": 137, "held": 137, "failed": 0, "unsupported": 0, "input": 0}
    assert report.cases[0].whole(informative=True)


def test_another_cases_script_does_not_hold(ground_truth):
    cases = find_cases([ground_truth], area="faults", case="fork-cow")
    report = verify(cases, lambda case, out_dir: shutil.copytree(RECORDED, out_dir, dirs_exist_ok=True))
    assert not report.cases[0].whole()


def test_every_form_of_the_visible_ids_is_known(ground_truth, tmp_path):
    """An id that no form matches would be unsupported for ever."""
    (tmp_path / "ops.jsonl").write_text("")
    folder = ResultFolder(tmp_path)
    for case in find_cases([ground_truth]):
        for figure in case.figures:
            try:
                folder.figure(figure.id)
            except Exception as e:  # noqa: BLE001 - nothing is there; only the reason matters
                assert "no figure has the form" not in str(e), figure.id
