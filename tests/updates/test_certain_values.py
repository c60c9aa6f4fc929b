"""Values of a type that is certain count as what they are: UUIDs, enumerations, dates, bytes."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from enum import Enum, IntEnum
from typing import Any

import pytest
from bson import Binary, DatetimeMS, DBRef, Decimal128, Int64, Regex
from bson.binary import UuidRepresentation
from bson.codec_options import CodecOptions
from pymongo import MongoClient, WriteConcern
from pymongo.collection import Collection

from lazymig import DocumentMigration
from lazymig.query.matching import compile_query
from lazymig.rules.binding import bind
from lazymig.rules.discovery import discover
from lazymig.rules.rewrite.rewriting import rewrite
from lazymig.updates.convergence import ends_match
from tests.support.steps import compile_step

Raw = dict[str, Any]

ONE, TWO = uuid.UUID(int=2**100 + 1), uuid.UUID(int=2**90 + 2)
NOON = datetime(2020, 1, 1, 12)


class State(str, Enum):
    """Text with a name."""

    NEW = "new"
    READY = "ready"


class Level(IntEnum):
    """A number with a name."""

    LOW = 1
    HIGH = 2


class Many(int):
    """A number of a class of its own."""


REPRESENTATIONS = [
    UuidRepresentation.STANDARD,
    UuidRepresentation.PYTHON_LEGACY,
    UuidRepresentation.JAVA_LEGACY,
    UuidRepresentation.CSHARP_LEGACY,
]


@pytest.fixture(scope="module")
def scratch(client: MongoClient[Raw]) -> Iterator[Collection[Raw]]:
    """One collection for all cases."""
    name = f"lazymig_{uuid.uuid4().hex}"
    yield client[name].get_collection("c", write_concern=WriteConcern(w=1, j=False))
    client.drop_database(name)


@pytest.fixture(params=REPRESENTATIONS)
def collection(scratch: Collection[Raw], request: pytest.FixtureRequest) -> Collection[Raw]:
    """An empty collection whose client stores UUIDs in one of the representations."""
    scratch.delete_many({})
    options: CodecOptions[Raw] = CodecOptions(uuid_representation=request.param)
    return scratch.with_options(codec_options=options)


PROVED: list[tuple[Any, Any, Any]] = [
    # What the target says of `v`, what the update sets, a value that matches.
    (ONE, TWO, ONE),
    ({"$in": [ONE, "x"]}, TWO, "x"),
    ({"$ne": TWO}, TWO, ONE),
    ({"$nin": [TWO, None]}, TWO, 5),
    ({"$type": "string"}, ONE, str(ONE)),
    ({"$not": {"$type": "binData"}}, ONE, str(ONE)),
    ({"$type": "array"}, ONE, [ONE]),
    ({"w": ONE}, {"w": TWO}, {"w": ONE}),
    ([ONE, 1], [TWO, 1], [ONE, 1]),
    (None, ONE, None),
    ({"$lt": 5}, ONE, 4),
    (Binary(b"x" * 16, 4), ONE, Binary(b"x" * 16, 4)),
    (Binary(b"x", 0), ONE, b"x"),
    (b"x", b"y", Binary(b"x", 0)),
    (b"x", Binary(b"x", 5), b"x"),
    ({"$type": "string"}, State.READY.value.encode(), "ready"),
    (State.NEW, State.READY, "new"),
    ("new", State.READY, State.NEW),
    ({"$ne": "ready"}, State.READY, "new"),
    ({"$type": "string"}, Level.HIGH, "2"),
    ({"$type": "double"}, Level.HIGH, 2.0),
    ({"$lt": Level.HIGH}, Many(2), 1),
    ({"$type": "int"}, Int64(1), 1),
    ({"$type": "double"}, Decimal128("1"), 1.0),
    ({"$ne": Decimal128("1.0")}, 1, 2),
    ({"$lt": NOON}, NOON.replace(microsecond=999), NOON - timedelta(days=1)),
    ({"$ne": NOON}, NOON.replace(microsecond=999), NOON - timedelta(days=1)),
    ({"$ne": NOON}, DatetimeMS(1577880000000), NOON - timedelta(days=1)),
    ({"$ne": NOON}, NOON.replace(hour=13, tzinfo=timezone(timedelta(hours=1))), None),
    ({"$type": "string"}, NOON, "2020"),
    ({"$type": "string"}, re.compile("x"), "x"),
    ({"$type": "string"}, Regex("x"), "x"),
    ({"$type": "string"}, DBRef("c", ONE), "x"),
    ({"$not": {"$type": "object"}}, DBRef("c", ONE), ONE),
]


@pytest.mark.parametrize(("condition", "value", "old"), PROVED)
def test_what_a_value_is_decides(
    collection: Collection[Raw], condition: Any, value: Any, old: Any
) -> None:
    """An update to another value, or to one of another type, is proved, and ends its match."""
    target = {"v": condition}
    collection.insert_one({"_id": 1, "v": old})
    for update in ({"$set": {"v": value}}, [{"$set": {"v": {"$literal": value}}}]):
        collection.replace_one({"_id": 1}, {"v": old})
        assert collection.update_many(target, update).matched_count == 1
        assert collection.count_documents(target) == 0
        assert ends_match(target, update)


UNPROVED: list[tuple[Any, Any]] = [
    (ONE, ONE),
    ({"$in": [TWO, ONE]}, ONE),
    # Which of two UUIDs is greater, and which bytes one has, depends on the representation.
    ({"$lt": ONE}, TWO),
    ({"$gt": ONE}, TWO),
    (Binary.from_uuid(ONE, UuidRepresentation.STANDARD), ONE),
    (Binary.from_uuid(ONE, UuidRepresentation.JAVA_LEGACY), ONE),
    ({"$ne": Binary.from_uuid(ONE, UuidRepresentation.STANDARD)}, ONE),
    ({"$type": "binData"}, ONE),
    (State.NEW, "new"),
    (NOON, NOON.replace(microsecond=999)),
    (b"x", Binary(b"x", 0)),
    (1, Decimal128("1")),
]


@pytest.mark.parametrize(("condition", "value"), UNPROVED)
def test_equal_values_end_no_match(condition: Any, value: Any) -> None:
    """What is equal, or may be in some representation, is never proved to be different."""
    assert not ends_match({"v": condition}, {"$set": {"v": value}})


@pytest.mark.parametrize(
    "condition",
    [
        *(ONE, TWO, {"$in": [ONE, TWO]}, {"$ne": ONE}, {"$nin": [ONE]}, {"$type": "binData"}),
        *({"$type": "string"}, {"$exists": True}, None, [ONE], {"$all": [ONE]}, {"w": ONE}),
        *(Binary.from_uuid(ONE, representation) for representation in REPRESENTATIONS),
        *({"$gt": ONE}, {"$lte": TWO}, {"$elemMatch": {"$eq": ONE}}, {"$not": {"$eq": TWO}}, b"x"),
    ],
)
def test_uuids_match_in_memory_as_on_the_server(
    collection: Collection[Raw], condition: Any
) -> None:
    """What is judged in memory of documents with UUIDs is the server's answer, for every client."""
    values = [ONE, TWO, str(ONE), None, [ONE], [TWO, 1], {"w": ONE}, {"w": TWO}, b"x", b"x" * 16]
    collection.insert_many([{"_id": number, "v": value} for number, value in enumerate(values)])
    foreign = [Binary.from_uuid(ONE, representation) for representation in REPRESENTATIONS]
    # Bytes that this client's representation reads as some UUID, and others.
    collection.insert_many([{"_id": 100 + n, "v": value} for n, value in enumerate(foreign)])
    query = {"v": condition}
    found = {one["_id"] for one in collection.find(query)}
    judge = compile_query(query).judge
    answers = {one["_id"]: judge(one) for one in collection.find()}
    for key, answer in answers.items():
        assert answer in (None, key in found), (key, condition)
    if not isinstance(condition, Binary) and "$gt" not in repr(condition):
        certain = [key for key, answer in answers.items() if answer is not None and key < 100]
        assert len(certain) >= len(values) - 2, answers


