"""The inner loop of kmem_trace.py: lines of a trace's text to numbers, several million lines a second.

A line is looked at from its event's name on: the name follows ``": "``, perhaps with ``kmem:`` in front, and ends with a colon; what
comes before is the CPU in brackets and the time, what follows are ``key=value`` pairs in any order.
"""

from __future__ import annotations

import numpy as np

from mmlab.kernels.jit import leaf, routine
from mmlab.model.const import MAX_ORDER
from mmlab.workload.allocations import ALLOC_OBJECT, ALLOC_PAGES, FREE_OBJECT, FREE_PAGES, KMALLOC

FREE_BATCHED = FREE_OBJECT + 1  # beside mm_page_free of the same page in kernels that have both
# state, int64: where the next line begins, lines and rows done, the range of text that a stop is about, counts
AT, LINE, ROWS, FROM, TO, FAILED, NOTHING, OTHER = range(8)
NR_STATE = 8
# why _scan() stops
DONE, UNKNOWN_GFP, MISSING, BAD_ORDER, LOST = range(5)

_MASK = (1 << 30) - 1
_GFP_MASK = (1 << 55) - 1
_SPACE, _NEWLINE, _COLON, _EQUALS, _OPEN, _CLOSE, _DOT, _UNDERSCORE = b" \n:=[]._"
GFP_PLACES = 4096


def name_hash(name: str) -> int:
    """What _scan() makes of a name."""
    value = 0
    for letter in name.encode():
        value = (value * 131 + letter) & _MASK
    return value


def gfp_hash(text: bytes) -> int:
    """What _scan() makes of a gfp text, never 0."""
    value = 1
    for letter in text:
        value = (value * 131 + letter) & _GFP_MASK
    return value


_PAGE_ALLOC, _PAGE_FREE, _PAGE_FREE_DIRECT = (name_hash(name) for name in ("mm_page_alloc", "mm_page_free", "mm_page_free_direct"))
_BATCHED, _PAGEVEC = name_hash("mm_page_free_batched"), name_hash("mm_pagevec_free")
_KMALLOC, _KMALLOC_NODE, _KFREE = (name_hash(name) for name in ("kmalloc", "kmalloc_node", "kfree"))
_CACHE_ALLOC, _CACHE_ALLOC_NODE, _CACHE_FREE = (name_hash(name) for name in ("kmem_cache_alloc", "kmem_cache_alloc_node", "kmem_cache_free"))
_PFN, _ORDER, _GFP, _PTR, _BYTES, _NODE = (name_hash(name) for name in ("pfn", "order", "gfp_flags", "ptr", "bytes_req", "node"))
_LOST = tuple(b"LOST")
_DROPPED = tuple(b"DROPPED")
_ENTRIES = tuple(b"entries-")


@leaf
def _event(name):
    """The op that an event's name stands for, or -1."""
    if name == _PAGE_ALLOC:
        return ALLOC_PAGES
    if name == _PAGE_FREE or name == _PAGE_FREE_DIRECT:
        return FREE_PAGES
    if name == _KMALLOC or name == _KMALLOC_NODE:
        return KMALLOC
    if name == _KFREE or name == _CACHE_FREE:
        return FREE_OBJECT
    if name == _CACHE_ALLOC or name == _CACHE_ALLOC_NODE:
        return ALLOC_OBJECT
    if name == _BATCHED or name == _PAGEVEC:
        return FREE_BATCHED
    return -1


@leaf
def _digit(letter, base):
    """The digit's value, or -1."""
    if 48 <= letter <= 57:
        return letter - 48
    if base == 16 and 97 <= letter <= 102:
        return letter - 87
    return -1


@leaf
def _number(text, at, end, base):
    """A number's low 59 bits (0x in front makes it hexadecimal), "(nil)" and its like are 0; -1 for anything else."""
    if at < end and text[at] == 40:
        return 0 if end - at > 1 and text[at + 1] == 110 else -1
    if end - at > 2 and text[at] == 48 and text[at + 1] == 120:
        at += 2
        base = 16
    value = -1
    while at < end:
        digit = _digit(np.int64(text[at]), base)
        if digit < 0:
            return -1
        value = (max(value, 0) & ((1 << 55) - 1)) * base + digit
        at += 1
    return value


@leaf
def _time_ns(text, start, colon):
    """The time in front of the event's name, in ns, or -1."""
    at = colon
    while at > start and text[at - 1] != _SPACE:
        at -= 1
    seconds = 0
    scale = 0
    while at < colon:
        letter = np.int64(text[at])
        if letter == _DOT and scale == 0:
            scale = 1_000_000_000
        elif _digit(letter, 10) < 0:
            return -1
        elif scale == 0:
            seconds = seconds * 10 + letter - 48
        elif scale >= 10:
            scale //= 10
            seconds = seconds * 10 + letter - 48
        at += 1
    return seconds * scale if scale else -1


@leaf
def _stands_at(text, at, end, word):
    """1 if the word, a tuple of letters, stands there."""
    if end - at < len(word):
        return 0
    for i in range(len(word)):
        if text[at + i] != word[i]:
            return 0
    return 1


