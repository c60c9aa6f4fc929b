"""Reads of what rules write are answered by showing: nothing is written, whoever reads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from mongoengine import (
    BooleanField,
    Document,
    IntField,
    ListField,
    StringField,
    connect,
    connection,
    disconnect,
    get_connection,
)
from pymongo import MongoClient, ReadPreference
from pymongo.database import Database

from lazymig import LazyMigrationMixin, SettleLimitExceeded
from lazymig.odm.querysets.stages_first import Front
from lazymig.odm.versions import stages_of
from tests.support.commands import CommandLog
from tests.support.handlers import ADD_ENABLED, handler, model, rule
from tests.support.rights import guarded  # noqa: F401 - a fixture
from tests.support.server import CLIENT_OPTIONS
from tests.support.sessions import needs_bound_sessions

Raw = dict[str, Any]

RENAME = rule({"mail": {"$exists": True}}, {"$rename": {"mail": "email"}})
COUNT = rule({"seen": {"$exists": True}}, {"$inc": {"n": 1}, "$unset": {"seen": ""}})
OLD: list[Raw] = [
    {"_id": 1, "n": 1, "mail": "a", "enabled": False, "tags": ["x", "y"]},
    {"_id": 2, "n": 2, "email": "b", "enabled": True, "tags": ["y"]},
    {"_id": 3, "n": 3, "mail": "a", "seen": 1},
    {"_id": 4, "n": 4, "email": "c", "enabled": False, "seen": 1},
]
NEW: list[Raw] = [
    {"_id": 1, "n": 1, "email": "a", "enabled": False, "tags": ["x", "y"]},
    {"_id": 2, "n": 2, "email": "b", "enabled": True, "tags": ["y"]},
    {"_id": 3, "n": 4, "email": "a", "enabled": True},
    {"_id": 4, "n": 5, "email": "c", "enabled": False},
]
WRITES = {"bulkWrite", "delete", "findAndModify", "insert", "update"}

READS: dict[str, Callable[[Any], Any]] = {
    "distinct": lambda o: sorted(o.distinct("email")),
    "distinct in a filter": lambda o: o(enabled=True).distinct("email"),
    "distinct of what is computed": lambda o: sorted(o.distinct("n")),
    "distinct by what is computed": lambda o: sorted(o(n__gte=4).distinct("email")),
    "sum": lambda o: o.sum("n"),
    "sum in a filter": lambda o: o(email="a").sum("n"),
    "sum by what is computed": lambda o: o(n__gte=4).sum("n"),
    "sum of nothing": lambda o: o(email="none").sum("n"),
    "average": lambda o: o.average("n"),
    "average of nothing": lambda o: o(email="none").average("n"),
    "item_frequencies": lambda o: o.item_frequencies("email"),
    "item_frequencies of a list": lambda o: o(enabled__ne=None).item_frequencies("tags"),
    "item_frequencies by what is computed": lambda o: o(n=4).item_frequencies("n", normalize=True),
    "group": lambda o: sorted(
        (one["_id"], one["n"])
        for one in o.aggregate([{"$group": {"_id": "$email", "n": {"$sum": "$n"}}}])
    ),
    "match, then group": lambda o: list(
        o.aggregate([{"$match": {"email": "a"}}, {"$group": {"_id": None, "n": {"$sum": "$n"}}}])
    ),
    "match by what is computed": lambda o: list(
        o.aggregate([{"$match": {"n": 4}}, {"$project": {"email": 1}}])
    ),
    "whole documents": lambda o: [
        dict(sorted(one.items())) for one in o.aggregate([{"$sort": {"_id": 1}}])
    ],
    "in an order, a part": lambda o: [
        one["_id"] for one in o.order_by("-n").skip(1).limit(2).aggregate([])
    ],
    "a limit before a match": lambda o: list(
        o.order_by("_id").limit(3).aggregate([{"$match": {"email": "a"}}, {"$count": "n"}])
    ),
    "facets": lambda o: list(
        o.aggregate([{"$facet": {"a": [{"$match": {"enabled": True}}, {"$count": "n"}]}}])
    ),
}
if stages_of({}, ()) is not None:
    READS["suppl"] = lambda o: list(o.aggregate({"$match": {"email": "a"}}, {"$count": "n"}))


def _post(rules: Any = None, **more: Any) -> Any:
    bases = (Document,) if rules is None else (LazyMigrationMixin, Document)
    body = {
        "key": IntField(primary_key=True),
        "n": IntField(),
        "email": StringField(),
        "enabled": BooleanField(),
        "tags": ListField(StringField()),
        "meta": {"collection": "post", "auto_create_index": False},
        **more,
    }
    if rules is not None:
        body["migration_handler"] = rules
    return type(Document)("Post", bases, body)


def _rules(**attributes: Any) -> Any:
    return handler(
        migration01__mail=RENAME,
        migration02__enabled=rule(*ADD_ENABLED),
        migration03__count=COUNT,
        # Whatever is settled is an error.
        settle_limit=0,
        **attributes,
    )


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("read", READS)
def test_a_shown_read_gives_what_migrated_documents_give(
    monitored_db: Database[Raw], command_log: CommandLog, read: str
) -> None:
    """The answer is that of plain MongoEngine on migrated documents, and nothing was written."""
    monitored_db.post.insert_many(NEW)
    expected = READS[read](_post().objects)
    monitored_db.post.delete_many({})
    monitored_db.post.insert_many(OLD)
    command_log.clear()

    assert READS[read](_post(_rules()).objects) == expected
    assert WRITES.isdisjoint(command_log.names)
    assert list(monitored_db.post.find()) == OLD


@pytest.mark.parametrize(
    "read",
    ["distinct in a filter", "sum in a filter", "match, then group", "sum by what is computed"],
)
def test_a_filter_needs_no_look(
    monitored_db: Database[Raw], command_log: CommandLog, read: str
) -> None:
    """Within a filter a read is one command, whether anything is old or not."""
    monitored_db.post.insert_many(OLD)
    objects = _post(_rules()).objects
    command_log.clear()
    READS[read](objects)
    assert command_log.names == ["aggregate"]


def test_nothing_old_is_the_plain_operation(
    monitored_db: Database[Raw], command_log: CommandLog
) -> None:
    """Over all documents one look tells that none is old, and the command is MongoEngine's own."""
    monitored_db.post.insert_many(NEW)
    objects = _post(_rules()).objects
    command_log.clear()
    assert objects.sum("n") == 12
    assert sorted(objects.distinct("email")) == ["a", "b", "c"]
    assert command_log.names == ["find", "aggregate", "find", "distinct"]
    assert len(command_log.commands[1][1]["pipeline"]) == 2


