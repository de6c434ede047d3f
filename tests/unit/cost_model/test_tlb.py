"""The TLB of a cost model: what hits, what a miss costs, and that machines without one do not look anything up."""

from collections import OrderedDict

import pytest
from mmlab_linux.cost_model.nvme_desktop import NVME_DESKTOP
from mmlab_linux.cost_model.skylake import SKYLAKE
from mmlab_linux.cost_model.vm_guest import VM_GUEST
from mmlab_linux.cost_model.zen import ZEN

from mmlab._engine import tlb
from mmlab._engine.sampler import Sampler
from mmlab._engine.stream_run import StreamRun
from mmlab.model import rows as r
from mmlab.simulation import Simulation
from mmlab.workload.generators import make_generator

BASE = 0x10000000000
MIB = 1 << 20


def machine(thp="never", cpus=1, memory="64M", **params):
    policies = {"thp": {"use": thp}, "cost_model": {"use": "nvme_desktop", "params": params}}
    sim = Simulation.from_table({"memory": memory, "bare": True, "cpus": cpus}, policies=policies)
    sim.spawn("A")
    assert sim.mmap("A", 16 * MIB, flags=["fixed"], addr=BASE) == BASE
    return sim


def counts(sim):
    return tlb.counted(sim.machine)


def test_presets():
    assert SKYLAKE.tlb(SKYLAKE.params()) == ((64, 4), (32, 4), (1536, 12))
    assert ZEN.tlb(ZEN.params()) == ((64, 64), (0, 4), (1536, 12))
    times = [[model.costs(model.params())[name] for name in ("tlb_l2_hit", "tlb_miss", "tlb_miss_huge")] for model in (SKYLAKE, ZEN)]
    assert times == [[9 // 4, (9 + 44) // 4, (9 + 12) // 4], [2, 2 + 11, round(2 + 4.6)]]  # cycles at 4 GHz; ns
    for model in (VM_GUEST, NVME_DESKTOP):
        assert tlb.entries_of(tlb.geometry_of(model, model.params())) == 0


def test_sets_must_be_whole():
    with pytest.raises(ValueError, match=r"tlb_l2_entries: must be a multiple of tlb_l2_ways \(12\), got 100"):
        SKYLAKE.params(tlb_l2_entries=100)
    with pytest.raises(ValueError, match="tlb_l1_entries: must be at least 1"):
        NVME_DESKTOP.params(tlb_l2_entries=12)


def test_least_recently_used_entry_leaves():
    sim = machine(tlb_l1_entries=2, tlb_l1_ways=2)
    sim.touch("A", BASE, 3, 1)  # first touches: a fault, then the access that misses
    assert counts(sim)["tlb_misses"] == 3
    for _ in range(4):
        sim.touch("A", BASE, 3, 1)  # three pages in turns through two entries
    assert counts(sim) == {"tlb_accesses": 15, "tlb_l1_misses": 15, "tlb_misses": 15, "tlb_misses_huge": 0, "tlb_ns": 15 * 30}
    for _ in range(4):
        sim.touch("A", BASE + 4096, 2, 1)  # both are there
    assert counts(sim)["tlb_misses"] == 15
    sim.touch("A", BASE, 1, 1)  # the older of the two gives way
    sim.touch("A", BASE + 8192, 1, 1)
    assert counts(sim)["tlb_misses"] == 16
    assert sim.check_state() == []


def test_sets_and_second_level():
    """Pages 0 and 2 share a set of one way; the second level has both afterwards."""
    sim = machine(tlb_l1_entries=2, tlb_l1_ways=1, tlb_l2_entries=4, tlb_l2_ways=4, tlb_l2_hit_ns=5)
    for page in (0, 1, 2):
        sim.touch("A", BASE + page * 4096, 1, 1)
    before = counts(sim)
    assert (before["tlb_misses"], before["tlb_l1_misses"]) == (3, 3)
    began = sim.now_ns
    for page in (0, 2, 0, 2, 1):
        sim.touch("A", BASE + page * 4096, 1, 1)
    after = counts(sim)
    assert after["tlb_misses"] == 3
    assert after["tlb_l1_misses"] == 3 + 4  # page 1 has its set for itself
    assert after["tlb_ns"] - before["tlb_ns"] == 4 * 5
    assert sim.now_ns - began == 5 * 4 + 4 * 5  # five hits of memory, four of the second level


def test_a_huge_page_is_one_entry():
    sim = machine("always", tlb_l1_entries=4, tlb_l1_huge_entries=1, tlb_l1_huge_ways=1, tlb_l2_entries=0)
    sim.touch("A", BASE, 1024, 1)
    assert counts(sim)["tlb_misses"] == counts(sim)["tlb_misses_huge"] == 2
    assert counts(sim)["tlb_ns"] == 2 * 10
    small = machine("never", tlb_l1_entries=4, tlb_l1_huge_entries=1, tlb_l1_huge_ways=1)
    small.touch("A", BASE, 1024, 1)
    assert counts(small)["tlb_misses"] == 1024


def test_a_changed_mapping_does_not_hit():
    """After the split of a huge page its small pages are other translations; a page that moved is, too."""
    sim = machine("always", tlb_l1_entries=512)
    sim.touch("A", BASE, 512, 1)
    assert counts(sim)["tlb_misses"] == 1
    sim.munmap("A", BASE + 4096, 4096)
    sim.touch("A", BASE, 1, 1)
    assert counts(sim)["tlb_misses"] == 2
    sim.fork("A", "B")
    sim.touch("A", BASE, 1, 1)  # copied: another frame
    assert counts(sim)["tlb_misses"] == 3
    assert sim.check_state() == []


def test_address_spaces_and_cpus_are_apart():
    sim = machine(tlb_l1_entries=64, cpus=2)
    sim.touch("A", BASE, 1, 1)
    sim.spawn("B", cpu=1)
    sim.mmap("B", MIB, flags=["fixed"], addr=BASE)
    sim.touch("B", BASE, 1, 1)
    assert counts(sim)["tlb_misses"] == 2
    sim.touch("A", BASE, 1, 1)
    sim.touch("B", BASE, 1, 1)
    assert counts(sim)["tlb_misses"] == 2


def plain_misses(pages, l1, l2):
    """Misses of an OrderedDict a set; l1, l2: (sets, ways)."""
    levels = [[OrderedDict() for _ in range(sets)] for sets, _ in (l1, l2)]

    def use(level, ways, page):
        entries = levels[level][page % len(levels[level])]
        hit = page in entries
        entries[page] = 1
        entries.move_to_end(page)
        if len(entries) > ways:
            entries.popitem(last=False)
        return hit

    first = second = 0
    for page in pages:
        if not use(0, l1[1], page):
            first += 1
            second += not use(1, l2[1], page)
    return first, second


def run_stream(sim, stream):
    return StreamRun(sim, stream, Sampler(sim, 1 << 62)).run(lambda *_: None)


@pytest.mark.parametrize("geometry", [(16, 4, 24, 12), (8, 8, 60, 5)])
def test_equals_a_plain_one(geometry):
    stream = make_generator("zipf", {"pages": 200, "events": 4000, "write_fraction": 0.5, "alpha": 0.7}, "params").stream(3)
    sim = Simulation.from_table(
        {"memory": "64M", "bare": True},
        policies={"thp": {"use": "never"}, "cost_model": {"use": "zen", "params": dict(zip(("tlb_l1_entries", "tlb_l1_ways", "tlb_l2_entries", "tlb_l2_ways"), geometry))}},
    )  # fmt: skip
    run_stream(sim, stream)
    # a read of an untouched page maps the zero page, and the first write another frame: its entry does not hit
    pages, written, read, changed = [], set(), set(), 0
    words = stream.words[stream.words & 15 < 3]
    for word in words.tolist():
        pages.append(word >> 16)
    first, second = plain_misses(pages, (geometry[0] // geometry[1], geometry[1]), (geometry[2] // geometry[3], geometry[3]))
    for word in words.tolist():
        page = word >> 16
        if word & 15 == 1 and page not in written:
            changed += page in read
            written.add(page)
        elif page not in written:
            read.add(page)
    found = counts(sim)
    assert found["tlb_accesses"] == 4000
    assert first <= found["tlb_l1_misses"] <= first + changed
    assert second <= found["tlb_misses"] <= second + changed
    assert found["tlb_misses"] > second  # some of them were still there


def test_off_by_default():
    sim = machine()
    assert sim.machine.sc[r.SC_WANTS_ACCESS] == 0  # the plain loop replays
    sim.touch("A", BASE, 8, 1)
    assert counts(sim) == {}
    assert "tlb_misses" not in Sampler(sim, 1 << 62).names


def test_bloat_is_what_nobody_touched():
    sim = machine("always", tlb_l1_entries=64)
    sim.touch("A", BASE, 100, 1)
    sim.touch("A", BASE + 4 * MIB, 1, 1)
    assert sim.rss_pages() == 1024
    assert sim.bloat_pages() == 1024 - 101
    sim.munmap("A", BASE, 2 * MIB)
    assert sim.bloat_pages() == 511
