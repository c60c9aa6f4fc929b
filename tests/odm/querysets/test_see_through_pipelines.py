"""Filters see through rules whose updates are pipelines, and settle only what they cannot tell."""

from __future__ import annotations

import pytest
from mongoengine import (
    EmbeddedDocument,
    EmbeddedDocumentField,
    EmbeddedDocumentListField,
    IntField,
    StringField,
)

from tests.odm.querysets.test_see_through import keys
from tests.support.handlers import handler, model, rule

ITEMS_RENAMED = {
    "$cond": [
        {"$isArray": ["$items"]},
        {
            "$map": {
                "input": "$items",
                "in": {
                    "$cond": [
                        {"$eq": [{"$type": "$$this.qty"}, "missing"]},
                        "$$this",
                        {
                            "$unsetField": {
                                "field": "qty",
                                "input": {"$mergeObjects": ["$$this", {"n": "$$this.qty"}]},
                            }
                        },
                    ]
                },
            }
        },
        "$items",
    ]
}
RETYPED = rule({"age": {"$type": "string"}}, [{"$set": {"age": {"$toInt": "$age"}}}])
COPIED = rule({"mail": {"$exists": True}}, [{"$set": {"email": "$mail"}}, {"$unset": "mail"}])
NAMED = rule(
    {"full": {"$exists": False}},
    [
        {
            "$set": {
                "full": {
                    "$concat": [{"$ifNull": ["$first", "?"]}, " ", {"$ifNull": ["$email", "-"]}]
                }
            }
        }
    ],
)


class Item(EmbeddedDocument):
    sku = StringField()
    n = IntField()


class Place(EmbeddedDocument):
    city = StringField()


def people(**attributes):
    """A model with an age, an address, a name, and items that have a number each."""
    return model(
        handler(**attributes),
        age=IntField(),
        form=IntField(),
        email=StringField(),
        first=StringField(),
        full=StringField(),
        place=EmbeddedDocumentField(Place),
        items=EmbeddedDocumentListField(Item),
    )


def writes(command_log):
    """The names of the commands that wrote."""
    return [name for name in command_log.names if name not in ("find", "aggregate", "count")]


OLD = [
    {
        "_id": 1,
        "age": "5",
        "mail": "a@x",
        "items": [{"sku": "a", "qty": 2}, {"sku": "b", "qty": 3}],
    },
    {"_id": 2, "age": "7", "mail": "b@x", "items": [{"sku": "a", "n": 3}, {"sku": "c", "qty": 2}]},
    {"_id": 3, "age": 5, "email": "a@x", "full": "A", "items": [{"sku": "a", "n": 2}]},
    {"_id": 4, "email": "c@x", "items": []},
]

ASKED = {
    "computed": ({"age": 5}, [1, 3]),
    "computed range": ({"age__gt": 5}, [2]),
    "computed negation": ({"age__ne": 5}, [2, 4]),
    "copied": ({"email": "a@x"}, [1, 3]),
    "copied pattern": ({"email__icontains": "A@"}, [1, 3]),
    "computed from what is copied": ({"full": "? b@x"}, [2]),
    "a prefix of what is computed": ({"full__startswith": "? "}, [1, 2, 4]),
    "an item": ({"items__n": 2}, [1, 2, 3]),
    "one item": ({"items__match": {"sku": "a", "n": 2}}, [1, 3]),
    "no item": ({"items__n__exists": False}, [4]),
    "an item by its place": ({"items__0__n": 3}, [2]),
    "items by number": ({"items__size": 1}, [3]),
    "together": ({"items__n": 3, "age__lte": 7, "email__ne": "a@x"}, [2]),
}


def every_rule():
    """Rules with pipelines that read what earlier ones write."""
    return {
        "migration01__retyped": RETYPED,
        "migration02__copied": COPIED,
        "migration03__named": NAMED,
        "migration04__items": rule(
            {"form": {"$exists": False}}, [{"$set": {"items": ITEMS_RENAMED, "form": 2}}]
        ),
    }


