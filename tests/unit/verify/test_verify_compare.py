"""When a figure holds, and when it is only an echo of the start state."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmlab.verify import Expected, find_cases, read_case
from mmlab.verify.compare import holds, is_echo, status


@pytest.mark.parametrize(("want", "got", "tolerance", "slack", "answer"), [
    (100, 100, 0, 0, True), (100, 101, 0, 0, False), (100, 105, 0.05, 0, True), (100, 106, 0.05, 0, False), (-100, -105, 0.05, 0, True),
    (0, 5, 0.5, 0, False), (0, 5, 0.5, 5, True), (10, 14, 0.1, 4, True), (10, 15, 0.1, 4, False), (1.0, 1, 0, 0, True),
    ([1, 10], [1, 11], 0.1, 0, True), ([1, 10], [2, 10], 0.1, 0, False), ([1], [1, 1], 1, 9, False), ([0, 100], [180, 100], 0.02, 180, True),
    (["a"], ["a"], 0, 0, True), (["a"], ["b"], 1, 9, False), ("x", "x", 0, 0, True), ("x", "y", 1, 9, False),
    (True, True, 0, 0, True), (True, 1, 0, 0, False), (1, True, 0, 0, False), (0, False, 1, 1, False),
    ([1, 8, "kmalloc-8", -1], [1, 8, "kmalloc-8", -1], 0, 0, True), (5, None, 1, 9, False), (5, [5], 0, 0, False), (5, "5", 0, 0, False),
    ({"a": [1], "b": 2}, {"b": 2, "a": [1]}, 0, 0, True), ({"a": 1}, {"a": 1, "b": 2}, 0, 0, False), ([[1, 2], []], [[1, 2], []], 0, 0, True),
    (1, float("nan"), 1, 9, False),
])
def test_holds(want, got, tolerance, slack, answer):
    assert holds(want, got, tolerance, slack) is answer


@given(st.integers(-10**9, 10**9), st.integers(0, 10**6))
def test_slack_is_exactly_the_distance_allowed(want, slack):
    assert holds(want, want + slack, 0, slack)
    assert not holds(want, want + slack + 1, 0, slack)


@pytest.fixture
def case(write_case):
    return read_case(write_case())  # one zone, DMA32: spanned 1000, present 900, managed 800, start_pfn 4096, min 7; swap 128M


@pytest.mark.parametrize(("fid", "value", "echo"), [
    ("snap[s0].zoneinfo[0,DMA32].spanned", 1000, True), ("snap[s9].zoneinfo[0,DMA32].managed", 800, True),
    ("snap[s0].zoneinfo[0,DMA32].start_pfn", 4096, True), ("probe[z].zone[z][0,DMA32].present", 900, True),
    ("snap[s0].meminfo.MemTotal", 3200, True), ("snap[s0].nodememinfo[0].MemTotal", 3200, True), ("snap[s0].meminfo.SwapTotal", 131068, True),
    # computed by the kernel, whatever boot.json says
    ("snap[s0].zoneinfo[0,DMA32].min", 7, False), ("snap[s0].zoneinfo[0,DMA32].protection", [0, 0], False), ("snap[s0].meminfo.MemFree", 3200, False),
    # changed by the script, or not of the start state
    ("snap[s1].zoneinfo[0,DMA32].managed", 900, False), ("snap[s0].zoneinfo[0,Movable].managed", 800, False), ("snap[s0].nodememinfo[1].MemTotal", 5, False),
    ("delta[s0,s1].meminfo.MemTotal", 0, False),
])
def test_echo(case, fid, value, echo):
    assert is_echo(case, Expected(fid, value)) is echo


def test_status_of_an_echo(case):
    figure = Expected("snap[s0].zoneinfo[0,DMA32].managed", 800)
    assert status(case, figure, 800) == "input"
    assert status(case, figure, 801) == "failed"
    assert status(case, Expected("op[1].ret", 0), 0) == "held"
    near = Expected("snap[s0].zoneinfo[0,DMA32].managed", 801, tolerance=0.01)
    assert status(case, near, 801) == "input"


def test_echoes_of_the_visible_cases(ground_truth):
    """The table's ids there: four sizes of each zone, MemTotal and SwapTotal."""
    echoes = [figure.id for case in find_cases([ground_truth]) for figure in case.figures if is_echo(case, figure)]
    assert len(echoes) == 165
    assert {fid.rpartition(".")[2] for fid in echoes} == {"spanned", "present", "start_pfn", "managed", "MemTotal", "SwapTotal"}
