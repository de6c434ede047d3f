"""What README shows works as it is shown (in the plain-Python build, so that it takes seconds)."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
ENV = {**os.environ, "NUMBA_DISABLE_JIT": "1"}


def mmlab(*arguments: str, cwd: Path) -> subprocess.CompletedProcess:
    """The command line in a process of its own."""
    return subprocess.run([sys.executable, "-m", "mmlab", *arguments], cwd=cwd, capture_output=True, text=True, env=ENV)


def test_the_experiment_block_runs(tmp_path):
    block = re.search(r"```toml\n(.*?)```", README, re.S)[1]
    (tmp_path / "readme.toml").write_text(block)
    done = mmlab("run", "readme.toml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "two_list" in done.stdout and (tmp_path / "results" / "readme" / "report.html").exists()


def test_the_python_blocks_run():
    """512 pages touched; 10,000 of the gcc run's events done."""
    said = []
    for block in re.findall(r"```python\n(.*?)```", README, re.S):
        done = subprocess.run([sys.executable, "-c", block], cwd=ROOT, capture_output=True, text=True, env=ENV)
        assert done.returncode == 0, done.stderr
        said.append(done.stdout)
    assert said[0].split() == ["512", "512"] and said[1].startswith("933239 events left;")


@pytest.mark.parametrize("line", ["traces", "plugins", "machine presets", "hooks reclaimer", "new-plugin my_policy --slot reclaimer", "--help"])
def test_a_documented_command_runs(line, tmp_path):
    assert line == "--help" or f"mmlab {line}" in README
    done = mmlab(*line.split(), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


@pytest.mark.parametrize(("text", "message"), [
    ("[machine\n", "readme.toml:1"),
    ("[machine]\nmemroy = '16M'\n", "did you mean 'memory'"),
    ("[workload]\nkind='trace'\ntrace='nosuch'\n", "no shipped trace 'nosuch'"),
    ("[workload]\nkind='trace'\nfile='nosuch'\n", "no such file"),
    ("[workload]\nkind='trace'\ntrace='gcc'\n[reclaimer]\nuse='two_lst'\n", "did you mean 'two_list'"),
])  # fmt: skip
def test_a_mistake_is_named_and_nothing_is_left(text, message, tmp_path):
    (tmp_path / "readme.toml").write_text(text)
    done = mmlab("run", "readme.toml", cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "results").exists()
