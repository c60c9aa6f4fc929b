"""`stages()`: the rules of a handler in front of an aggregation, for all of a collection."""

from __future__ import annotations

import random
import warnings
from datetime import datetime, timezone
from typing import Any

import pytest
from bson.errors import InvalidDocument
from mongoengine import BooleanField, DictField, DynamicField, IntField, ListField, StringField
from pymongo.database import Database
from pymongo.errors import OperationFailure

from lazymig import DocumentMigration, SettlingWarning, ShowError, each, once
from lazymig.odm.plans import plan_for
from lazymig.rules.rewrite.steps import steps_of
from lazymig.rules.showing.shown import CannotShow, ShownRule, gap_of, shown_steps
from lazymig.rules.showing.stages import MARK, stages_of
from tests.support.commands import CommandLog
from tests.support.handlers import ADD_ENABLED, handler, model, rule

Raw = dict[str, Any]


def _shown(database: Database[Raw], stages: list[Raw]) -> list[Raw]:
    return list(database.post.aggregate([*stages, {"$sort": {"_id": 1}}]))


def _stored(database: Database[Raw]) -> list[Raw]:
    return list(database.post.find().sort("_id", 1))


class _Rules(DocumentMigration):
    """A rule of each kind that can be shown for all documents."""

    def migration01__enabled(self) -> None:
        self.target, self.update = ADD_ENABLED

    def migration02__mail(self) -> None:
        """Moves a field, as a method."""
        self.target = {"mail": {"$exists": True}}
        self.update = {"$set": {"email": self.doc["mail"]}, "$unset": {"mail": ""}}

    def migration03__items(self) -> None:
        self.update = each(
            "items",
            rename={"qty": "quantity"},
            set={"price": {"$toString": "$$this.price"}},
            add={"unit": "g"},
        )

    def migration04__prices(self) -> None:
        self.update = each("prices.*", rename={"net": "amount"})

    def migration05__city(self) -> None:
        self.target = {"address.city": {"$exists": False}, "address": {"$exists": True}}
        town = {"$ifNull": ["$town", "-"]}
        self.update = [{"$set": {"address.city": town}}, {"$unset": "town"}]


_FIELDS: Raw = {
    "enabled": BooleanField(),
    "email": StringField(),
    "items": ListField(DictField()),
    "prices": DictField(),
    "address": DynamicField(),
}

_DOCUMENTS: list[Raw] = [
    {"mail": "a@x", "items": [{"qty": 1, "price": 2}, {"quantity": 3, "unit": "kg"}, 5]},
    {"enabled": False, "prices": {"a": {"net": 1}, "b": [{"net": 2}, 1]}, "email": "old"},
    {"mail": None, "address": {"street": "s"}, "town": "Bonn", "items": "none"},
    {"address": [{"street": "s"}, [1]], "prices": 3},
    {"address": "flat", "town": 1},
    {},
]


def test_stages_are_what_a_run_leaves(mongoengine_db: Database[Raw]) -> None:
    """Rules of each kind, chained, show the collection as `migrate_pending` leaves it."""
    post = model(_Rules, **_FIELDS)
    mongoengine_db.post.insert_many([{"_id": n, **one} for n, one in enumerate(_DOCUMENTS)])
    shown = _shown(mongoengine_db, _Rules(post).stages())
    assert _shown(mongoengine_db, _Rules(post).stages(marks=True)) == shown
    assert _Rules(post).migrate_pending().complete
    assert shown == _stored(mongoengine_db)
    assert _shown(mongoengine_db, _Rules(post).stages()) == shown


def test_what_is_read_alone_is_computed_alone(mongoengine_db: Database[Raw]) -> None:
    """Rules that write nothing which is read, nor what such rules read, leave no stage."""
    rules = _Rules(model(_Rules, **_FIELDS))
    assert rules.stages(reads=["name"]) == []
    (stage,) = rules.stages(reads=["enabled", "name"])
    assert list(stage["$set"]) == ["enabled"]


