"""Watermarks, reserves and limits: at boot of real machines, and after every write."""

import copy

import machine_records as recorded
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmlab.machine import ZoneTuning, build_machine, layout_from_config, machine_from_table, thp_at_boot
from mmlab.machine import watermarks as wm

RESULTS = ("wmark", "lowmem_reserve", "pcp", "stat_threshold", "percpu_drift_mark", "totalreserve_pages", "values", "user_min_free_kbytes")


def marks(tuning):
    return [[w.min, w.low, w.high, w.promo] for w in tuning.wmark]


def limits(tuning):
    return [[p.batch, p.high_min, p.high_max] for p in tuning.pcp]


def state(tuning):
    return copy.deepcopy({k: getattr(tuning, k) for k in RESULTS})


@pytest.mark.parametrize("with_setup", [True, False], ids=["bounds given", "estimated"])
@pytest.mark.parametrize("entry", recorded.CASES, ids=recorded.NAMES)
def test_boot_of_recorded_machines(entry, with_setup):
    t = ZoneTuning(recorded.layout(entry, with_setup=with_setup))
    assert marks(t) == [z["marks"] for z in entry["zones"]]
    assert [list(r) for r in t.lowmem_reserve] == [z["protection"] for z in entry["zones"]]
    assert limits(t) == [z["pcp"] for z in entry["zones"]]
    assert t.stat_threshold == [z["threshold"] for z in entry["zones"]]
    if "min_free_kbytes" in entry:
        assert t.read("vm.min_free_kbytes") == str(entry["min_free_kbytes"])


# watermarks-sysctl: (write, its answer, then by zone DMA, DMA32, Normal: marks, protection, pcp) on the 6G machine
BOOT_RESERVE = [[0, 2945, 5906, 5906, 5906], [0, 0, 2960, 2960, 2960], [0] * 5]
RATIO_RESERVE = [[0, 23634, 47320, 47320, 47320], [0, 0, 11843, 11843, 11843], [0] * 5]
BOOT_MARKS = [[42, 52, 62, 72], [8404, 10505, 12606, 14707], [8448, 10560, 12672, 14784]]
LAST_MARKS = [[41, 425, 809, 1193], [8162, 83793, 159424, 235055], [8180, 83975, 159770, 235565]]
LAST_PCP = [[1, 425, 480], [63, 83793, 94538], [63, 83975, 94744]]
SYSCTLS = [
    ("vm.percpu_pagelist_high_fraction", 5, -22, BOOT_MARKS, BOOT_RESERVE, [[1, 52, 480], [63, 10505, 94258], [63, 10560, 94744]]),
    ("vm.min_free_kbytes", 8192, 0, [[5, 8, 11, 14], [1020, 1776, 2532, 3288], [1022, 1779, 2536, 3293]], BOOT_RESERVE,
     [[1, 8, 480], [63, 1776, 94538], [63, 1779, 94744]]),
    ("vm.watermark_scale_factor", 100, 0, [[5, 43, 81, 119], [1020, 8583, 16146, 23709], [1022, 8601, 16180, 23759]], BOOT_RESERVE,
     [[1, 43, 480], [63, 8583, 94538], [63, 8601, 94744]]),
    ("vm.watermark_scale_factor", 1000, 0, [[5, 389, 773, 1157], [1020, 76651, 152282, 227913], [1022, 76817, 152612, 228407]],
     BOOT_RESERVE, [[1, 389, 480], [63, 76651, 94538], [63, 76817, 94744]]),
    ("vm.min_free_kbytes", 65536, 0, LAST_MARKS, BOOT_RESERVE, LAST_PCP),
    ("vm.lowmem_reserve_ratio", "32 64 16 0", 0, LAST_MARKS, RATIO_RESERVE, LAST_PCP),
    ("vm.percpu_pagelist_high_fraction", 8, 0, LAST_MARKS, RATIO_RESERVE, [[1, 480, 480], [63, 94538, 94538], [63, 94744, 94744]]),
    ("vm.percpu_pagelist_high_fraction", 100, 0, LAST_MARKS, RATIO_RESERVE, [[1, 38, 38], [63, 7563, 7563], [63, 7579, 7579]]),
    ("vm.percpu_pagelist_high_fraction", 0, 0, LAST_MARKS, RATIO_RESERVE, LAST_PCP),
]  # fmt: skip


def test_the_recorded_sequence_of_sysctls():
    t = ZoneTuning(recorded.layout(recorded.case("zones-6g")))
    for name, value, ret, want_marks, reserve, pcp in SYSCTLS:
        assert t.write(name, value) == ret, (name, value)
        assert (marks(t), [list(r) for r in t.lowmem_reserve], limits(t)) == (want_marks, reserve, pcp), (name, value)


