"""The JSON of values, made of their annotations."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Annotated, Any, ClassVar

import pytest
from bson import SON, Int64, json_util

from lazymig.raw.json_values import NOT_IN_JSON, JsonValue, json_fields, time_in_json


@dataclass(frozen=True, slots=True)
class Inner(JsonValue):
    number: Any = field(metadata={"json": "id"})


@dataclass(frozen=True, slots=True)
class Outer(JsonValue):
    derived: ClassVar[tuple[str, ...]] = ("ok",)

    text: str
    stored: Any
    counts: Mapping[str, int]
    query: Mapping[str, Any] | None
    inner: tuple[Inner, ...]
    pairs: tuple[Annotated[tuple[str, int], ("value", "count")], ...]
    at: datetime | None
    filters: tuple[Mapping[str, Any], ...] | None
    hidden: int = field(default=1, metadata=NOT_IN_JSON)

    @property
    def ok(self) -> bool:
        return True


VALUE = Outer(
    text="a",
    stored=Int64(1),
    counts={"x": 2},
    query={"n": 5},
    inner=(Inner(3),),
    pairs=(("y", 4),),
    at=datetime(2024, 2, 29, 12, 30, 0, 123456),
    filters=({"f": 6},),
)


def test_stored_data_is_extended_json_and_the_rest_is_plain() -> None:
    """What is annotated as Any loses no type; times, pairs and inner values are plain JSON."""
    assert VALUE.to_dict() == {
        "ok": True,
        "text": "a",
        "stored": {"$numberLong": "1"},
        "counts": {"x": 2},
        "query": {"n": {"$numberInt": "5"}},
        "inner": [{"id": {"$numberInt": "3"}}],
        "pairs": [{"value": "y", "count": 4}],
        "at": "2024-02-29T12:30:00.123Z",
        "filters": [{"f": {"$numberInt": "6"}}],
    }


def test_the_annotations_name_the_keys() -> None:
    """Each key of the JSON has its attribute and annotation, so that a schema can be derived."""
    assert list(json_fields(Outer)) == list(VALUE.to_dict())
    assert json_fields(Inner) == {"id": ("number", Any)}
    assert json_fields(Outer)["ok"] == ("ok", bool)


@dataclass(frozen=True, slots=True)
class Stored(JsonValue):
    value: Any
    values: tuple[Any, ...]
    named: Mapping[str, Any]


@pytest.mark.parametrize("value", [datetime(2022, 1, 1), {"a": datetime(2022, 1, 1)}, SON(a=1)])
def test_stored_data_is_no_text(value: Any) -> None:
    """What is stored stays Extended JSON, a date or a SON at the top included."""
    written = Stored(value, (value,), {"name": value}).to_dict()
    expected = json.loads(json_util.dumps(value, json_options=json_util.CANONICAL_JSON_OPTIONS))
    assert written == {"value": expected, "values": [expected], "named": {"name": expected}}


def test_a_moment_with_a_time_zone_is_written_in_utc() -> None:
    """An aware time is the same moment in the JSON."""
    berlin = timezone(timedelta(hours=1))
    assert time_in_json(datetime(2022, 1, 1, 13, tzinfo=berlin)) == "2022-01-01T12:00:00.000Z"
