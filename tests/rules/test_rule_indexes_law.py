"""Rule indexes change no answer: generated queries and documents, on the real server."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from pymongo import MongoClient
from pymongo.collection import Collection
from pymongo.errors import OperationFailure

from lazymig.query.indexable import indexable
from lazymig.rules.rule_indexes import indexes_for
from tests.query.strategies import Raw, cases

_SCAN = {"$natural": 1}
_CLASSES: list[Raw | None] = [None, {"_cls": {"$in": ["A", "B"]}}, {"_cls": {"$nin": ["A"]}}]


@pytest.fixture(scope="module")
def documents(client: MongoClient[Raw]) -> Iterator[Collection[Raw]]:
    """An empty collection."""
    name = f"lazymig_{uuid.uuid4().hex}"
    yield client[name].documents
    client.drop_database(name)


def _found(collection: Collection[Raw], query: Raw, **options: Any) -> list[int]:
    return sorted(each["_id"] for each in collection.find(query, {"_id": 1}, **options))


def _valid(collection: Collection[Raw], queries: list[Raw]) -> Iterator[Raw]:
    """The queries that MongoDB takes."""
    for query in queries:
        try:
            _found(collection, query, hint=_SCAN)
        except OperationFailure:
            continue
        yield query


@settings(max_examples=15, phases=(Phase.explicit, Phase.reuse, Phase.generate))
@given(case=cases(documents=12, queries=12), data=st.data())
def test_wording_and_indexes_change_no_answer(
    documents: Collection[Raw], case: tuple[list[Raw], list[Raw]], data: st.DataObject
) -> None:
    """A worded query finds what the query finds, by its indexes too; MongoDB builds each index."""
    stored, queries = case
    documents.drop()
    documents.insert_many(
        [
            {**one, "_id": n, **({"_cls": "ABC"[n % 3]} if n % 4 else {})}
            for n, one in enumerate(stored)
        ]
    )
    for query in list(_valid(documents, queries)):
        class_filter = data.draw(st.sampled_from(_CLASSES))
        asked = query if class_filter is None else {"$and": [class_filter, query]}
        found = _found(documents, asked, hint=_SCAN)
        worded = dict(indexable(asked))
        assert _found(documents, worded, hint=_SCAN) == found
        for number, spec in enumerate(indexes_for(query, class_filter).specs):
            partial = {} if spec.filter is None else {"partialFilterExpression": spec.filter}
            try:
                documents.create_index(spec.pattern, name=f"rule_{number}", **partial)
            except OperationFailure as refusal:
                # Arrays in two paths of an index; a name that may be a place in an array, too.
                if refusal.code not in (171, 16746):
                    raise
        assert _found(documents, worded) == found
        assert _found(documents, asked) == found
        documents.drop_indexes()


_VALUES = st.recursive(
    st.sampled_from(["x", "", 5, 1.5, True, None, b"x", dt.datetime(2020, 1, 1)]),
    lambda inner: st.one_of(
        st.lists(inner, max_size=2),
        st.dictionaries(st.sampled_from(["0", "b", "c"]), inner, max_size=2),
    ),
    max_leaves=4,
)
_TYPES = st.sampled_from(
    ["string", "int", "double", "bool", "null", "date", "object", "array", "number", "binData"]
)
_SOME = st.one_of(_TYPES, st.lists(_TYPES, min_size=1, max_size=3))


@settings(max_examples=40, phases=(Phase.explicit, Phase.reuse, Phase.generate))
@given(
    values=st.lists(_VALUES, min_size=5, max_size=30),
    path=st.sampled_from(["a", "a.b", "a.b.c"]),
    types=_SOME,
    denied=st.one_of(st.just("array"), st.tuples(st.just("array"), _TYPES).map(list)),
)
def test_what_is_said_of_values_outside_of_arrays_changes_no_answer(
    documents: Collection[Raw], values: list[Any], path: str, types: Any, denied: Any
) -> None:
    """A `$type` beside the opposite of arrays finds what it found, by its index too."""
    documents.drop()
    documents.insert_many([{"_id": n, "a": value} for n, value in enumerate(values)])
    query = {path: {"$type": types, "$not": {"$type": denied}}}
    found = _found(documents, query, hint=_SCAN)
    assert _found(documents, dict(indexable(query)), hint=_SCAN) == found
    for number, spec in enumerate(indexes_for(query).specs):
        documents.create_index(
            spec.pattern, name=f"rule_{number}", partialFilterExpression=spec.filter
        )
    assert _found(documents, dict(indexable(query))) == found
    assert _found(documents, query) == found
