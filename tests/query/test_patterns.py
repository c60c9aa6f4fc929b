"""Patterns in memory: which of them are searched there, and in how long strings."""

from __future__ import annotations

import re
from typing import Any

import pytest
from mongoengine import BooleanField, StringField
from pymongo.database import Database

from lazymig import signals
from lazymig.query.matching import compile_query
from lazymig.query.patterns import translate
from tests.support.handlers import handler, model, rule

Raw = dict[str, Any]

LONG = "ab" * 5_000

# Their search takes a time that grows as the string does.
LINEAR = [
    *("a", "^a", "abc", "a.c", "[ab]c", "^[a-f]+$", "^.*x", "^a*?b", "x.*", "x+", "^a|^b", ""),
    *("(?:ab|cd)x", "(a|b)c", "^(a|b+)c", "a{3}b", "a{1,4}b", "ab?c", "^a{2,}$", r"\bab\b"),
    r"\Aa+b",
]
# That of these may grow faster, by the looks of them.
NOT_LINEAR = [
    *("x.*y", "a+b", ".*x", r"\s+$", "^.*x.*y", "^a*b*c", "(a*|b)c", "a{2,}b", "^a|b*c", "x.+?y"),
    "^(a|b*)(c*)d",
]
# Of a syntax that is never judged in memory.
FOREIGN = ["(a|b)*c", "(?:ab)+c", "(a)?b", r"(a)\1", "a(?=b)"]


def _judged(pattern: str, value: str) -> bool | None:
    return compile_query({"a": {"$regex": pattern}}).judge({"a": value})


@pytest.mark.parametrize("pattern", LINEAR)
def test_linear_patterns_are_judged_in_long_strings(pattern: str) -> None:
    """A pattern whose search is linear by its form is judged in memory, in long strings too."""
    translated = translate(pattern, 0)
    assert translated is not None
    assert translated.is_linear
    assert _judged(pattern, LONG) is (re.search(pattern, LONG) is not None)


@pytest.mark.parametrize("pattern", NOT_LINEAR)
def test_other_patterns_are_judged_in_short_strings_alone(pattern: str) -> None:
    """A pattern whose search may grow faster than the string is MongoDB's to judge in long ones."""
    translated = translate(pattern, 0)
    assert translated is not None
    assert not translated.is_linear
    assert _judged(pattern, LONG) is None
    assert _judged(pattern, "ab") is (re.search(pattern, "ab") is not None)


@pytest.mark.parametrize("pattern", FOREIGN)
def test_repeated_groups_are_never_judged_in_memory(pattern: str) -> None:
    """A pattern that repeats a group, or that means something of its own, is MongoDB's to judge."""
    assert translate(pattern, 0) is None
    assert _judged(pattern, "ab") is None


@pytest.mark.parametrize("where", ["$in", "$not", "$all", "$elemMatch", "plain"])
def test_every_operator_that_takes_a_pattern_asks_mongodb(where: str) -> None:
    """Whatever operator holds such a pattern, a long string is left to MongoDB."""
    pattern = re.compile("x.*y")
    queries: dict[str, Any] = {
        "$in": {"$in": ["q", pattern]},
        "$not": {"$not": pattern},
        "$all": {"$all": [pattern]},
        "$elemMatch": {"$elemMatch": {"$regex": pattern}},
        "plain": pattern,
    }
    matcher = compile_query({"a": queries[where]})
    document = {"a": [LONG]}
    assert matcher.judge(document) is None
    assert matcher.screen([document]) == [0]


def test_many_optional_characters_add_up() -> None:
    """The ways through a pattern are counted over all of its optional parts."""
    few, many = translate("a?b?c", 0), translate("a?b?" * 20 + "c", 0)
    assert few is not None
    assert few.judge(LONG) is False
    assert many is None


def test_mongodb_is_asked_for_long_strings_and_its_answer_is_used(
    mongoengine_db: Database[Raw],
) -> None:
    """A load brings up to date what only MongoDB can say is old, and tells whom it has changed."""
    target = {"text": {"$regex": "a.*x"}, "done": {"$exists": False}}
    post = model(
        handler(migration01__done=rule(target, {"$set": {"done": True}})),
        text=StringField(),
        done=BooleanField(),
    )
    texts = [LONG, f"{LONG}x", "b", "a x"]
    mongoengine_db["post"].insert_many([{"_id": n, "text": text} for n, text in enumerate(texts)])
    heard: list[Any] = []

    def receive(_sender: Any, *, document_id: Any, **_keywords: Any) -> None:
        heard.append(document_id)

    signals.post_migration.connect(receive)
    try:
        assert [each.done for each in post.objects.order_by("id")] == [None, True, None, True]
    finally:
        signals.post_migration.disconnect(receive)
    assert sorted(heard) == [1, 3]
