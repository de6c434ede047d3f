"""Readers of request streams from other formats than oracleGeneral: CSV, block traces (MSR, CloudPhysics vscsi), lackey text, recordings, damo.

Each says what its requests are (`meta["unit"]`): accesses to objects, to pages, or to blocks, of which each 4 KiB page is one request. Files
that are missing, cut short, or not what they are said to be raise InputError with the file, the place, what is there and what would be right.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv

from mmlab.errors import InputError, did_you_mean
from mmlab.workload.damo_record import read_damo
from mmlab.workload.lackey import LackeyReader, Process
from mmlab.workload.operation import PAGE_SIZE
from mmlab.workload.readers import existing_file
from mmlab.workload.requests import ORACLE_GENERAL, ObjectNumbers, Requests, read_oracle_general
from mmlab.workload.stack_filter import StackFilter
from mmlab.workload.stream import KIND_OPERATION, PAYLOAD_SHIFT, TASK_SHIFT, EventStream, unpack
from mmlab.workload.trace_format import read_recorded

OBJECTS, PAGES, BLOCKS = "object accesses", "page accesses", "block accesses, a request for each 4 KiB page"
SECTOR = 512
DAMO_PER_MS = 100  # accesses drawn for a millisecond of damo's record
MSR_COLUMNS = ("Timestamp", "Hostname", "DiskNumber", "Type", "Offset", "Size", "ResponseTime")
#: what a column of a CSV file may be to us
CSV_ROLES = ("object", "page", "address", "offset", "size", "header", "delimiter")
_VSCSI = {
    1: np.dtype([("sn", "<u4"), ("len", "<u4"), ("nsg", "<u4"), ("cmd", "<u2"), ("ver", "<u2"), ("lbn", "<u8"), ("ts", "<u8")]),
    2: np.dtype([("cmd", "<u2"), ("ver", "<u2"), ("sn", "<u4"), ("len", "<u4"), ("nsg", "<u4"), ("lbn", "<u8"), ("ts", "<u8"), ("rt", "<u8")]),
}  # fmt: skip
#: SCSI commands that read or write blocks: READ and WRITE (6), (10), (12), (16), and their variants that verify
_VSCSI_READ, _VSCSI_WRITE = (8, 40, 45, 136, 168), (10, 42, 46, 63, 138, 142, 154, 156, 170, 174)
_BLOCK = 1 << 16


def read_requests(path: str | Path, format: str = "", columns: Mapping[str, Any] | None = None) -> Requests:
    """A request stream. format: one of FORMATS, "" by the file's ending (oracleGeneral if that says nothing); columns: see read_csv().

    Raises InputError as the module says, and for an unknown format or columns of a format that has none.
    """
    path = existing_file(path)
    if format and format not in FORMATS:
        raise InputError(f"format: must be one of {', '.join(FORMATS)}, got {format!r}{did_you_mean(format, FORMATS)}")
    format = format or _ENDINGS.get(path.suffix, "oracleGeneral")
    if format == "csv":
        return read_csv(path, columns or {})
    if columns:
        raise InputError(f"columns: only a csv trace has a column map, {path.name} is read as {format}")
    return FORMATS[format](path)


def numbered(keys: np.ndarray, meta: dict[str, Any]) -> Requests:
    """Requests for objects that any whole numbers below 2**63 stand for."""
    numbers, parts = ObjectNumbers(), [np.zeros(0, np.uint32)]
    for first in range(0, len(keys), _BLOCK):
        block = keys[first : first + _BLOCK]
        records = np.zeros(len(block), ORACLE_GENERAL)
        records["id"] = block
        parts.append(numbers.number(records.view("<u4")))
    return Requests(np.concatenate(parts), numbers.known, meta)


def page_requests(stream: EventStream) -> Requests:
    """A stream's accesses as requests for pages, (task, page) pairs; operations between them are left out."""
    kinds, tasks, pages = unpack(stream.words)
    access = kinds != KIND_OPERATION
    keys = pages[access] << PAYLOAD_SHIFT - TASK_SHIFT | tasks[access]
    return numbered(keys, {"source": stream.meta.get("source", ""), "file": stream.meta.get("file", ""), "unit": stream.meta.get("unit", PAGES)})


