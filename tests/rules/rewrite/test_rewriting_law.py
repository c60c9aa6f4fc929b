"""The law of rewriting, held against the real server with generated rules and queries."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest
from hypothesis import given, settings
from pymongo.database import Database
from pymongo.errors import WriteError

from lazymig.rules.rewrite.rewriter import Rewriter
from lazymig.rules.rewrite.rewriting import CannotRewrite, Step, rewrite
from lazymig.updates.knowledge import Unknown
from tests.rules.rewrite.rewriting_cases import Raw, RuleCase, cases
from tests.updates.update_cases import Case, update_each

EXAMPLES = max(300, settings().max_examples // 10)


def _migrate(database: Database[Raw], rules: list[RuleCase], documents: list[Raw]) -> set[int]:
    """Store documents as they are and as the rules leave them; give the ids of those that count.

    Left out: documents whose update the server rejects, and those that get an array where the
    dotted paths of rules go through.
    """
    numbered = [{"_id": number, **document} for number, document in enumerate(documents)]
    for collection in (database.stored, database.migrated):
        collection.delete_many({})
        collection.insert_many(numbered)
    ids = set(range(len(documents)))
    through_array = {"$or": [{"d": {"$type": "array"}}, {"d.x": {"$type": "array"}}]}
    for rule in rules:
        try:
            database.migrated.update_many(rule.target, rule.update)
        except WriteError:
            # What was updated before the error matches no more: the rules converge.
            ids -= update_each(database.migrated, Case(rule.target, rule.update, {}), list(ids))
        ids -= {found["_id"] for found in database.migrated.find(through_array, {"_id": 1})}
    return ids


def _found(database: Database[Raw], name: str, query: Raw, ids: set[int]) -> set[int]:
    return {one["_id"] for one in database[name].find(query, {"_id": 1})} & ids


def _is_exact(step: Step) -> bool:
    effects = step.effects or {}
    return not any(isinstance(effect, Unknown) for effect in effects.values())


def test_a_rewritten_query_finds_what_the_query_finds_after_migration(
    scratch: Database[Raw],
) -> None:
    """Rewritten queries find in stored documents what queries find in migrated ones."""
    seen: Counter[str] = Counter()

    @settings(max_examples=EXAMPLES)
    @given(cases())
    def holds(case: tuple[list[Raw], list[RuleCase], list[Raw]]) -> None:
        stored, rules, queries = case
        steps = [rule.step(f"rule {number}") for number, rule in enumerate(rules)]
        rewriter = Rewriter(tuple(steps))
        exact = all(map(_is_exact, steps))
        ids = _migrate(scratch, rules, stored)
        for query in queries:
            seen["exact"] += exact
            try:
                rewritten = rewrite(query, steps)
                rewriter.rewrite(query)
                remembered = rewriter.rewrite(query)
            except CannotRewrite as refusal:
                seen["exact, refused"] += exact
                seen["exact, refused to a parent"] += exact and refusal.reason.startswith("holds")
                continue
            expected = _found(scratch, "migrated", query, ids)
            assert _found(scratch, "stored", dict(rewritten), ids) == expected, rewritten
            if repr(remembered) != repr(rewritten):
                found = _found(scratch, "stored", dict(remembered), ids)
                assert found == expected, remembered
            seen["rewritten"] += rewritten is not query
            seen["rewritten, found"] += rewritten is not query and bool(expected)

    holds()
    assert seen["rewritten"] >= 3 * EXAMPLES
    assert seen["rewritten, found"] >= EXAMPLES // 2
    # Constants, $unset and $rename are refused to the parents of their paths alone.
    assert seen["exact, refused"] == seen["exact, refused to a parent"] <= seen["exact"] // 10


MISSING = object()
# Every combination of them is stored.
FIELDS: dict[str, list[object]] = {
    "flag": [1, 2],
    "old": [MISSING, None, 1, [1, 2], {"k": 1}],
    "new": [MISSING, None, 1, 2],
    "d": [MISSING, {}, {"x": 1}, {"x": None, "y": 2}],
}
EVERYONE = [
    {name: value for name, value in zip(FIELDS, chosen, strict=True) if value is not MISSING}
    for chosen in itertools.product(*FIELDS.values())
]
MOVE = RuleCase({"old": {"$exists": True}}, {"$rename": {"old": "new"}})
MOVE_ONCE = RuleCase(
    {"old": {"$exists": True}, "new": {"$exists": False}}, {"$rename": {"old": "new"}}
)
PERHAPS = RuleCase({"flag": 1}, {"$rename": {"old": "new"}, "$set": {"flag": 2}})
DEEPEN = RuleCase({"flag": 1}, {"$rename": {"old": "d.x"}, "$set": {"flag": 2}})
RAISE = RuleCase({"d.x": {"$exists": True}}, {"$rename": {"d.x": "new"}})
FILL = RuleCase({"d.x": {"$exists": False}}, {"$set": {"d.x": 1}})
EMPTY = RuleCase({"new": None}, {"$set": {"new": 1}, "$unset": {"d.y": ""}})
ASKED = [
    *({"new": 1}, {"new": None}, {"new": {"$ne": 1}}, {"new": {"$exists": True}}, {"new.k": 1}),
    *({"old": 1}, {"old": {"$exists": False}}, {"old": {"$nin": [1, None]}}, {"new.0": 1}),
    *({"d.x": 1}, {"d.x": None}, {"d.x": {"$exists": False}}, {"d": {"$exists": True}}),
    *({"d": None}, {"d": {"$exists": False}, "new": 1}, {"flag": 1}, {"d.y": 2, "d.x": None}),
    {"$or": [{"new": 1, "flag": 2}, {"d.x": 1}]},
    {"$nor": [{"new": 1}, {"d.x": {"$exists": True}, "flag": 2}]},
]


@pytest.mark.parametrize(
    "rules",
    [
        *([MOVE], [MOVE_ONCE], [PERHAPS], [DEEPEN], [RAISE], [FILL], [EMPTY]),
        *([MOVE, RAISE], [RAISE, EMPTY], [EMPTY, PERHAPS], [FILL, RAISE], [DEEPEN, RAISE, FILL]),
    ],
)
def test_rewriting_is_exact_for_every_document(
    scratch: Database[Raw], rules: list[RuleCase]
) -> None:
    """Queries on what rules move and fill find the same in stored and in migrated documents."""
    ids = _migrate(scratch, rules, EVERYONE)
    assert len(ids) >= len(EVERYONE) // 2
    for query in ASKED:
        rewritten = rewrite(query, [rule.step() for rule in rules])
        expected = _found(scratch, "migrated", query, ids)
        assert _found(scratch, "stored", dict(rewritten), ids) == expected, (query, rewritten)
