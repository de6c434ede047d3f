"""Which differences matter: the test, its correction, and what is no repetition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmlab.results.stats import bootstrap_interval, compare, holm, sign_flip_p
from mmlab.results.summary import Column

MAJOR = (Column("major faults", ("pgmajfault",), tested=True),)


def test_sign_flip_is_exact_for_few_pairs():
    """Of the 8 sign patterns of (1, 2, 3) only +++ and --- reach a sum of 6; for (1, 2, -3) all do."""
    assert sign_flip_p(np.array([1.0, 2.0, 3.0])) == 2 / 8
    assert sign_flip_p(np.array([1.0, 2.0, -3.0])) == 1.0
    assert sign_flip_p(np.ones(10)) == 2 / 1024


def test_sign_flip_of_many_pairs_is_random_but_repeatable():
    values = np.arange(1.0, 31.0)
    assert sign_flip_p(values) == sign_flip_p(values) == pytest.approx(1 / 20_001)
    assert sign_flip_p(np.where(np.arange(30) % 2, 1.0, -1.0)) == 1.0


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.integers(-1000, 1000), min_size=2, max_size=9))
def test_sign_flip_equals_counting(values):
    differences = np.array(values, dtype=np.float64)
    patterns = [[1 if bits >> i & 1 else -1 for i in range(len(values))] for bits in range(1 << len(values))]
    reached = sum(abs(sum(s * v for s, v in zip(signs, values, strict=True))) >= abs(sum(values)) for signs in patterns)
    assert sign_flip_p(differences) == reached / len(patterns)


def test_holm():
    """Sorted 0.01, 0.03, 0.04 times 3, 2, 1, never falling."""
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert holm([0.6, 0.7]) == [1.0, 1.0]


def test_interval_holds_the_mean_and_is_narrow_for_equal_differences():
    low, high = bootstrap_interval(np.array([3.0, 5.0, 7.0, 9.0]))
    assert 3.0 <= low < 6.0 < high <= 9.0
    assert bootstrap_interval(np.full(5, 2.0)) == (2.0, 2.0)


def test_pairs_are_runs_that_differ_in_the_policy_alone(finished):
    """Seeds differ by far more than policies, and 64M by more than 1G: only pairing finds the 10."""
    cells = [finished(name, seed, base + 1000 * seed + extra, memory)
             for name, extra in (("two_list", 0), ("clock", 10))
             for memory, base in (("64M", 90_000), ("1G", 0))
             for seed in range(4)]  # fmt: skip
    (difference,) = compare(cells, columns=MAJOR)
    assert (difference.arm, difference.baseline, difference.pairs) == ("clock", "two_list", 8)
    assert (difference.mean, difference.low, difference.high) == (10.0, 10.0, 10.0)
    assert difference.p == difference.p_holm == 2 / 256
    assert difference.matters
    assert difference.verdict == "matters"


def test_one_run_is_not_tested(finished):
    (difference,) = compare([finished("two_list", 1, 100), finished("clock", 1, 150)], columns=MAJOR)
    assert (difference.pairs, difference.mean, difference.relative, difference.p) == (1, 50.0, 0.5, None)
    assert difference.verdict == "one run: no test"


def test_seeds_that_change_nothing_are_one_run(finished):
    cells = [finished(name, seed, major) for name, major in (("two_list", 100), ("clock", 150)) for seed in range(20)]
    (difference,) = compare(cells, columns=MAJOR)
    assert (difference.pairs, difference.verdict) == (1, "one run: no test")


def test_too_few_seeds_is_said(finished):
    cells = [finished(name, seed, major + seed) for name, major in (("two_list", 100), ("clock", 150)) for seed in range(3)]
    (difference,) = compare(cells, columns=MAJOR)
    assert (difference.p, difference.p_holm) == (0.25, 0.25)
    assert difference.verdict == "too few runs to tell: 6 pairs are needed"  # 2 / 2**5 > 0.05 > 2 / 2**6


def test_all_figures_are_corrected_together(finished):
    """Faults and major faults of two rivals: four tests, each with p = 2 / 256."""
    cells = [finished(name, seed, major + seed) for name, major in (("two_list", 100), ("clock", 150), ("fifo", 300)) for seed in range(8)]
    none = Column("swap in", ("pswpin",), tested=True)
    for cell in cells:
        cell.result.counters["pswpin"] = 0  # 0 everywhere: no test that others would have to pay for
    found = [d for d in compare(cells, columns=(*MAJOR, Column("faults", ("pgfault",), tested=True), none)) if d.column != "swap in"]
    assert [(d.arm, d.column) for d in found[:2]] == [("fifo", "major faults"), ("fifo", "faults")]
    assert {d.p_holm for d in found} == {4 * 2 / 256}


def test_described_figures_cost_nothing(finished):
    cells = [finished(name, seed, major + seed) for name, major in (("two_list", 100), ("clock", 150)) for seed in range(8)]
    tested, described = compare(cells, columns=(Column("faults", ("pgfault",)), *MAJOR))
    assert (tested.column, tested.p_holm, tested.verdict) == ("major faults", 2 / 256, "matters")
    assert (described.p, described.mean, described.verdict) == (None, 100.0, "not tested")


def test_baseline_by_name(finished):
    cells = [finished(name, 1, major) for name, major in (("two_list", 100), ("opt", 50))]
    (difference,) = compare(cells, "opt", MAJOR)
    assert (difference.arm, difference.baseline, difference.relative) == ("two_list", "opt", 1.0)


def test_nothing_to_compare(finished):
    assert compare([finished("two_list", seed, 100) for seed in range(3)]) == []
    assert compare([]) == []
