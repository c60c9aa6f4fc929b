"""The forecast of a document after an update: never another answer than the real server's."""

from __future__ import annotations

import uuid
from datetime import datetime, timezone
from functools import cache
from typing import Any

import pytest
from bson import Int64
from bson.codec_options import CodecOptions
from hypothesis import given, settings
from hypothesis import strategies as st
from pymongo.database import Database
from pymongo.errors import WriteError

from lazymig.query.matching import compile_query
from lazymig.updates.forecast import Forecast
from lazymig.updates.update import written_paths
from tests.updates.update_cases import (
    EXAMPLES,
    NAMES,
    accepted,
    concrete,
    conditions,
    documents,
    operators_on,
    scalars,
    targets,
    updates,
)

Raw = dict[str, Any]

DAY = datetime(2020, 1, 1)


def _told(target: Raw, document: Raw, update: Any) -> bool | None:
    return Forecast(compile_query(target), CodecOptions()).still_matches(document, update)


@pytest.mark.parametrize(
    ("target", "document", "update", "expected"),
    [
        ({"a": {"$exists": True}}, {"a": 1}, {"$set": {"b": 2}}, True),
        ({"a": {"$exists": True}}, {"a": 1}, {"$unset": {"a": ""}}, False),
        ({"a.b": {"$exists": True}}, {"a": {"b": 1}}, {"$set": {"a.c": 1}}, True),
        ({"a.b": {"$exists": True}}, {"a": {"b": 1}}, {"$rename": {"a.b": "c"}}, False),
        ({"a": {"$exists": False}}, {}, {"$rename": {"b": "a"}}, True),
        ({"a": {"$exists": False}}, {"b": 1}, {"$rename": {"b": "a"}}, False),
        ({"a": {"$lt": 3}}, {"a": 1}, {"$inc": {"a": 1}}, True),
        ({"a": {"$lt": 3}}, {"a": 2}, {"$inc": {"a": 1}}, False),
        ({"a": {"$type": "int"}}, {"a": 2**31 - 1}, {"$inc": {"a": 1}}, None),
        ({"a": {"$type": "long"}}, {"a": Int64(1)}, {"$set": {"a": 1}}, False),
        ({"a": {"$type": "string"}}, {"a": "x,y"}, {"$set": {"a": ["x", "y"]}}, True),
        ({"a.b": {"$exists": True}}, {"a": [{"b": 1}]}, {"$unset": {"a.b": ""}}, None),
        ({"a.b": {"$exists": False}}, {"a": 1}, {"$set": {"a.b": 1}}, None),
        ({"a": 1}, {"a": [1]}, {"$push": {"a": 2}}, None),
        ({"a": 1}, {"a": [1]}, {"$push": {"b": 2}}, True),
        ({"a": {"$exists": True}}, {"a": 1}, [{"$set": {"b": "$a"}}], True),
        ({"a": {"$exists": True}}, {"a": 1}, [{"$set": {"a": "$b"}}], None),
        ({"$expr": {"$gt": [{"$abs": "$a"}, 1]}}, {"a": 2}, {"$set": {"a": 0}}, None),
        ({"$expr": {"$gt": [{"$abs": "$a"}, 1]}}, {"a": 2}, {"$set": {"b": 0}}, True),
        ({"a": {"$type": "string"}}, {"a": "x"}, {"$set": {"a": uuid.UUID(int=1)}}, None),
        (
            {"a": {"$gt": DAY}},
            {"a": datetime(2021, 1, 1)},
            {"$set": {"a": datetime(2020, 1, 1, 0, 0, 0, 400, tzinfo=timezone.utc)}},
            False,
        ),
    ],
)
def test_what_is_told(target: Raw, document: Raw, update: Any, expected: Any) -> None:
    """Plain paths through sub-documents are told; arrays, pipelines and expressions are asked."""
    assert _told(target, document, update) is expected


def test_nothing_given_is_changed() -> None:
    """Neither the document nor the update is another one after the forecast."""
    document, update = {"a": {"b": {"c": 1}}}, {"$set": {"a.b.d": [1]}, "$unset": {"a.b.c": ""}}
    _told({"a.b.c": 1}, document, update)
    assert document == {"a": {"b": {"c": 1}}}
    assert update == {"$set": {"a.b.d": [1]}, "$unset": {"a.b.c": ""}}


_plain = st.sampled_from(["a", "b", "d", "d.x", "d.y", "d.x.z", "t", "i", "i.q", "i.0"])
_singles = st.one_of(
    st.tuples(st.just("$set"), _plain, st.sampled_from([0, "", None, [], {"x": 1}, ["x"], 2.5])),
    st.tuples(st.just("$unset"), _plain, st.just("")),
    st.tuples(st.just("$rename"), _plain, _plain),
    st.tuples(st.just("$inc"), _plain, st.sampled_from([1, -1, 0.5, Int64(1)])),
)


@st.composite
def _several(draw: st.DrawFn) -> Raw:
    update: Raw = {}
    for operator, path, value in draw(st.lists(_singles, min_size=1, max_size=4)):
        update.setdefault(operator, {})[path] = value
    return update


_accepted = st.one_of(_several(), _several(), updates).filter(lambda one: accepted(one, None))
_chosen = st.sampled_from([0, "", None, [], {}, DAY, ["x"], "x"])
_conditions = st.one_of(conditions, operators_on(scalars))


# To make a strategy takes longer than to draw from it.
@cache
def _targets_on(paths: tuple[str, ...]) -> Any:
    asked = st.dictionaries(st.sampled_from(paths), _conditions, min_size=1)
    return st.one_of(asked, asked, targets)


@st.composite
def _cases(draw: st.DrawFn) -> tuple[Raw, Any, Raw]:
    update = draw(_accepted)
    chosen = draw(_chosen)
    target = draw(_targets_on(tuple(sorted(written_paths(update) or NAMES))))
    return target, concrete(update, chosen), draw(documents)


def test_the_server_agrees(database: Database[Raw]) -> None:
    """Of generated rules and documents, what is told is what the server answers after the write."""
    collection = database["forecast"]
    told = {True: 0, False: 0, None: 0}

    @settings(max_examples=EXAMPLES)
    @given(_cases())
    def holds(case: tuple[Raw, Any, Raw]) -> None:
        target, update, document = case
        collection.replace_one({"_id": 1}, document, upsert=True)
        if collection.find_one(target) is None:
            return
        stored = collection.find_one({"_id": 1}) or {}
        forecast = Forecast(compile_query(target), collection.codec_options)
        answer = forecast.still_matches(stored, update)
        told[answer] += 1
        if answer is None:
            return
        try:
            collection.update_one({"_id": 1}, update)
        except WriteError:
            return
        assert (collection.find_one(target) is not None) is answer

    holds()
    assert told[True] >= EXAMPLES // 20, told
    assert told[False] >= EXAMPLES // 50, told
