"""Request streams: cache traces, one object access a request. No pages, no tasks: what a reclaimer alone is replayed over.

`read_oracle_general` reads libCacheSim's oracleGeneral format, plain or compressed with zstd, in one pass and in blocks.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from attrs import field, frozen

from mmlab.errors import InputError
from mmlab.kernels.jit import leaf, routine
from mmlab.kernels.prefetch import prefetch
from mmlab.model.layout import reserve
from mmlab.workload.readers import existing_file

ORACLE_GENERAL = np.dtype([("time", "<u4"), ("id", "<u8"), ("size", "<u4"), ("next", "<i8")])
RECORD = ORACLE_GENERAL.itemsize
MAX_OBJECTS = (1 << 31) - 1
LOOK_AHEAD = 16  # records
_BLOCK = 1 << 16  # records read at a time
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_NO_WORD = 0xFFFFFFFF
MAX_INDEX_HIGH = 0xFFFF  # high half of an index: no trace has 2**48 requests, and text read as records has larger ones


@frozen(eq=False)
class Requests:
    """Requests in order.

    ids      uint32[n], the object of each, numbered from 0 in the order in which objects first appear
    objects  how many there are
    meta     where the stream comes from: `source`, `file`, and `unit`, what requests are
    """

    ids: np.ndarray
    objects: int
    meta: dict[str, Any] = field(factory=dict)

    def __len__(self) -> int:
        return len(self.ids)

    def repeated(self, times: int) -> Requests:
        """The same requests `times` times."""
        if times == 1:
            return self
        return Requests(np.tile(self.ids, times), self.objects, {**self.meta, "repeat": times})


def read_oracle_general(path: str | Path) -> Requests:
    """A cache trace in libCacheSim's oracleGeneral format: 24-byte little-endian records u32 time, u64 id, u32 size, i64 next access.

    Times, sizes and next accesses are not used: objects count as equally large, and next accesses are found from the ids.
    Raises InputError for a file that is missing, empty, cut short, damaged, or has a next access that is no later record.
    """
    path = existing_file(path)
    numbers, parts, done = ObjectNumbers(), [np.zeros(0, np.uint32)], 0
    for block in _blocks(path):
        if len(block) % RECORD:
            size = done * RECORD + len(block)
            raise InputError(f"{path}: ends within record {size // RECORD} ({size} bytes); an oracleGeneral trace is a multiple of {RECORD} bytes")
        words = np.frombuffer(block, "<u4")
        if (bad := _bad_next(words, done)) >= 0:
            found, at = int(np.frombuffer(block, ORACLE_GENERAL)["next"][bad]), done + bad
            raise InputError(f"{path}: record {at} (byte {at * RECORD}): next access must be -1 or the number of a later record, got {found}: not an oracleGeneral trace?")
        parts.append(numbers.number(words))
        done += len(parts[-1])
        if numbers.known > MAX_OBJECTS:
            raise InputError(f"{path}: has more than {MAX_OBJECTS} objects")
    if not done:
        raise InputError(f"{path}: is empty; an oracleGeneral trace is a multiple of {RECORD} bytes")
    return Requests(np.concatenate(parts), numbers.known, {"source": "oracleGeneral", "file": path.name, "unit": "object accesses"})


def _blocks(path: Path) -> Iterator[memoryview]:
    """The file's content, unpacked, in blocks of whole records (the last may be cut short). A block is good until the next is asked for."""
    with open(path, "rb") as f:
        compressed = f.read(4) == _ZSTD_MAGIC
    buffer = memoryview(bytearray(_BLOCK * RECORD))
    try:
        with pa.input_stream(str(path), compression="zstd" if compressed else None) as stream:
            filled = len(buffer)
            while filled == len(buffer):
                filled = 0
                while filled < len(buffer) and (got := stream.readinto(buffer[filled:])):
                    filled += got
                if filled:
                    yield buffer[:filled]
    except (pa.ArrowException, OSError) as error:
        what = "cannot be unpacked with zstd, is it cut short?" if compressed else "cannot be read"
        raise InputError(f"{path}: {what} ({error})") from None


class ObjectNumbers:
    """Numbers objects in the order in which they come: a hash table with linear probing, at most half full.

    table: uint32, four words a place: id's low and high half, number + 1 (0: free), unused.
    """

    def __init__(self) -> None:
        self.known = 0
        self.table = reserve(4 << 16, "uint32", huge=True)

    def number(self, words: np.ndarray) -> np.ndarray:
        """The objects' numbers, uint32[n]. words: uint32[6 n], oracleGeneral records."""
        ids = np.empty(len(words) // 6, np.uint32)
        done = 0
        while True:
            done = _number(words, done, self.table, self.known, ids)
            self.known = max(self.known, int(ids[:done].max(initial=0)) + 1) if done else self.known
            if done == len(ids):
                return ids
            larger = reserve(2 * len(self.table), "uint32", huge=True)
            _move(self.table, larger)
            self.table = larger


@leaf
def _place(low, high, places):
    """Where the search for an id begins."""
    mixed = low * 0x61C88647 ^ high * 0x3C6EF372
    return (mixed ^ mixed >> 31) & (places - 1)


@routine
def _number(words, start, table, known, ids):
    """Fill ids from record `start` on; returns the record where it stopped: the last, or the first whose object does not fit the table."""
    places = len(table) // 4
    for i in range(start, len(ids)):
        low, high = np.int64(words[6 * i + 1]), np.int64(words[6 * i + 2])
        if i + LOOK_AHEAD < len(ids):
            later = 6 * (i + LOOK_AHEAD)
            prefetch(table, 4 * _place(np.int64(words[later + 1]), np.int64(words[later + 2]), places))
        place = _place(low, high, places)
        while table[4 * place + 2] != 0 and (table[4 * place] != low or table[4 * place + 1] != high):
            place = (place + 1) & (places - 1)
        number = np.int64(table[4 * place + 2])
        if number == 0:
            if 2 * known >= places:
                return i
            known += 1
            number = known
            table[4 * place] = low
            table[4 * place + 1] = high
            table[4 * place + 2] = number
        ids[i] = number - 1
    return len(ids)


@routine
def _move(table, larger):
    """Put every object of one table into a larger, empty one."""
    places = len(larger) // 4
    for old in range(0, len(table), 4):
        if table[old + 2]:
            place = _place(np.int64(table[old]), np.int64(table[old + 1]), places)
            while larger[4 * place + 2] != 0:
                place = (place + 1) & (places - 1)
            for word in range(3):
                larger[4 * place + word] = table[old + word]
    return 0


@routine
def _bad_next(words, first):
    """The first record whose next access is neither -1, nor the largest number (libCacheSim's other word for never), nor the number of a later
    record, or -1. first: the number of record 0."""
    for i in range(0, len(words), 6):
        low, high = np.int64(words[i + 4]), np.int64(words[i + 5])
        if high > MAX_INDEX_HIGH:
            if low != _NO_WORD or (high != _NO_WORD and high != _NO_WORD >> 1):
                return i // 6
        elif high << 32 | low <= first + i // 6:
            return i // 6
    return -1
