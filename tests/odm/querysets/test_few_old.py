"""A few old documents are read apart from all others, whatever is migrated meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mongoengine import Document, DynamicField, IntField, connect, disconnect
from pymongo import monitoring
from pymongo.database import Database

from lazymig import LazyMigrationMixin
from lazymig.odm.querysets import showing
from tests.support.commands import CommandLog
from tests.support.handlers import handler, rule
from tests.support.server import CLIENT_OPTIONS

Raw = dict[str, Any]

RULES: dict[str, Any] = {
    "migration01__moved": rule({"old": {"$exists": True}}, {"$rename": {"old": "v"}}),
    "migration02__typed": rule({"v": {"$type": "double"}}, [{"$set": {"v": {"$toInt": "$v"}}}]),
    "migration03__named": rule({"v": "a"}, {"$set": {"v": "b"}}),
    "migration04__left": rule({"v": "gone"}, {"$unset": {"v": ""}}),
}
READS: dict[str, Callable[[Any], Any]] = {
    "sum": lambda o: o.sum("n"),
    "average": lambda o: o.average("n"),
    "item_frequencies": lambda o: o.item_frequencies("v"),
    "distinct": lambda o: sorted(map(repr, o.distinct("v"))),
    "group": lambda o: sorted(
        repr(one) for one in o.aggregate([{"$group": {"_id": "$v", "n": {"$sum": "$n"}}}])
    ),
    "start of an order": lambda o: [
        one["_id"] for one in o.aggregate([{"$sort": {"v": 1, "_id": 1}}, {"$limit": 3}])
    ],
}


def _thing(rules: Any = None) -> Any:
    body: Raw = {
        "key": IntField(primary_key=True),
        "n": IntField(),
        "v": DynamicField(),
        "meta": {"collection": "thing", "auto_create_index": False},
    }
    if rules is not None:
        body["migration_handler"] = handler(settle_limit=0, **rules)
    bases = (Document,) if rules is None else (LazyMigrationMixin, Document)
    return type(Document)("Thing", bases, body)


SCORED = {**RULES, "migration05__n": rule({"seen": 1}, {"$inc": {"n": 1}, "$unset": {"seen": ""}})}
VALUES = st.sampled_from([1, 2, 1.0, 2.0, "a", "b", "c", "gone", None, True, [1, "a"], {"x": 1}])


@st.composite
def things(draw: Any) -> list[Raw]:
    """Documents in any shape."""
    found = []
    for number in range(draw(st.integers(1, 8))):
        document: Raw = {"_id": number, "n": draw(st.integers(0, 3))}
        path = draw(st.sampled_from(["old", "v", "v", None]))
        if path is not None:
            document[path] = draw(VALUES)
        if draw(st.booleans()):
            document["seen"] = 1
        found.append(document)
    return found


def _migrate(database: Database[Raw]) -> None:
    database.thing.update_many({"old": {"$exists": True}}, {"$rename": {"old": "v"}})
    database.thing.update_many(
        {"v": {"$type": "double"}, "$nor": [{"v": {"$type": "array"}}]},
        [{"$set": {"v": {"$toInt": "$v"}}}],
    )
    database.thing.update_many({"v": "a"}, {"$set": {"v": "b"}})
    database.thing.update_many({"v": "gone"}, {"$unset": {"v": ""}})
    database.thing.update_many({"seen": 1}, {"$inc": {"n": 1}, "$unset": {"seen": ""}})


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("indexed", [False, True], ids=["no index", "index"])
@pytest.mark.parametrize("read", READS)
def test_a_read_of_few_gives_what_migrated_documents_give(
    mongoengine_db: Database[Raw], read: str, indexed: bool
) -> None:
    """With a few old documents among all, the answer is that of plain MongoEngine on new ones."""
    if indexed:
        mongoengine_db.thing.create_index("v")
    lazy, plain = _thing(SCORED), _thing()

    @settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow], deadline=None)
    @given(things())
    def holds(documents: list[Raw]) -> None:
        mongoengine_db.thing.delete_many({})
        mongoengine_db.thing.insert_many(documents)
        found = READS[read](lazy.objects)
        assert list(mongoengine_db.thing.find()) == documents
        _migrate(mongoengine_db)
        expected = READS[read](plain.objects)
        if read == "distinct":
            # Of what is missing an index may make a null, and nothing says which one is taken.
            found, expected = set(found) - {"None"}, set(expected) - {"None"}
        assert found == expected

    holds()


OLD: list[Raw] = [
    {"_id": 1, "n": 1, "old": "x"},
    {"_id": 2, "n": 2, "old": "a"},
    {"_id": 3, "n": 4, "v": "a", "seen": 1},
    {"_id": 4, "n": 8, "v": "b"},
    {"_id": 5, "n": 16, "v": "y"},
]


class _Migrating(monitoring.CommandListener):
    """Migrates everything before one of the commands that follow the look at what is old."""

    def __init__(self, database: Database[Raw]) -> None:
        self.database = database
        self.left = -1

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        """Migrate, if it is this command's turn."""
        if event.command_name in ("aggregate", "distinct", "listCollections"):
            if self.left == 0:
                _migrate(self.database)
            self.left -= 1

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        """Nothing to do."""

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        """Nothing to do."""