def test_a_read_of_other_paths_is_sent_as_it_is(
    monitored_db: Database[Raw], command_log: CommandLog
) -> None:
    """A read that no rule concerns is MongoEngine's own command, by item_frequencies() too."""
    monitored_db.post.insert_many(OLD)
    objects = _post(_rules()).objects
    command_log.clear()
    assert objects.distinct("tags") == ["x", "y"]
    assert objects.item_frequencies("tags")["y"] == 2
    assert command_log.names == ["distinct", "mapReduce"]


def _swapped(self: Any) -> None:
    """What only Python computes: small letters for capital ones."""
    self.target = {"word": {"$exists": True}}
    self.update = {"$set": {"email": self.doc["word"].swapcase()}, "$unset": {"word": ""}}


def _words(**attributes: Any) -> Any:
    return model(
        handler(migration01__mail=RENAME, migration02__swapped=_swapped, **attributes),
        email=StringField(),
        n=IntField(),
    )


MIXED: list[Raw] = [
    {"_id": 1, "mail": "a", "n": 1},
    {"_id": 2, "word": "AB", "n": 2},
    {"_id": 3, "word": "CD", "n": 3},
    {"_id": 4, "email": "z", "n": 4},
]


@pytest.mark.parametrize(
    ("read", "expected", "settled"),
    [
        (lambda o: sorted(o.distinct("email")), ["a", "ab", "cd", "z"], {2, 3}),
        (lambda o: sorted(o(n__lt=3).distinct("email")), ["a", "ab"], {2}),
        (lambda o: o(email="ab").sum("n"), 2, {2, 3}),
        (lambda o: sorted(o(n=1).distinct("email")), ["a"], set()),
        (
            lambda o: [one["email"] for one in o(n__lt=3).order_by("n").aggregate([])],
            ["a", "ab"],
            {2},
        ),
        (
            lambda o: list(
                o.aggregate([{"$project": {"email": 1, "_id": 0}}, {"$match": {"email": "ab"}}])
            ),
            [{"email": "ab"}],
            {2, 3},
        ),
    ],
    ids=["all", "some", "by it", "others", "whole documents", "match after all"],
)
def test_what_cannot_be_shown_is_settled_alone(
    mongoengine_db: Database[Raw],
    read: Callable[[Any], Any],
    expected: Any,
    settled: set[int],
) -> None:
    """Of the documents that are read those are settled whose turn comes to a rule in Python."""
    mongoengine_db.post.insert_many(MIXED)

    assert read(_words().objects) == expected
    changed = {
        before["_id"]
        for before, after in zip(MIXED, mongoengine_db.post.find(), strict=True)
        if before != after
    }
    assert changed == settled