def test_marks_of_a_256m_machine_after_writes():
    # reclaim's `watermarks` case: managed 3840 and 50049
    rows = [{"node": 0, "zone": z, "start_pfn": s, "spanned": p, "present": p, "managed": m}
            for z, s, p, m in (("DMA", 1, 3998, 3840), ("DMA32", 4096, 61405, 50049))]  # fmt: skip
    t = ZoneTuning(recorded.layout_from_boot({"zones": rows}, machine_from_table({"memory": "256M"})))
    t.write("vm.min_free_kbytes", 4096)
    assert marks(t) == [[72, 90, 108, 126], [951, 1188, 1425, 1662]]
    t.write("vm.watermark_scale_factor", 200)
    assert marks(t)[1] == [951, 1951, 2951, 3951]
    t.write("vm.min_free_kbytes", 1000)
    assert marks(t)[1] == [232, 1232, 2232, 3232]
    t.write("vm.watermark_scale_factor", 5)
    assert marks(t)[1] == [232, 290, 348, 406]
    assert t.lowmem_reserve[0][1] == 186


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("vm.watermark_scale_factor", 0), ("vm.watermark_scale_factor", 3001), ("vm.min_free_kbytes", -1), ("vm.min_free_kbytes", "many"),
        ("vm.min_free_kbytes", ""), ("vm.percpu_pagelist_high_fraction", 1), ("vm.percpu_pagelist_high_fraction", 7),
        ("vm.percpu_pagelist_high_fraction", -8), ("vm.lowmem_reserve_ratio", "256 x"), ("vm.watermark_boost_factor", 1 << 31),
    ],
)  # fmt: skip
def test_refused_writes_change_nothing(name, value):
    t = ZoneTuning(recorded.layout(recorded.case("zones-6g")))
    before = state(t)
    assert t.write(name, value) == -22
    assert state(t) == before


def test_unknown_sysctls_are_the_callers():
    t = ZoneTuning(recorded.layout(recorded.case("zones-128m")))
    assert t.knows("vm.min_free_kbytes") and not t.knows("vm.swappiness")
    with pytest.raises(KeyError):
        t.write("vm.swappiness", 60)


