"""Models with a shard key: every write of one document says on which shard it lies."""

from __future__ import annotations

from typing import Any

import pytest
from mongoengine import (
    BooleanField,
    Document,
    EmbeddedDocument,
    EmbeddedDocumentField,
    IntField,
    StringField,
)
from pymongo.database import Database

from lazymig import LazyMigrationMixin, RuleDefinitionError
from lazymig.engines.store import Store
from lazymig.odm.plans import plan_for
from tests.support.commands import CommandLog
from tests.support.handlers import copying, handler, model, rule
from tests.support.mails import mailing

COUNT = 4


class Place(EmbeddedDocument):
    """Where a post belongs."""

    region = StringField(db_field="r")


def _sharded(rules: Any, shard_key: tuple[str, ...] = ("tenant", "place.region", "key")) -> Any:
    return model(
        rules,
        tenant=StringField(db_field="t"),
        place=EmbeddedDocumentField(Place, db_field="p"),
        mailed=BooleanField(),
        n=IntField(),
        m=IntField(),
        k=IntField(),
        meta={"shard_key": shard_key},
    )


def _stored(number: int) -> dict[str, Any]:
    """Documents of four shapes: both fields, one of them null, one missing, both missing."""
    shapes: list[dict[str, Any]] = [
        {"t": "acme", "p": {"r": "eu"}},
        {"t": None, "p": {"r": "us"}},
        {"p": {}},
        {},
    ]
    return {"_id": number, "n": number, **shapes[number]}


WHERE = [
    {"_id": {"$eq": 0}, "t": {"$eq": "acme"}, "p.r": {"$eq": "eu"}},
    {"_id": {"$eq": 1}, "t": {"$eq": None}, "p.r": {"$eq": "us"}},
    {"_id": {"$eq": 2}, "t": {"$eq": None}, "p.r": {"$eq": None}},
    {"_id": {"$eq": 3}, "t": {"$eq": None}, "p.r": {"$eq": None}},
]


@pytest.fixture
def posts(monitored_db: Database[Any]) -> Database[Any]:
    """Old posts of several tenants."""
    monitored_db["post"].insert_many([_stored(n) for n in range(COUNT)])
    return monitored_db


def _single_writes(log: CommandLog) -> list[dict[str, Any]]:
    """The filters of all writes that were sent for one document each."""
    filters: list[dict[str, Any]] = []
    for name, command in log.commands:
        if command.get(name) != "post":
            continue
        if name == "findAndModify":
            filters.append(command["query"])
        elif name == "update":
            filters.extend(each["q"] for each in command["updates"] if not each.get("multi"))
    return filters


def _conditions(query: dict[str, Any]) -> list[tuple[str, Any]]:
    """The conditions of a filter, those of its $and among them."""
    found: list[tuple[str, Any]] = []
    for path, condition in query.items():
        if path == "$and":
            for part in condition:
                found.extend(_conditions(part))
        else:
            found.append((path, condition))
    return found


def _are_located(filters: list[dict[str, Any]], times: int = 1) -> bool:
    """Whether the filters say for each document, so many times, where it lies."""
    found = []
    for query in filters:
        (where,) = (place for place in WHERE if ("_id", place["_id"]) in _conditions(query))
        assert all(condition in _conditions(query) for condition in where.items())
        found.append(where["_id"]["$eq"])
    return sorted(found) == sorted([0, 1, 2, 3] * times)


def _increment(self: Any) -> None:
    self.target = {"m": {"$exists": False}}
    self.update = {"$inc": {"m": self.doc["n"]}}


DYNAMIC = {"$set": copying("n", "m"), "$inc": _increment}


def test_a_plan_knows_the_shard_key_by_its_stored_names() -> None:
    """The plan has dotted database paths; the primary key is in every filter already."""
    rules = handler(migration01__m=copying("n", "m"))
    assert plan_for(rules, _sharded(rules)).shard_key == ("t", "p.r")
    assert plan_for(rules, _sharded(rules, ("pk", "tenant"))).shard_key == ("t",)
    assert plan_for(rules, _sharded(rules, ("key",))).shard_key == ()
    assert plan_for(rules, model(rules, m=IntField())).shard_key == ()
    stranger = handler(migration01__m=copying("n", "m"))
    assert plan_for(stranger, _sharded(rules)).shard_key == ("t", "p.r")


def test_a_shard_key_that_is_no_field_is_an_error() -> None:
    """A name in the shard key that the model does not know is named, with a remedy."""
    rules = handler(migration01__m=copying("n", "m"))
    with pytest.raises(RuleDefinitionError, match=r"Post: .*shard_key with 'nowhere'"):
        plan_for(rules, _sharded(rules, ("tenant", "nowhere")))


def test_a_key_in_the_id_is_in_the_filter_already() -> None:
    """A part of a compound `_id` needs no condition beside that on the `_id`."""

    class Key(EmbeddedDocument):
        tenant = StringField()

    class Post(LazyMigrationMixin, Document):
        key = EmbeddedDocumentField(Key, primary_key=True)
        m = IntField()
        migration_handler = handler(migration01__m=copying("n", "m"))
        meta = {"shard_key": ("key.tenant", "m")}

    assert plan_for(Post.migration_handler, Post).shard_key == ("m",)


