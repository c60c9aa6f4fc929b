"""Writes of a queryset with a collation, a hint, a comment, a where(): as by plain MongoEngine.

MongoEngine sends some of these with some operations alone, which ones is a matter of its version.
"""

from __future__ import annotations

import inspect
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from mongoengine import (
    CASCADE,
    BooleanField,
    Document,
    DynamicDocument,
    DynamicField,
    IntField,
    PointField,
    ReferenceField,
    StringField,
)
from mongoengine.errors import MongoEngineException
from mongoengine.queryset.base import BaseQuerySet
from pymongo import MongoClient
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import PyMongoError

from lazymig import LazyMigrationMixin
from tests.support.commands import CommandLog
from tests.support.doors import stored
from tests.support.handlers import ADD_ENABLED, handler, rule

Raw = dict[str, Any]

CI = {"locale": "en", "strength": 2}


def _lower(self: Any) -> None:
    self.target = {"label": {"$exists": False}}
    self.update = {"$set": {"label": str(self.doc["name"]).lower()}}


RULES = {
    "migration01__rename": rule({"old": {"$exists": True}}, {"$rename": {"old": "name"}}),
    "migration02__enable": rule(*ADD_ENABLED),
    "migration03__alias": rule(
        {"kind": "new", "alias": {"$ne": "ada"}}, {"$set": {"alias": "ada"}}
    ),
    "migration04__label": _lower,
}

OLD: list[Raw] = [
    {"_id": 1, "old": "Ada", "n": 1, "place": [1, 1]},
    {"_id": 2, "name": "ADA", "kind": "new", "n": 2, "place": [1, 2]},
    {"_id": 3, "old": "bob", "kind": "NEW", "alias": "x", "n": 3, "place": [1, 3]},
    {"_id": 4, "name": "Cy", "enabled": False, "label": "cy", "n": 4, "place": [1, 4]},
]
NEW: list[Raw] = [
    {"_id": 1, "name": "Ada", "n": 1, "enabled": True, "label": "ada"},
    {"_id": 2, "name": "ADA", "kind": "new", "n": 2, "enabled": True, "alias": "ada"},
    {"_id": 3, "name": "bob", "kind": "NEW", "alias": "x", "n": 3, "enabled": True},
    {"_id": 4, "name": "Cy", "enabled": False, "label": "cy", "n": 4},
]
for raw, label, place in zip(NEW, ("ada", "ada", "bob", "cy"), (1, 2, 3, 4), strict=True):
    raw.update(label=label, place=[1, place])


def _people(base: type, bases: tuple[type, ...], collection: str, **body: Any) -> Any:
    fields = {
        "key": IntField(primary_key=True),
        "name": StringField(),
        "enabled": BooleanField(),
        "kind": StringField(),
        "alias": StringField(),
        "label": StringField(),
        "n": IntField(),
        "place": PointField(auto_index=False) if base is Document else DynamicField(),
        "__module__": __name__,
    }
    name = collection.capitalize()
    meta = {"meta": {"collection": collection}}
    return type(base)(name, (*bases, base), {**fields, **meta, **body})


@pytest.fixture(scope="module")
def shared(client: MongoClient[Raw]) -> Iterator[Database[Raw]]:
    """One database for all tests of the module, whose collections keep their indexes."""
    name = f"lazymig_{uuid.uuid4().hex}"
    for collection in ("subject", "plain"):
        _create_indexes(client[name][collection])
    yield client[name]
    client.drop_database(name)


@pytest.fixture
def database(shared: Database[Raw]) -> Database[Raw]:
    """That database, emptied, for whatever connects MongoEngine."""
    for name in shared.list_collection_names():
        shared[name].delete_many({})
    return shared


def _create_indexes(collection: Collection[Raw]) -> None:
    collection.create_index("n", name="n_some", partialFilterExpression={"enabled": True})
    collection.create_index("label", name="label_sparse", sparse=True)
    collection.create_index("name", name="name_whole")
    collection.create_index([("place", "2dsphere")], name="places")


@pytest.fixture
def both(mongoengine_db: Database[Raw]) -> tuple[Any, Any]:
    """A model with rules over old documents, and a plain one over migrated ones."""
    return _pair(Document, mongoengine_db)


def _pair(base: type, database: Database[Raw]) -> tuple[Any, Any]:
    for name, documents in (("subject", OLD), ("plain", NEW)):
        database[name].insert_many(documents)
    rules = {"migration_handler": handler(**RULES)}
    subject = _people(base, (LazyMigrationMixin,), "subject", **rules)
    return subject, _people(base, (), "plain")


