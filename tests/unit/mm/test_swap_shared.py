"""Pages in the swap cache that several tasks share: who copies, whose page it stays, when its slot is freed."""

import pytest
from mm_script import Ran

pytestmark = pytest.mark.nojit


def test_a_writer_copies_and_the_readers_page_stays_clean_and_reclaimable():
    ran = Ran(
        """
spawn A
mmap A r 20 anon
touch A r 0 20 w
madvise A r 0 20 pageout
fork A B
touch A r 0 10 r
touch B r 0 10 w
snapshot s1
exit B
madvise A r 0 20 pageout
snapshot s2
""",
        swap="8M",
    )
    addr = ran.op[2]["addr"]
    assert ran.minflt(6, 7) == [10, 10]
    assert ran.smaps("s1", "A", addr, "Private_Clean") == 40 and ran.smaps("s1", "A", addr, "Private_Dirty") == 0
    assert ran.smaps("s2", "A", addr, "Rss") == 0 and ran.smaps("s2", "A", addr, "Swap") == 80


def test_the_last_user_takes_the_page_out_of_the_swap_cache_by_writing():
    ran = Ran(
        """
spawn A
mmap A r 10 anon
touch A r 0 10 w
madvise A r 0 10 pageout
fork A B
touch A r 0 10 r
exit B
snapshot s1
touch A r 0 10 w
snapshot s2
""",
        swap="8M",
    )
    assert ran.minflt(9) == [10]
    assert ran.vmstat("s1", "nr_swapcached") == 10 and ran.vmstat("s2", "nr_swapcached") == 0
