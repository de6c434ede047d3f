"""The report's page in a real browser: its scripts run, and what a reader looks for is drawn."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.nojit

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
EXPERIMENTS = Path(__file__).parents[2] / "experiments"


def page(address: str) -> tuple[str, str]:
    """(the document after its scripts ran, what they logged)."""
    command = [str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--enable-logging=stderr"]
    done = subprocess.run([*command, "--virtual-time-budget=20000", "--dump-dom", address], capture_output=True, text=True, timeout=180)
    return done.stdout, "\n".join(line for line in done.stderr.splitlines() if "CONSOLE" in line)


@pytest.fixture
def browser():
    """Skips where none starts."""
    try:
        started = BROWSER is not None and "<html" in page("about:blank")[0]
    except subprocess.TimeoutExpired:
        started = False
    if not started:
        pytest.skip("no chromium that starts")


@pytest.mark.usefixtures("browser")
def test_the_report_is_drawn(tmp_path):
    """Two cache sizes, so that the overview has something to compare: a box for each policy and size, with its percent above the optimum."""
    command = [sys.executable, "-m", "mmlab", "run", str(EXPERIMENTS / "reclaim_shootout.toml"), "--jobs", "1", "--results", str(tmp_path)]
    for change in (
        'matrix.workload.source=["loop"]', "matrix.workload.cache_share=[0.4, 0.8]", 'matrix.reclaimer.use=["lru", "two_list", "opt"]',
        "workload.sources.loop.params.pages=100", "workload.sources.loop.params.events=2080",
    ):  # fmt: skip
        command += ["--set", change]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "NUMBA_DISABLE_JIT": "1"})
    assert done.returncode == 0, done.stderr
    document, log = page(next(tmp_path.glob("*/report.html")).as_uri())
    assert log == ""  # no error of a script
    overview = document[document.index('id="overview"') :]
    overview = overview[: overview.index("</section>")]
    assert "hidden" not in overview[: overview.index(">")]
    assert re.findall(r">([^<]*percent above the optimum[^<]*)<", overview)
    drawn = set(re.findall(r">(lru|two_list|opt)<", overview))
    assert drawn == {"lru", "two_list", "opt"}
    assert "60" in re.findall(r">([\d.]+)<", overview)  # LRU misses 100 of 100 on the smaller cache, the optimum 60 of 99 less
