"""Which updates may meet a document twice."""

from __future__ import annotations

from typing import Any

import pytest

from lazymig.rules.repetition import is_repeatable


@pytest.mark.parametrize(
    "update",
    [
        {"$set": {"a": 1}, "$unset": {"b": ""}},
        {"$rename": {"a": "b"}},
        {"$max": {"a": 1}, "$min": {"b": 1}, "$addToSet": {"c": 1}, "$pull": {"d": 1}},
        {"$currentDate": {"at": True}},
        [{"$set": {"a": "$b"}}, {"$unset": "c"}],
        [{"$set": {"a": {"$concat": ["$b.c", "-", "x"]}, "at": "$$NOW"}}],
    ],
)
def test_an_update_that_changes_nothing_the_second_time_is_repeatable(update: Any) -> None:
    """Setting, removing, renaming, and copying from what is not written, may be repeated."""
    assert is_repeatable(update)


@pytest.mark.parametrize(
    "update",
    [
        {"$inc": {"a": 1}},
        {"$set": {"b": 1}, "$push": {"a": 1}},
        {"$mul": {"a": 2}},
        {"$pop": {"a": 1}},
        {"$bit": {"a": {"xor": 1}}},
        {"$set": {"a.$": 1}},
        {"$set": {"a.$[x]": 1}},
        [{"$set": {"a": {"$add": ["$a", 1]}}}],
        [{"$set": {"a": {"$concat": ["$a.b", "x"]}}}],
        [{"$set": {"a.b": {"$size": "$a"}}}],
        [{"$set": {"a": "$$ROOT"}}],
        [{"$replaceWith": {"a": "$b"}}],
    ],
)
def test_an_update_that_builds_on_itself_is_not(update: Any) -> None:
    """Counting, appending, positions, and reading what is written, must not be repeated."""
    assert not is_repeatable(update)
