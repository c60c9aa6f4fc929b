"""The keys that expressions leave out, in the forms in which they are written."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymongo.database import Database

from lazymig.updates.entries import keys_left_out

KEY = "$$f.k"
FIELDS = {"$objectToArray": "$d"}


def _filtered(condition: Any) -> Any:
    return {"$filter": {"input": FIELDS, "as": "f", "cond": condition}}


@pytest.mark.parametrize(
    ("entries", "names"),
    [
        (_filtered({"$ne": [KEY, "a"]}), {"a"}),
        (_filtered({"$ne": ["a", KEY]}), {"a"}),
        (_filtered({"$ne": [KEY, {"$literal": "$a"}]}), {"$a"}),
        (_filtered({"$not": [{"$eq": [KEY, "a"]}]}), {"a"}),
        (_filtered({"$not": {"$in": [KEY, ["a", "b"]]}}), {"a", "b"}),
        (_filtered({"$not": [{"$in": [KEY, {"$literal": ["a", "b", 1]}]}]}), {"a", "b"}),
        (_filtered({"$and": [{"$ne": [KEY, "a"]}, {"$ne": ["$$f.v", 1]}]}), {"a"}),
        ([_filtered({"$ne": [KEY, "a"]})], {"a"}),
        (
            {
                "$map": {
                    "input": _filtered({"$ne": [KEY, "a"]}),
                    "as": "g",
                    "in": {"k": "$$g.k", "v": 1},
                }
            },
            {"a"},
        ),
        # What may bring a key back, or keeps it.
        (
            {
                "$map": {
                    "input": _filtered({"$ne": [KEY, "a"]}),
                    "as": "g",
                    "in": {"k": "a", "v": 1},
                }
            },
            set(),
        ),
        (_filtered({"$or": [{"$ne": [KEY, "a"]}, True]}), set()),
        (_filtered({"$eq": [KEY, "a"]}), set()),
        (_filtered({"$ne": ["$$g.k", "a"]}), set()),
        (_filtered({"$ne": ["$$f.v", "a"]}), set()),
        (_filtered({"$ne": [KEY, "$a"]}), set()),
        (_filtered({"$not": [{"$regexMatch": {"input": KEY, "regex": "a"}}]}), set()),
        (_filtered({"$not": [{"$regexMatch": {"input": KEY, "regex": r"\A(?:a.)\z"}}]}), set()),
        (_filtered(True), set()),
        ("$a", set()),
    ],
)
def test_the_keys_that_are_left_out(entries: Any, names: set[str]) -> None:
    """Each form of a filter by constant keys is understood, anything else is not."""
    assert keys_left_out(entries) == names


def test_the_server_leaves_out_what_a_pattern_names(database: Database[Any]) -> None:
    """Of any names in a pattern, the server finds just those."""
    names = st.lists(
        st.text(st.sampled_from("ab|\\.*$ä -"), min_size=1, max_size=3), min_size=1, max_size=3
    )

    @settings(max_examples=40, deadline=None)
    @given(names, names)
    def holds(left_out: list[str], others: list[str]) -> None:
        pattern = rf"\A(?:{'|'.join(map(re.escape, left_out))})\z"
        entries = _filtered({"$not": [{"$regexMatch": {"input": KEY, "regex": pattern}}]})
        database.t.delete_many({})
        database.t.insert_one({"d": dict.fromkeys([*left_out, *others], 1)})
        (found,) = database.t.aggregate(
            [{"$project": {"_id": 0, "d": {"$arrayToObject": entries}}}]
        )

        assert keys_left_out(entries) == set(left_out)
        assert set(found["d"]) == set(others) - set(left_out)

    holds()