def test_the_limit_holds_for_what_is_settled(mongoengine_db: Database[Raw]) -> None:
    """More than settle_limit documents that cannot be shown are an error that names their rule."""
    mongoengine_db.post.insert_many(MIXED)
    with pytest.raises(SettleLimitExceeded) as failure:
        _words(settle_limit=1).objects.distinct("email")
    assert failure.value.rules == ("migration02__swapped",)
    assert failure.value.operation == "distinct('email')"
    assert list(mongoengine_db.post.find()) == MIXED
    assert sorted(_words(settle_limit=1).objects(n__lt=3).distinct("email")) == ["a", "ab"]


def test_what_is_settled_finds_room_in_commands(mongoengine_db: Database[Raw]) -> None:
    """However many bytes the `_id`s have of what has to be settled, a read settles it."""
    ids = [f"{'x' * 900_000}{number}" for number in range(20)]
    for one in ids:
        mongoengine_db.post.insert_one({"_id": one, "word": "AB"})
    assert _words(settle_limit=None).objects.distinct("email") == ["ab"]


@needs_bound_sessions
def test_in_a_transaction_nothing_fails(mongoengine_db: Database[Raw]) -> None:
    """What has to be settled is looked for: a command that fails would end the transaction."""
    mongoengine_db.post.insert_many(MIXED)
    objects = _words().objects
    with get_connection().start_session() as session, session.start_transaction(), session.bind():
        assert sorted(objects.distinct("email")) == ["a", "ab", "cd", "z"]
        assert objects.sum("n") == 10


@pytest.mark.parametrize("size", [0, 1])
def test_a_first_batch_of_any_size_is_of_what_was_settled(
    mongoengine_db: Database[Raw], size: int
) -> None:
    """However few documents come first, what has to be settled is settled before them."""
    mongoengine_db.post.insert_many(MIXED)
    objects = _words().objects.batch_size(size)
    groups = objects.aggregate([{"$group": {"_id": "$email"}}], batchSize=size)
    assert {one["_id"] for one in groups} == {"a", "ab", "cd", "z"}
    mongoengine_db.post.drop()
    mongoengine_db.post.insert_many(MIXED)
    assert [one.key for one in objects.order_by("email")] == [1, 2, 3, 4]


