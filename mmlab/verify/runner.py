"""Runs recorded cases in the simulator and compares what they left, figure by figure."""

from __future__ import annotations

import multiprocessing
import tempfile
import traceback
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from mmlab.errors import InputError, MmlabError
from mmlab.verify.cases import Case, Expected
from mmlab.verify.compare import FAILED, UNSUPPORTED, status
from mmlab.verify.folder import ResultFolder
from mmlab.verify.ids import Unsupported
from mmlab.verify.outcome import CaseResult, FigureResult, Report

#: Runs a case's script and leaves a result folder in a folder that exists and is empty; raises :class:`Unsupported` for what comes later.
Simulate = Callable[[Case, Path], None]


def verify(cases: Iterable[Case], simulate: Simulate, jobs: int = 1, keep: Path | None = None,
           progress: Callable[[CaseResult], None] | None = None) -> Report:
    """Simulates each case and judges its figures. No case's failure stops the others.

    ``jobs``: processes at a time; with more than 1 ``simulate`` must be importable by name. ``keep``: result folders stay at
    ``keep/AREA/NAME``. ``progress`` is called with each case's result, in order. Raises :class:`InputError` if ``keep`` isn't writable.
    """
    ordered = sorted(cases, key=lambda c: (c.area, c.name))
    results = []
    with tempfile.TemporaryDirectory(prefix="mmlab-verify-") as scratch:
        work = [(case, simulate, (keep or Path(scratch)) / case.area / case.name) for case in ordered]
        _make_folders([out_dir for _, _, out_dir in work])
        for result in _in_turn(work) if jobs == 1 else _in_processes(work, jobs):
            results.append(result)
            if progress:
                progress(result)
    return Report(tuple(results))


def _make_folders(folders: list[Path]) -> None:
    for folder in folders:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            occupied = any(folder.iterdir())
        except OSError as e:
            raise InputError(f"{folder}: must be writable ({e.strerror})") from None
        if occupied:
            raise InputError(f"{folder}: must be empty: results of an earlier run would be taken for this one's")


def _in_turn(work):
    for item in work:
        yield run_case(*item)


def _in_processes(work, jobs: int):
    """A crash breaks the whole pool, so what was lost with it is run again, each case in a process of its own."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context) as pool:
        futures = [pool.submit(run_case, *item) for item in work]
        for item, future in zip(work, futures):
            try:
                yield future.result()
            except BrokenProcessPool:
                yield _alone(item, context)


def _alone(item, context) -> CaseResult:
    case = item[0]
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        try:
            return pool.submit(run_case, *item).result()
        except BrokenProcessPool:
            return _all_figures(case, FAILED, "the simulator's process died")


def run_case(case: Case, simulate: Simulate, out_dir: Path) -> CaseResult:
    """Simulates one case into ``out_dir`` and judges its figures; an unexpected error leaves its traceback in ``out_dir/error.txt``."""
    try:
        simulate(case, out_dir)
        folder = ResultFolder(out_dir)
    except Unsupported as e:
        return _all_figures(case, UNSUPPORTED, str(e))
    except MmlabError as e:
        return _all_figures(case, FAILED, str(e))
    except Exception as e:  # noqa: BLE001 - a bug in the simulator fails this case only
        (out_dir / "error.txt").write_text(traceback.format_exc())
        return _all_figures(case, FAILED, f"{type(e).__name__}: {e}")
    return CaseResult(case.area, case.name, tuple(_judge(case, folder, figure) for figure in case.figures))


def _judge(case: Case, folder: ResultFolder, figure: Expected) -> FigureResult:
    try:
        got = folder.figure(figure.id)
    except Unsupported as e:
        return _result(figure, None, UNSUPPORTED, str(e))
    except MmlabError as e:
        return _result(figure, None, FAILED, str(e))
    return _result(figure, got, status(case, figure, got))


def _result(figure: Expected, got, verdict: str, reason: str = "") -> FigureResult:
    return FigureResult(figure.id, figure.value, got, figure.tolerance, verdict, figure.abs, reason)


def _all_figures(case: Case, verdict: str, reason: str) -> CaseResult:
    figures = tuple(_result(figure, None, verdict, reason) for figure in case.figures)
    return CaseResult(case.area, case.name, figures, error=reason)