@pytest.fixture
def migrating(server_uri: str, database: Database[Raw]) -> Iterator[_Migrating]:
    """What migrates between the commands of MongoEngine's client."""
    listener = _Migrating(database)
    connect(database.name, host=server_uri, event_listeners=[listener], **CLIENT_OPTIONS)
    yield listener
    disconnect()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("before", range(4))
@pytest.mark.parametrize("indexed", [False, True], ids=["no index", "index"])
@pytest.mark.parametrize("read", READS)
def test_what_is_migrated_meanwhile_counts_once(
    migrating: _Migrating, database: Database[Raw], read: str, indexed: bool, before: int
) -> None:
    """Between whichever commands everything is migrated, each document is read once."""
    if indexed:
        database.thing.create_index("v")
    database.thing.insert_many(OLD)
    _migrate(database)
    expected = READS[read](_thing().objects)
    database.thing.delete_many({})
    database.thing.insert_many(OLD)
    objects = _thing(SCORED).objects

    migrating.left = before
    assert READS[read](objects) == expected


def _sent(log: CommandLog, read: Callable[[], Any]) -> list[str]:
    log.clear()
    read()
    return log.names


def test_the_stages_stand_before_the_few_alone(
    monitored_db: Database[Raw], command_log: CommandLog
) -> None:
    """Over everything, a sum is the plain part and that of the old, told apart by `_id`."""
    monitored_db.thing.insert_many(OLD)
    objects = _thing(SCORED).objects
    names = _sent(command_log, lambda: objects.sum("n"))
    assert names == ["find", "listCollections", "aggregate"]
    command = command_log.commands[-1][1]
    others, union, _group = command["pipeline"]
    assert others == {"$match": {"_id": {"$nin": [3]}}}
    assert union["$unionWith"]["pipeline"][0] == {"$match": {"_id": {"$eq": 3}}}
    assert command["hint"] == {"$natural": 1}


def test_distinct_is_the_plain_command_and_two_small_ones(
    monitored_db: Database[Raw], command_log: CommandLog
) -> None:
    """The values of all come by `distinct`; a value that is doubtful is asked for once."""
    monitored_db.thing.insert_many(OLD)
    objects = _thing(RULES).objects
    names = _sent(command_log, lambda: objects.distinct("v"))
    assert names == ["find", "listCollections", "aggregate", "distinct", "distinct"]
    assert not command_log.commands[3][1].get("query")
    assert command_log.commands[4][1]["query"] == {
        "_id": {"$nin": [1, 2, 3]},
        "v": {"$in": ["a"]},
    }


