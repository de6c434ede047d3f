"""Tables to records: every fault at once, in words."""

from __future__ import annotations

from typing import Literal

import pytest
from attrs import field, frozen
from attrs.validators import and_, ge, gt, in_, le

from mmlab.experiment.structure import structure


@frozen
class Params:
    swappiness: int = field(default=60, validator=[ge(0), le(200)])
    share: float = field(default=0.5, validator=and_(gt(0)))
    on: bool = True
    kind: str = field(default="a", validator=in_(("a", "b")))
    way: Literal["up", "down"] = "up"
    sizes: tuple[int, ...] = ()


@frozen
class Needs:
    pages: int
    top: int = 5

    def __attrs_post_init__(self) -> None:
        if self.pages > self.top:
            raise ValueError(f"pages: must be at most top ({self.top}), got {self.pages}")


def faults(table, cls=Params):
    errors: list[str] = []
    made = structure(cls, table, "x.params", errors)
    assert (made is None) == bool(errors)
    return errors


def test_defaults_and_values():
    errors: list[str] = []
    assert structure(Params, {"swappiness": 0, "share": 1, "sizes": [1, 2]}, "x", errors) == Params(swappiness=0, share=1.0, sizes=(1, 2))
    assert errors == []


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"swappiness": 250}, "x.params.swappiness: must be between 0 and 200, got 250"),
        ({"swappiness": -1}, "x.params.swappiness: must be between 0 and 200, got -1"),
        ({"swappiness": "60"}, "x.params.swappiness: must be a whole number, got '60'"),
        ({"swappiness": True}, "x.params.swappiness: must be a whole number, got True"),
        ({"swappiness": 6.5}, "x.params.swappiness: must be a whole number, got 6.5"),
        ({"share": 0}, "x.params.share: must be more than 0, got 0.0"),
        ({"on": 1}, "x.params.on: must be true or false, got 1"),
        ({"kind": "c"}, "x.params.kind: must be one of a, b, got 'c'"),
        ({"way": "dwn"}, "x.params.way: must be one of up, down, got 'dwn'; did you mean 'down'?"),
        ({"sizes": [1, "2"]}, "x.params.sizes: element 1 must be a whole number, got '2'"),
        ({"sizes": 3}, "x.params.sizes: must be a list, got 3"),
        (
            {"swapiness": 1},
            "x.params.swapiness: unknown key (known: kind, on, share, sizes, swappiness, way); did you mean 'swappiness'?",
        ),
    ],
)
def test_each_fault(table, message):
    assert faults(table) == [message]


def test_all_faults_of_a_table():
    assert len(faults({"swappiness": 250, "share": -1, "on": "yes", "whay": "up"})) == 4


def test_missing_key_and_others_together():
    assert faults({"top": "x"}, Needs) == ["x.params.top: must be a whole number, got 'x'", "x.params.pages: missing"]


def test_rule_between_keys():
    assert faults({"pages": 9}, Needs) == ["x.params.pages: must be at most top (5), got 9"]
