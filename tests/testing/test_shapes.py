"""Two raw documents side by side: what counts as equal, and how a difference is told."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta, timezone
from typing import Any
from unittest import mock

import pytest
from bson import Binary, DBRef, Decimal128, Int64, ObjectId
from bson.binary import UuidRepresentation
from bson.codec_options import CodecOptions

from lazymig.testing.shapes import compared, described

OPTIONS: CodecOptions[Any] = CodecOptions(uuid_representation=UuidRepresentation.STANDARD)
DAY = datetime(2020, 1, 1)
ID = ObjectId("5f0000000000000000000001")
SOME_UUID = uuid.UUID(int=1)


def _paths(first: dict[str, Any], second: dict[str, Any]) -> list[str]:
    found = compared(first, second, OPTIONS)
    return [".".join(map(str, difference.path)) for difference in found]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (1, Int64(1)),
        (None, None),
        (float("nan"), float("nan")),
        (DAY, DAY.replace(tzinfo=timezone.utc)),
        (DAY, DAY + timedelta(microseconds=999)),
        ((1, 2), [1, 2]),
        (SOME_UUID, Binary.from_uuid(SOME_UUID)),
        (b"x", Binary(b"x", 0)),
        (DBRef("a", ID), DBRef("a", ID)),
        ({"a": 1, "b": [{"c": 1, "d": 2}]}, {"b": [{"d": 2, "c": 1}], "a": 1}),
        (mock.ANY, {"anything": [1]}),
        (pytest.approx(0.3), 0.1 + 0.2),
    ],
)
def test_values_that_are_stored_alike_are_equal(first: Any, second: Any) -> None:
    """What BSON stores alike, and what says by itself that it is equal, is no difference."""
    assert _paths({"path": first}, {"path": second}) == []


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (1, True),
        (1, 1.0),
        (1, "1"),
        (0, False),
        (None, ""),
        (1, Decimal128("1")),
        (Decimal128("1.0"), Decimal128("1.00")),
        (ID, str(ID)),
        (DAY, "2020-01-01"),
        (DAY, DAY + timedelta(milliseconds=1)),
        (b"x", "x"),
        ({}, []),
        ({}, None),
        (DBRef("a", ID), DBRef("b", ID)),
    ],
)
def test_types_are_told_apart(first: Any, second: Any) -> None:
    """Values that Python or a reader might take for equal differ if BSON tells them apart."""
    assert _paths({"path": first}, {"path": second}) == ["path"]
    assert _paths({"path": second}, {"path": first}) == ["path"]


def test_null_is_not_missing() -> None:
    """A path that holds null, or whatever it may be, differs from one that is not there."""
    assert _paths({"a": None}, {}) == ["a"]
    assert _paths({}, {"a": None}) == ["a"]
    assert _paths({"a": mock.ANY}, {}) == ["a"]


def test_differences_are_found_at_their_own_paths() -> None:
    """Documents and arrays are gone into: only what differs is named, missing items included."""
    first = {"a": {"b": [1, {"c": 2}, 3], "d": 4}, "e.f": 1}
    second = {"a": {"b": [1, {"c": "2"}], "d": 4, "g": 5}, "e.f": 2}
    assert _paths(first, second) == ["a.b.1.c", "a.b.2", "a.g", "e.f"]


def test_dates_may_be_apart_where_that_is_allowed() -> None:
    """Dates within the allowance count as equal, others do not, and nothing else is let through."""
    allowance = timedelta(seconds=1)
    near = {"path": DAY + timedelta(seconds=1)}
    far = {"path": DAY + timedelta(seconds=2)}
    assert compared({"path": DAY}, near, OPTIONS, apart=allowance) == []
    assert len(compared({"path": DAY}, far, OPTIONS, apart=allowance)) == 1
    assert len(compared({"path": 1.0}, {"path": 1.5}, OPTIONS, apart=allowance)) == 1


def test_a_difference_is_told_with_values_and_types() -> None:
    """Each difference is told by its path, and behind each label value and BSON type."""
    found = compared({"n": {"m": 1}}, {"n": {"m": True}, "x": Int64(2**40)}, OPTIONS)
    assert described(found, ("expected", "stored"), {"n": {"m": "1"}}).splitlines() == [
        "  n.m",
        "    before:   '1' (string)",
        "    expected: 1 (int)",
        "    stored:   True (bool)",
        "  x",
        "    before:   missing",
        "    expected: missing",
        f"    stored:   {2**40} (long)",
    ]


def test_what_is_told_stays_short() -> None:
    """Long values are cut, and beyond 20 paths the rest is only counted."""
    first = {f"path{number}": "x" * 1000 for number in range(30)}
    lines = described(compared(first, {}, OPTIONS), ("one", "two")).splitlines()
    assert lines[-1] == "  and 10 more"
    assert len(lines) == 20 * 3 + 1
    assert max(map(len, lines)) < 250