@pytest.mark.parametrize("asked", ASKED)
def test_a_filter_finds_what_pipelines_will_leave(monitored_db, command_log, asked):
    """Filters find what migrated documents would give, and counting writes nothing."""
    monitored_db["post"].insert_many(OLD)
    post = people(**every_rule())
    filters, expected = ASKED[asked]

    command_log.clear()
    assert post.objects(**filters).count() == len(expected)
    assert writes(command_log) == []
    assert keys(post.objects(**filters)) == expected
    post.migration_handler(post).migrate_pending()
    assert keys(post.objects(**filters)) == expected


def test_what_cannot_be_computed_fails_no_query(monitored_db, command_log):
    """A document that MongoDB refuses is found as it is stored, and the others are not settled."""
    monitored_db["post"].insert_many([*OLD, {"_id": 9, "age": "old"}])
    post = people(migration01__retyped=RETYPED, on_error="skip")

    command_log.clear()
    assert post.objects(age=5).count() == 2
    assert post.objects(__raw__={"age": "old"}).count() == 1
    assert monitored_db["post"].find_one({"_id": 1}) == OLD[0]


def test_nothing_in_the_remainder_is_one_find(monitored_db, command_log):
    """However many documents are old, only those are settled of which it cannot be told."""
    monitored_db["post"].insert_many({"_id": n, "age": str(n)} for n in range(50))
    post = people(settle_limit=3, migration01__retyped=RETYPED)

    command_log.clear()
    assert [one.key for one in post.objects(age=7).only("key")] == [7]
    assert command_log.names[:2] == ["find", "find"]
    assert monitored_db["post"].count_documents({"age": {"$type": "string"}}) >= 49


def test_the_remainder_is_shown(mongoengine_db):
    """Documents in which a stage writes through an array are found, and none is settled."""
    old = [{"_id": 1, "place": {"t": "x"}}, {"_id": 2, "place": [{"t": "y"}, {"t": "x"}]}]
    mongoengine_db["post"].insert_many(old)
    moved = rule(
        {"place.t": {"$exists": True}},
        [{"$set": {"place.city": "$place.t"}}, {"$unset": "place.t"}],
    )
    post = people(migration01__moved=moved)

    assert post.objects(__raw__={"place.city": "x"}).count() == 2
    assert list(mongoengine_db["post"].find()) == old


def test_what_comes_to_the_remainder_by_an_earlier_rule_is_settled(monitored_db):
    """A document that an earlier rule brings there is settled, by both rules in their order."""
    monitored_db["post"].insert_many([{"_id": 1, "years": "6"}, {"_id": 2, "years": True}])
    renamed = rule({"years": {"$exists": True}}, {"$rename": {"years": "age"}})
    typed = rule(
        {"age": {"$type": ["string", "bool"]}},
        [{"$set": {"age": {"$add": [{"$toInt": "$age"}, 0]}}}],
    )
    post = people(migration01__renamed=renamed, migration02__typed=typed)

    assert post.objects(age=6).count() == 1
    assert post.objects(age=1).count() == 1


def test_on_mongomock_it_is_settled_as_before(mock_db):
    """The expressions are unknown to mongomock: the documents are settled, and found."""
    mock_db["post"].insert_many([{"_id": 1, "first": "a"}, {"_id": 2, "full": "x"}])
    full = rule({"full": {"$exists": False}}, [{"$set": {"full": {"$concat": ["$first", "!"]}}}])
    post = people(migration01__full=full)

    assert keys(post.objects(full="a!")) == [1]


def test_a_write_by_what_is_computed_meets_the_right_documents(mongoengine_db):
    """An update and a delete by a computed path hit what they would hit after the migration."""
    mongoengine_db["post"].insert_many(OLD)
    post = people(**every_rule())

    assert post.objects(age=5).update(first="five") == 2
    assert post.objects(items__n=3, age=7).delete() == 1
    found = {one["_id"]: one.get("first") for one in mongoengine_db["post"].find()}
    assert found == {1: "five", 3: "five", 4: None}
