"""Single cases in which the law of equivalence was broken once, found by generated ones."""

from __future__ import annotations

from typing import Any

import pytest
from mongoengine import DictField, Document, IntField, StringField
from pymongo.database import Database

from lazymig import LazyMigrationMixin
from tests.support.handlers import handler, model, rule

Raw = dict[str, Any]


def _labelled(self: Any) -> None:
    self.target = {"label": {"$exists": False}}
    self.update = {"$set": {"label": self.doc["name"]}}


@pytest.mark.parametrize("look", ["count", "list"])
def test_a_queryset_that_is_used_again_sees_old_documents_that_have_come_since(
    mongoengine_db: Database[Raw], look: str
) -> None:
    """What had to be settled is settled again each time that a queryset is asked."""
    post = model(handler(migration01__label=_labelled), name=StringField(), label=StringField())
    queryset = post.objects(label="a").no_cache()

    def found() -> int:
        return int(queryset.count()) if look == "count" else sum(1 for _ in queryset)

    mongoengine_db.post.insert_one({"_id": 1, "name": "a"})
    assert found() == 1
    mongoengine_db.post.insert_one({"_id": 2, "name": "a"})
    assert found() == 2


def test_a_used_queryset_is_settled_before_it_is_sorted(mongoengine_db: Database[Raw]) -> None:
    """An order that is asked of a queryset after its use is the order of migrated documents."""
    post = model(handler(migration01__label=_labelled), name=StringField(), label=StringField())
    queryset = post.objects
    assert list(queryset.no_cache()) == list(queryset) == []
    mongoengine_db.post.insert_many([{"_id": 1, "name": "b"}, {"_id": 2, "name": "a"}])
    assert [found.key for found in queryset.order_by("label")] == [2, 1]


def test_in_bulk_gives_old_documents_of_any_class(mongoengine_db: Database[Raw]) -> None:
    """MongoEngine's in_bulk() asks for ids alone, and so does it while documents are old."""
    rules = handler(migration01__age=rule({"age": {"$exists": False}}, {"$set": {"age": 0}}))

    class Animal(LazyMigrationMixin, Document):
        age = IntField()
        meta = {"allow_inheritance": True}
        migration_handler = rules

    class Cat(Animal):
        pass

    class Dog(Animal):
        pass

    ids = [Animal().save().id, Cat().save().id, Dog().save().id]
    mongoengine_db.animal.update_many({}, {"$unset": {"age": ""}})
    assert {type(found) for found in Dog.objects.in_bulk(ids).values()} == {Animal, Cat, Dog}
    assert mongoengine_db.animal.count_documents({"age": 0}) == 3


def test_a_query_that_cannot_be_built_fails_as_in_mongoengine(
    mongoengine_db: Database[Raw],
) -> None:
    """Of two mistakes in one call, the one that MongoEngine meets first is reported."""

    class Plain(Document):
        name = StringField()

    post = model(handler(migration01__label=_labelled), name=StringField(), label=StringField())
    mongoengine_db.post.insert_one({"_id": 1, "name": "a"})
    failures = []
    for queryset in (Plain.objects, post.objects):
        with pytest.raises(Exception, match="lost") as failure:
            list(queryset(lost=1).map_reduce("emit([~lost], 1)", "1", "inline"))
        failures.append(type(failure.value))
    assert failures[0] is failures[1]


def _labelled_by_pipeline(self: Any) -> None:
    self.target = {"label": {"$exists": False}}
    self.update = [{"$set": {"label": {"$concat": [{"$ifNull": ["$name", "?"]}, "-"]}}}]


@pytest.mark.parametrize("method", [_labelled, _labelled_by_pipeline])
def test_a_write_to_what_a_rule_computes_from_comes_after_the_rule(
    mongoengine_db: Database[Raw], method: Any
) -> None:
    """An update of a path from which a pending rule computes is settled first."""
    post = model(handler(migration01__label=method), name=StringField(), label=StringField())
    mongoengine_db.post.insert_one({"_id": 1, "name": "a"})
    post.objects.update(name="b")
    stored = mongoengine_db.post.find_one({"_id": 1})
    assert stored is not None
    assert (stored["name"], stored["label"][0]) == ("b", "a")


@pytest.mark.parametrize("projection", [{"info.x": 0}, {"info.y": 1}])
def test_a_parent_that_a_rule_brings_forth_shows_in_a_projection(
    mongoengine_db: Database[Raw], projection: Raw
) -> None:
    """A sub-document that a rule creates shows, empty, though what it sets is not asked for."""
    rules = handler(migration01__x=rule({"info.x": {"$exists": False}}, {"$set": {"info.x": 1}}))
    post = model(rules, info=DictField())
    mongoengine_db.post.insert_one({"_id": 1})
    fields = {path.replace(".", "__"): value for path, value in projection.items()}
    (found,) = post.objects.fields(**fields)
    (stored,) = mongoengine_db.post.find({}, projection)
    assert stored["info"] == {}
    assert found.to_mongo().get("info") == {}


def test_a_search_for_a_text_keeps_its_text_though_nothing_can_match(
    mongoengine_db: Database[Raw],
) -> None:
    """A filter that no migrated document can satisfy finds nothing beside a text either."""

    class Post(LazyMigrationMixin, Document):
        name = StringField()
        meta = {"indexes": ["$name"]}
        migration_handler = handler(
            migration01__renamed=rule({"nick": {"$exists": True}}, {"$rename": {"nick": "name"}}),
            migration02__replaced=rule({"name": "b"}, {"$set": {"name": "a"}}),
        )

    Post.ensure_indexes()
    mongoengine_db["post"].insert_one({"_id": 1, "name": "b"})

    assert list(Post.objects(name="b").search_text("b")) == []