def read_csv(path: Path, columns: Mapping[str, Any]) -> Requests:
    """A text file with a line a request.

    columns: one of `object` (any text or number), `page` (a page's number), `address` (a byte's), `offset` (a block's first byte; with `size`
    in bytes, split into pages), each the name of a column or its number from 1; `header`: false if the first line is a request too;
    `delimiter`: "," if left out.
    """
    what, number_of = _csv_roles(path, columns)
    header = bool(columns.get("header", True))
    table = _csv_table(path, header, str(columns.get("delimiter", ",")))
    wanted = {role: _csv_column(path, table, role, value, header) for role, value in number_of.items()}
    meta = {"source": "csv", "file": path.name, "unit": {"object": OBJECTS, "offset": BLOCKS}.get(what, PAGES)}
    if what == "object":
        codes = table.column(wanted["object"]).combine_chunks().dictionary_encode()
        _no_null(path, codes, wanted["object"], header)
        return Requests(codes.indices.to_numpy().astype(np.uint32), len(codes.dictionary), meta)
    first = _whole_numbers(path, table, wanted[what], header)
    if what == "page":
        return numbered(first, meta)
    size = _whole_numbers(path, table, wanted["size"], header) if "size" in wanted else np.ones(len(first), np.int64)
    return _blocks(first, size, np.zeros(len(first), np.int64), meta)


def _csv_roles(path: Path, columns: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    unknown = [key for key in columns if key not in CSV_ROLES]
    if unknown:
        raise InputError([f"columns.{key}: unknown key (known: {', '.join(CSV_ROLES)}){did_you_mean(key, CSV_ROLES)}" for key in unknown])
    what = [role for role in ("object", "page", "address", "offset") if role in columns]
    if len(what) != 1:
        raise InputError(f"columns: must name one of object, page, address and offset, the column of {path.name} that says what is accessed")
    if "size" in columns and what != ["offset"]:
        raise InputError(f"columns.size: belongs to offset, but {what[0]} is named")
    return what[0], {role: columns[role] for role in (*what, "size") if role in columns}


def _csv_table(path: Path, header: bool, delimiter: str) -> pa.Table:
    if len(delimiter) != 1:
        raise InputError(f"columns.delimiter: must be one character, got {delimiter!r}")
    with open(path, "rb") as f:
        binary = f.read(4096).find(b"\0")
    if binary >= 0:
        raise InputError(f"{path}: byte {binary}: is 0, which no text has: this is no CSV file")
    try:
        table = _read_csv(path, header, delimiter)
    except (pa.ArrowException, OSError) as error:
        raise InputError(_odd_line(path, header, delimiter) or f"{path}: cannot be read as CSV ({error})") from None
    if not table.num_rows:
        raise InputError(f"{path}: has no requests")
    return table


def _read_csv(path: Path, header: bool, delimiter: str, invalid: Callable[[Any], str] | None = None) -> pa.Table:
    """invalid: told of each line with another number of columns than the first; it can be told the line's number, since one thread reads then."""
    return pa.csv.read_csv(
        path,
        read_options=pa.csv.ReadOptions(autogenerate_column_names=not header, use_threads=invalid is None),
        parse_options=pa.csv.ParseOptions(delimiter=delimiter, invalid_row_handler=invalid),
    )


def _odd_line(path: Path, header: bool, delimiter: str) -> str:
    """What is wrong with the first line that has another number of columns than the first; "" if none has."""
    odd: list[Any] = []

    def note(row: Any) -> str:
        odd.append(row)
        return "error"

    try:
        _read_csv(path, header, delimiter, note)
    except (pa.ArrowException, OSError):
        pass
    if not odd:
        return ""
    row = odd[0]
    return f"{path}: line {row.number}: must have as many columns as line 1, {row.expected_columns}, got {row.actual_columns}: {row.text[:60]!r}: is the file cut short, or no CSV?"


def _csv_column(path: Path, table: pa.Table, role: str, value: Any, header: bool) -> int:
    names = table.column_names
    if isinstance(value, int) and not isinstance(value, bool):
        if 1 <= value <= len(names):
            return value - 1
        raise InputError(f"columns.{role}: {path.name} has columns 1 to {len(names)}, got {value}")
    if header and value in names:
        return names.index(value)
    known = f"has the columns {', '.join(names)}" if header else f"has no header, so a column's number from 1 to {len(names)} is wanted"
    raise InputError(f"columns.{role}: {path.name} {known}, got {value!r}{did_you_mean(str(value), names) if header else ''}")


def _no_null(path: Path, column: pa.Array, index: int, header: bool) -> None:
    if column.null_count:
        row = int(np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))[0])
        raise InputError(f"{path}: line {row + 1 + header}: column {index + 1} is empty; is the file cut short?")


