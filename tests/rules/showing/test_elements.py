"""Positional paths as stages, held against the server."""

from __future__ import annotations

from typing import Any

import pytest
from pymongo.database import Database

from lazymig.rules.showing.shown import CannotShow, shown_update
from tests.rules.showing.held_against import Raw, left_by, outcome
from tests.rules.showing.operator_cases import CONDITIONS

ARRAYS: list[Any] = [
    *(None, 1, "a", {}, {"0": [1]}, {"b": []}, {"b": [1]}, {"b": [{"c": 1}]}, {"b": {"c": 1}}),
    *([], [1], [5], [1, 5], [None], ["a", "ab"], [1, "a"], [[]], [[1]], [[1, 5], [6]], [{}]),
    *([{"x": 1}], [{"x": 1}, {}], [{"x": 1, "y": 2}, {"y": 5}], [{"x": [1]}], [{"x": 1}, 3]),
    *(
        [{"b": []}],
        [{"b": [{"c": 1}, {"c": [2]}]}],
        [{"b": [1]}, {"b": [5, 1]}],
        [{"b": 1}],
        [[{"b": [1]}]],
    ),
]
DOCUMENTS = [{}, *({"v": one} for one in ARRAYS)]

PATHS = [
    *("v.$[]", "v.$[].x", "v.$[].b.$[]", "v.$[].b.$[].c", "v.b.$[].c", "v.0.$[]"),
    *("v.$[].0", "v.$[].2", "v.$[].$[]"),
]
OPERANDS = {
    "$set": 9,
    "$unset": "",
    "$inc": 1,
    "$max": 3,
    "$setOnInsert": 1,
    "$push": 1,
    "$pull": 1,
    "$pop": 1,
}
EVERY: list[Raw] = [
    *({name: {path: operand}} for path in PATHS for name, operand in OPERANDS.items()),
    {"$set": {"v.$[].x": 9}, "$inc": {"v.$[].y": 8}},
    {"$set": {"v.$[].y": 9}, "$unset": {"v.$[].x": ""}},
    {"$set": {"v.$[].d": 9}, "$inc": {"v.$[].b.$[]": 8}},
]


@pytest.mark.parametrize("update", EVERY, ids=str)
def test_every_element_is_changed(database: Database[Raw], update: Raw) -> None:
    """All elements are changed, or the update is refused, as where no array is."""
    found = outcome(database, DOCUMENTS, update)
    assert found.differ == []
    assert not found.unknown
    # An array that is missing is refused, whatever the operator.
    assert 0 < found.refused < found.documents


SOME: list[tuple[Raw, list[Raw]]] = [
    *(({"$set": {"v.$[i]": 9}}, [{"i": one}]) for one in CONDITIONS if isinstance(one, dict)),
    *(
        ({"$set": {"v.$[i]": 9}}, [{name: one}])
        for name in ("i", "i.x", "i.0")
        for one in (1, None)
    ),
    ({"$set": {"v.$[i].x": 9}}, [{"i.x": {"$exists": True}}]),
    ({"$set": {"v.$[i]": 9}}, [{"$or": [{"i": 1}, {"i.x": 1}]}]),
    ({"$set": {"v.$[i]": 9}}, [{"i": {"$gt": 0}, "i.x": {"$exists": False}}]),
    ({"$set": {"v.$[i]": 9, "v.$[j]": 8}}, [{"i": 1}, {"j": {"$gt": 3}}]),
    ({"$set": {"v.$[i]": 9, "v.$[j]": 8}}, [{"i": 1}, {"j": {"$gt": 0}}]),
    ({"$set": {"v.$[i].x": 9, "v.$[j].y": 8}}, [{"i.x": 1}, {"j.x": {"$exists": True}}]),
    ({"$set": {"v.$[i].x": 9, "v.$[j].x": 8}}, [{"i.x": 1}, {"j.x": {"$exists": True}}]),
    ({"$set": {"v.$[i].x": 9, "v.$[j]": 8}}, [{"i.x": 1}, {"j": {"$gt": 2}}]),
    ({"$set": {"v.$[i].x": 9}, "$inc": {"v.$[j].y": 8}}, [{"i.x": 1}, {"j.y": {"$gt": 0}}]),
    ({"$set": {"v.$[].x": 9}, "$inc": {"v.$[j].y": 8}}, [{"j.y": {"$exists": True}}]),
    ({"$set": {"v.$[]": 9, "v.$[i]": 8}}, [{"i": 1}]),
    ({"$inc": {"v.$[].b.$[j].c": 1}}, [{"j.c": {"$gte": 1}}]),
    ({"$unset": {"v.$[i].b.$[j]": 1}}, [{"i.b": {"$size": 2}}, {"j": 5}]),
    ({"$pull": {"v.$[i].b": 1}, "$set": {"v.$[j].z": 1}}, [{"i.b": 5}, {"j": {"$type": "object"}}]),
    ({"$set": {f"v.$[{i}].{i}": 1 for i in "abcd"}}, [{f"{i}.x": 1} for i in "abcd"]),
    ({"$setOnInsert": {"v.$[i].x": 1, "v.$[j].x": 1}}, [{"i.x": 1}, {"j.x": 1}]),
]


