"""Merging, splitting and fitting of regions against the plain-Python model, on lists made at random."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from mmlab_linux.monitor.damon import region as kernels
from mmlab_linux.monitor.damon import state as s
from mmlab_linux.monitor.damon.merge_split import kdamond_merge_regions, kdamond_split_regions
from mmlab_linux.monitor.damon.rand import damon_rand

from mmlab.kernels.jit import JIT_OFF
from mmlab.kernels.pointer import State
from mmlab.model.rows import NR_SCALARS
from mmlab.testing.oracles.damon import PAGE, Region, fitted, merge, split

pytestmark = [pytest.mark.nojit, pytest.mark.skipif(not JIT_OFF, reason="calls kernels one by one")]


class Machine:
    """What damon_rand() looks at."""

    sc = np.zeros(NR_SCALARS, np.int64)


def make_state(targets, **ctx):
    """Context 0 with these lists of regions; ctx: C_* words by name."""
    st = State("monitor.damon", s.new_state(s.Params(), None))
    for name, value in {"C_SAMPLE_US": 5000, "C_AGGR_US": 100_000, "C_MIN_NR_REGIONS": 10, "C_MAX_NR_REGIONS": 1000, **ctx}.items():
        st.ctx[getattr(s, name)] = value
    st.ctx[s.C_NR_TARGETS] = len(targets)
    for index, regions in enumerate(targets):
        kernels.init_target(st, 0, index)
        row = kernels.target_row(0, index)
        for region in regions:
            base = kernels.insert_region(st, 0, row, int(st.target[row + s.T_HEAD]), region.start, region.end) * s.REGION_STRIDE
            st.region[base + s.R_NR_ACCESSES], st.region[base + s.R_LAST_NR_ACCESSES] = region.nr_accesses, region.last_nr_accesses
            st.region[base + s.R_AGE] = region.age
    return st


def regions_of(st, index):
    """The list of a target, walked both ways."""
    head = int(st.target[kernels.target_row(0, index) + s.T_HEAD])
    out, back = [], []
    at = kernels.next_region(st, head)
    while at != head:
        w = st.region[at * s.REGION_STRIDE : (at + 1) * s.REGION_STRIDE].tolist()
        out.append(Region(w[s.R_START], w[s.R_END], w[s.R_NR_ACCESSES], w[s.R_LAST_NR_ACCESSES], w[s.R_AGE]))
        at = kernels.next_region(st, at)
    at = kernels.prev_region(st, head)
    while at != head:
        back.append(int(st.region[at * s.REGION_STRIDE + s.R_START]))
        at = kernels.prev_region(st, at)
    assert back[::-1] == [region.start for region in out]
    assert st.target[kernels.target_row(0, index) + s.T_NR_REGIONS] == len(out)
    return out


@some.composite
def region_lists(draw):
    """Ascending regions of whole pages, with gaps here and there."""
    at, out = draw(some.integers(0, 100)) * PAGE, []
    for pages in draw(some.lists(some.integers(1, 40), max_size=25)):
        at += PAGE * draw(some.sampled_from([0, 0, 0, 5]))
        counts = [draw(some.integers(0, 20)) for _ in range(2)]
        out.append(Region(at, at + pages * PAGE, *counts, draw(some.integers(0, 50))))
        at += pages * PAGE
    return out


@settings(max_examples=150, deadline=None)
@given(some.lists(region_lists(), min_size=1, max_size=3), some.integers(1, 300), some.integers(3, 40))
def test_merging_is_the_models(targets, limit_pages, max_nr_regions):
    st = make_state(targets, C_SZ_LIMIT=limit_pages * PAGE, C_MAX_NR_REGIONS=max_nr_regions)
    most = max((region.nr_accesses for regions in targets for region in regions), default=0)
    kdamond_merge_regions(st, 0, most // 10)
    expected = merge(targets, most, limit_pages * PAGE, max_nr_regions, 20)
    assert [regions_of(st, i) for i in range(len(targets))] == expected
    assert st.ctx[s.C_NR_REGIONS] == sum(map(len, expected))


@settings(max_examples=100, deadline=None)
@given(region_lists(), some.booleans())
def test_splitting_is_the_models(regions, thrice):
    st, mirror = (make_state([regions]) for _ in range(2))
    st.one[s.ONE_SPLIT_LAST] = len(regions) if thrice else -1
    kdamond_split_regions(Machine, st, 0)
    assert regions_of(st, 0) == split(regions, 3 if thrice else 2, lambda: damon_rand(Machine, mirror, 0, 1, 10))
    assert st.one[s.ONE_SPLIT_LAST] == len(regions)


def test_no_split_above_half_of_the_bound():
    regions = [Region(i * 8 * PAGE, (i + 1) * 8 * PAGE) for i in range(6)]
    st = make_state([regions], C_MAX_NR_REGIONS=11)
    kdamond_split_regions(Machine, st, 0)
    assert regions_of(st, 0) == regions
    st.ctx[s.C_MAX_NR_REGIONS] = 12
    kdamond_split_regions(Machine, st, 0)
    assert 6 < len(regions_of(st, 0)) <= 12


@settings(max_examples=150, deadline=None)
@given(region_lists(), some.lists(some.tuples(some.integers(1, 60), some.integers(1, 60)), min_size=1, max_size=4))
def test_fitting_to_ranges_is_the_models(regions, steps):
    ranges, at = [], 0
    for gap, pages in steps:
        ranges.append(((at + gap) * PAGE, (at + gap + pages) * PAGE))
        at += gap + pages
    crossing = [r for r in regions if sum(r.start < end and start < r.end for start, end in ranges) > 1]
    if crossing:
        return  # the kernel, too, only ever sees layouts in which no region lies in two ranges
    st = make_state([regions])
    for i, (start, end) in enumerate(ranges):
        st.range[2 * i], st.range[2 * i + 1] = start, end
    kernels.set_regions(st, 0, 0, 0, len(ranges))
    assert regions_of(st, 0) == fitted(regions, ranges)


def test_rows_of_destroyed_regions_are_used_again():
    st = make_state([[Region(i * PAGE, (i + 1) * PAGE) for i in range(10)]])
    top = int(st.one[s.ONE_REGION_TOP])
    kernels.destroy_target(st, 0, 0)
    kernels.init_target(st, 0, 0)
    row = kernels.target_row(0, 0)
    for i in range(10):
        kernels.insert_region(st, 0, row, int(st.target[row + s.T_HEAD]), i * PAGE, (i + 1) * PAGE)
    assert st.one[s.ONE_REGION_TOP] == top and len(regions_of(st, 0)) == 10


def test_random_numbers_are_uniform_and_repeat():
    st, again = make_state([]), make_state([])
    draws = [damon_rand(Machine, st, 0, 100, 110) for _ in range(5000)]
    assert draws == [damon_rand(Machine, again, 0, 100, 110) for _ in range(5000)]
    counts = np.bincount(np.array(draws) - 100, minlength=10)
    assert set(draws) == set(range(100, 110)) and counts.min() > 400 and counts.max() < 600  # 500 each, sigma 21
    neighbours = np.corrcoef(draws[:-1], draws[1:])[0, 1]
    assert abs(neighbours) < 0.06  # sigma 0.014


def test_only_the_first_bytes_of_a_region_beyond_4_gib_are_drawn():
    st = make_state([])
    draws = [damon_rand(Machine, st, 0, 0, (5 << 30)) for _ in range(300)]
    assert max(draws) < 1 << 30 and max(draws) > 900 << 20
    assert max(damon_rand(Machine, st, 0, 0, 8 << 30) for _ in range(300)) > 3 << 30


def test_bounds_of_params_agree():
    with pytest.raises(ValueError, match=r"min_nr_regions: must be at most max_nr_regions \(10\), got 20"):
        s.Params(min_nr_regions=20, max_nr_regions=10)
    with pytest.raises(ValueError, match="sample_us"):
        s.Params(sample_us=200_000)
