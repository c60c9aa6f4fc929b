"""Operators on arrays as stages, held against the server."""

from __future__ import annotations

import random
import re
from typing import Any

import pytest
from bson import Decimal128, Int64
from pymongo.database import Database

from lazymig.rules.showing.shown import CannotShow, shown_update
from tests.rules.showing.held_against import Raw, left_by, outcome
from tests.rules.showing.operator_cases import (
    CONDITIONS,
    QUERIES,
    VALUES,
    arrays_at,
    values_at,
)

ARRAYS = [*values_at("v", [None, 1, "a", {}, {"0": 1}]), *arrays_at("v", longest=9)]
LISTS = [one["v"] for one in arrays_at("v", longest=6, count=24)]
WHOLE = [0, 1, 2, 5, 20, -1, -2, -5, -20, 1.0, -0.0, Int64(2**40), Int64(-(2**63)), Decimal128("2")]
ORDERS: list[Any] = [1, -1, 1.0, {"a": 1}, {"a": -1, "b": 1}, {"a.b": -1}, {"a.0": Int64(1)}]


def _check(database: Database[Raw], documents: list[Raw], update: Raw) -> None:
    found = outcome(database, documents, update)
    assert found.differ == [], update
    assert not found.unknown
    assert found.refused < found.documents


def test_values_are_pushed_as_they_are(database: Database[Raw]) -> None:
    """A value of any type is put at the end of an array, or into a new one."""
    for value in VALUES:
        _check(database, values_at("v", [None, 1, [], [1, 2]]), {"$push": {"v": value}})


def test_pushed_values_are_placed_sorted_and_cut(database: Database[Raw]) -> None:
    """Whatever is given beside `$each`, the array is the one that MongoDB makes."""
    drawn = random.Random(2)
    for each in [*LISTS, [], []]:
        modifiers = {"$each": each}
        for name, choices in (("$position", WHOLE), ("$slice", WHOLE), ("$sort", ORDERS)):
            if drawn.random() < 0.6:
                modifiers[name] = drawn.choice(choices)
        _check(database, ARRAYS, {"$push": {"v": modifiers}})


@pytest.mark.parametrize("order", ORDERS, ids=repr)
def test_long_arrays_are_sorted_the_same_way(database: Database[Raw], order: Any) -> None:
    """Also elements of which none comes first stand as MongoDB leaves them, however many."""
    ties = [{"v": [{"a": n % 3, "n": n} for n in range(size)]} for size in (15, 16, 17, 40, 300)]
    numbers = [
        {"v": [(1, 1.0, Int64(1), 0.0, -0.0)[n % 5] for n in range(size)]} for size in (17, 99)
    ]
    documents = [*ties, *numbers, *arrays_at("v", longest=60, count=20)]
    _check(database, documents, {"$push": {"v": {"$each": [], "$sort": order}}})


def test_a_set_has_no_value_twice(database: Database[Raw]) -> None:
    """What is equal to an element, or to what was added before, is not added."""
    for value in [
        *VALUES,
        *({"$each": each} for each in LISTS),
        {"$slice": 1},
        {"x": 1, "$each": []},
    ]:
        _check(database, ARRAYS, {"$addToSet": {"v": value}})


def test_an_end_is_popped(database: Database[Raw]) -> None:
    """The first element goes, or the last, of an array that has one."""
    for end in (1, -1, 1.0, Int64(-1), Decimal128("1")):
        _check(database, ARRAYS, {"$pop": {"v": end}})


def test_values_are_pulled(database: Database[Raw]) -> None:
    """What is equal to a value, or to one of several, is taken out."""
    for values in [*LISTS, VALUES, []]:
        _check(database, ARRAYS, {"$pullAll": {"v": values}})
    for value in VALUES:
        _check(database, ARRAYS, {"$pull": {"v": value}})


@pytest.mark.parametrize("condition", [*CONDITIONS, *QUERIES], ids=str)
def test_what_answers_a_condition_is_pulled(database: Database[Raw], condition: Any) -> None:
    """An operator asks an element as it asks a field; a query asks sub-documents alone."""
    _check(database, ARRAYS, {"$pull": {"v": condition}})