@pytest.mark.parametrize(("update", "filters"), SOME, ids=str)
def test_filters_choose_elements(database: Database[Raw], update: Raw, filters: list[Raw]) -> None:
    """What a filter finds before the update is changed; what two change alike is refused."""
    found = outcome(database, DOCUMENTS, update, filters)
    assert found.differ == []
    assert not found.unknown
    assert 0 < found.refused < found.documents


DELICATE: dict[str, tuple[Raw, list[Raw] | None, Any, Any]] = {
    "an element that is unset is null": ({"$unset": {"v.$[]": ""}}, None, [1, 2], [None, None]),
    "a missing array is refused": ({"$unset": {"v.$[].x": ""}}, None, ..., ...),
    "an empty one is not": ({"$inc": {"v.$[].x": 1}}, None, [], []),
    "one refused element is enough": ({"$inc": {"v.$[]": 1}}, None, [1, None], [1, None]),
    "an array is found by its elements": ({"$set": {"v.$[i]": 9}}, [{"i": 1}], [[1, 2]], [9]),
    "filters ask what was there before": (
        {"$set": {"v.$[i].x": 2, "v.$[j].y": 0}},
        [{"i.x": 1}, {"j.x": 2}],
        [{"x": 1}],
        [{"x": 2}],
    ),
    "two values for one element are refused": (
        {"$set": {"v.$[i]": 2, "v.$[j]": 3}},
        [{"i": 1}, {"j": {"$lt": 5}}],
        [0, 1],
        [0, 1],
    ),
}


@pytest.mark.parametrize(("update", "filters", "value", "left"), DELICATE.values(), ids=DELICATE)
def test_the_delicate_points(
    database: Database[Raw], update: Raw, filters: list[Raw] | None, value: Any, left: Any
) -> None:
    """Each known result is the stored one, and the one that is shown."""
    stored, shown = left_by(database, {} if value is ... else {"v": value}, update, filters)
    assert stored == shown == ({} if left is ... else {"v": left})


@pytest.mark.parametrize(
    ("update", "filters", "reason"),
    [
        ({"$set": {"v.$.x": 1}}, None, "writes the element that the query has found ('v.$.x')"),
        (
            {"$set": {"v.$[].x": 1, "v.0.y": 1}},
            None,
            "writes elements of an array in two ways, which MongoDB refuses",
        ),
        (
            {"$set": {f"v.$[{i}].{i}": 1 for i in "abcde"}},
            [{f"{i}.x": 1} for i in "abcde"],
            "asks more than 4 array filters at one place",
        ),
        (
            {"$set": {"v.$[i]": 1}},
            [{"i": {"$bitsAllSet": 1}}],
            "filters elements by a condition that only MongoDB can judge ",
        ),
    ],
    ids=["the one found", "two ways", "many filters", "bits"],
)
def test_what_has_no_result_is_not_shown(
    update: Raw, filters: list[Raw] | None, reason: str
) -> None:
    """What only MongoDB can judge, or refuses for every document, is named."""
    with pytest.raises(CannotShow) as caught:
        shown_update("rule", {}, update, filters)
    assert caught.value.reason.startswith(reason)
