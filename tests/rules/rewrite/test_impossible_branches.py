"""No branch of a rewritten query is there in vain: it can hold beside what holds around it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymongo.database import Database

from lazymig.query.clauses import FALSE, Clause, every, read, written
from lazymig.query.context import SMALL, simplified
from lazymig.query.tree import And, Not, Or
from lazymig.rules.rewrite.rewriter import Rewriter
from lazymig.rules.rewrite.rewriting import CannotRewrite, Step, simplify
from tests.rules.rewrite.rewriting_cases import Raw, RuleCase, cases, documents, queries_on
from tests.support.steps import compile_step

EXAMPLES = max(100, settings().max_examples // 10)


def impossible_branches(clause: Clause, around: Sequence[Clause] = ()) -> Iterator[Clause]:
    """Yield the branches that are proved to hold for no document for which `around` holds."""
    if isinstance(clause, And):
        for part in clause.parts:
            others = [other for other in clause.parts if other is not part]
            yield from impossible_branches(part, [*around, *others])
    elif isinstance(clause, Or):
        for part in clause.parts:
            if simplified(every([*around, part])) is FALSE:
                yield part
            else:
                yield from impossible_branches(part, around)
    elif isinstance(clause, Not):
        yield from impossible_branches(clause.part, around)


def test_no_branch_of_a_rewritten_query_is_impossible() -> None:
    """Whatever the rules and the query: what is proved to hold for no document is left out.

    That is promised of small queries: of larger ones what follows from several conditions on
    different levels is not looked for.
    """
    seen: Counter[str] = Counter()

    @settings(max_examples=EXAMPLES)
    @given(cases())
    def holds(case: tuple[list[Raw], list[RuleCase], list[Raw]]) -> None:
        _, rules, queries = case
        steps = tuple(rule.step(f"rule {number}") for number, rule in enumerate(rules))
        for query in queries:
            try:
                rewritten = Rewriter(steps).rewrite(query)
            except CannotRewrite:
                continue
            if rewritten is query:
                continue
            clause = read(rewritten)
            if simplified(clause) is FALSE:
                continue  # it finds nothing, and MongoDB sees that at once
            seen["rewritten"] += 1
            if clause.leaves > SMALL:
                continue
            assert not list(map(written, impossible_branches(clause))), rewritten

    holds()
    assert seen["rewritten"] >= EXAMPLES


def test_a_simplified_query_finds_the_same(scratch: Database[Raw]) -> None:
    """Leaving out what is needless or impossible changes no answer of the server."""
    paths = ["_cls", "_cls", "a", "d.x"]

    @settings(max_examples=EXAMPLES)
    @given(queries_on(*paths), queries_on(*paths), st.lists(documents, min_size=3, max_size=6))
    def holds(one: Raw, other: Raw, some: list[Raw]) -> None:
        scratch.cases.delete_many({})
        scratch.cases.insert_many([{"_id": number, **each} for number, each in enumerate(some)])
        query = {"$and": [one, {"$or": [other, one]}, other]}
        simple = written(simplified(read(query)))
        expected = {found["_id"] for found in scratch.cases.find(query, {"_id": 1})}
        assert {found["_id"] for found in scratch.cases.find(simple, {"_id": 1})} == expected, (
            simple
        )

    holds()


STRAY = compile_step("stray", {"_cls": {"$in": ["H.M"], "$eq": "H.Gone"}}, {"$set": {"_cls": "H"}})
MOVED = compile_step(
    "moved", {"_cls": {"$in": ["H.M"]}, "old": {"$exists": True}}, {"$rename": {"old": "name"}}
)
OTHER = compile_step("other", {"_cls": "H.X", "v": {"$ne": 2}}, {"$set": {"v": 2, "name": "a"}})
EMPTY = compile_step("empty", {"kind": {"$in": []}}, {"$set": {"name": "b", "kind": "x"}})
UNDONE = compile_step(
    "undone",
    {"kind": {"$exists": False}, "$nor": [{"kind": {"$exists": False}}]},
    {"$set": {"name": "b", "kind": "x"}},
)


@pytest.mark.parametrize(
    ("steps", "query", "expected"),
    [
        # A target that never matches.
        ([STRAY], {"name": "a", "_cls": {"$in": ["H", "H.M"]}}, None),
        ([EMPTY], {"name": "a"}, None),
        ([UNDONE], {"name": "a"}, None),
        # A target that no document of the classes asked for matches.
        ([MOVED], {"name": "a", "_cls": "H"}, None),
        ([MOVED], {"name": "a", "_cls": {"$in": ["H", "H.Y"]}}, None),
        ([MOVED], {"name": "a", "$and": [{"_cls": "H"}]}, None),
        ([MOVED], {"name": "a", "_cls": {"$nin": ["H.M"]}}, None),
        ([STRAY, MOVED, OTHER], {"name": "a", "_cls": "H"}, None),
        # One that some of them may match.
        (
            [MOVED],
            {"name": "a", "_cls": "H.M"},
            {"_cls": "H.M", "$or": [{"old": "a"}, {"name": "a", "old": {"$exists": False}}]},
        ),
        # A condition beside it that its target excludes.
        ([OTHER], {"name": "b", "_cls": "H.X", "v": 2}, None),
        ([MOVED], {"name": "a", "_cls": "H.M", "old": {"$exists": True}}, {"_id": {"$in": []}}),
    ],
    ids=lambda value: "-".join(step.name for step in value) if isinstance(value, list) else "",
)
def test_what_no_class_asked_for_can_match_is_left_out(
    steps: list[Step], query: Raw, expected: Any
) -> None:
    """What a rule asks for is left out where the query, or the target itself, excludes it."""
    rewritten = Rewriter(tuple(steps)).rewrite(query)
    want = query if expected is None else expected
    assert simplified(read(rewritten)).key == simplified(read(want)).key, rewritten
    assert not list(impossible_branches(read(rewritten)))


def test_what_follows_from_a_missing_parent_is_not_denied_beside_it() -> None:
    """Where a parent is missing so are its fields: a branch that denies it to them is left out."""
    fill = compile_step("fill", {"a": 1, "d.x": {"$exists": False}}, {"$set": {"d.x": None}})
    make = compile_step("make", {"a": 1, "d": {"$exists": False}}, {"$set": {"d": 1}})
    rewritten = Rewriter((fill, make)).rewrite({"d": 1})
    assert not list(impossible_branches(read(rewritten)))


def test_all_parts_of_what_is_denied_may_follow_from_others() -> None:
    """A branch is left out by which nothing is at the parents of all paths that are denied."""
    missing = {"$exists": False}
    query = {
        "$nor": [{"d.x": missing, "e.y": missing}],
        "$or": [{"d": missing, "e": missing}, {"k": 1}],
    }
    assert simplify(query) == {"k": 1, "$nor": query["$nor"]}


def test_a_whole_query_is_simplified_or_left_alone() -> None:
    """A branch that another condition excludes goes; a query without one is the same object."""
    kept: Raw = {"_cls": "H", "$or": [{"a": 1}, {"b": 1}]}
    assert simplify(kept) is kept
    assert simplify({}) == {}
    assert simplify({**kept, "$or": [{"_cls": "X", "a": 1}, {"b": 1}]}) == {"_cls": "H", "b": 1}
    assert simplify({"_cls": {"$in": ["H", "X"]}, "$and": [{"_cls": "Y"}]}) == written(FALSE)
    present = {"a": {"$not": {"$exists": False}}, "b": 1}
    assert simplify({"a": {"$exists": False}, "$or": [present, {"b": 2}]}) == {
        "a": {"$exists": False},
        "b": 2,
    }


@pytest.mark.parametrize("others", [0, 20])
def test_what_becomes_impossible_on_the_way_is_left_out_of_large_queries_too(others: int) -> None:
    """A branch goes that is excluded only by what another condition has become meanwhile."""
    beside = {f"f{number}": number for number in range(others)}
    query = {
        **beside,
        "$and": [
            {"$or": [{"u": 1, "k": {"$exists": False}}, {"v": 1}]},
            {"$or": [{"k": 1}, {"z": {"$exists": False}}]},
            {"z": 1},
        ],
    }
    want = {**beside, "v": 1, "k": 1, "z": 1}
    assert simplified(read(simplify(query))).key == simplified(read(want)).key
    assert not list(impossible_branches(read(simplify(query))))
