"""Rules that have nothing to do with each other are one update of a batch; others keep apart."""

from __future__ import annotations

from typing import Any

import bson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mongoengine import DynamicField, IntField
from pymongo.database import Database

from lazymig import MigrationFailed, signals
from tests.support.commands import CommandLog
from tests.support.handlers import handler, model, rule

_FIELDS = ("a", "b", "c", "d")


def _adding(name: str, value: Any = 1) -> Any:
    return rule({name: {"$exists": False}}, {"$set": {name: value}})


def _post(**rules: Any) -> Any:
    return model(handler(**rules), **{name: DynamicField() for name in (*_FIELDS, "old", "sub")})


def _updates(log: CommandLog) -> list[list[Any]]:
    """What each update command has sent."""
    return [
        [(dict(each["q"]), each["u"]) for each in body["updates"]]
        for name, body in log.commands
        if name == "update" and body["update"] == "post"
    ]


def test_rules_apart_are_one_update(monitored_db: Database[Any], command_log: CommandLog) -> None:
    """A batch that all rules match is written by one update, whose filter has all their targets."""
    monitored_db["post"].insert_many([{"_id": n, "old": n} for n in range(20)])
    post = _post(
        migration01__a=_adding("a"),
        migration02__b=rule({"old": {"$exists": True}}, {"$rename": {"old": "b"}}),
        migration03__c=_adding("c", 3),
    )
    command_log.clear()
    assert [(each.a, each.b, each.c) for each in post.objects] == [(1, n, 3) for n in range(20)]
    (((query, update),),) = _updates(command_log)
    assert query.pop("_id") == {"$in": list(range(20))}
    assert query == {
        "a": {"$exists": False},
        "old": {"$exists": True},
        "c": {"$exists": False},
    }
    assert update == {"$set": {"a": 1, "c": 3}, "$rename": {"old": "b"}}


FED: dict[str, dict[str, Any]] = {
    "a later target": {
        "migration01__a": _adding("a"),
        "migration02__b": rule({"a": 1, "b": {"$exists": False}}, {"$set": {"b": 2}}),
    },
    "the same field": {
        "migration01__x": rule({"sub.x": {"$exists": False}}, {"$set": {"sub.x": 1}}),
        "migration02__b": rule({"sub.b": {"$exists": False}}, {"$set": {"sub.b": 2}}),
    },
    "a pipeline": {
        "migration01__a": rule({"a": {"$exists": False}}, [{"$set": {"a": 1}}]),
        "migration02__b": _adding("b"),
    },
}


@pytest.mark.parametrize("rules", FED.values(), ids=FED)
def test_other_rules_keep_their_order(
    monitored_db: Database[Any], command_log: CommandLog, rules: dict[str, Any]
) -> None:
    """What is written for another rule, or beside it, is written before it, by its own update."""
    monitored_db["post"].insert_many([{"_id": n} for n in range(5)])
    post = _post(**rules)
    command_log.clear()
    assert len(list(post.objects)) == 5
    assert [len(each) for each in _updates(command_log)] == [2]
    expected = {"sub": {"x": 1, "b": 2}} if "migration01__x" in rules else None
    for stored in monitored_db["post"].find({}, {"_id": 0}):
        assert expected is None or bson.encode(stored) == bson.encode(expected)


def test_a_document_that_was_changed_meanwhile_gets_each_rule_that_still_matches(
    mongoengine_db: Database[Any],
) -> None:
    """A document that one rule no longer matches when it is written gets the others."""
    posts = mongoengine_db["post"]
    posts.insert_many([{"_id": n} for n in range(4)])
    post = _post(migration01__a=_adding("a"), migration02__b=_adding("b"))

    def meddle(_sender: Any, document_id: Any, **_more: Any) -> None:
        if document_id == 2:
            posts.update_one({"_id": 2}, {"$set": {"a": 7}})

    with signals.pre_migration.connected_to(meddle):
        assert [(each.a, each.b) for each in post.objects] == [(1, 1), (1, 1), (7, 1), (1, 1)]


def test_a_refusal_is_that_of_its_rule_alone(mongoengine_db: Database[Any]) -> None:
    """Where one rule is refused for one document, that rule is named, and the others are done."""
    posts = mongoengine_db["post"]
    posts.create_index("b", unique=True, sparse=True)
    posts.insert_many([{"_id": 0, "b": 5}, *({"_id": n, "old": n + 3} for n in range(1, 4))])
    post = _post(
        migration01__a=_adding("a"),
        migration02__b=rule({"old": {"$exists": True}}, {"$rename": {"old": "b"}}),
    )
    errors = []
    found = []
    documents = iter(post.objects.order_by("key").no_cache())
    while True:
        try:
            found.append(next(documents).key)
        except StopIteration:
            break
        except MigrationFailed as error:
            errors.append((error.document_id, error.rule))
    assert (found, errors) == ([0, 1, 3], [(2, "migration02__b")])
    assert posts.find_one({"_id": 2}) == {"_id": 2, "old": 5, "a": 1}


@given(
    st.lists(
        st.dictionaries(st.sampled_from((*_FIELDS, "old")), st.integers(0, 2)),
        min_size=1,
        max_size=12,
    )
)
def test_a_batch_is_what_the_rules_make_of_each_document(
    mongoengine_db: Database[Any], contents: list[dict[str, int]]
) -> None:
    """Drawn documents are afterwards as the rules, one by one, leave them."""
    stored, expected = mongoengine_db["post"], mongoengine_db["expected"]
    rules = {
        "migration01__a": ({"a": {"$exists": False}}, {"$set": {"a": 5}}),
        "migration02__b": ({"b": 1}, {"$set": {"b": 2}, "$unset": {"gone": ""}}),
        "migration03__c": ({"c": {"$exists": True}}, {"$rename": {"c": "e"}}),
        "migration04__d": ({"d": {"$in": [0, 1]}}, {"$set": {"d": 3, "f": 4}}),
    }
    for collection in (stored, expected):
        collection.delete_many({})
        collection.insert_many([{"_id": n, **each} for n, each in enumerate(contents)])
    for target, update in rules.values():
        expected.update_many(target, update)
    post = model(
        handler(**{name: rule(*each) for name, each in rules.items()}),
        **{name: IntField() for name in (*_FIELDS, "e", "f", "old")},
    )
    assert len(list(post.objects)) == len(contents)
    order = [("_id", 1)]
    assert list(stored.find(sort=order)) == list(expected.find(sort=order))
