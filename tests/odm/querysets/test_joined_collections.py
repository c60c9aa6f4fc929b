"""Aggregations that read further collections, and references that name no class."""

from __future__ import annotations

import pytest
from bson import DBRef
from mongoengine import (
    DictField,
    Document,
    DynamicField,
    GenericLazyReferenceField,
    GenericReferenceField,
    IntField,
    ListField,
    ReferenceField,
    StringField,
)

from lazymig import DocumentMigration, LazyMigrationMixin, SettleLimitExceeded, as_stored
from tests.support.handlers import handler, rule

RENAME = ({"mail": {"$exists": True}}, {"$rename": {"mail": "email"}})

USERS = [
    {"_id": 1, "mail": "a"},
    {"_id": 2, "email": "b", "boss": 1},
    {"_id": 3, "mail": "c", "boss": 2},
]
ORDERS = [{"_id": 1, "user": 1}, {"_id": 2, "user": 2}]


def shop(database, lazy, **options):
    """A model of users, whose field was renamed, and one of orders, which has no rules."""
    database["user"].drop()
    database["order"].drop()
    database["user"].insert_many(USERS)
    database["order"].insert_many(ORDERS)
    bases = (LazyMigrationMixin, Document) if lazy else (Document,)
    key = {"key": IntField(primary_key=True)}
    body = {**key, "email": StringField(), "boss": IntField(), "meta": {"collection": "user"}}
    if lazy:
        body["migration_handler"] = handler(migration01__rename=rule(*RENAME), **options)
    else:
        database["user"].update_many(*RENAME)
    user = type(Document)("User", bases, body)
    meta = {"collection": "order"}
    return user, type(Document)("Order", bases, {**key, "user": IntField(), "meta": meta})


LOOKUP = {"$lookup": {"from": "user", "localField": "user", "foreignField": "_id", "as": "u"}}
BOSS = {"$lookup": {"from": "user", "localField": "boss", "foreignField": "_id", "as": "b"}}
BY_EMAIL = {"$lookup": {"from": "user", "pipeline": [{"$match": {"email": "a"}}], "as": "b"}}
CHAIN = {
    "$graphLookup": {
        "from": "user",
        "startWith": "$boss",
        "connectFromField": "boss",
        "connectToField": "_id",
        "as": "chain",
    }
}
SOUGHT = {"$lookup": {"from": "user", "localField": "x", "foreignField": "email", "as": "u"}}
FOR_EACH = {
    "$lookup": {
        "from": "user",
        "let": {"key": "a"},
        "pipeline": [{"$match": {"$expr": {"$eq": ["$email", "$$key"]}}}],
        "as": "u",
    }
}
BY_ID = {"$sort": {"_id": 1}}
BY_LINK = {"$sort": {"chain._id": 1}}

PIPELINES = {
    "another's": (False, {}, [LOOKUP, BY_ID]),
    "another's, in a facet": (False, {}, [{"$facet": {"all": [LOOKUP, BY_ID]}}]),
    "another's, in a lookup": (
        False,
        {"key": 1},
        [{"$lookup": {"from": "order", "pipeline": [LOOKUP, BY_ID], "as": "o"}}],
    ),
    "another's, by a renamed field": (False, {"key": 1}, [BY_EMAIL]),
    "another's, united": (False, {"key": 1}, [{"$unionWith": "user"}, BY_ID]),
    "its own": (True, {"key": 3}, [BOSS]),
    "its own, by a renamed field": (True, {"key": 2}, [BY_EMAIL]),
    "its own, united": (True, {"key": 2}, [{"$unionWith": "user"}, {"$sort": {"email": 1}}]),
    "its own, in a facet": (True, {"key": 3}, [{"$facet": {"one": [BOSS], "two": [BY_EMAIL]}}]),
}


# Before these no stage can stand, or it would be asked again for each document.
SETTLED = {
    "its own, along a chain": (True, {"key": 3}, [CHAIN, {"$unwind": "$chain"}, BY_LINK]),
    "another's, sought by a renamed field": (False, {}, [SOUGHT, BY_ID]),
    "another's, for each by a renamed field": (False, {}, [FOR_EACH, BY_ID]),
}


@pytest.mark.parametrize("case", PIPELINES | SETTLED)
def test_a_joined_collection_is_seen_as_migrated(mongoengine_db, case):
    """What a stage reads of a model's collection is what it would read once all is migrated."""
    own, query, pipeline = (PIPELINES | SETTLED)[case]
    seen = []
    for lazy in (False, True):
        user, order = shop(mongoengine_db, lazy)
        asked = user if own else order
        seen.append(list(asked.objects(**query).aggregate(pipeline)))

    assert seen[1] == seen[0]
    written = list(mongoengine_db["user"].find().sort("_id")) != USERS
    assert written is (case in SETTLED)