def test_lowmem_reserve_ratio_stores_values_below_1_as_0_and_keeps_those_not_given():
    t = ZoneTuning(recorded.layout(recorded.case("zones-6g")))
    assert t.write("vm.lowmem_reserve_ratio", "-5 0x80") == 0
    assert t.read("vm.lowmem_reserve_ratio") == "0\t128\t32\t0\t0"
    assert t.lowmem_reserve[0] == (0,) * 5
    assert t.lowmem_reserve[1] == (0, 0) + (757959 // 128,) * 3


def test_thp_needs_512m_at_boot_but_can_be_switched_on_later():
    lay = recorded.layout(recorded.case("zones-512m"))
    assert thp_at_boot(lay, "always") == "never"
    assert [thp_at_boot(recorded.layout(recorded.case("zones-6g")), mode) for mode in (None, "madvise", "never")] == [
        "always",
        "madvise",
        "never",
    ]
    t = ZoneTuning(lay)
    # switched off: recomputed from what is above high now, isqrt(64 * (3840 - 32 + 114465 - 986))
    t.thp_switched(False)
    assert (t.read("vm.min_free_kbytes"), marks(t)[1][:3]) == ("2739", [661, 826, 991])
    t.thp_switched(True)
    # two zones want 45056 kB; a twentieth of 114465 - 991 + 3840 - 32 pages is 5864
    assert t.read("vm.min_free_kbytes") == str(5864 * 4)


def test_a_written_min_free_kbytes_stays_until_thp_wants_more():
    t = ZoneTuning(recorded.layout(recorded.case("zones-2g-4cpu")), "never")
    assert int(t.read("vm.min_free_kbytes")) < 45056
    t.write("vm.min_free_kbytes", 30000)
    t.thp_switched(False)
    assert t.read("vm.min_free_kbytes") == "30000"
    t.thp_switched(True)
    assert t.read("vm.min_free_kbytes") == "45056"
    t.write("vm.min_free_kbytes", 90000)
    t.thp_switched(True)
    assert t.read("vm.min_free_kbytes") == "90000"


def test_a_recomputation_drops_the_boost_and_pcp_limits_count_it():
    t = ZoneTuning(recorded.layout(recorded.case("zones-512m")))
    t.boost[1] = 512
    t.write("vm.percpu_pagelist_high_fraction", 8)
    t.write("vm.percpu_pagelist_high_fraction", 0)
    assert (t.pcp[1].high_min, t.boost[1]) == (t.wmark[1].low + 512, 512)
    t.write("vm.min_free_kbytes", 2725)
    assert (t.pcp[1].high_min, t.boost) == (t.wmark[1].low, [0, 0])


def test_hotplug_on_a_running_machine():
    entry = recorded.case("hotplug-dimm")
    t = ZoneTuning(recorded.layout(entry))
    t.managed[2] += 32768
    before = t.lowmem_reserve[1]
    t.hotplug()
    assert before == (0, 0, 512, 512, 512) and t.lowmem_reserve[1] == (0, 0, 640, 640, 640)
    assert t.stat_threshold[2] == 2 * 1 * (1 + 3)
    assert t.read("vm.min_free_kbytes") == "67584"


def test_totalreserve_and_drift_mark():
    t = ZoneTuning(recorded.layout(recorded.case("zones-6g")))
    # DMA's 5906 + 62 exceed its managed pages
    assert t.totalreserve_pages == 3840 + 2960 + 12606 + 12672
    many = ZoneTuning(layout_from_config(machine_from_table({"memory": "512M", "cpus": 64})))
    threshold = 2 * 7 * (1 + 2)
    assert many.stat_threshold[1] == threshold
    assert many.percpu_drift_mark[1] == many.wmark[1].high + 64 * threshold


def test_empty_boot_table_values():
    assert wm.zone_watermarks(0, wm.ZONE_MOVABLE, 1000, 4096, 10) == wm.Watermarks(32, 32, 32, 32)
    assert wm.zone_watermarks(0, wm.ZONE_DEVICE, 1000, 4096, 10) == wm.Watermarks(0, 0, 0, 0)


@pytest.mark.parametrize(
    ("managed", "batch"), [(3840, 1), (17841, 3), (23277, 3), (50697, 15), (114465, 31), (131072, 31), (226144, 63), (1 << 30, 63)]
)
def test_batch(managed, batch):
    assert wm.pcp_batch(managed) == batch


@pytest.mark.parametrize(
    ("managed", "cpus", "threshold"),
    [(3840, 1, 2), (114465, 1, 6), (226720, 1, 8), (756311, 1, 12), (3840, 4, 6), (500762, 4, 30), (1 << 28, 64, 125)],
)
def test_stat_threshold(managed, cpus, threshold):
    assert wm.stat_threshold(managed, cpus) == threshold


def test_pressure_threshold():
    assert [wm.pressure_threshold(wm.Watermarks(100, low, 0, 0), 4) for low in (101, 180, 2000)] == [1, 20, 125]


def test_mobility_grouping_and_limits_of_overcommit():
    assert [wm.mobility_grouping_disabled(n) for n in (2559, 2560)] == [True, False]
    assert wm.commit_limit(473216 // 4, 0) * 4 == 236608
    assert wm.commit_limit(1000, 77, overcommit_ratio=80) == 877
    assert wm.commit_limit(1000, 77, overcommit_kbytes=400) == 177


def test_mem_available_of_a_recorded_machine():
    # 512M: MemFree 426496 kB, no file pages on the lists, 177 reclaimable slab pages; totalreserve 438 + 32 + 986
    t = ZoneTuning(recorded.layout(recorded.case("zones-512m")))
    assert t.totalreserve_pages == 438 + 32 + 986
    assert wm.mem_available(426496 // 4, 0, 177, t.totalreserve_pages, 822 + 27) * 4 == 421028


writes = st.one_of(
    st.tuples(st.just("vm.min_free_kbytes"), st.integers(-5, 1 << 20)),
    st.tuples(st.just("vm.watermark_scale_factor"), st.integers(-5, 3500)),
    st.tuples(st.just("vm.percpu_pagelist_high_fraction"), st.integers(-1, 200)),
    st.tuples(
        st.just("vm.lowmem_reserve_ratio"), st.lists(st.integers(-1, 300), min_size=1, max_size=6).map(lambda v: " ".join(map(str, v)))
    ),
    st.tuples(st.just("thp"), st.booleans()),
)


@given(st.lists(writes, max_size=12), st.sampled_from(recorded.NAMES))
def test_any_sequence_of_writes(sequence, name):
    t = ZoneTuning(recorded.layout(recorded.case(name)))
    for key, value in sequence:
        before = state(t)
        if key == "thp":
            t.thp_switched(value)
        elif t.write(key, value):
            assert state(t) == before
            continue
        for w, p, managed, z in zip(t.wmark, t.pcp, t.managed, t.zones):
            assert w.promo - w.high == w.high - w.low == w.low - w.min >= managed * int(t.read("vm.watermark_scale_factor")) // 10000 - 1
            assert 4 * p.batch <= p.high_min
            if t.read("vm.percpu_pagelist_high_fraction") == "0":
                assert p.high_min == max(4 * p.batch, w.low // t.layout.cpus_sharing(z.node))
            else:
                assert p.high_min == p.high_max
        if key != "vm.lowmem_reserve_ratio":
            assert t.lowmem_reserve == before["lowmem_reserve"]
        else:
            assert t.wmark == before["wmark"]
        if key == "vm.min_free_kbytes":
            assert t.read(key) == str(value)


def test_build_machine_by_formulas_alone():
    cfg, lay, boot = build_machine(machine_from_table({"preset": "desktop-16g"}))
    t = ZoneTuning(lay, cfg.options.transparent_hugepage)
    assert t.read("vm.min_free_kbytes") == str(3 * 512 * 11 * 4)
    assert [z.nr_free for z in boot.zones] == [z.managed for z in lay.zones]
