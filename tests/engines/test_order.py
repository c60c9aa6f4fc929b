"""Rules run in the order of their numbers on every way (invariant 15 of the design)."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mongoengine import DynamicDocument, DynamicField, IntField, StringField
from pymongo.database import Database

from lazymig import ConvergenceWarning, LazyMigrationMixin
from lazymig.testing import assert_idempotent, assert_lazy_equals_bulk, migrated
from tests.support.handlers import handler, model, rule

# What it does to prices cannot be proved to end the match, and ends it.
CENTS = rule(
    {"items.price": {"$exists": True}},
    [
        {
            "$set": {
                "items": {
                    "$map": {
                        "input": "$items",
                        "in": {
                            "$arrayToObject": [
                                [
                                    {"k": "n", "v": "$$this.qty"},
                                    {
                                        "k": "cents",
                                        "v": {"$toInt": {"$multiply": ["$$this.price", 100]}},
                                    },
                                ]
                            ]
                        },
                    }
                }
            }
        }
    ],
)
TOTAL = rule(
    {"total": {"$exists": False}},
    [
        {
            "$set": {
                "total": {
                    "$sum": {
                        "$map": {
                            "input": {"$ifNull": ["$items", []]},
                            "in": {"$multiply": ["$$this.n", "$$this.cents"]},
                        }
                    }
                }
            }
        }
    ],
)
LABEL = rule({"label": {"$exists": False}}, {"$set": {"label": "x"}})

OLD = {"_id": 1, "items": [{"qty": 3, "price": 1.5}]}
NEW = {"_id": 2, "items": [{"n": 2, "cents": 5}]}


def _orders(total: Any = TOTAL, **rules: Any) -> Any:
    with pytest.warns(ConvergenceWarning, match=r"migration02__total.* will wait for it"):
        return model(
            handler(migration01__cents=CENTS, migration02__total=total, **rules),
            items=DynamicField(),
            total=IntField(),
            label=StringField(),
        )


def _total_by_document(self: Any) -> None:
    self.target = {"total": {"$exists": False}}
    self.update = {"$set": {"total": sum(each["n"] * each["cents"] for each in self.doc["items"])}}


def _stored(database: Database[Any]) -> list[dict[str, Any]]:
    return list(database["post"].find().sort("_id"))


WAITING = [OLD, {**NEW, "total": 10}]
DONE = [{"_id": 1, "items": [{"n": 3, "cents": 150}], "total": 450}, {**NEW, "total": 10}]


@pytest.mark.parametrize("total", [TOTAL, _total_by_document])
def test_a_load_leaves_what_has_to_wait(mongoengine_db: Database[Any], total: Any) -> None:
    """A match does not start a rule on documents that an earlier rule is still to change."""
    mongoengine_db["post"].insert_many([OLD, NEW])
    post = _orders(total)
    for _ in range(2):
        assert [each.total for each in post.objects.order_by("key")] == [None, 10]
        assert _stored(mongoengine_db) == WAITING
    report = post.migration_handler(post).migrate_pending()
    assert [(each.name, each.modified) for each in report.rules] == [
        ("migration01__cents", 1),
        ("migration02__total", 1),
    ]
    assert report.complete
    assert _stored(mongoengine_db) == DONE


WAYS: dict[str, Callable[[Any], object]] = {
    "a partial load": lambda post: list(post.objects.only("total")),
    "one document": lambda post: [post.objects.get(key=each).reload() for each in (1, 2)],
    "many by their keys": lambda post: post.objects.in_bulk([1, 2]),
    "an update that settles": lambda post: post.objects(total__gte=0).update(inc__total=0),
    "an expression over a written path": lambda post: post.objects(
        __raw__={"$expr": {"$gt": ["$total", 1]}}
    ).update(unset__label=1),
    "migrate()": lambda post: [post.migration_handler(post).migrate(each) for each in (1, 2)],
}


@pytest.mark.parametrize("way", WAYS)
def test_no_way_starts_what_has_to_wait(mongoengine_db: Database[Any], way: str) -> None:
    """Whatever brings documents up to date, no later rule comes before an earlier one."""
    mongoengine_db["post"].insert_many([OLD, NEW])
    post = _orders()
    WAYS[way](post)
    assert _stored(mongoengine_db)[0] == OLD
    assert post.migration_handler(post).migrate_pending().complete
    assert _stored(mongoengine_db) == DONE


def test_what_has_nothing_in_common_does_not_wait(mongoengine_db: Database[Any]) -> None:
    """A later rule of other paths starts on a match, as if the earlier one were not there."""
    mongoengine_db["post"].insert_many([OLD, NEW])
    post = _orders(migration03__label=LABEL)
    assert {each.label for each in post.objects} == {"x"}
    assert _stored(mongoengine_db) == [{**each, "label": "x"} for each in WAITING]


def test_queries_count_what_a_load_would_change(mongoengine_db: Database[Any]) -> None:
    """Filters see through the rules for those documents alone for which they start."""
    mongoengine_db["post"].insert_many([OLD, NEW])
    first = rule({"a": {"$gte": 0}}, {"$mul": {"a": -1}})
    second = rule({"a": {"$exists": True}, "b": {"$exists": False}}, {"$set": {"b": 1}})
    with pytest.warns(ConvergenceWarning):
        post = model(
            handler(migration01__first=first, migration02__second=second),
            a=IntField(),
            b=IntField(),
            items=DynamicField(),
        )
    mongoengine_db["post"].insert_many([{"_id": 11, "a": 3}, {"_id": 12, "a": -3}, {"_id": 13}])
    assert post.objects(b=1).count() == 1
    assert [each.key for each in post.objects(b=1)] == [12]
    assert post.objects(key__gt=10, b=None).count() == 2


def test_a_load_error_starts_all_rules_in_order(mongoengine_db: Database[Any]) -> None:
    """A document that does not load gets the rule that others wait for, and then these."""
    mongoengine_db["post"].insert_one({**OLD, "lost": 1})
    post = _orders(migration03__lost=rule({"lost": {"$exists": True}}, {"$unset": {"lost": ""}}))
    # The rule for the lost field starts on a match; so it is no load error.
    assert post.objects.get().total is None
    mongoengine_db["post"].update_one({}, {"$set": {"unheard_of": 1}})
    with pytest.warns(ConvergenceWarning):
        post = model(
            handler(
                migration01__cents=CENTS,
                migration02__total=TOTAL,
                migration03__drop=rule({"total": {"$gte": 0}}, {"$unset": {"unheard_of": ""}}),
            ),
            items=DynamicField(),
            total=IntField(),
        )
    assert post.objects.get().total == 450
    assert _stored(mongoengine_db) == DONE[:1]


def test_the_test_kit_tells_of_what_waits(mongoengine_db: Database[Any]) -> None:
    """Where loads leave to a run what has to wait, the two ways are told apart."""
    post = _orders()
    assert migrated(post, OLD) == OLD
    with pytest.raises(AssertionError, match="loads and migrate_pending"):
        assert_lazy_equals_bulk(post, [OLD])
    assert_lazy_equals_bulk(post, [NEW])
    with pytest.raises(AssertionError) as raised:
        assert_idempotent(post, OLD)
    assert "migration01__cents matches, and no match starts it on a load" in str(raised.value)
    assert "migration02__total matches, and waits on a load" in str(raised.value)
    assert_idempotent(post, NEW)


def test_a_refused_document_gets_no_later_rule(mongoengine_db: Database[Any]) -> None:
    """A rule that fails for a document holds back the later ones, on loads and in a run."""

    def first(self: Any) -> None:
        self.target = {"b": {"$exists": False}}
        self.update = {"$set": {"b": 10 // self.doc["a"]}}

    later = rule({"c": {"$exists": False}}, {"$set": {"c": 1}})
    for on_error in ("skip", "raise"):
        mongoengine_db["post"].drop()
        mongoengine_db["post"].insert_many([{"_id": 1, "a": 0}, {"_id": 2, "a": 5}])
        rules = handler(migration01__first=first, migration02__later=later, on_error=on_error)
        post = model(rules, a=IntField(), b=IntField(), c=IntField())
        if on_error == "skip":
            assert [each.c for each in post.objects.order_by("key")] == [None, 1]
        report = rules(post).migrate_pending(max_errors=5)
        assert (report.state, report.complete) == ("finished", False)
        assert _stored(mongoengine_db) == [
            {"_id": 1, "a": 0},
            {"_id": 2, "a": 5, "b": 2, "c": 1},
        ]


# --- Generated rules --------------------------------------------------------------------


_paths = st.sampled_from(["a", "b", "c", "d"])
_two_paths = st.lists(_paths, min_size=2, max_size=2, unique=True)
# Whether these end their match is known only of the documents at hand.
_unproved: Any = st.one_of(
    _paths.map(lambda path: ({path: {"$gte": 0, "$lt": 10}}, {"$inc": {path: 10}})),
    _two_paths.map(
        lambda two: (
            {two[0]: {"$gte": 0, "$lt": 10}},
            [{"$set": {two[0]: {"$add": [f"${two[0]}", 10, {"$ifNull": [f"${two[1]}", 0]}]}}}],
        )
    ),
)
_proved: Any = st.one_of(
    _paths.map(lambda path: ({path: {"$exists": False}}, {"$set": {path: 3}})),
    _paths.map(lambda path: ({path: {"$exists": True}}, {"$unset": {path: ""}})),
    _two_paths.map(lambda two: ({two[0]: {"$exists": True}}, {"$rename": {two[0]: two[1]}})),
    _two_paths.map(
        lambda two: (
            {two[0]: {"$exists": False}},
            [{"$set": {two[0]: {"$ifNull": [f"${two[1]}", -1]}}}],
        )
    ),
)
_rules = st.lists(st.one_of(_unproved, _proved), min_size=2, max_size=4)
_documents = st.lists(
    st.dictionaries(_paths, st.integers(-3, 15), max_size=3), min_size=1, max_size=4
)


def test_loads_and_then_a_run_leave_what_a_run_leaves(mongoengine_db: Database[Any]) -> None:
    """Wherever a run brings all documents up to date, loads before it change nothing of that."""
    seen = {"compared": 0, "waiting": 0}

    @settings(max_examples=80)
    @given(_rules, _documents)
    def holds(rules: list[Any], documents: list[dict[str, Any]]) -> None:
        methods = {
            f"migration{number:02}__x": rule(*each) for number, each in enumerate(rules, start=1)
        }
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            post: Any = type(DynamicDocument)(
                "Generated",
                (LazyMigrationMixin, DynamicDocument),
                {
                    "meta": {"collection": "post"},
                    "migration_handler": handler(**methods),
                    "key": IntField(primary_key=True),
                    "__module__": __name__,
                },
            )
        migration = post.migration_handler(post)
        collection = mongoengine_db["post"]

        def insert() -> None:
            collection.delete_many({})
            collection.insert_many([{"_id": n, **each} for n, each in enumerate(documents)])

        insert()
        report = migration.migrate_pending(max_errors=100)
        if not report.complete or any(each.remaining for each in migration.get_status()):
            return
        expected = _stored(mongoengine_db)
        insert()
        for _ in range(2):
            list(post.objects)
        seen["waiting"] += any(each.remaining for each in migration.get_status())
        migration.migrate_pending(max_errors=100)
        assert _stored(mongoengine_db) == expected
        seen["compared"] += 1

    holds()
    assert seen["compared"] > 10, seen
    assert seen["waiting"] > 3, seen