@leaf
def _tells_of_loss(text, start, end):
    """1 if a line that is no event says how many events were lost."""
    for at in range(start, end):
        letter = np.int64(text[at])
        if letter == _LOST[0] and _stands_at(text, at, end, _LOST):
            return 1
        if letter == _DROPPED[0] and _stands_at(text, at, end, _DROPPED):
            return 1
        if letter == _ENTRIES[0] and _stands_at(text, at, end, _ENTRIES):
            return 1
    return 0


@leaf
def _gfp_place(text, start, end, gfps):
    """Place of a gfp text in the table: its entry, or the free one where it belongs."""
    key = 1
    for at in range(start, end):
        key = (key * 131 + np.int64(text[at])) & _GFP_MASK
    place = key % GFP_PLACES
    while gfps[2 * place] != 0 and gfps[2 * place] != key:
        place = (place + 1) % GFP_PLACES
    return place


@routine
def scan(text, stop, op, ident, arg, gfp, cpu, node, time_ns, gfps, state):
    """Read whole lines of text (uint8) from state[AT] to stop; why it stopped. A line that it stopped at is not counted yet.

    op uint8, the other columns int64: filled from state[ROWS] on. gfps: int64[2 * GFP_PLACES], hash of a text and its bits, open addressing.
    """
    at = state[AT]
    row = state[ROWS]
    while at < stop:
        state[AT], state[ROWS] = at, row
        end = at
        while text[end] != _NEWLINE:
            end += 1
        found = -1
        on_cpu = 0
        j = at
        k = at
        while j + 1 < end:
            letter = np.int64(text[j])
            if letter == _COLON and text[j + 1] == _SPACE:
                k = j + 2
                while k < end and text[k] == _SPACE:
                    k += 1
                if end - k > 5 and text[k + 4] == _COLON and text[k] == 107 and text[k + 1] == 109:
                    k += 5
                name = 0
                while k < end and (text[k] == _UNDERSCORE or 97 <= text[k] <= 122):
                    name = (name * 131 + np.int64(text[k])) & _MASK
                    k += 1
                if k < end and text[k] == _COLON:
                    found = _event(name)
                    break
            elif letter == _OPEN:
                value = 0
                i = j + 1
                while i < end and _digit(np.int64(text[i]), 10) >= 0:
                    value = value * 10 + np.int64(text[i]) - 48
                    i += 1
                if i > j + 1 and text[i] == _CLOSE:
                    on_cpu = value
            j += 1
        if found < 0:
            if _tells_of_loss(text, at, end):
                state[FROM], state[TO] = at, end
                return LOST
            state[OTHER] += 1
            state[LINE] += 1
            at = end + 1
            continue
        k += 1
        pfn = order = ptr = size = gfp_from = gfp_to = -1
        on_node = -1
        while k < end:
            while k < end and text[k] == _SPACE:
                k += 1
            key = 0
            while k < end and text[k] != _EQUALS and text[k] != _SPACE:
                key = (key * 131 + np.int64(text[k])) & _MASK
                k += 1
            if k >= end or text[k] != _EQUALS:
                continue
            v = k + 1
            k = v
            while k < end and text[k] != _SPACE and text[k] != 13:
                k += 1
            if key == _PFN:
                pfn = _number(text, v, k, 10)
            elif key == _ORDER:
                order = _number(text, v, k, 10)
            elif key == _PTR:
                ptr = _number(text, v, k, 16)
            elif key == _BYTES:
                size = _number(text, v, k, 10)
            elif key == _NODE:
                on_node = _number(text, v, k, 10)
            elif key == _GFP:
                gfp_from, gfp_to = v, k
            while k < end and text[k] == 13:
                k += 1
        state[FROM], state[TO] = at, end
        pages = found == ALLOC_PAGES or found == FREE_PAGES or found == FREE_BATCHED
        if found == FREE_BATCHED and order < 0:
            order = 0
        who = pfn if pages else ptr
        amount = order if pages else size
        allocates = found == ALLOC_PAGES or found == ALLOC_OBJECT or found == KMALLOC
        if who < 0 or (found != FREE_OBJECT and amount < 0) or (allocates and gfp_from < 0):
            return MISSING
        if pages and order > MAX_ORDER:
            return BAD_ORDER
        if who == 0 or (found == KMALLOC and amount == 0):
            state[FAILED if allocates else NOTHING] += 1
            state[LINE] += 1
            at = end + 1
            continue
        flags = 0
        if allocates:
            place = _gfp_place(text, gfp_from, gfp_to, gfps)
            if gfps[2 * place] == 0:
                state[FROM], state[TO] = gfp_from, gfp_to
                return UNKNOWN_GFP
            flags = gfps[2 * place + 1]
        op[row] = found
        ident[row], arg[row], gfp[row] = who, max(amount, 0), flags
        cpu[row], node[row], time_ns[row] = on_cpu, on_node, _time_ns(text, at, j)
        row += 1
        state[LINE] += 1
        at = end + 1
    state[AT], state[ROWS] = at, row
    return DONE
