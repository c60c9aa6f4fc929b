"""What rules cannot do for one document is nothing to operations that do not ask for it."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pymongo.database import Database

from lazymig import ConvergenceWarning
from tests.equivalence.changes import CannotApply, Change, Draw, Raw, World, missing
from tests.equivalence.operations import KINDS, MANY, UPDATING_MANY
from tests.equivalence.test_law import EXAMPLES, LONG, Case, Laboratory, cases, known, outcome_of
from tests.equivalence.worlds import WORLDS

APART = ["the one", "its neighbour"]
OTHERS: Raw = {"_id": {"$nin": APART}}

# Each with the documents that it cannot be applied to, or that it is not proved to be done with.
REASONS: dict[str, tuple[Change, list[Raw]]] = {
    "the rule raises": (
        Change(
            "raises",
            {"kode": {"$exists": True}},
            lambda doc: {"$set": {"age": int(doc["kode"]), "code": "1"}, "$unset": {"kode": ""}},
            missing(),
        ),
        [{"kode": "no number", "name": "a"}],
    ),
    "a unique index": (
        Change(
            "taken",
            {"kode": {"$exists": True}},
            lambda doc: {"$set": {"code": doc["kode"].lower(), "age": 1}, "$unset": {"kode": ""}},
            missing(),
        ),
        [{"kode": "X", "name": "a"}, {"code": "x", "age": 3}],
    ),
    "a unique index, and a rule that queries see through": (
        Change(
            "renamed_to_taken",
            {"kode": {"$exists": True}},
            {"$rename": {"kode": "code"}},
            missing(),
        ),
        [{"kode": "x", "name": "a"}, {"code": "x", "age": 3}],
    ),
    "the rule is not proved to end its match": (
        Change("unproved", {"age": {"$gte": 50}}, {"$inc": {"age": -100}}, missing()),
        [{"age": 60, "name": "a"}, {"age": 70}],
    ),
}
# An insert by an upsert has an `_id` that the server makes up.
ASKED = tuple(
    kind
    for kind in KINDS
    if kind not in MANY and not kind.startswith(("positional", "delete of an author", "upsert"))
)


@st.composite
def apart_cases(draw: Draw) -> tuple[Case, str, str]:
    """A case of the flat world whose operation leaves the documents apart out; why they are."""
    reason = draw(st.sampled_from(sorted(REASONS)))
    drawn = draw(cases(draw(st.sampled_from(ASKED)), "flat"))
    change, _documents = REASONS[reason]
    changes = list(drawn.changes)
    changes.insert(draw(st.integers(0, len(changes))), change)
    conditions = (*drawn.operation.conditions, ("where", "__raw__", OTHERS))
    operation = replace(drawn.operation, conditions=conditions)
    case = replace(drawn, changes=tuple(changes), operation=operation)
    return case, reason, draw(st.sampled_from(["raise", "skip"]))


def _world_with(change: Change) -> World:
    world = WORLDS["flat"]
    return replace(world, changes=(*world.changes, change))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_one_document_that_cannot_be_migrated_is_nothing_to_the_others(
    mongoengine_db: Database[Raw],
) -> None:
    """What is asked of other documents is answered, and written, as though it were not there."""
    laboratory = Laboratory(mongoengine_db)

    @settings(max_examples=EXAMPLES // 4, derandomize=not LONG)
    @given(apart_cases())
    def holds(drawn: tuple[Case, str, str]) -> None:
        case, reason, on_error = drawn
        change, documents = REASONS[reason]
        world, operation = _world_with(change), case.operation
        without = replace(case, world=world)
        try:
            laboratory.fill(world, case.documents, operation.around)
            laboratory.migrate(without)
            assume(not laboratory.stale(without))
            expected = outcome_of(
                laboratory.of(world, ()), operation, lambda: _arrive(laboratory, without)
            )
            made_old = laboratory.stale(without)
            laboratory.migrate(without)
        except CannotApply:
            assume(False)
        assume(not laboratory.stale(without))
        expected_rows = laboratory.stored(world)

        laboratory.fill(world, case.documents, operation.around)
        laboratory.database.subject.create_index("code", unique=True, sparse=True)
        laboratory.indexed = True
        for document_id, document in zip(APART, documents, strict=False):
            laboratory.add({"_id": document_id, **document})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            models = laboratory.of(world, case.changes, on_error)
        found = outcome_of(models, operation, lambda: laboratory.add(case.newcomer))
        with known(models):
            for owner, rules in models.handlers.items():
                rules(models.classes[owner]).migrate_pending(max_errors=5)
        if not made_old:
            assert found == expected, "results"
        refused = expected.startswith("raised OperationError")
        if not (refused and operation.kind in UPDATING_MANY):
            assert laboratory.stored(world, {"_id": {"$in": APART}}) == expected_rows, "stored"

    holds()


def _arrive(laboratory: Any, case: Case) -> None:
    laboratory.add(case.newcomer)
    laboratory.migrate(case)
