"""Request streams from CSV, block traces, lackey text and recordings: what they hold, what they are, and what is said when they are not right."""

import struct

import numpy as np
import pytest

from mmlab.errors import InputError
from mmlab.workload.request_readers import BLOCKS, OBJECTS, PAGES, read_requests
from mmlab.workload.trace_format import read_recorded
from mmlab.workload.traces import shipped


def file(tmp_path, content, name="t"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def read(tmp_path, content, format, columns=None):
    found = read_requests(file(tmp_path, content), format, columns)
    return found.ids.tolist(), found.objects, found.meta["unit"]


CSV = "time,key,bytes\n1,b,10\n2,a,20\n3,b,10\n"


@pytest.mark.parametrize("columns", [{"object": "key"}, {"object": 2}])
def test_csv_of_objects(tmp_path, columns):
    assert read(tmp_path, CSV, "csv", columns) == ([0, 1, 0], 2, OBJECTS)


def test_csv_without_a_header(tmp_path):
    assert read(tmp_path, "x;7\ny;9\nx;7\n", "csv", {"object": 1, "header": False, "delimiter": ";"}) == ([0, 1, 0], 2, OBJECTS)


def test_csv_of_pages_addresses_and_blocks(tmp_path):
    text = "page,address,offset,size\n5,8191,4095,2\n4,8192,0,4096\n5,0,20000,0\n"
    assert read(tmp_path, text, "csv", {"page": "page"}) == ([0, 1, 0], 2, PAGES)
    assert read(tmp_path, text, "csv", {"address": "address"}) == ([0, 1, 2], 3, PAGES)  # pages 1, 2, 0
    assert read(tmp_path, text, "csv", {"offset": "offset", "size": "size"}) == ([0, 1, 0], 2, BLOCKS)  # 0 and 1, 0, nothing


MSR = "128166372003061629,usr,0,Read,4096,8192,100\n128166372003061630,usr,1,Write,4096,1,7\n128166372003061631,usr,0,Read,8191,2,9\n"


def test_msr(tmp_path):
    """Pages 1 and 2 of disk 0, page 1 of disk 1, pages 1 and 2 of disk 0."""
    assert read(tmp_path, MSR, "msr") == ([0, 1, 2, 0, 1], 3, BLOCKS)


def vscsi(version, *commands):
    """Records of (cmd, lbn, bytes)."""
    if version == 1:
        return b"".join(struct.pack("<IIIHHQQ", 0, size, 1, cmd, version << 8, lbn, 5) for cmd, lbn, size in commands)
    return b"".join(struct.pack("<HHIIIQQQ", cmd, version << 8, 0, size, 1, lbn, 5, 6) for cmd, lbn, size in commands)


@pytest.mark.parametrize("version", [1, 2])
def test_vscsi(tmp_path, version):
    """Blocks 7 and 8 lie in pages 0 and 1, block 15 in page 1; command 0 asks whether the disk is there."""
    data = vscsi(version, (40, 7, 1024), (0, 99, 0), (42, 15, 512))
    assert read(tmp_path, data, "vscsi") == ([0, 1, 1], 2, BLOCKS)


LACKEY = "==7== Lackey\nI  00001000,3\n L 00001ff8,8\n S 00003ffc,8\n==7== \n L 00001000,1\n"


def test_lackey(tmp_path):
    """Page 1 twice is one request; the store straddles 3 and 4."""
    assert read(tmp_path, LACKEY, "lackey") == ([0, 1, 2, 0], 3, PAGES)


def test_a_recording(tmp_path):
    found = read_requests(shipped()["sqlite"])
    assert found.meta["unit"] == PAGES
    assert len(found) == int((read_recorded(shipped()["sqlite"]).words & 15 < 3).sum())
    assert found.objects == len(np.unique(found.ids))


def test_lackey_s_addresses_may_be_in_capitals(tmp_path):
    """The lines of valgrind's manual: pages 0x23C and 0xBE801."""
    assert read_requests(file(tmp_path, "I  0023C790,2\n S BE80199C,4\n", "x.lackey")).objects == 2


def test_the_ending_tells_the_format(tmp_path):
    path = file(tmp_path, vscsi(1, (40, 0, 4096)), "x.vscsi")
    assert read_requests(path).meta["source"] == "vscsi"
    assert read_requests(file(tmp_path, LACKEY, "x.lackey")).meta["source"] == "lackey"


@pytest.mark.parametrize(
    ("content", "format", "columns", "message"),
    [
        (CSV, "cvs", None, "format: must be one of oracleGeneral, csv, msr, vscsi, lackey, recorded, damo, got 'cvs'; did you mean 'csv'?"),
        (CSV, "csv", {}, "columns: must name one of object, page, address and offset"),
        (CSV, "csv", {"object": "key", "page": "time"}, "columns: must name one of"),
        (CSV, "csv", {"object": "kye"}, "columns.object: t has the columns time, key, bytes, got 'kye'; did you mean 'key'?"),
        (CSV, "csv", {"object": 4}, "columns.object: t has columns 1 to 3, got 4"),
        (CSV, "csv", {"objcet": "key"}, "columns.objcet: unknown key"),
        (CSV, "csv", {"page": "key"}, "t: line 2: column 2: must be a whole number below 2**63, got 'b'"),
        ("a,b\n1,2\n1,2.5\n", "csv", {"page": "b"}, "t: line 3: column 2: must be a whole number below 2**63, got 2.5"),
        ("1,2\n3,18446744073709551615\n", "csv", {"page": 2, "header": False}, "t: line 2: column 2: must be a whole number below 2**63, got 1.8"),
        (b"page\n1\n\0\0", "csv", {"page": "page"}, "t: byte 7: is 0, which no text has: this is no CSV file"),
        (CSV, "csv", {"object": "key", "size": "bytes"}, "columns.size: belongs to offset"),
        (CSV + "4,c", "csv", {"object": "key"}, "t: line 5: must have as many columns as line 1, 3, got 2: '4,c': is the file cut short, or no CSV?"),
        (CSV + "4,,\n", "csv", {"page": "bytes"}, "t: line 5: column 3 is empty; is the file cut short?"),
        ("a,b\n1,-2\n", "csv", {"page": "b"}, "t: line 2: column 2: must be 0 or more, got -2"),
        ("a,b\n", "csv", {"page": "b"}, "t: has no requests"),
        (CSV, "msr", None, "t: line 1 has 3 columns; an MSR trace has 7: Timestamp, Hostname"),
        (MSR.replace("Write", "Trim"), "msr", None, "t: line 2: Type must be Read or Write, got 'Trim': not an MSR trace?"),
        (MSR[:-20], "msr", None, "must have as many columns as line 1, 7, got "),
        (MSR, "msr", {"object": 1}, "columns: only a csv trace has a column map, t is read as msr"),
        (vscsi(2, (40, 7, 512), (40, 9, 512))[:-3], "vscsi", None, "t: ends within record 1 (77 bytes); a vscsi trace of version 2 is a multiple of 40"),
        (b"\0" * 80, "vscsi", None, "t: is no vscsi trace"),
        (vscsi(1, (0, 0, 0)), "vscsi", None, "t: has no command that reads or writes blocks"),
        (LACKEY + "hello\n", "lackey", None, "t: line 7: is no access of lackey: 'hello'"),
        (LACKEY + " L 0000", "lackey", None, "t: ends within a line, ' L 0000': it is cut short"),
        ("==7== nothing\n", "lackey", None, "t: has no accesses; lackey prints them with --trace-mem=yes"),
        (CSV, "oracleGeneral", None, "t: ends within record"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(tmp_path, content, format, columns, message):
    with pytest.raises(InputError) as caught:
        read_requests(file(tmp_path, content), format, columns)
    assert message in caught.value.messages[0]
