"""What page scanners keep a frame: which page it holds, and in which of the last scans that was found touched."""

from typing import Any

import numpy as np

from mmlab.kernels.jit import leaf
from mmlab.model.page import page_index, page_mapping

# an owner, which page a frame held at the last scan, is mapping << 36 | index, plus 1
INDEX_BITS, INDEX_MASK, MAPPING_MASK = 36, (1 << 36) - 1, (1 << 27) - 1
HISTORY_MASK = (1 << 62) - 1


def history_columns(machine: Any) -> dict[str, np.ndarray]:
    """owner, history (a bit a scan, the last one lowest): a frame each."""
    return {"owner": machine.page_column("int64"), "history": machine.page_column("int64")}


@leaf
def page_owner(m, pfn):
    """A number for the page in the frame, wherever it moves: its mapping and its place there, plus 1."""
    return ((page_mapping(m, pfn) & MAPPING_MASK) << INDEX_BITS | (page_index(m, pfn) & INDEX_MASK)) + 1


@leaf
def same_page(m, st, pfn):
    """1 if the frame holds the page of the last scan, else 0: then it is known from now on, without a history."""
    owner = page_owner(m, pfn)
    if st.owner[pfn] == owner:
        return 1
    st.owner[pfn] = owner
    st.history[pfn] = 0
    return 0


@leaf
def note_scan(st, pfn, young):
    """One more scan, in which the page was found touched (1) or not (0)."""
    st.history[pfn] = ((st.history[pfn] << 1) & HISTORY_MASK) | young


def estimate(machine: Any, state: Any, pages: Any) -> tuple[np.ndarray, None]:
    """In how many of the last `window` scans each page was found touched."""
    recent = pages.of_folios(state.history)
    heat = np.zeros(len(pages), np.int64)
    for scan in range(int(state.window[0])):
        heat += recent >> scan & 1
    return heat, None