def _whole_numbers(path: Path, table: pa.Table, index: int, header: bool) -> np.ndarray:
    column = table.column(index).combine_chunks()
    _no_null(path, column, index, header)
    if not pa.types.is_integer(column.type):
        values = column.to_pylist()
        row = next((number for number, value in enumerate(values) if not _is_whole(value)), 0)
        raise InputError(f"{path}: line {row + 1 + header}: column {index + 1}: must be a whole number below 2**63, got {values[row]!r}")
    numbers = column.to_numpy().astype(np.int64)
    if (bad := np.flatnonzero(numbers < 0)).size:
        raise InputError(f"{path}: line {bad[0] + 1 + header}: column {index + 1}: must be 0 or more, got {numbers[bad[0]]}")
    return numbers


def _is_whole(value: Any) -> bool:
    """Whether a value of a column that is not all whole numbers is one."""
    return value.is_integer() and value < 2**63 if isinstance(value, float) else str(value).strip().isdecimal()


def _blocks(offset: np.ndarray, size: np.ndarray, device: np.ndarray, meta: dict[str, Any]) -> Requests:
    """Requests for the 4 KiB pages of byte ranges of a device; empty ranges make none."""
    pages = np.where(size > 0, (offset + size - 1) // PAGE_SIZE - offset // PAGE_SIZE + 1, 0)
    which = np.repeat(np.arange(len(pages)), pages)
    within = np.arange(len(which)) - np.repeat(np.cumsum(pages) - pages, pages)
    keys = (offset[which] // PAGE_SIZE + within) | device[which] << 52
    return numbered(keys, {**meta, "blocks": int((pages > 0).sum())})


def read_msr(path: str | Path) -> Requests:
    """A block trace of MSR Cambridge: lines of seven columns (MSR_COLUMNS) without a header. Pages of different disks are different."""
    path = existing_file(path)
    table = _csv_table(path, False, ",")
    if table.num_columns != len(MSR_COLUMNS):
        raise InputError(f"{path}: line 1 has {table.num_columns} columns; an MSR trace has {len(MSR_COLUMNS)}: {', '.join(MSR_COLUMNS)}")
    kind = table.column(3).combine_chunks()
    odd = [str(x) for x in kind.unique().to_pylist() if str(x).lower() not in ("read", "write")]
    if odd:
        row = kind.to_pylist().index(next(x for x in kind.to_pylist() if str(x) == odd[0]))
        raise InputError(f"{path}: line {row + 1}: Type must be Read or Write, got {odd[0]!r}: not an MSR trace?")
    host = table.column(1).combine_chunks().dictionary_encode().indices.to_numpy().astype(np.int64)
    disk = _whole_numbers(path, table, 2, False)
    device = np.unique(host * (int(disk.max()) + 1) + disk, return_inverse=True)[1]
    offset, size = _whole_numbers(path, table, 4, False), _whole_numbers(path, table, 5, False)
    return _blocks(offset, size, device, {"source": "msr", "file": path.name, "unit": BLOCKS})


def read_vscsi(path: str | Path) -> Requests:
    """A block trace of VMware's vscsiStats as CloudPhysics published them: binary records of version 1 (32 bytes) or 2 (40 bytes).

    Block numbers count 512 bytes; commands that neither read nor write blocks are left out.
    """
    path = existing_file(path)
    data = path.read_bytes()
    for version in (2, 1):
        record = _VSCSI[version]
        if len(data) >= record.itemsize and (np.frombuffer(data, record, len(data) // record.itemsize)["ver"] >> 8 == version).all():
            break
    else:
        raise InputError(f"{path}: is no vscsi trace: its records carry neither version 1 (32 bytes each) nor version 2 (40 bytes each)")
    if len(data) % record.itemsize:
        raise InputError(f"{path}: ends within record {len(data) // record.itemsize} ({len(data)} bytes); a vscsi trace of version {version} is a multiple of {record.itemsize} bytes")
    records = np.frombuffer(data, record)
    records = records[np.isin(records["cmd"], _VSCSI_READ + _VSCSI_WRITE)]
    if not len(records):
        raise InputError(f"{path}: has no command that reads or writes blocks: not a vscsi trace?")
    offset, size = records["lbn"].astype(np.int64) * SECTOR, records["len"].astype(np.int64)
    return _blocks(offset, size, np.zeros(len(records), np.int64), {"source": "vscsi", "file": path.name, "unit": BLOCKS})


class _LackeyText(LackeyReader):
    """One process' accesses; what else there is must be valgrind's."""

    def __init__(self, path: Path):
        super().__init__(StackFilter(1), lambda pid: [], lambda pid: None)
        self.path = path

    def _line(self, pid: int, process: Process, line: bytes) -> None:
        if line.strip() and not line.startswith((b"==", b"--", b"SYSCALL[")):
            number = self.path.read_bytes().split(b"\n").index(line) + 1
            raise InputError(f"{self.path}: line {number}: is no access of lackey: {line[:60].decode(errors='replace')!r}; wanted is such as ' L 1ffefff7c8,8'")


def read_lackey(path: str | Path) -> Requests:
    """What `valgrind --tool=lackey --trace-mem=yes` prints: an access a line; valgrind's own lines (`==PID==`, `--PID--`) are passed over.

    Accesses to one page in a row are one request.
    """
    path = existing_file(path)
    reader = _LackeyText(path)
    with open(path, "rb") as f:
        while block := f.read(1 << 20):
            reader.feed(0, block)
    if not reader.window.references:
        raise InputError(f"{path}: has no accesses; lackey prints them with --trace-mem=yes")
    if rest := reader.processes[0].rest:
        raise InputError(f"{path}: ends within a line, {rest[:60].decode(errors='replace')!r}: it is cut short")
    pages = reader.window.events()[1] >> PAYLOAD_SHIFT
    pages = pages[np.flatnonzero(np.diff(pages, prepend=-1))]
    return numbered(pages, {"source": "lackey", "file": path.name, "unit": PAGES, "references": reader.window.references})


FORMATS: dict[str, Callable[[Path], Requests]] = {
    "oracleGeneral": read_oracle_general,
    "csv": lambda path: read_csv(path, {}),
    "msr": read_msr,
    "vscsi": read_vscsi,
    "lackey": read_lackey,
    "recorded": lambda path: page_requests(read_recorded(path)),
    "damo": lambda path: page_requests(read_damo(path).stream(DAMO_PER_MS, 1.0, 0)),
}
_ENDINGS = {".csv": "csv", ".vscsi": "vscsi", ".lackey": "lackey", ".mmtrace": "recorded"}
