"""Recording real programs under valgrind; the parts that need it are skipped where it is not installed."""

import shutil
from collections import OrderedDict

import numpy as np
import pytest
from workload_replay import segfaults

from mmlab.errors import InputError, MmlabError
from mmlab.workload import record as module
from mmlab.workload.record import record
from mmlab.workload.stack_filter import stack_filter
from mmlab.workload.trace_format import EXEC, EXIT, FORK, read_trace, trace_stream

needs_valgrind = pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind is not installed")


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """Every change of page of `ls /`, as a trace."""
    path = tmp_path_factory.mktemp("raw") / "ls.mmtrace"
    recording = record(["ls", "/"], path, 0)
    assert recording.exit_code == 0 and recording.tasks == 1
    return read_trace(path)


def lru_misses(words, size):
    memory, misses = OrderedDict(), 0
    for key in (words >> 4).tolist():
        misses += key not in memory
        memory[key] = True
        memory.move_to_end(key)
        if len(memory) > size:
            memory.popitem(last=False)
    return misses


@needs_valgrind
def test_a_recorded_program_runs_in_its_maps(raw):
    stream = trace_stream(raw, "ls.mmtrace")
    assert segfaults(stream) == []
    assert stream.tasks == ("ls",) and raw.meta["command"] == ["ls", "/"] and raw.meta["filter"] == 0
    assert raw.meta["references"] > len(raw.accesses) > 10_000
    assert {"ls", "libc.so.6"} <= {name for name, _ in raw.meta["files"]}
    assert stream.ops[-1].name == "exit"


@needs_valgrind
def test_lru_misses_of_the_recording_are_exact(raw):
    kept = stack_filter(raw.accesses, 64)
    assert len(kept) < len(raw.accesses) / 20
    for size in (64, 65, 100, 200):
        assert lru_misses(kept, size) == lru_misses(raw.accesses, size)
    assert len(np.unique(kept >> 4)) == len(np.unique(raw.accesses >> 4))


@needs_valgrind
def test_children_and_the_exit_code(tmp_path, capfd):
    recording = record(["sh", "-c", "true | ls /dev/null; /bin/true & wait; exit 3"], tmp_path / "sh.mmtrace")
    assert recording.exit_code == 3 and capfd.readouterr().out == "/dev/null\n"
    trace = read_trace(recording.path)
    kinds = [change.kind for change in trace.changes]
    assert kinds.count(FORK) == recording.tasks - 1 >= 2 and kinds.count(EXIT) == recording.tasks and kinds.count(EXEC) >= 2
    assert segfaults(trace_stream(trace)) == [] and {"sh", "ls", "true"} <= set(trace.meta["tasks"])
    assert str(recording).endswith("exit code 3")


@needs_valgrind
def test_a_program_ended_by_a_signal(tmp_path):
    assert record(["sh", "-c", "kill -TERM $$"], tmp_path / "t").exit_code == 128 + 15


@needs_valgrind
def test_interrupted_it_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_PROGRESS_REFERENCES", 1000)
    seen = []

    def interrupt(references):
        seen.append(references)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        record(["sh", "-c", "while true; do true; done"], tmp_path / "t", progress=interrupt)
    assert len(seen) == 1 and seen[0] >= 1000 and list(tmp_path.iterdir()) == []


@needs_valgrind
def test_a_program_that_does_not_start(tmp_path):
    (tmp_path / "bad").write_text("#!/no/such/interpreter\n")
    (tmp_path / "bad").chmod(0o755)
    with pytest.raises(MmlabError, match="bad: the program did not start, valgrind ended with exit code") as caught:
        record([str(tmp_path / "bad")], tmp_path / "t")
    assert caught.value.exit_code == 1 and not (tmp_path / "t").exists()


def test_what_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "plain").touch()
    with pytest.raises(InputError) as caught:
        record(["no-such-program"], tmp_path / "none" / "t", -1)
    assert caught.value.messages == [
        "valgrind: is not installed, and recording needs it (apt-get install valgrind)",
        "command: 'no-such-program' was not found",
        "filter: must be 0 or more pages, got -1",
        f"{tmp_path / 'none' / 't'}: its folder does not exist",
    ]
    with pytest.raises(InputError, match="is not an executable file"):
        record([str(tmp_path / "plain")], tmp_path / "t")
    with pytest.raises(InputError, match="must name a program"):
        record([], None)
    with pytest.raises(InputError, match="is a folder"):
        record(["no-such-program"], tmp_path)
