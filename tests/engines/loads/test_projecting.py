"""Projections as stages: what they leave is what `find` leaves."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymongo.database import Database

from lazymig.engines.loads.projecting import projection_stages

NAMES = st.sampled_from(["a", "b", "c"])
LEAVES = st.one_of(st.integers(0, 2), st.none(), st.just("x"))
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(NAMES, inner, max_size=3)),
    max_leaves=8,
)
DOCUMENTS = st.dictionaries(NAMES, VALUES, max_size=3)
SLICES = st.one_of(st.integers(-3, 3), st.tuples(st.integers(-3, 3), st.integers(1, 3)).map(list))


@st.composite
def projections(draw: Any) -> dict[str, Any]:
    """Some fields, or all but some, with or without the `_id`, and a slice of another one."""
    paths = draw(st.sets(st.sampled_from(["a", "b", "a.b", "b.c", "b.a.c"]), max_size=2))
    tops = {path.partition(".")[0] for path in paths}
    if len(tops) < len(paths):
        paths = {max(paths)}
    projection: dict[str, Any] = dict.fromkeys(sorted(paths), draw(st.sampled_from([0, 1])))
    if draw(st.booleans()):
        projection["c"] = {"$slice": draw(SLICES)}
    if draw(st.integers(0, 3)) == 0:
        projection["_id"] = 0
    return projection


def test_stages_leave_what_find_leaves(database: Database[dict[str, Any]]) -> None:
    """Inclusions, exclusions and slices of fields leave the same, key for key."""
    collection = database.projected

    @settings(max_examples=200)
    @given(st.lists(DOCUMENTS, min_size=1, max_size=3), projections())
    def holds(documents: list[dict[str, Any]], projection: dict[str, Any]) -> None:
        collection.delete_many({})
        collection.insert_many({"_id": number, **each} for number, each in enumerate(documents))
        stages = projection_stages(projection)
        assert stages is not None
        # For PyMongo an empty projection asks for the `_id` alone.
        found = list(collection.find({}, projection or None).sort("_id", 1))
        assert list(collection.aggregate([{"$sort": {"_id": 1}}, *stages])) == found

    holds()


@pytest.mark.parametrize(
    "projection",
    [
        {"a": {"$elemMatch": {"b": 1}}},
        {"a.$": 1},
        {"a.b": {"$slice": 1}},
    ],
    ids=["elemMatch", "positional", "nested slice"],
)
def test_what_no_stage_leaves_is_not_guessed(projection: dict[str, Any]) -> None:
    """Projections without such stages are said to have none."""
    assert projection_stages(projection) is None


def test_a_score_is_left_out() -> None:
    """A text score is in the answer to its query alone."""
    assert projection_stages({"score": {"$meta": "textScore"}}) == []
