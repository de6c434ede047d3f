"""The script language: every operation, typed arguments, line numbers, and messages for what is wrong."""

from pathlib import Path

import pytest

from mmlab.errors import InputError
from mmlab.workload.operation import Operation, Place, TaskReference
from mmlab.workload.ops import SPECS, make_operation, parse_ops
from mmlab.workload.tokens import task_reference

LANGUAGE = (Path(__file__).parent / "language.ops").read_text()


def one(line, before="spawn A\nmmap A r 1 anon\nmmap A t 1 anon\nmmap A b 1 anon\n"):
    return parse_ops(before + line, "s.ops")[-1]


def messages(text):
    with pytest.raises(InputError) as caught:
        parse_ops(text, "script.ops")
    return caught.value.messages


def test_every_operation_parses():
    assert {op.name for op in parse_ops(LANGUAGE, "language.ops")} == set(SPECS)


@pytest.mark.parametrize(
    ("line", "args"),
    [
        ("touch A r -1 16K w", {"region": "r", "offset": -4096, "length": 16384, "mode": "w", "stride": 4096, "reverse": False}),
        ("touch A 0x1000 0 1 r stride=2M reverse",
         {"region": 0x1000, "offset": 0, "length": 4096, "mode": "r", "stride": 2 << 20, "reverse": True}),
        ("rtouch A r 1 2 300 r", {"region": "r", "offset": 4096, "length": 8192, "count": 300, "mode": "r", "seed": 1}),
        ("access A r z.u32 m from=5", {"region": "r", "file": "z.u32", "mode": "m", "start": 5, "count": None}),
        ("munmap A r", {"region": "r", "offset": None, "length": None}),
        ("munmap A r 4 1K", {"region": "r", "offset": 4 * 4096, "length": 1024}),
        ("mprotect A r 0 1 n", {"region": "r", "offset": 0, "length": 4096, "prot": 0}),
        ("mprotect A r 0 1 rx", {"region": "r", "offset": 0, "length": 4096, "prot": 5}),
        ("mremap A r 0 to=t", {"region": "r", "size": 0, "to": "t", "nomove": False, "dontunmap": False}),
        ("brk A -1M", {"size": -(1 << 20)}),
        ("mbind A r 0 1 bind nodes=0,3 move",
         {"region": "r", "offset": 0, "length": 4096, "policy": "bind", "nodes": (0, 3), "move": True}),
        ("mkfile f 10000B", {"file": "f", "size": 10000}),
        ("write /sys/x - 2 0", {"path": "/sys/x", "value": ("-", "2", "0")}),
        ("cgroup g memory.max=64M a=b", {"cgroup": "g", "settings": (("memory.max", "64M"), ("a", "b"))}),
        ("sh ls /x > y # no", {"command": ("ls", "/x", ">", "y")}),
        ("loop A r 0 1 50 w period=1000",
         {"region": "r", "offset": 0, "length": 4096, "ms": 50, "mode": "w", "stride": 4096, "period_us": 1000, "noflush": False}),
    ],
)  # fmt: skip
def test_typed_arguments(line, args):
    assert one(line).args == args


def test_mmap_arguments():
    args = one("mmap A x 16 file:f off=16 at=b-16K over shared keep prot=rw").args
    assert args["at"] == Place("b", -16384) and args["off"] == 65536 and args["size"] == 65536 and args["file"] == "f" and args["prot"] == 3
    assert args["over"] and args["shared"] and args["keep"] and not args["hint"] and args["huge"] is None
    plain = one("mmap A x 2M anon at=0x7000 huge=no").args
    assert plain["file"] is None and plain["at"] == Place(None, 0x7000) and plain["huge"] is False and plain["prot"] == 3


def test_regions_are_named_before_they_are_used():
    script = "spawn A\nmmap A heap 1 anon\nfork A B\ntouch B heap 0 1 w\nmmap B m 1 anon\nbrk A 1\nmadvise A brk 0 1 free\n"
    parse_ops(script, "script.ops")
    assert messages(script + "touch A m 0 1 w\nmunmap B heaps\nmmap A x 1 anon at=y+1\nmremap A heap 2 to=z\n") == [
        "script.ops:8: touch: no earlier line gives A a region 'm' (known: brk, heap)",
        "script.ops:9: munmap: no earlier line gives B a region 'heaps' (known: heap, m); did you mean 'heap'?",
        "script.ops:10: mmap: no earlier line gives A a region 'y' (known: brk, heap)",
        "script.ops:11: mremap: no earlier line gives A a region 'z' (known: brk, heap, x)",
    ]