@pytest.mark.usefixtures("monitored_db")
def test_nothing_is_sent(command_log: CommandLog) -> None:
    """The stages are made without a command to the server."""
    post = model(_Rules, **_FIELDS)
    command_log.clear()
    _Rules(post).stages()
    assert command_log.names == []


def test_what_python_computes_for_some_is_marked(mongoengine_db: Database[Raw]) -> None:
    """The documents of a rule that the server cannot compute stay, and can be found."""

    def cents(self: Any) -> None:
        self.target = {"price": {"$exists": True}}
        self.update = {"$set": {"cents": int(self.doc["price"]) * 100}, "$unset": {"price": ""}}

    rules = handler(migration01__cents=cents, migration02__enabled=rule(*ADD_ENABLED))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SettlingWarning)
        post = model(rules, cents=IntField(), enabled=BooleanField())
    mongoengine_db.post.insert_many([{"_id": 1, "price": "7"}, {"_id": 2, "price": " 1_0 "}])
    first, second = _shown(mongoengine_db, rules(post).stages(marks=True))
    assert first == {"_id": 1, "cents": 700, "enabled": True}
    assert second == {"_id": 2, "price": " 1_0 ", MARK: {"unshown": "migration01__cents"}}
    assert _shown(mongoengine_db, rules(post).stages())[1] == {"_id": 2, "price": " 1_0 "}


def test_the_halves_of_a_rule_are_shown_by_themselves(mongoengine_db: Database[Raw]) -> None:
    """Of its steps the translated one is shown, the other not; its documents can be marked."""

    def cents(self: Any) -> None:
        self.target = {"price": {"$exists": True}}
        self.update = {"$set": {"cents": int(self.doc["price"]) * 100}, "$unset": {"price": ""}}

    rules = handler(migration01__cents=cents)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SettlingWarning)
        plan = plan_for(rules, model(rules, cents=IntField()))
    (bound,) = plan.starting
    steps = steps_of(bound, plan.query_of(bound))
    exact, rest = shown_steps(bound, steps)
    assert isinstance(exact, ShownRule)
    assert isinstance(rest, CannotShow)
    assert str(rest).startswith("migration01__cents cannot be shown, because it is computed in")
    mongoengine_db.post.insert_many([{"_id": 1, "price": "7"}, {"_id": 2, "price": " 1_0 "}])
    stages = stages_of([exact, gap_of(bound, steps[1])], marks=True)
    assert _shown(mongoengine_db, stages) == [
        {"_id": 1, "cents": 700},
        {"_id": 2, "price": " 1_0 ", MARK: {"unshown": "migration01__cents"}},
    ]


def test_what_mongodb_refuses_is_shown_as_it_is_stored(mongoengine_db: Database[Raw]) -> None:
    """A document that a rule cannot be applied to stays, and gets no later rule."""
    rules = handler(
        migration01__city=rule({"a.city": {"$exists": False}}, {"$set": {"a.city": "-"}}),
        migration02__enabled=rule(*ADD_ENABLED),
    )
    post = model(rules, a=DynamicField(), enabled=BooleanField())
    mongoengine_db.post.insert_many([{"_id": 1, "a": 5}, {"_id": 2}])
    for marks in (False, True):
        assert _shown(mongoengine_db, rules(post).stages(marks=marks)) == [
            {"_id": 1, "a": 5},
            {"_id": 2, "a": {"city": "-"}, "enabled": True},
        ]


def test_subclasses_with_handlers_of_their_own_are_shown_too(
    mongoengine_db: Database[Raw],
) -> None:
    """Each document of the collection gets the rules of its class, and no others."""
    rules = handler(migration01__a=rule({"a": {"$exists": False}}, {"$set": {"a": 1}}))
    others = handler(migration01__b=rule({"b": {"$exists": False}}, {"$set": {"b": 1}}))
    root = model(rules, a=IntField(), meta={"allow_inheritance": True})
    type(root)("Note", (root,), {"migration_handler": others, "b": IntField(), "__module__": "x"})
    mongoengine_db.post.insert_many([{"_id": 1, "_cls": "Post"}, {"_id": 2, "_cls": "Post.Note"}])
    assert _shown(mongoengine_db, rules(root).stages()) == [
        {"_id": 1, "_cls": "Post", "a": 1},
        {"_id": 2, "_cls": "Post.Note", "b": 1},
    ]


