"""The marks of documents for which MongoDB would refuse a rule."""

from __future__ import annotations

from typing import Any

from pymongo.database import Database

from lazymig.rules.showing.shown import shown_update
from lazymig.rules.showing.stages import MARK, stages_of


def test_a_refused_document_names_the_first_rule_that_would_be_refused(
    database: Database[dict[str, Any]],
) -> None:
    """It stays as the earlier rules made it, and others bear no mark."""
    rules = [
        shown_update("first", {}, {"$set": {"a": 1}}),
        shown_update("second", {}, {"$inc": {"n": 1}}),
        shown_update("third", {}, {"$set": {"b.c": 1}}),
    ]
    database.held.insert_many([{"_id": 1, "n": 1}, {"_id": 2, "n": "x"}, {"_id": 3, "b": 1}])

    shown = list(database.held.aggregate(stages_of(rules, marks=True, refusals=True)))

    assert shown == [
        {"_id": 1, "n": 2, "a": 1, "b": {"c": 1}},
        {"_id": 2, "n": "x", "a": 1, MARK: {"refused": "second"}},
        {"_id": 3, "b": 1, "a": 1, "n": 1, MARK: {"refused": "third"}},
    ]
    unmarked = list(database.held.aggregate(stages_of(rules, marks=True)))
    assert [each for each in unmarked if MARK in each] == []
