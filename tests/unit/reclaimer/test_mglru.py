"""The multi-generational LRU by its ops: where pages start, how generations move, what eviction keeps, what refaults teach."""

import pytest
from lru_machine import ANON_PAGE, DIRECT, FILE_PAGE, LruMachine
from mmlab_linux.reclaimer.mglru import MGLRU
from mmlab_linux.reclaimer.mglru.control import REFAULTED, ctrl_cell
from mmlab_linux.reclaimer.mglru.debugfs import lru_gen_command
from mmlab_linux.reclaimer.mglru.lrugen import MAX_NR_GENS, MAX_SEQ, MIN_SEQ, NR_STRIDE

from mmlab.model import rows as r
from mmlab.model.const import EINVAL, LRU_ACTIVE_FILE, LRU_INACTIVE_FILE
from mmlab.model.gfp import MAX_NR_ZONES
from mmlab.model.page import PG_MLOCKED, PG_REFERENCED, PG_WORKINGSET

ANON, FILE = 0, 1


class Machine(LruMachine):
    def __init__(self, **more):
        super().__init__(MGLRU, **more)
        self.state = self.machine.states["reclaimer"]

    def fault(self, pfns, flags=FILE_PAGE):
        """Pages that a page fault brings in."""
        self.machine.sc[r.SC_IN_LRU_FAULT] = 1
        self.add(pfns, flags)
        self.machine.sc[r.SC_IN_LRU_FAULT] = 0
        self.op("drain", 0)

    def read(self, pfns, flags=FILE_PAGE):
        """Pages that come otherwise."""
        self.add(pfns, flags)
        self.op("drain", 0)

    def gens(self, kind=FILE):
        """Pages by generation, from seq 0, 4, 8 ... on."""
        return self.state.nr[:NR_STRIDE].reshape(MAX_NR_GENS, 2, MAX_NR_ZONES)[:, kind].sum(axis=1).tolist()

    def seqs(self):
        """(max_seq, min_seq of anonymous pages, of file pages)."""
        return tuple(self.state.gen[[MAX_SEQ, MIN_SEQ + ANON, MIN_SEQ + FILE]].tolist())

    def command(self, what, seq, option=0, more=1):
        return self.machine.run_policy("reclaimer", lru_gen_command, what, 0, seq, option, more)

    def checked(self):
        assert self.op("check") == 0


def test_where_pages_start():
    lru = Machine(swap=1000)
    lru.fault(range(100))
    lru.read(range(100, 130))
    lru.read(range(200, 205), ANON_PAGE)
    assert lru.seqs() == (3, 0, 0)
    assert lru.gens(FILE) == [0, 30, 0, 100]  # read() pages in min_seq + 1, faulted ones in max_seq
    assert lru.gens(ANON) == [0, 0, 5, 0]  # not in the swap cache: max_seq - 1
    assert (lru.size(LRU_INACTIVE_FILE), lru.size(LRU_ACTIVE_FILE)) == (30, 100)
    lru.checked()


def test_an_mlocked_page_is_unevictable():
    lru = Machine()
    lru.read(range(10), FILE_PAGE | PG_MLOCKED)
    assert lru.gens() == [0, 0, 0, 0] and lru.size(4) == 10
    lru.checked()


def test_aging_makes_a_generation_and_merges_the_oldest_two():
    lru = Machine()
    lru.fault(range(100))
    lru.read(range(100, 130))
    assert lru.command(0, 3) == 0
    assert lru.seqs() == (4, 1, 1)
    assert lru.gens() == [0, 30, 0, 100]  # seq 0 was empty; seq 4 is new and empty, in the place of seq 0
    assert (lru.size(LRU_INACTIVE_FILE), lru.size(LRU_ACTIVE_FILE)) == (30, 100)  # active: 4 and 3
    assert lru.command(0, 4) == 0
    assert (lru.size(LRU_INACTIVE_FILE), lru.size(LRU_ACTIVE_FILE)) == (130, 0)
    assert lru.command(0, 5) == 0 and lru.seqs() == (6, 3, 3)
    assert lru.gens() == [0, 0, 0, 130]  # seq 1 was merged into 2, then 2 into 3
    lru.checked()


def test_aging_of_another_seq_than_the_youngest():
    lru = Machine()
    assert lru.command(0, 2) == 0 and lru.seqs() == (3, 0, 0)  # less: nothing
    assert lru.command(0, 4) == -EINVAL
    assert lru.command(1, 2) == -EINVAL  # one of the two youngest cannot be evicted


def test_eviction_takes_the_oldest_generation_from_its_tail():
    lru = Machine()
    lru.read(range(200))
    for seq in (3, 4, 5):
        lru.command(0, seq)
    assert lru.command(1, 3, 0, 64) == 0
    assert lru.freed() == list(range(64))  # a batch, the pages that came first
    lru.checked()


def test_a_pass_looks_at_its_share_in_batches():
    lru = Machine()
    lru.read(range(4096))
    assert lru.shrink(6) == 64  # 4096 >> 6
    assert lru.vmstat("pgscan_direct") == lru.vmstat("pgsteal_file") == 64
    assert lru.shrink(12) == 0  # 4032 >> 12
    lru.checked()


