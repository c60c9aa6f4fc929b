"""The law of rewriting through pipelines, held against the real server."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from pymongo.database import Database
from pymongo.errors import WriteError

from lazymig.rules.rewrite.effects import ComputedEffect, Copied
from lazymig.rules.rewrite.rewriting import CannotRewrite, Step, rewrite
from lazymig.rules.rewrite.steps import compile_steps
from lazymig.updates.knowledge import Unknown
from tests.rules.rewrite.rewriting_cases import Raw, documents, leaves, one, queries_on, values

EXAMPLES = max(80, settings().max_examples // 20)

_paths = st.sampled_from(["$a", "$b", "$c", "$d.x", "$d", "$a.q", "$d.x.z", "$$ROOT.c.q"])
_places = st.sampled_from(["a", "b", "c", "d.x", "d.y", "e"])


def _each(path: str, body: Any) -> Raw:
    changed = {"$cond": [{"$eq": [{"$type": "$$this"}, "object"]}, body, "$$this"]}
    return {"$cond": [{"$isArray": [path]}, {"$map": {"input": path, "in": changed}}, path]}


_bodies = st.sampled_from(
    [
        {"$mergeObjects": ["$$this", {"r": "$$this.q"}]},
        {"$unsetField": {"field": "q", "input": {"$setField": {
            "field": "r", "input": "$$this", "value": {"$ifNull": ["$$this.q", "$$this.r"]}}}}},
        {"q": "$$this.q", "n": {"$cond": [{"$eq": ["$$this.r", "x"]}, 1, "$$this.r"]}},
        {"$mergeObjects": ["$$this", {"q": {"$toInt": "$$this.q"}}]},
    ]
)  # fmt: skip
_expressions: Any = st.one_of(
    _paths,
    _paths,
    st.builds(_each, st.sampled_from(["$a", "$c"]), _bodies),
    st.builds(_each, st.sampled_from(["$a", "$c"]), _bodies),
    st.builds(lambda path: {"$ifNull": [path, "x"]}, _paths),
    st.builds(lambda path: {"$concat": [path, "x"]}, _paths),
    st.builds(lambda path: {"$toInt": path}, _paths),
    st.builds(lambda path: {"$toString": path}, _paths),
    st.builds(lambda path: {"$cond": [{"$eq": [path, 1]}, "$b", {"$literal": {"q": 1}}]}, _paths),
    st.builds(lambda path: [path, 1], _paths),
    st.builds(lambda path: {"$size": path}, _paths),
    st.builds(lambda value: {"$literal": value}, values),
    st.just("$$REMOVE"),
    st.builds(lambda path: {"q": path}, _paths),
)
_stages: Any = st.one_of(
    *[one(st.just("$set"), one(_places, _expressions))] * 4,
    one(st.just("$set"), st.builds(lambda *two: {"b": two[0], "c": two[1]}, _paths, _expressions)),
    one(st.just("$unset"), _places),
    st.just({"$set": {"a.0": 1}}),
)


@st.composite
def _rules(draw: st.DrawFn) -> list[tuple[Raw, Any]]:
    rules: list[tuple[Raw, Any]] = []
    for number in range(draw(st.integers(1, 3))):
        done = f"done{number}"
        target: Raw = {**draw(st.one_of(st.just({}), leaves)), done: {"$exists": False}}
        if draw(st.integers(0, 3)):
            stages = draw(st.lists(_stages, min_size=1, max_size=3))
            rules.append((target, [*stages, {"$set": {done: 1}}]))
        else:
            source, place = draw(st.sampled_from([("a", "b"), ("b", "c"), ("c", "d.y")]))
            rules.append((target, {"$rename": {source: place}, "$set": {done: 1}}))
    return rules


def _migrate(
    database: Database[Raw], rules: list[tuple[Raw, Any]], steps: list[tuple[Step, ...]]
) -> set[int]:
    """Migrate a copy; give the ids of the documents for which nothing is opaque, or refused."""
    ids = {found["_id"] for found in database.migrated.find({}, {"_id": 1})}
    through_array = {"$or": [{"d": {"$type": "array"}}, {"d.x": {"$type": "array"}}]}
    for (target, update), (_, *remainder) in zip(rules, steps, strict=True):
        for step in remainder:
            assert step.target is not None
            ids -= {found["_id"] for found in database.migrated.find(step.target, {"_id": 1})}
        for number in list(ids):
            try:
                database.migrated.update_one({"$and": [{"_id": number}, target]}, update)
            except WriteError:
                ids.discard(number)
        if not isinstance(update, list):
            ids -= {found["_id"] for found in database.migrated.find(through_array, {"_id": 1})}
    return ids


def test_a_query_sees_through_pipelines(scratch: Database[Raw]) -> None:
    """Rewritten queries find in stored documents what queries find after the pipelines."""
    seen: Counter[str] = Counter()

    @settings(max_examples=EXAMPLES)
    @given(
        st.lists(documents, min_size=8, max_size=8),
        _rules(),
        st.lists(
            queries_on("a", "b", "c", "d.x", "e", "a.q", "a.r", "c.n"), min_size=8, max_size=8
        ),
    )
    def holds(stored: list[Raw], rules: list[tuple[Raw, Any]], queries: list[Raw]) -> None:
        numbered = [{"_id": number, **document} for number, document in enumerate(stored)]
        for collection in (scratch.stored, scratch.migrated):
            collection.delete_many({})
            collection.insert_many(numbered)
        steps = [compile_steps(f"rule {n}", *rule) for n, rule in enumerate(rules)]
        ids = _migrate(scratch, rules, steps)
        exact = [first for first, *_ in steps]
        effects = {type(effect) for step in exact for effect in (step.effects or {}).values()}
        for query in queries:
            try:
                rewritten = rewrite(query, exact)
            except CannotRewrite:
                seen["refused"] += 1
                seen["refused, all known"] += Unknown not in effects
                continue
            expected = {found["_id"] for found in scratch.migrated.find(query)} & ids
            found = {found["_id"] for found in scratch.stored.find(dict(rewritten))} & ids
            assert found == expected, (rules, query, dict(rewritten))
            seen["computed"] += rewritten is not query and ComputedEffect in effects
            seen["copied"] += rewritten is not query and Copied in effects
            seen["found"] += rewritten is not query and bool(expected)

    holds()
    assert seen["computed"] >= EXAMPLES // 4
    assert seen["copied"] >= EXAMPLES // 20
    assert seen["found"] >= EXAMPLES // 10