@pytest.mark.parametrize(
    ("read", "commands"),
    [
        (lambda o: o(n__gt=1).distinct("v"), ["aggregate"]),
        (lambda o: o.collation({"locale": "en"}).distinct("v"), ["find", "aggregate"]),
        (lambda o: list(o.aggregate([])), ["find", "aggregate"]),
    ],
    ids=["filter", "collation", "no end"],
)
def test_other_reads_are_one_command(
    monitored_db: Database[Raw],
    command_log: CommandLog,
    read: Callable[[Any], Any],
    commands: list[str],
) -> None:
    """Where the parts cannot be told apart, or need not be, the stages stand before everything."""
    monitored_db.thing.insert_many(OLD)
    objects = _thing({"migration01__moved": RULES["migration01__moved"]}).objects
    names = _sent(command_log, lambda: read(objects))
    assert [name for name in names if name != "listCollections"] == commands
    assert "$unionWith" not in str(command_log.commands[-1])


def test_many_old_documents_are_not_named(
    monitored_db: Database[Raw], command_log: CommandLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than a few old documents are shown by the stages in front of everything."""
    monkeypatch.setattr(showing, "_FEW", 2)
    monitored_db.thing.insert_many(OLD)
    objects = _thing(RULES).objects
    assert _sent(command_log, lambda: objects.distinct("v")) == ["find", "aggregate"]
    assert sorted(objects.distinct("v")) == ["b", "x", "y"]


def test_a_collection_with_a_collation_is_not_parted(
    monitored_db: Database[Raw], command_log: CommandLog
) -> None:
    """Values that are equal in a collection are so among the few and all others together."""
    monitored_db.create_collection("thing", collation={"locale": "en", "strength": 2})
    monitored_db.thing.insert_many([{"_id": 1, "old": "X"}, {"_id": 2, "v": "x"}])
    objects = _thing(RULES).objects
    names = _sent(command_log, lambda: objects.distinct("v"))
    assert names == ["find", "listCollections", "aggregate"]
    assert len(objects.distinct("v")) == 1


def test_the_look_has_the_concern_of_the_read(
    monitored_db: Database[Raw], command_log: CommandLog
) -> None:
    """What is not old by a later state may be old in the one that is read."""
    monitored_db.thing.insert_many(OLD)
    objects = _thing(RULES).objects.read_concern({"level": "majority"})
    names = _sent(command_log, lambda: objects.distinct("v"))
    levels = [command.get("readConcern", {}).get("level") for _, command in command_log.commands]
    assert [
        level for name, level in zip(names, levels, strict=True) if name != "listCollections"
    ] == ["majority"] * (len(names) - 1)


@pytest.mark.parametrize(
    "ids",
    [[None, "a", b"x"], [{"a": 1, "b": 2}, {"b": 2, "a": 1}], [True, 1.5, 2]],
    ids=["scalars", "documents", "numbers"],
)
def test_an_id_of_any_type_tells_the_parts_apart(
    mongoengine_db: Database[Raw], ids: list[Any]
) -> None:
    """Each document counts once, whatever its `_id` is."""
    documents = [{"_id": one, "n": 1, "seen": 1} for one in ids]
    mongoengine_db.thing.insert_many([*documents, {"_id": "other", "n": 1}])
    assert _thing(SCORED).objects.sum("n") == 2 * len(ids) + 1


def test_distinct_values_come_in_the_order_of_an_index(mongoengine_db: Database[Raw]) -> None:
    """What only old documents are shown with has its place among the others."""
    mongoengine_db.thing.create_index("v")
    mongoengine_db.thing.insert_many(
        [{"_id": 1, "v": "c"}, {"_id": 2, "v": "e"}, {"_id": 3, "old": "d"}, {"_id": 4, "old": 7}]
    )
    assert _thing(RULES).objects.distinct("v") == [7, "c", "d", "e"]


def test_what_is_missing_of_the_old_is_no_null(mongoengine_db: Database[Raw]) -> None:
    """By an index MongoDB makes a null of what is missing; old documents will not miss it."""
    mongoengine_db.thing.create_index("v")
    mongoengine_db.thing.insert_many([{"_id": 1, "v": "c"}, {"_id": 2, "old": "d"}])
    objects = _thing(RULES).objects
    assert objects.distinct("v") == ["c", "d"]
    mongoengine_db.thing.insert_one({"_id": 3})
    assert objects.distinct("v") == [None, "c", "d"]
