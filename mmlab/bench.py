"""`mmlab bench`: finds the benchmarks, says what is missing to run them, and hands them to pytest."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

from mmlab.errors import InputError, MmlabError

NEEDED = {"pytest": "pytest", "pytest_benchmark": "pytest-benchmark"}
#: pytest's exit codes: no test was selected; the command line is wrong
NOTHING_SELECTED, USAGE_ERROR = 5, 4


def benchmark_folder() -> Path:
    """Where the benchmarks lie: beside the package (a checkout), or where the wheel put them."""
    here = Path(__file__).parent.parent / "benchmarks"
    for folder in (here, Path(sysconfig.get_path("data")) / "share" / "mmlab" / "benchmarks"):
        if (folder / "reference.py").exists():
            return folder
    raise MmlabError("the benchmarks were not installed with this mmlab; run `mmlab bench` from a checkout installed with `pip install -e .`")


def _pytest(*arguments: str) -> list[str]:
    missing = [package for module, package in NEEDED.items() if importlib.util.find_spec(module) is None]
    if missing:
        raise MmlabError(f"benchmarks need {' and '.join(missing)}: pip install {' '.join(missing)}")
    folder = benchmark_folder()
    return [sys.executable, "-m", "pytest", str(folder), "--rootdir", str(folder.parent), "-p", "no:cacheprovider", "-m", "bench and not slow", *arguments]


def list_benchmarks(keyword: str = "") -> list[str]:
    """Names of the benchmarks that a keyword expression (as of pytest -k) selects."""
    done = subprocess.run(_pytest("--collect-only", "-q", "-k", keyword), capture_output=True, text=True)
    if done.returncode:
        raise _complaint(keyword, done.returncode, done.stdout + done.stderr)
    return [line.split("::", 1)[1].removeprefix("test_") for line in done.stdout.splitlines() if "::" in line]


def run_benchmarks(keyword: str = "", json: Path | None = None, more: Sequence[str] = ()) -> None:
    """Run the benchmarks that the keyword expression selects; the table goes to the terminal. json: file for pytest-benchmark's figures."""
    if json is not None and not json.absolute().parent.is_dir():
        raise InputError(f"--json {json}: the folder does not exist")
    command = _pytest("-q", "-rs", "--benchmark-quiet", "-k", keyword, *([f"--benchmark-json={json.absolute()}"] if json else []), *more)
    if shutil.which("gcc") is None:
        print("gcc is missing: benchmarks that compare with C are skipped (Debian: apt install gcc)", file=sys.stderr)
    code = subprocess.call(command)
    if code in (NOTHING_SELECTED, USAGE_ERROR):
        raise _complaint(keyword, code, "")
    if code:
        raise MmlabError("a benchmark failed")


def _complaint(keyword: str, code: int, output: str) -> MmlabError:
    if code == NOTHING_SELECTED:
        return InputError(f"-k {keyword!r}: no benchmark has such a name; `mmlab bench --list` shows them")
    if code == USAGE_ERROR:
        return InputError(f"-k {keyword!r}: {_last_line(output) or 'pytest does not understand this'}")
    return MmlabError(f"the benchmarks cannot be loaded:\n{output.strip()}")


def _last_line(output: str) -> str:
    lines = [line for line in output.splitlines() if line.startswith("ERROR")]
    return lines[-1].removeprefix("ERROR: ") if lines else ""