def test_a_joined_collection_of_which_a_rule_cannot_be_shown(mongoengine_db):
    """Documents for which Python computes are settled in a joined collection."""
    shop(mongoengine_db, True)

    class UserMigration(DocumentMigration):
        def migration01__rename(self):
            self.target = {"mail": {"$exists": True}}
            self.update = {"$set": {"email": self.doc["mail"].swapcase()}, "$unset": {"mail": ""}}

    body = {
        "key": IntField(primary_key=True),
        "email": StringField(),
        "boss": IntField(),
        "meta": {"collection": "user"},
        "migration_handler": UserMigration,
    }
    type(Document)("User", (LazyMigrationMixin, Document), body)
    meta = {"collection": "order"}
    body = {"key": IntField(primary_key=True), "user": IntField(), "meta": meta}
    order = type(Document)("Order", (LazyMigrationMixin, Document), body)

    (found,) = order.objects(key=1).aggregate([LOOKUP])

    assert found["u"] == [{"_id": 1, "email": "A"}]
    assert mongoengine_db["user"].find_one(1) == {"_id": 1, "email": "A"}


def test_too_many_old_documents_in_a_joined_collection(mongoengine_db):
    """Above the limit of the model that is joined the error names it, and nothing is written."""
    _user, order = shop(mongoengine_db, True, settle_limit=1)

    with pytest.raises(SettleLimitExceeded) as caught:
        order.objects.aggregate([SOUGHT])

    assert caught.value.model == "User"
    assert "$lookup" in caught.value.operation
    assert list(mongoengine_db["user"].find().sort("_id")) == USERS


def test_a_join_that_meets_no_rule_is_sent_as_it_is(monitored_db, command_log):
    """Of a joined collection that is read on other paths nothing is asked."""
    _user, order = shop(monitored_db, True)
    counted = [{"$lookup": {"from": "user", "pipeline": [{"$count": "n"}], "as": "n"}}]
    order.objects.first()
    command_log.clear()

    list(order.objects.aggregate(counted))

    assert command_log.names == ["aggregate"]


def test_a_join_as_stored(mongoengine_db):
    """as_stored, as a method or as a block of the other model, joins what is stored."""
    user, order = shop(mongoengine_db, True)

    stored = list(order.objects(key=1).as_stored().aggregate([LOOKUP]))
    with as_stored(user):
        within = list(order.objects(key=1).aggregate([LOOKUP]))

    assert stored == within == [{**ORDERS[0], "u": [USERS[0]]}]


def holders(database, lazy):
    """A model of references of every kind to documents of which one is of a former class."""
    database["human"].drop()
    database["holder"].drop()
    become = ({"_cls": "Human.Jedi"}, {"$set": {"_cls": "Human.Knight"}})
    body = {
        "key": IntField(primary_key=True),
        "name": StringField(),
        "meta": {"collection": "human", "allow_inheritance": True},
    }
    if lazy:
        body["migration_handler"] = handler(migration01__become=rule(*become))
    bases = (LazyMigrationMixin, Document) if lazy else (Document,)
    human = type(Document)("Human", bases, body)
    type(Document)("Knight", (human,), {})
    fields = {
        "key": IntField(primary_key=True),
        "any": ListField(),
        "named": DictField(),
        "generic": GenericReferenceField(),
        "generics": ListField(GenericReferenceField()),
        "later": GenericLazyReferenceField(),
        "dynamic": DynamicField(),
        "one": ReferenceField(human),
        "some": ListField(ReferenceField(human)),
    }
    holder = type(Document)("Holder", (Document,), fields)
    database["human"].insert_many(
        [{"_id": 1, "_cls": "Human.Jedi", "name": "a"}, {"_id": 2, "_cls": "Human", "name": "b"}]
    )
    references = [DBRef("human", 1), DBRef("human", 2)]
    generic = {"_cls": "Human", "_ref": references[0]}
    database["holder"].insert_one(
        {
            "_id": 1,
            "any": references,
            "named": {"x": references[0]},
            "generic": generic,
            "generics": [generic],
            "later": generic,
            "dynamic": generic,
            "one": 1,
            "some": [1, 2],
        }
    )
    if not lazy:
        database["human"].update_many(*become)
    return holder


REFERENCES = {
    "a list": lambda o: o.get().any,
    "a mapping": lambda o: o.get().named.values(),
    "generic": lambda o: [o.get().generic],
    "a list of generic ones": lambda o: o.get().generics,
    "generic and lazy": lambda o: [o.get().later.fetch()],
    "dynamic": lambda o: [o.get().dynamic],
    "by class": lambda o: [o.get().one],
    "a list by class": lambda o: o.get().some,
    "selected, a list": lambda o: o.select_related()[0].any,
    "selected, a mapping": lambda o: o.select_related()[0].named.values(),
    "in_bulk": lambda o: o.in_bulk([1])[1].any,
    "distinct": lambda o: sorted(o.distinct("any"), key=lambda document: document.key),
}


@pytest.mark.parametrize("way", REFERENCES)
def test_a_reference_to_a_document_of_a_former_class(mongoengine_db, way):
    """A referenced document comes as the class that it becomes, by whatever reference."""
    seen = []
    for lazy in (False, True):
        holder = holders(mongoengine_db, lazy)
        found = REFERENCES[way](holder.objects)
        seen.append([(type(each).__name__, each.name) for each in found])

    assert seen[1] == seen[0]
    assert seen[0][0] in (("Knight", "a"), ("Human", "b"))