WRITES: dict[str, Callable[[Any], Any]] = {
    "update": lambda q: q.update(set__n=7),
    "update of what a rule writes": lambda q: q.update(set__label="x", set__name="y"),
    "update_one": lambda q: q.order_by("key")(key__lt=9).update_one(set__n=7),
    "result": lambda q: q.update(full_result=True, set__n=7).matched_count,
    "upsert": lambda q: q(key=2).update_one(upsert=True, set__n=7),
    "upsert of a new one": lambda q: q(key=8).update(upsert=True, set__n=7),
    "upsert_one": lambda q: q(key=2).upsert_one(set__n=7).to_mongo().to_dict(),
    "delete": lambda q: q.delete(),
    "modify": lambda q: _shown(q.order_by("key").modify(set__n=7)),
    "modify, new": lambda q: _shown(q.order_by("key").modify(new=True, set__name="y")),
    "modify, upsert": lambda q: _shown(q(key=2).modify(upsert=True, new=True, set__n=7)),
    "modify, remove": lambda q: _shown(q.order_by("key").modify(remove=True)),
    "aggregate": lambda q: list(
        q.aggregate([{"$group": {"_id": "$label", "n": {"$sum": 1}}}, {"$sort": {"_id": 1}}])
    ),
    "aggregate of a match": lambda q: list(
        q.aggregate([{"$match": {"label": "ADA"}}, {"$count": "n"}])
    ),
}

FILTERS: dict[str, Callable[[Any], Any]] = {
    "a collation": lambda o: o(name="ada").collation(CI),
    "a collation for a constant": lambda o: o(alias="ADA").collation(CI),
    "a collation for a computed one": lambda o: o(label="ADA").collation(CI),
    "a collation beside": lambda o: o(n__gt=1).collation(CI),
    "a hint of a partial index": lambda o: o(n__gt=0, enabled=True).hint("n_some"),
    "a hint of a sparse index": lambda o: o(label__in=["ada", "bob"]).hint("label_sparse"),
    "a hint of a whole index": lambda o: o(name="Ada").hint("name_whole"),
    "a hint by its keys": lambda o: o(name="Ada").hint([("name", 1)]),
    "a hint and a collation": lambda o: o(label="ADA").hint("label_sparse").collation(CI),
    "a comment": lambda o: o(name="Ada").comment("mine"),
    "where": lambda o: o(n__gt=0).where("this.name == 'ADA'"),
    "where of a computed one": lambda o: o(label="ada").where("this.label == 'ada'"),
}


def _shown(document: Any) -> Any:
    return None if document is None else document.to_mongo().to_dict()


def _outcome(act: Callable[[Any], Any], queryset: Any) -> Any:
    try:
        return act(queryset)
    except (MongoEngineException, PyMongoError, TypeError) as exc:
        return type(exc)


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
@pytest.mark.parametrize("asked", FILTERS.values(), ids=FILTERS)
def test_options_mean_what_they_mean_to_mongoengine(
    both: tuple[Any, Any], mongoengine_db: Database[Raw], write: Any, asked: Any
) -> None:
    """The same documents are written, as though all had been migrated, whatever is sent of it."""
    subject, plain = both
    assert _outcome(write, asked(subject.objects)) == _outcome(write, asked(plain.objects))
    subject.migration_handler(subject).migrate_pending()
    # What plain MongoEngine has inserted is older than the rules as well.
    plain_handler = handler(**RULES)
    plain_handler(plain).migrate_pending()
    assert stored(mongoengine_db.subject) == stored(mongoengine_db.plain)


@pytest.mark.parametrize("option", ["collation", "hint", "comment"])
@pytest.mark.parametrize("write", ["update", "upsert", "delete", "aggregate"])
def test_what_mongoengine_sends_is_sent(
    monitored_db: Database[Raw], command_log: CommandLog, option: str, write: str
) -> None:
    """An option stands in the command of lazymig's queryset where it stands in that of plain."""
    subject, plain = _pair(Document, monitored_db)
    given = {"collation": CI, "hint": "name_whole", "comment": "mine"}[option]
    sent = []
    for one in (subject, plain):
        queryset = getattr(one.objects(key=2), option)(given)
        command_log.clear()
        WRITES[write](queryset)
        name, command = command_log.commands[-1]
        for statement in (*command.get("updates", ()), *command.get("deletes", ())):
            command.update(statement)
        sent.append((name, _plain(command.get(option))))
    assert sent[0] == sent[1]


def _plain(option: Any) -> Any:
    return dict(option) if hasattr(option, "items") else option