def test_queries_see_uuid_constants(collection: Collection[Raw]) -> None:
    """A query through a rule that sets a UUID finds what it finds after the migration."""
    step = compile_step("rule", {"v": {"$type": "string"}}, {"$set": {"v": ONE}})
    collection.insert_many([{"_id": 1, "v": "x"}, {"_id": 2, "v": TWO}, {"_id": 3, "v": ONE}])
    queries: list[Raw] = [
        *({"v": ONE}, {"v": TWO}, {"v": {"$in": [ONE, TWO]}}, {"v": {"$ne": ONE}}),
        *({"v": {"$type": "string"}}, {"v": {"$type": "binData"}}),
    ]
    seen = [
        {one["_id"] for one in collection.find(dict(rewrite(each, [step])))} for each in queries
    ]
    collection.update_many({"v": {"$type": "string"}}, {"$set": {"v": ONE}})
    assert seen == [{one["_id"] for one in collection.find(each)} for each in queries]


class _Rules(DocumentMigration):
    def migration01__serial(self) -> None:
        self.target = {"serial": {"$type": "string"}}
        self.update = {"$set": {"serial": uuid.UUID(self.doc["serial"])}}

    def migration02__tenant(self) -> None:
        self.target = {"tenant": ONE}
        self.update = {"$set": {"tenant": TWO}}


class _Device:
    pass


def test_a_computed_uuid_is_proved_with_its_document() -> None:
    """Text that becomes a UUID starts on a match: each computed update is proved by its type."""
    computed, constant = (bind(rule, _Rules, _Device) for rule in discover(_Rules))
    assert computed is not None
    assert constant is not None
    assert (computed.converges, constant.converges) == (None, True)
    evaluation = computed.evaluate(document={"_id": 1, "serial": str(ONE)})
    assert evaluation.update == {"$set": {"serial": ONE}}
    assert computed.converges_with(evaluation)
