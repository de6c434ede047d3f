"""Result folders and cases made by hand."""

import gzip
import json
from pathlib import Path

import pytest

from mmlab.verify import ResultFolder

GROUND_TRUTH = Path(__file__).parents[2] / "ground_truth"


@pytest.fixture
def ground_truth() -> Path:
    return GROUND_TRUTH


@pytest.fixture
def result_folder(tmp_path):
    """Makes a ResultFolder of ``ops`` (text or (text, answer) per script line from 1), ``ends`` and files by path."""

    def make(ops=(), ends=(), files=None, trace=None) -> ResultFolder:
        rows = []
        for line, op in enumerate(ops, 1):
            text, answer = op if isinstance(op, tuple) else (op, {})
            rows.append({"line": line, "op": text, "at": line * 1_000_000_000, "ret": 0, **answer})
        rows += [{"end": True, **end} for end in ends]
        folder = tmp_path / "out"
        folder.mkdir(exist_ok=True)
        (folder / "ops.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        for name, content in (files or {}).items():
            file = folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, bytes):
                file.write_bytes(content)
            else:
                file.write_text(content)
        if trace is not None:
            (folder / "trace.txt.gz").write_bytes(gzip.compress(trace.encode()))
        return ResultFolder(folder)

    return make


ZONE = {"node": 0, "zone": "DMA32", "spanned": 1000, "present": 900, "managed": 800, "start_pfn": 4096, "min": 7, "protection": [0, 0],
        "free_lists": {"Movable": [1, 2]}, "pcp": [{"count": 5, "high": 9, "batch": 3}], "lru": {"active_anon": 4}}


@pytest.fixture
def write_case(tmp_path):
    """Writes a case's folder: a script, figures as (id, value) or whole rows, and what differs from the usual."""

    def write(area="faults", name="one", figures=(), toml="", script="spawn A\n", boot=None, root=tmp_path / "cases") -> Path:
        folder = root / area / name
        folder.mkdir(parents=True)
        (folder / "case.toml").write_text(f'summary = "made by hand"\nscript = """\n{script}"""\n{toml}\n[machine]\nmemory = "256M"\nswap = "128M"\n')
        (folder / "boot.json").write_text(json.dumps(boot or {"zones": [ZONE], "lru": {"shmem": 3, "mapped": 2}, "meminfo": {"Committed_AS": 44}}))
        rows = [row if isinstance(row, dict) else {"id": row[0], "value": row[1], "tolerance": 0} for row in figures]
        (folder / "expected.json").write_text(json.dumps({"kernel": "6.12", "runs": 1, "baseline": {"zones": []}, "figures": rows}))
        return folder

    return write
