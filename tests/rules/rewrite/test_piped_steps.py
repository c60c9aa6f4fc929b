"""The effects of pipelines, and the steps of rules that were translated."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from pymongo.database import Database

from lazymig.rules.rewrite.effects import ComputedEffect, Copied
from lazymig.rules.rewrite.rewriting import CannotRewrite, rewrite
from lazymig.rules.rewrite.steps import Step, compile_steps, steps_of
from lazymig.rules.translation import Translation
from lazymig.updates.knowledge import ABSENT, UNKNOWN, Value

Raw = dict[str, Any]
OLD: Raw = {"done": {"$exists": False}}


def _effects(*stages: Raw, target: Raw = OLD) -> dict[str, Any]:
    (step,) = compile_steps("rule", target, list(stages))
    return dict(step.effects or {})


def test_constants_copies_and_removals_are_known() -> None:
    """Later stages see what earlier ones wrote, and each effect is said of the stored document."""
    found = _effects(
        {"$set": {"a": "$b", "n": 1, "l": {"$literal": "$x"}}},
        {"$set": {"c": "$a", "m": "$n"}},
        {"$unset": ["b", "n"]},
    )
    copied = Copied("b")
    assert found == {
        "a": copied,
        "c": copied,
        "b": ABSENT,
        "n": ABSENT,
        "l": Value("$x"),
        "m": Value(1),
    }


@pytest.mark.parametrize(
    "stages",
    [
        [{"$set": {"a": "$$NOW"}}],
        [{"$set": {"a": {"$function": {"body": "", "args": [], "lang": "js"}}}}],
        [{"$set": {"a.0": 1}}],
        [{"$set": {"b": 1}}, {"$set": {"a": "$$ROOT"}}],
        [{"$set": {"a": 1}}, {"$set": {"a.b": 1}}],
    ],
    ids=str,
)
def test_what_is_not_known_stays_opaque(stages: list[Raw]) -> None:
    """The time, JavaScript, elements of arrays and documents that are put together are unknown."""
    steps = compile_steps("rule", OLD, stages)
    assert (steps[0].effects or {})["a"] is UNKNOWN
    with pytest.raises(CannotRewrite) as caught:
        rewrite({"a": 2}, steps)
    assert caught.value.place == 0


def test_only_documents_of_the_target_are_computed_for() -> None:
    """The expression stands beside the target, and beside no document that is up to date."""
    steps = compile_steps("rule", OLD, [{"$set": {"a": {"$ifNull": ["$b", 0]}, "done": 1}}])
    first, second = rewrite({"a": 2}, steps)["$or"]
    assert first.pop("$expr")
    assert [first, second] == [OLD, {"a": 2, "done": {"$exists": True}}]


def test_what_is_removed_twice_brings_no_parent_into_being() -> None:
    """To remove a path again changes nothing; one that was written before has a parent."""
    exact, _ = compile_steps("rule", OLD, [{"$unset": "a.b"}, {"$unset": "a.b"}])
    assert exact.effects == {"a.b": ABSENT}
    exact, _ = compile_steps("rule", OLD, [{"$set": {"a.b": 1}}, {"$unset": "a.b"}])
    assert isinstance((exact.effects or {})["a.b"], ComputedEffect)


def test_a_dotted_path_leaves_arrays_to_the_remainder() -> None:
    """Where a stage would write each element of an array, what it leaves is not known."""
    exact, remainder = compile_steps("rule", OLD, [{"$set": {"a.b": 1}}])
    assert (exact.effects, remainder.effects) == ({"a.b": Value(1)}, {"a.b": UNKNOWN})
    proved = {"a": {"$type": "object", "$not": {"$type": "array"}}, **OLD}
    assert len(compile_steps("rule", proved, [{"$set": {"a.b": 1}}])) == 1


def _translated(guard: Any) -> tuple[Step, ...]:
    stages: list[Raw] = [{"$set": {"n": {"$toInt": "$n"}, "done": 1}}]
    rule: Any = SimpleNamespace(
        name="rule", writes=frozenset({"n", "done"}), translation=Translation(stages, guard)
    )
    return steps_of(rule, OLD)


def test_a_guard_makes_two_halves(database: Database[Raw]) -> None:
    """Where the guard is true the rule is seen through; the other half is opaque."""
    guard = {"$in": ["$n", ["1", "2"]]}
    exact, others = _translated(guard)
    assert isinstance((exact.effects or {})["n"], ComputedEffect)
    database.t.insert_many({"_id": number, "n": n} for number, n in enumerate(["1", "x", 2, "2"]))

    assert database.t.count_documents(dict(others.target or {})) == 2
    assert [one["_id"] for one in database.t.find(dict(rewrite({"n": 2}, [exact])))] == [2, 3]
    with pytest.raises(CannotRewrite) as caught:
        rewrite({"n": 2}, [exact, others])
    assert caught.value.place == 1


def test_without_a_guard_the_target_says_that_nothing_is_raised(database: Database[Raw]) -> None:
    """There is one step, which asks its expression where it raises nothing all the same."""
    (step,) = _translated(None)
    database.t.insert_many([{"n": "1"}, {"n": "x", "done": 1}, {"n": "x"}])
    assert database.t.count_documents(dict(rewrite({"n": 1}, [step]))) == 1