def test_at_the_first_priority_nothing_is_aged():
    lru = Machine()
    lru.fault(range(4096))
    lru.shrink(12)
    assert lru.seqs() == (3, 0, 2)  # two empty generations went, two must be left
    lru.shrink(12)
    assert lru.seqs()[0] == 3
    lru.shrink(11)
    assert lru.seqs()[0] == 4 and lru.freed() == []
    lru.checked()


def test_a_young_page_is_kept_and_becomes_the_youngest():
    lru = Machine()
    lru.read(range(640))
    lru.access(range(64))
    assert lru.shrink(3) == 64  # 640 >> 3 = 80 looked at in two batches, the first of them all young
    assert lru.freed() == list(range(64, 128))
    assert lru.gens()[3] == 64
    lru.checked()


def test_uses_through_file_descriptors_count_up_to_five():
    lru = Machine()
    lru.read([7])
    seen = []
    for _ in range(6):
        lru.op("folio_accessed", 7)
        flags = int(lru.flags[7])
        seen.append((bool(flags & PG_REFERENCED), bool(flags & PG_WORKINGSET), int(lru.state.refs[7])))
    assert seen == [(True, False, 0), (True, True, 0), (True, True, 1), (True, True, 2), (True, True, 3), (True, True, 3)]


def test_pages_used_most_are_protected_whatever_the_tier_limit():
    lru = Machine()
    lru.read(range(640))
    for _ in range(5):
        lru.each("folio_accessed", range(64))
    lru.shrink(0)
    kept = set(range(640)) - set(lru.freed())
    assert set(range(64)) <= kept
    assert lru.vmstat("pgrefill") >= 64


def test_a_tier_that_refaults_more_than_the_first_is_protected():
    lru = Machine()
    lru.read(range(640))
    lru.each("folio_accessed", range(64))
    lru.each("folio_accessed", range(64))  # tier 1
    lru.state.ctrl[ctrl_cell(0, FILE, 1) + REFAULTED] = 128  # halved when the empty seq 0 goes: 64, as many as matter
    lru.shrink(4)
    assert not set(range(64)) & set(lru.freed())
    lru.checked()


def test_until_64_refaults_file_pages_go_first_whatever_the_swappiness():
    lru = Machine(swap=10_000)
    lru.read(range(1000))
    lru.read(range(1000, 2000), ANON_PAGE)
    for seq in (3, 4, 5):
        lru.command(0, seq, 1)
    lru.machine.sc[r.SC_SWAPPINESS] = 199
    lru.shrink(5)
    assert max(lru.freed()) < 1000
    lru.state.ctrl[ctrl_cell(0, FILE, 0) + REFAULTED] = 1000
    lru.shrink(5)
    assert min(lru.freed()) >= 1000
    lru.checked()


@pytest.mark.parametrize(("swappiness", "first"), [(0, FILE), (1, FILE), (200, ANON)])
def test_swappiness_at_its_ends(swappiness, first):
    lru = Machine(swap=10_000)
    lru.read(range(1000))
    lru.read(range(1000, 2000), ANON_PAGE)
    for seq in (3, 4, 5):
        lru.command(0, seq, 1)
    lru.machine.sc[r.SC_SWAPPINESS] = swappiness
    lru.shrink(5)
    assert (max(lru.freed()) < 1000) == (first == FILE)


def test_a_refault_is_recent_only_in_the_same_oldest_generation():
    lru = Machine()
    lru.read(range(300))
    shadow = lru.op("eviction_shadow", 5)
    assert lru.op("workingset_refault", 5, shadow) == 4  # counted as activate, not made active
    assert lru.state.ctrl[ctrl_cell(0, FILE, 0) + REFAULTED] == 1
    lru.machine.sc[r.SC_IN_LRU_FAULT] = 1
    assert lru.op("workingset_refault", 5, shadow) == 4 | 2
    assert int(lru.state.refs[5]) == 3
    lru.machine.sc[r.SC_IN_LRU_FAULT] = 0
    lru.command(0, 3)
    assert lru.op("workingset_refault", 5, shadow) == 0


def test_deactivated_and_rotated_pages():
    lru = Machine()
    lru.fault(range(10))
    lru.op("folio_deactivate", 3)
    lru.op("drain", 0)
    assert lru.gens() == [0, 1, 0, 9] and lru.vmstat("pgdeactivate") == 1
    lru.op("folio_rotate", 4)
    lru.op("drain", 0)
    assert lru.gens() == [1, 1, 0, 8] and lru.vmstat("pgrotated") == 1
    lru.checked()


def test_removed_pages_leave_generations_and_batches():
    lru = Machine()
    lru.read(range(100))
    lru.add(range(100, 110))
    lru.each("folio_removed", [5, 103])
    lru.op("drain", 0)
    assert sum(lru.gens()) == 108
    lru.checked()


def test_kswapd_begins_where_its_first_scan_is_about_what_it_wants():
    lru = Machine()
    lru.read(range(4096))
    lru.machine.sc[r.SC_SCAN_PRIORITY] = 12
    lru.op("prepare_scan", 0, 12, 128, DIRECT)
    assert int(lru.machine.sc[r.SC_SCAN_PRIORITY]) == 6  # 4096 pages, 128 wanted: fls 13 - 1 - 7 is 5, at least half of 12
    lru.op("prepare_scan", 0, 12, 32, DIRECT)  # less than a batch: as it is
    assert int(lru.machine.sc[r.SC_SCAN_PRIORITY]) == 12
