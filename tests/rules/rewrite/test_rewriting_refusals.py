"""What rewriting gives back as it is, and what it refuses because no query can say it."""

from __future__ import annotations

import copy
import re
from datetime import datetime, timezone
from typing import Any

import pytest
from bson import SON

from lazymig.raw.encoding import ANY_VALUE
from lazymig.rules.rewrite.rewriting import CannotRewrite, Step, opaque_step, rewrite
from tests.rules.rewrite.rewriting_cases import ADDED, RENAMED, Raw
from tests.support.steps import compile_step

# --- What stays as it is ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "steps"),
    [
        ({"enabled": True}, []),
        ({}, [ADDED, opaque_step("any", None, None)]),
        ({"_id": 1}, [opaque_step("any", None, None)]),
        ({"name": "x", "$or": [{"enable": 1}, {"enabledness": 2}]}, [ADDED]),
        ({"$expr": {"$eq": ["$name", "$title"]}}, [ADDED]),
        ({"enabled": False}, [ADDED]),
        ({"enabled": 1}, [compile_step("insert", {"a": 1}, {"$setOnInsert": {"enabled": 2}})]),
        ({"$where": "true"}, [compile_step("insert", {"a": 1}, {"$setOnInsert": {"enabled": 2}})]),
        ({"i.r": 1}, [compile_step("elements", {"i.q": None}, {"$set": {"i.$[].q": 1}})]),
    ],
)
def test_what_no_rule_concerns_is_the_same_object(query: Raw, steps: list[Step]) -> None:
    """A query whose answer no rule changes is given back itself."""
    assert rewrite(query, steps) is query


def test_nothing_given_is_changed() -> None:
    """Neither query nor target nor update is changed."""
    target = {"enabled": {"$exists": False}, "$or": [{"a": 1}, {"a": 2}]}
    update = {"$set": {"enabled": {"on": [True]}}}
    query = {"$and": [{"enabled.on": True}, {"$nor": [{"a": SON([("$gt", 1)])}]}], "name": "x"}
    given = copy.deepcopy((target, update, query))
    assert rewrite(query, [compile_step("rule", target, update)]) != query
    assert (target, update, query) == given


def test_what_is_malformed_is_left_to_mongodb() -> None:
    """A malformed part that no rule concerns is kept for MongoDB to refuse."""
    rewritten = rewrite({"enabled": True, "$or": [], "a": {"$wrong": 1}}, [ADDED])
    assert rewritten["$and"] == [{"$or": []}]
    assert rewritten["a"] == {"$wrong": 1}


@pytest.mark.parametrize(("path", "answers"), [("a", False), ("a.c", False), ("a.0.b", False)])
def test_an_unknown_value_hides_only_itself(path: str, answers: bool) -> None:
    """What does not depend on the unknown part of a constant is answered."""
    step = compile_step("rule", {"a": {"$exists": False}}, {"$set": {"a": {"b": ANY_VALUE}}})
    assert ("$or" in rewrite({path: 1}, [step])) is answers
    with pytest.raises(CannotRewrite, match="only MongoDB"):
        rewrite({"a.b": 1}, [step])


# --- What is refused --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "update",
    [
        {"$inc": {"a": 1}},
        {"$push": {"a": 1}},
        {"$currentDate": {"a": True}},
        {"$set": {"a.0": 1}},
        {"$set": {"a.$[].b": 1}},
        {"$set": {"a": ANY_VALUE}},
        {"$rename": {"b": "a.0"}},
        [{"$set": {"a": "$$NOW"}}],
        [{"$set": {"a.0": "$b"}}],
        [{"$replaceWith": "$b"}],
        {"$wrong": {"a": 1}},
    ],
    ids=str,
)
@pytest.mark.parametrize("path", ["a", "a.b", "a.0.b"])
def test_what_a_query_cannot_say_is_refused(update: Any, path: str) -> None:
    """An effect that no query and no expression says is refused, by rule and path."""
    step = compile_step("rule", {"c": 1}, update)
    with pytest.raises(CannotRewrite) as refusal:
        rewrite({"_id": 1, "$or": [{path: 1}, {"_id": 2}]}, [step])
    assert (refusal.value.rule, refusal.value.path) == ("rule", path)


@pytest.mark.parametrize("writes", [None, frozenset({"a"}), frozenset({"a.b.c"})])
def test_all_that_an_opaque_rule_writes_is_refused(writes: frozenset[str] | None) -> None:
    """A query that reads what a dynamic rule may write is refused."""
    with pytest.raises(CannotRewrite, match=r"dynamic: 'a\.b'"):
        rewrite({"a.b": {"$exists": True}}, [opaque_step("dynamic", {"t": 1}, writes)])


@pytest.mark.parametrize(
    "query",
    [
        {"$expr": {"$eq": [{"$getField": "enabled"}, True]}},
        {"$where": "this.name"},
        {"$text": {"$search": "x"}},
        {"$nor": [{"$jsonSchema": {}}]},
        {"enabled": {"$bitsAllSet": 1}},
        {"enabled": {"$wrong": 1}},
        {"enabled": re.compile(r"(?<=a)b")},
    ],
    ids=str,
)
def test_what_is_not_judged_in_memory_is_refused(query: Raw) -> None:
    """A condition on a written path that only MongoDB can judge is refused."""
    update = {"$set": {"enabled": 1 if "$bitsAllSet" in str(query) else "ab"}}
    step = compile_step("rule", {"enabled": None}, update)
    with pytest.raises(CannotRewrite, match=r"only MongoDB|is read by|is in no query"):
        rewrite(query, [step])


def test_a_distance_cannot_move() -> None:
    """`$near` on a renamed path is refused: MongoDB takes it at the top of a query only."""
    with pytest.raises(CannotRewrite, match="distance"):
        rewrite({"new": {"$near": [0, 0]}}, [RENAMED])


def test_a_constant_is_what_is_read_back() -> None:
    """A date is compared as MongoDB stores it: in UTC, to the millisecond."""
    date = datetime(2020, 1, 1, 0, 0, 0, 1999, tzinfo=timezone.utc)
    step = compile_step("rule", {"date": {"$exists": False}}, {"$set": {"date": date}})
    assert "$or" in rewrite({"date": datetime(2020, 1, 1, 0, 0, 0, 1000)}, [step])
    assert "$or" not in rewrite({"date": {"$gt": datetime(2020, 1, 1, 0, 0, 0, 1000)}}, [step])