DELICATE: dict[str, tuple[Raw, Any, Any]] = {
    "a sub-document is pulled by some of its fields": (
        {"$pull": {"v": {"a": 1}}},
        [{"a": 1, "b": 2}],
        [],
    ),
    "in any order": ({"$pull": {"v": {"b": 2, "a": 1}}}, [{"a": 1, "b": 2}], []),
    "but by all of them in a list": (
        {"$pullAll": {"v": [{"a": 1}]}},
        [{"a": 1, "b": 2}],
        [{"a": 1, "b": 2}],
    ),
    "and in their order": (
        {"$pullAll": {"v": [{"b": 2, "a": 1}]}},
        [{"a": 1, "b": 2}],
        [{"a": 1, "b": 2}],
    ),
    "an array is equal as a whole": ({"$pull": {"v": [1]}}, [[1], [1, 5], 1], [[1, 5], 1]),
    "and asked by its elements": ({"$pull": {"v": {"$gt": 4}}}, [[1], [1, 5], 5], [[1]]),
    "an empty query pulls sub-documents": (
        {"$pull": {"v": {}}},
        [{}, {"a": 1}, 1, [], None],
        [1, [], None],
    ),
    "1 is 1.0": ({"$pull": {"v": 1.0}}, [1, 2], [2]),
    "an empty set is made": ({"$addToSet": {"v": {"$each": []}}}, ..., []),
    "an empty array is made": ({"$push": {"v": {"$each": []}}}, ..., []),
    "nothing is pulled of nothing": ({"$pull": {"v": 1}}, ..., ...),
    "null is no array": ({"$push": {"v": 1}}, None, None),
    "placed, then sorted, then cut": (
        {"$push": {"v": {"$each": [1, 9], "$position": 0, "$sort": -1, "$slice": 2}}},
        [5],
        [9, 5],
    ),
}


@pytest.mark.parametrize(("update", "value", "left"), DELICATE.values(), ids=DELICATE)
def test_the_delicate_points(database: Database[Raw], update: Raw, value: Any, left: Any) -> None:
    """Each known result is the stored one, and the one that is shown."""
    stored, shown = left_by(database, {} if value is ... else {"v": value}, update)
    assert stored == shown == ({} if left is ... else {"v": left})


@pytest.mark.parametrize(
    ("update", "reason"),
    [
        ({"$push": {"v": {"$each": 1}}}, "gives $push what MongoDB refuses"),
        ({"$push": {"v": {"$each": [], "x": 1}}}, "gives $push what MongoDB refuses"),
        ({"$push": {"v": {"$each": [], "$slice": 1.5}}}, "gives $slice of $push what is no whole"),
        ({"$push": {"v": {"$each": [], "$slice": "1"}}}, "gives $slice of $push what is no whole"),
        ({"$push": {"v": {"$each": [], "$sort": {}}}}, "gives $sort of $push what is no order"),
        ({"$push": {"v": {"$each": [], "$sort": 2}}}, "gives $sort of $push what is no order"),
        ({"$addToSet": {"v": {"$each": 1}}}, "gives $addToSet what MongoDB refuses"),
        ({"$pullAll": {"v": 1}}, "gives $pullAll what is no list (1)"),
        ({"$pop": {"v": 2}}, "gives $pop neither 1 nor -1 (2)"),
        (
            {"$pull": {"v": {"$not": {"$gt": 1}}}},
            "pulls elements by a condition that MongoDB refuses",
        ),
        ({"$pull": {"v": {"$bogus": 1}}}, "pulls elements by a condition that MongoDB refuses"),
        (
            {"$pull": {"v": re.compile("a.*b")}},
            "pulls elements by a condition that only MongoDB can",
        ),
        ({"$pull": {"v": {"a": {"$bitsAllSet": 1}}}}, "pulls elements by a condition that only"),
    ],
    ids=lambda given: None if isinstance(given, dict) else given[:30],
)
def test_what_has_no_result_is_not_shown(update: Raw, reason: str) -> None:
    """What MongoDB refuses for every document, or alone can judge, is named."""
    with pytest.raises(CannotShow) as caught:
        shown_update("rule", {}, update)
    assert caught.value.reason.startswith(reason)
