"""Compares the simulated machine with recordings of the real kernel, figure by figure.

``find_cases`` reads recorded cases, ``verify`` runs them and judges their figures, ``ResultFolder`` reads figures from a result folder
(the real kernel's or the simulator's), the rest prints and keeps the report.
"""

from pathlib import Path

from mmlab.verify.cases import Case, Expected, find_cases, read_case
from mmlab.verify.folder import ResultFolder
from mmlab.verify.ids import Unsupported
from mmlab.verify.outcome import CaseResult, FigureResult, Report
from mmlab.verify.report import markdown, print_case, print_summary, write_json
from mmlab.verify.runner import verify

__all__ = ["Case", "CaseResult", "Expected", "FigureResult", "Report", "ResultFolder", "Unsupported", "find_cases", "markdown", "print_case",
           "print_summary", "read_case", "task_image", "verify", "write_json"]


def task_image(warm_text: bool) -> Path:
    """Folder with ``maps``, ``smaps`` and ``status`` of a script's task before its first operation: T just spawned, U its child just forked."""
    return Path(__file__).parent / "data" / ("warm" if warm_text else "plain")