def test_what_is_stored_while_others_are_settled_is_settled_too(
    monitored_db: Database[Raw], command_log: CommandLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An old document that arrives between two tries of a read is in no answer in its old shape."""
    monitored_db.post.insert_many(MIXED)
    coming = [{"_id": 8, "word": "EF"}, {"_id": 9, "word": "GH"}]
    note = command_log.started

    def arrives(event: Any) -> None:
        if event.command_name == "update" and coming:
            monitored_db.post.insert_one(coming.pop(0))
        note(event)

    monkeypatch.setattr(command_log, "started", arrives)
    assert sorted(_words().objects.distinct("email")) == ["a", "ab", "cd", "ef", "gh", "z"]
    assert not coming


@needs_bound_sessions
@pytest.mark.parametrize("pipeline", [[{"$group": {"_id": "$email"}}], [{"$sort": {"_id": 1}}]])
def test_a_transaction_that_an_aggregation_is_given_goes_on(
    mongoengine_db: Database[Raw], pipeline: list[Raw]
) -> None:
    """What has to be settled is settled within the transaction: it sees that, and nobody else."""
    mongoengine_db.post.insert_many(MIXED)
    objects, posts = _words().objects, get_connection()[mongoengine_db.name].post
    with get_connection().start_session() as session:
        if hasattr(connection, "_get_session"):
            pytest.skip("this MongoEngine gives aggregations a session of its own")
        with session.start_transaction():
            posts.insert_one({"_id": 9, "email": "new"}, session=session)
            found = list(objects.aggregate(pipeline, session=session))
            posts.insert_one({"_id": 10, "email": "newer"}, session=session)
            assert list(mongoengine_db.post.find()) == MIXED
    emails = {one.get("email", one["_id"]) for one in found}
    assert emails == {"a", "ab", "cd", "z", "new"}


@pytest.mark.parametrize("read", ["distinct", "group", "whole documents"])
def test_a_secondary_is_read_without_a_look_at_the_primary(
    monitored_db: Database[Raw], command_log: CommandLog, read: str
) -> None:
    """With another read preference all commands carry it, and nothing is looked for elsewhere."""
    monitored_db.post.insert_many(OLD)
    objects = _post(_rules()).objects.read_preference(ReadPreference.SECONDARY_PREFERRED)
    command_log.clear()
    READS[read](objects)
    # A secondary may hold what is not old on the primary any more.
    assert command_log.names == ["aggregate"]
    assert "$readPreference" in command_log.commands[0][1]


COLLATION = {"locale": "en", "strength": 2}
TO_DONE = rule({"state": "old"}, {"$set": {"state": "New"}})


def test_a_rule_that_compares_texts_heeds_no_collation(mongoengine_db: Database[Raw]) -> None:
    """A target is asked for the characters of a text, whatever collation the read has."""
    mongoengine_db.post.insert_many([{"_id": 1, "state": "old"}, {"_id": 2, "state": "OLD"}])
    post = model(handler(migration01__state=TO_DONE), state=StringField())
    assert sorted(post.objects.collation(COLLATION).distinct("state")) == ["New", "OLD"]


def test_a_collation_counts_for_what_is_shown(mongoengine_db: Database[Raw]) -> None:
    """Distinct values are those under the collation of the queryset, old ones included."""
    mongoengine_db.post.insert_many([{"_id": 1, "mail": "A"}, {"_id": 2, "email": "a"}])
    objects = _post(_rules()).objects.collation(COLLATION)
    assert len(objects.distinct("email")) == 1
    grouped = [{"$group": {"_id": "$email", "n": {"$sum": 1}}}]
    (group,) = objects(email="A").aggregate(grouped, collation=COLLATION)
    assert group["n"] == 2
    assert mongoengine_db.post.count_documents({"mail": "A"}) == 1


def test_documents_of_the_old_shape_are_merged_out_in_todays(mongoengine_db: Database[Raw]) -> None:
    """What an aggregation writes to another collection is what it has been shown."""
    mongoengine_db.post.insert_many(OLD)
    _post(_rules()).objects.aggregate([{"$out": "copies"}])
    assert [dict(sorted(one.items())) for one in mongoengine_db.copies.find()] == [
        dict(sorted(one.items())) for one in NEW
    ]
    assert list(mongoengine_db.post.find()) == OLD


def test_a_stage_that_must_be_first_is_first(mongoengine_db: Database[Raw]) -> None:
    """In front of such a stage nothing is put; the documents are settled."""
    mongoengine_db.post.insert_many(OLD)
    rules = handler(migration01__mail=RENAME)
    stages = [{"$collStats": {"count": {}}}, {"$project": {"count": 1}}]
    (found,) = _post(rules).objects.aggregate(stages)
    assert found["count"] == 4


def test_what_is_asked_for_afterwards_hides_nothing_that_is_to_be_settled() -> None:
    """The stages that fail at a marked document come before every condition on shown ones."""
    front = Front({}, [], [{"$set": {"x": 1}}], {"y": 1}, lambda: False)
    before = front.before([{"$match": {"z": 1}}], trapped=True)
    assert before[-1] == {"$match": {"z": 1}}
    assert "$toInt" in str(before[:-1])


def test_who_may_only_read_reads(guarded: str) -> None:  # noqa: F811
    """A user without the right to write gets every answer, as nothing is written for it."""
    with MongoClient[Any](guarded, username="admin", password="admin") as root:
        root.shown.post.insert_many(OLD)
        root.shown.command("createUser", "user", pwd="user", roles=["read"])
        options = {"username": "user", "password": "user", "authentication_source": "shown"}
        connect("shown", host=guarded, **options, **CLIENT_OPTIONS)
        try:
            objects = _post(_rules()).objects
            assert objects.sum("n") == 12
            assert sorted(objects.distinct("email")) == ["a", "b", "c"]
            assert objects(n=4).aggregate([{"$count": "n"}]).to_list() == [{"n": 1}]
            assert objects.item_frequencies("email") == {"a": 2, "b": 1, "c": 1}
        finally:
            disconnect()
