"""Queries as aggregation expressions, held against the same queries on the server."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import bson
import pytest
from bson.raw_bson import RawBSONDocument
from hypothesis import given, settings
from pymongo.database import Database

from lazymig.query.expressing import expressed
from lazymig.query.operators import parse
from tests.query.strategies import Raw, cases
from tests.query.test_matching import MATCHES
from tests.support.broken import broken

LONG = settings().max_examples > settings.get_profile("default").max_examples
EXAMPLES, DOCUMENTS, QUERIES = (1_000 if LONG else 60), 20, 6


def _found(database: Database[Raw], query: Raw) -> set[Any]:
    return {one["_id"] for one in database.t.find(query, {"_id": 1})}


def test_an_expression_answers_as_the_query_does(database: Database[Raw]) -> None:
    """Of drawn documents, an expression is true for those that the query finds; it never raises."""
    seen: Counter[str] = Counter()

    @settings(deadline=None, max_examples=EXAMPLES)
    @given(cases(documents=DOCUMENTS, queries=QUERIES))
    def check(case: tuple[list[Raw], list[Raw]]) -> None:
        documents, queries = case
        database.t.delete_many({})
        database.t.insert_many([{**one, "_id": number} for number, one in enumerate(documents)])
        for query in queries:
            expression = expressed(parse(query), "$$ROOT")
            if expression is None:
                seen["not expressed"] += 1
                continue
            found = _found(database, query)
            assert _found(database, {"$expr": expression}) == found, expression
            seen["expressed"] += 1
            seen["expressed, found"] += bool(found)

    check()
    # The rest are patterns.
    assert seen["expressed"] >= 8 * seen["not expressed"]
    assert seen["expressed, found"] >= EXAMPLES


def _named(case: tuple[str, Raw, Raw, bool]) -> Any:
    return pytest.param(*case[1:], id=case[0])


@pytest.mark.parametrize(
    ("query", "document", "expected"),
    [_named(case) for case in MATCHES if expressed(parse(case[1]), "$$ROOT") is not None],
)
def test_the_delicate_points(
    database: Database[Raw], query: Raw, document: Raw, *, expected: bool
) -> None:
    """Each known answer of a query is the one of its expression, over a variable as well."""
    database.t.insert_one({"_id": 1, **document})
    for root in ("$$ROOT", "$$d"):
        expression = expressed(parse(query), root)
        within = {"$let": {"vars": {"d": "$$ROOT"}, "in": expression}}
        assert _found(database, {"$expr": within}) == ({1} if expected else set())


def test_few_of_the_delicate_points_have_no_expression() -> None:
    """Only patterns that are more than a text, bits and places are refused."""
    refused = {case[0] for case in MATCHES if expressed(parse(case[1]), "$$ROOT") is None}
    assert refused == {
        "pattern",
        "digits are ASCII",
        "$bitsAllClear and missing",
        "$not $bitsAnySet and missing",
        "$bitsAllSet below a scalar",
        "$geoWithin and missing",
    }


TEXTS = [
    "",
    "k",
    "K",
    "\u212a",
    "Ks",
    "\u017f",
    "xS\n",
    "\u017fk",
    "É",
    "é",
    "sK\x00",
    "a.b",
    "A.Bß",
    "İ",
    "\u0131",
]


@pytest.mark.parametrize("flags", [0, re.IGNORECASE])
def test_texts_are_found_as_patterns_find_them(database: Database[Raw], flags: int) -> None:
    """Whatever its case and its place, a text is found where the server's pattern finds it."""
    database.t.insert_many({"_id": number, "a": text} for number, text in enumerate(TEXTS))
    patterns = [re.escape(text) for text in (*TEXTS, "i", "B") if "\x00" not in text]
    for pattern in patterns:
        for form in (pattern, f"^{pattern}", f"{pattern}$", f"^{pattern}$"):
            query = {"a": re.compile(form, flags)}
            expression = expressed(parse(query), "$$ROOT")
            if expression is not None or form.isascii():
                assert _found(database, {"$expr": expression}) == _found(database, query), form


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"a": re.compile("^b")}, set()),
        ({"a": {"$regex": "b$"}}, {1}),
        ({"a": {"$gt": ""}}, {1}),
        ({"a": {"$ne": "b"}}, {1}),
        ({"a": {"$in": [re.compile("b"), None]}}, {1}),
    ],
)
def test_strings_that_are_no_text_raise_nothing(
    database: Database[Raw], query: Raw, found: set[int]
) -> None:
    """A stored string that is not UTF-8 is compared by its bytes, and fails no query."""
    raw = bson.encode({"_id": 1, "a": "?b"}).replace(b"?b", b"\xffb")
    database.t.insert_one(RawBSONDocument(raw))
    assert _found(database, {"$expr": expressed(parse(query), "$$ROOT")}) == found


def test_no_query_raises_for_what_is_no_text(database: Database[Raw]) -> None:
    """Whatever is asked, a string that is not UTF-8 fails no expression."""
    database.t.insert_many(
        broken([{"a": "b", "b": [{"a": "c"}]}, {"a": ["b", 1], "c": {"a": "b"}}])
    )

    @settings(deadline=None, max_examples=EXAMPLES)
    @given(cases(documents=1, queries=QUERIES))
    def check(case: tuple[list[Raw], list[Raw]]) -> None:
        for query in case[1]:
            expression = expressed(parse(query), "$$ROOT")
            if expression is not None:
                database.t.count_documents({"$expr": expression})

    check()


@pytest.mark.parametrize(
    "query",
    [
        {"$expr": {"$eq": ["$a", 1]}},
        {"a": {"$bitsAllSet": 1}},
        {"a": re.compile("é", re.IGNORECASE)},
        {"a": re.compile("b", re.MULTILINE)},
        {"a": re.compile("b+")},
        {"a": {"$in": [1, object()]}},
        {"a.0.0.0.0.0": 1},
        {"a": {"$mod": [0, 1]}},
        {".".join("a" * 40): 1},
    ],
)
def test_what_has_no_expression_is_refused(query: Raw) -> None:
    """Where no exact expression is known, or the query is malformed, there is none."""
    try:
        node = parse(query)
    except ValueError:
        return
    assert expressed(node, "$$ROOT") is None
