"""The words of a script: each function turns one token into its typed value, or raises `ValueError` saying what would be right."""

from __future__ import annotations

import re

from mmlab.errors import did_you_mean
from mmlab.workload.operation import ADVICE, MEMPOLICY, PAGE_SIZE, PROT_EXEC, PROT_READ, PROT_WRITE, Place, TaskReference

_SIZE = re.compile(r"(0[xX][0-9a-fA-F]+|0|[1-9][0-9]*)([BKMG]?)")
_UNIT = {"": PAGE_SIZE, "B": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_PLACE = re.compile(r"([^+-]+)(?:\+(-?[^+-]+)|(-[^+-]+))?")
_INTEGER = re.compile(r"-?(0[xX][0-9a-fA-F]+|0|[1-9][0-9]*)")
_NAME_BYTES = 23  # the real executor keeps names in 24 bytes


def size(token: str) -> int:
    """A size in bytes: a bare number counts pages of 4 KiB, B, K, M, G count bytes."""
    match = _SIZE.fullmatch(token)
    if not match:
        raise ValueError(f"'{token}' is not a size (pages, or bytes with B, K, M or G: 64, 16K, 2M)")
    return int(match[1], 0) * _UNIT[match[2]]


def offset(token: str) -> int:
    """A size that may be negative."""
    return -size(token[1:]) if token.startswith("-") else size(token)


def positive_size(token: str) -> int:
    value = size(token)
    if not value:
        raise ValueError(f"must be above 0, got '{token}'")
    return value


def integer(token: str) -> int:
    if not _INTEGER.fullmatch(token):
        raise ValueError(f"'{token}' is not a whole number (decimal, or hexadecimal with 0x)")
    return int(token, 0)


def count(token: str) -> int:
    value = integer(token)
    if value < 0:
        raise ValueError(f"must not be negative, got '{token}'")
    return value


def word(token: str) -> str:
    return token


def name(token: str) -> str:
    """A task's or region's name."""
    if len(token.encode()) > _NAME_BYTES:
        raise ValueError(f"'{token}' is longer than {_NAME_BYTES} bytes")
    return token


def region_name(token: str) -> str:
    """The name of a region to make: it must not look like an address, and `at=NAME+OFF` must find its end."""
    if token.startswith("0x") or "+" in token or "-" in token:
        raise ValueError(f"'{token}' cannot name a region (no '0x' in front, no '+', no '-')")
    return name(token)


def region(token: str) -> str | int:
    """A region's name, or an absolute address."""
    return address(token) if token.startswith("0x") else name(token)


def address(token: str) -> int:
    if not re.fullmatch(r"0x[0-9a-fA-F]{1,16}", token):
        raise ValueError(f"'{token}' is not an address (0x and up to 16 hexadecimal digits)")
    return int(token, 16)


def place(token: str) -> Place:
    """`0xADDR`, `REGION`, `REGION+OFF` or `REGION-OFF`."""
    if token.startswith("0x"):
        return Place(None, address(token))
    match = _PLACE.fullmatch(token)
    if not match:
        raise ValueError(f"'{token}' is not a place (0xADDR, REGION+OFF or REGION-OFF)")
    return Place(name(match[1]), offset(match[2] or match[3] or "0"))


def prot(token: str) -> int:
    """Letters of rwx, or n for none."""
    if not re.fullmatch(r"n|(?=.)r?w?x?", token):
        raise ValueError(f"'{token}' is not a protection (r, w and x in this order, or n for none)")
    return (PROT_READ if "r" in token else 0) | (PROT_WRITE if "w" in token else 0) | (PROT_EXEC if "x" in token else 0)


def backing(token: str) -> str | None:
    """None for `anon`, the file's name for `file:F`."""
    if token == "anon":
        return None
    if token.startswith("file:") and len(token) > 5:
        return token[5:]
    raise ValueError(f"'{token}' must be anon or file:NAME")


def nodes(token: str) -> tuple[int, ...]:
    if not re.fullmatch(r"\d+(,\d+)*", token):
        raise ValueError(f"'{token}' is not a list of nodes (0,1)")
    numbers = tuple(int(part) for part in token.split(","))
    if max(numbers) > 63:
        raise ValueError(f"node {max(numbers)} is above 63")
    return numbers


def _one_of(*known: str):
    def parse(token: str) -> str:
        if token not in known:
            raise ValueError(f"'{token}' is none of {', '.join(known)}{did_you_mean(token, known)}")
        return token

    return parse


read_write = _one_of("r", "w")
read_write_mixed = _one_of("r", "w", "m")
advice = _one_of(*ADVICE)
policy = _one_of(*MEMPOLICY)
area = _one_of("stack", "heap")
limit = _one_of("stack", "as", "data", "memlock")
_yes_no = _one_of("yes", "no")


def yes_no(token: str) -> bool:
    return _yes_no(token) == "yes"


def path(token: str) -> str:
    if not token.startswith("/"):
        raise ValueError(f"'{token}' is not an absolute path")
    return token


def setting(token: str) -> tuple[str, str]:
    key, equals, value = token.partition("=")
    if not (key and equals):
        raise ValueError(f"'{token}' must be KEY=VALUE")
    return key, value


def task_reference(token: str) -> TaskReference | None:
    """What `@A`, `@A.R` or `@A.R+SIZE` in a setting's value means; None for any other value. Raises `ValueError` for a bad SIZE."""
    if not token.startswith("@"):
        return None
    head, plus, tail = token[1:].partition("+")
    task, dot, region_of = head.partition(".")
    return TaskReference(task, region_of if dot else None, size(tail) if plus else 0)
