"""Field-by-field differences of raw documents."""

from __future__ import annotations

import json
import pickle
import uuid
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from bson import Binary, DBRef, Decimal128, Int64, ObjectId, json_util
from hypothesis import given
from hypothesis import strategies as st

from lazymig.raw.differences import MISSING, Change, diff_documents, extended_json

NAMES = st.text("ab", min_size=1, max_size=2)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 2),
    st.integers(-2, 2).map(Int64),
    st.sampled_from([0.0, -0.0, 1.0, float("nan")]),
    st.text("ab", max_size=1),
    st.just(datetime(2020, 1, 1)),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)
DOCUMENTS = st.dictionaries(NAMES, VALUES, max_size=4)


def _reordered(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _reordered(value[key]) for key in reversed(value)}
    return [_reordered(item) for item in value] if isinstance(value, list) else value


def _applied(document: Any, changes: tuple[Change, ...]) -> Any:
    """The document with the changes made to it, one by one."""
    document = _reordered(document)
    for change in changes:
        *parents, last = change.path.split(".")
        place: Any = document
        for name in parents:
            place = place[int(name)] if isinstance(place, list) else place[name]
        if isinstance(place, list):
            index = int(last)
            if change.after is MISSING:
                place[index] = MISSING
            elif index < len(place):
                place[index] = change.after
            else:
                assert index == len(place)
                place.append(change.after)
        elif change.after is MISSING:
            del place[last]
        else:
            place[last] = change.after
    return _without_missing(document)


def _without_missing(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_missing(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_missing(item) for item in value if item is not MISSING]
    return value


@given(DOCUMENTS)
def test_a_document_does_not_differ_from_itself(document: dict[str, Any]) -> None:
    """Equal documents have no changes, NaN and all, whatever the order of their keys."""
    assert diff_documents(document, _reordered(document)) == ()


@given(DOCUMENTS, DOCUMENTS)
def test_the_changes_made_give_the_other_document(
    before: dict[str, Any], after: dict[str, Any]
) -> None:
    """The changes, made to the first document, give the second: nothing is left out."""
    made = _applied(before, diff_documents(before, after))
    assert diff_documents(made, after) == ()
    # A judge of its own, as the comparison itself is on trial.
    assert extended_json(made) == extended_json(after)


@given(DOCUMENTS, DOCUMENTS)
def test_the_order_of_the_changes_is_stable(before: dict[str, Any], after: dict[str, Any]) -> None:
    """The order of the keys in the documents does not matter for the order of the changes."""
    paths = [change.path for change in diff_documents(before, after)]
    assert paths == [
        change.path for change in diff_documents(_reordered(before), _reordered(after))
    ]


@pytest.mark.parametrize(
    ("before", "after", "changes"),
    [
        ({"a": 1}, {"a": 2}, [("a", 1, 2)]),
        ({}, {"a": None}, [("a", MISSING, None)]),
        ({"a": None}, {}, [("a", None, MISSING)]),
        ({"a": {"b": {"c": 1}}}, {"a": {"b": {"c": 2}}}, [("a.b.c", 1, 2)]),
        ({"a": {}}, {"a": {"b": 1}}, [("a.b", MISSING, 1)]),
        ({}, {"a": {"b": 1}}, [("a", MISSING, {"b": 1})]),
        ({"a": [1, 2, 3]}, {"a": [1, 4]}, [("a.1", 2, 4), ("a.2", 3, MISSING)]),
        ({"a": []}, {"a": [{"b": 1}]}, [("a.0", MISSING, {"b": 1})]),
        ({"a": [{"b": 1}]}, {"a": [{"b": 2}]}, [("a.0.b", 1, 2)]),
        ({"a": {"0": 1}}, {"a": [1]}, [("a", {"0": 1}, [1])]),
        ({"b": 1, "a": 1}, {"c": 1}, [("a", 1, MISSING), ("b", 1, MISSING), ("c", MISSING, 1)]),
        (
            {"a": list(range(12))},
            {"a": [0, 1, 0, *range(3, 10), 0, 11]},
            [("a.2", 2, 0), ("a.10", 10, 0)],
        ),
    ],
)
def test_a_change_names_its_place_and_its_values(
    before: Any, after: Any, changes: list[tuple[str, Any, Any]]
) -> None:
    """Sub-documents are told by dotted path and arrays by index, null apart from missing."""
    assert diff_documents(before, after) == tuple(Change(*change) for change in changes)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (1, 1.0),
        (1, "1"),
        (1, True),
        (1, Int64(1)),
        (1, Decimal128("1")),
        (Decimal128("1.0"), Decimal128("1.00")),
        (0.0, -0.0),
        (b"1", "1"),
        (b"1", Binary(b"1", 5)),
        (None, ""),
        ([], {}),
        ("5ff0f0f0f0f0f0f0f0f0f0f0", ObjectId("5ff0f0f0f0f0f0f0f0f0f0f0")),
        (datetime(2020, 1, 1), datetime(2020, 1, 1, microsecond=1000)),
        (DBRef("a", 1), DBRef("b", 1)),
    ],
)
def test_types_are_told_apart(before: Any, after: Any) -> None:
    """Values that MongoDB stores differently are a change, though Python may call them equal."""
    assert diff_documents({"x": before}, {"x": after}) == (Change("x", before, after),)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (2**40, Int64(2**40)),
        ((1, 2), [1, 2]),
        (datetime(2020, 1, 1), datetime(2020, 1, 1, 1, tzinfo=timezone(timedelta(hours=1)))),
        (uuid.UUID(int=7), Binary(uuid.UUID(int=7).bytes, 4)),
    ],
)
def test_what_is_stored_alike_is_no_change(before: Any, after: Any) -> None:
    """Two Python values of which MongoDB stores the same are the same."""
    assert diff_documents({"x": before}, {"x": after}) == ()


def test_a_change_is_json() -> None:
    """A change in JSON's types keeps every BSON type, and says by its keys what is missing."""
    change = Change("a", Int64(1), MISSING)
    assert json.loads(json.dumps(change.to_dict())) == {"path": "a", "before": {"$numberLong": "1"}}
    other = Change("b", MISSING, {"at": datetime(2020, 1, 1), "id": uuid.UUID(int=7)})
    options = json_util.CANONICAL_JSON_OPTIONS.with_options(tz_aware=False, uuid_representation=4)
    assert json_util.loads(json.dumps(other.to_dict()), json_options=options) == {
        "path": "b",
        "after": other.after,
    }


def test_a_change_is_a_line_of_text() -> None:
    """The text of a change tells types apart, and is cut where a value is long."""
    assert str(Change("a", 1, Int64(1))) == "a: 1 -> Int64(1)"
    assert str(Change("a", MISSING, {"b": [Int64(2), "x"]})) == (
        "a: (missing) -> {'b': [Int64(2), 'x']}"
    )
    assert len(str(Change("a", "x" * 5000, "y" * 5000))) < 250


def test_missing_is_one_thing() -> None:
    """`MISSING` stays the same object through copies and pickles, and says its name."""
    assert pickle.loads(pickle.dumps(Change("a", MISSING, 1))).before is MISSING
    assert repr(MISSING) == "MISSING"
