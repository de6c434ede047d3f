"""Counts by (task, page) in a hash table with linear probing: of the present window, of the last one, and since when.

A state has four int64 arrays of one length, a power of two: key (0: empty place), window (number of the window that nr_now counts), nr_now,
nr_last (accesses of the window before). Their room is reserved at the start and takes memory only where it is used.
"""

import numpy as np

from mmlab.kernels.jit import leaf
from mmlab.model.layout import reserve

TASK_SHIFT = 45  # a key is task << 45 | region + 1, 0 is an empty place: virtual page numbers have up to 45 bits
LOW_BITS = (1 << 31) - 1
MIX_LOW, MIX_HIGH = 1640531527, 1540483477  # odd 31-bit multipliers: products stay below 2^62, so int64 never overflows


def table_arrays(places: int) -> dict[str, np.ndarray]:
    """The four arrays."""
    return {name: reserve(places, "int64") for name in ("key", "window", "nr_now", "nr_last")}


@leaf
def key_of(task, region):
    """The key of a region (a page, or pages together) of a task."""
    return (task << TASK_SHIFT) | (region + 1)


@leaf
def place_of(keys, key):
    """Where a key is, or the empty place where it would go. The table must not be full."""
    places = len(keys)
    mixed = ((key & LOW_BITS) * MIX_LOW) ^ ((key >> 31) * MIX_HIGH)
    place = (mixed ^ (mixed >> 27)) & (places - 1)
    while keys[place] != key and keys[place] != 0:
        place = (place + 1) & (places - 1)
    return place


@leaf
def count_in_window(st, place, window):
    """One access in a window, which never goes back."""
    if st.window[place] != window:
        st.nr_last[place] = st.nr_now[place] if st.window[place] == window - 1 else 0
        st.nr_now[place] = 0
        st.window[place] = window
    st.nr_now[place] += 1


def last_window(state, key: np.ndarray, window: int) -> np.ndarray:
    """Accesses of each key (int64[n]) in the last whole window while `window` runs, int64[n]."""
    used = np.flatnonzero(state.key)
    order = used[np.argsort(state.key[used])]
    if not len(order):
        return np.zeros(len(key), np.int64)
    at = order[np.minimum(np.searchsorted(state.key[order], key), len(order) - 1)]
    counts = np.where(state.window[at] == window, state.nr_last[at], np.where(state.window[at] == window - 1, state.nr_now[at], 0))
    return np.where(state.key[at] == key, counts, 0)