def test_what_is_missing_is_asked_for_as_null(mock_db: Any) -> None:
    """MongoDB shards what is missing as null, and takes the equality with null for both."""
    key = ("t", "p.r")
    store = Store(mock_db["c"], shard_key=key)
    assert [store.locate(_stored(n)) for n in range(COUNT)] == WHERE
    assert store.locate({"_id": 1, "t": {"p": 1}, "p": 3})["p.r"] == {"$eq": None}


LOADS = {
    "iteration": lambda post: list(post.objects),
    "get": lambda post: [post.objects.get(key=n) for n in range(COUNT)],
    "partial": lambda post: list(post.objects.only("m")),
    "settling": lambda post: post.objects(m__gte=0).count(),
    "migrate_pending": lambda post: post.migration_handler(post).migrate_pending(),
}


@pytest.mark.parametrize("method", DYNAMIC.values(), ids=DYNAMIC)
@pytest.mark.parametrize("load", LOADS.values(), ids=LOADS)
def test_lazy_dynamic_rules(
    posts: Database[Any], command_log: CommandLog, load: Any, method: Any
) -> None:
    """A computed update is sent to the shard of its document, one by one or in a bulk write."""
    post = _sharded(handler(migration01__m=method, see_through=True))
    load(post)
    assert _are_located(_single_writes(command_log))
    assert [each["m"] for each in posts["post"].find().sort("_id")] == list(range(COUNT))


@pytest.mark.parametrize("method", DYNAMIC.values(), ids=DYNAMIC)
def test_bulk_dynamic_rules(posts: Database[Any], command_log: CommandLog, method: Any) -> None:
    """The same for migrate_all()."""
    rules = handler(allmigration01__m=method)
    assert rules(_sharded(rules)).migrate_all().modified == COUNT
    assert _are_located(_single_writes(command_log))


@pytest.mark.parametrize("scope", ["", "all"])
def test_refused_static_updates(posts: Database[Any], command_log: CommandLog, scope: str) -> None:
    """When the server refuses an update of many, the updates of single documents name the shard."""
    static = rule({"m": {"$nin": [1, 2]}}, {"$inc": {"k": 1}, "$set": {"m": 1}})
    posts["post"].update_one({"_id": 0}, {"$set": {"k": "text"}})
    rules = handler(**{f"{scope}migration01__m": static, "see_through": False})
    migration = rules(_sharded(rules))
    report = migration.migrate_all() if scope else migration.migrate_pending()
    assert [error.document_id for error in report.errors] == [0]
    assert report.modified == COUNT - 1
    assert _are_located(_single_writes(command_log))


def test_static_rules_for_errors(posts: Database[Any], command_log: CommandLog) -> None:
    """A static rule that does not converge is written to the documents that fail to load."""
    posts["post"].update_many({}, {"$set": {"lost": 1}})
    static = rule({"n": {"$gte": 0}}, {"$set": {"m": 1}, "$unset": {"lost": ""}})
    with pytest.warns(match="does not provably end"):
        post = _sharded(handler(migration01__m=static))
    assert [each.m for each in post.objects] == [1] * COUNT
    assert _are_located(_single_writes(command_log))


@pytest.mark.parametrize("load", LOADS.values(), ids=LOADS)
def test_lazy_once_rules(posts: Database[Any], command_log: CommandLog, load: Any) -> None:
    """The claim, and the update with the release, name the shard."""
    marking = mailing(
        lambda _self: None, target={"m": {"$exists": False}}, update={"$set": {"m": 1}}
    )
    load(_sharded(handler(migration01__mail=marking)))
    assert _are_located(_single_writes(command_log), times=2)


def test_bulk_once_rules(posts: Database[Any], command_log: CommandLog) -> None:
    """The same in bulk, where claims are given back, too."""

    def effect(self: Any) -> None:
        if self.doc["_id"] == 1:
            raise LookupError

    rules = handler(allmigration01__mail=mailing(effect))
    report = rules(_sharded(rules)).migrate_all()
    assert (report.modified, len(report.errors)) == (COUNT - 1, 1)
    assert _are_located(_single_writes(command_log), times=2)


def test_a_shard_key_in_the_target(posts: Database[Any], command_log: CommandLog) -> None:
    """A rule whose target has a condition on the shard key is applied where both hold."""

    def method(self: Any) -> None:
        self.target = {"t": {"$ne": "acme"}, "m": {"$exists": False}}
        self.update = {"$set": {"m": self.doc["n"]}}

    loaded = _sharded(handler(migration01__m=method)).objects.order_by("key")
    assert [each.m for each in loaded] == [None, 1, 2, 3]
    filters = _single_writes(command_log)
    assert len(filters) == COUNT - 1
    for query in filters:
        assert {("t", str({"$eq": None})), ("t", str({"$ne": "acme"}))} <= {
            (path, str(condition)) for path, condition in _conditions(query)
        }


def test_models_without_a_shard_key_ask_for_nothing_more(
    posts: Database[Any], command_log: CommandLog
) -> None:
    """Without a shard key the filter has the `_id`, the target and what the rule has read."""
    assert len(_sharded(handler(migration01__m=copying("n", "m")), ()).objects) == COUNT
    for query in _single_writes(command_log):
        assert {path for path, _ in _conditions(query)} == {"_id", "m", "n"}