@pytest.mark.parametrize("modify", [{}, {"new": True}, {"upsert": True}, {"remove": True}])
def test_modify_gives_mongoengine_the_options_that_it_knows(
    mongoengine_db: Database[Raw], modify: Raw
) -> None:
    """No option of another version is made a field of the document."""
    known = list(inspect.signature(BaseQuerySet.modify).parameters)[1:-1]
    positional = [modify.get(name, False) for name in known if name != "array_filters"]
    subject, plain = _pair(DynamicDocument, mongoengine_db)
    changes = {} if modify.get("remove") else {"set__n": 7}
    for one in (subject, plain):
        one.objects(key=2).modify(*positional, **changes)
        one.objects(key=3).modify(**modify, **changes)
    subject.migration_handler(subject).migrate_pending()
    assert stored(mongoengine_db.subject) == stored(mongoengine_db.plain)
    assert not any("full_response" in each for each in stored(mongoengine_db.subject))


PIPELINES: dict[str, Callable[[Any], Any]] = {
    "a tuple": lambda o: o(label="ada").aggregate(({"$count": "n"},)),
    "an iterator": lambda o: o(label="ada").aggregate(iter([{"$count": "n"}])),
    "a stage": lambda o: o(label="ada").aggregate({"$count": "n"}),
    "two stages": lambda o: o(label="ada").aggregate({"$sort": {"n": 1}}, {"$count": "n"}),
    "a list and a stage": lambda o: o(label="ada").aggregate(
        [{"$sort": {"n": 1}}], {"$count": "n"}
    ),
    "an iterator and a stage": lambda o: o(label="ada").aggregate(
        iter([{"$sort": {"n": 1}}]), {"$count": "n"}
    ),
    "what is near": lambda o: o.aggregate([_near()]),
    "what is near, filtered": lambda o: o(label="ada").aggregate([_near()]),
    "what is near, later": lambda o: o.aggregate([{"$match": {"label": "ada"}}, _near()]),
    "what is near, in order": lambda o: (
        o(label="ada")
        .order_by("-label", "key")
        .aggregate([{"$project": {"label": 1}}, _near(), {"$limit": 1}])
    ),
    "counts": lambda o: o(label="ada").aggregate([{"$collStats": {"count": {}}}, {"$count": "n"}]),
    "nothing": lambda o: o.none().aggregate([{"$count": "n"}]),
}


def _near() -> Raw:
    point = {"type": "Point", "coordinates": [1, 1]}
    return {"$geoNear": {"near": point, "distanceField": "far", "key": "place"}}


@pytest.mark.filterwarnings("ignore:.*unpacked list:DeprecationWarning")
@pytest.mark.parametrize("asked", PIPELINES.values(), ids=PIPELINES)
def test_a_pipeline_is_taken_as_mongoengine_takes_it(both: tuple[Any, Any], asked: Any) -> None:
    """In each form, and with the stages that MongoEngine moves to the front, it gives the same."""
    subject, plain = both
    answers = [_outcome(lambda o: list(asked(o)), one.objects) for one in (subject, plain)]
    assert answers[0] == answers[1]


def test_a_pipeline_that_is_none_brings_nothing_up_to_date(
    mongoengine_db: Database[Raw],
) -> None:
    """Nothing is written for what MongoEngine refuses."""
    subject, _ = _pair(Document, mongoengine_db)
    with pytest.raises(TypeError):
        subject.objects(label="ada").aggregate(7)
    assert list(mongoengine_db.subject.find()) == OLD


@pytest.mark.parametrize("option", ["hint", "collation"])
def test_a_deletion_by_an_option_takes_what_refers_along(
    mongoengine_db: Database[Raw], option: str
) -> None:
    """The documents that refer to deleted ones are those of the same filter."""
    subject, plain = _pair(Document, mongoengine_db)
    left = []
    for one in (subject, plain):
        fields = {"to": ReferenceField(one, reverse_delete_rule=CASCADE), "__module__": __name__}
        letter = type(Document)(f"LetterTo{one.__name__}", (Document,), fields)
        for key in (1, 2, 3, 4):
            letter(to=key).save(validate=False)
        given = "label_sparse" if option == "hint" else CI
        deleted = _outcome(
            lambda queryset: queryset.delete(),
            getattr(one.objects(label="ada"), option)(given),
        )
        found = [each["to"] for each in letter._get_collection().find().sort("to", 1)]
        left.append((deleted, found, sorted(each["_id"] for each in one._get_collection().find())))
    assert left[0] == left[1]