def test_lines_are_those_of_the_text():
    ops = parse_ops("\n# note\nspawn A\n\n  bg touch A 0x1000 0 1 w  # go\njoin A\n", "s.ops")
    assert [(op.line, op.name, op.text) for op in ops] == [
        (3, "spawn", "spawn A"), (5, "touch", "bg touch A 0x1000 0 1 w"), (6, "join", "join A"),
    ]  # fmt: skip
    assert [op.background for op in ops] == [False, True, False]


def test_all_errors_of_a_script_at_once():
    assert messages("spawn A\ntuch A r 0 1 r\ntouch A r 0 12X r\ntouch B r 0 1 r\nmadvise A r 0 1 colapse\n") == [
        "script.ops:2: unknown operation 'tuch'; did you mean 'touch'?",
        "script.ops:3: touch: LEN: '12X' is not a size (pages, or bytes with B, K, M or G: 64, 16K, 2M)",
        "script.ops:4: touch: no task 'B' was started before this line (known: A)",
        messages("spawn A\n\n\n\nmadvise A r 0 1 colapse")[0],
    ]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("touch A r 0 1", "touch: r|w is missing (usage: touch A R OFF LEN r|w [stride=] [reverse])"),
        ("touch", "touch: which task?"),
        ("touch A r 0 1 r strid=2", "'strid=2' is not one of its options; did you mean 'stride='?"),
        ("touch A r 0 1 r stride=0", "stride=: must be above 0, got '0'"),
        ("touch A r 0 -1 r", "LEN: '-1' is not a size"),
        ("touch A r 010 1 r", "OFF: '010' is not a size"),
        ("rtouch A r 0 100B 1 r", "LEN must be at least one page"),
        ("madvise A r 0 1 colapse", "did you mean 'collapse'?"),
        ("mmap A r 1 anon over", "'over' needs at="),
        ("mmap A r 1 anon at=b over hint", "'over' and 'hint' exclude each other"),
        ("mmap A r 1 anon off=3", "keep and off= need file:F"),
        ("mmap A r 1 anon align=3", "align= must be a power of two, got 12288 bytes"),
        ("mmap A r 1 anan", "'anan' must be anon or file:NAME"),
        ("mmap A r+1 1 anon", "'r+1' cannot name a region"),
        ("mmap A r 1 anon prot=wr", "prot=: 'wr' is not a protection"),
        ("munmap A r 0", "munmap: LEN is missing (usage: munmap A R [OFF LEN])"),
        ("munmap A 0x1000", "an absolute address needs OFF and LEN"),
        ("bg sleep 3", "bg: 'sleep' cannot run in the background"),
        ("bg", "bg: needs an operation"),
        ("cpu A -1", "CPU: must not be negative, got '-1'"),
        ("sysctl a b c", "'c' is not one of its options (usage: sysctl KEY VALUE)"),
        ("write sys 1", "PATH: 'sys' is not an absolute path"),
        ("write /proc/@Q/x 1", "no task 'Q' was started before this line"),
        ("sysfs x @Q.r", "no task 'Q' was started before this line"),
        ("sysfs x @A.r+2X", "VALUE: '2X' is not a size"),
        ("cgroup g memory.max", "'memory.max' must be KEY=VALUE"),
        ("spawn " + "n" * 24, "is longer than 23 bytes"),
        ("mbind A r 0 1 bind nodes=64", "node 64 is above 63"),
    ],
)
def test_messages(line, says):
    (message,) = messages(f"spawn A\n{line}")
    assert message.startswith("script.ops:2: ") and says in message


def test_task_references():
    assert task_reference("@A.r+2M") == TaskReference("A", "r", 2 << 20)
    assert task_reference("@A") == TaskReference("A", None, 0)
    assert task_reference("always") is None


def test_made_operations_have_every_argument():
    assert make_operation("touch", "A", region="r", offset=0, length=4096, mode="r").args == one("touch A r 0 1 r").args
    assert isinstance(make_operation("spawn", "A"), Operation) and make_operation("spawn", "A").args == one("spawn A").args
