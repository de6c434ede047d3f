"""Circular doubly linked lists through mem_map, as include/linux/list.h: a head is a sentinel record behind the last frame.

Every function is O(1) if it does not say otherwise. A record must be on one list at most; list_del() leaves it unlinked (pointing at itself).
"""

from mmlab.kernels.jit import leaf
from mmlab.model.const import NR_POLICY_LISTS
from mmlab.model.page import page_next, page_prev, set_page_next, set_page_prev
from mmlab.model.rows import SC_POLICY_LISTS


@leaf
def list_init(m, head):
    """Make head an empty list."""
    set_page_next(m, head, head)
    set_page_prev(m, head, head)


@leaf
def list_empty(m, head):
    """1 if nothing is on the list."""
    return 1 if page_next(m, head) == head else 0


@leaf
def list_add(m, head, pfn):
    """Put pfn first."""
    after = page_next(m, head)
    set_page_next(m, head, pfn)
    set_page_prev(m, pfn, head)
    set_page_next(m, pfn, after)
    set_page_prev(m, after, pfn)


@leaf
def list_add_tail(m, head, pfn):
    """Put pfn last."""
    before = page_prev(m, head)
    set_page_prev(m, head, pfn)
    set_page_next(m, pfn, head)
    set_page_prev(m, pfn, before)
    set_page_next(m, before, pfn)


@leaf
def list_del(m, pfn):
    """Take pfn off its list."""
    before = page_prev(m, pfn)
    after = page_next(m, pfn)
    set_page_next(m, before, after)
    set_page_prev(m, after, before)
    set_page_next(m, pfn, pfn)
    set_page_prev(m, pfn, pfn)


@leaf
def list_find_del(m, head, pfn):
    """Take pfn off the list if it is there: 1 if it was. O(length)."""
    at = page_next(m, head)
    while at != head and at != pfn:
        at = page_next(m, at)
    if at == head:
        return 0
    list_del(m, pfn)
    return 1


@leaf
def list_first(m, head):
    """The first record, or -1."""
    pfn = page_next(m, head)
    return -1 if pfn == head else pfn


@leaf
def list_last(m, head):
    """The last record, or -1."""
    pfn = page_prev(m, head)
    return -1 if pfn == head else pfn


@leaf
def list_make_first(m, head, pfn):
    """Turn the list until pfn, which is on it, is first: what was before it follows the last."""
    if page_next(m, head) != pfn:
        list_del(m, head)
        list_add_tail(m, pfn, head)


@leaf
def list_make_last(m, head, pfn):
    """Turn the list until pfn, which is on it, is last."""
    if page_prev(m, head) != pfn:
        list_del(m, head)
        list_add(m, pfn, head)


@leaf
def policy_list(m, lruvec, number):
    """Head of list `number` (0 .. NR_POLICY_LISTS-1) that a lruvec (a node's, or its part in a cgroup) offers the reclaimer."""
    return m.sc[SC_POLICY_LISTS] + lruvec * NR_POLICY_LISTS + number


@leaf
def list_position(m, pfn):
    """How many records stand behind a linked pfn until the end of its list. O(list)."""
    position = 0
    at = page_next(m, pfn)
    while at < len(m.pagex) // 4:  # heads lie behind the last frame
        position += 1
        at = page_next(m, at)
    return position
