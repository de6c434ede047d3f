"""FIFO: the page that came first goes first, whatever was done with it since.

Models: no kernel; the baseline of every textbook, e.g. Belady, "A study of replacement algorithms" (1966). A page that cannot be freed
(locked, under write-back) goes to the new end. O(1) a victim.
"""

from mmlab.policies import Reclaimer
from mmlab_rivals.reclaimer.one_list import (
    POSITION, check, explain_page, folio_added, folio_deactivate, folio_removed, folio_rotate, new_state, nr_lru_pages, shrink_oldest,
)

FIFO = Reclaimer(
    name="fifo",
    summary="first in, first out",
    models="Belady 1966",
    left_out="any use of accesses",
    level="L2",
    new_state=new_state,
    folio_added=folio_added,
    folio_removed=folio_removed,
    folio_deactivate=folio_deactivate,
    folio_rotate=folio_rotate,
    shrink_node=shrink_oldest,
    nr_lru_pages=nr_lru_pages,
    check=check,
    explains=(POSITION,), explain_page=explain_page,
)
