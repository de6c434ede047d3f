"""mremap(): what moves, what is checked before what, and what the books say afterwards."""

import re

import pytest
from mm_script import Ran

from mmlab.model import rows as r

pytestmark = pytest.mark.nojit
ENOMEM, EFAULT = 12, 14


def status(ran, label, field, task="A"):
    return int(re.search(rf"^{field}:\s+(\d+)", ran.files[f"{label}/{task}.status"].decode(), re.M)[1])


def committed(ran):
    return int(ran.sim.machine.sc[r.SC_COMMITTED_AS])


def test_a_fixed_target_is_gone_even_if_the_move_is_refused():
    """The old range has two VMAs, which cannot grow: EFAULT, after the target was unmapped."""
    ran = Ran("""
spawn A
mmap A r 32 anon
mprotect A r 10 5 r
mmap A t 64 anon
touch A t 0 64 w
mremap A r 50 to=t
touch A t 0 1 r
touch A t 50 1 r
""")
    assert ran.ret(6) == [-EFAULT]
    assert ran.op[7]["si_code"] == 1  # SEGV_MAPERR: the 50 pages that were asked for
    assert ran.ret(8) == [0]


def test_a_kept_mapping_counts_twice_against_the_limit():
    ran = Ran("""
spawn A
mmap A r 64 anon
touch A r 0 4 w
rlimit A as 2200K
mremap A r 64 dontunmap
rlimit A as 2500K
mremap A r 64 dontunmap
""")
    assert ran.ret(5, 7) == [-ENOMEM, 0]  # 1892 kB of its own, and 256 for each


def test_five_maps_must_be_left_for_a_fixed_target_four_for_any():
    """9 VMAs of its own, r, t and 14 more are 25."""
    script = """
spawn A
mmap A r 16 anon
mmap A wall 4 anon prot=x
mmap A t 16 anon
nmap A 13 1 alt
sysctl vm.max_map_count %d
mremap A r 20 to=t
mremap A r 24
"""
    assert Ran(script % 31).ret(7) == [0]
    assert Ran(script % 30).ret(7) == [-ENOMEM]
    assert Ran(script % 30).ret(8) == [0]
    assert Ran(script % 28).ret(8) == [-ENOMEM]


def test_only_the_growth_is_charged():
    """Room for the 8 MiB more, not for 24 MiB at once."""
    ran = Ran("""
spawn A
mmap A r 16M anon
mmap A wall 4 anon prot=r
sysctl vm.overcommit_memory 2
sysctl vm.overcommit_kbytes 40000
mremap A r 24M
mremap A r 48M
""", swap="0")
    assert ran.ret(6, 7) == [0, -ENOMEM]
    before = committed(ran)
    ran.sim.exit("A")
    assert before - committed(ran) >= 24 * 256


def test_the_peak_is_what_was_mapped_at_once():
    ran = Ran("""
spawn A
mmap A r 4M anon
snapshot s0
mmap A wall 4 anon prot=r
mremap A r 6M
snapshot s1
mremap A r 1M
snapshot s2
""")
    size = status(ran, "s0", "VmSize")
    assert [status(ran, label, "VmPeak") for label in ("s0", "s1", "s2")] == [size, size + 16 + 2048, size + 16 + 2048]
    assert status(ran, "s2", "VmSize") == size + 16 - 3072


def test_tables_at_the_new_place_cover_every_part_of_a_table_at_the_old():
    """520 pages across a border of 2 MiB, 15 below it, go to an aligned place: 512 and 8. The second table is made although nothing goes there."""
    ran = Ran("""
spawn A
mmap A r 520 anon at=0x2000001f1000
touch A r 3 100 w
snapshot s0
mmap A wall 1 anon at=r+520
mremap A r 1024
snapshot s1
""")
    assert status(ran, "s1", "VmPTE") - status(ran, "s0", "VmPTE") == 8 - 4  # of the old ones the lower goes, the wall keeps the other


def test_tables_move_whole_where_both_places_lie_alike():
    """4 MiB from 4 kB above a border to such a place: the first table moves too, since nothing else is in it."""
    ran = Ran("""
spawn A
mmap A t 4M anon prot=n at=0x300000001000
mmap A r 4M anon at=0x200000001000
touch A r 0 4M w
mremap A r 4M to=t
touch A r 0 4M r
""")
    assert ran.minflt(6) == [0]


def test_what_was_never_written_takes_the_offset_of_its_new_place_and_merges_there():
    ran = Ran("""
spawn A
mmap A low 16 anon prot=r at=0x200000000000
mmap A t 16 anon prot=n at=0x200000010000
mmap A r 16 anon prot=r at=0x300000000000
mremap A r 16 to=t
snapshot s0
mmap A k 16 anon prot=r at=0x400000010000
mmap A u 16 anon prot=n at=0x400000000000
mremap A k 16 dontunmap to=u
snapshot s1
""")
    assert re.search(r"^200000000000-200000020000 r--p", ran.files["s0/A.maps"].decode(), re.M)
    # the source is kept and is no neighbour to merge with
    assert re.search(r"^400000000000-400000010000 r--p", ran.files["s1/A.maps"].decode(), re.M)