@once
def _mailed(self: Any) -> None:
    self.target = {"a": {"$exists": False}}
    if not self.status:
        self.update = {"$set": {"a": 1}}


def _in_python(self: Any) -> None:
    self.target = {"a": {"$exists": False}}
    self.update = {"$set": {"a": hash(self.doc["b"])}}


def _present_time(self: Any) -> None:
    self.target = {"a": {"$exists": False}}
    self.update = {"$set": {"a": datetime.now(timezone.utc)}}


def _at_random(self: Any) -> None:
    self.target = {"a": {"$exists": False}}
    self.update = {"$set": {"a": random.random()}}


@pytest.mark.parametrize(
    ("method", "reason"),
    [
        (_mailed, "has effects elsewhere"),
        (_in_python, "is computed in Python"),
        (_present_time, "sets another value at each call, such as the present time"),
        (_at_random, "sets another value at each call"),
        (rule({"a": 1}, {"$currentDate": {"a": True}}), r"uses \$currentDate"),
        (rule({"a": {"$regex": "^(a|b)"}}, {"$set": {"a": 1}}), r"only MongoDB can judge: \$regex"),
        (rule({"a": None}, [{"$set": {"a": "$$NOW"}}]), r"computes \$\$NOW"),
        (
            rule({"a": {"$exists": False}}, [{"$set": {"a": {"$toString": {"$rand": {}}}}}]),
            r"computes \$toString, \$rand",
        ),
        (rule({"a": None}, [{"$project": {"b": 1}}, {"$set": {"a": 1}}]), "stage \\$project"),
    ],
    ids=["once", "python", "time", "random", "currentDate", "target", "NOW", "rand", "project"],
)
def test_what_cannot_be_shown_is_named(method: Any, reason: str) -> None:
    """The error has the model, the rule and the reason, and says what to do."""
    rules = handler(migration01__a=method)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SettlingWarning)
        post = model(rules, a=DynamicField(), b=IntField())
        with pytest.raises(ShowError, match=reason) as caught:
            rules(post).stages()
    assert (caught.value.model, caught.value.rule) == ("Post", "migration01__a")
    assert "migrate_pending" in str(caught.value)


def test_thirty_rules_are_one_pipeline(mongoengine_db: Database[Raw]) -> None:
    """Thirty rules, each of which reads what the one before writes, are shown in one command."""
    renames = {
        f"migration{n:02}__f": rule(
            {f"f{n}": {"$exists": True}}, {"$rename": {f"f{n}": f"f{n + 1}"}}
        )
        for n in range(30)
    }
    rules = handler(**renames)
    post = model(rules, **{f"f{n}": IntField() for n in range(31)})
    mongoengine_db.post.insert_many([{"_id": n, f"f{n}": n} for n in range(31)])
    expected = [{"_id": n, "f30": n} for n in range(31)]
    assert _shown(mongoengine_db, rules(post).stages()) == expected
    first = rules(post).stages(reads=["f1"])
    assert [list(stage["$set"]) for stage in first] == [["f1"], ["f1"]]


def test_a_pipeline_that_is_too_large_is_the_servers_error(mongoengine_db: Database[Raw]) -> None:
    """Stages of more than 16 MB are made, and refused by whoever runs them."""
    rules = handler(
        migration01__a=rule({"a": {"$exists": False}}, {"$set": {"a": "x" * 9_000_000}}),
        migration02__b=rule({"b": {"$exists": False}}, {"$set": {"b": "x" * 9_000_000}}),
    )
    stages = rules(model(rules, a=StringField(), b=StringField())).stages()
    with pytest.raises((OperationFailure, InvalidDocument), match=r"(?i)too large"):
        list(mongoengine_db.post.aggregate(stages))
